//! Between the queue and the sinks: takes records out in batches, filters them for each sink, and keeps the account
//! of what became of each.
//!
//! ```text
//! queue --Distributor--> Lane (memory, then a file) --Writer--> one sink, on a thread of its own
//! ```
//!
//! A [`Writer`] carries records to its sinks. With several sinks each has a writer, a thread and a [`Lane`] of its own
//! ([`split`]): one that is slow falls behind in its lane, first in memory, then in a file, and neither the others nor
//! the scan wait for it. Only when a lane's file is full, too, does the queue fill and sending pause.
//!
//! The account. For every sink, accepted = written + filtered + suppressed, exactly, once [`Writer::drain`] has
//! returned. A record counts as *written* only when the sink says that it survives a crash of this process, that
//! is at a commit; a sink that fails tells how many records got through, and the rest counts as *suppressed*, like
//! everything that comes for it later. One sink's failure never touches another, nor the scan.
//!
//! Invariant: no clock (the caller passes the time) and no format.

mod lane;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use crate::event::{Manifest, Record, SinkSummary, State};
use crate::heavy::Heavy;
use crate::queue::Queue;
use crate::select::Expression;
use crate::sink::{Sink, SinkError, SinkErrorKind};
use crate::stats::{SinkCounters, Stats};
use crate::target::Target;

pub use lane::{Distributor, Lane};

/// Records taken from the queue at once.
pub const BATCH: usize = 4096;

/// How long a record may wait for its commit. A quarter of the second that is promised: the rest is for sinks that
/// take their time and for the pauses between steps.
pub const COMMIT_AFTER_NS: u64 = 250_000_000;

/// Which states a sink is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Show(u8);

impl Show {
    /// Open only: the default.
    pub const OPEN: Show = Show(1 << State::Open.number());

    /// Every state.
    pub const ALL: Show = Show(u8::MAX);

    /// The states that are listed.
    pub fn states(states: &[State]) -> Show {
        Show(states.iter().fold(0, |bits, state| bits | 1 << state.number()))
    }

    /// What is left for a sink whose entries do not tell the state: one state alone as it is, of several the open ones.
    #[must_use]
    pub const fn unambiguous(self) -> Show {
        if self.0.count_ones() == 1 { self } else { Show(self.0 & Show::OPEN.0) }
    }

    /// The states both show.
    #[must_use]
    pub const fn and(self, other: Show) -> Show {
        Show(self.0 & other.0)
    }

    /// Whether records of that state are shown.
    #[inline]
    pub fn contains(self, state: State) -> bool {
        self.0 >> state.number() & 1 == 1
    }
}

/// A sink and what it is shown.
pub struct Outlet {
    /// The sink as the user named it, for the summary.
    pub name: String,
    /// Where the records go.
    pub sink: Box<dyn Sink>,
    /// Which of them.
    pub show: Show,
    /// And of those only what this holds for; `None` for all.
    pub select: Option<Expression>,
    /// Whether it writes to standard output, whose reader may leave without that being an error.
    pub stdout: bool,
}

/// What one [`Writer::step`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Records taken from the queue; with 0 the caller may sleep a little.
    pub taken: usize,
    /// Whether the queue was closed and everything that was in it is accounted for.
    pub done: bool,
    /// What the scan should know.
    pub event: Option<WriterEvent>,
}

/// What the scan should know about its outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriterEvent {
    /// The reader of standard output has left: a request to stop, and no error.
    StdoutClosed,
    /// A sink failed; [`Writer::take_error`] says how. The others go on.
    SinkFailed,
    /// The last sink that still worked failed: nothing more can be written.
    NoSinkLeft,
}

