//! The manifest at the start and at the end, and the closing ledger in words.

use std::net::{Ipv4Addr, Ipv6Addr};

use sha2::{Digest, Sha256};

use super::{Ended, Job};
use crate::event::{
    Course, Invalid, Loss, Manifest, PORTS_IN_SUMMARY, Part, PortSummary, SinkSummary, State, Status, Summary,
};
use crate::order::{self, Walk};
use crate::plan::{Plan, Setup};
use crate::stats::Stats;
use crate::sys::clock;
use crate::target::{Port, PortSet};
use crate::text::{counted, duration, grouped, scaled};

/// The manifest of a scan that begins.
pub(super) fn at_start(plan: &Plan, setup: &Setup, argv: Vec<String>) -> Manifest {
    Manifest {
        scan_uuid: uuid(),
        tool: "swath".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        argv,
        plan_digest: plan.digest(),
        coverage: coverage(plan),
        targets_sha256: hash(|sink| plan.space.feed(&mut |bytes| sink(bytes))),
        excludes: excludes(plan),
        excludes_sha256: hash(|sink| plan.excluded.feed(&mut |bytes| sink(bytes))),
        targets: plan.space.len(),
        shard_targets: plan.shard_targets(),
        excluded_addresses: (plan.tally.special + plan.tally.never + plan.tally.excluded).to_string(),
        ports: plan.tally.ports.clone(),
        probes: plan.probes.iter().map(|probe| probe.name().to_owned()).collect(),
        seed: plan.seed,
        order: order::VERSION.into(),
        shard: plan.shard.index(),
        shards: plan.shard.count(),
        passes: plan.passes,
        first_step: plan.first_step,
        course: Course { run: 1, control_one_in: plan.control, ..Course::default() },
        rate_pps: setup.rate.frames_per_second(),
        wait_s: setup.wait.as_secs_f64(),
        interface: setup.interface.as_ref().map_or_else(String::new, |interface| interface.name.clone()),
        link: setup.backend.name.to_owned(),
        source_addresses: setup.sources.iter().map(|source| source.address).collect(),
        status: Status::Running,
        started_us: clock::realtime_ns() / 1000,
        finished_us: None,
        summary: None,
    }
}

/// The targets in words, unless there are too many separate ranges.
fn coverage(plan: &Plan) -> Option<Vec<Part>> {
    let (mut parts, mut left) = (Vec::new(), Manifest::RANGES);
    for (addresses, ports) in plan.space.parts() {
        let ranges = addresses.v4.as_slice().len() + addresses.v6.as_slice().len();
        left = left.checked_sub(ranges)?;
        let v4 = addresses.v4.iter().map(|(first, last)| (Ipv4Addr::from(first), Ipv4Addr::from(last)));
        let v6 = addresses.v6.iter().map(|(first, last)| (Ipv6Addr::from(first), Ipv6Addr::from(last)));
        let v4 = v4.map(|(first, last)| format!("{first}-{last}"));
        let addresses = v4.chain(v6.map(|(first, last)| format!("{first}-{last}"))).collect();
        parts.push(Part { addresses, ports: PortSet::from_unsorted(ports.to_vec()).to_string() });
    }
    Some(parts)
}

/// The excluded addresses as blocks, unless there are too many.
fn excludes(plan: &Plan) -> Option<Vec<String>> {
    let blocks: Vec<String> =
        plan.excluded.blocks().take(Manifest::RANGES + 1).map(|block| block.to_string()).collect();
    (blocks.len() <= Manifest::RANGES).then_some(blocks)
}

