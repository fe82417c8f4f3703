//! Shape arithmetic that a runtime left in a graph: small tensors of constants, computed here.
//!
//! Exporters compute sizes with tensors. A runtime folds nearly all of it; what is left depends on sizes that only
//! become known while the graph is written anew.

use super::translate::Old;
use crate::graph::{Attribute, Constant, Dtype, Elements, Graph, axis_position, broadcast_shapes, dtype_of};

/// More elements than a shape has.
const ELEMENTS_MAX: usize = 4096;

/// Of a tensor whose elements are all the same.
const FILLED_MAX: usize = 1 << 24;

/// What a node gives, where it depends on nothing but sizes and small constants. `fill` is the element of a
/// `ConstantOfShape`.
pub(super) fn folded(graph: &Graph, old: &Old, fill: Option<&Constant>) -> Option<Constant> {
    match old.op.as_str() {
        "Shape" => return Some(vector(shape_part(graph.shape(old.input(0)?), old)?)),
        "Size" => {
            let size: usize = graph.shape(old.input(0)?).iter().product();
            return Some(scalar(i64::try_from(size).ok()?));
        }
        "ConstantOfShape" => return filled(ints(graph.constant_of(old.input(0)?)?)?, fill),
        _ => {}
    }
    let operands: Vec<&Constant> =
        old.inputs.iter().map(|input| input.and_then(|value| graph.constant_of(value))).collect::<Option<Vec<_>>>()?;
    let first = *operands.first()?;
    if operands.iter().any(|operand| count(operand) > ELEMENTS_MAX) {
        return None;
    }
    match old.op.as_str() {
        "Cast" => cast(first, dtype_of(old.int("to", 0))?),
        "Sqrt" => floats_by(first, f64::sqrt),
        "Neg" => elementwise(first, &scalar(-1), Op::Mul),
        "Add" => elementwise(first, operands.get(1)?, Op::Add),
        "Sub" => elementwise(first, operands.get(1)?, Op::Sub),
        "Mul" => elementwise(first, operands.get(1)?, Op::Mul),
        "Div" => elementwise(first, operands.get(1)?, Op::Div),
        "Mod" => elementwise(first, operands.get(1)?, Op::Mod),
        "Squeeze" | "Unsqueeze" | "Reshape" | "Flatten" => reshaped(first, operands.get(1).copied(), old),
        "Concat" => concatenated(&operands),
        "Gather" => gathered(first, operands.get(1)?, old),
        "Slice" => sliced(&operands),
        "Range" => ranged(&operands),
        "NonZero" => non_zero(first),
        "Transpose" => transposed(first, old),
        "ReduceProd" => Some(scalar(ints(first)?.iter().try_fold(1_i64, |product, &int| product.checked_mul(int))?)),
        _ => None,
    }
}

fn vector(ints: Vec<i64>) -> Constant {
    Constant { dtype: Dtype::I64, shape: vec![ints.len()], elements: Elements::Int(ints) }
}

fn scalar(int: i64) -> Constant {
    Constant { dtype: Dtype::I64, shape: vec![], elements: Elements::Int(vec![int]) }
}

fn count(constant: &Constant) -> usize {
    match &constant.elements {
        Elements::Float(floats) => floats.len(),
        Elements::Int(ints) => ints.len(),
    }
}

fn ints(constant: &Constant) -> Option<&[i64]> {
    match &constant.elements {
        Elements::Int(ints) => Some(ints),
        Elements::Float(_) => None,
    }
}

/// The sizes from `start` to `end` (attributes since opset 15).
fn shape_part(shape: &[usize], old: &Old) -> Option<Vec<i64>> {
    let rank = i64::try_from(shape.len()).ok()?;
    let bound = |at: i64| usize::try_from((if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank)).ok();
    let (start, end) = (bound(old.int("start", 0))?, bound(old.int("end", rank))?);
    shape.get(start..end.max(start))?.iter().map(|&size| i64::try_from(size).ok()).collect()
}

