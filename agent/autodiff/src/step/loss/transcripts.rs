//! Connectionist temporal classification (Graves et al., "Connectionist temporal classification: labelling unsegmented
//! sequence data with recurrent neural networks", 2006): labels in order, of which nobody knows at which frames they are.
//!
//! A row's states are its labels with a blank before, between and behind them. Each frame stays in a state, goes on to
//! the next, or past a blank to a label that differs from the one before. The probability of a row is that of all ways
//! from the first states to the last ones; what a frame has of each state comes from the ways up to it and from it on.
//! Both are the same recursion over the frames, of the states in either order, and go side by side. All is in logarithms.

use super::{BatchLoss, SummedLoss, misfit, share};
use crate::graph::{Attribute, Dtype, Graph, GraphError, Value};

const NAME: &str = "ctc";

/// The class of no label, which also pads a row's labels.
pub const BLANK: i64 = 0;

/// The logarithm of what cannot be: sums of two of them still fit into single precision.
const NEVER: f64 = -1e30;

pub(super) fn batch(graph: &mut Graph, output: Value, target: Value) -> Result<BatchLoss, GraphError> {
    let transcripts = Transcripts::of(graph, output, target)?;
    let ways = transcripts.ways(graph)?;
    let share = share(transcripts.rows);
    let (losses, counts) = transcripts.losses(graph, &ways)?;
    let sum = graph.sum_all(losses)?;
    let loss = graph.scale(sum, share)?;
    let counts = graph.scale(counts, share)?;
    let gradient = transcripts.gradient(graph, &ways, counts)?;
    Ok(BatchLoss { loss, gradient, correct: None, counted: None })
}

pub(super) fn summed(
    graph: &mut Graph,
    output: Value,
    (target, row_weights): (Value, Value),
) -> Result<SummedLoss, GraphError> {
    let transcripts = Transcripts::of(graph, output, target)?;
    let ways = transcripts.ways(graph)?;
    let (losses, _) = transcripts.losses(graph, &ways)?;
    let weighted = graph.mul(losses, row_weights)?;
    let counted = graph.sum_all(row_weights)?;
    Ok(SummedLoss { loss: graph.sum_all(weighted)?, weight: counted, correct: None, counted })
}

/// Outputs and labels of a batch. Both ways of it, forwards and backwards, stand one after the other as `2 B` rows.
struct Transcripts {
    /// `[B, T, C]`
    log_probability: Value,
    /// The class of each state, `[B, S]`.
    states: Value,
    /// The labels of each row, `[B]`, in the type of the output.
    lengths: Value,
    /// Log-probabilities of the states at each frame, `[T, 2 B, S]`.
    emitted: Value,
    /// The state that each way begins in, or in the one after it, `[2 B, 1]`, as i64.
    first: Value,
    /// The blank behind each row's labels, `[B]`, as i64.
    last: Value,
    rows: usize,
    frames: usize,
    classes: usize,
    /// S: twice the labels, and one.
    width: usize,
}

struct Ways {
    /// The logarithm of all ways of a row through a state at a frame, `[T, B, S]`.
    through: Value,
    /// The logarithm of all ways of a row, `[B, 1]`.
    all: Value,
}

impl Transcripts {
    fn of(graph: &mut Graph, output: Value, target: Value) -> Result<Self, GraphError> {
        let (&[rows, frames, classes], &[target_rows, labels]) = (graph.shape(output), graph.shape(target)) else {
            return Err(misfit(NAME, format!("{} for {}", graph.info(target), graph.info(output))));
        };
        if rows != target_rows || frames == 0 || labels == 0 {
            return Err(misfit(NAME, format!("{} for {}", graph.info(target), graph.info(output))));
        }
        let dtype = graph.dtype(output);
        let width = 2 * labels + 1;
        let log_probability = graph.node("LogSoftmax", &[output], &[("axis", Attribute::Int(2))])?;

        let column = graph.reshape(target, &[rows, labels, 1])?;
        let blank = graph.int_vector(vec![BLANK]);
        let blanks = graph.expand(blank, &[rows, labels, 1])?;
        let pairs = graph.concat(&[blanks, column], 2)?;
        let pairs = graph.reshape(pairs, &[rows, 2 * labels])?;
        let behind = graph.expand(blank, &[rows, 1])?;
        let states = graph.concat(&[pairs, behind], 1)?;

        let is_blank = graph.equal(target, blank)?;
        let is_label = graph.node("Not", &[is_blank], &[])?;
        let is_label = graph.cast(is_label, dtype)?;
        let lengths = graph.reduce_sum(is_label, &[1])?;

        // Backwards, a row's states end where its padding does.
        let count = graph.cast(lengths, Dtype::I64)?;
        let last = graph.scale_int(count, 2)?;
        let reach = graph.sizes(&[width - 1]);
        let backwards = graph.sub(reach, last)?;
        let none = graph.int_vector(vec![0]);
        let forwards = graph.expand(none, &[rows])?;
        let first = graph.concat(&[forwards, backwards], 0)?;
        let first = graph.reshape(first, &[2 * rows, 1])?;

        let emitted = emitted(graph, log_probability, states)?;
        Ok(Self { log_probability, states, lengths, emitted, first, last, rows, frames, classes, width })
    }

