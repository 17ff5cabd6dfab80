//! The trial of a link by a scan's own first frames: they count as gone when the interface's counter of sent frames moved;
//! when it did not, the next link of a ladder sends those probes again, and all others.
//!
//! No frame is sent that the plan would not send: what tries the link are its first targets, at its rate, behind its gate.
//!
//! Invariant: all transmit queues of a scan are of one link; none sends while another of them is tried.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::gate::Gate;
use crate::link::{Accepted, Backend, LinkError, LinkInterface, LinkSpec, Queues, Receive, TxQueue};

/// Reads how many frames an interface has sent; `None` where nobody tells.
pub(super) type SentFrames = fn(&LinkInterface) -> Option<u64>;

/// Puts the opened queues of the first link of `ladder` on trial: `spec` is what they were opened with. Links behind it only
/// send; answers are received as before.
pub(super) fn on_trial(
    queues: Vec<Box<dyn TxQueue>>,
    spec: &LinkSpec,
    ladder: &'static [Backend],
    sent_frames: SentFrames,
) -> Vec<Box<dyn TxQueue>> {
    let Some(interface) = spec.interface.clone() else { return queues };
    if ladder.len() < 2 {
        return queues;
    }
    let state = State { proven: false, rung: 0, queues: Vec::new(), remarks: Vec::new() };
    let trial = Trial { spec: spec.clone(), interface, ladder, sent_frames, state: Mutex::new(state) };
    let trial = Arc::new(trial);
    let tried = |(number, queue)| -> Box<dyn TxQueue> {
        Box::new(Tried { number, queue, rung: 0, proven: false, gate: None, trial: Arc::clone(&trial) })
    };
    queues.into_iter().enumerate().map(tried).collect()
}

/// What the queues of a scan share.
struct Trial {
    spec: LinkSpec,
    interface: LinkInterface,
    ladder: &'static [Backend],
    sent_frames: SentFrames,
    state: Mutex<State>,
}

struct State {
    /// Whether the link at hand needs no more proof.
    proven: bool,
    /// Which link of the ladder it is.
    rung: usize,
    /// Its queues that their threads have not fetched.
    queues: Vec<Option<Box<dyn TxQueue>>>,
    /// What became of the links before it, until somebody tells.
    remarks: Vec<String>,
}

