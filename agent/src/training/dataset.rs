//! The data of a trial in memory, whole, and what must hold before it is trained on.

use regatta_checkpoint::Affine;

use super::TrainingError;

/// Rows to train on and rows to validate on, of the same features and the same kind of target.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    pub train: Split,
    pub validation: Split,
}

/// As many rows of each feature as of the target.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    pub features: Vec<Feature>,
    pub target: Target,
}

/// One input of a model: rows x `shape`, in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Feature {
    pub name: String,
    /// Of one row.
    pub shape: Vec<usize>,
    pub values: Values,
    /// What eight-bit values still go through before a model sees them, in single precision.
    pub affine: Option<Affine>,
    /// What the file's numbers go through in all, here or on the way to the model.
    pub normalized: Option<Affine>,
    /// Categories and tokens: how many there are, one number for each position of a row's last axis, or one for all.
    pub vocabulary: Vec<usize>,
    /// What the file calls each position of a row; empty where it does not.
    pub columns: Vec<String>,
    /// For each position of a row that stands for texts: the one that it says the presence of, or all in the order of
    /// their numbers. Empty where there are none.
    pub texts: Vec<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    F32(Vec<f32>),
    /// Categories or tokens, each from zero to below its vocabulary.
    I64(Vec<i64>),
    U8(Vec<u8>),
}

/// What a model is to predict for each row: rows x `shape`, where an empty shape is one label or number.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// Each in `0 .. classes`.
    Classes {
        labels: Vec<i64>,
        shape: Vec<usize>,
        classes: usize,
        /// What the data call each; empty where they number them.
        names: Vec<String>,
    },
    Values {
        values: Vec<f32>,
        shape: Vec<usize>,
    },
}

impl Dataset {
    /// Whether both splits are whole and fit each other, where the loss ignores a label.
    ///
    /// # Errors
    /// [`TrainingError::Data`] with the first thing that is wrong.
    pub fn check(&self, ignored: Option<i64>) -> Result<(), TrainingError> {
        self.train.check("training", ignored)?;
        self.validation.check("validation", ignored)?;
        if self.train.is_like(&self.validation) {
            Ok(())
        } else {
            Err(wrong("the rows to train and to validate on are of different kinds or shapes".into()))
        }
    }
}

impl Split {
    pub fn rows(&self) -> usize {
        self.target.rows()
    }

    /// Whether rows of both can stand in one split.
    pub fn is_like(&self, other: &Self) -> bool {
        let features = self.features.len() == other.features.len();
        features
            && self.features.iter().zip(&other.features).all(|(one, other)| one.is_like(other))
            && self.target.is_like(&other.target)
    }

    /// The same features and target without any rows.
    #[must_use]
    pub fn emptied(&self) -> Self {
        let features = self.features.iter().map(Feature::emptied).collect();
        Self { features, target: self.target.emptied() }
    }

    /// Appends these rows of a split that [is like](Self::is_like) this one.
    pub fn append(&mut self, from: &Self, rows: &[usize]) {
        for (feature, from) in self.features.iter_mut().zip(&from.features) {
            feature.values.append(&from.values, from.width(), rows);
        }
        self.target.append(&from.target, rows);
    }

    /// Whether it is whole and all of its numbers can be trained on.
    ///
    /// # Errors
    /// [`TrainingError::Data`] with the first thing that is wrong.
    pub(super) fn check(&self, name: &str, ignored: Option<i64>) -> Result<(), TrainingError> {
        let rows = self.rows();
        if rows == 0 || self.features.is_empty() {
            return Err(wrong(format!("the {name} split has {rows} rows of {} features", self.features.len())));
        }
        self.target.check(name, ignored)?;
        self.features.iter().try_for_each(|feature| feature.check(name, rows))
    }
}

impl Feature {
    /// A feature of numbers that are ready for a model.
    pub fn numbers(name: impl Into<String>, shape: Vec<usize>, values: Vec<f32>) -> Self {
        Self {
            name: name.into(),
            shape,
            values: Values::F32(values),
            affine: None,
            normalized: None,
            vocabulary: Vec::new(),
            columns: Vec::new(),
            texts: Vec::new(),
        }
    }

    /// Numbers of one row.
    pub fn width(&self) -> usize {
        self.shape.iter().product()
    }

    fn is_like(&self, other: &Self) -> bool {
        let kind = |feature: &Self| std::mem::discriminant(&feature.values);
        kind(self) == kind(other)
            && (&self.name, &self.shape, &self.affine, &self.vocabulary, &self.columns)
                == (&other.name, &other.shape, &other.affine, &other.vocabulary, &other.columns)
    }

    fn emptied(&self) -> Self {
        let values = match self.values {
            Values::F32(_) => Values::F32(Vec::new()),
            Values::I64(_) => Values::I64(Vec::new()),
            Values::U8(_) => Values::U8(Vec::new()),
        };
        let Self { name, shape, affine, normalized, vocabulary, columns, texts, .. } = self;
        Self {
            name: name.clone(),
            shape: shape.clone(),
            values,
            affine: affine.clone(),
            normalized: normalized.clone(),
            vocabulary: vocabulary.clone(),
            columns: columns.clone(),
            texts: texts.clone(),
        }
    }

