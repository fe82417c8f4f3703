//! Dropout by numbers that are a function of (seed, step, site).
//!
//! ONNX's own `Dropout` keeps its generator inside the kernel, where nobody can set or save it.

use super::noise::Noise;
use super::program::{Declared, ScalarRole};
use crate::graph::{Dtype, Graph, GraphError, Value};

/// The rate at which a site of a model file drops at its own one.
pub const OWN_RATES: f64 = -1.0;

/// Whether, and from what, dropout draws.
pub enum Dropout {
    Off,
    On(Sites),
}

/// The numbers that sites draw and what they share, declared when the first one asks for it.
pub struct Sites {
    noise: Noise,
    share: Option<Share>,
}

#[derive(Clone, Copy)]
struct Share {
    rate: Value,
    keep: Value,
}

impl Dropout {
    /// By the numbers that nothing else of the step has drawn.
    pub fn training(noise: Noise) -> Self {
        Self::On(Sites { noise, share: None })
    }

    /// `x` (rows x any shape) with each element dropped at the rate, and the rest scaled up to keep the mean. A site may
    /// have a rate of its `own`, which holds where the trial's is [`OWN_RATES`].
    ///
    /// # Errors
    /// `x` has no rows.
    pub fn apply(&mut self, graph: &mut Graph, x: Value, own: Option<f64>) -> Result<Value, GraphError> {
        match self {
            Self::Off => Ok(x),
            Self::On(sites) => sites.apply(graph, x, own),
        }
    }

    /// Adds the inputs that were used to the description.
    pub(crate) fn declare(&self, graph: &Graph, declared: &mut Declared) {
        let Self::On(sites) = self else { return };
        if let Some(share) = sites.share {
            declared.declared_scalar(ScalarRole::DropoutRate, share.rate);
        }
        sites.noise.declare(graph, declared);
    }
}

impl Sites {
    fn apply(&mut self, graph: &mut Graph, x: Value, own: Option<f64>) -> Result<Value, GraphError> {
        let shape = graph.shape(x).to_vec();
        let Some((&rows, rest)) = shape.split_first() else {
            return Err(GraphError::InvalidOperands { op: "dropout".into(), reason: graph.info(x).to_string() });
        };
        let share = self.share(graph)?;
        let keep = match own {
            None => share.keep,
            Some(own) => {
                let zero = graph.scalar_like(share.rate, 0.0);
                let has_own = graph.less(share.rate, zero)?;
                let own = graph.scalar_like(share.rate, 1.0 - own);
                graph.choose(has_own, own, share.keep)?
            }
        };
        let uniform = self.noise.uniform(graph, rows, rest.iter().product())?;
        let kept = graph.less(uniform, keep)?;
        let mask = graph.cast(kept, Dtype::F32)?;
        let factor = graph.div(mask, keep)?;
        let factor = graph.reshape(factor, &shape)?;
        let factor = graph.cast(factor, graph.dtype(x))?;
        graph.mul(x, factor)
    }

    fn share(&mut self, graph: &mut Graph) -> Result<Share, GraphError> {
        if let Some(share) = self.share {
            return Ok(share);
        }
        let rate = graph.reserved_input(ScalarRole::DropoutRate.input_name(), Dtype::F32, &[])?;
        let one = graph.scalar_like(rate, 1.0);
        let share = Share { rate, keep: graph.sub(one, rate)? };
        self.share = Some(share);
        Ok(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Provider;

    #[test]
    fn any_shape_is_dropped_from_pools_of_bounded_width() {
        let mut graph = Graph::new(Provider::Cpu);
        let step = graph.input("step", Dtype::I64, &[]).expect("a free name");
        let mut dropout = Dropout::training(Noise::new(step));
        let shapes: [&[usize]; 5] = [&[3], &[2, 7], &[2, 3, 5], &[2, 2, 3, 4096], &[2, 10_000]];
        for (at, shape) in shapes.into_iter().enumerate() {
            let x = graph.input(&format!("x{at}"), Dtype::F32, shape).expect("a free name");
            let dropped = dropout.apply(&mut graph, x, (at % 2 == 0).then_some(0.1)).expect("the shape fits");
            assert_eq!(graph.shape(dropped), shape);
        }
        let inputs: Vec<&str> = graph.inputs().iter().map(|input| graph.name(*input)).collect();
        let pools: Vec<&str> = inputs.iter().filter_map(|name| name.strip_prefix("regatta.noise_")).collect();
        assert_eq!(pools, ["1", "7", "15", "4096"]);
    }
}
