//! Comma-separated values as RFC 4180 has them: a header line, CRLF at the end of lines, an empty field for what a
//! record does not have (the same rules as NDJSON, whose keys the columns are).
//!
//! Numeric columns hold digits only, text columns an address or a word of a fixed vocabulary, so that no field needs
//! quotes and none can start a spreadsheet formula (tested).
//! Invariant: bytes from the network never pass here; whoever adds some must quote them and defuse formulas.

use super::SinkKind;
use super::format::{Line, SecondCache};
use super::lines::{self, Encode};
use crate::event::Record;

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "csv",
    suffixes: &["csv"],
    about: "comma-separated values with a header (RFC 4180)",
    tells_state: true,
    open: lines::open::<Csv>,
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
    const HEADER: &'static str =
        "ts,ip,port,proto,state,reason,ttl,win,mss,wscale,opts,ipid,rtt_us,responder,proof,pass\r\n";

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
        line.decimal(u32::from(record.window));
        line.text(",");
        optional(line, u32::from(record.mss), record.mss != 0);
        optional(line, u32::from(record.window_scale), record.window_scale != Record::NO_SCALE);
        if record.options_hash != 0 {
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
        line.text("\r\n");
    }
}

/// Writes a number that may be absent, and the comma behind it.
#[inline]
fn optional(line: &mut Line<'_>, value: u32, present: bool) {
    if present {
        line.decimal(value);
    }
    line.text(",");
}
