//! The built-in models: gradients of whole steps against central differences in double precision, running statistics
//! and outputs against plain loops, and parameters counted against PyTorch's.

use regatta_autodiff::families::transformer::{Answer, Input};
use regatta_autodiff::families::{Activation, Cnn, Mlp, Model, Norm, Pool, PositionNorm, Resnet, Tabular, Transformer};
use regatta_autodiff::step::{CrossEntropy, Loss, Program, StepError, StepPlan, evaluation, training_step};

use crate::evaluator::{Tensor, evaluate};
use crate::steps::{self, EVERY, Numbers, Tensors, advance, feeds, is_weights, loss, piece};

const ROWS: usize = 5;
const BATCH: usize = 3;

/// Elements of a tensor that are moved where steps take long.
const SEVERAL: usize = 5;

const NORMS: [Norm; 4] = [Norm::None, Norm::Batch, Norm::Group, Norm::Layer];

const ACTIVATIONS: [Activation; 9] = [
    Activation::Relu,
    Activation::Tanh,
    Activation::Sigmoid,
    Activation::Gelu,
    Activation::Silu,
    Activation::LeakyRelu,
    Activation::Elu,
    Activation::HardSwish,
    Activation::Mish,
];

#[test]
fn gradients_of_transformers_agree_with_differences() {
    let inputs = [
        Input::Sequence { length: 3, width: 2 },
        Input::Image { shape: [2, 4, 4], patch: 2 },
        Input::Tokens { length: 3, vocabulary: 5 },
    ];
    for input in inputs {
        check_gradients(&Model::Transformer(transformer(input, Answer::Row(3))), EVERY);
    }
    let tokens = Input::Tokens { length: 3, vocabulary: 5 };
    for norm in [PositionNorm::Layer, PositionNorm::Rms] {
        let decoder = Transformer { norm, ..transformer(tokens.clone(), Answer::NextToken) };
        check_gradients(&Model::Transformer(decoder), EVERY);
    }
}

#[test]
fn gradients_of_perceptrons_with_norms_agree_with_differences() {
    for norm in NORMS {
        let (hidden, activation) = (vec![8, 4], Activation::Tanh);
        let mlp = Mlp { inputs: 3, hidden, norm, activation, dropout: false, outputs: 3 };
        check_gradients(&Model::Mlp(mlp), EVERY);
    }
}

#[test]
fn gradients_of_tables_agree_with_differences() {
    for norm in NORMS {
        for activation in [Activation::Silu, Activation::LeakyRelu, Activation::Elu, Activation::Mish] {
            check_gradients(&Model::Tabular(Tabular { norm, activation, ..tabular(vec![]) }), EVERY);
        }
        check_gradients(&Model::Tabular(Tabular { norm, ..tabular(vec![5, 7]) }), EVERY);
    }
    check_gradients(&Model::Tabular(Tabular { numbers: 0, embedding: Some(2), ..tabular(vec![6]) }), EVERY);
}

#[test]
fn gradients_of_convolutional_nets_agree_with_differences() {
    for (at, activation) in ACTIVATIONS.into_iter().enumerate() {
        let (norm, pool) = (NORMS[at % 4], [Pool::Max, Pool::Average][at / 4 % 2]);
        check_gradients(&Model::Cnn(Cnn { norm, pool, activation, ..cnn(vec![2, 6, 5]) }), SEVERAL);
    }
    for norm in NORMS {
        check_gradients(&Model::Cnn(Cnn { norm, layers: 2, global_pool: false, ..cnn(vec![2, 5, 4]) }), SEVERAL);
        check_gradients(
            &Model::Cnn(Cnn { norm, channels: vec![4, 3], kernel: 5, hidden: vec![], ..cnn(vec![2, 9]) }),
            SEVERAL,
        );
    }
}

#[test]
fn gradients_of_residual_nets_agree_with_differences() {
    for norm in NORMS {
        for (bottleneck, kernel) in [(false, 3), (true, 3), (false, 5)] {
            check_gradients(&Model::Resnet(Resnet { norm, bottleneck, kernel, ..resnet() }), SEVERAL);
        }
    }
}

