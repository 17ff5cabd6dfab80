//! Which way one address is reached: the kernel's lookup, on plain data.
//!
//! The order is that of `fib_lookup` (`net/ipv4/fib_frontend.c`) with the standard rules: table local, then main,
//! then default; in each the longest prefix, then the lowest metric.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    Hop, Host, HostError, Interface, InterfaceKind, IpFamily, Reach, Route, RouteKind, Routing, Selection,
    segment,
};

impl Host {
    /// How `address` is reached, over the named interface if one is named.
    ///
    /// This machine's own addresses are reached over the loopback device whatever interface is named.
    ///
    /// # Errors
    /// Names what is missing: the interface, a route, a source address.
    pub fn route_to(&self, address: IpAddr, interface: Option<&str>) -> Result<Routing, HostError> {
        let forced = interface.map(|name| self.interface(name)).transpose()?;
        if let Some(down) = forced.filter(|interface| !interface.up) {
            return Err(HostError::InterfaceDown { name: down.name.clone() });
        }
        if segment::is_group(address) {
            return Err(HostError::ManyStations { address });
        }
        let no_route = || HostError::NoRoute { address, interface: interface.map(str::to_owned) };
        let route = self.best_route(address, forced.map(|interface| interface.index)).ok_or_else(no_route)?;
        match route.kind {
            RouteKind::Refused => {
                let (destination, prefix) = (route.destination, route.prefix);
                return Err(HostError::Refused { address, destination, prefix });
            }
            RouteKind::Broadcast | RouteKind::Multicast => return Err(HostError::ManyStations { address }),
            RouteKind::Unicast | RouteKind::Local => {}
        }
        let outgoing = match route.kind {
            RouteKind::Local => self.loopback(),
            _ => route.interface.and_then(|index| self.interface_at(index)),
        };
        let outgoing = outgoing.ok_or_else(no_route)?;
        if !outgoing.up {
            return Err(HostError::InterfaceDown { name: outgoing.name.clone() });
        }
        let hop = hop(route, outgoing).ok_or_else(no_route)?;
        if hop == Hop::OnLink && segment::is_edge(outgoing, address) {
            return Err(HostError::ManyStations { address });
        }
        let source = source(route, outgoing, address).ok_or_else(|| HostError::NoAddress {
            name: outgoing.name.clone(),
            family: IpFamily::of(address),
        })?;
        Ok(Routing { interface: outgoing.index, source, hop })
    }

    /// The route the kernel would take; with an interface, the one it would take if bound to it.
    fn best_route(&self, address: IpAddr, interface: Option<u32>) -> Option<&Route> {
        let candidates =
            self.routes.iter().filter(|route| covers(route, address) && applies(route, interface));
        candidates.min_by_key(|route| (route.table, 128 - route.prefix.min(128), route.metric))
    }

    /// What a route means for packets that are to leave on `interface`.
    pub(super) fn reach(&self, route: &Route, interface: &Interface, selection: Selection) -> Option<Reach> {
        let forced = match selection {
            Selection::Forced => Some(interface.index),
            Selection::ByRoute => None,
        };
        if !applies(route, forced) {
            return None;
        }
        Some(match route.kind {
            RouteKind::Local => Reach::Hop(Hop::Local),
            RouteKind::Refused => Reach::Unreachable,
            RouteKind::Broadcast | RouteKind::Multicast => Reach::ManyStations,
            RouteKind::Unicast if route.interface == Some(interface.index) => {
                hop(route, interface).map_or(Reach::Unreachable, Reach::Hop)
            }
            RouteKind::Unicast => Reach::Elsewhere,
        })
    }
}

/// Whether a route counts for packets bound to an interface. What this machine owns, it owns on every interface;
/// a route that refuses, refuses everywhere.
fn applies(route: &Route, interface: Option<u32>) -> bool {
    match route.kind {
        RouteKind::Local | RouteKind::Refused => true,
        RouteKind::Unicast | RouteKind::Broadcast | RouteKind::Multicast => {
            interface.is_none() || route.interface == interface
        }
    }
}

/// None for a route over the loopback device to an address that is not this machine's: nobody would answer.
fn hop(route: &Route, interface: &Interface) -> Option<Hop> {
    match (route.kind, interface.kind) {
        (RouteKind::Local, _) => Some(Hop::Local),
        (_, InterfaceKind::Loopback) => None,
        (_, InterfaceKind::Bare) => Some(Hop::Bare),
        _ => Some(route.gateway.map_or(Hop::OnLink, Hop::Gateway)),
    }
}

/// The source address: what the route asks for, else the interface's address nearest to the next hop, as in
/// `inet_select_addr` (`net/ipv4/devinet.c`) and, in short, RFC 6724 section 5 (scope, then longest prefix).
/// A local address without a preferred source answers itself (`net/ipv4/route.c`, `ip_route_output_key_hash_rcu`).
fn source(route: &Route, interface: &Interface, address: IpAddr) -> Option<IpAddr> {
    if let Some(source) = route.source.filter(|source| source.is_ipv4() == address.is_ipv4()) {
        return Some(source);
    }
    if route.kind == RouteKind::Local {
        return Some(address);
    }
    let near = route.gateway.filter(|gateway| gateway.is_ipv4() == address.is_ipv4()).unwrap_or(address);
    let same_family = interface.addresses.iter().filter(|own| own.address.is_ipv4() == address.is_ipv4());
    let rank = |own: IpAddr, prefix: u8| match (own, near) {
        (IpAddr::V4(own), IpAddr::V4(near)) => {
            u32::from(u32::from(prefix) <= (u32::from(own) ^ u32::from(near)).leading_zeros())
        }
        (IpAddr::V6(own), _) => rank_v6(own, address),
        _ => 0,
    };
    // `max_by_key` returns the last of equals; the list stands in order of preference, so it is walked backwards.
    same_family.rev().max_by_key(|own| rank(own.address, own.prefix)).map(|own| own.address)
}

/// Same scope counts more than any common prefix.
fn rank_v6(own: Ipv6Addr, destination: IpAddr) -> u32 {
    let IpAddr::V6(destination) = destination else { return 0 };
    let same_scope = own.is_unicast_link_local() == destination.is_unicast_link_local();
    u32::from(same_scope) * 256 + (u128::from(own) ^ u128::from(destination)).leading_zeros()
}

/// Whether the prefix of a route holds an address.
pub(super) fn covers(route: &Route, address: IpAddr) -> bool {
    match (route.destination, address) {
        (IpAddr::V4(first), IpAddr::V4(address)) => within_v4(first, route.prefix, address),
        (IpAddr::V6(first), IpAddr::V6(address)) => within_v6(first, route.prefix, address),
        _ => false,
    }
}

fn within_v4(first: Ipv4Addr, prefix: u8, address: Ipv4Addr) -> bool {
    u32::from(prefix) <= (u32::from(first) ^ u32::from(address)).leading_zeros()
}

fn within_v6(first: Ipv6Addr, prefix: u8, address: Ipv6Addr) -> bool {
    u32::from(prefix) <= (u128::from(first) ^ u128::from(address)).leading_zeros()
}
