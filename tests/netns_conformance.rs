//! What every link promises, against a real kernel: what it says was sent, a sink in the far driver has seen exactly
//! once; what did not leave is told lane by lane, and leaves when the interface is up again; a killed process leaves
//! nothing behind. Two network namespaces that each test makes for itself, no way out. Needs root; without it the tests
//! say that they were skipped, or fail under `SWATH_NETNS=required`.
#![allow(clippy::print_stderr, reason = "skips are for the person who runs the tests")]

#[allow(unreachable_pub, dead_code, reason = "a module that the bench uses as well")]
mod link_lab;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use swath::batch::{Batch, LANES};
use swath::gate::Gate;
use swath::link::{Link, LinkError, RxQueue, Stall};
use swath::sys::ebpf::Register::{R0, R1, R2, R3, R6, R7};
use swath::sys::ebpf::{Assembler, ContextField, MapSlot, Operation, Size, Test as TestFor};
use swath::sys::ebpf_kernel::{self, LoadedProgram, ObjectKind, ProgramKind, SharedBytes, SharedWords};
use swath::wire::ethernet::{self, Mac};

use link_lab::{FAR, Lab, NEAR, PORTS, Sink, backend, probes, run, submit_all, submit_rounds};

/// The links under test.
const LINKS: &[&str] = &["xdp_live", "af_xdp", "af_packet", "pnet"];

fn open(lab: &Lab, name: &str, gate: Gate) -> Link {
    lab.open_near(name, gate).unwrap_or_else(|error| panic!("{error}"))
}

/// A batch whose lanes go through all templates, so its frames have several lengths.
fn mixed(first: u32, length: usize) -> Batch {
    let mut batch = probes(FAR, 443, first, length);
    batch.time_us = first.wrapping_mul(0x9e37_79b9);
    for lane in 0..length {
        let number = first + u32::try_from(lane).expect("a lane");
        batch.template[lane] = (number % 5) as u16;
        batch.destination_v4[lane] = 0xc612_0000 | number & 0x1_ffff;
        batch.destination_v6[lane] = 0x2001_0db8_0001u128 << 80 | u128::from(number);
        batch.source_port[lane] = PORTS.0 + (number % 251) as u16;
        batch.identification[lane] = (number.wrapping_mul(40_503) >> 8 & 0xffff) as u16;
        batch.hop[lane] = (number % 3) as u16;
    }
    batch
}

/// Every number below `count` was seen once, and nothing else.
fn assert_each_once(sink: &Sink, count: u32, name: &str) {
    assert_eq!(sink.settled(), u64::from(count), "{name}: frames at the sink");
    let wrong: Vec<(u32, u32)> = (0..count)
        .map(|sequence| (sequence, sink.seen(sequence)))
        .filter(|&(_, times)| times != 1)
        .take(5)
        .collect();
    assert_eq!(wrong, [], "{name}: sequence numbers and how often they were seen");
}

/// TCP right behind the header of IPv4 without options, or of IPv6.
fn is_tcp(frame: &[u8]) -> bool {
    match frame[12..14] {
        [0x08, 0x00] => frame[23] == 6,
        [0x86, 0xdd] => frame[20] == 6,
        _ => false,
    }
}

/// Everything that arrives until nothing has for a while.
fn drain(queue: &mut dyn RxQueue) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(200) {
        let received = queue.poll(Duration::from_millis(20)).expect("no fatal error");
        if !received.is_empty() {
            last = Instant::now();
            frames.extend(received.iter().map(|(_, frame)| frame.to_vec()));
        }
    }
    frames
}

/// The sequence numbers of the probes among `frames`.
fn sequences(frames: &[Vec<u8>]) -> Vec<u32> {
    let word = |frame: &[u8], at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().expect("4 bytes"));
    let mut sequences: Vec<u32> = frames
        .iter()
        .filter(|frame| frame[12..14] == ethernet::IPV4.to_be_bytes() && frame[23] == 6)
        .map(|frame| word(frame, 38))
        .collect();
    sequences.sort_unstable();
    sequences
}

