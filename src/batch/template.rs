//! [`Template`]: a frame but for what changes from probe to probe, and the routine that writes the rest.
//!
//! Invariant: every byte of a frame is written for every probe; nothing here knows what a probe is.

use std::fmt;

use super::shape::{Network, Shape};
use super::words::folded;
use super::{Batch, Carry, Field, Slots, Sum, Words};
use crate::wire::ethernet::{self, Mac};
use crate::wire::{arp, checksum, ipv4, ipv6, nd, sctp};

/// A finished frame but for the fields that change from probe to probe.
///
/// Checksums are kept as the one's-complement sums of the constant words, so that stamping adds only what
/// changed (RFC 1624).
#[derive(Debug, Clone)]
pub struct Template {
    bytes: Vec<u8>,
    /// The same in whole blocks, zeroes behind it.
    blocks: Vec<Block>,
    aim: Aim,
    /// Offset of the network header.
    network: usize,
    /// Offset of the transport header.
    transport: usize,
    network_sum: u64,
    transport_sum: u64,
    /// Offsets from the start of the frame.
    fields: Vec<Field>,
    sum: Sum,
    crc: Option<Crc>,
    /// What TCP over untagged IPv4 has of its own.
    tcp: Option<TcpV4>,
}

/// Where the destination stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    /// In an IPv4 header; the frame goes to the next hop.
    V4,
    /// In an IPv6 header; the frame goes to the next hop.
    V6,
    /// In an ARP request to all stations.
    Arp,
    /// In a neighbour solicitation to the stations that share its last three bytes.
    Solicitation,
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

impl Template {
    /// A template from a finished Ethernet frame (with or without an 802.1Q tag) with an IPv4 header without options or
    /// an IPv6 header without extensions, in which the destination, the identification, all `fields` and the checksums
    /// are zero.
    ///
    /// # Panics
    /// When `frame` is no such frame, or a field leaves it: templates are built by probes at start-up, never from what
    /// the network says.
    pub fn new(frame: Vec<u8>, fields: &[Field], sum: Sum) -> Template {
        let network = network_offset(&frame);
        let (aim, transport) = match frame[network] >> 4 {
            4 => (Aim::V4, network + ipv4::HEADER),
            6 => (Aim::V6, network + ipv6::HEADER),
            version => panic!("a template is IPv4 or IPv6, not version {version}"),
        };
        Template::build(frame, (aim, network, transport), fields, sum)
    }

    /// A TCP template as [`Template::new`]: ports, sequence number and, where `timestamp` is the offset of an option value
    /// from the start of the TCP header, the time.
    ///
    /// # Panics
    /// As [`Template::new`].
    pub fn tcp(frame: Vec<u8>, timestamp: Option<usize>) -> Template {
        let mut fields = TCP_HEAD.to_vec();
        fields.extend(timestamp.map(|at| Field { at, carry: Carry::Time }));
        Template::new(frame, &fields, TCP_SUM)
    }

    /// The template of an ARP request from an Ethernet frame ([`arp::request`]) that asks for 0.0.0.0.
    ///
    /// # Panics
    /// When `frame` is none.
    pub fn arp(frame: Vec<u8>) -> Template {
        let network = network_offset(&frame);
        assert_eq!(frame.len(), network + arp::LENGTH, "an ARP request");
        let end = frame.len();
        Template::build(frame, (Aim::Arp, network, end), &[], Sum::None)
    }

    /// The template of a neighbour solicitation from an Ethernet frame ([`nd::solicitation`]) that asks for `::`.
    ///
    /// # Panics
    /// When `frame` is none.
    pub fn solicitation(frame: Vec<u8>) -> Template {
        let network = network_offset(&frame);
        let transport = network + ipv6::HEADER;
        assert!(transport + nd::TARGET + 16 <= frame.len(), "a neighbour solicitation");
        let mut frame = frame;
        frame[transport + 2..transport + 4].fill(0);
        Template::build(frame, (Aim::Solicitation, network, transport), &[], Sum::Pseudo { at: 2 })
    }

