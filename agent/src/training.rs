//! One trial being trained: step by step, on the thread of its lane, obeying a stop between any two steps.
//!
//! It knows no wire, no clock and no file: a plan, data and perhaps a checkpoint come in, metrics and
//! checkpoints come out. A trial is a function of its plan and data: same seed, same numbers.

mod augment;
mod checkpoint;
mod dataset;
mod draw;
mod engine;
mod error;
mod exchange;
mod metrics;
mod model;
mod plan;
mod schedule;
mod stream;
mod tensors;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use augment::Augmentation;
pub use checkpoint::Owner;
pub use dataset::{Dataset, Feature, Split, Target, Values};
pub use draw::permutation;
pub use engine::Engine;
pub use error::TrainingError;
pub use metrics::{Metric, Reading, Scores};
pub use model::ModelPlan;
pub use plan::{Adam, BestBy, Loss, OptimizerPlan, Plan};
pub use regatta_autodiff::families::{Activation, Norm, Pool, PositionNorm};
pub use regatta_autodiff::step::{ClassAxis, Precision};
pub use schedule::Schedule;
pub use stream::{Batches, Place, ReadBlock, Source, Stream};

use regatta_autodiff::families::Model;

use crate::runtime::Interrupt;
use checkpoint::{Best, Checkpoint, Subject};
use engine::{DeviceData, Shape};
use schedule::{Moment, Plateau};
use tensors::{EvaluationTensors, Measured, Minibatch, Purpose, States, StepTensors};

/// Measured values by name: `train_loss`, `validation_loss`, and for classes `train_accuracy`,
/// `validation_accuracy`.
pub type Metrics = BTreeMap<&'static str, f64>;

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOutcome {
    /// Steps of the whole training so far, this one included.
    pub step: u64,
    /// The mean loss of the minibatch, from before the update.
    pub loss: f32,
    /// Whether this was the last step of its epoch.
    pub epoch_finished: bool,
}

/// How far a training is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Progress {
    step: u64,
    /// Epochs that are finished.
    epoch: u64,
    /// Steps of the epoch that is not finished.
    step_in_epoch: u64,
    /// Over the steps of the epoch that is not finished, or of the last one between two epochs.
    loss_sum: f64,
    correct_sum: f64,
    /// Positions that `correct_sum` is of.
    counted_sum: f64,
    plateau: Plateau,
}

/// A trial in training; it borrows its lane's [`Engine`].
pub struct Training<'engine> {
    shape: &'engine mut Shape,
    data: Arc<DeviceData>,
    source: Source,
    plan: Plan,
    owner: Option<Owner>,
    /// Of this trial.
    best: Option<Best>,
    /// There until it ends; the shape keeps them for the next trial.
    tensors: Option<StepTensors>,
    evaluation: Option<EvaluationTensors>,
    /// The order of rows in the epoch that is under way, where they are in memory.
    order: Option<(u64, Vec<i64>)>,
    /// The minibatches to come, where rows are read while training.
    batches: Option<Batches>,
    progress: Progress,
    interrupt: Interrupt,
}

impl<'engine> Training<'engine> {
    fn start(
        shape: &'engine mut Shape,
        plan: &Plan,
        source: Source,
        data: Arc<DeviceData>,
        resume: Option<&[u8]>,
    ) -> Result<Self, TrainingError> {
        let resumed = resume.map(|bytes| checkpoint::read(bytes, &subject(shape, plan, &source))).transpose()?;
        let begin = match &resumed {
            Some(checkpoint) => States::Given(&checkpoint.states),
            None => States::Drawn { seed: plan.seed },
        };
        let tensors = match shape.kept.take() {
            Some(mut tensors) => {
                tensors.set(shape, plan, &begin)?;
                tensors
            }
            None => StepTensors::bind(shape, plan, data.train.as_ref(), &begin)?,
        };
        let (progress, best, owner) = match resumed {
            Some(Checkpoint { progress, best, owner, .. }) => (progress, best, owner),
            None => (Progress::default(), None, None),
        };
        let place = Place { epoch: progress.epoch, step: progress.step_in_epoch };
        let batches = source.batches(plan.seed, shape.plan().batch, place)?;
        Ok(Self {
            shape,
            data,
            source,
            plan: plan.clone(),
            owner,
            best,
            tensors: Some(tensors),
            evaluation: None,
            order: None,
            batches,
            progress,
            interrupt: Interrupt::new()?,
        })
    }

    /// Writes into each checkpoint whose it is. Those of equal trainings are then different objects in a store that
    /// names them by their content: who deletes his own deletes nobody else's. What measured best in another trial, which
    /// this one goes on from, is not this one's best.
    pub fn sign(&mut self, owner: Owner) {
        if self.owner.as_ref().is_none_or(|before| before.trial != owner.trial) {
            self.best = None;
        }
        self.owner = Some(owner);
    }

    /// Trains on the next minibatch.
    ///
    /// # Errors
    /// The loss is not finite, the device failed, or the interrupt was raised. A step that was broken off has left
    /// no state to go on from: only after an interrupt from before the step is there a [`checkpoint`](Self::checkpoint).
    pub fn train_step(&mut self) -> Result<StepOutcome, TrainingError> {
        self.train_steps(1)
    }

