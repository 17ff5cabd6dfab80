//! swath's own comma-separated values, as `sink::csv` writes them.

use std::borrow::Cow;

use super::SourceKind;
use super::lines::{self, Decode};
use super::row::Row;
use super::table::{Cells, Table};
use crate::event::{Attachment, Observations, Record, Untrusted};

/// The row of the registry.
pub(crate) const KIND: SourceKind = SourceKind {
    name: "csv",
    about: "swath's comma-separated values",
    sniff: |head| head.starts_with(b"ts,ip,port,proto,state,"),
    open: lines::open::<Csv>,
};

/// The columns this version reads, in the order of the header.
const NAMES: [&str; 19] = [
    "ts",
    "ip",
    "port",
    "proto",
    "state",
    "reason",
    "ttl",
    "win",
    "mss",
    "wscale",
    "opts",
    "ipid",
    "rtt_us",
    "responder",
    "proof",
    "pass",
    "mac",
    "service",
    "banner",
];

struct Csv(Table);

impl Default for Csv {
    fn default() -> Csv {
        Csv(Table::new(&NAMES, 6))
    }
}

impl Decode for Csv {
    fn decode(&mut self, line: &[u8], batch: &mut Observations) -> Result<(), String> {
        match self.0.row(line)? {
            Some(cells) => add(&cells, batch),
            None => Ok(()),
        }
    }
}

/// Adds a row.
fn add(cells: &Cells<'_>, batch: &mut Observations) -> Result<(), String> {
    let text = |column: usize| cells.text(column).map(Cow::Borrowed);
    let required = |column: usize| cells.required(column).map(Cow::Borrowed);
    let row = Row {
        ts: required(0)?,
        ip: cells.number(1)?.ok_or("ip is empty")?,
        port: cells.number(2)?.ok_or("port is empty")?,
        proto: required(3)?,
        state: required(4)?,
        reason: required(5)?,
        ttl: cells.number(6)?.unwrap_or(0),
        win: cells.number(7)?.unwrap_or(0),
        mss: cells.number(8)?.unwrap_or(0),
        wscale: cells.number(9)?,
        opts: text(10),
        ipid: cells.number(11)?.unwrap_or(0),
        rtt_us: cells.number(12)?.unwrap_or(0),
        responder: cells.number(13)?,
        proof: text(14),
        pass: cells.number(15)?.unwrap_or(0),
        mac: text(16),
        service: None,
        banner: None,
        banner_hex: None,
    };
    let record: Record = row.record()?;
    match cells.text(17) {
        None => batch.records.push(record),
        Some(service) => {
            let banner = cells.text(18).unwrap_or_default();
            let bytes = unescape(banner).ok_or("banner holds a '\\' that escapes nothing")?;
            batch.attach(Attachment { record, key: service.into(), bytes: Untrusted(bytes) });
        }
    }
    Ok(())
}

/// Bytes of a field: an apostrophe in front keeps spreadsheets from reading a formula and is none of them.
fn unescape(text: &str) -> Option<Vec<u8>> {
    unescape_bytes(text.strip_prefix('\'').unwrap_or(text))
}

/// Bytes that were written as printable ASCII and `\xHH`. `None` when a backslash begins anything else.
pub(super) fn unescape_bytes(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'\\' {
            bytes.push(byte);
            rest = after;
            continue;
        }
        let hex = after.strip_prefix(b"x")?;
        let pair = std::str::from_utf8(hex.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(pair, 16).ok()?);
        rest = &hex[2..];
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_bytes_are_read_back() {
        assert_eq!(unescape("'=a\\x00\\xff\\x5c"), Some(b"=a\0\xff\\".to_vec()));
        for text in ["\\", "\\x", "\\x0", "\\xg0", "\\n"] {
            assert_eq!(unescape(text), None, "{text}");
        }
    }

    #[test]
    fn columns_are_found_by_name() {
        let mut csv = Csv::default();
        let mut batch = Observations::default();
        for line in
            ["port,ip,ts,state,proto,reason,more", "80,192.0.2.1,2026-11-21T00:00:00Z,open,tcp,syn-ack,x"]
        {
            csv.decode(line.as_bytes(), &mut batch).expect("reads");
        }
        assert_eq!((batch.records.len(), batch.records[0].port), (1, 80));
        let error = csv.decode(b"80,192.0.2.1,2026-11-21T00:00:00Z,open,tcp", &mut batch).expect_err("short");
        assert_eq!(error, "reason is empty");
        assert!(Csv::default().decode(b"ip,port", &mut batch).expect_err("no ts").contains("'ts'"));
    }
}
