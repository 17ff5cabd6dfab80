//! What a user meets when a scan goes on or shards are joined: whole processes in the simulated Internet, killed, hung
//! up, and given the wrong files. No privilege, no interface. The kill loop on real wires is in `netns_resume.rs`.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{Ran, SWATH, swath};
use tempfile::TempDir;

/// A directory with a world in which everything is open.
fn directory() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let text = "about = 'everything is open'\n[[rule]]\nanswer = 'open'\n";
    fs::write(directory.path().join("open.toml"), text).expect("written");
    directory
}

#[track_caller]
fn run(directory: &TempDir, line: &str) -> Ran {
    swath(directory.path(), &line.split_whitespace().collect::<Vec<_>>())
}

/// Refused before anything happens, with these words.
#[track_caller]
fn refused(directory: &TempDir, line: &str, why: &[&str]) {
    let ran = run(directory, line).exits(2);
    for why in why {
        assert!(ran.err.contains(why), "{line}: no '{why}' in: {}", ran.err);
    }
}

fn start(directory: &TempDir, line: &str) -> Child {
    let mut command = Command::new(SWATH);
    command.args(line.split_whitespace()).current_dir(directory.path()).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("swath runs")
}

fn hang_up(child: &Child) {
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("sent");
}

#[track_caller]
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(20), "never {what}");
        sleep(Duration::from_millis(2));
    }
}

/// Addresses in NDJSON, and how often each stands there.
fn heard(path: &Path) -> BTreeMap<String, u32> {
    let mut heard = BTreeMap::new();
    for line in fs::read_to_string(path).unwrap_or_default().lines() {
        let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
        *heard.entry(record["ip"].as_str().expect("an address").to_owned()).or_default() += 1;
    }
    heard
}

/// A scan of 1,024 targets that takes a second, under a checkpoint of that name.
fn slow(name: &str) -> String {
    format!(
        "198.18.0.0/22 -p80 --link world:open.toml --rate 1k --wait 0.1 --seed 7 --checkpoint {name}.swath -o {name}.ndjson"
    )
}

/// Starts a scan and kills it when its checkpoint stands and some time has passed.
fn begun_and_killed(directory: &TempDir, line: &str, checkpoint: &str, after_ms: u64) {
    let mut child = start(directory, line);
    let checkpoint = directory.path().join(checkpoint);
    wait_for("a checkpoint", || checkpoint.exists());
    sleep(Duration::from_millis(after_ms));
    child.kill().expect("killed");
    child.wait().expect("ended");
}

#[test]
fn what_every_hangup_excluded_stays_excluded() {
    let directory = directory();
    let never = directory.path().join("never");
    fs::write(&never, "203.0.113.0/24\n").expect("written");
    let child = start(
        &directory,
        "198.18.0.0/21 -p80 --link world:open.toml --rate 1k --wait 0.1 --excludefile never -o ndjson:a",
    );
    let results = directory.path().join("a");
    let grow = |found: usize, list: &str| {
        wait_for("results", || found <= fs::read_to_string(&results).unwrap_or_default().lines().count());
        fs::write(&never, list).expect("written");
        hang_up(&child);
    };
    grow(300, "203.0.113.0/24 198.18.1.0/24\n");
    grow(700, "203.0.113.0/24 198.18.1.0/24 198.18.2.0/24\n");
    let ran = Ran::of(&child.wait_with_output().expect("ends")).exits(0).balances();
    assert_eq!(ran.err.matches("256 addresses more are excluded from now on").count(), 2, "{}", ran.err);
    let heard = heard(&results);
    let in_net = |net: &str| heard.keys().filter(|address| address.starts_with(net)).count();
    // The first hangup came before 700 of 2,048 targets had answered: most of its network was never sent to.
    assert!(
        in_net("198.18.1.") < 150 && in_net("198.18.2.") < 200,
        "{} {}",
        in_net("198.18.1."),
        in_net("198.18.2.")
    );
    let spared = 512 - in_net("198.18.1.") - in_net("198.18.2.");
    assert_eq!(ran.ledger("probes ", "excluded"), spared as u64);
    assert_eq!(in_net("198.18.0.") + in_net("198.18.7."), 512);
}

