//! Whole searches in virtual time, with everything that can go wrong, from hundreds of seeds.
//!
//! A failure prints its seed; `REGATTA_SEED=<seed> cargo test -p regatta-search simulated` runs it alone.
//! `REGATTA_SEEDS=<count>` runs so many instead, as `scripts/soak` does.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use regatta_schemas::log::Record;
use regatta_schemas::reasons::{Outcome, StudyEnd};
use regatta_schemas::snapshot::{LogPosition, Snapshot};
use regatta_schemas::study::StudyFile;
use regatta_schemas::{Params, PoolId};
use regatta_search::simulator::{AgentPlan, Entry, Epoch, Faults, Plan, Simulator, study_id};
use regatta_search::study::Phase;
use regatta_search::{Coordinator, Event, Settings, Time};
use serde_json::json;

use crate::files::{METRIC, study, towards_x};
use crate::reference::Reference;
use crate::samplers::those_that_learn;
use crate::stoppers::every_stopper;

const SEEDS: u64 = 300;
const STEPS_MAX: u64 = 200_000;

/// Runs `body` for each seed, or for the one that is asked for, and prints how much happened and was checked.
fn for_each_seed(body: impl Fn(u64) -> Seen) {
    #[allow(clippy::disallowed_methods, reason = "a person runs one seed again, or very many")]
    let asked = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let seeds = match asked("REGATTA_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..asked("REGATTA_SEEDS").unwrap_or(SEEDS),
    };
    let (count, mut seen) = (seeds.end - seeds.start, Seen::default());
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| body(seed))) {
            Ok(of_seed) => seen.add(&of_seed),
            Err(panic) => {
                eprintln!(
                    "seed {seed} fails; run it again: REGATTA_SEED={seed} cargo test -p regatta-search simulated"
                );
                resume_unwind(panic);
            }
        }
    }
    let Seen { events, records, replays, comparisons } = seen;
    println!("{count} seeds: {events} events, {records} records, {replays} replays and {comparisons} references equal");
}

/// How much a simulation did, and how often it was held against its witnesses.
#[derive(Debug, Default)]
struct Seen {
    events: u64,
    records: usize,
    replays: u64,
    comparisons: u64,
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.records += other.records;
        self.replays += other.replays;
        self.comparisons += other.comparisons;
    }
}

fn agents(lanes: &[u32]) -> Vec<AgentPlan> {
    lanes.iter().map(|lanes| AgentPlan { pool: PoolId::default(), lanes: *lanes, slowness: 1.0 }).collect()
}

fn plan(seed: u64, studies: Vec<StudyFile>, lanes: &[u32], faults: Faults) -> Plan {
    Plan {
        seed,
        studies,
        agents: agents(lanes),
        faults,
        settings: Settings::default(),
        checkpoint_every: 2,
        beat_every: Duration::from_secs(1),
    }
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
    seen: Seen,
}

impl Watch {
    fn new() -> Self {
        Self {
            replayed: Coordinator::new(Settings::default()),
            reference: Reference::default(),
            read: 0,
            seen: Seen::default(),
        }
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
            self.seen.replays += 1;
        }
        self.reference.compare(coordinator);
        self.seen.comparisons += 1;
    }

    /// One that dropped what is over still tells of it, and reads it again when it is asked.
    fn check_archive(&self, log: &[Entry], snapshot: &Snapshot) {
        let mut dropping = Coordinator::new(Settings::default());
        for entry in log {
            let (place, record, at) = (entry.place.clone(), entry.record.clone(), entry.at);
            dropping.handle(Time::default(), Event::Logged { place, record, at });
        }
        dropping.archive_over();
        assert_eq!(dropping.studies().count(), snapshot.going_on.len());
        assert_eq!(dropping.snapshot(self.position()).going_on, snapshot.going_on);
        assert_eq!(dropping.snapshot(self.position()).over, snapshot.over);
    }

    fn position(&self) -> LogPosition {
        LogPosition { sequence: self.read as u64, at_us: 0 }
    }

    /// A coordinator that begins with a snapshot knows what one knows that read the whole log.
    fn check_snapshot(&self, simulator: &Simulator) {
        let log = &simulator.log()[..self.read];
        let snapshot = self.replayed.snapshot(self.position());
        let mut restored = Coordinator::new(Settings::default());
        restored.restore(snapshot.over.clone());
        for entry in log.iter().filter(|entry| snapshot.going_on.contains(&entry.place.study)) {
            let (place, record, at) = (entry.place.clone(), entry.record.clone(), entry.at);
            restored.handle(Time::default(), Event::Logged { place, record, at });
        }
        assert_eq!(restored.snapshot(self.position()), snapshot, "a snapshot of a snapshot is the same");
        self.check_archive(log, &snapshot);
        for over in &snapshot.over {
            let id = &over.summary.study;
            let of_study = log.iter().filter(|entry| entry.place.study == *id);
            let records = of_study.map(|entry| (entry.place.trial, entry.record.clone(), entry.at)).collect();
            restored.recall(Time::default(), id, records);
        }
        for (id, study) in self.replayed.studies() {
            let known = restored.study(id).expect("the snapshot names every study");
            assert!(study.state() == known.state(), "{id}: replayed and restored state differ");
        }
    }
}

