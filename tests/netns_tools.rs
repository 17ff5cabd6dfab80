//! `swath doctor`, `swath bench tx` and `--link fastest` on a veth pair: what they say is what the far driver and the
//! kernel say. Needs root; without it the tests say that they were skipped, or fail under `SWATH_NETNS=required`.
#![allow(clippy::print_stderr, reason = "skips are for the person who runs the tests")]

#[allow(unreachable_pub, dead_code, reason = "a module that other tests and a bench use as well")]
mod link_lab;

use std::io::Read;
use std::process::{Child, Command, Output, Stdio};

use link_lab::{Lab, Sink, run};

fn near(lab: &Lab, arguments: &str) -> Output {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &lab.near, env!("CARGO_BIN_EXE_swath")]).args(arguments.split(' '));
    command.output().expect("started")
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{error}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

#[test]
fn netns_bench_tx_sends_what_it_says_to_the_named_targets_only() {
    for options in ["", "--threads 2", "--size 1000", "--size 54"] {
        let Some(lab) = Lab::with_queues(2) else { return };
        lab.ip(&lab.near, "route add 198.18.0.0/15 via 192.0.2.2");
        lab.ip(&lab.near, &format!("neigh replace 192.0.2.2 lladdr {} dev v0", lab.far_mac()));
        let sink = Sink::by_target(&lab);
        let words = format!("bench tx 198.18.0.0/20 -p 1-4 -e v0 --rounds 2 --seconds 0.1 --json {options}");
        let output = near(&lab, words.trim_end());
        let report = json(&output);
        let rows = report["rows"].as_array().expect("rows");
        assert_eq!(rows.len(), 4, "{report}");
        let opened = rows.iter().filter(|row| !row["pps"].is_null()).count();
        assert_eq!(opened, 4, "{report}");
        let frames: u64 = rows.iter().map(|row| row["frames"].as_u64().expect("a number")).sum();
        assert_eq!(sink.settled(), frames, "{options}: {report}");
        let seen: u64 = (0..4096u32)
            .flat_map(|host| (1..=4u16).map(move |port| (0xc612_0000 + host, port)))
            .map(|(address, port)| u64::from(sink.seen_target(address, port)))
            .sum();
        assert_eq!(seen, frames, "{options}: no other target was sent to");
        assert!(
            report["line_pps"].as_f64().is_some_and(|line| 0.0 < line),
            "a veth says 10 Gbit/s: {report}"
        );
        if options == "--size 1000" {
            assert_eq!(report["frame_bytes"], 1000);
        }
    }
}

#[test]
fn netns_bench_tx_keeps_the_rules_of_a_scan() {
    let Some(lab) = Lab::new() else { return };
    lab.ip(&lab.near, "route add 198.18.0.0/15 via 192.0.2.2");
    for (words, said) in [
        ("bench tx 198.18.0.0/20 -e v0 --link af_packet --seconds 0.1", "--router-mac"),
        ("bench tx 224.0.0.1 -e v0 --link af_packet", "never probed"),
        ("bench tx 198.18.0.0/30 --exclude 198.18.0.0/24 -e v0", "excluded"),
        ("bench tx 198.18.0.0/30 -e nope", "no interface named"),
        ("bench tx 198.18.0.0/30 -e v0 --link null", "no link 'null' that transmits"),
    ] {
        let output = near(&lab, words);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{words}: {text}");
        assert!(text.contains(said), "{words}: {text}");
    }
}

#[test]
fn netns_the_fastest_link_is_the_one_that_opens_and_says_why() {
    let Some(lab) = Lab::new() else { return };
    lab.ip(&lab.near, "route add 198.18.0.0/15 via 192.0.2.2");
    lab.ip(&lab.far, "route add local 198.18.0.0/15 dev lo");
    let scan = "198.18.0.0/24 -p 9 --rate 5k --wait 1 -e v0 --link fastest --show all";
    // Nothing at the far end polls, so frames made by XDP are not taken.
    let said = lab.swath(scan);
    assert!(said.contains("af_xdp on v0") && said.contains("takes no redirected frames"), "{said}");
    assert!(said.contains("+ 256 accepted"), "{said}");
    lab.receive_in_batches();
    let said = lab.swath(scan);
    assert!(said.contains("xdp_live on v0") && said.contains("xdp_live is the fastest there is"), "{said}");
    assert!(said.contains("+ 256 accepted") && !said.contains("counted nothing"), "{said}");
}

/// A tap device, held by a process that reads it when its standard input ends: the lab's interface on which frames go nowhere.
struct Tap(Child);

