//! Operators that are not ONNX's: where an agent has a faster way than any formulation in ONNX's operators.
//!
//! Each is written where [`Graph::has_own_operators`] allows it on the CPU, or [`Graph::is_fused`] for CUDA, and does what
//! its formulation in ONNX's operators does, which is what runs everywhere else.

use std::collections::{BTreeMap, BTreeSet};

use crate::fuse;
use crate::graph::{Attribute, Dtype, Graph, GraphError, Node, Value, Windows};

/// The domain of these operators.
pub const DOMAIN: &str = "regatta";

/// The node, as one of these operators where that is the same and faster.
pub(crate) fn replaced(graph: &Graph, node: &Node) -> Node {
    let mut node = node.clone();
    let (op, mut attributes) = if let Some(attributes) = convolution(graph, &node) {
        ("Conv", attributes)
    } else if let Some(attributes) = product(graph, &node) {
        ("Gemm", attributes)
    } else if is_max_of_quarters(graph, &node) {
        ("MaxPool", Vec::new())
    } else {
        return node;
    };
    attributes.push(("shape", ints(graph.shape(node.outputs[0]))));
    (node.op, node.domain) = (op.into(), DOMAIN.into());
    node.attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    node
}

/// How often each value is taken: by nodes, and as an output.
fn uses(graph: &Graph, nodes: &[Node]) -> BTreeMap<Value, usize> {
    let mut uses_by_value = BTreeMap::new();
    let taken = nodes.iter().flat_map(|node| node.inputs.iter().flatten());
    taken.chain(graph.outputs()).for_each(|value| *uses_by_value.entry(*value).or_default() += 1);
    uses_by_value
}

/// The nodes, where operators of ours do what their neighbours would do in passes of their own.
pub(crate) fn joined(graph: &Graph, nodes: Vec<Node>) -> Vec<Node> {
    updated_by_parts(graph, unpooled_through_rectifiers(graph, rectified(graph, nodes)))
}

/// Whether a node is a maximum over windows of 2x2 side by side, in two dimensions and f32.
fn is_max_of_quarters(graph: &Graph, node: &Node) -> bool {
    let Some(x) = operand(node, 0).filter(|x| graph.dtype(*x) == Dtype::F32 && graph.shape(*x).len() == 4) else {
        return false;
    };
    let are = |name: &str, numbers: &[i64], default: &[i64]| node.ints(name).unwrap_or(default) == numbers;
    let halves: Vec<usize> = graph.shape(x)[2..].iter().map(|size| size / 2).collect();
    graph.has_own_operators()
        && node.domain.is_empty()
        && node.op == "MaxPool"
        && node.outputs.len() == 1
        && are("kernel_shape", &[2, 2], &[])
        && are("strides", &[2, 2], &[1, 1])
        && are("pads", &[0; 4], &[0; 4])
        && are("dilations", &[1, 1], &[1, 1])
        && node.text("auto_pad").is_none_or(|pad| pad == "NOTSET")
        && graph.shape(node.outputs[0])[2..] == halves
}

/// The nodes without the gradients of rectifiers whose outputs only a maximum's gradient looks at, too: it lets flow what
/// these do.
fn unpooled_through_rectifiers(graph: &Graph, nodes: Vec<Node>) -> Vec<Node> {
    let uses_by_value = uses(graph, &nodes);
    let mut kept: Vec<Node> = Vec::with_capacity(nodes.len());
    let mut position_by_value: BTreeMap<Value, usize> = BTreeMap::new();
    for node in nodes {
        let flowing = operand(&node, 0).filter(|dy| is_own(&node, "ReluGradient") && uses_by_value[dy] == 1);
        let pool = flowing.and_then(|dy| position_by_value.get(&dy)).copied();
        if let Some(pool) = pool.filter(|pool| operand(&kept[*pool], 1) == operand(&node, 1)) {
            kept[pool].outputs[0] = node.outputs[0];
            kept[pool].attributes.insert("of_rectified".into(), Attribute::Int(1));
            continue;
        }
        if is_own(&node, MAX_POOL_GRADIENT) {
            position_by_value.insert(node.outputs[0], kept.len());
        }
        kept.push(node);
    }
    kept
}

fn is_own(node: &Node, op: &str) -> bool {
    node.domain == DOMAIN && node.op == op
}

