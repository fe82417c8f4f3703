//! Runs a graph in double precision, slowly and plainly: the oracle of this crate's tests.
//! Floats are f64 whatever their declared type; truth values are integers.

use std::collections::BTreeMap;

use regatta_autodiff::graph::{Elements, Graph, Node, Value};

#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub elements: Elements,
}

impl Tensor {
    pub fn floats(shape: &[usize], floats: Vec<f64>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), floats.len());
        Self { shape: shape.to_vec(), elements: Elements::Float(floats) }
    }

    pub fn ints(shape: &[usize], ints: Vec<i64>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), ints.len());
        Self { shape: shape.to_vec(), elements: Elements::Int(ints) }
    }

    pub fn as_floats(&self) -> &[f64] {
        match &self.elements {
            Elements::Float(floats) => floats,
            Elements::Int(_) => panic!("integers where floats belong"),
        }
    }

    pub fn as_ints(&self) -> &[i64] {
        match &self.elements {
            Elements::Int(ints) => ints,
            Elements::Float(_) => panic!("floats where integers belong"),
        }
    }

    fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The values of all outputs of the graph, by name.
pub fn evaluate(graph: &Graph, input_by_name: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let mut known: BTreeMap<Value, Tensor> = BTreeMap::new();
    for &input in graph.inputs() {
        if let Some(tensor) = input_by_name.get(graph.name(input)) {
            assert_eq!(tensor.shape, graph.shape(input), "shape of input {}", graph.name(input));
            known.insert(input, tensor.clone());
        }
    }
    for node in graph.live_nodes() {
        let operands: Vec<Option<Tensor>> =
            node.inputs.iter().map(|value| value.map(|value| operand(graph, &known, value))).collect();
        for (value, output) in node.outputs.iter().zip(apply(node, &operands)) {
            assert_eq!(output.shape, graph.shape(*value), "inferred shape of {}", graph.name(*value));
            known.insert(*value, output);
        }
    }
    graph.outputs().iter().map(|output| (graph.name(*output).to_owned(), known[output].clone())).collect()
}

fn operand(graph: &Graph, known: &BTreeMap<Value, Tensor>, value: Value) -> Tensor {
    match graph.constant_of(value) {
        Some(constant) => Tensor { shape: constant.shape.clone(), elements: constant.elements.clone() },
        None => known.get(&value).unwrap_or_else(|| panic!("no value for {}", graph.name(value))).clone(),
    }
}

fn apply(node: &Node, operands: &[Option<Tensor>]) -> Vec<Tensor> {
    let x: Vec<Tensor> = operands.iter().flatten().cloned().collect();
    let x = x.as_slice();
    let output = match node.op.as_str() {
        "Identity" => x[0].clone(),
        "Neg" => unary(&x[0], |a| -a),
        "Exp" => unary(&x[0], f64::exp),
        "Log" => unary(&x[0], f64::ln),
        "Sqrt" => unary(&x[0], f64::sqrt),
        "Erf" => unary(&x[0], erf),
        "Relu" => unary(&x[0], |a| a.max(0.0)),
        "Tanh" => unary(&x[0], f64::tanh),
        "Sigmoid" => unary(&x[0], |a| 1.0 / (1.0 + (-a).exp())),
        "Gelu" => unary(&x[0], |a| 0.5 * a * (1.0 + erf(a / 2f64.sqrt()))),
        "Add" => binary(&x[0], &x[1], |a, b| a + b, |a, b| a + b),
        "Sub" => binary(&x[0], &x[1], |a, b| a - b, |a, b| a - b),
        "Mul" => binary(&x[0], &x[1], |a, b| a * b, |a, b| a * b),
        "Div" => binary(&x[0], &x[1], |a, b| a / b, |a, b| a / b),
        "Min" => binary(&x[0], &x[1], f64::min, i64::min),
        "Mod" => binary(&x[0], &x[1], f64::rem_euclid, i64::rem_euclid),
        "Pow" => binary(&as_float(&x[0]), &as_float(&x[1]), f64::powf, |_, _| unreachable!()),
        "Less" => compare(&x[0], &x[1], |a, b| a < b, |a, b| a < b),
        "Greater" => compare(&x[0], &x[1], |a, b| a > b, |a, b| a > b),
        "Equal" => compare(&x[0], &x[1], |a, b| a == b, |a, b| a == b),
        "Cast" => cast(&x[0], node.int("to", 0)),
        "Gemm" => gemm(node, x),
        "MatMul" => matmul(&x[0], &x[1]),
        "ReduceSum" => reduce(node, x, false),
        "ReduceMean" => reduce(node, x, true),
        "Softmax" => softmax(&x[0], node.int("axis", -1), false),
        "LogSoftmax" => softmax(&x[0], node.int("axis", -1), true),
        "ArgMax" => arg_max_last(&x[0]),
        "Reshape" => reshape(&x[0], x[1].as_ints()),
        "Expand" => expand(&x[0], x[1].as_ints()),
        "Transpose" => transpose(node, &x[0]),
        "Gather" => gather(&x[0], &x[1]),
        "ScatterND" => scatter_add(&x[0], &x[1], &x[2]),
        "OneHot" => one_hot(&x[0], x[1].as_ints()[0], x[2].as_floats()),
        op => panic!("the evaluator does not know {op}"),
    };
    vec![output]
}

