//! Convolutions, and the windows that they and poolings move over their input.

use super::{Operands, Outputs, Rule};
use crate::graph::{GraphError, Node};

pub(super) const ROWS: &[(&str, Rule)] = &[("Conv", conv), ("ConvTranspose", conv_transpose)];

/// How windows lie over the spatial axes of an image: one entry an axis in each list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Windows {
    pub kernel: Vec<usize>,
    pub strides: Vec<usize>,
    pub dilations: Vec<usize>,
    /// How far the image is padded at its front.
    pub before: Vec<usize>,
    pub after: Vec<usize>,
    /// How many windows there are.
    pub counts: Vec<usize>,
}

impl Windows {
    /// The windows of a convolution or pooling over an image; `None` where the attributes do not fit.
    pub fn of(node: &Node, image: &[usize], kernel: &[usize]) -> Option<Self> {
        let mut windows = Self::unplaced(node, image.len(), kernel)?;
        let auto = node.text("auto_pad").unwrap_or("NOTSET");
        for (axis, &size) in image.iter().enumerate() {
            let (stride, reach) = (windows.strides[axis], windows.reach(axis)?);
            if let "SAME_UPPER" | "SAME_LOWER" = auto {
                let covered = size.div_ceil(stride).checked_sub(1)?.checked_mul(stride)?.checked_add(reach)?;
                windows.split_padding(axis, covered.saturating_sub(size), auto == "SAME_UPPER");
            }
            let padded = size.checked_add(windows.before[axis])?.checked_add(windows.after[axis])?;
            let room = padded.checked_sub(reach)?;
            let mut count = room / stride + 1;
            // Rounded up, a window that would begin in the padding at the end does not count.
            if node.int("ceil_mode", 0) != 0 {
                count = room.div_ceil(stride) + 1;
                count -= usize::from((count - 1).checked_mul(stride)? >= size + windows.before[axis]);
            }
            windows.counts.push(count);
        }
        Some(windows)
    }

    /// The windows that a transposed convolution of `counts` places writes to, and the size of its image.
    pub fn transposed(node: &Node, counts: &[usize], kernel: &[usize]) -> Option<(Self, Vec<usize>)> {
        let rank = counts.len();
        let mut windows = Self::unplaced(node, rank, kernel)?;
        let extra = sizes(node, "output_padding", rank, 0)?;
        let auto = node.text("auto_pad").unwrap_or("NOTSET");
        let given = match node.ints("output_shape") {
            Some(shape) => Some(shape.iter().map(|&size| usize::try_from(size).ok()).collect::<Option<Vec<_>>>()?),
            None if auto.starts_with("SAME") => {
                Some((0..rank).map(|axis| counts[axis].checked_mul(windows.strides[axis])).collect::<Option<_>>()?)
            }
            None => None,
        };
        let mut image = Vec::with_capacity(rank);
        for axis in 0..rank {
            let covered = counts[axis].checked_sub(1)?.checked_mul(windows.strides[axis])?;
            let covered = covered.checked_add(windows.reach(axis)?)?.checked_add(extra[axis])?;
            if let Some(given) = &given {
                windows.split_padding(axis, covered.checked_sub(*given.get(axis)?)?, auto != "SAME_LOWER");
            }
            image.push(covered.checked_sub(windows.before[axis].checked_add(windows.after[axis])?)?);
        }
        windows.counts = counts.to_vec();
        Some((windows, image))
    }

    fn unplaced(node: &Node, rank: usize, kernel: &[usize]) -> Option<Self> {
        let strides = sizes(node, "strides", rank, 1)?;
        let dilations = sizes(node, "dilations", rank, 1)?;
        let pads = match node.text("auto_pad").unwrap_or("NOTSET") {
            "NOTSET" => sizes(node, "pads", 2 * rank, 0)?,
            "VALID" | "SAME_UPPER" | "SAME_LOWER" => vec![0; 2 * rank],
            _ => return None,
        };
        let moves = kernel.len() == rank && kernel.iter().chain(&strides).chain(&dilations).all(|&size| size > 0);
        let (before, after) = pads.split_at(rank);
        moves.then(|| Self {
            kernel: kernel.to_vec(),
            strides,
            dilations,
            before: before.to_vec(),
            after: after.to_vec(),
            counts: Vec::new(),
        })
    }

