//! The transformer (Vaswani et al., 2017) with the norm before each part: an encoder of sequences, images or tokens
//! that gives one answer a row, and a decoder of tokens that gives one a position.

use super::layers::{Activation, PositionNorm, count, dropped, embedded, linear, linear_from, position_normalized};
use super::{Feature, Forward, Initial};
use crate::graph::{Attribute, Dtype, Graph, GraphError, Transposed, Value};

/// The spread of weights at the beginning, as GPT-2's.
const DEVIATION: f64 = 0.02;

/// Added to the score of a position that must not be seen: its share is zero in any precision.
const UNSEEN: f64 = -1e9;

/// What a row is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Positions of so many numbers each.
    Sequence {
        length: usize,
        width: usize,
    },
    /// Channels, height, width; each square patch becomes a position.
    Image {
        shape: [usize; 3],
        patch: usize,
    },
    Tokens {
        length: usize,
        vocabulary: usize,
    },
}

/// What a row gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// So many numbers, from the mean over the positions.
    Row(usize),
    /// At each position, which sees only those up to it, a logit for each token; by the table that embeds them.
    NextToken,
}

/// The shape of a transformer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transformer {
    pub input: Input,
    pub answer: Answer,
    pub layers: usize,
    /// The width of a position, a multiple of `heads`.
    pub width: usize,
    pub heads: usize,
    /// The hidden layer of a block is so many times as wide.
    pub ratio: usize,
    pub norm: PositionNorm,
    pub activation: Activation,
    /// Whether embeddings and the outputs of attention and of dense layers can be dropped.
    pub dropout: bool,
}

impl Transformer {
    pub(super) fn features(&self) -> Vec<Feature> {
        let (dtype, shape) = match &self.input {
            Input::Sequence { length, width } => (Dtype::F32, vec![*length, *width]),
            Input::Image { shape, .. } => (Dtype::F32, shape.to_vec()),
            Input::Tokens { length, .. } => (Dtype::I64, vec![*length]),
        };
        vec![Feature::new("features", dtype, shape)]
    }

    pub(super) fn output(&self) -> Vec<usize> {
        match (self.answer, &self.input) {
            (Answer::Row(outputs), _) => vec![outputs],
            (Answer::NextToken, Input::Tokens { length, vocabulary }) => vec![*length, *vocabulary],
            (Answer::NextToken, _) => vec![],
        }
    }

    /// Parameters are those of `embedding`, `positions`, `blocks.<i>`, `norm` and, for a row's answer, `head`. A block
    /// can be left out, its `attention` or its `dense` part, each with its norm; a norm; the positions; `dropout`.
    /// Weights begin normal with deviation 0.02, those before a sum with it divided by the root of the number of
    /// sums, biases zero (Radford et al., 2019); the embedding of numbers and the head begin as PyTorch's layers do.
    ///
    /// # Errors
    /// The heads do not divide the width, the patches do not divide the image, or other than tokens are decoded.
    pub(super) fn forward(&self, context: &mut Forward<'_>, features: Value) -> Result<Value, GraphError> {
        if self.heads == 0 || !self.width.is_multiple_of(self.heads) {
            return Err(invalid(format!("{} heads of a width of {}", self.heads, self.width)));
        }
        let rows = context.graph.shape(features)[0];
        let (x, table) = self.embedding(context, features)?;
        let length = context.graph.shape(x)[1];
        let placed = match context.cut.has("positions") {
            true => x,
            false => {
                let normal = Initial::Normal { deviation: DEVIATION };
                let positions = context.parameter("positions", &[length, self.width], normal)?;
                context.graph.add(x, positions)?
            }
        };
        let flat = context.graph.reshape(placed, &[rows * length, self.width])?;
        let mut x = dropped(context, flat, self.dropout)?;
        for block in 0..self.layers {
            x = context.part(x, |part| self.block(part, &format!("blocks.{block}"), x, (rows, length)))?;
        }
        let x = position_normalized(context, "norm", x, self.norm)?;
        match (self.answer, table) {
            (Answer::Row(outputs), _) => {
                let apart = context.graph.reshape(x, &[rows, length, self.width])?;
                let mean = context.graph.mean_kept(apart, &[1])?;
                let mean = context.graph.reshape(mean, &[rows, self.width])?;
                linear(context, "head", mean, outputs)
            }
            (Answer::NextToken, Some(table)) => {
                let logits = context.graph.gemm(x, table, Transposed { left: false, right: true })?;
                let vocabulary = context.graph.shape(table)[0];
                context.graph.reshape(logits, &[rows, length, vocabulary])
            }
            (Answer::NextToken, None) => Err(invalid("only tokens can be decoded".into())),
        }
    }

