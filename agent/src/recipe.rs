//! Turns the wire's recipe into the training's plan.

use regatta_schemas::recipe::{self, Recipe};

use crate::training::{Activation, Adam, Loss, ModelPlan, OptimizerPlan, Plan, Schedule, TrainingError};

/// The plan of a trial of `epochs` epochs in all. Whether its numbers make sense is for the training to say.
///
/// # Errors
/// The recipe asks for what this agent does not train.
pub fn plan(recipe: &Recipe, epochs: u32, seed: u64) -> Result<Plan, TrainingError> {
    let is_plain_loss = recipe.loss.settings() == recipe::Loss::Plain(recipe.loss.name()).settings();
    let supported = [
        ("settings of the loss", is_plain_loss),
        ("precision", recipe.precision == recipe::Precision::Single),
        ("augmentations", recipe.augment.is_empty()),
        ("further metrics", recipe.metrics.is_empty()),
    ];
    if let Some((what, _)) = supported.into_iter().find(|(_, is_known)| !is_known) {
        return Err(unknown(what));
    }
    let loss = match recipe.loss.name() {
        recipe::LossName::CrossEntropy => Loss::CrossEntropy,
        recipe::LossName::MeanSquaredError => Loss::MeanSquaredError,
        _ => return Err(unknown("loss")),
    };
    Ok(Plan {
        model: model(&recipe.model)?,
        loss,
        optimizer: optimizer(&recipe.optimizer),
        batch_size: recipe.batch_size as usize,
        clip_norm: recipe.clip_norm.map(single),
        clip_value: recipe.clip_value.map(single),
        undecayed: recipe.undecayed.clone(),
        accumulate: recipe.accumulate,
        average: recipe.average,
        schedule: schedule(&recipe.schedule),
        epochs,
        seed,
    })
}

#[expect(clippy::cast_possible_truncation, reason = "the training is in single precision")]
fn single(number: f64) -> f32 {
    number as f32
}

fn model(model: &recipe::Model) -> Result<ModelPlan, TrainingError> {
    let recipe::Model::Mlp(mlp) = model else { return Err(unknown("model")) };
    Ok(ModelPlan::Mlp {
        hidden: mlp.hidden_widths().into_iter().map(|width| width as usize).collect(),
        activation: match mlp.activation {
            recipe::Activation::Relu => Activation::Relu,
            recipe::Activation::Tanh => Activation::Tanh,
            recipe::Activation::Sigmoid => Activation::Sigmoid,
            recipe::Activation::Gelu => Activation::Gelu,
            _ => return Err(unknown("activation")),
        },
        dropout: single(mlp.dropout),
    })
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
        recipe::Schedule::Constant => Schedule::Constant,
        recipe::Schedule::Step { every, factor } => Schedule::Step { every, factor },
        recipe::Schedule::Cosine { floor } => Schedule::Cosine { floor },
        recipe::Schedule::Linear { floor } => Schedule::Linear { floor },
        recipe::Schedule::OneCycle { rise, start, floor } => Schedule::OneCycle { rise, start, floor },
        recipe::Schedule::Exponential { factor } => Schedule::Exponential { factor },
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
