//! The program from outside, without privileges: what it prints, refuses, plans and writes into capture files. No
//! packet is sent: every scan here has a link that keeps its frames.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Ran, SWATH, swath};
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// Runs words separated by spaces.
#[track_caller]
fn run(directory: &TempDir, line: &str) -> Ran {
    swath(directory.path(), &line.split_whitespace().collect::<Vec<_>>())
}

/// `swath plan ...` without a directory of its own.
#[track_caller]
fn plan(line: &str) -> Ran {
    run(&directory(), &format!("plan {line}")).exits(0)
}

fn number(text: &str) -> u128 {
    let digits = text.split_whitespace().find(|word| word.as_bytes()[0].is_ascii_digit());
    digits.unwrap_or_else(|| panic!("no number in '{text}'")).replace(',', "").parse().expect("a number")
}

// --- Help -----------------------------------------------------------------------------------------------------------

#[test]
fn help_and_version_go_to_standard_output_and_succeed() {
    for (words, needles) in [
        ("--help", &["Usage: swath", "--rate", "sqlite", "af_packet", "Examples:", "Exit codes"][..]),
        ("-h", &["Usage: swath"]),
        ("--HELP", &["Usage: swath"]),
        ("plan --help", &["Usage: swath"]),
        ("198.18.0.1 -p80 --help", &["Usage: swath"]),
        ("--version", &[concat!("swath ", env!("CARGO_PKG_VERSION"))]),
        ("-V", &[concat!("swath ", env!("CARGO_PKG_VERSION"))]),
    ] {
        let ran = run(&directory(), words).exits(0);
        assert!(ran.err.is_empty(), "{words}: {}", ran.err);
        for needle in needles {
            assert!(ran.out.contains(needle), "{words}: no '{needle}' in\n{}", ran.out);
        }
    }
}

#[test]
fn every_example_of_the_help_is_a_plan() {
    let directory = directory();
    for file in ["targets.txt", "never.txt"] {
        fs::write(directory.path().join(file), "198.18.0.1\n").expect("written");
    }
    fs::write(directory.path().join("never.txt"), "198.18.0.2\n").expect("written");
    let help = run(&directory, "--help").exits(0).out;
    let examples = help.lines().filter_map(|line| line.strip_prefix("  swath "));
    let mut count = 0;
    for example in examples {
        let words = example.split("  ").next().expect("a command");
        let words = words.split(" | ").next().expect("a command").trim_start_matches("plan ");
        run(&directory, &format!("plan {words}")).exits(0);
        count += 1;
    }
    assert!(4 <= count, "{count} examples were found in\n{help}");
}

// --- Plan -----------------------------------------------------------------------------------------------------------

#[test]
fn the_internet_has_as_many_targets_as_the_registries_leave() {
    let ran = plan("0.0.0.0/0 -p443 --seed 1");
    assert_eq!(ran.line("targets"), "3,702,257,664");
    assert_eq!(ran.line("addresses"), "4,294,967,296 given");
    assert!(ran.out.contains("- 285,212,673 never probed"), "{}", ran.out);
    assert_eq!(ran.line("order"), "v1, seed 1");
    // Frozen: resume, shards and published scans depend on it.
    assert_eq!(ran.line("digest"), "572b594038b19cb67dad84f8915124fee7dabace827c77a55e57ec3e4c199bea");
}

#[test]
fn what_was_given_is_what_is_scanned_and_what_is_not() {
    for (words, scanned, targets) in [
        ("198.18.0.0/24 -p80,443", 256, 512),
        ("198.18.0.0/24 -p80,443 --exclude 198.18.0.7,198.18.0.8/30", 251, 502),
        ("198.18.0.0/24 198.18.0.128/25 198.18.0.5 -p80", 256, 256),
        ("198.18.0.0/24 -p80 --exclude 198.18.0.0/25 --exclude 198.18.0.64/26", 128, 128),
        ("10.0.0.0/8 -p1", 1 << 24, 1 << 24),
        ("8.0.0.0/6 -p1", 3 << 24, 3 << 24),
        ("8.0.0.0/6 10.1.2.3 -p1", (3 << 24) + 1, (3 << 24) + 1),
        ("8.0.0.0/6 -p1 --exclude 10.0.0.0/8,8.0.0.1", (3 << 24) - 1, (3 << 24) - 1),
        ("200.0.0.0/5 --exclude 200.0.0.0/6 -p 1-10", 4 << 24, 40 << 24),
        ("2001:db8::/120 198.18.0.0/30 -p80", 260, 260),
        ("198.18.0-1.1,5-9 -p80", 12, 12),
        ("198.18.0.1-198.18.1.1 -p 80-81,443,80", 257, 771),
        ("198.18.0.1 -p -", 1, 65535),
    ] {
        let ran = plan(words);
        let given = number(ran.line("addresses"));
        let removed: u128 =
            ran.out.lines().filter_map(|line| line.trim().strip_prefix("- ")).map(number).sum();
        assert_eq!(number(ran.line("            =")), scanned, "{words}\n{}", ran.out);
        assert_eq!(given - removed, scanned, "{words}\n{}", ran.out);
        assert_eq!(number(ran.line("targets")), targets, "{words}\n{}", ran.out);
    }
}

