//! Whatever befalls a model's graph, importing it and writing the gradients of a step answer with what it comes to or with
//! why not: they never panic.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "support/library.rs"]
mod library;
#[path = "golden_support/numbers.rs"]
#[allow(dead_code, reason = "their numbers are not looked at")]
mod numbers;

use std::sync::Arc;

use library::library;
use numbers::models;
use proptest::prelude::*;
use prost::Message;
use regatta_agent::runtime::{Device, Runtime};
use regatta_autodiff::backward::backward;
use regatta_autodiff::families::{Mode, Model};
use regatta_autodiff::graph::{Dtype, Provider};
use regatta_autodiff::import::{ModelFile, Settings};
use regatta_autodiff::onnx::attribute_proto::AttributeType;
use regatta_autodiff::onnx::tensor_shape_proto::{Dimension, dimension::Value};
use regatta_autodiff::onnx::{AttributeProto, GraphProto, ModelProto, TypeProto, type_proto};

/// Files that are read fast enough to be damaged often.
const BYTES_MAX: usize = 48 << 10;

/// What a damaged number becomes.
const NUMBERS: [i64; 16] =
    [0, 1, -1, 2, 3, 5, 7, -2, -7, 16, 1 << 16, 1 << 31, 1 << 40, i64::MAX, i64::MIN, i64::MIN + 1];

/// What befalls a graph, each at places that wrap around.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// A node becomes one of another node's operator.
    Operator {
        node: usize,
        like: usize,
    },
    /// An operand becomes another value of the graph, or none.
    Operand {
        node: usize,
        operand: usize,
        value: usize,
    },
    RemoveOperand {
        node: usize,
    },
    AddOperand {
        node: usize,
        value: usize,
    },
    RemoveNode {
        node: usize,
    },
    /// A node stands there a second time, its outputs under other names.
    RepeatNode {
        node: usize,
    },
    SwapNodes {
        one: usize,
        other: usize,
    },
    RemoveAttribute {
        node: usize,
        attribute: usize,
    },
    /// A node takes an attribute of another one.
    CopyAttribute {
        node: usize,
        from: usize,
        attribute: usize,
    },
    AttributeNumber {
        node: usize,
        attribute: usize,
        place: usize,
        number: usize,
    },
    /// An axis of an initializer, or what one of whole numbers says.
    InitializerAxis {
        initializer: usize,
        axis: usize,
        number: usize,
    },
    InitializerNumber {
        initializer: usize,
        place: usize,
        number: usize,
    },
    InitializerType {
        initializer: usize,
        dtype: i32,
    },
    RemoveInitializer {
        initializer: usize,
    },
    InputAxis {
        input: usize,
        axis: usize,
        number: usize,
    },
    Output {
        value: usize,
    },
    Opset {
        version: i64,
    },
}

fn any_damage() -> impl Strategy<Value = Vec<Damage>> {
    let at = || any::<usize>();
    let one = prop_oneof![
        4 => (at(), at()).prop_map(|(node, like)| Damage::Operator { node, like }),
        4 => (at(), at(), at()).prop_map(|(node, operand, value)| Damage::Operand { node, operand, value }),
        1 => at().prop_map(|node| Damage::RemoveOperand { node }),
        1 => (at(), at()).prop_map(|(node, value)| Damage::AddOperand { node, value }),
        2 => at().prop_map(|node| Damage::RemoveNode { node }),
        1 => at().prop_map(|node| Damage::RepeatNode { node }),
        1 => (at(), at()).prop_map(|(one, other)| Damage::SwapNodes { one, other }),
        2 => (at(), at()).prop_map(|(node, attribute)| Damage::RemoveAttribute { node, attribute }),
        1 => (at(), at(), at()).prop_map(|(node, from, attribute)| Damage::CopyAttribute { node, from, attribute }),
        6 => (at(), at(), at(), at())
            .prop_map(|(node, attribute, place, number)| Damage::AttributeNumber { node, attribute, place, number }),
        3 => (at(), at(), at())
            .prop_map(|(initializer, axis, number)| Damage::InitializerAxis { initializer, axis, number }),
        5 => (at(), at(), at())
            .prop_map(|(initializer, place, number)| Damage::InitializerNumber { initializer, place, number }),
        1 => (at(), 0..20).prop_map(|(initializer, dtype)| Damage::InitializerType { initializer, dtype }),
        1 => at().prop_map(|initializer| Damage::RemoveInitializer { initializer }),
        2 => (at(), at(), at()).prop_map(|(input, axis, number)| Damage::InputAxis { input, axis, number }),
        1 => at().prop_map(|value| Damage::Output { value }),
        1 => (-1_i64..30).prop_map(|version| Damage::Opset { version }),
    ];
    prop::collection::vec(one, 1..4)
}

