//! THE transmit loop. `step` is called again and again by a thread, or by the simulated world: it reads no clock.
//!
//! Invariant: no state per target. What waits (for the link, for a neighbour) waits as a cursor, eight bytes, in a
//! bounded list; when that is full no new target is taken.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::batch::{Batch, Family, LANES, Source, low_32};
use crate::checkpoint::Log;
use crate::event::Record;
use crate::generate::Generator;
use crate::link::{Accepted, LinkError, Stall, TxQueue};
use crate::neighbour::{Lookup, Neighbours, Parked};
use crate::order::{Take, Walk};
use crate::pace::{Grant, Pace};
use crate::path::{Path, Paths};
use crate::queue::Queue;
use crate::stats::{Stats, TxCounters};
use crate::target::Cursor;
use crate::wire::arp::{self, Announcement, Asked};
use crate::wire::{ethernet, nd};

/// One transmit thread's state.
pub struct Tx {
    parts: TxParts,
    /// What is handed to the link together.
    round: Vec<Batch>,
    accepted: Vec<Accepted>,
    /// Cursors to send before new ones: those the link refused, and those whose neighbour answered.
    ready: Vec<(Cursor, u8)>,
    /// For each batch of the round, whether its probes waited before: then the checkpoint holds them.
    waited: Vec<bool>,
    answered: Vec<Parked>,
    given_up: Vec<Parked>,
}

/// What a transmitter is made of.
pub struct TxParts {
    /// Where frames go.
    pub queue: Box<dyn TxQueue>,
    /// Makes probes of cursors.
    pub generator: Generator,
    /// Hands out cursors, each once over all threads.
    pub walk: Arc<Walk>,
    /// The rate law over all threads.
    pub pace: Arc<Pace>,
    /// How destinations are reached.
    pub paths: Paths,
    /// Who the on-link destinations are.
    pub neighbours: Neighbours,
    /// Answers from the receive threads.
    pub answers: Queue<Announcement>,
    /// Neighbours' questions for addresses of ours that no interface has.
    pub questions: Queue<Asked>,
    /// The queue to the writer: above its high-water mark nothing is sent.
    pub records: Queue<Record>,
    /// Where questions to neighbours come from: at most one source of each family.
    pub sources: Vec<Source>,
    /// Says that the user wants no more probes.
    pub stop: Arc<AtomicBool>,
    /// The scan's counters and which transmit thread this is.
    pub stats: (Arc<Stats>, usize),
    /// Where the progress is noted.
    pub log: Log,
    /// What to add to `now` for the time since the Unix epoch, in nanoseconds.
    pub epoch_offset_ns: u64,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Work was done; step again at once.
    Again,
    /// Nothing can be done before this time, in nanoseconds on the clock of `now`.
    Wait(u64),
    /// Every probe was handed to the link or settled, or the user said stop.
    Done,
}

impl Tx {
    /// A transmitter at the start of its work.
    pub fn new(parts: TxParts) -> Tx {
        let batches = parts.queue.round_length().max(1);
        let (round, accepted) = (vec![Batch::empty(); batches], Vec::with_capacity(batches));
        let ready = Vec::with_capacity((batches + 1) * LANES);
        let waited = vec![false; batches];
        Tx { parts, round, accepted, ready, waited, answered: Vec::new(), given_up: Vec::new() }
    }

    /// Takes over steps that the run before left behind; the checkpoint holds them already.
    pub fn carry(&mut self, steps: &[u64]) {
        self.ready.extend(steps.iter().filter_map(|&step| self.parts.walk.cursor_of(step)));
        self.count_pending();
    }

    /// Sends at most one round of batches.
    ///
    /// # Errors
    /// What ends the scan: the interface is gone, or the last gate stopped a frame.
    pub fn step(&mut self, now_ns: u64) -> Result<Step, LinkError> {
        self.parts.log.begin(now_ns, self.parts.walk.next_step());
        self.take_answers();
        if self.parts.stop.load(Ordering::Relaxed) || self.is_done() {
            return Ok(Step::Done);
        }
        // Nothing is dropped between the receive ring and the disk: when the writer falls behind, we wait.
        if self.parts.records.above_high_water() {
            self.counters().pauses.add(1);
            return Ok(Step::Wait(now_ns + PAUSE_NS));
        }
        let granted = match self.parts.pace.grant(now_ns, (LANES * self.round.len()) as u64) {
            Grant::Frames(frames) => frames,
            Grant::Wait(until) => return Ok(Step::Wait(until)),
        };
        // Questions to neighbours come first: probes wait for them. They are frames like any other to the law.
        let answered = self.answer_neighbours(granted)?;
        let asked = answered + self.ask_neighbours(now_ns, granted - answered)?;
        let (batches, next_pass_ns) = self.fill_round(now_ns, granted - asked);
        self.parts.log.taken(self.parts.walk.next_step());
        let (sent, stall) = self.submit(batches)?;
        self.parts.pace.refund(granted - asked - sent);
        self.count_pending();
        Ok(match stall {
            None if asked + sent == 0 => Step::Wait(self.idle_until(now_ns, next_pass_ns)),
            None => Step::Again,
            Some(Stall::Full) => Step::Wait(now_ns + FULL_NS),
            Some(Stall::Down) => Step::Wait(now_ns + DOWN_NS),
        })
    }

