//! Frames under way to the scanner, in the order in which they arrive. Their buffers are used again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::answers::Origin;
use crate::target::Target;

/// A bounded heap of frames by arrival time.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    /// When, in which order they were sent, and where the frame lies.
    due: BinaryHeap<Reverse<(u64, u64, usize)>>,
    frames: Vec<(Vec<u8>, Origin, Target)>,
    free: Vec<usize>,
    sent: u64,
}

impl UnderWay {
    /// Sends a frame that arrives at `due_ns`. Returns whether there was room.
    pub(super) fn send(&mut self, due_ns: u64, frame: &[u8], (origin, about): (Origin, Target)) -> bool {
        if MOST <= self.due.len() {
            return false;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.frames.push((Vec::with_capacity(128), origin, about));
            self.frames.len() - 1
        });
        let (bytes, made_by, target) = &mut self.frames[place];
        bytes.clear();
        bytes.extend_from_slice(frame);
        (*made_by, *target) = (origin, about);
        self.due.push(Reverse((due_ns, self.sent, place)));
        self.sent += 1;
        true
    }

    /// When the next frame arrives.
    pub(super) fn next_ns(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((due_ns, ..))| *due_ns)
    }

    /// Takes the next frame that has arrived by `now_ns`.
    pub(super) fn take(&mut self, now_ns: u64, look: impl FnOnce(u64, &[u8], (Origin, Target))) -> bool {
        let Some(due_ns) = self.next_ns().filter(|due_ns| *due_ns <= now_ns) else { return false };
        let Some(Reverse((_, _, place))) = self.due.pop() else { return false };
        let (bytes, origin, about) = &self.frames[place];
        look(due_ns, bytes, (*origin, *about));
        self.free.push(place);
        true
    }

    /// Number of frames under way.
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }
}

/// Frames under way at a time; what comes beyond is lost, and counted by the caller.
const MOST: usize = 1 << 22;
