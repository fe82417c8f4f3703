//! Kernels that runs of operators become for CUDA, compiled for the host: the numbers of the operators.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

#[path = "support/host_kernels.rs"]
mod host_kernels;
#[path = "support/library.rs"]
mod library;
#[path = "support/models.rs"]
mod models;
#[path = "support/transcripts.rs"]
mod transcripts;

use std::sync::Arc;

use host_kernels::host_kernels;
use library::library;
use models::{data, models};
use regatta_agent::runtime::{Array, Device, Interrupt, Runtime, Tensor};
use regatta_agent::training::{
    Activation, Adam, Augmentation, Dataset, Engine, Loss, ModelPlan, Norm, OptimizerPlan, Plan, Precision,
};
use regatta_autodiff::fuse::FUSED;
use regatta_autodiff::gradient::gradients;
use regatta_autodiff::graph::{Attribute, Constant, Dtype, Elements, Graph, GraphError, Provider, Value};

type Built = Result<Value, GraphError>;

#[test]
fn operators_of_one_operand_give_the_same_numbers() {
    let float = Attribute::Float;
    let rows: Vec<(&str, Vec<(&str, Attribute)>)> = vec![
        ("Neg", vec![]),
        ("Abs", vec![]),
        ("Sign", vec![]),
        ("Ceil", vec![]),
        ("Floor", vec![]),
        ("Round", vec![]),
        ("Reciprocal", vec![]),
        ("Exp", vec![]),
        ("Erf", vec![]),
        ("Sin", vec![]),
        ("Cos", vec![]),
        ("Tan", vec![]),
        ("Atan", vec![]),
        ("Sinh", vec![]),
        ("Cosh", vec![]),
        ("Asinh", vec![]),
        ("Relu", vec![]),
        ("Tanh", vec![]),
        ("Sigmoid", vec![]),
        ("Gelu", vec![]),
        ("Gelu", vec![("approximate", Attribute::Text("tanh".into()))]),
        ("Softplus", vec![]),
        ("Softsign", vec![]),
        ("Elu", vec![("alpha", float(0.7))]),
        ("Selu", vec![]),
        ("LeakyRelu", vec![("alpha", float(0.2))]),
        ("ThresholdedRelu", vec![("alpha", float(0.3))]),
        ("HardSigmoid", vec![("alpha", float(0.4))]),
    ];
    for (op, attributes) in rows {
        check(op, &[&[5, 70]], |graph, x| {
            let y = graph.node(op, &[x[0]], &attributes)?;
            graph.scale(y, 0.5)
        });
    }
    // Of which ONNX Runtime has no kernel on CUDA.
    for op in ["Tan", "Atan", "Sinh", "Cosh", "Asinh", "Asin", "Acos", "Atanh"] {
        check(op, &[&[70]], |graph, x| graph.node(op, &[x[0]], &[]));
    }
    // Of numbers from a half to one and a half.
    for op in ["Sqrt", "Log", "Asin", "Acos", "Atanh", "Acosh"] {
        check(op, &[&[70]], |graph, x| {
            let shifted = graph.shift(x[0], 1.0)?;
            let within = if matches!(op, "Asin" | "Acos" | "Atanh") { graph.scale(shifted, 0.6)? } else { shifted };
            let within = if op == "Acosh" { graph.shift(within, 0.6)? } else { within };
            graph.node(op, &[within], &[])
        });
    }
}