/// The nodes, where an update takes a gradient in the parts that it would be joined of for it alone.
fn updated_by_parts(graph: &Graph, mut nodes: Vec<Node>) -> Vec<Node> {
    let uses_by_value = uses(graph, &nodes);
    let is_joined = |node: &Node| {
        let joined = node.outputs[0];
        let is_vector = node.domain.is_empty() && node.op == "Concat" && graph.shape(joined).len() == 1;
        is_vector && uses_by_value.get(&joined) == Some(&1)
    };
    let parts_by_value: BTreeMap<Value, Vec<Option<Value>>> =
        nodes.iter().filter(|node| is_joined(node)).map(|node| (node.outputs[0], node.inputs.clone())).collect();
    let mut apart = BTreeSet::new();
    for node in nodes.iter_mut().filter(|node| is_own(node, "AdamW")) {
        let mut open: Vec<Option<Value>> = node.inputs.pop().into_iter().collect();
        while let Some(gradient) = open.pop() {
            match gradient.and_then(|value| parts_by_value.get_key_value(&value)) {
                Some((joined, parts)) => {
                    apart.insert(*joined);
                    open.extend(parts.iter().rev());
                }
                None => node.inputs.push(gradient),
            }
        }
    }
    nodes.retain(|node| !apart.contains(&node.outputs[0]));
    nodes
}

/// The nodes without rectifiers of what only they take of a convolution or batch normalisation of ours: these rectify
/// what they give themselves.
fn rectified(graph: &Graph, nodes: Vec<Node>) -> Vec<Node> {
    let uses_by_value = uses(graph, &nodes);
    let mut kept: Vec<Node> = Vec::with_capacity(nodes.len());
    // Where among them that is which gives a value and can rectify it.
    let mut position_by_value: BTreeMap<Value, usize> = BTreeMap::new();
    for node in nodes {
        let x = operand(&node, 0).filter(|x| node.op == "Relu" && node.domain.is_empty() && uses_by_value[x] == 1);
        if let Some(&position) = x.and_then(|x| position_by_value.get(&x)) {
            kept[position].outputs[0] = node.outputs[0];
            kept[position].attributes.insert("rectifies".into(), Attribute::Int(1));
            continue;
        }
        if node.domain == DOMAIN && ["Conv", "BatchNorm"].contains(&node.op.as_str()) {
            position_by_value.insert(node.outputs[0], kept.len());
        }
        kept.push(node);
    }
    kept
}

/// The attributes of a product of two matrices, and of all rows of a tensor with a matrix; in f32, with a bias for each
/// column or none. Where rows, columns or what is summed over are few, ONNX Runtime's are as fast.
fn product(graph: &Graph, node: &Node) -> Option<Vec<(&'static str, Attribute)>> {
    const SIZE_MIN: usize = 192;

    let (left, right) = (operand(node, 0)?, operand(node, 1)?);
    let (left_shape, shape) = (graph.shape(left), graph.shape(node.outputs[0]));
    let is_one = |name: &str| node.float(name, 1.0) == 1.0;
    let is_product = match node.op.as_str() {
        "Gemm" => is_one("alpha") && is_one("beta"),
        "MatMul" => left_shape.len() >= 2,
        _ => false,
    };
    let (&columns, rows) = shape.split_last()?;
    let rows: usize = rows.iter().product();
    let inner = left_shape.iter().product::<usize>() / rows.max(1);
    if !is_product
        || !node.domain.is_empty()
        || !graph.has_own_products()
        || graph.dtype(left) != Dtype::F32
        || graph.shape(right).len() != 2
        || [rows, inner, columns].iter().any(|&size| size < SIZE_MIN)
        || operand(node, 2).is_some_and(|bias| graph.shape(bias) != &shape[1..])
    {
        return None;
    }
    let turned = |name: &'static str| (name, Attribute::Int(node.int(name, 0)));
    Some(vec![turned("transA"), turned("transB")])
}

/// The gradients at the operand and at the weights of a `Conv`; `None` where it has no such operator.
///
/// # Errors
/// Never for a node that was added to the graph.
pub(crate) fn convolution_gradients(
    graph: &mut Graph,
    node: &Node,
    dy: Value,
) -> Result<Option<(Value, Value)>, GraphError> {
    let (Some(attributes), Some(x), Some(w)) = (convolution(graph, node), operand(node, 0), operand(node, 1)) else {
        return Ok(None);
    };
    let mut gradient = |op: &str, operands: [Value; 2], of: Value| {
        let shape = graph.shape(of).to_vec();
        let attributes = [attributes.as_slice(), &[("shape", ints(&shape))]].concat();
        Ok(graph.custom((DOMAIN, op), &operands, &attributes, &[(Dtype::F32, shape)])?[0])
    };
    Ok(Some((gradient("ConvInputGradient", [dy, w], x)?, gradient("ConvWeightGradient", [x, dy], w)?)))
}

