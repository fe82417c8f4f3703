//! Operators that pick or place elements by index.

use regatta_autodiff::graph::{Elements, Node};

use super::{Tensor, axis_of, coordinates, position};

/// `None` where the operator belongs to another family.
pub fn apply(node: &Node, operands: &[Option<Tensor>]) -> Option<Vec<Tensor>> {
    let present: Vec<Tensor> = operands.iter().flatten().cloned().collect();
    let x = present.as_slice();
    let output = match node.op.as_str() {
        "Gather" => gather(node, &x[0], &x[1]),
        "GatherElements" => gather_elements(node, &x[0], &x[1]),
        "GatherND" => gather_nd(&x[0], &x[1], node.int("batch_dims", 0) as usize),
        "ScatterND" => scatter_nd(node, &x[0], &x[1], &x[2]),
        "ScatterElements" => scatter_elements(node, &x[0], &x[1], &x[2]),
        "OneHot" => one_hot(&x[0], x[1].as_ints()[0], x[2].as_floats()),
        _ => return None,
    };
    Some(vec![output])
}

fn row_at(index: i64, rows: usize) -> usize {
    if index < 0 { (index + rows as i64) as usize } else { index as usize }
}

fn gather(node: &Node, data: &Tensor, indices: &Tensor) -> Tensor {
    let axis = axis_of(node.int("axis", 0), data.shape.len());
    let rank = indices.shape.len();
    let shape = [&data.shape[..axis], indices.shape.as_slice(), &data.shape[axis + 1..]].concat();
    let from = |at: usize| {
        let to = coordinates(at, &shape);
        let index = indices.as_ints()[position(&to[axis..axis + rank], &indices.shape)];
        let row = row_at(index, data.shape[axis]);
        position(&[&to[..axis], &[row], &to[axis + rank..]].concat(), &data.shape)
    };
    let places = (0..shape.iter().product()).map(from);
    match &data.elements {
        Elements::Float(floats) => Tensor::floats(&shape, places.map(|place| floats[place]).collect()),
        Elements::Int(ints) => Tensor::ints(&shape, places.map(|place| ints[place]).collect()),
    }
}

fn gather_elements(node: &Node, data: &Tensor, indices: &Tensor) -> Tensor {
    let axis = axis_of(node.int("axis", 0), data.shape.len());
    let number = |(at, &index): (usize, &i64)| {
        let mut from = coordinates(at, &indices.shape);
        from[axis] = row_at(index, data.shape[axis]);
        data.as_floats()[position(&from, &data.shape)]
    };
    Tensor::floats(&indices.shape, indices.as_ints().iter().enumerate().map(number).collect())
}

fn gather_nd(data: &Tensor, indices: &Tensor, batch: usize) -> Tensor {
    let (outer, length) = indices.shape.split_at(indices.shape.len() - 1);
    let rest = &data.shape[batch + length[0]..];
    let shape = [outer, rest].concat();
    let number = |at: usize| {
        let to = coordinates(at, &shape);
        let tuple = position(&to[..outer.len()], outer) * length[0];
        let named = (0..length[0]).map(|of| row_at(indices.as_ints()[tuple + of], data.shape[batch + of]));
        let from: Vec<usize> = to[..batch].iter().copied().chain(named).chain(to[outer.len()..].to_vec()).collect();
        data.as_floats()[position(&from, &data.shape)]
    };
    Tensor::floats(&shape, (0..shape.iter().product()).map(number).collect())
}

fn scatter_nd(node: &Node, target: &Tensor, indices: &Tensor, updates: &Tensor) -> Tensor {
    let length = *indices.shape.last().expect("tuples");
    let slice = target.shape[length..].iter().product::<usize>();
    let mut output = target.as_floats().to_vec();
    for (tuple, update) in indices.as_ints().chunks(length).zip(updates.as_floats().chunks(slice)) {
        let place: Vec<usize> = tuple.iter().zip(&target.shape).map(|(&index, &size)| row_at(index, size)).collect();
        let start = position(&place, &target.shape[..length]) * slice;
        for (number, &update) in output[start..start + slice].iter_mut().zip(update) {
            *number = if node.text("reduction") == Some("add") { *number + update } else { update };
        }
    }
    Tensor::floats(&target.shape, output)
}

fn scatter_elements(node: &Node, target: &Tensor, indices: &Tensor, updates: &Tensor) -> Tensor {
    let axis = axis_of(node.int("axis", 0), target.shape.len());
    let mut output = target.as_floats().to_vec();
    for (at, (&index, &update)) in indices.as_ints().iter().zip(updates.as_floats()).enumerate() {
        let mut to = coordinates(at, &indices.shape);
        to[axis] = row_at(index, target.shape[axis]);
        let place = &mut output[position(&to, &target.shape)];
        *place = if node.text("reduction") == Some("add") { *place + update } else { update };
    }
    Tensor::floats(&target.shape, output)
}

fn one_hot(classes: &Tensor, depth: i64, off_and_on: &[f64]) -> Tensor {
    let shape = [classes.shape.as_slice(), &[depth as usize]].concat();
    let numbers =
        classes.as_ints().iter().flat_map(|class| (0..depth).map(move |at| off_and_on[usize::from(at == *class)]));
    Tensor::floats(&shape, numbers.collect())
}
