//! Rotation: any sink that writes a file, in parts. A part that is full is ended, moved to its own name and never touched
//! again; the next begins under the name the user gave.
//!
//! Parts end by the time of the records, so that no clock is read: an hour without a result makes no part.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::file::{directory, shown};
use super::format::date_and_time;
use super::{Existing, Place, Sink, SinkError, SinkKind};
use crate::event::{Manifest, Record, Status, Untrusted};

/// When a part is full; the first rule that applies ends it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rotation {
    /// Seconds of a part; parts begin at multiples of it since the Unix epoch, plus the offset.
    pub every_s: Option<u64>,
    /// Seconds by which parts begin later.
    pub offset_s: u64,
    /// Bytes of a part, at least.
    pub bytes: Option<u64>,
    /// Records of a part, at most.
    pub rows: Option<u64>,
    /// Where finished parts go; `None`: beside the file.
    pub directory: Option<PathBuf>,
}

impl Rotation {
    /// Whether there is a rule at all.
    pub fn is_some(&self) -> bool {
        self.every_s.is_some() || self.bytes.is_some() || self.rows.is_some()
    }
}

/// Reads `1h`, `30m`, `1d`, `hourly`, `daily`, `3600` (seconds), `1GB`, `100MB`, `10M-rows`.
impl FromStr for Rotation {
    type Err = String;

    fn from_str(text: &str) -> Result<Rotation, String> {
        let lower = text.trim().to_ascii_lowercase();
        let fail = || format!("'{text}' is no rotation; write 1h, 1GB or 10M-rows");
        let digits = lower.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = lower.split_at(digits);
        let number: u64 = match (number, unit) {
            ("", "hourly" | "hour" | "daily" | "day" | "minute") => 1,
            (number, _) => number.parse().ok().filter(|number| 0 < *number).ok_or_else(fail)?,
        };
        let seconds = |scale| {
            Ok(Rotation { every_s: Some(number.checked_mul(scale).ok_or_else(fail)?), ..Rotation::default() })
        };
        let bytes = |scale| {
            Ok(Rotation { bytes: Some(number.checked_mul(scale).ok_or_else(fail)?), ..Rotation::default() })
        };
        let rows = |scale| {
            Ok(Rotation { rows: Some(number.checked_mul(scale).ok_or_else(fail)?), ..Rotation::default() })
        };
        match unit.trim() {
            "" | "s" | "sec" | "second" | "seconds" => seconds(1),
            "m" | "min" | "minute" | "minutes" => seconds(60),
            "h" | "hour" | "hours" | "hourly" => seconds(3600),
            "d" | "day" | "days" | "daily" => seconds(86_400),
            "kb" | "k" => bytes(1_000),
            "mb" => bytes(1_000_000),
            "gb" | "g" => bytes(1_000_000_000),
            "tb" | "t" => bytes(1_000_000_000_000),
            "-rows" | "rows" => rows(1),
            "k-rows" | "krows" => rows(1_000),
            "m-rows" | "mrows" => rows(1_000_000),
            "g-rows" | "grows" => rows(1_000_000_000),
            _ => Err(fail()),
        }
    }
}

/// Opens a sink of a kind that rotates.
///
/// # Errors
/// When the first part cannot be opened, or the place is no file.
pub fn open(kind: &'static SinkKind, place: &Place, rule: &Rotation) -> Result<Box<dyn Sink>, SinkError> {
    if place.stdout {
        return Err(SinkError::refused("standard output", "it cannot be rotated; only files can"));
    }
    let target = rule.directory.clone().unwrap_or_else(|| directory(&place.path).to_owned());
    if !target.is_dir() {
        return Err(SinkError::refused(&shown(&target), "the directory for rotated parts is not there"));
    }
    let current = Some(super::open(kind, place)?);
    let rule = rule.clone();
    let place = place.clone();
    Ok(Box::new(Rotating {
        kind,
        place,
        rule,
        target,
        current,
        manifest: None,
        safe: 0,
        rows: 0,
        period: None,
        last_ns: 0,
    }))
}

struct Rotating {
    kind: &'static SinkKind,
    place: Place,
    rule: Rotation,
    target: PathBuf,
    /// The part that is being written; `None` after the next one could not be opened.
    current: Option<Box<dyn Sink>>,
    manifest: Option<Manifest>,
    /// Records in parts that are finished.
    safe: u64,
    /// Records in the current part.
    rows: u64,
    /// Which period the current part holds; known with its first record.
    period: Option<u64>,
    last_ns: u64,
}

/// The manifest beside a part goes where the part went.
fn move_manifest(from: &Path, to: &Path) -> io::Result<()> {
    let beside = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".manifest.json");
        PathBuf::from(name)
    };
    match fs::rename(beside(from), beside(to)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        moved => moved,
    }
}

impl Rotating {
    fn period_of(&self, record: &Record) -> Option<u64> {
        let seconds = record.time_ns / 1_000_000_000;
        self.rule.every_s.map(|every| seconds.saturating_sub(self.rule.offset_s) / every)
    }

    /// How many of the records go into the current part; 0 when it is full.
    fn fitting(&self, records: &[Record]) -> usize {
        let rows = self.rule.rows.map_or(u64::MAX, |rows| rows.saturating_sub(self.rows));
        let rows = usize::try_from(rows).unwrap_or(usize::MAX).min(records.len());
        let Some(period) = self.period.or_else(|| self.period_of(&records[0])) else { return rows };
        // A record that is late by a little stays in the part of its neighbours.
        let same =
            records[..rows].iter().take_while(|record| self.period_of(record).is_some_and(|of| of <= period));
        same.count()
    }

