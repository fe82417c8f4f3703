//! The Cholesky factor of a covariance matrix, grown row by row, and what is solved with it.
//!
//! Sums run in a fixed order, so that the same numbers give the same results.

/// How many right-hand sides are solved for at once.
pub const LANES: usize = 8;

/// The least that a pivot may be; below it, the row says nothing that earlier ones do not.
const PIVOT_MIN: f64 = 1e-12;

/// The lower triangle L of a matrix L L', its rows one after the other.
#[derive(Debug, Clone, Default)]
pub struct Factor {
    rows: Vec<f64>,
    len: usize,
}

impl Factor {
    /// Adds a row and a column to the matrix: its covariances with the rows so far, then its own variance.
    pub fn push(&mut self, covariances: &[f64]) {
        debug_assert_eq!(covariances.len(), self.len + 1);
        let start = self.rows.len();
        self.rows.extend_from_slice(covariances);
        let (above, new) = self.rows.split_at_mut(start);
        for column in 0..self.len {
            let row = row_of(above, column);
            new[column] = (new[column] - dot(&new[..column], &row[..column])) / row[column];
        }
        let pivot = new[self.len] - dot(&new[..self.len], &new[..self.len]);
        new[self.len] = pivot.max(PIVOT_MIN).sqrt();
        self.len += 1;
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn row(&self, row: usize) -> &[f64] {
        row_of(&self.rows, row)
    }

    pub fn log_determinant(&self) -> f64 {
        (0..self.len).map(|row| 2.0 * self.row(row)[row].ln()).sum()
    }

    /// L^-1 b, for the rows that b has.
    pub fn solve_lower(&self, b: &[f64]) -> Vec<f64> {
        let mut solution = Vec::with_capacity(b.len());
        for (place, value) in b.iter().enumerate() {
            let row = self.row(place);
            solution.push((value - dot(&row[..place], &solution)) / row[place]);
        }
        solution
    }

    /// L'^-1 b, for the rows that b has.
    pub fn solve_upper(&self, mut b: Vec<f64>) -> Vec<f64> {
        for place in (0..b.len()).rev() {
            let row = self.row(place);
            b[place] /= row[place];
            let value = b[place];
            for (left, factor) in b[..place].iter_mut().zip(row) {
                *left -= value * factor;
            }
        }
        b
    }

    /// L^-1 B in the place of B, which has a row for each of the matrix's.
    pub fn solve_lower_lanes(&self, b: &mut [[f64; LANES]]) {
        for place in 0..b.len() {
            let row = self.row(place);
            let (done, rest) = b.split_at_mut(place);
            let mut sums = rest[0];
            for (factor, solved) in row.iter().zip(done.iter()) {
                for (sum, value) in sums.iter_mut().zip(solved) {
                    *sum -= factor * value;
                }
            }
            rest[0] = sums.map(|sum| sum / row[place]);
        }
    }

    /// The inverse of the matrix, row by row, as far as the diagonal.
    pub fn inverse(&self) -> Vec<Vec<f64>> {
        let columns: Vec<Vec<f64>> = (0..self.len).map(|column| self.column_of_inverse(column)).collect();
        let entry = |row: usize, column: usize| dot(&columns[row], &columns[column][row - column..]);
        (0..self.len).map(|row| (0..=row).map(|column| entry(row, column)).collect()).collect()
    }

    /// A column of L^-1, from the diagonal down.
    fn column_of_inverse(&self, column: usize) -> Vec<f64> {
        let mut entries = vec![1.0 / self.row(column)[column]];
        for place in column + 1..self.len {
            let row = self.row(place);
            entries.push(-dot(&row[column..place], &entries) / row[place]);
        }
        entries
    }
}

fn row_of(rows: &[f64], row: usize) -> &[f64] {
    let start = row * (row + 1) / 2;
    &rows[start..=start + row]
}

/// In four sums, so that it need not wait for each addition.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    let len = a.len().min(b.len());
    let (a, b) = (a[..len].chunks_exact(4), b[..len].chunks_exact(4));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    let mut sums = [0.0; 4];
    for (a, b) in a.zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    fn matrix(len: usize) -> Vec<Vec<f64>> {
        let mut stream = Stream::new(Purpose { study_seed: 1, name: "a matrix", index: 0, redraw: 0 });
        let a: Vec<Vec<f64>> = (0..len).map(|_| (0..len).map(|_| stream.normal()).collect()).collect();
        let entry = |i: usize, j: usize| dot(&a[i], &a[j]) + if i == j { 1.0 } else { 0.0 };
        (0..len).map(|i| (0..len).map(|j| entry(i, j)).collect()).collect()
    }

    fn factor(matrix: &[Vec<f64>]) -> Factor {
        let mut factor = Factor::default();
        for (place, row) in matrix.iter().enumerate() {
            factor.push(&row[..=place]);
        }
        factor
    }

    #[test]
    fn a_factor_solves_inverts_and_multiplies_out_to_its_matrix() {
        let matrix = matrix(13);
        let factor = factor(&matrix);
        let b: Vec<f64> = (0..13).map(f64::from).collect();
        let solution = factor.solve_upper(factor.solve_lower(&b));
        let inverse = factor.inverse();
        let mut lanes: Vec<[f64; LANES]> = b.iter().map(|value| [*value; LANES]).collect();
        factor.solve_lower_lanes(&mut lanes);
        for i in 0..13 {
            assert!((dot(&matrix[i], &solution) - b[i]).abs() < 1e-9);
            assert!((lanes[i][LANES - 1] - factor.solve_lower(&b)[i]).abs() < 1e-12);
            for j in 0..=i {
                assert!((dot(&factor.row(i)[..=j], factor.row(j)) - matrix[i][j]).abs() < 1e-9);
                let column: Vec<f64> = (0..13).map(|k| inverse[k.max(j)][k.min(j)]).collect();
                let identity = if i == j { 1.0 } else { 0.0 };
                assert!((dot(&matrix[i], &column) - identity).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn a_row_that_repeats_another_leaves_the_factor_finite() {
        let mut factor = Factor::default();
        factor.push(&[1.0]);
        factor.push(&[1.0, 1.0]);
        assert!(factor.solve_lower(&[1.0, 2.0]).iter().all(|value| value.is_finite()));
    }
}
