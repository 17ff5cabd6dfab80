//! Every sink, read back by readers that are not ours, and after every way to lose: killed, disk full, reader gone.
//!
//! Tests that need another process run this very binary again: `child` does what `SWATH_CHILD` says. Tools that are
//! missing (jq, python3, sqlite3) skip their check, unless `SWATH_REQUIRE_TOOLS` is set: then that is a failure.

mod samples;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OpenFlags};
use samples::{UUID, manifest_of, samples};
use swath::event::{Observations, Record, Status, Summary};
use swath::queue::Queue;
use swath::sink::{
    Existing, Place, SINKS, Sink, SinkError, SinkErrorKind, SinkKind, parse_place, sink_named,
};
use swath::source::{self, Input};
use swath::spool::{Item, SpoolReader};
use swath::stats::Stats;
use swath::writer::{Outlet, Show, Writer, WriterEvent};

// --- what is written -------------------------------------------------------------------------------------------

const UUID_2: &str = "9b0d3c11-27a8-4d0e-8f6e-0a3c5b7d9e22";

fn file(path: &Path) -> Place {
    Place { path: path.to_owned(), ..Place::default() }
}

fn open(kind: &SinkKind, place: &Place) -> Result<Box<dyn Sink>, SinkError> {
    let mut sink = (kind.open)(place)?;
    sink.begin(&manifest_of(UUID, Status::Running))?;
    Ok(sink)
}

/// Writes the records to a new file and ends it.
fn write_all(kind: &SinkKind, path: &Path, records: &[Record]) {
    let mut sink = open(kind, &file(path)).expect("opens");
    sink.write(records).expect("writes");
    assert_eq!(sink.commit().expect("commits"), records.len() as u64);
    sink.finish(&manifest_of(UUID, Status::Complete)).expect("finishes");
}

// --- what stands there -----------------------------------------------------------------------------------------

/// What a sink left, as text: the file itself, or the rows of a database in words.
fn rendered(path: &Path) -> String {
    let Ok(bytes) = fs::read(path) else { return String::new() };
    if let Some(columns) = columns(path) {
        return as_lines(&columns);
    }
    if bytes.starts_with(b"masscan/") {
        let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
        return bytes.chunks(32).map(line).collect();
    }
    if bytes.contains(&0) && !bytes.starts_with(b"SQLite") {
        let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
        return bytes.chunks(32).map(line).collect();
    }
    if !bytes.starts_with(b"SQLite format 3\0") {
        return String::from_utf8(bytes).expect("text");
    }
    let rows = query(&read_only(path), "SELECT * FROM observation_text");
    rows.iter().map(|row| row.join("|") + "\n").collect()
}

/// The records of a file of columns; `None` when it is none.
fn columns(path: &Path) -> Option<Vec<Record>> {
    let head = fs::read(path).ok()?;
    let format = match &head[..head.len().min(6)] {
        [b'P', b'A', b'R', b'1', ..] => &swath::columnar::parquet::FORMAT,
        b"ARROW1" => &swath::columnar::arrow::FORMAT,
        _ => return None,
    };
    let mut reader = (format.open)(path).expect("opens");
    let mut records = Vec::new();
    while reader.read(&mut records).expect("reads") {}
    assert!(!reader.manifests().is_empty() && reader.is_sorted());
    Some(records)
}

/// Records as JSON lines.
fn as_lines(records: &[Record]) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("lines");
    write_all(kind("ndjson"), &path, records);
    fs::read_to_string(path).expect("reads")
}

/// Records in the spools beside a file: those of scans that did not end.
fn spooled(path: &Path) -> u64 {
    let name = path.file_name().expect("a name").to_str().expect("text");
    let entries = fs::read_dir(path.parent().expect("a directory")).expect("lists");
    let spools = entries.map(|entry| entry.expect("an entry").path()).filter(|entry| {
        let entry = entry.file_name().expect("a name").to_str().expect("text");
        entry.starts_with(&format!("{name}.")) && entry.ends_with(".spool")
    });
    let count = |spool: PathBuf| {
        let mut reader = SpoolReader::open(&spool).expect("opens");
        let mut records = Vec::new();
        while !matches!(reader.next(&mut records).expect("reads"), Item::End) {}
        reader.position()
    };
    spools.map(count).sum()
}

fn read_only(path: &Path) -> Connection {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("opens")
}

fn query(connection: &Connection, sql: &str) -> Vec<Vec<String>> {
    let mut statement = connection.prepare(sql).expect("prepares");
    let columns = statement.column_count();
    let cell = |row: &rusqlite::Row<'_>, column| match row.get_ref(column).expect("a column") {
        rusqlite::types::ValueRef::Null => String::new(),
        rusqlite::types::ValueRef::Integer(value) => value.to_string(),
        rusqlite::types::ValueRef::Real(value) => value.to_string(),
        rusqlite::types::ValueRef::Text(text) => String::from_utf8(text.to_vec()).expect("text"),
        rusqlite::types::ValueRef::Blob(_) => panic!("no column is a blob"),
    };
    let rows = statement.query_map((), |row| Ok((0..columns).map(|column| cell(row, column)).collect()));
    rows.expect("runs").collect::<Result<_, _>>().expect("every row reads")
}

