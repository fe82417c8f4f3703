//! Which nodes become one kernel.
//!
//! A region's nodes walk along tensors of as many elements, so that each of its threads computes one element of all of
//! them. Nodes join a region of a node that they read from, unless something outside of the region would have to run
//! between the two.

use std::collections::{BTreeMap, BTreeSet};

use super::kernel::{elements_of, is_flat_split, is_view, moved};
use super::{element, elements};
use crate::graph::{Dtype, Graph, Node, Value, permutation};

/// Parameters of a kernel: CUDA 12.1 and newer take 32,764 bytes of them, of eight each.
const POINTERS_MAX: usize = 4000;

/// What a node does in a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It computes each element by itself, or parts a vector.
    Computes,
    /// It gives its operand's elements in their order.
    Views,
    /// It gives its operands' elements in another order, or some of them.
    Moves,
    /// It stays by itself.
    None,
}

/// The nodes of a graph in units that run one after the other.
pub struct Regions<'a> {
    graph: &'a Graph,
    nodes: &'a [&'a Node],
    parts: Vec<Part>,
    /// Which node gives a value.
    producers: BTreeMap<Value, usize>,
    /// The nodes that read what a node gives.
    readers: Vec<Vec<usize>>,
    /// By the position of a node.
    unit_of: Vec<usize>,
    /// By unit, in order; those that were merged into others are empty.
    members: Vec<Vec<usize>>,
}

impl<'a> Regions<'a> {
    pub fn find(graph: &'a Graph, nodes: &'a [&'a Node]) -> Self {
        let producers: BTreeMap<Value, usize> =
            nodes.iter().enumerate().flat_map(|(at, node)| node.outputs.iter().map(move |value| (*value, at))).collect();
        let mut readers = vec![Vec::new(); nodes.len()];
        for (at, node) in nodes.iter().enumerate() {
            let from: BTreeSet<usize> = node.inputs.iter().flatten().filter_map(|x| producers.get(x).copied()).collect();
            from.into_iter().for_each(|producer| readers[producer].push(at));
        }
        let parts = nodes.iter().map(|node| part(graph, node)).collect();
        let (unit_of, members) = ((0..nodes.len()).collect(), (0..nodes.len()).map(|at| vec![at]).collect());
        let mut regions = Self { graph, nodes, parts, producers, readers, unit_of, members };
        for at in 0..nodes.len() {
            regions.join(at);
        }
        regions
    }

    /// The units in an order in which each has what it reads; of one node, or of several that are a region.
    pub fn units(&self) -> Vec<&[usize]> {
        let mut placed = vec![false; self.members.len()];
        let mut units = Vec::new();
        for at in 0..self.nodes.len() {
            self.place(self.unit_of[at], &mut placed, &mut units);
        }
        units
    }

    fn place<'r>(&'r self, unit: usize, placed: &mut [bool], units: &mut Vec<&'r [usize]>) {
        // By a stack of its own: graphs are deeper than a thread's.
        let mut open = vec![(unit, false)];
        while let Some((unit, has_operands)) = open.pop() {
            if placed[unit] {
                continue;
            }
            if has_operands {
                placed[unit] = true;
                units.push(&self.members[unit]);
                continue;
            }
            open.push((unit, true));
            let operands = self.members[unit].iter().flat_map(|member| self.sources(*member));
            open.extend(operands.map(|source| self.unit_of[source]).filter(|other| *other != unit && !placed[*other]).map(|other| (other, false)));
        }
    }

    pub fn part(&self, node: usize) -> Part {
        self.parts[node]
    }

    /// The nodes that read what a node gives.
    pub fn readers(&self, node: usize) -> &[usize] {
        &self.readers[node]
    }

    /// The nodes that give what a node reads.
    fn sources(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        self.nodes[node].inputs.iter().flatten().filter_map(|value| self.producers.get(value).copied())
    }

