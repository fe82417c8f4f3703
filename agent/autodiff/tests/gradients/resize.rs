//! Resampling: every mode, by scales and by sizes.

use regatta_autodiff::gradient::gradients;
use regatta_autodiff::graph::{Attribute, Constant, Dtype, Elements, Graph, Provider, Value};

use crate::check::{Draw::Signed, check_at, check_with};

const COORDINATES: [&str; 5] =
    ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"];

fn text(name: &'static str, text: &str) -> (&'static str, Attribute) {
    (name, Attribute::Text(text.into()))
}

fn scales(graph: &mut Graph, scales: &[f64]) -> Value {
    let elements = Elements::Float(scales.to_vec());
    graph.constant(Constant { dtype: Dtype::F32, shape: vec![scales.len()], elements })
}

fn check(factors: &[f64], sizes: &[i64], attributes: &[(&'static str, Attribute)]) {
    let by_scales = |g: &mut Graph, x: &[Value]| {
        let scales = scales(g, factors);
        Ok(g.nodes_of("Resize", &[Some(x[0]), None, Some(scales)], 1, attributes)?[0])
    };
    let by_sizes = |g: &mut Graph, x: &[Value]| {
        let sizes = g.int_vector(sizes.to_vec());
        Ok(g.nodes_of("Resize", &[Some(x[0]), None, None, Some(sizes)], 1, attributes)?[0])
    };
    check_with(&format!("Resize {factors:?} {attributes:?}"), &[(&[1, 2, 3, 4], Signed)], &by_scales);
    check_with(&format!("Resize {sizes:?} {attributes:?}"), &[(&[1, 2, 3, 4], Signed)], &by_sizes);
}

#[test]
fn nearest_elements() {
    for coordinates in COORDINATES {
        for nearest in ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"] {
            let attributes = [text("coordinate_transformation_mode", coordinates), text("nearest_mode", nearest)];
            check(&[1.0, 1.0, 2.0, 3.0], &[1, 2, 5, 1], &attributes);
            check(&[1.0, 1.0, 0.5, 0.75], &[1, 2, 7, 3], &attributes);
        }
    }
}

#[test]
fn interpolations() {
    for mode in ["linear", "cubic"] {
        for coordinates in COORDINATES {
            let attributes = [text("mode", mode), text("coordinate_transformation_mode", coordinates)];
            check(&[1.0, 1.0, 2.0, 1.75], &[1, 2, 5, 1], &attributes);
            check(&[1.0, 1.0, 0.5, 0.75], &[1, 2, 7, 3], &attributes);
        }
    }
}

#[test]
fn named_axes() {
    let build = |g: &mut Graph, x: &[Value]| {
        let sizes = g.int_vector(vec![5, 2]);
        let attributes = [("axes", Attribute::Ints(vec![-1, 0])), text("mode", "linear")];
        Ok(g.nodes_of("Resize", &[Some(x[0]), None, None, Some(sizes)], 1, &attributes)?[0])
    };
    check_with("Resize of named axes", &[(&[3, 2, 4], Signed)], &build);
}

/// Of an axis that is too long for a matrix: the sum of the elements, each twice, times their places.
#[test]
fn resizing_of_a_long_axis() {
    const LENGTH: usize = 1500;
    let build = |g: &mut Graph, x: &[Value]| {
        let twice = scales(g, &[2.0]);
        let attributes = [text("coordinate_transformation_mode", "asymmetric"), text("nearest_mode", "floor")];
        let resized = g.nodes_of("Resize", &[Some(x[0]), None, Some(twice)], 1, &attributes)?[0];
        let elements = Elements::Float((0..2 * LENGTH).map(|place| place as f64).collect());
        let places = g.constant(Constant { dtype: g.dtype(x[0]), shape: vec![2 * LENGTH], elements });
        g.mul(resized, places)
    };
    let expected: Vec<f64> = (0..LENGTH).map(|place| 4.0 * place as f64 + 1.0).collect();
    check_at(&build, &[&[0.5; LENGTH]], &[&expected]);
}

#[test]
fn resizings_too_large_for_memory_are_refused() {
    let mut graph = Graph::new(Provider::Cpu);
    let x = graph.input("x", Dtype::F32, &[50_000]).unwrap();
    let scales = scales(&mut graph, &[80.0]);
    let y = graph.nodes_of("Resize", &[Some(x), None, Some(scales)], 1, &[]).unwrap()[0];
    let one = graph.scalar(Dtype::F32, 1.0);
    let error = gradients(&mut graph, &[(y, one)], &[x]).unwrap_err().to_string();
    assert!(error.contains("up to 80 of 4000000 elements make one of 50000"), "{error}");
}

#[test]
fn malformed_resizes_are_refused() {
    for factors in [&[1.0, 1.0][..], &[0.0], &[-2.0], &[f64::NAN], &[f64::INFINITY], &[1e30]] {
        let mut graph = Graph::new(Provider::Cpu);
        let x = graph.input("x", Dtype::F32, &[4]).unwrap();
        let scales = scales(&mut graph, factors);
        assert!(graph.nodes_of("Resize", &[Some(x), None, Some(scales)], 1, &[]).is_err(), "{factors:?}");
    }
}
