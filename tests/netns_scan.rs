//! The whole program against a real kernel: sweeps of a lab (`scripts/lab`: two namespaces, no way out) whose truth is
//! enumerated by the far kernel, and what must hold when the user, the disk, the link or the network fails. Each test
//! has a lab of its own, one at a time. Needs root; without it the tests say that they were skipped, or fail under
//! `SWATH_NETNS=required`.
#![allow(clippy::print_stderr, reason = "skips are for the person who runs the tests")]

mod common;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::lab::Lab;
use common::{Ran, SWATH};
use rusqlite::Connection;
use swath::sys::namespace;

/// The addresses of a block.
fn block(first: [u8; 4], count: u32) -> impl Iterator<Item = Ipv4Addr> {
    let first = u32::from(Ipv4Addr::from(first));
    (first..first + count).map(Ipv4Addr::from)
}

fn sorted(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.collect();
    lines.sort_unstable();
    lines
}

fn from_text(text: &str) -> Vec<String> {
    sorted(text.lines().map(|line| {
        let line = line.strip_prefix("Discovered open port ").expect("a line of text");
        let (port, address) = line.split_once("/tcp on ").expect("a line of text");
        format!("{address}:{port}")
    }))
}

fn from_ndjson(text: &str) -> Vec<String> {
    sorted(
        records(text)
            .iter()
            .filter(|record| record["state"] == "open")
            .map(|record| format!("{}:{}", record["ip"].as_str().expect("text"), record["port"])),
    )
}

fn records(text: &str) -> Vec<serde_json::Value> {
    assert!(text.is_empty() || text.ends_with('\n'), "the last record is whole");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn from_csv(text: &str) -> Vec<String> {
    assert!(text.ends_with("\r\n"), "the last record is whole");
    sorted(text.lines().skip(1).map(|line| {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!(fields.len(), 19, "{line}");
        format!("{}:{}", fields[1], fields[2])
    }))
}

fn database(path: &Path) -> Connection {
    let database = Connection::open(path).expect("a database");
    let check: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a check");
    assert_eq!(check, "ok");
    database
}

fn from_database(path: &Path) -> Vec<String> {
    let database = database(path);
    let mut query =
        database.prepare("SELECT ip || ':' || port FROM observation WHERE state = 1").expect("tables");
    let rows = query.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("text"));
    sorted(rows)
}

fn status(path: &Path) -> String {
    database(path).query_row("SELECT status FROM scan", [], |row| row.get(0)).expect("one scan")
}

fn number(path: &Path, sql: &str) -> i64 {
    database(path).query_row(sql, [], |row| row.get(0)).expect("a number")
}

/// Sends a signal to a process this test started.
fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
    assert!(status.expect("kill runs").success());
}

#[track_caller]
fn ended(child: Child, within: Duration) -> (Ran, Option<i32>) {
    let started = Instant::now();
    let id = child.id().to_string();
    // Should it hang, it must not hang the tests.
    let waiter = std::thread::spawn(move || child.wait_with_output().expect("output"));
    while !waiter.is_finished() {
        if within < started.elapsed() {
            let _ = Command::new("kill").args(["-s", "KILL", &id]).status();
            panic!("swath did not end within {within:?}");
        }
        sleep(Duration::from_millis(10));
    }
    let output = waiter.join().expect("no panic");
    (Ran::of(&output), output.status.signal())
}

// --- What is found ----------------------------------------------------------------------------------------------------

#[test]
fn netns_a_sweep_finds_the_truth_in_every_kind_of_output() {
    let Some(lab) = Lab::up() else { return };
    let ran = lab
        .scan(
            "198.18.0.0/22 -p22,80,443,8081 --rate 50k --wait 0.5 -o a.db -o a.ndjson -o a.csv -o a.txt -o -",
        )
        .exits(0)
        .balances();
    let truth = lab.truth(block([198, 18, 0, 0], 1024));
    assert_eq!(from_text(&ran.out), truth);
    assert_eq!(from_ndjson(&lab.read("a.ndjson")), truth);
    assert_eq!(from_csv(&lab.read("a.csv")), truth);
    assert_eq!(sorted(lab.read("a.txt").lines().map(str::to_owned)), truth);
    assert_eq!(from_database(&lab.path("a.db")), truth);
    assert_eq!(status(&lab.path("a.db")), "complete");
    assert_eq!(ran.ledger("frames ", "duplicate"), 0);
    assert_eq!(ran.ledger("frames ", "accepted"), 4096);
    for sink in ["a.db", "a.ndjson", "a.csv", "a.txt", "standard output"] {
        assert_eq!(ran.sink(sink), [3072, 1024, 0], "{sink}");
    }
    assert_eq!(number(&lab.path("a.db"), "SELECT count(*) FROM open_service"), 3072);
    assert_eq!(number(&lab.path("a.db"), "SELECT rows_out FROM scan"), 3072);
}

