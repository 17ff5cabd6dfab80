//! THE transmit loop. `step` is called again and again by a thread, or by the simulated world: it reads no clock.
//!
//! Invariant: no state per target. What waits (for the link, for a neighbour) waits as a cursor, eight bytes, in a
//! bounded list; when that is full no new target is taken.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::batch::{Batch, Family, LANES, Source, low_32};
use crate::checkpoint::Log;
use crate::closing::{Closing, HalfOpen};
use crate::event::Record;
use crate::generate::Generator;
use crate::link::{Accepted, LinkError, Stall, TxQueue};
use crate::neighbour::{Lookup, Neighbours, Parked};
use crate::order::{Take, Walk};
use crate::pace::{Grant, Pace};
use crate::path::{Path, Paths};
use crate::queue::Queue;
use crate::restraint::{PrefixCap, Restraint};
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
    /// Connections to close before others: those whose RST the link refused.
    unclosed: Vec<HalfOpen>,
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
    /// Connections to close, from the receive threads.
    pub closing: Arc<Closing>,
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
    /// Says that the network changed and nothing may leave for the moment.
    pub pause: Arc<AtomicBool>,
    /// The scan's counters and which transmit thread this is.
    pub stats: (Arc<Stats>, usize),
    /// What holds probes back.
    pub restraint: Restraint,
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
        let (unclosed, answered, given_up) = (Vec::new(), Vec::new(), Vec::new());
        let waited = vec![false; batches];
        Tx { parts, round, accepted, ready, unclosed, waited, answered, given_up }
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
        self.parts.log.begin(self.parts.walk.next_step());
        if self.parts.log.is_due(now_ns) {
            // A probe that waits now leaves later than its place in the order says, and so is its reply awaited later.
            let oldest = self.resume_step();
            self.parts.log.mark(now_ns, planted!(49, self.parts.walk.next_step(), oldest));
        }
        self.take_answers();
        if self.parts.stop.load(Ordering::Relaxed) || self.is_done() {
            return Ok(Step::Done);
        }
        // Nothing is dropped between the receive ring and the disk: when the writer falls behind, we wait.
        if planted!(20, false, self.parts.records.above_high_water()) {
            self.counters().pauses.add(1);
            return Ok(Step::Wait(now_ns + PAUSE_NS));
        }
        if self.parts.pause.load(Ordering::Acquire) {
            return Ok(Step::Wait(now_ns + PAUSE_NS));
        }
        if let Some(gate) = self.parts.restraint.renew() {
            self.parts.queue.replace_gate(&gate);
        }
        let granted = match self.parts.pace.grant(now_ns, (LANES * self.round.len()) as u64) {
            Grant::Frames(frames) => frames,
            Grant::Wait(until) => return Ok(Step::Wait(until)),
        };
        // Connections to close come first, then what neighbours ask and are asked: probes wait for them. They are frames
        // like any other to the law.
        let (closed, stall) = self.close_connections(now_ns, granted)?;
        if let Some(stall) = stall {
            self.parts.pace.refund(granted - closed);
            return Ok(wait_out(stall, now_ns));
        }
        let answered = self.answer_neighbours(granted - closed)?;
        let asked = answered + self.ask_neighbours(now_ns, granted - closed - answered)?;
        let (batches, next_pass_ns) = self.fill_round(now_ns, granted - closed - asked);
        self.parts.log.taken(self.parts.walk.next_step());
        let (sent, stall) = self.submit(batches)?;
        let bypass = 0 < batches && 0 < self.round[0].pass[0];
        let unused = planted!(
            3,
            if bypass { granted } else { granted - closed - asked - sent },
            granted - closed - asked - sent
        );
        self.parts.pace.refund(planted!(19, unused + asked, unused));
        self.count_pending();
        Ok(match stall {
            None if closed + asked + sent == 0 => Step::Wait(self.idle_until(now_ns, next_pass_ns)),
            None => Step::Again,
            Some(stall) => wait_out(stall, now_ns),
        })
    }

    /// Closes connections and answers neighbours, at most one round; for the time after the last probe. Done when nothing
    /// waits.
    ///
    /// # Errors
    /// As [`Tx::step`].
    pub fn linger(&mut self, now_ns: u64) -> Result<Step, LinkError> {
        if self.unclosed.is_empty() && self.parts.closing.is_empty() && self.parts.questions.is_empty() {
            return Ok(Step::Done);
        }
        let granted = match self.parts.pace.grant(now_ns, (LANES * self.round.len()) as u64) {
            Grant::Frames(frames) => frames,
            Grant::Wait(until) => return Ok(Step::Wait(until)),
        };
        let answered = self.answer_neighbours(granted)?;
        let (closed, stall) = self.close_connections(now_ns, granted - answered)?;
        self.parts.pace.refund(granted - answered - closed);
        Ok(stall.map_or(Step::Again, |stall| wait_out(stall, now_ns)))
    }

    /// The first step of the walk that is not settled, as far as this thread knows: what a scan that was stopped goes on
    /// with.
    pub fn resume_step(&self) -> u64 {
        let walk = &self.parts.walk;
        let ready = self.ready.iter().map(|&(cursor, pass)| walk.step_of(cursor, pass));
        let ready = ready.chain(self.parts.restraint.deferred());
        let parked = self.parts.neighbours.waiting().map(|parked| walk.step_of(parked.cursor, parked.pass));
        ready.chain(parked).fold(walk.next_step(), u64::min)
    }

    /// Ends the link's queue and notes where the order stands; returns what the queue has to say.
    ///
    /// # Errors
    /// When the link could not keep what it promised to.
    pub fn finish(&mut self, now_ns: u64) -> Result<Option<String>, LinkError> {
        self.parts.log.begin(self.parts.walk.next_step());
        let oldest = self.resume_step();
        self.parts.log.mark(now_ns, oldest);
        self.parts.queue.finish()
    }

    fn is_done(&self) -> bool {
        self.waiting() == 0 && self.parts.walk.is_done()
    }

    /// Probes that wait: for the link, for a neighbour, for their prefix.
    fn waiting(&self) -> usize {
        self.ready.len() + self.parts.neighbours.parked() + self.parts.restraint.waiting()
    }

    fn counters(&self) -> &TxCounters {
        let (stats, thread) = &self.parts.stats;
        &stats.tx[*thread]
    }

    fn count_pending(&self) {
        self.counters().pending.assign(self.waiting() as u64);
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
        stats.tx[*thread].unresolved.add(planted!(33, 0, self.given_up.len() as u64));
        for parked in self.given_up.drain(..) {
            self.parts.log.settle(self.parts.walk.step_of(parked.cursor, parked.pass));
        }
        self.count_pending();
        failure.map_or(Ok(asked), Err)
    }

    /// Sends RSTs for connections that wait to be closed, at most `most`; returns how many left.
    fn close_connections(&mut self, now_ns: u64, most: u64) -> Result<(u64, Option<Stall>), LinkError> {
        if self.unclosed.is_empty() && self.parts.closing.is_empty() {
            return Ok((0, None));
        }
        let mut round = std::mem::take(&mut self.round);
        let (mut filled, mut left) = (0, most);
        while 0 < left && filled < round.len() {
            let most = usize::try_from(left).map_or(LANES, |left| left.min(LANES));
            while self.unclosed.len() < most {
                let Some(half_open) = self.parts.closing.pop() else { break };
                self.unclosed.push(half_open);
            }
            let count = self.unclosed.len().min(most);
            if count == 0 {
                break;
            }
            let batch = &mut round[filled];
            self.parts.generator.fill_resets(&self.unclosed[..count], batch);
            self.unclosed.drain(..count);
            if self.parts.restraint.excludes_any() {
                retain(batch, |batch, lane| !self.parts.restraint.excludes(self.address(batch, lane)));
            }
            self.resolve_hops(now_ns, batch, Frames::Resets);
            left -= batch.len() as u64;
            filled += usize::from(!batch.is_empty());
        }
        self.round = round;
        self.hand_over(filled, Frames::Resets)
    }

    /// How long there is nothing to do: until the next pass begins, unless somebody is awaited before.
    fn idle_until(&self, now_ns: u64, next_pass_ns: Option<u64>) -> u64 {
        match next_pass_ns {
            Some(begins_ns) if self.waiting() == 0 => begins_ns,
            _ => now_ns + PAUSE_NS,
        }
    }

    /// Fills batches with at most `most` probes in all. Returns how many batches are filled, and when the next pass
    /// begins, if it must be awaited.
    fn fill_round(&mut self, now_ns: u64, most: u64) -> (usize, Option<u64>) {
        self.take_due(now_ns, most);
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
            self.restrain(now_ns, batch, waited);
            if waited {
                self.note_flight(batch);
            }
            filled += usize::from(!batch.is_empty());
        }
        self.round = round;
        if self.ready.is_empty() {
            self.parts.neighbours.none_ready();
        }
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
        } else if !self.parts.neighbours.is_full() && !self.parts.restraint.is_full() {
            match self.parts.walk.take(now_ns, most.min(LANES as u64)) {
                Take::Chunk(chunk) => self.parts.generator.fill(chunk, batch),
                Take::Control { first, count } => {
                    let first = self.parts.walk.shard_size() + first;
                    let steps = first..first + count;
                    let probes: Vec<_> = steps.filter_map(|step| self.parts.walk.cursor_of(step)).collect();
                    self.parts.generator.fill_scattered(&probes, batch);
                }
                Take::Wait(begins_ns) => return Some(begins_ns),
                Take::End => {}
            }
        }
        None
    }

    /// Takes out of a batch what must not leave, what cannot yet and what should not yet, in this order: nobody is asked
    /// for an address that was excluded, and a prefix is charged for what leaves.
    fn restrain(&mut self, now_ns: u64, batch: &mut Batch, waited: bool) {
        if self.parts.restraint.excludes_any() {
            self.drop_excluded(batch, waited);
        }
        self.resolve_hops(now_ns, batch, Frames::Probes { waited });
        if let Some(cap) = self.parts.restraint.cap() {
            self.defer_above(&cap, now_ns, (batch, waited));
        }
    }

    /// Gives every lane its next hop, and takes those out that have none yet or never will.
    fn resolve_hops(&mut self, now_ns: u64, batch: &mut Batch, frames: Frames) {
        if let Some(Path::Hop(hop)) = self.parts.paths.only()
            && !self.parts.generator.any_asks_link()
        {
            batch.hop = [hop; LANES];
            return;
        }
        let mut kept = 0;
        for lane in 0..batch.len() {
            let hop = match frames {
                Frames::Probes { waited } => self.hop_of(batch, (lane, waited), now_ns),
                Frames::Resets => self.hop_back(batch, lane, now_ns),
            };
            if let Some(hop) = hop {
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
        let (address, path) = self.way_of(batch, lane);
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

    /// Where a lane leads, and how.
    fn way_of(&self, batch: &Batch, lane: usize) -> (IpAddr, Path) {
        let address = self.address(batch, lane);
        let path = match address {
            IpAddr::V4(address) => self.parts.paths.to(address.into()),
            IpAddr::V6(address) => self.parts.paths.to_v6(address.into()),
        };
        (address, path)
    }

    /// The next hop of a RST. One whose neighbour is not known (another thread asked, or it was forgotten) is left out: the
    /// look-up asks, and the target sends its SYN-ACK again.
    fn hop_back(&mut self, batch: &Batch, lane: usize, now_ns: u64) -> Option<u16> {
        match self.way_of(batch, lane) {
            (_, Path::Hop(hop)) => Some(hop),
            (_, Path::ManyStations | Path::Own) => None,
            (address, Path::OnLink) => match self.parts.neighbours.look_up(address, now_ns) {
                Lookup::Hop(hop) => Some(hop),
                Lookup::Unreachable | Lookup::Unknown => None,
            },
        }
    }

    /// Hands the first `batches` to the link; the lanes it did not take are ready to be sent again.
    fn submit(&mut self, batches: usize) -> Result<(u64, Option<Stall>), LinkError> {
        let outcome = self.hand_over(batches, Frames::Probes { waited: false });
        self.count_pending();
        outcome
    }

    fn hand_over(&mut self, batches: usize, frames: Frames) -> Result<(u64, Option<Stall>), LinkError> {
        if batches == 0 {
            return Ok((0, None));
        }
        let outcome = self.parts.queue.submit_round(&self.round[..batches], &mut self.accepted);
        let (mut sent, mut requeued) = (0, 0);
        for index in 0..batches {
            let batch = &self.round[index];
            let lanes = batch.lanes() & self.accepted.get(index).map_or(0, |accepted| accepted.lanes);
            let lanes = planted!(16, batch.lanes(), lanes);
            let refused = batch.lanes() & !lanes;
            let refused = planted!(17, if refused == 0 { 0 } else { batch.lanes() }, refused);
            sent += u64::from(lanes.count_ones());
            requeued += u64::from(refused.count_ones());
            match frames {
                Frames::Probes { .. } if refused != 0 || self.waited[index] => {
                    self.note_waiting(index, refused)
                }
                Frames::Probes { .. } => {}
                Frames::Resets => self.note_unclosed(index, refused),
            }
        }
        match frames {
            Frames::Probes { .. } => {
                self.counters().sent.add(sent);
                self.counters().requeued.add(requeued);
            }
            Frames::Resets => self.counters().resets.add(sent),
        }
        outcome?;
        Ok((sent, self.accepted.iter().find_map(|accepted| accepted.stall)))
    }
}

/// What a round holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frames {
    Probes {
        /// Whether they waited before: then the checkpoint holds them.
        waited: bool,
    },
    /// RSTs that close connections.
    Resets,
}

fn wait_out(stall: Stall, now_ns: u64) -> Step {
    Step::Wait(now_ns + if stall == Stall::Full { FULL_NS } else { DOWN_NS })
}

/// What holds probes back, and what is noted about those that wait. None of it is reached by a scan without later
/// excludes, caps and refusals.
impl Tx {
    /// The destination of a lane.
    fn address(&self, batch: &Batch, lane: usize) -> IpAddr {
        match self.parts.generator.family(batch.template[lane]) {
            Family::V4 => IpAddr::V4(Ipv4Addr::from(batch.destination_v4[lane])),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(batch.destination_v6[lane])),
        }
    }

    fn step_of(&self, batch: &Batch, lane: usize) -> u64 {
        self.parts.walk.step_of(batch.cursor[lane], batch.pass[lane])
    }

    /// Probes whose prefix is due are ready.
    fn take_due(&mut self, now_ns: u64, most: u64) {
        for _ in 0..most {
            let Some(step) = self.parts.restraint.take_due(now_ns) else { return };
            self.ready.extend(self.parts.walk.cursor_of(step));
        }
    }

    /// Counts and takes out the lanes whose address was excluded while the scan ran.
    #[cold]
    fn drop_excluded(&mut self, batch: &mut Batch, waited: bool) {
        retain(batch, |batch, lane| {
            let excluded = self.parts.restraint.excludes(self.address(batch, lane));
            if excluded {
                self.counters().excluded_later.add(1);
                if waited {
                    self.parts.log.settle(self.step_of(batch, lane));
                }
            }
            !excluded
        });
    }

    /// Puts the lanes off whose prefix has had its share.
    #[cold]
    fn defer_above(&mut self, cap: &PrefixCap, now_ns: u64, (batch, waited): (&mut Batch, bool)) {
        let mut asking = cap.asking(now_ns);
        retain(batch, |batch, lane| {
            let Err(due_ns) = asking.ask(self.address(batch, lane), waited) else { return true };
            let step = self.step_of(batch, lane);
            self.parts.restraint.defer(due_ns, step);
            if !waited {
                self.parts.log.wait(step);
            }
            false
        });
    }

    /// Probes that waited are about to be handed over.
    #[cold]
    fn note_flight(&self, batch: &Batch) {
        for lane in 0..batch.len() {
            let step = self.parts.walk.step_of(batch.cursor[lane], batch.pass[lane]);
            self.parts.log.in_flight(step, true);
        }
    }

    /// The refused lanes of a batch of RSTs wait.
    fn note_unclosed(&mut self, index: usize, refused: u64) {
        let batch = &self.round[index];
        let lanes = (0..batch.len()).filter(|lane| refused & 1 << lane != 0);
        let half_open = |lane: usize| HalfOpen { number: batch.cursor[lane].0, pass: batch.pass[lane] };
        self.unclosed.extend(lanes.map(half_open));
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

/// Keeps the lanes of a batch that pass.
fn retain(batch: &mut Batch, mut passes: impl FnMut(&Batch, usize) -> bool) {
    let mut kept = 0;
    for lane in 0..batch.len() {
        if passes(batch, lane) {
            batch.copy_lane(lane, kept);
            kept += 1;
        }
    }
    batch.resize(kept);
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
