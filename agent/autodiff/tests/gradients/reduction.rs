//! Reductions and functions that act along an axis.

use regatta_autodiff::graph::{Attribute, Graph, Node, Value};
use regatta_autodiff::lower::lower;

use crate::check::{
    Draw::{self, Positive, Signed},
    check, check_at, check_with,
};

const REDUCTIONS: [(&str, Draw); 10] = [
    ("ReduceSum", Signed),
    ("ReduceMean", Signed),
    ("ReduceMax", Signed),
    ("ReduceMin", Signed),
    ("ReduceProd", Signed),
    ("ReduceL1", Signed),
    ("ReduceL2", Signed),
    ("ReduceSumSquare", Signed),
    ("ReduceLogSum", Positive),
    ("ReduceLogSumExp", Signed),
];

#[test]
fn reduction_rules() {
    for (op, draw) in REDUCTIONS {
        for axes in [vec![], vec![0], vec![-1], vec![0, 2], vec![1], vec![0, 1, 2]] {
            for keep in [0, 1] {
                let build = |g: &mut Graph, x: &[Value]| {
                    let axes = g.int_vector(axes.clone());
                    g.node(op, &[x[0], axes], &[("keepdims", Attribute::Int(keep))])
                };
                check_with(op, &[(&[2, 3, 4], draw)], &build);
            }
        }
        check_with(op, &[(&[3, 1], draw)], &|g: &mut Graph, x: &[Value]| g.node(op, x, &[]));
        let build = |g: &mut Graph, x: &[Value]| {
            let none = g.int_vector(vec![]);
            g.node(op, &[x[0], none], &[("noop_with_empty_axes", Attribute::Int(1))])
        };
        check_with("a reduction over no axis", &[(&[2, 3], Positive)], &build);
    }
}

#[test]
fn gradient_at_ties_and_zeros_is_pytorchs() {
    let reduced = |op: &'static str| move |g: &mut Graph, x: &[Value]| g.node(op, x, &[]);
    check_at(&reduced("ReduceMax"), &[&[2.0, 1.0, 2.0]], &[&[0.5, 0.0, 0.5]]);
    check_at(&reduced("ReduceMin"), &[&[1.0, 1.0, 1.0, 3.0]], &[&[1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 0.0]]);
    check_at(&reduced("ReduceProd"), &[&[2.0, 0.0, 3.0]], &[&[0.0, 6.0, 0.0]]);
    check_at(&reduced("ReduceProd"), &[&[2.0, 0.0, 0.0]], &[&[0.0, 0.0, 0.0]]);
    check_at(&reduced("ReduceL2"), &[&[0.0, 0.0]], &[&[0.0, 0.0]]);
    check_at(&reduced("ReduceL1"), &[&[0.0, -2.0]], &[&[0.0, -1.0]]);
}

#[test]
fn softmax_rules() {
    for op in ["Softmax", "LogSoftmax"] {
        for axis in [-1, 0, 1] {
            let build = |g: &mut Graph, x: &[Value]| g.node(op, x, &[("axis", Attribute::Int(axis))]);
            check_with(op, &[(&[2, 3, 4], Signed)], &build);
        }
        check_with(op, &[(&[5], Signed)], &|g: &mut Graph, x: &[Value]| g.node(op, x, &[]));
    }
}

#[test]
fn cumulative_sums() {
    for axis in [0, 1, -1] {
        for (exclusive, reverse) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let build = |g: &mut Graph, x: &[Value]| {
                let attributes = [("exclusive", Attribute::Int(exclusive)), ("reverse", Attribute::Int(reverse))];
                let axis = g.int_scalar(axis);
                g.node("CumSum", &[x[0], axis], &attributes)
            };
            check_with("CumSum", &[(&[3, 2, 4], Signed)], &build);
        }
    }
}

#[test]
fn greatest_values() {
    for (axis, count, largest) in [(-1, 2, 1), (0, 1, 1), (1, 3, 0)] {
        let build = |g: &mut Graph, x: &[Value]| {
            let count = g.int_vector(vec![count]);
            g.node("TopK", &[x[0], count], &[("axis", Attribute::Int(axis)), ("largest", Attribute::Int(largest))])
        };
        check_with("TopK", &[(&[2, 3, 4], Signed)], &build);
    }
}

#[test]
fn choosing_an_index_passes_nothing() {
    for op in ["ArgMax", "ArgMin"] {
        let build = |g: &mut Graph, x: &[Value]| {
            let index = g.node(op, x, &[("axis", Attribute::Int(1))])?;
            let number = g.cast(index, g.dtype(x[0]))?;
            g.mul(number, x[0])
        };
        check_with(op, &[(&[2, 3], Signed)], &build);
    }
    check("Hardmax", &[(&[2, 3], Signed)], |g, x| {
        // Where CUDA has no kernel, it is written as others.
        let node = Node { op: "Hardmax".into(), inputs: vec![Some(x[0])], ..Node::default() };
        let mask = match lower(g, &node)? {
            Some(lowered) => lowered[0].expect("it has an output"),
            None => g.node("Hardmax", x, &[])?,
        };
        g.mul(mask, x[0])
    });
}
