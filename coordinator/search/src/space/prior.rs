//! What a user believes of a parameter, as a density over its coordinates.
//!
//! A number is normally distributed around the value, on the scale that is searched; of choices, the value is so many
//! times as probable as each other. A part is uniform: no belief rules a value out. It knows no sampler.

use regatta_schemas::study::{Confidence, Parameter};

use super::coordinates::{Axis, Coordinate, locate};

/// Numbers are told apart by so many equal parts of [0, 1].
const PARTS: usize = 256;
/// How much of the probability is uniform.
const UNIFORM: f64 = 0.1;

/// Where one parameter's good values are expected.
#[derive(Debug, Clone, PartialEq)]
pub struct Belief {
    /// The probability of each choice, or of each part of [0, 1]; they add up to 1.
    shares: Vec<f64>,
    is_number: bool,
}

impl Belief {
    /// None: the parameter has no prior, or one outside of its domain.
    pub fn of(parameter: &Parameter) -> Option<Self> {
        let prior = parameter.prior.as_ref()?;
        let center = locate(&parameter.domain, &prior.value)?;
        let (weights, is_number): (Vec<f64>, bool) = match (Axis::of(&parameter.domain), center) {
            (Axis::Number { levels }, Coordinate::Number(center)) => {
                // The next level is never out of sight.
                let level = levels.map_or(0.0, |levels| 1.0 / levels as f64);
                let width = deviation(prior.confidence).max(level);
                let weight = |part: usize| (-0.5 * ((middle(part) - center) / width).powi(2)).exp();
                ((0..PARTS).map(weight).collect(), true)
            }
            (Axis::Choice { count }, Coordinate::Choice(preferred)) => {
                let weight = |choice| if choice == preferred { odds(prior.confidence) } else { 1.0 };
                ((0..count).map(weight).collect(), false)
            }
            _ => return None,
        };
        let (all, count) = (weights.iter().sum::<f64>(), weights.len() as f64);
        let share = |weight| (1.0 - UNIFORM) * weight / all + UNIFORM / count;
        Some(Self { shares: weights.into_iter().map(share).collect(), is_number })
    }

    /// ln of the density at a coordinate, relative to the uniform one.
    pub fn log_ratio(&self, at: Coordinate) -> f64 {
        let place = match at {
            Coordinate::Number(share) => (share * self.shares.len() as f64) as usize,
            Coordinate::Choice(place) => place,
        };
        (self.shares[place.min(self.shares.len() - 1)] * self.shares.len() as f64).ln()
    }

    /// The coordinate below which so much of the probability lies: evenly spread shares give the density.
    pub fn coordinate(&self, share: f64) -> Coordinate {
        let (mut left, last) = (share, self.shares.len() - 1);
        let found = self.shares.iter().enumerate().find(|(place, share)| {
            let is_here = left < **share || *place == last;
            left -= if is_here { 0.0 } else { **share };
            is_here
        });
        let (place, share) = found.expect("the last place is taken where none is before");
        if !self.is_number {
            return Coordinate::Choice(place);
        }
        Coordinate::Number(((place as f64 + (left / share).clamp(0.0, 1.0)) / self.shares.len() as f64).min(1.0))
    }

    /// The probability of each choice, or of each part of [0, 1].
    pub fn shares(&self) -> &[f64] {
        &self.shares
    }

    /// Of a number: its mean and standard deviation.
    pub fn moments(&self) -> (f64, f64) {
        let expected = |of: &dyn Fn(f64) -> f64| {
            self.shares.iter().enumerate().map(|(part, share)| share * of(middle(part))).sum::<f64>()
        };
        let mean = expected(&|number| number);
        (mean, expected(&|number| (number - mean).powi(2)).sqrt())
    }
}

fn middle(part: usize) -> f64 {
    (part as f64 + 0.5) / PARTS as f64
}

/// In shares of the range.
fn deviation(confidence: Confidence) -> f64 {
    match confidence {
        Confidence::Low => 0.25,
        Confidence::Medium => 0.125,
        Confidence::High => 0.0625,
    }
}

/// How many times as probable the value is as each other choice.
fn odds(confidence: Confidence) -> f64 {
    match confidence {
        Confidence::Low => 2.0,
        Confidence::Medium => 4.0,
        Confidence::High => 8.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn belief(parameter: Value) -> Option<Belief> {
        Belief::of(&serde_json::from_value(parameter).unwrap())
    }

    fn rate(confidence: &str) -> Belief {
        let prior = json!({"value": 1e-2, "confidence": confidence});
        belief(json!({"type": "float", "low": 1e-4, "high": 1.0, "log": true, "prior": prior})).unwrap()
    }

    #[test]
    fn even_shares_are_drawn_as_the_density_says() {
        for belief in [
            rate("high"),
            belief(json!({"type": "categorical", "choices": ["a", "b", "c"], "prior": {"value": "b"}})).unwrap(),
            belief(json!({"type": "int", "low": 1, "high": 3, "prior": {"value": 3, "confidence": "high"}})).unwrap(),
        ] {
            const DRAWS: usize = 100_000;
            let count = belief.shares.len();
            let mut drawn = vec![0.0; count];
            for draw in 0..DRAWS {
                let at = belief.coordinate((draw as f64 + 0.5) / DRAWS as f64);
                let place = match at {
                    Coordinate::Number(share) => ((share * count as f64) as usize).min(count - 1),
                    Coordinate::Choice(place) => place,
                };
                drawn[place] += 1.0 / DRAWS as f64;
                let expected = (belief.shares[place] * count as f64).ln();
                assert!((belief.log_ratio(at) - expected).abs() < 1e-12);
            }
            let worst = drawn.iter().zip(&belief.shares).map(|(drawn, share)| (drawn - share).abs());
            assert!(worst.fold(0.0, f64::max) < 2.0 / DRAWS as f64);
        }
    }

    #[test]
    fn the_surer_the_narrower_and_nothing_is_ruled_out() {
        let (low, medium, high) = (rate("low"), rate("medium"), rate("high"));
        let at_center = |belief: &Belief| belief.log_ratio(Coordinate::Number(0.5));
        assert!(0.0 < at_center(&low) && at_center(&low) < at_center(&medium) && at_center(&medium) < at_center(&high));
        for edge in [0.0, 1.0] {
            assert!(high.log_ratio(Coordinate::Number(edge)) >= UNIFORM.ln());
            assert!(matches!(high.coordinate(edge), Coordinate::Number(found) if (found - edge).abs() < 1e-9));
        }
        let (mean, deviation) = high.moments();
        assert!((mean - 0.5).abs() < 1e-9 && (0.0625..0.125).contains(&deviation));
    }

    #[test]
    fn what_has_no_prior_or_one_from_elsewhere_is_not_believed_of() {
        for parameter in
            [json!({"type": "bool"}), json!({"type": "categorical", "choices": ["a"], "prior": {"value": "b"}})]
        {
            assert_eq!(belief(parameter), None);
        }
    }
}
