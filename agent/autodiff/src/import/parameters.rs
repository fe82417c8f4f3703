//! Which initializers of a file are parameters, which are running statistics, and which are one and the same.
//!
//! ONNX does not say what trains. PyTorch's newer exporter does, beside each initializer. Of other files, what is taken
//! for a parameter is a tensor of single precision with at least one axis (PyTorch's older exporter: any), all of it
//! finite, that is an operand of an operator where a gradient can flow, and not under a name that exporters give to
//! constants and PyTorch models to buffers. What is none stays a constant.

use std::collections::{BTreeMap, BTreeSet};

use super::error::named;
use super::tensor::{shape_of, singles_of};
use super::translate::refused;
use super::{ImportError, Notice, graph_of};
use crate::graph::{Dtype, dtype_code};
use crate::onnx::{GraphProto, ModelProto, NodeProto, TensorProto};
use crate::pattern::fits;

/// Operands that are settings of their operator, not data: positions by operator.
const SETTINGS: &[(&str, &[usize])] = &[
    ("Clip", &[1, 2]),
    ("Dropout", &[1, 2]),
    ("OneHot", &[1, 2]),
    ("Pad", &[1, 2, 3]),
    ("Range", &[0, 1, 2]),
    ("Resize", &[1, 2, 3]),
    ("Upsample", &[1]),
    ("Equal", &[0, 1]),
    ("Less", &[0, 1]),
    ("Greater", &[0, 1]),
    ("LessOrEqual", &[0, 1]),
    ("GreaterOrEqual", &[0, 1]),
];

/// Operators whose second operand is a matrix or kernel.
const WEIGHTED: &[&str] = &["MatMul", "Gemm", "Conv", "ConvTranspose"];

/// Ends of names that PyTorch models commonly give to float buffers which do not train.
const BUFFERS: &[&str] = &["inv_freq", "attn_mask", "attention_mask", "causal_mask", "mask", "freqs_cos", "freqs_sin"];

/// Of which the names that PyTorch models give to parameters commonly have one.
const WORDS_OF_WEIGHTS: &[&str] = &[
    "weight", "bias", "kernel", "embed", "token", "gamma", "beta", "scale", "gain", "alpha", "query", "proj", "param",
];

/// Under which PyTorch's newer exporter says of a tensor whether it is a parameter or a buffer.
const KIND: &str = "pkg.torch.export.graph_signature.InputSpec.kind";
const PARAMETER: &str = "PARAMETER";

/// Under which the optimizer of that exporter says what it computed a tensor from.
const FOLDED: &str = "pkg.onnxscript.optimizer.folded_from";

/// What an initializer is in training.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Role {
    pub shape: Vec<usize>,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A parameter; one that is frozen keeps its numbers.
    Parameter { frozen: bool },
    /// Running statistics of a batch normalisation.
    Statistics,
    /// The same matrix as another parameter, perhaps transposed.
    Tied { to: String, transposed: bool },
}

/// The initializers that become inputs, by name, and what there is to say about them.
#[derive(Debug, Clone)]
pub(super) struct Roles {
    pub role_by_name: BTreeMap<String, Role>,
    pub notices: Vec<Notice>,
}

