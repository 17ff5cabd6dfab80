//! Bytes that targets sent, as a Parquet file of their own beside those of the verdicts: the columns of the verdict they
//! belong to, then `key` (what they are: `ssh`, `title`, `banner`) and `bytes`, as they came.
//!
//! Invariant: memory is bounded by what [`Sorter`] holds, whatever a file holds; bytes stay bytes.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};

use super::{Columns, foreign, parquet};
use crate::event::{Attachment, Manifest, Record, Untrusted};
use crate::runs::{Sorter, by_target};
use crate::store;

/// Writes a whole file of attachments, which come in order, and returns their number.
///
/// # Errors
/// When `next` or the disk fails.
pub fn write(
    file: &File,
    manifests: &[Manifest],
    next: &mut dyn FnMut() -> io::Result<Option<Attachment>>,
) -> io::Result<u64> {
    let schema = Arc::new(schema(manifests));
    let mut writer = parquet::writer(file, &schema)?;
    let (mut waiting, mut bytes, mut count) = (Vec::new(), 0, 0);
    loop {
        let attachment = next()?;
        let ended = attachment.is_none();
        bytes += attachment.as_ref().map_or(0, |attachment| attachment.bytes.0.len());
        waiting.extend(attachment);
        if BATCH_ROWS <= waiting.len() || BATCH_BYTES <= bytes || ended {
            count += waiting.len() as u64;
            writer.write(&batch(&schema, &waiting)).map_err(foreign)?;
            // Bytes do not compress as columns of numbers do: what the writer holds is bounded by size, not by rows.
            if GROUP_BYTES <= writer.in_progress_size() {
                writer.flush().map_err(foreign)?;
            }
            waiting.clear();
            bytes = 0;
        }
        if ended {
            break;
        }
    }
    writer.close().map_err(foreign)?;
    Ok(count)
}

/// Merges files of attachments into one, which appears when it is whole; each attachment once, by target and time. Nothing
/// is made where they hold nothing. Returns how many it holds.
///
/// # Errors
/// When one cannot be read, or the new one cannot be written; then what stood there stays.
pub fn merge(files: &[PathBuf], manifests: &[Manifest], output: &Path) -> io::Result<u64> {
    let mut sorter = Sorter::new(store::directory(output), by_target);
    let (mut batch, mut empty) = (Vec::new(), true);
    for file in files {
        let mut reader = Attached::open(file)?;
        while reader.read(&mut batch)? {
            empty &= batch.is_empty();
            batch.drain(..).try_for_each(|attachment: Attachment| sorter.push(attachment))?;
        }
    }
    if empty {
        return Ok(0);
    }
    let mut merged = sorter.finish()?;
    let (mut last, mut seen) = (None, HashSet::new());
    let mut next = || {
        while let Some(item) = merged.next()? {
            let Some(bytes) = item.bytes else { continue };
            let key = Some(item.record.sort_key());
            if last != key {
                last = key;
                seen.clear();
            }
            let mut hasher = DefaultHasher::new();
            (&bytes.0, &bytes.1.0).hash(&mut hasher);
            if seen.insert(hasher.finish()) {
                return Ok(Some(Attachment { record: item.record, key: bytes.0, bytes: bytes.1 }));
            }
        }
        Ok(None)
    };
    let temporary = store::beside(output, ".new");
    let file = store::create_temporary(&temporary)?;
    let written = write(&file, manifests, &mut next);
    let written = written.and_then(|count| store::publish(&file, &temporary, output).map(|()| count));
    written.inspect_err(|_| {
        // Half a file is of no use.
        let _ = std::fs::remove_file(&temporary);
    })
}

/// The file of attachments beside a file of verdicts: `scan.attachments.parquet`.
pub fn beside(path: &Path) -> PathBuf {
    path.with_extension("attachments.parquet")
}

/// A file of attachments that is read.
pub struct Attached {
    reader: parquet::Batches,
}

impl Attached {
    /// Opens a file.
    ///
    /// # Errors
    /// When it is no Parquet file.
    pub fn open(path: &Path) -> io::Result<Attached> {
        Ok(Attached { reader: parquet::batches(path, BATCH_ROWS)? })
    }

    /// Whether a file holds attachments and not verdicts.
    ///
    /// # Errors
    /// As [`Attached::open`].
    pub fn is(path: &Path) -> io::Result<bool> {
        let names = parquet::columns(path)?;
        Ok(["key", "bytes"].iter().all(|name| names.iter().any(|known| known == name)))
    }

