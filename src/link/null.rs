//! A link that goes nowhere: frames are finished, gated, counted and digested, and dropped.
//!
//! For measuring generation and for comparing runs: equal digests mean equal frames in equal order.

use crate::batch::Batch;
use crate::link::digest::Digest;
use crate::link::stamper::Stamper;
use crate::link::{Accepted, Backend, Link, LinkError, LinkSpec, TxQueue};

/// The row of the registry.
pub(super) const BACKEND: Backend = Backend {
    name: "null",
    about: "finish and digest frames, send nothing",
    transmits: false,
    argument: None,
    open,
};

fn open(spec: &LinkSpec) -> Result<Link, LinkError> {
    let queue = Queue { stamper: Stamper::new(spec), digest: Digest::new() };
    Ok(Link {
        tx: vec![Box::new(queue)],
        rx: Vec::new(),
        about: "null: frames are digested, not sent".to_owned(),
    })
}

struct Queue {
    stamper: Stamper,
    digest: Digest,
}

impl TxQueue for Queue {
    fn submit(&mut self, batch: &Batch) -> Result<Accepted, LinkError> {
        self.stamper.stamp(batch)?;
        self.stamper.feed(&mut self.digest);
        Ok(Accepted { lanes: batch.lanes(), stall: None })
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, LinkError> {
        self.stamper.check(frame)?;
        self.digest.add(frame);
        Ok(true)
    }

    fn finish(&mut self) -> Result<Option<String>, LinkError> {
        Ok(Some(self.digest.to_string()))
    }
}
