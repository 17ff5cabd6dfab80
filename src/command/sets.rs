//! Sorted sets of results: what `compact` merges and `diff` compares. A set is a directory of parts, or a file of any
//! kind that can be read; one that is not sorted is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

#[cfg(feature = "columnar")]
use crate::columnar;
use crate::event::{Manifest, Observations, Status};
use crate::sorted::{Sorted, Sorter};
use crate::source;
use crate::store;

/// Runs of records in order, and the scans they come from.
#[derive(Default)]
pub(super) struct Set {
    pub(super) runs: Vec<Sorted<'static>>,
    pub(super) manifests: Vec<Manifest>,
    /// Files of bytes that targets sent, beside those of columns.
    #[cfg(feature = "columnar")]
    pub(super) attached: Vec<PathBuf>,
    /// What the user should know: a file that is cut off.
    pub(super) remarks: Vec<String>,
}

impl Set {
    /// Opens what an argument names, and adds it.
    ///
    /// # Errors
    /// What cannot be read, in words.
    pub(super) fn add(&mut self, argument: &str) -> Result<(), String> {
        let path = Path::new(argument);
        if path.is_dir() && !crate::spool::is_spool(path) {
            return self
                .add_directory(path)
                .map_err(|error| format!("cannot read {}: {error}", path.display()));
        }
        self.add_beside(path);
        #[cfg(feature = "columnar")]
        if let Some(format) = format_of(path) {
            self.attached.extend(Some(columnar::attached::beside(path)).filter(|path| path.is_file()));
            return self
                .add_columns(path, format)
                .map_err(|error| format!("cannot read {}: {error}", path.display()));
        }
        self.add_source(argument)
    }

    /// All parts in a directory, and the manifests beside them.
    fn add_directory(&mut self, directory: &Path) -> io::Result<()> {
        let mut paths: Vec<PathBuf> = fs::read_dir(directory)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<_>>()?;
        paths.sort();
        let mut parts = 0;
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(".manifest.json") {
                self.add_manifest(&path);
            } else if name.ends_with(".spool") {
                self.remarks
                    .push(format!("{} holds results that are in no part yet: swath replay", path.display()));
            }
            #[cfg(feature = "columnar")]
            if let Some(format) = format_of(&path) {
                self.add_columns(&path, format)?;
                parts += 1;
            }
        }
        #[cfg(feature = "columnar")]
        for entry in fs::read_dir(directory.join("attachments")).into_iter().flatten() {
            let path = entry?.path();
            self.attached.extend(format_of(&path).map(|_| path));
        }
        if parts == 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no part is in it"));
        }
        Ok(())
    }

    #[cfg(feature = "columnar")]
    fn add_columns(&mut self, path: &Path, format: &columnar::Format) -> io::Result<()> {
        let mut reader = (format.open)(path)?;
        let manifests = reader.manifests().to_vec();
        manifests.into_iter().for_each(|manifest| self.note(manifest));
        if reader.is_sorted() {
            self.runs.push(Sorted::new(move |batch| {
                while batch.is_empty() && reader.read(batch)? {}
                Ok(())
            }));
            return Ok(());
        }
        let (mut sorter, mut batch) = (Sorter::default(), Vec::new());
        while reader.read(&mut batch)? {
            sorter.push(&batch)?;
            batch.clear();
        }
        self.runs.extend(sorter.into_runs()?);
        Ok(())
    }

    /// Any other file: read through and sorted.
    fn add_source(&mut self, argument: &str) -> Result<(), String> {
        let mut source = source::open(argument).map_err(|error| error.to_string())?;
        let (mut sorter, mut batch) = (Sorter::default(), Observations::default());
        let failed = |error: io::Error| format!("cannot sort {argument}: {error}");
        while source.read(&mut batch).map_err(|error| error.to_string())? {
            sorter.push(&batch.records).map_err(failed)?;
        }
        self.runs.extend(sorter.into_runs().map_err(failed)?);
        self.remarks.extend(source.remarks());
        let manifests = source.facts().manifests;
        manifests
            .iter()
            .filter_map(|json| serde_json::from_str(json).ok())
            .for_each(|manifest| self.note(manifest));
        Ok(())
    }

    /// The manifest beside a file, if there is one.
    fn add_beside(&mut self, path: &Path) {
        self.add_manifest(&store::beside(path, ".manifest.json"));
    }

    /// One manifest, or an array of them.
    fn add_manifest(&mut self, path: &Path) {
        let Ok(json) = fs::read(path) else { return };
        let manifests: Result<Vec<Manifest>, _> = serde_json::from_slice(&json);
        let manifests = manifests.or_else(|_| serde_json::from_slice(&json).map(|manifest| vec![manifest]));
        manifests.unwrap_or_default().into_iter().for_each(|manifest| self.note(manifest));
    }

    /// A scan is noted once; of a part's manifest and the closing one, the closing one.
    fn note(&mut self, manifest: Manifest) {
        match self.manifests.iter_mut().find(|known| known.scan_uuid == manifest.scan_uuid) {
            Some(known) if known.status == Status::Running => *known = manifest,
            Some(_) => {}
            None => self.manifests.push(manifest),
        }
    }
}

/// The format of a file of columns, by its suffix and its first bytes.
#[cfg(feature = "columnar")]
pub(super) fn format_of(path: &Path) -> Option<&'static columnar::Format> {
    let mut head = [0; 6];
    io::Read::read_exact(&mut fs::File::open(path).ok()?, &mut head).ok()?;
    match &head {
        b"ARROW1" => Some(&columnar::arrow::FORMAT),
        [b'P', b'A', b'R', b'1', ..] => Some(&columnar::parquet::FORMAT),
        _ => None,
    }
}
