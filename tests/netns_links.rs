//! What is peculiar to packet sockets, and to the devices that only they work on, against a real kernel: two network
//! namespaces that each test makes for itself, a veth pair between them, no way out. Needs root; without it the tests say that they were skipped, or fail under `SWATH_NETNS=required`.
#![allow(clippy::print_stderr, reason = "skips and measured rates are for the person who runs the tests")]

#[allow(unreachable_pub, dead_code, reason = "a module that other tests and a bench use as well")]
mod link_lab;

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use swath::batch::LANES;
use swath::gate::Gate;
use swath::host::{Hop, Host, HostError, InterfaceKind, Reach, Selection, reach_of};
use swath::link::{Filter, Framing, Link, RxQueue, Stall};
use swath::sys::clock;
use swath::sys::ring::{Ring, RingSize};
use swath::wire::ethernet::{self, Mac};

use link_lab::{FAR, Lab, NEAR, PORTS, backend, probes, run, spec, submit_all};

/// The link under test, on v0.
fn open_near(lab: &Lab, gate: Gate) -> Link {
    lab.open_near("af_packet", gate).unwrap_or_else(|error| panic!("{error}"))
}

/// The same on any interface of the namespace the thread is in.
fn open(name: &str, v4: &str, v6: &str, gate: Gate, next_hop: Mac) -> Link {
    (backend("af_packet").open)(&spec(name, v4, v6, gate, next_hop)).unwrap_or_else(|error| panic!("{error}"))
}

/// A ring on v1 for everything sent to the far address, whose kernel gives no answers.
fn small_ring(lab: &Lab, size: RingSize) -> Ring {
    lab.far(|| {
        let index = Host::read().expect("facts").interface("v1").expect("v1").index;
        run(&["ip", "addr", "del", "192.0.2.2/24", "dev", "v1"]);
        let addresses = vec![FAR.parse().expect("address")];
        let filter = Filter { addresses, port_first: 0, port_last: u16::MAX, any_protocol: false };
        let program = swath::link::filter::program(&filter, Framing::Ethernet);
        Ring::open(index, &program, size).expect("a ring")
    })
}

/// A received TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    time_ns: u64,
    source: IpAddr,
    source_port: u16,
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
}

fn segment(time_ns: u64, frame: &[u8]) -> Option<Segment> {
    let (source, tcp) = match u16::from_be_bytes([frame[12], frame[13]]) {
        ethernet::IPV4 if frame[23] == 6 => {
            (IpAddr::from(<[u8; 4]>::try_from(&frame[26..30]).expect("4 bytes")), &frame[34..])
        }
        ethernet::IPV6 if frame[20] == 6 => {
            (IpAddr::from(<[u8; 16]>::try_from(&frame[22..38]).expect("16 bytes")), &frame[54..])
        }
        _ => return None,
    };
    let word = |at: usize| u32::from_be_bytes(tcp[at..at + 4].try_into().expect("4 bytes"));
    let source_port = u16::from_be_bytes([tcp[0], tcp[1]]);
    Some(Segment {
        time_ns,
        source,
        source_port,
        sequence: word(4),
        acknowledgement: word(8),
        flags: tcp[13],
    })
}

/// Everything that arrives until nothing has for a while.
fn drain(queue: &mut dyn RxQueue) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(150) {
        let received = queue.poll(Duration::from_millis(20)).expect("no fatal error");
        if !received.is_empty() {
            last = Instant::now();
            frames.extend(received.iter().map(|(time_ns, frame)| [&time_ns.to_ne_bytes(), frame].concat()));
        }
    }
    frames
}

fn segments(queue: &mut dyn RxQueue) -> Vec<Segment> {
    let frames = drain(queue);
    let split = |bytes: &Vec<u8>| {
        let (time, frame) = bytes.split_at(8);
        segment(u64::from_ne_bytes(time.try_into().expect("8 bytes")), frame)
    };
    frames.iter().filter_map(split).collect()
}

const SYN_ACK: u8 = 0x12;
const RST_ACK: u8 = 0x14;

