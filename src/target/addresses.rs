//! Addresses of both families: [`RangeList`] as the user gave them, [`AddressSet`] as a set.
//!
//! Invariant: knows no syntax and no policy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use super::ranges::Ranges;

/// Ranges of addresses as given: unsorted, possibly overlapping, not yet judged. The special-purpose rule needs
/// them apart, because a prefix that is named and one that is swept over are treated differently.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeList {
    /// IPv4 ranges, inclusive; each is a spec of its own.
    pub v4: Vec<(u32, u32)>,
    /// IPv6 ranges, inclusive; each is a spec of its own.
    pub v6: Vec<(u128, u128)>,
    /// IPv4 ranges, inclusive, that one octet pattern such as `*.0.0.1` became: small, but parts of a sweep, so
    /// they name no special-purpose prefix.
    pub swept: Vec<(u32, u32)>,
}

impl RangeList {
    /// Whether there is no range at all.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty() && self.swept.is_empty()
    }

    /// Adds one address, such as one a name resolved to.
    pub fn push(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.v4.push((address.into(), address.into())),
            IpAddr::V6(address) => self.v6.push((address.into(), address.into())),
        }
    }

    /// Adds one block. Host bits may be set: the whole block counts.
    pub fn push_net(&mut self, net: IpNet) {
        match net {
            IpNet::V4(net) => self.v4.push((net.network().into(), net.broadcast().into())),
            IpNet::V6(net) => self.v6.push((net.network().into(), net.broadcast().into())),
        }
    }

    /// Moves all ranges of another list to the end of this one.
    pub fn append(&mut self, mut other: RangeList) {
        self.v4.append(&mut other.v4);
        self.v6.append(&mut other.v6);
        self.swept.append(&mut other.swept);
    }

    /// How many addresses the ranges hold together, repeats counted each time.
    pub fn len(&self) -> u128 {
        let v4 = self.v4.iter().chain(&self.swept).map(|&(first, last)| u128::from(last - first) + 1);
        let v6 = self.v6.iter().map(|&(first, last)| (last - first).saturating_add(1));
        v4.chain(v6).fold(0, u128::saturating_add)
    }

    /// The set of all addresses given.
    pub fn into_set(mut self) -> AddressSet {
        self.v4.append(&mut self.swept);
        AddressSet { v4: Ranges::from_unsorted(self.v4), v6: Ranges::from_unsorted(self.v6) }
    }
}

/// A set of addresses of both families.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct AddressSet {
    /// The IPv4 addresses.
    pub v4: Ranges<u32>,
    /// The IPv6 addresses.
    pub v6: Ranges<u128>,
}

impl AddressSet {
    /// The set of all addresses in inclusive ranges. A range from one family into the other holds nothing.
    pub fn from_ip_ranges(ranges: impl IntoIterator<Item = (IpAddr, IpAddr)>) -> AddressSet {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for range in ranges {
            match range {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((first.into(), last.into())),
                (IpAddr::V6(first), IpAddr::V6(last)) => v6.push((first.into(), last.into())),
                _ => {}
            }
        }
        AddressSet { v4: Ranges::from_unsorted(v4), v6: Ranges::from_unsorted(v6) }
    }

    /// Whether the set holds nothing.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// How many addresses the set holds. Saturates: the whole IPv6 space does not fit.
    pub fn len(&self) -> u128 {
        self.v4.count().saturating_add(self.v6.count())
    }

