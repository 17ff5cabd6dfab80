//! The routing tables of the kernel as plain values: links, addresses, routes, neighbours
//! (`linux/rtnetlink.h`, `linux/if_link.h`, `linux/if_addr.h`, `linux/neighbour.h`).
//!
//! Attributes that are not known are skipped, messages that are too short are no entries, so newer kernels do no
//! harm.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::netlink::{Listener, Message, Netlink, attributes, u16_at, u32_at};

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkEntry {
    /// Its index.
    pub index: u32,
    /// What its link layer is (`ARPHRD_*`).
    pub kind: u16,
    /// `IFF_*`.
    pub flags: u32,
    /// Largest network packet in bytes.
    pub mtu: u32,
    /// Its name; bytes that are no UTF-8 are replaced.
    pub name: String,
    /// Its link-layer address, where that has 6 bytes.
    pub mac: Option<[u8; 6]>,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressEntry {
    /// Index of the interface.
    pub index: u32,
    /// The address of this end.
    pub address: IpAddr,
    /// Length of its prefix in bits.
    pub prefix: u8,
    /// `IFA_F_*`.
    pub flags: u32,
}

/// A route, or one path of a route over several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteEntry {
    /// First address of its prefix.
    pub destination: IpAddr,
    /// Length of the prefix in bits.
    pub prefix: u8,
    /// `RTN_*`.
    pub kind: u8,
    /// Number of its table.
    pub table: u32,
    /// `RTM_F_*` and `RTNH_F_*`.
    pub flags: u32,
    /// The router.
    pub gateway: Option<IpAddr>,
    /// Index of the interface it leads over.
    pub interface: Option<u32>,
    /// The source address it asks for.
    pub source: Option<IpAddr>,
    /// Its metric.
    pub metric: u32,
}

/// An entry of the neighbour table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourEntry {
    /// Index of the interface.
    pub index: u32,
    /// `NUD_*`.
    pub state: u16,
    /// Its network address.
    pub address: IpAddr,
    /// Its link-layer address, where known and of 6 bytes.
    pub mac: Option<[u8; 6]>,
}

/// All interfaces.
///
/// # Errors
/// What the kernel answers; so with the other tables.
pub fn links(netlink: &mut Netlink) -> io::Result<Vec<LinkEntry>> {
    netlink.dump(libc::RTM_GETLINK, 0, |body, links| links.extend(parse_link(body)))
}

/// The received frames that the driver of an interface had no room for: `rx_over_errors`, `rx_fifo_errors` and
/// `rx_missed_errors`; `None` when it does not tell. Not `rx_dropped`: the kernel counts frames of protocols nobody listens for
/// there.
///
/// # Errors
/// As [`links`].
pub fn receive_losses(netlink: &mut Netlink, index: u32) -> io::Result<Option<u64>> {
    let mut losses = None;
    netlink.link(index, |body| losses = parse_counters(body, &RECEIVE_LOSSES))?;
    Ok(losses)
}

/// The frames an interface has sent (`tx_packets`); `None` when it does not tell.
///
/// # Errors
/// As [`links`].
pub fn sent_frames(netlink: &mut Netlink, index: u32) -> io::Result<Option<u64>> {
    let mut frames = None;
    netlink.link(index, |body| frames = parse_counters(body, &[TX_PACKETS]))?;
    Ok(frames)
}

/// All addresses.
///
/// # Errors
/// As [`links`].
pub fn addresses(netlink: &mut Netlink) -> io::Result<Vec<AddressEntry>> {
    netlink.dump(libc::RTM_GETADDR, 0, |body, addresses| addresses.extend(parse_address(body)))
}

/// All routes of all tables, IPv4 and IPv6.
///
/// # Errors
/// As [`links`].
pub fn routes(netlink: &mut Netlink) -> io::Result<Vec<RouteEntry>> {
    let mut routes = netlink.dump(libc::RTM_GETROUTE, V4, parse_route)?;
    routes.extend(netlink.dump(libc::RTM_GETROUTE, V6, parse_route)?);
    Ok(routes)
}

/// The neighbour table.
///
/// # Errors
/// As [`links`].
pub fn neighbours(netlink: &mut Netlink) -> io::Result<Vec<NeighbourEntry>> {
    netlink.dump(libc::RTM_GETNEIGH, 0, |body, neighbours| neighbours.extend(parse_neighbour(body)))
}

