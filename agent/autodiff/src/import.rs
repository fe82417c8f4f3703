//! Model files that other programs exported, as models that train.
//!
//! A file is read and checked ([`ModelFile::read`]); its trainable initializers become inputs and its free axes get
//! numbers ([`ModelFile::opened`]); whoever has a runtime lets it fold what is constant; and what comes back is
//! translated, operator by operator, into the graph that this crate differentiates ([`ModelFile::closed`]).
//! It runs nothing, and input of any kind is an error at worst.

mod cut;
mod error;
mod fold;
mod initial;
mod mend;
mod model;
mod open;
mod parameters;
mod tensor;
mod translate;

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

pub use error::{ImportError, Notice, OTHER_SIZES};
pub use initial::Weights;
pub use model::Imported;

use crate::graph::{Dtype, RESERVED_PREFIX, dtype_of};
use crate::onnx::tensor_shape_proto::dimension;
use crate::onnx::{GraphProto, ModelProto, ValueInfoProto, type_proto};
use parameters::{Kind, Roles};

/// What is taken of a file, and not more.
pub(crate) struct Limits {
    pub bytes_max: usize,
    pub nodes_max: usize,
    pub initializers_max: usize,
    /// Inputs and outputs, of the model or of a node.
    pub ports_max: usize,
    pub rank_max: usize,
    /// Of one tensor.
    pub elements_max: usize,
    pub opset_min: i64,
    pub opset_max: i64,
}

pub(crate) const LIMITS: Limits = Limits {
    bytes_max: 2 << 30,
    nodes_max: 100_000,
    initializers_max: 50_000,
    ports_max: 4096,
    rank_max: 8,
    elements_max: 1 << 29,
    opset_min: 9,
    opset_max: 24,
};

/// A size of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Axis {
    Fixed(usize),
    /// Free, by the name that the file gives it; empty where it gives none.
    Free(String),
}

/// An input of a model file, batch axis first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInput {
    pub name: String,
    pub dtype: Dtype,
    pub axes: Vec<Axis>,
}

/// What a recipe says of a model file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The output that the loss is of; the first where it is not given.
    pub output: Option<String>,
    pub weights: Weights,
    /// Patterns of the names of parameters that do not train; `*` stands for any characters.
    pub frozen: Vec<String>,
    /// What the names of nodes, their outputs or their weights begin with that are left out.
    pub without: Vec<String>,
}

/// A model file that was read and checked.
#[derive(Debug, Clone)]
pub struct ModelFile {
    model: ModelProto,
    inputs: Vec<ModelInput>,
    roles: Roles,
    output: String,
    settings: Settings,
    opset: i64,
}

impl ModelFile {
    /// Reads a file of any exporter: opsets 9 to 24, everything in one file.
    ///
    /// # Errors
    /// The bytes are no model, its parts contradict each other, or it has what cannot be trained.
    pub fn read(bytes: &[u8], settings: &Settings) -> Result<Self, ImportError> {
        at_most("bytes", bytes.len(), LIMITS.bytes_max)?;
        let mut model = decoded(bytes)?;
        let opset = opset_of(&model)?;
        let graph = model.graph.as_mut().ok_or_else(|| malformed("it has no graph"))?;
        // Old files list every initializer as an input too.
        let initializers: BTreeSet<String> = graph.initializer.iter().map(|tensor| tensor.name().to_owned()).collect();
        graph.input.retain(|input| !initializers.contains(input.name()));
        let inputs = graph.input.iter().map(model_input).collect::<Result<Vec<_>, _>>()?;
        check_domains(&model)?;
        check_names(graph_of(&model))?;
        if let Some(graph) = &mut model.graph {
            mend::mend(graph);
            cut::cut(graph, &settings.without)?;
        }
        let output = chosen_output(graph_of(&model), settings.output.as_deref())?;
        let roles = Roles::of(&model, opset, &settings.frozen)?;
        Ok(Self { inputs, roles, output, opset, settings: settings.clone(), model })
    }

    /// What the model takes, in order.
    pub fn inputs(&self) -> &[ModelInput] {
        &self.inputs
    }

    /// What a person should know of the file.
    pub fn notices(&self) -> &[Notice] {
        &self.roles.notices
    }

    /// Whose weights an initializer holds; `None` where it is a constant.
    pub(crate) fn source_of(&self, name: &str) -> Option<TensorSource> {
        let role = self.roles.role_by_name.get(name)?;
        let (source, transposed) = match &role.kind {
            Kind::Tied { to, transposed } => (to.as_str(), *transposed),
            Kind::Parameter { .. } | Kind::Statistics => (name, false),
        };
        Some(TensorSource { name: source.into(), shape: role.shape.clone(), transposed })
    }

    /// The model as it was read, whose weights each of its initializers holds, and its opset.
    pub(crate) fn into_parts(self) -> (ModelProto, BTreeMap<String, TensorSource>, i64) {
        let source = |name: &String| Some((name.clone(), self.source_of(name)?));
        let sources = self.roles.role_by_name.keys().filter_map(source).collect();
        (self.model, sources, self.opset)
    }

    fn graph(&self) -> &GraphProto {
        graph_of(&self.model)
    }
}

/// Whose weights a tensor of a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TensorSource {
    pub name: String,
    /// Of the tensor itself.
    pub shape: Vec<usize>,
    /// Whether it holds the transpose of the weights.
    pub transposed: bool,
}

/// The model behind bytes.
pub(crate) fn decoded(bytes: &[u8]) -> Result<ModelProto, ImportError> {
    ModelProto::decode(bytes).map_err(|error| malformed(error.to_string()))
}

pub(crate) fn malformed(reason: impl Into<String>) -> ImportError {
    ImportError::Malformed { reason: reason.into() }
}

