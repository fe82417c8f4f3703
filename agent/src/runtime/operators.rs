//! Operators of our own for graphs on the CPU: what ONNX's would do in many passes over the memory, in one.
//!
//! Each has the arithmetic of its formulation in ONNX's operators, operation by operation, so that the two agree to
//! the last bit: that formulation is the reference, and what runs on every other device.

use std::sync::{Mutex, PoisonError};

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput};
use ort::value::{DynTensorValueType, TensorElementType, ValueRef, ValueRefMut};

type Input<'a> = ValueRef<'a, DynTensorValueType>;
type Output<'a> = ValueRefMut<'a, DynTensorValueType>;

/// The domain under which graphs name these operators.
pub const DOMAIN: &str = "regatta";

pub(super) fn domain() -> ort::Result<OperatorDomain> {
    OperatorDomain::new(DOMAIN)?.add(AdamW)
}

/// One step of AdamW over flat vectors: `AdamW(W, M, V, G, beta1, beta2, rate, epsilon, shrink) -> (W', M', V')`.
///
/// `M' = M beta1 + G`, `V' = V beta2 + G G`, `W' = W shrink - M' / (sqrt(V') + epsilon) rate`, where M and V are the
/// moments before their corrections, which are in `rate` and `epsilon`. The vectors are f32 `[P]`, the others f32 `[]`.
/// An output may be bound onto its own input's memory.
struct AdamW;

const VECTORS: usize = 4;
const INPUTS: usize = 9;
const OUTPUTS: usize = 3;

impl Operator for AdamW {
    type Kernel<'a> = AdamWKernel;

    fn name(&self) -> &str {
        "AdamW"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        (0..INPUTS).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        (0..OUTPUTS).map(|_| OperatorOutput::required(TensorElementType::Float32))
    }

    fn create_kernel<'a>(&self, _: &KernelContext<'a>) -> ort::Result<AdamWKernel> {
        Ok(AdamWKernel)
    }
}

struct AdamWKernel;

impl Kernel for AdamWKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let inputs = (0..INPUTS).map(|at| input(context, at)).collect::<ort::Result<Vec<_>>>()?;
        let mut scalars = [0.0; INPUTS - VECTORS];
        for (scalar, value) in scalars.iter_mut().zip(&inputs[VECTORS..]) {
            *scalar = value.try_extract_scalar::<f32>()?;
        }
        let [beta1, beta2, rate, epsilon, shrink] = scalars;
        let step = regatta_kernels::AdamW { beta1, beta2, rate, epsilon, shrink };
        let (shape, gradient) = inputs[VECTORS - 1].try_extract_tensor::<f32>()?;
        let mut outputs = Vec::with_capacity(OUTPUTS);
        for (at, input) in inputs[..OUTPUTS].iter().enumerate() {
            if input.shape() != shape {
                let reason = format!("AdamW: input {at} has shape {}, the gradient {shape}", input.shape());
                return Err(ort::Error::new(reason));
            }
            let output = context.output(at, shape.clone())?;
            outputs.push(output.ok_or_else(|| missing("output", at))?.downcast()?);
        }
        let [weights, first, second] = &mut outputs[..] else {
            return Err(ort::Error::new("AdamW: three outputs are needed"));
        };
        let mut updated =
            [Updated::new(&inputs[0], weights)?, Updated::new(&inputs[1], first)?, Updated::new(&inputs[2], second)?];
        in_parallel(context, step, gradient, &mut updated)
    }
}

fn input(context: &ComputeContext, at: usize) -> ort::Result<Input<'_>> {
    context.input(at)?.ok_or_else(|| missing("input", at))?.downcast()
}

fn missing(what: &str, at: usize) -> ort::Error {
    ort::Error::new(format!("AdamW: {what} {at} is missing"))
}

/// A vector that is replaced by the next one.
struct Updated<'a> {
    /// Where it is, unless it lies in the output's memory already.
    from: Option<&'a [f32]>,
    to: &'a mut [f32],
}

impl<'a> Updated<'a> {
    fn new(input: &'a Input<'_>, output: &'a mut Output<'_>) -> ort::Result<Self> {
        let is_in_place = std::ptr::addr_eq(input.data_ptr(), output.data_ptr());
        let from = if is_in_place { None } else { Some(input.try_extract_tensor::<f32>()?.1) };
        Ok(Self { from, to: output.try_extract_tensor_mut::<f32>()?.1 })
    }

    /// Its parts of `length` elements, and the rest.
    fn parts(&mut self, length: usize) -> impl Iterator<Item = Updated<'_>> {
        let mut from = self.from.map(|from| from.chunks(length));
        self.to.chunks_mut(length).map(move |to| Updated { from: from.as_mut().and_then(Iterator::next), to })
    }

    /// The vector, in the output's memory.
    fn load(&mut self) -> &mut [f32] {
        if let Some(from) = self.from {
            self.to.copy_from_slice(from);
        }
        self.to
    }
}

/// Elements that one thread takes at a time: of four vectors, what a core's first cache holds.
const PART: usize = 2048;

type Part<'a> = ([Updated<'a>; OUTPUTS], &'a [f32]);

fn in_parallel(
    context: &ComputeContext,
    step: regatta_kernels::AdamW,
    gradient: &[f32],
    [weights, first, second]: &mut [Updated<'_>; OUTPUTS],
) -> ort::Result<()> {
    let vectors = weights.parts(PART).zip(first.parts(PART)).zip(second.parts(PART));
    let parts: Vec<Mutex<Part<'_>>> = vectors
        .zip(gradient.chunks(PART))
        .map(|(((weights, first), second), gradient)| Mutex::new(([weights, first, second], gradient)))
        .collect();
    context.par_for(parts.len(), 0, |at| {
        // Each part is taken once: the lock never waits, it shows the compiler that threads do not share.
        let mut part = parts[at].lock().unwrap_or_else(PoisonError::into_inner);
        let ([weights, first, second], gradient) = &mut *part;
        step.update(weights.load(), first.load(), second.load(), gradient);
    })
}
