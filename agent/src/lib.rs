//! The agent: a pure machine ([`agent`]), the lanes that train ([`lane`], [`training`]), and the shell around them.

pub mod agent;
mod clock;
pub mod command;
pub mod data;
pub mod device;
pub mod lane;
pub mod model;
pub mod nats;
mod recipe;
pub mod runtime;
pub mod shell;
pub mod spool;
pub mod supplies;
pub mod training;
