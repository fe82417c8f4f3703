//! Studies whose sampler is somebody else's program: what it is asked and told, and what becomes of its answers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use regatta_schemas::api::{Request, StudyRequest, TrialSubmit};
use regatta_schemas::ask::{Ask, Suggestion, TrialSoFar};
use regatta_schemas::limits::LIMITS;
use regatta_schemas::log::Lineage;
use regatta_schemas::reasons::{AskFailure, Outcome};
use regatta_schemas::study::{Earlier, StudyFile};
use regatta_schemas::{Params, PoolId, TrialId, encode};
use regatta_search::simulator::{AgentPlan, Faults, Plan, Simulator, study_id};
use regatta_search::{Coordinator, Event, Settings, Time};
use serde_json::{Value, json};

use crate::files::{METRIC, study, towards_x};
use crate::stage::Stage;

const TIMEOUT_S: u32 = 3;
const STEPS_MAX: u64 = 200_000;
const SEEDS: u64 = 100;

fn external(changes: Value) -> StudyFile {
    let sampler = json!({"name": "external", "service": "mine", "timeout_s": TIMEOUT_S});
    let mut all = json!({"sampler": sampler});
    for (key, value) in changes.as_object().unwrap() {
        all[key] = value.clone();
    }
    study(all)
}

fn suggestion(x: f64) -> Suggestion {
    Suggestion { params: Some(json!({ "x": x })), since: None }
}

fn timed_out() -> AskFailure {
    AskFailure::TimedOut { timeout_s: TIMEOUT_S }
}

fn stage(changes: Value, lanes: u32) -> Stage {
    let mut stage = Stage::new(vec![external(changes)]);
    stage.beat("a", lanes, &[]);
    stage
}

impl Stage {
    /// The one question that was put since the last look.
    fn take_ask(&mut self) -> Ask {
        assert_eq!(self.asks.len(), 1, "{:?}", self.asks);
        self.asks.remove(0)
    }

    fn answer(&mut self, index: u64, answer: Result<Suggestion, AskFailure>) {
        self.tell(Event::Answered { study: study_id(0), index, answer });
    }

    fn x(&self, trial: u32) -> f64 {
        self.trial(trial).proposed.params["x"].as_f64().unwrap()
    }

    fn fallback(&self, trial: u32) -> Option<AskFailure> {
        match &self.trial(trial).proposed.lineage {
            Lineage::Sampled { fallback, .. } => fallback.clone(),
            other => panic!("{other:?}"),
        }
    }
}

/// What random search, the fallback, proposes.
fn random(index: usize) -> f64 {
    let mut stage = Stage::new(vec![study(json!({}))]);
    stage.beat("a", 8, &[]);
    stage.x(index as u32)
}

#[test]
fn an_external_sampler_is_asked_for_one_configuration_after_the_other() {
    let mut stage = stage(json!({}), 3);
    for index in 0..3 {
        let ask = stage.take_ask();
        assert_eq!((ask.study, ask.index), (study_id(0), index));
        let pending: Vec<u64> = ask.pending.iter().map(|pending| pending.index).collect();
        assert!(pending.into_iter().eq(index.checked_sub(1)), "the one that came of the last answer");
        assert!(ask.trials.iter().map(|trial| trial.trial.0).eq(index.checked_sub(2).map(|index| index as u32)));
        let x = 0.25 + index as f64 / 10.0;
        stage.answer(index, Ok(suggestion(x)));
        assert_eq!(stage.take_offers(), [(index as u32, 1)]);
        assert_eq!((stage.x(index as u32), stage.fallback(index as u32)), (x, None));
    }
    assert!(stage.asks.is_empty(), "no lane is free");
    stage.accept("a", 0, 1);
    stage.measure("a", 0, 1, 1, 0.5);
    stage.finish("a", 0, 1);
    let ask = stage.take_ask();
    let told: Vec<u32> = ask.trials.iter().map(|trial| trial.trial.0).collect();
    assert_eq!(told, [1, 2, 0], "as they changed");
    let TrialSoFar { index, points, outcome, .. } = &ask.trials[2];
    assert_eq!((index, points[0].metrics[METRIC], outcome), (&Some(0), 0.5, &Some(Outcome::Finished)));
}

