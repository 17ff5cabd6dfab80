//! Neighbour discovery for IPv6 over Ethernet (RFC 4861): solicitations and advertisements.

use std::net::{IpAddr, Ipv6Addr};

use super::arp::{Announcement, Asked};
use super::ethernet::{self, Mac};
use super::icmp::Message;
use super::{checksum, ipv6};

/// ICMPv6 type of a solicitation.
pub const SOLICITATION: u8 = 135;
/// ICMPv6 type of an advertisement.
pub const ADVERTISEMENT: u8 = 136;

/// Offset of the address that is asked for, or told, from the start of the ICMPv6 header.
pub const TARGET: usize = 8;

/// Hop limit of every message: one that was routed has another and is not believed (RFC 4861 section 3.1).
pub const HOP_LIMIT: u8 = 255;

/// The group that an address hears solicitations in (RFC 4291 section 2.7.1).
pub fn group(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The link-layer address of a group (RFC 2464 section 7).
pub fn group_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

/// The Ethernet frame that asks who has `wanted`.
pub fn solicitation(mac: Mac, address: Ipv6Addr, wanted: Ipv6Addr) -> Vec<u8> {
    let group = group(wanted);
    // Source link-layer address option (RFC 4861 section 4.6.1).
    message((group_mac(group), mac), (address, group), [SOLICITATION, 0], (wanted, 1))
}

/// The Ethernet frame that tells `to` that `mac` has `own`: solicited, overriding (RFC 4861 section 4.4).
pub fn advertisement((mac, own): (Mac, Ipv6Addr), (to_mac, to): (Mac, Ipv6Addr)) -> Vec<u8> {
    message((to_mac, mac), (own, to), [ADVERTISEMENT, 0x60], (own, 2))
}

fn message(
    (to_mac, mac): (Mac, Mac),
    (source, destination): (Ipv6Addr, Ipv6Addr),
    [kind, flags]: [u8; 2],
    (target, option): (Ipv6Addr, u8),
) -> Vec<u8> {
    let mut body = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    body.extend(target.octets());
    body.extend([option, 1]);
    body.extend(mac.0);
    let header = ipv6::header(source, destination, ICMPV6, HOP_LIMIT, LENGTH);
    let sum = checksum::sum(&header[8..40]) + u64::from(LENGTH) + u64::from(ICMPV6) + checksum::sum(&body);
    body[2..4].copy_from_slice(&checksum::finish(sum).to_be_bytes());
    [&ethernet::header(to_mac, mac, ethernet::IPV6)[..], &header[..], &body[..]].concat()
}

/// Who has an address, according to an advertisement that came with this hop limit; `None` for any other message, and
/// for one without a link-layer address. Unsolicited ones are not believed (the S flag, RFC 4861 section 4.4).
pub fn advertised(message: &Message<'_>, hop_limit: u8) -> Option<Announcement> {
    let solicited = message.rest[0] & 0x40 != 0;
    if message.kind != ADVERTISEMENT || message.code != 0 || hop_limit != HOP_LIMIT || !solicited {
        return None;
    }
    let (target, options) = message.body.split_first_chunk::<16>()?;
    let mac = link_layer_option(options, 2)?;
    let address = IpAddr::V6(Ipv6Addr::from(*target));
    (!mac.is_group() && mac != Mac::default()).then_some(Announcement { address, mac })
}

/// What a solicitation from an address with this hop limit asks. One that does not say its link-layer address is a
/// test for duplicates (RFC 4862 section 5.4), which is not answered.
pub fn solicited(message: &Message<'_>, hop_limit: u8, by: IpAddr) -> Option<Asked> {
    if message.kind != SOLICITATION || message.code != 0 || hop_limit != HOP_LIMIT {
        return None;
    }
    let (target, options) = message.body.split_first_chunk::<16>()?;
    let wanted = IpAddr::V6(Ipv6Addr::from(*target));
    Some(Asked { wanted, by, mac: link_layer_option(options, 1)? })
}

/// The link-layer address in the first option of that type.
fn link_layer_option(mut options: &[u8], wanted: u8) -> Option<Mac> {
    while let [kind, units, ..] = options {
        let length = usize::from(*units) * 8;
        // RFC 4861 section 4.6: a length of 0 makes the whole message invalid.
        if length == 0 || options.len() < length {
            return None;
        }
        if *kind == wanted && length == 8 {
            return Some(Mac(options[2..8].try_into().ok()?));
        }
        options = &options[length..];
    }
    None
}

/// Length of a message with its one option, in bytes.
const LENGTH: u16 = 32;
const ICMPV6: u8 = 58;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Frame, Segment, Transport, read};

    const US: &str = "2001:db8::1";
    const THEM: &str = "2001:db8::a:bcde:f012";

    fn address(text: &str) -> Ipv6Addr {
        text.parse().expect("address")
    }

    fn segment(frame: &[u8]) -> Segment<'_> {
        let Ok(Frame::Segment(segment)) = read(frame) else { panic!("a segment") };
        segment
    }

    #[test]
    fn a_question_reaches_the_group_and_is_what_an_independent_reader_reads() {
        let (near, far) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let frame = solicitation(near, address(US), address(THEM));
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0xde, 0xf0, 0x12]);
        let packet = etherparse::SlicedPacket::from_ethernet(&frame).expect("valid");
        let Some(etherparse::NetSlice::Ipv6(ip)) = &packet.net else { panic!("IPv6") };
        assert_eq!(ip.header().destination_addr(), address("ff02::1:ffde:f012"));
        let Some(etherparse::TransportSlice::Icmpv6(message)) = &packet.transport else { panic!("ICMPv6") };
        assert!(message.is_checksum_valid(ip.header().source(), ip.header().destination()));
        let asked = segment(&frame);
        let Transport::Icmpv6(message) = asked.transport else { panic!("ICMPv6") };
        let (wanted, by) = (address(THEM).into(), address(US).into());
        assert_eq!(solicited(&message, asked.ttl, asked.source), Some(Asked { wanted, by, mac: near }));
        let frame = advertisement((far, address(THEM)), (near, address(US)));
        let told = segment(&frame);
        let Transport::Icmpv6(message) = told.transport else { panic!("ICMPv6") };
        let announcement = Announcement { address: address(THEM).into(), mac: far };
        assert_eq!(advertised(&message, told.ttl), Some(announcement));
        assert_eq!(advertised(&message, 254), None, "it came through a router");
        assert_eq!(advertised(&Message { rest: [0x20, 0, 0, 0], ..message }, 255), None, "nobody asked");
        for length in 0..message.body.len() {
            assert_eq!(advertised(&Message { body: &message.body[..length], ..message }, 255), None);
        }
    }
}
