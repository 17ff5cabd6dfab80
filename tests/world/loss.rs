//! The estimate of loss against a world in which the truth is known.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::case::{Case, Faults};
use super::sim::{self, Part};
use super::{number, plan};

/// A scan of `198.18.0.0/24` in two passes through a way that loses this share of probes and of answers.
fn case(seed: u64, (loss, reply_loss): (f64, f64)) -> Case {
    let words = format!("198.18.0.0/24 -p 80 --seed {seed} --passes 2");
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
    let targets: BTreeSet<(u32, u16)> = (0xc612_0000..0xc612_0100).map(|address| (address, 80)).collect();
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

/// Of fixed seeds, as many as the interval promises; all thousand of them with `SWATH_WORLD_SEEDS=1000` or more.
#[test]
fn the_interval_covers_the_true_loss_as_often_as_it_says() {
    let seeds = number("SWATH_WORLD_SEEDS").unwrap_or(100).min(1000);
    for (loss, reply_loss) in [(0.05, 0.0), (0.1, 0.1)] {
        let truth = 1.0 - (1.0 - loss) * (1.0 - reply_loss);
        let mut covered = 0;
        for seed in 0..seeds {
            let case = Arc::new(case(seed, (loss, reply_loss)));
            let plan = plan(&case.words).expect("a plan");
            let ran = sim::run(&case, &plan, &Part::default()).expect("every promise");
            let estimate = ran.summary.loss.expect("two passes");
            covered += u64::from(estimate.low <= truth && truth <= estimate.high);
        }
        println!("true loss {truth:.3}: covered in {covered} of {seeds}");
        assert!(seeds * 93 <= covered * 100, "true loss {truth}: covered in {covered} of {seeds}");
    }
}
