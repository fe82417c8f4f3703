//! Sums over many elements: in single precision as far as that is exact enough, in one order on every processor.

/// Elements that are summed in single precision before their sum goes into double precision.
const RUN: usize = 4096;
const WIDTH: usize = 16;

/// The sum of `number` over pairs of elements, in as many running sums as a vector has elements.
#[inline(always)]
pub fn summed(left: &[f32], right: &[f32], number: impl Fn(f32, f32) -> f32) -> f64 {
    let mut total = 0.0;
    for (left, right) in left.chunks(RUN).zip(right.chunks(RUN)) {
        let mut sums = [0.0f32; WIDTH];
        let (left, left_rest) = left.as_chunks::<WIDTH>();
        let (right, right_rest) = right.as_chunks::<WIDTH>();
        for (left, right) in left.iter().zip(right) {
            for lane in 0..WIDTH {
                sums[lane] += number(left[lane], right[lane]);
            }
        }
        let rest: f32 = left_rest.iter().zip(right_rest).map(|(left, right)| number(*left, *right)).sum();
        total += sums.iter().map(|sum| f64::from(*sum)).sum::<f64>() + f64::from(rest);
    }
    total
}

#[inline(always)]
pub fn sum(elements: &[f32]) -> f64 {
    summed(elements, elements, |element, _| element)
}
