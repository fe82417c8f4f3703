//! An imported model: what it takes, gives and learns, and its graph for each batch size that it was opened for.

use std::collections::{BTreeMap, BTreeSet};

use super::parameters::Kind;
use super::tensor::singles_of;
use super::translate::{Translated, Translator};
use super::{Axis, ImportError, LIMITS, ModelFile, Notice, at_most, decoded, malformed};
use crate::families::{Feature, Forward, Initial, Mode, Parameter};
use crate::gradient::{GradientError, gradients};
use crate::graph::{Dtype, Graph, GraphError, Provider, Value};
use crate::onnx::GraphProto;
use crate::step::dropout::{Dropout, OWN_RATES};

/// What helps where a rule does not cover an operator's settings.
const SETTINGS: &str = "write this part of the model with other settings or operators";

/// A model from a file. Two are equal if they were made from the same bytes with the same settings.
#[derive(Debug, Clone)]
pub struct Imported {
    features: Vec<Feature>,
    /// The types that the file wants its features in.
    feature_dtypes: Vec<Dtype>,
    output: Vec<usize>,
    parameters: Vec<Parameter>,
    statistics: Vec<Parameter>,
    body_by_batch: BTreeMap<usize, Body>,
    rates: Vec<f64>,
    notices: Vec<Notice>,
}

/// The graph for one batch size.
#[derive(Debug, Clone, PartialEq)]
struct Body {
    graph: GraphProto,
    opset: i64,
}

impl Body {
    /// The error with the file's own name of the node, and its opset.
    fn named(&self, error: GradientError, graph: &Graph, translated: &Translated) -> ImportError {
        let own = |node: String| translated.name_in(&self.graph, graph, &node).map_or(node, str::to_owned);
        let opset = self.opset;
        match error {
            GradientError::MissingRule { op, node, help, .. } => {
                ImportError::Unknown { op, node: own(node), opset, help }
            }
            GradientError::Unsupported { op, node, reason, .. } => {
                ImportError::Operator { op, node: own(node), opset, reason, help: SETTINGS }
            }
            other => other.into(),
        }
    }
}

impl PartialEq for Imported {
    fn eq(&self, other: &Self) -> bool {
        self.features == other.features
            && self.parameters == other.parameters
            && self.statistics == other.statistics
            && self.body_by_batch == other.body_by_batch
    }
}

/// Parameters are finite, and constants are compared as bytes.
impl Eq for Imported {}

impl ModelFile {
    /// The model, from what a runtime made of [`opened`](Self::opened) for each batch size. It is translated and
    /// differentiated once here, so that what cannot be trained is known before anything trains.
    ///
    /// # Errors
    /// An operator is not known, has no gradient rule, or the batch size cannot be what is asked for.
    pub fn closed(&self, rows: &[Vec<usize>], cleaned: &[(usize, Vec<u8>)]) -> Result<Imported, ImportError> {
        let mut body_by_batch = BTreeMap::new();
        for (batch, bytes) in cleaned {
            body_by_batch.insert(*batch, self.body(bytes)?);
        }
        let used: BTreeSet<&str> = body_by_batch
            .values()
            .flat_map(|body| body.graph.node.iter().flat_map(|node| node.input.iter().map(String::as_str)))
            .collect();
        let (parameters, statistics) = self.tensors(&used)?;
        let features = self.inputs.iter().zip(rows).map(|(input, row)| Feature {
            name: input.name.clone(),
            dtype: data_dtype(input.dtype),
            takes_bytes: input.dtype == Dtype::U8,
            shape: row.clone(),
        });
        let mut imported = Imported {
            features: features.collect(),
            feature_dtypes: self.inputs.iter().map(|input| input.dtype).collect(),
            output: Vec::new(),
            parameters,
            statistics,
            body_by_batch,
            rates: Vec::new(),
            notices: self.roles.notices.clone(),
        };
        for batch in imported.body_by_batch.keys().copied().collect::<Vec<_>>() {
            imported.survey(batch)?;
        }
        Ok(imported)
    }

    /// The batch size that the file was exported with, where it has one.
    pub fn fixed_batch(&self) -> Option<usize> {
        self.inputs.iter().find_map(|input| match input.axes.first() {
            Some(Axis::Fixed(size)) => Some(*size),
            _ => None,
        })
    }

    fn body(&self, bytes: &[u8]) -> Result<Body, ImportError> {
        let model = decoded(bytes)?;
        let opset = model.opset_import.iter().find(|import| super::is_own(import.domain()));
        let opset = opset.map_or(self.opset, |import| import.version());
        let graph = model.graph.ok_or_else(|| malformed("nothing is left of its graph"))?;
        at_most("nodes", graph.node.len(), LIMITS.nodes_max)?;
        Ok(Body { graph, opset })
    }

    /// Parameters and running statistics that the graph uses, as they begin.
    fn tensors(&self, used: &BTreeSet<&str>) -> Result<(Vec<Parameter>, Vec<Parameter>), ImportError> {
        let (mut parameters, mut statistics) = (Vec::new(), Vec::new());
        for tensor in &self.graph().initializer {
            let Some(role) = self.roles.role_by_name.get(tensor.name()).filter(|_| used.contains(tensor.name())) else {
                continue;
            };
            let given = || Ok::<_, ImportError>(Initial::Given(std::sync::Arc::new(singles_of(tensor)?)));
            let parameter =
                |initial, trains| Parameter { name: tensor.name().into(), shape: role.shape.clone(), initial, trains };
            match role.kind {
                Kind::Parameter { frozen } => {
                    let redrawn = if frozen { None } else { self.redrawn(tensor.name(), &role.shape) };
                    let initial = redrawn.map_or_else(given, Ok)?;
                    parameters.push(parameter(initial, !frozen));
                }
                Kind::Statistics => {
                    let initial = self.redrawn_statistics(tensor.name()).map_or_else(given, Ok)?;
                    statistics.push(parameter(initial, false));
                }
                Kind::Tied { .. } => {}
            }
        }
        Ok((parameters, statistics))
    }
}