    /// Has a node join what it reads from.
    fn join(&mut self, node: usize) {
        if !matches!(self.parts[node], Part::Computes | Part::Views) {
            return;
        }
        let sources: BTreeSet<usize> = self.sources(node).collect();
        for source in sources {
            let joins = match self.parts[source] {
                Part::None => false,
                // What somebody else reads as well has to be written anyway.
                Part::Moves => self.parts[node] == Part::Computes && self.readers[source] == [node],
                Part::Computes | Part::Views => true,
            };
            let walks_alike = elements_of(self.graph, self.nodes[source]) == elements_of(self.graph, self.nodes[node]);
            let is_split = self.nodes[source].op == "Split";
            if joins && walks_alike && !is_split {
                self.merge(self.unit_of[source], self.unit_of[node]);
            }
        }
    }

    /// Makes two units one, where nothing has to run between them.
    fn merge(&mut self, first: usize, second: usize) {
        if first == second || self.pointers(first, second) > POINTERS_MAX {
            return;
        }
        if self.leads(first, second) || self.leads(second, first) {
            return;
        }
        let mut joined = std::mem::take(&mut self.members[second]);
        for member in &joined {
            self.unit_of[*member] = first;
        }
        self.members[first].append(&mut joined);
        self.members[first].sort_unstable();
    }

    /// At most so many parameters has a kernel of both.
    fn pointers(&self, first: usize, second: usize) -> usize {
        let both = || self.members[first].iter().chain(&self.members[second]).map(|member| self.nodes[*member]);
        let values: BTreeSet<Value> = both().flat_map(|node| node.inputs.iter().flatten().chain(&node.outputs)).copied().collect();
        values.len()
    }

    /// Whether a way from one unit to another leads through a third.
    fn leads(&self, from: usize, to: usize) -> bool {
        let mut seen = BTreeSet::from([from, to]);
        let before = |unit: usize| {
            self.members[unit].iter().flat_map(|member| self.sources(*member)).map(|source| self.unit_of[source])
        };
        let mut open: Vec<usize> = before(to).filter(|unit| seen.insert(*unit)).collect();
        while let Some(unit) = open.pop() {
            for other in before(unit) {
                if other == from {
                    return true;
                }
                if seen.insert(other) {
                    open.push(other);
                }
            }
        }
        false
    }
}

/// What a node may do in a region.
fn part(graph: &Graph, node: &Node) -> Part {
    let count = elements_of(graph, node);
    let is_small = |value: &Value| u32::try_from(elements(graph, *value)).is_ok_and(|count| count <= u32::MAX / 2);
    let operands = || node.inputs.iter().flatten();
    if count == 0 || !operands().chain(&node.outputs).all(is_small) || operands().any(|x| elements(graph, *x) == 0) {
        return Part::None;
    }
    // A state may be written by the region that reads it: then each thread is to read no element but its own.
    let reads_no_input = operands().all(|operand| !graph.inputs().contains(operand));
    if is_view(node) {
        Part::Views
    } else if is_flat_split(graph, node) || is_of_elements(graph, node) {
        Part::Computes
    } else if reads_no_input && is_moved_in_runs(graph, node) {
        Part::Moves
    } else {
        Part::None
    }
}

fn is_of_elements(graph: &Graph, node: &Node) -> bool {
    let operands: Vec<Option<String>> = node.inputs.iter().map(|x| x.map(|_| "x".to_owned())).collect();
    node.outputs.len() == 1 && element::expression(graph, node, &operands).is_some()
}

/// Whether threads beside each other read what lies side by side.
fn is_moved_in_runs(graph: &Graph, node: &Node) -> bool {
    let has_runs = match node.op.as_str() {
        "Transpose" => {
            let rank = graph.shape(node.outputs[0]).len();
            permutation(node, rank).is_some_and(|axes| axes.last() == Some(&(rank - 1)))
        }
        "Concat" => return node.domain.is_empty() && graph.dtype(node.outputs[0]) != Dtype::Bool,
        _ => true,
    };
    has_runs && moved(graph, node).is_some()
}
