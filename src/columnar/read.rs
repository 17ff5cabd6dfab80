//! Columns back to records. Takes what is there: the columns of other tools' files may be missing, plain instead of
//! dictionary, and wider or narrower numbers.
//!
//! Invariant: a file is never trusted: what is no address, no word of the vocabulary or no 16-bit port is an error that
//! names the column.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowDictionaryKeyType, ArrowPrimitiveType, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, TimeUnit};

use crate::event::{Manifest, Proof, Reason, Record, State};
use crate::target::{Port, Protocol, Target};

/// Names of the columns that are read.
const NAMES: [&str; 17] = [
    "ts",
    "ip",
    "ip4",
    "port",
    "proto",
    "state",
    "reason",
    "proof",
    "pass",
    "ttl",
    "win",
    "mss",
    "wscale",
    "opts_hash",
    "ipid",
    "rtt_us",
    "responder",
];

/// Which of a file's columns are worth reading. The text of an IPv4 address says nothing that its number does not; it is
/// read all the same, as the number may be missing for some.
pub(super) fn wanted<'a>(names: impl Iterator<Item = &'a str>) -> Vec<usize> {
    names.enumerate().filter(|(_, name)| NAMES.contains(name)).map(|(index, _)| index).collect()
}

/// The manifests of a file's metadata; none when there are none or they are of a version that cannot be read.
pub(super) fn manifests(json: Option<&str>) -> Vec<Manifest> {
    json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

/// The columns of a batch, each in a form that can be asked row by row.
pub struct Columns {
    rows: usize,
    time: Option<Numbers>,
    address: Addresses,
    number: Option<Numbers>,
    responder: Option<Addresses>,
    port: Numbers,
    protocol: Option<Words>,
    state: Option<Words>,
    reason: Option<Words>,
    proof: Option<Words>,
    numbers: [Option<Numbers>; 8],
}

impl Columns {
    /// The columns of a batch.
    ///
    /// # Errors
    /// When `ip` or `port` is missing, or a column is of a type that its values cannot have.
    pub fn of(batch: &RecordBatch) -> io::Result<Columns> {
        let column = |name: &str| batch.column_by_name(name);
        let numbers = |name: &str| column(name).map(|array| Numbers::of(name, array)).transpose();
        let needed = |name: &str| column(name).ok_or_else(|| fault(name, "is missing"));
        let protocol = |word: &str| Protocol::from_name(word).map(|protocol| protocol.0);
        let state = |word: &str| State::from_name(word).map(State::number);
        let reason = |word: &str| Reason::from_name(word).map(|reason| reason.0).or(Some(UNKNOWN));
        let proof = |word: &str| Proof::from_name(word).map(Proof::number);
        let words = |name: &str, number: &dyn Fn(&str) -> Option<u8>| {
            column(name).map(|array| Words::of(name, array, number)).transpose()
        };
        Ok(Columns {
            rows: batch.num_rows(),
            time: column("ts").map(Numbers::of_time).transpose()?,
            address: Addresses::of("ip", needed("ip")?)?,
            number: numbers("ip4")?,
            responder: column("responder").map(|array| Addresses::of("responder", array)).transpose()?,
            port: Numbers::of("port", needed("port")?)?,
            protocol: words("proto", &protocol)?,
            state: words("state", &state)?,
            reason: words("reason", &reason)?,
            proof: words("proof", &proof)?,
            numbers: [
                numbers("pass")?,
                numbers("ttl")?,
                numbers("win")?,
                numbers("mss")?,
                numbers("wscale")?,
                numbers("opts_hash")?,
                numbers("ipid")?,
                numbers("rtt_us")?,
            ],
        })
    }

    /// Appends every row as a record.
    ///
    /// # Errors
    /// At the first value that cannot be.
    pub fn append_to(&self, records: &mut Vec<Record>) -> io::Result<()> {
        records.reserve(self.rows);
        for row in 0..self.rows {
            records.push(self.record(row)?);
        }
        Ok(())
    }

    fn record(&self, row: usize) -> io::Result<Record> {
        let number =
            self.number.as_ref().and_then(|numbers| numbers.at(row)).and_then(|n| u32::try_from(n).ok());
        let address = match number {
            Some(number) => IpAddr::V4(Ipv4Addr::from_bits(number)),
            None => self.address.at(row)?.ok_or_else(|| fault("ip", "has a row without a value"))?,
        };
        let responder = match &self.responder {
            Some(column) => column.at(row)?.unwrap_or(address),
            None => address,
        };
        let word = |column: &Option<Words>| column.as_ref().and_then(|words| words.at(row));
        let protocol = word(&self.protocol).map_or(Protocol::TCP, Protocol);
        let number = self.port.at(row).and_then(|port| u16::try_from(port).ok());
        let number = number.ok_or_else(|| fault("port", "has a row that is no port"))?;
        let state = word(&self.state).and_then(State::from_number).unwrap_or(State::Open);
        let reason = word(&self.reason).map_or(Reason(UNKNOWN), Reason);
        let target = Target { address, port: Port { protocol, number } };
        let mut record = Record::new(target, responder, state, reason);
        record.time_ns = self.time.as_ref().and_then(|time| time.at(row)).unwrap_or(0);
        record.proof = word(&self.proof).and_then(Proof::from_number).unwrap_or(Proof::Weak);
        let [pass, ttl, window, mss, scale, options, id, rtt] =
            self.numbers.each_ref().map(|column| column.as_ref().and_then(|numbers| numbers.at(row)));
        let byte = |value: Option<u64>| value.and_then(|value| u8::try_from(value).ok());
        let half = |value: Option<u64>| value.and_then(|value| u16::try_from(value).ok()).unwrap_or(0);
        let word = |value: Option<u64>| value.and_then(|value| u32::try_from(value).ok()).unwrap_or(0);
        record.pass = byte(pass).unwrap_or(0);
        record.ttl = byte(ttl).unwrap_or(0);
        record.window = half(window);
        record.mss = half(mss);
        record.window_scale = byte(scale).unwrap_or(Record::NO_SCALE);
        record.options_hash = word(options);
        record.ip_id = half(id);
        record.rtt_us = word(rtt);
        Ok(record)
    }
}

/// A reason that no version has used: what a word of another tool becomes.
const UNKNOWN: u8 = u8::MAX;

/// A column of whole numbers.
struct Numbers {
    values: Vec<u64>,
    nulls: Option<arrow_array::BooleanArray>,
}

impl Numbers {
    fn of(name: &str, array: &ArrayRef) -> io::Result<Numbers> {
        Ok(match array.data_type() {
            DataType::UInt8 => Numbers::from::<UInt8Type>(array, |value| Some(value.into())),
            DataType::UInt16 => Numbers::from::<UInt16Type>(array, |value| Some(value.into())),
            DataType::UInt32 => Numbers::from::<UInt32Type>(array, |value| Some(value.into())),
            DataType::UInt64 => Numbers::from::<UInt64Type>(array, Some),
            DataType::Int8 => Numbers::from::<Int8Type>(array, |value| u64::try_from(value).ok()),
            DataType::Int16 => Numbers::from::<Int16Type>(array, |value| u64::try_from(value).ok()),
            DataType::Int32 => Numbers::from::<Int32Type>(array, |value| u64::try_from(value).ok()),
            DataType::Int64 => Numbers::from::<Int64Type>(array, |value| u64::try_from(value).ok()),
            other => return Err(fault(name, &format!("is of type {other}, not a number"))),
        })
    }

    /// A column of times, as nanoseconds since the Unix epoch.
    fn of_time(array: &ArrayRef) -> io::Result<Numbers> {
        let scaled = |value: i64, by: u64| u64::try_from(value).ok().and_then(|value| value.checked_mul(by));
        Ok(match array.data_type() {
            DataType::Timestamp(TimeUnit::Second, _) => {
                Numbers::from::<TimestampSecondType>(array, |value| scaled(value, 1_000_000_000))
            }
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                Numbers::from::<TimestampMillisecondType>(array, |value| scaled(value, 1_000_000))
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Numbers::from::<TimestampMicrosecondType>(array, |value| scaled(value, 1000))
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                Numbers::from::<TimestampNanosecondType>(array, |value| scaled(value, 1))
            }
            other => return Err(fault("ts", &format!("is of type {other}, not a timestamp"))),
        })
    }

    fn from<T: ArrowPrimitiveType>(array: &ArrayRef, number: impl Fn(T::Native) -> Option<u64>) -> Numbers {
        let array = array.as_primitive::<T>();
        let numbers = array.values().iter().map(|value| number(*value));
        if array.null_count() == 0 && numbers.clone().all(|number| number.is_some()) {
            return Numbers { values: numbers.flatten().collect(), nulls: None };
        }
        let present =
            numbers.clone().enumerate().map(|(row, number)| number.is_some() && array.is_valid(row));
        let nulls = Some(present.collect::<Vec<bool>>().into());
        Numbers { values: numbers.map(Option::unwrap_or_default).collect(), nulls }
    }

    fn at(&self, row: usize) -> Option<u64> {
        let present = self.nulls.as_ref().is_none_or(|nulls| nulls.value(row));
        present.then(|| self.values[row])
    }
}

