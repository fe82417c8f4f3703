//! Trials that somebody trains in a loop of their own: handed out and reported by requests.

use std::collections::BTreeMap;

use regatta_schemas::api::{
    OwnEnd, OwnPoint, Rejection, RejectionCode, Request, StudyRequest, TrialObserve, TrialObserved, TrialSuggest,
    TrialSuggested,
};
use regatta_schemas::log::Record;
use regatta_schemas::reasons::{FailCause, OfferReason, Outcome, StopReason, StudyEnd};
use regatta_schemas::{Attempt, PoolId, Term, TrialId};
use regatta_search::Answer;
use regatta_search::simulator::study_id;
use regatta_search::study::Phase;
use serde_json::{Value, json};

use crate::files::{METRIC, study};
use crate::stage::Stage;

const LEASE_S: u32 = 60;

fn stage(changes: Value) -> Stage {
    Stage::new(vec![study(changes)])
}

fn value(resource: u32, value: f64) -> OwnPoint {
    let metrics = BTreeMap::from([(METRIC.to_owned(), value)]);
    OwnPoint { resource, elapsed_s: f64::from(resource), metrics }
}

impl Stage {
    fn suggest(&mut self) -> Result<TrialSuggested, Rejection> {
        let request = TrialSuggest { study: study_id(0), lease_s: LEASE_S, by: "me".to_owned() };
        match self.request(Request::TrialSuggest(request), "unused")? {
            Answer::TrialSuggested(suggested) => Ok(suggested),
            other => panic!("{other:?}"),
        }
    }

    /// (trial, attempt) of a suggestion.
    fn suggested(&mut self) -> (u32, u32) {
        let suggested = self.suggest().unwrap();
        (suggested.trial.0, suggested.attempt.0)
    }

    fn observe(
        &mut self,
        (trial, attempt): (u32, u32),
        points: &[OwnPoint],
        end: Option<OwnEnd>,
    ) -> Result<Option<StopReason>, Rejection> {
        let (trial, attempt) = (TrialId(trial), Attempt(attempt));
        let (points, detail, by) = (points.to_vec(), "played".to_owned(), "me".to_owned());
        let term = Term::default();
        let request = TrialObserve { study: study_id(0), trial, attempt, term, points, end, detail, by };
        match self.request(Request::TrialObserve(request), "unused")? {
            Answer::TrialObserved(TrialObserved { stop, .. }) => Ok(stop),
            other => panic!("{other:?}"),
        }
    }

    fn report(&mut self, held: (u32, u32), points: &[OwnPoint], end: Option<OwnEnd>) {
        assert_eq!(self.observe(held, points, end), Ok(None));
    }

    fn lanes_free(&self) -> i64 {
        self.coordinator.free_lanes(&PoolId::default())
    }
}

fn code<T>(answer: Result<T, Rejection>) -> Option<RejectionCode> {
    answer.err().map(|rejection| rejection.code)
}

#[test]
fn a_study_without_any_agent_is_trained_by_whoever_asks() {
    let mut stage = stage(json!({"budget": {"trials": 3, "resource": 4}}));
    for number in 0..3 {
        let suggested = stage.suggest().unwrap();
        let TrialSuggested { trial, attempt, resource, trained, lease_s, .. } = suggested;
        assert_eq!((trial.0, attempt.0, resource, trained, lease_s), (number, 1, 4, 0, LEASE_S));
        assert_eq!(suggested.params, stage.trial(number).proposed.params);
        assert_eq!(suggested.seed, stage.trial(number).proposed.seed);
        let held = (number, 1);
        stage.report(held, &[value(1, 0.1)], None);
        stage.report(held, &[value(2, 0.2), value(3, 0.3)], None);
        stage.report(held, &[value(4, 0.4 + f64::from(number))], Some(OwnEnd::Done));
        assert_eq!(stage.trial(number).phase, Phase::Ended(Outcome::Finished));
        assert_eq!((stage.trial(number).points.len(), stage.trial(number).resource), (4, 4));
    }
    let Some(Record::StudyConcluded(end)) = stage.last("study_concluded") else { panic!("it ends") };
    assert_eq!((&end.reason, end.best.as_ref().unwrap().trial.0), (&StudyEnd::BudgetSpent { trials: 3 }, 2));
    assert!(stage.offers.is_empty(), "nothing was put into a queue");
    assert!(stage.coordinator.study(&study_id(0)).unwrap().is_over());
    assert_eq!(code(stage.suggest()), Some(RejectionCode::Conflict), "it has ended");
}

