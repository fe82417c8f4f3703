//! An ablation of a model file: the nodes that names begin with are cut out of the graph, and the wound is closed.
//!
//! What a cut gave to the rest of the graph is replaced:
//! - a branch that is added to what it began from, with no product of weights between, gives nothing: the sum becomes
//!   its other operand (Veit et al., "Residual Networks Behave Like Ensembles", 2016);
//! - anything else must be the one input of its shape, which takes its place: the cut becomes an identity.
//!
//! Whatever is neither is refused. Shapes are those that the file tells; where it tells none, the translation finds out
//! whether what is left fits together.

use std::collections::{BTreeMap, BTreeSet};

use super::ImportError;
use crate::onnx::tensor_shape_proto::dimension;
use crate::onnx::{GraphProto, NodeProto, ValueInfoProto, type_proto};

/// Under this key PyTorch's exporter keeps the modules that a node is of, as a list of quoted names.
const SCOPES: &str = "pkg.torch.onnx.name_scopes";

/// Operators that mix positions by weights: beyond one, a value is no longer what it was before.
const MIXING: [&str; 11] = [
    "Attention",
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "Einsum",
    "GRU",
    "Gemm",
    "LSTM",
    "MatMul",
    "QLinearConv",
    "RNN",
];

/// Cuts out the nodes of all prefixes together.
///
/// # Errors
/// No node has one of the prefixes, or what is left would be no graph.
pub(super) fn cut(graph: &mut GraphProto, prefixes: &[String]) -> Result<(), ImportError> {
    if prefixes.is_empty() { Ok(()) } else { Cut::new(graph, prefixes)?.close(graph) }
}

/// The nodes to cut out, and what crosses their border.
struct Cut<'p> {
    prefixes: &'p [String],
    members: BTreeSet<usize>,
    outputs: Vec<Output>,
    shape_by_value: BTreeMap<String, Vec<Size>>,
}

/// A value of the cut that the rest of the graph uses.
struct Output {
    name: String,
    /// The node that gives it.
    giver: usize,
    /// What it is made of inside the cut: values from outside that depend on an input of the model.
    inputs: BTreeSet<String>,
}

/// A size as a file tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Size {
    Number(i64),
    Name(String),
}

impl<'p> Cut<'p> {
    fn new(graph: &GraphProto, prefixes: &'p [String]) -> Result<Self, ImportError> {
        let data = data_of(graph);
        let mut members = BTreeSet::new();
        for prefix in prefixes {
            let before = members.len();
            members.extend(members_of(graph, &data, prefix));
            if members.len() == before {
                let reason = "no further node of the model, nor an output or a weight of one, begins with it".into();
                return Err(ImportError::Cut { what: prefix.clone(), node: String::new(), reason });
            }
        }
        let inputs = inputs_inside(graph, &data, &members);
        let others = (0..graph.node.len()).filter(|position| !members.contains(position));
        let used: BTreeSet<&str> = others
            .flat_map(|position| graph.node[position].input.iter().map(String::as_str))
            .chain(graph.output.iter().map(|output| output.name()))
            .collect();
        let given = |position: &usize| {
            let outputs = graph.node[*position].output.iter().filter(|output| used.contains(output.as_str()));
            let output = |name: &String| Output {
                name: name.clone(),
                giver: *position,
                inputs: inputs.get(position).cloned().unwrap_or_default(),
            };
            outputs.map(output).collect::<Vec<_>>()
        };
        let outputs: Vec<Output> = members.iter().flat_map(given).collect();
        let cut = Self { prefixes, members, outputs, shape_by_value: shapes(graph) };
        match cut.outputs.is_empty() {
            false => Ok(cut),
            true => Err(cut.refused("", "nothing of the model needs it".into())),
        }
    }

    /// Replaces what the cut gave, and takes its nodes out.
    fn close(self, graph: &mut GraphProto) -> Result<(), ImportError> {
        let mut gone = self.members.clone();
        let mut new_name: BTreeMap<String, String> = BTreeMap::new();
        for output in &self.outputs {
            match self.sum_of_branch(graph, output) {
                Some((sum, kept)) => {
                    new_name.insert(graph.node[sum].output[0].clone(), kept);
                    gone.insert(sum);
                }
                None => {
                    new_name.insert(output.name.clone(), self.replacement(&graph.node[output.giver], output)?);
                }
            }
        }
        let final_name = |name: &str| {
            let mut name = name;
            // Names are replaced by ones that were given earlier: this ends.
            while let Some(next) = new_name.get(name) {
                name = next;
            }
            name.to_owned()
        };
        let nodes = std::mem::take(&mut graph.node).into_iter().enumerate();
        graph.node = nodes.filter(|(position, _)| !gone.contains(position)).map(|(_, node)| node).collect();
        for node in &mut graph.node {
            for input in &mut node.input {
                *input = final_name(input);
            }
        }
        for output in &graph.output {
            let source = final_name(output.name());
            if source != output.name() {
                graph.node.push(NodeProto {
                    op_type: Some("Identity".into()),
                    input: vec![source],
                    output: vec![output.name().to_owned()],
                    ..NodeProto::default()
                });
            }
        }
        Ok(())
    }