/// A column of words, as the frozen numbers they mean.
struct Words {
    numbers: Vec<Option<u8>>,
}

impl Words {
    fn of(name: &str, array: &ArrayRef, number: &dyn Fn(&str) -> Option<u8>) -> io::Result<Words> {
        let unknown =
            |word: &str| fault(name, &format!("holds '{}', which is no word for it", word.escape_debug()));
        let read =
            |word: Option<&str>| word.map(|word| number(word).ok_or_else(|| unknown(word))).transpose();
        let numbers = match array.data_type() {
            DataType::Utf8 => array.as_string::<i32>().iter().map(read).collect::<io::Result<Vec<_>>>()?,
            DataType::LargeUtf8 => array.as_string::<i64>().iter().map(read).collect::<io::Result<_>>()?,
            DataType::Utf8View => array.as_string_view().iter().map(read).collect::<io::Result<_>>()?,
            DataType::Dictionary(key, _) => match key.as_ref() {
                DataType::UInt8 => Words::of_dictionary::<UInt8Type>(name, array, number)?,
                DataType::UInt16 => Words::of_dictionary::<UInt16Type>(name, array, number)?,
                DataType::UInt32 => Words::of_dictionary::<UInt32Type>(name, array, number)?,
                DataType::Int8 => Words::of_dictionary::<Int8Type>(name, array, number)?,
                DataType::Int16 => Words::of_dictionary::<Int16Type>(name, array, number)?,
                DataType::Int32 => Words::of_dictionary::<Int32Type>(name, array, number)?,
                other => return Err(fault(name, &format!("has a dictionary with keys of type {other}"))),
            },
            other => return Err(fault(name, &format!("is of type {other}, not text"))),
        };
        Ok(Words { numbers })
    }