#[test]
fn callers_take_no_lane_from_agents() {
    let mut stage = stage(json!({"budget": {"trials": 5, "resource": 4}}));
    assert_eq!(stage.suggested(), (0, 1));
    stage.beat("a", 2, &[]);
    assert_eq!(stage.take_offers(), [(1, 1), (2, 1)]);
    assert_eq!(stage.suggested(), (3, 1));
    assert_eq!(stage.lanes_free(), 0);
    stage.wait_ms(1_000 * u64::from(LEASE_S) - 500);
    stage.beat("a", 2, &[]);
    stage.wait_ms(1_000);
    assert_eq!(stage.lanes_free(), 0, "whose lease ended took none");
    assert_eq!(stage.take_offers(), [], "nor is there one for it");
    stage.accept("a", 1, 1);
    stage.finish("a", 1, 1);
    assert_eq!(stage.take_offers(), [(0, 2)], "what was lost comes first");
    assert_eq!(stage.suggested(), (3, 2));
}

#[test]
fn who_is_silent_longer_than_it_said_loses_the_trial_and_what_it_says_then_changes_nothing() {
    let mut stage = stage(json!({"budget": {"trials": 1, "resource": 4}}));
    let first = stage.suggested();
    stage.report(first, &[value(1, 0.1)], None);
    stage.wait_ms(1_000 * u64::from(LEASE_S) - 1);
    assert_eq!(code(stage.suggest()), Some(RejectionCode::NotReady), "somebody has it");
    stage.report(first, &[], None);
    stage.wait_ms(1_000 * u64::from(LEASE_S) - 1);
    assert_eq!(code(stage.suggest()), Some(RejectionCode::NotReady), "the lease was renewed");
    stage.wait_ms(1);
    let second = stage.suggested();
    assert_eq!(second, (0, 2));
    assert!(matches!(stage.last("offered"), Some(Record::Offered(offered))
        if matches!(offered.reason, OfferReason::LeaseLost { .. })));
    assert_eq!(stage.observe(first, &[value(2, 0.9)], None), Ok(Some(StopReason::Superseded)));
    assert_eq!(stage.trial(0).best, Some(0.1));
    stage.report(second, &[value(4, 0.2)], Some(OwnEnd::Done));
    assert_eq!((stage.trial(0).phase.clone(), stage.trial(0).best), (Phase::Ended(Outcome::Finished), Some(0.2)));
    assert_eq!(stage.observe(second, &[], Some(OwnEnd::Done)), Ok(Some(StopReason::Superseded)), "it is over");
}

#[test]
fn what_cannot_be_measured_is_refused_and_changes_nothing() {
    let mut stage = stage(json!({"budget": {"trials": 1, "resource": 4}}));
    let first = stage.suggested();
    stage.report(first, &[value(2, 0.2)], None);
    let records = stage.log.len();
    for points in [
        vec![value(5, 0.5)],
        vec![value(1, 0.1)],
        vec![value(2, 0.9)],
        vec![value(3, 0.3), value(3, 0.4)],
        vec![value(4, 0.4), value(3, 0.3)],
    ] {
        assert_eq!(code(stage.observe(first, &points, None)), Some(RejectionCode::Invalid), "{points:?}");
    }
    assert_eq!(stage.log.len(), records);
    stage.report(first, &[value(2, 0.2)], None);
    stage.wait_ms(1_000 * u64::from(LEASE_S));
    // Whoever has it now may begin anew.
    let second = stage.suggested();
    assert_eq!(second, (0, 2));
    stage.report(second, &[value(1, 0.15), value(2, 0.25)], None);
    // Its answer was lost.
    stage.report(second, &[value(1, 0.15), value(2, 0.25)], None);
    stage.report(second, &[value(4, 0.4)], Some(OwnEnd::Done));
    assert_eq!(stage.trial(0).phase, Phase::Ended(Outcome::Finished));
    assert_eq!(
        stage.observe(first, &[value(9, 0.9)], None),
        Ok(Some(StopReason::Superseded)),
        "it is not asked any more"
    );
}

