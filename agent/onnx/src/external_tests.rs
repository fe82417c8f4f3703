//! Models that are split by hand, and files that are missing, cut short or somebody else's.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::convert::Infallible;

use super::*;
use crate::{FunctionProto, StringStringEntryProto, TrainingInfoProto};

/// The files beside a model.
type Files = BTreeMap<String, Vec<u8>>;

/// Two singles of a model, in a file beside it as these entries say.
fn outside(name: &str, entries: &[(&str, &str)]) -> TensorProto {
    let entries = entries
        .iter()
        .map(|(key, value)| StringStringEntryProto { key: Some((*key).to_owned()), value: Some((*value).to_owned()) });
    TensorProto {
        name: Some(name.to_owned()),
        dims: vec![2],
        data_type: Some(DataType::Float as i32),
        external_data: entries.collect(),
        data_location: Some(DataLocation::External as i32),
        ..TensorProto::default()
    }
}

fn inside(name: &str, bytes: &[u8]) -> TensorProto {
    let empty = TensorProto { external_data: Vec::new(), data_location: None, ..outside(name, &[]) };
    TensorProto { raw_data: Some(bytes.to_vec()), ..empty }
}

fn model(initializer: Vec<TensorProto>) -> ModelProto {
    let graph = GraphProto { initializer, ..GraphProto::default() };
    ModelProto { ir_version: Some(8), graph: Some(graph), ..ModelProto::default() }
}

fn files(of: &[(&str, &[u8])]) -> Files {
    of.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect()
}

/// What becomes of a model; None where it stays as it is.
fn join(model: &ModelProto, files: &Files, bytes_max: u64) -> Result<Option<ModelProto>, ExternalError> {
    let Some(split) = Split::of(&model.encode_to_vec())? else { return Ok(None) };
    let sizes = files.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect();
    split.check(&sizes, bytes_max)?;
    let Ok(joined) = split.joined(|piece| {
        let (from, to) = (piece.offset as usize, (piece.offset + piece.length) as usize);
        Ok::<_, Infallible>(files[&piece.location][from..to].to_vec())
    });
    Ok(Some(ModelProto::decode(joined.as_slice()).unwrap()))
}

const WEIGHTS: [u8; 20] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19];

#[test]
fn tensors_come_out_of_the_parts_of_the_files_that_are_theirs() {
    let split = model(vec![
        outside("whole", &[("location", "a.data")]),
        inside("own", b"12345678"),
        outside("part", &[("location", "./b.data"), ("offset", "12"), ("length", "8"), ("checksum", "?")]),
    ]);
    let whole = model(vec![inside("whole", &WEIGHTS[..8]), inside("own", b"12345678"), inside("part", &WEIGHTS[12..])]);
    let files = files(&[("a.data", &WEIGHTS), ("./b.data", &WEIGHTS)]);

    assert_eq!(join(&split, &files, 1000).unwrap(), Some(whole));
    let split = Split::of(&split.encode_to_vec()).unwrap().unwrap();
    assert_eq!(split.locations().into_iter().collect::<Vec<_>>(), ["./b.data", "a.data"]);
}

#[test]
fn tensors_are_found_wherever_a_model_may_have_them() {
    let weight = || outside("w", &[("location", "w")]);
    let sparse = || SparseTensorProto { values: Some(weight()), indices: Some(weight()), dims: vec![4] };
    let inner = GraphProto { initializer: vec![weight()], ..GraphProto::default() };
    let attribute = AttributeProto {
        t: Some(weight()),
        tensors: vec![weight()],
        sparse_tensor: Some(sparse()),
        sparse_tensors: vec![sparse()],
        g: Some(inner.clone()),
        graphs: vec![inner.clone()],
        ..AttributeProto::default()
    };
    let node = NodeProto { attribute: vec![attribute.clone()], ..NodeProto::default() };
    let function =
        FunctionProto { attribute_proto: vec![attribute], node: vec![node.clone()], ..FunctionProto::default() };
    let graph = GraphProto { node: vec![node], sparse_initializer: vec![sparse()], ..inner.clone() };
    let training = TrainingInfoProto {
        initialization: Some(inner.clone()),
        algorithm: Some(inner),
        ..TrainingInfoProto::default()
    };
    let split = ModelProto {
        graph: Some(graph),
        functions: vec![function],
        training_info: vec![training],
        ..ModelProto::default()
    };

    let mut whole = join(&split, &files(&[("w", &WEIGHTS)]), 10_000).unwrap().unwrap();

    // Eight in each of three attributes, three in the graph itself, one in each graph of the training.
    assert_eq!(external_tensors(&mut split.clone()).len(), 3 * 8 + 3 + 2);
    assert!(external_tensors(&mut whole).is_empty());
    let text = format!("{whole:?}");
    assert_eq!(text.matches(&format!("raw_data: Some({:?})", &WEIGHTS[..8])).count(), 3 * 8 + 3 + 2, "{text}");
    assert!(!text.contains("StringStringEntryProto"), "{text}");
}

