//! Where records wait that a slow sink has not taken yet and memory has no room for: a file without a name, which is
//! gone with the process. They are no one's property yet: what must survive a crash is in a sink.
//!
//! Invariant: first in, first out; bounded; a failed push leaves everything as it was.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::event::Record;
use crate::store;

/// Records it holds at most: 1 GiB.
const RECORDS_MAX: u64 = 1 << 24;

/// Bytes of a record.
const SIZE: u64 = 64;

/// A queue of records in a file.
#[derive(Debug)]
pub struct Overflow {
    file: File,
    first: u64,
    end: u64,
    bytes: Vec<u8>,
}

impl Overflow {
    /// An empty one, in the directory for temporary files.
    ///
    /// # Errors
    /// When no file can be made there.
    pub fn new() -> io::Result<Overflow> {
        let file = store::nameless()?;
        Ok(Overflow { file, first: 0, end: 0, bytes: Vec::new() })
    }

    /// Number of records in it.
    pub fn len(&self) -> u64 {
        self.end - self.first
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends records; false when it is full.
    ///
    /// # Errors
    /// When the disk takes them not.
    pub fn push(&mut self, records: &[Record]) -> io::Result<bool> {
        if RECORDS_MAX < self.end + records.len() as u64 {
            return Ok(false);
        }
        self.bytes.clear();
        records.iter().for_each(|record| self.bytes.extend_from_slice(&record.to_bytes()));
        self.file.write_all_at(&self.bytes, self.end * SIZE)?;
        self.end += records.len() as u64;
        Ok(true)
    }

    /// Appends at most `most` of its oldest records to `records`.
    ///
    /// # Errors
    /// When the disk gives them not back; they stay.
    pub fn pop(&mut self, most: usize, records: &mut Vec<Record>) -> io::Result<()> {
        let count = self.len().min(most as u64);
        self.bytes.resize(usize::try_from(count * SIZE).unwrap_or(usize::MAX), 0);
        self.file.read_exact_at(&mut self.bytes, self.first * SIZE)?;
        let (chunks, _) = self.bytes.as_chunks::<64>();
        records.extend(chunks.iter().filter_map(Record::from_bytes));
        self.first += count;
        if self.is_empty() {
            (self.first, self.end) = (0, 0);
            self.file.set_len(0)?;
        }
        Ok(())
    }
}
