//! A built-in model without some of its layers. Each family asks, where a layer may be left out, whether it is.

use std::collections::BTreeSet;

use super::{Forward, Model};
use crate::graph::{GraphError, Value};
use crate::pattern::fits;

/// A model without the layers of these names; `*` stands for any characters, and a layer goes with all of its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ablated {
    pub model: Box<Model>,
    pub without: Vec<String>,
}

impl Ablated {
    /// # Errors
    /// No layer that could be left out has one of the names.
    pub(super) fn forward(&self, context: &mut Forward<'_>, features: &[Value]) -> Result<Value, GraphError> {
        context.cut = Cut { patterns: self.without.clone(), ..Cut::default() };
        let y = self.model.forward(context, features)?;
        context.cut.check()?;
        Ok(y)
    }
}

/// What is left out of a model while its graph is written.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    patterns: Vec<String>,
    /// The patterns that a layer had.
    used: BTreeSet<usize>,
    /// Layers that could be left out, as far as they were come by.
    layers: BTreeSet<String>,
}

impl Cut {
    /// Whether the layer, or one that it is a part of, is left out.
    pub fn has(&mut self, layer: &str) -> bool {
        if self.patterns.is_empty() {
            return false;
        }
        self.layers.insert(layer.to_owned());
        let ends = layer.match_indices('.').map(|(end, _)| end).chain([layer.len()]);
        let wholes: Vec<&str> = ends.map(|end| &layer[..end]).collect();
        let is_meant = |pattern: &str| wholes.iter().any(|whole| fits(pattern, whole));
        let meant: Vec<usize> = (0..self.patterns.len()).filter(|at| is_meant(&self.patterns[*at])).collect();
        self.used.extend(&meant);
        !meant.is_empty()
    }

    fn check(&self) -> Result<(), GraphError> {
        let Some(unused) = (0..self.patterns.len()).find(|at| !self.used.contains(at)) else { return Ok(()) };
        let layers: Vec<&str> = self.layers.iter().map(String::as_str).collect();
        let reason =
            format!("there is no layer `{}` to leave out; there are {}", self.patterns[unused], layers.join(", "));
        Err(GraphError::InvalidOperands { op: "an ablation".into(), reason })
    }
}
