//! A trial that a program of the operator's trains: from its start to the end of all that it started.
//!
//! It knows no NATS. What the program is told and may say is written down in `docs/COMMANDS.md`; [`process`] alone makes the
//! system's calls, [`protocol`] reads lines, [`pack`] makes checkpoints of folders.

mod pack;
mod process;
mod programs;
mod protocol;
mod workplace;

use std::collections::VecDeque;
use std::time::Duration;

use regatta_schemas::limits::LIMITS;
use regatta_schemas::log::Point;
use regatta_schemas::offer::Offer;
use regatta_schemas::params::ParamValue;
use regatta_schemas::reasons::FailCause;
use regatta_schemas::recipe::CommandRecipe;
use tokio::sync::mpsc;

use crate::agent::{Ending, Lane};
use crate::clock::Stopwatch;
use crate::lane::{Cadence, Interrupt, Report, Snapshot, over_time, send};
use process::{Channel, Exit, Launch, Process};
pub use programs::{ProgramError, Programs};
use protocol::{Line, Lines, Measurement, Quota, Said};
pub use workplace::Workplace;

/// The longest that a lane does not look at its clock and its interrupt.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lines of a program's errors that go into the detail of its failure.
const LAST_WORDS: usize = 8;
/// "The user is invited to retry later" (sysexits.h): a failure that another attempt may mend.
const EXIT_TRY_AGAIN: i32 = 75;

/// What an agent's operator allows, and how programs are ended.
#[derive(Debug, Clone, Default)]
pub struct CommandSettings {
    pub programs: Programs,
    /// Address space of a program; None: no limit.
    pub memory_bytes: Option<u64>,
    /// From asking a program to end to killing it.
    pub grace: Duration,
    /// The CUDA device that programs see; None: none.
    pub cuda_device: Option<u32>,
    /// Threads that a program is asked to use.
    pub threads: usize,
}

/// A trial for a program, and whom to tell of it.
pub(crate) struct Order<'a> {
    /// Written into each checkpoint.
    pub owner: String,
    pub lane: Lane,
    pub reports: &'a mpsc::Sender<(Lane, Report)>,
    pub interrupt: &'a Interrupt,
    pub offer: &'a Offer,
    pub recipe: &'a CommandRecipe,
    pub settings: &'a CommandSettings,
    pub workplace: &'a Workplace,
    /// The checkpoint to go on from, and the training time that it holds.
    pub resume: Option<(&'a [u8], Duration)>,
}

/// Runs the program to its end, or to that of its time.
pub(crate) fn run(order: &Order) -> Ending {
    begin(order).map_or_else(|ending| ending, Session::run)
}

fn begin<'a>(order: &'a Order<'a>) -> Result<Session<'a>, Ending> {
    let Order { offer, recipe, settings, workplace, .. } = order;
    let command = &recipe.command;
    let program = settings
        .programs
        .path(&command.program)
        .ok_or_else(|| failed(FailCause::Configuration, settings.programs.refusal(&command.program)))?;
    if let Some((checkpoint, _)) = order.resume {
        let folder = workplace.resume();
        let unpacked = pack::unpack(checkpoint, &folder, LIMITS.checkpoint_bytes_max);
        unpacked.map_err(|error| {
            // A good checkpoint must not be given up because a disk is full.
            let cause = if error.is_full_disk() { FailCause::Device } else { FailCause::Checkpoint };
            failed(cause, format!("the checkpoint cannot be unpacked: {error}"))
        })?;
    }
    let no_room =
        |error: std::io::Error| failed(FailCause::Device, format!("cannot write to this machine's disk: {error}"));
    workplace.write_params(&offer.params).map_err(no_room)?;
    let launch = Launch {
        program: program.to_owned(),
        arguments: command.arguments.iter().map(argument).collect(),
        environment: workplace.environment(offer, recipe, settings, order.resume.is_some()),
        folder: workplace.path().to_owned(),
        memory_bytes: settings.memory_bytes,
    };
    let process = Process::start(&launch)
        .map_err(|error| failed(FailCause::Device, format!("`{}` cannot be started here: {error}", command.program)))?;
    let before = order.resume.map_or(Duration::ZERO, |(_, elapsed)| elapsed);
    Ok(Session {
        order,
        process,
        ears: Ears::default(),
        last_words: VecDeque::new(),
        quota: Quota::default(),
        watch: Stopwatch::start(),
        before,
        heard_at: Duration::ZERO,
        reported: None,
        checkpointed: None,
        announced: None,
        cadence: Cadence::new(recipe.checkpoint.every_s, before),
        leaving: None,
    })
}