#[test]
fn shards_are_equal_parts_of_the_whole() {
    for (words, targets) in [("198.18.0.0/24 -p80,443,22", 768), ("198.18.0.1 -p80", 1)] {
        for shards in [2u128, 3, 7, 1000] {
            let sizes: Vec<u128> = [1, 2, shards]
                .iter()
                .map(|shard| {
                    number(
                        plan(&format!("{words} --shard {shard}/{shards}"))
                            .line("shard")
                            .split_once(':')
                            .expect("a colon")
                            .1,
                    )
                })
                .collect();
            for size in sizes {
                assert!(
                    targets / shards <= size && size <= targets.div_ceil(shards),
                    "{words} {shards}: {size}"
                );
            }
        }
    }
    let sum: u128 = (1..=7)
        .map(|shard| {
            number(
                plan(&format!("198.18.0.0/24 -p80 --shard {shard}/7"))
                    .line("shard")
                    .split_once(':')
                    .expect("a colon")
                    .1,
            )
        })
        .sum();
    assert_eq!(sum, 256);
}

#[test]
fn the_digest_names_what_is_scanned_and_not_how_it_was_written() {
    let digest = |words: &str| plan(&format!("{words} --layout mss")).line("digest").to_owned();
    let base = "198.18.0.0/24 -p 80,443 --seed 7";
    let name = digest(base);
    assert!(name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
    for same in [
        base,
        "198.18.0.0-198.18.0.255 -p 443,80 --seed 7",
        "198.18.0.128/25 198.18.0.0/25 -p80 -p443 --seed=7",
        "198.18.0.* -p T:80,T:443 --seed 7",
        "198.18.0.0/24,198.18.0.9 -p 443,80-80,443 --seed 7",
        "198.18.0.0/23 --exclude 198.18.1.0/24 -p 80,443 --seed 7",
        "198.18.0.0/24 -p 80-82,443 --exclude-ports 81,82 --seed 7",
        "198.18.0.0/24 -p 80,443 --seed 7 --rate 10k --wait 1 --shard 2/3 -o x.csv --quiet --link null",
    ] {
        assert_eq!(digest(same), name, "{same}");
    }
    for other in [
        "198.18.0.0/24 -p 80,443 --seed 8",
        "198.18.0.0/24 -p 80,444 --seed 7",
        "198.18.0.0/24 -p 80 --seed 7",
        "198.18.0.0/25 -p 80,443 --seed 7",
        "198.18.1.0/24 -p 80,443 --seed 7",
        "198.18.0.0/24 -p 80,443 --seed 7 --exclude 198.18.0.1",
        "198.18.0.0/24 -p 80,443 --seed 7 --ttl 65",
    ] {
        assert_ne!(digest(other), name, "{other}");
    }
    assert_ne!(plan(&format!("{base} --layout linux")).line("digest"), name);
    assert_ne!(digest("198.18.0.1 -p80"), digest("198.18.0.1 -p80"), "without a seed one is drawn");
}

#[test]
fn a_plan_says_how_long_it_takes() {
    let ran = plan("198.18.0.0/15 -p 22,80,443 --rate 100k --wait 10 --control-share 0");
    assert_eq!(ran.line("targets"), "393,216");
    // 58 bytes are padded to 60, with preamble, checksum and gap 84 on the wire.
    assert_eq!(ran.line("rate"), "100 kpps = 67.2 Mbit/s on the wire");
    assert_eq!(ran.line("duration"), "13.9 s (with 10.0 s of waiting)");
    let ran =
        plan("198.18.0.0/15 -p 22,80,443 --rate 100k --wait 10 --passes 3 --control-share 0 --pass-gap 2");
    assert_eq!(ran.line("duration"), "25.8 s (with 4.0 s between passes and 10.0 s of waiting)");
    let ran = plan("198.18.0.0/15 -p 22,80,443 --rate 100k --wait 10");
    assert_eq!(ran.line("duration"), "19.0 s (with 5.0 s between passes and 10.0 s of waiting)");
}

#[test]
fn masscans_spellings_mean_the_same() {
    let directory = directory();
    fs::write(directory.path().join("targets"), "198.18.0.0/24 # all\n\n").expect("written");
    fs::write(directory.path().join("never"), "198.18.0.7\n").expect("written");
    let wanted =
        run(&directory, "plan 198.18.0.0/24 -p 80,443 --exclude 198.18.0.7 --seed 5 --rate 10k").exits(0).out;
    for words in [
        "198.18.0.0/24 -p80,443 --excludefile never --seed=5 --rate=10k",
        "198.18.0.0/24 -p 80,443 --Exclude_File never --seed 5 --max-rate=10k",
        "-iL targets --ports 80,443 --EXCLUDE.FILE=never --SEED 5 --max_rate 10000",
        "--includefile targets --port 80,443 --exclude-file never --seed 5 -r 10k",
        "-p80,443 198.18.0.0/24 --exclude=198.18.0.7 --random-seed 5 --rate 10000 --shards 1/1",
        "-p80 -p443 --exclude 198.18.0.7 --seed 5 --rate 10k -n -sS -Pn --open 198.18.0.0/24",
        "-p T:80,443 --adapter-ip 192.0.2.1 --adapter-port 40000 --router-mac 02:00:00:00:00:01 --seed 5 --rate 10k -iL targets --exclude 198.18.0.7",
    ] {
        assert_eq!(run(&directory, &format!("plan {words}")).exits(0).out, wanted, "{words}");
    }
}

#[test]
fn a_million_lines_and_half_a_million_excludes_fit_into_100_megabytes() {
    let directory = directory();
    let address = |index: u32| {
        let spread = 0x1000_0000 | index.wrapping_mul(0x9e37_79b1) & 0x0fff_ffff;
        std::net::Ipv4Addr::from(spread)
    };
    for (file, first, count) in [("targets", 0, 1_000_000), ("never", 750_000, 500_000)] {
        let mut text = String::with_capacity(16 * count as usize);
        (first..first + count).for_each(|index| writeln!(text, "{}", address(index)).expect("memory"));
        fs::write(directory.path().join(file), text).expect("written");
    }
    let mut child = Command::new(SWATH)
        .args(["plan", "-iL", "targets", "--excludefile", "never", "-p80", "--seed", "1"])
        .current_dir(directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("swath runs");
    // The high-water mark only grows; the last value read before the end misses at most what came after it.
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    while child.try_wait().expect("a child").is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak_kib = peak_kib.max(peak.map_or(0, number));
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let mut out = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut out).expect("text");
    let ran = Ran { code: child.wait().expect("a child").code(), out, err: String::new() }.exits(0);
    assert_eq!(ran.line("addresses"), "1,000,000 given");
    assert!(ran.out.contains("- 250,000 excluded"), "{}", ran.out);
    assert_eq!(ran.line("targets"), "750,000");
    assert!(1_000 < peak_kib && peak_kib <= 100 * 1024, "peak {peak_kib} KiB");
}

// --- Refusals -------------------------------------------------------------------------------------------------------

/// Words after `swath`, and what the message must hold: the thing, and the way out.
const REFUSED: &[(&str, &[&str])] = &[
    // Options.
    ("198.18.0.1 -p80 --no-such", &["--no-such", "--help"]),
    ("198.18.0.1 -p80 --rat 5", &["--rat", "--rate"]),
    ("198.18.0.1 -p80 -x", &["-x"]),
    ("198.18.0.1 -p80 --rate", &["--rate"]),
    ("198.18.0.1 -p", &["--ports"]),
    ("198.18.0.1 -p80 --open --show closed", &["--open", "--show"]),
    ("198.18.0.1 -p80 --force --append-output", &["--force", "--append-output"]),
    ("198.18.0.1 -p53 -sI", &["-sI", "third party"]),
    ("198.18.0.1 -p80 -sSF", &["syn", "fin", "one after the other"]),
    ("198.18.0.1 -p80 -sn", &["-sn", "no ports"]),
    ("198.18.0.1 -p I:5", &["ICMP type 5", "echo"]),
    ("198.18.0.1 -p80 --scanflags SYNX", &["SYNX", "URG"]),
    ("198.18.0.1 -p80 --receive xdp --rx-threads 2", &["--receive xdp", "--rx-threads"]),
    ("198.18.0.1 -sO -p 300", &["300", "255", "IP protocol"]),
    // Targets.
    ("-p80", &["TARGETS", "-iL"]),
    ("plan -p80", &["TARGETS", "-iL"]),
    ("198.18.0.256 -p80", &["198.18.0.256", "255"]),
    ("198.18.0.0/33 -p80", &["/33", "32"]),
    ("198.18.0.1/ -p80", &["198.18.0.1/", "/24"]),
    ("198.18.0.9-198.18.0.1 -p80", &["198.18.0.9-198.18.0.1", "did you mean"]),
    ("198.18.1 -p80", &["198.18.1", "four"]),
    ("198.18.0.1:80 -p80", &["198.18.0.1:80", "-p"]),
    ("2001:db8::/129 -p80", &["/129", "128"]),
    ("example.com -p80", &["example.com", "--resolve"]),
    ("224.0.0.1 -p80", &["224.0.0.1", "multicast", "leave it out"]),
    ("0.0.0.0 -p80", &["0.0.0.0", "leave it out"]),
    ("255.255.255.255 -p80", &["255.255.255.255", "leave it out"]),
    ("::/0 -p80", &["2^63", "narrow"]),
    ("-iL no-such-file -p80", &["no-such-file", "No such file"]),
    ("-iL empty.txt -p80", &["empty.txt", "no targets"]),
    ("-iL bad.txt -p80", &["bad.txt:2", "line!"]),
    ("-iL names.txt -p80", &["example.com", "--resolve"]),
    // Ports.
    ("198.18.0.1", &["no ports", "-p 80,443"]),
    ("198.18.0.1 -p65536", &["65536", "65535"]),
    ("198.18.0.1 -p80-22", &["80-22", "did you mean 22-80"]),
    ("198.18.0.1 -phttp", &["http", "numbers"]),
    ("198.18.0.1 -p80,,22", &["80,,22", "empty"]),
    ("198.18.0.1 -p80 --exclude-ports 80", &["no ports left", "--exclude-ports"]),
    ("198.18.0.1 -p80 --exclude-ports x", &["'x'"]),
    ("198.18.0.1 --top-ports 0", &["top 0", "1 to"]),
    ("198.18.0.1 --top-ports 70000", &["70000", "1 to"]),
    // Excludes.
    ("198.18.0.1 -p80 --exclude 1.2.3", &["--exclude", "1.2.3", "four"]),
    ("198.18.0.1 -p80 --exclude example.com", &["example.com", "--resolve"]),
    ("198.18.0.1 -p80 --exclude 198.18.0.2:80", &["--exclude", "198.18.0.2:80"]),
    ("198.18.0.1 -p80 --excludefile endpoints.txt", &["--exclude-ports"]),
    ("198.18.0.1 -p80 --excludefile no-such-file", &["no-such-file", "No such file"]),
    ("198.18.0.1 -p80 --excludefile bad.txt", &["bad.txt:2", "line!"]),
    ("198.18.0.1 -p80 --exclude 198.18.0.0/15", &["no target is left", "excluded"]),
    // Numbers.
    ("198.18.0.1 -p80 --rate 0", &["'0'", "lowest"]),
    ("198.18.0.1 -p80 --rate fast", &["fast", "10k"]),
    ("198.18.0.1 -p80 --rate 2000m", &["2000m", "max"]),
    ("198.18.0.1 -p80 --shard 3/2", &["3/2", "2/2"]),
    ("198.18.0.1 -p80 --shard 2", &["'2'", "2/4"]),
    ("198.18.0.1 -p80 --shard 0/2", &["0/2", "1/2"]),
    ("198.18.0.1 -p80 --wait soon", &["soon", "seconds"]),
    ("198.18.0.1 -p80 --wait=-1", &["-1", "0 to 86400"]),
    ("198.18.0.1 -p80 --wait 1e9", &["1e9", "86400"]),
    ("198.18.0.1 -p80 --seed x", &["--seed", "'x'"]),
    ("198.18.0.1 -p80 --ttl 0", &["--ttl", "1..=255"]),
    // How to send.
    ("198.18.0.1 -p80 --layout bsd", &["bsd", "windows"]),
    ("198.18.0.1 -p80 --link carrier-pigeon", &["carrier-pigeon", "af_packet"]),
    ("198.18.0.1 -p80 --link af_packet:lo", &["af_packet:lo", "-e"]),
    ("198.18.0.1 -p80 --router-mac 1:2:3", &["1:2:3", "02:00"]),
    ("198.18.0.1 -p80 --source-port 40000-40002", &["40000-40002", "power of two"]),
    ("198.18.0.1 -p80 --source-port x", &["'x'", "40000"]),
    ("198.18.0.1 -p80 --source-ip x", &["'x'", "--source-ip"]),
    ("198.18.0.1 -p80 -e no-such0", &["no-such0", "lo"]),
    ("plan 198.18.0.1 -p80 --link carrier-pigeon", &["carrier-pigeon", "af_packet"]),
    ("plan 198.18.0.1 -p80 -g 1-3", &["1-3", "power of two"]),
    // Results.
    ("plan 198.18.0.1 -p80 -o out.pdf", &["out.pdf", "ndjson"]),
    ("198.18.0.1 -p80 --show ajar", &["ajar", "filtered"]),
    ("198.18.0.1 -p80 -o out.pdf", &["out.pdf", "ndjson"]),
    ("198.18.0.1 -p80 -o out", &["cannot write to out:", "KIND:PATH"]),
    ("198.18.0.1 -p80 -o csv:", &["csv:PATH"]),
    ("198.18.0.1 -p80 -o kept.csv", &["kept.csv", "--force"]),
    ("198.18.0.1 -p80 -o kept.db", &["kept.db", "no swath database", "--force"]),
    ("198.18.0.1 -p80 -o other.csv -o kept.csv", &["kept.csv", "--force"]),
    ("198.18.0.1 -p80 -o other.csv -o csv:other.csv", &["other.csv", "two outputs"]),
    ("198.18.0.1 -p80 -o sqlite:-", &["standard output", "file"]),
    ("198.18.0.1 -p80 -o .", &["KIND:PATH"]),
];

#[test]
fn what_is_wrong_is_refused_by_name_with_a_way_out_and_without_a_trace() {
    assert!(40 <= REFUSED.len());
    for (words, needles) in REFUSED {
        let directory = prepared();
        let before = contents(directory.path());
        let mut line = format!("{words} -q");
        if !words.contains("--link") && !words.contains("-e ") && !words.starts_with("plan") {
            line += " --link null";
        }
        if !words.contains("-o") && !words.starts_with("plan") && !words.ends_with(['p', 'e']) {
            line += " -o results.csv -o results.db";
        }
        // What lacks its value must stand at the end.
        if words.ends_with("--rate") || words.ends_with(" -p") {
            line = (*words).to_owned();
        }
        let ran = run(&directory, &line);
        assert_eq!(ran.code, Some(2), "swath {line}\n{}{}", ran.out, ran.err);
        assert!(ran.out.is_empty(), "swath {line}: standard output is for results: {}", ran.out);
        for needle in *needles {
            assert!(ran.err.contains(needle), "swath {line}: no '{needle}' in: {}", ran.err);
        }
        assert_eq!(contents(directory.path()), before, "swath {line}");
    }
}

/// A directory with files that the table above names.
fn prepared() -> TempDir {
    let directory = directory();
    for (name, text) in [
        ("empty.txt", "# nothing\n\n"),
        ("bad.txt", "198.18.0.1\nnot a line!\n"),
        ("names.txt", "example.com\n"),
        ("endpoints.txt", "198.18.0.2:80\n"),
        ("kept.csv", "precious"),
        ("kept.db", "precious"),
    ] {
        fs::write(directory.path().join(name), text).expect("written");
    }
    directory
}

fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read(path).expect("a file"))
        })
        .collect()
}

