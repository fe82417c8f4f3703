//! The source of a kernel that computes a region of a graph in one pass: each thread an element.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::element::{self, memory_type, register_type};
use super::index::{self, Axis};
use super::{THREADS, Together, elements};
use crate::graph::{Graph, Node, Value, axis_position, permutation, slice_ranges};
use crate::own::{DOMAIN, MAX_POOL_GRADIENT, PARTIAL_SUM};

/// A region's nodes as one kernel.
pub struct Kernel {
    pub inputs: Vec<Value>,
    pub outputs: Vec<Value>,
    /// Its parameters and its body, in C: pointers to the inputs and then to the outputs.
    pub source: String,
}

/// What a kernel is written from.
pub struct Region<'a> {
    pub graph: &'a Graph,
    /// The node that gives a value.
    pub producers: &'a BTreeMap<Value, &'a Node>,
    /// The names of its nodes, and of those that every kernel computes for itself.
    pub own: BTreeSet<&'a str>,
    pub common: &'a BTreeSet<&'a str>,
    /// The vectors that it parts.
    pub splits: Vec<&'a Node>,
    /// How many elements are computed, and how threads share in it.
    pub count: usize,
    pub together: Together,
}

/// Writes the kernel of a region that gives these values.
pub fn write(region: Region<'_>, outputs: &[Value]) -> Kernel {
    let Region { graph, producers, own, common, splits, count, together } = region;
    let mut writer = Writer {
        graph,
        producers,
        own,
        common,
        inputs: Vec::new(),
        known: BTreeMap::new(),
        body: String::new(),
        names: 0,
    };
    let split: BTreeSet<Value> = splits.iter().flat_map(|node| node.outputs.iter().copied()).collect();
    let mut stores = String::new();
    let pointer = |output: Value| outputs.iter().position(|other| *other == output).map(|at| format!("q{at}"));
    for output in outputs.iter().filter(|output| !split.contains(output)) {
        let found = writer.value(*output, "i");
        let stored = element::stored(graph.dtype(*output), &found);
        let _ = writeln!(stores, "{}[i] = {stored};", pointer(*output).unwrap_or_default());
    }
    for node in splits {
        let Some(Some(whole)) = node.inputs.first() else { continue };
        let stored = element::stored(graph.dtype(*whole), &writer.value(*whole, "i"));
        let parts: Vec<(usize, Option<String>)> =
            node.outputs.iter().map(|part| (elements(graph, *part), pointer(*part))).collect();
        store_parts(&mut stores, &parts, 0, &stored);
    }
    let Writer { inputs, body, .. } = writer;
    let parameter = |value: &Value, prefix: &str, at: usize| {
        let of = memory_type(graph.dtype(*value));
        // What a graph takes may be the memory that it writes to; no other memory is the same as an output's.
        let alone = if graph.inputs().contains(value) { "" } else { " __restrict__" };
        match prefix {
            "p" => format!("const {of}*{alone} p{at}"),
            _ => format!("{of}* q{at}"),
        }
    };
    let ins = inputs.iter().enumerate().map(|(at, value)| parameter(value, "p", at));
    let outs = outputs.iter().enumerate().map(|(at, value)| parameter(value, "q", at));
    let parameters: Vec<String> = ins.chain(outs).collect();
    let (begin, stores) = match together.name() {
        None => {
            let begin =
                format!("const unsigned i = blockIdx.x * {THREADS}u + threadIdx.x;\nif (i >= {count}u) return;\n");
            (begin, stores)
        }
        // No thread leaves before the others: they sum up together.
        Some(name) => {
            let begin = format!(
                "const unsigned j = {name}_INDEX, lane = {name}_LANE;\nconst unsigned i = j < {count}u ? j : {}u;\n",
                count - 1
            );
            (begin, format!("if (j < {count}u && lane == 0) {{\n{stores}}}\n"))
        }
    };
    let source = format!("({})\n{{\n{begin}{body}{stores}}}\n", parameters.join(", "));
    Kernel { inputs, outputs: outputs.to_vec(), source }
}

