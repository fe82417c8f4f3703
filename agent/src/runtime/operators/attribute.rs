//! The attributes of an operator as sizes.

use ort::operator::KernelContext;

/// The numbers of the attribute `name`, or what they are where it is missing.
pub fn sizes<const LENGTH: usize>(
    context: &KernelContext<'_>,
    name: &str,
    default: &[i64],
) -> ort::Result<[usize; LENGTH]> {
    let sizes = list(context, name, default)?;
    sizes.as_slice().try_into().map_err(|_| ort::Error::new(format!("{name} {sizes:?} has not {LENGTH} numbers")))
}

/// As [`sizes`], of any length.
pub fn list(context: &KernelContext<'_>, name: &str, default: &[i64]) -> ort::Result<Vec<usize>> {
    let numbers: Vec<i64> = context.get(name).unwrap_or_else(|| default.to_vec());
    numbers.into_iter().map(|number| as_size(name, number)).collect()
}

/// The number of the attribute `name`, or what it is where it is missing.
pub fn size(context: &KernelContext<'_>, name: &str, default: i64) -> ort::Result<usize> {
    as_size(name, context.get(name).unwrap_or(default))
}

fn as_size(name: &str, number: i64) -> ort::Result<usize> {
    usize::try_from(number).map_err(|_| ort::Error::new(format!("{name}: {number} is no size")))
}
