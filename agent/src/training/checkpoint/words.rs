//! The shape of a training in words that stay the same whatever the types are called: a checkpoint resumes only a
//! training of the same.

use regatta_autodiff::step::{Augment, ClassAxis, CrossEntropy, Loss, Optimizer, Precision};

use super::Subject;

pub(super) fn of(subject: &Subject<'_>) -> String {
    let Subject { plan, rows, is_streamed, .. } = *subject;
    let decay = plan.update.weight_decay;
    let undecayed: Vec<String> =
        plan.undecayed.iter().filter(|_| decay).map(|pattern| format!("but {pattern}")).collect();
    let words = [
        plan.model.words(),
        loss(&plan.loss),
        augmentations(&plan.augment),
        optimizer(plan.update.optimizer).into(),
        when(decay, "weight_decay"),
        undecayed.join(" "),
        when(plan.clip.norm, "clip"),
        when(plan.clip.value, "clip_value"),
        when(plan.accumulate, "accumulate"),
        when(plan.average, "average"),
        precision(plan.precision).into(),
        when(is_streamed, "streamed"),
        format!("rows {rows} batch {}", plan.batch),
    ];
    let words: Vec<String> = words.into_iter().filter(|words| !words.is_empty()).collect();
    words.join(" ")
}

fn when(holds: bool, word: &str) -> String {
    if holds { word.into() } else { String::new() }
}

fn loss(loss: &Loss) -> String {
    match loss {
        Loss::CrossEntropy(CrossEntropy { axis, smoothed, weighted, ignored }) => {
            let ignored = ignored.map_or_else(String::new, |class| format!(" ignoring {class}"));
            let (smoothed, weighted) = (when(*smoothed, " smoothed"), when(*weighted, " weighted"));
            let axis = when(*axis == ClassAxis::First, " of the first axis");
            format!("cross_entropy{axis}{smoothed}{weighted}{ignored}")
        }
        Loss::BinaryCrossEntropy => "binary_cross_entropy".into(),
        Loss::MeanSquaredError => "mean_squared_error".into(),
        Loss::MeanAbsoluteError => "mean_absolute_error".into(),
        Loss::Huber => "huber".into(),
        Loss::KlDivergence => "kl_divergence".into(),
        Loss::Ctc { labels } => format!("ctc of {labels}"),
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

fn precision(precision: Precision) -> &'static str {
    match precision {
        Precision::Single => "",
        Precision::Half => "half",
        Precision::Bfloat16 => "bfloat16",
    }
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
