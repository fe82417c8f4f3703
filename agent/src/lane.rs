//! A lane: one thread that trains one trial at a time, or has a program train it, and never waits for the network.

mod cadence;
mod stride;
mod time_limit;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use regatta_schemas::AgentId;
use regatta_schemas::log::Point;
use regatta_schemas::offer::Offer;
use regatta_schemas::reasons::FailCause;
use regatta_schemas::recipe::{self, Recipe};
use regatta_schemas::study::{Goal, Objective};
use tokio::sync::mpsc;

use crate::agent::{Ending, Lane};
use crate::clock::Stopwatch;
use crate::command::{self, CommandSettings, Workplace};
use crate::recipe::plan;
use crate::runtime::{self, CudaSettings, Device, RuntimeError};
use crate::training::{BestBy, Engine, Owner, Plan, Source, Training, TrainingError};
pub(crate) use cadence::Cadence;
use stride::Stride;
use time_limit::TimeLimit;

/// All that a lane needs to train, fetched beforehand.
pub struct Assignment {
    pub offer: Box<Offer>,
    pub material: Material,
    /// The checkpoint to go on from, and the training time that it holds.
    pub resume: Option<(Vec<u8>, Duration)>,
}

/// What each kind of recipe needs.
pub enum Material {
    Training {
        data: Source,
        /// The bytes of the ONNX model that the recipe names.
        model: Option<Arc<Vec<u8>>>,
    },
    /// The program's folder, with its files in it.
    Command(Workplace),
}

/// What a lane tells its agent.
pub enum Report {
    Measured(Point),
    Checkpoint(Snapshot),
    Line(String),
    Ended(Ending),
}

/// A checkpoint on its way to the store.
pub struct Snapshot {
    pub bytes: Vec<u8>,
    pub step: u64,
    pub resource: u32,
    pub elapsed: Duration,
    /// Lives until the checkpoint is stored or lost.
    pub pending: Arc<()>,
}

/// From breaking a training off to giving it up: far longer than a node of a graph computes.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(60);

/// How to build a lane's engine.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    pub library: PathBuf,
    pub device: Device,
    pub threads: usize,
    pub cuda: CudaSettings,
    /// What of a trial's rows may be on the device.
    pub data_bytes_max: Option<u64>,
    pub commands: CommandSettings,
}

/// Ends a training between two steps, from another thread.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicU8>);

const GO_ON: u8 = 0;
const END: u8 = 1;
const END_AND_KEEP: u8 = 2;

impl Interrupt {
    pub fn reset(&self) {
        self.0.store(GO_ON, Ordering::SeqCst);
    }

    /// With `keep`, a checkpoint is made first. An end without one overrules an earlier one with.
    pub fn end(&self, keep: bool) {
        self.0.store(if keep { END_AND_KEEP } else { END }, Ordering::SeqCst);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst) != GO_ON
    }

    pub(crate) fn keeps(&self) -> bool {
        self.0.load(Ordering::SeqCst) == END_AND_KEEP
    }
}

/// The agent's end of a lane.
pub struct LaneThread {
    pub interrupt: Interrupt,
    assignments: std::sync::mpsc::SyncSender<Assignment>,
}

impl LaneThread {
    /// Starts the thread and its engine.
    ///
    /// # Errors
    /// When the engine cannot be had on the device, with what is missing.
    pub fn start(
        lane: Lane,
        agent: &AgentId,
        settings: &EngineSettings,
        reports: mpsc::Sender<(Lane, Report)>,
    ) -> Result<Self, RuntimeError> {
        let engine = Engine::new(&settings.library, settings.device, settings.threads)?
            .with_cuda(settings.cuda)
            .with_data_limit(settings.data_bytes_max);
        let interrupt = Interrupt::default();
        let (assignments, orders) = std::sync::mpsc::sync_channel(1);
        let commands = settings.commands.clone();
        let mut floor =
            LaneFloor { lane, agent: agent.clone(), engine, commands, reports, interrupt: interrupt.clone() };
        std::thread::Builder::new()
            .name(format!("lane-{}", lane.0))
            .spawn(move || {
                for assignment in orders {
                    floor.train(assignment);
                }
            })
            .map_err(|error| RuntimeError::Failed { reason: format!("no thread for lane {}: {error}", lane.0) })?;
        Ok(Self { interrupt, assignments })
    }

    /// Hands over the next trial. False when the thread is gone.
    pub fn assign(&self, assignment: Assignment) -> bool {
        self.assignments.send(assignment).is_ok()
    }
}

