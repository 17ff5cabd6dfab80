//! Sorting more than memory holds: sorted runs in files without a name, merged at the end.
//!
//! Invariant: holds [`ROOM`] observations and, while merging, one buffer for each run, whatever their number. What it
//! writes vanishes with the process.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::event::{Attachment, Record, Untrusted};

/// Observations sorted in memory at a time: about 110 MB with what sorting needs, 64 bytes each in a file.
pub const ROOM: usize = 1 << 20;

/// Bytes of attachments that end a run early.
const ROOM_BYTES: usize = 64 << 20;

/// Runs merged at once; more are merged into one first.
const FAN_IN: usize = 128;

const BUFFER_BYTES: usize = 1 << 17;

/// One thing that was observed: a verdict, or bytes about one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The verdict, or what the bytes are about.
    pub record: Record,
    /// What the bytes are, and the bytes; `None` for a verdict.
    pub bytes: Option<Box<(Box<str>, Untrusted)>>,
}

impl From<Record> for Item {
    fn from(record: Record) -> Item {
        Item { record, bytes: None }
    }
}

impl From<Attachment> for Item {
    fn from(attachment: Attachment) -> Item {
        Item { record: attachment.record, bytes: Some(Box::new((attachment.key, attachment.bytes))) }
    }
}

/// What comes first.
pub type Compare = fn(&Item, &Item) -> Ordering;

/// By address, port, protocol and time; verdicts before bytes.
pub fn by_target(one: &Item, other: &Item) -> Ordering {
    let key = |item: &Item| (item.record.sort_key(), item.bytes.is_some());
    key(one).cmp(&key(other))
}

/// By time.
pub fn by_time(one: &Item, other: &Item) -> Ordering {
    one.record.time_ns.cmp(&other.record.time_ns)
}

/// Takes observations in any order. Those that compare equal keep the order in which they came.
pub struct Sorter {
    directory: PathBuf,
    compare: Compare,
    room: usize,
    items: Vec<Item>,
    item_bytes: usize,
    runs: Vec<File>,
}

impl Sorter {
    /// A sorter whose files stand in `directory`.
    pub fn new(directory: &Path, compare: Compare) -> Sorter {
        Sorter::with_room(directory, compare, ROOM)
    }

    fn with_room(directory: &Path, compare: Compare, room: usize) -> Sorter {
        let directory = directory.to_owned();
        Sorter { directory, compare, room, items: Vec::new(), item_bytes: 0, runs: Vec::new() }
    }

    /// Takes one more.
    ///
    /// # Errors
    /// When a run cannot be written.
    pub fn push(&mut self, item: impl Into<Item>) -> io::Result<()> {
        let item = item.into();
        self.item_bytes += item.bytes.as_ref().map_or(0, |bytes| bytes.0.len() + bytes.1.0.len() + 64);
        self.items.push(item);
        if self.items.len() < self.room && self.item_bytes < ROOM_BYTES { Ok(()) } else { self.spill() }
    }

    /// Writes what is in memory as a run.
    fn spill(&mut self) -> io::Result<()> {
        self.items.sort_by(self.compare);
        let mut run = BufWriter::with_capacity(BUFFER_BYTES, tempfile::tempfile_in(&self.directory)?);
        for item in self.items.drain(..) {
            write_item(&mut run, &item)?;
        }
        self.item_bytes = 0;
        self.runs.push(run.into_inner().map_err(io::IntoInnerError::into_error)?);
        if self.runs.len() < FAN_IN {
            return Ok(());
        }
        let mut merged = Merged::new(std::mem::take(&mut self.runs), Vec::new(), self.compare)?;
        let mut run = BufWriter::with_capacity(BUFFER_BYTES, tempfile::tempfile_in(&self.directory)?);
        while let Some(item) = merged.next()? {
            write_item(&mut run, &item)?;
        }
        self.runs.push(run.into_inner().map_err(io::IntoInnerError::into_error)?);
        Ok(())
    }

    /// Everything in order.
    ///
    /// # Errors
    /// When a run cannot be read.
    pub fn finish(mut self) -> io::Result<Merged> {
        self.items.sort_by(self.compare);
        Merged::new(self.runs, self.items, self.compare)
    }
}

/// The runs, merged.
pub struct Merged {
    runs: Vec<Run>,
    compare: Compare,
    heads: BinaryHeap<Reverse<Head>>,
}

impl Merged {
    fn new(files: Vec<File>, items: Vec<Item>, compare: Compare) -> io::Result<Merged> {
        let mut runs: Vec<Run> = Vec::with_capacity(files.len() + 1);
        for mut file in files {
            file.rewind()?;
            runs.push(Run::File(BufReader::with_capacity(BUFFER_BYTES, file)));
        }
        runs.push(Run::Memory(items.into_iter()));
        let mut merged = Merged { runs, compare, heads: BinaryHeap::new() };
        (0..merged.runs.len()).try_for_each(|run| merged.refill(run))?;
        Ok(merged)
    }

