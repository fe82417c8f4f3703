//! What can be wrong with a data set, and what to do about it.

use regatta_columns::FileError;
use regatta_schemas::limits::LIMITS;
use regatta_schemas::recipe::DataFormat;

/// A data set that cannot be trained on. Trying again does not mend it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DataError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{validation} arrays of features to validate on, {train} to train on: name as many, in the same order")]
    FeaturesDiffer { train: usize, validation: usize },
    #[error("rows to validate on need both `validation_features` and `validation_target`: add the one that is missing")]
    HalfValidation,
    #[error("a row has the shape {train:?} to train on and {validation:?} to validate on: make them alike")]
    ShapesDiffer { train: Vec<usize>, validation: Vec<usize> },
    #[error("`{name}` is of different number types to train and to validate on: convert one of them")]
    KindsDiffer { name: String },
    #[error("the array has the shape {shape:?}: give it rows and at least two columns, the last of them the target")]
    NoColumns { shape: Vec<usize> },
    #[error("there is no feature `{name}` to leave out: there are {there}")]
    NoFeature { name: String, there: String },
    #[error("all features are left out: leave one in")]
    NoFeatureLeft,
    #[error("features of a data set that is streamed cannot be left out: leave `stream` out")]
    StreamedFeature,
    #[error("`shape` is {told:?}, and a row has {width} numbers: their product must be that")]
    Shape { told: Vec<usize>, width: usize },
    #[error("`shape` is given, and there are {features} features of numbers: it needs exactly one")]
    ShapeOfWhich { features: usize },
    #[error("`{name}` has the category {value}: number them 0, 1, 2 ... below {max}", max = LIMITS.vocabulary_max)]
    Category { name: String, value: f64 },
    #[error("column `{name}` has {count} categories, more than {max}: leave it out", max = LIMITS.vocabulary_max)]
    TooManyCategories { name: String, count: usize },
    #[error("the target of row {row} is {value}: each of several answers is 0 or 1")]
    NoAnswer { row: usize, value: f64 },
    #[error("data of the format {format:?} cannot be streamed: write it as shards, or leave `stream` out")]
    NotStreamed { format: DataFormat },
    #[error("this is no archive of images ({reason}): make a zip or tar file of folders with PNG or JPEG files")]
    NotImages { reason: String },
    #[error("the archive has no PNG or JPEG file: put each class's into a folder")]
    NoImages,
    #[error("`{name}` lies in no folder: put each class's images into a folder with its name")]
    NoFolder { name: String },
    #[error("`{name}` cannot be decoded: {reason}")]
    BadImage { name: String, reason: String },
    #[error("`{name}` has {found:?} pixels (height, width), and the first image {first:?}: give an `image_size`")]
    ImagesDiffer { name: String, found: [u32; 2], first: [u32; 2] },
    #[error("images of {height} x {width} pixels: a side has from 1 to {max}")]
    ImageSize { height: u32, width: u32, max: u32 },
    #[error("tokens need `length`: how many of them make a row")]
    NoLength,
    #[error("these are no tokens: {reason}; give an npy array with one axis, or raw unsigned 16-bit numbers")]
    NotTokens { reason: String },
    #[error("token {at} is {value}: tokens are whole numbers from 0 to below {max}", max = LIMITS.vocabulary_max)]
    Token { at: u64, value: f64 },
    #[error("{count} tokens are fewer than two rows of {length}, each followed by one more")]
    TooFewTokens { count: u64, length: usize },
    #[error("this is no archive of shards ({reason}): make a tar file of npz files")]
    NotShards { reason: String },
    #[error("in `{name}`: {error}")]
    InShard { name: String, error: Box<DataError> },
    #[error("all rows are in one part: a stream keeps whole parts to validate on, so write at least two")]
    OnePart,
    #[error("block {block} of the rows has other features or targets than those before: write all alike")]
    BlocksDiffer { block: usize },
    #[error("{features} rows of features and {target} of targets: there must be as many of each")]
    RowsDiffer { features: usize, target: usize },
    #[error("there is no column `{name}`: the header line has {there}")]
    NoColumn { name: String, there: String },
    #[error("column `{name}` is in the header line twice: give each column a name of its own")]
    ColumnTwice { name: String },
    #[error("column `{name}` is the target and a feature: remove it from `features`")]
    TargetIsFeature { name: String },
    #[error("there is no feature: name columns besides the target `{target}`")]
    NoFeatures { target: String },
    #[error("column `{column}` has {count} different texts, more than {max}: leave it out of `features`", max = LIMITS.column_texts_max)]
    TooManyTexts { column: String, count: usize },
    #[error(
        "row {row} is of class {value}: number the classes 0, 1, 2 ... below {max}; the loss's `ignore_index` is the one \
         label that may be any other number",
        max = LIMITS.classes_max
    )]
    Label { row: usize, value: f64 },
    #[error(
        "each row of the target has a one among {width} numbers: write the number of its class in their place; or, where \
         they are labels of places, `task: language_model`"
    )]
    OneHot { width: usize },
    #[error("the target holds texts such as `{text}`: a regression takes numbers; or is the task a classification?")]
    TextTarget { text: String },
    #[error("the target holds texts such as `{text}`: a transcription takes the numbers of labels, from 1 on")]
    TextTranscript { text: String },
    #[error("a row's target has the shape {shape:?}: a transcription takes one axis of labels, padded with zeros")]
    TranscriptShape { shape: Vec<usize> },
    #[error("the target of row {row} has a label behind a zero: zero is no label, and stands behind all of them")]
    BlankLabel { row: usize },
    #[error("all rows are of one class: a classification takes at least two")]
    OneClass,
    #[error("{classes} classes, more than {max}: is the task a regression?", max = LIMITS.classes_max)]
    TooManyClasses { classes: usize },
    #[error("{rows} rows: training and validation take at least one each")]
    TooFewRows { rows: usize },
}
