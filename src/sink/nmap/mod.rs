//! nmap's formats, in the shapes its importers read, and what they share.
//!
//! Invariant: bytes from the network pass through `untrusted` only.

pub(super) mod grepable;
pub(super) mod xml;

use crate::event::{Manifest, Record, State};
use crate::runs::Item;
use crate::target::Protocol;

/// The protocol and number of a port in nmap's words; `None` for what is about the host: ICMP, ARP, neighbour discovery.
fn port(record: &Record) -> Option<(&'static str, u16)> {
    match record.protocol {
        Protocol::TCP => Some(("tcp", record.port)),
        Protocol::UDP => Some(("udp", record.port)),
        Protocol::SCTP => Some(("sctp", record.port)),
        Protocol::IP => Some(("ip", record.port)),
        Protocol::ICMP | Protocol::ICMPV6 | Protocol::ARP | Protocol::ND => None,
        Protocol(number) => Some(("ip", number.into())),
    }
}

/// How much a state says; of several about one port nmap tells one.
fn weight(state: State) -> u8 {
    match state {
        State::Open => 5,
        State::Up => 4,
        State::Closed => 3,
        State::Unfiltered => 2,
        State::Filtered => 1,
        State::OpenFiltered => 0,
    }
}

/// The verdict that says the most, and of equal ones the first.
fn best<'a>(items: impl Iterator<Item = &'a Item>) -> Option<&'a Record> {
    let mut best: Option<&Record> = None;
    for item in items.filter(|item| item.bytes.is_none()) {
        if best.is_none_or(|best| weight(best.state) < weight(item.record.state)) {
            best = Some(&item.record);
        }
    }
    best
}

/// The items about each port, in order; those about the host are left out.
fn by_port(items: &[Item]) -> impl Iterator<Item = &[Item]> {
    let same = |one: &Item, other: &Item| port(&one.record) == port(&other.record);
    items.chunk_by(same).filter(|items| port(&items[0].record).is_some())
}

/// The verdict nmap would print for a port: the best, or an open one where only bytes are known.
fn verdict(items: &[Item]) -> Record {
    best(items.iter()).copied().unwrap_or(items[0].record)
}

/// When the scan began and ended, in seconds since the Unix epoch; while it runs both are the beginning.
fn span(manifest: &Manifest) -> (u64, u64) {
    let started = manifest.started_us / 1_000_000;
    (started, manifest.finished_us.map_or(started, |finished| finished / 1_000_000))
}

/// Words found under a key that name a service; the others (`title`, `X509`) are a part of one.
fn service_of(key: &str) -> Option<&str> {
    const SERVICES: [&str; 18] = [
        "ssh",
        "http",
        "ftp",
        "snmp",
        "ssl",
        "smtp",
        "pop",
        "imap",
        "ntp",
        "vnc",
        "memcached",
        "coap",
        "telnet",
        "rdp",
        "smb",
        "minecraft",
        "isakmp",
        "nbtstat",
    ];
    SERVICES.contains(&key).then_some(key)
}