#[test]
fn netns_a_million_accepted_lanes_arrive_exactly_once() {
    for name in LINKS {
        let Some(lab) = Lab::new() else { return };
        let sink = Sink::new(&lab);
        let mut link = open(&lab, name, Gate::open());
        let count = 2_000_000u32;
        let (mut first, mut rounds) = (0, 0);
        while first < count {
            // Rounds and batches of every size, most of them full.
            let mut round = Vec::new();
            while round.len() < 1 + rounds % 20 && first < count {
                let length = if first % 7 != 0 { LANES } else { 1 + first as usize % LANES };
                let length = length.min((count - first) as usize);
                round.push(probes("198.18.0.1", 443, first, length));
                first += u32::try_from(length).expect("a batch");
            }
            submit_rounds(link.tx[0].as_mut(), &round);
            rounds += 1;
        }
        assert_each_once(&sink, count, name);
    }
}

#[test]
fn netns_batches_of_several_families_and_lengths_arrive_exactly_once() {
    for name in LINKS {
        let Some(lab) = Lab::new() else { return };
        let sink = Sink::new(&lab);
        let mut link = open(&lab, name, Gate::open());
        for first in (0..100_000).step_by(500) {
            let round: Vec<Batch> = (first..first + 500).step_by(50).map(|first| mixed(first, 50)).collect();
            submit_rounds(link.tx[0].as_mut(), &round);
        }
        assert_each_once(&sink, 100_000, name);
    }
}

#[test]
fn netns_frames_are_those_of_the_templates_byte_for_byte() {
    for name in LINKS {
        let Some(lab) = Lab::with_redirects() else { return };
        // All destinations are answered by nobody, and the far stack has no address for them.
        let mut far = lab.open_far();
        let mut spec = lab.near_spec(Gate::open());
        spec.hops.assign(1, Mac([2, 0, 0, 0, 0, 1]));
        spec.hops.assign(2, Mac([2, 0, 0, 0, 0, 2]));
        let hops = spec.hops.clone();
        let templates = spec.templates.clone();
        spec.filter.addresses.clear();
        let mut link = lab.near(|| (backend(name).open)(&spec)).unwrap_or_else(|error| panic!("{error}"));
        let mut expected = BTreeMap::new();
        for first in (0..6_400).step_by(LANES) {
            let mut batch = mixed(first, LANES);
            for lane in 0..LANES {
                // The far filter hears these only.
                batch.destination_v4[lane] = u32::from(Ipv4Addr::new(192, 0, 2, 2));
                batch.destination_v6[lane] = 0x2001_0db8u128 << 96 | 2;
                batch.destination_port[lane] = PORTS.0 + 1;
                let template = &templates[usize::from(batch.template[lane])];
                let mut frame = vec![0; template.frame_length()];
                template.stamp(&batch, lane, hops.mac(batch.hop[lane]), &mut frame);
                *expected.entry(frame).or_insert(0) += 1;
            }
            submit_all(link.tx[0].as_mut(), &batch);
        }
        let mut seen = BTreeMap::new();
        // The kernels' own ARP and ICMPv6 pass the far filter, too.
        for frame in drain(far.rx[0].as_mut()).into_iter().filter(|frame| is_tcp(frame)) {
            *seen.entry(frame).or_insert(0) += 1;
        }
        assert_eq!(far.rx[0].drops().expect("a counter"), Some(0));
        let unexpected = seen.iter().find(|(frame, times)| expected.get(*frame) != Some(times));
        assert_eq!(unexpected, None, "{name}: a frame that was not sent so, and how often it was seen");
        assert_eq!(seen.len(), expected.len(), "{name}: frames");
    }
}

#[test]
fn netns_a_full_queue_is_told_lane_by_lane() {
    for name in LINKS {
        let Some(lab) = Lab::new() else { return };
        let sink = Sink::new(&lab);
        // The far end polls in a thread of its own, which a busy sender outruns.
        let threaded = Command::new("ip")
            .args(["netns", "exec", &lab.far, "sh", "-c", "echo 1 > /sys/class/net/v1/threaded"])
            .status();
        assert!(threaded.is_ok_and(|status| status.success()), "threaded polling");
        let mut link = open(&lab, name, Gate::open());
        let (count, mut stalls) = (600 * 1024u32, 0);
        for first in (0..count).step_by(1024) {
            let batches = (first..first + 1024).step_by(LANES).map(|first| mixed(first, LANES));
            let round: Vec<Batch> = batches.collect();
            stalls += submit_rounds(link.tx[0].as_mut(), &round);
        }
        eprintln!("{name}: {stalls} stalls over {count} frames");
        assert_each_once(&sink, count, name);
    }
}