    /// The first step of the walk that is not settled, as far as this thread knows: what a scan that was stopped goes on
    /// with.
    pub fn resume_step(&self) -> u64 {
        let walk = &self.parts.walk;
        let ready = self.ready.iter().map(|&(cursor, pass)| walk.step_of(cursor, pass));
        let parked = self.parts.neighbours.waiting().map(|parked| walk.step_of(parked.cursor, parked.pass));
        ready.chain(parked).fold(walk.next_step(), u64::min)
    }

    /// Ends the link's queue and notes where the order stands; returns what the queue has to say.
    ///
    /// # Errors
    /// When the link could not keep what it promised to.
    pub fn finish(&mut self, now_ns: u64) -> Result<Option<String>, LinkError> {
        let step = self.parts.walk.next_step();
        self.parts.log.begin(now_ns, step);
        self.parts.log.mark(now_ns, step);
        self.parts.queue.finish()
    }

    fn is_done(&self) -> bool {
        self.ready.is_empty() && self.parts.neighbours.parked() == 0 && self.parts.walk.is_done()
    }

    fn counters(&self) -> &TxCounters {
        let (stats, thread) = &self.parts.stats;
        &stats.tx[*thread]
    }

    fn count_pending(&self) {
        self.counters().pending.assign((self.ready.len() + self.parts.neighbours.parked()) as u64);
    }

    /// Takes what the receive threads heard of neighbours: the probes that waited for them are ready.
    fn take_answers(&mut self) {
        for _ in 0..LANES {
            let Some(Announcement { address, mac }) = self.parts.answers.pop() else { return };
            self.parts.neighbours.answer(address, mac, &mut self.answered);
            self.ready.extend(self.answered.drain(..).map(|parked| (parked.cursor, parked.pass)));
        }
    }

    /// Answers neighbours who ask for an address of ours, at most `most`; returns how many answers left.
    ///
    /// # Errors
    /// As [`Tx::step`].
    fn answer_neighbours(&mut self, most: u64) -> Result<u64, LinkError> {
        let mut answered = 0;
        while answered < most {
            let Some(asked) = self.parts.questions.pop() else { break };
            let Some(answer) = answer(&self.parts.sources, &asked) else { continue };
            // One that is refused is asked again.
            answered += u64::from(self.parts.queue.send(&answer)?);
        }
        self.counters().housekeeping.add(answered);
        Ok(answered)
    }

    /// What is left to do when no probe is: answers neighbours, within the rate law. Returns when to look again.
    ///
    /// # Errors
    /// As [`Tx::step`].
    pub fn linger(&mut self, now_ns: u64) -> Result<u64, LinkError> {
        if self.parts.questions.is_empty() {
            return Ok(now_ns + PAUSE_NS);
        }
        match self.parts.pace.grant(now_ns, LANES as u64) {
            Grant::Wait(until_ns) => Ok(until_ns),
            Grant::Frames(frames) => {
                let answered = self.answer_neighbours(frames)?;
                self.parts.pace.refund(frames - answered);
                Ok(now_ns + PAUSE_NS)
            }
        }
    }