#[test]
fn operators_of_several_operands_give_the_same_numbers_however_they_broadcast() {
    let shapes: [[&[usize]; 2]; 6] = [
        [&[4, 5, 6], &[4, 5, 6]],
        [&[4, 5, 6], &[5, 1]],
        [&[4, 1, 6], &[5, 1]],
        [&[4, 5, 6], &[1]],
        [&[4, 5, 6], &[]],
        [&[3, 7, 1, 5], &[1, 2, 1]],
    ];
    for shapes in shapes {
        for op in ["Add", "Sub", "Mul", "Div", "Min", "Max", "Sum"] {
            check(op, &shapes, |graph, x| {
                let y = graph.node(op, x, &[])?;
                graph.shift(y, 1.0)
            });
        }
        for op in ["Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"] {
            check(op, &shapes, |graph, x| {
                let y = graph.node(op, x, &[])?;
                graph.cast(y, Dtype::F32)
            });
        }
        check("PRelu", &[&[4, 5, 6], &[5, 1]], |graph, x| {
            let y = graph.node("PRelu", x, &[])?;
            graph.shift(y, 1.0)
        });
        for exponent in [1.0, 2.0, 3.0, 0.5, -1.0, 1.7] {
            check("Pow", &shapes, |graph, x| {
                let sum = graph.node("Add", x, &[])?;
                let base = graph.shift(sum, 1.5)?;
                let exponent = graph.scalar(Dtype::F32, exponent);
                graph.pow(base, exponent)
            });
        }
        check("Where", &shapes, |graph, x| {
            let (truth, other) = (graph.less(x[0], x[1])?, graph.greater(x[1], x[0])?);
            let not = graph.node("Not", &[other], &[])?;
            let both = graph.node("And", &[truth, not], &[])?;
            let either = graph.node("Or", &[both, other], &[])?;
            let one = graph.node("Xor", &[either, truth], &[])?;
            graph.choose(one, x[0], x[1])
        });
        for bounds in [(Some(-0.2), Some(0.3)), (None, Some(0.1)), (Some(0.1), None), (Some(0.3), Some(-0.2))] {
            check("Clip", &shapes, |graph, x| {
                let sum = graph.node("Add", x, &[])?;
                let bound = |graph: &mut Graph, bound: Option<f64>| bound.map(|bound| graph.scalar(Dtype::F32, bound));
                let operands = [Some(sum), bound(graph, bounds.0), bound(graph, bounds.1)];
                Ok(graph.nodes_of("Clip", &operands, 1, &[])?[0])
            });
        }
    }
}

#[test]
fn integers_and_other_types_give_the_same_numbers() {
    check("integers", &[&[300]], |graph, x| {
        let wide = graph.scale(x[0], 1000.0)?;
        let whole = graph.cast(wide, Dtype::I64)?;
        let (seven, minus) = (graph.int_scalar(7), graph.int_scalar(-5));
        let rest = graph.modulo(whole, seven)?;
        let other = graph.modulo(whole, minus)?;
        let product = graph.mul(rest, other)?;
        let size = graph.abs(product)?;
        let sum = graph.add(size, whole)?;
        graph.cast(sum, Dtype::F32)
    });
    check("the ends of types", &[&[300]], |graph, x| {
        let scaled = graph.scale(x[0], 1e5)?;
        let half = graph.cast(scaled, Dtype::F16)?;
        let bounds = [graph.scalar(Dtype::F16, -1e9), graph.scalar(Dtype::F16, 1e9)].map(Some);
        let whole = graph.nodes_of("Clip", &[Some(half), bounds[0], bounds[1]], 1, &[])?[0];
        let wide = graph.cast(scaled, Dtype::I64)?;
        let least = graph.int_scalar(i64::MIN);
        let raised = graph.max(wide, least)?;
        let (single, other) = (graph.cast(whole, Dtype::F32)?, graph.cast(raised, Dtype::F32)?);
        let many = graph.node("Max", &[single, other, x[0], single, other, x[0], single, other, x[0]], &[])?;
        let few = graph.node("Min", &[many, x[0], other], &[])?;
        graph.add(few, single)
    });
    for dtype in [Dtype::F64, Dtype::F16, Dtype::I32, Dtype::U8, Dtype::Bool] {
        check(&format!("{dtype:?}"), &[&[300]], |graph, x| {
            let shifted = graph.scale(x[0], 100.0)?;
            let positive = graph.shift(shifted, 51.0)?;
            let cast = graph.cast(positive, dtype)?;
            graph.cast(cast, Dtype::F32)
        });
    }
}

