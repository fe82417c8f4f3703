//! Recurrent networks unrolled over time. The inputs of all steps are projected by one matrix product; a step then costs
//! one product with the recurrent weights, which also adds the projection.

use super::{Application, Lowered, Row, row, texts};
use crate::graph::{Attribute, Constant, Elements, Graph, GraphError, Value};

pub(super) const ROWS: &[Row] = &[
    row("RNN", 14, rnn, "unrolled: Gemm, and the activation"),
    row("GRU", 14, gru, "unrolled: Gemm, Sigmoid, Tanh, Mul, Add"),
    row("LSTM", 14, lstm, "unrolled: Gemm, Sigmoid, Tanh, Mul, Add; no peepholes"),
];

/// One direction of a recurrent layer.
struct Direction {
    /// The projected inputs of each step, `[batch, gates * hidden]`, with all biases that can be added beforehand.
    inputs: Vec<Value>,
    /// `[gates * hidden, hidden]`
    recurrent: Value,
    /// The recurrent bias `[gates * hidden]`, where the cell adds it itself.
    recurrent_bias: Option<Value>,
    hidden: Value,
    cell: Option<Value>,
    is_reverse: bool,
}

/// What distinguishes the kinds of cells.
struct Kind {
    gates: usize,
    /// Whether the cell adds the recurrent bias itself.
    adds_bias: bool,
    has_cell: bool,
}

struct Layer {
    steps: usize,
    batch: usize,
    hidden: usize,
    directions: Vec<Direction>,
}

/// What a step leaves: the hidden state, and the cell's where it has one.
type State = (Value, Option<Value>);

type Step<'a> = &'a dyn Fn(&mut Graph, &Direction, Value, State) -> Result<State, GraphError>;

fn rnn(graph: &mut Graph, application: &Application<'_>) -> Lowered {
    let activation = match texts(application.node, "activations") {
        None => "Tanh".to_owned(),
        Some([first, rest @ ..]) if rest.iter().all(|name| name == first) => first.clone(),
        Some([]) => return Err(application.invalid("its list of activations is empty")),
        Some(_) => return Err(application.invalid("both directions must have the same activation")),
    };
    if !["Tanh", "Relu", "Sigmoid"].contains(&activation.as_str()) {
        return Err(application.invalid("the activation must be Tanh, Relu or Sigmoid"));
    }
    let layer = layer(graph, application, Kind { gates: 1, adds_bias: false, has_cell: false })?;
    let step: Step<'_> = &|graph, direction, input, (hidden, cell)| {
        let sum = with_recurrence(graph, direction.recurrent, hidden, input)?;
        Ok((graph.node(&activation, &[sum], &[])?, cell))
    };
    unroll(graph, &layer, step)
}

/// Gates in ONNX's order: update, reset, candidate.
fn gru(graph: &mut Graph, application: &Application<'_>) -> Lowered {
    default_activations(application, &["Sigmoid", "Tanh"])?;
    let resets_product = application.node.int("linear_before_reset", 0) != 0;
    let layer = layer(graph, application, Kind { gates: 3, adds_bias: resets_product, has_cell: false })?;
    let hidden_size = layer.hidden;
    let step: Step<'_> = &|graph, direction, input, (hidden, cell)| {
        let input = split(graph, input, 1, &[2 * hidden_size, hidden_size])?;
        let (gates, candidate) = if resets_product {
            let product = match direction.recurrent_bias {
                Some(bias) => with_recurrence(graph, direction.recurrent, hidden, bias)?,
                None => graph.gemm(hidden, direction.recurrent, RECURRENT)?,
            };
            let product = split(graph, product, 1, &[2 * hidden_size, hidden_size])?;
            let gates = graph.add(input[0], product[0])?;
            let gates = sigmoid_gates(graph, gates, 2, hidden_size)?;
            let reset = graph.mul(gates[1], product[1])?;
            (gates, graph.add(input[1], reset)?)
        } else {
            let recurrent = split(graph, direction.recurrent, 0, &[2 * hidden_size, hidden_size])?;
            let gates = with_recurrence(graph, recurrent[0], hidden, input[0])?;
            let gates = sigmoid_gates(graph, gates, 2, hidden_size)?;
            let reset = graph.mul(gates[1], hidden)?;
            (gates, with_recurrence(graph, recurrent[1], reset, input[1])?)
        };
        let candidate = graph.tanh(candidate)?;
        let change = graph.sub(hidden, candidate)?;
        let kept = graph.mul(gates[0], change)?;
        Ok((graph.add(candidate, kept)?, cell))
    };
    unroll(graph, &layer, step)
}

