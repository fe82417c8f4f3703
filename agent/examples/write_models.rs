//! Trains every golden model and writes what came of it to `docs/MODELS.md`:
//! `cargo run --release -p regatta-agent --example write_models`. It needs `ORT_DYLIB_PATH`: `. .regatta/env`.
#![allow(clippy::unwrap_used, reason = "what is shared with the tests fails as they do")]

#[path = "../tests/golden_support/check.rs"]
mod check;
#[path = "../tests/support/library.rs"]
mod library;
#[path = "../tests/golden_support/numbers.rs"]
mod numbers;
#[path = "../tests/golden_support/trial.rs"]
mod trial;

use std::fmt::Write;

use check::Outcome;
use numbers::{File, Golden};

const INTRODUCTION: &str = "\
# Models

What trains as exported: the models of `agent/tests/golden`, of PyTorch's two exporters, each against PyTorch's own \
numbers in double precision. `agent/tests/golden.rs` holds gradients, the loss of every step, outputs and running \
statistics to them. This document is written by `cargo run --release -p regatta-agent --example write_models`.

Nodes are those of a step's gradients, without loss and update; parameters are the numbers that train. The error is the \
largest of any parameter's gradient, relative to its norm; of a gradient that is zero but for rounding, to the norm of \
all. Losses are those of the first batch, before the first step and before the last step on it, with the last optimizer \
that `index.json` names. Files that are there for their import only have none of these.

";

fn main() -> anyhow::Result<()> {
    let mut text = INTRODUCTION.to_owned();
    text += "| model | file | exporter | opset | nodes | parameters | gradient error | loss |\n";
    text += "| --- | --- | --- | --- | --- | --- | --- | --- |\n";
    for golden in numbers::models() {
        for file in &golden.files {
            let outcome = if golden.optimizers.is_empty() {
                None
            } else {
                let outcome = check::train(&golden, file);
                Some(outcome.map_err(|reason| anyhow::anyhow!("{}: {reason}", file.name))?)
            };
            write_row(&mut text, &golden, file, outcome.as_ref())?;
        }
    }
    Ok(std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/MODELS.md"), text)?)
}

fn write_row(text: &mut String, golden: &Golden, file: &File, outcome: Option<&Outcome>) -> std::fmt::Result {
    let File { name, exporter, opset, .. } = file;
    write!(text, "| {} | {name} | {exporter} | {opset} | ", golden.name)?;
    let Some(Outcome { nodes, parameters, gradient_error, losses }) = outcome else {
        return writeln!(text, "- | - | - | - |");
    };
    writeln!(text, "{nodes} | {parameters} | {gradient_error:.1e} | {:.4} -> {:.4} |", losses.0, losses.1)
}
