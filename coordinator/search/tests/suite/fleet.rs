//! Leases, lanes and shares: short stories of agents that come, go and fall silent.

use std::time::Duration;

use regatta_schemas::api::{Request, StudyList};
use regatta_schemas::limits::LIMITS;
use regatta_schemas::log::{Lineage, Place, Record};
use regatta_schemas::reasons::{FailCause, OfferReason, Outcome, ReleaseReason, StopReason};
use regatta_schemas::{Attempt, Term, TrialId};
use regatta_search::simulator::study_id;
use regatta_search::study::Phase;
use regatta_search::{Answer, Coordinator, Event, Settings, Time};
use serde_json::json;

use crate::files::study;
use crate::stage::{Stage, agent, of_study, of_trial, one_held};

fn waiting_for(stage: &mut Stage) -> Option<String> {
    let Ok(Answer::StudyList(StudyList { studies })) = stage.request(Request::StudyList, "x") else {
        panic!("no list")
    };
    studies[0].waiting_for.clone()
}

#[test]
fn what_nobody_has_accepted_is_sent_again_once_the_way_to_the_fleet_is_whole() {
    let mut stage = Stage::new(vec![study(json!({}))]);
    stage.beat("a", 2, &[]);
    stage.accept("a", 0, 1);
    assert_eq!(stage.take_offers(), [(0, 1), (1, 1)]);
    stage.tell(Event::ConnectionRestored);
    assert_eq!(stage.take_offers(), [(1, 1)], "the same attempt, and not the one that is held");
    stage.accept("a", 1, 1);
    stage.tell(Event::ConnectionRestored);
    assert_eq!(stage.take_offers(), []);
}

#[test]
fn a_configuration_is_drawn_when_a_lane_is_free_and_not_before() {
    let mut stage = Stage::new(vec![study(json!({}))]);
    assert_eq!(stage.count("proposed"), 0, "no agent yet");
    stage.beat("a", 2, &[]);
    assert_eq!(stage.count("proposed"), 2);
    stage.accept("a", 0, 1);
    stage.measure("a", 0, 1, 4, 0.5);
    assert_eq!(stage.count("proposed"), 2);
    stage.finish("a", 0, 1);
    assert_eq!(stage.count("proposed"), 3);
}

#[test]
fn a_backlog_shows_demand_even_to_an_empty_pool() {
    let settings = Settings { backlog: 2, ..Settings::default() };
    let mut stage = Stage::with(settings, vec![study(json!({}))]);
    assert_eq!(stage.take_offers(), [(0, 1), (1, 1)]);
    stage.beat("a", 1, &[]);
    assert_eq!(stage.take_offers(), [(2, 1)]);
}

#[test]
fn silent_agent_loses_its_lease_and_the_trial_goes_on_from_its_checkpoint() {
    let mut stage = one_held();
    stage.checkpoint("a", 0, 1, 2, "c2");
    stage.wait_ms(4_000);
    stage.beat("b", 1, &[]);
    let _first_of_b = stage.take_offers();
    stage.accept("b", 1, 1);
    stage.finish("b", 1, 1);
    stage.accept("b", 2, 1);
    stage.take_offers();
    stage.beat("b", 2, &[(0, 2, 1)]);
    stage.take_offers();
    stage.wait_ms(1_000);
    stage.beat("b", 2, &[(0, 2, 1)]);
    stage.finish("b", 2, 1);
    assert_eq!(stage.take_offers(), [(0, 2)], "the lost trial goes before new ones");
    let Some(Record::Offered(offered)) = stage.last("offered") else { panic!("no offer") };
    assert_eq!(offered.reason, OfferReason::LeaseLost { agent: agent("a"), silent_ms: 5_000 });
    assert_eq!(offered.resume.as_ref().map(|checkpoint| checkpoint.object.as_str()), Some("c2"));
}

#[test]
fn what_a_lost_agent_still_sends_changes_nothing_and_is_answered_with_a_stop() {
    let mut stage = one_held();
    stage.wait_ms(6_000);
    stage.beat("b", 1, &[]);
    assert_eq!(stage.take_offers(), [(0, 2)]);
    assert_eq!(stage.stops.len(), 1, "it is told, should it hear");
    assert!(
        stage.stops[0].1.is_for(&agent("a"), Attempt(1), Term(0))
            && !stage.stops[0].1.is_for(&agent("b"), Attempt(2), Term(0))
    );
    stage.stops.clear();
    let before = stage.trial(0).clone();
    stage.measure("a", 0, 1, 1, 0.9);
    assert_eq!(*stage.trial(0), before);
    let [(Some(TrialId(0)), stop)] = &stage.stops[..] else { panic!("{:?}", stage.stops) };
    assert_eq!((stop.attempt, &stop.agent), (Some(Attempt(1)), &Some(agent("a"))));
    assert_eq!(stop.reason, StopReason::Superseded);
}

