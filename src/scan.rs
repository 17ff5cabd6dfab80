//! Wiring: opens the link, starts the threads, watches them, waits for late replies, and closes the account.
//!
//! Invariant: decides nothing about a packet. Every decision is in `tx`, `rx` and `writer`, whose steps are called
//! here with the time.

pub mod events;
mod gateway;
mod losses;
mod manifest;
mod persist;
mod signals;
mod status;
mod takeover;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use rand::TryRng;

use crate::batch::{Assigned, Family, Template};
use crate::checkpoint::{CheckpointError, Progress};
use crate::closing::{Closing, Who};
use crate::cookie::CookieKey;
use crate::dedup::{self, Dedup};
use crate::event::{Course, Manifest, NetworkEvent, Record, Status, Summary};
use crate::generate::{self, Generator};
use crate::heavy::Heavy;
use crate::link::{self, Filter, Framing, Link, LinkError, LinkSpec};
use crate::neighbour::Neighbours;
use crate::order::Walk;
use crate::pace::{Governor, Pace, Rate};
use crate::plan::{Plan, Setup};
use crate::probe::{self, Judge};
use crate::queue::Queue;
use crate::restraint::{Excludes, PrefixCap, Restraint};
use crate::rx::{Rx, RxParts};
use crate::sink::SinkError;
use crate::stats::{PortCounts, Stats, TxCounters};
use crate::sys::nftables::SynAcks;
use crate::sys::{affinity, clock, rtnetlink};
use crate::target::Protocol;
use crate::tx::{Step, Tx, TxParts};
use crate::wire::arp::{Announcement, Asked};
use crate::wire::{Reader, nd};
use crate::writer::{self, Distributor, Outlet, Writer, WriterEvent};

use losses::Losses;
pub use manifest::{ledger, summary};
use persist::Later;
pub use persist::{Persist, Reread};

/// How a scan ended.
pub struct Ended {
    /// The closing account.
    pub summary: Summary,
    /// Open ports found.
    pub open: u64,
    /// How long probes were sent, in seconds.
    pub sending_s: f64,
    /// The seed of the order.
    pub seed: u64,
    /// Whether it is complete.
    pub status: Status,
    /// The checkpoint to go on with, when it is not complete and has one.
    pub checkpoint: Option<PathBuf>,
    /// What happened on the way.
    pub course: Course,
    /// What the links had to say: digests of the frames, for one.
    pub remarks: Vec<String>,
    /// Why it is not complete, or what a sink could not do.
    pub errors: Vec<String>,
}

/// Why a scan could not start.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The link cannot be opened.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A sink cannot take the scan.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The checkpoint cannot be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A router did not answer.
    #[error(
        "gateway {address} did not answer on {interface} (asked three times in three seconds); check the cable and the route, or give --router-mac"
    )]
    Gateway {
        /// The router.
        address: std::net::IpAddr,
        /// The interface it was asked on.
        interface: String,
    },
    /// The user interrupted it while it waited for a router.
    #[error("interrupted before the first probe")]
    Interrupted,
    /// The operating system refused something.
    #[error("cannot {operation}: {source}")]
    System {
        /// What was attempted.
        operation: &'static str,
        /// Its answer.
        source: std::io::Error,
    },
}

/// What a scan says of itself before it begins.
pub fn manifest(plan: &Plan, setup: &Setup, argv: Vec<String>) -> Manifest {
    manifest::at_start(plan, setup, argv)
}

