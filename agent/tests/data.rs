//! Data sets as people bring them: read, split, normalised; and refused with the reason when they are wrong.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "support/files.rs"]
mod files;

use files::{data, npy, npz, numbers, read};
use regatta_agent::data::DataError;
use regatta_agent::training::{Dataset, Target, Values};
use regatta_checkpoint::Affine;
use regatta_schemas::recipe::{Channels, Columns, Data, DataFormat, Normalize, Task};

fn npz_data() -> Data {
    data(DataFormat::Npz, Task::Classification)
}

fn csv_data() -> Data {
    data(DataFormat::Csv, Task::Classification)
}

fn labels() -> Vec<u8> {
    npy("|u1", false, "(4,)", &[0, 1, 2, 1])
}

/// All rows with their targets, in the order of their first feature.
fn rows(dataset: &Dataset) -> Vec<(Vec<f32>, f64)> {
    let mut rows = Vec::new();
    for split in [&dataset.train, &dataset.validation] {
        let feature = &split.features[0];
        for (row, features) in numbers(feature).chunks(feature.width()).enumerate() {
            let target = match &split.target {
                Target::Classes { labels, .. } => labels[row] as f64,
                Target::Values { values, .. } => f64::from(values[row * split.target.width()]),
            };
            rows.push((features.to_vec(), target));
        }
    }
    rows.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap());
    rows
}

#[test]
fn the_digits_of_the_examples_are_read() {
    let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/data/digits.npz")).unwrap();
    let dataset = read(&Data { normalize: Normalize::Scale, validation: 0.2, ..npz_data() }, &bytes).unwrap();
    assert!(dataset.check(None).is_ok());
    assert_eq!((dataset.train.rows(), dataset.validation.rows(), dataset.train.features[0].width()), (1438, 359, 64));
    assert!(matches!(dataset.train.target, Target::Classes { classes: 10, .. }));
    assert!(numbers(&dataset.train.features[0]).iter().all(|value| (0.0..=1.0).contains(value)));
}

#[test]
fn the_wine_of_the_examples_is_read() {
    let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/data/wine.csv")).unwrap();
    let recipe = Data { target: "alcohol".to_owned(), ..data(DataFormat::Csv, Task::Regression) };
    let dataset = read(&Data { normalize: Normalize::Standard, ..recipe }, &bytes).unwrap();
    assert!(dataset.check(None).is_ok());
    // 12 numbers and three cultivars.
    assert_eq!((dataset.train.rows() + dataset.validation.rows(), dataset.train.features[0].width()), (178, 15));
}

#[test]
fn every_number_type_and_order_is_read() {
    let x: [i64; 8] = [0, 1, 10, 11, 20, 21, 30, 31];
    let little = |bytes: fn(i64) -> Vec<u8>| x.iter().flat_map(|value| bytes(*value)).collect::<Vec<u8>>();
    let table = [
        ("|u1", little(|v| vec![v as u8])),
        ("|i1", little(|v| vec![v as u8])),
        ("<u2", little(|v| (v as u16).to_le_bytes().into())),
        ("<i2", little(|v| (v as i16).to_le_bytes().into())),
        (">i2", little(|v| (v as i16).to_be_bytes().into())),
        ("<i4", little(|v| (v as i32).to_le_bytes().into())),
        ("<i8", little(|v| v.to_le_bytes().into())),
        (">i8", little(|v| v.to_be_bytes().into())),
        ("<u8", little(|v| (v as u64).to_le_bytes().into())),
        ("<f4", little(|v| (v as f32).to_le_bytes().into())),
        (">f4", little(|v| (v as f32).to_be_bytes().into())),
        ("<f8", little(|v| (v as f64).to_le_bytes().into())),
    ];
    for (descr, bytes) in table {
        let archive = npz(&[("x", npy(descr, false, "(4, 2)", &bytes)), ("y", labels())]);
        let found = rows(&read(&npz_data(), &archive).unwrap());
        let expected = [(vec![0., 1.], 0.), (vec![10., 11.], 1.), (vec![20., 21.], 2.), (vec![30., 31.], 1.)];
        assert_eq!(found, expected, "{descr}");
    }
}

