//! What stands behind the IP header of an IP protocol probe: for each protocol the smallest packet that is whole, that nobody acts
//! on, and whose first eight bytes, which an ICMP error quotes, hold a part of the cookie where the protocol has room for it.
//!
//! *Nobody acts on it*: routing protocols get a header of a type or opcode that nobody has given a meaning (their
//! documents have it dropped), tunnels a packet that no router may forward, reliable transports one of no connection.
//!
//! *Its sum is right for a filter*: over what stands behind the IP header, over IPv6 with the pseudo header, because a Linux
//! filter rejects nothing whose checksum looks wrong (`nf_reject_verify_csum`, `include/net/netfilter/nf_reject.h`). Where
//! the protocol has its checksum elsewhere or none, the sum is brought about by other bytes that are free.
//!
//! Invariant: `netns_tshark_reads_every_ip_protocol` names what tshark says of each; the few of which it says something
//! are listed there with the reason.

use crate::batch::{Carry, Field, Sum};

/// What stands behind the IP header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Body {
    pub(super) bytes: &'static [u8],
    pub(super) fields: &'static [Field],
    pub(super) sum: Sum,
}

impl Body {
    /// What of the body came back: the secret bits that are right, and whether the source port is among what is right; `None`
    /// when a field is wrong, or one of the first eight bytes is not quoted.
    pub(super) fn quoted(&self, quoted: impl Fn(Carry, usize) -> Option<bool>) -> Option<(u32, bool)> {
        let (mut bits, mut port) = (0, false);
        for field in self.fields {
            match quoted(field.carry, field.at) {
                Some(true) => {
                    bits += field.carry.bits();
                    port |= field.carry == Carry::SourcePort;
                }
                Some(false) => return None,
                None if field.at + field.carry.length() <= QUOTED => return None,
                None => {}
            }
        }
        Some((bits, port))
    }
}

/// Bytes behind the IP header that every router quotes (RFC 792).
const QUOTED: usize = 8;

