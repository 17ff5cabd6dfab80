//! `swath convert IN... -o OUT...`: results from any format into any other, filtered, joined, sorted or without
//! repetitions. Streams: what is held in memory does not grow with the files.

use std::collections::HashSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Exit, complain};
use crate::cli::{ConvertArgs, Named, SortBy};
use crate::event::{Manifest, Observations, Record, State, Status};
use crate::runs::{Compare, Item, Sorter, by_target, by_time};
use crate::select::Expression;
use crate::sink::{Existing, Place, Sink, SinkError, SinkErrorKind, carries_bytes, without_password};
use crate::source::{self, BATCH, Facts, Source, source_path};
use crate::store;
use crate::target::{AddressSet, PortSet, TargetList, parse_list, parse_ports};
use crate::text::counted;
use crate::writer::Show;

/// Runs the command.
pub fn run(args: &ConvertArgs) -> Exit {
    match converted(args) {
        Ok(exit) => exit,
        Err((error, exit)) => {
            complain(&format!("swath: {error}\n"));
            exit
        }
    }
}

type Failure = (String, Exit);

fn converted(args: &ConvertArgs) -> Result<Exit, Failure> {
    let usage = |error: String| (error, Exit::Usage);
    let keep = Keep::new(args).map_err(usage)?;
    let places = places(args).map_err(refused)?;
    let mut input = Input::new(&args.input)?;
    // What cannot be read at all creates no file.
    let mut batch = Observations::default();
    let mut more = input.read(&mut batch)?;
    let mut output = Output::open(args, &places, &input.facts())?;
    let mut order = Order::new(args, &places);
    while more {
        keep.only(&mut batch);
        order.take(&mut batch, &mut output)?;
        if output.is_unread() {
            break;
        }
        match input.read(&mut batch) {
            Ok(next) => more = next,
            Err((error, _)) => {
                // What was read stays worth having.
                complain(&format!("swath: {error}\n"));
                order.end(&mut output)?;
                output.finish(&input.facts())?;
                return Ok(Exit::Failed);
            }
        }
    }
    order.end(&mut output)?;
    let written = output.finish(&input.facts())?;
    for remark in &input.remarks {
        complain(&format!("swath: {remark}\n"));
    }
    if !args.quiet && (io::stderr().is_terminal() || !args.output.is_empty() || args.outputs.names_some()) {
        let files = counted(args.input.len() as u128, "file");
        let (read, kept) = (counted(input.count.into(), "result"), counted(written.into(), "result"));
        complain(&format!("read {read} from {files}, wrote {kept}\n"));
    }
    Ok(Exit::Done)
}

fn refused(error: SinkError) -> Failure {
    let exit = if error.kind == SinkErrorKind::Refused { Exit::Usage } else { Exit::Failed };
    (error.to_string(), exit)
}

fn places(args: &ConvertArgs) -> Result<Vec<Named>, SinkError> {
    let existing = match (args.append_output, args.force) {
        (true, _) => Existing::Append,
        (false, true) => Existing::Replace,
        (false, false) => Existing::Refuse,
    };
    let lines = ["-".to_owned()];
    let unnamed = args.output.is_empty() && !args.outputs.names_some();
    let places = args.outputs.places(if unnamed { &lines } else { &args.output }, existing)?;
    let inputs: Vec<PathBuf> =
        args.input.iter().map(|input| location(Path::new(source_path(input)))).collect();
    for (index, (name, _, place)) in places.iter().enumerate() {
        let is_file = !place.stdout && !place.path.as_os_str().is_empty() && !is_device(&place.path);
        let here = location(&place.path);
        let same = |other: &Named| location(&other.2.path) == here;
        let cause = match () {
            () if !is_file => continue,
            () if places[..index].iter().any(same) => "two outputs go there; give each a place of its own",
            () if inputs.contains(&here)
                || args.input.iter().any(|input| is_one_file(input, &place.path)) =>
            {
                "it is read, too; write somewhere else and move it"
            }
            () => continue,
        };
        return Err(SinkError {
            operation: "write to",
            object: name.escape_debug().to_string(),
            cause: cause.into(),
            kind: SinkErrorKind::Refused,
        });
    }
    Ok(places)
}

