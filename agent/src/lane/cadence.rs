//! When the next checkpoint is due.

use std::sync::Arc;
use std::time::Duration;

/// Counts from the last checkpoint, and knows of those on their way.
pub struct Cadence {
    every: Duration,
    /// Training time at the last checkpoint.
    kept_at: Duration,
    /// Shared with each checkpoint on its way.
    pending: Arc<()>,
}

impl Cadence {
    /// `before`: training time of earlier attempts.
    pub fn new(every_s: f64, before: Duration) -> Self {
        Self { every: Duration::from_secs_f64(every_s.clamp(0.0, 1e9)), kept_at: before, pending: Arc::default() }
    }

    /// Not while one is on its way: where the store is slow, checkpoints get rarer and do not pile up.
    pub fn is_due(&self, elapsed: Duration) -> bool {
        let is_one_on_its_way = Arc::strong_count(&self.pending) > 1;
        elapsed.saturating_sub(self.kept_at) >= self.every && !is_one_on_its_way
    }

    /// One is made; the answer is to live until it is stored or lost.
    pub fn keep(&mut self, elapsed: Duration) -> Arc<()> {
        self.kept_at = elapsed;
        self.pending.clone()
    }
}