#[test]
fn decoder_does_not_see_later_tokens() {
    let model = Model::Transformer(transformer(Input::Tokens { length: 4, vocabulary: 5 }, Answer::NextToken));
    let program = evaluation_of(&model);
    let feeds = feeds(&program, &loss_form(), &Numbers::default());
    let loss_with = |position: usize, ignored_from: i64| {
        let mut feeds = feeds.clone();
        let mut tokens = feeds["regatta.feature_0"].as_ints().to_vec();
        tokens.iter_mut().skip(position).step_by(4).for_each(|token| *token = (*token + 1) % 5);
        feeds.insert("regatta.feature_0".into(), Tensor::ints(&[ROWS, 4], tokens));
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
    let (before, after, program) = stepped(&model);
    let rows = picked(&program, &before, 2);
    let tensor = |name: &str| piece(&program, &before, name);
    let (weight, bias) = (tensor("layers.0.weight"), tensor("layers.0.bias"));
    for unit in 0..8 {
        let hidden: Vec<f64> =
            rows.iter().map(|row| row[0] * weight[unit] + row[1] * weight[8 + unit] + bias[unit]).collect();
        check_statistics(&program, (&before, &after), ("norms.0", unit), &hidden);
    }
}

#[test]
fn running_statistics_of_channels_are_over_rows_and_places() {
    let model = Model::Cnn(Cnn { norm: Norm::Batch, kernel: 1, ..cnn(vec![2, 3, 2]) });
    let (before, after, program) = stepped(&model);
    let rows = picked(&program, &before, 12);
    let weight = piece(&program, &before, "stages.0.0.conv.weight");
    for channel in 0..4 {
        let hidden: Vec<f64> = rows
            .iter()
            .flat_map(|row| (0..6).map(|at| row[at] * weight[2 * channel] + row[6 + at] * weight[2 * channel + 1]))
            .collect();
        check_statistics(&program, (&before, &after), ("stages.0.0.norm", channel), &hidden);
    }
}

/// States before and after a step of the model.
fn stepped(model: &Model) -> (Tensors, Tensors, Program) {
    let program = training_step(&plan(model)).unwrap();
    let before = feeds(&program, &loss_form(), &Numbers::default());
    let mut after = before.clone();
    advance(&program, &mut after);
    (before, after, program)
}

/// The batch's rows of the feature, of so many numbers each.
fn picked<'a>(program: &Program, feeds: &'a Tensors, width: usize) -> Vec<&'a [f64]> {
    let rows = feeds[&program.data[0].input.name].as_floats();
    feeds[&program.indices.name].as_ints().iter().map(|&row| &rows[row as usize * width..][..width]).collect()
}

/// A tenth of the batch's mean and unbiased variance, as PyTorch's BatchNorm with its default momentum.
fn check_statistics(program: &Program, states: (&Tensors, &Tensors), (norm, channel): (&str, usize), batch: &[f64]) {
    let count = batch.len() as f64;
    let mean = batch.iter().sum::<f64>() / count;
    let unbiased = batch.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (count - 1.0);
    for (name, measured) in [("running_mean", mean), ("running_var", unbiased)] {
        let name = format!("{norm}.{name}");
        let [before, after] = [states.0, states.1].map(|state| piece(program, state, &name)[channel]);
        assert!((after - 0.9 * before - 0.1 * measured).abs() < 1e-12, "{name}[{channel}]");
    }
}

