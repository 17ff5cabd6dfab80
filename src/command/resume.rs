//! `swath resume`: goes on with a scan that was stopped or killed, with the same plan and the same outputs.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::scan::{carry_out, keeps_note, refused, report, reread};
use super::{Exit, complain, held};
use crate::checkpoint::{self, Birth, Found, Mode, Restart, State};
use crate::cli::{Args, ResumeArgs, build, resume};
use crate::order;
use crate::plan::Plan;
use crate::scan::Persist;
use crate::target::{AddressSet, TargetList, parse_list};
use crate::text::{counted, grouped};

/// Runs the command.
pub fn run(resume: &ResumeArgs) -> Exit {
    match prepared(resume) {
        Ok(exit) => exit,
        Err((error, exit)) => {
            complain(&format!("swath: {error}\n"));
            exit
        }
    }
}

fn prepared(resume: &ResumeArgs) -> Result<Exit, (String, Exit)> {
    let usage = |error: String| (error, Exit::Usage);
    let path = find(&resume.path).map_err(usage)?;
    let (birth, state) = match checkpoint::read(&path).map_err(|error| usage(error.to_string()))? {
        Found::Open(found) => *found,
        Found::Complete(_) => {
            complain(&format!("{}: the scan is complete; nothing is left to do\n", path.display()));
            return Ok(Exit::Done);
        }
    };
    let restart = state.restart(resume.mode);
    if !state.same_boot && resume.mode == Mode::Exact {
        return Err(usage(format!(
            "{}: the machine was started again since, so what was sent last is not known; only --resume=complete can go on",
            path.display()
        )));
    }
    // Relative names count from where the scan was started.
    std::env::set_current_dir(&birth.directory).map_err(|error| {
        usage(format!("cannot go to {}, where the scan was started: {error}", birth.directory))
    })?;
    // The shard is what it was, whatever environment told it then.
    let shard = [format!("--shard={}/{}", birth.shard, birth.shards).into()];
    let words: Vec<_> = shard.into_iter().chain(resume.words.iter().cloned()).collect();
    let mut args = resume::again(&birth.argv, &words).map_err(usage)?;
    args.seed =
        Some(birth.seed.parse().map_err(|_| usage(format!("{}: its seed is no number", path.display())))?);
    (args.append_output, args.force, args.resume_index) = (true, false, 0);
    let (plan, later) = same_plan(&args, &birth, &state, &path)?;
    let plan = Plan { first_step: restart.step, ..plan };
    if !args.quiet {
        announce(&plan, &state, &restart, resume.mode);
    }
    go_on(&args, &plan, (birth, state), (path, restart, later))
}

/// Scans from where the last run can go on.
fn go_on(
    args: &Args,
    plan: &Plan,
    (mut birth, state): (Birth, State),
    (path, restart, later): (PathBuf, Restart, AddressSet),
) -> Result<Exit, (String, Exit)> {
    let argv = birth.argv.clone();
    birth.version = env!("CARGO_PKG_VERSION").to_owned();
    let persist = Persist {
        place: Some(path),
        birth,
        reached: restart.reached,
        run: state.run + 1,
        waiting: restart.waiting.clone(),
        keep_note: keeps_note(args, plan),
        later,
        reread: reread(args),
        ..Persist::default()
    };
    let ended = carry_out(args, plan, argv, |places, _| {
        let held = held::verdicts(args, plan, &restart, places);
        Ok(Persist { seen: held.everywhere, held: held.each, ..persist })
    })?;
    Ok(report(args, &ended))
}

