//! What stands behind a spool: the trait [`Receiver`], which a server or a directory of parts implements, and the thread
//! that carries a spool's records to it ([`Delivery`]).
//!
//! Exactly once. A receiver takes chunks of consecutive records and knows how many it has ([`Receiver::open`] tells):
//! after any failure the count is asked for again, and delivery goes on there. So a commit whose answer was lost, a
//! server that was killed in the middle, and a spool that is replayed twice all leave every record once.
//!
//! Invariant: reads no clock; every wait is bounded and ends early when the spool closes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use std::io;

use super::SinkError;
use super::file::shown;
use crate::event::{Manifest, Record, Untrusted};
use crate::spool::{self, Item, SpoolReader};

/// Where records finally go: a server, or a directory of parts.
pub trait Receiver: Send {
    /// Connects, makes what is missing, announces the scan, and tells how many of its records are there already.
    ///
    /// # Errors
    /// With [`SinkErrorKind::Refused`](super::SinkErrorKind::Refused) for what no waiting mends: a wrong password, a
    /// table of somebody else. Anything else is tried again.
    fn open(&mut self, manifest: &Manifest) -> Result<u64, SinkError>;

    /// Takes all of these records, whose first is number `first` of the scan, or none of them.
    fn deliver(&mut self, first: u64, records: &[Record]) -> Result<(), SinkError>;

    /// Takes bytes that targets sent. Those without room for them ignore them. Taken twice, they stand there once.
    fn attach(&mut self, attachments: &[Attached]) -> Result<(), SinkError> {
        let _ = attachments;
        Ok(())
    }

    /// Writes the closing manifest; `records` of the scan are there.
    fn close(&mut self, manifest: &Manifest, records: u64) -> Result<(), SinkError>;

    /// What is done once everything is there: indexes, for one. Its failure loses nothing.
    fn settle(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// How it wants to be treated.
    fn manner(&self) -> Manner;
}

/// Bytes that a target sent: about whom, what they are, the bytes.
pub type Attached = (Record, String, Untrusted);

/// How a receiver wants to be treated.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// The most records a chunk holds.
    pub chunk: usize,
    /// How long a record waits at most for its chunk to fill.
    pub linger: Duration,
    /// How long the end of a scan waits for a receiver that is in trouble, before it leaves the rest to `swath replay`.
    pub patience: Duration,
    /// Whether it is this machine's own disk: then only an error is trouble, otherwise silence is, too.
    pub local: bool,
}

/// What the spool's writer and the delivery thread know of each other.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// See [`Shared`].
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Records that stand in the spool.
    pub(crate) safe: u64,
    /// Records that the receiver has.
    pub(crate) delivered: u64,
    /// Rises with everything that gets on.
    pub(crate) beats: u64,
    /// The closing manifest, once nothing more will be written.
    pub(crate) closing: Option<Manifest>,
    /// Whether the receiver has all of it and was closed.
    pub(crate) done: bool,
    /// Whether it did what it does after that.
    pub(crate) settled: bool,
    /// Nobody waits any more; the thread ends as soon as it can.
    pub(crate) abandoned: bool,
    /// Why the receiver takes nothing at the moment.
    pub(crate) trouble: Option<SinkError>,
    /// What no waiting mends.
    pub(crate) refused: bool,
    /// What operators should read.
    pub(crate) remarks: Vec<String>,
    /// Attachments and records that a damaged spool lost.
    pub(crate) lost: u64,
}

impl Shared {
    /// The state, for a moment. A thread that panicked while it held it left valid numbers.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes who waits for it.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until `ready` or for that long.
    pub(crate) fn wait(&self, limit: Duration, ready: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let (guard, _) = self
            .changed
            .wait_timeout_while(self.lock(), limit, |state| !ready(state))
            .unwrap_or_else(PoisonError::into_inner);
        guard
    }
}

/// Carries a spool to its receiver.
pub(crate) struct Delivery {
    pub(crate) directory: PathBuf,
    pub(crate) receiver: Box<dyn Receiver>,
    /// In words, without secrets.
    pub(crate) destination: String,
    pub(crate) manifest: Manifest,
    pub(crate) shared: Arc<Shared>,
    /// Whether the first trouble ends it (`swath replay`) or is waited out (a scan).
    pub(crate) persistent: bool,
    /// How long the next trouble is waited out.
    pub(crate) pause: Duration,
}

/// The chunk that is on its way.
#[derive(Default)]
struct Chunk {
    first: u64,
    records: Vec<Record>,
    attachments: Vec<Attached>,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.first + self.records.len() as u64
    }
}

