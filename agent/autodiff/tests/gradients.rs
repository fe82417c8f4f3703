//! Every gradient rule against central differences in double precision: one row for each operator and shape.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

#[path = "support/evaluator.rs"]
mod evaluator;

use std::collections::BTreeMap;

use evaluator::{Tensor, evaluate};
use regatta_autodiff::gradient::{GradientError, gradients};
use regatta_autodiff::graph::{Attribute, Dtype, Elements, Graph, GraphError, Provider, Value};

const STEP: f64 = 1e-5;
const TOLERANCE: f64 = 1e-6;

type Built = Result<Value, GraphError>;
type Build = fn(&mut Graph, &[Value]) -> Built;

/// Inputs are drawn from `0.3 .. 1.7`, away from kinks and poles; `Signed` ones get both signs.
#[derive(Clone, Copy)]
enum Draw {
    Positive,
    Signed,
}
use Draw::{Positive, Signed};

#[test]
fn elementwise_rules() {
    check("Exp", &[(&[2, 3], Signed)], |g, x| g.exp(x[0]));
    check("Log", &[(&[2, 3], Positive)], |g, x| g.log(x[0]));
    check("Sqrt", &[(&[2, 3], Positive)], |g, x| g.sqrt(x[0]));
    check("Erf", &[(&[2, 3], Signed)], |g, x| g.erf(x[0]));
    check("Relu", &[(&[4, 3], Signed)], |g, x| g.relu(x[0]));
    check("Tanh", &[(&[4, 3], Signed)], |g, x| g.tanh(x[0]));
    check("Sigmoid", &[(&[4, 3], Signed)], |g, x| g.sigmoid(x[0]));
    check("Gelu", &[(&[4, 3], Signed)], |g, x| g.gelu(x[0]));
    check("Neg", &[(&[], Signed)], |g, x| g.neg(x[0]));
    check("Identity", &[(&[3], Signed)], |g, x| g.node("Identity", x, &[]));
    check("Cast there and back", &[(&[3], Signed)], |g, x| {
        let narrow = g.cast(x[0], Dtype::F32)?;
        g.cast(narrow, Dtype::F64)
    });
}

#[test]
fn arithmetic_rules_with_broadcasting() {
    let shapes: [(&[usize], &[usize]); 8] = [
        (&[2, 3], &[2, 3]),
        (&[2, 3], &[3]),
        (&[3], &[2, 3]),
        (&[2, 3], &[]),
        (&[], &[2, 3]),
        (&[2, 1], &[1, 3]),
        (&[4, 1, 3], &[2, 1]),
        (&[1, 1], &[2, 1, 3]),
    ];
    for (left, right) in shapes {
        check("Add", &[(left, Signed), (right, Signed)], |g, x| g.add(x[0], x[1]));
        check("Sub", &[(left, Signed), (right, Signed)], |g, x| g.sub(x[0], x[1]));
        check("Mul", &[(left, Signed), (right, Signed)], |g, x| g.mul(x[0], x[1]));
        check("Div", &[(left, Signed), (right, Signed)], |g, x| g.div(x[0], x[1]));
        check("Pow", &[(left, Positive), (right, Signed)], |g, x| g.pow(x[0], x[1]));
    }
    check("Pow to a constant", &[(&[2, 3], Signed)], |g, x| {
        let three = g.scalar_like(x[0], 3.0);
        g.pow(x[0], three)
    });
    check("Pow to an integer", &[(&[2, 3], Signed)], |g, x| {
        let two = g.int_scalar(2);
        g.pow(x[0], two)
    });
    check("a value used three times", &[(&[2, 3], Signed)], |g, x| {
        let square = g.mul(x[0], x[0])?;
        g.add(square, x[0])
    });
}

