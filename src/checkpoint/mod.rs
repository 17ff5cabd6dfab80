//! What a scan must know to go on after its process was killed at any instant: a file of words in shared memory
//! ([`Progress`]) and the arithmetic that says where to begin again ([`State::restart`]).
//!
//! The transmitter stores two words a round: before it takes cursors, `low`: every step below it is settled or stands
//! in the table of those that wait; before it hands them to the link, `taken`: no step from here on was sent. A process
//! that dies in between has settled more than `low` says, by one round at most, and nothing less. Each store is one
//! instruction, so a kill finds the words as they were before it or after it (`sys::shared_file`).
//!
//! The page never runs ahead of the results: `durable` is the moment until which every reply that had arrived stands in
//! every output, and a complete restart begins where the order stood the wait time before that.
//!
//! A power failure loses what the kernel had not written back. So every few seconds the outputs are synced, and only
//! then one of two slots, with a sequence and a checksum, says where to begin; after another start of the machine only
//! the slots are believed.
//!
//! Invariant: knows steps and times, not targets; the account of what is planned stays with the order.

mod birth;
mod log;
mod pending;
mod state;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sha2::{Digest, Sha256};

use crate::sys::shared_file::{SharedFile, boot_number};

pub use birth::{Birth, Closing};
pub use log::Log;
pub use state::{Mode, Restart, State, Thread};

/// Why a checkpoint cannot be used. Names the file, and the way out where there is one.
#[derive(Debug, thiserror::Error)]
#[error("checkpoint {path}: {cause}")]
pub struct CheckpointError {
    /// The file.
    pub path: String,
    /// What is wrong.
    pub cause: String,
}

impl CheckpointError {
    /// An error about a file.
    pub fn new(path: &Path, cause: impl std::fmt::Display) -> CheckpointError {
        CheckpointError { path: path.display().to_string(), cause: cause.to_string() }
    }
}

/// How large a scan's progress is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Transmit threads.
    pub threads: usize,
    /// Probes of one thread that may wait at a time.
    pub waiting: usize,
    /// How long replies are awaited, in nanoseconds: the window that a complete restart rewinds.
    pub window_ns: u64,
    /// The step this run begins with.
    pub first_step: u64,
    /// No step from here on was sent by any run before.
    pub reached: u64,
    /// Which run of the scan this is, from 1.
    pub run: u64,
}

/// The words of a running scan. Shared by its threads; each word has one writer.
#[derive(Debug)]
pub struct Progress {
    memory: SharedFile,
    shape: Shape,
    slots: usize,
    path: Option<PathBuf>,
}