/// Something that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An interface is as said.
    Link(LinkEntry),
    /// The interface with this index is gone.
    LinkGone(u32),
    /// An address was removed.
    AddressGone(AddressEntry),
    /// A route was added, changed or removed.
    Route(RouteEntry),
    /// A neighbour is as said.
    Neighbour(NeighbourEntry),
    /// More changed than could be told.
    Lost,
}

/// Opens a socket that hears of links, addresses, routes and neighbours.
///
/// # Errors
/// What the kernel says.
pub fn listen() -> io::Result<Listener> {
    let groups = libc::RTMGRP_LINK
        | libc::RTMGRP_NEIGH
        | libc::RTMGRP_IPV4_IFADDR
        | libc::RTMGRP_IPV6_IFADDR
        | libc::RTMGRP_IPV4_ROUTE
        | libc::RTMGRP_IPV6_ROUTE;
    Listener::open(groups as u32)
}

/// What changed, waiting for it at most `timeout_ms`.
///
/// # Errors
/// When the socket is broken.
pub fn changes(listener: &mut Listener, timeout_ms: i32) -> io::Result<Vec<Change>> {
    let mut changes = Vec::new();
    match listener.hear(timeout_ms, |message| parse_change(&message, &mut changes)) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changes.push(Change::Lost),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => {}
        Err(error) => return Err(error),
    }
    Ok(changes)
}

fn parse_change(message: &Message<'_>, changes: &mut Vec<Change>) {
    let body = message.body;
    match message.kind {
        libc::RTM_NEWLINK => changes.extend(parse_link(body).map(Change::Link)),
        libc::RTM_DELLINK => changes.extend(parse_link(body).map(|link| Change::LinkGone(link.index))),
        libc::RTM_DELADDR => changes.extend(parse_address(body).map(Change::AddressGone)),
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {
            let mut routes = Vec::new();
            parse_route(body, &mut routes);
            changes.extend(routes.into_iter().map(Change::Route));
        }
        libc::RTM_NEWNEIGH => changes.extend(parse_neighbour(body).map(Change::Neighbour)),
        _ => {}
    }
}

/// `struct ifinfomsg` and its attributes.
fn parse_link(body: &[u8]) -> Option<LinkEntry> {
    let mut link = LinkEntry {
        kind: u16_at(body, 2)?,
        index: u32_at(body, 4)?,
        flags: u32_at(body, 8)?,
        mtu: 0,
        name: String::new(),
        mac: None,
    };
    for (kind, value) in attributes(body.get(16..)?) {
        match kind {
            libc::IFLA_ADDRESS => link.mac = value.try_into().ok(),
            libc::IFLA_IFNAME => {
                let name = value.strip_suffix(&[0]).unwrap_or(value);
                link.name = String::from_utf8_lossy(name).into_owned();
            }
            libc::IFLA_MTU => link.mtu = u32_at(value, 0).unwrap_or(0),
            _ => {}
        }
    }
    Some(link)
}

/// `struct ifinfomsg` and, among its attributes, `struct rtnl_link_stats64`: the sum of some of its counters.
fn parse_counters(body: &[u8], wanted: &[usize]) -> Option<u64> {
    let (_, statistics) = attributes(body.get(16..)?).find(|(kind, _)| *kind == libc::IFLA_STATS64)?;
    let counters = statistics.as_chunks::<8>().0;
    let counter = |index: usize| counters.get(index).map_or(0, |bytes| u64::from_ne_bytes(*bytes));
    Some(wanted.iter().map(|&index| counter(index)).fold(0, u64::saturating_add))
}

/// `struct ifaddrmsg` and its attributes.
fn parse_address(body: &[u8]) -> Option<AddressEntry> {
    let &[family, prefix, flags, _scope, ..] = body else { return None };
    let (mut address, mut local, mut flags) = (None, None, u32::from(flags));
    for (kind, value) in attributes(body.get(8..)?) {
        match kind {
            libc::IFA_ADDRESS => address = ip(family, value),
            // On a point-to-point link IFA_ADDRESS is the other end.
            libc::IFA_LOCAL => local = ip(family, value),
            IFA_FLAGS => flags = u32_at(value, 0).unwrap_or(flags),
            _ => {}
        }
    }
    let address = local.or(address)?;
    Some(AddressEntry { index: u32_at(body, 4)?, address, prefix: prefix.min(bits(address)), flags })
}

