//! Records as columns: the one schema of Parquet and Arrow IPC files, to and from [`Record`]s.
//!
//! | column | type | null when |
//! |---|---|---|
//! | ts | timestamp, microseconds, UTC | |
//! | ip | text | |
//! | ip4 | 32 bits | IPv6 |
//! | port | 16 bits | |
//! | proto, state, reason, proof | words, dictionary | |
//! | ttl, pass | 8 bits | |
//! | win | 16 bits | |
//! | mss | 16 bits | no such option |
//! | wscale | 8 bits | no such option |
//! | opts_hash | 32 bits | no options |
//! | ipid | 16 bits | IPv6 |
//! | rtt_us | 32 bits | the probe carried no time |
//! | responder | text | the target itself answered |
//!
//! The metadata of a file carries, under [`MANIFESTS`], a JSON array with the manifest of every scan in it. A reader takes
//! any file with `ip` and `port`, in any column order, and leaves unset what is not there; so do files of others.
//! Bytes that targets sent have no place in a verdict's row and a file of their own: [`attached`].
//!
//! Invariant: knows no sink and no source; a file that exists under its final name is whole.

pub mod arrow;
pub mod attached;
pub mod parquet;
mod read;

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use arrow_array::types::{UInt8Type, UInt16Type};
use arrow_array::{
    ArrayRef, ArrowPrimitiveType, DictionaryArray, PrimitiveArray, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt8Array, UInt16Array,
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};

pub use read::Columns;

use crate::event::{Manifest, Proof, Reason, Record, State};
use crate::target::Protocol;

/// The key of the manifests in a file's metadata.
pub const MANIFESTS: &str = "swath.manifests";

/// Rows of a row group: what a reader that prunes by address reads at once. Small enough that two sets are compared
/// within 200 MB.
pub const GROUP_ROWS: usize = 1 << 18;

/// A file format of columns.
#[derive(Clone, Copy)]
pub struct Format {
    /// The suffix of its files, without the dot.
    pub suffix: &'static str,
    /// Writes a whole file of records, which come in order, and returns their number.
    pub write: fn(&std::fs::File, &[Manifest], &mut Batches<'_>) -> io::Result<u64>,
    /// Opens a file for reading.
    pub open: fn(&Path) -> io::Result<Box<dyn Reader>>,
}

/// Hands out records batch by batch into an empty vector; an empty batch ends them.
pub type Batches<'a> = dyn FnMut(&mut Vec<Record>) -> io::Result<()> + 'a;

/// A file of columns that is read.
pub trait Reader: Send {
    /// Appends the next batch of records; false at the end.
    fn read(&mut self, records: &mut Vec<Record>) -> io::Result<bool>;
    /// The scans in it.
    fn manifests(&self) -> &[Manifest];
    /// Whether it says of itself that it is sorted.
    fn is_sorted(&self) -> bool;
}

/// The schema, with manifests in its metadata.
pub fn schema(manifests: &[Manifest]) -> Schema {
    let words = || DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8));
    let fields = vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("ip", DataType::Utf8, false),
        Field::new("ip4", DataType::UInt32, true),
        Field::new("port", DataType::UInt16, false),
        Field::new("proto", words(), false),
        Field::new("state", words(), false),
        Field::new("reason", words(), false),
        Field::new("proof", words(), false),
        Field::new("pass", DataType::UInt8, false),
        Field::new("ttl", DataType::UInt8, false),
        Field::new("win", DataType::UInt16, false),
        Field::new("mss", DataType::UInt16, true),
        Field::new("wscale", DataType::UInt8, true),
        Field::new("opts_hash", DataType::UInt32, true),
        Field::new("ipid", DataType::UInt16, true),
        Field::new("rtt_us", DataType::UInt32, true),
        Field::new("responder", DataType::Utf8, true),
    ];
    let json = serde_json::to_string(manifests).expect("a manifest has no map and no failing serializer");
    Schema::new(fields).with_metadata(std::collections::HashMap::from([(MANIFESTS.to_owned(), json)]))
}

/// Some records as a batch.
pub fn batch(schema: &Arc<Schema>, records: &[Record]) -> RecordBatch {
    RecordBatch::try_new(Arc::clone(schema), columns(records)).expect("the columns are those of the schema")
}

