//! Every kind of probe against a real kernel and independent readers: nmap's verdicts, tshark's opinion of the frames, and
//! what only a wire shows: neighbours of both families, borrowed addresses, tags. Needs root; without it the tests say
//! that they were skipped, or fail under `SWATH_NETNS=required`.
#![allow(clippy::print_stderr, reason = "skips are for the person who runs the tests")]

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use common::tshark::{all_faults, faults, frames, joined, records};
use common::{Ran, SWATH, swath, tshark};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// Runs a script beside a lab of its own: `near` and `far` run a command in a namespace. None where there can be no lab.
fn in_lab(script: &str) -> Option<Ran> {
    static ALONE: Mutex<()> = Mutex::new(());
    let required = std::env::var_os("SWATH_NETNS").is_some_and(|value| value == "required");
    if !std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
        assert!(!required, "SWATH_NETNS=required, but namespaces need root");
        eprintln!("skipped: network namespaces need root");
        return None;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let prelude =
        "set -euo pipefail\nnear() { \"$LAB_SCRIPT\" exec \"$@\"; }\nfar() { \"$LAB_SCRIPT\" far \"$@\"; }\n";
    let lab = format!("{REPOSITORY}/scripts/lab");
    let mut command = Command::new(&lab);
    command.args(["with", "bash", "-c", &format!("{prelude}{script}")]).stdin(Stdio::null());
    command.env("LAB_SCRIPT", &lab).env("SWATH", SWATH).env("REPOSITORY", REPOSITORY);
    Some(Ran::of(&command.output().expect("scripts/lab runs")))
}

fn lines(text: &str) -> BTreeSet<&str> {
    text.lines().collect()
}

#[test]
fn netns_every_kind_agrees_with_nmap_in_a_small_matrix() {
    let script = "HOSTS=3 PORTS=8 python3 \"$REPOSITORY/scripts/lib/verdicts.py\" \"$LAB_SCRIPT\" \"$SWATH\"";
    let Some(ran) = in_lab(script) else { return };
    let ran = ran.exits(0);
    assert!(
        ran.out.contains(" cells agree") && ran.out.contains("| cookie-echo | IPv6 | 24 |"),
        "{}",
        ran.out
    );
}

#[test]
fn netns_hosts_are_found_in_both_families_and_each_is_told_once() {
    let script = "near \"$SWATH\" -sn -PE -PP -PS22,81 -PA80 -PY 198.18.0.0/30 203.0.113.9 2001:db8:1::/126 2001:db8::2 \
                  --rate 2000 --wait 1 -o list:-";
    let Some(ran) = in_lab(script) else { return };
    let ran = ran.exits(0).balances();
    let expected = [
        "198.18.0.0",
        "198.18.0.1",
        "198.18.0.2",
        "198.18.0.3",
        "203.0.113.9",
        "2001:db8:1::",
        "2001:db8:1::1",
        "2001:db8:1::2",
        "2001:db8:1::3",
        "2001:db8::2",
    ];
    assert_eq!(lines(&ran.out), BTreeSet::from(expected));
    assert_eq!(ran.out.lines().count(), expected.len(), "each once");
    assert!(ran.err.contains("hosts    10 up"), "{}", ran.err);
}

