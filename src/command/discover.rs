//! `--discover-first`: a sweep for hosts before the scan, whose plan then holds those that answered.

use std::sync::{Arc, Mutex, PoisonError};

use super::scan::refused;
use super::{Exit, complain};
use crate::cli::Args;
use crate::cli::build;
use crate::event::{Manifest, Record, State, Status};
use crate::host::Host;
use crate::plan::Plan;
use crate::scan::{self, Persist, ScanError};
use crate::sink::{Sink, SinkError};
use crate::target::{AddressSet, RangeList};
use crate::writer::{Outlet, Show};

/// The plan of a scan: as it is, or narrowed to the hosts that answer a sweep. The whole plan is given so that every mistake in
/// it is found before the first packet. With it the hosts that were found, if they were looked for: a scan that goes on has
/// the plan it began with, and does not look again.
pub(super) fn narrowed(
    args: &Args,
    whole: Plan,
    excluded: &AddressSet,
) -> Result<(Plan, AddressSet), (String, Exit)> {
    if !args.probes.discover_first {
        return Ok((whole, AddressSet::default()));
    }
    let plan = build::host_plan(args).map_err(refused)?;
    let setup = build::setup(args, &plan, Host::read).map_err(refused)?;
    let found = Arc::new(Mutex::new(RangeList::default()));
    let sink = Box::new(Collect { found: Arc::clone(&found), taken: 0 });
    let outlet = Outlet {
        name: "the list of hosts".into(),
        sink,
        show: Show::states(&[State::Up]),
        select: None,
        stdout: false,
    };
    let run = scan::run(&plan, &setup, || Ok(vec![outlet]), Vec::new(), &Persist::default());
    let ended = run.map_err(|error| match error {
        ScanError::Interrupted => (error.to_string(), Exit::Interrupted),
        error => (error.to_string(), Exit::Failed),
    })?;
    if !args.quiet {
        complain(&scan::ledger(&ended));
    }
    match ended.status {
        Status::Complete => {}
        Status::Interrupted => return Err(("interrupted while looking for hosts".into(), Exit::Interrupted)),
        Status::Running | Status::Failed => {
            return Err((format!("looking for hosts: {}", ended.errors.join("; ")), Exit::Failed));
        }
    }
    let found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    let found = found.into_set();
    let plan = build::plan_of_hosts(args, excluded, &found).map_err(refused)?;
    let plan = plan.ok_or_else(|| ("no host answered; nothing is left to scan".into(), Exit::Done))?;
    Ok((plan, found))
}

/// Keeps the addresses of what is up.
struct Collect {
    found: Arc<Mutex<RangeList>>,
    taken: u64,
}

impl Sink for Collect {
    fn begin(&mut self, _manifest: &Manifest) -> Result<(), SinkError> {
        Ok(())
    }

    fn write(&mut self, records: &[Record]) -> Result<(), SinkError> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            match record.address() {
                std::net::IpAddr::V4(address) => found.v4.push((address.into(), address.into())),
                std::net::IpAddr::V6(address) => found.v6.push((address.into(), address.into())),
            }
        }
        self.taken += records.len() as u64;
        Ok(())
    }

    fn commit(&mut self) -> Result<u64, SinkError> {
        Ok(self.taken)
    }

    fn safe(&self) -> u64 {
        self.taken
    }

    fn finish(self: Box<Self>, _manifest: &Manifest) -> Result<(), SinkError> {
        Ok(())
    }
}
