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

use super::SinkKind;
use super::bytes::{self, Encode};
use super::format::{LINE_BYTES, Line};
use super::lines;
use super::ndjson::Ndjson;
use crate::event::{Manifest, Record};

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "esbulk",
    suffixes: &["esbulk"],
    about: "body for Elasticsearch's and OpenSearch's _bulk",
    tells_state: true,
    open: bytes::open::<EsBulk>,
};

#[derive(Default)]
struct EsBulk {
    scan: String,
    vantage: u32,
    json: Ndjson,
}

impl Encode for EsBulk {
    const APPENDS: bool = true;

    fn header(&mut self, manifest: &Manifest, _buffer: &mut Vec<u8>) {
        // What stands between quotes is hexadecimal digits and dashes, whatever the manifest holds.
        let plain = |letter: &char| letter.is_ascii_hexdigit() || *letter == '-';
        self.scan = manifest.scan_uuid.chars().filter(plain).collect();
        self.vantage = manifest.shard;
    }

    fn encode(&mut self, record: &Record, buffer: &mut Vec<u8>) {
        let mut room = [0; LINE_BYTES];
        let mut line = Line::new(&mut room);
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
        buffer.extend_from_slice(line.as_str().as_bytes());
        let mut room = [0; LINE_BYTES];
        let mut line = Line::new(&mut room);
        lines::Encode::encode(&mut self.json, record, &mut line);
        buffer.extend_from_slice(&line.as_str().as_bytes()[1..]);
    }
}
