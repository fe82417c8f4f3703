//! Images, tokens, shards and Parquet files, in memory and streamed while training.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "support/files.rs"]
mod files;

use std::io::{Cursor, Write};
use std::sync::Arc;

use files::{data, npy, npz, numbers, read, tar};
use image::{GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use regatta_agent::data::{DataError, Store, stream};
use regatta_agent::training::{Dataset, Place, Split, Stream, Target, TrainingError, Values};
use regatta_schemas::recipe::{Columns, Data, DataFormat, Normalize, Task};

fn images() -> Data {
    data(DataFormat::Images, Task::Classification)
}

fn tokens(length: u32) -> Data {
    Data { length: Some(length), ..data(DataFormat::Tokens, Task::LanguageModel) }
}

fn shards() -> Data {
    data(DataFormat::Shards, Task::Classification)
}

fn grey(width: u32, height: u32, value: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    GrayImage::from_pixel(width, height, Luma([value])).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn colour(width: u32, height: u32, value: [u8; 3], format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_pixel(width, height, Rgb(value)).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn refused(data: &Data, bytes: &[u8], expected: &str) {
    kind_is(&read(data, bytes).unwrap_err(), expected);
}

/// Asserts the error's kind, and prints its text for people to judge.
fn kind_is(error: &DataError, expected: &str) {
    println!("{error}");
    let kind = format!("{error:?}");
    let kind = kind.strip_prefix("File(").unwrap_or(&kind);
    assert_eq!(kind.split([' ', '{']).next(), Some(expected), "{error}");
}

fn labels(target: &Target) -> Vec<i64> {
    let Target::Classes { labels, .. } = target else { panic!("a target of classes") };
    labels.clone()
}

/// The first number of each row and its first label, sorted.
fn pairs(splits: &[&Split]) -> Vec<(f32, i64)> {
    let mut pairs = Vec::new();
    for split in splits {
        let feature = &split.features[0];
        let first = numbers(feature).into_iter().step_by(feature.width());
        pairs.extend(first.zip(labels(&split.target).into_iter().step_by(split.target.width())));
    }
    pairs.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    pairs
}

fn both(dataset: &Dataset) -> Vec<(f32, i64)> {
    pairs(&[&dataset.train, &dataset.validation])
}

#[test]
fn folders_of_a_tar_archive_are_classes() {
    let archive = tar(&[
        ("pets/dog/1.png", grey(3, 2, 30)),
        ("pets/cat/2.png", grey(3, 2, 20)),
        ("pets/cat/1.PNG", grey(3, 2, 10)),
        ("pets/dog/._2.png", b"what some systems add".to_vec()),
        ("pets/README.txt", b"text".to_vec()),
        ("pets/dog/2.png", grey(3, 2, 40)),
    ]);
    let dataset = read(&images(), &archive).unwrap();
    assert!(dataset.check(None).is_ok());
    assert_eq!(dataset.train.features[0].shape, [1, 2, 3]);
    assert!(matches!(dataset.train.features[0].values, Values::U8(_)));
    assert_eq!(both(&dataset), [(10., 0), (20., 0), (30., 1), (40., 1)]);
    assert!(matches!(&dataset.train.target, Target::Classes { names, .. } if names == &["cat", "dog"]));
}

#[test]
fn a_zip_archive_of_photographs_is_resized_and_its_channels_come_first() {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = zip::write::FileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let deflated = zip::write::FileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    let red = [200, 0, 0];
    for (name, size, options) in [("a/1.jpg", 16, stored), ("a/2.jpeg", 24, deflated), ("b/1.jpg", 40, deflated)] {
        archive.start_file(name, options).unwrap();
        archive.write_all(&colour(size, size, red, ImageFormat::Jpeg)).unwrap();
    }
    let bytes = archive.finish().unwrap().into_inner();
    let dataset = read(&Data { image_size: Some([8, 4]), ..images() }, &bytes).unwrap();
    assert!(dataset.check(None).is_ok());
    let feature = &dataset.train.features[0];
    assert_eq!(feature.shape, [3, 8, 4]);
    for row in numbers(feature).chunks(3 * 32) {
        // JPEG is near, not equal.
        assert!(row[..32].iter().all(|value| (value - 200.0).abs() < 8.0), "{row:?}");
        assert!(row[32..].iter().all(|value| *value < 8.0), "{row:?}");
    }
    refused(&images(), &bytes, "ImagesDiffer");
}

#[test]
fn wrong_archives_of_images_are_refused() {
    let with = |bytes: Vec<u8>| tar(&[("a/1.png", grey(2, 2, 1)), ("b/1.png", bytes)]);
    // A PNG header that promises more than a million million pixels.
    let mut bomb = grey(2, 2, 1);
    bomb[16..24].copy_from_slice(&[0, 0x0f, 0xff, 0xff, 0, 0x0f, 0xff, 0xff]);
    refused(&images(), &with(bomb), "BadImage");
    refused(&images(), &with(b"no image".to_vec()), "BadImage");
    refused(&images(), &with(grey(3, 2, 1)), "ImagesDiffer");
    refused(&images(), b"no archive at all, and longer than nothing", "NotImages");
    refused(&images(), &tar(&[("README.txt", b"text".to_vec())]), "NoImages");
    refused(&images(), &tar(&[("1.png", grey(2, 2, 1))]), "NoFolder");
    refused(&images(), &tar(&[("a/1.png", grey(2, 2, 1)), ("a/2.png", grey(2, 2, 1))]), "OneClass");
    refused(&Data { image_size: Some([0, 4]), ..images() }, &with(grey(2, 2, 1)), "ImageSize");
}

#[test]
fn tokens_are_followed_by_the_next_token() {
    let raw: Vec<u8> = (0..21_u16).flat_map(|token| (token * 3 % 50).to_le_bytes()).collect();
    let array: Vec<u8> = (0..21_i64).flat_map(|token| (token * 3 % 50).to_le_bytes()).collect();
    let array = npy("<i8", false, "(21,)", &array);
    assert_eq!(read(&tokens(4), &raw).unwrap(), read(&tokens(4), &array).unwrap());
    let dataset = read(&tokens(4), &raw).unwrap();
    assert!(dataset.check(None).is_ok());
    assert_eq!(dataset.train.rows() + dataset.validation.rows(), 5);
    for split in [&dataset.train, &dataset.validation] {
        let feature = &split.features[0];
        assert_eq!((&feature.shape[..], &feature.vocabulary[..]), (&[4][..], &[49][..]));
        let Values::I64(tokens) = &feature.values else { panic!("tokens are whole numbers") };
        let next: Vec<i64> = tokens.iter().map(|token| (token + 3) % 50).collect();
        assert_eq!(labels(&split.target), next);
    }
}

#[test]
fn wrong_tokens_are_refused() {
    refused(&Data { length: None, ..tokens(4) }, &[0; 40], "NoLength");
    refused(&tokens(0), &[0; 40], "NoLength");
    refused(&tokens(4), &[1; 16], "TooFewTokens");
    refused(&tokens(4), &[], "TooFewTokens");
    refused(&tokens(4), &[1; 41], "NotTokens");
    refused(&tokens(2), &npy("<f4", false, "(9,)", &0.5_f32.to_le_bytes().repeat(9)), "Token");
    refused(&tokens(2), &npy("<i8", false, "(9,)", &(-1_i64).to_le_bytes().repeat(9)), "Token");
    refused(&tokens(2), &npy("<u4", false, "(9,)", &u32::MAX.to_le_bytes().repeat(9)), "Token");
    refused(&tokens(2), &npy("|u1", false, "(3, 3)", &[0; 9]), "NotTokens");
    refused(&tokens(2), &npy("<u2", false, "(9,)", &[0; 4]), "NotTokens");
    refused(&tokens(2), &npy("<u2", false, "(9,)", &[0; 18]), "OneClass");
    refused(&tokens(2), b"\x93NUMPY\x01\x00\x04\x00oops", "BadArray");
}

/// Part `at` of a set: rows `at * rows ..`, row r being of class `r % 3`.
fn shard(at: u8, rows: u8) -> Vec<u8> {
    let own: Vec<u8> = (at * rows..(at + 1) * rows).collect();
    let x: Vec<u8> = own.iter().flat_map(|row| [*row, 0]).collect();
    let y: Vec<u8> = own.iter().map(|row| row % 3).collect();
    npz(&[("x", npy("|u1", false, &format!("({rows}, 2)"), &x)), ("y", npy("|u1", false, &format!("({rows},)"), &y))])
}

/// Ten parts of five rows.
fn ten_shards() -> Vec<u8> {
    let names: Vec<String> = (0..10).map(|at| format!("part-{at}.npz")).collect();
    let files: Vec<(&str, Vec<u8>)> = names.iter().zip(0..).map(|(name, at)| (name.as_str(), shard(at, 5))).collect();
    tar(&files)
}

fn fifty() -> Vec<(f32, i64)> {
    (0..50_u8).map(|row| (f32::from(row), i64::from(row % 3))).collect()
}

#[test]
fn shards_are_one_data_set() {
    let dataset = read(&shards(), &ten_shards()).unwrap();
    assert!(dataset.check(None).is_ok());
    assert_eq!(both(&dataset), fifty());
    // Rows are kept for validation, not parts, where all are in memory.
    assert_eq!(dataset.validation.rows(), 13);
}

#[test]
fn wrong_shards_are_refused() {
    refused(&shards(), &tar(&[("README", b"text".to_vec())]), "NotShards");
    refused(&shards(), b"no archive at all, and longer than nothing", "NotShards");
    refused(&shards(), &tar(&[("1.npz", shard(0, 5)), ("2.npz", b"damaged".to_vec())]), "InShard");
    let wide = npz(&[("x", npy("|u1", false, "(2, 3)", &[0; 6])), ("y", npy("|u1", false, "(2,)", &[0, 1]))]);
    refused(&shards(), &tar(&[("1.npz", shard(0, 5)), ("2.npz", wide)]), "BlocksDiffer");
}

fn streamed(data: &Data, bytes: &[u8]) -> Arc<Stream> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Arc::new(stream(data, Arc::new(Store::disk(file).unwrap())).unwrap())
}

fn batches(stream: &Arc<Stream>, seed: u64, from: Place, count: usize) -> Vec<Split> {
    let mut batches = stream.batches(seed, 4, from).unwrap();
    (0..count).map(|_| batches.next_batch().unwrap()).collect()
}

#[test]
fn an_epoch_of_a_stream_has_every_row_at_most_once_and_few_are_left_out() {
    let stream = streamed(&shards(), &ten_shards());
    // A quarter of ten parts, rounded.
    assert_eq!((stream.rows(), stream.validation.rows()), (35, 15));
    let epoch = batches(&stream, 1, Place::default(), 8);
    let mut seen = pairs(&epoch.iter().collect::<Vec<_>>());
    assert_eq!(seen.len(), 32);
    seen.extend(pairs(&[&stream.validation]));
    seen.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    seen.dedup();
    assert_eq!(seen.len(), 47);
    assert!(seen.iter().all(|pair| fifty().contains(pair)));
}

#[test]
fn a_stream_depends_on_seed_and_epoch_and_on_nothing_else() {
    let stream = streamed(&shards(), &ten_shards());
    let first = batches(&stream, 1, Place::default(), 24);
    assert_eq!(first, batches(&streamed(&shards(), &ten_shards()), 1, Place::default(), 24));
    assert_ne!(first, batches(&stream, 2, Place::default(), 24));
    assert_ne!(first[..8], first[8..16]);
    // From any step of any epoch on.
    for (epoch, step) in [(0, 1), (0, 7), (1, 0), (1, 5), (2, 7)] {
        let skipped = usize::try_from(epoch * 8 + step).unwrap();
        let rest = batches(&stream, 1, Place { epoch, step }, 24 - skipped);
        assert_eq!(first[skipped..], rest, "epoch {epoch}, step {step}");
    }
}

#[test]
fn rows_of_a_stream_are_mixed_over_the_parts() {
    let stream = streamed(&shards(), &ten_shards());
    let first = &batches(&stream, 1, Place::default(), 1)[0];
    let parts: std::collections::BTreeSet<i32> = pairs(&[first]).iter().map(|(row, _)| *row as i32 / 5).collect();
    assert!(parts.len() > 1, "{parts:?}");
}

#[test]
fn images_and_tokens_are_streamed_too() {
    let names: Vec<String> = (0..40).map(|at| format!("{}/{at}.png", at % 2)).collect();
    let files: Vec<(&str, Vec<u8>)> =
        names.iter().zip(0..).map(|(name, at)| (name.as_str(), grey(2, 2, at * 5))).collect();
    let stream = streamed(&Data { normalize: Normalize::Channel, ..images() }, &tar(&files));
    assert_eq!((stream.rows(), stream.validation.rows()), (30, 10));
    let batch = &batches(&stream, 1, Place::default(), 1)[0];
    let feature = &batch.features[0];
    assert!(matches!(feature.values, Values::U8(_)) && feature.affine.is_some());
    assert!(numbers(feature).iter().all(|value| value.abs() < 10.0));

    let raw: Vec<u8> = (0..2001_u16).flat_map(|token| (token % 7).to_le_bytes()).collect();
    let stream = streamed(&tokens(10), &raw);
    assert_eq!(stream.rows() + stream.validation.rows(), 200);
    for batch in batches(&stream, 1, Place::default(), 30) {
        let Values::I64(tokens) = &batch.features[0].values else { panic!("tokens are whole numbers") };
        assert_eq!(labels(&batch.target), tokens.iter().map(|token| (token + 1) % 7).collect::<Vec<_>>());
    }
}

#[test]
fn what_cannot_be_streamed_is_refused() {
    let store = |bytes: &[u8]| Arc::new(Store::Memory(bytes.to_vec()));
    kind_is(&stream(&data(DataFormat::Csv, Task::Regression), store(b"a,y\n1,2\n")).unwrap_err(), "NotStreamed");
    kind_is(&stream(&shards(), store(&tar(&[("1.npz", shard(0, 5))]))).unwrap_err(), "OnePart");
    let stream = streamed(&shards(), &ten_shards());
    assert!(matches!(stream.batches(1, 36, Place::default()), Err(TrainingError::Data { .. })));
    assert!(matches!(stream.batches(1, 0, Place::default()), Err(TrainingError::Data { .. })));
    assert!(matches!(stream.batches(1, 4, Place { epoch: 0, step: 8 }), Err(TrainingError::Data { .. })));
}

#[test]
fn a_part_that_is_lost_while_training_is_an_error_and_the_reader_ends() {
    let store = ten_shards();
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), &store).unwrap();
    let disk = Store::disk(std::fs::File::open(path.path()).unwrap()).unwrap();
    let stream = Arc::new(stream(&shards(), Arc::new(disk)).unwrap());
    std::fs::File::options().write(true).open(path.path()).unwrap().set_len(0).unwrap();
    let mut batches = stream.batches(1, 4, Place::default()).unwrap();
    assert!(matches!(batches.next_batch(), Err(TrainingError::Data { .. })));
    assert!(matches!(batches.next_batch(), Err(TrainingError::Data { .. })));
    drop(batches);
    // The reader held the only other reference.
    assert_eq!(Arc::strong_count(&stream), 1);
}

