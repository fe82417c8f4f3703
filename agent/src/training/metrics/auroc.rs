//! The exact area under the receiver's operating characteristic, from ranks (Mann and Whitney, 1947), ties shared.

use super::{Measure, Truth, real};

/// Scores that are kept: 8 bytes each.
const SCORES_MAX: usize = 1 << 26;

/// Every score of each class or question, with whether its position truly is one.
#[derive(Debug)]
pub struct Auroc {
    columns: Vec<Vec<(f32, bool)>>,
}

impl Auroc {
    /// For as many areas as `columns`, one for two classes; none where it would take too much memory.
    pub fn new(columns: usize, positions: usize) -> Option<Self> {
        let scores = columns.checked_mul(positions)?;
        (scores <= SCORES_MAX).then(|| Self { columns: vec![Vec::new(); columns] })
    }
}

impl Measure for Auroc {
    fn add(&mut self, outputs: &[f32], truth: Truth<'_>) {
        match truth {
            // The second class's probability grows with the difference of the logits.
            Truth::Class(class) if outputs.len() == 2 => self.columns[0].push((outputs[1] - outputs[0], class == 1)),
            Truth::Class(class) => {
                let sum = log_of_sum(outputs);
                for (at, (output, column)) in outputs.iter().zip(&mut self.columns).enumerate() {
                    #[expect(clippy::cast_possible_truncation, reason = "only the order counts")]
                    column.push(((f64::from(*output) - sum) as f32, at == class));
                }
            }
            Truth::Values(values) => {
                for ((output, value), column) in outputs.iter().zip(values).zip(&mut self.columns) {
                    column.push((*output, *value > 0.5));
                }
            }
            Truth::Labels { .. } => {}
        }
    }

    fn value(&mut self) -> Option<f64> {
        let areas: Vec<f64> = self.columns.iter_mut().filter_map(|column| area(column)).collect();
        (!areas.is_empty()).then(|| areas.iter().sum::<f64>() / real(areas.len() as u64))
    }
}

/// The logarithm of the sum of exponentials, so that a difference to it is a log-probability.
fn log_of_sum(outputs: &[f32]) -> f64 {
    let most = f64::from(outputs.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    most + outputs.iter().map(|output| (f64::from(*output) - most).exp()).sum::<f64>().ln()
}

/// None where all are of one kind.
fn area(scores: &mut [(f32, bool)]) -> Option<f64> {
    scores.sort_unstable_by(|(one, _), (other, _)| one.total_cmp(other));
    let (mut rank_sum, mut positives, mut before) = (0.0, 0_u64, 0_u64);
    for tied in scores.chunk_by(|(one, _), (other, _)| one == other) {
        let (count, own) = (tied.len() as u64, tied.iter().filter(|(_, is)| *is).count() as u64);
        rank_sum += real(own) * (real(before) + real(count + 1) / 2.0);
        positives += own;
        before += count;
    }
    let negatives = before - positives;
    let least = real(positives) * real(positives + 1) / 2.0;
    (positives > 0 && negatives > 0).then(|| (rank_sum - least) / (real(positives) * real(negatives)))
}
