//! Receiving past the kernel, and closing connections in its place: every SYN-ACK draws exactly one RST, from whomever;
//! what is not ours passes; a killed scan leaves nothing behind. Two network namespaces that each test makes for itself,
//! no way out. Needs root; without it the tests say that they were skipped, or fail under `SWATH_NETNS=required`.
#![allow(clippy::print_stderr, reason = "skips are for the person who runs the tests")]

#[allow(unreachable_pub, dead_code, reason = "a module that other tests and a bench use as well")]
mod link_lab;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use link_lab::reflector::{self, Reflector, Share};
use link_lab::{FAR, Lab, NEAR, run};

/// A far end that answers for 198.18.0.0/15 with port 80 open, and counts SYN-ACKs and the RSTs that close them.
struct Answering {
    lab: Lab,
    _listener: TcpListener,
}

impl Answering {
    fn new() -> Option<Answering> {
        let lab = Lab::with_redirects()?;
        lab.ip(&lab.near, "route add 198.18.0.0/15 via 192.0.2.2");
        lab.ip(&lab.far, "route add local 198.18.0.0/15 dev lo");
        for setting in
            ["net.ipv4.tcp_syncookies=2", "net.core.somaxconn=65535", "net.ipv4.tcp_invalid_ratelimit=0"]
        {
            run(&["ip", "netns", "exec", &lab.far, "sysctl", "-q", "-w", setting]);
        }
        let listener = lab.far(|| TcpListener::bind("0.0.0.0:80").expect("free"));
        lab.far(|| {
            run(&[
                "nft",
                "add table netdev t; add counter netdev t resets; \
                 add chain netdev t c { type filter hook ingress device v1 priority 0; }; \
                 add rule netdev t c tcp flags & (rst | ack | syn) == rst counter name resets",
            ])
        });
        Some(Answering { lab, _listener: listener })
    }

    /// RSTs without ACK that reached the far end.
    fn resets(&self) -> u64 {
        let output = self.lab.far(|| run(&["nft", "list", "counter", "netdev", "t", "resets"]));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let number = text.split_once("packets ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        number.unwrap_or_else(|| panic!("{text}"))
    }
}

const HOSTS: u64 = 1024;
const TARGETS: &str = "198.18.0.0/22 -p 80,81 --rate 20k --wait 1 --show all -e v0";

#[test]
fn netns_every_syn_ack_draws_one_rst_whoever_hears_it() {
    for (options, ours) in [
        ("--link af_packet --resets kernel", false),
        ("--link af_packet --resets swath", true),
        ("--link af_packet --receive xdp", true),
        ("--link af_xdp", true),
        ("--link af_xdp --receive packet", false),
        ("--link xdp_live --receive xdp", true),
        ("--link xdp_live --resets swath", true),
        ("--link af_packet --receive xdp --tx-threads 2", true),
    ] {
        let Some(answering) = Answering::new() else { return };
        let said = answering.lab.swath(&format!("{TARGETS} {options}"));
        assert!(said.contains("2,048 planned = 2,048 sent"), "{options}: {said}");
        assert!(said.contains("+ 2,048 accepted; the kernel dropped 0"), "{options}: {said}");
        assert!(said.contains("found 1,024 open"), "{options}: {said}");
        assert_eq!(said.contains("and 1,024 RSTs that close connections"), ours, "{options}: {said}");
        assert_eq!(answering.resets(), HOSTS, "{options}: RSTs at the far end: {said}");
        assert!(said.contains("the ledger balances"), "{options}: {said}");
    }
}

#[test]
fn netns_xdp_takes_from_the_kernel_only_what_answers_us() {
    let Some(answering) = Answering::new() else { return };
    let lab = &answering.lab;
    // A service of the near host on one of the scan's source ports, and connections of its own.
    let service = lab.near(|| TcpListener::bind((NEAR, 20_000)).expect("free"));
    let mut child =
        near(lab, "198.18.0.0/22 -p 80 --rate 200 --wait 0 -e v0 --receive xdp").spawn().expect("started");
    let attached = wait_until(|| interfaces(lab).contains("prog/xdp"));
    let own = lab.near(|| TcpStream::connect_timeout(&(FAR, 80).into_socket(), Duration::from_secs(3)));
    let theirs =
        lab.far(|| TcpStream::connect_timeout(&(NEAR, 20_000).into_socket(), Duration::from_secs(3)));
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(attached, "the program was attached");
    own.expect("the near host's own connection");
    theirs.expect("the service on a source port of the scan");
    drop(service);
}

#[test]
fn netns_above_many_answers_a_second_swath_takes_over_and_the_table_goes_with_it() {
    let Some(answering) = Answering::new() else { return };
    let said = answering.lab.swath("198.18.0.0/17 -p 80 --rate 60k --wait 1 -e v0");
    assert!(said.contains("found 32,768 open"), "{said}");
    assert!(said.contains("swath closes half-open connections itself (table swath_"), "{said}");
    assert!(said.contains("RSTs that close connections"), "{said}");
    // While one took over from the other, both may have closed the same connection.
    let resets = answering.resets();
    assert!((32_768..34_000).contains(&resets), "{resets} RSTs: {said}");
    assert_eq!(tables(&answering.lab), "");
}

#[test]
fn netns_a_killed_scan_leaves_no_program_no_table_and_no_promiscuous_interface() {
    for options in ["--receive xdp", "--resets swath", "--link xdp_live --receive xdp", "--link af_xdp"] {
        let Some(answering) = Answering::new() else { return };
        let lab = &answering.lab;
        let before = interfaces(lab);
        let mut child =
            near(lab, &format!("198.18.0.0/16 -p 80 --rate 5k -e v0 {options}")).spawn().expect("started");
        let table = options.contains("resets");
        let began = wait_until(|| match table {
            true => tables(lab).contains("swath_"),
            false => interfaces(lab).contains("prog/xdp"),
        });
        std::thread::sleep(Duration::from_millis(200));
        let during = interfaces(lab);
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert!(began, "{options}: it was at work");
        assert!(
            wait_until(|| tables(lab).is_empty() && interfaces(lab) == before),
            "{options}: {}",
            interfaces(lab)
        );
        assert!(!during.contains("promiscuity 1"), "{options}: {during}");
    }
}

fn near(lab: &Lab, arguments: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &lab.near, env!("CARGO_BIN_EXE_swath")]).args(arguments.split(' '));
    command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
    command
}

