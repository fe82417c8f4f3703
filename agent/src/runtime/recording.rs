//! While CUDA records a run, no thread of the process may take device memory or give it back: CUDA would break the
//! recording off. So whoever records is alone, and whoever uses the device holds recordings off meanwhile.
//!
//! Nobody may hold recordings off twice: between the two, somebody may have begun to wait for the first to end.

use std::ops::{Deref, DerefMut};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use super::RuntimeError;

static DEVICE_USE: RwLock<()> = RwLock::new(());

/// Waits for the end of a recording, and holds the next one off.
pub(super) fn hold_off() -> RwLockReadGuard<'static, ()> {
    DEVICE_USE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until nobody else uses a device.
pub(super) fn record() -> RwLockWriteGuard<'static, ()> {
    DEVICE_USE.write().unwrap_or_else(PoisonError::into_inner)
}

/// Does something that may be done again, while recordings are held off.
///
/// CUDA's own libraries record too, for moments that nobody tells of (cuDNN does on an H100, when it first meets a
/// convolution). Whoever waits for the whole device meanwhile, as ONNX Runtime does for each new session, is refused.
pub(super) fn patiently<T>(mut attempt: impl FnMut() -> Result<T, RuntimeError>) -> Result<T, RuntimeError> {
    const LONGEST: Duration = Duration::from_secs(10);

    let (_held_off, begin, mut pause) = (hold_off(), Instant::now(), Duration::from_millis(1));
    loop {
        match attempt() {
            Err(error) if is_of_a_recording(&error) && begin.elapsed() < LONGEST => std::thread::sleep(pause),
            outcome => return outcome,
        }
        pause = (2 * pause).min(Duration::from_millis(100));
    }
}

fn is_of_a_recording(error: &RuntimeError) -> bool {
    error.to_string().contains("operation not permitted when stream is capturing")
}

/// What may give device memory back when it is dropped.
pub(super) struct Held<T>(Option<T>);

impl<T> Held<T> {
    pub fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl<T> DerefMut for Held<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("it is there until it is dropped")
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        let _held_off = hold_off();
        self.0 = None;
    }
}
