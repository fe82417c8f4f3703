//! Gradients of poolings.
//!
//! Elements that are equally great share what flows to their window, so that its sum is what it should be: `PyTorch`
//! gives it all to the first of them, which for windows of equal inputs comes to the same for every weight before.
//! Only where windows overlap, and from our own operator, does it go to the first one here, too.

use super::{Flowing, Kernel, Row, rule};
use crate::gradient::Flow;
use crate::graph::{
    self, Attribute, Constant, Dtype, Elements, Graph, GraphError, LinearMap, Provider, Value, Windows,
};
use crate::own;

pub(super) const ROWS: &[Row] = &[
    rule("AveragePool", average_pool, "dy / n, added over each window").cuda(Kernel::CuDnn),
    rule("GlobalAveragePool", global_average_pool, "dy / n, repeated").cuda(Kernel::CuDnn),
    rule("MaxPool", max_pool, "dy at the greatest element of each window").cuda(Kernel::CuDnn),
    rule("GlobalMaxPool", global_max_pool, "dy at the greatest elements, in equal shares").cuda(Kernel::CuDnn),
];

#[expect(clippy::cast_precision_loss, reason = "a tensor has fewer than 2^52 elements")]
fn reciprocal(count: usize) -> f64 {
    1.0 / count as f64
}

/// An average over a box is an average along each axis.
fn average_pool(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x) = (flow.dy()?, flow.x(0)?);
    let image = flow.graph.shape(x).to_vec();
    let windows = graph::pooling_windows(&flow.node, &image);
    let windows = windows.ok_or_else(|| flow.unsupported("its windows do not fit"))?;
    let with_padding = flow.node.int("count_include_pad", 0) != 0;
    let graph = &mut *flow.graph;
    let covers = |axis: usize| windows.counts[axis] * windows.kernel[axis] == image[axis + 2];
    if graph.provider() == Provider::Cpu && windows.are_blocks() && (0..image.len() - 2).all(covers) {
        let share = graph.scale(dy, reciprocal(windows.kernel.iter().product()))?;
        return Ok(vec![Some(enlarged(graph, share, &windows)?)]);
    }
    let mut to_x = dy;
    for (axis, &size) in image[2..].iter().enumerate() {
        to_x = flow.along_axis(to_x, axis + 2, &shares(&windows, axis, size, with_padding))?;
    }
    Ok(vec![Some(to_x)])
}

/// Which share of a window's gradient goes to each element along an axis.
fn shares(windows: &Windows, axis: usize, size: usize, with_padding: bool) -> LinearMap {
    let front = windows.before[axis];
    let counted = if with_padding { 0..front + size + windows.after[axis] } else { front..front + size };
    let shares = (0..windows.counts[axis]).flat_map(|window| {
        let (start, step) = (window * windows.strides[axis], windows.dilations[axis]);
        // Which elements of the window's kernel lie before a place of the padded axis.
        let before = move |place: usize| place.saturating_sub(start).div_ceil(step).min(windows.kernel[axis]);
        let share = reciprocal(before(counted.end) - before(counted.start));
        (before(front)..before(front + size)).map(move |at| (start + at * step - front, window, share))
    });
    LinearMap::new(size, windows.counts[axis], shares)
}

/// The sweep repeats it over the image.
fn global_average_pool(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x) = (flow.dy()?, flow.x(0)?);
    let share = reciprocal(flow.graph.shape(x)[2..].iter().product());
    Ok(vec![Some(flow.graph.scale(dy, share)?)])
}

fn global_max_pool(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x, y) = (flow.dy()?, flow.x(0)?, flow.y());
    let graph = &mut *flow.graph;
    let spatial: Vec<usize> = (2..graph.shape(x).len()).collect();
    let mask = equals(graph, x, y)?;
    let ties = graph.sum_kept(mask, &spatial)?;
    let share = graph.div(dy, ties)?;
    Ok(vec![Some(graph.mul(mask, share)?)])
}

