//! [`Together`]: the frames of a whole batch at once, whatever templates its lanes have.
//!
//! Templates that differ in constant bytes alone are of one [`Shape`]. What a shape's frames carry is worked out for all lanes
//! side by side and stored into those it is for: the cost is that of the shapes in a batch, not of its templates.
//!
//! Invariant: every frame equals what [`Template::stamp`] writes, with zeroes behind it to the end of its slot.

use std::hint::black_box;
use std::sync::Arc;

use super::columns::{All, Columns, Lanes, Set};
use super::shape::{Common, Shape};
use super::{Batch, Block, LANES, NextHops, Slots, Template, Words, low_32};
use crate::wire::ethernet::Mac;

/// Writes the frames of batches.
pub struct Together {
    templates: Arc<[Template]>,
    rows: Box<[Row]>,
    /// The same where there are few: a table of a size that is known needs no check of its index.
    few: Option<[Row; FEW]>,
    shapes: Box<[Shape]>,
    common: Common,
    /// `blocks` of each template, zeroes behind it, with the address of one next hop in all.
    constants: Box<[Block]>,
    blocks: usize,
    mac: Mac,
    by_shape: ByShape,
    columns: Columns,
    words: Words,
}

/// The lanes of a batch by shape.
struct ByShape {
    /// The shape of each lane; [`ALONE`] for those that are written alone.
    shapes: [u8; LANES],
    /// The lanes of each shape, lane 0 the lowest bit.
    lanes: [u64; SHAPES],
    /// Whether any template is written alone.
    any_alone: bool,
}

impl ByShape {
    fn new(any_alone: bool) -> ByShape {
        ByShape { shapes: [0; LANES], lanes: [0; SHAPES], any_alone }
    }

    /// Sorts some lanes by so many shapes, and those of none.
    #[inline(always)]
    fn sort(&mut self, lanes: u64, shapes: usize) {
        for shape in (0..shapes).chain(self.any_alone.then_some(ALONE)) {
            self.lanes[shape % SHAPES] = lanes & lanes_with(shape.to_le_bytes()[0], &self.shapes);
        }
    }

    fn of(&self, shape: usize) -> Set {
        Set(self.lanes[shape])
    }
}

/// The lanes that have a shape, all below 128.
#[inline(always)]
fn lanes_with(shape: u8, shapes: &[u8; LANES]) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let (eights, _) = shapes.as_chunks::<8>();
    // Of each eight lanes one bit of every byte.
    let mut lanes = 0;
    for (index, eight) in eights.iter().enumerate() {
        let others = u64::from_le_bytes(*eight) ^ (EACH * u64::from(shape));
        // The top bit of a byte: whether it is 0.
        lanes |= (!(others + EACH * 0x7f) >> 7 & EACH) << index;
    }
    transposed(lanes)
}

/// Bit 8 i + j to bit 8 j + i: exchanged in squares of one bit, of two and of four.
#[inline(always)]
fn transposed(bits: u64) -> u64 {
    let exchange = |bits: u64, by: u32, mask: u64| {
        let differ = (bits ^ bits >> by) & mask;
        bits ^ differ ^ differ << by
    };
    let bits = exchange(bits, 7, 0x00aa_00aa_00aa_00aa);
    let bits = exchange(bits, 14, 0x0000_cccc_0000_cccc);
    exchange(bits, 28, 0x0000_0000_f0f0_f0f0)
}

/// What is looked up for each lane of a batch that has several templates: one word, which is taken apart for all lanes at once.
#[derive(Debug, Clone, Copy)]
struct Row(u64);

impl Row {
    /// `shape` is [`ALONE`] for a template that has none.
    fn new(template: &Template, shape: usize) -> Row {
        let (network_sum, transport_sum) = template.sums();
        let small =
            |number: usize| u64::from(u16::try_from(number).expect("templates are few, and frames small"));
        let sums = u64::from(network_sum) << 16 | u64::from(transport_sum);
        Row(small(shape) << 48 | small(template.frame_length()) << 32 | sums)
    }