#[test]
fn netns_closed_ports_are_reported_when_asked_for() {
    let Some(lab) = Lab::up() else { return };
    let ran =
        lab.scan("198.18.0.0/24 -p22,8081 --rate 20k --wait 0.5 --show all -o a.ndjson").exits(0).balances();
    assert_eq!(ran.sink("a.ndjson"), [512, 0, 0]);
    let text = lab.read("a.ndjson");
    for record in records(&text) {
        let (state, reason) = if record["port"] == 22 { ("open", "syn-ack") } else { ("closed", "reset") };
        assert_eq!((&record["state"], &record["reason"]), (&state.into(), &reason.into()), "{record}");
        assert_eq!(record["proof"], "strong");
    }
}

#[test]
fn netns_every_layout_is_answered_and_linux_tells_the_round_trip() {
    let Some(lab) = Lab::up() else { return };
    let truth = lab.truth(block([198, 18, 4, 0], 64));
    for layout in ["mss", "windows", "linux", "bare"] {
        let file = format!("{layout}.ndjson");
        lab.scan(&format!("198.18.4.0/26 -p22,80,443 --rate 20k --wait 0.5 --layout {layout} -o {file}"))
            .exits(0)
            .balances();
        let text = lab.read(&file);
        assert_eq!(from_ndjson(&text), truth, "{layout}");
        for record in records(&text) {
            match record.get("rtt_us").and_then(serde_json::Value::as_u64) {
                Some(rtt_us) => assert!(layout == "linux" && (1..1_000_000).contains(&rtt_us), "{record}"),
                None => assert_ne!(layout, "linux", "{record}"),
            }
        }
    }
}

#[test]
fn netns_shards_together_are_the_whole() {
    let Some(lab) = Lab::up() else { return };
    for shard in 1..=3 {
        lab.scan(&format!(
            "198.18.0.0/24 -p22,80,443 --rate 20k --wait 0.3 --seed 5 --shard {shard}/3 -o all.txt -o s.db --append-output"
        ))
        .exits(0)
        .balances();
    }
    let truth = lab.truth(block([198, 18, 0, 0], 256));
    assert_eq!(sorted(lab.read("all.txt").lines().map(str::to_owned)), truth);
    assert_eq!(from_database(&lab.path("s.db")), truth);
    assert_eq!(number(&lab.path("s.db"), "SELECT count(DISTINCT plan_digest) + 10 * count(*) FROM scan"), 31);
}

#[test]
fn netns_probes_come_from_the_ports_the_user_names() {
    let Some(lab) = Lab::up() else { return };
    lab.far_rules(
        "add table inet test; add counter inet test wanted; add counter inet test other; \
         add chain inet test in { type filter hook prerouting priority -300; }; \
         add rule inet test in tcp flags syn tcp sport 61000-61063 counter name wanted accept; \
         add rule inet test in tcp flags syn counter name other",
    );
    let ran =
        lab.scan("198.18.0.0/24 -p80 --rate 20k --wait 0.3 -g 61000-61063 -o a.txt").exits(0).balances();
    assert_eq!(
        (ran.ledger("frames ", "accepted"), lab.counted("wanted"), lab.counted("other")),
        (256, 256, 0)
    );
    let ran = lab
        .scan("198.18.0.0/24 -p80 --rate 20k --wait 0.3 --adapter-port 61001 -o b.txt")
        .exits(0)
        .balances();
    assert_eq!(
        (ran.ledger("frames ", "accepted"), lab.counted("wanted"), lab.counted("other")),
        (256, 512, 0)
    );
}

