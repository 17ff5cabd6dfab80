//! Sinks of other people's engines: a real PostgreSQL that is killed, stopped, filled and restarted under a scan, the
//! real ClickHouse engine (chdb) behind a small HTTP shim, and pyarrow and DuckDB as readers of our columns.
//!
//! A missing engine skips its tests, unless `SWATH_SERVERS` says `required`: then that is a failure. scripts/test installs
//! PostgreSQL and makes the Python environment (`SWATH_PYTHON`).

mod common;
mod samples;

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::SWATH;
use samples::{UUID, manifest_of, samples};
use swath::event::{Reason, Record, State, Status, Summary, Untrusted};
use swath::queue::Queue;
use swath::sink::{Existing, Sink, parse_place, replay};
use swath::spool::{Item, SpoolReader};
use swath::stats::Stats;
use swath::target::{Port, Protocol, Target};
use swath::writer::{self, Outlet, Show, WriterEvent};

/// Distinct targets.
fn records(count: u32) -> Vec<Record> {
    let record = |index: u32| {
        let address = Ipv4Addr::from_bits(0xc612_0000 | (index.wrapping_mul(40_503) & 0x1_ffff)).into();
        let port = Port { protocol: Protocol::TCP, number: (index >> 17) as u16 + 1 };
        let mut record = Record::new(Target { address, port }, address, State::Open, Reason::SYN_ACK);
        record.time_ns = 1_795_219_200_000_000_000 + u64::from(index) * 1000;
        record
    };
    (0..count).map(record).collect()
}

fn open(argument: &str) -> Box<dyn Sink> {
    let (kind, place) = parse_place(argument, Existing::Refuse).expect("parses");
    (kind.open)(&place).unwrap_or_else(|error| panic!("{error}"))
}

/// Writes the records through a sink and ends it.
fn write_all(argument: &str, uuid: &str, records: &[Record]) {
    let mut sink = open(argument);
    sink.begin(&manifest_of(uuid, Status::Running)).expect("begins");
    sink.write(records).expect("writes");
    assert_eq!(sink.commit().expect("commits"), records.len() as u64);
    sink.finish(&manifest_of(uuid, Status::Complete)).expect("finishes");
}

/// What every sink holds of the samples, in words: the rows of the SQLite golden file without the scan's number.
fn golden() -> Vec<String> {
    let rows = include_str!("../src/sink/golden/sqlite").lines();
    let mut rows: Vec<String> = rows.map(|row| row.split_once('|').expect("scan_id").1.to_owned()).collect();
    rows.sort();
    rows
}

fn sorted_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn missing(what: &str) -> bool {
    let required = std::env::var_os("SWATH_SERVERS").is_some_and(|value| value == "required");
    assert!(!required, "{what} is not installed");
    let _ = writeln!(io::stderr(), "skipped: {what} is not installed");
    true
}