/// Regression: sinks were opened before the link, so a scan that could not start left files that the next one refused,
/// and `--force` had already deleted what it was to replace.
#[test]
fn a_link_that_cannot_be_opened_leaves_the_results_alone() {
    let directory = prepared();
    let before = contents(directory.path());
    for words in [
        "198.18.0.1 -p80 -q --link pcap -o results.csv",
        "198.18.0.1 -p80 -q --link pcap:no/such/directory.pcap -o results.db",
        "198.18.0.1 -p80 -q --link pcap:/dev/full -o results.csv -o kept.csv --force",
        "198.18.0.1 -p80 -q --link pcap:empty.txt -o kept.db --force",
    ] {
        let ran = run(&directory, words).exits(1);
        assert!(ran.err.starts_with("swath: "), "{words}: {}", ran.err);
        assert_eq!(contents(directory.path()), before, "{words}");
    }
}

#[test]
fn terminal_escapes_in_arguments_reach_no_terminal() {
    let directory = directory();
    for words in [
        &["\u{1b}[2J", "-p80"][..],
        &["198.18.0.1", "-p", "\u{1b}[2J"],
        &["198.18.0.1", "-p80", "-o", "\u{1b}[2J.xyz"],
        &["198.18.0.1", "-p80", "--exclude", "\u{1b}[2J"],
        &["198.18.0.1", "-p80", "--link", "\u{1b}[2J"],
        &["-iL", "\u{1b}[2J", "-p80"],
    ] {
        let ran = swath(directory.path(), words).exits(2);
        assert!(!ran.err.contains('\u{1b}'), "{words:?}: {:?}", ran.err);
    }
}

