//! The tensors of one trial, bound to its compiled graphs.
//!
//! Every state has two tensors; each step reads one and writes the other, and then they swap. So weights and
//! optimizer state never leave the device, nothing is overwritten while it is read, and after an interrupted
//! step the side that was read is still whole.

use regatta_autodiff::families::Initial;
use regatta_autodiff::graph::Dtype;
use regatta_autodiff::step::{DataRole, Program, ResultRole, State};

use super::engine::{DeviceSplit, Shape, Stage, zeros};
use super::plan::Plan;
use super::{TrainingError, draw};
use crate::runtime::{Array, Bindings, Compiled, Interrupt, RuntimeError, Tensor};

/// What every state begins with, drawn from the seed: one stream for each, by its position.
pub(super) fn initial_states(states: &[State], seed: u64) -> Vec<Array> {
    let initial = |(position, state): (usize, &State)| {
        let count = state.input.shape.iter().product();
        match &state.initial {
            Initial::Zeros => zeros(state.input.dtype, count),
            Initial::Ones => Array::F32(vec![1.0; count]),
            Initial::Given(numbers) => Array::F32(numbers.to_vec()),
            Initial::Normal { deviation } => Array::F32(draw::normal(seed, position as u64, count, *deviation)),
            Initial::Uniform { bound } => Array::F32(draw::weights(seed, position as u64, count, *bound)),
        }
    };
    states.iter().enumerate().map(initial).collect()
}

/// Which of the two tensors of each state holds the present.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    First,
    Second,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }

    fn of<T>(self, pair: &[T; 2]) -> &T {
        &pair[self as usize]
    }

    fn of_mut<T>(self, pair: &mut [T; 2]) -> &mut T {
        &mut pair[self as usize]
    }
}

/// What a step measured on its minibatch: a mean and a count.
pub(super) struct Measured {
    pub loss: f32,
    pub correct: Option<f32>,
}

/// What an evaluation measured: sums over rows.
pub(super) struct Summed {
    pub loss: f64,
    pub correct: Option<f64>,
}

/// The host's ends of a graph: indices in, results out.
struct HostEnds {
    index_name: String,
    indices: Tensor,
    loss: Tensor,
    correct: Option<Tensor>,
}

impl HostEnds {
    fn new(program: &Program) -> Result<Self, RuntimeError> {
        let indices = zeros(Dtype::I64, program.indices.shape.iter().product());
        let result = || Tensor::on_host(&[], &zeros(Dtype::F32, 1));
        let has_correct = program.results.iter().any(|output| output.role == ResultRole::Correct);
        Ok(Self {
            index_name: program.indices.name.clone(),
            indices: Tensor::on_host(&program.indices.shape, &indices)?,
            loss: result()?,
            correct: has_correct.then(result).transpose()?,
        })
    }

    fn bind(&mut self, program: &Program, bindings: &mut Bindings) -> Result<(), RuntimeError> {
        bindings.input(&self.index_name, &self.indices)?;
        for output in &program.results {
            match (output.role, &mut self.correct) {
                (ResultRole::Correct, Some(correct)) => bindings.output(&output.name, correct)?,
                (ResultRole::Correct, None) => {}
                (ResultRole::Loss, _) => bindings.output(&output.name, &mut self.loss)?,
            }
        }
        Ok(())
    }

    fn write(&mut self, indices: &[i64], bindings: &mut Bindings) -> Result<(), RuntimeError> {
        self.indices.write_i64(indices)?;
        bindings.refresh(&self.index_name, &self.indices)
    }

    fn read(&self) -> Result<Measured, RuntimeError> {
        let correct = self.correct.as_ref().map(Tensor::read_f32).transpose()?;
        Ok(Measured { loss: self.loss.read_f32()?, correct })
    }
}

/// A trial's tensors for training steps.
pub(super) struct StepTensors {
    states: Vec<[Tensor; 2]>,
    /// By the side that is read.
    bindings: [Bindings; 2],
    side: Side,
    ends: HostEnds,
}

impl StepTensors {
    pub fn bind(shape: &Shape, plan: &Plan, data: &DeviceSplit, contents: &[Array]) -> Result<Self, TrainingError> {
        let Stage { program, compiled } = &shape.step;
        let mut states = Vec::with_capacity(program.states.len());
        for (state, contents) in program.states.iter().zip(contents) {
            let pair = [compiled.tensor(&state.input.shape, contents)?, compiled.tensor(&state.input.shape, contents)?];
            states.push(pair);
        }
        let mut ends = HostEnds::new(program)?;
        let mut bindings = [compiled.bindings()?, compiled.bindings()?];
        for side in [Side::First, Side::Second] {
            let bindings = side.of_mut(&mut bindings);
            for (state, pair) in program.states.iter().zip(&mut states) {
                bindings.input(&state.input.name, side.of(pair))?;
                if let Some(output) = &state.output {
                    bindings.output(output, side.other().of_mut(pair))?;
                }
            }
            for scalar in &program.scalars {
                bindings.input(&scalar.input.name, &Tensor::on_host(&[], &plan.scalar(scalar))?)?;
            }
            bind_data(program, bindings, data, &shape.noise)?;
            ends.bind(program, bindings)?;
        }
        Ok(Self { states, bindings, side: Side::First, ends })
    }