#[test]
fn netns_neighbours_on_the_link_are_asked_for_and_found() {
    let Some(lab) = Lab::up() else { return };
    let ran = lab.scan("203.0.113.0/24 -p22,80,443,8081 --rate 20k --wait 0.5 -o a.txt").exits(0).balances();
    let truth = lab.truth(block([203, 0, 113, 0], 256));
    assert_eq!(sorted(lab.read("a.txt").lines().map(str::to_owned)), truth);
    assert_eq!((ran.ledger("probes ", "sent"), ran.ledger("frames ", "duplicate")), (1024, 0));
}

#[test]
fn netns_neighbours_that_are_silent_and_addresses_that_are_no_target_are_counted() {
    let Some(lab) = Lab::up() else { return };
    let started = Instant::now();
    let ran =
        lab.scan("192.0.2.0/28 192.0.2.255 -p80,8081 --rate 1k --wait 0.3 -o a.txt").exits(0).balances();
    // .0 and .255 mean all stations, .1 is near itself, .2 is far, the other 13 do not exist.
    let figures =
        ["planned", "sent", "excluded", "failed", "pending"].map(|name| ran.ledger("probes ", name));
    assert_eq!(figures, [34, 2, 4, 28, 0], "{}", ran.err);
    assert_eq!(lab.read("a.txt"), "192.0.2.2:80\n");
    assert!(started.elapsed() < Duration::from_secs(8), "three seconds of asking and no more");
}

#[test]
fn netns_a_scan_of_this_host_finds_what_listens_here() {
    let Some(lab) = Lab::up() else { return };
    let name = lab.namespace("near");
    let listeners = std::thread::spawn(move || {
        namespace::enter_network(&File::open(format!("/run/netns/{name}")).expect("the lab's"))
            .expect("root may");
        let at = |address: &str, port: u16| TcpListener::bind((address, port)).expect("free");
        let everywhere =
            [1, 22, 8080, 16_384, 20_001, 32_767, 40_000, 65_535].map(|port| at("0.0.0.0", port));
        let here = [7, 17_777, 61_000].map(|port| at("127.0.0.1", port));
        (everywhere, here, at("192.0.2.1", 5_000))
    });
    let _listeners = listeners.join().expect("bound");
    let sockets = lab.near("ss -Hltn");
    let at = |address: &str| {
        let local = sockets.lines().filter_map(|line| line.split_whitespace().nth(3));
        let split = local.filter_map(|local| local.rsplit_once(':'));
        let ports = split.filter(|(host, _)| *host == "0.0.0.0" || *host == address);
        let ports = ports.map(|(_, port)| format!("{address}:{port}"));
        sorted(ports)
    };
    for (address, count) in [("127.0.0.1", 11), ("192.0.2.1", 9)] {
        let truth = at(address);
        assert_eq!(truth.len(), count, "{sockets}");
        let file = format!("{address}.txt");
        let ran =
            lab.scan(&format!("{address} -p 1-65535 --rate 50k --wait 0.5 -o {file}")).exits(0).balances();
        assert_eq!(sorted(lab.read(&file).lines().map(str::to_owned)), truth);
        assert_eq!(ran.ledger("frames ", "accepted"), 65_535, "each port is open or closed");
    }
}

#[test]
fn netns_an_icmp_error_means_filtered_with_its_reason() {
    let Some(lab) = Lab::up() else { return };
    let kinds = ["host-prohibited", "port-unreachable", "admin-prohibited", "net-unreachable"];
    let reasons = ["host-prohibited", "port-unreach", "admin-prohibited", "net-unreach"];
    let rules: Vec<String> = kinds
        .iter()
        .enumerate()
        .map(|(at, kind)| {
            format!(
                "; add rule inet test in ip daddr 198.18.0.{}/28 tcp dport 80 reject with icmp {kind}",
                at * 16
            )
        })
        .collect();
    lab.far_rules(&format!(
        "add table inet test; add chain inet test in {{ type filter hook input priority 0; }}{}",
        rules.concat()
    ));
    let ran = lab
        .scan("198.18.0.0/25 -p80 --rate 2k --wait 0.5 --show all -o a.ndjson -o a.db --source-port 61000-61063")
        .exits(0)
        .balances();
    assert_eq!(ran.sink("a.ndjson"), [128, 0, 0], "{}", ran.err);
    for record in records(&lab.read("a.ndjson")) {
        let host: usize = record["ip"]
            .as_str()
            .and_then(|ip| ip.rsplit_once('.'))
            .expect("an address")
            .1
            .parse()
            .expect("a number");
        let expected = reasons.get(host / 16).map_or(("open", "syn-ack"), |reason| ("filtered", *reason));
        assert_eq!(
            (record["state"].as_str(), record["reason"].as_str()),
            (Some(expected.0), Some(expected.1)),
            "{record}"
        );
        // The far kernel rejects in the target's own name.
        assert!(record.get("responder").is_none(), "{record}");
    }
    let filtered = number(
        &lab.path("a.db"),
        "SELECT count(*) FROM observation_text WHERE state = 'filtered' AND reason = 'port-unreach'",
    );
    assert_eq!(filtered, 16);
}