#[test]
fn negative_numbers_and_bools_are_read() {
    let archive = npz(&[("x", npy("|i1", false, "(4, 1)", &[0xff, 0xfe, 0xfd, 0xfc])), ("y", labels())]);
    let found: Vec<_> = rows(&read(&npz_data(), &archive).unwrap()).into_iter().map(|row| row.0[0]).collect();
    assert_eq!(found, [-4., -3., -2., -1.]);
    let archive = npz(&[("x", npy("|b1", false, "(4, 2)", &[0, 1, 1, 0, 1, 1, 0, 0])), ("y", labels())]);
    assert_eq!(rows(&read(&npz_data(), &archive).unwrap()).last().unwrap().0, [1., 1.]);
}

#[test]
fn fortran_order_and_more_axes_are_flattened_by_rows() {
    // numpy.arange(24).reshape(4, 2, 3), stored column by column.
    let fortran: Vec<u8> = (0..24).map(|at| (at % 4) * 6 + (at / 4 % 2) * 3 + at / 8).collect();
    let plain: Vec<u8> = (0..24).collect();
    let read_as = |is_fortran, bytes: &[u8]| {
        let archive = npz(&[("x", npy("|u1", is_fortran, "(4, 2, 3)", bytes)), ("y", labels())]);
        read(&npz_data(), &archive).unwrap()
    };
    assert_eq!(read_as(true, &fortran), read_as(false, &plain));
    assert_eq!(rows(&read_as(true, &fortran))[1].0, [6., 7., 8., 9., 10., 11.]);
}

#[test]
fn a_split_depends_on_its_seed_and_on_nothing_else() {
    let x: Vec<u8> = (0..100).collect();
    let y: Vec<u8> = (0..100).map(|row| row % 2).collect();
    let archive = npz(&[("x", npy("|u1", false, "(100,)", &x)), ("y", npy("|u1", false, "(100,)", &y))]);
    let with = |split_seed, validation| read(&Data { split_seed, validation, ..npz_data() }, &archive).unwrap();
    assert_eq!(with(1, 0.25), with(1, 0.25));
    assert_ne!(with(1, 0.25), with(2, 0.25));
    assert_eq!(with(1, 0.25).validation.rows(), 25);
    assert_eq!(with(1, 0.000_1).validation.rows(), 1);
    assert_eq!(with(1, 0.999_9).train.rows(), 1);
    let every_row: Vec<f32> = rows(&with(1, 0.25)).into_iter().map(|row| row.0[0]).collect();
    assert_eq!(every_row, (0..100_u8).map(f32::from).collect::<Vec<_>>());
}

#[test]
fn figures_come_from_the_training_rows_alone() {
    let text = "a,b,y\n1,7,0\n2,7,1\n3,7,0\n4,7,1\n5,7,0\n6,7,1\n7,7,0\n1000,7,1\n";
    for split_seed in 0..10 {
        let dataset =
            read(&Data { split_seed, normalize: Normalize::Standard, ..csv_data() }, text.as_bytes()).unwrap();
        let train = numbers(&dataset.train.features[0]);
        let column: Vec<f64> = train.iter().step_by(2).map(|value| f64::from(*value)).collect();
        let mean = column.iter().sum::<f64>() / column.len() as f64;
        let variance = column.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / column.len() as f64;
        assert!(mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-5, "{mean} {variance}");
        assert!(train.iter().skip(1).step_by(2).all(|value| *value == 0.0));
        let Some(Affine { offset, factor }) = &dataset.train.features[0].normalized else { panic!("figures") };
        let mut raw: Vec<f32> = column.iter().map(|value| *value as f32 / factor[0] + offset[0]).collect();
        raw.sort_by(f32::total_cmp);
        assert!(raw[..5].iter().all(|value| (value - value.round()).abs() < 1e-2), "the rows as they were: {raw:?}");
        assert_eq!((offset[1], factor[1]), (7.0, 0.0));
        let dataset = read(&Data { split_seed, normalize: Normalize::Scale, ..csv_data() }, text.as_bytes()).unwrap();
        assert!(numbers(&dataset.train.features[0]).iter().all(|value| (0.0..=1.0).contains(value)));
    }
}