impl Roles {
    pub fn of(model: &ModelProto, opset: i64, frozen: &[String]) -> Result<Self, ImportError> {
        let graph = graph_of(model);
        let uses = Uses::of(graph);
        let said = Said::of(graph);
        let may_be_scalar = model.producer_name() == "pytorch";
        let mut roles = Self { role_by_name: BTreeMap::new(), notices: Vec::new() };
        let mut matrices: Vec<(&TensorProto, Vec<usize>, Vec<f32>)> = Vec::new();
        let is_frozen = |name: &str| frozen.iter().any(|pattern| fits(pattern, name));
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let mut supposed: Vec<String> = Vec::new();
        for tensor in &graph.initializer {
            let shape = shape_of(tensor)?;
            let name = tensor.name();
            if let Some(error) = of_other_precision(tensor) {
                let is_weight = match said.kind_by_name.get(name) {
                    Some(kind) => *kind == PARAMETER,
                    None => uses.weights.contains(name) && shape.len() > 1 && !is_name_of_constant(name),
                };
                if is_weight && !is_frozen(name) {
                    return Err(error);
                }
                names.extend(is_weight.then_some(name));
            }
            if i64::from(tensor.data_type()) != dtype_code(Dtype::F32) {
                continue;
            }
            if uses.statistics.contains(name) {
                if uses.data.contains(name) {
                    return Err(ImportError::Merged { name: name.into() });
                }
                names.insert(name);
                // Those that are frozen stay constants, by which every batch is normalised.
                if !is_frozen(name) && !uses.fixed.contains(name) {
                    roles.insert(tensor, shape, Kind::Statistics);
                }
                continue;
            }
            let is_candidate = match said.kind_by_name.get(name) {
                Some(kind) => *kind == PARAMETER,
                None if said.computed.contains(name) => true,
                None => (may_be_scalar || !shape.is_empty()) && !is_name_of_constant(name),
            };
            if !is_candidate || !uses.data.contains(name) {
                continue;
            }
            let numbers = singles_of(tensor)?;
            if numbers.iter().any(|number| !number.is_finite()) {
                continue;
            }
            // Two that the model has names for are two, though they may begin as copies of each other.
            let is_computed = is_name_of_computed(name);
            let mut others = matrices.iter().filter(|(other, ..)| is_name_of_computed(other.name()) != is_computed);
            let tied = others.find_map(|(other, other_shape, other_numbers)| {
                Some((*other, transposed_to(other_shape, other_numbers, &shape, &numbers)?))
            });
            if let Some((other, transposed)) = tied {
                let kept = other.name().to_owned();
                roles.notices.push(Notice::Tied { kept: kept.clone(), same: name.into() });
                roles.insert(tensor, shape, Kind::Tied { to: kept, transposed });
                continue;
            }
            names.insert(name);
            if !said.kind_by_name.contains_key(name) && !is_name_of_weight(name) && !is_frozen(name) {
                supposed.push(name.to_owned());
            }
            roles.insert(tensor, shape.clone(), Kind::Parameter { frozen: is_frozen(name) });
            if let [_, _] = shape[..]
                && numbers.iter().any(|number| *number != numbers[0])
            {
                matrices.push((tensor, shape, numbers));
            }
        }
        let fits_none = |pattern: &&String| !names.iter().any(|name| fits(pattern, name));
        if let Some(pattern) = frozen.iter().find(fits_none) {
            let known: Vec<&str> = names.into_iter().collect();
            return Err(ImportError::Frozen { pattern: pattern.clone(), known: named(&known) });
        }
        let is_parameter = |role: &Role| matches!(role.kind, Kind::Parameter { .. });
        if !roles.role_by_name.values().any(is_parameter) {
            return Err(without_parameters(graph, opset));
        }
        let copies = uses.copies().filter(|(kept, _)| roles.role_by_name.get(*kept).is_some_and(is_parameter));
        let copies = copies.map(|(kept, same)| Notice::Tied { kept: kept.into(), same: same.into() });
        roles.notices.extend(copies.collect::<Vec<_>>());
        roles.notices.extend(uses.notices());
        roles.notices.extend((!supposed.is_empty()).then_some(Notice::Supposed { names: supposed }));
        roles.notices.extend(said.is_folded.then_some(Notice::Folded));
        Ok(roles)
    }

    fn insert(&mut self, tensor: &TensorProto, shape: Vec<usize>, kind: Kind) {
        self.role_by_name.insert(tensor.name().into(), Role { shape, kind });
    }
}

/// Why a file has nothing to train: what may hide it is told first.
fn without_parameters(graph: &GraphProto, opset: i64) -> ImportError {
    if let Some(error) = graph.node.iter().find_map(|node| refused::hiding(node, opset)) {
        return error;
    }
    graph.initializer.iter().find_map(of_other_precision).unwrap_or(ImportError::NothingTrains)
}

