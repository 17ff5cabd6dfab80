//! The whole address space as sorted ranges that say who gets the frame: what the transmitter looks up for every
//! destination.
//!
//! Routes are painted over each other from the weakest to the strongest, so the map says for every address what
//! [`Host::route_to`] would say, in time proportional to the number of routes times its logarithm.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Hop, Host, Interface, InterfaceKind, Route};

/// A range of addresses that are all reached in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<T> {
    /// First address, as a number in host byte order.
    pub first: T,
    /// Last address.
    pub last: T,
    /// How they are reached.
    pub reach: Reach,
}

/// How an address is reached over one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// The frame is sent to this hop.
    Hop(Hop),
    /// The address means many stations: a group, or the network or broadcast address of a prefix on this link.
    ManyStations,
    /// The routes lead over another interface.
    Elsewhere,
    /// No route, or one that refuses.
    Unreachable,
}

/// How an interface was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// The routes decided: an address whose best route leads over another interface is [`Reach::Elsewhere`].
    ByRoute,
    /// The user named it: routes over other interfaces do not count.
    Forced,
}

impl Host {
    /// The IPv4 space in disjoint sorted ranges without gaps, as reached over `interface`.
    pub fn segments_v4(&self, interface: &Interface, selection: Selection) -> Vec<Segment<u32>> {
        let mut canvas = Canvas::new(u32::MAX);
        for (route, reach) in self.strongest_last(interface, selection) {
            if let IpAddr::V4(first) = route.destination {
                let (first, last) = range_v4(u32::from(first), route.prefix);
                canvas.paint(first, last, reach);
            }
        }
        for (first, last) in edges(interface) {
            for edge in [first, last] {
                if canvas.at(edge) == Reach::Hop(Hop::OnLink) {
                    canvas.paint(edge, edge, Reach::ManyStations);
                }
            }
        }
        let [groups, broadcast] = GROUPS_V4;
        canvas.paint(groups.0, groups.1, Reach::ManyStations);
        canvas.paint(broadcast.0, broadcast.1, Reach::ManyStations);
        canvas.segments()
    }

    /// The IPv6 space in disjoint sorted ranges without gaps, as reached over `interface`.
    pub fn segments_v6(&self, interface: &Interface, selection: Selection) -> Vec<Segment<u128>> {
        let mut canvas = Canvas::new(u128::MAX);
        for (route, reach) in self.strongest_last(interface, selection) {
            if let IpAddr::V6(first) = route.destination {
                let (first, last) = range_v6(u128::from(first), route.prefix);
                canvas.paint(first, last, reach);
            }
        }
        canvas.paint(GROUPS_V6.0, GROUPS_V6.1, Reach::ManyStations);
        canvas.segments()
    }

    /// The routes that count for an interface, in the order in which they are painted.
    fn strongest_last(&self, interface: &Interface, selection: Selection) -> Vec<(&Route, Reach)> {
        let mut routes: Vec<(&Route, Reach)> = self
            .routes
            .iter()
            .filter_map(|route| self.reach(route, interface, selection).map(|reach| (route, reach)))
            .collect();
        // The first of equal routes must win, so it is painted last: a stable sort of the reversed list.
        routes.reverse();
        routes.sort_by_key(|(route, _)| {
            std::cmp::Reverse((route.table, 128 - route.prefix.min(128), route.metric))
        });
        routes
    }
}

/// The segment that holds an address; the segments must be those of [`Host::segments_v4`] or
/// [`Host::segments_v6`], which leave no gap.
#[inline]
pub fn reach_of<T: Copy + Ord>(segments: &[Segment<T>], address: T) -> Reach {
    let after = segments.partition_point(|segment| segment.first <= address);
    after.checked_sub(1).map_or(Reach::Unreachable, |index| segments[index].reach)
}

/// Whether an address means many stations whatever the routes say.
pub(super) fn is_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            GROUPS_V4.iter().any(|&(first, last)| (first..=last).contains(&address.into()))
        }
        IpAddr::V6(address) => (GROUPS_V6.0..=GROUPS_V6.1).contains(&address.into()),
    }
}

/// Whether an address is the network or broadcast address of a prefix of an interface's own.
pub(super) fn is_edge(interface: &Interface, address: IpAddr) -> bool {
    let IpAddr::V4(address) = address else { return false };
    edges(interface).any(|(first, last)| u32::from(address) == first || u32::from(address) == last)
}

/// First and last address of each prefix of an Ethernet interface: RFC 922 section 7. Prefixes of 31 and 32 bits
/// have neither (RFC 3021).
fn edges(interface: &Interface) -> impl Iterator<Item = (u32, u32)> + '_ {
    let addresses = if interface.kind == InterfaceKind::Ethernet { &interface.addresses[..] } else { &[] };
    addresses.iter().filter_map(|own| match (own.address, own.prefix) {
        (IpAddr::V4(address), 1..=30) => Some(range_v4(u32::from(address), own.prefix)),
        _ => None,
    })
}

fn range_v4(address: u32, prefix: u8) -> (u32, u32) {
    let host = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    (address & !host, address | host)
}

fn range_v6(address: u128, prefix: u8) -> (u128, u128) {
    let host = u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    (address & !host, address | host)
}

/// A space painted with reaches: each key begins a range that lasts until the next key.
struct Canvas<T> {
    starts: BTreeMap<T, Reach>,
    end: T,
}

impl<T: Number> Canvas<T> {
    fn new(end: T) -> Canvas<T> {
        Canvas { starts: BTreeMap::from([(T::default(), Reach::Unreachable)]), end }
    }

    fn paint(&mut self, first: T, last: T, reach: Reach) {
        if last < self.end {
            let after = last.next();
            let below = self.at(after);
            self.starts.insert(after, below);
        }
        let covered: Vec<T> = self.starts.range(first..=last).map(|(&start, _)| start).collect();
        for start in covered {
            self.starts.remove(&start);
        }
        self.starts.insert(first, reach);
    }

    fn at(&self, address: T) -> Reach {
        *self.starts.range(..=address).next_back().expect("zero is always a key").1
    }

    fn segments(self) -> Vec<Segment<T>> {
        let mut segments: Vec<Segment<T>> = Vec::new();
        for (first, reach) in self.starts {
            match segments.last_mut() {
                Some(segment) if segment.reach == reach => {}
                Some(segment) => {
                    segment.last = first.previous();
                    segments.push(Segment { first, last: self.end, reach });
                }
                None => segments.push(Segment { first, last: self.end, reach }),
            }
        }
        segments
    }
}

/// What the canvas needs of an address.
trait Number: Copy + Ord + Default {
    fn next(self) -> Self;
    fn previous(self) -> Self;
}

impl Number for u32 {
    fn next(self) -> u32 {
        self.saturating_add(1)
    }
    fn previous(self) -> u32 {
        self.saturating_sub(1)
    }
}

impl Number for u128 {
    fn next(self) -> u128 {
        self.saturating_add(1)
    }
    fn previous(self) -> u128 {
        self.saturating_sub(1)
    }
}

/// Groups and the limited broadcast: RFC 1112 section 4, RFC 919 section 7.
const GROUPS_V4: [(u32, u32); 2] = [(0xe000_0000, 0xefff_ffff), (u32::MAX, u32::MAX)];

/// Groups are ff00::/8: RFC 4291 section 2.7.
const GROUPS_V6: (u128, u128) = (0xff << 120, u128::MAX);
