//! Eigenvalues and eigenvectors of a small symmetric matrix (Jacobi's method; Golub and Van Loan, "Matrix Computations",
//! section 8.5).

/// Rows.
pub type Matrix = Vec<Vec<f64>>;

/// Sweeps after which it is left as it is; some eight are enough for any matrix of this size.
const SWEEPS_MAX: usize = 50;

/// The eigenvalues, and in the columns of the matrix their eigenvectors, of length 1.
pub fn eigen(mut matrix: Matrix) -> (Vec<f64>, Matrix) {
    let size = matrix.len();
    let mut vectors = identity(size);
    let norm: f64 = matrix.iter().flatten().map(|entry| entry * entry).sum();
    for _ in 0..SWEEPS_MAX {
        let off: f64 = (0..size).flat_map(|p| (0..p).map(move |q| (p, q))).map(|(p, q)| matrix[p][q].powi(2)).sum();
        if off <= 1e-28 * norm {
            break;
        }
        for p in 0..size {
            for q in p + 1..size {
                rotate(&mut matrix, &mut vectors, p, q);
            }
        }
    }
    ((0..size).map(|p| matrix[p][p]).collect(), vectors)
}

pub fn identity(size: usize) -> Matrix {
    (0..size).map(|row| (0..size).map(|column| f64::from(u8::from(row == column))).collect()).collect()
}

/// Turns the plane of two axes so that their entry becomes 0.
fn rotate(matrix: &mut Matrix, vectors: &mut Matrix, p: usize, q: usize) {
    if matrix[p][q] == 0.0 {
        return;
    }
    let theta = (matrix[q][q] - matrix[p][p]) / (2.0 * matrix[p][q]);
    let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = tangent * cosine;
    let turned = |a: f64, b: f64| (cosine * a - sine * b, sine * a + cosine * b);
    for row in matrix.iter_mut().chain(vectors.iter_mut()) {
        (row[p], row[q]) = turned(row[p], row[q]);
    }
    let (before, from) = matrix.split_at_mut(q);
    for (a, b) in before[p].iter_mut().zip(&mut from[0]) {
        (*a, *b) = turned(*a, *b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_put_together_again_from_its_parts() {
        let matrix = vec![
            vec![4.0, 1.0, -2.0, 0.5],
            vec![1.0, 3.0, 0.0, 1e-3],
            vec![-2.0, 0.0, 7.0, 2.0],
            vec![0.5, 1e-3, 2.0, 1.0],
        ];
        let (values, vectors) = eigen(matrix.clone());
        for row in 0..4 {
            for column in 0..4 {
                let entry: f64 = (0..4).map(|n| vectors[row][n] * values[n] * vectors[column][n]).sum();
                let product: f64 = (0..4).map(|n| vectors[n][row] * vectors[n][column]).sum();
                assert!((entry - matrix[row][column]).abs() < 1e-12);
                assert!((product - f64::from(u8::from(row == column))).abs() < 1e-12);
            }
        }
    }
}
