//! Measures of answers: which class, or yes or no.

use super::transcripts::told;
use super::{Measure, Truth, greatest, real};

#[derive(Debug, Default)]
pub struct Accuracy {
    right: u64,
    count: u64,
}

impl Measure for Accuracy {
    fn add(&mut self, outputs: &[f32], truth: Truth<'_>) {
        match truth {
            Truth::Class(class) => {
                self.right += u64::from(greatest(outputs) == class);
                self.count += 1;
            }
            Truth::Values(values) => {
                let right = outputs.iter().zip(values).filter(|(output, value)| (**output > 0.0) == (**value > 0.5));
                self.right += right.count() as u64;
                self.count += values.len() as u64;
            }
            Truth::Labels { labels, classes } => {
                self.right += u64::from(told(outputs, classes) == labels);
                self.count += 1;
            }
        }
    }

    fn value(&mut self) -> Option<f64> {
        (self.count > 0).then(|| real(self.right) / real(self.count))
    }
}

/// Classes among so many of the greatest outputs.
#[derive(Debug)]
pub struct Top {
    most: usize,
    right: u64,
    count: u64,
}

impl Top {
    pub fn of(most: usize) -> Self {
        Self { most, right: 0, count: 0 }
    }
}

impl Measure for Top {
    fn add(&mut self, outputs: &[f32], truth: Truth<'_>) {
        let Truth::Class(class) = truth else { return };
        let own = outputs[class];
        let is_before = |(at, output): (usize, &f32)| *output > own || (*output == own && at < class);
        let before = outputs.iter().enumerate().filter(|(at, output)| is_before((*at, output))).count();
        self.right += u64::from(before < self.most);
        self.count += 1;
    }

    fn value(&mut self) -> Option<f64> {
        (self.count > 0).then(|| real(self.right) / real(self.count))
    }
}

/// Right answers, answers and targets of each class or question.
#[derive(Debug)]
pub struct F1(Vec<[u64; 3]>);

impl F1 {
    pub fn new(columns: usize) -> Self {
        Self(vec![[0; 3]; columns])
    }

    fn count(&mut self, column: usize, answered: bool, is: bool) {
        let [right, answers, targets] = &mut self.0[column];
        *right += u64::from(answered && is);
        *answers += u64::from(answered);
        *targets += u64::from(is);
    }
}

impl Measure for F1 {
    fn add(&mut self, outputs: &[f32], truth: Truth<'_>) {
        match truth {
            Truth::Class(class) => {
                let answer = greatest(outputs);
                self.count(class, answer == class, true);
                if answer != class {
                    self.count(answer, true, false);
                }
            }
            Truth::Values(values) => {
                for (column, (output, value)) in outputs.iter().zip(values).enumerate() {
                    self.count(column, *output > 0.0, *value > 0.5);
                }
            }
            Truth::Labels { .. } => {}
        }
    }

    /// `2 right / (answers + targets)` is the harmonic mean of precision and recall.
    fn value(&mut self) -> Option<f64> {
        let occurring = self.0.iter().filter(|[_, answers, targets]| answers + targets > 0);
        let (sum, classes) = occurring.fold((0.0, 0), |(sum, classes), [right, answers, targets]| {
            (sum + 2.0 * real(*right) / real(answers + targets), classes + 1)
        });
        (classes > 0).then(|| sum / real(classes))
    }
}
