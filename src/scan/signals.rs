//! Interrupts: the first stops sending and waits for replies, the second stops waiting, the third ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals as Iterator;

use super::ScanError;

/// Counts interrupts since it was made.
pub(super) struct Signals {
    pending: Iterator,
    count: usize,
    /// Set after the second: the kernel's default action, which needs nothing of this process, is next.
    armed: Arc<AtomicBool>,
}

impl Signals {
    /// Takes SIGINT and SIGTERM over.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub(super) fn catch() -> Result<Signals, ScanError> {
        let failed = |source| ScanError::System { operation: "catch signals", source };
        let armed = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_default(signal, Arc::clone(&armed)).map_err(failed)?;
        }
        let pending = Iterator::new([SIGINT, SIGTERM]).map_err(failed)?;
        Ok(Signals { pending, count: 0, armed })
    }

    /// How many came so far.
    pub(super) fn count(&mut self) -> usize {
        self.count += self.pending.pending().count();
        self.armed.store(1 < self.count, Ordering::Relaxed);
        self.count
    }
}