/// Scans. Returns when every probe was sent, the replies were awaited and every sink is closed, or when the user or
/// an error ended it; the account in [`Ended`] balances in every case.
///
/// `outlets` opens the sinks; it is called when the link is open, so that a scan this host cannot do (no privilege,
/// for one) leaves files alone.
///
/// # Errors
/// When it could not start: then nothing was probed.
pub fn run(
    plan: &Plan,
    setup: &Setup,
    outlets: impl FnOnce() -> Result<Vec<Outlet>, SinkError>,
    argv: Vec<String>,
    persist: &Persist,
) -> Result<Ended, ScanError> {
    let key = cookie_key(plan, setup)?;
    let templates = generate::used(probe::templates(&plan.probes, &setup.sources, &plan.dress), &plan.space);
    let resets = resets(&templates, setup, plan);
    let mut link = open_link(plan, setup, (&templates, &resets))?;
    let outlets = outlets()?;
    let stats = Arc::new(Stats::new(link.tx.len(), link.rx.len(), outlets.len()));
    let records = Queue::new(RECORDS);
    let (distributor, mut writers) = writer::split(records.clone(), &stats, outlets);
    let heavy = || Heavy::new(setup.limits, plan.ports_of_a_host());
    writers.iter_mut().for_each(|writer| writer.hold_back(heavy()));
    for (writer, held) in writers.iter_mut().zip(&persist.held) {
        writer.already_holds(held.clone());
    }
    let mut manifest = manifest::at_start(plan, setup, argv);
    writers.iter_mut().try_for_each(|writer| writer.begin(&manifest))?;
    let signals = signals::Signals::catch(persist.reread.is_some())?;
    let cursors = plan.shard.cursors(plan.space.len());
    let walk = Walk::new(cursors, plan.passes, nanoseconds(setup.pass_gap)).from_step(plan.first_step);
    let walk = Arc::new(walk.controlled(plan.sample()).carrying(persist.waiting.len() as u64));
    let ready = gateway::resolve(setup, &mut link, &signals)
        .and_then(|()| persist::begin(plan, setup, link.tx.len(), (persist, &mut manifest)));
    let progress = match ready {
        Ok(progress) => progress,
        Err(error) => {
            manifest::close(&mut manifest, called_off(&error), manifest::summary(&stats, &walk, 0));
            writer::finish(writers, &mut manifest);
            return Err(error);
        }
    };
    let start_ns = clock::monotonic_ns();
    let pace = Arc::new(Pace::new(setup.rate));
    let cap = setup.prefix_cap.map(|milli| Arc::new(PrefixCap::new(milli)));
    let cpus = if setup.pin { affinity::spread(stats.tx.len() + stats.rx.len()) } else { Vec::new() };
    let answered = Arc::new(PortCounts::new(plan.space.port_targets(), stats.rx.len()));
    let resets = resets.iter().map(Template::family).collect();
    let closing = Arc::new(Closing::new(HALF_OPEN));
    let job = Job {
        plan,
        setup,
        key,
        templates: (templates, resets),
        walk,
        pace,
        records,
        closing,
        stats,
        answered,
        questions: Queue::new(ANSWERS),
        start_ns,
        cpus,
        persist,
        progress,
        excludes: Arc::default(),
        cap,
    };
    let control = Control { probing: AtomicUsize::new(link.tx.len()), ..Control::default() };
    persist::exclude_at_start(&job, &control)?;
    let mut takeover = takeover(&job, link.hides_answers);
    if setup.closes == Who::Swath
        && let Err(error) = takeover.now()
    {
        note(&control.errors, error);
    }
    status::banner(&job, &link.about);
    let outcome = std::thread::scope(|scope| {
        control.sinks.store(writers.len(), Ordering::Relaxed);
        let threads = start(scope, &job, &control, &signals, (link, distributor, writers));
        watch(&job, &control, (&signals, takeover), threads)
    });
    Ok(close(&job, &control, outcome, manifest))
}

/// What a scan that sent no probe is called.
fn called_off(error: &ScanError) -> Status {
    if matches!(error, ScanError::Interrupted) { Status::Interrupted } else { Status::Failed }
}

/// What every thread knows.
struct Job<'a> {
    plan: &'a Plan,
    setup: &'a Setup,
    key: CookieKey,
    /// The templates of the probes, and the families of those behind them that close connections.
    templates: (Vec<Assigned>, Vec<Family>),
    walk: Arc<Walk>,
    pace: Arc<Pace>,
    records: Queue<Record>,
    closing: Arc<Closing>,
    stats: Arc<Stats>,
    answered: Arc<PortCounts>,
    /// What neighbours ask about addresses that no interface has.
    questions: Queue<Asked>,
    start_ns: u64,
    /// The processor of each transmit thread, then of each receive thread; none where they are not pinned.
    cpus: Vec<usize>,
    persist: &'a Persist,
    progress: Arc<Progress>,
    excludes: Arc<Excludes>,
    cap: Option<Arc<PrefixCap>>,
}

impl Job<'_> {
    /// Nanoseconds since the scan began.
    fn now_ns(&self) -> u64 {
        clock::monotonic_ns() - self.start_ns
    }
}