// --- What leaves ------------------------------------------------------------------------------------------------------

#[test]
fn netns_what_is_excluded_is_never_on_the_wire() {
    let Some(lab) = Lab::up() else { return };
    // The lab itself has talked to 198.18.0.1, to see that it answers; late segments of that are not ours.
    lab.far_rules(
        "add table inet test; add counter inet test excluded; add counter inet test probed; \
         add chain inet test in { type filter hook prerouting priority -300; }; \
         add rule inet test in ip daddr { 198.18.1.0/26, 198.18.3.7, 198.18.2.0-198.18.2.99 } counter name excluded; \
         add rule inet test in tcp flags syn ip daddr 198.18.0.0/22 counter name probed",
    );
    fs::write(lab.path("never"), "198.18.3.7\n198.18.2.0-198.18.2.99 # a range\n").expect("written");
    let ran = lab
        .scan("198.18.0.0/22 -p80,443 --rate max --wait 0.5 --exclude 198.18.1.0/26 --excludefile never -o a.txt")
        .exits(0)
        .balances();
    let expected = 2 * (1024 - 64 - 1 - 100);
    assert_eq!(ran.ledger("probes ", "sent"), expected);
    assert_eq!((lab.counted("probed"), lab.counted("excluded")), (expected, 0));
}

#[test]
fn netns_the_rate_is_kept_in_every_window() {
    let Some(lab) = Lab::up() else { return };
    let pcap = lab.path("far.pcap");
    let capture =
        ["far", "tcpdump", "-i", "far0", "-w", pcap.to_str().expect("text"), "-s", "64", "-B", "16384"];
    let rest = [
        "--time-stamp-precision=nano",
        "-U",
        "--immediate-mode",
        "-Z",
        "root",
        "arp or (tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn and dst net 198.18.0.0/15)",
    ];
    let mut tcpdump =
        lab.command(&[&capture[..], &rest[..]].concat()).stderr(Stdio::null()).spawn().expect("tcpdump runs");
    while !fs::metadata(&pcap).is_ok_and(|file| 24 <= file.len()) {
        sleep(Duration::from_millis(10));
    }
    let ran = lab.scan("198.18.0.0/18 -p80 --rate 10k --wait 0.3 -o none:").exits(0).balances();
    assert_eq!(ran.ledger("probes ", "sent"), 16_384);
    signal(&tcpdump, "INT");
    tcpdump.wait().expect("tcpdump ends");
    let bytes = fs::read(&pcap).expect("a capture");
    let (_, capture) = pcap_parser::parse_pcap(&bytes).expect("a capture");
    let times: Vec<u64> = capture
        .blocks
        .iter()
        .map(|block| u64::from(block.ts_sec) * 1_000_000_000 + u64::from(block.ts_usec))
        .collect();
    assert!(16_384 <= times.len(), "{} frames were captured", times.len());
    // sigma is 10 ms of the rate; a thread that was interrupted between its grant and its system call is one batch late.
    let (sigma, late) = (100, 64);
    for (window_ns, earned) in
        [(1_000_000, 10), (10_000_000, 100), (100_000_000, 1_000), (1_000_000_000, 10_000)]
    {
        let mut first = 0;
        let mut most = 0;
        for (index, time) in times.iter().enumerate() {
            while window_ns <= time.saturating_sub(times[first]) {
                first += 1;
            }
            most = most.max(index + 1 - first);
        }
        assert!(most <= sigma + earned + late, "{most} frames in {window_ns} ns");
    }
    let lasted_ns = times[times.len() - 1] - times[0];
    assert!(
        (1_600_000_000..2_500_000_000).contains(&lasted_ns),
        "{lasted_ns} ns for 16,384 frames at 10,000 a second"
    );
}