    fn check(&self, split: &str, rows: usize) -> Result<(), TrainingError> {
        let (name, width) = (&self.name, self.width());
        if width == 0 || rows.checked_mul(width) != Some(self.values.len()) {
            let (count, shape) = (self.values.len(), &self.shape);
            return Err(wrong(format!("{count} numbers for {rows} x {shape:?} of `{name}` in the {split} split")));
        }
        if let Some(Affine { offset, factor }) = &self.affine {
            let is_whole =
                offset.len() == factor.len() && (offset.len() == 1 || Some(&offset.len()) == self.shape.first());
            let is_fit = is_whole && matches!(self.values, Values::U8(_));
            if !is_fit || !offset.iter().chain(factor).all(|number| number.is_finite()) {
                return Err(wrong(format!("the offsets and factors of `{name}` do not fit it")));
            }
        }
        let is_good = match &self.values {
            Values::F32(values) => values.iter().all(|value| value.is_finite()),
            Values::U8(_) => true,
            Values::I64(values) => {
                let count = self.vocabulary.len();
                if count == 0 || (count != 1 && Some(&count) != self.shape.last()) {
                    return Err(wrong(format!("the vocabulary of `{name}` does not fit it")));
                }
                let is_known = |(at, value): (usize, &i64)| {
                    usize::try_from(*value).is_ok_and(|value| value < self.vocabulary[at % count])
                };
                values.iter().enumerate().all(is_known)
            }
        };
        if is_good {
            Ok(())
        } else {
            Err(wrong(format!(
                "`{name}` in the {split} split has numbers that are not finite, or not of its vocabulary"
            )))
        }
    }
}

impl Values {
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::U8(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nothing where they are of another kind.
    fn append(&mut self, from: &Self, width: usize, rows: &[usize]) {
        match (self, from) {
            (Self::F32(values), Self::F32(from)) => extend(values, from, width, rows),
            (Self::I64(values), Self::I64(from)) => extend(values, from, width, rows),
            (Self::U8(values), Self::U8(from)) => extend(values, from, width, rows),
            _ => {}
        }
    }
}

fn extend<T: Copy>(values: &mut Vec<T>, from: &[T], width: usize, rows: &[usize]) {
    values.reserve(rows.len() * width);
    for row in rows {
        values.extend_from_slice(&from[row * width..(row + 1) * width]);
    }
}

impl Target {
    /// Classes that the data number themselves.
    pub fn classes(labels: Vec<i64>, shape: Vec<usize>, classes: usize) -> Self {
        Self::Classes { labels, shape, classes, names: Vec::new() }
    }

    pub fn rows(&self) -> usize {
        let (count, width) = match self {
            Self::Classes { labels, .. } => (labels.len(), self.width()),
            Self::Values { values, .. } => (values.len(), self.width()),
        };
        count.checked_div(width).unwrap_or(0)
    }

    /// Of one row.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Classes { shape, .. } | Self::Values { shape, .. } => shape,
        }
    }

    /// Labels or numbers of one row.
    pub fn width(&self) -> usize {
        self.shape().iter().product()
    }

    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Classes { classes: one, .. }, Self::Classes { classes: other, .. }) if one != other => false,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other) && self.shape() == other.shape(),
        }
    }

    fn emptied(&self) -> Self {
        match self {
            Self::Classes { shape, classes, names, .. } => {
                Self::Classes { labels: Vec::new(), shape: shape.clone(), classes: *classes, names: names.clone() }
            }
            Self::Values { shape, .. } => Self::Values { values: Vec::new(), shape: shape.clone() },
        }
    }

    /// Nothing where they are of another kind.
    fn append(&mut self, from: &Self, rows: &[usize]) {
        let width = from.width();
        match (self, from) {
            (Self::Classes { labels, .. }, Self::Classes { labels: from, .. }) => extend(labels, from, width, rows),
            (Self::Values { values, .. }, Self::Values { values: from, .. }) => extend(values, from, width, rows),
            _ => {}
        }
    }

    fn check(&self, split: &str, ignored: Option<i64>) -> Result<(), TrainingError> {
        let count = match self {
            Self::Classes { labels, classes, .. } => {
                let is_class = |label: i64| usize::try_from(label).is_ok_and(|label| label < *classes);
                let may_be = |label: &&i64| is_class(**label) || ignored == Some(**label);
                if let Some(label) = labels.iter().find(|label| !may_be(label)) {
                    return Err(wrong(format!("class {label} in the {split} split, of {classes} classes")));
                }
                labels.len()
            }
            Self::Values { values, .. } => {
                if !values.iter().all(|value| value.is_finite()) {
                    return Err(wrong(format!("the targets of the {split} split have numbers that are not finite")));
                }
                values.len()
            }
        };
        if self.rows() * self.width() == count {
            Ok(())
        } else {
            Err(wrong(format!("{count} targets of shape {:?} in the {split} split", self.shape())))
        }
    }
}

fn wrong(reason: String) -> TrainingError {
    TrainingError::Data { reason }
}
