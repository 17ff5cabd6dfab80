//! Command lines as people write them for masscan, nmap, zmap and naabu, unchanged, against a lab of their own
//! (`scripts/lab`: two namespaces, no way out), each output read back. Needs root; without it the test says that it was
//! skipped, or fails under `SWATH_NETNS=required`.
#![allow(clippy::print_stderr, reason = "skips are for the person who runs the tests")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Ran, SWATH};
use swath::event::{Observations, State};
use swath::source;

/// A lab of this test's own, gone when dropped, and by its watch when this process is killed.
struct Lab {
    name: String,
    directory: tempfile::TempDir,
}

impl Lab {
    /// None, and a word about it, where namespaces cannot be made.
    fn up() -> Option<Lab> {
        let required = std::env::var_os("SWATH_NETNS").is_some_and(|value| value == "required");
        if !fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
            assert!(!required, "SWATH_NETNS=required, but namespaces need root");
            eprintln!("skipped: network namespaces need root");
            return None;
        }
        let lab = Lab {
            name: format!("habits-{}", std::process::id()),
            directory: tempfile::tempdir().expect("a directory"),
        };
        lab.run(&["up"]).exits(0);
        Some(lab)
    }

    fn run(&self, words: &[&str]) -> Ran {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/lab"));
        command.args(words).current_dir(self.directory.path()).stdin(Stdio::null());
        command.env("SWATH_LAB", &self.name).env("SWATH_LAB_OWNER", std::process::id().to_string());
        Ran::of(&command.output().expect("scripts/lab runs"))
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.run(&["down"]);
    }
}

/// The results of a file, and how many of them are open.
fn results(path: &Path) -> (usize, usize) {
    let mut source = source::open(path.to_str().expect("text")).unwrap_or_else(|error| panic!("{error}"));
    let (mut batch, mut records) = (Observations::default(), Vec::new());
    while source.read(&mut batch).unwrap_or_else(|error| panic!("{error}")) {
        records.append(&mut batch.records);
    }
    (records.len(), records.iter().filter(|record| record.state == State::Open).count())
}

/// The words behind `swath`, the file they write and how many open ports must stand in it. Eight addresses answer on
/// port 22, which a listener of the lab holds; nothing listens on 23.
const LINES: &[(&str, &str, usize)] = &[
    ("-p22 198.18.0.0/29 --rate 1000 --wait 1 -oL out.list", "out.list", 8),
    ("198.18.0.0/29 -p22,23 --max-rate 1000 --wait 1 -oJ out.json", "out.json", 8),
    ("-p 22 198.18.0.0-198.18.0.7 --rate=1000 --wait=1 -oD out.ndjson", "out.ndjson", 8),
    (
        "--ports 22 --range 198.18.0.0/29 --rate 1000 --wait 1 --compat masscan -oX masscan.xml",
        "masscan.xml",
        8,
    ),
    ("-p22 198.18.0.0/29 --rate 1000 --wait 1 -oB out.bin", "out.bin", 8),
    (
        "-p22 198.18.0.0/29 --rate 1000 --wait 1 --output-format json --output-filename format.json",
        "format.json",
        8,
    ),
    ("-p22 198.18.0.0/29 --exclude 198.18.0.0/30 --rate 1000 --wait 1 -oL exclude.list", "exclude.list", 4),
    ("-iL targets -p22 --excludefile never --rate 1000 --wait 1 -oL include.list", "include.list", 7),
    ("-p22 198.18.0.0/29 --open-only --rate 1000 --wait 1 --retries 1 -oL retries.list", "retries.list", 8),
    ("-p22,23 198.18.0.0/29 --show open,closed --rate 1000 --wait 1 -oL show.list", "show.list", 8),
    ("-p22 198.18.0.0/29 --seed 7 --shard 1/1 --rate 1000 --wait 1 -oL shard.list", "shard.list", 8),
    (
        "-p22 198.18.0.0/29 --seed time -v -d --nocapture cert --rate 1000 --wait 1 -oL flags.list",
        "flags.list",
        8,
    ),
    ("-c scan.conf --wait 1 -oL conf.list", "conf.list", 8),
    ("-sS -Pn -n -p22 198.18.0.0/29 --max-rate 1000 --wait 1 -oX nmap.xml", "nmap.xml", 8),
    ("-sS -Pn -p T:22 198.18.0.0/29 --rate 1000 --wait 1 -oG out.gnmap", "out.gnmap", 8),
    ("-sS -Pn -p22 198.18.0.0/29 --rate 1000 --wait 1 --reason -oA all", "all.xml", 8),
    (
        "-p 22 198.18.0.0/29 --compat zmap -f saddr,sport,classification,success -r 1000 --wait 1 -o zmap.csv",
        "zmap.csv",
        8,
    ),
    ("-p 22 198.18.0.0/29 --compat naabu --rate 1000 --wait 1 -o naabu.json", "naabu.json", 8),
    ("-p22 198.18.0.0/29 --Rate 1000 --WAIT 1 --Append_Output -oL out.list", "out.list", 16),
    ("-p22 198.18.0.0/29 --rate 1000 --wait 1 --nostatus -o out.ndjson.zst", "out.ndjson.zst", 8),
];

#[test]
fn netns_twenty_command_lines_as_people_write_them_run_unchanged() {
    let Some(lab) = Lab::up() else { return };
    fs::write(lab.path().join("targets"), "198.18.0.0/30\n# more\n198.18.0.4-198.18.0.7\n").expect("writes");
    fs::write(lab.path().join("never"), "198.18.0.7\n").expect("writes");
    fs::write(lab.path().join("scan.conf"), "rate = 1000\nports = 22\nrange = 198.18.0.0/29\nseed = 3\n")
        .expect("writes");
    assert_eq!(LINES.len(), 20);
    for (line, file, open) in LINES {
        let ran = lab.run(&["exec", SWATH].into_iter().chain(line.split(' ')).collect::<Vec<_>>()).exits(0);
        let quiet = line.contains("--nostatus");
        let ran = if quiet { ran } else { ran.balances() };
        let (_, found) = results(&lab.path().join(file));
        assert_eq!(found, *open, "{line}\n{}", ran.err);
    }
    let (all, open) = results(&lab.path().join("show.list"));
    assert_eq!((all, open), (16, 8), "closed ones, too");
}
