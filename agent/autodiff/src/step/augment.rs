//! What is done to the rows of a training minibatch before a model sees them, drawn anew for each row and step.

use super::noise::Noise;
use crate::graph::{Attribute, Constant, Dtype, Elements, Graph, GraphError, Value};

/// One thing that is done to a minibatch. How much, where that shapes no graph, is a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Augment {
    /// Images are shifted by up to so many pixels each way; what comes in from outside is zero.
    Shift { pixels: usize },
    /// Half of the images are mirrored left to right.
    Flip,
    /// Normal noise is added to all features.
    Noise,
    /// Each row is mixed with another one of the minibatch, features and losses alike (Zhang et al., 2018).
    Mixup,
}

/// The numbers of augmentations as scalars of type f32. Those that nothing asks for are not looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// The standard deviation of the noise.
    pub deviation: Option<Value>,
    /// The share of a row itself in what it is mixed to, in `0 ..= 1`.
    pub share: Option<Value>,
}

/// A minibatch as a model sees it.
#[derive(Debug, Clone)]
pub struct Augmented {
    pub features: Vec<Value>,
    pub mixed: Option<Mixed>,
}

/// How the rows of a minibatch were mixed.
#[derive(Debug, Clone, Copy)]
pub struct Mixed {
    /// The row that each row was mixed with, `[rows]` of type i64.
    pub partners: Value,
    /// The share of a row itself.
    pub share: Value,
}

impl Augment {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Shift { .. } => "shift",
            Self::Flip => "flip",
            Self::Noise => "noise",
            Self::Mixup => "mixup",
        }
    }

    /// What keeps it from features of these types and shapes of a row.
    pub fn misfit(&self, features: &[(Dtype, &[usize])]) -> Option<&'static str> {
        let is_float = |(dtype, _): &(Dtype, &[usize])| *dtype == Dtype::F32;
        let mut images = features.iter().filter(|(dtype, shape)| is_image(*dtype, shape));
        match *self {
            Self::Shift { .. } | Self::Flip if images.clone().next().is_none() => {
                Some("the model takes no images: rows of channels x height x width")
            }
            Self::Shift { pixels } if images.any(|(_, shape)| pixels >= shape[1].min(shape[2])) => {
                Some("nothing of an image would be left")
            }
            Self::Noise if !features.iter().any(is_float) => Some("the model takes no numbers, only categories"),
            Self::Mixup if !features.iter().all(is_float) => Some("categories cannot be mixed"),
            Self::Shift { .. } | Self::Flip | Self::Noise | Self::Mixup => None,
        }
    }
}

/// The features (each rows x the shape of one) after all augmentations, one after the other. Shifts and flips are of
/// the images among them, noise and mixup of all numbers; the features of a row are treated alike.
///
/// # Errors
/// A setting that is asked for is not given, or the graph has inputs of the names of the noise.
pub fn augment(
    graph: &mut Graph,
    augments: &[Augment],
    settings: Settings,
    noise: &mut Noise,
    features: Vec<Value>,
) -> Result<Augmented, GraphError> {
    let mut augmented = Augmented { features, mixed: None };
    for augment in augments {
        let Some(&first) = augmented.features.first() else { break };
        let rows = graph.shape(first)[0];
        match augment {
            Augment::Shift { pixels } => {
                let (down, right) =
                    (noise.below(graph, 2 * pixels + 1, rows)?, noise.below(graph, 2 * pixels + 1, rows)?);
                on_images(graph, &mut augmented.features, |graph, x| shifted(graph, x, *pixels, (down, right)))?;
            }
            Augment::Flip => {
                let sides = noise.below(graph, 2, rows)?;
                let is_mirrored = graph.cast(sides, Dtype::Bool)?;
                on_images(graph, &mut augmented.features, |graph, x| mirrored(graph, x, is_mirrored))?;
            }
            Augment::Noise => {
                let deviation = needed(settings.deviation, "the deviation of the noise")?;
                for feature in &mut augmented.features {
                    if graph.dtype(*feature) == Dtype::F32 {
                        *feature = noisy(graph, *feature, noise, deviation)?;
                    }
                }
            }
            Augment::Mixup => {
                let share = needed(settings.share, "the share of a row")?;
                let mixed = Mixed { partners: partners(graph, noise, rows)?, share };
                for feature in &mut augmented.features {
                    let other = graph.gather(*feature, mixed.partners)?;
                    *feature = mixed.blend(graph, *feature, other)?;
                }
                augmented.mixed = Some(mixed);
            }
        }
    }
    Ok(augmented)
}

