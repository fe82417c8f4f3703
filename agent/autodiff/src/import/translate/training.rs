//! What is something else in training than in an evaluation: dropout and batch normalisation.

use super::{Old, Translator};
use crate::families::Mode;
use crate::graph::{Elements, Value};
use crate::import::{ImportError, malformed};
use crate::lower;

/// The share of its old value that a running statistic keeps, where the node does not say.
const MOMENTUM: f64 = 0.9;

const EPSILON: f64 = 1e-5;

impl Translator<'_, '_> {
    /// The outputs of a node in training; `None` where it is the same as in an evaluation.
    pub(super) fn trained(&mut self, old: &Old) -> Result<Option<Value>, ImportError> {
        let x = || old.input(0).ok_or_else(|| malformed(format!("{} of nothing", old.op)));
        match old.op.as_str() {
            "Identity" => Ok(Some(x()?)),
            "Dropout" => {
                let rate = self.rate(old)?;
                Ok(Some(self.dropped(x()?, rate)?))
            }
            "BatchNormalization" => Ok(Some(self.batch_normalised(old)?)),
            _ => Ok(None),
        }
    }

    /// `x` with elements dropped at the rate that the trial sets, or at this one.
    pub(super) fn dropped(&mut self, x: Value, rate: f64) -> Result<Value, ImportError> {
        if rate == 0.0 {
            return Ok(x);
        }
        self.rates.push(rate);
        Ok(if self.has_own_rates { self.context.dropped_at(x, rate)? } else { self.context.dropped(x)? })
    }

    fn rate(&self, old: &Old) -> Result<f64, ImportError> {
        let rate = match old.input(1) {
            None => old.float("ratio", 0.5),
            Some(value) => match self.context.graph.constant_of(value).map(|constant| &constant.elements) {
                Some(Elements::Float(floats)) if floats.len() == 1 => floats[0],
                _ => return Err(malformed(format!("the ratio of dropout {:?} is no constant", old.name))),
            },
        };
        // Rates are written in single precision; what a person gave has few digits.
        let rate = (rate * 1e6).round() / 1e6;
        if (0.0..1.0).contains(&rate) {
            Ok(rate)
        } else {
            Err(malformed(format!("dropout {:?} drops at a rate of {rate}", old.name)))
        }
    }

    /// By the batch in training, where running statistics follow it, and by these in an evaluation.
    fn batch_normalised(&mut self, old: &Old) -> Result<Value, ImportError> {
        let operand =
            |position| old.input(position).ok_or_else(|| malformed("a batch normalisation has five operands"));
        let (x, affine, statistics) = (operand(0)?, (operand(1)?, operand(2)?), (operand(3)?, operand(4)?));
        let epsilon = old.float("epsilon", EPSILON);
        let is_tracked = |value: Value| self.context.buffers.iter().any(|buffer| buffer.value == value);
        let follows = self.context.mode == Mode::Training && is_tracked(statistics.0) && is_tracked(statistics.1);
        if !follows {
            return Ok(lower::frozen_batch_norm(self.graph_mut(), x, affine, statistics, epsilon)?);
        }
        let normalized = lower::batch_norm(self.graph_mut(), x, affine, epsilon)?;
        let momentum = old.float("momentum", MOMENTUM);
        for (buffer, batch) in [(statistics.0, normalized.mean), (statistics.1, normalized.variance)] {
            let graph = self.graph_mut();
            let kept = graph.scale(buffer, momentum)?;
            let added = graph.scale(batch, 1.0 - momentum)?;
            let next = graph.add(kept, added)?;
            self.context.becomes(buffer, next);
        }
        Ok(normalized.y)
    }
}