/// Number of results that `swath convert` reads from a document whose end a kill may have left away: it falls between
/// the pages of one pwrite(2) now and then.
fn readable(kind: &SinkKind, path: &Path) -> u64 {
    let source = source::source_named(kind.name).expect("a source");
    let mut source = Input::open(path).and_then(source.open).expect("opens");
    let (mut batch, mut count) = (Observations::default(), 0);
    while source.read(&mut batch).expect("reads up to the last whole result") {
        count += batch.records.len() as u64;
    }
    match kind.name {
        // One of the samples says of its host what nmap has no word for.
        "nmap-xml" => fs::read_to_string(path).expect("text").matches("</host>").count() as u64,
        _ => count,
    }
}

/// Number of records in a file, each of which must be whole and valid; `torn` allows a part of one at the end.
fn count_valid(kind: &SinkKind, path: &Path, torn: bool) -> u64 {
    if torn && ["masscan-json", "masscan-xml", "nmap-xml"].contains(&kind.name) {
        return readable(kind, path);
    }
    if kind.name == "sqlite" {
        let connection = read_only(path);
        assert_eq!(query(&connection, "PRAGMA integrity_check"), [["ok"]]);
        return query(&connection, "SELECT count(*) FROM observation")[0][0].parse().expect("a number");
    }
    if is_columns(kind) {
        return columns(path).map_or(0, |records| records.len() as u64) + spooled(path);
    }
    let bytes = fs::read(path).expect("reads");
    match kind.name {
        "masscan-binary" => return binary_records(&bytes, torn),
        "pgcopy" => return pgcopy_rows(&bytes, torn),
        "rowbinary" => return rowbinary_rows(&bytes, torn),
        _ => {}
    }
    let text = String::from_utf8(bytes).expect("text");
    if let Some(count) = document_records(kind.name, &text) {
        return count;
    }
    let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
    assert!(torn || whole.len() == text.len(), "{} ends in a part of a record", path.display());
    let header = u64::from(kind.name.ends_with("csv") && !whole.is_empty());
    let lines = whole.lines().filter(|line| !line.starts_with('#'));
    let lines = lines.inspect(|line| assert!(is_valid(kind.name, line), "{}: {line:?}", kind.name));
    let count = lines.count() as u64 - header;
    // An action and its document.
    if kind.name == "esbulk" { count / 2 } else { count }
}

fn is_valid(kind: &str, line: &str) -> bool {
    let words = line.split(' ').count();
    match kind {
        "esbulk" | "ndjson" | "masscan-ndjson" | "zmap-json" | "naabu" => {
            serde_json::from_str::<BTreeMap<String, serde_json::Value>>(line).is_ok()
        }
        "csv" => line.split(',').count() == 19,
        "zmap-csv" => line.split(',').count() == 2,
        // A host that answered a ping has no port.
        "list" => line.parse::<SocketAddr>().is_ok() || line.parse::<IpAddr>().is_ok(),
        "hosts" => line.parse::<IpAddr>().is_ok(),
        "masscan-list" => words == 5,
        "masscan-grepable" => line.starts_with("Timestamp: ") && line.ends_with("//"),
        "unicornscan" => line.starts_with("TCP ") || line.ends_with("////"),
        "text" => {
            line.starts_with("Host ") && line.contains(" is up (")
                || line.starts_with("Discovered ") && line.contains(" port ") && line.contains(" on ")
        }
        kind => panic!("say what a valid line of {kind} is"),
    }
}

/// Whether it writes a file of columns.
fn is_columns(kind: &SinkKind) -> bool {
    ["parquet", "arrow"].contains(&kind.name)
}

/// Number of results in a document, which must be valid as a whole; `None` for formats that are none, and where a killed
/// writer left a part of one.
fn document_records(kind: &str, text: &str) -> Option<u64> {
    match kind {
        "masscan-json" => {
            let array: Vec<serde_json::Value> = serde_json::from_str(text).expect("valid JSON");
            Some(array.len() as u64)
        }
        "masscan-xml" => Some(elements(text, b"port")),
        "nmap-xml" => Some(elements(text, b"host")),
        "nmap-grepable" => {
            let hosts = text.lines().filter(|line| line.ends_with("\tStatus: Up"));
            Some(hosts.count() as u64)
        }
        _ => None,
    }
}