/// How threads are told to stop, and how they tell what went wrong.
#[derive(Default)]
struct Control {
    /// No more probes.
    stop_tx: Arc<AtomicBool>,
    /// No more replies.
    stop_rx: AtomicBool,
    /// Transmit threads that have probes to send.
    probing: AtomicUsize,
    /// Every reply that will come has come.
    rx_ended: AtomicBool,
    /// The scan cannot go on.
    failed: AtomicBool,
    /// Nobody reads the results any more.
    unread: AtomicBool,
    /// No probes for the moment: the network changed.
    pause: Arc<AtomicBool>,
    events: Mutex<Vec<NetworkEvent>>,
    /// Nothing is left to watch over.
    ended: AtomicBool,
    /// Sinks that still work.
    sinks: AtomicUsize,
    /// When the last transmit thread ended, in nanoseconds since the scan began.
    tx_ended_ns: AtomicU64,
    /// What was excluded after the plan was made, and how often.
    later: Mutex<Later>,
    /// The first step of the order that some transmit thread has not settled.
    resume_step: Mutex<Option<u64>>,
    remarks: Mutex<Vec<String>>,
    errors: Mutex<Vec<String>>,
}

impl Control {
    /// Notes what ended the scan.
    fn fail(&self, error: &dyn std::fmt::Display) {
        note(&self.errors, error.to_string());
        self.failed.store(true, Ordering::Relaxed);
        self.stop_tx.store(true, Ordering::Relaxed);
    }
}

fn note(list: &Mutex<Vec<String>>, text: String) {
    with(list, |list| list.push(text));
}

/// What a mutex holds, for a moment. A thread that panicked while it held one left a valid value.
fn with<T, R>(mutex: &Mutex<T>, look: impl FnOnce(&mut T) -> R) -> R {
    look(&mut mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// A key of the operating system's randomness. A link that keeps its frames gets one made of the seed instead: its
/// frames can then be compared from run to run, and a capture file gives nothing away about a key in use.
fn cookie_key(plan: &Plan, setup: &Setup) -> Result<CookieKey, ScanError> {
    let mut bytes = [0; 16];
    if setup.backend.transmits {
        rand::rngs::SysRng.try_fill_bytes(&mut bytes).map_err(|error| ScanError::System {
            operation: "draw a random key",
            source: std::io::Error::other(error.to_string()),
        })?;
    } else {
        bytes[..8].copy_from_slice(&plan.seed.to_be_bytes());
    }
    Ok(CookieKey::new(bytes))
}

/// The frames that close half-open connections; none where nothing opens any: frames of several kinds are written the quicker
/// the more they have in common.
fn resets(templates: &[Assigned], setup: &Setup, plan: &Plan) -> Vec<Template> {
    let opens = templates.iter().any(|assigned| assigned.protocol.wire() == Protocol::TCP);
    if opens { probe::resets(&setup.sources, &plan.dress) } else { Vec::new() }
}

fn open_link(
    plan: &Plan,
    setup: &Setup,
    (templates, resets): (&[Assigned], &[Template]),
) -> Result<Link, LinkError> {
    let probes = templates.iter().map(|assigned| &assigned.template);
    let link = (setup.backend.open)(&LinkSpec {
        argument: setup.argument.clone(),
        interface: setup.interface.clone(),
        templates: probes.chain(resets).cloned().collect(),
        hops: setup.hops.clone(),
        gate: Arc::new(plan.gate()),
        filter: Filter {
            addresses: heard(setup),
            port_first: setup.ports.first(),
            port_last: setup.ports.last(),
            any_protocol: templates.iter().any(|assigned| assigned.protocol.wire() == Protocol::IP),
        },
        queues: setup.queues,
        receive: setup.receive,
        attach: true,
    })?;
    if link.hides_answers && setup.closes == Who::Kernel {
        return Err(LinkError::Unusable { name: setup.backend.name, reason: NOT_THE_KERNEL.into() });
    }
    Ok(link)
}

/// The addresses that frames for us go to: our own, and the groups in which neighbours ask for those that no interface has.
fn heard(setup: &Setup) -> Vec<IpAddr> {
    let groups = setup.answers_for.iter().filter_map(|address| match address {
        IpAddr::V6(address) => Some(IpAddr::V6(nd::group(*address))),
        IpAddr::V4(_) => None,
    });
    setup.sources.iter().map(|source| source.address).chain(groups).collect()
}

/// The running threads.
struct Threads<'scope> {
    tx: Vec<ScopedJoinHandle<'scope, ()>>,
    rx: Vec<ScopedJoinHandle<'scope, ()>>,
    distributor: ScopedJoinHandle<'scope, ()>,
    writers: Vec<ScopedJoinHandle<'scope, Writer>>,
    keeper: ScopedJoinHandle<'scope, ()>,
    guard: ScopedJoinHandle<'scope, ()>,
}

fn start<'scope, 'env: 'scope>(
    scope: &'scope std::thread::Scope<'scope, 'env>,
    job: &'env Job<'env>,
    control: &'env Control,
    signals: &'env signals::Signals,
    (link, distributor, writers): (Link, Distributor, Vec<Writer>),
) -> Threads<'scope> {
    let answers: Vec<Queue<Announcement>> = link.tx.iter().map(|_| Queue::new(ANSWERS)).collect();
    let receivers = link.rx.len();
    let rx = link.rx.into_iter().enumerate().map(|(index, queue)| {
        let rx = receiver(job, queue, (index, receivers), &answers);
        let cpu = job.cpus.get(answers.len() + index);
        scope.spawn(move || {
            keep_to(cpu);
            receive(rx, index, job, control);
        })
    });
    let rx: Vec<_> = rx.collect();
    let tx = link.tx.into_iter().zip(&answers).enumerate().map(|(index, (queue, answers))| {
        let tx = transmitter(job, control, (queue, index), answers.clone());
        let cpu = job.cpus.get(index);
        scope.spawn(move || {
            keep_to(cpu);
            transmit(tx, job, control);
        })
    });
    let tx = tx.collect();
    let writers = writers.into_iter().map(|writer| scope.spawn(move || write(writer, job, control)));
    let writers = writers.collect();
    let distributor = scope.spawn(move || distribute(distributor));
    let keeper = scope.spawn(move || persist::keep(job, control, signals));
    let listener = job.setup.backend.transmits.then(rtnetlink::listen).and_then(Result::ok);
    let ctl = listener.map(|listener| Box::new(listener) as Box<dyn events::NetCtl>);
    let guard = scope.spawn(move || events::watch(job, control, ctl));
    Threads { tx, rx, distributor, writers, keeper, guard }
}

