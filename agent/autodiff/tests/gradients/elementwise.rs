//! Functions of each element.

use regatta_autodiff::graph::Dtype;

use crate::check::{
    Draw::{Positive, Signed},
    check,
};

#[test]
fn elementwise_rules() {
    check("Exp", &[(&[2, 3], Signed)], |g, x| g.exp(x[0]));
    check("Log", &[(&[2, 3], Positive)], |g, x| g.log(x[0]));
    check("Sqrt", &[(&[2, 3], Positive)], |g, x| g.sqrt(x[0]));
    check("Erf", &[(&[2, 3], Signed)], |g, x| g.erf(x[0]));
    check("Relu", &[(&[4, 3], Signed)], |g, x| g.relu(x[0]));
    check("Tanh", &[(&[4, 3], Signed)], |g, x| g.tanh(x[0]));
    check("Sigmoid", &[(&[4, 3], Signed)], |g, x| g.sigmoid(x[0]));
    check("Gelu", &[(&[4, 3], Signed)], |g, x| g.gelu(x[0]));
    check("Neg", &[(&[], Signed)], |g, x| g.neg(x[0]));
    check("Identity", &[(&[3], Signed)], |g, x| g.node("Identity", x, &[]));
    check("Cast there and back", &[(&[3], Signed)], |g, x| {
        let narrow = g.cast(x[0], Dtype::F32)?;
        g.cast(narrow, Dtype::F64)
    });
}