/// Number of elements of that name in an XML document, all of whose elements must be closed.
fn elements(text: &str, name: &[u8]) -> u64 {
    use quick_xml::events::Event;
    let mut reader = quick_xml::Reader::from_str(text);
    let (mut depth, mut count, mut roots) = (0, 0, 0);
    loop {
        match reader.read_event().expect("well-formed XML") {
            Event::Start(element) => {
                roots += u64::from(depth == 0);
                depth += 1;
                count += u64::from(element.name().as_ref() == name);
            }
            Event::Empty(element) => count += u64::from(element.name().as_ref() == name),
            Event::End(_) => depth -= 1,
            Event::Eof => break,
            _ => {}
        }
    }
    assert!(depth == 0 && roots == 1, "one root, closed");
    count
}

/// Number of records of masscan's binary file.
fn binary_records(bytes: &[u8], torn: bool) -> u64 {
    let header = bytes.get(..99).expect("a header");
    assert!(header.starts_with(b"masscan/1.1\ns:"));
    let (mut at, mut count) = (99, 0);
    while let Some(&[kind, length]) = bytes.get(at..at + 2) {
        let expected = match kind {
            6..=8 => 13,
            10..=12 => 26,
            b'm' => 97,
            kind => panic!("type {kind} at {at}"),
        };
        assert_eq!(usize::from(length), expected);
        if bytes.len() < at + 2 + expected {
            break;
        }
        count += u64::from(kind != b'm');
        at += 2 + expected;
    }
    assert!(torn || at == bytes.len());
    count
}

/// Number of rows of PostgreSQL's binary COPY format, each of 17 fields of at most 20 bytes.
fn pgcopy_rows(bytes: &[u8], torn: bool) -> u64 {
    assert!(bytes.starts_with(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"));
    let (mut at, mut rows) = (19, 0);
    'rows: while let Some(count) = bytes.get(at..at + 2) {
        if count == [0xff, 0xff] {
            assert_eq!(at + 2, bytes.len(), "nothing stands behind the trailer");
            return rows;
        }
        assert_eq!(count, [0, 17], "row {rows}");
        let mut end = at + 2;
        for _ in 0..17 {
            let Some(length) = bytes.get(end..end + 4) else { break 'rows };
            let length = i32::from_be_bytes(length.try_into().expect("four bytes"));
            assert!((-1..=20).contains(&length), "row {rows}");
            end += 4 + length.max(0) as usize;
        }
        if bytes.len() < end {
            break;
        }
        (at, rows) = (end, rows + 1);
    }
    assert!(torn, "no trailer");
    rows
}

/// Number of rows of ClickHouse's RowBinary format.
fn rowbinary_rows(bytes: &[u8], torn: bool) -> u64 {
    let (mut at, mut rows) = (0, 0);
    'rows: while at < bytes.len() {
        let mut end = at + 52;
        for size in [2, 1, 4, 2, 4, 16] {
            let Some(null) = bytes.get(end) else { break 'rows };
            assert!(*null < 2, "row {rows}");
            end += if *null == 0 { 1 + size } else { 1 };
        }
        if bytes.len() < end {
            break;
        }
        (at, rows) = (end, rows + 1);
    }
    assert!(torn || at == bytes.len(), "a part of a row");
    rows
}

/// The samples a kind is given: those of states it can tell.
fn samples_of(kind: &SinkKind) -> Vec<Record> {
    samples().into_iter().filter(|record| kind.states.contains(&record.state)).collect()
}

/// What a finished file holds of records: formats that group hold addresses.
fn finished(kind: &SinkKind, records: &[Record]) -> u64 {
    let addresses: BTreeSet<IpAddr> = records.iter().map(Record::address).collect();
    if kind.name.starts_with("nmap-") { addresses.len() as u64 } else { records.len() as u64 }
}

/// Every kind but those that need a server (tests/servers.rs).
fn local() -> impl Iterator<Item = &'static SinkKind> {
    SINKS.iter().filter(|kind| !["postgres", "clickhouse"].contains(&kind.name))
}

/// Every kind that leaves a file.
fn filed() -> impl Iterator<Item = &'static SinkKind> {
    local().filter(|kind| kind.name != "none")
}

fn kind(name: &str) -> &'static SinkKind {
    sink_named(name).expect("a kind")
}

/// Runs a reader that is not ours; `None` when it is not installed.
fn tool<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Option<String> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => {
            assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8(output.stdout).expect("text"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            assert!(std::env::var_os("SWATH_REQUIRE_TOOLS").is_none(), "{program} is not installed");
            let _ = writeln!(io::stderr(), "skipped: {program} is not installed");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

// --- every sink ------------------------------------------------------------------------------------------------

#[test]
fn every_sink_writes_what_its_golden_file_holds() {
    for kind in local() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("results");
        write_all(kind, &path, &samples_of(kind));
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sink/golden").join(kind.name);
        if std::env::var_os("SWATH_BLESS").is_some() {
            fs::write(&golden, rendered(&path)).expect("writes");
        }
        let expected =
            fs::read_to_string(&golden).expect("a golden file; SWATH_BLESS=1 writes it, then read it");
        assert_eq!(rendered(&path), expected, "{}", kind.name);
    }
}

#[test]
fn every_file_is_private() {
    for kind in filed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("results");
        let mut sink = open(kind, &file(&path)).expect("opens");
        sink.write(&samples()).expect("writes");
        sink.commit().expect("commits");
        let mut folders = vec![directory.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("lists") {
                let entry = entry.expect("an entry");
                let metadata = entry.metadata().expect("exists");
                let mode = metadata.permissions().mode() & 0o7777;
                assert_eq!(mode, if metadata.is_dir() { 0o700 } else { 0o600 }, "{:?}", entry.file_name());
                folders.extend(metadata.is_dir().then(|| entry.path()));
            }
        }
    }
}

