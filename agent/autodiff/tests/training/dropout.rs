//! Dropout in double precision: which share of the elements it keeps, and by what it raises them.

use std::collections::BTreeMap;

use regatta_autodiff::graph::{Dtype, Graph, Provider};
use regatta_autodiff::step::Noise;
use regatta_autodiff::step::dropout::{Dropout, OWN_RATES};

use crate::augment::spread;
use crate::evaluator::{Tensor, evaluate};

const SHAPE: [usize; 3] = [64, 15, 20];

/// Ones after a dropout of the trial's rate and, where it is given, the site's own.
fn dropped(rate: f64, own: Option<f64>) -> Vec<f64> {
    let mut graph = Graph::new(Provider::Cpu);
    let step = graph.input("step", Dtype::I64, &[]).unwrap();
    let x = graph.input("x", Dtype::F32, &SHAPE).unwrap();
    let y = Dropout::training(Noise::new(step)).apply(&mut graph, x, own).unwrap();
    graph.output(y);

    let ones = Tensor::floats(&SHAPE, vec![1.0; SHAPE.iter().product()]);
    let mut feeds = BTreeMap::from([("x".to_owned(), ones), ("step".to_owned(), Tensor::ints(&[], vec![3]))]);
    for &input in graph.inputs() {
        match graph.name(input) {
            name @ "regatta.dropout_seed" => feeds.insert(name.into(), Tensor::ints(&[], vec![5])),
            name @ "regatta.dropout_rate" => feeds.insert(name.into(), Tensor::floats(&[], vec![rate])),
            name if name.starts_with("regatta.noise_") => feeds.insert(name.into(), spread(graph.shape(input))),
            _ => None,
        };
    }
    evaluate(&graph, &feeds)[graph.name(y)].as_floats().to_vec()
}

#[test]
fn dropout_keeps_its_share_and_the_mean() {
    let rows =
        [(0.1, None, 0.1), (0.5, None, 0.5), (0.8, None, 0.8), (OWN_RATES, Some(0.3), 0.3), (0.6, Some(0.3), 0.6)];
    for (rate, own, expected) in rows {
        let found = dropped(rate, own);
        let raised = 1.0 / (1.0 - expected);
        let kept = found.iter().filter(|number| **number != 0.0).count() as f64 / found.len() as f64;
        assert!((kept - (1.0 - expected)).abs() < 0.015, "{rate} {own:?}: {kept} kept");
        let is_whole = |number: &f64| *number == 0.0 || (number - raised).abs() < 1e-6;
        assert!(found.iter().all(is_whole), "{rate} {own:?}: elements are 0 or {raised}");
    }
    assert!(dropped(0.0, None).iter().all(|number| *number == 1.0));
    assert!(dropped(0.0, Some(0.3)).iter().all(|number| *number == 1.0), "a trial's rate goes before a site's own");
}