/// How the threads of a kernel share in what it computes, for a loop that is by itself or none.
pub fn together(node: &Node) -> Together {
    /// A thread sums up fewer than so many by itself; and more, where there are threads enough that read side by side.
    const SHARED_MIN: usize = 16;
    const ALONE_MAX: usize = 256;
    const THREADS_ENOUGH: usize = 1 << 13;

    if node.op != PARTIAL_SUM || node.domain != DOMAIN {
        return Together::Each;
    }
    let (sizes, parts) = (node_sizes(node, "sizes"), node_sizes(node, "parts")[0]);
    let (count, is_row) = (sizes[1], sizes[2] == 1);
    let has_threads = !is_row && count <= ALONE_MAX && sizes[0] * sizes[2] >= THREADS_ENOUGH;
    if parts > 1 || count < SHARED_MIN || has_threads {
        Together::Each
    } else if is_row {
        Together::Warp
    } else {
        Together::Tile
    }
}

/// Of the tensor that a thread walks along for a node: what it splits, or what it gives.
pub fn elements_of(graph: &Graph, node: &Node) -> usize {
    let walked =
        if node.op == "Split" { node.inputs.first().copied().flatten() } else { node.outputs.first().copied() };
    walked.map_or(0, |value| elements(graph, value))
}

/// Stores an element of a vector in its part: a tree of comparisons.
fn store_parts(text: &mut String, parts: &[(usize, Option<String>)], start: usize, stored: &str) {
    match parts {
        [] => {}
        [(_, pointer)] => {
            let Some(pointer) = pointer else { return };
            let _ = writeln!(text, "{pointer}[i - {start}u] = {stored};");
        }
        parts => {
            let (first, second) = parts.split_at(parts.len() / 2);
            let border = start + first.iter().map(|part| part.0).sum::<usize>();
            let _ = writeln!(text, "if (i < {border}u) {{");
            store_parts(text, first, start, stored);
            text.push_str("} else {\n");
            store_parts(text, second, border, stored);
            text.push_str("}\n");
        }
    }
}

struct Writer<'a> {
    graph: &'a Graph,
    producers: &'a BTreeMap<Value, &'a Node>,
    own: BTreeSet<&'a str>,
    common: &'a BTreeSet<&'a str>,
    inputs: Vec<Value>,
    /// The names of what is computed already: of an element of a value, by its place, and of places.
    known: BTreeMap<(Option<Value>, String), String>,
    body: String,
    names: usize,
}

impl<'a> Writer<'a> {
    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// The element of a value at a place (the name of a number, or a literal), as a name or a literal.
    fn value(&mut self, value: Value, at: &str) -> String {
        if let Some(literal) = self.literal(value) {
            return literal;
        }
        let key = (Some(value), at.to_owned());
        if let Some(name) = self.known.get(&key) {
            return name.clone();
        }
        let producer = self.producers.get(&value).copied();
        let is_computed = |name: &str| self.own.contains(name) || self.common.contains(name);
        let name = match producer.filter(|node| is_computed(&node.name)) {
            Some(node) if node.op == "Concat" => self.joined(node, at),
            Some(node) if node.op == "Gather" => self.gathered(node, at),
            Some(node) if node.op == PARTIAL_SUM => self.summed(node, at),
            Some(node) if node.op == MAX_POOL_GRADIENT => self.unpooled(node, at),
            Some(node) if is_view(node) => self.operand(node, 0, at),
            Some(node) => match moved(self.graph, node) {
                Some((axes, base)) => {
                    let from = self.place(at, &axes, base);
                    self.operand(node, 0, &from)
                }
                None => {
                    let computed = self.element(node, at);
                    self.declare(value, &computed)
                }
            },
            None => {
                let loaded = self.load(value, at);
                self.declare(value, &loaded)
            }
        };
        self.known.insert(key, name.clone());
        name
    }

    fn declare(&mut self, value: Value, computed: &str) -> String {
        let name = self.name("v");
        let of = register_type(self.graph.dtype(value));
        let _ = writeln!(self.body, "const {of} {name} = {computed};");
        name
    }

    /// A number that is the same wherever it is read.
    fn literal(&self, value: Value) -> Option<String> {
        if let Some(constant) = self.graph.constant_of(value) {
            return element::literal(constant);
        }
        let node = self.producers.get(&value).filter(|node| node.op == "Expand" || is_view(node))?;
        self.literal(node.inputs.first().copied().flatten()?)
    }

    fn operand(&mut self, node: &Node, position: usize, at: &str) -> String {
        let operand = node.inputs.get(position).copied().flatten().expect("a node of a region has its operands");
        self.value(operand, at)
    }

