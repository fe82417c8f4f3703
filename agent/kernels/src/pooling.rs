//! The maximum over windows of a plane, and its gradient.

use std::sync::Mutex;

use crate::{InParallel, alone, vectorized};

/// Windows of 2x2 that are looked at together.
const BLOCK: usize = 8;

/// Elements of the planes that one call of a thread is for.
const TOGETHER: usize = 4096;

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
    /// Whether what flows to the elements flows on through the rectifier that gave them: to those above zero only.
    pub of_rectified: bool,
}

impl MaxPool {
    /// Windows of 2x2 side by side, as many as fit into a plane.
    pub fn quarters(plane: [usize; 2]) -> Self {
        Self {
            plane,
            windows: plane.map(|size| size / 2),
            kernel: [2, 2],
            strides: [2, 2],
            dilations: [1, 1],
            before: [0, 0],
            of_rectified: false,
        }
    }

    /// `y` `[planes, down, across]`: of each window of `x` `[planes, H, W]` the greatest element, or a NaN where it has
    /// one. Windows are of 2x2, side by side and within the plane.
    ///
    /// # Panics
    /// They are not, or a slice has not as many elements as its shape.
    pub fn maxima(&self, x: &[f32], y: &mut [f32], each: InParallel<'_>) {
        assert!(self.are_quarters(), "windows of 2x2 side by side");
        let (plane, windows): (usize, usize) = (self.plane.iter().product(), self.windows.iter().product());
        if windows == 0 {
            return;
        }
        let together = (TOGETHER / plane).max(1);
        let parts: Vec<_> = y.chunks_mut(together * windows).zip(x.chunks(together * plane)).map(Mutex::new).collect();
        each(parts.len(), &|part| {
            let mut part = alone(&parts[part]);
            let (y, x) = &mut *part;
            vectorized(
                #[inline(always)]
                || {
                    for (y, x) in y.chunks_exact_mut(windows).zip(x.chunks_exact(plane)) {
                        self.plane_of_maxima(x, y);
                    }
                },
            );
        });
    }

    #[inline(always)]
    fn plane_of_maxima(&self, x: &[f32], y: &mut [f32]) {
        let (width, across) = (self.plane[1], self.windows[1]);
        for (y, rows) in y.chunks_exact_mut(across).zip(x.chunks(2 * width)) {
            let (top, bottom) = rows.split_at(width);
            let pairs = top.as_chunks::<2>().0.iter().zip(bottom.as_chunks::<2>().0);
            for (y, (top, bottom)) in y.iter_mut().zip(pairs) {
                *y = greater(greater(top[0], top[1]), greater(bottom[0], bottom[1]));
            }
        }
    }

    /// `dx` `[planes, H, W]`: what flows to each window, `dy` `[planes, down, across]`, goes to its first greatest
    /// element in row-major order of `x` `[planes, H, W]`; a NaN counts as greatest, the last one of a window.
    ///
    /// # Panics
    /// A slice has not as many elements as its shape.
    pub fn gradient(&self, x: &[f32], dy: &[f32], dx: &mut [f32], each: InParallel<'_>) {
        let (plane, windows): (usize, usize) = (self.plane.iter().product(), self.windows.iter().product());
        if plane == 0 {
            return;
        }
        let together = (TOGETHER / plane).max(1);
        let parts: Vec<_> = dx.chunks_mut(together * plane).map(Mutex::new).collect();
        each(parts.len(), &|part| {
            let mut dx = alone(&parts[part]);
            let planes = dx.chunks_exact_mut(plane).zip(part * together..);
            if self.are_quarters() {
                vectorized(
                    #[inline(always)]
                    || {
                        for (dx, at) in planes {
                            let (x, dy) = (&x[at * plane..][..plane], &dy[at * windows..][..windows]);
                            match self.of_rectified {
                                true => self.of_quarters::<true>(x, dy, dx),
                                false => self.of_quarters::<false>(x, dy, dx),
                            }
                        }
                    },
                );
            } else {
                for (dx, at) in planes {
                    self.of_windows(&x[at * plane..][..plane], &dy[at * windows..][..windows], dx);
                }
            }
        });
    }

    /// Windows of 2x2 side by side, all within the plane.
    fn are_quarters(&self) -> bool {
        let are_pairs = self.kernel == [2, 2] && self.strides == [2, 2] && self.dilations == [1, 1];
        are_pairs && self.before == [0, 0] && (0..2).all(|axis| 2 * self.windows[axis] <= self.plane[axis])
    }