/// A number in full, as the parameters have it.
fn argument(value: &ParamValue) -> String {
    match value {
        ParamValue::Text(text) => text.clone(),
        ParamValue::Bool(_) | ParamValue::Int(_) | ParamValue::Float(_) => value.to_json().to_string(),
    }
}

fn failed(cause: FailCause, detail: impl Into<String>) -> Ending {
    Ending::Failed { cause, detail: detail.into() }
}

/// A running program.
struct Session<'a> {
    order: &'a Order<'a>,
    process: Process,
    ears: Ears,
    last_words: VecDeque<String>,
    quota: Quota,
    watch: Stopwatch,
    /// Training time of earlier attempts.
    before: Duration,
    /// When the program last wrote a line.
    heard_at: Duration,
    /// The resource of its last report.
    reported: Option<u32>,
    /// The resource of the last checkpoint that it announced.
    checkpointed: Option<u32>,
    /// That checkpoint, while it is not kept yet.
    announced: Option<Announced>,
    cadence: Cadence,
    leaving: Option<Leaving>,
}

/// Lines as they come in on either channel.
#[derive(Default)]
struct Ears {
    output: Lines,
    errors: Lines,
}

impl Ears {
    fn of(&mut self, channel: Channel) -> &mut Lines {
        match channel {
            Channel::Output => &mut self.output,
            Channel::Errors => &mut self.errors,
        }
    }
}

struct Announced {
    name: String,
    resource: u32,
    elapsed: Duration,
}

/// Why a program was asked to end, and since when.
struct Leaving {
    why: Why,
    since: Duration,
    is_killed: bool,
}

enum Why {
    /// Its lane was interrupted.
    Interrupted,
    /// It has trained as far as it was to.
    Reached,
    /// It did what fails its trial.
    Failed { cause: FailCause, detail: String },
}