    /// Asks for the neighbours that are due, at most `most`; returns how many questions left.
    fn ask_neighbours(&mut self, now_ns: u64, most: u64) -> Result<u64, LinkError> {
        let (mut asked, mut failure) = (0, None);
        while asked < most {
            let Some(wanted) = self.parts.neighbours.question(now_ns, &mut self.given_up) else { break };
            let Some(question) = question(&self.parts.sources, wanted) else { continue };
            match self.parts.queue.send(&question) {
                Ok(true) => asked += 1,
                refused => {
                    self.parts.neighbours.ask_again(wanted, now_ns + FULL_NS);
                    failure = refused.err();
                    break;
                }
            }
        }
        // The account comes before the error that ends the scan.
        let (stats, thread) = &self.parts.stats;
        stats.tx[*thread].housekeeping.add(asked);
        stats.tx[*thread].unresolved.add(self.given_up.len() as u64);
        for parked in self.given_up.drain(..) {
            self.parts.log.settle(self.parts.walk.step_of(parked.cursor, parked.pass));
        }
        self.count_pending();
        failure.map_or(Ok(asked), Err)
    }

    /// How long there is nothing to do: until the next pass begins, unless somebody is awaited before.
    fn idle_until(&self, now_ns: u64, next_pass_ns: Option<u64>) -> u64 {
        match next_pass_ns {
            Some(begins_ns) if self.ready.is_empty() && self.parts.neighbours.parked() == 0 => begins_ns,
            _ => now_ns + PAUSE_NS,
        }
    }

    /// Fills batches with at most `most` probes in all. Returns how many batches are filled, and when the next pass
    /// begins, if it must be awaited.
    fn fill_round(&mut self, now_ns: u64, most: u64) -> (usize, Option<u64>) {
        let mut round = std::mem::take(&mut self.round);
        let (mut filled, mut left, mut next_pass_ns) = (0, most, None);
        while 0 < left && filled < round.len() {
            let batch = &mut round[filled];
            let waited = !self.ready.is_empty();
            self.waited[filled] = waited;
            next_pass_ns = self.fill_batch(now_ns, left, batch);
            if batch.is_empty() {
                break;
            }
            left -= batch.len() as u64;
            self.resolve_hops(now_ns, batch, waited);
            if waited {
                self.note_flight(batch);
            }
            filled += usize::from(!batch.is_empty());
        }
        self.round = round;
        (filled, next_pass_ns)
    }

    /// Fills a batch with at most `most` probes: those that waited, or the next of the order. Returns when the next
    /// pass begins, if it must be awaited.
    fn fill_batch(&mut self, now_ns: u64, most: u64, batch: &mut Batch) -> Option<u64> {
        batch.resize(0);
        batch.time_us = low_32((now_ns + self.parts.epoch_offset_ns) / 1000);
        if !self.ready.is_empty() {
            let most = usize::try_from(most).map_or(LANES, |most| most.min(LANES));
            let count = self.ready.len().min(most);
            self.parts.generator.fill_scattered(&self.ready[..count], batch);
            self.ready.drain(..count);
        } else if !self.parts.neighbours.is_full() {
            match self.parts.walk.take(now_ns, most.min(LANES as u64)) {
                Take::Chunk(chunk) => self.parts.generator.fill(chunk, batch),
                Take::Wait(begins_ns) => return Some(begins_ns),
                Take::End => {}
            }
        }
        None
    }

    /// Gives every lane its next hop, and takes those out that have none yet or never will.
    fn resolve_hops(&mut self, now_ns: u64, batch: &mut Batch, waited: bool) {
        if let Some(Path::Hop(hop)) = self.parts.paths.only()
            && !self.parts.generator.any_asks_link()
        {
            batch.hop = [hop; LANES];
            return;
        }
        let mut kept = 0;
        for lane in 0..batch.len() {
            if let Some(hop) = self.hop_of(batch, (lane, waited), now_ns) {
                batch.copy_lane(lane, kept);
                batch.hop[kept] = hop;
                kept += 1;
            }
        }
        batch.resize(kept);
    }

    /// The next hop of a lane; a lane without one is parked or counted. A question to the link itself needs none, but a
    /// link that leads to its target.
    fn hop_of(&mut self, batch: &Batch, (lane, waited): (usize, bool), now_ns: u64) -> Option<u16> {
        let template = batch.template[lane];
        let step = self.parts.walk.step_of(batch.cursor[lane], batch.pass[lane]);
        let (address, path) = match self.parts.generator.family(template) {
            Family::V4 => {
                let address = batch.destination_v4[lane];
                (IpAddr::V4(Ipv4Addr::from(address)), self.parts.paths.to(address))
            }
            Family::V6 => {
                let address = batch.destination_v6[lane];
                (IpAddr::V6(Ipv6Addr::from(address)), self.parts.paths.to_v6(address))
            }
        };
        match path {
            Path::OnLink if self.parts.generator.asks_link(template) => return Some(0),
            Path::Hop(hop) if !self.parts.generator.asks_link(template) => return Some(hop),
            // Nobody beyond the link hears a question to it.
            Path::Hop(_) | Path::ManyStations => self.counters().excluded_later.add(1),
            Path::Own => self.counters().own_address.add(1),
            Path::OnLink => match self.parts.neighbours.look_up(address, now_ns) {
                Lookup::Hop(hop) => return Some(hop),
                Lookup::Unreachable => self.counters().unresolved.add(1),
                Lookup::Unknown => {
                    let parked = Parked { cursor: batch.cursor[lane], pass: batch.pass[lane] };
                    self.parts.neighbours.park(address, parked);
                    self.parts.log.wait(step);
                    return None;
                }
            },
        }
        if waited {
            self.parts.log.settle(step);
        }
        None
    }

