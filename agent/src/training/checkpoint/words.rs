//! The shape of a training in words that stay the same whatever the types are called: a checkpoint resumes only a
//! training of the same.

use regatta_autodiff::families::transformer::{Answer, Input};
use regatta_autodiff::families::{Activation, Model, Norm, Pool};
use regatta_autodiff::step::{Augment, CrossEntropy, Loss, Optimizer};

use super::Subject;

pub(super) fn of(subject: &Subject<'_>) -> String {
    let Subject { plan, rows, is_streamed, .. } = *subject;
    let decay = plan.update.weight_decay;
    let undecayed: Vec<String> =
        plan.undecayed.iter().filter(|_| decay).map(|pattern| format!("but {pattern}")).collect();
    let words = [
        model(&plan.model),
        loss(&plan.loss),
        augmentations(&plan.augment),
        optimizer(plan.update.optimizer).into(),
        when(decay, "weight_decay"),
        undecayed.join(" "),
        when(plan.clip.norm, "clip"),
        when(plan.clip.value, "clip_value"),
        when(plan.accumulate, "accumulate"),
        when(plan.average, "average"),
        when(is_streamed, "streamed"),
        format!("rows {rows} batch {}", plan.batch),
    ];
    let words: Vec<String> = words.into_iter().filter(|words| !words.is_empty()).collect();
    words.join(" ")
}

fn when(holds: bool, word: &str) -> String {
    if holds { word.into() } else { String::new() }
}

fn model(model: &Model) -> String {
    let words = match model {
        Model::Mlp(mlp) => vec![
            "mlp".into(),
            sizes(&[&[mlp.inputs], mlp.hidden.as_slice(), &[mlp.outputs]].concat()),
            activation(mlp.activation).into(),
            when(mlp.dropout, "dropout"),
        ],
        Model::Cnn(cnn) => vec![
            format!("cnn {} channels {}", sizes(&cnn.input), sizes(&cnn.channels)),
            format!("layers {} kernel {}", cnn.layers, cnn.kernel),
            format!("{} {}", norm(cnn.norm), activation(cnn.activation)),
            if cnn.pool == Pool::Max { "max".into() } else { "average".into() },
            when(cnn.global_pool, "global"),
            format!("hidden {} outputs {}", sizes(&cnn.hidden), cnn.outputs),
            when(cnn.dropout, "dropout"),
        ],
        Model::Resnet(resnet) => vec![
            format!("resnet {} blocks {}", sizes(&resnet.input), sizes(&resnet.blocks)),
            format!("width {} {} {}", resnet.width, norm(resnet.norm), activation(resnet.activation)),
            when(resnet.bottleneck, "bottleneck"),
            format!("outputs {}", resnet.outputs),
            when(resnet.dropout, "dropout"),
        ],
        Model::Transformer(transformer) => vec![
            format!("transformer of {}", positions(&transformer.input)),
            match transformer.answer {
                Answer::Row(outputs) => format!("outputs {outputs}"),
                Answer::NextToken => "next_token".into(),
            },
            format!("layers {} width {}", transformer.layers, transformer.width),
            format!("heads {} ratio {}", transformer.heads, transformer.ratio),
            activation(transformer.activation).into(),
            when(transformer.dropout, "dropout"),
        ],
        Model::Tabular(tabular) => vec![
            format!("tabular numbers {} categories {}", tabular.numbers, sizes(&tabular.categories)),
            tabular.embedding.map_or_else(String::new, |width| format!("embedding {width}")),
            format!("hidden {} {}", sizes(&tabular.hidden), norm(tabular.norm)),
            format!("{} outputs {}", activation(tabular.activation), tabular.outputs),
            when(tabular.dropout, "dropout"),
        ],
        Model::Imported(imported) => vec![format!("imported {}", imported.shape_words())],
    };
    let words: Vec<String> = words.into_iter().filter(|words| !words.is_empty()).collect();
    words.join(" ")
}

fn positions(input: &Input) -> String {
    match input {
        Input::Sequence { length, width } => format!("sequence {length} x {width}"),
        Input::Image { shape, patch } => format!("image {} patch {patch}", sizes(shape)),
        Input::Tokens { length, vocabulary } => format!("tokens {length} of {vocabulary}"),
    }
}

fn sizes(sizes: &[usize]) -> String {
    let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
    if sizes.is_empty() { "none".into() } else { sizes.join("-") }
}

fn activation(activation: Activation) -> &'static str {
    match activation {
        Activation::Relu => "relu",
        Activation::Tanh => "tanh",
        Activation::Sigmoid => "sigmoid",
        Activation::Gelu => "gelu",
        Activation::Silu => "silu",
        Activation::LeakyRelu => "leaky_relu",
        Activation::Elu => "elu",
        Activation::HardSwish => "hard_swish",
        Activation::Mish => "mish",
    }
}

fn norm(norm: Norm) -> &'static str {
    match norm {
        Norm::None => "no_norm",
        Norm::Batch => "batch_norm",
        Norm::Group => "group_norm",
        Norm::Layer => "layer_norm",
    }
}

fn loss(loss: &Loss) -> String {
    match loss {
        Loss::CrossEntropy(CrossEntropy { smoothed, weighted, ignored }) => {
            let ignored = ignored.map_or_else(String::new, |class| format!(" ignoring {class}"));
            let (smoothed, weighted) = (when(*smoothed, " smoothed"), when(*weighted, " weighted"));
            format!("cross_entropy{smoothed}{weighted}{ignored}")
        }
        Loss::BinaryCrossEntropy => "binary_cross_entropy".into(),
        Loss::MeanSquaredError => "mean_squared_error".into(),
        Loss::MeanAbsoluteError => "mean_absolute_error".into(),
        Loss::Huber => "huber".into(),
        Loss::KlDivergence => "kl_divergence".into(),
    }
}

fn augmentations(augmentations: &[Augment]) -> String {
    let words: Vec<String> = augmentations
        .iter()
        .map(|augmentation| match augmentation {
            Augment::Shift { pixels } => format!("shift {pixels}"),
            Augment::Flip => "flip".into(),
            Augment::Noise => "noise".into(),
            Augment::Mixup => "mixup".into(),
        })
        .collect();
    words.join(" ")
}

fn optimizer(optimizer: Optimizer) -> &'static str {
    match optimizer {
        Optimizer::Sgd => "sgd",
        Optimizer::Momentum { nesterov: false } => "momentum",
        Optimizer::Momentum { nesterov: true } => "nesterov",
        Optimizer::Adam => "adam",
        Optimizer::AdamW => "adamw",
        Optimizer::Rmsprop { momentum: false } => "rmsprop",
        Optimizer::Rmsprop { momentum: true } => "rmsprop_momentum",
        Optimizer::Adagrad => "adagrad",
        Optimizer::Lamb => "lamb",
        Optimizer::Lion => "lion",
    }
}