// --- Streams --------------------------------------------------------------------------------------------------------

/// Runs swath with one of its streams closed at the other end.
fn with_closed(words: &str, standard_error: bool) -> Option<i32> {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(SWATH);
    command.args(words.split(' ')).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if standard_error {
        command.stderr(writer)
    } else {
        command.stdout(writer)
    };
    command.status().expect("swath runs").code()
}

/// Regression: with standard error closed (`swath ... 2>&1 | head`) swath panicked.
#[test]
fn a_reader_that_left_is_no_error() {
    for words in ["--help", "plan 198.18.0.0/24 -p80", "198.18.0.0/24 -p80 --rate max --link null"] {
        assert_eq!(with_closed(words, false), Some(0), "stdout of {words}");
        assert_eq!(with_closed(words, true), Some(0), "stderr of {words}");
    }
    assert_eq!(with_closed("198.18.0.256 -p80", true), Some(2));
    assert_eq!(with_closed("--no-such", true), Some(2));
}

#[test]
fn quiet_says_nothing_but_errors() {
    let ran = run(&directory(), "198.18.0.0/28 -p80 --rate max --link null --quiet -o none:").exits(0);
    assert!(ran.out.is_empty(), "{}", ran.out);
    assert!(ran.err.lines().all(|line| line.starts_with("frames 16 digest ")), "{}", ran.err);
}

