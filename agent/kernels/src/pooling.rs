//! The gradient of a maximum over windows of a plane.

use std::sync::Mutex;

use crate::{InParallel, alone, vectorized};

/// Windows of 2x2 that are looked at together.
const QUARTERS: usize = 8;

/// How windows lie over planes; rows before columns.
#[derive(Debug, Clone, Copy)]
pub struct MaxPool {
    /// A plane's height and width.
    pub plane: [usize; 2],
    /// How many windows there are down and across.
    pub windows: [usize; 2],
    pub kernel: [usize; 2],
    pub strides: [usize; 2],
    pub dilations: [usize; 2],
    /// How far planes are padded at their front. What lies beyond a plane is no element of a window.
    pub before: [usize; 2],
}

impl MaxPool {
    /// `dx` `[planes, H, W]`: what flows to each window, `dy` `[planes, down, across]`, goes to its first greatest
    /// element in row-major order of `x` `[planes, H, W]`; a NaN counts as greatest, the last one of a window.
    ///
    /// # Panics
    /// A slice has not as many elements as its shape.
    pub fn gradient(&self, x: &[f32], dy: &[f32], dx: &mut [f32], each: InParallel<'_>) {
        let (plane, windows) = (self.plane.iter().product(), self.windows.iter().product());
        if plane == 0 {
            return;
        }
        let planes: Vec<_> = dx.chunks_mut(plane).map(Mutex::new).collect();
        each(planes.len(), &|at| {
            let (x, dy, mut dx) = (&x[at * plane..][..plane], &dy[at * windows..][..windows], alone(&planes[at]));
            if self.are_quarters() {
                vectorized(
                    #[inline(always)]
                    || self.of_quarters(x, dy, &mut dx),
                );
            } else {
                self.of_windows(x, dy, &mut dx);
            }
        });
    }

    /// Windows of 2x2 side by side, all within the plane.
    fn are_quarters(&self) -> bool {
        let are_pairs = self.kernel == [2, 2] && self.strides == [2, 2] && self.dilations == [1, 1];
        are_pairs && self.before == [0, 0] && (0..2).all(|axis| 2 * self.windows[axis] <= self.plane[axis])
    }

    #[inline(always)]
    fn of_quarters(&self, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        let ([_, width], [down, across]) = (self.plane, self.windows);
        let (pairs, rest) = dx.split_at_mut(2 * down * width);
        rest.fill(0.0);
        let rows = x.chunks_exact(2 * width).zip(pairs.chunks_exact_mut(2 * width)).zip(dy.chunks_exact(across.max(1)));
        for ((x, dx), dy) in rows {
            let (x_top, x_bottom) = x.split_at(width);
            let (top, bottom) = dx.split_at_mut(width);
            let (top, top_rest) = top.split_at_mut(2 * across);
            let (bottom, bottom_rest) = bottom.split_at_mut(2 * across);
            top_rest.fill(0.0);
            bottom_rest.fill(0.0);
            let (x_top, x_bottom) = (&x_top[..2 * across], &x_bottom[..2 * across]);
            let from = x_top.chunks(2 * QUARTERS).zip(x_bottom.chunks(2 * QUARTERS));
            let to = top.chunks_mut(2 * QUARTERS).zip(bottom.chunks_mut(2 * QUARTERS));
            for (((x_top, x_bottom), (top, bottom)), dy) in from.zip(to).zip(dy.chunks(QUARTERS)) {
                if let (Ok(x_top), Ok(x_bottom), Ok(dy)) = (x_top.try_into(), x_bottom.try_into(), dy.try_into()) {
                    let (to_top, to_bottom) = quarters(x_top, x_bottom, dy);
                    top.copy_from_slice(&to_top);
                    bottom.copy_from_slice(&to_bottom);
                } else {
                    let mut block = ([0.0; 2 * QUARTERS], [0.0; 2 * QUARTERS], [0.0; QUARTERS]);
                    block.0[..x_top.len()].copy_from_slice(x_top);
                    block.1[..x_bottom.len()].copy_from_slice(x_bottom);
                    block.2[..dy.len()].copy_from_slice(dy);
                    let (to_top, to_bottom) = quarters(&block.0, &block.1, &block.2);
                    top.copy_from_slice(&to_top[..x_top.len()]);
                    bottom.copy_from_slice(&to_bottom[..x_bottom.len()]);
                }
            }
        }
    }

    fn of_windows(&self, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        dx.fill(0.0);
        for (window, dy) in dy.iter().enumerate() {
            if let Some(winner) = self.winner(x, [window / self.windows[1], window % self.windows[1]]) {
                dx[winner] += dy;
            }
        }
    }

    /// Where in its plane a window's greatest element is; `None` where the window holds nothing of the plane.
    fn winner(&self, x: &[f32], [row, column]: [usize; 2]) -> Option<usize> {
        let mut found: Option<(usize, f32)> = None;
        for down in self.covered(0, row) {
            for across in self.covered(1, column) {
                let at = down * self.plane[1] + across;
                if found.is_none_or(|(_, greatest)| x[at] > greatest || x[at].is_nan()) {
                    found = Some((at, x[at]));
                }
            }
        }
        found.map(|(at, _)| at)
    }

