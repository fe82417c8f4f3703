//! A model in words that stay the same whatever the types are called, and back: a checkpoint says by them what it is of.

use std::collections::BTreeMap;

use super::transformer::{Answer, Input};
use super::{Activation, Cnn, Mlp, Model, Norm, Pool, PositionNorm, Resnet, Tabular, Transformer};

/// What the words of a model that is of a file begin with.
const IMPORTED: &str = "imported";

/// The name of the layers that a model was built without, with commas between them.
const WITHOUT: &str = "without";

/// What models had before a field could say otherwise, in whose words it is not: by family, name and value.
const BEFORE: &[(&str, &str, &str)] =
    &[("mlp", "norm", "none"), ("resnet", "kernel", "3"), ("transformer", "norm", "layer")];

/// The greatest size that is read.
const SIZE_MAX: usize = 1 << 24;

const ACTIVATIONS: &[(Activation, &str)] = &[
    (Activation::Relu, "relu"),
    (Activation::Tanh, "tanh"),
    (Activation::Sigmoid, "sigmoid"),
    (Activation::Gelu, "gelu"),
    (Activation::Silu, "silu"),
    (Activation::LeakyRelu, "leaky_relu"),
    (Activation::Elu, "elu"),
    (Activation::HardSwish, "hard_swish"),
    (Activation::Mish, "mish"),
];
const NORMS: &[(Norm, &str)] =
    &[(Norm::None, "none"), (Norm::Batch, "batch"), (Norm::Group, "group"), (Norm::Layer, "layer")];
const POSITION_NORMS: &[(PositionNorm, &str)] = &[(PositionNorm::Layer, "layer"), (PositionNorm::Rms, "rms")];
const POOLS: &[(Pool, &str)] = &[(Pool::Max, "max"), (Pool::Average, "average")];
const FLAGS: &[(bool, &str)] = &[(true, "yes"), (false, "no")];

/// Words that describe no model of a family.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{words:?} describes no model of a family: {reason}")]
pub struct WordsError {
    pub words: String,
    pub reason: String,
}

impl Model {
    /// The family, then pairs of a name and a value; of a file only what a checkpoint of it can be told by.
    pub fn words(&self) -> String {
        let (family, fields) = match self {
            Self::Mlp(mlp) => ("mlp", mlp.fields()),
            Self::Cnn(cnn) => ("cnn", cnn.fields()),
            Self::Resnet(resnet) => ("resnet", resnet.fields()),
            Self::Transformer(transformer) => ("transformer", transformer.fields()),
            Self::Tabular(tabular) => ("tabular", tabular.fields()),
            Self::Imported(imported) => return format!("{IMPORTED} {}", imported.shape_words()),
            Self::Ablated(ablated) => {
                return format!("{} {WITHOUT} {}", ablated.model.words(), ablated.without.join(","));
            }
        };
        let is_said = |(name, value): &Field| !BEFORE.contains(&(family, name, value));
        let fields = fields.into_iter().filter(is_said).map(|(name, value)| format!(" {name} {value}"));
        std::iter::once(family.to_owned()).chain(fields).collect()
    }

    /// Whether such words are of a model that a file describes.
    pub fn is_of_file(words: &str) -> bool {
        words.split(' ').next() == Some(IMPORTED)
    }

    /// The model of a family that has these words.
    ///
    /// # Errors
    /// There is none: a word is unknown, missing or out of bounds, or the model is of a file.
    pub fn from_words(words: &str) -> Result<Self, WordsError> {
        read(words).map_err(|reason| WordsError { words: words.chars().take(200).collect(), reason })
    }
}

