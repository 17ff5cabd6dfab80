//! [`Columns`]: what the lanes of a batch carry, one field after the other: worked out for all lanes side by side, then stored
//! into the slots of those it is for.
//!
//! Invariant: with [`super::Template::stamp`] for a reference, equal to it lane by lane.

use std::hint::black_box;

use super::carry::{decimal_digits, hexadecimal_digits};
use super::shape::{InternetSum, Network, Part, Value};
use super::words::complement;
use super::{Batch, Carry, LANES, Slots, low_32};

/// Scratch that lives from batch to batch: to zero it for each would cost more than to fill it.
#[derive(Debug)]
pub(super) struct Columns {
    /// The constant part of the sums; that of the transport grows to the whole.
    pub(super) network_sum: [u32; LANES],
    pub(super) transport_sum: [u32; LANES],
    destination_sum: [u32; LANES],
    /// What stands for a checksum of zero, where shapes differ.
    zeroes: [u16; LANES],
    /// All ones for the lanes that a field is for.
    mask: [u32; LANES],
    /// One column of each width, the field at hand in one of them.
    bytes: [u8; LANES],
    halves: [u16; LANES],
    numbers: [u32; LANES],
    doubles: [u64; LANES],
}

/// Some lanes of a batch.
pub(super) trait Lanes {
    /// Whether these are all.
    const ALL: bool;

    /// Calls `work` with each.
    fn each(&self, work: impl FnMut(usize));
}

/// Every lane of a batch, filled or not.
#[derive(Debug, Clone, Copy)]
pub(super) struct All;

impl Lanes for All {
    const ALL: bool = true;

    #[inline(always)]
    fn each(&self, mut work: impl FnMut(usize)) {
        for eighth in 0..LANES / 8 {
            for lane in 0..8 {
                work(8 * eighth + lane);
            }
        }
    }
}

/// Some lanes of a batch, lane 0 the lowest bit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Set(pub(super) u64);

impl Lanes for Set {
    const ALL: bool = false;

    #[inline(always)]
    fn each(&self, mut work: impl FnMut(usize)) {
        let mut left = self.0;
        while left != 0 {
            work(left.trailing_zeros() as usize);
            left &= left - 1;
        }
    }
}

impl Default for Columns {
    fn default() -> Columns {
        let zeroes = [0; LANES];
        Columns {
            network_sum: zeroes,
            transport_sum: zeroes,
            destination_sum: zeroes,
            zeroes: [0; LANES],
            mask: zeroes,
            bytes: [0; LANES],
            halves: [0; LANES],
            numbers: zeroes,
            doubles: [0; LANES],
        }
    }
}

impl Columns {
    /// Writes the network header of some lanes; what the destination adds to the checksum of the transport is known after
    /// that.
    #[inline(always)]
    pub(super) fn write_network<L: Lanes>(
        &mut self,
        batch: &Batch,
        Network { at: network, is_v6 }: Network,
        (lanes, slots): (&L, &mut impl Slots),
    ) {
        if is_v6 {
            self.sum_destinations_v6(&batch.destination_v6);
            store(slots, lanes, network + 24, |lane| batch.destination_v6[lane].to_be_bytes());
            self.store_halves((lanes, slots), network + 2, |lane| batch.identification[lane]);
            return;
        }
        for lane in 0..LANES {
            let destination = batch.destination_v4[lane];
            self.destination_sum[lane] = (destination >> 16) + (destination & 0xffff);
        }
        for lane in 0..LANES {
            self.numbers[lane] = batch.destination_v4[lane].to_be();
        }
        store(slots, lanes, network + 16, |lane| self.numbers[lane].to_ne_bytes());
        self.store_halves((lanes, slots), network + 4, |lane| batch.identification[lane]);
        for lane in 0..LANES {
            let changed = self.destination_sum[lane] + u32::from(batch.identification[lane]);
            self.halves[lane] = complement(self.network_sum[lane] + changed).to_be();
        }
        store(slots, lanes, network + 10, |lane| self.halves[lane].to_ne_bytes());
    }

    /// From now on, fields that are not for all lanes are for those of one shape.
    #[inline(always)]
    pub(super) fn narrow_to(&mut self, shape: usize, shapes: &[u8; LANES]) {
        let shape = shape.to_le_bytes()[0];
        for lane in 0..LANES {
            self.mask[lane] = if shapes[lane] == shape { u32::MAX } else { 0 };
        }
    }

    /// Writes parts of some lanes, those that fields are for; the network header was written before.
    #[inline(always)]
    pub(super) fn write_parts<L: Lanes>(
        &mut self,
        batch: &Batch,
        parts: &[Part],
        (lanes, slots): (&L, &mut impl Slots),
    ) {
        for part in parts {
            self.write_part(batch, *part, (lanes, slots));
        }
    }

