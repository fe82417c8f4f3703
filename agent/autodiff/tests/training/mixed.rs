//! What of a training step in 16 bits is in 16 bits.

use regatta_autodiff::families::transformer::{Answer, Input};
use regatta_autodiff::families::{Activation, Cnn, Model, Norm, Pool, PositionNorm, Transformer};
use regatta_autodiff::graph::{Dtype, Graph, Node};
use regatta_autodiff::step::{CrossEntropy, Loss, Precision, StepPlan, evaluation, training_step};

use crate::steps;

fn models() -> [Model; 2] {
    let cnn = Cnn {
        input: vec![1, 8, 8],
        channels: vec![4, 8],
        layers: 2,
        kernel: 3,
        norm: Norm::Batch,
        activation: Activation::Relu,
        pool: Pool::Max,
        global_pool: false,
        hidden: vec![8],
        dropout: true,
        outputs: 3,
    };
    let transformer = Transformer {
        input: Input::Sequence { length: 5, width: 4 },
        answer: Answer::Row(3),
        layers: 2,
        width: 8,
        heads: 2,
        norm: PositionNorm::Layer,
        ratio: 2,
        activation: Activation::Gelu,
        dropout: true,
    };
    [Model::Cnn(cnn), Model::Transformer(transformer)]
}

fn plan(model: Model, precision: Precision) -> StepPlan {
    StepPlan { precision, ..steps::plan(model, Loss::CrossEntropy(CrossEntropy::default()), (12, 6)) }
}

/// The float types that a node takes and gives.
fn floats(graph: &Graph, node: &Node) -> Vec<Dtype> {
    let values = node.inputs.iter().flatten().chain(&node.outputs);
    values.map(|value| graph.dtype(*value)).filter(|dtype| dtype.is_float()).collect()
}

#[test]
fn products_are_in_16_bits_and_norms_sums_and_softmax_are_not() {
    let single = ["Softmax", "LogSoftmax", "LayerNormalization", "ReduceSum", "Exp", "Sqrt", "Div", "Gelu", "Pow"];
    for (precision, low) in [(Precision::Half, Dtype::F16), (Precision::Bfloat16, Dtype::Bf16)] {
        for model in models() {
            let program = training_step(&plan(model, precision)).unwrap();
            let mut products = 0;
            for node in program.graph.live_nodes() {
                let floats = floats(&program.graph, node);
                let is_product = ["MatMul", "Gemm"].contains(&node.op.as_str());
                let is_convolution = ["Conv", "ConvTranspose"].contains(&node.op.as_str());
                if is_product || is_convolution && precision == Precision::Half {
                    // A bfloat16 convolution's own gradient is made of products in single precision.
                    products += usize::from(floats.iter().all(|dtype| *dtype == low));
                }
                if single.contains(&node.op.as_str()) {
                    assert!(!floats.contains(&low), "{node:?}");
                }
                if is_convolution && precision == Precision::Bfloat16 {
                    assert!(!floats.contains(&low), "{node:?}");
                }
            }
            assert!(products >= 6, "forward and backward: {products}");
        }
    }
}

#[test]
fn states_results_and_evaluations_are_in_single_precision() {
    for model in models() {
        let plan = plan(model, Precision::Half);
        let step = training_step(&plan).unwrap();
        let is_low = |dtype: Dtype| matches!(dtype, Dtype::F16 | Dtype::Bf16);
        assert!(step.states.iter().all(|state| !is_low(state.input.dtype)));
        assert!(step.graph.outputs().iter().all(|output| !is_low(step.graph.dtype(*output))));
        let evaluation = evaluation(&plan, 12, 6).unwrap();
        let nodes = evaluation.graph.live_nodes();
        assert!(nodes.iter().all(|node| !floats(&evaluation.graph, node).into_iter().any(is_low)));
        let names: Vec<&str> = evaluation.states.iter().map(|state| state.input.name.as_str()).collect();
        assert!(!names.contains(&"regatta.loss_scale"), "{names:?}");
    }
}