/// The type in which data holds what a file takes in another one.
fn data_dtype(dtype: Dtype) -> Dtype {
    match dtype {
        Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::F64 | Dtype::U8 => Dtype::F32,
        Dtype::I32 | Dtype::I64 | Dtype::Bool => Dtype::I64,
    }
}

impl Imported {
    /// What it takes, in order.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// The shape of what it gives for a row.
    pub fn output(&self) -> &[usize] {
        &self.output
    }

    /// Every tensor that the optimizer may change, and those that are frozen, as they begin.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Running statistics, as they begin.
    pub fn statistics(&self) -> &[Parameter] {
        &self.statistics
    }

    /// What a person should know of it.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// The rate of its dropouts as it was exported, [`OWN_RATES`] where these differ; `None` where it has no dropout.
    pub fn dropout_rate(&self) -> Option<f64> {
        if self.has_own_rates() { Some(OWN_RATES) } else { self.rates.first().copied() }
    }

    fn has_own_rates(&self) -> bool {
        self.rates.iter().any(|rate| *rate != self.rates[0])
    }

    /// What its weights are, in words that are the same for every trial of it.
    pub fn shape_words(&self) -> String {
        let words = |parameter: &Parameter| format!("{:?}{:?}", parameter.name, parameter.shape);
        self.parameters.iter().chain(&self.statistics).map(words).collect::<Vec<_>>().join(" ")
    }

    /// The batch sizes that it was opened for.
    pub fn batches(&self) -> impl Iterator<Item = usize> {
        self.body_by_batch.keys().copied()
    }

    /// Writes the model's graph: one value for each feature, whose batch is one that the model was opened for.
    pub(crate) fn forward(&self, context: &mut Forward<'_>, features: &[Value]) -> Result<Value, GraphError> {
        let unfit = |reason: String| GraphError::InvalidOperands { op: "the imported model".into(), reason };
        self.translated(context, features).map(|translated| translated.output).map_err(|error| match error {
            ImportError::Graph(error) => error,
            other => unfit(other.to_string()),
        })
    }

    fn translated(&self, context: &mut Forward<'_>, features: &[Value]) -> Result<Translated, ImportError> {
        let first = features.first().copied().ok_or_else(|| malformed("it has no inputs"))?;
        let batch = context.graph.shape(first).first().copied().unwrap_or_default();
        let body = self.body_by_batch.get(&batch);
        let body = body.ok_or(ImportError::FixedBatch { batch, found: 0 })?;
        let mut translator = Translator::new(context, body.opset, self.has_own_rates());
        for ((feature, &dtype), &value) in self.features.iter().zip(&self.feature_dtypes).zip(features) {
            translator.feature(&feature.name, dtype, value)?;
        }
        for parameter in &self.parameters {
            translator.parameter(parameter)?;
        }
        for statistics in &self.statistics {
            translator.buffer(statistics)?;
        }
        translator.graph(&body.graph)
    }

    /// Translates and differentiates for one batch size. What no gradient reaches does not train.
    fn survey(&mut self, batch: usize) -> Result<(), ImportError> {
        for mode in [Mode::Evaluation, Mode::Training] {
            let mut graph = Graph::new(Provider::Cpu);
            let values = self.feature_inputs(&mut graph, batch)?;
            let mut context = Forward::new(&mut graph, mode, Dropout::Off);
            let translated = self.translated(&mut context, &values)?;
            let parameters = context.parameters;
            let shape = graph.shape(translated.output).to_vec();
            match shape.split_first() {
                Some((&rows, row)) if rows == batch => self.output = row.to_vec(),
                found => {
                    let found = found.map_or(0, |(rows, _)| *rows);
                    return Err(ImportError::FixedBatch { batch, found });
                }
            }
            if self.rates.is_empty() {
                self.rates.clone_from(&translated.rates);
            }
            if mode == Mode::Training {
                let reached = self.freeze_unreached(&mut graph, translated.output, &parameters);
                reached.map_err(|error| self.body_by_batch[&batch].named(error, &graph, &translated))?;
            }
        }
        if self.parameters.iter().any(|parameter| parameter.trains) { Ok(()) } else { Err(ImportError::NothingTrains) }
    }

    fn feature_inputs(&self, graph: &mut Graph, batch: usize) -> Result<Vec<Value>, GraphError> {
        let input = |(position, feature): (usize, &Feature)| {
            let shape = [&[batch], feature.shape.as_slice()].concat();
            graph.reserved_input(&format!("feature.{position}"), feature.dtype, &shape)
        };
        self.features.iter().enumerate().map(input).collect()
    }

    fn freeze_unreached(
        &mut self,
        graph: &mut Graph,
        output: Value,
        declared: &[(Parameter, Value)],
    ) -> Result<(), GradientError> {
        let seed = graph.scalar_like(output, 1.0);
        loop {
            let wrt: Vec<Value> = self
                .parameters
                .iter()
                .filter(|parameter| parameter.trains)
                .filter_map(|parameter| declared.iter().find(|(known, _)| known.name == parameter.name))
                .map(|(_, value)| *value)
                .collect();
            match gradients(graph, &[(output, seed)], &wrt) {
                Ok(_) => return Ok(()),
                Err(GradientError::Unreached { name }) => {
                    for parameter in self.parameters.iter_mut().filter(|parameter| parameter.name == name) {
                        parameter.trains = false;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}