    /// What is added where a state cannot be come to past the one before it, `[2 B, S]`.
    fn leaps(&self, graph: &mut Graph) -> Result<Value, GraphError> {
        let backwards = graph.reversed(self.states, &[1])?;
        let states = graph.concat(&[self.states, backwards], 0)?;
        // The two first have no state two before them, and blanks none that differs.
        let (rows, width) = (2 * self.rows, self.width);
        let earlier = graph.window(states, &[(0, rows), (0, width - 2)])?;
        let begun = graph.window(states, &[(0, rows), (0, 2)])?;
        let earlier = graph.concat(&[begun, earlier], 1)?;
        let is_same = graph.equal(states, earlier)?;
        let (never, free) = (self.number(graph, NEVER), self.number(graph, 0.0));
        graph.choose(is_same, never, free)
    }

    fn ways(&self, graph: &mut Graph) -> Result<Ways, GraphError> {
        let (rows, width) = (2 * self.rows, self.width);
        let leaps = self.leaps(graph)?;
        let never = self.number(graph, NEVER);
        let (one, two) = (graph.expand(never, &[rows, 1])?, graph.expand(never, &[rows, 2])?);

        let positions = graph.int_range(width, 1);
        let ahead = graph.sub(positions, self.first)?;
        let (zero, next) = (graph.sizes(&[0]), graph.sizes(&[1]));
        let (is_first, is_second) = (graph.equal(ahead, zero)?, graph.equal(ahead, next)?);
        let begins = graph.node("Or", &[is_first, is_second], &[])?;
        let free = self.number(graph, 0.0);
        let begins = graph.choose(begins, free, never)?;

        let mut reached = Vec::with_capacity(self.frames);
        for frame in 0..self.frames {
            let emitted = graph.window(self.emitted, &[(frame, frame + 1), (0, rows), (0, width)])?;
            let emitted = graph.reshape(emitted, &[rows, width])?;
            let ways = match reached.last() {
                None => begins,
                Some(&before) => {
                    let stepped = graph.window(before, &[(0, rows), (0, width - 1)])?;
                    let stepped = graph.concat(&[one, stepped], 1)?;
                    let leapt = graph.window(before, &[(0, rows), (0, width - 2)])?;
                    let leapt = graph.concat(&[two, leapt], 1)?;
                    let leapt = graph.add(leapt, leaps)?;
                    log_of_sum(graph, &[before, stepped, leapt])?
                }
            };
            reached.push(graph.add(ways, emitted)?);
        }
        let each: Vec<Value> =
            reached.into_iter().map(|ways| graph.reshape(ways, &[1, rows, width])).collect::<Result<_, _>>()?;
        let both = graph.concat(&each, 0)?;
        let up_to = self.half(graph, both, 0)?;
        let from = self.half(graph, both, 1)?;
        let from = graph.reversed(from, &[0, 2])?;
        // Both have the frame itself.
        let once = self.half(graph, self.emitted, 0)?;
        let through = graph.add(up_to, from)?;
        let through = graph.sub(through, once)?;
        // Every way ends in the last label or in the blank behind it.
        let last = graph.window(up_to, &[(self.frames - 1, self.frames), (0, self.rows), (0, width)])?;
        let last = graph.reshape(last, &[self.rows, width])?;
        let one = graph.window(one, &[(0, self.rows), (0, 1)])?;
        let label = graph.window(last, &[(0, self.rows), (0, width - 1)])?;
        let label = graph.concat(&[one, label], 1)?;
        let ends = log_of_sum(graph, &[last, label])?;
        let ends = graph.reshape(ends, &[self.rows * width])?;
        let starts = graph.int_range(self.rows, width);
        let places = graph.add(starts, self.last)?;
        let all = graph.gather(ends, places)?;
        Ok(Ways { through, all: graph.reshape(all, &[self.rows, 1])? })
    }

