//! The simulated Internet: takes the scanner's frames and gives back what would come of them, in virtual time.
//!
//! What a target does is a pure function of (seed, address, port, protocol); what the way does to a frame is one of
//! (seed, the probe that caused it). Both are independent of the order in which probes come and of the time, so the same
//! scan meets the same world. The exceptions, which need a memory: rate-limited errors, and adversaries that overheard
//! earlier answers; with the same order and times they too repeat bit for bit.
//!
//! Invariant: no clock, no thread, no file; knows targets and wire formats, and nothing of how swath judges a reply.

mod adversary;
mod answers;
mod behaviour;
mod draws;
mod limit;
mod neighbour;
mod path;
mod probe;
mod scenario;
mod under_way;

use std::net::Ipv4Addr;
use std::sync::Arc;

use adversary::Memory;
use draws::Draws;
use limit::Limits;
use path::Passage;
use probe::{Sent, Unreadable, address_keys};
use under_way::UnderWay;

use crate::target::{Port, Protocol, Target};
use crate::wire::ethernet::Mac;

pub use adversary::Adversaries;
pub use answers::{Answers, Error, Origin, Segment};
pub use behaviour::{BEHAVIOURS, Behaviour, Kind};
pub use neighbour::{Neighbourhood, mac_of};
pub use path::Path;
pub use probe::Probe;
pub use scenario::{Rule, SCENARIOS, Scenario, ScenarioError};

/// The simulated Internet.
#[derive(Debug)]
pub struct World {
    scenario: Arc<Scenario>,
    under_way: UnderWay,
    answers: Answers,
    memory: Memory,
    limits: Limits,
    tally: Tally,
}

/// What became of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Frames of the scanner that no host would look at: cut short, or a checksum was wrong.
    pub unreadable: u64,
    /// Probes that came into the world.
    pub probes: u64,
    /// Of those, probes that were lost on the way out.
    pub lost: u64,
    /// Questions to neighbours.
    pub questions: u64,
    /// Frames that were sent back, those of adversaries included.
    pub answers: u64,
    /// Of those, frames that were lost on the way back.
    pub answers_lost: u64,
    /// Errors that a router did not send, because it had sent too many.
    pub limited: u64,
}

/// A frame that reaches the scanner.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// When, in nanoseconds on the clock of `now`.
    pub time_ns: u64,
    /// The Ethernet frame.
    pub frame: &'a [u8],
    /// Where it comes from.
    pub origin: Origin,
    /// The target whose probe caused it, or that a stranger acted upon.
    pub about: Target,
}

impl World {
    /// A world at the beginning of time.
    pub fn new(scenario: Arc<Scenario>) -> World {
        World {
            scenario,
            under_way: UnderWay::default(),
            answers: Answers::default(),
            memory: Memory::default(),
            limits: Limits::default(),
            tally: Tally::default(),
        }
    }

    /// What the world is like.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// What became of frames so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Takes a frame that leaves the scanner at `now_ns`.
    pub fn send(&mut self, now_ns: u64, frame: &[u8]) {
        match probe::read(frame) {
            Ok(Sent::Probe(probe)) => self.probe(now_ns, &probe),
            Ok(Sent::Question { mac, address, wanted }) => self.question(now_ns, (mac, address), wanted),
            Err(Unreadable::Malformed | Unreadable::Checksum) => self.tally.unreadable += 1,
        }
    }

    /// When the next frame reaches the scanner.
    pub fn next_ns(&self) -> Option<u64> {
        self.under_way.next_ns()
    }

