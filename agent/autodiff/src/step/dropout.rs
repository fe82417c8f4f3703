//! Dropout that is a function of (seed, step, site): repeatable, resumable, the same on every device.
//!
//! ONNX's own `Dropout` keeps its generator inside the kernel, where nobody can set or save it. Here a pool of
//! uniform noise is an input, and each row of a batch picks a row of the pool by a hash of integers.

use std::collections::BTreeMap;

use super::program::{DataRole, Declared, ScalarRole};
use crate::graph::{Attribute, Dtype, Graph, GraphError, Value};

/// Rows of a noise pool.
pub const NOISE_ROWS: usize = 4096;

/// The widest pool: 64 MiB of noise. What is wider takes several rows.
const NOISE_WIDTH_MAX: usize = 4096;

/// The modulus of the hash, a Mersenne prime: products of two residues stay below 2^62.
const MODULUS: i64 = (1 << 31) - 1;

/// Whether, and from what, dropout draws.
pub(crate) enum Dropout {
    Off,
    On(Pools),
}

/// The inputs of dropout, declared when the first site asks for them.
pub(crate) struct Pools {
    step: Value,
    shared: Option<Shared>,
    pool_by_width: BTreeMap<usize, Value>,
    sites: i64,
}

#[derive(Clone, Copy)]
struct Shared {
    rate: Value,
    seed: Value,
    keep: Value,
    /// Seed and step as residues.
    seed_residue: Value,
    step_residue: Value,
}

impl Dropout {
    pub fn training(step: Value) -> Self {
        Self::On(Pools { step, shared: None, pool_by_width: BTreeMap::new(), sites: 0 })
    }

    /// `x` (rows x any shape) with each element dropped at the rate, and the rest scaled up to keep the mean.
    pub fn apply(&mut self, graph: &mut Graph, x: Value) -> Result<Value, GraphError> {
        match self {
            Self::Off => Ok(x),
            Self::On(pools) => pools.apply(graph, x),
        }
    }

    /// Adds the inputs that were used to the description.
    pub fn declare(&self, graph: &Graph, declared: &mut Declared) {
        let Self::On(pools) = self else { return };
        if let Some(shared) = pools.shared {
            declared.declared_scalar(ScalarRole::DropoutRate, shared.rate);
            declared.declared_scalar(ScalarRole::DropoutSeed, shared.seed);
        }
        for (&width, &pool) in &pools.pool_by_width {
            debug_assert_eq!(graph.shape(pool), [NOISE_ROWS, width]);
            declared.declared_data(DataRole::Noise, pool);
        }
    }
}

impl Pools {
    fn apply(&mut self, graph: &mut Graph, x: Value) -> Result<Value, GraphError> {
        let shape = graph.shape(x).to_vec();
        let Some((&rows, rest)) = shape.split_first() else {
            return Err(GraphError::InvalidOperands { op: "dropout".into(), reason: graph.info(x).to_string() });
        };
        let shared = self.shared(graph)?;
        let uniform = self.uniform(graph, shared, rows, rest.iter().product())?;
        let kept = graph.less(uniform, shared.keep)?;
        let mask = graph.cast(kept, Dtype::F32)?;
        let factor = graph.div(mask, shared.keep)?;
        let factor = graph.reshape(factor, &shape)?;
        let factor = graph.cast(factor, graph.dtype(x))?;
        graph.mul(x, factor)
    }

    /// Uniform numbers for the next site: rows x width.
    fn uniform(&mut self, graph: &mut Graph, shared: Shared, rows: usize, width: usize) -> Result<Value, GraphError> {
        let pool_width = width.clamp(1, NOISE_WIDTH_MAX);
        let pool = match self.pool_by_width.get(&pool_width) {
            Some(&pool) => pool,
            None => graph.reserved_input(&format!("noise_{pool_width}"), Dtype::F32, &[NOISE_ROWS, pool_width])?,
        };
        self.pool_by_width.insert(pool_width, pool);
        let pool_rows_a_row = width.div_ceil(pool_width);
        let picks = hashed_rows(graph, shared, self.sites, rows * pool_rows_a_row)?;
        self.sites += 1;
        let uniform = graph.gather(pool, picks)?;
        let drawn = pool_rows_a_row * pool_width;
        let uniform = graph.reshape(uniform, &[rows, drawn])?;
        if drawn == width {
            return Ok(uniform);
        }
        let size = |size: usize| i64::try_from(size).expect("a tensor's size fits in an i64");
        let lengths = graph.int_vector(vec![size(width), size(drawn - width)]);
        Ok(graph.nodes_of("Split", &[Some(uniform), Some(lengths)], 2, &[("axis", Attribute::Int(1))])?[0])
    }