fn read(words: &str) -> Result<Model, String> {
    let mut rest = words.split(' ');
    let family = rest.next().unwrap_or_default();
    let before = BEFORE.iter().filter(|(of, ..)| *of == family).map(|(_, name, value)| (*name, *value));
    let mut fields = Fields(before.collect());
    while let Some(name) = rest.next() {
        let value = rest.next().ok_or_else(|| format!("{name} has no value"))?;
        fields.0.insert(name, value);
    }
    let without: Vec<String> =
        fields.0.remove(WITHOUT).map(|layers| layers.split(',').map(str::to_owned).collect()).unwrap_or_default();
    let model = match family {
        "mlp" => Mlp::read(&fields).map(Model::Mlp),
        "cnn" => Cnn::read(&fields).map(Model::Cnn),
        "resnet" => Resnet::read(&fields).map(Model::Resnet),
        "transformer" => Transformer::read(&fields).map(Model::Transformer),
        "tabular" => Tabular::read(&fields).map(Model::Tabular),
        _ => Err("no such family".into()),
    };
    Ok(model?.without(&without))
}

type Field = (&'static str, String);

impl Mlp {
    fn fields(&self) -> Vec<Field> {
        vec![
            ("inputs", self.inputs.to_string()),
            ("hidden", sizes(&self.hidden)),
            ("norm", word(NORMS, self.norm)),
            ("activation", word(ACTIVATIONS, self.activation)),
            ("dropout", word(FLAGS, self.dropout)),
            ("outputs", self.outputs.to_string()),
        ]
    }

    fn read(fields: &Fields<'_>) -> Result<Self, String> {
        Ok(Self {
            inputs: fields.size("inputs")?,
            hidden: fields.sizes("hidden")?,
            norm: fields.one_of("norm", NORMS)?,
            activation: fields.one_of("activation", ACTIVATIONS)?,
            dropout: fields.one_of("dropout", FLAGS)?,
            outputs: fields.size("outputs")?,
        })
    }
}

impl Cnn {
    fn fields(&self) -> Vec<Field> {
        vec![
            ("input", sizes(&self.input)),
            ("channels", sizes(&self.channels)),
            ("layers", self.layers.to_string()),
            ("kernel", self.kernel.to_string()),
            ("norm", word(NORMS, self.norm)),
            ("activation", word(ACTIVATIONS, self.activation)),
            ("pool", word(POOLS, self.pool)),
            ("global_pool", word(FLAGS, self.global_pool)),
            ("hidden", sizes(&self.hidden)),
            ("dropout", word(FLAGS, self.dropout)),
            ("outputs", self.outputs.to_string()),
        ]
    }

    fn read(fields: &Fields<'_>) -> Result<Self, String> {
        Ok(Self {
            input: fields.sizes("input")?,
            channels: fields.sizes("channels")?,
            layers: fields.size("layers")?,
            kernel: fields.size("kernel")?,
            norm: fields.one_of("norm", NORMS)?,
            activation: fields.one_of("activation", ACTIVATIONS)?,
            pool: fields.one_of("pool", POOLS)?,
            global_pool: fields.one_of("global_pool", FLAGS)?,
            hidden: fields.sizes("hidden")?,
            dropout: fields.one_of("dropout", FLAGS)?,
            outputs: fields.size("outputs")?,
        })
    }
}

impl Resnet {
    fn fields(&self) -> Vec<Field> {
        vec![
            ("input", sizes(&self.input)),
            ("blocks", sizes(&self.blocks)),
            ("width", self.width.to_string()),
            ("bottleneck", word(FLAGS, self.bottleneck)),
            ("kernel", self.kernel.to_string()),
            ("norm", word(NORMS, self.norm)),
            ("activation", word(ACTIVATIONS, self.activation)),
            ("dropout", word(FLAGS, self.dropout)),
            ("outputs", self.outputs.to_string()),
        ]
    }

    fn read(fields: &Fields<'_>) -> Result<Self, String> {
        Ok(Self {
            input: fields.array("input")?,
            blocks: fields.sizes("blocks")?,
            width: fields.size("width")?,
            bottleneck: fields.one_of("bottleneck", FLAGS)?,
            kernel: fields.size("kernel")?,
            norm: fields.one_of("norm", NORMS)?,
            activation: fields.one_of("activation", ACTIVATIONS)?,
            dropout: fields.one_of("dropout", FLAGS)?,
            outputs: fields.size("outputs")?,
        })
    }
}

impl Transformer {
    fn fields(&self) -> Vec<Field> {
        let mut fields = match &self.input {
            Input::Sequence { length, width } => vec![("sequence", sizes(&[*length, *width]))],
            Input::Image { shape, patch } => vec![("image", sizes(shape)), ("patch", patch.to_string())],
            Input::Tokens { length, vocabulary } => vec![("tokens", sizes(&[*length, *vocabulary]))],
        };
        fields.push(match self.answer {
            Answer::Row(outputs) => ("outputs", outputs.to_string()),
            Answer::NextToken => ("outputs", "next_token".into()),
        });
        fields.extend([
            ("layers", self.layers.to_string()),
            ("width", self.width.to_string()),
            ("heads", self.heads.to_string()),
            ("ratio", self.ratio.to_string()),
            ("norm", word(POSITION_NORMS, self.norm)),
            ("activation", word(ACTIVATIONS, self.activation)),
            ("dropout", word(FLAGS, self.dropout)),
        ]);
        fields
    }

    fn read(fields: &Fields<'_>) -> Result<Self, String> {
        let input = if fields.0.contains_key("image") {
            Input::Image { shape: fields.array("image")?, patch: fields.size("patch")? }
        } else if fields.0.contains_key("sequence") {
            let [length, width] = fields.array("sequence")?;
            Input::Sequence { length, width }
        } else {
            let [length, vocabulary] = fields.array("tokens")?;
            Input::Tokens { length, vocabulary }
        };
        Ok(Self {
            input,
            answer: match fields.text("outputs")? {
                "next_token" => Answer::NextToken,
                _ => Answer::Row(fields.size("outputs")?),
            },
            layers: fields.size("layers")?,
            width: fields.size("width")?,
            heads: fields.size("heads")?,
            ratio: fields.size("ratio")?,
            norm: fields.one_of("norm", POSITION_NORMS)?,
            activation: fields.one_of("activation", ACTIVATIONS)?,
            dropout: fields.one_of("dropout", FLAGS)?,
        })
    }
}

impl Tabular {
    fn fields(&self) -> Vec<Field> {
        vec![
            ("numbers", self.numbers.to_string()),
            ("categories", sizes(&self.categories)),
            ("embedding", sizes(self.embedding.as_slice())),
            ("hidden", sizes(&self.hidden)),
            ("norm", word(NORMS, self.norm)),
            ("activation", word(ACTIVATIONS, self.activation)),
            ("dropout", word(FLAGS, self.dropout)),
            ("outputs", self.outputs.to_string()),
        ]
    }

    fn read(fields: &Fields<'_>) -> Result<Self, String> {
        Ok(Self {
            numbers: fields.size("numbers")?,
            categories: fields.sizes("categories")?,
            embedding: fields.sizes("embedding")?.first().copied(),
            hidden: fields.sizes("hidden")?,
            norm: fields.one_of("norm", NORMS)?,
            activation: fields.one_of("activation", ACTIVATIONS)?,
            dropout: fields.one_of("dropout", FLAGS)?,
            outputs: fields.size("outputs")?,
        })
    }
}

fn sizes(sizes: &[usize]) -> String {
    let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
    if sizes.is_empty() { "none".into() } else { sizes.join("-") }
}

fn word<T: PartialEq>(table: &[(T, &str)], value: T) -> String {
    let row = table.iter().find(|(known, _)| *known == value);
    row.expect("a table has all values of its type").1.into()
}

/// The pairs of a name and a value that follow the family.
struct Fields<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    fn text(&self, name: &str) -> Result<&'a str, String> {
        self.0.get(name).copied().ok_or_else(|| format!("{name} is missing"))
    }

    fn sizes(&self, name: &str) -> Result<Vec<usize>, String> {
        match self.text(name)? {
            "none" => Ok(Vec::new()),
            text => text.split('-').map(|size| read_size(name, size)).collect(),
        }
    }

    fn size(&self, name: &str) -> Result<usize, String> {
        read_size(name, self.text(name)?)
    }

    fn array<const COUNT: usize>(&self, name: &str) -> Result<[usize; COUNT], String> {
        let sizes = self.sizes(name)?;
        sizes.try_into().map_err(|_| format!("{name} is not of {COUNT} sizes"))
    }

    fn one_of<T: Copy>(&self, name: &str, table: &[(T, &str)]) -> Result<T, String> {
        let text = self.text(name)?;
        let row = table.iter().find(|(_, known)| *known == text);
        row.map(|(value, _)| *value).ok_or_else(|| format!("{name} cannot be {text:?}"))
    }
}

