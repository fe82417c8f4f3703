//! The check that every row runs through.

use std::collections::BTreeMap;

use regatta_agent::runtime::{Array, Device, Interrupt, Runtime, Tensor as OnDevice};
use regatta_autodiff::gradient::gradients;
use regatta_autodiff::graph::{Dtype, Graph, GraphError, Provider, Value};

pub use crate::draw::Draw;
use crate::draw::Random;
use crate::evaluator::{Tensor, evaluate};
use crate::library::{device, library};

/// Of what single precision gives, to the norm of each tensor.
const TOLERANCE: f64 = 2e-5;

/// Set where the device is one that computes nothing.
pub const COMPUTES_NOTHING: &str = "REGATTA_TEST_COMPUTES_NOTHING";

pub type Built = Result<Value, GraphError>;
type Build = fn(&mut Graph, &[Value]) -> Built;

pub fn check(name: &str, inputs: &[(&[usize], Draw)], build: Build) {
    check_with(name, inputs, &build);
}

pub fn check_with(name: &str, inputs: &[(&[usize], Draw)], build: &dyn Fn(&mut Graph, &[Value]) -> Built) {
    check_on(provider(), name, inputs, build);
}

/// The output, and the gradient of a random weighting of it at every input; nothing where the device is another.
pub fn check_on(
    provider: Provider,
    name: &str,
    inputs: &[(&[usize], Draw)],
    build: &dyn Fn(&mut Graph, &[Value]) -> Built,
) {
    if provider != self::provider() {
        return;
    }
    let what = format!("{name} {:?}", inputs.iter().map(|(shape, _)| shape).collect::<Vec<_>>());
    let stock = Row::of(inputs, false, build, true);
    let exact = evaluate(&stock.graph, &stock.feeds);
    let exact: Vec<_> = stock.graph.outputs().iter().map(|of| exact[stock.graph.name(*of)].as_floats()).collect();
    // Without kernels of ours, some operators have none on CUDA.
    let stock = Some(stock).filter(|_| provider == Provider::Cpu);
    for row in stock.iter().chain([&Row::of(inputs, true, build, true)]) {
        for (found, exact) in row.run(&what).into_iter().zip(&exact) {
            assert_close(&what, found, exact);
        }
    }
}

/// The output against a formula of the inputs.
pub fn check_output(
    name: &str,
    inputs: &[(&[usize], Draw)],
    build: &dyn Fn(&mut Graph, &[Value]) -> Built,
    formula: &dyn Fn(&[Tensor]) -> Tensor,
) {
    let row = Row::of(inputs, false, build, false);
    let tensors: Vec<Tensor> = (0..inputs.len()).map(|at| row.feeds[&format!("x{at}")].clone()).collect();
    for found in row.run(name) {
        assert_close(name, found, formula(&tensors).as_floats());
    }
}

/// The gradients of the sum of the output at points where differences say nothing: kinks, ties, zeros.
pub fn check_at(build: &dyn Fn(&mut Graph, &[Value]) -> Built, points: &[&[f64]], expected: &[&[f64]]) {
    let mut row = Row::new();
    let values = row.inputs(points.iter().map(|point| Tensor::floats(&[point.len()], point.to_vec())));
    let y = build(&mut row.graph, &values).unwrap();
    let one = row.graph.scalar(Dtype::F32, 1.0);
    row.flow(y, one, &values);
    for (found, expected) in row.run("at points").into_iter().zip(expected) {
        assert_close("at points", found, expected);
    }
}

fn provider() -> Provider {
    match device() {
        Device::Cpu => Provider::Cpu,
        Device::Cuda(_) => Provider::Cuda,
    }
}

fn assert_close(what: &str, found: Vec<f32>, exact: &[f64]) {
    assert_eq!(found.len(), exact.len(), "{what}");
    if std::env::var_os(COMPUTES_NOTHING).is_some() {
        return;
    }
    let norm: f64 = exact.iter().map(|number| number * number).sum();
    let off: f64 = found.iter().zip(exact).map(|(found, exact)| (f64::from(*found) - exact).powi(2)).sum();
    assert!(off.sqrt() <= TOLERANCE * norm.sqrt().max(1.0), "{what}: {found:?}, not {exact:?}");
}

