//! ONNX Runtime behind plain types, with graphs that are written out here.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

#[path = "support/library.rs"]
mod library;

use library::library;
use regatta_agent::runtime::{Array, Device, Interrupt, Runtime, RuntimeError, Tensor};
use regatta_autodiff::graph::{Dtype, Graph, GraphError, Provider, Value};
use regatta_autodiff::onnx::ModelProto;
use regatta_autodiff::own::DOMAIN;

fn runtime() -> Runtime {
    Runtime::load(&library(), Device::Cpu, 1).unwrap()
}

/// What a model of f32 gives for its named inputs.
fn outputs(onnx: &[u8], inputs: &[(&str, &[usize], Vec<f32>)], outputs: &[(&str, &[usize])]) -> Vec<Array> {
    let mut compiled = runtime().compile(onnx).unwrap();
    let mut bindings = compiled.bindings().unwrap();
    for (name, shape, contents) in inputs {
        let tensor = compiled.tensor(shape, &Array::F32(contents.clone())).unwrap();
        bindings.input(name, &tensor).unwrap();
    }
    let mut tensors: Vec<Tensor> = outputs
        .iter()
        .map(|(_, shape)| compiled.tensor(shape, &Array::F32(vec![0.0; shape.iter().product()])).unwrap())
        .collect();
    for ((name, _), tensor) in outputs.iter().zip(&mut tensors) {
        bindings.output(name, tensor).unwrap();
    }
    compiled.run(&bindings, &Interrupt::new().unwrap()).unwrap();
    tensors.iter().map(|tensor| tensor.read().unwrap()).collect()
}

#[test]
fn a_simplified_graph_folds_constants_and_keeps_what_is_an_input() {
    let mut graph = Graph::new(Provider::Cpu);
    let weight = graph.input("weight", Dtype::F32, &[2]).unwrap();
    let (two, three) = (graph.scalar(Dtype::F32, 2.0), graph.scalar(Dtype::F32, 3.0));
    let five = graph.add(two, three).unwrap();
    let scaled = graph.mul(weight, five).unwrap();
    let same = graph.node("Identity", &[scaled], &[]).unwrap();
    let root = graph.sqrt(same).unwrap();
    graph.output(root);
    let name = graph.name(root).to_owned();

    let simplified = runtime().simplify(&graph.encode()).unwrap();

    let operators = operators(&simplified);
    assert_eq!(operators, ["Mul", "Sqrt"], "folded: Add; gone: Identity");
    let found = outputs(&simplified, &[("weight", &[2], vec![5.0, 20.0])], &[(&name, &[2])]);
    assert_eq!(found, [Array::F32(vec![5.0, 10.0])]);
}

#[test]
fn bytes_that_are_no_model_are_refused() {
    let refused = runtime().simplify(b"no model").unwrap_err();
    assert!(matches!(refused, RuntimeError::Graph { .. }), "{refused}");
}

/// The operators of a model, in order.
fn operators(onnx: &[u8]) -> Vec<String> {
    let model = <ModelProto as prost::Message>::decode(onnx).unwrap();
    model.graph.unwrap().node.into_iter().map(|node| node.op_type.unwrap()).collect()
}

const SCALARS: [&str; 5] = ["beta1", "beta2", "rate", "epsilon", "shrink"];

struct AdamWGraph {
    graph: Graph,
    vectors: [Value; 4],
    scalars: [Value; 5],
}

impl AdamWGraph {
    fn new(length: usize) -> Self {
        let mut graph = Graph::new(Provider::Cpu);
        let vectors = ["w", "m", "v", "g"].map(|name| graph.input(name, Dtype::F32, &[length]).unwrap());
        let scalars = SCALARS.map(|name| graph.input(name, Dtype::F32, &[]).unwrap());
        Self { graph, vectors, scalars }
    }

    /// The formulation in ONNX's operators.
    fn stock(length: usize) -> Result<(Vec<u8>, [String; 3]), GraphError> {
        let Self { mut graph, vectors: [w, m, v, g], scalars: [beta1, beta2, rate, epsilon, shrink] } =
            Self::new(length);
        let kept = graph.mul(m, beta1)?;
        let first = graph.add(kept, g)?;
        let kept = graph.mul(v, beta2)?;
        let square = graph.mul(g, g)?;
        let second = graph.add(kept, square)?;
        let root = graph.sqrt(second)?;
        let divisor = graph.add(root, epsilon)?;
        let ratio = graph.div(first, divisor)?;
        let change = graph.mul(ratio, rate)?;
        let shrunk = graph.mul(w, shrink)?;
        let weights = graph.sub(shrunk, change)?;
        Ok(Self::finish(&mut graph, [weights, first, second]))
    }

    /// The one operator, which takes gradients in the parts that they are joined of.
    fn fused(length: usize) -> Result<(Vec<u8>, [String; 3]), GraphError> {
        let Self { mut graph, vectors: [w, m, v, g], scalars } = Self::new(length);
        graph.allow_own_operators();
        let mut gradient = g;
        if length > 2 {
            let lengths = [length / 3, length / 2, length - length / 3 - length / 2];
            let lengths = graph.int_vector(lengths.map(|length| length as i64).to_vec());
            let parts = graph.nodes_of("Split", &[Some(g), Some(lengths)], 3, &[])?;
            let first = graph.concat(&parts[..2], 0)?;
            gradient = graph.concat(&[first, parts[2]], 0)?;
        }
        let operands: Vec<Value> = [w, m, v].into_iter().chain(scalars).chain([gradient]).collect();
        let outputs = graph.custom((DOMAIN, "AdamW"), &operands, &[], &vec![(Dtype::F32, vec![length]); 3])?;
        let finished = Self::finish(&mut graph, [outputs[0], outputs[1], outputs[2]]);
        assert!(graph.to_run().nodes().iter().all(|node| node.op != "Concat"));
        Ok(finished)
    }

