//! The two loops allocate nothing per packet: after a moment to warm up, a hundred thousand probes and as many answers
//! come and go without one call of the allocator.

use std::alloc::System;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use swath::batch::{Batch, NextHops, Source};
use swath::checkpoint::{Progress, Shape};
use swath::cli::{self, Request, build};
use swath::closing::Closing;
use swath::cookie::{CookieKey, SourcePorts};
use swath::dedup::Dedup;
use swath::generate::Generator;
use swath::link::{Accepted, FrameSpan, LinkError, Received, RxQueue, Stall, TxQueue};
use swath::neighbour::Neighbours;
use swath::order::Walk;
use swath::pace::{Pace, Rate};
use swath::path::{Path, Paths};
use swath::plan::Plan;
use swath::probe::{self, Judge, PROBES};
use swath::queue::Queue;
use swath::restraint::Restraint;
use swath::rx::{Rx, RxParts};
use swath::stats::Stats;
use swath::tx::{Tx, TxParts};
use swath::wire;
use swath::wire::ethernet::Mac;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SOURCE: [u8; 4] = [192, 0, 2, 1];

fn plan() -> Plan {
    let words = "swath plan 198.18.0.0/16 -p 80,443 --seed 1".split(' ').map(Into::into);
    let Ok(Request::Plan(args)) = cli::parse(words) else { panic!("arguments") };
    build::plan(&args).expect("a plan")
}

fn secrets() -> (CookieKey, SourcePorts) {
    (CookieKey::new(*b"a key for tests!"), SourcePorts::new(16_384, 16_384).expect("a power of two"))
}

/// Takes everything, but refuses the end of every seventh batch.
struct Taking(u64);

impl TxQueue for Taking {
    fn submit(&mut self, batch: &Batch) -> Result<Accepted, LinkError> {
        self.0 += 1;
        let lanes = if self.0.is_multiple_of(7) { batch.lanes() & 0xffff } else { batch.lanes() };
        Ok(Accepted { lanes, stall: (lanes != batch.lanes()).then_some(Stall::Full) })
    }

    fn send(&mut self, _frame: &[u8]) -> Result<bool, LinkError> {
        Ok(true)
    }
}

/// The same frames at every poll.
struct Again {
    bytes: Vec<u8>,
    spans: Vec<FrameSpan>,
}

impl RxQueue for Again {
    fn poll(&mut self, _timeout: Duration) -> Result<Received<'_>, LinkError> {
        Ok(Received::new(&self.bytes, &self.spans))
    }

    fn drops(&mut self) -> Result<Option<u64>, LinkError> {
        Ok(Some(0))
    }
}

fn transmitter(plan: &Plan) -> Tx {
    let source = Source { address: SOURCE.into(), mac: Mac([2, 0, 0, 0, 0, 1]), vlan: None };
    let templates = probe::templates(&plan.probes, &[source], &plan.dress);
    let shape = Shape { threads: 1, waiting: 1 << 12, window_ns: 0, first_step: 0, reached: 0, run: 1 };
    let progress = Arc::new(Progress::in_memory(shape).expect("memory"));
    Tx::new(TxParts {
        queue: Box::new(Taking(0)),
        generator: Generator::new(plan.order(), Arc::clone(&plan.space), secrets(), &templates),
        walk: Arc::new(Walk::new(plan.shard.cursors(plan.space.len()), 1, 0)),
        pace: Arc::new(Pace::new(Rate::Max)),
        paths: Paths::single(Path::Hop(0)),
        neighbours: Neighbours::new(NextHops::new(1), 1),
        closing: Arc::new(Closing::new(1)),
        answers: Queue::new(16),
        questions: Queue::new(4),
        records: Queue::new(16),
        sources: vec![source],
        stop: Arc::new(AtomicBool::new(false)),
        pause: Arc::default(),
        restraint: Restraint::new(Arc::default(), None),
        stats: (Arc::new(Stats::new(1, 1, 0)), 0),
        log: progress.log(0),
        epoch_offset_ns: 0,
    })
}

fn receiver(plan: &Plan, records: &Queue<swath::event::Record>) -> Rx {
    let (key, ports) = secrets();
    let judge = Judge::new(key, ports, 1, vec![SOURCE.into()]);
    let (mut bytes, mut spans) = (Vec::new(), Vec::new());
    // Golden replies of many targets, good and bad, enough for several chunks of a poll.
    for number in 0..20 {
        let target = plan.space.select(number * 131);
        for sample in PROBES[0].samples(&target, &judge) {
            spans.push(FrameSpan { offset: bytes.len(), length: sample.frame.len(), time_ns: 1 });
            bytes.extend(sample.frame);
        }
    }
    Rx::new(RxParts {
        queue: Box::new(Again { bytes, spans }),
        reader: wire::Reader::Ethernet,
        probes: plan.probes.clone(),
        judge,
        space: Arc::clone(&plan.space),
        dedup: Dedup::new(plan.space.len(), 1 << 20),
        records: records.clone(),
        answers: Vec::new(),
        answers_for: Vec::new(),
        questions: Queue::new(4),
        answered: Arc::default(),
        closing: Arc::new(Closing::new(64)),
        stats: (Arc::new(Stats::new(0, 1, 0)), 0),
        epoch_offset_ns: 0,
    })
}

/// One test, because the allocator is everybody's.
#[test]
fn the_loops_allocate_nothing_per_packet() {
    let plan = plan();
    let mut tx = transmitter(&plan);
    let mut now_ns = 0;
    let mut send = |steps: usize| {
        for _ in 0..steps {
            now_ns += 100_000;
            tx.step(now_ns).expect("sent");
        }
    };
    send(50);
    let region = Region::new(ALLOCATOR);
    send(1_700);
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (0, 0), "the transmitter: {change:?}");

    let records = Queue::new(1 << 12);
    let mut rx = receiver(&plan, &records);
    let mut receive = |polls: u64| {
        for poll in 0..polls {
            rx.step(poll * 1_000_000, Duration::ZERO).expect("received");
            while records.pop().is_some() {}
        }
    };
    receive(5);
    let region = Region::new(ALLOCATOR);
    receive(300);
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (0, 0), "the receiver: {change:?}");
}
