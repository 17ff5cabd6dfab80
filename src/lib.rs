//! swath: a stateless, internet-scale port scanner.
//!
//! ```text
//!  argv,file --cli--> Args + Host --build--> Plan, Setup --scan::run--> threads
//!  TX (one per queue)  cursor --order--> target --cookie--> Batch --> TxQueue::submit
//!  RX (one per queue)  RxQueue --> wire --> Probe::classify (cookie) --> dedup --> queue --> writer --> Sinks
//! ```
//!
//! Modules stand in reading order. Imports point down the layers only; `tests/tidy.rs` holds the law.

#![cfg_attr(
    test,
    allow(clippy::cast_possible_truncation, reason = "tests cast numbers they chose themselves")
)]

#[macro_use]
pub mod planted;

pub mod target;

pub mod event;
pub mod queue;
pub mod stats;
pub mod store;
pub mod sys;
pub mod text;
pub mod wire;

pub mod batch;
pub mod checkpoint;
pub mod closing;
pub mod cookie;
pub mod dedup;
pub mod gate;
pub mod heavy;
pub mod host;
pub mod neighbour;
pub mod order;
pub mod pace;
pub mod path;
pub mod pulse;
pub mod restraint;
pub mod runs;
pub mod select;
pub mod world;

#[cfg(feature = "columnar")]
pub mod columnar;
pub mod sorted;
pub mod spool;

pub mod link;
pub mod probe;
pub mod source;

pub mod sink;

pub mod generate;
pub mod rx;
pub mod tx;
pub mod writer;

pub mod plan;
pub mod scan;

pub mod cli;
pub mod command;
