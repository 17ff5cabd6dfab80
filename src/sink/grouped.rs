//! A sink whose formats put everything about an address into one place, though results come in random order.
//!
//! While the scan runs a file gets an entry for every result: it is valid at every commit, and what a killed scan leaves
//! can be read. At the end everything is sorted on disk and written again, one entry for each address, beside the file,
//! which it then replaces. Standard output and pipes cannot be written twice: they get everything at the end.
//!
//! Invariant: nothing here knows a format.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::file::{Output, create_exclusive, directory};
use super::{Existing, Place, Sink, SinkError};
use crate::event::{Attachment, Manifest, Observations, Record, Untrusted};
use crate::runs::{Item, Merged, Sorter, by_target};
use crate::source;

/// How a format writes addresses.
pub(crate) trait Hosts: Send {
    /// Whether a file is valid only with its end.
    const DOCUMENT: bool;

    /// The kind of source that reads this format back, for appending to it.
    const SOURCE: &'static str;

    /// Prepares for a place, before it is opened (`lines::Encode::prepare`).
    fn prepare(&mut self, place: &Place) -> Result<(), SinkError> {
        let _ = place;
        Ok(())
    }

    /// Writes what stands once at the top.
    fn begin(&mut self, manifest: &Manifest, text: &mut Vec<u8>);

    /// Writes everything about one address; the items are sorted by port and protocol, and there is one at least.
    fn host(&mut self, items: &[Item], text: &mut Vec<u8>);

    /// Writes what stands at the end, of a file with that many entries.
    fn end(&mut self, manifest: &Manifest, hosts: u64, text: &mut Vec<u8>);

    /// How many bytes of the end of a file that exists stay when it is appended to (`lines::Encode::resume`).
    fn resume(&mut self, tail: &[u8], whole: bool) -> Option<usize>;
}

/// Opens a sink that groups by address.
pub(crate) fn open<H: Hosts + Default + 'static>(place: &Place) -> Result<Box<dyn Sink>, SinkError> {
    let mut format = H::default();
    format.prepare(place)?;
    let temporary = if place.stdout { std::env::temp_dir() } else { directory(&place.path).to_owned() };
    let mut sorter = Sorter::new(&temporary, by_target);
    let mut hosts = 0;
    let metadata = fs::symlink_metadata(&place.path);
    let exists = !place.stdout && metadata.is_ok_and(|file| file.is_file() && 0 < file.len());
    if place.existing == Existing::Append && exists {
        hosts = read_back(H::SOURCE, &place.path, &mut sorter)?;
    }
    let mut resume = |tail: &[u8], whole: bool| format.resume(tail, whole);
    let output = if H::DOCUMENT {
        Output::open_document(place, &mut resume)?
    } else {
        Output::open(place, &mut resume)?
    };
    let path = output.is_file().then(|| place.path.clone());
    Ok(Box::new(Grouped { output, format, sorter, path, given: 0, hosts, manifest: None, failed: false }))
}

/// Takes what a file holds into the sorter; returns the number of results.
fn read_back(kind: &str, path: &Path, sorter: &mut Sorter) -> Result<u64, SinkError> {
    let object = super::file::shown(path);
    let refused = |error: source::SourceError| {
        SinkError::refused(&object, format!("it cannot be appended to: {}{}", error.cause, error.place))
    };
    let kind = source::source_named(kind).expect("a kind of this program");
    let mut source = source::Input::open(path).and_then(kind.open).map_err(refused)?;
    let (mut batch, mut count) = (Observations::default(), 0);
    while source.read(&mut batch).map_err(refused)? {
        count += batch.records.len() as u64;
        let records = batch.records.drain(..).map(Item::from);
        let bytes = batch.attachments.drain(..).map(|(_, attachment)| Item::from(attachment));
        let pushed = records.chain(bytes).try_for_each(|item| sorter.push(item));
        pushed.map_err(|error| SinkError::from_io("append to", &object, &error))?;
    }
    Ok(count)
}

struct Grouped<H> {
    output: Output,
    format: H,
    sorter: Sorter,
    /// The file; `None` for standard output and pipes.
    path: Option<PathBuf>,
    /// Records taken.
    given: u64,
    /// Entries in the file.
    hosts: u64,
    manifest: Option<Manifest>,
    failed: bool,
}

impl<H: Hosts> Grouped<H> {
    fn take(&mut self, item: Item) -> Result<(), SinkError> {
        let is_file = self.path.is_some();
        if is_file {
            let mut text = Vec::with_capacity(512);
            self.format.host(std::slice::from_ref(&item), &mut text);
            let full =
                if item.bytes.is_some() { self.output.addition(&text) } else { self.output.bytes(&text) };
            self.hosts += 1;
            if full {
                self.flush()?;
            }
        }
        self.sorter.push(item).map_err(|error| SinkError::from_io("sort", self.output.object(), &error))
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        let mut ending = Vec::new();
        if let Some(manifest) = self.manifest.as_ref().filter(|_| H::DOCUMENT && self.path.is_some()) {
            self.format.end(manifest, self.hosts, &mut ending);
        }
        self.output.flush(&ending)
    }