/// Gates in ONNX's order: input, output, forget, candidate.
fn lstm(graph: &mut Graph, application: &Application<'_>) -> Lowered {
    default_activations(application, &["Sigmoid", "Tanh", "Tanh"])?;
    application.refuse(7..8, "peepholes are not supported")?;
    if application.node.int("input_forget", 0) != 0 {
        return Err(application.invalid("coupled input and forget gates are not supported"));
    }
    let layer = layer(graph, application, Kind { gates: 4, adds_bias: false, has_cell: true })?;
    let hidden_size = layer.hidden;
    let step: Step<'_> = &|graph, direction, input, (hidden, cell)| {
        let cell = cell.expect("the directions of an LSTM have cells");
        let sums = with_recurrence(graph, direction.recurrent, hidden, input)?;
        let sums = split(graph, sums, 1, &[3 * hidden_size, hidden_size])?;
        let gates = sigmoid_gates(graph, sums[0], 3, hidden_size)?;
        let candidate = graph.tanh(sums[1])?;
        let kept = graph.mul(gates[2], cell)?;
        let gained = graph.mul(gates[0], candidate)?;
        let cell = graph.add(kept, gained)?;
        let squashed = graph.tanh(cell)?;
        Ok((graph.mul(gates[1], squashed)?, Some(cell)))
    };
    unroll(graph, &layer, step)
}

const RECURRENT: crate::graph::Transposed = crate::graph::Transposed { left: false, right: true };

/// `hidden * recurrent' + addend`.
fn with_recurrence(graph: &mut Graph, recurrent: Value, hidden: Value, addend: Value) -> Result<Value, GraphError> {
    graph.node("Gemm", &[hidden, recurrent, addend], &[("transB", Attribute::Int(1))])
}

fn sigmoid_gates(graph: &mut Graph, sums: Value, gates: usize, hidden: usize) -> Result<Vec<Value>, GraphError> {
    let open = graph.sigmoid(sums)?;
    split(graph, open, 1, &vec![hidden; gates])
}

fn split(graph: &mut Graph, value: Value, axis: i64, sizes: &[usize]) -> Result<Vec<Value>, GraphError> {
    if sizes.len() == 1 {
        return Ok(vec![value]);
    }
    let lengths = graph.int_vector(sizes.iter().map(|&size| i64::try_from(size).expect("a size is small")).collect());
    graph.nodes_of("Split", &[Some(value), Some(lengths)], sizes.len(), &[("axis", Attribute::Int(axis))])
}

fn concat(graph: &mut Graph, values: &[Value], axis: i64) -> Result<Value, GraphError> {
    if let [value] = values {
        return Ok(*value);
    }
    graph.node("Concat", values, &[("axis", Attribute::Int(axis))])
}

fn default_activations(application: &Application<'_>, defaults: &[&str]) -> Result<(), GraphError> {
    let given = texts(application.node, "activations").unwrap_or_default();
    let is_default = given.chunks(defaults.len()).all(|names| names.iter().eq(defaults.iter()));
    if is_default { Ok(()) } else { Err(application.invalid("only the default activations are supported")) }
}

/// The operands of every direction.
fn layer(graph: &mut Graph, application: &Application<'_>, kind: Kind) -> Result<Layer, GraphError> {
    let x = application.x(0)?;
    let [steps, batch, width] = *graph.shape(x) else { return Err(application.invalid("its input has three axes")) };
    let hidden = application.size("hidden_size")?;
    refuse_unsupported(graph, application, steps)?;
    let reversals: &[bool] = match application.node.text("direction").unwrap_or("forward") {
        "forward" => &[false],
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        _ => return Err(application.invalid("it has no such direction")),
    };
    let count = reversals.len();
    let rows = kind.gates.checked_mul(hidden).filter(|rows| rows.checked_mul(2).is_some());
    let rows = rows.ok_or_else(|| application.invalid("hidden_size is larger than any tensor"))?;
    let weights = per_direction(graph, application.x(1)?, count, &[rows, width])?;
    let recurrent = per_direction(graph, application.x(2)?, count, &[rows, hidden])?;
    let biases = optional_per_direction(graph, application.optional(3), count, &[2 * rows])?;
    let states = optional_per_direction(graph, application.optional(5), count, &[batch, hidden])?;
    let cells = optional_per_direction(graph, application.optional(6), count, &[batch, hidden])?;
    let zeros = Constant {
        dtype: graph.dtype(x),
        shape: vec![batch, hidden],
        elements: Elements::Float(vec![0.0; batch * hidden]),
    };
    let zeros = graph.constant(zeros);
    let flat = graph.reshape(x, &[steps * batch, width])?;
    let mut directions = Vec::with_capacity(count);
    for (position, &is_reverse) in reversals.iter().enumerate() {
        let (bias, recurrent_bias) = match &biases {
            Some(biases) => biases_of(graph, biases[position], rows, kind.adds_bias)?,
            None => (None, None),
        };
        let operands: Vec<Value> = [flat, weights[position]].into_iter().chain(bias).collect();
        let projected = graph.node("Gemm", &operands, &[("transB", Attribute::Int(1))])?;
        directions.push(Direction {
            inputs: split(graph, projected, 0, &vec![batch; steps])?,
            recurrent: recurrent[position],
            recurrent_bias,
            hidden: states.as_ref().map_or(zeros, |states| states[position]),
            cell: kind.has_cell.then(|| cells.as_ref().map_or(zeros, |cells| cells[position])),
            is_reverse,
        });
    }
    Ok(Layer { steps, batch, hidden, directions })
}

