//! Operators that no model can be trained with, why, and what to do instead.

/// What is said of some operators.
pub(crate) struct Row {
    pub ops: &'static [&'static str],
    pub reason: &'static str,
    pub help: &'static str,
}

pub(crate) const BRANCHES: &[&str] = &["If"];
pub(crate) const LOOPS: &[&str] = &["Loop", "Scan"];
/// Those whose length is not known before the model runs.
pub(crate) const SEQUENCES: &[&str] = &["SequenceMap", "SequenceInsert", "SequenceErase", "SequenceEmpty"];
pub(crate) const OPTIONALS: &[&str] = &["Optional", "OptionalGetElement", "OptionalHasElement"];

const NO_RULE: &str = "it has no gradient rule";

const ROWS: &[Row] = &[
    Row {
        ops: BRANCHES,
        reason: "control flow cannot be differentiated",
        help: "export the branch that is trained, or use torch.where",
    },
    Row {
        ops: LOOPS,
        reason: "control flow cannot be differentiated",
        help: "export the model with the loop unrolled, for sizes that do not depend on data",
    },
    Row {
        ops: SEQUENCES,
        reason: "sequences of changing length hold no gradient",
        help: "export the model with tensors of fixed sizes",
    },
    Row { ops: OPTIONALS, reason: "optional values hold no gradient", help: "export the model with tensors" },
    Row {
        ops: &[
            "QuantizeLinear",
            "DequantizeLinear",
            "DynamicQuantizeLinear",
            "QLinearConv",
            "QLinearMatMul",
            "MatMulInteger",
            "ConvInteger",
        ],
        reason: "quantised numbers have no gradient",
        help: "export the model before it is quantised",
    },
    Row {
        ops: &["NonZero", "Compress", "Unique"],
        reason: "its output's size depends on data",
        help: "write this part of the model with sizes that do not depend on data, such as masks",
    },
    Row {
        ops: &["NonMaxSuppression"],
        reason: "its choice has no gradient, and its size depends on data",
        help: "leave it out of the model that is trained",
    },
    Row {
        ops: &["StringNormalizer", "StringConcat", "StringSplit", "RegexFullMatch", "TfIdfVectorizer", "ImageDecoder"],
        reason: "texts and files are no tensors",
        help: "prepare the data before the model, and export the model without this part",
    },
    Row {
        ops: &["Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"],
        reason: "it draws random numbers",
        help: "only dropout may be random: use nn.Dropout, or give the noise as an input",
    },
    Row {
        ops: &["BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"],
        reason: "bits have no gradient",
        help: "compare numbers, and join what is true by And, Or and Not",
    },
    Row {
        ops: &["BlackmanWindow", "HammingWindow", "HannWindow", "MelWeightMatrix", "EyeLike"],
        reason: "its size depends on data",
        help: "export the model with the tensor as a constant",
    },
    Row { ops: &["TensorScatter"], reason: NO_RULE, help: "export the model without a cache of keys and values" },
    Row { ops: &["RotaryEmbedding"], reason: NO_RULE, help: "write it with products and sums of its halves" },
    Row { ops: &["CenterCropPad"], reason: NO_RULE, help: "write it with Slice and Pad" },
    Row { ops: &["Col2Im"], reason: NO_RULE, help: "write it as ConvTranspose with a kernel of zeros and ones" },
    Row {
        ops: &["AffineGrid", "DeformConv"],
        reason: NO_RULE,
        help: "resample at fixed places with Resize, or by Gather",
    },
    Row { ops: &["MaxRoiPool"], reason: NO_RULE, help: "crop before training, or by Slice and Resize" },
    Row { ops: &["GlobalLpPool"], reason: NO_RULE, help: "write it as a power, ReduceMean and a root" },
    Row { ops: &["Det"], reason: NO_RULE, help: "write it with products and sums" },
    Row { ops: &["DFT"], reason: NO_RULE, help: "multiply by the matrix of the transform" },
    Row { ops: &["STFT"], reason: NO_RULE, help: "prepare spectra before training" },
    Row { ops: &["RoiAlign"], reason: NO_RULE, help: "crop before training, or by Slice and Resize" },
    Row { ops: &["GridSample"], reason: NO_RULE, help: "resample at fixed places with Resize, or by Gather" },
    Row { ops: &["LpPool"], reason: NO_RULE, help: "write it as a power, AveragePool and a root" },
    Row { ops: &["MaxUnpool"], reason: NO_RULE, help: "enlarge with Resize" },
];

pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    ROWS.iter()
}

/// What is said of an operator that is refused.
pub(crate) fn find(op: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.ops.contains(&op))
}
