//! PostgreSQL's binary COPY format: rows for `COPY observation (...) FROM STDIN (FORMAT binary)`
//! (<https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format").
//!
//! ```text
//! swath ... -o pgcopy:- | psql DATABASE -c '\copy observation FROM STDIN (FORMAT binary)'
//! ```
//!
//! The table stands in docs/databases.md: the columns of the PostgreSQL sink, and `scan uuid` in front of them.
//!
//! Invariant: pure bytes; knows no connection.

use std::net::IpAddr;

use super::SinkKind;
use super::bytes::{self, Encode};
use crate::event::{Manifest, Record};

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "pgcopy",
    suffixes: &["pgcopy"],
    about: "rows for PostgreSQL's COPY ... (FORMAT binary)",
    tells_state: true,
    open: bytes::open::<PgCopy>,
};

/// Signature, flags, length of the header's extension.
pub(crate) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What ends a stream of rows.
pub(crate) const TRAILER: &[u8] = &[0xff, 0xff];

/// The columns of a record, in the order of [`Row::record`].
pub(crate) const COLUMNS: &str = "ts, ip, port, proto, state, reason, proof, pass, ttl, win, mss, wscale, opts_hash, \
                                  ipid, rtt_us, responder";

/// How many they are.
const FIELDS: i16 = 16;

/// 2000-01-01 in microseconds since the Unix epoch: where PostgreSQL's time begins.
const EPOCH_US: i64 = 946_684_800_000_000;

/// A row under construction.
pub(crate) struct Row<'a>(&'a mut Vec<u8>);

impl Row<'_> {
    /// Begins a row of a record's columns behind `others`.
    pub(crate) fn begin(buffer: &mut Vec<u8>, others: i16) -> Row<'_> {
        buffer.extend_from_slice(&(FIELDS + others).to_be_bytes());
        Row(buffer)
    }

    #[inline]
    fn field<const N: usize>(&mut self, bytes: [u8; N]) {
        self.0.extend_from_slice(&(i32::try_from(N).unwrap_or(0)).to_be_bytes());
        self.0.extend_from_slice(&bytes);
    }

    /// A field of type `int`.
    #[inline]
    pub(crate) fn int4(mut self, value: i32) -> Self {
        self.field(value.to_be_bytes());
        self
    }

    /// A field of type `smallint`.
    #[inline]
    pub(crate) fn int2(mut self, value: i16) -> Self {
        self.field(value.to_be_bytes());
        self
    }

    /// A field of type `uuid`.
    pub(crate) fn uuid(mut self, value: u128) -> Self {
        self.field(value.to_be_bytes());
        self
    }

    fn int8(mut self, value: i64) -> Self {
        self.field(value.to_be_bytes());
        self
    }

    fn null(self) -> Self {
        self.0.extend_from_slice(&(-1i32).to_be_bytes());
        self
    }

    fn optional(self, present: bool, write: impl FnOnce(Self) -> Self) -> Self {
        if present { write(self) } else { self.null() }
    }

    /// A field of type `inet`: family, bits, not a network, length, address.
    fn inet(mut self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                self.field([2, 32, 0, 4, a, b, c, d]);
            }
            IpAddr::V6(address) => {
                let mut bytes = [0; 20];
                bytes[..4].copy_from_slice(&[3, 128, 0, 16]);
                bytes[4..].copy_from_slice(&address.octets());
                self.field(bytes);
            }
        }
        self
    }

    /// The columns of a record ([`COLUMNS`]); ends the row.
    #[inline]
    pub(crate) fn record(self, record: &Record) {
        let (address, responder) = (record.address(), record.responder());
        let micros = (record.time_ns / 1000).cast_signed() - EPOCH_US;
        self.int8(micros)
            .inet(address)
            .int4(record.port.into())
            .int2(record.protocol.0.into())
            .int2(record.state.number().into())
            .int2(record.reason.0.into())
            .int2(record.proof.number().into())
            .int2(record.pass.into())
            .int2(record.ttl.into())
            .int4(record.window.into())
            .optional(record.mss != 0, |row| row.int4(record.mss.into()))
            .optional(record.window_scale != Record::NO_SCALE, |row| row.int2(record.window_scale.into()))
            .optional(record.options_hash != 0, |row| row.int8(record.options_hash.into()))
            .optional(address.is_ipv4(), |row| row.int4(record.ip_id.into()))
            .optional(record.rtt_us != 0, |row| row.int8(record.rtt_us.into()))
            .optional(responder != address, |row| row.inet(responder));
    }
}

#[derive(Default)]
struct PgCopy {
    scan: u128,
}

impl Encode for PgCopy {
    const TRAILER: &'static [u8] = TRAILER;

    fn header(&mut self, manifest: &Manifest, buffer: &mut Vec<u8>) {
        self.scan = bytes::uuid(&manifest.scan_uuid);
        buffer.extend_from_slice(HEADER);
    }

    fn encode(&mut self, record: &Record, buffer: &mut Vec<u8>) {
        Row::begin(buffer, 1).uuid(self.scan).record(record);
    }
}