fn refuse_unsupported(graph: &Graph, application: &Application<'_>, steps: usize) -> Result<(), GraphError> {
    if application.node.int("layout", 0) != 0 {
        return Err(application.invalid("only the layout with time first is supported"));
    }
    if application.node.attributes.contains_key("clip") {
        return Err(application.invalid("clipped activations are not supported"));
    }
    let Some(lengths) = application.optional(4) else { return Ok(()) };
    let lengths = graph.constant_ints(lengths).unwrap_or_default();
    let is_full = |&length: &i64| usize::try_from(length) == Ok(steps);
    if lengths.is_empty() || !lengths.iter().all(is_full) {
        return Err(application.invalid("sequences must all have the full length"));
    }
    Ok(())
}

/// The bias to add to the projected inputs, and the one that is left to the cell.
fn biases_of(
    graph: &mut Graph,
    both: Value,
    rows: usize,
    adds_bias: bool,
) -> Result<(Option<Value>, Option<Value>), GraphError> {
    let parts = split(graph, both, 0, &[rows, rows])?;
    if adds_bias {
        return Ok((Some(parts[0]), Some(parts[1])));
    }
    Ok((Some(graph.add(parts[0], parts[1])?), None))
}

fn per_direction(graph: &mut Graph, value: Value, count: usize, shape: &[usize]) -> Result<Vec<Value>, GraphError> {
    let parts = split(graph, value, 0, &vec![1; count])?;
    parts.into_iter().map(|part| graph.reshape(part, shape)).collect()
}

fn optional_per_direction(
    graph: &mut Graph,
    value: Option<Value>,
    count: usize,
    shape: &[usize],
) -> Result<Option<Vec<Value>>, GraphError> {
    value.map(|value| per_direction(graph, value, count, shape)).transpose()
}

/// The hidden states of all steps `[steps, directions, batch, hidden]`, and the last of each direction.
fn unroll(graph: &mut Graph, layer: &Layer, step: Step<'_>) -> Lowered {
    let (mut all, mut last_hidden, mut last_cell) = (Vec::new(), Vec::new(), Vec::new());
    let last_shape = [1, layer.batch, layer.hidden];
    for direction in &layer.directions {
        let mut state: State = (direction.hidden, direction.cell);
        let mut outputs = Vec::with_capacity(layer.steps);
        let order: Vec<Value> = match direction.is_reverse {
            false => direction.inputs.clone(),
            true => direction.inputs.iter().rev().copied().collect(),
        };
        for input in order {
            state = step(graph, direction, input, state)?;
            outputs.push(state.0);
        }
        if direction.is_reverse {
            outputs.reverse();
        }
        let joined = concat(graph, &outputs, 0)?;
        all.push(graph.reshape(joined, &[layer.steps, 1, layer.batch, layer.hidden])?);
        last_hidden.push(graph.reshape(state.0, &last_shape)?);
        last_cell.push(state.1.map(|cell| graph.reshape(cell, &last_shape)).transpose()?);
    }
    let cells: Option<Vec<Value>> = last_cell.into_iter().collect();
    Ok(vec![
        Some(concat(graph, &all, 1)?),
        Some(concat(graph, &last_hidden, 0)?),
        cells.map(|cells| concat(graph, &cells, 0)).transpose()?,
    ])
}
