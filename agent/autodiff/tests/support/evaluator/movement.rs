//! Operators that move elements.

use regatta_autodiff::graph::{Elements, Node};

use super::{Tensor, axis_of, broadcast, coordinates, permuted, position, source};

/// `None` where the operator belongs to another family.
pub fn apply(node: &Node, operands: &[Option<Tensor>]) -> Option<Vec<Tensor>> {
    let present: Vec<Tensor> = operands.iter().flatten().cloned().collect();
    let x = present.as_slice();
    let output = match node.op.as_str() {
        "Flatten" => {
            let axis = node.int("axis", 1);
            let axis = if axis < 0 { axis + x[0].shape.len() as i64 } else { axis } as usize;
            let rows: usize = x[0].shape[..axis].iter().product();
            Tensor::floats(&[rows, x[0].len() / rows], x[0].as_floats().to_vec())
        }
        "Squeeze" => squeeze(&x[0], x.get(1)),
        "Unsqueeze" => unsqueeze(&x[0], x[1].as_ints()),
        "Tile" => tile(&x[0], x[1].as_ints()),
        "Slice" => slice(&x[0], operands),
        "Pad" => pad(node, &x[0], operands),
        "DepthToSpace" => depth_to_space(node, &x[0]),
        "SpaceToDepth" => space_to_depth(&x[0], node.int("blocksize", 1) as usize),
        "ReverseSequence" => reverse_sequence(node, &x[0], x[1].as_ints()),
        "Trilu" => trilu(node, &x[0], x.get(1).map_or(0, |k| k.as_ints()[0])),
        "Concat" => concat(x, axis_of(node.int("axis", 0), x[0].shape.len())),
        "Split" => return Some(split(node, x)),
        "Reshape" => reshape(&x[0], x[1].as_ints()),
        "Expand" => expand(&x[0], x[1].as_ints()),
        "Transpose" => transpose(node, &x[0]),
        "Shape" => Tensor::ints(&[x[0].shape.len()], x[0].shape.iter().map(|&size| size as i64).collect()),
        "Size" => Tensor::ints(&[], vec![x[0].len() as i64]),
        _ => return None,
    };
    Some(vec![output])
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
    moved(x, &shape, 0.0, |to| Some(coordinates(source(position(to, &shape), &shape, &x.shape), &x.shape)))
}

fn transpose(node: &Node, x: &Tensor) -> Tensor {
    let reversed: Vec<i64> = (0..x.shape.len() as i64).rev().collect();
    let axes = node.ints("perm").unwrap_or(&reversed);
    permuted(x, &axes.iter().map(|&axis| axis as usize).collect::<Vec<_>>())
}

fn concat(x: &[Tensor], axis: usize) -> Tensor {
    let mut shape = x[0].shape.clone();
    shape[axis] = x.iter().map(|part| part.shape[axis]).sum();
    let chunk = |part: &Tensor| part.shape[axis..].iter().product::<usize>();
    let outer: usize = shape[..axis].iter().product();
    let rows =
        || (0..outer).flat_map(|row| x.iter().map(move |part| (part, row * chunk(part)..(row + 1) * chunk(part))));
    match &x[0].elements {
        Elements::Float(_) => {
            Tensor::floats(&shape, rows().flat_map(|(part, at)| part.as_floats()[at].to_vec()).collect())
        }
        Elements::Int(_) => Tensor::ints(&shape, rows().flat_map(|(part, at)| part.as_ints()[at].to_vec()).collect()),
    }
}

fn split(node: &Node, x: &[Tensor]) -> Vec<Tensor> {
    let axis = axis_of(node.int("axis", 0), x[0].shape.len());
    let (outer, inner): (usize, usize) = (x[0].shape[..axis].iter().product(), x[0].shape[axis + 1..].iter().product());
    let (size, parts) = (x[0].shape[axis], node.outputs.len());
    let equal = size.div_ceil(parts);
    let lengths: Vec<usize> = match x.get(1) {
        Some(lengths) => lengths.as_ints().iter().map(|&length| length as usize).collect(),
        None => (0..parts).map(|at| (size - at * equal).min(equal)).collect(),
    };
    let mut start = 0;
    let part = |length: usize| {
        let rows = (0..outer).map(|row| (row * size + start) * inner);
        let numbers = rows.flat_map(|at| x[0].as_floats()[at..at + length * inner].to_vec()).collect();
        start += length;
        let mut shape = x[0].shape.clone();
        shape[axis] = length;
        Tensor::floats(&shape, numbers)
    };
    lengths.into_iter().map(part).collect()
}

/// The tensor whose element at given coordinates is `x`'s at those that the function names, or a filling.
fn moved(x: &Tensor, shape: &[usize], filling: f64, from: impl Fn(&[usize]) -> Option<Vec<usize>>) -> Tensor {
    let places = (0..shape.iter().product()).map(|at| from(&coordinates(at, shape)));
    let places = places.map(|place| place.map(|place| position(&place, &x.shape)));
    match &x.elements {
        Elements::Float(floats) => {
            Tensor::floats(shape, places.map(|place| place.map_or(filling, |place| floats[place])).collect())
        }
        Elements::Int(ints) => Tensor::ints(shape, places.map(|place| ints[place.expect("no filling")]).collect()),
    }
}

fn squeeze(x: &Tensor, axes: Option<&Tensor>) -> Tensor {
    let rank = x.shape.len();
    let removed: Vec<usize> = match axes {
        Some(axes) => axes.as_ints().iter().map(|&axis| axis_of(axis, rank)).collect(),
        None => (0..rank).filter(|&axis| x.shape[axis] == 1).collect(),
    };
    let shape = (0..rank).filter(|axis| !removed.contains(axis)).map(|axis| x.shape[axis]).collect();
    Tensor { shape, elements: x.elements.clone() }
}

