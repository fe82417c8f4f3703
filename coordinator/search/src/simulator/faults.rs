//! What goes wrong in a simulation, and how often.

use std::time::Duration;

/// Mean times are per agent, or for the coordinator; None: never.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// From here on nothing goes wrong any more, so that every search can end.
    pub lasting: Duration,
    /// An agent dies without a word; another one comes a while later.
    pub crash_every: Option<Duration>,
    /// An agent is cut off: it trains on, keeps its records, hears nothing; then it is back.
    pub silence_every: Option<Duration>,
    pub silence_max: Duration,
    /// An agent gives its trials back and goes; another one comes a while later.
    pub drain_every: Option<Duration>,
    /// The coordinator dies between two commands, and replays the log.
    pub restart_every: Option<Duration>,
    pub down_max: Duration,
    /// The share of agents' records that arrive twice.
    pub duplicates: f64,
    /// What agents send and hear arrives up to so late, each message on its own; zero: all arrives in order.
    pub delay_max: Duration,
    /// The share of epochs in which a device fails.
    pub failures: f64,
}

impl Faults {
    /// A world in which nothing fails, and everything arrives in order.
    pub fn none() -> Self {
        Self {
            lasting: Duration::ZERO,
            crash_every: None,
            silence_every: None,
            silence_max: Duration::ZERO,
            drain_every: None,
            restart_every: None,
            down_max: Duration::ZERO,
            duplicates: 0.0,
            delay_max: Duration::ZERO,
            failures: 0.0,
        }
    }

    /// Everything goes wrong, several times a minute.
    pub fn all() -> Self {
        Self {
            lasting: Duration::from_secs(120),
            crash_every: Some(Duration::from_secs(40)),
            silence_every: Some(Duration::from_secs(30)),
            silence_max: Duration::from_secs(15),
            drain_every: Some(Duration::from_secs(60)),
            restart_every: Some(Duration::from_secs(10)),
            down_max: Duration::from_secs(8),
            duplicates: 0.1,
            delay_max: Duration::from_millis(400),
            failures: 0.02,
        }
    }
}
