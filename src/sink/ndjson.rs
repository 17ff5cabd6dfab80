//! One JSON object a line, keys in a fixed order. A key that has no value for a record is left out:
//!
//! ```text
//! {"ts":"2026-11-21T00:00:00.123456Z","ip":"1.2.3.4","port":443,"proto":"tcp","state":"open","reason":"syn-ack",
//!  "ttl":57,"win":65535,"mss":1460,"wscale":7,"opts":"9f86d081","ipid":0,"rtt_us":18234,"responder":"10.0.0.1",
//!  "proof":"strong","pass":0}
//! {"ts":"2026-11-21T00:00:01.000000Z",...,"pass":0,"service":"ssh","banner":"SSH-2.0-OpenSSH_9.6\r\n"}
//! ```
//!
//! `mss` and `wscale` are there when the reply carried the option, `opts` (hash of the option layout) when it
//! carried any, `ipid` for IPv4, `rtt_us` when the probe carried a time, `responder` when somebody other than
//! the target answered, `mac` when an ARP or neighbour discovery reply told it, and `vendor` when a list on this host or
//! of `--oui` says who made it.
//!
//! A line with `service` holds bytes the target sent: in `banner` when they are UTF-8, otherwise in `banner_hex`, so that
//! they can be had back exactly. docs/ndjson.schema.json is the whole of it.
//!
//! Written by hand, as every value of a record is a number, an address or a word of a fixed vocabulary.
//! Invariant: bytes from the network pass through `untrusted` only.

use super::format::{LINE_BYTES, Line, SecondCache};
use super::lines::{self, Encode};
use super::{Place, SinkError, SinkKind, Vendors, untrusted};
use crate::event::{Record, Untrusted};

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "ndjson",
    suffixes: &["ndjson", "jsonl", "json"],
    about: "one JSON object a line, with every fact",
    packs: true,
    open: lines::open::<Ndjson>,
    carries_bytes: true,
    ..SinkKind::BASE
};

pub(crate) struct Ndjson {
    seconds: SecondCache,
    vendors: Vendors,
}

impl Default for Ndjson {
    fn default() -> Ndjson {
        Ndjson { seconds: SecondCache::new(), vendors: Vendors::default() }
    }
}

impl Encode for Ndjson {
    fn prepare(&mut self, place: &Place) -> Result<(), SinkError> {
        self.vendors = Vendors::of(place.makers.as_deref())?;
        Ok(())
    }

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
        self.reply_facts(record, line);
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

    fn attach(&mut self, record: &Record, key: &str, bytes: &Untrusted, text: &mut Vec<u8>) {
        let mut room = [0; LINE_BYTES];
        let mut line = Line::new(&mut room);
        self.encode(record, &mut line);
        text.extend_from_slice(line.as_str().trim_end_matches("}\n").as_bytes());
        text.extend_from_slice(b",\"service\":\"");
        untrusted::json_string(key, text);
        match std::str::from_utf8(&bytes.0) {
            Ok(content) => {
                text.extend_from_slice(b"\",\"banner\":\"");
                untrusted::json_string(content, text);
            }
            Err(_) => {
                text.extend_from_slice(b"\",\"banner_hex\":\"");
                untrusted::hexadecimal(bytes, text);
            }
        }
        text.extend_from_slice(b"\"}\n");
    }
}

impl Ndjson {
    /// What the transport header of the reply said, or the link-layer address of one without.
    #[inline]
    fn reply_facts(&self, record: &Record, line: &mut Line<'_>) {
        if let Some(mac) = record.mac() {
            line.text(",\"mac\":\"");
            line.mac(mac);
            if let Some(vendor) = self.vendors.name(mac) {
                line.text("\",\"vendor\":\"");
                // Printable ASCII: two of its characters need a backslash.
                for part in vendor.split_inclusive(['"', '\\']) {
                    let plain = part.trim_end_matches(['"', '\\']);
                    line.text(plain);
                    line.text(match &part[plain.len()..] {
                        "" => "",
                        "\"" => "\\\"",
                        _ => "\\\\",
                    });
                }
            }
            line.text("\"");
            return;
        }
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
}
