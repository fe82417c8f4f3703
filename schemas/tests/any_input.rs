//! Whatever is written, the checks answer: with a value or with faults, never with a panic.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::Path;

use proptest::prelude::*;
use regatta_schemas::api::{self, Endpoint, Reply, Request};
use regatta_schemas::beat::Beat;
use regatta_schemas::leader::Elected;
use regatta_schemas::log::Record;
use regatta_schemas::offer::Offer;
use regatta_schemas::output::Output;
use regatta_schemas::resolve::resolve_recipe;
use regatta_schemas::snapshot::Snapshot;
use regatta_schemas::stop::Stop;
use regatta_schemas::{check, decode};
use serde_json::Value;

fn example(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
    check::study_text(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn any_value() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "name", "type", "float", "int", "low", "high", "log", "step", "choices", "when", "$a", "$", "$$", "mlp", "sgd",
        "",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words.clone().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        let key = prop_oneof![words.clone().prop_map(str::to_owned), ".*"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The example with the value at one of its places replaced, or taken away.
fn mutated(mut file: Value, place: usize, by: Option<Value>) -> Value {
    let mut pointers = Vec::new();
    collect(&file, String::new(), &mut pointers);
    let pointer = &pointers[place % pointers.len()];
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match (by, file.pointer_mut(parent)) {
        (Some(value), _) => *file.pointer_mut(pointer).unwrap() = value,
        (None, Some(Value::Object(map))) => drop(map.remove(key)),
        (None, Some(Value::Array(items))) => drop(items.remove(key.parse().unwrap())),
        (None, _) => {}
    }
    file
}

fn collect(value: &Value, at: String, pointers: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let plain = map.iter().filter(|(key, _)| !key.contains(['/', '~']));
            plain.for_each(|(key, value)| collect(value, format!("{at}/{key}"), pointers));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| collect(item, format!("{at}/{index}"), pointers));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    if !at.is_empty() {
        pointers.push(at);
    }
}

/// 512 cases; `PROPTEST_CASES` asks for more, as `scripts/soak` does.
fn config() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(asked.unwrap_or(512)) }
}

/// Every message on record, as bytes.
fn golden() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let messages = paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    messages.map(|path| std::fs::read(path).unwrap()).collect()
}

/// Reads the bytes as every message that there is.
fn read_as_everything(bytes: &[u8]) {
    drop(decode::<Record>(bytes));
    drop(decode::<Offer>(bytes));
    drop(decode::<Beat>(bytes));
    drop(decode::<Stop>(bytes));
    drop(decode::<Output>(bytes));
    drop(decode::<Snapshot>(bytes));
    drop(decode::<Elected>(bytes));
    drop(decode::<Reply<api::StudyShown>>(bytes));
    drop(decode::<Reply<api::TrialList>>(bytes));
    drop(decode::<Reply<api::FleetShown>>(bytes));
    for endpoint in Endpoint::ALL {
        drop(Request::read(endpoint, bytes));
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_value_is_answered(value in any_value(), params in any_value()) {
        drop(check::study_file(&value));
        drop(check::recipe(&value));
        let space = check::study_file(&example("optimizers.yaml")).unwrap().space;
        drop(check::params(&space, &params));
    }

    #[test]
    fn a_changed_study_is_answered(
        place in any::<usize>(), other in any::<usize>(), value in prop::option::of(any_value()), two in any_value(),
        name in prop::sample::select(vec![
            "digits.yaml", "optimizers.yaml", "regression.yaml", "fashion-cnn.yaml", "fashion-resnet.yaml",
            "tabular.yaml", "transformer.yaml", "onnx.yaml", "command.yaml",
        ]),
    ) {
        let file = mutated(mutated(example(name), place, value), other, Some(two));
        if let Ok(study) = check::study_file(&file) {
            let written = serde_json::to_value(&study).unwrap();
            prop_assert_eq!(check::study_file(&written), Ok(study.clone()));
            drop(resolve_recipe(&study.recipe, &Default::default()));
        }
    }

    #[test]
    fn a_damaged_message_is_answered(
        message in prop::sample::select(golden()), damages in prop::collection::vec((any::<usize>(), any::<u8>()), 1..8),
        end in any::<usize>(),
    ) {
        let mut bytes = message;
        for (place, byte) in damages {
            let place = place % bytes.len();
            bytes[place] = byte;
        }
        read_as_everything(&bytes);
        bytes.truncate(end % bytes.len());
        read_as_everything(&bytes);
    }

    #[test]
    fn a_changed_message_is_answered(
        message in prop::sample::select(golden()), place in any::<usize>(), by in prop::option::of(any_value()),
    ) {
        let value: Value = serde_json::from_slice(&message).unwrap();
        // An empty message has no place to change.
        if value.as_object().is_some_and(|message| !message.is_empty()) {
            read_as_everything(mutated(value, place, by).to_string().as_bytes());
        }
    }

    #[test]
    fn any_text_is_answered(text in ".*", garbage in "[\\[\\]{}:,&*!|>'\"%@`#\\- \n\ta-c0-9]*") {
        drop(check::study_text(&text));
        drop(check::study_text(&garbage));
    }
}

#[test]
fn the_largest_studies_are_answered_in_time() {
    let choices = (0..1024).map(|choice| choice.to_string()).collect::<Vec<_>>().join(",");
    let wide = |count: usize| {
        let parameters = (0..count).map(|at| format!("p{at}: {{ type: ordinal, choices: [{choices}] }}\n  "));
        let uses = (0..count).map(|at| format!("k{at}: $p{at}\n  "));
        format!("space:\n  {}\nrecipe:\n  {}", parameters.collect::<String>(), uses.collect::<String>())
    };
    let ladder = |count: usize| {
        let parameters = (1..count).flat_map(|at| {
            let when = format!("when: {{ a{}: true, b{}: true }}", at - 1, at - 1);
            ["a", "b"].map(|side| format!("{side}{at}: {{ type: bool, {when} }}\n  "))
        });
        let uses = (0..30_000).map(|at| format!("$a{}, ", at % count));
        let parameters: String = parameters.collect();
        let uses: String = uses.collect();
        format!("space:\n  a0: {{ type: bool }}\n  b0: {{ type: bool }}\n  {parameters}\nrecipe:\n  hidden: [{uses}]")
    };
    for text in [wide(40), ladder(125)] {
        let value = check::study_text(&text).unwrap();
        let start = std::time::Instant::now();
        let faults = check::study_file(&value).unwrap_err();
        println!("{} faults in {:?}", faults.len(), start.elapsed());
        assert!(start.elapsed().as_secs() < 60);
    }
}
