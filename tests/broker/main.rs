//! Scenarios on a real broker.
