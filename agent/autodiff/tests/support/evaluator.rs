//! Runs a graph in double precision, slowly and plainly: the oracle of this crate's tests. A family a file.
//! Floats are f64 whatever their declared type; truth values are integers.

#[path = "evaluator/convolution.rs"]
mod convolution;
#[path = "evaluator/elementwise.rs"]
mod elementwise;
#[path = "evaluator/indexing.rs"]
mod indexing;
#[path = "evaluator/linear.rs"]
mod linear;
#[path = "evaluator/movement.rs"]
mod movement;
#[path = "evaluator/pooling.rs"]
mod pooling;
#[path = "evaluator/reduction.rs"]
mod reduction;
#[path = "evaluator/resize.rs"]
mod resize;

use std::collections::BTreeMap;

use regatta_autodiff::graph::{Elements, Graph, Node, Value};

#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub elements: Elements,
}

impl Tensor {
    pub fn floats(shape: &[usize], floats: Vec<f64>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), floats.len());
        Self { shape: shape.to_vec(), elements: Elements::Float(floats) }
    }

    pub fn ints(shape: &[usize], ints: Vec<i64>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), ints.len());
        Self { shape: shape.to_vec(), elements: Elements::Int(ints) }
    }

    pub fn as_floats(&self) -> &[f64] {
        match &self.elements {
            Elements::Float(floats) => floats,
            Elements::Int(_) => panic!("integers where floats belong"),
        }
    }

    pub fn as_ints(&self) -> &[i64] {
        match &self.elements {
            Elements::Int(ints) => ints,
            Elements::Float(_) => panic!("floats where integers belong"),
        }
    }

    fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The values of all outputs of the graph, by name.
pub fn evaluate(graph: &Graph, input_by_name: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let mut known: BTreeMap<Value, Tensor> = BTreeMap::new();
    for &input in graph.inputs() {
        if let Some(tensor) = input_by_name.get(graph.name(input)) {
            assert_eq!(tensor.shape, graph.shape(input), "shape of input {}", graph.name(input));
            known.insert(input, tensor.clone());
        }
    }
    for node in graph.live_nodes() {
        let operands: Vec<Option<Tensor>> =
            node.inputs.iter().map(|value| value.map(|value| operand(graph, &known, value))).collect();
        for (value, output) in node.outputs.iter().zip(apply(node, &operands)) {
            assert_eq!(output.shape, graph.shape(*value), "inferred shape of {}", graph.name(*value));
            known.insert(*value, output);
        }
    }
    graph.outputs().iter().map(|output| (graph.name(*output).to_owned(), known[output].clone())).collect()
}

fn operand(graph: &Graph, known: &BTreeMap<Value, Tensor>, value: Value) -> Tensor {
    match graph.constant_of(value) {
        Some(constant) => Tensor { shape: constant.shape.clone(), elements: constant.elements.clone() },
        None => known.get(&value).unwrap_or_else(|| panic!("no value for {}", graph.name(value))).clone(),
    }
}

fn apply(node: &Node, operands: &[Option<Tensor>]) -> Vec<Tensor> {
    let families = [
        convolution::apply,
        elementwise::apply,
        indexing::apply,
        linear::apply,
        movement::apply,
        pooling::apply,
        reduction::apply,
        resize::apply,
    ];
    let outputs = families.iter().find_map(|family| family(node, operands));
    outputs.unwrap_or_else(|| panic!("the evaluator does not know {}", node.op))
}

fn unary(x: &Tensor, function: impl Fn(f64) -> f64) -> Tensor {
    Tensor::floats(&x.shape, x.as_floats().iter().map(|&a| function(a)).collect())
}

fn as_float(x: &Tensor) -> Tensor {
    match &x.elements {
        Elements::Float(_) => x.clone(),
        Elements::Int(ints) => Tensor::floats(&x.shape, ints.iter().map(|&n| n as f64).collect()),
    }
}

fn binary(x: &Tensor, y: &Tensor, floats: impl Fn(f64, f64) -> f64, ints: impl Fn(i64, i64) -> i64) -> Tensor {
    let shape = broadcast(&x.shape, &y.shape);
    let pairs = (0..shape.iter().product()).map(|at| (source(at, &shape, &x.shape), source(at, &shape, &y.shape)));
    match (&x.elements, &y.elements) {
        (Elements::Float(a), Elements::Float(b)) => {
            Tensor::floats(&shape, pairs.map(|(i, j)| floats(a[i], b[j])).collect())
        }
        (Elements::Int(a), Elements::Int(b)) => Tensor::ints(&shape, pairs.map(|(i, j)| ints(a[i], b[j])).collect()),
        _ => panic!("operands of different types"),
    }
}

fn broadcast(left: &[usize], right: &[usize]) -> Vec<usize> {
    regatta_autodiff::graph::broadcast_shapes(left, right).expect("operands that broadcast")
}

/// Where the element at a flat position of a broadcast shape comes from.
fn source(position: usize, shape: &[usize], from: &[usize]) -> usize {
    let (mut rest, mut stride, mut index) = (position, 1, 0);
    for axis in (0..shape.len()).rev() {
        let coordinate = rest % shape[axis];
        rest /= shape[axis];
        let missing = shape.len() - from.len();
        if axis >= missing {
            let size = from[axis - missing];
            index += if size == 1 { 0 } else { coordinate * stride };
            stride *= size;
        }
    }
    index
}

fn coordinates(position: usize, shape: &[usize]) -> Vec<usize> {
    let mut rest = position;
    let mut result = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        result[axis] = rest % shape[axis];
        rest /= shape[axis];
    }
    result
}

fn position(coordinates: &[usize], shape: &[usize]) -> usize {
    coordinates.iter().zip(shape).fold(0, |at, (coordinate, size)| at * size + coordinate)
}

fn axis_of(axis: i64, rank: usize) -> usize {
    regatta_autodiff::graph::axis_position(axis, rank).expect("an axis of the tensor")
}

fn permuted(x: &Tensor, axes: &[usize]) -> Tensor {
    let shape: Vec<usize> = axes.iter().map(|&axis| x.shape[axis]).collect();
    let number = |at: usize| {
        let to = coordinates(at, &shape);
        let mut from = vec![0; axes.len()];
        for (coordinate, &axis) in to.iter().zip(axes) {
            from[axis] = *coordinate;
        }
        x.as_floats()[position(&from, &x.shape)]
    };
    Tensor::floats(&shape, (0..x.len()).map(number).collect())
}
