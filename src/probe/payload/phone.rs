//! Telephony and media control.

use super::Service;
use super::answer::{Finding, Shape, be16, echoed, find, status_and_headers, unannounced};
use super::request::Part::{Carry as C, Raw};
use crate::batch::{Carry, Secrets};

pub(super) const SERVICES: &[Service] = &[
    Service {
        name: "sip",
        about: "telephony server or phone: what it can do",
        ports: &[5060, 5061, 5080],
        // No hop further: who answers is who was asked. The answer comes back to the port it was sent from (RFC 3581).
        request: &[
            Raw(b"OPTIONS sip:swath@swath.invalid SIP/2.0\r\nVia: SIP/2.0/UDP swath.invalid;rport;branch=z9hG4bK"),
            C(Carry::Text),
            Raw(b"\r\nMax-Forwards: 0\r\nFrom: <sip:swath@swath.invalid>;tag=1\r\nTo: <sip:swath@swath.invalid>\r\nCall-ID: swath-"),
            C(Carry::Text),
            Raw(b"\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"),
        ],
        answer: &[
            Raw(b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP swath.invalid;rport=16384;received=192.0.2.1;branch=z9hG4bK"),
            C(Carry::Text),
            Raw(b"\r\nCall-ID: swath-"),
            C(Carry::Text),
            Raw(b"\r\nContent-Length: 0\r\n\r\n"),
        ],
        check: |answer, secrets| status_and_headers(answer, b"SIP/2.0 ", (b"z9hG4bK", Carry::Text), secrets),
        bits: 32,
        factor: 4.0,
        worst: 10.0,
        any_port: false,
        source: "RFC 3261 section 11, RFC 3581",
    },
    Service {
        name: "rtsp",
        about: "streaming server: what it can do",
        ports: &[554, 8554],
        request: &[Raw(b"OPTIONS * RTSP/1.0\r\nCSeq: 1"), C(Carry::Digits), Raw(b"\r\n\r\n")],
        answer: &[
            Raw(b"RTSP/1.0 200 OK\r\nCSeq: 1"),
            C(Carry::Digits),
            Raw(b"\r\nPublic: DESCRIBE, SETUP, TEARDOWN, PLAY\r\n\r\n"),
        ],
        check: |answer, secrets| {
            status_and_headers(answer, b"RTSP/1.0 ", (b"CSeq: 1", Carry::Digits), secrets)
        },
        bits: 26,
        factor: 5.0,
        worst: 5.0,
        any_port: false,
        source: "RFC 2326 section 10.1",
    },
    Service {
        name: "mgcp",
        about: "media gateway: one endpoint's state",
        ports: &[2427, 2727],
        request: &[Raw(b"AUEP 1"), C(Carry::Digits), Raw(b" aaln/1@[127.0.0.1] MGCP 1.0\r\n")],
        answer: &[Raw(b"500 1"), C(Carry::Digits), Raw(b" unknown endpoint\r\n")],
        check: |answer, secrets| {
            let code = answer.get(..3).unwrap_or(answer);
            if !code.iter().all(u8::is_ascii_digit) || !super::answer::agrees(answer, 3, b" 1") {
                return Finding::Foreign;
            }
            if answer.len() < 13 || find(answer, b"\n").is_none() {
                return Finding::Truncated;
            }
            echoed(answer, 5, Carry::Digits, secrets)
        },
        bits: 26,
        factor: 3.0,
        worst: 3.0,
        any_port: false,
        source: "RFC 3435 section 3.2.1.2",
    },
    Service {
        name: "iax2",
        about: "Asterisk telephony: poke",
        ports: &[4569],
        // A full frame of call 1; the answer repeats its time (RFC 5456 section 6.7.2).
        request: &[Raw(b"\x80\x01\0\0"), C(Carry::Sequence), Raw(b"\0\0\x06\x1e")],
        answer: &[Raw(b"\x80\x02\0\x01"), C(Carry::Sequence), Raw(b"\0\x01\x06\x03")],
        check: |answer, secrets| {
            if answer.first().is_some_and(|first| *first < 0x80) {
                return Finding::Foreign;
            }
            let magic: &[(usize, &[u8])] = &[(2, b"\0\x01"), (10, b"\x06")];
            let echo = Some((4, Carry::Sequence));
            Shape { magic, echo, least: 12, announced: unannounced }.judge(answer, secrets)
        },
        bits: 32,
        factor: 1.5,
        worst: 1.5,
        any_port: false,
        source: "RFC 5456 section 6.7",
    },
    Service {
        name: "stun",
        about: "address discovery: our own",
        ports: &[3478, 3479, 5349, 19302],
        request: &[Raw(b"\0\x01\0\0\x21\x12\xa4\x42"), C(Carry::Wide), Raw(b"swat")],
        answer: &[
            Raw(b"\x01\x01\0\x0c\x21\x12\xa4\x42"),
            C(Carry::Wide),
            Raw(b"swat\0\x20\0\x08\0\x01\x61\x12\xe1\x12\xa6\x43"),
        ],
        check: |answer, secrets| stun(answer, 0x01, secrets),
        bits: 48,
        factor: 6.0,
        worst: 6.0,
        any_port: false,
        source: "RFC 8489 section 6",
    },
    Service {
        name: "turn",
        about: "relay: an address, without credentials",
        ports: &[3478, 3479, 5349],
        request: &[
            Raw(b"\0\x03\0\x08\x21\x12\xa4\x42"),
            C(Carry::Wide),
            Raw(b"swat\0\x19\0\x04\x11\0\0\0"),
        ],
        answer: &[
            Raw(b"\x01\x13\0\x18\x21\x12\xa4\x42"),
            C(Carry::Wide),
            Raw(b"swat\0\x09\0\x14\0\0\x04\x01Unauthorized    "),
        ],
        check: |answer, secrets| stun(answer, 0x03, secrets),
        bits: 48,
        factor: 6.0,
        worst: 6.0,
        any_port: false,
        source: "RFC 8656 section 7",
    },
];

/// A response or an error response of a method (RFC 8489 section 5).
fn stun(answer: &[u8], method: u8, secrets: &Secrets) -> Finding {
    if answer.first().is_some_and(|kind| *kind != 1)
        || answer.get(1).is_some_and(|kind| kind & !0x10 != method)
    {
        return Finding::Foreign;
    }
    let magic: &[(usize, &[u8])] = &[(4, b"\x21\x12\xa4\x42"), (16, b"swat")];
    let announced = |answer: &[u8]| 20 + be16(answer, 2);
    Shape { magic, echo: Some((8, Carry::Wide)), least: 20, announced }.judge(answer, secrets)
}