    /// Number of frames under way to the scanner.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Hands out the next frame that has reached the scanner by `now_ns`; returns whether there was one.
    pub fn arrive(&mut self, now_ns: u64, look: impl FnOnce(Arrival<'_>)) -> bool {
        self.under_way.take(now_ns, |time_ns, frame, (origin, about)| {
            look(Arrival { time_ns, frame, origin, about });
        })
    }

    fn probe(&mut self, now_ns: u64, probe: &Probe<'_>) {
        self.tally.probes += 1;
        let scenario = Arc::clone(&self.scenario);
        let keys = probe.keys();
        let lot = |which: u64| Draws::new(scenario.seed, &[which, keys[0], keys[1], keys[2], keys[3]]);
        let target = probe.target();
        self.answers.clear();
        scenario.adversaries.act(probe, &mut self.memory, &mut lot(ADVERSARIES), &mut self.answers);
        if scenario.path.carries(&mut lot(OUT)) {
            if let Some(rule) = scenario.behaviour(&target) {
                if self.limits.allow(now_ns, probe.destination, rule.behaviour.errors_per_second()) {
                    rule.behaviour.answer(probe, &mut lot(ANSWER), &mut self.answers);
                } else {
                    self.tally.limited += 1;
                }
            }
        } else {
            self.tally.lost += 1;
        }
        let [high, low] = address_keys(probe.destination);
        let round_trip_ns = scenario.path.round_trip_ns(Draws::new(scenario.seed, &[HOST, high, low]));
        let mut draws = lot(BACK);
        for (delay_ns, frame, origin) in self.answers.iter() {
            if origin == Origin::Answer {
                self.memory.hear(frame);
            }
            self.tally.answers += 1;
            match scenario.path.back(round_trip_ns + delay_ns, frame.len(), &mut draws) {
                Some(passage) => deliver(&mut self.under_way, now_ns, (frame, origin, target), passage),
                None => self.tally.answers_lost += 1,
            }
        }
    }

    fn question(&mut self, now_ns: u64, (mac, address): (Mac, Ipv4Addr), wanted: Ipv4Addr) {
        self.tally.questions += 1;
        let neighbours = &self.scenario.neighbours;
        let whom = u64::from(u32::from(wanted));
        let silent = Draws::new(self.scenario.seed, &[NEIGHBOUR, whom]).chance(neighbours.silent);
        // Each question is a lot of its own: the time tells them apart.
        let lost = Draws::new(self.scenario.seed, &[NEIGHBOUR, whom, now_ns]).chance(neighbours.loss);
        if !silent && !lost {
            let frame = neighbour::reply((mac_of(wanted).0, wanted), (mac, address));
            let port = Port { protocol: Protocol::ARP, number: 0 };
            let about = Target { address: wanted.into(), port };
            self.under_way.send(now_ns + neighbours.delay_us * 1000, &frame, (Origin::Neighbour, about));
        }
    }
}

/// Puts a frame on its way, damaged and copied as its passage says.
fn deliver(
    under_way: &mut UnderWay,
    now_ns: u64,
    (frame, origin, about): (&[u8], Origin, Target),
    passage: Passage,
) {
    let Passage { delay_ns, copy_ns, flipped, cut } = passage;
    let mut send = |delay_ns: u64, frame: &[u8], origin| {
        under_way.send(now_ns.saturating_add(delay_ns), frame, (origin, about));
    };
    if let Some(copy_ns) = copy_ns {
        send(copy_ns, frame, origin);
    }
    // What strangers send arrives as they made it: they would send it again if it did not.
    if (flipped.is_none() && cut.is_none()) || origin != Origin::Answer {
        return send(delay_ns, frame, origin);
    }
    let mut damaged = frame[..cut.unwrap_or(frame.len())].to_vec();
    if let Some(byte) = flipped.and_then(|bit| damaged.get_mut(bit / 8)) {
        *byte ^= 1 << (flipped.unwrap_or(0) % 8);
    }
    send(delay_ns, &damaged, Origin::Damaged);
}

/// What lots are drawn about.
const OUT: u64 = 2;
const ANSWER: u64 = 3;
const BACK: u64 = 4;
const HOST: u64 = 5;
const NEIGHBOUR: u64 = 6;
const ADVERSARIES: u64 = 7;

#[cfg(test)]
mod tests;