/// Where a path leads, however it is written: two names of one place are equal, also when nothing stands there yet.
fn location(path: &Path) -> PathBuf {
    let directory = store::directory(path);
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    path.file_name().map_or_else(|| directory.clone(), |name| directory.join(name))
}

/// Whether an input and an output are one file under two names (hard links).
fn is_one_file(input: &str, output: &Path) -> bool {
    let input = fs::metadata(source_path(input));
    let output = fs::symlink_metadata(output);
    matches!((input, output), (Ok(one), Ok(other)) if one.is_file() && (one.dev(), one.ino()) == (other.dev(), other.ino()))
}

fn is_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

/// What is kept.
struct Keep {
    filter: Option<Expression>,
    ports: Option<PortSet>,
    targets: Option<AddressSet>,
    excluded: AddressSet,
    states: Vec<State>,
}

impl Keep {
    fn new(args: &ConvertArgs) -> Result<Keep, String> {
        let mut ports = PortSet::default();
        for text in &args.ports {
            ports = ports.union(&parse_ports(text).map_err(|error| error.to_string())?);
        }
        let targets = addresses(&args.targets)?;
        Ok(Keep {
            filter: args.filter.clone(),
            ports: (!args.ports.is_empty()).then_some(ports),
            targets: (!args.targets.is_empty()).then_some(targets),
            excluded: addresses(&args.exclude)?,
            states: args.states(),
        })
    }

    fn holds(&self, record: &Record, service: Option<&str>) -> bool {
        self.states.contains(&record.state)
            && self.ports.as_ref().is_none_or(|ports| ports.contains(record.target().port))
            && self.targets.as_ref().is_none_or(|targets| targets.contains(record.address()))
            && (self.excluded.is_empty() || !self.excluded.contains(record.address()))
            && self.filter.as_ref().is_none_or(|filter| filter.holds(record, service))
    }

    /// Removes what is not kept; attachments keep their place among the records that stay.
    fn only(&self, batch: &mut Observations) {
        let kept: Vec<bool> = batch.records.iter().map(|record| self.holds(record, None)).collect();
        if kept.iter().any(|kept| !kept) {
            let mut before = 0;
            let mut at = 0;
            for (place, _) in &mut batch.attachments {
                before += kept[at..*place].iter().filter(|kept| **kept).count();
                at = *place;
                *place = before;
            }
            let mut kept = kept.iter();
            batch.records.retain(|_| *kept.next().expect("one for each"));
        }
        batch.attachments.retain(|(_, bytes)| self.holds(&bytes.record, Some(&bytes.key)));
    }
}

fn addresses(texts: &[String]) -> Result<AddressSet, String> {
    let mut list = TargetList::default();
    for text in texts {
        parse_list(text, &mut list).map_err(|error| error.to_string())?;
    }
    match list.names.first() {
        Some(name) => Err(format!("'{}' is no address; results are looked up by address", name.name)),
        None => Ok(list.ranges.into_set()),
    }
}

/// All files, one behind the other.
struct Input<'a> {
    names: std::slice::Iter<'a, String>,
    current: Option<Box<dyn Source>>,
    facts: Facts,
    /// The manifests beside the current file.
    beside: Vec<String>,
    remarks: Vec<String>,
    count: u64,
}

