//! The updates of optimizers over flat vectors, with the formulas of PyTorch 2.
//!
//! Each state is read by one node, so that its next value may take its place in memory.

use super::layout::{self, Piece};
use super::program::{Declared, ScalarRole};
use crate::graph::{Dtype, Graph, GraphError, Value};
use crate::own::DOMAIN;

/// The form of an update; its numbers are inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    pub optimizer: Optimizer,
    /// Whether weight decay is in the graph at all; its factor is an input.
    pub weight_decay: bool,
    /// Whether the graph may have operators of [`own::DOMAIN`](crate::own::DOMAIN). On the CPU AdamW, and Adam without
    /// weight decay, are then one node, with the same numbers; for CUDA runs of operators become kernels.
    pub own_operators: bool,
}

/// Optimizers as in `torch.optim`: weight decay is added to the gradient, except in `AdamW`, `Lamb` and `Lion`.
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
    Rmsprop {
        momentum: bool,
    },
    Adagrad,
    /// AdamW's step, scaled tensor by tensor to the norm of the weights (You et al., 2020, algorithm 2).
    Lamb,
    /// The sign of a momentum (Chen et al., 2023, algorithm 2).
    Lion,
}

impl Optimizer {
    fn is_decoupled(self) -> bool {
        matches!(self, Self::AdamW | Self::Lamb | Self::Lion)
    }
}

/// Weights that are updated alike.
pub(super) struct Group<'a> {
    pub name: &'a str,
    pub pieces: &'a [Piece],
    pub weights: Value,
    pub gradient: Value,
    pub decays: bool,
}

/// The numbers of an update as scalars of the graph, of type f32.
pub(super) struct Rule {
    update: Update,
    numbers: Numbers,
    /// The factor of the weights that is added to the gradient.
    weight_decay: Option<Value>,
    /// What the weights are multiplied with: `1 - learning_rate * weight_decay`.
    shrink: Option<Value>,
}

enum Numbers {
    Sgd { learning_rate: Value, momentum: Option<Value>, nesterov: bool },
    Adam(Adam),
    Rmsprop { learning_rate: Value, alpha: Value, rest: Value, epsilon: Value, momentum: Option<Value> },
    Adagrad { learning_rate: Value, epsilon: Value },
    Lamb { adam: Adam, learning_rate: Value },
    Lion { learning_rate: Value, beta1: Value, beta2: Value },
}

/// Adam with its moments held as `M = m / (1 - beta1)` and `V = v / (1 - beta2)`: then `M' = beta1 M + g` and
/// `V' = beta2 V + g^2`, and both corrections move into two scalars. The same numbers as PyTorch's, in eleven
/// passes over the memory.
struct Adam {
    beta1: Value,
    beta2: Value,
    /// `learning_rate * sqrt(c2) / c1` with `c = (1 - beta^t) / (1 - beta)`; for LAMB without the learning rate.
    rate: Value,
    /// `epsilon * sqrt(c2)`.
    epsilon: Value,
}

