//! Where an element of one tensor comes from in another, as C expressions over 32-bit unsigned numbers.

/// An axis that is walked along: its size, and how far a step along it goes in the other tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    pub size: usize,
    pub stride: i64,
}

/// Steps along the axes of a tensor that is laid out row by row.
pub fn strides(shape: &[usize]) -> Vec<i64> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * signed(shape[axis]);
    }
    strides
}

/// The axes of `shape`, walked over a tensor of shape `of` that is broadcast to it.
pub fn broadcast(shape: &[usize], of: &[usize]) -> Vec<Axis> {
    let missing = shape.len() - of.len();
    let strides = strides(of);
    let stride = |axis: usize| match axis.checked_sub(missing) {
        Some(own) if of[own] != 1 => strides[own],
        _ => 0,
    };
    shape.iter().enumerate().map(|(axis, &size)| Axis { size, stride: stride(axis) }).collect()
}

/// `base` and for each axis its coordinate times its stride, where `at` is the place among all elements of the axes, row
/// by row.
pub fn place(at: &str, axes: &[Axis], base: i64) -> String {
    let joined = join(axes);
    let mut terms = Vec::new();
    let mut inner = 1;
    for (position, axis) in joined.iter().enumerate().rev() {
        if axis.stride != 0 {
            let quotient = if inner == 1 { at.to_owned() } else { format!("{at} / {inner}u") };
            let coordinate = match position {
                0 => quotient,
                _ if inner == 1 => format!("{quotient} % {}u", axis.size),
                _ => format!("({quotient}) % {}u", axis.size),
            };
            terms.push(match axis.stride {
                1 => coordinate,
                stride => format!("({coordinate}) * {}", number(stride)),
            });
        }
        inner *= axis.size;
    }
    if base != 0 || terms.is_empty() {
        terms.push(number(base));
    }
    terms.join(" + ")
}

/// Neighbours that are walked as one become one.
fn join(axes: &[Axis]) -> Vec<Axis> {
    let mut joined: Vec<Axis> = Vec::with_capacity(axes.len());
    for axis in axes.iter().filter(|axis| axis.size != 1) {
        match joined.last_mut() {
            Some(outer) if outer.stride == axis.stride * signed(axis.size) => {
                *outer = Axis { size: outer.size * axis.size, stride: axis.stride };
            }
            _ => joined.push(*axis),
        }
    }
    joined
}

/// A literal; below zero it is what has the same sums.
fn number(number: i64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sums wrap around as C's do")]
    let wrapped = number as u32;
    format!("{wrapped}u")
}

fn signed(size: usize) -> i64 {
    i64::try_from(size).expect("a tensor's size fits in an i64")
}

#[cfg(test)]
mod tests {
    use super::{Axis, broadcast, place};

    #[test]
    fn places_are_found_with_as_little_arithmetic_as_there_is() {
        let rows: [(&[usize], &[usize], &str); 6] = [
            (&[4, 5], &[4, 5], "i"),
            (&[4, 5], &[5], "i % 5u"),
            (&[4, 5], &[4, 1], "i / 5u"),
            (&[4, 5, 6], &[5, 1], "(i / 6u) % 5u"),
            (&[4, 5, 6], &[1, 1], "0u"),
            (&[4, 5, 6], &[4, 1, 6], "i % 6u + (i / 30u) * 6u"),
        ];
        for (shape, of, expected) in rows {
            assert_eq!(place("i", &broadcast(shape, of), 0), expected, "{of:?} in {shape:?}");
        }
        // Backwards.
        assert_eq!(place("i", &[Axis { size: 3, stride: -1 }], 2), "(i) * 4294967295u + 2u");
    }
}