    /// Writes the checksum of the transport header of some lanes, unless it is a CRC-32C, after everything else.
    #[inline(always)]
    pub(super) fn write_checksum<L: Lanes>(
        &mut self,
        sum: &InternetSum,
        (lanes, slots): (&L, &mut impl Slots),
    ) {
        // RFC 768: a computed zero is transmitted as all ones.
        let zero = if sum.datagram { 0xffff } else { 0 };
        for lane in 0..LANES {
            let destination = if sum.pseudo { self.destination_sum[lane] } else { 0 };
            let sum = complement(self.transport_sum[lane] + destination);
            self.halves[lane] = if sum == 0 { zero } else { sum.to_be() };
        }
        store(slots, lanes, sum.at, |lane| self.halves[lane].to_ne_bytes());
    }

    /// Makes ready for the checksums of several shapes: [`Columns::note_checksum`] for each, then one pass over all lanes.
    #[inline(always)]
    pub(super) fn begin_checksums(&mut self) {
        self.zeroes = [0; LANES];
    }

    /// What the checksums of the lanes that fields are for have beyond the words of the transport header.
    #[inline(always)]
    pub(super) fn note_checksum(&mut self, sum: &InternetSum) {
        if sum.pseudo {
            for lane in 0..LANES {
                self.transport_sum[lane] += self.destination_sum[lane] & self.mask[lane];
            }
        }
        if sum.datagram {
            for lane in 0..LANES {
                self.zeroes[lane] |= (self.mask[lane] & 0xffff) as u16;
            }
        }
    }

    /// The checksums of all lanes, after everything else.
    #[inline(always)]
    pub(super) fn finish_checksums(&mut self) {
        for lane in 0..LANES {
            self.halves[lane] = complement(self.transport_sum[lane]).to_be();
        }
        for lane in 0..LANES {
            // RFC 768, as above; without a choice, or the compiler goes from lane to lane.
            let is_zero = if self.halves[lane] == 0 { 0xffff } else { 0 };
            self.halves[lane] |= self.zeroes[lane] & is_zero;
        }
    }

    /// Writes the finished checksums of some lanes.
    #[inline(always)]
    pub(super) fn store_checksums<L: Lanes>(&self, at: usize, (lanes, slots): (&L, &mut impl Slots)) {
        store(slots, lanes, at, |lane| self.halves[lane].to_ne_bytes());
    }

    /// The sums of the eight words of each address, below 2^18. A loop for each step, or the compiler goes from lane to lane.
    #[inline(always)]
    fn sum_destinations_v6(&mut self, addresses: &[u128; LANES]) {
        let mut upper = [0; LANES];
        for lane in 0..LANES {
            upper[lane] = (addresses[lane] >> 64) as u64;
        }
        for lane in 0..LANES {
            self.doubles[lane] = (addresses[lane] & 0xffff_ffff_ffff_ffff) as u64;
        }
        for lane in 0..LANES {
            let (upper, lower) = (upper[lane], self.doubles[lane]);
            let sum = (upper >> 32) + (upper & 0xffff_ffff) + (lower >> 32) + (lower & 0xffff_ffff);
            self.destination_sum[lane] = low_32((sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32));
        }
    }

    /// Fills the column of its width, adds it to the sums and stores it.
    #[inline(always)]
    fn write_part<L: Lanes>(&mut self, batch: &Batch, part: Part, (lanes, slots): (&L, &mut impl Slots)) {
        let Part { at, value, odd } = part;
        // Where this is in a loop, what every kind of value needs would else be loaded before it, for all lanes, whichever
        // kinds there are: 40 instructions a lane where there are several shapes.
        self.fill(black_box(batch), value);
        match value.length() {
            1 => {
                let shift = if odd { 0 } else { 8 };
                self.add::<L>(|columns, lane| u32::from(columns.bytes[lane]) << shift);
                store(slots, lanes, at, |lane| [self.bytes[lane]]);
            }
            // At an odd offset every byte falls into the other half of its word (RFC 1071 section 2).
            2 => {
                if odd {
                    self.add::<L>(|columns, lane| columns.halves[lane].swap_bytes().into());
                } else {
                    self.add::<L>(|columns, lane| columns.halves[lane].into());
                }
                for half in &mut self.halves {
                    *half = half.to_be();
                }
                store(slots, lanes, at, |lane| self.halves[lane].to_ne_bytes());
            }
            4 => {
                if odd {
                    self.add::<L>(|columns, lane| sum_of_4(columns.numbers[lane].swap_bytes()));
                } else {
                    self.add::<L>(|columns, lane| sum_of_4(columns.numbers[lane]));
                }
                for number in &mut self.numbers {
                    *number = number.to_be();
                }
                store(slots, lanes, at, |lane| self.numbers[lane].to_ne_bytes());
            }
            _ => {
                if odd {
                    self.add::<L>(|columns, lane| sum_of_8(columns.doubles[lane].swap_bytes()));
                } else {
                    self.add::<L>(|columns, lane| sum_of_8(columns.doubles[lane]));
                }
                store(slots, lanes, at, |lane| self.doubles[lane].to_be_bytes());
            }
        }
    }

