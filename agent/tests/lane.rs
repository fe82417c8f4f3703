//! A lane trains what an offer asks for, on a thread of its own, and tells of it.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

#[path = "support/thread.rs"]
mod thread;

use std::sync::Arc;
use std::time::Duration;

use regatta_agent::agent::Ending;
use regatta_agent::lane::{Assignment, Material, Report};
use regatta_agent::training::{Dataset, Feature, Source, Split, Stream, Target};
use regatta_schemas::reasons::FailCause;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// A model file for batches of four images of 3 x 16 x 16, of which the exporter has taken the normalisation out.
const FILE: &[u8] = include_bytes!("golden/dropouts.dynamo-eval.onnx");

#[test]
fn a_trial_of_a_model_file_begins_with_what_is_to_be_known_of_it() {
    let model = json!({"family": "onnx", "file": "dropouts.onnx"});
    let first = trained(&model, Source::from(&images(18)), 2, None);

    assert_eq!(first.resource, 2);
    let notices = |lines: &[String]| lines.iter().filter(|line| line.starts_with("model: ")).count();
    assert!(first.lines[0].contains("export it in train() mode"), "{:?}", first.lines);
    assert_eq!(notices(&first.lines), 1);
    assert_eq!(first.lines.iter().filter(|line| line.starts_with("epoch ")).count(), 2);

    let resume = Some((first.checkpoint.unwrap(), Duration::ZERO));
    let second = trained(&model, Source::from(&images(18)), 3, resume);
    assert_eq!((second.resource, notices(&second.lines)), (3, 0));
}

#[test]
fn a_trial_of_streamed_images_goes_on_where_it_was() {
    let model = json!({"family": "cnn", "channels": [4], "dropout": 0.1});
    let stream = Source::from(&streamed(&images(18)));
    let whole = trained(&model, stream.clone(), 4, None);
    let first = trained(&model, stream.clone(), 2, None);
    let resumed = trained(&model, stream, 4, Some((first.checkpoint.unwrap(), Duration::ZERO)));

    assert_eq!(whole.losses.len(), 4);
    assert_eq!([first.losses, resumed.losses].concat(), whole.losses);
    assert_eq!(resumed.checkpoint, whole.checkpoint);
}

#[test]
fn a_trial_that_is_over_its_time_is_broken_off_in_the_middle_of_an_epoch() {
    let model = json!({"family": "cnn", "channels": [64, 64]});
    let mut told = Told { lines: Vec::new(), losses: Vec::new(), checkpoint: None, resource: 0 };
    let ending = assigned(&model, Source::from(&images(4_000)), 3, None, Some(0.05), &mut told);
    assert!(matches!(ending, Ending::Failed { cause: FailCause::TimeLimit, .. }), "{ending:?}");
    assert_eq!(told.losses, Vec::<f64>::new(), "its first epoch did not end");
}

/// All that a lane said of a trial.
struct Told {
    lines: Vec<String>,
    losses: Vec<f64>,
    checkpoint: Option<Vec<u8>>,
    resource: u32,
}

fn trained(model: &Value, data: Source, resource: u32, resume: Option<(Vec<u8>, Duration)>) -> Told {
    let mut told = Told { lines: Vec::new(), losses: Vec::new(), checkpoint: None, resource: 0 };
    match assigned(model, data, resource, resume, None, &mut told) {
        Ending::Finished { resource, .. } => told.resource = resource,
        ending => panic!("{ending:?}"),
    }
    told
}

/// What a lane tells of a training, and how that ended.
fn assigned(
    model: &Value,
    data: Source,
    resource: u32,
    resume: Option<(Vec<u8>, Duration)>,
    time_limit_s: Option<f64>,
    told: &mut Told,
) -> Ending {
    let (sender, mut receiver) = mpsc::channel(100);
    let lane = thread::lane(sender);
    let offer = json!({
        "type": "offer",
        "study": "s",
        "trial": 1,
        "attempt": 1,
        "params": {},
        "recipe": {
            "data": {"file": "images.zip", "format": "images", "task": "classification", "target": "y"},
            "model": model,
            "loss": "cross_entropy",
            "optimizer": {"name": "adam", "learning_rate": 0.01},
            "batch_size": 4,
            "augment": [
                {"name": "shift", "pixels": 1},
                {"name": "flip"},
                {"name": "noise", "deviation": 0.1},
                {"name": "mixup", "alpha": 0.2},
            ],
            "checkpoint": {"at_end": true},
            "time_limit_s": time_limit_s,
        },
        "resource": resource,
        "seed": 3,
    });
    let offer = Box::new(serde_json::from_value(offer).unwrap());
    let material = Material::Training { data, model: Some(Arc::new(FILE.to_vec())) };
    assert!(lane.assign(Assignment { offer, material, resume }));

    loop {
        match receiver.blocking_recv().unwrap().1 {
            Report::Line(line) => told.lines.push(line),
            Report::Measured(point) => told.losses.push(point.metrics["validation_loss"]),
            Report::Checkpoint(snapshot) => told.checkpoint = Some(snapshot.bytes),
            Report::Ended(ending) => return ending,
        }
    }
}

/// Images that are brighter in one colour.
fn images(train: usize) -> Arc<Dataset> {
    let split = |rows: usize| {
        let labels: Vec<i64> = (0..rows as i64).map(|row| row % 3).collect();
        let light = |at: usize| {
            let (row, colour) = (at / 768, at / 256 % 3);
            let base = if colour == labels[row] as usize { 1.0 } else { 0.0 };
            base + (at * 7919 % 1009) as f32 / 1009.0
        };
        let feature = Feature::numbers("images", vec![3, 16, 16], (0..rows * 768).map(light).collect());
        Split { features: vec![feature], target: Target::classes(labels, vec![], 3) }
    };
    Arc::new(Dataset { train: split(train), validation: split(4) })
}

/// The same rows in blocks of three.
fn streamed(data: &Arc<Dataset>) -> Arc<Stream> {
    let train = data.train.clone();
    let read = move |block: usize| {
        let mut part = train.emptied();
        part.append(&train, &(block * 3..block * 3 + 3).collect::<Vec<_>>());
        Ok(part)
    };
    Arc::new(Stream::new(data.validation.clone(), (0..6).map(|block| (block, 3)).collect(), Box::new(read)))
}
