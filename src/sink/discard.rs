//! Takes records and forgets them: for measurements, and for scans whose only result is the summary.

use super::{Place, Sink, SinkError, SinkKind};
use crate::event::{Manifest, Record};

/// The row of the registry. The path of its place is ignored and may be empty.
pub(crate) const KIND: SinkKind =
    SinkKind { name: "none", about: "count results and forget them", open, ..SinkKind::BASE };

pub(super) fn open(_place: &Place) -> Result<Box<dyn Sink>, SinkError> {
    Ok(Box::new(Discard { taken: 0 }))
}

struct Discard {
    taken: u64,
}

impl Sink for Discard {
    fn begin(&mut self, _manifest: &Manifest) -> Result<(), SinkError> {
        Ok(())
    }

    fn write(&mut self, records: &[Record]) -> Result<(), SinkError> {
        self.taken += records.len() as u64;
        Ok(())
    }

    fn commit(&mut self) -> Result<u64, SinkError> {
        Ok(self.taken)
    }

    fn safe(&self) -> u64 {
        self.taken
    }

    fn finish(self: Box<Self>, _manifest: &Manifest) -> Result<(), SinkError> {
        Ok(())
    }
}