    /// How many elements lie between the ends of a window along an axis, both included.
    pub fn reach(&self, axis: usize) -> Option<usize> {
        (self.kernel[axis] - 1).checked_mul(self.dilations[axis])?.checked_add(1)
    }

    fn split_padding(&mut self, axis: usize, total: usize, more_after: bool) {
        let (less, more) = (total / 2, total - total / 2);
        (self.before[axis], self.after[axis]) = if more_after { (less, more) } else { (more, less) };
    }

    /// Windows side by side that neither overlap nor leave anything out but at the end.
    pub fn are_blocks(&self) -> bool {
        let pads = self.before.iter().chain(&self.after);
        self.kernel == self.strides
            && self.dilations.iter().all(|&step| step == 1)
            && pads.into_iter().all(|&pad| pad == 0)
    }
}

/// A list attribute of numbers that are not negative.
fn sizes(node: &Node, attribute: &str, length: usize, default: usize) -> Option<Vec<usize>> {
    match node.ints(attribute) {
        None => Some(vec![default; length]),
        Some(ints) if ints.len() == length => ints.iter().map(|&int| usize::try_from(int).ok()).collect(),
        Some(_) => None,
    }
}

/// Image and kernel as batch or filters, channels, spatial sizes.
type Shapes<'a> = (&'a [usize], &'a [usize]);

/// The operands' shapes and the number of groups, where kernel and bias fit each other.
fn checked<'a>(operands: &'a Operands<'_>) -> Result<(Shapes<'a>, usize), GraphError> {
    let (image, kernel) = (operands.shape(0)?, operands.shape(1)?);
    let named = operands.node.ints("kernel_shape");
    let named = named.is_none_or(|named| {
        named.iter().map(|&size| usize::try_from(size).ok()).eq(kernel.iter().skip(2).map(|&size| Some(size)))
    });
    let groups = usize::try_from(operands.node.int("group", 1)).ok().filter(|&groups| groups > 0);
    match groups {
        Some(groups)
            if named
                && image.len() >= 3
                && kernel.len() == image.len()
                && operands.dtype(0)? == operands.dtype(1)? =>
        {
            Ok(((image, kernel), groups))
        }
        _ => Err(operands.shapes_differ()),
    }
}

fn check_bias(operands: &Operands<'_>, channels: usize) -> Result<(), GraphError> {
    if operands.is_given(2) && operands.shape(2)? != [channels] {
        return Err(operands.shapes_differ());
    }
    Ok(())
}

fn conv(operands: &Operands<'_>) -> Outputs {
    let ((image, kernel), groups) = checked(operands)?;
    let fits = kernel[1].checked_mul(groups) == Some(image[1]) && kernel[0].is_multiple_of(groups);
    let windows = Windows::of(operands.node, &image[2..], &kernel[2..]).filter(|_| fits);
    let windows = windows.ok_or_else(|| operands.shapes_differ())?;
    check_bias(operands, kernel[0])?;
    Ok(vec![(operands.dtype(0)?, [&[image[0], kernel[0]], windows.counts.as_slice()].concat())])
}

fn conv_transpose(operands: &Operands<'_>) -> Outputs {
    let ((response, kernel), groups) = checked(operands)?;
    let fits = kernel[0] == response[1] && kernel[0].is_multiple_of(groups);
    let placed = Windows::transposed(operands.node, &response[2..], &kernel[2..]).filter(|_| fits);
    let (channels, (_, image)) = kernel[1].checked_mul(groups).zip(placed).ok_or_else(|| operands.shapes_differ())?;
    check_bias(operands, channels)?;
    Ok(vec![(operands.dtype(0)?, [&[response[0], channels], image.as_slice()].concat())])
}