impl Mixed {
    /// `own * share + other * (1 - share)`, for values of a type of floating-point numbers.
    ///
    /// # Errors
    /// The values do not fit each other.
    pub fn blend(self, graph: &mut Graph, own: Value, other: Value) -> Result<Value, GraphError> {
        let share = graph.cast(self.share, graph.dtype(own))?;
        let difference = graph.sub(own, other)?;
        let scaled = graph.mul(difference, share)?;
        graph.add(other, scaled)
    }
}

fn on_images(
    graph: &mut Graph,
    features: &mut [Value],
    mut change: impl FnMut(&mut Graph, Value) -> Result<Value, GraphError>,
) -> Result<(), GraphError> {
    for feature in features {
        if is_image(graph.dtype(*feature), &graph.shape(*feature)[1..]) {
            *feature = change(graph, *feature)?;
        }
    }
    Ok(())
}

fn is_image(dtype: Dtype, row: &[usize]) -> bool {
    dtype == Dtype::F32 && row.len() == 3
}

/// A window of each image of `[B, C, H, W]` with `pixels` zeros around it, from the row and the column on that
/// `starts` (two of `[B]`) name: elements of a row by their place, which differs from row to row by a constant.
fn shifted(
    graph: &mut Graph,
    images: Value,
    pixels: usize,
    (down, right): (Value, Value),
) -> Result<Value, GraphError> {
    let shape = graph.shape(images).to_vec();
    let &[rows, channels, height, width] = shape.as_slice() else { return Ok(images) };
    let padded = graph.pad(images, &[(0, 0), (0, 0), (pixels, pixels), (pixels, pixels)])?;
    let (high, wide) = (height + 2 * pixels, width + 2 * pixels);
    let flat = graph.reshape(padded, &[rows, channels * high * wide])?;

    let below = graph.scale_int(down, wide)?;
    let start = graph.add(below, right)?;
    let start = graph.reshape(start, &[rows, 1])?;
    let line = |channel: usize, y: usize| (0..width).map(move |x| (channel * high + y) * wide + x);
    let places = (0..channels).flat_map(|channel| (0..height).flat_map(move |y| line(channel, y)));
    let places = places.map(|place| i64::try_from(place).expect("a place fits in an i64")).collect();
    let count = channels * height * width;
    let places = graph.constant(Constant { dtype: Dtype::I64, shape: vec![1, count], elements: Elements::Int(places) });
    let places = graph.add(places, start)?;
    let picked = graph.node("GatherElements", &[flat, places], &[("axis", Attribute::Int(1))])?;
    graph.reshape(picked, &shape)
}

fn mirrored(graph: &mut Graph, images: Value, is_mirrored: Value) -> Result<Value, GraphError> {
    let rows = graph.shape(images)[0];
    let mirrored = graph.reversed(images, &[3])?;
    let choice = graph.reshape(is_mirrored, &[rows, 1, 1, 1])?;
    graph.node("Where", &[choice, mirrored, images], &[])
}

fn noisy(graph: &mut Graph, x: Value, noise: &mut Noise, deviation: Value) -> Result<Value, GraphError> {
    let shape = graph.shape(x).to_vec();
    let normal = noise.normal(graph, shape[0], shape[1..].iter().product())?;
    let scaled = graph.mul(normal, deviation)?;
    let scaled = graph.reshape(scaled, &shape)?;
    graph.add(x, scaled)
}

/// Another row for each: all by the same distance further on. Alone, a row is its own partner.
fn partners(graph: &mut Graph, noise: &mut Noise, rows: usize) -> Result<Value, GraphError> {
    let own = graph.int_range(rows, 1);
    if rows < 2 {
        return Ok(own);
    }
    let drawn = noise.below(graph, rows - 1, 1)?;
    let next = graph.int_vector(vec![1]);
    let distance = graph.add(drawn, next)?;
    let sum = graph.add(own, distance)?;
    let count = graph.int_scalar(i64::try_from(rows).expect("a batch's size fits in an i64"));
    graph.modulo(sum, count)
}

fn needed(setting: Option<Value>, name: &str) -> Result<Value, GraphError> {
    let missing = || GraphError::InvalidOperands { op: "augment".into(), reason: format!("{name} is not given") };
    setting.ok_or_else(missing)
}
