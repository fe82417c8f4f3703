//! What a recipe leaves out of its data and of its model.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is left out; nothing as a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Without {
    /// Columns of a table; arrays of an archive, or positions of their rows: `x`, `x[3]`, `x[0:8]`, `x[0:64:8]`. A model
    /// that takes rows of any width does not get them; another one sees their mean over the training rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Layers of a built-in model by their names, in which `*` stands for any characters; of an ONNX model, what the
    /// names of nodes, their outputs or their weights begin with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
}

impl Without {
    pub fn is_empty(&self) -> bool {
        self.features.is_empty() && self.layers.is_empty()
    }
}

/// A feature as it is written: a name, and which positions of a row, as NumPy has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureName<'t> {
    pub name: &'t str,
    /// None: all positions.
    pub span: Option<Span>,
}

/// Positions of a row, its axes laid out flat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Not empty.
    pub range: Range<usize>,
    /// At least 1.
    pub step: usize,
}

impl<'t> FeatureName<'t> {
    /// What does not end like a span is a name as a whole. None: the span is empty.
    pub fn read(text: &'t str) -> Option<Self> {
        let inner = text.strip_suffix(']').and_then(|text| text.rsplit_once('['));
        let is_span = |span: &str| !span.is_empty() && span.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
        let Some((name, span)) = inner.filter(|(_, span)| is_span(span)) else {
            return Some(Self { name: text, span: None });
        };
        let numbers: Vec<usize> = span.split(':').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        let (range, step) = match numbers.as_slice() {
            [at] => (*at..at.checked_add(1)?, 1),
            [from, to] => (*from..*to, 1),
            [from, to, step] => (*from..*to, *step),
            _ => return None,
        };
        (step > 0 && !range.is_empty()).then_some(Self { name, span: Some(Span { range, step }) })
    }
}

impl Span {
    pub fn contains(&self, position: usize) -> bool {
        self.range.contains(&position) && (position - self.range.start).is_multiple_of(self.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_in_numpy_and_any_other_text_is_a_name() {
        let span = |range, step| Some(Span { range, step });
        for (text, expected) in [
            ("x", Some(("x", None))),
            ("x[3]", Some(("x", span(3..4, 1)))),
            ("x[0:8]", Some(("x", span(0..8, 1)))),
            ("x[0:64:8]", Some(("x", span(0..64, 8)))),
            ("weight [kg]", Some(("weight [kg]", None))),
            ("a[0][1]", Some(("a[0]", span(1..2, 1)))),
            ("x[]", Some(("x[]", None))),
            ("x[5:5]", None),
            ("x[0:8:0]", None),
            ("x[1:2:3:4]", None),
            ("x[:8]", None),
            ("x[99999999999999999999999]", None),
        ] {
            let expected = expected.map(|(name, span)| FeatureName { name, span });
            assert_eq!(FeatureName::read(text), expected, "{text}");
        }
    }

    #[test]
    fn a_span_holds_every_step_th_position_from_its_first_on() {
        let span = Span { range: 1..8, step: 3 };
        assert_eq!((0..10).filter(|at| span.contains(*at)).collect::<Vec<_>>(), [1, 4, 7]);
    }
}
