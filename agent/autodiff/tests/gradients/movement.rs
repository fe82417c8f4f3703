//! Operators that move elements.

use regatta_autodiff::graph::Attribute;

use crate::check::{Draw::Signed, check};

#[test]
fn rules_that_move_elements() {
    check("Reshape", &[(&[2, 6], Signed)], |g, x| g.reshape(x[0], &[3, 4]));
    check("Reshape by 0 and -1", &[(&[2, 3, 4], Signed)], |g, x| {
        let shape = g.int_vector(vec![0, -1]);
        g.node("Reshape", &[x[0], shape], &[])
    });
    check("Expand", &[(&[3, 1], Signed)], |g, x| g.expand(x[0], &[2, 3, 4]));
    check("Expand a scalar", &[(&[], Signed)], |g, x| g.expand(x[0], &[2, 3]));
    check("Transpose", &[(&[2, 3, 4], Signed)], |g, x| g.transpose(x[0], &[2, 0, 1]));
    check("Transpose reversed", &[(&[2, 3, 4], Signed)], |g, x| g.node("Transpose", x, &[]));
    check("Concat", &[(&[2, 3], Signed), (&[2, 1], Signed), (&[2, 2], Signed)], |g, x| {
        g.node("Concat", x, &[("axis", Attribute::Int(-1))])
    });
    check("Split with parts that nobody uses", &[(&[6, 2], Signed)], |g, x| {
        let lengths = g.int_vector(vec![1, 2, 3]);
        let parts = g.nodes_of("Split", &[Some(x[0]), Some(lengths)], 3, &[])?;
        g.exp(parts[1])
    });
    check("Split into equal parts", &[(&[2, 5], Signed)], |g, x| {
        let parts = g.nodes_of("Split", &[Some(x[0])], 2, &[("axis", Attribute::Int(1))])?;
        let product = g.sum_along(parts[1], 1)?;
        g.mul(parts[0], product)
    });
}
