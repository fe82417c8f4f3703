//! What goes wrong in a world, and how often.

use std::time::Duration;

/// Mean times are per agent, per coordinator, or for the broker; None: never.
#[derive(Debug, Clone)]
pub struct Faults {
    /// From here on nothing goes wrong any more, so that everything can end.
    pub lasting: Duration,
    pub agent_crash_every: Option<Duration>,
    /// SIGSTOP: nothing is done or heard for a while, then everything that waited.
    pub agent_pause_every: Option<Duration>,
    /// It trains on, and neither sends nor hears.
    pub agent_cut_every: Option<Duration>,
    pub agent_drain_every: Option<Duration>,
    pub coordinator_crash_every: Option<Duration>,
    /// SIGSTOP, also in the middle of a decision.
    pub coordinator_pause_every: Option<Duration>,
    pub coordinator_cut_every: Option<Duration>,
    /// What it sends and hears is late, but comes.
    pub coordinator_slow_every: Option<Duration>,
    /// SIGTERM: it gives its office back.
    pub coordinator_leave_every: Option<Duration>,
    /// Whether the broker stores a decision only while its coordinator is the last that was elected.
    pub has_fence: bool,
    /// The broker is away for everybody; what it stored it has.
    pub broker_restart_every: Option<Duration>,
    /// The broker forgets what it has not brought to the disk, and is away for everybody.
    pub power_cut_every: Option<Duration>,
    /// The longest of any absence.
    pub away_max: Duration,
    /// The share of messages, and of acknowledgements, that are lost on their way.
    pub loss: f64,
    /// The share of messages sent twice that the broker stores twice, as it does outside its window of duplicates.
    pub forgotten_ids: f64,
    /// Each message is late by up to so much, on its own.
    pub delay_max: Duration,
    /// The share of epochs in which a device fails.
    pub failures: f64,
}

impl Faults {
    pub fn none() -> Self {
        Self {
            lasting: Duration::ZERO,
            agent_crash_every: None,
            agent_pause_every: None,
            agent_cut_every: None,
            agent_drain_every: None,
            coordinator_crash_every: None,
            coordinator_pause_every: None,
            coordinator_cut_every: None,
            coordinator_slow_every: None,
            coordinator_leave_every: None,
            has_fence: true,
            broker_restart_every: None,
            power_cut_every: None,
            away_max: Duration::ZERO,
            loss: 0.0,
            forgotten_ids: 0.0,
            delay_max: Duration::from_millis(1),
            failures: 0.0,
        }
    }

    pub fn all() -> Self {
        let every = |seconds| Some(Duration::from_secs(seconds));
        Self {
            lasting: Duration::from_secs(150),
            agent_crash_every: every(50),
            agent_pause_every: every(40),
            agent_cut_every: every(40),
            agent_drain_every: every(80),
            coordinator_crash_every: every(25),
            coordinator_pause_every: every(30),
            coordinator_cut_every: every(40),
            coordinator_slow_every: every(40),
            coordinator_leave_every: every(40),
            has_fence: true,
            broker_restart_every: every(60),
            power_cut_every: None,
            away_max: Duration::from_secs(15),
            loss: 0.02,
            forgotten_ids: 0.3,
            delay_max: Duration::from_millis(300),
            failures: 0.01,
        }
    }
}
