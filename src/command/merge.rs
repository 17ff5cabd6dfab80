//! `swath merge`: joins the outputs of shards and checks that together they are the whole scan.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use super::{Exit, complain};
use crate::checkpoint::{self, Found};
use crate::cli::MergeArgs;
use crate::event::{Course, Manifest, Observations, Record, State, Status, Summary};
use crate::sink::{self, Existing, Sink, SinkError, SinkErrorKind, parse_place};
use crate::source::{self, Facts};
use crate::text::{counted, grouped};

/// Runs the command.
pub fn run(args: &MergeArgs) -> Exit {
    match merged(args) {
        Ok(exit) => exit,
        Err((error, exit)) => {
            complain(&format!("swath: {error}\n"));
            exit
        }
    }
}

fn merged(args: &MergeArgs) -> Result<Exit, (String, Exit)> {
    let sink_failed = |error: SinkError| {
        let exit = if error.kind == SinkErrorKind::Refused { Exit::Usage } else { Exit::Failed };
        (error.to_string(), exit)
    };
    let mut shards = Vec::new();
    for input in &args.inputs {
        shards.extend(manifests(input).map_err(|error| (error, Exit::Usage))?);
    }
    let verdict = judge(&shards);
    let existing = if args.force { Existing::Replace } else { Existing::Refuse };
    let open = |output: &String| {
        let (kind, place) = parse_place(output, existing)?;
        (kind.open)(&place)
    };
    let mut sinks = args.output.iter().map(open).collect::<Result<Vec<_>, _>>().map_err(sink_failed)?;
    let mut written = 0;
    if !sinks.is_empty() {
        let nothing =
            || ("no shard has been scanned to its end, so there is nothing to join".into(), Exit::Difference);
        let mut manifest = whole(&shards, verdict.missing.is_empty()).ok_or_else(nothing)?;
        sinks.iter_mut().try_for_each(|sink| sink.begin(&manifest)).map_err(sink_failed)?;
        written = copy(args, &mut sinks).map_err(|error| (error, Exit::Failed))?;
        manifest.summary = Some(Summary { accepted: written, ..Summary::default() });
        sinks.into_iter().try_for_each(|sink| sink.finish(&manifest)).map_err(sink_failed)?;
    }
    for problem in &verdict.missing {
        complain(&format!("swath: not complete: {problem}\n"));
    }
    if !args.quiet {
        complain(&format!(
            "{} of {}, {}{}\n",
            counted(verdict.present.len() as u128, "shard"),
            verdict.shards,
            if verdict.missing.is_empty() { "the whole plan" } else { "not the whole plan" },
            if args.output.is_empty() {
                String::new()
            } else {
                format!("; {} results joined", grouped(written.into()))
            }
        ));
    }
    Ok(if verdict.missing.is_empty() { Exit::Done } else { Exit::Difference })
}

/// What is known of a shard.
#[derive(Debug, Clone)]
struct Shard {
    input: String,
    digest: String,
    order: String,
    seed: String,
    /// Which part it is, from 1, of how many.
    part: (u32, u32),
    complete: bool,
    manifest: Option<Manifest>,
}

impl Shard {
    fn of(input: &str, manifest: Manifest) -> Shard {
        Shard {
            input: input.to_owned(),
            digest: manifest.plan_digest.clone(),
            order: manifest.order.to_string(),
            seed: manifest.seed.to_string(),
            part: (manifest.shard, manifest.shards),
            complete: manifest.status == Status::Complete,
            manifest: Some(manifest),
        }
    }
}

/// The manifests of an input: those in it, that of the note beside it, or those of its sidecar.
fn manifests(input: &str) -> Result<Vec<Shard>, String> {
    let mut source = source::open(input).map_err(|error| error.to_string())?;
    let mut batch = Observations::default();
    while source.read(&mut batch).map_err(|error| error.to_string())? {}
    let Facts { manifests, .. } = source.facts();
    let unreadable = |error| format!("{input}: its manifest cannot be read: {error}");
    if !manifests.is_empty() {
        let read = |text: &String| {
            serde_json::from_str(text).map(|manifest| Shard::of(input, manifest)).map_err(unreadable)
        };
        return manifests.iter().map(read).collect();
    }
    let path = input
        .split_once(':')
        .filter(|(kind, _)| source::source_named(kind).is_some())
        .map_or(input, |(_, path)| path);
    let (note, sidecar) = (format!("{path}.swath"), format!("{path}{}", sink::MANIFEST_SUFFIX));
    if !Path::new(&note).exists() {
        let Ok(text) = std::fs::read(&sidecar) else {
            return Err(format!(
                "{input} holds no manifest, and neither {sidecar} nor the note {note} stands beside it: nothing says which shard it is"
            ));
        };
        let beside = |error| format!("{sidecar}: it cannot be read as a manifest: {error}");
        // One that was appended to has one manifest for each run.
        let runs = match serde_json::from_slice(&text).map_err(beside)? {
            serde_json::Value::Array(runs) => runs,
            one => vec![one],
        };
        let read =
            |run| serde_json::from_value(run).map(|manifest| Shard::of(input, manifest)).map_err(beside);
        return runs.into_iter().map(read).collect();
    }
    match checkpoint::read(Path::new(&note)).map_err(|error| error.to_string())? {
        Found::Complete(closing) => {
            let manifest = serde_json::from_value(closing.manifest).map_err(unreadable)?;
            Ok(vec![Shard::of(input, manifest)])
        }
        Found::Open(found) => {
            let (birth, _) = *found;
            Ok(vec![Shard {
                input: input.to_owned(),
                digest: birth.plan_digest,
                order: birth.order,
                seed: birth.seed,
                part: (birth.shard, birth.shards),
                complete: false,
                manifest: None,
            }])
        }
    }
}

