//! What is done to the rows of a training minibatch: as a trial says it, as a graph takes it, and its ranges.

use regatta_autodiff::step::Augment;

use super::draw;

/// What is done to the features of a training minibatch, drawn anew for each row and step from the trial's seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Augmentation {
    /// Images are shifted by up to so many pixels each way; what comes in from outside is zero.
    Shift { pixels: usize },
    /// Half of the images are mirrored left to right.
    Flip,
    /// Normal noise of this standard deviation is added.
    Noise { deviation: f64 },
    /// Pairs of rows are mixed, features and losses alike, by a share from the Beta distribution (Zhang et al., 2018).
    Mixup { alpha: f64 },
}

impl Augmentation {
    pub(super) fn form(self) -> Augment {
        match self {
            Self::Shift { pixels } => Augment::Shift { pixels },
            Self::Flip => Augment::Flip,
            Self::Noise { .. } => Augment::Noise,
            Self::Mixup { .. } => Augment::Mixup,
        }
    }
}

/// What does not hold of these augmentations and should.
pub(super) fn broken_rule(augmentations: &[Augmentation]) -> Option<&'static str> {
    let positive = |number: f64| number.is_finite() && number > 0.0;
    let kind = |augmentation: &Augmentation| std::mem::discriminant(augmentation);
    for (at, augmentation) in augmentations.iter().enumerate() {
        let rule = match *augmentation {
            Augmentation::Shift { pixels: 0 } => Some("pixels of `shift` is at least 1"),
            Augmentation::Noise { deviation } if !positive(deviation) => Some("deviation of `noise` is above 0"),
            Augmentation::Mixup { alpha } if !positive(alpha) => Some("alpha of `mixup` is above 0"),
            _ => None,
        };
        let is_repeated = augmentations[..at].iter().any(|earlier| kind(earlier) == kind(augmentation));
        let rule = rule.or(is_repeated.then_some("no augmentation is there twice"));
        if rule.is_some() {
            return rule;
        }
    }
    None
}

/// The standard deviation of the noise that is added, where some is.
pub(super) fn deviation(augmentations: &[Augmentation]) -> Option<f64> {
    augmentations.iter().find_map(|augmentation| match augmentation {
        Augmentation::Noise { deviation } => Some(*deviation),
        _ => None,
    })
}

/// The share of a row itself in a minibatch of mixed rows: all of it where rows are not mixed.
pub(super) fn share(augmentations: &[Augmentation], seed: u64, step: u64) -> f64 {
    let alpha = augmentations.iter().find_map(|augmentation| match augmentation {
        Augmentation::Mixup { alpha } => Some(*alpha),
        _ => None,
    });
    alpha.map_or(1.0, |alpha| draw::beta(seed, step, alpha))
}
