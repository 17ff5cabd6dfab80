//! A spool: records on the local disk that a slow, dead or absent receiver has not taken yet.
//!
//! ```text
//! NAME.spool/              0700
//!   manifest.json          the scan: written at the start, replaced atomically at its end
//!   destination            where the records were meant to go, without secrets
//!   lock                   held by the process that writes or replays
//!   00000001.seg ...       0600, about 64 MiB each: a header, then blocks ([`block`])
//! ```
//!
//! **What survives.** A block is handed to the kernel whole and carries a checksum. What a commit returned is in the page
//! cache and survives `kill -9`; a segment is synced to the disk when the next begins and at the end, so a power failure
//! costs at most the tail of the last segment. A tail that a crash tore is found by its checksum, cut, and told
//! ([`Damage`]); so is a block that went bad in the middle, with the exact number of records that it held.
//!
//! A disk that is full or broken is an error of the sink: the block that did not fit is cut off again, what stands
//! before it is still delivered, and [`Spool::safe`] is exact.
//!
//! Invariant: knows no receiver and no format but its own.

mod block;
mod overflow;
mod reader;

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub use overflow::Overflow;
pub use reader::{Damage, Item, SpoolReader};

use crate::event::{Manifest, Record, Untrusted};
use crate::store::{create_exclusive, replace_atomically};
use block::{BLOCK_RECORDS, Header, Kind};

/// Bytes after which a new segment begins.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Name of the manifest inside a spool.
pub const MANIFEST: &str = "manifest.json";

/// Name of the file that says where the records were meant to go.
pub const DESTINATION: &str = "destination";

const LOCK: &str = "lock";

/// Where a segment's bytes go: a file, or in tests one that fails.
pub(crate) trait Medium: Send {
    /// Appends all the bytes or fails; then any part of them may stand there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts off everything behind `length`.
    fn cut(&mut self, length: u64) -> io::Result<()>;
    /// Waits until the disk has everything.
    fn sync(&mut self) -> io::Result<()>;
}

impl Medium for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)?;
        io::Seek::seek(self, io::SeekFrom::Start(length)).map(|_| ())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Opens segment `number` of a spool.
pub(crate) type Open = fn(&Path, u32) -> io::Result<Box<dyn Medium>>;

/// The writing end.
pub struct Spool {
    directory: PathBuf,
    open: Open,
    segment: Box<dyn Medium>,
    number: u32,
    /// Bytes of the segment that hold whole blocks.
    length: u64,
    /// The block under construction, header included.
    buffer: Vec<u8>,
    buffered: u32,
    safe: u64,
    segment_bytes: u64,
    /// Held while the spool is written.
    _lock: File,
}

impl Spool {
    /// Makes a new spool for a scan.
    ///
    /// # Errors
    /// When the directory exists or cannot be made.
    pub fn create(directory: &Path, manifest: &Manifest, destination: &str) -> io::Result<Spool> {
        Spool::create_on(directory, manifest, destination, open_segment)
    }

    /// As [`Spool::create`], on segments that `open` makes.
    pub(crate) fn create_on(
        directory: &Path,
        manifest: &Manifest,
        destination: &str,
        open: Open,
    ) -> io::Result<Spool> {
        DirBuilder::new().mode(0o700).create(directory)?;
        let lock = lock(directory)?;
        store_manifest(directory, manifest)?;
        create_exclusive(&directory.join(DESTINATION))?.write_all(destination.as_bytes())?;
        let mut segment = open(directory, 1)?;
        segment.append(&block::segment_header(1, 0))?;
        Ok(Spool {
            directory: directory.to_owned(),
            open,
            segment,
            number: 1,
            length: block::SEGMENT_HEADER as u64,
            buffer: block::begin(),
            buffered: 0,
            safe: 0,
            segment_bytes: SEGMENT_BYTES,
            _lock: lock,
        })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Appends records; they are safe after the next [`Spool::flush`], or when a block is full.
    pub fn append(&mut self, records: &[Record]) -> io::Result<()> {
        for record in records {
            self.buffer.extend_from_slice(&record.to_bytes());
            self.buffered += 1;
            if self.buffered == BLOCK_RECORDS {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Appends bytes that a target sent, behind the records before them.
    pub fn attach(&mut self, record: &Record, key: &str, bytes: &Untrusted) -> io::Result<()> {
        self.flush()?;
        self.buffer.extend_from_slice(&block::attachment(record, key, &bytes.0));
        self.put(Kind::Attachment, 0)
    }

    /// Hands what waits to the kernel. After an error the records that waited are gone, and [`Spool::safe`] tells
    /// exactly how many are not.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.buffered == 0 { Ok(()) } else { self.put(Kind::Records, self.buffered) }
    }

    /// Number of records that survive `kill -9`.
    pub fn safe(&self) -> u64 {
        self.safe
    }

    /// Flushes, writes the closing manifest and waits for the disk.
    pub fn close(&mut self, manifest: &Manifest) -> io::Result<()> {
        let flushed = self.flush();
        store_manifest(&self.directory, manifest)?;
        self.segment.sync()?;
        flushed
    }

    /// Writes the block in the buffer.
    fn put(&mut self, kind: Kind, records: u32) -> io::Result<()> {
        let header = Header { kind, records, first: self.safe };
        block::seal(&mut self.buffer, &header);
        let result = self.put_bytes();
        if planted!(47, true, result.is_ok()) {
            self.length += self.buffer.len() as u64;
            self.safe += u64::from(records);
        }
        self.buffer.truncate(block::HEADER);
        self.buffered = 0;
        result
    }

    fn put_bytes(&mut self) -> io::Result<()> {
        if self.segment_bytes <= self.length {
            self.segment.sync()?;
            let mut next = (self.open)(&self.directory, self.number + 1)?;
            next.append(&block::segment_header(self.number + 1, self.safe))?;
            (self.segment, self.number) = (next, self.number + 1);
            self.length = block::SEGMENT_HEADER as u64;
        }
        let result = self.segment.append(&self.buffer);
        if result.is_err() {
            // Best effort: a part that stays is found by its checksum.
            let _ = self.segment.cut(self.length);
        }
        result
    }
}

fn open_segment(directory: &Path, number: u32) -> io::Result<Box<dyn Medium>> {
    Ok(Box::new(create_exclusive(&segment_path(directory, number))?))
}

/// The file of a segment.
pub(crate) fn segment_path(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("{number:08}.seg"))
}

/// Replaces the manifest of a spool at once.
fn store_manifest(directory: &Path, manifest: &Manifest) -> io::Result<()> {
    let json = serde_json::to_vec_pretty(manifest)?;
    replace_atomically(&directory.join(MANIFEST), &json)
}

/// Takes the lock of a spool.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] when another process has it.
pub fn lock(directory: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(directory.join(LOCK))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::Error(error)) => Err(error),
        Err(fs::TryLockError::WouldBlock) => {
            let cause = "another process writes or replays it; wait for its end";
            Err(io::Error::new(io::ErrorKind::WouldBlock, cause))
        }
    }
}

/// Removes a spool whose records are all delivered.
pub fn remove(directory: &Path) -> io::Result<()> {
    fs::remove_dir_all(directory)
}

/// Whether a path is a spool.
pub fn is_spool(path: &Path) -> bool {
    path.join(MANIFEST).is_file() && path.join(DESTINATION).is_file()
}

#[cfg(test)]
mod tests;