    fn is_large(&self) -> bool {
        self.rule
            .bytes
            .is_some_and(|bytes| fs::metadata(&self.place.path).is_ok_and(|file| bytes <= file.len()))
    }

    fn gone() -> SinkError {
        SinkError::refused("the next part", "it could not be opened")
    }

    fn part(&mut self) -> Result<&mut Box<dyn Sink>, SinkError> {
        self.current.as_mut().ok_or_else(Rotating::gone)
    }

    /// Ends the part, moves it away and begins the next.
    fn rotate(&mut self) -> Result<(), SinkError> {
        let manifest = self.manifest.clone().ok_or_else(Rotating::gone)?;
        self.end_part(&Manifest {
            status: Status::Complete,
            finished_us: Some(self.last_ns / 1000),
            ..manifest.clone()
        })?;
        let place = Place { existing: Existing::Refuse, ..self.place.clone() };
        let mut next = super::open(self.kind, &place)?;
        next.begin(&manifest)?;
        self.current = Some(next);
        Ok(())
    }

    fn end_part(&mut self, manifest: &Manifest) -> Result<(), SinkError> {
        let mut part = self.current.take().ok_or_else(Rotating::gone)?;
        let safe = part.commit();
        self.safe += *safe.as_ref().unwrap_or(&part.safe());
        safe?;
        part.finish(manifest)?;
        let object = shown(&self.place.path);
        self.move_away().map_err(|error| SinkError::from_io("rotate", &object, &error))?;
        (self.rows, self.period) = (0, None);
        Ok(())
    }

    /// Gives the file a name that nothing has.
    fn move_away(&self) -> io::Result<()> {
        let name = self.place.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for number in 0..1_000_000_u32 {
            let path = self.target.join(self.part_name(&name, number));
            // A link refuses a name that exists, which a rename does not.
            match fs::hard_link(&self.place.path, &path) {
                Ok(()) => {
                    fs::remove_file(&self.place.path)?;
                    return move_manifest(&self.place.path, &path);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                    return Err(io::Error::other("the directory for parts is on another file system"));
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("a million parts have names already"))
    }

    /// masscan's names: `261121-130000-scan.json` for parts of time, `scan-00000.json` for others.
    fn part_name(&self, name: &str, number: u32) -> String {
        match (self.rule.every_s, self.period) {
            (Some(every), Some(period)) => {
                let digits: String = date_and_time(period * every + self.rule.offset_s)
                    .chars()
                    .map(|character| if character == ' ' { '-' } else { character })
                    .collect();
                let stamp = digits[2..].replace(':', "");
                let (date, clock) = stamp.split_at(8);
                let again = if number == 0 { String::new() } else { format!("{number}-") };
                format!("{}{clock}-{again}{name}", date.replace('-', ""))
            }
            _ => {
                let (stem, suffix) = match name.find('.').filter(|at| 0 < *at) {
                    Some(at) => name.split_at(at),
                    None => (name, ""),
                };
                format!("{stem}-{number:05}{suffix}")
            }
        }
    }
}

impl Sink for Rotating {
    fn begin(&mut self, manifest: &Manifest) -> Result<(), SinkError> {
        self.manifest = Some(manifest.clone());
        self.part()?.begin(manifest)
    }

    fn write(&mut self, records: &[Record]) -> Result<(), SinkError> {
        let mut rest = records;
        while !rest.is_empty() {
            let count = self.fitting(rest);
            if count == 0 {
                self.rotate()?;
                continue;
            }
            let (part, later) = rest.split_at(count);
            self.period = self.period.or_else(|| self.period_of(&part[0]));
            self.last_ns = self.last_ns.max(part[count - 1].time_ns);
            self.part()?.write(part)?;
            self.rows += count as u64;
            rest = later;
            if self.is_large() {
                self.rotate()?;
            }
        }
        Ok(())
    }

    fn attach(&mut self, record: &Record, key: &str, bytes: &Untrusted) -> Result<(), SinkError> {
        self.part()?.attach(record, key, bytes)
    }

    fn commit(&mut self) -> Result<u64, SinkError> {
        self.part()?.commit()?;
        Ok(self.safe())
    }

    fn safe(&self) -> u64 {
        self.safe + self.current.as_ref().map_or(0, |part| part.safe())
    }

    fn finish(mut self: Box<Self>, manifest: &Manifest) -> Result<(), SinkError> {
        // A part without a record stays where the user expects his file.
        match self.current.take() {
            Some(part) if self.rows == 0 && 0 < self.safe => {
                part.finish(manifest)?;
                let object = shown(&self.place.path);
                fs::remove_file(&self.place.path)
                    .map_err(|error| SinkError::from_io("remove", &object, &error))
            }
            Some(part) if self.rows == 0 => part.finish(manifest),
            Some(part) => {
                self.current = Some(part);
                self.end_part(manifest)
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_or_refused() {
        let rule = |text: &str| text.parse::<Rotation>();
        assert_eq!(rule("1h").map(|rule| rule.every_s), Ok(Some(3600)));
        assert_eq!(rule("hourly").map(|rule| rule.every_s), Ok(Some(3600)));
        assert_eq!(rule("90").map(|rule| rule.every_s), Ok(Some(90)));
        assert_eq!(rule("1GB").map(|rule| rule.bytes), Ok(Some(1_000_000_000)));
        assert_eq!(rule("10M-rows").map(|rule| rule.rows), Ok(Some(10_000_000)));
        for text in ["", "0h", "1 fortnight", "-1h", "rows", "99999999999999999999h", "18446744073709551615d"]
        {
            assert!(rule(text).is_err(), "{text}");
        }
    }
}