/// Why a tensor does not train, where it might if it were of single precision.
fn of_other_precision(tensor: &TensorProto) -> Option<ImportError> {
    let is_of = |dtype: Dtype| i64::from(tensor.data_type()) == dtype_code(dtype);
    if is_of(Dtype::F16) || is_of(Dtype::Bf16) {
        Some(ImportError::Halves { name: tensor.name().into() })
    } else {
        is_of(Dtype::F64).then(|| ImportError::Doubles { name: tensor.name().into() })
    }
}

/// What PyTorch's newer exporter says of the tensors of a file.
struct Said<'g> {
    kind_by_name: BTreeMap<&'g str, &'g str>,
    /// What its optimizer computed from one tensor with a name of the model's own, as a transposed weight.
    computed: BTreeSet<&'g str>,
    /// Whether that optimizer was at work, which makes one tensor of equal ones.
    is_folded: bool,
}

impl<'g> Said<'g> {
    fn of(graph: &'g GraphProto) -> Self {
        let mut said = Self { kind_by_name: BTreeMap::new(), computed: BTreeSet::new(), is_folded: false };
        for info in &graph.value_info {
            for entry in &info.metadata_props {
                match entry.key() {
                    KIND => {
                        said.kind_by_name.insert(info.name(), entry.value());
                    }
                    FOLDED => {
                        said.is_folded = true;
                        // A list as Python writes it.
                        let from = entry.value().trim_matches(['[', ']', '\'']);
                        if !from.contains(',') && !is_name_of_constant(from) {
                            said.computed.insert(info.name());
                        }
                    }
                    _ => {}
                }
            }
        }
        said
    }
}

/// Whether two matrices are the same (`false`) or transposes of each other (`true`); `None` where they are neither.
fn transposed_to(shape: &[usize], numbers: &[f32], other_shape: &[usize], other: &[f32]) -> Option<bool> {
    let (&[rows, columns], &[other_rows, other_columns]) = (shape, other_shape) else { return None };
    if (rows, columns) == (other_rows, other_columns) && numbers == other {
        return Some(false);
    }
    let same = |position: usize| numbers[position] == other[position % columns * rows + position / columns];
    ((rows, columns) == (other_columns, other_rows) && (0..numbers.len()).all(same)).then_some(true)
}

/// Where the graph uses its initializers.
struct Uses<'g> {
    nodes: &'g [NodeProto],
    data: BTreeSet<&'g str>,
    /// The second operand of a product or a convolution.
    weights: BTreeSet<&'g str>,
    statistics: BTreeSet<&'g str>,
    /// Statistics of a batch normalisation that was in eval() while others were in train().
    fixed: BTreeSet<&'g str>,
}

impl<'g> Uses<'g> {
    fn of(graph: &'g GraphProto) -> Self {
        let [data, weights, statistics, fixed] = [const { BTreeSet::new() }; 4];
        let mut uses = Self { nodes: &graph.node, data, weights, statistics, fixed };
        let has_trained = graph.node.iter().any(trains);
        for node in &graph.node {
            let settings =
                SETTINGS.iter().find(|(op, _)| *op == node.op_type()).map_or(&[][..], |(_, positions)| positions);
            for (position, input) in node.input.iter().enumerate() {
                if node.op_type() == "BatchNormalization" && position >= 3 {
                    uses.statistics.insert(input);
                    if has_trained && evaluates(node) {
                        uses.fixed.insert(input);
                    }
                } else if !settings.contains(&position) {
                    uses.data.insert(input);
                }
                if position == 1 && WEIGHTED.contains(&node.op_type()) {
                    uses.weights.insert(input);
                }
            }
        }
        uses
    }

    /// What is an initializer under another name: PyTorch's older exporter writes equal tensors once for an evaluation.
    fn copies(&self) -> impl Iterator<Item = (&'g str, &'g str)> {
        let copied = |node: &'g NodeProto| Some((node.input.first()?.as_str(), node.output.first()?.as_str()));
        self.nodes.iter().filter(|node| node.op_type() == "Identity").filter_map(copied)
    }

