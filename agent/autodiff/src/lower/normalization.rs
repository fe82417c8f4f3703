//! Normalisations with statistics from sums: other reductions need cuDNN on CUDA, and the operators themselves give no
//! gradient there. Each is declared as one composite with a closed-form gradient.

use super::{Application, Lowered, Row, axis_attribute, row};
use crate::graph::{Graph, GraphError, LinearMap, Value, axis_position};
use crate::own;

pub(super) const ROWS: &[Row] = &[
    row("InstanceNormalization", 6, instance, "closed form affine-standardization over the spatial axes"),
    row("GroupNormalization", 18, group, "Reshape, closed form standardization, Mul, Add"),
    row("RMSNormalization", 23, root_mean_square, "closed form root-mean-square, Mul"),
    row("MeanVarianceNormalization", 9, mean_variance, "closed form standardization"),
    row("LpNormalization", 1, lp, "x / Sqrt(Max(ReduceSum(x^2), 1e-24)), or x / Max(ReduceSum(|x|), 1e-12)"),
    row("LRN", 13, local_response, "x (bias + alpha/size S)^-beta, the window's sum S of squares as a MatMul"),
];

/// A batch normalised by its own statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchNormalized {
    pub y: Value,
    /// The mean of each channel, `[C]`.
    pub mean: Value,
    /// The variance of each channel, `[C]`, as PyTorch keeps it among the running statistics: the unbiased one.
    pub variance: Value,
}

/// Training-mode batch normalisation of `x`, `[N, C, ...]`, with `scale` and `bias` of shape `[C]`.
///
/// The statistics are for the running averages: a gradient that reaches them is an error.
///
/// # Errors
/// The shapes do not fit.
pub fn batch_norm(
    graph: &mut Graph,
    x: Value,
    (scale, bias): (Value, Value),
    epsilon: f64,
) -> Result<BatchNormalized, GraphError> {
    let x = graph.widened(x)?;
    let shape = graph.shape(x).to_vec();
    let channels = channels_of(graph, x)?;
    if let Some(own::Normalized { y, mean, variance }) = own::batch_norm(graph, x, (scale, bias), epsilon)? {
        return Ok(BatchNormalized { y, mean, variance });
    }
    let axes: Vec<usize> = (0..shape.len()).filter(|&axis| axis != 1).collect();
    let scale = per_channel(graph, scale, channels, shape.len())?;
    let bias = per_channel(graph, bias, channels, shape.len())?;
    let normalized = affine_standardized(graph, x, (scale, bias), &axes, epsilon)?;
    let count: usize = axes.iter().map(|&axis| shape[axis]).product();
    #[expect(clippy::cast_precision_loss, reason = "a tensor has fewer than 2^52 elements")]
    let correction = count as f64 / count.saturating_sub(1).max(1) as f64;
    let unbiased = graph.scale(normalized.variance, correction)?;
    Ok(BatchNormalized {
        y: normalized.y,
        mean: graph.reshape(normalized.mean, &[channels])?,
        variance: graph.reshape(unbiased, &[channels])?,
    })
}

/// Batch normalisation of `x`, `[N, C, ...]`, by given statistics: a scale and a shift. All others have shape `[C]`.
///
/// # Errors
/// The shapes do not fit.
pub fn frozen_batch_norm(
    graph: &mut Graph,
    x: Value,
    (scale, bias): (Value, Value),
    (mean, variance): (Value, Value),
    epsilon: f64,
) -> Result<Value, GraphError> {
    let x = graph.widened(x)?;
    let rank = graph.shape(x).len();
    let channels = channels_of(graph, x)?;
    let inverse = inverse_root(graph, variance, epsilon)?;
    let gain = graph.mul(scale, inverse)?;
    let lost = graph.mul(mean, gain)?;
    let shift = graph.sub(bias, lost)?;
    let gain = per_channel(graph, gain, channels, rank)?;
    let shift = per_channel(graph, shift, channels, rank)?;
    let scaled = graph.mul(x, gain)?;
    graph.add(scaled, shift)
}

/// Instance normalisation of `x`, `[N, C, ...]`, with `scale` and `bias` of shape `[C]`.
///
/// # Errors
/// The shapes do not fit.
pub fn instance_norm(
    graph: &mut Graph,
    x: Value,
    (scale, bias): (Value, Value),
    epsilon: f64,
) -> Result<Value, GraphError> {
    let shape = graph.shape(x).to_vec();
    let channels = channels_of(graph, x)?;
    let flat = graph.reshape(x, &[shape[0], channels, shape[2..].iter().product()])?;
    let scale = per_channel(graph, scale, channels, 3)?;
    let bias = per_channel(graph, bias, channels, 3)?;
    let y = affine_standardized(graph, flat, (scale, bias), &[2], epsilon)?.y;
    graph.reshape(y, &shape)
}

