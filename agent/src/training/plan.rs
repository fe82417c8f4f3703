//! What is to be trained, every value resolved, and its split into a shape (which compiles) and numbers.

use regatta_autodiff::families::Model;
use regatta_autodiff::graph::{Dtype, Provider};
use regatta_autodiff::step::{self, ClassAxis, Clip, Optimizer, Precision, Scalar, ScalarRole, StepPlan, Update};

use super::augment::Augmentation;
use super::dataset::Target;
use super::metrics::{Metric, Reading, without_padding};
use super::model::ModelPlan;
use super::schedule::Schedule;
use super::stream::Source;
use super::{TrainingError, augment};
use crate::runtime::Array;

/// One trial, resolved. Independent of the wire's types.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub model: ModelPlan,
    /// Layers that the model is built without, by name.
    pub without: Vec<String>,
    pub loss: Loss,
    pub optimizer: OptimizerPlan,
    /// What is done to the minibatches, in this order.
    pub augment: Vec<Augmentation>,
    /// Rows of a minibatch. A training split with fewer rows is one minibatch; a last, smaller one is left out.
    pub batch_size: usize,
    /// The joint norm that gradients are clipped to.
    pub clip_norm: Option<f32>,
    /// What each element of a gradient is cut to, before the norm is taken.
    pub clip_value: Option<f32>,
    /// Parameters without weight decay, by name; `*` stands for any characters.
    pub undecayed: Vec<String>,
    /// Minibatches of an update, counted over the borders of epochs.
    pub accumulate: u32,
    /// The share that an update keeps of the average of the weights, which is then what is evaluated.
    pub average: Option<f64>,
    /// What the model computes in while it is trained.
    pub precision: Precision,
    /// Whether the values within a model's parts are computed again for the gradient rather than kept.
    pub recompute: bool,
    /// What is measured at the ends of epochs by which the best weights are kept beside the last; `None`: only the last.
    pub best_by: Option<BestBy>,
    pub schedule: Schedule,
    /// The share of all steps, in `0 .. 1`, in which the learning rate first rises to the optimizer's own; the schedule
    /// runs over the rest.
    pub warm_up: f64,
    /// What is measured on the validation rows beside the loss, and beside the accuracy for classes.
    pub metrics: Vec<Metric>,
    /// Epochs of the whole training, which a schedule runs over.
    pub epochs: u32,
    pub seed: u64,
}

/// What a plan's graphs are written for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings {
    pub provider: Provider,
    /// Whether whoever runs them has operators of our own.
    pub own_operators: bool,
    /// Minibatches that are handed over at once.
    pub ahead: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Loss {
    CrossEntropy {
        /// The share of the target that is spread over all classes, in `0 .. 1`.
        smoothing: f64,
        /// How much each class counts.
        class_weights: Option<Vec<f32>>,
        /// Positions of this class do not count.
        ignored: Option<i64>,
        /// Whether outputs with as many positions as classes are `[positions, classes]`. Where this is false nobody
        /// knows, and a model of a file with such outputs is refused.
        classes_last: bool,
    },
    BinaryCrossEntropy,
    MeanSquaredError,
    MeanAbsoluteError,
    Huber {
        /// Where it turns from squared to absolute.
        delta: f64,
    },
    KlDivergence,
    /// Connectionist temporal classification.
    Ctc,
}

impl Loss {
    /// Cross-entropy in which every position and class counts alike.
    pub fn cross_entropy() -> Self {
        Self::CrossEntropy { smoothing: 0.0, class_weights: None, ignored: None, classes_last: false }
    }

    /// The label that is no class.
    pub(super) fn ignored(&self) -> Option<i64> {
        if let Self::CrossEntropy { ignored, .. } = self { *ignored } else { None }
    }

    /// Of the model's outputs against such targets.
    fn form(&self, model: &Model, target: &Target) -> Result<step::Loss, TrainingError> {
        Ok(match self {
            Self::CrossEntropy { smoothing, class_weights, ignored, classes_last } => {
                // Every family has its classes last.
                let classes_last = *classes_last || !matches!(model, Model::Imported(_));
                step::Loss::CrossEntropy(step::CrossEntropy {
                    axis: class_axis(&model.output(), target.shape(), classes_last)?,
                    smoothed: *smoothing > 0.0,
                    weighted: class_weights.is_some(),
                    ignored: *ignored,
                })
            }
            Self::BinaryCrossEntropy => step::Loss::BinaryCrossEntropy,
            Self::MeanSquaredError => step::Loss::MeanSquaredError,
            Self::MeanAbsoluteError => step::Loss::MeanAbsoluteError,
            Self::Huber { .. } => step::Loss::Huber,
            Self::KlDivergence => step::Loss::KlDivergence,
            Self::Ctc => step::Loss::Ctc { labels: target.width() },
        })
    }
}