    #[inline(always)]
    fn shape(self) -> usize {
        (self.0 >> 48) as usize
    }

    #[inline(always)]
    fn length(self) -> usize {
        (self.0 >> 32 & 0xffff) as usize
    }

    #[inline(always)]
    fn network_sum(self) -> u32 {
        low_32(self.0 & 0xffff_ffff) >> 16
    }

    #[inline(always)]
    fn transport_sum(self) -> u32 {
        low_32(self.0 & 0xffff)
    }
}

impl Together {
    /// For slots of `blocks` blocks, which hold a frame of any of the templates.
    pub fn new(templates: &Arc<[Template]>, blocks: usize) -> Together {
        let mut shapes: Vec<Shape> = Vec::new();
        let known: Vec<Option<usize>> =
            templates.iter().map(|template| index_of(&mut shapes, template.shape()?)).collect();
        let row = |(template, shape): (&Template, &Option<usize>)| Row::new(template, shape.unwrap_or(ALONE));
        let rows: Box<[Row]> = templates.iter().zip(&known).map(row).collect();
        let few = (rows.len() <= FEW).then(|| {
            let mut few = [Row(0); FEW];
            few[..rows.len()].copy_from_slice(&rows);
            few
        });
        let mut constants = vec![[0; super::BLOCK]; blocks * templates.len()];
        for (constant, template) in constants.chunks_exact_mut(blocks).zip(templates.iter()) {
            constant[..template.blocks().len()].copy_from_slice(template.blocks());
        }
        Together {
            templates: Arc::clone(templates),
            rows,
            few,
            by_shape: ByShape::new(known.contains(&None)),
            common: Common::of(&shapes),
            shapes: shapes.into(),
            constants: constants.into(),
            blocks,
            mac: Mac([0; 6]),
            columns: Columns::default(),
            words: Words::default(),
        }
    }

    /// Writes the frames of all lanes of a batch and their lengths. Returns the length, where all have the same template.
    ///
    /// # Panics
    /// When a lane names a template that is not among those of [`Together::new`], or slots are of another size.
    #[inline(always)]
    pub fn write(
        &mut self,
        (batch, hops): (&Batch, &NextHops),
        slots: &mut impl Slots,
        lengths: &mut [usize; LANES],
    ) -> Option<usize> {
        assert_eq!(slots.blocks(), self.blocks, "slots as they were announced");
        if batch.is_empty() {
            return None;
        }
        let (template, hop) = (batch.template[0], batch.hop[0]);
        let (mut templates, mut hops_differ) = (0, 0);
        for lane in 0..batch.len() {
            templates |= batch.template[lane] ^ template;
        }
        for lane in 0..batch.len() {
            hops_differ |= batch.hop[lane] ^ hop;
        }
        let mac = (hops_differ == 0).then(|| hops.mac(hop));
        let index = usize::from(template);
        let length = self.templates[index].frame_length();
        if templates == 0 && self.rows[index].shape() < self.shapes.len() {
            self.write_alike(batch, index, mac, slots);
            if mac.is_none() {
                write_macs((batch, hops), slots);
            }
            *lengths = [length; LANES];
            return Some(length);
        }
        self.write_mixed((batch, hops), mac, slots, lengths);
        None
    }

    /// The frames of a batch whose lanes have one template.
    #[inline(always)]
    fn write_alike(&mut self, batch: &Batch, index: usize, mac: Option<Mac>, slots: &mut impl Slots) {
        let (template, row) = (&self.templates[index], self.rows[index]);
        if mac.is_some_and(|mac| template.stamp_all(batch, mac, (&mut self.words, slots))) {
            return;
        }
        slots.put_all(template.blocks(), mac.unwrap_or(Mac([0; 6])));
        self.columns.network_sum = [row.network_sum(); LANES];
        self.columns.transport_sum = [row.transport_sum(); LANES];
        self.write_shape(batch, row.shape(), slots);
    }