fn unary(x: &Tensor, function: impl Fn(f64) -> f64) -> Tensor {
    Tensor::floats(&x.shape, x.as_floats().iter().map(|&a| function(a)).collect())
}

fn as_float(x: &Tensor) -> Tensor {
    match &x.elements {
        Elements::Float(_) => x.clone(),
        Elements::Int(ints) => Tensor::floats(&x.shape, ints.iter().map(|&n| n as f64).collect()),
    }
}

/// ONNX's numbers 1 and 11 are f32 and f64.
fn cast(x: &Tensor, to: i64) -> Tensor {
    match (&x.elements, to) {
        (_, 1 | 11) => as_float(x),
        (Elements::Float(floats), _) => Tensor::ints(&x.shape, floats.iter().map(|a| *a as i64).collect()),
        (Elements::Int(_), _) => x.clone(),
    }
}

fn binary(x: &Tensor, y: &Tensor, floats: impl Fn(f64, f64) -> f64, ints: impl Fn(i64, i64) -> i64) -> Tensor {
    let shape = broadcast(&x.shape, &y.shape);
    let pairs = (0..shape.iter().product()).map(|at| (source(at, &shape, &x.shape), source(at, &shape, &y.shape)));
    match (&x.elements, &y.elements) {
        (Elements::Float(a), Elements::Float(b)) => {
            Tensor::floats(&shape, pairs.map(|(i, j)| floats(a[i], b[j])).collect())
        }
        (Elements::Int(a), Elements::Int(b)) => Tensor::ints(&shape, pairs.map(|(i, j)| ints(a[i], b[j])).collect()),
        _ => panic!("operands of different types"),
    }
}

fn compare(x: &Tensor, y: &Tensor, floats: impl Fn(f64, f64) -> bool, ints: impl Fn(i64, i64) -> bool) -> Tensor {
    let number = |truth: bool| if truth { 1.0 } else { 0.0 };
    let result = binary(x, y, |a, b| number(floats(a, b)), |a, b| i64::from(ints(a, b)));
    cast(&result, 9)
}

fn broadcast(left: &[usize], right: &[usize]) -> Vec<usize> {
    regatta_autodiff::graph::broadcast_shapes(left, right).expect("operands that broadcast")
}

/// Where the element at a flat position of a broadcast shape comes from.
fn source(position: usize, shape: &[usize], from: &[usize]) -> usize {
    let (mut rest, mut stride, mut index) = (position, 1, 0);
    for axis in (0..shape.len()).rev() {
        let coordinate = rest % shape[axis];
        rest /= shape[axis];
        let missing = shape.len() - from.len();
        if axis >= missing {
            let size = from[axis - missing];
            index += if size == 1 { 0 } else { coordinate * stride };
            stride *= size;
        }
    }
    index
}

