//! Bytes to headers and back, pure: no allocation while reading, no error text, no panic on any input.
//!
//! Contract of the family. A checked constructor looks at the lengths once; accessors behind it cannot panic.
//! Writers return the bytes of one header; who needs a whole frame joins them.

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod nd;
pub mod outcome;
pub mod sctp;
mod segment;
pub mod tcp;
pub mod udp;

pub use segment::{Frame, Reader, Segment, Transport, read, read_bare};

/// The bytes are not what they were taken for. Says no more: it is met once per hostile packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;
