//! Runs of operators as kernels of their own, for CUDA: where ONNX Runtime launches a kernel for each operator, and each
//! reads and writes the device's memory, a region that walks along tensors of one size takes one launch and one pass.
//!
//! A region becomes a node `Fused` of [`own::DOMAIN`](crate::own::DOMAIN) whose source is its attribute, in a C that is
//! CUDA's and a host's alike. Whoever runs the graph compiles it. The same numbers as of the operators, but for the order
//! of sums and the last bits of functions.

mod element;
mod index;
mod kernel;
mod regions;

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Attribute, Dtype, Graph, Node, Value, dtype_code, reduced_axes};
use crate::own::{self, DOMAIN};
use crate::rules;
use kernel::{Kernel, Region};
use regions::{Part, Regions, is_cheap};

/// The operator of a region.
pub const FUSED: &str = "Fused";

/// The attribute with how many of a region's inputs, the last ones, it only waits for.
pub const WAITS_FOR: &str = "waits_for";

/// Threads of a block that a source counts on, where each computes an element.
pub const THREADS: usize = 256;

/// How threads share in the elements of a kernel.
///
/// Where several compute one, a source has these from whoever compiles it: the number of a thread's element,
/// `WARP_INDEX` and `TILE_INDEX`; which of the element's threads it is, `WARP_LANE` and `TILE_LANE`; how many these are,
/// `WARP_LANES` and `TILE_LANES`; and the sum of a number of each, `ACROSS_WARP` and `ACROSS_TILE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Together {
    /// Each computes its own.
    Each = 0,
    /// Those of a warp compute one.
    Warp = 1,
    /// Those of a block compute some that lie side by side.
    Tile = 2,
}

impl Together {
    /// That of an attribute's number.
    pub fn of(number: i64) -> Option<Self> {
        [Self::Each, Self::Warp, Self::Tile].into_iter().find(|together| *together as i64 == number)
    }

    fn name(self) -> Option<&'static str> {
        match self {
            Self::Each => None,
            Self::Warp => Some("WARP"),
            Self::Tile => Some("TILE"),
        }
    }
}

/// What a source needs before it, beside what [`Together`] names, functions that read and write numbers of 16 bits
/// (`from_half`, `to_half`, `from_bfloat` and `to_bfloat`, between an unsigned short and a float), and `FUNCTION`, what a
/// function that is defined begins with.
pub const PRELUDE: &str = "\
FUNCTION float lesser_f(float a, float b) { return a < b || a != a ? a : b; }
FUNCTION float greater_f(float a, float b) { return a > b || a != a ? a : b; }
FUNCTION double lesser_d(double a, double b) { return a < b || a != a ? a : b; }
FUNCTION double greater_d(double a, double b) { return a > b || a != a ? a : b; }
FUNCTION long long lesser_i(long long a, long long b) { return a < b ? a : b; }
FUNCTION long long greater_i(long long a, long long b) { return a > b ? a : b; }
";

/// The graph with regions as one node each, in an order in which each has what it reads. All of its nodes are run.
pub(crate) fn fused(graph: Graph) -> Graph {
    let graph = with_vectors_cast_whole(with_sums_as_parts(graph));
    let nodes: Vec<&Node> = graph.nodes().iter().collect();
    let nodes = regions_as_nodes(&graph, &nodes);
    graph.with_nodes(nodes)
}

/// Sums as kernels can have them.
fn with_sums_as_parts(graph: Graph) -> Graph {
    let nodes = graph.nodes().to_vec();
    let mut graph = graph.with_nodes(Vec::with_capacity(nodes.len()));
    for node in nodes {
        let sum = summed(&graph, &node).and_then(|(x, runs)| own::sum(&mut graph, x, &runs).ok());
        match sum {
            None => graph.add_again(node),
            Some(sum) => add_as_view(&mut graph, node, sum),
        }
    }
    graph
}

/// Adds a view of a value in the place of a node.
fn add_as_view(graph: &mut Graph, node: Node, of: Value) {
    let shape = graph.shape(node.outputs[0]).to_vec();
    let inputs = vec![Some(of), Some(graph.sizes(&shape))];
    graph.add_again(Node { op: "Reshape".into(), inputs, attributes: BTreeMap::new(), ..node });
}