impl Progress {
    /// Progress that no file holds: for scans without a checkpoint.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn in_memory(shape: Shape) -> io::Result<Progress> {
        let slots = pending::slots(shape.waiting);
        let memory = SharedFile::anonymous(words(shape.threads, slots))?;
        let progress = Progress { memory, shape, slots, path: None };
        progress.describe(&[]);
        Ok(progress)
    }

    /// Makes the checkpoint of a run that begins, in the place of the one before, if any: until the name changes hands
    /// the old file stands as it was. `waiting` are the steps that the run before left behind `first_step`.
    ///
    /// # Errors
    /// What the disk says.
    pub fn create(
        path: &Path,
        shape: Shape,
        birth: &Birth,
        waiting: &[u64],
    ) -> Result<Progress, CheckpointError> {
        let failed = |error: io::Error| CheckpointError::new(path, error);
        let temporary = sibling(path, "new");
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let slots = pending::slots(shape.waiting.max(waiting.len()));
        let text = birth.to_text().map_err(|error| CheckpointError::new(path, error))?;
        let write = || -> io::Result<Progress> {
            let memory = SharedFile::create(&temporary, words(shape.threads, slots))?;
            let progress = Progress { memory, shape, slots, path: Some(path.to_owned()) };
            let file = progress.memory.file().ok_or(io::ErrorKind::NotFound)?;
            file.write_all_at(text.as_bytes(), progress.memory.words() as u64 * 8)?;
            for (slot, step) in pending::placed(slots, waiting) {
                progress.store(progress.pending_word(0) + slot, step + 1);
            }
            progress.describe(text.as_bytes());
            let floor = waiting.iter().copied().fold(shape.first_step, u64::min);
            progress.store(word::FLOOR, floor);
            progress.memory.sync()?;
            fs::rename(&temporary, path)?;
            sync_directory(path);
            Ok(progress)
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&temporary);
            match error.kind() {
                io::ErrorKind::StorageFull => CheckpointError::new(
                    path,
                    format!("{error}; --checkpoint FILE keeps it elsewhere, 'none' goes without"),
                ),
                _ => failed(error),
            }
        })
    }

    /// Fills in the words that do not change.
    fn describe(&self, text: &[u8]) {
        let Shape { threads, window_ns, first_step, reached, run, .. } = self.shape;
        for (word, value) in [
            (word::VERSION, FORMAT),
            (word::WORDS, self.memory.words() as u64),
            (word::THREADS, threads as u64),
            (word::SLOTS, self.slots as u64),
            (word::TEXT_BYTES, text.len() as u64),
            (word::TEXT_HASH, hash(text)),
            (word::WINDOW_NS, window_ns),
            (word::FIRST_STEP, first_step),
            (word::FLOOR, first_step),
            (word::REACHED, reached),
            (word::RUN, run),
            (word::BOOT, boot_number()),
        ] {
            self.store(word, value);
        }
        for thread in 0..threads {
            self.store(self.thread_word(thread) + word::LOW, first_step);
            self.store(self.thread_word(thread) + word::TAKEN, first_step);
        }
        self.store(word::MAGIC, MAGIC);
    }

    /// Where the file is, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The handle of a transmit thread. One for each.
    pub fn log(self: &Arc<Progress>, thread: usize) -> Log {
        Log::new(Arc::clone(self), thread)
    }

    /// Notes that the process is alive at `now_ns`, in nanoseconds since the run began, and until when every reply that
    /// had arrived stands in every output.
    pub fn alive(&self, now_ns: u64, durable_ns: u64) {
        // In this order: a restart goes by the earlier of the two.
        self.store(word::DURABLE_NS, durable_ns);
        self.store(word::ALIVE_NS, now_ns);
    }

    /// Appends addresses, in the syntax of targets, that were excluded after the scan began.
    ///
    /// # Errors
    /// What the disk says; then the list is as it was.
    pub fn exclude(&self, text: &str) -> Result<(), CheckpointError> {
        let (Some(file), Some(path)) = (self.memory.file(), &self.path) else { return Ok(()) };
        let (text_bytes, tail) = (self.load(word::TEXT_BYTES), self.load(word::TAIL_BYTES));
        let line = format!("{text}\n");
        let place = self.memory.words() as u64 * 8 + text_bytes + tail;
        file.write_all_at(line.as_bytes(), place).map_err(|error| CheckpointError::new(path, error))?;
        self.store(word::TAIL_BYTES, tail + line.len() as u64);
        self.store(word::EPOCH, self.load(word::EPOCH) + 1);
        Ok(())
    }

    /// How often addresses were excluded after the scan began.
    pub fn epoch(&self) -> u64 {
        self.load(word::EPOCH)
    }

    /// Where a complete restart would begin if the process died now, what waits included: one number that is safe
    /// to begin with when nothing else is known. For [`Progress::sync`].
    pub fn safe_step(&self) -> u64 {
        let restart = self.state().restart(Mode::Complete);
        restart.waiting.first().copied().map_or(restart.step, |first| first.min(restart.step))
    }

    /// Writes `step` to the slot that a power failure leaves, after the outputs have been synced, and waits for the
    /// disk.
    ///
    /// # Errors
    /// What the disk says.
    pub fn sync(&self, step: u64) -> io::Result<()> {
        let sequence =
            [0, 1].map(|slot| self.load(word::SYNCED + slot * word::SYNCED_WORDS)).into_iter().max();
        let next = sequence.unwrap_or(0) + 1;
        let slot = word::SYNCED + usize::from(next % 2 == 1) * word::SYNCED_WORDS;
        self.store(slot + 1, step);
        self.store(slot + 2, checksum(next, step));
        self.store(slot, next);
        self.memory.sync()
    }

    /// Takes the checkpoint away: the scan is complete.
    pub fn remove(&self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
            sync_directory(path);
        }
    }

    /// Leaves a closing note in the place of the checkpoint: the scan is complete, and `swath merge` may ask for it.
    ///
    /// # Errors
    /// What the disk says; the checkpoint stands as it was then.
    pub fn close(&self, closing: &Closing) -> Result<(), CheckpointError> {
        let Some(path) = &self.path else { return Ok(()) };
        let failed = |error: io::Error| CheckpointError::new(path, error);
        let text =
            serde_json::to_string_pretty(closing).map_err(|error| CheckpointError::new(path, error))?;
        let temporary = sibling(path, "new");
        let _ = fs::remove_file(&temporary);
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&temporary)
            .map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&temporary, path).map_err(failed)?;
        sync_directory(path);
        Ok(())
    }

    /// Notes that every reply was awaited and stands in every output: the next run repeats nothing.
    pub fn settled(&self) {
        self.alive(u64::MAX, u64::MAX);
    }

    /// What the words say now.
    pub fn state(&self) -> State {
        State::read(self, String::new())
    }

    #[inline]
    fn store(&self, word: usize, value: u64) {
        // Release: what a word vouches for was stored before it.
        self.memory.word(word).store(value.to_le(), Ordering::Release);
    }

    #[inline]
    fn load(&self, word: usize) -> u64 {
        u64::from_le(self.memory.word(word).load(Ordering::Acquire))
    }

    fn thread_word(&self, thread: usize) -> usize {
        word::THREADS_AT + thread * word::THREAD_WORDS
    }

    fn pending_word(&self, thread: usize) -> usize {
        word::THREADS_AT + self.shape.threads * word::THREAD_WORDS + thread * self.slots
    }
}