    /// Signs of an export for inference.
    fn notices(&self) -> Vec<Notice> {
        let has = |op: &str| self.nodes.iter().any(|node| node.op_type() == op);
        let biased = |node: &&NodeProto| node.op_type() == "Conv" && node.input.len() > 2;
        let normalised = ["BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization"];
        let folded = self.nodes.iter().filter(biased).count() > 1 && !normalised.into_iter().any(has);
        let mut of_batches = self.nodes.iter().filter(|node| node.op_type() == "BatchNormalization").peekable();
        let evaluated = of_batches.peek().is_some() && of_batches.all(evaluates);
        let signs = [(folded, Notice::Inference), (evaluated, Notice::Evaluation)];
        signs.into_iter().filter(|(is_there, _)| *is_there).map(|(_, notice)| notice).collect()
    }
}

/// Whether a node is a batch normalisation that its exporter says was in evaluation mode: PyTorch's older exporter by an
/// attribute, the newer one by the name of its function.
fn evaluates(node: &NodeProto) -> bool {
    let is_called_so = || is_of_function(node, "_native_batch_norm_legit_no_training");
    node.op_type() == "BatchNormalization" && (training_mode(node) == Some(false) || is_called_so())
}

/// Whether a node is a batch normalisation that its exporter says was by the batch, in the same two ways.
fn trains(node: &NodeProto) -> bool {
    let is_called_so = || is_of_function(node, "_native_batch_norm_legit_functional");
    node.op_type() == "BatchNormalization" && (training_mode(node) == Some(true) || is_called_so())
}

fn is_of_function(node: &NodeProto, name: &str) -> bool {
    node.metadata_props.iter().any(|entry| entry.value().contains(name))
}

/// What the attribute of that name says, where it is there.
fn training_mode(node: &NodeProto) -> Option<bool> {
    let mode = node.attribute.iter().find(|attribute| attribute.name() == "training_mode");
    mode.map(|attribute| attribute.i() != 0)
}

/// Whether a name is one that modules give to parameters, or exporters to what they computed from them.
fn is_name_of_weight(name: &str) -> bool {
    let last = name.rsplit(['.', '/']).next().unwrap_or(name).to_ascii_lowercase();
    is_name_of_computed(name) || WORDS_OF_WEIGHTS.iter().any(|word| last.contains(word))
}

/// Whether a name is one that exporters give to what they computed from a model's own tensors.
fn is_name_of_computed(name: &str) -> bool {
    name.starts_with("onnx::") || is_name_of_constant(name)
}

