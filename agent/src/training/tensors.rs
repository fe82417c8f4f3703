//! The tensors of one trial, bound to its compiled graphs.
//!
//! Every state has one tensor, which a step reads and then overwrites: weights and optimizer state never leave the
//! device, and take its memory once. A step that is broken off leaves them half written.

use std::collections::BTreeMap;

use regatta_autodiff::families::{Initial, Model};
use regatta_autodiff::graph::Dtype;
use regatta_autodiff::step::{DataRole, Piece, Port, Program, ResultOutput, ResultRole, Scalar, ScalarRole, State};

use super::dataset::{Split, Target};
use super::engine::{DeviceSplit, Shape, Stage, array, target_array, zeros};
use super::exchange::Exchange;
use super::metrics::Scores;
use super::plan::{OptimizerPlan, Plan};
use super::{TrainingError, draw};
use crate::runtime::{Array, Bindings, Compiled, Interrupt, RuntimeError, Tensor};

/// What the states of a trial begin with.
pub(super) enum States<'a> {
    /// Drawn from the seed: one stream for each tensor of the model, by its position.
    Drawn { seed: u64 },
    /// In the order of the step's description.
    Given(&'a [Array]),
}

impl States<'_> {
    /// A tensor for the state at this position of the step's description.
    fn tensor(&self, compiled: &Compiled, position: usize, state: &State) -> Result<Tensor, RuntimeError> {
        let shape = &state.input.shape;
        match (self, state.input.dtype) {
            (Self::Given(arrays), _) => compiled.tensor(shape, &arrays[position]),
            (Self::Drawn { seed }, Dtype::F32) => compiled.filled(shape, |to| draw_pieces(&state.pieces, *seed, to)),
            (Self::Drawn { .. }, dtype) => compiled.tensor(shape, &zeros(dtype, shape.iter().product())),
        }
    }

    /// Overwrites the tensor of the state at this position.
    fn write(&self, tensor: &mut Tensor, position: usize, state: &State) -> Result<(), RuntimeError> {
        match (self, state.input.dtype) {
            (Self::Given(arrays), _) => tensor.write(&arrays[position]),
            (Self::Drawn { seed }, Dtype::F32) => tensor.fill(|to| draw_pieces(&state.pieces, *seed, to)),
            (Self::Drawn { .. }, dtype) => tensor.write(&zeros(dtype, state.input.shape.iter().product())),
        }
    }
}

/// The pieces one after the other.
fn draw_pieces(pieces: &[Piece], seed: u64, mut rest: &mut [f32]) {
    for piece in pieces {
        let to = rest.split_off_mut(..piece.elements()).expect("there is room for all pieces");
        let position = piece.position as u64;
        match &piece.initial {
            Initial::Zeros => to.fill(0.0),
            Initial::Ones => to.fill(1.0),
            Initial::Given(given) => to.copy_from_slice(given),
            Initial::Normal { deviation } => draw::normal(seed, position, *deviation, to),
            Initial::Uniform { bound } => draw::weights(seed, position, *bound, to),
        }
    }
}

/// What a step measured on its minibatch: a mean and a count.
pub(super) struct Measured {
    pub loss: f32,
    pub correct: Option<f32>,
    /// How many positions counted, where it is not all of them.
    pub counted: Option<f32>,
}

/// What an evaluation measured: sums over rows. The mean loss is `loss / weight`, the accuracy `correct / counted`.
#[derive(Default)]
pub(super) struct Summed {
    pub loss: f64,
    pub weight: f64,
    pub correct: Option<f64>,
    pub counted: f64,
}

/// The host's ends of an evaluation: indices in, results out.
struct HostEnds {
    index_name: String,
    indices: Tensor,
    /// One tensor for each output, which may be the result of several roles.
    tensor_by_output: BTreeMap<String, Tensor>,
    results: Vec<ResultOutput>,
}

impl HostEnds {
    fn new(program: &Program) -> Result<Self, RuntimeError> {
        let indices = zeros(Dtype::I64, program.indices.shape.iter().product());
        let mut tensor_by_output = BTreeMap::new();
        for output in &program.results {
            tensor_by_output.insert(output.name.clone(), Tensor::on_host(&[], &zeros(Dtype::F32, 1))?);
        }
        Ok(Self {
            index_name: program.indices.name.clone(),
            indices: Tensor::on_host(&program.indices.shape, &indices)?,
            tensor_by_output,
            results: program.results.clone(),
        })
    }

