//! Resampling along axes.

use super::movement::distinct_positions;
use super::{Operands, Outputs, Rule};
use crate::graph::{Elements, Graph, Node};

pub(super) const ROWS: &[(&str, Rule)] = &[("Resize", resize)];

/// The factor by which a `Resize` scales an axis, and the axis's new size, for every axis; `None` where the node is
/// not well formed or its scales or sizes are not constant.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "ONNX scales sizes in single precision"
)]
pub(crate) fn resized(graph: &Graph, node: &Node) -> Option<Vec<(f64, usize)>> {
    let operand = |position: usize| node.inputs.get(position).copied().flatten();
    let shape = graph.shape(operand(0)?);
    let axes = match node.ints("axes") {
        Some(axes) => distinct_positions(axes, shape.len())?,
        None => (0..shape.len()).collect(),
    };
    let scales = operand(2).filter(|&scales| graph.shape(scales) != [0]);
    let mut resized: Vec<_> = shape.iter().map(|&size| (1.0, size)).collect();
    let lengths = match (scales, operand(3)) {
        (Some(scales), None) => match &graph.constant_of(scales)?.elements {
            Elements::Float(scales) if scales.len() == axes.len() => axes
                .iter()
                .zip(scales)
                .map(|(&axis, &scale)| (scale, (shape[axis] as f32 * scale as f32).floor() as usize))
                .collect(),
            _ => return None,
        },
        (None, Some(sizes)) => {
            let sizes = graph.constant_ints(sizes).filter(|sizes| sizes.len() == axes.len())?;
            let length = |(&axis, &size): (&usize, &i64)| {
                let size = usize::try_from(size).ok()?;
                Some((size as f64 / shape[axis] as f64, size))
            };
            axes.iter().zip(sizes).map(length).collect::<Option<Vec<_>>>()?
        }
        _ => return None,
    };
    for (&axis, (scale, size)) in axes.iter().zip(lengths) {
        if !(scale.is_finite() && scale > 0.0 && size > 0) {
            return None;
        }
        resized[axis] = (scale, size);
    }
    Some(resized)
}

fn resize(operands: &Operands<'_>) -> Outputs {
    let resized = resized(operands.graph, operands.node).ok_or_else(|| operands.shapes_differ())?;
    let stretched = operands.node.text("keep_aspect_ratio_policy").is_none_or(|policy| policy == "stretch");
    if !stretched {
        return Err(operands.invalid("only the policy \"stretch\" is supported".into()));
    }
    Ok(vec![(operands.dtype(0)?, resized.into_iter().map(|(_, size)| size).collect())])
}
