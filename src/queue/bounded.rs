//! The queue and its handshake: the mark that pauses the transmitter, and the close that lets the writer end.
//!
//! Invariant: nothing here but the handshake. `tests/models.rs` compiles this very file against loom's atomics and a model of
//! crossbeam's queue, which loom cannot look into, and runs every interleaving.

use super::parts::{Arc, ArrayQueue, AtomicBool, Ordering};

/// A bounded queue of `T` with a high-water mark. Cheap to clone: clones share the queue.
#[derive(Debug)]
pub struct Queue<T> {
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    items: ArrayQueue<T>,
    high_water: usize,
    closed: AtomicBool,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Queue<T> {
        Queue { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Queue<T> {
    /// A queue for `capacity` items whose high-water mark is at half of it: the other half is room for the
    /// replies that are under way when the transmitter pauses.
    pub fn new(capacity: usize) -> Queue<T> {
        Queue {
            shared: Arc::new(Shared {
                items: ArrayQueue::new(capacity.max(2)),
                high_water: (capacity / 2).max(1),
                closed: AtomicBool::new(false),
            }),
        }
    }

    /// Appends an item, or gives it back when the queue is full.
    ///
    /// # Errors
    /// The item itself, when there is no room.
    pub fn push(&self, item: T) -> Result<(), T> {
        self.shared.items.push(item)
    }

    /// Takes the oldest item.
    pub fn pop(&self) -> Option<T> {
        self.shared.items.pop()
    }

    /// Number of items waiting.
    pub fn len(&self) -> usize {
        self.shared.items.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.shared.items.is_empty()
    }

    /// Whether the transmitter must pause.
    pub fn above_high_water(&self) -> bool {
        self.shared.high_water <= self.shared.items.len()
    }

    /// Says that no more items will come.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
    }

    /// Whether no more items will come. Read it before the last `pop`: items pushed before the close are still
    /// inside.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }
}
