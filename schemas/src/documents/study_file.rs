//! The schema of the study file as people write it: short forms, `$parameter` wherever the recipe has a value,
//! and no key that is not known.

use serde_json::{Map, Value, json};

use crate::recipe::Recipe;
use crate::study::StudyFile;

use super::json_schema::of;

const REFERENCE: &str = "ParameterReference";
const RECIPE: &str = "RecipeTemplate";
const PRIOR: &str = "Prior";

pub fn schema() -> Value {
    let mut file = of::<StudyFile>();
    file["title"] = "Regatta study file".into();
    if let Some(definitions) = file["$defs"].as_object_mut() {
        for name in ["Sampler", "Stopper"] {
            if let Some(section) = definitions.get_mut(name) {
                allow_name_alone(section);
            }
        }
    }
    close(&mut file);
    let (recipe, definitions) = recipe();
    if let Some(all) = file["$defs"].as_object_mut() {
        all.extend(definitions);
        all.entry(PRIOR).and_modify(allow_value_alone);
        all.insert(RECIPE.to_owned(), recipe);
        all.insert(REFERENCE.to_owned(), reference());
    }
    let about = file["properties"]["recipe"]["description"].clone();
    file["properties"]["recipe"] = json!({ "$ref": format!("#/$defs/{RECIPE}"), "description": about });
    file
}

fn reference() -> Value {
    json!({
        "type": "string",
        "pattern": "^\\$[A-Za-z0-9_-]{1,64}$",
        "description": "The value of a parameter of the space.",
    })
}

/// `stopper: asha` for `stopper: { name: asha }`.
fn allow_name_alone(section: &mut Value) {
    let names: Vec<Value> =
        branches(section).filter_map(|branch| branch.pointer("/properties/name/const").cloned()).collect();
    if let Some(all) = branches_mut(section) {
        all.push(json!({ "enum": names, "description": "The name alone, with the defaults." }));
    }
}

/// `prior: 0.01` for `prior: { value: 0.01 }`.
fn allow_value_alone(prior: &mut Value) {
    *prior = json!({ "anyOf": [prior.take(), { "$ref": "#/$defs/ParamValue" }] });
}

fn branches(schema: &Value) -> impl Iterator<Item = &Value> {
    schema["oneOf"].as_array().into_iter().flatten()
}

fn branches_mut(schema: &mut Value) -> Option<&mut Vec<Value>> {
    schema.get_mut("oneOf")?.as_array_mut()
}

/// The recipe in which any value may be a reference, and its definitions.
fn recipe() -> (Value, Map<String, Value>) {
    let mut recipe = of::<Recipe>();
    if let Some(definitions) = recipe["$defs"].as_object_mut() {
        definitions.values_mut().for_each(allow_unknown_tag);
    }
    allow_references(&mut recipe);
    close(&mut recipe);
    let definitions = match recipe["$defs"].take() {
        Value::Object(definitions) => definitions,
        _ => Map::new(),
    };
    if let Some(recipe) = recipe.as_object_mut() {
        recipe.remove("$defs");
        recipe.remove("$schema");
        recipe.remove("title");
    }
    (recipe, definitions)
}

/// Where the key that tells the kinds apart is a reference itself, the other keys cannot be told beforehand.
fn allow_unknown_tag(schema: &mut Value) {
    let tag = branches(schema).find_map(|branch| {
        let properties = branch["properties"].as_object()?;
        properties.iter().find(|(_, property)| property.get("const").is_some()).map(|(tag, _)| tag.clone())
    });
    if let (Some(tag), Some(all)) = (tag, branches_mut(schema)) {
        let reference = json!({ "$ref": format!("#/$defs/{REFERENCE}") });
        all.push(json!({ "type": "object", "properties": { tag.as_str(): reference }, "required": [tag] }));
    }
}

fn allow_references(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("properties", Value::Object(properties)) => properties.values_mut().for_each(or_reference),
                    ("items", items) => or_reference(items),
                    (_, value) => allow_references(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(allow_references),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn or_reference(schema: &mut Value) {
    allow_references(schema);
    if schema.get("const").is_some() || schema["$ref"] == format!("#/$defs/{REFERENCE}") {
        return;
    }
    let mut outer = Map::new();
    if let Some(inner) = schema.as_object_mut() {
        for key in ["description", "default"] {
            outer.extend(inner.remove(key).map(|value| (key.to_owned(), value)));
        }
    }
    outer.insert("anyOf".to_owned(), json!([schema.take(), { "$ref": format!("#/$defs/{REFERENCE}") }]));
    *schema = outer.into();
}

/// Refuses keys that are not known, wherever keys are listed. Parts of a union are closed where they are put
/// together, so that each sees the keys of the others.
fn close(schema: &mut Value) {
    let shared = shared_definitions(schema);
    close_object(schema);
    if let Some(definitions) = schema.get_mut("$defs").and_then(Value::as_object_mut) {
        for (name, definition) in definitions {
            let is_union = definition.get("oneOf").is_some();
            if is_union && definition.get("properties").is_some() {
                definition["unevaluatedProperties"] = false.into();
            } else if is_union {
                branches_mut(definition).into_iter().flatten().for_each(close_object);
            } else if !shared.contains(name) {
                close_object(definition);
            }
        }
    }
}

fn close_object(schema: &mut Value) {
    let is_only_tag = schema["required"].as_array().is_some_and(|required| required.len() == 1)
        && schema["properties"].as_object().is_some_and(|properties| {
            properties.len() == 1 && properties.values().all(|property| property.get("const").is_none())
        });
    if schema.get("properties").is_some() && !is_only_tag {
        schema["unevaluatedProperties"] = false.into();
    }
}

/// The definitions that a branch of a union adds its own keys to.
fn shared_definitions(schema: &Value) -> Vec<String> {
    let definitions = schema["$defs"].as_object().into_iter().flat_map(Map::values);
    let added = definitions.flat_map(branches).filter(|branch| branch.get("properties").is_some());
    added.filter_map(|branch| Some(branch["$ref"].as_str()?.strip_prefix("#/$defs/")?.to_owned())).collect()
}
