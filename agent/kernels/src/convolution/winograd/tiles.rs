//! The transforms of one channel's tiles, each of `T` x `T` inputs and `M` x `M` outputs, for the planes of a block of
//! images together.
//!
//! Each tile becomes `T` x `T` numbers, one in each of as many rows that hold a number for every tile. Planes are small,
//! so those of a block lie side by side: loops go along a row of tiles of all of them.

use std::array::from_fn;
use std::marker::PhantomData;
use std::ops::DerefMut;

use super::Tiling;
use super::scheme::{Lanes, Scheme};
use crate::raised;

/// How wide a plane is, and how many rows and columns of zeros lie before it.
#[derive(Clone, Copy)]
pub struct Plane {
    pub width: usize,
    pub top: usize,
    pub left: usize,
}

/// The planes of one channel, of so many images.
#[derive(Clone, Copy)]
pub struct Images<'a> {
    /// From the first plane on.
    pub numbers: &'a [f32],
    /// Elements of a plane, and from one image's to the next.
    pub plane: usize,
    pub step: usize,
    pub count: usize,
}

impl<'a> Images<'a> {
    #[inline(always)]
    fn plane(self, position: usize) -> &'a [f32] {
        &self.numbers[position * self.step..][..self.plane]
    }
}

/// What is done for `N` neighbours at a time.
pub trait Along {
    fn run<const N: usize>(&mut self, first: usize);
}

#[inline(always)]
pub fn along(count: usize, pass: &mut impl Along) {
    let mut first = 0;
    while first + 8 <= count {
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
fn load<const N: usize>(from: &[f32], first: usize) -> Lanes<N> {
    Lanes(from[first..first + N].try_into().expect("the range has so many elements"))
}

#[inline(always)]
fn store<const N: usize>(to: &mut [f32], first: usize, Lanes(numbers): Lanes<N>) {
    to[first..first + N].copy_from_slice(&numbers);
}

#[inline(always)]
fn load_each<const N: usize, const COUNT: usize>(from: &[&[f32]; COUNT], first: usize) -> [Lanes<N>; COUNT] {
    let mut loaded = [Lanes([0.0; N]); COUNT];
    for at in 0..COUNT {
        loaded[at] = load(from[at], first);
    }
    loaded
}

#[inline(always)]
fn store_each<const N: usize, const COUNT: usize>(
    to: &mut [&mut [f32]; COUNT],
    first: usize,
    numbers: [Lanes<N>; COUNT],
) {
    for at in 0..COUNT {
        store(to[at], first, numbers[at]);
    }
}

/// Slices of one length, one behind the other.
#[inline(always)]
fn parts<const COUNT: usize>(of: &[f32], length: usize) -> [&[f32]; COUNT] {
    from_fn(|at| &of[at * length..][..length])
}

#[inline(always)]
fn parts_mut<const COUNT: usize>(of: &mut [f32], length: usize) -> [&mut [f32]; COUNT] {
    let mut parts = of.chunks_exact_mut(length);
    from_fn(|_| parts.next().expect("there are as many parts"))
}

/// The area that the tiles of planes cover, with zeros around each plane. A row is parted: first every `M`-th column, then
/// those behind them, and so on, `part` of each.
struct Area<'a, const M: usize> {
    numbers: &'a mut [f32],
    part: usize,
}

impl<const M: usize> Area<'_, M> {
    /// A plane to its place, of `room` elements of every part, from `first` on.
    #[inline(always)]
    fn copy(&mut self, image: &[f32], plane: Plane, (first, room): (usize, usize)) {
        let part = self.part;
        let copied = plane.width.min((M * room).saturating_sub(plane.left));
        let rows = image.chunks_exact(plane.width).zip(self.numbers.chunks_exact_mut(M * part).skip(plane.top));
        for (row, to) in rows {
            let mut all = parts_mut::<M>(to, part).map(Some);
            let to: [&mut [f32]; M] = from_fn(|at| {
                let column = plane.left + at;
                let whole = all[column % M].take().expect("each part is taken once");
                &mut whole[first + column / M..]
            });
            let whole = copied / M;
            let mut pass = Parted { row, to };
            along(whole, &mut pass);
            for (at, to) in pass.to.iter_mut().enumerate().take(copied % M) {
                to[whole] = row[M * whole + at];
            }
        }
    }
}

