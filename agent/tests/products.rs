//! Our own operator for products of matrices, run in ONNX Runtime, against ONNX's.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

#[path = "support/library.rs"]
mod library;

use library::library;
use regatta_agent::runtime::{Array, Device, Interrupt, Runtime};
use regatta_autodiff::graph::{Dtype, Graph, Provider, Transposed, Value};
use regatta_autodiff::own::DOMAIN;

/// Adds a product of inputs of these shapes.
struct Row {
    shapes: &'static [&'static [usize]],
    add: fn(&mut Graph, &[Value]) -> Value,
    is_own: bool,
}

const ROWS: &[Row] = &[
    Row {
        shapes: &[&[200, 300], &[300, 400], &[400]],
        add: |graph, v| graph.linear(v[0], v[1], v[2]).unwrap(),
        is_own: true,
    },
    Row { shapes: &[&[200, 300], &[400, 300]], add: |graph, v| gemm(graph, v, false, true), is_own: true },
    Row { shapes: &[&[700, 200], &[700, 192]], add: |graph, v| gemm(graph, v, true, false), is_own: true },
    Row { shapes: &[&[300, 250], &[200, 300]], add: |graph, v| gemm(graph, v, true, true), is_own: true },
    Row { shapes: &[&[2, 3, 70, 250], &[250, 200]], add: |graph, v| graph.matmul(v[0], v[1]).unwrap(), is_own: true },
    Row { shapes: &[&[191, 300], &[300, 400]], add: |graph, v| graph.matmul(v[0], v[1]).unwrap(), is_own: false },
    Row { shapes: &[&[2, 200, 250], &[2, 250, 200]], add: |graph, v| graph.matmul(v[0], v[1]).unwrap(), is_own: false },
    Row {
        shapes: &[&[200, 300], &[300, 400], &[200, 1]],
        add: |graph, v| graph.linear(v[0], v[1], v[2]).unwrap(),
        is_own: false,
    },
];

fn gemm(graph: &mut Graph, values: &[Value], left: bool, right: bool) -> Value {
    graph.gemm(values[0], values[1], Transposed { left, right }).unwrap()
}

#[test]
fn large_products_are_operators_of_our_own_and_give_what_onnx_runtimes_do() {
    for (position, row) in ROWS.iter().enumerate() {
        let contents: Vec<Vec<f32>> =
            row.shapes.iter().enumerate().map(|(seed, shape)| numbers(shape.iter().product(), seed)).collect();
        let stock = result(row, &contents, false, 1);
        let [one, two, three] = [1, 2, 3].map(|threads| result(row, &contents, true, threads));
        assert!(one == two && two == three, "row {position}: the number of threads shows");
        let norm = stock.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt();
        let off = one.iter().zip(&stock).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
        assert!(off < 1e-6 * norm, "row {position}: off by {:.1e}", off / norm);
    }
}

fn result(row: &Row, contents: &[Vec<f32>], has_own: bool, threads: usize) -> Vec<f32> {
    let mut graph = Graph::new(Provider::Cpu);
    if has_own {
        graph.allow_own_operators();
        graph.allow_own_products();
    }
    let names = ["a", "b", "c"];
    let values: Vec<Value> =
        row.shapes.iter().zip(names).map(|(shape, name)| graph.input(name, Dtype::F32, shape).unwrap()).collect();
    let output = (row.add)(&mut graph, &values);
    graph.output(output);
    let is_own = graph.to_run().live_nodes().iter().any(|node| node.domain == DOMAIN);
    assert_eq!(is_own, has_own && row.is_own);

    let mut compiled = Runtime::load(&library(), Device::Cpu, threads).unwrap().compile(&graph.encode()).unwrap();
    let mut bindings = compiled.bindings().unwrap();
    for ((shape, contents), name) in row.shapes.iter().zip(contents).zip(names) {
        bindings.input(name, &compiled.tensor(shape, &Array::F32(contents.clone())).unwrap()).unwrap();
    }
    let shape = graph.shape(output).to_vec();
    let mut to = compiled.tensor(&shape, &Array::F32(vec![f32::NAN; shape.iter().product()])).unwrap();
    bindings.output(graph.name(output), &mut to).unwrap();
    compiled.run(&bindings, &Interrupt::new().unwrap()).unwrap();
    match to.read().unwrap() {
        Array::F32(numbers) => numbers,
        other => panic!("{other:?}"),
    }
}

fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|at| ((at * 7 + seed * 13) % 31) as f32 / 15.0 - 1.0).collect()
}
