//! Elasticsearch's and OpenSearch's `_bulk` body: a line that says where a document goes, then the document, which is the
//! NDJSON row with `scan` and `vantage` in front.
//!
//! ```text
//! swath ... -o esbulk:- | split -l 20000 --filter='curl -sS -H "Content-Type: application/x-ndjson" --data-binary @- URL/swath/_bulk'
//! ```
//!
//! The identifier of a document is made of scan, vantage, address, port, protocol and state: a body that is sent twice
//! leaves every document once.
//!
//! Invariant: as NDJSON; bytes from the network never pass here.

use super::format::{LINE_BYTES, Line};
use super::lines::{self, Encode};
use super::ndjson::Ndjson;
use super::{SinkKind, file};
use crate::event::{Manifest, Record};

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "esbulk",
    suffixes: &["esbulk"],
    about: "body for Elasticsearch's and OpenSearch's _bulk",
    packs: true,
    open: lines::open::<EsBulk>,
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
        line.text("\"}}\n{\"scan\":\"");
        line.text(&self.scan);
        line.text("\",\"vantage\":");
        line.decimal(self.vantage);
        line.text(",");
        let mut room = [0; LINE_BYTES];
        let mut json = Line::new(&mut room);
        self.json.encode(record, &mut json);
        line.text(&json.as_str()[1..]);
    }

    fn resume(&mut self, tail: &[u8], whole: bool) -> Option<usize> {
        let end = file::resume_lines(tail, whole)?;
        // An action whose document is missing goes, too.
        let lines = tail[..end].strip_suffix(b"\n").unwrap_or_default();
        let last = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        Some(if lines[last..].starts_with(b"{\"index\"") { last } else { end })
    }
}
