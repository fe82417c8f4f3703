//! Whatever a file or a checkpoint holds, the decoders answer with what it says or with why not: they never panic, and
//! memory that a file only claims to fill is never set aside.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "support/files.rs"]
mod files;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Once;

use files::{data, npy, npz, tar};
use image::{ImageFormat, Rgb, RgbImage};
use proptest::prelude::*;
use regatta_agent::data::{Store, stream};
use regatta_autodiff::import::{ModelFile, Settings};
use regatta_checkpoint::{AVERAGE, KEY, MODEL, Trained, VERSION};
use regatta_schemas::recipe::{Columns, Data, DataFormat, Task};
use rustix::process::{Resource, Rlimit, setrlimit};
use safetensors::tensor::TensorView;
use serde_json::json;

/// The address space of this whole process: a decoder that asks for what a damaged header claims breaks off the test.
const ADDRESS_SPACE_BYTES: u64 = 3 << 30;

/// 256 cases; `PROPTEST_CASES` asks for more, as `scripts/soak` does.
fn config() -> ProptestConfig {
    static LIMITED: Once = Once::new();
    LIMITED.call_once(|| {
        let limit = Some(ADDRESS_SPACE_BYTES);
        setrlimit(Resource::As, Rlimit { current: limit, maximum: limit }).unwrap();
    });
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(asked.unwrap_or(256)) }
}

/// What may befall bytes.
#[derive(Debug, Clone)]
enum Damage {
    Set(usize, Vec<u8>),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Truncate(usize),
}

fn any_damage() -> impl Strategy<Value = Vec<Damage>> {
    // Lengths and counts as headers have them: none, all ones, and a great deal.
    let claims = prop::sample::select(vec![
        vec![0; 8],
        vec![0xff; 8],
        vec![0xff, 0xff, 0xff, 0x7f],
        0x0000_0001_0000_0000_u64.to_le_bytes().to_vec(),
        0x7fff_ffff_ffff_ffff_u64.to_le_bytes().to_vec(),
        b"77777777777\0".to_vec(),
        b"99999999999".to_vec(),
    ]);
    let piece = prop_oneof![claims, prop::collection::vec(any::<u8>(), 1..9)];
    let one = prop_oneof![
        4 => (any::<usize>(), piece.clone()).prop_map(|(at, piece)| Damage::Set(at, piece)),
        1 => (any::<usize>(), piece).prop_map(|(at, piece)| Damage::Insert(at, piece)),
        1 => (any::<usize>(), 1_usize..64).prop_map(|(at, count)| Damage::Remove(at, count)),
        1 => any::<usize>().prop_map(Damage::Truncate),
    ];
    prop::collection::vec(one, 1..5)
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        let length = bytes.len().max(1);
        match damage {
            Damage::Set(at, piece) => {
                let at = at % length;
                bytes.iter_mut().skip(at).zip(piece).for_each(|(byte, new)| *byte = *new);
            }
            Damage::Insert(at, piece) => {
                let at = (at % length).min(bytes.len());
                bytes.splice(at..at, piece.iter().copied());
            }
            Damage::Remove(at, count) => {
                let at = (at % length).min(bytes.len());
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Damage::Truncate(at) => bytes.truncate(at % length),
        }
    }
    bytes
}

fn png() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_pixel(6, 5, Rgb([9, 99, 199])).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn jpeg() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_pixel(6, 5, Rgb([9, 99, 199])).write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

/// A sound file of each format, with the recipe that reads it.
fn samples() -> Vec<(Data, Vec<u8>)> {
    let floats: Vec<u8> = (0..8_u8).flat_map(|at| f32::from(at).to_le_bytes()).collect();
    let (x, y) = (npy("<f4", false, "(4, 2)", &floats), npy("|u1", false, "(4,)", &[0, 1, 0, 1]));
    let arrays = npz(&[("x", x.clone()), ("y", y)]);
    let images = tar(&[("a/1.png", png()), ("a/2.jpg", jpeg()), ("b/1.png", png()), ("b/2.jpg", jpeg())]);
    let tokens: Vec<u8> = (0..64_u16).flat_map(|at| (at % 7).to_le_bytes()).collect();
    let shards = tar(&[("one.npz", arrays.clone()), ("two.npz", arrays.clone())]);
    let table =
        |format| Data { features: Some(Columns::Many(vec!["size".to_owned()])), ..data(format, Task::Classification) };
    vec![
        (data(DataFormat::Npz, Task::Classification), arrays),
        (data(DataFormat::Csv, Task::Classification), b"a,b,y\n1,2,x\n3,4,z\n5,6,x\n7,8,z\n".to_vec()),
        (data(DataFormat::Images, Task::Classification), images),
        (Data { length: Some(4), ..data(DataFormat::Tokens, Task::LanguageModel) }, tokens),
        (
            Data { length: Some(4), ..data(DataFormat::Tokens, Task::LanguageModel) },
            npy("<u2", false, "(32,)", &[1; 64]),
        ),
        (data(DataFormat::Shards, Task::Classification), shards),
        (table(DataFormat::Parquet), include_bytes!("data/table.parquet").to_vec()),
    ]
}

fn models() -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let models = paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    models.map(|path| std::fs::read(path).unwrap()).collect()
}

fn checkpoint() -> Vec<u8> {
    let weights: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0].into_iter().flat_map(f32::to_le_bytes).collect();
    let view = TensorView::new(safetensors::Dtype::F32, vec![2, 2], &weights).unwrap();
    let words = json!({"version": VERSION, MODEL: "mlp 2 2", AVERAGE: false}).to_string();
    let metadata = [(KEY.to_owned(), words)].into_iter().collect();
    safetensors::serialize(BTreeMap::from([("weight", view)]), Some(metadata)).unwrap()
}

#[test]
fn what_is_damaged_below_was_sound() {
    for (data, bytes) in samples() {
        assert!(regatta_agent::data::read(&data, &Store::Memory(bytes)).is_ok(), "{:?}", data.format);
    }
    assert!(!models().is_empty());
    assert!(models().iter().all(|model| ModelFile::read(model, &Settings::default()).is_ok()));
    assert!(Trained::read(&checkpoint()).is_ok());
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_damaged_data_file_is_answered((data, bytes) in prop::sample::select(samples()), damages in any_damage()) {
        let bytes = damaged(bytes, &damages);
        drop(regatta_agent::data::read(&data, &Store::Memory(bytes.clone())));
        drop(stream(&data, Store::Memory(bytes).into()));
    }

    #[test]
    fn a_damaged_model_file_is_answered(model in prop::sample::select(models()), damages in any_damage()) {
        if let Ok(model) = ModelFile::read(&damaged(model, &damages), &Settings::default()) {
            let rows: Vec<Vec<usize>> = model.inputs().iter().map(|_| vec![64]).collect();
            if let Ok(opened) = model.opened(&rows, 4) {
                drop(model.closed(&rows, &[(4, damaged(opened.clone(), &damages))]));
                drop(model.closed(&rows, &[(4, opened)]));
            }
        }
    }

    #[test]
    fn a_damaged_checkpoint_is_answered(damages in any_damage()) {
        if let Ok(trained) = Trained::read(&damaged(checkpoint(), &damages)) {
            drop(trained.onnx(None));
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        for (data, _) in samples() {
            drop(regatta_agent::data::read(&data, &Store::Memory(bytes.clone())));
        }
        drop(ModelFile::read(&bytes, &Settings::default()));
        drop(Trained::read(&bytes));
    }
}
