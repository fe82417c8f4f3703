//! Trains every golden model and writes what came of it to `docs/MODELS.md`:
//! `cargo run --release -p regatta-agent --example write_models`. It needs `ORT_DYLIB_PATH`: `. .regatta/env`.
//! With a folder of other models, it prints what came of them instead.
#![allow(clippy::unwrap_used, reason = "what is shared with the tests fails as they do")]

#[path = "../tests/golden_support/check.rs"]
mod check;
#[path = "../tests/support/library.rs"]
mod library;
#[path = "../tests/golden_support/numbers.rs"]
mod numbers;
#[path = "../tests/golden_support/trained.rs"]
mod trained;
#[path = "../tests/golden_support/trial.rs"]
mod trial;

use std::path::Path;
use std::process::ExitCode;

use check::Outcome;
use numbers::{Errors, File, Golden};

const INTRODUCTION: &str = "\
# Models

What trains as exported: the models of `agent/tests/golden`, of PyTorch's two exporters, each against PyTorch's own \
numbers in double precision. `agent/tests/golden.rs` holds gradients, the loss of every step, outputs and running \
statistics to them. This document is written by `cargo run --release -p regatta-agent --example write_models`.

Nodes are those of a step's gradients, without loss and update; parameters are the numbers that train. Errors are the \
largest of any parameter's gradient, relative to its norm (of one that is zero but for rounding, to the norm of all), and \
the largest of the loss before any of 50 steps with any of the optimizers that `index.json` names. Losses are those of the \
first batch, before the first step and before the last step on it, with the last optimizer. Files that are there for \
their import only have none of these.

";

fn main() -> ExitCode {
    let written = match std::env::args_os().nth(1) {
        Some(folder) => print_rows(Path::new(&folder)),
        None => document().and_then(|text| {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/MODELS.md");
            std::fs::write(path, text).map_err(|error| format!("{path}: {error}"))
        }),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("write_models: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn document() -> Result<String, String> {
    let mut text = INTRODUCTION.to_owned();
    text += "| model | file | exporter | opset | nodes | parameters | gradient error | loss error | loss |\n";
    text += "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
    for golden in numbers::models() {
        for file in &golden.files {
            text += &match golden.optimizers.is_empty() {
                true => format!("{} - | - | - | - | - |\n", beginning(&golden, file)),
                false => row(&golden, file, None)?,
            };
        }
    }
    Ok(text)
}

/// Of the files that `scripts/check-models` has written.
fn print_rows(folder: &Path) -> Result<(), String> {
    let mut failed = Ok(());
    for golden in numbers::models_of(folder) {
        for file in &golden.files {
            match row(&golden, file, Some(&golden.single)) {
                Ok(row) => print!("{row}"),
                Err(reason) => {
                    eprintln!("{reason}");
                    failed = Err(format!("{} does not train as in PyTorch", file.name));
                }
            }
        }
    }
    failed
}

fn beginning(golden: &Golden, file: &File) -> String {
    let File { name, exporter, opset, .. } = file;
    format!("| {} | {name} | {exporter} | {opset} |", golden.name)
}

/// Beside errors those of PyTorch itself, where they are given.
fn row(golden: &Golden, file: &File, single: Option<&Errors>) -> Result<String, String> {
    let outcome = check::train(golden, file).map_err(|reason| format!("{}: {reason}", file.name))?;
    let Outcome { nodes, parameters, errors, losses: (first, last) } = outcome;
    let beside = |own: f64, other: Option<f64>| {
        let other = other.map_or_else(String::new, |other| format!(" ({other:.1e})"));
        format!("{own:.1e}{other}")
    };
    let gradient = beside(errors.gradient, single.map(|single| single.gradient));
    let loss = beside(errors.loss, single.map(|single| single.loss));
    let beginning = beginning(golden, file);
    Ok(format!("{beginning} {nodes} | {parameters} | {gradient} | {loss} | {first:.4} -> {last:.4} |\n"))
}
