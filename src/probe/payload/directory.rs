//! Directories, identities and management.

use super::Service;
use super::answer::{Finding, Shape, be16, labelled};
use super::ber::{INTEGER, OCTETS, SEQUENCE, integer, tagged};
use super::request::Part::{Carry as C, Raw};
use crate::batch::{Carry, Secrets};

pub(super) const SERVICES: &[Service] = &[
    Service {
        name: "snmp3",
        about: "SNMP agent, version 3: its engine (no name, no password)",
        ports: &[161, 10161],
        // Discovery (RFC 3414 section 4): no engine is named, so the agent reports its own.
        request: &[
            Raw(b"\x30\x3e\x02\x01\x03\x30\x11\x02\x04"),
            C(Carry::Positive),
            Raw(b"\x02\x03\0\xff\xe3\x04\x01\x04\x02\x01\x03"),
            Raw(b"\x04\x10\x30\x0e\x04\0\x02\x01\0\x02\x01\0\x04\0\x04\0\x04\0"),
            Raw(b"\x30\x14\x04\0\x04\0\xa0\x0e\x02\x04"),
            C(Carry::Positive),
            Raw(b"\x02\x01\0\x02\x01\0\x30\0"),
        ],
        answer: &[
            Raw(b"\x30\x60\x02\x01\x03\x30\x11\x02\x04"),
            C(Carry::Positive),
            Raw(b"\x02\x03\0\xff\xe3\x04\x01\0\x02\x01\x03"),
            Raw(b"\x04\x18\x30\x16\x04\x08\x80\0\x1f\x88\x04abc\x02\x01\x07\x02\x01\x64\x04\0\x04\0\x04\0"),
            Raw(b"\x30\x2e\x04\x08\x80\0\x1f\x88\x04abc\x04\0\xa8\x20\x02\x04"),
            C(Carry::Positive),
            Raw(b"\x02\x01\0\x02\x01\0\x30\x12\x30\x10\x06\x0a\x2b\x06\x01\x06\x03\x0f\x01\x01\x04\0\x41\x02\x01\x09"),
        ],
        check: |answer, secrets| snmp(answer, 3, secrets).unwrap_or_else(|finding| finding),
        bits: 31,
        factor: 2.0,
        worst: 6.3,
        any_port: false,
        source: "RFC 3412 section 6, RFC 3414 section 4; US-CERT TA14-017A",
    },
    Service {
        name: "snmp2c",
        about: "SNMP agent, version 2c, community public: its uptime",
        ports: &[161],
        request: &[
            Raw(b"\x30\x29\x02\x01\x01\x04\x06public\xa0\x1c\x02\x04"),
            C(Carry::Positive),
            Raw(b"\x02\x01\0\x02\x01\0\x30\x0e\x30\x0c\x06\x08\x2b\x06\x01\x02\x01\x01\x03\0\x05\0"),
        ],
        answer: &[
            Raw(b"\x30\x2b\x02\x01\x01\x04\x06public\xa2\x1e\x02\x04"),
            C(Carry::Positive),
            Raw(b"\x02\x01\0\x02\x01\0\x30\x10\x30\x0e\x06\x08\x2b\x06\x01\x02\x01\x01\x03\0\x43\x02\x01\x64"),
        ],
        check: |answer, secrets| snmp(answer, 1, secrets).unwrap_or_else(|finding| finding),
        bits: 31,
        factor: 1.2,
        worst: 6.3,
        any_port: false,
        source: "RFC 1901, RFC 3416; US-CERT TA14-017A",
    },
    Service {
        name: "snmp1",
        about: "SNMP agent, version 1, community public: its uptime",
        ports: &[161],
        request: &[
            Raw(b"\x30\x29\x02\x01\0\x04\x06public\xa0\x1c\x02\x04"),
            C(Carry::Positive),
            Raw(b"\x02\x01\0\x02\x01\0\x30\x0e\x30\x0c\x06\x08\x2b\x06\x01\x02\x01\x01\x03\0\x05\0"),
        ],
        answer: &[
            Raw(b"\x30\x2b\x02\x01\0\x04\x06public\xa2\x1e\x02\x04"),
            C(Carry::Positive),
            Raw(b"\x02\x01\0\x02\x01\0\x30\x10\x30\x0e\x06\x08\x2b\x06\x01\x02\x01\x01\x03\0\x43\x02\x01\x64"),
        ],
        check: |answer, secrets| snmp(answer, 0, secrets).unwrap_or_else(|finding| finding),
        bits: 31,
        factor: 1.2,
        worst: 6.3,
        any_port: false,
        source: "RFC 1157; US-CERT TA14-017A",
    },
    Service {
        name: "cldap",
        about: "directory without connections: the root, no attributes",
        ports: &[389],
        request: &[
            Raw(b"\x30\x2d\x02\x04"),
            C(Carry::Positive),
            Raw(b"\x63\x25\x04\0\x0a\x01\0\x0a\x01\0\x02\x01\0\x02\x01\0\x01\x01\0\x87\x0bobjectClass"),
            // The attribute that means none (RFC 4511 section 4.5.1.8): with all of them this is an amplifier.
            Raw(b"\x30\x05\x04\x031.1"),
        ],
        answer: &[
            Raw(b"\x30\x0c\x02\x04"),
            C(Carry::Positive),
            Raw(b"\x64\x04\x04\0\x30\0\x30\x0f\x02\x04"),
            C(Carry::Positive),
            Raw(b"\x65\x07\x0a\x01\0\x04\0\x04\0"),
        ],
        check: |answer, secrets| cldap(answer, secrets).unwrap_or_else(|finding| finding),
        bits: 31,
        factor: 1.0,
        worst: 70.0,
        any_port: false,
        source: "RFC 4511 section 4.5, MS-ADTS section 3.1.1.3.1.3; US-CERT TA14-017A",
    },
    Service {
        name: "kerberos",
        about: "key distribution centre: a ticket for nobody",
        ports: &[88],
        // An AS-REQ for the ticket-granting service of a realm that does not exist; no name, no key.
        request: &[
            Raw(b"\x6a\x75\x30\x73\xa1\x03\x02\x01\x05\xa2\x03\x02\x01\x0a\xa4\x67\x30\x65"),
            Raw(b"\xa0\x07\x03\x05\0\0\0\0\0\xa2\x10\x1b\x0eswath-"),
            C(Carry::Text),
            Raw(b"\xa3\x23\x30\x21\xa0\x03\x02\x01\x02\xa1\x1a\x30\x18\x1b\x06krbtgt\x1b\x0eswath-"),
            C(Carry::Text),
            Raw(b"\xa5\x11\x18\x0f19700101000000Z\xa7\x06\x02\x04"),
            C(Carry::Positive),
            Raw(b"\xa8\x08\x30\x06\x02\x01\x12\x02\x01\x11"),
        ],
        answer: &[
            Raw(b"\x7e\x56\x30\x54\xa0\x03\x02\x01\x05\xa1\x03\x02\x01\x1e\xa4\x11\x18\x0f20261121110147Z"),
            Raw(b"\xa5\x05\x02\x03\x01\x23\x45\xa6\x03\x02\x01\x44\xa9\x07\x1b\x05REALM"),
            Raw(b"\xaa\x20\x30\x1e\xa0\x03\x02\x01\x02\xa1\x17\x30\x15\x1b\x03krb\x1b\x0eswath-"),
            C(Carry::Text),
        ],
        check: kerberos,
        bits: 32,
        factor: 2.0,
        worst: 2.0,
        any_port: false,
        source: "RFC 4120 sections 5.4.1 and 5.9.1",
    },
    Service {
        name: "radius",
        about: "authentication server (it answers clients it knows): a name, no password",
        ports: &[1812, 1645],
        request: &[
            Raw(b"\x01"),
            C(Carry::Byte),
            Raw(b"\0\x1b"),
            C(Carry::Wide),
            C(Carry::Wide),
            Raw(b"\x01\x07swath"),
        ],
        answer: &[Raw(b"\x03"), C(Carry::Byte), Raw(b"\0\x14"), Raw(b"0123456789abcdef")],
        // Accept, reject, challenge, protocol error (RFC 7930).
        check: |answer, secrets| {
            if answer.first().is_some_and(|code| !matches!(code, 2 | 3 | 11 | 52)) {
                return Finding::Foreign;
            }
            let echo = Some((1, Carry::Byte));
            Shape { magic: &[], echo, least: 20, announced: |answer| be16(answer, 2) }.judge(answer, secrets)
        },
        bits: 8,
        factor: 1.0,
        worst: 1.0,
        any_port: false,
        source: "RFC 2865 sections 3 and 4",
    },
    Service {
        name: "ipmi",
        about: "board management controller (RMCP): presence",
        ports: &[623, 664],
        request: &[Raw(b"\x06\0\xff\x06\0\0\x11\xbe\x80"), C(Carry::Tag), Raw(b"\0\0")],
        answer: &[
            Raw(b"\x06\0\xff\x06\0\0\x11\xbe\x40"),
            C(Carry::Tag),
            Raw(b"\0\x10\0\0\x11\xbe\0\0\0\0\x81\0\0\0\0\0\0\0"),
        ],
        check: |answer, secrets| {
            let magic: &[(usize, &[u8])] = &[(0, b"\x06\0"), (3, b"\x06\0\0\x11\xbe\x40")];
            let announced = |answer: &[u8]| 12 + be16(answer, 10) % 256;
            Shape { magic, echo: Some((9, Carry::Tag)), least: 28, announced }.judge(answer, secrets)
        },
        bits: 7,
        factor: 2.4,
        worst: 2.4,
        any_port: false,
        source: "DMTF DSP0136 (ASF 2.0) section 3.2.4",
    },
    Service {
        name: "xdmcp",
        about: "X display manager: whether it would manage us",
        ports: &[177],
        request: &[Raw(b"\0\x01\0\x02\0\x01\0")],
        answer: &[Raw(b"\0\x01\0\x05\0\x0f\0\0\0\x04host\0\x05Linux")],
        check: |answer, secrets| {
            // Willing or unwilling.
            if answer.get(3).is_some_and(|code| !matches!(code, 5 | 6)) {
                return Finding::Foreign;
            }
            let magic: &[(usize, &[u8])] = &[(0, b"\0\x01\0")];
            let announced = |answer: &[u8]| 6 + be16(answer, 4);
            Shape { magic, echo: None, least: 6, announced }.judge(answer, secrets)
        },
        bits: 0,
        factor: 10.0,
        worst: 10.0,
        any_port: false,
        source: "X Display Manager Control Protocol 1.1, X Consortium",
    },
];

