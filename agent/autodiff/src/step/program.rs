//! What a finished graph needs from whoever runs it: what to bind where, and what comes out.

use std::collections::BTreeSet;

use super::layout::{self, Piece};
use crate::families::Initial;
use crate::graph::{Dtype, Graph, GraphError, RESERVED_PREFIX, Value, is_safe_to_record};

/// A graph and the description of its inputs and outputs.
#[derive(Debug, Clone)]
pub struct Program {
    pub graph: Graph,
    pub states: Vec<State>,
    pub scalars: Vec<Scalar>,
    pub data: Vec<DataInput>,
    /// The rows of this batch: i64, below the number of rows of the data. Where several minibatches are handed over at
    /// once, those of each: minibatches x batch.
    pub indices: Port,
    /// How much each row counts (f32); only in an evaluation.
    pub row_weights: Option<Port>,
    pub results: Vec<ResultOutput>,
    /// What the model gives for the batch; only in an evaluation that was asked for it.
    pub output: Option<Port>,
}

impl Program {
    /// The ONNX model.
    pub fn onnx(&self) -> Vec<u8> {
        self.graph.encode()
    }

    /// The ONNX model, and whether a recording of it on CUDA would replay right: several minibatches are handed over at once,
    /// and no operator hands its lengths or addresses over in memory of the host, where a replay would read what is there
    /// by then.
    pub fn onnx_to_record(&self) -> (Vec<u8>, bool) {
        let graph = self.graph.to_run();
        let is_safe = graph.nodes().iter().all(|node| is_safe_to_record(&graph, node));
        (graph.encode_as_it_is(), self.indices.shape.len() > 1 && is_safe)
    }
}

/// A named tensor at the edge of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

/// A tensor that lives from step to step: a number, or a flat vector. In an evaluation only the model's tensors are
/// there, under the same input names, and nothing comes out.
///
/// A step reads each state before it writes its output, so that both may be bound to the same memory.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub input: Port,
    /// The output that replaces the input in the next step; `None` where no step changes it.
    pub output: Option<String>,
    /// The named tensors that it holds one after the other, without gaps. No two of a program have the same name.
    pub pieces: Vec<Piece>,
}

/// A number that its caller sets for each trial, or for each step: then there is one for each minibatch that is handed
/// over.
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
    /// RMSprop's share of the mean square that is kept.
    Alpha,
    Epsilon,
    WeightDecay,
    ClipNorm,
    ClipValue,
    /// One over the number of minibatches of an update.
    GradientShare,
    /// Zero in the first minibatch of an update, else one.
    Carry,
    /// What Adam's ratio of moments is multiplied with: the learning rate, times the root of the second correction, over
    /// the first one.
    AdamRate,
    /// Epsilon, times the root of Adam's second correction.
    AdamEpsilon,
    /// What the weights are multiplied with: one less the learning rate times the weight decay.
    Shrink,
    /// The share of the average of the weights that an update keeps.
    AverageKept,
    /// The share of elements that is dropped, in `0 .. 1`; below zero where each dropout of a model file has its own.
    DropoutRate,
    /// What dropout and augmentations draw by: any i64; it is reduced modulo 2^31 - 1.
    DropoutSeed,
    /// The standard deviation of the noise that is added to features.
    NoiseDeviation,
    /// The share of a row itself where it is mixed with another one, in `0 ..= 1`; drawn anew for each minibatch.
    MixupShare,
    /// The share of a class target that is spread over all classes, in `0 .. 1`.
    LabelSmoothing,
    /// Where Huber's loss turns from squared to absolute.
    HuberDelta,
}

impl ScalarRole {
    /// Whether it may differ from step to step.
    pub fn varies(self) -> bool {
        matches!(
            self,
            Self::LearningRate | Self::Carry | Self::MixupShare | Self::AdamRate | Self::AdamEpsilon | Self::Shrink
        )
    }

