//! Turns a batch into finished frames: stamps each lane into its slot and reads each finished frame back through
//! the last gate. Shared by every link that carries frames.

use std::sync::Arc;

use crate::batch::{Batch, LANES, NextHops, Template};
use crate::gate::Gate;
use crate::link::{LinkError, LinkSpec};
use crate::wire::ethernet::Mac;

/// One slot per lane, and the frames in them.
pub(super) struct Stamper {
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
    pub(super) fn new(spec: &LinkSpec) -> Stamper {
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
    pub(super) fn stamp(&mut self, batch: &Batch) -> Result<(), LinkError> {
        self.count = 0;
        for (lane, slot) in self.slots.chunks_exact_mut(self.stride).enumerate().take(batch.len()) {
            let template = &self.templates[usize::from(batch.template[lane])];
            let mac = self.hops.mac(batch.hop[lane]);
            self.lengths[lane] = finish(template, &self.gate, (batch, lane, mac), slot)?;
        }
        self.count = batch.len();
        Ok(())
    }

    /// Finishes the frame of one lane in a slot of the caller's own (memory the kernel reads, for one); returns its
    /// length.
    ///
    /// # Errors
    /// As [`Stamper::stamp`].
    ///
    /// # Panics
    /// As [`Stamper::stamp`], and when the slot is shorter than the frame.
    #[inline]
    pub(super) fn stamp_lane(&self, batch: &Batch, lane: usize, slot: &mut [u8]) -> Result<usize, LinkError> {
        let template = &self.templates[usize::from(batch.template[lane])];
        finish(template, &self.gate, (batch, lane, self.hops.mac(batch.hop[lane])), slot)
    }

    /// Length of the frame of a lane in bytes.
    ///
    /// # Panics
    /// As [`Stamper::stamp`].
    #[inline]
    pub(super) fn frame_length(&self, batch: &Batch, lane: usize) -> usize {
        self.templates[usize::from(batch.template[lane])].frame_length()
    }

    /// The lengths that frames can have, each once, in ascending order.
    pub(super) fn frame_lengths(&self) -> Vec<usize> {
        let lengths: std::collections::BTreeSet<usize> =
            self.templates.iter().map(Template::frame_length).collect();
        lengths.into_iter().collect()
    }

    /// Distance of slots in bytes: a whole number of cache lines that holds any frame.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Reads one finished frame through the gate.
    ///
    /// # Errors
    /// [`LinkError::Excluded`] when it leads to an excluded address.
    pub(super) fn check(&self, frame: &[u8]) -> Result<(), LinkError> {
        match self.gate.blocked(frame) {
            Some(address) => Err(LinkError::Excluded { address }),
            None => Ok(()),
        }
    }

    /// The finished frames in lane order.
    pub(super) fn frames(&self) -> impl Iterator<Item = &[u8]> {
        let slots = self.slots.chunks_exact(self.stride).take(self.count);
        slots.zip(&self.lengths).map(|(slot, &length)| &slot[..length])
    }
}

/// Writes the frame of a lane and reads it back through the gate; returns its length.
#[inline]
fn finish(
    template: &Template,
    gate: &Gate,
    (batch, lane, mac): (&Batch, usize, Mac),
    slot: &mut [u8],
) -> Result<usize, LinkError> {
    let length = template.stamp(batch, lane, mac, slot);
    match gate.blocked(&slot[..length]) {
        Some(address) => Err(LinkError::Excluded { address }),
        None => Ok(length),
    }
}

const CACHE_LINE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::sample;

    #[test]
    fn templates_of_different_lengths_share_slots_of_whole_cache_lines() {
        let mut stamper = Stamper::new(&sample::spec());
        assert_eq!(stamper.stride, 128);
        let mut batch = sample::batch(0, 3);
        batch.template[1] = 1;
        batch.destination_v6[1] = 0x2001_0db8 << 96 | 5;
        stamper.stamp(&batch).expect("allowed");
        let lengths: Vec<usize> = stamper.frames().map(<[u8]>::len).collect();
        assert_eq!(lengths, [58, 78, 58]);
        let last = stamper.frames().nth(1).expect("a frame")[53];
        assert_eq!(last, 5);
    }

    #[test]
    fn a_batch_the_gate_stops_leaves_no_frames_not_even_older_ones() {
        let gate = Arc::new(Gate::new([(0xc633_6405, 0xc633_6405)], []));
        let mut stamper = Stamper::new(&LinkSpec { gate, ..sample::spec() });
        stamper.stamp(&sample::batch(0, 5)).expect("allowed");
        assert_eq!(stamper.frames().count(), 5);
        stamper.stamp(&sample::batch(5, 1)).expect_err("excluded");
        assert_eq!(stamper.frames().count(), 0);
    }
}