    /// The losses of the rows, each divided by its number of labels, and that divisor's inverse, both `[B]`; zero
    /// where a row has more labels than its frames can tell, as PyTorch has it with `zero_infinity`.
    fn losses(&self, graph: &mut Graph, ways: &Ways) -> Result<(Value, Value), GraphError> {
        let all = graph.reshape(ways.all, &[self.rows])?;
        let bound = self.number(graph, 0.1 * NEVER);
        let can_be = graph.node("Greater", &[all, bound], &[])?;
        let one = self.number(graph, 1.0);
        let length = graph.max(self.lengths, one)?;
        let inverse = graph.reciprocal(length)?;
        let zero = self.number(graph, 0.0);
        let counts = graph.choose(can_be, inverse, zero)?;
        let losses = graph.neg(all)?;
        Ok((graph.mul(losses, counts)?, counts))
    }

    /// The probability of each class at each frame, less the share of the ways that are in a state of it, times what
    /// the row counts.
    fn gradient(&self, graph: &mut Graph, ways: &Ways, counts: Value) -> Result<Value, GraphError> {
        let parts = graph.sub(ways.through, ways.all)?;
        let zero = self.number(graph, 0.0);
        let parts = graph.node("Min", &[parts, zero], &[])?;
        let parts = graph.exp(parts)?;
        let parts = graph.transpose(parts, &[1, 0, 2])?;
        let classes = graph.one_hot(self.states, self.classes)?;
        let classes = graph.cast(classes, graph.dtype(parts))?;
        let taken = graph.node("MatMul", &[parts, classes], &[])?;
        let probability = graph.exp(self.log_probability)?;
        let gradient = graph.sub(probability, taken)?;
        let counts = graph.reshape(counts, &[self.rows, 1, 1])?;
        graph.mul(gradient, counts)
    }

    /// The forward half of `[T, 2 B, S]`, or the other.
    fn half(&self, graph: &mut Graph, both: Value, half: usize) -> Result<Value, GraphError> {
        let rows = (half * self.rows, (half + 1) * self.rows);
        graph.window(both, &[(0, self.frames), rows, (0, self.width)])
    }

    fn number(&self, graph: &mut Graph, number: f64) -> Value {
        graph.scalar_like(self.log_probability, number)
    }
}

/// `[T, 2 B, S]`: the log-probabilities `[B, T, C]` of the states' classes `[B, S]`, and, in the second half of the
/// rows, the same with frames and states in the opposite order.
fn emitted(graph: &mut Graph, log_probability: Value, states: Value) -> Result<Value, GraphError> {
    let (&[rows, frames, classes], &[_, width]) = (graph.shape(log_probability), graph.shape(states)) else {
        return Err(misfit(NAME, "the states have another form".into()));
    };
    let flat = graph.reshape(log_probability, &[rows * frames * classes])?;
    let starts = (0..frames * rows).map(|at| (at % rows * frames + at / rows) * classes).collect::<Vec<_>>();
    let starts = graph.sizes(&starts);
    let starts = graph.reshape(starts, &[frames, rows, 1])?;
    let places = graph.add(starts, states)?;
    let places = graph.reshape(places, &[frames * rows * width])?;
    let forwards = graph.gather(flat, places)?;
    let forwards = graph.reshape(forwards, &[frames, rows, width])?;
    let backwards = graph.reversed(forwards, &[0, 2])?;
    graph.concat(&[forwards, backwards], 1)
}

/// The logarithm of the sum of the exponentials, element by element.
fn log_of_sum(graph: &mut Graph, logs: &[Value]) -> Result<Value, GraphError> {
    let most = graph.node("Max", logs, &[])?;
    let mut sum = None;
    for &log in logs {
        let less = graph.sub(log, most)?;
        let part = graph.exp(less)?;
        sum = Some(match sum {
            None => part,
            Some(sum) => graph.add(sum, part)?,
        });
    }
    let sum = sum.ok_or_else(|| misfit(NAME, "there is nothing to sum".into()))?;
    let log = graph.node("Log", &[sum], &[])?;
    graph.add(log, most)
}
