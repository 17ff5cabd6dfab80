//! The rate law over as many frames as one likes, in virtual time: the real transmit loop against a link that refuses,
//! falls and is slow, in a process that is stopped and on a machine that is suspended.
//!
//! `SWATH_PACE_FRAMES=1000000000 cargo test --release --test pace -- --nocapture` sends so many.
#![allow(clippy::print_stdout, reason = "the size and the time are what the long run is for")]

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use swath::batch::{Batch, NextHops, Source};
use swath::checkpoint::{Progress, Shape};
use swath::cli::{self, Request, build};
use swath::closing::Closing;
use swath::cookie::{CookieKey, SourcePorts};
use swath::generate::Generator;
use swath::link::{Accepted, LinkError, Stall, TxQueue};
use swath::neighbour::Neighbours;
use swath::order::Walk;
use swath::pace::{Pace, Rate};
use swath::path::{Path, Paths};
use swath::plan::Plan;
use swath::probe;
use swath::queue::Queue;
use swath::restraint::Restraint;
use swath::stats::Stats;
use swath::tx::{Step, Tx, TxParts};
use swath::wire::ethernet::Mac;

/// What all threads' links have in common: one clock, and the law as an outsider checks it.
struct Wire {
    now_ns: AtomicU64,
    law: Mutex<Law>,
}

/// frames <= sigma + rho * t over every window, checked at each batch without remembering any frame.
struct Law {
    rate_pps: i128,
    sigma: i128,
    frames: i128,
    /// The least that was earned ahead of what was sent, before any frame: where the worst window begins.
    lowest: i128,
    lots: u64,
    refused: u64,
    fell: u64,
}

impl Law {
    fn draw(&mut self) -> u64 {
        self.lots = self.lots.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.lots >> 33
    }

    fn leave(&mut self, now_ns: u64, frames: u32) {
        let level = |frames: i128| frames * NS - i128::from(now_ns) * self.rate_pps;
        self.lowest = self.lowest.min(level(self.frames));
        self.frames += i128::from(frames);
        let excess = level(self.frames) - self.lowest;
        assert!(excess <= self.sigma * NS, "frame {} at {now_ns} ns: {excess} beyond the law", self.frames);
    }
}

struct Link(Arc<Wire>);

impl TxQueue for Link {
    fn submit(&mut self, batch: &Batch) -> Result<Accepted, LinkError> {
        let mut law = self.0.law.lock().expect("no panic");
        let (mut lanes, mut stall) = (batch.lanes(), None);
        match law.draw() % 64 {
            // ENOBUFS: some prefix, or any lanes at all.
            0 => (lanes, stall) = (lanes & ((1 << (law.draw() % 64)) - 1), Some(Stall::Full)),
            1 => (lanes, stall) = (lanes & (law.draw() | law.draw() << 31), Some(Stall::Full)),
            2 if law.draw().is_multiple_of(8) => {
                law.fell += 1;
                (lanes, stall) = (0, Some(Stall::Down));
            }
            _ => {}
        }
        law.refused += u64::from((batch.lanes() & !lanes).count_ones());
        law.leave(self.0.now_ns.load(Ordering::Relaxed), lanes.count_ones());
        Ok(Accepted { lanes, stall: stall.filter(|_| lanes != batch.lanes()) })
    }

    fn send(&mut self, _frame: &[u8]) -> Result<bool, LinkError> {
        Ok(true)
    }
}

fn plan(words: &str) -> Plan {
    let words = ["swath", "plan"].into_iter().chain(words.split(' ')).map(Into::into);
    let Ok(Request::Plan(args)) = cli::parse(words) else { panic!("arguments") };
    build::plan(&args).expect("a plan")
}

fn transmitter(
    plan: &Plan,
    (wire, walk, pace): (&Arc<Wire>, &Arc<Walk>, &Arc<Pace>),
    stats: &Arc<Stats>,
    thread: usize,
) -> Tx {
    let source =
        Source { address: Ipv4Addr::new(192, 0, 2, 1).into(), mac: Mac([2, 0, 0, 0, 0, 1]), vlan: None };
    let templates = probe::templates(&plan.probes, &[source], &plan.dress);
    let hops = NextHops::new(2);
    hops.assign(0, Mac([2, 0xff, 0, 0, 0, 1]));
    let shape = Shape { threads: 1, waiting: 1 << 13, window_ns: 0, first_step: 0, reached: 0, run: 1 };
    let key =
        (CookieKey::new(*b"a key for tests!"), SourcePorts::new(16_384, 16_384).expect("a power of two"));
    Tx::new(TxParts {
        queue: Box::new(Link(Arc::clone(wire))),
        generator: Generator::new(plan.order(), Arc::clone(&plan.space), key, &templates),
        walk: Arc::clone(walk),
        pace: Arc::clone(pace),
        paths: Paths::single(Path::Hop(0)),
        neighbours: Neighbours::new(hops, 1),
        closing: Arc::new(Closing::new(64)),
        answers: Queue::new(4),
        questions: Queue::new(4),
        records: Queue::new(8),
        sources: vec![source],
        stop: Arc::default(),
        pause: Arc::default(),
        stats: (Arc::clone(stats), thread),
        restraint: Restraint::new(Arc::default(), None),
        log: Arc::new(Progress::in_memory(shape).expect("memory")).log(0),
        epoch_offset_ns: 0,
    })
}

