//! One scan in virtual time: the real loops, called by one thread in an order that the seed chooses, between a world and
//! sinks of memory. Every frame in either direction passes the oracles.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use swath::batch::{Batch, NextHops, Source};
use swath::checkpoint::{Progress, Shape, State};
use swath::closing::Closing;
use swath::cookie::{CookieKey, SourcePorts};
use swath::dedup::Dedup;
use swath::event::{Manifest, Record, Summary};
use swath::generate::Generator;
use swath::link::world::{Air, link};
use swath::link::{Accepted, Filter, Link, LinkError, LinkSpec, Queues, Receive, Stall, TxQueue};
use swath::neighbour::Neighbours;
use swath::order::Walk;
use swath::pace::{Governor, Pace, Rate};
use swath::path::{Path, Paths};
use swath::plan::Plan;
use swath::probe::{self, Judge};
use swath::queue::Queue;
use swath::restraint::Restraint;
use swath::rx::{Rx, RxParts};
use swath::sink::{Sink, SinkError, SinkErrorKind};
use swath::stats::Stats;
use swath::tx::{Step, Tx, TxParts};
use swath::wire;
use swath::wire::ethernet::Mac;
use swath::world::{Origin, Scenario, World};
use swath::writer::{self, Distributor, Outlet, Show, Writer, WriterEvent};

use super::case::{Case, Lots};
use super::oracle::{FIRST_PORT, Law, Oracle, Trace};

pub(crate) const SOURCE: [u8; 4] = [192, 0, 2, 1];
const SOURCE_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const GATEWAY_MAC: Mac = Mac([2, 0xff, 0, 0, 0, 1]);

/// What one run came to.
pub(crate) struct Ran {
    pub(crate) oracle: Oracle,
    /// What the sink that never fails was given, and what the other kept.
    pub(crate) records: Vec<Record>,
    pub(crate) summary: Summary,
    /// Where the order goes on, if it was stopped.
    pub(crate) resume: Option<u64>,
    pub(crate) ring_drops: u64,
    pub(crate) out_of_plan: u64,
    /// Virtual time it took.
    pub(crate) end_ns: u64,
    /// How it died, if it did.
    pub(crate) death: Option<Death>,
}

/// What a process that died left behind.
pub(crate) struct Death {
    pub(crate) state: State,
    /// Answers nobody heard: which target, and how long after its probe each arrived, in nanoseconds.
    pub(crate) unheard: Vec<((u32, u16), u64)>,
}

// --- The air --------------------------------------------------------------------------------------------------------

/// What lies between the scanner's queues and the world: a receive ring of limited size, and the oracles.
struct Sky {
    now_ns: u64,
    world: World,
    ring: VecDeque<Landed>,
    spare: Vec<Vec<u8>>,
    room: usize,
    drops: u64,
    oracle: Oracle,
    case: Arc<Case>,
    law: Law,
    /// The first law that was broken.
    broken: Option<String>,
    /// When the writer's queue was first seen above its mark, if it still is.
    behind_since_ns: Option<u64>,
    /// Frames after which the process dies.
    kill_after: Option<u64>,
    progress: Option<Arc<Progress>>,
    /// What the checkpoint said when it died.
    dead: Option<Box<State>>,
}

struct Landed {
    time_ns: u64,
    frame: Vec<u8>,
    damaged: Option<(u32, u16)>,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Sky>>);

impl Shared {
    fn with<T>(&self, look: impl FnOnce(&mut Sky) -> T) -> T {
        look(&mut self.0.lock().expect("one thread"))
    }
}

impl Air for Shared {
    fn send(&self, frame: &[u8]) {
        self.with(|sky| {
            let now_ns = sky.now_ns;
            let frames = sky.oracle.frames + sky.oracle.questions;
            if sky.kill_after.is_some_and(|frames_before| frames_before <= frames) {
                if let (None, Some(progress)) = (&sky.dead, &sky.progress) {
                    sky.dead = Some(Box::new(progress.state()));
                }
                // Nothing leaves a dead process.
                return;
            }
            if let Err(error) = sky.oracle.leaves(now_ns, frame, &sky.case, &sky.law) {
                sky.broken.get_or_insert(error);
            }
            if sky.behind_since_ns.is_some_and(|since_ns| since_ns + PAUSE_WITHIN_NS < now_ns) {
                sky.broken.get_or_insert(format!(
                    "a frame left at {now_ns} ns, 50 ms after the writer fell behind"
                ));
            }
            sky.world.send(now_ns, frame);
        });
    }