/// Keeps this thread on a processor. One that is gone since is no reason to stop.
fn keep_to(cpu: Option<&usize>) {
    if let Some(&cpu) = cpu {
        affinity::pin(cpu);
    }
}

fn transmitter(
    job: &Job<'_>,
    control: &Control,
    (queue, index): (Box<dyn crate::link::TxQueue>, usize),
    answers: Queue<Announcement>,
) -> Tx {
    let (plan, setup) = (job.plan, job.setup);
    let gateways = u16::try_from(setup.gateways.len()).unwrap_or(u16::MAX);
    let threads = job.stats.tx.len();
    let mut neighbours = Neighbours::part(setup.hops.clone(), gateways, (index, threads));
    for &(address, mac) in &setup.neighbours {
        neighbours.seed(address, mac);
    }
    let secrets = (job.key, setup.ports);
    let mut tx = Tx::new(TxParts {
        queue,
        generator: Generator::new(plan.order(), Arc::clone(&plan.space), secrets, &job.templates.0)
            .with_resets(&job.templates.1),
        walk: Arc::clone(&job.walk),
        pace: Arc::clone(&job.pace),
        paths: setup.paths.clone(),
        neighbours,
        closing: Arc::clone(&job.closing),
        answers,
        questions: job.questions.clone(),
        records: job.records.clone(),
        sources: setup.sources.clone(),
        stop: Arc::clone(&control.stop_tx),
        pause: Arc::clone(&control.pause),
        stats: (Arc::clone(&job.stats), index),
        restraint: Restraint::new(Arc::clone(&job.excludes), job.cap.clone()),
        log: job.progress.log(index),
        epoch_offset_ns: clock::realtime_ns() - job.now_ns(),
    });
    if index == 0 {
        tx.carry(&job.persist.waiting);
    }
    tx
}