    /// Where the output is a branch that is added to what it began from: the sum, and its other operand.
    fn sum_of_branch(
        &self,
        graph: &GraphProto,
        Output { name: output, inputs, .. }: &Output,
    ) -> Option<(usize, String)> {
        if graph.output.iter().any(|given| given.name() == output) {
            return None;
        }
        let is_user = |position: &usize| {
            !self.members.contains(position) && graph.node[*position].input.iter().any(|input| input == output)
        };
        let mut users = (0..graph.node.len()).filter(is_user);
        let (sum, None) = (users.next()?, users.next()) else { return None };
        let node = &graph.node[sum];
        let [one, other] = node.input.as_slice() else { return None };
        let kept = if one == output { other } else { one };
        let keeps_shape = self.have_one_shape(kept, &node.output[0]) != Some(false);
        let is_branch = node.op_type() == "Add" && kept != output && keeps_shape && began_from(graph, inputs, kept);
        is_branch.then(|| (sum, kept.clone()))
    }

    /// The input that stands for an output.
    fn replacement(
        &self,
        giver: &NodeProto,
        Output { name: output, inputs, .. }: &Output,
    ) -> Result<String, ImportError> {
        let fitting = |known: bool| {
            let fits = move |input: &&String| match self.have_one_shape(input, output) {
                Some(is_same) => is_same,
                None => !known,
            };
            inputs.iter().filter(fits).collect::<Vec<_>>()
        };
        match (fitting(true).as_slice(), fitting(false).as_slice()) {
            ([only], _) | ([], [only]) => Ok((*only).clone()),
            ([], []) => {
                let inputs: Vec<String> = inputs.iter().map(|input| self.described(input)).collect();
                let reason = format!("it gives {}, and takes {}", self.described(output), inputs.join(", "));
                Err(self.refused(giver.name(), reason))
            }
            (several, _) => {
                let inputs: Vec<&str> = several.iter().map(|input| input.as_str()).collect();
                let reason = format!("several of its inputs could stand for {output:?}: {}", inputs.join(", "));
                Err(self.refused(giver.name(), reason))
            }
        }
    }

    /// None: the file does not tell.
    fn have_one_shape(&self, one: &str, other: &str) -> Option<bool> {
        let (one, other) = (self.shape_by_value.get(one)?, self.shape_by_value.get(other)?);
        Some(one == other)
    }

    fn described(&self, value: &str) -> String {
        let Some(shape) = self.shape_by_value.get(value) else { return format!("{value:?}") };
        let sizes: Vec<String> = shape.iter().map(Size::to_string).collect();
        format!("{value:?} [{}]", sizes.join(", "))
    }

    fn refused(&self, node: &str, reason: String) -> ImportError {
        ImportError::Cut { what: self.prefixes.join(", "), node: node.to_owned(), reason }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(formatter),
            Self::Name(name) => name.fmt(formatter),
        }
    }
}

/// The nodes of a prefix: those that a name of theirs, or a weight, begins with. A node of constants, which others may
/// share, is none; what it makes of a weight is a weight still.
fn members_of(graph: &GraphProto, data: &BTreeSet<&str>, prefix: &str) -> BTreeSet<usize> {
    let initializers = graph.initializer.iter().map(|tensor| tensor.name());
    let mut weights: BTreeSet<&str> = initializers.filter(|name| begins(name, prefix)).collect();
    let mut members = BTreeSet::new();
    for (position, node) in graph.node.iter().enumerate() {
        let has_weight = node.input.iter().any(|input| weights.contains(input.as_str()));
        let is_of_data = node.input.iter().any(|input| data.contains(input.as_str()));
        let mut names = node.output.iter().map(String::as_str).chain([node.name()]).chain(scopes(node));
        if is_of_data && (has_weight || names.any(|name| begins(name, prefix))) {
            members.insert(position);
        } else if has_weight && !is_of_data {
            weights.extend(node.output.iter().map(String::as_str));
        }
    }
    members
}