impl Rule {
    /// `updates` is the number of updates with this one, of type i64; `None` where the caller knows it, and computes what
    /// depends on it. What is computed from the numbers is computed in double precision: `1 - beta2` has no digits to
    /// lose.
    pub fn declare(
        graph: &mut Graph,
        declared: &mut Declared,
        update: Update,
        updates: Option<Value>,
    ) -> Result<Self, GraphError> {
        let Some(updates) = updates else { return Self::computed(graph, declared, update) };
        let mut wide = |graph: &mut Graph, role| declared.scalar(graph, role, Dtype::F64);
        let learning_rate = wide(graph, ScalarRole::LearningRate)?;
        let numbers = match update.optimizer {
            Optimizer::Sgd => {
                Numbers::Sgd { learning_rate: single(graph, learning_rate)?, momentum: None, nesterov: false }
            }
            Optimizer::Momentum { nesterov } => {
                let momentum = wide(graph, ScalarRole::Momentum)?;
                let (learning_rate, momentum) = (single(graph, learning_rate)?, single(graph, momentum)?);
                Numbers::Sgd { learning_rate, momentum: Some(momentum), nesterov }
            }
            Optimizer::Adam | Optimizer::AdamW => {
                Numbers::Adam(Adam::declare(graph, &mut wide, updates, Some(learning_rate))?)
            }
            Optimizer::Lamb => {
                let adam = Adam::declare(graph, &mut wide, updates, None)?;
                Numbers::Lamb { adam, learning_rate: single(graph, learning_rate)? }
            }
            Optimizer::Rmsprop { momentum } => {
                let alpha = wide(graph, ScalarRole::Alpha)?;
                let epsilon = wide(graph, ScalarRole::Epsilon)?;
                let momentum = momentum.then(|| wide(graph, ScalarRole::Momentum)).transpose()?;
                let rest = complement(graph, alpha)?;
                Numbers::Rmsprop {
                    learning_rate: single(graph, learning_rate)?,
                    alpha: single(graph, alpha)?,
                    rest: single(graph, rest)?,
                    epsilon: single(graph, epsilon)?,
                    momentum: momentum.map(|momentum| single(graph, momentum)).transpose()?,
                }
            }
            Optimizer::Adagrad => {
                let epsilon = wide(graph, ScalarRole::Epsilon)?;
                Numbers::Adagrad { learning_rate: single(graph, learning_rate)?, epsilon: single(graph, epsilon)? }
            }
            Optimizer::Lion => {
                let (beta1, beta2) = (wide(graph, ScalarRole::Beta1)?, wide(graph, ScalarRole::Beta2)?);
                let learning_rate = single(graph, learning_rate)?;
                Numbers::Lion { learning_rate, beta1: single(graph, beta1)?, beta2: single(graph, beta2)? }
            }
        };
        let mut rule = Self { update, numbers, weight_decay: None, shrink: None };
        if update.weight_decay {
            let decay = wide(graph, ScalarRole::WeightDecay)?;
            if update.optimizer.is_decoupled() && update.optimizer != Optimizer::Lamb {
                let lost = graph.mul(learning_rate, decay)?;
                let kept = complement(graph, lost)?;
                rule.shrink = Some(single(graph, kept)?);
            } else {
                rule.weight_decay = Some(single(graph, decay)?);
            }
        }
        Ok(rule)
    }

    /// Adam, with what differs from update to update as numbers that the caller has computed.
    fn computed(graph: &mut Graph, declared: &mut Declared, update: Update) -> Result<Self, GraphError> {
        let mut number = |role| declared.scalar(graph, role, Dtype::F32);
        let adam = Adam {
            beta1: number(ScalarRole::Beta1)?,
            beta2: number(ScalarRole::Beta2)?,
            rate: number(ScalarRole::AdamRate)?,
            epsilon: number(ScalarRole::AdamEpsilon)?,
        };
        let mut rule = Self { update, numbers: Numbers::Adam(adam), weight_decay: None, shrink: None };
        if update.weight_decay && update.optimizer.is_decoupled() {
            rule.shrink = Some(number(ScalarRole::Shrink)?);
        } else if update.weight_decay {
            rule.weight_decay = Some(number(ScalarRole::WeightDecay)?);
        }
        Ok(rule)
    }

    /// Writes the update of a group and of its slots, and declares what each becomes; the result is the next weights.
    pub fn apply(&self, graph: &mut Graph, declared: &mut Declared, group: &Group<'_>) -> Result<Value, GraphError> {
        let (w, mut g) = (group.weights, group.gradient);
        let decay = self.weight_decay.filter(|_| group.decays);
        let shrink = self.shrink.filter(|_| group.decays);
        if let Some(decay) = decay.filter(|_| self.update.optimizer != Optimizer::Lamb) {
            let pull = graph.mul(w, decay)?;
            g = graph.add(g, pull)?;
        }
        let mut slots = Slots { declared, group };
        let next = match &self.numbers {
            Numbers::Adam(adam) if graph.has_own_operators() && decay.is_none() => {
                adam.own_operators(graph, &mut slots, (w, g), shrink)?
            }
            numbers => {
                let change = numbers.change(graph, &mut slots, g, decay)?;
                let w = match shrink {
                    Some(shrink) => graph.mul(w, shrink)?,
                    None => w,
                };
                graph.sub(w, change)?
            }
        };
        declared.becomes(w, next);
        Ok(next)
    }
}

