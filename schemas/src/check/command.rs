//! A recipe of kind `command`: the program's name, its arguments and its files.

use serde_json::Value;

use crate::limits::LIMITS;

use super::place;
use super::reader::{Fields, Node};
use super::recipe::checkpoint_and_time_limit;

/// The key whose presence makes a recipe one of a command.
pub const COMMAND: &str = "command";

const KEYS: [&str; 4] = [COMMAND, "checkpoint", "time_limit_s", "silence_limit_s"];

/// `of_training` are the keys of the other kind of recipe.
pub fn check(fields: &Fields, command: &Node, of_training: &[&str]) {
    let mut known = KEYS.to_vec();
    for key in of_training.iter().filter(|key| !KEYS.contains(key) && fields.map.contains_key(**key)) {
        fields.fault(key, "has no meaning beside `command`", "remove it: the program knows what it trains");
        known.push(key);
    }
    fields.only(&known);
    program(command);
    checkpoint_and_time_limit(fields);
    if let Some(node) = fields.optional("silence_limit_s") {
        node.number(|seconds| seconds > 0.0, "seconds, above 0, or leave it out");
    }
}

fn program(node: &Node) {
    let Some(fields) = node.fields() else { return };
    fields.only(&["program", "arguments", "files"]);
    let example = "the name by which the agents' operators allow the program, for example train";
    if let Some(node) = fields.required("program", example)
        && let Some(text) = node.text()
        && !is_name(text)
    {
        node.wrong_value(format!("give {example}: up to 64 letters, digits, `_`, `-` and `.`, and no path"));
    }
    if let Some(arguments) = fields.optional("arguments").and_then(|node| few(&node)) {
        arguments.iter().for_each(argument);
    }
    let Some(files) = fields.optional("files").and_then(|node| node.fields()) else { return };
    if files.map.len() > LIMITS.command_files_max {
        let help = format!("give at most {}", LIMITS.command_files_max);
        fields.fault("files", format!("has {} entries", files.map.len()), help);
        return;
    }
    for (name, node) in files.nodes() {
        if !is_name(name) {
            node.fault("has no fitting name", "give a name of up to 64 letters, digits, `_`, `-` and `.`, and no path");
        }
        if let Some(file) = node.fields() {
            file.only(&["file", "object"]);
            place::check(&file, "file", LIMITS.data_bytes_max);
        }
    }
}

fn few<'a>(node: &Node<'a>) -> Option<Vec<Node<'a>>> {
    let items = node.list()?;
    if items.len() > LIMITS.arguments_max {
        node.fault(format!("has {} entries", items.len()), format!("give at most {}", LIMITS.arguments_max));
        return None;
    }
    Some(items)
}

fn argument(node: &Node) {
    match node.value {
        Value::String(text) if text.chars().count() > LIMITS.text_chars_max => {
            let problem = format!("is a text of {} characters", text.chars().count());
            node.fault(problem, format!("give at most {}", LIMITS.text_chars_max));
        }
        Value::String(text) if text.contains('\0') => {
            node.fault("holds a null character", "remove it: no program could read beyond it");
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        Value::Null | Value::Array(_) | Value::Object(_) => {
            node.wrong_value("give a text, a number, true or false");
        }
    }
}

/// Whether the text is a program's or a file's name, and leads nowhere else.
pub fn is_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (1..=LIMITS.id_chars_max).contains(&text.len()) && text.chars().all(is_plain) && !text.starts_with(['.', '-'])
}