impl Trial {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the interface sent at least so many frames more than `before`, soon.
    fn moved(&self, before: Option<u64>, frames: u64) -> bool {
        let start = Instant::now();
        loop {
            // Where nobody counts, nothing can be proven either way.
            let (Some(before), Some(now)) = (before, (self.sent_frames)(&self.interface)) else {
                return true;
            };
            if frames <= now.saturating_sub(before) {
                return true;
            }
            if PATIENCE <= start.elapsed() {
                return false;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Opens the next link that opens, for all threads; the last there is needs no proof.
    fn descend(&self, state: &mut State, frames: u64) {
        let failed = self.ladder[state.rung].name;
        let spec = LinkSpec {
            queues: Queues { rx: 1, ..self.spec.queues },
            receive: Receive::Packet,
            ..self.spec.clone()
        };
        let mut refused = String::new();
        for (rung, backend) in self.ladder.iter().enumerate().skip(state.rung + 1) {
            match (backend.open)(&spec) {
                Ok(link) => {
                    state.queues = link.tx.into_iter().map(Some).collect();
                    state.rung = rung;
                    state.proven = rung + 1 == self.ladder.len();
                    state.remarks.push(format!(
                        "link {failed}: {} counted nothing of its first {frames} frames, so {} sent these probes again and all \
                         others{refused}",
                        self.interface.name, backend.name,
                    ));
                    return;
                }
                Err(error) => refused = format!("{refused}; {error}"),
            }
        }
        state.proven = true;
        state.remarks.push(format!(
            "link {failed}: {} counted nothing of its first {frames} frames, and no other link opens{refused}",
            self.interface.name
        ));
    }
}

/// A transmit queue of a link that may still be on trial.
struct Tried {
    /// Which of the queues of the link it is.
    number: usize,
    queue: Box<dyn TxQueue>,
    rung: usize,
    proven: bool,
    /// The last gate, when it was replaced: a queue that is opened later gets it, too.
    gate: Option<Arc<Gate>>,
    trial: Arc<Trial>,
}

impl Tried {
    /// Submits a batch while the link is on trial.
    fn try_out(&mut self, batch: &Batch) -> Result<Accepted, LinkError> {
        let trial = Arc::clone(&self.trial);
        let mut state = trial.state();
        loop {
            self.follow(&mut state)?;
            if state.proven {
                self.proven = true;
                return self.queue.submit(batch);
            }
            let before = (trial.sent_frames)(&trial.interface);
            let accepted = self.queue.submit(batch)?;
            let frames = u64::from(accepted.lanes.count_ones());
            if frames == 0 {
                return Ok(accepted);
            }
            if trial.moved(before, frames) {
                (state.proven, self.proven) = (true, true);
                return Ok(accepted);
            }
            trial.descend(&mut state, frames);
            if state.rung == self.rung {
                self.proven = true;
                return Ok(accepted);
            }
        }
    }

    /// Takes this thread's queue of the link at hand.
    fn follow(&mut self, state: &mut State) -> Result<(), LinkError> {
        if state.rung == self.rung {
            return Ok(());
        }
        let queue = state.queues.get_mut(self.number).and_then(Option::take);
        self.queue = queue.ok_or_else(|| LinkError::Unusable {
            name: self.trial.ladder[state.rung].name,
            reason: format!("it has no transmit queue {}; use --tx-threads 1", self.number),
        })?;
        self.rung = state.rung;
        if let Some(gate) = &self.gate {
            self.queue.replace_gate(gate);
        }
        Ok(())
    }
}

impl TxQueue for Tried {
    fn submit(&mut self, batch: &Batch) -> Result<Accepted, LinkError> {
        if self.proven { self.queue.submit(batch) } else { self.try_out(batch) }
    }

    fn round_length(&self) -> usize {
        self.queue.round_length()
    }

    fn submit_round(&mut self, batches: &[Batch], accepted: &mut Vec<Accepted>) -> Result<(), LinkError> {
        if self.proven {
            return self.queue.submit_round(batches, accepted);
        }
        accepted.clear();
        let Some((first, others)) = batches.split_first() else { return Ok(()) };
        accepted.push(self.try_out(first)?);
        if accepted[0].stall.is_some() || !self.proven {
            return Ok(());
        }
        let mut more = Vec::with_capacity(others.len());
        let outcome = self.queue.submit_round(others, &mut more);
        accepted.append(&mut more);
        outcome
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, LinkError> {
        self.queue.send(frame)
    }

    fn replace_gate(&mut self, gate: &Arc<Gate>) {
        self.gate = Some(Arc::clone(gate));
        self.queue.replace_gate(gate);
    }

    fn finish(&mut self) -> Result<Option<String>, LinkError> {
        let remarks = std::mem::take(&mut self.trial.state().remarks);
        let own = self.queue.finish()?;
        let all: Vec<String> = remarks.into_iter().chain(own).collect();
        Ok((!all.is_empty()).then(|| all.join("\n")))
    }
}

/// How long frames may take from the kernel to the interface's counter: a veth counts live frames when its other end polls, which
/// waits for a processor.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::link::{Framing, null, pcap, sample};
    use crate::wire::ethernet::Mac;

    fn spec(directory: &std::path::Path) -> LinkSpec {
        let interface =
            LinkInterface { name: "near0".into(), index: 1, mac: Mac([0; 6]), framing: Framing::Ethernet };
        let argument = Some(directory.join("frames.pcap"));
        LinkSpec { interface: Some(interface), argument, queues: Queues { tx: 2, rx: 1 }, ..sample::spec() }
    }

    /// Links that keep their frames: what each sent is in its digest.
    static LADDER: [Backend; 2] = [null::BACKEND, pcap::BACKEND];

    fn opened(spec: &LinkSpec, sent_frames: SentFrames) -> Vec<Box<dyn TxQueue>> {
        let null = LinkSpec { argument: None, ..spec.clone() };
        let link = (LADDER[0].open)(&null).expect("opened");
        on_trial(link.tx, spec, &LADDER, sent_frames)
    }

    #[test]
    fn frames_that_nobody_counts_are_sent_again_by_the_next_link() {
        let directory = tempfile::tempdir().expect("a directory");
        let spec = LinkSpec { queues: Queues::ONE, ..spec(directory.path()) };
        let mut queues = opened(&spec, |_| Some(7));
        assert_eq!(queues[0].submit(&sample::batch(0, 5)).expect("sent").lanes, 0b1_1111);
        assert_eq!(queues[0].submit(&sample::batch(5, 3)).expect("sent").lanes, 0b111);
        let said = queues[0].finish().expect("finished").expect("a remark");
        assert!(said.contains("null: near0 counted nothing of its first 5 frames, so pcap"), "{said}");
        assert!(said.contains("frames 8 "), "all of them are in the file: {said}");
    }

    #[test]
    fn a_link_whose_frames_are_counted_stays_and_nothing_is_said() {
        static COUNTED: AtomicU64 = AtomicU64::new(0);
        let directory = tempfile::tempdir().expect("a directory");
        let spec = LinkSpec { queues: Queues::ONE, ..spec(directory.path()) };
        // The counter takes a while.
        let mut queues = opened(&spec, |_| Some(COUNTED.fetch_add(3, Ordering::Relaxed)));
        assert_eq!(queues[0].submit(&sample::batch(0, 5)).expect("sent").lanes, 0b1_1111);
        let looks = COUNTED.load(Ordering::Relaxed);
        assert_eq!(looks, 9, "before, after, and once more until five were counted");
        assert_eq!(queues[0].submit(&sample::batch(5, 3)).expect("sent").lanes, 0b111);
        assert_eq!(COUNTED.load(Ordering::Relaxed), looks, "proven once");
        let said = queues[0].finish().expect("finished").expect("a digest");
        assert!(said.starts_with("frames 8 "), "{said}");
    }

    #[test]
    fn all_queues_go_to_the_next_link_with_the_gate_that_was_given_last() {
        let directory = tempfile::tempdir().expect("a directory");
        let spec = spec(directory.path());
        let mut queues = opened(&spec, |_| Some(7));
        let excluded = 0xc633_6403;
        for queue in &mut queues {
            queue.replace_gate(&Arc::new(Gate::new([(excluded, excluded)], [])));
        }
        for queue in &mut queues {
            let mut accepted = Vec::new();
            queue.submit_round(&[sample::batch(0, 3), sample::batch(4, 2)], &mut accepted).expect("sent");
            assert_eq!((accepted[0].lanes, accepted[1].lanes), (0b111, 0b11));
            queue.submit(&sample::batch(3, 1)).expect_err("excluded");
        }
        let said: Vec<String> =
            queues.iter_mut().filter_map(|queue| queue.finish().expect("finished")).collect();
        assert_eq!(said.iter().filter(|said| said.contains("counted nothing")).count(), 1, "{said:?}");
    }

    #[test]
    fn where_nobody_counts_or_no_other_link_opens_the_first_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let spec = LinkSpec { queues: Queues::ONE, ..spec(directory.path()) };
        let mut queues = opened(&spec, |_| None);
        assert_eq!(queues[0].submit(&sample::batch(0, 5)).expect("sent").lanes, 0b1_1111);
        assert!(queues[0].finish().expect("finished").expect("a digest").starts_with("frames 5 "));
        // The capture file cannot be made.
        let spec = LinkSpec { argument: Some("/nonexistent/frames.pcap".into()), ..spec };
        let mut queues = opened(&spec, |_| Some(7));
        assert_eq!(queues[0].submit(&sample::batch(0, 5)).expect("sent").lanes, 0b1_1111);
        let said = queues[0].finish().expect("finished").expect("a remark");
        assert!(said.contains("no other link opens") && said.contains("frames 5 "), "{said}");
    }
}
