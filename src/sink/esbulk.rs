//! Elasticsearch's and OpenSearch's `_bulk` body: a line that says where a document goes, then the document, which is the
//! NDJSON row with `scan` and `vantage` in front.
//!
//! ```text
//! swath ... -o esbulk:- | split -l 20000 --filter='curl -sS -H "Content-Type: application/x-ndjson" --data-binary @- URL/swath/_bulk'
//! ```
//!
//! The identifier of a document is made of scan, vantage, address, port, protocol and state, and for bytes that a target
//! sent of what they are and a hash of them: a body that is sent twice leaves every document once.
//!
//! Invariant: as NDJSON; bytes from the network pass through `untrusted` only.

use super::format::{LINE_BYTES, Line};
use super::lines::{self, Encode};
use super::ndjson::Ndjson;
use super::{SinkKind, file, untrusted};
use crate::event::{Manifest, Record, Untrusted};

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "esbulk",
    suffixes: &["esbulk"],
    about: "body for Elasticsearch's and OpenSearch's _bulk",
    packs: true,
    open: lines::open::<EsBulk>,
    carries_bytes: true,
    ..SinkKind::BASE
};

#[derive(Default)]
struct EsBulk {
    scan: String,
    vantage: u32,
    json: Ndjson,
}

impl Encode for EsBulk {
    fn announce(&mut self, manifest: &Manifest) {
        // What stands between quotes is hexadecimal digits and dashes, whatever the manifest holds.
        let plain = |letter: &char| letter.is_ascii_hexdigit() || *letter == '-';
        self.scan = manifest.scan_uuid.chars().filter(plain).take(36).collect();
        self.vantage = manifest.shard;
    }

    fn encode(&mut self, record: &Record, line: &mut Line<'_>) {
        self.identifier(record, line);
        line.text("\"}}\n");
        self.front(line);
        let mut room = [0; LINE_BYTES];
        let mut json = Line::new(&mut room);
        self.json.encode(record, &mut json);
        line.text(&json.as_str()[1..]);
    }

    fn attach(&mut self, record: &Record, key: &str, bytes: &Untrusted, text: &mut Vec<u8>) {
        let mut room = [0; LINE_BYTES];
        let mut line = Line::new(&mut room);
        self.identifier(record, &mut line);
        text.extend_from_slice(line.as_str().as_bytes());
        text.push(b'/');
        untrusted::json_string(key, text);
        let hash =
            bytes.0.iter().fold(FNV_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME));
        text.extend_from_slice(format!("/{hash:016x}\"}}}}\n").as_bytes());
        let mut line = Line::new(&mut room);
        self.front(&mut line);
        text.extend_from_slice(line.as_str().as_bytes());
        let mut json = Vec::new();
        self.json.attach(record, key, bytes, &mut json);
        text.extend_from_slice(&json[1..]);
    }

    fn resume(&mut self, tail: &[u8], whole: bool) -> Option<usize> {
        let end = file::resume_lines(tail, whole)?;
        // An action whose document is missing goes, too.
        let lines = tail[..end].strip_suffix(b"\n").unwrap_or_default();
        let last = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        Some(if lines[last..].starts_with(b"{\"index\"") { last } else { end })
    }
}

impl EsBulk {
    /// The action up to the end of the identifier.
    fn identifier(&self, record: &Record, line: &mut Line<'_>) {
        line.text("{\"index\":{\"_id\":\"");
        line.text(&self.scan);
        line.text("/");
        line.decimal(self.vantage);
        line.text("/");
        line.address(record.address());
        line.text("/");
        line.decimal(u32::from(record.port));
        line.text("/");
        line.protocol(record.protocol);
        line.text("/");
        line.text(record.state.name());
    }

    /// What stands in front of the NDJSON row, without its brace.
    fn front(&self, line: &mut Line<'_>) {
        line.text("{\"scan\":\"");
        line.text(&self.scan);
        line.text("\",\"vantage\":");
        line.decimal(self.vantage);
        line.text(",");
    }
}

/// FNV-1a, 64 bits (draft-eastlake-fnv-17 section 6.1.2): the same in every version, as documents keep their names.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x100_0000_01b3;
