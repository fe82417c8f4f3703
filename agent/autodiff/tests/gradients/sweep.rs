//! What the sweep does around the rules.

use regatta_autodiff::gradient::{GradientError, gradients};
use regatta_autodiff::graph::{Attribute, Constant, Dtype, Elements, Graph, Provider, Value};

use crate::check::{Draw::Signed, check, check_on};

#[test]
fn flow_stops_at_operators_without_a_gradient() {
    check("a mask", &[(&[2, 3], Signed)], |g, x| {
        let zero = g.scalar_like(x[0], 0.1);
        let above = g.greater(x[0], zero)?;
        let dtype = g.dtype(x[0]);
        let mask = g.cast(above, dtype)?;
        g.mul(x[0], mask)
    });
}

#[test]
fn flow_stops_at_sizes_and_at_classes() {
    for op in ["Shape", "Size"] {
        // They are no nodes of a model that was read.
        check_on(Provider::Cpu, op, &[(&[3, 3], Signed)], &|g: &mut Graph, x: &[Value]| {
            let size = g.node(op, x, &[])?;
            let dtype = g.dtype(x[0]);
            let size = g.cast(size, dtype)?;
            let size = if op == "Shape" { g.sum_along(size, 0)? } else { size };
            g.mul(x[0], size)
        });
    }
    check("OneHot", &[(&[2, 3], Signed)], |g, x| {
        let classes = g.node("ArgMax", x, &[("axis", Attribute::Int(1)), ("keepdims", Attribute::Int(0))])?;
        let depth = g.int_vector(vec![3]);
        let elements = Elements::Float(vec![0.0, 1.0]);
        let dtype = g.dtype(x[0]);
        let values = g.constant(Constant { dtype, shape: vec![2], elements });
        let mask = g.node("OneHot", &[classes, depth, values], &[])?;
        g.mul(mask, x[0])
    });
}

#[test]
fn missing_rule_names_operator_node_and_opset() {
    let mut graph = Graph::new(Provider::Cpu);
    let x = graph.input("x", Dtype::F32, &[2]).unwrap();
    let y = graph.custom(("example", "Sparkle"), &[x], &[], &[(Dtype::F32, vec![2])]).unwrap()[0];
    let one = graph.constant(regatta_autodiff::graph::Constant {
        dtype: Dtype::F32,
        shape: vec![2],
        elements: Elements::Float(vec![1.0, 1.0]),
    });
    let node = graph.nodes()[0].name.clone();

    let error = gradients(&mut graph, &[(y, one)], &[x]).unwrap_err();

    let GradientError::MissingRule { op, node: at, opset, help } = error else { panic!("{error}") };
    assert_eq!((op.as_str(), at, opset), ("Sparkle", node, 20));
    assert!(!help.is_empty());
}

#[test]
fn value_without_influence_is_an_error() {
    let mut graph = Graph::new(Provider::Cpu);
    let x = graph.input("x", Dtype::F32, &[]).unwrap();
    let unused = graph.input("unused", Dtype::F32, &[]).unwrap();
    let y = graph.exp(x).unwrap();

    let error = gradients(&mut graph, &[(y, y)], &[x, unused]).unwrap_err();

    assert_eq!(error, GradientError::Unreached { name: "unused".into() });
}