fn max_pool(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x) = (flow.dy()?, flow.x(0)?);
    let image = flow.graph.shape(x).to_vec();
    let windows = graph::pooling_windows(&flow.node, &image);
    let windows = windows.ok_or_else(|| flow.unsupported("its windows do not fit"))?;
    if let Some(to_x) = own::max_pool_gradient(flow.graph, &flow.node, dy, &windows)? {
        return Ok(vec![Some(to_x)]);
    }
    let covers = |axis: usize| windows.counts[axis] * windows.kernel[axis] == image[axis + 2];
    if windows.are_blocks() && (0..image.len() - 2).all(covers) && flow.gradient(1).is_none() {
        let y = flow.y();
        let to_x = match flow.graph.provider() {
            Provider::Cpu => shared_by_enlarging(flow.graph, (x, y), dy, &windows)?,
            Provider::Cuda => shared_by_reshaping(flow.graph, (x, y), dy, &windows)?,
        };
        return Ok(vec![Some(to_x)]);
    }
    if flow.node.int("storage_order", 0) != 0 {
        return Err(flow.unsupported("only indices in row-major order are differentiated"));
    }
    let graph = &mut *flow.graph;
    let indices = graph.extend_outputs(&flow.node, 2)?[1];
    let (elements, maxima) = (image.iter().product(), graph.shape(dy).iter().product());
    let zeros = graph.zeros_like(x, &[elements])?;
    let indices = graph.reshape(indices, &[maxima])?;
    let flat = graph.reshape(dy, &[maxima])?;
    let attributes = [("reduction", Attribute::Text("add".into()))];
    let added = graph.node("ScatterElements", &[zeros, indices, flat], &attributes)?;
    Ok(vec![Some(graph.reshape(added, &image)?)])
}

/// For windows side by side on the CPU, where enlarging is fast and broadcasting along short axes is slow.
fn shared_by_enlarging(
    graph: &mut Graph,
    (x, y): (Value, Value),
    dy: Value,
    windows: &Windows,
) -> Result<Value, GraphError> {
    let maxima = enlarged(graph, y, windows)?;
    let mask = equals(graph, x, maxima)?;
    let sizes = Attribute::Ints(windows.kernel.iter().map(|&size| i64::try_from(size).expect("a size")).collect());
    let fraction = graph.node("AveragePool", &[mask], &[("kernel_shape", sizes.clone()), ("strides", sizes)])?;
    let ties = graph.scale(fraction, reciprocal(windows.kernel.iter().product()).recip())?;
    let share = graph.div(dy, ties)?;
    let shares = enlarged(graph, share, windows)?;
    graph.mul(mask, shares)
}

/// For windows side by side on CUDA, without cuDNN.
fn shared_by_reshaping(
    graph: &mut Graph,
    (x, y): (Value, Value),
    dy: Value,
    windows: &Windows,
) -> Result<Value, GraphError> {
    let image = graph.shape(x).to_vec();
    let (mut apart, mut single, mut within) = (image[..2].to_vec(), image[..2].to_vec(), Vec::new());
    for (&count, &size) in windows.counts.iter().zip(&windows.kernel) {
        within.push(apart.len() + 1);
        apart.extend([count, size]);
        single.extend([count, 1]);
    }
    let (x, y, dy) = (graph.reshape(x, &apart)?, graph.reshape(y, &single)?, graph.reshape(dy, &single)?);
    let mask = equals(graph, x, y)?;
    let ties = graph.sum_kept(mask, &within)?;
    let share = graph.div(dy, ties)?;
    let shares = graph.mul(mask, share)?;
    graph.reshape(shares, &image)
}

fn equals(graph: &mut Graph, left: Value, right: Value) -> Result<Value, GraphError> {
    let equal = graph.equal(left, right)?;
    graph.cast(equal, graph.dtype(left))
}

/// Each element repeated over its window.
fn enlarged(graph: &mut Graph, value: Value, windows: &Windows) -> Result<Value, GraphError> {
    #[expect(clippy::cast_precision_loss, reason = "a tensor has fewer than 2^52 elements")]
    let scales: Vec<f64> = [1.0, 1.0].into_iter().chain(windows.kernel.iter().map(|&size| size as f64)).collect();
    let scales =
        graph.constant(Constant { dtype: Dtype::F32, shape: vec![scales.len()], elements: Elements::Float(scales) });
    let attributes = [
        ("mode", Attribute::Text("nearest".into())),
        ("coordinate_transformation_mode", Attribute::Text("asymmetric".into())),
        ("nearest_mode", Attribute::Text("floor".into())),
    ];
    Ok(graph.nodes_of("Resize", &[Some(value), None, Some(scales)], 1, &attributes)?[0])
}
