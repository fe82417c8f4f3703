//! Scaled dot-product attention as matrix products and a softmax.

use super::{Application, Lowered, Row, row};
use crate::graph::{Constant, Dtype, Elements, Graph, GraphError, Value};

pub(super) const ROWS: &[Row] = &[row(
    "Attention",
    23,
    attention,
    "MatMul, Softmax, MatMul; heads that share keys as more rows of one product; no cache of keys and values",
)];

/// Queries, keys and values with their heads apart.
struct Heads {
    /// `[batch, key heads, query heads for each * queries, width]`
    query: Value,
    /// `[batch, key heads, width, keys]`
    key_transposed: Value,
    /// `[batch, key heads, keys, value width]`
    value: Value,
    batch: usize,
    heads: usize,
    queries: usize,
    keys: usize,
}

/// The soft cap bounds the scores before the mask is added, so that masked positions stay masked.
fn attention(graph: &mut Graph, application: &Application<'_>) -> Lowered {
    application.refuse(4..6, "a cache of keys and values has no place in training")?;
    application.refuse(6..7, "lengths without padding are not supported: give a mask")?;
    let is_flat = graph.shape(application.x(0)?).len() == 3;
    let heads = split_heads(graph, application, is_flat)?;
    let width = graph.shape(heads.key_transposed)[2];
    #[expect(clippy::cast_precision_loss, reason = "a head is narrower than 2^52")]
    let scale = application.node.float("scale", 1.0 / (width as f64).sqrt());
    let query = graph.scale(heads.query, scale)?;
    let scores = graph.matmul(query, heads.key_transposed)?;
    let mut scores = graph.reshape(scores, &[heads.batch, heads.heads, heads.queries, heads.keys])?;
    let softcap = application.node.float("softcap", 0.0);
    if softcap != 0.0 {
        let scaled = graph.scale(scores, 1.0 / softcap)?;
        let bounded = graph.tanh(scaled)?;
        scores = graph.scale(bounded, softcap)?;
    }
    if application.node.int("is_causal", 0) != 0 {
        let future = causal_mask(graph, &heads, graph.dtype(scores));
        scores = graph.add(scores, future)?;
    }
    if let Some(mask) = application.optional(3) {
        let addend = additive_mask(graph, mask, graph.dtype(scores))?;
        scores = graph.add(scores, addend)?;
    }
    if graph.shape(scores) != [heads.batch, heads.heads, heads.queries, heads.keys] {
        return Err(application.invalid("the mask does not fit the scores"));
    }
    let weights = graph.node("Softmax", &[scores], &[])?;
    let query_shape = graph.shape(heads.query).to_vec();
    let weights = graph.reshape(weights, &[query_shape[0], query_shape[1], query_shape[2], heads.keys])?;
    let mixed = graph.matmul(weights, heads.value)?;
    let value_width = graph.shape(heads.value)[3];
    let mut y = graph.reshape(mixed, &[heads.batch, heads.heads, heads.queries, value_width])?;
    if is_flat {
        y = graph.transpose(y, &[0, 2, 1, 3])?;
        y = graph.reshape(y, &[heads.batch, heads.queries, heads.heads * value_width])?;
    }
    Ok(vec![Some(y)])
}

fn split_heads(graph: &mut Graph, application: &Application<'_>, is_flat: bool) -> Result<Heads, GraphError> {
    let (query, key, value) = (application.x(0)?, application.x(1)?, application.x(2)?);
    let misfit = || application.invalid("queries, keys and values do not fit");
    let (query, key_transposed, value) = if is_flat {
        let (heads, key_heads) = (application.size("q_num_heads")?, application.size("kv_num_heads")?);
        let query = heads_apart(graph, query, heads, &[0, 2, 1, 3]).ok_or_else(misfit)??;
        let key = heads_apart(graph, key, key_heads, &[0, 2, 3, 1]).ok_or_else(misfit)??;
        let value = heads_apart(graph, value, key_heads, &[0, 2, 1, 3]).ok_or_else(misfit)??;
        (query, key, value)
    } else {
        if graph.shape(key).len() != 4 {
            return Err(misfit());
        }
        (query, graph.transpose(key, &[0, 1, 3, 2])?, value)
    };
    let [batch, heads, queries, width] = *graph.shape(query) else { return Err(misfit()) };
    let [_, key_heads, _, keys] = *graph.shape(key_transposed) else { return Err(misfit()) };
    if key_heads == 0 || heads % key_heads != 0 || graph.shape(value).len() != 4 {
        return Err(misfit());
    }
    let query = graph.reshape(query, &[batch, key_heads, heads / key_heads * queries, width])?;
    Ok(Heads { query, key_transposed, value, batch, heads, queries, keys })
}

/// `[batch, length, heads * width]` with the heads as an axis of their own, permuted; `None` where they do not divide.
fn heads_apart(
    graph: &mut Graph,
    value: Value,
    heads: usize,
    permutation: &[usize; 4],
) -> Option<Result<Value, GraphError>> {
    let [batch, length, width] = *graph.shape(value) else { return None };
    if width % heads != 0 {
        return None;
    }
    let apart = graph.reshape(value, &[batch, length, heads, width / heads]);
    Some(apart.and_then(|apart| graph.transpose(apart, permutation)))
}

/// What is added to a score to rule a position out: finite, so that a row without any position has a gradient.
fn masked_score(dtype: Dtype) -> f64 {
    if dtype == Dtype::F16 { -6e4 } else { -1e9 }
}

/// Queries see the keys up to their own position, counted from the first of both.
fn causal_mask(graph: &mut Graph, heads: &Heads, dtype: Dtype) -> Value {
    let masked = masked_score(dtype);
    let keys = heads.keys;
    let scores = (0..heads.queries * keys).map(|at| if at % keys > at / keys { masked } else { 0.0 });
    let elements = Elements::Float(scores.collect());
    graph.constant(Constant { dtype, shape: vec![heads.queries, keys], elements })
}

/// A mask as an addend: truth values say what takes part.
fn additive_mask(graph: &mut Graph, mask: Value, dtype: Dtype) -> Result<Value, GraphError> {
    if graph.dtype(mask) != Dtype::Bool {
        return Ok(mask);
    }
    let taking_part = graph.cast(mask, dtype)?;
    let missing = graph.shift(taking_part, -1.0)?;
    graph.scale(missing, -masked_score(dtype))
}