#[test]
fn netns_an_interface_that_is_down_stalls_and_loses_nothing() {
    let Some(lab) = Lab::new() else { return };
    let mut far = lab.open_far();
    let mut near = open_near(&lab, Gate::open());
    lab.ip(&lab.near, "link set v0 down");
    let batch = probes(FAR, PORTS.0 + 1, 0, LANES);
    for _ in 0..3 {
        let accepted = near.tx[0].submit(&batch).expect("no fatal error");
        assert_eq!((accepted.lanes, accepted.stall), (0, Some(Stall::Down)));
        assert!(near.rx[0].poll(Duration::from_millis(1)).expect("no fatal error").is_empty());
    }
    lab.ip(&lab.near, "link set v0 up");
    submit_all(near.tx[0].as_mut(), &batch);
    let mut sequences: Vec<u32> = segments(far.rx[0].as_mut()).iter().map(|probe| probe.sequence).collect();
    sequences.sort_unstable();
    assert_eq!(sequences, (0..64).collect::<Vec<u32>>());
    let resets = segments(near.rx[0].as_mut());
    assert!(!resets.is_empty(), "the receive queue works again after the interface came up");
}

#[test]
fn netns_an_interface_whose_peer_is_down_is_full_and_loses_nothing() {
    let Some(lab) = Lab::new() else { return };
    let mut near = open_near(&lab, Gate::open());
    lab.ip(&lab.far, "link set v1 down");
    let batch = probes(FAR, PORTS.0 + 1, 0, LANES);
    let accepted = near.tx[0].submit(&batch).expect("no fatal error");
    assert_eq!((accepted.lanes, accepted.stall), (0, Some(Stall::Full)));
    lab.ip(&lab.far, "link set v1 up");
    let mut far = lab.open_far();
    submit_all(near.tx[0].as_mut(), &batch);
    assert_eq!(segments(far.rx[0].as_mut()).len(), LANES);
}

#[test]
fn netns_answers_of_a_kernel_arrive_with_their_time() {
    let Some(lab) = Lab::new() else { return };
    let _listeners =
        lab.far(|| ["192.0.2.2:80", "[2001:db8::2]:80"].map(|at| TcpListener::bind(at).expect("free")));
    let mut near = open_near(&lab, Gate::open());
    for to in [FAR, "2001:db8::2"] {
        let before = clock::realtime_ns();
        submit_all(near.tx[0].as_mut(), &probes(to, 80, 1000, 1));
        submit_all(near.tx[0].as_mut(), &probes(to, 81, 2000, 1));
        let mut answers = segments(near.rx[0].as_mut());
        let after = clock::realtime_ns();
        answers.sort_by_key(|answer| answer.source_port);
        answers.dedup_by_key(|answer| (answer.source_port, answer.flags));
        let facts: Vec<_> =
            answers.iter().map(|answer| (answer.source_port, answer.flags, answer.acknowledgement)).collect();
        assert_eq!(facts, [(80, SYN_ACK, 1001), (81, RST_ACK, 2001)], "{to}");
        for answer in answers {
            assert_eq!(answer.source, to.parse::<IpAddr>().expect("address"));
            assert!((before..after).contains(&answer.time_ns), "{answer:?}");
        }
    }
}

#[test]
fn netns_frames_the_ring_had_no_room_for_are_counted() {
    let Some(lab) = Lab::new() else { return };
    let mut ring = small_ring(&lab, RingSize { block_bytes: 64 << 10, blocks: 4, retire_ms: 4 });
    let mut near = open_near(&lab, Gate::open());
    let count = 64 * LANES;
    for number in 0..64 {
        submit_all(near.tx[0].as_mut(), &probes(FAR, PORTS.0, number, LANES));
    }
    let (mut received, mut last) = (0, 1);
    while last != 0 {
        last = 0;
        ring.next(Duration::from_millis(100), |_| last += 1).expect("polled");
        received += last;
    }
    let drops = ring.drops().expect("a counter");
    assert_eq!(ring.drops().expect("a counter"), drops, "reading does not forget");
    assert!(0 < drops && 0 < received);
    assert_eq!(received + drops, count as u64);
}

#[test]
fn netns_a_ring_that_was_full_goes_on_when_it_is_read() {
    let Some(lab) = Lab::new() else { return };
    let mut ring = small_ring(&lab, RingSize { block_bytes: 64 << 10, blocks: 4, retire_ms: 4 });
    let mut near = open_near(&lab, Gate::open());
    for _ in 0..64 {
        submit_all(near.tx[0].as_mut(), &probes(FAR, PORTS.0, 0, LANES));
    }
    for _ in 0..8 {
        ring.next(Duration::from_millis(50), |_| ()).expect("polled");
    }
    for number in 0..20 {
        submit_all(near.tx[0].as_mut(), &probes(FAR, PORTS.0, number, 1));
        let mut frames = 0;
        ring.next(Duration::from_millis(500), |_| frames += 1).expect("polled");
        assert_eq!(frames, 1, "probe {number}");
    }
}

