//! Updates of whole steps against PyTorch's formulas, and what the states of a step hold.

use std::collections::BTreeMap;

use prost::Message;
use regatta_autodiff::families::{Activation, Mlp, Model, Norm};
use regatta_autodiff::graph::{Dtype, Graph, GraphError, Provider};
use regatta_autodiff::onnx::ModelProto;
use regatta_autodiff::step::{
    ClassAxis, Clip, CrossEntropy, Loss, Optimizer, ResultRole, StepError, StepPlan, Update, accumulation, evaluation,
    training_step,
};

use crate::evaluator::{Tensor, evaluate};
use crate::steps::{self, EVERY, Numbers, advance, check_gradients, constant, feeds, gradients, is_weights, result};

const ROWS: usize = 7;
const BATCH: usize = 4;
const INPUTS: usize = 3;

const CLASSES: Loss =
    Loss::CrossEntropy(CrossEntropy { axis: ClassAxis::Last, smoothed: false, weighted: false, ignored: None });
const VALUES: Loss = Loss::MeanSquaredError;

#[test]
fn gradients_of_whole_models_agree_with_differences() {
    for activation in [Activation::Relu, Activation::Tanh, Activation::Sigmoid, Activation::Gelu] {
        for loss in [CLASSES, VALUES] {
            for dropout in [false, true] {
                let plan = plan(activation, loss.clone(), dropout);
                let program = training_step(&plan).unwrap();
                check_gradients(&plan, &feeds(&program, &plan.loss, &Numbers::default()), EVERY);
            }
        }
    }
}

#[test]
fn sgd_update_is_pytorchs() {
    check_update(Optimizer::Sgd, |w, g, _, _, n| w - n.learning_rate * (g + n.weight_decay * w));
}

#[test]
fn momentum_update_is_pytorchs() {
    check_update(Optimizer::Momentum { nesterov: false }, |w, g, slots, step, n| {
        let g = g + n.weight_decay * w;
        slots[0] = if step == 1 { g } else { n.momentum * slots[0] + g };
        w - n.learning_rate * slots[0]
    });
}

#[test]
fn nesterov_update_is_pytorchs() {
    check_update(Optimizer::Momentum { nesterov: true }, |w, g, slots, step, n| {
        let g = g + n.weight_decay * w;
        slots[0] = if step == 1 { g } else { n.momentum * slots[0] + g };
        w - n.learning_rate * (g + n.momentum * slots[0])
    });
}

#[test]
fn adam_update_is_pytorchs() {
    check_update(Optimizer::Adam, |w, g, slots, step, n| adam(w, g + n.weight_decay * w, slots, step, n));
}

#[test]
fn adamw_update_is_pytorchs() {
    check_update(Optimizer::AdamW, |w, g, slots, step, n| {
        adam(w * (1.0 - n.learning_rate * n.weight_decay), g, slots, step, n)
    });
}

fn adam(w: f64, g: f64, slots: &mut [f64; 2], step: i32, n: &Numbers) -> f64 {
    slots[0] += (1.0 - n.beta1) * (g - slots[0]);
    slots[1] = n.beta2 * slots[1] + (1.0 - n.beta2) * g * g;
    let step_size = n.learning_rate / (1.0 - n.beta1.powi(step));
    let root = slots[1].sqrt() / (1.0 - n.beta2.powi(step)).sqrt();
    w - step_size * slots[0] / (root + n.epsilon)
}

#[test]
fn rmsprop_updates_are_pytorchs() {
    check_update(Optimizer::Rmsprop { momentum: false }, |w, g, slots, _, n| {
        w - n.learning_rate * root_mean_square_scaled(w, g, slots, n)
    });
    check_update(Optimizer::Rmsprop { momentum: true }, |w, g, slots, _, n| {
        slots[1] = n.momentum * slots[1] + root_mean_square_scaled(w, g, slots, n);
        w - n.learning_rate * slots[1]
    });
}

fn root_mean_square_scaled(w: f64, g: f64, slots: &mut [f64; 2], n: &Numbers) -> f64 {
    let g = g + n.weight_decay * w;
    slots[0] = n.alpha * slots[0] + (1.0 - n.alpha) * g * g;
    g / (slots[0].sqrt() + n.epsilon)
}

#[test]
fn adagrad_update_is_pytorchs() {
    check_update(Optimizer::Adagrad, |w, g, slots, _, n| {
        let g = g + n.weight_decay * w;
        slots[0] += g * g;
        w - n.learning_rate * g / (slots[0].sqrt() + n.epsilon)
    });
}

