//! What outlives a trial on a lane: the runtime, compiled graphs by shape, and data on the device.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use regatta_autodiff::families::{self, Model};
use regatta_autodiff::graph::{Dtype, Provider};
use regatta_autodiff::import::{Imported, Settings};
use regatta_autodiff::step::{DataRole, Program, StepPlan, accumulation, evaluation, training_step};
use regatta_checkpoint::Affine;

use super::dataset::{Dataset, Feature, Split, Target, Values};
use super::model::ModelPlan;
use super::plan::{Plan, Surroundings};
use super::stream::Source;
use super::tensors::{Purpose, States, StepTensors};
use super::{Training, TrainingError, draw};
use crate::model::imported;
use crate::runtime::{Array, Compiled, CudaSettings, Device, HostKernels, Runtime, RuntimeError, Tensor};

/// Compiled shapes that a lane keeps; the one that was used longest ago goes first.
const SHAPES_MAX: usize = 8;

/// Data sets that a lane keeps on its device.
const DATASETS_MAX: usize = 2;

/// Rows that one run of an evaluation takes.
const EVALUATION_BATCH: usize = 512;

/// Minibatches that are handed over at once to a device that is not the host: enough that what crosses between two
/// hand-overs takes no time beside the steps.
const AHEAD: usize = 128;

/// A lane's part of ONNX Runtime. It trains one trial at a time.
pub struct Engine {
    runtime: Runtime,
    /// What graphs are written for.
    provider: Provider,
    ahead: usize,
    /// Of the rows of a trial that are on the device at once.
    data_bytes_max: Option<u64>,
    /// Data that were found sound, and stay in memory.
    hosted: Weak<Dataset>,
    /// The one used last is at the end.
    shapes: Vec<Shape>,
    datasets: Vec<Resident>,
    files: Vec<ReadFile>,
    compiled_count: usize,
}

/// A model file that was read for rows of these shapes and batches of these sizes.
struct ReadFile {
    onnx: Arc<Vec<u8>>,
    settings: Settings,
    rows: Vec<Vec<usize>>,
    batches: [usize; 2],
    model: Arc<Imported>,
}

/// Compiled graphs with what trials of its shape share.
pub(super) struct Shape {
    plan: StepPlan,
    validation_rows: usize,
    pub step: Stage,
    /// Where an update is by several minibatches: all but its last.
    pub accumulation: Option<Stage>,
    pub evaluation: Stage,
    /// The noise pools, in the order in which the step's description names them.
    pub noise: Vec<Tensor>,
    /// What the last trial had, and what was bound when steps were recorded; while no trial has it.
    pub kept: Option<StepTensors>,
    /// The data that it is bound to.
    kept_for: Weak<DeviceData>,
}

/// A graph's description and its compiled form.
pub(super) struct Stage {
    pub program: Program,
    pub compiled: Compiled,
}

/// What of a data set is on the device.
pub(super) struct DeviceData {
    /// `None` where each minibatch comes from the host.
    pub train: Option<DeviceSplit>,
    pub validation: DeviceSplit,
}

pub(super) struct DeviceSplit {
    /// In the order and the shapes in which the model takes them.
    pub features: Vec<Tensor>,
    pub target: Tensor,
}

struct Resident {
    source: Weak<Dataset>,
    features: Vec<families::Feature>,
    data: Arc<DeviceData>,
}

impl Engine {
    /// Loads ONNX Runtime from the file `library`, for runs on `device` with `threads` threads each.
    ///
    /// # Errors
    /// The library or the device cannot be used; the error says what is missing.
    pub fn new(library: &Path, device: Device, threads: usize) -> Result<Self, RuntimeError> {
        let runtime = Runtime::load(library, device, threads)?;
        let ahead = if device == Device::Cpu { 1 } else { AHEAD };
        let (shapes, datasets, files) = (Vec::new(), Vec::new(), Vec::new());
        let provider = provider_of(device);
        Ok(Self {
            runtime,
            provider,
            ahead,
            data_bytes_max: None,
            hosted: Weak::new(),
            shapes,
            datasets,
            files,
            compiled_count: 0,
        })
    }

    /// The same for graphs as they are written for CUDA, on the CPU: see [`Runtime::with_host_kernels`].
    pub fn with_host_kernels(self, kernels: HostKernels) -> Self {
        Self { runtime: self.runtime.with_host_kernels(kernels), provider: Provider::Cuda, ..self }
    }

