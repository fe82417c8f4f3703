//! Softmax cross-entropy. Each position's own class is picked by its place in the flat tensor, so that no one-hot
//! tensor as large as the output is made: vocabularies may be large.

use super::{BatchLoss, CrossEntropy, Settings, SummedLoss, misfit, needed, share};
use crate::graph::{Attribute, Dtype, Graph, GraphError, Value};

const NAME: &str = "cross-entropy";

/// The smallest divisor: where nothing counts, zero is divided by it.
const LEAST_WEIGHT: f64 = 1e-30;

pub(super) fn batch(
    graph: &mut Graph,
    form: &CrossEntropy,
    settings: Settings,
    output: Value,
    target: Value,
) -> Result<BatchLoss, GraphError> {
    let positions = Positions::of(graph, form, settings, output, target, None)?;
    let sums = positions.sums(graph)?;
    let inverse = match positions.weight {
        None => None,
        Some(weight) => {
            let sum = graph.sum_all(weight)?;
            let least = graph.scalar_like(sum, LEAST_WEIGHT);
            let divisor = graph.max(sum, least)?;
            Some(graph.reciprocal(divisor)?)
        }
    };
    let loss = match inverse {
        None => graph.scale(sums.loss, share(positions.count))?,
        Some(inverse) => graph.mul(sums.loss, inverse)?,
    };
    let gradient = positions.gradient(graph, inverse)?;
    let shape = graph.shape(output).to_vec();
    let gradient = graph.reshape(gradient, &shape)?;
    let counted = if form.ignored.is_some() { positions.counted(graph)? } else { None };
    Ok(BatchLoss { loss, gradient, correct: Some(sums.correct), counted })
}

pub(super) fn summed(
    graph: &mut Graph,
    form: &CrossEntropy,
    settings: Settings,
    output: Value,
    (target, row_weights): (Value, Value),
) -> Result<SummedLoss, GraphError> {
    let positions = Positions::of(graph, form, settings, output, target, Some(row_weights))?;
    let sums = positions.sums(graph)?;
    let counted = positions.counted(graph)?.ok_or_else(|| misfit(NAME, "no row has a weight".into()))?;
    let weight = match positions.weight {
        Some(weight) if form.weighted => graph.sum_all(weight)?,
        _ => counted,
    };
    Ok(SummedLoss { loss: sums.loss, weight, correct: Some(sums.correct), counted })
}

/// The positions that are classified, seen as one axis before the classes and, where the classes are not last, one
/// after: `[outer, C]` or `[outer, C, inner]`. Values of a position have that shape with one class.
struct Positions {
    log_probability: Value,
    logits: Value,
    /// The target, with a class also where a position does not count.
    target: Value,
    /// The place of each position's own class in the flat logits, `[positions]`.
    places: Value,
    /// How often a position counts; `None`: once.
    presence: Option<Value>,
    /// The presence times the weight of the position's class; `None`: one.
    weight: Option<Value>,
    class_weights: Option<Value>,
    smoothing: Option<Value>,
    classes: usize,
    count: usize,
}

struct Sums {
    loss: Value,
    correct: Value,
}

/// Which axis of a batch's outputs the classes are, where its targets have the shape of the others.
fn class_axis(form: &CrossEntropy, output: &[usize], target: &[usize]) -> Option<usize> {
    let axis = 1 + form.axis.of(output.len().checked_sub(1)?)?;
    ([&output[..axis], &output[axis + 1..]].concat() == target).then_some(axis)
}

