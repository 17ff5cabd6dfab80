//! What the tests of sinks and sources share: records of each shape, and a manifest.
#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::net::IpAddr;

use swath::event::{Manifest, Proof, Reason, Record, State, Status, Summary};
use swath::target::{Port, Protocol, Target};

pub(crate) fn record(address: &str, port: u16, protocol: Protocol, state: State, reason: Reason) -> Record {
    let address: IpAddr = address.parse().expect("an address");
    let port = Port { protocol, number: port };
    let mut record = Record::new(Target { address, port }, address, state, reason);
    record.time_ns = 1_795_219_200_123_456_789;
    record
}

pub(crate) fn answered_by(record: Record, responder: &str) -> Record {
    let responder = responder.parse().expect("an address");
    let moved = Record::new(record.target(), responder, record.state, record.reason);
    with(moved, |moved| moved.time_ns = record.time_ns)
}

pub(crate) fn with(mut record: Record, change: impl FnOnce(&mut Record)) -> Record {
    change(&mut record);
    record
}

/// One record of each shape a sink may meet. The golden files hold what becomes of them.
pub(crate) fn samples() -> Vec<Record> {
    let open = record("198.18.0.7", 80, Protocol::TCP, State::Open, Reason::SYN_ACK);
    let open_v6 = record("2001:db8::1:0:0:7", 443, Protocol::TCP, State::Open, Reason::SYN_ACK);
    let closed = record("198.18.255.255", 22, Protocol::TCP, State::Closed, Reason::RESET);
    let router = record("203.0.113.9", 65_535, Protocol::TCP, State::Filtered, Reason::ADMIN_PROHIBITED);
    let router_v6 = record("2001:db8::9", 0, Protocol::UDP, State::Filtered, Reason::NO_ROUTE);
    vec![
        open,
        with(open, |full| {
            full.rtt_us = 18_234;
            full.options_hash = 0x0086_d081;
            full.window = 65_535;
            full.mss = 1460;
            full.ip_id = 54_321;
            full.proof = Proof::Strong;
            full.ttl = 57;
            full.window_scale = 7;
            full.pass = 1;
        }),
        with(open_v6, |open| (open.window_scale, open.proof) = (0, Proof::Medium)),
        with(closed, |closed| closed.ttl = 255),
        answered_by(router, "192.0.2.254"),
        answered_by(router_v6, "2001:db8:ffff::1"),
        record("198.18.0.8", 53, Protocol::UDP, State::Closed, Reason::PORT_UNREACH),
        record("198.18.0.9", 8, Protocol::ICMP, State::Open, Reason(200)),
        with(record("198.18.0.10", 0, Protocol::ARP, State::Up, Reason::ARP_RESPONSE), |arp| {
            arp.set_mac([0x02, 0x00, 0x29, 0xaa, 0xbb, 0xcc]); // a local one: of no vendor
        }),
        with(record("2001:db8::a", 0, Protocol::ND, State::Up, Reason::ND_RESPONSE), |nd| {
            nd.set_mac([2, 0, 0, 0, 0, 1])
        }),
        record("198.18.0.11", 8, Protocol::ICMP, State::Up, Reason::ECHO_REPLY),
        record("2001:db8::b", 128, Protocol::ICMPV6, State::Up, Reason::ECHO_REPLY),
        record("198.18.0.12", 36_412, Protocol::SCTP, State::Open, Reason::INIT_ACK),
        record("198.18.0.13", 47, Protocol::IP, State::OpenFiltered, Reason::NO_RESPONSE),
        record("198.18.0.14", 161, Protocol::UDP, State::OpenFiltered, Reason::NO_RESPONSE),
        record("198.18.0.15", 443, Protocol::TCP, State::Unfiltered, Reason::RESET),
        largest(),
        with(open, |open| open.time_ns = 0),
    ]
}

/// Every field as long as it gets.
pub(crate) fn largest() -> Record {
    let target = record("255.255.255.255", 65_535, Protocol(252), State::Unfiltered, Reason(255));
    with(answered_by(target, "ffff:eeee:dddd:cccc:bbbb:aaaa:9999:8888"), |largest| {
        largest.time_ns = u64::MAX;
        largest.rtt_us = u32::MAX;
        largest.options_hash = u32::MAX;
        largest.window = u16::MAX;
        largest.mss = u16::MAX;
        largest.ip_id = u16::MAX;
        largest.ttl = u8::MAX;
        largest.window_scale = 254;
        largest.pass = u8::MAX;
    })
}

pub(crate) fn manifest_of(uuid: &str, status: Status) -> Manifest {
    Manifest {
        scan_uuid: uuid.to_owned(),
        tool: "swath".into(),
        version: "0.1.0".into(),
        argv: vec!["swath".to_owned(), "'; DROP TABLE scan; --".to_owned()],
        plan_digest: "ab".repeat(32),
        targets: 131_072,
        shard_targets: 65_536,
        excluded_addresses: "0".to_owned(),
        ports: "22,80".to_owned(),
        probes: vec!["syn".to_owned()],
        seed: u64::MAX,
        order: "v1".into(),
        shard: 1,
        shards: 2,
        passes: 2,
        first_step: 0,
        course: swath::event::Course::default(),
        rate_pps: Some(1e6),
        wait_s: 10.0,
        interface: "veth0".to_owned(),
        link: "af_packet".to_owned(),
        source_addresses: vec![IpAddr::from([198, 18, 0, 1])],
        status,
        started_us: 1_795_219_200_000_000,
        finished_us: (status != Status::Running).then_some(1_795_219_260_000_000),
        summary: (status != Status::Running).then(|| Summary {
            planned: 65_536,
            sent: 65_536,
            frames_seen: 20,
            not_ours: 6,
            invalid: vec![("malformed".to_owned(), 1), ("bad-cookie".to_owned(), 3)],
            accepted: 10,
            kernel_drops: 2,
            ..Summary::default()
        }),
        ..Manifest::default()
    }
}

pub(crate) fn manifest(status: Status) -> Manifest {
    manifest_of(UUID, status)
}

pub(crate) const UUID: &str = "3f1c9a52-0d5b-4c3e-9a77-5d1f8f6f0b11";