/// Every `M`-th element to each of `M` places.
struct Parted<'a, const M: usize> {
    row: &'a [f32],
    to: [&'a mut [f32]; M],
}

impl<const M: usize> Along for Parted<'_, M> {
    #[inline(always)]
    fn run<const N: usize>(&mut self, first: usize) {
        let row = &self.row[M * first..][..M * N];
        for column in 0..M {
            let mut numbers = Lanes([0.0; N]);
            for at in 0..N {
                numbers.0[at] = row[M * at + column];
            }
            store(self.to[column], first, numbers);
        }
    }
}

/// `B' d` along one axis.
struct Inputs<'a, S, const M: usize, const T: usize> {
    scheme: PhantomData<S>,
    from: [&'a [f32]; T],
    to: [&'a mut [f32]; T],
}

impl<S: Scheme<M, T>, const M: usize, const T: usize> Along for Inputs<'_, S, M, T> {
    #[inline(always)]
    fn run<const N: usize>(&mut self, first: usize) {
        let numbers = S::of_inputs(load_each::<N, _>(&self.from, first));
        store_each(&mut self.to, first, numbers);
    }
}

/// `A g` along one axis.
struct Gradients<'a, S, const M: usize, const T: usize> {
    scheme: PhantomData<S>,
    from: [&'a [f32]; M],
    to: [&'a mut [f32]; T],
}

impl<S: Scheme<M, T>, const M: usize, const T: usize> Along for Gradients<'_, S, M, T> {
    #[inline(always)]
    fn run<const N: usize>(&mut self, first: usize) {
        let numbers = S::of_gradients(load_each::<N, _>(&self.from, first));
        store_each(&mut self.to, first, numbers);
    }
}

/// `B' d B` for every tile of inputs. `to` are rows of `length` numbers each.
#[inline(always)]
pub fn of_inputs<S: Scheme<M, T>, const M: usize, const T: usize>(
    images: Images<'_>,
    plane: Plane,
    tiling: Tiling,
    scratch: &mut Vec<f32>,
    to: &mut [f32],
    length: usize,
) {
    // One element more, for what the last tile of all takes of its neighbour.
    let (count, height) = (tiling.along(images.count), M * tiling.down + T - M);
    let part = count + 1;
    let width = M * part;
    scratch.clear();
    scratch.resize((height + T) * width, 0.0);
    let (area, sums) = scratch.split_at_mut(height * width);
    for position in 0..images.count {
        let place = (tiling.along(position), tiling.along(1));
        Area::<M> { numbers: area, part }.copy(images.plane(position), plane, place);
    }
    for tile_row in 0..tiling.down {
        let from = parts(&area[M * tile_row * width..], width);
        along(width, &mut Inputs::<S, M, T> { scheme: PhantomData, from, to: parts_mut(sums, width) });
        let first = tile_row * count;
        for (sums, to) in sums.chunks_exact(width).zip(to.chunks_exact_mut(T * length)) {
            let from = from_fn(|column| &sums[column % M * part..][..part][column / M..]);
            let to = parts_mut::<T>(to, length).map(|row| &mut row[first..first + count]);
            along(count, &mut Inputs::<S, M, T> { scheme: PhantomData, from, to });
        }
    }
}