    fn receive(&self, _timeout: Duration, take: &mut dyn FnMut(u64, &[u8])) {
        self.with(|sky| {
            for _ in 0..sky.ring.len().min(BLOCK) {
                let Some(Landed { time_ns, frame, damaged }) = sky.ring.pop_front() else { break };
                sky.oracle.arrives(time_ns, &frame, damaged);
                take(EPOCH_NS + time_ns, &frame);
                sky.spare.push(frame);
            }
        });
    }

    fn drops(&self) -> u64 {
        self.with(|sky| sky.drops)
    }
}

impl Sky {
    /// Lets everything that has arrived by now land in the ring, or on the floor.
    fn land(&mut self) {
        let Sky { now_ns, world, ring, spare, room, drops, .. } = self;
        while world.arrive(*now_ns, |arrival| {
            if *room <= ring.len() {
                *drops += 1;
                return;
            }
            let mut frame = spare.pop().unwrap_or_default();
            frame.clear();
            frame.extend_from_slice(arrival.frame);
            let damaged = (arrival.origin == Origin::Damaged).then_some(match arrival.about.address {
                std::net::IpAddr::V4(address) => (u32::from(address), arrival.about.port.number),
                std::net::IpAddr::V6(_) => (0, 0),
            });
            ring.push_back(Landed { time_ns: arrival.time_ns, frame, damaged });
        }) {}
    }
}

/// A queue that refuses now and then, as the seed says.
struct Moody {
    inner: Box<dyn TxQueue>,
    lots: Lots,
    one_in: u64,
}

impl Moody {
    fn is_willing(&mut self) -> bool {
        self.one_in == 0 || !self.lots.once_in(self.one_in)
    }
}

impl TxQueue for Moody {
    fn submit(&mut self, batch: &Batch) -> Result<Accepted, LinkError> {
        if self.is_willing() {
            return self.inner.submit(batch);
        }
        let (wanted, stall) = match self.lots.below(3) {
            0 => ((1u64 << self.lots.below(64)) - 1, Stall::Full),
            1 => (self.lots.bits(), Stall::Full),
            _ => (0, Stall::Down),
        };
        let lanes = batch.lanes() & wanted;
        let mut part = batch.clone();
        let mut kept = 0;
        for lane in (0..batch.len()).filter(|lane| lanes & 1 << lane != 0) {
            part.copy_lane(lane, kept);
            kept += 1;
        }
        part.resize(kept);
        if 0 < kept {
            self.inner.submit(&part)?;
        }
        Ok(Accepted { lanes, stall: (lanes != batch.lanes()).then_some(stall) })
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, LinkError> {
        if self.is_willing() { self.inner.send(frame) } else { Ok(false) }
    }

    fn replace_gate(&mut self, gate: &Arc<swath::gate::Gate>) {
        self.inner.replace_gate(gate);
    }
}

// --- The sinks ------------------------------------------------------------------------------------------------------

/// A sink that keeps what survives a crash, and whose disk may be full after so many records.
struct Shelf {
    kept: Arc<Mutex<Vec<Record>>>,
    buffer: Vec<Record>,
    room: Option<u64>,
}

impl Shelf {
    fn flush(&mut self) -> Result<(), SinkError> {
        let mut kept = self.kept.lock().expect("one thread");
        let room = self.room.map_or(usize::MAX, |room| room as usize - kept.len());
        let through = self.buffer.len().min(room);
        kept.extend(self.buffer.drain(..through));
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.buffer.clear();
        let (cause, kind) = ("no space left on device".to_owned(), SinkErrorKind::Failed);
        Err(SinkError { operation: "write to", object: "shelf".to_owned(), cause, kind })
    }
}

impl Sink for Shelf {
    fn begin(&mut self, _manifest: &Manifest) -> Result<(), SinkError> {
        Ok(())
    }

