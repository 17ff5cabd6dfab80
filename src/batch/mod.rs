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

use crate::target::{Cursor, Protocol};
use crate::wire::ethernet::Mac;

mod carry;
mod columns;
mod shape;
mod slots;
mod template;
mod together;
mod words;

pub use carry::{Carry, Field, Secrets, Sum};
pub use slots::{Slots, Strided};
pub use template::{BLOCK, Block, Family, Template};
pub use together::Together;
pub use words::Words;

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
    /// The low half of the cookie: a TCP sequence number, for one ([`Carry::Sequence`]).
    pub sequence: [u32; LANES],
    /// The top quarter of the cookie: the IPv4 identification, the low 16 bits of the IPv6 flow label.
    pub identification: [u16; LANES],
    /// Index into the templates the link was opened with.
    pub template: [u16; LANES],
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

    /// The values of a lane that its frame may carry.
    #[inline(always)]
    pub fn secrets(&self, lane: usize) -> Secrets {
        Secrets {
            source_port: self.source_port[lane],
            sequence: self.sequence[lane],
            identification: self.identification[lane],
        }
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
    /// The 802.1Q tag that frames carry, if any: VLAN identifier in the low 12 bits.
    pub vlan: Option<u16>,
}

/// A template and the targets it is for: those of one protocol, on all ports or on some.
#[derive(Debug, Clone)]
pub struct Assigned {
    /// The protocol of the targets, which may be a private number.
    pub protocol: Protocol,
    /// The ports; none means every port that no other template of this protocol and family names.
    pub ports: Option<Vec<u16>>,
    /// The frame.
    pub template: Template,
}

/// The destination of a lane, by the family of its template.
pub fn destination(batch: &Batch, lane: usize, family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(batch.destination_v4[lane])),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(batch.destination_v6[lane])),
    }
}
