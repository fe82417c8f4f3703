//! The gradient of a maximum over windows of a plane.

use std::sync::Mutex;

use crate::{InParallel, alone, vectorized};

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
            let from = x_top.as_chunks::<2>().0.iter().zip(x_bottom.as_chunks::<2>().0);
            let to = top.as_chunks_mut::<2>().0.iter_mut().zip(bottom.as_chunks_mut::<2>().0);
            for ((([a, b], [c, d]), (top, bottom)), &dy) in from.zip(to).zip(dy) {
                let (mut greatest, mut winner) = (*a, 0);
                for (place, number) in [(1, *b), (2, *c), (3, *d)] {
                    let wins = number > greatest || number.is_nan();
                    greatest = if wins { number } else { greatest };
                    winner = if wins { place } else { winner };
                }
                let share = |place: i32| if winner == place { dy } else { 0.0 };
                *top = [share(0), share(1)];
                *bottom = [share(2), share(3)];
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{in_turn, numbers};

    const QUARTERS: MaxPool =
        MaxPool { plane: [4, 6], windows: [2, 3], kernel: [2, 2], strides: [2, 2], dilations: [1, 1], before: [0, 0] };

    fn gradient(pool: MaxPool, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let mut dx = vec![f32::NAN; x.len()];
        pool.gradient(x, dy, &mut dx, &in_turn);
        dx
    }

    #[test]
    fn quarters_are_as_any_windows_with_rows_and_columns_left_over() {
        for plane in [[4, 6], [5, 6], [4, 7], [37, 41], [2, 2], [3, 2]] {
            let pool = MaxPool { plane, windows: plane.map(|size| size / 2), ..QUARTERS };
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