    fn refill(&mut self, run: usize) -> io::Result<()> {
        if let Some(item) = self.runs[run].next()? {
            self.heads.push(Reverse(Head { item, run, compare: self.compare }));
        }
        Ok(())
    }

    /// The next in order.
    ///
    /// # Errors
    /// When a run cannot be read.
    #[expect(clippy::should_implement_trait, reason = "an iterator would hand out the error for ever")]
    pub fn next(&mut self) -> io::Result<Option<Item>> {
        let Some(Reverse(head)) = self.heads.pop() else { return Ok(None) };
        self.refill(head.run)?;
        Ok(Some(head.item))
    }
}

enum Run {
    File(BufReader<File>),
    Memory(std::vec::IntoIter<Item>),
}

impl Run {
    fn next(&mut self) -> io::Result<Option<Item>> {
        match self {
            Run::File(file) => read_item(file),
            Run::Memory(items) => Ok(items.next()),
        }
    }
}

/// The first item of a run. Of equal ones the earlier run's comes first.
struct Head {
    item: Item,
    run: usize,
    compare: Compare,
}

impl Ord for Head {
    fn cmp(&self, other: &Head) -> Ordering {
        (self.compare)(&self.item, &other.item).then(self.run.cmp(&other.run))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Head) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

/// The record, and behind it the length of its bytes plus one, 0 for a verdict, the length of the key, and both.
fn write_item(run: &mut impl Write, item: &Item) -> io::Result<()> {
    run.write_all(&item.record.to_bytes())?;
    let Some((key, bytes)) = item.bytes.as_deref() else { return run.write_all(&[0; 4]) };
    let too_long = |_| io::Error::other("bytes of a target are longer than 4 GiB");
    let length = u32::try_from(bytes.0.len() + 1).map_err(too_long)?;
    let key_length = u32::try_from(key.len()).map_err(too_long)?;
    run.write_all(&length.to_le_bytes())?;
    run.write_all(&key_length.to_le_bytes())?;
    run.write_all(key.as_bytes())?;
    run.write_all(&bytes.0)
}

fn read_item(run: &mut impl Read) -> io::Result<Option<Item>> {
    let mut head = [0; 68];
    match run.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let (record, length) = head.split_first_chunk::<64>().expect("68 bytes");
    let damaged = || io::Error::other("a run of the sort was changed by somebody else");
    let record = Record::from_bytes(record).ok_or_else(damaged)?;
    let length = u32::from_le_bytes(length.try_into().expect("4 bytes"));
    let Some(length) = length.checked_sub(1) else { return Ok(Some(record.into())) };
    let mut key_length = [0; 4];
    run.read_exact(&mut key_length)?;
    let mut key = vec![0; u32::from_le_bytes(key_length) as usize];
    run.read_exact(&mut key)?;
    let mut bytes = vec![0; length as usize];
    run.read_exact(&mut bytes)?;
    let key = String::from_utf8(key).map_err(|_| damaged())?.into_boxed_str();
    Ok(Some(Item { record, bytes: Some(Box::new((key, Untrusted(bytes)))) }))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::event::{Reason, State};
    use crate::target::{Port, Protocol, Target};

    fn item(number: u32) -> Item {
        let mixed = number.wrapping_mul(0x9e37_79b9);
        let address = IpAddr::V4(Ipv4Addr::from(mixed >> 20));
        let port = Port { protocol: Protocol::TCP, number: u16::try_from(mixed >> 8 & 7).expect("small") };
        let mut record = Record::new(Target { address, port }, address, State::Open, Reason::SYN_ACK);
        record.time_ns = u64::from(mixed & 15);
        record.rtt_us = number;
        let bytes = number
            .is_multiple_of(5)
            .then(|| Box::new(("ssh".into(), Untrusted(number.to_be_bytes().to_vec()))));
        Item { record, bytes }
    }

    #[test]
    fn what_comes_out_is_what_went_in_sorted_and_stable() {
        let directory = tempfile::tempdir().expect("a directory");
        // 3 runs; so many runs that they are merged in between; none.
        for (count, room) in [(20_000, 6_000), (20_000, 40), (50, 1000), (0, 10)] {
            for compare in [by_target as Compare, by_time] {
                let mut sorter = Sorter::with_room(directory.path(), compare, room);
                let mut expected: Vec<Item> = (0..count).map(item).collect();
                expected.iter().for_each(|item| sorter.push(item.clone()).expect("writes"));
                expected.sort_by(compare);
                let mut merged = sorter.finish().expect("opens");
                for (index, expected) in expected.iter().enumerate() {
                    assert_eq!(merged.next().expect("reads").as_ref(), Some(expected), "{index} of {count}");
                }
                assert_eq!(merged.next().expect("reads"), None);
            }
        }
        assert_eq!(std::fs::read_dir(directory.path()).expect("lists").count(), 0, "the runs have no name");
    }
}
