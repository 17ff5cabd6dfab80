//! PostgreSQL: `-o postgres://[USER@]HOST[:PORT]/DATABASE[?schema=NAME][&spool=DIR]`, or `postgres:///DATABASE` over the
//! local socket. One partition a scan, filled by binary COPY, indexed at the end.
//!
//! Tables and views are made when missing (`schema.sql`, in the schema `swath` unless the address says another).
//! Passwords come from where libpq looks ([`address`]), never from the command line.
//!
//! Exactly once: the transaction that adds rows also adds their number to `scan.rows_in`, and begins where that number
//! says. A commit whose answer was lost is found again there.
//!
//! Invariant: values reach the server as COPY fields or parameters only; no SQL is ever made from data.

mod address;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use postgres::error::SqlState;
use postgres::types::ToSql;
use postgres::{Client, NoTls, Transaction};

use self::address::Address;
use super::pgcopy::{self, Row};
use super::receiver::{Attached, Manner, Receiver};
use super::spooled::{self, Parts};
use super::{Place, Sink, SinkError, SinkErrorKind, SinkKind};
use crate::event::{Manifest, Proof, Reason, Record, State};
use crate::target::Protocol;

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "postgres",
    about: "PostgreSQL: postgres://[USER@]HOST/DATABASE, or ///DATABASE",
    open,
    carries_bytes: true,
    ..SinkKind::BASE
};

/// Version of the tables. A database with a higher one is refused.
const SCHEMA_VERSION: i32 = 1;

const SCHEMA: &str = include_str!("schema.sql");

fn open(place: &Place) -> Result<Box<dyn Sink>, SinkError> {
    let server = Server::new(place)?;
    let spool = server.address.spool.clone();
    let spool = move |scan: &str| {
        let name = PathBuf::from(format!("swath-{scan}.spool"));
        spool.as_ref().map_or(name.clone(), |directory| directory.join(name))
    };
    let destination = server.address.shown.clone();
    Ok(spooled::sink(Parts { receiver: Box::new(server), destination, spool: Box::new(spool) }))
}

/// The receiver of an address, for `swath replay`.
pub(crate) fn receiver(place: &Place) -> Result<Box<dyn Receiver>, SinkError> {
    Ok(Box::new(Server::new(place)?))
}

struct Server {
    address: Address,
    client: Option<Client>,
    scan_id: i32,
    vantage: i16,
    buffer: Vec<u8>,
}

impl Server {
    fn new(place: &Place) -> Result<Server, SinkError> {
        let path = place.path.to_str().unwrap_or_default();
        let address = Address::parse(&format!("postgres:{path}"))?;
        Ok(Server { address, client: None, scan_id: 0, vantage: 0, buffer: Vec::new() })
    }

    /// The connection; without one, whoever asks is told to open first.
    fn client(&mut self) -> Result<&mut Client, SinkError> {
        let shown = &self.address.shown;
        self.client.as_mut().ok_or_else(|| failed(shown, "write to", "it is not connected"))
    }

    fn error(&self, operation: &'static str, error: &postgres::Error) -> SinkError {
        from_postgres(&self.address.shown, operation, error)
    }

    fn connect(&mut self) -> Result<(), SinkError> {
        self.client = None;
        let config = self.address.config()?;
        let client = config.connect(NoTls).map_err(|error| self.error("connect to", &error))?;
        self.client = Some(client);
        Ok(())
    }