/// Vectors whose parts are cast to 16 bits, cast before they are parted: one kernel, where each part had its own.
fn with_vectors_cast_whole(graph: Graph) -> Graph {
    let nodes = graph.nodes().to_vec();
    // By the value of a cast: its type, and the part of a vector, named by the first part, at this position.
    let mut part_by_cast: BTreeMap<Value, (Dtype, Value, usize)> = BTreeMap::new();
    let producers: BTreeMap<Value, &Node> =
        nodes.iter().flat_map(|node| node.outputs.iter().map(move |value| (*value, node))).collect();
    for cast in nodes.iter().filter(|node| node.domain.is_empty() && node.op == "Cast") {
        let (dtype, mut part) = (graph.dtype(cast.outputs[0]), cast.inputs.first().copied().flatten());
        while let Some(view) = part.and_then(|part| producers.get(&part)).filter(|node| kernel::is_view(node)) {
            part = view.inputs.first().copied().flatten();
        }
        let split = part.and_then(|part| producers.get(&part)).filter(|node| kernel::is_flat_split(&graph, node));
        if let (Dtype::F16 | Dtype::Bf16, Some(split)) = (dtype, split) {
            let position = split.outputs.iter().position(|output| Some(*output) == part);
            let position = position.expect("a node gives what it produces");
            part_by_cast.insert(cast.outputs[0], (dtype, split.outputs[0], position));
        }
    }
    let mut graph = graph.with_nodes(Vec::with_capacity(nodes.len()));
    let mut parts: BTreeMap<(Dtype, Value), Vec<Value>> = BTreeMap::new();
    for node in &nodes {
        let Some(&(dtype, first, position)) = part_by_cast.get(&node.outputs[0]) else {
            graph.add_again(node.clone());
            continue;
        };
        let parts = parts.entry((dtype, first)).or_insert_with(|| {
            let split = producers[&first];
            let whole = split.inputs[0].expect("a Split has its operand");
            let low = graph.cast(whole, dtype).expect("a vector can be cast");
            let inputs = [&[Some(low)], &split.inputs[1..]].concat();
            graph.nodes_of("Split", &inputs, split.outputs.len(), &[]).expect("it parts as its vector does")
        });
        let part = parts[position];
        add_as_view(&mut graph, node.clone(), part);
    }
    graph
}

/// What a node sums up, and its runs, where kernels can have it.
fn summed(graph: &Graph, node: &Node) -> Option<(Value, Vec<[usize; 3]>)> {
    let x = node.inputs.first().copied().flatten().filter(|_| node.domain.is_empty() && node.op == "ReduceSum")?;
    let axes = reduced_axes(graph, node)?;
    own::sum_runs(graph, x, &axes).map(|runs| (x, runs))
}

fn regions_as_nodes(graph: &Graph, nodes: &[&Node]) -> Vec<Node> {
    let fusion = Fusion::of(graph, nodes);
    let mut wanted: BTreeSet<Value> = graph.outputs().iter().copied().collect();
    let mut all = Vec::with_capacity(nodes.len());
    // From the last to the first, so that what a region has to give is known when its turn comes.
    for unit in fusion.regions.units().into_iter().rev() {
        if fusion.is_region(unit) {
            fusion.write(unit, &mut wanted, &mut all);
            continue;
        }
        for node in unit.iter().rev().map(|member| nodes[*member]) {
            if node.outputs.iter().any(|output| wanted.contains(output)) {
                wanted.extend(node.inputs.iter().flatten());
                all.push(node.clone());
            }
        }
    }
    all.reverse();
    in_order(graph, all)
}

/// The regions of a graph, and what they compute each for itself.
struct Fusion<'a> {
    graph: &'a Graph,
    nodes: &'a [&'a Node],
    regions: Regions<'a>,
    producers: BTreeMap<Value, &'a Node>,
    /// Nodes that whoever reads them computes again, by position.
    again: BTreeSet<usize>,
    /// The names of these, and of views that stay nodes: they give memory that is there already.
    common: BTreeSet<&'a str>,
}