impl Delivery {
    /// Delivers until the spool is closed and empty, or nobody waits any more.
    pub(crate) fn run(mut self) {
        let result = self.deliver_all();
        if let Err(error) = result {
            self.shared.change(|state| {
                state.remarks.push(error.to_string());
                state.trouble = Some(error);
                state.refused = true;
            });
        }
        self.shared.change(|state| state.beats += 1);
    }

    fn deliver_all(&mut self) -> Result<(), SinkError> {
        let mut reader =
            SpoolReader::open(&self.directory).map_err(|error| unreadable(&self.directory, &error))?;
        let Some(mut delivered) = self.opened()? else { return Ok(()) };
        let mut chunk = Chunk::default();
        loop {
            let last = self.fill(&mut reader, &mut chunk)?;
            if chunk.end() <= delivered && !chunk.records.is_empty() {
                // It was there before: a replay, or an answer that got lost.
                chunk.records.clear();
            }
            if !chunk.records.is_empty() || !chunk.attachments.is_empty() {
                match self.delivered(&mut chunk, delivered)? {
                    Some(end) => delivered = end,
                    None => return Ok(()),
                }
            }
            self.shared.change(|state| {
                state.delivered = delivered.max(state.delivered);
                state.beats += 1;
            });
            // What cannot be removed now is removed with the rest.
            let _ = reader.remove_before(delivered);
            if last {
                return self.close(&mut reader, delivered);
            }
            if self.shared.lock().abandoned {
                return Ok(());
            }
        }
    }

    /// Collects the next chunk: full, or all there is after the receiver's time to linger. True when nothing more comes.
    fn fill(&self, reader: &mut SpoolReader, chunk: &mut Chunk) -> Result<bool, SinkError> {
        let Manner { chunk: most, linger, .. } = self.receiver.manner();
        chunk.records.clear();
        chunk.attachments.clear();
        let mut lingered = false;
        loop {
            let (safe, closed, abandoned) = {
                let state = self.shared.lock();
                (state.safe, state.closing.is_some(), state.abandoned)
            };
            while reader.position() < safe || closed {
                let known = chunk.records.len();
                match reader.next(&mut chunk.records).map_err(|error| unreadable(&self.directory, &error))? {
                    Item::Records(first) if known == 0 => chunk.first = first,
                    Item::Records(_) => {}
                    Item::Attachment(attachment) => chunk.attachments.push(*attachment),
                    Item::End => return Ok(closed),
                }
                if most <= chunk.records.len() || most <= chunk.attachments.len() * 64 {
                    return Ok(false);
                }
            }
            let waiting = !chunk.records.is_empty() || !chunk.attachments.is_empty();
            if abandoned || (lingered && waiting) {
                return Ok(false);
            }
            let position = reader.position();
            drop(self.shared.wait(linger, |state| {
                let full = position + (most - chunk.records.len()) as u64 <= state.safe;
                state.abandoned || state.closing.is_some() || full || (!waiting && position < state.safe)
            }));
            lingered = waiting;
        }
    }

    /// Hands a chunk over, however often that takes; returns how many records the receiver then has, `None` when
    /// nobody waits any more.
    fn delivered(&mut self, chunk: &mut Chunk, mut has: u64) -> Result<Option<u64>, SinkError> {
        loop {
            let result = self.hand_over(chunk, has);
            match result {
                Ok(()) => {
                    self.recovered();
                    return Ok(Some(has.max(chunk.end())));
                }
                Err(error) if error.is_refusal() => return Err(error),
                Err(error) => self.trouble(error)?,
            }
            match self.reopened()? {
                Some(count) if count < chunk.first.min(has) => return Err(self.receded(count, has)),
                Some(count) => has = count,
                None => return Ok(None),
            }
        }
    }

    fn hand_over(&mut self, chunk: &mut Chunk, has: u64) -> Result<(), SinkError> {
        if has < chunk.end() {
            let skip = usize::try_from(has.saturating_sub(chunk.first)).unwrap_or(usize::MAX);
            let records = &chunk.records[skip.min(chunk.records.len())..];
            self.receiver.deliver(chunk.first.max(has), records)?;
        }
        if !chunk.attachments.is_empty() {
            self.receiver.attach(&chunk.attachments)?;
        }
        Ok(())
    }

    /// A receiver that has less than it acknowledged was put back, or is another one.
    fn receded(&self, count: u64, had: u64) -> SinkError {
        let cause = format!(
            "it has {count} records of this scan and had acknowledged {had}: was it restored from a backup?"
        );
        SinkError::refused(&self.destination, cause)
    }

    /// Opens the receiver, however long that takes; `None` when nobody waits any more.
    fn opened(&mut self) -> Result<Option<u64>, SinkError> {
        match self.tried()? {
            Some(count) => Ok(Some(count)),
            None => self.reopened(),
        }
    }

