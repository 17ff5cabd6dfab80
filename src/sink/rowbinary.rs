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
use super::bytes::{self, Encode};
use crate::event::{Manifest, Record};

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "rowbinary",
    suffixes: &["rowbinary"],
    about: "rows for ClickHouse's FORMAT RowBinary",
    tells_state: true,
    open: bytes::open::<RowBinary>,
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
    buffer.extend_from_slice(&(scan as u64).to_le_bytes());
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
}

impl Encode for RowBinary {
    const APPENDS: bool = true;

    fn header(&mut self, manifest: &Manifest, _buffer: &mut Vec<u8>) {
        self.scan = bytes::uuid(&manifest.scan_uuid);
        self.vantage = u16::try_from(manifest.shard).unwrap_or(u16::MAX);
    }

    fn encode(&mut self, record: &Record, buffer: &mut Vec<u8>) {
        row(buffer, self.scan, self.vantage, record);
    }
}
