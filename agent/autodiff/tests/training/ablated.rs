//! Built-in models without some of their layers: what is left is the model that never had them.

use regatta_autodiff::families::transformer::{Answer, Input};
use regatta_autodiff::families::{Activation, Cnn, Mlp, Model, Norm, Pool, PositionNorm, Resnet, Tabular, Transformer};
use regatta_autodiff::step::{CrossEntropy, Loss, StepPlan, training_step};

use crate::steps::{self, EVERY, Numbers, feeds};

fn mlp(hidden: &[usize], dropout: bool) -> Model {
    Model::Mlp(Mlp {
        inputs: 3,
        hidden: hidden.to_vec(),
        norm: Norm::None,
        activation: Activation::Tanh,
        dropout,
        outputs: 3,
    })
}

fn tabular(hidden: &[usize], norm: Norm) -> Model {
    let (activation, hidden) = (Activation::Tanh, hidden.to_vec());
    Model::Tabular(Tabular {
        numbers: 2,
        categories: vec![3],
        embedding: None,
        hidden,
        norm,
        activation,
        dropout: true,
        outputs: 3,
    })
}

fn cnn(channels: &[usize], layers: usize, norm: Norm) -> Model {
    Model::Cnn(Cnn {
        input: vec![2, 8, 8],
        channels: channels.to_vec(),
        layers,
        kernel: 3,
        norm,
        activation: Activation::Tanh,
        pool: Pool::Max,
        global_pool: true,
        hidden: vec![4],
        dropout: true,
        outputs: 3,
    })
}

fn resnet(blocks: &[usize], norm: Norm) -> Model {
    Model::Resnet(Resnet {
        input: [2, 4, 4],
        blocks: blocks.to_vec(),
        width: 2,
        bottleneck: false,
        kernel: 3,
        norm,
        activation: Activation::Tanh,
        dropout: false,
        outputs: 3,
    })
}

fn transformer(layers: usize) -> Model {
    Model::Transformer(Transformer {
        input: Input::Sequence { length: 3, width: 2 },
        answer: Answer::Row(3),
        layers,
        width: 4,
        heads: 2,
        norm: PositionNorm::Layer,
        ratio: 2,
        activation: Activation::Gelu,
        dropout: true,
    })
}

fn plan(model: &Model) -> StepPlan {
    steps::plan(model.clone(), Loss::CrossEntropy(CrossEntropy::default()), (5, 3))
}

/// The number of each state's elements, and how many numbers the host gives the step.
fn size(model: &Model) -> (Vec<usize>, usize) {
    let program = training_step(&plan(model)).unwrap();
    let sizes = program.states.iter().map(|state| state.input.shape.iter().product());
    (sizes.collect(), program.scalars.len())
}

#[test]
fn what_is_left_is_as_large_as_the_model_that_never_had_the_layers() {
    let rows: [(Model, &[&str], Model); 14] = [
        (mlp(&[8, 6], true), &["layers.0"], mlp(&[6], true)),
        (mlp(&[8, 6], true), &["layers.0", "layers.1"], mlp(&[], false)),
        (mlp(&[8, 6], true), &["dropout"], mlp(&[8, 6], false)),
        (tabular(&[8, 6], Norm::Batch), &["layers.1"], tabular(&[8], Norm::Batch)),
        (tabular(&[8, 6], Norm::Batch), &["norms.*"], tabular(&[8, 6], Norm::None)),
        (cnn(&[4, 3], 2, Norm::Group), &["stages.0"], cnn(&[3], 2, Norm::Group)),
        (cnn(&[4, 4], 2, Norm::Batch), &["stages.*.1"], cnn(&[4, 4], 1, Norm::Batch)),
        (cnn(&[4, 3], 2, Norm::Batch), &["*.norm"], cnn(&[4, 3], 2, Norm::None)),
        (resnet(&[2, 2], Norm::Batch), &["stages.0.1"], resnet(&[1, 2], Norm::Batch)),
        (resnet(&[2, 2], Norm::Batch), &["stages.1.0"], resnet(&[2, 1], Norm::Batch)),
        (resnet(&[2, 2], Norm::Batch), &["stages.1"], resnet(&[2], Norm::Batch)),
        (resnet(&[1, 1], Norm::Group), &["*.norm"], resnet(&[1, 1], Norm::None)),
        (transformer(2), &["blocks.0"], transformer(1)),
        (transformer(2), &["blocks.1.attention", "blocks.1.dense"], transformer(1)),
    ];
    for (model, without, expected) in rows {
        let names: Vec<String> = without.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(size(&model.without(&names)), size(&expected), "{without:?}");
    }
}

#[test]
fn gradients_of_what_is_left_agree_with_differences() {
    let rows: [(Model, &str); 5] = [
        (transformer(1), "blocks.0.attention"),
        (transformer(1), "blocks.0.dense"),
        (transformer(1), "blocks.0.attention_norm"),
        (transformer(1), "positions"),
        (resnet(&[1, 1], Norm::Batch), "*.norm"),
    ];
    for (model, without) in rows {
        let plan = plan(&model.without(&[without.to_owned()]));
        let feeds = feeds(&training_step(&plan).unwrap(), &plan.loss, &Numbers::default());
        steps::check_gradients(&plan, &feeds, EVERY);
    }
}

#[test]
fn a_layer_that_is_not_there_cannot_be_left_out() {
    for (model, without) in [
        (mlp(&[8, 6], true), "layers.2"),
        (mlp(&[8, 6], false), "dropout"),
        (cnn(&[4], 1, Norm::None), "stages.0.0.norm"),
        (transformer(1), "block"),
    ] {
        assert!(training_step(&plan(&model.without(&[without.to_owned()]))).is_err(), "{without}");
    }
}
