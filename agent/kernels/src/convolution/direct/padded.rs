//! Planes with zeros around them, in which what one tap of a kernel sees is what another one sees from another place on.

use super::super::Planes;

/// How planes lie with zeros around them. Where a kernel moves by more than one, every so many rows and columns are a part
/// of their own, in which it moves by one.
#[derive(Debug, Clone, Copy)]
pub struct Padded {
    /// Rows and columns of zeros before a plane.
    pub before: [usize; 2],
    /// How many parts rows and columns are dealt out to.
    pub parts: [usize; 2],
    /// Rows of a part.
    pub rows: usize,
    /// Elements of a row.
    pub wide: usize,
    /// Elements from one plane to the next.
    pub plane: usize,
}

impl Padded {
    pub fn new(before: [usize; 2], parts: [usize; 2], rows: usize, wide: usize) -> Self {
        Self { before, parts, rows, wide, plane: parts[0] * parts[1] * rows * wide }
    }

    /// Where a row's and column's element lies, counted with the zeros before the plane.
    pub fn position(&self, [row, column]: [usize; 2]) -> usize {
        let [down, across] = self.parts;
        let part = row % down * across + column % across;
        (part * self.rows + row / down) * self.wide + column / across
    }

    /// The planes of one image, and zeros in what is left of `to`.
    pub fn lay(&self, image: &[f32], planes: Planes, to: &mut [f32]) {
        let (to, rest) = to.split_at_mut(planes.channels * self.plane);
        rest.fill(0.0);
        let part = self.rows * self.wide;
        for (plane, to) in image.chunks_exact(planes.plane()).zip(to.chunks_exact_mut(self.plane)) {
            let (to, rest) = to.split_at_mut(self.parts[0] * self.parts[1] * part);
            rest.fill(0.0);
            for (at, to) in to.chunks_exact_mut(part).enumerate() {
                self.lay_part(plane, planes, [at / self.parts[1], at % self.parts[1]], to);
            }
        }
    }

    /// The part of a plane that begins with this row and column.
    fn lay_part(&self, plane: &[f32], planes: Planes, first: [usize; 2], to: &mut [f32]) {
        let ([top, left], [down, across]) = (self.before, self.parts);
        // Elements of a row before those of the plane, and the column of the first of those.
        let skipped = left.saturating_sub(first[1]).div_ceil(across).min(self.wide);
        let column = (skipped * across + first[1]).saturating_sub(left);
        let count = planes.width.saturating_sub(column).div_ceil(across).min(self.wide - skipped);
        for (at, to) in to.chunks_exact_mut(self.wide).enumerate() {
            let row = (at * down + first[0]).checked_sub(top).filter(|&row| row < planes.height);
            let Some(row) = row.filter(|_| count > 0) else {
                to.fill(0.0);
                continue;
            };
            let from = &plane[row * planes.width + column..(row + 1) * planes.width];
            let (zeros, rest) = to.split_at_mut(skipped);
            let (numbers, behind) = rest.split_at_mut(count);
            zeros.fill(0.0);
            behind.fill(0.0);
            if across == 1 {
                numbers.copy_from_slice(&from[..count]);
            } else {
                numbers.iter_mut().zip(from.iter().step_by(across)).for_each(|(to, from)| *to = *from);
            }
        }
    }
}