/// Group normalisation of `x`, `[N, C, ...]`, with `scale` and `bias` of shape `[C]`, or of one number for each group.
///
/// # Errors
/// The shapes do not fit, or the groups do not divide the channels.
pub fn group_norm(
    graph: &mut Graph,
    x: Value,
    (scale, bias): (Value, Value),
    groups: usize,
    epsilon: f64,
) -> Result<Value, GraphError> {
    let shape = graph.shape(x).to_vec();
    let channels = channels_of(graph, x)?;
    if groups == 0 || channels % groups != 0 {
        return Err(invalid("GroupNormalization", format!("{groups} groups of {channels} channels")));
    }
    let spatial: usize = shape[2..].iter().product();
    let flat = graph.reshape(x, &[shape[0], groups, channels / groups * spatial])?;
    if graph.shape(scale) == [groups] && graph.shape(bias) == [groups] && groups != channels {
        let scale = per_channel(graph, scale, groups, 3)?;
        let bias = per_channel(graph, bias, groups, 3)?;
        let y = affine_standardized(graph, flat, (scale, bias), &[2], epsilon)?.y;
        return graph.reshape(y, &shape);
    }
    let normalized = standardized(graph, flat, &[2], epsilon)?;
    let normalized = graph.reshape(normalized, &shape)?;
    let scale = per_channel(graph, scale, channels, shape.len())?;
    let bias = per_channel(graph, bias, channels, shape.len())?;
    let scaled = graph.mul(normalized, scale)?;
    graph.add(scaled, bias)
}

/// `x` divided by the root of the mean of its squares over the axes from `axis` on, times `scale` of their shape.
///
/// # Errors
/// The shapes do not fit.
pub fn rms_norm(graph: &mut Graph, x: Value, scale: Value, axis: usize, epsilon: f64) -> Result<Value, GraphError> {
    let x = graph.widened(x)?;
    let axes: Vec<usize> = (axis..graph.shape(x).len()).collect();
    let first = graph.nodes().len();
    let square = graph.mul(x, x)?;
    let mean = graph.mean_kept(square, &axes)?;
    let inverse = inverse_root(graph, mean, epsilon)?;
    let normalized = graph.mul(x, inverse)?;
    graph.close("root-mean-square", first, (&[x], &[inverse]), normalized);
    graph.mul(normalized, scale)
}

struct Standardized {
    y: Value,
    mean: Value,
    /// The mean of the squared deviations.
    variance: Value,
}

/// `(x - mean) * scale / sqrt(variance + epsilon) + bias`, where scale and bias are constant along the axes.
fn affine_standardized(
    graph: &mut Graph,
    x: Value,
    (scale, bias): (Value, Value),
    axes: &[usize],
    epsilon: f64,
) -> Result<Standardized, GraphError> {
    let x = graph.widened(x)?;
    let first = graph.nodes().len();
    let (mean, centred, variance) = moments(graph, x, axes)?;
    let inverse = inverse_root(graph, variance, epsilon)?;
    let gain = graph.mul(inverse, scale)?;
    let scaled = graph.mul(centred, gain)?;
    let y = graph.add(scaled, bias)?;
    graph.close("affine-standardization", first, (&[x, scale, bias], &[centred, inverse, gain]), y);
    Ok(Standardized { y, mean, variance })
}

/// `(x - mean) / sqrt(variance + epsilon)`.
fn standardized(graph: &mut Graph, x: Value, axes: &[usize], epsilon: f64) -> Result<Value, GraphError> {
    let x = graph.widened(x)?;
    let first = graph.nodes().len();
    let (_, centred, variance) = moments(graph, x, axes)?;
    let inverse = inverse_root(graph, variance, epsilon)?;
    let y = graph.mul(centred, inverse)?;
    graph.close("standardization", first, (&[x], &[inverse]), y);
    Ok(y)
}

/// The mean, what is left of `x` without it, and the mean of the squares of that.
fn moments(graph: &mut Graph, x: Value, axes: &[usize]) -> Result<(Value, Value, Value), GraphError> {
    let mean = graph.mean_kept(x, axes)?;
    let centred = graph.sub(x, mean)?;
    let square = graph.mul(centred, centred)?;
    let variance = graph.mean_kept(square, axes)?;
    Ok((mean, centred, variance))
}

fn inverse_root(graph: &mut Graph, value: Value, epsilon: f64) -> Result<Value, GraphError> {
    let shifted = graph.shift(value, epsilon)?;
    let root = graph.sqrt(shifted)?;
    graph.reciprocal(root)
}