#[test]
fn texts_of_a_csv_are_kept_in_the_order_of_their_numbers() {
    let text = "size,color,kind,y\n1,red,b,0\n2,blue,a,1\n3,green,b,0\n4,red,c,1\n";
    let dataset = read(&Data { categorical: vec!["kind".into()], ..csv_data() }, text.as_bytes()).unwrap();
    let [dense, categories] = &dataset.train.features[..] else { panic!("two inputs") };
    assert_eq!(dense.columns, ["size", "color", "color", "color"]);
    assert_eq!(dense.texts, [vec![], vec!["blue"], vec!["green"], vec!["red"]]);
    assert_eq!(categories.texts, [["a", "b", "c"]]);
}

#[test]
fn texts_of_a_csv_become_columns_and_classes() {
    let text = "\u{feff}size, color ,y\n1,red,no\n2,blue,yes\n3,red,maybe\n4,green,yes\n";
    let dataset = read(&csv_data(), text.as_bytes()).unwrap();
    assert!(matches!(&dataset.train.target, Target::Classes { names, .. } if names == &["maybe", "no", "yes"]));
    let found = rows(&dataset);
    // blue, green, red; maybe, no, yes.
    let expected = [
        (vec![1., 0., 0., 1.], 1.),
        (vec![2., 1., 0., 0.], 2.),
        (vec![3., 0., 0., 1.], 0.),
        (vec![4., 0., 1., 0.], 2.),
    ];
    assert_eq!(found, expected);
    let chosen = Data { features: Some(Columns::Many(vec!["size".into()])), ..csv_data() };
    assert_eq!(read(&chosen, text.as_bytes()).unwrap().train.features[0].width(), 1);
}

#[test]
fn wrong_archives_are_refused() {
    let x = || npy("|u1", false, "(4, 1)", &[1, 2, 3, 4]);
    let with_x = |x: Vec<u8>| npz(&[("x", x), ("y", labels())]);
    let with_y = |y: Vec<u8>| npz(&[("x", x()), ("y", y)]);
    let lying = |text: &str| [b"\x93NUMPY\x01\x00\x40\x00", format!("{text:64}").as_bytes()].concat();
    let table = [
        (b"PK no archive".to_vec(), "NotAnArchive"),
        (Vec::new(), "NotAnArchive"),
        (npz(&[]), "NoArray"),
        (npz(&[("x", x())]), "NoArray"),
        (npz(&[("features", x()), ("y", labels())]), "NoArray"),
        (with_x(Vec::new()), "BadArray"),
        (with_x(b"\x93NUMPY\x01\x00\xff\xff".to_vec()), "BadArray"),
        (with_x(b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec()), "BadArray"),
        (with_x(b"\x93NUMPY\x09\x00\x02\x00{}".to_vec()), "BadArray"),
        (with_x(lying("{'descr': '<f4'}")), "BadArray"),
        (with_x(lying("((((((((((((((((")), "BadArray"),
        (with_x(npy("<f4", false, "(4, 1)", &[0; 15])), "BadArray"),
        (with_x(npy("<f8", false, "(4, 1000)", &[0; 64])), "BadArray"),
        (with_x(npy("<f8", false, "(-4, 1)", &[0; 64])), "BadArray"),
        (with_x(npy("<f8", false, "(4, 99999999999999999999)", &[0; 64])), "BadArray"),
        (with_x(npy("<f8", false, "(4, 9223372036854775807)", &[0; 64])), "TooLarge"),
        (with_x(npy("<f8", false, "(4, 9223372036854775807, 4)", &[0; 64])), "TooLarge"),
        (with_x(npy("<f8", false, "(4, 4294967296)", &[0; 64])), "TooLarge"),
        (with_x(npy("<f8", false, "(0, 3)", &[])), "EmptyArray"),
        (with_x(npy("<f8", false, "()", &[0; 8])), "EmptyArray"),
        (with_x(npy("<U8", false, "(4, 1)", &[0; 128])), "ArrayType"),
        (with_x(npy("|O", false, "(4, 1)", &[0; 32])), "ArrayType"),
        (with_x(npy("<c16", false, "(4, 1)", &[0; 64])), "ArrayType"),
        (with_x(npy("<f4", false, "(4, 1)", &f32::NAN.to_le_bytes().repeat(4))), "NotFinite"),
        (with_x(npy("<f8", false, "(4, 1)", &1e300_f64.to_le_bytes().repeat(4))), "NotFinite"),
        (with_x(npy("|u1", false, "(3, 1)", &[1, 2, 3])), "RowsDiffer"),
        (with_y(npy("|i1", false, "(4,)", &[0, 1, 0xff, 1])), "Label"),
        (with_y(npy("<f4", false, "(4,)", &0.5_f32.to_le_bytes().repeat(4))), "Label"),
        (with_y(npy("<f4", false, "(4,)", &f32::NAN.to_le_bytes().repeat(4))), "Label"),
        (with_y(npy("<u8", false, "(4,)", &u64::MAX.to_le_bytes().repeat(4))), "Label"),
        (with_y(npy("|u1", false, "(4,)", &[0; 4])), "OneClass"),
        (with_y(npy("|u1", false, "(4, 2)", &[0; 8])), "OneClass"),
        (with_y(npy("|u1", false, "(4, 2)", &[0, 1, 1, 0, 1, 0, 0, 1])), "OneHot"),
        (npz(&[("x", npy("|u1", false, "(1, 1)", &[1])), ("y", npy("|u1", false, "(1,)", &[1]))]), "TooFewRows"),
    ];
    for (bytes, expected) in table {
        refused(&npz_data(), &bytes, expected);
    }
    let several = Data { features: Some(Columns::Many(vec!["x".into(), "z".into()])), ..npz_data() };
    refused(&several, &with_x(x()), "NoArray");
    let nan = npz(&[("x", x()), ("y", npy("<f4", false, "(4,)", &f32::NAN.to_le_bytes().repeat(4)))]);
    refused(&data(DataFormat::Npz, Task::Regression), &nan, "NotFinite");
}