#[test]
fn netns_links_on_one_interface_know_their_own_losses() {
    for name in LINKS {
        // More links than this machine has CPUs, so that some are interrupted in the middle of a run by others.
        let many = 2 * u32::try_from(std::thread::available_parallelism().map_or(2, usize::from).min(8))
            .expect("few");
        let Some(lab) = Lab::with_queues(many) else { return };
        let sink = Sink::new(&lab);
        let links: Vec<Link> = (0..many).map(|_| open(&lab, name, Gate::open())).collect();
        let share = 200 * 1024u32;
        std::thread::scope(|scope| {
            for (number, mut link) in (0u32..).zip(links) {
                scope.spawn(move || {
                    for first in (number * share..(number + 1) * share).step_by(1024) {
                        let firsts = (first..first + 1024).step_by(LANES);
                        let round: Vec<Batch> =
                            firsts.map(|first| probes("198.18.0.1", 443, first, LANES)).collect();
                        submit_rounds(link.tx[0].as_mut(), &round);
                    }
                });
            }
        });
        assert_each_once(&sink, many * share, name);
    }
}

#[test]
fn netns_an_interface_that_is_down_stalls_and_loses_nothing() {
    for name in LINKS {
        let Some(lab) = Lab::with_redirects() else { return };
        let mut far = lab.open_far();
        let mut link = open(&lab, name, Gate::open());
        lab.ip(&lab.near, "link set v0 down");
        let batch = probes(FAR, PORTS.0 + 1, 0, LANES);
        for _ in 0..3 {
            let accepted = link.tx[0].submit(&batch).expect("no fatal error");
            assert_eq!((accepted.lanes, accepted.stall), (0, Some(Stall::Down)), "{name}");
        }
        lab.ip(&lab.near, "link set v0 up");
        submit_all(link.tx[0].as_mut(), &batch);
        let seen = sequences(&drain(far.rx[0].as_mut()));
        assert_eq!(seen, (0..64).collect::<Vec<u32>>(), "{name}");
    }
}

#[test]
fn netns_an_interface_whose_peer_is_down_stalls_and_loses_nothing() {
    for name in LINKS {
        let Some(lab) = Lab::with_redirects() else { return };
        let mut link = open(&lab, name, Gate::open());
        lab.ip(&lab.far, "link set v1 down");
        let batch = probes(FAR, PORTS.0 + 1, 0, LANES);
        for _ in 0..3 {
            let accepted = link.tx[0].submit(&batch).expect("no fatal error");
            assert_eq!(accepted.lanes, 0, "{name}");
            assert!(accepted.stall.is_some(), "{name}");
        }
        lab.ip(&lab.far, "link set v1 up");
        let mut far = lab.open_far();
        submit_all(link.tx[0].as_mut(), &batch);
        let seen = sequences(&drain(far.rx[0].as_mut()));
        assert_eq!(seen, (0..64).collect::<Vec<u32>>(), "{name}");
    }
}

#[test]
fn netns_an_interface_that_is_gone_ends_the_scan_with_its_name() {
    for name in LINKS {
        let Some(lab) = Lab::with_redirects() else { return };
        let mut link = open(&lab, name, Gate::open());
        lab.ip(&lab.near, "link del v0");
        let error = link.tx[0].submit(&probes(FAR, 80, 0, 1)).expect_err("the interface is gone");
        assert!(error.to_string().starts_with("cannot send on v0: "), "{name}: {error}");
    }
}

#[test]
fn netns_an_excluded_address_is_never_sent_to() {
    for name in LINKS {
        let Some(lab) = Lab::new() else { return };
        let sink = Sink::new(&lab);
        let excluded = u32::from(Ipv4Addr::new(198, 18, 0, 77));
        let mut link = open(&lab, name, Gate::new([(excluded, excluded)], []));
        let mut batch = mixed(0, LANES);
        batch.template[LANES - 1] = 4;
        batch.destination_v4[LANES - 1] = excluded;
        let error = link.tx[0].submit(&batch).expect_err("the last lane is excluded");
        let LinkError::Excluded { address } = error else { panic!("{name}: {error}") };
        assert_eq!(address, IpAddr::from([198, 18, 0, 77]));
        assert_eq!(sink.settled(), 0, "{name}: nothing of that batch left");
        batch.resize(LANES - 1);
        submit_all(link.tx[0].as_mut(), &batch);
        assert_each_once(&sink, 63, name);
    }
}

