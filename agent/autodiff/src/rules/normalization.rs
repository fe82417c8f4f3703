//! Gradients of normalisations. Forms in lower case belong to composites that `lower` writes: many nodes that are
//! differentiated as one.

use super::{Flowing, Row, rule};
use crate::gradient::{Flow, GradientError};
use crate::graph::{Graph, GraphError, Value};
use crate::own;

pub(super) const ROWS: &[Row] = &[
    rule("LayerNormalization", layer, "s (g - mean(g) - n mean(g n)) with g = dy scale, s = InvStdDev; dy n; dy"),
    rule("standardization", standardization, "s (dy - mean(dy) - y mean(dy y)), s = 1 / sqrt(variance + epsilon)"),
    rule("root-mean-square", root_mean_square, "s (dy - y mean(dy y)), s = 1 / sqrt(mean(x^2) + epsilon)"),
    rule("affine-standardization", affine, "s scale (dy - mean(dy) - c s^2 mean(dy c)), c = x - mean(x); dy c s; dy"),
    rule(own::BATCH_NORMALIZATION, batch, "s scale (dy - mean(dy) - n mean(dy n)), n = (x - mean(x)) s; dy n; dy"),
];

/// The axes along which statistics of this shape were taken.
fn averaged_axes(graph: &Graph, x: Value, statistics: Value) -> Vec<usize> {
    let sizes = graph.shape(x).iter().zip(graph.shape(statistics));
    sizes.enumerate().filter(|(_, (size, kept))| size != kept).map(|(axis, _)| axis).collect()
}

/// `inverse * (dy - mean(dy) - normalized * mean(dy * normalized))`, without `mean(dy)` where `x` was not centred.
fn through_normalized(
    graph: &mut Graph,
    (dy, normalized, inverse): (Value, Value, Value),
    is_centred: bool,
) -> Result<Value, GraphError> {
    let axes = averaged_axes(graph, normalized, inverse);
    let product = graph.mul(dy, normalized)?;
    let slope = graph.mean_kept(product, &axes)?;
    let along = graph.mul(normalized, slope)?;
    let mut rest = graph.sub(dy, along)?;
    if is_centred {
        let mean = graph.mean_kept(dy, &axes)?;
        rest = graph.sub(rest, mean)?;
    }
    graph.mul(rest, inverse)
}

/// Operands: `x`, and the saved inverse of the standard deviation.
fn standardization(flow: &mut Flow<'_>) -> Flowing {
    let (dy, y, inverse) = (flow.dy()?, flow.y(), flow.x(1)?);
    Ok(vec![Some(through_normalized(flow.graph, (dy, y, inverse), true)?)])
}

/// Operands: `x`, and the saved inverse of the root of the mean square.
fn root_mean_square(flow: &mut Flow<'_>) -> Flowing {
    let (dy, y, inverse) = (flow.dy()?, flow.y(), flow.x(1)?);
    Ok(vec![Some(through_normalized(flow.graph, (dy, y, inverse), false)?)])
}

/// Operands: `x`, scale and bias (constant along the averaged axes), and saved: `x - mean`, the inverse of the
/// standard deviation, and its product with the scale.
fn affine(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x) = (flow.dy()?, flow.x(0)?);
    let (centred, inverse, gain) = (flow.x(3)?, flow.x(4)?, flow.x(5)?);
    let graph = &mut *flow.graph;
    let axes = averaged_axes(graph, x, inverse);
    #[expect(clippy::cast_precision_loss, reason = "a tensor has fewer than 2^52 elements")]
    let share = 1.0 / axes.iter().map(|&axis| graph.shape(x)[axis]).product::<usize>() as f64;
    let sum = graph.sum_kept(dy, &axes)?;
    let product = graph.mul(dy, centred)?;
    let projection = graph.sum_kept(product, &axes)?;
    let to_scale = graph.mul(projection, inverse)?;

    let mean = graph.scale(sum, share)?;
    let slope = graph.mul(to_scale, inverse)?;
    let slope = graph.scale(slope, share)?;
    let along = graph.mul(centred, slope)?;
    let off_mean = graph.sub(dy, mean)?;
    let rest = graph.sub(off_mean, along)?;
    let to_x = graph.mul(rest, gain)?;
    Ok(vec![Some(to_x), Some(to_scale), Some(sum)])
}

/// Operands: `x`, scale and bias, and saved: the mean and the inverse of the standard deviation.
fn batch(flow: &mut Flow<'_>) -> Flowing {
    let operands = [flow.x(0)?, flow.x(1)?, flow.x(3)?, flow.x(4)?];
    let dy = flow.dy()?;
    Ok(own::batch_norm_gradient(flow.graph, dy, operands)?.map(Some).to_vec())
}

/// From the node's own optional outputs: the mean and the inverse of the standard deviation.
fn layer(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x, scale) = (flow.dy()?, flow.x(0)?, flow.x(1)?);
    if flow.gradient(1).is_some() || flow.gradient(2).is_some() {
        return Err(flow.unsupported("a gradient reaches its statistics"));
    }
    let (mean, inverse) = layer_statistics(flow)?;
    let graph = &mut *flow.graph;
    if let Some(found) = own::layer_norm_gradient(graph, &flow.node, dy, (mean, inverse))? {
        return Ok(found.map(Some).to_vec());
    }
    let centred = graph.sub(x, mean)?;
    let normalized = graph.mul(centred, inverse)?;
    let scaled = graph.mul(dy, scale)?;
    let to_x = through_normalized(graph, (scaled, normalized, inverse), true)?;
    let to_scale = graph.mul(dy, normalized)?;
    Ok(vec![Some(to_x), Some(to_scale), Some(dy)])
}

fn layer_statistics(flow: &mut Flow<'_>) -> Result<(Value, Value), GradientError> {
    let x = flow.x(0)?;
    let outputs = flow.graph.extend_outputs(&flow.node, 3)?;
    let dtype = flow.graph.dtype(x);
    Ok((flow.graph.cast(outputs[1], dtype)?, flow.graph.cast(outputs[2], dtype)?))
}