/// Two threads under one law, to the end of the plan. Returns how long it took in virtual time.
fn run(plan: &Plan, rate_pps: u64, seed: u64) -> (u64, Arc<Wire>) {
    let pace = Arc::new(Pace::new(Rate::MilliFrames(rate_pps * 1000)));
    let law = Law {
        rate_pps: rate_pps.into(),
        sigma: pace.sigma().into(),
        frames: 0,
        lowest: i128::MAX,
        lots: seed,
        refused: 0,
        fell: 0,
    };
    let wire = Arc::new(Wire { now_ns: AtomicU64::new(0), law: Mutex::new(law) });
    let walk = Arc::new(Walk::new(plan.shard.cursors(plan.space.len()), plan.passes, 0));
    let stats = Arc::new(Stats::new(2, 1, 1));
    let mut threads =
        [0, 1].map(|thread| (transmitter(plan, (&wire, &walk, &pace), &stats, thread), 0, false));
    while threads.iter().any(|(.., done)| !done) {
        let lot = wire.law.lock().expect("no panic").draw();
        let mut now_ns = wire.now_ns.load(Ordering::Relaxed);
        match lot % 20_000 {
            // Nobody runs: SIGSTOP for up to two seconds, or a clock that jumps an hour (a suspended machine whose
            // monotonic clock went on).
            0..10 => now_ns += lot % 2_000_000_000,
            10 => now_ns += 3_600_000_000_000,
            _ => {}
        }
        let (tx, until_ns, done) = &mut threads[usize::from(lot & 0x1000 != 0)];
        if *done || now_ns < *until_ns {
            let earliest = threads.iter().filter(|(.., done)| !done).map(|(_, until_ns, _)| *until_ns).min();
            now_ns = now_ns.max(earliest.unwrap_or(now_ns).min(now_ns + 1 + lot % 100_000));
            wire.now_ns.store(now_ns, Ordering::Relaxed);
            continue;
        }
        wire.now_ns.store(now_ns, Ordering::Relaxed);
        match tx.step(now_ns).expect("no fatal error") {
            Step::Wait(wait_ns) => *until_ns = wait_ns,
            Step::Done => *done = true,
            _ => *until_ns = now_ns,
        }
        wire.now_ns.store(now_ns + lot % 500, Ordering::Relaxed);
    }
    assert_eq!(stats.tx_total(|tx| &tx.sent), plan.space.len(), "everything left, once");
    (wire.now_ns.load(Ordering::Relaxed), wire)
}

#[test]
fn the_law_holds_over_every_window_through_stops_suspensions_full_queues_and_flaps() {
    let wanted: u64 =
        std::env::var("SWATH_PACE_FRAMES").ok().map_or(SLICE, |text| text.parse().expect("a number"));
    let ports = (wanted / 2 / (1 << 17)).clamp(1, 65_535);
    let plan = plan(&format!("198.18.0.0/15 -p 1-{ports} --seed 3"));
    for (rate_pps, seed) in [(25_000_000, 5), (150_000, 6)] {
        let started = std::time::Instant::now();
        let (lasted_ns, wire) = run(&plan, rate_pps, seed);
        let law = wire.law.lock().expect("no panic");
        assert!(0 < law.refused && 0 < law.fell);
        assert_eq!(law.frames, i128::from(plan.space.len()));
        println!(
            "{} frames at {rate_pps} a second in {:.0} s of virtual time, {} lanes refused, {} falls: the law held; {:.1} s",
            law.frames,
            lasted_ns as f64 / 1e9,
            law.refused,
            law.fell,
            started.elapsed().as_secs_f64()
        );
    }
}

const NS: i128 = 1_000_000_000;
/// What every run of the tests sends.
const SLICE: u64 = 2_000_000;
