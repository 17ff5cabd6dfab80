//! Turns a batch into finished frames: stamps each lane into its slot and reads each finished frame back through
//! the last gate. Shared by every link that carries frames.

use std::sync::Arc;

use crate::batch::{BLOCK, Batch, Block, GROUP, LANES, NextHops, Template, Words};
use crate::gate::Gate;
use crate::link::digest::Digest;
use crate::link::{LinkError, LinkSpec};
use crate::sys::simd::Simd;
use crate::wire::ethernet::Mac;

/// One slot per lane, and the frames in them.
pub(super) struct Stamper {
    templates: Arc<[Template]>,
    hops: NextHops,
    gate: Arc<Gate>,
    /// `blocks_per_slot` for each lane.
    slots: Box<[Block]>,
    blocks_per_slot: usize,
    words: Box<Words>,
    /// Some lanes of a batch whose lanes have different templates, side by side.
    group: Box<Batch>,
    lengths: [usize; LANES],
    /// The length of all frames, where they were stamped together: then zeroes follow each in its slot.
    equal_length: Option<usize>,
    count: usize,
    simd: Simd,
}

impl Stamper {
    /// Slots for the templates of `spec`, each a whole number of cache lines.
    pub(super) fn new(spec: &LinkSpec) -> Stamper {
        let longest = spec.templates.iter().map(Template::frame_length).max().unwrap_or(0);
        let blocks_per_slot = longest.div_ceil(BLOCK).max(1);
        Stamper {
            templates: Arc::clone(&spec.templates),
            hops: spec.hops.clone(),
            gate: Arc::clone(&spec.gate),
            slots: vec![[0; BLOCK]; blocks_per_slot * LANES].into_boxed_slice(),
            blocks_per_slot,
            words: Box::default(),
            group: Box::new(Batch::empty()),
            lengths: [0; LANES],
            equal_length: None,
            count: 0,
            simd: Simd::best(),
        }
    }

    /// Reads every frame through another gate from now on.
    pub(super) fn replace_gate(&mut self, gate: &Arc<Gate>) {
        self.gate = Arc::clone(gate);
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
        self.equal_length = None;
        let simd = self.simd;
        let done = match self.blocks_per_slot {
            1 => simd.run(
                #[inline(always)]
                || self.stamp_together::<1>(batch),
            )?,
            2 => simd.run(
                #[inline(always)]
                || self.stamp_together::<2>(batch),
            )?,
            _ => false,
        };
        if !done {
            simd.run(
                #[inline(always)]
                || self.stamp_by_template(batch),
            )?;
        }
        self.count = batch.len();
        Ok(())
    }

    /// Finishes the frames of a batch whose lanes have one template and one next hop; returns whether it has.
    #[inline(always)]
    fn stamp_together<const BLOCKS: usize>(&mut self, batch: &Batch) -> Result<bool, LinkError> {
        let (template, hop) = (batch.template[0], batch.hop[0]);
        let templates =
            batch.template[..batch.len()].iter().fold(0, |differ, other| differ | (other ^ template));
        let hops = batch.hop[..batch.len()].iter().fold(0, |differ, other| differ | (other ^ hop));
        let Ok(slots): Result<&mut [[Block; BLOCKS]; LANES], _> = self.slots.as_chunks_mut().0.try_into()
        else {
            return Ok(false);
        };
        if templates != 0 || hops != 0 || batch.is_empty() {
            return Ok(false);
        }
        let template = &self.templates[usize::from(template)];
        if !template.stamp_all(batch, self.hops.mac(hop), (&mut *self.words, slots)) {
            return Ok(false);
        }
        self.lengths = [template.frame_length(); LANES];
        self.equal_length = Some(template.frame_length());
        match self.gate.first_blocked(&slots[..batch.len()]) {
            Some(address) => Err(LinkError::Excluded { address }),
            None => Ok(true),
        }
    }

    /// Finishes the frames of any batch, those of one template after the other.
    #[inline(always)]
    fn stamp_by_template(&mut self, batch: &Batch) -> Result<(), LinkError> {
        let mut left = batch.lanes();
        while left != 0 {
            let template = batch.template[first_lane(left)];
            let mut alike = 0;
            for lane in 0..LANES {
                alike |= u64::from(batch.template[lane] == template) << lane;
            }
            alike &= left;
            left &= !alike;
            while alike != 0 {
                alike = self.stamp_group(batch, template, alike)?;
            }
        }
        Ok(())
    }

