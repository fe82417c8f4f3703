//! Steps of any plan: something for every input, the gradients, and the check of those against differences.

use std::collections::BTreeMap;

use regatta_autodiff::families::Model;
use regatta_autodiff::graph::{Dtype, Provider};
use regatta_autodiff::step::{
    Clip, DataRole, Loss, Optimizer, Piece, Precision, Program, ResultRole, ScalarRole, StepPlan, Update, training_step,
};

use crate::evaluator::{Tensor, evaluate};

pub type Tensors = BTreeMap<String, Tensor>;

/// As many elements as a tensor has.
pub const EVERY: usize = usize::MAX;

#[derive(Clone, Copy)]
pub struct Numbers {
    pub learning_rate: f64,
    pub momentum: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub alpha: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
    pub clip_norm: f64,
    pub clip_value: f64,
    pub dropout_rate: f64,
    pub dropout_seed: i64,
    pub label_smoothing: f64,
    pub huber_delta: f64,
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            learning_rate: 0.1,
            momentum: 0.9,
            beta1: 0.9,
            beta2: 0.999,
            alpha: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.05,
            clip_norm: 1.0,
            clip_value: 1.0,
            dropout_rate: 0.25,
            dropout_seed: 7,
            label_smoothing: 0.2,
            huber_delta: 0.4,
        }
    }
}

impl Numbers {
    fn of(&self, role: ScalarRole) -> f64 {
        match role {
            ScalarRole::LearningRate => self.learning_rate,
            ScalarRole::Momentum => self.momentum,
            ScalarRole::Beta1 => self.beta1,
            ScalarRole::Beta2 => self.beta2,
            ScalarRole::Alpha => self.alpha,
            ScalarRole::Epsilon => self.epsilon,
            ScalarRole::WeightDecay => self.weight_decay,
            ScalarRole::ClipNorm => self.clip_norm,
            ScalarRole::ClipValue => self.clip_value,
            ScalarRole::GradientShare | ScalarRole::Carry => 1.0,
            ScalarRole::AverageKept => 0.9,
            ScalarRole::DropoutRate => self.dropout_rate,
            ScalarRole::LabelSmoothing => self.label_smoothing,
            ScalarRole::HuberDelta => self.huber_delta,
            ScalarRole::NoiseDeviation => 0.1,
            ScalarRole::MixupShare => 0.3,
            ScalarRole::DropoutSeed => unreachable!("it is an integer"),
            ScalarRole::AdamRate | ScalarRole::AdamEpsilon | ScalarRole::Shrink => {
                unreachable!("a step that is handed over alone computes it")
            }
        }
    }
}

/// Something for every input of the program. Class targets are of three classes, other integers below four; targets
/// of a divergence add up to one, those of yes or no are one or zero.
pub fn feeds(program: &Program, loss: &Loss, numbers: &Numbers) -> Tensors {
    let mut feeds = Tensors::new();
    for state in &program.states {
        let tensor = match state.input.dtype {
            Dtype::I64 => Tensor::ints(&state.input.shape, vec![0]),
            _ => Tensor::floats(&state.input.shape, state.pieces.iter().flat_map(beginning).collect()),
        };
        feeds.insert(state.input.name.clone(), tensor);
    }
    for scalar in &program.scalars {
        let tensor = match scalar.role {
            ScalarRole::DropoutSeed => Tensor::ints(&[], vec![numbers.dropout_seed]),
            role => Tensor::floats(&[], vec![numbers.of(role)]),
        };
        feeds.insert(scalar.input.name.clone(), tensor);
    }
    for data in &program.data {
        let (name, shape) = (&data.input.name, &data.input.shape);
        let count = shape.iter().product::<usize>() as i64;
        let tensor = match (data.role, data.input.dtype) {
            (DataRole::Target, Dtype::I64) => Tensor::ints(shape, (0..count).map(|at| at * 2 % 3).collect()),
            (DataRole::Target, _) => target(loss, spread(name, shape, -1.0, 1.0)),
            (_, Dtype::I64) => Tensor::ints(shape, (0..count).map(|at| (at * 7 + 2) % 4).collect()),
            (DataRole::Noise, _) => spread(name, shape, 0.0, 1.0),
            (DataRole::ClassWeights, _) => spread(name, shape, 0.2, 2.0),
            (DataRole::Feature(_), _) => spread(name, shape, -1.0, 1.0),
        };
        feeds.insert(name.clone(), tensor);
    }
    let feature = program.data.iter().find(|data| data.role == DataRole::Feature(0)).unwrap();
    let (rows, picks) = (feature.input.shape[0] as i64, program.indices.shape[0] as i64);
    let picks = (0..picks).map(|row| (row * 3 + 1) % rows).collect();
    feeds.insert(program.indices.name.clone(), Tensor::ints(&program.indices.shape, picks));
    if let Some(weights) = &program.row_weights {
        feeds.insert(weights.name.clone(), constant(&weights.shape, 1.0));
    }
    feeds
}

fn beginning(piece: &Piece) -> Vec<f64> {
    let tensor = match piece.name.rsplit_once('/') {
        Some((_, slot)) if slot != "average" => constant(&piece.shape, 0.0),
        _ if piece.name.contains("running_var") => spread(&piece.name, &piece.shape, 0.5, 1.5),
        _ => spread(&piece.name, &piece.shape, -0.8, 0.8),
    };
    tensor.as_floats().to_vec()
}