#[test]
fn netns_the_loopback_device_answers_for_every_address_of_this_machine_and_no_other() {
    let Some(lab) = Lab::new() else { return };
    let mut far = lab.open_far();
    let _listeners = lab.near(|| ["0.0.0.0:80", "[::1]:80"].map(|at| TcpListener::bind(at).expect("free")));
    let mut link = lab.near(|| open("lo", "127.0.0.1", "::1", Gate::open(), Mac::default()));
    for to in ["127.0.0.1", "127.9.9.9", NEAR, "::1"] {
        for (port, flags) in [(80, SYN_ACK), (81, RST_ACK)] {
            submit_all(link.tx[0].as_mut(), &probes(to, port, 5000, 1));
            let answers = segments(link.rx[0].as_mut());
            // The tap shows our own probe as well where its port is one of ours; here it is not.
            let mut answers: Vec<_> =
                answers.iter().map(|answer| (answer.flags, answer.acknowledgement)).collect();
            answers.dedup();
            assert_eq!(answers, [(flags, 5001)], "{to} port {port}");
        }
    }
    let mut batch = probes("127.0.0.1", 80, 0, 2);
    batch.destination_v4[1] = u32::from(Ipv4Addr::new(192, 0, 2, 2));
    batch.destination_port[1] = PORTS.0 + 1;
    let error = link.tx[0].submit(&batch).expect_err("no address of this machine");
    assert!(error.to_string().contains("192.0.2.2 is no address of this machine"), "{error}");
    assert_eq!(segments(far.rx[0].as_mut()), [], "nothing left this machine");
}

#[test]
fn netns_the_loopback_link_sends_ipv4_and_ipv6_lanes_of_one_batch() {
    let Some(lab) = Lab::new() else { return };
    let mut link = lab.near(|| open("lo", "127.0.0.1", "::1", Gate::open(), Mac::default()));
    let mut batch = probes("127.0.0.1", 81, 0, LANES);
    for lane in (0..LANES).step_by(3) {
        batch.template[lane] = 1;
        batch.destination_v6[lane] = 1;
    }
    assert_eq!(link.tx[0].submit(&batch).expect("no fatal error").lanes, batch.lanes());
    let mut answers: Vec<u32> =
        segments(link.rx[0].as_mut()).iter().map(|answer| answer.acknowledgement).collect();
    answers.sort_unstable();
    assert_eq!(answers, (1..=64).collect::<Vec<u32>>());
}

#[test]
fn netns_the_host_reads_what_ip_configured() {
    let Some(lab) = Lab::new() else { return };
    lab.ip(&lab.near, "route add default via 192.0.2.2 metric 50");
    lab.ip(&lab.near, "route add 198.51.100.0/24 dev v0");
    lab.ip(&lab.near, "route add blackhole 203.0.113.0/24");
    lab.ip(&lab.near, "route add local 198.18.0.0/15 dev lo");
    lab.ip(&lab.near, "route add default via 2001:db8::2");
    lab.ip(&lab.near, "neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev v0");
    let host = lab.near(|| Host::read().expect("facts"));
    let interface = host.interface("v0").expect("v0").clone();
    assert!(interface.up && interface.carrier && interface.kind == InterfaceKind::Ethernet);
    assert_eq!(interface.mtu, 1500);
    assert!(host.can_send_raw);
    let address = |text: &str| text.parse::<IpAddr>().expect("address");
    assert_eq!(host.neighbour(interface.index, address("192.0.2.9")), Some([2, 0, 0, 0, 0, 9]));
    let lo = host.loopback().expect("lo").index;
    let v0 = interface.index;
    let cases = [
        ("192.0.2.77", v0, NEAR, Hop::OnLink),
        ("192.0.2.1", lo, NEAR, Hop::Local),
        ("127.0.0.9", lo, "127.0.0.1", Hop::Local),
        ("198.18.7.7", lo, "198.18.7.7", Hop::Local),
        ("198.51.100.7", v0, NEAR, Hop::OnLink),
        ("8.8.8.8", v0, NEAR, Hop::Gateway(address(FAR))),
        ("2001:db8::77", v0, "2001:db8::1", Hop::OnLink),
        ("2001:db8:1::1", v0, "2001:db8::1", Hop::Gateway(address("2001:db8::2"))),
        ("::1", lo, "::1", Hop::Local),
    ];
    let segments_v4 = host.segments_v4(&interface, Selection::ByRoute);
    for (to, interface, source, hop) in cases {
        let routing = host.route_to(address(to), None).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            (routing.interface, routing.source, routing.hop),
            (interface, address(source), hop),
            "{to}"
        );
        // The kernel's own word for it.
        let said = lab.near(|| run(&["ip", "route", "get", to]));
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains(&format!("src {source} ")), "{to}: {said}");
        if let IpAddr::V4(to) = address(to) {
            assert_eq!(reach_of(&segments_v4, to.into()), Reach::Hop(hop), "{to}");
        }
    }
    let refused = host.route_to(address("203.0.113.1"), None).expect_err("a blackhole");
    assert!(matches!(refused, HostError::Refused { .. }), "{refused}");
    for broadcast in ["192.0.2.255", "192.0.2.0", "224.0.0.1", "255.255.255.255", "ff02::1"] {
        let many = host.route_to(address(broadcast), None).expect_err("many stations");
        assert!(matches!(many, HostError::ManyStations { .. }), "{broadcast}: {many}");
    }
    lab.ip(&lab.near, "link set v0 down");
    let down =
        lab.near(|| Host::read().expect("facts")).route_to(address(FAR), Some("v0")).expect_err("down");
    assert_eq!(down.to_string(), "interface v0 is down; bring it up: ip link set v0 up");
}