    fn finish(graph: &mut Graph, outputs: [Value; 3]) -> (Vec<u8>, [String; 3]) {
        outputs.into_iter().for_each(|output| graph.output(output));
        let names = outputs.map(|output| graph.name(output).to_owned());
        (graph.encode(), names)
    }
}

/// Numbers of every size, some of them zero, some subnormal.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let number = |at: usize| {
        let bits = (at as u32 + 1).wrapping_mul(2_654_435_769).wrapping_mul(seed | 1) ^ seed;
        let exponent = [0, 1, 90, 110, 120, 127, 128, 130][(bits >> 28) as usize % 8];
        f32::from_bits((bits & 0x807f_ffff) | (exponent << 23))
    };
    (0..count).map(number).collect()
}

fn adamw_inputs(length: usize) -> Vec<(&'static str, Vec<usize>, Vec<f32>)> {
    let positive = |numbers: Vec<f32>| numbers.into_iter().map(f32::abs).collect();
    let mut inputs = vec![
        ("w", vec![length], numbers(length, 1)),
        ("m", vec![length], numbers(length, 2)),
        ("v", vec![length], positive(numbers(length, 3))),
        ("g", vec![length], numbers(length, 4)),
    ];
    let scalars = SCALARS.into_iter().zip([0.9, 0.999, 1.3e-3, 1e-8, 0.999_99]);
    inputs.extend(scalars.map(|(name, number)| (name, vec![], vec![number])));
    inputs
}

/// W', M' and V' after `steps` steps, with the outputs bound onto the inputs or beside them.
fn adamw(onnx: &[u8], names: &[String; 3], length: usize, in_place: bool, threads: usize) -> Vec<Vec<u32>> {
    let mut compiled = Runtime::load(&library(), Device::Cpu, threads).unwrap().compile(onnx).unwrap();
    let mut bindings = compiled.bindings().unwrap();
    let mut tensors = Vec::new();
    for (name, shape, contents) in adamw_inputs(length) {
        let tensor = compiled.tensor(&shape, &Array::F32(contents)).unwrap();
        bindings.input(name, &tensor).unwrap();
        tensors.push(tensor);
    }
    let mut beside: Vec<Tensor> =
        (0..3).map(|_| compiled.tensor(&[length], &Array::F32(vec![0.0; length])).unwrap()).collect();
    let outputs = if in_place { &mut tensors[..3] } else { &mut beside[..] };
    for (name, tensor) in names.iter().zip(outputs.iter_mut()) {
        bindings.output(name, tensor).unwrap();
    }
    compiled.run(&bindings, &Interrupt::new().unwrap()).unwrap();
    let bits = |tensor: &Tensor| match tensor.read().unwrap() {
        Array::F32(numbers) => numbers.into_iter().map(f32::to_bits).collect(),
        other => panic!("{other:?}"),
    };
    outputs.iter().map(bits).collect()
}

#[test]
fn adamw_in_one_pass_equals_its_formulation_in_stock_operators_to_the_last_bit() {
    for length in [1, 7, 2048, 2049, 50_000] {
        let (stock, names) = AdamWGraph::stock(length).unwrap();
        let expected = adamw(&stock, &names, length, false, 1);
        let (fused, names) = AdamWGraph::fused(length).unwrap();
        for (in_place, threads) in [(false, 1), (true, 1), (false, 2), (true, 2)] {
            let found = adamw(&fused, &names, length, in_place, threads);
            assert!(found == expected, "length {length}, in place: {in_place}, {threads} threads");
        }
    }
}

#[test]
fn adamw_refuses_vectors_of_different_lengths() {
    let mut graph = Graph::new(Provider::Cpu);
    let vectors = [("w", 4), ("m", 3), ("v", 4), ("g", 4)];
    let [w, m, v, g] = vectors.map(|(name, length)| graph.input(name, Dtype::F32, &[length]).unwrap());
    let scalars = SCALARS.map(|name| graph.input(name, Dtype::F32, &[]).unwrap());
    let operands: Vec<Value> = [w, m, v].into_iter().chain(scalars).chain([g]).collect();
    let next = graph.custom((DOMAIN, "AdamW"), &operands, &[], &vec![(Dtype::F32, vec![4]); 3]).unwrap();
    graph.output(next[0]);
    let mut compiled = runtime().compile(&graph.encode()).unwrap();
    let mut bindings = compiled.bindings().unwrap();
    for (name, length) in vectors {
        bindings.input(name, &compiled.tensor(&[length], &Array::F32(vec![0.0; length])).unwrap()).unwrap();
    }
    for name in SCALARS {
        bindings.input(name, &compiled.tensor(&[], &Array::F32(vec![0.0])).unwrap()).unwrap();
    }
    let mut output = compiled.tensor(&[4], &Array::F32(vec![0.0; 4])).unwrap();
    bindings.output(graph.name(next[0]), &mut output).unwrap();

    let refused = compiled.run(&bindings, &Interrupt::new().unwrap()).unwrap_err();

    assert!(matches!(refused, RuntimeError::Failed { .. }), "{refused}");
}

#[test]
fn the_cpu_can_do_what_training_needs() {
    runtime().check().unwrap();
    runtime().check_convolutions().unwrap();
}