    #[inline(always)]
    fn of_quarters<const RECTIFIED: bool>(&self, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        let ([height, width], [down, across]) = (self.plane, self.windows);
        if height > 2 * down || width > 2 * across {
            dx.fill(0.0);
        }
        let mut column = 0;
        while column + 8 <= across {
            self.block_by_block::<RECTIFIED, 1, 8, 16>(column, x, dy, dx);
            column += 8;
        }
        if column + 4 <= across {
            self.block_by_block::<RECTIFIED, 2, 4, 8>(column, x, dy, dx);
            column += 4;
        }
        if column + 2 <= across {
            self.block_by_block::<RECTIFIED, 4, 2, 4>(column, x, dy, dx);
            column += 2;
        }
        if column < across {
            self.block_by_block::<RECTIFIED, 8, 1, 2>(column, x, dy, dx);
        }
    }

    /// What flows to `ACROSS` columns of windows, of which a block has `DOWN`; their rows have `WIDE` elements.
    #[inline(always)]
    fn block_by_block<const RECTIFIED: bool, const DOWN: usize, const ACROSS: usize, const WIDE: usize>(
        &self,
        column: usize,
        x: &[f32],
        dy: &[f32],
        dx: &mut [f32],
    ) {
        let ([_, width], [down, across]) = (self.plane, self.windows);
        for first in (0..down).step_by(DOWN) {
            let (mut top, mut bottom, mut flowing) = ([0.0; 2 * BLOCK], [0.0; 2 * BLOCK], [0.0; BLOCK]);
            for row in 0..DOWN.min(down - first) {
                let at = 2 * (first + row) * width + 2 * column;
                top[row * WIDE..][..WIDE].copy_from_slice(&x[at..][..WIDE]);
                bottom[row * WIDE..][..WIDE].copy_from_slice(&x[at + width..][..WIDE]);
                flowing[row * ACROSS..][..ACROSS].copy_from_slice(&dy[(first + row) * across + column..][..ACROSS]);
            }
            let shares = quarters::<RECTIFIED>(&top, &bottom, &flowing);
            for row in 0..DOWN.min(down - first) {
                let at = 2 * (first + row) * width + 2 * column;
                dx[at..][..WIDE].copy_from_slice(&shares[0][row * WIDE..][..WIDE]);
                dx[at + width..][..WIDE].copy_from_slice(&shares[1][row * WIDE..][..WIDE]);
            }
        }
    }