    /// The rows or columns of the plane that a window covers.
    fn covered(&self, axis: usize, window: usize) -> impl Iterator<Item = usize> {
        let (start, before, size) = (window * self.strides[axis], self.before[axis], self.plane[axis]);
        let places = (0..self.kernel[axis]).map(move |tap| start + tap * self.dilations[axis]);
        places.filter_map(move |place| place.checked_sub(before)).filter(move |place| *place < size)
    }
}

/// What flows to the two rows of so many windows of 2x2. Everything is done for all windows at once, and what a window
/// gives to its elements is chosen by masks: branches would be guessed wrong half of the time.
#[inline(always)]
fn quarters(
    top: &[f32; 2 * QUARTERS],
    bottom: &[f32; 2 * QUARTERS],
    dy: &[f32; QUARTERS],
) -> ([f32; 2 * QUARTERS], [f32; 2 * QUARTERS]) {
    let mut elements = [[0.0; QUARTERS]; 4];
    for window in 0..QUARTERS {
        elements[0][window] = top[2 * window];
        elements[1][window] = top[2 * window + 1];
        elements[2][window] = bottom[2 * window];
        elements[3][window] = bottom[2 * window + 1];
    }
    let mut greatest = elements[0];
    let mut winners = [0_u32; QUARTERS];
    for (place, numbers) in (0..).zip(&elements).skip(1) {
        for window in 0..QUARTERS {
            let wins = (numbers[window] > greatest[window]) | numbers[window].is_nan();
            greatest[window] = if wins { numbers[window] } else { greatest[window] };
            winners[window] = if wins { place } else { winners[window] };
        }
    }
    let mut shares = [[0.0; QUARTERS]; 4];
    for (place, shares) in (0..).zip(&mut shares) {
        for window in 0..QUARTERS {
            let mask = 0_u32.wrapping_sub(u32::from(winners[window] == place));
            shares[window] = f32::from_bits(dy[window].to_bits() & mask);
        }
    }
    let (mut to_top, mut to_bottom) = ([0.0; 2 * QUARTERS], [0.0; 2 * QUARTERS]);
    for window in 0..QUARTERS {
        to_top[2 * window] = shares[0][window];
        to_top[2 * window + 1] = shares[1][window];
        to_bottom[2 * window] = shares[2][window];
        to_bottom[2 * window + 1] = shares[3][window];
    }
    (to_top, to_bottom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{in_turn, numbers};

    const SIDE_BY_SIDE: MaxPool =
        MaxPool { plane: [4, 6], windows: [2, 3], kernel: [2, 2], strides: [2, 2], dilations: [1, 1], before: [0, 0] };

    fn gradient(pool: MaxPool, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let mut dx = vec![f32::NAN; x.len()];
        pool.gradient(x, dy, &mut dx, &in_turn);
        dx
    }

    #[test]
    fn quarters_are_as_any_windows_with_rows_and_columns_left_over() {
        for plane in [[4, 6], [5, 6], [4, 7], [37, 41], [2, 2], [3, 2]] {
            let pool = MaxPool { plane, windows: plane.map(|size| size / 2), ..SIDE_BY_SIDE };
            let elements = plane[0] * plane[1];
            let (mut x, dy) = (numbers(3 * elements, 1), numbers(3 * pool.windows[0] * pool.windows[1], 2));
            x.iter_mut().for_each(|number| *number = (*number * 4.0).round());
            x[elements] = f32::NAN;
            x[2 * elements + 1] = f32::NAN;

            let found = gradient(pool, &x, &dy);

            let windows = dy.len() / 3;
            for at in 0..3 {
                let mut expected = vec![0.0; elements];
                pool.of_windows(&x[at * elements..][..elements], &dy[at * windows..][..windows], &mut expected);
                assert_eq!(found[at * elements..][..elements], expected, "{plane:?}");
            }
        }
    }

    #[test]
    fn the_first_of_equals_gets_all_and_overlapping_windows_add_up() {
        let pool = MaxPool {
            plane: [1, 5],
            windows: [1, 3],
            kernel: [1, 3],
            strides: [1, 2],
            dilations: [1, 1],
            before: [0, 1],
        };
        let dx = gradient(pool, &[1.0, 2.0, 2.0, 0.0, 0.0], &[1.0, 10.0, 100.0]);
        assert_eq!(dx, [0.0, 11.0, 0.0, 100.0, 0.0]);
    }

    #[test]
    fn dilated_windows_see_every_other_element() {
        let pool = MaxPool {
            plane: [3, 3],
            windows: [1, 1],
            kernel: [2, 2],
            strides: [1, 1],
            dilations: [2, 2],
            before: [0, 0],
        };
        let dx = gradient(pool, &[0.0, 9.0, 1.0, 9.0, 9.0, 9.0, 2.0, 9.0, 1.5], &[3.0]);
        assert_eq!(dx, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0]);
    }
}
