//! A sink that writes to a local spool, and a thread behind it that carries the spool to a [`Receiver`].
//!
//! What the writer thread pays is a write to a local file. A receiver that is down, slow, full, restarted or gone
//! costs spool space, never a record and never the scan; what it has not taken when the scan ends is taken by
//! `swath replay`.
//!
//! Invariant: knows no format and no server.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::file::shown;
use super::receiver::{self, Delivery, Manner, Receiver, Shared};
use super::{Sink, SinkError, SinkErrorKind};
use crate::event::{Manifest, Record, Untrusted};
use crate::spool::Spool;

/// What is needed to begin.
pub(crate) struct Parts {
    /// Where the records go in the end.
    pub(crate) receiver: Box<dyn Receiver>,
    /// In words, without secrets: also what `swath replay --to` takes.
    pub(crate) destination: String,
    /// Where the spool of a scan is made; it is told the scan's identifier.
    pub(crate) spool: Box<dyn Fn(&str) -> PathBuf + Send>,
}

/// A sink before its spool.
pub(crate) fn sink(parts: Parts) -> Box<dyn Sink> {
    Box::new(Spooled::Waiting(parts))
}

enum Spooled {
    Waiting(Parts),
    Running(Running),
    /// `begin` failed.
    Broken,
}

struct Running {
    spool: Spool,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    destination: String,
    manner: Manner,
    /// Tells the thread that nobody waits any more, also when the sink is dropped without its end.
    abandon: Abandon,
}

struct Abandon(Arc<Shared>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.change(|state| state.abandoned = true);
    }
}

impl Spooled {
    fn running(&mut self) -> Result<&mut Running, SinkError> {
        match self {
            Spooled::Running(running) => Ok(running),
            _ => Err(SinkError::refused("a sink", "it was not begun")),
        }
    }
}

impl Sink for Spooled {
    fn begin(&mut self, manifest: &Manifest) -> Result<(), SinkError> {
        let Spooled::Waiting(parts) = std::mem::replace(self, Spooled::Broken) else {
            return Err(SinkError::refused("a sink", "it was begun twice"));
        };
        let directory = (parts.spool)(&manifest.scan_uuid);
        let mut receiver = parts.receiver;
        // A wrong password or name is found before the first packet; a server that is down is waited for.
        let remark = match receiver.open(manifest) {
            Err(error) if error.is_refusal() => return Err(error),
            Err(error) => Some(format!("{error}; results wait in {}", shown(&directory))),
            Ok(_) => None,
        };
        let spool = Spool::create(&directory, manifest, &parts.destination)
            .map_err(|error| SinkError::from_io("create the spool", &shown(&directory), &error))?;
        let shared = Arc::new(Shared::default());
        shared.change(|state| state.remarks.extend(remark));
        let manner = receiver.manner();
        let delivery = Delivery {
            directory,
            receiver,
            destination: parts.destination.clone(),
            manifest: manifest.clone(),
            shared: Arc::clone(&shared),
            persistent: true,
            pause: receiver::FIRST_PAUSE,
        };
        let thread = thread::Builder::new().name("deliver".into()).spawn(move || delivery.run());
        let thread =
            thread.map_err(|error| SinkError::from_io("start a thread for", &parts.destination, &error))?;
        let abandon = Abandon(Arc::clone(&shared));
        let destination = parts.destination;
        *self = Spooled::Running(Running { spool, shared, thread, destination, manner, abandon });
        Ok(())
    }

    fn write(&mut self, records: &[Record]) -> Result<(), SinkError> {
        let spool = &mut self.running()?.spool;
        spool.append(records).map_err(|error| unwritable(spool, &error))
    }

    fn attach(&mut self, record: &Record, key: &str, bytes: &Untrusted) -> Result<(), SinkError> {
        let spool = &mut self.running()?.spool;
        spool.attach(record, key, bytes).map_err(|error| unwritable(spool, &error))
    }

    fn commit(&mut self) -> Result<u64, SinkError> {
        let running = self.running()?;
        running.spool.flush().map_err(|error| unwritable(&running.spool, &error))?;
        let safe = running.spool.safe();
        running.shared.change(|state| state.safe = safe);
        Ok(safe)
    }

    fn safe(&self) -> u64 {
        match self {
            Spooled::Running(running) => running.spool.safe(),
            _ => 0,
        }
    }

    fn remarks(&mut self) -> Vec<String> {
        match self {
            Spooled::Running(running) => std::mem::take(&mut running.shared.lock().remarks),
            _ => Vec::new(),
        }
    }

    fn finish(self: Box<Self>, manifest: &Manifest) -> Result<(), SinkError> {
        match *self {
            Spooled::Running(running) => running.finish(manifest),
            // Nothing was announced, so nothing is to be ended.
            Spooled::Waiting(_) | Spooled::Broken => Ok(()),
        }
    }
}

impl Running {
    /// Closes the spool and waits for the receiver as long as it gets on.
    fn finish(self, manifest: &Manifest) -> Result<(), SinkError> {
        let Running { mut spool, shared, thread, destination, manner, abandon } = self;
        let directory = shown(spool.directory());
        let closed = spool.close(manifest).map_err(|error| unwritable(&spool, &error));
        let safe = spool.safe();
        drop(spool); // its lock: the rest may be replayed at once
        shared.change(|state| {
            state.safe = safe;
            state.closing = Some(manifest.clone());
        });
        let mut beats = shared.lock().beats;
        loop {
            let state =
                shared.wait(manner.patience, |state| state.done || state.refused || state.beats != beats);
            let stuck = state.beats == beats && (!manner.local || state.trouble.is_some());
            if state.done || state.refused || stuck || thread.is_finished() {
                break;
            }
            beats = state.beats;
        }
        if shared.lock().done {
            drop(shared.wait(SETTLING, |state| state.settled));
        }
        drop(abandon);
        let (done, delivered, trouble) = {
            let mut state = shared.lock();
            (state.done, state.delivered, state.trouble.take())
        };
        if done {
            return closed;
        }
        // The thread may hang in a server that does not answer; it ends with the process.
        let why = trouble.map_or_else(|| "it takes nothing".to_owned(), |error| error.to_string());
        Err(SinkError {
            operation: "finish",
            object: destination.clone(),
            cause: format!(
                "{why}; {} of {safe} results wait in {directory}; `swath replay {directory} --to '{destination}'` delivers them",
                safe.saturating_sub(delivered),
            ),
            kind: SinkErrorKind::Failed,
        })
    }
}

fn unwritable(spool: &Spool, error: &std::io::Error) -> SinkError {
    SinkError::from_io("write to the spool", &shown(spool.directory()), error)
}

/// How long indexes may take before the scan ends without having seen their end.
const SETTLING: Duration = Duration::from_secs(600);