    fn of_windows(&self, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        dx.fill(0.0);
        for (window, dy) in dy.iter().enumerate() {
            let winner = self.winner(x, [window / self.windows[1], window % self.windows[1]]);
            if let Some(winner) = winner.filter(|winner| !self.of_rectified || x[*winner] > 0.0) {
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

/// The greater one, or one that is no number.
#[inline(always)]
fn greater(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

/// What flows to the upper and the lower row of so many windows of 2x2 side by side. All is done for all elements at once,
/// and which of a window's gets it is chosen by masks: branches would be guessed wrong half of the time.
#[inline(always)]
fn quarters<const RECTIFIED: bool>(
    top: &[f32; 2 * BLOCK],
    bottom: &[f32; 2 * BLOCK],
    dy: &[f32; BLOCK],
) -> [[f32; 2 * BLOCK]; 2] {
    let mut has_nan = false;
    let mut greater = [0.0; 2 * BLOCK];
    for at in 0..2 * BLOCK {
        has_nan |= top[at].is_nan() | bottom[at].is_nan();
        greater[at] = if bottom[at] > top[at] { bottom[at] } else { top[at] };
    }
    let beside = swapped(greater);
    let (mut is_top, mut is_bottom) = ([0_u32; 2 * BLOCK], [0_u32; 2 * BLOCK]);
    for at in 0..2 * BLOCK {
        let greatest = if beside[at] > greater[at] { beside[at] } else { greater[at] };
        is_top[at] = mask(top[at] == greatest);
        is_bottom[at] = mask(bottom[at] == greatest);
    }
    if RECTIFIED {
        for at in 0..2 * BLOCK {
            is_top[at] &= mask(top[at] > 0.0);
            is_bottom[at] &= mask(bottom[at] > 0.0);
        }
    }
    // Of several that are equal the first one, the right ones after the left ones.
    let (beside_top, beside_bottom) = (swapped(is_top), swapped(is_bottom));
    let (mut to_top, mut to_bottom) = ([0.0; 2 * BLOCK], [0.0; 2 * BLOCK]);
    for at in 0..2 * BLOCK {
        let is_right = mask(at % 2 == 1);
        let flowing = dy[at / 2].to_bits();
        let wins_bottom = is_bottom[at] & !(is_top[at] | beside_top[at]) & !(beside_bottom[at] & is_right);
        to_top[at] = f32::from_bits(flowing & is_top[at] & !(beside_top[at] & is_right));
        to_bottom[at] = f32::from_bits(flowing & wins_bottom);
    }
    if has_nan {
        for window in 0..BLOCK {
            let elements = [top[2 * window], top[2 * window + 1], bottom[2 * window], bottom[2 * window + 1]];
            if let Some(winner) = elements.iter().rposition(|element| element.is_nan()) {
                let mut share = [0.0; 4];
                // A rectifier lets nothing through to what is no number.
                share[winner] = if RECTIFIED { 0.0 } else { dy[window] };
                to_top[2 * window..][..2].copy_from_slice(&share[..2]);
                to_bottom[2 * window..][..2].copy_from_slice(&share[2..]);
            }
        }
    }
    [to_top, to_bottom]
}

#[inline(always)]
fn mask(holds: bool) -> u32 {
    if holds { u32::MAX } else { 0 }
}

/// Each two neighbours in the place of the other.
#[inline(always)]
fn swapped<T: Copy, const E: usize>(elements: [T; E]) -> [T; E] {
    let mut swapped = elements;
    for pair in 0..E / 2 {
        swapped[2 * pair] = elements[2 * pair + 1];
        swapped[2 * pair + 1] = elements[2 * pair];
    }
    swapped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{in_turn, numbers};

    fn gradient(pool: MaxPool, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let mut dx = vec![f32::NAN; x.len()];
        pool.gradient(x, dy, &mut dx, &in_turn);
        dx
    }

    #[test]
    fn quarters_are_as_any_windows_with_rows_and_columns_left_over() {
        for plane in [[4, 6], [5, 6], [4, 7], [37, 41], [2, 2], [3, 2], [6, 30], [4, 62]] {
            for of_rectified in [false, true] {
                let pool = MaxPool { of_rectified, ..MaxPool::quarters(plane) };
                let elements = plane[0] * plane[1];
                let (mut x, dy) = (numbers(3 * elements, 1), numbers(3 * pool.windows[0] * pool.windows[1], 2));
                x.iter_mut().for_each(|number| *number = (*number * 4.0).round());
                if of_rectified {
                    x.iter_mut().for_each(|number| *number = number.max(0.0));
                }
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
    }

    #[test]
    fn maxima_are_those_of_each_window() {
        for plane in [[4, 6], [5, 7], [37, 41], [2, 2], [2, 66]] {
            let pool = MaxPool::quarters(plane);
            let elements = plane[0] * plane[1];
            let (mut x, mut found) =
                (numbers(40 * elements, 3), vec![f32::INFINITY; 40 * pool.windows[0] * pool.windows[1]]);
            x[elements + plane[1] + 1] = f32::NAN;
            x[2 * elements] = f32::NEG_INFINITY;

            pool.maxima(&x, &mut found, &in_turn);

            for (at, found) in found.iter().enumerate() {
                let (image, window) =
                    (at / (pool.windows[0] * pool.windows[1]), at % (pool.windows[0] * pool.windows[1]));
                let x = &x[image * elements..][..elements];
                let winner = pool.winner(x, [window / pool.windows[1], window % pool.windows[1]]).unwrap();
                assert_eq!(found.to_bits(), x[winner].to_bits(), "{plane:?}, {at}");
            }
        }
    }

    #[test]
    fn of_rectified_elements_those_above_zero_get_what_flows() {
        let pool = MaxPool {
            windows: [1, 3],
            kernel: [1, 2],
            strides: [1, 1],
            of_rectified: true,
            ..MaxPool::quarters([1, 4])
        };
        assert_eq!(gradient(pool, &[0.0, 0.0, 2.0, 0.0], &[1.0, 10.0, 100.0]), [0.0, 0.0, 110.0, 0.0]);
    }

    #[test]
    fn the_first_of_equals_gets_all_and_overlapping_windows_add_up() {
        let pool =
            MaxPool { windows: [1, 3], kernel: [1, 3], strides: [1, 2], before: [0, 1], ..MaxPool::quarters([1, 5]) };
        let dx = gradient(pool, &[1.0, 2.0, 2.0, 0.0, 0.0], &[1.0, 10.0, 100.0]);
        assert_eq!(dx, [0.0, 11.0, 0.0, 100.0, 0.0]);
    }

    #[test]
    fn dilated_windows_see_every_other_element() {
        let pool = MaxPool { windows: [1, 1], strides: [1, 1], dilations: [2, 2], ..MaxPool::quarters([3, 3]) };
        let dx = gradient(pool, &[0.0, 9.0, 1.0, 9.0, 9.0, 9.0, 2.0, 9.0, 1.5], &[3.0]);
        assert_eq!(dx, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0]);
    }
}
