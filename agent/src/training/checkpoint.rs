//! A trial's whole state as bytes: safetensors, with what is not a tensor as JSON in its metadata.
//!
//! Bytes from outside are never trusted: whatever does not fit is a typed error.

mod words;

use std::collections::BTreeMap;
use std::iter::repeat;

use regatta_autodiff::graph::Dtype;
use regatta_autodiff::step::{Piece, State, StepPlan};
use regatta_checkpoint::{AVERAGE, BEST, BEST_PREFIX, CLASSES, INPUTS, Input, KEY, MODEL, VERSION};
use safetensors::tensor::{SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::dataset::{Feature, Split, Target};
use super::schedule::Plateau;
use super::{Progress, TrainingError};
use crate::runtime::Array;

/// What a checkpoint holds.
pub(super) struct Checkpoint {
    pub progress: Progress,
    /// One array for each state, in the order of the step's description.
    pub states: Vec<Array>,
    pub best: Option<Best>,
    /// Who made it, where that is known.
    pub owner: Option<Owner>,
}

/// Who made a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// No two trials have the same.
    pub trial: String,
    /// No two attempts of a trial have the same.
    pub attempt: String,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.trial, self.attempt)
    }
}

/// The weights that measured best so far.
#[derive(Debug, Clone)]
pub(super) struct Best {
    /// Epochs done.
    pub epoch: u64,
    pub value: f64,
    /// One array for each state of the evaluation's description, in its order.
    pub states: Vec<Array>,
}

/// The training that a checkpoint is of.
pub(super) struct Subject<'a> {
    pub plan: &'a StepPlan,
    /// Rows of an epoch.
    pub rows: usize,
    /// Whether the rows are read while training, in an order of their own.
    pub is_streamed: bool,
    pub seed: u64,
    /// Minibatches of an update.
    pub accumulate: u64,
    /// Rows like those that it trains on.
    pub like: &'a Split,
    /// Of a step.
    pub states: &'a [State],
    /// Of an evaluation.
    pub evaluated: &'a [State],
}

/// # Errors
/// A tensor could not be laid out, which no state that came from the device can cause.
pub(super) fn write(subject: &Subject<'_>, checkpoint: &Checkpoint) -> Result<Vec<u8>, TrainingError> {
    let Progress { step, epoch, step_in_epoch, loss_sum, correct_sum, counted_sum, plateau } = checkpoint.progress;
    let metadata = json!({
        "version": VERSION,
        MODEL: subject.plan.model.words(),
        AVERAGE: subject.plan.average,
        INPUTS: subject.like.features.iter().map(input).collect::<Vec<_>>(),
        CLASSES: classes(&subject.like.target),
        "shape": words::of(subject),
        "seed": subject.seed,
        "owner": checkpoint.owner,
        "step": step,
        "epoch": epoch,
        "step_in_epoch": step_in_epoch,
        // As bits, because a decimal may come back changed in its last place.
        "loss_sum_bits": loss_sum.to_bits(),
        "correct_sum_bits": correct_sum.to_bits(),
        "counted_sum_bits": counted_sum.to_bits(),
        "plateau_factor_bits": plateau.factor.to_bits(),
        "plateau_best_bits": plateau.best.to_bits(),
        "plateau_stale": plateau.stale,
        "plateau_seen": plateau.seen,
        BEST: checkpoint.best.as_ref().map(|best| json!({"epoch": best.epoch, "value_bits": best.value.to_bits()})),
    });
    let best =
        checkpoint.best.iter().flat_map(|best| subject.evaluated.iter().zip(&best.states).zip(repeat(BEST_PREFIX)));
    let all = subject.states.iter().zip(&checkpoint.states).zip(repeat("")).chain(best);
    let all: Vec<_> = all.map(|((state, array), prefix)| (state, array_bytes(array), prefix)).collect();
    let mut tensors = BTreeMap::new();
    for (state, bytes, prefix) in &all {
        let (kind, size) = element_type(state.input.dtype)?;
        for piece in &state.pieces {
            let place = piece.offset * size..(piece.offset + piece.elements()) * size;
            let view = TensorView::new(kind, piece.shape.clone(), &bytes[place]);
            tensors.insert(format!("{prefix}{}", piece.name), view.map_err(|error| refused(&error.to_string()))?);
        }
    }
    let metadata = [(KEY.to_owned(), metadata.to_string())].into_iter().collect();
    safetensors::serialize(tensors, Some(metadata)).map_err(|error| refused(&error.to_string()))
}

fn classes(target: &Target) -> &[String] {
    match target {
        Target::Classes { names, .. } => names,
        Target::Values { .. } => &[],
    }
}

fn input(feature: &Feature) -> Input {
    let Feature { name, shape, normalized, columns, texts, .. } = feature;
    Input {
        name: name.clone(),
        shape: shape.clone(),
        columns: columns.clone(),
        texts: texts.clone(),
        normalized: normalized.clone(),
    }
}

