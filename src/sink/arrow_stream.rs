//! Record batches down a pipe, as Arrow IPC streams them: `-o arrow:- | ...`.
//!
//! Invariant: a batch is written whole or the sink ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;

use super::file::shown;
use super::{Place, Sink, SinkError};
use crate::columnar::arrow::Stream;
use crate::event::{Manifest, Record};

/// The pipe or device at a place; `None` when it is for a file.
pub(crate) fn wanted(place: &Place) -> Result<Option<File>, SinkError> {
    let object = object(place);
    let failed = |error: io::Error| SinkError::from_io("open", &object, &error);
    if place.stdout {
        let file = io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
        return Ok(Some(file.into()));
    }
    let is_pipe = |kind: fs::FileType| kind.is_fifo() || kind.is_char_device();
    match fs::symlink_metadata(&place.path) {
        Ok(metadata) if is_pipe(metadata.file_type()) => {
            OpenOptions::new().append(true).open(&place.path).map(Some).map_err(failed)
        }
        _ => Ok(None),
    }
}

/// A sink that streams.
pub(crate) fn open(file: File, place: &Place) -> Result<Box<dyn Sink>, SinkError> {
    let output = Some(BufWriter::with_capacity(1 << 18, file));
    Ok(Box::new(ArrowStream { output, stream: None, object: object(place), waiting: Vec::new(), safe: 0 }))
}

fn object(place: &Place) -> String {
    if place.stdout { "standard output".to_owned() } else { shown(&place.path) }
}

struct ArrowStream {
    /// Until the stream begins.
    output: Option<BufWriter<File>>,
    stream: Option<Stream<BufWriter<File>>>,
    object: String,
    waiting: Vec<Record>,
    safe: u64,
}

impl ArrowStream {
    fn flush(&mut self) -> Result<(), SinkError> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return Ok(());
        }
        let stream =
            self.stream.as_mut().ok_or_else(|| SinkError::refused(&self.object, "it was not begun"))?;
        stream.write(&waiting).map_err(|error| SinkError::from_io("write to", &self.object, &error))?;
        self.safe += waiting.len() as u64;
        Ok(())
    }
}

impl Sink for ArrowStream {
    fn begin(&mut self, manifest: &Manifest) -> Result<(), SinkError> {
        let failed = |error: io::Error| SinkError::from_io("write to", &self.object, &error);
        let mut output =
            self.output.take().ok_or_else(|| SinkError::refused(&self.object, "it was begun twice"))?;
        output.flush().map_err(failed)?;
        self.stream = Some(Stream::new(output, manifest).map_err(failed)?);
        Ok(())
    }

    fn write(&mut self, records: &[Record]) -> Result<(), SinkError> {
        self.waiting.extend_from_slice(records);
        if BATCH_RECORDS <= self.waiting.len() { self.flush() } else { Ok(()) }
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
        let Some(stream) = &mut self.stream else { return Ok(()) };
        stream.finish().map_err(|error| SinkError::from_io("write to", &self.object, &error))
    }
}

/// Records collected before they become a batch without being asked for.
const BATCH_RECORDS: usize = 1 << 16;
