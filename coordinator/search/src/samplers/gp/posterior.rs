//! What the model expects of configurations that were not measured, given those that were and those that are on their
//! way.
//!
//! A pending configuration is taken to measure a deviation more than is expected of it: a kriging believer
//! (Ginsbourger et al., 2010) that fears the worse, since one that believes in the mean itself sends all lanes to the
//! same place. Where the model is sure that changes next to nothing; where it is not, others are sent elsewhere.

use super::cholesky::{Factor, LANES};
use super::fit::Evidence;
use super::kernel::{Geometry, Hyper, Kernel, Scaled, Site};

/// By how many deviations a pending configuration is taken to be worse than expected.
const FEAR: f64 = 1.0;

#[derive(Debug)]
pub struct Posterior {
    kernel: Kernel,
    noise: f64,
    /// The measured, then the pending.
    sites: Vec<Scaled>,
    factor: Factor,
    /// The losses, in the factor's terms; of pending sites, those that are feared.
    whitened: Vec<f64>,
    best: f64,
}

/// What is expected of a configuration's loss without noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    pub mean: f64,
    pub variance: f64,
}

impl Posterior {
    pub fn new(geometry: &Geometry, hyper: &Hyper, evidence: &Evidence, pending: &[Site]) -> Self {
        let mut posterior = Self {
            kernel: Kernel::new(geometry, hyper),
            noise: hyper.noise.exp(),
            sites: Vec::with_capacity(evidence.sites.len() + pending.len()),
            factor: Factor::default(),
            whitened: Vec::new(),
            best: f64::INFINITY,
        };
        for (site, doubt) in evidence.sites.iter().zip(&evidence.doubts) {
            posterior.push(site, *doubt);
        }
        posterior.whitened = posterior.factor.solve_lower(&evidence.losses);
        let weights = posterior.factor.solve_upper(posterior.whitened.clone());
        let sure = evidence.losses.iter().zip(&evidence.doubts).zip(&weights);
        let measured = sure.map(|((loss, doubt), weight)| loss - (posterior.noise + doubt) * weight);
        posterior.best = measured.fold(f64::INFINITY, f64::min);
        for site in pending {
            posterior.push(site, 0.0);
            let row = posterior.factor.len() - 1;
            let pivot = posterior.factor.row(row)[row];
            let deviation = (pivot * pivot - posterior.noise).max(0.0).sqrt();
            posterior.whitened.push(FEAR * deviation / pivot);
        }
        posterior
    }

    fn push(&mut self, site: &Site, doubt: f64) {
        let site = self.kernel.scaled(site);
        let mut covariances: Vec<f64> = self.sites.iter().map(|other| self.kernel.covariance(other, &site)).collect();
        covariances.push(self.kernel.variance() + self.noise + doubt);
        self.factor.push(&covariances);
        self.sites.push(site);
    }

    /// The least that is expected of any configuration that was measured.
    pub fn best(&self) -> f64 {
        self.best
    }

    pub fn expect(&self, sites: &[Site]) -> Vec<Expected> {
        sites.chunks(LANES).flat_map(|chunk| self.expect_lanes(chunk).into_iter().take(chunk.len())).collect()
    }

