//! Walks a value and notes each fault with its path. It knows JSON and nothing of studies.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::api::Fault;
use crate::limits::LIMITS;

/// The faults found so far. Shared by all nodes of a value; one thread.
#[derive(Default)]
pub struct Faults(RefCell<Vec<Fault>>);

impl Faults {
    pub fn add(&self, path: impl Into<String>, problem: impl Into<String>, help: impl Into<String>) {
        self.0.borrow_mut().push(Fault::new(path, problem, help));
    }

    /// Takes over faults that were found elsewhere.
    pub fn extend(&self, faults: impl IntoIterator<Item = Fault>) {
        self.0.borrow_mut().extend(faults);
    }

    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// The faults in the order of their paths, each once.
    pub fn into_sorted(self) -> Vec<Fault> {
        let mut faults = self.0.into_inner();
        faults.sort();
        faults.dedup();
        faults
    }

    /// The value if nothing was wrong.
    pub fn or<T>(self, value: Option<T>) -> Result<T, Vec<Fault>> {
        match value {
            Some(value) if self.is_empty() => Ok(value),
            Some(_) => Err(self.into_sorted()),
            None => {
                if self.is_empty() {
                    self.add("", "it cannot be read", "");
                }
                Err(self.into_sorted())
            }
        }
    }
}

/// One value and where it stands.
#[derive(Clone)]
pub struct Node<'a> {
    pub value: &'a Value,
    pub path: String,
    pub faults: &'a Faults,
}

impl<'a> Node<'a> {
    pub fn new(value: &'a Value, path: impl Into<String>, faults: &'a Faults) -> Self {
        Self { value, path: path.into(), faults }
    }

    pub fn fault(&self, problem: impl Into<String>, help: impl Into<String>) {
        self.faults.add(self.path.clone(), problem, help);
    }

    /// A fault that begins with the value itself: "is -1".
    pub fn wrong_value(&self, help: impl Into<String>) {
        self.fault(format!("is {}", show(self.value)), help);
    }

    pub fn text(&self) -> Option<&'a str> {
        match self.value {
            Value::String(text) if text.chars().count() > LIMITS.text_chars_max => {
                self.fault(
                    format!("is a text of {} characters", text.chars().count()),
                    format!("give at most {}", LIMITS.text_chars_max),
                );
                None
            }
            Value::String(text) if text.trim().is_empty() => {
                self.fault("is an empty text", "write a text");
                None
            }
            Value::String(text) => Some(text),
            Value::Bool(_) | Value::Number(_) => {
                self.wrong_value(format!("write a text: \"{}\"", self.value));
                None
            }
            Value::Null | Value::Array(_) | Value::Object(_) => {
                self.wrong_value("write a text");
                None
            }
        }
    }

    pub fn bool(&self) -> Option<bool> {
        let value = self.value.as_bool();
        if value.is_none() {
            self.wrong_value("write true or false");
        }
        value
    }

    /// A number; `fits` says which ones are right and `help` says so in words.
    pub fn number(&self, fits: impl Fn(f64) -> bool, help: &str) -> Option<f64> {
        match self.value.as_f64() {
            Some(number) if number.is_finite() && fits(number) => Some(number),
            Some(_) => {
                self.wrong_value(format!("give {help}"));
                None
            }
            None => {
                self.wrong_value(format!("give {help}{}", unquote_hint(self.value)));
                None
            }
        }
    }

    /// A whole number within bounds.
    pub fn whole(&self, range: RangeInclusive<u64>) -> Option<u64> {
        match self.value.as_u64() {
            Some(number) if range.contains(&number) => Some(number),
            _ => {
                let (low, high) = range.into_inner();
                let bounds = if high == u64::MAX {
                    format!("a whole number, at least {low}")
                } else {
                    format!("a whole number from {low} to {high}")
                };
                self.wrong_value(format!("give {bounds}{}", whole_hint(self.value)));
                None
            }
        }
    }

    pub fn list(&self) -> Option<Vec<Node<'a>>> {
        let Value::Array(items) = self.value else {
            self.wrong_value("write a list: [first, second]");
            return None;
        };
        let node = |(index, value)| Node::new(value, format!("{}[{index}]", self.path), self.faults);
        Some(items.iter().enumerate().map(node).collect())
    }

    /// One of a few words.
    pub fn word(&self, words: &[&'static str]) -> Option<&'static str> {
        let found = self.value.as_str().and_then(|text| words.iter().find(|word| **word == text));
        if found.is_none() {
            let near = self.value.as_str().and_then(|text| nearest(text, words.iter().copied()));
            let allowed = format!("one of {}", list_of(words.iter().copied()));
            match near {
                Some(near) => self.wrong_value(format!("did you mean `{near}`? It is {allowed}")),
                None => self.wrong_value(format!("give {allowed}")),
            }
        }
        found.copied()
    }

    pub fn fields(&self) -> Option<Fields<'a>> {
        if let Value::Object(map) = self.value {
            return Some(Fields { map, path: self.path.clone(), faults: self.faults });
        }
        self.wrong_value("write keys and values: {key: value}");
        None
    }
}