fn target(loss: &Loss, values: Tensor) -> Tensor {
    let floats = values.as_floats();
    let floats = match loss {
        Loss::BinaryCrossEntropy => floats.iter().map(|&number| f64::from(number > 0.1)).collect(),
        Loss::KlDivergence => {
            let rows = floats.chunks(*values.shape.last().unwrap());
            rows.flat_map(|row| row.iter().map(move |x| x.abs() / row.iter().map(|x| x.abs()).sum::<f64>())).collect()
        }
        _ => floats.to_vec(),
    };
    Tensor::floats(&values.shape, floats)
}

/// Plain descent on the CPU, with nothing that could be left out.
pub fn plan(model: Model, loss: Loss, (rows, batch): (usize, usize)) -> StepPlan {
    StepPlan {
        model,
        loss,
        augment: Vec::new(),
        update: Update { optimizer: Optimizer::Sgd, weight_decay: false, own_operators: false },
        undecayed: vec![],
        clip: Clip::default(),
        accumulate: false,
        average: false,
        precision: Precision::Single,
        recompute: false,
        outputs: false,
        rows,
        batch,
        ahead: 1,
        provider: Provider::Cpu,
    }
}

/// The gradient of each vector of weights: what plain descent at rate one takes away.
pub fn gradients(plan: &StepPlan, at: &Tensors) -> BTreeMap<String, Vec<f64>> {
    let update = Update { optimizer: Optimizer::Sgd, ..plan.update };
    let program = training_step(&StepPlan { update, clip: Clip::default(), ..plan.clone() }).unwrap();
    let mut feeds = at.clone();
    feeds.insert("regatta.learning_rate".into(), Tensor::floats(&[], vec![1.0]));
    feeds.insert("regatta.weight_decay".into(), Tensor::floats(&[], vec![0.0]));
    advance(&program, &mut feeds);
    let vectors = program.states.iter().map(|state| state.input.name.clone()).filter(|name| is_weights(name));
    let difference =
        |name: &String| at[name].as_floats().iter().zip(feeds[name].as_floats()).map(|(a, b)| a - b).collect();
    vectors.map(|name| (name.clone(), difference(&name))).collect()
}

/// The gradients of every tensor of the model, at so many elements spread over it, against central differences of the
/// loss.
pub fn check_gradients(plan: &StepPlan, feeds: &Tensors, elements_max: usize) {
    let program = training_step(plan).unwrap();
    let gradients = gradients(plan, feeds);
    let mut slopes = 0;
    for state in program.states.iter().filter(|state| is_weights(&state.input.name)) {
        let name = &state.input.name;
        for piece in &state.pieces {
            let stride = piece.elements().div_ceil(elements_max);
            for element in (piece.offset..piece.offset + piece.elements()).step_by(stride) {
                let loss_at = |shift: f64| {
                    let mut moved = feeds.clone();
                    moved.insert(name.clone(), shifted(&feeds[name], element, shift));
                    loss(&program, &moved)
                };
                let (exact, numeric) = (gradients[name][element], (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5);
                let error = (exact - numeric).abs() / numeric.abs().max(0.01);
                assert!(error < 1e-6, "{plan:?} {}[{element}]: {exact} against {numeric}", piece.name);
                slopes += usize::from(numeric.abs() > 1e-6);
            }
        }
    }
    assert!(slopes > 20, "{plan:?} has {slopes} slopes");
}

pub fn is_weights(state: &str) -> bool {
    ["regatta.weights", "regatta.undecayed_weights"].contains(&state)
}

/// One step: each state takes the value of its output.
pub fn advance(program: &Program, feeds: &mut Tensors) {
    let outputs = evaluate(&program.graph, feeds);
    for state in &program.states {
        if let Some(output) = &state.output {
            feeds.insert(state.input.name.clone(), outputs[output].clone());
        }
    }
}

/// The tensor of the model that a state holds under this name.
pub fn piece<'a>(program: &Program, feeds: &'a Tensors, name: &str) -> &'a [f64] {
    let found = program.states.iter().find_map(|state| {
        let piece = state.pieces.iter().find(|piece| piece.name == name)?;
        Some(&feeds[&state.input.name].as_floats()[piece.offset..piece.offset + piece.elements()])
    });
    found.unwrap_or_else(|| panic!("no {name}"))
}

pub fn result(program: &Program, outputs: &Tensors, role: ResultRole) -> Option<f64> {
    let result = program.results.iter().find(|result| result.role == role)?;
    Some(outputs[&result.name].as_floats()[0])
}

pub fn loss(program: &Program, feeds: &Tensors) -> f64 {
    result(program, &evaluate(&program.graph, feeds), ResultRole::Loss).unwrap()
}

pub fn constant(shape: &[usize], number: f64) -> Tensor {
    Tensor::floats(shape, vec![number; shape.iter().product()])
}

/// Numbers that look random and differ from name to name (SplitMix64).
pub fn spread(name: &str, shape: &[usize], low: f64, high: f64) -> Tensor {
    let start = name.bytes().fold(1u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let unit = |position: u64| {
        let mut z = start.wrapping_add((position + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let count = shape.iter().product::<usize>() as u64;
    Tensor::floats(shape, (0..count).map(|position| low + (high - low) * unit(position)).collect())
}

fn shifted(tensor: &Tensor, element: usize, shift: f64) -> Tensor {
    let mut floats = tensor.as_floats().to_vec();
    floats[element] += shift;
    Tensor::floats(&tensor.shape, floats)
}