    /// What changes in the frames of a batch of one shape.
    #[inline(always)]
    fn write_shape(&mut self, batch: &Batch, shape: usize, slots: &mut impl Slots) {
        let shape = &self.shapes[shape];
        self.columns.write_network(batch, shape.network, (&All, slots));
        self.columns.write_parts(batch, &shape.parts, (&All, slots));
        if let Some(sum) = &shape.sum {
            self.columns.write_checksum(sum, (&All, slots));
        }
        if shape.crc {
            self.write_crcs(batch, &All, slots);
        }
    }

    /// The frames of a batch whose lanes have several templates.
    #[inline(always)]
    fn write_mixed(
        &mut self,
        (batch, hops): (&Batch, &NextHops),
        mac: Option<Mac>,
        slots: &mut impl Slots,
        lengths: &mut [usize; LANES],
    ) {
        self.note_mac(mac.unwrap_or(Mac([0; 6])));
        let shape = self.write_constants(batch, slots, lengths);
        if mac.is_none() {
            write_macs((batch, hops), slots);
        }
        if shape < self.shapes.len() {
            self.write_shape(batch, shape, slots);
        } else {
            self.by_shape.sort(batch.lanes(), self.shapes.len());
            self.write_shapes(batch, slots);
            self.write_others(batch, |lane| mac.unwrap_or_else(|| hops.mac(batch.hop[lane])), slots);
        }
    }

    /// Writes the constant bytes of each lane, and notes its constant sums and its shape. Returns the shape of all, or
    /// [`ALONE`] when they differ.
    #[inline(always)]
    fn write_constants(
        &mut self,
        batch: &Batch,
        slots: &mut impl Slots,
        lengths: &mut [usize; LANES],
    ) -> usize {
        let templates = &batch.template[..batch.len()];
        let mut lanes = [self.rows[usize::from(batch.template[0])]; LANES];
        if let Some(few) = &self.few {
            for (row, &template) in lanes.iter_mut().zip(templates) {
                *row = few[usize::from(template) % FEW];
            }
        } else {
            for (row, &template) in lanes.iter_mut().zip(templates) {
                *row = self.rows[usize::from(template)];
            }
        }
        // By fours, where there are so many: fewer steps.
        let constants = &*self.constants;
        let (fours, rest) = templates.as_chunks::<4>();
        for (four, templates) in fours.iter().enumerate() {
            for (index, &template) in templates.iter().enumerate() {
                slots.put(4 * four + index, constants, usize::from(template));
            }
        }
        for (index, &template) in rest.iter().enumerate() {
            slots.put(4 * fours.len() + index, constants, usize::from(template));
        }
        let mut differ = 0;
        for lane in 0..LANES {
            lengths[lane] = lanes[lane].length();
            differ |= lanes[lane].0 ^ lanes[0].0;
        }
        for lane in 0..LANES {
            self.columns.network_sum[lane] = lanes[lane].network_sum();
            self.columns.transport_sum[lane] = lanes[lane].transport_sum();
        }
        for lane in 0..LANES {
            self.by_shape.shapes[lane] = (lanes[lane].shape() % SHAPES).to_le_bytes()[0];
        }
        if Row(differ).shape() == 0 { lanes[0].shape() } else { ALONE }
    }

    /// Whether the lanes of a shape are written together.
    #[inline(always)]
    fn is_together(&self, shape: usize) -> bool {
        shape < self.shapes.len() && ALONE_MAX < self.by_shape.lanes[shape].count_ones()
    }