    fn load(&mut self, value: Value, at: &str) -> String {
        let position = self.inputs.iter().position(|input| *input == value).unwrap_or_else(|| {
            self.inputs.push(value);
            self.inputs.len() - 1
        });
        element::loaded(self.graph.dtype(value), &format!("p{position}[{at}]"))
    }

    /// An operator of single elements.
    fn element(&mut self, node: &Node, at: &str) -> String {
        let shape = self.graph.shape(node.outputs[0]).to_vec();
        let operands: Vec<Option<String>> = (node.inputs.iter())
            .map(|input| {
                let operand = (*input)?;
                let of = self.graph.shape(operand).to_vec();
                // A bound of Clip may have more axes than what it cuts.
                let axes = if of.len() > shape.len() { Vec::new() } else { index::broadcast(&shape, &of) };
                let from = self.place(at, &axes, 0);
                Some(self.value(operand, &from))
            })
            .collect();
        element::expression(self.graph, node, &operands).expect("a region has no other operators")
    }

    /// A place in another tensor, as a name or a literal.
    fn place(&mut self, at: &str, axes: &[Axis], base: i64) -> String {
        let place = index::place(at, axes, base);
        if place == at || place.chars().all(|c| c.is_ascii_alphanumeric()) {
            return place;
        }
        let key = (None, place);
        if let Some(name) = self.known.get(&key) {
            return name.clone();
        }
        let name = self.name("i");
        let _ = writeln!(self.body, "const unsigned {name} = {};", key.1);
        self.known.insert(key, name.clone());
        name
    }

    /// A variable that begins at zero.
    fn sum(&mut self, of: Value) -> String {
        let name = self.name("v");
        let _ = writeln!(self.body, "{} {name} = 0;", register_type(self.graph.dtype(of)));
        name
    }

    /// A sum of every so manieth element, which are computed here.
    fn summed(&mut self, node: &Node, at: &str) -> String {
        let (sizes, parts) = (node_sizes(node, "sizes"), node_sizes(node, "parts")[0]);
        let (outer, count, inner) = (sizes[0], sizes[1], sizes[2]);
        let axes = |strides: [usize; 3]| {
            let stride = |at: usize| i64::try_from(strides[at]).expect("a tensor's size fits in an i64");
            [outer, parts, inner]
                .into_iter()
                .enumerate()
                .map(|(at, size)| Axis { size, stride: stride(at) })
                .collect::<Vec<_>>()
        };
        let together = together(node).name();
        let (first, step) = match together {
            Some(name) => ("lane".to_owned(), format!("{name}_LANES")),
            None => (self.place(at, &axes([0, 1, 0]), 0), number(parts)),
        };
        let base = self.place(at, &axes([count * inner, 0, 1]), 0);
        let (sum, turn, place) = (self.sum(node.outputs[0]), self.name("k"), self.name("i"));
        let known = self.known.clone();
        let _ = writeln!(
            self.body,
            "#pragma unroll 4\nfor (unsigned {turn} = {first}; {turn} < {count}u; {turn} += {step}) {{\n\
             const unsigned {place} = {base} + {turn} * {inner}u;"
        );
        let element = self.operand(node, 0, &place);
        let _ = writeln!(self.body, "{sum} += {element};\n}}");
        self.known = known;
        match together {
            Some(name) => self.declare(node.outputs[0], &format!("ACROSS_{name}({sum})")),
            None => sum,
        }
    }