#[test]
fn wrong_tables_are_refused() {
    let many: String = (0..2000).map(|row| format!("id{row},{}\n", row % 2)).collect();
    let table = [
        ("", "NoColumn"),
        ("a,b\n1,2\n", "NoColumn"),
        ("a,a,y\n1,2,0\n", "ColumnTwice"),
        ("y\n0\n1\n", "NoFeatures"),
        ("a,y\n", "TooFewRows"),
        ("a,y\n1,0\n2\n", "NotCsv"),
        ("a,y\n1,0\n,1\n", "EmptyCell"),
        ("a,y\n1,0\n2,\n", "EmptyCell"),
        ("a,y\n1,0\n2,1\nthree,1\n", "NotANumber"),
        ("a,y\n1,0\n2,1\nNaN,1\n", "NotFinite"),
        ("a,y\n1,0\n2,1\n1e999,1\n", "NotFinite"),
        ("a,y\n1,0\n2,1\n1e39,1\n", "NotFinite"),
        ("a,y\n1,0\n2,1.5\n", "Label"),
        ("a,y\n1,x\n2,x\n", "OneClass"),
        (&format!("a,y\n{many}"), "TooManyTexts"),
    ];
    for (text, expected) in table {
        refused(&csv_data(), text.as_bytes(), expected);
    }
    refused(&csv_data(), b"a,y\n\xff\xfe,0\n", "NotCsv");
    for text in ["a,y\n1,0\n,1\n", "a,y\r\n1,0\r\n,1\r\n", "\u{feff}a,y\r\n1,0\r\n,1\r\n"] {
        let error = read(&csv_data(), text.as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with("line 3, column `a`"), "{text:?}: {error}");
    }
    refused(&data(DataFormat::Csv, Task::Regression), b"a,y\n1,x\n2,z\n", "TextTarget");
    let target_too = Data { features: Some(Columns::Many(vec!["a".into(), "y".into()])), ..csv_data() };
    refused(&target_too, b"a,y\n1,0\n2,1\n", "TargetIsFeature");
}