#[test]
fn what_moves_elements_gives_the_same_numbers() {
    let half = |graph: &mut Graph, y: Value| {
        let y = graph.scale(y, 0.5)?;
        graph.shift(y, 1.0)
    };
    let first = |graph: &mut Graph, x: Value| graph.matmul(x, x);
    check("Transpose", &[&[3, 4, 5, 5]], |graph, x| {
        let x = first(graph, x[0])?;
        let y = graph.transpose(x, &[1, 0, 2, 3])?;
        half(graph, y)
    });
    check("Slice", &[&[3, 6, 9, 9]], |graph, x| {
        let x = first(graph, x[0])?;
        let y = graph.strided(x, 1, &[(1, 2, 2), (0, 1, 9), (2, 3, 2)])?;
        half(graph, y)
    });
    check("Slice backwards", &[&[3, 4, 4]], |graph, x| {
        let x = first(graph, x[0])?;
        let y = graph.reversed(x, &[0, 2])?;
        half(graph, y)
    });
    check("Expand", &[&[1, 4, 4]], |graph, x| {
        let x = first(graph, x[0])?;
        let y = graph.expand(x, &[3, 4, 4])?;
        half(graph, y)
    });
    for axis in 0..3 {
        check("Concat", &[&[2, 3, 3], &[2, 3, 3], &[2, 3, 3]], |graph, x| {
            let parts: Vec<Value> = x.iter().map(|part| first(graph, *part)).collect::<Result<_, _>>()?;
            let slice: Vec<(usize, usize)> =
                (0..3).map(|at| if at == axis { (0, 2) } else { (0, [2, 3, 3][at]) }).collect();
            let short = graph.window(parts[1], &slice)?;
            let mut zeros = [2, 3, 3];
            zeros[axis] = 4;
            let zeros = graph.zeros_like(x[0], &zeros)?;
            let y = graph.concat(&[parts[0], short, zeros, parts[2]], axis)?;
            half(graph, y)
        });
    }
    for (axis, rows) in [7.0, 4.0, 3.0].into_iter().enumerate() {
        check("Gather", &[&[7, 4, 3], &[2, 5]], |graph, x| {
            let scaled = graph.scale(x[1], 2.0 * rows)?;
            let rows = graph.cast(scaled, Dtype::I64)?;
            let y = graph.node("Gather", &[x[0], rows], &[("axis", Attribute::Int(axis as i64))])?;
            half(graph, y)
        });
    }
    check("Split", &[&[30]], |graph, x| {
        let y = half(graph, x[0])?;
        let lengths = graph.int_vector(vec![3, 12, 1, 9, 5]);
        let parts = graph.nodes_of("Split", &[Some(y), Some(lengths)], 5, &[])?;
        let twelve = graph.reshape(parts[1], &[3, 4])?;
        let product = graph.matmul(parts[0], twelve)?;
        let nine = graph.reshape(parts[3], &[3, 3])?;
        let rest = graph.matmul(parts[0], nine)?;
        graph.concat(&[product, rest, parts[2], parts[4]], 0)
    });
    check("a Split and what reads its parts", &[&[1]], |graph, x| {
        let y = half(graph, x[0])?;
        let length = graph.int_vector(vec![1]);
        let part = graph.nodes_of("Split", &[Some(y), Some(length)], 1, &[])?[0];
        graph.mul(y, part)
    });
    check("constants side by side", &[&[8]], |graph, x| {
        let (zeros, ones) = (graph.scalar(Dtype::F32, 0.0), graph.scalar(Dtype::F32, 1.0));
        let (zeros, ones) = (graph.expand(zeros, &[3])?, graph.expand(ones, &[5])?);
        let joined = graph.concat(&[zeros, ones], 0)?;
        let row = graph.reshape(joined, &[1, 8])?;
        let column = graph.reshape(x[0], &[8, 1])?;
        graph.matmul(row, column)
    });
    check("Split of a matrix", &[&[6, 9]], |graph, x| {
        let y = half(graph, x[0])?;
        let lengths = graph.int_vector(vec![2, 3, 4]);
        let parts = graph.nodes_of("Split", &[Some(y), Some(lengths)], 3, &[("axis", Attribute::Int(1))])?;
        let sum = graph.sum_kept(parts[1], &[1])?;
        let scaled = graph.mul(parts[2], sum)?;
        graph.concat(&[scaled, parts[0]], 1)
    });
    check("views", &[&[4, 6]], |graph, x| {
        let y = half(graph, x[0])?;
        let wide = graph.reshape(y, &[2, 12])?;
        let bias = graph.constant(Constant {
            dtype: Dtype::F32,
            shape: vec![12],
            elements: Elements::Float((0..12).map(f64::from).collect()),
        });
        let shifted = graph.add(wide, bias)?;
        let back = graph.reshape(shifted, &[6, 4])?;
        let product = graph.matmul(y, back)?;
        graph.neg(product)
    });
}

