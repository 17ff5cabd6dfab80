//! Frames of a whole batch over IPv4, computed side by side: TCP by code of its own, every other kind unit by unit.
//!
//! Invariant: equal to what [`super::Template::stamp`] writes lane by lane.

use super::{BLOCK, Batch, Block, Carry, Field, LANES, Sum};
use crate::wire::checksum;

/// The first block of each frame of a batch over IPv4: of TCP the fields that change, else as eight words in the order of
/// memory. Scratch that lives from batch to batch: to zero it for each would cost more than to fill it.
#[derive(Debug)]
pub struct Words {
    /// Bytes 0 to 31 of each lane.
    front: [[u64; 4]; LANES],
    /// Bytes 32 to 63.
    back: [[u64; 4]; LANES],
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
        let (words, sums, halves) = ([[0; 4]; LANES], [0; LANES], [0; LANES]);
        let fields = Fields {
            constant: [0; BLOCK],
            network_checksum: halves,
            transport_checksum: halves,
            identification: halves,
            source_port: halves,
            destination_port: halves,
            ports: sums,
        };
        Words { front: words, back: words, network_sum: sums, transport_sum: sums, fields }
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
        // A loop for each: so the compiler swaps bytes in vectors of eight numbers, which any vector unit does in three
        // instructions.
        let fields = &mut self.fields;
        for lane in 0..N {
            fields.network_checksum[lane] = complement(self.network_sum[lane]).to_be();
        }
        for lane in 0..N {
            fields.transport_checksum[lane] = complement(self.transport_sum[lane]).to_be();
        }
        for lane in 0..N {
            fields.identification[lane] = batch.identification[lane].to_be();
        }
        for lane in 0..N {
            fields.source_port[lane] = batch.source_port[lane].to_be();
        }
        for lane in 0..N {
            fields.destination_port[lane] = batch.destination_port[lane].to_be();
        }
        for lane in 0..N {
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

    /// The words up to the upper half of the destination; `network_sum` is known.
    #[inline(always)]
    fn fill_front<const N: usize>(&mut self, batch: &Batch, constant: &Block) {
        let (words, _) = constant.as_chunks::<8>();
        for lane in 0..N {
            let destination = u64::from(batch.destination_v4[lane]);
            let identification = u64::from(batch.identification[lane]);
            let checksum = u64::from(complement(self.network_sum[lane]));
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

    /// The same for any transport: each of `units` is written where it says, and the checksum over all of them.
    #[inline(always)]
    pub(super) fn fill_units<const N: usize>(
        &mut self,
        batch: &Batch,
        constant: &Block,
        (network_sum, transport_sum): (u64, u64),
        Units { units, checksum, pseudo, datagram }: &Units,
    ) {
        let (network_sum, transport_sum) = (folded(network_sum), folded(transport_sum));
        for lane in 0..N {
            let destination = batch.destination_v4[lane];
            let destination_sum = (destination >> 16) + (destination & 0xffff);
            self.network_sum[lane] = network_sum + destination_sum + u32::from(batch.identification[lane]);
            self.transport_sum[lane] = transport_sum + if *pseudo { destination_sum } else { 0 };
        }
        self.fill_front::<N>(batch, constant);
        let (words, _) = constant.as_chunks::<8>();
        let constants = [4, 5, 6, 7].map(|index: usize| u64::from_be_bytes(words[index]));
        for lane in 0..N {
            let [first, rest @ ..] = constants;
            let destination = u64::from(batch.destination_v4[lane]) << 48;
            self.back[lane] = [first | destination, rest[0], rest[1], rest[2]];
        }
        for &Unit { word, shift, part } in units {
            match part {
                Part::SourcePort => self.add::<N>(word, shift, |lane| batch.source_port[lane]),
                Part::DestinationPort => self.add::<N>(word, shift, |lane| batch.destination_port[lane]),
                Part::Identification => self.add::<N>(word, shift, |lane| batch.identification[lane]),
                Part::High => self.add::<N>(word, shift, |lane| high(batch.sequence[lane])),
                Part::PositiveHigh => self.add::<N>(word, shift, |lane| high(batch.sequence[lane]) & 0x7fff),
                Part::Low => self.add::<N>(word, shift, |lane| low(batch.sequence[lane])),
            }
        }
        for lane in 0..N {
            if let Some((word, shift)) = *checksum {
                let value = u64::from(complement(self.transport_sum[lane]));
                // RFC 768: a computed zero is transmitted as all ones.
                let value = if *datagram && value == 0 { 0xffff } else { value };
                self.back[lane][word & 3] |= value << shift;
            }
            self.back[lane] = self.back[lane].map(u64::to_be);
        }
    }

    /// Writes 16 bits of every lane and adds them to its sum.
    #[inline(always)]
    fn add<const N: usize>(&mut self, word: usize, shift: u32, value: impl Fn(usize) -> u16) {
        for lane in 0..N {
            self.back[lane][word & 3] |= u64::from(value(lane)) << shift;
        }
        for lane in 0..N {
            self.transport_sum[lane] += u32::from(value(lane));
        }
    }

    #[inline(always)]
    pub(super) fn write_words(&self, lane: usize, block: &mut Block) {
        let (words, _) = block.as_chunks_mut::<8>();
        for index in 0..4 {
            words[index] = self.front[lane][index].to_ne_bytes();
            words[4 + index] = self.back[lane][index].to_ne_bytes();
        }
    }
}

/// The changing fields of a frame as 16-bit units of its second half block, and where the checksum goes.
#[derive(Debug, Clone)]
pub(super) struct Units {
    units: Vec<Unit>,
    checksum: Option<(usize, u32)>,
    /// Whether the destination is in the checksum.
    pseudo: bool,
    /// Whether a checksum of 0 is written as 0xffff.
    datagram: bool,
}

/// Sixteen bits of a frame: in which of the four words, shifted by how much, and what they carry.
#[derive(Debug, Clone, Copy)]
struct Unit {
    word: usize,
    shift: u32,
    part: Part,
}

/// Sixteen bits of what a lane carries.
#[derive(Debug, Clone, Copy)]
enum Part {
    SourcePort,
    DestinationPort,
    Identification,
    High,
    PositiveHigh,
    Low,
}

impl Units {
    /// The units of fields at offsets of the frame; none when one lies at an odd offset, outside of bytes 34 to 63, or is
    /// text. The time is the same in all lanes and no unit.
    pub(super) fn new(fields: &[Field], transport: usize, sum: Sum) -> Option<Units> {
        let mut units = Vec::new();
        for field in fields {
            let parts: &[Part] = match field.carry {
                Carry::SourcePort => &[Part::SourcePort],
                Carry::DestinationPort => &[Part::DestinationPort],
                Carry::Identification => &[Part::Identification],
                Carry::Low => &[Part::Low],
                Carry::Sequence => &[Part::High, Part::Low],
                Carry::Positive => &[Part::PositiveHigh, Part::Low],
                Carry::Wide => &[Part::High, Part::Low, Part::Identification, Part::SourcePort],
                Carry::Time => &[],
                _ => return None,
            };
            for (index, &part) in parts.iter().enumerate() {
                let (word, shift) = place(field.at + 2 * index)?;
                units.push(Unit { word, shift, part });
            }
        }
        let checksum = match sum {
            Sum::Pseudo { at } | Sum::Plain { at } => Some(place(transport + at)?),
            Sum::Datagram => Some(place(transport + 6)?),
            Sum::Crc32c | Sum::None => None,
        };
        let (pseudo, datagram) = (matches!(sum, Sum::Pseudo { .. } | Sum::Datagram), sum == Sum::Datagram);
        // The sum of a lane must stay below what `complement` folds.
        (units.len() <= 12).then_some(Units { units, checksum, pseudo, datagram })
    }
}

/// Word and shift of the 16 bits at an offset of the frame.
fn place(at: usize) -> Option<(usize, u32)> {
    let within = at.checked_sub(32).filter(|within| (2..32).contains(within) && within.is_multiple_of(2))?;
    Some((within / 8, 48 - 8 * u32::try_from(within % 8).ok()?))
}

#[inline(always)]
fn high(number: u32) -> u16 {
    (number >> 16) as u16
}

#[inline(always)]
fn low(number: u32) -> u16 {
    (number & 0xffff) as u16
}

/// A sum with its carries added in, below 2^16.
#[inline(always)]
pub(super) fn folded(sum: u64) -> u32 {
    u32::from(!checksum::finish(sum))
}

/// The checksum that a sum of 16-bit words comes to. The sum of both halves, with its carry brought around, is the upper half
/// of the number plus itself with the halves exchanged.
#[inline(always)]
fn complement(sum: u32) -> u16 {
    high(!sum.wrapping_add(sum.rotate_left(16)))
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
        // Fifteen 16-bit words at most are added: the constant part, destination, twelve units.
        for sum in 0..16 << 16 {
            assert_eq!(complement(sum), checksum::finish(sum.into()), "{sum:#x}");
        }
    }
}