/// Asserts the error's kind, and prints its text for people to judge.
fn refused(data: &Data, bytes: &[u8], expected: &str) {
    let error: DataError = read(data, bytes).unwrap_err();
    println!("{error}");
    let kind = format!("{error:?}");
    let kind = kind.strip_prefix("File(").unwrap_or(&kind);
    assert_eq!(kind.split([' ', '{']).next(), Some(expected), "{error}");
}

#[test]
fn a_damaged_archive_never_panics() {
    let whole = npz(&[("x", npy("<f4", false, "(4, 1)", &[0; 16])), ("y", labels())]);
    for length in 0..whole.len() {
        assert!(read(&npz_data(), &whole[..length]).is_err(), "cut at {length}");
    }
    for at in 0..whole.len() {
        for flip in [1, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= flip;
            drop(read(&npz_data(), &damaged));
        }
    }
}

#[test]
fn shapes_are_kept_and_channels_come_first() {
    // Two rows of 2 x 2 pixels of 3 channels.
    let pixels: Vec<u8> = (0..24).collect();
    let archive = npz(&[("x", npy("|u1", false, "(2, 2, 2, 3)", &pixels)), ("y", npy("|u1", false, "(2,)", &[0, 1]))]);
    let plain = read(&npz_data(), &archive).unwrap();
    assert_eq!(plain.train.features[0].shape, [2, 2, 3]);
    assert!(matches!(plain.train.features[0].values, Values::U8(_)));
    let moved = read(&Data { channels: Channels::Last, ..npz_data() }, &archive).unwrap();
    assert_eq!(moved.train.features[0].shape, [3, 2, 2]);
    assert_eq!(rows(&moved)[0].0, [0., 3., 6., 9., 1., 4., 7., 10., 2., 5., 8., 11.]);
    let told = Data { shape: Some(vec![1, 4, 3]), ..npz_data() };
    assert_eq!(read(&told, &archive).unwrap().train.features[0].shape, [1, 4, 3]);
    refused(&Data { shape: Some(vec![1, 28, 28]), ..npz_data() }, &archive, "Shape");
    refused(&Data { shape: Some(vec![u32::MAX; 5]), ..npz_data() }, &archive, "Shape");
}

#[test]
fn an_archive_may_bring_its_own_rows_to_validate_on() {
    let x = |first: u8| npy("|u1", false, "(4, 2)", &(first..first + 8).collect::<Vec<_>>());
    let archive = npz(&[
        ("x", x(0)),
        ("y", labels()),
        ("x_test", x(100)),
        ("y_test", npy("|u1", false, "(4,)", &[3, 0, 1, 1])),
        ("narrow", npy("|u1", false, "(4,)", &[1, 2, 3, 4])),
        ("real", npy("<f4", false, "(4, 2)", &[0; 32])),
    ]);
    let own = |features: &str, target: Option<&str>| Data {
        validation_features: Some(Columns::One(features.to_owned())),
        validation_target: target.map(str::to_owned),
        normalize: Normalize::Scale,
        ..npz_data()
    };
    let dataset = read(&own("x_test", Some("y_test")), &archive).unwrap();
    assert!(dataset.check(None).is_ok());
    assert_eq!((dataset.train.rows(), dataset.validation.rows()), (4, 4));
    // By the training rows' figures, in their order, and of as many classes.
    assert_eq!(numbers(&dataset.train.features[0])[..2], [0.0, 1.0 / 7.0]);
    assert!((numbers(&dataset.validation.features[0])[0] - 100.0 / 7.0).abs() < 1e-5);
    let Target::Classes { labels, classes: 4, .. } = &dataset.validation.target else { panic!("four classes") };
    assert_eq!(labels, &[3, 0, 1, 1]);
    refused(&own("x_test", None), &archive, "HalfValidation");
    refused(&own("narrow", Some("y_test")), &archive, "ShapesDiffer");
    refused(&own("real", Some("y_test")), &archive, "KindsDiffer");
}

