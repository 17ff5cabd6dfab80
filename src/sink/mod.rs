//! Where records go: the trait [`Sink`] and the registry [`SINKS`]. One file per format or database.
//!
//! Contract of the family. A sink is owned by the writer thread and may block; it sees whole batches. It is
//! told `begin` once before the first record and `finish` exactly once, also after an interrupt. What it wrote
//! before `commit` returned survives `kill -9`; a file that exists is valid up to its last record at any
//! instant.
//!
//! Invariant: sinks never see packets, and never decide what is written: filters stand before them.

use std::path::PathBuf;

use crate::event::{Manifest, Record, Untrusted};

/// Where records go.
pub trait Sink: Send {
    /// Announces the scan. Called once, before any record.
    fn begin(&mut self, manifest: &Manifest) -> Result<(), SinkError>;

    /// Takes a batch of records, in the order they were received.
    fn write(&mut self, records: &[Record]) -> Result<(), SinkError>;

    /// Takes bytes that a target sent, found under `key` (for example `banner`), about the target of `record`.
    /// Sinks without room for them ignore them.
    fn attach(&mut self, record: &Record, key: &'static str, bytes: &Untrusted) -> Result<(), SinkError> {
        let _ = (record, key, bytes);
        Ok(())
    }

    /// Makes everything written so far visible to readers. Returns how many records are safe against a crash
    /// of this process.
    fn commit(&mut self) -> Result<u64, SinkError>;

    /// Ends the output with the closing manifest. Called exactly once.
    fn finish(self: Box<Self>, manifest: &Manifest) -> Result<(), SinkError>;
}

/// A row of the registry: one kind of sink.
pub struct SinkKind {
    /// The prefix that names it: `ndjson` in `-o ndjson:-`.
    pub name: &'static str,
    /// File suffixes that mean it, without the dot.
    pub suffixes: &'static [&'static str],
    /// One line for `--help`, at most 60 characters.
    pub about: &'static str,
    /// Opens it. Must fail before the first packet when the place cannot be written.
    pub open: fn(&Place) -> Result<Box<dyn Sink>, SinkError>,
}

/// Where a sink writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What stands behind the prefix, or the whole argument.
    pub path: PathBuf,
    /// Whether the path is `-`: standard output.
    pub stdout: bool,
    /// What to do when the file exists.
    pub existing: Existing,
}

/// What to do with a file that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// Refuse: nothing is overwritten by accident.
    #[default]
    Refuse,
    /// Append to it (`--append-output`).
    Append,
    /// Replace it (`--force`).
    Replace,
}

/// Why a sink could not do its work. Names the operation and the object.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {object}: {cause}")]
pub struct SinkError {
    /// What was attempted: `create`, `write to`, `commit to`.
    pub operation: &'static str,
    /// The file or database.
    pub object: String,
    /// What came of it, with the way out where there is one.
    pub cause: String,
}
