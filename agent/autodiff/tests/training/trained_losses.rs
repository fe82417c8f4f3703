//! Every loss in whole steps and evaluations, of models whose answers have all the shapes that a loss may be of.

use std::sync::Arc;

use prost::Message;
use regatta_autodiff::families::transformer::{Answer, Input};
use regatta_autodiff::families::{Activation, Mlp, Model, Norm, PositionNorm, Transformer};
use regatta_autodiff::graph::{Attribute, Constant, Dtype, Elements, Graph, Provider, Value};
use regatta_autodiff::import::{ModelFile, Settings};
use regatta_autodiff::onnx::ModelProto;
use regatta_autodiff::step::{ClassAxis, CrossEntropy, Loss, Program, ResultRole, StepPlan, evaluation, training_step};

use crate::evaluator::{Tensor, evaluate};
use crate::losses::{CLASS_WEIGHTS, Case, DELTA, Figures, IGNORED, SMOOTHING, reference};
use crate::steps::{self, Numbers, Tensors, check_gradients, feeds, result, spread};

const ROWS: usize = 5;
const BATCH: usize = 3;
const CLASSES: usize = CLASS_WEIGHTS.len();

/// The batch's rows count so much in an evaluation.
const ROW_WEIGHTS: [f64; BATCH] = [1.0, 0.0, 0.5];

/// Elements of a tensor that are moved.
const SEVERAL: usize = 8;

#[test]
fn rows_of_classes_and_of_numbers() {
    for loss in cross_entropies(ClassAxis::Last).into_iter().chain(losses_of_elements()) {
        check(&rows(), loss, &[BATCH, CLASSES]);
    }
}

#[test]
fn a_token_for_each_position() {
    for loss in cross_entropies(ClassAxis::Last).into_iter().chain([Loss::KlDivergence, Loss::MeanSquaredError]) {
        check(&decoder(), loss, &[BATCH, 3, CLASSES]);
    }
}

#[test]
fn a_class_for_each_place_of_an_image() {
    for loss in cross_entropies(ClassAxis::Last).into_iter().chain([Loss::BinaryCrossEntropy, Loss::Huber]) {
        check(&convolutions(&[3, 2]), loss, &[BATCH, CLASSES, 3, 2]);
    }
}

#[test]
fn a_class_for_each_place_of_a_sequence() {
    // As many places as classes, too.
    for length in [3, CLASSES] {
        for loss in cross_entropies(ClassAxis::First).into_iter().chain([Loss::BinaryCrossEntropy, Loss::Huber]) {
            check(&convolutions(&[length]), loss, &[BATCH, CLASSES, length]);
        }
    }
}

fn cross_entropies(axis: ClassAxis) -> Vec<Loss> {
    let form = |form: u8| CrossEntropy {
        axis,
        smoothed: form & 1 != 0,
        weighted: form & 2 != 0,
        ignored: (form & 4 != 0).then_some(IGNORED),
    };
    (0..8).map(|bits| Loss::CrossEntropy(form(bits))).collect()
}

fn losses_of_elements() -> [Loss; 5] {
    [Loss::BinaryCrossEntropy, Loss::MeanSquaredError, Loss::MeanAbsoluteError, Loss::Huber, Loss::KlDivergence]
}

/// The loss that a step and an evaluation measure, against the formula for what the model gives; the gradients of the
/// step against differences of its loss.
fn check(model: &Model, loss: Loss, output_shape: &[usize]) {
    let plan = plan(model, loss);
    let measuring = evaluation(&plan, ROWS, BATCH).unwrap();
    let mut measured = settled(&plan.loss, feeds(&measuring, &plan.loss, &numbers()));
    measured.insert("regatta.row_weights".into(), Tensor::floats(&[BATCH], ROW_WEIGHTS.to_vec()));
    let outputs = evaluate(&measuring.graph, &measured);
    let output = outputs[&measuring.output.as_ref().unwrap().name].clone();
    assert_eq!(output.shape, output_shape);
    let target = picked(&measured["regatta.target"], measured["regatta.indices"].as_ints());
    let case = Case { loss: plan.loss.clone(), output, target, row_weights: ROW_WEIGHTS.to_vec() };
    let classes = matches!(plan.loss, Loss::CrossEntropy(_));
    compare(&plan, &figures(&measuring, &outputs), &reference(&case), classes);

    let step = training_step(&plan).unwrap();
    let feeds = settled(&plan.loss, feeds(&step, &plan.loss, &numbers()));
    let found = figures(&step, &evaluate(&step.graph, &feeds));
    let sums = reference(&Case { row_weights: vec![1.0; BATCH], ..case });
    compare(&plan, &found, &Figures { loss: sums.loss / sums.weight, ..sums }, classes);
    check_gradients(&plan, &feeds, SEVERAL);
}

fn figures(program: &Program, outputs: &Tensors) -> [Option<f64>; 4] {
    [ResultRole::Loss, ResultRole::Weight, ResultRole::Correct, ResultRole::Counted]
        .map(|role| result(program, outputs, role))
}

