//! Operators that pick or place elements by index.

use regatta_autodiff::graph::{Elements, Node};

use super::{Tensor, axis_of, coordinates, position};

/// `None` where the operator belongs to another family.
pub fn apply(node: &Node, operands: &[Option<Tensor>]) -> Option<Vec<Tensor>> {
    let present: Vec<Tensor> = operands.iter().flatten().cloned().collect();
    let x = present.as_slice();
    let output = match node.op.as_str() {
        "Gather" => gather(&x[0], &x[1]),
        "ScatterND" => scatter_add(&x[0], &x[1], &x[2]),
        "ScatterElements" => scatter_elements(node, &x[0], &x[1], &x[2]),
        "OneHot" => one_hot(&x[0], x[1].as_ints()[0], x[2].as_floats()),
        _ => return None,
    };
    Some(vec![output])
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