fn run_and_watch(plan: Plan, curve: fn(&Params, u32) -> Epoch) -> (Vec<BTreeMap<Outcome, u32>>, Seen) {
    let seed = plan.seed;
    let studies = plan.studies.len();
    let mut simulator = Simulator::new(plan, &curve);
    let mut watch = Watch::new();
    let mut steps = 0;
    while !simulator.is_over() {
        assert!(steps < STEPS_MAX && simulator.step(), "seed {seed}: the search never ends");
        steps += 1;
        watch.look(&simulator, (steps + seed).is_multiple_of(5));
        if (steps + seed).is_multiple_of(101) {
            watch.check_snapshot(&simulator);
        }
    }
    watch.check_snapshot(&simulator);
    let coordinator = simulator.coordinator().expect("it is up when all is over");
    let mut outcomes = Vec::new();
    for number in 0..studies {
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
        outcomes.push(count_by_outcome);
    }
    (outcomes, Seen { events: steps, records: simulator.log().len(), ..watch.seen })
}

#[test]
fn simulated_searches_keep_their_promises_whatever_fails() {
    for_each_seed(|seed| {
        let (stoppers, samplers) = (every_stopper(), those_that_learn());
        let stopper = &stoppers[(seed / 4) as usize % stoppers.len()];
        let sampler = match seed % 4 {
            0 => json!({"name": "grid", "points": 9}),
            1 => json!("random"),
            _ => samplers[(seed / 2) as usize % samplers.len()].clone(),
        };
        let trials = if seed % 4 == 0 { 30 } else { 12 };
        let first = study(json!({"stopper": stopper, "sampler": sampler, "seed": seed,
            "budget": {"trials": trials, "resource": 6}}));
        let second = study(json!({"budget": {"trials": 5, "resource": 3}, "weight": 2.0}));
        let (outcomes, seen) = run_and_watch(plan(seed, vec![first, second], &[2, 1, 1], Faults::all()), rough);
        let total = |number: usize| outcomes[number].values().sum::<u32>();
        let has_copies = stopper["name"] == "pbt";
        match (seed % 4, has_copies) {
            (0, false) => assert_eq!(total(0), 9, "the grid is exact"),
            // Copies take trials of the budget, and none of the grid.
            (0, true) => assert!((9..=30).contains(&total(0)), "{}", total(0)),
            _ => assert_eq!(total(0), 12, "the budget is exact"),
        }
        assert_eq!(total(1), 5, "the budget is exact");
        seen
    });
}

#[test]
fn simulated_faults_all_happen() {
    let file = study(json!({"budget": {"trials": 60, "resource": 8}}));
    let mut plan = plan(1, vec![file], &[2, 2, 1], Faults::all());
    plan.faults.lasting = Duration::from_secs(600);
    let mut simulator = Simulator::new(plan, &rough);
    let (mut was_down, mut starts) = (true, 0);
    while !simulator.is_over() && simulator.step() {
        starts += u32::from(was_down && simulator.coordinator().is_some());
        was_down = simulator.coordinator().is_none();
    }
    let log: Vec<String> = simulator.log().iter().map(|entry| format!("{:?}", entry.record)).collect();
    let count = |what: &str| log.iter().filter(|record| record.contains(what)).count();
    assert!(starts > 5, "{starts} starts of the coordinator");
    for what in
        ["LeaseLost", "Released { agent", "Retry", "Draining", "cause: Some(Diverged)", "resume: Some", "Attempt(3)"]
    {
        assert!(count(what) > 0, "no {what} in {} records", log.len());
    }
    let repeated = log.iter().enumerate().filter(|(place, record)| log[..*place].contains(record)).count();
    assert!(repeated > 20, "{repeated} records came twice");
}

