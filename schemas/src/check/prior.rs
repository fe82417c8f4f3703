//! What a user believes of a parameter: a value of its domain, and how sure they are.

use crate::study::{Confidence, Domain, Prior};

use super::assignment::fit;
use super::reader::Node;

const CONFIDENCES: [&str; 3] = ["low", "medium", "high"];

/// The value alone, or the value and a confidence.
pub fn check(node: &Node, domain: &Domain) -> Option<Prior> {
    if !node.value.is_object() {
        return value(node, domain, Confidence::default());
    }
    let fields = node.fields()?;
    fields.only(&["value", "confidence"]);
    let confidence = match fields.optional("confidence") {
        None => Some(Confidence::default()),
        Some(node) => node.word(&CONFIDENCES).map(|word| match word {
            "low" => Confidence::Low,
            "high" => Confidence::High,
            _ => Confidence::Medium,
        }),
    };
    value(&fields.required("value", "the value that is probably good")?, domain, confidence?)
}

fn value(node: &Node, domain: &Domain, confidence: Confidence) -> Option<Prior> {
    match fit(domain, node.value) {
        Ok(value) => Some(Prior { value, confidence }),
        Err(help) => {
            node.wrong_value(help);
            None
        }
    }
}