#[test]
fn who_comes_back_before_anybody_else_got_the_trial_goes_on() {
    let mut stage = stage(json!({"budget": {"trials": 1, "resource": 4}}));
    let held = stage.suggested();
    stage.wait_ms(2_000 * u64::from(LEASE_S));
    stage.report(held, &[value(1, 0.1)], None);
    assert_eq!(code(stage.suggest()), Some(RejectionCode::NotReady), "it has it again");
    stage.wait_ms(1_000 * u64::from(LEASE_S) - 1);
    assert_eq!(code(stage.suggest()), Some(RejectionCode::NotReady));
    stage.wait_ms(1);
    assert_eq!(stage.suggested(), (0, 2));
}

#[test]
fn a_caller_learns_that_its_trial_was_stopped_and_the_study_does_not_wait_for_it() {
    let stopper = json!({"name": "threshold", "lower": 0.5});
    let mut stage = stage(json!({"budget": {"trials": 1, "resource": 4}, "stopper": stopper}));
    let held = stage.suggested();
    stage.report(held, &[value(2, 0.1)], None);
    assert_eq!(stage.trial(0).phase, Phase::Ended(Outcome::Stopped));
    assert!(stage.coordinator.study(&study_id(0)).unwrap().is_over());
    let stop = stage.observe(held, &[value(3, 0.9)], None).unwrap();
    assert!(matches!(stop, Some(StopReason::Threshold { resource: 2, .. })), "{stop:?}");
    assert_eq!(stage.trial(0).best, Some(0.1));
}

#[test]
fn a_trial_at_its_rung_is_set_aside_and_goes_on_with_whoever_asks_when_it_is_promoted() {
    let stopper = json!({"name": "asha", "eta": 2, "min_resource": 1, "mode": "promote"});
    let mut stage = stage(json!({"budget": {"trials": 4, "resource": 4}, "stopper": stopper}));
    for (trial, x) in [(0, 0.1), (1, 0.9)] {
        let suggested = stage.suggest().unwrap();
        assert_eq!((suggested.trial.0, suggested.resource), (trial, 1));
        stage.report((trial, 1), &[value(1, x)], Some(OwnEnd::Done));
        assert_eq!(stage.trial(trial).phase, Phase::Paused);
    }
    let promoted = stage.suggest().unwrap();
    assert_eq!((promoted.trial.0, promoted.attempt.0, promoted.resource, promoted.trained), (1, 2, 2, 1));
    assert_eq!(stage.trial(1).promotions, 1);
}

#[test]
fn a_failure_ends_the_trial_and_what_is_given_back_is_given_again() {
    let mut stage = stage(json!({"budget": {"trials": 2, "resource": 4}}));
    let held = stage.suggested();
    stage.report(held, &[], Some(OwnEnd::Released));
    let again = stage.suggested();
    assert_eq!(again, (0, 2));
    stage.report(again, &[value(1, 0.1)], Some(OwnEnd::Failed));
    assert_eq!(stage.trial(0).phase, Phase::Ended(Outcome::Failed));
    assert_eq!(stage.trial(0).failure.as_ref().unwrap().cause, FailCause::Program);
    let diverging = stage.suggested();
    stage.report(diverging, &[value(1, f64::NAN)], None);
    assert_eq!(stage.observe(diverging, &[], None), Ok(Some(StopReason::Failed { cause: FailCause::Diverged })));
}

