//! Attention, against a loop over batches, heads, queries and keys.

use regatta_autodiff::graph::{Attribute, Constant, Dtype, Elements, Graph, Provider, Value};

use super::{is_refused, lowered};
use crate::check::{Draw::Signed, check_output, check_with};
use crate::evaluator::Tensor;

const BATCH: usize = 2;
const QUERIES: usize = 3;
const KEYS: usize = 4;
const WIDTH: usize = 2;

#[derive(Clone, Copy)]
struct Plan {
    heads: usize,
    key_heads: usize,
    is_flat: bool,
    is_causal: bool,
    softcap: f64,
    scale: Option<f64>,
}

const PLAIN: Plan = Plan { heads: 2, key_heads: 2, is_flat: false, is_causal: false, softcap: 0.0, scale: None };

impl Plan {
    fn shape(&self, heads: usize, length: usize) -> Vec<usize> {
        if self.is_flat { vec![BATCH, length, heads * WIDTH] } else { vec![BATCH, heads, length, WIDTH] }
    }

    fn at(&self, tensor: &Tensor, heads: usize, length: usize, (b, h, at, w): (usize, usize, usize, usize)) -> f64 {
        let position = match self.is_flat {
            true => ((b * length + at) * heads + h) * WIDTH + w,
            false => ((b * heads + h) * length + at) * WIDTH + w,
        };
        tensor.as_floats()[position]
    }

    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        let number = |number: usize| Attribute::Int(number as i64);
        let mut attributes =
            vec![("is_causal", Attribute::Int(i64::from(self.is_causal))), ("softcap", Attribute::Float(self.softcap))];
        attributes.extend(self.scale.map(|scale| ("scale", Attribute::Float(scale))));
        if self.is_flat {
            attributes.extend([("q_num_heads", number(self.heads)), ("kv_num_heads", number(self.key_heads))]);
        }
        attributes
    }

    /// `masked` says what a score becomes before the softmax.
    fn by_definition(&self, x: &[Tensor], masked: &dyn Fn(usize, usize, f64) -> f64) -> Tensor {
        let scale = self.scale.unwrap_or(1.0 / (WIDTH as f64).sqrt());
        let mut y = Tensor::floats(&self.shape(self.heads, QUERIES), vec![0.0; BATCH * self.heads * QUERIES * WIDTH]);
        let mut numbers = y.as_floats().to_vec();
        for (b, h, q) in (0..BATCH * self.heads * QUERIES)
            .map(|at| (at / QUERIES / self.heads, at / QUERIES % self.heads, at % QUERIES))
        {
            let kv = h / (self.heads / self.key_heads);
            let score = |k: usize| {
                let dot = (0..WIDTH).map(|w| {
                    self.at(&x[0], self.heads, QUERIES, (b, h, q, w))
                        * self.at(&x[1], self.key_heads, KEYS, (b, kv, k, w))
                });
                let mut score = scale * dot.sum::<f64>();
                if self.softcap != 0.0 {
                    score = self.softcap * (score / self.softcap).tanh();
                }
                let is_future = self.is_causal && k > q;
                if is_future { f64::NEG_INFINITY } else { masked(q, k, score) }
            };
            let weights: Vec<f64> = (0..KEYS).map(|k| score(k).exp()).collect();
            let total: f64 = weights.iter().sum();
            for w in 0..WIDTH {
                let mixed = (0..KEYS).map(|k| weights[k] * self.at(&x[2], self.key_heads, KEYS, (b, kv, k, w)));
                let position = match self.is_flat {
                    true => ((b * QUERIES + q) * self.heads + h) * WIDTH + w,
                    false => ((b * self.heads + h) * QUERIES + q) * WIDTH + w,
                };
                numbers[position] = mixed.sum::<f64>() / total;
            }
        }
        y.elements = Elements::Float(numbers);
        y
    }

    fn check(&self, mask: &dyn Fn(&mut Graph, Dtype) -> Option<Value>, masked: &dyn Fn(usize, usize, f64) -> f64) {
        let (query, key) = (self.shape(self.heads, QUERIES), self.shape(self.key_heads, KEYS));
        let inputs = [(query.as_slice(), Signed), (key.as_slice(), Signed), (key.as_slice(), Signed)];
        let build = |g: &mut Graph, x: &[Value]| {
            let dtype = g.dtype(x[0]);
            let mask = mask(g, dtype);
            lowered(g, "Attention", &[Some(x[0]), Some(x[1]), Some(x[2]), mask], &self.attributes(), 0)
        };
        check_output("Attention", &inputs, &build, &|x| self.by_definition(x, masked));
        check_with("Attention", &inputs, &build);
    }
}

#[test]
fn attention_with_shared_heads_scale_cap_and_causality() {
    let plans = [
        PLAIN,
        Plan { is_flat: true, ..PLAIN },
        Plan { heads: 4, ..PLAIN },
        Plan { heads: 4, key_heads: 1, is_flat: true, ..PLAIN },
        Plan { is_causal: true, ..PLAIN },
        Plan { is_causal: true, is_flat: true, heads: 4, softcap: 0.8, scale: Some(0.3), ..PLAIN },
        Plan { softcap: 1.5, ..PLAIN },
        Plan { scale: Some(1.3), ..PLAIN },
    ];
    for plan in plans {
        plan.check(&|_, _| None, &|_, _, score| score);
    }
}

#[test]
fn masks_of_truth_values_and_of_addends() {
    let is_kept = |q: usize, k: usize| !(q + k).is_multiple_of(3);
    let kept: Vec<i64> = (0..QUERIES * KEYS).map(|at| i64::from(is_kept(at / KEYS, at % KEYS))).collect();
    let truth = |g: &mut Graph, _: Dtype| {
        let shape = vec![QUERIES, KEYS];
        Some(g.constant(Constant { dtype: Dtype::Bool, shape, elements: Elements::Int(kept.clone()) }))
    };
    PLAIN.check(&truth, &|q, k, score| if is_kept(q, k) { score } else { f64::NEG_INFINITY });

    let addend = |q: usize, k: usize| 0.3 * q as f64 - 0.2 * k as f64;
    let addends = |g: &mut Graph, dtype: Dtype| {
        let numbers = (0..QUERIES * KEYS).map(|at| addend(at / KEYS, at % KEYS)).collect();
        let shape = vec![1, 1, QUERIES, KEYS];
        Some(g.constant(Constant { dtype, shape, elements: Elements::Float(numbers) }))
    };
    PLAIN.check(&addends, &|q, k, score| score + addend(q, k));
}

#[test]
fn caches_and_misfits_are_refused() {
    let mut graph = Graph::new(Provider::Cpu);
    let x = graph.input("x", Dtype::F32, &[2, 3, 4, 2]).ok();
    let flat = graph.input("flat", Dtype::F32, &[2, 3, 5]).ok();
    let heads = [("q_num_heads", Attribute::Int(2)), ("kv_num_heads", Attribute::Int(2))];
    assert!(is_refused(&mut graph, "Attention", &[x, x, x, None, x, x], &[]));
    assert!(is_refused(&mut graph, "Attention", &[flat, flat, flat], &heads));
    assert!(is_refused(&mut graph, "Attention", &[flat, flat, flat], &[]));
    assert!(is_refused(&mut graph, "Attention", &[x, flat, x], &[]));
    assert!(is_refused(&mut graph, "Attention", &[x, x, x, flat], &[]));
}