/// What a checkpoint file holds.
#[derive(Debug)]
pub enum Found {
    /// A scan that is not complete.
    Open(Box<(Birth, State)>),
    /// A scan that is.
    Complete(Box<Closing>),
}

/// Reads a checkpoint; the file stays as it is.
///
/// # Errors
/// When there is none, another process writes it, it is no checkpoint or one of a newer version.
pub fn read(path: &Path) -> Result<Found, CheckpointError> {
    let failed = |cause: &dyn std::fmt::Display| CheckpointError::new(path, cause);
    let mut start = [0; 1];
    let file = fs::File::open(path).map_err(|error| failed(&error))?;
    if file.read_at(&mut start, 0).is_ok_and(|count| count == 1 && start[0] == b'{') {
        let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
        return serde_json::from_str(&text)
            .map(|closing| Found::Complete(Box::new(closing)))
            .map_err(|error| failed(&format!("it is no closing note of swath ({error})")));
    }
    drop(file);
    let mut version = None;
    let memory = SharedFile::open(path, |head| {
        let ours = head[word::MAGIC] == MAGIC;
        version = ours.then_some(head[word::VERSION]);
        usize::try_from(head[word::WORDS]).ok().filter(|_| ours && head[word::VERSION] == FORMAT)
    });
    let memory = memory.map_err(|error| match (error.kind(), version) {
        (io::ErrorKind::InvalidData, Some(version)) if version != FORMAT => {
            failed(&format!("it is of version {version}; this program reads version {FORMAT}"))
        }
        (io::ErrorKind::InvalidData, _) => failed(&"it is no checkpoint of swath"),
        (io::ErrorKind::WouldBlock, _) => failed(&"a running swath uses it"),
        _ => failed(&error),
    })?;
    let progress = Progress::of(memory).ok_or_else(|| failed(&"its parts do not fit each other"))?;
    let (text, tail) = progress.text().map_err(|error| failed(&error))?;
    let birth = Birth::from_text(&text).map_err(|error| failed(&error))?;
    Ok(Found::Open(Box::new((birth, State::read(&progress, tail)))))
}

