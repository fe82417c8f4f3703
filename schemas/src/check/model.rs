//! The model of a recipe: the settings of each family, their bounds, and the tasks it can learn.

use crate::limits::LIMITS;
use crate::recipe::{default_blocks, default_resnet_width};

use super::amounts::{below_one, bool, texts, whole, wholes, word};
use super::kinds::Kinds;
use super::place;
use super::reader::{Fields, Node};

const FAMILIES: Kinds = Kinds {
    key: "family",
    shared: &["dropout"],
    own: &[
        ("mlp", &["hidden", "layers", "width", "norm", "activation"]),
        (
            "cnn",
            &["channels", "stages", "width", "layers", "kernel", "norm", "activation", "pool", "global_pool", "hidden"],
        ),
        ("resnet", &["blocks", "width", "bottleneck", "kernel", "norm", "activation"]),
        (
            "transformer",
            &["direction", "layers", "width", "heads", "ratio", "patch", "vocabulary", "norm", "activation"],
        ),
        ("tabular", &["embedding", "hidden", "layers", "width", "norm", "activation"]),
        ("onnx", &["file", "object", "weights", "frozen", "output"]),
    ],
};
const ACTIVATIONS: [&str; 9] = ["relu", "tanh", "sigmoid", "gelu", "silu", "leaky_relu", "elu", "hard_swish", "mish"];
const NORMS: [&str; 4] = ["none", "batch", "group", "layer"];
/// Those of a transformer.
const POSITION_NORMS: [&str; 2] = ["layer", "rms"];
/// How many times as many channels a block of three convolutions gives.
const BOTTLENECK: u64 = 4;

pub fn check(node: &Node, task: Option<&str>) {
    let Some(fields) = node.fields() else { return };
    let family = FAMILIES.kind(&fields);
    word(&fields, "activation", &ACTIVATIONS);
    word(&fields, "norm", if family == Some("transformer") { &POSITION_NORMS[..] } else { &NORMS });
    below_one(&fields, "dropout");
    match family {
        Some("mlp") => mlp(&fields),
        Some("cnn") => cnn(&fields),
        Some("resnet") => resnet(&fields),
        Some("transformer") => transformer(&fields, task),
        Some("tabular") => tabular(&fields),
        Some("onnx") => onnx(&fields),
        _ => layers(&fields, 0),
    }
    match (family, task) {
        (Some(family @ ("mlp" | "cnn" | "resnet" | "tabular")), Some("language_model")) => {
            let help = "write `transformer` with `direction: decoder`, or `onnx`; or change `data.task`";
            fields.fault("family", format!("is `{family}`, which has no answer for each token"), help);
        }
        (Some(family), Some("transcription")) if family != "onnx" => {
            let help = "write `onnx`, with a model that gives `[rows, frames, classes]`; or change `data.task`";
            fields.fault("family", format!("is `{family}`, which has no answer for each frame"), help);
        }
        _ => {}
    }
}

fn mlp(fields: &Fields) {
    if let Some(hidden) = either(fields, "hidden", ("layers", "the number of hidden layers"), "the units of each") {
        widths(&hidden);
    }
    layers(fields, 0);
}

/// The list of sizes that a key gives, where it does not say by a number of parts and their width.
fn either<'f>(fields: &Fields<'f>, list: &str, (count, what): (&str, &str), of_each: &str) -> Option<Node<'f>> {
    whole(fields, "width", 1..=LIMITS.width_max);
    let (sizes, parts, width) = (fields.optional(list), fields.optional(count), fields.optional("width"));
    match (&sizes, &parts, &width) {
        (Some(_), None, None) => return sizes,
        (None, Some(_), Some(_)) => {}
        (Some(sizes), _, _) => {
            let help = format!("give either `{list}`, or `{count}` and `width`");
            sizes.fault(format!("is given together with `{count}` or `width`"), help);
        }
        (None, Some(_), None) => fields.fault("width", "is missing", format!("add `width`: {of_each}")),
        (None, None, Some(_)) => fields.fault(count, "is missing", format!("add `{count}`: {what}")),
        (None, None, None) => {
            fields.fault(list, "is missing", format!("add `{list}`: a list of widths; or `{count}` and `width`"));
        }
    }
    None
}

fn layers(fields: &Fields, least: u32) {
    whole(fields, "layers", least..=LIMITS.layers_max);
}

/// The widths of dense layers, of which there may be none.
fn widths(node: &Node) {
    wholes(node, 0..=LIMITS.layers_max as usize, 1..=LIMITS.width_max);
}

