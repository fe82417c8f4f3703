//! Data files as people make them, and what a data set holds of them.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::io::{Cursor, Write};

use npyz::npz::NpzWriter;
use regatta_agent::data::{DataError, Store};
use regatta_agent::training::{Dataset, Feature, Values};
use regatta_schemas::recipe::{Channels, Data, DataFormat, Normalize, Task};

pub fn read(data: &Data, bytes: &[u8]) -> Result<Dataset, DataError> {
    regatta_agent::data::read(data, &Store::Memory(bytes.to_vec()))
}

/// What a recipe says at least.
pub fn data(format: DataFormat, task: Task) -> Data {
    Data {
        file: Some("data".to_owned()),
        object: None,
        format,
        task,
        features: None,
        target: "y".to_owned(),
        validation: 0.25,
        split_seed: 0,
        normalize: Normalize::None,
        validation_features: None,
        validation_target: None,
        shape: None,
        channels: Channels::First,
        categorical: Vec::new(),
        length: None,
        image_size: None,
        stream: false,
        ignored: None,
    }
}

pub fn npy(descr: &str, is_fortran: bool, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let order = if is_fortran { "True" } else { "False" };
    let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00", length.as_slice(), header.as_bytes(), bytes].concat()
}

pub fn npz(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = NpzWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in arrays {
        archive.zip_writer().start_file(format!("{name}.npy"), Default::default()).unwrap();
        archive.zip_writer().write_all(bytes).unwrap();
    }
    archive.zip_writer().finish().unwrap().into_inner()
}

/// A tar archive of these files.
pub fn tar(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

/// The numbers that a model sees.
pub fn numbers(feature: &Feature) -> Vec<f32> {
    let run = |figures: &[f32]| feature.width() / figures.len();
    match (&feature.values, &feature.affine) {
        (Values::F32(values), _) => values.clone(),
        (Values::I64(values), _) => values.iter().map(|value| *value as f32).collect(),
        (Values::U8(values), None) => values.iter().map(|value| f32::from(*value)).collect(),
        (Values::U8(values), Some(affine)) => {
            let channel = |at: usize| at / run(&affine.offset) % affine.offset.len();
            let number = |(at, value): (usize, &u8)| {
                (f32::from(*value) - affine.offset[channel(at)]) * affine.factor[channel(at)]
            };
            values.iter().enumerate().map(number).collect()
        }
    }
}