fn coordinates(position: usize, shape: &[usize]) -> Vec<usize> {
    let mut rest = position;
    let mut result = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        result[axis] = rest % shape[axis];
        rest /= shape[axis];
    }
    result
}

fn position(coordinates: &[usize], shape: &[usize]) -> usize {
    coordinates.iter().zip(shape).fold(0, |at, (coordinate, size)| at * size + coordinate)
}

fn gemm(node: &Node, x: &[Tensor]) -> Tensor {
    let oriented = |tensor: &Tensor, flag: &str| {
        if node.int(flag, 0) == 0 { tensor.clone() } else { permuted(tensor, &[1, 0]) }
    };
    let product = matmul(&oriented(&x[0], "transA"), &oriented(&x[1], "transB"));
    let scaled = unary(&product, |a| a * node.float("alpha", 1.0));
    match x.get(2) {
        Some(addend) => binary(&scaled, addend, |a, b| a + node.float("beta", 1.0) * b, |_, _| unreachable!()),
        None => scaled,
    }
}

fn matmul(x: &Tensor, y: &Tensor) -> Tensor {
    let left = if x.shape.len() == 1 { [&[1], x.shape.as_slice()].concat() } else { x.shape.clone() };
    let right = if y.shape.len() == 1 { [y.shape.as_slice(), &[1]].concat() } else { y.shape.clone() };
    let (left_batch, right_batch) = (&left[..left.len() - 2], &right[..right.len() - 2]);
    let (rows, inner, columns) = (left[left.len() - 2], left[left.len() - 1], right[right.len() - 1]);
    let batch = broadcast(left_batch, right_batch);
    let (a, b) = (x.as_floats(), y.as_floats());
    let mut output = Vec::new();
    for at in 0..batch.iter().product() {
        let a = &a[source(at, &batch, left_batch) * rows * inner..];
        let b = &b[source(at, &batch, right_batch) * inner * columns..];
        for row in 0..rows {
            for column in 0..columns {
                output.push((0..inner).map(|k| a[row * inner + k] * b[k * columns + column]).sum());
            }
        }
    }
    let mut shape = batch;
    shape.extend((x.shape.len() > 1).then_some(rows));
    shape.extend((y.shape.len() > 1).then_some(columns));
    Tensor::floats(&shape, output)
}

fn axis_of(axis: i64, rank: usize) -> usize {
    regatta_autodiff::graph::axis_position(axis, rank).expect("an axis of the tensor")
}

fn reduce(node: &Node, x: &[Tensor], mean: bool) -> Tensor {
    let rank = x[0].shape.len();
    let mut axes: Vec<usize> = match x.get(1) {
        Some(axes) => axes.as_ints().iter().map(|&axis| axis_of(axis, rank)).collect(),
        None => vec![],
    };
    if axes.is_empty() && node.int("noop_with_empty_axes", 0) == 0 {
        axes = (0..rank).collect();
    }
    let kept: Vec<usize> = (0..rank).map(|axis| if axes.contains(&axis) { 1 } else { x[0].shape[axis] }).collect();
    let mut sums = vec![0.0; kept.iter().product()];
    for (at, number) in x[0].as_floats().iter().enumerate() {
        sums[source(at, &x[0].shape, &kept)] += number;
    }
    if mean {
        let share = sums.len() as f64 / x[0].len() as f64;
        sums.iter_mut().for_each(|sum| *sum *= share);
    }
    let dropped = (0..rank).filter(|axis| node.int("keepdims", 1) != 0 || !axes.contains(axis));
    let shape: Vec<usize> = dropped.map(|axis| kept[axis]).collect();
    Tensor::floats(&shape, sums)
}

fn softmax(x: &Tensor, axis: i64, log: bool) -> Tensor {
    let mut kept = x.shape.clone();
    kept[axis_of(axis, x.shape.len())] = 1;
    let mut sums = vec![0.0; kept.iter().product()];
    for (at, number) in x.as_floats().iter().enumerate() {
        sums[source(at, &x.shape, &kept)] += number.exp();
    }
    let sums = Tensor::floats(&kept, sums);
    let result = binary(x, &sums, |a, sum| a - sum.ln(), |_, _| unreachable!());
    if log { result } else { unary(&result, f64::exp) }
}

