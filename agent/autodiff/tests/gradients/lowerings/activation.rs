//! Functions of each element.

use regatta_autodiff::graph::{Attribute, Dtype, Graph, Provider};
use regatta_autodiff::lower::lower;

use super::{check_lowered, node};
use crate::check::Draw::Signed;
use crate::evaluator::{Tensor, evaluate};

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

type Function = fn(f64) -> f64;
type Row<'a> = (&'a str, Vec<(&'a str, Attribute)>, Function);

#[test]
fn activations_are_their_definitions() {
    let alpha = |alpha: f64| vec![("alpha", Attribute::Float(alpha))];
    let shrink = vec![("lambd", Attribute::Float(0.3)), ("bias", Attribute::Float(0.2))];
    let rows: [Row<'_>; 8] = [
        ("Celu", vec![], |x| x.max(0.0) + (x.exp() - 1.0).min(0.0)),
        ("Celu", alpha(0.7), |x| x.max(0.0) + (0.7 * ((x / 0.7).exp() - 1.0)).min(0.0)),
        ("HardSwish", vec![], |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        ("Mish", vec![], |x| x * (1.0 + x.exp()).ln().tanh()),
        ("Shrink", vec![], |x| if x.abs() > 0.5 { x } else { 0.0 }),
        ("Shrink", shrink, |x| if x.abs() > 0.3 { x - 0.2 * x.signum() } else { 0.0 }),
        ("Swish", vec![], |x| x * sigmoid(x)),
        ("Swish", alpha(1.7), |x| x * sigmoid(1.7 * x)),
    ];
    for (op, attributes, function) in rows {
        let formula =
            |x: &[Tensor]| Tensor::floats(&x[0].shape, x[0].as_floats().iter().copied().map(function).collect());
        check_lowered(op, &[(&[4, 5], Signed)], &attributes, &formula);
    }
}

#[test]
fn mean_of_broadcast_operands() {
    let formula = |x: &[Tensor]| {
        let (a, b, c) = (x[0].as_floats(), x[1].as_floats(), x[2].as_floats());
        Tensor::floats(&[2, 3], (0..6).map(|at| (a[at] + b[at % 3] + c[0]) / 3.0).collect())
    };
    check_lowered("Mean", &[(&[2, 3], Signed), (&[3], Signed), (&[], Signed)], &[], &formula);
}

#[test]
fn functions_without_a_cuda_kernel_are_lowered_there_only() {
    let rows: [(&str, Function); 3] = [("Tan", f64::tan), ("Sinh", f64::sinh), ("Cosh", f64::cosh)];
    for (op, function) in rows {
        let mut graph = Graph::new(Provider::Cuda);
        let x = graph.input("x", Dtype::F64, &[3]).unwrap();
        let y = lower(&mut graph, &node(op, &[Some(x)], &[])).unwrap().unwrap()[0].unwrap();
        graph.output(y);
        let point = Tensor::floats(&[3], vec![-1.2, 0.1, 0.9]);
        let found = evaluate(&graph, &[("x".to_owned(), point.clone())].into())[graph.name(y)].clone();
        for (x, y) in point.as_floats().iter().zip(found.as_floats()) {
            assert!((function(*x) - y).abs() < 1e-12, "{op} of {x}: {y}");
        }

        let mut graph = Graph::new(Provider::Cpu);
        let x = graph.input("x", Dtype::F64, &[3]).unwrap();
        assert_eq!(lower(&mut graph, &node(op, &[Some(x)], &[])), Ok(None));
    }
}
