//! What outlives a trial on a lane: the runtime, compiled graphs by shape, and data on the device.

use std::path::Path;
use std::sync::{Arc, Weak};

use regatta_autodiff::graph::{Dtype, Provider};
use regatta_autodiff::step::{DataRole, EvaluationPlan, Program, StepPlan, evaluation, training_step};

use super::dataset::{Affine, Dataset, Feature, Split, Target, Values};
use super::plan::Plan;
use super::{Training, TrainingError, draw};
use crate::runtime::{Array, Compiled, CudaSettings, Device, Runtime, RuntimeError, Tensor};

/// Compiled shapes that a lane keeps; the one that was used longest ago goes first.
const SHAPES_MAX: usize = 8;

/// Data sets that a lane keeps on its device.
const DATASETS_MAX: usize = 2;

/// Rows that one run of an evaluation takes.
const EVALUATION_BATCH: usize = 512;

/// A lane's part of ONNX Runtime. It trains one trial at a time.
pub struct Engine {
    runtime: Runtime,
    /// The one used last is at the end.
    shapes: Vec<Shape>,
    datasets: Vec<Resident>,
    compiled_count: usize,
}

/// A compiled pair of graphs with what trials of its shape share.
pub(super) struct Shape {
    plan: StepPlan,
    validation_rows: usize,
    pub step: Stage,
    pub evaluation: Stage,
    /// The noise pools, in the order in which the step's description names them.
    pub noise: Vec<Tensor>,
}

/// A graph's description and its compiled form.
pub(super) struct Stage {
    pub program: Program,
    pub compiled: Compiled,
}

/// A data set on the device.
pub(super) struct DeviceData {
    pub train: DeviceSplit,
    pub validation: DeviceSplit,
}

pub(super) struct DeviceSplit {
    pub features: Tensor,
    pub target: Tensor,
}

struct Resident {
    source: Weak<Dataset>,
    data: Arc<DeviceData>,
}

impl Engine {
    /// Loads ONNX Runtime from the file `library`, for runs on `device` with `threads` threads each.
    ///
    /// # Errors
    /// The library or the device cannot be used; the error says what is missing.
    pub fn new(library: &Path, device: Device, threads: usize) -> Result<Self, RuntimeError> {
        let runtime = Runtime::load(library, device, threads)?;
        Ok(Self { runtime, shapes: Vec::new(), datasets: Vec::new(), compiled_count: 0 })
    }

    /// The same with other settings for CUDA, for what it compiles from now on.
    pub fn with_cuda(self, cuda: CudaSettings) -> Self {
        Self { runtime: self.runtime.with_cuda(cuda), ..self }
    }

    /// Begins a trial, or resumes it from a checkpoint of an equal plan.
    ///
    /// # Errors
    /// The plan, the data or the checkpoint cannot be used, or the device failed.
    pub fn start(
        &mut self,
        plan: &Plan,
        data: &Arc<Dataset>,
        resume: Option<&[u8]>,
    ) -> Result<Training<'_>, TrainingError> {
        plan.check()?;
        let known = self.datasets.iter().any(|resident| resident.is_of(data));
        if !known {
            data.check()?;
        }
        let position =
            self.shape(plan.shape(&data.train, provider_of(self.runtime.device()))?, data.validation.rows())?;
        let resident = self.device_data(position, data)?;
        Training::start(&mut self.shapes[position], plan, data, resident, resume)
    }

    /// How many shapes were compiled so far: trials of one shape share one.
    pub fn compiled_count(&self) -> usize {
        self.compiled_count
    }

    /// The position of the shape, compiled now if it is not there.
    fn shape(&mut self, plan: StepPlan, validation_rows: usize) -> Result<usize, TrainingError> {
        let found = self.shapes.iter().position(|s| s.plan == plan && s.validation_rows == validation_rows);
        let shape = match found {
            Some(position) => self.shapes.remove(position),
            None => {
                if self.shapes.len() == SHAPES_MAX {
                    self.shapes.remove(0);
                }
                self.compiled_count += 1;
                Shape::compile(&self.runtime, plan, validation_rows)?
            }
        };
        self.shapes.push(shape);
        Ok(self.shapes.len() - 1)
    }

    fn device_data(&mut self, shape: usize, data: &Arc<Dataset>) -> Result<Arc<DeviceData>, TrainingError> {
        self.datasets.retain(|resident| resident.source.strong_count() > 0);
        if let Some(resident) = self.datasets.iter().find(|resident| resident.is_of(data)) {
            return Ok(Arc::clone(&resident.data));
        }
        if self.datasets.len() == DATASETS_MAX {
            self.datasets.remove(0);
        }
        let compiled = &self.shapes[shape].step.compiled;
        let on_device =
            DeviceData { train: upload(compiled, &data.train)?, validation: upload(compiled, &data.validation)? };
        let on_device = Arc::new(on_device);
        self.datasets.push(Resident { source: Arc::downgrade(data), data: Arc::clone(&on_device) });
        Ok(on_device)
    }
}