    pub fn side(&self) -> Side {
        self.side
    }

    pub fn step(
        &mut self,
        shape: &mut Shape,
        indices: &[i64],
        interrupt: &Interrupt,
    ) -> Result<Measured, RuntimeError> {
        let bindings = self.side.of_mut(&mut self.bindings);
        self.ends.write(indices, bindings)?;
        shape.step.compiled.run(bindings, interrupt)?;
        self.side = self.side.other();
        self.ends.read()
    }

    pub fn read_states(&self) -> Result<Vec<Array>, RuntimeError> {
        self.states.iter().map(|pair| self.side.of(pair).read()).collect()
    }
}

fn bind_data(
    program: &Program,
    bindings: &mut Bindings,
    data: &DeviceSplit,
    noise: &[Tensor],
) -> Result<(), RuntimeError> {
    let mut noise = noise.iter();
    for input in &program.data {
        let tensor = match input.role {
            DataRole::Features => &data.features,
            DataRole::Target => &data.target,
            DataRole::Noise => noise.next().expect("a shape has every noise pool of its step"),
        };
        bindings.input(&input.input.name, tensor)?;
    }
    Ok(())
}

/// A trial's tensors for evaluations; the states are those of its steps.
pub(super) struct EvaluationTensors {
    /// By the side that holds the present.
    bindings: [Bindings; 2],
    ends: HostEnds,
    weight_name: String,
    weights: Tensor,
    batch: usize,
}

impl EvaluationTensors {
    pub fn bind(shape: &Shape, trained: &StepTensors, data: &DeviceSplit) -> Result<Self, TrainingError> {
        let Stage { program, compiled } = &shape.evaluation;
        let weights = program.row_weights.as_ref().expect("every evaluation weighs its rows");
        let batch = weights.shape.iter().product();
        let mut tensors = Self {
            bindings: [compiled.bindings()?, compiled.bindings()?],
            ends: HostEnds::new(program)?,
            weight_name: weights.name.clone(),
            weights: Tensor::on_host(&weights.shape, &zeros(Dtype::F32, batch))?,
            batch,
        };
        for side in [Side::First, Side::Second] {
            let bindings = side.of_mut(&mut tensors.bindings);
            for state in &program.states {
                let name = &state.input.name;
                let position = shape.step.program.states.iter().position(|trained| trained.input.name == *name);
                let position = position.expect("an evaluation has only parameters that are trained");
                bindings.input(name, side.of(&trained.states[position]))?;
            }
            bind_data(program, bindings, data, &[])?;
            tensors.ends.bind(program, bindings)?;
            bindings.input(&tensors.weight_name, &tensors.weights)?;
        }
        Ok(tensors)
    }

    pub fn evaluate(
        &mut self,
        stage: &mut Stage,
        side: Side,
        rows: usize,
        interrupt: &Interrupt,
    ) -> Result<Summed, RuntimeError> {
        let mut summed = Summed { loss: 0.0, correct: None };
        for first in (0..rows).step_by(self.batch) {
            let measured = self.batch(&mut stage.compiled, side, first, rows, interrupt)?;
            summed.loss += f64::from(measured.loss);
            if let Some(correct) = measured.correct {
                summed.correct = Some(summed.correct.unwrap_or(0.0) + f64::from(correct));
            }
        }
        Ok(summed)
    }

    /// The rows from `first` on; where they end, row zero fills up the batch with weight zero.
    fn batch(
        &mut self,
        compiled: &mut Compiled,
        side: Side,
        first: usize,
        rows: usize,
        interrupt: &Interrupt,
    ) -> Result<Measured, RuntimeError> {
        let whole = first..first + self.batch;
        let row = |row: usize| if row < rows { i64::try_from(row).expect("a row fits in an i64") } else { 0 };
        let indices: Vec<i64> = whole.clone().map(row).collect();
        let weights = whole.map(|row| if row < rows { 1.0 } else { 0.0 }).collect();
        let bindings = side.of_mut(&mut self.bindings);
        self.ends.write(&indices, bindings)?;
        self.weights.write(&Array::F32(weights))?;
        bindings.refresh(&self.weight_name, &self.weights)?;
        compiled.run(bindings, interrupt)?;
        self.ends.read()
    }
}