/// Written by data/table.py.
const TABLE: &[u8] = include_bytes!("data/table.parquet");

#[test]
fn a_parquet_file_is_a_table() {
    let columns = ["size", "count", "is_new", "big"].map(str::to_owned).to_vec();
    let table = data(DataFormat::Parquet, Task::Classification);
    let table = Data { features: Some(Columns::Many(columns)), categorical: vec!["color".into()], ..table };
    let dataset = read(&table, TABLE).unwrap();
    assert!(dataset.check(None).is_ok());
    let mut found = Vec::new();
    for split in [&dataset.train, &dataset.validation] {
        let [dense, categories] = split.features.as_slice() else { panic!("two features") };
        let Values::I64(colors) = &categories.values else { panic!("categories are whole numbers") };
        let dense = numbers(dense);
        let rows = dense.chunks(4).map(<[f32]>::to_vec).zip(colors.clone()).zip(labels(&split.target));
        found.extend(rows.map(|((dense, color), label)| (dense, color, label)));
    }
    found.sort_by(|(one, ..), (other, ..)| one[0].total_cmp(&other[0]));
    // blue, green, red.
    let row = |row: u8| {
        let number = f32::from(row);
        let dense = vec![number / 4.0, number * 3.0, f32::from(1 - row % 2), 2_f32.powi(40)];
        (dense, [2, 1, 0][usize::from(row % 3)], i64::from(row % 2))
    };
    assert_eq!(found, (0..12).map(row).collect::<Vec<_>>());
}

