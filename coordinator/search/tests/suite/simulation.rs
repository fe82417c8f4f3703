//! Whole searches in virtual time, with everything that can go wrong, from hundreds of seeds.
//!
//! A failure prints its seed; `REGATTA_SEED=<seed> cargo test -p regatta-search simulated` runs it alone.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use regatta_schemas::reasons::Outcome;
use regatta_schemas::study::StudyFile;
use regatta_schemas::{Params, PoolId};
use regatta_search::simulator::{AgentPlan, Epoch, Faults, Plan, Simulator, study_id};
use regatta_search::{Coordinator, Event, Settings, Time};
use serde_json::json;

use crate::files::{METRIC, study, towards_x};
use crate::reference::Reference;

const SEEDS: u64 = 300;
const STEPS_MAX: u64 = 200_000;

/// Runs `body` for each seed, or for the one that is asked for.
fn for_each_seed(body: impl Fn(u64)) {
    #[allow(clippy::disallowed_methods, reason = "a person runs one seed again")]
    let chosen = std::env::var("REGATTA_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = chosen.map_or(0..SEEDS, |seed| seed..seed + 1);
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(seed))) {
            eprintln!("seed {seed} fails; run it again: REGATTA_SEED={seed} cargo test -p regatta-search simulated");
            resume_unwind(panic);
        }
    }
}

fn agents(lanes: &[u32]) -> Vec<AgentPlan> {
    lanes.iter().map(|lanes| AgentPlan { pool: PoolId::default(), lanes: *lanes }).collect()
}

fn plan(seed: u64, studies: Vec<StudyFile>, lanes: &[u32], faults: Faults) -> Plan {
    Plan { seed, studies, agents: agents(lanes), faults, settings: Settings::default(), checkpoint_every: 2 }
}

/// A share of the trials diverges; epochs take more or less than a second.
fn rough(params: &Params, epoch: u32) -> Epoch {
    let x = params.get("x").and_then(|value| value.as_f64()).unwrap_or(0.5);
    let mut measured = towards_x(params, epoch);
    measured.seconds = 0.3 + x * 2.0;
    if x > 0.92 && epoch > 2 {
        measured.metrics.insert(METRIC.to_owned(), if x > 0.96 { f64::NAN } else { f64::NEG_INFINITY });
    }
    measured
}

/// Follows a simulation step by step with two witnesses: a replay of the log, and the reference.
struct Watch {
    replayed: Coordinator,
    reference: Reference,
    read: usize,
}

impl Watch {
    fn new() -> Self {
        Self { replayed: Coordinator::new(Settings::default()), reference: Reference::default(), read: 0 }
    }

    fn look(&mut self, simulator: &Simulator, is_thorough: bool) {
        let Some(coordinator) = simulator.coordinator() else { return };
        if self.read == simulator.read_position() {
            return;
        }
        for entry in &simulator.log()[self.read..simulator.read_position()] {
            let (place, record, at) = (entry.place.clone(), entry.record.clone(), entry.at);
            self.replayed.handle(Time::default(), Event::Logged { place, record, at });
            self.reference.read(entry);
        }
        self.read = simulator.read_position();
        assert_eq!(self.replayed.next_command(), None, "a replay does nothing");
        if is_thorough {
            for (id, study) in coordinator.studies() {
                let replayed = self.replayed.study(id).expect("the replay knows the study");
                assert!(study.state() == replayed.state(), "{id}: live and replayed state differ");
            }
        }
        self.reference.compare(coordinator);
    }
}

fn run_and_watch(plan: Plan, curve: fn(&Params, u32) -> Epoch) -> (Vec<(StudyFile, BTreeMap<Outcome, u32>)>, Duration) {
    let seed = plan.seed;
    let files = plan.studies.clone();
    let mut simulator = Simulator::new(plan, &curve);
    let mut watch = Watch::new();
    let mut steps = 0;
    while !simulator.is_over() {
        assert!(steps < STEPS_MAX && simulator.step(), "seed {seed}: the search never ends");
        steps += 1;
        watch.look(&simulator, (steps + seed) % 5 == 0);
    }
    let coordinator = simulator.coordinator().expect("it is up when all is over");
    let mut outcomes = Vec::new();
    for (number, file) in files.into_iter().enumerate() {
        let study = coordinator.study(&study_id(number)).expect("the study was created");
        let conclusions = simulator
            .log()
            .iter()
            .filter(|entry| entry.place.study == study_id(number) && entry.record.kind() == "study_concluded");
        assert!(conclusions.count() >= 1);
        let mut count_by_outcome = BTreeMap::new();
        for (key, followed) in watch.reference.trials().filter(|((of, _), _)| *of == study_id(number)) {
            let outcome = followed.outcome.unwrap_or_else(|| panic!("{key:?} has no end"));
            assert!(followed.ends >= 1, "{key:?}");
            *count_by_outcome.entry(outcome).or_default() += 1;
        }
        assert_eq!(study.lanes_taken(), 0, "a lane is left behind");
        outcomes.push((file, count_by_outcome));
    }
    (outcomes, simulator.elapsed())
}

#[test]
fn simulated_searches_keep_their_promises_whatever_fails() {
    for_each_seed(|seed| {
        let stopper = match seed % 3 {
            0 => json!("none"),
            1 => json!({"name": "median", "es_min": 3}),
            _ => json!({"name": "asha", "eta": 2}),
        };
        let sampler = if seed % 4 == 0 { json!({"name": "grid", "points": 9}) } else { json!("random") };
        let trials = if seed % 4 == 0 { 30 } else { 12 };
        let first = study(json!({"stopper": stopper, "sampler": sampler, "seed": seed,
            "budget": {"trials": trials, "resource": 6}}));
        let second = study(json!({"budget": {"trials": 5, "resource": 3}, "weight": 2.0}));
        let (outcomes, _) = run_and_watch(plan(seed, vec![first, second], &[2, 1, 1], Faults::all()), rough);
        let total = |number: usize| outcomes[number].1.values().sum::<u32>();
        assert_eq!(total(0), if seed % 4 == 0 { 9 } else { 12 }, "the budget, or the grid, is exact");
        assert_eq!(total(1), 5, "the budget is exact");
    });
}