#[test]
fn a_beat_renews_the_leases_that_it_lists_and_no_others() {
    let mut stage = one_held();
    for _ in 0..4 {
        stage.wait_ms(1_000);
        stage.beat("a", 1, &[(0, 0, 1)]);
    }
    for _ in 0..4 {
        stage.wait_ms(1_000);
        stage.beat("a", 1, &[]);
    }
    assert_eq!(stage.take_offers(), [], "8 s since the offer, 4 s since it was listed");
    stage.wait_ms(1_000);
    stage.beat("a", 1, &[]);
    assert_eq!(stage.take_offers(), [(0, 2)]);
}

#[test]
fn a_lost_agent_that_is_back_in_time_keeps_its_trial() {
    let mut stage = one_held();
    stage.wait_ms(60_000);
    assert_eq!(stage.take_offers(), [], "there is no lane to offer it to");
    stage.beat("a", 1, &[(0, 0, 1)]);
    assert_eq!(stage.take_offers(), []);
    stage.finish("a", 0, 1);
    assert_eq!(stage.trial(0).phase, Phase::Ended(Outcome::Finished));
}

#[test]
fn a_restart_gives_every_lease_a_fresh_grace_and_repeats_nothing() {
    let mut stage = one_held();
    stage.wait_ms(4_900);
    let written = stage.log.len();
    stage.restart();
    stage.beat("b", 1, &[]);
    stage.take_offers();
    stage.wait_ms(4_900);
    stage.beat("a", 1, &[(0, 0, 1)]);
    stage.wait_ms(1_000);
    assert_eq!(stage.trial(0).attempt, Attempt(1));
    assert_eq!(stage.log[written..].iter().filter(|(place, ..)| place.trial == Some(TrialId(0))).count(), 0);
}

#[test]
fn an_offer_that_may_never_have_been_sent_is_sent_again_after_a_restart() {
    let mut stage = Stage::new(vec![study(json!({}))]);
    stage.beat("a", 1, &[]);
    assert_eq!(stage.take_offers(), [(0, 1)]);
    stage.restart();
    assert_eq!(stage.take_offers(), [(0, 1)], "the same attempt, not another");
}

#[test]
fn a_trial_that_the_log_never_took_is_proposed_by_whoever_leads_next() {
    let mut stage = Stage::new(vec![study(json!({}))]);
    stage.beat("a", 3, &[]);
    let of_trial_1 = |entry: &&(Place, Record, Time)| entry.0.trial == Some(TrialId(1));
    let decided: Vec<_> = stage.log.iter().filter(of_trial_1).cloned().collect();
    // The server put off one message, took those after it, and its coordinator was deposed before it sent it again.
    stage.log.retain(|entry| !(of_trial_1(&entry) && matches!(entry.1, Record::Proposed(_))));
    stage.take_offers();
    stage.restart();
    stage.beat("a", 4, &[]);
    let again: Vec<_> = stage.log.iter().filter(of_trial_1).skip(1).cloned().collect();
    let records = |log: &[(Place, Record, Time)]| log.iter().map(|(_, record, _)| record.clone()).collect::<Vec<_>>();
    assert_eq!(
        records(&again),
        records(&decided),
        "its number, its configuration and its seed are those that were lost"
    );
    assert!(stage.take_offers().contains(&(1, 1)));
    assert!(
        matches!(stage.trial(3).proposed.lineage, Lineage::Sampled { index: 3, .. }),
        "what comes next follows the last"
    );
}

#[test]
fn the_first_to_accept_holds_the_attempt_and_the_second_is_stopped() {
    let mut stage = one_held();
    stage.accept("b", 0, 1);
    let [(Some(TrialId(0)), stop)] = &stage.stops[..] else { panic!("{:?}", stage.stops) };
    assert!(stop.is_for(&agent("b"), Attempt(1), Term(0)) && !stop.is_for(&agent("a"), Attempt(1), Term(0)));
    stage.finish("b", 0, 1);
    assert_eq!(stage.trial(0).phase, Phase::Held);
}

