//! Signals. Interrupts: the first stops sending and waits for replies, the second stops waiting, the third ends the
//! process. SIGHUP: the exclude files are to be read again, unless it says that the terminal is gone.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals as Iterator;

use super::ScanError;

/// Counts interrupts since it was made.
pub(super) struct Signals {
    count: Arc<AtomicUsize>,
    rereads: Arc<AtomicUsize>,
}

impl Signals {
    /// Takes SIGINT, SIGTERM and SIGHUP over. A thread of their own counts them, so that the third interrupt ends the
    /// process whatever this program does just then: waits for a gateway, or builds an index that takes minutes.
    /// `rereads` says whether there are lists to read again; where there are none SIGHUP is an interrupt.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub(super) fn catch(rereads: bool) -> Result<Signals, ScanError> {
        let failed = |source| ScanError::System { operation: "catch signals", source };
        // Set after the second: the kernel's default action, which needs nothing of this process, is next.
        let armed = Arc::new(AtomicBool::new(false));
        for signal in SIGNALS {
            flag::register_conditional_default(signal, Arc::clone(&armed)).map_err(failed)?;
        }
        let mut caught = Iterator::new(SIGNALS).map_err(failed)?;
        let signals = Signals { count: Arc::default(), rereads: Arc::default() };
        let (counter, requests) = (Arc::clone(&signals.count), Arc::clone(&signals.rereads));
        let terminal = std::io::stderr().is_terminal();
        let counting = move || {
            for signal in caught.forever() {
                // A terminal that hangs up sends the same signal, and is none afterwards.
                let hung_up = terminal && !std::io::stderr().is_terminal();
                if signal == SIGHUP && rereads && !hung_up {
                    requests.fetch_add(1, Ordering::Relaxed);
                } else {
                    armed.store(0 < counter.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
                }
            }
        };
        std::thread::Builder::new().name("signals".into()).spawn(counting).map_err(failed)?;
        Ok(signals)
    }

    /// How often the exclude files were to be read again so far.
    pub(super) fn rereads(&self) -> usize {
        self.rereads.load(Ordering::Relaxed)
    }

    /// How many interrupts came so far.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];
