//! Tunnels, and transports over UDP.
//!
//! Not here: WireGuard. A responder keeps silent unless the first message proves that its sender knows the responder's
//! public key (J. Donenfeld, "WireGuard", section 5.3), so nothing can be asked of a stranger.

use super::Service;
use super::answer::{Finding, Shape, be16, echoed, unannounced};
use super::request::Part::{Carry as C, Raw, Zeros};
use crate::batch::{Carry, Secrets};

/// A first message of IKEv2 behind its header: AES-CBC-256, HMAC-SHA-256 and Curve25519 are proposed.
const IKE2_PROPOSAL: &[u8] = b"\x22\0\0\x30\0\0\0\x2c\x01\x01\0\x04\
    \x03\0\0\x0c\x01\0\0\x0c\x80\x0e\x01\0\x03\0\0\x08\x02\0\0\x05\x03\0\0\x08\x03\0\0\x0c\0\0\0\x08\x04\0\0\x1f\
    \x28\0\0\x28\0\x1f\0\0\x09swath asks: is there anyone?   \0\0\0\x14";

pub(super) const SERVICES: &[Service] = &[
    Service {
        name: "ike2",
        about: "IPsec key exchange, version 2: a first message",
        ports: &[500],
        request: &[
            C(Carry::Wide),
            Raw(b"\0\0\0\0\0\0\0\0\x21\x20\x22\x08\0\0\0\0\0\0\0\x88"),
            Raw(IKE2_PROPOSAL),
            Raw(b"swath: not a key"),
        ],
        answer: &[
            C(Carry::Wide),
            Raw(b"\0\0\0\0\0\0\0\0\x29\x20\x22\x20\0\0\0\0\0\0\0\x24\0\0\0\x08\0\0\0\x0e"),
        ],
        check: |answer, secrets| ike(answer, 2, secrets),
        bits: 48,
        factor: 4.0,
        worst: 9.0,
        any_port: false,
        source: "RFC 7296 sections 1.2 and 3",
    },
    Service {
        name: "ike1",
        about: "IPsec key exchange, version 1: main mode",
        ports: &[500],
        request: &[
            C(Carry::Wide),
            Raw(b"\0\0\0\0\0\0\0\0\x01\x10\x02\0\0\0\0\0\0\0\0\x4c"),
            Raw(b"\0\0\0\x30\0\0\0\x01\0\0\0\x01\0\0\0\x24\x01\x01\0\x01\0\0\0\x1c\x01\x01\0\0"),
            Raw(b"\x80\x01\0\x07\x80\x0e\0\x80\x80\x02\0\x02\x80\x03\0\x01\x80\x04\0\x0e"),
        ],
        answer: &[
            C(Carry::Wide),
            Raw(b"\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x10\x05\0\0\0\0\x01\0\0\0\x28\0\0\0\x0c\0\0\0\x01\x01\0\0\x0e"),
        ],
        check: |answer, secrets| ike(answer, 1, secrets),
        bits: 48,
        factor: 4.0,
        worst: 9.0,
        any_port: false,
        source: "RFC 2408 section 3, RFC 2409 section 5",
    },
    Service {
        name: "ike-nat",
        about: "IPsec key exchange, version 2, through address translation",
        ports: &[4500],
        request: &[
            Raw(b"\0\0\0\0"),
            C(Carry::Wide),
            Raw(b"\0\0\0\0\0\0\0\0\x21\x20\x22\x08\0\0\0\0\0\0\0\x88"),
            Raw(IKE2_PROPOSAL),
            Raw(b"swath: not a key"),
        ],
        answer: &[
            Raw(b"\0\0\0\0"),
            C(Carry::Wide),
            Raw(b"\0\0\0\0\0\0\0\0\x29\x20\x22\x20\0\0\0\0\0\0\0\x24\0\0\0\x08\0\0\0\x0e"),
        ],
        // Four zeros say that it is no encrypted packet (RFC 3948 section 2.2).
        check: |answer, secrets| match answer {
            [0, 0, 0, 0, message @ ..] => ike(message, 2, secrets),
            [0] | [0, 0] | [0, 0, 0] => Finding::Truncated,
            _ => Finding::Foreign,
        },
        bits: 48,
        factor: 4.0,
        worst: 9.0,
        any_port: false,
        source: "RFC 7296, RFC 3948 section 2.2",
    },
    Service {
        name: "l2tp",
        about: "layer 2 tunnel: a control connection",
        ports: &[1701],
        request: &[
            Raw(b"\xc8\x02\0\x39\0\0\0\0\0\0\0\0\x80\x08\0\0\0\0\0\x01\x80\x08\0\0\0\x02\x01\0"),
            Raw(b"\x80\x0a\0\0\0\x03\0\0\0\x03\x80\x0b\0\0\0\x07swath\x80\x08\0\0\0\x09"),
            C(Carry::Low),
        ],
        answer: &[
            Raw(b"\xc8\x02\0\x14"),
            C(Carry::Low),
            Raw(b"\0\0\0\0\0\x01\x80\x08\0\0\0\0\0\x02"),
        ],
        check: |answer, secrets| {
            let (magic, echo): (&[(usize, &[u8])], _) = (&[(0, b"\xc8\x02")], Some((4, Carry::Low)));
            Shape { magic, echo, least: 12, announced: |answer| be16(answer, 2) }.judge(answer, secrets)
        },
        bits: 16,
        factor: 3.0,
        worst: 3.0,
        any_port: false,
        source: "RFC 2661 sections 3 and 4",
    },
    Service {
        name: "openvpn",
        about: "OpenVPN without a shared control key: reset",
        ports: &[1194],
        request: &[Raw(b"\x38"), C(Carry::Wide), Raw(b"\0\0\0\0\0")],
        answer: &[Raw(b"\x40abcdefgh\x01\0\0\0\0"), C(Carry::Wide), Raw(b"\0\0\0\0")],
        check: |answer, secrets| {
            let (magic, echo): (&[(usize, &[u8])], _) =
                (&[(0, b"\x40"), (9, b"\x01\0\0\0\0")], Some((14, Carry::Wide)));
            Shape { magic, echo, least: 26, announced: unannounced }.judge(answer, secrets)
        },
        bits: 48,
        // The server sends it again until it is acknowledged, for up to a minute.
        factor: 10.0,
        worst: 60.0,
        any_port: false,
        source: "OpenVPN protocol, openvpn.net community resources; src/openvpn/ssl_pkt.h names",
    },
    Service {
        name: "quic",
        about: "QUIC server: the versions it speaks",
        ports: &[443, 80, 784, 853, 8443, 8853],
        // A version that is reserved for this question; padded to the length a server demands (RFC 9000 section 6).
        request: &[
            Raw(b"\xc0\x1a\x2a\x3a\x4a\x08"),
            C(Carry::Wide),
            Raw(b"\x08"),
            C(Carry::Wide),
            // No token, and the length of the rest, as a first packet of version 1 has them.
            Raw(b"\0\x44\x96"),
            Zeros(1200 - 26),
        ],
        answer: &[
            Raw(b"\x80\0\0\0\0\x08"),
            C(Carry::Wide),
            Raw(b"\x08"),
            C(Carry::Wide),
            Raw(b"\0\0\0\x01"),
        ],
        check: quic,
        bits: 48,
        factor: 0.1,
        worst: 3.0,
        any_port: false,
        source: "RFC 8999, RFC 9000 section 17.2.1",
    },
    Service {
        name: "dtls",
        about: "DTLS server: whether we are there",
        ports: &[443, 853, 2221, 3391, 4433, 5349, 5684, 10162],
        // Padded (RFC 7685), because a server that does not ask first answers with its certificates.
        request: &[
            Raw(b"\x16\xfe\xff\0\0\0\0"),
            C(Carry::Sequence),
            Raw(b"\x01\x83\x01\0\x01\x77\0\0\0\0\0\0\x01\x77\xfe\xfd"),
            C(Carry::Wide),
            C(Carry::Wide),
            C(Carry::Wide),
            C(Carry::Wide),
            Raw(b"\0\0\0\x08\xc0\x2b\xc0\x2f\0\x9c\0\x2f\x01\0"),
            Raw(b"\x01\x45\0\x0a\0\x06\0\x04\0\x17\0\x1d\0\x0b\0\x02\x01\0"),
            Raw(b"\0\x0d\0\x0a\0\x08\x04\x03\x04\x01\x08\x04\x02\x01\0\x15\x01\x23"),
            Zeros(0x123),
        ],
        answer: &[
            Raw(b"\x16\xfe\xff\0\0\0\0"),
            C(Carry::Sequence),
            Raw(b"\0\x1b\x03\0\0\x0f\0\0\0\0\0\0\0\x0f\xfe\xff\x0ccookie-cooki"),
        ],
        check: dtls,
        bits: 32,
        factor: 10.0,
        worst: 37.0,
        any_port: false,
        source: "RFC 6347 section 4.2",
    },
];