fn wait_until(holds: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// The interfaces of the near namespace with everything attached to them, without counters.
fn interfaces(lab: &Lab) -> String {
    String::from_utf8_lossy(&run(&["ip", "-n", &lab.near, "-d", "link"]).stdout).into_owned()
}

/// The tables of the packet filter of the near namespace.
fn tables(lab: &Lab) -> String {
    lab.near(|| String::from_utf8_lossy(&run(&["nft", "list", "tables"]).stdout).into_owned())
}

trait IntoSocket {
    fn into_socket(self) -> std::net::SocketAddr;
}

impl IntoSocket for (&str, u16) {
    fn into_socket(self) -> std::net::SocketAddr {
        std::net::SocketAddr::new(self.0.parse().expect("address"), self.1)
    }
}

#[test]
fn netns_at_the_highest_rate_every_answer_of_a_reflector_is_found_once() {
    for options in ["--link af_packet --resets swath", "--link af_xdp", "--link xdp_live --receive xdp"] {
        let Some(lab) = Lab::with_redirects() else { return };
        lab.ip(&lab.near, "route add 198.18.0.0/15 via 192.0.2.2");
        let share = Share { key: 0x1234_5678, shift: 2 };
        let reflector = lab.far(|| Reflector::attach("v1", share));
        let _pass = options.contains("resets").then(|| lab.near(|| reflector::attach_pass("v0")));
        let results = lab.near.clone() + ".txt";
        let results = std::env::temp_dir().join(results);
        let said = lab.swath(&format!(
            "198.18.0.0/18 -p 1-64 --rate max --wait 2 --control-share 0 -e v0 {options} -o {}",
            results.display()
        ));
        let text = std::fs::read_to_string(&results).expect("results");
        std::fs::remove_file(&results).expect("removed");
        let mut found: Vec<&str> = text.lines().collect();
        found.sort_unstable();
        let mut expected = Vec::new();
        for host in 0..1 << 14 {
            let address = Ipv4Addr::from(0xc612_0000 + host);
            let ports = (1..=64).filter(|&port| share.answers(address, port));
            expected.extend(ports.map(|port| format!("{address}:{port}")));
        }
        expected.sort_unstable();
        let seen = reflector.seen();
        assert_eq!((seen.syns, seen.answered), (1 << 20, expected.len() as u64), "{options}: {said}");
        assert!(found == expected, "{options}: {} found of {}: {said}", found.len(), expected.len());
        assert_eq!(seen.resets, seen.answered, "{options}: every connection is closed once: {said}");
        eprintln!("{options}: {}", said.lines().find(|line| line.starts_with("sent ")).unwrap_or(&said));
    }
}
