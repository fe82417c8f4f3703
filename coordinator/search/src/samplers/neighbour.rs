//! Configurations near another one, conditions kept.

use regatta_schemas::study::Domain;
use regatta_schemas::{ParamValue, Params};

use crate::random::Stream;
use crate::space::{Axis, Coordinate, Space, locate, sample, value_at};

/// How far from its parent a configuration lies.
#[derive(Debug, Clone, Copy)]
pub struct Reach {
    /// Standard deviation of a number's move, of [0, 1].
    pub scale: f64,
    /// The chance of each parameter to move, besides the one that always does.
    pub chance: f64,
}

/// A configuration in which one or more of the parent's parameters have moved: numbers by a normal step, mirrored at the
/// bounds and at least about a level wide, choices to another one. What the parent lacks is drawn anew.
pub fn neighbour(space: &Space, parent: &Params, reach: Reach, stream: &mut Stream) -> Params {
    let movable =
        space.parameters().filter(|(name, parameter)| parent.contains_key(*name) && can_move(&parameter.domain));
    let movable: Vec<&str> = movable.map(|(name, _)| name).collect();
    let mover = if movable.is_empty() { None } else { Some(movable[stream.below(movable.len())]) };
    space.configure(|name, domain| {
        let moves = stream.unit() < reach.chance || mover == Some(name);
        match parent.get(name).and_then(|value| Some((value, locate(domain, value)?))) {
            Some((value, coordinate)) if !moves => kept(domain, value, coordinate),
            Some((_, coordinate)) => value_at(domain, moved(domain, coordinate, reach.scale, stream)),
            None => sample(domain, stream.word()),
        }
    })
}

impl Reach {
    /// From a quarter of a range down to a hundredth, uniform in the logarithm.
    pub fn drawn(chance: f64, stream: &mut Stream) -> Self {
        Self { scale: 0.25 * 0.04_f64.powf(stream.unit()), chance }
    }
}

/// A configuration from anywhere in the space; where parameters have priors, one in two is drawn from these.
pub fn anywhere(space: &Space, stream: &mut Stream) -> Params {
    if space.has_priors() && stream.below(2) == 0 {
        space.configure(|name, domain| space.sample_believed(name, domain, stream.word()))
    } else {
        uniform(space, stream)
    }
}

/// A configuration from anywhere in the space, whatever anybody believes.
pub fn uniform(space: &Space, stream: &mut Stream) -> Params {
    space.configure(|_, domain| sample(domain, stream.word()))
}

/// Folds the number line into [0, 1], as mirrors at both bounds would.
pub fn mirrored(number: f64) -> f64 {
    let folded = number.rem_euclid(2.0);
    if folded > 1.0 { 2.0 - folded } else { folded }
}

/// The value itself, if it lies within the bounds.
fn kept(domain: &Domain, value: &ParamValue, coordinate: Coordinate) -> ParamValue {
    match (domain, value.as_f64()) {
        (Domain::Float { low, high, step: None, .. }, Some(number)) => ParamValue::Float(number.clamp(*low, *high)),
        _ => value_at(domain, coordinate),
    }
}

fn can_move(domain: &Domain) -> bool {
    !matches!(Axis::of(domain), Axis::Number { levels: Some(1) } | Axis::Choice { count: 1 })
}

fn moved(domain: &Domain, from: Coordinate, scale: f64, stream: &mut Stream) -> Coordinate {
    match (Axis::of(domain), from) {
        (Axis::Choice { count }, Coordinate::Choice(place)) if count > 1 => {
            Coordinate::Choice((place + 1 + stream.below(count - 1)) % count)
        }
        (Axis::Number { levels }, Coordinate::Number(number)) => {
            let width = levels.map_or(0.0, |levels| 1.0 / levels as f64);
            let to = mirrored(number + scale.max(width) * stream.normal());
            let stays = (to - number).abs() < width;
            // To the next level, the one below at the upper bound and at the lower one the one above.
            let next =
                if number + width > 1.0 || (to < number && number > width) { number - width } else { number + width };
            Coordinate::Number(if stays { next } else { to })
        }
        _ => from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;
    use regatta_schemas::check;
    use serde_json::json;

    #[test]
    fn a_neighbour_keeps_conditions_and_differs() {
        let parameters = serde_json::from_value(json!({
            "rate": {"type": "float", "low": 1e-5, "high": 1.0, "log": true},
            "kind": {"type": "categorical", "choices": ["a", "b", "c"]},
            "depth": {"type": "int", "low": 1, "high": 4, "when": {"kind": ["a", "b"]}},
            "only": {"type": "categorical", "choices": ["one"]},
        }))
        .unwrap();
        let space = Space::new(&parameters);
        let mut stream = Stream::new(Purpose { study_seed: 1, name: "test", index: 0, redraw: 0 });
        let mut parent = anywhere(&space, &mut stream);
        for _ in 0..500 {
            let child = neighbour(&space, &parent, Reach { scale: 0.1, chance: 0.2 }, &mut stream);
            assert_eq!(check::params(&parameters, &serde_json::to_value(&child).unwrap()), Ok(child.clone()));
            assert_ne!(child, parent);
            parent = child;
        }
    }

    #[test]
    fn mirrors_fold_any_number_between_the_bounds() {
        for (number, expected) in [(0.25, 0.25), (-0.25, 0.25), (1.25, 0.75), (2.25, 0.25), (-1.25, 0.75)] {
            assert!((mirrored(number) - expected).abs() < 1e-12, "{number}");
        }
    }
}
