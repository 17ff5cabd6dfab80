//! Turns a batch into finished frames: stamps each lane into its slot and reads each finished frame back through
//! the last gate. Shared by every link that carries frames.

use std::net::IpAddr;
use std::sync::Arc;

use crate::batch::{BLOCK, Batch, Block, LANES, NextHops, Strided, Template, Together};
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
    together: Box<Together>,
    /// Whether any template asks the link.
    any_asks_link: bool,
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
            together: Box::new(Together::new(&spec.templates, blocks_per_slot)),
            any_asks_link: spec.templates.iter().any(Template::asks_link),
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
        let simd = self.simd;
        let blocked = match self.blocks_per_slot {
            1 => simd.run(
                #[inline(always)]
                || self.stamp_sized::<1>(batch),
            ),
            2 => simd.run(
                #[inline(always)]
                || self.stamp_sized::<2>(batch),
            ),
            _ => simd.run(
                #[inline(always)]
                || self.stamp_any(batch),
            ),
        };
        if let Some(address) = blocked {
            return Err(LinkError::Excluded { address });
        }
        self.count = batch.len();
        Ok(())
    }

    /// Finishes the frames of a batch in slots of a size that the compiler knows; returns the destination of the first that
    /// may not leave.
    #[inline(always)]
    fn stamp_sized<const BLOCKS: usize>(&mut self, batch: &Batch) -> Option<IpAddr> {
        let slots: &mut [[Block; BLOCKS]; LANES] =
            self.slots.as_chunks_mut().0.try_into().expect("a slot for every lane");
        self.equal_length = self.together.write((batch, &self.hops), slots, &mut self.lengths);
        if self.any_asks_link {
            return self.first_blocked(batch);
        }
        self.gate.first_blocked(&slots[..batch.len()])
    }

    /// The same in slots of any size.
    #[inline(always)]
    fn stamp_any(&mut self, batch: &Batch) -> Option<IpAddr> {
        let mut slots = Strided::new(&mut self.slots, self.blocks_per_slot);
        self.equal_length = self.together.write((batch, &self.hops), &mut slots, &mut self.lengths);
        self.first_blocked(batch)
    }

    /// Reads the finished frames of a batch back.
    #[inline(always)]
    fn first_blocked(&self, batch: &Batch) -> Option<IpAddr> {
        let slots = self.slots[..batch.len() * self.blocks_per_slot].chunks_exact(self.blocks_per_slot);
        let blocked = |(lane, slot): (usize, &[Block])| {
            let frame = &slot.as_flattened()[..self.lengths[lane]];
            let asks_link = self.templates[usize::from(batch.template[lane])].asks_link();
            if asks_link { self.gate.blocked_question(frame) } else { self.gate.blocked(frame) }
        };
        slots.enumerate().find_map(blocked)
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
        if self.count == 0 {
            return;
        }
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
                    let lengths = &self.lengths[..self.count];
                    let blocks = lengths[0].div_ceil(BLOCK);
                    let differ =
                        lengths.iter().fold(0, |differ, length| differ | (length.div_ceil(BLOCK) ^ blocks));
                    let slots = self.slots.chunks_exact(self.blocks_per_slot).zip(lengths);
                    match (self.blocks_per_slot, differ) {
                        (1, _) => {
                            let slots = self.slots.as_chunks::<1>().0.iter().zip(lengths);
                            digest.add_frames(slots.map(|(slot, &length)| (slot.as_slice(), length)));
                        }
                        (2, 0) if blocks == 2 => {
                            let slots = self.slots.as_chunks::<2>().0.iter().zip(lengths);
                            digest.add_frames(slots.map(|(slot, &length)| (slot.as_slice(), length)));
                        }
                        (2, _) => {
                            let slots = self.slots.as_chunks::<2>().0.iter();
                            digest.add_pairs(slots.zip(lengths.iter().copied()));
                        }
                        _ => digest.add_frames(
                            slots.map(|(slot, &length)| (&slot[..length.div_ceil(BLOCK)], length)),
                        ),
                    }
                },
            ),
        }
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
    use crate::wire::ethernet;

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
                    batch.destination_v6[lane] =
                        (0..4).fold(0, |address, _| address << 32 | u128::from(word()));
                    (batch.source_port[lane], batch.destination_port[lane]) = (word() as u16, word() as u16);
                    batch.identification[lane] = word() as u16;
                }
                stamper.stamp(&batch).expect("allowed");
                assert_eq!(stamper.equal_length.is_none(), template.asks_link(), "{template:?}");
                let mut digests = [Digest::new(); 2];
                stamper.feed(&mut digests[0]);
                for (lane, frame) in stamper.frames().enumerate() {
                    let mut alone = [0xff; 400];
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
        let templates = every_shape();
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
        let mut shapes = vec![
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
        ];
        // More blocks than the compiler knows of.
        shapes.push(other(17, 300, &[(0, Carry::SourcePort), (8, Carry::Sequence)], Sum::Datagram));
        // Every field at an even and at an odd offset, in the first block and behind it.
        let mut at = 8;
        for (index, carry) in CARRIES.into_iter().enumerate() {
            let fields = [
                (at, carry),
                (at + 46 + index % 2, carry),
                (0, Carry::SourcePort),
                (2, Carry::DestinationPort),
            ];
            shapes.push(other(17, 120, &fields, Sum::Datagram));
            shapes.push(other_v6(58, 110, &fields, Sum::Pseudo { at: 4 }));
            at = if at == 8 { 9 } else { 8 };
        }
        shapes.push(other_v6(132, 32, &[(0, Carry::SourcePort), (16, Carry::Sequence)], Sum::Crc32c));
        shapes.push(other_v6(99, 0, &[], Sum::None));
        let mut tagged = sample::syn_v4().bytes().to_vec();
        ethernet::tag(&mut tagged, 5);
        shapes.push(Template::tcp(tagged, None));
        let mut tagged = sample::syn_v6().bytes().to_vec();
        ethernet::tag(&mut tagged, 5);
        shapes.push(Template::tcp(tagged, None));
        let (us, mac) = (std::net::Ipv4Addr::new(192, 0, 2, 1), Mac([2; 6]));
        shapes.push(Template::arp(crate::wire::arp::request(mac, us, 0.into())));
        shapes.push(Template::solicitation(crate::wire::nd::solicitation(mac, 1.into(), 0.into())));
        shapes
    }

    const CARRIES: [Carry; 13] = [
        Carry::SourcePort,
        Carry::DestinationPort,
        Carry::Identification,
        Carry::Low,
        Carry::Byte,
        Carry::Tag,
        Carry::Sequence,
        Carry::Reversed,
        Carry::Positive,
        Carry::Wide,
        Carry::Text,
        Carry::Digits,
        Carry::Time,
    ];

    /// The same over IPv6.
    fn other_v6(protocol: u8, length: usize, fields: &[(usize, Carry)], sum: Sum) -> Template {
        let mut frame = sample::syn_v6().bytes()[..54].to_vec();
        (frame[19], frame[20]) = (length as u8, protocol);
        body(frame, length, fields, sum)
    }

    /// A template of another protocol, with so many bytes behind the IPv4 header.
    fn other(protocol: u8, length: usize, fields: &[(usize, Carry)], sum: Sum) -> Template {
        let mut frame = sample::syn_v4().bytes()[..34].to_vec();
        (frame[17], frame[23]) = (20 + length as u8, protocol);
        body(frame, length, fields, sum)
    }

    /// A template of a network header and so many bytes.
    fn body(mut frame: Vec<u8>, length: usize, fields: &[(usize, Carry)], sum: Sum) -> Template {
        let start = frame.len();
        frame.extend((0..length).map(|at| if at < 8 { 0 } else { at as u8 }));
        let cleared: Vec<Field> = fields.iter().map(|&(at, carry)| Field { at, carry }).collect();
        for field in &cleared {
            frame[start + field.at..][..field.carry.length()].fill(0);
        }
        if sum == Sum::Crc32c {
            frame[start + 8..start + 12].fill(0);
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

    #[test]
    fn the_gate_stops_any_lane_of_a_batch_over_ipv6() {
        let excluded = 0x2001_0db8_0001_0000_u128 << 64 | 7;
        let mapped = 0xffff_c633_6405_u128;
        // The same upper half, a sibling of it, another part of the world; an IPv4 address in disguise, and its neighbour.
        for (stopped, others) in [
            (excluded, excluded + 1),
            (excluded, excluded + (1 << 64)),
            (excluded, 0x2a00 << 112),
            (mapped, mapped + 1),
            (mapped, 0x2a00 << 112),
        ] {
            for lane in 0..LANES {
                let gate = Arc::new(Gate::new(
                    [(0xc633_6405, 0xc633_6405)],
                    [(excluded, excluded), (3 << 64, 4 << 64)],
                ));
                let mut stamper = Stamper::new(&LinkSpec { gate, ..sample::spec() });
                let mut batch = sample::batch(0, LANES);
                batch.template = [1; LANES];
                batch.destination_v6 = [others; LANES];
                stamper.stamp(&batch).expect("what is not excluded passes");
                batch.destination_v6[lane] = stopped;
                let error = stamper.stamp(&batch).expect_err("excluded");
                let address = std::net::Ipv6Addr::from(stopped).to_string();
                assert!(error.to_string().contains(&address), "lane {lane}: {error}");
                assert_eq!(stamper.frames().count(), 0);
            }
        }
    }
}
