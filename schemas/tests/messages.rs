//! Messages as they are on the wire: what was promised is read and written; what is foreign is ignored, kept
//! apart or refused, and never a panic.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeSet;
use std::path::Path;

use regatta_schemas::api::{self, Endpoint, Rejection, RejectionCode, Reply, Request, StudyStatus, TrialStatus};
use regatta_schemas::ask::{Ask, Suggestion};
use regatta_schemas::beat::Beat;
use regatta_schemas::leader::Elected;
use regatta_schemas::limits::LIMITS;
use regatta_schemas::log::{Lineage, Record};
use regatta_schemas::offer::Offer;
use regatta_schemas::output::Output;
use regatta_schemas::reasons::{AskFailure, FailCause, OfferReason, Outcome, ReleaseReason, StopReason, StudyEnd};
use regatta_schemas::snapshot::Snapshot;
use regatta_schemas::stop::Stop;
use regatta_schemas::{DecodeError, check, decode, documents, encode};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

fn golden() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap())).collect()
}

/// The message read and written again, by the type that its name stands for.
fn again(name: &str, bytes: &[u8]) -> Result<Value, DecodeError> {
    fn of<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<Value, DecodeError> {
        Ok(serde_json::from_slice(&encode(&decode::<T>(bytes)?)).unwrap())
    }
    let endpoint = |name: &str| Endpoint::ALL.into_iter().find(|endpoint| endpoint.name() == name).unwrap();
    match name.split_once('.') {
        Some(("record", _)) => of::<Record>(bytes),
        Some(("ask", _)) => of::<Ask>(bytes),
        Some(("offer", _)) => of::<Offer>(bytes),
        Some(("stop", _)) => of::<Stop>(bytes),
        Some(("snapshot", _)) => of::<Snapshot>(bytes),
        Some(("request", name)) => request(endpoint(name), bytes),
        Some(("answer", "rejected")) => of::<Reply<api::Done>>(bytes),
        Some(("answer", name)) => match endpoint(name) {
            Endpoint::StudyCreate => of::<Reply<api::StudyStarted>>(bytes),
            Endpoint::StudyList => of::<Reply<api::StudyList>>(bytes),
            Endpoint::StudyShow => of::<Reply<api::StudyShown>>(bytes),
            Endpoint::TrialSubmit => of::<Reply<api::TrialSubmitted>>(bytes),
            Endpoint::TrialList => of::<Reply<api::TrialList>>(bytes),
            Endpoint::TrialShow => of::<Reply<api::TrialShown>>(bytes),
            Endpoint::TrialSuggest => of::<Reply<api::TrialSuggested>>(bytes),
            Endpoint::TrialObserve => of::<Reply<api::TrialObserved>>(bytes),
            Endpoint::FleetShow => of::<Reply<api::FleetShown>>(bytes),
            Endpoint::StudyStop
            | Endpoint::StudyPause
            | Endpoint::StudyResume
            | Endpoint::StudyDelete
            | Endpoint::TrialStop => of::<Reply<api::Done>>(bytes),
        },
        _ => match name {
            "offer" => of::<Offer>(bytes),
            "stop" => of::<Stop>(bytes),
            "beat" => of::<Beat>(bytes),
            "output" => of::<Output>(bytes),
            "snapshot" => of::<Snapshot>(bytes),
            "elected" => of::<Elected>(bytes),
            "ask" => of::<Ask>(bytes),
            "suggestion" => of::<Suggestion>(bytes),
            _ => panic!("{name} stands for no message"),
        },
    }
}

fn request(endpoint: Endpoint, bytes: &[u8]) -> Result<Value, DecodeError> {
    Ok(match Request::read(endpoint, bytes)? {
        Request::StudyCreate(request) => serde_json::to_value(request).unwrap(),
        Request::StudyList | Request::FleetShow => json!({}),
        Request::StudyShow(request)
        | Request::StudyStop(request)
        | Request::StudyPause(request)
        | Request::StudyResume(request)
        | Request::StudyDelete(request)
        | Request::TrialList(request) => serde_json::to_value(request).unwrap(),
        Request::TrialSuggest(request) => serde_json::to_value(request).unwrap(),
        Request::TrialObserve(request) => serde_json::to_value(request).unwrap(),
        Request::TrialSubmit(request) => serde_json::to_value(request).unwrap(),
        Request::TrialShow(request) | Request::TrialStop(request) => serde_json::to_value(request).unwrap(),
    })
}

