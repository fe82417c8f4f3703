//! The one file of the coordinator that reads a clock.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use regatta_search::Time;

/// The wall clock: its readings are compared with the times of records in the log.
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// Beside `now`, a clock that nobody sets: it goes on from where the wall clock stood when it was first read.
pub fn steady() -> Time {
    static BEGUN: LazyLock<(Time, Instant)> = LazyLock::new(|| (now(), Instant::now()));
    let (at, instant) = *BEGUN;
    at + instant.elapsed()
}

/// How long until then; zero where it has passed.
pub fn until(then: Time) -> Duration {
    then.since(now())
}
