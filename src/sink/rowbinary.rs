//! ClickHouse's RowBinary format (<https://clickhouse.com/docs/interfaces/formats/RowBinary>): fixed columns, no names.
//!
//! ```text
//! swath ... -o rowbinary:- | clickhouse-client --query 'INSERT INTO swath.observation FORMAT RowBinary'
//! ```
//!
//! The table stands in docs/databases.md and in [`TABLE`]; its columns are those rows, in their order.
//!
//! Invariant: pure bytes; knows no connection.

use std::net::IpAddr;

use super::SinkKind;
use super::format::Line;
use super::lines::{self, Encode};
use crate::event::{Manifest, Record};

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "rowbinary",
    suffixes: &["rowbinary"],
    about: "rows for ClickHouse's FORMAT RowBinary",
    packs: true,
    open: lines::open::<RowBinary>,
    ..SinkKind::BASE
};

/// The columns of the table, with their types.
pub(crate) const TABLE: &str = "
  scan UUID, vantage UInt16,
  ts DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD),
  ip IPv6 CODEC(ZSTD), port UInt16, proto UInt8,
  state Enum8('open' = 1, 'closed' = 2, 'filtered' = 3, 'unfiltered' = 4, 'up' = 5, 'open|filtered' = 6),
  reason UInt8, proof Enum8('weak' = 1, 'medium' = 2, 'strong' = 3), pass UInt8, ttl UInt8, win UInt16,
  mss Nullable(UInt16), wscale Nullable(UInt8), opts_hash Nullable(UInt32), ipid Nullable(UInt16),
  rtt_us Nullable(UInt32), responder Nullable(IPv6)";

/// Writes the row of a record.
pub(crate) fn row(buffer: &mut Vec<u8>, scan: u128, vantage: u16, record: &Record) {
    let (address, responder) = (record.address(), record.responder());
    // A UUID is two 64-bit halves, each little endian.
    buffer.extend_from_slice(&u64::try_from(scan >> 64).unwrap_or(0).to_le_bytes());
    buffer.extend_from_slice(&u64::try_from(scan & u128::from(u64::MAX)).unwrap_or(0).to_le_bytes());
    buffer.extend_from_slice(&vantage.to_le_bytes());
    buffer.extend_from_slice(&(record.time_ns / 1000).to_le_bytes());
    buffer.extend_from_slice(&octets(address));
    buffer.extend_from_slice(&record.port.to_le_bytes());
    buffer.extend_from_slice(&[
        record.protocol.0,
        record.state.number(),
        record.reason.0,
        record.proof.number(),
        record.pass,
        record.ttl,
    ]);
    buffer.extend_from_slice(&record.window.to_le_bytes());
    optional(buffer, record.mss != 0, record.mss.to_le_bytes());
    optional(buffer, record.window_scale != Record::NO_SCALE, [record.window_scale]);
    optional(buffer, record.options_hash != 0, record.options_hash.to_le_bytes());
    optional(buffer, address.is_ipv4(), record.ip_id.to_le_bytes());
    optional(buffer, record.rtt_us != 0, record.rtt_us.to_le_bytes());
    optional(buffer, responder != address, octets(responder));
}

/// A value that may be null: 0 and the value, or 1.
#[inline]
fn optional<const N: usize>(buffer: &mut Vec<u8>, present: bool, value: [u8; N]) {
    buffer.push(u8::from(!present));
    if present {
        buffer.extend_from_slice(&value);
    }
}

/// An address as IPv6; IPv4 as `::ffff:a.b.c.d`.
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[derive(Default)]
struct RowBinary {
    scan: u128,
    vantage: u16,
    row: Vec<u8>,
}

impl Encode for RowBinary {
    fn announce(&mut self, manifest: &Manifest) {
        self.scan = uuid(&manifest.scan_uuid);
        self.vantage = u16::try_from(manifest.shard).unwrap_or(u16::MAX);
    }

    fn encode(&mut self, record: &Record, line: &mut Line<'_>) {
        self.row.clear();
        row(&mut self.row, self.scan, self.vantage, record);
        line.raw(&self.row);
    }

    fn resume(&mut self, tail: &[u8], whole: bool) -> Option<usize> {
        resume_rows(tail, whole.then_some(0), row_length)
    }
}

/// How long the row at the beginning is, as far as it can be seen; `None` when it is none.
fn row_length(bytes: &[u8]) -> Option<usize> {
    let state = bytes.get(45).is_none_or(|state| (1..=6).contains(state));
    let proof = bytes.get(47).is_none_or(|proof| (1..=3).contains(proof));
    let mut at = 52;
    for size in [2, 1, 4, 2, 4, 16] {
        match bytes.get(at) {
            Some(0) => at += 1 + size,
            Some(1) => at += 1,
            Some(_) => return None,
            None => return (state && proof).then_some(usize::MAX),
        }
    }
    (state && proof).then_some(at)
}

/// How many bytes of a file's tail are whole rows, with what stands before the first of them. Rows have no end that can be
/// found from behind: where the tail is not the whole file, a place is looked for from which rows follow up to the end.
pub(crate) fn resume_rows(
    tail: &[u8],
    first: Option<usize>,
    length: impl Fn(&[u8]) -> Option<usize>,
) -> Option<usize> {
    let chain = |mut at: usize| {
        let mut rows = 0;
        while at < tail.len() {
            match length(&tail[at..])? {
                step if tail.len() - at < step => break,
                step => at += step,
            }
            rows += 1;
        }
        Some((at, rows))
    };
    match first {
        Some(first) => chain(first).map(|(at, _)| at),
        None => (0..tail.len().min(LONGEST))
            .find_map(|at| chain(at).filter(|(_, rows)| 1 < *rows))
            .map(|(at, _)| at),
    }
}

/// No row is longer.
const LONGEST: usize = 256;

/// A scan's identifier as a number; 0 for what is none.
pub(crate) fn uuid(text: &str) -> u128 {
    u128::from_str_radix(&text.replace('-', ""), 16).unwrap_or(0)
}
