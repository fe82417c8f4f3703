//! Layers that the families are made of. Unless a layer says otherwise, its parameters begin as PyTorch's do.

use super::{Forward, Initial, Mode};
use crate::graph::{Attribute, Dtype, Graph, GraphError, Value};
use crate::lower;

/// What is added to a variance before its root is taken.
const EPSILON: f64 = 1e-5;

/// The share of a batch's statistics in the running ones.
const MOMENTUM: f64 = 0.1;

/// The most groups that channels are normalised in (Wu and He, 2018), and the fewest channels of one.
const GROUPS_MAX: usize = 32;
const GROUP_CHANNELS_MIN: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    Relu,
    Tanh,
    Sigmoid,
    /// The exact form, with the error function.
    Gelu,
    Silu,
    /// With a slope of 0.01 below zero.
    LeakyRelu,
    Elu,
    HardSwish,
    Mish,
}

/// What brings the activations of a layer to one scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    None,
    /// By the batch while training, by running statistics while evaluating.
    Batch,
    /// In at most 32 groups of at least four channels.
    Group,
    /// All channels and positions of a row together; a scale and a shift for each channel.
    Layer,
}

/// What brings the numbers of a position to one scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PositionNorm {
    /// By their mean and variance; a scale and a shift for each number (Ba et al., 2016).
    Layer,
    /// By the root of their mean square; a scale for each number (Zhang and Sennrich, 2019).
    Rms,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    Max,
    Average,
}

/// A square convolution with padding that keeps the size at stride one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Convolution {
    pub outputs: usize,
    /// Odd.
    pub kernel: usize,
    pub stride: usize,
    pub bias: bool,
    /// Whether weights are normal by the outputs of a layer before a rectifier (He et al., 2015), as torchvision's
    /// residual nets begin, rather than uniform by its inputs.
    pub kaiming: bool,
}

impl Activation {
    pub(super) fn apply(self, graph: &mut Graph, x: Value) -> Result<Value, GraphError> {
        match self {
            Self::Relu => graph.relu(x),
            Self::Tanh => graph.tanh(x),
            Self::Sigmoid => graph.sigmoid(x),
            Self::Gelu => graph.gelu(x),
            Self::Silu => {
                let gate = graph.sigmoid(x)?;
                graph.mul(x, gate)
            }
            Self::LeakyRelu => graph.node("LeakyRelu", &[x], &[("alpha", Attribute::Float(0.01))]),
            Self::Elu => graph.node("Elu", &[x], &[("alpha", Attribute::Float(1.0))]),
            Self::HardSwish => {
                let slope = [("alpha", Attribute::Float(1.0 / 6.0)), ("beta", Attribute::Float(0.5))];
                let gate = graph.node("HardSigmoid", &[x], &slope)?;
                graph.mul(x, gate)
            }
            Self::Mish => {
                let grown = graph.softplus(x)?;
                let gate = graph.tanh(grown)?;
                graph.mul(x, gate)
            }
        }
    }

    /// Whether greater inputs never give smaller outputs: then the maximum may be taken before it.
    fn is_monotone(self) -> bool {
        match self {
            Self::Relu | Self::Tanh | Self::Sigmoid | Self::LeakyRelu | Self::Elu => true,
            Self::Gelu | Self::Silu | Self::HardSwish | Self::Mish => false,
        }
    }
}

/// The activation and then the pool. The maximum is taken first where that is the same: fewer elements are left, and a
/// rectifier makes no ties.
pub(super) fn activated_and_pooled(
    graph: &mut Graph,
    x: Value,
    activation: Activation,
    pool: Pool,
) -> Result<Value, GraphError> {
    if pool == Pool::Max && activation.is_monotone() {
        let pooled = halved(graph, x, pool)?;
        return activation.apply(graph, pooled);
    }
    let activated = activation.apply(graph, x)?;
    halved(graph, activated, pool)
}

/// Each pair along every axis after the channels becomes one; an odd last element is left out.
pub(super) fn halved(graph: &mut Graph, x: Value, pool: Pool) -> Result<Value, GraphError> {
    let window = Attribute::Ints(vec![2; graph.shape(x).len().saturating_sub(2)]);
    let op = match pool {
        Pool::Max => "MaxPool",
        Pool::Average => "AveragePool",
    };
    graph.node(op, &[x], &[("kernel_shape", window.clone()), ("strides", window)])
}

