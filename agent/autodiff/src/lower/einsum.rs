//! Einstein sums as transpositions, one matrix product for each pair of operands, and sums.

use std::collections::BTreeMap;

use super::{Application, Lowered, Row, row};
use crate::graph::{Constant, Elements, Graph, GraphError, Value};

pub(super) const ROWS: &[Row] =
    &[row("Einsum", 12, einsum, "Transpose, Reshape, MatMul (or Mul), ReduceSum, pair by pair from the left")];

/// A subscript: a letter, or an axis of the ellipsis counted from its right end. The ellipsis sorts first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Ellipsis(std::cmp::Reverse<usize>),
    Letter(char),
}

/// A tensor with the label of each of its axes.
#[derive(Debug, Clone)]
struct Labelled {
    value: Value,
    labels: Vec<Label>,
}

impl Labelled {
    fn axis_of(&self, label: Label) -> Option<usize> {
        self.labels.iter().position(|&other| other == label)
    }
}

fn einsum(graph: &mut Graph, application: &Application<'_>) -> Lowered {
    let equation: String =
        application.node.text("equation").unwrap_or_default().chars().filter(|letter| *letter != ' ').collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let mut operands = Vec::new();
    for (position, term) in left.split(',').enumerate() {
        let value = application.x(position)?;
        let labels = labels_of(term, Some(graph.shape(value).len())).ok_or_else(|| application.invalid(&equation))?;
        operands.push(Labelled { value, labels });
    }
    if operands.len() != application.node.inputs.len() {
        return Err(application.invalid(&equation));
    }
    let size_by_label = sizes(graph, &operands).ok_or_else(|| application.invalid(&equation))?;
    let output = match right {
        None => implicit_output(&operands),
        Some(term) => explicit_output(term, &operands).ok_or_else(|| application.invalid(&equation))?,
    };
    if output.iter().any(|label| !size_by_label.contains_key(label)) {
        return Err(application.invalid(&equation));
    }
    for operand in &mut operands {
        take_diagonals(graph, operand)?;
        drop_broadcast_axes(graph, operand, &size_by_label)?;
    }
    let mut result = operands.remove(0);
    while !operands.is_empty() {
        let next = operands.remove(0);
        let is_kept =
            |label: &Label| output.contains(label) || operands.iter().any(|operand| operand.labels.contains(label));
        result = contract(graph, result, next, &is_kept)?;
    }
    sum_out(graph, &mut result, &|label| output.contains(label))?;
    arrange(graph, &mut result, &output)?;
    Ok(vec![Some(result.value)])
}

/// The labels of a term; an ellipsis stands for the axes that a tensor of this rank has beyond the letters.
fn labels_of(term: &str, rank: Option<usize>) -> Option<Vec<Label>> {
    let letters = term.chars().filter(|letter| *letter != '.').count();
    let mut labels = Vec::new();
    let mut rest = term;
    while let Some(letter) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("...") {
            let covered = rank?.checked_sub(letters)?;
            labels.extend((0..covered).rev().map(|from_right| Label::Ellipsis(std::cmp::Reverse(from_right))));
            rest = after;
        } else if letter.is_ascii_alphabetic() {
            labels.push(Label::Letter(letter));
            rest = &rest[1..];
        } else {
            return None;
        }
    }
    (rank.is_none() || rank == Some(labels.len())).then_some(labels)
}

/// How many axes the widest ellipsis covers.
fn ellipsis_rank(operands: &[Labelled]) -> usize {
    let is_ellipsis = |label: &&Label| matches!(label, Label::Ellipsis(_));
    operands.iter().map(|operand| operand.labels.iter().filter(is_ellipsis).count()).max().unwrap_or(0)
}

fn explicit_output(term: &str, operands: &[Labelled]) -> Option<Vec<Label>> {
    let letters = term.chars().filter(|letter| *letter != '.').count();
    let rank = if term.contains("...") { ellipsis_rank(operands) + letters } else { letters };
    let output = labels_of(term, Some(rank))?;
    let is_repeated = |label: &Label| output.iter().filter(|other| *other == label).count() > 1;
    (!output.iter().any(is_repeated)).then_some(output)
}

/// The ellipsis, then the letters that occur once, in alphabetical order.
fn implicit_output(operands: &[Labelled]) -> Vec<Label> {
    let mut count_by_label: BTreeMap<Label, usize> = BTreeMap::new();
    for &label in operands.iter().flat_map(|operand| &operand.labels) {
        *count_by_label.entry(label).or_default() += 1;
    }
    let is_kept = |(label, count): &(Label, usize)| *count == 1 || matches!(label, Label::Ellipsis(_));
    count_by_label.into_iter().filter(is_kept).map(|(label, _)| label).collect()
}

/// The size of each label; sizes of one broadcast. `None` where sizes disagree.
fn sizes(graph: &Graph, operands: &[Labelled]) -> Option<BTreeMap<Label, usize>> {
    let mut size_by_label: BTreeMap<Label, usize> = BTreeMap::new();
    for operand in operands {
        for (&label, &size) in operand.labels.iter().zip(graph.shape(operand.value)) {
            let known = size_by_label.entry(label).or_insert(size);
            if *known == 1 {
                *known = size;
            } else if size != 1 && size != *known {
                return None;
            }
        }
    }
    Some(size_by_label)
}

