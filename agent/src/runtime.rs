//! ONNX Runtime behind plain types: load the library, compile a graph, keep tensors on the device, run.
//!
//! Invariant: this file and its folder are the only ones that know `ort`. They know nothing of training.

mod check;
mod cuda;
mod error;
mod kernels;
mod nvidia;
pub mod operators;
mod recording;
mod simplify;
mod tensor;

use std::cell::Cell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{IoBinding, NoSelectedOutputs, RunOptions, Session};
use regatta_autodiff::graph::{Dtype, Graph, Provider};
use regatta_kernels::MatrixProduct;

pub use cuda::CudaSettings;
use cuda::Launch;
pub use error::RuntimeError;
use error::{refused, unset};
pub use kernels::Kernels;
use nvidia::Nvidia;
use recording::Held;
pub use tensor::{Array, Tensor};

/// Where graphs run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    Cpu,
    /// The CUDA device of this number.
    Cuda(u32),
}

impl Device {
    /// Its own memory, where it has some and its driver says how much.
    pub fn memory_bytes(self) -> Option<u64> {
        match self {
            Self::Cpu => None,
            Self::Cuda(number) => nvidia::memory_bytes(number),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => write!(formatter, "cpu"),
            Self::Cuda(number) => write!(formatter, "cuda:{number}"),
        }
    }
}

/// As it is displayed.
impl FromStr for Device {
    type Err = NoDevice;