/// Of each member, what it is made of inside the cut.
fn inputs_inside(
    graph: &GraphProto,
    data: &BTreeSet<&str>,
    members: &BTreeSet<usize>,
) -> BTreeMap<usize, BTreeSet<String>> {
    let mut member_by_value: BTreeMap<&str, usize> = BTreeMap::new();
    let mut inputs_by_member: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    // A graph's nodes are in the order in which they can be computed.
    for position in members {
        let node = &graph.node[*position];
        let mut inputs = BTreeSet::new();
        for input in node.input.iter().filter(|input| data.contains(input.as_str())) {
            match member_by_value.get(input.as_str()) {
                Some(member) => inputs.extend(inputs_by_member[member].iter().cloned()),
                None => drop(inputs.insert(input.clone())),
            }
        }
        inputs_by_member.insert(*position, inputs);
        member_by_value.extend(node.output.iter().map(|output| (output.as_str(), *position)));
    }
    inputs_by_member
}

/// Whether one of the values is this one, or made of it without a product of weights.
fn began_from(graph: &GraphProto, values: &BTreeSet<String>, value: &str) -> bool {
    let giver: BTreeMap<&str, &NodeProto> =
        graph.node.iter().flat_map(|node| node.output.iter().map(move |output| (output.as_str(), node))).collect();
    let mut open: Vec<&str> = values.iter().map(String::as_str).collect();
    let mut seen = BTreeSet::new();
    while let Some(name) = open.pop() {
        if name == value {
            return true;
        }
        if let Some(node) = giver.get(name).filter(|node| !MIXING.contains(&node.op_type()))
            && seen.insert(name)
        {
            open.extend(node.input.iter().map(String::as_str));
        }
    }
    false
}

/// Whether a name begins with the prefix; exporters write paths with points or with slashes.
fn begins(name: &str, prefix: &str) -> bool {
    let plain = |text: &str| text.trim_start_matches('/').replace('/', ".");
    plain(name).starts_with(&plain(prefix))
}

/// The modules that a node is of, where the exporter says so.
fn scopes(node: &NodeProto) -> impl Iterator<Item = &str> {
    let listed = node.metadata_props.iter().find(|entry| entry.key() == SCOPES).map_or("", |entry| entry.value());
    listed.split(['\'', '"']).skip(1).step_by(2).filter(|scope| !scope.is_empty())
}

/// Values that depend on an input of the model.
fn data_of(graph: &GraphProto) -> BTreeSet<&str> {
    let mut data: BTreeSet<&str> = graph.input.iter().map(|input| input.name()).collect();
    for node in &graph.node {
        if node.input.iter().any(|input| data.contains(input.as_str())) {
            data.extend(node.output.iter().map(String::as_str));
        }
    }
    data
}

/// What the file tells whole of its values' shapes.
fn shapes(graph: &GraphProto) -> BTreeMap<String, Vec<Size>> {
    let values = graph.value_info.iter().chain(&graph.input).chain(&graph.output);
    values.filter_map(|value| Some((value.name().to_owned(), shape(value)?))).collect()
}