    /// Makes what is missing. Scans that begin at the same time take turns.
    fn make_tables(&mut self) -> Result<(), SinkError> {
        let schema = self.address.schema.clone();
        let result = (|client: &mut Client| {
            let mut transaction = client.transaction()?;
            transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])?;
            let exists = transaction
                .query_one("SELECT to_regclass($1) IS NOT NULL", &[&format!("{schema}.schema_version")])?
                .get::<_, bool>(0);
            if !exists {
                transaction.batch_execute(&SCHEMA.replace("swath.", &format!("{schema}.")).replace(
                    "CREATE SCHEMA IF NOT EXISTS swath;",
                    &format!("CREATE SCHEMA IF NOT EXISTS {schema};"),
                ))?;
                add_names(&mut transaction, &schema)?;
            }
            let version: i32 = transaction
                .query_one(&format!("SELECT max(version) FROM {schema}.schema_version"), &[])?
                .get(0);
            transaction.commit()?;
            Ok(version)
        })(self.client()?);
        match result.map_err(|error| self.error("make the tables in", &error))? {
            SCHEMA_VERSION => Ok(()),
            other => Err(SinkError::refused(
                &self.address.shown,
                format!("its tables are of version {other}, this swath knows {SCHEMA_VERSION}"),
            )),
        }
    }

    /// The row of the scan and its partition; returns how many of its records are there.
    fn announce(&mut self, manifest: &Manifest) -> Result<u64, SinkError> {
        let schema = self.address.schema.clone();
        let json = serde_json::to_string(manifest).expect("a manifest has no map and no failing serializer");
        let result = (|client: &mut Client| {
            let mut transaction = client.transaction()?;
            transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])?;
            let insert = format!(
                "INSERT INTO {schema}.scan (scan_uuid, status, shard, manifest)
                 VALUES ($1::text::uuid, $2, $3, $4::text::jsonb) ON CONFLICT (scan_uuid) DO NOTHING RETURNING scan_id"
            );
            let shard = i32::try_from(manifest.shard).unwrap_or(i32::MAX);
            let values: [&(dyn ToSql + Sync); 4] =
                [&manifest.scan_uuid, &manifest.status.name(), &shard, &json];
            if let Some(row) = transaction.query_opt(&insert, &values)? {
                let scan_id: i32 = row.get(0);
                transaction.batch_execute(&format!(
                    "CREATE TABLE {schema}.observation_{scan_id} PARTITION OF {schema}.observation FOR VALUES IN ({scan_id})"
                ))?;
            }
            let select =
                format!("SELECT scan_id, rows_in FROM {schema}.scan WHERE scan_uuid = $1::text::uuid");
            let row = transaction.query_one(&select, &[&manifest.scan_uuid])?;
            transaction.commit()?;
            Ok((row.get::<_, i32>(0), row.get::<_, i64>(1)))
        })(self.client()?);
        let (scan_id, rows) = result.map_err(|error| self.error("start a scan in", &error))?;
        self.scan_id = scan_id;
        self.vantage = i16::try_from(manifest.shard).unwrap_or(i16::MAX);
        Ok(rows.cast_unsigned())
    }

    /// Copies rows and counts them, in one transaction that begins where the last one ended.
    fn copy(&mut self, first: u64, records: &[Record]) -> Result<(), SinkError> {
        let (schema, scan_id) = (self.address.schema.clone(), self.scan_id);
        let shown = self.address.shown.clone();
        self.buffer.clear();
        let (mut buffer, vantage) = (std::mem::take(&mut self.buffer), self.vantage);
        let columns = pgcopy::COLUMNS;
        let result = (|client: &mut Client| {
            let mut transaction = client.transaction()?;
            let select = format!("SELECT rows_in FROM {schema}.scan WHERE scan_id = $1 FOR UPDATE");
            let there: i64 = transaction.query_one(&select, &[&scan_id])?.get(0);
            if there.cast_unsigned() != first {
                return Ok(Err(failed(&shown, "write to", "another process writes the same scan")));
            }
            let copy = format!(
                "COPY {schema}.observation_{scan_id} (scan_id, vantage, {columns}) FROM STDIN (FORMAT binary)"
            );
            let mut writer = transaction.copy_in(&copy)?;
            buffer.extend_from_slice(pgcopy::HEADER);
            let mut result = Ok(());
            for record in records {
                Row::begin(&mut buffer, 2).int4(scan_id).int2(vantage).record(record);
                if COPY_BYTES <= buffer.len() && result.is_ok() {
                    result = writer.write_all(&buffer);
                    buffer.clear();
                }
            }
            buffer.extend_from_slice(pgcopy::TRAILER);
            result = result.and_then(|()| writer.write_all(&buffer));
            buffer.clear();
            if let Err(error) = result {
                return Ok(Err(failed(&shown, "write to", &told(&error))));
            }
            writer.finish()?;
            let update = format!("UPDATE {schema}.scan SET rows_in = rows_in + $2 WHERE scan_id = $1");
            let count = i64::try_from(records.len()).unwrap_or(i64::MAX);
            transaction.execute(&update, &[&scan_id, &count])?;
            transaction.commit()?;
            Ok(Ok(()))
        })(self.client()?);
        self.buffer = buffer;
        match result {
            Ok(written) => written,
            Err(error) => Err(self.error("write to", &error)),
        }
    }
}

impl Receiver for Server {
    fn open(&mut self, manifest: &Manifest) -> Result<u64, SinkError> {
        self.connect()?;
        self.make_tables()?;
        self.announce(manifest)
    }

    fn deliver(&mut self, first: u64, records: &[Record]) -> Result<(), SinkError> {
        self.copy(first, records)
    }

    fn attach(&mut self, attachments: &[Attached]) -> Result<(), SinkError> {
        let (schema, scan_id) = (self.address.schema.clone(), self.scan_id);
        let insert = format!(
            "INSERT INTO {schema}.attachment (scan_id, ip, port, proto, ts, key, bytes)
             SELECT $1, ip, port, proto, to_timestamp(0) + us * interval '1 microsecond', key, bytes
             FROM unnest($2::inet[], $3::int[], $4::smallint[], $5::bigint[], $6::text[], $7::bytea[])
                  AS a (ip, port, proto, us, key, bytes)
             ON CONFLICT DO NOTHING"
        );
        fn column<T>(attachments: &[Attached], value: impl Fn(&Attached) -> T) -> Vec<T> {
            attachments.iter().map(value).collect()
        }
        let addresses = column(attachments, |attached| attached.0.address());
        let ports = column(attachments, |attached| i32::from(attached.0.port));
        let protocols = column(attachments, |attached| i16::from(attached.0.protocol.0));
        let micros = column(attachments, |attached| (attached.0.time_ns / 1000).cast_signed());
        // The one character that text cannot hold.
        let keys = column(attachments, |attached| attached.1.replace('\0', "\u{fffd}"));
        let bytes = column(attachments, |attached| attached.2.0.clone());
        let values: [&(dyn ToSql + Sync); 7] =
            [&scan_id, &addresses, &ports, &protocols, &micros, &keys, &bytes];
        let result = self.client()?.execute(&insert, &values);
        result.map(|_| ()).map_err(|error| self.error("write to", &error))
    }

