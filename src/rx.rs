//! THE receive loop. `step` is called again and again by a thread, or by the simulated world: it reads no clock.
//!
//! Every frame ends in exactly one counter. Nothing is dropped here: when the queue to the writer is full, the loop
//! stops draining the ring, so that what is lost is lost in the kernel and counted there.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::closing::{Closing, HalfOpen};
use crate::dedup::Dedup;
use crate::event::{Invalid, Proof, Reason, Record, State};
use crate::link::{LinkError, RxQueue};
use crate::probe::{Judge, Judgement, Probe};
use crate::pulse::Pulse;
use crate::queue::Queue;
use crate::stats::{PortCounts, RxCounters, Stats};
use crate::target::{Port, Space, Target};
use crate::wire::arp::{Announcement, Asked};
use crate::wire::{Frame, Malformed, Reader, Segment, Transport, nd};

/// One receive thread's state.
pub struct Rx {
    queue: Box<dyn RxQueue>,
    judgements: Vec<Judgement>,
    /// Records the queue to the writer had no room for: at most those of one poll.
    backlog: Vec<Record>,
    drops_read_ns: u64,
    epoch_offset_ns: u64,
    desk: Desk,
}

/// What a receiver is made of.
pub struct RxParts {
    /// Where frames come from.
    pub queue: Box<dyn RxQueue>,
    /// Reads a frame of this interface.
    pub reader: Reader,
    /// The probes of the scan.
    pub probes: Vec<Arc<dyn Probe>>,
    /// Believes or rejects replies.
    pub judge: Judge,
    /// The targets of the plan.
    pub space: Arc<Space>,
    /// What was seen before.
    pub dedup: Dedup,
    /// The queue to the writer.
    pub records: Queue<Record>,
    /// Where neighbours' answers go: one queue for each transmit thread.
    pub answers: Vec<Queue<Announcement>>,
    /// Our addresses that no interface has: neighbours ask for them.
    pub answers_for: Vec<IpAddr>,
    /// Where neighbours' questions for them go.
    pub questions: Queue<Asked>,
    /// How many targets of each port answered.
    pub answered: Arc<PortCounts>,
    /// Where half-open connections go that swath closes itself.
    pub closing: Arc<Closing>,
    /// The scan's counters and which receive thread this is.
    pub stats: (Arc<Stats>, usize),
    /// What to add to `now` for the time since the Unix epoch, in nanoseconds.
    pub epoch_offset_ns: u64,
}

/// Everything that judges, apart from the queue whose frames it looks at.
struct Desk {
    reader: Reader,
    probes: Vec<Arc<dyn Probe>>,
    judge: Judge,
    space: Arc<Space>,
    dedup: Dedup,
    pulse: Pulse,
    records: Queue<Record>,
    answers: Vec<Queue<Announcement>>,
    answers_for: Vec<IpAddr>,
    questions: Queue<Asked>,
    answered: Arc<PortCounts>,
    closing: Arc<Closing>,
    stats: (Arc<Stats>, usize),
}

impl Rx {
    /// A receiver at the start of its work.
    pub fn new(parts: RxParts) -> Rx {
        let RxParts {
            queue,
            reader,
            probes,
            judge,
            space,
            dedup,
            records,
            answers,
            answers_for,
            questions,
            answered,
            closing,
            stats,
            epoch_offset_ns,
        } = parts;
        let desk = Desk {
            reader,
            probes,
            judge,
            space,
            dedup,
            pulse: Pulse::default(),
            records,
            answers,
            answers_for,
            questions,
            answered,
            closing,
            stats,
        };
        Rx {
            queue,
            judgements: Vec::with_capacity(CHUNK),
            backlog: Vec::new(),
            drops_read_ns: 0,
            epoch_offset_ns,
            desk,
        }
    }

