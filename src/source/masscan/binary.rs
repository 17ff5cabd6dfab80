//! masscan's binary file (`-oB`): records of a type, a length and a body behind a header of 99 bytes; joined files too.
//!
//! Records of a type that is not known are passed over, as their length is told, and counted.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::{BATCH, Facts, Input, Source, SourceError, SourceKind};
use super::told;
use crate::event::{APPLICATIONS, Attachment, Observations, Record, State, Untrusted};
use crate::target::Protocol;

/// The row of the registry.
pub(crate) const KIND: SourceKind = SourceKind {
    name: "masscan-binary",
    about: "masscan's binary file (-oB)",
    sniff: |head| head.starts_with(b"masscan/1."),
    open: |input| Ok(Box::new(Binary::new(input)?)),
};

struct Binary {
    input: Input,
    buffer: Vec<u8>,
    /// What is left in the buffer.
    at: usize,
    end: usize,
    /// Bytes of the file before the buffer.
    before: u64,
    started_s: Option<u64>,
    passed_over: u64,
    cut: bool,
}

impl Binary {
    fn new(input: Input) -> Result<Binary, SourceError> {
        if !input.head().starts_with(b"masscan/1.") {
            return Err(input.fault(Some("byte 0".into()), "it does not begin as a binary file of masscan"));
        }
        let buffer = vec![0; BUFFER_BYTES];
        Ok(Binary { input, buffer, at: 0, end: 0, before: 0, started_s: None, passed_over: 0, cut: false })
    }

    /// Moves what is left to the front and reads behind it; returns whether anything came.
    fn fill(&mut self) -> Result<bool, SourceError> {
        self.buffer.copy_within(self.at..self.end, 0);
        self.before += self.at as u64;
        self.end -= self.at;
        self.at = 0;
        let count = self.input.read(&mut self.buffer[self.end..]);
        let count = count.map_err(|error| self.input.fault(Some(self.place()), error.to_string()))?;
        self.end += count;
        Ok(0 < count)
    }

    fn place(&self) -> String {
        format!("byte {}", self.before + self.at as u64)
    }

    fn fault(&self, cause: impl Into<String>) -> SourceError {
        self.input.fault(Some(self.place()), cause)
    }

    /// Type and body of the next record, as a range of the buffer; `None` at the end.
    fn next(&mut self) -> Result<Option<(u64, std::ops::Range<usize>)>, SourceError> {
        loop {
            match split(&self.buffer[self.at..self.end]) {
                Split::Record { kind, body, length } => {
                    let start = self.at + body;
                    self.at += body + length;
                    return Ok(Some((kind, start..start + length)));
                }
                Split::TooLong => {
                    return Err(self.fault("the record there is longer than masscan writes any"));
                }
                Split::Part if self.fill()? => {}
                Split::Part => {
                    self.cut = self.at < self.end;
                    return Ok(None);
                }
            }
        }
    }

    /// What stands in a header behind the bytes that look like type and length: `sscan/1.1\ns:1700000000\n`.
    fn header(&mut self, body: &[u8]) {
        let text = body.split(|byte| *byte == 0).next().unwrap_or_default();
        let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"s:"));
        let seconds = line.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        self.started_s = self.started_s.or(seconds);
    }
}

impl Source for Binary {
    fn read(&mut self, batch: &mut Observations) -> Result<bool, SourceError> {
        batch.clear();
        while batch.len() < BATCH {
            let Some((kind, range)) = self.next()? else { break };
            let body = &self.buffer[range];
            let taken = match kind {
                6..=8 => body_v4(body).map(|fields| batch.records.push(fields.verdict(kind))),
                10..=12 => body_v6(body, 2).map(|fields| batch.records.push(fields.verdict(kind - 4))),
                9 => banner(body, 14, batch),
                13 => banner(body, 27, batch),
                1 | 2 => legacy(body).map(|fields| batch.records.push(fields.verdict(kind + 5))),
                HEADER => {
                    let body = body.to_vec();
                    self.header(&body);
                    Some(())
                }
                _ => {
                    self.passed_over += 1;
                    Some(())
                }
            };
            if taken.is_none() {
                return Err(
                    self.fault(format!("the record before has type {kind} and is too short for that"))
                );
            }
        }
        Ok(!batch.is_empty())
    }

    fn facts(&self) -> Facts {
        Facts { started_s: self.started_s, ..Facts::default() }
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.cut || self.input.is_cut() {
            remarks.push(format!(
                "{} is cut off at {}, in the middle of a record",
                self.input.name(),
                self.place()
            ));
        }
        if 0 < self.passed_over {
            let count = self.passed_over;
            remarks.push(format!(
                "{}: {count} records of types that are not known were passed over",
                self.input.name()
            ));
        }
        remarks
    }
}

enum Split {
    /// A record's type, and where its body is.
    Record {
        kind: u64,
        body: usize,
        length: usize,
    },
    /// More bytes are needed.
    Part,
    TooLong,
}

