//! What a recipe does to its minibatches before a step.

use super::amounts::above_zero;
use super::kinds::Kinds;
use super::reader::Node;
use crate::limits::LIMITS;

const AUGMENTATIONS: Kinds = Kinds {
    key: "name",
    shared: &[],
    own: &[("shift", &["pixels"]), ("flip", &[]), ("noise", &["deviation"]), ("mixup", &["alpha"])],
};
/// More than these add nothing.
const COUNT_MAX: usize = 16;

/// The list, for a task with this loss.
pub fn check(node: &Node, task: Option<&str>, loss: Option<&str>) {
    let items = node.list().unwrap_or_default();
    if items.len() > COUNT_MAX {
        return node.wrong_value(format!("give at most {COUNT_MAX}"));
    }
    items.iter().for_each(|item| one(item, task, loss));
}

fn one(node: &Node, task: Option<&str>, loss: Option<&str>) {
    if node.value.is_string() {
        return node.wrong_value("write its name as a key: {name: flip}");
    }
    let Some(fields) = node.fields() else { return };
    let missing = match AUGMENTATIONS.kind(&fields) {
        Some("shift") => Some(("pixels", "how far an image is shifted at most, for example 2")),
        Some("noise") => Some(("deviation", "the standard deviation of the noise, for example 0.1")),
        Some("mixup") => {
            mixup(node, task, loss);
            Some(("alpha", "that of the Beta distribution, for example 0.2"))
        }
        _ => None,
    };
    if let Some((key, what)) = missing {
        fields.required(key, what);
    }
    if let Some(pixels) = fields.optional("pixels") {
        pixels.whole(1..=LIMITS.image_side_max.into());
    }
    above_zero(&fields, "deviation");
    above_zero(&fields, "alpha");
}

fn mixup(node: &Node, task: Option<&str>, loss: Option<&str>) {
    let is_known = task.is_some() && loss.is_some();
    if is_known && (task, loss) != (Some("classification"), Some("cross_entropy")) {
        let help = "remove it: it takes the task `classification` with the loss `cross_entropy`";
        node.fault("is mixup, which mixes classes", help);
    }
}
