//! `swath compact DIR|FILES -o OUT`: parts and files of results, merged into one sorted set that holds each verdict once.
//!
//! A verdict is (address, port, protocol, state); of several the earliest stays. The file appears when it is whole. Bytes
//! that targets sent, where files of columns have them, stand beside it (`OUT.attachments.parquet`), each once.

use std::fs;
use std::path::Path;

use super::sets::Set;
use super::{Exit, complain};
use crate::cli::CompactArgs;
use crate::columnar::{self, Format};
use crate::event::{Record, State};
use crate::sorted::{Merged, merge};
use crate::store;
use crate::text::grouped;

/// Runs the command.
pub fn run(args: &CompactArgs) -> Exit {
    match compacted(args) {
        Ok((read, written)) => {
            let (read, written) = (grouped(read.into()), grouped(written.into()));
            complain(&format!("{read} results read, {written} distinct verdicts in {}\n", args.output));
            Exit::Done
        }
        Err((text, exit)) => {
            complain(&format!("swath: {text}\n"));
            exit
        }
    }
}

fn compacted(args: &CompactArgs) -> Result<(u64, u64), (String, Exit)> {
    let (format, path) = output(&args.output).map_err(|text| (text, Exit::Usage))?;
    if !args.force && fs::symlink_metadata(path).is_ok() {
        return Err((format!("{} exists; --force replaces it", path.display()), Exit::Usage));
    }
    let mut set = Set::default();
    args.inputs.iter().try_for_each(|input| set.add(input)).map_err(|text| (text, Exit::Failed))?;
    set.remarks.iter().for_each(|remark| complain(&format!("swath: {remark}\n")));
    let failed = |error: std::io::Error| (format!("cannot write {}: {error}", path.display()), Exit::Failed);
    let mut distinct = Distinct { merged: merge(set.runs).map_err(failed)?, last: None, states: 0, read: 0 };
    let temporary = store::beside(path, ".new");
    let file = store::create_temporary(&temporary).map_err(failed)?;
    let written = (format.write)(&file, &set.manifests, &mut |batch| distinct.fill(batch));
    let written = written.and_then(|count| store::publish(&file, &temporary, path).map(|()| count));
    let written = written.inspect_err(|_| {
        // Half a file is of no use.
        let _ = fs::remove_file(&temporary);
    });
    let written = written.map_err(failed)?;
    let beside = columnar::attached::beside(path);
    let bytes = columnar::attached::merge(&set.attached, &set.manifests, &beside).map_err(failed)?;
    if bytes == 0 && beside.is_file() {
        // It belongs to the file that was replaced.
        fs::remove_file(&beside).map_err(failed)?;
    }
    Ok((distinct.read, written))
}

/// Each verdict once. Records come in the order of target and time, so what is known of a target is a set of states.
struct Distinct {
    merged: Merged<'static>,
    last: Option<(bool, u128, u16, u8)>,
    states: u16,
    read: u64,
}

impl Distinct {
    fn fill(&mut self, batch: &mut Vec<Record>) -> std::io::Result<()> {
        while batch.len() < BATCH
            && let Some(record) = self.merged.take()?
        {
            self.read += 1;
            let (is_v6, address, port, protocol, _) = record.sort_key();
            let key = Some((is_v6, address, port, protocol));
            if self.last != key {
                (self.last, self.states) = (key, 0);
            }
            let bit = 1 << record.state.number();
            if self.states & bit == 0 {
                self.states |= bit;
                batch.push(record);
            }
        }
        Ok(())
    }
}

const _: () = assert!(State::ALL.len() < 16, "a state has a bit");

/// The format and the path of OUT.
fn output(argument: &str) -> Result<(&'static Format, &Path), String> {
    const FORMATS: [&Format; 2] = [&columnar::parquet::FORMAT, &columnar::arrow::FORMAT];
    let named = |format: &&&Format| {
        argument.split_once(':').is_some_and(|(name, _)| name == format.suffix)
            || argument.ends_with(&format!(".{}", format.suffix))
    };
    let Some(format) = FORMATS.iter().find(named) else {
        return Err(format!(
            "{argument}: a sorted set is a .parquet or an .arrow file; `swath convert --sort` writes others"
        ));
    };
    Ok((format, Path::new(argument.strip_prefix(&format!("{}:", format.suffix)).unwrap_or(argument))))
}

/// Records handed to the file at once.
const BATCH: usize = 1 << 16;