/// Whether a name is one that exporters give to constants, or models to buffers.
fn is_name_of_constant(name: &str) -> bool {
    let last = name.rsplit(['.', '/']).next().unwrap_or(name);
    let numbered = |prefix: &str| {
        last.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    numbered("val_") || last.contains("tensor_constant") || last.contains("lifted_tensor") || BUFFERS.contains(&last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{AttributeProto, StringStringEntryProto, ValueInfoProto};

    fn tensor(name: &str, dims: &[i64], dtype: Dtype) -> TensorProto {
        let numbers = (0..dims.iter().product::<i64>()).map(|at| at as f32 * 0.5 - 1.0).collect();
        let data_type = i32::try_from(dtype_code(dtype)).ok();
        TensorProto { name: Some(name.into()), dims: dims.into(), data_type, float_data: numbers, ..Default::default() }
    }

    fn single(name: &str, dims: &[i64]) -> TensorProto {
        tensor(name, dims, Dtype::F32)
    }

    /// An operator of some operands, the first of which is `x`.
    fn node(op: &str, operands: &[&str]) -> NodeProto {
        let input = ["x"].iter().chain(operands).map(|name| (*name).to_owned()).collect();
        NodeProto { op_type: Some(op.into()), input, output: vec![format!("{op}.y")], ..Default::default() }
    }

    fn normalisation(operands: &[&str], training_mode: i64) -> NodeProto {
        let mode = AttributeProto { name: Some("training_mode".into()), i: Some(training_mode), ..Default::default() };
        NodeProto { attribute: vec![mode], ..node("BatchNormalization", operands) }
    }

    /// As PyTorch's newer exporter writes it.
    fn of_function(operands: &[&str], function: &str) -> NodeProto {
        let value = format!("%y : call_function[target=torch.ops.aten.{function}.default]");
        let entry = StringStringEntryProto { key: Some("name".into()), value: Some(value) };
        NodeProto { metadata_props: vec![entry], ..node("BatchNormalization", operands) }
    }

    /// Of a tensor's name, what its exporter says of it.
    fn said(name: &str, key: &str, value: &str) -> ValueInfoProto {
        let entry = StringStringEntryProto { key: Some(key.into()), value: Some(value.into()) };
        ValueInfoProto { name: Some(name.into()), metadata_props: vec![entry], ..Default::default() }
    }

    fn model(initializer: Vec<TensorProto>, node: Vec<NodeProto>, value_info: Vec<ValueInfoProto>) -> ModelProto {
        let graph = GraphProto { initializer, node, value_info, ..Default::default() };
        ModelProto { producer_name: Some("pytorch".into()), graph: Some(graph), ..Default::default() }
    }

    fn roles(model: &ModelProto, frozen: &[&str]) -> Result<BTreeMap<String, Kind>, ImportError> {
        let frozen: Vec<String> = frozen.iter().map(|pattern| (*pattern).to_owned()).collect();
        let roles = Roles::of(model, 20, &frozen)?;
        Ok(roles.role_by_name.into_iter().map(|(name, role)| (name, role.kind)).collect())
    }

    fn named_kinds(kinds: &[(&str, Kind)]) -> BTreeMap<String, Kind> {
        kinds.iter().map(|(name, kind)| ((*name).to_owned(), kind.clone())).collect()
    }

    const TRAINS: Kind = Kind::Parameter { frozen: false };
    const FROZEN: Kind = Kind::Parameter { frozen: true };

    #[test]
    fn names_of_constants_are_known() {
        for name in ["val_12", "module.val_3", "_tensor_constant0", "rope.inv_freq"] {
            assert!(is_name_of_constant(name), "{name}");
        }
        for name in ["val_", "value_1", "onnx::MatMul_7", "layers.0.weight", "mask.weight"] {
            assert!(!is_name_of_constant(name), "{name}");
        }
    }

    #[test]
    fn what_the_exporter_says_of_a_tensor_counts_more_than_its_name_and_shape() {
        let tensors = || vec![single("scale", &[]), single("mask", &[4]), single("places", &[4]), single("w", &[4, 4])];
        let nodes = || vec![node("Mul", &["scale"]), node("Add", &["mask", "places"]), node("MatMul", &["w"])];
        let parameters = ["scale", "mask", "w"].map(|name| said(name, KIND, "PARAMETER"));
        let signed = model(tensors(), nodes(), [&parameters[..], &[said("places", KIND, "BUFFER")]].concat());
        let expected = named_kinds(&[("scale", TRAINS), ("mask", TRAINS), ("w", TRAINS)]);
        assert_eq!(roles(&signed, &[]), Ok(expected));

        let unsigned = model(tensors(), nodes(), vec![]);
        let expected = named_kinds(&[("scale", TRAINS), ("places", TRAINS), ("w", TRAINS)]);
        assert_eq!(roles(&unsigned, &[]), Ok(expected));

        let other = ModelProto { producer_name: Some("tf2onnx".into()), ..unsigned };
        assert_eq!(roles(&other, &[]), Ok(named_kinds(&[("places", TRAINS), ("w", TRAINS)])));
    }

    #[test]
    fn layers_that_begin_as_copies_are_two_and_what_was_computed_from_one_is_not() {
        let mut turned = single("onnx::MatMul_9", &[2, 2]);
        turned.float_data = vec![-1.0, 0.0, -0.5, 0.5];
        let again = TensorProto { name: Some("onnx::MatMul_10".into()), ..turned.clone() };
        let tensors = vec![single("a.weight", &[2, 2]), single("b.weight", &[2, 2]), turned, again];
        let nodes = tensors.iter().map(|tensor| node("MatMul", &[tensor.name()])).collect();
        let tied = Kind::Tied { to: "a.weight".into(), transposed: true };
        let expected =
            [("a.weight", TRAINS), ("b.weight", TRAINS), ("onnx::MatMul_9", tied.clone()), ("onnx::MatMul_10", tied)];
        assert_eq!(roles(&model(tensors.clone(), nodes, vec![]), &[]), Ok(named_kinds(&expected)));

        let computed: Vec<TensorProto> = tensors[2..].to_vec();
        let nodes = computed.iter().map(|tensor| node("MatMul", &[tensor.name()])).collect();
        let expected = [("onnx::MatMul_9", TRAINS), ("onnx::MatMul_10", TRAINS)];
        assert_eq!(roles(&model(computed, nodes, vec![]), &[]), Ok(named_kinds(&expected)));
    }

    #[test]
    fn what_the_exporters_optimizer_computed_from_a_weight_trains() {
        let tensors = vec![single("val_1", &[4, 4]), single("val_2", &[4]), single("bias", &[4])];
        let nodes = vec![node("MatMul", &["val_1"]), node("Mul", &["val_2"]), node("Add", &["bias"])];
        let infos = vec![said("val_1", FOLDED, "['lin.weight']"), said("val_2", FOLDED, "['val_0', 'val_9']")];
        let model = model(tensors, nodes, infos);
        assert_eq!(roles(&model, &[]), Ok(named_kinds(&[("val_1", TRAINS), ("bias", TRAINS)])));
        assert_eq!(Roles::of(&model, 20, &[]).map(|roles| roles.notices), Ok(vec![Notice::Folded]));
    }

    #[test]
    fn statistics_are_fixed_by_a_pattern_or_by_the_modules_eval() {
        let names = |layer: &str| ["weight", "bias", "running_mean", "running_var"].map(|end| format!("{layer}.{end}"));
        let (first, second) = (names("0"), names("1"));
        let tensors = first.iter().chain(&second).map(|name| single(name, &[4])).collect::<Vec<_>>();
        let nodes = |modes: [i64; 2]| {
            let of =
                |names: &[String; 4], mode| normalisation(&names.iter().map(String::as_str).collect::<Vec<_>>(), mode);
            vec![of(&first, modes[0]), of(&second, modes[1])]
        };
        let statistics = |modes, frozen: &[&str]| {
            let roles = roles(&model(tensors.clone(), nodes(modes), vec![]), frozen).expect("it is sound");
            roles.into_iter().filter(|(_, kind)| *kind == Kind::Statistics).map(|(name, _)| name).collect::<Vec<_>>()
        };
        let all = ["0.running_mean", "0.running_var", "1.running_mean", "1.running_var"];
        assert_eq!(statistics([1, 1], &[]), all);
        assert_eq!(statistics([0, 0], &[]), all);
        assert_eq!(statistics([0, 1], &[]), all[2..]);
        assert_eq!(statistics([1, 1], &["1.*"]), all[..2]);
        assert_eq!(statistics([1, 1], &["0.running_*"]), all[2..]);
        let by_function = |functions: [&str; 2]| {
            let operands = [&first, &second].map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
            let nodes = operands.iter().zip(functions).map(|(names, function)| of_function(names, function)).collect();
            let roles = roles(&model(tensors.clone(), nodes, vec![]), &[]).expect("it is sound");
            roles.into_iter().filter(|(_, kind)| *kind == Kind::Statistics).map(|(name, _)| name).collect::<Vec<_>>()
        };
        let (trains, evaluates) = ("_native_batch_norm_legit_functional", "_native_batch_norm_legit_no_training");
        assert_eq!(by_function([trains, trains]), all);
        assert_eq!(by_function([evaluates, evaluates]), all);
        assert_eq!(by_function([trains, evaluates]), all[..2]);
        let frozen =
            roles(&model(tensors.clone(), nodes([1, 1]), vec![]), &["0.running_*", "1.*"]).expect("it is sound");
        assert_eq!((&frozen["0.weight"], &frozen["1.weight"]), (&TRAINS, &FROZEN));
    }

    #[test]
    fn a_file_of_a_module_in_evaluation_mode_is_recognised() {
        let names = ["weight", "bias", "running_mean", "running_var"];
        let tensors: Vec<_> = names.iter().map(|name| single(name, &[4])).collect();
        let notices = |node: NodeProto| {
            let model = model(tensors.clone(), vec![node], vec![]);
            Roles::of(&model, 20, &[]).map(|roles| roles.notices)
        };
        let newer = |function: &str| of_function(&names, function);
        assert_eq!(notices(normalisation(&names, 0)), Ok(vec![Notice::Evaluation]));
        assert_eq!(notices(normalisation(&names, 1)), Ok(vec![]));
        assert_eq!(notices(newer("_native_batch_norm_legit_no_training")), Ok(vec![Notice::Evaluation]));
        assert_eq!(notices(newer("_native_batch_norm_legit_functional")), Ok(vec![]));
    }

    #[test]
    fn weights_of_another_precision_beside_others_are_told_of_unless_they_are_frozen() {
        let tensors = || {
            vec![
                tensor("body.weight", &[4, 4], Dtype::F16),
                single("head.weight", &[4, 4]),
                tensor("half", &[], Dtype::F16),
            ]
        };
        let nodes = || vec![node("MatMul", &["body.weight"]), node("MatMul", &["head.weight"]), node("Mul", &["half"])];
        let unsaid = model(tensors(), nodes(), vec![]);
        let halves = |name: &str| Err(ImportError::Halves { name: name.into() });
        assert_eq!(roles(&unsaid, &[]), halves("body.weight"));
        assert_eq!(roles(&unsaid, &["body.*"]), Ok(named_kinds(&[("head.weight", TRAINS)])));
        let infos = [("body.weight", "BUFFER"), ("half", "PARAMETER")].map(|(name, kind)| said(name, KIND, kind));
        assert_eq!(roles(&model(tensors(), nodes(), infos.to_vec()), &[]), halves("half"));
    }

    #[test]
    fn what_trains_by_supposition_is_told() {
        let tensors =
            || vec![single("block.coordinates", &[4]), single("fc.weight", &[4, 4]), single("onnx::MatMul_3", &[4, 4])];
        let nodes = || {
            vec![
                node("Add", &["block.coordinates"]),
                node("MatMul", &["fc.weight"]),
                node("MatMul", &["onnx::MatMul_3"]),
            ]
        };
        let notices = |model: &ModelProto, frozen: &[String]| Roles::of(model, 20, frozen).map(|roles| roles.notices);
        let supposed = |notices: Vec<Notice>| {
            notices.into_iter().filter(|notice| matches!(notice, Notice::Supposed { .. })).collect::<Vec<_>>()
        };
        let unsaid = model(tensors(), nodes(), vec![]);
        let expected = vec![Notice::Supposed { names: vec!["block.coordinates".into()] }];
        assert_eq!(notices(&unsaid, &[]).map(supposed), Ok(expected));
        assert_eq!(notices(&unsaid, &["block.*".into()]).map(supposed), Ok(vec![]));
        let infos = vec![said("block.coordinates", KIND, "PARAMETER")];
        assert_eq!(notices(&model(tensors(), nodes(), infos), &[]).map(supposed), Ok(vec![]));
    }

    #[test]
    fn what_hides_or_spoils_the_parameters_is_told() {
        let ones = vec![single("ones", &[4]), single("zeros", &[4])];
        let merged = model(ones, vec![normalisation(&["ones", "zeros", "zeros", "ones"], 1)], vec![]);
        assert_eq!(roles(&merged, &[]), Err(ImportError::Merged { name: "ones".into() }));

        let control = roles(&model(vec![], vec![node("If", &[])], vec![]), &[]);
        assert!(matches!(control, Err(ImportError::Operator { ref op, .. }) if op == "If"), "{control:?}");
        let doubles = model(vec![tensor("w", &[4], Dtype::F64)], vec![node("Mul", &["w"])], vec![]);
        assert_eq!(roles(&doubles, &[]), Err(ImportError::Doubles { name: "w".into() }));
        let nothing = model(vec![single("w", &[4])], vec![], vec![]);
        assert_eq!(roles(&nothing, &[]), Err(ImportError::NothingTrains));
    }
}