#[test]
fn netns_answers_of_a_kernel_are_received() {
    for name in LINKS {
        let Some(lab) = Lab::with_redirects() else { return };
        let _listener = lab.far(|| TcpListener::bind("192.0.2.2:80").expect("free"));
        let mut link = open(&lab, name, Gate::open());
        submit_all(link.tx[0].as_mut(), &probes(FAR, 80, 1000, 1));
        submit_all(link.tx[0].as_mut(), &probes(FAR, 81, 2000, 1));
        let answers: BTreeMap<u16, (u8, u32)> = drain(link.rx[0].as_mut())
            .iter()
            // What this host sends is heard as well where the link has no filter.
            .filter(|frame| {
                frame[23] == 6 && frame[30..34] == NEAR.parse::<Ipv4Addr>().expect("address").octets()
            })
            .map(|frame| {
                let port = u16::from_be_bytes([frame[34], frame[35]]);
                (port, (frame[47], u32::from_be_bytes(frame[42..46].try_into().expect("4 bytes"))))
            })
            .collect();
        assert_eq!(answers, BTreeMap::from([(80, (0x12, 1001)), (81, (0x14, 2001))]), "{name}");
    }
}

#[test]
fn netns_a_neighbour_answers_an_arp_request() {
    for name in LINKS {
        let Some(lab) = Lab::with_redirects() else { return };
        let mut link = open(&lab, name, Gate::open());
        let own = lab.near_spec(Gate::open()).interface.expect("v0").mac.0;
        let mut request = ethernet::header(Mac::BROADCAST, Mac(own), ethernet::ARP).to_vec();
        request.extend([0, 1, 8, 0, 6, 4, 0, 1]);
        request.extend(own);
        request.extend(NEAR.parse::<Ipv4Addr>().expect("address").octets());
        request.extend([0; 6]);
        request.extend(FAR.parse::<Ipv4Addr>().expect("address").octets());
        assert!(link.tx[0].send(&request).expect("no fatal error"));
        let answers = drain(link.rx[0].as_mut());
        let answer = answers.iter().find(|frame| frame[12..14] == [8, 6] && frame[21] == 2);
        assert_eq!(
            Mac(answer.expect("an answer")[22..28].try_into().expect("6 bytes")),
            lab.far_mac(),
            "{name}"
        );
    }
}

#[test]
fn netns_a_veth_that_takes_no_redirected_frames_is_refused_with_the_way_out() {
    let Some(lab) = Lab::new() else { return };
    let Err(error) = lab.open_near("xdp_live", Gate::open()) else { panic!("it cannot send") };
    assert!(error.to_string().contains("ethtool -K PEER gro on"), "{error}");
    let links = run(&["ip", "-n", &lab.near, "-d", "link"]);
    let links = String::from_utf8_lossy(&links.stdout).into_owned();
    assert!(!links.contains("prog/xdp") && !links.contains("tun"), "nothing is left behind: {links}");
}

#[test]
fn netns_zero_copy_where_the_driver_has_none_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let mut spec = lab.near_spec(Gate::open());
    spec.argument = Some("zerocopy".into());
    let Err(error) = lab.near(|| (backend("af_xdp").open)(&spec).map(|link| link.about)) else {
        panic!("veth has no zero-copy")
    };
    assert!(error.to_string().contains("the driver of v0 does no zero-copy"), "{error}");
    spec.argument = Some("fast".into());
    assert!(lab.near(|| (backend("af_xdp").open)(&spec).is_err()), "there is no such mode");
}

