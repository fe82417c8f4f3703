//! Models that compute in 16 bits: which of their operators do, and the casts around those that do not.
//!
//! A matrix product in 16 bits gains most and loses least, and its gradient is two more of them. Norms, softmax,
//! activations with an exponential and sums lose digits, and stay in single precision (Micikevicius et al., 2018).

use super::{Dtype, Graph, GraphError, Value};

/// What an operator computes in, where a graph has two precisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Precision {
    /// In 16 bits, whatever it is given.
    Low,
    /// In 16 bits if all it is given is.
    Kept,
    Single,
    /// It changes no precision but the one that it is asked to.
    AsTold,
}

/// `ConvTranspose`, `Pad` and comparisons have no kernel for bfloat16 on CUDA, so that convolutions, rectifiers and slices
/// would have a gradient that does not run.
fn precision_of(op: &str, low: Dtype, is_fused: bool) -> Precision {
    match op {
        "MatMul" | "Gemm" => Precision::Low,
        "Conv" | "ConvTranspose" if low == Dtype::F16 => Precision::Low,
        "Add" | "Identity" | "Reshape" | "Transpose" | "Flatten" | "Squeeze" | "Unsqueeze" => Precision::Kept,
        "Relu" | "Slice" | "Concat" | "Split" if low == Dtype::F16 => Precision::Kept,
        // Within, CUDA's kernel for Softmax is in single precision.
        "MaxPool" | "Softmax" if low == Dtype::F16 && is_fused => Precision::Kept,
        "Cast" => Precision::AsTold,
        _ => Precision::Single,
    }
}

impl Graph {
    /// From here on, matrix products and convolutions of single precision compute in elements of type `low`, and what
    /// follows them in single precision again, but where nothing is lost. `None`: every operator computes as it is told.
    pub fn compute_in(&mut self, low: Option<Dtype>) {
        self.low = low;
    }

    /// The value in single precision, if it is in 16 bits because of [`compute_in`](Self::compute_in).
    ///
    /// # Errors
    /// Never for a value of this graph.
    pub fn widened(&mut self, value: Value) -> Result<Value, GraphError> {
        if self.low == Some(self.dtype(value)) { self.cast_once(value, Dtype::F32) } else { Ok(value) }
    }

    /// The value in the type of another, where only a graph's two precisions tell them apart.
    ///
    /// # Errors
    /// Never for values of this graph.
    pub(super) fn in_type_of(&mut self, value: Value, other: Value) -> Result<Value, GraphError> {
        let to = self.dtype(other);
        if self.low.is_some() && self.dtype(value) != to { self.cast_once(value, to) } else { Ok(value) }
    }

    /// The operands as the operator takes them.
    pub(super) fn in_precision(
        &mut self,
        op: &str,
        operands: &[Option<Value>],
    ) -> Result<Vec<Option<Value>>, GraphError> {
        let Some(low) = self.low else { return Ok(operands.to_vec()) };
        let is_of = |graph: &Self, dtype| operands.iter().flatten().any(|operand| graph.dtype(*operand) == dtype);
        let (from, to) = match precision_of(op, low, self.is_fused()) {
            Precision::Low => (Dtype::F32, low),
            Precision::Single => (low, Dtype::F32),
            Precision::Kept if is_of(self, Dtype::F32) => (low, Dtype::F32),
            Precision::Kept | Precision::AsTold => return Ok(operands.to_vec()),
        };
        let mut taken = Vec::with_capacity(operands.len());
        for &operand in operands {
            taken.push(match operand {
                Some(value) if self.dtype(value) == from => Some(self.cast_once(value, to)?),
                other => other,
            });
        }
        Ok(taken)
    }

    /// The value as another type: by a cast that is there already, or what the value itself was cast from.
    fn cast_once(&mut self, value: Value, to: Dtype) -> Result<Value, GraphError> {
        if let Some(&cast) = self.cast_by_value.get(&value) {
            return Ok(cast);
        }
        let cast = self.cast(value, to)?;
        self.cast_by_value.insert(value, cast);
        if to == Dtype::F32 {
            self.cast_by_value.insert(cast, value);
        }
        Ok(cast)
    }
}
