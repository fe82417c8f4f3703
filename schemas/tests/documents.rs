//! The committed JSON Schemas and the AsyncAPI page are those that follow from the types.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeSet;
use std::path::Path;

use regatta_schemas::documents;
use serde_json::Value;

const WRITE_ANEW: &str = "cargo run -p regatta-schemas --example write-schemas";

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn committed_documents_are_those_of_the_types() {
    for (path, document) in documents::all() {
        let committed = std::fs::read_to_string(folder().join(&path)).unwrap_or_default();
        assert!(committed == documents::text(&document), "{path} is out of date: {WRITE_ANEW}");
    }
}

#[test]
fn the_page_of_the_study_file_is_current_and_tells_every_key() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/STUDY_FILE.md");
    let page = documents::study_page();
    assert!(std::fs::read_to_string(path).is_ok_and(|written| written == page), "{WRITE_ANEW}");
    fn keys(schema: &Value, found: &mut BTreeSet<String>) {
        for (key, value) in schema.as_object().into_iter().flatten() {
            if key == "properties" {
                found.extend(value.as_object().into_iter().flatten().map(|(name, _)| name.clone()));
            }
            keys(value, found);
        }
        schema.as_array().into_iter().flatten().for_each(|value| keys(value, found));
    }
    let mut all = BTreeSet::new();
    keys(&documents::all()["json/study-file.schema.json"], &mut all);
    assert!(all.len() > 100);
    let is_told = |key: &&String| page.contains(&format!("| `{key}` |")) || page.contains(&format!("`{key}: "));
    assert_eq!(all.iter().filter(|key| !is_told(key)).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn no_document_is_left_over() {
    let documents = documents::all();
    for entry in std::fs::read_dir(folder().join("json")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(documents.contains_key(&format!("json/{name}")), "{name} describes nothing: remove it");
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let documents = documents::all();
    for (path, document) in &documents {
        for reference in references(document) {
            match reference.split_once('#') {
                Some((_, pointer)) => assert!(document.pointer(pointer).is_some(), "{path}: {reference}"),
                None => {
                    let target = reference.trim_start_matches("./").trim_start_matches("json/");
                    assert!(documents.contains_key(&format!("json/{target}")), "{path}: {reference}");
                }
            }
        }
    }
}

fn references(value: &Value) -> BTreeSet<&str> {
    match value {
        Value::Object(map) => {
            let here = map.get("$ref").and_then(Value::as_str);
            here.into_iter().chain(map.values().flat_map(references)).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => BTreeSet::new(),
    }
}
