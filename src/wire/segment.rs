//! A received frame, read once: who sent it to whom, and the header that can be a reply.

use std::net::IpAddr;

use super::{Malformed, arp, ethernet, icmp, ipv4, ipv6, outcome, sctp, tcp, udp};

/// What a received frame is.
#[derive(Debug, Clone, Copy)]
pub enum Frame<'a> {
    /// An IP packet, or an ARP packet.
    Segment(Segment<'a>),
    /// Nothing a scanner reads.
    Other,
}

/// An IP packet with its transport header, or an ARP packet, whose addresses are those of sender and target.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// IPv4 identification; 0 for IPv6.
    pub identification: u16,
    /// What it carries.
    pub transport: Transport<'a>,
}

/// The transport header of a segment.
#[derive(Debug, Clone, Copy)]
pub enum Transport<'a> {
    /// TCP.
    Tcp(tcp::Header<'a>),
    /// ICMP for IPv4.
    Icmp(icmp::Message<'a>),
    /// ICMP for IPv6.
    Icmpv6(icmp::Message<'a>),
    /// UDP.
    Udp(udp::Datagram<'a>),
    /// SCTP.
    Sctp(sctp::Packet<'a>),
    /// ARP.
    Arp(arp::Packet),
    /// Another protocol.
    Other {
        /// Its number.
        protocol: u8,
        /// What the packet carries.
        payload: &'a [u8],
    },
}

impl Transport<'_> {
    /// The number of the protocol in the IP header; `None` for ARP, which has none.
    pub fn protocol(&self) -> Option<u8> {
        match self {
            Transport::Tcp(_) => Some(6),
            Transport::Icmp(_) => Some(1),
            Transport::Icmpv6(_) => Some(58),
            Transport::Udp(_) => Some(17),
            Transport::Sctp(_) => Some(132),
            Transport::Arp(_) => None,
            Transport::Other { protocol, .. } => Some(*protocol),
        }
    }
}

/// What frames of an interface begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// An Ethernet header.
    Ethernet,
    /// The IP header.
    Bare,
    /// What the operating system said of a connection: no frame at all.
    Outcome,
}

impl Reader {
    /// Reads a frame.
    ///
    /// # Errors
    /// When a header it announces is incomplete.
    #[inline(always)]
    pub fn read(self, frame: &[u8]) -> Result<Frame<'_>, Malformed> {
        match self {
            Reader::Ethernet => read(frame),
            Reader::Bare => read_bare(frame),
            Reader::Outcome => outcome::read(frame),
        }
    }
}

/// Reads an Ethernet frame. One 802.1Q tag is stepped over.
///
/// # Errors
/// When a header it announces is incomplete.
#[inline(always)]
pub fn read(frame: &[u8]) -> Result<Frame<'_>, Malformed> {
    let (ethertype, offset) = ethernet::announced(frame).ok_or(Malformed)?;
    let payload = frame.get(offset..).ok_or(Malformed)?;
    match ethertype {
        ethernet::IPV4 => read_v4(payload),
        ethernet::IPV6 => read_v6(payload),
        ethernet::ARP => {
            Ok(arp::Packet::new(payload).map_or(Frame::Other, |packet| Frame::Segment(Segment::arp(packet))))
        }
        _ => Ok(Frame::Other),
    }
}

impl Segment<'_> {
    fn arp(packet: arp::Packet) -> Segment<'static> {
        Segment {
            source: IpAddr::V4(packet.sender),
            destination: IpAddr::V4(packet.target),
            ttl: 0,
            identification: 0,
            transport: Transport::Arp(packet),
        }
    }
}

/// Reads a frame of an interface without link-layer header: it starts with the IP header.
///
/// # Errors
/// As [`read`].
pub fn read_bare(packet: &[u8]) -> Result<Frame<'_>, Malformed> {
    match packet.first().map(|first| first >> 4) {
        Some(4) => read_v4(packet),
        Some(6) => read_v6(packet),
        _ => Err(Malformed),
    }
}

