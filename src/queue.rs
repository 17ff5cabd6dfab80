//! The bounded lock-free queue between the receive threads and the writer.
//!
//! Nothing is dropped here: above the high-water mark the transmitter pauses, and when the queue fills all the
//! same the receive thread stops draining its ring, so that the kernel's own counters tell what was lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_queue::ArrayQueue;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_gives_the_item_back_and_keeps_the_order() {
        let queue = Queue::new(4);
        for item in 0..4 {
            assert_eq!(queue.push(item), Ok(()));
        }
        assert_eq!(queue.push(4), Err(4));
        assert!(queue.above_high_water());
        assert_eq!((0..4).map(|_| queue.pop()).collect::<Vec<_>>(), [Some(0), Some(1), Some(2), Some(3)]);
        assert!(queue.is_empty());
    }

    #[test]
    fn the_high_water_mark_is_half_of_the_capacity() {
        let queue = Queue::new(4);
        queue.push(1).expect("room");
        assert!(!queue.above_high_water());
        queue.push(2).expect("room");
        assert!(queue.above_high_water());
    }
}
