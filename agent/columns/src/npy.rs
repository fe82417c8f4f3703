//! One array in NumPy's file format (numpy.lib.format, versions 1 to 3), as numbers in row-major order.
//!
//! The header is read here, strictly, because it comes from strangers: a general reader of Python literals
//! multiplies whatever sizes it finds, and recurses as deep as it is asked to.

use std::io::Read;

use super::check_size;
use super::error::FileError;

const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy itself writes some 118 bytes.
const HEADER_BYTES_MAX: u64 = 4096;

/// Values in row-major order. The first axis counts rows.
pub struct Array {
    pub rows: usize,
    /// Of one row.
    pub shape: Vec<usize>,
    kind: Kind,
    bytes: Vec<u8>,
}

impl Array {
    /// Values of one row.
    pub fn width(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn numbers(&self) -> impl Iterator<Item = f64> {
        self.kind.numbers(&self.bytes)
    }

    /// Its numbers, where they have eight bits and no sign.
    ///
    /// # Errors
    /// The array itself, where it holds others.
    pub fn into_bytes(self) -> Result<Vec<u8>, Self> {
        match (self.kind.letter, self.kind.bytes) {
            (b'u', 1) => Ok(self.bytes),
            _ => Err(self),
        }
    }
}

struct Header {
    descr: String,
    is_fortran: bool,
    shape: Vec<u64>,
}

/// What an array's header says.
pub struct Description {
    pub kind: Kind,
    pub shape: Vec<u64>,
    /// Bytes before the first number.
    pub start: u64,
    is_fortran: bool,
}

/// How one number is written.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    letter: u8,
    bytes: usize,
    is_big_endian: bool,
}

impl Kind {
    /// Little-endian, without a sign.
    pub const U16: Self = Self { letter: b'u', bytes: 2, is_big_endian: false };

    pub fn bytes(self) -> usize {
        self.bytes
    }

    pub fn numbers(self, bytes: &[u8]) -> impl Iterator<Item = f64> {
        bytes.chunks_exact(self.bytes).map(move |item| number(self, item))
    }
}

/// Whether it begins as an array does.
pub fn is_marked(mut from: impl Read) -> bool {
    let mut start = [0; MAGIC.len()];
    from.read_exact(&mut start).is_ok() && start == MAGIC
}

/// Reads the header, up to the first number.
///
/// # Errors
/// When it is no such array.
pub fn describe(name: &str, from: &mut impl Read) -> Result<Description, FileError> {
    let bad = |reason: &str| FileError::BadArray { name: name.to_owned(), reason: reason.to_owned() };
    let (text, start) = header_text(from).map_err(|reason| bad(&reason))?;
    let header = header(&text).ok_or_else(|| bad("its header is malformed"))?;
    let kind = kind(&header.descr)
        .ok_or_else(|| FileError::ArrayType { name: name.to_owned(), descr: header.descr.clone() })?;
    Ok(Description { kind, shape: header.shape, start, is_fortran: header.is_fortran })
}

/// # Errors
/// When it is not such an array, is too large, or ends too early.
pub fn read(name: &str, mut from: impl Read) -> Result<Array, FileError> {
    let bad = |reason: &str| FileError::BadArray { name: name.to_owned(), reason: reason.to_owned() };
    let Description { kind, shape, is_fortran, .. } = describe(name, &mut from)?;
    let rows = shape.first().copied().unwrap_or(0);
    let width = shape.iter().skip(1).try_fold(1_u64, |width, length| width.checked_mul(*length));
    let width = width.ok_or(FileError::TooLarge { rows, width: u64::MAX })?;
    if rows == 0 || width == 0 {
        return Err(FileError::EmptyArray { name: name.to_owned(), shape });
    }
    check_size(rows, width)?;
    let bytes_max = rows * width * kind.bytes as u64;
    let mut bytes = Vec::new();
    from.take(bytes_max).read_to_end(&mut bytes).map_err(|error| bad(&error.to_string()))?;
    if bytes.len() as u64 != bytes_max {
        return Err(bad(&format!("it ends after {} of {bytes_max} bytes", bytes.len())));
    }
    let length = |length: &u64| usize::try_from(*length).unwrap_or(usize::MAX);
    let lengths: Vec<usize> = shape.iter().map(length).collect();
    let bytes = if is_fortran { row_major(&bytes, kind.bytes, &lengths) } else { bytes };
    Ok(Array { rows: lengths[0], shape: lengths[1..].to_vec(), kind, bytes })
}