#[test]
fn channels_are_normalized_each_by_its_own_figures_and_stay_eight_bit() {
    // Two channels of two pixels each, of different means and spreads.
    let pixels: Vec<u8> =
        (0..8).flat_map(|row| [0, 10, 7, 7].map(|value| if row % 2 == 0 { value } else { 17 - value })).collect();
    let x = npy("|u1", false, "(8, 2, 2)", &pixels);
    let archive = npz(&[("x", x), ("y", npy("|u1", false, "(8,)", &[0, 1, 0, 1, 0, 1, 0, 1]))]);
    let dataset = read(&Data { normalize: Normalize::Channel, ..npz_data() }, &archive).unwrap();
    let feature = &dataset.train.features[0];
    assert!(matches!(feature.values, Values::U8(_)) && feature.affine.is_some());
    let seen = numbers(feature);
    for channel in 0..2 {
        let of_channel: Vec<f64> =
            seen.chunks(4).flat_map(|row| &row[2 * channel..2 * channel + 2]).map(|value| f64::from(*value)).collect();
        let mean = of_channel.iter().sum::<f64>() / of_channel.len() as f64;
        let variance = of_channel.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / of_channel.len() as f64;
        assert!(mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-4, "{channel}: {mean} {variance}");
    }
}

#[test]
fn several_arrays_are_several_features_and_some_are_categories() {
    let tokens: Vec<u8> = [[0_i64, 5], [1, 2], [3, 3], [4, 0]].iter().flatten().flat_map(|v| v.to_le_bytes()).collect();
    let archive = npz(&[
        ("x", npy("|u1", false, "(4, 1)", &[1, 2, 3, 4])),
        ("tokens", npy("<i8", false, "(4, 2)", &tokens)),
        ("y", labels()),
    ]);
    let both = Data {
        features: Some(Columns::Many(vec!["x".into(), "tokens".into()])),
        categorical: vec!["tokens".into()],
        ..npz_data()
    };
    let dataset = read(&both, &archive).unwrap();
    assert!(dataset.check(None).is_ok());
    let [x, tokens] = dataset.train.features.as_slice() else { panic!("two features") };
    assert_eq!((x.name.as_str(), tokens.name.as_str()), ("x", "tokens"));
    assert_eq!((&tokens.shape[..], &tokens.vocabulary[..]), (&[2][..], &[6][..]));
    assert!(matches!(tokens.values, Values::I64(_)));
    let fractions = npz(&[("x", npy("<f4", false, "(4, 1)", &0.5_f32.to_le_bytes().repeat(4))), ("y", labels())]);
    refused(&Data { categorical: vec!["x".into()], ..npz_data() }, &fractions, "Category");
}

#[test]
fn categories_of_a_table_are_numbered_column_by_column() {
    let text = "size,color,grade,y\n1,red,30,0\n2,blue,10,1\n3,red,30,0\n4,green,20,1\n";
    let data = Data { categorical: vec!["color".into(), "grade".into()], ..csv_data() };
    let dataset = read(&data, text.as_bytes()).unwrap();
    assert!(dataset.check(None).is_ok());
    let mut found = Vec::new();
    for split in [&dataset.train, &dataset.validation] {
        let [dense, categories] = split.features.as_slice() else { panic!("two features") };
        assert_eq!((dense.name.as_str(), categories.name.as_str()), ("features", "categories"));
        assert_eq!((&dense.shape[..], &categories.vocabulary[..]), (&[1][..], &[3, 3][..]));
        let Values::I64(values) = &categories.values else { panic!("categories are whole numbers") };
        found.extend(numbers(dense).into_iter().zip(values.chunks(2).map(<[i64]>::to_vec)));
    }
    found.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    // blue, green, red; 10, 20, 30.
    assert_eq!(found, [(1., vec![2, 2]), (2., vec![0, 0]), (3., vec![2, 2]), (4., vec![1, 1])]);
}

