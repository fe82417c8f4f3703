//! Operators that move elements.

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
}