/// Owns the sinks and carries records to them. Lives on one thread, which calls [`Writer::step`] in a loop.
pub struct Writer {
    input: Input,
    stats: Arc<Stats>,
    /// The place of the first of its sinks among all of the scan.
    first: usize,
    slots: Vec<Slot>,
    batch: Vec<Record>,
    kept: Vec<Record>,
    /// Hosts and prefixes that answer for everything; results beyond their limits are held back.
    heavy: Option<Heavy>,
    held: Vec<Record>,
    /// Verdicts that stand in its outputs since an earlier run.
    stand: HashSet<(Target, State)>,
    uncommitted_since_ns: Option<u64>,
    /// Records taken from the queue.
    popped: u64,
    /// A moment until which the receivers had judged everything, and how many records they had accepted by then: once
    /// so many are committed, everything until that moment is durable.
    horizon: Option<(u64, u64)>,
    errors: Vec<SinkError>,
    event: Option<WriterEvent>,
}

/// Where a writer's records come from.
enum Input {
    Queue(Queue<Record>),
    Lane(Arc<Lane>),
}

impl Input {
    fn is_closed(&self) -> bool {
        match self {
            Input::Queue(queue) => queue.is_closed(),
            Input::Lane(lane) => lane.is_closed(),
        }
    }

    /// Fills an empty batch with what waits.
    fn take(&self, batch: &mut Vec<Record>) -> io::Result<()> {
        match self {
            Input::Queue(queue) => {
                batch.extend(std::iter::from_fn(|| queue.pop()).take(BATCH));
                Ok(())
            }
            Input::Lane(lane) => lane.take(batch),
        }
    }
}

/// One writer for each outlet, each to be stepped on a thread of its own, and what hands them the records of `queue`.
///
/// # Panics
/// When `stats` has another number of sinks.
pub fn split(queue: Queue<Record>, stats: &Arc<Stats>, outlets: Vec<Outlet>) -> (Distributor, Vec<Writer>) {
    assert_eq!(stats.sinks.len(), outlets.len(), "every sink has its counters");
    let lanes: Vec<Arc<Lane>> = outlets.iter().map(|_| Arc::new(Lane::default())).collect();
    let inputs = lanes.iter().cloned().map(Input::Lane);
    let writer = |((first, outlet), input)| Writer::over(input, Arc::clone(stats), first, vec![outlet]);
    let writers = outlets.into_iter().enumerate().zip(inputs).map(writer).collect();
    (Distributor::new(queue, lanes), writers)
}

/// Ends every writer and every sink, the sinks side by side: drains, writes what became of the records into the summary
/// of the manifest if it has one, and hands the manifest to the sinks. Returns the errors that nobody took.
pub fn finish(mut writers: Vec<Writer>, manifest: &mut Manifest) -> Vec<SinkError> {
    writers.iter_mut().for_each(Writer::drain);
    let sinks = writers.iter().flat_map(Writer::summaries).collect();
    if let Some(summary) = &mut manifest.summary {
        summary.sinks = sinks;
    }
    // Every writer saw the same records in the same order, so every one held the same back.
    if let Some(heavy) = writers.iter().find_map(|writer| writer.heavy.as_ref()) {
        (manifest.course.capped, manifest.course.capped_more) = heavy.capped();
    }
    let manifest = &*manifest;
    std::thread::scope(|scope| {
        let end = |writer: Writer| scope.spawn(move || writer.end(manifest));
        let threads: Vec<_> = writers.into_iter().map(end).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    })
}

struct Slot {
    outlet: Outlet,
    /// Records given to the sink.
    given: u64,
    /// Of those, counted as written.
    written: u64,
    failed: bool,
}

impl Writer {
    /// A writer from `queue` to `outlets`, whose counters are `stats.sinks`, in the same order.
    ///
    /// # Panics
    /// When `stats` has another number of sinks.
    pub fn new(queue: Queue<Record>, stats: Arc<Stats>, outlets: Vec<Outlet>) -> Writer {
        assert_eq!(stats.sinks.len(), outlets.len(), "every sink has its counters");
        Writer::over(Input::Queue(queue), stats, 0, outlets)
    }