#[test]
fn a_coordinator_that_begins_anew_knows_who_holds_what_and_for_how_long() {
    let mut stage = stage(json!({"budget": {"trials": 2, "resource": 4}}));
    let held = stage.suggested();
    stage.report(held, &[value(1, 0.1), value(2, 0.2)], None);
    stage.restart();
    assert!(stage.offers.is_empty(), "it lies in no queue");
    stage.wait_ms(1_000 * u64::from(LEASE_S) - 1);
    stage.report(held, &[value(3, 0.3)], None);
    stage.restart();
    stage.report(held, &[value(4, 0.4)], Some(OwnEnd::Done));
    assert_eq!((stage.trial(0).points.len(), stage.trial(0).phase.clone()), (4, Phase::Ended(Outcome::Finished)));
    stage.suggested();
    stage.restart();
    stage.wait_ms(1_000 * u64::from(LEASE_S));
    assert_eq!(stage.suggested(), (1, 2));
}

#[test]
fn a_trial_that_agents_lost_may_be_a_caller_s_next_and_the_other_way_round() {
    let mut stage = stage(json!({"budget": {"trials": 1, "resource": 4}}));
    stage.beat("a", 1, &[]);
    stage.accept("a", 0, 1);
    stage.wait_ms(6_000);
    assert_eq!(stage.suggested(), (0, 2));
    stage.beat("b", 1, &[]);
    assert_eq!((stage.take_offers(), stage.lanes_free()), (vec![(0, 1)], 1));
    stage.report((0, 2), &[], Some(OwnEnd::Released));
    assert_eq!((stage.take_offers(), stage.lanes_free()), (vec![(0, 3)], 0));
}

#[test]
fn what_is_wrong_with_a_request_is_said() {
    let mut stage = stage(json!({"budget": {"trials": 2, "resource": 4}}));
    let held = stage.suggested();
    let mut with_too_much = value(0, 0.5);
    with_too_much.elapsed_s = f64::NAN;
    with_too_much.metrics.extend((0..100).map(|number| (format!("m{number}"), 0.0)));
    let rejection = stage.observe(held, &[with_too_much], None).unwrap_err();
    let paths: Vec<&str> = rejection.faults.iter().map(|fault| fault.path.as_str()).collect();
    assert_eq!(paths, ["points[0].resource", "points[0].elapsed_s", "points[0].metrics"]);
    assert_eq!(code(stage.observe(held, &vec![value(1, 0.5); 65], None)), Some(RejectionCode::Invalid));
    assert_eq!(code(stage.observe((7, 1), &[], None)), Some(RejectionCode::NotFound));
    assert_eq!(stage.count("measured"), 0);
    let forever = TrialSuggest { study: study_id(0), lease_s: 0, by: "me".to_owned() };
    assert_eq!(code(stage.request(Request::TrialSuggest(forever), "unused")), Some(RejectionCode::Invalid));
    let by_agent = (1, 1);
    stage.beat("a", 1, &[]);
    stage.accept("a", 1, 1);
    assert_eq!(stage.observe(by_agent, &[value(1, 0.5)], None), Ok(Some(StopReason::Superseded)), "an agent has it");
    stage.request(Request::StudyPause(StudyRequest { study: study_id(0), by: "me".into() }), "unused").unwrap();
    assert_eq!(code(stage.suggest()), Some(RejectionCode::NotReady), "it is paused");
}

#[test]
fn a_study_whose_sampler_is_elsewhere_has_trials_for_callers_only_where_they_are_laid_down() {
    let sampler = json!({"name": "external", "service": "mine"});
    let mut stage = stage(json!({"sampler": sampler, "initial": [{"x": 0.5}]}));
    assert_eq!(stage.suggested(), (0, 1));
    assert_eq!(code(stage.suggest()), Some(RejectionCode::Conflict));
}
