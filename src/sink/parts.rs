//! Columns on disk: what `-o scan.parquet`, `-o parquet:DIR/` and their Arrow siblings are.
//!
//! A file of columns is readable only when it is whole, so records stand in a spool first and become *parts*: a million
//! of them, sorted by address and port, written under a temporary name, synced and renamed. A part that exists is
//! whole at any instant of `kill -9`; what is in no part yet is in the spool, from where `swath replay` makes the
//! missing parts and `swath convert` reads it.
//!
//! `DIR/` collects parts (`swath-SCAN-FIRST-COUNT.parquet`) of any number of scans, with the manifest of each beside
//! them (`swath-SCAN.manifest.json`). A file `scan.parquet` appears at the end: its parts, which stand in the spool until
//! then, merged into one sorted file.
//!
//! Bytes that targets sent become Parquet files of their own, as verdicts' rows have no place for them: one for each
//! delivery, named by its content, in `DIR/attachments/` (or with the parts of a file); at the end one for the scan,
//! `DIR/attachments/swath-SCAN.parquet` (or `scan.attachments.parquet`), which holds each once.
//!
//! Exactly once: the name of a part says which records of the scan are in it.
//!
//! Invariant: nothing that exists is changed; a file is replaced at once or not at all.

use std::fs::{self, DirBuilder};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::shown;
use super::receiver::{Attached, Manner, Receiver};
use super::spooled::{self, Parts};
use super::{Existing, Place, Sink, SinkError, SinkKind};
use crate::columnar::{self, Format, attached};
use crate::event::{Attachment, Manifest, Record};
use crate::sorted::{Sorted, merge};
use crate::store;

/// The row of the registry for Parquet.
pub(crate) const PARQUET: SinkKind = SinkKind {
    name: "parquet",
    suffixes: &["parquet", "pq"],
    about: "Parquet file, or DIR/ of sorted parts",
    open: |place| open(place, &columnar::parquet::FORMAT),
    carries_bytes: true,
    ..SinkKind::BASE
};

/// The row of the registry for Arrow IPC.
pub(crate) const ARROW: SinkKind = SinkKind {
    name: "arrow",
    suffixes: &["arrow", "feather"],
    about: "Arrow IPC file, DIR/ of sorted parts, stream on stdout",
    open: |place| match super::arrow_stream::wanted(place)? {
        Some(file) => super::arrow_stream::open(file, place),
        None => open(place, &columnar::arrow::FORMAT),
    },
    carries_bytes: true,
    ..SinkKind::BASE
};

/// Records of a part: 64 MB while it is made.
const PART_RECORDS: usize = 1 << 20;

fn open(place: &Place, format: &'static Format) -> Result<Box<dyn Sink>, SinkError> {
    let receiver = Directory::new(place, format)?;
    receiver.check(place.existing)?;
    let (at, is_file) = (place.path.clone(), receiver.is_file());
    let spool = move |scan: &str| match is_file {
        true => store::beside(&at, &format!(".{scan}.spool")),
        false => at.join(format!("swath-{scan}.spool")),
    };
    let destination = format!("{}:{}", format.suffix, place.path.display());
    Ok(spooled::sink(Parts { receiver: Box::new(receiver), destination, spool: Box::new(spool) }))
}

/// The receiver of a Parquet place, for `swath replay`.
pub(crate) fn parquet(place: &Place) -> Result<Box<dyn Receiver>, SinkError> {
    Ok(Box::new(Directory::new(place, &columnar::parquet::FORMAT)?))
}

/// The receiver of an Arrow place, for `swath replay`.
pub(crate) fn arrow(place: &Place) -> Result<Box<dyn Receiver>, SinkError> {
    Ok(Box::new(Directory::new(place, &columnar::arrow::FORMAT)?))
}

/// A directory of parts, or the file they become.
struct Directory {
    place: PathBuf,
    format: &'static Format,
    /// Where parts are made.
    parts: PathBuf,
    /// The file they become; `None` where they stay.
    file: Option<PathBuf>,
    /// Whether that file replaces what stands there (`--force`).
    replace: bool,
    object: String,
    scan: String,
    manifest: Manifest,
}

impl Directory {
    fn new(place: &Place, format: &'static Format) -> Result<Directory, SinkError> {
        if place.stdout {
            let cause = "a file of columns is not written in one go; name a file or a directory";
            return Err(SinkError::refused("standard output", cause));
        }
        let path = &place.path;
        let is_directory = path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/");
        Ok(Directory {
            place: path.clone(),
            format,
            parts: path.clone(),
            file: (!is_directory).then(|| path.clone()),
            replace: place.existing == Existing::Replace,
            object: shown(path),
            scan: String::new(),
            manifest: Manifest::default(),
        })
    }

    fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// Refuses what stands there already, and a place that cannot be written to.
    fn check(&self, existing: Existing) -> Result<(), SinkError> {
        let Some(path) = &self.file else { return self.make_directory(&self.place) };
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let directory = store::directory(path);
                let missing = fs::metadata(directory).map_err(|error| self.failed("create", &error));
                missing.map(|_| ())
            }
            Err(error) => Err(self.failed("create", &error)),
            Ok(metadata) => match existing {
                Existing::Replace if metadata.is_file() || metadata.is_symlink() => Ok(()),
                _ if metadata.is_symlink() => {
                    Err(SinkError::refused(&self.object, "it is a symbolic link, and those are not followed"))
                }
                Existing::Append if metadata.is_file() => {
                    (self.format.open)(path).map(|_| ()).map_err(|error| {
                        SinkError::refused(&self.object, format!("it cannot be added to: {error}"))
                    })
                }
                _ if metadata.is_file() => {
                    let cause = "it exists; --append-output adds to it, --force replaces it";
                    Err(SinkError::refused(&self.object, cause))
                }
                _ => Err(SinkError::refused(&self.object, "it is not a file")),
            },
        }
    }

    fn make_directory(&self, path: &Path) -> Result<(), SinkError> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(self.failed("create", &error)),
            _ => Ok(()),
        }
    }

    /// The parts of the scan that stand there: the index of the first record, the number of records, the path.
    fn found(&self) -> io::Result<Vec<(u64, u64, PathBuf)>> {
        let prefix = format!("swath-{}-", self.scan);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.parts)? {
            let entry = entry?;
            let name = entry.file_name();
            let numbers =
                name.to_str().and_then(|name| name.strip_prefix(&prefix)?.strip_suffix(self.format.suffix));
            let numbers = numbers.and_then(|numbers| numbers.strip_suffix('.')?.split_once('-'));
            if let Some((first, count)) = numbers
                && let (Ok(first), Ok(count)) = (first.parse(), count.parse())
            {
                found.push((first, count, entry.path()));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn part_path(&self, first: u64, count: usize) -> PathBuf {
        self.parts.join(format!("swath-{}-{first:012}-{count:07}.{}", self.scan, self.format.suffix))
    }

    /// Writes a file under a temporary name and moves it to its own.
    fn publish(
        &self,
        path: &Path,
        manifests: &[Manifest],
        batches: &mut columnar::Batches<'_>,
    ) -> io::Result<u64> {
        let temporary = store::beside(path, ".new");
        let file = store::create_temporary(&temporary)?;
        let count = (self.format.write)(&file, manifests, batches).inspect_err(|_| {
            // Half a file is of no use; the records stand in the spool.
            let _ = fs::remove_file(&temporary);
        })?;
        store::publish(&file, &temporary, path)?;
        Ok(count)
    }

    /// Merges the parts, and what stands there already, into the one file.
    fn merge_into(&self, path: &Path) -> io::Result<()> {
        let mut manifests = Vec::new();
        let mut runs = Vec::new();
        if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
            && let Ok(reader) = (self.format.open)(path)
        {
            let ended = |manifest: &Manifest| manifest.scan_uuid == self.scan;
            if reader.manifests().iter().any(ended) {
                return Ok(()); // merged before a crash that kept the parts
            }
            if !self.parts.join(REPLACES).exists() {
                manifests.extend(reader.manifests().iter().cloned());
                runs.push(run(reader));
            }
        }
        manifests.push(self.manifest.clone());
        for (_, _, part) in self.found()? {
            runs.push(run((self.format.open)(&part)?));
        }
        let mut merged = merge(runs)?;
        self.publish(path, &manifests, &mut |batch| {
            while batch.len() < MERGE_RECORDS
                && let Some(record) = merged.take()?
            {
                batch.push(record);
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Where files of attachments are made.
    fn attachments(&self) -> PathBuf {
        if self.is_file() { self.parts.clone() } else { self.place.join("attachments") }
    }

    /// What the names of this scan's files of attachments begin with.
    fn attachments_prefix(&self) -> String {
        format!("swath-{}-bytes-", self.scan)
    }

    /// A file of attachments. One that is delivered again has the same name.
    fn write_attached(&self, attachments: &[Attached]) -> io::Result<()> {
        let directory = self.attachments();
        DirBuilder::new().mode(0o700).recursive(true).create(&directory)?;
        let mut hasher = DefaultHasher::new();
        for (record, key, bytes) in attachments {
            (record.to_bytes(), key, &bytes.0).hash(&mut hasher);
        }
        let name = format!("{}{:016x}.parquet", self.attachments_prefix(), hasher.finish());
        let (path, temporary) = (directory.join(&name), directory.join(name + ".new"));
        let file = store::create_temporary(&temporary)?;
        let mut rest = attachments.iter().map(|(record, key, bytes)| Attachment {
            record: *record,
            key: key.as_str().into(),
            bytes: bytes.clone(),
        });
        attached::write(&file, std::slice::from_ref(&self.manifest), &mut || Ok(rest.next()))?;
        store::publish(&file, &temporary, &path)
    }

    /// All attachments of the scan in one file, and the others gone.
    fn merge_attached(&self) -> io::Result<()> {
        let directory = self.attachments();
        let prefix = self.attachments_prefix();
        let mut made = Vec::new();
        for entry in fs::read_dir(&directory).into_iter().flatten() {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(&prefix) && name.ends_with(".parquet") {
                made.push(entry.path());
            }
        }
        made.sort();
        let path = match &self.file {
            Some(path) => attached::beside(path),
            None => directory.join(format!("swath-{}.parquet", self.scan)),
        };
        let replaces = self.parts.join(REPLACES).exists();
        let mut files = made.clone();
        if path.is_file() && !replaces {
            files.push(path.clone());
        }
        if !made.is_empty() {
            attached::merge(&files, std::slice::from_ref(&self.manifest), &path)?;
        } else if replaces && path.is_file() {
            // It belongs to the file that is replaced.
            fs::remove_file(&path)?;
        }
        made.iter().try_for_each(fs::remove_file)
    }

    fn failed(&self, operation: &'static str, error: &io::Error) -> SinkError {
        SinkError::from_io(operation, &self.object, error)
    }
}

fn run<'a>(mut reader: Box<dyn columnar::Reader>) -> Sorted<'a> {
    Sorted::new(move |batch| {
        while batch.is_empty() && reader.read(batch)? {}
        Ok(())
    })
}

impl Receiver for Directory {
    fn open(&mut self, manifest: &Manifest) -> Result<u64, SinkError> {
        self.scan.clone_from(&manifest.scan_uuid);
        self.manifest = manifest.clone();
        match self.file.clone() {
            None => {
                self.make_directory(&self.place)?;
                let path = self.place.join(format!("swath-{}.manifest.json", self.scan));
                write_manifest(&path, manifest).map_err(|error| self.failed("write to", &error))?;
            }
            Some(path) => {
                self.parts = store::beside(&path, &format!(".{}.parts", self.scan));
                self.make_directory(&self.parts)?;
                if self.replace {
                    let mark = store::create_temporary(&self.parts.join(REPLACES));
                    mark.map_err(|error| self.failed("write to", &error))?;
                }
            }
        }
        let found = self.found().map_err(|error| self.failed("read", &error))?;
        let mut next = 0;
        for (first, count, _) in found {
            if next < first {
                break;
            }
            next = next.max(first + count);
        }
        Ok(next)
    }

    fn deliver(&mut self, first: u64, records: &[Record]) -> Result<(), SinkError> {
        let mut sorted = records.to_vec();
        sorted.sort_unstable_by_key(Record::sort_key);
        let path = self.part_path(first, records.len());
        let mut rest = Some(sorted);
        let mut batches = |batch: &mut Vec<Record>| {
            *batch = rest.take().unwrap_or_default();
            Ok(())
        };
        let manifests = std::slice::from_ref(&self.manifest);
        self.publish(&path, manifests, &mut batches).map_err(|error| self.failed("write to", &error))?;
        Ok(())
    }

    fn attach(&mut self, attachments: &[Attached]) -> Result<(), SinkError> {
        self.write_attached(attachments).map_err(|error| self.failed("write to", &error))
    }

    fn close(&mut self, manifest: &Manifest, _records: u64) -> Result<(), SinkError> {
        self.manifest = manifest.clone();
        self.merge_attached().map_err(|error| self.failed("finish", &error))?;
        let result = match &self.file {
            None => {
                let path = self.place.join(format!("swath-{}.manifest.json", self.scan));
                write_manifest(&path, manifest)
            }
            Some(path) => self.merge_into(path).and_then(|()| fs::remove_dir_all(&self.parts)),
        };
        result.map_err(|error| self.failed("finish", &error))
    }

    fn manner(&self) -> Manner {
        Manner { chunk: PART_RECORDS, linger: LINGER, patience: PATIENCE, local: true }
    }
}

fn write_manifest(path: &Path, manifest: &Manifest) -> io::Result<()> {
    store::replace_atomically(path, &serde_json::to_vec_pretty(manifest)?)
}

/// Name of the mark beside the parts of a file that replaces what stands there (`--force`).
const REPLACES: &str = "replaces";

/// Records handed from the merge to the file at once.
const MERGE_RECORDS: usize = 1 << 16;

/// A part is made at the latest so long after its first record, full or not.
const LINGER: Duration = Duration::from_secs(600);

/// How long the end of a scan tries on a disk that takes no part.
const PATIENCE: Duration = Duration::from_secs(1);