    /// What flows to an element from the windows in which it is the first of the greatest.
    fn unpooled(&mut self, node: &Node, at: &str) -> String {
        let shapes =
            [0, 1].map(|operand| node.inputs[operand].map(|x| self.graph.shape(x).to_vec()).unwrap_or_default());
        let ([_, _, down, across], [_, _, height, width]) = (&shapes[0][..], &shapes[1][..]) else {
            unreachable!("such a gradient is of planes");
        };
        let pair = |name: &str| {
            let sizes = node_sizes(node, name);
            (sizes[0], sizes[1])
        };
        let ((high, wide), (s0, s1)) = (pair("kernel_shape"), pair("strides"));
        let ((d0, d1), (b0, b1)) = (pair("dilations"), pair("begins"));
        let (sum, own) = (self.sum(node.outputs[0]), self.operand(node, 1, at));
        let known = self.known.clone();
        let [plane, row, column, a, b, top, left, c, d, y, x, wins] =
            ["i", "r", "c", "a", "b", "t", "l", "e", "f", "y", "x", "w"].map(|prefix| self.name(prefix));
        let (other, window) = (self.name("i"), self.name("i"));
        let _ = writeln!(
            self.body,
            "const unsigned {plane} = {at} / {}u;\nconst int {row} = ({at} / {width}u) % {height}u, {column} = {at} % {width}u;\n\
             for (int {a} = 0; {a} < {high}; ++{a}) for (int {b} = 0; {b} < {wide}; ++{b}) {{\n\
             const int {top} = {row} + {b0} - {a} * {d0}, {left} = {column} + {b1} - {b} * {d1};\n\
             if ({top} < 0 || {left} < 0 || {top} % {s0} || {left} % {s1}) continue;\n\
             if ({top} / {s0} >= {down} || {left} / {s1} >= {across}) continue;\n\
             int {wins} = 1;\n\
             for (int {c} = 0; {c} < {high}; ++{c}) for (int {d} = 0; {d} < {wide}; ++{d}) {{\n\
             const int {y} = {top} - {b0} + {c} * {d0}, {x} = {left} - {b1} + {d} * {d1};\n\
             if ({y} < 0 || {y} >= {height} || {x} < 0 || {x} >= {width}) continue;\n\
             const unsigned {other} = {plane} * {}u + {y} * {width} + {x};",
            height * width,
            height * width
        );
        let inner = self.known.clone();
        let compared = self.operand(node, 1, &other);
        let _ = writeln!(
            self.body,
            "if ({c} * {wide} + {d} < {a} * {wide} + {b} ? {compared} >= {own} : {compared} > {own}) {wins} = 0;\n}}\n\
             if (!{wins}) continue;\n\
             const unsigned {window} = {plane} * {}u + {top} / {s0} * {across} + {left} / {s1};",
            down * across
        );
        self.known = inner;
        let flowing = self.operand(node, 0, &window);
        let _ = writeln!(self.body, "{sum} += {flowing};\n}}");
        self.known = known;
        let rounded = element::rounded(self.graph.dtype(node.outputs[0]), sum);
        self.declare(node.outputs[0], &rounded)
    }

    /// An element of what indices name along an axis. Below zero they count from the end.
    fn gathered(&mut self, node: &Node, at: &str) -> String {
        let shapes =
            [0, 1].map(|operand| node.inputs[operand].map(|x| self.graph.shape(x).to_vec()).unwrap_or_default());
        let [data, indices] = shapes;
        let axis = axis_position(node.int("axis", 0), data.len()).expect("a Gather has its axis");
        let [outer, row] = [&data[..axis], &data[axis + 1..]].map(|axes| axes.iter().product::<usize>());
        let (rows, count) = (data[axis], indices.iter().product());
        let block = i64::try_from(rows * row).expect("a tensor's elements can be counted");
        let along = |steps: [i64; 3]| {
            let sizes = [outer, count, row].into_iter().zip(steps);
            sizes.map(|(size, stride)| Axis { size, stride }).collect::<Vec<_>>()
        };
        let order = self.place(at, &along([0, 1, 0]), 0);
        let index = self.operand(node, 1, &order);
        let within = self.place(at, &along([block, 0, 1]), 0);
        let place = self.name("i");
        let _ = writeln!(
            self.body,
            "const unsigned {place} = (unsigned)({index} < 0 ? {index} + {rows} : {index}) * {row}u + {within};"
        );
        self.operand(node, 0, &place)
    }

    /// An element of tensors side by side.
    fn joined(&mut self, node: &Node, at: &str) -> String {
        let shape = self.graph.shape(node.outputs[0]).to_vec();
        let axis = axis_position(node.int("axis", 0), shape.len()).expect("a Concat has its axis");
        let inner: usize = shape[axis + 1..].iter().product();
        let mut before = vec![Axis { size: shape[..axis].iter().product(), stride: 0 }];
        before.extend([Axis { size: shape[axis], stride: 1 }, Axis { size: inner, stride: 0 }]);
        let along = self.place(at, &before, 0);
        let outer = self.place(
            at,
            &[Axis { size: before[0].size, stride: 1 }, Axis { size: shape[axis] * inner, stride: 0 }],
            0,
        );
        let parts: Vec<(Value, usize)> =
            node.inputs.iter().flatten().map(|&part| (part, self.graph.shape(part)[axis])).collect();
        let name = self.name("v");
        let of = register_type(self.graph.dtype(node.outputs[0]));
        let _ = writeln!(self.body, "{of} {name};");
        let whole =
            Joined { at, along: &along, outer: &outer, is_first: before[0].size == 1, inner, size: shape[axis] };
        self.joined_parts(&whole, &parts, 0, &name);
        name
    }