fn read_size(name: &str, text: &str) -> Result<usize, String> {
    let size = text.parse().ok().filter(|size| *size <= SIZE_MAX);
    size.ok_or_else(|| format!("{name} is not a size: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> Vec<Model> {
        let (norm, activation, pool) = (Norm::Group, Activation::HardSwish, Pool::Average);
        let transformer = |input: Input, answer: Answer| {
            Model::Transformer(Transformer {
                input,
                answer,
                layers: 2,
                width: 8,
                heads: 4,
                ratio: 3,
                norm: PositionNorm::Rms,
                activation,
                dropout: true,
            })
        };
        let tabular = |embedding: Option<usize>| Tabular {
            numbers: 3,
            categories: vec![5, 7],
            embedding,
            hidden: vec![8],
            norm,
            activation,
            dropout: false,
            outputs: 1,
        };
        vec![
            Model::Mlp(Mlp { inputs: 64, hidden: Vec::new(), norm, activation, dropout: true, outputs: 10 }),
            Model::Cnn(Cnn {
                input: vec![1, 8, 8],
                channels: vec![4, 8],
                layers: 2,
                kernel: 3,
                norm,
                activation,
                pool,
                global_pool: true,
                hidden: vec![16],
                dropout: false,
                outputs: 10,
            }),
            Model::Resnet(Resnet {
                input: [3, 8, 8],
                blocks: vec![1, 2],
                width: 8,
                bottleneck: true,
                kernel: 5,
                norm,
                activation,
                dropout: false,
                outputs: 10,
            }),
            transformer(Input::Sequence { length: 5, width: 3 }, Answer::Row(4)),
            transformer(Input::Image { shape: [1, 8, 8], patch: 4 }, Answer::Row(4)),
            transformer(Input::Tokens { length: 5, vocabulary: 11 }, Answer::NextToken),
            Model::Tabular(tabular(None)),
            Model::Tabular(tabular(Some(6))),
            Model::Tabular(tabular(None)).without(&["layers.0".to_owned(), "dropout".to_owned()]),
        ]
    }

    #[test]
    fn words_of_a_model_make_the_same_model() {
        for model in models() {
            assert_eq!(Model::from_words(&model.words()), Ok(model));
        }
        for (activation, _) in ACTIVATIONS {
            let model = Model::Mlp(Mlp {
                inputs: 1,
                hidden: vec![2, 3],
                norm: Norm::None,
                activation: *activation,
                dropout: false,
                outputs: 1,
            });
            assert_eq!(Model::from_words(&model.words()), Ok(model));
        }
    }

    /// Checkpoints from before a field was there are of models as they were.
    #[test]
    fn words_say_nothing_of_what_is_as_before_there_was_a_word_for_it() {
        let words = "mlp inputs 4 hidden 8 activation relu dropout no outputs 2";
        let mlp = Mlp {
            inputs: 4,
            hidden: vec![8],
            norm: Norm::None,
            activation: Activation::Relu,
            dropout: false,
            outputs: 2,
        };
        assert_eq!(Model::from_words(words), Ok(Model::Mlp(mlp.clone())));
        assert_eq!(Model::Mlp(mlp).words(), words);
    }

    #[test]
    fn words_of_no_model_are_refused() {
        let right = models()[0].words();
        let wrong = [
            String::new(),
            "perceptron inputs 1".into(),
            "imported \"weight\"[1]".into(),
            right.replace("64", "-64"),
            right.replace("64", "99999999999"),
            right.replace("hard_swish", "relu6"),
            right.replace(" outputs 10", ""),
            right.replace(" 10", ""),
        ];
        for words in wrong {
            assert!(Model::from_words(&words).is_err(), "{words}");
        }
    }
}