impl Numbers {
    /// What is taken from the weights.
    fn change(
        &self,
        graph: &mut Graph,
        slots: &mut Slots<'_, '_>,
        g: Value,
        decay: Option<Value>,
    ) -> Result<Value, GraphError> {
        match *self {
            Self::Sgd { learning_rate, momentum, nesterov } => {
                let Some(momentum) = momentum else { return graph.mul(g, learning_rate) };
                let velocity = slots.decaying(graph, "velocity", momentum, g)?;
                let direction = if nesterov {
                    let ahead = graph.mul(velocity, momentum)?;
                    graph.add(g, ahead)?
                } else {
                    velocity
                };
                graph.mul(direction, learning_rate)
            }
            Self::Adam(ref adam) => {
                let ratio = adam.ratio(graph, slots, g)?;
                graph.mul(ratio, adam.rate)
            }
            Self::Rmsprop { learning_rate, alpha, rest, epsilon, momentum } => {
                let square = graph.mul(g, g)?;
                let part = graph.mul(square, rest)?;
                let mean = slots.decaying(graph, "mean_square", alpha, part)?;
                let scaled = over_root(graph, g, mean, epsilon)?;
                let direction = match momentum {
                    Some(momentum) => slots.decaying(graph, "velocity", momentum, scaled)?,
                    None => scaled,
                };
                graph.mul(direction, learning_rate)
            }
            Self::Adagrad { learning_rate, epsilon } => {
                let square = graph.mul(g, g)?;
                let sum = slots.slot(graph, "square_sum")?;
                let next = graph.add(sum, square)?;
                slots.declared.becomes(sum, next);
                let scaled = over_root(graph, g, next, epsilon)?;
                graph.mul(scaled, learning_rate)
            }
            Self::Lamb { ref adam, learning_rate } => {
                let ratio = adam.ratio(graph, slots, g)?;
                let step = graph.mul(ratio, adam.rate)?;
                let trusted = trusted(graph, slots.group, step, decay)?;
                graph.mul(trusted, learning_rate)
            }
            Self::Lion { learning_rate, beta1, beta2 } => {
                let momentum = slots.slot(graph, "momentum")?;
                let excess = graph.sub(momentum, g)?;
                let [blended, next] = [beta1, beta2].map(|beta| {
                    let part = graph.mul(excess, beta)?;
                    graph.add(g, part)
                });
                slots.declared.becomes(momentum, next?);
                let sign = graph.sign(blended?)?;
                graph.mul(sign, learning_rate)
            }
        }
    }
}

impl Adam {
    fn declare(
        graph: &mut Graph,
        wide: &mut impl FnMut(&mut Graph, ScalarRole) -> Result<Value, GraphError>,
        updates: Value,
        learning_rate: Option<Value>,
    ) -> Result<Self, GraphError> {
        let beta1 = wide(graph, ScalarRole::Beta1)?;
        let beta2 = wide(graph, ScalarRole::Beta2)?;
        let epsilon = wide(graph, ScalarRole::Epsilon)?;
        let updates = graph.cast(updates, Dtype::F64)?;
        let c1 = correction(graph, beta1, updates)?;
        let c2 = correction(graph, beta2, updates)?;
        let root = graph.sqrt(c2)?;
        let scaled = match learning_rate {
            Some(learning_rate) => graph.mul(learning_rate, root)?,
            None => root,
        };
        let rate = graph.div(scaled, c1)?;
        let epsilon = graph.mul(epsilon, root)?;
        Ok(Self {
            beta1: single(graph, beta1)?,
            beta2: single(graph, beta2)?,
            rate: single(graph, rate)?,
            epsilon: single(graph, epsilon)?,
        })
    }

    /// `M' / (sqrt(V') + epsilon)`.
    fn ratio(&self, graph: &mut Graph, slots: &mut Slots<'_, '_>, g: Value) -> Result<Value, GraphError> {
        let first = slots.decaying(graph, "first_moment", self.beta1, g)?;
        let square = graph.mul(g, g)?;
        let second = slots.decaying(graph, "second_moment", self.beta2, square)?;
        over_root(graph, first, second, self.epsilon)
    }

