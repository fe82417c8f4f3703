//! Lanes start at the same moment: the first graphs of a process are compiled side by side.
//!
//! The only test of its program, so that nothing was compiled before.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

#[path = "support/library.rs"]
mod library;

use std::sync::Barrier;
use std::thread;

use library::library;
use regatta_agent::runtime::{Device, Runtime};
use regatta_autodiff::graph::{Dtype, Graph, Provider};

#[test]
fn first_graphs_compile_side_by_side() {
    let mut graph = Graph::new(Provider::Cpu);
    let input = graph.input("input", Dtype::F32, &[2]).unwrap();
    let root = graph.sqrt(input).unwrap();
    graph.output(root);
    let onnx = graph.encode();
    let runtime = Runtime::load(&library(), Device::Cpu, 1).unwrap();
    let start = Barrier::new(16);
    thread::scope(|scope| {
        let lane = || {
            start.wait();
            runtime.compile(&onnx).map(|_| ())
        };
        let lanes: Vec<_> = (0..16).map(|_| scope.spawn(lane)).collect();
        for lane in lanes {
            lane.join().unwrap().unwrap();
        }
    });
}
