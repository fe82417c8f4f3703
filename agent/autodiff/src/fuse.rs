//! Runs of operators as kernels of their own, for CUDA: where ONNX Runtime launches a kernel for each operator, and each
//! reads and writes the device's memory, a region that walks along tensors of one size takes one launch and one pass.
//!
//! A region becomes a node `Fused` of [`own::DOMAIN`](crate::own::DOMAIN) whose source is its attribute, in a C that is
//! CUDA's and a host's alike. Whoever runs the graph compiles it. The same numbers as of the operators, but for what a
//! compiler contracts and for the last bits of functions.

mod element;
mod index;
mod kernel;
mod regions;

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Attribute, Graph, Node, Value, dtype_code, reduced_axes};
use crate::own::{self, DOMAIN};
use regions::{Part, Regions};

/// The operator of a region.
pub const FUSED: &str = "Fused";

/// The attribute with how many of a region's inputs, the last ones, it only waits for.
pub const WAITS_FOR: &str = "waits_for";

/// Threads of a block that a source counts on.
pub const THREADS: usize = 256;

/// What a source needs before it, beside functions that read and write numbers of 16 bits: `from_half`, `to_half`,
/// `from_bfloat` and `to_bfloat`, between an unsigned short and a float.
pub const PRELUDE: &str = "\
#define lesser(a, b) ((a) < (b) || (a) != (a) ? (a) : (b))
#define greater(a, b) ((a) > (b) || (a) != (a) ? (a) : (b))
";

/// The graph with regions as one node each, in an order in which each has what it reads. All of its nodes are run.
pub(crate) fn fused(graph: Graph) -> Graph {
    let graph = with_sums_as_parts(graph);
    let nodes: Vec<&Node> = graph.nodes().iter().collect();
    let nodes = regions_as_nodes(&graph, &nodes);
    graph.with_nodes(nodes)
}

/// Sums as kernels can have them.
fn with_sums_as_parts(graph: Graph) -> Graph {
    let nodes = graph.nodes().to_vec();
    let mut graph = graph.with_nodes(Vec::with_capacity(nodes.len()));
    for node in nodes {
        let sum = summed(&graph, &node).and_then(|(x, sizes)| own::sum(&mut graph, x, sizes).ok());
        match sum {
            None => graph.add_again(node),
            Some(sum) => {
                let shape = graph.shape(node.outputs[0]).iter();
                let shape = shape.map(|&size| i64::try_from(size).expect("a tensor's size fits in an i64")).collect();
                let inputs = vec![Some(sum), Some(graph.int_vector(shape))];
                graph.add_again(Node { op: "Reshape".into(), inputs, attributes: BTreeMap::new(), ..node });
            }
        }
    }
    graph
}

/// What a node sums up, and its sizes, where kernels can have it.
fn summed(graph: &Graph, node: &Node) -> Option<(Value, [usize; 3])> {
    let x = node.inputs.first().copied().flatten().filter(|_| node.domain.is_empty() && node.op == "ReduceSum")?;
    let axes = reduced_axes(graph, node)?;
    own::sum_sizes(graph, x, &axes).map(|sizes| (x, sizes))
}

fn regions_as_nodes(graph: &Graph, nodes: &[&Node]) -> Vec<Node> {
    let producers: BTreeMap<Value, &Node> =
        nodes.iter().flat_map(|node| node.outputs.iter().map(|value| (*value, *node))).collect();
    let regions = Regions::find(graph, nodes);
    let computes = |member: &&usize| regions.part(**member) == Part::Computes;
    let is_region = |unit: &[usize]| {
        unit.iter().filter(computes).count() > 1 || unit.iter().any(|member| is_kernel(nodes[*member]))
    };
    let (fused, alone): (Vec<(usize, &[usize])>, Vec<_>) =
        regions.units().into_iter().enumerate().partition(|(_, unit)| is_region(unit));
    // They give memory that is there already.
    let views = alone.iter().flat_map(|(_, unit)| unit.iter()).filter(|member| regions.part(**member) == Part::Views);
    let views: BTreeSet<&str> = views.map(|member| nodes[*member].name.as_str()).collect();
    let written = fused.into_iter().map(|(order, unit)| (order, region(graph, nodes, (&regions, &producers, &views), unit)));
    let kept = alone.into_iter().map(|(order, unit)| (order, unit.iter().map(|member| nodes[*member].clone()).collect()));
    let by_order: BTreeMap<usize, Vec<Node>> = written.chain(kept).collect();
    let all = by_order.into_values().flatten().collect();
    in_order(graph, without_unread(graph, all))
}

