//! Tensors in memory that ONNX Runtime owns, and the way in and out of it.

use ort::memory::Allocator;
use ort::value::{DynTensor, PrimitiveTensorElementType, TensorElementType};

use super::recording::{self, Held};
use super::{Device, RuntimeError};

/// Numbers on the host, in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I64(Vec<i64>),
}

impl Array {
    fn element_type(&self) -> TensorElementType {
        match self {
            Self::F32(_) => TensorElementType::Float32,
            Self::F64(_) => TensorElementType::Float64,
            Self::I64(_) => TensorElementType::Int64,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::F32(numbers) => numbers.len(),
            Self::F64(numbers) => numbers.len(),
            Self::I64(numbers) => numbers.len(),
        }
    }
}

/// A tensor that can be bound, on the host or on a device.
pub struct Tensor {
    value: Held<DynTensor>,
    on_host: bool,
}

impl Tensor {
    /// A tensor on the host: what crosses in every run.
    pub fn on_host(shape: &[usize], contents: &Array) -> Result<Self, RuntimeError> {
        if shape.iter().product::<usize>() != contents.len() {
            return Err(RuntimeError::Failed { reason: format!("{} elements for shape {shape:?}", contents.len()) });
        }
        let value = DynTensor::new(&Allocator::default(), contents.element_type(), shape.to_vec())?;
        let mut tensor = Self { value: Held::new(value), on_host: true };
        tensor.write(contents)?;
        Ok(tensor)
    }

    pub(super) fn on_device(
        allocator: &Allocator,
        device: Device,
        shape: &[usize],
        contents: &Array,
    ) -> Result<Self, RuntimeError> {
        Self::on_host(shape, contents)?.moved_to(allocator, device)
    }

    /// A tensor of f32 on the device, filled on the host.
    pub(super) fn filled_on_device(
        allocator: &Allocator,
        device: Device,
        shape: &[usize],
        fill: impl FnOnce(&mut [f32]),
    ) -> Result<Self, RuntimeError> {
        Self::filled_on_host(shape, fill)?.moved_to(allocator, device)
    }

    fn filled_on_host(shape: &[usize], fill: impl FnOnce(&mut [f32])) -> Result<Self, RuntimeError> {
        let value = DynTensor::new(&Allocator::default(), TensorElementType::Float32, shape.to_vec())?;
        let mut tensor = Self { value: Held::new(value), on_host: true };
        tensor.fill(fill)?;
        Ok(tensor)
    }

    /// The same on the device; a tensor of the host's.
    fn moved_to(self, allocator: &Allocator, device: Device) -> Result<Self, RuntimeError> {
        if device == Device::Cpu {
            return Ok(self);
        }
        let value = recording::patiently(|| {
            let mut value = DynTensor::new(allocator, *self.value.data_type(), self.value.shape().to_vec())?;
            self.value.copy_into(&mut value)?;
            Ok(value)
        })?;
        Ok(Self { value: Held::new(value), on_host: false })
    }

    /// Overwrites a tensor of f32, wherever it is.
    pub fn fill(&mut self, fill: impl FnOnce(&mut [f32])) -> Result<(), RuntimeError> {
        if !self.on_host {
            return Self::filled_on_host(&self.sizes(), fill)?.copy_to(self);
        }
        fill(self.value.try_extract_tensor_mut::<f32>()?.1);
        Ok(())
    }

    fn sizes(&self) -> Vec<usize> {
        self.value.shape().iter().map(|&size| size.unsigned_abs() as usize).collect()
    }

    /// Overwrites the tensor with as many elements of its own type, wherever it is.
    pub fn write(&mut self, contents: &Array) -> Result<(), RuntimeError> {
        if !self.on_host {
            return Self::on_host(&self.sizes(), contents)?.copy_to(self);
        }
        match contents {
            Array::F32(numbers) => self.write_elements(numbers),
            Array::F64(numbers) => self.write_elements(numbers),
            Array::I64(numbers) => self.write_elements(numbers),
        }
    }

    /// Overwrites a host tensor of i64.
    pub fn write_i64(&mut self, numbers: &[i64]) -> Result<(), RuntimeError> {
        self.write_elements(numbers)
    }

    fn write_elements<T: PrimitiveTensorElementType + Copy>(&mut self, numbers: &[T]) -> Result<(), RuntimeError> {
        let (_, elements) = self.value.try_extract_tensor_mut::<T>()?;
        if elements.len() != numbers.len() {
            let reason = format!("{} elements for a tensor of {}", numbers.len(), elements.len());
            return Err(RuntimeError::Failed { reason });
        }
        elements.copy_from_slice(numbers);
        Ok(())
    }

    /// Overwrites another tensor of the same shape and type, wherever the two are.
    pub fn copy_to(&self, other: &mut Self) -> Result<(), RuntimeError> {
        recording::patiently(|| Ok(self.value.copy_into(&mut *other.value)?))
    }

    /// A copy of the contents, wherever they are.
    pub fn read(&self) -> Result<Array, RuntimeError> {
        if self.on_host {
            return read_host(&self.value);
        }
        let mut host = DynTensor::new(&Allocator::default(), *self.value.data_type(), self.value.shape().to_vec())?;
        recording::patiently(|| Ok(self.value.copy_into(&mut host)?))?;
        read_host(&host)
    }

    /// The number in a host tensor of one f32.
    pub fn read_f32(&self) -> Result<f32, RuntimeError> {
        Ok(self.value.try_extract_scalar::<f32>()?)
    }

    /// The number at a place of a host tensor of type f32.
    ///
    /// # Panics
    /// The tensor has no such place.
    pub fn read_f32_at(&self, place: usize) -> Result<f32, RuntimeError> {
        Ok(self.value.try_extract_tensor::<f32>()?.1[place])
    }

    pub(super) fn value(&self) -> &DynTensor {
        &self.value
    }

    pub(super) fn value_mut(&mut self) -> &mut DynTensor {
        &mut self.value
    }
}

fn read_host(value: &DynTensor) -> Result<Array, RuntimeError> {
    match *value.data_type() {
        TensorElementType::Float32 => Ok(Array::F32(value.try_extract_tensor::<f32>()?.1.to_vec())),
        TensorElementType::Float64 => Ok(Array::F64(value.try_extract_tensor::<f64>()?.1.to_vec())),
        TensorElementType::Int64 => Ok(Array::I64(value.try_extract_tensor::<i64>()?.1.to_vec())),
        other => Err(RuntimeError::Failed { reason: format!("tensors of type {other} are not used here") }),
    }
}