    fn bind(&mut self, bindings: &mut Bindings) -> Result<(), RuntimeError> {
        bindings.input(&self.index_name, &self.indices)?;
        for (name, tensor) in &mut self.tensor_by_output {
            bindings.output(name, tensor)?;
        }
        Ok(())
    }

    fn write(&mut self, indices: &[i64], bindings: &mut Bindings) -> Result<(), RuntimeError> {
        self.indices.write_i64(indices)?;
        bindings.refresh(&self.index_name, &self.indices)
    }

    /// What was measured, where the graph measures it.
    fn read(&self, role: ResultRole) -> Result<Option<f32>, RuntimeError> {
        let found = self.results.iter().find(|output| output.role == role);
        found.map(|output| self.tensor_by_output[&output.name].read_f32()).transpose()
    }
}

/// One of the graphs that train, bound to the trial's tensors.
struct Bound {
    bindings: Bindings,
    exchange: Exchange,
    /// What differs from trial to trial.
    numbers: Vec<(Scalar, Tensor)>,
    class_weights: Option<Tensor>,
}

impl Bound {
    fn new(
        stage: &Stage,
        shape: &Shape,
        plan: &Plan,
        data: &DeviceSplit,
        states: &mut BTreeMap<String, Tensor>,
    ) -> Result<Self, TrainingError> {
        let Stage { program, compiled } = stage;
        let mut bindings = compiled.bindings()?;
        for state in &program.states {
            let tensor = states.get_mut(&state.input.name).expect("a step has the states of its accumulations");
            bindings.input(&state.input.name, tensor)?;
            if let Some(output) = &state.output {
                bindings.output(output, tensor)?;
            }
        }
        let mut numbers = Vec::new();
        for scalar in program.scalars.iter().filter(|scalar| !scalar.role.varies()) {
            let number = plan.scalar(scalar, &shape.plan().model);
            let tensor =
                if compiled.records() { compiled.tensor(&[], &number)? } else { Tensor::on_host(&[], &number)? };
            bindings.input(&scalar.input.name, &tensor)?;
            numbers.push((scalar.clone(), tensor));
        }
        let class_weights = bind_data(stage, &mut bindings, data, &shape.noise, plan)?;
        let exchange = Exchange::new(program, compiled, &mut bindings)?;
        Ok(Self { bindings, exchange, numbers, class_weights })
    }

    /// For another trial.
    fn set(&mut self, plan: &Plan, model: &Model) -> Result<(), RuntimeError> {
        for (scalar, tensor) in &mut self.numbers {
            tensor.write(&plan.scalar(scalar, model))?;
        }
        match &mut self.class_weights {
            Some(weights) => weights.write(&Array::F32(plan.class_weights().to_vec())),
            None => Ok(()),
        }
    }
}

/// What a run that trains takes from the host.
pub(super) struct Minibatch<'a> {
    /// Which rows, of those on the device or of `rows`.
    pub indices: &'a [i64],
    /// The rows themselves, where they are not on the device.
    pub rows: Option<&'a Split>,
    pub purpose: Purpose,
    /// The share of a row itself, where rows are mixed.
    pub mixup_share: f64,
    pub optimizer: OptimizerPlan,
    /// Updates of the training, with this one or the one to come.
    pub updates: u64,
}

impl Minibatch<'_> {
    /// What the role is for this minibatch.
    pub fn number(&self, role: ScalarRole) -> f64 {
        let learning_rate = match self.purpose {
            _ if role == ScalarRole::MixupShare => return self.mixup_share,
            Purpose::Adds { begins } => return if begins { 0.0 } else { 1.0 },
            Purpose::Updates { learning_rate } => learning_rate,
        };
        self.optimizer.number_of_update(role, learning_rate, self.updates).unwrap_or(learning_rate)
    }
}

/// What a minibatch is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Purpose {
    /// It ends an update.
    Updates { learning_rate: f64 },
    /// Its gradients are added to those of the update to come, or begin them.
    Adds { begins: bool },
}

impl Purpose {
    fn adds(self) -> bool {
        matches!(self, Self::Adds { .. })
    }
}