/// An object's fields.
pub struct Fields<'a> {
    pub map: &'a Map<String, Value>,
    pub path: String,
    pub faults: &'a Faults,
}

impl<'a> Fields<'a> {
    pub fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    pub fn fault(&self, key: &str, problem: impl Into<String>, help: impl Into<String>) {
        self.faults.add(self.path_of(key), problem, help);
    }

    /// A field that must be there; `what` says what to write.
    pub fn required(&self, key: &str, what: &str) -> Option<Node<'a>> {
        match self.map.get(key) {
            Some(Value::Null) => self.fault(key, "has no value", format!("give {what}")),
            Some(value) => return Some(self.node(key, value)),
            None => self.fault(key, "is missing", format!("add `{key}`: {what}")),
        }
        None
    }

    /// A field that may be absent; a null counts as absent.
    pub fn optional(&self, key: &str) -> Option<Node<'a>> {
        self.map.get(key).filter(|value| !value.is_null()).map(|value| self.node(key, value))
    }

    /// Every field in turn.
    pub fn nodes(&self) -> impl Iterator<Item = (&'a str, Node<'a>)> {
        self.map.iter().map(|(key, value)| (key.as_str(), self.node(key, value)))
    }

    /// Each key that is not among the known ones is a fault.
    pub fn only(&self, known: &[&str]) {
        for key in self.map.keys().filter(|key| !known.contains(&key.as_str())) {
            let help = match nearest(key, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("remove it; the keys here are {}", list_of(known.iter().copied())),
            };
            self.fault(key, "is not a key that is known here", help);
        }
    }

    fn node(&self, key: &str, value: &'a Value) -> Node<'a> {
        Node::new(value, self.path_of(key), self.faults)
    }
}

/// The path of a field.
pub fn join(path: &str, key: &str) -> String {
    let is_plain = !key.is_empty()
        && key.len() <= LIMITS.id_chars_max
        && key.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-' || c == '$');
    match (path.is_empty(), is_plain) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{:?}]", cut(key)),
    }
}

/// The known name that a mistyped or shortened one was probably meant to be.
pub fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    if name.len() > LIMITS.id_chars_max {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace(['-', ' ', '.'], "_");
    let wanted = plain(name);
    let scored = known.filter_map(|candidate| Some((mistakes(&wanted, &plain(candidate))?, candidate)));
    scored.min_by_key(|(mistakes, _)| *mistakes).map(|(_, candidate)| candidate)
}

/// How many slips make one name of the other; None: too many to mean it.
fn mistakes(wanted: &str, known: &str) -> Option<usize> {
    const SHORTENED: usize = 3;
    let chars = wanted.chars().count();
    let has_same_start = wanted.chars().next() == known.chars().next();
    let mistakes = strsim::damerau_levenshtein(wanted, known);
    let mistakes_max = if has_same_start { (chars / 3).max(1) } else { (chars / 4).min(2) };
    if mistakes <= mistakes_max && mistakes < known.chars().count() {
        return Some(mistakes);
    }
    let mut rest = known.chars();
    let is_shortened = chars >= 2 && has_same_start && wanted.chars().all(|c| rest.any(|other| other == c));
    is_shortened.then_some(SHORTENED)
}

/// Names in backticks, with commas; a long list is cut.
pub fn list_of<'n>(names: impl Iterator<Item = &'n str>) -> String {
    const SHOWN_MAX: usize = 16;
    let names: Vec<_> = names.collect();
    let mut text = names.iter().take(SHOWN_MAX).map(|name| format!("`{}`", cut(name))).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN_MAX {
        text.push_str(&format!(" and {} more", names.len() - SHOWN_MAX));
    }
    text
}

/// The names of which one is right: `a` or `b`.
pub fn either(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
}

/// A value as a fault's text names it.
pub fn show(value: &Value) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => format!("the text `{}`", cut(text)),
        Value::Array(items) if items.len() == 1 => "a list of 1 value".to_owned(),
        Value::Array(items) => format!("a list of {} values", items.len()),
        Value::Object(_) => "a group of keys".to_owned(),
    }
}

fn cut(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 48;
    if text.chars().count() <= SHOWN_CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(SHOWN_CHARS_MAX).chain("...".chars()).collect()
}

fn unquote_hint(value: &Value) -> &'static str {
    match value.as_str().map(|text| text.trim().parse::<f64>()) {
        Some(Ok(number)) if number.is_finite() => "; write it without quotes",
        _ => "",
    }
}

fn whole_hint(value: &Value) -> &'static str {
    match value.as_f64() {
        Some(number) if number.fract() == 0.0 && !value.is_u64() && number >= 0.0 => "; write it without a point",
        _ => unquote_hint(value),
    }
}
