//! Every study in examples/ is right.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::{Path, PathBuf};

use regatta_schemas::check;
use regatta_schemas::params::ParamValue;
use regatta_schemas::resolve::resolve_recipe;
use regatta_schemas::study::{Domain, Parameter, Stopper, StudyFile};
use serde_json::{Map, Value};

/// Data that is too large for the repository; the data's README says what it is.
const FETCHED: [&str; 1] = ["data/fashion_mnist.npz"];

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

fn studies() -> Vec<PathBuf> {
    let files = std::fs::read_dir(examples()).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect()
}

fn read(path: &Path) -> StudyFile {
    let text = std::fs::read_to_string(path).unwrap();
    let faults = match check::study_text(&text).and_then(|value| check::study_file(&value)) {
        Ok(file) => return file,
        Err(faults) => faults,
    };
    panic!("{}: {faults:#?}", path.display());
}

#[test]
fn every_example_is_right_and_its_data_is_there() {
    let studies = studies();
    assert!(studies.len() >= 9);
    let about_data = std::fs::read_to_string(examples().join("data/README.md")).unwrap();
    for path in studies {
        let study = read(&path);
        assert_eq!(study.name, path.file_stem().unwrap().to_str().unwrap());
        let files: Vec<&Value> = match study.recipe.get("command") {
            Some(command) => {
                command.get("files").and_then(Value::as_object).into_iter().flat_map(Map::values).collect()
            }
            None => vec![&study.recipe["data"]],
        };
        for data in files.iter().map(|place| place["file"].as_str().unwrap()) {
            let is_fetched = FETCHED.contains(&data) && about_data.contains(data.rsplit('/').next().unwrap());
            assert!(is_fetched || examples().join(data).is_file(), "{data}");
        }
        if let Some(model) = study.recipe.get("model").and_then(|model| model.get("file")) {
            assert!(examples().join(model.as_str().unwrap()).is_file(), "{model}");
        }
    }
}

#[test]
fn a_resolved_recipe_is_right_again_when_written_out() {
    for path in studies() {
        let study = read(&path);
        let first = |parameter: &Parameter| match &parameter.domain {
            Domain::Float { low, .. } => ParamValue::Float(*low),
            Domain::Int { low, .. } => ParamValue::Int(*low),
            Domain::Categorical { choices } | Domain::Ordinal { choices } => choices[0].clone(),
            Domain::Bool => ParamValue::Bool(false),
        };
        let always = study.space.iter().filter(|(_, parameter)| parameter.when.is_empty());
        let params = always.map(|(name, parameter)| (name.clone(), first(parameter))).collect();
        let recipe = resolve_recipe(&study.recipe, &params).unwrap();
        let written = serde_json::to_value(&recipe).unwrap();
        assert_eq!(check::recipe(&written), Ok(recipe), "{}", path.display());
    }
}

#[test]
fn digits_all_is_digits_without_stopping() {
    let all = read(&examples().join("digits-all.yaml"));
    let digits = read(&examples().join("digits.yaml"));
    assert_eq!(all, StudyFile { name: all.name.clone(), stopper: Stopper::None, ..digits });
}

#[test]
fn a_checked_file_is_right_again_when_written_out() {
    for name in ["digits", "optimizers", "regression"] {
        let study = read(&examples().join(name).with_extension("yaml"));
        let written = serde_json::to_value(&study).unwrap();
        assert_eq!(check::study_file(&written), Ok(study));
    }
}

#[test]
fn the_study_file_of_the_readme_is_right() {
    let readme = std::fs::read_to_string(examples().join("../README.md")).unwrap();
    let study = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let checked = check::study_text(study).and_then(|value| check::study_file(&value));
    assert!(checked.is_ok(), "{checked:#?}");
}
