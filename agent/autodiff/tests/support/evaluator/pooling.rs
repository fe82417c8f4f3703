//! Poolings, by their definition.

use regatta_autodiff::graph::Node;

use super::convolution::{pads, sizes};
use super::{Tensor, coordinates, position};

/// `None` where the operator belongs to another family.
pub fn apply(node: &Node, operands: &[Option<Tensor>]) -> Option<Vec<Tensor>> {
    let x = operands.first()?.as_ref()?;
    match node.op.as_str() {
        "MaxPool" => Some(max_pool(node, x)),
        "AveragePool" => Some(vec![average_pool(node, x)]),
        "GlobalMaxPool" => Some(vec![global(x, |a| a.iter().copied().fold(f64::NEG_INFINITY, f64::max))]),
        "GlobalAveragePool" => Some(vec![global(x, |a| a.iter().sum::<f64>() / a.len() as f64)]),
        _ => None,
    }
}

fn global(x: &Tensor, function: impl Fn(&[f64]) -> f64) -> Tensor {
    let shape: Vec<usize> = x.shape.iter().enumerate().map(|(axis, &size)| if axis < 2 { size } else { 1 }).collect();
    let area = x.shape[2..].iter().product();
    Tensor::floats(&shape, x.as_floats().chunks(area).map(function).collect())
}

/// For each window the flat positions of its elements, and how many places it has with the padding.
fn windows(node: &Node, x: &Tensor) -> (Vec<usize>, Vec<(Vec<usize>, usize)>) {
    let kernel: Vec<usize> = node.ints("kernel_shape").expect("a kernel").iter().map(|&size| size as usize).collect();
    let rank = kernel.len();
    let (strides, dilations) = (sizes(node, "strides", rank, 1), sizes(node, "dilations", rank, 1));
    let pads = pads(node, &x.shape[2..], &kernel);
    let mut shape = x.shape[..2].to_vec();
    for axis in 0..rank {
        let size = x.shape[axis + 2] as i64;
        let room = size + pads[axis] + pads[axis + rank] - (kernel[axis] as i64 - 1) * dilations[axis] - 1;
        let mut count = room / strides[axis] + 1;
        if node.int("ceil_mode", 0) != 0 && room % strides[axis] != 0 && count * strides[axis] < size + pads[axis] {
            count += 1;
        }
        shape.push(count as usize);
    }
    let window = |at: usize| {
        let to = coordinates(at, &shape);
        let (mut elements, mut padded) = (Vec::new(), 0);
        for under in 0..kernel.iter().product() {
            let element = coordinates(under, &kernel);
            let place =
                |axis: usize| to[axis + 2] as i64 * strides[axis] + element[axis] as i64 * dilations[axis] - pads[axis];
            let size = |axis: usize| x.shape[axis + 2] as i64;
            if (0..rank).all(|axis| place(axis) < size(axis) + pads[axis + rank]) {
                padded += 1;
            }
            if (0..rank).all(|axis| (0..size(axis)).contains(&place(axis))) {
                let places: Vec<usize> = (0..rank).map(|axis| place(axis) as usize).collect();
                elements.push(position(&[&to[..2], places.as_slice()].concat(), &x.shape));
            }
        }
        (elements, padded)
    };
    let all = (0..shape.iter().product()).map(window).collect();
    (shape, all)
}

fn max_pool(node: &Node, x: &Tensor) -> Vec<Tensor> {
    let (shape, windows) = windows(node, x);
    let greatest = |elements: &[usize]| {
        let mut best = elements[0];
        for &at in elements {
            if x.as_floats()[at] > x.as_floats()[best] {
                best = at;
            }
        }
        best
    };
    let best: Vec<usize> = windows.iter().map(|(elements, _)| greatest(elements)).collect();
    let maxima = best.iter().map(|&at| x.as_floats()[at]).collect();
    vec![Tensor::floats(&shape, maxima), Tensor::ints(&shape, best.iter().map(|&at| at as i64).collect())]
}

fn average_pool(node: &Node, x: &Tensor) -> Tensor {
    let (shape, windows) = windows(node, x);
    let average = |(elements, padded): &(Vec<usize>, usize)| {
        let count = if node.int("count_include_pad", 0) != 0 { *padded } else { elements.len() };
        elements.iter().map(|&at| x.as_floats()[at]).sum::<f64>() / count as f64
    };
    Tensor::floats(&shape, windows.iter().map(average).collect())
}
