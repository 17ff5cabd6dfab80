//! TCP over IPv4, the most common frame: those of a whole batch computed side by side, in words of 64 bits.
//!
//! Invariant: equal to what [`super::Template::stamp`] writes lane by lane.

use super::{Batch, Block, LANES};
use crate::wire::checksum;

/// The first block of each frame of a batch over IPv4, as eight words in the order of memory. Scratch that
/// lives from batch to batch: to zero it for each would cost more than to fill it.
#[derive(Debug)]
pub struct Words {
    /// Bytes 0 to 31 of each lane.
    front: [[u64; 4]; LANES],
    /// Bytes 32 to 63.
    back: [[u64; 4]; LANES],
    network_sum: [u32; LANES],
    transport_sum: [u32; LANES],
}

impl Default for Words {
    fn default() -> Words {
        let (words, sums) = ([[0; 4]; LANES], [0; LANES]);
        Words { front: words, back: words, network_sum: sums, transport_sum: sums }
    }
}

impl Words {
    /// Computes the first `N` lanes. `ACKNOWLEDGES` says that the sequence number stands in the acknowledgement field as
    /// well.
    #[inline(always)]
    pub(super) fn fill<const ACKNOWLEDGES: bool, const N: usize>(
        &mut self,
        batch: &Batch,
        constant: &Block,
        (network_sum, transport_sum): (u64, u64),
    ) {
        let (network_sum, transport_sum) = (folded(network_sum), folded(transport_sum));
        for lane in 0..N {
            let (destination, sequence) = (batch.destination_v4[lane], batch.sequence[lane]);
            let destination_sum = (destination >> 16) + (destination & 0xffff);
            let ports = u32::from(batch.source_port[lane]) + u32::from(batch.destination_port[lane]);
            let sequence_sum = (sequence >> 16) + (sequence & 0xffff);
            self.network_sum[lane] = network_sum + destination_sum + u32::from(batch.identification[lane]);
            let sequence_sum = if ACKNOWLEDGES { 2 * sequence_sum } else { sequence_sum };
            self.transport_sum[lane] = transport_sum + destination_sum + ports + sequence_sum;
        }
        self.fill_front::<N>(batch, constant);
        let (words, _) = constant.as_chunks::<8>();
        for lane in 0..N {
            let (destination, sequence) =
                (u64::from(batch.destination_v4[lane]), u64::from(batch.sequence[lane]));
            let ports =
                u64::from(batch.source_port[lane]) << 32 | u64::from(batch.destination_port[lane]) << 16;
            let acknowledged = if ACKNOWLEDGES { sequence << 16 } else { 0 };
            let checksum = complement(self.transport_sum[lane]);
            self.back[lane] = [
                // Lower half of the destination, ports, upper half of the sequence number.
                (destination << 48 | ports | sequence >> 16).to_be(),
                // Lower half of the sequence number, acknowledgement, flags.
                (u64::from_be_bytes(words[5]) | sequence << 48 | acknowledged).to_be(),
                // Window, checksum, urgent pointer, first option bytes.
                (u64::from_be_bytes(words[6]) | checksum << 32).to_be(),
                u64::from_ne_bytes(words[7]),
            ];
        }
    }

    /// The words up to the upper half of the destination; `network_sum` is known.
    #[inline(always)]
    fn fill_front<const N: usize>(&mut self, batch: &Batch, constant: &Block) {
        let (words, _) = constant.as_chunks::<8>();
        for lane in 0..N {
            let destination = u64::from(batch.destination_v4[lane]);
            let identification = u64::from(batch.identification[lane]);
            let checksum = complement(self.network_sum[lane]);
            self.front[lane] = [
                u64::from_ne_bytes(words[0]),
                u64::from_ne_bytes(words[1]),
                // Length, identification; time to live, protocol.
                (u64::from_be_bytes(words[2]) | identification << 32).to_be(),
                // Header checksum, source, upper half of the destination.
                (u64::from_be_bytes(words[3]) | checksum << 48 | destination >> 16).to_be(),
            ];
        }
    }

    #[inline(always)]
    pub(super) fn write(&self, lane: usize, block: &mut Block) {
        let (words, _) = block.as_chunks_mut::<8>();
        for index in 0..4 {
            words[index] = self.front[lane][index].to_ne_bytes();
            words[4 + index] = self.back[lane][index].to_ne_bytes();
        }
    }
}

/// A sum with its carries added in, below 2^16.
#[inline(always)]
pub(super) fn folded(sum: u64) -> u32 {
    u32::from(!checksum::finish(sum))
}

/// The checksum that a sum of a few 16-bit words comes to.
#[inline(always)]
pub(super) fn complement(sum: u32) -> u64 {
    let sum = (sum & 0xffff) + (sum >> 16);
    u64::from(!(sum + (sum >> 16)) & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_lane_is_the_checksum_of_the_library_for_every_sum_a_frame_can_have() {
        for sum in (0..16 << 16).chain((0..=u32::MAX).step_by(65_521)).chain(u32::MAX - (1 << 20)..=u32::MAX)
        {
            assert_eq!(complement(sum), u64::from(checksum::finish(sum.into())), "{sum:#x}");
        }
    }
}
