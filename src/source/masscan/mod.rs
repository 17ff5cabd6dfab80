//! masscan's formats, and the words they share.
//!
//! masscan says port 0 of `icmp` for an echo reply and port 1 for a timestamp reply; here they are the message types, as
//! everywhere. TCP flags, which are masscan's reasons, are kept in the record as they stand in the file.

pub(super) mod binary;
pub(super) mod json;
pub(super) mod list;
pub(super) mod ndjson;

use std::net::IpAddr;

use super::row::unknown;
use super::text::{record, usual_reason};
use crate::event::{Reason, Record, State};
use crate::target::{Port, Protocol};

/// A verdict in masscan's words.
pub(super) struct Verdict<'a> {
    pub(super) address: IpAddr,
    pub(super) seconds: u64,
    pub(super) port: u16,
    pub(super) protocol: &'a str,
    /// `open`, `closed` or `up`.
    pub(super) status: &'a str,
    /// The names of TCP flags, joined by dashes; `None` where the format does not tell them.
    pub(super) reason: Option<&'a str>,
    pub(super) ttl: u8,
}

impl Verdict<'_> {
    pub(super) fn record(&self) -> Result<Record, String> {
        let protocol = protocol(self.protocol, self.address)?;
        let state = state(self.status, protocol)?;
        let flags = self.reason.map(flags).transpose()?;
        Ok(told(self.address, (protocol, self.port), state, flags, (self.seconds, self.ttl)))
    }
}

/// A record of what masscan tells; `flags` are those of the reply, `None` where the format does not tell them.
fn told(
    address: IpAddr,
    (protocol, port): (Protocol, u16),
    state: State,
    flags: Option<u8>,
    (seconds, ttl): (u64, u8),
) -> Record {
    let number = match (protocol, port) {
        (Protocol::ICMP, 0) => 8,
        (Protocol::ICMPV6, 0) => 128,
        (Protocol::ICMP, 1) => 13,
        _ => port,
    };
    let reason = match flags {
        Some(flags) if flags & SYN_ACK == SYN_ACK => Reason::SYN_ACK,
        Some(flags) if flags & RST == RST => Reason::RESET,
        // It says that there were no flags, which is no usual reason for TCP.
        Some(_) if protocol == Protocol::TCP => Reason(0),
        _ => usual_reason(protocol, state),
    };
    let mut record = record(address, Port { protocol, number }, state, reason);
    record.time_ns = seconds.saturating_mul(1_000_000_000);
    record.ttl = ttl;
    record.flags = flags.unwrap_or(0);
    record
}

/// The protocol of a word; masscan has one word for both kinds of ICMP.
pub(super) fn protocol(word: &str, address: IpAddr) -> Result<Protocol, String> {
    match (word, address.is_ipv6()) {
        ("icmp", true) => Ok(Protocol::ICMPV6),
        ("arp", true) => Ok(Protocol::ND),
        // What masscan writes for a protocol that it has no word for.
        ("err", _) => Ok(Protocol::IP),
        _ => Protocol::from_name(word).ok_or_else(|| unknown("proto", word)),
    }
}

/// A host that answers has no open port.
pub(super) fn state(word: &str, protocol: Protocol) -> Result<State, String> {
    let about_host = matches!(protocol, Protocol::ICMP | Protocol::ICMPV6 | Protocol::ARP | Protocol::ND);
    match State::from_name(word) {
        Some(State::Open) if about_host => Ok(State::Up),
        Some(state) => Ok(state),
        None => Err(unknown("status", word)),
    }
}

/// `syn-ack` as the bits of the TCP header; `none` as no bit. A reason that is no list of flags (`response`) tells none.
fn flags(text: &str) -> Result<u8, String> {
    if matches!(text, "none" | "response") {
        return Ok(0);
    }
    text.split('-').try_fold(0, |flags, name| {
        let bit = FLAGS.iter().position(|known| *known == name).ok_or_else(|| unknown("reason", text))?;
        Ok(flags | 1 << bit)
    })
}

/// The bytes of a JSON string of masscan's: each character below 256 was a byte. Others wrote UTF-8.
fn bytes_of(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match u8::try_from(u32::from(character)) {
            Ok(byte) => bytes.push(byte),
            Err(_) => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// masscan's word for bytes; ours where its word names none.
fn key(service: &str) -> Box<str> {
    if service.is_empty() { "unknown".into() } else { service.chars().take(40).collect() }
}

const FLAGS: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
const SYN_ACK: u8 = 0x12;
const RST: u8 = 0x04;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_of_flags_is_read_back() {
        assert_eq!((flags("none"), flags("syn-ack"), flags("rst-ack")), (Ok(0), Ok(0x12), Ok(0x14)));
        assert_eq!(flags("fin-syn-rst-psh-ack-urg-ece-cwr"), Ok(0xff));
        assert!(flags("syn-").is_err() && flags("").is_err());
    }
}