fn filled(sizes: &[i64], fill: Option<&Constant>) -> Option<Constant> {
    let shape: Vec<usize> = sizes.iter().map(|&size| usize::try_from(size).ok()).collect::<Option<_>>()?;
    let elements = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size))?;
    if elements > FILLED_MAX {
        return None;
    }
    let (dtype, elements) = match fill.map(|fill| (fill.dtype, &fill.elements)) {
        None => (Dtype::F32, Elements::Float(vec![0.0; elements])),
        Some((dtype, Elements::Float(floats))) => (dtype, Elements::Float(vec![*floats.first()?; elements])),
        Some((dtype, Elements::Int(ints))) => (dtype, Elements::Int(vec![*ints.first()?; elements])),
    };
    Some(Constant { dtype, shape, elements })
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
#[expect(clippy::cast_possible_truncation, reason = "a cast to an integer truncates")]
fn cast(constant: &Constant, dtype: Dtype) -> Option<Constant> {
    let elements = match (&constant.elements, dtype.is_float()) {
        (Elements::Int(ints), true) => Elements::Float(ints.iter().map(|&int| int as f64).collect()),
        (Elements::Float(floats), false) if floats.iter().any(|float| !float.is_finite()) => return None,
        (Elements::Float(floats), false) if dtype == Dtype::Bool => {
            Elements::Int(floats.iter().map(|&float| i64::from(float != 0.0)).collect())
        }
        (Elements::Float(floats), false) => Elements::Int(floats.iter().map(|&float| float as i64).collect()),
        (Elements::Int(ints), false) if dtype == Dtype::Bool => {
            Elements::Int(ints.iter().map(|&int| i64::from(int != 0)).collect())
        }
        (elements, _) => elements.clone(),
    };
    Some(Constant { dtype, shape: constant.shape.clone(), elements })
}

fn floats_by(constant: &Constant, function: fn(f64) -> f64) -> Option<Constant> {
    match &constant.elements {
        Elements::Float(floats) => {
            let elements = Elements::Float(floats.iter().map(|&float| function(float)).collect());
            Some(Constant { elements, ..constant.clone() })
        }
        Elements::Int(_) => None,
    }
}

#[derive(Clone, Copy)]
enum Op {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
}

fn elementwise(left: &Constant, right: &Constant, op: Op) -> Option<Constant> {
    let shape = broadcast_shapes(&left.shape, &right.shape)?;
    let elements: usize = shape.iter().product();
    // Only what repeats as a whole: a scalar, or one shape on both sides.
    let is_plain = |side: &Constant| count(side) == 1 || count(side) == elements;
    if elements > ELEMENTS_MAX || !is_plain(left) || !is_plain(right) {
        return None;
    }
    let elements = match (&left.elements, &right.elements) {
        (Elements::Int(l), Elements::Int(r)) => {
            let pair = |at: usize| int_op(l[at % l.len()], r[at % r.len()], op);
            Elements::Int((0..elements).map(pair).collect::<Option<_>>()?)
        }
        (Elements::Float(l), Elements::Float(r)) => {
            let pair = |at: usize| float_op(l[at % l.len()], r[at % r.len()], op);
            Elements::Float((0..elements).map(pair).collect::<Option<_>>()?)
        }
        _ => return None,
    };
    Some(Constant { dtype: left.dtype, shape, elements })
}

fn int_op(left: i64, right: i64, op: Op) -> Option<i64> {
    match op {
        Op::Add => left.checked_add(right),
        Op::Sub => left.checked_sub(right),
        Op::Mul => left.checked_mul(right),
        Op::Div => left.checked_div(right),
        // ONNX's remainder has the sign of the divisor.
        Op::Mod => {
            left.checked_rem(right).map(|rest| if rest != 0 && (rest < 0) != (right < 0) { rest + right } else { rest })
        }
    }
}

fn float_op(left: f64, right: f64, op: Op) -> Option<f64> {
    match op {
        Op::Add => Some(left + right),
        Op::Sub => Some(left - right),
        Op::Mul => Some(left * right),
        Op::Div => Some(left / right),
        Op::Mod => None,
    }
}

/// The same elements in another shape, of at most one axis; a matrix of one row or column also as a vector.
fn reshaped(constant: &Constant, by: Option<&Constant>, old: &Old) -> Option<Constant> {
    let by = by.map(ints).unwrap_or_default();
    let shape = match (old.op.as_str(), by, &constant.shape[..]) {
        ("Squeeze", _, [_]) if count(constant) == 1 => vec![],
        ("Squeeze", Some([0]), [1, size]) | ("Squeeze", Some([1 | -1]), [size, 1]) => vec![*size],
        ("Unsqueeze", Some([_]), []) => vec![1],
        ("Reshape", Some([]), _) if count(constant) == 1 => vec![],
        ("Reshape", Some([_]), [] | [_]) => vec![count(constant)],
        _ => return None,
    };
    Some(Constant { shape, ..constant.clone() })
}

