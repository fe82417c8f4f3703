//! How the learning rate runs: a factor of the optimizer's own, computed on the host in double precision.
//!
//! A factor is a function of the step alone, but for the plateau's, whose state is part of a checkpoint.

use std::f64::consts::PI;

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Schedule {
    #[default]
    Constant,
    /// Times `factor` after every `every` epochs.
    Step { every: u32, factor: f64 },
    /// Half a cosine, from one down to `floor`.
    Cosine { floor: f64 },
    /// A straight line from one down to `floor`.
    Linear { floor: f64 },
    /// Up from `start` to one over the share `rise` of the steps, then down to `floor`, both by half cosines
    /// (Smith and Topin, 2019).
    OneCycle { rise: f64, start: f64, floor: f64 },
    /// Times `factor` after every epoch.
    Exponential { factor: f64 },
    /// Times `factor` once the validation loss has not fallen for `patience` epochs.
    Plateau { factor: f64, patience: u32 },
}

/// A moment in a training.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// Steps before this one.
    pub step: u64,
    pub steps_per_epoch: u64,
    /// Of the whole training.
    pub epochs: u32,
    /// The share of the whole training's steps in which the factor rises to one, before the schedule begins.
    pub warm_up: f64,
}

impl Moment {
    #[expect(clippy::cast_precision_loss, reason = "a training has fewer than 2^52 steps")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a number of steps")]
    fn warm_up_steps(self) -> u64 {
        (self.warm_up * self.steps() as f64).round() as u64
    }

    fn steps(self) -> u64 {
        self.steps_per_epoch * u64::from(self.epochs)
    }
}

/// What a plateau has seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Plateau {
    /// The factor so far.
    pub factor: f64,
    /// The least validation loss.
    pub best: f64,
    /// Epochs since then, or since the factor fell.
    pub stale: u64,
    /// Epochs that were finished at the last validation that counted.
    pub seen: u64,
}

impl Default for Plateau {
    fn default() -> Self {
        Self { factor: 1.0, best: f64::INFINITY, stale: 0, seen: 0 }
    }
}

impl Schedule {
    /// The factor of the learning rate in the step at `moment`: a straight line that reaches one in the last step of the
    /// warm-up, and from there the schedule over what is left.
    #[expect(clippy::cast_precision_loss, reason = "a training has fewer than 2^52 steps")]
    pub(super) fn factor(self, moment: Moment, plateau: Plateau) -> f64 {
        let warm_up = moment.warm_up_steps();
        if moment.step < warm_up {
            return (moment.step + 1) as f64 / warm_up as f64;
        }
        let step = moment.step - warm_up;
        let share = step as f64 / (moment.steps().saturating_sub(warm_up)).max(1) as f64;
        let epoch = step / moment.steps_per_epoch.max(1);
        let power = |factor: f64, times: u64| factor.powi(i32::try_from(times).unwrap_or(i32::MAX));
        match self {
            Self::Constant => 1.0,
            Self::Step { every, factor } => power(factor, epoch / u64::from(every.max(1))),
            Self::Cosine { floor } => fallen(floor, share),
            Self::Linear { floor } => 1.0 - (1.0 - floor) * share.min(1.0),
            Self::OneCycle { rise, start, .. } if share < rise => fallen(start, 1.0 - share / rise),
            Self::OneCycle { rise, floor, .. } => fallen(floor, (share - rise) / (1.0 - rise)),
            Self::Exponential { factor } => power(factor, epoch),
            Self::Plateau { .. } => plateau.factor,
        }
    }

    /// Takes note of a validation after `epoch` epochs; only the first one of an epoch counts.
    pub(super) fn observe(self, plateau: &mut Plateau, epoch: u64, loss: f64) {
        let Self::Plateau { factor, patience } = self else { return };
        if epoch <= plateau.seen {
            return;
        }
        plateau.seen = epoch;
        if loss < plateau.best {
            (plateau.best, plateau.stale) = (loss, 0);
            return;
        }
        plateau.stale += 1;
        if plateau.stale >= u64::from(patience) {
            plateau.factor *= factor;
            plateau.stale = 0;
        }
    }

