//! Special-purpose prefixes: the IANA registries, and the rule which of them a plan may hold.
//!
//! The rule: a special-purpose prefix is skipped when a larger range sweeps over it, and scanned when the user
//! names it, that is, when a spec lies inside it. It holds for every row on its own: `192.0.0.0/24` names that
//! row, and still sweeps over the rows nested in it. Some rows are never scanned, however they are named.
//!
//! Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries, IPv6 Address Space Registry (snapshots of
//! 2026-07-18), RFC 5771 (IPv4 multicast).
//!
//! Invariant: nothing here depends on this host.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::addresses::{AddressSet, RangeList};
use super::ranges::{AddressBits, Ranges};

/// What the rule does with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Not scanned even when named: no single host can answer for such an address.
    Never,
    /// Skipped when swept over, scanned when named.
    Skipped,
}

/// One row of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Special {
    /// The prefix.
    pub prefix: IpNet,
    /// What it is for, in the registry's words.
    pub name: &'static str,
    /// The document that says so.
    pub source: &'static str,
    /// What the rule does with it.
    pub class: Class,
}

/// What [`apply`] made of the given ranges. `kept`, `skipped` and `never` are disjoint and together hold every
/// address given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// What may be scanned.
    pub kept: AddressSet,
    /// Special-purpose addresses that were swept over.
    pub skipped: AddressSet,
    /// Addresses that are never scanned.
    pub never: AddressSet,
    /// The part of `never` that the user named on purpose (a spec wholly inside a [`Class::Never`] row): not
    /// empty means that the user asked for something that cannot be done, which is an error worth reporting.
    pub refused: AddressSet,
}

/// Applies the special-purpose rule to ranges as the user gave them. The result is the union over all ranges of
/// (the range less every special-purpose prefix it does not lie inside of), less what is never scanned.
pub fn apply(given: RangeList) -> Applied {
    let v4 = apply_family(given.v4, given.swept, &rows_v4());
    let v6 = apply_family(given.v6, Vec::new(), &rows_v6());
    Applied {
        kept: AddressSet { v4: v4.kept, v6: v6.kept },
        skipped: AddressSet { v4: v4.skipped, v6: v6.skipped },
        never: AddressSet { v4: v4.never, v6: v6.never },
        refused: AddressSet { v4: v4.refused, v6: v6.refused },
    }
}

/// The narrowest special-purpose prefix that holds a whole inclusive range, if there is one. Both ends must be of
/// one family.
pub fn naming(first: IpAddr, last: IpAddr) -> Option<&'static Special> {
    SPECIAL
        .iter()
        .filter(|row| row.prefix.contains(&first) && row.prefix.contains(&last))
        .max_by_key(|row| row.prefix.prefix_len())
}

/// All addresses that are never scanned, to be excluded from endpoints that files list one by one.
pub fn never() -> AddressSet {
    AddressSet { v4: rows_of(&rows_v4(), Some(Class::Never)), v6: rows_of(&rows_v6(), Some(Class::Never)) }
}

/// All special-purpose addresses.
pub fn all() -> AddressSet {
    AddressSet { v4: rows_of(&rows_v4(), None), v6: rows_of(&rows_v6(), None) }
}

/// A row as numbers.
#[derive(Clone, Copy)]
struct Row<T> {
    first: T,
    last: T,
    class: Class,
}

impl<T: AddressBits> Row<T> {
    fn holds(&self, first: T, last: T) -> bool {
        self.first <= first && last <= self.last
    }
}

/// Rows, narrowest first, so that the first row that holds a range is the innermost.
fn narrowest_first<T: AddressBits>(mut rows: Vec<Row<T>>) -> Vec<Row<T>> {
    rows.sort_by_key(|row| {
        let width: u128 = row.last.into() - row.first.into();
        (width, row.first)
    });
    rows
}

fn rows_v4() -> Vec<Row<u32>> {
    let rows = SPECIAL.iter().filter_map(|row| match row.prefix {
        IpNet::V4(net) => {
            Some(Row { first: net.network().into(), last: net.broadcast().into(), class: row.class })
        }
        IpNet::V6(_) => None,
    });
    narrowest_first(rows.collect())
}

fn rows_v6() -> Vec<Row<u128>> {
    let rows = SPECIAL.iter().filter_map(|row| match row.prefix {
        IpNet::V6(net) => {
            Some(Row { first: net.network().into(), last: net.broadcast().into(), class: row.class })
        }
        IpNet::V4(_) => None,
    });
    narrowest_first(rows.collect())
}