#[test]
fn matrix_product_rules() {
    for (left_t, right_t) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let left: &[usize] = if left_t == 0 { &[2, 4] } else { &[4, 2] };
        let right: &[usize] = if right_t == 0 { &[4, 3] } else { &[3, 4] };
        for addend in [&[2, 3][..], &[3], &[1, 3], &[2, 1], &[]] {
            let build = move |g: &mut Graph, x: &[Value]| {
                let attributes = [
                    ("transA", Attribute::Int(left_t)),
                    ("transB", Attribute::Int(right_t)),
                    ("alpha", Attribute::Float(0.5)),
                    ("beta", Attribute::Float(2.0)),
                ];
                g.node("Gemm", x, &attributes)
            };
            check_with("Gemm", &[(left, Signed), (right, Signed), (addend, Signed)], &build);
        }
    }
    check("Gemm without addend", &[(&[2, 4], Signed), (&[4, 3], Signed)], |g, x| g.node("Gemm", x, &[]));
    let products: [(&[usize], &[usize]); 9] = [
        (&[2, 4], &[4, 3]),
        (&[4], &[4]),
        (&[4], &[4, 3]),
        (&[2, 4], &[4]),
        (&[5, 2, 4], &[4, 3]),
        (&[2, 4], &[5, 4, 3]),
        (&[5, 1, 2, 4], &[6, 4, 3]),
        (&[5, 2, 4], &[4]),
        (&[4], &[5, 4, 3]),
    ];
    for (left, right) in products {
        check("MatMul", &[(left, Signed), (right, Signed)], |g, x| g.matmul(x[0], x[1]));
    }
}

#[test]
fn reduction_rules() {
    for op in ["ReduceSum", "ReduceMean"] {
        for axes in [vec![], vec![0], vec![-1], vec![0, 2], vec![1], vec![0, 1, 2]] {
            for keep in [0, 1] {
                let build = |g: &mut Graph, x: &[Value]| {
                    let axes = g.int_vector(axes.clone());
                    g.node(op, &[x[0], axes], &[("keepdims", Attribute::Int(keep))])
                };
                check_with(op, &[(&[2, 3, 4], Signed)], &build);
            }
        }
        let build = |g: &mut Graph, x: &[Value]| {
            let none = g.int_vector(vec![]);
            g.node(op, &[x[0], none], &[("noop_with_empty_axes", Attribute::Int(1))])
        };
        check_with("a reduction over no axis", &[(&[2, 3], Signed)], &build);
    }
    for op in ["Softmax", "LogSoftmax"] {
        for axis in [-1, 0, 1] {
            let build = |g: &mut Graph, x: &[Value]| g.node(op, x, &[("axis", Attribute::Int(axis))]);
            check_with(op, &[(&[2, 3, 4], Signed)], &build);
        }
    }
}

#[test]
fn rules_that_move_elements() {
    check("Reshape", &[(&[2, 6], Signed)], |g, x| g.reshape(x[0], &[3, 4]));
    check("Reshape by 0 and -1", &[(&[2, 3, 4], Signed)], |g, x| {
        let shape = g.int_vector(vec![0, -1]);
        g.node("Reshape", &[x[0], shape], &[])
    });
    check("Expand", &[(&[3, 1], Signed)], |g, x| g.expand(x[0], &[2, 3, 4]));
    check("Expand a scalar", &[(&[], Signed)], |g, x| g.expand(x[0], &[2, 3]));
    check("Transpose", &[(&[2, 3, 4], Signed)], |g, x| g.transpose(x[0], &[2, 0, 1]));
    check("Transpose reversed", &[(&[2, 3, 4], Signed)], |g, x| g.node("Transpose", x, &[]));
    check("Gather with a row twice", &[(&[4, 3], Signed)], |g, x| {
        let rows = g.int_vector(vec![1, 3, 1]);
        g.gather(x[0], rows)
    });
    check("Gather of a vector by a matrix", &[(&[4], Signed)], |g, x| {
        let flat = g.int_vector(vec![0, 1, -1, 3, 0, 2]);
        let rows = g.reshape(flat, &[2, 3])?;
        let squares = g.mul(x[0], x[0])?;
        g.gather(squares, rows)
    });
}

#[test]
fn flow_stops_at_operators_without_a_gradient() {
    check("a mask", &[(&[2, 3], Signed)], |g, x| {
        let zero = g.scalar_like(x[0], 0.1);
        let above = g.greater(x[0], zero)?;
        let mask = g.cast(above, Dtype::F64)?;
        g.mul(x[0], mask)
    });
}

