//! Tokens, one after the other: rows of `length` of them, each to be followed by the next.

use std::io::Read;

use regatta_columns::npy;
use regatta_schemas::limits::LIMITS;
use regatta_schemas::recipe::Data;

use super::error::DataError;
use super::store::Store;
use crate::training::{Feature, Split, Target, Values};

const FEATURE: &str = "tokens";

/// Where the tokens lie in a store, and how they are written.
#[derive(Debug, Clone, Copy)]
pub struct Tokens {
    start: u64,
    item: npy::Kind,
    count: u64,
    length: usize,
    /// One more than the greatest of them.
    vocabulary: usize,
}

impl Tokens {
    /// Reads all tokens once, in pieces, to find the vocabulary.
    pub fn open(data: &Data, store: &Store) -> Result<Self, DataError> {
        let length = data.length.filter(|length| *length > 0).ok_or(DataError::NoLength)? as usize;
        let (start, item, count) = match npy::describe(FEATURE, &mut store.whole()) {
            Ok(array) if array.shape.len() == 1 => (array.start, array.kind, array.shape[0]),
            Ok(array) => {
                return Err(DataError::NotTokens { reason: format!("the array has the shape {:?}", array.shape) });
            }
            // Without the mark of an array, it is raw.
            Err(_) if !npy::is_marked(store.whole()) => {
                if store.len() % 2 == 1 {
                    return Err(DataError::NotTokens { reason: "half a number is left over".into() });
                }
                (0, npy::Kind::U16, store.len() / 2)
            }
            Err(error) => return Err(error.into()),
        };
        let mut tokens = Self { start, item, count, length, vocabulary: 0 };
        if tokens.rows() < 2 {
            return Err(DataError::TooFewTokens { count, length });
        }
        tokens.vocabulary = tokens.count_vocabulary(store)?;
        Ok(tokens)
    }

    /// Tokens of a row.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The last token is only a target.
    pub fn rows(&self) -> usize {
        usize::try_from(self.count.saturating_sub(1) / self.length as u64).unwrap_or(usize::MAX)
    }

    /// `rows` rows from `first` on.
    pub fn read(&self, store: &Store, first: usize, rows: usize) -> Result<Split, DataError> {
        let tokens = self.stretch(store, first as u64 * self.length as u64, (rows * self.length) as u64 + 1)?;
        let feature = Feature {
            values: Values::I64(tokens[..tokens.len() - 1].to_vec()),
            vocabulary: vec![self.vocabulary],
            ..Feature::numbers(FEATURE, vec![self.length], Vec::new())
        };
        let labels = tokens[1..].to_vec();
        let target = Target::classes(labels, vec![self.length], self.vocabulary);
        Ok(Split { features: vec![feature], target })
    }

    fn count_vocabulary(&self, store: &Store) -> Result<usize, DataError> {
        const PIECE: u64 = 1 << 20;
        let mut greatest = 0;
        for first in (0..self.count).step_by(usize::try_from(PIECE).unwrap_or(usize::MAX)) {
            let tokens = self.stretch(store, first, PIECE.min(self.count - first))?;
            greatest = tokens.into_iter().fold(greatest, i64::max);
        }
        Ok(usize::try_from(greatest).unwrap_or(usize::MAX) + 1)
    }

    fn stretch(&self, store: &Store, first: u64, count: u64) -> Result<Vec<i64>, DataError> {
        let item = self.item.bytes() as u64;
        let mut bytes = Vec::new();
        let mut part = store.part(self.start + first * item, count * item);
        part.read_to_end(&mut bytes).map_err(|error| DataError::NotTokens { reason: error.to_string() })?;
        if bytes.len() as u64 != count * item {
            return Err(DataError::NotTokens { reason: "the file ends too early".into() });
        }
        let token = |(at, value): (usize, f64)| {
            let is_token = value.fract() == 0.0 && (0.0..LIMITS.vocabulary_max as f64).contains(&value);
            #[expect(clippy::cast_possible_truncation, reason = "a small whole number")]
            is_token.then_some(value as i64).ok_or(DataError::Token { at: first + at as u64, value })
        };
        self.item.numbers(&bytes).enumerate().map(token).collect()
    }
}