impl Progress {
    /// The progress in words that were read; `None` when they contradict each other.
    fn of(memory: SharedFile) -> Option<Progress> {
        let mut progress = Progress { memory, shape: Shape::NONE, slots: 0, path: None };
        let number = |word| usize::try_from(progress.load(word)).ok();
        let (threads, slots) = (number(word::THREADS)?, number(word::SLOTS)?);
        let fits =
            threads.checked_mul(slots).is_some_and(|_| words(threads, slots) == progress.memory.words());
        if !fits || word::MOST_THREADS < threads || !slots.is_power_of_two() {
            return None;
        }
        progress.shape = Shape {
            threads,
            waiting: 0,
            window_ns: progress.load(word::WINDOW_NS),
            first_step: progress.load(word::FIRST_STEP),
            reached: progress.load(word::REACHED),
            run: progress.load(word::RUN),
        };
        progress.slots = slots;
        Some(progress)
    }

    /// The text behind the words, and the list of later excludes behind that.
    fn text(&self) -> io::Result<(String, String)> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "its text is damaged");
        let file = self.memory.file().ok_or_else(invalid)?;
        let at = self.memory.words() as u64 * 8;
        let (text, tail) = (self.load(word::TEXT_BYTES), self.load(word::TAIL_BYTES));
        let held = file.metadata()?.len().saturating_sub(at);
        if text.checked_add(tail).is_none_or(|bytes| held < bytes) {
            return Err(invalid());
        }
        let bytes = usize::try_from(text + tail).map_err(|_| invalid())?;
        let mut buffer = vec![0; bytes];
        file.read_exact_at(&mut buffer, at)?;
        let tail = buffer.split_off(usize::try_from(text).map_err(|_| invalid())?);
        if hash(&buffer) != self.load(word::TEXT_HASH) {
            return Err(invalid());
        }
        Ok((
            String::from_utf8(buffer).map_err(|_| invalid())?,
            String::from_utf8(tail).map_err(|_| invalid())?,
        ))
    }
}

impl Shape {
    const NONE: Shape = Shape { threads: 0, waiting: 0, window_ns: 0, first_step: 0, reached: 0, run: 0 };
}

/// Where the words of a scan with so many threads and slots each end.
fn words(threads: usize, slots: usize) -> usize {
    word::THREADS_AT + threads * (word::THREAD_WORDS + slots)
}

fn hash(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    u64::from_le_bytes(std::array::from_fn(|index| digest[index]))
}

fn checksum(sequence: u64, step: u64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&sequence.to_le_bytes());
    bytes[8..].copy_from_slice(&step.to_le_bytes());
    hash(&bytes)
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// A name is safe once its directory is. One that cannot be opened for reading cannot be synced.
fn sync_directory(path: &Path) {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(directory) = fs::File::open(directory) {
        let _ = directory.sync_all();
    }
}

/// Where each word stands. All are little-endian.
mod word {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = 1;
    pub(super) const WORDS: usize = 2;
    pub(super) const THREADS: usize = 3;
    pub(super) const SLOTS: usize = 4;
    pub(super) const TEXT_BYTES: usize = 5;
    pub(super) const TEXT_HASH: usize = 6;
    pub(super) const WINDOW_NS: usize = 7;
    pub(super) const FIRST_STEP: usize = 8;
    pub(super) const RUN: usize = 9;
    pub(super) const BOOT: usize = 10;
    pub(super) const ALIVE_NS: usize = 11;
    pub(super) const DURABLE_NS: usize = 12;
    pub(super) const TAIL_BYTES: usize = 13;
    pub(super) const EPOCH: usize = 14;
    pub(super) const REACHED: usize = 15;
    pub(super) const FLOOR: usize = 16;
    /// Two slots of sequence, step and checksum, each in a sector of its own: a torn write spoils one.
    pub(super) const SYNCED: usize = 64;
    pub(super) const SYNCED_WORDS: usize = 64;
    pub(super) const THREADS_AT: usize = 192;
    pub(super) const THREAD_WORDS: usize = 8 + 2 * MARKS;
    pub(super) const LOW: usize = 0;
    pub(super) const TAKEN: usize = 1;
    /// Pairs of a time, plus one, and the step the order stood at: a ring.
    pub(super) const MARKS_AT: usize = 8;
    pub(super) const MARKS: usize = 256;
    pub(super) const MOST_THREADS: usize = 1024;
}

/// `swathchk`.
const MAGIC: u64 = u64::from_le_bytes(*b"swathchk");
/// Version of the layout.
const FORMAT: u64 = 1;

#[cfg(test)]
mod tests;
