//! A SQLite database that holds many scans: tables `scan` and `observation`, views in words (`sqlite.sql`).
//!
//! Results come in random order, and a live index would cost ten times the rate. So rows are only appended while
//! the scan runs, in write-ahead mode (readers may look at any time); indexes are built at the end, and the
//! database is closed as one single file. After `kill -9` the next reader finds every committed row and a scan
//! whose status is `running`.
//!
//! Invariant: values reach SQL as bound parameters only; no SQL is ever made from data.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{CachedStatement, Connection, OpenFlags, named_params};

use super::file::{create_exclusive, directory, replace, shown};
use super::format::{LINE_BYTES, Line};
use super::{Existing, Place, Sink, SinkError, SinkErrorKind, SinkKind};
use crate::event::{Manifest, Proof, Reason, Record, State, Summary, Untrusted};
use crate::target::Protocol;

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "sqlite",
    suffixes: &["db", "sqlite", "sqlite3"],
    about: "SQLite database; a scan adds to the scans in it",
    open,
    carries_bytes: true,
    ..SinkKind::BASE
};

/// Says in the header of the file that it is ours: `swth`.
const APPLICATION_ID: u32 = 0x7377_7468;

/// Version of the tables. A database with a higher one is refused.
const SCHEMA_VERSION: u32 = 1;

const SCHEMA: &str = include_str!("sqlite.sql");

/// Rows an INSERT carries. Measured on this schema, million rows a CPU second (AMD EPYC, November 2026): 1 row 1.71,
/// 10 rows 1.76, 40 rows 1.84, 80 rows 1.78, 160 rows 1.60, 320 rows 1.47.
const ROWS: usize = 40;

/// Rows after which a transaction is committed without waiting for the writer to ask.
const TRANSACTION_ROWS: u64 = 100_000;

/// How long to wait for another process that writes to the same database.
const BUSY: Duration = Duration::from_secs(10);

/// How long to wait at the end for readers to leave, before the write-ahead file is left to them.
const BUSY_AT_END: Duration = Duration::from_millis(500);

/// Bytes that targets sent. Made in every database, also those of versions without it.
const ATTACHMENT: &str = "
    CREATE TABLE IF NOT EXISTS attachment (
      scan_id INTEGER NOT NULL, ts_us INTEGER NOT NULL, ip TEXT NOT NULL, port INTEGER NOT NULL, proto INTEGER NOT NULL,
      key TEXT NOT NULL, bytes BLOB NOT NULL);";

const DROP_INDEXES: &str = "DROP INDEX IF EXISTS observation_by_ip; DROP INDEX IF EXISTS observation_by_ip4;";

const CREATE_INDEXES: &str = "
    CREATE INDEX IF NOT EXISTS observation_by_ip ON observation (ip, port);
    CREATE INDEX IF NOT EXISTS observation_by_ip4 ON observation (ip4, port) WHERE ip4 IS NOT NULL;";

fn open(place: &Place) -> Result<Box<dyn Sink>, SinkError> {
    if place.stdout {
        return Err(SinkError::refused("standard output", "a database needs a file"));
    }
    let object = shown(&place.path);
    let fresh = prepare_file(place, &object)?;
    let connection =
        connect(&place.path, fresh).map_err(|error| SinkError::from_sqlite("open", &object, &error))?;
    let insert_many = insert_statement(ROWS);
    let insert_one = insert_statement(1);
    Ok(Box::new(Sqlite {
        connection,
        object,
        insert_many,
        insert_one,
        scan_id: 0,
        committed: 0,
        uncommitted: 0,
        open: false,
    }))
}

struct Sqlite {
    connection: Connection,
    object: String,
    insert_many: String,
    insert_one: String,
    scan_id: i64,
    committed: u64,
    /// Rows in the transaction that is open.
    uncommitted: u64,
    /// Whether one is.
    open: bool,
}

impl Sink for Sqlite {
    fn begin(&mut self, manifest: &Manifest) -> Result<(), SinkError> {
        self.begin_scan(manifest)
            .map_err(|error| SinkError::from_sqlite("start a scan in", &self.object, &error))
    }