/// Where outputs of a row have their classes, by the shape of its target.
fn class_axis(output: &[usize], target: &[usize], classes_last: bool) -> Result<ClassAxis, TrainingError> {
    match (output, target) {
        (&[one, other], &[places]) if one == places && other == places && !classes_last => {
            let reason = format!(
                "the model gives {one} x {other} numbers a row for {places} places, so nobody can tell which of its axes \
                 has the classes: let it give one class more, which no target has; or, where its outputs are \
                 [places, classes], write `task: language_model`"
            );
            Err(TrainingError::Configuration { reason })
        }
        (&[one, other], &[places]) if other == places && one != places => Ok(ClassAxis::First),
        _ => Ok(ClassAxis::Last),
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptimizerPlan {
    Sgd {
        learning_rate: f64,
        momentum: f64,
        nesterov: bool,
        weight_decay: f64,
    },
    Adam(Adam),
    /// With decoupled weight decay.
    AdamW(Adam),
    Rmsprop {
        learning_rate: f64,
        /// The share of the mean square that is kept.
        alpha: f64,
        epsilon: f64,
        momentum: f64,
        weight_decay: f64,
    },
    Adagrad {
        learning_rate: f64,
        epsilon: f64,
        weight_decay: f64,
    },
    Lamb(Adam),
    Lion {
        learning_rate: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
    },
}

/// The numbers of Adam, AdamW and LAMB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
}

/// By what some weights are better than others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BestBy {
    /// One of those in [`Metrics`](super::Metrics); where it is not there, no weights are the best.
    pub metric: String,
    pub is_greater_better: bool,
}

impl BestBy {
    pub(super) fn is_better(&self, value: f64, than: f64) -> bool {
        if self.is_greater_better { value > than } else { value < than }
    }
}

impl Plan {
    /// A plan without augmentation, clipping, accumulation, average and schedule, of one epoch.
    pub fn new(model: ModelPlan, loss: Loss, optimizer: OptimizerPlan, batch_size: usize, seed: u64) -> Self {
        Self {
            model,
            without: Vec::new(),
            loss,
            optimizer,
            augment: Vec::new(),
            batch_size,
            clip_norm: None,
            clip_value: None,
            undecayed: Vec::new(),
            accumulate: 1,
            average: None,
            precision: Precision::Single,
            recompute: false,
            best_by: None,
            schedule: Schedule::Constant,
            warm_up: 0.0,
            metrics: Vec::new(),
            epochs: 1,
            seed,
        }
    }

