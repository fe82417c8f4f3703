//! Our own operators against their formulations in ONNX's, both run in ONNX Runtime.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

#[path = "support/library.rs"]
mod library;

use library::library;
use regatta_agent::runtime::{Array, Device, Interrupt, Runtime, Tensor};
use regatta_autodiff::gradient::gradients;
use regatta_autodiff::graph::{Attribute, Dtype, Graph, GraphError, Provider, Value};
use regatta_autodiff::lower::batch_norm;
use regatta_autodiff::onnx::ModelProto;
use regatta_autodiff::own;

type Built = Result<Vec<Value>, GraphError>;
type Build = fn(&mut Graph, &[Value]) -> Built;

#[test]
fn convolution_agrees_with_its_formulation() {
    for (strides, pads, image) in [([1, 1], [1; 4], [9, 8]), ([2, 2], [1; 4], [9, 8]), ([1, 2], [0, 1, 1, 0], [4, 5])] {
        let build = move |graph: &mut Graph, x: &[Value]| {
            let ints = |numbers: &[i64]| Attribute::Ints(numbers.to_vec());
            let attributes = [("strides", ints(&strides)), ("pads", ints(&pads))];
            Ok(vec![graph.node("Conv", x, &attributes)?])
        };
        let shapes: [&[usize]; 3] = [&[3, 8, image[0], image[1]], &[9, 8, 3, 3], &[9]];
        compare(&shapes, &build, "Conv");
    }
}

#[test]
fn batch_normalisation_agrees_with_its_formulation() {
    let build: Build = |graph, x| {
        let normalized = batch_norm(graph, x[0], (x[1], x[2]), 1e-5)?;
        Ok(vec![normalized.y, normalized.mean, normalized.variance])
    };
    for shape in [&[5, 3, 6, 7][..], &[40, 5], &[3, 4, 70], &[2, 1, 80, 90]] {
        compare(&[shape, &[shape[1]], &[shape[1]]], &build, "BatchNorm");
    }
}

#[test]
fn a_rectifiers_gradient_agrees_with_its_formulation() {
    let build: Build = |graph, x| Ok(vec![graph.relu(x[0])?]);
    compare(&[&[7, 5000]], &build, "ReluGradient");
}

#[test]
fn a_maximums_gradient_agrees_with_its_formulation() {
    /// Kernel, strides, pads, dilations, and whether windows are counted up.
    type Row = ([i64; 2], [i64; 2], [i64; 4], [i64; 2], i64);
    let rows: [Row; 5] = [
        ([2, 2], [2, 2], [0; 4], [1, 1], 0),
        ([3, 3], [2, 2], [1; 4], [1, 1], 0),
        ([2, 3], [1, 2], [0, 1, 1, 0], [1, 1], 0),
        ([2, 2], [1, 1], [0; 4], [2, 2], 0),
        ([3, 2], [2, 2], [0; 4], [1, 1], 1),
    ];
    for (kernel, strides, pads, dilations, ceil_mode) in rows {
        let build = move |graph: &mut Graph, x: &[Value]| {
            let ints = |numbers: &[i64]| Attribute::Ints(numbers.to_vec());
            let attributes = [
                ("kernel_shape", ints(&kernel)),
                ("strides", ints(&strides)),
                ("pads", ints(&pads)),
                ("dilations", ints(&dilations)),
                ("ceil_mode", Attribute::Int(ceil_mode)),
            ];
            Ok(vec![graph.node("MaxPool", x, &attributes)?])
        };
        for image in [[8, 10], [9, 7]] {
            compare(&[&[3, 4, image[0], image[1]]], &build, "MaxPoolGradient");
        }
    }
}

#[test]
fn a_maximum_over_quarters_agrees_with_its_formulation() {
    let pooled = |graph: &mut Graph, x: Value| {
        let pair = || Attribute::Ints(vec![2, 2]);
        graph.node("MaxPool", &[x], &[("kernel_shape", pair()), ("strides", pair())])
    };
    let of_rectified = move |graph: &mut Graph, x: &[Value]| {
        let rectified = graph.relu(x[0])?;
        Ok(vec![pooled(graph, rectified)?])
    };
    // What else looks at the rectified numbers has a gradient of its own.
    let with_others = move |graph: &mut Graph, x: &[Value]| {
        let rectified = graph.relu(x[0])?;
        let (maxima, means) = (pooled(graph, rectified)?, graph.reduce_sum(rectified, &[3])?);
        let means = graph.reshape(means, &[3, 4, 1, 2 * graph.shape(maxima)[2]])?;
        let sums = graph.reduce_sum(means, &[3])?;
        let sums = graph.reshape(sums, &[3, 4, 1, 1])?;
        Ok(vec![graph.mul(maxima, sums)?])
    };
    for image in [[8, 10], [6, 2], [34, 66]] {
        let shape = [3, 4, image[0], image[1]];
        for op in ["MaxPool", "MaxPoolGradient"] {
            compare(&[&shape], &of_rectified, op);
            compare(&[&shape], &with_others, op);
        }
        compare(&[&shape], &with_others, "ReluGradient");
    }

    let mut graph = Graph::new(Provider::Cpu);
    graph.allow_own_operators();
    let x = graph.input("x", Dtype::F32, &[3, 4, 8, 10]).unwrap();
    let y = of_rectified(&mut graph, &[x]).unwrap()[0];
    let found = gradients(&mut graph, &[(y, y)], &[x]).unwrap();
    graph.output(found[0]);
    let operators: Vec<String> = graph.to_run().nodes().iter().map(|node| node.op.clone()).collect();
    assert_eq!(operators, ["Relu", "MaxPool", "MaxPoolGradient"]);
}