/// `struct rtmsg` and its attributes. A route over several paths becomes one entry per path.
fn parse_route(body: &[u8], routes: &mut Vec<RouteEntry>) {
    let &[family, prefix, _, _, table, _, _, kind, ..] = body else { return };
    let (Some(flags), Some(rest), Some(any)) = (u32_at(body, 8), body.get(12..), unspecified(family)) else {
        return;
    };
    let mut route = RouteEntry {
        destination: any,
        prefix: prefix.min(bits(any)),
        kind,
        table: u32::from(table),
        flags,
        gateway: None,
        interface: None,
        source: None,
        metric: 0,
    };
    let mut paths: &[u8] = &[];
    for (kind, value) in attributes(rest) {
        match kind {
            libc::RTA_DST => {
                let Some(destination) = ip(family, value) else { return };
                route.destination = destination;
            }
            libc::RTA_PREFSRC => route.source = ip(family, value),
            libc::RTA_PRIORITY => route.metric = u32_at(value, 0).unwrap_or(0),
            libc::RTA_TABLE => route.table = u32_at(value, 0).unwrap_or(route.table),
            libc::RTA_OIF => route.interface = u32_at(value, 0),
            libc::RTA_MULTIPATH => paths = value,
            _ => route.gateway = gateway(family, kind, value).or(route.gateway),
        }
    }
    if paths.is_empty() {
        routes.push(route);
    }
    routes.extend(parse_paths(family, paths).map(|path| RouteEntry {
        gateway: path.gateway,
        interface: Some(path.interface),
        flags: route.flags | path.flags,
        ..route
    }));
}

struct Path {
    interface: u32,
    flags: u32,
    gateway: Option<IpAddr>,
}

/// A sequence of `struct rtnexthop`, each with attributes of its own.
fn parse_paths(family: u8, mut bytes: &[u8]) -> impl Iterator<Item = Path> + '_ {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let path = bytes.get(..length)?;
        let gateway = attributes(path.get(8..)?).find_map(|(kind, value)| gateway(family, kind, value));
        let interface = u32_at(path, 4)?;
        let flags = u32::from(path[2]);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Path { interface, flags, gateway })
    })
}

/// A router of the route's own family (RTA_GATEWAY) or of any (RTA_VIA: a family, then an address).
fn gateway(family: u8, kind: u16, value: &[u8]) -> Option<IpAddr> {
    match kind {
        libc::RTA_GATEWAY => ip(family, value),
        RTA_VIA => ip(u8::try_from(u16_at(value, 0)?).ok()?, value.get(2..)?),
        _ => None,
    }
}

/// `struct ndmsg` and its attributes.
fn parse_neighbour(body: &[u8]) -> Option<NeighbourEntry> {
    let &[family, ..] = body else { return None };
    let (mut address, mut mac) = (None, None);
    for (kind, value) in attributes(body.get(12..)?) {
        match kind {
            NDA_DST => address = ip(family, value),
            NDA_LLADDR => mac = value.try_into().ok(),
            _ => {}
        }
    }
    Some(NeighbourEntry { index: u32_at(body, 4)?, state: u16_at(body, 8)?, address: address?, mac })
}

fn ip(family: u8, value: &[u8]) -> Option<IpAddr> {
    match family {
        V4 => <[u8; 4]>::try_from(value).ok().map(|octets| IpAddr::V4(Ipv4Addr::from(octets))),
        V6 => <[u8; 16]>::try_from(value).ok().map(|octets| IpAddr::V6(Ipv6Addr::from(octets))),
        _ => None,
    }
}