#[test]
fn sums_of_what_is_computed_with_them_give_the_same_numbers() {
    let rows: [(&[usize], &[usize]); 9] = [
        (&[300, 70], &[0]),
        (&[300, 70], &[1]),
        (&[3, 4, 7], &[2]),
        (&[4, 2000, 3], &[1]),
        (&[40, 9, 300], &[0, 1, 2]),
        (&[5, 1, 600], &[1, 2]),
        (&[1, 70], &[0]),
        (&[20, 3, 4, 5], &[0, 2, 3]),
        (&[9000, 2], &[0]),
    ];
    for (shape, axes) in rows {
        check(&format!("sum over {axes:?}"), &[shape, &shape[1..]], |graph, x| {
            let product = graph.mul(x[0], x[1])?;
            let sum = graph.reduce_sum(product, axes)?;
            let mean = graph.scale(sum, 0.01)?;
            graph.shift(mean, 1.0)
        });
        check(&format!("sum over {axes:?} of what is read elsewhere"), &[shape], |graph, x| {
            let product = graph.mul(x[0], x[0])?;
            let sum = graph.sum_kept(product, axes)?;
            let share = graph.scale(sum, 0.01)?;
            graph.sub(product, share)
        });
    }
}

#[test]
fn gradients_of_poolings_and_convolutions_give_the_same_numbers() {
    let ints = |numbers: &[i64]| Attribute::Ints(numbers.to_vec());
    for (kernel, strides, pads, dilations) in [
        ([2, 2], [2, 2], [0; 4], [1, 1]),
        ([3, 3], [2, 2], [1; 4], [1, 1]),
        ([2, 3], [1, 2], [0, 1, 1, 0], [1, 1]),
        ([2, 2], [1, 1], [0; 4], [2, 2]),
    ] {
        check("MaxPool", &[&[2, 3, 8, 10]], |graph, x| {
            let attributes = [
                ("kernel_shape", ints(&kernel)),
                ("strides", ints(&strides)),
                ("pads", ints(&pads)),
                ("dilations", ints(&dilations)),
            ];
            let y = graph.node("MaxPool", &[x[0]], &attributes)?;
            let seed = graph.mul(y, y)?;
            let found = gradients(graph, &[(y, seed)], &[x[0]]).unwrap();
            graph.scale(found[0], 2.0)
        });
        check("Conv", &[&[2, 3, 9, 11], &[4, 3, 3, 2], &[4]], |graph, x| {
            let attributes = [("strides", ints(&strides)), ("pads", ints(&[1; 4])), ("dilations", ints(&dilations))];
            let y = graph.node("Conv", x, &attributes)?;
            let seed = graph.mul(y, y)?;
            let found = gradients(graph, &[(y, seed)], x).unwrap();
            let flat = |graph: &mut Graph, value: Value| {
                let count = graph.shape(value).iter().product();
                graph.reshape(value, &[count])
            };
            let all = found.into_iter().map(|value| flat(graph, value)).collect::<Result<Vec<_>, _>>()?;
            let all = graph.concat(&all, 0)?;
            graph.scale(all, 0.1)
        });
    }
}

/// Of a table so large that one matrix for all of its rows would be too large.
#[test]
fn rows_of_a_large_table_are_added_up_without_scattering() {
    const ROWS: usize = (1 << 14) + 3;
    const PLACES: usize = 1 << 10;
    let [cpu, cuda] = [Provider::Cpu, Provider::Cuda].map(|provider| {
        let mut graph = Graph::new(provider);
        let table = graph.input("x0", Dtype::F32, &[ROWS, 2]).unwrap();
        // Every row of some is taken twice, and the last ones from the end.
        let places = (0..PLACES as i64).map(|place| if place % 4 == 3 { -1 - place / 8 } else { place / 2 * 31 });
        let places = graph.int_vector(places.collect());
        let taken = graph.gather(table, places).unwrap();
        let found = gradients(&mut graph, &[(taken, taken)], &[table]).unwrap();
        graph.output(found[0]);
        let scatters = graph.nodes().iter().any(|node| node.op == "ScatterND");
        assert_eq!(scatters, provider == Provider::Cpu);
        run(&graph)
    });
    assert!(cuda[2 * (ROWS - 1)] != 0.0);
    for (at, (cpu, cuda)) in cpu.iter().zip(&cuda).enumerate() {
        assert!((cpu - cuda).abs() < 1e-6, "element {at}: {cuda} for {cpu}");
    }
}

