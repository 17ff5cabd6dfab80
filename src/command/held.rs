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
use crate::target::Cursor;
use crate::writer::Show;

/// The verdicts, target numbers of the plan and states, that every output that shows them holds. An output that cannot
/// be read back (standard output, for one) holds nothing for sure: what it shows is written again rather than lost.
pub(super) fn verdicts(args: &Args, plan: &Plan, restart: &Restart, places: &Places) -> Vec<(u64, State)> {
    if restart.window == 0 {
        return Vec::new();
    }
    let mut outputs = Vec::new();
    for (argument, kind, place) in places {
        let show = Show::states(&args.shown());
        let show = if kind.tells_state { show } else { show.unambiguous() };
        let held = match source::source_named(kind.name).filter(|_| !place.stdout) {
            None => HashSet::new(),
            Some(_) => read(&format!("{}:{}", kind.name, place.path.display()), plan, restart)
                .unwrap_or_else(|error| {
                    complain(&format!(
                        "swath: {argument} cannot be read back, so some of it may stand twice: {error}\n"
                    ));
                    HashSet::new()
                }),
        };
        outputs.push((show, held));
    }
    let all: HashSet<(u64, State)> = outputs.iter().flat_map(|(_, held)| held.iter().copied()).collect();
    let everywhere = |verdict: &(u64, State)| {
        outputs.iter().all(|(show, held)| !show.contains(verdict.1) || held.contains(verdict))
    };
    all.into_iter().filter(everywhere).collect()
}

/// The verdicts of one output about targets that are probed again.
fn read(
    argument: &str,
    plan: &Plan,
    restart: &Restart,
) -> Result<HashSet<(u64, State)>, source::SourceError> {
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
            again(order.cursor(number)).map(|()| (number, record.state))
        };
        held.extend(batch.records.iter().filter_map(verdict));
    }
    Ok(held)
}