/// The host's end of a step whose rows come from there: a minibatch in the inputs for all of the data.
struct FedRows {
    rows: DeviceSplit,
    ports: Vec<(DataRole, Port)>,
}

impl FedRows {
    fn new(program: &Program) -> Result<Self, RuntimeError> {
        let is_of_rows = |role| matches!(role, DataRole::Feature(_) | DataRole::Target);
        let fed = program.data.iter().filter(|input| is_of_rows(input.role));
        let ports: Vec<(DataRole, Port)> = fed.map(|input| (input.role, input.input.clone())).collect();
        let empty = |port: &Port| Tensor::on_host(&port.shape, &zeros(port.dtype, port.shape.iter().product()));
        let features = ports.iter().filter(|(role, _)| *role != DataRole::Target).map(|(_, port)| empty(port));
        let features = features.collect::<Result<Vec<_>, _>>()?;
        let target = ports.iter().find(|(role, _)| *role == DataRole::Target);
        let (_, target) = target.expect("every step has a target");
        Ok(Self { rows: DeviceSplit { features, target: empty(target)? }, ports })
    }

    /// As many rows as a minibatch has.
    fn write(&mut self, split: &Split) -> Result<(), RuntimeError> {
        for (tensor, feature) in self.rows.features.iter_mut().zip(&split.features) {
            tensor.write(&array(feature))?;
        }
        self.rows.target.write(&target_array(&split.target))
    }

    fn refresh(&self, bindings: &mut Bindings) -> Result<(), RuntimeError> {
        for (role, port) in &self.ports {
            let tensor = match role {
                DataRole::Feature(position) => &self.rows.features[*position],
                _ => &self.rows.target,
            };
            bindings.refresh(&port.name, tensor)?;
        }
        Ok(())
    }
}

/// A trial's tensors for training steps.
pub(super) struct StepTensors {
    state_by_name: BTreeMap<String, Tensor>,
    /// Where each minibatch comes from the host.
    fed: Option<FedRows>,
    step: Bound,
    accumulation: Option<Bound>,
    /// Whether a step was broken off: the states are those of no step.
    is_torn: bool,
}

impl StepTensors {
    /// Without `data`, each minibatch is given as it is.
    pub fn bind(
        shape: &Shape,
        plan: &Plan,
        data: Option<&DeviceSplit>,
        begin: &States<'_>,
    ) -> Result<Self, TrainingError> {
        let Stage { program, compiled } = &shape.step;
        let mut states = BTreeMap::new();
        for (position, state) in program.states.iter().enumerate() {
            states.insert(state.input.name.clone(), begin.tensor(compiled, position, state)?);
        }
        let fed = if data.is_none() { Some(FedRows::new(program)?) } else { None };
        let data = data.or(fed.as_ref().map(|fed| &fed.rows)).expect("rows are on the device or fed");
        let step = Bound::new(&shape.step, shape, plan, data, &mut states)?;
        let accumulation = shape.accumulation.as_ref();
        let accumulation = accumulation.map(|stage| Bound::new(stage, shape, plan, data, &mut states)).transpose()?;
        Ok(Self { state_by_name: states, fed, step, accumulation, is_torn: false })
    }

    /// Has the runs of the graphs recorded. That computes them: the states are to be [`set`](Self::set) afterwards.
    pub fn record(&self, shape: &mut Shape) -> Result<(), RuntimeError> {
        let interrupt = Interrupt::new()?;
        shape.step.compiled.run(&self.step.bindings, &interrupt)?;
        match (&self.accumulation, &mut shape.accumulation) {
            (Some(bound), Some(stage)) => stage.compiled.run(&bound.bindings, &interrupt),
            _ => Ok(()),
        }
    }

    /// The same tensors for another trial of the shape, on the same data.
    pub fn set(&mut self, shape: &Shape, plan: &Plan, begin: &States<'_>) -> Result<(), RuntimeError> {
        for (position, state) in shape.step.program.states.iter().enumerate() {
            let tensor = self.state_by_name.get_mut(&state.input.name).expect("every state is bound");
            begin.write(tensor, position, state)?;
        }
        self.is_torn = false;
        let model = &shape.plan().model;
        self.accumulation.iter_mut().chain([&mut self.step]).try_for_each(|bound| bound.set(plan, model))
    }

