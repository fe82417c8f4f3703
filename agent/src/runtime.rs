//! ONNX Runtime behind plain types: load the library, compile a graph, keep tensors on the device, run.
//!
//! Invariant: this file and its folder are the only ones that know `ort`. They know nothing of training.

mod check;
mod cuda;
mod error;
pub mod operators;
mod recording;
mod simplify;
mod tensor;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{IoBinding, NoSelectedOutputs, RunOptions, Session};

pub use cuda::CudaSettings;
use cuda::Launch;
pub use error::RuntimeError;
use error::{refused, unset};
use recording::Held;
pub use tensor::{Array, Tensor};

/// Where graphs run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    Cpu,
    /// The CUDA device of this number.
    Cuda(u32),
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => write!(formatter, "cpu"),
            Self::Cuda(number) => write!(formatter, "cuda:{number}"),
        }
    }
}

/// ONNX Runtime allows one environment a process; every [`Runtime`] shares it.
static ENVIRONMENT: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

fn environment(library: &Path) -> Result<Environment, RuntimeError> {
    let failed = |reason: String| RuntimeError::Library { path: library.into(), reason };
    let library = library.canonicalize().map_err(|error| failed(error.to_string()))?;
    let mut shared = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((loaded, environment)) = shared.as_ref() {
        return if *loaded == library {
            Ok(environment.clone())
        } else {
            Err(RuntimeError::OtherLibrary { loaded: loaded.clone(), wanted: library })
        };
    }
    let builder = ort::init_from(&library).map_err(|error| failed(error.to_string()))?;
    let environment = builder.with_name("regatta").build().map_err(|error| failed(error.to_string()))?;
    environment.set_log_level(LogLevel::Error);
    operators::announce(&environment)?;
    *shared = Some((library, environment.clone()));
    Ok(environment)
}

/// A loaded library, a device that works, and how many threads a run may use.
pub struct Runtime {
    environment: Environment,
    device: Device,
    threads: usize,
    cuda: CudaSettings,
    profile: Option<PathBuf>,
}

impl Runtime {
    /// Loads the library at `library` (the full name of the file) and checks that `device` can be used.
    ///
    /// # Errors
    /// The library cannot be loaded, or the device cannot be used, with what is missing. There is no fall back.
    pub fn load(library: &Path, device: Device, threads: usize) -> Result<Self, RuntimeError> {
        let environment = environment(library)?;
        let runtime =
            Self { environment, device, threads: threads.max(1), cuda: CudaSettings::default(), profile: None };
        let _held_off = recording::hold_off();
        runtime.builder(Launch::EachKernel)?;
        Ok(runtime)
    }

    /// The same with other settings for CUDA; on the CPU they say nothing.
    pub fn with_cuda(self, cuda: CudaSettings) -> Self {
        Self { cuda, ..self }
    }

    /// The same, and each graph that it compiles leaves a file of what its nodes took when it is dropped: ONNX Runtime's
    /// JSON, under the name `prefix` and a time. That takes time itself.
    pub fn with_profile(self, prefix: PathBuf) -> Self {
        Self { profile: Some(prefix), ..self }
    }

    pub fn device(&self) -> Device {
        self.device
    }

    /// Compiles an ONNX model for the device. On the CPU it may use the operators of [`operators`].
    ///
    /// # Errors
    /// The graph is refused, or some node has no kernel on the device.
    pub fn compile(&self, onnx: &[u8]) -> Result<Compiled, RuntimeError> {
        self.compile_with(onnx, Launch::EachKernel)
    }

    /// Compiles an ONNX model so that CUDA records its first run and replays that from then on, with one launch a run.
    /// On the CPU this is [`compile`](Self::compile).
    ///
    /// The first run computes the graph three times: twice to take its memory, once from the recording. So states that
    /// are updated in place are to be written after it. All runs read and write what was bound in the first.
    ///
    /// # Errors
    /// The graph is refused, some node has no kernel on the device, or it has control flow. A node that waits for the
    /// device is an error of the first run, as is a Concat of more than 32 tensors. Not found out: a Split into more
    /// than four tensors of different lengths, whose replays read memory of the host that is no longer theirs.
    pub fn compile_for_replay(&self, onnx: &[u8]) -> Result<Compiled, RuntimeError> {
        self.compile_with(onnx, Launch::WholeGraph)
    }

    fn compile_with(&self, onnx: &[u8], launch: Launch) -> Result<Compiled, RuntimeError> {
        let _held_off = recording::hold_off();
        let session = self.builder(launch)?.commit_from_memory(onnx).map_err(refused)?;
        let allocator = match self.device {
            Device::Cpu => Allocator::default(),
            Device::Cuda(number) => {
                let number = self.cuda_number(number)?;
                let kind = (AllocatorType::Device, MemoryType::Default);
                Allocator::new(&session, MemoryInfo::new(AllocationDevice::CUDA, number, kind.0, kind.1)?)?
            }
        };
        let is_to_be_recorded = launch == Launch::WholeGraph && self.device != Device::Cpu;
        let (session, allocator) = (Held::new(session), Held::new(allocator));
        Ok(Compiled { session, allocator, device: self.device, is_to_be_recorded })
    }

