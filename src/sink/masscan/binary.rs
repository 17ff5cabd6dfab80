//! masscan's binary file (`-oB`), which `masscan --readscan` reads: a header of 99 bytes, records of a type, a length and
//! a body, all numbers big endian, a trailer of 99 bytes.
//!
//! A record is open, closed or up; the format has no type for any other state, so those are not given to it.

use super::super::SinkKind;
use super::super::format::Line;
use super::super::lines::{self, Encode};
use super::{application, flags, port, seconds, span};
use crate::event::{Manifest, Record, State, Untrusted};
use crate::target::Protocol;

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "masscan-binary",
    about: "masscan's binary file, for its --readscan (-oB)",
    states: &[State::Open, State::Closed, State::Up],
    packs: true,
    open: lines::open::<Binary>,
    carries_bytes: true,
    ..SinkKind::BASE
};

#[derive(Default)]
struct Binary;

impl Encode for Binary {
    const DOCUMENT: bool = true;

    fn begin(&mut self, manifest: &Manifest, text: &mut Vec<u8>) {
        text.extend_from_slice(&block(&format!("{MAGIC}\ns:{}\n", span(manifest).0)));
    }

    fn encode(&mut self, record: &Record, line: &mut Line<'_>) {
        let up = matches!(record.protocol, Protocol::ARP | Protocol::ND);
        let v6 = record.address().is_ipv6();
        let kind = match (record.state, up, v6) {
            (_, true, false) => 8,
            (_, true, true) => 12,
            (State::Closed, _, false) => 7,
            (State::Closed, _, true) => 11,
            (_, _, false) => 6,
            (_, _, true) => 10,
        };
        let tail = [flags(record), record.ttl];
        body(record, &tail, |bytes| {
            // Type and length both fit into seven bits.
            let length = low_byte(bytes.len());
            line.raw(&[kind, length]);
            line.raw(bytes);
        });
    }

    fn attach(&mut self, record: &Record, key: &str, bytes: &Untrusted, text: &mut Vec<u8>) {
        let [high, low] = application(key).to_be_bytes();
        let kind = if record.address().is_ipv6() { 13 } else { 9 };
        body(record, &[high, low, record.ttl], |head| {
            // masscan's own writer drops longer ones; its reader cannot hold them.
            if head.len() + bytes.0.len() <= LONGEST {
                text.push(kind);
                push_varint(head.len() + bytes.0.len(), text);
                text.extend_from_slice(head);
                text.extend_from_slice(&bytes.0);
            }
        });
    }

    fn end(&mut self, _manifest: &Manifest, text: &mut Vec<u8>) {
        text.extend_from_slice(&block(MAGIC));
    }

    fn resume(&mut self, tail: &[u8], whole: bool) -> Option<usize> {
        let trailer = block(MAGIC);
        if let Some(rest) = tail.strip_suffix(&trailer[..]) {
            return Some(rest.len());
        }
        if whole {
            return whole_records(tail);
        }
        // Records cannot be found from behind: one is looked for from which whole ones follow up to the end.
        (0..LONGEST.min(tail.len()))
            .find_map(|start| chain(tail, start).filter(|end| tail.len() < end + LONGEST))
    }
}

/// The body of a record: what comes before the last fields differs by address family.
fn body(record: &Record, tail: &[u8], write: impl FnOnce(&[u8])) {
    let time = u32::try_from(seconds(record)).unwrap_or(u32::MAX).to_be_bytes();
    let port = port(record).to_be_bytes();
    let protocol = match record.protocol {
        Protocol::ICMPV6 => Protocol::ICMP.0,
        Protocol::ARP | Protocol::ND => 0,
        Protocol(number) => number,
    };
    let parts: [&[u8]; 5] = match record.address() {
        std::net::IpAddr::V4(address) => [&time, &address.octets(), &[protocol], &port, tail],
        std::net::IpAddr::V6(address) => {
            let address = [&[6][..], &address.octets()].concat();
            return write(&[&time[..], &[protocol], &port, tail, &address].concat());
        }
    };
    let mut bytes = [0; 64];
    let mut length = 0;
    for part in parts {
        bytes[length..length + part.len()].copy_from_slice(part);
        length += part.len();
    }
    write(&bytes[..length]);
}

/// Where the last whole record of a file ends that has lost its trailer; `None` for what is no such file.
fn whole_records(file: &[u8]) -> Option<usize> {
    if !file.starts_with(MAGIC.as_bytes()) {
        return (file.len() < BLOCK && MAGIC.as_bytes().starts_with(&file[..file.len().min(MAGIC.len())]))
            .then_some(0);
    }
    if file.len() < BLOCK { Some(0) } else { chain(file, BLOCK) }
}

/// Where the last of the whole records ends that begin at `start`; `None` when what stands there or behind one of them
/// is no record.
fn chain(file: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    while let Some(kind) = file.get(at) {
        let Some((length, head)) = varint(&file[at + 1..]) else { break };
        let fits = match kind {
            6..=8 => length == 13,
            10..=12 => length == 26,
            9 => (14..=LONGEST).contains(&length),
            13 => (27..=LONGEST).contains(&length),
            _ => false,
        };
        if !fits {
            // The trailer that the next write was about to replace may have been overwritten in part.
            return (at != start && *kind == b'm').then_some(at);
        }
        if file.len() < at + 1 + head + length {
            break;
        }
        at += 1 + head + length;
    }
    Some(at)
}

/// A length and how many bytes it takes.
fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value = value << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

/// Seven bits a byte, most significant first, the high bit says that more follow.
fn push_varint(value: usize, text: &mut Vec<u8>) {
    if 1 << 14 <= value {
        text.push(low_byte(value >> 14) | 0x80);
    }
    if 1 << 7 <= value {
        text.push(low_byte(value >> 7 & 0x7f) | 0x80);
    }
    text.push(low_byte(value & 0x7f));
}

#[expect(clippy::cast_possible_truncation, reason = "callers pass what fits into seven bits")]
fn low_byte(value: usize) -> u8 {
    value as u8
}

/// Text in a block of zeros.
fn block(text: &str) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..text.len()].copy_from_slice(text.as_bytes());
    block
}

const MAGIC: &str = "masscan/1.1";
/// Header and trailer are as long as the record they would be: type `m`, length `a`.
const BLOCK: usize = 99;
/// The longest body of masscan's own files.
const LONGEST: usize = 16_384;