fn receiver(
    job: &Job<'_>,
    queue: Box<dyn crate::link::RxQueue>,
    (index, receivers): (usize, usize),
    answers: &[Queue<Announcement>],
) -> Rx {
    let (plan, setup) = (job.plan, job.setup);
    let sources = setup.sources.iter().map(|source| source.address).collect();
    let bare = setup.interface.as_ref().is_some_and(|interface| interface.framing == Framing::Bare);
    let mut dedup = Dedup::new(plan.space.len(), dedup::DEFAULT_BYTES / receivers);
    for &(number, state) in &job.persist.seen {
        dedup.insert(number, state, 0);
    }
    Rx::new(RxParts {
        queue,
        reader: match setup.backend.name {
            name if name == link::CONNECT.name => Reader::Outcome,
            _ if bare => Reader::Bare,
            _ => Reader::Ethernet,
        },
        probes: plan.probes.clone(),
        judge: Judge::new(job.key, setup.ports, plan.passes_told(), sources),
        space: Arc::clone(&plan.space),
        // Each thread hears of its own targets only, so together they need what one alone would.
        dedup,
        records: job.records.clone(),
        answers: answers.to_vec(),
        answers_for: setup.answers_for.clone(),
        questions: job.questions.clone(),
        answered: Arc::clone(&job.answered),
        closing: Arc::clone(&job.closing),
        stats: (Arc::clone(&job.stats), index),
        epoch_offset_ns: clock::realtime_ns() - job.now_ns(),
    })
}

