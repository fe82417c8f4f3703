//! Batch normalisation by a batch's own statistics, forward and back: channel by channel, while a channel is in a cache.

use std::sync::Mutex;

use crate::sums::{sum, summed};
use crate::{InParallel, alone, floor, raised, vectorized};

/// A batch of `images` of `channels` planes of `plane` elements each.
#[derive(Debug, Clone, Copy)]
pub struct BatchNorm {
    pub images: usize,
    pub channels: usize,
    pub plane: usize,
}

/// What is kept of each channel: its mean, its unbiased variance, and one over its standard deviation.
pub struct Statistics<'a> {
    pub mean: &'a mut [f32],
    pub variance: &'a mut [f32],
    pub inverse: &'a mut [f32],
}

impl BatchNorm {
    /// `y = (x - mean) * inverse * scale + bias`, or zero where that is less and `rectifies`, with
    /// `inverse = 1 / sqrt(variance + epsilon)` of the biased variance.
    ///
    /// # Panics
    /// A slice has not as many elements as its shape; so for the gradient.
    pub fn forward(
        &self,
        (x, scale, bias): (&[f32], &[f32], &[f32]),
        (epsilon, rectifies): (f32, bool),
        y: &mut [f32],
        statistics: Statistics<'_>,
        each: InParallel<'_>,
    ) {
        let (kept, floor) = (Mutex::new(statistics), floor(rectifies));
        let planes: Vec<_> = y.chunks_mut(self.plane).map(Mutex::new).collect();
        each(self.channels, &|channel| {
            let count = self.count();
            let mean = self.sum(channel, |_, at| {
                vectorized(
                    #[inline(always)]
                    || sum(self.of(x, at)),
                )
            }) / count;
            let squares = |_, at| {
                vectorized(
                    #[inline(always)]
                    || sum_of_squares(self.of(x, at), mean as f32),
                )
            };
            let squares = self.sum(channel, squares);
            let inverse = 1.0 / (squares / count + f64::from(epsilon)).sqrt();
            let gain = (inverse * f64::from(scale[channel])) as f32;
            for image in 0..self.images {
                let at = image * self.channels + channel;
                let (x, mut y, mean, bias) = (self.of(x, at), alone(&planes[at]), mean as f32, bias[channel]);
                vectorized(
                    #[inline(always)]
                    || y.iter_mut().zip(x).for_each(|(y, x)| *y = raised((x - mean) * gain + bias, floor)),
                );
            }
            let mut kept = alone(&kept);
            kept.mean[channel] = mean as f32;
            kept.variance[channel] = (squares / (count - 1.0).max(1.0)) as f32;
            kept.inverse[channel] = inverse as f32;
        });
    }

    /// `dx = scale inverse (dy - mean(dy) - n mean(dy n))` with `n = (x - mean) inverse`; `dscale = sum(dy n)`;
    /// `dbias = sum(dy)`.
    pub fn gradient(
        &self,
        (dy, x, scale): (&[f32], &[f32], &[f32]),
        (mean, inverse): (&[f32], &[f32]),
        dx: &mut [f32],
        (dscale, dbias): (&mut [f32], &mut [f32]),
        each: InParallel<'_>,
    ) {
        let sums = Mutex::new((dscale, dbias));
        let planes: Vec<_> = dx.chunks_mut(self.plane).map(Mutex::new).collect();
        each(self.channels, &|channel| {
            let (mean, inverse) = (mean[channel], inverse[channel]);
            let total = self.sum(channel, |_, at| {
                vectorized(
                    #[inline(always)]
                    || sum(self.of(dy, at)),
                )
            });
            let product = |_, at| {
                vectorized(
                    #[inline(always)]
                    || sum_of_products(self.of(dy, at), self.of(x, at), mean),
                )
            };
            let along = self.sum(channel, product) * f64::from(inverse);
            let gain = scale[channel] * inverse;
            let level = (total / self.count()) as f32;
            let slope = (along / self.count() * f64::from(inverse)) as f32;
            for image in 0..self.images {
                let at = image * self.channels + channel;
                let (dy, x, mut dx) = (self.of(dy, at), self.of(x, at), alone(&planes[at]));
                vectorized(
                    #[inline(always)]
                    || {
                        for ((dx, dy), x) in dx.iter_mut().zip(dy).zip(x) {
                            *dx = (dy - level - (x - mean) * slope) * gain;
                        }
                    },
                );
            }
            let mut sums = alone(&sums);
            sums.0[channel] = along as f32;
            sums.1[channel] = total as f32;
        });
    }

    fn count(&self) -> f64 {
        (self.images * self.plane) as f64
    }

    fn of<'a>(&self, elements: &'a [f32], at: usize) -> &'a [f32] {
        &elements[at * self.plane..][..self.plane]
    }

    /// Over the planes of a channel.
    fn sum(&self, channel: usize, part: impl Fn(usize, usize) -> f64) -> f64 {
        (0..self.images).map(|image| part(image, image * self.channels + channel)).sum()
    }
}

#[inline(always)]
fn sum_of_squares(elements: &[f32], mean: f32) -> f64 {
    summed(elements, elements, |element, _| (element - mean) * (element - mean))
}

#[inline(always)]
fn sum_of_products(left: &[f32], right: &[f32], mean: f32) -> f64 {
    summed(left, right, |left, right| left * (right - mean))
}