/// Convolutions of one place, so that the plain loops stay plain; the last row and column of 5 x 3 have no partner.
#[test]
fn convolutional_nets_normalise_by_running_statistics_activate_and_pool() {
    for (at, activation) in ACTIVATIONS.into_iter().enumerate() {
        for pool in [Pool::Max, Pool::Average] {
            let norm = [Norm::Batch, Norm::None][at % 2];
            let model = Model::Cnn(Cnn { norm, pool, activation, kernel: 1, hidden: vec![], ..cnn(vec![2, 5, 3]) });
            let program = evaluation(&StepPlan { outputs: true, ..plan(&model) }, ROWS, BATCH).unwrap();
            let feeds = feeds(&program, &loss_form(), &Numbers::default());
            let found = evaluate(&program.graph, &feeds).remove(&program.output.as_ref().unwrap().name).unwrap();
            let expected = picked(&program, &feeds, 30).into_iter().flat_map(|row| {
                let tensor = |name: &str| piece(&program, &feeds, name);
                let channel = |channel: usize| {
                    let weight = &tensor("stages.0.0.conv.weight")[2 * channel..];
                    let place = |at: usize| {
                        let x = row[at] * weight[0] + row[15 + at] * weight[1];
                        let name = |part: &str| format!("stages.0.0.norm.{part}");
                        let x = match norm {
                            Norm::Batch => {
                                let of = |part: &str| tensor(&name(part))[channel];
                                let root = (of("running_var") + 1e-5).sqrt();
                                (x - of("running_mean")) / root * of("weight") + of("bias")
                            }
                            _ => x + tensor("stages.0.0.conv.bias")[channel],
                        };
                        activated(activation, x)
                    };
                    let windows = [0, 6].map(|corner| [0, 1, 3, 4].map(|at| place(corner + at)));
                    let pooled = windows.map(|window| match pool {
                        Pool::Max => window.into_iter().fold(f64::NEG_INFINITY, f64::max),
                        Pool::Average => window.iter().sum::<f64>() / 4.0,
                    });
                    pooled.iter().sum::<f64>() / 2.0
                };
                let (weight, bias) = (tensor("layers.0.weight"), tensor("layers.0.bias"));
                let means = [0, 1, 2, 3].map(channel);
                [0, 1, 2].map(|k| bias[k] + (0..4).map(|c| means[c] * weight[3 * c + k]).sum::<f64>())
            });
            for (found, expected) in found.as_floats().iter().zip(expected.collect::<Vec<_>>()) {
                assert!((found - expected).abs() < 1e-9, "{activation:?} {pool:?}: {found}, not {expected}");
            }
        }
    }
}

/// The definitions of PyTorch's functions; the exact GELU by its integral.
fn activated(activation: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::Relu => x.max(0.0),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => sigmoid(x),
        Activation::Gelu => x * normal_distribution(x),
        Activation::Silu => x * sigmoid(x),
        Activation::LeakyRelu => x.max(0.01 * x),
        Activation::Elu => {
            if x > 0.0 {
                x
            } else {
                x.exp() - 1.0
            }
        }
        Activation::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::Mish => x * (1.0 + x.exp()).ln().tanh(),
    }
}

/// By Simpson's rule from zero.
fn normal_distribution(x: f64) -> f64 {
    let density = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let step = x / 200.0;
    let terms = (0..100).map(|at| {
        let from = 2.0 * f64::from(at) * step;
        density(from) + 4.0 * density(from + step) + density(from + 2.0 * step)
    });
    0.5 + terms.sum::<f64>() * step / 3.0
}

/// The figures are those of PyTorch: `nn.TransformerEncoderLayer` and GPT-2's own count for its small form.
#[test]
fn parameters_are_as_many_as_pytorchs() {
    let block = Transformer {
        layers: 2,
        width: 256,
        heads: 4,
        ratio: 4,
        norm: PositionNorm::Layer,
        ..transformer(Input::Sequence { length: 1, width: 1 }, Answer::Row(1))
    };
    let one = Transformer { layers: 1, ..block.clone() };
    assert_eq!(parameters(&Model::Transformer(block)) - parameters(&Model::Transformer(one)), 789_760);
    let gpt2 = Transformer {
        layers: 12,
        width: 768,
        heads: 12,
        ratio: 4,
        norm: PositionNorm::Layer,
        ..transformer(Input::Tokens { length: 1024, vocabulary: 50_257 }, Answer::NextToken)
    };
    assert_eq!(parameters(&Model::Transformer(gpt2)), 124_439_808);
}

/// torchvision's `resnet18` and `resnet50` with ten classes have 11,181,642 and 23,528,522 parameters. The form for
/// CIFAR differs by its stem alone: 3 x 3 x 3 x 64 weights and not 7 x 7 x 3 x 64, which is 7,680 fewer.
#[test]
fn residual_nets_have_as_many_parameters_as_torchvisions() {
    let cifar = Resnet {
        input: [3, 32, 32],
        blocks: vec![2, 2, 2, 2],
        width: 64,
        bottleneck: false,
        kernel: 3,
        norm: Norm::Batch,
        activation: Activation::Relu,
        dropout: false,
        outputs: 10,
    };
    let deep = Resnet { blocks: vec![3, 4, 6, 3], bottleneck: true, kernel: 3, ..cifar.clone() };
    assert_eq!(parameters(&Model::Resnet(cifar)), 11_173_962);
    assert_eq!(parameters(&Model::Resnet(deep)), 23_520_842);
}

