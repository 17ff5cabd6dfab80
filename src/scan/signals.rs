//! Interrupts: the first stops sending and waits for replies, the second stops waiting, the third ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals as Iterator;

use super::ScanError;

/// Counts interrupts since it was made.
pub(super) struct Signals {
    count: Arc<AtomicUsize>,
}

impl Signals {
    /// Takes SIGINT, SIGTERM and SIGHUP (the terminal is gone) over. A thread of their own counts them, so that the third ends the process whatever
    /// this program does just then: waits for a gateway, or builds an index that takes minutes.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub(super) fn catch() -> Result<Signals, ScanError> {
        let failed = |source| ScanError::System { operation: "catch signals", source };
        // Set after the second: the kernel's default action, which needs nothing of this process, is next.
        let armed = Arc::new(AtomicBool::new(false));
        for signal in SIGNALS {
            flag::register_conditional_default(signal, Arc::clone(&armed)).map_err(failed)?;
        }
        let mut caught = Iterator::new(SIGNALS).map_err(failed)?;
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let counting = move || {
            for _ in caught.forever() {
                armed.store(0 < counter.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
            }
        };
        std::thread::Builder::new().name("signals".into()).spawn(counting).map_err(failed)?;
        Ok(Signals { count })
    }

    /// How many came so far.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];
