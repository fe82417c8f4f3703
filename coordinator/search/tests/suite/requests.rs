//! What is asked of the coordinator, and its answers.

use regatta_schemas::api::{Rejection, RejectionCode, Request, StudyCreate, StudyRequest, TrialRequest, TrialSubmit};
use regatta_schemas::log::{Lineage, Record};
use regatta_schemas::reasons::Outcome;
use regatta_schemas::{PoolId, StudyId, TrialId};
use regatta_search::simulator::study_id;
use regatta_search::study::Phase;
use regatta_search::{Answer, Coordinator, Settings, Time};
use serde_json::{Value, json};

use crate::files::{recipe_json, study, study_json};
use crate::stage::Stage;

fn submit(study: Option<&str>, recipe: Option<Value>, params: Value) -> TrialSubmit {
    TrialSubmit {
        study: study.map(|id| StudyId::new(id).unwrap()),
        resource: recipe.is_some().then_some(3),
        recipe,
        params,
        pool: PoolId::default(),
        priority: 0,
        labels: Default::default(),
        by: "me".into(),
    }
}

fn of_study(id: &str) -> StudyRequest {
    StudyRequest { study: StudyId::new(id).unwrap(), by: "me".into() }
}

fn code(answer: Result<Answer, Rejection>) -> Option<RejectionCode> {
    answer.err().map(|rejection| rejection.code)
}

#[test]
fn nothing_is_answered_before_the_log_is_read() {
    let mut coordinator = Coordinator::new(Settings::default());
    let answer = coordinator.request(Time::default(), &Request::StudyList, study_id(0));
    assert_eq!(code(answer), Some(RejectionCode::NotReady));
}

#[test]
fn a_sound_study_file_starts_a_study_and_an_unsound_one_is_told_all_its_faults() {
    let mut stage = Stage::new(vec![]);
    let create = |file: Value| Request::StudyCreate(StudyCreate { study: file, by: "me".into() });
    stage.beat("a", 1, &[]);
    let rejection = stage.request(create(json!({"name": "x"})), "s").unwrap_err();
    assert!(rejection.code == RejectionCode::Invalid && rejection.faults.len() >= 3, "{rejection:?}");
    assert!(stage.log.is_empty());
    let answer = stage.request(create(study_json(json!({}))), "s").unwrap();
    assert!(matches!(answer, Answer::StudyStarted(started) if started.study.as_str() == "s"));
    assert_eq!(stage.take_offers(), [(0, 1)]);
    assert_eq!(code(stage.request(create(study_json(json!({}))), "s")), Some(RejectionCode::Conflict));
}

#[test]
fn a_submitted_trial_goes_before_new_proposals_by_priority_and_counts_in_the_budget() {
    let mut stage = Stage::new(vec![study(json!({"budget": {"trials": 4, "resource": 4}}))]);
    for (x, priority) in [(0.25, 0), (0.5, 9), (0.75, 0)] {
        let request = TrialSubmit { priority, ..submit(Some("study-0"), None, json!({"x": x})) };
        stage.request(Request::TrialSubmit(request), "x").unwrap();
    }
    stage.beat("a", 4, &[]);
    assert_eq!(stage.take_offers(), [(1, 1), (0, 1), (2, 1), (3, 1)]);
    assert_eq!(stage.trial(1).proposed.lineage, Lineage::Submitted { by: "me".into() });
    assert_eq!(stage.trial(3).proposed.lineage, Lineage::Sampled { index: 0, fallback: None }, "the sampler's first");
    let late = stage.request(Request::TrialSubmit(submit(Some("study-0"), None, json!({"x": 0.1}))), "x");
    assert_eq!(code(late), Some(RejectionCode::Conflict), "the budget is spent");
}

#[test]
fn a_submitted_trial_must_fit_its_study() {
    let mut stage = Stage::new(vec![study(json!({}))]);
    for (request, path) in [
        (submit(Some("study-0"), None, json!({"x": 3.0})), "params.x"),
        (submit(Some("study-0"), None, json!({"x": 0.5, "y": 1})), "params.y"),
        (submit(Some("study-0"), None, json!({})), "params.x"),
        (submit(None, Some(json!({})), json!({})), "recipe"),
        (submit(None, Some(recipe_json(0.1.into())), json!({"x": 1})), "params"),
        (TrialSubmit { resource: None, ..submit(None, Some(recipe_json(0.1.into())), Value::Null) }, "resource"),
        (TrialSubmit { resource: Some(3), ..submit(Some("study-0"), None, json!({"x": 0.5})) }, "resource"),
        (submit(None, None, Value::Null), ""),
        (submit(Some("study-0"), Some(json!({})), Value::Null), ""),
    ] {
        let rejection = stage.request(Request::TrialSubmit(request.clone()), "x").unwrap_err();
        assert_eq!(rejection.code, RejectionCode::Invalid);
        let is_told = rejection.faults.iter().any(|fault| fault.path.starts_with(path));
        assert!(is_told, "{request:?}: {rejection:?}");
    }
    let nowhere = stage.request(Request::TrialSubmit(submit(Some("nowhere"), None, json!({}))), "x");
    assert_eq!(code(nowhere), Some(RejectionCode::NotFound));
    assert_eq!(stage.count("proposed"), 0);
}

