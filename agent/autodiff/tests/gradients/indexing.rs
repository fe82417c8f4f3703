//! Operators that pick elements by index.

use crate::check::{Draw::Signed, check};

#[test]
fn rules_that_pick_elements() {
    check("Gather with a row twice", &[(&[4, 3], Signed)], |g, x| {
        let rows = g.int_vector(vec![1, 3, 1]);
        g.gather(x[0], rows)
    });
    check("Gather of a vector by a matrix", &[(&[4], Signed)], |g, x| {
        let flat = g.int_vector(vec![0, 1, -1, 3, 0, 2]);
        let rows = g.reshape(flat, &[2, 3])?;
        let squares = g.mul(x[0], x[0])?;
        g.gather(squares, rows)
    });
}
