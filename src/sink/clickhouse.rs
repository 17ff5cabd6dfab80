//! ClickHouse over HTTP: `-o clickhouse://HOST[:PORT][/DATABASE][?spool=DIR]`, rows as RowBinary.
//!
//! User and password come from `CLICKHOUSE_USER` and `CLICKHOUSE_PASSWORD`, never from the command line.
//! `clickhouses://` speaks TLS where this build has it; the default one does not.
//!
//! Exactly once, in two ways that hold each other up: an insert, which is one block and so all or nothing, begins where
//! the number of rows of this scan says (`count()`, asked whenever something went wrong), and it carries a
//! deduplication token, so that a repetition of one that the server was still working on is no second one.
//!
//! Invariant: values reach the server as RowBinary only; no SQL is ever made from data but the scan's identifier, which
//! is hexadecimal digits and dashes.

use std::path::PathBuf;
use std::time::Duration;

use super::receiver::{Manner, Receiver};
use super::rowbinary::{self, TABLE};
use super::spooled::{self, Parts};
use super::{Place, Sink, SinkError, SinkErrorKind, SinkKind};
use crate::event::{Manifest, Record};

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "clickhouse",
    about: "ClickHouse over HTTP: clickhouse://HOST:8123/DATABASE",
    open,
    ..SinkKind::BASE
};

fn open(place: &Place) -> Result<Box<dyn Sink>, SinkError> {
    let server = Server::new(place)?;
    let spool = server.spool.clone();
    let spool = move |scan: &str| {
        let name = PathBuf::from(format!("swath-{scan}.spool"));
        spool.as_ref().map_or(name.clone(), |directory| directory.join(name))
    };
    let destination = server.shown.clone();
    Ok(spooled::sink(Parts { receiver: Box::new(server), destination, spool: Box::new(spool) }))
}

/// The receiver of an address, for `swath replay`.
pub(crate) fn receiver(place: &Place) -> Result<Box<dyn Receiver>, SinkError> {
    Ok(Box::new(Server::new(place)?))
}

struct Server {
    agent: ureq::Agent,
    /// `http://HOST:PORT/`.
    base: String,
    database: String,
    spool: Option<PathBuf>,
    shown: String,
    scan: String,
    vantage: u16,
    buffer: Vec<u8>,
}

impl Server {
    fn new(place: &Place) -> Result<Server, SinkError> {
        let text = format!("clickhouse:{}", place.path.to_str().unwrap_or_default());
        let shown = super::without_password(&text);
        let refuse = |cause: &str| SinkError::refused(&shown, cause);
        if shown != text {
            return Err(refuse(
                "a password in the command line can be read by every user of this machine; put it in CLICKHOUSE_PASSWORD",
            ));
        }
        let rest = text
            .strip_prefix("clickhouse://")
            .ok_or_else(|| refuse("write clickhouse://HOST:PORT/DATABASE"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = if database.is_empty() { "swath" } else { database };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if host.is_empty() || !database.bytes().all(is_name) || host.contains('@') {
            return Err(refuse("write clickhouse://HOST:PORT/DATABASE, the user in CLICKHOUSE_USER"));
        }
        let port = host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let base = if port.is_some() { format!("http://{host}/") } else { format!("http://{host}:8123/") };
        let mut spool = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("spool", directory)) => spool = Some(PathBuf::from(directory)),
                _ => {
                    return Err(refuse(&format!(
                        "'{}' is no parameter of it; there is spool=DIR (TLS is not built in: a tunnel has it, stunnel for one)",
                        pair.escape_debug()
                    )));
                }
            }
        }
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(Duration::from_secs(120)))
            .http_status_as_error(false)
            .build();
        Ok(Server {
            agent: config.into(),
            base,
            database: database.to_owned(),
            spool,
            shown,
            scan: String::new(),
            vantage: 0,
            buffer: Vec::new(),
        })
    }

    /// Sends a query, with data behind it; returns the answer.
    fn ask(
        &self,
        operation: &'static str,
        query: &str,
        token: &str,
        body: &[u8],
    ) -> Result<String, SinkError> {
        let failed = |cause: String, kind| {
            let cause = cause.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
            SinkError { operation, object: self.shown.clone(), cause, kind }
        };
        let unreachable = |error: ureq::Error| failed(error.to_string(), SinkErrorKind::Failed);
        let mut request = self.agent.post(&self.base).query("query", query);
        if !token.is_empty() {
            request = request.query("insert_deduplicate", "1").query("insert_deduplication_token", token);
        }
        for (variable, header) in
            [("CLICKHOUSE_USER", "X-ClickHouse-User"), ("CLICKHOUSE_PASSWORD", "X-ClickHouse-Key")]
        {
            if let Ok(value) = std::env::var(variable) {
                request = request.header(header, value);
            }
        }
        let mut response = request.send(body).map_err(unreachable)?;
        let status = response.status().as_u16();
        let code = response.headers().get("X-ClickHouse-Exception-Code");
        let code = code.and_then(|code| code.to_str().ok()).and_then(|code| code.parse::<u32>().ok());
        let text = response.body_mut().read_to_string().map_err(unreachable)?;
        if status == 200 && code.is_none() {
            return Ok(text);
        }
        let lasting = matches!(status, 401 | 403) || code.is_some_and(|code| LASTING.contains(&code));
        let kind = if lasting { SinkErrorKind::Refused } else { SinkErrorKind::Failed };
        Err(failed(text.chars().take(300).collect(), kind))
    }

    /// Writes the manifest of the scan; the newest replaces the others.
    fn store(&self, manifest: &Manifest, rows: Option<u64>) -> Result<(), SinkError> {
        let json = serde_json::to_vec(manifest).expect("a manifest has no map and no failing serializer");
        let (status, rows) = (manifest.status.name(), rows.map_or("\\N".to_owned(), |rows| rows.to_string()));
        let mut line = format!("{}\t{status}\t{}\t{rows}\t", self.scan, u8::from(rows != "\\N")).into_bytes();
        for byte in json {
            match byte {
                b'\\' => line.extend_from_slice(b"\\\\"),
                b'\t' => line.extend_from_slice(b"\\t"),
                b'\n' => line.extend_from_slice(b"\\n"),
                byte => line.push(byte),
            }
        }
        line.push(b'\n');
        let insert = format!(
            "INSERT INTO {}.scan (scan, status, version, rows_out, manifest) FORMAT TabSeparated",
            self.database
        );
        self.ask("start a scan in", &insert, "", &line).map(|_| ())
    }
}