    fn from_str(text: &str) -> Result<Self, NoDevice> {
        let number = || text.strip_prefix("cuda:")?.parse().ok();
        if text == "cpu" { Ok(Self::Cpu) } else { number().map(Self::Cuda).ok_or(NoDevice) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a device is cpu or cuda:N")]
pub struct NoDevice;

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

/// Makes the kernels of a graph on the host.
pub type HostKernels = Arc<dyn Fn() -> Arc<dyn Kernels> + Send + Sync>;

/// A loaded library, a device that works, and how many threads a run may use.
pub struct Runtime {
    environment: Environment,
    device: Device,
    threads: usize,
    cuda: CudaSettings,
    /// Where kernels of our own can be compiled.
    nvidia: Option<Arc<Nvidia>>,
    host_kernels: Option<HostKernels>,
    profile: Option<PathBuf>,
}

impl Runtime {
    /// Loads the library at `library` (the full name of the file) and checks that `device` can be used.
    ///
    /// # Errors
    /// The library cannot be loaded, or the device cannot be used, with what is missing. There is no fall back.
    pub fn load(library: &Path, device: Device, threads: usize) -> Result<Self, RuntimeError> {
        let environment = environment(library)?;
        let (threads, cuda) = (threads.max(1), CudaSettings::default());
        let (nvidia, host_kernels, profile) = (None, None, None);
        let runtime = Self { environment, device, threads, cuda, nvidia, host_kernels, profile };
        recording::patiently(|| runtime.builder(Launch::EachKernel).map(|_| ()))?;
        let nvidia = match device {
            Device::Cpu => None,
            Device::Cuda(number) => Nvidia::open(number),
        };
        Ok(Self { nvidia, ..runtime })
    }

    /// The same with other settings for CUDA; on the CPU they say nothing.
    pub fn with_cuda(self, cuda: CudaSettings) -> Self {
        Self { cuda, ..self }
    }

    /// The same for a graph whose runs cannot be recorded.
    pub fn kernel_by_kernel(&self) -> Self {
        let cuda = CudaSettings { kernel_by_kernel: true, ..self.cuda };
        let (environment, nvidia) = (self.environment.clone(), self.nvidia.clone());
        let (host_kernels, profile) = (self.host_kernels.clone(), self.profile.clone());
        Self { environment, cuda, nvidia, host_kernels, profile, ..*self }
    }

    /// The same, and each graph that it compiles leaves a file of what its nodes took when it is dropped: ONNX Runtime's
    /// JSON, under the name `prefix` and a time. That takes time itself.
    pub fn with_profile(self, prefix: PathBuf) -> Self {
        Self { profile: Some(prefix), ..self }
    }

    /// The same, and on the CPU it runs graphs that were written for CUDA with kernels of their own, where somebody compiles
    /// these for the host: to check them without a device.
    pub fn with_host_kernels(self, host_kernels: HostKernels) -> Self {
        Self { host_kernels: Some(host_kernels), ..self }
    }

    pub fn device(&self) -> Device {
        self.device
    }

    /// Whether graphs for the device may have operators of our own.
    pub fn has_own_operators(&self) -> bool {
        self.device == Device::Cpu || (self.nvidia.is_some() && !self.cuda.stock_kernels)
    }

    /// Whether large products of matrices are better operators of our own.
    pub fn has_own_products(&self) -> bool {
        self.device == Device::Cpu && MatrixProduct::is_fast()
    }

    /// Compiles an ONNX model for the device. On the CPU it may use the operators of [`operators`].
    ///
    /// # Errors
    /// The graph is refused, or some node has no kernel on the device.
    pub fn compile(&self, onnx: &[u8]) -> Result<Compiled, RuntimeError> {
        self.compile_with(onnx, Launch::EachKernel)
    }

    /// Compiles an ONNX model so that CUDA records the first run with each [`Bindings`] and replays that from then on, with
    /// one launch a run. On the CPU this is [`compile`](Self::compile), as it is where the settings say so.
    ///
    /// The first run computes the graph three times: twice to take its memory, once from the recording. So states that
    /// are updated in place are to be written after it. A replay reads nothing of the host's, and cannot be broken off.
    ///
    /// # Errors
    /// The graph is refused, some node has no kernel on the device, or it has control flow. A node that waits for the
    /// device is an error of the first run, as is a Concat of more than 32 tensors. Not found out: a kernel that gets lengths
    /// or addresses from the host's memory (some of Split and MatMul do), whose replays read there what is no longer theirs.
    pub fn compile_for_replay(&self, onnx: &[u8]) -> Result<Compiled, RuntimeError> {
        self.compile_with(onnx, Launch::WholeGraph)
    }

    fn compile_with(&self, onnx: &[u8], launch: Launch) -> Result<Compiled, RuntimeError> {
        recording::patiently(|| self.compile_once(onnx, launch))
    }

    fn compile_once(&self, onnx: &[u8], launch: Launch) -> Result<Compiled, RuntimeError> {
        let launch = match self.device {
            Device::Cuda(_) if !self.cuda.kernel_by_kernel => launch,
            _ => Launch::EachKernel,
        };
        let session = self.builder(launch)?.commit_from_memory(onnx).map_err(refused)?;
        let allocator = match (self.device, launch) {
            (Device::Cpu, _) => Allocator::default(),
            (Device::Cuda(number), Launch::EachKernel) => self.allocator(&session, number)?,
            // A replay writes where its recording did. Whatever is allocated from the same memory might lie there.
            (Device::Cuda(number), Launch::WholeGraph) => {
                let beside = self.builder(Launch::EachKernel)?.commit_from_memory(&nothing()).map_err(refused)?;
                self.allocator(&beside, number)?
            }
        };
        let (session, allocator) = (Held::new(session), Held::new(allocator));
        Ok(Compiled { session, allocator, device: self.device, launch })
    }

    /// Of a session's memory on the device, which lives as long as the allocator.
    fn allocator(&self, session: &Session, number: u32) -> Result<Allocator, RuntimeError> {
        let number = self.cuda_number(number)?;
        let memory = MemoryInfo::new(AllocationDevice::CUDA, number, AllocatorType::Device, MemoryType::Default)?;
        Ok(Allocator::new(session, memory)?)
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
            let kernels = self.host_kernels.as_ref().map(|make| make());
            return builder.with_operators(operators::domain(kernels, self.threads)?).map_err(unset);
        };
        // It would write slices as one Split, which gets their lengths from the host's memory: no recording could hold it.
        let builder = builder
            .with_config_entry("optimization.disable_specified_optimizers", "GatherSliceToSplitFusion")
            .map_err(unset)?;
        let provider = self.cuda.provider(self.cuda_number(number)?, launch);
        let builder = match &self.nvidia {
            Some(nvidia) => builder.with_operators(operators::cuda_domain(nvidia, self.cuda.tf32)?).map_err(unset)?,
            None => builder,
        };
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

/// A graph that computes next to nothing.
fn nothing() -> Vec<u8> {
    let mut graph = Graph::new(Provider::Cuda);
    let one = graph.scalar(Dtype::F32, 1.0);
    graph.output(one);
    graph.encode()
}

/// A graph that is ready to run, on its device.
pub struct Compiled {
    session: Held<Session>,
    allocator: Held<Allocator>,
    device: Device,
    launch: Launch,
}

/// Recordings have numbers, which a session may not use twice.
static RECORDINGS: AtomicI32 = AtomicI32::new(1);

impl Compiled {
    /// A tensor on the device with the given contents.
    pub fn tensor(&self, shape: &[usize], contents: &Array) -> Result<Tensor, RuntimeError> {
        Tensor::on_device(&self.allocator, self.device, shape, contents)
    }

    /// A tensor of f32 on the device, with contents that are written by `fill`.
    pub fn filled(&self, shape: &[usize], fill: impl FnOnce(&mut [f32])) -> Result<Tensor, RuntimeError> {
        Tensor::filled_on_device(&self.allocator, self.device, shape, fill)
    }

    pub fn bindings(&self) -> Result<Bindings, RuntimeError> {
        let replay = match self.launch {
            Launch::EachKernel => None,
            Launch::WholeGraph => Some(Replay::new(RECORDINGS.fetch_add(1, Ordering::Relaxed))?),
        };
        Ok(Bindings { binding: Held::new(self.session.create_binding()?), device: self.device, replay })
    }

    pub fn is_on_host(&self) -> bool {
        self.device == Device::Cpu
    }

    /// Whether runs are recorded and replayed: all that is bound is to be on the device.
    pub fn records(&self) -> bool {
        self.launch == Launch::WholeGraph
    }

    /// Runs once, from and to what is bound.
    ///
    /// # Errors
    /// After any error the bound outputs may be half written; inputs are as they were.
    pub fn run(&mut self, bindings: &Bindings, interrupt: &Interrupt) -> Result<(), RuntimeError> {
        self.run_with(bindings, interrupt, Waits::ForTheDevice)
    }

    /// Has the device run once more, and goes on meanwhile. What it computes is there after the next [`run`](Self::run)
    /// of the same graph.
    ///
    /// # Errors
    /// As of a run; those of the device itself may come with a later one.
    pub fn enqueue(&mut self, bindings: &Bindings, interrupt: &Interrupt) -> Result<(), RuntimeError> {
        self.run_with(bindings, interrupt, Waits::ForNothing)
    }

    /// Runs once more whatever the interrupt says, and waits: for those that gave up on what they had enqueued.
    ///
    /// # Errors
    /// The device failed.
    pub fn settle(&mut self, bindings: &Bindings) -> Result<(), RuntimeError> {
        self.run(bindings, &Interrupt::new()?)
    }

    fn run_with(&mut self, bindings: &Bindings, interrupt: &Interrupt, waits: Waits) -> Result<(), RuntimeError> {
        if interrupt.is_raised() {
            return Err(RuntimeError::Interrupted);
        }
        let options = bindings.replay.as_ref().map_or(&*interrupt.options, |replay| &replay.options).of(waits);
        let mut run = || self.session.run_binding_with_options(&bindings.binding, options).map(|_| ());
        let outcome = match bindings.replay.as_ref().filter(|replay| !replay.is_recorded.get()) {
            Some(replay) => {
                let _alone = recording::record();
                let outcome = run();
                replay.is_recorded.set(outcome.is_ok());
                outcome
            }
            None => {
                let _held_off = recording::hold_off();
                run()
            }
        };
        outcome.map_err(|error| if interrupt.is_raised() { RuntimeError::Interrupted } else { error.into() })
    }
}

/// Which tensor stands for which input and output of a graph.
pub struct Bindings {
    binding: Held<IoBinding>,
    device: Device,
    replay: Option<Replay>,
}

/// The recording of the runs with one set of bindings.
struct Replay {
    options: Options,
    is_recorded: Cell<bool>,
}

impl Replay {
    fn new(number: i32) -> Result<Self, RuntimeError> {
        let mut options = Options::new()?;
        options.number(number)?;
        Ok(Self { options, is_recorded: Cell::new(false) })
    }
}

/// What a run waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    ForTheDevice,
    ForNothing,
}

/// The options of runs that wait for the device, and of those that do not.
struct Options {
    waiting: RunOptions<NoSelectedOutputs>,
    going_on: RunOptions<NoSelectedOutputs>,
}

impl Options {
    fn new() -> Result<Self, RuntimeError> {
        let mut going_on = RunOptions::new()?;
        going_on.disable_device_sync()?;
        Ok(Self { waiting: RunOptions::new()?, going_on })
    }

    fn of(&self, waits: Waits) -> &RunOptions<NoSelectedOutputs> {
        match waits {
            Waits::ForTheDevice => &self.waiting,
            Waits::ForNothing => &self.going_on,
        }
    }

    /// Which recording the runs make and replay.
    fn number(&mut self, number: i32) -> Result<(), RuntimeError> {
        for options in [&mut self.waiting, &mut self.going_on] {
            options.set("gpu_graph_id", number.to_string())?;
        }
        Ok(())
    }
}

impl Bindings {
    /// An input that stays on the device. The same tensor may be an output of other bindings.
    pub fn input(&mut self, name: &str, tensor: &Tensor) -> Result<(), RuntimeError> {
        recording::patiently(|| Ok(self.binding.bind_input(name, tensor.value())?))
    }

    pub fn output(&mut self, name: &str, tensor: &mut Tensor) -> Result<(), RuntimeError> {
        Ok(self.binding.bind_output(name, tensor.value_mut())?)
    }

    /// Brings a host tensor that was bound as an input to the device again, after it was written to.
    pub fn refresh(&mut self, name: &str, host: &Tensor) -> Result<(), RuntimeError> {
        match self.device {
            Device::Cpu => Ok(()),
            // That copies, and waits for the copy.
            Device::Cuda(_) => self.input(name, host),
        }
    }
}

/// Ends a run from another thread, and refuses every later one.
#[derive(Clone)]
pub struct Interrupt {
    options: Arc<Options>,
    raised: Arc<AtomicBool>,
}

impl Interrupt {
    pub fn new() -> Result<Self, RuntimeError> {
        Ok(Self { options: Arc::new(Options::new()?), raised: Arc::new(AtomicBool::new(false)) })
    }

    /// Ends the run in progress within one node of its graph.
    ///
    /// # Errors
    /// The flag could not be set; no later run will start all the same.
    pub fn raise(&self) -> Result<(), RuntimeError> {
        self.raised.store(true, Ordering::SeqCst);
        self.options.waiting.terminate()?;
        Ok(self.options.going_on.terminate()?)
    }

    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::SeqCst)
    }
}
