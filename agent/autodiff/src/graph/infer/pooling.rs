//! Poolings.

use super::convolution::Windows;
use super::{Operands, Outputs, Rule};
use crate::graph::{Attribute, Dtype, Node};

pub(super) const ROWS: &[(&str, Rule)] = &[
    ("AveragePool", average_pool),
    ("MaxPool", max_pool),
    ("GlobalAveragePool", global_pool),
    ("GlobalMaxPool", global_pool),
];

/// The windows of a pooling over an image of batch, channels and spatial sizes.
pub(crate) fn pooling_windows(node: &Node, image: &[usize]) -> Option<Windows> {
    let kernel: Option<Vec<_>> = node.ints("kernel_shape")?.iter().map(|&size| usize::try_from(size).ok()).collect();
    Windows::of(node, image.get(2..).filter(|spatial| !spatial.is_empty())?, &kernel?)
}

/// Takes the padding at the end off a pooling whose last window would begin in it. That window does not count, but to
/// ONNX's own shape inference it does, and ONNX Runtime refuses what does not agree with that.
pub(crate) fn without_windows_in_padding(node: &mut Node, image: &[usize]) {
    if node.int("ceil_mode", 0) == 0 || node.text("auto_pad").is_some_and(|auto| auto != "NOTSET") {
        return;
    }
    let Some(windows) = pooling_windows(node, image) else { return };
    let needed = |axis: usize| {
        let last = windows.counts[axis].checked_sub(1)?.checked_mul(windows.strides[axis])?;
        last.checked_add(windows.reach(axis)?)?.checked_sub(image[2 + axis] + windows.before[axis])
    };
    let after = windows.after.iter().enumerate().map(|(axis, &after)| needed(axis).map_or(after, |pad| pad.min(after)));
    let pads = windows.before.iter().copied().chain(after).map(i64::try_from).collect::<Result<Vec<_>, _>>();
    if let Ok(pads) = pads {
        node.attributes.insert("pads".into(), Attribute::Ints(pads));
    }
}

fn average_pool(operands: &Operands<'_>) -> Outputs {
    let image = operands.shape(0)?;
    let windows = pooling_windows(operands.node, image).ok_or_else(|| operands.shapes_differ())?;
    Ok(vec![(operands.dtype(0)?, [&image[..2], windows.counts.as_slice()].concat())])
}

/// The greatest elements, then where they are in the flattened image.
fn max_pool(operands: &Operands<'_>) -> Outputs {
    let pooled = average_pool(operands)?.remove(0);
    let indices = (Dtype::I64, pooled.1.clone());
    Ok(vec![pooled, indices])
}

fn global_pool(operands: &Operands<'_>) -> Outputs {
    let mut shape = operands.shape(0)?.to_vec();
    if shape.len() < 3 || shape.contains(&0) {
        return Err(operands.shapes_differ());
    }
    shape[2..].fill(1);
    Ok(vec![(operands.dtype(0)?, shape)])
}