    /// Trains on minibatches that follow `done` steps: no more than are handed over at once.
    ///
    /// # Errors
    /// The device failed or the interrupt was raised. Unless it was raised before, the states are lost.
    pub fn train(
        &mut self,
        shape: &mut Shape,
        minibatches: &[Minibatch<'_>],
        done: u64,
        interrupt: &Interrupt,
    ) -> Result<Vec<Measured>, RuntimeError> {
        if interrupt.is_raised() || self.is_torn {
            return Err(RuntimeError::Interrupted);
        }
        self.is_torn = true;
        let ahead = shape.plan().ahead as u64;
        // A graph counts the step that it is.
        let places = (done + 1..).map(|step| usize::try_from(step % ahead).expect("it is below what is handed over"));
        let each = || places.clone().zip(minibatches);
        for (place, minibatch) in each() {
            self.bound(minibatch.purpose).exchange.put(place, minibatch);
        }
        if let (Some(fed), Some(rows)) = (&mut self.fed, minibatches[0].rows) {
            fed.write(rows)?;
        }
        for bound in used(&mut self.accumulation, &mut self.step, minibatches) {
            bound.exchange.send(&mut bound.bindings)?;
            if let Some(fed) = &self.fed {
                fed.refresh(&mut bound.bindings)?;
            }
        }
        for (position, minibatch) in minibatches.iter().enumerate() {
            let bound = self.bound(minibatch.purpose);
            let compiled = shape.compiled(minibatch.purpose);
            // Two graphs do not wait for each other.
            let next = minibatches.get(position + 1);
            let goes_on = next.is_some_and(|next| next.purpose.adds() == minibatch.purpose.adds());
            let run = if goes_on { Compiled::enqueue } else { Compiled::run };
            if let Err(error) = run(compiled, &bound.bindings, interrupt) {
                // What was enqueued still writes to tensors that may be another trial's next.
                compiled.settle(&bound.bindings).ok();
                return Err(error);
            }
        }
        for bound in used(&mut self.accumulation, &mut self.step, minibatches) {
            bound.exchange.receive()?;
        }
        let measured =
            each().map(|(place, minibatch)| self.bound(minibatch.purpose).exchange.measured(place)).collect();
        self.is_torn = false;
        measured
    }

    fn bound(&mut self, purpose: Purpose) -> &mut Bound {
        match &mut self.accumulation {
            Some(accumulation) if purpose.adds() => accumulation,
            _ => &mut self.step,
        }
    }

    /// More was trained than is known of: the states are those of no step.
    pub fn tear(&mut self) {
        self.is_torn = true;
    }

    /// The states of the last finished step, in the order of the description.
    ///
    /// # Errors
    /// The device failed, or a step was broken off.
    pub fn read_states(&self, program: &Program) -> Result<Vec<Array>, RuntimeError> {
        if self.is_torn {
            return Err(RuntimeError::Interrupted);
        }
        program.states.iter().map(|state| self.state_by_name[&state.input.name].read()).collect()
    }
}

/// Those of the two graphs that train on one of the minibatches.
fn used<'a>(
    accumulation: &'a mut Option<Bound>,
    step: &'a mut Bound,
    minibatches: &[Minibatch<'_>],
) -> impl Iterator<Item = &'a mut Bound> {
    let [adds, updates] = [true, false].map(|adds| minibatches.iter().any(|each| each.purpose.adds() == adds));
    accumulation.iter_mut().filter(move |_| adds).chain(updates.then_some(step))
}

/// The answer is what counts each class, where the loss weighs them.
fn bind_data(
    stage: &Stage,
    bindings: &mut Bindings,
    data: &DeviceSplit,
    noise: &[Tensor],
    plan: &Plan,
) -> Result<Option<Tensor>, RuntimeError> {
    let (mut noise, mut class_weights) = (noise.iter(), None);
    for input in &stage.program.data {
        let name = &input.input.name;
        match input.role {
            DataRole::Feature(position) => bindings.input(name, &data.features[position])?,
            DataRole::Target => bindings.input(name, &data.target)?,
            DataRole::ClassWeights => {
                let weights = Array::F32(plan.class_weights().to_vec());
                let weights = stage.compiled.tensor(&input.input.shape, &weights)?;
                bindings.input(name, &weights)?;
                class_weights = Some(weights);
            }
            DataRole::Noise => {
                bindings.input(name, noise.next().expect("a shape has every noise pool of its step"))?;
            }
        }
    }
    Ok(class_weights)
}

