//! Hosts that do not exist, and what follows from their routes.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

fn interface(index: u32, name: &str, kind: InterfaceKind, addresses: &[(&str, u8)]) -> Interface {
    Interface {
        name: name.to_owned(),
        index,
        kind,
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1500,
        up: true,
        carrier: true,
        point_to_point: false,
        addresses: addresses
            .iter()
            .map(|&(address, prefix)| InterfaceAddress { address: ip(address), prefix })
            .collect(),
    }
}

/// `kind table destination/prefix interface` with the rest at its default.
fn route(kind: RouteKind, table: Table, destination: &str, index: u32) -> Route {
    let (destination, prefix) = destination.split_once('/').expect("a prefix");
    Route {
        destination: ip(destination),
        prefix: prefix.parse().expect("a prefix"),
        gateway: None,
        interface: Some(index),
        source: None,
        metric: 0,
        kind,
        table,
    }
}

fn via(gateway: &str, destination: &str, index: u32, metric: u32) -> Route {
    let route = route(RouteKind::Unicast, Table::Main, destination, index);
    Route { gateway: Some(ip(gateway)), metric, ..route }
}

/// lo, eth0 with two IPv4 prefixes and IPv6, a tunnel, and an interface that is down.
fn host() -> Host {
    use RouteKind::{Local, Unicast};
    let mut down = interface(4, "eth1", InterfaceKind::Ethernet, &[]);
    down.up = false;
    Host {
        interfaces: vec![
            interface(1, "lo", InterfaceKind::Loopback, &[("127.0.0.1", 8), ("::1", 128)]),
            interface(
                2,
                "eth0",
                InterfaceKind::Ethernet,
                &[("192.0.2.1", 24), ("198.51.100.1", 24), ("2001:db8::1", 64), ("fe80::1", 64)],
            ),
            interface(3, "tun0", InterfaceKind::Bare, &[("203.0.113.1", 32)]),
            down,
        ],
        routes: vec![
            route(Local, Table::Local, "127.0.0.0/8", 1),
            route(Local, Table::Local, "192.0.2.1/32", 2),
            route(Local, Table::Local, "203.0.113.1/32", 3),
            route(RouteKind::Broadcast, Table::Local, "192.0.2.255/32", 2),
            route(Unicast, Table::Main, "192.0.2.0/24", 2),
            route(Unicast, Table::Main, "198.51.100.0/24", 2),
            route(Unicast, Table::Main, "203.0.113.0/24", 3),
            via("192.0.2.254", "0.0.0.0/0", 2, 100),
            via("203.0.113.2", "0.0.0.0/0", 3, 200),
            via("198.51.100.254", "233.252.0.0/16", 2, 0),
            via("198.51.100.254", "20.0.0.0/8", 2, 0),
            Route { kind: RouteKind::Refused, interface: None, ..via("0.0.0.0", "20.1.0.0/16", 2, 0) },
            route(Unicast, Table::Main, "2001:db8::/64", 2),
            route(Unicast, Table::Main, "fe80::/64", 2),
            via("fe80::fe", "::/0", 2, 1024),
        ],
        ..Host::default()
    }
}

fn to(address: &str, interface: Option<&str>) -> (u32, String, Hop) {
    let routing = host().route_to(ip(address), interface).unwrap_or_else(|error| panic!("{error}"));
    (routing.interface, routing.source.to_string(), routing.hop)
}

#[test]
fn the_longest_prefix_wins_then_the_lowest_metric() {
    let gateway = |address| Hop::Gateway(ip(address));
    assert_eq!(to("192.0.2.9", None), (2, "192.0.2.1".into(), Hop::OnLink));
    assert_eq!(to("8.8.8.8", None), (2, "192.0.2.1".into(), gateway("192.0.2.254")));
    assert_eq!(to("8.8.8.8", Some("tun0")), (3, "203.0.113.1".into(), Hop::Bare));
    assert_eq!(to("203.0.113.9", None), (3, "203.0.113.1".into(), Hop::Bare));
    assert_eq!(to("203.0.113.9", Some("eth0")), (2, "192.0.2.1".into(), gateway("192.0.2.254")));
}