/// `x`, `[N, C, ...]`, averaged over all axes after the channels: `[N, C]`.
pub(super) fn averaged(graph: &mut Graph, x: Value) -> Result<Value, GraphError> {
    let shape = graph.shape(x).to_vec();
    let axes: Vec<usize> = (2..shape.len()).collect();
    let mean = graph.mean_kept(x, &axes)?;
    graph.reshape(mean, &shape[..2])
}

/// `x`, `[N, ...]`, as rows of a matrix.
pub(super) fn flattened(graph: &mut Graph, x: Value) -> Result<Value, GraphError> {
    let shape = graph.shape(x).to_vec();
    graph.reshape(x, &[shape[0], shape[1..].iter().product()])
}

/// `<name>.weight` (inputs x outputs) and `<name>.bias`, uniform within one over the square root of the inputs, for
/// `x` of rows x inputs.
pub(super) fn linear(context: &mut Forward<'_>, name: &str, x: Value, outputs: usize) -> Result<Value, GraphError> {
    let initial = uniform_by_inputs(columns(context.graph, x)?);
    linear_from(context, name, x, outputs, (initial.clone(), initial))
}

/// As [`linear`], with weight and bias beginning as told.
pub(super) fn linear_from(
    context: &mut Forward<'_>,
    name: &str,
    x: Value,
    outputs: usize,
    (weight, bias): (Initial, Initial),
) -> Result<Value, GraphError> {
    let inputs = columns(context.graph, x)?;
    let weight = context.parameter(&format!("{name}.weight"), &[inputs, outputs], weight)?;
    let bias = context.parameter(&format!("{name}.bias"), &[outputs], bias)?;
    context.graph.linear(x, weight, bias)
}

fn columns(graph: &Graph, x: Value) -> Result<usize, GraphError> {
    match graph.shape(x) {
        [_, columns] => Ok(*columns),
        _ => Err(GraphError::InvalidOperands { op: "a linear layer".into(), reason: graph.info(x).to_string() }),
    }
}

/// `<name>.weight` (outputs x inputs x kernel) and, where wanted, `<name>.bias`, for `x` of `[N, C, ...]`.
pub(super) fn convolved(
    context: &mut Forward<'_>,
    name: &str,
    x: Value,
    form: Convolution,
) -> Result<Value, GraphError> {
    let shape = context.graph.shape(x).to_vec();
    let [_, inputs, space @ ..] = shape.as_slice() else {
        let reason = context.graph.info(x).to_string();
        return Err(GraphError::InvalidOperands { op: "a convolution".into(), reason });
    };
    let window: usize = space.iter().map(|_| form.kernel).product();
    let weight_shape = [&[form.outputs, *inputs], vec![form.kernel; space.len()].as_slice()].concat();
    let initial = match form.kaiming {
        true => Initial::Normal { deviation: (2.0 / count(form.outputs * window)).sqrt() },
        false => uniform_by_inputs(inputs * window),
    };
    let mut operands = vec![x, context.parameter(&format!("{name}.weight"), &weight_shape, initial)?];
    if form.bias {
        let initial = uniform_by_inputs(inputs * window);
        operands.push(context.parameter(&format!("{name}.bias"), &[form.outputs], initial)?);
    }
    let ints = |number: usize, times: usize| {
        Attribute::Ints(vec![i64::try_from(number).expect("a kernel's size fits in an i64"); times])
    };
    let attributes = [
        ("kernel_shape", ints(form.kernel, space.len())),
        ("pads", ints(form.kernel / 2, 2 * space.len())),
        ("strides", ints(form.stride, space.len())),
    ];
    context.graph.node("Conv", &operands, &attributes)
}

