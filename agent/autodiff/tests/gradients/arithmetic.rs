//! Arithmetic of broadcast operands.

use regatta_autodiff::graph::{Attribute, Graph, Value};

use crate::check::{
    Draw::{Positive, Signed},
    check, check_at, check_with,
};

#[test]
fn arithmetic_rules_with_broadcasting() {
    let shapes: [(&[usize], &[usize]); 8] = [
        (&[2, 3], &[2, 3]),
        (&[2, 3], &[3]),
        (&[3], &[2, 3]),
        (&[2, 3], &[]),
        (&[], &[2, 3]),
        (&[2, 1], &[1, 3]),
        (&[4, 1, 3], &[2, 1]),
        (&[1, 1], &[2, 1, 3]),
    ];
    for (left, right) in shapes {
        check("Add", &[(left, Signed), (right, Signed)], |g, x| g.add(x[0], x[1]));
        check("Sub", &[(left, Signed), (right, Signed)], |g, x| g.sub(x[0], x[1]));
        check("Mul", &[(left, Signed), (right, Signed)], |g, x| g.mul(x[0], x[1]));
        check("Div", &[(left, Signed), (right, Signed)], |g, x| g.div(x[0], x[1]));
        check("Pow", &[(left, Positive), (right, Signed)], |g, x| g.pow(x[0], x[1]));
    }
    check("Pow to a constant", &[(&[2, 3], Signed)], |g, x| {
        let three = g.scalar_like(x[0], 3.0);
        g.pow(x[0], three)
    });
    check("Pow to an integer", &[(&[2, 3], Signed)], |g, x| {
        let two = g.int_scalar(2);
        g.pow(x[0], two)
    });
    check("a value used three times", &[(&[2, 3], Signed)], |g, x| {
        let square = g.mul(x[0], x[0])?;
        g.add(square, x[0])
    });
}

#[test]
fn powers_with_constant_exponents() {
    for exponent in [0.0, 1.0, 2.0, 3.0, -1.0, -2.0] {
        let build = |g: &mut Graph, x: &[Value]| {
            let exponent = g.scalar_like(x[0], exponent);
            g.pow(x[0], exponent)
        };
        check_with("Pow to an integral constant", &[(&[2, 3], Signed)], &build);
    }
    for exponent in [0.5, -0.5, 1.7] {
        let build = |g: &mut Graph, x: &[Value]| {
            let exponent = g.scalar_like(x[0], exponent);
            g.pow(x[0], exponent)
        };
        check_with("Pow to a constant", &[(&[2, 3], Positive)], &build);
    }
}

#[test]
fn power_of_zero_has_a_finite_gradient() {
    for (exponent, slope) in [(1.0, 1.0), (2.0, 0.0), (3.0, 0.0), (1.5, 0.0)] {
        let build = |g: &mut Graph, x: &[Value]| {
            let exponent = g.scalar_like(x[0], exponent);
            g.pow(x[0], exponent)
        };
        check_at(&build, &[&[0.0]], &[&[slope]]);
    }
    check_at(&|g, x| g.pow(x[0], x[1]), &[&[0.0, 0.0], &[2.0, 1.0]], &[&[0.0, 1.0], &[0.0, 0.0]]);
}

#[test]
fn variadic_rules_with_broadcasting() {
    let operands: [&[&[usize]]; 4] =
        [&[&[2, 3]], &[&[2, 3], &[3]], &[&[2, 3], &[2, 1], &[]], &[&[3], &[4, 1, 3], &[2, 1], &[1]]];
    for shapes in operands {
        let inputs: Vec<_> = shapes.iter().map(|shape| (*shape, Signed)).collect();
        for op in ["Sum", "Min", "Max"] {
            check_with(op, &inputs, &|g: &mut Graph, x: &[Value]| g.node(op, x, &[]));
        }
    }
    check("Max with a constant", &[(&[2, 3], Signed)], |g, x| {
        let floor = g.scalar_like(x[0], 0.1);
        g.max(floor, x[0])
    });
}

#[test]
fn remainder_of_floats() {
    let build = |g: &mut Graph, x: &[Value]| g.node("Mod", x, &[("fmod", Attribute::Int(1))]);
    for (left, right) in [(&[4, 3][..], &[4, 3][..]), (&[4, 3], &[3]), (&[3], &[4, 3])] {
        check_with("Mod", &[(left, Signed), (right, Positive)], &build);
    }
}

#[test]
fn choices_with_broadcasting() {
    let shapes: [[&[usize]; 3]; 4] =
        [[&[2, 3], &[2, 3], &[2, 3]], [&[2, 1], &[2, 3], &[]], [&[3], &[2, 1], &[3]], [&[4, 2, 3], &[3], &[2, 1]]];
    for [condition, yes, no] in shapes {
        check("Where", &[(condition, Signed), (yes, Signed), (no, Signed)], |g, x| {
            let zero = g.scalar_like(x[0], 0.0);
            let condition = g.greater(x[0], zero)?;
            let chosen = g.node("Where", &[condition, x[1], x[2]], &[])?;
            g.add(chosen, x[0])
        });
    }
}

#[test]
fn truth_values_pass_nothing() {
    for op in ["And", "Or", "Xor"] {
        for comparison in ["LessOrEqual", "GreaterOrEqual", "Less", "Greater", "Equal"] {
            let build = |g: &mut Graph, x: &[Value]| {
                let (low, high) = (g.scalar_like(x[0], -0.5), g.scalar_like(x[0], 0.5));
                let first = g.node(comparison, &[x[0], low], &[])?;
                let second = g.greater(x[0], high)?;
                let both = g.node(op, &[first, second], &[])?;
                let inverse = g.node("Not", &[both], &[])?;
                let mask = g.cast(inverse, g.dtype(x[0]))?;
                g.mul(mask, x[0])
            };
            check_with(op, &[(&[4, 3], Signed)], &build);
        }
    }
    for op in ["IsNaN", "IsInf"] {
        let build = |g: &mut Graph, x: &[Value]| {
            let truth = g.node(op, x, &[])?;
            let mask = g.cast(truth, g.dtype(x[0]))?;
            g.add(mask, x[0])
        };
        check_with(op, &[(&[3], Signed)], &build);
    }
}