/// The gradient at the kernel of a convolution of `image` that gave what `response` flows to, as cuDNN has it; `None` where
/// the graph may not have it, or cuDNN has not.
///
/// # Errors
/// Never for values of a convolution.
pub(crate) fn kernel_gradient(
    graph: &mut Graph,
    (image, response): (Value, Value),
    windows: &Windows,
    kernel: &[usize],
) -> Result<Option<Value>, GraphError> {
    // Of groups cuDNN need not have a way that gives the same bits each time.
    let groups = graph.shape(image)[1] / kernel[1].max(1);
    let is_plain = kernel.len() == 4 && windows.before == windows.after && groups == 1;
    let dtype = graph.dtype(image);
    let has_it = matches!(dtype, Dtype::F16 | Dtype::F32) && graph.dtype(response) == dtype;
    let is_empty = [image, response].iter().any(|value| graph.shape(*value).contains(&0));
    if !graph.is_fused() || !is_plain || !has_it || is_empty {
        return Ok(None);
    }
    let attributes = [
        ("strides", ints(&windows.strides)),
        ("dilations", ints(&windows.dilations)),
        ("pads", ints(&[windows.before.as_slice(), &windows.after].concat())),
        ("shape", ints(kernel)),
    ];
    let outputs = [(dtype, kernel.to_vec())];
    Ok(Some(graph.custom((DOMAIN, "ConvWeightGradient"), &[image, response], &attributes, &outputs)?[0]))
}

/// Of a sum over some axes, run by run of those that lie side by side and from the last to the first, what is before them,
/// their elements and what is after; `None` where a graph does not have it in kernels that compute what is summed up, too.
pub(crate) fn sum_runs(graph: &Graph, x: Value, axes: &[usize]) -> Option<Vec<[usize; 3]>> {
    let shape = graph.shape(x);
    let is_float = matches!(graph.dtype(x), Dtype::F32 | Dtype::F64);
    if !graph.is_fused() || !is_float || shape.contains(&0) || !fuse::is_small(graph, x) {
        return None;
    }
    let (mut runs, mut count, mut inner) = (Vec::new(), 1, 1);
    let mut outer: usize = shape.iter().product();
    for axis in (0..shape.len()).rev().filter(|axis| shape[*axis] != 1) {
        outer /= shape[axis];
        if axes.contains(&axis) {
            count *= shape[axis];
            continue;
        }
        if count > 1 {
            runs.push([outer * shape[axis], count, inner]);
            count = 1;
        }
        inner *= shape[axis];
    }
    if count > 1 {
        runs.push([outer, count, inner]);
    }
    Some(runs)
}

/// The sum of these runs: see [`sum_runs`].
///
/// # Errors
/// Never for runs of the value.
pub(crate) fn sum(graph: &mut Graph, x: Value, runs: &[[usize; 3]]) -> Result<Value, GraphError> {
    let mut sum = x;
    for &[outer, mut count, inner] in runs {
        while count > 1 {
            let parts = parts_of_sum(outer, count, inner);
            let attributes = [("sizes", ints(&[outer, count, inner])), ("parts", ints(&[parts]))];
            let outputs = [(graph.dtype(x), vec![outer, parts, inner])];
            sum = graph.custom((DOMAIN, PARTIAL_SUM), &[sum], &attributes, &outputs)?[0];
            count = parts;
        }
    }
    Ok(sum)
}

/// `PartialSum(x) -> y` with the attributes `sizes` (outer, count and inner) and `parts`: of x as `[outer, count, inner]`
/// the sums `[outer, parts, inner]` of every `parts`-th element. Only within a fused kernel.
pub(crate) const PARTIAL_SUM: &str = "PartialSum";

/// How many sums threads make by themselves before these are summed up: one, where threads together do it at once, else
/// enough to keep a device busy. Threads beside each other read what lies side by side.
fn parts_of_sum(outer: usize, count: usize, inner: usize) -> usize {
    const AT_ONCE: usize = 4096;
    const WARP: usize = 32;
    /// Of a device that is busy.
    const THREADS: usize = 1 << 16;

    if count <= AT_ONCE {
        return 1;
    }
    let each = (outer * count * inner / THREADS).clamp(16, 256);
    let parts = count.div_ceil(each);
    if inner == 1 { parts.next_multiple_of(WARP) } else { parts }
}