#[test]
fn initial_configurations_come_first_and_nobody_is_asked_for_them() {
    let mut stage = stage(json!({"initial": [{"x": 0.5}, {"x": 0.75}]}), 3);
    assert_eq!((stage.x(0), stage.x(1)), (0.5, 0.75));
    assert_eq!(stage.take_ask().index, 2);
}

#[test]
fn a_bad_answer_has_the_fallback_propose_and_the_next_question_be_put_at_once() {
    let too_far = json!({"x": 1.5});
    let unfit = |params| Suggestion { params: Some(params), since: None };
    let rows = [
        (Err(AskFailure::Absent), "absent"),
        (Err(AskFailure::AnswerTooLarge { bytes: 1 }), "answer_too_large"),
        (Ok(unfit(too_far)), "unfit"),
        (Ok(unfit(json!({"y": 0.5}))), "unfit"),
        (Ok(unfit(json!([1, "x".repeat(100_000)]))), "unfit"),
        (Ok(Suggestion::default()), "empty"),
    ];
    let mut stage = stage(json!({}), rows.len() as u32);
    for (index, (answer, cause)) in rows.into_iter().enumerate() {
        assert_eq!(stage.take_ask().index, index as u64);
        stage.answer(index as u64, answer);
        let failure = json!(stage.fallback(index as u32));
        assert_eq!(failure["cause"], cause);
        assert!(failure.to_string().len() < 5_000, "a detail is cut");
        assert_eq!(stage.x(index as u32), random(index));
    }
}

#[test]
fn a_sampler_that_did_not_answer_in_time_is_left_alone_for_as_long() {
    let mut stage = stage(json!({}), 3);
    stage.take_ask();
    stage.answer(0, Err(timed_out()));
    assert_eq!(stage.take_offers().len(), 3, "no lane waits for it again");
    assert_eq!((0..3).filter_map(|trial| stage.fallback(trial)).collect::<Vec<_>>(), vec![timed_out(); 3]);
    stage.wait_ms(u64::from(TIMEOUT_S) * 1_000);
    stage.beat("a", 4, &[]);
    let ask = stage.take_ask();
    assert_eq!((ask.index, ask.since, ask.trials.len()), (3, 0, 3), "nothing was told in vain");
    stage.answer(3, Ok(suggestion(0.5)));
    assert_eq!((stage.x(3), stage.fallback(3)), (0.5, None));
}

#[test]
fn a_sampler_that_began_anew_is_told_everything_again_but_once_a_configuration() {
    let mut stage = stage(json!({}), 4);
    for index in 0..3 {
        stage.take_ask();
        stage.answer(index, Ok(suggestion(0.5)));
    }
    let ask = stage.take_ask();
    assert_eq!((ask.since, ask.until, ask.trials.len()), (1, 2, 1));
    let forgot = Suggestion { params: None, since: Some(0) };
    stage.answer(3, Ok(forgot.clone()));
    let ask = stage.take_ask();
    assert_eq!((ask.index, ask.since, ask.until, ask.trials.len()), (3, 0, 3, 3));
    assert_eq!(stage.count("proposed"), 3);
    stage.answer(3, Ok(forgot));
    assert_eq!(stage.fallback(3), Some(AskFailure::Empty));
}

#[test]
fn a_sampler_without_memory_is_told_everything_each_time() {
    let mut stage = stage(json!({}), 4);
    for index in 0..4 {
        let ask = stage.take_ask();
        assert_eq!((ask.since, ask.trials.len() + ask.pending.len()), (0, index));
        stage.answer(index as u64, Ok(Suggestion { since: Some(0), ..suggestion(0.5) }));
    }
}

