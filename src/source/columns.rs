//! Parquet and Arrow IPC files, swath's own and those of others that have `ip` and `port`. Bytes that targets sent stand
//! in a file beside (`scan.attachments.parquet`) and are read behind the verdicts; named alone, such a file is read, too.
//!
//! Invariant: knows no column; `columnar` does.

use super::{Facts, Input, Source, SourceError, SourceKind};
use crate::columnar::attached::{self, Attached};
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
        Ok(Box::new(Columns { name: name.clone(), reader, only_bytes: false, attached: None }))
    },
};

struct Columns {
    name: String,
    reader: Box<dyn Reader>,
    /// Whether the file itself is one of attachments: then its rows are no verdicts.
    only_bytes: bool,
    attached: Option<Attached>,
}

fn open(input: Input, format: &Format) -> Result<Box<dyn Source>, SourceError> {
    let path =
        input.path().ok_or_else(|| input.fault(None, "columns are read from a file only, not compressed"))?;
    let failed = |error: std::io::Error| input.fault(None, error.to_string());
    let reader = (format.open)(path).map_err(failed)?;
    let only_bytes = format.suffix == parquet::FORMAT.suffix && Attached::is(path).map_err(failed)?;
    let beside = if only_bytes { path.to_owned() } else { attached::beside(path) };
    let attached = match beside.is_file() {
        true => Some(Attached::open(&beside).map_err(|error| {
            let beside = beside.display().to_string().escape_debug().to_string();
            input.fault(None, format!("the bytes beside it, {beside}: {error}"))
        })?),
        false => None,
    };
    Ok(Box::new(Columns { name: input.name().to_owned(), reader, only_bytes, attached }))
}

fn fault(name: &str, error: &std::io::Error) -> SourceError {
    SourceError { file: name.to_owned(), place: String::new(), cause: error.to_string() }
}

impl Source for Columns {
    fn read(&mut self, batch: &mut Observations) -> Result<bool, SourceError> {
        batch.clear();
        while batch.is_empty() {
            let failed = |error: std::io::Error| fault(&self.name, &error);
            if !self.only_bytes && self.reader.read(&mut batch.records).map_err(failed)? {
                continue;
            }
            self.only_bytes = true;
            let Some(attached) = &mut self.attached else { return Ok(false) };
            let mut found = Vec::new();
            if !attached.read(&mut found).map_err(failed)? {
                return Ok(false);
            }
            found.into_iter().for_each(|attachment| batch.attach(attachment));
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