/// What was measured; the loss always is, right answers for classes.
fn compare(plan: &StepPlan, found: &[Option<f64>; 4], expected: &Figures, classes: bool) {
    assert_eq!((found[0].is_some(), found[2].is_some()), (true, classes), "{:?}", plan.loss);
    let expected = [expected.loss, expected.weight, expected.correct, expected.counted];
    for (found, expected) in found.iter().zip(expected) {
        let Some(found) = found else { continue };
        assert!((found - expected).abs() < 1e-9, "{:?}: {found}, not {expected}", plan.loss);
    }
}

/// With the class weights and ignored positions of the losses' own tests.
fn settled(loss: &Loss, mut feeds: Tensors) -> Tensors {
    let Loss::CrossEntropy(form) = loss else { return feeds };
    if form.weighted {
        feeds.insert("regatta.class_weights".into(), Tensor::floats(&[CLASSES], CLASS_WEIGHTS.to_vec()));
    }
    let shape = feeds["regatta.target"].shape.clone();
    let classes = (0..shape.iter().product::<usize>() as i64).map(|at| match (at % 3, form.ignored) {
        (1, Some(ignored)) => ignored,
        _ => (at * 7 + 1) % 4,
    });
    feeds.insert("regatta.target".into(), Tensor::ints(&shape, classes.collect()));
    feeds
}

fn picked(target: &Tensor, rows: &[i64]) -> Tensor {
    let width: usize = target.shape[1..].iter().product();
    let shape = [&[rows.len()], &target.shape[1..]].concat();
    let places = rows.iter().flat_map(|&row| (0..width).map(move |at| row as usize * width + at));
    match &target.elements {
        Elements::Float(floats) => Tensor::floats(&shape, places.map(|at| floats[at]).collect()),
        Elements::Int(ints) => Tensor::ints(&shape, places.map(|at| ints[at]).collect()),
    }
}

fn numbers() -> Numbers {
    Numbers { label_smoothing: SMOOTHING, huber_delta: DELTA, ..Numbers::default() }
}

fn plan(model: &Model, loss: Loss) -> StepPlan {
    StepPlan { outputs: true, ..steps::plan(model.clone(), loss, (ROWS, BATCH)) }
}

fn rows() -> Model {
    Model::Mlp(Mlp {
        inputs: 3,
        hidden: vec![5],
        norm: Norm::None,
        activation: Activation::Tanh,
        dropout: false,
        outputs: CLASSES,
    })
}

fn decoder() -> Model {
    Model::Transformer(Transformer {
        input: Input::Tokens { length: 3, vocabulary: 4 },
        answer: Answer::NextToken,
        layers: 1,
        width: 4,
        heads: 2,
        norm: PositionNorm::Layer,
        ratio: 2,
        activation: Activation::Gelu,
        dropout: false,
    })
}

/// Two convolutions over this space, as a file that another program wrote.
fn convolutions(space: &[usize]) -> Model {
    let (kernel, point) = (vec![3; space.len()], vec![1; space.len()]);
    let mut graph = Graph::new(Provider::Cpu);
    let x = graph.input("image", Dtype::F32, &[&[BATCH, 2], space].concat()).unwrap();
    let hidden = convolved(&mut graph, x, &[&[5, 2], &kernel[..]].concat());
    let hidden = graph.tanh(hidden).unwrap();
    let y = convolved(&mut graph, hidden, &[&[CLASSES, 5], &point[..]].concat());
    graph.output(y);
    let file = ModelFile::read(&foreign(&graph.encode()), &Settings::default()).unwrap();
    let rows = [[&[2], space].concat()];
    let opened = file.opened(&rows, BATCH).unwrap();
    Model::Imported(Arc::new(file.closed(&rows, &[(BATCH, opened)]).unwrap()))
}

/// The model with none of the names that are kept for steps.
fn foreign(bytes: &[u8]) -> Vec<u8> {
    let mut model = ModelProto::decode(bytes).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let of_nodes = graph.node.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output));
    let of_initializers = graph.initializer.iter_mut().filter_map(|tensor| tensor.name.as_mut());
    let of_outputs = graph.output.iter_mut().filter_map(|output| output.name.as_mut());
    for name in of_nodes.chain(of_initializers).chain(of_outputs) {
        *name = name.replace("regatta.", "file.");
    }
    model.encode_to_vec()
}

fn convolved(graph: &mut Graph, x: Value, shape: &[usize]) -> Value {
    let elements = spread("kernel", shape, -0.5, 0.5).elements;
    let kernel = graph.constant(Constant { dtype: Dtype::F32, shape: shape.to_vec(), elements });
    let bias = spread("bias", &shape[..1], -0.5, 0.5).elements;
    let bias = graph.constant(Constant { dtype: Dtype::F32, shape: shape[..1].to_vec(), elements: bias });
    let pads = Attribute::Ints(vec![shape[2] as i64 / 2; 2 * (shape.len() - 2)]);
    graph.node("Conv", &[x, kernel, bias], &[("pads", pads)]).unwrap()
}
