//! Reductions and functions that normalise along an axis.

use regatta_autodiff::graph::{Attribute, Graph, Value};

use crate::check::{Draw::Signed, check_with};

#[test]
fn reduction_rules() {
    for op in ["ReduceSum", "ReduceMean"] {
        for axes in [vec![], vec![0], vec![-1], vec![0, 2], vec![1], vec![0, 1, 2]] {
            for keep in [0, 1] {
                let build = |g: &mut Graph, x: &[Value]| {
                    let axes = g.int_vector(axes.clone());
                    g.node(op, &[x[0], axes], &[("keepdims", Attribute::Int(keep))])
                };
                check_with(op, &[(&[2, 3, 4], Signed)], &build);
            }
        }
        let build = |g: &mut Graph, x: &[Value]| {
            let none = g.int_vector(vec![]);
            g.node(op, &[x[0], none], &[("noop_with_empty_axes", Attribute::Int(1))])
        };
        check_with("a reduction over no axis", &[(&[2, 3], Signed)], &build);
    }
    for op in ["Softmax", "LogSoftmax"] {
        for axis in [-1, 0, 1] {
            let build = |g: &mut Graph, x: &[Value]| g.node(op, x, &[("axis", Attribute::Int(axis))]);
            check_with(op, &[(&[2, 3, 4], Signed)], &build);
        }
    }
}
