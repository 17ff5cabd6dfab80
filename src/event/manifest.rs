//! What a scan says of itself: what it was asked to do ([`Manifest`]), how it went ([`Course`]), and the closing ledger
//! ([`Summary`]).
//!
//! Invariant: plain data that every sink can store, and that survives its JSON.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What a scan was asked to do and, once it ended, what it did. Written to every sink at the start (status
/// `running`) and rewritten at the end, so that a crashed scan is visible.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// Random identifier of this run, UUID version 4 in its usual text form.
    pub scan_uuid: String,
    /// `swath`.
    pub tool: Cow<'static, str>,
    /// The version of swath that ran.
    pub version: Cow<'static, str>,
    /// The command line, without secrets.
    pub argv: Vec<String>,
    /// Digest of the plan: 64 hexadecimal digits. Equal digests mean equal targets, probes and order.
    pub plan_digest: String,
    /// The targets themselves, excludes taken away: what a comparison of two scans needs to know what each of them
    /// covered. `None` when there are more separate ranges than fit ([`Manifest::RANGES`]); the hash stands always.
    pub coverage: Option<Vec<Part>>,
    /// SHA-256 of the targets, 64 hexadecimal digits.
    pub targets_sha256: String,
    /// Addresses that may never be probed, as blocks; `None` when there are too many.
    pub excludes: Option<Vec<String>>,
    /// SHA-256 of those, 64 hexadecimal digits.
    pub excludes_sha256: String,
    /// Number of targets in the plan (addresses x ports), all shards together.
    pub targets: u64,
    /// Number of targets of this shard.
    pub shard_targets: u64,
    /// Addresses that were removed because they were excluded.
    pub excluded_addresses: String,
    /// The port specification, normalised.
    pub ports: String,
    /// The probes, by name.
    pub probes: Vec<String>,
    /// The seed of the order: public and reproducible. In JSON a string: readers that keep numbers as doubles lose
    /// the low bits of a 64-bit one.
    #[serde(with = "as_text")]
    pub seed: u64,
    /// The version of the order, for example `v1`.
    pub order: Cow<'static, str>,
    /// Which shard, from 1.
    pub shard: u32,
    /// Of how many shards.
    pub shards: u32,
    /// How often each target is probed.
    pub passes: u8,
    /// The step of the order this run began with: not 0 when it goes on with a scan that was stopped.
    pub first_step: u64,
    /// What happened on the way.
    #[serde(flatten)]
    pub course: Course,
    /// The rate that was asked for, in frames a second; `None` means as fast as the link can.
    pub rate_pps: Option<f64>,
    /// How long replies were awaited after the last probe, in seconds.
    pub wait_s: f64,
    /// Name of the interface.
    pub interface: String,
    /// Name of the link.
    pub link: String,
    /// The addresses probes came from.
    pub source_addresses: Vec<IpAddr>,
    /// `running`, `complete`, `interrupted` or `failed`.
    pub status: Status,
    /// Start, microseconds since the Unix epoch, UTC.
    pub started_us: u64,
    /// End, microseconds since the Unix epoch, UTC; `None` while running.
    pub finished_us: Option<u64>,
    /// The closing figures; `None` while running.
    pub summary: Option<Summary>,
}

impl Manifest {
    /// The most separate ranges a manifest lists; a plan with more is known by its hash.
    pub const RANGES: usize = 4096;
}

/// Targets of a plan: each of these addresses with each of these ports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Ranges `first-last` in order, as targets are written on the command line.
    pub addresses: Vec<String>,
    /// The ports, as `-p` takes them.
    pub ports: String,
}

/// A number that stands in JSON as a string of digits.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How a scan took its course: runs, and what changed meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Course {
    /// Which run of the scan this is: above 1 when it went on with one that was stopped or killed.
    pub run: u64,
    /// The identifier of the first run, when this is a later one.
    pub continues: Option<String>,
    /// One of how many targets is probed a second time to measure loss.
    pub control_one_in: Option<u32>,
    /// When addresses were excluded while the scan ran, and how many.
    pub excluded_later: Vec<ExcludedLater>,
    /// Hosts and prefixes whose results were capped, with the number held back, most first.
    pub capped: Vec<(String, u64)>,
    /// How many results were held back of others than those.
    pub capped_more: u64,
    /// What happened to the network meanwhile.
    pub events: Vec<NetworkEvent>,
}

/// Addresses that were excluded while a scan ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExcludedLater {
    /// When, in microseconds since the Unix epoch, UTC.
    pub time_us: u64,
    /// How many addresses, in decimal: an IPv6 block may hold more than a number of JSON.
    pub addresses: String,
}