impl Tap {
    fn new(lab: &Lab) -> Tap {
        let program = r#"
import fcntl, os, struct, sys
tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
fcntl.ioctl(tap, 0x400454ca, struct.pack("16sH22x", b"t0", 0x1002))  # TUNSETIFF, IFF_TAP | IFF_NO_PI
print("ready", flush=True)
sys.stdin.read()
frames = []
try:
    while len(frames) < 100000:
        frames.append(os.read(tap, 2048))
except BlockingIOError:
    pass
probes = [frame[30:34] for frame in frames if frame[12:14] == b"\x08\x00" and frame[30:32] == bytes([198, 18])]
print(len(probes), len(set(probes)), flush=True)
"#;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &lab.near, "python3", "-c", program]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 in the namespace");
        let mut line = [0; 6];
        child.stdout.as_mut().expect("piped").read_exact(&mut line).expect("the tap device");
        lab.ip(&lab.near, "link set t0 up");
        lab.ip(&lab.near, "address add 203.0.113.1/24 dev t0");
        lab.ip(&lab.near, "route add 198.18.0.0/15 via 203.0.113.2");
        Tap(child)
    }

    /// Probes and distinct addresses among what waited in the device.
    fn read(mut self) -> (usize, usize) {
        drop(self.0.stdin.take());
        let mut text = String::new();
        self.0.stdout.as_mut().expect("piped").read_to_string(&mut text).expect("text");
        self.0.wait().expect("ended");
        let (probes, addresses) = text.trim().split_once(' ').expect("two numbers");
        (probes.parse().expect("a number"), addresses.parse().expect("a number"))
    }
}

#[test]
fn netns_the_fastest_link_goes_to_the_next_when_nothing_is_counted() {
    let Some(lab) = Lab::new() else { return };
    let tap = Tap::new(&lab);
    let scan = "198.18.0.0/24 -p 9 --rate 5k --wait 1 -e t0 --router-mac 02:00:00:00:00:09 --link fastest --show all";
    let said = lab.swath(scan);
    assert!(
        said.contains("xdp_live on t0") && said.contains("so af_packet sent these probes again"),
        "{said}"
    );
    let (_, tried) = said.split_once("link xdp_live: t0 counted nothing of its first ").expect("the remark");
    let tried: usize =
        tried.split(' ').next().and_then(|word| word.parse().ok()).expect("a number of frames");
    assert!((1..=64).contains(&tried), "{said}");
    assert!(said.contains("256 planned = 256 sent"), "the trial is part of the scan: {said}");
    // A tap counts frames when they are read: xdp_live had sent the first ones, and nobody could have known.
    assert_eq!(tap.read(), (256 + tried, 256));
}

#[test]
fn netns_the_doctor_tells_usable_links_and_changes_nothing() {
    let Some(lab) = Lab::new() else { return };
    let before = run(&["ip", "-n", &lab.near, "-d", "link"]).stdout;
    let links = |report: &serde_json::Value| -> Vec<(String, String)> {
        let links = report["interfaces"][0]["links"].as_array().expect("links").clone();
        let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
        links.iter().map(|link| (text(&link["mark"]), text(&link["what"]))).collect()
    };
    let found = links(&json(&near(&lab, "doctor -e v0 --json")));
    let marks: Vec<(&str, &str)> =
        found.iter().map(|(mark, what)| (mark.as_str(), what.split(':').next().expect("a name"))).collect();
    assert_eq!(marks, [("good", "af_packet"), ("good", "af_xdp"), ("bad", "xdp_live"), ("good", "pnet")]);
    assert!(found[2].1.contains("gro on"), "the way out: {found:?}");
    lab.receive_in_batches();
    let found = links(&json(&near(&lab, "doctor -e v0 --json")));
    assert!(found.iter().all(|(mark, _)| mark == "good"), "{found:?}");
    assert_eq!(run(&["ip", "-n", &lab.near, "-d", "link"]).stdout, before);
    let output = near(&lab, "doctor");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("\nv0\n") && text.contains("\nlo\n"), "{text}");
}

#[test]
fn the_doctor_needs_no_privilege() {
    let output = Command::new(env!("CARGO_BIN_EXE_swath")).args(["doctor", "-e", "lo", "--json"]).output();
    let report = json(&output.expect("started"));
    assert!(report["host"].as_array().is_some_and(|findings| 4 <= findings.len()), "{report}");
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"])
        .args([env!("CARGO_BIN_EXE_swath"), "doctor", "-e", "lo"])
        .output();
    let Ok(output) = output else { return };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code() == Some(1) && !text.is_empty() {
        assert!(text.contains("missing: cap_net_raw") && text.contains("run as root"), "{text}");
    }
}
