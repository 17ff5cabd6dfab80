//! Comma-separated values as RFC 4180 has them: a header line, CRLF at the end of lines, an empty field for what a
//! record does not have (the same rules as NDJSON, whose keys the columns are).
//!
//! Numeric columns hold digits only, text columns an address or a word of a fixed vocabulary, so that no field of a
//! record needs quotes and none can start a spreadsheet formula (tested). A row whose `service` is not empty holds bytes
//! the target sent, in `banner`: in quotes, printable ASCII as it is, everything else and the backslash as `\xHH`, an
//! apostrophe in front of what would be a formula.
//! Invariant: bytes from the network pass through `untrusted` only.

use super::format::{LINE_BYTES, Line, SecondCache};
use super::lines::{self, Encode};
use super::{SinkKind, untrusted};
use crate::event::{Manifest, Record, Untrusted};

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "csv",
    suffixes: &["csv"],
    about: "comma-separated values with a header (RFC 4180)",
    packs: true,
    open: lines::open::<Csv>,
    carries_bytes: true,
    ..SinkKind::BASE
};

struct Csv {
    seconds: SecondCache,
}

impl Default for Csv {
    fn default() -> Csv {
        Csv { seconds: SecondCache::new() }
    }
}

impl Encode for Csv {
    fn begin(&mut self, _manifest: &Manifest, text: &mut Vec<u8>) {
        text.extend_from_slice(HEADER);
    }

    fn encode(&mut self, record: &Record, line: &mut Line<'_>) {
        let (address, responder) = (record.address(), record.responder());
        line.time(record.time_ns, &mut self.seconds);
        line.text(",");
        line.address(address);
        line.text(",");
        line.decimal(u32::from(record.port));
        line.text(",");
        line.protocol(record.protocol);
        line.text(",");
        line.text(record.state.name());
        line.text(",");
        line.text(record.reason.name());
        line.text(",");
        line.decimal(u32::from(record.ttl));
        line.text(",");
        line.decimal(if record.mac().is_none() { u32::from(record.window) } else { 0 });
        line.text(",");
        optional(line, u32::from(record.mss), record.mss != 0);
        optional(line, u32::from(record.window_scale), record.window_scale != Record::NO_SCALE);
        let mac = record.mac();
        if record.options_hash != 0 && mac.is_none() {
            line.hexadecimal(record.options_hash);
        }
        line.text(",");
        optional(line, u32::from(record.ip_id), address.is_ipv4());
        optional(line, record.rtt_us, record.rtt_us != 0);
        if responder != address {
            line.address(responder);
        }
        line.text(",");
        line.text(record.proof.name());
        line.text(",");
        line.decimal(u32::from(record.pass));
        line.text(",");
        if let Some(mac) = mac {
            line.mac(mac);
        }
        line.text(",,\r\n");
    }

    fn attach(&mut self, record: &Record, key: &str, bytes: &Untrusted, text: &mut Vec<u8>) {
        let mut room = [0; LINE_BYTES];
        let mut line = Line::new(&mut room);
        self.encode(record, &mut line);
        // What stands behind the last but one comma, and is empty in a row without an attachment, is written here.
        text.extend_from_slice(line.as_str().trim_end_matches(",\r\n").as_bytes());
        text.extend_from_slice(untrusted::word(key).as_bytes());
        text.push(b',');
        untrusted::csv_field(&bytes.0, text);
        text.extend_from_slice(b"\r\n");
    }
}

/// The columns.
const HEADER: &[u8] =
    b"ts,ip,port,proto,state,reason,ttl,win,mss,wscale,opts,ipid,rtt_us,responder,proof,pass,mac,service,banner\r\n";

/// Writes a number that may be absent, and the comma behind it.
#[inline]
fn optional(line: &mut Line<'_>, value: u32, present: bool) {
    if present {
        line.decimal(value);
    }
    line.text(",");
}
