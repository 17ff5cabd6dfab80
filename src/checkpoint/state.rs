//! What a checkpoint says, and where to begin again.

use super::pending::{FLIGHT, step_in};
use super::{Progress, checksum, word};
use crate::sys::shared_file::boot_number;

/// What a checkpoint said when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// How often the scan was started.
    pub run: u64,
    /// How long replies were awaited, in nanoseconds.
    pub window_ns: u64,
    /// The step the run began with.
    pub first_step: u64,
    /// That, or the first of the steps that the run before left behind it: they were sent in this run.
    pub floor: u64,
    /// No step from here on was sent by a run before.
    pub reached: u64,
    /// When the process was last seen alive, in nanoseconds since the run began.
    pub alive_ns: u64,
    /// Until when every reply that had arrived stood in every output.
    pub durable_ns: u64,
    /// Whether the machine has run ever since. If not, only `synced_step` is believed.
    pub same_boot: bool,
    /// Where to begin after a power failure; the run's first step until the first sync.
    pub synced_step: u64,
    /// One for each transmit thread.
    pub threads: Vec<Thread>,
    /// How often addresses were excluded after the scan began.
    pub epoch: u64,
    /// What was excluded after the scan began, in the syntax of targets.
    pub excluded_later: String,
}

/// The progress of one transmit thread.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Thread {
    /// Every step below was settled or waits.
    pub low: u64,
    /// No step from here on was sent.
    pub taken: u64,
    /// Where the order stood when: pairs of time and step, ascending.
    pub marks: Vec<(u64, u64)>,
    /// The steps that wait, ascending.
    pub waiting: Vec<u64>,
    /// Those of them that the link was being given: it may have sent them.
    pub in_flight: Vec<u64>,
}

/// How to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Probe again whatever may have been answered while nobody listened: nothing is lost.
    #[default]
    Complete,
    /// Probe nothing again: what may be lost is said.
    Exact,
}

/// Where a scan goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// The first step of the next run.
    pub step: u64,
    /// Steps before it that were never sent, ascending.
    pub waiting: Vec<u64>,
    /// No step from here on was sent by any run.
    pub reached: u64,
    /// Complete: steps that are probed a second time, at most. Exact: steps whose replies may be lost, at most.
    pub window: u64,
}

impl State {
    pub(super) fn read(progress: &Progress, excluded_later: String) -> State {
        let threads = (0..progress.shape.threads).map(|thread| read_thread(progress, thread));
        let boot = progress.load(word::BOOT);
        State {
            run: progress.shape.run,
            window_ns: progress.shape.window_ns,
            first_step: progress.shape.first_step,
            floor: progress.load(word::FLOOR).min(progress.shape.first_step),
            reached: progress.shape.reached,
            alive_ns: progress.load(word::ALIVE_NS),
            durable_ns: progress.load(word::DURABLE_NS),
            same_boot: boot != 0 && boot == boot_number(),
            synced_step: synced_step(progress)
                .unwrap_or(progress.load(word::FLOOR).min(progress.shape.first_step)),
            threads: threads.collect(),
            epoch: progress.load(word::EPOCH),
            excluded_later,
        }
    }

    /// Where to go on.
    pub fn restart(&self, mode: Mode) -> Restart {
        let most = |step: fn(&Thread) -> u64| self.threads.iter().map(step).max().unwrap_or(self.first_step);
        // A run that went back and was killed before it was where the one before had been has not sent everything again.
        let taken = most(|thread| thread.taken).max(self.first_step).max(self.reached);
        if !self.same_boot {
            // Nothing but the slot is known to be on the disk, and what was sent after it is not known at all.
            return Restart {
                step: self.synced_step,
                waiting: Vec::new(),
                reached: taken,
                window: taken.saturating_sub(self.synced_step),
            };
        }
        let rewound = self.rewound();
        let step = match mode {
            Mode::Complete => planted!(34, taken, rewound),
            Mode::Exact => taken,
        };
        let sent =
            |thread: &Thread, step| mode == Mode::Exact && thread.in_flight.binary_search(&step).is_ok();
        let waits = |thread| move |step: &u64| !sent(thread, *step);
        let waiting =
            self.threads.iter().flat_map(|thread| thread.waiting.iter().copied().filter(waits(thread)));
        let mut waiting: Vec<u64> = waiting.filter(|&waiting| waiting < step).collect();
        waiting.truncate(planted!(35, 0, waiting.len()));
        waiting.sort_unstable();
        waiting.dedup();
        let in_flight = self.threads.iter().map(|thread| thread.in_flight.len() as u64).sum::<u64>();
        Restart { step, waiting, reached: taken, window: taken.saturating_sub(rewound) + in_flight }
    }

    /// Below this step every probe left so early that its reply is known to have been awaited in full.
    fn rewound(&self) -> u64 {
        let until =
            planted!(39, self.alive_ns, self.alive_ns.min(self.durable_ns)).checked_sub(self.window_ns);
        let low = |thread: &Thread| {
            let marks =
                thread.marks.iter().rev().filter(|(time, _)| until.is_some_and(|until| *time <= until));
            // The first mark comes before the first probe.
            let else_from = if thread.marks.is_empty() { self.first_step } else { self.floor };
            // A thread that was killed between two marks has settled more than its mark says, never less.
            marks.map(|&(_, step)| step).next().unwrap_or(else_from).min(thread.low)
        };
        self.threads.iter().map(low).min().unwrap_or(self.floor).max(self.floor)
    }
}

fn read_thread(progress: &Progress, thread: usize) -> Thread {
    let at = progress.thread_word(thread);
    let mark = |index: usize| {
        let place = at + word::MARKS_AT + 2 * index;
        let time = progress.load(place);
        (time != 0).then(|| (time - 1, progress.load(place + 1)))
    };
    let mut marks: Vec<(u64, u64)> = (0..word::MARKS).filter_map(mark).collect();
    marks.sort_unstable();
    let pending = progress.pending_word(thread);
    let words: Vec<u64> = (0..progress.slots).map(|slot| progress.load(pending + slot)).collect();
    let steps = |flags: u64| {
        let words = words.iter().filter(|&&word| word & flags == flags);
        let mut steps: Vec<u64> = words.filter_map(|&word| step_in(word)).collect();
        steps.sort_unstable();
        steps.dedup();
        steps
    };
    let (waiting, in_flight) = (steps(0), steps(FLIGHT));
    let (low, taken) = (progress.load(at + word::LOW), progress.load(at + word::TAKEN));
    Thread { low, taken, marks, waiting, in_flight }
}

/// The step of the newest slot that is whole.
fn synced_step(progress: &Progress) -> Option<u64> {
    let slot = |slot: usize| {
        let at = word::SYNCED + slot * word::SYNCED_WORDS;
        let (sequence, step) = (progress.load(at), progress.load(at + 1));
        (sequence != 0 && progress.load(at + 2) == checksum(sequence, step)).then_some((sequence, step))
    };
    [slot(0), slot(1)].into_iter().flatten().max().map(|(_, step)| step)
}