fn at_most(what: &'static str, found: usize, most: usize) -> Result<(), ImportError> {
    if found <= most { Ok(()) } else { Err(ImportError::TooLarge { what, found: found as u64, most: most as u64 }) }
}

fn graph_of(model: &ModelProto) -> &GraphProto {
    model.graph.as_ref().expect("a model without a graph was refused")
}

/// The version of ONNX's own operators that the model is written in.
fn opset_of(model: &ModelProto) -> Result<i64, ImportError> {
    let own = model.opset_import.iter().find(|import| is_own(import.domain()));
    let opset = own.ok_or_else(|| malformed("it names no opset"))?.version();
    if (LIMITS.opset_min..=LIMITS.opset_max).contains(&opset) { Ok(opset) } else { Err(ImportError::Opset { opset }) }
}

/// Whether a domain is that of ONNX's own operators.
fn is_own(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// Every operator is ONNX's own, or a function that the file brings along and the runtime writes out.
fn check_domains(model: &ModelProto) -> Result<(), ImportError> {
    let functions: BTreeSet<(&str, &str)> =
        model.functions.iter().map(|function| (function.domain(), function.name())).collect();
    let inner = model.functions.iter().flat_map(|function| &function.node);
    for node in graph_of(model).node.iter().chain(inner) {
        at_most("operands of a node", node.input.len().max(node.output.len()), LIMITS.ports_max)?;
        if !is_own(node.domain()) && !functions.contains(&(node.domain(), node.op_type())) {
            return Err(ImportError::Operator {
                op: format!("{}.{}", node.domain(), node.op_type()),
                node: node.name().into(),
                opset: opset_of(model)?,
                reason: "it is not one of ONNX's own operators".into(),
                help: "export the model before a runtime has optimised it, with standard operators only",
            });
        }
    }
    Ok(())
}

/// Names are defined once and before they are used, so that there is no cycle either.
fn check_names(graph: &GraphProto) -> Result<(), ImportError> {
    at_most("nodes", graph.node.len(), LIMITS.nodes_max)?;
    at_most("initializers", graph.initializer.len(), LIMITS.initializers_max)?;
    at_most("inputs and outputs", graph.input.len() + graph.output.len(), LIMITS.ports_max)?;
    if !graph.sparse_initializer.is_empty() {
        return Err(malformed("it has sparse initializers, which are not taken"));
    }
    let mut defined = BTreeSet::new();
    let mut define = |name: &'_ str| -> Result<(), ImportError> {
        if name.starts_with(RESERVED_PREFIX) {
            return Err(malformed(format!("the name {name:?} begins with {RESERVED_PREFIX:?}, which is kept")));
        }
        if name.is_empty() || !defined.insert(name.to_owned()) {
            return Err(malformed(format!("the name {name:?} is given twice or is empty")));
        }
        Ok(())
    };
    for name in graph.input.iter().map(|i| i.name()).chain(graph.initializer.iter().map(|i| i.name())) {
        define(name)?;
    }
    let mut definitions: BTreeMap<&str, usize> = BTreeMap::new();
    for (position, node) in graph.node.iter().enumerate() {
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            define(output)?;
            definitions.insert(output, position);
        }
    }
    for (position, node) in graph.node.iter().enumerate() {
        for input in node.input.iter().filter(|input| !input.is_empty()) {
            let early = definitions.get(input.as_str()).is_some_and(|&definition| definition >= position);
            if early || !defined.contains(input) {
                return Err(malformed(format!("node {:?} uses {input:?} before anything gives it", node.name())));
            }
        }
    }
    match graph.output.iter().find(|output| !defined.contains(output.name())) {
        Some(output) => Err(malformed(format!("nothing gives the output {:?}", output.name()))),
        None => Ok(()),
    }
}

fn chosen_output(graph: &GraphProto, wanted: Option<&str>) -> Result<String, ImportError> {
    let mut names = graph.output.iter().map(|output| output.name());
    let found = match wanted {
        Some(wanted) => names.find(|name| *name == wanted),
        None => names.next(),
    };
    found.map(str::to_owned).ok_or_else(|| ImportError::Output {
        wanted: wanted.unwrap_or_default().into(),
        known: graph.output.iter().map(|output| output.name().to_owned()).collect(),
    })
}

fn model_input(input: &ValueInfoProto) -> Result<ModelInput, ImportError> {
    let bad = |reason: &str| ImportError::Input { name: input.name().into(), reason: reason.into() };
    let Some(type_proto::Value::TensorType(tensor)) = input.r#type.as_ref().and_then(|of| of.value.as_ref()) else {
        return Err(bad("it is no tensor"));
    };
    let dtype = dtype_of(i64::from(tensor.elem_type())).ok_or_else(|| bad("elements of its type are not taken"))?;
    let shape = tensor.shape.as_ref().ok_or_else(|| bad("its shape is not given"))?;
    if shape.dim.is_empty() || shape.dim.len() > LIMITS.rank_max {
        return Err(bad("it must have a batch axis, and not more axes than are taken"));
    }
    let axis = |value: &Option<dimension::Value>| match value {
        Some(dimension::Value::DimValue(size)) => match usize::try_from(*size) {
            Ok(size) if size > 0 => Ok(Axis::Fixed(size)),
            _ => Err(bad("an axis of it has no elements")),
        },
        Some(dimension::Value::DimParam(name)) => Ok(Axis::Free(name.clone())),
        None => Ok(Axis::Free(String::new())),
    };
    let axes = shape.dim.iter().map(|dimension| axis(&dimension.value)).collect::<Result<_, _>>()?;
    Ok(ModelInput { name: input.name().into(), dtype, axes })
}