    fn noted<T>(&mut self, result: Result<T, SinkError>) -> Result<T, SinkError> {
        self.failed |= result.is_err();
        result
    }
}

impl<H: Hosts> Sink for Grouped<H> {
    fn begin(&mut self, manifest: &Manifest) -> Result<(), SinkError> {
        self.manifest = Some(manifest.clone());
        if self.path.is_none() {
            return Ok(());
        }
        if self.output.is_fresh() {
            let mut text = Vec::new();
            self.format.begin(manifest, &mut text);
            self.output.preamble(&text);
        }
        let result = self.flush();
        self.noted(result)
    }

    fn write(&mut self, records: &[Record]) -> Result<(), SinkError> {
        self.given += records.len() as u64;
        let result = records.iter().try_for_each(|record| self.take((*record).into()));
        self.noted(result)
    }

    fn attach(&mut self, record: &Record, key: &str, bytes: &Untrusted) -> Result<(), SinkError> {
        let attachment = Attachment { record: *record, key: key.into(), bytes: bytes.clone() };
        let result = self.take(attachment.into());
        self.noted(result)
    }

    fn commit(&mut self) -> Result<u64, SinkError> {
        if self.path.is_some() && self.output.is_waiting() {
            let result = self.flush();
            self.noted(result)?;
        }
        Ok(self.safe())
    }

    /// On standard output nothing can be safe before the end. What the sorter holds counts all the same, so that the
    /// account tells what was lost only if the end fails, which is an error of its own.
    fn safe(&self) -> u64 {
        if self.path.is_some() || self.failed { self.output.safe() } else { self.given }
    }

    fn finish(mut self: Box<Self>, manifest: &Manifest) -> Result<(), SinkError> {
        let mut ending = Vec::new();
        if self.failed {
            // What stands there is valid as it is, and better than what a second failure would leave.
            if H::DOCUMENT && self.path.is_some() {
                self.format.end(manifest, self.hosts, &mut ending);
            }
            return self.output.finish(&ending);
        }
        let Grouped { mut output, mut format, sorter, path, .. } = *self;
        let object = output.object().to_owned();
        let failed = |error: io::Error| SinkError::from_io("write to", &object, &error);
        let merged = sorter.finish().map_err(failed)?;
        let Some(path) = path else {
            let mut text = Vec::new();
            format.begin(manifest, &mut text);
            let hosts = each_host(merged, |items| {
                format.host(items, &mut text);
                if output.addition(&text) {
                    output.flush(b"").map_err(|error| error.into_io())?;
                }
                text.clear();
                Ok(())
            })
            .map_err(failed)?;
            output.preamble(&text);
            format.end(manifest, hosts, &mut ending);
            return output.finish(&ending);
        };
        output.finish(b"")?;
        replace(&path, |file| {
            let mut text = Vec::new();
            format.begin(manifest, &mut text);
            let hosts = each_host(merged, |items| {
                format.host(items, &mut text);
                if FLUSH_BYTES <= text.len() {
                    file.write_all(&text)?;
                    text.clear();
                }
                Ok(())
            })?;
            format.end(manifest, hosts, &mut text);
            file.write_all(&text)
        })
        .map_err(failed)
    }
}

/// Calls `write` with everything about each address; returns how many there are.
fn each_host(mut merged: Merged, mut write: impl FnMut(&[Item]) -> io::Result<()>) -> io::Result<u64> {
    let mut items: Vec<Item> = Vec::new();
    let mut address: Option<IpAddr> = None;
    let mut hosts = 0;
    loop {
        let next = merged.next()?;
        let same = next.as_ref().is_some_and(|item| Some(item.record.address()) == address);
        if !same && !items.is_empty() {
            write(&items)?;
            hosts += 1;
            items.clear();
        }
        let Some(item) = next else { return Ok(hosts) };
        address = Some(item.record.address());
        items.push(item);
    }
}

/// Writes a new file beside the old one and puts it in its place at once.
fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".merging");
    let temporary = PathBuf::from(name);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = create_exclusive(&temporary)?;
    let written = write(&mut file).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    // A directory that may be written to but not read cannot be synced; the file itself is safe.
    if let Ok(directory) = File::open(directory(path)) {
        let _ = directory.sync_all();
    }
    Ok(())
}

const FLUSH_BYTES: usize = 256 * 1024;