#[test]
fn missing_rule_names_operator_node_and_opset() {
    let mut graph = Graph::new(Provider::Cpu);
    let x = graph.input("x", Dtype::F32, &[2]).unwrap();
    let y = graph.min(x, x).unwrap();
    let one = graph.constant(regatta_autodiff::graph::Constant {
        dtype: Dtype::F32,
        shape: vec![2],
        elements: Elements::Float(vec![1.0, 1.0]),
    });
    let node = graph.nodes()[0].name.clone();

    let error = gradients(&mut graph, &[(y, one)], &[x]).unwrap_err();

    assert_eq!(error, GradientError::MissingRule { op: "Min".into(), node, opset: 20 });
}

#[test]
fn value_without_influence_is_an_error() {
    let mut graph = Graph::new(Provider::Cpu);
    let x = graph.input("x", Dtype::F32, &[]).unwrap();
    let unused = graph.input("unused", Dtype::F32, &[]).unwrap();
    let y = graph.exp(x).unwrap();

    let error = gradients(&mut graph, &[(y, y)], &[x, unused]).unwrap_err();

    assert_eq!(error, GradientError::Unreached { name: "unused".into() });
}

fn check(name: &str, inputs: &[(&[usize], Draw)], build: Build) {
    check_with(name, inputs, &build);
}

/// The gradient of a random weighting of the output, for every element of every input.
fn check_with(name: &str, inputs: &[(&[usize], Draw)], build: &dyn Fn(&mut Graph, &[Value]) -> Built) {
    let mut random = Random(1);
    let mut graph = Graph::new(Provider::Cpu);
    let mut feeds = BTreeMap::new();
    let mut values = Vec::new();
    for (position, (shape, draw)) in inputs.iter().enumerate() {
        let input = format!("x{position}");
        values.push(graph.input(&input, Dtype::F64, shape).unwrap());
        feeds.insert(input, random.tensor(shape, *draw));
    }
    let y = build(&mut graph, &values).unwrap_or_else(|error| panic!("{name} {:?}: {error}", shapes(inputs)));
    let shape = graph.shape(y).to_vec();
    let weighting = graph.input("weighting", Dtype::F64, &shape).unwrap();
    feeds.insert("weighting".into(), random.tensor(&shape, Signed));
    let found = gradients(&mut graph, &[(y, weighting)], &values).unwrap();
    graph.output(y);
    found.iter().for_each(|gradient| graph.output(*gradient));
    let outputs = evaluate(&graph, &feeds);

    for (position, gradient) in found.iter().enumerate() {
        let input = format!("x{position}");
        let analytic = &outputs[graph.name(*gradient)];
        assert_eq!(analytic.shape, inputs[position].0, "{name}: shape of the gradient of {input}");
        for element in 0..analytic.as_floats().len() {
            let at = |shift: f64| {
                let mut moved = feeds.clone();
                let mut floats = feeds[&input].as_floats().to_vec();
                floats[element] += shift;
                moved.insert(input.clone(), Tensor::floats(inputs[position].0, floats));
                weighted(&evaluate(&graph, &moved)[graph.name(y)], &feeds["weighting"])
            };
            let numeric = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            let exact = analytic.as_floats()[element];
            let error = (exact - numeric).abs() / numeric.abs().max(0.1);
            assert!(error < TOLERANCE, "{name} {:?}, {input}[{element}]: {exact} against {numeric}", shapes(inputs));
        }
    }
}

fn shapes<'a>(inputs: &[(&'a [usize], Draw)]) -> Vec<&'a [usize]> {
    inputs.iter().map(|(shape, _)| *shape).collect()
}

fn weighted(y: &Tensor, weighting: &Tensor) -> f64 {
    y.as_floats().iter().zip(weighting.as_floats()).map(|(a, b)| a * b).sum()
}

/// A linear congruential generator (Knuth's constants): the same numbers every time.
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    fn tensor(&mut self, shape: &[usize], draw: Draw) -> Tensor {
        let count = shape.iter().product();
        let number = |random: &mut Self| {
            let magnitude = 0.3 + 1.4 * random.unit();
            let negative = matches!(draw, Signed) && random.unit() < 0.5;
            if negative { -magnitude } else { magnitude }
        };
        Tensor::floats(shape, (0..count).map(|_| number(self)).collect())
    }
}