#[test]
fn output_without_a_record_is_valid() {
    for kind in filed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("results");
        write_all(kind, &path, &[]);
        assert_eq!(count_valid(kind, &path, false), 0, "{}", kind.name);
    }
}

#[test]
fn a_sink_dropped_without_its_end_leaves_every_committed_record() {
    for kind in filed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("results");
        let mut sink = open(kind, &file(&path)).expect("opens");
        let records = samples_of(kind);
        sink.write(&records).expect("writes");
        assert_eq!(sink.commit().expect("commits"), records.len() as u64);
        sink.write(&records).expect("writes");
        drop(sink);
        assert_eq!(count_valid(kind, &path, false), records.len() as u64, "{}", kind.name);
    }
}

/// Writes the samples, and ends formats that write at the end only.
fn write_somehow(kind: &SinkKind, mut sink: Box<dyn Sink>) -> Result<(), SinkError> {
    let result = sink.write(&samples_of(kind)).and_then(|()| sink.commit());
    if kind.name.starts_with("nmap-") {
        return sink.finish(&manifest_of(UUID, Status::Complete));
    }
    assert_eq!(sink.safe(), 0, "{}", kind.name);
    result.map(|_| ())
}

#[test]
fn a_full_device_is_an_error_of_every_sink() {
    for kind in filed() {
        let result = open(kind, &file(Path::new("/dev/full"))).and_then(|sink| write_somehow(kind, sink));
        let error = result.expect_err(kind.name).to_string();
        assert!(error.starts_with("cannot write to /dev/full: "), "{error}");
    }
}

#[test]
fn a_reader_that_leaves_is_an_error_of_every_sink() {
    for kind in filed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo runs").success());
        // Opened for reading and writing so that neither side waits for the other; that end is the reader.
        let reader = fs::OpenOptions::new().read(true).write(true).open(&path).expect("opens");
        let opened = open(kind, &file(&path));
        drop(reader);
        let error = opened.and_then(|sink| write_somehow(kind, sink)).expect_err(kind.name);
        let expected = if ["sqlite", "parquet"].contains(&kind.name) {
            SinkErrorKind::Refused
        } else {
            SinkErrorKind::ReaderGone
        };
        assert_eq!(error.kind, expected, "{error}");
    }
}

#[test]
fn every_sink_fails_to_open_where_nothing_can_be_written() {
    for kind in filed() {
        let directory = tempfile::tempdir().expect("a directory");
        // Files of columns go to a directory as parts.
        let places = [directory.path().join("missing/results"), directory.path().to_owned()];
        for path in &places[..if is_columns(kind) { 1 } else { 2 }] {
            let error = open(kind, &file(path)).map(|_| kind.name).expect_err(kind.name).to_string();
            assert!(error.contains(directory.path().to_str().expect("text")), "{error}");
        }
    }
}

#[test]
fn every_sink_refuses_what_exists_unless_told_otherwise() {
    for kind in filed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("results");
        fs::write(&path, "precious\n").expect("writes");
        let error = open(kind, &file(&path)).map(|_| kind.name).expect_err(kind.name);
        assert_eq!(error.kind, SinkErrorKind::Refused);
        assert!(error.to_string().contains("--force"), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("reads"), "precious\n");
        let place = Place { existing: Existing::Replace, ..file(&path) };
        let mut sink = open(kind, &place).expect("opens");
        sink.write(&samples_of(kind)).expect("writes");
        sink.finish(&manifest_of(UUID, Status::Complete)).expect("finishes");
        assert_eq!(count_valid(kind, &path, false), finished(kind, &samples_of(kind)), "{}", kind.name);
    }
}

#[test]
fn appending_adds_to_every_sink_and_repeats_no_header() {
    for kind in filed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("results");
        let records = samples_of(kind);
        write_all(kind, &path, &records);
        let place = Place { existing: Existing::Append, ..file(&path) };
        let mut sink = (kind.open)(&place).expect("opens");
        sink.begin(&manifest_of(UUID_2, Status::Running)).expect("begins");
        sink.write(&records).expect("writes");
        let count = records.len() as u64;
        assert_eq!(sink.commit().expect("commits"), count, "records of this scan only");
        sink.finish(&manifest_of(UUID_2, Status::Complete)).expect("finishes");
        let both = [&records[..], &records].concat();
        assert_eq!(count_valid(kind, &path, false), finished(kind, &both), "{}", kind.name);
        let headers = rendered(&path).lines().filter(|line| line.starts_with("ts,")).count();
        assert_eq!(headers, usize::from(kind.name == "csv"));
    }
}

