//! The inputs and outputs of an operator as shapes and slices.

use ort::operator::ComputeContext;
use ort::value::{DynTensorValueType, ValueRef, ValueRefMut};

pub type Input<'a> = ValueRef<'a, DynTensorValueType>;
pub type Output<'a> = ValueRefMut<'a, DynTensorValueType>;

pub fn input(context: &ComputeContext, at: usize) -> ort::Result<Input<'_>> {
    optional_input(context, at)?.ok_or_else(|| missing("input", at))
}

pub fn optional_input(context: &ComputeContext, at: usize) -> ort::Result<Option<Input<'_>>> {
    context.input(at)?.map(ValueRef::downcast).transpose()
}

pub fn output<'a>(context: &'a ComputeContext, at: usize, shape: &[usize]) -> ort::Result<Output<'a>> {
    let shape: Vec<i64> =
        shape.iter().map(|&size| i64::try_from(size).expect("a tensor's size fits in an i64")).collect();
    context.output(at, shape)?.ok_or_else(|| missing("output", at))?.downcast()
}

/// The sizes of a tensor of so many axes.
pub fn sizes<const RANK: usize>(input: &Input<'_>) -> ort::Result<[usize; RANK]> {
    let sizes: Vec<usize> = input.shape().iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect();
    sizes.as_slice().try_into().map_err(|_| ort::Error::new(format!("a tensor of sizes {sizes:?} has not {RANK} axes")))
}

/// Shape and elements of a tensor of f32.
pub fn elements<'a>(input: &'a Input<'_>) -> ort::Result<(Vec<usize>, &'a [f32])> {
    let (shape, elements) = input.try_extract_tensor::<f32>()?;
    Ok((shape.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect(), elements))
}

pub fn elements_mut<'a>(output: &'a mut Output<'_>) -> ort::Result<&'a mut [f32]> {
    Ok(output.try_extract_tensor_mut::<f32>()?.1)
}

pub fn missing(what: &str, at: usize) -> ort::Error {
    ort::Error::new(format!("{what} {at} of an operator is missing"))
}