#[test]
fn netns_several_kinds_and_both_families_are_one_plan_and_echoes_tell_the_round_trip() {
    let script = "near \"$SWATH\" 198.18.0.7 2001:db8:1::7 2001:db8::2 -p T:22,81,U:9,U:53 -PE --show all --rate 2000 --wait 1 -o ndjson:-";
    let Some(ran) = in_lab(script) else { return };
    let ran = ran.exits(0).balances();
    // Port 53 is asked twice, and is one port all the same.
    assert_eq!(ran.ledger("probes ", "planned"), 3 * 6);
    assert_eq!(ran.err.matches("53/udp: ").count(), 1, "{}", ran.err);
    assert!(ran.err.contains("53/udp: 3 asked = 3 answered + 0 without an answer"), "{}", ran.err);
    let records: Vec<serde_json::Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |ip: &str, proto: &str, port: u64| {
        let found = records
            .iter()
            .find(|record| record["ip"] == ip && record["proto"] == proto && record["port"] == port);
        found.unwrap_or_else(|| panic!("no {proto} {port} of {ip} in {}", ran.out))
    };
    for ip in ["198.18.0.7", "2001:db8:1::7", "2001:db8::2"] {
        assert_eq!(
            (&of(ip, "tcp", 22)["state"], &of(ip, "tcp", 81)["state"]),
            (&"open".into(), &"closed".into())
        );
        let echo = of(ip, "icmp", 8);
        assert_eq!((&echo["state"], &echo["reason"]), (&"up".into(), &"echo-reply".into()));
        let rtt = echo["rtt_us"].as_u64().expect("a round-trip time");
        assert!((1..1_000_000).contains(&rtt), "{rtt}");
    }
    assert_eq!(of("198.18.0.7", "udp", 9)["state"], "closed");
    assert_eq!(of("2001:db8::2", "udp", 9)["state"], "closed");
}

/// The far side forgets who has the borrowed address again and again: only whoever answers ARP and solicitations hears
/// replies.
#[test]
fn netns_a_borrowed_address_is_answered_for_in_both_families() {
    let script = "
        for source in 192.0.2.77 2001:db8::77; do
            case $source in *:*) target=2001:db8:1::/121 ;; *) target=198.18.0.0/25 ;; esac
            (for i in $(seq 4); do sleep 0.3; far ip neighbour flush dev far0; done) &
            near \"$SWATH\" $target -p 80 -S $source --adapter-mac 02:00:00:00:77:77 --rate 60 --wait 2 -o list:- 2>>err
            far ip neighbour show $source dev far0 >>neighbours
            wait
        done
        cat neighbours; rm -f neighbours err";
    let directory = tempfile::tempdir().expect("a directory");
    let script = format!("cd {}\n{script}", directory.path().display());
    let Some(ran) = in_lab(&script) else { return };
    let ran = ran.exits(0);
    // A flush forgets the one or two replies that wait just then; who does not answer loses nearly all of them.
    let found = ran.out.lines().filter(|line| line.ends_with(":80")).count();
    assert!((240..=256).contains(&found), "{found} of 256\n{}", ran.out);
    assert!(
        ran.out.matches("02:00:00:00:77:77").count() >= 1,
        "the far side knows the borrower: {}",
        ran.out
    );
}

#[test]
fn netns_neighbours_answer_solicitations_with_their_link_layer_addresses() {
    let script = "near \"$SWATH\" 2001:db8::/125 --scan nd --rate 1000 --wait 1 -o ndjson:- 2>/dev/null";
    let Some(ran) = in_lab(script) else { return };
    let ran = ran.exits(0);
    let found: Vec<serde_json::Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(found.len(), 1, "{}", ran.out);
    assert_eq!((&found[0]["ip"], &found[0]["reason"]), (&"2001:db8::2".into(), &"nd-response".into()));
}