    fn shared(&mut self, graph: &mut Graph) -> Result<Shared, GraphError> {
        if let Some(shared) = self.shared {
            return Ok(shared);
        }
        let rate = graph.reserved_input(ScalarRole::DropoutRate.input_name(), Dtype::F32, &[])?;
        let seed = graph.reserved_input(ScalarRole::DropoutSeed.input_name(), Dtype::I64, &[])?;
        let one = graph.scalar_like(rate, 1.0);
        let shared = Shared {
            rate,
            seed,
            keep: graph.sub(one, rate)?,
            seed_residue: residue(graph, seed)?,
            step_residue: residue(graph, self.step)?,
        };
        self.shared = Some(shared);
        Ok(shared)
    }
}

/// A row of the pool for each row of the batch: two rounds of squaring, keyed by seed, step and site.
fn hashed_rows(graph: &mut Graph, shared: Shared, site: i64, rows: usize) -> Result<Value, GraphError> {
    let site_key = mixed(graph, shared.seed_residue, 48_271, site * 7_919 + 12_345)?;
    let step_key = mixed(graph, shared.step_residue, 16_807, 0)?;
    let spread = mixed(graph, site_key, 69_621, 0)?;
    let sum = graph.add(spread, step_key)?;
    let first_key = residue(graph, sum)?;
    let offset = graph.int_scalar(1_013_904_223);
    let second_key = squared_plus(graph, first_key, offset)?;

    let positions =
        (1..=i64::try_from(rows).expect("a batch's size fits in an i64")).map(|row| row * 1_103_515_245 % MODULUS);
    let positions = graph.int_vector(positions.collect());
    let keyed = graph.add(positions, first_key)?;
    let start = residue(graph, keyed)?;
    let once = squared_plus(graph, start, second_key)?;
    let twice = squared_plus(graph, once, first_key)?;
    let pool_rows = graph.int_scalar(i64::try_from(NOISE_ROWS).expect("a small constant"));
    graph.modulo(twice, pool_rows)
}

/// `value * factor + offset`, as a residue.
fn mixed(graph: &mut Graph, value: Value, factor: i64, offset: i64) -> Result<Value, GraphError> {
    let factor = graph.int_scalar(factor);
    let product = graph.mul(value, factor)?;
    let offset = graph.int_scalar(offset);
    let sum = graph.add(product, offset)?;
    residue(graph, sum)
}

/// `value^2 + addend`, as a residue.
fn squared_plus(graph: &mut Graph, value: Value, addend: Value) -> Result<Value, GraphError> {
    let square = graph.mul(value, value)?;
    let sum = graph.add(square, addend)?;
    residue(graph, sum)
}

fn residue(graph: &mut Graph, value: Value) -> Result<Value, GraphError> {
    let modulus = graph.int_scalar(MODULUS);
    graph.modulo(value, modulus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Provider;

    #[test]
    fn any_shape_is_dropped_from_pools_of_bounded_width() {
        let mut graph = Graph::new(Provider::Cpu);
        let step = graph.input("step", Dtype::I64, &[]).expect("a free name");
        let mut dropout = Dropout::training(step);
        let shapes: [&[usize]; 5] = [&[3], &[2, 7], &[2, 3, 5], &[2, 2, 3, 4096], &[2, 10_000]];
        for (at, shape) in shapes.into_iter().enumerate() {
            let x = graph.input(&format!("x{at}"), Dtype::F32, shape).expect("a free name");
            let dropped = dropout.apply(&mut graph, x).expect("the shape fits");
            assert_eq!(graph.shape(dropped), shape);
        }
        let Dropout::On(pools) = dropout else { panic!("it drops") };
        assert_eq!(pools.pool_by_width.keys().copied().collect::<Vec<_>>(), [1, 7, 15, 4096]);
    }
}