impl<'a> Input<'a> {
    fn new(names: &'a [String]) -> Result<Input<'a>, Failure> {
        let facts = Facts::default();
        let (names, beside, remarks) = (names.iter(), Vec::new(), Vec::new());
        let mut input = Input { names, current: None, facts, beside, remarks, count: 0 };
        input.next_file()?;
        Ok(input)
    }

    fn next_file(&mut self) -> Result<bool, Failure> {
        let Some(name) = self.names.next() else { return Ok(false) };
        self.current = Some(source::open(name).map_err(|error| (error.to_string(), Exit::Failed))?);
        self.beside = manifests_beside(name);
        Ok(true)
    }

    fn read(&mut self, batch: &mut Observations) -> Result<bool, Failure> {
        while let Some(source) = &mut self.current {
            let more = source.read(batch).map_err(|error| (error.to_string(), Exit::Failed))?;
            self.count += batch.len() as u64;
            if more {
                return Ok(true);
            }
            let facts = source.facts();
            self.remarks.append(&mut source.remarks());
            self.note(facts);
            self.current = None;
            self.next_file()?;
        }
        batch.clear();
        Ok(false)
    }

    fn note(&mut self, facts: Facts) {
        self.facts.started_s = [self.facts.started_s, facts.started_s].into_iter().flatten().min();
        self.facts.finished_s = self.facts.finished_s.max(facts.finished_s);
        self.facts.manifests.extend(facts.manifests);
    }

    /// What the files say of their scans, as far as it is known.
    fn facts(&self) -> Facts {
        let mut facts = self.facts.clone();
        if let Some(source) = &self.current {
            let now = source.facts();
            facts.started_s = [facts.started_s, now.started_s].into_iter().flatten().min();
            let of_file = if now.manifests.is_empty() { self.beside.clone() } else { now.manifests };
            facts.manifests.extend(of_file);
        }
        facts
    }
}

/// Where kept results go.
struct Output {
    outlets: Vec<Outlet>,
    manifest: Manifest,
    /// The scan that all results are of.
    scan: Option<Manifest>,
    count: u64,
    uncommitted: usize,
    last_ns: u64,
}

struct Outlet {
    /// `None` once its reader has left.
    sink: Option<Box<dyn Sink>>,
    show: Show,
    select: Option<Expression>,
    stdout: bool,
    name: String,
    /// Bytes that targets sent and the format has no place for: how many; `None` where it has.
    left_out: Option<u64>,
}

impl Output {
    fn open(args: &ConvertArgs, places: &[Named], facts: &Facts) -> Result<Output, Failure> {
        let scan = only_scan(args, facts);
        let manifest = manifest(args, scan.as_ref(), facts);
        let mut outlets = Vec::with_capacity(places.len());
        let asked = Show::states(&args.states());
        let mut made = Made::default();
        for (name, kind, place) in places {
            let show = if kind.tells_state { asked } else { asked.unambiguous() };
            made.look_at(place);
            let opened = args.outputs.open(kind, place).inspect(|_| made.keep());
            let sink = match opened.and_then(|mut sink| sink.begin(&manifest).map(|()| sink)) {
                Ok(sink) => sink,
                Err(error) => {
                    drop(outlets); // a database removes what it keeps beside its file
                    made.undo();
                    return Err(refused(error));
                }
            };
            let show = show.and(Show::states(kind.states));
            let select = args.outputs.output_filter.clone();
            let left_out = (!carries_bytes(kind, place)).then_some(0);
            let name = without_password(name);
            outlets.push(Outlet { sink: Some(sink), show, select, stdout: place.stdout, name, left_out });
        }
        Ok(Output { outlets, manifest, scan, count: 0, uncommitted: 0, last_ns: 0 })
    }

    /// Whether nobody reads what is written any more.
    fn is_unread(&self) -> bool {
        self.outlets.iter().all(|outlet| outlet.sink.is_none())
    }

    fn write(&mut self, batch: &Observations) -> Result<(), Failure> {
        let records = &batch.records;
        self.last_ns = records.iter().map(|record| record.time_ns).fold(self.last_ns, u64::max);
        self.count += batch.len() as u64;
        self.uncommitted += batch.len();
        let commits = COMMIT_RESULTS <= self.uncommitted;
        self.uncommitted = if commits { 0 } else { self.uncommitted };
        for outlet in &mut self.outlets {
            let result = outlet.write(batch).and_then(|()| if commits { outlet.commit() } else { Ok(()) });
            outlet.noted(result)?;
        }
        Ok(())
    }

