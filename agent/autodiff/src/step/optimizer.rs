//! Optimizer updates and gradient clipping, with the formulas of PyTorch 2.

use super::program::{Declared, ScalarRole};
use crate::families::Initial;
use crate::graph::{Dtype, Graph, GraphError, Value};

/// The form of an update; its numbers are inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    pub optimizer: Optimizer,
    /// Whether weight decay is in the graph at all; its factor is an input.
    pub weight_decay: bool,
}

/// Optimizers as in `torch.optim`: weight decay is added to the gradient, except in `AdamW`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Optimizer {
    Sgd,
    /// `SGD` with momentum, without dampening.
    Momentum {
        nesterov: bool,
    },
    Adam,
    /// Decoupled weight decay (Loshchilov and Hutter, 2019).
    AdamW,
}

/// Added to the norm of the gradients before dividing by it, as in `torch.nn.utils.clip_grad_norm_`.
const CLIP_EPSILON: f64 = 1e-6;

/// Scales all gradients so that their joint norm stays within the threshold.
pub(super) fn clip_by_global_norm(
    graph: &mut Graph,
    gradients: &[Value],
    threshold: Value,
) -> Result<Vec<Value>, GraphError> {
    let mut total = graph.scalar_like(threshold, 0.0);
    for &gradient in gradients {
        let square = graph.mul(gradient, gradient)?;
        let sum = graph.sum_all(square)?;
        total = graph.add(total, sum)?;
    }
    let norm = graph.sqrt(total)?;
    let epsilon = graph.scalar_like(norm, CLIP_EPSILON);
    let divisor = graph.add(norm, epsilon)?;
    let ratio = graph.div(threshold, divisor)?;
    let one = graph.scalar_like(ratio, 1.0);
    let factor = graph.min(ratio, one)?;
    gradients.iter().map(|&gradient| graph.mul(gradient, factor)).collect()
}

/// Writes the update of every parameter, and of the step counter, and declares what each state becomes.
pub(super) fn update(
    graph: &mut Graph,
    declared: &mut Declared,
    update: Update,
    step: Value,
    parameters: &[Value],
    gradients: &[Value],
) -> Result<(), GraphError> {
    let one = graph.int_scalar(1);
    let next_step = graph.add(step, one)?;
    declared.becomes(step, next_step);
    let rule = match update.optimizer {
        Optimizer::Sgd => Rule::Sgd(Sgd::declare(graph, declared, update.weight_decay, None)?),
        Optimizer::Momentum { nesterov } => {
            Rule::Sgd(Sgd::declare(graph, declared, update.weight_decay, Some(nesterov))?)
        }
        Optimizer::Adam | Optimizer::AdamW => Rule::Adam(Adam::declare(graph, declared, update, next_step)?),
    };
    for (&parameter, &gradient) in parameters.iter().zip(gradients) {
        let next = match &rule {
            Rule::Sgd(sgd) => sgd.update(graph, declared, parameter, gradient)?,
            Rule::Adam(adam) => adam.update(graph, declared, parameter, gradient)?,
        };
        declared.becomes(parameter, next);
    }
    Ok(())
}

enum Rule {
    Sgd(Sgd),
    Adam(Adam),
}

struct Sgd {
    learning_rate: Value,
    weight_decay: Option<Value>,
    momentum: Option<Value>,
    nesterov: bool,
}

impl Sgd {
    fn declare(
        graph: &mut Graph,
        declared: &mut Declared,
        weight_decay: bool,
        momentum: Option<bool>,
    ) -> Result<Self, GraphError> {
        let mut scalar = |role| declared.scalar(graph, role, Dtype::F32);
        Ok(Self {
            learning_rate: scalar(ScalarRole::LearningRate)?,
            weight_decay: weight_decay.then(|| scalar(ScalarRole::WeightDecay)).transpose()?,
            momentum: momentum.map(|_| scalar(ScalarRole::Momentum)).transpose()?,
            nesterov: momentum.unwrap_or(false),
        })
    }

    /// `v' = momentum * v + g`; the step is `v'`, or `g + momentum * v'` with Nesterov's momentum.
    fn update(&self, graph: &mut Graph, declared: &mut Declared, w: Value, g: Value) -> Result<Value, GraphError> {
        let g = with_decay(graph, w, g, self.weight_decay)?;
        let direction = match self.momentum {
            None => g,
            Some(momentum) => {
                let velocity = slot(graph, declared, w, "velocity")?;
                let kept = graph.mul(velocity, momentum)?;
                let next = graph.add(kept, g)?;
                declared.becomes(velocity, next);
                if self.nesterov {
                    let ahead = graph.mul(next, momentum)?;
                    graph.add(g, ahead)?
                } else {
                    next
                }
            }
        };
        let change = graph.mul(direction, self.learning_rate)?;
        graph.sub(w, change)
    }
}

