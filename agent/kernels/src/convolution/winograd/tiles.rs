//! The transforms of Winograd's F(2x2, 3x3) on one plane: a tile of 4x4 inputs, 2x2 outputs.
//!
//! Each tile becomes 16 numbers, one in each of 16 rows that hold a number for every tile. Planes are small, so loops go
//! over few tiles: they are cut into runs whose lengths the compiler knows.

use super::{PLACES, Tiling};

/// How wide an image's plane is, and how many rows and columns of zeros lie before it.
#[derive(Clone, Copy)]
pub struct Plane {
    pub width: usize,
    pub top: usize,
    pub left: usize,
}

/// Sixteen rows, each beginning `length` numbers after the one before, of which a plane's tiles take those from `first`
/// on.
#[derive(Clone, Copy)]
pub struct Rows {
    pub length: usize,
    pub first: usize,
}

/// What is done for `N` neighbours at a time.
trait Along {
    fn run<const N: usize>(&mut self, first: usize);
}

#[inline(always)]
fn along(count: usize, mut pass: impl Along) {
    let mut first = 0;
    while first + 16 <= count {
        pass.run::<16>(first);
        first += 16;
    }
    if first + 8 <= count {
        pass.run::<8>(first);
        first += 8;
    }
    if first + 4 <= count {
        pass.run::<4>(first);
        first += 4;
    }
    for first in first..count {
        pass.run::<1>(first);
    }
}

#[inline(always)]
fn load<const N: usize>(from: &[f32], first: usize) -> [f32; N] {
    from[first..first + N].try_into().expect("the range has so many elements")
}

#[inline(always)]
fn store<const N: usize>(to: &mut [f32], first: usize, number: impl Fn(usize) -> f32) {
    let numbers: [f32; N] = std::array::from_fn(number);
    to[first..first + N].copy_from_slice(&numbers);
}

/// The area that the tiles of a plane cover, with zeros around the plane. A row has its even columns first, and from
/// `half` on its odd ones.
struct Area<'a> {
    numbers: &'a mut [f32],
    half: usize,
}

impl Area<'_> {
    fn copy(&mut self, image: &[f32], plane: Plane) {
        self.numbers.fill(0.0);
        let (half, left) = (self.half, plane.left / 2);
        let copied = plane.width.min((2 * half).saturating_sub(plane.left));
        let rows = image.chunks_exact(plane.width).zip(self.numbers.chunks_exact_mut(2 * half).skip(plane.top));
        for (row, to) in rows {
            let (even, odd) = to.split_at_mut(half);
            let (first, second) = if plane.left.is_multiple_of(2) {
                (&mut even[left..], &mut odd[left..])
            } else {
                (&mut odd[left..], &mut even[left + 1..])
            };
            along(copied / 2, Parted { row, first, second });
            if copied % 2 == 1 {
                first[copied / 2] = row[copied - 1];
            }
        }
    }
}

/// Every other element to each of two places.
struct Parted<'a> {
    row: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl Along for Parted<'_> {
    #[inline(always)]
    fn run<const N: usize>(&mut self, first: usize) {
        let pairs: [[f32; 2]; N] = std::array::from_fn(|at| load(self.row, 2 * (first + at)));
        store::<N>(self.first, first, |at| pairs[at][0]);
        store::<N>(self.second, first, |at| pairs[at][1]);
    }
}

/// `B' d` of four rows, or `A g` of two.
struct Down<'a, const ROWS: usize> {
    from: [&'a [f32]; ROWS],
    to: [&'a mut [f32]; 4],
}

impl Along for Down<'_, 4> {
    #[inline(always)]
    fn run<const N: usize>(&mut self, first: usize) {
        let [a, b, c, d]: [[f32; N]; 4] = self.from.map(|row| load(row, first));
        store::<N>(self.to[0], first, |at| a[at] - c[at]);
        store::<N>(self.to[1], first, |at| b[at] + c[at]);
        store::<N>(self.to[2], first, |at| c[at] - b[at]);
        store::<N>(self.to[3], first, |at| b[at] - d[at]);
    }
}

impl Along for Down<'_, 2> {
    #[inline(always)]
    fn run<const N: usize>(&mut self, first: usize) {
        let [a, b]: [[f32; N]; 2] = self.from.map(|row| load(row, first));
        store::<N>(self.to[0], first, |at| a[at]);
        store::<N>(self.to[1], first, |at| a[at] + b[at]);
        store::<N>(self.to[2], first, |at| a[at] - b[at]);
        store::<N>(self.to[3], first, |at| -b[at]);
    }
}