#[test]
fn lion_update_is_its_papers() {
    check_update(Optimizer::Lion, |w, g, slots, _, n| {
        let blended = n.beta1 * slots[0] + (1.0 - n.beta1) * g;
        slots[0] = n.beta2 * slots[0] + (1.0 - n.beta2) * g;
        w - n.learning_rate * (blended.signum() + n.weight_decay * w)
    });
}

#[test]
fn lamb_scales_each_tensor_by_its_norm() {
    let update = Update { optimizer: Optimizer::Lamb, weight_decay: true, own_operators: false };
    let plan = StepPlan { update, ..plan(Activation::Tanh, CLASSES, false) };
    let program = training_step(&plan).unwrap();
    let numbers = Numbers::default();
    let mut feeds = feeds(&program, &plan.loss, &numbers);
    let gradients = gradients(&plan, &feeds);
    let before = feeds.clone();
    advance(&program, &mut feeds);
    let mut seen = 0;
    for state in program.states.iter().filter(|state| is_weights(&state.input.name)) {
        let name = &state.input.name;
        let decay = if name.contains("undecayed") { 0.0 } else { numbers.weight_decay };
        for piece in &state.pieces {
            let range = piece.offset..piece.offset + piece.elements();
            let (w, g) = (&before[name].as_floats()[range.clone()], &gradients[name][range.clone()]);
            // In the first step both corrections leave the gradient's own moments.
            let step: Vec<f64> = w.iter().zip(g).map(|(w, g)| g / (g.abs() + numbers.epsilon) + decay * w).collect();
            let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
            let trust = norm(w) / norm(&step);
            for ((w, step), found) in w.iter().zip(&step).zip(&feeds[name].as_floats()[range]) {
                let expected = w - numbers.learning_rate * trust * step;
                assert!((expected - found).abs() < 1e-9, "{}: {expected}, {found}", piece.name);
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 3 * 5 + 5 + 5 * 4 + 4 + 4 * 3 + 3);
}

/// PyTorch's update of one weight: weight, gradient, its slots, the step from 1, the numbers.
type Reference = fn(f64, f64, &mut [f64; 2], i32, &Numbers) -> f64;

/// Several steps with weight decay of all but the biases, with and without clipping that bites, as stock operators
/// and as one, against the reference.
fn check_update(optimizer: Optimizer, reference: Reference) {
    for (clip, own_operators) in [(false, false), (false, true), (true, false), (true, true)] {
        let numbers = Numbers { clip_norm: 0.05, ..Numbers::default() };
        let plan = StepPlan {
            update: Update { optimizer, weight_decay: true, own_operators },
            clip: Clip { norm: clip, value: false },
            ..plan(Activation::Tanh, CLASSES, true)
        };
        let program = training_step(&plan).unwrap();
        let mut feeds = feeds(&program, &plan.loss, &numbers);
        let mut slots_by_name: BTreeMap<String, Vec<[f64; 2]>> = BTreeMap::new();
        for step in 1..=5 {
            let gradients = gradients(&plan, &feeds);
            assert_eq!(gradients.len(), 2);
            let norm = gradients.values().flatten().map(|g| g * g).sum::<f64>().sqrt();
            let factor = if clip { (numbers.clip_norm / (norm + 1e-6)).min(1.0) } else { 1.0 };
            assert!(!clip || factor < 1.0, "the clipping does not bite");
            let before = feeds.clone();
            advance(&program, &mut feeds);
            assert_eq!(feeds["regatta.step"].as_ints(), [i64::from(step)]);
            for (name, gradient) in gradients {
                let numbers = match name.contains("undecayed") {
                    true => Numbers { weight_decay: 0.0, ..numbers },
                    false => numbers,
                };
                let slots = slots_by_name.entry(name.clone()).or_insert_with(|| vec![[0.0; 2]; gradient.len()]);
                for (element, g) in gradient.iter().enumerate() {
                    let w = before[&name].as_floats()[element];
                    let expected = reference(w, g * factor, &mut slots[element], step, &numbers);
                    let found = feeds[&name].as_floats()[element];
                    assert!((expected - found).abs() < 1e-12, "{optimizer:?} {name}: {expected}, {found}");
                }
            }
        }
    }
}

#[test]
fn clipping_leaves_small_gradients_alone() {
    let free = plan(Activation::Relu, CLASSES, false);
    let clipped = StepPlan { clip: Clip { norm: true, value: true }, ..free.clone() };
    let numbers = Numbers { clip_norm: 1e6, clip_value: 1e6, ..Numbers::default() };
    let step = |plan: &StepPlan| {
        let program = training_step(plan).unwrap();
        let mut feeds = feeds(&program, &plan.loss, &numbers);
        advance(&program, &mut feeds);
        feeds["regatta.weights"].clone()
    };

    assert_eq!(step(&free), step(&clipped));
}

#[test]
fn clipping_by_value_cuts_each_element() {
    let plan = plan(Activation::Relu, CLASSES, false);
    let program = training_step(&StepPlan { clip: Clip { norm: false, value: true }, ..plan.clone() }).unwrap();
    let numbers = Numbers { clip_value: 0.02, ..Numbers::default() };
    let mut feeds = feeds(&program, &plan.loss, &numbers);
    let gradients = &gradients(&plan, &feeds)["regatta.weights"];
    let before = feeds["regatta.weights"].as_floats().to_vec();

    advance(&program, &mut feeds);

    let cut = gradients.iter().filter(|g| g.abs() > 0.02).count();
    assert!(cut > 0 && cut < gradients.len());
    for ((w, g), found) in before.iter().zip(gradients).zip(feeds["regatta.weights"].as_floats()) {
        assert!((w - numbers.learning_rate * g.clamp(-0.02, 0.02) - found).abs() < 1e-12);
    }
}

#[test]
fn accumulated_update_is_by_the_mean_gradient_of_its_minibatches() {
    let single = plan(Activation::Tanh, CLASSES, true);
    let plan = StepPlan { accumulate: true, ..single.clone() };
    let (adding, last) = (accumulation(&plan).unwrap(), training_step(&plan).unwrap());
    let mut feeds = feeds(&last, &plan.loss, &Numbers::default());
    let before = feeds.clone();
    let weights = "regatta.weights";
    let mut sums = vec![0.0; before[weights].as_floats().len()];
    for (minibatch, indices) in [vec![0, 1, 2, 3], vec![6, 5, 4, 3], vec![2, 2, 5, 1]].into_iter().enumerate() {
        feeds.insert(last.indices.name.clone(), Tensor::ints(&[BATCH], indices));
        feeds.insert("regatta.carry".into(), constant(&[], if minibatch == 0 { 0.0 } else { 1.0 }));
        feeds.insert("regatta.gradient_share".into(), constant(&[], 1.0 / 3.0));
        for (sum, gradient) in sums.iter_mut().zip(&gradients(&single, &feeds)[weights]) {
            *sum += gradient;
        }
        if minibatch < 2 {
            advance(&adding, &mut feeds);
            assert_eq!(feeds[weights], before[weights]);
        } else {
            advance(&last, &mut feeds);
        }
    }

    for ((w, sum), found) in before[weights].as_floats().iter().zip(&sums).zip(feeds[weights].as_floats()) {
        assert!((w - Numbers::default().learning_rate * sum / 3.0 - found).abs() < 1e-12);
    }
    assert_eq!(feeds["regatta.step"].as_ints(), [3]);
    assert_eq!(feeds["regatta.updates"].as_ints(), [1]);
}

#[test]
fn average_follows_the_weights() {
    let plan = StepPlan { average: true, ..plan(Activation::Relu, CLASSES, false) };
    let program = training_step(&plan).unwrap();
    let mut feeds = feeds(&program, &plan.loss, &Numbers::default());
    let before = feeds["regatta.weights/average"].as_floats().to_vec();

    advance(&program, &mut feeds);

    let (weights, average) = (feeds["regatta.weights"].as_floats(), feeds["regatta.weights/average"].as_floats());
    for ((old, new), found) in before.iter().zip(weights).zip(average) {
        assert!((old * 0.9 + new * (1.0 - 0.9) - found).abs() < 1e-12);
    }
    let evaluation = evaluation(&plan, ROWS, BATCH).unwrap();
    let read: Vec<_> = evaluation.states.iter().map(|state| state.input.name.as_str()).collect();
    assert_eq!(read, ["regatta.weights/average"]);
}

#[test]
fn states_hold_every_tensor_once_and_without_gaps() {
    let update = Update { optimizer: Optimizer::AdamW, weight_decay: true, own_operators: true };
    let plan = StepPlan { update, accumulate: true, average: true, ..plan(Activation::Relu, CLASSES, true) };
    let program = training_step(&plan).unwrap();
    let mut names = Vec::new();
    for state in &program.states {
        let mut offset = 0;
        for piece in &state.pieces {
            assert_eq!(piece.offset, offset, "{}", piece.name);
            offset += piece.elements();
            names.push(piece.name.clone());
        }
        assert_eq!(offset, state.input.shape.iter().product::<usize>(), "{}", state.input.name);
    }
    let count = names.len();
    names.sort();
    names.dedup();

    assert_eq!(names.len(), count);
    assert_eq!(count, 2 + 6 * 5, "two counters; weights, moments, sums and averages of three layers");
    for name in ["layers.1.bias", "layers.2.weight/second_moment", "layers.0.bias/average", "regatta.step"] {
        assert!(names.contains(&name.to_owned()), "{name}");
    }
}

#[test]
fn dropout_depends_on_seed_and_step() {
    let plan = StepPlan { batch: 64, rows: 64, ..plan(Activation::Relu, VALUES, true) };
    let program = training_step(&plan).unwrap();
    let loss = |numbers: &Numbers, step: i64| {
        let mut feeds = feeds(&program, &plan.loss, numbers);
        feeds.insert("regatta.step".into(), Tensor::ints(&[], vec![step]));
        result(&program, &evaluate(&program.graph, &feeds), ResultRole::Loss).unwrap()
    };
    let base = Numbers::default();

    assert_eq!(loss(&base, 3), loss(&base, 3));
    assert_ne!(loss(&base, 3), loss(&base, 4));
    assert_ne!(loss(&base, 3), loss(&Numbers { dropout_seed: 8, ..base }, 3));
    assert_ne!(loss(&base, 3), loss(&Numbers { dropout_seed: -7, ..base }, 3));
    let none = Numbers { dropout_rate: 0.0, ..base };
    assert_eq!(loss(&none, 3), loss(&none, 4));
}

#[test]
fn evaluation_counts_rows_by_weight() {
    let whole = |batch: usize, indices: Vec<i64>, weights: Vec<f64>| {
        let program = evaluation(&plan(Activation::Gelu, CLASSES, true), ROWS, batch).unwrap();
        let mut feeds = feeds(&program, &CLASSES, &Numbers::default());
        feeds.insert(program.indices.name.clone(), Tensor::ints(&[batch], indices));
        let port = program.row_weights.clone().unwrap();
        feeds.insert(port.name, Tensor::floats(&[batch], weights));
        let outputs = evaluate(&program.graph, &feeds);
        [ResultRole::Loss, ResultRole::Correct].map(|role| result(&program, &outputs, role).unwrap())
    };
    let all = whole(7, (0..7).collect(), vec![1.0; 7]);
    let first = whole(4, vec![0, 1, 2, 3], vec![1.0; 4]);
    let padded = whole(4, vec![4, 5, 6, 0], vec![1.0, 1.0, 1.0, 0.0]);

    assert!((all[0] - first[0] - padded[0]).abs() < 1e-12);
    assert_eq!(all[1], first[1] + padded[1]);
}

#[test]
fn plans_of_one_shape_give_the_same_bytes() {
    let plan = plan(Activation::Gelu, CLASSES, true);
    let bytes = training_step(&plan).unwrap().onnx();

    assert_eq!(bytes, training_step(&plan).unwrap().onnx());
    let model = ModelProto::decode(bytes.as_slice()).unwrap();
    let names: Vec<_> = model.graph.unwrap().input.into_iter().map(|input| input.name.unwrap()).collect();
    assert!(names.contains(&"regatta.weights".to_owned()));
    assert!(names.contains(&"regatta.learning_rate".to_owned()));
}

#[test]
fn taken_and_reserved_names_are_refused() {
    let mut graph = Graph::new(Provider::Cpu);
    graph.input("beta", Dtype::F32, &[]).unwrap();

    let twice = graph.input("beta", Dtype::F32, &[]).unwrap_err();
    let reserved = graph.input("regatta.beta1", Dtype::F32, &[]).unwrap_err();

    assert_eq!(twice, GraphError::DuplicateName { name: "beta".into() });
    assert_eq!(reserved, GraphError::ReservedName { name: "regatta.beta1".into() });
}

#[test]
fn impossible_plans_are_refused() {
    let good = plan(Activation::Relu, CLASSES, false);
    let empty = StepPlan { batch: 0, ..good.clone() };
    let mlp = Mlp {
        inputs: INPUTS,
        hidden: vec![5],
        norm: Norm::None,
        activation: Activation::Relu,
        dropout: false,
        outputs: 0,
    };
    let silent = StepPlan { model: Model::Mlp(mlp), ..good };

    assert_eq!(training_step(&empty).unwrap_err(), StepError::Zero { what: "the batch size" });
    assert_eq!(training_step(&silent).unwrap_err(), StepError::Zero { what: "the output width" });
}

fn plan(activation: Activation, loss: Loss, dropout: bool) -> StepPlan {
    let outputs = if loss == CLASSES { 3 } else { 2 };
    let mlp = Mlp { inputs: INPUTS, hidden: vec![5, 4], norm: Norm::None, activation, dropout, outputs };
    StepPlan { undecayed: vec!["*.bias".into()], ..steps::plan(Model::Mlp(mlp), loss, (ROWS, BATCH)) }
}
