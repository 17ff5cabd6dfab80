//! Half-open connections that swath closes itself: what the receive threads tell the transmit threads about them.
//!
//! Every SYN-ACK leaves a connection half open at the target until somebody sends a RST. Normally the kernel does, which
//! has no socket for it. Where it does not see the SYN-ACK (an XDP program took it) or is kept from it because its RSTs
//! cost too much, swath sends the RST, inside of its own rate law.
//!
//! Invariant: bounded. What finds no room is counted by whoever brought it; the target sends its SYN-ACK again.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::queue::Queue;

/// A connection to be closed: all that its RST holds follows from the target and the pass of the probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HalfOpen {
    /// The number of the target in the plan.
    pub number: u64,
    /// The pass of the probe that was answered.
    pub pass: u8,
}

/// Who closes connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Who {
    /// The kernel as long as it sees the answers and they are few, then swath.
    #[default]
    Auto,
    /// The kernel.
    Kernel,
    /// Swath.
    Swath,
}

/// The connections that wait to be closed by swath. Shared by all threads.
#[derive(Debug)]
pub struct Closing {
    waiting: Queue<HalfOpen>,
    ours: AtomicBool,
}

impl Closing {
    /// Room for so many; it is the kernel that closes them until [`Closing::take_over`].
    pub fn new(capacity: usize) -> Closing {
        Closing { waiting: Queue::new(capacity), ours: AtomicBool::new(false) }
    }

    /// From now on swath closes them.
    pub fn take_over(&self) {
        self.ours.store(true, Ordering::Release);
    }

    /// Whether swath closes them.
    #[inline]
    pub fn is_ours(&self) -> bool {
        self.ours.load(Ordering::Relaxed)
    }

    /// Notes a connection; returns whether there was room.
    pub fn push(&self, half_open: HalfOpen) -> bool {
        self.waiting.push(half_open).is_ok()
    }

    /// Takes the one that waits longest.
    pub fn pop(&self) -> Option<HalfOpen> {
        self.waiting.pop()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
