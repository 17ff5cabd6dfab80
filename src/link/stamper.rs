//! Turns a batch into finished frames: stamps each lane into its slot and reads each finished frame back through
//! the last gate. Shared by every link that carries frames.

use std::sync::Arc;

use crate::batch::{Batch, LANES, NextHops, Template};
use crate::gate::Gate;
use crate::link::{LinkError, LinkSpec};

/// One slot per lane, and the frames in them.
pub struct Stamper {
    templates: Arc<[Template]>,
    hops: NextHops,
    gate: Arc<Gate>,
    slots: Box<[u8]>,
    stride: usize,
    lengths: [usize; LANES],
    count: usize,
}

impl Stamper {
    /// Slots for the templates of `spec`, each a whole number of cache lines.
    pub fn new(spec: &LinkSpec) -> Stamper {
        let longest = spec.templates.iter().map(Template::frame_length).max().unwrap_or(0);
        let stride = longest.next_multiple_of(CACHE_LINE).max(CACHE_LINE);
        Stamper {
            templates: Arc::clone(&spec.templates),
            hops: spec.hops.clone(),
            gate: Arc::clone(&spec.gate),
            slots: vec![0; stride * LANES].into_boxed_slice(),
            stride,
            lengths: [0; LANES],
            count: 0,
        }
    }

    /// Finishes the frames of all lanes of `batch`; [`Stamper::frames`] holds them until the next call.
    ///
    /// # Errors
    /// [`LinkError::Excluded`] when a finished frame leads to an excluded address; then there are no frames.
    ///
    /// # Panics
    /// When a lane names a template the link was not opened with.
    pub fn stamp(&mut self, batch: &Batch) -> Result<(), LinkError> {
        self.count = 0;
        for (lane, slot) in self.slots.chunks_exact_mut(self.stride).enumerate().take(batch.len()) {
            let template = &self.templates[usize::from(batch.template[lane])];
            let length = template.stamp(batch, lane, self.hops.mac(batch.hop[lane]), slot);
            self.lengths[lane] = length;
            if let Some(address) = self.gate.blocked(&slot[..length]) {
                return Err(LinkError::Excluded { address });
            }
        }
        self.count = batch.len();
        Ok(())
    }

    /// Reads one finished frame through the gate.
    ///
    /// # Errors
    /// [`LinkError::Excluded`] when it leads to an excluded address.
    pub fn check(&self, frame: &[u8]) -> Result<(), LinkError> {
        match self.gate.blocked(frame) {
            Some(address) => Err(LinkError::Excluded { address }),
            None => Ok(()),
        }
    }

    /// The finished frames in lane order.
    pub fn frames(&self) -> impl Iterator<Item = &[u8]> {
        let slots = self.slots.chunks_exact(self.stride).take(self.count);
        slots.zip(&self.lengths).map(|(slot, &length)| &slot[..length])
    }
}

const CACHE_LINE: usize = 64;