/// A trial's tensors for evaluations; the states are those of its steps.
pub(super) struct EvaluationTensors {
    bindings: Bindings,
    ends: HostEnds,
    weight_name: String,
    weights: Tensor,
    /// What the model gives, where somebody measures it, and its numbers of one row.
    output: Option<(Tensor, usize)>,
    batch: usize,
}

impl EvaluationTensors {
    pub fn bind(shape: &Shape, plan: &Plan, trained: &StepTensors, data: &DeviceSplit) -> Result<Self, TrainingError> {
        let Stage { program, compiled } = &shape.evaluation;
        let weights = program.row_weights.as_ref().expect("every evaluation weighs its rows");
        let batch = weights.shape.iter().product();
        let mut bindings = compiled.bindings()?;
        for state in &program.states {
            bindings.input(&state.input.name, &trained.state_by_name[&state.input.name])?;
        }
        for scalar in &program.scalars {
            let number = Tensor::on_host(&[], &plan.scalar(scalar, &shape.plan().model))?;
            bindings.input(&scalar.input.name, &number)?;
        }
        bind_data(&shape.evaluation, &mut bindings, data, &[], plan)?;
        let mut ends = HostEnds::new(program)?;
        ends.bind(&mut bindings)?;
        let weight_name = weights.name.clone();
        let weights = Tensor::on_host(&weights.shape, &zeros(Dtype::F32, batch))?;
        bindings.input(&weight_name, &weights)?;
        let output = match &program.output {
            None => None,
            Some(port) => {
                let count = port.shape.iter().product();
                let mut tensor = Tensor::on_host(&port.shape, &zeros(Dtype::F32, count))?;
                bindings.output(&port.name, &mut tensor)?;
                Some((tensor, count / batch))
            }
        };
        Ok(Self { bindings, ends, weight_name, weights, output, batch })
    }

    /// Over all rows of the target; the scores see the outputs of each.
    pub fn evaluate(
        &mut self,
        stage: &mut Stage,
        target: &Target,
        scores: &mut Scores,
        interrupt: &Interrupt,
    ) -> Result<Summed, TrainingError> {
        let rows = target.rows();
        let mut summed = Summed::default();
        for first in (0..rows).step_by(self.batch) {
            self.batch(&mut stage.compiled, first, rows, interrupt)?;
            let read = |role| Ok::<_, RuntimeError>(self.ends.read(role)?.map(f64::from));
            summed.loss += read(ResultRole::Loss)?.unwrap_or(0.0);
            summed.weight += read(ResultRole::Weight)?.unwrap_or(0.0);
            summed.counted += read(ResultRole::Counted)?.unwrap_or(0.0);
            if let Some(correct) = read(ResultRole::Correct)? {
                summed.correct = Some(summed.correct.unwrap_or(0.0) + correct);
            }
            if let Some((output, width)) = &self.output {
                let Array::F32(numbers) = output.read()? else {
                    unreachable!("a model's outputs are of type f32");
                };
                let counted = self.batch.min(rows - first);
                scores.add(&numbers[..counted * width], target, first)?;
            }
        }
        Ok(summed)
    }

    /// The rows from `first` on; where they end, row zero fills up the batch with weight zero.
    fn batch(
        &mut self,
        compiled: &mut Compiled,
        first: usize,
        rows: usize,
        interrupt: &Interrupt,
    ) -> Result<(), RuntimeError> {
        let whole = first..first + self.batch;
        let row = |row: usize| if row < rows { i64::try_from(row).expect("a row fits in an i64") } else { 0 };
        let indices: Vec<i64> = whole.clone().map(row).collect();
        let weights = whole.map(|row| if row < rows { 1.0 } else { 0.0 }).collect();
        self.ends.write(&indices, &mut self.bindings)?;
        self.weights.write(&Array::F32(weights))?;
        self.bindings.refresh(&self.weight_name, &self.weights)?;
        compiled.run(&self.bindings, interrupt)
    }
}