    /// Finishes the frames of the first [`GROUP`] of these lanes, which have one template; returns the lanes that are left.
    #[inline(always)]
    fn stamp_group(&mut self, batch: &Batch, template: u16, mut lanes: u64) -> Result<u64, LinkError> {
        let (mut members, mut count) = ([0; GROUP], 0);
        while lanes != 0 && count < GROUP {
            members[count] = first_lane(lanes);
            (lanes, count) = (lanes & (lanes - 1), count + 1);
        }
        let members = &members[..count];
        let template = &self.templates[usize::from(template)];
        self.group.time_us = batch.time_us;
        for (to, &lane) in members.iter().enumerate() {
            self.group.destination_v4[to] = batch.destination_v4[lane];
            self.group.destination_port[to] = batch.destination_port[lane];
            self.group.source_port[to] = batch.source_port[lane];
            self.group.sequence[to] = batch.sequence[lane];
            self.group.identification[to] = batch.identification[lane];
        }
        // One lane alone is cheaper alone.
        let together = 1 < count && template.fill_group(&self.group, &mut self.words);
        for (from, &lane) in members.iter().enumerate() {
            let mac = self.hops.mac(batch.hop[lane]);
            let slot = &mut self.slots[lane * self.blocks_per_slot..][..self.blocks_per_slot];
            self.lengths[lane] = if together {
                let length = template.write_of_group(from, mac, (&self.group, &self.words), slot);
                if !self.gate.passes(&slot[0])
                    && let Some(address) = self.gate.blocked(&slot.as_flattened()[..length])
                {
                    return Err(LinkError::Excluded { address });
                }
                length
            } else {
                let slot = slot.as_flattened_mut();
                let length = finish(template, &self.gate, (batch, lane, mac), slot)?;
                slot[length..length.next_multiple_of(BLOCK)].fill(0);
                length
            };
        }
        Ok(lanes)
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
        self.blocks_per_slot * BLOCK
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
        let slots = self.slots.chunks_exact(self.blocks_per_slot).take(self.count);
        slots.zip(&self.lengths).map(|(slot, &length)| &slot.as_flattened()[..length])
    }

    /// Adds the finished frames to a digest.
    pub(super) fn feed(&self, digest: &mut Digest) {
        match self.equal_length {
            Some(length) => self.simd.run(
                #[inline(always)]
                || {
                    digest.add_padded(
                        &self.slots[..self.count * self.blocks_per_slot],
                        self.blocks_per_slot,
                        length,
                    );
                },
            ),
            // Zeroes follow each frame to the end of its last block.
            None => self.simd.run(
                #[inline(always)]
                || {
                    let slots = self.slots.chunks_exact(self.blocks_per_slot).take(self.count);
                    for (slot, &length) in slots.zip(&self.lengths) {
                        let used = length.div_ceil(BLOCK);
                        digest.add_padded(&slot[..used], used, length);
                    }
                },
            ),
        }
    }
}

