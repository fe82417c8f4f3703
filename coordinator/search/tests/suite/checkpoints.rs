//! Which checkpoints of a study are kept, and which deleted.

use regatta_schemas::TrialId;
use regatta_schemas::api::Request;
use regatta_schemas::log::Record;
use regatta_schemas::reasons::{FailCause, ReleaseReason};
use serde_json::json;

use crate::files::study;
use crate::stage::{Stage, of_trial, one_held};

#[test]
fn a_checkpoint_that_cannot_be_read_is_not_gone_on_from_again() {
    let mut stage = one_held();
    stage.checkpoint("a", 0, 1, 2, "c2");
    stage.fail("a", 0, 1, FailCause::Checkpoint);
    assert!(stage.take_offers().contains(&(0, 2)));
    let Some(Record::Offered(offered)) = stage.last("offered") else { panic!("no offer") };
    assert_eq!(offered.resume, None, "it begins afresh");
}

#[test]
fn a_checkpoint_is_deleted_when_a_newer_one_of_its_trial_is_whole() {
    let mut stage = one_held();
    for (resource, object) in [(1, "c1"), (2, "c2"), (2, "c2")] {
        stage.checkpoint("a", 0, 1, resource, object);
    }
    assert_eq!(stage.deleted, ["c1"]);
    stage.checkpoint("a", 0, 1, 1, "late");
    assert_eq!(stage.deleted, ["c1", "late"], "older than what is kept");
}

#[test]
fn of_trials_that_have_ended_the_best_keep_their_checkpoints() {
    let mut stage = Stage::new(vec![study(json!({"keep_checkpoints": 2, "retries": 0}))]);
    stage.beat("a", 8, &[]);
    let train = |stage: &mut Stage, trial: u32, value: f64| {
        stage.accept("a", trial, 1);
        stage.measure("a", trial, 1, 4, value);
        stage.checkpoint("a", trial, 1, 4, &format!("of-{trial}"));
    };
    let keeps = |stage: &Stage, trial: u32| stage.trial(trial).checkpoint.is_some();
    for (trial, value) in [(0, 0.5), (1, 0.4), (2, 0.6), (3, 0.9), (4, 0.3), (5, 0.3)] {
        train(&mut stage, trial, value);
    }
    stage.finish("a", 0, 1);
    stage.finish("a", 1, 1);
    assert_eq!(stage.deleted.len(), 0, "two are kept, and what runs is not counted");
    stage.finish("a", 2, 1);
    assert_eq!(stage.deleted, ["of-1"], "another trial's goes");
    stage.fail("a", 3, 1, FailCause::Configuration);
    assert_eq!(stage.deleted, ["of-1", "of-3"], "what failed is worse than any, whatever it measured before");
    stage.finish("a", 4, 1);
    assert_eq!(stage.deleted, ["of-1", "of-3", "of-4"], "its own");
    assert_eq!([0, 1, 2, 3, 4, 5].map(|trial| keeps(&stage, trial)), [true, false, true, false, false, true]);
    stage.restart();
    assert_eq!([0, 1, 2, 3, 4, 5].map(|trial| keeps(&stage, trial)), [true, false, true, false, false, true]);
    assert_eq!(stage.deleted.len(), 3, "a restart deletes nothing anew");
    assert!(["of-0", "of-2", "of-5"].iter().all(|object| stage.coordinator.needs_checkpoint(object)));
}

#[test]
fn the_best_trial_so_far_leaves_its_weights_when_it_is_stopped() {
    let mut stage = Stage::new(vec![study(json!({}))]);
    stage.beat("a", 2, &[]);
    for (trial, value) in [(0, 0.9), (1, 0.1)] {
        stage.accept("a", trial, 1);
        stage.measure("a", trial, 1, 2, value);
        stage.checkpoint("a", trial, 1, 1, &format!("early-{trial}"));
    }
    for trial in [0, 1] {
        stage.request(Request::TrialStop(of_trial(trial)), "other").unwrap();
        let (stopped, stop) = stage.stops.pop().expect("its agent is told");
        assert_eq!((stopped, stop.keep), (Some(TrialId(trial)), trial == 0), "0.9 is the best");
    }
    stage.checkpoint("a", 0, 1, 2, "late-0");
    stage.checkpoint("a", 1, 1, 2, "late-1");
    assert_eq!(stage.deleted, ["early-0", "late-1"], "nobody asked for the second");
    let is_as_read = |stage: &Stage| {
        let objects = [0, 1].map(|trial| stage.trial(trial).checkpoint.as_ref().map(|kept| kept.object.as_str()));
        assert_eq!(objects, [Some("late-0"), Some("early-1")]);
    };
    is_as_read(&stage);
    stage.release("a", 0, 1, ReleaseReason::Stopped);
    stage.checkpoint("a", 0, 1, 3, "after its last record");
    stage.restart();
    is_as_read(&stage);
}

#[test]
fn whoever_stops_getting_better_leaves_its_weights() {
    let stopper = json!({"name": "patience", "epochs": 1});
    let mut stage = Stage::new(vec![study(json!({"stopper": stopper, "keep_checkpoints": 1}))]);
    stage.beat("a", 2, &[]);
    for (trial, value) in [(0, 0.9), (1, 0.1)] {
        stage.accept("a", trial, 1);
        for resource in 1..=2 {
            stage.measure("a", trial, 1, resource, value);
        }
        assert!(stage.stops.pop().expect("it is at a plateau").1.keep);
    }
    stage.checkpoint("a", 1, 1, 2, "of-1");
    assert_eq!(stage.deleted.len(), 0);
    stage.checkpoint("a", 0, 1, 2, "of-0");
    assert_eq!(stage.deleted, ["of-1"], "of two that ended, the better one's is kept");
}

#[test]
fn a_checkpoint_that_two_trials_share_by_content_outlives_the_first() {
    let mut stage = Stage::new(vec![study(json!({}))]);
    stage.beat("a", 2, &[]);
    for trial in [0, 1] {
        stage.accept("a", trial, 1);
        stage.checkpoint("a", trial, 1, 1, "same");
    }
    stage.checkpoint("a", 0, 1, 2, "own");
    assert!(stage.deleted.is_empty());
    stage.checkpoint("a", 1, 1, 2, "own too");
    assert_eq!(stage.deleted, ["same"]);
}
