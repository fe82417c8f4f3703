//! The data of a recipe: where it lies, what it is, how it is split.

use std::collections::BTreeSet;

use crate::limits::LIMITS;

use super::reader::{Fields, Node};

const KEYS: [&str; 9] =
    ["file", "object", "format", "task", "features", "target", "validation", "split_seed", "normalize"];
const SHA256_DIGITS: usize = 64;

/// The task, where it could be read.
pub fn check(node: &Node) -> Option<&'static str> {
    let fields = node.fields()?;
    fields.only(&KEYS);
    place(&fields);
    let format = fields.required("format", "`npz` or `csv`").and_then(|node| node.word(&["npz", "csv"]));
    let target =
        fields.required("target", "the name of the array or column that is to be learned").and_then(|node| node.text());
    if let Some(node) = fields.optional("features") {
        features(&node, format, target);
    }
    if let Some(node) = fields.optional("validation") {
        node.number(|share| share > 0.0 && share < 1.0, "a number between 0 and 1, for example 0.2");
    }
    if let Some(node) = fields.optional("split_seed") {
        node.whole(0..=u64::MAX);
    }
    if let Some(node) = fields.optional("normalize") {
        node.word(&["none", "standard", "scale"]);
    }
    let task = fields.required("task", "`classification` or `regression`");
    task.and_then(|node| node.word(&["classification", "regression"]))
}

fn place(fields: &Fields) {
    match (fields.optional("file"), fields.optional("object")) {
        (Some(_), Some(object)) => object.fault("is given together with `file`", "keep one of the two"),
        (None, None) => fields.fault("file", "is missing", "add `file`: the path of the data set; or `object`"),
        (Some(file), None) => drop(file.text()),
        (None, Some(object)) => {
            let Some(object) = object.fields() else { return };
            object.only(&["sha256", "bytes", "file_name"]);
            let digits = format!("{SHA256_DIGITS} hexadecimal digits");
            if let Some(node) = object.required("sha256", &digits)
                && let Some(text) = node.text()
                && (text.len() != SHA256_DIGITS || !text.bytes().all(|byte| byte.is_ascii_hexdigit()))
            {
                node.wrong_value(format!("give {digits}"));
            }
            if let Some(node) = object.required("bytes", "the size of the object") {
                node.whole(1..=LIMITS.data_bytes_max);
            }
            if let Some(node) = object.optional("file_name").filter(|node| node.value != "") {
                node.text();
            }
        }
    }
}

fn features(node: &Node, format: Option<&str>, target: Option<&str>) {
    let names = if node.value.is_array() { node.list().unwrap_or_default() } else { vec![node.clone()] };
    if names.is_empty() {
        node.fault("is an empty list", "name at least one, or leave `features` out");
    }
    if format == Some("npz") && node.value.is_array() {
        node.fault("is a list, and the features of an npz are one array", "give its name as a text");
    }
    let mut seen = BTreeSet::new();
    for name in &names {
        let Some(text) = name.text() else { continue };
        if Some(text) == target {
            name.fault(format!("is `{text}`, the target"), "remove it: a target cannot be a feature");
        }
        if !seen.insert(text) {
            name.fault(format!("is `{text}`, which is in the list already"), "remove one of the two");
        }
    }
}