/// The record at the beginning of the bytes.
#[inline]
fn split(bytes: &[u8]) -> Split {
    // Nearly every record has a type and a length of one byte.
    let (kind, length, body) = match *bytes {
        [kind @ 0..0x80, length @ 0..0x80, ..] => (u64::from(kind), usize::from(length), 2),
        _ => {
            let Some((kind, after)) = varint(bytes) else { return part(bytes) };
            let Some((length, more)) = varint(&bytes[after..]) else { return part(bytes) };
            (kind, usize::try_from(length).unwrap_or(usize::MAX), after + more)
        }
    };
    match length {
        _ if LONGEST < length => Split::TooLong,
        _ if bytes.len() < body + length => Split::Part,
        _ => Split::Record { kind, body, length },
    }
}

fn part(bytes: &[u8]) -> Split {
    if bytes.len() < 20 { Split::Part } else { Split::TooLong }
}

/// A number in seven bits a byte, most significant first, and how many bytes it took.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(9).enumerate() {
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

/// What every record tells.
struct Fields {
    seconds: u32,
    address: IpAddr,
    protocol: Protocol,
    port: u16,
    reason: u8,
    ttl: u8,
}

impl Fields {
    /// 6 open, 7 closed, 8 up.
    #[inline]
    fn verdict(&self, kind: u64) -> Record {
        let about_host =
            matches!(self.protocol, Protocol::ICMP | Protocol::ICMPV6 | Protocol::ARP | Protocol::ND);
        let state = match kind {
            7 => State::Closed,
            6 if !about_host => State::Open,
            _ => State::Up,
        };
        let when = (u64::from(self.seconds), self.ttl);
        told(self.address, (self.protocol, self.port), state, Some(self.reason), when)
    }
}

/// masscan's number of a protocol: 0 is ARP, 1 both kinds of ICMP.
fn protocol(number: u8, is_v6: bool) -> Protocol {
    match (number, is_v6) {
        (0, false) => Protocol::ARP,
        (0, true) => Protocol::ND,
        (1, true) => Protocol::ICMPV6,
        (number, _) => Protocol(number),
    }
}

/// `ts32 ip32 ipproto8 port16 reason8 ttl8`.
#[inline]
fn body_v4(body: &[u8]) -> Option<Fields> {
    let body: &[u8; 13] = body.first_chunk()?;
    Some(Fields {
        seconds: u32::from_be_bytes([body[0], body[1], body[2], body[3]]),
        address: Ipv4Addr::new(body[4], body[5], body[6], body[7]).into(),
        protocol: protocol(body[8], false),
        port: u16::from_be_bytes([body[9], body[10]]),
        reason: body[11],
        ttl: body[12],
    })
}

/// `ts32 ipproto8 port16 WHAT ver8 ip128`, where WHAT is `reason8 ttl8` (2 bytes) or `app16 ttl8` (3 bytes).
fn body_v6(body: &[u8], what: usize) -> Option<Fields> {
    let address: [u8; 16] = body.get(8 + what..24 + what)?.try_into().ok()?;
    (body[7 + what] == 6).then_some(())?;
    Some(Fields {
        seconds: u32::from_be_bytes([body[0], body[1], body[2], body[3]]),
        address: Ipv6Addr::from(address).into(),
        protocol: protocol(body[4], true),
        port: u16::from_be_bytes([body[5], body[6]]),
        reason: body[7],
        ttl: body[6 + what],
    })
}

/// `ts32 ip32 port16 reason8 ttl8` of the first versions, which knew TCP only.
fn legacy(body: &[u8]) -> Option<Fields> {
    let body: &[u8; 12] = body.first_chunk()?;
    Some(Fields {
        seconds: u32::from_be_bytes([body[0], body[1], body[2], body[3]]),
        address: Ipv4Addr::new(body[4], body[5], body[6], body[7]).into(),
        protocol: Protocol::TCP,
        port: u16::from_be_bytes([body[8], body[9]]),
        reason: body[10],
        ttl: body[11],
    })
}

/// A banner, whose bytes begin at `head`: `ts32 ip32 ipproto8 port16 app16 ttl8 bytes`, and for IPv6 as [`body_v6`].
fn banner(body: &[u8], head: usize, batch: &mut Observations) -> Option<()> {
    let bytes = body.get(head..)?;
    let (fields, application) = if head == 14 {
        let mut fields = body_v4(body)?;
        let application = u16::from_be_bytes([body[11], body[12]]);
        fields.ttl = body[13];
        (fields, application)
    } else {
        (body_v6(body, 3)?, u16::from_be_bytes([body[7], body[8]]))
    };
    let named = APPLICATIONS.iter().find(|(number, _)| *number == application);
    let key = named.map_or_else(|| format!("({application})"), |(_, name)| (*name).to_owned());
    let when = (u64::from(fields.seconds), fields.ttl);
    let record = told(fields.address, (fields.protocol, fields.port), State::Open, None, when);
    batch.attach(Attachment { record, key: key.into(), bytes: Untrusted(bytes.to_vec()) });
    Some(())
}

const BUFFER_BYTES: usize = 1 << 18;
/// masscan's reader cannot hold longer ones; a length beyond is no length.
const LONGEST: usize = 1 << 17;
/// A header is itself a record of the type `m` and the length `a`.
const HEADER: u64 = b'm' as u64;
