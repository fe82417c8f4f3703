//! The data of a trial in memory, whole, and what must hold before it is trained on.

use super::TrainingError;

/// Rows x width, in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor2 {
    pub rows: usize,
    pub width: usize,
    pub values: Vec<f32>,
}

/// What a model is to predict for each row.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// One class a row, each in `0 .. classes`.
    Classes { labels: Vec<i64>, classes: usize },
    /// One row of numbers a row.
    Values(Tensor2),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    pub features: Tensor2,
    pub target: Target,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    pub train: Split,
    pub validation: Split,
}

impl Dataset {
    /// Whether both splits are whole and fit each other.
    ///
    /// # Errors
    /// [`TrainingError::Data`] with the first thing that is wrong.
    pub fn check(&self) -> Result<(), TrainingError> {
        self.train.check("training")?;
        self.validation.check("validation")?;
        let (train, validation) = (self.train.features.width, self.validation.features.width);
        if train != validation {
            return Err(wrong(format!("{train} features to train on, {validation} to validate on")));
        }
        match (&self.train.target, &self.validation.target) {
            (Target::Classes { classes: one, .. }, Target::Classes { classes: other, .. }) if one == other => Ok(()),
            (Target::Values(one), Target::Values(other)) if one.width == other.width => Ok(()),
            _ => Err(wrong("the targets to train and to validate on are of different kinds or widths".into())),
        }
    }
}

impl Split {
    pub fn rows(&self) -> usize {
        self.features.rows
    }

    fn check(&self, name: &str) -> Result<(), TrainingError> {
        let rows = self.features.rows;
        if rows == 0 || self.features.width == 0 {
            return Err(wrong(format!("the {name} split has {rows} rows of {} features", self.features.width)));
        }
        self.features.check(name)?;
        let target_rows = match &self.target {
            Target::Classes { labels, classes } => {
                let is_class = |label: &i64| usize::try_from(*label).is_ok_and(|label| label < *classes);
                if let Some(label) = labels.iter().find(|label| !is_class(label)) {
                    return Err(wrong(format!("class {label} in the {name} split, of {classes} classes")));
                }
                labels.len()
            }
            Target::Values(values) => {
                values.check(name)?;
                values.rows
            }
        };
        if target_rows == rows {
            Ok(())
        } else {
            Err(wrong(format!("the {name} split has {rows} rows of features and {target_rows} of targets")))
        }
    }
}

impl Tensor2 {
    fn check(&self, name: &str) -> Result<(), TrainingError> {
        if self.rows.checked_mul(self.width) != Some(self.values.len()) {
            let (rows, width, count) = (self.rows, self.width, self.values.len());
            return Err(wrong(format!("{count} numbers for {rows} x {width} in the {name} split")));
        }
        if self.values.iter().all(|value| value.is_finite()) {
            Ok(())
        } else {
            Err(wrong(format!("the {name} split has numbers that are not finite")))
        }
    }
}

fn wrong(reason: String) -> TrainingError {
    TrainingError::Data { reason }
}