/// Something that happened to the network while a scan ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkEvent {
    /// When, in microseconds since the Unix epoch, UTC.
    pub time_us: u64,
    /// What, in words.
    pub what: String,
}

/// Where a scan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Started and, if the process is gone, crashed.
    #[default]
    Running,
    /// Every target of the shard was handled.
    Complete,
    /// Stopped on request; the output is valid.
    Interrupted,
    /// Stopped by an error; the output is valid as far as it goes.
    Failed,
}

impl Status {
    /// The word stored in databases.
    pub const fn name(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Complete => "complete",
            Status::Interrupted => "interrupted",
            Status::Failed => "failed",
        }
    }
}

/// The closing ledger of a scan. Each sum is checked before it is printed ([`Summary::imbalance`]).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Targets of this shard.
    pub planned: u64,
    /// Probes the link accepted.
    pub sent: u64,
    /// Targets a filter removed after planning (broadcast addresses of the interface, for one).
    pub excluded_later: u64,
    /// Targets that were taken from the order and still waited when the scan ended.
    pub pending: u64,
    /// Targets that could not be probed: silent neighbours and own addresses together.
    pub failed: u64,
    /// Of those, targets whose on-link neighbour answered no question.
    pub silent_neighbours: u64,
    /// Of those, targets that are this host's own addresses.
    pub own_addresses: u64,
    /// Targets the scan never reached.
    pub unsent: u64,
    /// Frames the receive queue saw.
    pub frames_seen: u64,
    /// Of those, frames that are none of ours.
    pub not_ours: u64,
    /// Of those, frames that claim to answer us and do not, by reason.
    pub invalid: Vec<(String, u64)>,
    /// Of those, repetitions of a verdict already recorded.
    pub duplicate: u64,
    /// Of those, new verdicts.
    pub accepted: u64,
    /// Frames the kernel dropped before we saw them.
    pub kernel_drops: u64,
    /// Whether nobody tells what the kernel dropped; then `kernel_drops` means nothing.
    pub drops_unknown: bool,
    /// Frames the interface had no room for, of all its traffic: some may have been replies.
    #[serde(default)]
    pub interface_drops: u64,
    /// Other frames sent: ARP requests, for one. Inside the rate law, outside `planned`.
    pub housekeeping: u64,
    /// Of those, RSTs that closed half-open connections.
    pub resets: u64,
    /// Half-open connections that swath was to close and left to time out at the target.
    pub unclosed: u64,
    /// Probes the link refused at first and that were sent again; a probe refused twice counts twice.
    pub requeued: u64,
    /// How often the transmitter waited because the writer was behind.
    pub pauses: u64,
    /// Targets the bounded "seen" table forgot: a repetition of such a verdict was written again.
    pub forgotten: u64,
    /// Hosts whose ICMP errors came at a constant pace: they ration them, and closed UDP ports look silent there.
    pub rationed: u64,
    /// The longest time between two errors of one of them, in milliseconds.
    pub ration_ms: u64,
    /// Hosts that are up, of those that were asked.
    pub hosts_up: u64,
    /// What became of each port, for at most [`PORTS_IN_SUMMARY`] of them; empty for a shard or a part of a scan, whose share of
    /// a port nobody counts.
    pub ports: Vec<PortSummary>,
    /// What became of the accepted verdicts, per sink.
    pub sinks: Vec<SinkSummary>,
    /// Probes a second over the sending time.
    pub reached_pps: u64,
    /// Where the order goes on (`--resume-index`); `None` when nothing is left.
    pub resume_step: Option<u64>,
    /// What one pass missed; `None` with a single pass.
    pub loss: Option<Loss>,
}

/// More ports than this are not told one by one.
pub const PORTS_IN_SUMMARY: usize = 1_024;

/// What became of a port's targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSummary {
    /// The port, as `53/udp`.
    pub port: String,
    /// Its targets.
    pub targets: u64,
    /// Of those, targets that answered, whatever they said.
    pub answered: u64,
    /// Of those, targets without an answer.
    pub silent: u64,
    /// What silence means there: `filtered` or `open|filtered`.
    pub silence: String,
}

/// An estimate of what one pass missed, by capture and recapture (docs/loss.md).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// Targets that answered a pass after the first.
    pub recaptured: u64,
    /// Of those, targets that had not answered the first.
    pub missed: u64,
    /// The estimated share of answering targets that one pass misses, 0 to 1.
    pub estimate: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
}