// --- readers that are not ours ---------------------------------------------------------------------------------

/// The facts of a record in words, a line of them, as the standard library writes them.
fn facts(record: &Record) -> String {
    let or = |value: u64, present: bool| if present { value.to_string() } else { String::new() };
    let mac = record.mac();
    let octets = mac.unwrap_or_default().map(|octet| format!("{octet:02x}")).join(":");
    let day = SystemTime::UNIX_EPOCH + Duration::from_nanos(record.time_ns);
    let seconds = day.duration_since(SystemTime::UNIX_EPOCH).expect("past").as_secs();
    let time = match seconds {
        0 => "1970-01-01T00:00:00.000000Z",
        1_795_219_200 => "2026-11-21T00:00:00.123456Z",
        18_446_744_073 => "2554-07-21T23:34:33.709551Z",
        second => panic!("say how {second} reads"),
    };
    let columns = [
        time.to_owned(),
        record.address().to_string(),
        record.port.to_string(),
        record.protocol.to_string(),
        record.state.name().to_owned(),
        record.reason.name().to_owned(),
        record.ttl.to_string(),
        if mac.is_some() { "0".to_owned() } else { record.window.to_string() },
        or(record.mss.into(), record.mss != 0),
        or(record.window_scale.into(), record.window_scale != Record::NO_SCALE),
        if record.options_hash == 0 || mac.is_some() {
            String::new()
        } else {
            format!("{:08x}", record.options_hash)
        },
        or(record.ip_id.into(), record.address().is_ipv4()),
        or(record.rtt_us.into(), record.rtt_us != 0),
        if record.responder() == record.address() { String::new() } else { record.responder().to_string() },
        record.proof.name().to_owned(),
        record.pass.to_string(),
        if mac.is_some() { octets } else { String::new() },
    ];
    columns.join("|") + "\n"
}

#[test]
fn jq_and_python_read_the_json_lines() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("results.ndjson");
    write_all(kind("ndjson"), &path, &samples());
    let path = path.to_str().expect("text");
    let program = r#"[.ts,.ip,.port,.proto,.state,.reason,.ttl,.win,.mss,.wscale,.opts,.ipid,.rtt_us,.responder,.proof,.pass,.mac]
        | .[7] //= 0 | map(. // "" | tostring) | join("|")"#;
    let script = "import json,sys
keys='ts ip port proto state reason ttl win mss wscale opts ipid rtt_us responder proof pass mac'.split()
for line in open(sys.argv[1]):
    row=json.loads(line); assert set(row)<=set(keys)
    print('|'.join(str(row.get(k,0 if k=='win' else '')) for k in keys))";
    let expected: String = samples().iter().map(facts).collect();
    if let Some(output) = tool("jq", &["-r", program, path]) {
        assert_eq!(output, expected);
    }
    if let Some(output) = tool("python3", &["-c", script, path]) {
        assert_eq!(output, expected);
    }
}

#[test]
fn python_reads_the_comma_separated_values() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("results.csv");
    write_all(kind("csv"), &path, &samples());
    let script = "import csv,sys
rows=list(csv.reader(open(sys.argv[1],newline=''),strict=True)); assert rows[0][0]=='ts' and len(rows)==19
for row in rows[1:]:
    assert len(row)==19
    assert not any(cell[:1] in tuple('=+-@\\t\\r') and cell for cell in row), row
    for column in (2,6,7,8,9,11,12,15): assert row[column]=='' or row[column].isdigit()
    print('|'.join(row[:17]))";
    let expected: String = samples().iter().map(facts).collect();
    if let Some(output) = tool("python3", &["-c", script, path.to_str().expect("text")]) {
        assert_eq!(output, expected);
    }
}

#[test]
fn the_sqlite3_tool_reads_the_database_and_its_views() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("results.db");
    write_all(kind("sqlite"), &path, &samples());
    let path = path.to_str().expect("text");
    let services =
        "SELECT ip,port,proto,replies,first_us,last_us FROM open_service ORDER BY ip4 IS NULL, ip4, port";
    if let Some(output) = tool("sqlite3", &[path, "SELECT * FROM observation_text"]) {
        assert_eq!(output, include_str!("../src/sink/golden/sqlite"));
        let output =
            tool("sqlite3", &["-readonly", path, "PRAGMA integrity_check", services]).expect("installed");
        assert_eq!(
            output,
            "ok\n198.18.0.7|80|6|3|0|1795219200123456\n198.18.0.9|8|1|1|1795219200123456|1795219200123456\n\
             198.18.0.12|36412|132|1|1795219200123456|1795219200123456\n\
             2001:db8::1:0:0:7|443|6|1|1795219200123456|1795219200123456\n"
        );
    }
}