/// The columns of some records, in the order of [`schema`].
fn columns(records: &[Record]) -> Vec<ArrayRef> {
    let ip4 = |record: &Record| match record.address() {
        IpAddr::V4(address) => Some(address.to_bits()),
        IpAddr::V6(_) => None,
    };
    let micros = records.iter().map(|record| (record.time_ns / 1000).cast_signed());
    vec![
        Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC")),
        Arc::new(texts(records, |record| Some(record.address()))),
        optional::<arrow_array::types::UInt32Type>(records, ip4),
        Arc::new(UInt16Array::from_iter_values(records.iter().map(|record| record.port))),
        PROTOCOLS.column(records, |record| record.protocol.0),
        STATES.column(records, |record| record.state.number()),
        REASONS.column(records, |record| record.reason.0),
        PROOFS.column(records, |record| record.proof.number()),
        Arc::new(UInt8Array::from_iter_values(records.iter().map(|record| record.pass))),
        Arc::new(UInt8Array::from_iter_values(records.iter().map(|record| record.ttl))),
        Arc::new(UInt16Array::from_iter_values(records.iter().map(|record| record.window))),
        optional::<arrow_array::types::UInt16Type>(records, |record| (record.mss != 0).then_some(record.mss)),
        optional::<UInt8Type>(records, |record| {
            (record.window_scale != Record::NO_SCALE).then_some(record.window_scale)
        }),
        optional::<arrow_array::types::UInt32Type>(records, |record| {
            (record.options_hash != 0).then_some(record.options_hash)
        }),
        optional::<arrow_array::types::UInt16Type>(records, |record| ip4(record).map(|_| record.ip_id)),
        optional::<arrow_array::types::UInt32Type>(records, |record| {
            (record.rtt_us != 0).then_some(record.rtt_us)
        }),
        Arc::new(texts(records, |record| {
            Some(record.responder()).filter(|responder| *responder != record.address())
        })),
    ]
}

fn optional<T: ArrowPrimitiveType>(
    records: &[Record],
    value: impl Fn(&Record) -> Option<T::Native>,
) -> ArrayRef {
    Arc::new(records.iter().map(value).collect::<PrimitiveArray<T>>())
}

/// The words of a column: which of them a frozen number means. The same for every batch, so that a file or a stream
/// holds them once.
struct Vocabulary {
    keys: [u16; 256],
    names: ArrayRef,
}

impl Vocabulary {
    /// All words that numbers have; several numbers may have one.
    fn new(name: impl Fn(u8) -> Option<String>, unknown: &str) -> Vocabulary {
        let mut names: Vec<String> = Vec::new();
        let keys = std::array::from_fn(|number| {
            let name = u8::try_from(number).ok().and_then(&name).unwrap_or_else(|| unknown.to_owned());
            let place = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            });
            u16::try_from(place).expect("at most 256 numbers")
        });
        Vocabulary { keys, names: Arc::new(StringArray::from_iter_values(names)) }
    }

    fn column(&self, records: &[Record], number: impl Fn(&Record) -> u8) -> ArrayRef {
        let keys = records.iter().map(|record| self.keys[usize::from(number(record))]);
        Arc::new(DictionaryArray::<UInt16Type>::new(
            UInt16Array::from_iter_values(keys),
            Arc::clone(&self.names),
        ))
    }
}

static PROTOCOLS: LazyLock<Vocabulary> =
    LazyLock::new(|| Vocabulary::new(|number| Some(Protocol(number).to_string()), ""));
static STATES: LazyLock<Vocabulary> = LazyLock::new(|| {
    Vocabulary::new(|number| State::from_number(number).map(|state| state.name().to_owned()), "unknown")
});
static REASONS: LazyLock<Vocabulary> =
    LazyLock::new(|| Vocabulary::new(|number| Some(Reason(number).name().to_owned()), ""));
static PROOFS: LazyLock<Vocabulary> = LazyLock::new(|| {
    Vocabulary::new(|number| Proof::from_number(number).map(|proof| proof.name().to_owned()), "unknown")
});

/// A column of addresses as text.
fn texts(records: &[Record], address: impl Fn(&Record) -> Option<IpAddr>) -> StringArray {
    let mut builder = arrow_array::builder::StringBuilder::with_capacity(records.len(), records.len() * 14);
    let mut text = String::with_capacity(40);
    for record in records {
        match address(record) {
            Some(address) => {
                text.clear();
                push_address(&mut text, address);
                builder.append_value(&text);
            }
            None => builder.append_null(),
        }
    }
    builder.finish()
}

/// Appends an address: dotted decimal, or RFC 5952 text. The standard library's is the same and five times slower for
/// IPv4, where it matters.
fn push_address(text: &mut String, address: IpAddr) {
    let IpAddr::V4(address) = address else {
        use std::fmt::Write;
        write!(text, "{address}").expect("a string takes everything");
        return;
    };
    for (index, octet) in address.octets().into_iter().enumerate() {
        if index != 0 {
            text.push('.');
        }
        let digit = |value: u8| char::from(b'0' + value % 10);
        if 100 <= octet {
            text.push(digit(octet / 100));
        }
        if 10 <= octet {
            text.push(digit(octet / 10));
        }
        text.push(digit(octet));
    }
}

/// An error of the libraries as one of the system's kind.
fn foreign(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

#[cfg(test)]
mod tests;