/// What a list of makers says stands in every format that has room; the reasons in lines of text when asked for.
#[test]
fn netns_an_arp_sweep_names_makers_from_a_file_and_lines_say_why_when_asked() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("makers"), "020000 Nobody\n0200C0 Lab & \"Sons\"\n")
        .expect("written");
    let script = format!(
        "cd {}
        near \"$SWATH\" -sn -PR 192.0.2.0/29 2001:db8::2 --oui makers --rate 1000 --wait 1 -o - -o out.ndjson -o out.xml
        cat out.ndjson out.xml
        near \"$SWATH\" 198.18.0.7 -p 22,81 --reason --show all --rate 1000 --wait 1
        near \"$SWATH\" --arp 192.0.2.2 --oui out.xml && exit 1 || echo \"exit $?\"",
        directory.path().display()
    );
    let Some(ran) = in_lab(&script) else { return };
    let ran = ran.exits(0);
    for text in [
        "Host 192.0.2.2 is up (arp-response, 02:00:c0:00:02:02 Lab & \"Sons\")\n",
        "Host 2001:db8::2 is up (nd-response, 02:00:c0:00:02:02 Lab & \"Sons\")\n",
        "\"mac\":\"02:00:c0:00:02:02\",\"vendor\":\"Lab & \\\"Sons\\\"\"",
        "addr=\"02:00:C0:00:02:02\" addrtype=\"mac\" vendor=\"Lab &amp; &quot;Sons&quot;\"/>",
        "Discovered open port 22/tcp on 198.18.0.7 (syn-ack)\n",
        "Discovered closed port 81/tcp on 198.18.0.7 (reset)\n",
        "exit 2\n",
    ] {
        assert!(ran.out.contains(text), "{text}\n{}", ran.out);
    }
    assert!(ran.err.contains("names no maker"), "{}", ran.err);
}

/// SNMP is asked in three versions: that is one port, which answered or did not.
#[test]
fn netns_several_questions_for_a_port_are_one_port_in_the_account_of_silence() {
    let script = "
        far nft 'table inet t { chain input { type filter hook input priority 0; udp dport 53 drop; }; }'
        near \"$SWATH\" 198.18.0.0/29 -p U:53,161 --rate 2000 --wait 1 -o none:";
    let Some(ran) = in_lab(script) else { return };
    let ran = ran.exits(0).balances();
    let rows: Vec<&str> = ran.err.lines().filter(|line| line.starts_with("port ")).collect();
    assert_eq!(rows.len(), 2, "{}", ran.err);
    assert!(
        rows[0].contains("53/udp: 8 asked = 0 answered + 8 without an answer (open|filtered)"),
        "{rows:?}"
    );
    assert!(rows[1].contains("161/udp: 8 asked = 8 answered + 0 without"), "{rows:?}");
}

#[test]
fn netns_an_ipv6_router_is_found_by_its_link_local_address() {
    let script = "
        router=$(far ip -6 -o address show dev far0 scope link | awk '{ sub(/\\/.*/, \"\", $4); print $4; exit }')
        near ip -6 route replace 2001:db8:1::/64 via \"$router\" dev near0
        near ip neighbour flush dev near0
        near \"$SWATH\" 2001:db8:1::/126 -p 22 --rate 1000 --wait 1 -o list:-";
    let Some(ran) = in_lab(script) else { return };
    let ran = ran.exits(0).balances();
    assert_eq!(ran.out.lines().count(), 4, "{}", ran.out);
}

#[test]
fn netns_discovery_first_scans_the_ports_of_those_that_answered_only() {
    let script = "
        far nft 'table inet t { chain input { type filter hook input priority 0; ip daddr 198.18.0.4/30 counter drop; }; }'
        near \"$SWATH\" 198.18.0.0/29 -p 22,80 --discover-first -PE --rate 1000 --wait 1 -o list:-
        far nft list table inet t | grep -o 'packets [0-9]*'";
    let Some(ran) = in_lab(script) else { return };
    let ran = ran.exits(0);
    assert_eq!(ran.out.lines().filter(|line| line.contains(':')).count(), 8, "{}", ran.out);
    assert!(ran.out.contains("packets 4\n"), "one echo to each that is silent, no SYN: {}", ran.out);
}

