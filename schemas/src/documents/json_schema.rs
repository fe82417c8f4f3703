//! The JSON Schema of each message.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::api::{self, Endpoint, Reply};
use crate::{ask, beat, leader, log, offer, output, snapshot, stop};

/// A message: `offer`, `record.measured`, `request.study.create`, `answer.study.create`.
pub struct Message {
    pub name: String,
    pub schema: Value,
}

pub fn messages() -> Vec<Message> {
    let mut messages = vec![
        message("offer", of::<offer::Offer>()),
        message("stop", of::<stop::Stop>()),
        message("beat", of::<beat::Beat>()),
        message("output", of::<output::Output>()),
        message("snapshot", of::<snapshot::Snapshot>()),
        message("elected", of::<leader::Elected>()),
        message("ask", of::<ask::Ask>()),
        message("suggestion", of::<ask::Suggestion>()),
    ];
    messages.extend(records());
    for endpoint in Endpoint::ALL {
        messages.push(message(&format!("request.{}", endpoint.name()), request(endpoint)));
        messages.push(message(&format!("answer.{}", endpoint.name()), answer(endpoint)));
    }
    messages
}

/// The schema of a type as it is read, draft 2020-12.
pub fn of<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value()
}

fn message(name: &str, mut schema: Value) -> Message {
    schema["title"] = name.into();
    Message { name: name.to_owned(), schema }
}

/// One message for each kind of record; readers keep kinds that they do not know.
fn records() -> Vec<Message> {
    let all = of::<log::Record>();
    let kinds = all["oneOf"].as_array().into_iter().flatten();
    let kind_of = |branch: &Value| branch.pointer("/properties/type/const")?.as_str().map(str::to_owned);
    let known = kinds.filter_map(|branch| Some((kind_of(branch)?, branch))).filter(|(kind, _)| kind != "unknown");
    known.map(|(kind, branch)| message(&format!("record.{kind}"), alone(branch, &all))).collect()
}

/// A part of a schema as a schema of its own, with the definitions that it needs.
fn alone(part: &Value, of: &Value) -> Value {
    let mut needed = BTreeSet::new();
    let mut open = vec![part];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                let name = map.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/$defs/"));
                if let Some(name) = name
                    && needed.insert(name.to_owned())
                {
                    open.push(&of["$defs"][name]);
                }
                open.extend(map.values());
            }
            Value::Array(items) => open.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut schema = part.clone();
    schema["$schema"] = of["$schema"].clone();
    if !needed.is_empty() {
        let definitions: Map<String, Value> =
            needed.into_iter().map(|name| (name.clone(), of["$defs"][&name].clone())).collect();
        schema["$defs"] = definitions.into();
    }
    schema
}

fn request(endpoint: Endpoint) -> Value {
    match endpoint {
        Endpoint::StudyCreate => {
            let mut schema = of::<api::StudyCreate>();
            schema["properties"]["study"] = json!({ "$ref": format!("{}.schema.json", super::STUDY_FILE) });
            schema
        }
        Endpoint::StudyList | Endpoint::FleetShow => {
            json!({ "$schema": SchemaSettings::draft2020_12().meta_schema, "type": "object" })
        }
        Endpoint::StudyShow
        | Endpoint::StudyStop
        | Endpoint::StudyPause
        | Endpoint::StudyResume
        | Endpoint::StudyDelete
        | Endpoint::TrialList => of::<api::StudyRequest>(),
        Endpoint::TrialSubmit => {
            let mut schema = of::<api::TrialSubmit>();
            schema["properties"]["recipe"] = json!({ "$ref": "recipe.schema.json" });
            schema
        }
        Endpoint::TrialShow | Endpoint::TrialStop => of::<api::TrialRequest>(),
        Endpoint::TrialSuggest => of::<api::TrialSuggest>(),
        Endpoint::TrialObserve => of::<api::TrialObserve>(),
    }
}

fn answer(endpoint: Endpoint) -> Value {
    match endpoint {
        Endpoint::StudyCreate => of::<Reply<api::StudyStarted>>(),
        Endpoint::StudyList => of::<Reply<api::StudyList>>(),
        Endpoint::StudyShow => of::<Reply<api::StudyShown>>(),
        Endpoint::StudyStop
        | Endpoint::StudyPause
        | Endpoint::StudyResume
        | Endpoint::StudyDelete
        | Endpoint::TrialStop => of::<Reply<api::Done>>(),
        Endpoint::TrialSubmit => of::<Reply<api::TrialSubmitted>>(),
        Endpoint::TrialList => of::<Reply<api::TrialList>>(),
        Endpoint::TrialShow => of::<Reply<api::TrialShown>>(),
        Endpoint::TrialSuggest => of::<Reply<api::TrialSuggested>>(),
        Endpoint::TrialObserve => of::<Reply<api::TrialObserved>>(),
        Endpoint::FleetShow => of::<Reply<api::FleetShown>>(),
    }
}