/// A label that a tensor has twice: times the identity, summed over one of the two axes.
fn take_diagonals(graph: &mut Graph, operand: &mut Labelled) -> Result<(), GraphError> {
    while let Some((first, second)) = repeated(&operand.labels) {
        let shape = graph.shape(operand.value).to_vec();
        let size = shape[first];
        let identity = (0..size * size).map(|at| if at / size == at % size { 1.0 } else { 0.0 }).collect();
        let mut broadcast = vec![1; shape.len()];
        (broadcast[first], broadcast[second]) = (size, size);
        let dtype = graph.dtype(operand.value);
        let identity = graph.constant(Constant { dtype, shape: broadcast, elements: Elements::Float(identity) });
        let diagonal = graph.mul(operand.value, identity)?;
        operand.value = graph.reduce_sum(diagonal, &[second])?;
        operand.labels.remove(second);
    }
    Ok(())
}

fn repeated(labels: &[Label]) -> Option<(usize, usize)> {
    let earlier = |second: usize| labels[..second].iter().position(|label| *label == labels[second]);
    (0..labels.len()).find_map(|second| Some((earlier(second)?, second)))
}

fn drop_broadcast_axes(
    graph: &mut Graph,
    operand: &mut Labelled,
    size_by_label: &BTreeMap<Label, usize>,
) -> Result<(), GraphError> {
    let shape = graph.shape(operand.value).to_vec();
    let stays = |axis: &usize| shape[*axis] != 1 || size_by_label[&operand.labels[*axis]] == 1;
    let kept: Vec<usize> = (0..shape.len()).filter(stays).collect();
    let sizes: Vec<usize> = kept.iter().map(|&axis| shape[axis]).collect();
    operand.labels = kept.iter().map(|&axis| operand.labels[axis]).collect();
    operand.value = graph.reshape(operand.value, &sizes)?;
    Ok(())
}

fn sum_out(graph: &mut Graph, operand: &mut Labelled, is_kept: &dyn Fn(&Label) -> bool) -> Result<(), GraphError> {
    let axes: Vec<usize> = (0..operand.labels.len()).filter(|&axis| !is_kept(&operand.labels[axis])).collect();
    if !axes.is_empty() {
        operand.value = graph.reduce_sum(operand.value, &axes)?;
        operand.labels.retain(is_kept);
    }
    Ok(())
}

fn arrange(graph: &mut Graph, operand: &mut Labelled, order: &[Label]) -> Result<(), GraphError> {
    let permutation: Vec<usize> = order.iter().filter_map(|&label| operand.axis_of(label)).collect();
    if !permutation.iter().copied().eq(0..permutation.len()) {
        operand.value = graph.transpose(operand.value, &permutation)?;
    }
    operand.labels = order.to_vec();
    Ok(())
}

/// The product of two tensors, summed over the labels that both have and nobody wants any more.
fn contract(
    graph: &mut Graph,
    mut left: Labelled,
    mut right: Labelled,
    is_kept: &dyn Fn(&Label) -> bool,
) -> Result<Labelled, GraphError> {
    sum_out(graph, &mut left, &|label| is_kept(label) || right.labels.contains(label))?;
    sum_out(graph, &mut right, &|label| is_kept(label) || left.labels.contains(label))?;
    let shared = |wanted: bool| {
        let labels = left.labels.iter().filter(|label| right.labels.contains(label) && is_kept(label) == wanted);
        labels.copied().collect::<Vec<Label>>()
    };
    let (batch, contracted) = (shared(true), shared(false));
    let only = |of: &Labelled, other: &Labelled| {
        of.labels.iter().filter(|label| !other.labels.contains(label)).copied().collect::<Vec<Label>>()
    };
    let (rows, columns) = (only(&left, &right), only(&right, &left));
    arrange(graph, &mut left, &[batch.as_slice(), &rows, &contracted].concat())?;
    arrange(graph, &mut right, &[batch.as_slice(), &contracted, &columns].concat())?;
    let (left_shape, right_shape) = (graph.shape(left.value).to_vec(), graph.shape(right.value).to_vec());
    let batch_shape = &left_shape[..batch.len()];
    let row_shape = &left_shape[batch.len()..batch.len() + rows.len()];
    let column_shape = &right_shape[batch.len() + contracted.len()..];
    let inner_shape = &right_shape[batch.len()..batch.len() + contracted.len()];
    let product = |shape: &[usize]| shape.iter().product::<usize>();

    let labels = [batch.as_slice(), &rows, &columns].concat();
    let shape = [batch_shape, row_shape, column_shape].concat();
    let is_elementwise = contracted.is_empty() || (rows.is_empty() && columns.is_empty());
    let value = if is_elementwise {
        let spread = [batch_shape, row_shape, &vec![1; columns.len()], inner_shape].concat();
        let left = graph.reshape(left.value, &spread)?;
        let spread = [batch_shape, &vec![1; rows.len()], column_shape, inner_shape].concat();
        let right = graph.reshape(right.value, &spread)?;
        let products = graph.mul(left, right)?;
        let axes: Vec<usize> = (shape.len()..shape.len() + contracted.len()).collect();
        if axes.is_empty() { products } else { graph.reduce_sum(products, &axes)? }
    } else {
        let batches: &[usize] = if batch.is_empty() { &[] } else { &[product(batch_shape)] };
        let left = graph.reshape(left.value, &[batches, &[product(row_shape), product(inner_shape)]].concat())?;
        let right = graph.reshape(right.value, &[batches, &[product(inner_shape), product(column_shape)]].concat())?;
        let products = graph.matmul(left, right)?;
        graph.reshape(products, &shape)?
    };
    Ok(Labelled { value, labels })
}
