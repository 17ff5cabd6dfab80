//! Devices: what is built into walls, machines and boxes.
//!
//! Not here: MikroTik's neighbour discovery (MNDP), which answers to port 5678 of everybody on the segment and never to
//! the port it was asked from.

use super::Service;
use super::answer::{Finding, Shape, be16, echoed, find, le16, status_and_headers};
use super::request::Part::{Carry as C, Raw};
use crate::batch::{Carry, Secrets};

pub(super) const SERVICES: &[Service] = &[
    Service {
        name: "ssdp",
        about: "UPnP device: its root",
        ports: &[1900],
        request: &[Raw(
            b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: upnp:rootdevice\r\n\r\n",
        )],
        answer: &[Raw(
            b"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=1800\r\nST: upnp:rootdevice\r\nUSN: uuid:0::upnp:rootdevice\r\nEXT:\r\nLOCATION: http://192.0.2.2:8200/rootDesc.xml\r\nContent-Length: 0\r\n\r\n",
        )],
        check: |answer, secrets| status_and_headers(answer, b"HTTP/1.1 ", (b"\0", Carry::Text), secrets),
        bits: 0,
        factor: 5.0,
        worst: 30.8,
        any_port: false,
        source: "UPnP Device Architecture 1.1 section 1.3; US-CERT TA14-017A",
    },
    Service {
        name: "ws-discovery",
        about: "printer, camera or Windows host: what it is",
        ports: &[3702],
        request: &[
            Raw(b"<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\"><s:Header><a:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</a:Action><a:MessageID>urn:uuid:"),
            C(Carry::Text),
            Raw(b"-0000-4000-8000-000000000000</a:MessageID><a:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To></s:Header><s:Body><Probe xmlns=\"http://schemas.xmlsoap.org/ws/2005/04/discovery\"/></s:Body></s:Envelope>"),
        ],
        answer: &[
            Raw(b"<?xml version=\"1.0\"?><s:Envelope><s:Header><a:RelatesTo>urn:uuid:"),
            C(Carry::Text),
            Raw(b"-0000-4000-8000-000000000000</a:RelatesTo></s:Header><s:Body><d:ProbeMatches/></s:Body></s:Envelope>"),
        ],
        check: ws_discovery,
        bits: 32,
        factor: 5.0,
        worst: 500.0,
        any_port: false,
        source: "OASIS WS-Discovery 1.1 section 5.2 (2005/04 namespace); Akamai SIRT 2019-09",
    },
    Service {
        name: "coap",
        about: "constrained device: ping",
        ports: &[5683],
        // An empty confirmable message provokes a reset (RFC 7252 section 4.3).
        request: &[Raw(b"\x40\0"), C(Carry::Low)],
        answer: &[Raw(b"\x70\0"), C(Carry::Low)],
        // Version 1, acknowledgement or reset.
        check: |answer, secrets| match answer {
            [first, ..] if !matches!(first >> 4, 6 | 7) => Finding::Foreign,
            [_, _, _, _, ..] => echoed(answer, 2, Carry::Low, secrets),
            _ => Finding::Truncated,
        },
        bits: 16,
        factor: 1.0,
        worst: 34.0,
        any_port: false,
        source: "RFC 7252 section 4.3",
    },
    Service {
        name: "bacnet",
        about: "building controller: its number",
        ports: &[47808],
        request: &[
            Raw(b"\x81\x0a\0\x11\x01\x04\0\x05"),
            C(Carry::Byte),
            Raw(b"\x0c\x0c\x02\x3f\xff\xff\x19\x4b"),
        ],
        answer: &[
            Raw(b"\x81\x0a\0\x17\x01\0\x30"),
            C(Carry::Byte),
            Raw(b"\x0c\x0c\x02\0\0\x07\x19\x4b\x3e\xc4\x02\0\0\x07\x3f"),
        ],
        check: bacnet,
        bits: 8,
        factor: 1.4,
        worst: 120.0,
        any_port: false,
        source: "ANSI/ASHRAE 135-2020 clauses 15.5, 20.1 and annex J",
    },
    Service {
        name: "modbus",
        about: "Modbus gateway over UDP: what it is",
        ports: &[502],
        request: &[C(Carry::Low), Raw(b"\0\0\0\x05\xff\x2b\x0e\x01\0")],
        answer: &[C(Carry::Low), Raw(b"\0\0\0\x03\xff\xab\x01")],
        check: |answer, secrets| {
            if answer.get(7).is_some_and(|function| function & 0x7f != 0x2b) {
                return Finding::Foreign;
            }
            let (magic, echo): (&[(usize, &[u8])], _) = (&[(2, b"\0\0")], Some((0, Carry::Low)));
            Shape { magic, echo, least: 9, announced: |answer| 6 + be16(answer, 4) }.judge(answer, secrets)
        },
        bits: 16,
        factor: 8.0,
        worst: 24.0,
        any_port: false,
        source: "MODBUS Application Protocol V1.1b3 section 6.21, Messaging on TCP/IP V1.0b",
    },
    Service {
        name: "ethernet-ip",
        about: "industrial controller: its identity",
        ports: &[44818],
        request: &[Raw(b"\x63\0\0\0\0\0\0\0\0\0\0\0"), C(Carry::Wide), Raw(b"\0\0\0\0")],
        answer: &[
            Raw(b"\x63\0\x08\0\0\0\0\0\0\0\0\0"),
            C(Carry::Wide),
            Raw(b"\0\0\0\0\x01\0\x0c\0\x02\0\x01\0"),
        ],
        check: |answer, secrets| {
            let (magic, echo): (&[(usize, &[u8])], _) = (&[(0, b"\x63\0")], Some((12, Carry::Wide)));
            Shape { magic, echo, least: 24, announced: |answer| 24 + le16(answer, 2) }.judge(answer, secrets)
        },
        bits: 48,
        factor: 5.0,
        worst: 5.0,
        any_port: false,
        source: "ODVA, The CIP Networks Library volume 2, section 2-4.2",
    },
    Service {
        name: "knx",
        about: "KNXnet/IP gateway: its description",
        ports: &[3671],
        request: &[Raw(b"\x06\x10\x02\x03\0\x0e\x08\x01\0\0\0\0\0\0")],
        answer: &[Raw(b"\x06\x10\x02\x04\0\x0e\x08\x02\x02\x02\x03\x02\x04\x02")],
        check: |answer, secrets| {
            let magic: &[(usize, &[u8])] = &[(0, b"\x06\x10\x02\x04")];
            Shape { magic, echo: None, least: 8, announced: |answer| be16(answer, 4) }.judge(answer, secrets)
        },
        bits: 0,
        factor: 6.0,
        worst: 6.0,
        any_port: false,
        source: "KNX Standard 3/8/2, KNXnet/IP Core, section 7.7",
    },
    Service {
        name: "ubiquiti",
        about: "Ubiquiti device: what it is",
        ports: &[10001],
        request: &[Raw(b"\x01\0\0\0")],
        answer: &[Raw(b"\x01\0\0\x0a\x0b\0\x07airtest")],
        check: |answer, secrets| {
            let magic: &[(usize, &[u8])] = &[(0, b"\x01\0")];
            match (Shape { magic, echo: None, least: 7, announced: |answer| 4 + be16(answer, 2) })
                .judge(answer, secrets)
            {
                // Our own four bytes, from an echo.
                Finding::Proved(_) if be16(answer, 2) == 0 => Finding::Foreign,
                finding => finding,
            }
        },
        bits: 0,
        factor: 35.0,
        worst: 35.0,
        any_port: false,
        source: "observed format, J. Troutman and Rapid7 Labs, Understanding Ubiquiti Discovery Service Exposures, 2019",
    },
];

