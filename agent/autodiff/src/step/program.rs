//! What a finished graph needs from whoever runs it: what to bind where, and what comes out.

use crate::families::Initial;
use crate::graph::{Dtype, Graph, GraphError, Value};

/// A graph and the description of its inputs and outputs.
#[derive(Debug, Clone)]
pub struct Program {
    pub graph: Graph,
    pub states: Vec<State>,
    pub scalars: Vec<Scalar>,
    pub data: Vec<DataInput>,
    /// The rows of this batch: i64, below the number of rows of the data.
    pub indices: Port,
    /// How much each row counts (f32); only in an evaluation.
    pub row_weights: Option<Port>,
    pub results: Vec<ResultOutput>,
}

impl Program {
    /// The ONNX model.
    pub fn onnx(&self) -> Vec<u8> {
        self.graph.encode()
    }
}

/// A named tensor at the edge of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

/// A tensor that lives from step to step. In an evaluation only the model's parameters are there, under the
/// same input names, and nothing comes out.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub input: Port,
    /// The output that replaces the input in the next step.
    pub output: Option<String>,
    pub initial: Initial,
}

/// A number that its caller sets for each trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar {
    pub role: ScalarRole,
    pub input: Port,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScalarRole {
    LearningRate,
    Momentum,
    Beta1,
    Beta2,
    Epsilon,
    WeightDecay,
    ClipNorm,
    /// The share of elements that is dropped, in `0 .. 1`.
    DropoutRate,
    /// Any i64; it is reduced modulo 2^31 - 1.
    DropoutSeed,
}

impl ScalarRole {
    /// The name of its input, without the reserved prefix.
    pub(crate) fn input_name(self) -> &'static str {
        match self {
            Self::LearningRate => "learning_rate",
            Self::Momentum => "momentum",
            Self::Beta1 => "beta1",
            Self::Beta2 => "beta2",
            Self::Epsilon => "epsilon",
            Self::WeightDecay => "weight_decay",
            Self::ClipNorm => "clip_norm",
            Self::DropoutRate => "dropout_rate",
            Self::DropoutSeed => "dropout_seed",
        }
    }
}

/// A tensor that stays the same for the whole training.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataInput {
    pub role: DataRole,
    pub input: Port,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataRole {
    /// Rows x width.
    Features,
    /// Rows of class indices, or rows x width of values.
    Target,
    /// Independent uniform numbers in `0 .. 1`: the pool that dropout draws its rows from.
    Noise,
}

/// A scalar of type f32 that a run measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultOutput {
    pub role: ResultRole,
    pub name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultRole {
    /// The mean over the batch in a step, the weighted sum over its rows in an evaluation.
    Loss,
    /// How many rows have their greatest output at their class.
    Correct,
}

/// The description while its graph is written.
#[derive(Default)]
pub(crate) struct Declared {
    states: Vec<(Value, Option<Value>, Initial)>,
    scalars: Vec<(ScalarRole, Value)>,
    data: Vec<(DataRole, Value)>,
    indices: Option<Value>,
    row_weights: Option<Value>,
    results: Vec<(ResultRole, Value)>,
}

impl Declared {
    pub fn state(&mut self, input: Value, initial: Initial) -> Value {
        self.states.push((input, None, initial));
        input
    }

    /// What a state becomes.
    pub fn becomes(&mut self, input: Value, output: Value) {
        for state in self.states.iter_mut().filter(|state| state.0 == input) {
            state.1 = Some(output);
        }
    }

    pub fn scalar(&mut self, graph: &mut Graph, role: ScalarRole, dtype: Dtype) -> Result<Value, GraphError> {
        let value = graph.reserved_input(role.input_name(), dtype, &[])?;
        self.scalars.push((role, value));
        Ok(value)
    }

    pub fn declared_scalar(&mut self, role: ScalarRole, value: Value) {
        self.scalars.push((role, value));
    }

    pub fn data(
        &mut self,
        graph: &mut Graph,
        role: DataRole,
        dtype: Dtype,
        shape: &[usize],
    ) -> Result<Value, GraphError> {
        let name = match role {
            DataRole::Features => "features",
            DataRole::Target => "target",
            DataRole::Noise => "noise",
        };
        let value = graph.reserved_input(name, dtype, shape)?;
        self.data.push((role, value));
        Ok(value)
    }

    pub fn declared_data(&mut self, role: DataRole, value: Value) {
        self.data.push((role, value));
    }

    pub fn indices(&mut self, graph: &mut Graph, batch: usize) -> Result<Value, GraphError> {
        let value = graph.reserved_input("indices", Dtype::I64, &[batch])?;
        self.indices = Some(value);
        Ok(value)
    }

    pub fn row_weights(&mut self, graph: &mut Graph, batch: usize) -> Result<Value, GraphError> {
        let value = graph.reserved_input("row_weights", Dtype::F32, &[batch])?;
        self.row_weights = Some(value);
        Ok(value)
    }

    pub fn result(&mut self, role: ResultRole, value: Value) {
        self.results.push((role, value));
    }

    pub fn into_program(self, mut graph: Graph) -> Program {
        for output in self.states.iter().filter_map(|state| state.1).chain(self.results.iter().map(|result| result.1)) {
            graph.output(output);
        }
        let port = |value: Value| {
            let info = graph.info(value).clone();
            Port { name: info.name, dtype: info.dtype, shape: info.shape }
        };
        let name = |value: Value| graph.name(value).to_owned();
        let state = |(input, output, initial): (Value, Option<Value>, Initial)| State {
            input: port(input),
            output: output.map(name),
            initial,
        };
        Program {
            states: self.states.into_iter().map(state).collect(),
            scalars: self.scalars.into_iter().map(|(role, value)| Scalar { role, input: port(value) }).collect(),
            data: self.data.into_iter().map(|(role, value)| DataInput { role, input: port(value) }).collect(),
            indices: port(self.indices.expect("every program declares its indices")),
            row_weights: self.row_weights.map(port),
            results: self.results.into_iter().map(|(role, value)| ResultOutput { role, name: name(value) }).collect(),
            graph,
        }
    }
}
