//! Parquet and Arrow IPC files, swath's own and those of others that have `ip` and `port`.
//!
//! Invariant: knows no column; `columnar` does.

use super::{Facts, Input, Source, SourceError, SourceKind};
use crate::columnar::{Format, Reader, arrow, parquet};
use crate::event::Observations;

/// The row of the registry for Parquet.
pub(crate) const PARQUET: SourceKind = SourceKind {
    name: "parquet",
    about: "Parquet file with columns ip and port, and others of ours",
    sniff: |head| head.starts_with(b"PAR1"),
    open: |input| open(input, &parquet::FORMAT),
};

/// The row of the registry for Arrow IPC.
pub(crate) const ARROW: SourceKind = SourceKind {
    name: "arrow",
    about: "Arrow IPC file or stream with such columns",
    sniff: |head| head.starts_with(b"ARROW1") || head.starts_with(b"\xff\xff\xff\xff"),
    open: |input| {
        if input.head().starts_with(b"ARROW1") {
            return open(input, &arrow::FORMAT);
        }
        let name = input.name().to_owned();
        let failed = |error: std::io::Error| fault(&name, &error);
        let reader = arrow::stream(input).map_err(failed)?;
        Ok(Box::new(Columns { name: name.clone(), reader }))
    },
};

struct Columns {
    name: String,
    reader: Box<dyn Reader>,
}

fn open(input: Input, format: &Format) -> Result<Box<dyn Source>, SourceError> {
    let path =
        input.path().ok_or_else(|| input.fault(None, "columns are read from a file only, not compressed"))?;
    let reader = (format.open)(path).map_err(|error| input.fault(None, error.to_string()))?;
    Ok(Box::new(Columns { name: input.name().to_owned(), reader }))
}

fn fault(name: &str, error: &std::io::Error) -> SourceError {
    SourceError { file: name.to_owned(), place: String::new(), cause: error.to_string() }
}

impl Source for Columns {
    fn read(&mut self, batch: &mut Observations) -> Result<bool, SourceError> {
        batch.clear();
        while batch.is_empty() {
            if !self.reader.read(&mut batch.records).map_err(|error| fault(&self.name, &error))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn facts(&self) -> Facts {
        let manifests = self.reader.manifests();
        let started = manifests.iter().map(|manifest| manifest.started_us / 1_000_000).min();
        let finished = manifests.iter().filter_map(|manifest| manifest.finished_us).max();
        let json = |manifest| serde_json::to_string(manifest).ok();
        Facts {
            started_s: started,
            finished_s: finished.map(|us| us / 1_000_000),
            manifests: manifests.iter().filter_map(json).collect(),
        }
    }
}