// --- the database ----------------------------------------------------------------------------------------------

const SCANS: &str =
    "SELECT scan_id, scan_uuid, status, seed, invalid, kernel_drops, finished_us, rows_out FROM scan";

#[test]
fn a_database_holds_many_scans_and_closes_as_one_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("results.db");
    write_all(kind("sqlite"), &path, &samples());
    let mut sink = (kind("sqlite").open)(&file(&path)).expect("opens: it is a swath database");
    sink.begin(&manifest_of(UUID_2, Status::Running)).expect("begins");
    sink.write(&samples()[..3]).expect("writes");
    sink.finish(&manifest_of(UUID_2, Status::Interrupted)).expect("finishes");
    let names: Vec<_> =
        fs::read_dir(directory.path()).expect("lists").map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["results.db"]);
    let connection = read_only(&path);
    let seed = u64::MAX.to_string();
    let all = samples().len().to_string();
    assert_eq!(
        query(&connection, SCANS),
        [
            ["1", UUID, "complete", &seed, "4", "2", "1795219260000000", &all],
            ["2", UUID_2, "interrupted", &seed, "4", "2", "1795219260000000", "3"],
        ]
    );
    let counts = query(&connection, "SELECT scan_id, count(*) FROM observation GROUP BY 1");
    assert_eq!(counts, [["1", &all], ["2", "3"]]);
    let indexes =
        query(&connection, "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql NOT NULL ORDER BY 1");
    assert_eq!(indexes, [["observation_by_ip"], ["observation_by_ip4"]]);
    let stored = &query(&connection, "SELECT manifest FROM scan WHERE scan_id = 2")[0][0];
    assert_eq!(
        *stored,
        serde_json::to_string(&manifest_of(UUID_2, Status::Interrupted)).expect("serializes")
    );
}

#[test]
fn a_database_can_be_read_while_the_scan_writes_and_says_that_it_runs() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("results.db");
    let mut sink = open(kind("sqlite"), &file(&path)).expect("opens");
    sink.write(&samples()).expect("writes");
    sink.commit().expect("commits");
    sink.write(&samples()).expect("writes");
    let reader = read_only(&path);
    assert_eq!(query(&reader, "SELECT count(*) FROM observation"), [[samples().len().to_string()]]);
    assert_eq!(query(&reader, "SELECT status, finished_us, rows_out FROM scan"), [["running", "", ""]]);
    sink.finish(&manifest_of(UUID, Status::Complete)).expect("finishes beside a reader");
    assert_eq!(
        query(&reader, "SELECT status, rows_out FROM scan"),
        [["complete", &(2 * samples().len()).to_string()]]
    );
}

#[test]
fn large_batches_are_committed_in_transactions_of_bounded_size() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("results.db");
    let mut sink = open(kind("sqlite"), &file(&path)).expect("opens");
    // Nine: no divisor of the rows of a statement, so that every row is bound over another's facts.
    let records = samples()[..9].repeat(25_000);
    sink.write(&records).expect("writes");
    assert_eq!(sink.safe(), 200_000, "two transactions of 100,000 rows");
    assert_eq!(sink.commit().expect("commits"), 225_000);
    let shares =
        "SELECT count(*) FROM observation GROUP BY ts_us, ip, ip4, port, proto, state, reason, proof, pass,
                  ttl, win, mss, wscale, opts_hash, ipid, rtt_us, responder";
    let shares = query(&read_only(&path), shares);
    assert_eq!(shares.len(), 9);
    assert!(shares.iter().all(|share| share == &["25000"]), "no row has another's facts: {shares:?}");
}

#[test]
fn a_database_of_somebody_else_is_refused_and_not_touched() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("foreign.db");
    Connection::open(&path).expect("opens").execute_batch("CREATE TABLE precious (x)").expect("creates");
    let before = fs::read(&path).expect("reads");
    for existing in [Existing::Refuse, Existing::Append] {
        let error =
            (kind("sqlite").open)(&Place { existing, ..file(&path) }).map(|_| ()).expect_err("refuses");
        assert!(error.to_string().contains("no swath database"), "{error}");
    }
    assert_eq!(fs::read(&path).expect("reads"), before);
}

#[test]
fn a_database_of_a_newer_version_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("results.db");
    write_all(kind("sqlite"), &path, &samples());
    Connection::open(&path).expect("opens").execute_batch("PRAGMA user_version = 2").expect("sets");
    let error = (kind("sqlite").open)(&file(&path)).map(|_| ()).expect_err("refuses");
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[test]
fn a_database_behind_a_symbolic_link_is_refused_and_a_linked_directory_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let (real, link) = (directory.path().join("real"), directory.path().join("link"));
    fs::create_dir(&real).expect("creates");
    std::os::unix::fs::symlink(&real, &link).expect("links");
    write_all(kind("sqlite"), &link.join("results.db"), &samples());
    std::os::unix::fs::symlink(real.join("results.db"), real.join("alias.db")).expect("links");
    let error = (kind("sqlite").open)(&file(&real.join("alias.db"))).map(|_| ()).expect_err("refuses");
    assert!(error.to_string().contains("symbolic link"), "{error}");
}

