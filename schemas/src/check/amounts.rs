//! Bounds of numbers, and lists of texts and words, that several sections share. It knows no section.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::limits::LIMITS;

use super::reader::{Fields, Node};

/// A number from 0 to below 1.
pub fn below_one(fields: &Fields, key: &str) {
    if let Some(node) = fields.optional(key) {
        node.number(|value| (0.0..1.0).contains(&value), "a number from 0 to below 1");
    }
}

/// A number between 0 and 1, neither of them.
pub fn between(fields: &Fields, key: &str, example: &str) {
    if let Some(node) = fields.optional(key) {
        node.number(|share| share > 0.0 && share < 1.0, &format!("a number between 0 and 1, for example {example}"));
    }
}

pub fn above_zero(fields: &Fields, key: &str) {
    if let Some(node) = fields.optional(key) {
        node.number(|value| value > 0.0, "a number above 0");
    }
}

pub fn from_zero(fields: &Fields, key: &str) {
    if let Some(node) = fields.optional(key) {
        node.number(|value| value >= 0.0, "a number, at least 0");
    }
}

/// A number from 0 to 1, both included.
pub fn up_to_one(fields: &Fields, key: &str) {
    if let Some(node) = fields.optional(key) {
        node.number(|value| (0.0..=1.0).contains(&value), "a number from 0 to 1");
    }
}

pub fn whole(fields: &Fields, key: &str, range: RangeInclusive<u32>) -> Option<u64> {
    fields.optional(key)?.whole(wide(range))
}

pub fn bool(fields: &Fields, key: &str) {
    if let Some(node) = fields.optional(key) {
        node.bool();
    }
}

pub fn word(fields: &Fields, key: &str, words: &[&'static str]) -> Option<&'static str> {
    fields.optional(key)?.word(words)
}

/// A list of so many whole numbers. None: one of them is wrong.
pub fn wholes(node: &Node, counts: RangeInclusive<usize>, range: RangeInclusive<u32>) -> Option<Vec<u64>> {
    let items = node.list()?;
    if !counts.contains(&items.len()) {
        let (low, high) = counts.into_inner();
        let wanted = match low == high {
            true => format!("{low}"),
            false => format!("{low} to {high}"),
        };
        node.wrong_value(format!("give {wanted} whole numbers"));
        return None;
    }
    let numbers: Vec<_> = items.iter().map(|item| item.whole(wide(range.clone()))).collect();
    numbers.into_iter().collect()
}

fn wide(range: RangeInclusive<u32>) -> RangeInclusive<u64> {
    let (low, high) = range.into_inner();
    low.into()..=high.into()
}

/// A list of texts, each once.
pub fn texts<'a>(fields: &Fields<'a>, key: &str) -> Vec<Node<'a>> {
    let Some(node) = fields.optional(key) else { return Vec::new() };
    let items = node.list().unwrap_or_default();
    if items.len() > LIMITS.choices_max {
        node.wrong_value(format!("give at most {}", LIMITS.choices_max));
        return Vec::new();
    }
    let mut seen = BTreeSet::new();
    for item in &items {
        if let Some(text) = item.text()
            && !seen.insert(text)
        {
            item.fault(format!("is `{text}`, which is in the list already"), "remove one of the two");
        }
    }
    items
}
