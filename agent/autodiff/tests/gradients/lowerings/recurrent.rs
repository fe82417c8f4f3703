//! Recurrent layers, step by step as the operators' definitions have it.

use regatta_autodiff::graph::{Attribute, Dtype, Graph, Provider, Value};

use super::{is_refused, lowered};
use crate::check::{Draw::Signed, check_output, check_with};
use crate::evaluator::Tensor;

const STEPS: usize = 3;
const BATCH: usize = 2;
const WIDTH: usize = 2;
const HIDDEN: usize = 2;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The operands of one direction of a layer with a number of gates.
struct Direction<'a> {
    x: &'a [Tensor],
    index: usize,
    gates: usize,
}

impl Direction<'_> {
    fn rows(&self) -> usize {
        self.gates * HIDDEN
    }

    /// The part of a gate's sum that comes from the input, with its bias.
    fn of_input(&self, step: usize, batch: usize, row: usize) -> f64 {
        let (x, weights, bias) = (self.x[0].as_floats(), self.x[1].as_floats(), self.x[3].as_floats());
        let product =
            |at: usize| x[(step * BATCH + batch) * WIDTH + at] * weights[(self.index * self.rows() + row) * WIDTH + at];
        (0..WIDTH).map(product).sum::<f64>() + bias[self.index * 2 * self.rows() + row]
    }

    /// The part that comes from a state, with its bias.
    fn of_state(&self, state: &[f64], row: usize) -> f64 {
        let (weights, bias) = (self.x[2].as_floats(), self.x[3].as_floats());
        let product = |at: usize| state[at] * weights[(self.index * self.rows() + row) * HIDDEN + at];
        (0..HIDDEN).map(product).sum::<f64>() + bias[self.index * 2 * self.rows() + self.rows() + row]
    }

    fn initial(&self, operand: usize, batch: usize) -> Vec<f64> {
        let start = (self.index * BATCH + batch) * HIDDEN;
        self.x.get(operand).map_or(vec![0.0; HIDDEN], |state| state.as_floats()[start..start + HIDDEN].to_vec())
    }
}

/// New hidden and cell states from old ones at a step, for one row of the batch.
type Cell<'a> = &'a dyn Fn(&Direction<'_>, (usize, usize), &[f64], &[f64]) -> (Vec<f64>, Vec<f64>);

/// `[steps, directions, batch, hidden]`
fn by_definition(x: &[Tensor], gates: usize, reversals: &[bool], cell: Cell<'_>) -> Tensor {
    let mut y = vec![0.0; STEPS * reversals.len() * BATCH * HIDDEN];
    for (index, &is_reverse) in reversals.iter().enumerate() {
        let direction = Direction { x, index, gates };
        for batch in 0..BATCH {
            let mut state = (direction.initial(4, batch), direction.initial(5, batch));
            for turn in 0..STEPS {
                let step = if is_reverse { STEPS - 1 - turn } else { turn };
                state = cell(&direction, (step, batch), &state.0, &state.1);
                let start = ((step * reversals.len() + index) * BATCH + batch) * HIDDEN;
                y[start..start + HIDDEN].copy_from_slice(&state.0);
            }
        }
    }
    Tensor::floats(&[STEPS, reversals.len(), BATCH, HIDDEN], y)
}

fn rnn_cell(direction: &Direction<'_>, (step, batch): (usize, usize), h: &[f64], c: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let sum = |row: usize| direction.of_input(step, batch, row) + direction.of_state(h, row);
    ((0..HIDDEN).map(|row| sum(row).tanh()).collect(), c.to_vec())
}

fn lstm_cell(direction: &Direction<'_>, (step, batch): (usize, usize), h: &[f64], c: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let sum = |gate: usize, at: usize| {
        let row = gate * HIDDEN + at;
        direction.of_input(step, batch, row) + direction.of_state(h, row)
    };
    let cell: Vec<f64> =
        (0..HIDDEN).map(|at| sigmoid(sum(2, at)) * c[at] + sigmoid(sum(0, at)) * sum(3, at).tanh()).collect();
    ((0..HIDDEN).map(|at| sigmoid(sum(1, at)) * cell[at].tanh()).collect(), cell)
}

fn gru_cell(
    resets_product: bool,
    direction: &Direction<'_>,
    (step, batch): (usize, usize),
    h: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let input = |gate: usize, at: usize| direction.of_input(step, batch, gate * HIDDEN + at);
    let gate = |gate: usize, at: usize| sigmoid(input(gate, at) + direction.of_state(h, gate * HIDDEN + at));
    let reset: Vec<f64> = (0..HIDDEN).map(|at| gate(1, at) * h[at]).collect();
    let candidate = |at: usize| {
        let row = 2 * HIDDEN + at;
        let recurrent = match resets_product {
            true => gate(1, at) * direction.of_state(h, row),
            false => direction.of_state(&reset, row),
        };
        (input(2, at) + recurrent).tanh()
    };
    ((0..HIDDEN).map(|at| (1.0 - gate(0, at)) * candidate(at) + gate(0, at) * h[at]).collect(), vec![])
}

