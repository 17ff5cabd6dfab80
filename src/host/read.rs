//! The facts of the running kernel, from netlink and `/proc`.

use std::fs;
use std::io;

use crate::sys::netlink::Netlink;
use crate::sys::rtnetlink::{self, AddressEntry, LinkEntry, NeighbourEntry, RouteEntry};

use super::{
    Host, HostError, Interface, InterfaceAddress, InterfaceKind, Neighbour, Route, RouteKind, Table,
};

pub(super) fn host() -> Result<Host, HostError> {
    let failed = |operation| move |source| HostError::Read { operation, source };
    let mut netlink = Netlink::open().map_err(failed("open a netlink socket"))?;
    let links = rtnetlink::links(&mut netlink).map_err(failed("list interfaces"))?;
    let addresses = rtnetlink::addresses(&mut netlink).map_err(failed("list addresses"))?;
    let routes = rtnetlink::routes(&mut netlink).map_err(failed("list routes"))?;
    let neighbours = rtnetlink::neighbours(&mut netlink).map_err(failed("list neighbours"))?;
    let ports = fs::read_to_string(PORT_RANGE)
        .and_then(|text| port_range(&text).ok_or_else(|| io::ErrorKind::InvalidData.into()))
        .map_err(failed("read /proc/sys/net/ipv4/ip_local_port_range"))?;
    let status =
        fs::read_to_string("/proc/thread-self/status").map_err(failed("read /proc/thread-self/status"))?;
    Ok(Host {
        interfaces: links.into_iter().map(|link| interface(link, &addresses)).collect(),
        routes: routes.into_iter().filter_map(route).collect(),
        neighbours: neighbours.into_iter().filter_map(neighbour).collect(),
        local_port_range: ports,
        can_send_raw: effective_capabilities(&status) & (1 << CAP_NET_RAW) != 0,
    })
}

fn interface(link: LinkEntry, addresses: &[AddressEntry]) -> Interface {
    let mut own: Vec<&AddressEntry> = addresses
        .iter()
        .filter(|entry| entry.index == link.index && entry.flags & (TENTATIVE | DUPLICATE) == 0)
        .collect();
    // Stable: among equals the kernel's own order is its order of preference.
    own.sort_by_key(|entry| (entry.flags & DEPRECATED != 0, entry.flags & SECONDARY != 0));
    Interface {
        index: link.index,
        kind: kind(link.kind),
        mac: link.mac.unwrap_or_default(),
        mtu: link.mtu,
        up: link.flags & UP != 0,
        carrier: link.flags & LOWER_UP != 0,
        point_to_point: link.flags & POINT_TO_POINT != 0,
        addresses: own
            .iter()
            .map(|entry| InterfaceAddress { address: entry.address, prefix: entry.prefix })
            .collect(),
        name: link.name,
    }
}

/// GRE devices are left out: some of them put a header of their own before the IP header.
fn kind(number: u16) -> InterfaceKind {
    match number {
        libc::ARPHRD_ETHER => InterfaceKind::Ethernet,
        libc::ARPHRD_LOOPBACK => InterfaceKind::Loopback,
        libc::ARPHRD_NONE
        | libc::ARPHRD_PPP
        | libc::ARPHRD_TUNNEL
        | libc::ARPHRD_TUNNEL6
        | libc::ARPHRD_SIT
        | ARPHRD_RAWIP => InterfaceKind::Bare,
        other => InterfaceKind::Other(other),
    }
}

fn route(entry: RouteEntry) -> Option<Route> {
    let table = match entry.table {
        255 => Table::Local,
        254 => Table::Main,
        253 => Table::Default,
        _ => return None,
    };
    // A dead path carries nothing; a cloned route is a cache entry of the kernel's.
    if entry.flags & (RTNH_F_DEAD | RTM_F_CLONED) != 0 {
        return None;
    }
    let kind = match entry.kind {
        libc::RTN_UNICAST => RouteKind::Unicast,
        // Anycast addresses are this machine's own (the subnet-router addresses of IPv6).
        libc::RTN_LOCAL | libc::RTN_ANYCAST => RouteKind::Local,
        libc::RTN_BROADCAST => RouteKind::Broadcast,
        libc::RTN_MULTICAST => RouteKind::Multicast,
        _ => RouteKind::Refused,
    };
    Some(Route {
        destination: entry.destination,
        prefix: entry.prefix,
        gateway: entry.gateway.filter(|gateway| !gateway.is_unspecified()),
        interface: entry.interface,
        source: entry.source,
        metric: entry.metric,
        kind,
        table,
    })
}

fn neighbour(entry: NeighbourEntry) -> Option<Neighbour> {
    let usable = libc::NUD_REACHABLE
        | libc::NUD_STALE
        | libc::NUD_DELAY
        | libc::NUD_PROBE
        | libc::NUD_PERMANENT
        | libc::NUD_NOARP;
    Some(Neighbour {
        address: entry.address,
        interface: entry.index,
        mac: entry.mac?,
        usable: entry.state & usable != 0,
    })
}

/// Two numbers, first and last.
fn port_range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    let (first, last) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (first <= last).then_some((first, last))
}

/// The `CapEff` line of `/proc/PID/status`; none when it is not there.
fn effective_capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// linux/capability.h
const CAP_NET_RAW: u32 = 13;
// linux/if.h
const UP: u32 = libc::IFF_UP as u32;
const POINT_TO_POINT: u32 = libc::IFF_POINTOPOINT as u32;
const LOWER_UP: u32 = 1 << 16;
// linux/if_addr.h
const SECONDARY: u32 = 0x01;
const DUPLICATE: u32 = 0x08;
const DEPRECATED: u32 = 0x20;
const TENTATIVE: u32 = 0x40;
// linux/rtnetlink.h
const RTNH_F_DEAD: u32 = 1;
const RTM_F_CLONED: u32 = 0x200;
// linux/if_arp.h
const ARPHRD_RAWIP: u16 = 519;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_a_loopback_device_with_its_address() {
        let host = Host::read().expect("facts");
        let loopback = host.loopback().expect("a loopback device");
        assert_eq!(loopback.name, "lo");
        assert!(host.local_port_range.0 < host.local_port_range.1);
    }

    #[test]
    fn a_port_range_is_two_numbers_in_order() {
        assert_eq!(port_range("32768\t60999\n"), Some((32768, 60999)));
        for bad in ["", "1", "2 1", "1 65536", "x y"] {
            assert_eq!(port_range(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn capabilities_are_read_from_the_effective_set() {
        assert_eq!(effective_capabilities("CapPrm:\tffff\nCapEff:\t0000000000002000\n"), 1 << CAP_NET_RAW);
        assert_eq!(effective_capabilities("CapPrm:\tffff\n"), 0);
    }
}
