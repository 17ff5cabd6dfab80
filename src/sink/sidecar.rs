//! The manifest of a scan beside a file whose format has no room for it: `FILE.manifest.json`, written at the start with
//! the status `running`, replaced atomically at the end. A file that is appended to has an array of them.
//!
//! Invariant: knows no format; touches no byte of the file itself.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::file::shown;
use super::{Existing, Place, Sink, SinkError, SinkKind};
use crate::event::{Manifest, Record, Untrusted};
use crate::store;

/// What stands behind the name of the file.
pub const SUFFIX: &str = ".manifest.json";

/// Opens the file, and the place beside it if it is a regular one.
pub(crate) fn open(kind: &SinkKind, place: &Place) -> Result<Box<dyn Sink>, SinkError> {
    let path = store::beside(&place.path, SUFFIX);
    if place.existing == Existing::Refuse && fs::symlink_metadata(&path).is_ok() {
        let cause = "it exists; --append-output adds to it, --force replaces it";
        return Err(SinkError::refused(&shown(&path), cause));
    }
    let sink = (kind.open)(place)?;
    if !fs::symlink_metadata(&place.path).is_ok_and(|metadata| metadata.is_file()) {
        return Ok(sink); // a pipe or a device
    }
    let earlier = match place.existing {
        Existing::Append => earlier(&path),
        Existing::Refuse | Existing::Replace => Vec::new(),
    };
    Ok(Box::new(Sidecar { sink, path, earlier }))
}

/// The manifests of the scans that a file holds already.
fn earlier(path: &PathBuf) -> Vec<serde_json::Value> {
    match fs::read(path).ok().and_then(|json| serde_json::from_slice(&json).ok()) {
        Some(serde_json::Value::Array(all)) => all,
        Some(one) => vec![one],
        None => Vec::new(),
    }
}

struct Sidecar {
    sink: Box<dyn Sink>,
    path: PathBuf,
    earlier: Vec<serde_json::Value>,
}

impl Sidecar {
    fn store(&self, manifest: &Manifest) -> Result<(), SinkError> {
        let json = if self.earlier.is_empty() {
            serde_json::to_vec_pretty(manifest)
        } else {
            let mut all = self.earlier.clone();
            serde_json::to_value(manifest).and_then(|manifest| {
                all.push(manifest);
                serde_json::to_vec_pretty(&all)
            })
        };
        let stored =
            json.map_err(io::Error::from).and_then(|json| store::replace_atomically(&self.path, &json));
        stored.map_err(|error| SinkError::from_io("write to", &shown(&self.path), &error))
    }
}

impl Sink for Sidecar {
    fn begin(&mut self, manifest: &Manifest) -> Result<(), SinkError> {
        self.store(manifest)?;
        self.sink.begin(manifest)
    }

    fn write(&mut self, records: &[Record]) -> Result<(), SinkError> {
        self.sink.write(records)
    }

    fn attach(&mut self, record: &Record, key: &str, bytes: &Untrusted) -> Result<(), SinkError> {
        self.sink.attach(record, key, bytes)
    }

    fn commit(&mut self) -> Result<u64, SinkError> {
        self.sink.commit()
    }

    fn safe(&self) -> u64 {
        self.sink.safe()
    }

    fn remarks(&mut self) -> Vec<String> {
        self.sink.remarks()
    }

    fn finish(self: Box<Self>, manifest: &Manifest) -> Result<(), SinkError> {
        let stored = self.store(manifest);
        self.sink.finish(manifest)?;
        stored
    }
}
