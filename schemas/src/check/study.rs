//! The study file: its sections, and what must fit between them.

use serde_json::{Map, Value, json};

use crate::ablation::Ablation;
use crate::api::Fault;
use crate::changeable::changeable;
use crate::ids::PoolId;
use crate::limits::LIMITS;
use crate::params::Params;
use crate::study::{Sampler, Stopper, StudyFile};

use super::reader::{Faults, Fields, Node, list_of};
use super::recipe::without_nulls;
use super::space::{self, Space};
use super::{ablation, assignment, earlier, objectives, pbt, sampler, stopper, template};

const KEYS: [&str; 17] = [
    "name",
    "objective",
    "further_objectives",
    "constraints",
    "space",
    "initial",
    "earlier",
    "ablation",
    "sampler",
    "stopper",
    "budget",
    "seed",
    "pool",
    "weight",
    "retries",
    "keep_checkpoints",
    "recipe",
];
/// A study may want this many times the lanes of another.
const WEIGHT_MAX: f64 = 1e6;

/// Who measures the study's trials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measured {
    /// Agents, by the recipe; they report certain metrics.
    ByAgents,
    /// A simulation: the recipe may be left out, and the objective be any metric.
    BySimulation,
}

pub fn check(value: &Value, measured: Measured) -> Result<StudyFile, Vec<Fault>> {
    let faults = Faults::default();
    let file = read(&Node::new(value, "", &faults), measured);
    faults.or(file)
}

fn read(node: &Node, measured: Measured) -> Option<StudyFile> {
    let fields = node.fields()?;
    fields.only(&KEYS);
    name(&fields);
    let ablation = fields.optional("ablation");
    let space = space(&fields, ablation.is_some());
    let initial = space.as_ref().map(|space| initial(&fields, space)).unwrap_or_default();
    let earlier = space.as_ref().map(|space| earlier::check(&fields, space)).unwrap_or_default();
    let budget_node = fields.required("budget", "for example {trials: 48, resource: 81}");
    let resource = budget_node.as_ref().and_then(|node| budget(node, ablation.is_some()));
    sampler::check(&fields);
    stopper::check(&fields, resource);
    whole_in(&fields, "seed", u64::MAX);
    whole_in(&fields, "retries", LIMITS.attempts_max.into());
    whole_in(&fields, "keep_checkpoints", LIMITS.trials_max.into());
    if let Some(node) = fields.optional("weight") {
        node.number(|weight| weight > 0.0 && weight <= WEIGHT_MAX, "a number above 0, at most 1000000");
    }
    if let Some(node) = fields.optional("pool")
        && let Some(text) = node.text()
        && let Err(error) = PoolId::new(text)
    {
        node.fault(error.to_string(), "name a pool that agents were started with, or leave it out");
    }
    let recipe = match measured {
        Measured::ByAgents => {
            fields.required("recipe", "what an agent trains: data, model, loss, optimizer, batch_size; or a command")
        }
        Measured::BySimulation => fields.optional("recipe"),
    };
    if objectives::check(&fields, recipe.as_ref().map(|recipe| recipe.value), measured) > 0 {
        sampler::of_several(&fields);
        stopper::of_several(&fields);
        // What is no object has been told of.
        let budget_node = budget_node.filter(|node| node.value.is_object());
        if let Some(converged) = budget_node.and_then(|node| node.fields()?.optional("converged")) {
            let problem = "looks at the first objective alone, and a front may still grow";
            converged.fault(problem, "drop it, or `further_objectives`");
        }
    }
    if let (Some(recipe), Some(space)) = (&recipe, &space) {
        template::check(recipe, &fields.path_of("space"), space);
    }
    let template = recipe.as_ref().and_then(|recipe| recipe.value.as_object());
    if let Some(space) = &space {
        pbt::check(&fields, resource, space, template);
    }
    let ablation = ablation.and_then(|node| ablation::check(&node, template));
    if !node.faults.is_empty() {
        return None;
    }
    let mut file =
        written_out(fields.map, ablation.as_ref()).map_err(|error| node.fault(error.to_string(), "")).ok()?;
    file.space = space?.parameters;
    file.initial = initial;
    file.earlier = earlier;
    file.ablation = ablation;
    let may_change = changeable(&file.recipe, &file.space);
    if let Stopper::Pbt { perturb, .. } = &mut file.stopper {
        perturb.get_or_insert_with(|| may_change.into_iter().collect());
    }
    Some(file)
}

/// The file as the wire has it: no short forms and no nulls; without what was read by itself.
fn written_out(map: &Map<String, Value>, ablation: Option<&Ablation>) -> Result<StudyFile, serde_json::Error> {
    let mut map = map.clone();
    map.remove("ablation");
    if let (Some(ablation), Some(Value::Object(budget))) = (ablation, map.get_mut("budget"))
        && budget.get("trials").is_none_or(Value::is_null)
    {
        budget.insert("trials".to_owned(), ablation.trials().into());
    }
    let recipe = map.insert("recipe".to_owned(), json!({}));
    map.insert("space".to_owned(), json!({}));
    map.remove("initial");
    map.remove("earlier");
    for key in ["sampler", "stopper"] {
        write_out_name(&mut map, key);
    }
    if let Some(Value::Object(sampler)) = map.get_mut("sampler") {
        write_out_name(sampler, "fallback");
    }
    let mut file: StudyFile = serde_json::from_value(without_nulls(&Value::Object(map)))?;
    if let Some(Value::Object(recipe)) = recipe {
        file.recipe = recipe;
    }
    Ok(file)
}