/// `B' d B` for every tile of inputs.
#[inline(always)]
pub fn of_inputs(image: &[f32], plane: Plane, tiling: Tiling, scratch: &mut Vec<f32>, to: &mut [f32], rows: Rows) {
    let (half, height) = (tiling.across + 1, 2 * tiling.down + 2);
    let width = 2 * half;
    scratch.resize((height + 4) * width, 0.0);
    let (area, sums) = scratch.split_at_mut(height * width);
    Area { numbers: area, half }.copy(image, plane);
    for tile_row in 0..tiling.down {
        let from = quarters(&area[2 * tile_row * width..][..4 * width], width);
        along(width, Down { from, to: quarters_mut(&mut sums[..4 * width], width) });
        let first = rows.first + tile_row * tiling.across;
        for (sums, to) in sums.chunks_exact(width).zip(to.chunks_exact_mut(4 * rows.length)) {
            let (even, odd) = sums.split_at(half);
            let from = [even, odd, &even[1..], &odd[1..]];
            let to = quarters_mut(to, rows.length).map(|row| &mut row[first..first + tiling.across]);
            along(tiling.across, Down { from, to });
        }
    }
}

/// `A g A'` for every tile of the outputs' gradients.
#[inline(always)]
pub fn of_gradients(image: &[f32], plane: Plane, tiling: Tiling, scratch: &mut Vec<f32>, to: &mut [f32], rows: Rows) {
    let (half, height) = (tiling.across, 2 * tiling.down);
    let width = 2 * half;
    scratch.resize((height + 4) * width, 0.0);
    let (area, sums) = scratch.split_at_mut(height * width);
    Area { numbers: area, half }.copy(image, plane);
    for tile_row in 0..tiling.down {
        let (above, below) = area[2 * tile_row * width..][..2 * width].split_at(width);
        along(width, Down { from: [above, below], to: quarters_mut(&mut sums[..4 * width], width) });
        let first = rows.first + tile_row * tiling.across;
        for (sums, to) in sums.chunks_exact(width).zip(to.chunks_exact_mut(4 * rows.length)) {
            let (even, odd) = sums.split_at(half);
            let to = quarters_mut(to, rows.length).map(|row| &mut row[first..first + tiling.across]);
            along(tiling.across, Down { from: [even, odd], to });
        }
    }
}

/// `A' m`: two rows from four.
struct Gathered<'a> {
    from: [&'a [f32]; 4],
    to: [&'a mut [f32]; 2],
}

impl Along for Gathered<'_> {
    #[inline(always)]
    fn run<const N: usize>(&mut self, first: usize) {
        let [a, b, c, d]: [[f32; N]; 4] = self.from.map(|row| load(row, first));
        store::<N>(self.to[0], first, |at| a[at] + b[at] + c[at]);
        store::<N>(self.to[1], first, |at| b[at] - c[at] - d[at]);
    }
}

/// `(A' m) A` and the bias: a row of outputs, of which each tile has two.
struct Outputs<'a> {
    from: [&'a [f32]; 4],
    bias: f32,
    to: &'a mut [f32],
}

impl Along for Outputs<'_> {
    #[inline(always)]
    fn run<const N: usize>(&mut self, first: usize) {
        let [a, b, c, d]: [[f32; N]; 4] = self.from.map(|row| load(row, first));
        let even: [f32; N] = std::array::from_fn(|at| self.bias + a[at] + b[at] + c[at]);
        let odd: [f32; N] = std::array::from_fn(|at| self.bias + b[at] - c[at] - d[at]);
        let to = &mut self.to[2 * first..][..2 * N];
        for (at, pair) in to.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            *pair = [even[at], odd[at]];
        }
    }
}

/// `A' m A` and the bias, for every tile of outputs. `from` are the sixteen rows of one channel.
#[inline(always)]
pub fn to_outputs(
    from: &[&[f32]; PLACES],
    first: usize,
    bias: f32,
    tiling: Tiling,
    scratch: &mut Vec<f32>,
    image: &mut [f32],
    (height, width): (usize, usize),
) {
    let count = tiling.across;
    scratch.resize(10 * count, 0.0);
    let (sums, out) = scratch.split_at_mut(8 * count);
    for tile_row in 0..tiling.down {
        let at = first + tile_row * count;
        for (column, sums) in sums.chunks_exact_mut(2 * count).enumerate() {
            let from = [0, 4, 8, 12].map(|place| &from[place + column][at..at + count]);
            let (above, below) = sums.split_at_mut(count);
            along(count, Gathered { from, to: [above, below] });
        }
        for half in 0..2 {
            let y = 2 * tile_row + half;
            if y < height {
                let from = [0, 2, 4, 6].map(|column| &sums[(column + half) * count..][..count]);
                along(count, Outputs { from, bias, to: &mut out[..2 * count] });
                image[y * width..][..width].copy_from_slice(&out[..width]);
            }
        }
    }
}

fn quarters(of: &[f32], length: usize) -> [&[f32]; 4] {
    let (first, rest) = of.split_at(length);
    let (second, rest) = rest.split_at(length);
    let (third, fourth) = rest.split_at(length);
    [first, second, third, &fourth[..length]]
}

fn quarters_mut(of: &mut [f32], length: usize) -> [&mut [f32]; 4] {
    let (first, rest) = of.split_at_mut(length);
    let (second, rest) = rest.split_at_mut(length);
    let (third, fourth) = rest.split_at_mut(length);
    [first, second, third, &mut fourth[..length]]
}