fn check(op: &str, gates: usize, extra: &[(&'static str, Attribute)], states: usize, cell: Cell<'_>) {
    for (name, reversals) in [("forward", &[false][..]), ("reverse", &[true]), ("bidirectional", &[false, true])] {
        let (count, rows) = (reversals.len(), gates * HIDDEN);
        let shapes =
            [vec![STEPS, BATCH, WIDTH], vec![count, rows, WIDTH], vec![count, rows, HIDDEN], vec![count, 2 * rows]];
        let state = vec![count, BATCH, HIDDEN];
        let all = shapes.iter().chain(std::iter::repeat_n(&state, states));
        let inputs: Vec<(&[usize], _)> = all.map(|shape| (shape.as_slice(), Signed)).collect();
        let mut attributes =
            vec![("hidden_size", Attribute::Int(HIDDEN as i64)), ("direction", Attribute::Text(name.into()))];
        attributes.extend_from_slice(extra);
        let build = |g: &mut Graph, x: &[Value]| {
            let mut operands: Vec<Option<Value>> = x.iter().copied().map(Some).collect();
            operands.insert(4, None);
            lowered(g, op, &operands, &attributes, 0)
        };
        check_output(op, &inputs, &build, &|x| by_definition(x, gates, reversals, cell));
        check_with(op, &inputs, &build);
    }
}

#[test]
fn plain_recurrence() {
    check("RNN", 1, &[], 0, &rnn_cell);
    check("RNN", 1, &[], 1, &rnn_cell);
    let sigmoids = [("activations", Attribute::Texts(vec!["Sigmoid".into()]))];
    check("RNN", 1, &sigmoids, 0, &|direction, (step, batch), h, c| {
        let sum = |row: usize| direction.of_input(step, batch, row) + direction.of_state(h, row);
        ((0..HIDDEN).map(|row| sigmoid(sum(row))).collect(), c.to_vec())
    });
}

#[test]
fn long_short_term_memory() {
    check("LSTM", 4, &[], 0, &lstm_cell);
    check("LSTM", 4, &[], 2, &lstm_cell);
}

#[test]
fn gated_recurrence_with_both_places_of_the_reset() {
    for resets_product in [false, true] {
        let extra = [("linear_before_reset", Attribute::Int(i64::from(resets_product)))];
        for states in [0, 1] {
            check("GRU", 3, &extra, states, &|direction, at, h, _| gru_cell(resets_product, direction, at, h));
        }
    }
}

#[test]
fn last_states_are_the_last_steps() {
    let inputs = [(&[STEPS, BATCH, WIDTH][..], Signed), (&[1, 8, WIDTH][..], Signed), (&[1, 8, HIDDEN][..], Signed)];
    let attributes = [("hidden_size", Attribute::Int(HIDDEN as i64))];
    for output in [1, 2] {
        let build = |g: &mut Graph, x: &[Value]| {
            let x: Vec<Option<Value>> = x.iter().copied().map(Some).collect();
            lowered(g, "LSTM", &x, &attributes, output)
        };
        check_with("a last state of an LSTM", &inputs, &build);
        check_output("a last state of an LSTM", &inputs, &build, &|x| {
            let bias = Tensor::floats(&[1, 16], vec![0.0; 16]);
            let x = [x, &[bias]].concat();
            let direction = Direction { x: &x, index: 0, gates: 4 };
            let last = (0..BATCH).flat_map(|batch| {
                let mut state = (vec![0.0; HIDDEN], vec![0.0; HIDDEN]);
                for step in 0..STEPS {
                    state = lstm_cell(&direction, (step, batch), &state.0, &state.1);
                }
                if output == 1 { state.0 } else { state.1 }
            });
            Tensor::floats(&[1, BATCH, HIDDEN], last.collect())
        });
    }
}

#[test]
fn what_cannot_be_unrolled_is_refused() {
    let mut graph = Graph::new(Provider::Cpu);
    let x = graph.input("x", Dtype::F32, &[3, 2, 2]).ok();
    let (w, r) = (graph.input("w", Dtype::F32, &[1, 8, 2]).ok(), graph.input("r", Dtype::F32, &[1, 8, 2]).ok());
    let peepholes = graph.input("p", Dtype::F32, &[1, 6]).ok();
    let lengths = Some(graph.int_vector(vec![3, 2]));
    let full = Some(graph.int_vector(vec![3, 3]));
    let size = ("hidden_size", Attribute::Int(2));
    assert!(!is_refused(&mut graph, "LSTM", &[x, w, r, None, full], std::slice::from_ref(&size)));
    assert!(is_refused(&mut graph, "LSTM", &[x, w, r, None, lengths], std::slice::from_ref(&size)));
    assert!(is_refused(&mut graph, "LSTM", &[x, w, r, None, None, None, None, peepholes], std::slice::from_ref(&size)));
    assert!(is_refused(&mut graph, "LSTM", &[x, w, r], &[]));
    assert!(is_refused(&mut graph, "LSTM", &[x, w, r], &[size.clone(), ("layout", Attribute::Int(1))]));
    assert!(is_refused(&mut graph, "LSTM", &[x, w, r], &[size.clone(), ("clip", Attribute::Float(1.0))]));
    let activations = ("activations", Attribute::Texts(vec!["Relu".into(), "Tanh".into(), "Tanh".into()]));
    assert!(is_refused(&mut graph, "LSTM", &[x, w, r], &[size, activations]));
}