#[test]
fn a_draining_agent_gives_its_trial_to_another() {
    let mut stage = one_held();
    stage.checkpoint("a", 0, 1, 1, "c1");
    stage.beat("a", 0, &[(0, 0, 1)]);
    stage.release("a", 0, 1, ReleaseReason::Draining);
    assert_eq!(stage.take_offers(), [], "a draining agent takes nothing");
    stage.beat("b", 1, &[]);
    assert_eq!(stage.take_offers(), [(0, 2)]);
    let Some(Record::Offered(offered)) = stage.last("offered") else { panic!("no offer") };
    assert_eq!(offered.reason, OfferReason::Released { agent: agent("a") });
    assert!(offered.resume.is_some());
}

#[test]
fn a_failure_is_retried_if_a_retry_can_mend_it_and_so_often_as_the_study_says() {
    for (cause, retries, attempts) in [
        (FailCause::Device, 2, 3),
        (FailCause::Device, 0, 1),
        (FailCause::Configuration, 2, 1),
        (FailCause::OutOfMemory, 2, 1),
        (FailCause::Diverged, 2, 1),
    ] {
        let mut stage = Stage::new(vec![study(json!({"retries": retries}))]);
        stage.beat("a", 1, &[]);
        let mut attempt = 0;
        while stage.take_offers().contains(&(0, attempt + 1)) {
            attempt += 1;
            stage.accept("a", 0, attempt);
            stage.fail("a", 0, attempt, cause);
        }
        assert_eq!(attempt, attempts, "{cause}");
        assert_eq!(stage.trial(0).phase, Phase::Ended(Outcome::Failed), "{cause}");
        assert_eq!(stage.trial(0).failure.as_ref().map(|failure| failure.cause), Some(cause));
    }
}

#[test]
fn a_trial_that_kills_its_agents_is_set_aside_while_one_that_is_given_back_is_not() {
    let mut stage = one_held();
    let lose = |stage: &mut Stage, attempt: u32| {
        stage.wait_ms(5_000);
        stage.beat("a", 1, &[]);
        let is_offered = stage.take_offers().contains(&(0, attempt + 1));
        if is_offered {
            stage.accept("a", 0, attempt + 1);
        }
        is_offered
    };
    assert!(lose(&mut stage, 1) && lose(&mut stage, 2));
    // It gets further: what was lost before does not count any more.
    stage.measure("a", 0, 3, 1, 0.5);
    assert!(lose(&mut stage, 3));
    stage.checkpoint("a", 0, 4, 1, "object");
    assert!(lose(&mut stage, 4));
    for attempt in 5..8 {
        stage.release("a", 0, attempt, ReleaseReason::Draining);
        assert!(stage.take_offers().contains(&(0, attempt + 1)));
        stage.accept("a", 0, attempt + 1);
    }
    assert!(lose(&mut stage, 8));
    assert!(!lose(&mut stage, 9), "three lost in a row, and what was measured before was not measured again");
    assert_eq!(stage.trial(0).phase, Phase::Ended(Outcome::Failed));
    assert_eq!(stage.trial(0).failure.as_ref().map(|failure| failure.cause), Some(FailCause::AgentLost));
}

#[test]
fn a_trial_that_nobody_can_keep_fails_after_its_last_attempt() {
    let mut stage = one_held();
    for attempt in 2..=LIMITS.attempts_max {
        stage.checkpoint("a", 0, attempt - 1, attempt, "object");
        stage.wait_ms(5_000);
        stage.beat("a", 1, &[]);
        assert_eq!(stage.take_offers(), [(0, attempt)]);
        stage.accept("a", 0, attempt);
    }
    stage.wait_ms(5_000);
    assert_eq!(stage.trial(0).phase, Phase::Ended(Outcome::Failed));
    assert_eq!(stage.trial(0).failure.as_ref().map(|failure| failure.cause), Some(FailCause::AgentLost));
}

#[test]
fn a_metric_that_is_no_number_fails_the_trial_alone_and_its_best_is_forgotten() {
    let mut stage = Stage::new(vec![study(json!({}))]);
    stage.beat("a", 2, &[]);
    stage.accept("a", 0, 1);
    stage.accept("a", 1, 1);
    stage.measure("a", 0, 1, 1, 0.9);
    stage.measure("a", 1, 1, 1, 0.4);
    stage.measure("a", 0, 1, 2, f64::NAN);
    assert_eq!(stage.trial(0).phase, Phase::Ended(Outcome::Failed));
    let [(Some(TrialId(0)), stop)] = &stage.stops[..] else { panic!("{:?}", stage.stops) };
    assert_eq!(stop.reason, StopReason::Failed { cause: FailCause::Diverged });
    let best = stage.coordinator.study(&study_id(0)).unwrap().state().best.clone().unwrap();
    assert_eq!((best.trial, best.value), (TrialId(1), 0.4));
}

