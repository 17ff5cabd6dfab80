//! Parquet files: zstd, sorted addresses and times delta-packed, words and small numbers by dictionary, statistics for
//! each row group so that readers skip what they do not want.
//!
//! Invariant: the footer is written last; a file without one is no Parquet file, so files get their name only then.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow_schema::Schema;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::{Columns, Format, GROUP_ROWS, MANIFESTS, Reader, foreign};
use crate::event::{Manifest, Record};

/// The format.
pub const FORMAT: Format = Format { suffix: "parquet", write, open };

/// Records turned into columns at once.
const BATCH_ROWS: usize = 1 << 13;

fn write(file: &File, manifests: &[Manifest], batches: &mut super::Batches<'_>) -> io::Result<u64> {
    let schema = Arc::new(super::schema(manifests));
    let mut writer = writer(file, &schema)?;
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
    writer.close().map_err(foreign)?;
    Ok(count)
}

/// A writer of record batches, with the manifests of the schema's metadata in the file's.
pub(super) fn writer(file: &File, schema: &Arc<Schema>) -> io::Result<ArrowWriter<File>> {
    let options = ArrowWriterOptions::new().with_properties(properties());
    let mut writer =
        ArrowWriter::try_new_with_options(file.try_clone()?, Arc::clone(schema), options).map_err(foreign)?;
    if let Some(json) = schema.metadata().get(MANIFESTS) {
        writer.append_key_value_metadata(KeyValue::new(MANIFESTS.to_owned(), json.clone()));
    }
    Ok(writer)
}

/// Record batches of a file.
pub(super) type Batches = ParquetRecordBatchReader;

/// All columns of a file, so many rows at once.
pub(super) fn batches(path: &Path, rows: usize) -> io::Result<Batches> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?).map_err(foreign)?;
    builder.with_batch_size(rows).build().map_err(foreign)
}

/// Names of a file's columns.
pub(super) fn columns(path: &Path) -> io::Result<Vec<String>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?).map_err(foreign)?;
    Ok(builder.schema().fields().iter().map(|field| field.name().clone()).collect())
}

fn properties() -> WriterProperties {
    let column = |name: &str| ColumnPath::from(name);
    let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("a level of zstd");
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("swath version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_sorting_columns(Some(vec![SORTED]));
    for name in ["ts", "ip4", "ipid", "rtt_us"] {
        builder = builder
            .set_column_dictionary_enabled(column(name), false)
            .set_column_encoding(column(name), Encoding::DELTA_BINARY_PACKED);
    }
    for name in ["ip", "responder"] {
        builder = builder
            .set_column_dictionary_enabled(column(name), false)
            .set_column_encoding(column(name), Encoding::DELTA_BYTE_ARRAY);
    }
    for name in ["ts", "ip4", "port", "state"] {
        builder = builder.set_column_statistics_enabled(column(name), EnabledStatistics::Chunk);
    }
    builder.build()
}

/// What a file is sorted by, as far as Parquet can say it: ip4, IPv6 behind it.
const SORTED: SortingColumn = SortingColumn { column_idx: 2, descending: false, nulls_first: false };

/// zstd's own default is 3; level 1 writes a third faster and 6 % larger (docs/performance.md).
const ZSTD_LEVEL: i32 = 1;

fn open(path: &Path) -> io::Result<Box<dyn Reader>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?).map_err(foreign)?;
    let file = builder.metadata().file_metadata();
    let metadata = file.key_value_metadata().into_iter().flatten();
    let json = metadata.into_iter().find(|pair| pair.key == MANIFESTS).and_then(|pair| pair.value.as_deref());
    let manifests = super::read::manifests(json);
    let ours = file.created_by().is_some_and(|name| name.starts_with("swath "));
    let sorted =
        ours && builder.metadata().row_groups().iter().all(|group| group.sorting_columns().is_some());
    let wanted = super::read::wanted(builder.schema().fields().iter().map(|field| field.name().as_str()));
    let mask = parquet::arrow::ProjectionMask::roots(builder.parquet_schema(), wanted);
    let reader = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(foreign)?;
    Ok(Box::new(ParquetFile { reader, manifests, sorted }))
}

struct ParquetFile {
    reader: ParquetRecordBatchReader,
    manifests: Vec<Manifest>,
    sorted: bool,
}

impl Reader for ParquetFile {
    fn read(&mut self, records: &mut Vec<Record>) -> io::Result<bool> {
        match self.reader.next() {
            None => Ok(false),
            Some(batch) => {
                Columns::of(&batch.map_err(foreign)?)?.append_to(records)?;
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
