//! Bytes to headers and back, pure: no allocation, no error text, no panic on any input.

pub mod checksum;
pub mod ethernet;