fn rows_of<T: AddressBits>(rows: &[Row<T>], class: Option<Class>) -> Ranges<T> {
    let chosen = rows.iter().filter(|row| class.is_none_or(|class| row.class == class));
    Ranges::from_unsorted(chosen.map(|row| (row.first, row.last)).collect())
}

struct FamilyApplied<T> {
    kept: Ranges<T>,
    skipped: Ranges<T>,
    never: Ranges<T>,
    refused: Ranges<T>,
}

/// The rule for one family.
///
/// Ranges are grouped by the innermost row that holds them. Rows nest, so the rows a range touches without lying
/// inside are exactly those within its innermost row: one subtraction serves the whole group. Nearly every range
/// of a long list lies in no row; those stay in the list they came in.
fn apply_family<T: AddressBits>(given: Vec<(T, T)>, swept: Vec<(T, T)>, rows: &[Row<T>]) -> FamilyApplied<T> {
    let every_row = rows_of(rows, None);
    let never_rows = rows_of(rows, Some(Class::Never));
    let mut named: BTreeMap<usize, Vec<(T, T)>> = BTreeMap::new();
    let mut plain = given;
    plain.retain(|&(first, last)| {
        if !every_row.contains(first) {
            return true;
        }
        match rows.iter().position(|row| row.holds(first, last)) {
            Some(row) => named.entry(row).or_default().push((first, last)),
            None => return true,
        }
        false
    });
    plain.extend(swept);

    let plain = Ranges::from_unsorted(plain);
    let mut touched = plain.intersect(&every_row);
    let none = Ranges::default;
    let mut result =
        FamilyApplied { kept: plain.subtract(&every_row), skipped: none(), never: none(), refused: none() };
    drop(plain);
    for (row, ranges) in named {
        let ranges = Ranges::from_unsorted(ranges);
        let outer = rows[row];
        let inner = rows.iter().take(row).filter(|inner| outer.holds(inner.first, inner.last));
        let inner = Ranges::from_unsorted(inner.map(|row| (row.first, row.last)).collect());
        if outer.class == Class::Never {
            result.refused = result.refused.union(&ranges);
        } else {
            result.kept = result.kept.union(&ranges.subtract(&inner));
        }
        touched = touched.union(&ranges);
    }
    if !touched.is_empty() {
        result.kept = result.kept.subtract(&never_rows);
        result.never = touched.intersect(&never_rows);
        result.skipped = touched.subtract(&result.never).subtract(&result.kept);
    }
    result
}

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length))
}

/// An IPv6 prefix from its first five groups and its last one.
const fn v6(head: [u16; 4], tail: [u16; 4], length: u8) -> IpNet {
    let ([a, b, c, d], [e, f, g, h]) = (head, tail);
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), length))
}

const fn never_row(prefix: IpNet, name: &'static str, source: &'static str) -> Special {
    Special { prefix, name, source, class: Class::Never }
}

const fn skipped_row(prefix: IpNet, name: &'static str, source: &'static str) -> Special {
    Special { prefix, name, source, class: Class::Skipped }
}

const NONE: [u16; 4] = [0; 4];