    /// Takes what was received within `timeout`. Returns whether the loop may go on at once; when not, the writer is
    /// behind and the caller waits a moment.
    ///
    /// # Errors
    /// What ends the scan: the interface is gone.
    pub fn step(&mut self, now_ns: u64, timeout: Duration) -> Result<bool, LinkError> {
        if DROPS_EVERY_NS <= now_ns.wrapping_sub(self.drops_read_ns) {
            self.drops_read_ns = now_ns;
            self.read_drops()?;
        }
        if !self.desk.flush(&mut self.backlog) {
            return Ok(false);
        }
        let received = self.queue.poll(timeout)?;
        let mut segments = [(0, NO_SEGMENT); CHUNK];
        let (mut waiting, mut judged_ns) = (0, now_ns.saturating_sub(RETIRE_NS));
        for (time_ns, frame) in received.iter() {
            // What came before the last frame of the poll is judged by then; the kernel may hold more.
            judged_ns = time_ns.saturating_sub(self.epoch_offset_ns).min(now_ns);
            if self.desk.open(frame, &mut segments[waiting].1) {
                segments[waiting].0 = time_ns;
                waiting += 1;
                if waiting == CHUNK {
                    self.desk.judge_all(&segments, &mut self.judgements, &mut self.backlog);
                    // At once, while they are in the nearest cache.
                    self.desk.flush(&mut self.backlog);
                    waiting = 0;
                }
            }
        }
        self.desk.judge_all(&segments[..waiting], &mut self.judgements, &mut self.backlog);
        let flushed = self.desk.flush(&mut self.backlog);
        if flushed {
            let counter = &self.desk.counters().judged_ns;
            counter.assign(judged_ns.max(counter.value()));
        }
        Ok(flushed)
    }

    /// Whether every record found so far is in the writer's queue.
    pub fn is_flushed(&self) -> bool {
        self.backlog.is_empty()
    }

    /// Reads the kernel's drop counter a last time.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn finish(&mut self) -> Result<(), LinkError> {
        self.read_drops()
    }

    fn read_drops(&mut self) -> Result<(), LinkError> {
        match self.queue.drops()? {
            Some(drops) => self.desk.counters().kernel_drops.assign(drops),
            None => self.desk.counters().drops_unknown.assign(1),
        }
        Ok(())
    }
}

impl Desk {
    fn counters(&self) -> &RxCounters {
        let (stats, thread) = &self.stats;
        &stats.rx[*thread]
    }

    /// Pushes records that waited for room; returns whether none is left.
    fn flush(&self, backlog: &mut Vec<Record>) -> bool {
        let mut pushed = 0;
        while let Some(record) = backlog.get(pushed) {
            if self.records.push(*record).is_err() {
                break;
            }
            pushed += 1;
        }
        backlog.drain(..planted!(21, backlog.len(), pushed));
        backlog.is_empty()
    }

