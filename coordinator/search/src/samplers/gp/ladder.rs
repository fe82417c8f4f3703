//! What a trial that is not done would measure at the full resource, from what others went on to measure.
//!
//! Between one rung of resources and the next, losses are taken to go along a line, with a spread (the autoregressive
//! model of Kennedy and O'Hagan, 2000). A trial's loss is carried up along these lines, and what is in doubt adds up.
//! Those that were stopped do not bend the lines: whether a trial goes on depends on what it had measured, and a line
//! says what follows given that.

use std::collections::BTreeMap;

/// Each rung has this many times the resource of the one below.
const RATIO: u32 = 2;
/// So many trials make a rung one that others are carried up to.
const ENOUGH: usize = 4;
/// Losses worse than the median by this many deviations are all alike.
const WORST: f64 = 3.0;

/// The rungs, from one epoch to the full resource.
#[derive(Debug, Clone)]
pub struct Ladder {
    resources: Vec<u32>,
}

/// A trial's best loss so far, at each rung that it reached and now.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    at: Vec<f64>,
    resource: u32,
    last: f64,
}

/// What is expected at the top, in deviations from the median there, and the variance of that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    pub loss: f64,
    pub doubt: f64,
}

impl Ladder {
    pub fn new(resource: u32) -> Self {
        let falling = std::iter::successors(Some(resource.max(1)), |rung| (*rung > 1).then(|| rung.div_ceil(RATIO)));
        let mut resources: Vec<u32> = falling.collect();
        resources.reverse();
        Self { resources }
    }

    /// How many rungs there are.
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// How many rungs are within the resource.
    pub fn reached(&self, resource: u32) -> usize {
        self.resources.partition_point(|rung| *rung <= resource)
    }

    /// From the losses by resource; a trial that is `done` has no more to come. None: nothing was measured.
    pub fn curve(&self, losses: &BTreeMap<u32, f64>, is_done: bool) -> Option<Curve> {
        let (mut at, mut last) = (Vec::with_capacity(self.resources.len()), f64::INFINITY);
        let mut resource = 0;
        for (reached, loss) in losses {
            resource = *reached;
            while self.resources.get(at.len()).is_some_and(|rung| *rung < resource) {
                at.push(if last.is_finite() { last } else { *loss });
            }
            last = last.min(*loss);
        }
        let reached = if is_done { self.resources.len() } else { self.reached(resource).max(1) };
        at.resize(reached, last);
        last.is_finite().then_some(Curve { at, resource, last })
    }

    /// What each curve comes to at the highest rung that enough of them reached.
    pub fn outlooks(&self, curves: &[Curve]) -> Vec<Outlook> {
        if curves.is_empty() {
            return Vec::new();
        }
        let reached = |rung: usize| curves.iter().filter(|curve| curve.at.len() > rung).count();
        let top = (1..self.resources.len()).take_while(|rung| reached(*rung) >= ENOUGH).last().unwrap_or(0);
        let units: Vec<Unit> = (0..=top)
            .map(|rung| Unit::of(curves.iter().filter_map(|curve| curve.at.get(rung).copied()).collect()))
            .collect();
        let line = |rung: usize| {
            let both = curves.iter().filter(|curve| curve.at.len() > rung + 1);
            let pairs =
                both.map(|curve| (units[rung].place(curve.at[rung]), units[rung + 1].place(curve.at[rung + 1])));
            Line::through(&pairs.collect::<Vec<_>>())
        };
        let lines: Vec<Line> = (0..top).map(line).collect();
        curves.iter().map(|curve| self.carry(curve, &units, &lines)).collect()
    }

    /// A curve that is between two rungs is as far between what the line says and what it measured.
    fn carry(&self, curve: &Curve, units: &[Unit], lines: &[Line]) -> Outlook {
        let rung = curve.at.len() - 1;
        if rung >= lines.len() {
            return Outlook { loss: units[lines.len()].place(curve.at[lines.len()]), doubt: 0.0 };
        }
        let height = |resource: u32| f64::from(resource.max(self.resources[rung])).ln();
        let (low, high) = (height(self.resources[rung]), height(self.resources[rung + 1]));
        let share = ((height(curve.resource) - low) / (high - low)).clamp(0.0, 1.0);
        let by_line = lines[rung].follow(Outlook { loss: units[rung].place(curve.last), doubt: 0.0 });
        let mut outlook = Outlook {
            loss: (1.0 - share) * by_line.loss + share * units[rung + 1].place(curve.last),
            doubt: (1.0 - share) * by_line.doubt,
        };
        for line in &lines[rung + 1..] {
            outlook = line.follow(outlook);
        }
        Outlook { loss: outlook.loss.min(WORST), ..outlook }
    }
}

/// The middle of a rung's losses, and how far the better ones are from it.
#[derive(Debug)]
struct Unit {
    median: f64,
    deviation: f64,
}

impl Unit {
    /// Of finite losses, at least one.
    fn of(mut losses: Vec<f64>) -> Self {
        losses.sort_by(f64::total_cmp);
        let at = |share: f64| losses[(share * (losses.len() - 1) as f64).round() as usize];
        let median = at(0.5);
        // A tenth of the normal distribution is below -1.28 deviations.
        let deviations = [median - at(0.1), median - at(0.0), at(0.9) - median].map(|distance| distance / 1.28);
        let is_sound = |deviation: &f64| *deviation > 0.0 && deviation.is_finite();
        Self { median, deviation: deviations.into_iter().find(is_sound).unwrap_or(1.0) }
    }

