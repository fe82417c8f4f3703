//! Measures of labels in order, as frames tell them: the greatest output of each, without repeats, then without blanks.

use regatta_autodiff::step::loss::BLANK;

use super::{Measure, Truth, greatest, real};

/// A row's labels without the blanks behind them.
pub fn without_padding(labels: &[i64]) -> &[i64] {
    let end = labels.iter().rposition(|label| *label != BLANK).map_or(0, |last| last + 1);
    &labels[..end]
}

/// What frames of `classes` outputs each tell.
pub fn told(outputs: &[f32], classes: usize) -> Vec<i64> {
    let mut labels: Vec<i64> = outputs.chunks_exact(classes).map(|frame| greatest(frame) as i64).collect();
    labels.dedup();
    labels.retain(|label| *label != BLANK);
    labels
}

#[derive(Debug, Default)]
pub struct LabelErrors {
    errors: u64,
    labels: u64,
}

impl Measure for LabelErrors {
    fn add(&mut self, outputs: &[f32], truth: Truth<'_>) {
        let Truth::Labels { labels, classes } = truth else { return };
        self.errors += distance(&told(outputs, classes), labels) as u64;
        self.labels += labels.len() as u64;
    }

    fn value(&mut self) -> Option<f64> {
        (self.labels > 0).then(|| real(self.errors) / real(self.labels))
    }
}

/// How many labels are to be inserted, left out or changed to come from one to the other (Levenshtein, 1966).
fn distance(from: &[i64], to: &[i64]) -> usize {
    let mut distances: Vec<usize> = (0..=to.len()).collect();
    for (place, label) in from.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut distances[0], place + 1);
        for (at, other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(label != other);
            diagonal = distances[at + 1];
            distances[at + 1] = changed.min(diagonal + 1).min(distances[at] + 1);
        }
    }
    distances[to.len()]
}