    /// Reads a frame into its place; returns whether it is a segment. What is none is settled here.
    #[inline(always)]
    fn open<'a>(&self, frame: &'a [u8], place: &mut Segment<'a>) -> bool {
        let counters = self.counters();
        counters.frames.add(1);
        match self.reader.read(frame) {
            Ok(Frame::Segment(segment)) => {
                *place = segment;
                if matches!(place.transport, Transport::Arp(_) | Transport::Icmpv6(_)) {
                    self.hear_neighbour(place);
                }
                return true;
            }
            Ok(Frame::Other) => counters.not_ours.add(1),
            Err(Malformed) => counters.invalid[Invalid::Malformed as usize].add(1),
        }
        false
    }

    /// Passes on what a neighbour says of itself, and what it asks.
    fn hear_neighbour(&self, segment: &Segment<'_>) {
        if let Some(announcement) = announcement(segment) {
            for queue in &self.answers {
                // A full queue loses an answer, not a target: the question is asked again.
                let _ = queue.push(announcement);
            }
        }
        if let Some(asked) = asked(segment, &self.answers_for) {
            // As above: who is not answered asks again.
            let _ = self.questions.push(asked);
        }
    }

    /// Judges segments by the probes of the scan. One that recognises a reply settles it; what only looks like one to
    /// some probe may be a reply to the next.
    fn judge_all(
        &mut self,
        segments: &[(u64, Segment<'_>)],
        judgements: &mut Vec<Judgement>,
        accepted: &mut Vec<Record>,
    ) {
        let mut unsettled = (1u128 << segments.len()) - 1;
        let mut refused = [None; CHUNK];
        for probe in &self.probes {
            probe.classify_all(segments, &self.judge, judgements);
            let mut numbers = [None; CHUNK];
            for (number, judgement) in numbers.iter_mut().zip(judgements.iter()) {
                if let Judgement::Reply(record) = judgement {
                    *number = self.space.rank(&record.target());
                    if let Some(number) = *number {
                        self.dedup.touch(number);
                    }
                }
            }
            for (index, judgement) in judgements.iter().enumerate() {
                let bit = 1 << index;
                match judgement {
                    _ if unsettled & bit == 0 => {}
                    Judgement::NotOurs => {}
                    Judgement::Invalid(invalid) => refused[index] = refused[index].or(Some(*invalid)),
                    Judgement::Reply(record) => {
                        unsettled &= !bit;
                        settle(
                            (record, numbers[index]),
                            (&self.space, &mut self.dedup, &mut self.pulse, &self.closing),
                            (&self.stats.0, self.stats.1, &self.answered),
                            accepted,
                        );
                    }
                }
            }
        }
        let counters = self.counters();
        for index in (0..segments.len()).filter(|index| unsettled & 1 << index != 0) {
            match refused[index] {
                None => counters.not_ours.add(1),
                Some(invalid) => counters.invalid[invalid as usize].add(1),
            }
        }
        counters.evicted.assign(self.dedup.evicted());
    }
}

/// Counts a reply and, when it is new, keeps it under the protocol number that everybody knows.
fn settle(
    (record, rank): (&Record, Option<u64>),
    (space, dedup, pulse, closing): (&Space, &mut Dedup, &mut Pulse, &Closing),
    (stats, thread, answered): (&Stats, usize, &PortCounts),
    accepted: &mut Vec<Record>,
) {
    let counters = &stats.rx[thread];
    let Some(number) = planted!(28, rank.or(Some(0)), rank) else {
        // What proves little may be anybody's packet; what proves much and is not in the plan is an alarm.
        if record.proof == Proof::Weak {
            counters.not_ours.add(1);
        } else {
            counters.invalid[Invalid::OutOfPlan as usize].add(1);
        }
        return;
    };
    if record.state == State::Closed
        && record.reason == Reason::PORT_UNREACH
        && let Some(every_ms) = pulse.note(record.responder(), record.time_ns, stats.tx_total(|tx| &tx.sent))
    {
        counters.rationed.add(1);
        counters.ration_ms.assign(counters.ration_ms.value().max(every_ms));
    }
    // Every one: a SYN-ACK that comes again says that the connection still is half open.
    if record.state == State::Open && record.reason == Reason::SYN_ACK && closing.is_ours() {
        let noted = closing.push(HalfOpen { number, pass: record.pass });
        counters.unclosed.add(u64::from(!noted));
    }
    // However many questions say that a host is up, it is one fact; and so is a port that answers several payloads.
    let port = Port { protocol: record.protocol, number: record.port };
    let first = port.of_first_payload();
    let number = match record.state {
        State::Up => space.host(number),
        _ if port != first => {
            space.rank(&Target { address: record.address(), port: first }).unwrap_or(number)
        }
        _ => number,
    };
    let seen = dedup.insert(number, record.state, record.pass);
    if seen.first {
        answered.answered(thread, first);
    }
    count_passes(counters, record.pass, seen.passes_before);
    if seen.new {
        counters.accepted.add(1);
        counters.open.add(u64::from(record.state == State::Open));
        counters.up.add(u64::from(record.state == State::Up));
        accepted.push(*record);
        if let Some(record) = accepted.last_mut() {
            record.protocol = record.protocol.wire();
        }
    } else {
        counters.duplicate.add(1);
    }
}

/// Who asks for one of these addresses, and for which.
fn asked(segment: &Segment<'_>, addresses: &[IpAddr]) -> Option<Asked> {
    if addresses.is_empty() {
        return None;
    }
    let asked = match &segment.transport {
        Transport::Arp(packet) => packet.question(),
        Transport::Icmpv6(message) => nd::solicited(message, segment.ttl, segment.source),
        _ => None,
    };
    asked.filter(|asked| addresses.contains(&asked.wanted))
}

/// What a neighbour says of itself.
pub(crate) fn announcement(segment: &Segment<'_>) -> Option<Announcement> {
    match &segment.transport {
        Transport::Arp(packet) => packet.announcement(),
        Transport::Icmpv6(message) => nd::advertised(message, segment.ttl),
        _ => None,
    }
}

/// Counts for the estimate of what the first pass missed: targets that answered a later pass, and those of them that
/// answered the first as well, whichever answer came first.
fn count_passes(counters: &RxCounters, pass: u8, before: u8) {
    let (first, later) = (before & 1 != 0, 1 < before);
    if pass == 0 && !first && later {
        counters.both.add(1);
    } else if pass != 0 && !later {
        counters.later.add(1);
        counters.both.add(planted!(31, 1, u64::from(first)));
    }
}

/// Segments judged together. One `u128` holds their settled bits.
const CHUNK: usize = 64;
/// How often the kernel's drop counter is read: every 20 ms, so that the transmitter slows soon after a drop.
const DROPS_EVERY_NS: u64 = 20_000_000;
/// How long the kernel may hold a frame before a poll finds it, and more: a block of the ring is handed over after
/// 4 to 7 ms.
const RETIRE_NS: u64 = 20_000_000;
/// What fills the unused places of a chunk.
const NO_SEGMENT: Segment<'static> = Segment {
    source: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
    destination: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
    ttl: 0,
    identification: 0,
    transport: Transport::Other { protocol: 0, payload: &[] },
};