/// A message of a major version that names our side of the exchange.
fn ike(answer: &[u8], version: u8, secrets: &Secrets) -> Finding {
    if answer.get(17).is_some_and(|spoken| spoken >> 4 != version) {
        return Finding::Foreign;
    }
    let announced = |answer: &[u8]| (be16(answer, 24) << 16) + be16(answer, 26);
    Shape { magic: &[], echo: Some((0, Carry::Wide)), least: 28, announced }.judge(answer, secrets)
}

/// Version negotiation with both of our connection numbers, exchanged, and at least one version.
fn quic(answer: &[u8], secrets: &Secrets) -> Finding {
    if answer.first().is_some_and(|first| *first < 0x80) {
        return Finding::Foreign;
    }
    let (magic, echo): (&[(usize, &[u8])], _) =
        (&[(1, b"\0\0\0\0\x08"), (14, b"\x08")], Some((6, Carry::Wide)));
    match (Shape { magic, echo, least: 27, announced: unannounced }).judge(answer, secrets) {
        Finding::Proved(_) if !(answer.len() - 23).is_multiple_of(4) => Finding::Truncated,
        Finding::Proved(_) => echoed(answer, 15, Carry::Wide, secrets),
        finding => finding,
    }
}

/// A record of epoch 0: a HelloVerifyRequest repeats the number of our record (RFC 6347 section 4.2.1); what counts its
/// own records from 0 proves nothing.
fn dtls(answer: &[u8], secrets: &Secrets) -> Finding {
    // Handshake or alert.
    if answer.first().is_some_and(|kind| !matches!(kind, 21 | 22)) {
        return Finding::Foreign;
    }
    let magic: &[(usize, &[u8])] = &[(1, b"\xfe"), (3, b"\0\0\0\0")];
    let announced = |answer: &[u8]| 13 + be16(answer, 11);
    match (Shape { magic, echo: Some((7, Carry::Sequence)), least: 13, announced }).judge(answer, secrets) {
        Finding::OtherCookie if answer[7..10] == [0; 3] => Finding::Proved(0),
        finding => finding,
    }
}
