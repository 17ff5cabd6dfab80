//! One JSON object a line, keys in a fixed order. A key that has no value for a record is left out:
//!
//! ```text
//! {"ts":"2026-11-21T00:00:00.123456Z","ip":"1.2.3.4","port":443,"proto":"tcp","state":"open","reason":"syn-ack",
//!  "ttl":57,"win":65535,"mss":1460,"wscale":7,"opts":"9f86d081","ipid":0,"rtt_us":18234,"responder":"10.0.0.1",
//!  "proof":"strong","pass":0}
//! ```
//!
//! `mss` and `wscale` are there when the reply carried the option, `opts` (hash of the option layout) when it
//! carried any, `ipid` for IPv4, `rtt_us` when the probe carried a time, `responder` when somebody other than
//! the target answered.
//!
//! Written by hand, as every value is a number, an address or a word of a fixed vocabulary: nothing needs escaping.
//! Invariant: bytes from the network never pass here; whoever adds some must escape them.

use super::SinkKind;
use super::format::{Line, SecondCache};
use super::lines::{self, Encode};
use crate::event::Record;

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "ndjson",
    suffixes: &["ndjson", "jsonl", "json"],
    about: "one JSON object a line, with every fact",
    tells_state: true,
    open: lines::open::<Ndjson>,
};

pub(crate) struct Ndjson {
    seconds: SecondCache,
}

impl Default for Ndjson {
    fn default() -> Ndjson {
        Ndjson { seconds: SecondCache::new() }
    }
}

impl Encode for Ndjson {
    fn encode(&mut self, record: &Record, line: &mut Line<'_>) {
        let (address, responder) = (record.address(), record.responder());
        line.text("{\"ts\":\"");
        line.time(record.time_ns, &mut self.seconds);
        line.text("\",\"ip\":\"");
        line.address(address);
        line.text("\",\"port\":");
        line.decimal(u32::from(record.port));
        line.text(",\"proto\":\"");
        line.protocol(record.protocol);
        line.text("\",\"state\":\"");
        line.text(record.state.name());
        line.text("\",\"reason\":\"");
        line.text(record.reason.name());
        line.text("\",\"ttl\":");
        line.decimal(u32::from(record.ttl));
        reply_facts(record, line);
        if address.is_ipv4() {
            line.text(",\"ipid\":");
            line.decimal(u32::from(record.ip_id));
        }
        if record.rtt_us != 0 {
            line.text(",\"rtt_us\":");
            line.decimal(record.rtt_us);
        }
        if responder != address {
            line.text(",\"responder\":\"");
            line.address(responder);
            line.text("\"");
        }
        line.text(",\"proof\":\"");
        line.text(record.proof.name());
        line.text("\",\"pass\":");
        line.decimal(u32::from(record.pass));
        line.text("}\n");
    }
}

/// What the transport header of the reply said.
#[inline]
fn reply_facts(record: &Record, line: &mut Line<'_>) {
    line.text(",\"win\":");
    line.decimal(u32::from(record.window));
    if record.mss != 0 {
        line.text(",\"mss\":");
        line.decimal(u32::from(record.mss));
    }
    if record.window_scale != Record::NO_SCALE {
        line.text(",\"wscale\":");
        line.decimal(u32::from(record.window_scale));
    }
    if record.options_hash != 0 {
        line.text(",\"opts\":\"");
        line.hexadecimal(record.options_hash);
        line.text("\"");
    }
}
