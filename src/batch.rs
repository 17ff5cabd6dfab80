//! What generation hands to a link: a [`Batch`] of probes as a structure of arrays, and the [`Template`]s that say
//! how each becomes a frame.
//!
//! This is the plain data in which probe and link meet; neither knows the other. A link that carries frames asks
//! [`Template::stamp`]; a link that hands tuples to the kernel reads the arrays.
//!
//! Invariant: no I/O, no clock, no key.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::target::Cursor;
use crate::wire::checksum;
use crate::wire::ethernet::Mac;

/// Probes per batch. One machine word of acceptance bits; sendmmsg gains nothing beyond it (measured), and live
/// frames lose nothing below 160.
pub const LANES: usize = 64;

/// Up to [`LANES`] probes, one lane each. Only lanes `0..len()` mean anything.
#[derive(Debug, Clone)]
pub struct Batch {
    length: usize,
    /// Where in the order each probe stands.
    pub cursor: [Cursor; LANES],
    /// Which pass each probe belongs to, from 0.
    pub pass: [u8; LANES],
    /// Destination of the lanes whose template is IPv4, as a number in host byte order.
    pub destination_v4: [u32; LANES],
    /// Destination of the lanes whose template is IPv6, as a number in host byte order.
    pub destination_v6: [u128; LANES],
    /// Destination port.
    pub destination_port: [u16; LANES],
    /// Source port, which carries part of the cookie.
    pub source_port: [u16; LANES],
    /// TCP sequence number, which carries the low half of the cookie.
    pub sequence: [u32; LANES],
    /// IPv4 identification.
    pub identification: [u16; LANES],
    /// Index into the templates the link was opened with.
    pub template: [u8; LANES],
    /// Index into [`NextHops`].
    pub hop: [u16; LANES],
    /// Microseconds since the Unix epoch, modulo 2^32, for the layouts that carry a timestamp.
    pub time_us: u32,
}

impl Batch {
    /// A batch without probes.
    pub fn empty() -> Batch {
        Batch {
            length: 0,
            cursor: [Cursor(0); LANES],
            pass: [0; LANES],
            destination_v4: [0; LANES],
            destination_v6: [0; LANES],
            destination_port: [0; LANES],
            source_port: [0; LANES],
            sequence: [0; LANES],
            identification: [0; LANES],
            template: [0; LANES],
            hop: [0; LANES],
            time_us: 0,
        }
    }

    /// Number of probes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no probe.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Says how many lanes are filled.
    ///
    /// # Panics
    /// When `length` is above [`LANES`].
    pub fn resize(&mut self, length: usize) {
        assert!(length <= LANES, "a batch has {LANES} lanes");
        self.length = length;
    }

    /// Bits of all filled lanes, lane 0 lowest.
    pub fn lanes(&self) -> u64 {
        lane_mask(self.length)
    }

    /// Copies lane `from` onto lane `to`: how a lane that cannot be sent yet is squeezed out.
    pub fn copy_lane(&mut self, from: usize, to: usize) {
        self.cursor[to] = self.cursor[from];
        self.pass[to] = self.pass[from];
        self.destination_v4[to] = self.destination_v4[from];
        self.destination_v6[to] = self.destination_v6[from];
        self.destination_port[to] = self.destination_port[from];
        self.source_port[to] = self.source_port[from];
        self.sequence[to] = self.sequence[from];
        self.identification[to] = self.identification[from];
        self.template[to] = self.template[from];
        self.hop[to] = self.hop[from];
    }
}

/// The lowest 32 bits of a number: how times are carried in 32-bit fields, which wrap.
#[inline]
pub fn low_32(number: u64) -> u32 {
    (number & 0xffff_ffff) as u32
}

/// The lowest `length` bits set; `length` at most 64.
pub fn lane_mask(length: usize) -> u64 {
    if length == LANES { u64::MAX } else { (1 << length) - 1 }
}

