//! What a graph that trains takes from the host for each minibatch, and what it gives back.
//!
//! Where one minibatch is handed over at a time, that crosses with each run. Where there are several, it crosses once for
//! all of them, and stays on the device between.

use regatta_autodiff::graph::Dtype;
use regatta_autodiff::step::{Port, Program, ResultRole, ScalarRole};

use super::engine::zeros;
use super::plan::numbers_array;
use super::tensors::{Measured, Minibatch};
use crate::runtime::{Bindings, Compiled, RuntimeError, Tensor};

/// The host's ends of a graph that trains.
pub(super) struct Exchange {
    /// Rows of a minibatch.
    batch: usize,
    indices: Edge,
    /// Of every minibatch.
    rows: Vec<i64>,
    varying: Vec<Varying>,
    results: Vec<Edge>,
    /// Which of the results it is.
    result_by_role: Vec<(ResultRole, usize)>,
}

/// A number that may differ from minibatch to minibatch.
struct Varying {
    role: ScalarRole,
    dtype: Dtype,
    edge: Edge,
    numbers: Vec<f64>,
    /// Whether it was written to since it crossed last.
    is_new: bool,
}

/// A tensor at the edge of a graph.
struct Edge {
    /// Of the input or the output.
    name: String,
    host: Tensor,
    /// What is bound, unless it is the host's.
    device: Option<Tensor>,
}

impl Exchange {
    pub fn new(program: &Program, compiled: &Compiled, bindings: &mut Bindings) -> Result<Self, RuntimeError> {
        let shape = &program.indices.shape;
        let stays = shape.len() > 1;
        let indices = Edge::of(&program.indices, stays, compiled)?;
        bindings.input(&indices.name, indices.bound())?;
        let mut varying = Vec::new();
        for scalar in program.scalars.iter().filter(|scalar| scalar.role.varies()) {
            let edge = Edge::of(&scalar.input, stays, compiled)?;
            bindings.input(&edge.name, edge.bound())?;
            let numbers = vec![0.0; scalar.input.shape.iter().product()];
            varying.push(Varying { role: scalar.role, dtype: scalar.input.dtype, edge, numbers, is_new: true });
        }
        let (mut results, mut result_by_role): (Vec<Edge>, _) = (Vec::new(), Vec::new());
        for output in &program.results {
            let known = results.iter().position(|edge| edge.name == output.name);
            result_by_role.push((output.role, known.unwrap_or(results.len())));
            if known.is_some() {
                continue;
            }
            let shape = output.others.as_ref().map_or_else(Vec::new, |others| others.shape.clone());
            let port = Port { name: output.name.clone(), dtype: Dtype::F32, shape };
            let mut edge = Edge::of(&port, stays, compiled)?;
            if let Some(others) = &output.others {
                bindings.input(&others.name, edge.bound())?;
            }
            bindings.output(&output.name, edge.bound_mut())?;
            results.push(edge);
        }
        let rows = vec![0; shape.iter().product()];
        Ok(Self { batch: shape.last().copied().unwrap_or(1), indices, rows, varying, results, result_by_role })
    }

    /// What the minibatch at a place takes.
    pub fn put(&mut self, place: usize, minibatch: &Minibatch<'_>) {
        self.rows[place * self.batch..][..self.batch].copy_from_slice(minibatch.indices);
        for varying in &mut self.varying {
            let number = minibatch.number(varying.role);
            varying.is_new |= varying.numbers[place].to_bits() != number.to_bits();
            varying.numbers[place] = number;
        }
    }

    /// Everything that was put, to where the graph reads it.
    pub fn send(&mut self, bindings: &mut Bindings) -> Result<(), RuntimeError> {
        self.indices.host.write_i64(&self.rows)?;
        self.indices.send(bindings)?;
        for varying in self.varying.iter_mut().filter(|varying| varying.is_new) {
            varying.edge.host.write(&numbers_array(varying.dtype, &varying.numbers))?;
            varying.edge.send(bindings)?;
            varying.is_new = false;
        }
        Ok(())
    }

    /// Results come from where the graph wrote them.
    pub fn receive(&mut self) -> Result<(), RuntimeError> {
        for Edge { host, device, .. } in &mut self.results {
            if let Some(device) = device {
                device.copy_to(host)?;
            }
        }
        Ok(())
    }

    /// What the minibatch at a place measured.
    pub fn measured(&self, place: usize) -> Result<Measured, RuntimeError> {
        let read = |wanted| {
            let found = self.result_by_role.iter().find(|(role, _)| *role == wanted);
            found.map(|(_, position)| self.results[*position].host.read_f32_at(place)).transpose()
        };
        Ok(Measured {
            loss: read(ResultRole::Loss)?.expect("every graph that trains measures its loss"),
            correct: read(ResultRole::Correct)?,
            counted: read(ResultRole::Counted)?,
        })
    }
}

impl Edge {
    /// Zeros. What `stays` is on the device, where that is not the host.
    fn of(port: &Port, stays: bool, compiled: &Compiled) -> Result<Self, RuntimeError> {
        let zeros = zeros(port.dtype, port.shape.iter().product());
        let host = Tensor::on_host(&port.shape, &zeros)?;
        let device = (stays && !compiled.is_on_host()).then(|| compiled.tensor(&port.shape, &zeros)).transpose()?;
        Ok(Self { name: port.name.clone(), host, device })
    }

    fn bound(&self) -> &Tensor {
        self.device.as_ref().unwrap_or(&self.host)
    }

    fn bound_mut(&mut self) -> &mut Tensor {
        self.device.as_mut().unwrap_or(&mut self.host)
    }

    /// What was written to the host's tensor, to where the graph reads it.
    fn send(&mut self, bindings: &mut Bindings) -> Result<(), RuntimeError> {
        match &mut self.device {
            Some(device) => self.host.copy_to(device),
            None => bindings.refresh(&self.name, &self.host),
        }
    }
}
