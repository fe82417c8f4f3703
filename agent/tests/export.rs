//! Trained models as files: what ONNX Runtime makes of them is what the training measured.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

#[path = "support/library.rs"]
mod library;

use std::sync::Arc;

use library::{device, library};
use prost::Message;
use regatta_agent::runtime::{Array, Device, Interrupt, Runtime};
use regatta_agent::training::{
    Activation, BestBy, Dataset, Engine, Feature, Loss, ModelPlan, Norm, OptimizerPlan, Owner, Plan, Pool,
    PositionNorm, Split, Target, Training, Values,
};
use regatta_autodiff::import::Settings;
use regatta_autodiff::onnx::attribute_proto::AttributeType;
use regatta_autodiff::onnx::tensor_proto::DataType;
use regatta_autodiff::onnx::type_proto::Value as Kind;
use regatta_autodiff::onnx::{AttributeProto, GraphProto, ModelProto, NodeProto};
use regatta_checkpoint::{Affine, CheckpointError, Trained};

const SGD: OptimizerPlan =
    OptimizerPlan::Sgd { learning_rate: 0.05, momentum: 0.9, nesterov: false, weight_decay: 0.0 };
const CLASSES: usize = 3;

/// Rows of features of this shape whose classes can be told by their first numbers.
fn split(rows: usize, shape: &[usize], with_categories: bool) -> Split {
    let width: usize = shape.iter().product();
    let label = |row: usize| row % CLASSES;
    let number = |at: usize| {
        let (row, column) = (at / width, at % width);
        let noise = ((at * 7919 + row * 104_729) % 1000) as f32 / 1000.0 - 0.5;
        noise + if column % CLASSES == label(row) { 1.0 } else { 0.0 }
    };
    let values = Values::F32((0..rows * width).map(number).collect());
    let feature = |name: &str, shape, values, vocabulary| Feature {
        values,
        vocabulary,
        ..Feature::numbers(name, shape, Vec::new())
    };
    let mut features = vec![feature("features", shape.to_vec(), values, Vec::new())];
    if with_categories {
        let values = Values::I64((0..rows * 2).map(|at| (at % 4) as i64).collect());
        features.push(feature("categories", vec![2], values, vec![4, 4]));
    }
    let labels = (0..rows).map(|row| label(row) as i64).collect();
    Split { features, target: Target::classes(labels, Vec::new(), CLASSES) }
}

struct Row {
    name: &'static str,
    model: ModelPlan,
    shape: Vec<usize>,
    with_categories: bool,
}

fn rows() -> Vec<Row> {
    let activation = Activation::Gelu;
    let row = |name, model, shape: &[usize]| Row { name, model, shape: shape.to_vec(), with_categories: false };
    let cnn = |norm, global_pool| ModelPlan::Cnn {
        channels: vec![4, 8],
        layers: 1,
        kernel: 3,
        norm,
        activation,
        pool: Pool::Max,
        global_pool,
        hidden: vec![8],
        dropout: 0.1,
    };
    let transformer = |patch| ModelPlan::Transformer {
        decoder: false,
        layers: 2,
        width: 8,
        heads: 2,
        ratio: 2,
        norm: PositionNorm::Layer,
        patch,
        vocabulary: None,
        activation,
        dropout: 0.1,
    };
    let mut by_mean_square = transformer(None);
    if let ModelPlan::Transformer { norm, .. } = &mut by_mean_square {
        *norm = PositionNorm::Rms;
    }
    let resnet = ModelPlan::Resnet {
        blocks: vec![1, 1],
        width: 8,
        bottleneck: false,
        kernel: 3,
        norm: Norm::Batch,
        activation: Activation::Relu,
        dropout: 0.0,
    };
    let tabular = ModelPlan::Tabular { embedding: None, hidden: vec![8], norm: Norm::Layer, activation, dropout: 0.1 };
    vec![
        row("mlp", ModelPlan::Mlp { hidden: vec![16], norm: Norm::None, activation, dropout: 0.2 }, &[12]),
        row("cnn with batch norm", cnn(Norm::Batch, true), &[1, 8, 8]),
        row("cnn with group norm", cnn(Norm::Group, false), &[1, 8, 8]),
        row("cnn of sequences", cnn(Norm::Layer, false), &[2, 8]),
        row("resnet", resnet, &[2, 8, 8]),
        row("transformer of sequences", transformer(None), &[6, 4]),
        row("transformer by the mean square", by_mean_square, &[6, 4]),
        row(
            "mlp with batch norm",
            ModelPlan::Mlp { hidden: vec![16], norm: Norm::Batch, activation, dropout: 0.2 },
            &[12],
        ),
        row("transformer of images", transformer(Some(4)), &[1, 8, 8]),
        Row { with_categories: true, ..row("tabular", tabular, &[6]) },
    ]
}