/// `A g A'` for every tile of the outputs' gradients; zeros for what lies between two planes.
#[inline(always)]
pub fn of_gradients<S: Scheme<M, T>, const M: usize, const T: usize>(
    images: Images<'_>,
    plane: Plane,
    tiling: Tiling,
    scratch: &mut Vec<f32>,
    to: &mut [f32],
    length: usize,
) {
    let (part, height) = (tiling.along(images.count), M * tiling.down);
    let width = M * part;
    scratch.clear();
    scratch.resize((height + T) * width, 0.0);
    let (area, sums) = scratch.split_at_mut(height * width);
    for position in 0..images.count {
        Area::<M> { numbers: area, part }.copy(images.plane(position), plane, (tiling.along(position), tiling.across));
    }
    for tile_row in 0..tiling.down {
        let from = parts(&area[M * tile_row * width..], width);
        along(width, &mut Gradients::<S, M, T> { scheme: PhantomData, from, to: parts_mut(sums, width) });
        let first = tile_row * part;
        for (sums, to) in sums.chunks_exact(width).zip(to.chunks_exact_mut(T * length)) {
            let to = parts_mut::<T>(to, length).map(|row| &mut row[first..first + part]);
            along(part, &mut Gradients::<S, M, T> { scheme: PhantomData, from: parts(sums, part), to });
        }
    }
}

/// `A' m`: `M` rows from `T`.
struct Gathered<'a, S, const M: usize, const T: usize> {
    scheme: PhantomData<S>,
    from: [&'a [f32]; T],
    to: [&'a mut [f32]; M],
}

impl<S: Scheme<M, T>, const M: usize, const T: usize> Along for Gathered<'_, S, M, T> {
    #[inline(always)]
    fn run<const N: usize>(&mut self, first: usize) {
        let numbers = S::to_outputs(load_each::<N, _>(&self.from, first));
        store_each(&mut self.to, first, numbers);
    }
}

/// `(A' m) A` and the bias, but at least the floor: a row of outputs, of which each tile has `M`.
struct Outputs<'a, S, const M: usize, const T: usize> {
    scheme: PhantomData<S>,
    from: [&'a [f32]; T],
    bias: f32,
    /// What outputs are at least.
    floor: f32,
    to: &'a mut [f32],
}

impl<S: Scheme<M, T>, const M: usize, const T: usize> Along for Outputs<'_, S, M, T> {
    #[inline(always)]
    fn run<const N: usize>(&mut self, first: usize) {
        let numbers = S::to_outputs(load_each::<N, _>(&self.from, first));
        let to = &mut self.to[M * first..][..M * N];
        for at in 0..N {
            for column in 0..M {
                to[M * at + column] = raised(self.bias + numbers[column].0[at], self.floor);
            }
        }
    }
}

/// `A' m A` and the bias, but at least the floor, for every tile of outputs. `row` gives the rows of one channel by their
/// numbers.
#[inline(always)]
pub fn to_outputs<'a, S: Scheme<M, T>, const M: usize, const T: usize>(
    row: impl Fn(usize) -> &'a [f32],
    (bias, floor): (f32, f32),
    tiling: Tiling,
    scratch: &mut Vec<f32>,
    images: &mut [impl DerefMut<Target = &'a mut [f32]>],
    (height, width): (usize, usize),
) {
    let count = tiling.along(images.len());
    scratch.resize((T + 1) * M * count, 0.0);
    let (sums, out) = scratch.split_at_mut(T * M * count);
    for tile_row in 0..tiling.down {
        let at = tile_row * count;
        for (column, sums) in sums.chunks_exact_mut(M * count).enumerate() {
            let from = from_fn(|place| &row(T * place + column)[at..at + count]);
            along(count, &mut Gathered::<S, M, T> { scheme: PhantomData, from, to: parts_mut(sums, count) });
        }
        for line in 0..M.min(height - M * tile_row) {
            let from = from_fn(|column| &sums[(column * M + line) * count..][..count]);
            along(count, &mut Outputs::<S, M, T> { scheme: PhantomData, from, bias, floor, to: out });
            let y = M * tile_row + line;
            for (position, image) in images.iter_mut().enumerate() {
                image[y * width..][..width].copy_from_slice(&out[M * tiling.along(position)..][..width]);
            }
        }
    }
}