#[test]
fn golden_messages_are_read_and_written_as_they_were() {
    for (name, bytes) in golden() {
        let before: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(again(&name, &bytes).unwrap(), before, "{name}");
    }
}

#[test]
fn the_recipes_of_golden_offers_are_right() {
    for (name, bytes) in golden().into_iter().filter(|(name, _)| name.starts_with("offer")) {
        let offer: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(check::recipe(&offer["recipe"]).err(), None, "{name}");
    }
}

#[test]
fn there_is_a_golden_message_for_each_that_has_a_schema() {
    let golden: BTreeSet<_> = golden().into_iter().map(|(name, _)| name).collect();
    let file_name = |path: String| Some(path.strip_prefix("json/")?.strip_suffix(".schema.json")?.to_owned());
    let described: BTreeSet<_> = documents::all().into_keys().filter_map(file_name).collect();
    let no_messages = ["study-file", "recipe"];
    let missing: Vec<_> =
        described.iter().filter(|name| !golden.contains(*name) && !no_messages.contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn unknown_fields_are_ignored_at_every_depth() {
    fn strangers(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.values_mut().for_each(strangers);
                map.insert("a_field_of_tomorrow".to_owned(), json!([{"x": null}]));
            }
            Value::Array(items) => items.iter_mut().for_each(strangers),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    // These hold maps whose keys are the sender's own; there a stranger is a value like the others.
    let with_maps = ["request.study.create", "record.study_created", "answer.study.show", "request.trial.submit"];
    let own_maps = ["params", "labels", "metrics", "space", "files"];
    for (name, bytes) in golden().into_iter().filter(|(name, _)| !with_maps.iter().any(|one| name.starts_with(one))) {
        let before: Value = serde_json::from_slice(&bytes).unwrap();
        let mut stranger = before.clone();
        strangers(&mut stranger);
        remove_strangers(&mut stranger, &own_maps);
        assert_eq!(again(&name, &serde_json::to_vec(&stranger).unwrap()).unwrap(), before, "{name}");
    }
}

fn remove_strangers(value: &mut Value, own_maps: &[&str]) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if let (true, Some(own)) = (own_maps.contains(&key.as_str()), value.as_object_mut()) {
                    own.remove("a_field_of_tomorrow");
                }
                remove_strangers(value, own_maps);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| remove_strangers(item, own_maps)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn unknown_values_land_in_the_arm_for_them() {
    fn read<T: DeserializeOwned>(value: &Value) -> T {
        decode(&serde_json::to_vec(value).unwrap()).unwrap()
    }
    let word = json!("of_tomorrow");
    assert_eq!(read::<FailCause>(&word), FailCause::Unknown);
    assert_eq!(read::<ReleaseReason>(&word), ReleaseReason::Unknown);
    assert_eq!(read::<Outcome>(&word), Outcome::Unknown);
    assert_eq!(read::<StudyStatus>(&word), StudyStatus::Unknown);
    assert_eq!(read::<TrialStatus>(&word), TrialStatus::Unknown);
    assert_eq!(read::<RejectionCode>(&word), RejectionCode::Unknown);
    assert_eq!(read::<StopReason>(&json!({"rule": "of_tomorrow", "value": 1})), StopReason::Unknown);
    assert_eq!(read::<StudyEnd>(&json!({"cause": "of_tomorrow", "value": 1})), StudyEnd::Unknown);
    assert_eq!(read::<OfferReason>(&json!({"cause": "of_tomorrow", "value": 1})), OfferReason::Unknown);
    assert_eq!(read::<AskFailure>(&json!({"cause": "of_tomorrow", "value": 1})), AskFailure::Unknown);
    assert_eq!(read::<Lineage>(&json!({"from": "of_tomorrow", "value": 1})), Lineage::Unknown);
    assert_eq!(read::<Record>(&json!({"type": "of_tomorrow", "value": 1})), Record::Unknown);
}

#[test]
fn metrics_that_are_no_numbers_cross_the_wire() {
    let point = |value: &str| {
        let text = format!(
            r#"{{"type": "measured", "attempt": 1, "sequence": 1, "agent": "a",
                "points": [{{"step": 1, "resource": 1, "elapsed_s": 1, "metrics": {{"m": {value}}}}}]}}"#
        );
        decode::<Record>(text.as_bytes()).map(|record| match record {
            Record::Measured(measured) => measured.points[0].metrics["m"],
            _ => panic!("measured was sent"),
        })
    };
    for (text, expected) in [
        ("1", 1.0),
        ("-0.5", -0.5),
        ("\"inf\"", f64::INFINITY),
        ("\"Infinity\"", f64::INFINITY),
        ("\"-inf\"", f64::NEG_INFINITY),
    ] {
        assert_eq!(point(text).unwrap(), expected, "{text}");
    }
    for text in ["null", "\"nan\"", "\"NaN\""] {
        assert!(point(text).unwrap().is_nan(), "{text}");
    }
    for text in ["NaN", "1e999", "\"much\"", "true", "[1]", "{}"] {
        assert!(point(text).is_err(), "{text}");
    }
}

