//! What is known of every operator, as a document for people. It follows from the tables of `rules`, `lower` and
//! `refused`.

use std::fmt::Write as _;

use crate::graph::OPSET;
use crate::import::LIMITS;
use crate::rules::{Gradient, Kernel};
use crate::{lower, refused, rules};

/// The operators of these tables that opset 9, the first that is read, did not have, and the opset that brought each.
const LATER: &[(&str, i64)] = &[
    ("CumSum", 11),
    ("GatherElements", 11),
    ("GatherND", 11),
    ("Gelu", 20),
    ("GreaterOrEqual", 12),
    ("IsInf", 10),
    ("LayerNormalization", 17),
    ("LessOrEqual", 12),
    ("Mod", 10),
    ("Resize", 10),
    ("ReverseSequence", 10),
    ("Round", 11),
    ("ScatterElements", 11),
    ("ScatterND", 11),
    ("ThresholdedRelu", 10),
    ("Trilu", 14),
];

/// Operators that no graph of ours has: what they become while a file is read, and in which opsets files have them.
const READ: &[(&str, &str, &str)] = &[
    (
        "BatchNormalization",
        "9 to 24",
        "normalised by the batch's own statistics, the running ones kept beside the weights; by the running ones in \
         evaluations",
    ),
    ("Bernoulli", "15 to 24", "the dropout that exporters write with it, drawn from the trial's noise"),
    ("CastLike", "15 to 24", "Cast"),
    ("ConcatFromSequence", "11 to 24", "Concat, of a sequence whose length is known"),
    ("Constant", "9 to 24", "a constant"),
    ("ConstantOfShape", "9 to 24", "a constant, of a shape that is known"),
    ("Dropout", "9 to 24", "dropout, drawn from the trial's noise; nothing in evaluations"),
    ("RandomUniformLike", "9 to 24", "the dropout that exporters write with it, drawn from the trial's noise"),
    ("Range", "11 to 24", "a constant, of bounds that are known"),
    ("Scatter", "9 to 10", "ScatterElements"),
    ("SequenceAt", "11 to 24", "the value, of a sequence whose length is known"),
    ("SequenceConstruct", "11 to 24", "values one by one"),
    ("SequenceLength", "11 to 24", "a constant"),
    ("SplitToSequence", "11 to 24", "Split"),
    ("Upsample", "9", "Resize"),
];

/// Those that sessions on the CPU have in a form of ours as well, which is taken where it is faster.
const OURS_ON_CPU: &[&str] = &["Conv", "Gemm", "MatMul", "MaxPool", "Relu"];

/// What to do about an operator without a gradient rule.
pub(crate) fn help_for(op: &str) -> &'static str {
    if let Some(row) = refused::find(op) {
        return row.help;
    }
    if lower::rows().any(|row| row.op == op) {
        return "it is differentiated as simpler operators: write it with `lower`";
    }
    "write it with operators of docs/OPS.md, or add a rule for it"
}