    fn close(&mut self, manifest: &Manifest, records: u64) -> Result<(), SinkError> {
        let (schema, scan_id) = (self.address.schema.clone(), self.scan_id);
        let json = serde_json::to_string(manifest).expect("a manifest has no map and no failing serializer");
        let update = format!(
            "UPDATE {schema}.scan SET status = $2, manifest = $3::text::jsonb, rows_out = rows_in
             WHERE scan_id = $1 AND rows_in = $4"
        );
        let records = i64::try_from(records).unwrap_or(i64::MAX);
        let values: [&(dyn ToSql + Sync); 4] = [&scan_id, &manifest.status.name(), &json, &records];
        let result = self.client()?.execute(&update, &values);
        match result.map_err(|error| self.error("finish", &error))? {
            1 => Ok(()),
            _ => {
                Err(failed(&self.address.shown, "finish", "it has another number of rows than were written"))
            }
        }
    }

    fn settle(&mut self) -> Result<(), SinkError> {
        let (schema, scan_id) = (&self.address.schema, self.scan_id);
        let table = format!("{schema}.observation_{scan_id}");
        let index = format!(
            "CREATE INDEX IF NOT EXISTS observation_{scan_id}_by_ip ON {table} (ip, port);
             CREATE INDEX IF NOT EXISTS observation_{scan_id}_by_port ON {table} (port, ip);
             ANALYZE {table}"
        );
        let result = self.client()?.batch_execute(&index);
        result.map_err(|error| self.error("index", &error))
    }

    fn manner(&self) -> Manner {
        Manner { chunk: CHUNK, linger: LINGER, patience: PATIENCE, local: false }
    }
}

/// Fills the tables of words; what a newer version of swath adds, it adds itself.
fn add_names(transaction: &mut Transaction<'_>, schema: &str) -> Result<(), postgres::Error> {
    let mut add = |table: &str, column: &str, number: u8, name: &str| {
        let insert =
            format!("INSERT INTO {schema}.{table} ({column}, name) VALUES ($1, $2) ON CONFLICT DO NOTHING");
        transaction.execute(&insert, &[&i16::from(number), &name]).map(|_| ())
    };
    for protocol in Protocol::NAMED {
        add("proto_name", "proto", protocol.0, &protocol.to_string())?;
    }
    for state in State::ALL {
        add("state_name", "state", state.number(), state.name())?;
    }
    for (reason, name) in Reason::ALL {
        add("reason_name", "reason", reason.0, name)?;
    }
    for proof in Proof::ALL {
        add("proof_name", "proof", proof.number(), proof.name())?;
    }
    Ok(())
}

/// An error of the server or of the way to it. What no waiting mends is a refusal: a wrong password, a database that is
/// not there, a permission, a table that somebody changed.
fn from_postgres(shown: &str, operation: &'static str, error: &postgres::Error) -> SinkError {
    let lasting = |code: &SqlState| {
        let code = code.code();
        ["28", "3D", "42", "0A", "22", "23"].iter().any(|class| code.starts_with(class))
    };
    let refused = match error.code() {
        Some(code) => lasting(code),
        // The client's own: an address it cannot use, a password that is needed and missing.
        None => {
            error.to_string().contains("invalid configuration")
                || error.to_string().contains("authentication")
        }
    };
    let kind = if refused { SinkErrorKind::Refused } else { SinkErrorKind::Failed };
    SinkError { operation, object: shown.to_owned(), cause: told(error), kind }
}

fn failed(shown: &str, operation: &'static str, cause: &str) -> SinkError {
    let kind = SinkErrorKind::Failed;
    SinkError { operation, object: shown.to_owned(), cause: cause.to_owned(), kind }
}

/// An error with what caused it, on one line and without control characters.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// Serialises the making of tables between scans: `swath` in ASCII.
const LOCK: i64 = 0x73_7761_7468;

/// Rows of a transaction.
const CHUNK: usize = 1 << 16;

/// Bytes handed to the connection at once.
const COPY_BYTES: usize = 1 << 18;

/// How long a result waits for company before it goes to the server.
const LINGER: Duration = Duration::from_millis(500);

/// How long the end of a scan waits for a server that takes nothing.
const PATIENCE: Duration = Duration::from_secs(10);
