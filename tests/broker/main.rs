//! Scenarios on a real nats-server, with real coordinators and agents, which are killed, paused and cut short.

mod ablation;
mod beside;
mod calls;
mod command;
mod commands;
mod export;
mod external;
mod faults;
mod full;
mod others;
mod pbt;
mod security;
mod study;