fn cnn(fields: &Fields) {
    let of_first = "the channels of the first stage, doubled in each further one";
    if let Some(node) = either(fields, "channels", ("stages", "how often the image is halved"), of_first) {
        wholes(&node, 1..=LIMITS.stages_max as usize, 1..=LIMITS.width_max);
    }
    whole(fields, "stages", 1..=LIMITS.stages_max);
    let within = |key: &str, most: u32| {
        let number = fields.optional(key).and_then(|node| node.value.as_u64());
        number.filter(|number| (1..=most.into()).contains(number))
    };
    if let (Some(stages), Some(width)) = (within("stages", LIMITS.stages_max), within("width", LIMITS.width_max)) {
        doubled(fields, stages, width, 1);
    }
    layers(fields, 1);
    kernel(fields);
    word(fields, "pool", &["max", "average"]);
    bool(fields, "global_pool");
    if let Some(hidden) = fields.optional("hidden") {
        widths(&hidden);
    }
}

fn kernel(fields: &Fields) {
    if let Some(node) = fields.optional("kernel")
        && let Some(kernel) = node.whole(1..=LIMITS.kernel_max.into())
        && kernel % 2 == 0
    {
        node.wrong_value("give an odd number, for example 3");
    }
}

fn resnet(fields: &Fields) {
    kernel(fields);
    bool(fields, "bottleneck");
    let stages = match fields.optional("blocks") {
        Some(node) => {
            let blocks = wholes(&node, 1..=LIMITS.stages_max as usize, 1..=LIMITS.layers_max);
            blocks.map(|blocks| blocks.len())
        }
        None => Some(default_blocks().len()),
    };
    let width = match fields.optional("width") {
        Some(node) => node.whole(1..=LIMITS.width_max.into()),
        None => Some(default_resnet_width().into()),
    };
    let (Some(stages), Some(width)) = (stages, width) else { return };
    let is_bottleneck = fields.optional("bottleneck").is_some_and(|node| node.value.as_bool() == Some(true));
    doubled(fields, stages as u64, width, if is_bottleneck { BOTTLENECK } else { 1 });
}

/// A width that is doubled from stage to stage, and so many times as much is given.
fn doubled(fields: &Fields, stages: u64, width: u64, times: u64) {
    let last = (width * times) << (stages - 1);
    if last > LIMITS.width_max.into() {
        let problem = format!("is {width}, and the last of {stages} stages has {last} channels");
        let help = format!("give a smaller `width` or fewer stages: at most {} channels", LIMITS.width_max);
        fields.fault("width", problem, help);
    }
}

fn transformer(fields: &Fields, task: Option<&str>) {
    fields.required("layers", "the number of blocks, for example 4");
    layers(fields, 1);
    let width = fields.required("width", "that of a position, a multiple of `heads`, for example 128");
    let heads = fields.required("heads", "those of each attention, for example 4");
    let heads = heads.and_then(|node| node.whole(1..=LIMITS.heads_max.into()));
    if let Some(node) = width
        && let Some(width) = node.whole(1..=LIMITS.width_max.into())
        && let Some(heads) = heads
        && width % heads != 0
    {
        node.fault(format!("is {width}, which `heads` ({heads}) does not divide"), "give a multiple of `heads`");
    }
    whole(fields, "ratio", 1..=LIMITS.ratio_max);
    whole(fields, "patch", 1..=LIMITS.patch_max);
    if let Some(node) = fields.optional("vocabulary") {
        node.whole(2..=LIMITS.vocabulary_max as u64);
    }
    let direction = word(fields, "direction", &["encoder", "decoder"]);
    let is_decoder = direction == Some("decoder");
    if let (Some(task), true) = (task, is_decoder)
        && task != "language_model"
    {
        let help = "write `encoder`, or change `data.task` to `language_model`";
        fields.fault("direction", format!("is `decoder`, which does not fit the task `{task}`"), help);
    }
    let is_encoder = fields.optional("direction").is_none() || direction == Some("encoder");
    if is_encoder && task == Some("language_model") {
        fields.fault("direction", "is `encoder`, which sees the token that it is asked for", "write `decoder`");
    }
}

fn tabular(fields: &Fields) {
    if let Some(hidden) = either(fields, "hidden", ("layers", "the number of dense layers"), "the units of each") {
        widths(&hidden);
    }
    layers(fields, 0);
    whole(fields, "embedding", 1..=LIMITS.width_max);
}

fn onnx(fields: &Fields) {
    place::check(fields, "model", LIMITS.model_bytes_max);
    word(fields, "weights", &["file", "kaiming", "xavier"]);
    texts(fields, "frozen");
    if let Some(node) = fields.optional("output") {
        node.text();
    }
}