#[test]
fn simulated_configurations_do_not_depend_on_the_fleet_or_its_faults() {
    let configurations = |lanes: &[u32], faults: Faults| {
        let mut simulator = Simulator::new(plan(5, vec![study(json!({}))], lanes, faults), &towards_x);
        assert!(simulator.run(STEPS_MAX));
        let study = simulator.coordinator().unwrap().study(&study_id(0)).unwrap();
        study.state().trials.values().map(|trial| trial.proposed.params.clone()).collect::<Vec<_>>()
    };
    let calm = configurations(&[1], Faults::none());
    assert_eq!(calm, configurations(&[3, 2], Faults::none()));
    assert_eq!(calm, configurations(&[2, 1], Faults::all()));
}

#[test]
fn simulated_decisions_are_taken_once_as_long_as_the_coordinator_lives() {
    for seed in 0..60 {
        let file = study(json!({"stopper": {"name": "asha", "eta": 2}, "budget": {"trials": 20, "resource": 6}}));
        let faults = Faults { restart_every: None, ..Faults::all() };
        let mut simulator = Simulator::new(plan(seed, vec![file], &[2, 2], faults), &rough);
        assert!(simulator.run(STEPS_MAX), "seed {seed}");
        let mut decisions = BTreeMap::new();
        for entry in simulator.log().iter().filter(|entry| entry.record.key().is_none()) {
            let attempt = match &entry.record {
                Record::Offered(offered) => offered.attempt.0,
                _ => 0,
            };
            *decisions.entry((entry.place.clone(), entry.record.kind(), attempt)).or_insert(0) += 1;
        }
        let twice: Vec<_> = decisions.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "seed {seed}: {twice:?}");
    }
}

#[test]
fn simulated_offers_find_a_free_lane_at_once_where_nothing_fails() {
    let file = study(json!({"stopper": "asha", "budget": {"trials": 60, "resource": 9}}));
    let mut simulator = Simulator::new(plan(6, vec![file.clone(), file], &[3, 2], Faults::none()), &rough);
    while !simulator.is_over() && simulator.step() {
        assert_eq!(simulator.offers_waiting(), 0);
    }
}

#[test]
fn simulated_plans_repeat_to_the_last_record() {
    let log = || {
        let mut simulator = Simulator::new(plan(9, vec![study(json!({}))], &[2, 1], Faults::all()), &towards_x);
        assert!(simulator.run(STEPS_MAX));
        simulator.log().to_vec()
    };
    assert_eq!(log(), log());
}

/// Epochs spent, and the best value, of a study with this stopper.
fn cost_and_gain(stopper: &str, seed: u64) -> (u64, f64) {
    let budget = json!({"trials": 81, "resource": 27});
    let file = study(json!({"stopper": stopper, "seed": seed, "budget": budget}));
    let mut simulator = Simulator::new(plan(seed, vec![file], &[4, 4], Faults::none()), &towards_x);
    assert!(simulator.run(STEPS_MAX));
    let study = simulator.coordinator().unwrap().study(&study_id(0)).unwrap();
    let epochs = study.state().trials.values().map(|trial| u64::from(trial.resource)).sum();
    (epochs, study.state().best.as_ref().map_or(0.0, |best| best.value))
}

#[test]
fn simulated_stoppers_save_epochs_and_lose_nothing_where_curves_do_not_cross() {
    for seed in 0..5 {
        let (all, best) = cost_and_gain("none", seed);
        for (stopper, share) in [("asha", 0.45), ("median", 0.75)] {
            let (epochs, best_kept) = cost_and_gain(stopper, seed);
            assert!(epochs as f64 <= share * all as f64, "{stopper} spent {epochs} of {all} epochs, seed {seed}");
            assert_eq!(best_kept, best, "{stopper}, seed {seed}");
        }
    }
}

#[test]
fn simulated_lanes_are_hardly_ever_idle() {
    let file = study(json!({"budget": {"trials": 60, "resource": 5}, "stopper": "asha"}));
    let mut simulator = Simulator::new(plan(2, vec![file], &[2, 2], Faults::none()), &rough);
    assert!(simulator.run(STEPS_MAX));
    let used = simulator.coordinator().unwrap().study(&study_id(0)).unwrap().state().lanes.used().unwrap();
    assert_eq!(used.lanes, 4);
    assert!(used.idle_s < 0.02 * (used.idle_s + used.busy_s), "{used:?}");
}

