//! The bytes of a data set, in memory or on the disk, read from any place and by several threads.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

/// Where a data set lies.
#[derive(Debug)]
pub enum Store {
    Memory(Vec<u8>),
    /// A file that nobody changes, and its length.
    Disk {
        file: File,
        bytes: u64,
    },
}

impl Store {
    /// # Errors
    /// When the file's length cannot be told.
    pub fn disk(file: File) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        Ok(Self::Disk { file, bytes })
    }

    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Disk { bytes, .. } => *bytes,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it, as a file.
    pub fn whole(&self) -> Reader<'_> {
        self.part(0, self.len())
    }

    /// `bytes` from `start` on, as a file of its own.
    pub fn part(&self, start: u64, bytes: u64) -> Reader<'_> {
        Reader { store: self, start, end: start.saturating_add(bytes).min(self.len()), at: start }
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Memory(bytes) => {
                let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
                let count = rest.len().min(into.len());
                into[..count].copy_from_slice(&rest[..count]);
                Ok(count)
            }
            Self::Disk { file, .. } => file.read_at(into, at),
        }
    }
}

/// A stretch of a store.
#[derive(Debug, Clone)]
pub struct Reader<'s> {
    store: &'s Store,
    start: u64,
    end: u64,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let length = into.len().min(left);
        let count = self.store.read_at(self.at, &mut into[..length])?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Reader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => self.start.checked_add(position),
            SeekFrom::Current(distance) => self.at.checked_add_signed(distance),
            SeekFrom::End(distance) => self.end.checked_add_signed(distance),
        };
        match position.filter(|position| *position >= self.start) {
            Some(position) => {
                self.at = position;
                Ok(position - self.start)
            }
            None => Err(io::Error::new(io::ErrorKind::InvalidInput, "a place before the beginning")),
        }
    }
}
