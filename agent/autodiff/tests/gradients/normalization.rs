//! Normalisations.

use regatta_autodiff::graph::{Attribute, Graph, Value};

use crate::check::{Draw::Signed, check_with};

#[test]
fn layer_normalization_over_every_axis_with_and_without_bias() {
    for (axis, affine) in [(-1, &[5][..]), (1, &[3, 5]), (2, &[5]), (-2, &[3, 1]), (0, &[2, 3, 5]), (1, &[])] {
        let build = |g: &mut Graph, x: &[Value]| {
            let attributes = [("axis", Attribute::Int(axis)), ("epsilon", Attribute::Float(1e-3))];
            g.node("LayerNormalization", x, &attributes)
        };
        let x = (&[2, 3, 5][..], Signed);
        check_with("LayerNormalization", &[x, (affine, Signed), (affine, Signed)], &build);
        check_with("LayerNormalization without bias", &[x, (affine, Signed)], &build);
    }
}