    fn over(input: Input, stats: Arc<Stats>, first: usize, outlets: Vec<Outlet>) -> Writer {
        let slot = |outlet| Slot { outlet, given: 0, written: 0, failed: false };
        Writer {
            input,
            stats,
            first,
            slots: outlets.into_iter().map(slot).collect(),
            batch: Vec::with_capacity(BATCH),
            kept: Vec::with_capacity(BATCH),
            heavy: None,
            held: Vec::new(),
            stand: HashSet::new(),
            uncommitted_since_ns: None,
            popped: 0,
            horizon: None,
            errors: Vec::new(),
            event: None,
        }
    }

    /// Holds back open ports beyond the limits of `heavy`, for every sink alike. They count as suppressed.
    pub fn hold_back(&mut self, heavy: Heavy) {
        self.heavy = Some(heavy).filter(|heavy| !heavy.is_idle());
    }

    /// Verdicts that its outputs hold since an earlier run of the scan: they are not written again, and count as filtered.
    pub fn already_holds(&mut self, verdicts: HashSet<(Target, State)>) {
        self.stand = verdicts;
    }

    /// Announces the scan to every sink. Call it once, before the first packet.
    ///
    /// # Errors
    /// The first sink's that fails: no scan should start then.
    pub fn begin(&mut self, manifest: &Manifest) -> Result<(), SinkError> {
        self.slots.iter_mut().try_for_each(|slot| slot.outlet.sink.begin(manifest))
    }

    /// Writes at most one batch, and commits when the oldest uncommitted record has waited long enough.
    /// `now_ns` is any clock that does not go back.
    pub fn step(&mut self, now_ns: u64) -> Step {
        // Read before the last pop: what was pushed before the close is still found.
        let closed = self.input.is_closed();
        if self.horizon.is_none() {
            // In this order: what was accepted meanwhile is waited for in vain, never forgotten.
            let judged_ns = self.stats.judged_ns(now_ns);
            self.horizon = Some((judged_ns, self.stats.rx_total(|rx| &rx.accepted)));
        }
        let taken = self.write_batch();
        if 0 < taken {
            self.uncommitted_since_ns.get_or_insert(now_ns);
        }
        let done = closed && planted!(22, true, taken == 0);
        let due = |since_ns: u64| done || since_ns.saturating_add(COMMIT_AFTER_NS) <= now_ns;
        if self.uncommitted_since_ns.is_some_and(due) {
            self.commit();
        }
        if let Some((judged_ns, accepted)) = self.horizon
            && self.uncommitted_since_ns.is_none()
            && accepted <= self.popped
        {
            for (index, _) in self.slots.iter().enumerate().filter(|(_, slot)| !slot.failed) {
                self.counters(index).durable_ns.assign(judged_ns);
            }
            self.horizon = None;
        }
        Step { taken, done, event: self.event.take() }
    }

    /// Empties the queue and commits. Call it when nothing more is pushed; afterwards the account balances.
    pub fn drain(&mut self) {
        while 0 < self.write_batch() {}
        self.commit();
    }

    /// Ends this writer alone: see [`finish`].
    pub fn finish(self, manifest: &mut Manifest) -> Vec<SinkError> {
        finish(vec![self], manifest)
    }

    /// Ends every sink with the closing manifest.
    fn end(self, manifest: &Manifest) -> Vec<SinkError> {
        let Writer { slots, mut errors, .. } = self;
        for slot in slots {
            let result = slot.outlet.sink.finish(manifest);
            // A sink that failed has had its error reported; it is finished for what it can still save.
            if let (Err(error), false) = (result, slot.failed) {
                errors.push(error);
            }
        }
        errors
    }

    /// What its sinks want operators to read. Each remark is handed out once.
    pub fn take_remarks(&mut self) -> Vec<String> {
        self.slots.iter_mut().flat_map(|slot| slot.outlet.sink.remarks()).collect()
    }

    /// The oldest error that nobody took yet. Each is handed out once.
    pub fn take_error(&mut self) -> Option<SinkError> {
        (!self.errors.is_empty()).then(|| self.errors.remove(0))
    }

