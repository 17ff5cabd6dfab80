//! masscan's formats, byte for byte in the shapes of its own files, and the words they share.
//!
//! What masscan has no word for keeps ours: a filtered port is `filtered`. What swath knows better is said as masscan
//! would: an ICMP echo reply is port 0 of `icmp`, a timestamp reply port 1.
//!
//! Invariant: bytes from the network pass through `untrusted` only.

pub(super) mod binary;
pub(super) mod grepable;
pub(super) mod hosts;
pub(super) mod json;
pub(super) mod list;
pub(super) mod ndjson;
pub(super) mod unicornscan;
pub(super) mod xml;

use super::format::Line;
use crate::event::{APPLICATIONS, Manifest, Reason, Record, State};
use crate::target::Protocol;

/// Seconds since the Unix epoch.
fn seconds(record: &Record) -> u64 {
    record.time_ns / 1_000_000_000
}

/// When the scan began and ended, in seconds since the Unix epoch; while it runs both are the beginning.
fn span(manifest: &Manifest) -> (u64, u64) {
    let started = manifest.started_us / 1_000_000;
    (started, manifest.finished_us.map_or(started, |finished| finished / 1_000_000))
}

/// The state in masscan's words.
fn status(record: &Record) -> &'static str {
    match (record.state, record.protocol) {
        (State::Up, Protocol::ARP | Protocol::ND) => "up",
        (State::Up, _) => "open",
        (state, _) => state.name(),
    }
}

/// The protocol in masscan's words, which know one ICMP.
fn protocol(protocol: Protocol, line: &mut Line<'_>) {
    match protocol {
        Protocol::ICMPV6 => line.text("icmp"),
        Protocol::ND => line.text("arp"),
        protocol => line.protocol(protocol),
    }
}

/// The port in masscan's numbers: for ICMP what it asks for with `-pI:0` and `-pI:1`.
fn port(record: &Record) -> u16 {
    match (record.protocol, record.port) {
        (Protocol::ICMP, 8) | (Protocol::ICMPV6, 128) => 0,
        (Protocol::ICMP, 13) => 1,
        (_, port) => port,
    }
}

/// The TCP flags of the reply, which are masscan's reason; 0 for other protocols.
fn flags(record: &Record) -> u8 {
    match (record.flags, record.protocol, record.reason) {
        (0, Protocol::TCP, Reason::SYN_ACK) => 0x12,
        (0, Protocol::TCP, Reason::RESET) => 0x14,
        (0, Protocol::TCP, Reason::SPLIT_HANDSHAKE) => 0x02,
        (flags, _, _) => flags,
    }
}

/// The names of the flags, lowest bit first, joined by dashes.
fn reason(record: &Record, line: &mut Line<'_>) {
    let flags = flags(record);
    if flags == 0 {
        return line.text("none");
    }
    let set = FLAGS.iter().enumerate().filter(|(bit, _)| flags >> bit & 1 == 1);
    for (index, (_, name)) in set.enumerate() {
        if index != 0 {
            line.text("-");
        }
        line.text(name);
    }
}

/// masscan's word for bytes found under a key.
fn service(key: &str) -> String {
    match key {
        "banner" | "none" => "unknown".to_owned(),
        "ssh2" => "ssh".to_owned(),
        key => super::untrusted::word(key),
    }
}

/// masscan's number for bytes found under a key: 1, which it calls unknown, for a word that is none of its own.
fn application(key: &str) -> u16 {
    let numbered = key.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    let known = APPLICATIONS.iter().find(|(_, name)| *name == key).map(|(number, _)| *number);
    known.or_else(|| numbered?.parse().ok()).unwrap_or(1)
}

/// RFC 9293 section 3.1 and RFC 3168 section 6.1, lowest bit first.
const FLAGS: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
