//! The estimate of loss against a world in which the truth is known.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::case::{Case, Faults};
use super::sim::{self, Part};
use super::{number, plan};

/// A scan of so many hosts in two passes through a way that loses this share of probes and of answers.
fn case(seed: u64, hosts: u32, (loss, reply_loss): (f64, f64)) -> Case {
    let words = format!("198.18.0.0/{} -p 80 --seed {seed} --passes 2", 32 - hosts.ilog2());
    let scenario = format!(
        "about = 'a line that loses'\nseed = {seed}\n[path]\nloss = {loss}\nreply_loss = {reply_loss}\n[[rule]]\nanswer = 'open'"
    );
    let faults = Faults {
        rate_milli: None,
        gap_ns: 0,
        wait_ns: 1_000_000_000,
        tx_threads: 1,
        refuse_one_in: 0,
        on_link: false,
        ring: 1 << 16,
        queue: 4096,
        lanes: true,
        write_ns: 0,
        stall_one_in: 0,
        disk: None,
        stop_after: None,
        kills: Vec::new(),
        exact: false,
    };
    let targets: BTreeSet<(u32, u16)> =
        (0xc612_0000..0xc612_0000 + hosts).map(|address| (address, 80)).collect();
    Case {
        seed,
        words: words.split(' ').map(str::to_owned).collect(),
        targets,
        excluded: Vec::new(),
        passes: 2,
        shards: 1,
        scenario,
        faults,
    }
}

/// Of fixed seeds, as many as the interval promises, and no wider than half as much again as theory has it; 1,000 of them
/// with `SWATH_WORLD_SEEDS=1000` or more.
#[test]
fn the_interval_covers_the_true_loss_as_often_as_it_says() {
    let seeds = number("SWATH_WORLD_SEEDS").unwrap_or(60).min(1000);
    let hosts = if seeds < 1000 { 256 } else { 1024 };
    for (loss, reply_loss) in [(0.0, 0.0), (0.01, 0.0), (0.05, 0.0), (0.1, 0.1), (0.2, 0.0)] {
        let truth = 1.0 - (1.0 - loss) * (1.0 - reply_loss);
        let (mut covered, mut widths) = (0, Vec::new());
        for seed in 0..seeds {
            let case = Arc::new(case(seed, hosts, (loss, reply_loss)));
            let plan = plan(&case.words).expect("a plan");
            let ran = sim::run(&case, &plan, &Part::default()).expect("every promise");
            let estimate = ran.summary.loss.expect("two passes");
            covered += u64::from(estimate.low <= truth && truth <= estimate.high);
            widths.push(estimate.high - estimate.low);
        }
        widths.sort_unstable_by(f64::total_cmp);
        let width = widths[widths.len() / 2];
        // Where nothing is lost theory's width is nothing, and what can be claimed of n targets is about 4 / n.
        let sample = f64::from(hosts) * (1.0 - truth);
        let theory = (2.0 * 1.96 * (truth * (1.0 - truth) / sample).sqrt()).max(3.0 / sample);
        println!(
            "true loss {truth:.3}: covered in {covered} of {seeds}, median width {width:.5}, {:.2} of theory's",
            width / theory
        );
        // Few seeds may fall short by chance, a thousand are what is promised.
        let least =
            if seeds < 1000 { 0.95 * seeds as f64 - 4.0 * (0.0475 * seeds as f64).sqrt() } else { 930.0 };
        assert!(least <= covered as f64, "true loss {truth}: covered in {covered} of {seeds}");
        assert!(width <= 1.5 * theory, "true loss {truth}: a median width of {width}, theory has {theory}");
    }
}
