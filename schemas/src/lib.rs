//! The wire of Regatta: ids, subjects, streams, messages and the study file.
//!
//! Everything that crosses a process boundary has its type here, once. This crate knows no NATS
//! client, no clock and no decision: it names things and reads and writes them.

pub mod ablation;
pub mod api;
pub mod ask;
pub mod beat;
pub mod changeable;
pub mod check;
pub mod documents;
pub mod ids;
pub mod leader;
pub mod limits;
pub mod log;
pub mod offer;
pub mod output;
pub mod params;
pub mod reasons;
pub mod recipe;
pub mod resolve;
pub mod roles;
pub mod snapshot;
pub mod stop;
pub mod streams;
pub mod study;
pub mod subjects;
pub mod wire;

pub use ids::{AgentId, Attempt, PoolId, SamplerId, Sequence, StudyId, TenantId, Term, TrialId};
pub use params::{ParamValue, Params};
pub use wire::{DecodeError, decode, encode};
