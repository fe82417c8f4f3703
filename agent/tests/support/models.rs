//! Small models of several kinds, and rows that they train on.

use std::sync::Arc;

use regatta_agent::training::{Activation, Dataset, Feature, ModelPlan, Norm, Pool, PositionNorm, Split, Target};

/// Sixty rows of numbers to train on, and thirty to validate on, of three classes.
pub fn data(shape: &[usize]) -> Arc<Dataset> {
    let width: usize = shape.iter().product();
    let split = |rows: usize| Split {
        features: vec![Feature::numbers(
            "x",
            shape.to_vec(),
            (0..rows * width).map(|at| (at * 7919 % 1009) as f32 / 1009.0 - 0.5).collect(),
        )],
        target: Target::classes((0..rows as i64).map(|row| row % 3).collect(), Vec::new(), 3),
    };
    Arc::new(Dataset { train: split(60), validation: split(30) })
}

/// With the shape of their rows: convolutional nets, a residual one, a transformer.
pub fn models() -> Vec<(ModelPlan, Vec<usize>)> {
    let cnn = |norm| ModelPlan::Cnn {
        channels: vec![4, 8],
        layers: 2,
        kernel: 3,
        norm,
        activation: Activation::Relu,
        pool: Pool::Max,
        global_pool: false,
        hidden: vec![8],
        dropout: 0.1,
    };
    let resnet = ModelPlan::Resnet {
        blocks: vec![1, 1],
        width: 8,
        bottleneck: false,
        kernel: 3,
        norm: Norm::Batch,
        activation: Activation::Relu,
        dropout: 0.0,
    };
    let transformer = ModelPlan::Transformer {
        decoder: false,
        layers: 2,
        width: 16,
        heads: 2,
        ratio: 2,
        norm: PositionNorm::Layer,
        patch: None,
        vocabulary: None,
        activation: Activation::Gelu,
        dropout: 0.2,
    };
    let image = vec![1, 8, 8];
    vec![
        (cnn(Norm::Batch), image.clone()),
        (cnn(Norm::Group), image.clone()),
        (resnet, image),
        (transformer, vec![6, 4]),
    ]
}
