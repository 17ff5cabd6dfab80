//! What threads share, in every interleaving that loom can think of: the pacing word, the queue's close, the writer's pause.
//!
//! The files under test are compiled here once more, with loom's atomics where the standard library's are otherwise. The
//! queue itself is crossbeam's, which loom cannot look into: a model with a lock stands for it, so what is checked is our
//! protocol around it. Loom treats `SeqCst` as `AcqRel` and does not know load buffering; we use neither.
#![allow(dead_code, reason = "a model uses a part of each file")]

/// A macro of the library that the files use: no bug is awake here.
macro_rules! planted {
    ($number:literal, $wrong:expr, $right:expr) => {
        $right
    };
}

/// What `src/pace.rs` has of the standard library.
mod atomic {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
}

#[allow(unreachable_pub, reason = "the library has it public")]
#[path = "../src/pace/word.rs"]
mod word;

/// What `src/queue.rs` has of the standard library and of crossbeam.
mod parts {
    use std::collections::VecDeque;

    pub(super) use loom::sync::Arc;
    use loom::sync::Mutex;
    pub(super) use loom::sync::atomic::{AtomicBool, Ordering};

    /// A model of `crossbeam_queue::ArrayQueue`: linearizable, bounded.
    #[derive(Debug)]
    pub(super) struct ArrayQueue<T> {
        items: Mutex<VecDeque<T>>,
        room: usize,
    }

    impl<T> ArrayQueue<T> {
        pub(super) fn new(room: usize) -> ArrayQueue<T> {
            ArrayQueue { items: Mutex::new(VecDeque::new()), room }
        }

        pub(super) fn push(&self, item: T) -> Result<(), T> {
            let mut items = self.items.lock().expect("no panic");
            if self.room <= items.len() {
                return Err(item);
            }
            items.push_back(item);
            Ok(())
        }

        pub(super) fn pop(&self) -> Option<T> {
            self.items.lock().expect("no panic").pop_front()
        }

        pub(super) fn len(&self) -> usize {
            self.items.lock().expect("no panic").len()
        }

        pub(super) fn is_empty(&self) -> bool {
            self.len() == 0
        }
    }
}

#[allow(unreachable_pub, reason = "the library has it public")]
#[path = "../src/queue/bounded.rs"]
mod bounded;

use loom::sync::Arc;
use loom::thread;

use bounded::Queue;
use word::{Grant, Pace};

/// A pace of so many frames in 1000 seconds.
fn pace_of(milli: u64) -> Pace {
    let pace = Pace::unlimited();
    pace.limit(milli);
    pace
}

fn granted(pace: &Pace, now_ns: u64, want: u64) -> u64 {
    match pace.grant(now_ns, want) {
        Grant::Frames(frames) => frames,
        Grant::Wait(_) => 0,
    }
}

/// Three threads, one instant: together they are granted the burst and no more.
#[test]
fn threads_are_never_granted_more_than_the_burst_together() {
    loom::model(|| {
        // 400 frames a second: a burst of 4.
        let pace = Arc::new(pace_of(400_000));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let pace = Arc::clone(&pace);
                thread::spawn(move || granted(&pace, 0, 3))
            })
            .collect();
        let mine = granted(&pace, 0, 3);
        let others: u64 = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
        let burst = pace.sigma();
        assert_eq!(burst, 4);
        assert!(mine + others <= burst, "{mine} and {others}");
        assert!(3 <= mine + others, "somebody is granted something");
    });
}

/// A thread gives back what it did not send while others are granted: what is sent stays within the law, and nothing is
/// lost for good.
#[test]
fn what_is_given_back_is_granted_once_more_and_not_twice() {
    loom::model(|| {
        let pace = Arc::new(pace_of(400_000));
        let other = Arc::clone(&pace);
        let returning = thread::spawn(move || {
            let frames = granted(&other, 0, 2);
            other.refund(frames);
            0
        });
        let mine = granted(&pace, 0, 4);
        let theirs: u64 = returning.join().expect("no panic");
        let later = granted(&pace, 0, 4) + granted(&pace, 0, 4);
        let sent = mine + theirs + later;
        assert!(sent <= 4, "{mine} + {later} sent in one instant");
        assert!(3 <= sent, "credit was lost: {mine} + {later}");
    });
}

/// The writer's loop, as `Writer::step` has it: the close is read before the last pop.
fn drain(queue: &Queue<u32>) -> Vec<u32> {
    let mut taken = Vec::new();
    loop {
        let closed = queue.is_closed();
        match queue.pop() {
            Some(item) => taken.push(item),
            None if closed => return taken,
            None => thread::yield_now(),
        }
    }
}

/// Everything that was pushed before the close is taken by a writer that ends at the close.
#[test]
fn a_writer_that_ends_at_the_close_has_taken_everything() {
    loom::model(|| {
        let queue = Queue::new(4);
        let (producer, writer) = (queue.clone(), queue);
        let pushing = thread::spawn(move || {
            producer.push(1).expect("room");
            producer.push(2).expect("room");
            producer.close();
        });
        assert_eq!(drain(&writer), [1, 2]);
        pushing.join().expect("no panic");
    });
}

/// Two receivers and a queue that is small: an item that finds no room is kept and offered again, and none is lost.
#[test]
fn what_finds_no_room_is_offered_again_and_arrives_once() {
    loom::model(|| {
        let queue = Queue::new(2);
        let receivers: Vec<_> = [10, 20]
            .map(|item| {
                let queue = queue.clone();
                thread::spawn(move || {
                    let mut offered = queue.push(item);
                    while let Err(item) = offered {
                        thread::yield_now();
                        offered = queue.push(item);
                    }
                })
            })
            .into_iter()
            .collect();
        let mut taken = Vec::new();
        while taken.len() < 2 {
            match queue.pop() {
                Some(item) => taken.push(item),
                None => thread::yield_now(),
            }
        }
        receivers.into_iter().for_each(|receiver| receiver.join().expect("no panic"));
        taken.sort_unstable();
        assert_eq!(taken, [10, 20]);
    });
}

/// The transmitter pauses above the mark, which is half of the queue: when a probe causes one record at most, the records
/// of two transmitters always find room, however slow the writer is.
#[test]
fn a_pause_at_the_mark_leaves_room_for_what_is_under_way() {
    loom::model(|| {
        let queue = Queue::new(4);
        let transmitters: Vec<_> = (0..2)
            .map(|_| {
                let queue = queue.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        if !queue.above_high_water() {
                            queue.push(1).expect("room for what is under way");
                        }
                    }
                })
            })
            .collect();
        let _ = queue.pop();
        transmitters.into_iter().for_each(|transmitter| transmitter.join().expect("no panic"));
        // Two at the mark, and one of each transmitter that had looked before.
        assert!(queue.len() <= 3, "{}", queue.len());
    });
}