/// The thread's side.
struct LaneFloor {
    lane: Lane,
    agent: AgentId,
    engine: Engine,
    commands: CommandSettings,
    reports: mpsc::Sender<(Lane, Report)>,
    interrupt: Interrupt,
}

impl LaneFloor {
    fn train(&mut self, assignment: Assignment) {
        // A panic in a training is a bug of ours; the lane survives it and the trial says so.
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| self.run(&assignment)));
        let ending = match outcome {
            Ok(Ok(ending)) => ending,
            Ok(Err(error)) => Ending::Failed { cause: cause_of(&error), detail: error.to_string() },
            Err(panic) => Ending::Failed { cause: FailCause::Internal, detail: panic_text(panic.as_ref()) },
        };
        // A program's folder is gone before anybody hears that its trial has ended.
        drop(assignment);
        self.report(Report::Ended(ending));
    }

    fn run(&mut self, assignment: &Assignment) -> Result<Ending, TrainingError> {
        let resume = assignment.resume.as_ref().map(|(bytes, elapsed)| (bytes.as_slice(), *elapsed));
        let offer = &assignment.offer;
        let owner = Owner {
            trial: format!("{}.{}", offer.study, offer.trial),
            attempt: format!("{}.{}", offer.attempt, self.agent),
        };
        match (&assignment.offer.recipe, &assignment.material) {
            (Recipe::Training(recipe), Material::Training { data, model }) => {
                self.run_training(offer, owner, recipe, (data, model.as_ref()), resume)
            }
            (Recipe::Command(recipe), Material::Command(workplace)) => Ok(command::run(&command::Order {
                lane: self.lane,
                reports: &self.reports,
                interrupt: &self.interrupt,
                owner: owner.to_string(),
                offer,
                recipe,
                settings: &self.commands,
                workplace,
                resume,
            })),
            (Recipe::Training(_), Material::Command(_)) | (Recipe::Command(_), Material::Training { .. }) => {
                unreachable!("material is fetched for the recipe that it is handed over with")
            }
        }
    }

    fn run_training(
        &mut self,
        offer: &Offer,
        owner: Owner,
        recipe: &recipe::Training,
        (data, model): (&Source, Option<&Arc<Vec<u8>>>),
        resume: Option<(&[u8], Duration)>,
    ) -> Result<Ending, TrainingError> {
        let Self { lane, engine, reports, interrupt, .. } = self;
        let best_by = offer.objective.clone().filter(|_| recipe.keep_best);
        let best_by =
            best_by.map(|Objective { metric, goal }| BestBy { metric, is_greater_better: goal == Goal::Maximize });
        let plan = Plan { best_by, ..plan(recipe, model, offer.resource, offer.seed)? };
        let before = resume.map_or(Duration::ZERO, |(_, elapsed)| elapsed);
        let mut training = engine.start(&plan, data, resume.map(|(bytes, _)| bytes))?;
        training.sign(owner.clone());
        if resume.is_none() {
            for notice in training.notices() {
                send(reports, *lane, Report::Line(format!("model: {notice}")));
            }
        }
        let limit = recipe.time_limit_s.map(|limit_s| {
            let left = Duration::from_secs_f64(limit_s.clamp(0.0, 1e9)).saturating_sub(before);
            let training = training.interrupt_handle();
            TimeLimit::watch(left, move || break_off(&training), GIVEN_UP_AFTER, move || give_up(&owner))
        });
        let _limit = limit.transpose().map_err(no_thread)?;
        let session = Session {
            lane: *lane,
            reports,
            interrupt,
            offer,
            recipe,
            training,
            watch: Stopwatch::start(),
            before,
            cadence: Cadence::new(recipe.checkpoint.every_s, before),
            stride: Stride::default(),
        };
        match session.run() {
            // Nobody but the limit breaks a step off: a stop is obeyed between two of them.
            Err(TrainingError::Interrupted) => {
                let detail = over_time(recipe.time_limit_s.unwrap_or_default());
                Ok(Ending::Failed { cause: FailCause::TimeLimit, detail })
            }
            outcome => outcome,
        }
    }

    fn report(&self, report: Report) {
        send(&self.reports, self.lane, report);
    }
}

/// One training from its start to its end.
struct Session<'a> {
    lane: Lane,
    reports: &'a mpsc::Sender<(Lane, Report)>,
    interrupt: &'a Interrupt,
    offer: &'a Offer,
    recipe: &'a recipe::Training,
    training: Training<'a>,
    watch: Stopwatch,
    /// Training time of earlier attempts.
    before: Duration,
    cadence: Cadence,
    stride: Stride,
}

