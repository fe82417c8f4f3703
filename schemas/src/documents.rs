//! The wire written down for programs of any language: a JSON Schema for the study file and each message, and
//! the AsyncAPI page that says on which subject each one travels.
//!
//! All of it follows from the types, the subjects and the endpoints; nothing here is a second source.

mod asyncapi;
mod json_schema;
mod study_file;
mod study_page;

use std::collections::BTreeMap;

use serde_json::Value;

/// Every document: its path below this crate's folder, and its content.
pub fn all() -> BTreeMap<String, Value> {
    let mut documents: BTreeMap<String, Value> =
        json_schema::messages().into_iter().map(|message| (schema_path(&message.name), message.schema)).collect();
    documents.insert(schema_path(STUDY_FILE), study_file::schema());
    documents.insert(schema_path("recipe"), json_schema::of::<crate::recipe::Recipe>());
    documents.insert("asyncapi.json".to_owned(), asyncapi::page());
    documents
}

/// The study file, for people: `docs/STUDY_FILE.md`.
pub fn study_page() -> String {
    study_page::page(&study_file::schema())
}

/// A document as its file holds it.
pub fn text(document: &Value) -> String {
    format!("{document:#}\n")
}

const STUDY_FILE: &str = "study-file";

fn schema_path(name: &str) -> String {
    format!("json/{name}.schema.json")
}