    fn write(&mut self, records: &[Record]) -> Result<(), SinkError> {
        self.insert(records).map_err(|error| self.roll_back("write to", &error))
    }

    fn attach(&mut self, record: &Record, key: &str, bytes: &Untrusted) -> Result<(), SinkError> {
        self.insert_bytes(record, key, bytes).map_err(|error| self.roll_back("write to", &error))
    }

    fn commit(&mut self) -> Result<u64, SinkError> {
        self.commit_rows().map_err(|error| self.roll_back("commit to", &error))?;
        Ok(self.committed)
    }

    fn safe(&self) -> u64 {
        self.committed
    }

    fn finish(mut self: Box<Self>, manifest: &Manifest) -> Result<(), SinkError> {
        self.commit()?;
        self.finish_scan(manifest).map_err(|error| SinkError::from_sqlite("finish", &self.object, &error))
    }
}

impl Sqlite {
    fn begin_scan(&mut self, manifest: &Manifest) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        transaction.execute_batch(DROP_INDEXES)?;
        transaction.execute(
            "INSERT INTO scan (scan_uuid, tool, version, status, started_us, manifest)
             VALUES (:uuid, :tool, :version, '', 0, '')",
            named_params! {
                ":uuid": manifest.scan_uuid, ":tool": manifest.tool, ":version": manifest.version,
            },
        )?;
        self.scan_id = transaction.last_insert_rowid();
        store_manifest(&transaction, self.scan_id, manifest)?;
        transaction.commit()
    }

    fn insert(&mut self, records: &[Record]) -> rusqlite::Result<()> {
        for part in records.chunks(ROWS * 100) {
            self.begin_rows()?;
            self.uncommitted += part.len() as u64;
            let (many, rest) = part.as_chunks::<ROWS>();
            insert_rows(&self.connection, &self.insert_many, self.scan_id, many)?;
            insert_rows(&self.connection, &self.insert_one, self.scan_id, rest.as_chunks::<1>().0)?;
            if TRANSACTION_ROWS <= self.uncommitted {
                self.commit_rows()?;
            }
        }
        Ok(())
    }

    fn begin_rows(&mut self) -> rusqlite::Result<()> {
        if !self.open {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
            self.open = true;
        }
        Ok(())
    }

    fn insert_bytes(&mut self, record: &Record, key: &str, bytes: &Untrusted) -> rusqlite::Result<()> {
        self.begin_rows()?;
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO attachment (scan_id, ts_us, ip, port, proto, key, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        let (address, micros) = (record.address().to_string(), signed(record.time_ns / 1000));
        insert.execute((self.scan_id, micros, address, record.port, record.protocol.0, key, &bytes.0))?;
        Ok(())
    }

    fn commit_rows(&mut self) -> rusqlite::Result<()> {
        if self.open {
            self.connection.execute_batch("COMMIT")?;
            self.open = false;
            self.committed += self.uncommitted;
            self.uncommitted = 0;
        }
        Ok(())
    }

    /// Forgets the open transaction, so that [`Sink::safe`] stays exact, and names the error that was the reason.
    fn roll_back(&mut self, operation: &'static str, error: &rusqlite::Error) -> SinkError {
        // SQLite has rolled back by itself when the disk is full, for one.
        if !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        self.uncommitted = 0;
        self.open = false;
        SinkError::from_sqlite(operation, &self.object, error)
    }

    /// Closes the scan, builds the indexes and leaves one single file. The row of the scan comes first: the
    /// rows are complete by then, and an index is but an aid.
    fn finish_scan(&mut self, manifest: &Manifest) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        store_manifest(&transaction, self.scan_id, manifest)?;
        let rows_out = i64::try_from(self.committed).unwrap_or(i64::MAX);
        transaction.execute("UPDATE scan SET rows_out = ?1 WHERE scan_id = ?2", (rows_out, self.scan_id))?;
        transaction.execute_batch(CREATE_INDEXES)?;
        transaction.commit()?;
        self.connection.busy_timeout(BUSY_AT_END)?;
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?;
        // Fails while somebody reads: then the last reader to leave removes the write-ahead file.
        let _ = self.connection.query_row("PRAGMA journal_mode = DELETE", (), |_| Ok(()));
        Ok(())
    }
}

