//! Turns the wire's recipe into the training's plan.

use std::sync::Arc;

use regatta_autodiff::import::{Settings, Weights};
use regatta_schemas::recipe;

use crate::training::{
    Activation, Adam, Augmentation, Loss, Metric, ModelPlan, Norm, OptimizerPlan, Plan, Pool, PositionNorm, Precision,
    Schedule, TrainingError,
};

/// The plan of a trial of `epochs` epochs in all, with the model's file where the recipe names one. Whether its
/// numbers make sense is for the training to say.
///
/// # Errors
/// The recipe asks for what this agent does not train.
pub fn plan(
    recipe: &recipe::Training,
    file: Option<&Arc<Vec<u8>>>,
    epochs: u32,
    seed: u64,
) -> Result<Plan, TrainingError> {
    Ok(Plan {
        model: model(&recipe.model, &recipe.without.layers, file)?,
        without: recipe.without.layers.clone(),
        loss: loss(&recipe.loss, recipe.data.task),
        optimizer: optimizer(&recipe.optimizer),
        augment: recipe.augment.iter().map(augmentation).collect(),
        batch_size: size(recipe.batch_size),
        clip_norm: recipe.clip_norm.map(single),
        clip_value: recipe.clip_value.map(single),
        undecayed: recipe.undecayed.clone(),
        accumulate: recipe.accumulate,
        average: recipe.average,
        precision: match recipe.precision {
            recipe::Precision::Single => Precision::Single,
            recipe::Precision::Half => Precision::Half,
            recipe::Precision::Bfloat16 => Precision::Bfloat16,
        },
        recompute: recipe.recompute,
        best_by: None,
        schedule: schedule(&recipe.schedule),
        warm_up: recipe.schedule.warm_up(),
        metrics: unasked(recipe.data.task).iter().copied().chain(recipe.metrics.iter().copied().map(metric)).collect(),
        epochs,
        seed,
    })
}

#[expect(clippy::cast_possible_truncation, reason = "the training is in single precision")]
fn single(number: f64) -> f32 {
    number as f32
}

fn size(number: u32) -> usize {
    number as usize
}

fn sizes(numbers: &[u32]) -> Vec<usize> {
    numbers.iter().copied().map(size).collect()
}

/// `without` are the layers left out, which of a file are the file's to know.
fn model(model: &recipe::Model, without: &[String], file: Option<&Arc<Vec<u8>>>) -> Result<ModelPlan, TrainingError> {
    Ok(match model {
        recipe::Model::Mlp(mlp) => ModelPlan::Mlp {
            hidden: sizes(&mlp.hidden_widths()),
            norm: norm(mlp.norm),
            activation: activation(mlp.activation),
            dropout: single(mlp.dropout),
        },
        recipe::Model::Cnn(cnn) => ModelPlan::Cnn {
            channels: sizes(&cnn.channels()),
            layers: size(cnn.layers),
            kernel: size(cnn.kernel),
            norm: norm(cnn.norm),
            activation: activation(cnn.activation),
            pool: match cnn.pool {
                recipe::Pool::Max => Pool::Max,
                recipe::Pool::Average => Pool::Average,
            },
            global_pool: cnn.global_pool,
            hidden: sizes(&cnn.hidden),
            dropout: single(cnn.dropout),
        },
        recipe::Model::Resnet(resnet) => ModelPlan::Resnet {
            blocks: sizes(&resnet.blocks),
            width: size(resnet.width),
            bottleneck: resnet.bottleneck,
            kernel: size(resnet.kernel),
            norm: norm(resnet.norm),
            activation: activation(resnet.activation),
            dropout: single(resnet.dropout),
        },
        recipe::Model::Transformer(transformer) => ModelPlan::Transformer {
            decoder: transformer.direction == recipe::Direction::Decoder,
            layers: size(transformer.layers),
            width: size(transformer.width),
            heads: size(transformer.heads),
            ratio: size(transformer.ratio),
            patch: transformer.patch.map(size),
            vocabulary: transformer.vocabulary.map(size),
            norm: match transformer.norm {
                recipe::PositionNorm::Layer => PositionNorm::Layer,
                recipe::PositionNorm::Rms => PositionNorm::Rms,
            },
            activation: activation(transformer.activation),
            dropout: single(transformer.dropout),
        },
        recipe::Model::Tabular(tabular) => ModelPlan::Tabular {
            embedding: tabular.embedding.map(size),
            hidden: sizes(&tabular.hidden_widths()),
            norm: norm(tabular.norm),
            activation: activation(tabular.activation),
            dropout: single(tabular.dropout),
        },
        recipe::Model::Onnx(onnx) => ModelPlan::File {
            onnx: file.ok_or_else(|| unknown("model's file"))?.clone(),
            settings: Settings {
                output: onnx.output.clone(),
                weights: match onnx.weights {
                    recipe::Weights::File => Weights::File,
                    recipe::Weights::Kaiming => Weights::Kaiming,
                    recipe::Weights::Xavier => Weights::Xavier,
                },
                frozen: onnx.frozen.clone(),
                without: without.to_vec(),
            },
            dropout: onnx.dropout.map(single),
        },
    })
}

fn activation(activation: recipe::Activation) -> Activation {
    match activation {
        recipe::Activation::Relu => Activation::Relu,
        recipe::Activation::Tanh => Activation::Tanh,
        recipe::Activation::Sigmoid => Activation::Sigmoid,
        recipe::Activation::Gelu => Activation::Gelu,
        recipe::Activation::Silu => Activation::Silu,
        recipe::Activation::LeakyRelu => Activation::LeakyRelu,
        recipe::Activation::Elu => Activation::Elu,
        recipe::Activation::HardSwish => Activation::HardSwish,
        recipe::Activation::Mish => Activation::Mish,
    }
}