impl<'a> Fusion<'a> {
    fn of(graph: &'a Graph, nodes: &'a [&'a Node]) -> Self {
        let producers = nodes.iter().flat_map(|node| node.outputs.iter().map(|value| (*value, *node))).collect();
        let (regions, again, common) = (Regions::find(graph, nodes), BTreeSet::new(), BTreeSet::new());
        let mut fusion = Self { graph, nodes, regions, producers, again, common };
        for at in 0..nodes.len() {
            if let Some(computed) = fusion.computed_again(at) {
                fusion.again.extend(computed);
            }
        }
        let is_view = |at: &usize| fusion.regions.part(*at) == Part::Views && !fusion.is_in_region(*at);
        let views = (0..nodes.len()).filter(is_view);
        fusion.common = views.chain(fusion.again.iter().copied()).map(|at| nodes[at].name.as_str()).collect();
        fusion
    }

    fn is_region(&self, unit: &[usize]) -> bool {
        let count = |part: Part| unit.iter().filter(|member| self.regions.part(**member) == part).count();
        let (computes, moves) = (count(Part::Computes), count(Part::Moves));
        let is_kernel = |member: &usize| self.regions.part(*member) != Part::None && is_kernel(self.nodes[*member]);
        computes > 1 || (computes == 1 && moves > 0) || unit.iter().any(is_kernel)
    }

    fn is_in_region(&self, at: usize) -> bool {
        self.is_region(self.regions.members(self.regions.unit_of(at)))
    }

    /// What each kernel that reads a node had better compute for itself, where nobody but kernels reads it: the node and
    /// what it is computed from, down to few tensors that are there anyway. States are not read again: they may have been
    /// overwritten by then.
    fn computed_again(&self, at: usize) -> Option<BTreeSet<usize>> {
        /// Nodes that are computed again for one value.
        const NODES_MAX: usize = 8;
        /// Tensors of as many elements that are read instead.
        const TENSORS_MAX: usize = 2;

        let own = self.regions.unit_of(at);
        let readers = self.regions.readers(at);
        let in_kernels =
            readers.iter().all(|reader| self.regions.part(*reader) != Part::Views && self.is_in_region(*reader));
        let leads_out = readers.iter().any(|reader| self.regions.unit_of(*reader) != own);
        let given = self.graph.outputs().contains(&self.nodes[at].outputs[0]);
        if given || !in_kernels || !leads_out || !self.is_cheap(at) {
            return None;
        }
        let count = elements(self.graph, self.nodes[at].outputs[0]);
        let (mut computed, mut tensors, mut open) = (BTreeSet::from([at]), BTreeSet::new(), vec![at]);
        while let Some(at) = open.pop() {
            for &x in self.nodes[at].inputs.iter().flatten() {
                match self.regions.producer(x) {
                    Some(producer) if self.is_written(producer, own) && elements(self.graph, x) == count => {
                        tensors.insert(x);
                    }
                    Some(producer) if self.again.contains(&producer) || self.regions.unit_of(producer) == own => {
                        // What is not cheap would have to be written for this alone.
                        if !self.is_cheap(producer) {
                            return None;
                        }
                        if computed.insert(producer) {
                            open.push(producer);
                        }
                    }
                    _ if self.regions.is_state(x) => return None,
                    _ if elements(self.graph, x) == count && count > 1 => {
                        tensors.insert(x);
                    }
                    _ => {}
                }
            }
        }
        (computed.len() <= NODES_MAX && tensors.len() <= TENSORS_MAX).then_some(computed)
    }

    /// Whether a node of a unit, which is not computed again, gives what somebody outside of it reads.
    fn is_written(&self, at: usize, unit: usize) -> bool {
        let mut readers = self.regions.readers(at).iter();
        self.regions.unit_of(at) == unit
            && self.regions.part(at) == Part::Computes
            && !self.again.contains(&at)
            && readers.any(|reader| self.regions.unit_of(*reader) != unit)
    }

    fn is_cheap(&self, at: usize) -> bool {
        match self.regions.part(at) {
            Part::Views => true,
            Part::Computes => is_cheap(self.nodes[at]),
            Part::Moves | Part::None => false,
        }
    }

    /// The constant that a value is written out from.
    fn constant_beneath(&self, value: Value) -> Option<Value> {
        let mut of = value;
        while self.graph.constant_of(of).is_none() {
            of = self.producers.get(&of)?.inputs.first().copied().flatten()?;
        }
        Some(of)
    }

    /// Adds a region as one node, with what it has to give, after those of its views that lead out of it: nodes are added
    /// from the last to the first.
    fn write(&self, unit: &[usize], wanted: &mut BTreeSet<Value>, all: &mut Vec<Node>) {
        let Self { graph, nodes, regions, .. } = self;
        let mut members: BTreeSet<usize> = unit.iter().copied().collect();
        for &member in unit.iter().rev() {
            let (node, value) = (nodes[member], nodes[member].outputs[0]);
            let is_leaf = !regions.readers(member).iter().any(|reader| members.contains(reader));
            let (Part::Views, Some(Some(of)), true) = (regions.part(member), node.inputs.first(), is_leaf) else {
                continue;
            };
            let is_there =
                wanted.contains(of) || regions.producer(*of).is_none_or(|producer| !members.contains(&producer));
            // A view of what is a tensor anyway is no further one.
            if wanted.contains(&value) && !graph.outputs().contains(&value) && is_there {
                members.remove(&member);
                wanted.insert(*of);
                all.push(node.clone());
            }
        }
        let outputs: Vec<Value> = members
            .iter()
            .flat_map(|member| &nodes[*member].outputs)
            .filter(|value| wanted.contains(value))
            .copied()
            .collect();
        let Some(first) = outputs.first() else { return };
        let last = members.last().expect("a region has nodes");
        let giver = self.producers.get(first).expect("a region's output is a node's");
        let together = regions.together(unit).unwrap_or(Together::Each);
        let count = kernel::elements_of(graph, giver);
        let kernel = kernel::write(
            Region {
                graph,
                producers: &self.producers,
                own: members.iter().map(|member| nodes[*member].name.as_str()).collect(),
                common: &self.common,
                splits: members.iter().map(|member| nodes[*member]).filter(|node| node.op == "Split").collect(),
                count,
                together,
            },
            &outputs,
        );
        wanted.extend(kernel.inputs.iter().copied());
        // A node has to read something; here what it is of is in the source.
        let operands = members.iter().flat_map(|member| nodes[*member].inputs.iter().flatten());
        let unread = match kernel.inputs.is_empty() {
            true => operands.copied().find_map(|operand| self.constant_beneath(operand)),
            false => None,
        };
        wanted.extend(unread);
        all.push(as_node(graph, format!("{}.fused", nodes[*last].name), kernel, (count, together), unread));
    }
}

/// Whether a node is a kernel by itself: ONNX Runtime has none for it, or needs lengths in the host's memory for many parts.
fn is_kernel(node: &Node) -> bool {
    let is_needed = |op: &str| matches!(op, "Split" | "Concat") || rules::is_compiled(op);
    (node.domain.is_empty() && is_needed(&node.op)) || kernel::is_loop(node)
}

fn as_node(
    graph: &Graph,
    name: String,
    kernel: Kernel,
    (count, together): (usize, Together),
    unread: Option<Value>,
) -> Node {
    let shapes = kernel.outputs.iter().flat_map(|output| {
        let shape = graph.shape(*output);
        [shape.len()].into_iter().chain(shape.iter().copied())
    });
    let shapes: Vec<usize> = shapes.collect();
    let types = kernel.outputs.iter().map(|output| dtype_code(graph.dtype(*output))).collect();
    let attributes = [
        ("source", Attribute::Text(kernel.source)),
        ("elements", own::ints(&[count])),
        ("together", Attribute::Int(together as i64)),
        (WAITS_FOR, Attribute::Int(i64::from(unread.is_some()))),
        ("types", Attribute::Ints(types)),
        ("shapes", own::ints(&shapes)),
    ];
    Node {
        name,
        domain: DOMAIN.into(),
        op: FUSED.into(),
        inputs: kernel.inputs.into_iter().chain(unread).map(Some).collect(),
        outputs: kernel.outputs,
        attributes: attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
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
    for (at, node) in nodes.iter_mut().enumerate() {
        let far = node.outputs.iter().filter_map(|output| Some((*output, *first_reader.get(output)?)));
        let far: Vec<_> = far.filter(|(value, _)| node.op != "Reshape" && !graph.outputs().contains(value)).collect();
        if node.op == FUSED {
            let waits_for: Vec<Value> = std::mem::take(&mut waiting)
                .into_iter()
                .filter(|(value, reader)| *reader > at + NEAR && !node.inputs.contains(&Some(*value)))
                .map(|(value, _)| value)
                .collect();
            let count = i64::try_from(waits_for.len()).expect("a graph has fewer nodes") + node.int(WAITS_FOR, 0);
            node.attributes.insert(WAITS_FOR.into(), Attribute::Int(count));
            node.inputs.extend(waits_for.into_iter().map(Some));
        }
        waiting.extend(far);
    }
    nodes
}

/// Whether places in a tensor fit in the numbers that kernels count with.
pub(crate) fn is_small(graph: &Graph, value: Value) -> bool {
    i32::try_from(elements(graph, value)).is_ok()
}

/// How many elements a value has.
fn elements(graph: &Graph, value: Value) -> usize {
    graph.shape(value).iter().product()
}
