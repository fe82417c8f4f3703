//! The update of AdamW in one pass over the memory.

use std::sync::Mutex;

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;
use regatta_kernels::alone;

use super::in_parallel;
use super::tensor::{self, Input, Output};

/// One step of AdamW over flat vectors: `AdamW(W, M, V, beta1, beta2, rate, epsilon, shrink, G...) -> (W', M', V')`.
///
/// `M' = M beta1 + G`, `V' = V beta2 + G G`, `W' = W shrink - M' / (sqrt(V') + epsilon) rate`, where M and V are the
/// moments before their corrections, which are in `rate` and `epsilon`. G is the vectors G... one after the other; all
/// vectors are f32 `[P]`, the others f32 `[]`. An output may be bound onto its own input's memory.
pub struct AdamW;

/// The vectors that it replaces, the numbers, and the inputs before the gradients.
const OUTPUTS: usize = 3;
const NUMBERS: usize = 5;
const BEFORE: usize = OUTPUTS + NUMBERS;

impl Operator for AdamW {
    type Kernel<'a> = AdamWKernel;

    fn name(&self) -> &str {
        "AdamW"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let before = (0..BEFORE).map(|_| OperatorInput::required(TensorElementType::Float32));
        before.chain([OperatorInput::variadic(1).homogenous(TensorElementType::Float32)])
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        (0..OUTPUTS).map(|_| OperatorOutput::required(TensorElementType::Float32))
    }

    fn create_kernel<'a>(&self, _: &KernelContext<'a>) -> ort::Result<AdamWKernel> {
        Ok(AdamWKernel)
    }
}

pub struct AdamWKernel;

impl Kernel for AdamWKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let inputs =
            (0..context.num_inputs()?).map(|at| tensor::input(context, at)).collect::<ort::Result<Vec<_>>>()?;
        let (vectors, rest) = inputs.split_at(OUTPUTS);
        let (numbers, gradients) = rest.split_at(NUMBERS);
        let mut scalars = [0.0; NUMBERS];
        for (scalar, value) in scalars.iter_mut().zip(numbers) {
            *scalar = value.try_extract_scalar::<f32>()?;
        }
        let [beta1, beta2, rate, epsilon, shrink] = scalars;
        let step = regatta_kernels::AdamW { beta1, beta2, rate, epsilon, shrink };
        let gradients: Vec<&[f32]> =
            gradients.iter().map(|of| Ok(of.try_extract_tensor::<f32>()?.1)).collect::<ort::Result<_>>()?;
        let count: usize = gradients.iter().map(|gradient| gradient.len()).sum();
        let mut outputs = Vec::with_capacity(OUTPUTS);
        for (at, input) in vectors.iter().enumerate() {
            if input.shape().num_elements() != count {
                let reason = format!("AdamW: input {at} has shape {}, and {count} gradients", input.shape());
                return Err(ort::Error::new(reason));
            }
            let output = context.output(at, input.shape().clone())?;
            outputs.push(output.ok_or_else(|| tensor::missing("output", at))?.downcast()?);
        }
        let [weights, first, second] = &mut outputs[..] else {
            return Err(ort::Error::new("AdamW: three outputs are needed"));
        };
        let mut updated = [
            Updated::new(&vectors[0], weights)?,
            Updated::new(&vectors[1], first)?,
            Updated::new(&vectors[2], second)?,
        ];
        let parts = parts(&gradients, &mut updated);
        in_parallel(context, |each| {
            each(parts.len(), &|at| {
                let ([weights, first, second], gradient) = &mut *alone(&parts[at]);
                step.update(weights.load(), first.load(), second.load(), gradient);
            });
        })
    }
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

    /// Its first `length` elements, which are no longer its own.
    fn take(&mut self, length: usize) -> Updated<'a> {
        let from = self.from.as_mut().map(|from| from.split_off(..length).expect("it is as long as the gradients"));
        Updated { from, to: self.to.split_off_mut(..length).expect("it is as long as the gradients") }
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

fn parts<'a>(gradients: &[&'a [f32]], vectors: &mut [Updated<'a>; OUTPUTS]) -> Vec<Mutex<Part<'a>>> {
    let part =
        |gradient: &'a [f32]| Mutex::new((vectors.each_mut().map(|vector| vector.take(gradient.len())), gradient));
    gradients.iter().flat_map(|gradient| gradient.chunks(PART)).map(part).collect()
}
