//! The real machines in a played world: `Coordinator`, `Agent` and its `Spool` exchange the wire's own bytes over a bus
//! in memory that delays, loses, doubles and reorders, is cut and comes back, while every part dies, hangs and leaves. Of
//! two or three coordinators one leads, by the real `Candidacy` and `Office`.
//!
//! A failure prints its seed; `REGATTA_SEED=<seed> cargo test -p regatta-tests --test simulation` runs it alone.
//! `REGATTA_SEEDS=<count>` runs so many, as `scripts/soak` does.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod broker;
mod desk;
mod election;
mod faults;
mod link;
mod mail;
#[path = "../../coordinator/search/tests/suite/reference.rs"]
#[allow(dead_code, reason = "the search core's own tests ask it for more")]
mod reference;
mod station;
mod watch;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use regatta_schemas::check;
use regatta_schemas::reasons::Outcome;
use regatta_schemas::study::StudyFile;
use serde_json::{Value, json};

use faults::Faults;
use watch::{Minutes, Watch};
use world::{Crew, World};

const SEEDS: u64 = 200;
const STEPS_MAX: u64 = 400_000;
/// After the last fault, until everything is over.
const LIVENESS: Duration = Duration::from_secs(1_200);

fn study(changes: &Value) -> StudyFile {
    let mut file = json!({
        "name": "simulated",
        "objective": {"metric": "validation_accuracy", "goal": "maximize"},
        "space": {"x": {"type": "float", "low": 0.001, "high": 1.0}},
        "sampler": "random",
        "budget": {"trials": 10, "resource": 6},
        "seed": 7,
        "recipe": {
            "data": {"file": "digits.npz", "format": "npz", "task": "classification", "target": "y"},
            "model": {"family": "mlp", "hidden": [8]},
            "loss": "cross_entropy",
            "optimizer": {"name": "sgd", "learning_rate": "$x"},
            "batch_size": 32,
        },
    });
    for (key, value) in changes.as_object().unwrap() {
        file[key] = value.clone();
    }
    check::study_file(&file).unwrap()
}

/// Two coordinators, sometimes three.
fn crew(seed: u64, lanes: &[u32]) -> Crew<'_> {
    Crew { coordinators: if seed % 5 == 1 { 3 } else { 2 }, lanes }
}

/// Lets a world run to its end and holds it against its witnesses after every event.
fn run_and_watch(mut world: World) -> (World, Watch) {
    let mut watch = Watch::default();
    let mut steps = 0;
    while !world.is_over() {
        assert!(steps < STEPS_MAX, "no end after {steps} events; waiting: {}", world.why_not_over());
        assert!(world.elapsed() < world.faults.lasting + LIVENESS, "no end in time: {}", world.why_not_over());
        assert!(world.step(), "nothing will happen any more: {}", world.why_not_over());
        steps += 1;
        watch.look(&world, steps);
    }
    watch.check_the_end(&world);
    (world, watch)
}

fn for_each_seed(body: impl Fn(u64) -> Watch) {
    let asked = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let seeds = match asked("REGATTA_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..asked("REGATTA_SEEDS").unwrap_or(SEEDS),
    };
    let (count, mut seen) = (seeds.end - seeds.start, watch::Seen::default());
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| body(seed))) {
            Ok(watch) => seen.add(&watch.seen),
            Err(panic) => {
                eprintln!(
                    "seed {seed} fails; run it again: REGATTA_SEED={seed} cargo test -p regatta-tests --test simulation"
                );
                resume_unwind(panic);
            }
        }
    }
    println!("{count} seeds: {seen}");
}

#[test]
fn real_machines_keep_their_promises_whatever_fails() {
    for_each_seed(|seed| {
        let population = json!({"name": "pbt", "population": 4, "interval": 2});
        let promoting = json!({"name": "asha", "mode": "promote"});
        let stoppers = [json!("none"), json!("asha"), promoting, json!("median"), population];
        let stopper = &stoppers[(seed % 5) as usize];
        let has_power_cuts = seed % 3 == 0;
        // Proposals that follow from results: what is proposed again after a power cut differs from what was forgotten.
        let (sampler, trials) = if has_power_cuts { ("tpe", 20) } else { ("random", 10) };
        let budget = json!({"trials": trials, "resource": 6});
        let mut first = json!({"stopper": stopper, "seed": seed, "sampler": sampler, "budget": budget});
        if seed % 2 == 0 {
            first["keep_checkpoints"] = json!(2);
        }
        let first = study(&first);
        // The same configurations and seeds once more: their checkpoints are the same objects.
        let twin = study(&json!({"seed": seed, "budget": {"trials": 4, "resource": 6}, "weight": 2.0}));
        let power_cut_every = has_power_cuts.then_some(Duration::from_secs(30));
        let faults = Faults { power_cut_every, ..Faults::all() };
        let (world, watch) = run_and_watch(World::new(seed, vec![first, twin], &crew(seed, &[2, 1, 1]), faults));
        assert_eq!(world.trials(0), trials, "the budget is exact");
        assert_eq!(world.trials(1), 4, "the budget is exact");
        watch
    });
}

#[test]
fn trials_end_as_in_a_world_without_faults() {
    for_each_seed(|seed| {
        let ends = |faults: Faults| {
            let file = study(&json!({"seed": seed, "budget": {"trials": 16, "resource": 5}}));
            let (world, watch) = run_and_watch(World::new(seed, vec![file], &crew(seed, &[2, 2]), faults));
            (world.ends(0), watch)
        };
        let (calm, _) = ends(Faults::none());
        assert!(calm.values().all(|end| matches!(end, Some((Outcome::Finished, _)))), "{calm:?}");
        // A device that fails again and again ends a trial for good.
        let (stormy, watch) = ends(Faults { failures: 0.0, agent_crash_every: None, ..Faults::all() });
        for (trial, end) in &stormy {
            assert!(end.is_none() || *end == calm[trial], "trial {trial}: {end:?} instead of {:?}", calm[trial]);
        }
        let given_up = stormy.values().filter(|end| end.is_none()).count();
        assert!(stormy.len() == calm.len() && given_up <= 1, "{given_up} of {} trials have no value", stormy.len());
        watch
    });
}

#[test]
fn without_the_fence_a_deposed_coordinator_decides_and_is_caught() {
    let faults = Faults { has_fence: false, ..Faults::all() };
    let is_caught = |seed: u64| {
        let mut world = World::new(seed, vec![study(&json!({"seed": seed}))], &crew(seed, &[2, 1]), faults.clone());
        let mut minutes = Minutes::default();
        while world.faults_go_on() && world.step() {
            if minutes.read(&world.broker.log, &world.broker.forgotten).is_some() {
                return true;
            }
        }
        false
    };
    assert!((0..20).any(is_caught), "the fence is what keeps this from happening");
}

#[test]
fn a_world_repeats_to_the_last_record() {
    let log = || {
        let (world, _) = run_and_watch(World::new(3, vec![study(&json!({}))], &crew(3, &[2, 1]), Faults::all()));
        world.broker.log.clone()
    };
    assert!(log() == log());
}