/// Normalises `x`, `[N, C, ...]`. Parameters are `<name>.weight` (ones) and `<name>.bias` (zeros), running statistics
/// `<name>.running_mean` and `<name>.running_var`, all `[C]`.
pub(super) fn normalized(context: &mut Forward<'_>, name: &str, x: Value, norm: Norm) -> Result<Value, GraphError> {
    if norm == Norm::None || context.cut.has(name) {
        return Ok(x);
    }
    let channels = context.graph.shape(x).get(1).copied().unwrap_or_default();
    let scale = context.parameter(&format!("{name}.weight"), &[channels], Initial::Ones)?;
    let bias = context.parameter(&format!("{name}.bias"), &[channels], Initial::Zeros)?;
    match norm {
        Norm::None => Ok(x),
        Norm::Batch => batch_normalized(context, name, x, (scale, bias)),
        Norm::Group => lower::group_norm(context.graph, x, (scale, bias), groups_of(channels), EPSILON),
        Norm::Layer => lower::group_norm(context.graph, x, (scale, bias), 1, EPSILON),
    }
}

fn batch_normalized(
    context: &mut Forward<'_>,
    name: &str,
    x: Value,
    affine: (Value, Value),
) -> Result<Value, GraphError> {
    let channels = context.graph.shape(affine.0).to_vec();
    let mean = context.buffer(&format!("{name}.running_mean"), &channels, Initial::Zeros)?;
    let variance = context.buffer(&format!("{name}.running_var"), &channels, Initial::Ones)?;
    if context.mode == Mode::Evaluation {
        return lower::frozen_batch_norm(context.graph, x, affine, (mean, variance), EPSILON);
    }
    let normalized = lower::batch_norm(context.graph, x, affine, EPSILON)?;
    for (running, measured) in [(mean, normalized.mean), (variance, normalized.variance)] {
        let kept = context.graph.scale(running, 1.0 - MOMENTUM)?;
        let fresh = context.graph.scale(measured, MOMENTUM)?;
        let next = context.graph.add(kept, fresh)?;
        context.becomes(running, next);
    }
    Ok(normalized.y)
}

/// As many groups as divide the channels and keep to the bounds.
fn groups_of(channels: usize) -> usize {
    let fits = |groups: &usize| channels.is_multiple_of(*groups) && channels / groups >= GROUP_CHANNELS_MIN;
    (1..=GROUPS_MAX).rev().find(fits).unwrap_or(1)
}

/// Each row of `x`, rows x width, normalised; parameters as of [`normalized`], of which the root of the mean square has no bias.
pub(super) fn position_normalized(
    context: &mut Forward<'_>,
    name: &str,
    x: Value,
    norm: PositionNorm,
) -> Result<Value, GraphError> {
    if context.cut.has(name) {
        return Ok(x);
    }
    let width = columns(context.graph, x)?;
    let scale = context.parameter(&format!("{name}.weight"), &[width], Initial::Ones)?;
    match norm {
        PositionNorm::Layer => {
            let bias = context.parameter(&format!("{name}.bias"), &[width], Initial::Zeros)?;
            let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(EPSILON))];
            context.graph.node("LayerNormalization", &[x, scale, bias], &attributes)
        }
        PositionNorm::Rms => lower::rms_norm(context.graph, x, scale, 1, EPSILON),
    }
}

/// The rows of a table, `<name>.weight` (entries x width, normal), that `indices` (i64) name.
pub(super) fn embedded(
    context: &mut Forward<'_>,
    name: &str,
    indices: Value,
    (entries, width): (usize, usize),
    deviation: f64,
) -> Result<(Value, Value), GraphError> {
    debug_assert_eq!(context.graph.dtype(indices), Dtype::I64);
    let table = context.parameter(&format!("{name}.weight"), &[entries, width], Initial::Normal { deviation })?;
    Ok((context.graph.gather(table, indices)?, table))
}

/// Drops elements of `x` where the model has dropout at all.
pub(super) fn dropped(context: &mut Forward<'_>, x: Value, has_dropout: bool) -> Result<Value, GraphError> {
    if has_dropout && !context.cut.has("dropout") { context.dropped(x) } else { Ok(x) }
}

fn uniform_by_inputs(inputs: usize) -> Initial {
    Initial::Uniform { bound: 1.0 / count(inputs).sqrt() }
}

#[expect(clippy::cast_precision_loss, reason = "a layer has fewer than 2^52 inputs")]
pub(super) fn count(elements: usize) -> f64 {
    elements as f64
}
