//! Names: DNS and what speaks its format.

use super::Service;
use super::answer::{Finding, agrees, be16, echoed};
use super::request::Part::{Carry as C, Raw};
use crate::batch::{Carry, Secrets};

pub(super) const SERVICES: &[Service] = &[
    Service {
        name: "dns",
        about: "DNS server: the address of localhost",
        ports: &[53],
        // Recursion desired, one question. Every resolver knows localhost (RFC 6761 section 6.3); others refuse.
        request: &[C(Carry::Low), Raw(b"\x01\0\0\x01\0\0\0\0\0\0\x09localhost\0\0\x01\0\x01")],
        answer: &[
            C(Carry::Low),
            Raw(b"\x81\x80\0\x01\0\x01\0\0\0\0\x09localhost\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\x0e\x10\0\x04\x7f\0\0\x01"),
        ],
        check: |answer, secrets| dns(answer, b"\x09localhost\0\0\x01\0\x01", secrets),
        bits: 16,
        factor: 5.0,
        worst: 179.0,
        any_port: false,
        source: "RFC 1035, RFC 6761",
    },
    Service {
        name: "dns-chaos",
        about: "DNS server: its version (version.bind, class CHAOS)",
        ports: &[53],
        request: &[C(Carry::Low), Raw(b"\0\0\0\x01\0\0\0\0\0\0\x07version\x04bind\0\0\x10\0\x03")],
        answer: &[
            C(Carry::Low),
            Raw(b"\x85\0\0\x01\0\x01\0\0\0\0\x07version\x04bind\0\0\x10\0\x03\xc0\x0c\0\x10\0\x03\0\0\0\0\0\x05\x049.18"),
        ],
        check: |answer, secrets| dns(answer, b"\x07version\x04bind\0\0\x10\0\x03", secrets),
        bits: 16,
        factor: 6.0,
        worst: 179.0,
        any_port: false,
        source: "RFC 1035, RFC 4892",
    },
    Service {
        name: "mdns",
        about: "multicast DNS responder: the kinds of services it has",
        ports: &[5353],
        // From another port than 5353 this is a legacy query: the answer repeats number and question (RFC 6762
        // section 6.7).
        request: &[
            C(Carry::Low),
            Raw(b"\0\0\0\x01\0\0\0\0\0\0\x09_services\x07_dns-sd\x04_udp\x05local\0\0\x0c\0\x01"),
        ],
        answer: &[
            C(Carry::Low),
            Raw(b"\x84\0\0\x01\0\x01\0\0\0\0\x09_services\x07_dns-sd\x04_udp\x05local\0\0\x0c\0\x01"),
            Raw(b"\xc0\x0c\0\x0c\0\x01\0\0\0\x0a\0\x0c\x04_ipp\x04_tcp\xc0\x23"),
        ],
        check: |answer, secrets| {
            dns(answer, b"\x09_services\x07_dns-sd\x04_udp\x05local\0\0\x0c\0\x01", secrets)
        },
        bits: 16,
        factor: 10.0,
        worst: 10.0,
        any_port: false,
        source: "RFC 6762, RFC 6763 section 9",
    },
    Service {
        name: "netbios-ns",
        about: "NetBIOS name service: the names of the host",
        ports: &[137],
        request: &[
            C(Carry::Low),
            Raw(b"\0\0\0\x01\0\0\0\0\0\0\x20CKAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\0\0\x21\0\x01"),
        ],
        answer: &[
            C(Carry::Low),
            Raw(b"\x84\0\0\0\0\x01\0\0\0\0\x20CKAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\0\0\x21\0\x01\0\0\0\0\0\x41\x01"),
            Raw(b"HOST           \0\x04\0\x02\0\0\0\x01"),
            super::request::Part::Zeros(41),
        ],
        check: |answer, secrets| dns(answer, b"", secrets),
        bits: 16,
        factor: 5.0,
        worst: 3.8,
        any_port: false,
        source: "RFC 1002 section 4.2.17",
    },
];

/// Judges an answer in the format of DNS (RFC 1035 section 4.1): our number, an answer and no question, our question
/// if it repeats one, and every record whole.
fn dns(answer: &[u8], question: &[u8], secrets: &Secrets) -> Finding {
    // The bit that says "answer", and the kind of question: ours is the standard one, 0.
    if answer.get(2).is_some_and(|flags| flags & 0xf8 != 0x80) {
        return Finding::Foreign;
    }
    if answer.len() < 12 {
        return Finding::Truncated;
    }
    let asked = be16(answer, 4);
    if 1 < asked {
        return Finding::Foreign;
    }
    let mut rest = &answer[12..];
    if asked == 1 {
        match rest.get(..question.len()) {
            Some(repeated) if repeated.eq_ignore_ascii_case(question) => rest = &rest[question.len()..],
            Some(_) => return Finding::OtherCookie,
            None if agrees(rest, 0, question) => return Finding::Truncated,
            None => return Finding::OtherCookie,
        }
    }
    let records = be16(answer, 6) + be16(answer, 8) + be16(answer, 10);
    for _ in 0..records {
        match record(rest) {
            Some(after) => rest = after,
            None => return Finding::Truncated,
        }
    }
    echoed(answer, 0, Carry::Low, secrets)
}

/// What follows a resource record (RFC 1035 section 4.1.3); `None` when it is not whole.
fn record(bytes: &[u8]) -> Option<&[u8]> {
    let fixed = name(bytes)?;
    let length = fixed.get(..10).map(|_| be16(fixed, 8))?;
    fixed.get(10 + length..)
}

/// What follows a name: labels up to an empty one or to a pointer (RFC 1035 section 4.1.4).
fn name(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        match bytes.first()? {
            0 => return bytes.get(1..),
            0xc0.. => return bytes.get(2..),
            length => bytes = bytes.get(1 + usize::from(*length)..)?,
        }
    }
}