fn ws_discovery(answer: &[u8], secrets: &Secrets) -> Finding {
    if answer.first().is_some_and(|first| *first != b'<') {
        return Finding::Foreign;
    }
    // Whole when its last tag closes the envelope, under whatever prefix.
    let text = answer.trim_ascii_end();
    let last = text.iter().rposition(|byte| *byte == b'<').map_or(&[][..], |at| &text[at..]);
    if !last.starts_with(b"</") || !last.to_ascii_lowercase().ends_with(b"envelope>") {
        return Finding::Truncated;
    }
    let uuid = find(answer, b"RelatesTo").and_then(|at| Some(at + find(&answer[at..], b"uuid:")? + 5));
    uuid.map_or(Finding::Foreign, |at| echoed(answer, at, Carry::Text, secrets))
}

/// An answer to a confirmed request: a value, an error, a rejection or an abort (clause 20.1), behind a network header
/// that may say where it came from (clause 6.2).
fn bacnet(answer: &[u8], secrets: &Secrets) -> Finding {
    let [0x81, _, high, low, message @ ..] = answer else {
        let begins = super::answer::agrees(answer, 0, b"\x81") && answer.len() < 4;
        return if begins { Finding::Truncated } else { Finding::Foreign };
    };
    if answer.len() < usize::from(*high) << 8 | usize::from(*low) {
        return Finding::Truncated;
    }
    let [1, control, rest @ ..] = message else { return Finding::Foreign };
    let mut skip = 0;
    for (bit, hop_count) in [(0x20, 1), (0x08, 0)] {
        if control & bit != 0 {
            let length = rest.get(skip + 2).copied().map_or(0, usize::from);
            skip += 3 + length + hop_count;
        }
    }
    match rest.get(skip..) {
        Some([kind, _, ..]) if !matches!(kind >> 4, 2 | 3 | 5 | 6 | 7) => Finding::Foreign,
        Some([_, _, ..]) => echoed(rest, skip + 1, Carry::Byte, secrets),
        _ => Finding::Truncated,
    }
}
