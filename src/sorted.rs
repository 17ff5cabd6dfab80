//! Sorted runs of records merged into one: by address, port, protocol and time ([`Record::sort_key`]).
//!
//! Invariant: holds one batch of each run, whatever their length.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;

use crate::event::Record;

/// A run of records in order: a batch of it, and where more comes from.
pub struct Sorted<'a> {
    batch: Vec<Record>,
    at: usize,
    more: Box<dyn FnMut(&mut Vec<Record>) -> io::Result<()> + 'a>,
}

impl<'a> Sorted<'a> {
    /// A run that `more` hands out batch by batch, into an empty vector; an empty batch ends it.
    pub fn new(more: impl FnMut(&mut Vec<Record>) -> io::Result<()> + 'a) -> Sorted<'a> {
        Sorted { batch: Vec::new(), at: 0, more: Box::new(more) }
    }

    fn peek(&mut self) -> io::Result<Option<&Record>> {
        if self.at == self.batch.len() {
            let last = self.batch.last().map(Record::sort_key);
            self.batch.clear();
            self.at = 0;
            (self.more)(&mut self.batch)?;
            let keys = last.into_iter().chain(self.batch.iter().map(Record::sort_key));
            if !keys.is_sorted() {
                let cause = "it says that it is sorted by address and port, and is not";
                return Err(io::Error::new(io::ErrorKind::InvalidData, cause));
            }
        }
        Ok(self.batch.get(self.at))
    }
}

/// The records of all runs, in order. Those with equal keys come in the order of the runs.
pub fn merge<'a>(mut runs: Vec<Sorted<'a>>) -> io::Result<impl FnMut() -> io::Result<Option<Record>> + 'a> {
    let mut heads = BinaryHeap::with_capacity(runs.len());
    for (index, run) in runs.iter_mut().enumerate() {
        if let Some(record) = run.peek()? {
            heads.push(Reverse((record.sort_key(), index)));
        }
    }
    Ok(move || {
        let Some(mut head) = heads.peek_mut() else { return Ok(None) };
        let index = head.0.1;
        let run = &mut runs[index];
        let record = run.batch[run.at];
        run.at += 1;
        match run.peek()? {
            Some(next) => *head = Reverse((next.sort_key(), index)),
            None => {
                std::collections::binary_heap::PeekMut::pop(head);
            }
        }
        Ok(Some(record))
    })
}