    fn build(
        bytes: Vec<u8>,
        (aim, network, transport): (Aim, usize, usize),
        fields: &[Field],
        sum: Sum,
    ) -> Template {
        let body = &bytes[transport..];
        assert!(
            fields.iter().all(|field| field.at + field.carry.length() <= body.len()),
            "fields stand in the frame"
        );
        let network_sum = if aim == Aim::V4 { checksum::sum(&bytes[network..transport]) } else { 0 };
        let pseudo = match aim {
            Aim::V4 => checksum::sum(&bytes[network + 12..transport]) + u64::from(bytes[network + 9]),
            Aim::V6 | Aim::Solicitation => {
                checksum::sum(&bytes[network + 8..transport]) + u64::from(bytes[network + 6])
            }
            Aim::Arp => 0,
        };
        let transport_sum = match sum {
            Sum::Pseudo { .. } | Sum::Datagram => checksum::sum(body) + pseudo + body.len() as u64,
            Sum::Plain { .. } => checksum::sum(body),
            Sum::Crc32c | Sum::None => 0,
        };
        let crc = (sum == Sum::Crc32c).then(|| Crc::new(body, fields));
        let untagged_v4 = aim == Aim::V4 && network == ethernet::HEADER;
        let tcp = if untagged_v4 { tcp_v4(transport, fields, sum) } else { None };
        let fields = fields.iter().map(|field| Field { at: transport + field.at, ..*field }).collect();
        let mut blocks = vec![[0; BLOCK]; bytes.len().div_ceil(BLOCK)];
        blocks.as_flattened_mut()[..bytes.len()].copy_from_slice(&bytes);
        Template { bytes, blocks, aim, network, transport, network_sum, transport_sum, fields, sum, crc, tcp }
    }

    /// Length of a finished frame in bytes, without frame check sequence.
    pub fn frame_length(&self) -> usize {
        self.bytes.len()
    }

    /// The address family of the frames.
    pub fn family(&self) -> Family {
        match self.aim {
            Aim::V4 | Aim::Arp => Family::V4,
            Aim::V6 | Aim::Solicitation => Family::V6,
        }
    }

    /// Whether the frames ask the link who has an address (ARP, neighbour discovery): they go to a group of stations and
    /// need no next hop.
    pub fn asks_link(&self) -> bool {
        matches!(self.aim, Aim::Arp | Aim::Solicitation)
    }

    /// The constant bytes of a frame, changing fields zero.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same in whole blocks, zeroes behind them.
    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The sums of the constant words, network and transport, below 2^16.
    pub(super) fn sums(&self) -> (u32, u32) {
        (folded(self.network_sum), folded(self.transport_sum))
    }

    /// What the frames have beyond constant bytes; none for questions to the link.
    pub(super) fn shape(&self) -> Option<Shape> {
        if self.asks_link() {
            return None;
        }
        let relative = |field: &Field| Field { at: field.at - self.transport, ..*field };
        let fields: Vec<Field> = self.fields.iter().map(relative).collect();
        let network = Network { at: self.network, is_v6: self.aim == Aim::V6 };
        Some(Shape::new(network, self.transport, &fields, self.sum))
    }

    /// Whether the byte at an offset of the frame proves nothing, though it changes: a checksum, or a time.
    pub fn is_unproved(&self, offset: usize) -> bool {
        let checksum = match self.sum {
            Sum::Pseudo { at } | Sum::Plain { at } => at..at + 2,
            Sum::Datagram => 6..8,
            Sum::Crc32c => 8..12,
            Sum::None => 0..0,
        };
        let in_time =
            |field: &Field| field.carry == Carry::Time && (field.at..field.at + 4).contains(&offset);
        offset.checked_sub(self.transport).is_some_and(|at| checksum.contains(&at))
            || self.fields.iter().any(in_time)
    }

    /// Writes the frame of one lane to the start of `slot` and returns its length. Every byte of the frame is
    /// written, so a slot may hold anything before. `mac` is the next hop's; questions to the link do not need it.
    ///
    /// # Panics
    /// When `slot` is shorter than [`Template::frame_length`].
    #[inline]
    pub fn stamp(&self, batch: &Batch, lane: usize, mac: Mac, slot: &mut [u8]) -> usize {
        let frame = &mut slot[..self.bytes.len()];
        frame.copy_from_slice(&self.bytes);
        let destination_sum = match self.aim {
            Aim::V4 => {
                frame[..6].copy_from_slice(&mac.0);
                self.stamp_v4(batch, lane, frame)
            }
            Aim::V6 => {
                frame[..6].copy_from_slice(&mac.0);
                let octets = batch.destination_v6[lane].to_be_bytes();
                frame[self.network + 24..self.network + 40].copy_from_slice(&octets);
                // The flow label (RFC 6437) is to IPv6 what the identification is to IPv4: errors quote it.
                let flow = batch.identification[lane].to_be_bytes();
                frame[self.network + 2..self.network + 4].copy_from_slice(&flow);
                checksum::sum(&octets)
            }
            Aim::Arp => {
                let octets = batch.destination_v4[lane].to_be_bytes();
                frame[self.network + 24..self.network + 28].copy_from_slice(&octets);
                return frame.len();
            }
            Aim::Solicitation => self.stamp_solicitation(batch.destination_v6[lane], frame),
        };
        // Without a pseudo header the destination is in no checksum.
        let destination_sum = if matches!(self.sum, Sum::Plain { .. }) { 0 } else { destination_sum };
        let sum = self.transport_sum + destination_sum + self.stamp_fields(batch, lane, frame);
        self.stamp_checksum(sum, frame);
        frame.len()
    }