/// Makes sure that a file stands at the place which is ours to write to. Returns whether it is empty.
fn prepare_file(place: &Place, object: &str) -> Result<bool, SinkError> {
    let path = &place.path;
    match create_exclusive(path) {
        Ok(_) => return Ok(true),
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(SinkError::from_io("create", object, &error));
        }
        Err(_) => {}
    }
    let failed = |error: io::Error| SinkError::from_io("open", object, &error);
    let kind = fs::symlink_metadata(path).map_err(failed)?.file_type();
    if place.existing == Existing::Replace && (kind.is_file() || kind.is_symlink()) {
        remove_companions(path, object)?;
        return replace(path, object).map(|_| true);
    }
    if kind.is_symlink() {
        return Err(SinkError::refused(object, "it is a symbolic link, and those are not followed"));
    }
    if !kind.is_file() {
        return Err(SinkError::refused(object, "it is not a file"));
    }
    // The header is read before SQLite touches the file: opening a stranger's database could change it.
    match header(path).map_err(failed)? {
        Header::Empty => Ok(true),
        Header::Swath(version) if version <= SCHEMA_VERSION => Ok(false),
        Header::Swath(_) => Err(SinkError::refused(object, "a newer version of swath made it")),
        Header::Other => {
            Err(SinkError::refused(object, "it exists and is no swath database; --force replaces it"))
        }
    }
}

