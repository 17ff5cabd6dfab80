//! How many frames per second each link gets onto a veth, one thread, counted by a sink in the far driver: first the
//! link alone, then a whole scan (order, cookie, gate, ledger).
//!
//! `cargo bench --bench links [-- LINK...]`: as root; makes two namespaces with no way out and removes them.
#![allow(missing_docs, reason = "a benchmark")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints a table")]

#[path = "../tests/link_lab/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "a module that the tests use as well")]
mod link_lab;

use std::process::Command;
use std::time::{Duration, Instant};

use link_lab::{Lab, Sink, probes};
use swath::batch::LANES;
use swath::gate::Gate;
use swath::link::Link;

const ROUNDS: usize = 5;
const SECONDS: u64 = 2;

struct Round {
    millions_per_second: f64,
    accepted: u64,
    seen: u64,
    stalls: u64,
}

fn main() {
    let named: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let all = ["af_packet", "af_xdp", "xdp_live"];
    let exists = |name: &str| swath::link::BACKENDS.iter().any(|backend| backend.name == name);
    let links: Vec<&str> = match named.is_empty() {
        true => all.into_iter().filter(|name| exists(name)).collect(),
        false => named.iter().map(String::as_str).collect(),
    };
    let Some(lab) = Lab::new() else { return };
    let sink = Sink::counting(&lab);
    println!("one thread, SYN with MSS (58 bytes), {ROUNDS} rounds of {SECONDS} s, interleaved");
    let mut rounds: Vec<Vec<Round>> = links.iter().map(|_| Vec::new()).collect();
    for number in 0..ROUNDS {
        for (name, rounds) in links.iter().zip(&mut rounds) {
            let round = measure(&lab, &sink, name, number == 0);
            assert_eq!(round.seen, round.accepted, "{name}: the sink saw what the link says it sent");
            rounds.push(round);
        }
    }
    lab.ip(&lab.near, "route add 198.18.0.0/15 via 192.0.2.2");
    for name in &links {
        scan(&lab, &sink, name);
        measure_two(name);
    }
    for (name, rounds) in links.iter().zip(&mut rounds) {
        rounds.sort_by(|a, b| a.millions_per_second.total_cmp(&b.millions_per_second));
        let (low, median, high) = (&rounds[0], &rounds[ROUNDS / 2], &rounds[ROUNDS - 1]);
        let frames: u64 = rounds.iter().map(|round| round.seen).sum();
        let stalls: u64 = rounds.iter().map(|round| round.stalls).sum();
        println!(
            "{name:<10} {:.2} Mpps ({:.2}-{:.2}), {frames} frames accepted and seen, {stalls} stalls",
            median.millions_per_second, low.millions_per_second, high.millions_per_second
        );
    }
}

fn measure(lab: &Lab, sink: &Sink, name: &str, says: bool) -> Round {
    let link = lab.open_near(name, Gate::open()).unwrap_or_else(|error| panic!("{error}"));
    if says {
        println!("{}", link.about);
    }
    let before = sink.settled();
    let (elapsed, accepted, stalls) = send(link);
    let seen = sink.settled() - before;
    Round { millions_per_second: seen as f64 / elapsed.as_secs_f64() / 1e6, accepted, seen, stalls }
}

/// Two links in two threads on two queues, once.
fn measure_two(name: &str) {
    let Some(lab) = Lab::with_queues(2) else { return };
    let sink = Sink::counting(&lab);
    let open = || lab.open_near(name, Gate::open()).unwrap_or_else(|error| panic!("{error}"));
    let links = [open(), open()];
    let (mut elapsed, mut accepted, mut stalls) = (Duration::ZERO, 0, 0);
    std::thread::scope(|scope| {
        let threads = links.map(|link| scope.spawn(|| send(link)));
        for thread in threads {
            let one = thread.join().expect("no panic");
            (elapsed, accepted, stalls) = (elapsed.max(one.0), accepted + one.1, stalls + one.2);
        }
    });
    let seen = sink.settled();
    assert_eq!(seen, accepted, "{name}: the sink saw what the links say they sent");
    let rate = seen as f64 / elapsed.as_secs_f64() / 1e6;
    println!(
        "{name}: two threads, two queues {rate:.2} Mpps, {seen} frames accepted and seen, {stalls} stalls"
    );
}

/// Sends for a while; returns how long, frames accepted, and batches that stalled.
fn send(mut link: Link) -> (Duration, u64, u64) {
    let queue = link.tx[0].as_mut();
    let mut round = vec![probes("198.18.0.1", 443, 0, LANES); queue.round_length()];
    let (mut outcomes, mut accepted, mut stalls, mut number) = (Vec::new(), 0u64, 0u64, 0u32);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(SECONDS) {
        for batch in &mut round {
            for lane in 0..LANES {
                number = number.wrapping_add(0x9e37_79b9);
                batch.sequence[lane] = number;
                batch.destination_v4[lane] = 0xc612_0000 | number >> 15;
            }
        }
        queue.submit_round(&round, &mut outcomes).unwrap_or_else(|error| panic!("{error}"));
        accepted += outcomes.iter().map(|outcome| u64::from(outcome.lanes.count_ones())).sum::<u64>();
        stalls += outcomes.iter().filter(|outcome| outcome.stall.is_some()).count() as u64;
    }
    (started.elapsed(), accepted, stalls)
}

/// Runs `swath` itself at the highest rate and prints its own account beside the sink's.
fn scan(lab: &Lab, sink: &Sink, name: &str) {
    let ports = if name == "xdp_live" { "1-400" } else { "1-40" };
    let before = sink.settled();
    let output = Command::new("ip")
        .args([
            "netns",
            "exec",
            &lab.near,
            env!("CARGO_BIN_EXE_swath"),
            "198.18.0.0/15",
            "-p",
            ports,
            "--control-share",
            "0",
        ])
        .args(["--rate", "max", "--link", name, "-e", "v0", "--wait", "0"])
        .output()
        .expect("started");
    let seen = sink.settled() - before;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let sent = said.lines().find(|line| line.starts_with("sent ")).unwrap_or(&said);
    println!("{name}: a scan at --rate max {sent}; the sink saw {seen}");
}
