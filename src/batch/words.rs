//! TCP over IPv4, the most common frame: what changes in those of a whole batch, computed side by side.
//!
//! Invariant: equal to what [`super::Template::stamp`] writes lane by lane.

use super::{BLOCK, Batch, Block, LANES};
use crate::wire::checksum;

/// What changes in the first block of each frame of a batch. Scratch that lives from batch to batch: to zero it for each would
/// cost more than to fill it.
#[derive(Debug)]
pub struct Words {
    network_sum: [u32; LANES],
    transport_sum: [u32; LANES],
    fields: Fields,
}

/// What changes in frames of TCP, each field as it stands in memory.
#[derive(Debug)]
struct Fields {
    constant: Block,
    network_checksum: [u16; LANES],
    transport_checksum: [u16; LANES],
    identification: [u16; LANES],
    source_port: [u16; LANES],
    destination_port: [u16; LANES],
    /// Both, side by side.
    ports: [u32; LANES],
}

impl Default for Words {
    fn default() -> Words {
        let (sums, halves) = ([0; LANES], [0; LANES]);
        let fields = Fields {
            constant: [0; BLOCK],
            network_checksum: halves,
            transport_checksum: halves,
            identification: halves,
            source_port: halves,
            destination_port: halves,
            ports: sums,
        };
        Words { network_sum: sums, transport_sum: sums, fields }
    }
}

impl Words {
    /// Computes all lanes. `ACKNOWLEDGES` says that the sequence number stands in the acknowledgement field as
    /// well.
    #[inline(always)]
    pub(super) fn fill<const ACKNOWLEDGES: bool>(
        &mut self,
        batch: &Batch,
        constant: &Block,
        (network_sum, transport_sum): (u64, u64),
    ) {
        let (network_sum, transport_sum) = (folded(network_sum), folded(transport_sum));
        for lane in 0..LANES {
            let (destination, sequence) = (batch.destination_v4[lane], batch.sequence[lane]);
            let destination_sum = (destination >> 16) + (destination & 0xffff);
            let ports = u32::from(batch.source_port[lane]) + u32::from(batch.destination_port[lane]);
            let sequence_sum = (sequence >> 16) + (sequence & 0xffff);
            self.network_sum[lane] = network_sum + destination_sum + u32::from(batch.identification[lane]);
            let sequence_sum = if ACKNOWLEDGES { 2 * sequence_sum } else { sequence_sum };
            self.transport_sum[lane] = transport_sum + destination_sum + ports + sequence_sum;
        }
        // A loop for each: so the compiler swaps bytes in vectors of eight numbers, which any vector unit does in three
        // instructions.
        let fields = &mut self.fields;
        for lane in 0..LANES {
            fields.network_checksum[lane] = complement(self.network_sum[lane]).to_be();
        }
        for lane in 0..LANES {
            fields.transport_checksum[lane] = complement(self.transport_sum[lane]).to_be();
        }
        for lane in 0..LANES {
            fields.identification[lane] = batch.identification[lane].to_be();
        }
        for lane in 0..LANES {
            fields.source_port[lane] = batch.source_port[lane].to_be();
        }
        for lane in 0..LANES {
            fields.destination_port[lane] = batch.destination_port[lane].to_be();
        }
        for lane in 0..LANES {
            let (source, destination) = (fields.source_port[lane], fields.destination_port[lane]);
            fields.ports[lane] = in_memory(source, destination);
        }
        fields.constant = *constant;
    }

    /// Writes the first block of a frame of TCP, of a batch that [`Words::fill`] was given.
    #[inline(always)]
    pub(super) fn write_fields<const ACKNOWLEDGES: bool>(
        &self,
        batch: &Batch,
        lane: usize,
        block: &mut Block,
    ) {
        let fields = &self.fields;
        let sequence = batch.sequence[lane].to_be_bytes();
        *block = fields.constant;
        block[18..20].copy_from_slice(&fields.identification[lane].to_ne_bytes());
        block[24..26].copy_from_slice(&fields.network_checksum[lane].to_ne_bytes());
        block[30..34].copy_from_slice(&batch.destination_v4[lane].to_be_bytes());
        block[34..38].copy_from_slice(&fields.ports[lane].to_ne_bytes());
        block[38..42].copy_from_slice(&sequence);
        if ACKNOWLEDGES {
            block[42..46].copy_from_slice(&sequence);
        }
        block[50..52].copy_from_slice(&fields.transport_checksum[lane].to_ne_bytes());
    }
}

/// A sum with its carries added in, below 2^16.
#[inline(always)]
pub(super) fn folded(sum: u64) -> u32 {
    u32::from(!checksum::finish(sum))
}

/// The checksum that a sum of 16-bit words comes to. The sum of both halves, with its carry brought around, is the upper half
/// of the number plus itself with the halves exchanged.
#[inline(always)]
pub(super) fn complement(sum: u32) -> u16 {
    (!sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// Two numbers as they stand in memory, side by side.
#[inline(always)]
fn in_memory(first: u16, second: u16) -> u32 {
    let (first, second) = (u32::from(first), u32::from(second));
    if cfg!(target_endian = "little") { first | second << 16 } else { first << 16 | second }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_lane_is_the_checksum_of_the_library_for_every_sum_a_frame_can_have() {
        for sum in (0..16 << 16).chain((0..=u32::MAX).step_by(65_521)).chain(u32::MAX - (1 << 20)..=u32::MAX)
        {
            assert_eq!(complement(sum), checksum::finish(sum.into()), "{sum:#x}");
        }
    }
}