#[test]
fn a_message_is_refused_by_its_size_before_it_is_read() {
    let message = |padding: usize| format!(r#"{{"type": "paused", "resource": 1, "x": "{}"}}"#, "a".repeat(padding));
    let empty = message(0).len();
    assert!(decode::<Record>(message(LIMITS.message_bytes_max - empty).as_bytes()).is_ok());
    let too_large = decode::<Record>(message(LIMITS.message_bytes_max - empty + 1).as_bytes());
    assert!(matches!(too_large, Err(DecodeError::TooLarge { .. })));
}

#[test]
fn wrong_messages_are_refused() {
    let deep = format!("{{\"type\": \"paused\", \"resource\": 1, \"x\": {}1{}}}", "[".repeat(500), "]".repeat(500));
    let rows: [(&str, &[u8]); 26] = [
        ("record.empty", b""),
        ("record.cut", b"{\"type\": \"paused\", \"reso"),
        ("record.binary", b"\x00\xff\xfe\x80garbage"),
        ("record.not_utf8", b"{\"type\": \"pau\xffsed\"}"),
        ("record.two", b"{\"type\": \"paused\", \"resource\": 1} {}"),
        ("record.list", b"[1, 2]"),
        ("record.null", b"null"),
        ("record.without_type", b"{\"resource\": 1}"),
        ("record.type_number", b"{\"type\": 3, \"resource\": 1}"),
        ("record.missing", b"{\"type\": \"paused\"}"),
        ("record.wrong_type", b"{\"type\": \"paused\", \"resource\": \"nine\"}"),
        ("record.negative", b"{\"type\": \"paused\", \"resource\": -9}"),
        ("record.fraction", b"{\"type\": \"paused\", \"resource\": 9.5}"),
        ("record.too_great", b"{\"type\": \"paused\", \"resource\": 4294967296}"),
        ("record.deep", deep.as_bytes()),
        ("record.id", b"{\"type\": \"accepted\", \"attempt\": 1, \"sequence\": 0, \"agent\": \"a.b\", \"lane\": 0}"),
        ("offer", b"{\"type\": \"stop\", \"reason\": {\"rule\": \"superseded\"}}"),
        ("stop", b"{\"type\": \"stop\", \"reason\": {}}"),
        ("stop", b"{\"type\": \"stop\", \"reason\": \"rung\"}"),
        ("beat", b"{\"type\": \"beat\", \"lanes\": 1, \"leases\": {}, \"device\": \"cpu\"}"),
        ("request.study.create", b"{}"),
        ("request.study.show", b""),
        ("request.study.show", b"{\"study\": \"no such > id\"}"),
        ("request.trial.stop", b"{\"study\": \"s\", \"trial\": \"first\"}"),
        ("request.trial.submit", b"{\"labels\": [\"a\"]}"),
        ("answer.study.stop", b"{\"type\": \"of_tomorrow\"}"),
    ];
    for (name, bytes) in rows {
        let error = again(name, bytes).unwrap_err();
        println!("{name}: {error}");
    }
}

#[test]
fn an_empty_request_is_an_empty_object() {
    assert_eq!(Request::read(Endpoint::StudyList, b"").unwrap(), Request::StudyList);
}

#[test]
fn a_rejection_is_the_error_of_a_reply() {
    let (_, bytes) = golden().into_iter().find(|(name, _)| name == "answer.rejected").unwrap();
    let rejection: Rejection = decode::<Reply<api::StudyShown>>(&bytes).unwrap().into_result().unwrap_err();
    assert_eq!((rejection.code, rejection.faults.len()), (RejectionCode::Invalid, 1));
}