    /// Each word is looked up once, each row by its key.
    fn of_dictionary<K: ArrowDictionaryKeyType>(
        name: &str,
        array: &ArrayRef,
        number: &dyn Fn(&str) -> Option<u8>,
    ) -> io::Result<Vec<Option<u8>>> {
        let array = array.as_dictionary::<K>();
        // A dictionary may hold words that no row uses.
        let lenient = |word: &str| number(word).or(Some(0));
        let words = Words::of(name, array.values(), &lenient)?.numbers;
        let known = Words::of(name, array.values(), number).is_ok();
        let mut numbers = Vec::with_capacity(array.len());
        for key in array.keys_iter() {
            let word = key.and_then(|key| words.get(key).copied().flatten());
            if !known && word == Some(0) {
                return Err(fault(name, "holds a word that is none for it"));
            }
            numbers.push(word);
        }
        Ok(numbers)
    }

    fn at(&self, row: usize) -> Option<u8> {
        self.numbers[row]
    }
}

/// A column of addresses as text.
struct Addresses {
    name: &'static str,
    array: ArrayRef,
}

impl Addresses {
    fn of(name: &'static str, array: &ArrayRef) -> io::Result<Addresses> {
        match array.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Ok(Addresses { name, array: Arc::clone(array) })
            }
            other => Err(fault(name, &format!("is of type {other}, not text"))),
        }
    }

    fn at(&self, row: usize) -> io::Result<Option<IpAddr>> {
        if self.array.is_null(row) {
            return Ok(None);
        }
        let text = match self.array.data_type() {
            DataType::Utf8 => self.array.as_string::<i32>().value(row),
            DataType::LargeUtf8 => self.array.as_string::<i64>().value(row),
            _ => self.array.as_string_view().value(row),
        };
        let wrong = || fault(self.name, &format!("holds '{}', which is no address", text.escape_debug()));
        text.parse().map(Some).map_err(|_| wrong())
    }
}

fn fault(column: &str, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("column {column} {what}"))
}