#[test]
fn a_stopped_trial_keeps_its_lane_until_its_agent_lets_go() {
    let mut stage = one_held();
    stage.request(Request::TrialStop(of_trial(0)), "x").unwrap();
    assert_eq!(stage.trial(0).phase, Phase::Ended(Outcome::Stopped));
    assert_eq!(stage.take_offers(), []);
    stage.stops.clear();
    stage.measure("a", 0, 1, 1, 0.5);
    assert_eq!(stage.stops.len(), 1, "it reports, so it did not hear the stop");
    assert_eq!(stage.trial(0).points.len(), 0, "what comes after the end does not count");
    stage.beat("a", 1, &[(0, 0, 1)]);
    assert_eq!(stage.stops.len(), 2, "it says that it holds it, so it did not hear the stop");
    stage.release("a", 0, 1, ReleaseReason::Stopped);
    assert_eq!(stage.take_offers(), [(1, 1)]);
}

#[test]
fn the_lane_of_a_stopped_trial_whose_agent_is_gone_counts_no_more() {
    let mut stage = one_held();
    stage.request(Request::TrialStop(of_trial(0)), "x").unwrap();
    stage.wait_ms(5_000);
    stage.beat("b", 1, &[]);
    assert_eq!(stage.take_offers(), [(1, 1)]);
}

#[test]
fn free_lanes_go_by_weight() {
    let budget = json!({"trials": 100, "resource": 4});
    let light = study(json!({"budget": budget}));
    let heavy = study(json!({"budget": budget, "weight": 3.0}));
    let mut stage = Stage::new(vec![light, heavy]);
    stage.beat("a", 8, &[]);
    let of = |number| stage.offers.iter().filter(|offer| offer.study == study_id(number)).count();
    assert_eq!((of(0), of(1)), (2, 6));
}

#[test]
fn a_pool_trains_its_own_studies_only() {
    let mut stage = Stage::new(vec![study(json!({"pool": "gpu"})), study(json!({}))]);
    stage.beat_in("gpu", "a", 1, &[]);
    assert_eq!(stage.offers.iter().map(|offer| offer.study.clone()).collect::<Vec<_>>(), [study_id(0)]);
}

#[test]
fn a_study_says_what_it_waits_for() {
    let mut stage = Stage::new(vec![study(json!({}))]);
    assert_eq!(waiting_for(&mut stage).as_deref(), Some("no agent in pool `default`"));
    stage.beat("a", 1, &[]);
    assert_eq!(waiting_for(&mut stage).as_deref(), Some("no free lane"));
    stage.accept("a", 0, 1);
    assert_eq!(waiting_for(&mut stage), None);
    stage.wait_ms(6_000);
    assert_eq!(waiting_for(&mut stage).as_deref(), Some("no agent in pool `default`"));
    stage.request(Request::StudyPause(of_study(0)), "x").unwrap();
    assert_eq!(waiting_for(&mut stage).as_deref(), Some("paused"));
}

#[test]
fn a_paused_study_starts_nothing_and_lets_what_runs_end() {
    let mut stage = one_held();
    stage.request(Request::StudyPause(of_study(0)), "x").unwrap();
    stage.finish("a", 0, 1);
    assert_eq!(stage.take_offers(), []);
    stage.request(Request::StudyResume(of_study(0)), "x").unwrap();
    assert_eq!(stage.take_offers(), [(1, 1)]);
}

#[test]
fn an_attempt_that_the_log_forgot_is_not_taken_for_its_namesake() {
    let settings = Settings { term: Term(6), ..Settings::default() };
    let mut stage = Stage::with(settings, vec![study(json!({"budget": {"trials": 1, "resource": 4}}))]);
    stage.beat("a", 1, &[]);
    assert_eq!(stage.offers.last().map(|offer| offer.term), Some(Term(6)));
    stage.stops.clear();
    stage.term = Term(5);
    stage.accept("a", 0, 1);
    stage.measure("a", 0, 1, 1, 0.5);
    assert_eq!((&stage.trial(0).phase, stage.trial(0).points.len()), (&Phase::Offered, 0));
    let stop = &stage.stops[0].1;
    assert!(stop.is_for(&agent("a"), Attempt(1), Term(5)) && !stop.is_for(&agent("a"), Attempt(1), Term(6)));
    stage.term = Term(6);
    stage.accept("a", 0, 1);
    // Whoever does not repeat the term is believed.
    stage.term = Term(0);
    stage.measure("a", 0, 1, 1, 0.7);
    assert_eq!((&stage.trial(0).phase, stage.trial(0).best), (&Phase::Held, Some(0.7)));
}