#[test]
fn exported_family_gives_the_validation_loss_and_accuracy_of_its_training() {
    for Row { name, model, shape, with_categories } in rows() {
        for average in [None, Some(0.9)] {
            let mut data =
                Dataset { train: split(60, &shape, with_categories), validation: split(31, &shape, with_categories) };
            let parts = if average.is_some() { shape[0] } else { shape.iter().product() };
            normalize(&mut data, if name == "mlp" { 1 } else { parts });
            let data = Arc::new(data);
            let plan = Plan { average, ..Plan::new(model.clone(), Loss::cross_entropy(), SGD, 10, 3) };
            let mut engine = Engine::new(&library(), device(), 1).unwrap();
            let mut training = engine.start(&plan, &data, None).unwrap();
            for _ in 0..12 {
                training.train_step().unwrap();
            }
            let metrics = training.evaluate().unwrap();

            let trained = Trained::read(&training.checkpoint().unwrap()).unwrap();
            let onnx = trained.onnx(None).unwrap();
            assert!(String::from_utf8_lossy(&onnx).contains(r#"[{"name":"features","shape":["#), "{name}");
            // The validation rows in two runs of other sizes than the training's batch.
            let (loss, accuracy) = measure(&onnx, &data.validation, &[13, 18]);
            let wanted = metrics["validation_loss"];
            assert!((loss - wanted).abs() < 1e-5 * wanted.max(1.0), "{name} {average:?}: {loss} and not {wanted}");
            assert!((accuracy - metrics["validation_accuracy"]).abs() < 1e-9, "{name}: {accuracy} {metrics:?}");

            let onnx = trained.onnx_of_raw_inputs(None).unwrap();
            let (loss, _) = measure(&onnx, &raw(&data.validation), &[13, 18]);
            assert!((loss - wanted).abs() < 1e-4 * wanted.max(1.0), "{name} of raw numbers: {loss} and not {wanted}");
        }
    }
}

/// As though the numbers had been others, and each of so many equal parts of a row had figures of its own.
fn normalize(data: &mut Dataset, parts: usize) {
    let figures = |first: f32, step: f32| (0..parts).map(|part| first + step * (part % 5) as f32).collect();
    for split in [&mut data.train, &mut data.validation] {
        split.features[0].normalized = Some(Affine { offset: figures(-1.0, 0.7), factor: figures(0.5, 0.25) });
    }
}

/// The rows before they were normalised.
fn raw(split: &Split) -> Split {
    let mut raw = split.clone();
    let feature = &mut raw.features[0];
    let (width, Some(Affine { offset, factor })) = (feature.width(), feature.normalized.clone()) else {
        panic!("none")
    };
    let Values::F32(values) = &mut feature.values else { panic!("numbers") };
    for (at, value) in values.iter_mut().enumerate() {
        let part = at % width / (width / offset.len());
        *value = *value / factor[part] + offset[part];
    }
    raw
}

#[test]
fn exported_file_of_ones_own_gives_the_validation_loss_of_its_training() {
    let data = Arc::new(Dataset { train: split(60, &[12], false), validation: split(31, &[12], false) });
    let mut engine = Engine::new(&library(), device(), 1).unwrap();
    let family = ModelPlan::Mlp { hidden: vec![16], norm: Norm::None, activation: Activation::Tanh, dropout: 0.0 };
    let mut training = engine.start(&Plan::new(family, Loss::cross_entropy(), SGD, 10, 3), &data, None).unwrap();
    let file = Trained::read(&training.checkpoint().unwrap()).unwrap().onnx(None).unwrap();
    drop(training);

    let model = ModelPlan::File { onnx: Arc::new(file.clone()), settings: Settings::default(), dropout: None };
    let plan = Plan { average: Some(0.5), ..Plan::new(model, Loss::cross_entropy(), SGD, 10, 3) };
    let mut training = engine.start(&plan, &data, None).unwrap();
    for _ in 0..12 {
        training.train_step().unwrap();
    }
    let wanted = training.evaluate().unwrap()["validation_loss"];
    let trained = Trained::read(&training.checkpoint().unwrap()).unwrap();
    assert_eq!(trained.onnx(None), Err(CheckpointError::NoFile));
    let (loss, _) = measure(&trained.onnx(Some(&file)).unwrap(), &data.validation, &[31]);
    assert!((loss - wanted).abs() < 1e-5 * wanted.max(1.0), "{loss} and not {wanted}");
    let (before, _) = measure(&file, &data.validation, &[31]);
    assert!((before - wanted).abs() > 1e-2, "training changed the loss: {before} {wanted}");
}

#[test]
fn exported_file_drops_nothing() {
    const FILE_CLASSES: usize = 5;
    let shape = [3, 16, 16];
    let split = |rows: usize| {
        let labels = (0..rows).map(|row| (row % FILE_CLASSES) as i64).collect();
        Split { target: Target::classes(labels, Vec::new(), FILE_CLASSES), ..split(rows, &shape, false) }
    };
    let data = Arc::new(Dataset { train: split(12), validation: split(4) });
    let mut engine = Engine::new(&library(), device(), 1).unwrap();
    for name in ["dropouts.dynamo", "dropouts.torchscript", "channel_dropouts.dynamo"] {
        let file = std::fs::read(format!("{}/tests/golden/{name}.onnx", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let model = ModelPlan::File { onnx: Arc::new(file.clone()), settings: Settings::default(), dropout: Some(0.4) };
        let plan = Plan::new(model, Loss::cross_entropy(), SGD, 4, 3);
        let mut training = engine.start(&plan, &data, None).unwrap();
        for _ in 0..6 {
            training.train_step().unwrap();
        }
        let wanted = training.evaluate().unwrap()["validation_loss"];
        let trained = Trained::read(&training.checkpoint().unwrap()).unwrap();
        let onnx = trained.onnx(Some(&file)).unwrap();
        let draws = |node: &NodeProto| ["RandomUniformLike", "Bernoulli"].contains(&node.op_type());
        assert_eq!(graph(&file).node.iter().any(draws), name.starts_with("channel"), "{name}");
        assert!(!graph(&onnx).node.iter().any(draws), "{name}");
        for _ in 0..2 {
            let (loss, _) = measure(&onnx, &data.validation, &[4]);
            assert!((loss - wanted).abs() < 1e-5 * wanted.max(1.0), "{name}: {loss} and not {wanted}");
        }
    }
}

#[test]
fn file_that_takes_bytes_trains_on_numbers_that_are_not_normalised() {
    let golden = std::fs::read(format!("{}/tests/golden/mlp.dynamo-batch.onnx", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut model = ModelProto::decode(&golden[..]).unwrap();
    let parts = model.graph.as_mut().unwrap();
    let input = &mut parts.input[0];
    let (name, whole) = (input.name().to_owned(), "bytes".to_owned());
    input.name = Some(whole.clone());
    let Some(Kind::TensorType(tensor)) = &mut input.r#type.as_mut().unwrap().value else { panic!("a tensor") };
    let width = tensor.shape.as_ref().unwrap().dim.len();
    assert_eq!((tensor.elem_type.replace(DataType::Uint8 as i32), width), (Some(DataType::Float as i32), 2));
    let to = AttributeProto {
        name: Some("to".into()),
        i: Some(DataType::Float as i64),
        r#type: Some(AttributeType::Int as i32),
        ..Default::default()
    };
    let cast = NodeProto {
        op_type: Some("Cast".into()),
        input: vec![whole],
        output: vec![name],
        attribute: vec![to],
        ..Default::default()
    };
    parts.node.insert(0, cast);
    let file = model.encode_to_vec();

    let bytes = |rows: usize| {
        let values = Values::U8((0..rows * 12).map(|at| (at * 31 % 251) as u8).collect());
        let features = vec![Feature { values, ..Feature::numbers("bytes", vec![12], Vec::new()) }];
        Split { features, target: Target::classes((0..rows).map(|row| (row % 5) as i64).collect(), Vec::new(), 5) }
    };
    let mut data = Dataset { train: bytes(20), validation: bytes(6) };
    let model = ModelPlan::File { onnx: Arc::new(file.clone()), settings: Settings::default(), dropout: None };
    let sgd = OptimizerPlan::Sgd { learning_rate: 1e-4, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let plan = Plan::new(model, Loss::cross_entropy(), sgd, 5, 3);
    let mut engine = Engine::new(&library(), device(), 1).unwrap();
    let mut training = engine.start(&plan, &Arc::new(data.clone()), None).unwrap();
    let before = training.evaluate().unwrap()["validation_loss"];
    for _ in 0..4 {
        training.train_step().unwrap();
    }
    let wanted = training.evaluate().unwrap()["validation_loss"];
    assert!((wanted - before).abs() > 1e-3, "{before} {wanted}");
    let trained = Trained::read(&training.checkpoint().unwrap()).unwrap();
    drop(training);
    assert_eq!(graph(&trained.onnx(Some(&file)).unwrap()).input, graph(&file).input);
    // What takes numbers has weights of the same names.
    let onnx = trained.onnx(Some(&golden)).unwrap();
    let mut numbers = data.validation.clone();
    let Values::U8(bytes) = &numbers.features[0].values else { panic!("bytes") };
    numbers.features[0].values = Values::F32(bytes.iter().map(|&byte| f32::from(byte)).collect());
    let (loss, _) = measure(&onnx, &numbers, &[6]);
    assert!((loss - wanted).abs() < 1e-5 * wanted.max(1.0), "{loss} and not {wanted}");

    normalize(&mut data, 1);
    let error = engine.start(&plan, &Arc::new(data), None).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("set `data.normalize: none`"), "{error}");
}

#[test]
fn the_weights_that_measured_best_are_kept_beside_the_last() {
    // Of noise there is nothing to learn: the validation loss falls at first at most.
    let noise = |rows: usize, first: usize| {
        let labels = (first..first + rows).map(|row| (row * 7919 % 101 % CLASSES) as i64).collect();
        Split { target: Target::classes(labels, Vec::new(), CLASSES), ..split(rows, &[12], false) }
    };
    let data = Arc::new(Dataset { train: noise(60, 0), validation: noise(31, 60) });
    let mut engine = Engine::new(&library(), device(), 1).unwrap();
    let owner = |trial: &str, attempt: &str| Owner { trial: trial.into(), attempt: attempt.into() };
    for average in [None, Some(0.5)] {
        let family = ModelPlan::Mlp { hidden: vec![32], norm: Norm::None, activation: Activation::Tanh, dropout: 0.1 };
        let by = |metric: &str| Some(BestBy { metric: metric.into(), is_greater_better: false });
        let plan =
            Plan { average, best_by: by("validation_loss"), ..Plan::new(family, Loss::cross_entropy(), SGD, 10, 3) };
        let epoch = |training: &mut Training<'_>| {
            while !training.train_step().unwrap().epoch_finished {}
            training.evaluate().unwrap()["validation_loss"]
        };
        let mut training = engine.start(&plan, &data, None).unwrap();
        training.sign(owner("a", "1"));
        let mut losses: Vec<f64> = (0..12).map(|_| epoch(&mut training)).collect();
        let half = training.checkpoint().unwrap();
        drop(training);

        // Another attempt knows what measured best in the one before.
        let mut training = engine.start(&plan, &data, Some(&half)).unwrap();
        training.sign(owner("a", "2"));
        losses.extend((0..3).map(|_| epoch(&mut training)));
        let best = (0..losses.len()).min_by(|one, other| losses[*one].total_cmp(&losses[*other])).unwrap();
        assert!(best < 12 && losses[best] + 0.01 < losses[14], "it gets worse: {losses:?}");
        let trained = Trained::read(&training.checkpoint().unwrap()).unwrap();
        drop(training);
        assert_eq!(trained.best_epoch(), Some(best as u64 + 1));
        for (trained, wanted) in [(trained.clone(), losses[14]), (trained.at_best(), losses[best])] {
            let (loss, _) = measure(&trained.onnx(None).unwrap(), &data.validation, &[31]);
            assert!((loss - wanted).abs() < 1e-5, "{average:?}: {loss} and not {wanted}");
        }

        // Another trial that goes on from it has a best of its own.
        let mut training = engine.start(&plan, &data, Some(&half)).unwrap();
        training.sign(owner("b", "1"));
        let losses: Vec<f64> = (0..3).map(|_| epoch(&mut training)).collect();
        let trained = Trained::read(&training.checkpoint().unwrap()).unwrap();
        drop(training);
        let best = (0..3).min_by(|one, other| losses[*one].total_cmp(&losses[*other])).unwrap();
        assert_eq!(trained.best_epoch(), Some(12 + best as u64 + 1));

        let plan = Plan { best_by: by("what_nobody_measures"), ..plan };
        let mut training = engine.start(&plan, &data, None).unwrap();
        epoch(&mut training);
        assert_eq!(Trained::read(&training.checkpoint().unwrap()).unwrap().best_epoch(), None);
    }
}

#[test]
fn exported_file_says_what_its_columns_and_classes_are_called() {
    let mut data = Dataset { train: split(30, &[2], false), validation: split(12, &[2], false) };
    for split in [&mut data.train, &mut data.validation] {
        split.features[0].columns = vec!["length".into(), "width".into()];
        let Target::Classes { names, .. } = &mut split.target else { panic!("classes") };
        *names = ["maybe", "no", "yes"].map(str::to_owned).to_vec();
    }
    let mut engine = Engine::new(&library(), device(), 1).unwrap();
    let family = ModelPlan::Mlp { hidden: vec![4], norm: Norm::None, activation: Activation::Tanh, dropout: 0.0 };
    let plan = Plan::new(family, Loss::cross_entropy(), SGD, 10, 3);
    let checkpoint = engine.start(&plan, &Arc::new(data), None).unwrap().checkpoint().unwrap();
    let onnx = Trained::read(&checkpoint).unwrap().onnx(None).unwrap();
    let told = |key: &str| {
        let model = ModelProto::decode(&onnx[..]).unwrap();
        let entry = model.metadata_props.into_iter().find(|entry| entry.key() == key).unwrap();
        entry.value().to_owned()
    };
    assert_eq!(told("regatta.classes"), r#"["maybe","no","yes"]"#);
    assert_eq!(told("regatta.inputs"), r#"[{"name":"features","shape":[2],"columns":["length","width"]}]"#);
}

#[test]
fn what_is_no_checkpoint_exports_nothing() {
    let unreadable = |bytes: &[u8]| matches!(Trained::read(bytes), Err(CheckpointError::Unreadable { .. }));
    assert!(unreadable(b""));
    assert!(unreadable(b"not a checkpoint at all"));
    let empty = safetensors::serialize(std::iter::empty::<(&str, safetensors::tensor::TensorView<'_>)>(), None);
    assert!(unreadable(&empty.unwrap()));
}

/// The mean cross-entropy and the share of right answers of the model in runs of so many rows each.
fn measure(onnx: &[u8], split: &Split, runs: &[usize]) -> (f64, f64) {
    let runtime = Runtime::load(&library(), Device::Cpu, 1).unwrap();
    let mut compiled = runtime.compile(onnx).unwrap();
    let names: Vec<String> = graph(onnx).input.iter().map(|input| input.name().to_owned()).collect();
    let Target::Classes { labels, classes, .. } = &split.target else { panic!("classes") };
    let (mut loss, mut right, mut first) = (0.0, 0.0, 0);
    for &rows in runs {
        let mut bindings = compiled.bindings().unwrap();
        for (feature, name) in split.features.iter().zip(&names) {
            let (width, shape) = (feature.width(), [&[rows], feature.shape.as_slice()].concat());
            let range = first * width..(first + rows) * width;
            let array = match &feature.values {
                Values::F32(values) => Array::F32(values[range].to_vec()),
                Values::I64(values) => Array::I64(values[range].to_vec()),
                Values::U8(_) => panic!("no images here"),
            };
            bindings.input(name, &compiled.tensor(&shape, &array).unwrap()).unwrap();
        }
        let mut output = compiled.tensor(&[rows, *classes], &Array::F32(vec![0.0; rows * classes])).unwrap();
        bindings.output("output", &mut output).unwrap();
        compiled.run(&bindings, &Interrupt::new().unwrap()).unwrap();
        let Array::F32(logits) = output.read().unwrap() else { panic!("floats") };
        for (logits, &label) in logits.chunks(*classes).zip(&labels[first..]) {
            let logits: Vec<f64> = logits.iter().map(|&logit| f64::from(logit)).collect();
            let label = usize::try_from(label).unwrap();
            let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
            loss += total.ln() - logits[label];
            right += f64::from(u8::from(logits.iter().all(|logit| *logit <= logits[label])));
        }
        first += rows;
    }
    (loss / first as f64, right / first as f64)
}

fn graph(onnx: &[u8]) -> GraphProto {
    ModelProto::decode(onnx).unwrap().graph.unwrap()
}