fn shape(value: &ValueInfoProto) -> Option<Vec<Size>> {
    let type_proto::Value::TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()? else { return None };
    let size = |size: &Option<dimension::Value>| match size {
        Some(dimension::Value::DimValue(number)) => Some(Size::Number(*number)),
        Some(dimension::Value::DimParam(name)) if !name.is_empty() => Some(Size::Name(name.clone())),
        Some(dimension::Value::DimParam(_)) | None => None,
    };
    tensor.shape.as_ref()?.dim.iter().map(|dimension| size(&dimension.value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::tensor_shape_proto::Dimension;
    use crate::onnx::{StringStringEntryProto, TensorProto, TensorShapeProto, TypeProto};

    fn node(op: &str, name: &str, inputs: &[&str], output: &str) -> NodeProto {
        NodeProto {
            op_type: Some(op.into()),
            name: Some(name.into()),
            input: inputs.iter().map(|input| (*input).to_owned()).collect(),
            output: vec![output.into()],
            ..NodeProto::default()
        }
    }

    fn value(name: &str, sizes: &[i64]) -> ValueInfoProto {
        let dimension = |size: &i64| Dimension { value: Some(dimension::Value::DimValue(*size)), ..Default::default() };
        let shape = Some(TensorShapeProto { dim: sizes.iter().map(dimension).collect() });
        let tensor = type_proto::Tensor { elem_type: Some(1), shape };
        let of_type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
        ValueInfoProto { name: Some(name.into()), r#type: Some(of_type), ..Default::default() }
    }

    /// A block with a residual sum, then a layer that halves the width.
    fn graph() -> GraphProto {
        let weights = ["norm.weight", "body.one.weight", "body.two.weight", "narrow.weight"];
        let tensor = |name: &&str| TensorProto { name: Some((*name).to_owned()), ..Default::default() };
        let shapes = [("n", 4), ("h", 8), ("r", 8), ("b", 4), ("s", 4)];
        GraphProto {
            input: vec![value("x", &[2, 4])],
            output: vec![value("y", &[2, 2])],
            initializer: weights.iter().map(tensor).collect(),
            value_info: shapes.iter().map(|(name, width)| value(name, &[2, *width])).collect(),
            node: vec![
                node("Mul", "/norm/Mul", &["x", "norm.weight"], "n"),
                node("MatMul", "/body/one/MatMul", &["n", "body.one.weight"], "h"),
                node("Relu", "/body/Relu", &["h"], "r"),
                node("MatMul", "/body/two/MatMul", &["r", "body.two.weight"], "b"),
                node("Add", "/Add", &["x", "b"], "s"),
                node("MatMul", "/narrow/MatMul", &["s", "narrow.weight"], "y"),
            ],
            ..GraphProto::default()
        }
    }

    fn without(prefix: &str) -> Result<Vec<String>, ImportError> {
        let mut graph = graph();
        cut(&mut graph, &[prefix.to_owned()])?;
        let line = |node: &NodeProto| format!("{} {} {}", node.op_type(), node.input.join(" "), node.output.join(" "));
        Ok(graph.node.iter().map(line).collect())
    }

    #[test]
    fn modules_are_known_where_the_exporter_keeps_them_and_prefixes_are_cut_together() {
        let mut graph = graph();
        for (node, name) in graph.node.iter_mut().zip(["0", "1", "2", "3", "4", "5"]) {
            node.name = Some(name.into());
        }
        let scopes = "['', 'body', 'body.act', 'relu']";
        let entry = StringStringEntryProto { key: Some(SCOPES.into()), value: Some(scopes.into()) };
        graph.node[2].metadata_props = vec![entry];
        cut(&mut graph, &["body.one.weight", "body.act", "body.two"].map(str::to_owned)).unwrap();
        assert_eq!(graph.node.iter().map(|node| node.name()).collect::<Vec<_>>(), ["0", "5"]);
    }

    const NARROW: &str = "MatMul s narrow.weight y";

    #[test]
    fn a_branch_that_is_added_to_where_it_began_gives_nothing() {
        let left = ["Mul x norm.weight n", "MatMul x narrow.weight y"];
        assert_eq!(without("body").unwrap(), left, "the norm before it stands outside");
        assert_eq!(without("/body/").unwrap(), left);
    }

    #[test]
    fn what_keeps_the_shape_becomes_an_identity() {
        let rest = ["MatMul r body.two.weight b", "Add x b s", NARROW];
        let relu = [&["Mul x norm.weight n", "MatMul n body.one.weight h", "MatMul h body.two.weight b"], &rest[1..]];
        assert_eq!(without("body.Relu").unwrap(), relu.concat());
        let norm = [&["MatMul x body.one.weight h", "Relu h r"], &rest[..]].concat();
        assert_eq!(without("norm.weight").unwrap(), norm, "by its weight");
    }

    #[test]
    fn what_changes_the_shape_is_refused_with_its_node() {
        for (prefix, expected) in [("body.one", "/body/one/MatMul"), ("narrow", "/narrow/MatMul")] {
            assert!(
                matches!(without(prefix), Err(ImportError::Cut { node, .. }) if node == expected),
                "{prefix}: {:?}",
                without(prefix)
            );
        }
        assert!(matches!(without("nothing"), Err(ImportError::Cut { .. })));
    }

    #[test]
    fn like_parts_of_several_places_are_each_left_out() {
        let mut graph = graph();
        graph.node.insert(3, node("Relu", "/body/Relu2", &["r"], "r2"));
        graph.node.insert(4, node("Sigmoid", "/gate", &["r2"], "g"));
        graph.node.insert(5, node("Relu", "/body/Relu3", &["g"], "r3"));
        graph.node[6].input[0] = "r3".into();
        cut(&mut graph, &["body.Relu".to_owned()]).unwrap();
        let line: Vec<String> = graph.node[2..4].iter().map(|node| node.input.join(" ")).collect();
        assert_eq!(line, ["h", "g body.two.weight"]);
    }

    #[test]
    fn an_output_of_the_model_keeps_its_name() {
        let mut graph = graph();
        graph.output = vec![value("r", &[2, 8])];
        graph.node.truncate(3);
        cut(&mut graph, &["body.Relu".to_owned()]).unwrap();
        assert_eq!(
            graph.node.last().unwrap(),
            &NodeProto {
                op_type: Some("Identity".into()),
                input: vec!["h".into()],
                output: vec!["r".into()],
                ..NodeProto::default()
            }
        );
    }
}