/// Removes what a crash may have left beside a database that is replaced: it would be taken for the new one's.
fn remove_companions(path: &Path, object: &str) -> Result<(), SinkError> {
    for suffix in ["-wal", "-shm", "-journal"] {
        let mut companion = path.as_os_str().to_owned();
        companion.push(suffix);
        match fs::remove_file(PathBuf::from(companion)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(SinkError::from_io("replace", object, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

enum Header {
    Empty,
    Swath(u32),
    Other,
}

/// Reads the header of a database file (<https://www.sqlite.org/fileformat.html#the_database_header>).
fn header(path: &Path) -> io::Result<Header> {
    let mut bytes = Vec::with_capacity(100);
    fs::File::open(path)?.take(100).read_to_end(&mut bytes)?;
    let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    Ok(match bytes.len() {
        0 => Header::Empty,
        100 if bytes.starts_with(b"SQLite format 3\0") && word(68) == APPLICATION_ID => {
            Header::Swath(word(60))
        }
        _ => Header::Other,
    })
}

fn connect(path: &Path, fresh: bool) -> rusqlite::Result<Connection> {
    // SQLite refuses a link anywhere in the path; only the last component is the user's to be careful with.
    let resolved = fs::canonicalize(directory(path)).unwrap_or_else(|_| directory(path).to_owned());
    let path = resolved.join(path.file_name().unwrap_or_default());
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_prepared_statement_cache_capacity(4);
    if fresh {
        create_schema(&connection)?;
    }
    add_names(&connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "cache_size", CACHE_KIB)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    Ok(connection)
}

/// Page cache, as SQLite wants it: negative means KiB. It is also the run length of the sort behind an index, and
/// runs that fit a processor cache halve that sort: 1.0 CPU seconds for a million rows against 1.8 with 64 MiB
/// (AMD EPYC, November 2026). Appending does not profit from more.
const CACHE_KIB: i32 = -2000;

/// Pages (4 KiB) the write-ahead file collects before they are copied into the database.
const CHECKPOINT_PAGES: u32 = 4096;

/// Creates everything in one transaction: another process finds an empty file or a whole database.
fn create_schema(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    connection.execute_batch(SCHEMA)?;
    connection.execute_batch("COMMIT")
}

/// Fills the tables of words; a newer version adds what it knows.
fn add_names(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    connection.execute_batch(ATTACHMENT)?;
    let mut insert = connection.prepare("INSERT OR IGNORE INTO proto_name VALUES (?1, ?2)")?;
    for protocol in Protocol::NAMED {
        insert.execute((protocol.0, protocol.to_string()))?;
    }
    let mut insert = connection.prepare("INSERT OR IGNORE INTO state_name VALUES (?1, ?2)")?;
    for state in State::ALL {
        insert.execute((state.number(), state.name()))?;
    }
    let mut insert = connection.prepare("INSERT OR IGNORE INTO reason_name VALUES (?1, ?2)")?;
    for (reason, name) in Reason::ALL {
        insert.execute((reason.0, name))?;
    }
    let mut insert = connection.prepare("INSERT OR IGNORE INTO proof_name VALUES (?1, ?2)")?;
    for proof in Proof::ALL {
        insert.execute((proof.number(), proof.name()))?;
    }
    connection.execute_batch("COMMIT")
}

/// Writes all that the manifest says into the row of the scan.
fn store_manifest(connection: &Connection, scan_id: i64, manifest: &Manifest) -> rusqlite::Result<()> {
    let json = serde_json::to_string(manifest).expect("a manifest has no map and no failing serializer");
    connection.execute(
        "UPDATE scan SET status = :status, started_us = :started, finished_us = :finished,
           plan_digest = :digest, order_version = :order, seed = :seed, shard = :shard, shards = :shards,
           passes = :passes, targets = :targets, shard_targets = :shard_targets,
           excluded_addresses = :excluded, ports = :ports, probes = :probes, rate_pps = :rate, wait_s = :wait,
           interface = :interface, link = :link, manifest = :manifest
         WHERE scan_id = :scan_id",
        named_params! {
            ":scan_id": scan_id,
            ":status": manifest.status.name(),
            ":started": signed(manifest.started_us),
            ":finished": manifest.finished_us.map(signed),
            ":digest": manifest.plan_digest,
            ":order": manifest.order,
            ":seed": manifest.seed.to_string(),
            ":shard": manifest.shard,
            ":shards": manifest.shards,
            ":passes": manifest.passes,
            ":targets": signed(manifest.targets),
            ":shard_targets": signed(manifest.shard_targets),
            ":excluded": manifest.excluded_addresses,
            ":ports": manifest.ports,
            ":probes": manifest.probes.join(","),
            ":rate": manifest.rate_pps,
            ":wait": manifest.wait_s,
            ":interface": manifest.interface,
            ":link": manifest.link,
            ":manifest": json,
        },
    )?;
    manifest.summary.as_ref().map_or(Ok(()), |summary| store_summary(connection, scan_id, summary))
}

fn store_summary(connection: &Connection, scan_id: i64, summary: &Summary) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE scan SET planned = :planned, sent = :sent, excluded_later = :excluded_later,
           pending = :pending, failed = :failed, unsent = :unsent, frames_seen = :frames_seen,
           not_ours = :not_ours, invalid = :invalid, duplicate = :duplicate, accepted = :accepted,
           kernel_drops = :kernel_drops, housekeeping = :housekeeping, reached_pps = :reached_pps
         WHERE scan_id = :scan_id",
        named_params! {
            ":scan_id": scan_id,
            ":planned": signed(summary.planned),
            ":sent": signed(summary.sent),
            ":excluded_later": signed(summary.excluded_later),
            ":pending": signed(summary.pending),
            ":failed": signed(summary.failed),
            ":unsent": signed(summary.unsent),
            ":frames_seen": signed(summary.frames_seen),
            ":not_ours": signed(summary.not_ours),
            ":invalid": signed(summary.invalid.iter().map(|(_, count)| count).sum()),
            ":duplicate": signed(summary.duplicate),
            ":accepted": signed(summary.accepted),
            ":kernel_drops": signed(summary.kernel_drops),
            ":housekeeping": signed(summary.housekeeping),
            ":reached_pps": signed(summary.reached_pps),
        },
    )?;
    Ok(())
}

/// SQLite's integers have a sign; counts stay below 2^63 by the size of the order's domain.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Columns of a row that are integers, in the order of [`insert_statement`].
const NUMBERS: usize = 15;

/// Parameters of a row: its integers, then `ip` and `responder`. The scan's id is parameter 1 of every row.
const PARAMETERS: usize = NUMBERS + 2;

/// An INSERT of so many rows.
fn insert_statement(rows: usize) -> String {
    let row = |row: usize| {
        let first = 2 + row * PARAMETERS;
        let parameters = (first..first + PARAMETERS).map(|parameter| format!(",?{parameter}"));
        format!("(?1{})", parameters.collect::<String>())
    };
    let values = (0..rows).map(row).collect::<Vec<_>>().join(",");
    let columns = "scan_id, ts_us, ip4, port, proto, state, reason, proof, pass, ttl, win, mss, wscale, opts_hash, \
                   ipid, rtt_us, ip, responder";
    format!("INSERT INTO observation ({columns}) VALUES {values}")
}

/// The integers of a record, `None` where the column is null.
fn numbers(record: &Record) -> [Option<i64>; NUMBERS] {
    let ip4 = match record.address() {
        std::net::IpAddr::V4(address) => Some(i64::from(address.to_bits())),
        std::net::IpAddr::V6(_) => None,
    };
    [
        Some(signed(record.time_ns / 1000)),
        ip4,
        Some(i64::from(record.port)),
        Some(i64::from(record.protocol.0)),
        Some(i64::from(record.state.number())),
        Some(i64::from(record.reason.0)),
        Some(i64::from(record.proof.number())),
        Some(i64::from(record.pass)),
        Some(i64::from(record.ttl)),
        Some(i64::from(record.window)),
        (record.mss != 0).then_some(i64::from(record.mss)),
        (record.window_scale != Record::NO_SCALE).then_some(i64::from(record.window_scale)),
        (record.options_hash != 0).then_some(i64::from(record.options_hash)),
        ip4.is_some().then_some(i64::from(record.ip_id)),
        (record.rtt_us != 0).then_some(i64::from(record.rtt_us)),
    ]
}

/// Inserts chunks of `N` records with a statement for `N` rows.
///
/// Parameters keep their value from one execution to the next, and most facts of a reply equal those of the reply
/// that stood in its place `N` before: only what changed is bound.
fn insert_rows<const N: usize>(
    connection: &Connection,
    sql: &str,
    scan_id: i64,
    chunks: &[[Record; N]],
) -> rusqlite::Result<()> {
    if chunks.is_empty() {
        return Ok(());
    }
    let mut statement = connection.prepare_cached(sql)?;
    statement.raw_bind_parameter(1, scan_id)?;
    let mut bound = [Bound { numbers: [None; NUMBERS], responder: false }; N];
    for chunk in chunks {
        for (row, record) in chunk.iter().enumerate() {
            bind_row(&mut statement, 2 + row * PARAMETERS, record, &mut bound[row])?;
        }
        statement.raw_execute()?;
    }
    Ok(())
}

/// What the parameters of a row hold. A parameter that was never bound is null.
#[derive(Clone, Copy)]
struct Bound {
    numbers: [Option<i64>; NUMBERS],
    responder: bool,
}

fn bind_row(
    statement: &mut CachedStatement<'_>,
    first: usize,
    record: &Record,
    bound: &mut Bound,
) -> rusqlite::Result<()> {
    let numbers = numbers(record);
    for (column, number) in numbers.into_iter().enumerate() {
        if bound.numbers[column] != number {
            statement.raw_bind_parameter(first + column, number)?;
        }
    }
    bound.numbers = numbers;
    let (address, responder) = (record.address(), record.responder());
    let mut bytes = [0; LINE_BYTES];
    let mut text = Line::new(&mut bytes);
    text.address(address);
    statement.raw_bind_parameter(first + NUMBERS, text.as_str())?;
    let foreign = responder != address;
    if foreign {
        let mut text = Line::new(&mut bytes);
        text.address(responder);
        statement.raw_bind_parameter(first + NUMBERS + 1, text.as_str())?;
    } else if bound.responder {
        statement.raw_bind_parameter(first + NUMBERS + 1, rusqlite::types::Null)?;
    }
    bound.responder = foreign;
    Ok(())
}

impl SinkError {
    fn from_sqlite(operation: &'static str, object: &str, error: &rusqlite::Error) -> SinkError {
        let kind = SinkErrorKind::Failed;
        SinkError { operation, object: object.to_owned(), cause: error.to_string(), kind }
    }
}
