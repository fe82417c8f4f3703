//! The golden folder: its index, and the numbers of each model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

pub struct Golden {
    pub name: String,
    pub inputs: Vec<Port>,
    pub target: Port,
    pub loss: Settings,
    pub class_axis: usize,
    pub batches: usize,
    pub steps: usize,
    pub optimizers: Vec<Settings>,
    pub files: Vec<File>,
    /// PyTorch's own in single precision, where it is not known to be none to speak of.
    pub single: Errors,
    tensors: Vec<u8>,
}

/// What numbers differ by from those in double precision, relative to them: the largest of any.
#[derive(Default)]
pub struct Errors {
    pub gradient: f64,
    pub loss: f64,
    /// Of outputs and running statistics after the steps.
    pub trained: f64,
}

pub struct Port {
    pub name: String,
    pub shape: Vec<usize>,
}

/// Of a loss or an optimizer, in PyTorch's words.
pub struct Settings {
    pub name: String,
    all: Value,
}

impl Settings {
    fn of(all: &Value) -> Self {
        Self { name: text(&all["name"]), all: all.clone() }
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        self.all[name].as_f64()
    }

    pub fn number(&self, name: &str) -> f64 {
        self.get(name).unwrap_or_else(|| panic!("{name} of {}", self.name))
    }

    pub fn integer(&self, name: &str) -> Option<i64> {
        self.all[name].as_i64()
    }

    #[expect(clippy::cast_possible_truncation, reason = "the product takes them so")]
    pub fn list(&self, name: &str) -> Option<Vec<f32>> {
        let number = |value: &Value| value.as_f64().expect("a number") as f32;
        self.all[name].as_array().map(|list| list.iter().map(number).collect())
    }
}

pub struct File {
    pub name: String,
    path: PathBuf,
    pub exporter: String,
    pub opset: i64,
    pub gradient_by_parameter: BTreeMap<String, String>,
}

impl File {
    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).expect("the file of the index is there")
    }
}

impl Golden {
    /// Of a batch's output.
    pub fn output_shape(&self) -> Vec<usize> {
        self.tensors().tensor("output.eval").expect("every model has an output").shape().to_vec()
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.tensors).expect("the numbers are safetensors")
    }

    /// A tensor's numbers.
    pub fn numbers(&self, name: &str) -> Vec<f64> {
        let tensors = self.tensors();
        let tensor =
            tensors.tensor(name).unwrap_or_else(|_| panic!("{name} is not among the numbers of {}", self.name));
        let data = tensor.data();
        let f64s = |size: usize, number: &dyn Fn(&[u8]) -> f64| data.chunks_exact(size).map(number).collect();
        match tensor.dtype() {
            Dtype::F64 => f64s(8, &|bytes| f64::from_le_bytes(bytes.try_into().unwrap())),
            Dtype::F32 => f64s(4, &|bytes| f64::from(f32::from_le_bytes(bytes.try_into().unwrap()))),
            #[expect(clippy::cast_precision_loss, reason = "tokens and classes are small")]
            Dtype::I64 => f64s(8, &|bytes| i64::from_le_bytes(bytes.try_into().unwrap()) as f64),
            Dtype::BOOL | Dtype::U8 => f64s(1, &|bytes| f64::from(bytes[0])),
            other => panic!("{other:?}"),
        }
    }

    /// An input or the target, one batch behind the other.
    pub fn all(&self, port: &Port, prefix: &str) -> Vec<f64> {
        let all = self.numbers(&format!("{prefix}{}", port.name));
        assert_eq!(all.len(), port.shape.iter().product::<usize>() * self.batches);
        all
    }

    /// The first batch of an input or of the target.
    pub fn batch(&self, port: &Port, prefix: &str) -> Vec<f64> {
        let mut all = self.all(port, prefix);
        all.truncate(all.len() / self.batches);
        all
    }
}

/// Every model of this repository's folder.
pub fn models() -> Vec<Golden> {
    // The tests of CUDA, which are in another crate, train them, too.
    models_of(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../agent/tests/golden")))
}

/// Every model of a folder's index.
pub fn models_of(folder: &Path) -> Vec<Golden> {
    let index = std::fs::read(folder.join("index.json")).expect("the index is there");
    let index: Value = serde_json::from_slice(&index).expect("the index is JSON");
    list(&index["models"]).iter().map(|model| golden(folder, model)).collect()
}

fn golden(folder: &Path, model: &Value) -> Golden {
    let port =
        |value: &Value| Port { name: text(&value["name"]), shape: list(&value["shape"]).iter().map(size).collect() };
    let file = |value: &Value| File {
        name: text(&value["file"]),
        path: folder.join(text(&value["file"])),
        exporter: text(&value["exporter"]),
        opset: value["opset"].as_i64().expect("an opset"),
        gradient_by_parameter: value["parameters"]
            .as_object()
            .expect("parameters by name")
            .iter()
            .filter_map(|(name, of)| Some((name.clone(), of["gradient"].as_str()?.to_owned())))
            .collect(),
    };
    Golden {
        name: text(&model["name"]),
        inputs: list(&model["inputs"]).iter().map(port).collect(),
        target: port(&model["target"]),
        loss: Settings::of(&model["loss"]),
        class_axis: model["class_axis"].as_u64().map_or(1, |axis| usize::try_from(axis).unwrap()),
        batches: size(&model["batches"]),
        steps: size(&model["steps"]),
        optimizers: list(&model["optimizers"]).iter().map(Settings::of).collect(),
        single: Errors {
            gradient: model["single"]["gradient"].as_f64().unwrap_or_default(),
            loss: model["single"]["loss"].as_f64().unwrap_or_default(),
            trained: model["single"]["trained"].as_f64().unwrap_or_default(),
        },
        files: list(&model["files"]).iter().map(file).collect(),
        tensors: std::fs::read(folder.join(text(&model["numbers"]))).expect("the numbers of the index are there"),
    }
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().expect("a list")
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn size(value: &Value) -> usize {
    usize::try_from(value.as_u64().expect("a size")).expect("a size")
}
