//! `swath TARGETS -p PORTS`: the scan itself.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Exit, complain, discover};
use crate::checkpoint::{self, Birth, Found};
use crate::cli::Args;
use crate::cli::build::{self, BuildError};
use crate::event::Status;
use crate::host::Host;
use crate::link::{LinkError, LinkInterface};
use crate::order;
use crate::plan::{Plan, Setup};
use crate::scan::events::{Look, View};
use crate::scan::{self, Ended, Persist, Reread, ScanError};
use crate::sink::{self, Existing, Place, SinkError, SinkErrorKind, SinkKind};
use crate::target::AddressSet;
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

/// Builds the plan and what is to survive of it, and scans.
fn prepared(args: &Args) -> Result<Ended, (String, Exit)> {
    let excluded = build::excluded(args).map_err(refused)?;
    let plan = build::plan_without(args, &excluded).map_err(refused)?;
    // What is wrong with the outputs is said before the first packet of the discovery.
    places(args).map_err(sink_refused)?;
    let (plan, hosts) = discover::narrowed(args, plan, &excluded)?;
    let argv = std::env::args_os().map(|word| sink::without_password(&word.to_string_lossy())).collect();
    carry_out(args, &plan, argv, |places, transmits| {
        let place = checkpoint_place(args, places, transmits)?;
        let birth = birth(&plan, (&excluded, &hosts), places).map_err(|error| (error, Exit::Usage));
        let birth = if place.is_some() { birth? } else { Birth::default() };
        let (keep_note, reread) = (keeps_note(args, &plan), reread(args));
        Ok(Persist { place, birth, keep_note, reread, ..Persist::default() })
    })
}

/// Scans by a plan. Builds the rest in an order in which the cheap mistakes are found first. What a refused scan must
/// not do is create, replace or delete a file: the sinks are opened last, when the link is open.
pub(super) fn carry_out(
    args: &Args,
    plan: &Plan,
    argv: Vec<String>,
    persist: impl FnOnce(&Places, bool) -> Result<Persist, (String, Exit)>,
) -> Result<Ended, (String, Exit)> {
    let places = places(args).map_err(sink_refused)?;
    let setup = build::setup(args, plan, Host::read).map_err(refused)?;
    let mut persist = persist(&places, setup.backend.transmits)?;
    persist.net_timeout = args.reliability.net_timeout;
    if setup.backend.transmits {
        persist.look = Some(look(args, &setup, longest_packet(plan)));
    }
    scan::run(plan, &setup, || outlets(args, places), argv, &persist).map_err(|error| match error {
        ScanError::Sink(error) => sink_refused(error),
        ScanError::Interrupted => (error.to_string(), Exit::Interrupted),
        ScanError::Link(error @ LinkError::Privilege { .. }) if asks_tcp_only(plan) => {
            let instead =
                "; or give -sT, which asks by the operating system's own connections and needs none";
            (format!("{error}{instead}"), Exit::Failed)
        }
        error => (error.to_string(), Exit::Failed),
    })
}

/// Whether a connect scan would find the same ports.
fn asks_tcp_only(plan: &Plan) -> bool {
    plan.probes.iter().all(|probe| probe.name() == "syn")
}

/// Looks at this host again, for a scan that is set up as said.
fn look(args: &Args, setup: &Setup, longest: u32) -> Look {
    let (args, interface) = (args.clone(), setup.interface.clone());
    // A borrowed address was never the interface's own.
    let own = setup.sources.iter().map(|source| source.address);
    let sources: Vec<_> = own.filter(|source| !setup.answers_for.contains(source)).collect();
    Box::new(move |plan| {
        let host = Host::read();
        let usable = host.as_ref().map_err(ToString::to_string).and_then(|host| {
            let Some(LinkInterface { name, index, .. }) = &interface else { return Ok(()) };
            let Some(now) = host.interfaces.iter().find(|now| now.index == *index) else {
                return Err(format!("{name} is gone"));
            };
            let lost = sources.iter().find(|source| !now.addresses.iter().any(|own| own.address == **source));
            match lost {
                _ if !now.up || !now.carrier => Err(format!("{name} is down")),
                _ if now.mtu < longest => {
                    Err(format!("the MTU of {name} is {}, our packets have {longest}", now.mtu))
                }
                Some(source) => Err(format!("{name} no longer has {source}")),
                None => Ok(()),
            }
        });
        let routed = host.map_err(|error| error.to_string());
        let routed =
            routed.and_then(|host| build::setup(&args, plan, || Ok(host)).map_err(|error| error.to_string()));
        View { usable, routed }
    })
}

/// Length of the longest packet of a plan, without its link-layer header.
fn longest_packet(plan: &Plan) -> u32 {
    u32::try_from(super::plan::frame_length(plan).saturating_sub(14)).unwrap_or(u32::MAX)
}

/// Where the checkpoint goes: where the user says, or beside the first output that is a file. A link that sends nothing
/// needs none; a scan that would go over the checkpoint of another is refused.
fn checkpoint_place(
    args: &Args,
    places: &Places,
    transmits: bool,
) -> Result<Option<PathBuf>, (String, Exit)> {
    let place = match args.reliability.checkpoint.as_deref() {
        Some("none") => None,
        Some(path) => Some(PathBuf::from(path)),
        None if !transmits => None,
        None => files(places).next().map(|path| {
            let mut name = path.as_os_str().to_owned();
            name.push(".swath");
            PathBuf::from(name)
        }),
    };
    let Some(path) = place else { return Ok(None) };
    let shown = path.display();
    match std::fs::symlink_metadata(&path) {
        Ok(_) if args.force => {}
        Ok(_) => match checkpoint::read(&path) {
            Ok(Found::Complete(_)) => {}
            Ok(Found::Open(_)) => {
                let text = format!(
                    "{shown} is the checkpoint of a scan that is not complete: swath resume {shown} goes on with it, --force forgets it"
                );
                return Err((text, Exit::Usage));
            }
            Err(error) => return Err((format!("{error}; --force replaces it"), Exit::Usage)),
        },
        Err(_) => {}
    }
    Ok(Some(path))
}

