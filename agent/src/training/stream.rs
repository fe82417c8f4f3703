//! Rows that are too many for memory: read in blocks while training, shuffled, ahead of the steps.
//!
//! The blocks of an epoch come in an order of their own, and the rows of a few neighbouring ones are mixed. Both
//! follow from the trial's seed and the epoch alone, so a resumed training sees the rows that it would have seen.
//! It knows no file: how a block is read is for others to say.
//!
//! Rows that are too many for a device only come from memory, in the order in which the device would take them.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::dataset::{Dataset, Split, Target};
use super::{TrainingError, draw};

/// Neighbouring blocks whose rows are mixed, and which are in memory together.
const MIXED_BLOCKS: usize = 8;

/// Batches that wait for their step.
const AHEAD: usize = 4;

/// Reads one block whole.
pub type ReadBlock = Box<dyn Fn(usize) -> Result<Split, TrainingError> + Send + Sync>;

/// A data set of which only the rows to validate on are in memory.
pub struct Stream {
    pub validation: Split,
    /// The label that is no class.
    ignored: Option<i64>,
    /// The blocks to train on, and how many rows each has.
    blocks: Vec<(usize, usize)>,
    read: ReadBlock,
}

/// Where a trial's rows come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// All in memory, and on the device, too.
    Resident(Arc<Dataset>),
    /// All in memory, from which each minibatch crosses to the device: the same numbers as of one that is resident.
    Hosted(Arc<Dataset>),
    /// Those to train on are read while training.
    Streamed(Arc<Stream>),
}

impl Source {
    /// Rows to train on.
    pub fn rows(&self) -> usize {
        match self {
            Self::Resident(data) | Self::Hosted(data) => data.train.rows(),
            Self::Streamed(stream) => stream.rows(),
        }
    }

    /// The rows to validate on; those to train on are like them.
    pub fn validation(&self) -> &Split {
        match self {
            Self::Resident(data) | Self::Hosted(data) => &data.validation,
            Self::Streamed(stream) => &stream.validation,
        }
    }

    /// Those that are in memory.
    pub(super) fn targets(&self) -> impl Iterator<Item = &Target> {
        let trained = match self {
            Self::Resident(data) | Self::Hosted(data) => Some(&data.train.target),
            Self::Streamed(_) => None,
        };
        trained.into_iter().chain([&self.validation().target])
    }

    /// Whether the rows come in an order of their own, which is not that of rows in memory.
    pub(super) fn is_streamed(&self) -> bool {
        matches!(self, Self::Streamed(_))
    }

    /// Whether each minibatch comes as a whole, as if it were all of the data.
    pub(super) fn comes_in_batches(&self) -> bool {
        !matches!(self, Self::Resident(_))
    }

    /// The minibatches from a place on, where they come as a whole.
    ///
    /// # Errors
    /// As of [`Stream::batches`].
    pub(super) fn batches(&self, seed: u64, batch: usize, from: Place) -> Result<Option<Batches>, TrainingError> {
        match self {
            Self::Resident(_) => Ok(None),
            Self::Streamed(stream) => stream.batches(seed, batch, from).map(Some),
            Self::Hosted(data) => {
                let data = Arc::clone(data);
                let send = move |sender: &Sender| send_in_memory(&data, seed, batch, from, sender);
                Batches::read(self.rows(), batch, from, send).map(Some)
            }
        }
    }
}

/// Until nobody listens any more.
fn send_in_memory(data: &Dataset, seed: u64, batch: usize, from: Place, sender: &Sender) {
    let mut step = usize::try_from(from.step).expect("it is below the steps of an epoch");
    for epoch in from.epoch.. {
        let order = positions(draw::permutation(seed, epoch, data.train.rows()));
        for rows in order.chunks_exact(batch).skip(std::mem::take(&mut step)) {
            let mut next = data.train.emptied();
            next.append(&data.train, rows);
            if sender.send(Ok(next)).is_err() {
                return;
            }
        }
    }
}

impl From<&Arc<Dataset>> for Source {
    fn from(data: &Arc<Dataset>) -> Self {
        Self::Resident(Arc::clone(data))
    }
}

impl From<&Arc<Stream>> for Source {
    fn from(stream: &Arc<Stream>) -> Self {
        Self::Streamed(Arc::clone(stream))
    }
}

impl From<&Source> for Source {
    fn from(source: &Self) -> Self {
        source.clone()
    }
}

/// The step that a training is before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    pub epoch: u64,
    pub step: u64,
}

impl Stream {
    /// `blocks` to train on, by number and count of rows.
    pub fn new(validation: Split, blocks: Vec<(usize, usize)>, read: ReadBlock) -> Self {
        Self { validation, ignored: None, blocks, read }
    }

    /// A label that the loss ignores may be any number.
    pub fn ignoring(self, ignored: Option<i64>) -> Self {
        Self { ignored, ..self }
    }

    /// Rows to train on.
    pub fn rows(&self) -> usize {
        self.blocks.iter().map(|(_, rows)| rows).sum()
    }

    /// The batches of `batch` rows from a place on, without end: an epoch has `rows() / batch` of them, and what is
    /// left of its rows is left out.
    ///
    /// # Errors
    /// When an epoch has no batch, the place is not in one, or no thread can be had.
    pub fn batches(self: &Arc<Self>, seed: u64, batch: usize, from: Place) -> Result<Batches, TrainingError> {
        let stream = Arc::clone(self);
        Batches::read(self.rows(), batch, from, move |sender| stream.send(seed, batch, from, sender))
    }

