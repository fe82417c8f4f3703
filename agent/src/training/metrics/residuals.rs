//! Measures of numbers: how far outputs are from their targets.

use super::{Measure, Truth, real};

#[derive(Debug, Default)]
pub struct AbsoluteError {
    sum: f64,
    count: u64,
}

impl Measure for AbsoluteError {
    fn add(&mut self, outputs: &[f32], truth: Truth<'_>) {
        let Truth::Values(values) = truth else { return };
        for (output, value) in outputs.iter().zip(values) {
            self.sum += (f64::from(*output) - f64::from(*value)).abs();
        }
        self.count += values.len() as u64;
    }

    fn value(&mut self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / real(self.count))
    }
}

/// Of one number of a row: its squared errors, its targets' mean and squared distances from it (Welford, 1962).
#[derive(Debug, Clone, Default)]
struct Column {
    errors: f64,
    mean: f64,
    spread: f64,
}

#[derive(Debug)]
pub struct R2 {
    columns: Vec<Column>,
    rows: u64,
}

impl R2 {
    pub fn new(columns: usize) -> Self {
        Self { columns: vec![Column::default(); columns], rows: 0 }
    }
}

impl Measure for R2 {
    fn add(&mut self, outputs: &[f32], truth: Truth<'_>) {
        let Truth::Values(values) = truth else { return };
        self.rows += 1;
        for ((output, value), column) in outputs.iter().zip(values).zip(&mut self.columns) {
            let (output, value) = (f64::from(*output), f64::from(*value));
            column.errors += (value - output).powi(2);
            let distance = value - column.mean;
            column.mean += distance / real(self.rows);
            column.spread += distance * (value - column.mean);
        }
    }

    /// Where all targets are equal, 1 if they were met and else 0.
    fn value(&mut self) -> Option<f64> {
        let share = |column: &Column| match (column.errors, column.spread) {
            (0.0, 0.0) => 1.0,
            (_, 0.0) => 0.0,
            (errors, spread) => 1.0 - errors / spread,
        };
        (self.rows > 1).then(|| self.columns.iter().map(share).sum::<f64>() / real(self.columns.len() as u64))
    }
}
