//! `swath TARGETS -p PORTS`: the scan itself.

use super::{Exit, complain};
use crate::cli::Args;
use crate::cli::build::{self, BuildError};
use crate::event::Status;
use crate::host::Host;
use crate::scan::{self, Ended, ScanError};
use crate::sink::{Existing, Place, SinkError, SinkErrorKind, SinkKind, parse_place};
use crate::writer::{Outlet, Show};

/// Runs the command.
pub fn run(args: &Args) -> Exit {
    match prepared(args) {
        Ok(ended) => report(args, &ended),
        Err((error, exit)) => {
            complain(&format!("swath: {error}\n"));
            exit
        }
    }
}

/// Builds plan, set-up and places, in an order in which the cheap mistakes are found first, and scans. What a refused
/// scan must not do is create, replace or delete a file: the sinks are opened last, when the link is open.
fn prepared(args: &Args) -> Result<Ended, (String, Exit)> {
    let plan = build::plan(args).map_err(refused)?;
    let places = places(args).map_err(sink_refused)?;
    let setup = build::setup(args, &plan, Host::read).map_err(refused)?;
    let argv = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    scan::run(&plan, &setup, || outlets(args, places), argv).map_err(|error| match error {
        ScanError::Sink(error) => sink_refused(error),
        ScanError::Interrupted => (error.to_string(), Exit::Interrupted),
        error => (error.to_string(), Exit::Failed),
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

fn sink_refused(error: SinkError) -> (String, Exit) {
    let exit = if error.kind == SinkErrorKind::Refused { Exit::Usage } else { Exit::Failed };
    (error.to_string(), exit)
}

/// Where the results go, in the user's words, of which kind, and the place.
type Places = Vec<(String, &'static SinkKind, Place)>;

/// Reads the places. Nothing is created, but a file that exists is refused here already.
fn places(args: &Args) -> Result<Places, SinkError> {
    let existing = match (args.append_output, args.force) {
        (true, _) => Existing::Append,
        (false, true) => Existing::Replace,
        (false, false) => Existing::Refuse,
    };
    let lines = ["-".to_owned()];
    let arguments = if args.output.is_empty() { &lines[..] } else { &args.output };
    let mut places: Places = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let (kind, place) = parse_place(argument, existing)?;
        if !place.path.as_os_str().is_empty() && places.iter().any(|(_, _, other)| other.path == place.path) {
            return Err(SinkError {
                operation: "write to",
                object: argument.escape_debug().to_string(),
                cause: "two outputs go there; give each a place of its own".into(),
                kind: SinkErrorKind::Refused,
            });
        }
        let stands =
            std::fs::symlink_metadata(&place.path).is_ok_and(|file| file.is_file() || file.is_symlink());
        if existing == Existing::Refuse && stands && !place.stdout {
            // It says in its own words why not; were it to accept the file after all, nothing is written yet.
            drop((kind.open)(&place)?);
        }
        places.push((argument.clone(), kind, place));
    }
    Ok(places)
}

/// Opens the sinks: before the first packet, so that a full disk or a missing directory costs nothing.
fn outlets(args: &Args, places: Places) -> Result<Vec<Outlet>, SinkError> {
    let show = Show::states(&args.shown());
    let open = |(argument, kind, place): (String, &'static SinkKind, Place)| {
        let stdout = place.stdout;
        let name = if stdout { "standard output".to_owned() } else { argument };
        let show = if kind.tells_state { show } else { show.unambiguous() };
        Ok(Outlet { name, sink: (kind.open)(&place)?, show, stdout })
    };
    places.into_iter().map(open).collect()
}

/// Says how it ended.
fn report(args: &Args, ended: &Ended) -> Exit {
    for remark in &ended.remarks {
        complain(&format!("{remark}\n"));
    }
    let balanced = ended.summary.imbalance().is_none();
    if !args.quiet || !balanced {
        complain(&scan::ledger(ended));
    }
    for error in &ended.errors {
        complain(&format!("swath: {error}\n"));
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