    /// In deviations from the median, those that are far off drawn in.
    fn place(&self, loss: f64) -> f64 {
        let place = (loss / self.deviation - self.median / self.deviation).clamp(-f64::MAX, f64::MAX);
        let drawn_in = |beyond: f64, from: f64| from + (1.0 + beyond - from).ln();
        if place > 1.0 {
            drawn_in(place, 1.0).min(WORST)
        } else if place < -WORST {
            -drawn_in(-place, WORST)
        } else {
            place
        }
    }
}

/// From the losses of one rung to those of the next.
#[derive(Debug)]
struct Line {
    from: f64,
    to: f64,
    slope: f64,
    variance: f64,
}

impl Line {
    /// Least squares, with one more point's worth of belief in a slope of 1 and a spread of half a deviation.
    fn through(pairs: &[(f64, f64)]) -> Self {
        let count = pairs.len() as f64;
        let from = pairs.iter().map(|pair| pair.0).sum::<f64>() / count;
        let to = pairs.iter().map(|pair| pair.1).sum::<f64>() / count;
        let squares: f64 = pairs.iter().map(|pair| (pair.0 - from).powi(2)).sum();
        let products: f64 = pairs.iter().map(|pair| (pair.0 - from) * (pair.1 - to)).sum();
        let slope = ((products + 1.0) / (squares + 1.0)).clamp(0.0, 3.0);
        let misses: f64 = pairs.iter().map(|pair| (pair.1 - to - slope * (pair.0 - from)).powi(2)).sum();
        Self { from, to, slope, variance: (misses + 0.25) / (count - 1.0).max(1.0) }
    }

    fn follow(&self, outlook: Outlook) -> Outlook {
        Outlook {
            loss: self.to + self.slope * (outlook.loss - self.from),
            doubt: self.slope * self.slope * outlook.doubt + self.variance,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    #[test]
    fn rungs_halve_from_the_full_resource() {
        assert_eq!(Ladder::new(81).resources, [1, 2, 3, 6, 11, 21, 41, 81]);
        assert_eq!(Ladder::new(1).resources, [1]);
        assert_eq!([0, 1, 5, 81, 100].map(|resource| Ladder::new(81).reached(resource)), [0, 1, 3, 8, 8]);
    }

    #[test]
    fn a_curve_is_the_best_so_far_at_each_rung_that_was_reached() {
        let ladder = Ladder::new(8);
        let losses = BTreeMap::from([(1, 5.0), (3, 2.0), (4, 4.0), (6, 1.0)]);
        assert_eq!(ladder.curve(&losses, false), Some(Curve { at: vec![5.0, 5.0, 2.0], resource: 6, last: 1.0 }));
        assert_eq!(ladder.curve(&losses, true).unwrap().at, [5.0, 5.0, 2.0, 1.0]);
        assert_eq!(ladder.curve(&BTreeMap::from([(8, 3.0)]), false).unwrap().at, [3.0; 4]);
        assert_eq!(ladder.curve(&BTreeMap::new(), true), None);
    }

    #[test]
    fn stopped_trials_are_ranked_as_they_would_have_ended() {
        let ladder = Ladder::new(16);
        let mut stream = Stream::new(Purpose { study_seed: 2, name: "curves", index: 0, redraw: 0 });
        let finals: Vec<f64> = (0..64).map(|_| stream.unit()).collect();
        // A later rung's losses are lower, so that a stopped trial's last is far above what it would have ended with.
        let loss = |of: f64, resource: u32| of + 4.0 / f64::from(resource);
        let curves: Vec<Curve> = finals
            .iter()
            .map(|of| {
                let until = if *of < 0.25 {
                    16
                } else if *of < 0.5 {
                    4
                } else {
                    1
                };
                ladder.curve(&(1..=until).map(|resource| (resource, loss(*of, resource))).collect(), false).unwrap()
            })
            .collect();
        let outlooks = ladder.outlooks(&curves);
        for (a, of_a) in finals.iter().zip(&outlooks) {
            for (b, of_b) in finals.iter().zip(&outlooks) {
                assert!(a + 0.1 >= *b || of_a.loss <= of_b.loss, "{a} {b}: {of_a:?} {of_b:?}");
            }
            assert_eq!(of_a.doubt > 0.0, *a >= 0.25);
        }
    }

    #[test]
    fn losses_that_are_far_off_stay_in_order_and_finite() {
        let ladder = Ladder::new(1);
        let of = |loss: f64| ladder.curve(&BTreeMap::from([(1, loss)]), false).unwrap();
        let curves = [-f64::MAX, -1e9, 0.0, 0.1, 0.2, 0.3, 0.5, 3.0, f64::MAX].map(of);
        let outlooks = ladder.outlooks(&curves);
        assert!(outlooks.windows(2).all(|pair| pair[0].loss <= pair[1].loss && pair[0].loss.is_finite()));
        let same = ladder.outlooks(&[0.5, 0.5, 0.5].map(of));
        assert!(same.iter().all(|outlook| outlook.loss == 0.0));
        assert_eq!(ladder.outlooks(&[]), []);
    }
}
