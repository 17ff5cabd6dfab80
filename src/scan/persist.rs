//! The checkpoint of a running scan: made before the first probe, kept up while it runs, closed at the end.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::events::Look;
use super::signals::Signals;
use super::{Control, Job, ScanError, note, with};
use crate::checkpoint::{Birth, CheckpointError, Closing, Progress, Shape};
use crate::event::{ExcludedLater, Manifest, State, Status};
use crate::gate::Gate;
use crate::plan::{Plan, Setup};
use crate::restraint::{DEFERRED_MAX, Gates};
use crate::sys::clock;
use crate::target::{AddressSet, Target};
use crate::text::{counted, harmless};

/// How a scan is to survive its process.
#[derive(Default)]
pub struct Persist {
    /// Where the checkpoint goes; none for a scan that cannot be gone on with.
    pub place: Option<PathBuf>,
    /// What is written into it; the identifier of the first run is filled in when it is empty.
    pub birth: Birth,
    /// No step from here on was sent by a run before.
    pub reached: u64,
    /// Which run of the scan this is, from 1; 0 means 1.
    pub run: u64,
    /// Steps before the plan's first one that the run before left behind, ascending.
    pub waiting: Vec<u64>,
    /// Verdicts, target numbers and states, that the outputs hold of probes that are sent again.
    pub seen: Vec<(u64, State)>,
    /// What each output holds of them, in the order of the outputs.
    pub held: Vec<HashSet<(Target, State)>>,
    /// Whether a note stays when the scan is complete, for `swath merge`.
    pub keep_note: bool,
    /// What was excluded after the plan was made, before this run.
    pub later: AddressSet,
    /// Reads everything that is excluded again, or says why it cannot; none without exclude files.
    pub reread: Option<Reread>,
    /// Looks at the host again when the network changed; none where nothing is sent.
    pub look: Option<Look>,
    /// How long to wait for the network before the scan ends with its checkpoint.
    pub net_timeout: Duration,
}

/// Reads the exclude lists again.
pub type Reread = Box<dyn Fn() -> Result<AddressSet, String> + Send + Sync>;

/// What was excluded after the plan was made.
#[derive(Default)]
pub(super) struct Later {
    addresses: AddressSet,
    pub(super) epochs: Vec<ExcludedLater>,
}

/// What was excluded before this run began holds from its first probe on.
pub(super) fn exclude_at_start(job: &Job<'_>, control: &Control) -> Result<(), ScanError> {
    if !job.persist.later.is_empty() {
        exclude(job, control, &job.persist.later)?;
    }
    Ok(())
}

/// Excludes more addresses from the next round of every transmitter on. They stand in the checkpoint before they hold.
fn exclude(job: &Job<'_>, control: &Control, more: &AddressSet) -> Result<(), CheckpointError> {
    let blocks: Vec<String> = more.blocks().map(|block| block.to_string()).collect();
    let noted = job.progress.exclude(&blocks.join(" "));
    with(&control.later, |later| {
        later.addresses = later.addresses.union(more);
        let time_us = clock::realtime_ns() / 1000;
        later.epochs.push(ExcludedLater { time_us, addresses: more.len().to_string() });
        let gate = |set: &AddressSet| Arc::new(Gate::new(set.v4.iter(), set.v6.iter()));
        let last = gate(&job.plan.excluded.union(&later.addresses));
        let later = planted!(42, gate(more), gate(&later.addresses));
        job.excludes.replace(Gates { later, last });
    });
    noted
}

/// Reads the exclude lists again; what is new on them is excluded. Nothing is ever taken off.
fn reread(job: &Job<'_>, control: &Control) {
    let Some(reread) = &job.persist.reread else { return };
    let say = |text: String| {
        let _ = writeln!(std::io::stderr(), "swath: {}", harmless(&text));
    };
    let now = match reread() {
        Ok(now) => now,
        Err(error) => return say(format!("the exclude lists stay as they were: {error}")),
    };
    let known = with(&control.later, |later| job.plan.excluded.union(&later.addresses));
    let more = now.subtract(&known);
    let gone = with(&control.later, |later| later.addresses.subtract(&now));
    if !gone.is_empty() {
        say(format!("{} stay excluded: a list may grow, never shrink", counted(gone.len(), "address")));
    }
    if more.is_empty() {
        return say("the exclude lists name nothing new".into());
    }
    let noted = exclude(job, control, &more);
    say(format!("{} more are excluded from now on", counted(more.len(), "address")));
    if let Err(error) = noted {
        note(
            &control.errors,
            format!("{error}; what was excluded holds, but a resumed scan knows it by the lists only"),
        );
    }
}

