//! The pure core of Regatta: what is searched, who proposes, who judges, and who trains what.
//!
//! No clock, no network, no global random numbers: time and everything that happened come as arguments,
//! decisions go out as commands. The same [`Coordinator`] runs under NATS, under the simulator's virtual
//! clock and in the tests.

pub mod ablation;
pub mod coordinator;
pub mod fleet;
mod hash;
pub mod news;
mod objectives;
pub mod office;
pub mod pareto;
mod random;
pub mod samplers;
pub mod simulator;
pub mod space;
pub mod stoppers;
mod student;
pub mod study;
mod time;

pub use coordinator::{Answer, Command, Coordinator, Event, Recorded, Settings};
pub use time::Time;