/// 128 cases; `PROPTEST_CASES` asks for more, as `scripts/soak` does.
fn config() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(asked.unwrap_or(128)) }
}

fn at<T>(list: &mut [T], place: usize) -> Option<&mut T> {
    let count = list.len();
    if count == 0 { None } else { list.get_mut(place % count) }
}

fn remove<T>(list: &mut Vec<T>, place: usize) {
    if !list.is_empty() {
        list.remove(place % list.len());
    }
}

fn value(graph: &GraphProto, place: usize) -> String {
    let mut names: Vec<&str> = vec![""];
    names.extend(graph.initializer.iter().filter_map(|tensor| tensor.name.as_deref()));
    names.extend(graph.input.iter().filter_map(|input| input.name.as_deref()));
    names.extend(graph.node.iter().flat_map(|node| &node.output).map(String::as_str));
    names[place % names.len()].to_owned()
}

fn befall(model: &mut ModelProto, damage: Damage) -> Option<()> {
    if let Damage::Opset { version } = damage {
        at(&mut model.opset_import, 0)?.version = Some(version);
        return Some(());
    }
    let graph = model.graph.as_mut()?;
    let number = |place: usize| NUMBERS[place % NUMBERS.len()];
    match damage {
        Damage::Operator { node, like } => {
            let op = at(&mut graph.node, like)?.op_type.clone();
            at(&mut graph.node, node)?.op_type = op;
        }
        Damage::Operand { node, operand, value: place } => {
            let name = value(graph, place);
            *at(&mut at(&mut graph.node, node)?.input, operand)? = name;
        }
        Damage::RemoveOperand { node } => drop(at(&mut graph.node, node)?.input.pop()),
        Damage::AddOperand { node, value: place } => {
            let name = value(graph, place);
            at(&mut graph.node, node)?.input.push(name);
        }
        Damage::RemoveNode { node } => remove(&mut graph.node, node),
        Damage::RepeatNode { node } => {
            let mut again = at(&mut graph.node, node)?.clone();
            again.name = None;
            again.output.iter_mut().for_each(|output| output.push_str(".again"));
            graph.node.push(again);
        }
        Damage::SwapNodes { one, other } => {
            let count = graph.node.len();
            if count > 0 {
                graph.node.swap(one % count, other % count);
            }
        }
        Damage::RemoveAttribute { node, attribute } => {
            remove(&mut at(&mut graph.node, node)?.attribute, attribute);
        }
        Damage::CopyAttribute { node, from, attribute } => {
            let attribute = at(&mut at(&mut graph.node, from)?.attribute, attribute)?.clone();
            let attributes = &mut at(&mut graph.node, node)?.attribute;
            attributes.retain(|known| known.name != attribute.name);
            attributes.push(attribute);
        }
        Damage::AttributeNumber { node, attribute, place, number: to } => {
            set(at(&mut at(&mut graph.node, node)?.attribute, attribute)?, place, number(to));
        }
        Damage::InitializerAxis { initializer, axis, number: to } => {
            *at(&mut at(&mut graph.initializer, initializer)?.dims, axis)? = number(to);
        }
        Damage::InitializerNumber { initializer, place, number: to } => {
            let is_whole = |code: Option<i32>| Dtype::of_code(code.unwrap_or(0).into()) == Some(Dtype::I64);
            let mut tensors: Vec<_> =
                graph.initializer.iter_mut().filter(|tensor| is_whole(tensor.data_type)).collect();
            let tensor = at(&mut tensors, initializer)?;
            if let Some(raw) = &mut tensor.raw_data {
                let count = raw.len() / 8;
                let place = if count == 0 { 0 } else { place % count * 8 };
                raw.get_mut(place..place + 8)?.copy_from_slice(&number(to).to_le_bytes());
            } else {
                *at(&mut tensor.int64_data, place)? = number(to);
            }
        }
        Damage::InitializerType { initializer, dtype } => {
            at(&mut graph.initializer, initializer)?.data_type = Some(dtype);
        }
        Damage::RemoveInitializer { initializer } => {
            remove(&mut graph.initializer, initializer);
        }
        Damage::InputAxis { input, axis, number: to } => {
            let r#type = at(&mut graph.input, input)?.r#type.as_mut()?;
            let TypeProto { value: Some(type_proto::Value::TensorType(tensor)), .. } = r#type else { return None };
            let axis: &mut Dimension = at(&mut tensor.shape.as_mut()?.dim, axis)?;
            axis.value = Some(Value::DimValue(number(to)));
        }
        Damage::Output { value: place } => {
            let name = value(graph, place);
            at(&mut graph.output, 0)?.name = Some(name);
        }
        Damage::Opset { .. } => {}
    }
    Some(())
}