impl Positions {
    fn of(
        graph: &mut Graph,
        form: &CrossEntropy,
        settings: Settings,
        output: Value,
        target: Value,
        row_weights: Option<Value>,
    ) -> Result<Self, GraphError> {
        let (shape, target_shape) = (graph.shape(output).to_vec(), graph.shape(target).to_vec());
        let axis = class_axis(form, &shape, &target_shape)
            .ok_or_else(|| misfit(NAME, format!("{} for {}", graph.info(target), graph.info(output))))?;
        let (classes, outer) = (shape[axis], shape[..axis].iter().product::<usize>());
        let inner = shape[axis + 1..].iter().product::<usize>();
        let with_classes = |classes: usize| match axis + 1 == shape.len() {
            true => vec![outer, classes],
            false => vec![outer, classes, inner],
        };
        let logits = graph.reshape(output, &with_classes(classes))?;
        let log_probability = graph.node("LogSoftmax", &[logits], &[("axis", Attribute::Int(1))])?;
        let target = graph.reshape(target, &with_classes(1))?;
        let (target, mask) = masked(graph, form.ignored, target, graph.dtype(output))?;
        let rows = match row_weights {
            None => None,
            Some(weights) => {
                let column = [&[shape[0]][..], &vec![1; target_shape.len() - 1]].concat();
                let column = graph.reshape(weights, &column)?;
                let spread = graph.expand(column, &target_shape)?;
                Some(graph.reshape(spread, &with_classes(1))?)
            }
        };
        let presence = product(graph, mask, rows)?;
        let class_weights = match form.weighted {
            true => Some(needed(NAME, settings.class_weights, "the weights of the classes")?),
            false => None,
        };
        let own = class_weights.map(|weights| graph.gather(weights, target)).transpose()?;
        let weight = product(graph, presence, own)?;
        let smoothing = match form.smoothed {
            true => Some(needed(NAME, settings.smoothing, "the smoothing")?),
            false => None,
        };
        let places = places(graph, target, (outer, classes, inner))?;
        let count = outer * inner;
        Ok(Self { log_probability, logits, target, places, presence, weight, class_weights, smoothing, classes, count })
    }

    fn sums(&self, graph: &mut Graph) -> Result<Sums, GraphError> {
        let flat = graph.reshape(self.log_probability, &[self.count * self.classes])?;
        let picked = graph.gather(flat, self.places)?;
        let likelihood = self.weighted_sum(graph, picked, self.weight)?;
        let mut loss = graph.neg(likelihood)?;
        if let Some(smoothing) = self.smoothing {
            let one = graph.scalar_like(smoothing, 1.0);
            let kept = graph.sub(one, smoothing)?;
            let own = graph.mul(loss, kept)?;
            let all = self.sum_over_classes(graph)?;
            let spread = graph.scale(smoothing, -share(self.classes))?;
            let others = graph.mul(all, spread)?;
            loss = graph.add(own, others)?;
        }
        let attributes = [("axis", Attribute::Int(1)), ("keepdims", Attribute::Int(1))];
        let answer = graph.node("ArgMax", &[self.logits], &attributes)?;
        let right = graph.equal(answer, self.target)?;
        let hits = graph.cast(right, graph.dtype(self.logits))?;
        Ok(Sums { loss, correct: self.weighted_sum(graph, hits, self.presence)? })
    }

    /// The log-probabilities of all classes, each times its class's weight and its position's presence.
    fn sum_over_classes(&self, graph: &mut Graph) -> Result<Value, GraphError> {
        let mut all = self.log_probability;
        if let Some(weights) = self.class_weights {
            let weights = self.along_classes(graph, weights)?;
            all = graph.mul(all, weights)?;
        }
        if let Some(presence) = self.presence {
            all = graph.mul(all, presence)?;
        }
        graph.sum_all(all)
    }