    /// Level 2 and no more: the layouts of level 3 help only graphs whose weights are constants. No spinning,
    /// because lanes share cores.
    fn builder(&self, launch: Launch) -> Result<SessionBuilder, RuntimeError> {
        let builder = Session::builder(&self.environment)?
            .with_optimization_level(GraphOptimizationLevel::Level2)
            .map_err(unset)?
            .with_intra_threads(self.threads)
            .map_err(unset)?
            .with_inter_threads(1)
            .map_err(unset)?
            .with_intra_op_spinning(false)
            .map_err(unset)?
            .with_inter_op_spinning(false)
            .map_err(unset)?
            .with_deterministic_compute(true)
            .map_err(unset)?
            .with_log_level(LogLevel::Error)
            .map_err(unset)?;
        let builder = match &self.profile {
            Some(prefix) => builder.with_profiling(prefix).map_err(unset)?,
            None => builder,
        };
        let Device::Cuda(number) = self.device else {
            return builder.with_operators(operators::domain()?).map_err(unset);
        };
        let provider = self.cuda.provider(self.cuda_number(number)?, launch);
        let builder =
            builder.with_execution_providers([provider]).map_err(|error| self.unavailable(error.message()))?;
        builder.with_disable_cpu_fallback().map_err(unset)
    }

    fn cuda_number(&self, number: u32) -> Result<i32, RuntimeError> {
        i32::try_from(number).map_err(|error| self.unavailable(&error.to_string()))
    }

    fn unavailable(&self, reason: &str) -> RuntimeError {
        let (reason, remedy) = (cuda::last_words(reason).to_owned(), cuda::remedy(reason));
        RuntimeError::DeviceUnavailable { device: self.device, reason, remedy }
    }
}

/// A graph that is ready to run, on its device.
pub struct Compiled {
    session: Held<Session>,
    allocator: Held<Allocator>,
    device: Device,
    /// Whether the next run is recorded.
    is_to_be_recorded: bool,
}

impl Compiled {
    /// A tensor on the device with the given contents.
    pub fn tensor(&self, shape: &[usize], contents: &Array) -> Result<Tensor, RuntimeError> {
        Tensor::on_device(&self.allocator, self.device, shape, contents)
    }

    pub fn bindings(&self) -> Result<Bindings, RuntimeError> {
        Ok(Bindings { binding: Held::new(self.session.create_binding()?), device: self.device })
    }

    /// Runs once, from and to what is bound.
    ///
    /// # Errors
    /// After any error the bound outputs may be half written; inputs are as they were.
    pub fn run(&mut self, bindings: &Bindings, interrupt: &Interrupt) -> Result<(), RuntimeError> {
        if interrupt.is_raised() {
            return Err(RuntimeError::Interrupted);
        }
        let outcome = if self.is_to_be_recorded {
            let _alone = recording::record();
            self.session.run_binding_with_options(&bindings.binding, &interrupt.options).map(|_| ())
        } else {
            let _held_off = recording::hold_off();
            self.session.run_binding_with_options(&bindings.binding, &interrupt.options).map(|_| ())
        };
        self.is_to_be_recorded &= outcome.is_err();
        outcome.map_err(|error| if interrupt.is_raised() { RuntimeError::Interrupted } else { error.into() })
    }
}

/// Which tensor stands for which input and output of a graph.
pub struct Bindings {
    binding: Held<IoBinding>,
    device: Device,
}

impl Bindings {
    /// An input that stays on the device. The same tensor may be an output of other bindings.
    pub fn input(&mut self, name: &str, tensor: &Tensor) -> Result<(), RuntimeError> {
        let _held_off = recording::hold_off();
        Ok(self.binding.bind_input(name, tensor.value())?)
    }

    pub fn output(&mut self, name: &str, tensor: &mut Tensor) -> Result<(), RuntimeError> {
        Ok(self.binding.bind_output(name, tensor.value_mut())?)
    }

    /// Brings a host tensor that was bound as an input to the device again, after it was written to.
    pub fn refresh(&mut self, name: &str, host: &Tensor) -> Result<(), RuntimeError> {
        match self.device {
            Device::Cpu => Ok(()),
            Device::Cuda(_) => {
                let _held_off = recording::hold_off();
                self.binding.bind_input(name, host.value())?;
                Ok(self.binding.synchronize_inputs()?)
            }
        }
    }
}

/// Ends a run from another thread, and refuses every later one.
#[derive(Clone)]
pub struct Interrupt {
    options: Arc<RunOptions<NoSelectedOutputs>>,
    raised: Arc<AtomicBool>,
}

impl Interrupt {
    pub fn new() -> Result<Self, RuntimeError> {
        Ok(Self { options: Arc::new(RunOptions::new()?), raised: Arc::new(AtomicBool::new(false)) })
    }

    /// Ends the run in progress within one node of its graph.
    ///
    /// # Errors
    /// The flag could not be set; no later run will start all the same.
    pub fn raise(&self) -> Result<(), RuntimeError> {
        self.raised.store(true, Ordering::SeqCst);
        Ok(self.options.terminate()?)
    }

    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::SeqCst)
    }
}