    /// The name of its input, without the reserved prefix.
    pub(crate) fn input_name(self) -> &'static str {
        match self {
            Self::LearningRate => "learning_rate",
            Self::Momentum => "momentum",
            Self::Beta1 => "beta1",
            Self::Beta2 => "beta2",
            Self::Alpha => "alpha",
            Self::Epsilon => "epsilon",
            Self::WeightDecay => "weight_decay",
            Self::ClipNorm => "clip_norm",
            Self::ClipValue => "clip_value",
            Self::GradientShare => "gradient_share",
            Self::Carry => "carry",
            Self::AdamRate => "adam_rate",
            Self::AdamEpsilon => "adam_epsilon",
            Self::Shrink => "shrink",
            Self::AverageKept => "average_kept",
            Self::DropoutRate => "dropout_rate",
            Self::DropoutSeed => "dropout_seed",
            Self::NoiseDeviation => "noise_deviation",
            Self::MixupShare => "mixup_share",
            Self::LabelSmoothing => "label_smoothing",
            Self::HuberDelta => "huber_delta",
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
    /// Rows x the shape of the model's feature at this position.
    Feature(usize),
    /// Rows x what the loss is of: class indices, or values.
    Target,
    /// How much each class counts.
    ClassWeights,
    /// Independent uniform numbers in `0 .. 1`: a pool that dropout and augmentations draw rows from.
    Noise,
}

/// A scalar of type f32 that a run measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultOutput {
    pub role: ResultRole,
    pub name: String,
    /// Where several minibatches are handed over at once: the input with the results of the others, one for each, that
    /// the output replaces. Both may be bound to the same memory.
    pub others: Option<Port>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultRole {
    /// The mean over the batch in a step, the weighted sum over its rows in an evaluation.
    Loss,
    /// In an evaluation: what the sum is to be divided by.
    Weight,
    /// How many positions that count have their greatest output at their class.
    Correct,
    /// How many positions count; in a step only where it is not all of them.
    Counted,
}

impl ResultRole {
    fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Weight => "weight",
            Self::Correct => "correct",
            Self::Counted => "counted",
        }
    }
}

/// The description while its graph is written.
#[derive(Default)]
pub(crate) struct Declared {
    /// Where several minibatches are handed over at once.
    place: Option<Place>,
    states: Vec<(Value, Option<Value>, Vec<Piece>)>,
    scalars: Vec<(ScalarRole, Value)>,
    data: Vec<(DataRole, Value)>,
    indices: Option<Value>,
    row_weights: Option<Value>,
    results: Vec<(ResultRole, Value, Option<Value>)>,
    output: Option<Value>,
}

/// Which of so many minibatches this is.
#[derive(Clone, Copy)]
struct Place {
    count: usize,
    /// A scalar of type i64, below the count.
    at: Value,
}

/// An input, and what of it this minibatch takes: all, or where it comes for several of them, what lies at its place.
fn own_of(
    graph: &mut Graph,
    place: Option<Place>,
    (name, dtype, shape): (&str, Dtype, &[usize]),
) -> Result<(Value, Value), GraphError> {
    let Some(Place { count, at }) = place else {
        let input = graph.reserved_input(name, dtype, shape)?;
        return Ok((input, input));
    };
    let all = graph.reserved_input(name, dtype, &[&[count], shape].concat())?;
    Ok((all, graph.gather(all, at)?))
}

impl Declared {
    /// From now on, what varies from step to step comes for so many steps at once; the number of this one (an i64) says
    /// which is its own.
    pub fn find_by(&mut self, graph: &mut Graph, step: Value, count: usize) -> Result<(), GraphError> {
        let modulus = graph.int_scalar(i64::try_from(count).expect("a number of minibatches fits in an i64"));
        self.place = Some(Place { count, at: graph.modulo(step, modulus)? });
        Ok(())
    }

    /// Whether what varies from step to step comes for several of them.
    pub fn is_ahead(&self) -> bool {
        self.place.is_some()
    }

    /// A count that begins at zero.
    pub fn counter(&mut self, graph: &mut Graph, name: &str) -> Result<Value, GraphError> {
        let input = graph.reserved_input(name, Dtype::I64, &[])?;
        let name = format!("{RESERVED_PREFIX}{name}");
        let piece = Piece { name, shape: Vec::new(), offset: 0, initial: Initial::Zeros, position: 0 };
        self.states.push((input, None, vec![piece]));
        Ok(input)
    }

    /// A flat vector of type f32.
    pub fn vector(&mut self, graph: &mut Graph, name: &str, pieces: Vec<Piece>) -> Result<Value, GraphError> {
        let input = graph.reserved_input(name, Dtype::F32, &[layout::length(&pieces)])?;
        self.states.push((input, None, pieces));
        Ok(input)
    }

