//! Which initializers of a file are parameters, which are running statistics, and which are one and the same.
//!
//! ONNX does not say what trains. What is taken for a parameter: a tensor of single precision with at least one axis,
//! all of it finite, that is an operand of an operator where a gradient can flow, and not under a name that exporters
//! give to constants and PyTorch models to buffers. What is none stays a constant.

use std::collections::{BTreeMap, BTreeSet};

use super::tensor::{shape_of, singles_of};
use super::{ImportError, Notice};
use crate::graph::{Dtype, dtype_code};
use crate::onnx::{GraphProto, NodeProto, TensorProto};
use crate::pattern::fits;

/// Operands that are settings of their operator, not data: positions by operator.
const SETTINGS: &[(&str, &[usize])] = &[
    ("Clip", &[1, 2]),
    ("Dropout", &[1, 2]),
    ("OneHot", &[1, 2]),
    ("Pad", &[1, 2, 3]),
    ("Range", &[0, 1, 2]),
    ("Resize", &[1, 2, 3]),
    ("Upsample", &[1]),
    ("Equal", &[0, 1]),
    ("Less", &[0, 1]),
    ("Greater", &[0, 1]),
    ("LessOrEqual", &[0, 1]),
    ("GreaterOrEqual", &[0, 1]),
];

/// Ends of names that PyTorch models commonly give to float buffers which do not train.
const BUFFERS: &[&str] = &["inv_freq", "attn_mask", "attention_mask", "causal_mask", "mask", "freqs_cos", "freqs_sin"];

/// Names that an error tells.
const NAMED_MAX: usize = 8;

/// What an initializer is in training.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Role {
    pub shape: Vec<usize>,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A parameter; one that is frozen keeps its numbers.
    Parameter { frozen: bool },
    /// Running statistics of a batch normalisation.
    Statistics,
    /// The same matrix as another parameter, perhaps transposed.
    Tied { to: String, transposed: bool },
}

/// The initializers that become inputs, by name, and what there is to say about them.
#[derive(Debug, Clone)]
pub(super) struct Roles {
    pub role_by_name: BTreeMap<String, Role>,
    pub notices: Vec<Notice>,
}

impl Roles {
    pub fn of(graph: &GraphProto, frozen: &[String]) -> Result<Self, ImportError> {
        let uses = Uses::of(graph);
        let mut roles = Self { role_by_name: BTreeMap::new(), notices: Vec::new() };
        let mut matrices: Vec<(&TensorProto, Vec<usize>, Vec<f32>)> = Vec::new();
        for tensor in &graph.initializer {
            let shape = shape_of(tensor)?;
            if i64::from(tensor.data_type()) != dtype_code(Dtype::F32) {
                continue;
            }
            if uses.statistics.contains(tensor.name()) {
                roles.insert(tensor, shape, Kind::Statistics);
                continue;
            }
            let named_constant = is_name_of_constant(tensor.name());
            if shape.is_empty() || named_constant || !uses.data.contains(tensor.name()) {
                continue;
            }
            let numbers = singles_of(tensor)?;
            if numbers.iter().any(|number| !number.is_finite()) {
                continue;
            }
            let tied = matrices.iter().find_map(|(other, other_shape, other_numbers)| {
                Some((*other, transposed_to(other_shape, other_numbers, &shape, &numbers)?))
            });
            if let Some((other, transposed)) = tied {
                let kept = other.name().to_owned();
                roles.notices.push(Notice::Tied { kept: kept.clone(), same: tensor.name().into() });
                roles.insert(tensor, shape, Kind::Tied { to: kept, transposed });
                continue;
            }
            let frozen = frozen.iter().any(|pattern| fits(pattern, tensor.name()));
            roles.insert(tensor, shape.clone(), Kind::Parameter { frozen });
            if let [_, _] = shape[..]
                && numbers.iter().any(|number| *number != numbers[0])
            {
                matrices.push((tensor, shape, numbers));
            }
        }
        let trained = || roles.role_by_name.iter().filter(|(_, role)| matches!(role.kind, Kind::Parameter { .. }));
        let fits_none = |pattern: &&String| !trained().any(|(name, _)| fits(pattern, name));
        if let Some(pattern) = frozen.iter().find(fits_none) {
            let names: Vec<&str> = trained().map(|(name, _)| name.as_str()).take(NAMED_MAX).collect();
            let more = if trained().count() > NAMED_MAX { ", ..." } else { "" };
            return Err(ImportError::Frozen { pattern: pattern.clone(), known: names.join(", ") + more });
        }
        if roles.role_by_name.values().any(|role| matches!(role.kind, Kind::Parameter { .. })) {
            roles.notices.extend(uses.notices());
            Ok(roles)
        } else {
            let is_half = |tensor: &TensorProto| {
                [Dtype::F16, Dtype::Bf16].into_iter().any(|dtype| i64::from(tensor.data_type()) == dtype_code(dtype))
            };
            Err(if graph.initializer.iter().any(is_half) { ImportError::Halves } else { ImportError::NothingTrains })
        }
    }