    /// The gradient of the sum of the losses, times `scale` or, without one, divided by the number of positions:
    /// the probabilities of a position times what it counts in all, less what each class counts.
    fn gradient(&self, graph: &mut Graph, scale: Option<Value>) -> Result<Value, GraphError> {
        let dtype = graph.dtype(self.logits);
        let scale = scale.unwrap_or_else(|| graph.scalar(dtype, share(self.count)));
        let probability = graph.exp(self.log_probability)?;
        let mut own = scaled(graph, self.weight, scale)?;
        let mut total = own;
        let mut spread = None;
        if let Some(smoothing) = self.smoothing {
            let one = graph.scalar_like(smoothing, 1.0);
            let kept = graph.sub(one, smoothing)?;
            own = graph.mul(own, kept)?;
            let part = graph.scale(smoothing, share(self.classes))?;
            let part = graph.mul(part, scale)?;
            let each = scaled(graph, self.presence, part)?;
            let all = match self.class_weights {
                Some(weights) => graph.sum_all(weights)?,
                None => graph.scalar(dtype, 1.0 / share(self.classes)),
            };
            let together = graph.mul(each, all)?;
            total = graph.add(own, together)?;
            spread = Some(match self.class_weights {
                Some(weights) => {
                    let weights = self.along_classes(graph, weights)?;
                    graph.mul(each, weights)?
                }
                None => each,
            });
        }
        let mut gradient = graph.mul(probability, total)?;
        if let Some(spread) = spread {
            gradient = graph.sub(gradient, spread)?;
        }
        if graph.is_fused() {
            // A kernel asks of each element whether it is of its position's class.
            let numbers = graph.int_range(self.classes, 1);
            let numbers = self.along_classes(graph, numbers)?;
            let is_own = graph.equal(numbers, self.target)?;
            let taken = graph.cast(is_own, dtype)?;
            let taken = graph.mul(taken, own)?;
            return graph.sub(gradient, taken);
        }
        let shape = graph.shape(gradient).to_vec();
        let flat = graph.reshape(gradient, &[self.count * self.classes])?;
        let lost = graph.neg(own)?;
        let lost = match graph.shape(lost).is_empty() {
            true => graph.expand(lost, &[self.count])?,
            false => graph.reshape(lost, &[self.count])?,
        };
        let column = graph.reshape(self.places, &[self.count, 1])?;
        let flat = graph.scatter_add(flat, column, lost)?;
        graph.reshape(flat, &shape)
    }

    fn counted(&self, graph: &mut Graph) -> Result<Option<Value>, GraphError> {
        self.presence.map(|presence| graph.sum_all(presence)).transpose()
    }

    fn along_classes(&self, graph: &mut Graph, weights: Value) -> Result<Value, GraphError> {
        let mut shape = vec![1; graph.shape(self.logits).len()];
        shape[1] = self.classes;
        graph.reshape(weights, &shape)
    }

    /// The sum over positions, each times its weight where there is one.
    fn weighted_sum(&self, graph: &mut Graph, values: Value, weights: Option<Value>) -> Result<Value, GraphError> {
        let Some(weights) = weights else { return graph.sum_all(values) };
        let shape = graph.shape(weights).to_vec();
        let values = graph.reshape(values, &shape)?;
        let weighted = graph.mul(values, weights)?;
        graph.sum_all(weighted)
    }
}

/// The target with class zero where it is ignored, and a mask that is zero there and one elsewhere.
fn masked(
    graph: &mut Graph,
    ignored: Option<i64>,
    target: Value,
    dtype: Dtype,
) -> Result<(Value, Option<Value>), GraphError> {
    let Some(ignored) = ignored else { return Ok((target, None)) };
    let ignored = graph.int_scalar(ignored);
    let absent = graph.equal(target, ignored)?;
    let present = graph.node("Not", &[absent], &[])?;
    let number = graph.cast(present, Dtype::I64)?;
    Ok((graph.mul(target, number)?, Some(graph.cast(present, dtype)?)))
}

/// `(row * classes + class) * inner + column` for each position.
fn places(
    graph: &mut Graph,
    target: Value,
    (outer, classes, inner): (usize, usize, usize),
) -> Result<Value, GraphError> {
    let rank = graph.shape(target).len();
    let starts = graph.int_range(outer, classes * inner);
    let starts = graph.reshape(starts, &[&[outer][..], &vec![1; rank - 1]].concat())?;
    let mut places = graph.scale_int(target, inner)?;
    places = graph.add(places, starts)?;
    if inner > 1 {
        let columns = graph.int_range(inner, 1);
        places = graph.add(places, columns)?;
    }
    graph.reshape(places, &[outer * inner])
}

fn product(graph: &mut Graph, left: Option<Value>, right: Option<Value>) -> Result<Option<Value>, GraphError> {
    match (left, right) {
        (Some(left), Some(right)) => Ok(Some(graph.mul(left, right)?)),
        (one, other) => Ok(one.or(other)),
    }
}

/// The weights times a scalar; the scalar itself where there are none.
fn scaled(graph: &mut Graph, weights: Option<Value>, scale: Value) -> Result<Value, GraphError> {
    match weights {
        Some(weights) => graph.mul(weights, scale),
        None => Ok(scale),
    }
}
