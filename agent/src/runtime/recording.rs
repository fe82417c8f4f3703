//! While CUDA records a run, no thread of the process may take device memory or give it back: CUDA would break the
//! recording off. So whoever records is alone, and whoever uses the device holds recordings off meanwhile.
//!
//! Nobody may hold recordings off twice: between the two, somebody may have begun to wait for the first to end.

use std::ops::{Deref, DerefMut};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static DEVICE_USE: RwLock<()> = RwLock::new(());

/// Waits for the end of a recording, and holds the next one off.
pub(super) fn hold_off() -> RwLockReadGuard<'static, ()> {
    DEVICE_USE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until nobody else uses a device.
pub(super) fn record() -> RwLockWriteGuard<'static, ()> {
    DEVICE_USE.write().unwrap_or_else(PoisonError::into_inner)
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