#[test]
fn the_gradient_of_gelu_agrees_with_its_formulation() {
    for approximation in ["none", "tanh"] {
        let build = move |graph: &mut Graph, x: &[Value]| {
            // Further out than the inputs are.
            let wide = graph.scale(x[0], 12.0)?;
            Ok(vec![graph.node("Gelu", &[wide], &[("approximate", Attribute::Text(approximation.into()))])?])
        };
        compare(&[&[7, 5000]], &build, "GeluGradient");
    }
}

#[test]
fn a_softmaxs_gradient_agrees_with_its_formulation() {
    let build: Build = |graph, x| Ok(vec![graph.node("Softmax", x, &[("axis", Attribute::Int(-1))])?]);
    for shape in [&[3, 4, 70, 33][..], &[2, 40_000], &[9, 1]] {
        compare(&[shape], &build, "SoftmaxGradient");
    }
}

#[test]
fn the_gradient_of_layer_normalisation_agrees_with_its_formulation() {
    let build: Build = |graph, x| {
        let axis = i64::try_from(graph.shape(x[0]).len() - graph.shape(x[1]).len()).unwrap();
        Ok(vec![graph.node("LayerNormalization", x, &[("axis", Attribute::Int(axis))])?])
    };
    for (shape, columns) in [(&[100, 37][..], &[37][..]), (&[3, 5, 6, 20], &[6, 20]), (&[2, 300, 64], &[64])] {
        compare(&[shape, columns, columns], &build, "LayerNormGradient");
    }
}

#[test]
fn a_residual_block_agrees_with_its_formulation() {
    let build: Build = |graph, x| {
        let pads = [("pads", Attribute::Ints(vec![1; 4]))];
        let convolved = graph.node("Conv", &[x[0], x[1]], &pads)?;
        let normalized = batch_norm(graph, convolved, (x[2], x[3]), 1e-5)?.y;
        let active = graph.relu(normalized)?;
        Ok(vec![graph.add(active, x[0])?])
    };
    compare(&[&[4, 8, 6, 6], &[8, 8, 3, 3], &[8], &[8]], &build, "BatchNormGradient");
}

/// The outputs, and the gradients of the first one at every input, with our operators and without.
fn compare(shapes: &[&[usize]], build: &dyn Fn(&mut Graph, &[Value]) -> Built, op: &str) {
    let results: Vec<Vec<Vec<f32>>> = [false, true]
        .into_iter()
        .map(|with_own| {
            let mut graph = Graph::new(Provider::Cpu);
            if with_own {
                graph.allow_own_operators();
            }
            let inputs: Vec<Value> = shapes
                .iter()
                .enumerate()
                .map(|(at, shape)| graph.input(&format!("x{at}"), Dtype::F32, shape).unwrap())
                .collect();
            let outputs = build(&mut graph, &inputs).unwrap();
            let seed_shape = graph.shape(outputs[0]).to_vec();
            let seed = graph.input("seed", Dtype::F32, &seed_shape).unwrap();
            let found = gradients(&mut graph, &[(outputs[0], seed)], &inputs).unwrap();
            outputs.into_iter().chain(found).for_each(|value| graph.output(value));
            let model = <ModelProto as prost::Message>::decode(graph.encode().as_slice()).unwrap();
            let nodes = model.graph.unwrap().node;
            let is_there = nodes.iter().any(|node| node.domain() == own::DOMAIN && node.op_type() == op);
            assert_eq!(is_there, with_own, "{op} in the graph");
            run(&graph)
        })
        .collect();
    for (position, (stock, own)) in results[0].iter().zip(&results[1]).enumerate() {
        let norm: f64 = stock.iter().map(|number| f64::from(*number).powi(2)).sum();
        let difference: f64 = stock.iter().zip(own).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let error = (difference / norm.max(1e-12)).sqrt();
        assert!(error < 1e-5, "{op} {shapes:?}, output {position}: off by {error:.1e}");
    }
}

fn run(graph: &Graph) -> Vec<Vec<f32>> {
    let mut compiled = Runtime::load(&library(), Device::Cpu, 2).unwrap().compile(&graph.encode()).unwrap();
    let mut bindings = compiled.bindings().unwrap();
    for (at, &input) in graph.inputs().iter().enumerate() {
        let shape = graph.shape(input);
        let numbers = (0..shape.iter().product()).map(|n: usize| spread(n * 31 + at * 1009)).collect();
        bindings.input(graph.name(input), &compiled.tensor(shape, &Array::F32(numbers)).unwrap()).unwrap();
    }
    let mut tensors = Vec::new();
    for &output in graph.outputs() {
        let shape = graph.shape(output);
        let zeros = Array::F32(vec![0.0; shape.iter().product()]);
        let mut tensor: Tensor = compiled.tensor(shape, &zeros).unwrap();
        bindings.output(graph.name(output), &mut tensor).unwrap();
        tensors.push(tensor);
    }
    compiled.run(&bindings, &Interrupt::new().unwrap()).unwrap();
    let numbers = |tensor: &Tensor| match tensor.read().unwrap() {
        Array::F32(numbers) => numbers,
        other => panic!("{other:?}"),
    };
    tensors.iter().map(numbers).collect()
}

/// In `-0.5 .. 0.5`.
fn spread(at: usize) -> f32 {
    (at * 7919 % 10_007) as f32 / 10_007.0 - 0.5
}
