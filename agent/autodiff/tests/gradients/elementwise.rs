//! Functions of each element.

use regatta_autodiff::graph::{Attribute, Dtype, Graph, Value};

use crate::check::{
    Draw::{self, Inner, Outer, Positive, Signed},
    check, check_at, check_with,
};

#[test]
fn functions_without_attributes() {
    let rows: [(&str, Draw); 28] = [
        ("Exp", Signed),
        ("Log", Positive),
        ("Sqrt", Positive),
        ("Reciprocal", Signed),
        ("Abs", Signed),
        ("Neg", Signed),
        ("Erf", Signed),
        ("Sin", Signed),
        ("Cos", Signed),
        ("Tan", Inner),
        ("Asin", Inner),
        ("Acos", Inner),
        ("Atan", Signed),
        ("Sinh", Signed),
        ("Cosh", Signed),
        ("Asinh", Signed),
        ("Acosh", Outer),
        ("Atanh", Inner),
        ("Relu", Signed),
        ("Tanh", Signed),
        ("Sigmoid", Signed),
        ("Softplus", Signed),
        ("Softsign", Signed),
        ("Elu", Signed),
        ("Selu", Signed),
        ("LeakyRelu", Signed),
        ("Gelu", Signed),
        ("Identity", Signed),
    ];
    for (op, draw) in rows {
        for shape in [&[4, 3][..], &[], &[2, 1, 3]] {
            // CUDA's kernel takes no scalar.
            let shape = if op == "Gelu" && shape.is_empty() { &[1] } else { shape };
            check_with(op, &[(shape, draw)], &|g: &mut Graph, x: &[Value]| g.node(op, x, &[]));
        }
    }
}

#[test]
fn functions_with_attributes() {
    let float = |name: &'static str, value: f64| (name, Attribute::Float(value));
    let rows = [
        ("LeakyRelu", vec![float("alpha", 0.3)]),
        ("LeakyRelu", vec![float("alpha", -0.3)]),
        ("LeakyRelu", vec![float("alpha", 1.5)]),
        ("Elu", vec![float("alpha", 0.4)]),
        ("Selu", vec![float("alpha", 1.2), float("gamma", 0.7)]),
        ("ThresholdedRelu", vec![float("alpha", 0.2)]),
        ("HardSigmoid", vec![float("alpha", 0.2)]),
        ("HardSigmoid", vec![float("alpha", 0.45), float("beta", 0.3)]),
        ("Gelu", vec![("approximate", Attribute::Text("tanh".into()))]),
        ("Gelu", vec![("approximate", Attribute::Text("none".into()))]),
    ];
    for (op, attributes) in rows {
        check_with(op, &[(&[6, 5], Signed)], &|g: &mut Graph, x: &[Value]| g.node(op, x, &attributes));
    }
}

#[test]
fn prelu_with_slopes_of_every_shape() {
    for slope in [&[2, 3, 4][..], &[3, 1], &[4], &[]] {
        check("PRelu", &[(&[2, 3, 4], Signed), (slope, Signed)], |g, x| g.node("PRelu", x, &[]));
    }
}

#[test]
fn clip_with_constant_variable_and_absent_bounds() {
    check("Clip", &[(&[4, 5], Signed)], |g, x| {
        let (low, high) = (g.scalar_like(x[0], -0.9), g.scalar_like(x[0], 1.1));
        g.node("Clip", &[x[0], low, high], &[])
    });
    check("Clip from above", &[(&[4, 5], Signed), (&[], Positive)], |g, x| {
        Ok(g.nodes_of("Clip", &[Some(x[0]), None, Some(x[1])], 1, &[])?[0])
    });
    check("Clip from below", &[(&[4, 5], Signed), (&[], Positive)], |g, x| g.node("Clip", x, &[]));
    check("Clip without bounds", &[(&[4], Signed)], |g, x| g.node("Clip", x, &[]));
}

#[test]
fn gradient_at_a_bound_or_a_tie_is_pytorchs() {
    let clip = |g: &mut Graph, x: &[Value]| {
        let (low, high) = (g.scalar_like(x[0], -1.0), g.scalar_like(x[0], 1.0));
        g.node("Clip", &[x[0], low, high], &[])
    };
    check_at(&clip, &[&[-1.0, -2.0, 1.0, 0.5]], &[&[1.0, 0.0, 1.0, 1.0]]);
    check_at(&|g, x| g.max(x[0], x[1]), &[&[1.0, 2.0, 3.0], &[1.0, 4.0, -1.0]], &[&[0.5, 0.0, 1.0], &[0.5, 1.0, 0.0]]);
    let three = |g: &mut Graph, x: &[Value]| g.node("Min", &[x[0], x[1], x[2]], &[]);
    let third = 1.0 / 3.0;
    check_at(&three, &[&[1.0, 2.0], &[1.0, 3.0], &[1.0, 2.0]], &[&[third, 0.5], &[third, 0.0], &[third, 0.5]]);
    let floor = |g: &mut Graph, x: &[Value]| {
        let zero = g.scalar_like(x[0], 0.0);
        g.max(x[0], zero)
    };
    check_at(&floor, &[&[0.0, -1.0, 2.0]], &[&[1.0, 0.0, 1.0]]);
    check_at(&|g, x| g.relu(x[0]), &[&[0.0, -1.0, 2.0]], &[&[0.0, 0.0, 1.0]]);
    check_at(&|g, x| g.abs(x[0]), &[&[0.0, -1.0, 2.0]], &[&[0.0, -1.0, 1.0]]);
}

#[test]
fn casts_among_floats() {
    check("Cast", &[(&[3], Signed)], |g, x| {
        let narrow = g.cast(x[0], Dtype::F32)?;
        let wide = g.dtype(x[0]);
        g.cast(narrow, wide)
    });
}

#[test]
fn steps_pass_nothing() {
    for op in ["Sign", "Ceil", "Floor", "Round"] {
        let build = |g: &mut Graph, x: &[Value]| {
            let step = g.node(op, x, &[])?;
            g.mul(step, x[0])
        };
        check_with(op, &[(&[4, 3], Signed)], &build);
    }
}