#[test]
fn a_bare_recipe_becomes_a_study_of_one_trial() {
    let mut stage = Stage::new(vec![]);
    stage.beat("a", 3, &[]);
    let request = submit(None, Some(recipe_json(0.1.into())), Value::Null);
    let Ok(Answer::TrialSubmitted(answer)) = stage.request(Request::TrialSubmit(request), "study-0") else {
        panic!("refused");
    };
    assert_eq!((answer.study, answer.trial), (study_id(0), TrialId(0)));
    assert_eq!(answer.log_subject, "regatta.v1.log.study-0.0.>");
    assert_eq!((stage.take_offers(), stage.count("proposed")), (vec![(0, 1)], 1));
    stage.accept("a", 0, 1);
    stage.finish("a", 0, 1);
    assert_eq!(stage.trial(0).phase, Phase::Ended(Outcome::Finished));
    assert!(matches!(stage.last("study_concluded"), Some(Record::StudyConcluded(_))));
}

#[test]
fn what_has_ended_cannot_be_changed_and_only_what_has_ended_can_be_deleted() {
    let mut stage = Stage::new(vec![study(json!({}))]);
    stage.beat("a", 1, &[]);
    stage.accept("a", 0, 1);
    stage.checkpoint("a", 0, 1, 1, "c1");
    let trial = TrialRequest { study: study_id(0), trial: TrialId(0), by: "me".into() };
    assert_eq!(code(stage.request(Request::StudyDelete(of_study("study-0")), "x")), Some(RejectionCode::Conflict));
    stage.request(Request::TrialStop(trial.clone()), "x").unwrap();
    assert_eq!(code(stage.request(Request::TrialStop(trial.clone()), "x")), Some(RejectionCode::Conflict));
    stage.request(Request::StudyStop(of_study("study-0")), "x").unwrap();
    for request in [
        Request::StudyStop(of_study("study-0")),
        Request::StudyPause(of_study("study-0")),
        Request::StudyResume(of_study("study-0")),
        Request::TrialSubmit(submit(Some("study-0"), None, json!({"x": 0.5}))),
    ] {
        assert_eq!(code(stage.request(request.clone(), "x")), Some(RejectionCode::Conflict), "{request:?}");
    }
    assert!(stage.request(Request::TrialShow(trial.clone()), "x").is_ok());
    stage.request(Request::StudyDelete(of_study("study-0")), "x").unwrap();
    assert_eq!((&stage.deleted_studies[..], &stage.deleted[..]), (&[study_id(0)][..], &["c1".to_owned()][..]));
    for request in [
        Request::StudyShow(of_study("study-0")),
        Request::StudyDelete(of_study("study-0")),
        Request::TrialList(of_study("study-0")),
        Request::TrialShow(trial.clone()),
        Request::TrialStop(trial.clone()),
    ] {
        assert_eq!(code(stage.request(request.clone(), "x")), Some(RejectionCode::NotFound), "{request:?}");
    }
    stage.stops.clear();
    stage.measure("a", 0, 1, 1, 0.5);
    assert_eq!(stage.stops.len(), 1, "whoever still trains for it is told to stop");
}

#[test]
fn a_study_that_was_forgotten_stays_so_for_whoever_reads_the_log() {
    let mut stage = Stage::new(vec![study(json!({}))]);
    stage.request(Request::StudyStop(of_study("study-0")), "x").unwrap();
    stage.request(Request::StudyDelete(of_study("study-0")), "x").unwrap();
    stage.deleted_studies.clear();
    stage.restart();
    assert_eq!(stage.deleted_studies, [study_id(0)], "what may be left of it is removed");
    assert_eq!(code(stage.request(Request::StudyShow(of_study("study-0")), "x")), Some(RejectionCode::NotFound));
}

#[test]
fn reads_show_what_the_log_says() {
    let mut stage = Stage::new(vec![study(json!({}))]);
    stage.beat("a", 2, &[]);
    stage.accept("a", 0, 1);
    stage.measure("a", 0, 1, 1, 0.5);
    stage.measure("a", 0, 1, 2, 0.4);
    let Ok(Answer::StudyShown(shown)) = stage.request(Request::StudyShow(of_study("study-0")), "x") else { panic!() };
    let counts = shown.summary.trials;
    assert_eq!((counts.running, counts.waiting, shown.summary.resource_spent), (1, 1, 2));
    assert_eq!(shown.summary.best.map(|best| best.value), Some(0.5));
    let Ok(Answer::TrialList(list)) = stage.request(Request::TrialList(of_study("study-0")), "x") else { panic!() };
    assert_eq!(list.trials.len(), 2);
    assert_eq!((list.trials[0].best, list.trials[0].metrics.len()), (Some(0.5), 1));
    let Ok(Answer::FleetShown(fleet)) = stage.request(Request::FleetShow, "x") else { panic!() };
    assert_eq!((fleet.agents.len(), fleet.agents[0].lanes), (1, 2));
}