/// How the exclude lists are read again while the scan runs. Standard input is read once.
pub(super) fn reread(args: &Args) -> Option<Reread> {
    let files = args.exclude_file.iter().filter(|path| path.as_os_str() != "-").count();
    let args = args.clone();
    (0 < files).then(|| -> Reread {
        Box::new(move || build::excluded_again(&args).map_err(|error| error.to_string()))
    })
}

/// Whether the closing note is wanted: by `swath merge`, or by whoever named the checkpoint.
pub(super) fn keeps_note(args: &Args, plan: &Plan) -> bool {
    plan.shard.count() != 1 || args.reliability.checkpoint.is_some()
}

/// The outputs that are files, or will be.
fn files(places: &Places) -> impl Iterator<Item = &Path> {
    let file = |(_, _, place): &(String, &SinkKind, Place)| {
        let stands = std::fs::metadata(&place.path);
        !place.stdout && !place.path.as_os_str().is_empty() && stands.is_ok_and(|file| file.is_file())
            || !place.stdout && !place.path.as_os_str().is_empty() && !place.path.exists()
    };
    places.iter().filter(move |place| file(place)).map(|(_, _, place)| place.path.as_path())
}

/// What the scan is, for its checkpoint.
fn birth(
    plan: &Plan,
    (excluded, hosts): (&AddressSet, &AddressSet),
    places: &Places,
) -> Result<Birth, String> {
    let blocks = |set: &AddressSet| set.blocks().map(|block| block.to_string()).collect();
    let utf8 = |word: OsString| {
        let shown = word.to_string_lossy().into_owned();
        word.into_string().map_err(|_| {
            format!(
                "'{shown}' is no UTF-8 and cannot stand in a checkpoint; rename it or give --checkpoint none"
            )
        })
    };
    let directory = std::env::current_dir().map_err(|error| format!("cannot tell the directory: {error}"))?;
    let outputs = files(places).map(|path| utf8(directory.join(path).into_os_string()));
    Ok(Birth {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        scan_uuid: String::new(),
        plan_digest: plan.digest(),
        order: order::VERSION.to_owned(),
        seed: plan.seed.to_string(),
        shard: plan.shard.index(),
        shards: plan.shard.count(),
        ports: plan.tally.ports.clone(),
        argv: std::env::args_os().map(utf8).collect::<Result<_, _>>()?,
        outputs: outputs.collect::<Result<_, _>>()?,
        directory: utf8(directory.into_os_string())?,
        excluded: blocks(excluded),
        hosts: blocks(hosts),
    })
}

pub(super) fn refused(error: BuildError) -> (String, Exit) {
    let exit = match error {
        BuildError::Usage(_) | BuildError::Host(crate::host::HostError::UnknownInterface { .. }) => {
            Exit::Usage
        }
        BuildError::Host(_) => Exit::Failed,
    };
    (error.to_string(), exit)
}

pub(super) fn sink_refused(error: SinkError) -> (String, Exit) {
    let exit = if error.kind == SinkErrorKind::Refused { Exit::Usage } else { Exit::Failed };
    (error.to_string(), exit)
}

/// Where the results go, in the user's words, of which kind, and the place.
pub(super) type Places = Vec<(String, &'static SinkKind, Place)>;

/// Reads the places. Nothing is created, but a file that exists is refused here already.
pub(super) fn places(args: &Args) -> Result<Places, SinkError> {
    let existing = match (args.append_output, args.force) {
        (true, _) => Existing::Append,
        (false, true) => Existing::Replace,
        (false, false) => Existing::Refuse,
    };
    let lines = ["-".to_owned()];
    let arguments = if args.output.is_empty() { &lines[..] } else { &args.output };
    let mut places: Places = Vec::with_capacity(arguments.len());
    let arguments = if args.outputs.names_some() { &args.output[..] } else { arguments };
    for (argument, kind, place) in args.outputs.places(arguments, existing)? {
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
        places.push((argument, kind, place));
    }
    Ok(places)
}

/// Opens the sinks: before the first packet, so that a full disk or a missing directory costs nothing.
pub(super) fn outlets(args: &Args, places: Places) -> Result<Vec<Outlet>, SinkError> {
    let show = Show::states(&args.shown());
    let open = |(argument, kind, place): (String, &'static SinkKind, Place)| {
        let stdout = place.stdout;
        let name = if stdout { "standard output".to_owned() } else { argument };
        let show = if kind.tells_state { show } else { show.unambiguous() };
        let show = show.and(Show::states(kind.states));
        let select = args.outputs.output_filter.clone();
        let sink = args.outputs.open(kind, &place)?;
        Ok(Outlet { name: sink::without_password(&name), sink, show, select, stdout })
    };
    places.into_iter().map(open).collect()
}

/// Says how it ended.
pub(super) fn report(args: &Args, ended: &Ended) -> Exit {
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