    fn finish(mut self, facts: &Facts) -> Result<u64, Failure> {
        let last_us = facts.finished_s.map(|seconds| seconds.saturating_mul(1_000_000));
        self.manifest.status = Status::Complete;
        self.manifest.finished_us =
            Some(last_us.unwrap_or((self.last_ns / 1000).max(self.manifest.started_us)));
        if let Some(scan) = self.scan.take() {
            // One that was cut short stays that.
            self.manifest.status = scan.status;
            self.manifest.finished_us = scan.finished_us.or(self.manifest.finished_us);
            self.manifest.summary = scan.summary;
        }
        for mut outlet in self.outlets {
            let committed = outlet.commit();
            outlet.noted(committed)?;
            let Some(sink) = outlet.sink.take() else { continue };
            let finished = sink.finish(&self.manifest);
            outlet.noted(finished)?;
            if let Some(count) = outlet.left_out.filter(|count| 0 < *count) {
                let count = counted(count.into(), "banner");
                complain(&format!("swath: {}: its format has no place for {count}, left out\n", outlet.name));
            }
        }
        Ok(self.count)
    }
}

/// Files that outputs made. When a later one is refused they vanish again, so that the same line, mended, finds
/// nothing in its way.
#[derive(Default)]
struct Made {
    looked_at: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Made {
    /// Notes what is not there before an output is opened.
    fn look_at(&mut self, place: &Place) {
        self.looked_at.clear();
        if !place.stdout && !place.path.as_os_str().is_empty() {
            let all = [place.path.clone(), store::beside(&place.path, ".manifest.json")];
            self.looked_at.extend(all.into_iter().filter(|path| fs::symlink_metadata(path).is_err()));
        }
    }

    /// It was opened, exclusively: what was not there is ours.
    fn keep(&mut self) {
        self.files.append(&mut self.looked_at);
    }

    /// Removes the files, as nothing was written.
    fn undo(&self) {
        for file in &self.files {
            if fs::symlink_metadata(file).is_ok_and(|metadata| metadata.is_file()) {
                let _ = fs::remove_file(file);
            }
        }
    }
}

impl Outlet {
    fn write(&mut self, batch: &Observations) -> Result<(), SinkError> {
        let Some(sink) = &mut self.sink else { return Ok(()) };
        let shown = |record: &Record, service: Option<&str>| {
            self.show.contains(record.state)
                && self.select.as_ref().is_none_or(|select| select.holds(record, service))
        };
        let mut write = |records: &[Record]| {
            if records.iter().all(|record| shown(record, None)) {
                return sink.write(records);
            }
            let kept: Vec<Record> = records.iter().filter(|record| shown(record, None)).copied().collect();
            sink.write(&kept)
        };
        if batch.attachments.is_empty() {
            return write(&batch.records);
        }
        let mut at = 0;
        for (place, bytes) in &batch.attachments {
            if at < *place {
                let kept: Vec<Record> =
                    batch.records[at..*place].iter().filter(|record| shown(record, None)).copied().collect();
                sink.write(&kept)?;
                at = *place;
            }
            if shown(&bytes.record, Some(&bytes.key)) {
                self.left_out.iter_mut().for_each(|count| *count += 1);
                sink.attach(&bytes.record, &bytes.key, &bytes.bytes)?;
            }
        }
        let kept: Vec<Record> =
            batch.records[at..].iter().filter(|record| shown(record, None)).copied().collect();
        sink.write(&kept)
    }

    fn commit(&mut self) -> Result<(), SinkError> {
        self.sink.as_mut().map_or(Ok(()), |sink| sink.commit().map(|_| ()))
    }