/// Frames of every kind and both families, tagged ones among them, through the eyes of tshark: one run for all of them.
#[test]
fn netns_tshark_finds_nothing_wrong_in_ten_thousand_frames_of_each_kind() {
    let directory = tempfile::tempdir().expect("a directory");
    let kinds: [(&str, u64, &[&str]); 16] = [
        ("syn", 2, &["-p", "80"]),
        ("fin", 2, &["-sF", "-p", "80"]),
        ("null", 2, &["-sN", "-p", "80"]),
        ("xmas", 2, &["-sX", "-p", "80"]),
        ("ack", 2, &["-sA", "-p", "80"]),
        ("maimon", 2, &["-sM", "-p", "80"]),
        ("window", 2, &["-sW", "-p", "80"]),
        // Protocols without a header that tshark knows, or it would read cookies as one.
        ("pings", 10, &["-sn", "-PS80", "-PA80", "-PU", "-PY", "-PO253"]),
        ("linux", 2, &["--layout", "linux", "-p", "80"]),
        ("udp", 2, &["-sU", "-p", "40125"]),
        ("init", 2, &["-sY", "-p", "80"]),
        ("cookie-echo", 2, &["-sZ", "-p", "80"]),
        ("echo", 2, &["-sn", "-PE"]),
        // IPv4 alone.
        ("timestamp-mask", 2, &["-sn", "-PP", "-PM"]),
        ("protocols", 8, &["-sO", "-p", "6,17,47,132"]),
        ("tagged", 4, &["-p", "T:80,U:40125", "--vlan", "5"]),
    ];
    let kind = |(name, of_each, options): (&str, u64, &[&str])| {
        let link = format!("pcap:{name}.pcap");
        let targets = ["198.18.0.0-198.18.39.15", "2001:db8:1::-2001:db8:1::270f", "--link", &link];
        let fixed = ["--rate", "max", "--wait", "0", "--quiet", "--seed", "7", "--control-share", "0"];
        let words: Vec<&str> = targets.into_iter().chain(options.iter().copied()).chain(fixed).collect();
        swath(directory.path(), &words).exits(0);
        let file = std::fs::read(directory.path().join(format!("{name}.pcap"))).expect("a capture");
        assert_eq!(of_each * 10_000, frames(&file), "{name}");
        file
    };
    let files: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let halves =
            kinds.chunks(8).map(|half| scope.spawn(move || half.iter().copied().map(kind).collect()));
        let halves: Vec<_> = halves.collect();
        halves.into_iter().flat_map(|half| -> Vec<_> { half.join().expect("both halves") }).collect()
    });
    assert_eq!(faults(&joined(files)), "");
}

/// Of these IP protocols tshark has something to say: over IPv4, over IPv6, what, and why the frames are so.
const REMARKS: &[(&[u8], &[u8], &str, &str)] = &[
    (&[0], &[], "must appear immediately after IPv6 header", "it is IPv6's; over IPv4 nothing is before it"),
    (&[53], &[53], "Bogus IPv6 version", "tshark reads any swIPe as around IPv6, an IPv4 packet too"),
    (
        &[58],
        &[1, 54, 88],
        "bad checksum",
        "what a Linux filter adds up has the pseudo header in the other family only",
    ),
    (
        &[139],
        &[],
        "bad checksum",
        "what a Linux filter adds up over IPv4 has no pseudo header, HIP's sum has",
    ),
    (
        &[],
        &[0, 43, 44, 50, 51, 60, 135, 139, 140],
        "Malformed",
        "extension headers get nothing, as nmap's do",
    ),
];