/// A response or a report of an agent. Version 3 has its number in the global data, the others in the response.
fn snmp(answer: &[u8], version: u32, secrets: &Secrets) -> Result<Finding, Finding> {
    let message = tagged(answer, SEQUENCE)?.content;
    let spoken = tagged(message, INTEGER)?;
    if integer(spoken.content) != version {
        return Err(Finding::Foreign);
    }
    let number = if version == 3 {
        let global = tagged(spoken.rest, SEQUENCE)?;
        tagged(global.content, INTEGER)?
    } else {
        let community = tagged(spoken.rest, OCTETS)?;
        tagged(tagged(community.rest, RESPONSE)?.content, INTEGER)?
    };
    Ok(numbered(number.content, secrets))
}

fn cldap(answer: &[u8], secrets: &Secrets) -> Result<Finding, Finding> {
    let mut rest = answer;
    // Entries and references, then the end of the search; all in one datagram, all with our number.
    loop {
        let message = tagged(rest, SEQUENCE)?;
        let number = tagged(message.content, INTEGER)?;
        let finding = numbered(number.content, secrets);
        match number.rest.first() {
            Some(0x64 | 0x73) if finding != Finding::OtherCookie => rest = message.rest,
            Some(0x64 | 0x65 | 0x73) => return Ok(finding),
            _ => return Err(Finding::Foreign),
        }
    }
}

/// Whether an integer, which is written in as few bytes as it needs, is ours.
fn numbered(content: &[u8], secrets: &Secrets) -> Finding {
    let (number, ours) = (integer(content), secrets.sequence & 0x7fff_ffff);
    if number == ours && content.len() <= 5 { Finding::Proved(31) } else { Finding::OtherCookie }
}

/// An error, or a ticket that nobody should have got. The error repeats the name of the service that was asked for.
fn kerberos(answer: &[u8], secrets: &Secrets) -> Finding {
    let whole = match answer.first() {
        Some(tag @ (0x6b | 0x7e)) => tagged(answer, *tag).map(|message| message.content),
        _ => Err(Finding::Foreign),
    };
    whole.map_or_else(|finding| finding, |message| labelled(message, b"swath-", Carry::Text, secrets))
}

/// The tag of a response (RFC 3416 section 3).
const RESPONSE: u8 = 0xa2;