    /// The pieces of all states so far.
    pub fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.states.iter().flat_map(|(_, _, pieces)| pieces)
    }

    /// What a state becomes.
    pub fn becomes(&mut self, input: Value, output: Value) {
        for state in self.states.iter_mut().filter(|state| state.0 == input) {
            state.1 = Some(output);
        }
    }

    /// The states of which it is known what they become.
    pub fn changing(&self) -> BTreeSet<Value> {
        self.states.iter().filter(|state| state.1.is_some()).map(|state| state.0).collect()
    }

    /// What states other than `but` become is what they are, unless the condition (a scalar of type bool) holds.
    pub fn only_if(&mut self, graph: &mut Graph, condition: Value, but: &BTreeSet<Value>) -> Result<(), GraphError> {
        for (state, next, _) in self.states.iter_mut().filter(|(state, ..)| !but.contains(state)) {
            if let Some(next) = next {
                *next = graph.choose(condition, *next, *state)?;
            }
        }
        Ok(())
    }

    pub fn scalar(&mut self, graph: &mut Graph, role: ScalarRole, dtype: Dtype) -> Result<Value, GraphError> {
        let place = self.place.filter(|_| role.varies());
        let (input, own) = own_of(graph, place, (role.input_name(), dtype, &[]))?;
        self.scalars.push((role, input));
        Ok(own)
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
            DataRole::Feature(position) => format!("feature_{position}"),
            DataRole::Target => "target".into(),
            DataRole::ClassWeights => "class_weights".into(),
            DataRole::Noise => "noise".into(),
        };
        let value = graph.reserved_input(&name, dtype, shape)?;
        self.data.push((role, value));
        Ok(value)
    }

    pub fn declared_data(&mut self, role: DataRole, value: Value) {
        self.data.push((role, value));
    }

    pub fn indices(&mut self, graph: &mut Graph, batch: usize) -> Result<Value, GraphError> {
        let (input, own) = own_of(graph, self.place, ("indices", Dtype::I64, &[batch]))?;
        self.indices = Some(input);
        Ok(own)
    }

    pub fn row_weights(&mut self, graph: &mut Graph, batch: usize) -> Result<Value, GraphError> {
        let value = graph.reserved_input("row_weights", Dtype::F32, &[batch])?;
        self.row_weights = Some(value);
        Ok(value)
    }

    pub fn result(&mut self, role: ResultRole, value: Value) {
        self.results.push((role, value, None));
    }

    /// Puts each result among those of the other minibatches that were handed over with this one.
    pub fn file_results(&mut self, graph: &mut Graph) -> Result<(), GraphError> {
        let Some(place) = self.place else { return Ok(()) };
        let places = graph.int_range(place.count, 1);
        let is_own = graph.equal(places, place.at)?;
        for (role, value, others) in &mut self.results {
            let earlier = graph.reserved_input(&format!("results_{}", role.name()), Dtype::F32, &[place.count])?;
            (*value, *others) = (graph.choose(is_own, *value, earlier)?, Some(earlier));
        }
        Ok(())
    }

    pub fn output(&mut self, value: Value) {
        self.output = Some(value);
    }

    pub fn into_program(self, mut graph: Graph) -> Program {
        let next = self.states.iter().filter_map(|state| state.1);
        for output in next.chain(self.results.iter().map(|result| result.1)).chain(self.output) {
            graph.output(output);
        }
        let port = |value: Value| {
            let info = graph.info(value).clone();
            Port { name: info.name, dtype: info.dtype, shape: info.shape }
        };
        let name = |value: Value| graph.name(value).to_owned();
        let state = |(input, output, pieces): (Value, Option<Value>, Vec<Piece>)| State {
            input: port(input),
            output: output.map(name),
            pieces,
        };
        Program {
            states: self.states.into_iter().map(state).collect(),
            scalars: self.scalars.into_iter().map(|(role, value)| Scalar { role, input: port(value) }).collect(),
            data: self.data.into_iter().map(|(role, value)| DataInput { role, input: port(value) }).collect(),
            indices: port(self.indices.expect("every program declares its indices")),
            row_weights: self.row_weights.map(port),
            output: self.output.map(port),
            results: (self.results.into_iter())
                .map(|(role, value, others)| ResultOutput { role, name: name(value), others: others.map(port) })
                .collect(),
            graph,
        }
    }
}
