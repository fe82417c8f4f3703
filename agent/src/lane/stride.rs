//! How many steps are taken between two looks at whether to stop.

use std::time::Duration;

/// What a stop may have to wait for, or a step where that is longer.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Begins with one step, and doubles while there is time.
pub struct Stride {
    steps: u64,
}

impl Default for Stride {
    fn default() -> Self {
        Self { steps: 1 }
    }
}

impl Stride {
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Learns how long that took. (What a device takes at once, and the end of an epoch, may have made it fewer.)
    pub fn took(&mut self, time: Duration) {
        const MOST: u64 = 1 << 20;
        if time > LOOK_EVERY {
            self.steps = (self.steps / 2).max(1);
        } else if time < LOOK_EVERY / 4 {
            self.steps = (self.steps * 2).min(MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_as_many_as_a_stop_may_wait_for() {
        let mut stride = Stride::default();
        for _ in 0..100 {
            stride.took(Duration::from_micros(300) * u32::try_from(stride.steps()).unwrap());
        }
        assert_eq!(stride.steps(), 64);
        stride.took(Duration::from_millis(60));
        assert_eq!(stride.steps(), 32);
        for _ in 0..100 {
            stride.took(Duration::from_secs(1));
        }
        assert_eq!(stride.steps(), 1);
    }
}
