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
use super::format::Line;
use super::lines::{self, Encode};
use super::rowbinary::{resume_rows, uuid};
use crate::event::{Manifest, Record};

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "pgcopy",
    suffixes: &["pgcopy"],
    about: "rows for PostgreSQL's COPY ... (FORMAT binary)",
    packs: true,
    open: lines::open::<PgCopy>,
    ..SinkKind::BASE
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
    row: Vec<u8>,
}

impl Encode for PgCopy {
    const DOCUMENT: bool = true;

    fn announce(&mut self, manifest: &Manifest) {
        self.scan = uuid(&manifest.scan_uuid);
    }

    fn begin(&mut self, _manifest: &Manifest, text: &mut Vec<u8>) {
        text.extend_from_slice(HEADER);
    }

    fn encode(&mut self, record: &Record, line: &mut Line<'_>) {
        self.row.clear();
        Row::begin(&mut self.row, 1).uuid(self.scan).record(record);
        line.raw(&self.row);
    }

    fn end(&mut self, _manifest: &Manifest, text: &mut Vec<u8>) {
        text.extend_from_slice(TRAILER);
    }

    fn resume(&mut self, tail: &[u8], whole: bool) -> Option<usize> {
        let first = if whole { tail.starts_with(HEADER).then_some(HEADER.len()) } else { None };
        if whole && first.is_none() {
            return None;
        }
        resume_rows(tail, first, row_length)
    }
}

/// How long the row at the beginning is, as far as it can be seen; `None` when it is none. The trailer ends the rows: it
/// looks like one that is cut off.
fn row_length(bytes: &[u8]) -> Option<usize> {
    if bytes.len() < 6 || bytes.starts_with(TRAILER) {
        return (TRAILER.starts_with(bytes) || bytes.starts_with(TRAILER) || ROW_START.starts_with(bytes))
            .then_some(usize::MAX);
    }
    let mut at = 2;
    if !bytes.starts_with(&ROW_START) {
        return None;
    }
    for _ in 0..=FIELDS {
        let Some(length) = bytes.get(at..).and_then(|rest| rest.first_chunk()) else {
            return Some(usize::MAX);
        };
        at += 4;
        match i32::from_be_bytes(*length) {
            -1 => {}
            length => at += usize::try_from(length).ok().filter(|length| *length <= 20)?,
        }
    }
    Some(at)
}

/// What every row begins with: the number of its fields, and the length of the first.
const ROW_START: [u8; 6] = [0, 17, 0, 0, 0, 16];