/// The body of a protocol; none over IPv6 for a header that another is to follow.
pub(super) fn body(number: u8, v6: bool) -> Body {
    // Where the sum of all stands.
    let whole = |at| if v6 { Sum::Pseudo { at } } else { Sum::Plain { at } };
    let of = |bytes: &'static [u8], fields, sum| Body { bytes, fields, sum };
    match number {
        _ if v6 && is_extension(number) => of(&[], &[], Sum::None),
        // IPv6's extension headers over IPv4, where they are protocols like others (RFC 8200 section 4): options that are
        // padding, a routing header of an experimental type and at its end (RFC 4727), a whole packet's fragment header, a
        // mobility header that asks for nothing (RFC 6275 section 6.1), Shim6 payload (RFC 5533 section 5.1). No header follows.
        0 | 60 => of(&[59, 0, 1, 4, 0, 0, 0, 0], &PORT_AT_4, whole(6)),
        43 => of(&[59, 0, 253, 0, 0, 0, 0, 0], &PORT_AT_4, whole(6)),
        44 => of(&[59, 0, 0, 0, 0, 0, 0, 0], &PORT_AT_4, whole(6)),
        62 | 135 => of(&[59, 0, 0, 0, 0, 0, 0, 0], &PORT_AT_6, whole(4)),
        140 => of(&[59, 0, 0x80, 0, 0, 0, 0, 0], &PORT_AT_4, whole(6)),
        // Over the family that the protocol is not for.
        1 => of(&[8, 0, 0, 0, 0, 0, 0, 0], &KEY, whole(2)),
        58 => of(&[128, 0, 0, 0, 0, 0, 0, 0], &KEY, whole(2)),
        // A query for all groups (RFC 2236 section 2); over IPv6 a type that there is not.
        2 if v6 => of(&[0xff, 0, 0, 0, 0, 0, 0, 0], &KEY, whole(2)),
        2 => of(&[0x11, 0, 0, 0, 0, 0, 0, 0], &[], whole(2)),
        4 => of(&IN_IPV4, &[Field { at: 20, carry: Carry::SourcePort }], whole(22)),
        41 => of(&IN_IPV6, &[Field { at: 2, carry: Carry::SourcePort }], whole(22)),
        // A request without an entry: IGRP, version 1.
        9 => of(&[0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &PORT_AT_2, whole(10)),
        // ISO transport, an acknowledgement in no connection (ISO 8073 section 13.9, the extended format of class 4).
        29 => of(&[9, 0x60, 0, 0, 0, 0, 0, 0, 0, 0], &KEY, whole(2)),
        33 => of(&DCCP, &DCCP_FIELDS, whole(6)),
        // RSVP, and as aggregated, an acknowledgement of nothing: a header alone (RFC 2205 section 3.1.1, RFC 2961 section 4.1).
        46 | 134 => of(&[0x10, 13, 0, 0, 0, 0, 0, 8], &[Field { at: 4, carry: Carry::Byte }], whole(2)),
        // A header that says that it has a key, which the key is (RFC 2890 section 2), around nothing: protocol type 0.
        47 => of(&[0x20, 0, 0, 0, 0, 0, 0, 0], &KEY, Sum::None),
        // Padding (RFC 4728 section 6.1, 6.8).
        48 => of(&[59, 0, 0, 6, 0, 4, 0, 0, 0, 0], &PORT_AT_6, whole(8)),
        // No header, under a security association (RFC 4302 section 2) that there is not. Filters do not sum it up.
        51 => of(&[59, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &KEY, Sum::None),
        // IPv4's next hops, a message of no type (RFC 2332 section 5.2.1).
        54 => of(&[0, 1, 8, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 0, 1, 0, 0, 0], &KEY, whole(12)),
        // VINES: to nobody.
        83 => {
            const BODY: [u8; 20] = [0, 0, 0xff, 0xff, 0, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            of(&BODY, &[Field { at: 8, carry: Carry::SourcePort }], whole(10))
        }
        // EIGRP, version 2, an opcode that is reserved (RFC 7868 section 6.6.1).
        88 => of(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &KEY, whole(2)),
        // OSPF, a type that there is not; the router's number is the cookie (RFC 5340 section A.3.1, RFC 2328 section A.3.1).
        89 if v6 => of(&[3, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &KEY, whole(12)),
        89 => {
            const BODY: [u8; 24] = [2, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            of(&BODY, &KEY, whole(12))
        }
        // AX.25: the bit behind the addresses that says that there are no more.
        93 => of(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], &KEY, whole(2)),
        // Ethernet: a frame of a type for experiments to a group that no bridge forwards to (IEEE 802.1Q table 8-1), alone
        // and behind its header (RFC 3378).
        97 => {
            const BODY: [u8; 16] = [0x30, 0, 1, 0x80, 0xc2, 0, 0, 0xf, 2, 0, 0, 0, 0, 0, 0x88, 0xb5];
            of(&BODY, &[Field { at: 12, carry: Carry::SourcePort }], whole(10))
        }
        143 => {
            const BODY: [u8; 14] = [1, 0x80, 0xc2, 0, 0, 0xf, 2, 0, 0, 0, 0, 0, 0x88, 0xb5];
            of(&BODY, &[Field { at: 8, carry: Carry::SourcePort }], whole(10))
        }
        // PIM, version 2, a type that there is not (RFC 8736).
        103 => of(&[0x2f, 0, 0, 0, 0, 0, 0, 0], &KEY, whole(2)),
        // No header, compressed in a way that there is not (RFC 3173 section 3.1).
        108 => of(&[59, 0, 0, 0, 0, 0, 0, 0], &PORT_AT_4, whole(6)),
        // VRRP: a type that there is not (RFC 3768 section 5.3.2, RFC 9568 section 5.2.2).
        112 if v6 => of(&[0x30, 0, 0, 0, 0, 0, 0, 0], &PORT_AT_4, whole(6)),
        112 => of(&[0x20, 0, 0, 0, 0, 0, 0, 0], &PORT_AT_4, whole(6)),
        // UDP-Lite as UDP; its sum covers the header (RFC 3828 section 3.1).
        136 => of(&DATAGRAM, &[AT_0], Sum::Datagram),
        // MPLS: a label of nobody's with no time to live (RFC 3032 section 2.1).
        137 => of(&[0, 1, 1, 0, 0xf0, 0, 0, 0, 0, 0], &PORT_AT_6, whole(8)),
        // HIP, a notification without a parameter (RFC 7401 section 5.1).
        139 => {
            const BODY: [u8; 40] = {
                let mut body = [0; 40];
                (body[0], body[1], body[2], body[3]) = (59, 4, 17, 0x21);
                body
            };
            of(&BODY, &PORT_AT_6, whole(4))
        }
        // AX/4000 test blocks, and Novell's cluster services.
        173 => of(&[0; 16], &KEY, whole(2)),
        224 => of(&[0; 24], &KEY, whole(2)),
        _ => of(&[0; 8], &KEY, whole(2)),
    }
}

/// Whether the number of a next header announces an extension header (RFC 8200, IANA registry), or none.
const fn is_extension(number: u8) -> bool {
    matches!(number, 0 | 43 | 44 | 50 | 51 | 59 | 60 | 135 | 139 | 140)
}

const fn port_at(at: usize) -> Field {
    Field { at, carry: Carry::SourcePort }
}

const AT_0: Field = port_at(0);
const PORT_AT_2: [Field; 1] = [port_at(2)];
const PORT_AT_4: [Field; 1] = [port_at(4)];
const PORT_AT_6: [Field; 1] = [port_at(6)];
/// What most protocols have room for.
const KEY: [Field; 2] = [port_at(4), Field { at: 6, carry: Carry::Low }];

/// The port that datagrams go to, one where hardly anything listens: 40125.
pub(super) const UNUSED: [u8; 2] = 40_125_u16.to_be_bytes();

const DATAGRAM: [u8; 8] = [0, 0, UNUSED[0], UNUSED[1], 0, 8, 0, 0];

/// A DCCP packet of data in no connection, to port 80 (RFC 4340 section 5.1); a host that has none answers with a reset.
const DCCP: [u8; 16] = [0, 0, 0, 80, 4, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0];
const DCCP_FIELDS: [Field; 2] = [AT_0, Field { at: 12, carry: Carry::Sequence }];

/// A packet without a next header from the host to itself, which no router may forward (RFC 1122 section 3.2.1.3), and four bytes
/// in it. Its header has a checksum of its own, so that all of it stays as it is.
const IN_IPV4: [u8; 24] =
    [0x45, 0, 0, 24, 0, 0, 0, 0, 0, 59, 0xbc, 0xa9, 127, 0, 0, 1, 127, 0, 0, 1, 0, 0, 0, 0];

/// A packet without a next header, without a hop to live, between addresses that are only for throwing away (RFC 6666).
const IN_IPV6: [u8; 40] = {
    let mut packet = [0; 40];
    (packet[0], packet[6], packet[8], packet[24]) = (0x60, 59, 1, 1);
    packet
};