    /// The whole update in one pass over the memory; the result is the next weights.
    fn own_operators(
        &self,
        graph: &mut Graph,
        slots: &mut Slots<'_, '_>,
        (w, g): (Value, Value),
        shrink: Option<Value>,
    ) -> Result<Value, GraphError> {
        let first = slots.slot(graph, "first_moment")?;
        let second = slots.slot(graph, "second_moment")?;
        let shrink = shrink.unwrap_or_else(|| graph.scalar(Dtype::F32, 1.0));
        let outputs = vec![(Dtype::F32, graph.shape(w).to_vec()); 3];
        let inputs = [w, first, second, self.beta1, self.beta2, self.rate, self.epsilon, shrink, g];
        let next = graph.custom((DOMAIN, "AdamW"), &inputs, &[], &outputs)?;
        slots.declared.becomes(first, next[1]);
        slots.declared.becomes(second, next[2]);
        Ok(next[0])
    }
}

/// The optimizer's states that belong to a group.
struct Slots<'a, 'g> {
    declared: &'a mut Declared,
    group: &'a Group<'g>,
}

impl Slots<'_, '_> {
    fn slot(&mut self, graph: &mut Graph, name: &str) -> Result<Value, GraphError> {
        let pieces = layout::slot_of(self.group.pieces, name);
        self.declared.vector(graph, &format!("{}/{name}", self.group.name), pieces)
    }

    /// A slot that becomes `slot * kept + part`; the result is what it becomes.
    fn decaying(&mut self, graph: &mut Graph, name: &str, kept: Value, part: Value) -> Result<Value, GraphError> {
        let slot = self.slot(graph, name)?;
        let rest = graph.mul(slot, kept)?;
        let next = graph.add(rest, part)?;
        self.declared.becomes(slot, next);
        Ok(next)
    }
}

/// LAMB's step: with the pull of the weights, tensor by tensor times the norm of the weights over its own norm, or
/// times one where either is zero.
fn trusted(graph: &mut Graph, group: &Group<'_>, step: Value, decay: Option<Value>) -> Result<Value, GraphError> {
    let step = match decay {
        Some(decay) => {
            let pull = graph.mul(group.weights, decay)?;
            graph.add(step, pull)?
        }
        None => step,
    };
    let weights = layout::split_flat(graph, group.weights, group.pieces)?;
    let steps = layout::split_flat(graph, step, group.pieces)?;
    let mut scaled = Vec::with_capacity(steps.len());
    for (&weights, step) in weights.iter().zip(steps) {
        let (weight_norm, step_norm) = (norm(graph, &[weights])?, norm(graph, &[step])?);
        let zero = graph.scalar(Dtype::F32, 0.0);
        let one = graph.scalar(Dtype::F32, 1.0);
        let product = graph.mul(weight_norm, step_norm)?;
        let is_known = graph.greater(product, zero)?;
        let ratio = graph.div(weight_norm, step_norm)?;
        let trust = graph.node("Where", &[is_known, ratio, one], &[])?;
        scaled.push(graph.mul(step, trust)?);
    }
    layout::concat(graph, &scaled)
}

/// The joint Euclidean norm of vectors.
pub(super) fn norm(graph: &mut Graph, vectors: &[Value]) -> Result<Value, GraphError> {
    let mut total = None;
    for &vector in vectors {
        let square = graph.mul(vector, vector)?;
        let sum = graph.sum_all(square)?;
        total = Some(match total {
            Some(total) => graph.add(total, sum)?,
            None => sum,
        });
    }
    let total = total.unwrap_or_else(|| graph.scalar(Dtype::F32, 0.0));
    graph.sqrt(total)
}

/// `x / (sqrt(square) + epsilon)`.
fn over_root(graph: &mut Graph, x: Value, square: Value, epsilon: Value) -> Result<Value, GraphError> {
    let root = graph.sqrt(square)?;
    let divisor = graph.add(root, epsilon)?;
    graph.div(x, divisor)
}

/// `(1 - beta^t) / (1 - beta)`.
fn correction(graph: &mut Graph, beta: Value, updates: Value) -> Result<Value, GraphError> {
    let power = graph.pow(beta, updates)?;
    let above = complement(graph, power)?;
    let below = complement(graph, beta)?;
    graph.div(above, below)
}

/// `1 - x`.
fn complement(graph: &mut Graph, x: Value) -> Result<Value, GraphError> {
    let one = graph.scalar_like(x, 1.0);
    graph.sub(one, x)
}

fn single(graph: &mut Graph, x: Value) -> Result<Value, GraphError> {
    graph.cast(x, Dtype::F32)
}