#[expect(clippy::cast_precision_loss, reason = "any number will do")]
fn set(attribute: &mut AttributeProto, place: usize, number: i64) {
    if attribute.r#type == Some(AttributeType::Float.into()) {
        attribute.f = Some(if number == i64::MAX { f32::NAN } else { number as f32 });
    } else if attribute.ints.is_empty() {
        attribute.i = Some(number);
    } else if number == i64::MIN {
        attribute.ints.pop();
    } else if number == i64::MIN + 1 {
        attribute.ints.push(1);
    } else if let Some(known) = at(&mut attribute.ints, place) {
        *known = number;
    }
}

/// A golden model's file, the graph that ONNX Runtime makes of it, and the data that it is for.
#[derive(Clone)]
struct Sample {
    file: String,
    onnx: Vec<u8>,
    cleaned: Vec<u8>,
    rows: Vec<Vec<usize>>,
    batch: usize,
}

impl std::fmt::Debug for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file)
    }
}

impl Sample {
    /// Whether it comes to a step's gradients, on either provider. ONNX Runtime has no part in it: a graph of which it
    /// breaks off the process says nothing of ours.
    fn trains(&self) -> bool {
        let Ok(file) = ModelFile::read(&self.onnx, &Settings::default()) else { return false };
        let Ok(model) = file.closed(&self.rows, &[(self.batch, self.cleaned.clone())]) else { return false };
        let model = Model::Imported(Arc::new(model));
        let step = |provider| backward(&model, Mode::Training, self.batch, (provider, true));
        [Provider::Cpu, Provider::Cuda].map(step).iter().all(|step| {
            let Ok(step) = step else { return false };
            !step.graph.encode().is_empty()
        })
    }

    /// With a file that is as it would be given to ONNX Runtime; `None` where it is refused before.
    fn with_file(&self, onnx: Vec<u8>) -> Option<Self> {
        let opened = ModelFile::read(&onnx, &Settings::default()).and_then(|file| file.opened(&self.rows, self.batch));
        Some(Self { onnx, cleaned: opened.ok()?, ..self.clone() })
    }
}

fn samples() -> Vec<Sample> {
    let runtime = Runtime::load(&library(), Device::Cpu, 1).unwrap();
    let mut samples = Vec::new();
    for golden in models() {
        for file in &golden.files {
            let (file, onnx) = (file.name.clone(), file.bytes());
            if onnx.len() < BYTES_MAX {
                let rows = golden.inputs.iter().map(|input| input.shape[1..].to_vec()).collect();
                let sample = Sample { file, onnx, cleaned: Vec::new(), rows, batch: golden.inputs[0].shape[0] };
                let opened = sample.with_file(sample.onnx.clone()).unwrap().cleaned;
                samples.push(Sample { cleaned: runtime.simplify(&opened).unwrap(), ..sample });
            }
        }
    }
    samples
}

fn damaged(onnx: &[u8], damages: &[Damage]) -> Vec<u8> {
    let mut model = ModelProto::decode(onnx).unwrap();
    for damage in damages {
        befall(&mut model, *damage);
    }
    model.encode_to_vec()
}

#[test]
fn what_is_damaged_below_was_sound() {
    let unsound: Vec<_> = samples().into_iter().filter(|sample| !sample.trains()).collect();
    assert!(unsound.is_empty(), "{:?}", unsound.iter().map(|sample| &sample.file).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_damaged_file_is_answered(sample in prop::sample::select(samples()), damages in any_damage()) {
        if let Some(sample) = sample.with_file(damaged(&sample.onnx, &damages)) {
            sample.trains();
        }
    }

    #[test]
    fn a_damaged_graph_is_answered(sample in prop::sample::select(samples()), damages in any_damage()) {
        Sample { cleaned: damaged(&sample.cleaned, &damages), ..sample }.trains();
    }
}