/// The link-layer addresses of the next hops: a bounded table the transmitter fills and links read.
///
/// Slot 0 is the gateway's, or all zero where the link layer has no addresses.
#[derive(Debug, Clone)]
pub struct NextHops {
    slots: Arc<[AtomicU64]>,
}

impl NextHops {
    /// A table of `capacity` slots, all zero.
    pub fn new(capacity: u16) -> NextHops {
        NextHops { slots: (0..capacity.max(1)).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Number of slots.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// The address in a slot; all zero for a slot that does not exist.
    pub fn mac(&self, hop: u16) -> Mac {
        let word = self.slots.get(usize::from(hop)).map_or(0, |slot| slot.load(Ordering::Relaxed));
        let [_, _, a, b, c, d, e, f] = word.to_be_bytes();
        Mac([a, b, c, d, e, f])
    }

    /// Writes a slot; a slot that does not exist is ignored.
    pub fn assign(&self, hop: u16, mac: Mac) {
        let Mac([a, b, c, d, e, f]) = mac;
        if let Some(slot) = self.slots.get(usize::from(hop)) {
            slot.store(u64::from_be_bytes([0, 0, a, b, c, d, e, f]), Ordering::Relaxed);
        }
    }
}

/// Where frames come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Source address.
    pub address: IpAddr,
    /// Source link-layer address; all zero where there is none.
    pub mac: Mac,
}

/// A finished frame but for the fields that change from probe to probe.
///
/// Checksums are kept as the one's-complement sums of the constant words, so that stamping adds only what
/// changed (RFC 1624).
#[derive(Debug, Clone)]
pub struct Template {
    bytes: Vec<u8>,
    family: Family,
    network_sum: u64,
    transport_sum: u64,
    timestamp: Option<usize>,
}

/// The address family of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A frame of a batch in memory: so many whole blocks. Bytes behind the frame's own are zero.
pub type Block = [u8; BLOCK];

/// Bytes of a [`Block`]: a cache line.
pub const BLOCK: usize = 64;

/// Offset of the network header: templates are Ethernet frames without tags.
const NETWORK: usize = 14;

impl Template {
    /// A TCP template from a finished Ethernet frame whose destination, ports, sequence number, identification
    /// and checksums are zero. `timestamp` is the offset, from the start of the TCP header, of the option value
    /// that carries the time.
    ///
    /// # Panics
    /// When `bytes` is no such frame: templates are built by probes at start-up, never from input.
    pub fn tcp(bytes: Vec<u8>, timestamp: Option<usize>) -> Template {
        let family = match bytes[NETWORK] >> 4 {
            4 => Family::V4,
            6 => Family::V6,
            version => panic!("a template is IPv4 or IPv6, not version {version}"),
        };
        let transport = transport_offset(family);
        let length = bytes.len() - transport;
        let (network_sum, pseudo) = match family {
            Family::V4 => {
                (checksum::sum(&bytes[NETWORK..transport]), checksum::sum(&bytes[NETWORK + 12..NETWORK + 20]))
            }
            Family::V6 => (0, checksum::sum(&bytes[NETWORK + 8..NETWORK + 40])),
        };
        let transport_sum = checksum::sum(&bytes[transport..]) + pseudo + 6 + length as u64;
        let timestamp = timestamp.map(|offset| transport + offset);
        Template { bytes, family, network_sum, transport_sum, timestamp }
    }

    /// Length of a finished frame in bytes, without frame check sequence.
    pub fn frame_length(&self) -> usize {
        self.bytes.len()
    }

    /// The address family of the frames.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The constant bytes of a frame, changing fields zero.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes the frame of one lane to the start of `slot` and returns its length. Every byte of the frame is
    /// written, so a slot may hold anything before.
    ///
    /// # Panics
    /// When `slot` is shorter than [`Template::frame_length`].
    #[inline]
    pub fn stamp(&self, batch: &Batch, lane: usize, mac: Mac, slot: &mut [u8]) -> usize {
        let frame = &mut slot[..self.bytes.len()];
        frame.copy_from_slice(&self.bytes);
        frame[..6].copy_from_slice(&mac.0);
        let changed = match self.family {
            Family::V4 => self.stamp_v4(batch, lane, frame),
            Family::V6 => stamp_v6(batch, lane, frame),
        };
        self.stamp_tcp(batch, lane, changed, frame);
        frame.len()
    }

