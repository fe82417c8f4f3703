//! Memory that the operators of a session compute in, used again by the next one.

use std::sync::{Arc, Mutex, PoisonError};

/// Buffers that are free. Clones share them; a session runs one operator at a time, so there are few.
#[derive(Debug, Clone, Default)]
pub struct Scratch(Arc<Mutex<Vec<Vec<f32>>>>);

impl Scratch {
    /// A buffer of `length` elements, whatever they hold.
    pub fn take(&self, length: usize) -> Vec<f32> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = free.unwrap_or_default();
        if buffer.len() < length {
            // What it held is of no use: nothing is copied into the larger one.
            buffer = vec![0.0; length];
        }
        buffer
    }

    pub fn give_back(&self, buffer: Vec<f32>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}
