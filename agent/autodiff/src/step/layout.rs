//! Where each tensor of a model lies in the flat vectors that a step keeps.
//!
//! A graph that updates a tensor in place may read it only before the update. Flat vectors make that sure: each is
//! read by one Split, which copies, and its update depends on the Concat of all its gradients.

use std::collections::{BTreeMap, BTreeSet};

use super::{StepError, StepPlan};
use crate::families::{Forward, Initial, Mode, Parameter};
use crate::graph::{Attribute, Dtype, Graph, GraphError, Provider, Value};
use crate::step::dropout::Dropout;

/// A tensor's place in a flat vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    pub name: String,
    pub shape: Vec<usize>,
    /// Elements of the vector before it.
    pub offset: usize,
    pub initial: Initial,
    /// Its place in the order in which the model declares its tensors: the same however they are grouped.
    pub position: usize,
}

impl Piece {
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A model's tensors by what a step does with them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Layout {
    /// What the optimizer changes, with weight decay.
    pub decayed: Vec<Piece>,
    /// What the optimizer changes, without.
    pub undecayed: Vec<Piece>,
    /// Parameters that no step changes.
    pub frozen: Vec<Piece>,
    /// Running statistics.
    pub buffers: Vec<Piece>,
}

impl Layout {
    /// Writes the model once on a graph that is thrown away, to see what it declares.
    pub fn survey(plan: &StepPlan) -> Result<Self, StepError> {
        let mut graph = Graph::new(plan.provider);
        let mut features = Vec::new();
        for feature in plan.model.features() {
            let shape = [&[plan.batch], feature.shape.as_slice()].concat();
            features.push(graph.reserved_input(&format!("feature_{}", features.len()), feature.dtype, &shape)?);
        }
        let mut context = Forward::new(&mut graph, Mode::Training, Dropout::Off);
        plan.model.forward(&mut context, &features)?;
        let Forward { parameters, buffers, .. } = context;
        let mut layout = Self::default();
        let parameter_count = parameters.len();
        for (position, (parameter, _)) in parameters.into_iter().enumerate() {
            let Parameter { name, shape, initial, trains } = parameter;
            let vector = match trains {
                false => &mut layout.frozen,
                true if plan.decays(&name) => &mut layout.decayed,
                true => &mut layout.undecayed,
            };
            append(vector, Piece { name, shape, offset: 0, initial, position });
        }
        for (order, buffer) in buffers.into_iter().enumerate() {
            let info = graph.info(buffer.value).clone();
            let (name, shape, position) = (info.name, info.shape, parameter_count + order);
            append(&mut layout.buffers, Piece { name, shape, offset: 0, initial: buffer.initial, position });
        }
        if layout.pieces().any(|piece| piece.elements() == 0) {
            return Err(StepError::Zero { what: "a size of the model" });
        }
        Ok(layout)
    }

    fn pieces(&self) -> impl Iterator<Item = &Piece> {
        [&self.decayed, &self.undecayed, &self.frozen, &self.buffers].into_iter().flatten()
    }
}

/// Puts a piece at the end of a vector.
fn append(vector: &mut Vec<Piece>, piece: Piece) {
    let offset = length(vector);
    vector.push(Piece { offset, ..piece });
}

/// Elements of a vector.
pub(super) fn length(vector: &[Piece]) -> usize {
    vector.last().map_or(0, |last| last.offset + last.elements())
}

/// The same pieces under names of their own, which begin with zeros: a slot of an optimizer.
pub(super) fn slot_of(vector: &[Piece], slot: &str) -> Vec<Piece> {
    let renamed =
        |piece: &Piece| Piece { name: format!("{}/{slot}", piece.name), initial: Initial::Zeros, ..piece.clone() };
    vector.iter().map(renamed).collect()
}

/// The pieces of a flat vector in their own shapes, by name.
pub(super) fn split(graph: &mut Graph, vector: Value, pieces: &[Piece]) -> Result<BTreeMap<String, Value>, GraphError> {
    let flat = split_flat(graph, vector, pieces)?;
    let shaped =
        pieces.iter().zip(flat).map(|(piece, value)| Ok((piece.name.clone(), graph.reshape(value, &piece.shape)?)));
    shaped.collect()
}

/// Into so many tensors CUDA splits without lengths in the host's memory, which a recording would read again.
const CUDA_SPLIT_MAX: usize = 4;

/// The pieces of a flat vector, flat. Always a Split, of a single piece too: a Reshape would share its memory.
pub(super) fn split_flat(graph: &mut Graph, vector: Value, pieces: &[Piece]) -> Result<Vec<Value>, GraphError> {
    let in_one = graph.provider() == Provider::Cpu || graph.is_fused() || pieces.len() <= CUDA_SPLIT_MAX;
    let run = if in_one { 1 } else { pieces.len().div_ceil(CUDA_SPLIT_MAX) };
    let runs: Vec<&[Piece]> = pieces.chunks(run).collect();
    let elements = |run: &[Piece]| run.iter().map(Piece::elements).sum::<usize>();
    let lengths = runs.iter().map(|run| i64::try_from(elements(run)).expect("a tensor's size fits in an i64"));
    let lengths = graph.int_vector(lengths.collect());
    let parts = graph.nodes_of("Split", &[Some(vector), Some(lengths)], runs.len(), &[])?;
    if in_one {
        return Ok(parts);
    }
    let mut flat = Vec::with_capacity(pieces.len());
    for (part, run) in parts.into_iter().zip(runs) {
        match run {
            [_] => flat.push(part),
            run => flat.extend(split_flat(graph, part, run)?),
        }
    }
    Ok(flat)
}

/// One operator's most operands: CUDA refuses to record a Concat of more.
const CONCAT_MAX: usize = 32;

/// Those of a kernel of our own.
const FUSED_CONCAT_MAX: usize = 1000;

/// A flat vector of type f32 from its pieces, which may have other shapes and float types.
pub(super) fn concat(graph: &mut Graph, pieces: &[Value]) -> Result<Value, GraphError> {
    let mut parts = Vec::with_capacity(pieces.len());
    for &piece in pieces {
        let length = graph.shape(piece).iter().product();
        let flat = graph.reshape(piece, &[length])?;
        parts.push(graph.cast(flat, Dtype::F32)?);
    }
    while parts.len() > 1 {
        let mut joined = Vec::with_capacity(parts.len().div_ceil(CONCAT_MAX));
        for chunk in parts.chunks(if graph.is_fused() { FUSED_CONCAT_MAX } else { CONCAT_MAX }) {
            joined.push(match chunk {
                [single] => *single,
                _ => graph.node("Concat", chunk, &[("axis", Attribute::Int(0))])?,
            });
        }
        parts = joined;
    }
    Ok(parts[0])
}

/// Refuses two pieces of one name: a checkpoint keeps them by name.
pub(super) fn check_names<'a>(pieces: impl Iterator<Item = &'a Piece>) -> Result<(), GraphError> {
    let mut names = BTreeSet::new();
    for piece in pieces {
        if !names.insert(&piece.name) {
            return Err(GraphError::DuplicateName { name: piece.name.clone() });
        }
    }
    Ok(())
}