    /// The same after trouble. One that opens and takes nothing, as a full disk does, is tried no more often than one
    /// that is gone.
    fn reopened(&mut self) -> Result<Option<u64>, SinkError> {
        loop {
            if self.shared.wait(self.pause, |state| state.abandoned).abandoned {
                return Ok(None);
            }
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            if let Some(count) = self.tried()? {
                return Ok(Some(count));
            }
        }
    }

    /// Opens the receiver once; `None` when it is in trouble.
    fn tried(&mut self) -> Result<Option<u64>, SinkError> {
        match self.receiver.open(&self.manifest) {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.is_refusal() => Err(error),
            Err(error) => self.trouble(error).map(|()| None),
        }
    }

    /// Notes why nothing gets on; told once until it does again.
    fn trouble(&self, error: SinkError) -> Result<(), SinkError> {
        if !self.persistent {
            return Err(error);
        }
        let directory = shown(&self.directory);
        self.shared.change(|state| {
            if state.trouble.is_none() {
                state.remarks.push(format!("{error}; results wait in {directory}"));
            }
            state.trouble = Some(error);
        });
        Ok(())
    }

    /// Something got on.
    fn recovered(&mut self) {
        self.pause = FIRST_PAUSE;
        let destination = &self.destination;
        self.shared.change(|state| {
            if state.trouble.take().is_some() {
                let waiting = state.safe.saturating_sub(state.delivered);
                state.remarks.push(format!("{destination} is back; {waiting} results wait for it"));
            }
        });
    }

    /// Everything is there: tells the receiver how the scan ended, and removes the spool.
    fn close(&mut self, reader: &mut SpoolReader, delivered: u64) -> Result<(), SinkError> {
        let damage = reader.finish().map_err(|error| unreadable(&self.directory, &error))?.clone();
        self.shared.change(|state| {
            state.lost = damage.lost;
            state.remarks.extend(damage.findings.iter().cloned());
        });
        let manifest = self.shared.lock().closing.clone().unwrap_or_else(|| self.manifest.clone());
        loop {
            match self.receiver.close(&manifest, delivered) {
                Ok(()) => break,
                Err(error) if error.is_refusal() => return Err(error),
                Err(error) => self.trouble(error)?,
            }
            match self.reopened()? {
                Some(count) if count < delivered => return Err(self.receded(count, delivered)),
                Some(_) => {}
                None => return Ok(()),
            }
        }
        self.recovered();
        if damage.is_only_torn() {
            // It holds nothing any more; one that stays is delivered again, to no effect.
            let _ = spool::remove(&self.directory);
        }
        self.shared.change(|state| state.done = true);
        if let Err(error) = self.receiver.settle() {
            self.shared.change(|state| state.remarks.push(error.to_string()));
        }
        self.shared.change(|state| state.settled = true);
        Ok(())
    }
}

/// Replays a spool whose writer is gone, once: the first trouble ends it.
pub(crate) fn replay(
    directory: &Path,
    receiver: Box<dyn Receiver>,
    destination: &str,
) -> Result<Replayed, SinkError> {
    let failed = |error: io::Error| unreadable(directory, &error);
    let _lock = spool::lock(directory).map_err(failed)?;
    let manifest = SpoolReader::manifest(directory).map_err(failed)?;
    let shared = Arc::new(Shared::default());
    shared.change(|state| {
        state.safe = u64::MAX;
        state.closing = Some(manifest.clone());
    });
    let directory_given = directory;
    let (directory, destination) = (directory.to_owned(), destination.to_owned());
    let shared_too = Arc::clone(&shared);
    Delivery {
        directory,
        receiver,
        destination,
        manifest,
        shared: shared_too,
        persistent: false,
        pause: FIRST_PAUSE,
    }
    .run();
    let state = &mut *shared.lock();
    match state.trouble.take() {
        Some(error) => Err(error),
        None => Ok(Replayed {
            delivered: state.delivered,
            lost: state.lost,
            kept: spool::is_spool(directory_given),
            findings: std::mem::take(&mut state.remarks),
        }),
    }
}

fn unreadable(directory: &Path, error: &io::Error) -> SinkError {
    SinkError::from_io("read the spool", &shown(directory), error)
}

/// What a replay did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// Records of the scan that the receiver has.
    pub delivered: u64,
    /// Records that stood in damaged blocks.
    pub lost: u64,
    /// Whether the spool was kept, as it is damaged.
    pub kept: bool,
    /// What is damaged, in words.
    pub findings: Vec<String>,
}

/// How long the first trouble of a row is waited out; each next one twice as long.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
