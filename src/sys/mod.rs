//! The only `unsafe` of the crate: system calls, rings, memory maps, netlink sockets.
//!
//! Invariant: every function here is safe to call with any argument; the worst a wrong one gets is an error of the
//! kernel's. Nothing here knows what a probe, a link or a route is for.
#![allow(unsafe_code, reason = "the one place where system calls and shared memory are touched")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "constants of the kernel have C's int type where its structures hold fewer bits; sizes of structures fit"
)]

pub mod affinity;
pub mod bpf;
pub mod clock;
pub mod ebpf;
pub mod ebpf_kernel;
pub mod ethtool;
pub mod facts;
mod mapping;
pub mod mmsg;
pub mod namespace;
pub mod netlink;
pub mod nftables;
pub mod pair;
pub mod perf;
pub mod prefetch;
pub mod ring;
pub mod rtnetlink;
pub mod shared_file;
pub mod simd;
pub mod socket;
pub mod tun;
pub mod xsk;

use std::io;

/// The result of a system call that returns -1 and sets `errno` on failure.
fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