/// A matrix with rows and columns swapped.
fn transposed(constant: &Constant, old: &Old) -> Option<Constant> {
    let is_swap = match old.attributes.get("perm") {
        None => true,
        Some(Attribute::Ints(order)) => order[..] == [1, 0],
        Some(_) => false,
    };
    let (&[rows, columns], true) = (&constant.shape[..], is_swap) else { return None };
    let turned = |at: usize| at % rows * columns + at / rows;
    let elements = match &constant.elements {
        Elements::Int(ints) => Elements::Int((0..ints.len()).map(|at| ints[turned(at)]).collect()),
        Elements::Float(floats) => Elements::Float((0..floats.len()).map(|at| floats[turned(at)]).collect()),
    };
    Some(Constant { dtype: constant.dtype, shape: vec![columns, rows], elements })
}

fn concatenated(operands: &[&Constant]) -> Option<Constant> {
    if operands.iter().any(|operand| operand.shape.len() != 1) {
        return None;
    }
    let all: Vec<i64> = operands.iter().map(|operand| ints(operand)).collect::<Option<Vec<_>>>()?.concat();
    Some(Constant { dtype: operands[0].dtype, ..vector(all) })
}

fn gathered(data: &Constant, indices: &Constant, old: &Old) -> Option<Constant> {
    let [_] = data.shape[..] else { return None };
    if !matches!(old.int("axis", 0), 0 | -1) {
        return None;
    }
    let data_ints = ints(data)?;
    let pick = |&at: &i64| Some(data_ints[axis_position(at, data_ints.len())?]);
    let picked = ints(indices)?.iter().map(pick).collect::<Option<Vec<_>>>()?;
    Some(Constant { dtype: data.dtype, shape: indices.shape.clone(), elements: Elements::Int(picked) })
}

/// For each axis a row: where the elements are that are not zero, in their order.
fn non_zero(constant: &Constant) -> Option<Constant> {
    let is_there: Vec<bool> = match &constant.elements {
        Elements::Int(ints) => ints.iter().map(|int| *int != 0).collect(),
        Elements::Float(floats) => floats.iter().map(|float| *float != 0.0).collect(),
    };
    let found: Vec<usize> = (0..is_there.len()).filter(|&at| is_there[at]).collect();
    let mut rows = Vec::with_capacity(constant.shape.len() * found.len());
    let mut stride = is_there.len();
    for size in &constant.shape {
        stride /= (*size).max(1);
        let place = |at: &usize| i64::try_from(at / stride.max(1) % size);
        rows.extend(found.iter().map(place).collect::<Result<Vec<_>, _>>().ok()?);
    }
    Some(Constant { shape: vec![constant.shape.len(), found.len()], ..vector(rows) })
}

/// A part of a vector, with a step of one.
fn sliced(operands: &[&Constant]) -> Option<Constant> {
    let [data, starts, ends, rest @ ..] = operands else { return None };
    let ([_], [start], [end]) = (&data.shape[..], ints(starts)?, ints(ends)?) else { return None };
    if rest.get(1).is_some_and(|steps| ints(steps) != Some(&[1])) {
        return None;
    }
    let all = ints(data)?;
    let length = i64::try_from(all.len()).ok()?;
    let bound = |at: i64| usize::try_from((if at < 0 { at.saturating_add(length) } else { at }).clamp(0, length)).ok();
    let (start, end) = (bound(*start)?, bound(*end)?);
    Some(Constant { dtype: data.dtype, ..vector(all.get(start..end.max(start))?.to_vec()) })
}

fn ranged(operands: &[&Constant]) -> Option<Constant> {
    let [start, limit, step] = operands else { return None };
    if let (Elements::Float(start), Elements::Float(limit), Elements::Float(step)) =
        (&start.elements, &limit.elements, &step.elements)
    {
        return floats_from(operands[0].dtype, (*start.first()?, *limit.first()?, *step.first()?));
    }
    let (&[start], &[limit], &[step]) = (ints(start)?, ints(limit)?, ints(step)?) else { return None };
    let mut all = Vec::new();
    let mut at = start;
    while step != 0 && (if step > 0 { at < limit } else { at > limit }) {
        if all.len() == ELEMENTS_MAX {
            return None;
        }
        all.push(at);
        at = at.checked_add(step)?;
    }
    Some(Constant { dtype: operands[0].dtype, ..vector(all) })
}

