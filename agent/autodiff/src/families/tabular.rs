//! The net for tables: each category becomes a vector, and joins the numbers in front of dense layers.

use super::layers::{Activation, Norm, dropped, embedded, linear, normalized};
use super::{Feature, Forward};
use crate::graph::{Attribute, Dtype, GraphError, Value};

/// The widest embedding that is chosen by itself.
const EMBEDDING_MAX: usize = 50;

/// The shape of a net for tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tabular {
    /// Columns of numbers; may be none.
    pub numbers: usize,
    /// How many categories each further column has; may be none.
    pub categories: Vec<usize>,
    /// The width of each embedding; `None`: half the categories, at most 50.
    pub embedding: Option<usize>,
    pub hidden: Vec<usize>,
    pub norm: Norm,
    pub activation: Activation,
    /// Whether hidden activations can be dropped.
    pub dropout: bool,
    pub outputs: usize,
}

impl Tabular {
    /// The numbers and the categories, as far as there are any.
    pub(super) fn features(&self) -> Vec<Feature> {
        let numbers = Feature::new("numbers", Dtype::F32, vec![self.numbers]);
        let categories = Feature::new("categories", Dtype::I64, vec![self.categories.len()]);
        let given = [(self.numbers, numbers), (self.categories.len(), categories)];
        given.into_iter().filter(|(columns, _)| *columns > 0).map(|(_, feature)| feature).collect()
    }

    /// Parameters are those of `embeddings.<column>` (normal, as PyTorch's), `layers.<i>` and `norms.<i>`.
    /// A hidden layer can be left out, with its norm and activation; so can a norm, and `dropout`.
    pub(super) fn forward(&self, context: &mut Forward<'_>, features: &[Value]) -> Result<Value, GraphError> {
        let (numbers, categories) = match self.numbers {
            0 => (None, features.first()),
            _ => (features.first(), features.get(1)),
        };
        let mut parts: Vec<Value> = numbers.copied().into_iter().collect();
        for (column, &entries) in self.categories.iter().enumerate() {
            let Some(&categories) = categories else { break };
            let position = context.graph.int_scalar(i64::try_from(column).expect("a column's number fits in an i64"));
            let indices = context.graph.node("Gather", &[categories, position], &[("axis", Attribute::Int(1))])?;
            let width = self.embedding.unwrap_or(entries.div_ceil(2).min(EMBEDDING_MAX));
            let (part, _) = embedded(context, &format!("embeddings.{column}"), indices, (entries, width), 1.0)?;
            parts.push(part);
        }
        let mut x = match parts.as_slice() {
            [only] => *only,
            parts => context.graph.node("Concat", parts, &[("axis", Attribute::Int(1))])?,
        };
        for (layer, &width) in self.hidden.iter().enumerate() {
            let name = format!("layers.{layer}");
            if context.cut.has(&name) {
                continue;
            }
            x = linear(context, &name, x, width)?;
            x = normalized(context, &format!("norms.{layer}"), x, self.norm)?;
            x = self.activation.apply(context.graph, x)?;
            x = dropped(context, x, self.dropout)?;
        }
        linear(context, &format!("layers.{}", self.hidden.len()), x, self.outputs)
    }
}
