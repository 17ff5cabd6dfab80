//! A sink that writes one record behind the other as text or bytes. The formats differ only in how they [`Encode`] one.
//!
//! Invariant: nothing here knows a format.

use super::file::{self, Output};
use super::format::Line;
use super::{Place, Sink, SinkError};
use crate::event::{Manifest, Record, Untrusted};

/// How a format writes its records.
pub(crate) trait Encode: Send {
    /// Whether a file is valid only with its end. Then the end stands there after every commit, and the next one
    /// overwrites it.
    const DOCUMENT: bool = false;

    /// Prepares for a place, before it is opened: columns the user chose, for one.
    fn prepare(&mut self, place: &Place) -> Result<(), SinkError> {
        let _ = place;
        Ok(())
    }

    /// Takes note of the scan, whether the file is new or not.
    fn announce(&mut self, manifest: &Manifest) {
        let _ = manifest;
    }

    /// Writes what stands once at the top of a file.
    fn begin(&mut self, manifest: &Manifest, text: &mut Vec<u8>) {
        let _ = (manifest, text);
    }

    /// Writes a record, at most [`super::format::LINE_BYTES`] bytes.
    fn encode(&mut self, record: &Record, line: &mut Line<'_>);

    /// Writes bytes a target sent; nothing for a format without room for them.
    fn attach(&mut self, record: &Record, key: &str, bytes: &Untrusted, text: &mut Vec<u8>) {
        let _ = (record, key, bytes, text);
    }

    /// Writes what stands at the end. The manifest is the closing one at the end, before that the one of the start.
    fn end(&mut self, manifest: &Manifest, text: &mut Vec<u8>) {
        let _ = (manifest, text);
    }

    /// How many bytes of the end of a file that exists stay when it is appended to; `None` when it is not of this
    /// format. `whole`: the tail is the whole file.
    fn resume(&mut self, tail: &[u8], whole: bool) -> Option<usize> {
        file::resume_lines(tail, whole)
    }
}

/// Opens a sink that writes records to `place`.
pub(crate) fn open<E: Encode + Default + 'static>(place: &Place) -> Result<Box<dyn Sink>, SinkError> {
    let mut encoder = E::default();
    encoder.prepare(place)?;
    let mut resume = |tail: &[u8], whole: bool| encoder.resume(tail, whole);
    let output = if E::DOCUMENT {
        Output::open_document(place, &mut resume)?
    } else {
        Output::open(place, &mut resume)?
    };
    Ok(Box::new(Lines { output, encoder, manifest: None, ending: Vec::new() }))
}

struct Lines<E> {
    output: Output,
    encoder: E,
    /// The manifest of the start.
    manifest: Option<Manifest>,
    ending: Vec<u8>,
}

impl<E: Encode> Lines<E> {
    /// Hands everything to the kernel; a document in a file stays one.
    fn flush(&mut self) -> Result<(), SinkError> {
        self.ending.clear();
        if let Some(manifest) = self.manifest.as_ref().filter(|_| E::DOCUMENT && self.output.is_file()) {
            self.encoder.end(manifest, &mut self.ending);
        }
        self.output.flush(&self.ending)
    }
}

impl<E: Encode> Sink for Lines<E> {
    fn begin(&mut self, manifest: &Manifest) -> Result<(), SinkError> {
        self.manifest = Some(manifest.clone());
        self.encoder.announce(manifest);
        let mut text = Vec::new();
        self.encoder.begin(manifest, &mut text);
        // A file that is appended to has its header already.
        if self.output.is_fresh() {
            self.output.preamble(&text);
        }
        if self.output.is_waiting() || E::DOCUMENT { self.flush() } else { Ok(()) }
    }

    fn write(&mut self, records: &[Record]) -> Result<(), SinkError> {
        for record in records {
            let Lines { output, encoder, .. } = self;
            if output.record(|line| encoder.encode(record, line)) {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn attach(&mut self, record: &Record, key: &str, bytes: &Untrusted) -> Result<(), SinkError> {
        let mut text = Vec::new();
        self.encoder.attach(record, key, bytes, &mut text);
        if self.output.addition(&text) { self.flush() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<u64, SinkError> {
        if self.output.is_waiting() {
            self.flush()?;
        }
        Ok(self.output.safe())
    }

    fn safe(&self) -> u64 {
        self.output.safe()
    }

    fn finish(mut self: Box<Self>, manifest: &Manifest) -> Result<(), SinkError> {
        let mut ending = Vec::new();
        self.encoder.end(manifest, &mut ending);
        self.output.finish(&ending)
    }
}