fn unspecified(family: u8) -> Option<IpAddr> {
    match family {
        V4 => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        V6 => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        _ => None,
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

const V4: u8 = libc::AF_INET as u8;
const V6: u8 = libc::AF_INET6 as u8;
const IFA_FLAGS: u16 = 8;
const RTA_VIA: u16 = 18;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
/// Places in `struct rtnl_link_stats64`.
const TX_PACKETS: usize = 1;
/// `rx_over_errors`, `rx_fifo_errors`, `rx_missed_errors`.
const RECEIVE_LOSSES: [usize; 3] = [11, 14, 15];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(((4 + value.len()) as u16).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_route_over_two_paths_becomes_two_routes() {
        let mut path_1 = vec![16, 0, 0, 0, 3, 0, 0, 0];
        path_1.extend(attribute(libc::RTA_GATEWAY, &[192, 0, 2, 1]));
        let mut path_2 = vec![32, 0, 1, 0, 4, 0, 0, 0];
        let mut via = vec![10, 0];
        via.extend(Ipv6Addr::LOCALHOST.octets());
        path_2.extend(attribute(RTA_VIA, &via));
        let mut body = vec![V4, 24, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
        body.extend(attribute(libc::RTA_DST, &[198, 51, 100, 0]));
        body.extend(attribute(libc::RTA_PRIORITY, &100u32.to_ne_bytes()));
        body.extend(attribute(libc::RTA_MULTIPATH, &[path_1, path_2].concat()));
        if cfg!(target_endian = "big") {
            return;
        }
        let mut routes = Vec::new();
        parse_route(&body, &mut routes);
        assert_eq!(routes.len(), 2);
        assert_eq!(routes[0].gateway, Some("192.0.2.1".parse().expect("address")));
        assert_eq!((routes[0].interface, routes[0].metric, routes[0].flags), (Some(3), 100, 0));
        assert_eq!(routes[1].gateway, Some("::1".parse().expect("address")));
        assert_eq!((routes[1].interface, routes[1].flags, routes[1].prefix), (Some(4), 1, 24));
    }

    #[test]
    fn counters_of_an_interface_are_told_apart_and_summed() {
        let statistics: Vec<u8> = (0..25).flat_map(|index| (1u64 << index).to_ne_bytes()).collect();
        let mut body = vec![0; 16];
        body[4..8].copy_from_slice(&7u32.to_ne_bytes());
        body.extend(attribute(libc::IFLA_MTU, &1500u32.to_ne_bytes()));
        body.extend(attribute(libc::IFLA_STATS64, &statistics));
        assert_eq!(parse_counters(&body, &RECEIVE_LOSSES), Some(1 << 11 | 1 << 14 | 1 << 15));
        assert_eq!(parse_counters(&body, &[TX_PACKETS]), Some(1 << 1));
        assert_eq!(parse_counters(&body[..20], &RECEIVE_LOSSES), None);
    }

    #[test]
    fn the_address_of_a_point_to_point_link_is_that_of_this_end() {
        let mut body = vec![V4, 32, 0, 0, 7, 0, 0, 0];
        body.extend(attribute(libc::IFA_ADDRESS, &[192, 0, 2, 2]));
        body.extend(attribute(libc::IFA_LOCAL, &[192, 0, 2, 1]));
        let entry = parse_address(&body).expect("an address");
        assert_eq!(entry.address, "192.0.2.1".parse::<IpAddr>().expect("address"));
    }

    proptest! {
        #[test]
        fn random_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse_everything(&bytes);
        }

        #[test]
        fn random_attributes_behind_a_family_do_not_panic(
            family in prop_oneof![Just(V4), Just(V6), any::<u8>()],
            head in proptest::collection::vec(any::<u8>(), 7..16),
            kinds in proptest::collection::vec((0u16..24, proptest::collection::vec(any::<u8>(), 0..24)), 0..8),
        ) {
            let mut body = vec![family];
            body.extend(head);
            for (kind, value) in kinds {
                body.extend(attribute(kind, &value));
            }
            parse_everything(&body);
        }
    }

    fn parse_everything(body: &[u8]) {
        parse_link(body);
        parse_counters(body, &RECEIVE_LOSSES);
        parse_neighbour(body);
        if let Some(entry) = parse_address(body) {
            assert!(entry.prefix <= bits(entry.address));
        }
        for kind in 0..64 {
            parse_change(&Message { kind, flags: 0, sequence: 0, body }, &mut Vec::new());
        }
        let mut routes = Vec::new();
        parse_route(body, &mut routes);
        assert!(routes.iter().all(|route| route.prefix <= bits(route.destination)));
    }

    #[test]
    fn the_kernel_says_that_127_0_0_1_is_ours() {
        let mut netlink = Netlink::open().expect("netlink");
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let entries = addresses(&mut netlink).expect("a table of addresses");
        assert!(entries.iter().any(|entry| entry.address == loopback && entry.prefix == 8));
        let entries = routes(&mut netlink).expect("a table of routes");
        assert!(entries.iter().any(|route| route.destination == loopback && route.table == 255));
    }
}