#[test]
fn targets_are_as_the_task_takes_them() {
    let with = |y: Vec<u8>| npz(&[("x", npy("|u1", false, "(4, 1)", &[1, 2, 3, 4])), ("y", y)]);
    let answers = with(npy("|b1", false, "(4, 3)", &[1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1]));
    let multilabel = data(DataFormat::Npz, Task::Multilabel);
    let dataset = read(&multilabel, &answers).unwrap();
    assert!(matches!(&dataset.train.target, Target::Values { shape, .. } if shape == &[3]));
    refused(&multilabel, &with(npy("|u1", false, "(4, 1)", &[0, 1, 2, 1])), "NoAnswer");
    let transcription = data(DataFormat::Npz, Task::Transcription);
    let dataset =
        read(&transcription, &with(npy("|u1", false, "(4, 3)", &[1, 2, 0, 3, 0, 0, 2, 2, 2, 0, 0, 0]))).unwrap();
    assert!(matches!(&dataset.train.target, Target::Classes { shape, classes: 4, .. } if shape == &[3]));
    refused(&transcription, &with(npy("|u1", false, "(4, 2)", &[1, 2, 0, 3, 1, 0, 1, 1])), "BlankLabel");
    refused(&transcription, &with(npy("|u1", false, "(4, 1, 2)", &[1, 2, 3, 0, 1, 0, 1, 1])), "TranscriptShape");
    // A class for each place; for each pixel.
    let places = with(npy("|u1", false, "(4, 3)", &[0, 1, 1, 0, 0, 1, 0, 1, 0, 1, 1, 1]));
    for task in [Task::Classification, Task::LanguageModel] {
        let dataset = read(&data(DataFormat::Npz, task), &places).unwrap();
        assert!(matches!(&dataset.train.target, Target::Classes { shape, classes: 2, .. } if shape == &[3]));
    }
    let one_a_row = with(npy("|u1", false, "(4, 3)", &[0, 1, 0, 0, 0, 1, 0, 1, 0, 1, 0, 0]));
    refused(&npz_data(), &one_a_row, "OneHot");
    let dataset = read(&data(DataFormat::Npz, Task::LanguageModel), &one_a_row).unwrap();
    assert_eq!(dataset.train.target.shape(), [3]);
    let pixels = with(npy("|u1", false, "(4, 2, 2)", &[0, 1, 2, 0, 1, 1, 2, 2, 0, 0, 0, 0, 2, 1, 0, 2]));
    let dataset = read(&npz_data(), &pixels).unwrap();
    assert!(matches!(&dataset.train.target, Target::Classes { shape, .. } if shape == &[2, 2]));
    // What the loss ignores is no class, whatever its number.
    let holes = with(npy("|i1", false, "(4, 3)", &[0, 156, 1, 156, 2, 1, 0, 0, 156, 1, 2, 2]));
    let dataset = read(&Data { ignored: Some(-100), ..npz_data() }, &holes).unwrap();
    assert!(matches!(&dataset.train.target, Target::Classes { classes: 3, .. }));
    assert!(dataset.check(Some(-100)).is_ok() && dataset.check(None).is_err());
    refused(&npz_data(), &holes, "Label");
    let edges = with(npy("|u1", false, "(4, 3)", &[0, 255, 1, 255, 2, 1, 0, 0, 255, 1, 2, 2]));
    let dataset = read(&Data { ignored: Some(255), ..npz_data() }, &edges).unwrap();
    assert!(matches!(&dataset.train.target, Target::Classes { classes: 3, .. }));
    let regression = data(DataFormat::Npz, Task::Regression);
    let dataset = read(&regression, &with(labels())).unwrap();
    assert!(matches!(&dataset.train.target, Target::Values { shape, .. } if shape == &[1]));
}

#[test]
fn the_last_column_of_a_single_array_is_the_target() {
    let array = npy("|u1", false, "(4, 3)", &[1, 10, 0, 2, 20, 1, 3, 30, 2, 4, 40, 1]);
    let npy_data = data(DataFormat::Npy, Task::Classification);
    let expected = [(vec![1., 10.], 0.), (vec![2., 20.], 1.), (vec![3., 30.], 2.), (vec![4., 40.], 1.)];
    assert_eq!(rows(&read(&npy_data, &array).unwrap()), expected);
    refused(&npy_data, &npy("|u1", false, "(4,)", &[0; 4]), "NoColumns");
    refused(&npy_data, b"no array", "BadArray");
}
