//! The built-in models: gradients of whole steps against central differences in double precision, and parameters
//! counted against PyTorch's layers.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

#[path = "support/evaluator.rs"]
mod evaluator;

use std::collections::BTreeMap;

use evaluator::{Tensor, evaluate};
use regatta_autodiff::families::transformer::{Answer, Input};
use regatta_autodiff::families::{Activation, Model, Norm, Tabular, Transformer};
use regatta_autodiff::graph::{Dtype, Provider};
use regatta_autodiff::step::{
    CrossEntropy, DataRole, EvaluationPlan, Loss, Optimizer, Program, ResultRole, ScalarRole, StepPlan, Update,
    evaluation, training_step,
};

const ROWS: usize = 5;
const BATCH: usize = 3;

type Tensors = BTreeMap<String, Tensor>;

#[test]
fn gradients_of_transformers_agree_with_differences() {
    let inputs = [
        Input::Sequence { length: 3, width: 2 },
        Input::Image { shape: [2, 4, 4], patch: 2 },
        Input::Tokens { length: 3, vocabulary: 5 },
    ];
    for input in inputs {
        check_gradients(&Model::Transformer(transformer(input, Answer::Row(3))));
    }
    let tokens = Input::Tokens { length: 3, vocabulary: 5 };
    check_gradients(&Model::Transformer(transformer(tokens, Answer::NextToken)));
}

#[test]
fn gradients_of_tables_agree_with_differences() {
    for norm in [Norm::None, Norm::Batch, Norm::Group, Norm::Layer] {
        for activation in [Activation::Silu, Activation::LeakyRelu, Activation::Elu, Activation::Mish] {
            check_gradients(&Model::Tabular(Tabular { norm, activation, ..tabular(vec![]) }));
        }
    }
}

#[test]
fn decoder_does_not_see_later_tokens() {
    let model = Model::Transformer(transformer(Input::Tokens { length: 4, vocabulary: 5 }, Answer::NextToken));
    let program = evaluation_of(&model);
    let feeds = feeds(&program);
    let loss_with = |position: usize, ignored_from: i64| {
        let mut feeds = feeds.clone();
        let mut tokens = feeds["regatta.features"].as_ints().to_vec();
        tokens.iter_mut().skip(position).step_by(4).for_each(|token| *token = (*token + 1) % 5);
        feeds.insert("regatta.features".into(), Tensor::ints(&[ROWS, 4], tokens));
        let target = (0..ROWS as i64 * 4).map(|at| if at % 4 >= ignored_from { -1 } else { at % 5 });
        feeds.insert("regatta.target".into(), Tensor::ints(&[ROWS, 4], target.collect()));
        loss(&program, &feeds)
    };

    assert_eq!(loss_with(ROWS * 4, 2), loss_with(3, 2));
    assert_eq!(loss_with(ROWS * 4, 2), loss_with(2, 2));
    assert_ne!(loss_with(ROWS * 4, 2), loss_with(1, 2));
}

#[test]
fn running_statistics_follow_the_batches() {
    let model = Model::Tabular(Tabular { norm: Norm::Batch, ..tabular(vec![]) });
    let program = training_step(&plan(&model)).unwrap();
    let feeds = feeds(&program);
    let outputs = evaluate(&program.graph, &feeds);
    let after = |name: &str| {
        let state = program.states.iter().find(|state| state.input.name == name).unwrap();
        outputs[state.output.as_ref().unwrap()].as_floats().to_vec()
    };
    let rows: Vec<&[f64]> = feeds["regatta.indices"]
        .as_ints()
        .iter()
        .map(|&row| &feeds["regatta.numbers"].as_floats()[row as usize * 2..][..2])
        .collect();
    let (weight, bias) = (feeds["layers.0.weight"].as_floats(), feeds["layers.0.bias"].as_floats());
    for unit in 0..8 {
        let hidden: Vec<f64> =
            rows.iter().map(|row| row[0] * weight[unit] + row[1] * weight[8 + unit] + bias[unit]).collect();
        let mean = hidden.iter().sum::<f64>() / BATCH as f64;
        let unbiased = hidden.iter().map(|h| (h - mean).powi(2)).sum::<f64>() / (BATCH - 1) as f64;
        let before = |name: &str| feeds[name].as_floats()[unit];
        let expected_mean = 0.9 * before("norms.0.running_mean") + 0.1 * mean;
        let expected_variance = 0.9 * before("norms.0.running_var") + 0.1 * unbiased;
        assert!((after("norms.0.running_mean")[unit] - expected_mean).abs() < 1e-12);
        assert!((after("norms.0.running_var")[unit] - expected_variance).abs() < 1e-12);
    }
}

/// The figures are those of PyTorch: `nn.TransformerEncoderLayer` and GPT-2's own count for its small form.
#[test]
fn parameters_are_as_many_as_pytorchs() {
    let block = Transformer {
        layers: 2,
        width: 256,
        heads: 4,
        ratio: 4,
        ..transformer(Input::Sequence { length: 1, width: 1 }, Answer::Row(1))
    };
    let one = Transformer { layers: 1, ..block.clone() };
    assert_eq!(parameters(&Model::Transformer(block)) - parameters(&Model::Transformer(one)), 789_760);
    let gpt2 = Transformer {
        layers: 12,
        width: 768,
        heads: 12,
        ratio: 4,
        ..transformer(Input::Tokens { length: 1024, vocabulary: 50_257 }, Answer::NextToken)
    };
    assert_eq!(parameters(&Model::Transformer(gpt2)), 124_439_808);
}