/// The lowest of some lanes; there is one.
#[inline(always)]
fn first_lane(lanes: u64) -> usize {
    lanes.trailing_zeros() as usize
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
    let frame = &slot[..length];
    let blocked = if template.asks_link() { gate.blocked_question(frame) } else { gate.blocked(frame) };
    match blocked {
        Some(address) => Err(LinkError::Excluded { address }),
        None => Ok(length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Carry, Field, Sum};
    use crate::link::sample;

    #[test]
    fn templates_of_different_lengths_share_slots_of_whole_cache_lines() {
        let mut stamper = Stamper::new(&sample::spec());
        assert_eq!(stamper.blocks_per_slot, 2);
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

    #[test]
    fn frames_stamped_together_equal_frames_stamped_alone_on_every_level() {
        let templates = every_shape();
        for (template, simd) in
            templates.iter().flat_map(|one| Simd::levels().into_iter().map(move |simd| (one, simd)))
        {
            let mut stamper =
                Stamper::new(&LinkSpec { templates: [template.clone()].into(), ..sample::spec() });
            stamper.simd = simd;
            stamper.hops.assign(0, crate::wire::ethernet::Mac([2, 4, 6, 8, 10, 12]));
            let mut state = 1u64;
            let mut random = || {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                (state >> 32) as u32
            };
            for round in 0..200 {
                let mut batch = sample::batch(0, if round % 2 == 0 { LANES } else { 1 + round % LANES });
                batch.time_us = random();
                for lane in 0..batch.len() {
                    // Every so often the extremes, where carries are.
                    let mut word = || if random() % 4 == 0 { u32::MAX * (random() & 1) } else { random() };
                    (batch.destination_v4[lane], batch.sequence[lane]) = (word(), word());
                    (batch.source_port[lane], batch.destination_port[lane]) = (word() as u16, word() as u16);
                    batch.identification[lane] = word() as u16;
                }
                stamper.stamp(&batch).expect("allowed");
                // The one of 76 bytes has a field at an odd offset and one of text.
                let together = template.family() == crate::batch::Family::V4 && template.frame_length() != 76;
                assert_eq!(stamper.equal_length.is_some(), together, "{template:?}");
                let mut digests = [Digest::new(); 2];
                stamper.feed(&mut digests[0]);
                for (lane, frame) in stamper.frames().enumerate() {
                    let mut alone = [0xff; 128];
                    let length = template.stamp(&batch, lane, stamper.hops.mac(0), &mut alone);
                    assert_eq!(frame, &alone[..length], "{} {template:?}", simd.name());
                    digests[1].add(frame);
                }
                assert_eq!(digests[0], digests[1], "{} {template:?}", simd.name());
            }
        }
    }

    #[test]
    fn frames_of_several_templates_and_next_hops_equal_frames_stamped_alone_on_every_level() {
        let mut templates = every_shape();
        // One that needs more blocks than are ever written together.
        templates.push(other(17, 300, &[(0, Carry::SourcePort), (8, Carry::Sequence)], Sum::Datagram));
        let spec = LinkSpec { templates: templates.clone().into(), hops: NextHops::new(3), ..sample::spec() };
        for hop in 0..3 {
            spec.hops.assign(hop, crate::wire::ethernet::Mac([2, 0, 0, 0, 0, hop as u8]));
        }
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(0x9e37_79b1).rotate_left(7).wrapping_add(0x7f4a_7c15);
            state
        };
        for simd in Simd::levels() {
            let mut stamper = Stamper::new(&spec);
            stamper.simd = simd;
            for round in 0..300 {
                let mut batch = sample::batch(0, 1 + random() as usize % LANES);
                batch.time_us = random();
                let kinds = 1 + random() as usize % templates.len();
                for lane in 0..batch.len() {
                    batch.template[lane] = (random() as usize % kinds) as u16;
                    batch.hop[lane] = (random() % 3) as u16;
                    batch.destination_v6[lane] = u128::from(random()) << 96 | u128::from(random());
                    (batch.destination_v4[lane], batch.sequence[lane]) = (random(), random());
                    (batch.source_port[lane], batch.destination_port[lane]) =
                        (random() as u16, random() as u16);
                    batch.identification[lane] = random() as u16;
                }
                stamper.stamp(&batch).expect("allowed");
                let mut digests = [Digest::new(); 2];
                stamper.feed(&mut digests[0]);
                assert_eq!(stamper.frames().count(), batch.len());
                for (lane, frame) in stamper.frames().enumerate() {
                    let mut alone = [0xff; 400];
                    let (template, mac) = (usize::from(batch.template[lane]), spec.hops.mac(batch.hop[lane]));
                    let length = templates[template].stamp(&batch, lane, mac, &mut alone);
                    assert_eq!(frame, &alone[..length], "{}: round {round}, lane {lane}", simd.name());
                    digests[1].add(frame);
                }
                assert_eq!(digests[0], digests[1], "{}: round {round}", simd.name());
            }
        }
    }

    #[test]
    fn the_gate_stops_any_lane_of_a_batch_of_several_templates() {
        let gate = Arc::new(Gate::new([(0xc633_6405, 0xc633_6405)], []));
        let templates = [sample::syn_v4(), every_shape().swap_remove(2), every_shape().swap_remove(4)];
        let spec = LinkSpec { gate, templates: templates.into(), ..sample::spec() };
        for lane in 0..LANES {
            let mut stamper = Stamper::new(&spec);
            let mut batch = sample::batch(0, LANES);
            for other in 0..LANES {
                batch.template[other] = (other % 3) as u16;
                batch.destination_v4[other] = 0xc633_6406;
            }
            stamper.stamp(&batch).expect("what is not excluded passes");
            batch.destination_v4[lane] = 0xc633_6405;
            let error = stamper.stamp(&batch).expect_err("excluded");
            assert!(error.to_string().contains("198.51.100.5"), "lane {lane}: {error}");
            assert_eq!(stamper.frames().count(), 0);
        }
    }

    /// Templates that are written together, and some that are not.
    fn every_shape() -> Vec<Template> {
        let header = |options: &[u8]| {
            let mut bytes = sample::syn_v4().bytes()[..54].to_vec();
            bytes[46] = 0x50 + (options.len() as u8 / 4 * 0x10);
            bytes[17] = 40 + options.len() as u8;
            bytes.extend(options);
            bytes
        };
        let linux = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3, 7];
        let odd = [1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        vec![
            sample::syn_v4(),
            acknowledging(header(&[])),
            other(17, 8, &[(0, Carry::SourcePort), (2, Carry::DestinationPort)], Sum::Datagram),
            other(
                17,
                90,
                &[(0, Carry::SourcePort), (2, Carry::DestinationPort), (8, Carry::Low)],
                Sum::Datagram,
            ),
            other(17, 42, &[(0, Carry::SourcePort), (9, Carry::Sequence), (20, Carry::Text)], Sum::Datagram),
            other(17, 30, &[(0, Carry::SourcePort), (8, Carry::Wide), (16, Carry::Positive)], Sum::Datagram),
            other(
                1,
                16,
                &[(4, Carry::SourcePort), (6, Carry::Low), (8, Carry::Sequence), (12, Carry::Time)],
                Sum::Plain { at: 2 },
            ),
            other(
                132,
                32,
                &[
                    (0, Carry::SourcePort),
                    (2, Carry::DestinationPort),
                    (16, Carry::Sequence),
                    (28, Carry::Low),
                ],
                Sum::Crc32c,
            ),
            other(99, 8, &[(0, Carry::Sequence), (4, Carry::Identification)], Sum::None),
            Template::tcp(header(&[]), None),
            Template::tcp(header(&linux), Some(28)),
            Template::tcp(header(&odd), Some(23)),
            sample::syn_v6(),
        ]
    }

    /// A template of another protocol, with so many bytes behind the IPv4 header.
    fn other(protocol: u8, length: usize, fields: &[(usize, Carry)], sum: Sum) -> Template {
        let mut frame = sample::syn_v4().bytes()[..34].to_vec();
        (frame[17], frame[23]) = (20 + length as u8, protocol);
        frame.extend((0..length).map(|at| if at < 8 { 0 } else { at as u8 }));
        let cleared: Vec<Field> = fields.iter().map(|&(at, carry)| Field { at, carry }).collect();
        for field in &cleared {
            frame[34 + field.at..][..field.carry.length()].fill(0);
        }
        if sum == Sum::Crc32c {
            frame[42..46].fill(0);
        }
        Template::new(frame, &cleared, sum)
    }

    /// A template that has the sequence number in the acknowledgement field as well.
    fn acknowledging(frame: Vec<u8>) -> Template {
        let places =
            [(0, Carry::SourcePort), (2, Carry::DestinationPort), (4, Carry::Sequence), (8, Carry::Sequence)];
        Template::new(frame, &places.map(|(at, carry)| Field { at, carry }), Sum::Pseudo { at: 16 })
    }

    #[test]
    fn the_gate_stops_any_lane_of_a_batch_stamped_together() {
        let gate = Arc::new(Gate::new([(0xc633_6405, 0xc633_6405)], []));
        for (lane, simd) in
            (0..LANES).flat_map(|lane| Simd::levels().into_iter().map(move |simd| (lane, simd)))
        {
            let mut stamper = Stamper::new(&LinkSpec { gate: Arc::clone(&gate), ..sample::spec() });
            stamper.simd = simd;
            let mut batch = sample::batch(0, LANES);
            // Neighbours of what is excluded, which the gate looks at twice, and strangers, which it does not.
            for others in [0xc633_6406, 0xc612_0001] {
                batch.destination_v4 = [others; LANES];
                stamper.stamp(&batch).expect("what is not excluded passes");
                batch.destination_v4[lane] = 0xc633_6405;
                let error = stamper.stamp(&batch).expect_err("excluded");
                assert!(error.to_string().contains("198.51.100.5"), "lane {lane}: {error}");
                assert_eq!(stamper.frames().count(), 0);
            }
        }
    }
}
