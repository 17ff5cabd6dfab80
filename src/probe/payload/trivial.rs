//! The trivial services of RFC 862 to 868, and clocks.
//!
//! A time service answers any datagram with a fixed one. The requests are padded to about the length of the answer:
//! that costs us nothing and makes a reflector useless.

use super::Service;
use super::answer::{Finding, Shape, echoed, unannounced};
use super::request::Part::{Carry as C, Raw, Zeros};
use crate::batch::{Carry, Secrets};

pub(super) const SERVICES: &[Service] = &[
    Service {
        name: "echo",
        about: "echo server",
        ports: &[7],
        request: &[C(Carry::Text)],
        answer: &[C(Carry::Text)],
        check: |answer, secrets| match answer.len() {
            8 => echoed(answer, 0, Carry::Text, secrets),
            length if length < 8 && is_hexadecimal(answer) => Finding::Truncated,
            _ => Finding::Foreign,
        },
        bits: 32,
        factor: 1.0,
        worst: 1.0,
        any_port: false,
        source: "RFC 862",
    },
    Service {
        name: "daytime",
        about: "daytime server",
        ports: &[13],
        request: &[Zeros(24)],
        answer: &[Raw(b"Saturday, November 21, 2026 11:01:47-UTC\r\n")],
        check: text,
        bits: 0,
        factor: 3.0,
        worst: 60.0,
        any_port: false,
        source: "RFC 867",
    },
    Service {
        name: "time",
        about: "time server",
        ports: &[37],
        request: &[Zeros(4)],
        answer: &[Raw(b"\xee\xab\x10\x0b")],
        // Seconds since 1900: the top bit is set from 1968 to 2036.
        check: |answer, _| match (answer.first(), answer.len()) {
            (Some(0x80..), 4) => Finding::Proved(0),
            (Some(0x80..), 1..4) => Finding::Truncated,
            _ => Finding::Foreign,
        },
        bits: 0,
        factor: 1.0,
        worst: 4.0,
        any_port: false,
        source: "RFC 868",
    },
    Service {
        name: "qotd",
        about: "quote of the day",
        ports: &[17],
        request: &[Zeros(1)],
        answer: &[Raw(b"\"We have more possibilities available in each moment than we realize.\"\r\n")],
        check: text,
        bits: 0,
        factor: 140.3,
        worst: 140.3,
        any_port: false,
        source: "RFC 865; US-CERT TA14-017A",
    },
    Service {
        name: "chargen",
        about: "character generator",
        ports: &[19],
        request: &[Zeros(1)],
        answer: &[Raw(b" !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefg\r\n")],
        check: text,
        bits: 0,
        factor: 358.8,
        worst: 358.8,
        any_port: false,
        source: "RFC 864; US-CERT TA14-017A",
    },
    Service {
        name: "ntp",
        about: "time server: the time",
        ports: &[123],
        // Version 4, client; everything zero but the time of transmission, which comes back as the origin.
        request: &[Raw(b"\x23"), Zeros(39), C(Carry::Wide)],
        answer: &[
            Raw(b"\x24\x02\x06\xe9\0\0\x04\x36\0\0\x07\xe6\xc0\0\x02\x09\xee\xab\x0f\0\0\0\0\0"),
            C(Carry::Wide),
            Raw(b"\xee\xab\x10\x0b\x1c\x2d\x3e\x4f\xee\xab\x10\x0b\x1c\x30\0\0"),
        ],
        // Server mode; a kiss of death has the same form (RFC 5905 section 7.4).
        check: |answer, secrets| {
            if answer.first().is_some_and(|first| first & 7 != 4) {
                return Finding::Foreign;
            }
            let shape =
                Shape { magic: &[], echo: Some((24, Carry::Wide)), least: 48, announced: unannounced };
            shape.judge(answer, secrets)
        },
        bits: 48,
        factor: 1.0,
        worst: 556.9,
        any_port: false,
        source: "RFC 5905 section 7.3; US-CERT TA14-017A",
    },
    Service {
        name: "stamp",
        about: "STAMP or TWAMP Light reflector",
        ports: &[862],
        request: &[C(Carry::Sequence), Zeros(8), Raw(b"\0\x01"), Zeros(30)],
        answer: &[
            Raw(b"\0\0\0\x01\xee\xab\x10\x0b\x1c\x2d\x3e\x4f\x80\x01\0\0\xee\xab\x10\x0b\x1c\x2d\0\0"),
            C(Carry::Sequence),
            Zeros(8),
            Raw(b"\0\x01\0\0\x3f\0\0\0"),
        ],
        check: |answer, secrets| {
            // A reflector sends as much as it got.
            if 44 < answer.len() {
                return Finding::Foreign;
            }
            let shape =
                Shape { magic: &[], echo: Some((24, Carry::Sequence)), least: 44, announced: unannounced };
            shape.judge(answer, secrets)
        },
        bits: 32,
        factor: 1.0,
        worst: 1.0,
        any_port: false,
        source: "RFC 8762 section 4",
    },
];

/// Printable text. Where it ends is not said anywhere.
fn text(answer: &[u8], _: &Secrets) -> Finding {
    let printable = answer.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\r' | b'\n' | b'\t' | 0));
    if printable && !answer.is_empty() { Finding::Proved(0) } else { Finding::Foreign }
}

fn is_hexadecimal(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_hexdigit)
}
