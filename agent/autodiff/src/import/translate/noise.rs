//! Dropout that an exporter wrote as its parts: uniform numbers compared with the probability of keeping, and the mask
//! divided by it.

use super::{Bound, Translator};
use crate::graph::{Constant, Dtype, Elements};
use crate::import::ImportError;
use crate::onnx::NodeProto;

/// Elements of a mask; whole channels are dropped by small ones.
const MASK_MAX: usize = 1 << 24;

/// Random numbers on their way to a dropout.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Noise {
    /// Uniform in 0 .. 1.
    Uniform { shape: Vec<usize> },
    /// One with the probability `keep`, else zero.
    Mask { shape: Vec<usize>, keep: f64 },
}

impl Translator<'_, '_> {
    /// What a node of such a dropout gives; `None` where it is none.
    pub(super) fn noise(&mut self, node: &NodeProto) -> Result<Option<Bound>, ImportError> {
        let first = node.input.first().map_or("", String::as_str);
        if node.op_type() == "RandomUniformLike" {
            let value = self.value(first)?;
            let shape = self.graph_mut().shape(value).to_vec();
            return Ok(Some(Bound::Noise(Noise::Uniform { shape })));
        }
        if node.op_type() == "Bernoulli" {
            let value = self.value(first)?;
            let shape = self.graph_mut().shape(value).to_vec();
            let keep = self.number(first).ok_or_else(|| self.strange(node))?;
            return Ok(Some(Bound::Noise(Noise::Mask { shape, keep })));
        }
        let second = node.input.get(1).map_or("", String::as_str);
        let (noise, other, is_first) = match (self.bound_by_name.get(first), self.bound_by_name.get(second)) {
            (Some(Bound::Noise(noise)), _) => (noise.clone(), second, true),
            (_, Some(Bound::Noise(noise))) => (noise.clone(), first, false),
            _ => return Ok(None),
        };
        let threshold = self.number(other);
        let bound = match (node.op_type(), noise) {
            ("Cast" | "Identity", noise) => Bound::Noise(noise),
            ("Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual", Noise::Uniform { shape }) => {
                let threshold = threshold.ok_or_else(|| self.strange(node))?;
                let is_below = node.op_type().starts_with("Less") == is_first;
                Bound::Noise(Noise::Mask { shape, keep: if is_below { threshold } else { 1.0 - threshold } })
            }
            ("Div", Noise::Mask { shape, keep }) if is_first && threshold == Some(keep) => {
                let elements = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
                let elements = elements.filter(|&elements| elements <= MASK_MAX).ok_or_else(|| self.strange(node))?;
                let ones = vec![1.0; elements];
                let ones = Constant { dtype: Dtype::F32, shape, elements: Elements::Float(ones) };
                let ones = self.graph_mut().constant(ones);
                Bound::Value(self.dropped(ones, 1.0 - keep)?)
            }
            _ => return Err(self.strange(node)),
        };
        Ok(Some(bound))
    }

    /// The number that all elements of a constant have.
    fn number(&self, name: &str) -> Option<f64> {
        let Some(Bound::Value(value)) = self.bound_by_name.get(name) else { return None };
        match &self.context.graph.constant_of(*value)?.elements {
            Elements::Float(floats) => {
                let first = *floats.first()?;
                floats.iter().all(|float| *float == first).then_some(first)
            }
            Elements::Int(_) => None,
        }
    }

    fn strange(&self, node: &NodeProto) -> ImportError {
        let help = "only dropout may be random: use nn.Dropout, or give the noise as an input";
        self.refused(node, "random numbers that are no dropout known here", help)
    }
}
