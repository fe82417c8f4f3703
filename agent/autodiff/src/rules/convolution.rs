//! Gradients of convolutions. One `Windows` describes a convolution and the transposed convolution that undoes it:
//! what flows to the one's image is the other.

mod weight;

use super::{Flowing, Kernel, Row, rule};
use crate::gradient::Flow;
use crate::graph::{Attribute, Graph, GraphError, Value, Windows};
use crate::own;

pub(super) const ROWS: &[Row] = &[
    rule("Conv", conv, "ConvTranspose(dy, w); the products of x and dy under each element of w; sum(dy)")
        .cuda(Kernel::CuDnn),
    rule("ConvTranspose", conv_transpose, "Conv(dy, w); the products of dy and x under each element of w; sum(dy)")
        .cuda(Kernel::CuDnn),
];

fn conv(flow: &mut Flow<'_>) -> Flowing {
    let (dy, image, kernel) = (flow.dy()?, flow.x(0)?, flow.x(1)?);
    let (image_shape, kernel_shape) = (flow.graph.shape(image).to_vec(), flow.graph.shape(kernel).to_vec());
    let windows = Windows::of(&flow.node, &image_shape[2..], &kernel_shape[2..]);
    let windows = windows.ok_or_else(|| flow.unsupported("its windows do not fit"))?;
    if let Some((to_image, to_kernel)) = own::convolution_gradients(flow.graph, &flow.node, dy)? {
        return Ok(vec![Some(to_image), Some(to_kernel), Some(to_bias(flow.graph, dy)?)]);
    }
    let groups = flow.node.int("group", 1);
    let graph = &mut *flow.graph;
    let to_image = transposed(graph, dy, kernel, &windows, groups, &image_shape[2..])?;
    let to_kernel = weight::gradient(graph, (image, dy), &windows, &kernel_shape)?;
    Ok(vec![Some(to_image), Some(to_kernel), Some(to_bias(graph, dy)?)])
}

fn conv_transpose(flow: &mut Flow<'_>) -> Flowing {
    let (dy, response, kernel) = (flow.dy()?, flow.x(0)?, flow.x(1)?);
    let (shape, kernel_shape) = (flow.graph.shape(response).to_vec(), flow.graph.shape(kernel).to_vec());
    let placed = Windows::transposed(&flow.node, &shape[2..], &kernel_shape[2..]);
    let (windows, _) = placed.ok_or_else(|| flow.unsupported("its windows do not fit"))?;
    let groups = flow.node.int("group", 1);
    let graph = &mut *flow.graph;
    let all = graph.node("Conv", &[dy, kernel], &attributes(&windows, groups))?;
    let wanted: Vec<_> = shape.iter().map(|&size| (0, size)).collect();
    let to_response = graph.window(all, &wanted)?;
    let to_kernel = weight::gradient(graph, (dy, response), &windows, &kernel_shape)?;
    Ok(vec![Some(to_response), Some(to_kernel), Some(to_bias(graph, dy)?)])
}

/// The transposed convolution that gives an image of the wanted spatial size.
fn transposed(
    graph: &mut Graph,
    response: Value,
    kernel: Value,
    windows: &Windows,
    groups: i64,
    image: &[usize],
) -> Result<Value, GraphError> {
    let mut attributes = attributes(windows, groups);
    let rest = |axis: usize| {
        let reach = windows.reach(axis).expect("windows that fit an image reach less than its size");
        let covered = (windows.counts[axis] - 1) * windows.strides[axis] + reach;
        image[axis] + windows.before[axis] + windows.after[axis] - covered
    };
    attributes.push(("output_padding", Attribute::Ints(ints((0..image.len()).map(rest)))));
    graph.node("ConvTranspose", &[response, kernel], &attributes)
}

fn attributes(windows: &Windows, groups: i64) -> Vec<(&'static str, Attribute)> {
    let list = |sizes: &[usize]| Attribute::Ints(ints(sizes.iter().copied()));
    vec![
        ("kernel_shape", list(&windows.kernel)),
        ("strides", list(&windows.strides)),
        ("dilations", list(&windows.dilations)),
        ("pads", Attribute::Ints(ints(windows.before.iter().chain(&windows.after).copied()))),
        ("group", Attribute::Int(groups)),
    ]
}

fn ints(sizes: impl Iterator<Item = usize>) -> Vec<i64> {
    sizes.map(|size| i64::try_from(size).expect("a size fits in an i64")).collect()
}

fn to_bias(graph: &mut Graph, dy: Value) -> Result<Value, GraphError> {
    let axes: Vec<usize> = (0..graph.shape(dy).len()).filter(|&axis| axis != 1).collect();
    graph.reduce_sum(dy, &axes)
}
