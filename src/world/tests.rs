//! The world against an independent reader: every frame it sends back is one that etherparse reads, with checksums that
//! are right.

use super::*;
use crate::wire::ethernet::{self, Mac};

/// A SYN as etherparse writes one.
fn syn(destination: [u8; 4], port: u16, source_port: u16, sequence: u32) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 9])
        .ipv4([192, 0, 2, 1], destination, 64)
        .tcp(source_port, port, sequence, 65_535)
        .syn();
    let mut frame = Vec::new();
    builder.write(&mut frame, &[]).expect("written");
    frame
}

fn scenario(text: &str) -> Arc<Scenario> {
    Arc::new(format!("about = 'a test'\n{text}").parse().expect("a scenario"))
}

/// Everything that comes back.
fn arrivals(world: &mut World) -> Vec<(u64, Vec<u8>, Origin)> {
    let mut all = Vec::new();
    while world
        .arrive(u64::MAX, |arrival| all.push((arrival.time_ns, arrival.frame.to_vec(), arrival.origin)))
    {}
    all
}

#[track_caller]
fn check(frame: &[u8]) {
    let packet = etherparse::SlicedPacket::from_ethernet(frame).expect("an Ethernet frame");
    let Some(etherparse::NetSlice::Ipv4(ip)) = &packet.net else { return };
    let header = ip.header().to_header();
    assert_eq!(header.calc_header_checksum(), header.header_checksum);
    match &packet.transport {
        Some(etherparse::TransportSlice::Tcp(tcp)) => {
            let sum = tcp.to_header().calc_checksum_ipv4(&header, tcp.payload()).expect("short");
            assert_eq!(sum, tcp.checksum());
        }
        Some(etherparse::TransportSlice::Icmpv4(message)) => {
            let sum = etherparse::checksum::Sum16BitWords::new().add_slice(message.slice());
            assert_eq!(sum.ones_complement(), 0, "an ICMP message sums to nothing");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_behaviour_answers_in_frames_an_independent_reader_accepts() {
    for kind in BEHAVIOURS {
        let scenario = scenario(&format!("[[rule]]\nanswer = '{}'", kind.name));
        let mut world = World::new(scenario);
        for port in 1..200u16 {
            world.send(0, &syn([198, 18, 0, 7], port, 20_000 + port, 0x0101_0101 * u32::from(port)));
        }
        let all = arrivals(&mut world);
        assert_eq!(all.is_empty(), kind.name == "silent", "{}", kind.name);
        all.iter().for_each(|(_, frame, _)| check(frame));
        assert_eq!((world.tally().probes, world.tally().unreadable), (199, 0));
    }
}

#[test]
fn adversaries_send_what_an_independent_reader_accepts_and_nothing_they_should_not_know() {
    let shares = "syn_ack = 2.5\nreset = 1\nicmp = 1\nright_number = 1\nright_port = 1\nright_quoted_port = 1\nmoved = 1";
    let scenario = scenario(&format!("[adversaries]\n{shares}\n[[rule]]\nanswer = 'open'"));
    let mut world = World::new(scenario);
    for port in 1..500u16 {
        world.send(u64::from(port), &syn([198, 18, 0, 7], port, 20_000 + port, 77_000 + u32::from(port)));
    }
    let all = arrivals(&mut world);
    let forged: Vec<_> = all.iter().filter(|(.., origin)| *origin == Origin::Forged).collect();
    assert!((499 * 7..499 * 10).contains(&forged.len()), "{}", forged.len());
    for (_, frame, _) in &forged {
        let packet = etherparse::SlicedPacket::from_ethernet(frame).expect("an Ethernet frame");
        let Some(etherparse::TransportSlice::Tcp(tcp)) = &packet.transport else { continue };
        let moved = Some(&packet.net).is_some_and(|net| match net {
            Some(etherparse::NetSlice::Ipv4(ip)) => ip.header().source() != [198, 18, 0, 7],
            _ => false,
        });
        let asked = tcp.source_port();
        let both = tcp.destination_port() == 20_000 + asked
            && [77_000, 77_001].contains(&tcp.acknowledgment_number().wrapping_sub(u32::from(asked)));
        assert!(moved || !both, "a forger knew port and number of {asked}");
    }
}

#[test]
fn the_same_probes_meet_the_same_world_in_any_order() {
    let frames: Vec<Vec<u8>> =
        (1..2000u16).map(|port| syn([198, 18, 0, (port % 250) as u8], port, 30_000 + port % 99, 5)).collect();
    let mut hostile = SCENARIOS.iter().find(|(name, _)| *name == "hostile").expect("built in").1.to_owned();
    // Those with a memory are left out.
    for key in
        ["replay = 0.5", "moved = 0.5", "per_second = 100", "syn_ack = 2.0", "reset = 1.0", "icmp = 1.0"]
    {
        assert!(hostile.contains(key));
        hostile = hostile.replace(key, "");
    }
    let outcome = |frames: &mut dyn Iterator<Item = &Vec<u8>>| {
        let mut world = World::new(Arc::new(hostile.parse().expect("a scenario")));
        frames.for_each(|frame| world.send(0, frame));
        let mut all = arrivals(&mut world);
        all.sort();
        all
    };
    let (forward, backward) = (outcome(&mut frames.iter()), outcome(&mut frames.iter().rev()));
    assert!(1000 < forward.len());
    assert!(forward == backward, "the order of probes made a difference");
}

#[test]
fn a_frame_with_a_wrong_checksum_or_without_its_end_is_read_by_nobody() {
    let mut world = World::new(scenario("[[rule]]\nanswer = 'open'"));
    let good = syn([198, 18, 0, 7], 80, 20_000, 5);
    for at in ethernet::HEADER..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        world.send(0, &bad);
    }
    for length in 0..good.len() {
        world.send(0, &good[..length]);
    }
    assert_eq!(world.tally().probes, 0, "{:?}", world.tally());
    assert!(world.next_ns().is_none());
    world.send(0, &good);
    assert_eq!(arrivals(&mut world).len(), 1);
}

#[test]
fn the_way_loses_repeats_and_delays_as_much_as_it_says() {
    let path = "[path]\nloss = 0.2\nreply_loss = 0.1\nduplicate = 0.3\ndelay_ms = 50\njitter_ms = 10";
    let mut world = World::new(scenario(&format!("{path}\n[[rule]]\nanswer = 'open'")));
    for number in 0..20_000u32 {
        let [_, _, high, low] = number.to_be_bytes();
        world.send(1_000_000, &syn([198, 18, high, low], 80, 20_000, number));
    }
    let all = arrivals(&mut world);
    let tally = world.tally();
    assert!((3_700..4_300).contains(&tally.lost), "{tally:?}");
    assert!((1_450..1_750).contains(&tally.answers_lost), "{tally:?}");
    // 20,000 x 0.8 x 0.9 x 1.3
    assert!((18_200..19_250).contains(&all.len()), "{}", all.len());
    assert!(all.iter().all(|(time_ns, ..)| (51_000_000..400_000_000).contains(time_ns)));
}

#[test]
fn errors_are_limited_for_each_block() {
    let mut world = World::new(scenario("[[rule]]\nanswer = 'reject'\nper_second = 10"));
    for number in 0..1000u16 {
        // A thousand probes in a second, to two blocks.
        let time_ns = u64::from(number) * 1_000_000;
        world.send(time_ns, &syn([198, 18, (number % 2) as u8, (number / 4) as u8], number, 20_000, 5));
    }
    // Two blocks, ten at once and ten in the second.
    assert!((36..=42).contains(&arrivals(&mut world).len()), "{:?}", world.tally());
}

#[test]
fn neighbours_say_who_they_are_unless_they_are_silent() {
    let mut world = World::new(scenario("[neighbours]\nsilent = 0.3"));
    let mut answered = 0;
    for host in 0..=255 {
        let (mac, address) = (Mac([2, 0, 0, 0, 0, 1]), [192, 0, 2, 1].into());
        world.send(0, &crate::wire::arp::request(mac, address, [198, 18, 0, host].into()));
        for (_, frame, origin) in arrivals(&mut world) {
            let packet = crate::wire::arp::Packet::new(&frame[ethernet::HEADER..]).expect("a packet");
            let heard = packet.announcement().expect("a reply");
            let std::net::IpAddr::V4(address) = heard.address else { panic!("{heard:?}") };
            assert_eq!((heard.mac, address.octets()[3], origin), (mac_of(address), host, Origin::Neighbour));
            answered += 1;
        }
    }
    assert!((150..210).contains(&answered), "{answered} of 256 at 0.7");
}

#[test]
fn retransmits_come_at_the_times_of_linux() {
    let mut world = World::new(scenario("[path]\ndelay_ms = 0\n[[rule]]\nanswer = 'open'\nretransmits = 5"));
    world.send(0, &syn([198, 18, 0, 7], 80, 20_000, 5));
    let seconds: Vec<u64> =
        arrivals(&mut world).iter().map(|(time_ns, ..)| time_ns / 1_000_000_000).collect();
    assert_eq!(seconds, [0, 1, 3, 7, 15, 31]);
}
