//! swath's own databases, as `sink::sqlite` writes them: the observations of every scan, in the order they were
//! written.
//!
//! Read page by page by row number, so that no cursor stays open and the length of the database does not matter.
//!
//! Invariant: opened read-only; values are read by column, and numbers outside of their type are an error.

use rusqlite::types::FromSql;
use rusqlite::{Connection, OpenFlags, Row};

use super::text::{record, usual_reason};
use super::{BATCH, Facts, Input, Source, SourceError, SourceKind};
use crate::event::{Attachment, Observations, Proof, Reason, Record, State, Untrusted};
use crate::target::{Port, Protocol};

/// The row of the registry.
pub(crate) const KIND: SourceKind = SourceKind {
    name: "sqlite",
    about: "swath's SQLite database, all scans in it",
    sniff: |head| head.starts_with(b"SQLite format 3\0") && head.get(68..72) == Some(b"swth"),
    open,
};

/// What is read: first the verdicts, then the bytes about them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Observations,
    Attachments,
}

impl Part {
    fn table(self) -> &'static str {
        match self {
            Part::Observations => "observation",
            // Databases of versions that knew no attachments have no such table.
            Part::Attachments => "attachment",
        }
    }

    fn page(self) -> &'static str {
        match self {
            Part::Observations => PAGE,
            Part::Attachments => ATTACHMENTS,
        }
    }
}

const ATTACHMENTS: &str = "
    SELECT rowid, ts_us, ip, port, proto, key, bytes FROM attachment WHERE ?1 < rowid ORDER BY rowid LIMIT ?2";

const PAGE: &str = "
    SELECT rowid, ts_us, ip, port, proto, state, reason, proof, pass, ttl, win, mss, wscale, opts_hash, ipid, rtt_us,
           responder
    FROM observation WHERE ?1 < rowid ORDER BY rowid LIMIT ?2";

struct Sqlite {
    connection: Connection,
    input: Input,
    part: Part,
    /// The row last read.
    row: i64,
    facts: Facts,
}

fn open(input: Input) -> Result<Box<dyn Source>, SourceError> {
    let path = input
        .path()
        .ok_or_else(|| input.fault(None, "a database is read from a file only, not compressed"))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|connection| {
        let facts = facts(&connection)?;
        Ok((connection, facts))
    });
    let (connection, facts) = opened.map_err(|error| input.fault(None, error.to_string()))?;
    Ok(Box::new(Sqlite { connection, input, row: i64::MIN, part: Part::Observations, facts }))
}

fn facts(connection: &Connection) -> rusqlite::Result<Facts> {
    let seconds = |us: Option<i64>| us.and_then(|us| u64::try_from(us / 1_000_000).ok());
    let span = "SELECT min(started_us), max(finished_us) FROM scan";
    let (started, finished) = connection.query_row(span, (), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut statement = connection.prepare("SELECT manifest FROM scan ORDER BY scan_id")?;
    let manifests = statement.query_map((), |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(Facts { started_s: seconds(started), finished_s: seconds(finished), manifests })
}

impl Source for Sqlite {
    fn read(&mut self, batch: &mut Observations) -> Result<bool, SourceError> {
        batch.clear();
        while batch.is_empty() {
            let part = self.part;
            let failed = |input: &Input, row: i64, error: rusqlite::Error| {
                input.fault(Some(format!("behind row {row} of {}", part.table())), error.to_string())
            };
            match self.page(batch) {
                Err(error) => return Err(failed(&self.input, self.row, error)),
                Ok(()) if !batch.is_empty() => {}
                Ok(()) if part == Part::Attachments => return Ok(false),
                Ok(()) => {
                    let there = self.connection.table_exists(None, Part::Attachments.table());
                    if !there.map_err(|error| failed(&self.input, self.row, error))? {
                        return Ok(false);
                    }
                    (self.part, self.row) = (Part::Attachments, i64::MIN);
                }
            }
        }
        Ok(true)
    }

    fn facts(&self) -> Facts {
        self.facts.clone()
    }
}

impl Sqlite {
    /// The next rows of the table that is read; none at its end.
    fn page(&mut self, batch: &mut Observations) -> rusqlite::Result<()> {
        let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
        let mut statement = self.connection.prepare_cached(self.part.page())?;
        let mut rows = statement.query((self.row, limit))?;
        while let Some(row) = rows.next()? {
            self.row = row.get(0)?;
            match self.part {
                Part::Observations => batch.records.push(observation(row)?),
                Part::Attachments => batch.attach(attachment(row)?),
            }
        }
        Ok(())
    }
}

/// One row of [`ATTACHMENTS`]. The table holds of the verdict what names it.
fn attachment(row: &Row<'_>) -> rusqlite::Result<Attachment> {
    let wrong = |column: usize| rusqlite::Error::IntegralValueOutOfRange(column, i64::MIN);
    let address: String = row.get(2)?;
    let address = address.parse().map_err(|_| wrong(2))?;
    let port = Port { protocol: Protocol(row.get(4)?), number: row.get(3)? };
    let micros: u64 = u64::try_from(row.get::<_, i64>(1)?).map_err(|_| wrong(1))?;
    let reason = usual_reason(port.protocol, State::Open);
    let mut record = record(address, port, State::Open, reason);
    record.time_ns = micros.checked_mul(1000).ok_or_else(|| wrong(1))?;
    let key: String = row.get(5)?;
    Ok(Attachment { record, key: key.into(), bytes: Untrusted(row.get(6)?) })
}

/// One row of [`PAGE`].
fn observation(row: &Row<'_>) -> rusqlite::Result<Record> {
    let wrong = |column: usize| rusqlite::Error::IntegralValueOutOfRange(column, i64::MIN);
    let address: String = row.get(2)?;
    let address = address.parse().map_err(|_| wrong(2))?;
    let port = Port { protocol: Protocol(row.get(4)?), number: row.get(3)? };
    let state = State::from_number(row.get(5)?).ok_or_else(|| wrong(5))?;
    let mut record = record(address, port, state, Reason(row.get(6)?));
    if let Some(responder) = row.get::<_, Option<String>>(16)? {
        let responder = responder.parse().map_err(|_| wrong(16))?;
        record = Record::new(record.target(), responder, state, record.reason);
    }
    let micros: u64 = u64::try_from(row.get::<_, i64>(1)?).map_err(|_| wrong(1))?;
    record.time_ns = micros.checked_mul(1000).ok_or_else(|| wrong(1))?;
    record.proof = Proof::from_number(row.get(7)?).ok_or_else(|| wrong(7))?;
    record.pass = row.get(8)?;
    record.ttl = row.get(9)?;
    record.window = row.get(10)?;
    record.mss = or(row, 11, 0)?;
    record.window_scale = or(row, 12, Record::NO_SCALE)?;
    record.options_hash = or(row, 13, 0)?;
    record.ip_id = or(row, 14, 0)?;
    record.rtt_us = or(row, 15, 0)?;
    Ok(record)
}

/// A column that may be null.
fn or<T: FromSql>(row: &Row<'_>, column: usize, absent: T) -> rusqlite::Result<T> {
    Ok(row.get::<_, Option<T>>(column)?.unwrap_or(absent))
}
