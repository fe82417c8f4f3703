//! Breaks a training off when its time is over, in the middle of a step if need be: one that hangs ends nowhere else.
//!
//! A step is broken off between two nodes of its graph. One that hangs within a node holds its thread, and with it the
//! lane, for ever.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Watches until it is dropped.
pub struct TimeLimit {
    /// Closed when the training has ended.
    ended: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TimeLimit {
    /// Calls `break_off` after `left`, and `give_up` where the training goes on for as long as `patience` all the same.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn watch(
        left: Duration,
        break_off: impl FnOnce() + Send + 'static,
        patience: Duration,
        give_up: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let (ended, hears) = sync_channel::<()>(1);
        let goes_on = move |time| hears.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
        let thread = std::thread::Builder::new().name("time-limit".to_owned()).spawn(move || {
            if goes_on(left) {
                break_off();
                if goes_on(patience) {
                    give_up();
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_training_that_goes_on_though_it_was_broken_off_is_given_up() {
        let (says, hears) = sync_channel(2);
        let gives_up = says.clone();
        let _limit = TimeLimit::watch(
            SHORT,
            move || says.send("broken off").unwrap(),
            SHORT,
            move || gives_up.send("given up").unwrap(),
        )
        .unwrap();
        assert_eq!(hears.recv_timeout(LONG), Ok("broken off"));
        assert_eq!(hears.recv_timeout(LONG), Ok("given up"));
    }

    #[test]
    fn a_training_that_ends_when_it_is_broken_off_is_not_given_up() {
        let (says, hears) = sync_channel(2);
        let gives_up = says.clone();
        let limit = TimeLimit::watch(
            SHORT,
            move || says.send("broken off").unwrap(),
            LONG,
            move || gives_up.send("given up").unwrap(),
        )
        .unwrap();
        assert_eq!(hears.recv_timeout(LONG), Ok("broken off"));
        drop(limit);
        assert_eq!(hears.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
    }
}
