//! Whole scans into the simulated Internet, as a user runs them: no privilege, no interface, the same result each time.

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::{Ran, swath};
use tempfile::TempDir;

fn run(directory: &TempDir, line: &str) -> Ran {
    swath(directory.path(), &line.split_whitespace().collect::<Vec<_>>())
}

/// What a scan found, without when and how fast.
fn found(ran: &Ran) -> BTreeSet<(String, u64, String, String)> {
    let lines = ran.out.lines().map(|line| serde_json::from_str(line).expect(line));
    let records = lines.filter(|value: &serde_json::Value| value["ip"].is_string());
    let word = |value: &serde_json::Value, key: &str| value[key].as_str().expect(key).to_owned();
    records
        .map(|value| {
            let port = value["port"].as_u64().expect("a port");
            (word(&value, "ip"), port, word(&value, "state"), word(&value, "reason"))
        })
        .collect()
}

#[test]
fn the_same_scan_finds_the_same_without_privilege() {
    let directory = tempfile::tempdir().expect("a directory");
    let scan = "198.18.0.0/24 -p 22,80,443,8080 --link world:quiet --seed 5 --rate 20k --wait 1 \
                --show open,closed,filtered -o ndjson:-";
    let (one, other) = (run(&directory, scan).exits(0).balances(), run(&directory, scan).exits(0).balances());
    assert!(one.err.contains("simulated, nothing is sent"), "{}", one.err);
    let results = found(&one);
    assert_eq!(results, found(&other));
    let states: BTreeSet<&str> = results.iter().map(|(_, _, state, _)| state.as_str()).collect();
    assert_eq!(states, BTreeSet::from(["open", "closed"]), "half of the hosts are silent, the others answer");
    assert!((300..700).contains(&results.len()), "{} of 1024", results.len());
    assert_eq!(one.ledger("probes ", "sent"), 1024);
}

#[test]
fn a_hostile_world_and_a_scenario_of_ones_own() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = "about = 'everything is open'\n[[rule]]\nanswer = 'open'\n[adversaries]\nsyn_ack = 5\n";
    fs::write(directory.path().join("mine.toml"), text).expect("written");
    let ran = run(&directory, "198.18.0.0/25 -p 80 --link world:mine.toml --rate 5k --wait 1 -o ndjson:-")
        .exits(0)
        .balances();
    assert_eq!(found(&ran).len(), 128);
    assert_eq!(ran.ledger("frames ", "invalid"), 128 * 5, "every forged answer is refused");
    let ran = run(
        &directory,
        "198.18.0.0/24 -p 80 --link world:hostile --passes 2 --pass-gap 0 --rate 5k --wait 2",
    );
    ran.exits(0).balances();
}

#[test]
fn a_scenario_that_is_none_is_refused_with_its_place() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("bad.toml"), "about = 'x'\n[[rule]]\nanswer = 'opne'\n")
        .expect("written");
    for (link, needle) in [
        ("world", "name a scenario"),
        ("world:nowhere.toml", "built in are quiet, internet, hostile"),
        ("world:bad.toml", "rule 1: there is no answer 'opne'"),
    ] {
        let ran = run(&directory, &format!("198.18.0.1 -p 80 --link {link}"));
        assert_ne!(ran.code, Some(0), "{link}");
        assert!(ran.err.contains(needle), "{link}: {}", ran.err);
        assert!(ran.out.is_empty());
    }
}

#[test]
fn what_a_cap_holds_back_is_counted_for_every_output_and_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = "about = 'one answers for everything'\n[[rule]]\naddresses = '198.18.0.7'\nanswer = 'tarpit'\n\
                [[rule]]\nports = '80'\nanswer = 'open'\n[[rule]]\nanswer = 'closed'\n";
    fs::write(directory.path().join("tarpit.toml"), text).expect("written");
    let scan = "198.18.0.6/31 -p 1-3000 --link world:tarpit.toml --rate max --wait 0.2 --max-results-per-host 100 \
                -o a.ndjson -o list:b.txt -o c.ndjson --show open,closed";
    let ran = run(&directory, scan).exits(4).balances();
    assert!(ran.err.contains("198.18.0.7 answers for everything: 2,900 open ports held back"), "{}", ran.err);
    for sink in ["a.ndjson", "c.ndjson"] {
        assert_eq!(ran.sink(sink), [3_100, 0, 2_900]);
    }
}