#[test]
fn simulated_promotions_go_on_from_the_rung_where_they_were_set_aside() {
    let stopper = json!({"name": "asha", "eta": 3, "min_resource": 1, "mode": "promote"});
    let file = study(json!({"stopper": stopper, "budget": {"trials": 27, "resource": 27}}));
    let mut simulator = Simulator::new(plan(8, vec![file], &[2, 2], Faults::none()), &towards_x);
    assert!(simulator.run(STEPS_MAX));
    let study = simulator.coordinator().unwrap().study(&study_id(0)).unwrap();
    let resources: Vec<u32> = study.state().trials.values().map(|trial| trial.resource).collect();
    let reached = |rung: u32| resources.iter().filter(|resource| **resource >= rung).count();
    assert!(resources.iter().all(|resource| [1, 3, 9, 27].contains(resource)), "{resources:?}");
    assert!(reached(3) >= 9 && reached(9) >= 3 && (1..=3).contains(&reached(27)), "{resources:?}");
    let best = study.state().best.as_ref().unwrap();
    assert_eq!(study.state().trials[&best.trial].phase, Phase::Ended(Outcome::Finished));
}

#[test]
fn simulated_barriers_cost_idle_lanes() {
    let idle_share = |stopper: serde_json::Value| {
        let file = study(json!({"budget": {"trials": 48, "resource": 9}, "stopper": stopper}));
        let mut simulator = Simulator::new(plan(2, vec![file], &[4, 4], Faults::none()), &rough);
        assert!(simulator.run(STEPS_MAX));
        let used = simulator.coordinator().unwrap().study(&study_id(0)).unwrap().state().lanes.used().unwrap();
        used.idle_s / (used.idle_s + used.busy_s)
    };
    assert!(idle_share(json!("none")) < 0.02);
    let stages = idle_share(json!("stages"));
    let early = idle_share(json!({"name": "stages", "early_stopping": "global"}));
    assert!(stages > 0.2, "{stages}");
    assert!(early > stages, "who stops early waits longer: {early}, {stages}");
    assert!(idle_share(json!("halving")) > 0.1);
}

#[test]
fn simulated_studies_end_when_they_have_converged() {
    let converged = json!({"trials": 200, "resource": 20, "converged": {"trials": 15}});
    let file = study(json!({"budget": converged, "stopper": "asha"}));
    let mut simulator = Simulator::new(plan(2, vec![file], &[4, 4], Faults::none()), &towards_x);
    assert!(simulator.run(STEPS_MAX));
    let state = simulator.coordinator().unwrap().study(&study_id(0)).unwrap().state();
    let (conclusion, _) = state.conclusion.as_ref().unwrap();
    assert!(matches!(conclusion.reason, StudyEnd::Converged { trials: 15, .. }), "{:?}", conclusion.reason);
    assert!((15..150).contains(&state.trials.len()), "{}", state.trials.len());
}

#[test]
fn simulated_studies_share_a_fleet_by_weight() {
    let budget = json!({"trials": 200, "resource": 4});
    let light = study(json!({"budget": budget}));
    let heavy = study(json!({"budget": budget, "weight": 3.0}));
    let mut simulator = Simulator::new(plan(3, vec![light, heavy], &[4, 4], Faults::none()), &towards_x);
    let mut lanes = [0, 0];
    while simulator.elapsed() < Duration::from_secs(100) && simulator.step() {
        if simulator.elapsed() > Duration::from_secs(5) {
            for (study, _) in simulator.training() {
                lanes[usize::from(*study == study_id(1))] += 1;
            }
        }
    }
    let ratio = f64::from(lanes[1]) / f64::from(lanes[0]);
    assert!((2.7..3.3).contains(&ratio), "{ratio}");
}

#[test]
fn simulated_study_without_agents_says_so_and_waits() {
    let mut simulator = Simulator::new(plan(4, vec![study(json!({}))], &[], Faults::none()), &towards_x);
    while simulator.step() {}
    let study = simulator.coordinator().unwrap().study(&study_id(0)).unwrap();
    assert!(study.wants_lane() && study.state().trials.is_empty());
}
