//! Which nodes become one kernel.
//!
//! A region's nodes walk along tensors of as many elements, so that each of its threads computes one element of all of
//! them. From the last node to the first, each joins the regions of those that read it, unless something else would have
//! to run between the two: so what a gradient needs of a value is computed with the gradient, and not kept until then.

use std::collections::{BTreeMap, BTreeSet};

use super::kernel::{elements_of, is_flat_split, is_gather, is_loop, is_view, moved, together};
use super::{Together, element, elements, is_small};
use crate::graph::{Dtype, Graph, Node, Value, permutation};
use crate::own::PARTIAL_SUM;

/// Parameters of a kernel: CUDA 12.1 and newer take 32,764 bytes of them, of eight each.
const POINTERS_MAX: usize = 4000;

/// Nodes of a region: a kernel's source is written by a walk that is as deep.
const MEMBERS_MAX: usize = 300;

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
    /// By unit: those that it needs to have run.
    ancestors: Vec<Bits>,
    /// By node that reads elements of others' threads: what types and sizes of states these may be computed from.
    read_across: BTreeMap<usize, BTreeSet<(Dtype, usize)>>,
}

/// A set of units.
#[derive(Clone)]
struct Bits(Vec<u64>);

impl Bits {
    fn none(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    fn has(&self, unit: usize) -> bool {
        self.0[unit / 64] >> (unit % 64) & 1 == 1
    }

    fn insert(&mut self, unit: usize) {
        self.0[unit / 64] |= 1 << (unit % 64);
    }

    fn remove(&mut self, unit: usize) {
        self.0[unit / 64] &= !(1 << (unit % 64));
    }

    fn extend(&mut self, other: &Self) {
        for (bits, others) in self.0.iter_mut().zip(&other.0) {
            *bits |= others;
        }
    }
}

impl<'a> Regions<'a> {
    pub fn find(graph: &'a Graph, nodes: &'a [&'a Node]) -> Self {
        let producers: BTreeMap<Value, usize> = nodes
            .iter()
            .enumerate()
            .flat_map(|(at, node)| node.outputs.iter().map(move |value| (*value, at)))
            .collect();
        let mut readers = vec![Vec::new(); nodes.len()];
        for (at, node) in nodes.iter().enumerate() {
            let from: BTreeSet<usize> =
                node.inputs.iter().flatten().filter_map(|x| producers.get(x).copied()).collect();
            from.into_iter().for_each(|producer| readers[producer].push(at));
        }
        let parts = nodes.iter().map(|node| part(graph, node)).collect();
        let (unit_of, members) = ((0..nodes.len()).collect(), (0..nodes.len()).map(|at| vec![at]).collect());
        let ancestors = vec![Bits::none(nodes.len()); nodes.len()];
        let read_across = BTreeMap::new();
        let mut regions = Self { graph, nodes, parts, producers, readers, unit_of, members, ancestors, read_across };
        regions.read_across = regions.reads_across();
        for at in 0..nodes.len() {
            let mut all = Bits::none(nodes.len());
            for source in regions.sources(at) {
                all.insert(source);
                all.extend(&regions.ancestors[source]);
            }
            regions.ancestors[at] = all;
        }
        for at in (0..nodes.len()).rev() {
            regions.join(at);
        }
        regions.join_sums();
        for at in (0..nodes.len()).rev().filter(|at| is_loop(nodes[*at])) {
            regions.take_in(at);
        }
        regions
    }

    /// The units in an order in which each has what it reads; of one node, or of several that are a region.
    pub fn units(&self) -> Vec<&[usize]> {
        let mut placed = vec![false; self.members.len()];
        let mut units = Vec::new();
        // When the turn of its last node has come, so that nothing is computed, and then kept, before it has to be.
        for at in 0..self.nodes.len() {
            let unit = self.unit_of[at];
            if self.members[unit].last() == Some(&at) {
                self.place(unit, &mut placed, &mut units);
            }
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
            open.extend(
                operands
                    .map(|source| self.unit_of[source])
                    .filter(|other| *other != unit && !placed[*other])
                    .map(|other| (other, false)),
            );
        }
    }

    pub fn part(&self, node: usize) -> Part {
        self.parts[node]
    }

    /// The unit that a node is in.
    pub fn unit_of(&self, node: usize) -> usize {
        self.unit_of[node]
    }

    pub fn members(&self, unit: usize) -> &[usize] {
        &self.members[unit]
    }

    /// The node that gives a value.
    pub fn producer(&self, value: Value) -> Option<usize> {
        self.producers.get(&value).copied()
    }

    /// The nodes that read what a node gives.
    pub fn readers(&self, node: usize) -> &[usize] {
        &self.readers[node]
    }

    /// The nodes that give what a node reads.
    fn sources(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        self.nodes[node].inputs.iter().flatten().filter_map(|value| self.producers.get(value).copied())
    }

    /// Whether a value is the memory of a state, which may have been overwritten later on: states are inputs that have no
    /// more axes than one.
    pub fn is_state(&self, value: Value) -> bool {
        let mut of = value;
        while let Some(&producer) = self.producers.get(&of) {
            match (self.parts[producer], self.nodes[producer].inputs.first()) {
                (Part::Views, Some(Some(operand))) => of = *operand,
                _ => return false,
            }
        }
        self.graph.inputs().contains(&of) && self.graph.shape(of).len() < 2
    }

    /// Of nodes that read other elements than their own, what states of several elements these may be computed from in one
    /// kernel.
    fn reads_across(&self) -> BTreeMap<usize, BTreeSet<(Dtype, usize)>> {
        let mut states: BTreeMap<Value, BTreeSet<(Dtype, usize)>> = BTreeMap::new();
        for input in self.graph.inputs().iter().filter(|input| self.graph.shape(**input).len() == 1) {
            states.insert(*input, BTreeSet::from([(self.graph.dtype(*input), elements(self.graph, *input))]));
        }
        let mut across = BTreeMap::new();
        for (at, node) in self.nodes.iter().enumerate() {
            let read: BTreeSet<_> =
                node.inputs.iter().flatten().filter_map(|x| states.get(x)).flatten().copied().collect();
            if read.is_empty() || self.parts[at] == Part::None || node.op == "Split" {
                continue;
            }
            if self.parts[at] == Part::Moves || is_loop(node) || is_gather(node) {
                across.insert(at, read.clone());
            }
            states.extend(node.outputs.iter().map(|output| (*output, read.clone())));
        }
        across
    }

    /// Whether a kernel of both units might write a state of which it reads other elements than a thread's own.
    fn is_race(&self, first: usize, second: usize) -> bool {
        let members = || self.members[first].iter().chain(&self.members[second]);
        let read = || members().filter_map(|member| self.read_across.get(member)).flatten();
        let given = members().flat_map(|member| &self.nodes[*member].outputs);
        let mut given = given.filter(|output| self.graph.outputs().contains(output));
        read().next().is_some()
            && given.any(|output| {
                let written = (self.graph.dtype(*output), elements(self.graph, *output));
                written.1 > 1 && read().any(|state| *state == written)
            })
    }

    /// Whether one of the units parts a vector of which the other reads a part.
    fn reads_part(&self, first: usize, second: usize) -> bool {
        let members = || self.members[first].iter().chain(&self.members[second]);
        members()
            .filter(|member| self.nodes[**member].op == "Split")
            .any(|split| self.readers[*split].iter().any(|reader| [first, second].contains(&self.unit_of[*reader])))
    }

    /// Has a node join what reads it.
    fn join(&mut self, node: usize) {
        if self.parts[node] == Part::None || self.nodes[node].op == "Split" {
            return;
        }
        let count = elements_of(self.graph, self.nodes[node]);
        let is_read_once = self.readers[node].len() == 1;
        let walks_alike = |reader: &usize| {
            let takes_in = match self.parts[*reader] {
                Part::Computes | Part::Views => true,
                // Its elements are computed in the order of what is moved.
                Part::Moves => is_read_once && self.nodes[*reader].op == "Transpose" && !is_loop(self.nodes[node]),
                Part::None => false,
            };
            takes_in && elements_of(self.graph, self.nodes[*reader]) == count
        };
        let alike: BTreeSet<usize> = self.readers[node]
            .iter()
            .filter(|reader| walks_alike(reader))
            .map(|reader| self.unit_of[*reader])
            .collect();
        if self.parts[node] == Part::Moves {
            // What somebody else reads as well has to be written anyway.
            let is_of_one = alike.len() == 1 && self.readers[node].iter().all(walks_alike);
            let computes =
                |unit: &usize| self.members[*unit].iter().any(|member| self.parts[*member] == Part::Computes);
            if !is_of_one || !alike.iter().all(computes) || self.graph.outputs().contains(&self.nodes[node].outputs[0])
            {
                return;
            }
        }
        for unit in alike {
            self.merge(self.unit_of[node], unit);
        }
    }

    /// Has a sum compute what it sums up, where nobody else reads that.
    fn take_in(&mut self, sum: usize) {
        if self.nodes[sum].op != PARTIAL_SUM {
            return;
        }
        let Some(source) = self.sources(sum).next() else { return };
        let (from, to) = (self.unit_of[source], self.unit_of[sum]);
        let is_plain = |member: &usize| {
            let node = self.nodes[*member];
            self.parts[*member] != Part::None && !is_loop(node) && node.op != "Split"
        };
        let is_read_here = |member: &usize| {
            let readers = self.readers[*member].iter();
            let given = self.nodes[*member].outputs.iter().any(|output| self.graph.outputs().contains(output));
            !given && readers.copied().all(|reader| [from, to].contains(&self.unit_of[reader]))
        };
        let members = &self.members[from];
        let is_own = members.iter().all(is_plain) && members.iter().all(is_read_here);
        if from != to && is_own && self.may_be_one(from, to) {
            self.unite(to, from);
        }
    }

    /// How the threads of a unit share in its loops; `None` where it has none.
    pub fn together(&self, members: &[usize]) -> Option<Together> {
        members.iter().map(|member| self.nodes[*member]).find(|node| is_loop(node)).map(together)
    }

    /// Has sums that read the same and are as many run as one.
    ///
    /// Of two: more would take longer by themselves, and keep what the first of them reads for the last.
    fn join_sums(&mut self) {
        let sums = (0..self.nodes.len()).filter(|at| self.nodes[*at].op == PARTIAL_SUM);
        let sums: Vec<(usize, BTreeSet<Value>)> = sums.map(|sum| (sum, self.leaves(sum))).collect();
        for (at, (first, leaves)) in sums.iter().enumerate() {
            for (second, others) in &sums[at + 1..] {
                let has_one = |sum: usize| {
                    let members = self.members[self.unit_of[sum]].iter();
                    members.filter(|member| self.nodes[**member].op == PARTIAL_SUM).count() == 1
                };
                let is_alike = self.nodes[*first].attributes == self.nodes[*second].attributes
                    && self.unit_of[*first] != self.unit_of[*second];
                if is_alike && has_one(*first) && has_one(*second) && !leaves.is_disjoint(others) {
                    self.merge(self.unit_of[*first], self.unit_of[*second]);
                }
            }
        }
    }

    /// What a sum reads of as many elements as it sums up, through what is cheaply computed.
    fn leaves(&self, sum: usize) -> BTreeSet<Value> {
        let (mut leaves, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let mut open: Vec<Value> = self.nodes[sum].inputs.iter().flatten().copied().collect();
        let count = open.first().map_or(0, |x| elements(self.graph, *x));
        while let Some(value) = open.pop() {
            if !seen.insert(value) {
                continue;
            }
            match self.producers.get(&value).map(|producer| self.nodes[*producer]) {
                Some(node) if is_view(node) || is_cheap(node) => open.extend(node.inputs.iter().flatten()),
                _ if elements(self.graph, value) == count => {
                    leaves.insert(value);
                }
                _ => {}
            }
        }
        leaves
    }

    /// Makes two units one, where nothing has to run between them.
    fn merge(&mut self, first: usize, second: usize) {
        if first == second || !self.may_be_one(first, second) || self.reads_part(first, second) {
            return;
        }
        let ways = [first, second].map(|unit| self.together(&self.members[unit]));
        if let [Some(one), Some(other)] = ways
            && one != other
        {
            return;
        }
        if self.leads(first, second) || self.leads(second, first) {
            return;
        }
        self.unite(first, second);
    }

    /// Makes two units the first of them.
    fn unite(&mut self, first: usize, second: usize) {
        let mut joined = std::mem::take(&mut self.members[second]);
        for member in &joined {
            self.unit_of[*member] = first;
        }
        self.members[first].append(&mut joined);
        self.members[first].sort_unstable();

        let mut all = std::mem::replace(&mut self.ancestors[second], Bits::none(0));
        all.extend(&self.ancestors[first]);
        [first, second].into_iter().for_each(|unit| all.remove(unit));
        for descendant in &mut self.ancestors {
            if !descendant.0.is_empty() && (descendant.has(first) || descendant.has(second)) {
                descendant.extend(&all);
                descendant.remove(second);
                descendant.insert(first);
            }
        }
        // It was its own where one of the two needed the other.
        self.ancestors[first] = all;
    }

    /// Whether a kernel can be of both units.
    fn may_be_one(&self, first: usize, second: usize) -> bool {
        self.members[first].len() + self.members[second].len() <= MEMBERS_MAX
            && self.pointers(first, second) <= POINTERS_MAX
            && !self.is_race(first, second)
    }

    /// At most so many parameters has a kernel of both.
    fn pointers(&self, first: usize, second: usize) -> usize {
        let both = || self.members[first].iter().chain(&self.members[second]).map(|member| self.nodes[*member]);
        let values: BTreeSet<Value> =
            both().flat_map(|node| node.inputs.iter().flatten().chain(&node.outputs)).copied().collect();
        values.len()
    }

    /// Whether a way from one unit to another leads through a third.
    fn leads(&self, from: usize, to: usize) -> bool {
        let sources =
            self.members[to].iter().flat_map(|member| self.sources(*member)).map(|source| self.unit_of[source]);
        sources.filter(|unit| *unit != from && *unit != to).any(|unit| self.ancestors[unit].has(from))
    }
}

/// Whether computing a node's elements again takes less than to write and to read them.
pub fn is_cheap(node: &Node) -> bool {
    const CHEAP: &[&str] = &[
        "Add", "Sub", "Mul", "Neg", "Cast", "Relu", "Greater", "Less", "Equal", "Not", "And", "Or", "Where", "Max",
        "Min",
    ];
    node.domain.is_empty() && CHEAP.contains(&node.op.as_str())
}

/// What a node may do in a region.
fn part(graph: &Graph, node: &Node) -> Part {
    let count = elements_of(graph, node);
    let operands = || node.inputs.iter().flatten();
    if count == 0
        || !operands().chain(&node.outputs).all(|value| is_small(graph, *value))
        || operands().any(|x| elements(graph, *x) == 0)
    {
        return Part::None;
    }
    // A state may be written by the region that reads it: then each thread is to read no element but its own. A state is
    // as large as what it becomes, and has no more axes than one.
    let is_vector = |operand: &Value| graph.shape(*operand).len() < 2;
    let is_state = |x: &Value| graph.inputs().contains(x) && is_vector(x) && elements(graph, *x) == count;
    let reads_no_state = !operands().any(is_state);
    if is_view(node) {
        Part::Views
    } else if is_flat_split(graph, node)
        || is_of_elements(graph, node)
        || is_loop(node)
        || (reads_no_state && is_gather(node))
    {
        Part::Computes
    } else if reads_no_state && is_moved_in_runs(graph, node) {
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
            permutation(node, rank).is_some_and(|axes| axes.last().is_some_and(|last| last + 1 == rank))
        }
        "Concat" => return node.domain.is_empty() && graph.dtype(node.outputs[0]) != Dtype::Bool,
        _ => true,
    };
    has_runs && moved(graph, node).is_some()
}