    /// Whether every number is in its range.
    pub(super) fn check(&self) -> Result<(), TrainingError> {
        let positive = |number: f64| number.is_finite() && number > 0.0;
        let not_negative = |number: f64| number.is_finite() && number >= 0.0;
        let share = |number: f64| (0.0..1.0).contains(&number);
        let mut rules = vec![
            ("batch_size is at least 1", self.batch_size > 0),
            ("dropout is in 0 .. 1", self.model.dropout().is_none_or(|rate| share(f64::from(rate)))),
            ("clip_norm is above 0", self.clip_norm.is_none_or(|norm| positive(f64::from(norm)))),
            ("clip_value is above 0", self.clip_value.is_none_or(|value| positive(f64::from(value)))),
            ("accumulate is at least 1", self.accumulate > 0),
            ("average is in 0 .. 1", self.average.is_none_or(share)),
            ("warm_up is in 0 .. 1", share(self.warm_up)),
            ("recompute is for the families cnn, resnet and transformer", !self.recompute || self.model.has_parts()),
        ];
        match &self.loss {
            Loss::CrossEntropy { smoothing, class_weights, .. } => {
                let is_weight = |weight: &f32| not_negative(f64::from(*weight));
                let are_weights = class_weights.as_ref().is_none_or(|weights| weights.iter().all(is_weight));
                rules.push(("label_smoothing is in 0 .. 1", share(*smoothing)));
                rules.push(("class_weights are not negative", are_weights));
            }
            Loss::Huber { delta } => rules.push(("delta is above 0", positive(*delta))),
            Loss::BinaryCrossEntropy
            | Loss::MeanSquaredError
            | Loss::MeanAbsoluteError
            | Loss::KlDivergence
            | Loss::Ctc => {}
        }
        if let OptimizerPlan::Sgd { momentum, nesterov, .. } = self.optimizer {
            rules.push(("nesterov needs momentum", !nesterov || momentum > 0.0));
        }
        rules.extend(self.optimizer.numbers().into_iter().map(|(role, number)| match role {
            ScalarRole::Beta1 => ("beta1 is in 0 .. 1", share(number)),
            ScalarRole::Beta2 => ("beta2 is in 0 .. 1", share(number)),
            ScalarRole::Alpha => ("alpha is in 0 .. 1", share(number)),
            ScalarRole::Momentum => ("momentum is not negative", not_negative(number)),
            ScalarRole::Epsilon => ("epsilon is not negative", not_negative(number)),
            ScalarRole::WeightDecay => ("weight_decay is not negative", not_negative(number)),
            _ => ("learning_rate is not negative", not_negative(number)),
        }));
        rules.extend(self.schedule.broken_rule().map(|rule| (rule, false)));
        rules.extend(augment::broken_rule(&self.augment).map(|rule| (rule, false)));
        match rules.into_iter().find(|(_, holds)| !holds) {
            Some((rule, _)) => Err(TrainingError::Configuration { reason: format!("it does not hold that {rule}") }),
            None => Ok(()),
        }
    }

    /// Rows of a minibatch of so many rows.
    pub(super) fn batch(&self, rows: usize) -> usize {
        self.batch_size.min(rows)
    }

    /// What of the plan and its rows decides the graph. Plans of the same shape share a compiled one.
    ///
    /// A minibatch of rows that are not in memory comes as a whole, as if it were all of the data.
    pub(super) fn shape(&self, model: Model, source: &Source, on: Surroundings) -> Result<StepPlan, TrainingError> {
        let loss = self.loss.form(&model, &source.validation().target)?;
        self.check_target(&model, &loss, &source.validation().target)?;
        if let (Loss::Ctc, [frames, _]) = (&self.loss, &model.output()[..]) {
            source.targets().try_for_each(|target| check_frames(target, *frames))?;
        }
        if let (Some(rate), Model::Imported(imported)) = (self.model.dropout(), &model)
            && rate > 0.0
            && imported.dropout_rate().is_none()
        {
            let reason = "`model.dropout` is set, and the model's file has no dropout: leave it out, or export the model in \
                          train() mode, with optimize=False where the exporter has it";
            return Err(TrainingError::Configuration { reason: reason.into() });
        }
        let batch = self.batch(source.rows());
        let Surroundings { provider, own_operators, ahead } = on;
        if self.precision == Precision::Bfloat16 && provider == Provider::Cpu {
            let reason =
                "there is no arithmetic of bfloat16 on the CPU; set `precision` to half or single, or train on a GPU";
            return Err(TrainingError::Configuration { reason: reason.into() });
        }
        Ok(StepPlan {
            model,
            loss,
            augment: self.augment.iter().map(|augmentation| augmentation.form()).collect(),
            update: self.optimizer.update(own_operators),
            undecayed: self.undecayed.clone(),
            clip: Clip { norm: self.clip_norm.is_some(), value: self.clip_value.is_some() },
            accumulate: self.accumulate > 1,
            average: self.average.is_some(),
            precision: self.precision,
            recompute: self.recompute,
            outputs: self.metrics.iter().any(|metric| metric.needs_outputs()),
            rows: if source.comes_in_batches() { batch } else { source.rows() },
            batch,
            ahead: if source.comes_in_batches() { 1 } else { ahead },
            provider,
        })
    }