/// The document, in Markdown.
pub fn document() -> String {
    let mut text = format!(
        "# Operators\n\n\
         What can be trained: every operator of ONNX that has a gradient here, is written as others that have, or is \
         known to have none. Meanings are those of opset {OPSET}. This document is written by \
         `cargo run -p regatta-autodiff --example write-ops`.\n\n\
         In the formulas `dy` is the gradient of the output, `x` (or `a`, `b`) an operand, `y` the output, `[c]` one \
         where `c` holds and zero elsewhere. Semicolons separate what flows to the operands. Gradients are summed over \
         the axes that broadcasting had added. Files of opsets 9 to 24 are read; \"opsets\" are those of them that have the \
         operator, whose older forms are brought into that of {OPSET}. On the CPU \"yes, and ours\" says that there is an \
         operator of ours beside ONNX Runtime's kernel, which is taken where it is faster; on CUDA \"cuDNN\" that the kernel \
         needs that library, \"ours, by NVRTC\" that ONNX Runtime has none there, and ours is compiled by NVIDIA's \
         compiler; \"not needed\" that what it gives is known once a file is read. Each of them runs in a test: \
         `cargo test -p regatta-agent --test rules`. Trainings with the same seed are equal to the last bit on one kind of device, but with the \
         gradients of GatherElements, GatherND and of MaxPool where windows overlap in one or three dimensions on CUDA: \
         ONNX Runtime adds at the picked places in any order there.\n\n\
         ## Differentiated\n\n| operator | opsets | what flows to its operands | CPU | CUDA |\n\
         | --- | --- | --- | --- | --- |\n"
    );
    let is_closed_form = |row: &&rules::Row| row.op.starts_with(|letter: char| letter.is_ascii_lowercase());
    let is_stop = |row: &&rules::Row| matches!(row.gradient, Gradient::Stop);
    for row in sorted(rules::rows().filter(|row| !is_closed_form(row) && !is_stop(row))) {
        line(&mut text, &[row.op, &opsets(row.op), row.formula, on_cpu(row.op), kernel(row.cuda)]);
    }
    text.push_str(
        "\n## Closed forms\n\nSeveral nodes that are differentiated as one.\n\n\
         | form | what flows to its operands |\n| --- | --- |\n",
    );
    for row in sorted(rules::rows().filter(is_closed_form)) {
        line(&mut text, &[row.op, row.formula]);
    }
    text.push_str(
        "\n## Written as other operators\n\n\
         | operator | from opset | becomes | where |\n| --- | --- | --- | --- |\n",
    );
    let mut lowered: Vec<&lower::Row> = lower::rows().collect();
    lowered.sort_by_key(|row| row.op);
    for row in lowered {
        let place = if row.is_only_on_cuda() { "on CUDA" } else { "everywhere" };
        line(&mut text, &[row.op, &row.since.to_string(), row.form, place]);
    }
    text.push_str("\n## Without a gradient\n\nNothing flows to their operands, and that is no error.\n\n");
    text.push_str("| operator | opsets | CPU | CUDA |\n| --- | --- | --- | --- |\n");
    for row in sorted(rules::rows().filter(is_stop)) {
        line(&mut text, &[row.op, &opsets(row.op), on_cpu(row.op), kernel(row.cuda)]);
    }
    text.push_str("\n## Read as others\n\n| operator | opsets | becomes |\n| --- | --- | --- |\n");
    for (op, opsets, becomes) in READ {
        line(&mut text, &[op, opsets, becomes]);
    }
    text.push_str(
        "\nTensors that follow from sizes and constants alone (`Shape`, `Size`, and what is computed from them) are \
         constants.\n",
    );
    text.push_str("\n## Refused\n\n| operator | why | what to do |\n| --- | --- | --- |\n");
    let mut all: Vec<_> = refused::rows().flat_map(|row| row.ops.iter().map(move |op| (*op, row))).collect();
    all.sort_unstable_by_key(|(op, _)| *op);
    for (op, row) in all {
        line(&mut text, &[op, row.reason, row.help]);
    }
    text
}

fn sorted<'a>(rows: impl Iterator<Item = &'a rules::Row>) -> Vec<&'a rules::Row> {
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|row| row.op);
    rows
}

/// Of those that are read, the opsets that have an operator.
fn opsets(op: &str) -> String {
    let first = LATER.iter().find(|(later, _)| *later == op).map_or(LIMITS.opset_min, |(_, first)| *first);
    format!("{first} to {}", LIMITS.opset_max)
}

fn on_cpu(op: &str) -> &'static str {
    if OURS_ON_CPU.contains(&op) { "yes, and ours" } else { "yes" }
}

fn kernel(kernel: Kernel) -> &'static str {
    match kernel {
        Kernel::Own => "yes",
        Kernel::CuDnn => "cuDNN",
        Kernel::Compiled => "ours, by NVRTC",
        Kernel::Known => "not needed",
    }
}

fn line(text: &mut String, cells: &[&str]) {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    writeln!(text, "| {} |", cells.join(" | ")).expect("a string can be written to");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_operator_is_in_two_tables_or_twice() {
        let lowered = lower::rows().filter(|row| !row.is_only_on_cuda()).map(|row| row.op);
        let mut seen = BTreeSet::new();
        let refused = refused::rows().flat_map(|row| row.ops).copied();
        let read = READ.iter().map(|(op, ..)| *op);
        for op in rules::rows().map(|row| row.op).chain(lowered).chain(refused).chain(read) {
            assert!(seen.insert(op), "{op} is there twice");
        }
    }

    #[test]
    fn every_differentiated_operator_can_be_added_to_a_graph() {
        for row in rules::rows() {
            let is_closed_form = row.op.starts_with(|letter: char| letter.is_ascii_lowercase());
            assert!(is_closed_form || crate::graph::knows_shape_of(row.op), "{} has no shape rule", row.op);
        }
    }
}