/// Adam with its moments held as `M = m / (1 - beta1)` and `V = v / (1 - beta2)`: then `M' = beta1 M + g` and
/// `V' = beta2 V + g^2`, and both corrections move into two scalars. The same numbers as PyTorch's, in eleven
/// passes over the memory.
struct Adam {
    beta1: Value,
    beta2: Value,
    /// `learning_rate * sqrt(c2) / c1` with `c = (1 - beta^t) / (1 - beta)`.
    rate: Value,
    /// `epsilon * sqrt(c2)`.
    epsilon: Value,
    /// Adam: the factor of the weights that is added to the gradient.
    weight_decay: Option<Value>,
    /// AdamW: what the weights are multiplied with, `1 - learning_rate * weight_decay`.
    shrink: Option<Value>,
}

impl Adam {
    /// The scalars are computed in double precision: `1 - beta2` has no digits to lose.
    fn declare(
        graph: &mut Graph,
        declared: &mut Declared,
        update: Update,
        next_step: Value,
    ) -> Result<Self, GraphError> {
        let learning_rate = declared.scalar(graph, ScalarRole::LearningRate, Dtype::F64)?;
        let beta1 = declared.scalar(graph, ScalarRole::Beta1, Dtype::F64)?;
        let beta2 = declared.scalar(graph, ScalarRole::Beta2, Dtype::F64)?;
        let epsilon = declared.scalar(graph, ScalarRole::Epsilon, Dtype::F64)?;
        let steps = graph.cast(next_step, Dtype::F64)?;
        let c1 = correction(graph, beta1, steps)?;
        let c2 = correction(graph, beta2, steps)?;
        let root = graph.sqrt(c2)?;
        let scaled = graph.mul(learning_rate, root)?;
        let rate = graph.div(scaled, c1)?;
        let epsilon = graph.mul(epsilon, root)?;
        let mut adam = Self {
            beta1: graph.cast(beta1, Dtype::F32)?,
            beta2: graph.cast(beta2, Dtype::F32)?,
            rate: graph.cast(rate, Dtype::F32)?,
            epsilon: graph.cast(epsilon, Dtype::F32)?,
            weight_decay: None,
            shrink: None,
        };
        if update.weight_decay && update.optimizer == Optimizer::AdamW {
            let decay = declared.scalar(graph, ScalarRole::WeightDecay, Dtype::F64)?;
            let lost = graph.mul(learning_rate, decay)?;
            let one = graph.scalar(Dtype::F64, 1.0);
            let kept = graph.sub(one, lost)?;
            adam.shrink = Some(graph.cast(kept, Dtype::F32)?);
        } else if update.weight_decay {
            adam.weight_decay = Some(declared.scalar(graph, ScalarRole::WeightDecay, Dtype::F32)?);
        }
        Ok(adam)
    }

    fn update(&self, graph: &mut Graph, declared: &mut Declared, w: Value, g: Value) -> Result<Value, GraphError> {
        let g = with_decay(graph, w, g, self.weight_decay)?;
        let first = slot(graph, declared, w, "first_moment")?;
        let second = slot(graph, declared, w, "second_moment")?;
        let kept = graph.mul(first, self.beta1)?;
        let next_first = graph.add(kept, g)?;
        let kept = graph.mul(second, self.beta2)?;
        let square = graph.mul(g, g)?;
        let next_second = graph.add(kept, square)?;
        declared.becomes(first, next_first);
        declared.becomes(second, next_second);
        let root = graph.sqrt(next_second)?;
        let divisor = graph.add(root, self.epsilon)?;
        let ratio = graph.div(next_first, divisor)?;
        let change = graph.mul(ratio, self.rate)?;
        let w = match self.shrink {
            Some(shrink) => graph.mul(w, shrink)?,
            None => w,
        };
        graph.sub(w, change)
    }
}

/// `(1 - beta^t) / (1 - beta)`.
fn correction(graph: &mut Graph, beta: Value, steps: Value) -> Result<Value, GraphError> {
    let one = graph.scalar(Dtype::F64, 1.0);
    let power = graph.pow(beta, steps)?;
    let above = graph.sub(one, power)?;
    let below = graph.sub(one, beta)?;
    graph.div(above, below)
}

fn with_decay(graph: &mut Graph, w: Value, g: Value, decay: Option<Value>) -> Result<Value, GraphError> {
    let Some(decay) = decay else { return Ok(g) };
    let pull = graph.mul(w, decay)?;
    graph.add(g, pull)
}

/// A state of the optimizer that belongs to a parameter and has its shape.
fn slot(graph: &mut Graph, declared: &mut Declared, parameter: Value, name: &str) -> Result<Value, GraphError> {
    let name = format!("{}/{name}", graph.name(parameter));
    let shape = graph.shape(parameter).to_vec();
    let value = graph.input(&name, Dtype::F32, &shape)?;
    Ok(declared.state(value, Initial::Zeros))
}
