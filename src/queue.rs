//! The bounded lock-free queue between the receive threads and the writer.
//!
//! Nothing is dropped here: above the high-water mark the transmitter pauses, and when the queue fills all the
//! same the receive thread stops draining its ring, so that the kernel's own counters tell what was lost.

mod bounded;

/// What the queue is made of.
mod parts {
    pub(super) use std::sync::Arc;
    pub(super) use std::sync::atomic::{AtomicBool, Ordering};

    pub(super) use crossbeam_queue::ArrayQueue;
}

pub use bounded::Queue;

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
