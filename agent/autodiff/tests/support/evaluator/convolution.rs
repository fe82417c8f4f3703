//! Convolutions, by their definition: a loop over everything.

use regatta_autodiff::graph::Node;

use super::{Tensor, coordinates, position};

/// `None` where the operator belongs to another family.
pub fn apply(node: &Node, operands: &[Option<Tensor>]) -> Option<Vec<Tensor>> {
    let operand = |at: usize| operands.get(at).and_then(Option::as_ref);
    let output = match node.op.as_str() {
        "Conv" => conv(node, operand(0)?, operand(1)?, operand(2)),
        "ConvTranspose" => conv_transpose(node, operand(0)?, operand(1)?, operand(2)),
        _ => return None,
    };
    Some(vec![output])
}

pub fn sizes(node: &Node, attribute: &str, length: usize, default: i64) -> Vec<i64> {
    node.ints(attribute).map_or_else(|| vec![default; length], <[i64]>::to_vec)
}

/// Pads before and after each axis, of which `auto_pad` chooses those that are the same for a stride of one.
pub fn pads(node: &Node, image: &[usize], kernel: &[usize]) -> Vec<i64> {
    let rank = image.len();
    let auto = node.text("auto_pad").unwrap_or("NOTSET");
    if !auto.starts_with("SAME") {
        return sizes(node, "pads", 2 * rank, 0);
    }
    let (strides, dilations) = (sizes(node, "strides", rank, 1), sizes(node, "dilations", rank, 1));
    let mut pads = vec![0; 2 * rank];
    for axis in 0..rank {
        let places = (image[axis] as i64 + strides[axis] - 1) / strides[axis];
        let total = ((places - 1) * strides[axis] + (kernel[axis] as i64 - 1) * dilations[axis] + 1
            - image[axis] as i64)
            .max(0);
        let before = if auto == "SAME_UPPER" { total / 2 } else { (total + 1) / 2 };
        (pads[axis], pads[axis + rank]) = (before, total - before);
    }
    pads
}

fn with_bias(mut y: Tensor, bias: Option<&Tensor>) -> Tensor {
    if let Some(bias) = bias {
        let numbers = y.as_floats().iter().enumerate();
        let sums = numbers.map(|(at, number)| number + bias.as_floats()[coordinates(at, &y.shape)[1]]).collect();
        y = Tensor::floats(&y.shape, sums);
    }
    y
}

fn conv(node: &Node, x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Tensor {
    let rank = x.shape.len() - 2;
    let (strides, dilations) = (sizes(node, "strides", rank, 1), sizes(node, "dilations", rank, 1));
    let pads = pads(node, &x.shape[2..], &w.shape[2..]);
    let filters = w.shape[0] / node.int("group", 1) as usize;
    let mut shape = vec![x.shape[0], w.shape[0]];
    for axis in 0..rank {
        let reach = (w.shape[axis + 2] as i64 - 1) * dilations[axis] + 1;
        let room = x.shape[axis + 2] as i64 + pads[axis] + pads[axis + rank] - reach;
        shape.push((room / strides[axis] + 1) as usize);
    }
    let mut numbers = vec![0.0; shape.iter().product()];
    for (at, sum) in numbers.iter_mut().enumerate() {
        let to = coordinates(at, &shape);
        for under in 0..w.shape[1..].iter().product() {
            let element = coordinates(under, &w.shape[1..]);
            let channel = to[1] / filters * w.shape[1] + element[0];
            let place = |axis: usize| {
                let place =
                    to[axis + 2] as i64 * strides[axis] + element[axis + 1] as i64 * dilations[axis] - pads[axis];
                usize::try_from(place).ok().filter(|&place| place < x.shape[axis + 2])
            };
            let Some(places) = (0..rank).map(place).collect::<Option<Vec<_>>>() else { continue };
            let from = [&[to[0], channel], places.as_slice()].concat();
            let weight = w.as_floats()[to[1] * w.shape[1..].iter().product::<usize>() + under];
            *sum += weight * x.as_floats()[position(&from, &x.shape)];
        }
    }
    with_bias(Tensor::floats(&shape, numbers), bias)
}

fn conv_transpose(node: &Node, x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Tensor {
    let rank = x.shape.len() - 2;
    let (strides, dilations) = (sizes(node, "strides", rank, 1), sizes(node, "dilations", rank, 1));
    let (pads, extra) = (sizes(node, "pads", 2 * rank, 0), sizes(node, "output_padding", rank, 0));
    let groups = node.int("group", 1) as usize;
    let mut shape = vec![x.shape[0], w.shape[1] * groups];
    for axis in 0..rank {
        let reach = (w.shape[axis + 2] as i64 - 1) * dilations[axis] + 1;
        let covered = (x.shape[axis + 2] as i64 - 1) * strides[axis] + reach + extra[axis];
        shape.push((covered - pads[axis] - pads[axis + rank]) as usize);
    }
    let mut numbers = vec![0.0; shape.iter().product()];
    for (at, number) in x.as_floats().iter().enumerate() {
        let from = coordinates(at, &x.shape);
        for over in 0..w.shape[1..].iter().product() {
            let element = coordinates(over, &w.shape[1..]);
            let channel = from[1] / (x.shape[1] / groups) * w.shape[1] + element[0];
            let place = |axis: usize| {
                let place =
                    from[axis + 2] as i64 * strides[axis] + element[axis + 1] as i64 * dilations[axis] - pads[axis];
                usize::try_from(place).ok().filter(|&place| place < shape[axis + 2])
            };
            let Some(places) = (0..rank).map(place).collect::<Option<Vec<_>>>() else { continue };
            let to = [&[from[0], channel], places.as_slice()].concat();
            let weight = w.as_floats()[from[1] * w.shape[1..].iter().product::<usize>() + over];
            numbers[position(&to, &shape)] += weight * number;
        }
    }
    with_bias(Tensor::floats(&shape, numbers), bias)
}
