//! Why and how a study ends.

use regatta_schemas::TrialId;
use regatta_schemas::api::Request;
use regatta_schemas::log::Record;
use regatta_schemas::reasons::{FailCause, StopReason, StudyEnd};
use serde_json::json;

use crate::files::study;
use crate::stage::{Stage, of_study};

#[test]
fn a_study_ends_for_its_own_reason_and_stops_what_still_runs() {
    let budget = |extra: serde_json::Value| {
        let mut budget = json!({"trials": 8, "resource": 4});
        budget.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"budget": budget})
    };
    let mut reached = Stage::new(vec![study(budget(json!({"target": 0.8})))]);
    let mut late = Stage::new(vec![study(budget(json!({"wall_time_s": 3.0})))]);
    let mut asked = Stage::new(vec![study(json!({}))]);
    for stage in [&mut reached, &mut late, &mut asked] {
        stage.beat("a", 2, &[]);
        stage.accept("a", 0, 1);
        stage.measure("a", 0, 1, 1, 0.7);
        assert_eq!(stage.count("study_concluded"), 0);
    }
    reached.measure("a", 0, 1, 2, 0.8);
    late.wait_ms(3_000);
    asked.request(Request::StudyStop(of_study(0)), "x").unwrap();
    for (stage, end, value) in [
        (&reached, StudyEnd::TargetReached { target: 0.8, value: 0.8 }, 0.8),
        (&late, StudyEnd::WallTime { wall_time_s: 3.0 }, 0.7),
        (&asked, StudyEnd::Requested { by: "me".into() }, 0.7),
    ] {
        let Some(Record::StudyConcluded(concluded)) = stage.last("study_concluded") else {
            panic!("{end} did not end it")
        };
        assert_eq!(concluded.reason, end);
        assert_eq!(concluded.best.as_ref().map(|best| (best.trial, best.value)), Some((TrialId(0), value)));
        assert_eq!(stage.count("stopped"), 2, "{end}");
        assert_eq!(stage.trial(0).stop, Some(StopReason::StudyEnded { reason: end }));
    }
}

#[test]
fn an_end_that_a_crash_interrupted_is_completed_after_it() {
    let mut stage = Stage::new(vec![study(json!({}))]);
    stage.beat("a", 2, &[]);
    stage.request(Request::StudyStop(of_study(0)), "x").unwrap();
    assert_eq!(
        stage.log.iter().map(|(_, record, _)| record.kind()).collect::<Vec<_>>()[5..],
        ["stopped", "stopped", "study_concluded"]
    );
    stage.log.truncate(6);
    stage.restart();
    assert_eq!(stage.count("stopped"), 2);
    let Some(Record::StudyConcluded(concluded)) = stage.last("study_concluded") else { panic!("it goes on") };
    assert_eq!(concluded.reason, StudyEnd::Requested { by: "me".into() });
}

#[test]
fn a_space_with_nothing_left_ends_the_study() {
    let space = json!({"x": {"type": "categorical", "choices": [0.1, 0.2]}});
    let mut stage = Stage::new(vec![study(json!({"space": space}))]);
    stage.beat("a", 4, &[]);
    assert_eq!(stage.take_offers(), [(0, 1), (1, 1)]);
    for trial in [0, 1] {
        stage.accept("a", trial, 1);
        stage.finish("a", trial, 1);
    }
    let Some(Record::StudyConcluded(concluded)) = stage.last("study_concluded") else { panic!("it goes on") };
    assert_eq!(concluded.reason, StudyEnd::SpaceExhausted { trials: 2 });
}

fn end_of(stage: &Stage) -> Option<&StudyEnd> {
    match stage.last("study_concluded") {
        Some(Record::StudyConcluded(concluded)) => Some(&concluded.reason),
        _ => None,
    }
}

#[test]
fn one_failed_trial_more_than_the_budget_allows_ends_the_study() {
    let budget = json!({"trials": 9, "resource": 4, "failures": 1});
    let mut stage = Stage::new(vec![study(json!({"budget": budget, "retries": 0}))]);
    stage.beat("a", 3, &[]);
    for trial in 0..3 {
        stage.accept("a", trial, 1);
    }
    stage.measure("a", 0, 1, 1, 0.5);
    stage.fail("a", 0, 1, FailCause::Diverged);
    assert_eq!(end_of(&stage), None);
    stage.fail("a", 1, 1, FailCause::Device);
    assert_eq!(end_of(&stage), Some(&StudyEnd::Failures { failed: 2 }));
    stage.restart();
    assert_eq!(stage.count("study_concluded"), 1);
}

#[test]
fn a_study_whose_first_trials_all_come_to_nothing_ends() {
    let ten_of = |play: &dyn Fn(&mut Stage, u32)| {
        let mut stage = Stage::new(vec![study(json!({"budget": {"trials": 40, "resource": 4}, "retries": 0}))]);
        stage.beat("a", 1, &[]);
        for trial in 0..10 {
            assert_eq!(end_of(&stage), None);
            stage.accept("a", trial, 1);
            play(&mut stage, trial);
        }
        end_of(&stage).cloned()
    };
    let fail = |cause| move |stage: &mut Stage, trial: u32| stage.fail("a", trial, 1, cause);
    let ended = Some(StudyEnd::NoValue { trials: 10 });
    assert_eq!(ten_of(&fail(FailCause::Configuration)), ended);
    assert_eq!(ten_of(&|stage, trial| stage.finish("a", trial, 1)), ended, "without a value");
    assert_eq!(ten_of(&fail(FailCause::Diverged)), None, "other values may do better");
    assert_eq!(ten_of(&fail(FailCause::Device)), None, "other machines may do better");
    let valued = |stage: &mut Stage, trial: u32| {
        stage.measure("a", trial, 1, 1, 0.5);
        stage.fail("a", trial, 1, FailCause::Program);
    };
    assert_eq!(ten_of(&valued), None, "something can be measured");
}

#[test]
fn a_trial_that_is_still_at_work_may_yet_give_a_value() {
    let mut stage = Stage::new(vec![study(json!({"budget": {"trials": 40, "resource": 4}}))]);
    stage.beat("a", 2, &[]);
    stage.accept("a", 0, 1);
    for trial in 1..=12 {
        stage.accept("a", trial, 1);
        stage.fail("a", trial, 1, FailCause::Program);
    }
    assert_eq!(end_of(&stage), None, "on the same agent as those that failed");
    stage.fail("a", 0, 1, FailCause::Program);
    assert!(matches!(end_of(&stage), Some(StudyEnd::NoValue { .. })));
}
