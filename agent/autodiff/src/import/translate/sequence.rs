//! Sequences of fixed length, as lists of values: PyTorch's exporters write `split` and `chunk` with them.

use super::{Bound, Translator};
use crate::graph::{Attribute, Value};
use crate::import::{ImportError, malformed};
use crate::onnx::NodeProto;

impl Translator<'_, '_> {
    /// What a node between sequences gives; `None` where it is not one of these.
    pub(super) fn sequence(&mut self, node: &NodeProto) -> Result<Option<Bound>, ImportError> {
        let bound = match node.op_type() {
            "SequenceConstruct" => {
                let values = node.input.iter().map(|name| self.value(name)).collect::<Result<_, _>>()?;
                Bound::Sequence(values)
            }
            "SplitToSequence" => Bound::Sequence(self.split(node)?),
            "SequenceAt" => Bound::Value(self.at(node)?),
            "SequenceLength" => {
                let length = self.elements(node)?.len();
                let length = i64::try_from(length).expect("a list's length fits in an i64");
                Bound::Value(self.graph_mut().int_scalar(length))
            }
            "ConcatFromSequence" => Bound::Value(self.concatenated(node)?),
            _ => return Ok(None),
        };
        Ok(Some(bound))
    }

    fn elements(&self, node: &NodeProto) -> Result<Vec<Value>, ImportError> {
        let name = node.input.first().map_or("", String::as_str);
        match self.bound(name)? {
            Bound::Sequence(values) => Ok(values.clone()),
            Bound::Value(_) | Bound::Noise(_) => Err(malformed(format!("{name:?} is no sequence"))),
        }
    }

    fn at(&mut self, node: &NodeProto) -> Result<Value, ImportError> {
        let values = self.elements(node)?;
        let position = node.input.get(1).map(|name| self.value(name)).transpose()?;
        let position = position.and_then(|value| self.graph_mut().constant_ints(value)?.first().copied());
        let position = position.and_then(|position| crate::graph::axis_position(position, values.len()));
        match position {
            Some(position) => Ok(values[position]),
            None => Err(self.refused(node, "which element it takes is not known", super::refused::STANDARD)),
        }
    }

    fn split(&mut self, node: &NodeProto) -> Result<Vec<Value>, ImportError> {
        let old = self.old(node)?;
        let data = old.input(0).ok_or_else(|| malformed("a split of nothing"))?;
        let axis = old.int("axis", 0);
        let graph = self.graph_mut();
        let rank = graph.shape(data).len();
        let size = crate::graph::axis_position(axis, rank).map(|axis| graph.shape(data)[axis]);
        let size = size.ok_or_else(|| malformed("a split along no axis"))?;
        let sizes = sizes(size, old.input(1).map(|value| (graph.shape(value).is_empty(), graph.constant_ints(value))));
        let Some(sizes) = sizes else {
            return Err(self.refused(node, "the sizes of its parts are not known", super::refused::STANDARD));
        };
        let count = sizes.len();
        let is_single = old.input(1).is_none() && old.int("keepdims", 1) == 0;
        let graph = self.graph_mut();
        let sizes = graph.int_vector(sizes);
        let parts = graph.nodes_of("Split", &[Some(data), Some(sizes)], count, &[("axis", Attribute::Int(axis))])?;
        if !is_single {
            return Ok(parts);
        }
        let axes = graph.int_vector(vec![axis]);
        let squeezed = parts.into_iter().map(|part| graph.node("Squeeze", &[part, axes], &[]));
        Ok(squeezed.collect::<Result<_, _>>()?)
    }

    fn concatenated(&mut self, node: &NodeProto) -> Result<Value, ImportError> {
        let values = self.elements(node)?;
        let attributes = crate::import::tensor::attributes_of(node);
        let int = |name: &str| match attributes.get(name) {
            Some(Attribute::Int(int)) => *int,
            _ => 0,
        };
        let (axis, is_stack) = (int("axis"), int("new_axis") == 1);
        let graph = self.graph_mut();
        let mut parts = Vec::with_capacity(values.len());
        for value in values {
            let axes = graph.int_vector(vec![axis]);
            parts.push(if is_stack { graph.node("Unsqueeze", &[value, axes], &[])? } else { value });
        }
        Ok(graph.node("Concat", &parts, &[("axis", Attribute::Int(axis))])?)
    }
}

/// The sizes of the parts of an axis: given one by one, as one size for all, or one each.
fn sizes(size: usize, given: Option<(bool, Option<&[i64]>)>) -> Option<Vec<i64>> {
    let size = i64::try_from(size).ok()?;
    let step = match given {
        None => 1,
        Some((false, sizes)) => return sizes.map(<[i64]>::to_vec),
        Some((true, step)) => *step?.first()?,
    };
    if step <= 0 || size / step > 4096 {
        return None;
    }
    Some((0..size).step_by(usize::try_from(step).ok()?).map(|start| step.min(size - start)).collect())
}
