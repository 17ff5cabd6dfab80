//! The only `unsafe` of the crate: system calls, rings, memory maps, netlink sockets.
//!
//! Invariant: every function here is safe to call with any argument.
#![allow(unsafe_code, reason = "the one place where system calls and shared memory are touched")]
