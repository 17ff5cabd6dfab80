//! `swath diff A B`: what changed between two scans, by merging two sorted sets.
//!
//! | | |
//! |---|---|
//! | opened | open in B; in A it was not, and A had asked |
//! | closed | open in A; in B it is not, and B had asked |
//! | changed | open in both with another reason, TCP option layout, MSS, window scale or a TTL more than 3 apart; or not open, with another state in each |
//! | unchanged | open in both, nothing of that |
//! | not comparable | open in one, and the other did not ask |
//!
//! Who asked for what is said by the manifests, to the target: excludes, shards and interruptions included (`Cover`).
//! Silence tells nothing about what nobody asked, so without a manifest nothing that is missing is comparable unless
//! the user says so.
//!
//! Invariant: memory does not grow with the sets; bytes from the network never pass here.

mod cover;
mod render;

use std::io::{self, BufWriter, Write};

use self::cover::Cover;
use self::render::Render;
use super::sets::Set;
use super::{Exit, complain};
use crate::cli::DiffArgs;
use crate::event::{Record, State};
use crate::sorted::{Merged, merge};
use crate::target::Target;

/// Runs the command.
pub fn run(args: &DiffArgs) -> Exit {
    match compared(args) {
        Ok(tally) if 0 < tally.opened + tally.closed + tally.changed => Exit::Difference,
        Ok(_) => Exit::Done,
        Err((text, exit)) => {
            complain(&format!("swath: {text}\n"));
            exit
        }
    }
}

/// How many targets of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Tally {
    opened: u64,
    closed: u64,
    changed: u64,
    unchanged: u64,
    not_comparable: u64,
}

/// What became of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Opened,
    Closed,
    Changed,
    NotComparable,
}

fn compared(args: &DiffArgs) -> Result<Tally, (String, Exit)> {
    let open = |argument: &str| {
        let mut set = Set::default();
        set.add(argument).map_err(|text| (text, Exit::Failed))?;
        set.remarks.iter().for_each(|remark| complain(&format!("swath: {remark}\n")));
        Ok(set)
    };
    let (a, b) = (open(&args.a)?, open(&args.b)?);
    let cover = |set: &Set| if args.assume_covered { Cover::everything() } else { Cover::of(&set.manifests) };
    let covers = (cover(&a), cover(&b));
    for (cover, name) in [(&covers.0, &args.a), (&covers.1, &args.b)] {
        if cover.is_unknown() {
            complain(&format!(
                "swath: {name} has no manifest that says what was asked: what is missing in it is not comparable \
                 (--assume-covered takes silence as an answer)\n"
            ));
        }
    }
    if let Some(loss) = b.manifests.iter().filter_map(|manifest| manifest.summary.as_ref()?.loss).next() {
        complain(&format!(
            "note: one pass of {} missed {:.2} % of what answers\n",
            args.b,
            loss.estimate * 100.0
        ));
    }
    let failed =
        |error: io::Error| (format!("cannot compare {} and {}: {error}", args.a, args.b), Exit::Failed);
    let mut sides = (Side::new(a).map_err(failed)?, Side::new(b).map_err(failed)?);
    let mut output = Render::new(args.format, BufWriter::with_capacity(1 << 16, io::stdout()));
    let mut tally = Tally::default();
    let result = walk(&mut sides, &covers, &mut tally, &mut output);
    match result.and_then(|()| output.end(&tally)) {
        // The reader of standard output has seen enough; what it saw decides.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(tally),
        Err(error) => Err(failed(error)),
        Ok(()) => Ok(tally),
    }
}

/// Walks both sides target by target.
fn walk(
    (a, b): &mut (Side, Side),
    covers: &(Cover, Cover),
    tally: &mut Tally,
    output: &mut Render<impl Write>,
) -> io::Result<()> {
    loop {
        let (before, after) = match (a.peek()?, b.peek()?) {
            (None, None) => return Ok(()),
            (Some(one), Some(other)) if one.key() == other.key() => (a.take(), b.take()),
            (Some(one), Some(other)) if one.key() < other.key() => (a.take(), None),
            (Some(_), None) => (a.take(), None),
            (_, Some(_)) => (None, b.take()),
        };
        let Some(target) = before.or(after).map(|verdict| verdict.record.target()) else { continue };
        let change = judge(before.as_ref(), after.as_ref(), covers, &target);
        match change {
            Some(Change::Opened) => tally.opened += 1,
            Some(Change::Closed) => tally.closed += 1,
            Some(Change::Changed) => tally.changed += 1,
            Some(Change::NotComparable) => tally.not_comparable += 1,
            None if before.zip(after).is_some() => tally.unchanged += 1,
            None => {}
        }
        if let Some(change) = change {
            let (before, after) = (before.map(|verdict| verdict.record), after.map(|verdict| verdict.record));
            output.change(change, before.as_ref(), after.as_ref())?;
        }
    }
}

/// What became of a target; `None` when nothing did, or nothing that concerns an open port.
fn judge(
    before: Option<&Verdict>,
    after: Option<&Verdict>,
    (a, b): &(Cover, Cover),
    target: &Target,
) -> Option<Change> {
    let is_open =
        |verdict: Option<&Verdict>| verdict.is_some_and(|verdict| verdict.record.state == State::Open);
    match (is_open(before), is_open(after)) {
        (false, false) => {
            let (before, after) = (before?, after?);
            (before.record.state != after.record.state).then_some(Change::Changed)
        }
        (true, true) => differs(&before?.record, &after?.record).then_some(Change::Changed),
        (false, true) if before.is_some() || a.asked(target, b) => Some(Change::Opened),
        (true, false) if after.is_some() || b.asked(target, a) => Some(Change::Closed),
        _ => Some(Change::NotComparable),
    }
}

/// Whether two replies of an open port come from different stacks.
fn differs(one: &Record, other: &Record) -> bool {
    let stack = |record: &Record| (record.reason, record.options_hash, record.mss, record.window_scale);
    stack(one) != stack(other) || 3 < one.ttl.abs_diff(other.ttl)
}

/// What a set says about a target: its strongest record, the latest of those.
#[derive(Debug, Clone, Copy)]
struct Verdict {
    record: Record,
}

impl Verdict {
    fn key(&self) -> (bool, u128, u16, u8) {
        let (is_v6, address, port, protocol, _) = self.record.sort_key();
        (is_v6, address, port, protocol)
    }
}

/// One set, target by target.
struct Side {
    merged: Merged<'static>,
    ahead: Option<Record>,
    verdict: Option<Verdict>,
}

impl Side {
    fn new(set: Set) -> io::Result<Side> {
        let mut merged = merge(set.runs)?;
        let ahead = merged.take()?;
        Ok(Side { merged, ahead, verdict: None })
    }

    /// The next target's verdict.
    fn peek(&mut self) -> io::Result<Option<Verdict>> {
        if self.verdict.is_none()
            && let Some(record) = self.ahead.take()
        {
            let mut verdict = Verdict { record };
            loop {
                self.ahead = self.merged.take()?;
                match self.ahead {
                    Some(next) if (Verdict { record: next }).key() == verdict.key() => {
                        // Open beats every other state; of equals the later stands.
                        if next.state == State::Open || verdict.record.state != State::Open {
                            verdict = Verdict { record: next };
                        }
                    }
                    _ => break,
                }
            }
            self.verdict = Some(verdict);
        }
        Ok(self.verdict)
    }

    fn take(&mut self) -> Option<Verdict> {
        self.verdict.take()
    }
}

#[cfg(test)]
mod tests;