/// What the shards are together.
#[derive(Debug, Default, PartialEq)]
struct Verdict {
    /// The complete ones.
    present: BTreeSet<u32>,
    /// Of how many.
    shards: u32,
    /// What is missing or does not fit, in words.
    missing: Vec<String>,
}

fn judge(shards: &[Shard]) -> Verdict {
    let mut verdict = Verdict::default();
    let Some(first) = shards.first() else {
        verdict.missing.push("there is no manifest".into());
        return verdict;
    };
    verdict.shards = first.part.1;
    let mut seen: BTreeMap<u32, bool> = BTreeMap::new();
    for shard in shards {
        for (what, one, other) in [
            ("plan digest", &shard.digest, &first.digest),
            ("order", &shard.order, &first.order),
            ("seed", &shard.seed, &first.seed),
        ] {
            if one != other {
                let (input, first) = (&shard.input, &first.input);
                verdict
                    .missing
                    .push(format!("{input} is of another scan than {first}: {what} {one} is not {other}"));
            }
        }
        let (index, count) = shard.part;
        if count == verdict.shards {
            *seen.entry(index).or_default() |= shard.complete;
        } else {
            let text =
                format!("{} is shard {index}/{count}, the others are of {}", shard.input, verdict.shards);
            verdict.missing.push(text);
        }
    }
    for index in 1..=verdict.shards {
        match seen.get(&index) {
            Some(true) => drop(verdict.present.insert(index)),
            Some(false) => verdict.missing.push(format!(
                "shard {index}/{} is there and was not scanned to its end; swath resume goes on with it",
                verdict.shards
            )),
            None => verdict.missing.push(format!("shard {index}/{} is not there", verdict.shards)),
        }
    }
    verdict
}

/// Copies every verdict of every input, each target and state once: a shard that was resumed may hold some twice.
fn copy(args: &MergeArgs, sinks: &mut [Box<dyn Sink>]) -> Result<u64, String> {
    let mut written = 0;
    for input in &args.inputs {
        // Shards are disjoint, so what stands twice stands twice in one input.
        let mut seen: HashSet<([u8; 16], u8, u16, State)> = HashSet::new();
        let mut source = source::open(input).map_err(|error| error.to_string())?;
        let mut batch = Observations::default();
        while source.read(&mut batch).map_err(|error| error.to_string())? {
            batch.records.retain(|record| seen.insert(key(record)));
            for sink in &mut *sinks {
                sink.write(&batch.records).map_err(|error| error.to_string())?;
            }
            written += batch.records.len() as u64;
        }
        for remark in source.remarks() {
            complain(&format!("{input}: {remark}\n"));
        }
    }
    Ok(written)
}

fn key(record: &Record) -> ([u8; 16], u8, u16, State) {
    let address = match record.address() {
        std::net::IpAddr::V4(address) => address.to_ipv6_mapped(),
        std::net::IpAddr::V6(address) => address,
    };
    (address.octets(), planted!(40, 0, record.protocol.0), record.port, record.state)
}

/// The manifest of the whole: that of a shard, which says what the scan is, without what concerns the shard alone.
fn whole(shards: &[Shard], complete: bool) -> Option<Manifest> {
    let manifests = || shards.iter().filter_map(|shard| shard.manifest.as_ref());
    let first = manifests().next()?.clone();
    Some(Manifest {
        argv: std::env::args_os().map(|word| sink::without_password(&word.to_string_lossy())).collect(),
        shard_targets: first.targets,
        shard: 1,
        shards: 1,
        first_step: 0,
        course: Course { run: 1, ..Course::default() },
        status: if complete { Status::Complete } else { Status::Interrupted },
        started_us: manifests().map(|manifest| manifest.started_us).min().unwrap_or(0),
        finished_us: manifests().filter_map(|manifest| manifest.finished_us).max(),
        summary: None,
        ..first
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(digest: &str, part: (u32, u32), status: &str) -> Shard {
        Shard {
            input: format!("{}.csv", part.0),
            digest: digest.into(),
            order: "v1".into(),
            seed: "7".into(),
            part,
            complete: status == "complete",
            manifest: None,
        }
    }

    fn missing(shards: &[Shard]) -> String {
        judge(shards).missing.join("; ")
    }

    #[test]
    fn all_shards_of_one_plan_are_complete_in_any_order_and_after_several_runs() {
        let shards = [
            shard("a", (3, 3), "complete"),
            shard("a", (1, 3), "interrupted"),
            shard("a", (1, 3), "complete"),
            shard("a", (2, 3), "complete"),
        ];
        let verdict = judge(&shards);
        assert_eq!((verdict.present.len(), verdict.shards, verdict.missing), (3, 3, Vec::<String>::new()));
    }

    #[test]
    fn what_is_missing_is_named() {
        let text = missing(&[shard("a", (1, 3), "complete"), shard("a", (3, 3), "running")]);
        assert!(
            text.contains("shard 2/3 is not there") && text.contains("shard 3/3 is there and was not"),
            "{text}"
        );
        let text = missing(&[shard("a", (1, 2), "complete"), shard("b", (2, 2), "complete")]);
        assert!(text.contains("2.csv is of another scan than 1.csv: plan digest b is not a"), "{text}");
        let text = missing(&[shard("a", (1, 2), "complete"), shard("a", (2, 4), "complete")]);
        assert!(
            text.contains("shard 2/4, the others are of 2") && text.contains("shard 2/2 is not there"),
            "{text}"
        );
        assert!(missing(&[]).contains("no manifest"));
    }
}