// --- Frames ---------------------------------------------------------------------------------------------------------

/// Where each frame of a capture file goes, after every checksum was verified by another implementation.
fn frames(path: &Path) -> Vec<(IpAddr, u16)> {
    let bytes = fs::read(path).expect("a capture");
    let (rest, capture) = pcap_parser::parse_pcap(&bytes).expect("a capture file");
    assert!(rest.is_empty(), "every frame is whole");
    assert_eq!(capture.header.network, pcap_parser::Linktype::ETHERNET);
    capture.blocks.iter().map(|block| frame(block.data)).collect()
}

fn frame(bytes: &[u8]) -> (IpAddr, u16) {
    let packet = etherparse::SlicedPacket::from_ethernet(bytes).expect("a frame");
    let Some(etherparse::TransportSlice::Tcp(tcp)) = &packet.transport else { panic!("no TCP: {bytes:?}") };
    assert!(tcp.syn() && !tcp.ack() && !tcp.rst() && tcp.payload().is_empty());
    let (address, sum): (IpAddr, u16) = match &packet.net {
        Some(etherparse::NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            assert_eq!(header.calc_header_checksum(), header.header_checksum);
            assert_eq!((header.time_to_live, header.dont_fragment), (64, true));
            assert_eq!(usize::from(header.total_len) + 14, bytes.len());
            let sum = tcp.to_header().calc_checksum_ipv4(&header, &[]).expect("short");
            (ip.header().destination_addr().into(), sum)
        }
        Some(etherparse::NetSlice::Ipv6(ip)) => {
            let sum = tcp.to_header().calc_checksum_ipv6(&ip.header().to_header(), &[]).expect("short");
            (ip.header().destination_addr().into(), sum)
        }
        other => panic!("no IP: {other:?}"),
    };
    assert_eq!(sum, tcp.checksum(), "checksum of {bytes:?}");
    (address, tcp.destination_port())
}

