//! A model's file as the bytes that are uploaded: with the weights that lie in files beside it.
//!
//! What is wrong with a file that is no model, the agents say.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, bail};
use regatta_onnx::external::{Piece, Split};

use super::bytes_of;

/// The bytes of a model's file, as they are or with all that lies beside it.
///
/// # Errors
/// When something of it cannot be read or lies elsewhere, or all of it is larger than `bytes_max`.
pub fn model_of(path: &Path, bytes_max: u64) -> anyhow::Result<Vec<u8>> {
    let bytes = bytes_of(path, bytes_max)?;
    match split_of(path, &bytes, bytes_max)? {
        Some(split) => split.joined(|piece| read_piece(path, piece)),
        None => Ok(bytes),
    }
}

/// # Errors
/// Those of [`model_of`] that can be found without reading the files beside the model.
pub fn check_model(path: &Path, bytes_max: u64) -> anyhow::Result<()> {
    split_of(path, &bytes_of(path, bytes_max)?, bytes_max)?;
    Ok(())
}

/// The model, where parts of it lie in other files, which were found to have them.
fn split_of(path: &Path, bytes: &[u8], bytes_max: u64) -> anyhow::Result<Option<Split>> {
    let of_model = || format!("cannot use {}", path.display());
    let Some(split) = Split::of(bytes).with_context(of_model)? else { return Ok(None) };
    let sizes = split.locations().into_iter().map(|location| Ok((location.to_owned(), size_beside(path, location)?)));
    let size_by_location = sizes.collect::<anyhow::Result<BTreeMap<_, _>>>()?;
    split.check(&size_by_location, bytes_max).with_context(of_model)?;
    Ok(Some(split))
}

fn size_beside(path: &Path, location: &str) -> anyhow::Result<u64> {
    let beside = path.with_file_name(location);
    // Links are followed: stores of models keep each file as one.
    let metadata = std::fs::metadata(&beside).with_context(|| {
        format!(
            "cannot read {}, where weights of {} lie: keep it there under that name, or save the model again as one file \
             (external_data=False)",
            beside.display(),
            path.display()
        )
    })?;
    if !metadata.is_file() {
        bail!("{}, where weights of {} should lie, is no file", beside.display(), path.display());
    }
    Ok(metadata.len())
}

fn read_piece(path: &Path, piece: &Piece) -> anyhow::Result<Vec<u8>> {
    let beside = path.with_file_name(&piece.location);
    let read = || {
        let mut file = File::open(&beside)?;
        file.seek(SeekFrom::Start(piece.offset))?;
        let length = usize::try_from(piece.length).map_err(std::io::Error::other)?;
        let mut bytes = vec![0; length];
        file.read_exact(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    read().with_context(|| format!("cannot read tensor {:?} in {}", piece.tensor, beside.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

    use prost::Message;
    use regatta_onnx::tensor_proto::{DataLocation, DataType};
    use regatta_onnx::{GraphProto, ModelProto, StringStringEntryProto, TensorProto};

    use super::*;

    const MANY: u64 = 1000;

    /// Names and contents.
    type Beside<'f> = &'f [(&'f str, &'f [u8])];

    fn model(tensor: TensorProto) -> ModelProto {
        let graph = GraphProto { initializer: vec![tensor], ..GraphProto::default() };
        ModelProto { graph: Some(graph), ..ModelProto::default() }
    }

    fn whole() -> ModelProto {
        let dims = vec![4];
        model(TensorProto {
            dims,
            data_type: Some(DataType::Int8 as i32),
            raw_data: Some(b"5678".to_vec()),
            ..TensorProto::default()
        })
    }

    fn split(location: &str) -> ModelProto {
        let mut model = whole();
        let tensor = &mut model.graph.as_mut().unwrap().initializer[0];
        let entry = |(key, value): (&str, &str)| StringStringEntryProto {
            key: Some(key.to_owned()),
            value: Some(value.to_owned()),
        };
        tensor.raw_data = None;
        tensor.data_location = Some(DataLocation::External as i32);
        tensor.external_data = [("location", location), ("offset", "4"), ("length", "4")].map(entry).into();
        model
    }

    /// A model's file in a folder of its own, and what was said of it.
    fn written(model: &[u8], beside: Beside) -> (anyhow::Result<()>, anyhow::Result<Vec<u8>>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        std::fs::write(&path, model).unwrap();
        for (name, bytes) in beside {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        (check_model(&path, MANY), model_of(&path, MANY))
    }

    #[test]
    fn weights_beside_a_model_become_a_part_of_it() {
        let (checked, packed) = written(&split("m.data").encode_to_vec(), &[("m.data", b"123456789")]);
        checked.unwrap();
        assert_eq!(packed.unwrap(), whole().encode_to_vec());
    }

    #[test]
    fn what_has_nothing_beside_it_stays_as_it_is() {
        for bytes in [whole().encode_to_vec(), b"no model".to_vec()] {
            let (checked, packed) = written(&bytes, &[]);
            checked.unwrap();
            assert_eq!(packed.unwrap(), bytes);
        }
    }

    #[test]
    fn what_is_missing_cut_short_elsewhere_or_too_large_is_told_before_it_is_read() {
        let model = |location| split(location).encode_to_vec();
        let large = vec![0; usize::try_from(MANY).unwrap() + 1];
        let rows: [(Vec<u8>, Beside); 6] = [
            (model("m.data"), &[]),
            (model("m.data"), &[("m.data", b"1234567")]),
            (model("."), &[]),
            (model("../m.data"), &[]),
            (model("/dev/zero"), &[]),
            (large, &[]),
        ];
        for (at, (model, beside)) in rows.into_iter().enumerate() {
            let (checked, packed) = written(&model, beside);
            assert!(packed.is_err(), "row {at}");
            let told = format!("{:#}", checked.unwrap_err());
            assert!(told.contains("m.onnx"), "row {at}: {told}");
        }
    }
}