/// Every row, IPv4 first. IPv6 space outside 2000::/3 is special as a whole: its rows are those of the address
/// space registry, so that unassigned space is not swept by accident.
pub const SPECIAL: &[Special] = &[
    never_row(v4(0, 0, 0, 0, 8), "this network", "RFC 791"),
    never_row(v4(0, 0, 0, 0, 32), "this host on this network", "RFC 1122"),
    skipped_row(v4(10, 0, 0, 0, 8), "private use", "RFC 1918"),
    skipped_row(v4(100, 64, 0, 0, 10), "shared address space (CGNAT)", "RFC 6598"),
    skipped_row(v4(127, 0, 0, 0, 8), "loopback", "RFC 1122"),
    skipped_row(v4(169, 254, 0, 0, 16), "link local", "RFC 3927"),
    skipped_row(v4(172, 16, 0, 0, 12), "private use", "RFC 1918"),
    skipped_row(v4(192, 0, 0, 0, 24), "IETF protocol assignments", "RFC 6890"),
    skipped_row(v4(192, 0, 0, 0, 29), "IPv4 service continuity prefix", "RFC 7335"),
    skipped_row(v4(192, 0, 0, 8, 32), "IPv4 dummy address", "RFC 7600"),
    skipped_row(v4(192, 0, 0, 9, 32), "port control protocol anycast", "RFC 7723"),
    skipped_row(v4(192, 0, 0, 10, 32), "TURN anycast", "RFC 8155"),
    skipped_row(v4(192, 0, 0, 170, 32), "NAT64/DNS64 discovery", "RFC 8880"),
    skipped_row(v4(192, 0, 0, 171, 32), "NAT64/DNS64 discovery", "RFC 8880"),
    skipped_row(v4(192, 0, 2, 0, 24), "documentation (TEST-NET-1)", "RFC 5737"),
    skipped_row(v4(192, 31, 196, 0, 24), "AS112-v4", "RFC 7535"),
    skipped_row(v4(192, 52, 193, 0, 24), "AMT", "RFC 7450"),
    skipped_row(v4(192, 88, 99, 0, 24), "6to4 relay anycast, deprecated", "RFC 7526"),
    skipped_row(v4(192, 88, 99, 2, 32), "6a44 relay anycast", "RFC 6751"),
    skipped_row(v4(192, 168, 0, 0, 16), "private use", "RFC 1918"),
    skipped_row(v4(192, 175, 48, 0, 24), "direct delegation AS112", "RFC 7534"),
    skipped_row(v4(198, 18, 0, 0, 15), "benchmarking", "RFC 2544"),
    skipped_row(v4(198, 51, 100, 0, 24), "documentation (TEST-NET-2)", "RFC 5737"),
    skipped_row(v4(203, 0, 113, 0, 24), "documentation (TEST-NET-3)", "RFC 5737"),
    never_row(v4(224, 0, 0, 0, 4), "multicast", "RFC 5771"),
    skipped_row(v4(240, 0, 0, 0, 4), "reserved", "RFC 1112"),
    never_row(v4(255, 255, 255, 255, 32), "limited broadcast", "RFC 8190"),
    // IPv6: the address space registry outside 2000::/3.
    skipped_row(v6(NONE, NONE, 8), "reserved", "RFC 4291"),
    skipped_row(v6([0x0100, 0, 0, 0], NONE, 8), "reserved", "RFC 4291"),
    skipped_row(v6([0x0200, 0, 0, 0], NONE, 7), "reserved", "RFC 4048"),
    skipped_row(v6([0x0400, 0, 0, 0], NONE, 6), "reserved", "RFC 4291"),
    skipped_row(v6([0x0800, 0, 0, 0], NONE, 5), "reserved", "RFC 4291"),
    skipped_row(v6([0x1000, 0, 0, 0], NONE, 4), "reserved", "RFC 4291"),
    skipped_row(v6([0x4000, 0, 0, 0], NONE, 3), "reserved", "RFC 4291"),
    skipped_row(v6([0x6000, 0, 0, 0], NONE, 3), "reserved", "RFC 4291"),
    skipped_row(v6([0x8000, 0, 0, 0], NONE, 3), "reserved", "RFC 4291"),
    skipped_row(v6([0xa000, 0, 0, 0], NONE, 3), "reserved", "RFC 4291"),
    skipped_row(v6([0xc000, 0, 0, 0], NONE, 3), "reserved", "RFC 4291"),
    skipped_row(v6([0xe000, 0, 0, 0], NONE, 4), "reserved", "RFC 4291"),
    skipped_row(v6([0xf000, 0, 0, 0], NONE, 5), "reserved", "RFC 4291"),
    skipped_row(v6([0xf800, 0, 0, 0], NONE, 6), "reserved", "RFC 4291"),
    skipped_row(v6([0xfc00, 0, 0, 0], NONE, 7), "unique local", "RFC 4193"),
    skipped_row(v6([0xfe00, 0, 0, 0], NONE, 9), "reserved", "RFC 4291"),
    skipped_row(v6([0xfe80, 0, 0, 0], NONE, 10), "link local", "RFC 4291"),
    skipped_row(v6([0xfec0, 0, 0, 0], NONE, 10), "site local, deprecated", "RFC 3879"),
    never_row(v6([0xff00, 0, 0, 0], NONE, 8), "multicast", "RFC 4291"),
    // IPv6: the special-purpose registry.
    never_row(v6(NONE, NONE, 128), "unspecified address", "RFC 4291"),
    skipped_row(v6(NONE, [0, 0, 0, 1], 128), "loopback", "RFC 4291"),
    never_row(v6(NONE, [0, 0xffff, 0, 0], 96), "IPv4-mapped", "RFC 4291"),
    skipped_row(v6(NONE, NONE, 96), "IPv4-compatible, deprecated", "RFC 4291"),
    skipped_row(v6([0x64, 0xff9b, 0, 0], NONE, 96), "IPv4-IPv6 translation", "RFC 6052"),
    skipped_row(v6([0x64, 0xff9b, 1, 0], NONE, 48), "IPv4-IPv6 translation, local", "RFC 8215"),
    skipped_row(v6([0x100, 0, 0, 0], NONE, 64), "discard only", "RFC 6666"),
    skipped_row(v6([0x100, 0, 0, 1], NONE, 64), "dummy prefix", "RFC 9780"),
    skipped_row(v6([0x2001, 0, 0, 0], NONE, 23), "IETF protocol assignments", "RFC 2928"),
    skipped_row(v6([0x2001, 0, 0, 0], NONE, 32), "Teredo", "RFC 4380"),
    skipped_row(v6([0x2001, 1, 0, 0], [0, 0, 0, 1], 128), "port control protocol anycast", "RFC 7723"),
    skipped_row(v6([0x2001, 1, 0, 0], [0, 0, 0, 2], 128), "TURN anycast", "RFC 8155"),
    skipped_row(v6([0x2001, 1, 0, 0], [0, 0, 0, 3], 128), "DNS-SD SRP anycast", "RFC 9665"),
    skipped_row(v6([0x2001, 2, 0, 0], NONE, 48), "benchmarking", "RFC 5180"),
    skipped_row(v6([0x2001, 3, 0, 0], NONE, 32), "AMT", "RFC 7450"),
    skipped_row(v6([0x2001, 4, 0x112, 0], NONE, 48), "AS112-v6", "RFC 7535"),
    skipped_row(v6([0x2001, 0x10, 0, 0], NONE, 28), "ORCHID, deprecated", "RFC 4843"),
    skipped_row(v6([0x2001, 0x20, 0, 0], NONE, 28), "ORCHIDv2", "RFC 7343"),
    skipped_row(v6([0x2001, 0x30, 0, 0], NONE, 28), "drone remote identification", "RFC 9374"),
    skipped_row(v6([0x2001, 0xdb8, 0, 0], NONE, 32), "documentation", "RFC 3849"),
    skipped_row(v6([0x2002, 0, 0, 0], NONE, 16), "6to4", "RFC 3056"),
    skipped_row(v6([0x2620, 0x4f, 0x8000, 0], NONE, 48), "direct delegation AS112", "RFC 7534"),
    skipped_row(v6([0x3fff, 0, 0, 0], NONE, 20), "documentation", "RFC 9637"),
    skipped_row(v6([0x5f00, 0, 0, 0], NONE, 16), "segment routing SIDs", "RFC 9602"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn given(nets: &[&str]) -> RangeList {
        let mut list = RangeList::default();
        for net in nets {
            match net.parse::<IpNet>() {
                Ok(net) => list.push_net(net),
                Err(_) => list.push(net.parse().expect("address or prefix")),
            }
        }
        list
    }

    fn kept(nets: &[&str]) -> AddressSet {
        apply(given(nets)).kept
    }

    fn set(nets: &[&str]) -> AddressSet {
        given(nets).into_set()
    }

    #[test]
    fn the_whole_of_ipv4_leaves_the_public_addresses() {
        let applied = apply(given(&["0.0.0.0/0"]));
        assert_eq!(applied.kept.len(), 3_702_257_664);
        assert_eq!(applied.skipped.len() + applied.never.len(), 592_709_632);
        assert!(applied.refused.is_empty(), "a sweep asks for nothing in particular");
        assert_eq!(all().v4.count(), 592_709_632);
    }

    #[test]
    fn a_prefix_that_is_named_is_scanned() {
        for named in [
            "10.0.0.0/8",
            "10.1.2.3",
            "192.168.0.0/24",
            "198.18.0.0/15",
            "127.0.0.1",
            "192.0.0.9",
            "240.1.2.3",
            "2001:db8::/32",
            "fe80::1",
            "::1",
            "4000::/16",
            "100::/64",
        ] {
            assert_eq!(kept(&[named]), set(&[named]), "{named}");
        }
    }

    #[test]
    fn a_prefix_that_is_swept_over_is_skipped() {
        assert_eq!(kept(&["8.0.0.0/5"]), set(&["8.0.0.0/5"]).subtract(&set(&["10.0.0.0/8"])));
        assert!(kept(&["198.18.0.0/15", "0.0.0.0/0"]).contains("198.18.0.1".parse().expect("address")));
        assert_eq!(kept(&["0.0.0.0/0", "10.0.0.0/9", "192.168.7.7"]).len(), 3_702_257_664 + (1 << 23) + 1);
        assert_eq!(kept(&["2001:da0::/27"]), set(&["2001:da0::/27"]).subtract(&set(&["2001:db8::/32"])));
    }

    #[test]
    fn a_row_nested_in_a_named_row_is_still_swept_over() {
        let applied = apply(given(&["192.0.0.0/24"]));
        assert_eq!(applied.kept.len(), 256 - 8 - 5);
        assert_eq!(applied.skipped.len(), 13);
        assert_eq!(kept(&["192.0.0.0/24", "192.0.0.8"]).len(), 256 - 8 - 4);
    }

    #[test]
    fn what_is_never_scanned_cannot_be_named() {
        for refused in
            ["224.0.0.1", "0.0.0.0", "0.1.2.0/24", "255.255.255.255", "ff02::1", "::", "::ffff:1.2.3.4"]
        {
            let applied = apply(given(&[refused, "192.0.2.1"]));
            assert_eq!(applied.kept, set(&["192.0.2.1"]), "{refused}");
            assert_eq!(applied.refused, set(&[refused]), "{refused}");
            assert_eq!(applied.never, applied.refused, "{refused}");
        }
        let applied = apply(given(&["240.0.0.0/4"]));
        assert_eq!(
            applied.kept.len(),
            (1 << 28) - 1,
            "the limited broadcast address goes, the rest was named"
        );
        assert!(applied.refused.is_empty());
    }

    #[test]
    fn ipv6_space_outside_the_global_unicast_prefix_is_special() {
        let whole = Ranges::one(0u128, u128::MAX);
        let unicast = set(&["2000::/3"]).v6;
        assert!(whole.subtract(&unicast).subtract(&all().v6).is_empty());
        assert_eq!(kept(&["::/0"]), set(&["2000::/3"]).subtract(&all()));
        assert_eq!(kept(&["::/1"]), kept(&["2000::/3"]));
    }

    #[test]
    fn parts_of_a_pattern_name_nothing() {
        let given = RangeList {
            swept: vec![(0x0a00_0001, 0x0a00_0001), (0x0b00_0001, 0x0b00_0001)],
            ..RangeList::default()
        };
        let applied = apply(given);
        assert_eq!(applied.kept, set(&["11.0.0.1"]));
        assert_eq!(applied.skipped, set(&["10.0.0.1"]));
    }

    #[test]
    fn kept_skipped_and_never_are_a_partition_of_what_was_given() {
        let specs =
            ["192.0.0.0/16", "224.0.0.0/3", "0.0.0.0/7", "192.0.0.10", "::/7", "2001::/16", "172.0.0.0/8"];
        let applied = apply(given(&specs));
        assert_eq!(applied.kept.union(&applied.skipped).union(&applied.never), set(&specs));
        for (a, b) in [
            (&applied.kept, &applied.skipped),
            (&applied.kept, &applied.never),
            (&applied.skipped, &applied.never),
        ] {
            assert!(a.intersect(b).is_empty());
        }
    }

    #[test]
    fn every_row_is_a_network_address_and_rows_do_not_repeat() {
        for (index, row) in SPECIAL.iter().enumerate() {
            assert_eq!(row.prefix, row.prefix.trunc(), "{}", row.name);
            assert!(!SPECIAL[..index].iter().any(|other| other.prefix == row.prefix), "{}", row.prefix);
        }
    }

    #[test]
    fn an_address_can_be_traced_to_the_narrowest_row() {
        let naming = |text: &str| {
            let address = text.parse().expect("address");
            naming(address, address).map(|row| row.prefix.to_string())
        };
        assert_eq!(naming("192.0.0.9").as_deref(), Some("192.0.0.9/32"));
        assert_eq!(naming("192.0.0.77").as_deref(), Some("192.0.0.0/24"));
        assert_eq!(naming("8.8.8.8"), None);
    }
}