impl Loss {
    /// The estimate from the targets that answered a later pass and those of them that the first had missed; `None`
    /// when no target answered a later pass, which tells nothing.
    ///
    /// The interval is Wilson's (1927) for a share of `missed` in `recaptured` trials: it holds near 0, where the
    /// usual one does not.
    pub fn from_counts(recaptured: u64, missed: u64) -> Option<Loss> {
        if recaptured == 0 {
            return None;
        }
        let (trials, z) = (recaptured as f64, 1.959_964);
        let estimate = missed as f64 / trials;
        let spread = planted!(44, 0.0, z * z / trials);
        let middle = (estimate + spread / 2.0) / (1.0 + spread);
        let half =
            (z / (1.0 + spread)) * (estimate * (1.0 - estimate) / trials + spread / trials / 4.0).sqrt();
        let (low, high) = ((middle - half).max(0.0), (middle + half).min(1.0));
        let low = if missed == 0 { 0.0 } else { low };
        Some(Loss { recaptured, missed, estimate, low, high })
    }
}

/// What became of the accepted verdicts in one sink.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SinkSummary {
    /// The sink, as the user named it.
    pub name: String,
    /// Records written.
    pub written: u64,
    /// Records the user did not ask for (`--show`).
    pub filtered: u64,
    /// Records held back by a cap, or lost by a sink that failed; never silent.
    pub suppressed: u64,
}

impl Summary {
    /// The first equation of the ledger that does not hold, in words; `None` when all balance.
    pub fn imbalance(&self) -> Option<String> {
        let handled = self.sent + self.excluded_later + self.pending + self.failed + self.unsent;
        if self.planned != handled {
            return Some(format!("planned {} but accounted for {handled}", self.planned));
        }
        let invalid: u64 = self.invalid.iter().map(|(_, count)| count).sum();
        let judged = self.not_ours + invalid + self.duplicate + self.accepted;
        if self.frames_seen != judged {
            return Some(format!("saw {} frames but judged {judged}", self.frames_seen));
        }
        self.sinks.iter().find_map(|sink| {
            let stored = sink.written + sink.filtered + sink.suppressed;
            (stored != self.accepted)
                .then(|| format!("accepted {} but sink {} accounts for {stored}", self.accepted, sink.name))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thousand scans with a known loss, drawn by a fixed generator: the interval covers the truth as often as it
    /// says.
    #[test]
    fn the_interval_covers_the_true_loss_in_at_least_930_of_1000_scans() {
        for (targets, loss) in [(2_000u32, 0.01), (2_000, 0.05), (2_000, 0.2), (20_000, 0.002)] {
            let mut covered = 0;
            let mut state = 0x9e37_79b9_7f4a_7c15u64 ^ u64::from(targets);
            let mut lost = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                ((state >> 11) as f64) < loss * (1u64 << 53) as f64
            };
            for _ in 0..1000 {
                let (mut recaptured, mut missed) = (0, 0);
                for _ in 0..targets {
                    let (first, second) = (!lost(), !lost());
                    recaptured += u64::from(second);
                    missed += u64::from(second && !first);
                }
                let estimate = Loss::from_counts(recaptured, missed).expect("many answer");
                covered += u32::from(estimate.low <= loss && loss <= estimate.high);
            }
            assert!(930 <= covered, "{targets} targets, loss {loss}: {covered} of 1000");
        }
    }

    #[test]
    fn without_a_second_answer_nothing_is_claimed() {
        assert_eq!(Loss::from_counts(0, 0), None);
        let none_missed = Loss::from_counts(1000, 0).expect("an estimate");
        assert_eq!((none_missed.estimate, none_missed.low), (0.0, 0.0));
        assert!(0.003 < none_missed.high && none_missed.high < 0.004, "the rule of three: about 3.8 of 1000");
    }

    #[test]
    fn a_manifest_survives_its_json() {
        let manifest = Manifest {
            seed: u64::MAX,
            tool: "swath".into(),
            coverage: Some(vec![Part { addresses: vec!["192.0.2.0-192.0.2.7".into()], ports: "80".into() }]),
            summary: Some(Summary { loss: Loss::from_counts(9, 1), ..Summary::default() }),
            ..Manifest::default()
        };
        let json = serde_json::to_string(&manifest).expect("serializes");
        assert!(json.contains("\"seed\":\"18446744073709551615\""));
        assert_eq!(serde_json::from_str::<Manifest>(&json).expect("reads"), manifest);
    }

    #[test]
    fn a_ledger_that_loses_one_frame_is_named() {
        let mut summary = Summary {
            planned: 3,
            sent: 2,
            unsent: 1,
            frames_seen: 2,
            not_ours: 1,
            accepted: 1,
            ..Summary::default()
        };
        assert_eq!(summary.imbalance(), None);
        summary.frames_seen = 3;
        assert_eq!(summary.imbalance().as_deref(), Some("saw 3 frames but judged 2"));
    }
}