/// ONNX's formula: so many elements as fit, each by itself.
#[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
fn floats_from(dtype: Dtype, (start, limit, step): (f64, f64, f64)) -> Option<Constant> {
    let count = ((limit - start) / step).ceil();
    if !(count.is_finite() && count <= ELEMENTS_MAX as f64) {
        return None;
    }
    let positions = (0..ELEMENTS_MAX).map(|at| at as f64).take_while(|&at| at < count);
    let elements: Vec<f64> = positions.map(|at| start + at * step).collect();
    Some(Constant { dtype, shape: vec![elements.len()], elements: Elements::Float(elements) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(op: &str, operands: &[Constant], expected: Option<Constant>) {
        let mut graph = Graph::default();
        let inputs = operands.iter().map(|operand| Some(graph.constant(operand.clone()))).collect();
        let old = Old { op: op.into(), name: op.into(), inputs, outputs: 1, attributes: Default::default() };
        assert_eq!(folded(&graph, &old, None), expected, "{op} {operands:?}");
    }

    #[test]
    fn shape_arithmetic_is_computed() {
        let v = |ints: &[i64]| vector(ints.to_vec());
        check("Mod", &[scalar(-7), scalar(3)], Some(scalar(2)));
        check("Div", &[v(&[12, 7]), scalar(2)], Some(v(&[6, 3])));
        check("Concat", &[v(&[1]), v(&[2, 3])], Some(v(&[1, 2, 3])));
        check("Gather", &[v(&[4, 5, 6]), scalar(-1)], Some(scalar(6)));
        check("Slice", &[v(&[4, 5, 6]), v(&[-2]), v(&[i64::MAX])], Some(v(&[5, 6])));
        check("Range", &[scalar(0), scalar(5), scalar(2)], Some(v(&[0, 2, 4])));
        let mask = Constant { dtype: Dtype::Bool, shape: vec![2, 3], ..v(&[0, 1, 0, 1, 1, 0]) };
        let matrix = Constant { shape: vec![2, 3], ..v(&[1, 2, 3, 4, 5, 6]) };
        check("Transpose", &[matrix], Some(Constant { shape: vec![3, 2], ..v(&[1, 4, 2, 5, 3, 6]) }));
        check("Squeeze", &[Constant { shape: vec![3, 1], ..v(&[1, 2, 3]) }, v(&[1])], Some(v(&[1, 2, 3])));
        check("NonZero", &[mask], Some(Constant { shape: vec![2, 3], ..v(&[0, 1, 1, 1, 0, 1]) }));
        let f = |shape: &[usize], floats: &[f64]| Constant {
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            elements: Elements::Float(floats.to_vec()),
        };
        let range = |start, limit, step| [f(&[], &[start]), f(&[], &[limit]), f(&[], &[step])];
        check("Range", &range(0.0, 3.0, 1.0), Some(f(&[3], &[0.0, 1.0, 2.0])));
        check("Range", &range(1.0, -0.5, -0.5), Some(f(&[3], &[1.0, 0.5, 0.0])));
        check("Range", &range(1.0, 0.0, 1.0), Some(f(&[0], &[])));
        check(
            "ConstantOfShape",
            &[v(&[0])],
            Some(Constant { dtype: Dtype::F32, shape: vec![0], elements: Elements::Float(vec![]) }),
        );
    }

    #[test]
    fn what_has_no_answer_is_left_alone() {
        let v = |ints: &[i64]| vector(ints.to_vec());
        check("Div", &[v(&[1]), v(&[0])], None);
        check("Mul", &[v(&[i64::MAX]), v(&[2])], None);
        check("Gather", &[v(&[4]), scalar(1)], None);
        check("ConstantOfShape", &[v(&[-1])], None);
        check("ConstantOfShape", &[v(&[i64::MAX, 2])], None);
        check("Range", &[scalar(0), scalar(i64::MAX), scalar(1)], None);
        let float = |float| Constant { dtype: Dtype::F32, shape: vec![], elements: Elements::Float(vec![float]) };
        check("Range", &[float(0.0), float(1.0), float(0.0)], None);
        check("Range", &[float(0.0), float(1e9), float(1.0)], None);
        let mut graph = Graph::default();
        let x = graph.input("x", Dtype::F32, &[3]).ok();
        let old =
            Old { op: "NonZero".into(), name: "n".into(), inputs: vec![x], outputs: 1, attributes: Default::default() };
        assert_eq!(folded(&graph, &old, None), None, "it depends on data");
    }
}