fn succeeds(command: &mut Command) -> String {
    let output = command.output().expect("runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

// --- columns ---------------------------------------------------------------------------------------------------

/// A Python that has these modules; `None` when there is none.
fn python(modules: &str) -> Option<PathBuf> {
    let path = std::env::var_os("SWATH_PYTHON").map(PathBuf::from);
    let path =
        path.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/bin/python3"));
    let probe = Command::new(&path).args(["-c", &format!("import {modules}")]).output();
    let found = probe.is_ok_and(|output| output.status.success());
    if found { Some(path) } else { missing(modules).then_some(PathBuf::new()).filter(|_| false) }
}

const COLUMNS: &str =
    "ts ip port proto state reason ttl win mss wscale opts ipid rtt_us responder proof pass";

#[test]
fn pyarrow_and_duckdb_read_parquet_and_arrow() {
    let Some(python) = python("pyarrow, duckdb") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    for suffix in ["parquet", "arrow"] {
        write_all(&directory.path().join(format!("set.{suffix}")).display().to_string(), UUID, &samples());
    }
    let script = r#"
import sys, json, pyarrow as pa, pyarrow.parquet as pq, pyarrow.ipc as ipc, duckdb
names = sys.argv[2].split()
def show(rows):
    for row in rows:
        row = dict(row)
        row['ts'] = row['ts'].strftime('%Y-%m-%dT%H:%M:%S.%fZ') if hasattr(row['ts'], 'strftime') else row['ts']
        row['opts'] = None if row['opts_hash'] is None else '%08x' % row['opts_hash']
        print('|'.join('' if row[n] is None else str(row[n]) for n in names))
def check(schema):
    manifests = json.loads(schema.metadata[b'swath.manifests'])
    assert manifests[0]['scan_uuid'] == sys.argv[3] and manifests[0]['status'] == 'complete', manifests
    assert str(schema.field('ts').type) == 'timestamp[us, tz=UTC]', schema
parquet = pq.ParquetFile(sys.argv[1] + '/set.parquet')
check(parquet.schema_arrow)
column = parquet.metadata.row_group(0).column(0)
assert column.compression == 'ZSTD' and 'DELTA_BINARY_PACKED' in column.encodings, column
table = parquet.read()
keys = [(r['ip4'] is None, r['ip4'] or 0) for r in table.to_pylist()]
assert keys == sorted(keys)
show(table.to_pylist())
print('--')
with pa.memory_map(sys.argv[1] + '/set.arrow') as source:
    reader = ipc.open_file(source)
    check(reader.schema)
    show(reader.read_all().to_pylist())
print('--')
duckdb.sql("SET TimeZone='UTC'")
relation = duckdb.sql("SELECT * REPLACE (strftime(ts, '%Y-%m-%dT%H:%M:%S.%fZ') AS ts) FROM '" + sys.argv[1] + "/set.parquet'")
show(dict(zip(relation.columns, row)) for row in relation.fetchall())
"#;
    let mut command = Command::new(python);
    command.args(["-c", script]).arg(directory.path()).args([COLUMNS, UUID]);
    let output = succeeds(&mut command);
    let readers: Vec<&str> = output.split("--\n").collect();
    assert_eq!(readers.len(), 3);
    for reader in readers {
        assert_eq!(sorted_lines(reader), golden());
    }
}

#[test]
fn pyarrow_reads_the_stream_on_standard_output() {
    let Some(python) = python("pyarrow") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let pipe = directory.path().join("pipe");
    succeeds(Command::new("mkfifo").arg(&pipe));
    let script = "import sys, pyarrow.ipc as ipc
print(sum(batch.num_rows for batch in ipc.open_stream(open(sys.argv[1], 'rb'))))";
    let mut command = Command::new(python);
    let reader = command.args(["-c", script]).arg(&pipe).stdout(Stdio::piped()).spawn().expect("starts");
    write_all(&format!("arrow:{}", pipe.display()), UUID, &records(100_000));
    let output = reader.wait_with_output().expect("ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "100000\n");
}

// --- parts, killed -----------------------------------------------------------------------------------------------

/// Not a test: what the tests below run in a process of its own.
#[test]
fn child() {
    let Ok(argument) = std::env::var("SWATH_CHILD") else { return };
    let mut sink = open(&argument);
    sink.begin(&manifest_of(UUID, Status::Running)).expect("begins");
    let all = records(4 << 20);
    for (index, batch) in all.chunks(4096).enumerate() {
        sink.write(batch).expect("writes");
        let safe = sink.commit().expect("commits");
        assert_eq!(safe, (index as u64 + 1) * 4096);
        writeln!(io::stdout(), "\ncommitted {safe}").expect("the parent reads");
    }
    std::thread::sleep(Duration::from_secs(60));
}

/// Runs [`child`] until it has committed so many records, then kills it; returns what it committed.
fn killed(argument: &str, at_least: u64, pause: Duration) -> u64 {
    let program = std::env::current_exe().expect("this binary");
    let mut command = Command::new(program);
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]).env("SWATH_CHILD", argument);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let committed =
        |line: String| line.strip_prefix("committed ").and_then(|count| count.parse::<u64>().ok());
    let mut last = lines.by_ref().filter_map(committed).find(|count| at_least <= *count).expect("commits");
    std::thread::sleep(pause);
    child.kill().expect("kills");
    child.wait().expect("ends");
    last = lines.filter_map(committed).last().unwrap_or(last);
    last
}

/// The rows of every part in a directory, each of which must be whole.
fn rows_in_parts(directory: &Path) -> u64 {
    let mut rows = 0;
    for entry in fs::read_dir(directory).expect("lists") {
        let path = entry.expect("an entry").path();
        if path.extension() == Some(OsStr::new("parquet")) {
            let mut reader =
                (swath::columnar::parquet::FORMAT.open)(&path).expect("a part that exists is whole");
            let mut records = Vec::new();
            while reader.read(&mut records).expect("a part that exists is whole") {}
            assert!(records.is_sorted_by_key(Record::sort_key), "{}", path.display());
            rows += records.len() as u64;
        }
    }
    rows
}

#[test]
fn parts_are_whole_at_any_instant_of_a_kill_and_replay_makes_the_rest() {
    for (round, at_least) in [4096, 1 << 20, 2_200_000, 3_000_000].into_iter().enumerate() {
        let directory = tempfile::tempdir().expect("a directory");
        let parts = directory.path().join("parts");
        let pause = Duration::from_millis(round as u64 * 97 % 211);
        let committed = killed(&format!("parquet:{}/", parts.display()), at_least, pause);
        let before = rows_in_parts(&parts);
        let spool = parts.join(format!("swath-{UUID}.spool"));
        let replayed = replay(&spool, &format!("parquet:{}/", parts.display())).expect("replays");
        let after = rows_in_parts(&parts);
        assert!(before <= after && committed <= after, "{before} {committed} {after}");
        assert_eq!(after, replayed.delivered);
        assert!(!spool.exists() && !replayed.kept, "nothing is left in it: {:?}", replayed.findings);
        let compacted = directory.path().join("set.parquet");
        let paths = [parts.display().to_string(), compacted.display().to_string()];
        let mut command = Command::new(SWATH);
        succeeds(command.args(["compact", &paths[0], "-o", &paths[1]]));
        assert_eq!(rows_in_parts(directory.path()), after);
    }
}

#[test]
fn a_file_of_columns_survives_a_kill_in_its_spool() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("set.parquet");
    let committed = killed(&path.display().to_string(), 1_200_000, Duration::from_millis(50));
    assert!(!path.exists());
    let spool = directory.path().join(format!("set.parquet.{UUID}.spool"));
    let ran = succeeds(Command::new(SWATH).arg("replay").arg(&spool));
    assert_eq!(ran, "");
    let rows = rows_in_parts(directory.path());
    assert!(committed <= rows, "{committed} committed, {rows} found");
    let left: Vec<_> =
        fs::read_dir(directory.path()).expect("lists").map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["set.parquet"]);
}

