//! The AsyncAPI page (3.0), from one table of channels.

use serde_json::{Map, Value, json};

use crate::api::{self, Endpoint};
use crate::ids::{AgentId, PoolId, SamplerId, StudyId, TrialId};
use crate::subjects;

use super::json_schema::messages;
use super::schema_path;

const PARAMETERS: [(&str, &str); 6] = [
    ("pool", "A named queue of like agents"),
    ("agent", "One agent process"),
    ("study", "A study's id"),
    ("trial", "A trial's number within its study, from 0"),
    ("sampler", "The name that an external sampler serves under"),
    ("kind", "The `type` of the record"),
];

/// Where messages travel.
struct Channel {
    name: String,
    /// None: the reply subject of a request.
    address: Option<String>,
    /// What the page says of it.
    about: String,
    messages: Vec<String>,
    /// As Regatta's coordinator and agents together see it.
    action: &'static str,
    /// The channel that answers.
    reply: Option<String>,
}

pub fn page() -> Value {
    let channels = channels();
    let asked = channels.iter().filter(|channel| channel.address.is_some());
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Regatta",
            "version": api::SERVICE_VERSION,
            "description": "Hyperparameter search over NATS. Messages are JSON; unknown fields are to be ignored, \
                and unknown values of an enumeration kept apart. Subjects begin with regatta.v1; within v1 the wire \
                is only added to.",
        },
        "defaultContentType": "application/json",
        "channels": channels.iter().map(|channel| (channel.name.clone(), entry(channel))).collect::<Map<_, _>>(),
        "operations": asked.map(|channel| (channel.name.clone(), operation(channel))).collect::<Map<_, _>>(),
        "components": { "messages": components() },
    })
}

fn channels() -> Vec<Channel> {
    let sent = |name: &str, address: String, about: &str, messages: Vec<String>| Channel {
        name: name.to_owned(),
        address: Some(address),
        about: about.to_owned(),
        messages,
        action: "send",
        reply: None,
    };
    let one = |name: &str| vec![name.to_owned()];
    let (of_study, of_trial): (Vec<_>, Vec<_>) =
        records().into_iter().partition(|name| name.starts_with("record.study_"));
    let mut channels = vec![
        sent("offers", address_of_pool(subjects::offers), "Trials that wait for an agent of the pool", one("offer")),
        sent("log_study", log_address(true), "What happened to a study, in one order with its trials", of_study),
        sent("log_trial", log_address(false), "What happened to a trial: subscribe here for its results", of_trial),
        sent("stop_trial", address_of_trial(subjects::stop), "Ends the attempts of one trial", one("stop")),
        sent("stop_study", address_of_study(subjects::stop_study), "Ends all trials of a study", one("stop")),
        sent("output", address_of_trial(subjects::output), "What a trial prints, line by line", one("output")),
        sent("leader", subjects::LEADER.to_owned(), "Which coordinator decides from here on", one("elected")),
        sent("beats", address_of_agent(subjects::beat), "An agent's sign of life, once a second", one("beat")),
    ];
    channels.push(Channel {
        reply: Some("sampler_answer".to_owned()),
        ..sent("sampler", address_of_sampler(), "Asks an external sampler for a configuration", one("ask"))
    });
    channels.push(Channel {
        name: "sampler_answer".to_owned(),
        address: None,
        about: "A sampler's answer, on the request's reply subject".to_owned(),
        messages: one("suggestion"),
        action: "receive",
        reply: None,
    });
    for endpoint in Endpoint::ALL {
        let name = endpoint.name().replace('.', "_");
        channels.push(Channel {
            name: name.clone(),
            address: Some(subjects::api(endpoint)),
            about: format!("Asks for `{}`", endpoint.name()),
            messages: one(&format!("request.{}", endpoint.name())),
            action: "receive",
            reply: Some(format!("{name}_answer")),
        });
        channels.push(Channel {
            name: format!("{name}_answer"),
            address: None,
            about: format!("Answers `{}`, on the request's reply subject", endpoint.name()),
            messages: one(&format!("answer.{}", endpoint.name())),
            action: "send",
            reply: None,
        });
    }
    channels
}

fn records() -> Vec<String> {
    messages().into_iter().map(|message| message.name).filter(|name| name.starts_with("record.")).collect()
}

fn entry(channel: &Channel) -> Value {
    let messages = channel.messages.iter().map(|name| (name.clone(), reference("components/messages", name)));
    let address = channel.address.as_deref();
    let is_named = |name: &str| address.is_some_and(|address| address.contains(&format!("{{{name}}}")));
    let parameters = PARAMETERS.iter().filter(|(name, _)| is_named(name));
    let mut entry = json!({
        "address": address,
        "description": channel.about,
        "messages": messages.collect::<Map<_, _>>(),
    });
    let parameters: Map<_, _> =
        parameters.map(|(name, about)| ((*name).to_owned(), json!({ "description": about }))).collect();
    if !parameters.is_empty() {
        entry["parameters"] = parameters.into();
    }
    entry
}

fn operation(channel: &Channel) -> Value {
    let mut operation = json!({ "action": channel.action, "channel": reference("channels", &channel.name) });
    if let Some(reply) = &channel.reply {
        operation["reply"] = json!({ "channel": reference("channels", reply) });
    }
    operation
}

fn components() -> Map<String, Value> {
    let component = |name: String| {
        let payload = json!({ "$ref": format!("./{}", schema_path(&name)) });
        (name.clone(), json!({ "name": name, "payload": payload }))
    };
    messages().into_iter().map(|message| component(message.name)).collect()
}

fn reference(place: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/{place}/{name}") })
}

/// Stand-ins for what an address leaves open. No other part of a subject looks like them.
const STAND_IN: &str = "STAND-IN-";
const TRIAL_STAND_IN: TrialId = TrialId(u32::MAX);

fn stand_in(name: &str) -> String {
    format!("{STAND_IN}{name}")
}

fn pool() -> PoolId {
    PoolId::new(stand_in("pool")).expect("a stand-in is a token")
}

fn study() -> StudyId {
    StudyId::new(stand_in("study")).expect("a stand-in is a token")
}

/// A subject with its stand-ins named.
fn opened(subject: &str) -> String {
    let named = PARAMETERS
        .iter()
        .fold(subject.to_owned(), |subject, (name, _)| subject.replace(&stand_in(name), &format!("{{{name}}}")));
    named.replace(&TRIAL_STAND_IN.to_string(), "{trial}")
}

fn address_of_pool(subject: fn(&PoolId) -> String) -> String {
    opened(&subject(&pool()))
}

fn address_of_trial(subject: fn(&StudyId, TrialId) -> String) -> String {
    opened(&subject(&study(), TRIAL_STAND_IN))
}

fn address_of_study(subject: fn(&StudyId) -> String) -> String {
    opened(&subject(&study()))
}

fn address_of_agent(subject: fn(&PoolId, &AgentId) -> String) -> String {
    let agent = AgentId::new(stand_in("agent")).expect("a stand-in is a token");
    opened(&subject(&pool(), &agent))
}

fn address_of_sampler() -> String {
    opened(&subjects::sampler(&SamplerId::new(stand_in("sampler")).expect("a stand-in is a token")))
}

fn log_address(is_of_study: bool) -> String {
    let records = if is_of_study {
        subjects::log_of_study_itself(&study())
    } else {
        subjects::log_of_trial(&study(), TRIAL_STAND_IN)
    };
    opened(&records.replace('>', "{kind}"))
}
