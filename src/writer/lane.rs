//! The way of records to one sink: a queue of batches in memory, and behind it a file.
//!
//! Invariant: first in, first out; what was pushed is taken exactly once.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{BATCH, Step};
use crate::event::Record;
use crate::queue::Queue;
use crate::spool::Overflow;

/// Records a lane holds in memory: 16 MiB, shared by all lanes that wait for the same ones.
const MEMORY_RECORDS: usize = 1 << 18;

/// Batches between the distributor and one writer.
#[derive(Debug, Default)]
pub struct Lane {
    waiting: Mutex<Waiting>,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    batches: VecDeque<Arc<[Record]>>,
    records: usize,
    overflow: Option<Overflow>,
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no more batches will come. Read it before the last [`Lane::take`].
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Appends a batch; false when there is room for it neither in memory nor on the disk.
    fn push(&self, batch: &Arc<[Record]>) -> bool {
        let mut waiting = self.lock();
        let spilled = waiting.overflow.as_ref().is_some_and(|overflow| !overflow.is_empty());
        if !spilled && waiting.records + batch.len() <= MEMORY_RECORDS {
            waiting.records += batch.len();
            waiting.batches.push_back(Arc::clone(batch));
            return true;
        }
        if waiting.overflow.is_none() {
            waiting.overflow = Overflow::new().ok();
        }
        // A disk that takes nothing is as good as none: the batch stays with the distributor until memory has room.
        waiting.overflow.as_mut().is_some_and(|overflow| overflow.push(batch).unwrap_or(false))
    }

    /// Fills an empty batch with the oldest records.
    ///
    /// # Errors
    /// When the disk does not give them back.
    pub(super) fn take(&self, batch: &mut Vec<Record>) -> io::Result<()> {
        let mut waiting = self.lock();
        if let Some(oldest) = waiting.batches.pop_front() {
            waiting.records -= oldest.len();
            drop(waiting);
            batch.extend_from_slice(&oldest);
            return Ok(());
        }
        match &mut waiting.overflow {
            Some(overflow) if !overflow.is_empty() => overflow.pop(BATCH, batch),
            _ => Ok(()),
        }
    }

    /// Gives up what is on the disk; returns how many records that were.
    pub(super) fn forget(&self) -> u64 {
        self.lock().overflow.take().map_or(0, |overflow| overflow.len())
    }
}

/// Takes records from the queue and hands each batch to every lane.
pub struct Distributor {
    queue: Queue<Record>,
    lanes: Vec<Arc<Lane>>,
    /// A batch and the lanes that still lack it.
    held: Option<(Arc<[Record]>, Vec<usize>)>,
    batch: Vec<Record>,
}

impl Distributor {
    pub(super) fn new(queue: Queue<Record>, lanes: Vec<Arc<Lane>>) -> Distributor {
        Distributor { queue, lanes, held: None, batch: Vec::with_capacity(BATCH) }
    }

    /// Hands on at most one batch. `taken` is 0 when there is nothing to do, or nowhere to put it; `done` once the queue
    /// is closed and every lane has all of it, and is closed, too.
    pub fn step(&mut self) -> Step {
        // Read before the last pop: what was pushed before the close is still found.
        let closed = self.queue.is_closed();
        if self.held.is_none() {
            self.batch.clear();
            self.batch.extend(std::iter::from_fn(|| self.queue.pop()).take(BATCH));
            if !self.batch.is_empty() {
                self.held = Some((Arc::from(&*self.batch), (0..self.lanes.len()).collect()));
            }
        }
        let Some((batch, lacking)) = &mut self.held else {
            if closed {
                self.lanes.iter().for_each(|lane| lane.closed.store(true, Ordering::Release));
            }
            return Step { taken: 0, done: closed, event: None };
        };
        let before = lacking.len();
        lacking.retain(|lane| !self.lanes[*lane].push(batch));
        let taken = if lacking.len() < before { batch.len() } else { 0 };
        if lacking.is_empty() {
            self.held = None;
        }
        Step { taken, done: false, event: None }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::event::{Reason, State};
    use crate::target::{Port, Protocol, Target};

    fn record(number: u32) -> Record {
        let address = Ipv4Addr::from_bits(number).into();
        let port = Port { protocol: Protocol::TCP, number: 80 };
        Record::new(Target { address, port }, address, State::Open, Reason::SYN_ACK)
    }

    #[test]
    fn a_lane_that_nobody_empties_goes_to_disk_and_comes_back_in_order() {
        let queue = Queue::new(1 << 20);
        let lanes = vec![Arc::new(Lane::default()), Arc::new(Lane::default())];
        let mut distributor = Distributor::new(queue.clone(), lanes.clone());
        let count = MEMORY_RECORDS as u32 * 2;
        let (mut batch, mut read) = (Vec::new(), 0);
        for number in 0..count {
            queue.push(record(number)).expect("room");
            if number % 1000 == 0 {
                assert!(0 < distributor.step().taken);
                // The first lane is emptied at once, the second not at all.
                batch.clear();
                lanes[0].take(&mut batch).expect("memory");
                read += batch.len();
            }
        }
        queue.close();
        while !distributor.step().done {}
        assert!(lanes.iter().all(|lane| lane.is_closed()));
        assert_eq!(lanes[0].lock().overflow.as_ref().map_or(0, Overflow::len), 0, "it never fell behind");
        assert!(!lanes[1].lock().overflow.as_ref().expect("it fell behind").is_empty());
        loop {
            batch.clear();
            lanes[0].take(&mut batch).expect("memory");
            read += batch.len();
            if batch.is_empty() {
                break;
            }
        }
        assert_eq!(read, count as usize);
        let mut next = 0;
        loop {
            batch.clear();
            lanes[1].take(&mut batch).expect("memory, then disk");
            if batch.is_empty() {
                break;
            }
            for found in &batch {
                assert_eq!(*found, record(next));
                next += 1;
            }
        }
        assert_eq!(next, count);
    }
}
