//! `regatta simulate`: a study in virtual time. What training would have measured, and how long it would have taken,
//! comes from a program or a table; everything else is the very search that runs on a fleet.

mod objective;

use std::cell::RefCell;
use std::time::Duration;

use anyhow::bail;
use indicatif::ProgressBar;
use regatta_schemas::Params;
use regatta_schemas::api::{FrontMember, LaneUse, StudySummary};
use regatta_schemas::check;
use regatta_schemas::limits::LIMITS;
use regatta_schemas::log::Best;
use regatta_schemas::reasons::rounded;
use regatta_schemas::study::{RecipeTemplate, Sampler, StudyFile};
use regatta_search::Settings;
use regatta_search::simulator::{AgentPlan, Course, Epoch, Faults, Plan, Simulator, Stretch, study_id};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli;
use crate::output::print_line;
use crate::run::{FaultyFile, read_unchecked, tell_notes};
use crate::show;
use objective::Objective;

/// Beats cost time to simulate. Where no agent fails, hardly any are sent.
const QUIET_BEATS: Duration = Duration::from_secs(3_600);
/// Happenings between two looks at the progress.
const STEPS_PER_LOOK: u64 = 20_000;
/// Of values: what a search gains late is small.
const DIGITS: usize = 6;
/// Longer than a lease, so that some of those that were silent have lost theirs.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const STRAGGLER_SLOWNESS: f64 = 4.0;

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Outcome {
    study: String,
    seed: u64,
    lanes: u32,
    /// Seconds since the beginning, and the best value from then on.
    curve: Vec<(f64, f64)>,
    pub seconds: f64,
    pub trials: usize,
    pub epochs: u64,
    /// Between the first offer and the last.
    lane_seconds_busy: f64,
    lane_seconds_idle: f64,
    #[serde(skip)]
    used: Option<LaneUse>,
    pub best: Option<Best>,
    params: Option<Params>,
    /// With several objectives, the trials that no other dominates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    front: Vec<FrontMember>,
    /// Between the front and the reference, where one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    hypervolume: Option<f64>,
}

/// The fleet that plays.
pub struct Fleet {
    pub lanes: u32,
    /// The share of lanes that take longer.
    pub stragglers: f64,
    pub faults: Faults,
    /// Epochs between two checkpoints of a trial.
    pub checkpoint_every: u32,
}

impl Fleet {
    /// One on which nothing fails.
    pub fn calm(lanes: u32) -> Self {
        Self { lanes, stragglers: 0.0, faults: Faults::none(), checkpoint_every: 1 }
    }
}

/// Simulates a study and prints what came of it.
///
/// # Errors
/// A fault in the study file, and whatever ails the objective's program or table.
pub fn simulate(args: &cli::Simulate) -> anyhow::Result<()> {
    let file = study(args)?;
    let objective = RefCell::new(Objective::start(&args.objective, args.send.clone(), file.clone())?);
    let failure: RefCell<Option<anyhow::Error>> = RefCell::default();
    let course = |stretches: &[Stretch], epoch: u32| {
        objective.borrow_mut().epoch(stretches, epoch).unwrap_or_else(|error| {
            failure.borrow_mut().get_or_insert(error);
            Epoch { metrics: Default::default(), seconds: 1.0 }
        })
    };
    let fleet = Fleet {
        lanes: args.lanes,
        stragglers: args.stragglers,
        faults: Faults {
            lasting: Duration::MAX,
            crash_every: args.crash_every_s.map(Duration::from_secs_f64),
            drain_every: args.drain_every_s.map(Duration::from_secs_f64),
            silence_every: args.silence_every_s.map(Duration::from_secs_f64),
            silence_max: SILENCE_MAX,
            failures: args.failures,
            ..Faults::none()
        },
        checkpoint_every: args.checkpoint_every,
    };
    if let Sampler::External { service, .. } = &file.sampler {
        eprintln!("note: a simulation asks nobody; the fallback proposes in the place of the sampler `{service}`");
    }
    tell_notes(&file);
    let volume =
        |front: &[FrontMember]| args.reference.as_ref().map(|reference| reference.volume(&file, front)).transpose();
    volume(&[])?;
    let mut outcome = play(file.clone(), fleet, &course, || failure.borrow_mut().take().map_or(Ok(()), Err))?;
    outcome.hypervolume = volume(&outcome.front)?;
    print_line(&if args.json { serde_json::to_string(&outcome)? } else { shown(&outcome) })
}

/// Plays a study to its end. `look` is asked after each happening whether to go on.
///
/// # Errors
/// What `look` answers.
pub fn play(
    file: StudyFile,
    fleet: Fleet,
    course: Course,
    look: impl Fn() -> anyhow::Result<()>,
) -> anyhow::Result<Outcome> {
    let (name, seed, goal, lanes) = (file.name.clone(), file.seed, file.objective.goal, fleet.lanes);
    let mut simulator = Simulator::along(plan(fleet, file), course);
    let progress = ProgressBar::new_spinner();
    let mut rise: Vec<(f64, f64)> = Vec::new();
    let mut steps: u64 = 0;
    while !simulator.is_over() && simulator.step() {
        look()?;
        if let Some(best) = best(&simulator)
            && rise.last().is_none_or(|(_, value)| goal.is_better(best.value, *value))
        {
            rise.push((simulator.elapsed().as_secs_f64(), best.value));
        }
        steps += 1;
        if steps.is_multiple_of(STEPS_PER_LOOK) {
            let (records, seconds) = (simulator.log().len(), simulator.elapsed().as_secs_f64());
            progress.set_message(format!("{records} records, {seconds:.0} s of virtual time"));
            progress.tick();
        }
    }
    progress.finish_and_clear();
    outcome(&simulator, name, seed, lanes, rise)
}

