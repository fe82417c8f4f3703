//! Loops over numbers that training on a CPU spends its time in.
//!
//! A crate of its own because it is compiled with every optimisation even where the rest is not. It knows slices only:
//! no graph, no runtime, no thread.

/// One step of AdamW with its moments held before their corrections, which are in `rate` and `epsilon`.
#[derive(Debug, Clone, Copy)]
pub struct AdamW {
    pub beta1: f32,
    pub beta2: f32,
    pub rate: f32,
    pub epsilon: f32,
    /// What the weights are multiplied with.
    pub shrink: f32,
}

impl AdamW {
    /// `m' = m beta1 + g`, `v' = v beta2 + g g`, `w' = w shrink - m' / (sqrt(v') + epsilon) rate`, each operation
    /// rounded by itself. The slices are equally long; of longer ones the ends stay as they are.
    pub fn update(self, weights: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32]) {
        for (((w, m), v), &g) in weights.iter_mut().zip(first).zip(second).zip(gradient) {
            *m = *m * self.beta1 + g;
            *v = *v * self.beta2 + g * g;
            *w = *w * self.shrink - *m / (v.sqrt() + self.epsilon) * self.rate;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_what_its_formula_says_in_double_precision() {
        let adamw = AdamW { beta1: 0.9, beta2: 0.999, rate: 0.01, epsilon: 1e-8, shrink: 0.99 };
        let numbers = |seed: usize| (0..37).map(|at| ((at * 17 + seed * 5) % 31) as f32 / 10.0 - 1.5).collect();
        let (old_w, old_m, g): (Vec<f32>, Vec<f32>, Vec<f32>) = (numbers(1), numbers(2), numbers(3));
        let old_v: Vec<f32> = g.iter().map(|g| g * g + 0.1).collect();
        let (mut w, mut m, mut v) = (old_w.clone(), old_m.clone(), old_v.clone());

        adamw.update(&mut w, &mut m, &mut v, &g);

        for at in 0..g.len() {
            let expected_m = f64::from(old_m[at]) * 0.9 + f64::from(g[at]);
            let expected_v = f64::from(old_v[at]) * 0.999 + f64::from(g[at]).powi(2);
            let expected_w = f64::from(old_w[at]) * 0.99 - 0.01 * expected_m / (expected_v.sqrt() + 1e-8);
            for (found, expected) in [(m[at], expected_m), (v[at], expected_v), (w[at], expected_w)] {
                assert!((f64::from(found) - expected).abs() < 1e-6, "{at}: {found} against {expected}");
            }
        }
    }
}
