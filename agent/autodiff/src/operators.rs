//! What is known of every operator, as a document for people. It follows from the tables of `rules` and `lower`, and
//! from the list here of what is refused.

use std::fmt::Write as _;

use crate::graph::OPSET;
use crate::rules::{Gradient, Kernel};
use crate::{lower, rules};

/// Operators that cannot be differentiated here, with the reason and what to do instead.
const REFUSED: &[(&str, &str)] = &[
    ("If", "Control flow cannot be differentiated: export the branch that is trained."),
    ("Loop", "Control flow cannot be differentiated: export the model with the loop unrolled."),
    ("Scan", "Control flow cannot be differentiated: export the model with the loop unrolled."),
    (
        "SequenceAt",
        "Sequences hold no gradient: export with tensors, or let ONNX Runtime's basic clean-up remove them.",
    ),
    ("SequenceConstruct", "Sequences hold no gradient: export with tensors."),
    ("SequenceMap", "Sequences hold no gradient: export with tensors."),
    ("SplitToSequence", "Sequences hold no gradient: use Split."),
    ("ConcatFromSequence", "Sequences hold no gradient: use Concat."),
    ("Optional", "Optional values hold no gradient: export with tensors."),
    ("NonZero", "The shape of its output depends on the data, and shapes are static here: use a mask."),
    ("Unique", "The shape of its output depends on the data, and shapes are static here."),
    ("Compress", "The shape of its output depends on the data, and shapes are static here: use a mask."),
    ("StringNormalizer", "Text has no gradient: prepare it before training."),
    ("TfIdfVectorizer", "Text has no gradient: prepare it before training."),
    ("Bernoulli", "Its draws are not reproducible: use Dropout, which is drawn from the trial's seed."),
    ("Multinomial", "Its draws are not reproducible."),
    ("RandomNormal", "Its draws are not reproducible: give the noise as an input."),
    ("RandomNormalLike", "Its draws are not reproducible: give the noise as an input."),
    ("RandomUniform", "Its draws are not reproducible: give the noise as an input."),
    ("RandomUniformLike", "Its draws are not reproducible: give the noise as an input."),
    ("QuantizeLinear", "Rounding has no gradient: train the model before it is quantised."),
    ("DequantizeLinear", "Integers have no gradient: train the model before it is quantised."),
    ("DynamicQuantizeLinear", "Rounding has no gradient: train the model before it is quantised."),
    ("QLinearConv", "Integers have no gradient: train the model before it is quantised."),
    ("QLinearMatMul", "Integers have no gradient: train the model before it is quantised."),
    ("MatMulInteger", "Integers have no gradient: train the model before it is quantised."),
    ("ConvInteger", "Integers have no gradient: train the model before it is quantised."),
    ("Det", "It has no gradient rule: write it with products and sums."),
    ("DFT", "It has no gradient rule: multiply by the matrix of the transform."),
    ("STFT", "It has no gradient rule: prepare spectra before training."),
    ("NonMaxSuppression", "Its choice has no gradient: leave it out of the model that is trained."),
    ("RoiAlign", "It has no gradient rule."),
    ("GridSample", "It has no gradient rule: resample at fixed places with Resize, or by Gather."),
    ("LpPool", "It has no gradient rule: write it as a power, AveragePool and a root."),
    ("MaxUnpool", "It has no gradient rule, and no kernel on CUDA: enlarge with Resize."),
];

/// What to do about an operator without a gradient rule.
pub(crate) fn help_for(op: &str) -> &'static str {
    if let Some((_, help)) = REFUSED.iter().find(|(name, _)| *name == op) {
        return help;
    }
    if lower::rows().any(|row| row.op == op) {
        return "It is differentiated as simpler operators: write it with `lower`.";
    }
    "Write it with operators of docs/OPS.md, or add a rule for it."
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
         the axes that broadcasting had added. Every operator has a kernel on the CPU; \"cuDNN\" says that the kernel \
         on CUDA needs that library, \"ours, by NVRTC\" that ONNX Runtime has none there, and ours is compiled by \
         NVIDIA's compiler.\n\n\
         ## Differentiated\n\n| operator | what flows to its operands | CUDA |\n| --- | --- | --- |\n"
    );
    let is_closed_form = |row: &&rules::Row| row.op.starts_with(|letter: char| letter.is_ascii_lowercase());
    let is_stop = |row: &&rules::Row| matches!(row.gradient, Gradient::Stop);
    for row in sorted(rules::rows().filter(|row| !is_closed_form(row) && !is_stop(row))) {
        line(&mut text, &[row.op, row.formula, kernel(row.cuda)]);
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
    text.push_str("| operator | CUDA |\n| --- | --- |\n");
    for row in sorted(rules::rows().filter(is_stop)) {
        line(&mut text, &[row.op, kernel(row.cuda)]);
    }
    text.push_str("\n## Refused\n\n| operator | why, and what to do |\n| --- | --- |\n");
    let mut refused = REFUSED.to_vec();
    refused.sort_unstable();
    for (op, help) in refused {
        line(&mut text, &[op, help]);
    }
    text
}

fn sorted<'a>(rows: impl Iterator<Item = &'a rules::Row>) -> Vec<&'a rules::Row> {
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|row| row.op);
    rows
}

fn kernel(kernel: Kernel) -> &'static str {
    match kernel {
        Kernel::Own => "yes",
        Kernel::CuDnn => "cuDNN",
        Kernel::Compiled => "ours, by NVRTC",
        Kernel::None => "no: the node runs on the CPU",
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
        for op in rules::rows().map(|row| row.op).chain(lowered).chain(REFUSED.iter().map(|(op, _)| *op)) {
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