fn study(args: &cli::Simulate) -> anyhow::Result<StudyFile> {
    let faulty = |faults| FaultyFile::new(&args.file, faults);
    let mut value = read_unchecked(&args.file)?;
    // What is no object is refused below, with its fault.
    if let Some(fields) = value.as_object_mut() {
        for (key, text) in [("sampler", &args.sampler), ("stopper", &args.stopper)] {
            if let Some(text) = text {
                fields.insert(key.to_owned(), check::study_text(text).map_err(faulty)?);
            }
        }
        if let Some(seed) = args.seed {
            fields.insert("seed".to_owned(), seed.into());
        }
    }
    let mut file = check::simulated_study_file(&value).map_err(faulty)?;
    if file.recipe.is_empty() {
        file.recipe = untrained();
    }
    Ok(file)
}

/// A recipe for what is never trained.
fn untrained() -> RecipeTemplate {
    let recipe = json!({
        "data": {"file": "none.npz", "format": "npz", "task": "classification", "target": "y"},
        "model": {"family": "mlp", "hidden": [1]},
        "loss": "cross_entropy",
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "batch_size": 1,
    });
    match recipe {
        Value::Object(fields) => fields,
        _ => unreachable!("it is written as an object"),
    }
}

fn plan(fleet: Fleet, file: StudyFile) -> Plan {
    let Fleet { lanes, stragglers, faults, checkpoint_every } = fleet;
    let is_quiet = [faults.crash_every, faults.drain_every, faults.silence_every].iter().all(Option::is_none);
    let lease_timeout = if is_quiet { QUIET_BEATS * 3 } else { Settings::default().lease_timeout };
    let beat_every = if is_quiet { QUIET_BEATS } else { Duration::from_secs(1) };
    // Without faults one agent with all the lanes is as good as many with one.
    let stragglers = (f64::from(lanes) * stragglers).round() as u32;
    let pool = file.pool.clone();
    let agent = |lanes, slowness| AgentPlan { pool: pool.clone(), lanes, slowness };
    let agents = if is_quiet {
        let groups = [(lanes - stragglers, 1.0), (stragglers, STRAGGLER_SLOWNESS)];
        groups.into_iter().filter(|(lanes, _)| *lanes > 0).map(|(lanes, slowness)| agent(lanes, slowness)).collect()
    } else {
        (0..lanes).map(|lane| agent(1, if lane < stragglers { STRAGGLER_SLOWNESS } else { 1.0 })).collect()
    };
    let settings = Settings { lease_timeout, ..Settings::default() };
    Plan { seed: file.seed, studies: vec![file], agents, faults, settings, checkpoint_every, beat_every }
}

fn best(simulator: &Simulator) -> Option<Best> {
    simulator.coordinator()?.study(&study_id(0))?.state().best.clone()
}

fn outcome(
    simulator: &Simulator,
    study: String,
    seed: u64,
    lanes: u32,
    curve: Vec<(f64, f64)>,
) -> anyhow::Result<Outcome> {
    let known = simulator.coordinator().and_then(|all| Some((all, all.study(&study_id(0))?)));
    let Some((coordinator, found)) = known else { bail!("the simulation came to no end") };
    let StudySummary { resource_spent, best, front, .. } = coordinator.summary(&study_id(0), found);
    let used = found.state().lanes.used();
    let params = best.as_ref().and_then(|best| found.state().trials.get(&best.trial));
    Ok(Outcome {
        study,
        seed,
        lanes,
        curve,
        seconds: simulator.elapsed().as_secs_f64(),
        trials: found.state().trials.len(),
        epochs: resource_spent,
        lane_seconds_busy: used.map_or(0.0, |used| used.busy_s),
        lane_seconds_idle: used.map_or(0.0, |used| used.idle_s),
        used,
        params: params.map(|trial| trial.proposed.params.clone()),
        best,
        front,
        hypervolume: None,
    })
}

fn shown(outcome: &Outcome) -> String {
    let Outcome { curve, seconds, trials, epochs, .. } = outcome;
    let mut lines = vec![format!("{:>12}  best so far", "seconds")];
    let last = &curve[curve.len().saturating_sub(20)..];
    lines.extend(last.iter().map(|(at, value)| format!("{at:>12.1}  {}", rounded(*value, DIGITS))));
    let lanes = outcome.lanes;
    lines.push(format!("{trials} trials, {epochs} epochs in {seconds:.1} s of virtual time on {lanes} lanes"));
    lines.extend(outcome.used.and_then(show::lane_use).map(|used| format!("lanes: {used}")));
    if let (Some(best), Some(params)) = (&outcome.best, &outcome.params) {
        lines.push(format!(
            "best: trial {} with {}: {}",
            best.trial,
            rounded(best.value, DIGITS),
            show::params(params)
        ));
    }
    lines.extend(outcome.front.iter().map(show::front_member));
    lines.extend(outcome.hypervolume.map(show::hypervolume));
    lines.join("\n")
}

/// A share, from 0 to 1.
pub fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        Ok(_) | Err(_) => Err("give a share between 0 and 1".to_owned()),
    }
}

/// One JSON object.
pub fn object(text: &str) -> Result<serde_json::Map<String, Value>, String> {
    if text.len() > LIMITS.study_bytes_max {
        return Err(format!("give at most {} bytes", LIMITS.study_bytes_max));
    }
    serde_json::from_str(text).map_err(|error| format!("give one JSON object: {error}"))
}