#[test]
fn netns_frames_lost_on_the_way_are_missing_and_nothing_else_is() {
    let Some(lab) = Lab::up() else { return };
    lab.script(&["loss", "20"]);
    let ran =
        lab.scan("198.18.0.0/20 -p80,8081 --rate 20k --wait 0.5 --show all -o a.ndjson").exits(0).balances();
    let count = lab.script(&["loss", "count"]);
    let lost: u64 = count.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a count");
    assert!((1_000..2_500).contains(&lost), "a fifth of 8,192: {count}");
    assert_eq!(ran.ledger("probes ", "sent"), 8192);
    assert_eq!(ran.ledger("frames ", "accepted") + lost, 8192);
    for record in records(&lab.read("a.ndjson")) {
        let state = if record["port"] == 80 { "open" } else { "closed" };
        assert_eq!(record["state"], state, "{record}");
    }
}

/// Sends, for three seconds, whatever an enemy might: noise, cut and contradictory headers, forged SYN-ACKs, RSTs and
/// ICMP errors, answers to questions nobody asked.
const ENEMY: &str = r#"
import os, random, socket, struct, time
random.seed(1)
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("far0", 0))
near = bytes.fromhex("0200c0000201") + bytes.fromhex("0200c0000202")
def ip(protocol, payload, source=None):
    source = source or bytes([198, 18, random.randrange(4), random.randrange(256)])
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0, source, bytes([192, 0, 2, 1]))
    total = sum(struct.unpack("!10H", head))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return near + b"\x08\x00" + head[:10] + struct.pack("!H", total ^ 0xffff) + head[12:] + payload
def tcp():
    flags = random.choice([0x12, 0x14, 0x04, 0x02, 0x10, random.randrange(256)])
    return struct.pack("!HHIIBBHHH", random.choice([22, 80, 443]), random.randrange(16384, 32768), random.getrandbits(32),
        random.getrandbits(32), random.choice([0x50, 0x60, 0xf0, 0x40]), flags, 1024, 0, 0) + os.urandom(random.randrange(8))
def icmp():
    return bytes([random.choice([3, 3, 11, 12]), random.randrange(16)]) + bytes(6) + ip(6, tcp())[14:][:random.randrange(60)]
def arp():
    return near + b"\x08\x06\x00\x01\x08\x00\x06\x04\x00\x02" + os.urandom(6) + bytes([203, 0, 113, random.randrange(256)]) + os.urandom(10)
kinds = [lambda: ip(6, tcp()), lambda: ip(1, icmp()), arp, lambda: near + os.urandom(random.randrange(2, 90)),
    lambda: ip(6, tcp())[:random.randrange(15, 60)], lambda: near + b"\x08\x00" + os.urandom(random.randrange(60))]
end = time.monotonic() + 3
while time.monotonic() < end:
    for _ in range(20): wire.send(random.choice(kinds)())
    time.sleep(0.001)
"#;

#[test]
fn netns_hostile_frames_are_counted_and_change_nothing() {
    let Some(lab) = Lab::up() else { return };
    let mut enemy = lab.command(&["far", "python3", "-c", ENEMY]).spawn().expect("python3 runs");
    sleep(Duration::from_millis(300));
    let ran =
        lab.scan("198.18.0.0/22 -p22,80,443 --rate 8k --wait 0.5 --show all -o a.ndjson").exits(0).balances();
    assert!(enemy.wait().expect("it ends").success());
    let truth = lab.truth(block([198, 18, 0, 0], 1024));
    assert_eq!(from_ndjson(&lab.read("a.ndjson")), truth);
    assert_eq!(ran.sink("a.ndjson"), [3072, 0, 0], "no forged verdict");
    for reason in ["malformed", "bad-cookie", "unmatched-icmp"] {
        assert!(ran.err.contains(reason), "no {reason} in {}", ran.err);
    }
}

// --- What goes wrong --------------------------------------------------------------------------------------------------