#[test]
fn the_source_is_the_address_nearest_to_the_next_hop() {
    assert_eq!(to("198.51.100.9", None).1, "198.51.100.1");
    assert_eq!(to("20.9.9.9", None).1, "198.51.100.1", "the gateway is in the second prefix");
    assert_eq!(to("2001:db8::9", None).1, "2001:db8::1");
    assert_eq!(
        to("2001:db8:9::9", None).1,
        "2001:db8::1",
        "a link-local gateway does not make the source so"
    );
    assert_eq!(to("fe80::9", None).1, "fe80::1");
}

#[test]
fn own_addresses_are_local_on_every_interface() {
    for interface in [None, Some("eth0"), Some("tun0"), Some("lo")] {
        assert_eq!(to("192.0.2.1", interface), (1, "192.0.2.1".into(), Hop::Local));
        assert_eq!(to("127.0.0.5", interface).2, Hop::Local);
    }
}

#[test]
fn what_is_missing_is_named() {
    let error = |host: &Host, address, interface| {
        host.route_to(ip(address), interface).expect_err("no way").to_string()
    };
    let mut host = host();
    assert_eq!(
        error(&host, "8.8.8.8", Some("eth9")),
        "no interface named 'eth9'; there are: lo, eth0, tun0, eth1"
    );
    assert_eq!(
        error(&host, "8.8.8.8", Some("eth1")),
        "interface eth1 is down; bring it up: ip link set eth1 up"
    );
    assert_eq!(error(&host, "8.8.8.8", Some("lo")), "no route to 8.8.8.8 on interface lo");
    assert_eq!(
        error(&host, "20.1.2.3", None),
        "the route to 20.1.2.3 refuses packets (20.1.0.0/16 is blackhole, unreachable or prohibit)"
    );
    assert_eq!(
        error(&host, "192.0.2.255", None),
        "192.0.2.255 is a broadcast or multicast address on this host"
    );
    host.interfaces[1].addresses.truncate(2);
    assert_eq!(
        error(&host, "2001:db8::9", None),
        "interface eth0 has no IPv6 address to send from; give it one, or name one with --source-ip"
    );
    host.routes.clear();
    assert_eq!(error(&host, "8.8.8.8", None), "no route to 8.8.8.8");
}

#[test]
fn the_map_of_an_interface_reads_like_its_routes() {
    let host = host();
    let eth0 = &host.interfaces[1];
    let segments = host.segments_v4(eth0, Selection::ByRoute);
    let at = |text: &str| match ip(text) {
        IpAddr::V4(address) => reach_of(&segments, address.into()),
        IpAddr::V6(_) => panic!("an IPv4 address"),
    };
    assert_eq!(at("192.0.2.0"), Reach::ManyStations);
    assert_eq!(at("192.0.2.1"), Reach::Hop(Hop::Local));
    assert_eq!(at("192.0.2.2"), Reach::Hop(Hop::OnLink));
    assert_eq!(at("192.0.2.255"), Reach::ManyStations);
    assert_eq!(at("198.51.100.255"), Reach::ManyStations, "though no route says so");
    assert_eq!(at("203.0.113.7"), Reach::Elsewhere);
    assert_eq!(at("20.1.0.0"), Reach::Unreachable);
    assert_eq!(at("20.2.0.0"), Reach::Hop(Hop::Gateway(ip("198.51.100.254"))));
    assert_eq!(at("233.252.0.1"), Reach::ManyStations);
    assert_eq!(at("240.0.0.1"), Reach::Hop(Hop::Gateway(ip("192.0.2.254"))));
    assert_eq!(at("255.255.255.255"), Reach::ManyStations);
    let loopback = host.segments_v4(&host.interfaces[0], Selection::Forced);
    assert_eq!(reach_of(&loopback, 0x7f00_0001), Reach::Hop(Hop::Local));
    assert_eq!(reach_of(&loopback, 0x0808_0808), Reach::Unreachable);
}

#[test]
fn a_full_table_is_mapped_in_a_moment() {
    let mut host = host();
    host.routes.extend((0u32..500_000).map(|number| Route {
        destination: IpAddr::from((0x0100_0000 + number * 256).to_be_bytes()),
        prefix: 24,
        gateway: Some(IpAddr::from([192, 0, 2, 2 + u8::from(number % 2 == 0)])),
        ..via("192.0.2.2", "0.0.0.0/0", 2, 0)
    }));
    let started = std::time::Instant::now();
    let segments = host.segments_v4(&host.interfaces[1], Selection::ByRoute);
    assert!(499_000 < segments.len());
    assert!(started.elapsed() < std::time::Duration::from_secs(5));
}