fn write_out_name(map: &mut Map<String, Value>, key: &str) {
    if let Some(Value::String(name)) = map.get(key) {
        let long = json!({ "name": name });
        map.insert(key.to_owned(), long);
    }
}

/// Whole configurations of the space.
fn initial(fields: &Fields, space: &Space) -> Vec<Params> {
    let Some(node) = fields.optional("initial") else { return Vec::new() };
    let Some(nodes) = node.list() else { return Vec::new() };
    if nodes.len() > LIMITS.initial_max {
        node.fault(format!("has {} entries", nodes.len()), format!("give at most {}", LIMITS.initial_max));
        return Vec::new();
    }
    nodes.iter().filter_map(|node| assignment::check(&space.parameters, &space.names, node)).collect()
}

fn name(fields: &Fields) {
    let Some(node) = fields.required("name", "a text that people know the study by") else { return };
    let Some(text) = node.text() else { return };
    let chars = text.chars().count();
    if chars > LIMITS.id_chars_max {
        node.fault(format!("has {chars} characters"), format!("give at most {}", LIMITS.id_chars_max));
    }
    if text.chars().any(char::is_control) {
        node.fault("holds a line break or another control character", "write it on one line");
    }
}

pub(super) fn whole_in(fields: &Fields, key: &str, max: u64) {
    if let Some(node) = fields.optional(key) {
        node.whole(0..=max);
    }
}

/// A search has a space. An ablation has none, nor anybody who proposes or judges.
fn space(fields: &Fields, is_ablation: bool) -> Option<Space> {
    if !is_ablation {
        let example = "the parameters to search: {name: {type: float, low: 0, high: 1}}";
        return fields.required("space", example).and_then(|node| space::check(&node));
    }
    for (key, empty) in [
        ("space", json!({})),
        ("initial", json!([])),
        ("earlier", json!([])),
        ("sampler", json!(Sampler::default())),
        ("stopper", json!(Stopper::default())),
    ] {
        let is_empty = |node: &Node| *node.value == empty || empty.get("name") == Some(node.value);
        if fields.optional(key).is_some_and(|node| !is_empty(&node)) {
            fields.fault(key, "has no meaning in an ablation", "leave it out, and write values into the recipe");
        }
    }
    Some(Space::default())
}

/// The epochs of a trial.
fn budget(node: &Node, is_ablation: bool) -> Option<u64> {
    let fields = node.fields()?;
    fields.only(&["trials", "resource", "wall_time_s", "target", "converged", "failures"]);
    let trials = match is_ablation {
        true => fields.optional("trials"),
        false => fields.required("trials", "how many configurations to try"),
    };
    if let Some(node) = trials {
        node.whole(1..=LIMITS.trials_max.into());
    }
    if let Some(node) = fields.optional("wall_time_s") {
        node.number(|seconds| seconds > 0.0, "seconds, above 0, or leave it out");
    }
    if let Some(node) = fields.optional("target") {
        node.number(|_| true, "the value at which the study may end, or leave it out");
    }
    if let Some(node) = fields.optional("converged") {
        stopper::converged(&node);
    }
    if let Some(node) = fields.optional("failures") {
        node.whole(0..=LIMITS.trials_max.into());
    }
    let resource = fields.required("resource", "the epochs of a trial that is not stopped")?;
    resource.whole(1..=LIMITS.resource_max.into())
}

/// Faults a section that names none of those that rank by several objectives.
pub(super) fn ranks_by_several(fields: &Fields, key: &str, able: &[&'static str]) {
    let named = fields.optional(key).map(|node| node.value.get("name").unwrap_or(node.value));
    if let Some(name) = named.and_then(Value::as_str)
        && !able.contains(&name)
    {
        let help = format!("give one of {}, or drop `further_objectives`", list_of(able.iter().copied()));
        fields.fault(key, format!("is {name}, which ranks by one objective alone"), help);
    }
}

/// The fields and name of a section that may be the name alone.
pub(super) fn named<'a>(
    fields: &Fields<'a>,
    key: &str,
    names: &[&'static str],
) -> Option<(&'static str, Option<Fields<'a>>)> {
    let node = fields.optional(key)?;
    if node.value.is_string() {
        return Some((node.word(names)?, None));
    }
    if !node.value.is_object() {
        node.wrong_value(format!("give one of {}", list_of(names.iter().copied())));
        return None;
    }
    let fields = node.fields()?;
    let name = fields.required("name", &format!("one of {}", list_of(names.iter().copied())))?.word(names)?;
    Some((name, Some(fields)))
}