struct Row {
    graph: Graph,
    feeds: BTreeMap<String, Tensor>,
}

impl Row {
    fn new() -> Self {
        Self { graph: Graph::new(provider()), feeds: BTreeMap::new() }
    }

    fn of(
        inputs: &[(&[usize], Draw)],
        with_own: bool,
        build: &dyn Fn(&mut Graph, &[Value]) -> Built,
        with_gradients: bool,
    ) -> Self {
        let (mut random, mut row) = (Random::new(), Self::new());
        if with_own {
            row.graph.allow_own_operators();
        }
        let values = row.inputs(inputs.iter().map(|(shape, draw)| rounded(random.tensor(shape, *draw))));
        let y = build(&mut row.graph, &values).unwrap();
        row.graph.output(y);
        if with_gradients {
            let shape = row.graph.shape(y).to_vec();
            let weighting = row.input("weighting", rounded(random.tensor(&shape, Draw::Signed)));
            row.flow(y, weighting, &values);
        }
        row
    }

    fn input(&mut self, name: &str, fed: Tensor) -> Value {
        let input = self.graph.input(name, Dtype::F32, &fed.shape).unwrap();
        self.feeds.insert(name.to_owned(), fed);
        input
    }

    /// `x0`, `x1` and so on.
    fn inputs(&mut self, fed: impl Iterator<Item = Tensor>) -> Vec<Value> {
        fed.enumerate().map(|(at, fed)| self.input(&format!("x{at}"), fed)).collect()
    }

    /// Has the graph give what flows to values where this flows to `y`.
    fn flow(&mut self, y: Value, dy: Value, values: &[Value]) {
        for gradient in gradients(&mut self.graph, &[(y, dy)], values).unwrap() {
            self.graph.output(gradient);
        }
    }

    fn single(&self, input: Value) -> Vec<f32> {
        self.feeds[self.graph.name(input)].as_floats().iter().map(|number| *number as f32).collect()
    }

    /// What ONNX Runtime gives for each output.
    fn run(&self, what: &str) -> Vec<Vec<f32>> {
        let graph = &self.graph;
        let runtime = Runtime::load(&library(), device(), 1).unwrap();
        let mut compiled = runtime.compile(&graph.encode()).unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut bindings = compiled.bindings().unwrap();
        for &input in graph.inputs() {
            let tensor = compiled.tensor(graph.shape(input), &Array::F32(self.single(input))).unwrap();
            bindings.input(graph.name(input), &tensor).unwrap();
        }
        let mut tensors: Vec<OnDevice> = Vec::new();
        for &output in graph.outputs() {
            let shape = graph.shape(output);
            let zeros = Array::F32(vec![0.0; shape.iter().product()]);
            let mut tensor = compiled.tensor(shape, &zeros).unwrap();
            bindings.output(graph.name(output), &mut tensor).unwrap();
            tensors.push(tensor);
        }
        compiled.run(&bindings, &Interrupt::new().unwrap()).unwrap_or_else(|error| panic!("{what}: {error}"));
        let numbers = |(output, tensor): (&Value, &OnDevice)| match (graph.inputs().contains(output), tensor.read()) {
            // What is an output as it came in is not copied.
            (true, _) => self.single(*output),
            (false, Ok(Array::F32(numbers))) => numbers,
            (false, other) => panic!("{what}: {other:?}"),
        };
        graph.outputs().iter().zip(&tensors).map(numbers).collect()
    }
}

/// What single precision can hold.
fn rounded(tensor: Tensor) -> Tensor {
    let numbers = tensor.as_floats().iter().map(|number| f64::from(*number as f32)).collect();
    Tensor::floats(&tensor.shape, numbers)
}