/// Opens tun0 and answers each TCP packet with a RST, as the far end of a tunnel would.
const TUNNEL: &str = r#"
import fcntl, os, struct
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"tun0", 0x1001))
print("ready", flush=True)
while True:
    packet = bytearray(os.read(tun, 2000))
    if packet[0] >> 4 == 4 and packet[9] == 6:
        addresses, at = slice(12, 20), 20
    elif packet[0] >> 4 == 6 and packet[6] == 6:
        addresses, at = slice(8, 40), 40
    else:
        continue
    both = packet[addresses]
    packet[addresses] = both[len(both) // 2:] + both[:len(both) // 2]
    packet[at:at + 4] = packet[at + 2:at + 4] + packet[at:at + 2]
    sequence = struct.unpack_from("!I", packet, at + 4)[0]
    struct.pack_into("!IIBB", packet, at + 4, 0, sequence + 1, 0x50, 0x14)
    os.write(tun, packet)
"#;

/// The tunnel's process, ended with the test.
struct Tunnel(std::process::Child);

impl Tunnel {
    fn open(namespace: &str) -> Tunnel {
        use std::io::Read;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, "python3", "-c", TUNNEL]);
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("python3");
        let mut ready = [0; 6];
        child.stdout.as_mut().expect("piped").read_exact(&mut ready).expect("a tunnel");
        Tunnel(child)
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn netns_a_tunnel_carries_packets_without_ethernet_headers() {
    let Some(lab) = Lab::new() else { return };
    let _tunnel = Tunnel::open(&lab.near);
    lab.ip(&lab.near, "addr add 198.51.100.1/32 dev tun0");
    lab.ip(&lab.near, "addr add 2001:db8:7::1/64 dev tun0 nodad");
    lab.ip(&lab.near, "link set tun0 up");
    lab.ip(&lab.near, "route add 203.0.113.0/24 dev tun0");
    let host = lab.near(|| Host::read().expect("facts"));
    let routing = host.route_to("203.0.113.7".parse().expect("address"), None).expect("a route");
    assert_eq!((routing.hop, routing.source), (Hop::Bare, IpAddr::from([198, 51, 100, 1])));
    let mut link = lab.near(|| open("tun0", "198.51.100.1", "2001:db8:7::1", Gate::open(), Mac::default()));
    let mut batch = probes("203.0.113.7", 443, 100, LANES);
    for lane in (0..LANES).step_by(2) {
        batch.template[lane] = 1;
        batch.destination_v6[lane] = 0x2001_0db8_0007 << 80 | 9;
    }
    submit_all(link.tx[0].as_mut(), &batch);
    let frames = drain(link.rx[0].as_mut());
    let mut answers: Vec<u32> = frames
        .iter()
        .filter_map(|bytes| {
            let ethertype = if bytes[8] >> 4 == 4 { ethernet::IPV4 } else { ethernet::IPV6 };
            let header = ethernet::header(Mac::default(), Mac::default(), ethertype);
            segment(0, &[&header[..], &bytes[8..]].concat())
        })
        .inspect(|answer| assert_eq!((answer.source_port, answer.flags), (443, RST_ACK)))
        .map(|answer| answer.acknowledgement)
        .collect();
    answers.sort_unstable();
    assert_eq!(answers, (101..=164).collect::<Vec<u32>>());
    let error = link.tx[0].send(&[0; 42]).expect_err("no IP packet");
    assert!(error.to_string().contains("only IP packets"), "{error}");
}

/// What a ring keeps while nobody polls, and how long a lone frame waits in it, is printed for the size in use; for
/// other sizes too when SWATH_MEASURE is set.
#[test]
fn netns_a_ring_hands_over_lone_frames_and_counts_what_it_cannot_keep() {
    let Some(lab) = Lab::new() else { return };
    lab.ip(&lab.far, "addr del 192.0.2.2/24 dev v1");
    let mut near = open_near(&lab, Gate::open());
    let index = lab.far(|| Host::read().expect("facts").interface("v1").expect("v1").index);
    let filter = Filter {
        addresses: vec![FAR.parse().expect("address")],
        port_first: 0,
        port_last: u16::MAX,
        any_protocol: false,
    };
    let filter = swath::link::filter::program(&filter, Framing::Ethernet);
    let sizes = [
        (512, 128, 4),
        (64, 256, 4),
        (64, 1024, 8),
        (128, 256, 4),
        (128, 256, 8),
        (256, 128, 4),
        (256, 256, 4),
    ];
    let measured = if std::env::var_os("SWATH_MEASURE").is_some() { sizes.len() } else { 1 };
    for (blocks, block_kib, retire_ms) in sizes.into_iter().take(measured) {
        let size = RingSize { block_bytes: block_kib << 10, blocks, retire_ms };
        let started = Instant::now();
        let mut ring = lab.far(|| Ring::open(index, &filter, size).expect("a ring"));
        let opened = started.elapsed();
        let mut latency_us = Vec::new();
        for number in 0..50 {
            submit_all(near.tx[0].as_mut(), &probes(FAR, PORTS.0, number, 1));
            let mut times = Vec::new();
            while times.is_empty() {
                ring.next(Duration::from_millis(100), |packet| times.push(packet.time_ns)).expect("polled");
            }
            latency_us.push((clock::realtime_ns() - times[0]) / 1000);
        }
        latency_us.sort_unstable();
        let before = ring.drops().expect("a counter");
        let (started, count) = (Instant::now(), 10_000 * LANES);
        for _ in 0..10_000 {
            submit_all(near.tx[0].as_mut(), &probes(FAR, PORTS.0, 0, LANES));
        }
        let rate = count as f64 / started.elapsed().as_secs_f64();
        let drops = ring.drops().expect("a counter") - before;
        let kept = count as u64 - drops;
        assert!(0 < drops && blocks as u64 * block_kib as u64 <= kept, "{kept} kept of {count}");
        eprintln!(
            "{blocks} x {block_kib} KiB, {retire_ms} ms: open {opened:?}, a frame waits {} us (median) {} us (max), \
             at {:.2} Mpps it keeps {kept} frames, {:.0} ms",
            latency_us[25],
            latency_us[49],
            rate / 1e6,
            kept as f64 / rate * 1e3
        );
    }
}

/// Prints the rate; asserts only that the sink saw what the link says it sent.
#[test]
fn netns_the_rate_into_a_sink_is_printed() {
    let Some(lab) = Lab::new() else { return };
    lab.far(|| {
        run(&[
            "nft",
            "add table netdev t; add chain netdev t c { type filter hook ingress device v1 priority 0; policy drop; }; \
             add counter netdev t n; add rule netdev t c ip protocol tcp counter name n drop",
        ])
    });
    let mut near = open_near(&lab, Gate::open());
    let mut batch = probes("198.18.0.1", 443, 0, LANES);
    let (mut sent, mut stalls, started) = (0u64, 0u64, Instant::now());
    while started.elapsed() < Duration::from_secs(2) {
        for lane in 0..LANES {
            batch.sequence[lane] = batch.sequence[lane].wrapping_mul(0x9e37_79b9).wrapping_add(1);
            batch.destination_v4[lane] = 0xc612_0000 | batch.sequence[lane] >> 15;
        }
        let accepted = near.tx[0].submit(&batch).expect("no fatal error");
        sent += u64::from(accepted.lanes.count_ones());
        stalls += u64::from(accepted.stall.is_some());
    }
    let elapsed = started.elapsed();
    let counter = lab.far(|| run(&["nft", "list", "counter", "netdev", "t", "n"]));
    let counter = String::from_utf8_lossy(&counter.stdout).into_owned();
    let rate = sent as f64 / elapsed.as_secs_f64() / 1e6;
    eprintln!("af_packet over veth to a drop sink: {rate:.3} Mpps, {sent} sent, {stalls} stalls");
    assert!(counter.contains(&format!("packets {sent} ")), "the sink counted otherwise: {counter}");
}
