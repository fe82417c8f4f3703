//! Whether a device does what training needs, found out by having it done.

use regatta_autodiff::graph::{Dtype, Graph, GraphError, Provider, Value};

use super::{Array, Interrupt, Runtime, RuntimeError};

impl Runtime {
    /// Multiplies two matrices: the driver, CUDA's libraries and the code in ONNX Runtime fit together.
    ///
    /// # Errors
    /// The device cannot be used, with what is missing.
    pub fn check(&self) -> Result<(), RuntimeError> {
        self.compute("MatMul", [8, 8])
    }

    /// Convolves: with CUDA that takes cuDNN, which models without convolutions do without.
    ///
    /// # Errors
    /// The device cannot be used for that, with what is missing.
    pub fn check_convolutions(&self) -> Result<(), RuntimeError> {
        self.compute("Conv", [1, 1, 1, 1])
    }

    /// Applies an operator to one tensor twice, which gives a third of the same shape.
    fn compute<const RANK: usize>(&self, operator: &str, shape: [usize; RANK]) -> Result<(), RuntimeError> {
        let (graph, output) = square(operator, &shape).expect("the operands of a check fit its operator");
        let ones = Array::F32(vec![1.0; shape.iter().product()]);
        let compute = || {
            let mut compiled = self.compile(&graph.encode())?;
            let mut bindings = compiled.bindings()?;
            bindings.input(INPUT, &compiled.tensor(&shape, &ones)?)?;
            bindings.output(graph.name(output), &mut compiled.tensor(&shape, &ones)?)?;
            compiled.run(&bindings, &Interrupt::new()?)
        };
        compute().map_err(|error| match error {
            RuntimeError::Graph { reason } | RuntimeError::Failed { reason } => self.unavailable(&reason),
            other => other,
        })
    }
}

const INPUT: &str = "x";

fn square(operator: &str, shape: &[usize]) -> Result<(Graph, Value), GraphError> {
    let mut graph = Graph::new(Provider::default());
    let x = graph.input(INPUT, Dtype::F32, shape)?;
    let output = graph.custom(("", operator), &[x, x], &[(Dtype::F32, shape.to_vec())])?[0];
    graph.output(output);
    Ok((graph, output))
}
