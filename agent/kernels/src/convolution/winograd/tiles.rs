//! The transforms of Winograd's F(2x2, 3x3) on one plane: a tile of 4x4 inputs, 2x2 outputs.
//!
//! Each tile becomes 16 numbers, one in each of 16 rows that hold a number for every tile.

use super::{PLACES, Tiling};

/// An image's plane of `height` x `width`, and how many rows and columns of zeros lie before it.
#[derive(Clone, Copy)]
pub struct Plane {
    pub height: usize,
    pub width: usize,
    pub top: usize,
    pub left: usize,
}

/// Sixteen rows of `length` numbers, of which a plane's tiles take those from `first` on.
#[derive(Clone, Copy)]
pub struct Rows {
    pub length: usize,
    pub first: usize,
}

/// Copies a plane into its tiles' area, zeros around it.
fn padded(image: &[f32], plane: Plane, height: usize, width: usize, to: &mut [f32]) {
    to.fill(0.0);
    let copied = plane.width.min(width.saturating_sub(plane.left));
    for y in 0..plane.height.min(height.saturating_sub(plane.top)) {
        let from = &image[y * plane.width..][..copied];
        to[(y + plane.top) * width + plane.left..][..copied].copy_from_slice(from);
    }
}

/// `B' d B` for every tile of inputs.
#[inline(always)]
pub fn of_inputs(image: &[f32], plane: Plane, tiling: Tiling, scratch: &mut Vec<f32>, to: &mut [f32], rows: Rows) {
    let (width, height) = (2 * tiling.across + 2, 2 * tiling.down + 2);
    scratch.resize((height + 4) * width, 0.0);
    let (area, sums) = scratch.split_at_mut(height * width);
    padded(image, plane, height, width, area);
    for tile_row in 0..tiling.down {
        let d = quarters(&area[2 * tile_row * width..][..4 * width], width);
        let [r0, r1, r2, r3] = quarters_mut(&mut sums[..4 * width], width);
        for x in 0..width {
            r0[x] = d[0][x] - d[2][x];
            r1[x] = d[1][x] + d[2][x];
            r2[x] = d[2][x] - d[1][x];
            r3[x] = d[1][x] - d[3][x];
        }
        let (first, count) = (rows.first + tile_row * tiling.across, tiling.across);
        for (sums, to) in sums.chunks_exact(width).zip(to.chunks_exact_mut(4 * rows.length)) {
            let [v0, v1, v2, v3] = quarters_mut(to, rows.length).map(|row| &mut row[first..first + count]);
            for t in 0..count {
                let (a, b, c, d) = (sums[2 * t], sums[2 * t + 1], sums[2 * t + 2], sums[2 * t + 3]);
                v0[t] = a - c;
                v1[t] = b + c;
                v2[t] = c - b;
                v3[t] = b - d;
            }
        }
    }
}

/// `A g A'` for every tile of the outputs' gradients.
#[inline(always)]
pub fn of_gradients(image: &[f32], plane: Plane, tiling: Tiling, scratch: &mut Vec<f32>, to: &mut [f32], rows: Rows) {
    let (width, height) = (2 * tiling.across, 2 * tiling.down);
    scratch.resize((height + 4) * width, 0.0);
    let (area, sums) = scratch.split_at_mut(height * width);
    padded(image, plane, height, width, area);
    for tile_row in 0..tiling.down {
        let (d0, d1) = area[2 * tile_row * width..][..2 * width].split_at(width);
        let [r0, r1, r2, r3] = quarters_mut(&mut sums[..4 * width], width);
        for x in 0..width {
            r0[x] = d0[x];
            r1[x] = d0[x] + d1[x];
            r2[x] = d0[x] - d1[x];
            r3[x] = -d1[x];
        }
        let (first, count) = (rows.first + tile_row * tiling.across, tiling.across);
        for (sums, to) in sums.chunks_exact(width).zip(to.chunks_exact_mut(4 * rows.length)) {
            let [v0, v1, v2, v3] = quarters_mut(to, rows.length).map(|row| &mut row[first..first + count]);
            for t in 0..count {
                let (a, b) = (sums[2 * t], sums[2 * t + 1]);
                v0[t] = a;
                v1[t] = a + b;
                v2[t] = a - b;
                v3[t] = -b;
            }
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
            let [a, b, c, d] = [0, 4, 8, 12].map(|place| &from[place + column][at..at + count]);
            let (s0, s1) = sums.split_at_mut(count);
            for t in 0..count {
                s0[t] = a[t] + b[t] + c[t];
                s1[t] = b[t] - c[t] - d[t];
            }
        }
        for half in 0..2 {
            let [a, b, c, d] = [0, 2, 4, 6].map(|column| &sums[(column + half) * count..][..count]);
            for t in 0..count {
                out[2 * t] = bias + a[t] + b[t] + c[t];
                out[2 * t + 1] = bias + b[t] - c[t] - d[t];
            }
            let y = 2 * tile_row + half;
            if y < height {
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