#[test]
fn what_is_whole_or_no_model_stays_as_it_is() {
    // Where a tensor says that it is in the file, it is, whatever else it says.
    let here = TensorProto { data_location: Some(DataLocation::Default as i32), ..outside("w", &[("location", "/w")]) };
    for bytes in [model(vec![inside("w", b"12345678"), here]).encode_to_vec(), b"no model".to_vec(), Vec::new()] {
        assert_eq!(Split::of(&bytes), Ok(None));
    }
}

#[test]
fn files_outside_the_models_folder_are_not_read() {
    for location in ["", "/etc/passwd", "../w.data", "weights/../../w.data", "..", "/"] {
        let refused = Split::of(&model(vec![outside("w", &[("location", location)])]).encode_to_vec());
        let expected = ExternalError::Elsewhere { tensor: "w".to_owned(), location: location.to_owned() };
        assert_eq!(refused, Err(expected), "{location}");
    }
    assert!(matches!(Split::of(&model(vec![outside("w", &[])]).encode_to_vec()), Err(ExternalError::Elsewhere { .. })));
    assert!(Split::of(&model(vec![outside("w", &[("location", "weights/w..data")])]).encode_to_vec()).is_ok());
}

#[test]
fn lengths_that_are_not_the_tensors_are_refused() {
    let of = |entries: &[(&str, &str)], data_type: DataType, dims: Vec<i64>| {
        let entries = [&[("location", "w")], entries].concat();
        let tensor = TensorProto { data_type: Some(data_type as i32), dims, ..outside("w", &entries) };
        join(&model(vec![tensor]), &files(&[("w", &WEIGHTS)]), 1000)
    };
    type Row<'r> = (&'r [(&'r str, &'r str)], DataType, Vec<i64>, &'r str);
    let rows: [Row; 12] = [
        (&[("length", "8")], DataType::Float, vec![2], "fits"),
        (&[("offset", "19")], DataType::Bool, vec![], "fits"),
        (&[("offset", "20"), ("length", "0")], DataType::Double, vec![0, 3], "fits"),
        // Of halves of bytes only the file knows how many there are.
        (&[("length", "2")], DataType::Int4, vec![3], "fits"),
        (&[], DataType::Int4, vec![3], "number"),
        (&[("length", "7")], DataType::Float, vec![2], "length"),
        (&[("length", "-8")], DataType::Float, vec![2], "number"),
        (&[("offset", "0x8")], DataType::Float, vec![2], "number"),
        (&[("offset", "13")], DataType::Float, vec![2], "short"),
        (&[("offset", "18446744073709551615")], DataType::Float, vec![2], "short"),
        (&[], DataType::Complex128, vec![2], "short"),
        // More bytes than can be counted.
        (&[], DataType::Float, vec![i64::MAX, i64::MAX], "number"),
    ];
    for (entries, data_type, dims, expected) in rows {
        let found = match of(entries, data_type, dims.clone()) {
            Ok(_) => "fits",
            Err(ExternalError::Number { .. }) => "number",
            Err(ExternalError::Length { .. }) => "length",
            Err(ExternalError::Short { .. }) => "short",
            Err(other) => panic!("{other}"),
        };
        assert_eq!(found, expected, "{entries:?} {data_type:?} {dims:?}");
    }
}

#[test]
fn a_model_is_as_large_as_all_that_its_tensors_name() {
    // The same bytes, named often: a small file would become a large one.
    let split = model(vec![outside("w", &[("location", "w")]); 100]);
    let own = split.encode_to_vec().len() as u64;
    let files = files(&[("w", &WEIGHTS)]);
    assert!(join(&split, &files, own + 800).is_ok());
    let expected = ExternalError::TooLarge { bytes: own + 800, bytes_max: own + 799 };
    assert_eq!(join(&split, &files, own + 799), Err(expected));
}

#[test]
fn what_cannot_be_read_is_the_readers_error() {
    let split = Split::of(&model(vec![outside("w", &[("location", "w")])]).encode_to_vec()).unwrap().unwrap();
    assert_eq!(split.joined(|piece| Err(piece.tensor.clone())), Err("w".to_owned()));
}