fn provider_of(device: Device) -> Provider {
    match device {
        Device::Cpu => Provider::Cpu,
        Device::Cuda(_) => Provider::Cuda,
    }
}

impl Resident {
    fn is_of(&self, data: &Arc<Dataset>) -> bool {
        self.source.upgrade().is_some_and(|source| Arc::ptr_eq(&source, data))
    }
}

impl Shape {
    fn compile(runtime: &Runtime, plan: StepPlan, validation_rows: usize) -> Result<Self, TrainingError> {
        let evaluation_plan = EvaluationPlan {
            model: plan.model.clone(),
            loss: plan.loss,
            rows: validation_rows,
            batch: validation_rows.min(EVALUATION_BATCH),
            provider: plan.provider,
        };
        let step = Stage::compile(runtime, training_step(&plan)?)?;
        let evaluation = Stage::compile(runtime, evaluation(&evaluation_plan)?)?;
        let mut noise = Vec::new();
        for input in step.program.data.iter().filter(|input| input.role == DataRole::Noise) {
            let [rows, width] = input.input.shape[..] else {
                let reason = format!("a noise pool of shape {:?}", input.input.shape);
                return Err(TrainingError::Configuration { reason });
            };
            let pool = Array::F32(draw::noise(width, rows * width));
            noise.push(step.compiled.tensor(&input.input.shape, &pool)?);
        }
        Ok(Self { plan, validation_rows, step, evaluation, noise })
    }

    pub fn plan(&self) -> &StepPlan {
        &self.plan
    }
}

impl Stage {
    fn compile(runtime: &Runtime, program: Program) -> Result<Self, TrainingError> {
        let compiled = runtime.compile(&program.onnx())?;
        Ok(Self { program, compiled })
    }
}

fn upload(compiled: &Compiled, split: &Split) -> Result<DeviceSplit, TrainingError> {
    let rows = split.rows();
    let whole = |shape: &[usize]| [&[rows], shape].concat();
    let target = match &split.target {
        Target::Classes { labels, shape, .. } => compiled.tensor(&whole(shape), &Array::I64(labels.clone()))?,
        Target::Values { values, shape } => compiled.tensor(&whole(shape), &Array::F32(values.clone()))?,
    };
    let [feature] = split.features.as_slice() else {
        return Err(TrainingError::Configuration { reason: "this model takes one feature".into() });
    };
    let features = compiled.tensor(&[rows, feature.width()], &array(feature))?;
    Ok(DeviceSplit { features, target })
}

/// The feature's values as a graph takes them.
fn array(feature: &Feature) -> Array {
    match &feature.values {
        Values::F32(values) => Array::F32(values.clone()),
        Values::I64(values) => Array::I64(values.clone()),
        Values::U8(values) => {
            let plain = Affine { offset: vec![0.0], factor: vec![1.0] };
            let Affine { offset, factor } = feature.affine.as_ref().unwrap_or(&plain);
            let run = feature.width() / offset.len();
            let number = |(at, value): (usize, &u8)| {
                let channel = at / run % offset.len();
                (f32::from(*value) - offset[channel]) * factor[channel]
            };
            Array::F32(values.iter().enumerate().map(number).collect())
        }
    }
}

/// Zeros of a type, for tensors that a run fills.
pub(super) fn zeros(dtype: Dtype, count: usize) -> Array {
    match dtype {
        Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::U8 | Dtype::Bool => Array::F32(vec![0.0; count]),
        Dtype::F64 => Array::F64(vec![0.0; count]),
        Dtype::I32 | Dtype::I64 => Array::I64(vec![0; count]),
    }
}