    /// The reader of standard output may leave; anything else ends the conversion.
    fn noted(&mut self, result: Result<(), SinkError>) -> Result<(), Failure> {
        match result {
            Err(error) if self.stdout && error.kind == SinkErrorKind::ReaderGone => {
                self.sink = None;
                Ok(())
            }
            result => result.map_err(refused),
        }
    }
}

/// What the sinks are told. A conversion is no scan and has no plan; only where it keeps every result of one scan, what
/// that scan says of itself (what it asked, how it ended) is true of the new file, too.
fn manifest(args: &ConvertArgs, scan: Option<&Manifest>, facts: &Facts) -> Manifest {
    let argv = std::env::args_os().map(|word| without_password(&word.to_string_lossy())).collect();
    let bits: u128 = rand::random();
    let hex = format!("{:032x}", bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62);
    let of_none = || Manifest {
        ports: args.ports.join(","),
        order: "none".into(),
        shard: 1,
        shards: 1,
        passes: 1,
        started_us: facts.started_s.unwrap_or(0).saturating_mul(1_000_000),
        ..Manifest::default()
    };
    Manifest {
        scan_uuid: format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]),
        tool: "swath".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        argv,
        status: Status::Running,
        finished_us: None,
        summary: None,
        ..scan.cloned().unwrap_or_else(of_none)
    }
}

/// The scan whose every result is kept; none when there are several, or some are left out.
fn only_scan(args: &ConvertArgs, facts: &Facts) -> Option<Manifest> {
    let keeps_all = args.filter.is_none()
        && args.outputs.output_filter.is_none()
        && [&args.ports, &args.targets, &args.exclude].iter().all(|texts| texts.is_empty())
        && !args.open
        && args.show.is_none()
        && args.input.len() == 1;
    match &facts.manifests[..] {
        [only] if keeps_all => serde_json::from_str(only).ok(),
        _ => None,
    }
}

/// The manifests beside a file, where the format has no room for them: one, or an array.
fn manifests_beside(input: &str) -> Vec<String> {
    let path = store::beside(Path::new(source_path(input)), ".manifest.json");
    let Ok(json) = fs::read(path) else { return Vec::new() };
    let manifests: Result<Vec<Manifest>, _> = serde_json::from_slice(&json);
    let manifests = manifests.or_else(|_| serde_json::from_slice(&json).map(|manifest| vec![manifest]));
    manifests.unwrap_or_default().iter().filter_map(|manifest| serde_json::to_string(manifest).ok()).collect()
}

/// How results get into the order that was asked for.
struct Order {
    /// `None`: as they come.
    sorter: Option<Sorter>,
    job: Job,
    directory: PathBuf,
}

#[derive(Clone, Copy)]
struct Job {
    dedup: bool,
    join: bool,
    sort: Option<SortBy>,
}

impl Order {
    fn new(args: &ConvertArgs, places: &[Named]) -> Order {
        let first = places.iter().find(|(_, _, place)| !place.stdout && !place.path.as_os_str().is_empty());
        let beside = first.map(|(_, _, place)| match place.path.parent() {
            Some(parent) if parent.is_dir() => parent.to_owned(),
            _ => PathBuf::from("."),
        });
        let directory = args.temporary.clone().or(beside).unwrap_or_else(std::env::temp_dir);
        let job = Job { dedup: args.dedup, join: args.join, sort: args.sort };
        let compare: Option<Compare> = match (job.dedup || job.join, job.sort) {
            (true, _) | (_, Some(SortBy::Target)) => Some(by_target),
            (false, Some(SortBy::Time)) => Some(by_time),
            (false, None) => None,
        };
        Order { sorter: compare.map(|compare| Sorter::new(&directory, compare)), job, directory }
    }

    fn take(&mut self, batch: &mut Observations, output: &mut Output) -> Result<(), Failure> {
        let Some(sorter) = &mut self.sorter else { return output.write(batch) };
        let records = batch.records.drain(..).map(Item::from);
        let bytes = batch.attachments.drain(..).map(|(_, bytes)| Item::from(bytes));
        records.chain(bytes).try_for_each(|item| sorter.push(item)).map_err(|error| unsorted(&error))
    }