    /// Whether the loss of the model's outputs can be of such targets.
    fn check_target(&self, model: &Model, loss: &step::Loss, target: &Target) -> Result<(), TrainingError> {
        let output = model.output();
        let wanted = loss.target(&output);
        let (dtype, classes) = match target {
            Target::Classes { classes, .. } => (Dtype::I64, Some(*classes)),
            Target::Values { .. } => (Dtype::F32, None),
        };
        let fits = wanted.as_ref().is_some_and(|(kind, shape)| *kind == dtype && shape == target.shape());
        let classes_fit = classes.is_none_or(|classes| loss.classes(&output).is_some_and(|known| known >= classes));
        let weights_fit = match &self.loss {
            Loss::CrossEntropy { class_weights: Some(weights), .. } => loss.classes(&output) == Some(weights.len()),
            _ => true,
        };
        if fits && classes_fit && weights_fit {
            return Ok(());
        }
        let reason = format!(
            "the loss of outputs of shape {output:?} does not go with targets of shape {:?}{}; cross-entropy goes with \
             classes, with as many weights, where targets have axes with outputs [classes, places], [places, classes] or \
             [classes, height, width]; ctc with labels and outputs [frames, classes], the other losses with values",
            target.shape(),
            classes.map_or_else(String::new, |classes| format!(" of {classes} classes")),
        );
        Err(TrainingError::Configuration { reason })
    }

    /// What a scalar input of the plan's graph is set to.
    pub(super) fn scalar(&self, scalar: &Scalar, model: &Model) -> Array {
        let dropout = match (self.model.dropout(), model) {
            (Some(rate), _) => f64::from(rate),
            (None, Model::Imported(imported)) => imported.dropout_rate().unwrap_or(0.0),
            (None, _) => 0.0,
        };
        if scalar.role == ScalarRole::DropoutSeed {
            return Array::I64(vec![self.seed.cast_signed()]);
        }
        let mut numbers = self.optimizer.numbers();
        numbers.push((ScalarRole::DropoutRate, dropout));
        match self.loss {
            Loss::CrossEntropy { smoothing, .. } => numbers.push((ScalarRole::LabelSmoothing, smoothing)),
            Loss::Huber { delta } => numbers.push((ScalarRole::HuberDelta, delta)),
            Loss::BinaryCrossEntropy
            | Loss::MeanSquaredError
            | Loss::MeanAbsoluteError
            | Loss::KlDivergence
            | Loss::Ctc => {}
        }
        numbers.extend(self.clip_norm.map(|norm| (ScalarRole::ClipNorm, f64::from(norm))));
        numbers.extend(self.clip_value.map(|value| (ScalarRole::ClipValue, f64::from(value))));
        numbers.extend(self.average.map(|kept| (ScalarRole::AverageKept, kept)));
        numbers.push((ScalarRole::GradientShare, 1.0 / f64::from(self.accumulate)));
        numbers.push((ScalarRole::Carry, 0.0));
        numbers.push((ScalarRole::MixupShare, 1.0));
        numbers.extend(augment::deviation(&self.augment).map(|deviation| (ScalarRole::NoiseDeviation, deviation)));
        let number = numbers.into_iter().find(|(role, _)| *role == scalar.role);
        let (_, number) = number.expect("a graph asks only for numbers that its plan has");
        numbers_array(scalar.input.dtype, &[number])
    }

    /// How much each class counts; empty where all count alike.
    pub(super) fn class_weights(&self) -> &[f32] {
        match &self.loss {
            Loss::CrossEntropy { class_weights: Some(weights), .. } => weights,
            _ => &[],
        }
    }

    /// The share of a row itself in this step's minibatch, where rows are mixed.
    pub(super) fn mixup_share(&self, step: u64) -> f64 {
        augment::share(&self.augment, self.seed, step)
    }

    /// The optimizer's learning rate, before the schedule.
    pub(super) fn learning_rate(&self) -> f64 {
        let rate = self.optimizer.numbers().into_iter().find(|(role, _)| *role == ScalarRole::LearningRate);
        rate.expect("every optimizer has a learning rate").1
    }
}

/// How a validation reads the model's outputs.
pub(super) fn reading(plan: &StepPlan) -> Reading {
    let output = plan.model.output();
    match (&plan.loss, plan.loss.classes(&output)) {
        (step::Loss::CrossEntropy(form), Some(classes)) => {
            Reading::Classes { classes, axis: form.axis, ignored: form.ignored }
        }
        (step::Loss::Ctc { .. }, Some(classes)) => Reading::Transcripts { frames: output[0], classes },
        _ => Reading::Values,
    }
}

