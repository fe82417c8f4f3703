//! Resampling, axis by axis, by the formulas of the ONNX operator's definition.

use regatta_autodiff::graph::{Elements, Node};

use super::{Tensor, axis_of, coordinates, position};

/// `None` where the operator belongs to another family.
pub fn apply(node: &Node, operands: &[Option<Tensor>]) -> Option<Vec<Tensor>> {
    let operand = |at: usize| operands.get(at).and_then(Option::as_ref);
    if node.op != "Resize" {
        return None;
    }
    let mut y = operand(0)?.clone();
    let all: Vec<i64> = (0..y.shape.len() as i64).collect();
    for (at, &axis) in node.ints("axes").unwrap_or(&all).iter().enumerate() {
        let axis = axis_of(axis, y.shape.len());
        let size = y.shape[axis] as f64;
        let (scale, length) = match (operand(2).map(|scales| &scales.elements), operand(3)) {
            (Some(Elements::Float(scales)), _) => (scales[at], (size * scales[at]).floor()),
            (_, Some(sizes)) => (sizes.as_ints()[at] as f64 / size, sizes.as_ints()[at] as f64),
            _ => panic!("neither scales nor sizes"),
        };
        y = along(node, &y, axis, scale, length);
    }
    Some(vec![y])
}

fn along(node: &Node, x: &Tensor, axis: usize, scale: f64, length: f64) -> Tensor {
    let mut shape = x.shape.clone();
    shape[axis] = length as usize;
    let last = x.shape[axis] as f64 - 1.0;
    let number = |at: usize| {
        let mut to = coordinates(at, &shape);
        let place = original(node, to[axis] as f64, last + 1.0, length, scale);
        let mut element = |place: f64| {
            to[axis] = place.max(0.0).min(last) as usize;
            x.as_floats()[position(&to, &x.shape)]
        };
        match node.text("mode").unwrap_or("nearest") {
            "linear" => {
                let ratio = place - place.floor();
                (1.0 - ratio) * element(place.floor()) + ratio * element(place.floor() + 1.0)
            }
            "cubic" => (-1..3)
                .map(|offset| {
                    let neighbour = place.floor() + f64::from(offset);
                    keys((place - neighbour).abs(), node.float("cubic_coeff_a", -0.75)) * element(neighbour)
                })
                .sum(),
            _ => match node.text("nearest_mode").unwrap_or("round_prefer_floor") {
                "floor" => element(place.floor()),
                "ceil" => element(place.ceil()),
                "round_prefer_ceil" => element(place.round()),
                _ if place - place.floor() == 0.5 => element(place.floor()),
                _ => element(place.round()),
            },
        }
    };
    Tensor::floats(&shape, (0..shape.iter().product()).map(number).collect())
}

fn original(node: &Node, to: f64, size: f64, length: f64, scale: f64) -> f64 {
    match node.text("coordinate_transformation_mode").unwrap_or("half_pixel") {
        "half_pixel_symmetric" => {
            let adjustment = length / (scale * size);
            size / 2.0 * (1.0 - adjustment) + (to + 0.5) / scale - 0.5
        }
        "pytorch_half_pixel" if length <= 1.0 => 0.0,
        "align_corners" if length <= 1.0 => 0.0,
        "align_corners" => to * (size - 1.0) / (length - 1.0),
        "asymmetric" => to / scale,
        _ => (to + 0.5) / scale - 0.5,
    }
}

fn keys(distance: f64, a: f64) -> f64 {
    let (square, cube) = (distance.powi(2), distance.powi(3));
    if distance <= 1.0 {
        (a + 2.0) * cube - (a + 3.0) * square + 1.0
    } else if distance < 2.0 {
        a * cube - 5.0 * a * square + 8.0 * a * distance - 4.0 * a
    } else {
        0.0
    }
}