    /// Trains on the next minibatches: as many as `most` (at least one), but for the end of the epoch and what the device
    /// takes at once. The outcome is that of the last.
    ///
    /// # Errors
    /// As of a step. Where one of several had a loss that is not finite, there is no checkpoint either.
    pub fn train_steps(&mut self, most: u64) -> Result<StepOutcome, TrainingError> {
        let rows = self.batches.as_mut().map(Batches::next_batch).transpose()?;
        let left = self.steps_per_epoch() - self.progress.step_in_epoch;
        let count = most.clamp(1, left.min(self.shape.plan().ahead as u64).max(1));
        let (done, batch) = (self.progress.step, self.shape.plan().batch);
        let indices = self.next_indices(usize::try_from(count).expect("it is below what is handed over"));
        let minibatch = |(step, indices)| {
            let (purpose, mixup_share) = (self.purpose(step), self.plan.mixup_share(step));
            let updates = step / u64::from(self.plan.accumulate) + 1;
            Minibatch { indices, rows: rows.as_ref(), purpose, mixup_share, optimizer: self.plan.optimizer, updates }
        };
        let minibatches: Vec<_> = (done..).zip(indices.chunks(batch)).map(minibatch).collect();
        let tensors = self.tensors.as_mut().expect("it is there until the training ends");
        let measured = tensors.train(self.shape, &minibatches, done, &self.interrupt)?;
        let mut loss = 0.0;
        for step in &measured {
            self.count(step);
            loss = step.loss;
            if !loss.is_finite() {
                if self.progress.step < done + count {
                    self.tensors.as_mut().expect("it is there until the training ends").tear();
                }
                return Err(TrainingError::Diverged { step: self.progress.step, loss });
            }
        }
        let epoch_finished = self.progress.step_in_epoch == self.steps_per_epoch();
        if epoch_finished {
            self.progress.epoch += 1;
            self.progress.step_in_epoch = 0;
        }
        Ok(StepOutcome { step: self.progress.step, loss, epoch_finished })
    }

    /// One step more.
    fn count(&mut self, measured: &Measured) {
        #[expect(clippy::cast_precision_loss, reason = "a batch has fewer than 2^52 positions")]
        let positions = (self.shape.plan().batch * self.source.validation().target.width()) as f64;
        let progress = &mut self.progress;
        if progress.step_in_epoch == 0 {
            (progress.loss_sum, progress.correct_sum, progress.counted_sum) = (0.0, 0.0, 0.0);
        }
        progress.step += 1;
        progress.step_in_epoch += 1;
        progress.loss_sum += f64::from(measured.loss);
        progress.correct_sum += f64::from(measured.correct.unwrap_or(0.0));
        progress.counted_sum += measured.counted.map_or(positions, f64::from);
    }

    /// What a person should know of the model, where it is of a file.
    pub fn notices(&self) -> Vec<String> {
        match &self.shape.plan().model {
            Model::Imported(imported) => imported.notices().iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        }
    }