    /// Until nobody listens any more, or a block cannot be read.
    fn send(&self, seed: u64, batch: usize, from: Place, sender: &Sender) {
        let mut place = from;
        loop {
            match self.send_epoch(seed, batch, place, sender) {
                Ok(Flow::GoesOn) => place = Place { epoch: place.epoch + 1, step: 0 },
                Ok(Flow::Ends) => return,
                // Where nobody listens any more, nobody needs the error.
                Err(error) => return drop(sender.send(Err(error))),
            }
        }
    }

    fn send_epoch(&self, seed: u64, batch: usize, from: Place, sender: &Sender) -> Result<Flow, TrainingError> {
        let mut left = (self.rows() / batch) as u64 - from.step;
        let mut skip = usize::try_from(from.step).unwrap_or(usize::MAX).saturating_mul(batch);
        let mut pending = self.validation.emptied();
        for group in self.groups(seed, from.epoch) {
            if skip >= group.order.len() {
                skip -= group.order.len();
                continue;
            }
            let rows = self.rows_of(&group.blocks)?;
            let mut rest = &group.order[std::mem::take(&mut skip)..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(batch - pending.rows()));
                pending.append(&rows, now);
                rest = later;
                if pending.rows() < batch {
                    continue;
                }
                let next = pending.emptied();
                if sender.send(Ok(std::mem::replace(&mut pending, next))).is_err() {
                    return Ok(Flow::Ends);
                }
                left -= 1;
                if left == 0 {
                    return Ok(Flow::GoesOn);
                }
            }
        }
        Ok(Flow::GoesOn)
    }

    /// The blocks of an epoch in their order, and the order of the rows of each few of them.
    fn groups(&self, seed: u64, epoch: u64) -> Vec<Group> {
        let count = self.blocks.len().div_ceil(MIXED_BLOCKS) as u64;
        // One order of blocks and one of rows for each group: as many streams of numbers an epoch.
        let first = epoch.wrapping_mul(count + 1);
        let order = positions(draw::permutation(seed, first, self.blocks.len()));
        let group = |(at, blocks): (usize, &[usize])| {
            let blocks: Vec<(usize, usize)> = blocks.iter().map(|block| self.blocks[*block]).collect();
            let rows = blocks.iter().map(|(_, rows)| rows).sum();
            let order = positions(draw::permutation(seed, first.wrapping_add(1 + at as u64), rows));
            Group { blocks, order }
        };
        order.chunks(MIXED_BLOCKS).enumerate().map(group).collect()
    }

    fn rows_of(&self, blocks: &[(usize, usize)]) -> Result<Split, TrainingError> {
        let mut all = self.validation.emptied();
        for (block, rows) in blocks {
            let split = (self.read)(*block)?;
            if split.rows() != *rows || !split.is_like(&self.validation) {
                let reason = format!("block {block} has other rows than it had when the data set was opened");
                return Err(TrainingError::Data { reason });
            }
            split.check("training", self.ignored)?;
            all.append(&split, &(0..*rows).collect::<Vec<_>>());
        }
        Ok(all)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Stream").field("blocks", &self.blocks).finish_non_exhaustive()
    }
}

struct Group {
    blocks: Vec<(usize, usize)>,
    order: Vec<usize>,
}

enum Flow {
    GoesOn,
    Ends,
}

fn positions(order: Vec<i64>) -> Vec<usize> {
    order.into_iter().map(|row| usize::try_from(row).expect("a permutation is not negative")).collect()
}

type Sender = SyncSender<Result<Split, TrainingError>>;

/// Batches, read by a thread of its own, which ends with it.
pub struct Batches {
    /// Always there until the end.
    receiver: Option<Receiver<Result<Split, TrainingError>>>,
    thread: Option<JoinHandle<()>>,
}

impl Batches {
    /// Those of so many rows that `send` sends from a place on.
    fn read(
        rows: usize,
        batch: usize,
        from: Place,
        send: impl FnOnce(&Sender) + Send + 'static,
    ) -> Result<Self, TrainingError> {
        let steps = rows.checked_div(batch).unwrap_or(0) as u64;
        if from.step >= steps {
            let reason = format!("step {} of an epoch that has {steps} batches of {batch} rows", from.step);
            return Err(TrainingError::Data { reason });
        }
        let (sender, receiver) = sync_channel(AHEAD);
        let thread = std::thread::Builder::new()
            .name("rows".to_owned())
            .spawn(move || send(&sender))
            .map_err(|error| TrainingError::Data { reason: format!("no thread to read rows: {error}") })?;
        Ok(Self { receiver: Some(receiver), thread: Some(thread) })
    }

    /// The next batch, waited for where it is not read yet.
    ///
    /// # Errors
    /// A block could not be read; there are no batches after that.
    pub fn next_batch(&mut self) -> Result<Split, TrainingError> {
        let next = self.receiver.as_ref().and_then(|receiver| receiver.recv().ok());
        next.unwrap_or_else(|| Err(TrainingError::Data { reason: "reading the rows broke off".into() }))
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the reader was seen as an end of its batches.
            drop(thread.join());
        }
    }
}
