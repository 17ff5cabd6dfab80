//! Targets: (address, port, protocol), their textual syntax, and the [`Space`] that numbers them.
//!
//! Invariant: nothing here knows an order, a probe or a packet, and nothing here resolves a name.

pub mod error;
pub mod ranges;

pub mod addresses;
pub mod ports;
pub mod top_ports;

mod pattern;
pub mod special;

pub mod spec;

pub mod list;

pub mod file;

mod table;

mod numbered;

mod block;

pub mod sample;

pub mod space;

use std::fmt;
use std::net::IpAddr;

pub use addresses::{AddressSet, RangeList};
pub use error::{Reason, SpecError};
pub use file::{FileError, read_targets};
pub use list::{Endpoints, TargetList, parse_line, parse_list};
pub use ports::{Places, PortSet, parse_excluded_ports, parse_ports, parse_ports_of};
pub use ranges::Ranges;
pub use space::{Lanes, Space, SpaceError};
pub use spec::{Name, Spec, parse_spec};
pub use top_ports::top_ports;

/// A position in the order: the unit of progress, shard, resume and audit. Not a target number: the order maps
/// one to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cursor(pub u64);

/// An IANA protocol number. Any value is representable. Numbers from 253 are reserved by IANA for experiments and
/// stand here for what is no transport protocol: [`Protocol::ND`], [`Protocol::ARP`], [`Protocol::IP`].
///
/// A plan may send several kinds of probe to one port of one protocol. Each is a target of its own, so that order,
/// cookie and account need no exception: the kinds beyond the first have private numbers from 240 to 252, which IANA
/// has not assigned. [`Protocol::wire`] is the real one; nothing but it leaves the process or stands in a record that
/// is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Protocol(pub u8);

impl Protocol {
    /// Internet control messages, version 4.
    pub const ICMP: Protocol = Protocol(1);
    /// Transmission control protocol.
    pub const TCP: Protocol = Protocol(6);
    /// User datagram protocol.
    pub const UDP: Protocol = Protocol(17);
    /// Internet control messages, version 6.
    pub const ICMPV6: Protocol = Protocol(58);
    /// Stream control transmission protocol.
    pub const SCTP: Protocol = Protocol(132);
    /// Neighbour discovery (RFC 4861); the port number is 0.
    pub const ND: Protocol = Protocol(253);
    /// Address resolution (RFC 826); the port number is 0.
    pub const ARP: Protocol = Protocol(254);
    /// The IP layer itself: the port number is the IP protocol that is probed (`-sO`).
    pub const IP: Protocol = Protocol(255);

    /// Every protocol that has a name of its own.
    pub const NAMED: [Protocol; 8] = [
        Protocol::ICMP,
        Protocol::TCP,
        Protocol::UDP,
        Protocol::ICMPV6,
        Protocol::SCTP,
        Protocol::ND,
        Protocol::ARP,
        Protocol::IP,
    ];

    /// Private: TCP SYN of host discovery (`-PS`).
    pub const PING_SYN: Protocol = Protocol(240);
    /// Private: TCP ACK of host discovery (`-PA`).
    pub const PING_ACK: Protocol = Protocol(241);
    /// Private: UDP of host discovery (`-PU`).
    pub const PING_UDP: Protocol = Protocol(242);
    /// Private: SCTP INIT of host discovery (`-PY`).
    pub const PING_SCTP: Protocol = Protocol(243);
    /// Private: IP protocols of host discovery (`-PO`).
    pub const PING_IP: Protocol = Protocol(244);
    /// A UDP port may be sent several payloads: the first under [`Protocol::UDP`], the others under these private
    /// numbers.
    pub const UDP_PAYLOADS: [Protocol; 9] = [
        Protocol::UDP,
        Protocol(245),
        Protocol(246),
        Protocol(247),
        Protocol(248),
        Protocol(249),
        Protocol(250),
        Protocol(251),
        Protocol(252),
    ];

    /// Whether it asks for the host and not for a port of it: every answer says the same, that the host is up.
    pub const fn asks_host(self) -> bool {
        matches!(self, Protocol::ICMP | Protocol::ARP | Protocol::ND | Protocol(240..=244))
    }

    /// The protocol that frames and records name.
    #[inline]
    #[must_use]
    pub const fn wire(self) -> Protocol {
        match self {
            Protocol::PING_SYN | Protocol::PING_ACK => Protocol::TCP,
            Protocol::PING_SCTP => Protocol::SCTP,
            Protocol::PING_IP => Protocol::IP,
            Protocol(242 | 245..=252) => Protocol::UDP,
            other => other,
        }
    }

    /// The protocol that [`Display`](fmt::Display) writes as this text; `None` for a text that is none.
    pub fn from_name(text: &str) -> Option<Protocol> {
        if let Some(number) = text.strip_prefix("ip-proto-") {
            return number.parse().ok().map(Protocol);
        }
        Protocol::NAMED.into_iter().find(|protocol| protocol.name() == Some(text))
    }

    /// Its name; `None` for a number that has none.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Protocol::ICMP => Some("icmp"),
            Protocol::TCP => Some("tcp"),
            Protocol::UDP => Some("udp"),
            Protocol::ICMPV6 => Some("icmp6"),
            Protocol::SCTP => Some("sctp"),
            Protocol::ND => Some("nd"),
            Protocol::ARP => Some("arp"),
            Protocol::IP => Some("ip"),
            Protocol(_) => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "ip-proto-{}", self.0),
        }
    }
}

/// A port of a protocol. For ICMP the number is the message type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The protocol the number belongs to.
    pub protocol: Protocol,
    /// The port number.
    pub number: u16,
}

impl Port {
    /// Whether an address of a family can be asked this: ARP is IPv4's, neighbour discovery is IPv6's, and of the ICMP
    /// questions only the echo exists in both (its ICMPv6 number is another, the target's stays 8).
    pub const fn exists_in(self, is_v6: bool) -> bool {
        match self.protocol {
            Protocol::ARP => !is_v6,
            Protocol::ND => is_v6,
            Protocol::ICMP => !is_v6 || self.number == 8,
            _ => true,
        }
    }

    /// The port that stands for all payloads it is sent; any other port stands for itself.
    #[inline]
    #[must_use]
    pub fn of_first_payload(self) -> Port {
        let several = Protocol::UDP_PAYLOADS.contains(&self.protocol);
        Port { protocol: if several { Protocol::UDP } else { self.protocol }, ..self }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.number, self.protocol)
    }
}

/// What one probe is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Where to.
    pub address: IpAddr,
    /// Which port of which protocol.
    pub port: Port,
}