fn arg_max_last(x: &Tensor) -> Tensor {
    let (&width, rows) = x.shape.split_last().unwrap();
    let greatest = |row: &[f64]| (0..width).rev().max_by(|&i, &j| row[i].total_cmp(&row[j])).unwrap() as i64;
    Tensor::ints(rows, x.as_floats().chunks(width).map(greatest).collect())
}

fn reshape(x: &Tensor, target: &[i64]) -> Tensor {
    let mut shape: Vec<usize> = target
        .iter()
        .enumerate()
        .map(|(axis, &size)| if size == 0 { x.shape[axis] } else { size.unsigned_abs() as usize })
        .collect();
    if let Some(free) = target.iter().position(|&size| size == -1) {
        shape[free] = x.len() / shape.iter().product::<usize>();
    }
    Tensor { shape, elements: x.elements.clone() }
}

fn expand(x: &Tensor, target: &[i64]) -> Tensor {
    let target: Vec<usize> = target.iter().map(|&size| size as usize).collect();
    let shape = broadcast(&x.shape, &target);
    let numbers = (0..shape.iter().product()).map(|at| x.as_floats()[source(at, &shape, &x.shape)]);
    Tensor::floats(&shape, numbers.collect())
}

fn transpose(node: &Node, x: &Tensor) -> Tensor {
    let reversed: Vec<i64> = (0..x.shape.len() as i64).rev().collect();
    let axes = node.ints("perm").unwrap_or(&reversed);
    permuted(x, &axes.iter().map(|&axis| axis as usize).collect::<Vec<_>>())
}

fn permuted(x: &Tensor, axes: &[usize]) -> Tensor {
    let shape: Vec<usize> = axes.iter().map(|&axis| x.shape[axis]).collect();
    let number = |at: usize| {
        let to = coordinates(at, &shape);
        let mut from = vec![0; axes.len()];
        for (coordinate, &axis) in to.iter().zip(axes) {
            from[axis] = *coordinate;
        }
        x.as_floats()[position(&from, &x.shape)]
    };
    Tensor::floats(&shape, (0..x.len()).map(number).collect())
}

fn row_at(index: i64, rows: usize) -> usize {
    if index < 0 { (index + rows as i64) as usize } else { index as usize }
}

fn gather(data: &Tensor, indices: &Tensor) -> Tensor {
    let row = data.shape[1..].iter().product::<usize>();
    let starts = indices.as_ints().iter().map(|&index| row_at(index, data.shape[0]) * row);
    let shape = [indices.shape.as_slice(), &data.shape[1..]].concat();
    match &data.elements {
        Elements::Float(floats) => {
            Tensor::floats(&shape, starts.flat_map(|start| floats[start..start + row].to_vec()).collect())
        }
        Elements::Int(ints) => {
            Tensor::ints(&shape, starts.flat_map(|start| ints[start..start + row].to_vec()).collect())
        }
    }
}

fn scatter_add(target: &Tensor, indices: &Tensor, updates: &Tensor) -> Tensor {
    assert_eq!(indices.shape.last(), Some(&1), "only whole rows are scattered");
    let row = target.shape[1..].iter().product::<usize>();
    let mut output = target.as_floats().to_vec();
    for (&index, update) in indices.as_ints().iter().zip(updates.as_floats().chunks(row)) {
        let start = row_at(index, target.shape[0]) * row;
        output[start..start + row].iter_mut().zip(update).for_each(|(sum, number)| *sum += number);
    }
    Tensor::floats(&target.shape, output)
}

fn one_hot(classes: &Tensor, depth: i64, off_and_on: &[f64]) -> Tensor {
    let shape = [classes.shape.as_slice(), &[depth as usize]].concat();
    let numbers =
        classes.as_ints().iter().flat_map(|class| (0..depth).map(move |at| off_and_on[usize::from(at == *class)]));
    Tensor::floats(&shape, numbers.collect())
}

/// The error function by its series with positive terms only, exact to a few units in the last place.
pub fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}
