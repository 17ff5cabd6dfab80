//! `swath bench rx`: how fast replies are judged, in memory: reading, cookie, plan, "seen" table, queue to the writer. No
//! interface, no privilege; nothing leaves the process.
//!
//! Distinct targets in random order, one reply in ten a repetition, one in ten forged. Frames are made and the queue is
//! emptied outside of the measured time, in this thread.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;

use super::{Spread, json};
use crate::batch::Source;
use crate::cli::{BenchRx, Request, build};
use crate::closing::Closing;
use crate::command::{Exit, complain};
use crate::cookie::{CookieKey, SourcePorts};
use crate::dedup::{self, Dedup};
use crate::link::{FrameSpan, LinkError, Received, RxQueue};
use crate::order::Order;
use crate::probe::Judge;
use crate::queue::Queue;
use crate::rx::{Rx, RxParts};
use crate::stats::{PortCounts, Stats};
use crate::sys::clock;
use crate::sys::perf::Instructions;
use crate::target::{Cursor, Target};
use crate::wire::ethernet::{self, Mac};
use crate::wire::{self, ipv4, tcp};

/// Everything there is to say.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    rounds: u32,
    /// Replies of a round.
    replies: u64,
    accepted: u64,
    duplicate: u64,
    invalid: u64,
    /// Replies a second of processor time of one thread.
    rate: Spread,
    cpu_ns: f64,
    instructions: Option<f64>,
}

/// Runs the command.
pub(super) fn run(args: &BenchRx) -> Exit {
    match measure(args) {
        Ok(report) => {
            let text = if args.json { json(&report) } else { table(&report) };
            let _ = std::io::stdout().write_all(text.as_bytes());
            Exit::Done
        }
        Err(error) => {
            complain(&format!("swath: {error}\n"));
            Exit::Failed
        }
    }
}

/// Frames that were made for one poll after the other.
#[derive(Default)]
struct Made {
    bytes: Vec<u8>,
    spans: Vec<FrameSpan>,
    next: usize,
}

struct FromMemory {
    made: Arc<Mutex<Made>>,
    bytes: Vec<u8>,
    spans: Vec<FrameSpan>,
}

impl RxQueue for FromMemory {
    fn poll(&mut self, _: Duration) -> Result<Received<'_>, LinkError> {
        let mut made = self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if made.next == 0 {
            // The whole chunk changes hands once.
            std::mem::swap(&mut self.bytes, &mut made.bytes);
            std::mem::swap(&mut self.spans, &mut made.spans);
        }
        let first = made.next.min(self.spans.len());
        let last = (first + POLL).min(self.spans.len());
        made.next = last;
        Ok(Received::new(&self.bytes, &self.spans[first..last]))
    }

    fn drops(&mut self) -> Result<Option<u64>, LinkError> {
        Ok(Some(0))
    }
}

/// What all rounds share.
struct Scene {
    plan: crate::plan::Plan,
    key: CookieKey,
    ports: SourcePorts,
    order: Order,
}

fn scene() -> Result<Scene, String> {
    // 13,107,200 targets: an exact table of what was seen, as for any plan that fits it.
    let words = ["swath", "plan", "198.18.0.0/15", "-p", "1-100", "--seed", "1"].map(Into::into);
    let Request::Plan(args) = crate::cli::parse(words)? else { return Err("a plan that is none".into()) };
    let plan = build::plan(&args).map_err(|error| error.to_string())?;
    let order = plan.order();
    Ok(Scene { plan, key: CookieKey::new([7; 16]), ports: SourcePorts::new(16384, 16384)?, order })
}

fn measure(args: &BenchRx) -> Result<Report, String> {
    let scene = scene()?;
    let distinct = args.replies.min(scene.plan.space.len() * 8 / 10);
    let (mut rates, mut all_ns, mut instructions) = (Vec::new(), 0, Some(0));
    let mut counts = (0, 0, 0, 0);
    for _ in 0..args.rounds {
        let round = round(&scene, distinct)?;
        rates.push(round.replies as f64 * 1e9 / round.cpu_ns as f64);
        all_ns += round.cpu_ns;
        instructions = instructions.zip(round.instructions).map(|(all, more)| all + more);
        counts = (round.replies, round.accepted, round.duplicate, round.invalid);
    }
    let (replies, accepted, duplicate, invalid) = counts;
    let all = (replies * u64::from(args.rounds)) as f64;
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        rounds: args.rounds,
        replies,
        accepted,
        duplicate,
        invalid,
        rate: Spread::of(rates),
        cpu_ns: all_ns as f64 / all,
        instructions: instructions.map(|number| number as f64 / all),
    })
}

struct Round {
    replies: u64,
    accepted: u64,
    duplicate: u64,
    invalid: u64,
    cpu_ns: u64,
    instructions: Option<u64>,
}