/// The checkpoint at a path: the file itself, or the only one in a directory.
fn find(path: &Path) -> Result<PathBuf, String> {
    let shown = path.display();
    let found = if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
        let files = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let files: Vec<PathBuf> =
            files.filter(|file| file.extension().is_some_and(|suffix| suffix == "swath")).collect();
        match &files[..] {
            [only] => only.clone(),
            [] => return Err(format!("{shown} holds no checkpoint (*.swath)")),
            several => {
                let names: Vec<String> = several.iter().map(|file| file.display().to_string()).collect();
                return Err(format!("{shown} holds several checkpoints; name one: {}", names.join(", ")));
            }
        }
    } else {
        path.to_owned()
    };
    std::fs::canonicalize(&found).map_err(|error| {
        let why = match error.kind() {
            // The most likely reason: the scan has nothing left to do.
            ErrorKind::NotFound => {
                "there is none; a scan that came to its end removes its checkpoint".to_owned()
            }
            _ => error.to_string(),
        };
        format!("checkpoint {}: {why}", found.display())
    })
}

/// The plan the scan began with, and what was excluded since.
///
/// # Errors
/// What differs, in words: nothing is sent by another plan under the name of this one.
fn same_plan(
    args: &Args,
    birth: &Birth,
    state: &State,
    path: &Path,
) -> Result<(Plan, AddressSet), (String, Exit)> {
    let shown = path.display();
    let different = |text: String| (format!("{shown} cannot be resumed: {text}"), Exit::Usage);
    if birth.order != order::VERSION {
        return Err(different(format!(
            "its order is version {}, this program's is {}; use swath {}",
            birth.order,
            order::VERSION,
            birth.version
        )));
    }
    if (args.shard.index(), args.shard.count()) != (birth.shard, birth.shards) {
        return Err(different(format!(
            "it is shard {}/{}, not {}/{}",
            birth.shard,
            birth.shards,
            args.shard.index(),
            args.shard.count()
        )));
    }
    let unreadable = |what| move |error| different(format!("its {what} cannot be read: {error}"));
    let before = addresses(birth.excluded.iter().map(String::as_str)).map_err(unreadable("excludes"))?;
    let since = addresses(state.excluded_later.split_whitespace()).map_err(unreadable("excludes"))?;
    let hosts = addresses(birth.hosts.iter().map(String::as_str)).map_err(unreadable("hosts"))?;
    let now = build::excluded(args).map_err(refused)?;
    let missing = before.union(&since).subtract(&now);
    if let Some(block) = missing.blocks().next() {
        return Err(different(format!(
            "{} that were excluded are not any more, {block} first; an exclude list may grow, never shrink",
            counted(missing.len(), "address")
        )));
    }
    if args.probes.discover_first && hosts.is_empty() {
        return Err(different("it did not begin with --discover-first".into()));
    }
    let plan = if hosts.is_empty() {
        build::plan_without(args, &before).map_err(refused)?
    } else {
        let plan = build::plan_of_hosts(args, &before, &hosts).map_err(refused)?;
        plan.ok_or_else(|| different("none of the hosts that it found is a target any more".into()))?
    };
    if plan.tally.ports != birth.ports {
        return Err(different(format!("its ports are {}, not {}", birth.ports, plan.tally.ports)));
    }
    if plan.digest() != birth.plan_digest {
        return Err(different(
            "targets, probes or passes are not those it began with (a target file that changed, for one); the digest of the plan differs".into(),
        ));
    }
    Ok((plan, now.subtract(&before)))
}

fn addresses<'a>(words: impl Iterator<Item = &'a str>) -> Result<AddressSet, String> {
    let mut list = TargetList::default();
    for word in words {
        parse_list(word, &mut list).map_err(|error| error.to_string())?;
    }
    Ok(list.ranges.into_set())
}

fn announce(plan: &Plan, state: &State, restart: &Restart, mode: Mode) {
    let window = grouped(restart.window.into());
    let how = match mode {
        Mode::Complete if restart.window == 0 => "nothing is probed twice".into(),
        Mode::Complete => {
            format!("{window} probes are sent again at most: their replies may have been missed")
        }
        Mode::Exact => format!(
            "AT RISK: replies to {window} probes may have been missed; --resume=complete sends them again"
        ),
    };
    let left = plan.probes_planned();
    complain(&format!(
        "run {} goes on with {} left; {how}\n",
        state.run + 1,
        counted((left + restart.waiting.len() as u64).into(), "probe")
    ));
}
