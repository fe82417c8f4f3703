//! Models whose outputs have other axes train, are measured and are exported alike.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

#[path = "support/library.rs"]
mod library;

use std::sync::Arc;

use library::{device, library};
use prost::Message;
use regatta_agent::runtime::{Array, Device, Interrupt, Runtime};
use regatta_agent::training::{
    Activation, Dataset, Engine, Feature, Loss, Metric, Metrics, ModelPlan, Norm, OptimizerPlan, Plan, Split, Target,
    TrainingError, Values,
};
use regatta_autodiff::import::Settings;
use regatta_autodiff::onnx::attribute_proto::AttributeType;
use regatta_autodiff::onnx::{AttributeProto, ModelProto, NodeProto, TensorProto, tensor_proto, type_proto};
use regatta_checkpoint::Trained;

const SGD: OptimizerPlan =
    OptimizerPlan::Sgd { learning_rate: 0.05, momentum: 0.9, nesterov: false, weight_decay: 0.0 };
const WIDTH: usize = 6;
const VALIDATION_ROWS: usize = 31;

/// An operator that takes the model's outputs, and the whole numbers that are its second input; a transposition's are
/// its attribute.
type Then = (&'static str, Vec<i64>);

/// What is to be told of a row.
type OfARow = fn(usize) -> f32;

#[test]
fn number_of_a_row_needs_no_axis_of_its_own() {
    let numbers = |row: usize| number(row) * 2.0 - 0.5;
    let answers = |row: usize| f32::from(u8::from(number(row) > 0.1));
    let of_numbers = [Metric::MeanAbsoluteError, Metric::R2];
    let of_answers = [Metric::Accuracy, Metric::F1, Metric::Auroc];
    let rows: [(Loss, OfARow, &[Metric]); 4] = [
        (Loss::MeanSquaredError, numbers, &of_numbers),
        (Loss::MeanAbsoluteError, numbers, &of_numbers),
        (Loss::Huber { delta: 0.3 }, numbers, &of_numbers),
        (Loss::BinaryCrossEntropy, answers, &of_answers),
    ];
    let (column, flat) = (file(1, &[]), file(1, &[("Squeeze", vec![-1])]));
    for (loss, value, metrics) in rows {
        let target = |rows: usize| Target::Values { values: (0..rows).map(value).collect(), shape: vec![1] };
        let data = data(target);
        let (expected, _) = trained(&column, &loss, metrics, &data);
        let (found, checkpoint) = trained(&flat, &loss, metrics, &data);
        alike(&found, &expected);
        assert_eq!(found.len(), 1 + metrics.len(), "{found:?}");

        let onnx = Trained::read(&checkpoint).unwrap().onnx(Some(&flat)).unwrap();
        let outputs = run(&onnx, &data.validation, &[VALIDATION_ROWS]);
        if let (Target::Values { values, .. }, Some(error)) =
            (&data.validation.target, found.get("validation_mean_absolute_error"))
        {
            let sum: f32 = outputs.iter().zip(values).map(|(output, value)| (output - value).abs()).sum();
            assert!((f64::from(sum) / VALIDATION_ROWS as f64 - error).abs() < 1e-5);
        }
    }
}

#[test]
fn classes_of_places_may_be_the_first_axis_or_the_last() {
    let metrics = [Metric::Top5Accuracy, Metric::F1, Metric::Auroc];
    for (places, classes) in [(5, 7), (7, 5)] {
        // The model knows a class more than the data has.
        let data = labelled(places, classes - 1);
        let first = file(classes * places, &[("Reshape", vec![-1, classes as i64, places as i64])]);
        let last = with_classes_last(places, classes);
        let (expected, _) = trained(&first, &Loss::cross_entropy(), &metrics, &data);
        let (found, checkpoint) = trained(&last, &Loss::cross_entropy(), &metrics, &data);
        alike(&found, &expected);
        assert_eq!(found.len(), 2 + metrics.len(), "{found:?}");
        check_accuracy(&found, &last, &checkpoint, &data, (places, classes));
    }
}

#[test]
fn as_many_places_as_classes_need_it_said_that_the_classes_are_last() {
    let (data, last) = (labelled(6, 6), with_classes_last(6, 6));
    let mut engine = Engine::new(&library(), device(), 1).unwrap();
    let refused = engine.start(&plan(&last, &Loss::cross_entropy(), &[]), &data, None);
    assert!(matches!(refused, Err(TrainingError::Configuration { .. })));

    let said = Loss::CrossEntropy { smoothing: 0.0, class_weights: None, ignored: None, classes_last: true };
    let (found, checkpoint) = trained(&last, &said, &[], &data);
    check_accuracy(&found, &last, &checkpoint, &data, (6, 6));
}

#[test]
fn labels_that_are_ignored_may_be_any_number() {
    let (places, classes) = (5, 4);
    let onnx = file(classes * places, &[("Reshape", vec![-1, classes as i64, places as i64])]);
    // A class of its own is one number that is ignored, a number that no class has is another.
    let of = |ignored: i64, smoothing: f64, class_weights: Option<Vec<f32>>| {
        let mut data = Arc::unwrap_or_clone(labelled(places, classes));
        for split in [&mut data.train, &mut data.validation] {
            let Target::Classes { labels, .. } = &mut split.target else { panic!("classes") };
            labels.iter_mut().step_by(3).for_each(|label| *label = ignored);
            labels.iter_mut().filter(|label| **label == 2).for_each(|label| *label = ignored);
        }
        let loss = Loss::CrossEntropy { smoothing, class_weights, ignored: Some(ignored), classes_last: false };
        trained(&onnx, &loss, &[Metric::F1], &Arc::new(data)).0
    };
    for (smoothing, weights) in [(0.0, None), (0.1, Some(vec![1.0, 2.0, 1.0, 0.5]))] {
        let expected = of(2, smoothing, weights.clone());
        for ignored in [-100, 255] {
            assert_eq!(of(ignored, smoothing, weights.clone()), expected, "{ignored}");
        }
    }
}

/// What the exported model answers is right as often as its training said.
fn check_accuracy(
    measured: &Metrics,
    file: &[u8],
    checkpoint: &[u8],
    data: &Dataset,
    (places, classes): (usize, usize),
) {
    let onnx = Trained::read(checkpoint).unwrap().onnx(Some(file)).unwrap();
    let outputs = run(&onnx, &data.validation, &[VALIDATION_ROWS, places, classes]);
    let Target::Classes { labels, .. } = &data.validation.target else { panic!("classes") };
    let answer = |logits: &[f32]| (0..classes).max_by(|one, other| logits[*one].total_cmp(&logits[*other])).unwrap();
    let right = outputs.chunks(classes).zip(labels).filter(|(logits, label)| answer(logits) as i64 == **label).count();
    let share = right as f64 / labels.len() as f64;
    assert!((share - measured["validation_accuracy"]).abs() < 1e-6, "{share} and not {measured:?}");
}

/// Outputs `[places, classes]` by the same weights as if they were `[classes, places]`.
fn with_classes_last(places: usize, classes: usize) -> Vec<u8> {
    let reshaped = ("Reshape", vec![-1, classes as i64, places as i64]);
    file(classes * places, &[reshaped, ("Transpose", vec![0, 2, 1])])
}

/// At each place, in which of as many equal parts as there are classes one of the row's features is.
fn labelled(places: usize, classes: usize) -> Arc<Dataset> {
    let label = |at: usize| {
        let (row, place) = (at / places, at % places);
        ((feature(row * WIDTH + place % WIDTH) + 0.5) * classes as f32) as i64
    };
    data(|rows| Target::classes((0..rows * places).map(label).collect(), vec![places], classes))
}

/// Of a row of features: something that can be learned.
fn number(row: usize) -> f32 {
    feature(row * WIDTH) - feature(row * WIDTH + 1)
}

fn feature(at: usize) -> f32 {
    (at * 7919 % 1009) as f32 / 1009.0 - 0.5
}

fn data(target: impl Fn(usize) -> Target) -> Arc<Dataset> {
    let split = |rows: usize| {
        let features = (0..rows * WIDTH).map(feature).collect();
        Split { features: vec![Feature::numbers("features", vec![WIDTH], features)], target: target(rows) }
    };
    Arc::new(Dataset { train: split(60), validation: split(VALIDATION_ROWS) })
}

fn plan(onnx: &[u8], loss: &Loss, metrics: &[Metric]) -> Plan {
    let model = ModelPlan::File { onnx: Arc::new(onnx.to_vec()), settings: Settings::default(), dropout: None };
    Plan { metrics: metrics.to_vec(), ..Plan::new(model, loss.clone(), SGD, 10, 3) }
}

/// What is measured after twelve steps that were measured themselves, and the checkpoint.
fn trained(onnx: &[u8], loss: &Loss, metrics: &[Metric], data: &Arc<Dataset>) -> (Metrics, Vec<u8>) {
    let mut engine = Engine::new(&library(), device(), 1).unwrap();
    let mut training = engine.start(&plan(onnx, loss, metrics), data, None).unwrap();
    let before = training.evaluate().unwrap()["validation_loss"];
    for _ in 0..12 {
        training.train_step().unwrap();
    }
    let metrics = training.evaluate().unwrap();
    assert!(metrics["validation_loss"] < before, "nothing was learned of {loss:?}: {before} {metrics:?}");
    (metrics, training.checkpoint().unwrap())
}

fn alike(found: &Metrics, expected: &Metrics) {
    assert!(found.keys().eq(expected.keys()), "{found:?} and not {expected:?}");
    for (name, expected) in expected {
        assert!((found[name] - expected).abs() < 1e-5, "{name}: {} and not {expected}", found[name]);
    }
}

/// A small network with so many outputs, which go through these operators then.
fn file(outputs: usize, then: &[Then]) -> Vec<u8> {
    let target = |rows: usize| Target::Values { values: vec![0.0; rows * outputs], shape: vec![outputs] };
    let family = ModelPlan::Mlp { hidden: vec![8], norm: Norm::None, activation: Activation::Tanh, dropout: 0.0 };
    let mut engine = Engine::new(&library(), Device::Cpu, 1).unwrap();
    let plan = Plan::new(family, Loss::MeanSquaredError, SGD, 10, 3);
    let checkpoint = engine.start(&plan, &data(target), None).unwrap().checkpoint().unwrap();
    let mut model = ModelProto::decode(&Trained::read(&checkpoint).unwrap().onnx(None).unwrap()[..]).unwrap();
    let graph = model.graph.as_mut().unwrap();
    for (at, (operator, numbers)) in then.iter().enumerate() {
        let (before, second) = (format!("before {at}"), format!("second {at}"));
        for output in graph.node.iter_mut().flat_map(|node| &mut node.output).filter(|name| *name == "output") {
            output.clone_from(&before);
        }
        let mut node = NodeProto {
            op_type: Some((*operator).to_owned()),
            input: vec![before],
            output: vec!["output".to_owned()],
            ..NodeProto::default()
        };
        if *operator == "Transpose" {
            node.attribute.push(AttributeProto {
                name: Some("perm".to_owned()),
                r#type: Some(AttributeType::Ints as i32),
                ints: numbers.clone(),
                ..AttributeProto::default()
            });
        } else {
            graph.initializer.push(TensorProto {
                name: Some(second.clone()),
                dims: vec![numbers.len() as i64],
                data_type: Some(tensor_proto::DataType::Int64 as i32),
                int64_data: numbers.clone(),
                ..TensorProto::default()
            });
            node.input.push(second);
        }
        graph.node.push(node);
        let Some(type_proto::Value::TensorType(told)) = &mut graph.output[0].r#type.as_mut().unwrap().value else {
            panic!("no tensor")
        };
        told.shape = None;
    }
    model.encode_to_vec()
}

/// The outputs of a model for all rows.
fn run(onnx: &[u8], split: &Split, shape: &[usize]) -> Vec<f32> {
    let runtime = Runtime::load(&library(), Device::Cpu, 1).unwrap();
    let mut compiled = runtime.compile(onnx).unwrap();
    let Values::F32(features) = &split.features[0].values else { panic!("numbers") };
    let features = compiled.tensor(&[shape[0], WIDTH], &Array::F32(features.clone())).unwrap();
    let mut output = compiled.tensor(shape, &Array::F32(vec![0.0; shape.iter().product()])).unwrap();
    let mut bindings = compiled.bindings().unwrap();
    bindings.input("features", &features).unwrap();
    bindings.output("output", &mut output).unwrap();
    compiled.run(&bindings, &Interrupt::new().unwrap()).unwrap();
    let Array::F32(numbers) = output.read().unwrap() else { panic!("floats") };
    numbers
}
