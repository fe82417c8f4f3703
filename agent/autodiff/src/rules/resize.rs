//! The gradient of resampling. Every mode of `Resize` is a linear map along each axis by itself, so what flows back
//! is the transposed map along each. Formulas are those of the ONNX operator's definition.

use super::{Flowing, Row, rule};
use crate::gradient::{Flow, GradientError};
use crate::graph::{self, LinearMap, Node};

pub(super) const ROWS: &[Row] = &[rule("Resize", resize, "dy, by the transposed interpolation along each axis")];

fn resize(flow: &mut Flow<'_>) -> Flowing {
    let (dy, x) = (flow.dy()?, flow.x(0)?);
    let resized = graph::resized(flow.graph, &flow.node);
    let resized = resized.ok_or_else(|| flow.unsupported("its scales or sizes are not constant"))?;
    let shape = flow.graph.shape(x).to_vec();
    let sampling = Sampling::of(flow)?;
    let mut to_x = dy;
    for (axis, (&size, &(scale, length))) in shape.iter().zip(&resized).enumerate() {
        if (scale, length) == (1.0, size) {
            continue;
        }
        to_x = flow.along_axis(to_x, axis, &sampling.transposed(size, length, scale))?;
    }
    Ok(vec![Some(to_x)])
}

#[derive(Clone, Copy)]
enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
}

#[derive(Clone, Copy)]
enum Neighbours {
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
    Linear,
    Cubic { coefficient: f64 },
}

struct Sampling {
    coordinates: Coordinates,
    neighbours: Neighbours,
}

impl Sampling {
    fn of(flow: &Flow<'_>) -> Result<Self, GradientError> {
        let node = &flow.node;
        if node.int("antialias", 0) != 0 || node.int("exclude_outside", 0) != 0 {
            return Err(flow.unsupported("antialias and exclude_outside are not covered"));
        }
        let coordinates = match node.text("coordinate_transformation_mode").unwrap_or("half_pixel") {
            "half_pixel" => Coordinates::HalfPixel,
            "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
            "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
            "align_corners" => Coordinates::AlignCorners,
            "asymmetric" => Coordinates::Asymmetric,
            other => return Err(flow.unsupported(&format!("coordinates by {other}"))),
        };
        let neighbours = neighbours(node).ok_or_else(|| flow.unsupported("its mode is not known"))?;
        Ok(Self { coordinates, neighbours })
    }

    /// How much of each of the `length` new elements comes from each of the `size` old ones.
    #[expect(clippy::cast_precision_loss, reason = "a tensor has fewer than 2^52 elements")]
    fn transposed(&self, size: usize, length: usize, scale: f64) -> LinearMap {
        let last = size as f64 - 1.0;
        let shares = (0..length).flat_map(|to| {
            let weights = self.weights(self.coordinate(to as f64, size as f64, length as f64, scale));
            weights.into_iter().map(move |(place, weight)| (index(place.clamp(0.0, last)), to, weight))
        });
        LinearMap::new(size, length, shares)
    }

    /// Where a new element lies among the old ones.
    fn coordinate(&self, to: f64, size: f64, length: f64, scale: f64) -> f64 {
        let half_pixel = (to + 0.5) / scale - 0.5;
        match self.coordinates {
            Coordinates::HalfPixel => half_pixel,
            Coordinates::HalfPixelSymmetric => half_pixel + size / 2.0 * (1.0 - length / (scale * size)),
            Coordinates::PytorchHalfPixel | Coordinates::AlignCorners if length <= 1.0 => 0.0,
            Coordinates::PytorchHalfPixel => half_pixel,
            Coordinates::AlignCorners => to * (size - 1.0) / (length - 1.0),
            Coordinates::Asymmetric => to / scale,
        }
    }

    /// Places, which may lie outside, and their weights.
    fn weights(&self, at: f64) -> Vec<(f64, f64)> {
        let (floor, ratio) = (at.floor(), at - at.floor());
        match self.neighbours {
            Neighbours::RoundPreferFloor => vec![((at - 0.5).ceil(), 1.0)],
            Neighbours::RoundPreferCeil => vec![((at + 0.5).floor(), 1.0)],
            Neighbours::Floor => vec![(floor, 1.0)],
            Neighbours::Ceil => vec![(at.ceil(), 1.0)],
            Neighbours::Linear => vec![(floor, 1.0 - ratio), (floor + 1.0, ratio)],
            Neighbours::Cubic { coefficient } => {
                let distances = [1.0 + ratio, ratio, 1.0 - ratio, 2.0 - ratio];
                let places = [floor - 1.0, floor, floor + 1.0, floor + 2.0];
                places.into_iter().zip(distances.map(|distance| cubic(distance, coefficient))).collect()
            }
        }
    }
}

fn neighbours(node: &Node) -> Option<Neighbours> {
    let nearest = node.text("nearest_mode").unwrap_or("round_prefer_floor");
    match (node.text("mode").unwrap_or("nearest"), nearest) {
        ("linear", _) => Some(Neighbours::Linear),
        ("cubic", _) => Some(Neighbours::Cubic { coefficient: node.float("cubic_coeff_a", -0.75) }),
        ("nearest", "round_prefer_floor") => Some(Neighbours::RoundPreferFloor),
        ("nearest", "round_prefer_ceil") => Some(Neighbours::RoundPreferCeil),
        ("nearest", "floor") => Some(Neighbours::Floor),
        ("nearest", "ceil") => Some(Neighbours::Ceil),
        _ => None,
    }
}

/// The weight of a neighbour (Keys, Cubic convolution interpolation for digital image processing, 1981).
fn cubic(distance: f64, a: f64) -> f64 {
    if distance <= 1.0 {
        ((a + 2.0) * distance - (a + 3.0)) * distance * distance + 1.0
    } else {
        ((a * distance - 5.0 * a) * distance + 8.0 * a) * distance - 4.0 * a
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place within an axis")]
fn index(place: f64) -> usize {
    place as usize
}
