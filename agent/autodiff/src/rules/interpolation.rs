//! Linear maps along one axis, as products with a constant matrix: exact, fast and the same on every provider.

use crate::graph::{Constant, Elements, Graph, GraphError, Transposed, Value};

/// A matrix of constants, row by row.
pub(super) struct Matrix {
    rows: usize,
    columns: usize,
    elements: Vec<f64>,
}

impl Matrix {
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self { rows, columns, elements: vec![0.0; rows * columns] }
    }

    pub fn add(&mut self, row: usize, column: usize, number: f64) {
        self.elements[row * self.columns + column] += number;
    }
}

/// The matrix times the vectors along an axis, whose length becomes the number of the matrix's rows.
pub(super) fn along_axis(graph: &mut Graph, value: Value, axis: usize, matrix: &Matrix) -> Result<Value, GraphError> {
    let mut shape = graph.shape(value).to_vec();
    let (outer, inner): (usize, usize) = (shape[..axis].iter().product(), shape[axis + 1..].iter().product());
    let constant = Constant {
        dtype: graph.dtype(value),
        shape: vec![matrix.rows, matrix.columns],
        elements: Elements::Float(matrix.elements.clone()),
    };
    let constant = graph.constant(constant);
    let product = if inner == 1 {
        let rows = graph.reshape(value, &[outer, matrix.columns])?;
        graph.gemm(rows, constant, Transposed { left: false, right: true })?
    } else {
        let blocks = graph.reshape(value, &[outer, matrix.columns, inner])?;
        graph.matmul(constant, blocks)?
    };
    shape[axis] = matrix.rows;
    graph.reshape(product, &shape)
}