/// The attributes of a convolution that these operators compute: in two dimensions, in f32.
fn convolution(graph: &Graph, node: &Node) -> Option<Vec<(&'static str, Attribute)>> {
    let is_plain = node.op == "Conv" && node.domain.is_empty();
    let (x, w) = (operand(node, 0)?, operand(node, 1)?);
    let is_explicit = node.text("auto_pad").is_none_or(|pad| pad == "NOTSET");
    if !graph.has_own_operators()
        || !is_plain
        || !is_explicit
        || graph.dtype(x) != Dtype::F32
        || graph.shape(w).len() != 4
    {
        return None;
    }
    let list =
        |name: &'static str, default: &[i64]| (name, Attribute::Ints(node.ints(name).unwrap_or(default).to_vec()));
    let group = ("group", Attribute::Int(node.int("group", 1)));
    Some(vec![list("strides", &[1, 1]), list("dilations", &[1, 1]), list("pads", &[0; 4]), group])
}

/// A batch normalised by its own statistics, as one node.
pub(crate) struct Normalized {
    pub y: Value,
    pub mean: Value,
    /// The unbiased one.
    pub variance: Value,
}

/// Batch normalisation in one node; `None` where it has no such operator.
///
/// # Errors
/// Never for operands of fitting shapes.
pub(crate) fn batch_norm(
    graph: &mut Graph,
    x: Value,
    (scale, bias): (Value, Value),
    epsilon: f64,
) -> Result<Option<Normalized>, GraphError> {
    let shape = graph.shape(x).to_vec();
    let fits = shape.len() >= 2 && [scale, bias].iter().all(|affine| graph.shape(*affine) == [shape[1]]);
    if !graph.has_own_operators() || graph.dtype(x) != Dtype::F32 || !fits || shape.contains(&0) {
        return Ok(None);
    }
    let channels = (Dtype::F32, vec![shape[1]]);
    let first = graph.nodes().len();
    let outputs = [(Dtype::F32, shape), channels.clone(), channels.clone(), channels];
    let attributes = [("epsilon", Attribute::Float(epsilon))];
    let found = graph.custom((DOMAIN, "BatchNorm"), &[x, scale, bias], &attributes, &outputs)?;
    let (y, mean, variance, inverse) = (found[0], found[1], found[2], found[3]);
    graph.close(BATCH_NORMALIZATION, first, (&[x, scale, bias], &[mean, inverse]), y);
    Ok(Some(Normalized { y, mean, variance }))
}

/// The closed form of [`batch_norm`].
pub(crate) const BATCH_NORMALIZATION: &str = "batch-normalization";

/// What flows to the operand, the scale and the bias of [`batch_norm`], from its operand and what it saved.
///
/// # Errors
/// Never for a node that was added to the graph.
pub(crate) fn batch_norm_gradient(
    graph: &mut Graph,
    dy: Value,
    [x, scale, mean, inverse]: [Value; 4],
) -> Result<[Value; 3], GraphError> {
    let (whole, channels) = (graph.shape(x).to_vec(), graph.shape(scale).to_vec());
    let outputs = [(Dtype::F32, whole), (Dtype::F32, channels.clone()), (Dtype::F32, channels)];
    let operands = [dy, x, scale, mean, inverse];
    let found = graph.custom((DOMAIN, "BatchNormGradient"), &operands, &[], &outputs)?;
    Ok([found[0], found[1], found[2]])
}

/// What flows through a rectifier whose output is `y`; `None` where it has no such operator.
///
/// # Errors
/// Never for values of one shape.
pub(crate) fn relu_gradient(graph: &mut Graph, dy: Value, y: Value) -> Result<Option<Value>, GraphError> {
    if !is_of_one_shape(graph, dy, y) {
        return Ok(None);
    }
    let shape = graph.shape(y).to_vec();
    Ok(Some(graph.custom((DOMAIN, "ReluGradient"), &[dy, y], &[], &[(Dtype::F32, shape)])?[0]))
}

/// What flows through a `MaxPool` in two dimensions; `None` where it has no such operator.
///
/// # Errors
/// Never for a node that was added to the graph.
pub(crate) fn max_pool_gradient(
    graph: &mut Graph,
    node: &Node,
    dy: Value,
    windows: &Windows,
) -> Result<Option<Value>, GraphError> {
    let Some(x) = operand(node, 0).filter(|x| graph.shape(*x).len() == 4) else { return Ok(None) };
    let dtype = graph.dtype(x);
    let is_fused = graph.is_fused() && matches!(dtype, Dtype::F16 | Dtype::F32) && fuse::is_small(graph, x);
    let is_allowed = is_fused || (graph.has_own_operators() && dtype == Dtype::F32);
    if !is_allowed {
        return Ok(None);
    }
    let attributes = [
        ("kernel_shape", ints(&windows.kernel)),
        ("strides", ints(&windows.strides)),
        ("dilations", ints(&windows.dilations)),
        ("begins", ints(&windows.before)),
    ];
    let outputs = [(dtype, graph.shape(x).to_vec())];
    Ok(Some(graph.custom((DOMAIN, MAX_POOL_GRADIENT), &[dy, x], &attributes, &outputs)?[0]))
}

