//! Records in order: by address, port, protocol and time ([`Record::sort_key`]). Sorted runs are merged; what is not sorted
//! is, in runs that go to disk when memory has no room for them.
//!
//! Invariant: memory is bounded by [`RUN_RECORDS`] and one batch of each run, whatever is sorted.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::event::Record;
use crate::store;

/// Records sorted in memory at once: 32 MiB.
pub const RUN_RECORDS: usize = 1 << 19;

/// Records of a run that are read at once.
const BATCH: usize = 1 << 12;

/// A run of records in order: a batch of it, and where more comes from.
pub struct Sorted<'a> {
    batch: Vec<Record>,
    at: usize,
    more: Box<More<'a>>,
}

/// Hands out the next batch of a run, into an empty vector; an empty batch ends it.
type More<'a> = dyn FnMut(&mut Vec<Record>) -> io::Result<()> + Send + 'a;

impl<'a> Sorted<'a> {
    /// A run that `more` hands out batch by batch, into an empty vector; an empty batch ends it.
    pub fn new(more: impl FnMut(&mut Vec<Record>) -> io::Result<()> + Send + 'a) -> Sorted<'a> {
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
pub struct Merged<'a> {
    runs: Vec<Sorted<'a>>,
    heads: BinaryHeap<Reverse<(Key, usize)>>,
}

type Key = (bool, u128, u16, u8, u64);

/// Merges runs.
///
/// # Errors
/// When the first batch of one cannot be read.
pub fn merge(mut runs: Vec<Sorted<'_>>) -> io::Result<Merged<'_>> {
    let mut heads = BinaryHeap::with_capacity(runs.len());
    for (index, run) in runs.iter_mut().enumerate() {
        if let Some(record) = run.peek()? {
            heads.push(Reverse((record.sort_key(), index)));
        }
    }
    Ok(Merged { runs, heads })
}

impl Merged<'_> {
    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// When a run cannot be read, or is not in order.
    pub fn take(&mut self) -> io::Result<Option<Record>> {
        let Some(mut head) = self.heads.peek_mut() else { return Ok(None) };
        let run = &mut self.runs[head.0.1];
        let record = run.batch[run.at];
        run.at += 1;
        match run.peek()? {
            Some(next) => head.0.0 = next.sort_key(),
            None => drop(PeekMut::pop(head)),
        }
        Ok(Some(record))
    }
}

/// Sorts records that come in any order.
#[derive(Default)]
pub struct Sorter {
    run: Vec<Record>,
    /// A file without a name, and where each run in it begins and ends, in records.
    file: Option<Arc<File>>,
    runs: Vec<(u64, u64)>,
    bytes: Vec<u8>,
}

impl Sorter {
    /// Takes records.
    ///
    /// # Errors
    /// When the directory for temporary files takes no run.
    pub fn push(&mut self, records: &[Record]) -> io::Result<()> {
        for part in records.chunks(BATCH) {
            self.run.extend_from_slice(part);
            if RUN_RECORDS <= self.run.len() {
                self.spill()?;
            }
        }
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(Arc::new(store::nameless()?)),
        };
        self.run.sort_unstable_by_key(Record::sort_key);
        let first = self.runs.last().map_or(0, |run| run.1);
        let mut end = first;
        for part in self.run.chunks(BATCH) {
            self.bytes.clear();
            part.iter().for_each(|record| self.bytes.extend_from_slice(&record.to_bytes()));
            file.write_all_at(&self.bytes, end * 64)?;
            end += part.len() as u64;
        }
        self.runs.push((first, end));
        self.run.clear();
        Ok(())
    }

    /// The runs, each in order.
    ///
    /// # Errors
    /// As [`Sorter::push`].
    pub fn into_runs(mut self) -> io::Result<Vec<Sorted<'static>>> {
        if self.file.is_some() && !self.run.is_empty() {
            self.spill()?;
        }
        let Some(file) = self.file else {
            self.run.sort_unstable_by_key(Record::sort_key);
            let mut run = Some(self.run);
            return Ok(vec![Sorted::new(move |batch| {
                *batch = run.take().unwrap_or_default();
                Ok(())
            })]);
        };
        let run = |(mut at, end): (u64, u64)| {
            let file = Arc::clone(&file);
            let mut bytes = Vec::new();
            Sorted::new(move |batch| {
                let count = (end - at).min(BATCH as u64);
                bytes.resize(usize::try_from(count * 64).unwrap_or(usize::MAX), 0);
                file.read_exact_at(&mut bytes, at * 64)?;
                batch.extend(bytes.as_chunks::<64>().0.iter().filter_map(Record::from_bytes));
                at += count;
                Ok(())
            })
        };
        Ok(self.runs.into_iter().map(run).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::event::{Reason, State};
    use crate::target::{Port, Protocol, Target};

    fn record(number: u32, port: u16) -> Record {
        let address = Ipv4Addr::from_bits(number).into();
        let port = Port { protocol: Protocol::TCP, number: port };
        Record::new(Target { address, port }, address, State::Open, Reason::SYN_ACK)
    }

    #[test]
    fn what_does_not_fit_in_memory_is_sorted_all_the_same() {
        let mut sorter = Sorter::default();
        let count = RUN_RECORDS as u32 * 2 + 5;
        let records: Vec<Record> =
            (0..count).map(|index| record(index.wrapping_mul(2_654_435_761), (index % 7) as u16)).collect();
        records.chunks(10_000).for_each(|part| sorter.push(part).expect("room on disk"));
        let mut expected: Vec<_> = records.iter().map(Record::sort_key).collect();
        expected.sort_unstable();
        let mut merged = merge(sorter.into_runs().expect("room on disk")).expect("reads");
        for key in expected {
            assert_eq!(merged.take().expect("reads").map(|record| record.sort_key()), Some(key));
        }
        assert!(merged.take().expect("reads").is_none());
    }

    #[test]
    fn a_run_that_is_not_in_order_is_an_error() {
        let mut batches = vec![vec![record(1, 1)], vec![record(2, 1)]];
        let run = Sorted::new(move |batch| {
            *batch = batches.pop().unwrap_or_default();
            Ok(())
        });
        let mut merged = merge(vec![run]).expect("the first batch is in order");
        assert!(merged.take().is_err());
    }
}
