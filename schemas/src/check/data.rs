//! The data of a recipe: where it lies, what it is, how it is split.

use std::collections::BTreeSet;

use crate::limits::LIMITS;

use super::amounts::{between, texts, whole, wholes, word};
use super::kinds::Kinds;
use super::place;
use super::reader::{Fields, Node, either, list_of};

const FORMATS: Kinds = Kinds {
    key: "format",
    shared: &["file", "object", "task", "target", "validation", "split_seed", "normalize", "stream"],
    own: &[
        ("npz", &["features", "categorical", "shape", "channels", "validation_features", "validation_target"]),
        ("csv", &["features", "categorical", "shape", "channels"]),
        ("npy", &["shape", "channels"]),
        ("parquet", &["features", "categorical", "shape", "channels"]),
        ("images", &["image_size"]),
        ("tokens", &["length"]),
        ("shards", &["features", "categorical", "shape", "channels"]),
    ],
};
/// Formats that say themselves what the target is.
const WITH_TARGET: [&str; 3] = ["npy", "images", "tokens"];
const STREAMED: [&str; 3] = ["images", "tokens", "shards"];
const TASKS: [&str; 5] = ["classification", "regression", "multilabel", "language_model", "transcription"];

/// The task, where it could be read.
pub fn check(node: &Node) -> Option<&'static str> {
    let fields = node.fields()?;
    let format = FORMATS.kind(&fields);
    place::check(&fields, "data set", LIMITS.data_bytes_max);
    columns(&fields, format);
    validation(&fields);
    if let Some(node) = fields.optional("split_seed") {
        node.whole(0..=u64::MAX);
    }
    word(&fields, "normalize", &["none", "standard", "scale", "channel"]);
    form(&fields, format);
    stream(&fields, format);
    let task = fields.required("task", &format!("one of {}", list_of(TASKS.into_iter())))?;
    let word = task.word(&TASKS)?;
    fits(&task, word, format);
    Some(word)
}

fn columns(fields: &Fields, format: Option<&str>) {
    let target = if format.is_some_and(|format| WITH_TARGET.contains(&format)) {
        fields.optional("target")
    } else {
        fields.required("target", "the name of the array or column that is to be learned")
    };
    let target = target.and_then(|node| node.text());
    if let Some(node) = fields.optional("features") {
        features(&node, target);
    }
    for name in texts(fields, "categorical") {
        not_target(&name, target);
    }
}

fn not_target(name: &Node, target: Option<&str>) {
    if let Some(text) = target.filter(|target| name.value == *target) {
        name.fault(format!("is `{text}`, the target"), "remove it: a target cannot be a feature");
    }
}

/// The names, one or several.
fn features<'a>(node: &Node<'a>, target: Option<&str>) -> Vec<Node<'a>> {
    let names = if node.value.is_array() { node.list().unwrap_or_default() } else { vec![node.clone()] };
    if names.is_empty() {
        node.fault("is an empty list", "name at least one, or leave it out");
    }
    let mut seen = BTreeSet::new();
    for name in &names {
        let Some(text) = name.text() else { continue };
        not_target(name, target);
        if !seen.insert(text) {
            name.fault(format!("is `{text}`, which is in the list already"), "remove one of the two");
        }
    }
    names
}

fn validation(fields: &Fields) {
    between(fields, "validation", "0.2");
    let (own, target) = (fields.optional("validation_features"), fields.optional("validation_target"));
    match (&own, &target) {
        (Some(_), None) => fields.fault("validation_target", "is missing", "add it: the targets to validate on"),
        (None, Some(_)) => fields.fault("validation_features", "is missing", "add it: the features to validate on"),
        (Some(_), Some(_)) | (None, None) => {}
    }
    let target = target.and_then(|node| node.text());
    let Some(own) = own else { return };
    let count = features(&own, target).len();
    let trained = fields.optional("features").and_then(|node| node.value.as_array()).map_or(1, Vec::len);
    if count > 0 && trained > 0 && count != trained {
        own.fault(format!("names {count}, and `features` {trained}"), "name as many, in the same order");
    }
}

/// The form of a row.
fn form(fields: &Fields, format: Option<&str>) {
    if let Some(node) = fields.optional("shape")
        && let Some(lengths) = wholes(&node, 1..=LIMITS.axes_max, 1..=u32::MAX)
    {
        let values = lengths.iter().try_fold(1_u64, |values, length| values.checked_mul(*length));
        if values.is_none_or(|values| values > LIMITS.data_values_max) {
            let help = format!("give lengths whose product is at most {}", LIMITS.data_values_max);
            node.fault("has more values than an agent holds", help);
        }
    }
    word(fields, "channels", &["first", "last"]);
    if let Some(node) = fields.optional("image_size") {
        wholes(&node, 2..=2, 1..=LIMITS.image_side_max);
    }
    if format == Some("tokens") {
        fields.required("length", "how many tokens make a row, for example 128");
    }
    whole(fields, "length", 1..=LIMITS.positions_max);
}

fn stream(fields: &Fields, format: Option<&str>) {
    let Some(node) = fields.optional("stream") else { return };
    if let (Some(true), Some(format)) = (node.bool(), format)
        && !STREAMED.contains(&format)
    {
        let help = format!("leave it out, or write the data as {}", either(&STREAMED));
        node.fault(format!("is true, and `{format}` is read as a whole"), help);
    }
}

fn fits(node: &Node, task: &str, format: Option<&str>) {
    let fitting: &[&str] = match format {
        Some("npz" | "shards") | None => &TASKS,
        Some("images") => &["classification"],
        Some("tokens") => &["language_model"],
        Some(_) => &["classification", "regression", "multilabel"],
    };
    if !fitting.contains(&task) {
        let problem = format!("is `{task}`, which does not fit the format `{}`", format.unwrap_or_default());
        node.fault(problem, format!("write {}, or another format", either(fitting)));
    }
}
