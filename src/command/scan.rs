//! `swath TARGETS -p PORTS`: the scan itself.

use super::Exit;
use crate::cli::Args;
use crate::cli::build::{self, BuildError};
use crate::event::Status;
use crate::host::Host;
use crate::scan::{self, Ended, ScanError};
use crate::sink::{Existing, SinkErrorKind, parse_place};
use crate::writer::{Outlet, Show};

/// Runs the command.
pub fn run(args: &Args) -> Exit {
    match prepared(args) {
        Ok(ended) => report(args, &ended),
        Err((error, exit)) => {
            eprintln!("swath: {error}");
            exit
        }
    }
}

/// Builds plan, set-up and sinks, in an order in which the cheap mistakes are found first, and scans.
fn prepared(args: &Args) -> Result<Ended, (String, Exit)> {
    let plan = build::plan(args).map_err(refused)?;
    let setup = build::setup(args, &plan, Host::read).map_err(refused)?;
    let outlets = outlets(args)?;
    let argv = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    scan::run(&plan, &setup, outlets, argv).map_err(|error| {
        let exit = match &error {
            ScanError::Sink(sink) if sink.kind == SinkErrorKind::Refused => Exit::Usage,
            _ => Exit::Failed,
        };
        (error.to_string(), exit)
    })
}

fn refused(error: BuildError) -> (String, Exit) {
    let exit = match error {
        BuildError::Usage(_) | BuildError::Host(crate::host::HostError::UnknownInterface { .. }) => {
            Exit::Usage
        }
        BuildError::Host(_) => Exit::Failed,
    };
    (error.to_string(), exit)
}

/// Opens the sinks: before the first packet, so that a full disk or a missing directory costs nothing.
fn outlets(args: &Args) -> Result<Vec<Outlet>, (String, Exit)> {
    let existing = match (args.append_output, args.force) {
        (true, _) => Existing::Append,
        (false, true) => Existing::Replace,
        (false, false) => Existing::Refuse,
    };
    let lines = ["-".to_owned()];
    let places = if args.output.is_empty() { &lines[..] } else { &args.output };
    let show = Show::states(&args.show.0);
    let open = |argument: &String| {
        let (kind, place) = parse_place(argument, existing)?;
        let stdout = place.stdout;
        let name = if stdout { "standard output".to_owned() } else { argument.clone() };
        Ok(Outlet { name, sink: (kind.open)(&place)?, show, stdout })
    };
    places.iter().map(open).collect::<Result<_, crate::sink::SinkError>>().map_err(|error| {
        let exit = if error.kind == SinkErrorKind::Refused { Exit::Usage } else { Exit::Failed };
        (error.to_string(), exit)
    })
}

/// Says how it ended.
fn report(args: &Args, ended: &Ended) -> Exit {
    for remark in &ended.remarks {
        eprintln!("{remark}");
    }
    let balanced = ended.summary.imbalance().is_none();
    if !args.quiet || !balanced {
        eprint!("{}", scan::ledger(&ended.summary, ended.open, ended.sending_s));
    }
    for error in &ended.errors {
        eprintln!("swath: {error}");
    }
    let suppressed = ended.summary.sinks.iter().any(|sink| 0 < sink.suppressed);
    match ended.status {
        _ if !balanced => Exit::Failed,
        Status::Failed | Status::Running => Exit::Failed,
        Status::Interrupted => Exit::Interrupted,
        Status::Complete if 0 < ended.summary.kernel_drops || suppressed || !ended.errors.is_empty() => {
            Exit::KnownLoss
        }
        Status::Complete => Exit::Done,
    }
}