#[test]
fn gradients_in_16_bits_are_those_of_single_precision() {
    let pairs = [("kernel_shape", Attribute::Ints(vec![3, 3])), ("strides", Attribute::Ints(vec![2, 2]))];
    for (op, shape, attributes) in
        [("MaxPool", [2, 3, 6, 8], pairs.to_vec()), ("Softmax", [1, 2, 3, 20], vec![("axis", Attribute::Int(-1))])]
    {
        let [single, half] = [Dtype::F32, Dtype::F16].map(|dtype| {
            let mut graph = Graph::new(Provider::Cuda);
            graph.allow_own_operators();
            let input = graph.input("x0", Dtype::F32, &shape).unwrap();
            let x = graph.cast(input, dtype).unwrap();
            let y = graph.node(op, &[x], &attributes).unwrap();
            let wide = graph.cast(y, Dtype::F32).unwrap();
            let square = graph.mul(wide, wide).unwrap();
            let seed = graph.cast(square, dtype).unwrap();
            let found = gradients(&mut graph, &[(y, seed)], &[x]).unwrap();
            let found = graph.cast(found[0], Dtype::F32).unwrap();
            graph.output(found);
            run(&graph)
        });
        assert!(single.iter().any(|found| found.abs() > 1e-4), "{op}");
        for (at, (single, half)) in single.iter().zip(&half).enumerate() {
            assert!((single - half).abs() < 1e-3, "{op}: {half} for {single}, element {at}");
        }
    }
}

/// A state in place: what is read of it by other threads than the one that writes it is to be read before.
#[test]
fn no_kernel_writes_a_state_of_which_it_reads_other_elements() {
    const SIZE: usize = 24;
    type Next = fn(&mut Graph, Value, Value) -> Built;
    let multiplied: Next = |graph, state, matrix| {
        let column = graph.reshape(state, &[SIZE, 1])?;
        let product = graph.mul(matrix, column)?;
        graph.reduce_sum(product, &[0])
    };
    let moved: Next = |graph, state, _| {
        let twice = graph.scale(state, 2.0)?;
        let apart = graph.reshape(twice, &[2, 3, 4])?;
        let turned = graph.transpose(apart, &[1, 0, 2])?;
        graph.reshape(turned, &[SIZE])
    };
    for next in [multiplied, moved] {
        let mut graph = Graph::new(Provider::Cuda);
        graph.allow_own_operators();
        let state = graph.input("state", Dtype::F32, &[SIZE]).unwrap();
        let matrix = graph.input("matrix", Dtype::F32, &[SIZE, SIZE]).unwrap();
        let change = next(&mut graph, state, matrix).unwrap();
        let becomes = graph.add(state, change).unwrap();
        graph.output(becomes);

        let runtime = Runtime::load(&library(), Device::Cpu, 1).unwrap().with_host_kernels(host_kernels());
        let mut compiled = runtime.compile(&graph.encode()).unwrap();
        let tensor = |count: usize, shape: &[usize]| {
            compiled.tensor(shape, &Array::F32((0..count).map(|at| spread(at * 31)).collect())).unwrap()
        };
        let (mut in_place, mut apart) = (tensor(SIZE, &[SIZE]), tensor(SIZE, &[SIZE]));
        let (before, numbers) = (tensor(SIZE, &[SIZE]), tensor(SIZE * SIZE, &[SIZE, SIZE]));
        for is_in_place in [true, false] {
            let mut bindings = compiled.bindings().unwrap();
            bindings.input("state", if is_in_place { &in_place } else { &before }).unwrap();
            bindings.input("matrix", &numbers).unwrap();
            bindings.output(graph.name(becomes), if is_in_place { &mut in_place } else { &mut apart }).unwrap();
            compiled.run(&bindings, &Interrupt::new().unwrap()).unwrap();
        }
        assert_eq!(in_place.read().unwrap(), apart.read().unwrap());
    }
}