#[test]
fn wrong_parquet_files_are_refused() {
    let table = |feature: &str| Data {
        features: Some(Columns::One(feature.to_owned())),
        ..data(DataFormat::Parquet, Task::Classification)
    };
    refused(&table("half"), TABLE, "NullCell");
    refused(&table("absent"), TABLE, "NoColumn");
    refused(&table("y"), TABLE, "TargetIsFeature");
    refused(&table("size"), b"PAR1 no such file PAR1", "NotParquet");
    refused(&table("size"), &[], "NotParquet");
    let texts = Data { target: "color".to_owned(), task: Task::Regression, ..table("size") };
    refused(&texts, TABLE, "TextTarget");
}

#[test]
fn damaged_files_never_panic() {
    let raw: Vec<u8> = (0..40_u16).flat_map(u16::to_le_bytes).collect();
    let pictures = tar(&[("a/1.png", grey(2, 2, 1)), ("b/1.png", colour(2, 2, [1, 2, 3], ImageFormat::Png))]);
    let table = data(DataFormat::Parquet, Task::Classification);
    let table = Data { features: Some(Columns::Many(vec!["size".into(), "color".into()])), ..table };
    let files = [
        (shards(), ten_shards()),
        (images(), pictures),
        (tokens(4), npy("<u2", false, "(40,)", &raw)),
        (table, TABLE.to_vec()),
    ];
    for (data, whole) in files {
        let step = (whole.len() / 100).max(1);
        for at in (0..whole.len()).step_by(step) {
            drop(read(&data, &whole[..at]));
            for flip in [1, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] ^= flip;
                drop(read(&data, &damaged));
            }
        }
    }
}