#[test]
fn a_database_does_not_go_to_standard_output() {
    let (kind, place) = parse_place("sqlite:-", Existing::Refuse).expect("parses");
    assert!((kind.open)(&place).map(|_| ()).expect_err("refuses").to_string().contains("needs a file"));
}

// --- losing ----------------------------------------------------------------------------------------------------

/// Not a test: what the tests below run in a process of its own.
#[test]
fn child() {
    let Ok(task) = std::env::var("SWATH_CHILD") else { return };
    let directory = PathBuf::from(std::env::var_os("SWATH_DIRECTORY").expect("set by the parent"));
    match task.as_str() {
        "write-forever" => write_forever(&directory),
        "fill-the-disk" => fill_the_disk(&directory),
        "write-to-stdout" => write_to_stdout(),
        task => panic!("unknown task {task}"),
    }
}

fn child_command(wrapper: &[&str], task: &str, directory: &Path) -> Command {
    let program = std::env::current_exe().expect("this binary");
    let mut words: Vec<&OsStr> = wrapper.iter().map(OsStr::new).collect();
    words.push(program.as_os_str());
    let mut command = Command::new(words[0]); // the wrapper, or the binary itself
    command.args(&words[1..]).args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    command.env("SWATH_CHILD", task).env("SWATH_DIRECTORY", directory);
    command
}

/// Ten samples that every kind can tell.
fn storable() -> Vec<Record> {
    let told = |record: &Record| local().all(|kind| kind.states.contains(&record.state));
    samples().into_iter().filter(told).cycle().take(10).collect()
}

/// Writes to every kind of file until killed, and says after each commit how much is safe.
fn write_forever(directory: &Path) {
    let mut sinks: Vec<_> =
        filed().map(|kind| open(kind, &file(&directory.join(kind.name))).expect("opens")).collect();
    let records = storable().repeat(200);
    for round in 1_u64.. {
        for sink in &mut sinks {
            sink.write(&records).expect("writes");
            let safe = sink.commit().expect("commits");
            assert_eq!(safe, round * 2000);
        }
        writeln!(io::stdout(), "\ncommitted {}", round * 2000).expect("the parent reads");
    }
}

#[test]
fn what_was_committed_survives_being_killed_at_any_instant() {
    let mut total = 0;
    for round in 0..20_u64 {
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = child_command(&[], "write-forever", directory.path());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let committed =
            |line: String| line.strip_prefix("committed ").and_then(|count| count.parse::<u64>().ok());
        let first = lines.find_map(committed).expect("commits before it is killed");
        std::thread::sleep(Duration::from_micros(round * 3571 % 40_000));
        child.kill().expect("kills");
        child.wait().expect("ends");
        let last = lines.filter_map(committed).last().unwrap_or(first);
        for kind in filed() {
            let path = directory.path().join(kind.name);
            let found = count_valid(kind, &path, true);
            assert!(last <= found, "{}: {last} committed, {found} found", kind.name);
            recover(kind, &path, found);
        }
        total += last;
    }
    assert!(50_000 < total, "too little was written ({total}) to show anything");
}

/// A scan that starts on what a killed one left goes on behind its last record.
fn recover(kind: &SinkKind, path: &Path, found: u64) {
    if kind.name == "sqlite" {
        let statuses = query(&read_only(path), "SELECT status FROM scan");
        assert_eq!(statuses, [["running"]]);
    }
    let mut sink = (kind.open)(&Place { existing: Existing::Append, ..file(path) }).expect("opens");
    sink.begin(&manifest_of(UUID_2, Status::Running)).expect("begins");
    sink.write(&storable()).expect("writes");
    sink.finish(&manifest_of(UUID_2, Status::Complete)).expect("finishes");
    let expected = if kind.name.starts_with("nmap-") { finished(kind, &storable()) } else { found + 10 };
    assert_eq!(count_valid(kind, path, false), expected, "{}", kind.name);
}