/// The transmit thread.
fn transmit(mut tx: Tx, job: &Job<'_>, control: &Control) {
    let probing = Probing(&control.probing);
    let result = loop {
        let now_ns = job.now_ns();
        match tx.step(now_ns) {
            Ok(Step::Again) => {}
            // Short sleeps, so that a request to stop is seen soon at any rate.
            Ok(Step::Wait(until_ns)) => clock::sleep_until(job.start_ns + until_ns.min(now_ns + NAP_NS)),
            Ok(Step::Done) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let step = tx.resume_step();
    let earliest = |first: Option<u64>| Some(first.map_or(step, |first| first.min(step)));
    with(&control.resume_step, |first| *first = earliest(*first));
    control.tx_ended_ns.fetch_max(job.now_ns(), Ordering::Release);
    drop(probing);
    if let Err(error) = result.and_then(|()| linger(&mut tx, job, control)) {
        control.fail(&error);
    }
    match tx.finish(job.now_ns()) {
        Ok(remark) => remark.into_iter().for_each(|remark| note(&control.remarks, remark)),
        Err(error) => control.fail(&error),
    }
}

/// Counts a transmit thread among those that have probes to send, for as long as it lives; also one that panics.
struct Probing<'a>(&'a AtomicUsize);

impl Drop for Probing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// After the last probe, until no reply is awaited any more: closes connections, if that is for swath to do, and answers for
/// the addresses that no interface has, because a neighbour that forgets who has such an address cannot reply to it.
fn linger(tx: &mut Tx, job: &Job<'_>, control: &Control) -> Result<(), LinkError> {
    let mut deadline_ns = None;
    while job.closing.is_ours() || !job.setup.answers_for.is_empty() {
        let now_ns = job.now_ns();
        if control.rx_ended.load(Ordering::Acquire) && deadline_ns.is_none() {
            deadline_ns = Some(now_ns + LAST_RESETS_NS);
        }
        match tx.linger(now_ns)? {
            _ if deadline_ns.is_some_and(|deadline| deadline <= now_ns) => break,
            Step::Done if deadline_ns.is_some() => break,
            Step::Done => clock::sleep_until(job.start_ns + now_ns + CLOSE_PAUSE_NS),
            Step::Again => {}
            Step::Wait(until_ns) => clock::sleep_until(job.start_ns + until_ns.min(now_ns + NAP_NS)),
        }
    }
    Ok(())
}

/// The receive thread.
fn receive(mut rx: Rx, index: usize, job: &Job<'_>, control: &Control) {
    let frames = &job.stats.rx[index].frames;
    let mut last_polls = 0;
    let result = loop {
        let stopping = control.stop_rx.load(Ordering::Acquire);
        let before = frames.value();
        last_polls += usize::from(stopping);
        match rx.step(job.now_ns(), if stopping { Duration::ZERO } else { POLL }) {
            // What the kernel had for us when we were told to stop is still read, poll by poll, but not for ever.
            Ok(true) if stopping && (frames.value() == before || LAST_POLLS <= last_polls) => break Ok(()),
            Ok(true) => {}
            Ok(false) => std::thread::sleep(WRITER_PAUSE),
            Err(error) => break Err(error),
        }
    };
    if let Err(error) = result.and_then(|()| rx.finish()) {
        control.fail(&error);
    }
}

/// The thread that hands records to the writers.
fn distribute(mut distributor: Distributor) {
    loop {
        let step = distributor.step();
        if step.done {
            return;
        }
        if step.taken == 0 {
            std::thread::sleep(WRITER_PAUSE);
        }
    }
}

/// The thread of one sink.
fn write(mut writer: Writer, job: &Job<'_>, control: &Control) -> Writer {
    loop {
        let step = writer.step(job.now_ns());
        match step.event {
            // The others go on without the reader of standard output.
            Some(WriterEvent::StdoutClosed) if control.sinks.fetch_sub(1, Ordering::Relaxed) == 1 => {
                control.unread.store(true, Ordering::Relaxed);
                control.stop_tx.store(true, Ordering::Relaxed);
            }
            Some(event) => {
                while let Some(error) = writer.take_error() {
                    note(&control.errors, error.to_string());
                }
                let last =
                    event == WriterEvent::NoSinkLeft && control.sinks.fetch_sub(1, Ordering::Relaxed) == 1;
                if last {
                    control.fail(&"no output is left to write to");
                }
            }
            None => {}
        }
        for remark in writer.take_remarks() {
            status::tell(job, &remark);
        }
        if step.done {
            return writer;
        }
        if step.taken == 0 {
            std::thread::sleep(WRITER_PAUSE);
        }
    }
}

/// What the watching thread hands over at the end.
struct Outcome {
    writers: Vec<Writer>,
    interrupted: bool,
    /// Whether every reply was awaited as long as it should be.
    awaited: bool,
    sending_ns: u64,
}

/// Watches the threads until the replies have been awaited, then stops them in the order of the data.
fn watch(
    job: &Job<'_>,
    control: &Control,
    (signals, mut takeover): (&signals::Signals, takeover::Takeover<'_>),
    threads: Threads<'_>,
) -> Outcome {
    let mut status = status::Status::new(job);
    let mut governor = (job.setup.rate == Rate::Max).then(Governor::new);
    let mut losses = Losses::of(job.setup.interface.as_ref().map(|interface| interface.index));
    let wait_ns = nanoseconds(job.setup.wait);
    let mut ended_ns = None;
    let awaited = loop {
        let now_ns = job.now_ns();
        job.progress.alive(now_ns, job.stats.durable_ns());
        let interrupts = signals.count();
        if 0 < interrupts {
            control.stop_tx.store(true, Ordering::Relaxed);
        }
        if ended_ns.is_none() && control.probing.load(Ordering::Acquire) == 0 {
            let noted = control.tx_ended_ns.load(Ordering::Acquire);
            ended_ns = Some(if noted == 0 { now_ns } else { noted });
        }
        if let Some(governor) = &mut governor {
            let frames = |tx: &TxCounters| tx.sent.value() + tx.housekeeping.value() + tx.resets.value();
            let sent = job.stats.tx.iter().map(|tx| frames(tx)).sum();
            let drops = job.stats.rx_total(|rx| &rx.kernel_drops) + losses.observe(now_ns);
            governor.observe(now_ns, sent, drops, &job.pace);
        }
        if let Some(remark) = takeover.observe(now_ns, job.stats.rx_total(|rx| &rx.open)) {
            note(&control.remarks, remark);
        }
        status.tick(now_ns, ended_ns);
        let hurry = 1 < interrupts
            || control.failed.load(Ordering::Relaxed)
            || control.unread.load(Ordering::Relaxed);
        let awaited = |ended: u64| threads.rx.is_empty() || ended.saturating_add(wait_ns) <= now_ns;
        match ended_ns {
            Some(ended) if hurry || awaited(ended) => break awaited(ended) && !hurry,
            _ => std::thread::sleep(WATCH),
        }
    };
    status.end();
    job.stats.interface_drops.assign(losses.look());
    control.stop_rx.store(true, Ordering::Release);
    let mut panicked = false;
    for thread in threads.rx {
        panicked |= thread.join().is_err();
    }
    // What the last replies opened is closed by the transmit threads.
    control.rx_ended.store(true, Ordering::Release);
    for thread in threads.tx {
        panicked |= thread.join().is_err();
    }
    job.records.close();
    panicked |= threads.distributor.join().is_err();
    let mut writers = Vec::with_capacity(threads.writers.len());
    for thread in threads.writers {
        match thread.join() {
            Ok(writer) => writers.push(writer),
            Err(_) => panicked = true,
        }
    }
    control.ended.store(true, Ordering::Release);
    threads.keeper.thread().unpark();
    panicked |= threads.keeper.join().is_err();
    panicked |= threads.guard.join().is_err();
    if panicked {
        control.fail(&"a thread of swath panicked; this is a defect");
    }
    Outcome {
        writers,
        interrupted: 0 < signals.count(),
        awaited: awaited && !panicked,
        sending_ns: ended_ns.unwrap_or(0),
    }
}

/// Who closes half-open connections, and how swath would take them over.
fn takeover<'a>(job: &'a Job<'_>, hides_answers: bool) -> takeover::Takeover<'a> {
    let setup = job.setup;
    // A link that keeps its frames is answered by nobody.
    let sources = setup.sources.iter().filter(|_| setup.backend.transmits);
    let wanted = SynAcks {
        addresses: sources.map(|source| source.address).collect(),
        port_first: setup.ports.first(),
        port_last: setup.ports.last(),
    };
    takeover::Takeover::new(&job.closing, setup.closes, hides_answers, wanted)
}

/// Closes the account and every sink.
fn close(job: &Job<'_>, control: &Control, outcome: Outcome, mut manifest: Manifest) -> Ended {
    let failed = control.failed.load(Ordering::Relaxed);
    let interrupted = outcome.interrupted || control.unread.load(Ordering::Relaxed);
    let status = match (failed, interrupted) {
        (true, _) => Status::Failed,
        (false, true) => Status::Interrupted,
        (false, false) => Status::Complete,
    };
    let mut summary = manifest::summary(&job.stats, &job.walk, outcome.sending_ns);
    summary.ports = manifest::ports(job, status);
    let left = summary.pending + summary.unsent;
    summary.resume_step = with(&control.resume_step, |step| step.filter(|_| 0 < left));
    manifest.course.events = with(&control.events, std::mem::take);
    manifest.course.excluded_later = with(&control.later, |later| later.epochs.clone());
    manifest::close(&mut manifest, status, summary);
    for error in writer::finish(outcome.writers, &mut manifest) {
        note(&control.errors, error.to_string());
    }
    let checkpoint = persist::end(job, outcome.awaited && !failed, &manifest).unwrap_or_else(|error| {
        note(&control.errors, error.to_string());
        None
    });
    let (remarks, errors) = (with(&control.remarks, std::mem::take), with(&control.errors, std::mem::take));
    let open = job.stats.rx_total(|rx| &rx.open);
    let sending_s = outcome.sending_ns as f64 / 1e9;
    let (summary, seed, course) = (manifest.summary.unwrap_or_default(), job.plan.seed, manifest.course);
    Ended { summary, open, sending_s, seed, status, checkpoint, course, remarks, errors }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Records between the receive threads and the writer: 4.6 MB.
const RECORDS: usize = 1 << 16;
/// Answers of neighbours between a receive and a transmit thread.
const ANSWERS: usize = 1 << 12;
const NAP_NS: u64 = 20_000_000;
/// Half-open connections between the receive and the transmit threads: 1 MiB.
const HALF_OPEN: usize = 1 << 16;
/// How long the transmit threads pause when there is nothing left but connections to close, and none is.
const CLOSE_PAUSE_NS: u64 = 1_000_000;
/// How long the last connections may take to close.
const LAST_RESETS_NS: u64 = 1_000_000_000;
/// Why the kernel cannot close what it does not see.
const NOT_THE_KERNEL: &str = "the kernel closes no connections whose SYN-ACKs XDP takes from it; leave --resets kernel out, or use --receive packet";
/// More than any ring has blocks.
const LAST_POLLS: usize = 1024;
const POLL: Duration = Duration::from_millis(50);
const WRITER_PAUSE: Duration = Duration::from_millis(1);
const WATCH: Duration = Duration::from_millis(20);