    /// Writes what was sorted.
    fn end(&mut self, output: &mut Output) -> Result<(), Failure> {
        let Some(sorter) = self.sorter.take() else { return Ok(()) };
        let failed = |error: io::Error| unsorted(&error);
        let mut merged = sorter.finish().map_err(failed)?;
        let again = self.job.sort == Some(SortBy::Time) && (self.job.dedup || self.job.join);
        let mut by_time = again.then(|| Sorter::new(&self.directory, by_time));
        let mut batch = Observations::default();
        let mut group = Group::default();
        loop {
            let item = merged.next().map_err(failed)?;
            let done = item.is_none();
            for item in group.push(item, self.job) {
                match &mut by_time {
                    Some(sorter) => sorter.push(item).map_err(failed)?,
                    None => add(item, &mut batch),
                }
            }
            if BATCH <= batch.len() || done {
                output.write(&batch)?;
                batch.clear();
            }
            if done || output.is_unread() {
                break;
            }
        }
        let Some(sorter) = by_time else { return Ok(()) };
        let mut merged = sorter.finish().map_err(failed)?;
        while let Some(item) = merged.next().map_err(failed)? {
            add(item, &mut batch);
            if BATCH <= batch.len() {
                output.write(&batch)?;
                batch.clear();
            }
        }
        output.write(&batch)
    }
}

fn unsorted(error: &io::Error) -> Failure {
    (format!("cannot sort: {error}; --temporary names a directory with more room"), Exit::Failed)
}

fn add(item: Item, batch: &mut Observations) {
    match item.bytes {
        None => batch.records.push(item.record),
        Some(bytes) => {
            let (key, bytes) = *bytes;
            batch.attach(crate::event::Attachment { record: item.record, key, bytes });
        }
    }
}

/// What is about one target, in order of time.
#[derive(Default)]
struct Group {
    /// With `--join`: what is known of the target.
    joined: Option<Record>,
    last: Option<Record>,
    /// With `--dedup`: states seen, one bit each, and the bytes.
    states: u8,
    bytes: HashSet<u64>,
}

impl Group {
    /// Takes the next item, `None` at the end; returns what can be written now.
    fn push(&mut self, item: Option<Item>, job: Job) -> Vec<Item> {
        let mut out = Vec::with_capacity(2);
        let same = |last: &Record| item.as_ref().is_some_and(|item| item.record.target() == last.target());
        if !self.last.as_ref().is_some_and(same) {
            out.extend(self.joined.take().map(Item::from));
            *self = Group::default();
        }
        let Some(item) = item else { return out };
        self.last = Some(item.record);
        match &item.bytes {
            Some(bytes) if job.dedup || job.join => {
                let mut hasher = DefaultHasher::new();
                (&bytes.0, &bytes.1.0).hash(&mut hasher);
                out.extend(self.bytes.insert(hasher.finish()).then_some(item));
            }
            None if job.join => {
                self.joined = Some(self.joined.map_or(item.record, |older| join(older, item.record)))
            }
            None if job.dedup => {
                let bit = 1 << item.record.state.number();
                let new = self.states & bit == 0;
                self.states |= bit;
                out.extend(new.then_some(item));
            }
            _ => out.push(item),
        }
        out
    }
}

/// The newer record, with the facts that only the older has.
fn join(older: Record, newer: Record) -> Record {
    let mut joined = newer;
    if newer.protocol == older.protocol {
        joined.ttl = if newer.ttl == 0 { older.ttl } else { newer.ttl };
        joined.rtt_us = if newer.rtt_us == 0 { older.rtt_us } else { newer.rtt_us };
        joined.mss = if newer.mss == 0 { older.mss } else { newer.mss };
        joined.ip_id = if newer.ip_id == 0 { older.ip_id } else { newer.ip_id };
        joined.flags = if newer.flags == 0 { older.flags } else { newer.flags };
        joined.proof = newer.proof.max(older.proof);
        // They are one fact where they hold a link-layer address.
        if newer.window == 0 && newer.options_hash == 0 {
            (joined.window, joined.options_hash) = (older.window, older.options_hash);
        }
        if newer.window_scale == Record::NO_SCALE {
            joined.window_scale = older.window_scale;
        }
    }
    joined
}

/// Results after which databases are asked to keep what they have.
const COMMIT_RESULTS: usize = 1 << 18;