/// All 256, to forty hosts of each family.
#[test]
fn netns_tshark_reads_every_ip_protocol() {
    let directory = tempfile::tempdir().expect("a directory");
    let targets = "198.18.0.0-198.18.0.39,2001:db8:1::-2001:db8:1::27";
    let fixed = ["--rate", "max", "--wait", "0", "--quiet", "--seed", "7", "--control-share", "0"];
    let words = [&[targets, "-sO", "-p", "0-255", "--link", "pcap:all.pcap"], &fixed[..]].concat();
    swath(directory.path(), &words).exits(0);
    let file = std::fs::read(directory.path().join("all.pcap")).expect("a capture");
    // Protocols that tshark knows are read as these.
    let layers = [(4, "ip:data"), (33, "dccp"), (88, "eigrp"), (89, "ospf"), (112, "vrrp"), (136, "udplite")];
    let readings = tshark::readings(&file, &[]);
    assert_eq!(readings.len(), 2 * 40 * 256);
    for (frame, said) in records(&file).zip(readings) {
        let (is_v4, number) = if frame[12] == 8 { (true, frame[23]) } else { (false, frame[20]) };
        let has = |(v4, v6, ..): &&(&[u8], &[u8], &str, &str)| if is_v4 { v4 } else { v6 }.contains(&number);
        let remark = REMARKS.iter().find(has).map_or("", |remark| remark.2);
        let right = if remark.is_empty() { said.fault.is_empty() } else { said.fault.contains(remark) };
        assert!(right, "{number}, IPv4: {is_v4}: '{}', not '{remark}': {frame:02x?}", said.fault);
        if let Some((_, end)) = layers.iter().find(|(known, _)| *known == number) {
            assert!(said.layers.ends_with(&format!(":{end}")), "{number}: {}", said.layers);
        }
    }
    for (v4, v6, said, why) in REMARKS {
        println!("IPv4 {v4:?}, IPv6 {v6:?}: '{said}', because {why}");
    }
}

/// Sweeps of a link, as the far side of it hears them.
#[test]
fn netns_tshark_finds_nothing_wrong_in_ten_thousand_questions_to_the_link() {
    let directory = tempfile::tempdir().expect("a directory");
    let script = format!(
        "cd {}
        near ip route replace 198.18.64.0/18 dev near0
        near ip -6 route replace 2001:db8:1::/64 dev near0
        # Not by the function: the number must be tcpdump's own.
        \"$LAB_SCRIPT\" far timeout 60 tcpdump -i far0 -B 65536 -U -Z root -w heard.pcap 'arp or ip6' 2>tcpdump & heard=$!
        for i in $(seq 100); do grep -q listening tcpdump && break; sleep 0.1; done
        near \"$SWATH\" -sn -PR 198.18.64.0-198.18.103.15 2001:db8:1::-2001:db8:1::270f --rate 20k --wait 0 -q -o none:
        sleep 0.5; kill -TERM $heard; wait $heard || true; cat tcpdump",
        directory.path().display()
    );
    let Some(ran) = in_lab(&script) else { return };
    let ran = ran.exits(0);
    assert!(ran.out.contains("\n0 packets dropped by kernel"), "{}", ran.out);
    let file = std::fs::read(directory.path().join("heard.pcap")).expect("a capture");
    let asks = |start: &[u8]| records(&file).filter(|frame| frame[12..].starts_with(start)).count();
    let solicitation = |frame: &&[u8]| frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && frame[54] == 135;
    // ARP requests; solicitations.
    assert!(10_000 <= asks(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]), "{} frames", frames(&file));
    assert!(10_000 <= records(&file).filter(solicitation).count(), "{} frames", frames(&file));
    assert_eq!(faults(&file), "");
}

/// The judge itself: one flipped bit in any frame is told.
#[test]
fn netns_tshark_tells_a_flipped_bit_in_any_frame() {
    let directory = tempfile::tempdir().expect("a directory");
    let link =
        ["198.18.0.0/30", "2001:db8:1::/126", "-p", "T:80,U:40125,S:80", "-PE", "--link", "pcap:few.pcap"];
    let fixed = ["--rate", "max", "--wait", "0", "--quiet", "--control-share", "0"];
    swath(directory.path(), &[&link[..], &fixed[..]].concat()).exits(0);
    let sound = std::fs::read(directory.path().join("few.pcap")).expect("a capture");
    assert_eq!((frames(&sound), faults(&sound)), (32, String::new()));
    let mut broken = sound.clone();
    let mut at = 24;
    while at + 16 < broken.len() {
        let length = u32::from_ne_bytes(broken[at + 8..at + 12].try_into().expect("four bytes")) as usize;
        // The last byte of each frame is in its checksum.
        broken[at + 15 + length] ^= 1;
        at += 16 + length;
    }
    let told = all_faults(&broken).lines().count();
    assert_eq!(told, 32);
}