    /// Appends the next ones; false at the end.
    ///
    /// # Errors
    /// At the first value that cannot be.
    pub fn read(&mut self, attachments: &mut Vec<Attachment>) -> io::Result<bool> {
        let Some(batch) = self.reader.next() else { return Ok(false) };
        let batch = batch.map_err(foreign)?;
        let mut records: Vec<Record> = Vec::new();
        Columns::of(&batch)?.append_to(&mut records)?;
        let column = |name: &str, is: DataType| {
            let column = batch.column_by_name(name).filter(|column| *column.data_type() == is);
            let cause = format!("column {name} is missing or not {is}");
            column.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, cause))
        };
        let keys = column("key", DataType::Utf8)?.as_string::<i32>();
        let bytes = column("bytes", DataType::Binary)?.as_binary::<i32>();
        for (row, record) in records.into_iter().enumerate() {
            let value = |array: &dyn Array| array.is_valid(row);
            let key = if value(keys) { keys.value(row) } else { "banner" };
            let bytes = if value(bytes) { bytes.value(row).to_vec() } else { Vec::new() };
            attachments.push(Attachment { record, key: key.into(), bytes: Untrusted(bytes) });
        }
        Ok(true)
    }
}

/// The columns of a verdict, and two more.
fn schema(manifests: &[Manifest]) -> Schema {
    let verdicts = super::schema(manifests);
    let mut fields: Vec<_> = verdicts.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("key", DataType::Utf8, false)));
    fields.push(Arc::new(Field::new("bytes", DataType::Binary, false)));
    Schema::new(fields).with_metadata(verdicts.metadata)
}

fn batch(schema: &Arc<Schema>, attachments: &[Attachment]) -> RecordBatch {
    let records: Vec<Record> = attachments.iter().map(|attachment| attachment.record).collect();
    let mut columns = super::columns(&records);
    let keys = attachments.iter().map(|attachment| &*attachment.key);
    let bytes = attachments.iter().map(|attachment| &attachment.bytes.0[..]);
    let last: [ArrayRef; 2] =
        [Arc::new(StringArray::from_iter_values(keys)), Arc::new(BinaryArray::from_iter_values(bytes))];
    columns.extend(last);
    RecordBatch::try_new(Arc::clone(schema), columns).expect("the columns are those of the schema")
}

/// Attachments read or written at once.
const BATCH_ROWS: usize = 1 << 10;

/// Bytes after which a batch is written, full or not.
const BATCH_BYTES: usize = 1 << 22;

/// Bytes after which a row group ends.
const GROUP_BYTES: usize = 1 << 25;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Reason, State};
    use crate::target::{Port, Protocol, Target};

    fn attachment(number: u8, key: &str, bytes: &[u8]) -> Attachment {
        let address = std::net::Ipv4Addr::new(198, 18, 0, number).into();
        let target = Target { address, port: Port { protocol: Protocol::TCP, number: 80 } };
        let mut record = Record::new(target, address, State::Open, Reason::SYN_ACK);
        (record.time_ns, record.ttl) = (1_795_219_200_000_001_000, 57);
        Attachment { record, key: key.into(), bytes: Untrusted(bytes.to_vec()) }
    }

    fn put(path: &Path, attachments: &[Attachment]) {
        let mut rest = attachments.iter().cloned();
        let file = File::create(path).expect("creates");
        let count = write(&file, &[], &mut || Ok(rest.next())).expect("writes");
        assert_eq!(count, attachments.len() as u64);
    }

    fn found(path: &Path) -> Vec<Attachment> {
        let (mut reader, mut found) = (Attached::open(path).expect("opens"), Vec::new());
        while reader.read(&mut found).expect("reads") {}
        found
    }

    #[test]
    fn files_of_attachments_become_one_that_holds_each_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let [one, two, merged] = ["one", "two", "all"].map(|name| directory.path().join(name));
        let all: Vec<u8> = (0..=255).collect();
        let large = vec![0xff; 3 * BATCH_BYTES];
        put(&one, &[attachment(2, "http", &all), attachment(1, "title", b"a"), attachment(2, "ssh", &all)]);
        put(&two, &[attachment(1, "title", b"a"), attachment(1, "title", b""), attachment(3, "x", &large)]);
        assert_eq!(merge(&[one.clone(), two], &[], &merged).expect("merges"), 5);
        let expected = [
            attachment(1, "title", b"a"),
            attachment(1, "title", b""),
            attachment(2, "http", &all),
            attachment(2, "ssh", &all),
            attachment(3, "x", &large),
        ];
        assert_eq!(found(&merged), expected);
        assert!(Attached::is(&merged).expect("reads"));
        // Nothing makes no file, and what cannot be read leaves what stood there.
        put(&one, &[]);
        let none = directory.path().join("none");
        assert_eq!(merge(&[one], &[], &none).expect("merges"), 0);
        assert!(!none.exists());
        assert!(merge(&[none], &[], &merged).is_err());
        assert_eq!(found(&merged).len(), 5);
    }
}
