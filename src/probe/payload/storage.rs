//! Caches, files and remote procedures.

use super::Service;
use super::answer::{Finding, Shape, be16, echoed, find, labelled, unannounced};
use super::request::Part::{Carry as C, Raw};
use crate::batch::{Carry, Secrets};

pub(super) const SERVICES: &[Service] = &[
    Service {
        name: "tftp",
        about: "trivial file transfer: a file that nobody has",
        ports: &[69],
        request: &[Raw(b"\0\x01swath-"), C(Carry::Text), Raw(b"\0octet\0")],
        answer: &[Raw(b"\0\x05\0\x01file swath-"), C(Carry::Text), Raw(b" not found\0")],
        check: tftp,
        bits: 32,
        factor: 3.0,
        worst: 60.0,
        any_port: true,
        source: "RFC 1350",
    },
    Service {
        name: "memcached",
        about: "cache: its version",
        ports: &[11211],
        request: &[C(Carry::Low), Raw(b"\0\0\0\x01\0\0version\r\n")],
        answer: &[C(Carry::Low), Raw(b"\0\0\0\x01\0\0VERSION 1.6.18\r\n")],
        // The head counts datagrams: an answer of one datagram is the first of one.
        check: |answer, secrets| {
            let (magic, echo): (&[(usize, &[u8])], _) =
                (&[(2, b"\0\0\0\x01"), (6, b"\0\0")], Some((0, Carry::Low)));
            match (Shape { magic, echo, least: 10, announced: unannounced }).judge(answer, secrets) {
                Finding::Proved(_) if !answer.ends_with(b"\r\n") => Finding::Truncated,
                finding => finding,
            }
        },
        bits: 16,
        factor: 2.0,
        worst: 51_000.0,
        any_port: false,
        source: "memcached doc/protocol.txt, \"UDP protocol\"; US-CERT TA14-017A",
    },
    Service {
        name: "portmap",
        about: "port mapper (rpcbind): nothing, to see that it is there",
        ports: &[111],
        request: &[
            C(Carry::Sequence),
            Raw(b"\0\0\0\0\0\0\0\x02\0\x01\x86\xa0\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        ],
        answer: &[C(Carry::Sequence), Raw(b"\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")],
        check: rpc,
        bits: 32,
        factor: 0.8,
        worst: 28.0,
        any_port: false,
        source: "RFC 5531 section 9, RFC 1833; US-CERT TA14-017A",
    },
    Service {
        name: "nfs",
        about: "network file system: nothing, to see that it is there",
        ports: &[2049],
        request: &[
            C(Carry::Sequence),
            Raw(b"\0\0\0\0\0\0\0\x02\0\x01\x86\xa3\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        ],
        // Version 3 is not there: versions 4 to 4 are.
        answer: &[
            C(Carry::Sequence),
            Raw(b"\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x04\0\0\0\x04"),
        ],
        check: rpc,
        bits: 32,
        factor: 0.8,
        worst: 28.0,
        any_port: false,
        source: "RFC 5531 section 9, RFC 1813",
    },
    Service {
        name: "afs",
        about: "Andrew file system (RX): its version",
        ports: &[7000, 7001, 7002, 7003, 7005, 7007],
        // A version packet of a client, the last of its call.
        request: &[
            Raw(b"\0\0\0\x01"),
            C(Carry::Sequence),
            Raw(b"\0\0\0\x01\0\0\0\0\0\0\0\x01\x0d\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        ],
        answer: &[
            Raw(b"\0\0\0\x01"),
            C(Carry::Sequence),
            Raw(b"\0\0\0\x01\0\0\0\0\0\0\0\x01\x0d\x04\0\0\0\0\0\0 OpenAFS 1.8.9 2023-01-01 built\0"),
        ],
        check: |answer, secrets| {
            if answer.get(20).is_some_and(|kind| *kind != 13) {
                return Finding::Foreign;
            }
            let echo = Some((4, Carry::Sequence));
            match (Shape { magic: &[], echo, least: 29, announced: unannounced }).judge(answer, secrets) {
                Finding::Proved(_) if !answer[28..].contains(&0) => Finding::Truncated,
                finding => finding,
            }
        },
        bits: 32,
        factor: 3.0,
        worst: 3.0,
        any_port: false,
        source: "E. Zayas, AFS-3 Programmer's Reference: RX, Transarc 1991",
    },
    Service {
        name: "mssql-instance",
        about: "SQL Server browser: the default instance",
        ports: &[1434],
        request: &[Raw(b"\x04MSSQLSERVER\0")],
        answer: &[Raw(b"\x05\x46\0ServerName;HOST;InstanceName;MSSQLSERVER;IsClustered;No;Version;15.0;;")],
        check: mssql,
        bits: 0,
        factor: 10.0,
        worst: 440.0,
        any_port: false,
        source: "MS-SQLR section 2.2.3; M. Rossow, Amplification Hell, NDSS 2014",
    },
    Service {
        name: "mssql-all",
        about: "SQL Server browser: all instances",
        ports: &[1434],
        request: &[Raw(b"\x03")],
        answer: &[Raw(b"\x05\x46\0ServerName;HOST;InstanceName;MSSQLSERVER;IsClustered;No;Version;15.0;;")],
        check: mssql,
        bits: 0,
        factor: 440.0,
        worst: 440.0,
        any_port: false,
        source: "MS-SQLR section 2.2.2",
    },
];

/// An error, data or an acknowledgement of options (RFC 1350 section 5, RFC 2347). Many servers repeat the name of
/// the file in the error.
fn tftp(answer: &[u8], secrets: &Secrets) -> Finding {
    match answer {
        [0, 3, _, _, ..] => Finding::Proved(0),
        [0, 5, 0, 0..=8, message @ ..] => match message.iter().position(|byte| *byte == 0) {
            Some(end) => labelled(&message[..end], b"swath-", Carry::Text, secrets),
            None => Finding::Truncated,
        },
        [0, 6, .., 0] => Finding::Proved(0),
        [0] | [0, 3 | 5] | [0, 3, _] | [0, 5, 0] | [0, 6, ..] => Finding::Truncated,
        _ => Finding::Foreign,
    }
}

/// A reply of a remote procedure call, accepted or denied (RFC 5531 section 9).
fn rpc(answer: &[u8], secrets: &Secrets) -> Finding {
    if find(answer.get(4..8).unwrap_or_default(), b"\0\0\0\x01").is_none() {
        return if answer.len() < 8 { Finding::Truncated } else { Finding::Foreign };
    }
    let word = |at: usize| (be16(answer, at) << 16) | be16(answer, at + 2);
    let least = match word(8) {
        // Accepted: the verifier, then the state; a version mismatch is followed by two versions.
        0 => {
            let verifier = (word(16) + 3) & !3;
            if word(20 + verifier) == 2 { 32 + verifier } else { 24 + verifier }
        }
        // Denied: for a version mismatch with two versions, for a failed authentication with its reason.
        1 if word(12) == 0 => 24,
        1 => 20,
        _ => return Finding::Foreign,
    };
    if answer.len() < least {
        return Finding::Truncated;
    }
    echoed(answer, 0, Carry::Sequence, secrets)
}

fn mssql(answer: &[u8], secrets: &Secrets) -> Finding {
    let announced = |answer: &[u8]| 3 + super::answer::le16(answer, 1);
    Shape { magic: &[(0, b"\x05")], echo: None, least: 3, announced }.judge(answer, secrets)
}