#[test]
fn a_sampler_is_told_what_earlier_trials_measured_when_it_knows_nothing_yet_and_then_no_more() {
    let earlier = json!([{"params": {"x": 0.75}, "metrics": {METRIC: 0.5}, "resource": 2}]);
    let mut stage = stage(json!({"earlier": earlier}), 4);
    let known = external(json!({"earlier": earlier})).earlier;
    for index in 0..4_u64 {
        let ask = stage.take_ask();
        // A configuration is a trial, which is a change, when the next one but one is asked for.
        assert_eq!((ask.index, ask.since), (index, index.saturating_sub(2)));
        assert_eq!(ask.earlier, if ask.since == 0 { known.clone() } else { Vec::new() });
        let forgets = index == 3;
        stage.answer(index, Ok(if forgets { Suggestion { params: None, since: Some(0) } } else { suggestion(0.5) }));
    }
    let ask = stage.take_ask();
    assert_eq!((ask.earlier, ask.since), (known, 0), "it began anew");
}

#[test]
fn the_most_that_earlier_trials_can_have_measured_leaves_room_for_one_trial_in_each_question() {
    let mut file = study_of_long_texts();
    let params: Params = serde_json::from_value(json!({"x": 0.5, "text": long("a")})).unwrap();
    let one = Earlier { params, metrics: BTreeMap::from([(METRIC.to_owned(), 0.5)]), resource: None };
    file.earlier = vec![one.clone(); LIMITS.request_bytes_max / encode(&one).len()];
    let mut stage = Stage::new(vec![file.clone()]);
    for _ in 0..300 {
        stage.request(submit(json!({"x": 0.5, "text": long("a")})), "unused").unwrap();
    }
    stage.beat("a", 301, &[]);
    let mut told = Vec::new();
    loop {
        let ask = stage.take_ask();
        assert!(encode(&ask).len() < LIMITS.message_bytes_max);
        assert_eq!(ask.earlier.len(), if told.is_empty() { file.earlier.len() } else { 0 });
        assert!(!ask.trials.is_empty());
        told.extend(ask.trials.iter().map(|trial| trial.trial.0));
        if !ask.more {
            break;
        }
        stage.answer(0, Ok(Suggestion::default()));
    }
    assert!(told.iter().copied().eq(0..300), "{told:?}");
}

#[test]
fn what_does_not_fit_into_one_question_is_told_in_several() {
    let file = study_of_long_texts();
    let mut stage = Stage::new(vec![file]);
    for _ in 0..300 {
        stage.request(submit(json!({"x": 0.5, "text": long("a")})), "unused").unwrap();
    }
    stage.beat("a", 301, &[]);
    let (mut told, mut since) = (Vec::new(), 0);
    loop {
        let ask = stage.take_ask();
        assert_eq!((ask.index, ask.since), (0, since));
        assert!(encode(&ask).len() < LIMITS.message_bytes_max);
        since = ask.until;
        told.extend(ask.trials.iter().map(|trial| trial.trial.0));
        if !ask.more {
            break;
        }
        stage.answer(0, Ok(Suggestion::default()));
    }
    assert!(told.iter().copied().eq(0..300), "{told:?}");
    stage.answer(0, Ok(Suggestion { params: Some(json!({"x": 0.5, "text": long("b")})), since: None }));
    assert_eq!(stage.fallback(300), None);
}

/// So many trials of it that what is told of them does not fit into one question.
fn study_of_long_texts() -> StudyFile {
    let space = json!({
        "x": {"type": "float", "low": 0.001, "high": 1.0},
        "text": {"type": "categorical", "choices": [long("a"), long("b")]},
    });
    let file = external(json!({"budget": {"trials": 500, "resource": 1}}));
    StudyFile { space: serde_json::from_value(space).unwrap(), ..file }
}

fn long(letter: &str) -> String {
    letter.repeat(4_000)
}

fn submit(params: Value) -> Request {
    Request::TrialSubmit(TrialSubmit {
        study: Some(study_id(0)),
        resource: None,
        recipe: None,
        params,
        pool: PoolId::default(),
        priority: 0,
        labels: Default::default(),
        by: "me".into(),
    })
}

fn of_study() -> StudyRequest {
    StudyRequest { study: study_id(0), by: "me".into() }
}