/// Numbers in the precision that a graph takes them in.
pub(super) fn numbers_array(dtype: Dtype, numbers: &[f64]) -> Array {
    #[expect(clippy::cast_possible_truncation, reason = "the graph says how precise it takes the number")]
    match dtype {
        Dtype::F64 => Array::F64(numbers.to_vec()),
        Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::U8 | Dtype::I32 | Dtype::I64 | Dtype::Bool => {
            Array::F32(numbers.iter().map(|&number| number as f32).collect())
        }
    }
}

impl OptimizerPlan {
    /// What a role is for the update of this number, the first one being one, where Adam's numbers differ from update to
    /// update.
    pub(super) fn number_of_update(&self, role: ScalarRole, learning_rate: f64, update: u64) -> Option<f64> {
        let (Self::Adam(adam) | Self::AdamW(adam)) = self else { return None };
        #[expect(clippy::cast_precision_loss, reason = "no training has 2^52 updates")]
        let correction = |beta: f64| (1.0 - beta.powf(update as f64)) / (1.0 - beta);
        match role {
            ScalarRole::AdamRate => Some(learning_rate * correction(adam.beta2).sqrt() / correction(adam.beta1)),
            ScalarRole::AdamEpsilon => Some(adam.epsilon * correction(adam.beta2).sqrt()),
            ScalarRole::Shrink => Some(1.0 - learning_rate * adam.weight_decay),
            _ => None,
        }
    }

    fn update(&self, own_operators: bool) -> Update {
        let optimizer = match *self {
            Self::Sgd { momentum, nesterov, .. } if momentum > 0.0 => Optimizer::Momentum { nesterov },
            Self::Sgd { .. } => Optimizer::Sgd,
            Self::Adam(_) => Optimizer::Adam,
            Self::AdamW(_) => Optimizer::AdamW,
            Self::Rmsprop { momentum, .. } => Optimizer::Rmsprop { momentum: momentum > 0.0 },
            Self::Adagrad { .. } => Optimizer::Adagrad,
            Self::Lamb(_) => Optimizer::Lamb,
            Self::Lion { .. } => Optimizer::Lion,
        };
        let weight_decay = self.numbers().into_iter().any(|(role, n)| role == ScalarRole::WeightDecay && n > 0.0);
        Update { optimizer, weight_decay, own_operators }
    }

    fn numbers(&self) -> Vec<(ScalarRole, f64)> {
        use ScalarRole::{Alpha, Beta1, Beta2, Epsilon, LearningRate, Momentum, WeightDecay};
        match *self {
            Self::Sgd { learning_rate, momentum, weight_decay, .. } => {
                vec![(LearningRate, learning_rate), (Momentum, momentum), (WeightDecay, weight_decay)]
            }
            Self::Adam(adam) | Self::AdamW(adam) | Self::Lamb(adam) => vec![
                (LearningRate, adam.learning_rate),
                (Beta1, adam.beta1),
                (Beta2, adam.beta2),
                (Epsilon, adam.epsilon),
                (WeightDecay, adam.weight_decay),
            ],
            Self::Rmsprop { learning_rate, alpha, epsilon, momentum, weight_decay } => vec![
                (LearningRate, learning_rate),
                (Alpha, alpha),
                (Epsilon, epsilon),
                (Momentum, momentum),
                (WeightDecay, weight_decay),
            ],
            Self::Adagrad { learning_rate, epsilon, weight_decay } => {
                vec![(LearningRate, learning_rate), (Epsilon, epsilon), (WeightDecay, weight_decay)]
            }
            Self::Lion { learning_rate, beta1, beta2, weight_decay } => {
                vec![(LearningRate, learning_rate), (Beta1, beta1), (Beta2, beta2), (WeightDecay, weight_decay)]
            }
        }
    }
}

/// Whether so many frames can tell the labels of every row: one for each, and a blank between equal ones.
fn check_frames(target: &Target, frames: usize) -> Result<(), TrainingError> {
    let Target::Classes { labels, .. } = target else { return Ok(()) };
    for (row, labels) in labels.chunks_exact(target.width()).enumerate() {
        let labels = without_padding(labels);
        let needed = labels.len() + labels.windows(2).filter(|pair| pair[0] == pair[1]).count();
        if needed > frames {
            let reason = format!(
                "row {row} has {} labels, which take {needed} frames, and the model gives {frames}: let it give more, or \
                 leave the row out",
                labels.len(),
            );
            return Err(TrainingError::Data { reason });
        }
    }
    Ok(())
}