    /// Writes the frames of all [`LANES`] lanes, each to its own `BLOCKS` blocks, as [`Template::stamp`] would, and
    /// zeroes behind them. Returns whether it did: this is for TCP over IPv4, and for frames that fit the blocks.
    ///
    /// What is computed for one lane is computed for all of them at once; then each frame is written in whole words.
    #[inline(always)]
    pub fn stamp_all<const BLOCKS: usize>(
        &self,
        batch: &Batch,
        mac: Mac,
        (words, slots): (&mut Words, &mut [[Block; BLOCKS]; LANES]),
    ) -> bool {
        if self.family != Family::V4 || BLOCKS * BLOCK < self.bytes.len() {
            return false;
        }
        let mut constant = [[0; BLOCK]; BLOCKS];
        let frame = constant.as_flattened_mut();
        frame[..self.bytes.len()].copy_from_slice(&self.bytes);
        frame[..6].copy_from_slice(&mac.0);
        let transport_sum = self.transport_sum + self.stamp_time(batch.time_us, frame);
        words.fill(batch, &constant[0], (self.network_sum, transport_sum));
        for (lane, slot) in slots.iter_mut().enumerate() {
            words.write(lane, &mut slot[0]);
            slot[1..].copy_from_slice(&constant[1..]);
        }
        true
    }

    /// Writes destination, identification and header checksum; returns the sum of the destination's words.
    #[inline]
    fn stamp_v4(&self, batch: &Batch, lane: usize, frame: &mut [u8]) -> u64 {
        let destination = batch.destination_v4[lane];
        let identification = batch.identification[lane];
        let changed = u64::from(destination >> 16) + u64::from(destination & 0xffff);
        let sum = self.network_sum + changed + u64::from(identification);
        let header: &mut [u8; 20] = (&mut frame[NETWORK..NETWORK + 20]).try_into().expect("20 bytes");
        header[4..6].copy_from_slice(&identification.to_be_bytes());
        header[10..12].copy_from_slice(&checksum::finish(sum).to_be_bytes());
        header[16..20].copy_from_slice(&destination.to_be_bytes());
        changed
    }

    /// Writes ports, sequence number, timestamp and checksum.
    #[inline]
    fn stamp_tcp(&self, batch: &Batch, lane: usize, destination_sum: u64, frame: &mut [u8]) {
        let sequence = batch.sequence[lane];
        let mut sum = self.transport_sum
            + destination_sum
            + u64::from(batch.source_port[lane])
            + u64::from(batch.destination_port[lane])
            + u64::from(sequence >> 16)
            + u64::from(sequence & 0xffff);
        sum += self.stamp_time(batch.time_us, frame);
        let transport = transport_offset(self.family);
        let header: &mut [u8; 20] = (&mut frame[transport..transport + 20]).try_into().expect("20 bytes");
        header[0..2].copy_from_slice(&batch.source_port[lane].to_be_bytes());
        header[2..4].copy_from_slice(&batch.destination_port[lane].to_be_bytes());
        header[4..8].copy_from_slice(&sequence.to_be_bytes());
        header[16..18].copy_from_slice(&checksum::finish(sum).to_be_bytes());
    }