#[test]
fn a_process_that_is_killed_in_its_first_second_has_lost_nothing() {
    for after_ms in [0, 1, 5, 20, 60, 150, 300, 600] {
        let directory = directory();
        begun_and_killed(&directory, &slow("a"), "a.swath", after_ms);
        let ran = run(&directory, "resume a.swath --rate max").exits(0).balances();
        assert!(ran.err.contains("run 2 goes on"), "{}", ran.err);
        let heard = heard(&directory.path().join("a.ndjson"));
        assert_eq!(heard.len(), 1024, "killed after {after_ms} ms");
        assert!(heard.values().all(|&times| times == 1), "killed after {after_ms} ms");
    }
}

#[test]
fn a_scan_of_discovered_hosts_goes_on_with_those_hosts() {
    let directory = directory();
    // Odd networks are silent: the discovery leaves half of the hosts.
    let text =
        "about = 'half is up'\n[[rule]]\nanswer = 'open'\naddresses = '198.18.0.0/24, 198.18.2.0/24'\n";
    fs::write(directory.path().join("half.toml"), text).expect("written");
    let scan = "198.18.0.0/22 -p80,443 --discover-first -PE --link world:half.toml --rate 1k --wait 0.1 --seed 7 \
                --checkpoint a.swath -o a.ndjson";
    begun_and_killed(&directory, scan, "a.swath", 300);
    refused(&directory, "resume a.swath -p 81", &["its ports are"]);
    let ran = run(&directory, "resume a.swath --rate max").exits(0).balances();
    assert!(ran.err.contains("run 2 goes on"), "{}", ran.err);
    let heard = heard(&directory.path().join("a.ndjson"));
    assert_eq!(heard.len(), 512);
    assert!(heard.values().all(|&ports| ports == 2), "each port of each host, once");
    // The closing account is of the hosts that were found, as that of a scan which nobody killed.
    assert_eq!(ran.ledger("probes ", "unsent"), 0, "{}", ran.err);
}

#[test]
fn a_discovery_is_not_added_to_a_scan_that_began_without_one() {
    let directory = directory();
    begun_and_killed(&directory, &slow("a"), "a.swath", 100);
    refused(
        &directory,
        "resume a.swath --discover-first -PE",
        &["a.swath cannot be resumed", "it did not begin with --discover-first"],
    );
    refused(&directory, "resume a.swath -sU", &["its ports are"]);
    refused(&directory, "resume a.swath --seed 8 --passes 2", &["the digest of the plan differs"]);
}

#[test]
fn what_is_no_checkpoint_is_refused_with_the_reason() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir(path("empty")).expect("made");
    refused(&directory, "resume", &["swath resume FILE"]);
    refused(&directory, "resume nowhere", &["checkpoint nowhere", "removes its checkpoint"]);
    refused(&directory, "resume empty", &["empty holds no checkpoint (*.swath)"]);
    refused(&directory, "resume open.toml", &["open.toml", "it is no checkpoint of swath"]);
    let mut running = start(&directory, &slow("a"));
    wait_for("a checkpoint", || path("a.swath").exists());
    refused(&directory, "resume a.swath", &["a running swath uses it"]);
    refused(&directory, &slow("a").replace("a.ndjson", "b.ndjson"), &["a running swath uses it"]);
    running.kill().expect("killed");
    running.wait().expect("ended");
    refused(
        &directory,
        "198.18.0.0/24 -p80 --link world:open.toml --checkpoint a.swath -o b.ndjson",
        &["swath resume a.swath goes on with it", "--force forgets it"],
    );
    // A later layout, and one that is cut off.
    let whole = fs::read(path("a.swath")).expect("read");
    let mut later = whole.clone();
    later[8] = 2;
    fs::write(path("later.swath"), later).expect("written");
    refused(&directory, "resume later.swath", &["it is of version 2", "reads version 1"]);
    fs::write(path("cut.swath"), &whole[..whole.len() - 1]).expect("written");
    refused(&directory, "resume cut.swath", &["cut.swath", "damaged"]);
    for name in ["later.swath", "cut.swath"] {
        fs::remove_file(path(name)).expect("removed");
    }
    fs::write(path("b.swath"), &whole).expect("written");
    refused(&directory, "resume .", &["several checkpoints", "a.swath", "b.swath"]);
    fs::remove_file(path("b.swath")).expect("removed");
    run(&directory, "resume .").exits(0).balances();
    // The checkpoint was named, so a note stays; there is nothing to go on with.
    let ran = run(&directory, "resume a.swath").exits(0);
    assert!(ran.err.contains("the scan is complete; nothing is left to do"), "{}", ran.err);
}