impl Session<'_> {
    fn run(mut self) -> Result<Ending, TrainingError> {
        while self.epochs_done() < self.offer.resource {
            if self.train_epoch()? == Flow::Interrupted {
                if self.interrupt.keeps() {
                    self.keep()?;
                }
                return Ok(Ending::Interrupted { resource: self.epochs_done() });
            }
            self.measure()?;
            if self.epochs_done() >= self.offer.resource {
                break;
            }
            if self.offer.until.is_some_and(|until| self.epochs_done() >= until) {
                self.keep()?;
                return Ok(Ending::Paused { resource: self.epochs_done() });
            }
            if self.cadence.is_due(self.elapsed()) {
                self.keep()?;
            }
        }
        if self.recipe.checkpoint.at_end {
            self.keep()?;
        }
        Ok(Ending::Finished { resource: self.epochs_done(), elapsed_s: self.elapsed().as_secs_f64() })
    }

    fn train_epoch(&mut self) -> Result<Flow, TrainingError> {
        loop {
            if self.interrupt.is_set() {
                return Ok(Flow::Interrupted);
            }
            let begin = self.watch.elapsed();
            let outcome = self.training.train_steps(self.stride.steps())?;
            self.stride.took(self.watch.elapsed() - begin);
            if outcome.epoch_finished {
                return Ok(Flow::GoesOn);
            }
        }
    }

    fn measure(&mut self) -> Result<(), TrainingError> {
        let mut metrics = self.training.train_metrics();
        metrics.extend(self.training.evaluate()?);
        let metrics: BTreeMap<String, f64> =
            metrics.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let resource = self.epochs_done();
        let line = metrics.iter().map(|(name, value)| format!("{name} {value:.4}")).collect::<Vec<_>>().join("  ");
        send(self.reports, self.lane, Report::Line(format!("epoch {resource}/{}  {line}", self.offer.resource)));
        let point = Point { step: self.training.step(), resource, elapsed_s: self.elapsed().as_secs_f64(), metrics };
        send(self.reports, self.lane, Report::Measured(point));
        Ok(())
    }

    fn keep(&mut self) -> Result<(), TrainingError> {
        let bytes = self.training.checkpoint()?;
        let elapsed = self.elapsed();
        let (step, resource) = (self.training.step(), self.epochs_done());
        let pending = self.cadence.keep(elapsed);
        send(self.reports, self.lane, Report::Checkpoint(Snapshot { bytes, step, resource, elapsed, pending }));
        Ok(())
    }

    /// Whole epochs, as many as an offer can ask for.
    fn epochs_done(&self) -> u32 {
        u32::try_from(self.training.epoch()).unwrap_or(u32::MAX)
    }

    fn elapsed(&self) -> Duration {
        self.before + self.watch.elapsed()
    }
}

#[derive(PartialEq, Eq)]
enum Flow {
    GoesOn,
    Interrupted,
}

pub(crate) fn send(reports: &mpsc::Sender<(Lane, Report)>, lane: Lane, report: Report) {
    // A closed channel means that the agent is going: nobody is left to tell.
    drop(reports.blocking_send((lane, report)));
}

fn break_off(training: &runtime::Interrupt) {
    if let Err(error) = training.raise() {
        tracing::warn!(%error, "a training that is over its time ends with its step");
    }
}

/// Ends the agent at once: whoever started it starts it again, and its trials go on elsewhere when their leases are lost.
fn give_up(owner: &Owner) {
    tracing::error!(
        attempt = %owner,
        "hangs in one operator, long after its time limit; only a new process frees its lane: this agent aborts"
    );
    std::process::abort();
}

fn no_thread(error: std::io::Error) -> TrainingError {
    TrainingError::Device(RuntimeError::Failed { reason: format!("no thread for the time limit: {error}") })
}

/// What is said of a trial that has trained for longer than its recipe allows.
pub(crate) fn over_time(limit_s: f64) -> String {
    format!("the recipe allows {limit_s} s of training")
}

fn cause_of(error: &TrainingError) -> FailCause {
    match error {
        TrainingError::Diverged { .. } => FailCause::Diverged,
        TrainingError::Configuration { .. } => FailCause::Configuration,
        TrainingError::Data { .. } => FailCause::Data,
        TrainingError::OutOfMemory { .. } => FailCause::OutOfMemory,
        TrainingError::Checkpoint { .. } => FailCause::Checkpoint,
        TrainingError::Device(_) | TrainingError::Interrupted => FailCause::Device,
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    format!("a bug of the agent's, please report it: {text}")
}
