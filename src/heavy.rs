//! Hosts and prefixes that answer for everything (tarpits, middleboxes that accept every connection): how many open
//! ports each may bring into the results.
//!
//! Bounded memory by Misra and Gries (1982): [`KEYS`] counters, and when a new key finds no room all are lowered by one.
//! A counter is then never above the truth and below it by at most results / [`KEYS`]: nobody is capped before the limit,
//! and whoever is beyond it by more than that is.
//!
//! Invariant: no clock, no I/O; knows addresses and numbers.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Counters of each kind.
pub const KEYS: usize = 1 << 18;

/// Limits for the results of one host and of one prefix; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open ports of one address.
    pub host: u32,
    /// Open ports of one IPv4 /24 or IPv6 /64.
    pub prefix: u32,
}

impl Limits {
    /// What holds unless the user says otherwise: far above what any real host or network has.
    pub const DEFAULT: Limits = Limits { host: 1_000, prefix: 65_536 };
}

/// Counts results and says which are beyond a limit.
#[derive(Debug)]
pub struct Heavy {
    limits: Limits,
    hosts: Counts,
    prefixes: Counts,
    /// What was held back, by host or prefix.
    capped: HashMap<(u128, bool), u64>,
    /// What was held back of hosts and prefixes beyond those listed.
    more: u64,
}

#[derive(Debug, Default)]
struct Counts {
    keys: HashMap<u128, u32>,
}

impl Heavy {
    /// Counters for a plan whose hosts have at most `ports` ports each: a limit that cannot be reached costs nothing.
    pub fn new(limits: Limits, ports: u64) -> Heavy {
        let reachable = |limit: u32, most: u64| if u64::from(limit) < most { limit } else { 0 };
        let limits = Limits {
            host: reachable(limits.host, ports),
            prefix: reachable(limits.prefix, ports.saturating_mul(256)),
        };
        Heavy {
            limits,
            hosts: Counts::default(),
            prefixes: Counts::default(),
            capped: HashMap::new(),
            more: 0,
        }
    }

    /// Whether nothing is ever held back.
    pub fn is_idle(&self) -> bool {
        self.limits.host == 0 && self.limits.prefix == 0
    }

    /// Counts a result about an address; returns whether it is within the limits.
    pub fn admit(&mut self, address: IpAddr) -> bool {
        let (host, prefix) = keys(address);
        for (counts, key, limit, is_prefix) in [
            (&mut self.hosts, host, self.limits.host, false),
            (&mut self.prefixes, prefix, self.limits.prefix, true),
        ] {
            if limit != 0 && !counts.admit(key, limit) {
                if self.capped.len() < LISTED || self.capped.contains_key(&(key, is_prefix)) {
                    *self.capped.entry((key, is_prefix)).or_default() += 1;
                } else {
                    self.more += 1;
                }
                return false;
            }
        }
        true
    }

    /// Who was capped, with the number of results held back, most first; and how many more were held back of others.
    pub fn capped(&self) -> (Vec<(String, u64)>, u64) {
        let mut all: Vec<_> =
            self.capped.iter().map(|(&(key, is_prefix), &count)| (name(key, is_prefix), count)).collect();
        all.sort_unstable_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        (all, self.more)
    }
}

impl Counts {
    fn admit(&mut self, key: u128, limit: u32) -> bool {
        if let Some(count) = self.keys.get_mut(&key) {
            let within = *count < limit;
            *count += u32::from(within);
            return within;
        }
        if KEYS <= self.keys.len() {
            // Those at their limit stay there: who was capped is not let in again.
            self.keys.retain(|_, count| {
                *count -= u32::from(*count < limit);
                0 < *count
            });
        }
        if self.keys.len() < KEYS {
            self.keys.insert(key, 1);
        }
        true
    }
}

/// The host and the prefix of an address. Both as IPv6 addresses, IPv4 mapped.
fn keys(address: IpAddr) -> (u128, u128) {
    match address {
        IpAddr::V4(address) => {
            let host = u128::from(address.to_ipv6_mapped());
            (host, host & !0xff)
        }
        IpAddr::V6(address) => {
            let host = u128::from(address);
            (host, host & !u128::from(u64::MAX))
        }
    }
}

fn name(key: u128, is_prefix: bool) -> String {
    let address = Ipv6Addr::from(key);
    match (address.to_ipv4_mapped(), is_prefix) {
        (Some(address), true) => format!("{address}/24"),
        (Some(address), false) => Ipv4Addr::to_string(&address),
        (None, true) => format!("{address}/64"),
        (None, false) => address.to_string(),
    }
}

/// Hosts and prefixes that are named one by one.
const LISTED: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn a_host_that_answers_for_everything_is_capped_and_named() {
        let mut heavy = Heavy::new(Limits { host: 10, prefix: 1_000 }, 65_535);
        let admitted = (0..100).filter(|_| heavy.admit(address(0xc000_0207))).count();
        assert_eq!(admitted, 10);
        assert!(heavy.admit(address(0xc000_0208)), "its neighbour is not");
        assert_eq!(heavy.capped(), (vec![("192.0.2.7".to_owned(), 90)], 0));
    }

    #[test]
    fn a_prefix_is_capped_and_named() {
        let mut heavy = Heavy::new(Limits { host: 0, prefix: 300 }, 65_535);
        let admitted =
            (0..1000u32).filter(|number| heavy.admit(address(0xc000_0200 | (number % 256)))).count();
        assert_eq!(admitted, 300);
        assert_eq!(heavy.capped().0, [("192.0.2.0/24".to_owned(), 700)]);
        let mut heavy = Heavy::new(Limits { host: 0, prefix: 2 }, 65_535);
        let site = |last: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
        assert_eq!((0..5).filter(|&last| heavy.admit(site(last))).count(), 2);
        assert_eq!(heavy.capped().0, [("2001:db8::/64".to_owned(), 3)]);
    }

    #[test]
    fn limits_that_cannot_be_reached_cost_nothing() {
        assert!(Heavy::new(Limits::DEFAULT, 3).is_idle());
        assert!(!Heavy::new(Limits::DEFAULT, 65_535).is_idle());
        assert!(Heavy::new(Limits { host: 0, prefix: 0 }, 65_535).is_idle());
    }

    #[test]
    fn memory_is_bounded_and_the_heaviest_is_still_found() {
        let mut heavy = Heavy::new(Limits { host: 100, prefix: 0 }, 65_535);
        let (mut admitted, crowd) = (0, 3 * KEYS as u32);
        for number in 0..crowd {
            assert!(heavy.admit(address(0x0a00_0000 + number)), "one answer each");
            admitted += u32::from(number % 1024 == 0 && heavy.admit(address(7)));
        }
        assert!(heavy.hosts.keys.len() <= KEYS);
        // At most results / KEYS late.
        assert!((100..=104).contains(&admitted), "{admitted}");
    }
}
