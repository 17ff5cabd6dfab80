//! A sink that writes one binary row a record down a pipe or into a file: what databases load by themselves. The formats
//! differ only in how they [`Encode`] one.
//!
//! Rows have no length or checksum of their own, so a crash may leave part of one at the end; the databases that read
//! them then refuse the load as a whole. What wants to survive goes through a spool instead.
//!
//! Invariant: nothing here knows a format.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use super::file::{replace, shown};
use super::{Existing, Place, Sink, SinkError};
use crate::event::{Manifest, Record};
use crate::store;

/// How a format writes its rows.
pub(crate) trait Encode: Default + Send + 'static {
    /// Stands once at the end.
    const TRAILER: &'static [u8] = &[];

    /// Whether two files of it, one behind the other, are one file of it.
    const APPENDS: bool = false;

    /// Takes note of the scan, and writes what stands once at the beginning.
    fn header(&mut self, manifest: &Manifest, buffer: &mut Vec<u8>);

    /// Writes the row of a record.
    fn encode(&mut self, record: &Record, buffer: &mut Vec<u8>);
}

/// Opens a sink that writes rows to `place`.
pub(crate) fn open<E: Encode>(place: &Place) -> Result<Box<dyn Sink>, SinkError> {
    let object = if place.stdout { "standard output".to_owned() } else { shown(&place.path) };
    let file = if place.stdout {
        let file = io::stdout().as_fd().try_clone_to_owned();
        file.map_err(|error| SinkError::from_io("open", &object, &error))?.into()
    } else {
        open_file(place, &object, E::APPENDS)?
    };
    let buffer = Vec::with_capacity(BUFFER_BYTES + 4096);
    let sink = Bytes { file, object, encoder: E::default(), buffer, ends: Vec::new(), safe: 0, done: 0 };
    Ok(Box::new(sink))
}

fn open_file(place: &Place, object: &str, appends: bool) -> Result<File, SinkError> {
    let path = &place.path;
    let failed = |operation| move |error: io::Error| SinkError::from_io(operation, object, &error);
    match store::create_exclusive(path) {
        Ok(file) => return Ok(file),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed("create")(error)),
    }
    let kind = fs::symlink_metadata(path).map_err(failed("open"))?.file_type();
    let mut append = OpenOptions::new();
    append.append(true).custom_flags(libc::O_NOFOLLOW);
    match place.existing {
        _ if kind.is_fifo() || kind.is_char_device() => append.open(path).map_err(failed("open")),
        Existing::Replace if kind.is_file() || kind.is_symlink() => replace(path, object),
        _ if kind.is_symlink() => {
            Err(SinkError::refused(object, "it is a symbolic link, and those are not followed"))
        }
        Existing::Append if kind.is_file() && appends => append.open(path).map_err(failed("append to")),
        Existing::Append if kind.is_file() => {
            let cause = "rows of this kind are not added to a file that ended; --force replaces it";
            Err(SinkError::refused(object, cause))
        }
        _ if kind.is_file() => Err(SinkError::refused(object, "it exists; --force replaces it")),
        _ => Err(SinkError::refused(object, "it is not a file")),
    }
}

struct Bytes<E> {
    file: File,
    object: String,
    encoder: E,
    buffer: Vec<u8>,
    /// Where each record in the buffer ends.
    ends: Vec<usize>,
    safe: u64,
    /// Bytes written.
    done: u64,
}

impl<E: Encode> Bytes<E> {
    /// Hands the buffer to the kernel. After an error what did not get through is discarded, a row that got through in
    /// part is cut off again where the output is a file, and `safe` is exact.
    fn flush(&mut self) -> Result<(), SinkError> {
        let mut done = 0;
        let mut result = Ok(());
        while done < self.buffer.len() {
            match self.file.write(&self.buffer[done..]) {
                Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => result = Err(error),
            }
            if result.is_err() {
                break;
            }
        }
        let whole = self.ends.partition_point(|end| *end <= done);
        self.safe += whole as u64;
        let kept = if result.is_ok() { done } else { whole.checked_sub(1).map_or(0, |last| self.ends[last]) };
        self.done += kept as u64;
        if kept < done && self.file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            // Best effort: the caller already reports why the write failed.
            let _ = self.file.set_len(self.done);
        }
        self.buffer.clear();
        self.ends.clear();
        result.map_err(|error: io::Error| SinkError::from_io("write to", &self.object, &error))
    }
}

impl<E: Encode> Sink for Bytes<E> {
    fn begin(&mut self, manifest: &Manifest) -> Result<(), SinkError> {
        self.done = self.file.metadata().map_or(0, |metadata| metadata.len());
        self.encoder.header(manifest, &mut self.buffer);
        self.flush()
    }

    fn write(&mut self, records: &[Record]) -> Result<(), SinkError> {
        for record in records {
            self.encoder.encode(record, &mut self.buffer);
            self.ends.push(self.buffer.len());
            if BUFFER_BYTES <= self.buffer.len() {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<u64, SinkError> {
        self.flush()?;
        Ok(self.safe)
    }

    fn safe(&self) -> u64 {
        self.safe
    }

    fn finish(mut self: Box<Self>, _manifest: &Manifest) -> Result<(), SinkError> {
        self.flush()?;
        self.buffer.extend_from_slice(E::TRAILER);
        self.flush()?;
        if self.file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            self.file.sync_all().map_err(|error| SinkError::from_io("sync", &self.object, &error))?;
        }
        Ok(())
    }
}

/// A scan's identifier as a number; 0 for what is none.
pub(crate) fn uuid(text: &str) -> u128 {
    u128::from_str_radix(&text.replace('-', ""), 16).unwrap_or(0)
}

/// Bytes collected before they are handed to the kernel.
const BUFFER_BYTES: usize = 256 * 1024;