fn norm(norm: recipe::Norm) -> Norm {
    match norm {
        recipe::Norm::None => Norm::None,
        recipe::Norm::Batch => Norm::Batch,
        recipe::Norm::Group => Norm::Group,
        recipe::Norm::Layer => Norm::Layer,
    }
}

fn loss(loss: &recipe::Loss, task: recipe::Task) -> Loss {
    let settings = loss.settings();
    match settings.name {
        recipe::LossName::CrossEntropy => Loss::CrossEntropy {
            smoothing: settings.label_smoothing,
            class_weights: settings.class_weights.map(|weights| weights.into_iter().map(single).collect()),
            ignored: settings.ignore_index,
            classes_last: task == recipe::Task::LanguageModel,
        },
        recipe::LossName::BinaryCrossEntropy => Loss::BinaryCrossEntropy,
        recipe::LossName::MeanSquaredError => Loss::MeanSquaredError,
        recipe::LossName::MeanAbsoluteError => Loss::MeanAbsoluteError,
        recipe::LossName::Huber => Loss::Huber { delta: settings.delta },
        recipe::LossName::KlDivergence => Loss::KlDivergence,
        recipe::LossName::Ctc => Loss::Ctc,
    }
}

/// What a study of the task may seek without asking for it, where no graph counts right answers.
fn unasked(task: recipe::Task) -> &'static [Metric] {
    match task {
        recipe::Task::Multilabel | recipe::Task::Transcription => &[Metric::Accuracy],
        recipe::Task::Classification | recipe::Task::Regression | recipe::Task::LanguageModel => &[],
    }
}

fn metric(metric: recipe::Metric) -> Metric {
    match metric {
        recipe::Metric::Top3Accuracy => Metric::Top3Accuracy,
        recipe::Metric::Top5Accuracy => Metric::Top5Accuracy,
        recipe::Metric::Top10Accuracy => Metric::Top10Accuracy,
        recipe::Metric::F1 => Metric::F1,
        recipe::Metric::Auroc => Metric::Auroc,
        recipe::Metric::MeanAbsoluteError => Metric::MeanAbsoluteError,
        recipe::Metric::R2 => Metric::R2,
        recipe::Metric::Perplexity => Metric::Perplexity,
        recipe::Metric::LabelErrorRate => Metric::LabelErrorRate,
    }
}

fn augmentation(augmentation: &recipe::Augmentation) -> Augmentation {
    match *augmentation {
        recipe::Augmentation::Shift { pixels } => Augmentation::Shift { pixels: size(pixels) },
        recipe::Augmentation::Flip => Augmentation::Flip,
        recipe::Augmentation::Noise { deviation } => Augmentation::Noise { deviation },
        recipe::Augmentation::Mixup { alpha } => Augmentation::Mixup { alpha },
    }
}

fn optimizer(optimizer: &recipe::Optimizer) -> OptimizerPlan {
    match optimizer {
        recipe::Optimizer::Sgd(sgd) => OptimizerPlan::Sgd {
            learning_rate: sgd.learning_rate,
            momentum: sgd.momentum,
            nesterov: sgd.nesterov,
            weight_decay: sgd.weight_decay,
        },
        recipe::Optimizer::Adam(numbers) => OptimizerPlan::Adam(adam(numbers)),
        recipe::Optimizer::AdamW(numbers) => OptimizerPlan::AdamW(adam(numbers)),
        recipe::Optimizer::Lamb(numbers) => OptimizerPlan::Lamb(adam(numbers)),
        recipe::Optimizer::Rmsprop(rmsprop) => OptimizerPlan::Rmsprop {
            learning_rate: rmsprop.learning_rate,
            alpha: rmsprop.alpha,
            epsilon: rmsprop.epsilon,
            momentum: rmsprop.momentum,
            weight_decay: rmsprop.weight_decay,
        },
        recipe::Optimizer::Adagrad(adagrad) => OptimizerPlan::Adagrad {
            learning_rate: adagrad.learning_rate,
            epsilon: adagrad.epsilon,
            weight_decay: adagrad.weight_decay,
        },
        recipe::Optimizer::Lion(lion) => OptimizerPlan::Lion {
            learning_rate: lion.learning_rate,
            beta1: lion.beta1,
            beta2: lion.beta2,
            weight_decay: lion.weight_decay,
        },
    }
}

fn schedule(schedule: &recipe::Schedule) -> Schedule {
    match *schedule {
        recipe::Schedule::Constant { .. } => Schedule::Constant,
        recipe::Schedule::Step { every, factor, .. } => Schedule::Step { every, factor },
        recipe::Schedule::Cosine { floor, .. } => Schedule::Cosine { floor },
        recipe::Schedule::Linear { floor, .. } => Schedule::Linear { floor },
        recipe::Schedule::OneCycle { rise, start, floor } => Schedule::OneCycle { rise, start, floor },
        recipe::Schedule::Exponential { factor, .. } => Schedule::Exponential { factor },
        recipe::Schedule::Plateau { factor, patience } => Schedule::Plateau { factor, patience },
    }
}

fn unknown(what: &str) -> TrainingError {
    TrainingError::Configuration { reason: format!("this agent does not know the {what} of the recipe") }
}

fn adam(numbers: &recipe::Adam) -> Adam {
    Adam {
        learning_rate: numbers.learning_rate,
        beta1: numbers.beta1,
        beta2: numbers.beta2,
        epsilon: numbers.epsilon,
        weight_decay: numbers.weight_decay,
    }
}