    /// Steps in an epoch: whole minibatches only.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.source.rows() / self.shape.plan().batch) as u64
    }

    /// Whether the rows that it trains on are on its device.
    pub fn is_resident(&self) -> bool {
        self.data.train.is_some()
    }

    /// Epochs that are finished.
    pub fn epoch(&self) -> u64 {
        self.progress.epoch
    }

    /// Steps of the whole training so far.
    pub fn step(&self) -> u64 {
        self.progress.step
    }

    /// The mean over the steps of this epoch so far, or of the last epoch between two; empty before any step.
    pub fn train_metrics(&self) -> Metrics {
        let steps = match self.progress.step_in_epoch {
            0 if self.progress.epoch > 0 => self.steps_per_epoch(),
            steps => steps,
        };
        let mut metrics = Metrics::new();
        if steps > 0 {
            #[expect(clippy::cast_precision_loss, reason = "an epoch has fewer than 2^52 rows")]
            metrics.insert("train_loss", self.progress.loss_sum / steps as f64);
            if matches!(self.plan.loss, Loss::CrossEntropy { .. }) {
                metrics.insert("train_accuracy", self.progress.correct_sum / self.progress.counted_sum.max(1.0));
            }
        }
        metrics
    }

    /// What the minibatch after so many steps is for.
    fn purpose(&self, step: u64) -> Purpose {
        let plateau = self.progress.plateau;
        let place_in_update = step % u64::from(self.plan.accumulate);
        if place_in_update + 1 < u64::from(self.plan.accumulate) {
            return Purpose::Adds { begins: place_in_update == 0 };
        }
        let (steps_per_epoch, epochs, warm_up) = (self.steps_per_epoch(), self.plan.epochs, self.plan.warm_up);
        let moment = Moment { step, steps_per_epoch, epochs, warm_up };
        Purpose::Updates { learning_rate: self.plan.learning_rate() * self.plan.schedule.factor(moment, plateau) }
    }

    /// Loss and, for classes, accuracy over the whole validation split, without dropout. The first of an epoch's end
    /// is what a schedule that waits for a plateau goes by.
    ///
    /// # Errors
    /// The loss is not finite, the device failed, or the interrupt was raised.
    pub fn evaluate(&mut self) -> Result<Metrics, TrainingError> {
        if self.evaluation.is_none() {
            let trained = self.tensors.as_ref().expect("it is there until the training ends");
            let tensors = EvaluationTensors::bind(self.shape, &self.plan, trained, &self.data.validation)?;
            self.evaluation = Some(tensors);
        }
        let tensors = self.evaluation.as_mut().expect("it was made above");
        let target = &self.source.validation().target;
        let mut scores = Scores::new(&self.plan.metrics, target, plan::reading(self.shape.plan()))?;
        let summed = tensors.evaluate(&mut self.shape.evaluation, target, &mut scores, &self.interrupt)?;
        // Where no position counts, there is no loss either.
        let loss = if summed.weight > 0.0 { summed.loss / summed.weight } else { summed.loss };
        if !loss.is_finite() {
            #[expect(clippy::cast_possible_truncation, reason = "it is not a number in any precision")]
            return Err(TrainingError::Diverged { step: self.progress.step, loss: loss as f32 });
        }
        if self.progress.step_in_epoch == 0 {
            let Progress { epoch, plateau, .. } = &mut self.progress;
            self.plan.schedule.observe(plateau, *epoch, loss);
        }
        let mut metrics = Metrics::from([("validation_loss", loss)]);
        metrics.extend(summed.correct.map(|correct| ("validation_accuracy", correct / summed.counted.max(1.0))));
        metrics.extend(scores.finish(loss));
        if self.progress.step_in_epoch == 0 {
            self.keep_if_best(&metrics)?;
        }
        Ok(metrics)
    }

    fn keep_if_best(&mut self, evaluated: &Metrics) -> Result<(), TrainingError> {
        let Some(by) = &self.plan.best_by else { return Ok(()) };
        let trained = self.train_metrics();
        let measured = [evaluated, &trained].into_iter().find_map(|metrics| metrics.get(by.metric.as_str()));
        let Some(value) = measured.copied().filter(|value| !value.is_nan()) else { return Ok(()) };
        if self.best.as_ref().is_none_or(|best| by.is_better(value, best.value)) {
            let tensors = self.tensors.as_ref().expect("it is there until the training ends");
            let states = tensors.read_states(&self.shape.evaluation.program)?;
            self.best = Some(Best { epoch: self.progress.epoch, value, states });
        }
        Ok(())
    }

    /// Everything that is needed to go on elsewhere, bit for bit on the same kind of device.
    ///
    /// # Errors
    /// The state could not be read from the device, or a step was broken off.
    pub fn checkpoint(&mut self) -> Result<Vec<u8>, TrainingError> {
        let tensors = self.tensors.as_ref().expect("it is there until the training ends");
        let states = tensors.read_states(&self.shape.step.program)?;
        // Lent, since it may be large.
        let (best, owner) = (self.best.take(), self.owner.clone());
        let checkpoint = Checkpoint { progress: self.progress, states, best, owner };
        let written = checkpoint::write(&subject(self.shape, &self.plan, &self.source), &checkpoint);
        self.best = checkpoint.best;
        written
    }

    /// A handle that ends this training from any thread, in the middle of a step.
    pub fn interrupt_handle(&self) -> Interrupt {
        self.interrupt.clone()
    }

    /// Of so many minibatches, one after the other.
    fn next_indices(&mut self, count: usize) -> Vec<i64> {
        let Progress { epoch, step_in_epoch, .. } = self.progress;
        let (rows, batch) = (self.shape.plan().rows, self.shape.plan().batch);
        if self.source.comes_in_batches() {
            return (0..).take(batch).collect();
        }
        if self.order.as_ref().is_none_or(|(drawn_for, _)| *drawn_for != epoch) {
            self.order = Some((epoch, draw::permutation(self.plan.seed, epoch, rows)));
        }
        let (_, order) = self.order.as_ref().expect("it was drawn above");
        let first = usize::try_from(step_in_epoch).expect("a step of an epoch is below its rows") * batch;
        order[first..first + count * batch].to_vec()
    }
}

impl Drop for Training<'_> {
    fn drop(&mut self) {
        // Of rows that come in batches there are no data on the device that the next trial could share.
        if let (Source::Resident(_), Some(tensors)) = (&self.source, self.tensors.take()) {
            self.shape.keep(tensors, &self.data);
        }
    }
}

/// What a checkpoint of a training is of.
fn subject<'a>(shape: &'a Shape, plan: &Plan, source: &'a Source) -> Subject<'a> {
    Subject {
        plan: shape.plan(),
        rows: source.rows(),
        is_streamed: source.is_streamed(),
        seed: plan.seed,
        accumulate: plan.accumulate.into(),
        like: source.validation(),
        states: &shape.step.program.states,
        evaluated: &shape.evaluation.program.states,
    }
}
