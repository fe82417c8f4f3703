//! A model's graph by itself: outputs, and gradients that belong to PyTorch's own gradient at the output.

use std::collections::BTreeMap;
use std::sync::Arc;

use regatta_agent::model::imported;
use regatta_agent::runtime::{Array, Compiled, Device, Interrupt, Runtime};
use regatta_autodiff::backward::{Backward, backward};
use regatta_autodiff::families::{Initial, Mode, Model};
use regatta_autodiff::graph::{Dtype, Provider};
use regatta_autodiff::import::Settings;
use regatta_autodiff::step::Port as Input;

use super::library::{device, library};
use super::numbers::{File, Golden};
use super::trained::Trained;

pub struct Trial {
    backward: Backward,
    compiled: Compiled,
    /// Parameters and running statistics.
    weights: BTreeMap<String, Vec<f64>>,
}

/// What graphs are written for, and what runs them.
pub struct On {
    pub runtime: Runtime,
    pub provider: Provider,
    pub own_operators: bool,
}

impl On {
    /// ONNX Runtime, as the set-up of this repository fetched it, with operators of ours as agents have them.
    pub fn device() -> Self {
        let runtime = Runtime::load(&library(), device(), 1).expect("ONNX Runtime loads");
        let provider = if runtime.device() == Device::Cpu { Provider::Cpu } else { Provider::Cuda };
        let own_operators = runtime.has_own_operators();
        Self { runtime, provider, own_operators }
    }
}

pub fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Trial {
    pub fn new(golden: &Golden, file: &File, mode: Mode, on: &On) -> Result<Self, String> {
        let On { runtime, provider, own_operators } = on;
        let rows: Vec<Vec<usize>> = golden.inputs.iter().map(|input| input.shape[1..].to_vec()).collect();
        let batch = golden.inputs[0].shape[0];
        let model = imported(runtime, &file.bytes(), &Settings::default(), &rows, &[batch]).map_err(text)?;
        let backward =
            backward(&Model::Imported(Arc::new(model)), mode, batch, (*provider, *own_operators)).map_err(text)?;
        let compiled = runtime.compile(&backward.graph.encode()).map_err(text)?;
        let mut weights = BTreeMap::new();
        for (parameter, _) in &backward.parameters {
            weights.insert(parameter.name.clone(), given(&parameter.initial));
        }
        for statistic in &backward.statistics {
            weights.insert(statistic.input.name.clone(), given(&statistic.initial));
        }
        Ok(Self { backward, compiled, weights })
    }

    pub fn nodes(&self) -> usize {
        self.backward.graph.live_nodes().len()
    }

    /// Parameters and running statistics that training has led to.
    pub fn take(&mut self, trained: &Trained) -> Result<(), String> {
        for (name, numbers) in &mut self.weights {
            *numbers = trained.numbers(name)?;
        }
        Ok(())
    }

    pub fn statistics(&self) -> impl Iterator<Item = (&str, &[f64])> {
        let names = self.backward.statistics.iter().map(|statistic| statistic.input.name.as_str());
        names.map(|name| (name, self.weights[name].as_slice()))
    }

    /// Of the first batch.
    pub fn output(&mut self, golden: &Golden) -> Result<Vec<f64>, String> {
        let zeros = vec![0.0; self.backward.cotangent.shape.iter().product()];
        let output = self.backward.output.name.clone();
        Ok(self.run(golden, &zeros, &[output])?.remove(0))
    }

    /// The gradient that the loss of the first batch has at every parameter that trains.
    pub fn gradients(&mut self, golden: &Golden) -> Result<BTreeMap<String, Vec<f64>>, String> {
        let cotangent = golden.numbers("cotangent");
        let trained = self.backward.parameters.iter();
        let trained: Vec<_> =
            trained.filter_map(|(parameter, to)| Some((parameter.name.clone(), to.clone()?))).collect();
        let wanted: Vec<String> = trained.iter().map(|(_, output)| output.clone()).collect();
        let found = self.run(golden, &cotangent, &wanted)?;
        Ok(trained.into_iter().map(|(name, _)| name).zip(found).collect())
    }

    fn run(&mut self, golden: &Golden, cotangent: &[f64], wanted: &[String]) -> Result<Vec<Vec<f64>>, String> {
        let mut bindings = self.compiled.bindings().map_err(text)?;
        let mut bind = |input: &Input, numbers: &[f64]| {
            let tensor = self.compiled.tensor(&input.shape, &array(input.dtype, numbers)).map_err(text)?;
            bindings.input(&input.name, &tensor).map_err(text)
        };
        for (input, port) in self.backward.features.iter().zip(&golden.inputs) {
            bind(input, &golden.batch(port, "input."))?;
        }
        for (parameter, _) in &self.backward.parameters {
            let (name, shape) = (parameter.name.clone(), parameter.shape.clone());
            bind(&Input { name, dtype: Dtype::F32, shape }, &self.weights[&parameter.name])?;
        }
        for statistic in &self.backward.statistics {
            bind(&statistic.input, &self.weights[&statistic.input.name])?;
        }
        bind(&self.backward.cotangent, cotangent)?;
        let graph = &self.backward.graph;
        let mut tensors = Vec::new();
        for &value in graph.outputs() {
            let info = graph.info(value);
            let zeros = array(info.dtype, &vec![0.0; info.shape.iter().product()]);
            let mut tensor = self.compiled.tensor(&info.shape, &zeros).map_err(text)?;
            bindings.output(&info.name, &mut tensor).map_err(text)?;
            tensors.push((info.name.clone(), tensor));
        }
        self.compiled.run(&bindings, &Interrupt::new().map_err(text)?).map_err(text)?;
        wanted
            .iter()
            .map(|name| {
                let tensor = tensors.iter().find(|(known, _)| known == name).map(|(_, tensor)| tensor);
                let array = tensor.ok_or_else(|| format!("no output {name}"))?.read().map_err(text)?;
                let Array::F32(numbers) = array else { return Err(format!("{name} is no float")) };
                Ok(numbers.into_iter().map(f64::from).collect())
            })
            .collect()
    }
}

fn given(initial: &Initial) -> Vec<f64> {
    let Initial::Given(numbers) = initial else { panic!("the weights of a file are given") };
    numbers.iter().map(|&number| f64::from(number)).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "tensors on the device are single precision or small integers")]
pub fn array(dtype: Dtype, numbers: &[f64]) -> Array {
    match dtype {
        Dtype::I64 => Array::I64(numbers.iter().map(|&number| number as i64).collect()),
        Dtype::F32 => Array::F32(numbers.iter().map(|&number| number as f32).collect()),
        other => panic!("{other:?}"),
    }
}