    /// Adds something to the sums of the lanes that fields are for.
    #[inline(always)]
    fn add<L: Lanes>(&mut self, summand: impl Fn(&Columns, usize) -> u32) {
        for lane in 0..LANES {
            let summand = summand(self, lane);
            self.transport_sum[lane] += if L::ALL { summand } else { summand & self.mask[lane] };
        }
    }

    /// Fills the column of the value's width. What is read is copied first: then the compiler knows that it is not what is
    /// written, and works on many lanes at once.
    #[inline(always)]
    fn fill(&mut self, batch: &Batch, value: Value) {
        let Columns { bytes, halves, numbers, doubles, .. } = self;
        let carry = match value {
            Value::One(carry) => carry,
            Value::Ports => {
                let (source, destination) = (batch.source_port, batch.destination_port);
                return fill(numbers, |lane| u32::from(source[lane]) << 16 | u32::from(destination[lane]));
            }
            Value::Key => {
                let (source, sequence) = (batch.source_port, batch.sequence);
                return fill(numbers, |lane| u32::from(source[lane]) << 16 | sequence[lane] & 0xffff);
            }
        };
        match carry {
            Carry::SourcePort => *halves = batch.source_port,
            Carry::DestinationPort => *halves = batch.destination_port,
            Carry::Identification => *halves = batch.identification,
            Carry::Sequence => *numbers = batch.sequence,
            Carry::Time => *numbers = [batch.time_us; LANES],
            Carry::Wide => {
                let (sequence, identification) = (batch.sequence, batch.identification);
                let port = batch.source_port;
                fill(doubles, |lane| {
                    u64::from(sequence[lane]) << 32
                        | u64::from(identification[lane]) << 16
                        | u64::from(port[lane])
                });
            }
            Carry::Low
            | Carry::Byte
            | Carry::Tag
            | Carry::Reversed
            | Carry::Positive
            | Carry::Text
            | Carry::Digits => {
                let sequence = batch.sequence;
                match carry {
                    Carry::Low => fill(halves, |lane| (sequence[lane] & 0xffff) as u16),
                    Carry::Byte => fill(bytes, |lane| (sequence[lane] & 0xff) as u8),
                    Carry::Tag => fill(bytes, |lane| (sequence[lane] & 0x7f) as u8),
                    Carry::Reversed => fill(numbers, |lane| sequence[lane].swap_bytes()),
                    Carry::Text => fill(doubles, |lane| hexadecimal_digits(sequence[lane])),
                    Carry::Digits => fill(doubles, |lane| decimal_digits(sequence[lane] % 100_000_000)),
                    _ => fill(numbers, |lane| sequence[lane] & 0x7fff_ffff),
                }
            }
        }
    }

    /// Stores 16 bits of each lane in network byte order.
    #[inline(always)]
    fn store_halves<L: Lanes>(
        &mut self,
        (lanes, slots): (&L, &mut impl Slots),
        at: usize,
        value: impl Fn(usize) -> u16,
    ) {
        for lane in 0..LANES {
            self.halves[lane] = value(lane).to_be();
        }
        store(slots, lanes, at, |lane| self.halves[lane].to_ne_bytes());
    }
}

#[inline(always)]
fn fill<T>(column: &mut [T; LANES], value: impl Fn(usize) -> T) {
    for (lane, entry) in column.iter_mut().enumerate() {
        *entry = value(lane);
    }
}

/// Stores `WIDTH` bytes of each of some lanes.
#[inline(always)]
pub(super) fn store<const WIDTH: usize>(
    slots: &mut impl Slots,
    lanes: &impl Lanes,
    at: usize,
    value: impl Fn(usize) -> [u8; WIDTH],
) {
    // Said once, so that it need not be asked for each lane.
    assert!(at + WIDTH <= slots.blocks() * super::BLOCK, "a field stands in its frame");
    lanes.each(|lane| *slots.bytes(lane, at) = value(lane % LANES));
}

/// The sum of the two words of a number.
#[inline(always)]
fn sum_of_4(number: u32) -> u32 {
    (number >> 16) + (number & 0xffff)
}

/// The sum of the four words of a number, below 2^18.
#[inline(always)]
fn sum_of_8(number: u64) -> u32 {
    let halves = (number >> 32) + (number & 0xffff_ffff);
    low_32((halves >> 16 & 0xffff) + (halves & 0xffff) + (halves >> 32))
}