impl Session<'_> {
    fn run(mut self) -> Ending {
        loop {
            self.process.wait_for_output(LOOK_EVERY);
            // First, so that all that was written before the exit is read after it was seen.
            let exit = self.process.exit();
            self.listen();
            if let Some(exit) = exit {
                self.listen_to_the_end();
                return self.ended(exit);
            }
            self.leave_if_due();
            self.keep_if_due();
        }
    }

    fn listen(&mut self) {
        let mut lines = Vec::new();
        let ears = &mut self.ears;
        self.process.read(|channel, bytes| ears.of(channel).push(bytes, |line| lines.push((channel, line))));
        self.take_lines(lines);
    }

    fn listen_to_the_end(&mut self) {
        self.process.kill();
        let mut lines = Vec::new();
        let ears = &mut self.ears;
        self.process.read_rest(|channel, bytes| ears.of(channel).push(bytes, |line| lines.push((channel, line))));
        for channel in [Channel::Output, Channel::Errors] {
            ears.of(channel).end(|line| lines.push((channel, line)));
        }
        self.take_lines(lines);
        if let Some(omission) = self.quota.omission() {
            self.tell(Report::Line(omission));
        }
    }

    fn take_lines(&mut self, lines: Vec<(Channel, Line)>) {
        for (channel, line) in lines {
            self.heard_at = self.watch.elapsed();
            match channel {
                Channel::Output => self.take_output(&line),
                // What is written to the errors is no message, whatever it looks like.
                Channel::Errors => {
                    self.remember(&line.text());
                    self.pass_on(line.text());
                }
            }
        }
    }

    fn take_output(&mut self, line: &Line) {
        match line.read() {
            Said::Message { report, checkpoint } => {
                if let Some(report) = report {
                    self.measure(report);
                }
                if let Some(name) = checkpoint {
                    self.announce(name);
                }
            }
            Said::Wrong { reason } => self.leave(Why::Failed { cause: FailCause::Program, detail: reason }),
            Said::Text(text) => self.pass_on(text),
        }
    }

    fn measure(&mut self, Measurement { resource, metrics }: Measurement) {
        if self.reported.is_some_and(|last| resource <= last) {
            let detail = format!("it reported the resource {resource} after {}; it must grow", self.resource());
            return self.leave(Why::Failed { cause: FailCause::Program, detail });
        }
        if resource > self.target() {
            return self.leave_beyond(resource);
        }
        if self.has_failed() {
            return;
        }
        let diverged = metrics.iter().find(|(_, value)| !value.is_finite());
        let diverged = diverged.map(|(name, value)| format!("`{name}` became {value} at {resource}"));
        self.reported = Some(resource);
        let point = Point { step: resource.into(), resource, elapsed_s: self.elapsed().as_secs_f64(), metrics };
        self.tell(Report::Measured(point));
        if let Some(detail) = diverged {
            self.leave(Why::Failed { cause: FailCause::Diverged, detail });
        }
    }

    /// It goes on although it was to end.
    fn leave_beyond(&mut self, resource: u32) {
        let target = self.target();
        if self.resource() >= target {
            return self.leave(Why::Reached);
        }
        let detail = format!("it reported the resource {resource} and passed over {target}, where it was to end");
        self.leave(Why::Failed { cause: FailCause::Program, detail });
    }

    fn announce(&mut self, name: String) {
        if !self.order.workplace.has_checkpoint(&name) {
            let detail =
                format!("it announced the checkpoint `{name}`, and its folder of checkpoints has no such folder");
            return self.leave(Why::Failed { cause: FailCause::Program, detail });
        }
        let new = Announced { name, resource: self.resource(), elapsed: self.elapsed() };
        if let Some(old) = self.announced.take()
            && old.name != new.name
        {
            self.order.workplace.remove_checkpoint(&old.name);
        }
        self.checkpointed = Some(new.resource);
        self.announced = Some(new);
    }

    fn leave_if_due(&mut self) {
        let elapsed = self.watch.elapsed();
        match &mut self.leaving {
            Some(leaving) if elapsed.saturating_sub(leaving.since) >= self.order.settings.grace => {
                if !std::mem::replace(&mut leaving.is_killed, true) {
                    self.pass_on_note("it did not end when it was asked to, and was killed");
                }
                self.process.kill();
            }
            Some(_) => {}
            None => {
                if let Some(why) = self.why_to_leave() {
                    self.leave(why);
                }
            }
        }
    }

    fn why_to_leave(&self) -> Option<Why> {
        let late = |detail: String| Some(Why::Failed { cause: FailCause::TimeLimit, detail });
        if self.order.interrupt.is_set() {
            return Some(Why::Interrupted);
        }
        if let Some(limit_s) = self.order.recipe.time_limit_s
            && self.elapsed().as_secs_f64() > limit_s
        {
            return late(over_time(limit_s));
        }
        if let Some(limit_s) = self.order.recipe.silence_limit_s
            && self.watch.elapsed().saturating_sub(self.heard_at).as_secs_f64() > limit_s
        {
            return late(format!("it wrote nothing for {limit_s} s"));
        }
        let has_reached = self.reported.is_some_and(|resource| resource >= self.target());
        let has_kept_it = self.checkpointed.is_some_and(|resource| resource >= self.target());
        // At the end of its training it ends by itself; at a rung, its checkpoint is all that is waited for.
        (self.order.offer.until.is_some() && has_reached && has_kept_it).then_some(Why::Reached)
    }

    /// Asks the program to end. The first reason counts, but for a failure, which always does.
    fn leave(&mut self, why: Why) {
        match &mut self.leaving {
            Some(leaving) => {
                if matches!(why, Why::Failed { .. }) && !matches!(leaving.why, Why::Failed { .. }) {
                    leaving.why = why;
                }
            }
            None => {
                self.leaving = Some(Leaving { why, since: self.watch.elapsed(), is_killed: false });
                self.process.terminate();
            }
        }
    }

    fn has_failed(&self) -> bool {
        matches!(self.leaving, Some(Leaving { why: Why::Failed { .. }, .. }))
    }

    fn ended(&mut self, exit: Exit) -> Ending {
        // It may have been done when it was asked to end.
        let is_done = exit == Exit::Code(0) && self.resource() >= self.target();
        match self.leaving.take().map(|leaving| leaving.why) {
            Some(Why::Failed { cause, detail }) => failed(cause, detail),
            Some(Why::Interrupted) if !is_done => {
                if self.order.interrupt.keeps() {
                    self.keep();
                }
                Ending::Interrupted { resource: self.resource() }
            }
            Some(Why::Interrupted | Why::Reached) => self.succeeded(),
            None => match self.failure(exit) {
                Some((cause, detail)) => {
                    if cause.can_be_mended_by_a_retry() {
                        self.keep();
                    }
                    failed(cause, self.with_last_words(detail))
                }
                None => self.succeeded(),
            },
        }
    }

    /// What is wrong with an end that nobody asked for.
    fn failure(&self, exit: Exit) -> Option<(FailCause, String)> {
        match exit {
            Exit::Code(0) if self.reported.is_none() && self.order.resume.is_none() => {
                Some((FailCause::Program, "it ended without a report".to_owned()))
            }
            Exit::Code(0) => None,
            Exit::Code(EXIT_TRY_AGAIN) => {
                Some((FailCause::Device, format!("it ended with the exit code {EXIT_TRY_AGAIN}: to be tried again")))
            }
            Exit::Code(code) if self.order.workplace.is_full() => {
                let folder = self.order.workplace.path().display();
                Some((
                    FailCause::Device,
                    format!("it ended with the exit code {code}: the disk below {folder} is full"),
                ))
            }
            Exit::Code(code) => Some((FailCause::Program, format!("it ended with the exit code {code}"))),
            Exit::Signal(_) if exit.is_kill() => {
                let detail = "it was killed by a SIGKILL that was not the agent's: most likely for lack of memory";
                Some((FailCause::OutOfMemory, detail.to_owned()))
            }
            Exit::Signal(signal) => Some((FailCause::Program, format!("it was killed by the signal {signal}"))),
            Exit::Unseen => {
                let detail = "how it ended cannot be seen here: start the agent without SIGCHLD being ignored";
                Some((FailCause::Device, detail.to_owned()))
            }
        }
    }

    /// An end before the whole resource is the program's own decision, and as good.
    fn succeeded(&mut self) -> Ending {
        let Order { offer, recipe, .. } = self.order;
        let resource = self.resource();
        if offer.until.is_some_and(|until| resource >= until && resource < offer.resource) {
            if self.checkpointed.is_none() {
                self.pass_on_note("it has left no checkpoint at its rung: where it goes on, it begins anew");
            }
            self.keep();
            return Ending::Paused { resource };
        }
        if recipe.checkpoint.at_end {
            self.keep();
        }
        Ending::Finished { resource, elapsed_s: self.elapsed().as_secs_f64() }
    }

    fn keep_if_due(&mut self) {
        if self.leaving.is_none() && self.cadence.is_due(self.elapsed()) {
            self.keep();
        }
    }

    /// Sends the last checkpoint that was announced on its way, unless it is already.
    fn keep(&mut self) {
        let Some(Announced { name, resource, elapsed }) = self.announced.take() else { return };
        let packed =
            pack::pack(&self.order.workplace.checkpoint(&name), &self.order.owner, LIMITS.checkpoint_bytes_max);
        self.order.workplace.remove_checkpoint(&name);
        match packed {
            Ok(bytes) => {
                let pending = self.cadence.keep(elapsed);
                self.tell(Report::Checkpoint(Snapshot { bytes, step: resource.into(), resource, elapsed, pending }));
            }
            Err(error) => self.pass_on_note(&format!("the checkpoint `{name}` is not kept: {error}")),
        }
    }

    /// Where it is to end, in this attempt.
    fn target(&self) -> u32 {
        let Offer { until, resource, .. } = self.order.offer;
        until.unwrap_or(*resource).min(*resource)
    }

    fn resource(&self) -> u32 {
        let resumed = self.order.offer.resume.as_ref().map_or(0, |checkpoint| checkpoint.resource);
        self.reported.unwrap_or(resumed)
    }

    fn elapsed(&self) -> Duration {
        self.before + self.watch.elapsed()
    }

    fn pass_on(&mut self, line: String) {
        let (is_admitted, omission) = self.quota.admit(self.watch.elapsed());
        if let Some(omission) = omission {
            self.tell(Report::Line(omission));
        }
        if is_admitted {
            self.tell(Report::Line(line));
        }
    }

    fn pass_on_note(&self, note: &str) {
        self.tell(Report::Line(format!("agent: {note}")));
    }

    fn remember(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        if self.last_words.len() == LAST_WORDS {
            self.last_words.pop_front();
        }
        self.last_words.push_back(line.chars().take(LIMITS.text_chars_max / (2 * LAST_WORDS)).collect());
    }

    fn with_last_words(&self, detail: String) -> String {
        if self.last_words.is_empty() {
            return detail;
        }
        let words: Vec<&str> = self.last_words.iter().map(String::as_str).collect();
        format!("{detail}; it said last: {}", words.join(" | "))
    }

    fn tell(&self, report: Report) {
        send(self.order.reports, self.order.lane, report);
    }
}
