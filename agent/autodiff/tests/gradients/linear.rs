//! Matrix products.

use regatta_autodiff::graph::{Attribute, Graph, Value};

use crate::check::{Draw::Signed, check, check_with};

#[test]
fn matrix_product_rules() {
    for (left_t, right_t) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let left: &[usize] = if left_t == 0 { &[2, 4] } else { &[4, 2] };
        let right: &[usize] = if right_t == 0 { &[4, 3] } else { &[3, 4] };
        for addend in [&[2, 3][..], &[3], &[1, 3], &[2, 1], &[]] {
            let build = move |g: &mut Graph, x: &[Value]| {
                let attributes = [
                    ("transA", Attribute::Int(left_t)),
                    ("transB", Attribute::Int(right_t)),
                    ("alpha", Attribute::Float(0.5)),
                    ("beta", Attribute::Float(2.0)),
                ];
                g.node("Gemm", x, &attributes)
            };
            check_with("Gemm", &[(left, Signed), (right, Signed), (addend, Signed)], &build);
        }
    }
    check("Gemm without addend", &[(&[2, 4], Signed), (&[4, 3], Signed)], |g, x| g.node("Gemm", x, &[]));
    let products: [(&[usize], &[usize]); 15] = [
        (&[2, 4], &[4, 3]),
        (&[4], &[4]),
        (&[4], &[4, 3]),
        (&[2, 4], &[4]),
        (&[5, 2, 4], &[4, 3]),
        (&[2, 4], &[5, 4, 3]),
        (&[5, 1, 2, 4], &[6, 4, 3]),
        (&[5, 2, 4], &[4]),
        (&[4], &[5, 4, 3]),
        (&[5, 2, 4], &[1, 4, 3]),
        (&[2, 4], &[1, 1, 4, 3]),
        (&[1, 2, 4], &[5, 4, 3]),
        (&[1, 2, 4], &[3, 5, 4, 2]),
        (&[5, 1, 2, 4], &[1, 6, 4, 3]),
        (&[3, 5, 2, 4], &[5, 4, 3]),
    ];
    for (left, right) in products {
        check("MatMul", &[(left, Signed), (right, Signed)], |g, x| g.matmul(x[0], x[1]));
    }
}