    fn expect_lanes(&self, chunk: &[Site]) -> [Expected; LANES] {
        let scaled: Vec<Scaled> = chunk.iter().map(|site| self.kernel.scaled(site)).collect();
        let mut solved = vec![[0.0; LANES]; self.factor.len()];
        for (row, site) in solved.iter_mut().zip(&self.sites) {
            for (entry, other) in row.iter_mut().zip(&scaled) {
                *entry = self.kernel.covariance(site, other);
            }
        }
        self.factor.solve_lower_lanes(&mut solved);
        let mut expected = [Expected { mean: 0.0, variance: self.kernel.variance() }; LANES];
        for (row, entries) in solved.iter().enumerate() {
            let loss = self.whitened.get(row).copied().unwrap_or(0.0);
            for (expected, entry) in expected.iter_mut().zip(entries) {
                expected.mean += loss * entry;
                expected.variance -= entry * entry;
            }
        }
        expected
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernel::matern;
    use super::*;
    use crate::space::{Coordinate, Space};
    use serde_json::json;

    fn line() -> Geometry {
        let space = json!({"x": {"type": "float", "low": 0.0, "high": 1.0}});
        Geometry::new(&Space::new(&serde_json::from_value(space).unwrap()))
    }

    fn sites(geometry: &Geometry, numbers: &[f64]) -> Vec<Site> {
        numbers.iter().map(|number| geometry.site(&[Some(Coordinate::Number(*number))])).collect()
    }

    fn evidence(geometry: &Geometry) -> Evidence {
        let sites = sites(geometry, &[0.0, 0.4, 1.0]);
        Evidence { sites, losses: vec![1.0, -0.5, 0.7], doubts: vec![0.0, 0.2, 0.0] }
    }

    fn hyper() -> Hyper {
        Hyper { lengths: vec![0.5_f64.ln()], effects: Vec::new(), signal: 2.0_f64.ln(), noise: 0.1_f64.ln() }
    }

    /// Cramer's rule.
    fn solve_three(m: [[f64; 3]; 3], b: [f64; 3]) -> [f64; 3] {
        let determinant = |m: [[f64; 3]; 3]| {
            m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
                + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
        };
        std::array::from_fn(|column| {
            let mut with = m;
            for row in 0..3 {
                with[row][column] = b[row];
            }
            determinant(with) / determinant(m)
        })
    }

    #[test]
    fn three_points_give_what_they_give_by_hand() {
        let geometry = line();
        let k = |a: f64, b: f64| 2.0 * matern((a - b) * (a - b) / 0.25);
        let (x, y, at) = ([0.0, 0.4, 1.0], [1.0, -0.5, 0.7], 0.6);
        let own = [0.1, 0.3, 0.1];
        let matrix =
            std::array::from_fn(|i| std::array::from_fn(|j| k(x[i], x[j]) + if i == j { own[i] } else { 0.0 }));
        let covariances = x.map(|x| k(x, at));
        let mean: f64 = solve_three(matrix, y).iter().zip(&covariances).map(|(a, b)| a * b).sum();
        let explained: f64 = solve_three(matrix, covariances).iter().zip(&covariances).map(|(a, b)| a * b).sum();
        let posterior = Posterior::new(&geometry, &hyper(), &evidence(&geometry), &[]);
        let found = posterior.expect(&sites(&geometry, &[at]))[0];
        assert!((found.mean - mean).abs() < 1e-12, "{found:?} {mean}");
        assert!((found.variance - (2.0 - explained)).abs() < 1e-12, "{found:?} {explained}");
        let least = posterior.expect(&sites(&geometry, &x)).iter().map(|at| at.mean).fold(f64::INFINITY, f64::min);
        assert!((posterior.best() - least).abs() < 1e-12);
    }

    #[test]
    fn pending_configurations_count_as_measured_a_deviation_worse_than_expected() {
        let geometry = line();
        let (pending, asked) = (sites(&geometry, &[0.7]), sites(&geometry, &[0.7, 0.2]));
        let of = |pending| Posterior::new(&geometry, &hyper(), &evidence(&geometry), pending);
        let (before, after) = (of(&[]).expect(&asked), of(&pending).expect(&asked));
        assert!(after[0].mean > before[0].mean);
        assert!(after[0].variance < 0.5 * before[0].variance);

        let mut believed = evidence(&geometry);
        believed.sites.extend(pending.clone());
        believed.losses.push(before[0].mean + before[0].variance.sqrt());
        believed.doubts.push(0.0);
        let believer = Posterior::new(&geometry, &hyper(), &believed, &[]);
        for (believed, after) in believer.expect(&asked).iter().zip(&after) {
            assert!((believed.mean - after.mean).abs() < 1e-12 && (believed.variance - after.variance).abs() < 1e-12);
        }
        assert_eq!(of(&[]).best(), of(&pending).best());
    }

    #[test]
    fn what_a_choice_adds_is_expected_far_from_where_it_was_made() {
        let space = json!({
            "c": {"type": "categorical", "choices": ["less", "more", "most"]},
            "u": {"type": "float", "low": 0.0, "high": 1.0},
        });
        let geometry = Geometry::new(&Space::new(&serde_json::from_value(space).unwrap()));
        let site = |c: usize, u: f64| geometry.site(&[Some(Coordinate::Choice(c)), Some(Coordinate::Number(u))]);
        let mut evidence = Evidence::default();
        for at in 0..18 {
            let (c, u) = (at % 3, 0.02 * at as f64);
            evidence.sites.push(site(c, u));
            evidence.losses.push(1.2 * (c as f64 - 1.0) + 0.4 * (20.0 * u).sin());
            evidence.doubts.push(0.0);
        }
        let hyper = Hyper::prior(&geometry).fitted(&geometry, &evidence, 60);
        let expected = Posterior::new(&geometry, &hyper, &evidence, &[]).expect(&[0, 1, 2].map(|c| site(c, 0.9)));
        assert!(expected.windows(2).all(|pair| pair[0].mean + 0.8 < pair[1].mean), "{expected:?}");
    }
}