#[test]
fn netns_the_kernel_runs_what_the_assembler_makes_and_never_a_program_that_writes_to_slots() {
    let Some(_root) = Lab::new() else { return };
    let mut slots = SharedBytes::new(64).expect("a map");
    slots.bytes_mut()[..8].copy_from_slice(b"the slot");
    let words = SharedWords::new(8).expect("a map");
    let program = |writes: bool| {
        let mut program = Assembler::new();
        let short = program.label();
        program.load_context(R2, R1, ContextField::Data);
        program.load_context(R3, R1, ContextField::DataEnd);
        program.load_map_memory(R6, MapSlot(0), 0);
        program.load_map_memory(R7, MapSlot(1), 4);
        program.set(R0, R2);
        program.compute(Operation::Add, R0, 14);
        program.jump_if(TestFor::Greater, R0, R3, short);
        program.load(Size::Double, R0, R6, 0);
        program.store(Size::Double, R2, 6, R0);
        program.store(Size::Word, if writes { R6 } else { R7 }, 0, 77);
        program.bind(short);
        program.set(R0, 2);
        program.exit();
        program.finish().expect("assembles")
    };
    let loaded = LoadedProgram::load(ProgramKind::Xdp, &program(false), &[&slots, &words]);
    let (verdict, frame) = loaded.expect("the verifier agrees").run_once(&[9; 20]).expect("it runs");
    assert_eq!(verdict, 2);
    assert_eq!(frame, [&[9; 6][..], b"the slot", &[9; 6]].concat());
    assert_eq!(words.word(4).load(std::sync::atomic::Ordering::Relaxed), 77);
    let refused =
        LoadedProgram::load(ProgramKind::Xdp, &program(true), &[&slots, &words]).expect_err("it writes");
    assert!(refused.to_string().contains("could write to map 0"), "{refused}");
}

/// Not a test of its own: the process that the next test kills. It opens a link and waits.
#[test]
#[ignore = "run by netns_a_killed_process_leaves_nothing_behind"]
fn child_that_holds_a_link() {
    let Some(name) = std::env::var_os("SWATH_TEST_LINK") else { return };
    let near = std::env::var("SWATH_TEST_NEAR").expect("a namespace");
    let far = std::env::var("SWATH_TEST_FAR").expect("a namespace");
    let lab = std::mem::ManuallyDrop::new(Lab { near, far });
    let mut link = open(&lab, &name.to_string_lossy(), Gate::open());
    submit_all(link.tx[0].as_mut(), &probes(FAR, 443, 0, LANES));
    std::io::stderr().write_all(b"ready\n").expect("written");
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn netns_a_killed_process_leaves_nothing_behind() {
    for name in LINKS {
        let Some(lab) = Lab::with_redirects() else { return };
        let before = interfaces(&lab);
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "child_that_holds_a_link", "--ignored", "--nocapture"])
            .env("SWATH_TEST_LINK", name)
            .env("SWATH_TEST_NEAR", &lab.near)
            .env("SWATH_TEST_FAR", &lab.far)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("started");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let ready = lines.by_ref().any(|line| line.is_ok_and(|line| line == "ready"));
        let objects = objects_of(child.id());
        let during = interfaces(&lab);
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert!(ready, "{name}: the child sent its frames");
        assert_eq!(objects.is_empty(), *name != "xdp_live", "{name}: it held programs and maps");
        let deadline = Instant::now() + Duration::from_secs(5);
        let left = |objects: &[(ObjectKind, u32)]| {
            objects.iter().filter(|&&(kind, id)| ebpf_kernel::exists(kind, id).expect("told")).count()
        };
        // The kernel frees them after a grace period.
        while (0 < left(&objects) || interfaces(&lab) != before) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(left(&objects), 0, "{name}: programs, maps and links");
        assert_eq!(interfaces(&lab), before, "{name}: interfaces as before, not as during:\n{during}");
        eprintln!("{name}: {} programs, maps and links are gone", objects.len());
        // Nor is the queue taken.
        let mut link = open(&lab, name, Gate::open());
        submit_all(link.tx[0].as_mut(), &probes(FAR, 443, 0, LANES));
    }
}

/// The interfaces of the near namespace with everything attached to them, without counters.
fn interfaces(lab: &Lab) -> String {
    let links = run(&["ip", "-n", &lab.near, "-d", "link"]);
    String::from_utf8_lossy(&links.stdout).into_owned()
}

/// The programs, maps and links a process holds, by their numbers.
fn objects_of(process: u32) -> Vec<(ObjectKind, u32)> {
    let mut objects = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{process}/fdinfo")).expect("a process").flatten() {
        for line in std::fs::read_to_string(entry.path()).unwrap_or_default().lines() {
            for (field, kind) in [
                ("prog_id:", ObjectKind::Program),
                ("map_id:", ObjectKind::Map),
                ("link_id:", ObjectKind::Attachment),
            ] {
                if let Some(number) = line.strip_prefix(field) {
                    objects.push((kind, number.trim().parse().expect("a number")));
                }
            }
        }
    }
    objects
}
