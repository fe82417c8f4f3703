//! Breaks a training off when its time is over, in the middle of a step if need be: one that hangs ends nowhere else.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::runtime::Interrupt;

/// Watches until it is dropped.
pub struct TimeLimit {
    /// Closed when the training has ended.
    ended: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TimeLimit {
    /// # Errors
    /// No thread can be had.
    pub fn watch(left: Duration, training: Interrupt) -> std::io::Result<Self> {
        let (ended, hears) = sync_channel(1);
        let thread = std::thread::Builder::new().name("time-limit".to_owned()).spawn(move || {
            if hears.recv_timeout(left) == Err(RecvTimeoutError::Timeout)
                && let Err(error) = training.raise()
            {
                tracing::warn!(%error, "a training that is over its time ends with its step");
            }
        })?;
        Ok(Self { ended: Some(ended), thread: Some(thread) })
    }
}

impl Drop for TimeLimit {
    fn drop(&mut self) {
        self.ended = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing to say, and cannot panic.
            let _ended = thread.join();
        }
    }
}