/// A scan of 65,536 targets at 4 kpps, interrupted by signals a second after it began.
#[track_caller]
fn interrupted(lab: &Lab, options: &str, signals: &[(&str, u64)]) -> (Ran, Option<i32>, Duration) {
    let child = lab.start(&format!("198.18.0.0/16 -p80 --rate 4k {options}"));
    sleep(Duration::from_secs(1));
    let started = Instant::now();
    for (name, pause_ms) in signals {
        signal(&child, name);
        sleep(Duration::from_millis(*pause_ms));
    }
    let (ran, signal) = ended(child, Duration::from_secs(10));
    (ran, signal, started.elapsed())
}

#[test]
fn netns_one_interrupt_ends_the_scan_with_valid_results() {
    let Some(lab) = Lab::up() else { return };
    for name in ["INT", "TERM"] {
        let options = format!("--wait 0.5 -o {name}.db -o {name}.ndjson -o {name}.csv -o {name}.txt");
        let (ran, _, lasted) = interrupted(&lab, &options, &[(name, 0)]);
        let ran = ran.exits(130).balances();
        assert!(
            Duration::from_millis(400) < lasted && lasted < Duration::from_secs(3),
            "it waits for replies: {lasted:?}"
        );
        let sent = ran.ledger("probes ", "sent");
        assert!(
            (1_000..20_000).contains(&sent) && sent + ran.ledger("probes ", "unsent") <= 65_536,
            "{sent}"
        );
        assert_eq!(ran.ledger("frames ", "accepted"), sent, "every probe was answered");
        let found = from_database(&lab.path(&format!("{name}.db")));
        assert_eq!(found.len() as u64, sent);
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len() as u64, sent, "each once");
        assert_eq!(from_ndjson(&lab.read(&format!("{name}.ndjson"))), found);
        assert_eq!(from_csv(&lab.read(&format!("{name}.csv"))), found);
        assert_eq!(sorted(lab.read(&format!("{name}.txt")).lines().map(str::to_owned)), found);
        assert_eq!(status(&lab.path(&format!("{name}.db"))), "interrupted");
    }
}

#[test]
fn netns_a_second_interrupt_waits_for_no_reply() {
    let Some(lab) = Lab::up() else { return };
    let (ran, _, lasted) = interrupted(&lab, "--wait 60 -o a.db", &[("INT", 300), ("INT", 0)]);
    let ran = ran.exits(130).balances();
    assert!(lasted < Duration::from_secs(3), "{lasted:?}");
    assert_eq!(status(&lab.path("a.db")), "interrupted");
    assert_eq!(from_database(&lab.path("a.db")).len() as u64, ran.sink("a.db")[0]);
}

/// The writer is stuck in a pipe that nobody empties: only the third interrupt can help.
#[test]
fn netns_a_third_interrupt_ends_the_process_whatever_it_does() {
    let Some(lab) = Lab::up() else { return };
    let pipe = lab.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let reader = fs::OpenOptions::new().read(true).write(true).open(&pipe).expect("a reader");
    let options = format!("--rate max --wait 60 -o csv:{} -o none:", pipe.display());
    let child = lab.start(&format!("198.18.0.0/18 -p80 {options}"));
    sleep(Duration::from_secs(1));
    for _ in 0..2 {
        signal(&child, "INT");
        sleep(Duration::from_millis(400));
    }
    assert!(Path::new(&format!("/proc/{}/exe", child.id())).exists(), "two are not enough here");
    signal(&child, "INT");
    let (_, by_signal) = ended(child, Duration::from_secs(3));
    assert_eq!(by_signal, Some(2));
    drop(reader);
}

