//! A sink that writes one line a record. The formats differ only in how they [`Encode`] one.
//!
//! Invariant: nothing here knows a format.

use super::file::Output;
use super::format::Line;
use super::{Place, Sink, SinkError};
use crate::event::{Manifest, Record};

/// How a format writes its lines.
pub(crate) trait Encode: Send {
    /// Stands once at the top of a file; empty for formats without one.
    const HEADER: &'static str = "";

    /// Writes the line of a record, newline included.
    fn encode(&mut self, record: &Record, line: &mut Line<'_>);
}

/// Opens a sink that writes lines to `place`.
pub(crate) fn open<E: Encode + Default + 'static>(place: &Place) -> Result<Box<dyn Sink>, SinkError> {
    Ok(Box::new(Lines { output: Output::open(place)?, encoder: E::default() }))
}

struct Lines<E> {
    output: Output,
    encoder: E,
}

impl<E: Encode> Sink for Lines<E> {
    fn begin(&mut self, _manifest: &Manifest) -> Result<(), SinkError> {
        // A file that is appended to has its header already.
        if self.output.is_fresh() { self.output.preamble(E::HEADER) } else { Ok(()) }
    }

    fn write(&mut self, records: &[Record]) -> Result<(), SinkError> {
        let Lines { output, encoder } = self;
        records.iter().try_for_each(|record| output.record(|line| encoder.encode(record, line)))
    }

    fn commit(&mut self) -> Result<u64, SinkError> {
        self.output.flush()?;
        Ok(self.output.safe())
    }

    fn safe(&self) -> u64 {
        self.output.safe()
    }

    fn finish(self: Box<Self>, _manifest: &Manifest) -> Result<(), SinkError> {
        self.output.finish()
    }
}