/// Scans into a capture file; returns the digest line and the frames.
#[track_caller]
fn captured(words: &str) -> (String, Vec<(IpAddr, u16)>) {
    let directory = directory();
    let ran = run(&directory, &format!("{words} --rate max -q --link pcap:frames.pcap")).exits(0);
    (ran.err.trim().to_owned(), frames(&directory.path().join("frames.pcap")))
}

#[test]
fn null_and_pcap_finish_the_same_frames_in_the_same_order() {
    for words in
        ["198.18.0.0/22 -p80,443 --seed 3", "2001:db8::/118 198.18.0.0/24 -p80 --seed 3 --layout linux"]
    {
        let null = |words: &str| {
            run(&directory(), &format!("{words} --rate max -q --link null")).exits(0).err.trim().to_owned()
        };
        let (digest, frames) = captured(words);
        if !words.contains("linux") {
            // The layout linux carries the time, so its frames differ from run to run.
            assert_eq!(null(words), digest, "{words}");
            assert_ne!(null(&words.replace("--seed 3", "--seed 4")), digest);
        }
        assert!(digest.starts_with(&format!("frames {} digest ", frames.len())), "{digest}");
    }
}

#[test]
fn every_layout_has_good_checksums_over_both_families() {
    for layout in ["mss", "windows", "linux", "bare"] {
        for targets in ["198.18.0.0/22", "2001:db8::/118", "2001:db8::/119 198.18.0.0/23"] {
            let (_, frames) = captured(&format!("{targets} -p443 --layout {layout}"));
            assert_eq!(frames.iter().collect::<BTreeSet<_>>().len(), 1024, "{layout} {targets}");
            assert_eq!(frames.len(), 1024, "{layout} {targets}: each once");
        }
    }
}

