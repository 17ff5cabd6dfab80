//! Peer-to-peer networks.

use super::Service;
use super::answer::{Finding, find, labelled};
use super::request::Part::{Carry as C, Raw};
use crate::batch::{Carry, Secrets};

pub(super) const SERVICES: &[Service] = &[
    Service {
        name: "bittorrent-dht",
        about: "BitTorrent peer (distributed hash table): ping",
        ports: &[6881, 6882, 6889, 51413],
        request: &[Raw(b"d1:ad2:id20:swath-port-scanner!!e1:q4:ping1:t8:"), C(Carry::Text), Raw(b"1:y1:qe")],
        answer: &[Raw(b"d1:rd2:id20:0123456789abcdefghije1:t8:"), C(Carry::Text), Raw(b"1:v4:LT121:y1:re")],
        check: dht,
        bits: 32,
        factor: 1.5,
        worst: 3.8,
        any_port: false,
        source: "BitTorrent BEP 5; US-CERT TA14-017A",
    },
    Service {
        name: "kademlia",
        about: "eMule peer (Kademlia 2): ping",
        ports: &[4672],
        request: &[Raw(b"\xe4\x60")],
        answer: &[Raw(b"\xe4\x61\0\x40")],
        // What follows is the port that we were seen to come from: no secret beside the port itself.
        check: |answer, _| match answer {
            [0xe4, 0x61, _, _] => Finding::Proved(0),
            [0xe4] | [0xe4, 0x61] | [0xe4, 0x61, _] => Finding::Truncated,
            _ => Finding::Foreign,
        },
        bits: 0,
        factor: 2.0,
        worst: 16.3,
        any_port: false,
        source: "aMule wiki, Kademlia 2.0 opcodes; US-CERT TA14-017A",
    },
];

/// A dictionary that answers or complains and has our transaction.
fn dht(answer: &[u8], secrets: &Secrets) -> Finding {
    if answer.first().is_some_and(|first| *first != b'd') {
        return Finding::Foreign;
    }
    let kind = find(answer, b"1:y1:r").or_else(|| find(answer, b"1:y1:e"));
    if kind.is_none() || answer.last() != Some(&b'e') {
        return Finding::Truncated;
    }
    match labelled(answer, b"1:t8:", Carry::Text, secrets) {
        Finding::Proved(0) => Finding::OtherCookie,
        finding => finding,
    }
}