#[test]
fn netns_kill_9_leaves_a_readable_database_and_nothing_else() {
    let Some(lab) = Lab::up() else { return };
    let child = lab.start("198.18.0.0/16 -p80 --rate 20k -o a.db -o a.ndjson -o a.txt");
    sleep(Duration::from_millis(1500));
    signal(&child, "KILL");
    let (_, by_signal) = ended(child, Duration::from_secs(3));
    assert_eq!(by_signal, Some(9));
    assert_eq!(status(&lab.path("a.db")), "running");
    let found = from_database(&lab.path("a.db"));
    assert!(1_000 < found.len(), "what was found a second ago is safe: {}", found.len());
    assert!(found.iter().all(|line| line.ends_with(":80")));
    assert!(1_000 < from_ndjson(&lab.read("a.ndjson")).len());
    assert!(lab.read("a.txt").ends_with(":80\n"));
    assert_eq!(lab.near("nft list ruleset"), "");
    let link = lab.near("ip -d link show near0");
    assert!(link.contains("promiscuity 0") && !link.contains("xdp"), "{link}");
    assert_eq!(lab.near("cat /proc/net/packet").lines().count(), 1, "no packet socket is left");
    assert_eq!(lab.near("ss -Hwan"), "", "no raw socket is left");
}

#[test]
fn netns_the_reader_of_standard_output_may_leave() {
    let Some(lab) = Lab::up() else { return };
    let line =
        format!("{SWATH} 198.18.0.0/16 -p80 --rate 20k --wait 60 2>err | head -1; echo ${{PIPESTATUS[0]}}");
    let started = Instant::now();
    let out = lab.script(&["exec", "bash", "-c", &line]);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("Discovered open port 80/tcp on 198.18."), "{out}");
    assert_eq!(lines[1], "130", "not everything was scanned");
    let ran = Ran { code: None, out: String::new(), err: lab.read("err") };
    ran.balances();
}

