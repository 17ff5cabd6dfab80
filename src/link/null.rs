//! A link that goes nowhere: frames are finished, gated, counted and digested, and dropped.
//!
//! For measuring generation and for comparing runs: equal digests mean equal frames in equal order. Several transmit
//! threads have no common order, so their frames are digested as a multiset ([`SumDigest`]); `null:sum` does that with
//! one thread as well, to compare the two.

use std::sync::{Arc, Mutex};

use crate::batch::Batch;
use crate::gate::Gate;
use crate::link::digest::{Digest, SumDigest};
use crate::link::stamper::Stamper;
use crate::link::{Accepted, Backend, Link, LinkError, LinkSpec, TxQueue};

/// The row of the registry.
pub(super) const BACKEND: Backend = Backend {
    name: "null",
    about: "finish and digest frames, send nothing",
    transmits: false,
    argument: Some("sum"),
    open,
};

fn open(spec: &LinkSpec) -> Result<Link, LinkError> {
    let sum = match spec.argument.as_ref().map(|argument| argument.to_string_lossy()) {
        None => 1 < spec.queues.tx,
        Some(word) if word == "sum" => true,
        Some(word) => {
            let reason = format!("nothing is known about null:{word}; there is null:sum");
            return Err(LinkError::Unusable { name: "null", reason });
        }
    };
    let total = Arc::new(Mutex::new(Total { sum: SumDigest::new(), queues: spec.queues.tx.max(1) }));
    let queue = || -> Box<dyn TxQueue> {
        let stamper = Stamper::new(spec);
        if sum {
            Box::new(SumQueue { stamper, sum: SumDigest::new(), total: Arc::clone(&total) })
        } else {
            Box::new(Queue { stamper, digest: Digest::new() })
        }
    };
    let about = if sum {
        "null: frames are digested in any order, not sent"
    } else {
        "null: frames are digested, not sent"
    };
    let tx = (0..spec.queues.tx.max(1)).map(|_| queue()).collect();
    Ok(Link { tx, rx: Vec::new(), about: about.to_owned(), hides_answers: false })
}

struct Queue {
    stamper: Stamper,
    digest: Digest,
}

impl TxQueue for Queue {
    fn submit(&mut self, batch: &Batch) -> Result<Accepted, LinkError> {
        self.stamper.stamp(batch)?;
        self.stamper.feed(&mut self.digest);
        Ok(Accepted { lanes: batch.lanes(), stall: None })
    }

    fn replace_gate(&mut self, gate: &Arc<Gate>) {
        self.stamper.replace_gate(gate);
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, LinkError> {
        self.stamper.check(frame)?;
        self.digest.add(frame);
        Ok(true)
    }

    fn finish(&mut self) -> Result<Option<String>, LinkError> {
        Ok(Some(self.digest.to_string()))
    }
}

/// One of several queues whose frames are digested together.
struct SumQueue {
    stamper: Stamper,
    sum: SumDigest,
    total: Arc<Mutex<Total>>,
}

/// The frames of the queues that have ended.
struct Total {
    sum: SumDigest,
    /// How many have not.
    queues: usize,
}

impl TxQueue for SumQueue {
    fn submit(&mut self, batch: &Batch) -> Result<Accepted, LinkError> {
        self.stamper.stamp(batch)?;
        self.stamper.frames().for_each(|frame| self.sum.add(frame));
        Ok(Accepted { lanes: batch.lanes(), stall: None })
    }

    fn replace_gate(&mut self, gate: &Arc<Gate>) {
        self.stamper.replace_gate(gate);
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, LinkError> {
        self.stamper.check(frame)?;
        self.sum.add(frame);
        Ok(true)
    }

    /// The last queue to end speaks for all.
    fn finish(&mut self) -> Result<Option<String>, LinkError> {
        let mut total = self.total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        total.sum.join(&std::mem::take(&mut self.sum));
        total.queues = total.queues.saturating_sub(1);
        Ok((total.queues == 0).then(|| total.sum.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{Queues, sample};

    #[test]
    fn queues_together_report_what_one_alone_does_whoever_takes_which_frame() {
        let report = |queues: usize, order: &[u32]| {
            let queues = Queues { tx: queues, ..Queues::ONE };
            let spec = LinkSpec { argument: Some("sum".into()), queues, ..sample::spec() };
            let mut link = open(&spec).expect("opened");
            for (turn, &first) in order.iter().enumerate() {
                let queue = turn % link.tx.len();
                link.tx[queue].submit(&sample::batch(first * 64, 64)).expect("allowed");
            }
            let reports: Vec<String> =
                link.tx.iter_mut().filter_map(|queue| queue.finish().expect("finished")).collect();
            assert_eq!(reports.len(), 1, "the last speaks for all");
            reports[0].clone()
        };
        let alone = report(1, &[0, 1, 2, 3]);
        assert!(alone.starts_with("frames 256 sum "), "{alone}");
        assert_eq!(report(3, &[2, 0, 3, 1]), alone);
        assert_ne!(report(2, &[0, 1, 2, 2]), alone, "one frame twice and one never");
    }

    #[test]
    fn what_null_does_not_know_is_refused() {
        let spec = LinkSpec { argument: Some("fast".into()), ..sample::spec() };
        assert!(open(&spec).is_err());
    }
}
