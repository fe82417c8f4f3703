//! Random numbers that are a function of (seed, step, site): repeatable, resumable, the same on every device.
//!
//! ONNX's own random operators keep their generator inside the kernel, where nobody can set or save it. Here a pool of
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

/// Where the numbers of one step are drawn. Each draw is a site of its own; its inputs are declared when the first
/// site asks for them.
pub struct Noise {
    step: Value,
    keys: Option<Keys>,
    pool_by_width: BTreeMap<usize, Value>,
    sites: i64,
}

#[derive(Clone, Copy)]
struct Keys {
    seed: Value,
    /// Seed and step as residues.
    seed_residue: Value,
    step_residue: Value,
}

impl Noise {
    /// Of the step that a scalar of type i64 counts.
    pub fn new(step: Value) -> Self {
        Self { step, keys: None, pool_by_width: BTreeMap::new(), sites: 0 }
    }

    /// Uniform numbers in `0 .. 1` for the next site: rows x width, of type f32.
    ///
    /// # Errors
    /// The graph has inputs of the same names.
    pub fn uniform(&mut self, graph: &mut Graph, rows: usize, width: usize) -> Result<Value, GraphError> {
        let pool_width = width.clamp(1, NOISE_WIDTH_MAX);
        let pool = match self.pool_by_width.get(&pool_width) {
            Some(&pool) => pool,
            None => graph.reserved_input(&format!("noise_{pool_width}"), Dtype::F32, &[NOISE_ROWS, pool_width])?,
        };
        self.pool_by_width.insert(pool_width, pool);
        let pool_rows_a_row = width.div_ceil(pool_width);
        let picks = self.below(graph, NOISE_ROWS, rows * pool_rows_a_row)?;
        let uniform = graph.gather(pool, picks)?;
        let drawn = pool_rows_a_row * pool_width;
        let uniform = graph.reshape(uniform, &[rows, drawn])?;
        if drawn == width {
            return Ok(uniform);
        }
        let lengths = graph.int_vector(vec![int(width), int(drawn - width)]);
        Ok(graph.nodes_of("Split", &[Some(uniform), Some(lengths)], 2, &[("axis", Attribute::Int(1))])?[0])
    }

    /// Standard normal numbers for the next two sites: rows x width, of type f32 (Box and Muller, 1958).
    ///
    /// # Errors
    /// The graph has inputs of the same names.
    pub fn normal(&mut self, graph: &mut Graph, rows: usize, width: usize) -> Result<Value, GraphError> {
        let radius = self.uniform(graph, rows, width)?;
        let angle = self.uniform(graph, rows, width)?;
        // One minus a number in `0 .. 1` has a logarithm.
        let opposite = graph.neg(radius)?;
        let positive = graph.shift(opposite, 1.0)?;
        let logarithm = graph.log(positive)?;
        let square = graph.scale(logarithm, -2.0)?;
        let radius = graph.sqrt(square)?;
        let angle = graph.scale(angle, 2.0 * std::f64::consts::PI)?;
        let cosine = graph.cos(angle)?;
        graph.mul(radius, cosine)
    }

    /// Whole numbers in `0 .. bound` for the next site: `count` of them, of type i64.
    ///
    /// # Errors
    /// The graph has inputs of the same names.
    pub fn below(&mut self, graph: &mut Graph, bound: usize, count: usize) -> Result<Value, GraphError> {
        let keys = self.keys(graph)?;
        let residues = hashed(graph, keys, self.sites, count)?;
        self.sites += 1;
        let bound = graph.int_scalar(int(bound));
        graph.modulo(residues, bound)
    }

    /// Adds the inputs that were used to the description.
    pub(crate) fn declare(&self, graph: &Graph, declared: &mut Declared) {
        if let Some(keys) = self.keys {
            declared.declared_scalar(ScalarRole::DropoutSeed, keys.seed);
        }
        for (&width, &pool) in &self.pool_by_width {
            debug_assert_eq!(graph.shape(pool), [NOISE_ROWS, width]);
            declared.declared_data(DataRole::Noise, pool);
        }
    }

    fn keys(&mut self, graph: &mut Graph) -> Result<Keys, GraphError> {
        if let Some(keys) = self.keys {
            return Ok(keys);
        }
        let seed = graph.reserved_input(ScalarRole::DropoutSeed.input_name(), Dtype::I64, &[])?;
        let keys = Keys { seed, seed_residue: residue(graph, seed)?, step_residue: residue(graph, self.step)? };
        self.keys = Some(keys);
        Ok(keys)
    }
}

/// A residue for each of `count` rows: two rounds of squaring, keyed by seed, step and site.
fn hashed(graph: &mut Graph, keys: Keys, site: i64, count: usize) -> Result<Value, GraphError> {
    let site_key = mixed(graph, keys.seed_residue, 48_271, site * 7_919 + 12_345)?;
    let step_key = mixed(graph, keys.step_residue, 16_807, 0)?;
    let spread = mixed(graph, site_key, 69_621, 0)?;
    let sum = graph.add(spread, step_key)?;
    let first_key = residue(graph, sum)?;
    let offset = graph.int_scalar(1_013_904_223);
    let second_key = squared_plus(graph, first_key, offset)?;

    let positions = (1..=int(count)).map(|row| row * 1_103_515_245 % MODULUS);
    let positions = graph.int_vector(positions.collect());
    let keyed = graph.add(positions, first_key)?;
    let start = residue(graph, keyed)?;
    let once = squared_plus(graph, start, second_key)?;
    squared_plus(graph, once, first_key)
}

fn int(size: usize) -> i64 {
    i64::try_from(size).expect("a tensor's size fits in an i64")
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
