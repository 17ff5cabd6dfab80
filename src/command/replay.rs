//! `swath replay SPOOL [--to OUTPUT]`: delivers what a server or a disk could not take while the scan ran.

use super::{Exit, complain};
use crate::cli::ReplayArgs;
use crate::sink::{self, SinkErrorKind};
use crate::spool::{self, SpoolReader};
use crate::text::grouped;

/// Runs the command.
pub fn run(args: &ReplayArgs) -> Exit {
    let spool = &args.spool;
    if !spool::is_spool(spool) {
        complain(&format!("swath: {} is no spool; its name ends in .spool\n", spool.display()));
        return Exit::Usage;
    }
    let to = match args.to.clone().map_or_else(|| SpoolReader::destination(spool), Ok) {
        Ok(to) => to,
        Err(error) => {
            complain(&format!("swath: cannot read {}: {error}\n", spool.display()));
            return Exit::Failed;
        }
    };
    match sink::replay(spool, &to) {
        Ok(replayed) => {
            for finding in &replayed.findings {
                complain(&format!("swath: {}: {finding}\n", spool.display()));
            }
            let shown = sink::without_password(&to);
            complain(&format!("{} results are in {shown}\n", grouped(replayed.delivered.into())));
            if !replayed.kept {
                return Exit::Done;
            }
            complain(&format!("swath: {} is kept: it is damaged\n", spool.display()));
            Exit::KnownLoss
        }
        Err(error) => {
            complain(&format!("swath: {error}\n"));
            if error.kind == SinkErrorKind::Refused { Exit::Usage } else { Exit::Failed }
        }
    }
}
