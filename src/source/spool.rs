//! What a spool still holds, without delivering it: a directory whose name ends in `.spool`.
//!
//! Invariant: reads only; a spool that is being written is read as far as it goes.

use super::{Facts, Input, Source, SourceError, SourceKind};
use crate::event::{Attachment, Observations};
use crate::spool::{Item, SpoolReader};

/// The row of the registry. A directory has no first bytes: [`super::open`] knows one when it sees it.
pub(crate) const KIND: SourceKind =
    SourceKind { name: "spool", about: "what a spool still holds", sniff: |_| false, open };

struct Spool {
    name: String,
    reader: SpoolReader,
    facts: Facts,
    remarks: Vec<String>,
}

fn open(input: Input) -> Result<Box<dyn Source>, SourceError> {
    let path = input.path().ok_or_else(|| input.fault(None, "a spool is a directory"))?;
    let failed = |error: std::io::Error| input.fault(None, error.to_string());
    let manifest = SpoolReader::manifest(path).map_err(failed)?;
    let facts = Facts {
        started_s: Some(manifest.started_us / 1_000_000),
        finished_s: manifest.finished_us.map(|us| us / 1_000_000),
        manifests: serde_json::to_string(&manifest).into_iter().collect(),
    };
    let reader = SpoolReader::open(path).map_err(failed)?;
    Ok(Box::new(Spool { name: input.name().to_owned(), reader, facts, remarks: Vec::new() }))
}

impl Source for Spool {
    fn read(&mut self, batch: &mut Observations) -> Result<bool, SourceError> {
        batch.clear();
        let failed = |error: std::io::Error| SourceError {
            file: self.name.clone(),
            place: String::new(),
            cause: error.to_string(),
        };
        match self.reader.next(&mut batch.records).map_err(failed)? {
            Item::Records(_) => Ok(true),
            Item::Attachment(attachment) => {
                let (record, key, bytes) = *attachment;
                batch.attach(Attachment { record, key: key.into(), bytes });
                Ok(true)
            }
            Item::End => {
                let damage = self.reader.finish().map_err(failed)?;
                self.remarks =
                    damage.findings.iter().map(|finding| format!("{}: {finding}", self.name)).collect();
                Ok(false)
            }
        }
    }

    fn facts(&self) -> Facts {
        self.facts.clone()
    }

    fn remarks(&self) -> Vec<String> {
        self.remarks.clone()
    }
}
