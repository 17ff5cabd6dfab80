//! Counters: one padded set per thread, written by its owner with relaxed stores, read by one reader.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::event::Invalid;
use crate::target::{Places, Port};

/// A counter with one writer. Cheaper than an atomic increment: the owner loads and stores.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`. Only the owning thread may call it; a second writer would lose counts, not memory safety.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }

    /// Writes the value. Only the owning thread may call it.
    pub fn assign(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value as last written.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one transmit thread.
#[derive(Debug, Default)]
pub struct TxCounters {
    /// Probes the link accepted.
    pub sent: Counter,
    /// Probes the link refused and that went back to the pending list; each counts again when it leaves.
    pub requeued: Counter,
    /// Targets a filter of this host removed after planning.
    pub excluded_later: Counter,
    /// Targets whose neighbour did not answer.
    pub unresolved: Counter,
    /// Targets that are this host's own addresses and cannot be reached over the wire.
    pub own_address: Counter,
    /// Targets taken from the order and not yet settled.
    pub pending: Counter,
    /// Frames sent that are no probes.
    pub housekeeping: Counter,
    /// RSTs sent that close half-open connections.
    pub resets: Counter,
    /// Pauses because the queue to the writer was above its high-water mark.
    pub pauses: Counter,
}

/// The counters of one receive thread.
#[derive(Debug, Default)]
pub struct RxCounters {
    /// Frames the receive queue delivered.
    pub frames: Counter,
    /// Frames that are none of ours.
    pub not_ours: Counter,
    /// Frames that claim to answer us and do not, in the order of [`Invalid::ALL`].
    pub invalid: [Counter; Invalid::ALL.len()],
    /// Verdicts already recorded.
    pub duplicate: Counter,
    /// New verdicts.
    pub accepted: Counter,
    /// Of those, open.
    pub open: Counter,
    /// Of those, hosts that are up.
    pub up: Counter,
    /// Frames the kernel dropped.
    pub kernel_drops: Counter,
    /// 1 when nobody tells how many frames the kernel dropped.
    pub drops_unknown: Counter,
    /// Half-open connections that swath was to close and had no room to remember.
    pub unclosed: Counter,
    /// Targets that answered a pass after the first.
    pub later: Counter,
    /// Of those, targets that answered the first pass too.
    pub both: Counter,
    /// Targets the bounded "seen" table forgot: a later repetition of a verdict about one is written again.
    pub evicted: Counter,
    /// Hosts that were found to ration their ICMP errors.
    pub rationed: Counter,
    /// The longest time between two errors of one of them, in milliseconds.
    pub ration_ms: Counter,
    /// Every frame that had arrived by then was judged, and what it told is in the queue to the writer: nanoseconds
    /// since the scan began.
    pub judged_ns: Counter,
}

/// The counters of one sink, owned by the writer thread.
#[derive(Debug, Default)]
pub struct SinkCounters {
    /// Records written.
    pub written: Counter,
    /// Records the user did not ask for.
    pub filtered: Counter,
    /// Records held back by a cap or lost by a sink that failed.
    pub suppressed: Counter,
    /// Every reply that had arrived by then stands in the sink: nanoseconds since the scan began.
    pub durable_ns: Counter,
    /// 1 once the sink has failed.
    pub failed: Counter,
}

/// How many targets of each port answered, counted by each receive thread for itself.
#[derive(Debug, Default)]
pub struct PortCounts {
    /// Each port with the number of its targets; ascending by port.
    rows: Vec<(Port, u64)>,
    places: Places,
    /// For each thread how many answered, in the order of the rows.
    answered: Vec<Vec<Counter>>,
}

impl PortCounts {
    /// Counts for ports with so many targets each, kept by so many receive threads, nothing answered. Ports that ask for
    /// hosts are left out.
    pub fn new(targets: impl IntoIterator<Item = (Port, u64)>, threads: usize) -> PortCounts {
        let ports = targets.into_iter().filter(|(port, _)| !port.protocol.asks_host());
        let mut rows: Vec<_> = ports.collect();
        rows.sort_by_key(|(port, _)| *port);
        let places = Places::new(rows.iter().map(|(port, _)| *port));
        let answered = (0..threads).map(|_| rows.iter().map(|_| Counter::default()).collect()).collect();
        PortCounts { rows, places, answered }
    }

    /// A target of this port answered for the first time. Only the thread of that number may call it.
    #[inline]
    pub fn answered(&self, thread: usize, port: Port) {
        if let (Some(row), Some(counts)) = (self.places.of(port), self.answered.get(thread)) {
            counts[row].add(1);
        }
    }

    /// Each port, how many targets it has, and how many of them answered.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = (Port, u64, u64)> + '_ {
        let answered = |row: usize| self.answered.iter().map(|counts| counts[row].value()).sum();
        self.rows.iter().enumerate().map(move |(row, &(port, targets))| (port, targets, answered(row)))
    }
}

/// Every counter of a scan. Each thread writes its own set; one thread reads them all.
#[derive(Debug)]
pub struct Stats {
    /// One set per transmit thread.
    pub tx: Vec<CachePadded<TxCounters>>,
    /// One set per receive thread.
    pub rx: Vec<CachePadded<RxCounters>>,
    /// One set per sink.
    pub sinks: Vec<CachePadded<SinkCounters>>,
    /// Frames of any traffic that the interface had no room for since the scan began; owned by the watching thread.
    pub interface_drops: Counter,
}

impl Stats {
    /// Counters for so many threads and sinks, all zero.
    pub fn new(tx: usize, rx: usize, sinks: usize) -> Stats {
        fn sets<T: Default>(count: usize) -> Vec<CachePadded<T>> {
            (0..count).map(|_| CachePadded::new(T::default())).collect()
        }
        Stats { tx: sets(tx), rx: sets(rx), sinks: sets(sinks), interface_drops: Counter::default() }
    }

    /// A counter summed over the transmit threads.
    pub fn tx_total(&self, counter: impl Fn(&TxCounters) -> &Counter) -> u64 {
        self.tx.iter().map(|set| counter(set).value()).sum()
    }

    /// Until when every frame was judged by all receive threads; `now_ns` where there are none.
    pub fn judged_ns(&self, now_ns: u64) -> u64 {
        self.rx.iter().map(|set| set.judged_ns.value()).fold(now_ns, u64::min)
    }

    /// Every reply that had arrived by then stands in every sink that still works; where none does, in every sink.
    pub fn durable_ns(&self) -> u64 {
        let working = self.sinks.iter().filter(|sink| sink.failed.value() == 0);
        let earliest = |least: Option<u64>, sink: &CachePadded<SinkCounters>| {
            Some(least.unwrap_or(u64::MAX).min(sink.durable_ns.value()))
        };
        working.fold(None, earliest).or_else(|| self.sinks.iter().fold(None, earliest)).unwrap_or(0)
    }

    /// A counter summed over the receive threads.
    pub fn rx_total(&self, counter: impl Fn(&RxCounters) -> &Counter) -> u64 {
        self.rx.iter().map(|set| counter(set).value()).sum()
    }
}
