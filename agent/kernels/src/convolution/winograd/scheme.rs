//! The transforms of Winograd's F(2x2, 3x3) and F(4x4, 3x3) along one axis (Lavin and Gray, 2016), for as many tiles at a
//! time as there are lanes.

use std::ops::{Add, Mul, Sub};

/// One number of each of `N` tiles. Loops, and no functions of the standard library over arrays: what is not inlined is
/// not compiled for the processor's widest vectors.
#[derive(Debug, Clone, Copy)]
pub struct Lanes<const N: usize>(pub [f32; N]);

impl<const N: usize> Add for Lanes<N> {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        let mut sum = self;
        for at in 0..N {
            sum.0[at] += other.0[at];
        }
        sum
    }
}

impl<const N: usize> Sub for Lanes<N> {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        let mut rest = self;
        for at in 0..N {
            rest.0[at] -= other.0[at];
        }
        rest
    }
}

impl<const N: usize> Mul<Lanes<N>> for f32 {
    type Output = Lanes<N>;

    #[inline(always)]
    fn mul(self, lanes: Lanes<N>) -> Lanes<N> {
        let mut product = lanes;
        for at in 0..N {
            product.0[at] *= self;
        }
        product
    }
}

/// Tiles of `T` inputs, which give `M` outputs, along each axis.
pub trait Scheme<const M: usize, const T: usize> {
    /// `B' d`.
    fn of_inputs<const N: usize>(d: [Lanes<N>; T]) -> [Lanes<N>; T];
    /// `A g`.
    fn of_gradients<const N: usize>(g: [Lanes<N>; M]) -> [Lanes<N>; T];
    /// `A' m`.
    fn to_outputs<const N: usize>(m: [Lanes<N>; T]) -> [Lanes<N>; M];
    /// `G w`.
    fn of_weights<const N: usize>(w: [Lanes<N>; 3]) -> [Lanes<N>; T];
    /// `G' s`.
    fn to_weights<const N: usize>(s: [Lanes<N>; T]) -> [Lanes<N>; 3];
}

/// 16 products for four outputs, where the plain way takes 36.
pub struct Small;

impl Scheme<2, 4> for Small {
    #[inline(always)]
    fn of_inputs<const N: usize>([a, b, c, d]: [Lanes<N>; 4]) -> [Lanes<N>; 4] {
        [a - c, b + c, c - b, b - d]
    }

    #[inline(always)]
    fn of_gradients<const N: usize>([a, b]: [Lanes<N>; 2]) -> [Lanes<N>; 4] {
        [a, a + b, a - b, -1.0 * b]
    }

    #[inline(always)]
    fn to_outputs<const N: usize>([a, b, c, d]: [Lanes<N>; 4]) -> [Lanes<N>; 2] {
        [a + b + c, b - c - d]
    }

    #[inline(always)]
    fn of_weights<const N: usize>([a, b, c]: [Lanes<N>; 3]) -> [Lanes<N>; 4] {
        [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c]
    }

    #[inline(always)]
    fn to_weights<const N: usize>([a, b, c, d]: [Lanes<N>; 4]) -> [Lanes<N>; 3] {
        [a + 0.5 * (b + c), 0.5 * (b - c), 0.5 * (b + c) + d]
    }
}

/// 36 products for sixteen outputs, where the plain way takes 144; in single precision it has a digit less.
pub struct Large;

impl Scheme<4, 6> for Large {
    #[inline(always)]
    fn of_inputs<const N: usize>([a, b, c, d, e, f]: [Lanes<N>; 6]) -> [Lanes<N>; 6] {
        let (even, odd) = (e - 4.0 * c, d - 4.0 * b);
        let (near, far) = (e - c, 2.0 * (d - b));
        [4.0 * (a - c) - c + e, even + odd, even - odd, near + far, near - far, 4.0 * (b - d) - d + f]
    }

    #[inline(always)]
    fn of_gradients<const N: usize>([a, b, c, d]: [Lanes<N>; 4]) -> [Lanes<N>; 6] {
        let (even, odd) = (a + c, b + d);
        let (far_even, far_odd) = (a + 4.0 * c, 2.0 * b + 8.0 * d);
        [a, even + odd, even - odd, far_even + far_odd, far_even - far_odd, d]
    }

    #[inline(always)]
    fn to_outputs<const N: usize>([a, b, c, d, e, f]: [Lanes<N>; 6]) -> [Lanes<N>; 4] {
        let (near, near_off, far, far_off) = (b + c, b - c, d + e, d - e);
        [a + near + far, near_off + 2.0 * far_off, near + 4.0 * far, near_off + 8.0 * far_off + f]
    }

    #[inline(always)]
    fn of_weights<const N: usize>([a, b, c]: [Lanes<N>; 3]) -> [Lanes<N>; 6] {
        let (near, near_odd) = (SIXTH * (a + c), SIXTH * b);
        let (far, far_odd) = (0.25 * SIXTH * a + SIXTH * c, 0.5 * SIXTH * b);
        [0.25 * a, -1.0 * (near + near_odd), near_odd - near, far + far_odd, far - far_odd, c]
    }

    #[inline(always)]
    fn to_weights<const N: usize>([a, b, c, d, e, f]: [Lanes<N>; 6]) -> [Lanes<N>; 3] {
        let (near, far) = (SIXTH * (b + c), SIXTH * (d + e));
        [0.25 * a - near + 0.25 * far, SIXTH * (c - b) + 0.5 * SIXTH * (d - e), far - near + f]
    }
}

const SIXTH: f32 = 1.0 / 6.0;