/// `Conv2d(3, 32, 3)`, `Conv2d(32, 32, 3)`, `Conv2d(32, 64, 3)`, `Conv2d(64, 64, 3)`, `Linear(4096, 128)`,
/// `Linear(128, 10)` of PyTorch, with biases; with norms, a scale and a shift a channel and no bias there.
#[test]
fn convolutional_nets_have_as_many_parameters_as_pytorchs_layers() {
    let net = Cnn { input: vec![3, 32, 32], channels: vec![32, 64], layers: 2, ..cnn(vec![]) };
    let net = Cnn { hidden: vec![128], global_pool: false, outputs: 10, ..net };
    let convolutions = 896 + 9_248 + 18_496 + 36_928;
    assert_eq!(parameters(&Model::Cnn(net.clone())), convolutions + 524_416 + 1_290);
    let normalised = Cnn { norm: Norm::Batch, ..net.clone() };
    assert_eq!(parameters(&Model::Cnn(normalised)), convolutions + 192 + 524_416 + 1_290);
    let pooled = Cnn { global_pool: true, ..net.clone() };
    assert_eq!(parameters(&Model::Cnn(pooled)), convolutions + 64 * 128 + 128 + 1_290);
    let sequences = Cnn { input: vec![3, 64], global_pool: true, ..net };
    let kernels = 3 * 3 * 32 + 32 + 3 * 32 * 32 + 32 + 3 * 32 * 64 + 64 + 3 * 64 * 64 + 64;
    assert_eq!(parameters(&Model::Cnn(sequences)), kernels + 64 * 128 + 128 + 1_290);
}

/// Embeddings of PyTorch's `Embedding(n, (n + 1) / 2)`, at most 50 wide, in front of `Linear`s.
#[test]
fn tables_have_as_many_parameters_as_pytorchs_layers() {
    let table = Tabular { hidden: vec![16], ..tabular(vec![5, 1000]) };
    let embeddings = 5 * 3 + 1000 * 50;
    assert_eq!(parameters(&Model::Tabular(table)), embeddings + (2 + 3 + 50) * 16 + 16 + 16 * 3 + 3);
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
    let mute = Model::Transformer(transformer(Input::Sequence { length: 3, width: 2 }, Answer::NextToken));
    assert_eq!(training_step(&plan(&mute)).unwrap_err(), StepError::Output { output: vec![] });
    let small = Model::Cnn(Cnn { channels: vec![2; 4], ..cnn(vec![1, 8, 8]) });
    assert!(training_step(&plan(&small)).is_err(), "a pool of a single place");
}

fn transformer(input: Input, answer: Answer) -> Transformer {
    Transformer {
        input,
        answer,
        layers: 1,
        width: 4,
        heads: 2,
        ratio: 2,
        norm: PositionNorm::Layer,
        activation: Activation::Gelu,
        dropout: true,
    }
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

fn cnn(input: Vec<usize>) -> Cnn {
    Cnn {
        input,
        channels: vec![4],
        layers: 1,
        kernel: 3,
        norm: Norm::None,
        activation: Activation::Tanh,
        pool: Pool::Max,
        global_pool: true,
        hidden: vec![4],
        dropout: true,
        outputs: 3,
    }
}

/// The second stage halves height and width, and its shortcut has a convolution.
fn resnet() -> Resnet {
    Resnet {
        input: [2, 4, 3],
        blocks: vec![1, 1],
        width: 2,
        bottleneck: false,
        kernel: 3,
        norm: Norm::Batch,
        activation: Activation::Tanh,
        dropout: true,
        outputs: 3,
    }
}

fn plan(model: &Model) -> StepPlan {
    steps::plan(model.clone(), loss_form(), (ROWS, BATCH))
}

fn loss_form() -> Loss {
    Loss::CrossEntropy(CrossEntropy { ignored: Some(-1), ..CrossEntropy::default() })
}

fn evaluation_of(model: &Model) -> Program {
    evaluation(&plan(model), ROWS, BATCH).unwrap()
}

fn parameters(model: &Model) -> usize {
    let program = evaluation_of(model);
    let weights = program.states.iter().filter(|state| is_weights(&state.input.name));
    weights.map(|state| state.input.shape.iter().product::<usize>()).sum()
}

fn check_gradients(model: &Model, elements_max: usize) {
    let plan = plan(model);
    let feeds = feeds(&training_step(&plan).unwrap(), &plan.loss, &Numbers::default());
    steps::check_gradients(&plan, &feeds, elements_max);
}