    fn write(&mut self, records: &[Record]) -> Result<(), SinkError> {
        for record in records {
            self.buffer.push(*record);
            if BUFFER <= self.buffer.len() {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<u64, SinkError> {
        self.flush()?;
        Ok(self.safe())
    }

    fn safe(&self) -> u64 {
        self.kept.lock().expect("one thread").len() as u64
    }

    fn finish(mut self: Box<Self>, _manifest: &Manifest) -> Result<(), SinkError> {
        self.flush()
    }
}

// --- The run --------------------------------------------------------------------------------------------------------

/// Everything that takes steps.
struct Actors {
    tx: Vec<Tx>,
    rx: Rx,
    /// What hands the records to the writers, where each sink has its own.
    distributor: Option<Distributor>,
    writers: Vec<Writer>,
    /// When each may step again: transmitters, receiver, distributor, writers, in this order.
    ready_ns: Vec<u64>,
    done: Vec<bool>,
}

impl Actors {
    /// Who carries records from the queue to the sinks: the distributor, if there is one, and the writers.
    fn carriers(&self) -> usize {
        usize::from(self.distributor.is_some()) + self.writers.len()
    }

    /// A step of one of them.
    fn deliver(&mut self, which: usize, now_ns: u64) -> writer::Step {
        let writer = match (&mut self.distributor, which) {
            (Some(distributor), 0) => return distributor.step(),
            (Some(_), which) => &mut self.writers[which - 1],
            (None, which) => &mut self.writers[which],
        };
        let step = writer.step(now_ns);
        while writer.take_error().is_some() {}
        step
    }
}

struct Bench {
    sky: Shared,
    actors: Actors,
    stats: Arc<Stats>,
    walk: Arc<Walk>,
    pace: Arc<Pace>,
    records: Queue<Record>,
    stop: Arc<AtomicBool>,
    kept: [Arc<Mutex<Vec<Record>>>; 2],
    governor: Option<Governor>,
    lots: Lots,
    trace: Trace,
    steps: u64,
    tx_ended_ns: Option<u64>,
    progress: Arc<Progress>,
}

/// A part of a scan: from where the part before was stopped or killed to the end, or to where this one is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Part {
    /// Which run of which shard this is.
    pub(crate) number: u64,
    /// Steps that the run before left behind.
    pub(crate) waiting: Vec<u64>,
    /// How far any run before had come.
    pub(crate) reached: u64,
    /// Turns after which the user stops it.
    pub(crate) stop_after: Option<u64>,
    /// Frames after which the process dies, before the next one leaves.
    pub(crate) kill_after: Option<u64>,
}

/// Scans a part of one shard.
pub(crate) fn run(case: &Arc<Case>, plan: &Plan, part: &Part) -> Result<Ran, String> {
    let mut bench = bench(case, plan, part)?;
    let faults = &case.faults;
    let stop_after = part.stop_after;
    let mut stopped = false;
    loop {
        if let Some(error) = bench.sky.with(|sky| sky.broken.take()) {
            return Err(error);
        }
        if let Some(state) = bench.sky.with(|sky| sky.dead.take()) {
            return Ok(bench.die(*state));
        }
        if stop_after.is_some_and(|steps| steps <= bench.steps) && !stopped {
            bench.stop.store(true, Ordering::Relaxed);
            stopped = true;
        }
        if bench.actors.tx.len() == bench.actors.done.iter().filter(|done| **done).count() {
            let now_ns = bench.sky.with(|sky| sky.now_ns);
            let ended_ns = *bench.tx_ended_ns.get_or_insert(now_ns);
            if ended_ns + faults.wait_ns <= now_ns {
                break;
            }
        }
        bench.turn(faults)?;
        let (now_ns, durable_ns) = (bench.sky.with(|sky| sky.now_ns), bench.stats.durable_ns());
        bench.progress.alive(now_ns, durable_ns);
        if MOST_STEPS < bench.steps {
            return Err(format!("no end after {MOST_STEPS} steps: {:?}", bench.stats.tx));
        }
    }
    bench.close()
}

#[allow(clippy::too_many_lines, reason = "the parts of a scan, each written out once")]
fn bench(case: &Arc<Case>, plan: &Plan, part: &Part) -> Result<Bench, String> {
    let faults = &case.faults;
    let mut lots = Lots::new(case.seed ^ part.number << 32 ^ 0x77);
    let rate = faults.rate_milli.map_or(Rate::Max, Rate::MilliFrames);
    let pace = Arc::new(Pace::new(rate));
    // Those refused or parked leave later than they were handed out, the next pass begins after the handing out.
    let strict = faults.refuse_one_in == 0 && !faults.on_link && faults.tx_threads == 1;
    let law = Law {
        rate_milli: faults.rate_milli,
        sigma: faults.rate_milli.map_or(u64::MAX, |milli| (milli / 100_000).max(1)),
        gap_ns: if strict { faults.gap_ns } else { 0 },
    };
    let scenario: Scenario = case.scenario.parse().map_err(|error| format!("{error}"))?;
    let sky = Shared(Arc::new(Mutex::new(Sky {
        now_ns: 0,
        world: World::new(Arc::new(scenario)),
        ring: VecDeque::new(),
        spare: Vec::new(),
        room: faults.ring,
        drops: 0,
        oracle: Oracle::default(),
        case: Arc::clone(case),
        law,
        broken: None,
        behind_since_ns: None,
        kill_after: part.kill_after,
        progress: None,
        dead: None,
    })));
    let source = Source { address: SOURCE.into(), mac: SOURCE_MAC, vlan: None };
    let templates = probe::templates(&plan.probes, &[source], &plan.dress);
    let hops = NextHops::new(if faults.on_link {
        lots.within(1 + faults.tx_threads as u64, 2000) as u16
    } else {
        1
    });
    hops.assign(0, GATEWAY_MAC);
    let ports = SourcePorts::new(FIRST_PORT, 16_384)?;
    let spec = LinkSpec {
        argument: None,
        interface: None,
        templates: templates.iter().map(|assigned| assigned.template.clone()).collect(),
        hops: hops.clone(),
        gate: Arc::new(plan.gate()),
        filter: Filter {
            addresses: vec![source.address],
            port_first: ports.first(),
            port_last: ports.last(),
            any_protocol: false,
        },
        queues: Queues::ONE,
        receive: Receive::Packet,
        attach: true,
    };
    let mut key = [0; 16];
    key[..8].copy_from_slice(&lots.bits().to_le_bytes());
    let key = CookieKey::new(key);
    let stats = Arc::new(Stats::new(faults.tx_threads, 1, 2));
    let records = Queue::new(faults.queue);
    let stop = Arc::new(AtomicBool::new(false));
    let walk = Walk::new(plan.shard.cursors(plan.space.len()), plan.passes, faults.gap_ns);
    let walk = Arc::new(walk.from_step(plan.first_step).carrying(part.waiting.len() as u64));
    let steps = plan.shard_targets() * u64::from(plan.passes);
    let shape = Shape {
        threads: faults.tx_threads,
        waiting: steps.min(70_000) as usize,
        window_ns: faults.wait_ns,
        first_step: plan.first_step,
        reached: part.reached,
        run: 1 + part.number,
    };
    let progress = Arc::new(Progress::in_memory(shape).map_err(|error| error.to_string())?);
    // What a new checkpoint holds of the run before.
    let first = progress.log(0);
    part.waiting.iter().for_each(|&step| first.wait(step));
    let paths = if faults.on_link { Path::OnLink } else { Path::Hop(0) };
    let closing = Arc::new(Closing::new(64));
    let mut rx_queue = None;
    let (mut tx, mut answers) = (Vec::new(), Vec::new());
    for thread in 0..faults.tx_threads {
        let Link { tx: mut queues, rx, .. } = link(&spec, Arc::new(sky.clone()), String::new());
        rx_queue = rx_queue.or(rx.into_iter().next());
        let inner = queues.pop().ok_or("a link has a queue")?;
        let heard = Queue::new(1 << 12);
        answers.push(heard.clone());
        tx.push(Tx::new(TxParts {
            queue: Box::new(Moody { inner, lots: Lots::new(lots.bits()), one_in: faults.refuse_one_in }),
            generator: Generator::new(plan.order(), Arc::clone(&plan.space), (key, ports), &templates),
            walk: Arc::clone(&walk),
            pace: Arc::clone(&pace),
            paths: Paths::single(paths),
            neighbours: Neighbours::part(hops.clone(), 1, (thread, faults.tx_threads)),
            closing: Arc::clone(&closing),
            answers: heard,
            questions: Queue::new(4),
            records: records.clone(),
            sources: vec![source],
            stop: Arc::clone(&stop),
            pause: Arc::default(),
            restraint: Restraint::new(Arc::default(), None),
            stats: (Arc::clone(&stats), thread),
            log: progress.log(thread),
            epoch_offset_ns: EPOCH_NS,
        }));
    }
    let rx = Rx::new(RxParts {
        queue: rx_queue.ok_or("a link has a queue")?,
        reader: wire::Reader::Ethernet,
        probes: plan.probes.clone(),
        judge: Judge::new(key, ports, plan.passes, vec![source.address]),
        space: Arc::clone(&plan.space),
        dedup: Dedup::new(plan.space.len(), 1 << 20),
        records: records.clone(),
        answers,
        answers_for: Vec::new(),
        questions: Queue::new(4),
        answered: Arc::default(),
        closing,
        stats: (Arc::clone(&stats), 0),
        epoch_offset_ns: EPOCH_NS,
    });
    let kept = [(); 2].map(|()| Arc::new(Mutex::new(Vec::new())));
    let outlet = |name: &str, kept: &Arc<Mutex<Vec<Record>>>, room| Outlet {
        name: name.to_owned(),
        sink: Box::new(Shelf { kept: Arc::clone(kept), buffer: Vec::new(), room }),
        show: Show::ALL,
        select: None,
        stdout: false,
    };
    let outlets = vec![outlet("good", &kept[0], None), outlet("full", &kept[1], faults.disk)];
    let (distributor, writers) = if faults.lanes {
        let (distributor, writers) = writer::split(records.clone(), &stats, outlets);
        (Some(distributor), writers)
    } else {
        (None, vec![Writer::new(records.clone(), Arc::clone(&stats), outlets)])
    };
    let ready_ns = vec![0; tx.len() + 1 + usize::from(distributor.is_some()) + writers.len()];
    let mut actors = Actors { rx, distributor, writers, ready_ns, done: vec![false; tx.len()], tx };
    let governor = faults.rate_milli.is_none().then(Governor::new);
    actors.tx[0].carry(&part.waiting);
    sky.with(|sky| sky.progress = Some(Arc::clone(&progress)));
    Ok(Bench {
        sky,
        progress,
        actors,
        stats,
        walk,
        pace,
        records,
        stop,
        kept,
        governor,
        lots,
        trace: Trace::default(),
        steps: 0,
        tx_ended_ns: None,
    })
}

impl Bench {
    /// Somebody who is ready takes a step, or time passes until somebody is.
    fn turn(&mut self, faults: &super::case::Faults) -> Result<(), String> {
        let full = self.records.above_high_water();
        let (now_ns, waiting, next_ns) = self.sky.with(|sky| {
            sky.land();
            sky.behind_since_ns = if full { sky.behind_since_ns.or(Some(sky.now_ns)) } else { None };
            (sky.now_ns, !sky.ring.is_empty(), sky.world.next_ns())
        });
        if let Some(governor) = &mut self.governor {
            let sent = self.stats.tx_total(|tx| &tx.sent);
            governor.observe(now_ns, sent, self.stats.rx_total(|rx| &rx.kernel_drops), &self.pace);
        }
        let transmitters = self.actors.tx.len();
        // The receiver sleeps in its poll until something lands, or its timeout.
        let rx_ready = self.actors.ready_ns[transmitters];
        let woken = if waiting { rx_ready.min(now_ns) } else { rx_ready };
        let when = |actor: usize| match actor {
            actor if actor < transmitters && self.actors.done[actor] => u64::MAX,
            actor if actor == transmitters => woken,
            actor => self.actors.ready_ns[actor],
        };
        let ready: Vec<usize> =
            (0..self.actors.ready_ns.len()).filter(|&actor| when(actor) <= now_ns).collect();
        if ready.is_empty() {
            let soonest = (0..self.actors.ready_ns.len()).map(when).min().unwrap_or(u64::MAX);
            let soonest = soonest.min(next_ns.unwrap_or(u64::MAX)).min(now_ns + 50_000_000);
            self.sky.with(|sky| sky.now_ns = soonest.max(now_ns + 1));
            return Ok(());
        }
        let actor = ready[self.lots.below(ready.len() as u64) as usize];
        self.steps += 1;
        let (cost_ns, ready_ns) = self.step(actor, now_ns, faults)?;
        self.trace.add(now_ns);
        self.trace.add(actor as u64);
        self.actors.ready_ns[actor] = ready_ns;
        let mut passed_ns = cost_ns + self.lots.below(2_000);
        if 0 < faults.stall_one_in && self.lots.once_in(faults.stall_one_in) {
            if self.lots.once_in(2) {
                // Everybody stands still: SIGSTOP, a suspended machine.
                passed_ns += self.lots.of(&[1_000_000, 100_000_000, 30_000_000_000]);
            } else {
                self.actors.ready_ns[transmitters + 1] = now_ns + 1_000_000_000;
            }
        }
        self.sky.with(|sky| sky.now_ns += passed_ns);
        Ok(())
    }

    /// A step of one actor: the time it took, and when it wants the next.
    fn step(
        &mut self,
        actor: usize,
        now_ns: u64,
        faults: &super::case::Faults,
    ) -> Result<(u64, u64), String> {
        let transmitters = self.actors.tx.len();
        if actor < transmitters {
            let step = self.actors.tx[actor].step(now_ns).map_err(|error| error.to_string())?;
            self.balance()?;
            return Ok(match step {
                Step::Again => (500, now_ns),
                Step::Wait(until_ns) if until_ns <= now_ns => {
                    return Err(format!(
                        "a transmitter waits at {now_ns} for {until_ns}: time would not pass"
                    ));
                }
                Step::Wait(until_ns) => (100, until_ns.min(now_ns + NAP_NS)),
                Step::Done => {
                    self.actors.done[actor] = true;
                    (100, u64::MAX)
                }
            });
        }
        if actor == transmitters {
            let go_on = self.actors.rx.step(now_ns, Duration::ZERO).map_err(|error| error.to_string())?;
            self.balance()?;
            let left = self.sky.with(|sky| !sky.ring.is_empty());
            return Ok((
                500,
                if !go_on {
                    now_ns + 1_000_000
                } else if left {
                    now_ns
                } else {
                    now_ns + POLL_NS
                },
            ));
        }
        let step = self.actors.deliver(actor - transmitters - 1, now_ns);
        if step.event == Some(WriterEvent::NoSinkLeft) && !faults.lanes {
            return Err("both sinks failed, and one of them cannot".into());
        }
        let cost_ns = step.taken as u64 * faults.write_ns;
        let next_ns = if step.taken == 0 { now_ns + 1_000_000 } else { now_ns + cost_ns };
        Ok((100, next_ns))
    }

    /// The process is gone: what the sinks had made safe is left, and what the checkpoint says. Answers under way arrive
    /// where nobody listens.
    fn die(self, state: State) -> Ran {
        let records = std::mem::take(&mut *self.kept[0].lock().expect("one thread"));
        let Bench { sky, trace, .. } = &self;
        let (mut oracle, ring_drops, end_ns, unheard) = sky.with(|sky| {
            let (mut oracle, now_ns) = (std::mem::take(&mut sky.oracle), sky.now_ns);
            let mut unheard = Oracle::default();
            std::mem::swap(&mut unheard.sent, &mut oracle.sent);
            let in_ring = sky.ring.drain(..).filter(|landed| landed.damaged.is_none());
            in_ring.for_each(|Landed { time_ns, frame, .. }| unheard.arrives(time_ns, &frame, None));
            while sky.world.arrive(u64::MAX, |arrival| {
                if arrival.origin != Origin::Damaged {
                    unheard.arrives(arrival.time_ns, arrival.frame, None);
                }
            }) {}
            std::mem::swap(&mut unheard.sent, &mut oracle.sent);
            (oracle, sky.drops, now_ns, unheard)
        });
        oracle.trace.add(trace.0);
        let death = Some(Death { state, unheard: unheard.answers });
        // Those that were given up stay so, unless the next run goes back behind them.
        let failed = self.stats.tx_total(|tx| &tx.unresolved) + self.stats.tx_total(|tx| &tx.own_address);
        let summary = Summary { failed, ..Summary::default() };
        let (resume, out_of_plan) = (None, 0);
        Ran { oracle, records, summary, resume, ring_drops, out_of_plan, end_ns, death }
    }

    /// The ledger balances after every step, and what was counted is what the oracle saw.
    fn balance(&self) -> Result<(), String> {
        let total =
            |counter: fn(&swath::stats::TxCounters) -> &swath::stats::Counter| self.stats.tx_total(counter);
        let settled = total(|tx| &tx.sent)
            + total(|tx| &tx.excluded_later)
            + total(|tx| &tx.pending)
            + total(|tx| &tx.unresolved)
            + total(|tx| &tx.own_address);
        let unsent = self.walk.planned() - self.walk.taken();
        if settled + unsent != self.walk.planned() {
            return Err(format!("the ledger of the transmitters does not balance: {:?}", self.stats.tx));
        }
        let (frames, questions, delivered) =
            self.sky.with(|sky| (sky.oracle.frames, sky.oracle.questions, sky.oracle.delivered));
        // A frame that broke a law is not counted; that it broke one is told first.
        if self.sky.with(|sky| sky.dead.is_some() || sky.broken.is_some()) {
            return Ok(());
        }
        if total(|tx| &tx.sent) != frames || total(|tx| &tx.housekeeping) != questions {
            return Err(format!("{frames} probes and {questions} questions left: {:?}", self.stats.tx));
        }
        if self.stats.rx_total(|rx| &rx.frames) != delivered {
            return Err(format!("{delivered} frames were delivered: {:?}", self.stats.rx));
        }
        Ok(())
    }

    /// The end: the receiver takes what is left, the writer everything, and the account is closed.
    fn close(mut self) -> Result<Ran, String> {
        let mut now_ns = self.sky.with(|sky| sky.now_ns);
        loop {
            self.steps += 1;
            now_ns += 1_000_000;
            self.sky.with(|sky| sky.now_ns = now_ns);
            let flushed = self.actors.rx.step(now_ns, Duration::ZERO).map_err(|error| error.to_string())?;
            if flushed && self.sky.with(|sky| sky.ring.is_empty()) {
                break;
            }
            for which in 0..self.actors.carriers() {
                self.actors.deliver(which, now_ns);
            }
        }
        self.actors.rx.finish().map_err(|error| error.to_string())?;
        self.records.close();
        for which in 0..self.actors.carriers() {
            while !self.actors.deliver(which, now_ns).done {
                now_ns += 1_000_000;
            }
        }
        let resume = self.actors.tx.iter().map(Tx::resume_step).min();
        let mut summary = swath::scan::summary(&self.stats, &self.walk, now_ns);
        let left = summary.pending + summary.unsent;
        self.actors.writers.iter_mut().for_each(Writer::drain);
        summary.sinks = self.actors.writers.iter().flat_map(Writer::summaries).collect();
        if let Some(error) = summary.imbalance() {
            return Err(format!("the closing ledger does not balance: {error}"));
        }
        for (sink, kept) in summary.sinks.iter().zip(&self.kept) {
            let kept = kept.lock().expect("one thread").len() as u64;
            if sink.written != kept {
                return Err(format!("sink {} says {} records are safe; {kept} are", sink.name, sink.written));
            }
        }
        let out_of_plan = &self.stats.rx[0].invalid[swath::event::Invalid::OutOfPlan as usize];
        let out_of_plan = out_of_plan.value();
        let records = std::mem::take(&mut *self.kept[0].lock().expect("one thread"));
        let Bench { sky, trace, .. } = self;
        drop(self.actors);
        let (mut oracle, ring_drops) = sky.with(|sky| (std::mem::take(&mut sky.oracle), sky.drops));
        oracle.trace.add(trace.0);
        let resume = resume.filter(|_| 0 < left);
        Ok(Ran { oracle, records, summary, resume, ring_drops, out_of_plan, end_ns: now_ns, death: None })
    }
}

/// When virtual time begins, in nanoseconds since the Unix epoch: 2001-09-09.
const EPOCH_NS: u64 = 1_000_000_000_000_000_000;
/// Frames of one poll.
const BLOCK: usize = 512;
const BUFFER: usize = 10;
const NAP_NS: u64 = 20_000_000;
const POLL_NS: u64 = 50_000_000;
const PAUSE_WITHIN_NS: u64 = 50_000_000;
const MOST_STEPS: u64 = 20_000_000;