    /// Writes the timestamp, if the frame has one; returns the sum of its words.
    #[inline(always)]
    fn stamp_time(&self, time: u32, frame: &mut [u8]) -> u64 {
        let Some(offset) = self.timestamp else { return 0 };
        frame[offset..offset + 4].copy_from_slice(&time.to_be_bytes());
        // The option value may start at an odd offset (after a two-byte and a one-byte option), where its bytes fall
        // into three checksum words.
        if offset % 2 == 0 {
            u64::from(time >> 16) + u64::from(time & 0xffff)
        } else {
            u64::from(time >> 24) + u64::from((time >> 8) & 0xffff) + (u64::from(time & 0xff) << 8)
        }
    }
}

/// The first block of each frame of a batch of TCP over IPv4, as eight words in the order of memory. Scratch that
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
    #[inline(always)]
    fn fill(&mut self, batch: &Batch, constant: &Block, (network_sum, transport_sum): (u64, u64)) {
        let (network_sum, transport_sum) = (folded(network_sum), folded(transport_sum));
        for lane in 0..LANES {
            let (destination, sequence) = (batch.destination_v4[lane], batch.sequence[lane]);
            let destination_sum = (destination >> 16) + (destination & 0xffff);
            let ports = u32::from(batch.source_port[lane]) + u32::from(batch.destination_port[lane]);
            let sequence_sum = (sequence >> 16) + (sequence & 0xffff);
            self.network_sum[lane] = network_sum + destination_sum + u32::from(batch.identification[lane]);
            self.transport_sum[lane] = transport_sum + destination_sum + ports + sequence_sum;
        }
        let (words, _) = constant.as_chunks::<8>();
        for lane in 0..LANES {
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
        for lane in 0..LANES {
            let (destination, sequence) =
                (u64::from(batch.destination_v4[lane]), u64::from(batch.sequence[lane]));
            let ports =
                u64::from(batch.source_port[lane]) << 32 | u64::from(batch.destination_port[lane]) << 16;
            let checksum = complement(self.transport_sum[lane]);
            self.back[lane] = [
                // Lower half of the destination, ports, upper half of the sequence number.
                (destination << 48 | ports | sequence >> 16).to_be(),
                // Lower half of the sequence number, acknowledgement, flags.
                (u64::from_be_bytes(words[5]) | sequence << 48).to_be(),
                // Window, checksum, urgent pointer, first option bytes.
                (u64::from_be_bytes(words[6]) | checksum << 32).to_be(),
                u64::from_ne_bytes(words[7]),
            ];
        }
    }

    #[inline(always)]
    fn write(&self, lane: usize, block: &mut Block) {
        let (words, _) = block.as_chunks_mut::<8>();
        for index in 0..4 {
            words[index] = self.front[lane][index].to_ne_bytes();
            words[4 + index] = self.back[lane][index].to_ne_bytes();
        }
    }
}

/// A sum with its carries added in, below 2^16.
fn folded(sum: u64) -> u32 {
    u32::from(!checksum::finish(sum))
}

/// The checksum that a sum of a few 16-bit words comes to.
#[inline(always)]
fn complement(sum: u32) -> u64 {
    let sum = (sum & 0xffff) + (sum >> 16);
    u64::from(!(sum + (sum >> 16)) & 0xffff)
}

/// Writes the destination; returns the sum of its words.
fn stamp_v6(batch: &Batch, lane: usize, frame: &mut [u8]) -> u64 {
    let octets = batch.destination_v6[lane].to_be_bytes();
    frame[NETWORK + 24..NETWORK + 40].copy_from_slice(&octets);
    checksum::sum(&octets)
}

fn transport_offset(family: Family) -> usize {
    match family {
        Family::V4 => NETWORK + 20,
        Family::V6 => NETWORK + 40,
    }
}

/// The destination of a lane, by the family of its template.
pub fn destination(batch: &Batch, lane: usize, family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(batch.destination_v4[lane])),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(batch.destination_v6[lane])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_lane_is_the_checksum_of_the_library_for_every_sum_a_frame_can_have() {
        // Eight 16-bit words at most are added: the constant part, destination, sequence number, ports.
        for sum in 0..8 << 16 {
            assert_eq!(complement(sum), u64::from(checksum::finish(sum.into())), "{sum:#x}");
        }
    }
}
