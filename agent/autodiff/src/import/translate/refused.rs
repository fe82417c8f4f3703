//! Operators that are refused whatever their operands, with what to do instead.

/// What to do where an operator is not ONNX's own.
pub(super) const STANDARD: &str = "export the model with standard operators only";

const CONTROL: &str =
    "export the model so that its control flow does not depend on data (fixed sizes, torch.where instead of if)";
const QUANTISED: &str = "export the model before it is quantised";
const SIZES: &str = "write this part of the model with sizes that do not depend on data, such as masks";

const REFUSED: &[(&[&str], &str, &str)] = &[
    (&["If", "Loop", "Scan"], "control flow cannot be differentiated", CONTROL),
    (&["SequenceMap", "SequenceInsert", "SequenceErase", "SequenceEmpty"], "sequences of changing length", CONTROL),
    (&["Optional", "OptionalGetElement", "OptionalHasElement"], "optional values", CONTROL),
    (
        &[
            "QuantizeLinear",
            "DequantizeLinear",
            "DynamicQuantizeLinear",
            "QLinearConv",
            "QLinearMatMul",
            "MatMulInteger",
            "ConvInteger",
        ],
        "quantised numbers have no gradient",
        QUANTISED,
    ),
    (&["NonZero", "Compress", "Unique", "NonMaxSuppression"], "its output's size depends on data", SIZES),
    (
        &["StringNormalizer", "StringConcat", "StringSplit", "RegexFullMatch", "TfIdfVectorizer", "ImageDecoder"],
        "texts and files are no tensors",
        "prepare the data before the model, and export the model without this part",
    ),
    (
        &["Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"],
        "it draws random numbers",
        "only dropout may be random: use nn.Dropout, or give the noise as an input",
    ),
];

/// Why an operator is refused, and what to do instead.
pub(super) fn reason_of(op: &str) -> Option<(&'static str, &'static str)> {
    REFUSED.iter().find(|(ops, _, _)| ops.contains(&op)).map(|(_, reason, help)| (*reason, *help))
}
