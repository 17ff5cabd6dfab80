//! The checkpoint of a running scan: made before the first probe, kept up while it runs, closed at the end.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Control, Job, ScanError, note};
use crate::checkpoint::{Birth, CheckpointError, Closing, Progress, Shape};
use crate::event::{Manifest, Status};
use crate::plan::{Plan, Setup};

/// How a scan is to survive its process.
#[derive(Debug, Clone, Default)]
pub struct Persist {
    /// Where the checkpoint goes; none for a scan that cannot be gone on with.
    pub place: Option<PathBuf>,
    /// What is written into it; the identifier of the first run is filled in when it is empty.
    pub birth: Birth,
    /// Which run of the scan this is, from 1; 0 means 1.
    pub run: u64,
    /// Steps before the plan's first one that the run before left behind, ascending.
    pub waiting: Vec<u64>,
    /// Whether a note stays when the scan is complete, for `swath merge`.
    pub keep_note: bool,
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
    let shape = Shape { threads: threads.max(1), waiting, window_ns, first_step: plan.first_step, run };
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
    let steps = plan.shard_targets().saturating_mul(u64::from(plan.passes));
    (parked + ROUND).min(usize::try_from(steps).unwrap_or(usize::MAX))
}

/// The thread that syncs: outputs first, then the slot that a power failure leaves.
pub(super) fn keep(job: &Job<'_>, control: &Control) {
    let Some(path) = job.progress.path() else { return };
    let outputs = &job.persist.birth.outputs;
    let (mut next_ns, mut told) = (SYNC_EVERY_NS, false);
    while !control.ended.load(Ordering::Acquire) {
        std::thread::park_timeout(NAP);
        if job.now_ns() < next_ns {
            continue;
        }
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
const NAP: Duration = Duration::from_millis(50);