fn unsqueeze(x: &Tensor, axes: &[i64]) -> Tensor {
    let mut added: Vec<usize> = axes.iter().map(|&axis| axis_of(axis, x.shape.len() + axes.len())).collect();
    added.sort_unstable();
    let mut shape = x.shape.clone();
    added.into_iter().for_each(|axis| shape.insert(axis, 1));
    Tensor { shape, elements: x.elements.clone() }
}

fn tile(x: &Tensor, repeats: &[i64]) -> Tensor {
    let shape: Vec<usize> = x.shape.iter().zip(repeats).map(|(size, repeats)| size * *repeats as usize).collect();
    moved(x, &shape, 0.0, |to| Some(to.iter().zip(&x.shape).map(|(at, size)| at % size).collect()))
}

fn slice(x: &Tensor, operands: &[Option<Tensor>]) -> Tensor {
    let ints = |at: usize| operands.get(at).and_then(Option::as_ref).map(|ints| ints.as_ints().to_vec());
    let (starts, ends) = (ints(1).expect("starts"), ints(2).expect("ends"));
    let axes = ints(3).unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = ints(4).unwrap_or_else(|| vec![1; starts.len()]);
    let mut picked: Vec<Vec<usize>> = x.shape.iter().map(|&size| (0..size).collect()).collect();
    for (at, &axis) in axes.iter().enumerate() {
        let axis = axis_of(axis, x.shape.len());
        let size = x.shape[axis] as i64;
        let bound = |bound: i64| if bound < 0 { bound.saturating_add(size) } else { bound };
        let (start, end) = (bound(starts[at]), bound(ends[at]));
        let first = if steps[at] > 0 { start.max(0) } else { start.min(size - 1) };
        let within = |at: &i64| (0..size).contains(at);
        let before_end = |place: &i64| if steps[at] > 0 { *place < end } else { *place > end };
        let places = std::iter::successors(Some(first), |place| place.checked_add(steps[at]));
        picked[axis] = places.take_while(|place| within(place) && before_end(place)).map(|at| at as usize).collect();
    }
    let shape: Vec<usize> = picked.iter().map(Vec::len).collect();
    moved(x, &shape, 0.0, |to| Some(to.iter().zip(&picked).map(|(&at, picked)| picked[at]).collect()))
}

fn pad(node: &Node, x: &Tensor, operands: &[Option<Tensor>]) -> Tensor {
    let tensor = |at: usize| operands.get(at).and_then(Option::as_ref);
    let pads = tensor(1).expect("pads").as_ints();
    let rank = x.shape.len();
    let all: Vec<i64> = (0..rank as i64).collect();
    let axes = tensor(3).map_or(all.as_slice(), Tensor::as_ints);
    let (mut before, mut shape) = (vec![0; rank], x.shape.clone());
    for (at, &axis) in axes.iter().enumerate() {
        let axis = axis_of(axis, rank);
        before[axis] = pads[at];
        shape[axis] = (shape[axis] as i64 + pads[at] + pads[at + axes.len()]) as usize;
    }
    let filling = tensor(2).map_or(0.0, |value| value.as_floats()[0]);
    let place = |axis: usize, to: usize| {
        let (size, at) = (x.shape[axis] as i64, to as i64 - before[axis]);
        let from = match node.text("mode").unwrap_or("constant") {
            "constant" => return (0..size).contains(&at).then_some(at as usize),
            "edge" => at.max(0).min(size - 1),
            "wrap" => (at + size) % size,
            "reflect" => (size - 1) - ((size - 1) - at.abs()).abs(),
            mode => panic!("mode {mode}"),
        };
        Some(from as usize)
    };
    moved(x, &shape, filling, |to| to.iter().enumerate().map(|(axis, &to)| place(axis, to)).collect())
}

/// By the definition: depth, then height and width within the block.
fn depth_to_space(node: &Node, x: &Tensor) -> Tensor {
    let block = node.int("blocksize", 1) as usize;
    let depth = x.shape[1] / (block * block);
    let shape = [x.shape[0], depth, x.shape[2] * block, x.shape[3] * block];
    moved(x, &shape, 0.0, |to| {
        let inner = to[2] % block * block + to[3] % block;
        let channel =
            if node.text("mode") == Some("CRD") { to[1] * block * block + inner } else { inner * depth + to[1] };
        Some(vec![to[0], channel, to[2] / block, to[3] / block])
    })
}

fn space_to_depth(x: &Tensor, block: usize) -> Tensor {
    let shape = [x.shape[0], x.shape[1] * block * block, x.shape[2] / block, x.shape[3] / block];
    moved(x, &shape, 0.0, |to| {
        let inner = to[1] / x.shape[1];
        Some(vec![to[0], to[1] % x.shape[1], to[2] * block + inner / block, to[3] * block + inner % block])
    })
}

fn reverse_sequence(node: &Node, x: &Tensor, lengths: &[i64]) -> Tensor {
    let (batch, time) = (node.int("batch_axis", 1) as usize, node.int("time_axis", 0) as usize);
    moved(x, &x.shape, 0.0, |to| {
        let (mut from, length) = (to.to_vec(), lengths[to[batch]] as usize);
        from[time] = if to[time] < length { length - 1 - to[time] } else { to[time] };
        Some(from)
    })
}

fn trilu(node: &Node, x: &Tensor, k: i64) -> Tensor {
    let rank = x.shape.len();
    moved(x, &x.shape, 0.0, |to| {
        let above = to[rank - 1] as i64 - to[rank - 2] as i64 - k;
        let kept = if node.int("upper", 1) != 0 { above >= 0 } else { above <= 0 };
        kept.then(|| to.to_vec())
    })
}