/// The output of a graph as stock operators and with kernels.
fn check(what: &str, shapes: &[&[usize]], build: impl Fn(&mut Graph, &[Value]) -> Built) {
    let [stock, fused] = [false, true].map(|is_fused| {
        let mut graph = Graph::new(Provider::Cuda);
        if is_fused {
            graph.allow_own_operators();
        }
        let names = (0..shapes.len()).map(|at| format!("x{at}"));
        let inputs: Vec<Value> =
            names.zip(shapes).map(|(name, shape)| graph.input(&name, Dtype::F32, shape).unwrap()).collect();
        let output = build(&mut graph, &inputs).unwrap();
        graph.output(output);
        assert_eq!(graph.to_run().nodes().iter().any(|node| node.op == FUSED), is_fused, "{what}");
        run(&graph)
    });
    assert!(!stock.is_empty() && stock.len() == fused.len(), "{what} {shapes:?}");
    for (at, (stock, fused)) in stock.iter().zip(&fused).enumerate() {
        let is_close = (stock - fused).abs() <= 4e-6 * stock.abs().max(1.0) || stock.to_bits() == fused.to_bits();
        assert!(is_close, "{what} {shapes:?}: {fused} for {stock}, element {at}");
    }
}

fn run(graph: &Graph) -> Vec<f32> {
    let runtime = Runtime::load(&library(), Device::Cpu, 1).unwrap().with_host_kernels(host_kernels());
    let mut compiled = runtime.compile(&graph.encode()).unwrap();
    let mut bindings = compiled.bindings().unwrap();
    for (at, &input) in graph.inputs().iter().enumerate() {
        let shape = graph.shape(input);
        let numbers = (0..shape.iter().product()).map(|n: usize| spread(n * 31 + at * 1009)).collect();
        bindings.input(graph.name(input), &compiled.tensor(shape, &Array::F32(numbers)).unwrap()).unwrap();
    }
    let output = graph.outputs()[0];
    let shape = graph.shape(output);
    let zeros = Array::F32(vec![0.0; shape.iter().product()]);
    let mut tensor: Tensor = compiled.tensor(shape, &zeros).unwrap();
    bindings.output(graph.name(output), &mut tensor).unwrap();
    compiled.run(&bindings, &Interrupt::new().unwrap()).unwrap();
    let Array::F32(numbers) = tensor.read().unwrap() else { panic!("the output is of type f32") };
    numbers
}

/// In `-0.5 .. 0.5`.
fn spread(at: usize) -> f32 {
    (at * 7919 % 10_007) as f32 / 10_007.0 - 0.5
}