/// # Errors
/// The bytes are no checkpoint, of another version, or of a training with another shape or seed.
pub(super) fn read(bytes: &[u8], subject: &Subject<'_>) -> Result<Checkpoint, TrainingError> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| refused(&error.to_string()))?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| refused(&error.to_string()))?;
    let metadata = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
    let metadata = metadata.ok_or_else(|| refused("it was not written by an agent"))?;
    let metadata: Value = serde_json::from_str(metadata).map_err(|error| refused(&error.to_string()))?;
    let progress = progress(&metadata, subject)?;
    let (states, best) = (subject.states, metadata.get(BEST).filter(|best| !best.is_null()));
    let evaluated = if best.is_some() { subject.evaluated } else { &[] };
    let pieces = states.iter().chain(evaluated).map(|state| state.pieces.len()).sum::<usize>();
    if tensors.len() != pieces {
        return Err(refused(&format!("it has {} tensors, not {pieces}", tensors.len())));
    }
    let arrays = |states: &[State], prefix: &str| {
        let arrays = states.iter().map(|state| array(&tensors, state, prefix));
        arrays.collect::<Result<Vec<_>, _>>()
    };
    let best = best.map(|best| {
        let number = |name: &str| best.get(name).and_then(Value::as_u64);
        let (Some(epoch), Some(value)) = (number("epoch"), number("value_bits").map(f64::from_bits)) else {
            return Err(refused("when it measured best is missing"));
        };
        Ok(Best { epoch, value, states: arrays(evaluated, BEST_PREFIX)? })
    });
    let arrays = arrays(states, "")?;
    for (name, expected) in [("regatta.step", progress.step), ("regatta.updates", progress.step / subject.accumulate)] {
        let counter = states.iter().position(|state| state.input.name == name);
        if counter.is_some_and(|at| arrays[at] != Array::I64(vec![expected.cast_signed()])) {
            return Err(refused(&format!("its {name} and its metadata disagree")));
        }
    }
    let owner = metadata.get("owner").and_then(|owner| Owner::deserialize(owner).ok());
    Ok(Checkpoint { progress, states: arrays, best: best.transpose()?, owner })
}

fn progress(metadata: &Value, subject: &Subject<'_>) -> Result<Progress, TrainingError> {
    let number =
        |name: &str| metadata.get(name).and_then(Value::as_u64).ok_or_else(|| refused(&format!("{name} is missing")));
    let version = number("version")?;
    if version != VERSION {
        return Err(refused(&format!("it has version {version}, not {VERSION}")));
    }
    let (expected, found) = (words::of(subject), metadata.get("shape").and_then(Value::as_str).unwrap_or_default());
    if found != expected {
        return Err(refused(&format!("it is of {found:?}, not of {expected:?}")));
    }
    if number("seed")? != subject.seed {
        return Err(refused("it has another seed"));
    }
    let progress = Progress {
        step: number("step")?,
        epoch: number("epoch")?,
        step_in_epoch: number("step_in_epoch")?,
        loss_sum: f64::from_bits(number("loss_sum_bits")?),
        correct_sum: f64::from_bits(number("correct_sum_bits")?),
        counted_sum: f64::from_bits(number("counted_sum_bits")?),
        plateau: Plateau {
            factor: f64::from_bits(number("plateau_factor_bits")?),
            best: f64::from_bits(number("plateau_best_bits")?),
            stale: number("plateau_stale")?,
            seen: number("plateau_seen")?,
        },
    };
    let steps_per_epoch = (subject.rows / subject.plan.batch) as u64;
    let steps = progress.epoch.checked_mul(steps_per_epoch).and_then(|steps| steps.checked_add(progress.step_in_epoch));
    if progress.step_in_epoch >= steps_per_epoch || steps != Some(progress.step) || progress.step > i64::MAX as u64 {
        return Err(refused("its step and its epoch disagree"));
    }
    Ok(progress)
}

/// A state from its pieces, each doubted.
fn array(tensors: &SafeTensors<'_>, state: &State, prefix: &str) -> Result<Array, TrainingError> {
    let (kind, size) = element_type(state.input.dtype)?;
    let mut bytes = Vec::with_capacity(state.input.shape.iter().product::<usize>() * size);
    for Piece { name, shape, .. } in &state.pieces {
        let tensor = tensors.tensor(&format!("{prefix}{name}")).map_err(|error| refused(&error.to_string()))?;
        if tensor.shape() != shape || tensor.dtype() != kind {
            let found = tensor.shape();
            return Err(refused(&format!("{name} is {:?} {found:?}, not {kind:?} {shape:?}", tensor.dtype())));
        }
        bytes.extend_from_slice(tensor.data());
    }
    Ok(match kind {
        safetensors::Dtype::F64 => Array::F64(numbers(&bytes, f64::from_le_bytes)),
        safetensors::Dtype::I64 => Array::I64(numbers(&bytes, i64::from_le_bytes)),
        _ => Array::F32(numbers(&bytes, f32::from_le_bytes)),
    })
}

fn numbers<T, const SIZE: usize>(bytes: &[u8], number: impl Fn([u8; SIZE]) -> T) -> Vec<T> {
    bytes.as_chunks::<SIZE>().0.iter().map(|chunk| number(*chunk)).collect()
}

fn array_bytes(array: &Array) -> Vec<u8> {
    match array {
        Array::F32(numbers) => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
        Array::F64(numbers) => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
        Array::I64(numbers) => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
    }
}

/// How a state's elements are written, and the bytes of one.
fn element_type(dtype: Dtype) -> Result<(safetensors::Dtype, usize), TrainingError> {
    match dtype {
        Dtype::F32 => Ok((safetensors::Dtype::F32, 4)),
        Dtype::F64 => Ok((safetensors::Dtype::F64, 8)),
        Dtype::I64 => Ok((safetensors::Dtype::I64, 8)),
        Dtype::F16 | Dtype::Bf16 | Dtype::U8 | Dtype::I32 | Dtype::Bool => {
            Err(refused("states of this type are not written"))
        }
    }
}

fn refused(reason: &str) -> TrainingError {
    TrainingError::Checkpoint { reason: reason.into() }
}