    /// Rows x positions x width, and the table where tokens are embedded.
    fn embedding(&self, context: &mut Forward<'_>, features: Value) -> Result<(Value, Option<Value>), GraphError> {
        let rows = context.graph.shape(features)[0];
        match &self.input {
            Input::Sequence { length, width } => {
                let flat = context.graph.reshape(features, &[rows * length, *width])?;
                let x = linear(context, "embedding", flat, self.width)?;
                Ok((context.graph.reshape(x, &[rows, *length, self.width])?, None))
            }
            Input::Image { shape: [channels, height, width], patch } => {
                if *patch == 0 || !height.is_multiple_of(*patch) || !width.is_multiple_of(*patch) {
                    return Err(invalid(format!("patches of {patch} of an image of {height} x {width}")));
                }
                let (down, across) = (height / patch, width / patch);
                let apart = [rows, *channels, down, *patch, across, *patch];
                let apart = context.graph.reshape(features, &apart)?;
                let ordered = context.graph.transpose(apart, &[0, 2, 4, 1, 3, 5])?;
                let patches = context.graph.reshape(ordered, &[rows * down * across, channels * patch * patch])?;
                let x = linear(context, "embedding", patches, self.width)?;
                Ok((context.graph.reshape(x, &[rows, down * across, self.width])?, None))
            }
            Input::Tokens { vocabulary, .. } => {
                let (x, table) = embedded(context, "embedding", features, (*vocabulary, self.width), DEVIATION)?;
                Ok((x, Some(table)))
            }
        }
    }

    fn block(
        &self,
        context: &mut Forward<'_>,
        name: &str,
        x: Value,
        (rows, length): (usize, usize),
    ) -> Result<Value, GraphError> {
        let mut x = x;
        let before_sum = DEVIATION / count(2 * self.layers).sqrt();
        let normal = |deviation: f64| (Initial::Normal { deviation }, Initial::Zeros);
        let attention = format!("{name}.attention");
        if !context.cut.has(&attention) {
            let seen = position_normalized(context, &format!("{name}.attention_norm"), x, self.norm)?;
            let mixed = self.attention(context, &attention, seen, (rows, length))?;
            let mixed = linear_from(context, &format!("{attention}.output"), mixed, self.width, normal(before_sum))?;
            let mixed = dropped(context, mixed, self.dropout)?;
            x = context.graph.add(x, mixed)?;
        }
        if context.cut.has(&format!("{name}.dense")) {
            return Ok(x);
        }
        let inner = position_normalized(context, &format!("{name}.dense_norm"), x, self.norm)?;
        let (hidden, wide) = (format!("{name}.dense.hidden"), self.width * self.ratio);
        let inner = linear_from(context, &hidden, inner, wide, normal(DEVIATION))?;
        let inner = self.activation.apply(context.graph, inner)?;
        let inner = linear_from(context, &format!("{name}.dense.output"), inner, self.width, normal(before_sum))?;
        let inner = dropped(context, inner, self.dropout)?;
        context.graph.add(x, inner)
    }

    /// `softmax(q k^T / sqrt(width of a head)) v`, head by head, for `x` of (rows * length) x width.
    fn attention(
        &self,
        context: &mut Forward<'_>,
        name: &str,
        x: Value,
        (rows, length): (usize, usize),
    ) -> Result<Value, GraphError> {
        let head_width = self.width / self.heads;
        let mut heads = |part: &str, axes: [usize; 4]| {
            let normal = (Initial::Normal { deviation: DEVIATION }, Initial::Zeros);
            let all = linear_from(context, &format!("{name}.{part}"), x, self.width, normal)?;
            let apart = context.graph.reshape(all, &[rows, length, self.heads, head_width])?;
            context.graph.transpose(apart, &axes)
        };
        let query = heads("query", [0, 2, 1, 3])?;
        let key = heads("key", [0, 2, 3, 1])?;
        let value = heads("value", [0, 2, 1, 3])?;
        let graph = &mut *context.graph;
        let query = graph.scale(query, 1.0 / count(head_width).sqrt())?;
        let mut scores = graph.matmul(query, key)?;
        if self.answer == Answer::NextToken {
            let mask = later_positions(graph, length)?;
            scores = graph.add(scores, mask)?;
        }
        let shares = graph.node("Softmax", &[scores], &[("axis", Attribute::Int(-1))])?;
        let mixed = graph.matmul(shares, value)?;
        let together = graph.transpose(mixed, &[0, 2, 1, 3])?;
        graph.reshape(together, &[rows * length, self.width])
    }
}

/// Length x length: a number that no score can make up for where the column comes after the row, else zero.
fn later_positions(graph: &mut Graph, length: usize) -> Result<Value, GraphError> {
    let columns = graph.int_range(length, 1);
    let rows = graph.reshape(columns, &[length, 1])?;
    let later = graph.greater(columns, rows)?;
    let later = graph.cast(later, Dtype::F32)?;
    graph.scale(later, UNSEEN)
}

fn invalid(reason: String) -> GraphError {
    GraphError::InvalidOperands { op: "a transformer".into(), reason }
}