impl Receiver for Server {
    fn open(&mut self, manifest: &Manifest) -> Result<u64, SinkError> {
        let plain = |letter: &char| letter.is_ascii_hexdigit() || *letter == '-';
        self.scan = manifest.scan_uuid.chars().filter(plain).collect();
        self.vantage = u16::try_from(manifest.shard).unwrap_or(u16::MAX);
        let database = &self.database;
        let make = |sql: String| self.ask("make the tables in", &sql, "", &[]);
        make(format!("CREATE DATABASE IF NOT EXISTS {database}"))?;
        make(format!(
            "CREATE TABLE IF NOT EXISTS {database}.scan (scan UUID, status String, version UInt8, \
             rows_out Nullable(UInt64), manifest String) ENGINE = ReplacingMergeTree(version) ORDER BY scan"
        ))?;
        make(format!(
            "CREATE TABLE IF NOT EXISTS {database}.observation ({TABLE}) ENGINE = MergeTree \
             PARTITION BY scan ORDER BY (proto, port, ip, vantage) \
             SETTINGS non_replicated_deduplication_window = 1000"
        ))?;
        let count = format!("SELECT count() FROM {database}.observation WHERE scan = '{}'", self.scan);
        let count = self.ask("read", &count, "", &[])?;
        let count = count.trim().parse().map_err(|_| {
            SinkError::refused(&self.shown, format!("it answers a count with '{}'", count.escape_debug()))
        })?;
        if count == 0 {
            self.store(manifest, None)?;
        }
        Ok(count)
    }

    fn deliver(&mut self, first: u64, records: &[Record]) -> Result<(), SinkError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let scan = rowbinary::uuid(&self.scan);
        for record in records {
            rowbinary::row(&mut buffer, scan, self.vantage, record);
        }
        let insert = format!("INSERT INTO {}.observation FORMAT RowBinary", self.database);
        let token = format!("{}-{first}-{}", self.scan, records.len());
        let result = self.ask("write to", &insert, &token, &buffer);
        self.buffer = buffer;
        result.map(|_| ())
    }

    fn close(&mut self, manifest: &Manifest, records: u64) -> Result<(), SinkError> {
        self.store(manifest, Some(records))
    }

    fn manner(&self) -> Manner {
        Manner { chunk: CHUNK, linger: LINGER, patience: PATIENCE, local: false }
    }
}

/// Codes of errors that no waiting mends: unknown table or column, syntax, authentication, access, wrong type.
const LASTING: [u32; 9] = [16, 27, 33, 36, 60, 62, 192, 497, 516];

/// Rows of an insert: large, as the server wants them, and below the 1,048,449 that it takes as one block.
const CHUNK: usize = 1 << 18;

/// How long a result waits for company before it goes to the server.
const LINGER: Duration = Duration::from_secs(1);

/// How long the end of a scan waits for a server that takes nothing.
const PATIENCE: Duration = Duration::from_secs(10);