// --- PostgreSQL --------------------------------------------------------------------------------------------------

/// A cluster of our own on a socket of its own. Run as its own user where we are root: PostgreSQL refuses to.
struct Cluster {
    directory: tempfile::TempDir,
    programs: PathBuf,
    mounted: bool,
}

impl Cluster {
    /// `None` when PostgreSQL is not installed. With a size, the data stands on a file system of that size.
    fn start(size: Option<&str>) -> Option<Cluster> {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let programs =
            versions.map(|entry| entry.path().join("bin")).find(|path| path.join("initdb").exists());
        let Some(programs) = programs else { return missing("PostgreSQL").then_some(()).and(None) };
        let directory = tempfile::Builder::new().prefix("swath-pg").tempdir().expect("a directory");
        let mut cluster = Cluster { directory, programs, mounted: false };
        let path = cluster.directory.path().to_owned();
        if let Some(size) = size {
            let mount = Command::new("mount")
                .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
                .arg(&path)
                .status();
            cluster.mounted = mount.is_ok_and(|status| status.success());
            assert!(
                cluster.mounted || std::env::var_os("SWATH_NETNS").is_none(),
                "cannot mount a file system"
            );
        }
        if is_root() {
            succeeds(Command::new("chown").arg("postgres").arg(&path));
        }
        let data = path.join("data").display().to_string();
        succeeds(
            cluster
                .program("initdb")
                .args(["-D", &data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"]),
        );
        cluster.up();
        cluster.psql("CREATE DATABASE scans");
        Some(cluster)
    }

    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(self.directory.path()).env("LC_ALL", "C.UTF-8");
        command
    }

    fn control(&self, words: &[&str]) -> bool {
        let data = self.directory.path().join("data");
        let mut command = self.program("pg_ctl");
        command.args(words).arg("-D").arg(data).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().expect("runs").success()
    }

    fn up(&self) {
        let path = self.directory.path().display();
        let options = format!("-k {path} -c listen_addresses='' -c max_wal_size=64MB -c min_wal_size=32MB");
        let log = self.directory.path().join("log").display().to_string();
        assert!(self.control(&["start", "-w", "-t", "60", "-l", &log, "-o", &options]), "{}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// As `kill -9` of all of it.
    fn down(&self) {
        self.control(&["stop", "-m", "immediate"]);
    }

    /// The postmaster's process and its children, to be stopped and continued.
    fn signal(&self, signal: &str) {
        let file = self.directory.path().join("data/postmaster.pid");
        let Ok(text) = fs::read_to_string(file) else { return };
        let parent = text.lines().next().unwrap_or_default().to_owned();
        let children =
            Command::new("ps").args(["-o", "pid=", "--ppid", &parent]).output().expect("ps runs").stdout;
        let children = String::from_utf8(children).expect("text");
        for pid in children.split_whitespace().chain([parent.as_str()]) {
            let _ = Command::new("kill").args([signal, pid]).stderr(Stdio::null()).status();
        }
    }

    fn psql(&self, sql: &str) -> String {
        let database = if sql.starts_with("CREATE DATABASE") { "postgres" } else { "scans" };
        self.psql_in(database, sql)
    }

    fn psql_in(&self, database: &str, sql: &str) -> String {
        let mut command = self.program("psql");
        command.arg("-h").arg(self.directory.path());
        command.args([
            "-U",
            "postgres",
            "-d",
            database,
            "-X",
            "-q",
            "-At",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            sql,
        ]);
        succeeds(&mut command)
    }

    /// Its address, with spools in `spools`.
    fn address(&self, spools: &Path) -> String {
        let host = self.directory.path().display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{host}/scans?spool={}", spools.display())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.signal("-CONT");
        self.down();
        if self.mounted {
            let _ = Command::new("umount").args(["-l"]).arg(self.directory.path()).status();
        }
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0)
}

#[test]
fn every_fact_reaches_postgres_in_words() {
    let Some(cluster) = Cluster::start(None) else { return };
    let directory = tempfile::tempdir().expect("a directory");
    write_all(&cluster.address(directory.path()), UUID, &samples());
    let names = "to_char(ts AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), ip, port, proto, state, reason, ttl, \
                 win, mss, wscale, opts, ipid, rtt_us, responder, proof, pass";
    let rows = cluster.psql(&format!("SELECT {names} FROM swath.observation_text"));
    assert_eq!(sorted_lines(&rows), golden());
    let scan = "SELECT scan_uuid, status, rows_in, rows_out, manifest->>'seed', to_regclass('swath.observation_1_by_ip') FROM swath.scan";
    let count = samples().len();
    let expected = format!("{UUID}|complete|{count}|{count}|{}|swath.observation_1_by_ip\n", u64::MAX);
    assert_eq!(cluster.psql(scan), expected);
    let all = samples();
    let open = all.iter().filter(|record| record.state == State::Open);
    let services: std::collections::BTreeSet<String> =
        open.map(|record| format!("{:?}", record.target())).collect();
    let services = services.len();
    assert_eq!(cluster.psql("SELECT count(*) FROM swath.open_service"), format!("{services}\n"));
    assert!(fs::read_dir(directory.path()).expect("lists").next().is_none(), "the spool is gone");
}

#[test]
fn copy_files_are_loaded_by_psql() {
    let Some(cluster) = Cluster::start(None) else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("rows.pgcopy");
    write_all(&path.display().to_string(), UUID, &samples());
    // The statement of docs/databases.md.
    let text = fs::read_to_string("docs/databases.md").expect("reads");
    let table = text
        .split("```sql\n")
        .find(|block| block.starts_with("CREATE TABLE observation ("))
        .expect("a table");
    cluster.psql(table.split("```").next().expect("its end"));
    let mut command = cluster.program("psql");
    command.arg("-h").arg(cluster.directory.path()).args(["-U", "postgres", "-d", "scans", "-X", "-c"]);
    command.arg("\\copy observation FROM STDIN (FORMAT binary)").stdin(fs::File::open(&path).expect("opens"));
    assert_eq!(succeeds(&mut command), format!("COPY {}\n", samples().len()));
    let rows =
        cluster.psql("SELECT host(ip), port, state, coalesce(mss, -1) FROM observation WHERE pass = 1");
    assert_eq!(rows, "198.18.0.7|80|1|1460\n");
    assert_eq!(cluster.psql("SELECT DISTINCT scan FROM observation"), format!("{UUID}\n"));
}

#[test]
fn what_cannot_be_is_refused_before_the_first_packet_and_no_password_is_shown() {
    let Some(cluster) = Cluster::start(None) else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let address = cluster.address(directory.path());
    let secret = address.replace("postgres@", "postgres:geheim@");
    let (kind, place) = parse_place(&secret, Existing::Refuse).expect("parses");
    let error = (kind.open)(&place).map(|_| ()).expect_err("refuses").to_string();
    assert!(error.contains("PGPASSWORD") && !error.contains("geheim"), "{error}");
    for wrong in [address.replace("/scans?", "/nowhere?"), address.replace("postgres@", "nobody@")] {
        let mut sink = open(&wrong);
        let error = sink.begin(&manifest_of(UUID, Status::Running)).expect_err("refuses");
        assert!(error.is_refusal(), "{error}");
    }
    assert!(fs::read_dir(directory.path()).expect("lists").next().is_none(), "no spool was made");
}

#[test]
fn a_server_that_is_gone_at_the_end_is_served_by_replay_as_often_as_one_likes() {
    let Some(cluster) = Cluster::start(None) else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let address = cluster.address(directory.path());
    let mut sink = open(&address);
    sink.begin(&manifest_of(UUID, Status::Running)).expect("begins");
    let all = records(300_000);
    sink.write(&all[..150_000]).expect("writes");
    sink.commit().expect("commits");
    std::thread::sleep(Duration::from_millis(900)); // some of it is delivered
    cluster.down();
    sink.write(&all[150_000..]).expect("writes");
    assert_eq!(sink.commit().expect("commits"), 300_000, "the scan never notices");
    let error = sink.finish(&manifest_of(UUID, Status::Complete)).expect_err("it is gone").to_string();
    assert!(error.contains("swath replay") && error.contains(" of 300000 results wait in "), "{error}");
    let spool = directory.path().join(format!("swath-{UUID}.spool"));
    assert!(replay(&spool, &address).is_err(), "still gone");
    let copy = directory.path().join("copy.spool");
    succeeds(Command::new("cp").arg("-r").arg(&spool).arg(&copy));
    cluster.up();
    let ran = Command::new(SWATH).arg("replay").arg(&spool).output().expect("runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(!spool.exists(), "nothing is left in it");
    assert_eq!(replay(&copy, &address).expect("replays").delivered, 300_000);
    let counts = "SELECT count(*), count(DISTINCT (ip, port, proto)) FROM swath.observation";
    assert_eq!(cluster.psql(counts), "300000|300000\n");
    assert_eq!(cluster.psql("SELECT rows_in, rows_out, status FROM swath.scan"), "300000|300000|complete\n");
}

/// 5,000 strings as a hostile target sends them, through the spool into a column of bytes: the same bytes come back.
#[test]
fn hostile_bytes_reach_postgres_as_they_are() {
    let Some(cluster) = Cluster::start(None) else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let mut sink = open(&cluster.address(directory.path()));
    sink.begin(&manifest_of(UUID, Status::Running)).expect("begins");
    let parts: [&[u8]; 12] = [
        b"\x1b[2J",
        b"\0",
        b"'; DROP TABLE swath.scan; --",
        b"\"",
        b"\r\n",
        b"]]>",
        b"=cmd|' /C calc'!A0",
        b"\xff\xfe",
        "\u{202e}".as_bytes(),
        b"\\.",
        b"$$",
        b"\\x00",
    ];
    let mut state = 7_u32;
    let mut pick = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        parts[(state >> 16) as usize % parts.len()]
    };
    let all = records(5000);
    let bytes: Vec<Vec<u8>> = all.iter().map(|_| [pick(), pick(), pick()].concat()).collect();
    for (record, bytes) in all.iter().zip(&bytes) {
        sink.write(std::slice::from_ref(record)).expect("writes");
        sink.attach(record, "banner", &Untrusted(bytes.clone())).expect("attaches");
    }
    sink.commit().expect("commits");
    sink.finish(&manifest_of(UUID, Status::Complete)).expect("finishes");
    let found = cluster.psql("SELECT host(ip) || ' ' || encode(bytes, 'hex') FROM swath.attachment");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let expected =
        all.iter().zip(&bytes).map(|(record, bytes)| format!("{} {}\n", record.address(), hex(bytes)));
    assert_eq!(sorted_lines(&found), sorted_lines(&expected.collect::<String>()));
}

/// Records arrive at a steady rate while the server is killed, hung, its connections cut and its disk filled. No record
/// is missing or twice, and whoever pushes never waits. `SWATH_ROUNDS` and `SWATH_HANG_S` make it longer (scripts/soak).
#[test]
#[allow(clippy::too_many_lines, reason = "one story of twenty faults")]
fn a_server_that_fails_in_every_way_costs_no_record_and_no_pause() {
    let Some(cluster) = Cluster::start(Some("400m")) else { return };
    let cluster = &cluster;
    let directory = tempfile::tempdir().expect("a directory");
    let lines = directory.path().join("lines.ndjson");
    let arguments = [cluster.address(directory.path()), lines.display().to_string()];
    let rounds = from_environment("SWATH_ROUNDS", 20);
    let hang = from_environment("SWATH_HANG_S", 2);
    let all = records(1 << 20);
    // So slowly that they last through every fault, at least 2 ms for 50.
    let expected_us = u64::from(rounds) * (u64::from(hang) * 1_000_000 / 4 + 1_500_000);
    let pause = Duration::from_micros((expected_us * 50 / all.len() as u64).max(2000));
    let outlets = arguments.iter().map(|argument| Outlet {
        name: argument.clone(),
        sink: open(argument),
        show: Show::ALL,
        select: None,
        stdout: false,
    });
    let queue = Queue::new(1 << 16);
    let stats = Arc::new(Stats::new(0, 0, 2));
    let (mut distributor, mut writers) = writer::split(queue.clone(), &stats, outlets.collect());
    writers.iter_mut().for_each(|writer| writer.begin(&manifest_of(UUID, Status::Running)).expect("begins"));
    let over = AtomicBool::new(false);
    let (mut pushed, mut longest) = (0_u64, Duration::ZERO);
    let writers = std::thread::scope(|scope| {
        let threads: Vec<_> = writers
            .into_iter()
            .map(|mut writer| {
                scope.spawn(move || {
                    let begun = Instant::now();
                    loop {
                        let step =
                            writer.step(u64::try_from(begun.elapsed().as_nanos()).expect("not for ever"));
                        assert_ne!(step.event, Some(WriterEvent::NoSinkLeft), "{:?}", writer.take_error());
                        if step.done {
                            return writer;
                        }
                        if step.taken == 0 {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    }
                })
            })
            .collect();
        scope.spawn(move || {
            while !distributor.step().done {
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        scope.spawn(|| {
            torment(cluster, rounds, u64::from(hang));
            over.store(true, Ordering::Relaxed);
        });
        for record in &all {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let before = Instant::now();
            assert!(queue.push(*record).is_ok(), "the queue filled: the scan would have paused");
            longest = longest.max(before.elapsed());
            pushed += 1;
            if pushed.is_multiple_of(50) {
                std::thread::sleep(pause);
            }
        }
        while !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(10));
        }
        queue.close();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
    });
    let mut manifest = manifest_of(UUID, Status::Complete);
    manifest.summary = Some(Summary { frames_seen: pushed, accepted: pushed, ..Summary::default() });
    let errors = writer::finish(writers, &mut manifest);
    assert!(errors.is_empty(), "{errors:?}\n{}", cluster.log());
    let summary = manifest.summary.expect("stays");
    assert_eq!(summary.imbalance(), None);
    assert_eq!(fs::read_to_string(lines).expect("reads").lines().count() as u64, pushed);
    let counts = "SELECT count(*), count(DISTINCT (ip, port, proto)) FROM swath.observation";
    assert_eq!(cluster.psql(counts), format!("{pushed}|{pushed}\n"));
    let ended = format!("{pushed}|{pushed}|complete\n");
    assert_eq!(cluster.psql("SELECT rows_in, rows_out, status FROM swath.scan"), ended);
    let _ = writeln!(
        io::stderr(),
        "{pushed} records, {rounds} faults (hung {hang} s), 0 missing, 0 twice; the longest push took {longest:?}"
    );
}

/// A number that the environment may make larger.
fn from_environment(name: &str, usual: u32) -> u32 {
    std::env::var(name).ok().map_or(usual, |text| text.parse().expect("a number"))
}

/// One fault after the other, and time to recover in between.
fn torment(cluster: &Cluster, rounds: u32, hang_s: u64) {
    let filler = cluster.directory.path().join("filler");
    for round in 0..rounds {
        std::thread::sleep(Duration::from_millis(300));
        match round % 4 {
            0 => {
                cluster.down();
                std::thread::sleep(Duration::from_millis(500));
                cluster.up();
            }
            1 => {
                cluster.signal("-STOP");
                std::thread::sleep(Duration::from_secs(hang_s));
                cluster.signal("-CONT");
            }
            2 => {
                let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'swath'";
                cluster.psql(cut);
            }
            _ if cluster.mounted => {
                // Full to the last byte, the write-ahead log's file system too: the server itself may fall over.
                let mut file = fs::File::create(&filler).expect("creates");
                let block = vec![0; 1 << 20];
                while file.write_all(&block).is_ok() {}
                std::thread::sleep(Duration::from_secs(1));
                drop(file);
                fs::remove_file(&filler).expect("removes");
                if !cluster.control(&["status"]) {
                    cluster.up();
                }
            }
            _ => {}
        }
    }
    for _ in 0..100 {
        if cluster.control(&["status"]) {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

// --- ClickHouse --------------------------------------------------------------------------------------------------

/// The engine itself (chdb) behind as much HTTP as an insert needs.
struct ClickHouse {
    process: Child,
    port: u16,
}

impl ClickHouse {
    fn start(directory: &Path) -> Option<ClickHouse> {
        let python = python("chdb")?;
        let shim = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clickhouse_shim.py");
        let mut command = Command::new(python);
        command.arg(shim).arg(directory.join("chdb")).stdout(Stdio::piped());
        let mut process = command.spawn().expect("starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("says its port");
        Some(ClickHouse { process, port: line.trim().parse().expect("a port") })
    }

    fn ask(&self, query: &str, body: &[u8]) -> String {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).expect("connects");
        let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let head = format!("POST /?query={query} HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), body].concat()).expect("sends");
        let mut answer = String::new();
        io::Read::read_to_string(&mut stream, &mut answer).expect("answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
        assert!(head.contains(" 200 "), "{answer}");
        body.to_owned()
    }
}

impl Drop for ClickHouse {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn every_fact_reaches_the_engine_of_clickhouse_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(server) = ClickHouse::start(directory.path()) else { return };
    let address = format!("clickhouse://127.0.0.1:{}/lab?spool={}", server.port, directory.path().display());
    write_all(&address, UUID, &samples());
    let select = "SELECT formatDateTime(ts, '%Y-%m-%dT%H:%i:%S.%fZ'), replaceRegexpOne(toString(ip), '^::ffff:', ''), port, proto, \
                  state, reason, ttl, win, mss, wscale, opts_hash, ipid, rtt_us, \
                  replaceRegexpOne(toString(responder), '^::ffff:', ''), proof, pass \
                  FROM lab.observation ORDER BY ALL FORMAT TabSeparated";
    let found = server.ask(select, b"");
    let number =
        |name: &str| Reason::ALL.iter().find(|(_, known)| *known == name).map(|(reason, _)| reason.0);
    let in_numbers = |row: &String| {
        // One word holds the separator.
        let row = row.replace("open|filtered", "open filtered");
        let mut cells: Vec<String> =
            row.split('|').map(|cell| cell.replace("open filtered", "open|filtered")).collect();
        let protocol = Protocol::from_name(&cells[3]).expect("a protocol");
        cells[3] = protocol.0.to_string();
        // Numbers without a name lose them in words; the rows say which they are.
        cells[5] =
            number(&cells[5]).unwrap_or(if protocol == Protocol::ICMP { 200 } else { 255 }).to_string();
        cells[10] = u32::from_str_radix(&cells[10], 16).map_or(String::new(), |number| number.to_string());
        cells
            .iter()
            .map(|cell| if cell.is_empty() { "\\N" } else { cell.as_str() })
            .collect::<Vec<_>>()
            .join("\t")
    };
    let mut expected: Vec<String> = golden().iter().map(in_numbers).collect();
    expected.sort();
    assert_eq!(sorted_lines(&found), expected);
    let scan = server.ask("SELECT scan, status, rows_out FROM lab.scan FINAL FORMAT TabSeparated", b"");
    assert_eq!(scan, format!("{UUID}\tcomplete\t{}\n", samples().len()));
}

#[test]
fn rows_of_the_stream_kind_are_those_of_the_table() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(server) = ClickHouse::start(directory.path()) else { return };
    let path = directory.path().join("rows.rowbinary");
    let rows = records(50_000);
    write_all(&path.display().to_string(), UUID, &rows);
    let text = fs::read_to_string("docs/databases.md").expect("reads");
    let table = text
        .split("```sql\n")
        .find(|block| block.starts_with("CREATE TABLE swath.observation"))
        .expect("a table");
    server.ask("CREATE DATABASE swath", b"");
    server.ask(table.split("```").next().expect("its end").trim().trim_end_matches(';'), b"");
    server.ask("INSERT INTO swath.observation FORMAT RowBinary", &fs::read(&path).expect("reads"));
    let counts = server.ask(
        "SELECT count(), uniqExact(ip, port, proto), any(scan) FROM swath.observation FORMAT TabSeparated",
        b"",
    );
    assert_eq!(counts, format!("50000\t50000\t{UUID}\n"));
}

#[test]
fn a_clickhouse_that_is_gone_and_comes_back_has_every_row_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(server) = ClickHouse::start(directory.path()) else { return };
    let address = format!("clickhouse://127.0.0.1:{}/lab?spool={}", server.port, directory.path().display());
    let mut sink = open(&address);
    sink.begin(&manifest_of(UUID, Status::Running)).expect("begins");
    let all = records(400_000);
    sink.write(&all[..300_000]).expect("writes");
    sink.commit().expect("commits");
    std::thread::sleep(Duration::from_millis(2500));
    drop(server);
    sink.write(&all[300_000..]).expect("writes");
    sink.commit().expect("commits");
    let error = sink.finish(&manifest_of(UUID, Status::Complete)).expect_err("it is gone").to_string();
    assert!(error.contains("swath replay"), "{error}");
    let spool = directory.path().join(format!("swath-{UUID}.spool"));
    let mut left = Vec::new();
    let mut reader = SpoolReader::open(&spool).expect("opens");
    while !matches!(reader.next(&mut left).expect("reads"), Item::End) {}
    assert_eq!(reader.position(), 400_000);
    let server = ClickHouse::start(directory.path()).expect("starts again");
    let address = format!("clickhouse://127.0.0.1:{}/lab", server.port);
    assert_eq!(replay(&spool, &address).expect("replays").delivered, 400_000);
    let counts = server
        .ask("SELECT count(), uniqExact(ip, port, proto) FROM lab.observation FORMAT TabSeparated", b"");
    assert_eq!(counts, "400000\t400000\n");
}