    /// What became of the records, per sink.
    pub fn summaries(&self) -> Vec<SinkSummary> {
        let summary = |(slot, counters): (&Slot, &SinkCounters)| SinkSummary {
            name: slot.outlet.name.clone(),
            written: counters.written.value(),
            filtered: counters.filtered.value(),
            suppressed: counters.suppressed.value(),
        };
        let counters = self.stats.sinks[self.first..].iter().map(|counters| &**counters);
        self.slots.iter().zip(counters).map(summary).collect()
    }

    /// Takes a batch from the queue and gives it to every sink. Returns its size.
    fn write_batch(&mut self) -> usize {
        self.batch.clear();
        if let Err(error) = self.input.take(&mut self.batch) {
            self.lose_lane(&error);
        }
        if self.batch.is_empty() {
            return 0;
        }
        let taken = self.batch.len();
        self.popped += taken as u64;
        self.take_out_heavy();
        for index in 0..self.slots.len() {
            if let Err(error) = self.write_to(index) {
                self.fail(index, error);
            }
        }
        taken
    }

    /// Takes out of the batch what is beyond a limit, and counts it for every sink.
    fn take_out_heavy(&mut self) {
        let Some(heavy) = &mut self.heavy else { return };
        self.held.clear();
        let held = &mut self.held;
        self.batch.retain(|record| {
            let admitted = record.state != State::Open || heavy.admit(record.address());
            if !admitted {
                held.push(*record);
            }
            admitted
        });
        for (slot, counters) in self.slots.iter().zip(&self.stats.sinks[self.first..]) {
            let shown = held.iter().filter(|record| slot.outlet.show.contains(record.state)).count();
            counters.suppressed.add(planted!(43, 0, shown as u64));
            counters.filtered.add((held.len() - shown) as u64);
        }
    }

    /// The file behind the lane does not give its records back: they are suppressed, and the sink has failed.
    fn lose_lane(&mut self, error: &io::Error) {
        let Input::Lane(lane) = &self.input else { return };
        let lost = lane.forget();
        for index in 0..self.slots.len() {
            self.counters(index).suppressed.add(lost);
            let object = self.slots[index].outlet.name.clone();
            let cause = format!("{lost} records that waited for it cannot be read back: {error}");
            let kind = SinkErrorKind::Failed;
            self.fail(index, SinkError { operation: "write to", object, cause, kind });
        }
    }

    fn counters(&self, index: usize) -> &SinkCounters {
        &self.stats.sinks[self.first + index]
    }

    /// Gives the batch to one sink, without the records it is not shown.
    fn write_to(&mut self, index: usize) -> Result<(), SinkError> {
        let (slot, counters) = (&mut self.slots[index], &self.stats.sinks[self.first + index]);
        let (show, select, stand) = (slot.outlet.show, slot.outlet.select.as_ref(), &self.stand);
        let selected = |record: &Record| select.is_none_or(|select| select.holds(record, None));
        let news = |record: &Record| stand.is_empty() || !stand.contains(&(record.target(), record.state));
        let wanted = |record: &&Record| show.contains(record.state) && selected(record) && news(record);
        let shown = self.batch.iter().filter(wanted);
        let count = shown.clone().count();
        counters.filtered.add((self.batch.len() - count) as u64);
        if slot.failed {
            counters.suppressed.add(count as u64);
            return Ok(());
        }
        slot.given += count as u64;
        if count == self.batch.len() {
            return slot.outlet.sink.write(&self.batch);
        }
        if count == 0 {
            return Ok(());
        }
        self.kept.clear();
        self.kept.extend(shown);
        slot.outlet.sink.write(&self.kept)
    }

    fn commit(&mut self) {
        self.uncommitted_since_ns = None;
        for index in 0..self.slots.len() {
            if self.slots[index].failed {
                continue;
            }
            match self.slots[index].outlet.sink.commit() {
                Ok(safe) => self.settle(index, safe),
                Err(error) => self.fail(index, error),
            }
        }
    }