    /// Sets `name` to the element of the part that `along` is in: a tree of comparisons.
    fn joined_parts(&mut self, whole: &Joined<'_>, parts: &[(Value, usize)], start: usize, name: &str) {
        match parts {
            [] => {}
            [(part, size)] => {
                // What is computed in a branch is not there outside of it.
                let known = self.known.clone();
                let skipped = number(start * whole.inner);
                let from = if whole.is_first {
                    format!("{} - {skipped}", whole.at)
                } else {
                    format!(
                        "{} - {} * {} - {skipped}",
                        whole.at,
                        whole.outer,
                        number((whole.size - size) * whole.inner)
                    )
                };
                let place = self.name("i");
                let _ = writeln!(self.body, "const unsigned {place} = {from};");
                let found = self.value(*part, &place);
                let _ = writeln!(self.body, "{name} = {found};");
                self.known = known;
            }
            parts => {
                let (first, second) = parts.split_at(parts.len() / 2);
                let border = start + first.iter().map(|part| part.1).sum::<usize>();
                let _ = writeln!(self.body, "if ({} < {border}u) {{", whole.along);
                self.joined_parts(whole, first, start, name);
                self.body.push_str("} else {\n");
                self.joined_parts(whole, second, border, name);
                self.body.push_str("}\n");
            }
        }
    }
}

/// A place in a Concat: among all elements, along its axis, and among what lies before its axis.
struct Joined<'a> {
    at: &'a str,
    along: &'a str,
    outer: &'a str,
    is_first: bool,
    /// Elements of a step along the axis.
    inner: usize,
    /// Of the axis.
    size: usize,
}

fn number(size: usize) -> String {
    format!("{size}u")
}

/// Whether a node gives its operand's elements in their order.
pub fn is_view(node: &Node) -> bool {
    node.domain.is_empty() && matches!(node.op.as_str(), "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Identity")
}

/// How a node that only moves elements walks along its operand, axis by axis, and where it begins.
pub fn moved(graph: &Graph, node: &Node) -> Option<(Vec<Axis>, i64)> {
    let x = node.inputs.first().copied().flatten().filter(|_| node.domain.is_empty())?;
    let (from, to) = (graph.shape(x), graph.shape(*node.outputs.first()?));
    let strides = index::strides(from);
    match node.op.as_str() {
        "Expand" => Some((index::broadcast(to, from), 0)),
        "Transpose" => {
            let axes = permutation(node, from.len())?;
            Some((axes.iter().map(|&axis| Axis { size: from[axis], stride: strides[axis] }).collect(), 0))
        }
        "Slice" => {
            let mut axes: Vec<Axis> = to.iter().zip(&strides).map(|(&size, &stride)| Axis { size, stride }).collect();
            let mut base = 0;
            for (axis, range) in slice_ranges(graph, node)?.into_iter().enumerate() {
                base += i64::try_from(range.start).ok()? * strides[axis];
                axes[axis].stride = axes[axis].stride.checked_mul(range.step)?;
            }
            Some((axes, base))
        }
        _ => None,
    }
}

/// The numbers of an attribute.
fn node_sizes(node: &Node, name: &str) -> Vec<usize> {
    let numbers = node.ints(name).unwrap_or_default();
    numbers.iter().map(|&number| usize::try_from(number).expect("sizes are not below zero")).collect()
}

/// Whether a node computes an element of many.
pub fn is_loop(node: &Node) -> bool {
    node.domain == DOMAIN && [PARTIAL_SUM, MAX_POOL_GRADIENT].contains(&node.op.as_str())
}

/// Whether a node takes what indices name along an axis.
pub fn is_gather(node: &Node) -> bool {
    node.domain.is_empty() && node.op == "Gather"
}

/// Whether all parts of a Split are of one vector.
pub fn is_flat_split(graph: &Graph, node: &Node) -> bool {
    let whole = node.inputs.first().copied().flatten();
    node.domain.is_empty() && node.op == "Split" && whole.is_some_and(|whole| graph.shape(whole).len() == 1)
}