/// On the CPU by itself, for CUDA within a fused kernel.
pub(crate) const MAX_POOL_GRADIENT: &str = "MaxPoolGradient";

/// What flows through a `Gelu`; `None` where it has no such operator.
///
/// # Errors
/// Never for a node that was added to the graph.
pub(crate) fn gelu_gradient(graph: &mut Graph, node: &Node, dy: Value) -> Result<Option<Value>, GraphError> {
    let Some(x) = operand(node, 0).filter(|x| is_of_one_shape(graph, dy, *x)) else { return Ok(None) };
    let approximation = Attribute::Text(node.text("approximate").unwrap_or("none").to_owned());
    let outputs = [(Dtype::F32, graph.shape(x).to_vec())];
    let attributes = [("approximate", approximation)];
    Ok(Some(graph.custom((DOMAIN, "GeluGradient"), &[dy, x], &attributes, &outputs)?[0]))
}

/// What flows through a softmax that gave `y`; `None` where it has no such operator: it has one along the last axis.
///
/// # Errors
/// Never for values of one shape.
pub(crate) fn softmax_gradient(
    graph: &mut Graph,
    (dy, y): (Value, Value),
    axis: i64,
) -> Result<Option<Value>, GraphError> {
    let shape = graph.shape(y).to_vec();
    let is_last = axis == -1 || usize::try_from(axis).is_ok_and(|axis| axis + 1 == shape.len());
    if !is_last || !is_of_one_shape(graph, dy, y) {
        return Ok(None);
    }
    Ok(Some(graph.custom((DOMAIN, "SoftmaxGradient"), &[dy, y], &[], &[(Dtype::F32, shape)])?[0]))
}

/// What flows to the operand, the scale and the bias of a `LayerNormalization` with the statistics that it saved; `None`
/// where it has no such operator.
///
/// # Errors
/// Never for a node that was added to the graph.
pub(crate) fn layer_norm_gradient(
    graph: &mut Graph,
    node: &Node,
    dy: Value,
    (mean, inverse): (Value, Value),
) -> Result<Option<[Value; 3]>, GraphError> {
    let (Some(x), Some(scale)) = (operand(node, 0), operand(node, 1)) else { return Ok(None) };
    let has_odd_bias = operand(node, 2).is_some_and(|bias| graph.shape(bias) != graph.shape(scale));
    let (whole, columns) = (graph.shape(x).to_vec(), graph.shape(scale).to_vec());
    let rows: usize = graph.shape(mean).iter().product();
    let is_row_by_row = whole.ends_with(&columns) && rows * columns.iter().product::<usize>() == whole.iter().product();
    if has_odd_bias || !is_row_by_row || !is_of_one_shape(graph, dy, x) || graph.dtype(scale) != Dtype::F32 {
        return Ok(None);
    }
    let outputs = [(Dtype::F32, whole), (Dtype::F32, columns.clone()), (Dtype::F32, columns)];
    let found = graph.custom((DOMAIN, "LayerNormGradient"), &[dy, x, scale, mean, inverse], &[], &outputs)?;
    Ok(Some([found[0], found[1], found[2]]))
}

/// Whether operators of our own are allowed, and both are tensors of f32 and of one shape, with elements.
fn is_of_one_shape(graph: &Graph, dy: Value, other: Value) -> bool {
    let are_floats = [dy, other].iter().all(|value| graph.dtype(*value) == Dtype::F32);
    let shape = graph.shape(other);
    graph.has_own_operators() && are_floats && graph.shape(dy) == shape && !shape.is_empty() && !shape.contains(&0)
}

fn operand(node: &Node, at: usize) -> Option<Value> {
    node.inputs.get(at).copied().flatten()
}

/// Sizes as an attribute.
pub(crate) fn ints(sizes: &[usize]) -> Attribute {
    Attribute::Ints(sizes.iter().map(|&size| i64::try_from(size).expect("a tensor's size fits in an i64")).collect())
}
