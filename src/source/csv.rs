//! swath's own comma-separated values, as `sink::csv` writes them. Columns are found by their names in the header, so
//! that their order and further ones do not matter.

use std::borrow::Cow;
use std::str::FromStr;

use super::SourceKind;
use super::lines::{self, Decode};
use super::row::{Row, unknown};
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

#[derive(Default)]
struct Csv {
    /// Where each of [`NAMES`] stands; empty before the header.
    columns: Vec<Option<usize>>,
}

impl Decode for Csv {
    fn decode(&mut self, line: &[u8], batch: &mut Observations) -> Result<(), String> {
        if line.is_empty() {
            return Ok(());
        }
        let text = std::str::from_utf8(line).map_err(|_| "it is no UTF-8")?;
        let fields = split(text)?;
        if self.columns.is_empty() {
            self.columns = places(&fields, &NAMES);
            let missing = NAMES[..6].iter().zip(&self.columns).find(|(_, place)| place.is_none());
            return missing.map_or(Ok(()), |(name, _)| Err(format!("the header has no column '{name}'")));
        }
        // Files that were joined repeat the header.
        if fields[0] == NAMES[0] && self.columns[0] == Some(0) {
            return Ok(());
        }
        let cell = |column: usize| {
            let place = self.columns[column]?;
            fields.get(place).map(|field| &**field).filter(|field| !field.is_empty())
        };
        add(&cell, batch)
    }
}

/// Adds a row; `cell` gives the text of one of [`NAMES`], `None` when it is empty or not there.
fn add<'a>(cell: &impl Fn(usize) -> Option<&'a str>, batch: &mut Observations) -> Result<(), String> {
    let text = |column: usize| cell(column).map(Cow::Borrowed);
    let required = |column: usize| text(column).ok_or_else(|| format!("{} is empty", NAMES[column]));
    let row = Row {
        ts: required(0)?,
        ip: number(cell, 1)?.ok_or("ip is empty")?,
        port: number(cell, 2)?.ok_or("port is empty")?,
        proto: required(3)?,
        state: required(4)?,
        reason: required(5)?,
        ttl: number(cell, 6)?.unwrap_or(0),
        win: number(cell, 7)?.unwrap_or(0),
        mss: number(cell, 8)?.unwrap_or(0),
        wscale: number(cell, 9)?,
        opts: text(10),
        ipid: number(cell, 11)?.unwrap_or(0),
        rtt_us: number(cell, 12)?.unwrap_or(0),
        responder: number(cell, 13)?,
        proof: text(14),
        pass: number(cell, 15)?.unwrap_or(0),
        mac: text(16),
        service: None,
        banner: None,
        banner_hex: None,
    };
    let record: Record = row.record()?;
    match cell(17) {
        None => batch.records.push(record),
        Some(service) => {
            let bytes =
                unescape(cell(18).unwrap_or_default()).ok_or("banner holds a '\\' that escapes nothing")?;
            batch.attach(Attachment { record, key: service.into(), bytes: Untrusted(bytes) });
        }
    }
    Ok(())
}

/// A column as a number or an address; `None` when it is empty.
fn number<'a, T: FromStr>(
    cell: &impl Fn(usize) -> Option<&'a str>,
    column: usize,
) -> Result<Option<T>, String> {
    cell(column).map(|text| text.parse().map_err(|_| unknown(NAMES[column], text))).transpose()
}

/// Where each name stands in a header.
pub(super) fn places(header: &[Cow<'_, str>], names: &[&str]) -> Vec<Option<usize>> {
    names.iter().map(|name| header.iter().position(|field| field.trim() == *name)).collect()
}

/// The fields of a line (RFC 4180 section 2, without line breaks inside of quotes).
pub(super) fn split(line: &str) -> Result<Vec<Cow<'_, str>>, String> {
    let mut fields = Vec::with_capacity(20);
    let mut rest = line;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let end = rest.find(',').unwrap_or(rest.len());
            fields.push(Cow::Borrowed(&rest[..end]));
            match rest.get(end + 1..) {
                Some(next) => rest = next,
                None => return Ok(fields),
            }
            continue;
        };
        let end = closing_quote(quoted).ok_or("a quote is not closed")?;
        let text = &quoted[..end];
        fields.push(if text.contains('"') { text.replace("\"\"", "\"").into() } else { text.into() });
        match quoted.as_bytes().get(end + 1) {
            None => return Ok(fields),
            Some(b',') => rest = &quoted[end + 2..],
            Some(_) => return Err("text follows a closing quote".into()),
        }
    }
}

/// Where the quote stands that ends a field; doubled ones do not.
fn closing_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        at += bytes[at..].iter().position(|byte| *byte == b'"')?;
        if bytes.get(at + 1) != Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
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
    fn fields_are_split_as_rfc_4180_has_them() {
        for (line, fields) in [
            ("a,b,,c", &["a", "b", "", "c"][..]),
            ("", &[""]),
            ("a,", &["a", ""]),
            ("\"a,b\",\"c\"\"d\",\"\"", &["a,b", "c\"d", ""]),
        ] {
            assert_eq!(split(line).expect(line), fields);
        }
        for line in ["\"a", "\"a\"b", "a,\"\"\""] {
            assert!(split(line).is_err(), "{line}");
        }
    }

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