#[test]
fn a_trial_that_is_submitted_while_the_sampler_thinks_does_not_wait_for_it() {
    let mut stage = stage(json!({"budget": {"trials": 2, "resource": 4}}), 2);
    stage.take_ask();
    stage.request(submit(json!({"x": 0.25})), "unused").unwrap();
    assert_eq!(stage.take_offers(), [(0, 1)]);
    assert!(stage.request(submit(json!({"x": 0.25})), "unused").is_err(), "the sampler's is the budget's last");
    stage.answer(0, Ok(suggestion(0.5)));
    assert_eq!((stage.take_offers(), stage.x(1)), (vec![(1, 1)], 0.5));
}

#[test]
fn an_answer_that_comes_when_nothing_is_wanted_any_more_changes_nothing() {
    let mut paused = stage(json!({}), 1);
    paused.take_ask();
    paused.request(Request::StudyPause(of_study()), "unused").unwrap();
    paused.answer(0, Ok(suggestion(0.5)));
    assert_eq!((paused.count("proposed"), paused.asks.len()), (0, 0));
    paused.request(Request::StudyResume(of_study()), "unused").unwrap();
    assert_eq!(paused.take_ask().index, 0);
    paused.answer(7, Ok(suggestion(0.5)));
    assert_eq!(paused.count("proposed"), 0, "nobody asked for that one");

    let mut stopped = stage(json!({}), 1);
    stopped.take_ask();
    stopped.request(Request::StudyStop(of_study()), "unused").unwrap();
    assert_eq!(stopped.coordinator.free_lanes(&PoolId::default()), 1);
    stopped.answer(0, Ok(suggestion(0.5)));
    assert_eq!((stopped.count("study_concluded"), stopped.count("proposed")), (1, 0));
}

#[test]
fn a_coordinator_that_dies_between_question_and_answer_asks_again() {
    let mut stage = stage(json!({}), 2);
    stage.take_ask();
    stage.answer(0, Ok(suggestion(0.5)));
    let before = stage.take_ask();
    stage.restart();
    stage.beat("a", 2, &[]);
    let after = stage.take_ask();
    assert_eq!((before.index, before.pending.len(), before.trials.len()), (1, 1, 0));
    assert_eq!((after.index, after.pending.len(), after.trials.len()), (1, 0, 1), "what was pending is a trial");
    stage.answer(1, Ok(suggestion(0.75)));
    assert_eq!((stage.count("proposed"), stage.x(1)), (2, 0.75));
}

#[test]
fn the_fallback_is_any_of_ours() {
    let sampler = json!({"name": "external", "service": "mine", "fallback": {"name": "grid", "points": 2}});
    let mut stage = stage(json!({"sampler": sampler}), 2);
    stage.take_ask();
    stage.answer(0, Err(timed_out()));
    assert_eq!((stage.x(0), stage.x(1)), (0.001, 1.0));
}

fn plan(seed: u64, lanes: &[u32], faults: Faults) -> Plan {
    let agent = |lanes: &u32| AgentPlan { pool: PoolId::default(), lanes: *lanes, slowness: 1.0 };
    Plan {
        seed,
        studies: vec![external(
            json!({"budget": {"trials": 24, "resource": 6}, "stopper": {"name": "asha", "eta": 2}}),
        )],
        agents: lanes.iter().map(agent).collect(),
        faults,
        settings: Settings::default(),
        checkpoint_every: 2,
        beat_every: Duration::from_secs(1),
    }
}

