//! Arrow IPC files (`.arrow`, also called Feather version 2), zstd, and the stream that goes down a pipe.
//!
//! Invariant: a file gets its name only when its footer is written.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::CompressionType;
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use arrow_schema::Schema;

use super::{Batches, Columns, Format, MANIFESTS, Reader, foreign};
use crate::event::{Manifest, Record};

/// The format.
pub const FORMAT: Format = Format { suffix: "arrow", write, open };

/// Records of a record batch in a file.
const BATCH_ROWS: usize = 1 << 16;

/// In a file's metadata: it is sorted by address and port.
const SORTED: &str = "swath.sorted";

fn write(file: &File, manifests: &[Manifest], batches: &mut Batches<'_>) -> io::Result<u64> {
    let mut schema = super::schema(manifests);
    schema.metadata.insert(SORTED.to_owned(), "ip4, port".to_owned());
    let schema = Arc::new(schema);
    let output = BufWriter::with_capacity(1 << 18, file.try_clone()?);
    let mut writer = FileWriter::try_new_with_options(output, &schema, options()?).map_err(foreign)?;
    let (mut records, mut count) = (Vec::new(), 0);
    loop {
        records.clear();
        batches(&mut records)?;
        if records.is_empty() {
            break;
        }
        for part in records.chunks(BATCH_ROWS) {
            writer.write(&super::batch(&schema, part)).map_err(foreign)?;
        }
        count += records.len() as u64;
    }
    writer.finish().map_err(foreign)?;
    writer.into_inner().map_err(foreign)?.flush()?;
    Ok(count)
}

fn options() -> io::Result<IpcWriteOptions> {
    IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD)).map_err(foreign)
}

/// Writes record batches down a pipe: what `arrow:-` is.
pub struct Stream<W: Write> {
    schema: Arc<Schema>,
    writer: StreamWriter<W>,
}

impl<W: Write> Stream<W> {
    /// Begins the stream with its schema.
    pub fn new(output: W, manifest: &Manifest) -> io::Result<Stream<W>> {
        let schema = Arc::new(super::schema(std::slice::from_ref(manifest)));
        let writer = StreamWriter::try_new_with_options(output, &schema, options()?).map_err(foreign)?;
        Ok(Stream { schema, writer })
    }

    /// Writes records as one batch.
    pub fn write(&mut self, records: &[Record]) -> io::Result<()> {
        self.writer.write(&super::batch(&self.schema, records)).map_err(unwrapped)?;
        self.writer.flush().map_err(unwrapped)
    }

    /// Ends the stream.
    pub fn finish(&mut self) -> io::Result<()> {
        self.writer.finish().map_err(unwrapped)
    }
}

/// The system's own error, where there is one: who writes to a pipe must know that its reader left.
fn unwrapped(error: arrow_schema::ArrowError) -> io::Error {
    match error {
        arrow_schema::ArrowError::IoError(_, error) => error,
        error => foreign(error),
    }
}

fn open(path: &Path) -> io::Result<Box<dyn Reader>> {
    let mut file = File::open(path)?;
    let mut magic = [0; 6];
    file.read_exact(&mut magic)?;
    io::Seek::rewind(&mut file)?;
    let file = BufReader::with_capacity(1 << 18, file);
    if &magic == b"ARROW1" {
        let reader = FileReader::try_new(file, None).map_err(foreign)?;
        let schema = reader.schema();
        Ok(Box::new(Opened::of(&schema, reader)))
    } else {
        stream(file)
    }
}

/// Reads a stream of record batches.
pub fn stream(input: impl Read + Send + 'static) -> io::Result<Box<dyn Reader>> {
    let reader = StreamReader::try_new(input, None).map_err(foreign)?;
    let schema = reader.schema();
    Ok(Box::new(Opened::of(&schema, reader)))
}

struct Opened<R> {
    reader: R,
    manifests: Vec<Manifest>,
    sorted: bool,
}

impl<R> Opened<R> {
    fn of(schema: &Schema, reader: R) -> Opened<R> {
        let manifests = super::read::manifests(schema.metadata().get(MANIFESTS).map(String::as_str));
        Opened { reader, manifests, sorted: schema.metadata().contains_key(SORTED) }
    }
}

impl<R: Iterator<Item = Result<RecordBatch, arrow_schema::ArrowError>> + Send> Reader for Opened<R> {
    fn read(&mut self, records: &mut Vec<Record>) -> io::Result<bool> {
        match self.reader.next() {
            None => Ok(false),
            Some(batch) => {
                Columns::of(&batch.map_err(unwrapped)?)?.append_to(records)?;
                Ok(true)
            }
        }
    }

    fn manifests(&self) -> &[Manifest] {
        &self.manifests
    }

    fn is_sorted(&self) -> bool {
        self.sorted
    }
}