/// Runs a scan with `small` a file system of so many bytes; what is in it afterwards is in `copy`.
fn with_small_disk(lab: &Lab, size: &str, options: &str) -> Ran {
    let script = format!(
        "mkdir small && mount -t tmpfs -o size={size} none small && {{ \"$0\" exec {SWATH} {options}; status=$?; cp -r small copy; exit $status; }}"
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "bash", "-c", &script, concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/lab")]);
    command.current_dir(lab.directory.path()).env("SWATH_LAB", &lab.name).stdin(Stdio::null());
    Ran::of(&command.output().expect("unshare runs"))
}

#[test]
fn netns_a_full_disk_costs_one_output_and_is_told() {
    let Some(lab) = Lab::up() else { return };
    for (name, size) in [("x.ndjson", "64k"), ("x.csv", "64k"), ("x.db", "512k")] {
        let whole = format!("{name}.txt");
        let options =
            format!("198.18.0.0/19 -p80 --rate 40k --wait 0.5 --checkpoint none -o small/{name} -o {whole}");
        let ran = with_small_disk(&lab, size, &options).balances();
        assert_eq!(ran.code, Some(4), "{}", ran.err);
        assert!(
            ran.err.contains(&format!("small/{name}"))
                && ran.err.contains("full") | ran.err.contains("No space left"),
            "{}",
            ran.err
        );
        let [written, _, suppressed] = ran.sink(&format!("small/{name}"));
        assert!(0 < suppressed, "{}", ran.err);
        assert_eq!(ran.sink(&whole), [8192, 0, 0]);
        let truth: Vec<String> = sorted(block([198, 18, 0, 0], 8192).map(|address| format!("{address}:80")));
        assert_eq!(sorted(lab.read(&whole).lines().map(str::to_owned)), truth);
        let copy = lab.path("copy").join(name);
        let found = match name {
            "x.db" => from_database(&copy),
            "x.csv" => from_csv(&fs::read_to_string(&copy).expect("a file")),
            _ => from_ndjson(&fs::read_to_string(&copy).expect("a file")),
        };
        assert_eq!(found.len() as u64, written, "{name}: what counts as written is there");
        fs::remove_dir_all(lab.path("copy")).expect("a directory");
        fs::remove_dir(lab.path("small")).expect("empty outside of its namespace");
    }
}

#[test]
fn netns_a_link_that_goes_down_for_a_second_costs_a_second() {
    let Some(lab) = Lab::up() else { return };
    let child = lab.start("198.18.0.0/18 -p80 --rate 6k --wait 1 -o a.txt");
    let near = lab.namespace("near");
    let set = |state: &str| {
        let status = Command::new("ip").args(["-n", &near, "link", "set", "near0", state]).status();
        assert!(status.expect("ip runs").success());
    };
    sleep(Duration::from_secs(1));
    set("down");
    sleep(Duration::from_secs(1));
    set("up");
    let (ran, _) = ended(child, Duration::from_secs(15));
    let ran = ran.exits(0).balances();
    assert_eq!(ran.ledger("probes ", "sent"), 16_384);
    let found: BTreeSet<String> = lab.read("a.txt").lines().map(str::to_owned).collect();
    assert_eq!(found.len() as u64, ran.ledger("frames ", "accepted"), "each once");
    // Only answers that were under way when the link went down may be missing.
    assert!(16_384 - 128 <= found.len(), "{} of 16,384", found.len());
}

#[test]
fn netns_a_gateway_that_is_silent_ends_the_scan_before_it_begins() {
    let Some(lab) = Lab::up() else { return };
    lab.far("ip link set far0 arp off");
    lab.near("ip neigh flush all");
    lab.far_rules(
        "add table inet test; add counter inet test probed; add chain inet test in { type filter hook prerouting priority -300; }; \
         add rule inet test in ip protocol tcp counter name probed",
    );
    let ran = lab.scan("198.18.0.0/24 -p80 --rate 10k -o a.db").exits(1);
    assert!(
        ran.err.contains("gateway 192.0.2.2 did not answer on near0") && ran.err.contains("--router-mac"),
        "{}",
        ran.err
    );
    assert_eq!(status(&lab.path("a.db")), "failed");
    assert_eq!(number(&lab.path("a.db"), "SELECT sent + 1000 * unsent FROM scan"), 256_000);
    assert_eq!(lab.counted("probed"), 0);
    // Whoever waits for it can be interrupted.
    let child = lab.start("198.18.0.0/24 -p80 --rate 10k -o b.db");
    sleep(Duration::from_millis(500));
    signal(&child, "INT");
    let (ran, _) = ended(child, Duration::from_secs(1));
    assert!(ran.exits(130).err.contains("interrupted before the first probe"));
    assert_eq!(status(&lab.path("b.db")), "interrupted");
    // Whoever knows the router needs no answer.
    let ran =
        lab.scan("198.18.0.0/24 -p80 --rate 10k --wait 0.3 --router-mac 02:00:c0:00:02:02 -o c.db").exits(0);
    assert_eq!(ran.balances().ledger("probes ", "sent"), 256);
    assert_eq!(lab.counted("probed"), 256);
}

#[test]
fn netns_without_privilege_the_message_says_how_to_get_it() {
    let Some(lab) = Lab::up() else { return };
    fs::write(lab.path("kept.csv"), "precious").expect("written");
    for output in ["-o a.db", "-o kept.csv --force"] {
        let words =
            format!("exec setpriv --bounding-set=-all --inh-caps=-all {SWATH} 198.18.0.0/24 -p80 {output}");
        let ran =
            Ran::of(&lab.command(&words.split(' ').collect::<Vec<_>>()).output().expect("setpriv runs"))
                .exits(1);
        assert!(
            ran.err.contains("no permission")
                && ran.err.contains("setcap cap_net_raw")
                && ran.err.contains(SWATH),
            "{}",
            ran.err
        );
        assert!(!lab.path("a.db").exists(), "nothing began");
        assert_eq!(lab.read("kept.csv"), "precious");
    }
}

#[test]
fn netns_an_interface_that_is_down_or_cannot_reach_the_targets_is_named() {
    let Some(lab) = Lab::up() else { return };
    let ran = lab.scan("198.51.100.0/24 -p80 -o a.db").exits(1);
    assert!(ran.err.contains("no route to 198.51.100.0"), "{}", ran.err);
    let ran = lab.scan("198.18.0.0/24 198.51.100.0/24 -p80 -o a.db").exits(2);
    assert!(
        ran.err.contains("256 of the addresses, 198.51.100.0") && ran.err.contains("no route"),
        "{}",
        ran.err
    );
    let ran = lab.scan("198.18.0.0/24 -p80 --source-ip 198.18.0.1 -o a.db").exits(2);
    assert!(ran.err.contains("192.0.2.1"), "{}", ran.err);
    lab.near("ip link set near0 down");
    let ran = lab.scan("198.18.0.0/24 -p80 -e near0 -o a.db").exits(1);
    assert!(ran.err.contains("near0 is down") && ran.err.contains("ip link set near0 up"), "{}", ran.err);
    assert!(!lab.path("a.db").exists(), "nothing began");
}
