//! The study file as a page for people: every key, what it takes, its default and what it means.

use std::collections::{BTreeSet, VecDeque};

use serde_json::{Map, Value};

const INTRODUCTION: &str = "\
<!-- Written by `cargo run -p regatta-schemas --example write-schemas`; do not edit. -->

# The study file

Every key of a study file, with what it takes and its default; a key without a default must be given, unless it is said to
be optional. In a section that has a `name`, the name alone will do where the rest has defaults: `stopper: asha`. Within
`recipe`, any value may be `$parameter`. What is wrong in a file is told before anything trains, all of it at once.
Programs find the same in `schemas/json/study-file.schema.json`.
";

/// Values of a parameter may stand for these; said once, in the introduction.
const REFERENCE: &str = "ParameterReference";

/// The page, of the study file's schema.
pub fn page(schema: &Value) -> String {
    let mut page = Page { schema, text: INTRODUCTION.to_owned(), named: BTreeSet::new(), to_come: VecDeque::new() };
    page.table(schema, None);
    while let Some(name) = page.to_come.pop_front() {
        let definition = &schema["$defs"][&name];
        page.section(&name, definition);
    }
    page.text
}

struct Page<'a> {
    schema: &'a Value,
    text: String,
    /// Definitions that have, or will have, a section.
    named: BTreeSet<String>,
    to_come: VecDeque<String>,
}

impl Page<'_> {
    fn section(&mut self, name: &str, definition: &Value) {
        self.paragraph(&format!("## {name}"));
        self.paragraph(&described(definition));
        self.table(definition, None);
        let choices = choices(definition);
        let (objects, others): (Vec<&Value>, Vec<&Value>) =
            choices.iter().partition(|choice| discriminator(choice).is_some());
        for choice in &objects {
            let Some((key, value)) = discriminator(choice) else { continue };
            self.paragraph(&format!("`{key}: {value}`"));
            let base = target(choice).map(|target| format!("It has the keys of {}.", self.link(&target)));
            let said: Vec<String> = std::iter::once(described(choice)).chain(base).collect();
            self.paragraph(said.join(" ").trim());
            self.table(choice, Some(key));
        }
        // Beside them are these objects' names alone, of which the introduction speaks.
        if !objects.is_empty() {
            return;
        }
        let (words, kinds): (Vec<&Value>, Vec<&Value>) =
            others.into_iter().partition(|choice| !words_of(choice).is_empty());
        if !words.is_empty() {
            self.text.push_str("\n| value | meaning |\n| --- | --- |\n");
        }
        for choice in words {
            let meaning = if choices.len() == 1 { String::new() } else { described(choice) };
            for word in words_of(choice) {
                self.row(&format!("| `{word}` | {meaning} |"));
            }
        }
        let (objects, kinds): (Vec<&Value>, Vec<&Value>) =
            kinds.into_iter().partition(|choice| choice["properties"].is_object());
        let verb = if objects.is_empty() { "Takes" } else { "Or" };
        for object in objects {
            self.paragraph(&described(object));
            self.table(object, None);
        }
        let kinds: Vec<String> = kinds.into_iter().map(|choice| self.kind(choice)).collect();
        if !kinds.is_empty() {
            self.paragraph(&format!("{verb} {}.", kinds.join(", or ")));
        }
    }

    /// The keys of an object, but for the one that tells which it is.
    fn table(&mut self, object: &Value, but: Option<&str>) {
        let Some(properties) = object["properties"].as_object() else { return };
        let rows: Vec<(&String, &Value)> = properties.iter().filter(|(key, _)| Some(key.as_str()) != but).collect();
        if rows.is_empty() {
            return;
        }
        let required: Vec<&str> =
            object["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        self.text.push_str("\n| key | takes | default | meaning |\n| --- | --- | --- | --- |\n");
        for (key, property) in rows {
            let default = match property.get("default") {
                Some(Value::Null) => "optional".to_owned(),
                Some(default) => format!("`{default}`"),
                None if required.contains(&key.as_str()) => String::new(),
                None => "optional".to_owned(),
            };
            let kind = self.kind(property);
            let own = described(property);
            let of_kind = || target(property).map_or_else(String::new, |name| described(&self.schema["$defs"][&name]));
            let meaning = if own.is_empty() { of_kind() } else { own };
            self.row(&format!("| `{key}` | {kind} | {default} | {meaning} |"));
        }
    }

    /// What a value must be, in words.
    fn kind(&mut self, schema: &Value) -> String {
        if let Some(target) = target(schema) {
            return self.link(&target);
        }
        if let Some(constant) = schema.get("const") {
            return format!("`{constant}`").replace('"', "");
        }
        let alternatives = choices(schema);
        if alternatives.len() > 1 || (alternatives.len() == 1 && schema.get("type").is_none()) {
            let mut kinds: Vec<String> = Vec::new();
            for alternative in
                alternatives.iter().filter(|alternative| target(alternative).as_deref() != Some(REFERENCE))
            {
                let kind = self.kind(alternative);
                if !kind.is_empty() && !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            return kinds.join(" or ");
        }
        let names = match &schema["type"] {
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            Value::String(name) => vec![name.as_str()],
            _ => Vec::new(),
        };
        let kinds = names.iter().filter(|name| **name != "null").map(|name| match *name {
            "boolean" => "true or false".to_owned(),
            "integer" => "whole number".to_owned(),
            "string" => "text".to_owned(),
            "array" => match schema.get("items") {
                Some(items) => format!("list of {}", self.kind(items)),
                None => "list".to_owned(),
            },
            "object" => match schema.get("additionalProperties").filter(|values| values.is_object()) {
                Some(values) => format!("names, each with {}", self.kind(values)),
                None => "keys and values".to_owned(),
            },
            other => other.to_owned(),
        });
        kinds.collect::<Vec<_>>().join(" or ")
    }

    fn link(&mut self, name: &str) -> String {
        if self.named.insert(name.to_owned()) {
            self.to_come.push_back(name.to_owned());
        }
        format!("[{name}](#{})", name.to_lowercase())
    }

    /// A line of its own, after an empty one; nothing for an empty text.
    fn paragraph(&mut self, text: &str) {
        if !text.is_empty() {
            self.text.push('\n');
            self.row(text);
        }
    }

    fn row(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }
}

fn choices(schema: &Value) -> Vec<Value> {
    let of = |key: &str| schema.get(key).and_then(Value::as_array).cloned();
    let is_list_of_words = schema.get("enum").is_some() || schema.get("const").is_some();
    let itself = || if is_list_of_words || schema["properties"].is_null() { vec![schema.clone()] } else { Vec::new() };
    of("oneOf").or_else(|| of("anyOf")).unwrap_or_else(itself)
}

/// The key that tells which of several objects it is, with its value.
fn discriminator(choice: &Value) -> Option<(&str, &str)> {
    let properties: &Map<String, Value> = choice["properties"].as_object()?;
    properties.iter().find_map(|(key, property)| Some((key.as_str(), property.get("const")?.as_str()?)))
}

/// The words that it may be.
fn words_of(choice: &Value) -> Vec<&str> {
    let one = choice.get("const").and_then(Value::as_str);
    let several = choice.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    one.into_iter().chain(several).collect()
}

fn target(schema: &Value) -> Option<String> {
    schema.get("$ref")?.as_str()?.rsplit('/').next().map(str::to_owned)
}

fn described(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
