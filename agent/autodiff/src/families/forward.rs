//! A model's graph being written: where parameters and buffers are declared and dropout is asked for.

use std::collections::BTreeMap;

use super::ablated::Cut;
use crate::graph::{Dtype, Graph, GraphError, Value};
use crate::step::dropout::Dropout;

/// How a tensor begins. Its caller draws; this says what.
#[derive(Debug, Clone, PartialEq)]
pub enum Initial {
    Zeros,
    Ones,
    /// Uniform in `-bound .. bound`.
    Uniform {
        bound: f64,
    },
    Normal {
        deviation: f64,
    },
    /// As a file has it, in row-major order.
    Given(std::sync::Arc<Vec<f32>>),
}

/// What a graph is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Dropout drops, and normalisation is by the batch.
    Training,
    /// Normalisation is by what was gathered in training.
    Evaluation,
}

/// A tensor of a model that does not change but by the optimizer.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    pub name: String,
    pub shape: Vec<usize>,
    pub initial: Initial,
    /// Whether the optimizer changes it.
    pub trains: bool,
}

/// A tensor of a model that changes by what is measured in training: running statistics.
#[derive(Debug, Clone)]
pub(crate) struct Buffer {
    pub value: Value,
    pub next: Option<Value>,
    pub initial: Initial,
}

pub(crate) struct Forward<'g> {
    pub graph: &'g mut Graph,
    pub mode: Mode,
    pub parameters: Vec<(Parameter, Value)>,
    pub buffers: Vec<Buffer>,
    pub dropout: Dropout,
    /// Whether values within [parts](Self::part) are computed again for the gradient rather than kept.
    pub recomputes: bool,
    pub cut: Cut,
    /// The tensors to hand out, by name; `None` where each becomes an input of the graph.
    tensors: Option<BTreeMap<String, Value>>,
}

impl<'g> Forward<'g> {
    /// Each tensor that the model declares becomes an input of the graph.
    pub fn new(graph: &'g mut Graph, mode: Mode, dropout: Dropout) -> Self {
        Self {
            graph,
            mode,
            parameters: Vec::new(),
            buffers: Vec::new(),
            dropout,
            recomputes: false,
            cut: Cut::default(),
            tensors: None,
        }
    }

    /// The tensors that the model declares are there already, of type f32.
    pub fn over(graph: &'g mut Graph, mode: Mode, dropout: Dropout, tensors: BTreeMap<String, Value>) -> Self {
        Self { tensors: Some(tensors), ..Self::new(graph, mode, dropout) }
    }

    /// Declares a trainable tensor of type f32.
    pub fn parameter(&mut self, name: &str, shape: &[usize], initial: Initial) -> Result<Value, GraphError> {
        self.declared(Parameter { name: name.into(), shape: shape.to_vec(), initial, trains: true })
    }

    /// Declares a tensor of type f32, trainable or not.
    pub fn declared(&mut self, parameter: Parameter) -> Result<Value, GraphError> {
        let value = self.tensor(&parameter.name, &parameter.shape)?;
        self.parameters.push((parameter, value));
        Ok(value)
    }

    /// Declares a tensor of running statistics, of type f32. In training, [`becomes`](Self::becomes) says what it
    /// is after the step.
    pub fn buffer(&mut self, name: &str, shape: &[usize], initial: Initial) -> Result<Value, GraphError> {
        let value = self.tensor(name, shape)?;
        self.buffers.push(Buffer { value, next: None, initial });
        Ok(value)
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Value, GraphError> {
        let Some(tensors) = &mut self.tensors else { return self.graph.input(name, Dtype::F32, shape) };
        let tensor = tensors.remove(name).filter(|tensor| self.graph.shape(*tensor) == shape);
        tensor.ok_or_else(|| GraphError::InvalidOperands {
            op: "the model".into(),
            reason: format!("{name:?} {shape:?} is declared in one mode and not in the other, or twice"),
        })
    }

    /// Writes a part of a model that depends on the others by `x` alone.
    pub fn part(
        &mut self,
        x: Value,
        write: impl FnOnce(&mut Self) -> Result<Value, GraphError>,
    ) -> Result<Value, GraphError> {
        let first = self.graph.nodes().len();
        let y = write(self)?;
        if self.recomputes && y != x {
            self.graph.recompute(first, x, y);
        }
        Ok(y)
    }

    pub fn becomes(&mut self, buffer: Value, next: Value) {
        for known in self.buffers.iter_mut().filter(|known| known.value == buffer) {
            known.next = Some(next);
        }
    }

    /// Drops elements while training, at the rate that is an input of the graph; `x` itself while evaluating.
    /// The first axis of `x` is the batch.
    pub fn dropped(&mut self, x: Value) -> Result<Value, GraphError> {
        self.dropout.apply(self.graph, x, None)
    }

    /// The same, at the rate `own` where the input says that each site has its own.
    pub fn dropped_at(&mut self, x: Value, own: f64) -> Result<Value, GraphError> {
        self.dropout.apply(self.graph, x, Some(own))
    }
}
