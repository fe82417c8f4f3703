//! Arithmetic of broadcast operands.

use crate::check::{
    Draw::{Positive, Signed},
    check,
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