const ADAM: Adam = Adam { learning_rate: 0.003, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
const STEPS: usize = 12;

#[test]
fn models_train_alike_with_and_without_kernels_of_their_own() {
    for (model, shape) in models() {
        let plan = Plan::new(model, Loss::cross_entropy(), OptimizerPlan::AdamW(ADAM), 10, 3);
        compare(&Plan { clip_norm: Some(1.0), ..plan }, &data(&shape), 2e-4);
    }
    compare(&transcripts::plan(), &transcripts::rows(), 2e-4);
    let (model, shape) = models().remove(0);
    let augment = vec![
        Augmentation::Shift { pixels: 1 },
        Augmentation::Flip,
        Augmentation::Noise { deviation: 0.1 },
        Augmentation::Mixup { alpha: 0.2 },
    ];
    let plan = Plan::new(model, Loss::cross_entropy(), OptimizerPlan::AdamW(ADAM), 10, 3);
    compare(&Plan { augment, ..plan }, &data(&shape), 2e-4);
}

#[test]
fn a_model_trains_alike_in_16_bits_with_and_without_kernels_of_their_own() {
    let model = ModelPlan::Mlp { hidden: vec![12, 9], norm: Norm::None, activation: Activation::Relu, dropout: 0.2 };
    let plan = Plan::new(model, Loss::cross_entropy(), OptimizerPlan::AdamW(ADAM), 10, 3);
    // Biases are added after a product is rounded.
    compare(&Plan { precision: Precision::Half, ..plan }, &data(&[7]), 5e-3);
}

#[test]
fn a_vector_whose_parts_are_cast_is_cast_by_one_kernel() {
    const SIZE: usize = 6;
    for dtype in [Dtype::F16, Dtype::Bf16] {
        let mut graph = Graph::new(Provider::Cuda);
        graph.allow_own_operators();
        let vector = graph.input("x0", Dtype::F32, &[3 * SIZE]).unwrap();
        let lengths = graph.int_vector(vec![SIZE as i64; 3]);
        let parts = graph.nodes_of("Split", &[Some(vector), Some(lengths)], 3, &[]).unwrap();
        // Two in few bits, of which one is seen as a matrix, and two in all of them.
        let matrix = graph.reshape(parts[0], &[2, 3]).unwrap();
        let low = [matrix, parts[1]].map(|part| graph.cast(part, dtype).unwrap());
        let sums = [graph.reduce_sum(low[0], &[0, 1]), graph.reduce_sum(low[1], &[0])].map(Result::unwrap);
        let wide = sums.map(|sum| graph.cast(sum, Dtype::F32).unwrap());
        let both = graph.add(wide[0], wide[1]).unwrap();
        let others = graph.add(parts[1], parts[2]).unwrap();
        let output = graph.mul(others, both).unwrap();
        graph.output(output);
        let kernels = graph.to_run();
        assert!(kernels.nodes().iter().all(|node| node.op != "Cast"), "{:?}", kernels.nodes());

        let sum = |from: usize| (from..from + SIZE).map(|at| spread(at * 31)).sum::<f32>();
        let factor = sum(0) + sum(SIZE);
        for (at, found) in run(&graph).into_iter().enumerate() {
            let expected = (spread((SIZE + at) * 31) + spread((2 * SIZE + at) * 31)) * factor;
            assert!((found - expected).abs() < 0.02, "{dtype:?}, element {at}: {found} for {expected}");
        }
    }
}

#[test]
fn every_optimizer_trains_alike_with_and_without_kernels_of_its_own() {
    let (learning_rate, weight_decay, alpha, epsilon) = (0.01, 0.1, 0.99, 1e-8);
    let optimizers = [
        OptimizerPlan::Sgd { learning_rate, momentum: 0.0, nesterov: false, weight_decay },
        OptimizerPlan::Sgd { learning_rate, momentum: 0.9, nesterov: true, weight_decay },
        OptimizerPlan::Adam(ADAM),
        OptimizerPlan::Rmsprop { learning_rate, alpha, epsilon, momentum: 0.5, weight_decay },
        OptimizerPlan::Adagrad { learning_rate, epsilon, weight_decay },
        OptimizerPlan::Lamb(ADAM),
        OptimizerPlan::Lion { learning_rate, beta1: 0.9, beta2: 0.99, weight_decay },
    ];
    let model = || ModelPlan::Mlp { hidden: vec![12, 9], norm: Norm::None, activation: Activation::Tanh, dropout: 0.2 };
    for optimizer in optimizers {
        let plan = Plan::new(model(), Loss::cross_entropy(), optimizer, 10, 3);
        compare(&Plan { average: Some(0.9), clip_value: Some(0.5), ..plan.clone() }, &data(&[7]), 1e-4);
        compare(&Plan { accumulate: 2, undecayed: vec!["*.bias".into()], ..plan }, &data(&[7]), 1e-4);
    }
}

/// The losses of training on the CPU as ever, and as on CUDA with the host's kernels: by themselves and handed over ahead.
fn compare(plan: &Plan, data: &Arc<Dataset>, tolerance: f32) {
    let train = |mut engine: Engine| {
        let mut training = engine.start(plan, data, None).unwrap();
        let mut losses: Vec<f32> = (0..STEPS).map(|_| training.train_step().unwrap().loss).collect();
        losses.push(training.evaluate().unwrap()["validation_loss"] as f32);
        losses
    };
    let engine = || Engine::new(&library(), Device::Cpu, 1).unwrap();
    let stock = train(engine());
    let fused = train(engine().with_host_kernels(host_kernels()));
    let ahead = train(engine().with_host_kernels(host_kernels()).with_ahead(8));
    for (step, losses) in stock.iter().zip(fused.iter().zip(&ahead)).enumerate() {
        let (stock, (fused, ahead)) = losses;
        let is_close = |found: &f32| (stock - found).abs() <= tolerance * stock.abs().max(1.0);
        assert!(is_close(fused) && is_close(ahead), "{plan:?}: {fused}, {ahead} for {stock}, step {step}");
    }
}