    /// The first of its numbers that is out of its range, as what must hold.
    pub(super) fn broken_rule(self) -> Option<&'static str> {
        let share = |number: f64| (0.0..=1.0).contains(&number);
        let positive = |number: f64| number.is_finite() && number > 0.0;
        let (rule, holds) = match self {
            Self::Constant => return None,
            Self::Step { every, factor } => {
                ("a step schedule has every of at least 1 and a factor above 0", { every > 0 && positive(factor) })
            }
            Self::Cosine { floor } | Self::Linear { floor } => ("the schedule's floor is in 0 ..= 1", share(floor)),
            Self::OneCycle { rise, start, floor } => (
                "a one-cycle schedule has a rise in 0 .. 1, and start and floor in 0 ..= 1",
                (0.0..1.0).contains(&rise) && share(start) && share(floor),
            ),
            Self::Exponential { factor } => ("the schedule's factor is above 0", positive(factor)),
            Self::Plateau { factor, patience } => {
                ("a plateau has a factor above 0 and a patience of at least 1", positive(factor) && patience > 0)
            }
        };
        (!holds).then_some(rule)
    }
}

/// Half a cosine from one down to `floor`, at a share of its way.
fn fallen(floor: f64, share: f64) -> f64 {
    floor + (1.0 - floor) * (1.0 + (PI * share.clamp(0.0, 1.0)).cos()) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factor(schedule: Schedule, step: u64) -> f64 {
        warmed(schedule, 0.0, step)
    }

    fn warmed(schedule: Schedule, warm_up: f64, step: u64) -> f64 {
        schedule.factor(Moment { step, steps_per_epoch: 10, epochs: 4, warm_up }, Plateau::default())
    }

    #[test]
    fn warm_up_rises_to_one_and_leaves_the_rest_to_the_schedule() {
        let (cosine, halves) = (Schedule::Cosine { floor: 0.2 }, Schedule::Exponential { factor: 0.5 });
        let rows = [
            (Schedule::Constant, 0.1, 0, 0.25),
            (Schedule::Constant, 0.1, 2, 0.75),
            (Schedule::Constant, 0.1, 3, 1.0),
            (Schedule::Constant, 0.1, 4, 1.0),
            (Schedule::Constant, 0.1, 60, 1.0),
            (cosine, 0.5, 0, 0.05),
            (cosine, 0.5, 19, 1.0),
            (cosine, 0.5, 20, 1.0),
            (cosine, 0.5, 30, 0.6),
            (cosine, 0.5, 40, 0.2),
            (Schedule::Linear { floor: 0.0 }, 0.2, 24, 0.5),
            (halves, 0.1, 13, 1.0),
            (halves, 0.1, 14, 0.5),
            (Schedule::Step { every: 2, factor: 0.1 }, 0.1, 24, 0.1),
            // Less than half a step is none; all but nothing leaves none to the schedule.
            (cosine, 0.01, 0, 1.0),
            (cosine, 0.999, 39, 1.0),
        ];
        for (schedule, warm_up, step, expected) in rows {
            assert!((warmed(schedule, warm_up, step) - expected).abs() < 1e-12, "{schedule:?}, {warm_up} at {step}");
        }
    }

    #[test]
    fn schedules_run_as_they_say() {
        let cycle = Schedule::OneCycle { rise: 0.25, start: 0.2, floor: 0.1 };
        let rows = [
            (Schedule::Constant, 39, 1.0),
            (Schedule::Step { every: 2, factor: 0.1 }, 19, 1.0),
            (Schedule::Step { every: 2, factor: 0.1 }, 20, 0.1),
            (Schedule::Cosine { floor: 0.2 }, 0, 1.0),
            (Schedule::Cosine { floor: 0.2 }, 20, 0.6),
            (Schedule::Cosine { floor: 0.2 }, 40, 0.2),
            (Schedule::Linear { floor: 0.0 }, 10, 0.75),
            (Schedule::Linear { floor: 0.5 }, 60, 0.5),
            (cycle, 0, 0.2),
            (cycle, 5, 0.6),
            (cycle, 10, 1.0),
            (cycle, 25, 0.55),
            (cycle, 40, 0.1),
            (Schedule::Exponential { factor: 0.5 }, 29, 0.25),
        ];
        for (schedule, step, expected) in rows {
            assert!((factor(schedule, step) - expected).abs() < 1e-12, "{schedule:?} at {step}");
        }
    }

    #[test]
    fn plateau_falls_after_its_patience_and_counts_an_epoch_once() {
        let schedule = Schedule::Plateau { factor: 0.5, patience: 2 };
        let mut plateau = Plateau::default();
        let mut factors = Vec::new();
        for (epoch, loss) in [(1, 3.0), (2, 2.0), (3, 2.5), (3, 2.5), (4, 2.0), (5, 2.0), (6, 2.0), (7, 1.0)] {
            schedule.observe(&mut plateau, epoch, loss);
            factors.push(
                schedule.factor(Moment { step: epoch * 10, steps_per_epoch: 10, epochs: 9, warm_up: 0.0 }, plateau),
            );
        }

        assert_eq!(factors, [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25]);
    }
}