    /// What changes in the frames of each shape, of those that several lanes have.
    #[inline(always)]
    fn write_shapes(&mut self, batch: &Batch, slots: &mut impl Slots) {
        if let Some(network) = self.common.network {
            self.columns.write_network(batch, network, (&All, slots));
            self.columns.write_parts(batch, &self.common.parts, (&All, slots));
        }
        self.columns.begin_checksums();
        for index in 0..self.shapes.len() {
            if !self.is_together(index) {
                continue;
            }
            let (shape, set) = (&self.shapes[index], &self.by_shape.of(index));
            if self.common.network.is_none() {
                // As in `Columns::write_part`: nothing of it before the loop.
                self.columns.write_network(black_box(batch), shape.network, (set, slots));
            }
            self.columns.narrow_to(index, &self.by_shape.shapes);
            self.columns.write_parts(batch, &self.common.rest[index], (set, slots));
            if let Some(sum) = shape.sum.as_ref().filter(|_| self.common.sum.is_none()) {
                self.columns.note_checksum(sum);
            }
            if shape.crc {
                self.write_crcs(batch, set, slots);
            }
        }
        if let Some(sum) = &self.common.sum {
            self.columns.write_checksum(sum, (&All, slots));
            return;
        }
        self.columns.finish_checksums();
        for index in 0..self.shapes.len() {
            if let Some(sum) = self.shapes[index].sum.filter(|_| self.is_together(index)) {
                self.columns.store_checksums(sum.at, (&self.by_shape.of(index), slots));
            }
        }
    }

    /// The frames of all other lanes, one by one.
    #[inline(always)]
    fn write_others(&self, batch: &Batch, mac: impl Fn(usize) -> Mac, slots: &mut impl Slots) {
        for index in (0..self.shapes.len()).chain([ALONE]).filter(|&index| !self.is_together(index)) {
            self.by_shape.of(index).each(|lane| {
                let template = &self.templates[usize::from(batch.template[lane % LANES])];
                let slot = slots.slot(lane);
                let length = template.stamp(batch, lane, mac(lane), slot);
                slot[length..].fill(0);
            });
        }
    }

    /// Writes the CRC-32C of some lanes, whose frames are finished but for that.
    #[inline(always)]
    fn write_crcs(&self, batch: &Batch, lanes: &impl Lanes, slots: &mut impl Slots) {
        lanes.each(|lane| {
            if lane < batch.len() {
                let template = &self.templates[usize::from(batch.template[lane % LANES])];
                template.stamp_crc(&mut slots.slot(lane)[..template.frame_length()]);
            }
        });
    }

    /// The address of the next hop into all constant bytes, unless it stands there.
    #[inline(always)]
    fn note_mac(&mut self, mac: Mac) {
        if mac != self.mac {
            self.mac = mac;
            for constant in self.constants.chunks_exact_mut(self.blocks) {
                constant[0][..6].copy_from_slice(&mac.0);
            }
        }
    }
}

/// Writes the address of each lane's next hop.
#[inline(always)]
fn write_macs((batch, hops): (&Batch, &NextHops), slots: &mut impl Slots) {
    for lane in 0..batch.len() {
        *slots.bytes(lane, 0) = hops.mac(batch.hop[lane]).0;
    }
}

/// The index of a shape among those that are known, or a new one; none when there are too many.
fn index_of(shapes: &mut Vec<Shape>, shape: Shape) -> Option<usize> {
    let known = shapes.iter().position(|known| *known == shape);
    known.or_else(|| {
        (shapes.len() < ALONE).then(|| {
            shapes.push(shape);
            shapes.len() - 1
        })
    })
}

/// Templates that are looked up in a table of known size.
const FEW: usize = 32;
/// Shapes of a scan at most, and one for all other lanes.
const SHAPES: usize = 64;
/// The number of the shape of lanes that are written alone.
const ALONE: usize = SHAPES - 1;

/// Lanes of a shape up to which each is written alone: what a shape costs for a whole batch is that of a few frames.
const ALONE_MAX: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lanes_of_a_shape_are_those_that_have_it() {
        let mut shapes = [0; LANES];
        for (lane, shape) in (0u8..).zip(&mut shapes) {
            *shape = lane.wrapping_mul(37) % 5 + if lane % 7 == 0 { 59 } else { 0 };
        }
        for wanted in 0..64 {
            let bits =
                (0..LANES).filter(|&lane| shapes[lane] == wanted).fold(0, |bits, lane| bits | 1u64 << lane);
            assert_eq!(lanes_with(wanted, &shapes), bits, "{wanted}");
        }
    }
}