#[test]
fn a_further_output_of_a_resumed_scan_holds_what_was_probed_since() {
    let directory = directory();
    begun_and_killed(&directory, &slow("a"), "a.swath", 500);
    let before = heard(&directory.path().join("a.ndjson")).len();
    let ran = run(&directory, "resume a.swath --resume=exact --rate max -o b.ndjson").exits(0).balances();
    let (a, b) = (heard(&directory.path().join("a.ndjson")), heard(&directory.path().join("b.ndjson")));
    // What was under way when it was killed is at risk, and said: exact sends nothing twice.
    let at_risk = ran.err.split("AT RISK: replies to ").nth(1).and_then(|rest| rest.split(' ').next());
    let at_risk: usize = at_risk.and_then(|count| count.replace(',', "").parse().ok()).expect("a number");
    assert!(before < a.len() && 1024 <= a.len() + at_risk, "{before} {} {at_risk}", a.len());
    assert!(b.len() <= 1024 - before && b.keys().all(|address| a.contains_key(address)));
}

#[test]
fn shards_are_joined_whatever_says_which_they_are() {
    let directory = directory();
    let shard = |index: u32, how: &str| {
        let line = format!(
            "198.18.0.0/22 -p80 --link world:open.toml --rate max --wait 0.1 --seed 7 --shard {index}/3 {how} -o {index}.ndjson"
        );
        run(&directory, &line).exits(0);
    };
    // By the note beside the output, by the manifest beside it, by both.
    shard(1, "--checkpoint 1.ndjson.swath");
    shard(2, "--checkpoint elsewhere.swath");
    shard(3, "--checkpoint none");
    let ran = run(&directory, "merge 3.ndjson 1.ndjson 2.ndjson -o whole.ndjson").exits(0);
    assert!(ran.err.contains("3 shards of 3, the whole plan; 1,024 results joined"), "{}", ran.err);
    assert_eq!(heard(&directory.path().join("whole.ndjson")).len(), 1024);
    let ran = run(&directory, "merge 1.ndjson 3.ndjson").exits(3);
    assert!(ran.err.contains("shard 2/3 is not there"), "{}", ran.err);
    fs::remove_file(directory.path().join("3.ndjson.manifest.json")).expect("removed");
    refused(
        &directory,
        "merge 1.ndjson 3.ndjson",
        &["3.ndjson.manifest.json", "3.ndjson.swath", "which shard"],
    );
    fs::write(directory.path().join("3.ndjson.manifest.json"), "{").expect("written");
    refused(
        &directory,
        "merge 1.ndjson 3.ndjson",
        &["3.ndjson.manifest.json", "cannot be read as a manifest"],
    );
    refused(&directory, "merge 1.ndjson nowhere", &["nowhere", "No such file"]);
}

#[test]
fn a_port_that_answers_tcp_and_udp_is_two_results_of_the_joined_shards() {
    let directory = directory();
    for index in 1..=2 {
        let line = format!(
            "198.18.0.0/28 -p 53,U:53 --link world:open.toml --rate max --wait 0.1 --seed 7 --shard {index}/2 -o {index}.ndjson"
        );
        run(&directory, &line).exits(0);
    }
    // A port may be asked several questions in UDP, so each host and protocol is counted once.
    let found = |names: &[&str]| -> BTreeSet<(String, String)> {
        let texts = names.iter().map(|name| fs::read_to_string(directory.path().join(name)).expect("read"));
        let text = texts.collect::<String>();
        let values = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        let word = |value: &serde_json::Value, key: &str| value[key].as_str().expect("a word").to_owned();
        values.map(|value| (word(&value, "ip"), word(&value, "proto"))).collect()
    };
    run(&directory, "merge 1.ndjson 2.ndjson -o whole.ndjson").exits(0);
    let apart = found(&["1.ndjson", "2.ndjson"]);
    assert_eq!(apart.len(), 32, "16 hosts, two protocols");
    assert_eq!(found(&["whole.ndjson"]), apart);
}