    fn insert(&mut self, tensor: &TensorProto, shape: Vec<usize>, kind: Kind) {
        self.role_by_name.insert(tensor.name().into(), Role { shape, kind });
    }
}

/// Whether two matrices are the same (`false`) or transposes of each other (`true`); `None` where they are neither.
fn transposed_to(shape: &[usize], numbers: &[f32], other_shape: &[usize], other: &[f32]) -> Option<bool> {
    let (&[rows, columns], &[other_rows, other_columns]) = (shape, other_shape) else { return None };
    if (rows, columns) == (other_rows, other_columns) && numbers == other {
        return Some(false);
    }
    let same = |position: usize| numbers[position] == other[position % columns * rows + position / columns];
    ((rows, columns) == (other_columns, other_rows) && (0..numbers.len()).all(same)).then_some(true)
}

/// Where the graph uses its initializers.
struct Uses<'g> {
    nodes: &'g [NodeProto],
    data: BTreeSet<&'g str>,
    statistics: BTreeSet<&'g str>,
}

impl<'g> Uses<'g> {
    fn of(graph: &'g GraphProto) -> Self {
        let mut uses = Self { nodes: &graph.node, data: BTreeSet::new(), statistics: BTreeSet::new() };
        for node in &graph.node {
            let settings =
                SETTINGS.iter().find(|(op, _)| *op == node.op_type()).map_or(&[][..], |(_, positions)| positions);
            for (position, input) in node.input.iter().enumerate() {
                if node.op_type() == "BatchNormalization" && position >= 3 {
                    uses.statistics.insert(input);
                } else if !settings.contains(&position) {
                    uses.data.insert(input);
                }
            }
        }
        uses
    }

    /// Signs of an export for inference.
    fn notices(&self) -> Vec<Notice> {
        let has = |op: &str| self.nodes.iter().any(|node| node.op_type() == op);
        let biased = |node: &&NodeProto| node.op_type() == "Conv" && node.input.len() > 2;
        let normalised = ["BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization"];
        let folded = self.nodes.iter().filter(biased).count() > 1 && !normalised.into_iter().any(has);
        if folded { vec![Notice::Inference] } else { Vec::new() }
    }
}

/// Whether a name is one that exporters give to constants, or models to buffers.
fn is_name_of_constant(name: &str) -> bool {
    let last = name.rsplit(['.', '/']).next().unwrap_or(name);
    let numbered = |prefix: &str| {
        last.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    numbered("val_") || last.contains("tensor_constant") || last.contains("lifted_tensor") || BUFFERS.contains(&last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_constants_are_known() {
        for name in ["val_12", "module.val_3", "_tensor_constant0", "rope.inv_freq"] {
            assert!(is_name_of_constant(name), "{name}");
        }
        for name in ["val_", "value_1", "onnx::MatMul_7", "layers.0.weight", "mask.weight"] {
            assert!(!is_name_of_constant(name), "{name}");
        }
    }
}