/// The header's text, and all bytes up to its end.
fn header_text(from: &mut impl Read) -> Result<(String, u64), String> {
    let mut start = [0; 8];
    from.read_exact(&mut start).map_err(|_| "it is too short".to_owned())?;
    let length_bytes = match (start.starts_with(MAGIC), start[6]) {
        (true, 1) => 2,
        (true, 2 | 3) => 4,
        (true, version) => return Err(format!("it is of version {version}")),
        (false, _) => return Err("it does not begin as an array does".to_owned()),
    };
    let mut length = [0; 4];
    from.read_exact(&mut length[..length_bytes]).map_err(|_| "it is too short".to_owned())?;
    let length = u64::from(u32::from_le_bytes(length));
    if length > HEADER_BYTES_MAX {
        return Err(format!("its header has {length} bytes, more than {HEADER_BYTES_MAX}"));
    }
    let mut text = String::new();
    from.take(length).read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok((text, (start.len() + length_bytes) as u64 + length))
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`
fn header(text: &str) -> Option<Header> {
    let after = |key: &str| Some(text.split_once(&format!("'{key}'"))?.1.trim_start().strip_prefix(':')?.trim_start());
    let descr = after("descr")?;
    let descr = match descr.strip_prefix('\'') {
        Some(rest) => rest.split_once('\'')?.0,
        None => descr.split_once(']').map_or(descr, |(fields, _)| fields), // a record: refused by its name
    };
    let order = after("fortran_order")?;
    let is_fortran = order.starts_with("True");
    if !is_fortran && !order.starts_with("False") {
        return None;
    }
    let lengths = after("shape")?.strip_prefix('(')?.split_once(')')?.0;
    let lengths = lengths.split(',').map(str::trim).filter(|length| !length.is_empty());
    let shape = lengths.map(|length| length.trim_end_matches('L').parse().ok()).collect::<Option<Vec<u64>>>()?;
    (shape.len() <= 32).then(|| Header { descr: descr.to_owned(), is_fortran, shape })
}

fn kind(descr: &str) -> Option<Kind> {
    let &[order, letter, digit] = descr.as_bytes() else { return None };
    let bytes = usize::from(digit.checked_sub(b'0')?);
    let is_known = match letter {
        b'b' => bytes == 1,
        b'i' | b'u' => matches!(bytes, 1 | 2 | 4 | 8),
        b'f' => matches!(bytes, 4 | 8),
        _ => false,
    };
    let is_order = matches!(order, b'<' | b'>') || (matches!(order, b'|' | b'=') && bytes == 1);
    (is_known && is_order).then_some(Kind { letter, bytes, is_big_endian: order == b'>' })
}

/// The number in one item's bytes.
#[expect(clippy::cast_precision_loss, reason = "numbers of more than 53 bits are rounded")]
fn number(kind: Kind, item: &[u8]) -> f64 {
    let mut bytes = [0; 8];
    bytes[..item.len()].copy_from_slice(item);
    if kind.is_big_endian {
        bytes[..item.len()].reverse();
    }
    let bits = u64::from_le_bytes(bytes);
    let unused = 64 - 8 * u32::try_from(item.len()).unwrap_or(8);
    match (kind.letter, kind.bytes) {
        (b'b', _) => f64::from(u8::from(bits != 0)),
        (b'i', _) => ((bits << unused).cast_signed() >> unused) as f64,
        (b'f', 4) => f64::from(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
        (b'f', _) => f64::from_bits(bits),
        _ => bits as f64,
    }
}

/// Column-major values, in which the first index runs fastest, in row-major order.
fn row_major(bytes: &[u8], item: usize, lengths: &[usize]) -> Vec<u8> {
    let mut index = vec![0_usize; lengths.len()];
    let mut strides = vec![item; lengths.len()];
    for axis in 1..lengths.len() {
        strides[axis] = strides[axis - 1] * lengths[axis - 1];
    }
    let mut ordered = Vec::with_capacity(bytes.len());
    while ordered.len() < bytes.len() {
        let at: usize = index.iter().zip(&strides).map(|(at, stride)| at * stride).sum();
        ordered.extend_from_slice(&bytes[at..at + item]);
        for axis in (0..lengths.len()).rev() {
            index[axis] += 1;
            if index[axis] < lengths[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    ordered
}