    /// Writes the frames of all [`super::LANES`] lanes, each to its own slot, as [`Template::stamp`] would, and zeroes behind them.
    /// Returns whether it did: this is for TCP over untagged IPv4 that fits the slots.
    ///
    /// What is computed for one lane is computed for all of them at once; then each frame is written in whole words.
    #[inline(always)]
    pub fn stamp_all(&self, batch: &Batch, mac: Mac, (words, slots): (&mut Words, &mut impl Slots)) -> bool {
        const BLOCKS: usize = TcpV4::LONGEST.div_ceil(BLOCK);
        let Some(tcp) = self.tcp.filter(|_| self.blocks.len() <= slots.blocks().min(BLOCKS)) else {
            return false;
        };
        let mut constant = [[0; BLOCK]; BLOCKS];
        constant[..self.blocks.len()].copy_from_slice(&self.blocks);
        constant[0][..6].copy_from_slice(&mac.0);
        let mut transport_sum = self.transport_sum;
        if let Some(offset) = tcp.time {
            let frame = (constant.as_flattened_mut(), self.transport);
            transport_sum += stamp_number(batch.time_us.into(), (offset, 4), frame);
        }
        let (first, sums) = (&constant[0], (self.network_sum, transport_sum));
        let rest = &constant[1..self.blocks.len()];
        // A loop for each: nothing is asked for each lane.
        if tcp.acknowledges {
            words.fill::<true>(batch, first, sums);
            slots.put_each(rest, |lane, block| words.write_fields::<true>(batch, lane, block));
        } else {
            words.fill::<false>(batch, first, sums);
            slots.put_each(rest, |lane, block| words.write_fields::<false>(batch, lane, block));
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
        let header: &mut [u8; 20] =
            (&mut frame[self.network..self.network + 20]).try_into().expect("20 bytes");
        header[4..6].copy_from_slice(&identification.to_be_bytes());
        header[10..12].copy_from_slice(&checksum::finish(sum).to_be_bytes());
        header[16..20].copy_from_slice(&destination.to_be_bytes());
        changed
    }

    /// Writes who is asked for, and the group that is asked (RFC 4291 section 2.7.1, RFC 2464 section 7): the constant
    /// bytes hold both but for the last three bytes. Returns the sum of what changed.
    fn stamp_solicitation(&self, wanted: u128, frame: &mut [u8]) -> u64 {
        let octets = wanted.to_be_bytes();
        frame[3..6].copy_from_slice(&octets[13..]);
        frame[self.network + 37..self.network + 40].copy_from_slice(&octets[13..]);
        let target = self.transport + nd::TARGET;
        frame[target..target + 16].copy_from_slice(&octets);
        let group = u64::from(octets[13]) + (u64::from(octets[14]) << 8) + u64::from(octets[15]);
        checksum::sum(&octets) + group
    }

    /// Writes all fields; returns the sum of their words.
    #[inline]
    fn stamp_fields(&self, batch: &Batch, lane: usize, frame: &mut [u8]) -> u64 {
        let (secrets, port) = (batch.secrets(lane), batch.destination_port[lane]);
        self.fields.iter().fold(0, |sum, field| {
            let value = field.carry.value(&secrets, port, batch.time_us);
            sum + stamp_number(value, (field.at, field.carry.length()), (frame, self.transport))
        })
    }

    /// Writes the checksum of the transport header.
    #[inline]
    fn stamp_checksum(&self, sum: u64, frame: &mut [u8]) {
        let (at, value) = match self.sum {
            Sum::Pseudo { at } | Sum::Plain { at } => (at, checksum::finish(sum)),
            Sum::Datagram => (6, checksum::finish(sum)),
            Sum::None => return,
            Sum::Crc32c => return self.stamp_crc(frame),
        };
        // RFC 768: a computed zero is transmitted as all ones.
        let value = if value == 0 && self.sum == Sum::Datagram { 0xffff } else { value };
        frame[self.transport + at..self.transport + at + 2].copy_from_slice(&value.to_be_bytes());
    }

    /// Writes the CRC-32C of a frame that is finished but for that.
    #[inline]
    pub(super) fn stamp_crc(&self, frame: &mut [u8]) {
        let value = self.crc.as_ref().map_or(0, |crc| crc.of(&frame[self.transport..]));
        frame[self.transport + 8..self.transport + 12].copy_from_slice(&value.to_le_bytes());
    }
}

/// Writes the last `length` bytes of a number, and returns the sum of their words as they stand from `start` on.
#[inline(always)]
fn stamp_number(value: u64, (at, length): (usize, usize), (frame, start): (&mut [u8], usize)) -> u64 {
    let bytes = value.to_be_bytes();
    match length {
        1 => frame[at] = bytes[7],
        2 => frame[at..at + 2].copy_from_slice(&bytes[6..]),
        4 => frame[at..at + 4].copy_from_slice(&bytes[4..]),
        _ => frame[at..at + 8].copy_from_slice(&bytes),
    }
    // A single byte is the upper half of its word at an even offset.
    let value = if length == 1 { value << 8 } else { value };
    let sum = (value >> 48) + (value >> 32 & 0xffff) + (value >> 16 & 0xffff) + (value & 0xffff);
    if (at - start).is_multiple_of(2) {
        return sum;
    }
    // At an odd offset every byte falls into the other half of its word (RFC 1071 section 2, byte order independence).
    u64::from(folded(sum).to_le_bytes()[0]) << 8 | u64::from(folded(sum).to_le_bytes()[1])
}

fn network_offset(frame: &[u8]) -> usize {
    match u16::from_be_bytes([frame[12], frame[13]]) {
        ethernet::VLAN => ethernet::HEADER + ethernet::TAG,
        _ => ethernet::HEADER,
    }
}

/// A TCP frame over untagged IPv4, which [`Words`] writes.
#[derive(Debug, Clone, Copy)]
struct TcpV4 {
    /// Whether the sequence number stands in the acknowledgement field, too.
    acknowledges: bool,
    /// Offset of the time in the frame, if it carries one: it is the same for a whole batch.
    time: Option<usize>,
}

impl TcpV4 {
    /// Bytes of the longest frame: both headers with all the options that TCP has room for.
    const LONGEST: usize = ethernet::HEADER + ipv4::HEADER + 60;
}

/// Fields of TCP in the order of the header; none for any other.
fn tcp_v4(transport: usize, fields: &[Field], sum: Sum) -> Option<TcpV4> {
    let rest = fields.strip_prefix(&TCP_HEAD).filter(|_| sum == TCP_SUM)?;
    let acknowledgement = [Field { at: 8, carry: Carry::Sequence }];
    let (acknowledges, rest) = rest.strip_prefix(&acknowledgement).map_or((false, rest), |rest| (true, rest));
    match rest {
        [] => Some(TcpV4 { acknowledges, time: None }),
        [Field { at, carry: Carry::Time }] if 20 <= *at => {
            Some(TcpV4 { acknowledges, time: Some(transport + at) })
        }
        _ => None,
    }
}

/// The first fields of every TCP probe.
const TCP_HEAD: [Field; 3] = [
    Field { at: 0, carry: Carry::SourcePort },
    Field { at: 2, carry: Carry::DestinationPort },
    Field { at: 4, carry: Carry::Sequence },
];
const TCP_SUM: Sum = Sum::Pseudo { at: 16 };

/// The CRC-32C of a packet of which only some bytes change. The checksum is linear: that of the constant bytes, and for
/// each byte that changes a table of what its value adds.
#[derive(Clone)]
struct Crc {
    constant: u32,
    /// Offset of a byte, and what each of its values adds.
    changing: Vec<(usize, Box<[u32; 256]>)>,
}

impl fmt::Debug for Crc {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Crc({} bytes change)", self.changing.len())
    }
}

impl Crc {
    fn new(body: &[u8], fields: &[Field]) -> Crc {
        let zeroes = vec![0; body.len()];
        let base = sctp::crc32c(&zeroes);
        let table = |at: usize| {
            let mut one = zeroes.clone();
            let mut table = Box::new([0; 256]);
            for (value, entry) in (0..=u8::MAX).zip(table.iter_mut()) {
                one[at] = value;
                *entry = sctp::crc32c(&one) ^ base;
            }
            (at, table)
        };
        let changing = fields.iter().flat_map(|field| field.at..field.at + field.carry.length());
        Crc { constant: sctp::crc32c(body), changing: changing.map(table).collect() }
    }

    #[inline]
    fn of(&self, body: &[u8]) -> u32 {
        self.changing.iter().fold(self.constant, |crc, (at, table)| crc ^ table[usize::from(body[*at])])
    }
}
