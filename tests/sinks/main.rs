//! Every sink, read back by readers that are not ours, and after every way to lose: killed, disk full, reader gone.
//!
//! Tools that are missing (jq, python3, sqlite3) skip their check, unless `SWATH_REQUIRE_TOOLS` is set: then that is a
//! failure.

mod database;
mod every;
mod losing;
mod readers;
#[path = "../samples/mod.rs"]
mod samples;
mod standing;

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
