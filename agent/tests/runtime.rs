//! ONNX Runtime behind plain types, with graphs that are written out here.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::path::PathBuf;

use regatta_agent::runtime::{Array, Device, Interrupt, Runtime, RuntimeError, Tensor};
use regatta_autodiff::graph::{Dtype, Graph};
use regatta_autodiff::onnx::ModelProto;

fn library() -> PathBuf {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH") {
        return path.into();
    }
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.regatta/lib/libonnxruntime.so"));
    assert!(path.exists(), "no ONNX Runtime: run scripts/setup, or set ORT_DYLIB_PATH to libonnxruntime.so");
    path
}

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
    let mut graph = Graph::new();
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