/// The nodes, where regions also wait for what is read long after them.
///
/// ONNX Runtime runs what leads to the node that was added last before anything else: gradients of weights, which only
/// the update reads, would all come at the end, and what they are of would be kept until then. So each is named as an
/// input of the next region, which does not read it.
fn in_order(graph: &Graph, mut nodes: Vec<Node>) -> Vec<Node> {
    /// Nodes between a value and what reads it that are near enough.
    const NEAR: usize = 12;

    let mut first_reader: BTreeMap<Value, usize> = BTreeMap::new();
    for (at, node) in nodes.iter().enumerate().rev() {
        first_reader.extend(node.inputs.iter().flatten().map(|input| (*input, at)));
        // Whoever reads a view reads what it is of.
        if let ("Reshape", Some(Some(of)), Some(reader)) =
            (node.op.as_str(), node.inputs.first(), first_reader.get(&node.outputs[0]).copied())
        {
            first_reader.insert(*of, reader);
        }
    }
    let mut waiting: Vec<(Value, usize)> = Vec::new();
    for at in 0..nodes.len() {
        if nodes[at].op == FUSED {
            let waits_for: Vec<Value> = std::mem::take(&mut waiting)
                .into_iter()
                .filter(|(value, reader)| *reader > at + NEAR && !nodes[at].inputs.contains(&Some(*value)))
                .map(|(value, _)| value)
                .collect();
            let count = i64::try_from(waits_for.len()).expect("a graph has fewer nodes");
            nodes[at].attributes.insert(WAITS_FOR.into(), Attribute::Int(count));
            nodes[at].inputs.extend(waits_for.into_iter().map(Some));
        } else if nodes[at].op != "Reshape" {
            let far = nodes[at].outputs.iter().filter_map(|output| Some((*output, *first_reader.get(output)?)));
            waiting.extend(far.filter(|(value, _)| !graph.outputs().contains(value)));
        }
    }
    nodes
}

/// Views that regions read through are left without a reader.
fn without_unread(graph: &Graph, nodes: Vec<Node>) -> Vec<Node> {
    let mut wanted: BTreeSet<Value> = graph.outputs().iter().copied().collect();
    let mut read: Vec<Node> = Vec::with_capacity(nodes.len());
    for node in nodes.into_iter().rev() {
        if node.outputs.iter().any(|output| wanted.contains(output)) {
            wanted.extend(node.inputs.iter().flatten());
            read.push(node);
        }
    }
    read.reverse();
    read
}

/// Whether a node is a kernel by itself: ONNX Runtime does not know it, or needs lengths in the host's memory for many parts.
fn is_kernel(node: &Node) -> bool {
    (node.domain.is_empty() && matches!(node.op.as_str(), "Split" | "Concat")) || kernel::is_loop(node)
}

/// A region as one node, followed by those of its views that lead out of it.
fn region(
    graph: &Graph,
    nodes: &[&Node],
    (regions, producers, seen_through): (&Regions<'_>, &BTreeMap<Value, &Node>, &BTreeSet<&str>),
    unit: &[usize],
) -> Vec<Node> {
    let given: BTreeSet<Value> = graph.outputs().iter().copied().collect();
    let mut inside: BTreeSet<usize> = unit.iter().copied().collect();
    let is_needed = |inside: &BTreeSet<usize>, member: usize, value: Value| {
        let readers = regions.readers(member);
        given.contains(&value) || readers.iter().any(|reader| !inside.contains(reader) && nodes[*reader].inputs.contains(&Some(value)))
    };
    // A view of what is needed itself is no further tensor.
    let mut views = Vec::new();
    for &member in unit.iter().rev() {
        let value = nodes[member].outputs[0];
        if regions.part(member) == Part::Views && is_needed(&inside, member, value) && !given.contains(&value) {
            let within = regions.readers(member).iter().any(|reader| inside.contains(reader));
            let source = nodes[member].inputs[0].and_then(|x| producers.get(&x)).map(|node| node.name.as_str());
            let source = unit.iter().copied().find(|other| Some(nodes[*other].name.as_str()) == source);
            let is_of_stored = source.is_none_or(|source| {
                nodes[source].op != "Split" && is_needed(&inside, source, nodes[source].outputs[0])
            });
            if is_of_stored && !within {
                inside.remove(&member);
                views.push(nodes[member].clone());
            }
        }
    }
    views.reverse();
    let members: Vec<&Node> = inside.iter().map(|member| nodes[*member]).collect();
    let outputs: Vec<Value> = (inside.iter())
        .flat_map(|&member| nodes[member].outputs.iter().map(move |value| (member, *value)))
        .filter(|(member, value)| is_needed(&inside, *member, *value))
        .map(|(_, value)| value)
        .collect();
    let last = members.last().expect("a region has nodes");
    let count = kernel::elements_of(graph, last);
    let kernel = kernel::write(graph, producers, (&members, count), seen_through, &outputs);
    let ints = |numbers: Vec<usize>| {
        Attribute::Ints(numbers.into_iter().map(|number| i64::try_from(number).expect("a size fits in an i64")).collect())
    };
    let shapes = kernel.outputs.iter().flat_map(|output| {
        let shape = graph.shape(*output);
        [shape.len()].into_iter().chain(shape.iter().copied())
    });
    let types = kernel.outputs.iter().map(|output| dtype_code(graph.dtype(*output))).collect();
    let attributes = [
        ("source", Attribute::Text(kernel.source.clone())),
        ("elements", ints(vec![count])),
        ("types", Attribute::Ints(types)),
        ("shapes", ints(shapes.collect())),
    ];
    let fused = Node {
        name: format!("{}.fused", last.name),
        domain: DOMAIN.into(),
        op: FUSED.into(),
        inputs: kernel.inputs.iter().copied().map(Some).collect(),
        outputs: kernel.outputs,
        attributes: attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    };
    [fused].into_iter().chain(views).collect()
}

/// How many elements a value has.
fn elements(graph: &Graph, value: Value) -> usize {
    graph.shape(value).iter().product()
}
