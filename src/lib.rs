//! swath: a stateless, internet-scale port scanner.
//!
//! ```text
//!  argv,file --cli--> Args + Host --build--> Plan, Setup --scan::run--> threads
//!  TX (one per queue)  cursor --order--> target --cookie--> Batch --> TxQueue::submit
//!  RX (one per queue)  RxQueue --> wire --> Probe::classify (cookie) --> dedup --> queue --> writer --> Sinks
//! ```
//!
//! Modules stand in reading order. Imports point down the layers only; `tests/tidy.rs` holds the law.

pub mod target;

pub mod event;
pub mod queue;
pub mod stats;
pub mod sys;
pub mod wire;

pub mod batch;
pub mod gate;
pub mod host;

pub mod link;
pub mod sink;

pub mod writer;