#[inline(always)]
fn read_v4(bytes: &[u8]) -> Result<Frame<'_>, Malformed> {
    let packet = ipv4::Packet::new(bytes)?;
    if packet.is_later_fragment() {
        return Ok(Frame::Other);
    }
    let transport = match packet.protocol() {
        6 => Transport::Tcp(tcp::Header::new(packet.payload())?),
        1 => Transport::Icmp(icmp::Message::new(packet.payload())?),
        other => either(other, packet.payload())?,
    };
    Ok(Frame::Segment(Segment {
        source: IpAddr::V4(packet.source()),
        destination: IpAddr::V4(packet.destination()),
        ttl: packet.ttl(),
        identification: packet.identification(),
        transport,
    }))
}

fn read_v6(bytes: &[u8]) -> Result<Frame<'_>, Malformed> {
    let packet = ipv6::Packet::new(bytes)?;
    let transport = match packet.protocol() {
        6 => Transport::Tcp(tcp::Header::new(packet.payload())?),
        58 => Transport::Icmpv6(icmp::Message::new(packet.payload())?),
        other => either(other, packet.payload())?,
    };
    Ok(Frame::Segment(Segment {
        source: IpAddr::V6(packet.source()),
        destination: IpAddr::V6(packet.destination()),
        ttl: packet.hop_limit(),
        identification: 0,
        transport,
    }))
}

/// The protocols that are the same in both families.
fn either(protocol: u8, payload: &[u8]) -> Result<Transport<'_>, Malformed> {
    Ok(match protocol {
        17 => Transport::Udp(udp::Datagram::new(payload)?),
        132 => Transport::Sctp(sctp::Packet::new(payload)?),
        _ => Transport::Other { protocol, payload },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::checksum;

    fn syn_ack() -> Vec<u8> {
        etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([192, 0, 2, 2], [192, 0, 2, 1], 57)
            .tcp(80, 40_000, 1000, 64_240)
            .syn()
            .ack(77)
            .options_raw(&[2, 4, 5, 0xb4])
            .map(|builder| {
                let mut bytes = Vec::new();
                builder.write(&mut bytes, &[]).expect("writes to memory");
                bytes
            })
            .expect("options fit")
    }

    #[test]
    fn a_syn_ack_of_an_independent_writer_is_read_field_by_field() {
        let bytes = syn_ack();
        let Ok(Frame::Segment(segment)) = read(&bytes) else { panic!("a segment") };
        let Transport::Tcp(header) = segment.transport else { panic!("TCP") };
        assert_eq!(segment.source.to_string(), "192.0.2.2");
        assert_eq!((header.source_port(), header.destination_port()), (80, 40_000));
        assert_eq!((header.sequence(), header.acknowledgement()), (1000, 77));
        assert!(header.has(tcp::flag::SYN | tcp::flag::ACK) && !header.has(tcp::flag::RST));
        assert_eq!((header.window(), header.options().mss, segment.ttl), (64_240, Some(1460), 57));
    }

    #[test]
    fn a_tag_and_padding_change_nothing() {
        let mut bytes = syn_ack();
        bytes.extend_from_slice(&[0; 6]);
        bytes.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
        assert!(matches!(read(&bytes), Ok(Frame::Segment(Segment { transport: Transport::Tcp(_), .. }))));
    }

    #[test]
    fn our_header_checksum_is_what_an_independent_reader_computes() {
        let fields = ipv4::Fields {
            source: [192, 0, 2, 1].into(),
            destination: [198, 18, 0, 1].into(),
            protocol: 6,
            ttl: 64,
            identification: 0xbeef,
            payload_length: 24,
        };
        let bytes = ipv4::header(&fields);
        let (header, _) = etherparse::Ipv4Header::from_slice(&bytes).expect("valid");
        assert_eq!(header.calc_header_checksum(), header.header_checksum);
        assert_eq!(checksum::finish(checksum::sum(&bytes)), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn no_damage_to_a_reply_makes_the_reader_panic(at in 0usize..58, value: u8, cut in 0usize..58) {
            let mut bytes = syn_ack();
            bytes[at] = value;
            if let Ok(Frame::Segment(Segment { transport: Transport::Tcp(header), .. })) = read(&bytes[..cut]) {
                let _ = header.options();
            }
        }
    }
}
