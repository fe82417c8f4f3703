//! The check that every row runs through.

use std::collections::BTreeMap;

use regatta_autodiff::gradient::gradients;
use regatta_autodiff::graph::{Dtype, Graph, GraphError, Provider, Value};

pub use crate::draw::Draw;
use crate::draw::Random;
use crate::evaluator::{Tensor, evaluate};

const STEP: f64 = 1e-5;
const TOLERANCE: f64 = 1e-6;

pub type Built = Result<Value, GraphError>;
type Build = fn(&mut Graph, &[Value]) -> Built;

pub fn check(name: &str, inputs: &[(&[usize], Draw)], build: Build) {
    check_with(name, inputs, &build);
}

/// The gradient of a random weighting of the output, for every element of every input, in the formulations for each
/// provider.
pub fn check_with(name: &str, inputs: &[(&[usize], Draw)], build: &dyn Fn(&mut Graph, &[Value]) -> Built) {
    for provider in [Provider::Cpu, Provider::Cuda] {
        check_on(provider, name, inputs, build);
    }
}

/// The same in the formulation that is meant for a provider.
pub fn check_on(
    provider: Provider,
    name: &str,
    inputs: &[(&[usize], Draw)],
    build: &dyn Fn(&mut Graph, &[Value]) -> Built,
) {
    let mut random = Random::new();
    let mut graph = Graph::new(provider);
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
    feeds.insert("weighting".into(), random.tensor(&shape, Draw::Signed));
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

/// The output for inputs drawn as in `check_with`, against a formula of the inputs.
pub fn check_output(
    name: &str,
    inputs: &[(&[usize], Draw)],
    build: &dyn Fn(&mut Graph, &[Value]) -> Built,
    formula: &dyn Fn(&[Tensor]) -> Tensor,
) {
    let mut random = Random::new();
    let mut graph = Graph::new(Provider::Cpu);
    let mut feeds = BTreeMap::new();
    let mut values = Vec::new();
    let mut tensors = Vec::new();
    for (position, (shape, draw)) in inputs.iter().enumerate() {
        let input = format!("x{position}");
        values.push(graph.input(&input, Dtype::F64, shape).unwrap());
        tensors.push(random.tensor(shape, *draw));
        feeds.insert(input, tensors[position].clone());
    }
    let y = build(&mut graph, &values).unwrap_or_else(|error| panic!("{name} {:?}: {error}", shapes(inputs)));
    graph.output(y);
    let found = evaluate(&graph, &feeds).remove(graph.name(y)).unwrap();
    let wanted = formula(&tensors);
    assert_eq!(found.shape, wanted.shape, "{name} {:?}", shapes(inputs));
    for (found, wanted) in found.as_floats().iter().zip(wanted.as_floats()) {
        let error = (found - wanted).abs() / wanted.abs().max(1.0);
        assert!(error < 1e-9, "{name} {:?}: {found}, not {wanted}", shapes(inputs));
    }
}

/// The gradients of the sum of the output at points where differences say nothing: kinks, ties, zeros.
pub fn check_at(build: &dyn Fn(&mut Graph, &[Value]) -> Built, points: &[&[f64]], expected: &[&[f64]]) {
    let mut graph = Graph::new(Provider::Cpu);
    let mut feeds = BTreeMap::new();
    let mut values = Vec::new();
    for (position, point) in points.iter().enumerate() {
        let input = format!("x{position}");
        values.push(graph.input(&input, Dtype::F64, &[point.len()]).unwrap());
        feeds.insert(input, Tensor::floats(&[point.len()], point.to_vec()));
    }
    let y = build(&mut graph, &values).unwrap();
    let one = graph.scalar(Dtype::F64, 1.0);
    let found = gradients(&mut graph, &[(y, one)], &values).unwrap();
    found.iter().for_each(|gradient| graph.output(*gradient));
    let outputs = evaluate(&graph, &feeds);
    for (gradient, numbers) in found.iter().zip(expected) {
        let close = |(found, wanted): (&f64, &f64)| (found - wanted).abs() < 1e-12;
        let found = outputs[graph.name(*gradient)].as_floats();
        assert!(found.len() == numbers.len() && found.iter().zip(*numbers).all(close), "{found:?}, not {numbers:?}");
    }
}

fn shapes<'a>(inputs: &[(&'a [usize], Draw)]) -> Vec<&'a [usize]> {
    inputs.iter().map(|(shape, _)| *shape).collect()
}

fn weighted(y: &Tensor, weighting: &Tensor) -> f64 {
    y.as_floats().iter().zip(weighting.as_floats()).map(|(a, b)| a * b).sum()
}
