//! masscan's JSON (`-oJ`): one array, a comma on a line of its own between two results.
//!
//! Unlike masscan's own it is valid at every commit, without a result, and after it was appended to.

use super::super::SinkKind;
use super::super::format::Line;
use super::super::lines::{self, Encode};
use super::super::untrusted::{masscan_json, print};
use super::{port, protocol, reason, seconds, service, status};
use crate::event::{Manifest, Record, Untrusted};

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "masscan-json",
    about: "masscan's JSON array (-oJ)",
    packs: true,
    open: lines::open::<Json>,
    carries_bytes: true,
    ..SinkKind::BASE
};

#[derive(Default)]
struct Json {
    /// Whether a result stands in the array.
    some: bool,
}

impl Encode for Json {
    const DOCUMENT: bool = true;

    fn begin(&mut self, _manifest: &Manifest, text: &mut Vec<u8>) {
        text.extend_from_slice(BEGIN);
    }

    fn encode(&mut self, record: &Record, line: &mut Line<'_>) {
        if std::mem::replace(&mut self.some, true) {
            line.text(",\n");
        }
        line.text("{   \"ip\": \"");
        line.address(record.address());
        line.text("\",   \"timestamp\": \"");
        line.decimal64(seconds(record));
        line.text("\", \"ports\": [ {\"port\": ");
        line.decimal(u32::from(port(record)));
        line.text(", \"proto\": \"");
        protocol(record.protocol, line);
        line.text("\", \"status\": \"");
        line.text(status(record));
        line.text("\", \"reason\": \"");
        reason(record, line);
        line.text("\", \"ttl\": ");
        line.decimal(u32::from(record.ttl));
        line.text("} ] }\n");
    }

    fn attach(&mut self, record: &Record, key: &str, bytes: &Untrusted, text: &mut Vec<u8>) {
        if std::mem::replace(&mut self.some, true) {
            text.extend_from_slice(b",\n");
        }
        let (address, seconds, port) = (record.address(), seconds(record), port(record));
        print(
            text,
            format_args!("{{   \"ip\": \"{address}\",   \"timestamp\": \"{seconds}\", \"ports\": [ "),
        );
        print(text, format_args!("{{\"port\": {port}, \"proto\": \"{}\", \"service\": {{", record.protocol));
        print(text, format_args!("\"name\": \"{}\", \"banner\": \"", service(key)));
        masscan_json(bytes, text);
        text.extend_from_slice(b"\"} } ] }\n");
    }

    fn end(&mut self, _manifest: &Manifest, text: &mut Vec<u8>) {
        text.extend_from_slice(END);
    }

    fn resume(&mut self, tail: &[u8], whole: bool) -> Option<usize> {
        // The end, or whatever stands behind the last whole result: a torn one, or a comma for one that never came.
        let ended = tail.strip_suffix(END).filter(|rest| rest.ends_with(b"}\n") || *rest == BEGIN);
        let results = ended.map(<[u8]>::len).or_else(|| {
            let last = tail.windows(RESULT_END.len()).rposition(|bytes| bytes == RESULT_END);
            last.map(|at| at + RESULT_END.len())
        });
        let results = results.or_else(|| (whole && tail.starts_with(BEGIN)).then_some(BEGIN.len()));
        let results = results.or_else(|| (whole && BEGIN.starts_with(tail)).then_some(0))?;
        self.some = !(whole && results <= BEGIN.len());
        Some(results)
    }
}

const BEGIN: &[u8] = b"[\n";
const END: &[u8] = b"]\n";
const RESULT_END: &[u8] = b"} ] }\n";