#[test]
fn exactly_the_planned_targets_are_probed_each_once() {
    let directory = directory();
    fs::write(
        directory.path().join("targets"),
        "198.18.9.1:8080\n198.18.9.1:8081\n198.18.0.1:22\n198.18.9.9\n",
    )
    .expect("written");
    let file = directory.path().join("targets");
    let file = file.to_str().expect("text");
    let words = format!(
        "198.18.0.0/25 2001:db8::/124 -iL {file} -p22,80,8000-8002 --exclude-ports 8001 --exclude 198.18.0.16/28,2001:db8::3 --exclude 198.18.0.127 --seed 11"
    );
    // The truth by other means: lists and sets.
    let mut truth = BTreeSet::new();
    let addresses =
        (0..127u8).filter(|host| !(16..32).contains(host)).map(|host| IpAddr::from([198, 18, 0, host]));
    let others = (0..16u16)
        .filter(|host| *host != 3)
        .map(|host| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, host]))
        .chain([IpAddr::from([198, 18, 9, 9])]);
    for address in addresses.chain(others) {
        truth.extend([22, 80, 8000, 8002].map(|port| (address, port)));
    }
    truth.extend([8080, 8081].map(|port| (IpAddr::from([198, 18, 9, 1]), port)));

    let planned = number(plan(&words).line("targets"));
    assert_eq!(planned, truth.len() as u128);
    let (_, whole) = captured(&words);
    let check = |frames: &[(IpAddr, u16)]| {
        assert_eq!(frames.len(), truth.len(), "each once");
        assert_eq!(frames.iter().copied().collect::<BTreeSet<_>>(), truth);
    };
    check(&whole);
    let parts: Vec<Vec<_>> =
        ["1/3", "2/3", "3/3"].iter().map(|shard| captured(&format!("{words} --shard {shard}")).1).collect();
    check(&parts.concat());
    assert!(parts.iter().all(|part| part.len().abs_diff(truth.len() / 3) <= 1), "equal parts");
    assert_eq!(parts.concat(), whole, "shards one after the other are the whole order");
}

#[test]
fn a_shard_without_targets_is_a_scan_that_is_done() {
    let ran = run(&directory(), "198.18.0.1 -p80 --shard 2/3 --rate max --link null").exits(0).balances();
    let other = run(&directory(), "198.18.0.1 -p80 --shard 1/3 --rate max --link null").exits(0).balances();
    let last = run(&directory(), "198.18.0.1 -p80 --shard 3/3 --rate max --link null").exits(0).balances();
    assert_eq!([&ran, &other, &last].map(|ran| ran.ledger("probes", "sent")).iter().sum::<u64>(), 1);
}

