//! What the outputs of a scan hold already of the probes that a resumed run sends again: their verdicts are known, and
//! are not written a second time.

use std::collections::HashSet;

use super::complain;
use super::scan::Places;
use crate::checkpoint::Restart;
use crate::cli::Args;
use crate::event::{Observations, Record, State};
use crate::plan::Plan;
use crate::source;
use crate::target::{Cursor, Target};
use crate::writer::Show;

/// What the outputs hold.
#[derive(Default)]
pub(super) struct Held {
    /// Target numbers and states that every output that shows them holds: a repetition is no news. An output that cannot
    /// be read back (standard output, for one) holds nothing for sure: what it shows is written again rather than lost.
    pub(super) everywhere: Vec<(u64, State)>,
    /// What each output holds: it is not given that again. One may have been ahead of the others when the process ended.
    pub(super) each: Vec<HashSet<(Target, State)>>,
}

/// Reads what the outputs hold of the probes that are sent again.
pub(super) fn verdicts(args: &Args, plan: &Plan, restart: &Restart, places: &Places) -> Held {
    if restart.window == 0 {
        return Held::default();
    }
    let mut outputs = Vec::new();
    for (argument, kind, place) in places {
        let show = Show::states(&args.shown());
        let show = if kind.tells_state { show } else { show.unambiguous() };
        let readable = source::source_named(kind.name).filter(|_| !place.stdout);
        let held = readable.map(|_| read(&format!("{}:{}", kind.name, place.path.display()), plan, restart));
        let held = held.unwrap_or_else(|| Ok(HashSet::new())).unwrap_or_else(|error| {
            complain(&format!(
                "swath: {argument} cannot be read back, so some of it may stand twice: {error}\n"
            ));
            HashSet::new()
        });
        outputs.push((show, held));
    }
    let all: HashSet<(Target, State)> = outputs.iter().flat_map(|(_, held)| held.iter().copied()).collect();
    let everywhere = all.into_iter().filter(|verdict| {
        outputs.iter().all(|(show, held)| !show.contains(verdict.1) || held.contains(verdict))
    });
    let everywhere =
        everywhere.filter_map(|(target, state)| plan.space.rank(&target).map(|number| (number, state)));
    Held { everywhere: everywhere.collect(), each: outputs.into_iter().map(|(_, held)| held).collect() }
}

/// The verdicts of one output about targets that are probed again.
fn read(
    argument: &str,
    plan: &Plan,
    restart: &Restart,
) -> Result<HashSet<(Target, State)>, source::SourceError> {
    let mut source = source::open(argument)?;
    let (order, cursors, mut held) = (plan.order(), plan.shard.cursors(plan.space.len()), HashSet::new());
    let size = cursors.end - cursors.start;
    let again = |Cursor(cursor): Cursor| {
        let offset = cursor.checked_sub(cursors.start).filter(|offset| *offset < size)?;
        let mut passes = (0..u64::from(plan.passes)).map(|pass| pass * size + offset);
        passes
            .any(|step| (restart.step..restart.step.saturating_add(restart.window)).contains(&step))
            .then_some(())
    };
    let mut batch = Observations::default();
    while source.read(&mut batch)? {
        let verdict = |record: &Record| {
            let number = plan.space.rank(&record.target())?;
            again(order.cursor(number)).map(|()| (record.target(), record.state))
        };
        held.extend(batch.records.iter().filter_map(verdict));
    }
    Ok(held)
}