/// The progress of a scan that begins, in a file where it is to survive.
pub(super) fn begin(
    plan: &Plan,
    setup: &Setup,
    threads: usize,
    (persist, manifest): (&Persist, &mut Manifest),
) -> Result<Arc<Progress>, ScanError> {
    let run = persist.run.max(1);
    let waiting = waiting_at_most(plan, setup);
    let window_ns = super::nanoseconds(setup.wait);
    let shape = Shape {
        threads: threads.max(1),
        waiting,
        window_ns,
        first_step: plan.first_step,
        reached: persist.reached,
        run,
    };
    let mut birth = persist.birth.clone();
    manifest.course.run = run;
    if birth.scan_uuid.is_empty() {
        birth.scan_uuid.clone_from(&manifest.scan_uuid);
    } else {
        manifest.course.continues = Some(birth.scan_uuid.clone());
    }
    let progress = match &persist.place {
        Some(path) => Progress::create(path, shape, &birth, &persist.waiting)?,
        None => Progress::in_memory(shape)
            .map_err(|source| ScanError::System { operation: "make room for the progress", source })?,
    };
    Ok(Arc::new(progress))
}

/// How many probes of one thread may wait at a time, at most.
fn waiting_at_most(plan: &Plan, setup: &Setup) -> usize {
    // One round is filled before the first of it is refused.
    const ROUND: usize = 4096;
    let parked = if setup.paths.only().is_some() { 0 } else { 1 << 16 };
    let deferred = if setup.prefix_cap.is_some() { DEFERRED_MAX } else { 0 };
    let probes = plan.shard_targets().saturating_mul(u64::from(plan.passes_told()));
    (parked + deferred + ROUND).min(usize::try_from(probes).unwrap_or(usize::MAX))
}

/// The thread for what takes its time: reads exclude lists again when asked to, and every few seconds syncs the outputs
/// first, then the slot that a power failure leaves.
pub(super) fn keep(job: &Job<'_>, control: &Control, signals: &Signals) {
    let (mut next_ns, mut told, mut reread_for) = (SYNC_EVERY_NS, false, 0);
    while !control.ended.load(Ordering::Acquire) {
        std::thread::park_timeout(NAP);
        let asked = signals.rereads();
        if reread_for < asked {
            reread_for = asked;
            reread(job, control);
        }
        let Some(path) = job.progress.path().filter(|_| next_ns <= job.now_ns()) else { continue };
        let outputs = &job.persist.birth.outputs;
        let step = job.progress.safe_step();
        let synced = outputs.iter().try_for_each(|output| sync_output(output));
        match synced.and_then(|()| job.progress.sync(step)) {
            Ok(()) => {}
            Err(error) if !told => {
                told = true;
                note(&control.remarks, format!("checkpoint {}: cannot sync: {error}", path.display()));
            }
            Err(_) => {}
        }
        next_ns = job.now_ns() + SYNC_EVERY_NS;
    }
}

/// Waits until the disk has what was written to a file, by whichever descriptor. One that is not there is no output any
/// more (a database's write-ahead log, for one).
fn sync_output(path: &str) -> std::io::Result<()> {
    for path in [path.to_owned(), format!("{path}-wal")] {
        match File::open(&path) {
            Ok(file) => file.sync_data()?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Closes the checkpoint: takes it away when nothing is left to do, or leaves it as it is needed. Returns where it
/// stands, if a scan can go on with it.
pub(super) fn end(
    job: &Job<'_>,
    awaited: bool,
    manifest: &Manifest,
) -> Result<Option<PathBuf>, CheckpointError> {
    let progress = &job.progress;
    if manifest.status == Status::Complete {
        if job.persist.keep_note {
            let manifest = serde_json::to_value(manifest).unwrap_or_default();
            progress.close(&Closing { outputs: job.persist.birth.outputs.clone(), manifest })?;
        } else {
            progress.remove();
        }
        return Ok(None);
    }
    let Some(path) = progress.path() else { return Ok(None) };
    if awaited {
        progress.settled();
    }
    // Every output was synced when it was finished.
    progress.sync(progress.safe_step()).map_err(|error| CheckpointError::new(path, error))?;
    Ok(Some(path.to_owned()))
}

/// How often outputs and checkpoint are synced: a power failure costs so much, and the time a sync takes.
const SYNC_EVERY_NS: u64 = 5_000_000_000;
/// How soon a request is seen: with the transmitter's own naps and the reading of a list well within 100 ms.
const NAP: Duration = Duration::from_millis(20);
