//! masscan's JSON lines (`-oD`).

use super::super::SinkKind;
use super::super::format::Line;
use super::super::lines::{self, Encode};
use super::super::untrusted::{masscan_json, print};
use super::{port, protocol, reason, seconds, service, status};
use crate::event::{Record, Untrusted};

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "masscan-ndjson",
    about: "masscan's JSON lines (-oD)",
    packs: true,
    open: lines::open::<Ndjson>,
    carries_bytes: true,
    ..SinkKind::BASE
};

#[derive(Default)]
struct Ndjson;

impl Encode for Ndjson {
    fn encode(&mut self, record: &Record, line: &mut Line<'_>) {
        line.text("{\"ip\":\"");
        line.address(record.address());
        line.text("\",\"timestamp\":\"");
        line.decimal64(seconds(record));
        line.text("\",\"port\":");
        line.decimal(u32::from(port(record)));
        line.text(",\"proto\":\"");
        protocol(record.protocol, line);
        line.text("\",\"rec_type\":\"status\",\"data\":{\"status\":\"");
        line.text(status(record));
        line.text("\",\"reason\":\"");
        reason(record, line);
        line.text("\",\"ttl\":");
        line.decimal(u32::from(record.ttl));
        line.text("}}\n");
    }

    fn attach(&mut self, record: &Record, key: &str, bytes: &Untrusted, text: &mut Vec<u8>) {
        let (address, seconds, port) = (record.address(), seconds(record), port(record));
        print(text, format_args!("{{\"ip\":\"{address}\",\"timestamp\":\"{seconds}\",\"port\":{port},"));
        print(text, format_args!("\"proto\":\"{}\",\"rec_type\":\"banner\",\"data\":{{", record.protocol));
        print(text, format_args!("\"service_name\":\"{}\",\"banner\":\"", service(key)));
        masscan_json(bytes, text);
        text.extend_from_slice(b"\"}}\n");
    }
}