fn hash(feed: impl FnOnce(&mut dyn FnMut(&[u8]))) -> String {
    let mut hasher = Sha256::new();
    feed(&mut |bytes| hasher.update(bytes));
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes how it ended.
pub(super) fn close(manifest: &mut Manifest, status: Status, summary: Summary) {
    manifest.status = status;
    manifest.finished_us = Some(clock::realtime_ns() / 1000);
    manifest.summary = Some(summary);
}

/// The account of all threads. The sinks' part is filled in by the writer.
pub fn summary(stats: &Stats, walk: &Walk, sending_ns: u64) -> Summary {
    let sent = stats.tx_total(|tx| &tx.sent);
    let invalid = Invalid::ALL.map(|reason| {
        let count = stats.rx_total(|rx| &rx.invalid[reason as usize]);
        (reason.name().to_owned(), count)
    });
    let silent_neighbours = stats.tx_total(|tx| &tx.unresolved);
    let own_addresses = stats.tx_total(|tx| &tx.own_address);
    let per_second = u128::from(sent) * 1_000_000_000 / u128::from(sending_ns.max(1));
    Summary {
        planned: walk.planned(),
        sent,
        excluded_later: stats.tx_total(|tx| &tx.excluded_later),
        pending: stats.tx_total(|tx| &tx.pending),
        failed: silent_neighbours + own_addresses,
        silent_neighbours,
        own_addresses,
        unsent: walk.planned() - walk.taken(),
        frames_seen: stats.rx_total(|rx| &rx.frames),
        not_ours: stats.rx_total(|rx| &rx.not_ours),
        invalid: invalid.into_iter().filter(|(_, count)| 0 < *count).collect(),
        duplicate: stats.rx_total(|rx| &rx.duplicate),
        accepted: stats.rx_total(|rx| &rx.accepted),
        kernel_drops: stats.rx_total(|rx| &rx.kernel_drops),
        drops_unknown: stats.rx_total(|rx| &rx.drops_unknown) != 0,
        interface_drops: stats.interface_drops.value(),
        housekeeping: stats.tx_total(|tx| &tx.housekeeping) + stats.tx_total(|tx| &tx.resets),
        resets: stats.tx_total(|tx| &tx.resets),
        unclosed: stats.rx_total(|rx| &rx.unclosed),
        requeued: stats.tx_total(|tx| &tx.requeued),
        pauses: stats.tx_total(|tx| &tx.pauses),
        forgotten: stats.rx_total(|rx| &rx.evicted),
        rationed: stats.rx_total(|rx| &rx.rationed),
        ration_ms: stats.rx.iter().map(|rx| rx.ration_ms.value()).max().unwrap_or(0),
        hosts_up: stats.rx_total(|rx| &rx.up),
        ports: Vec::new(),
        sinks: Vec::new(),
        resume_step: None,
        loss: loss(stats),
        reached_pps: if sending_ns == 0 { 0 } else { u64::try_from(per_second).unwrap_or(u64::MAX) },
    }
}

/// What became of each port, when this run was the whole scan.
pub(super) fn ports(job: &Job<'_>, status: Status) -> Vec<PortSummary> {
    let plan = job.plan;
    let whole = status == Status::Complete && plan.shard.count() == 1 && plan.first_step == 0;
    if !whole || PORTS_IN_SUMMARY < job.answered.rows().len() {
        return Vec::new();
    }
    let silence = |port: Port| {
        let probe = plan.probes.iter().find(|probe| probe.protocols().contains(&port.protocol));
        probe.map_or(State::Filtered, |probe| probe.silence()).name().to_owned()
    };
    let row = |(port, targets, answered): (Port, u64, u64)| PortSummary {
        port: Port { protocol: port.protocol.wire(), ..port }.to_string(),
        targets,
        answered,
        silent: targets - answered,
        silence: silence(port).to_owned(),
    };
    by_port(job.answered.rows().map(row))
}

/// Joins the rows of several questions for one port: each was asked at the same addresses, and an answer to any of them is
/// the answer of the port, counted once.
fn by_port(rows: impl Iterator<Item = PortSummary>) -> Vec<PortSummary> {
    let mut ports: Vec<PortSummary> = Vec::new();
    for row in rows {
        let Some(known) = ports.iter_mut().find(|known| known.port == row.port) else {
            ports.push(row);
            continue;
        };
        known.targets = known.targets.max(row.targets);
        known.answered = (known.answered + row.answered).min(known.targets);
        known.silent = known.targets - known.answered;
    }
    ports
}

/// What one pass missed, as far as is known.
pub(super) fn loss(stats: &Stats) -> Option<Loss> {
    let recaptured = stats.rx_total(|rx| &rx.later);
    Loss::from_counts(recaptured, recaptured - stats.rx_total(|rx| &rx.both).min(recaptured))
}

/// The closing ledger, for people: each line is an equation that holds, or says that it does not.
pub fn ledger(ended: &Ended) -> String {
    let Ended { summary, open, sending_s, seed, checkpoint, course, .. } = ended;
    let count = |number: u64| grouped(number.into());
    let others = others(summary);
    let mut text = format!(
        "sent {} in {}, {}pps{others}; found {} open\n",
        counted(summary.sent.into(), "probe"),
        duration(*sending_s),
        scaled(summary.reached_pps as f64),
        count(*open)
    );
    let why_failed = match (summary.silent_neighbours, summary.own_addresses) {
        (0, 0) => String::new(),
        (silent, own) => format!(" ({} of silent neighbours, {} of this host)", count(silent), count(own)),
    };
    text.push_str(&format!(
        "probes   {} planned = {} sent + {} excluded later + {} pending + {} failed{why_failed} + {} unsent\n",
        count(summary.planned),
        count(summary.sent),
        count(summary.excluded_later),
        count(summary.pending),
        count(summary.failed),
        count(summary.unsent)
    ));
    let invalid: u64 = summary.invalid.iter().map(|(_, number)| number).sum();
    let reasons: Vec<String> =
        summary.invalid.iter().map(|(name, number)| format!("{} {name}", count(*number))).collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    let mut dropped =
        if summary.drops_unknown { "nobody tells how many".to_owned() } else { count(summary.kernel_drops) };
    if 0 < summary.interface_drops {
        dropped.push_str(&format!(", the interface {} of all traffic", count(summary.interface_drops)));
    }
    text.push_str(&format!(
        "frames   {} seen = {} not ours + {} invalid{reasons} + {} duplicate + {} accepted; the kernel dropped {}\n",
        count(summary.frames_seen),
        count(summary.not_ours),
        count(invalid),
        count(summary.duplicate),
        count(summary.accepted),
        dropped
    ));
    text.push_str(&answers(summary));
    text.push_str(&results(summary));
    if let Some(loss) = &summary.loss {
        text.push_str(&format!(
            "loss     one pass misses {} of what answers (95 %: {} to {}): {} of {} targets that answered a later pass\n",
            percent(loss.estimate),
            percent(loss.low),
            percent(loss.high),
            count(loss.missed),
            count(loss.recaptured)
        ));
    }
    text.push_str(&notes(summary));
    text.push_str(&happened(course));
    if let Some(path) = checkpoint {
        text.push_str(&format!("to go on: swath resume {}\n", path.display()));
    } else if let Some(step) = summary.resume_step {
        text.push_str(&format!("to go on: the same command with --seed {seed} --resume-index {step}\n"));
    }
    match summary.imbalance() {
        None => text.push_str("the ledger balances\n"),
        Some(error) => {
            text.push_str(&format!("THE LEDGER DOES NOT BALANCE: {error}; this is a defect of swath\n"))
        }
    }
    text
}

/// What became of the verdicts in each sink.
fn results(summary: &Summary) -> String {
    let count = |number: u64| grouped(number.into());
    let line = |sink: &SinkSummary| {
        format!(
            "results  {} accepted = {} written to {} + {} filtered + {} suppressed\n",
            count(summary.accepted),
            count(sink.written),
            sink.name,
            count(sink.filtered),
            count(sink.suppressed)
        )
    };
    summary.sinks.iter().map(line).collect()
}

/// Hosts that are up, and what became of each port where there are few.
fn answers(summary: &Summary) -> String {
    let mut text = match summary.hosts_up {
        0 => String::new(),
        up => format!("hosts    {} up\n", grouped(up.into())),
    };
    if summary.ports.len() <= PORTS_IN_LEDGER {
        for PortSummary { port, targets, answered, silent, silence } in &summary.ports {
            let [targets, answered, silent] =
                [targets, answered, silent].map(|count| grouped((*count).into()));
            text.push_str(&format!(
                "port     {port}: {targets} asked = {answered} answered + {silent} without an answer ({silence})\n"
            ));
        }
    }
    text
}

/// More ports than this are in the manifest only.
const PORTS_IN_LEDGER: usize = 12;

/// What happened on the way that a reader of the results may want to know; nothing about what did not.
fn notes(summary: &Summary) -> String {
    let facts = [
        (summary.requeued, "probes were refused by the interface at first and sent again"),
        (summary.unclosed, "half-open connections were left to time out at their targets"),
        (summary.pauses, "times the transmitter waited for the writer"),
        (
            summary.forgotten,
            "targets were forgotten by the bounded table of what was seen and may stand twice",
        ),
    ];
    let told = facts.iter().filter(|(number, _)| 0 < *number);
    let mut text: String =
        told.map(|(number, what)| format!("note     {} {what}\n", grouped((*number).into()))).collect();
    if 0 < summary.rationed {
        text.push_str(&format!(
            "note     {} sent ICMP errors at a constant pace, one in {} ms, whatever ours was: closed UDP ports look silent there. Ask slower \
             (--rate) or again (--passes), or lift the limit at the target (Linux: sysctl net.ipv4.icmp_ratelimit=0)\n",
            counted(summary.rationed.into(), "host"),
            grouped(summary.ration_ms.into())
        ));
    }
    text
}

/// What changed while the scan ran, and who answered for everything.
fn happened(course: &Course) -> String {
    let mut text = String::new();
    for later in &course.excluded_later {
        text.push_str(&format!("note     {} addresses were excluded while it ran\n", later.addresses));
    }
    for event in &course.events {
        text.push_str(&format!("note     {}\n", event.what));
    }
    for (who, held_back) in course.capped.iter().take(CAPPED_SHOWN) {
        text.push_str(&format!(
            "capped   {who} answers for everything: {} open ports held back\n",
            grouped((*held_back).into())
        ));
    }
    let rest: u64 = course.capped.iter().skip(CAPPED_SHOWN).map(|(_, count)| count).sum();
    if 0 < rest + course.capped_more {
        let others = course.capped.len().saturating_sub(CAPPED_SHOWN);
        text.push_str(&format!(
            "capped   {} open ports of {others} others or more held back; the manifest names up to 1,000\n",
            grouped((rest + course.capped_more).into())
        ));
    }
    text
}

/// Capped hosts that are named on standard error.
const CAPPED_SHOWN: usize = 5;

/// The frames sent that are no probes. They take part of the rate, and answers to questions are among the frames that are
/// not ours.
fn others(summary: &Summary) -> String {
    let kinds = [
        (summary.housekeeping - summary.resets, "questions to neighbours"),
        (summary.resets, "RSTs that close connections"),
    ];
    let sent = kinds.into_iter().filter(|(number, _)| 0 < *number);
    sent.map(|(number, what)| format!(" and {} {what}", grouped(number.into()))).collect()
}

fn percent(share: f64) -> String {
    format!("{:.3} %", share * 100.0)
}

/// A random identifier (RFC 9562 version 4).
fn uuid() -> String {
    let random: u128 = rand::random();
    let bits = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

impl Job<'_> {
    /// Probes that were handed out, of those planned.
    pub(super) fn progress(&self) -> (u64, u64) {
        let pending = self.stats.tx_total(|tx| &tx.pending);
        (self.walk.taken().saturating_sub(pending), self.walk.planned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_version_4_and_differ() {
        let (one, other) = (uuid(), uuid());
        assert_ne!(one, other);
        assert_eq!((one.len(), &one[14..15]), (36, "4"));
        assert!("89ab".contains(&one[19..20]), "{one}");
    }

    fn ended(summary: Summary) -> Ended {
        let (remarks, errors) = (Vec::new(), Vec::new());
        let (status, checkpoint, course) = (Status::Complete, None, Course::default());
        Ended { summary, open: 0, sending_s: 1.0, seed: 7, status, checkpoint, course, remarks, errors }
    }

    #[test]
    fn a_ledger_that_does_not_balance_says_so() {
        let text = ledger(&ended(Summary { planned: 2, sent: 1, ..Summary::default() }));
        assert!(text.contains("DOES NOT BALANCE: planned 2"));
        let text = ledger(&ended(Summary { planned: 1, sent: 1, ..Summary::default() }));
        assert!(text.contains("the ledger balances") && !text.contains("to go on"));
        let text = ledger(&ended(Summary { planned: 1, sent: 1, housekeeping: 3, ..Summary::default() }));
        assert!(text.contains("pps and 3 questions to neighbours; found 0 open"));
        assert!(!text.contains("note "), "what did not happen is not told");
        let text =
            ledger(&ended(Summary { planned: 1, sent: 1, requeued: 5, forgotten: 7, ..Summary::default() }));
        assert!(
            text.contains("note     5 probes were refused")
                && text.contains("note     7 targets were forgotten")
        );
    }

    #[test]
    fn a_scan_that_was_stopped_says_how_to_go_on() {
        let summary = Summary { planned: 9, sent: 4, unsent: 5, resume_step: Some(4), ..Summary::default() };
        assert!(ledger(&ended(summary)).contains("--seed 7 --resume-index 4\n"));
    }
}