/// Addresses and prefixes that often hold each other.
fn near_v4() -> impl Strategy<Value = [u8; 4]> {
    (prop_oneof![Just(10u8), Just(224), any::<u8>()], 0u8..4, 0u8..4, any::<u8>())
        .prop_map(|(a, b, c, d)| [a, b, c, d])
}

fn any_route() -> impl Strategy<Value = Route> {
    let kind = prop_oneof![
        4 => Just(RouteKind::Unicast),
        1 => Just(RouteKind::Local),
        1 => Just(RouteKind::Broadcast),
        1 => Just(RouteKind::Refused)
    ];
    let table = prop_oneof![Just(Table::Local), Just(Table::Main), Just(Table::Default)];
    let family = any::<bool>();
    (kind, table, family, near_v4(), 0u8..=32, 1u32..4, 0u32..3, any::<bool>()).prop_map(
        |(kind, table, v4, octets, prefix, interface, metric, routed)| {
            let number =
                u32::from_be_bytes(octets) & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            let destination = if v4 {
                IpAddr::from(number.to_be_bytes())
            } else {
                IpAddr::from((u128::from(number) << 96).to_be_bytes())
            };
            let gateway = routed.then(|| if v4 { ip("192.0.2.254") } else { ip("fe80::fe") });
            Route {
                destination,
                prefix,
                gateway,
                interface: Some(interface),
                source: None,
                metric,
                kind,
                table,
            }
        },
    )
}

proptest! {
    #[test]
    fn the_map_says_of_every_address_what_the_lookup_says(
        routes in proptest::collection::vec(any_route(), 0..12),
        probes in proptest::collection::vec(near_v4(), 1..40),
        index in 1usize..3,
        forced in any::<bool>(),
    ) {
        let mut host = host();
        // The map does not ask for a source address: every interface has one here.
        host.interfaces[2].addresses.push(InterfaceAddress { address: ip("2001:db8:3::1"), prefix: 64 });
        host.routes = routes;
        let interface = &host.interfaces[index];
        let (selection, name) = if forced {
            (Selection::Forced, Some(interface.name.as_str()))
        } else {
            (Selection::ByRoute, None)
        };
        let segments_v4 = host.segments_v4(interface, selection);
        let segments_v6 = host.segments_v6(interface, selection);
        tiles(&segments_v4, u128::from(u32::MAX));
        tiles(&segments_v6, u128::MAX);
        for octets in probes {
            let number = u32::from_be_bytes(octets);
            let wide = u128::from(number) << 96 | 1;
            for (address, reach) in [
                (IpAddr::from(octets), reach_of(&segments_v4, number)),
                (IpAddr::from(wide.to_be_bytes()), reach_of(&segments_v6, wide)),
            ] {
                let expected = match host.route_to(address, name) {
                    Ok(routing) if routing.hop == Hop::Local => Reach::Hop(Hop::Local),
                    Ok(routing) if routing.interface == interface.index => Reach::Hop(routing.hop),
                    Ok(_) => Reach::Elsewhere,
                    Err(HostError::ManyStations { .. }) => Reach::ManyStations,
                    Err(_) => Reach::Unreachable,
                };
                // The source address of another interface is no business of this one.
                let elsewhere = expected == Reach::Unreachable && reach == Reach::Elsewhere;
                let edge_elsewhere = expected == Reach::ManyStations && reach == Reach::Elsewhere;
                prop_assert!(reach == expected || elsewhere || edge_elsewhere, "{address}: {reach:?}, {expected:?}");
            }
        }
    }
}

/// Asserts that segments follow each other without gap or overlap from zero to `end`, and no two could be one.
fn tiles<T: Copy + Into<u128>>(segments: &[Segment<T>], end: u128) {
    assert_eq!(segments[0].first.into(), 0);
    assert_eq!(segments[segments.len() - 1].last.into(), end);
    for pair in segments.windows(2) {
        assert_eq!(pair[0].last.into() + 1, pair[1].first.into());
        assert_ne!(pair[0].reach, pair[1].reach);
    }
}