    /// Hands the first `batches` to the link; the lanes it did not take are ready to be sent again.
    fn submit(&mut self, batches: usize) -> Result<(u64, Option<Stall>), LinkError> {
        let outcome = self.parts.queue.submit_round(&self.round[..batches], &mut self.accepted);
        let (mut sent, mut requeued) = (0, 0);
        for index in 0..batches {
            let batch = &self.round[index];
            let lanes = batch.lanes() & self.accepted.get(index).map_or(0, |accepted| accepted.lanes);
            let refused = batch.lanes() & !lanes;
            sent += u64::from(lanes.count_ones());
            requeued += u64::from(refused.count_ones());
            if refused != 0 || self.waited[index] {
                self.note_waiting(index, refused);
            }
        }
        self.counters().sent.add(sent);
        self.counters().requeued.add(requeued);
        self.count_pending();
        outcome?;
        Ok((sent, self.accepted.iter().find_map(|accepted| accepted.stall)))
    }
}

impl Tx {
    /// Probes that waited are about to be handed over.
    #[cold]
    fn note_flight(&self, batch: &Batch) {
        for lane in 0..batch.len() {
            let step = self.parts.walk.step_of(batch.cursor[lane], batch.pass[lane]);
            self.parts.log.in_flight(step, true);
        }
    }

    /// The refused lanes of a batch of the round wait; those of a batch that waited and left wait no longer.
    #[cold]
    fn note_waiting(&mut self, index: usize, refused: u64) {
        let (batch, log) = (&self.round[index], &self.parts.log);
        for lane in 0..batch.len() {
            let step = self.parts.walk.step_of(batch.cursor[lane], batch.pass[lane]);
            if refused & 1 << lane != 0 {
                self.ready.push((batch.cursor[lane], batch.pass[lane]));
                if self.waited[index] { log.in_flight(step, false) } else { log.wait(step) }
            } else if self.waited[index] {
                log.settle(step);
            }
        }
    }
}

/// The frame that tells a neighbour who has an address of ours.
fn answer(sources: &[Source], asked: &Asked) -> Option<Vec<u8>> {
    let source = sources.iter().find(|source| source.address == asked.wanted)?;
    let mut frame = match (asked.wanted, asked.by) {
        (IpAddr::V4(own), IpAddr::V4(by)) => arp::answer((source.mac, own), (asked.mac, by)),
        (IpAddr::V6(own), IpAddr::V6(by)) => nd::advertisement((source.mac, own), (asked.mac, by)),
        _ => return None,
    };
    if let Some(vlan) = source.vlan {
        ethernet::tag(&mut frame, vlan);
    }
    Some(frame)
}

/// The frame that asks who has an address, from our source of its family.
pub(crate) fn question(sources: &[Source], wanted: IpAddr) -> Option<Vec<u8>> {
    let source = sources.iter().find(|source| source.address.is_ipv4() == wanted.is_ipv4())?;
    let mut frame = match (source.address, wanted) {
        (IpAddr::V4(address), IpAddr::V4(wanted)) => arp::request(source.mac, address, wanted),
        (IpAddr::V6(address), IpAddr::V6(wanted)) => nd::solicitation(source.mac, address, wanted),
        _ => return None,
    };
    if let Some(vlan) = source.vlan {
        ethernet::tag(&mut frame, vlan);
    }
    Some(frame)
}

/// How long to wait for the writer or for a neighbour: 1 ms.
const PAUSE_NS: u64 = 1_000_000;
/// How long to wait when the interface's queue is full: 50 us, a few dozen frames at gigabit speed.
const FULL_NS: u64 = 50_000;
/// How long to wait when the interface is down: 10 ms.
const DOWN_NS: u64 = 10_000_000;