    /// Counts as written what the sink says is safe.
    fn settle(&mut self, index: usize, safe: u64) {
        let slot = &mut self.slots[index];
        let safe = safe.min(slot.given);
        debug_assert!(slot.written <= safe, "what was safe stays safe");
        self.stats.sinks[self.first + index].written.add(safe.saturating_sub(slot.written));
        slot.written = slot.written.max(safe);
    }

    /// Takes a sink out: what it holds and did not save is suppressed, and so is all that comes.
    fn fail(&mut self, index: usize, error: SinkError) {
        if self.slots[index].failed {
            self.errors.push(error);
            return;
        }
        let safe = planted!(32, self.slots[index].given, self.slots[index].outlet.sink.safe());
        self.settle(index, safe);
        let slot = &mut self.slots[index];
        slot.failed = true;
        self.stats.sinks[self.first + index].failed.assign(1);
        self.stats.sinks[self.first + index].suppressed.add(slot.given - slot.written);
        let closed = slot.outlet.stdout && error.kind == SinkErrorKind::ReaderGone;
        if !closed {
            self.errors.push(error);
        }
        let none_left = self.slots.iter().all(|slot| slot.failed);
        self.event = Some(match (closed, self.event, none_left) {
            (true, _, _) | (_, Some(WriterEvent::StdoutClosed), _) => WriterEvent::StdoutClosed,
            (_, _, true) => WriterEvent::NoSinkLeft,
            _ => WriterEvent::SinkFailed,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;
    use crate::event::{Reason, Status, Summary};
    use crate::target::{Port, Protocol, Target};

    #[test]
    fn a_sink_that_tells_no_state_is_given_one_state_only() {
        assert_eq!(Show::ALL.unambiguous(), Show::OPEN);
        assert_eq!(Show::states(&[State::Open, State::Closed]).unambiguous(), Show::OPEN);
        let closed = Show::states(&[State::Closed]);
        assert_eq!(closed.unambiguous(), closed);
        assert!(!Show::states(&[State::Closed, State::Filtered]).unambiguous().contains(State::Closed));
    }

    /// What a scripted sink did, for the test to look at.
    #[derive(Debug, Default)]
    struct Script {
        /// Records it takes before it fails.
        room: u64,
        /// How it fails.
        reader_gone: bool,
        /// Records that are safe; a buffer of at most 10 stands between `write` and them.
        safe: u64,
        buffered: u64,
        commits: u64,
        finished: u64,
    }

    struct Scripted(Arc<Mutex<Script>>);

    impl Script {
        fn flush(&mut self) -> Result<(), SinkError> {
            let through = self.buffered.min(self.room - self.safe);
            let lost = self.buffered - through;
            self.safe += through;
            self.buffered = 0;
            let kind = if self.reader_gone { SinkErrorKind::ReaderGone } else { SinkErrorKind::Failed };
            let error =
                SinkError { operation: "write to", object: "script".into(), cause: "no room".into(), kind };
            if lost == 0 { Ok(()) } else { Err(error) }
        }
    }

    impl Sink for Scripted {
        fn begin(&mut self, _manifest: &Manifest) -> Result<(), SinkError> {
            Ok(())
        }

        fn write(&mut self, records: &[Record]) -> Result<(), SinkError> {
            let mut script = self.0.lock().expect("one thread");
            records.iter().try_for_each(|_| {
                script.buffered += 1;
                if script.buffered < 10 { Ok(()) } else { script.flush() }
            })
        }

        fn commit(&mut self) -> Result<u64, SinkError> {
            let mut script = self.0.lock().expect("one thread");
            script.commits += 1;
            script.flush()?;
            Ok(script.safe)
        }

        fn safe(&self) -> u64 {
            self.0.lock().expect("one thread").safe
        }

        fn finish(self: Box<Self>, _manifest: &Manifest) -> Result<(), SinkError> {
            let mut script = self.0.lock().expect("one thread");
            script.finished += 1;
            script.flush()
        }
    }

    fn record(state: State) -> Record {
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let port = Port { protocol: Protocol::TCP, number: 80 };
        Record::new(Target { address, port }, address, state, Reason::SYN_ACK)
    }

    struct Bench {
        queue: Queue<Record>,
        stats: Arc<Stats>,
        writer: Writer,
        scripts: Vec<Arc<Mutex<Script>>>,
    }

    fn bench(sinks: &[(u64, Show)]) -> Bench {
        let queue = Queue::new(1 << 16);
        let stats = Arc::new(Stats::new(0, 0, sinks.len()));
        let script = |room| Arc::new(Mutex::new(Script { room, ..Script::default() }));
        let scripts: Vec<_> = sinks.iter().map(|(room, _)| script(*room)).collect();
        let outlet = |(script, (_, show)): (&Arc<Mutex<Script>>, &(u64, Show))| Outlet {
            name: "script".to_owned(),
            sink: Box::new(Scripted(Arc::clone(script))),
            show: *show,
            select: None,
            stdout: false,
        };
        let outlets = scripts.iter().zip(sinks).map(outlet).collect();
        let writer = Writer::new(queue.clone(), Arc::clone(&stats), outlets);
        Bench { queue, stats, writer, scripts }
    }

    impl Bench {
        fn push(&self, state: State, count: usize) {
            (0..count).for_each(|_| self.queue.push(record(state)).expect("room"));
        }

        fn account(&self, sink: usize) -> (u64, u64, u64) {
            let counters = &self.stats.sinks[sink];
            (counters.written.value(), counters.filtered.value(), counters.suppressed.value())
        }
    }

    #[test]
    fn each_sink_sees_the_states_it_is_shown() {
        let mut bench = bench(&[(100, Show::OPEN), (100, Show::ALL), (100, Show::states(&[State::Closed]))]);
        bench.push(State::Open, 3);
        bench.push(State::Closed, 4);
        assert_eq!(bench.writer.step(0), Step { taken: 7, done: false, event: None });
        bench.writer.drain();
        assert_eq!([0, 1, 2].map(|sink| bench.account(sink)), [(3, 4, 0), (7, 0, 0), (4, 3, 0)]);
    }

    #[test]
    fn a_record_counts_as_written_only_once_it_is_committed() {
        let mut bench = bench(&[(100, Show::ALL)]);
        bench.push(State::Open, 5);
        bench.writer.step(7);
        assert_eq!(bench.account(0), (0, 0, 0));
        bench.push(State::Open, 1);
        bench.writer.step(6 + COMMIT_AFTER_NS);
        assert_eq!(bench.account(0), (0, 0, 0));
        bench.writer.step(7 + COMMIT_AFTER_NS);
        assert_eq!(bench.account(0), (6, 0, 0));
        bench.writer.step(7 + 9 * COMMIT_AFTER_NS);
        assert_eq!(bench.scripts[0].lock().expect("one thread").commits, 1, "nothing new, nothing to commit");
    }

    #[test]
    fn a_sink_that_fails_is_reported_once_and_hurts_no_other() {
        let mut bench = bench(&[(25, Show::ALL), (1000, Show::ALL)]);
        bench.push(State::Open, 28);
        assert_eq!(bench.writer.step(0).event, None);
        bench.push(State::Open, 100);
        assert_eq!(bench.writer.step(0).event, Some(WriterEvent::SinkFailed));
        bench.push(State::Open, 2);
        assert_eq!(bench.writer.step(0).event, None);
        bench.writer.drain();
        assert_eq!(bench.account(0), (25, 0, 105));
        assert_eq!(bench.account(1), (130, 0, 0));
        assert_eq!(bench.writer.take_error().map(|error| error.object).as_deref(), Some("script"));
        assert!(bench.writer.take_error().is_none());
    }

    #[test]
    fn the_reader_of_standard_output_may_leave_without_an_error() {
        let mut bench = bench(&[(0, Show::ALL)]);
        bench.writer.slots[0].outlet.stdout = true;
        bench.scripts[0].lock().expect("one thread").reader_gone = true;
        bench.push(State::Open, 1);
        bench.writer.step(0);
        assert_eq!(bench.writer.step(COMMIT_AFTER_NS).event, Some(WriterEvent::StdoutClosed));
        assert!(bench.writer.take_error().is_none());
        assert_eq!(bench.account(0), (0, 0, 1));
    }

    #[test]
    fn the_scan_is_told_when_no_sink_is_left() {
        let mut bench = bench(&[(0, Show::ALL), (0, Show::ALL)]);
        bench.push(State::Open, 1);
        bench.writer.step(0);
        assert_eq!(bench.writer.step(COMMIT_AFTER_NS).event, Some(WriterEvent::NoSinkLeft));
    }

    #[test]
    fn a_writer_is_done_when_the_queue_is_closed_and_empty() {
        let mut bench = bench(&[(1 << 20, Show::ALL)]);
        bench.push(State::Open, BATCH + 1);
        bench.queue.close();
        assert_eq!(bench.writer.step(0), Step { taken: BATCH, done: false, event: None });
        assert_eq!(bench.writer.step(0), Step { taken: 1, done: false, event: None });
        assert_eq!(bench.writer.step(0), Step { taken: 0, done: true, event: None });
        assert_eq!(bench.account(0), (BATCH as u64 + 1, 0, 0));
    }

    #[test]
    fn the_end_takes_what_is_still_queued_and_finishes_every_sink_once() {
        let bench = bench(&[(100, Show::OPEN), (0, Show::ALL)]);
        bench.push(State::Open, 12);
        bench.push(State::Closed, 1);
        let mut manifest = manifest();
        let errors = bench.writer.finish(&mut manifest);
        assert_eq!(errors.len(), 1, "{errors:?}");
        let summary = manifest.summary.expect("stays");
        assert_eq!(summary.imbalance(), None);
        assert_eq!((summary.sinks[0].written, summary.sinks[1].suppressed), (12, 13));
        assert!(bench.scripts.iter().all(|script| script.lock().expect("one thread").finished == 1));
    }

    fn manifest() -> Manifest {
        let summary = Summary { frames_seen: 13, accepted: 13, ..Summary::default() };
        Manifest {
            scan_uuid: String::new(),
            tool: "swath".into(),
            version: "0".into(),
            argv: vec![],
            plan_digest: String::new(),
            targets: 0,
            shard_targets: 0,
            excluded_addresses: String::new(),
            ports: String::new(),
            probes: vec![],
            seed: 0,
            order: "v1".into(),
            shard: 1,
            shards: 1,
            passes: 1,
            first_step: 0,
            course: crate::event::Course::default(),
            rate_pps: None,
            wait_s: 0.0,
            interface: String::new(),
            link: String::new(),
            source_addresses: vec![],
            status: Status::Complete,
            started_us: 0,
            finished_us: None,
            summary: Some(summary),
            ..Manifest::default()
        }
    }

    proptest! {
        #[test]
        fn the_account_balances_whatever_fails_and_whenever(
            rooms in prop::collection::vec((0_u64..300, 0_u8..32), 1..4),
            steps in prop::collection::vec((0_usize..40, 0_usize..4, 0_u64..2 * COMMIT_AFTER_NS), 0..30),
        ) {
            let sinks: Vec<_> = rooms.into_iter().map(|(room, show)| (room, Show(show))).collect();
            let mut bench = bench(&sinks);
            let (mut now, mut accepted) = (0, 0);
            for (count, state, pause) in steps {
                bench.push(State::ALL[state], count);
                accepted += count as u64;
                now += pause;
                bench.writer.step(now);
            }
            bench.writer.drain();
            for sink in 0..sinks.len() {
                let (written, filtered, suppressed) = bench.account(sink);
                prop_assert_eq!(written + filtered + suppressed, accepted);
                prop_assert_eq!(written, bench.scripts[sink].lock().expect("one thread").safe);
            }
        }
    }
}