fn channels_of(graph: &Graph, x: Value) -> Result<usize, GraphError> {
    let channels = graph.shape(x).get(1).copied();
    channels.ok_or_else(|| invalid("a normalisation of channels", graph.info(x).to_string()))
}

/// A vector of one number for each channel, shaped to broadcast along axis 1.
fn per_channel(graph: &mut Graph, vector: Value, channels: usize, rank: usize) -> Result<Value, GraphError> {
    if graph.shape(vector) != [channels] {
        return Err(invalid("a normalisation of channels", format!("{}, {channels} channels", graph.info(vector))));
    }
    let mut shape = vec![1; rank];
    shape[1] = channels;
    graph.reshape(vector, &shape)
}

fn invalid(op: &str, reason: String) -> GraphError {
    GraphError::InvalidOperands { op: op.into(), reason }
}

fn instance(graph: &mut Graph, application: &Application<'_>) -> Lowered {
    let (x, affine) = (application.x(0)?, (application.x(1)?, application.x(2)?));
    Ok(vec![Some(instance_norm(graph, x, affine, application.node.float("epsilon", 1e-5))?)])
}

fn group(graph: &mut Graph, application: &Application<'_>) -> Lowered {
    let (x, affine) = (application.x(0)?, (application.x(1)?, application.x(2)?));
    let (groups, epsilon) = (application.size("num_groups")?, application.node.float("epsilon", 1e-5));
    Ok(vec![Some(group_norm(graph, x, affine, groups, epsilon)?)])
}

fn root_mean_square(graph: &mut Graph, application: &Application<'_>) -> Lowered {
    let (x, scale) = (application.x(0)?, application.x(1)?);
    let axis = axis_attribute(graph, application, -1, x)?;
    Ok(vec![Some(rms_norm(graph, x, scale, axis, application.node.float("epsilon", 1e-5))?)])
}

/// The operator adds 1e-9 to the standard deviation, which for a constant slice is adding its square to the variance.
fn mean_variance(graph: &mut Graph, application: &Application<'_>) -> Lowered {
    let x = application.x(0)?;
    let rank = graph.shape(x).len();
    let axes: Option<Vec<usize>> =
        application.node.ints("axes").unwrap_or(&[0, 2, 3]).iter().map(|&axis| axis_position(axis, rank)).collect();
    let axes = axes.ok_or_else(|| application.invalid("it has no such axes"))?;
    Ok(vec![Some(standardized(graph, x, &axes, 1e-18)?)])
}

/// A slice of zeros stays zero, with a finite gradient.
fn lp(graph: &mut Graph, application: &Application<'_>) -> Lowered {
    let x = application.x(0)?;
    let axis = axis_attribute(graph, application, -1, x)?;
    let norm = match application.node.int("p", 2) {
        1 => {
            let magnitude = graph.abs(x)?;
            let sum = graph.sum_kept(magnitude, &[axis])?;
            let least = graph.scalar_like(x, 1e-12);
            graph.max(sum, least)?
        }
        2 => {
            let square = graph.mul(x, x)?;
            let sum = graph.sum_kept(square, &[axis])?;
            let least = graph.scalar_like(x, 1e-24);
            let positive = graph.max(sum, least)?;
            graph.sqrt(positive)?
        }
        _ => return Err(application.invalid("p must be 1 or 2")),
    };
    Ok(vec![Some(graph.div(x, norm)?)])
}

/// Each channel's window is a row of a constant band matrix of channels by channels.
fn local_response(graph: &mut Graph, application: &Application<'_>) -> Lowered {
    let (x, size) = (application.x(0)?, application.size("size")?);
    let node = application.node;
    let (alpha, beta, bias) = (node.float("alpha", 1e-4), node.float("beta", 0.75), node.float("bias", 1.0));
    let channels = channels_of(graph, x)?;
    let (before, after) = ((size - 1) / 2, size / 2);
    #[expect(clippy::cast_precision_loss, reason = "a window has fewer than 2^52 channels")]
    let weight = alpha / size as f64;
    let window = |to: usize| to.saturating_sub(before)..channels.min(to.saturating_add(after).saturating_add(1));
    let shares = (0..channels).flat_map(|to| window(to).map(move |from| (to, from, weight)));
    let band = LinearMap::new(channels, channels, shares);
    if let Some(reason) = band.refusal() {
        return Err(application.invalid(&reason));
    }
    let square = graph.mul(x, x)?;
    let sums = graph.along_axis(square, 1, &band)?;
    let total = graph.shift(sums, bias)?;
    let exponent = graph.scalar_like(x, -beta);
    let divisor = graph.pow(total, exponent)?;
    Ok(vec![Some(graph.mul(x, divisor)?)])
}