#[test]
fn an_output_that_cannot_be_measured_is_refused_by_name() {
    for (name, way_out) in [("nosuch", "ndjson"), ("postgres", "postgresql://")] {
        let directory = directory();
        let ran = run(&directory, &format!("bench write {name} --directory .")).exits(2);
        assert!(ran.err.contains(name) && ran.err.contains(way_out), "{}", ran.err);
        assert!(contents(directory.path()).is_empty(), "nothing is left behind");
    }
}

#[test]
fn a_capture_on_a_full_disk_is_an_error() {
    // /dev/full is no new file, which the link wants; that, too, is an error with a name and a way out.
    let ran = run(&directory(), "198.18.0.1 -p80 --link pcap:/dev/full").exits(1);
    assert!(ran.err.contains("/dev/full") && ran.err.contains("choose another name"), "{}", ran.err);
}

#[test]
fn results_on_a_full_disk_end_a_scan_that_cannot_keep_them() {
    let ran = run(&directory(), "198.18.0.1 -p80 --link null -o csv:/dev/full");
    assert_ne!(ran.code, Some(0));
    assert!(ran.err.contains("/dev/full") && ran.err.contains("No space left"), "{}", ran.err);
}

#[test]
fn a_file_gets_its_shape_even_when_nothing_was_found() {
    let directory = directory();
    run(&directory, "198.18.0.0/28 -p80 --rate max --link null -o a.csv -o a.ndjson -o a.txt -o a.db")
        .exits(0)
        .balances();
    let read = |name: &str| fs::read_to_string(directory.path().join(name)).expect("a file");
    assert!(read("a.csv").starts_with("ts,ip,port,") && read("a.csv").lines().count() == 1);
    assert_eq!((read("a.ndjson"), read("a.txt")), (String::new(), String::new()));
    let database = rusqlite::Connection::open(directory.path().join("a.db")).expect("a database");
    let row: (String, i64, i64) = database
        .query_row("SELECT status, planned, sent FROM scan", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .expect("one scan");
    assert_eq!(row, ("complete".into(), 16, 16));
    // A database takes a second scan; --force starts it anew.
    run(&directory, "198.18.0.0/28 -p80 --rate max --link null -o a.db").exits(0);
    let scans: i64 = database.query_row("SELECT count(*) FROM scan", [], |row| row.get(0)).expect("a count");
    assert_eq!(scans, 2);
    drop(database);
    run(&directory, "198.18.0.0/28 -p80 --rate max --link null -o a.db --force").exits(0);
    let database = rusqlite::Connection::open(directory.path().join("a.db")).expect("a database");
    let scans: i64 = database.query_row("SELECT count(*) FROM scan", [], |row| row.get(0)).expect("a count");
    assert_eq!(scans, 1);
}

#[test]
fn a_sample_of_each_prefix_is_a_plan_like_any_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let plan = |line: &str| swath(directory.path(), &line.split(' ').collect::<Vec<_>>());
    let line = "plan 2001:db8::/48 -p 443 --per-prefix /64 --sample 4 --seed 7";
    let low = plan(line).exits(0);
    assert_eq!(low.line("targets"), "262,144");
    assert_eq!(plan(line).exits(0).line("digest"), low.line("digest"));
    let random = plan(&format!("{line} --sample-pattern random,eui64")).exits(0);
    assert_eq!(random.line("targets"), "524,288");
    assert_ne!(random.line("digest"), low.line("digest"));
    let other =
        plan(&format!("{line} --sample-pattern random,eui64").replace("--seed 7", "--seed 8")).exits(0);
    assert_ne!(other.line("digest"), random.line("digest"));
    let part = plan(&format!("{line} --exclude 2001:db8:0:8000::/49")).exits(0);
    assert_eq!(part.line("targets"), "131,072");
    for (line, part) in [
        ("plan 2001:db8::/32 -p 443 --per-prefix /64 --sample 4", "above the limit of 4194304"),
        ("plan 2001:db8::/48 -p 443 --per-prefix /64 --sample-pattern random", "give --seed"),
        ("plan 2001:db8::/48 -p 443 --per-prefix /0", "no length of a prefix"),
        ("plan 2001:db8::/48 -p 443 --sample 3", "--per-prefix"),
    ] {
        let ran = plan(line).exits(2);
        assert!(ran.err.contains(part), "{line}: {}", ran.err);
    }
}