/// Carries 60,000 records to every sink on a file system that has room for a part of them, and checks the account
/// against the files.
fn fill_the_disk(directory: &Path) {
    const RECORDS: usize = 60_000;
    let mut manifest = manifest_of(UUID, Status::Running);
    let queue = Queue::new(2 * RECORDS);
    let stats = Arc::new(Stats::new(0, 0, local().count()));
    let outlet = |kind: &SinkKind| Outlet {
        name: kind.name.to_owned(),
        sink: (kind.open)(&file(&directory.join(kind.name))).expect("opens"),
        show: Show::ALL,
        select: None,
        stdout: false,
    };
    let mut writer = Writer::new(queue.clone(), Arc::clone(&stats), local().map(outlet).collect());
    writer.begin(&manifest).expect("begins");
    let records = storable();
    (0..RECORDS).for_each(|index| queue.push(records[index % records.len()]).expect("room"));
    queue.close();
    let mut now_ns = 0;
    while !writer.step(now_ns).done {
        now_ns += 100_000_000;
    }
    let summary = Summary { frames_seen: RECORDS as u64, accepted: RECORDS as u64, ..Summary::default() };
    manifest.summary = Some(summary);
    let errors = writer.finish(&mut manifest);
    let summary = manifest.summary.expect("stays");
    assert_eq!(summary.imbalance(), None);
    let mut failed = 0;
    // Reading a database that could not be closed takes room, so the others are counted and removed first.
    let (last, first): (Vec<_>, Vec<_>) =
        local().zip(&summary.sinks).partition(|(kind, _)| kind.name == "sqlite");
    for (kind, sink) in first.into_iter().chain(last) {
        failed += usize::from(0 < sink.suppressed);
        if kind.name != "none" {
            let path = directory.join(kind.name);
            let found = count_valid(kind, &path, false);
            let whole = sink.suppressed == 0 && !errors.iter().any(|error| error.object.ends_with(kind.name));
            let expected =
                if whole { finished(kind, &storable()).max(sink.written.min(found)) } else { sink.written };
            let grouped = kind.name.starts_with("nmap-");
            assert_eq!(found, if grouped { expected } else { sink.written }, "{}: {errors:?}", kind.name);
            // A file of columns that could not be finished is a spool.
            if kind.name != "sqlite" && (whole || !is_columns(kind)) {
                fs::remove_file(path).expect("removes");
            }
        }
    }
    assert!(0 < failed && failed < local().count(), "some fail, some go on: {:?}", summary.sinks);
    assert!(failed <= errors.len(), "every failure is reported: {errors:?}");
}

#[test]
fn the_account_equals_the_files_when_files_may_grow_no_more() {
    for limit in [100, 1_000, 4_000, 20_000] {
        let directory = tempfile::tempdir().expect("a directory");
        // Without the signal a write beyond the limit fails, as it does on a full disk. Units of 512 bytes.
        let script = format!("trap '' XFSZ; ulimit -f {limit}; exec \"$@\"");
        let output = child_command(&["sh", "-c", &script, "sh"], "fill-the-disk", directory.path()).output();
        let output = output.expect("runs");
        assert!(output.status.success(), "limit {limit}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_account_equals_the_files_when_the_disk_is_full() {
    // A small file system of our own, in a mount namespace of our own.
    let script = |rest: &str| format!("mount -t tmpfs -o size=$SIZE tmpfs \"$SWATH_DIRECTORY\" && {rest}");
    let probe = ["unshare", "-rm", "sh", "-c"];
    let directory = tempfile::tempdir().expect("a directory");
    let mut check = Command::new(probe[0]);
    check.args(&probe[1..]).arg(script("true")).env("SWATH_DIRECTORY", directory.path()).env("SIZE", "4m");
    if !check.output().is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("SWATH_REQUIRE_TOOLS").is_none(), "no user namespaces here");
        let _ = writeln!(io::stderr(), "skipped: no user namespaces here");
        return;
    }
    for size in ["4m", "12m", "40m"] {
        let script = script("exec \"$@\"");
        let wrapper = [probe[0], probe[1], probe[2], probe[3], &script, "sh"];
        let output = child_command(&wrapper, "fill-the-disk", directory.path()).env("SIZE", size).output();
        let output = output.expect("runs");
        assert!(output.status.success(), "size {size}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Writes text to standard output until told that nobody reads it, and says so on standard error.
fn write_to_stdout() {
    let (kind, place) = parse_place("-", Existing::Refuse).expect("parses");
    let queue = Queue::new(10_000);
    let stats = Arc::new(Stats::new(0, 0, 1));
    let sink = (kind.open)(&place).expect("opens");
    let outlet = Outlet { name: "-".to_owned(), sink, show: Show::OPEN, select: None, stdout: true };
    let mut writer = Writer::new(queue.clone(), stats, vec![outlet]);
    writer.begin(&manifest_of(UUID, Status::Running)).expect("begins");
    for second in 0..1000 {
        samples().into_iter().for_each(|record| queue.push(record).expect("room"));
        if writer.step(second * 1_000_000_000).event == Some(WriterEvent::StdoutClosed) {
            assert!(writer.take_error().is_none());
            writeln!(io::stderr(), "told to stop").expect("the parent reads");
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_reader_of_standard_output_that_leaves_stops_the_writer_without_an_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = child_command(&[], "write-to-stdout", directory.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let discovered = lines.skip_while(|line| !line.contains("Discovered")).nth(1).expect("a second line");
    assert!(discovered.starts_with("Discovered open port "), "{discovered}");
    // The reader is gone with the iterator.
    let output = child.wait_with_output().expect("ends");
    assert!(String::from_utf8_lossy(&output.stderr).contains("told to stop"));
}
