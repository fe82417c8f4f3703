//! Model files that are damaged or hostile: refused with an error, whatever they hold.

use std::path::PathBuf;

use prost::Message;
use regatta_autodiff::import::{Axis, ImportError, ModelFile, Notice, Settings};

const BATCH: usize = 4;

fn golden(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    std::fs::read(folder.join(name)).expect("the golden file is there")
}

/// Reads, opens and translates a file without a runtime between.
fn import(bytes: &[u8]) -> Result<usize, ImportError> {
    let file = ModelFile::read(bytes, &Settings::default())?;
    let size = |axis: &Axis| match axis {
        Axis::Fixed(size) => *size,
        Axis::Free(_) => 3,
    };
    let rows: Vec<Vec<usize>> = file.inputs().iter().map(|input| input.axes[1..].iter().map(size).collect()).collect();
    let batch = file.fixed_batch().unwrap_or(BATCH);
    let opened = file.opened(&rows, batch)?;
    Ok(file.closed(&rows, &[(batch, opened)])?.parameters().len())
}

/// Bytes changed at places that follow from `seed`.
fn damaged(bytes: &[u8], seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits") % below.max(1)
    };
    let mut bytes = bytes.to_vec();
    for _ in 0..=next(4) {
        let at = next(bytes.len());
        match next(4) {
            0 => bytes[at] ^= 1 << next(8),
            1 => bytes[at] = u8::try_from(next(256)).expect("a byte"),
            2 => {
                bytes.remove(at);
            }
            _ => bytes.insert(at, u8::try_from(next(256)).expect("a byte")),
        }
    }
    bytes
}

#[test]
fn damaged_files_are_errors_at_worst() {
    let names = ["mlp.dynamo.onnx", "lstm.torchscript.onnx", "bert.torchscript-17.onnx", "gpt.dynamo-23.onnx"];
    let mut refused = 0;
    for name in names {
        let bytes = golden(name);
        for seed in 0..150 {
            refused += usize::from(import(&damaged(&bytes, seed)).is_err());
        }
    }
    assert!(refused > 0, "no damage was noticed");
}

#[test]
fn cut_files_are_refused() {
    let bytes = golden("mlp.dynamo.onnx");
    for length in 0..bytes.len() / 2 {
        assert!(import(&bytes[..length]).is_err(), "{length}");
    }
}

#[test]
fn a_whole_file_is_imported_with_all_its_parameters() {
    assert_eq!(import(&golden("mlp.dynamo.onnx")).unwrap(), 6);
}

#[test]
fn an_export_for_inference_is_noticed() {
    for name in ["dropouts.dynamo-eval.onnx", "dropouts.torchscript-eval.onnx"] {
        let file = ModelFile::read(&golden(name), &Settings::default()).unwrap();
        assert!(file.notices().contains(&Notice::Inference), "{name}");
    }
    let file = ModelFile::read(&golden("dropouts.dynamo.onnx"), &Settings::default()).unwrap();
    assert!(!file.notices().contains(&Notice::Inference));
}

#[test]
fn a_pattern_of_frozen_parameters_fits_one() {
    let with = |pattern: &str| {
        let settings = Settings { frozen: vec![pattern.into()], ..Settings::default() };
        ModelFile::read(&golden("mlp.dynamo.onnx"), &settings).map(|_| ())
    };
    assert_eq!(with("*.weight"), Ok(()));
    let error = with("0.wieght").unwrap_err();
    assert!(matches!(error, ImportError::Frozen { .. }) && error.to_string().contains("0.weight"), "{error}");
}

/// A file of opset 18 whose output `[4, 3]` is an operator of what was computed from `x`, of places and of a weight.
fn file_of(op: &str, reduction: &str) -> Vec<u8> {
    use regatta_autodiff::onnx::type_proto::{Tensor, Value};
    use regatta_autodiff::onnx::{
        AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
        TypeProto, ValueInfoProto, tensor_shape_proto,
    };
    let dimension = |size| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(size)),
        ..Default::default()
    };
    let port = |name: &str| {
        let shape = Some(TensorShapeProto { dim: vec![dimension(4), dimension(3)] });
        let r#type = Some(TypeProto {
            value: Some(Value::TensorType(Tensor { elem_type: Some(1), shape })),
            ..Default::default()
        });
        ValueInfoProto { name: Some(name.into()), r#type, ..Default::default() }
    };
    let weight = TensorProto {
        name: Some("w".into()),
        dims: vec![4, 3],
        data_type: Some(1),
        float_data: (0..12u8).map(f32::from).collect(),
        ..Default::default()
    };
    let places = TensorProto {
        name: Some("places".into()),
        dims: vec![4, 3],
        data_type: Some(7),
        int64_data: [0, 1, 2].repeat(4),
        ..Default::default()
    };
    let reduction = AttributeProto {
        name: Some("reduction".into()),
        r#type: Some(3),
        s: Some(reduction.into()),
        ..Default::default()
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let first =
        NodeProto { op_type: Some("Tanh".into()), input: names(&["x"]), output: names(&["h"]), ..Default::default() };
    let second = NodeProto {
        name: Some("body/pick".into()),
        op_type: Some(op.into()),
        input: names(&["h", "places", "w"]),
        output: names(&["y"]),
        attribute: vec![reduction],
        ..Default::default()
    };
    let graph = GraphProto {
        node: vec![first, second],
        initializer: vec![weight, places],
        input: vec![port("x")],
        output: vec![port("y")],
        ..Default::default()
    };
    let opset_import = vec![OperatorSetIdProto { version: Some(18), ..Default::default() }];
    ModelProto { ir_version: Some(8), opset_import, graph: Some(graph), ..Default::default() }.encode_to_vec()
}

