//! `swath merge`: joins the outputs of shards and checks that together they are the whole scan.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use serde_json::Value;

use super::{Exit, complain};
use crate::checkpoint::{self, Found};
use crate::cli::MergeArgs;
use crate::event::{Course, Manifest, Observations, Record, State, Status, Summary};
use crate::order;
use crate::sink::{Existing, Sink, SinkError, SinkErrorKind, parse_place};
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
        let mut manifest = whole(&shards, verdict.missing.is_empty());
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

/// What a manifest says of its shard.
#[derive(Debug, Clone)]
struct Shard {
    input: String,
    json: Value,
}

impl Shard {
    fn text(&self, key: &str) -> &str {
        self.json.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn number(&self, key: &str) -> u64 {
        self.json.get(key).and_then(Value::as_u64).unwrap_or(0)
    }

    /// Which part it is, from 1, of how many.
    fn part(&self) -> (u64, u64) {
        (self.number("shard"), self.number("shards"))
    }

    fn is_complete(&self) -> bool {
        self.text("status") == Status::Complete.name()
    }
}

/// The manifests of an input: those in it, or that of the note beside it.
fn manifests(input: &str) -> Result<Vec<Shard>, String> {
    let mut source = source::open(input).map_err(|error| error.to_string())?;
    let mut batch = Observations::default();
    while source.read(&mut batch).map_err(|error| error.to_string())? {}
    let Facts { manifests, .. } = source.facts();
    let shard = |json| Shard { input: input.to_owned(), json };
    if !manifests.is_empty() {
        let read = |text: &String| {
            serde_json::from_str(text)
                .map(shard)
                .map_err(|error| format!("{input}: its manifest cannot be read: {error}"))
        };
        return manifests.iter().map(read).collect();
    }
    let path = input
        .split_once(':')
        .filter(|(kind, _)| source::source_named(kind).is_some())
        .map_or(input, |(_, path)| path);
    let note = format!("{path}.swath");
    if !Path::new(&note).exists() {
        return Err(format!(
            "{input} holds no manifest, and no note {note} stands beside it: nothing says which shard it is"
        ));
    }
    match checkpoint::read(Path::new(&note)).map_err(|error| error.to_string())? {
        Found::Complete(closing) => Ok(vec![shard(closing.manifest)]),
        Found::Open(found) => {
            let (birth, _) = *found;
            let json = serde_json::json!({
                "plan_digest": birth.plan_digest, "order": birth.order, "shard": birth.shard, "shards": birth.shards,
                "seed": birth.seed, "ports": birth.ports, "status": Status::Running.name(),
            });
            Ok(vec![shard(json)])
        }
    }
}

/// What the shards are together.
#[derive(Debug, Default, PartialEq)]
struct Verdict {
    /// The complete ones.
    present: BTreeSet<u64>,
    /// Of how many.
    shards: u64,
    /// What is missing or does not fit, in words.
    missing: Vec<String>,
}

fn judge(shards: &[Shard]) -> Verdict {
    let mut verdict = Verdict::default();
    let Some(first) = shards.first() else {
        verdict.missing.push("there is no manifest".into());
        return verdict;
    };
    verdict.shards = first.part().1;
    let mut seen: BTreeMap<u64, bool> = BTreeMap::new();
    for shard in shards {
        for key in ["plan_digest", "order", "seed"] {
            if shard.text(key) != first.text(key) {
                verdict.missing.push(format!(
                    "{} is of another scan than {}: {} {} is not {}",
                    shard.input,
                    first.input,
                    key.replace('_', " "),
                    shard.text(key),
                    first.text(key)
                ));
            }
        }
        if shard.part().1 != verdict.shards {
            let (index, count) = shard.part();
            verdict.missing.push(format!(
                "{} is shard {index}/{count}, the others are of {}",
                shard.input, verdict.shards
            ));
            continue;
        }
        *seen.entry(shard.part().0).or_default() |= shard.is_complete();
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
    (address.octets(), record.protocol.0, record.port, record.state)
}

/// The manifest of the whole.
fn whole(shards: &[Shard], complete: bool) -> Manifest {
    let none = Shard { input: String::new(), json: Value::Null };
    let first = shards.first().unwrap_or(&none);
    let texts = |key: &str| {
        let list = first.json.get(key).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    Manifest {
        scan_uuid: first.text("scan_uuid").to_owned(),
        tool: "swath".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        argv: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        plan_digest: first.text("plan_digest").to_owned(),
        targets: first.number("targets"),
        shard_targets: first.number("targets"),
        excluded_addresses: first.text("excluded_addresses").to_owned(),
        ports: first.text("ports").to_owned(),
        probes: texts("probes"),
        seed: first.text("seed").parse().unwrap_or(0),
        order: order::VERSION.into(),
        shard: 1,
        shards: 1,
        passes: u8::try_from(first.number("passes")).unwrap_or(1),
        course: Course { run: 1, ..Course::default() },
        status: if complete { Status::Complete } else { Status::Interrupted },
        started_us: shards.iter().map(|shard| shard.number("started_us")).min().unwrap_or(0),
        finished_us: shards.iter().map(|shard| shard.number("finished_us")).max(),
        ..Manifest::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(digest: &str, part: (u64, u64), status: &str) -> Shard {
        let json = serde_json::json!({
            "plan_digest": digest, "order": "v1", "seed": "7", "shard": part.0, "shards": part.1, "status": status,
        });
        Shard { input: format!("{}.csv", part.0), json }
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
