//! How fast the simulated Internet runs, oracles included. Nothing is asserted about time: the figure is for docs/soak.md.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::case::{Case, Faults};
use super::sim::{self, Part};
use super::{judge, number, plan};

/// Processor time of this thread, in seconds: other work on the machine does not count (proc_pid_schedstat(5)).
fn busy_s() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns = text.split(' ').next().and_then(|word| word.parse::<u64>().ok());
    ns.unwrap_or(0) as f64 / 1e9
}

/// One long scan in which set-up does not count, through the built-in worlds. `SWATH_WORLD_TARGETS` says how long.
#[test]
fn a_long_scan_keeps_every_promise_and_its_rate_is_printed() {
    // At most the whole of 198.18.0.0/15.
    let hosts = number("SWATH_WORLD_TARGETS").unwrap_or(1 << 12).next_power_of_two().min(1 << 17);
    let bits = 32 - hosts.ilog2();
    for (name, scenario) in [
        ("quiet", include_str!("../../src/world/scenarios/quiet.toml")),
        ("internet", include_str!("../../src/world/scenarios/internet.toml")),
    ] {
        let faults = Faults {
            rate_milli: Some(1_000_000_000),
            gap_ns: 0,
            wait_ns: 40_000_000_000,
            tx_threads: 1,
            refuse_one_in: 0,
            on_link: false,
            ring: 1 << 20,
            queue: 65_536,
            lanes: false,
            write_ns: 0,
            stall_one_in: 0,
            disk: None,
            stop_after: None,
            kills: Vec::new(),
            exact: false,
        };
        let targets: BTreeSet<(u32, u16)> = (0xc612_0000u32
            ..0xc612_0000 + u32::try_from(hosts).expect("few"))
            .map(|address| (address, 80))
            .collect();
        let words = format!("198.18.0.0/{bits} -p 80 --seed 9");
        let case = Arc::new(Case {
            seed: 9,
            words: words.split(' ').map(str::to_owned).collect(),
            targets,
            excluded: Vec::new(),
            passes: 1,
            shards: 1,
            scenario: scenario.to_owned(),
            faults,
        });
        let plan = plan(&case.words).expect("a plan");
        let started = busy_s();
        let ran = sim::run(&case, &plan, &Part::default()).expect("every promise");
        let busy = busy_s() - started;
        judge(&case, &plan, &ran, &Part::default()).expect("every promise");
        assert_eq!(ran.summary.sent, hosts);
        println!(
            "{name}: {hosts} probes, {} frames received, {busy:.2} s of one processor: {:.0} probes a second",
            ran.summary.frames_seen,
            hosts as f64 / busy
        );
    }
}
