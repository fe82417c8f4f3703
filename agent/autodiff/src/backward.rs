//! A model's vector-Jacobian product as one graph: what a loss of any kind, or another program's gradients, can be held
//! against.

use crate::families::{Forward, Mode, Model, Parameter};
use crate::gradient::{self, GradientError};
use crate::graph::{Dtype, Graph, Provider, Value};
use crate::step::Port;
use crate::step::dropout::Dropout;

/// A model's output for a batch, and the gradients that belong to a gradient of its output. Without dropout.
#[derive(Debug, Clone)]
pub struct Backward {
    pub graph: Graph,
    pub features: Vec<Port>,
    pub parameters: Vec<(Parameter, Gradient)>,
    pub statistics: Vec<Statistic>,
    pub output: Port,
    /// The input that takes the gradient of some loss at the output.
    pub cotangent: Port,
}

/// Where the gradient of a parameter comes out; a parameter that does not train has none.
pub type Gradient = Option<String>;

/// A running statistic, and what it is after the step.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistic {
    pub input: Port,
    pub initial: crate::families::Initial,
    pub next: Option<String>,
}

/// For a provider, and with operators of our own where whoever runs it has them.
///
/// # Errors
/// The model's graph cannot be written, or has no gradient.
pub fn backward(
    model: &Model,
    mode: Mode,
    batch: usize,
    (provider, own_operators): (Provider, bool),
) -> Result<Backward, GradientError> {
    let mut graph = Graph::new(provider);
    if own_operators {
        graph.allow_own_operators();
    }
    let mut features = Vec::new();
    for (position, feature) in model.features().into_iter().enumerate() {
        let shape = [&[batch], feature.shape.as_slice()].concat();
        features.push(graph.reserved_input(&format!("feature.{position}"), feature.dtype, &shape)?);
    }
    let mut context = Forward::new(&mut graph, mode, Dropout::Off);
    let output = model.forward(&mut context, &features)?;
    let Forward { parameters, buffers, .. } = context;
    let shape = graph.shape(output).to_vec();
    let cotangent = graph.reserved_input("cotangent", Dtype::F32, &shape)?;
    let trained: Vec<Value> = parameters.iter().filter(|(known, _)| known.trains).map(|(_, value)| *value).collect();
    let mut gradients = gradient::gradients(&mut graph, &[(output, cotangent)], &trained)?.into_iter();
    graph.output(output);
    let mut named = Vec::new();
    for (parameter, _) in parameters {
        let gradient = if parameter.trains { gradients.next() } else { None };
        named.push((parameter, gradient));
    }
    for gradient in named.iter().filter_map(|(_, gradient)| *gradient) {
        graph.output(gradient);
    }
    for next in buffers.iter().filter_map(|buffer| buffer.next) {
        graph.output(next);
    }
    let port = |value: Value| {
        let info = graph.info(value).clone();
        Port { name: info.name, dtype: info.dtype, shape: info.shape }
    };
    let name = |value: Value| graph.name(value).to_owned();
    Ok(Backward {
        features: features.into_iter().map(port).collect(),
        parameters: named.into_iter().map(|(parameter, gradient)| (parameter, gradient.map(name))).collect(),
        statistics: buffers
            .iter()
            .map(|buffer| Statistic {
                input: port(buffer.value),
                initial: buffer.initial.clone(),
                next: buffer.next.map(name),
            })
            .collect(),
        output: port(output),
        cotangent: port(cotangent),
        graph: graph.clone(),
    })
}