#[test]
fn records_read_twice_or_out_of_order_count_once() {
    let mut stage = one_held();
    stage.measure("a", 0, 1, 2, 0.5);
    stage.measure("a", 0, 1, 1, 0.3);
    let after = stage.trial(0).clone();
    assert_eq!(after.points.iter().map(|point| point.resource).collect::<Vec<_>>(), [1, 2]);
    for (place, record, at) in stage.log.clone().into_iter().skip(2) {
        if record.key().is_some() {
            stage.tell(Event::Logged { place, record, at });
        }
    }
    assert_eq!(*stage.trial(0), after);
}

#[test]
fn lanes_used_are_told_between_the_first_offer_and_the_last() {
    let mut stage = Stage::new(vec![study(json!({"budget": {"trials": 2, "resource": 4}}))]);
    stage.beat("a", 1, &[]);
    stage.accept("a", 0, 1);
    for _ in 0..9 {
        stage.wait_ms(1_000);
        stage.beat("a", 1, &[(0, 0, 1)]);
    }
    stage.beat("a", 0, &[(0, 0, 1)]);
    stage.finish("a", 0, 1);
    stage.wait_ms(1_000);
    stage.beat("a", 1, &[]);
    let used = stage.coordinator.study(&study_id(0)).unwrap().state().lanes.used().unwrap();
    assert_eq!((used.lanes, used.busy_s, used.idle_s), (1, 9.0, 1.0));
}

#[test]
fn nothing_foreign_in_the_log_hurts() {
    let mut stage = one_held();
    let before = stage.trial(0).clone();
    let at = Time::default();
    for place in
        [Place::trial(study_id(0), TrialId(99)), Place::trial(study_id(7), TrialId(0)), Place::study(study_id(0))]
    {
        for (_, record, _) in stage.log.clone().into_iter().skip(1) {
            stage.tell(Event::Logged { place: place.clone(), record, at });
        }
        stage.tell(Event::Logged { place, record: Record::Unknown, at });
    }
    assert_eq!(*stage.trial(0), before);
}

#[test]
fn a_sequence_number_that_was_read_is_not_read_again_whatever_it_holds() {
    let mut stage = one_held();
    stage.measure("a", 0, 1, 1, 0.5);
    let after = stage.trial(0).clone();
    let (place, record, _) = stage.log.last().cloned().unwrap();
    let Record::Measured(mut other) = record else { panic!("{record:?}") };
    other.points[0].step += 1;
    stage.write(place, Record::Measured(other));
    assert_eq!(*stage.trial(0), after);
}

#[test]
fn the_time_that_a_replay_takes_is_nobodys_silence() {
    let mut stage = one_held();
    stage.coordinator = Coordinator::new(Settings::default());
    for (place, record, at) in stage.log.clone() {
        stage.tell(Event::Logged { place, record, at });
    }
    stage.now = stage.now + Duration::from_secs(60);
    stage.tell(Event::CaughtUp);
    stage.wait_ms(4_900);
    stage.beat("b", 2, &[]);
    assert_eq!(stage.trial(0).attempt, Attempt(1));
    stage.wait_ms(200);
    assert_eq!(stage.trial(0).attempt, Attempt(2));
}

#[test]
fn a_beat_that_lists_an_earlier_attempt_renews_nothing() {
    let mut stage = one_held();
    stage.wait_ms(5_000);
    stage.beat("a", 1, &[]);
    assert_eq!(stage.take_offers(), [(0, 2)]);
    stage.accept("a", 0, 2);
    for _ in 0..5 {
        stage.wait_ms(1_000);
        stage.beat("a", 1, &[(0, 0, 1)]);
    }
    assert_eq!(stage.take_offers(), [(0, 3)]);
}

#[test]
fn a_trial_that_has_spent_its_resource_is_not_stopped_any_more() {
    let stopper = json!({"name": "median", "es_min": 1});
    let mut stage = Stage::new(vec![study(json!({"stopper": stopper}))]);
    stage.beat("a", 1, &[]);
    for (trial, value) in [(0, 0.9), (1, 0.1)] {
        stage.accept("a", trial, 1);
        stage.measure("a", trial, 1, 4, value);
        stage.finish("a", trial, 1);
    }
    assert_eq!(stage.trial(1).phase, Phase::Ended(Outcome::Finished));
    assert_eq!(stage.count("stopped"), 0);
}