#[test]
fn impossible_shapes_are_refused() {
    let tokens = Input::Tokens { length: 3, vocabulary: 5 };
    let rows = [
        Transformer { heads: 3, ..transformer(tokens.clone(), Answer::NextToken) },
        Transformer { heads: 0, ..transformer(tokens, Answer::NextToken) },
        transformer(Input::Image { shape: [1, 5, 4], patch: 2 }, Answer::Row(3)),
        transformer(Input::Image { shape: [1, 4, 4], patch: 0 }, Answer::Row(3)),
        transformer(Input::Sequence { length: 3, width: 2 }, Answer::NextToken),
    ];
    for transformer in rows {
        let model = Model::Transformer(transformer);
        assert!(training_step(&plan(&model)).is_err(), "{model:?}");
    }
}

fn transformer(input: Input, answer: Answer) -> Transformer {
    Transformer { input, answer, layers: 1, width: 4, heads: 2, ratio: 2, activation: Activation::Gelu, dropout: true }
}

fn tabular(categories: Vec<usize>) -> Tabular {
    Tabular {
        numbers: 2,
        categories,
        embedding: None,
        hidden: vec![8],
        norm: Norm::None,
        activation: Activation::Tanh,
        dropout: true,
        outputs: 3,
    }
}

fn plan(model: &Model) -> StepPlan {
    StepPlan {
        model: model.clone(),
        loss: loss_form(),
        update: Update { optimizer: Optimizer::Sgd, weight_decay: false },
        clip: false,
        rows: ROWS,
        batch: BATCH,
        provider: Provider::Cpu,
    }
}

fn loss_form() -> Loss {
    Loss::CrossEntropy(CrossEntropy { ignored: Some(-1), ..CrossEntropy::default() })
}

fn evaluation_of(model: &Model) -> Program {
    let (model, loss) = (model.clone(), loss_form());
    evaluation(&EvaluationPlan { model, loss, rows: ROWS, batch: BATCH, provider: Provider::Cpu }).unwrap()
}

fn parameters(model: &Model) -> usize {
    evaluation_of(model).states.iter().map(|state| state.input.shape.iter().product::<usize>()).sum()
}

/// The gradient of each parameter is what plain descent at rate one takes away.
fn check_gradients(model: &Model) {
    let program = training_step(&plan(model)).unwrap();
    let feeds = feeds(&program);
    let outputs = evaluate(&program.graph, &feeds);
    let mut slopes = 0;
    for state in &program.states {
        let (name, output) = (&state.input.name, state.output.as_ref().unwrap());
        if name == "step" || name.contains("running") {
            continue;
        }
        let before = feeds[name].as_floats();
        for (element, after) in outputs[output].as_floats().iter().enumerate() {
            let at = |shift: f64| {
                let mut moved = feeds.clone();
                let mut floats = before.to_vec();
                floats[element] += shift;
                moved.insert(name.clone(), Tensor::floats(&feeds[name].shape, floats));
                loss(&program, &moved)
            };
            let (exact, numeric) = (before[element] - after, (at(1e-5) - at(-1e-5)) / 2e-5);
            let error = (exact - numeric).abs() / numeric.abs().max(0.01);
            assert!(error < 1e-6, "{model:?} {name}[{element}]: {exact} against {numeric}");
            slopes += usize::from(numeric.abs() > 1e-6);
        }
    }
    assert!(slopes > 20, "{model:?} has {slopes} slopes");
}

fn loss(program: &Program, feeds: &Tensors) -> f64 {
    let result = program.results.iter().find(|result| result.role == ResultRole::Loss).unwrap();
    evaluate(&program.graph, feeds)[&result.name].as_floats()[0]
}

fn feeds(program: &Program) -> Tensors {
    let mut feeds = Tensors::new();
    for state in &program.states {
        let (name, shape) = (&state.input.name, &state.input.shape);
        let tensor = match (state.input.dtype, name.contains("running_var")) {
            (Dtype::I64, _) => Tensor::ints(shape, vec![0]),
            (_, true) => spread(name, shape, 0.5, 1.5),
            _ => spread(name, shape, -0.8, 0.8),
        };
        feeds.insert(name.clone(), tensor);
    }
    for scalar in &program.scalars {
        let tensor = match scalar.role {
            ScalarRole::LearningRate => Tensor::floats(&[], vec![1.0]),
            ScalarRole::DropoutRate => Tensor::floats(&[], vec![0.25]),
            ScalarRole::DropoutSeed => Tensor::ints(&[], vec![7]),
            role => panic!("{role:?} is not of these plans"),
        };
        feeds.insert(scalar.input.name.clone(), tensor);
    }
    for data in &program.data {
        let (name, shape) = (&data.input.name, &data.input.shape);
        let count = shape.iter().product::<usize>() as i64;
        let tensor = match (data.role, data.input.dtype) {
            (DataRole::Target, _) => Tensor::ints(shape, (0..count).map(|at| at * 2 % 3).collect()),
            (_, Dtype::I64) => Tensor::ints(shape, (0..count).map(|at| at * at % 5).collect()),
            (DataRole::Noise, _) => spread(name, shape, 0.0, 1.0),
            _ => spread(name, shape, -1.0, 1.0),
        };
        feeds.insert(name.clone(), tensor);
    }
    feeds.insert(program.indices.name.clone(), Tensor::ints(&[BATCH], vec![1, 4, 2]));
    if let Some(weights) = &program.row_weights {
        feeds.insert(weights.name.clone(), Tensor::floats(&[BATCH], vec![1.0; BATCH]));
    }
    feeds
}

/// Numbers that look random and differ from name to name (SplitMix64).
fn spread(name: &str, shape: &[usize], low: f64, high: f64) -> Tensor {
    let start = name.bytes().fold(1u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let unit = |position: u64| {
        let mut z = start.wrapping_add((position + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let count = shape.iter().product::<usize>() as u64;
    Tensor::floats(shape, (0..count).map(|position| low + (high - low) * unit(position)).collect())
}