fn round(scene: &Scene, distinct: u64) -> Result<Round, String> {
    let made = Arc::new(Mutex::new(Made::default()));
    let stats = Arc::new(Stats::new(1, 1, 1));
    let records = Queue::new(RECORDS);
    let source = IpAddr::from(SOURCE);
    let mut rx = Rx::new(RxParts {
        queue: Box::new(FromMemory { made: Arc::clone(&made), bytes: Vec::new(), spans: Vec::new() }),
        reader: wire::Reader::Ethernet,
        probes: scene.plan.probes.clone(),
        judge: Judge::new(scene.key, scene.ports, 1, vec![source]),
        space: Arc::clone(&scene.plan.space),
        dedup: Dedup::new(scene.plan.space.len(), dedup::DEFAULT_BYTES),
        records: records.clone(),
        answers: Vec::new(),
        answers_for: Vec::new(),
        questions: Queue::new(2),
        answered: Arc::new(PortCounts::new(scene.plan.space.port_targets(), 1)),
        closing: Arc::new(Closing::new(1)),
        stats: (Arc::clone(&stats), 0),
        epoch_offset_ns: 0,
    });
    let mut counter = Instructions::counter();
    let (mut cpu_ns, mut instructions, mut first) = (0, counter.as_ref().map(|_| 0), 0);
    while first < distinct {
        let count = CHUNK.min(distinct - first);
        fill(scene, &made, first..first + count);
        let frames = &stats.rx[0].frames;
        let (before, started_ns) = (counter.as_mut().and_then(Instructions::value), clock::thread_cpu_ns());
        let mut seen = frames.value();
        loop {
            rx.step(0, Duration::ZERO).map_err(|error| error.to_string())?;
            if std::mem::replace(&mut seen, frames.value()) == frames.value() {
                break;
            }
        }
        cpu_ns += clock::thread_cpu_ns() - started_ns;
        let after = counter.as_mut().and_then(Instructions::value);
        instructions = instructions.zip(before.zip(after)).map(|(sum, (before, after))| sum + after - before);
        while records.pop().is_some() {}
        first += count;
    }
    let rx = &stats.rx[0];
    let invalid = rx.invalid.iter().map(crate::stats::Counter::value).sum();
    Ok(Round {
        replies: rx.frames.value(),
        accepted: rx.accepted.value(),
        duplicate: rx.duplicate.value(),
        invalid,
        cpu_ns,
        instructions,
    })
}

/// Makes the replies to the probes of these cursors; of every eight, one comes twice and one more is forged.
fn fill(scene: &Scene, made: &Mutex<Made>, cursors: std::ops::Range<u64>) {
    let mut made = made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    made.bytes.clear();
    made.spans.clear();
    made.next = 0;
    let mut frame = template();
    let mut push = |target: &Target, forged: u32| {
        let cookie = scene.key.cookie(target);
        let IpAddr::V4(address) = target.address else { return };
        frame[26..30].copy_from_slice(&address.octets());
        frame[34..36].copy_from_slice(&target.port.number.to_be_bytes());
        frame[36..38].copy_from_slice(&scene.ports.port(cookie, 0).to_be_bytes());
        let acknowledged = cookie.sequence().wrapping_add(1) ^ forged;
        frame[42..46].copy_from_slice(&acknowledged.to_be_bytes());
        let span = FrameSpan { offset: made.bytes.len(), length: frame.len(), time_ns: 1 };
        made.spans.push(span);
        made.bytes.extend_from_slice(&frame);
    };
    for cursor in cursors {
        let target = scene.plan.space.select(scene.order.target(Cursor(cursor)));
        push(&target, 0);
        match cursor % 8 {
            3 => push(&target, 0),
            5 => push(&target, 0x10_0000),
            _ => {}
        }
    }
}

/// A SYN-ACK to us with the options most stacks answer.
fn template() -> Vec<u8> {
    let segment = tcp::header(tcp::flag::SYN | tcp::flag::ACK, 64_240, &[2, 4, 5, 0xb4]);
    let source = Source { address: SOURCE.into(), mac: Mac::default(), vlan: None };
    let mut frame = ethernet::header(source.mac, source.mac, ethernet::IPV4).to_vec();
    frame.extend(ipv4::header(&ipv4::Fields {
        source: Ipv4Addr::UNSPECIFIED,
        destination: SOURCE,
        protocol: 6,
        ttl: 57,
        identification: 0,
        payload_length: u16::try_from(segment.len()).unwrap_or(0),
    }));
    frame.extend(segment);
    frame
}

fn table(report: &Report) -> String {
    let mega = |rate: f64| format!("{:.2}", rate / 1e6);
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} M replies a second of one processor, median ({}-{}); {:.1} ns a reply{}",
        mega(report.rate.median),
        mega(report.rate.min),
        mega(report.rate.max),
        report.cpu_ns,
        report.instructions.map_or_else(String::new, |number| format!(", {number:.0} instructions"))
    );
    let _ = writeln!(
        text,
        "{} replies = {} accepted + {} duplicate + {} invalid; {} rounds; swath {}",
        report.replies, report.accepted, report.duplicate, report.invalid, report.rounds, report.version
    );
    text
}

const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Cursors whose replies are made at a time; the queue to the writer, as large as in a scan, holds them.
const CHUNK: u64 = 1 << 15;
const RECORDS: usize = 1 << 16;
/// Frames of a poll: a block of the receive ring holds as many.
const POLL: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reply_ends_as_it_was_made() {
        let report = measure(&BenchRx { replies: 80_000, rounds: 1, json: false }).expect("a report");
        assert_eq!((report.replies, report.accepted), (100_000, 80_000));
        assert_eq!((report.duplicate, report.invalid), (10_000, 10_000));
    }
}
