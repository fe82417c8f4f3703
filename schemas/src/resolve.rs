//! A recipe template and a trial's parameters in, the recipe with every value resolved out.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::ablation::Ablation;
use crate::api::Fault;
use crate::check;
use crate::params::Params;
use crate::recipe::Recipe;
use crate::study::RecipeTemplate;

/// Puts the parameters' values where the template refers to them, and reads the outcome.
/// A field whose parameter is inactive (absent from `params`) is left out.
///
/// A text `$name` is a reference; a text that begins with `$$` is that text with one `$` less.
///
/// # Errors
/// Every fault of the resolved recipe.
pub fn resolve_recipe(template: &RecipeTemplate, params: &Params) -> Result<Recipe, Vec<Fault>> {
    check::recipe(&fill(template, params).value)
}

/// The recipe of an ablation's trial: `left_out` are the names of its components.
///
/// # Errors
/// Every fault of the resolved recipe.
pub fn resolve_without(
    template: &RecipeTemplate,
    ablation: &Ablation,
    left_out: &[String],
) -> Result<Recipe, Vec<Fault>> {
    check::recipe(&without(template, ablation, left_out))
}

/// The template, without parameters, as the components' patches change it and with what they leave out.
pub(crate) fn without(template: &RecipeTemplate, ablation: &Ablation, left_out: &[String]) -> Value {
    let mut recipe = fill(template, &Params::new()).value;
    for component in left_out.iter().filter_map(|name| ablation.components.get(name)) {
        merge(&mut recipe, &component.patch);
        for (key, names) in [("features", &component.features), ("layers", &component.layers)] {
            if names.is_empty() {
                continue;
            }
            let mut all = match recipe.pointer(&format!("/without/{key}")) {
                Some(Value::Array(before)) => before.clone(),
                _ => Vec::new(),
            };
            let new = names.iter().map(|name| Value::from(name.as_str()));
            let new: Vec<Value> = new.filter(|name| !all.contains(name)).collect();
            all.extend(new);
            let mut section = Map::new();
            section.insert(key.to_owned(), all.into());
            let whole = Map::from_iter([("without".to_owned(), Value::Object(section))]);
            merge(&mut recipe, &whole);
        }
    }
    recipe
}

/// A JSON merge patch (RFC 7386, section 2).
fn merge(target: &mut Value, patch: &Map<String, Value>) {
    if !target.is_object() {
        *target = json!({});
    }
    let Some(fields) = target.as_object_mut() else { return };
    for (key, value) in patch {
        match value {
            Value::Null => drop(fields.remove(key)),
            Value::Object(patch) => merge(fields.entry(key.as_str()).or_insert_with(|| json!({})), patch),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                fields.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The parameter that a value of a template refers to.
pub(crate) fn reference(value: &Value) -> Option<&str> {
    value.as_str()?.strip_prefix('$').filter(|name| !name.starts_with('$'))
}

/// The path of each reference in a template, and the parameter that it names.
pub(crate) fn references(value: &Value, path: &str) -> BTreeMap<String, String> {
    let mut references = BTreeMap::new();
    collect(value, path, &mut references);
    references
}

fn collect(value: &Value, path: &str, references: &mut BTreeMap<String, String>) {
    if let Some(name) = reference(value) {
        references.insert(path.to_owned(), name.to_owned());
    }
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| collect(value, &check::join(path, key), references)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| collect(item, &format!("{path}[{index}]"), references))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A template with values in it.
pub(crate) struct Filled {
    pub value: Value,
    /// Path in the filled value to path in the template, where they differ: elements that moved up in a list.
    pub moved: BTreeMap<String, String>,
}

pub(crate) fn fill(template: &RecipeTemplate, params: &Params) -> Filled {
    let mut moved = BTreeMap::new();
    let value = fill_map(template, params, "recipe", &mut moved);
    Filled { value, moved }
}

fn fill_map(map: &Map<String, Value>, params: &Params, path: &str, moved: &mut BTreeMap<String, String>) -> Value {
    let filled = map.iter().filter_map(|(key, value)| {
        let value = fill_value(value, params, &check::join(path, key), moved)?;
        Some((key.clone(), value))
    });
    Value::Object(filled.collect())
}

/// None: the value's parameter is inactive.
fn fill_value(value: &Value, params: &Params, path: &str, moved: &mut BTreeMap<String, String>) -> Option<Value> {
    if let Some(name) = reference(value) {
        return params.get(name).map(crate::params::ParamValue::to_json);
    }
    Some(match value {
        Value::String(text) if text.starts_with('$') => text[1..].into(),
        Value::Object(map) => fill_map(map, params, path, moved),
        Value::Array(items) => {
            let mut filled = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                if let Some(item) = fill_value(item, params, &format!("{path}[{index}]"), moved) {
                    if index != filled.len() {
                        moved.insert(format!("{path}[{}]", filled.len()), format!("{path}[{index}]"));
                    }
                    filled.push(item);
                }
            }
            Value::Array(filled)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::params::ParamValue;

    fn filled(template: Value, params: &[(&str, ParamValue)]) -> Value {
        let Value::Object(template) = template else { panic!("a template is an object") };
        let params = params.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        fill(&template, &params).value
    }

    #[test]
    fn references_become_values_wherever_they_stand() {
        let template = json!({"a": "$x", "b": ["$y", {"c": "$z"}], "d": "x", "e": 1});
        let params = [("x", ParamValue::Float(0.5)), ("y", ParamValue::Int(3)), ("z", ParamValue::Bool(true))];
        assert_eq!(filled(template, &params), json!({"a": 0.5, "b": [3, {"c": true}], "d": "x", "e": 1}));
    }

    #[test]
    fn what_refers_to_an_inactive_parameter_is_left_out() {
        let template = json!({"a": "$gone", "b": [1, "$gone", 2], "c": {"d": "$gone"}});
        assert_eq!(filled(template, &[]), json!({"b": [1, 2], "c": {}}));
    }

    #[test]
    fn components_patch_the_recipe_and_add_to_what_it_leaves_out() {
        let Value::Object(recipe) = json!({"a": {"b": 1, "c": 2}, "without": {"layers": ["x"]}}) else {
            unreachable!()
        };
        let ablation = serde_json::from_value(json!({"components": {
            "p": {"patch": {"a": {"b": null, "d": [1]}, "e": {"f": null, "g": 0}}},
            "q": {"layers": ["x", "y"], "features": ["z[1]"]},
        }}));
        let ablation: Ablation = ablation.unwrap();
        assert_eq!(without(&recipe, &ablation, &[]), Value::Object(recipe.clone()));
        assert_eq!(
            without(&recipe, &ablation, &["p".into(), "q".into()]),
            json!({"a": {"c": 2, "d": [1]}, "e": {"g": 0}, "without": {"layers": ["x", "y"], "features": ["z[1]"]}})
        );
    }

    #[test]
    fn a_doubled_dollar_is_a_dollar_and_a_value_is_not_resolved_again() {
        let template = json!({"a": "$$x", "b": "$$", "c": "$x", "d": "a$x"});
        let params = [("x", ParamValue::Text("$y".into())), ("y", ParamValue::Int(1))];
        assert_eq!(filled(template, &params), json!({"a": "$x", "b": "$", "c": "$y", "d": "a$x"}));
    }
}