    /// Whether the set holds an address. O(log n).
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4.contains(address.into()),
            IpAddr::V6(address) => self.v6.contains(address.into()),
        }
    }

    /// The addresses in either set.
    #[must_use]
    pub fn union(&self, other: &AddressSet) -> AddressSet {
        AddressSet { v4: self.v4.union(&other.v4), v6: self.v6.union(&other.v6) }
    }

    /// The addresses in this set that are not in the other.
    #[must_use]
    pub fn subtract(&self, other: &AddressSet) -> AddressSet {
        AddressSet { v4: self.v4.subtract(&other.v4), v6: self.v6.subtract(&other.v6) }
    }

    /// The addresses in both sets.
    #[must_use]
    pub fn intersect(&self, other: &AddressSet) -> AddressSet {
        AddressSet { v4: self.v4.intersect(&other.v4), v6: self.v6.intersect(&other.v6) }
    }

    /// The fewest CIDR blocks that make up the set, ascending, IPv4 first.
    pub fn blocks(&self) -> impl Iterator<Item = IpNet> + '_ {
        let v4 = self.v4.iter().flat_map(|(first, last)| {
            Ipv4Subnets::new(Ipv4Addr::from(first), Ipv4Addr::from(last), 0).map(IpNet::V4)
        });
        let v6 = self.v6.iter().flat_map(|(first, last)| {
            Ipv6Subnets::new(Ipv6Addr::from(first), Ipv6Addr::from(last), 0).map(IpNet::V6)
        });
        v4.chain(v6)
    }

    /// Feeds the set to a digest. Equal sets give equal bytes, however they were written.
    pub fn feed(&self, sink: &mut impl FnMut(&[u8])) {
        self.v4.feed(sink);
        self.v6.feed(sink);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    fn set(ranges: &[(&str, &str)]) -> AddressSet {
        AddressSet::from_ip_ranges(ranges.iter().map(|(first, last)| (ip(first), ip(last))))
    }

    fn blocks(set: &AddressSet) -> Vec<String> {
        set.blocks().map(|net| net.to_string()).collect()
    }

    #[test]
    fn a_range_becomes_the_fewest_blocks() {
        assert_eq!(
            blocks(&set(&[("10.0.0.1", "10.0.0.255")])),
            [
                "10.0.0.1/32",
                "10.0.0.2/31",
                "10.0.0.4/30",
                "10.0.0.8/29",
                "10.0.0.16/28",
                "10.0.0.32/27",
                "10.0.0.64/26",
                "10.0.0.128/25"
            ]
        );
        assert_eq!(
            blocks(&set(&[("::1", "::2"), ("0.0.0.0", "255.255.255.255")])),
            ["0.0.0.0/0", "::1/128", "::2/128"]
        );
        assert_eq!(blocks(&set(&[("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")])), ["::/0"]);
    }

    #[test]
    fn the_families_do_not_mix() {
        let both = set(&[("10.0.0.0", "10.0.0.9"), ("2001:db8::", "2001:db8::f")]);
        assert_eq!(both.len(), 26);
        assert!(both.contains(ip("10.0.0.9")) && both.contains(ip("2001:db8::f")));
        assert!(!both.contains(ip("::a00:9")) && !both.contains(ip("10.0.0.10")));
        let rest = both.subtract(&set(&[("0.0.0.0", "255.255.255.255")]));
        assert_eq!(rest, set(&[("2001:db8::", "2001:db8::f")]));
        assert_eq!(both.intersect(&rest), rest);
        assert_eq!(rest.union(&both), both);
        assert!(AddressSet::from_ip_ranges([(ip("10.0.0.1"), ip("::ffff"))]).is_empty());
    }

    #[test]
    fn six_less_two_levels_of_prefix_leaves_the_outer_part() {
        let outer = set(&[("2607:f8b0:4002:801::2000", "2607:f8b0:4002:801::200f")]);
        let inner = set(&[("2607:f8b0:4002:801::2004", "2607:f8b0:4002:801::2007")]);
        assert_eq!(outer.subtract(&inner).len(), 12);
    }

    #[test]
    fn a_list_of_ranges_counts_repeats_and_its_set_does_not() {
        let mut list = RangeList::default();
        list.push(ip("192.0.2.7"));
        list.push_net("192.0.2.9/24".parse().expect("net"));
        list.push(ip("2001:db8::1"));
        list.swept.push((1, 2));
        assert_eq!(list.len(), 1 + 256 + 1 + 2);
        assert_eq!(list.into_set().len(), 256 + 1 + 2);
    }
}
