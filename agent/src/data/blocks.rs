//! Data sets that are read block by block: all of them into memory, or while training.

use std::sync::Arc;

use regatta_columns::check_size;
use regatta_schemas::recipe::{Data, DataFormat};

use super::error::DataError;
use super::images::Images;
use super::shards::Shards;
use super::store::Store;
use super::tokens::Tokens;
use super::{check_finite, normalize, split, target};
use crate::training::{Split, Stream, TrainingError};

/// Numbers of a block, about, where the format does not say how long one is.
const BLOCK_VALUES: usize = 4 * 1024 * 1024;

/// Blocks that a data set is cut into at least, so that a share of them can be kept for validation.
const BLOCKS_MIN: usize = 128;

/// Rows that the figures of a stream's normalisation come from, at least, where there are as many.
const MEASURED_ROWS: usize = 4096;

/// A data set in blocks, in the order of its rows or, where the file keeps like rows together, in a drawn one.
pub struct Blocks {
    kind: Kind,
    /// The first row of each block, counted over those that are read alike, and how many it has.
    spans: Vec<(usize, usize)>,
}

enum Kind {
    Tokens(Tokens),
    Images { images: Images, order: Vec<usize> },
    Shards(Box<Shards>),
}

impl Blocks {
    /// # Errors
    /// When the file is not of its format, or the format has no blocks.
    pub fn open(data: &Data, store: &Store) -> Result<Self, DataError> {
        let (kind, rows, width) = match data.format {
            DataFormat::Tokens => {
                let tokens = Tokens::open(data, store)?;
                (Kind::Tokens(tokens), tokens.rows(), tokens.length())
            }
            DataFormat::Images => {
                let images = Images::open(data, store)?;
                let (rows, width) = (images.rows(), images.row_width());
                (Kind::Images { images, order: split::shuffled(rows, data.split_seed) }, rows, width)
            }
            DataFormat::Shards => {
                let shards = Shards::open(data, store)?;
                // A part is read whole, wherever its rows begin.
                let spans = shards.rows().into_iter().map(|rows| (0, rows)).collect();
                return Ok(Self { kind: Kind::Shards(Box::new(shards)), spans });
            }
            DataFormat::Npz | DataFormat::Npy | DataFormat::Csv | DataFormat::Parquet => {
                return Err(DataError::NotStreamed { format: data.format });
            }
        };
        let block = (BLOCK_VALUES / width.max(1)).min(rows / BLOCKS_MIN).max(1);
        let spans = (0..rows).step_by(block).map(|first| (first, block.min(rows - first))).collect();
        Ok(Self { kind, spans })
    }

    /// Rows to train and to validate on, in memory.
    pub fn whole(&self, data: &Data, store: &Store) -> Result<(Split, Split), DataError> {
        let (validation, train) = match self.kind {
            // Neighbouring rows are alike: whole blocks are kept.
            Kind::Tokens(_) => split::parts(data, self.spans.len())?,
            Kind::Images { .. } | Kind::Shards(_) => {
                let all = self.several(store, &(0..self.spans.len()).collect::<Vec<_>>())?;
                let dataset = split::split(data, &all)?;
                return Ok((dataset.train, dataset.validation));
            }
        };
        Ok((self.several(store, &train)?, self.several(store, &validation)?))
    }

    /// Whole blocks are kept for validation; the others are read while training.
    pub fn stream(self, data: &Data, store: Arc<Store>) -> Result<Stream, DataError> {
        if self.spans.len() < 2 {
            return Err(DataError::OnePart);
        }
        let (kept, train) = split::parts(data, self.spans.len())?;
        let ignored = data.ignored;
        let figures = normalize::figures(data.normalize, &self.several(&store, self.measured(&train))?.features);
        let mut validation = self.several(&store, &kept)?;
        normalize::apply(&figures, &mut validation.features);
        let blocks = train.iter().map(|block| (*block, self.spans[*block].1)).collect();
        let read = move |block| {
            let mut split = self.block(&store, block).map_err(unreadable)?;
            normalize::apply(&figures, &mut split.features);
            Ok(split)
        };
        Ok(Stream::new(validation, blocks, Box::new(read)).ignoring(ignored))
    }

    /// The first of these blocks, until there are rows enough to measure.
    fn measured<'b>(&self, blocks: &'b [usize]) -> &'b [usize] {
        let mut rows = 0;
        let is_enough = |block: &usize| {
            rows += self.spans[*block].1;
            rows >= MEASURED_ROWS
        };
        let last = blocks.iter().position(is_enough).unwrap_or(blocks.len() - 1);
        &blocks[..=last]
    }

    fn several(&self, store: &Store, blocks: &[usize]) -> Result<Split, DataError> {
        let mut all: Option<Split> = None;
        let mut held = 0;
        for block in blocks {
            let split = self.block(store, *block)?;
            held += split.features.iter().map(|feature| feature.values.len() as u64).sum::<u64>();
            check_size(held, 1)?;
            match &mut all {
                None => all = Some(split),
                Some(all) if all.is_like(&split) => all.append(&split, &(0..split.rows()).collect::<Vec<_>>()),
                Some(_) => return Err(DataError::BlocksDiffer { block: *block }),
            }
        }
        all.ok_or(DataError::TooFewRows { rows: 0 })
    }

    fn block(&self, store: &Store, block: usize) -> Result<Split, DataError> {
        let (first, rows) = self.spans[block];
        let split = match &self.kind {
            Kind::Tokens(tokens) => tokens.read(store, first, rows)?,
            Kind::Images { images, order } => images.read(store, &order[first..first + rows])?,
            Kind::Shards(shards) => shards.read(store, block)?,
        };
        target::check_classes(&split.target)?;
        split.features.iter().try_for_each(check_finite)?;
        Ok(split)
    }
}

fn unreadable(error: DataError) -> TrainingError {
    TrainingError::Data { reason: error.to_string() }
}