#[test]
fn an_error_has_the_files_own_name_of_the_node_and_its_opset() {
    let error = import(&file_of("ScatterElements", "max")).unwrap_err();
    let is_named = |error: &ImportError| matches!(error, ImportError::Operator { op, node, opset: 18, .. } if op == "ScatterElements" && node == "body/pick");
    assert!(is_named(&error), "{error}");
    assert_eq!(import(&file_of("ScatterElements", "add")), Ok(1));

    // Before any runtime sees them.
    let error = import(&file_of("Loop", "")).unwrap_err();
    assert!(matches!(&error, ImportError::Operator { op, node, .. } if op == "Loop" && node == "body/pick"), "{error}");
    let error = import(&file_of("GridSample", "")).unwrap_err();
    assert!(
        matches!(&error, ImportError::Operator { op, help, .. } if op == "GridSample" && help.contains("Resize")),
        "{error}"
    );
}

#[test]
fn an_unknown_output_is_named() {
    let settings = Settings { output: Some("nothing".into()), ..Settings::default() };
    let error = ModelFile::read(&golden("mlp.dynamo.onnx"), &settings).unwrap_err();
    assert_eq!(error, ImportError::Output { wanted: "nothing".into(), known: vec!["output".into()] });
}

/// The names of what trains without these parts of a golden model.
fn parameters_without(name: &str, prefixes: &[&str]) -> Result<Vec<String>, ImportError> {
    let without = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
    let file = ModelFile::read(&golden(name), &Settings { without, ..Settings::default() })?;
    let size = |axis: &Axis| if let Axis::Fixed(size) = axis { *size } else { 3 };
    let rows: Vec<Vec<usize>> = file.inputs().iter().map(|input| input.axes[1..].iter().map(size).collect()).collect();
    let batch = file.fixed_batch().unwrap_or(BATCH);
    let imported = file.closed(&rows, &[(batch, file.opened(&rows, batch)?)])?;
    Ok(imported.parameters().iter().map(|parameter| parameter.name.clone()).collect())
}

#[test]
fn parts_of_models_of_both_exporters_are_cut_out() {
    let rows: [(&str, &[&str]); 3] = [
        ("resnet18.torchscript.onnx", &["3."]),
        ("gpt.torchscript-17.onnx", &["blocks.0"]),
        ("gpt.dynamo-23.onnx", &["blocks.1.wide", "gelu_1", "blocks.1.narrow"]),
    ];
    for (name, prefixes) in rows {
        let whole = parameters_without(name, &[]).unwrap();
        let left = parameters_without(name, prefixes).unwrap();
        let is_cut = |parameter: &String| prefixes.iter().any(|prefix| parameter.starts_with(prefix));
        let expected: Vec<_> = whole.iter().filter(|parameter| !is_cut(parameter)).cloned().collect();
        assert!(expected.len() < whole.len());
        // The norm in front of a branch that is gone has no use either; and an exporter may forget a weight's name.
        let left_over: Vec<_> = expected.iter().filter(|parameter| !left.contains(parameter)).collect();
        let may_go = |parameter: &&&String| parameter.contains("norm") || parameter.starts_with("onnx::");
        assert!(left_over.iter().all(|parameter| may_go(&parameter)), "{name}: {left_over:?}");
        assert!(left.iter().all(|parameter| expected.contains(parameter)), "{name}: {left:?}");
    }
}

#[test]
fn a_part_that_changes_the_shape_cannot_be_cut_out() {
    for name in ["resnet18.torchscript.onnx", "resnet18.dynamo.onnx", "mlp.dynamo.onnx"] {
        let first = if name.starts_with("mlp") { "0." } else { "0.weight" };
        assert!(parameters_without(name, &[first]).is_err(), "{name}");
        assert!(matches!(parameters_without(name, &["elsewhere"]), Err(ImportError::Cut { .. })), "{name}");
    }
}
