//! What several formats share: values out of text, and the facts that a format leaves to be guessed.
//!
//! Invariant: pure functions of text; nothing here reads a file.

use std::net::IpAddr;

use crate::event::{Reason, Record, State};
use crate::target::{Port, Protocol, Target};
pub(super) use crate::text::parse_time;

/// A record about a target that answered itself. An IPv4 address in IPv6 form means the IPv4 address.
pub(super) fn record(address: IpAddr, port: Port, state: State, reason: Reason) -> Record {
    let address = address.to_canonical();
    Record::new(Target { address, port }, address, state, reason)
}

/// The reason that goes with a state where the format tells none.
pub(super) fn usual_reason(protocol: Protocol, state: State) -> Reason {
    match (protocol, state) {
        (_, State::OpenFiltered) => Reason::NO_RESPONSE,
        (Protocol::TCP, State::Open) => Reason::SYN_ACK,
        (Protocol::TCP, State::Closed | State::Unfiltered) => Reason::RESET,
        (Protocol::UDP, State::Open) => Reason::UDP_RESPONSE,
        (Protocol::UDP, State::Closed) => Reason::PORT_UNREACH,
        (Protocol::SCTP, State::Open) => Reason::INIT_ACK,
        (Protocol::SCTP, State::Closed) => Reason::ABORT,
        (Protocol::ICMP | Protocol::ICMPV6, State::Open | State::Up) => Reason::ECHO_REPLY,
        (Protocol::ARP, State::Open | State::Up) => Reason::ARP_RESPONSE,
        (Protocol::ND, State::Open | State::Up) => Reason::ND_RESPONSE,
        (Protocol::IP, State::Open) => Reason::PROTO_RESPONSE,
        (Protocol::IP, State::Closed) => Reason::PROTO_UNREACH,
        (_, State::Filtered) => Reason::NO_RESPONSE,
        _ => Reason(0),
    }
}

/// `00:0c:29:aa:bb:cc` as its six bytes.
pub(super) fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut octets = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut octets {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *octet = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(octets)
}

/// Seconds since the Unix epoch of a time as `asctime` writes it, taken as UTC: `Sat Nov 21 00:52:52 2026`.
pub(super) fn parse_asctime(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_whitespace().skip(1);
    let (month, day, clock, year) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let day: u8 = day.parse().ok()?;
    parse_time(&format!("{year}-{month:02}-{day:02}T{clock}Z")).map(|time_ns| time_ns / 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_the_c_library_is_read() {
        assert_eq!(parse_asctime("Tue Nov 14 22:13:21 2023"), Some(1_700_000_001));
        assert_eq!(parse_asctime("Thu Jan  1 00:00:00 1970"), Some(0));
        assert_eq!(parse_asctime("Tue Non 14 22:13:21 2023"), None);
    }
}
