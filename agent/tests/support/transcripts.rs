//! Rows of tokens that each say a label twice or more, the labels in order, and a model that has an answer for each token.

use std::sync::Arc;

use regatta_agent::training::{
    Activation, Adam, Dataset, Feature, Loss, Metric, ModelPlan, OptimizerPlan, Plan, PositionNorm, Split, Target,
    Values,
};

const FRAMES: usize = 12;
const LABELS_MAX: usize = 4;
/// The blank with them.
const CLASSES: usize = 5;

pub fn rows() -> Arc<Dataset> {
    Arc::new(Dataset { train: split(240, 0), validation: split(60, 10_000) })
}

fn split(rows: usize, salt: usize) -> Split {
    let (mut tokens, mut labels) = (Vec::new(), Vec::new());
    for row in 0..rows {
        let draw = |at: usize| (row + salt) * 7919 % 1009 / (at + 1);
        let count = 1 + draw(0) % LABELS_MAX;
        // Neighbours differ or are the same; either way something stands between them.
        let told: Vec<usize> = (0..count).map(|at| 1 + draw(at) % (CLASSES - 1)).collect();
        // Another token than its label: an untrained model with one table for both would know it.
        let mut said: Vec<usize> = told.iter().flat_map(|label| [CLASSES - label, CLASSES - label, 0]).collect();
        said.resize(FRAMES, 0);
        tokens.extend(said.iter().map(|token| *token as i64));
        labels.extend((0..LABELS_MAX).map(|at| told.get(at).map_or(0, |label| *label as i64)));
    }
    let feature = Feature {
        values: Values::I64(tokens),
        vocabulary: vec![CLASSES],
        ..Feature::numbers("tokens", vec![FRAMES], Vec::new())
    };
    Split { features: vec![feature], target: Target::classes(labels, vec![LABELS_MAX], CLASSES) }
}

pub fn plan() -> Plan {
    let model = ModelPlan::Transformer {
        decoder: true,
        layers: 1,
        width: 16,
        heads: 2,
        ratio: 2,
        norm: PositionNorm::Layer,
        patch: None,
        vocabulary: Some(CLASSES),
        activation: Activation::Gelu,
        dropout: 0.0,
    };
    let adam = Adam { learning_rate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 };
    let metrics = vec![Metric::Accuracy, Metric::LabelErrorRate];
    Plan { metrics, ..Plan::new(model, Loss::Ctc, OptimizerPlan::AdamW(adam), 20, 3) }
}