/// Parameters and lineage of each configuration, by its number.
fn configurations(simulator: &Simulator) -> BTreeMap<u64, (Params, Option<AskFailure>)> {
    let study = simulator.coordinator().unwrap().study(&study_id(0)).unwrap();
    let proposed = study.state().trials.values().map(|trial| &trial.proposed);
    proposed
        .map(|proposed| match &proposed.lineage {
            Lineage::Sampled { index, fallback } => (*index, (proposed.params.clone(), fallback.clone())),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn simulated_answers_and_failures_give_the_same_configurations_whatever_fails_beside_them() {
    let suggest = |ask: &Ask| match ask.index % 4 {
        3 => Err(AskFailure::Absent),
        2 => Ok(suggestion(2.0)),
        _ => Ok(suggestion(0.01 + ask.index as f64 / 100.0)),
    };
    let found = |seed, lanes: &[u32], faults| {
        let mut simulator = Simulator::with_sampler(plan(seed, lanes, faults), &towards_x, &suggest);
        assert!(simulator.run(STEPS_MAX), "seed {seed}");
        let configurations = configurations(&simulator);
        assert_eq!(configurations.len(), 24, "seed {seed}: each number once");
        configurations
    };
    let calm = found(0, &[1], Faults::none());
    assert_eq!(calm.values().filter(|(_, fallback)| fallback.is_some()).count(), 12);
    assert_eq!(calm, found(0, &[3, 2], Faults::none()));
    for seed in 0..SEEDS {
        assert_eq!(calm, found(seed, &[2, 1], Faults::all()), "seed {seed}");
    }
}

/// A sampler that keeps what it is told, and now and then forgets all.
#[derive(Default)]
struct Mirror {
    known: u64,
    trials: BTreeMap<TrialId, TrialSoFar>,
    asked: u64,
    forgot: u64,
}

impl Mirror {
    fn suggest(&mut self, seed: u64, ask: &Ask) -> Suggestion {
        self.asked += 1;
        if (self.asked + seed).is_multiple_of(7) {
            *self = Self { asked: self.asked, forgot: self.forgot + 1, ..Self::default() };
        }
        if ask.since == 0 {
            self.trials.clear();
        } else if ask.since != self.known {
            return Suggestion { params: None, since: Some(self.known) };
        }
        self.trials.extend(ask.trials.iter().map(|trial| (trial.trial, trial.clone())));
        self.known = ask.until;
        if ask.more {
            return Suggestion::default();
        }
        let on_their_way = ask.pending.len();
        assert_eq!((self.trials.len() + on_their_way) as u64, ask.index, "it knows of every configuration before");
        let measured: usize = self.trials.values().map(|trial| trial.points.len()).sum();
        suggestion(0.001 + (measured as f64).sin().abs() * 0.9)
    }
}

#[test]
fn simulated_samplers_are_told_what_the_log_holds_whoever_begins_anew() {
    let mut forgot = 0;
    for seed in 0..SEEDS {
        let mirror = RefCell::new(Mirror::default());
        let suggest = |ask: &Ask| Ok(mirror.borrow_mut().suggest(seed, ask));
        let mut simulator = Simulator::with_sampler(plan(seed, &[2, 2], Faults::all()), &towards_x, &suggest);
        assert!(simulator.run(STEPS_MAX), "seed {seed}");
        let coordinator = simulator.coordinator().unwrap();
        let state = coordinator.study(&study_id(0)).unwrap().state();
        let mirror = mirror.take();
        forgot += mirror.forgot;
        for (id, told) in &mirror.trials {
            let trial = &state.trials[id];
            assert_eq!(told.params, trial.proposed.params, "seed {seed}");
            assert!(told.points.iter().all(|point| trial.points.iter().any(|known| known == *point)), "seed {seed}");
        }
        let mut replayed = Coordinator::new(Settings::default());
        for entry in simulator.log().iter().cloned() {
            let (place, record, at) = (entry.place, entry.record, entry.at);
            replayed.handle(Time::default(), Event::Logged { place, record, at });
        }
        assert_eq!(replayed.study(&study_id(0)).unwrap().state(), state, "seed {seed}");
        assert_eq!(replayed.next_command(), None, "a replay asks nobody");
    }
    assert!(forgot > SEEDS, "{forgot}");
}

#[test]
fn simulated_studies_whose_sampler_nobody_plays_are_the_fallback_s() {
    let mut simulator = Simulator::new(plan(1, &[2], Faults::none()), &towards_x);
    assert!(simulator.run(STEPS_MAX));
    let found = configurations(&simulator);
    assert!(found.values().all(|(_, fallback)| *fallback == Some(AskFailure::Simulated)));
    assert_eq!(found[&1].0["x"].as_f64(), Some(random(1)));
}
