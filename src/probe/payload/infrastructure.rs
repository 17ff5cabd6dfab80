//! What networks run on: addresses for hosts, routes, ports through a gateway.

use super::Service;
use super::answer::{Finding, Shape, be16, echoed, unannounced};
use super::request::Part::{Carry as C, Own4, Own16, Raw, Zeros};
use crate::batch::{Carry, Secrets};

pub(super) const SERVICES: &[Service] = &[
    Service {
        name: "dhcp-inform",
        about: "DHCP server (it answers to port 68: use --source-port 68)",
        ports: &[67],
        request: &[
            Raw(b"\x01\x01\x06\0"),
            C(Carry::Sequence),
            Raw(b"\0\0\0\0"),
            Own4,
            Zeros(12),
            Raw(b"\x02\0\0\0\0\0"),
            Zeros(10 + 64 + 128),
            Raw(b"\x63\x82\x53\x63\x35\x01\x08\xff"),
            Zeros(56),
        ],
        answer: &[
            Raw(b"\x02\x01\x06\0"),
            C(Carry::Sequence),
            Raw(b"\0\0\0\0"),
            Own4,
            Zeros(12),
            Raw(b"\x02\0\0\0\0\0"),
            Zeros(10 + 64 + 128),
            Raw(b"\x63\x82\x53\x63\x35\x01\x05\x36\x04\xc0\0\x02\x01\xff"),
        ],
        check: dhcp,
        bits: 32,
        factor: 2.0,
        worst: 2.0,
        any_port: false,
        source: "RFC 2131 section 4.3.5, RFC 951",
    },
    Service {
        name: "nat-pmp",
        about: "NAT port mapping: the outer address",
        ports: &[5351],
        request: &[Raw(b"\0\0")],
        answer: &[Raw(b"\0\x80\0\0\0\0\x01\x2c\xcb\0\x71\x09")],
        // Success has an address behind it, a refusal has not (RFC 6886 section 3.5).
        check: |answer, secrets| {
            let announced = |answer: &[u8]| if be16(answer, 2) == 0 { 12 } else { 8 };
            Shape { magic: &[(0, b"\0\x80")], echo: None, least: 8, announced }.judge(answer, secrets)
        },
        bits: 0,
        factor: 6.0,
        worst: 6.0,
        any_port: false,
        source: "RFC 6886 section 3.2",
    },
    Service {
        name: "pcp",
        about: "port control: announcement",
        ports: &[5351],
        request: &[Raw(b"\x02\0\0\0\0\0\0\0"), Own16],
        answer: &[Raw(b"\x02\x80\0\0\0\0\0\0\0\0\x01\x2c"), Zeros(12)],
        check: |answer, secrets| {
            let magic: &[(usize, &[u8])] = &[(0, b"\x02\x80")];
            Shape { magic, echo: None, least: 24, announced: unannounced }.judge(answer, secrets)
        },
        bits: 0,
        factor: 1.0,
        worst: 46.0,
        any_port: false,
        source: "RFC 6887 section 14.1",
    },
    Service {
        name: "rip",
        about: "routing information protocol: one route, not the table",
        ports: &[520],
        // The router fills in the metric and sends the entry back (RFC 2453 section 3.9.1).
        request: &[
            Raw(b"\x01\x02\0\0\0\x02\0\0"),
            C(Carry::Sequence),
            Raw(b"\xff\xff\xff\xff\0\0\0\0\0\0\0\x10"),
        ],
        answer: &[
            Raw(b"\x02\x02\0\0\0\x02\0\0"),
            C(Carry::Sequence),
            Raw(b"\xff\xff\xff\xff\0\0\0\0\0\0\0\x10"),
        ],
        check: |answer, secrets| {
            let (magic, echo): (&[(usize, &[u8])], _) = (&[(0, b"\x02")], Some((8, Carry::Sequence)));
            Shape { magic, echo, least: 24, announced: unannounced }.judge(answer, secrets)
        },
        bits: 32,
        factor: 1.0,
        worst: 131.2,
        any_port: false,
        source: "RFC 2453 section 3.9.1; US-CERT TA14-017A",
    },
    Service {
        name: "slp",
        about: "service location: a service that nobody has",
        ports: &[427],
        request: &[
            Raw(b"\x02\x01\0\0\x2a\0\0\0\0\0"),
            C(Carry::Low),
            Raw(b"\0\x02en\0\0\0\x09service:x\0\x07DEFAULT\0\0\0\0"),
        ],
        answer: &[Raw(b"\x02\x02\0\0\x14\0\0\0\0\0"), C(Carry::Low), Raw(b"\0\x02en\0\0\0\0")],
        check: |answer, secrets| {
            let (magic, echo): (&[(usize, &[u8])], _) = (&[(0, b"\x02\x02")], Some((10, Carry::Low)));
            // The length has three bytes; an answer has at most two of them.
            Shape { magic, echo, least: 18, announced: |answer| be16(answer, 3) }.judge(answer, secrets)
        },
        bits: 16,
        factor: 1.0,
        worst: 2200.0,
        any_port: false,
        source: "RFC 2608 section 8; CVE-2023-29552",
    },
    Service {
        name: "gtp",
        about: "GPRS tunnel, control or user plane: echo",
        ports: &[2123, 2152, 3386],
        request: &[Raw(b"\x32\x01\0\x04\0\0\0\0"), C(Carry::Low), Raw(b"\0\0")],
        answer: &[Raw(b"\x32\x02\0\x06\0\0\0\0"), C(Carry::Low), Raw(b"\0\0\x0e\x07")],
        check: |answer, secrets| {
            let (magic, echo): (&[(usize, &[u8])], _) = (&[(0, b"\x32\x02")], Some((8, Carry::Low)));
            Shape { magic, echo, least: 12, announced: |answer| 8 + be16(answer, 2) }.judge(answer, secrets)
        },
        bits: 16,
        factor: 1.2,
        worst: 1.2,
        any_port: false,
        source: "3GPP TS 29.060 section 7.2, TS 29.281 section 7.2",
    },
    Service {
        name: "gtp2",
        about: "evolved GPRS tunnel, control plane: echo",
        ports: &[2123],
        request: &[Raw(b"\x40\x01\0\x09"), C(Carry::Low), Raw(b"\0\0\x03\0\x01\0\x01")],
        answer: &[Raw(b"\x40\x02\0\x09"), C(Carry::Low), Raw(b"\0\0\x03\0\x01\0\x2a")],
        check: |answer, secrets| {
            let (magic, echo): (&[(usize, &[u8])], _) = (&[(0, b"\x40\x02")], Some((4, Carry::Low)));
            Shape { magic, echo, least: 8, announced: |answer| 4 + be16(answer, 2) }.judge(answer, secrets)
        },
        bits: 16,
        factor: 1.0,
        worst: 1.0,
        any_port: false,
        source: "3GPP TS 29.274 section 7.1",
    },
    Service {
        name: "pfcp",
        about: "packet forwarding control: heartbeat",
        ports: &[8805],
        request: &[Raw(b"\x20\x01\0\x0c"), C(Carry::Low), Raw(b"\0\0\0\x60\0\x04\xee\xab\x10\x0b")],
        answer: &[Raw(b"\x20\x02\0\x0c"), C(Carry::Low), Raw(b"\0\0\0\x60\0\x04\xee\xaa\0\0")],
        check: |answer, secrets| {
            let (magic, echo): (&[(usize, &[u8])], _) = (&[(0, b"\x20\x02")], Some((4, Carry::Low)));
            Shape { magic, echo, least: 8, announced: |answer| 4 + be16(answer, 2) }.judge(answer, secrets)
        },
        bits: 16,
        factor: 1.0,
        worst: 1.0,
        any_port: false,
        source: "3GPP TS 29.244 section 7.4.2",
    },
];

/// A reply of BOOTP with DHCP options that end (RFC 2131 section 2, RFC 2132 section 3.2).
fn dhcp(answer: &[u8], secrets: &Secrets) -> Finding {
    if answer.first().is_some_and(|kind| *kind != 2) {
        return Finding::Foreign;
    }
    let Some(mut options) = answer.get(236..) else { return Finding::Truncated };
    match options.get(..4) {
        Some(b"\x63\x82\x53\x63") => options = &options[4..],
        Some(_) => return Finding::Foreign,
        None => return Finding::Truncated,
    }
    loop {
        match options {
            [0xff, ..] => return echoed(answer, 4, Carry::Sequence, secrets),
            [0, rest @ ..] => options = rest,
            [_, length, rest @ ..] if usize::from(*length) <= rest.len() => {
                options = &rest[usize::from(*length)..];
            }
            _ => return Finding::Truncated,
        }
    }
}