    /// The same, with so many minibatches handed over at once where all rows are in memory: the same numbers.
    pub fn with_ahead(self, ahead: usize) -> Self {
        Self { ahead, ..self }
    }

    /// The same, with at most so many bytes of a trial's rows on the device: of more, those to train on stay in memory,
    /// and each minibatch crosses by itself: the same numbers, a little later.
    pub fn with_data_limit(self, data_bytes_max: Option<u64>) -> Self {
        Self { data_bytes_max, ..self }
    }

    /// The same with other settings for CUDA, for what it compiles from now on.
    pub fn with_cuda(self, cuda: CudaSettings) -> Self {
        Self { runtime: self.runtime.with_cuda(cuda), ..self }
    }

    /// The same, with a profile of what it compiles from now on: see [`Runtime::with_profile`].
    pub fn with_profile(self, prefix: PathBuf) -> Self {
        Self { runtime: self.runtime.with_profile(prefix), ..self }
    }

    /// Begins a trial, or resumes it from a checkpoint of a plan that is equal but for numbers that a step takes.
    ///
    /// # Errors
    /// The plan, the data or the checkpoint cannot be used, or the device failed.
    pub fn start(
        &mut self,
        plan: &Plan,
        source: impl Into<Source>,
        resume: Option<&[u8]>,
    ) -> Result<Training<'_>, TrainingError> {
        let source = self.placed(source.into());
        plan.check()?;
        match &source {
            Source::Hosted(data) if self.hosted.as_ptr() == Arc::as_ptr(data) => {}
            Source::Hosted(data) => {
                data.check(plan.loss.ignored())?;
                self.hosted = Arc::downgrade(data);
            }
            Source::Resident(data) if self.datasets.iter().any(|resident| resident.holds(data)) => {}
            Source::Resident(data) => data.check(plan.loss.ignored())?,
            Source::Streamed(stream) => stream.validation.check("validation", plan.loss.ignored())?,
        }
        let model = self.model(plan, &source)?;
        let on = Surroundings {
            provider: self.provider,
            own_operators: self.runtime.has_own_operators(),
            ahead: self.ahead,
        };
        let shape = plan.shape(model, &source, on)?;
        let position = self.shape(shape, source.validation().rows())?;
        let data = match &source {
            Source::Resident(data) => self.device_data(position, data)?,
            Source::Hosted(_) | Source::Streamed(_) => {
                let Shape { plan, step, .. } = &self.shapes[position];
                let validation = upload(&step.compiled, source.validation(), &plan.model.features())?;
                Arc::new(DeviceData { train: None, validation })
            }
        };
        self.keep_for(position, &data);
        self.record(position, plan, &data)?;
        Training::start(&mut self.shapes[position], plan, source, data, resume)
    }

    /// With rows that are too many for the device in memory alone.
    fn placed(&self, source: Source) -> Source {
        match (source, self.data_bytes_max) {
            (Source::Resident(data), Some(most)) if bytes(&data.train) + bytes(&data.validation) > most => {
                tracing::info!(
                    mib = bytes(&data.train) >> 20,
                    limit_mib = most >> 20,
                    "the rows to train on stay in the host's memory: a device has less for them (`--data-memory`)"
                );
                Source::Hosted(data)
            }
            (source, _) => source,
        }
    }

    /// How many shapes were compiled so far: trials of one shape share one.
    pub fn compiled_count(&self) -> usize {
        self.compiled_count
    }

    /// Gives back what a trial of the shape on these data has no use for: it would hold other data, and but for what was
    /// recorded, memory that this trial may need.
    fn keep_for(&mut self, position: usize, data: &Arc<DeviceData>) {
        let gone = |bound: &Weak<DeviceData>| !self.datasets.iter().any(|resident| resident.is(bound));
        for (at, shape) in self.shapes.iter_mut().enumerate() {
            let is_for_another = match at == position {
                true => shape.kept_for.upgrade().is_none_or(|bound| !Arc::ptr_eq(&bound, data)),
                false => !shape.step.compiled.records(),
            };
            if is_for_another || gone(&shape.kept_for) {
                shape.kept = None;
            }
        }
    }

    /// Records a shape's steps where they are to be, and are not yet for these data.
    fn record(&mut self, position: usize, plan: &Plan, data: &Arc<DeviceData>) -> Result<(), TrainingError> {
        let shape = &mut self.shapes[position];
        if !shape.step.compiled.records() || shape.kept.is_some() {
            return Ok(());
        }
        let states: Vec<Array> = (shape.step.program.states.iter())
            .map(|state| zeros(state.input.dtype, state.input.shape.iter().product()))
            .collect();
        let tensors = StepTensors::bind(shape, plan, data.train.as_ref(), &States::Given(&states))?;
        match tensors.record(shape) {
            Ok(()) => {
                shape.keep(tensors, data);
                Ok(())
            }
            Err(RuntimeError::Failed { reason }) => {
                let runtime = self.runtime.kernel_by_kernel();
                let Ok(compiled) = Shape::compile(&runtime, shape.plan.clone(), shape.validation_rows) else {
                    // It was the device that failed.
                    return Err(RuntimeError::Failed { reason }.into());
                };
                tracing::warn!(reason, "CUDA cannot record the steps of this model: each kernel is launched by itself");
                *shape = compiled;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The plan's model for the data; a file is read once for all trials of a shape.
    fn model(&mut self, plan: &Plan, source: &Source) -> Result<Model, TrainingError> {
        let validation = source.validation();
        if let Some(model) = plan.model.family(validation)? {
            return Ok(model.without(&plan.without));
        }
        let ModelPlan::File { onnx, settings, .. } = &plan.model else {
            unreachable!("every model that is no family is a file");
        };
        let rows: Vec<Vec<usize>> = validation.features.iter().map(|feature| feature.shape.clone()).collect();
        let batches = [plan.batch(source.rows()), evaluation_batch(validation.rows())];
        let is_same = |read: &ReadFile| {
            Arc::ptr_eq(&read.onnx, onnx) && read.settings == *settings && read.rows == rows && read.batches == batches
        };
        if let Some(read) = self.files.iter().find(|read| is_same(read)) {
            return Ok(Model::Imported(Arc::clone(&read.model)));
        }
        let model = Arc::new(imported(&self.runtime, onnx, settings, &rows, &batches)?);
        if self.files.len() == SHAPES_MAX {
            self.files.remove(0);
        }
        let (onnx, settings) = (Arc::clone(onnx), settings.clone());
        self.files.push(ReadFile { onnx, settings, rows, batches, model: Arc::clone(&model) });
        Ok(Model::Imported(model))
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
        let features = self.shapes[shape].plan.model.features();
        let found = self.datasets.iter().find(|resident| resident.holds(data) && resident.features == features);
        if let Some(resident) = found {
            return Ok(Arc::clone(&resident.data));
        }
        if self.datasets.len() == DATASETS_MAX {
            self.datasets.remove(0);
        }
        let compiled = &self.shapes[shape].step.compiled;
        let train = Some(upload(compiled, &data.train, &features)?);
        let on_device = Arc::new(DeviceData { train, validation: upload(compiled, &data.validation, &features)? });
        self.datasets.push(Resident { source: Arc::downgrade(data), features, data: Arc::clone(&on_device) });
        Ok(on_device)
    }
}

/// Rows of one run of an evaluation of so many.
fn evaluation_batch(rows: usize) -> usize {
    rows.min(EVALUATION_BATCH)
}

fn provider_of(device: Device) -> Provider {
    match device {
        Device::Cpu => Provider::Cpu,
        Device::Cuda(_) => Provider::Cuda,
    }
}

impl Resident {
    fn is(&self, data: &Weak<DeviceData>) -> bool {
        data.upgrade().is_some_and(|data| Arc::ptr_eq(&self.data, &data))
    }

    fn holds(&self, data: &Arc<Dataset>) -> bool {
        self.source.upgrade().is_some_and(|source| Arc::ptr_eq(&source, data))
    }
}

impl Shape {
    fn compile(runtime: &Runtime, plan: StepPlan, validation_rows: usize) -> Result<Self, TrainingError> {
        let step = Stage::compile(runtime, training_step(&plan)?)?;
        let accumulation = plan.accumulate.then(|| Stage::compile(runtime, accumulation(&plan)?)).transpose()?;
        let evaluation = evaluation(&plan, validation_rows, evaluation_batch(validation_rows))?;
        let evaluation = Stage::compile(runtime, evaluation)?;
        let mut noise = Vec::new();
        for input in step.program.data.iter().filter(|input| input.role == DataRole::Noise) {
            let [rows, width] = input.input.shape[..] else {
                let reason = format!("a noise pool of shape {:?}", input.input.shape);
                return Err(TrainingError::Configuration { reason });
            };
            let pool = Array::F32(draw::noise(width, rows * width));
            noise.push(step.compiled.tensor(&input.input.shape, &pool)?);
        }
        let (kept, kept_for) = (None, Weak::new());
        Ok(Self { plan, validation_rows, step, accumulation, evaluation, noise, kept, kept_for })
    }

    /// Keeps what is bound to these data for the next trial.
    pub fn keep(&mut self, tensors: StepTensors, data: &Arc<DeviceData>) {
        (self.kept, self.kept_for) = (Some(tensors), Arc::downgrade(data));
    }

    pub fn plan(&self) -> &StepPlan {
        &self.plan
    }

    /// The graph of minibatches for that.
    pub fn compiled(&mut self, purpose: Purpose) -> &mut Compiled {
        match (&mut self.accumulation, purpose) {
            (Some(stage), Purpose::Adds { .. }) => &mut stage.compiled,
            _ => &mut self.step.compiled,
        }
    }
}

impl Stage {
    fn compile(runtime: &Runtime, mut program: Program) -> Result<Self, TrainingError> {
        if runtime.has_own_products() {
            program.graph.allow_own_products();
        }
        let (onnx, can_be_recorded) = program.onnx_to_record();
        let compiled = if can_be_recorded { runtime.compile_for_replay(&onnx)? } else { runtime.compile(&onnx)? };
        Ok(Self { program, compiled })
    }
}

/// What the rows take on a device.
fn bytes(split: &Split) -> u64 {
    let element = |values: &Values| if matches!(values, Values::I64(_)) { 8 } else { 4 };
    let target = match &split.target {
        Target::Classes { labels, .. } => labels.len() * 8,
        Target::Values { values, .. } => values.len() * 4,
    };
    let features = split.features.iter().map(|feature| feature.values.len() * element(&feature.values));
    (features.sum::<usize>() + target) as u64
}

fn upload(compiled: &Compiled, split: &Split, wanted: &[families::Feature]) -> Result<DeviceSplit, TrainingError> {
    let rows = split.rows();
    let whole = |shape: &[usize]| [&[rows], shape].concat();
    let target = compiled.tensor(&whole(split.target.shape()), &target_array(&split.target))?;
    if split.features.len() != wanted.len() {
        let reason = format!("the model takes {} features, the data has {}", wanted.len(), split.features.len());
        return Err(TrainingError::Configuration { reason });
    }
    let mut features = Vec::with_capacity(wanted.len());
    for (feature, wanted) in split.features.iter().zip(wanted) {
        check_fit(feature, wanted).map_err(|reason| TrainingError::Configuration { reason })?;
        features.push(compiled.tensor(&whole(&wanted.shape), &array(feature))?);
    }
    Ok(DeviceSplit { features, target })
}

/// # Errors
/// Why a model cannot take the feature, and what to do.
fn check_fit(feature: &Feature, wanted: &families::Feature) -> Result<(), String> {
    let (name, shape, model, model_shape) = (&feature.name, &feature.shape, &wanted.name, &wanted.shape);
    let is_of_integers = matches!(feature.values, Values::I64(_));
    let takes_integers = wanted.dtype == Dtype::I64;
    if feature.width() != model_shape.iter().product::<usize>() {
        Err(format!("a row of `{name}` has the shape {shape:?}, and the model's `{model}` takes {model_shape:?}"))
    } else if takes_integers && !is_of_integers {
        Err(format!("`{name}` has numbers, and the model's `{model}` takes whole ones: add it to `data.categorical`"))
    } else if is_of_integers && !takes_integers {
        Err(format!(
            "`{name}` has categories or tokens, and the model's `{model}` takes numbers: take it out of `data.categorical`"
        ))
    } else if wanted.takes_bytes && feature.normalized.is_some() {
        Err(format!(
            "the model's `{model}` takes bytes (uint8), and `{name}` is normalised: set `data.normalize: none`"
        ))
    } else {
        Ok(())
    }
}

/// The target as a graph takes it.
pub(super) fn target_array(target: &Target) -> Array {
    match target {
        Target::Classes { labels, .. } => Array::I64(labels.clone()),
        Target::Values { values, .. } => Array::F32(values.clone()),
    }
}

/// The feature's values as a graph takes them.
pub(super) fn array(feature: &Feature) -> Array {
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
