//! The one way sinks create files and write to them: exclusive, private, symbolic links never followed, flushed
//! only at the end of a record.
//!
//! Invariant: nothing here knows a format; a record is what one call appends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::format::{LINE_BYTES, Line};
use super::{Existing, Packing, Place, SinkError};

/// Bytes collected before they are handed to the kernel: a thousand records or more a system call.
const BUFFER_BYTES: usize = 256 * 1024;

/// How much of the end of a file a format looks at before it appends.
const TAIL_BYTES: u64 = 64 * 1024;

/// How long to wait before writing again to an output that somebody else set to non-blocking.
const RETRY: Duration = Duration::from_millis(1);

/// What a format makes of the end of a file that exists: how many bytes of it stay, the rest being the end of a
/// document or the part of a record that a crash left. `None` when the file cannot be of the format. The flag says
/// whether the tail is the whole file.
pub(crate) type Resume<'a> = &'a mut dyn FnMut(&[u8], bool) -> Option<usize>;

/// A buffered output of records. In a compressed one every flush is a gzip member or a Zstandard frame of its own, so
/// that what was flushed can be decompressed whatever happens later.
///
/// A document is a file whose end must stand in it at any time. Each flush then writes the new records over the old
/// end, and the end behind them, in one call.
pub(crate) struct Output {
    file: File,
    object: String,
    /// Where the file is; `None` for standard output, pipes and devices.
    path: Option<PathBuf>,
    packing: Packing,
    /// Longer than what is used of it by a line at least.
    buffer: Vec<u8>,
    used: usize,
    /// Where the records in the buffer end.
    ends: Vec<u32>,
    safe: u64,
    /// For a document in a file: where the next record goes.
    position: Option<u64>,
    /// What stands there, as it was written.
    standing: Vec<u8>,
}

impl Output {
    /// Opens a place for records one behind the other. Fails when it cannot be written to.
    pub(crate) fn open(place: &Place, resume: Resume<'_>) -> Result<Output, SinkError> {
        if place.stdout {
            let object = "standard output".to_owned();
            let file = io::stdout().as_fd().try_clone_to_owned();
            let file = file.map_err(|error| SinkError::from_io("open", &object, &error))?;
            return Ok(Output::new(file.into(), None, object, place.packing));
        }
        let object = shown(&place.path);
        let file = match create_exclusive(&place.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                open_existing(place, &object, resume)?
            }
            Err(error) => return Err(SinkError::from_io("create", &object, &error)),
        };
        let path = is_regular(&file).then(|| place.path.clone());
        Ok(Output::new(file, path, object, place.packing))
    }

    /// Opens a place for a document. On what is no file it is written as a stream.
    pub(crate) fn open_document(place: &Place, resume: Resume<'_>) -> Result<Output, SinkError> {
        let mut output = Output::open(place, resume)?;
        if let Some(path) = &output.path {
            // Opened again without O_APPEND, by which Linux would ignore the position (pwrite(2), "BUGS").
            let failed = |error: io::Error| SinkError::from_io("open", &output.object, &error);
            let file =
                OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(path).map_err(failed)?;
            output.position = Some(file.metadata().map_err(failed)?.len());
            output.file = file;
        }
        Ok(output)
    }

    fn new(file: File, path: Option<PathBuf>, object: String, packing: Packing) -> Output {
        let buffer = vec![0; BUFFER_BYTES + LINE_BYTES];
        Output {
            file,
            object,
            path,
            packing,
            buffer,
            used: 0,
            ends: Vec::new(),
            safe: 0,
            position: None,
            standing: Vec::new(),
        }
    }

    /// Whether nothing stands in the file yet. True for what is no regular file.
    pub(crate) fn is_fresh(&self) -> bool {
        !self.file.metadata().is_ok_and(|metadata| metadata.is_file() && 0 < metadata.len())
    }

    /// Whether it is a file, in which what is written can be overwritten.
    pub(crate) fn is_file(&self) -> bool {
        self.path.is_some()
    }

    /// Takes what is no record (a header line): it goes out with the next flush.
    pub(crate) fn preamble(&mut self, text: &[u8]) {
        self.append(text);
    }

    /// Appends one record, which `encode` writes. Flush when it says that the buffer is full.
    #[inline]
    pub(crate) fn record(&mut self, encode: impl FnOnce(&mut Line<'_>)) -> bool {
        let room: &mut [u8] = &mut self.buffer[self.used..self.used + LINE_BYTES];
        let mut line = Line::new(room.try_into().expect("as long as a line"));
        encode(&mut line);
        self.used += line.len();
        self.ends.push(u32::try_from(self.used).unwrap_or(u32::MAX));
        BUFFER_BYTES <= self.used
    }

    /// Appends one record of any length. Flush when it says that the buffer is full.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> bool {
        self.append(bytes);
        self.ends.push(u32::try_from(self.used).unwrap_or(u32::MAX));
        BUFFER_BYTES <= self.used
    }

    /// The output as messages name it.
    pub(crate) fn object(&self) -> &str {
        &self.object
    }

    /// Appends what is about a record that was written before, and no record of its own. Flush when it says that the
    /// buffer is full.
    pub(crate) fn addition(&mut self, bytes: &[u8]) -> bool {
        self.append(bytes);
        BUFFER_BYTES <= self.used
    }

    fn append(&mut self, bytes: &[u8]) {
        let end = self.used + bytes.len();
        if self.buffer.len() < end + LINE_BYTES {
            self.buffer.resize(end + LINE_BYTES, 0);
        }
        self.buffer[self.used..end].copy_from_slice(bytes);
        self.used = end;
    }

    /// Whether a flush would write anything.
    pub(crate) fn is_waiting(&self) -> bool {
        0 < self.used
    }

    /// Hands everything to the kernel, and behind it `ending`, over which the next flush of a document writes. After an
    /// error the records that did not get through are discarded, a record that got through in part is cut off again
    /// where the output is a file, and [`Output::safe`] is exact.
    pub(crate) fn flush(&mut self, ending: &[u8]) -> Result<(), SinkError> {
        let failed = |error: &io::Error| SinkError::from_io("write to", &self.object, error);
        let packed = self.packed(ending).map_err(|error| failed(&error))?;
        let (bytes, records_end) = match &packed {
            Some((bytes, records_end)) => (&bytes[..], *records_end),
            None => {
                let records_end = self.used;
                self.append(ending);
                (&self.buffer[..self.used], records_end)
            }
        };
        let (done, result) = write(&self.file, bytes, self.position);
        let ending_length = bytes.len() - records_end;
        // An end must follow what is kept, and there is room only for as much as got through.
        let room = if self.position.is_some() { done.saturating_sub(ending_length) } else { done };
        let (kept, through) = match &result {
            Ok(()) => (records_end, self.ends.len()),
            // A compressed flush is all or nothing.
            _ if packed.is_some() => (0, 0),
            _ => {
                let through = self.ends.partition_point(|end| *end as usize <= room);
                (through.checked_sub(1).map_or(0, |last| self.ends[last] as usize), through)
            }
        };
        let ending = bytes[records_end..].to_vec();
        if result.is_err() {
            self.cut(kept, done, ending);
        } else if let Some(position) = self.position {
            let end = position + bytes.len() as u64;
            if self.file.metadata().is_ok_and(|metadata| end < metadata.len()) {
                let _ = self.file.set_len(end);
            }
            self.standing = ending;
        }
        self.position = self.position.map(|position| position + kept as u64);
        self.safe += through as u64;
        self.ends.clear();
        self.used = 0;
        result.map_err(|error| SinkError::from_io("write to", &self.object, &error))
    }

    /// The buffer and the ending, each compressed on its own, and where the first ends; `None` without compression.
    fn packed(&self, ending: &[u8]) -> io::Result<Option<(Vec<u8>, usize)>> {
        if self.packing == Packing::None {
            return Ok(None);
        }
        let mut bytes = pack(self.packing, &self.buffer[..self.used])?;
        let records_end = bytes.len();
        bytes.append(&mut pack(self.packing, ending)?);
        Ok(Some((bytes, records_end)))
    }

    /// Shortens a file by what a failed write of `done` bytes left behind the first `kept`, and ends a document again:
    /// with `ending` behind new records, with what stood there before when there is none.
    fn cut(&mut self, kept: usize, done: usize, ending: Vec<u8>) {
        // Best effort: the caller already reports why the write failed.
        let Some(length) = self.path.as_ref().and_then(|_| Some(self.file.metadata().ok()?.len())) else {
            return;
        };
        let Some(position) = self.position else {
            let end = length.saturating_sub((done - kept) as u64);
            let _ = self.file.set_len(end);
            // What comes next would otherwise leave a hole.
            let _ = (&self.file).seek(SeekFrom::Start(end));
            return;
        };
        if 0 < kept {
            self.standing = ending;
        }
        let end = position + kept as u64;
        let _ = self.file.write_all_at(&self.standing, end);
        let _ = self.file.set_len(end + self.standing.len() as u64);
    }

    /// Number of records the kernel has: what survives when this process is killed.
    pub(crate) fn safe(&self) -> u64 {
        self.safe
    }

    /// Flushes with the ending, and waits until the disk has everything, the directory entry included.
    pub(crate) fn finish(mut self, ending: &[u8]) -> Result<(), SinkError> {
        if self.is_waiting() || !ending.is_empty() {
            self.flush(ending)?;
        }
        if is_regular(&self.file) {
            self.file.sync_all().map_err(|error| SinkError::from_io("sync", &self.object, &error))?;
        }
        // A directory that may be written to but not read cannot be synced; the file itself is safe.
        if let Some(Ok(directory)) = self.path.as_deref().map(directory).map(File::open) {
            let _ = directory.sync_all();
        }
        Ok(())
    }
}

/// A compressed stream of its own, or the bytes as they are; nothing stays nothing.
fn pack(packing: Packing, bytes: &[u8]) -> io::Result<Vec<u8>> {
    match packing {
        _ if bytes.is_empty() => Ok(Vec::new()),
        Packing::None => Ok(bytes.to_vec()),
        Packing::Gzip => {
            let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            member.write_all(bytes)?;
            member.finish()
        }
        Packing::Zstd => zstd::encode_all(bytes, 3),
    }
}

/// Writes all of it, at a position or where the file stands. Returns how many bytes got through.
fn write(mut file: &File, bytes: &[u8], position: Option<u64>) -> (usize, io::Result<()>) {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &bytes[done..];
        let result = match position {
            Some(position) => file.write_at(rest, position + done as u64),
            None => file.write(rest),
        };
        match result {
            Ok(0) => return (done, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}

fn is_regular(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file())
}

pub(crate) use crate::store::create_exclusive;

/// Removes what stands at `path` (a link, never what it points to) and creates a file there.
pub(crate) fn replace(path: &Path, object: &str) -> Result<File, SinkError> {
    let failed = |error: io::Error| SinkError::from_io("replace", object, &error);
    fs::remove_file(path).map_err(failed)?;
    create_exclusive(path).map_err(failed)
}

pub(crate) use crate::store::directory;

/// A path for people: control characters and what is no Unicode are escaped.
pub(crate) fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    let escape = |character: char| {
        let (plain, escaped) = match character.is_control() {
            true => (None, Some(character.escape_default())),
            false => (Some(character), None),
        };
        plain.into_iter().chain(escaped.into_iter().flatten())
    };
    text.chars().flat_map(escape).collect()
}

/// Opens what already stands at the place: a pipe or a device as it is, a file as the user said.
fn open_existing(place: &Place, object: &str, resume: Resume<'_>) -> Result<File, SinkError> {
    let path = &place.path;
    let kind =
        fs::symlink_metadata(path).map_err(|error| SinkError::from_io("open", object, &error))?.file_type();
    if kind.is_fifo() || kind.is_char_device() {
        return open_for_writing(path, |kind| !kind.is_file(), object);
    }
    match place.existing {
        Existing::Replace if kind.is_file() || kind.is_symlink() => replace(path, object),
        _ if kind.is_symlink() => {
            Err(SinkError::refused(object, "it is a symbolic link, and those are not followed"))
        }
        Existing::Append if kind.is_file() && place.packing != Packing::None => {
            let cause = "nothing is appended to a compressed file; write another, and join the two with cat";
            Err(SinkError::refused(object, cause))
        }
        Existing::Append if kind.is_file() => append(path, object, resume),
        _ if kind.is_file() => {
            let cause = "it exists; --append-output adds to it, --force replaces it";
            Err(SinkError::refused(object, cause))
        }
        _ => Err(SinkError::refused(object, "it is not a file")),
    }
}

fn append(path: &Path, object: &str, resume: Resume<'_>) -> Result<File, SinkError> {
    let mut file = open_for_writing(path, fs::FileType::is_file, object)?;
    let failed = |error: io::Error| SinkError::from_io("append to", object, &error);
    let length = file.metadata().map_err(failed)?.len();
    let start = length.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start)).map_err(failed)?;
    let mut tail = Vec::new();
    Read::by_ref(&mut file).take(TAIL_BYTES).read_to_end(&mut tail).map_err(failed)?;
    let kept = if tail.is_empty() { Some(0) } else { resume(&tail, start == 0) };
    let kept =
        kept.ok_or_else(|| SinkError::refused(object, "its end is not what swath writes in this format"))?;
    if kept < tail.len() {
        file.set_len(start + kept as u64).map_err(failed)?;
    }
    Ok(file)
}

/// Opens what must not be created, and checks that it still is what it was.
fn open_for_writing(path: &Path, is: fn(&fs::FileType) -> bool, object: &str) -> Result<File, SinkError> {
    let failed = |error: io::Error| SinkError::from_io("open", object, &error);
    let regular = is_regular_before_open(path);
    let mut options = OpenOptions::new();
    options.append(true).read(regular).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(path).map_err(failed)?;
    let kind = file.metadata().map_err(failed)?.file_type();
    if is(&kind) { Ok(file) } else { Err(SinkError::refused(object, "it changed while it was opened")) }
}

/// Files are opened for reading too, to look at their last line; a pipe opened both ways would never see its
/// reader leave.
fn is_regular_before_open(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// How a file of lines goes on: behind its last newline. `None` when what stands there is longer than any record, so
/// that the file cannot be ours.
pub(crate) fn resume_lines(tail: &[u8], whole: bool) -> Option<usize> {
    match tail.iter().rposition(|byte| *byte == b'\n') {
        Some(at) => Some(at + 1),
        None => (whole && tail.len() <= LINE_BYTES).then_some(0),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn place(path: &Path, existing: Existing) -> Place {
        Place { path: path.to_owned(), existing, ..Place::default() }
    }

    fn refusal(path: &Path, existing: Existing) -> String {
        match Output::open(&place(path, existing), &mut resume_lines) {
            Ok(_) => panic!("{} was opened", path.display()),
            Err(error) => error.to_string(),
        }
    }

    /// Writes the lines and closes the file.
    fn write(path: &Path, existing: Existing, lines: &[&str]) {
        let mut output = Output::open(&place(path, existing), &mut resume_lines).expect("opens");
        for line in lines {
            output.record(|record| record.text(line));
        }
        output.finish(b"").expect("finishes");
    }

    #[test]
    fn a_new_file_is_private() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("new");
        write(&path, Existing::Refuse, &["a\n"]);
        assert_eq!(fs::metadata(&path).expect("exists").mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_file_that_exists_is_refused_and_the_error_names_the_ways_out() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("old");
        fs::write(&path, "precious\n").expect("writes");
        let text = refusal(&path, Existing::Refuse);
        assert!(text.contains("--append-output") && text.contains("--force"), "{text}");
        assert_eq!(fs::read_to_string(&path).expect("reads"), "precious\n");
    }

    #[test]
    fn appending_keeps_what_is_there_and_replacing_does_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("old");
        fs::write(&path, "old\n").expect("writes");
        write(&path, Existing::Append, &["new\n"]);
        assert_eq!(fs::read_to_string(&path).expect("reads"), "old\nnew\n");
        write(&path, Existing::Replace, &["newer\n"]);
        assert_eq!(fs::read_to_string(&path).expect("reads"), "newer\n");
        assert_eq!(fs::metadata(&path).expect("exists").mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_symbolic_link_is_never_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (victim, link) = (directory.path().join("victim"), directory.path().join("link"));
        fs::write(&victim, "precious\n").expect("writes");
        symlink(&victim, &link).expect("links");
        for existing in [Existing::Refuse, Existing::Append] {
            let text = refusal(&link, existing);
            assert!(text.contains("symbolic link"), "{text}");
        }
        write(&link, Existing::Replace, &["new\n"]);
        assert_eq!(fs::read_to_string(&victim).expect("reads"), "precious\n");
        assert!(fs::symlink_metadata(&link).expect("exists").is_file(), "the link was replaced");
        fs::remove_file(&link).expect("removes");
        symlink(directory.path().join("nowhere"), &link).expect("links");
        assert!(refusal(&link, Existing::Refuse).contains("symbolic link"));
    }

    #[test]
    fn appending_cuts_off_the_part_of_a_record_that_a_crash_left() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("torn");
        for (before, after) in [("a\nb\nto", "a\nb\nnew\n"), ("to", "new\n"), ("", "new\n")] {
            fs::write(&path, before).expect("writes");
            write(&path, Existing::Append, &["new\n"]);
            assert_eq!(fs::read_to_string(&path).expect("reads"), after);
        }
        fs::write(&path, "x".repeat(LINE_BYTES + 1)).expect("writes");
        assert!(refusal(&path, Existing::Append).contains("its end"));
    }

    #[test]
    fn places_that_cannot_hold_a_file_are_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let missing = directory.path().join("missing/file");
        let text = refusal(&missing, Existing::Refuse);
        assert!(text.starts_with("cannot create") && text.contains("missing/file"), "{text}");
        for existing in [Existing::Refuse, Existing::Append, Existing::Replace] {
            assert!(refusal(directory.path(), existing).contains("not a file"));
        }
    }

    #[test]
    fn a_failed_flush_tells_exactly_how_many_records_got_through() {
        let place = place(Path::new("/dev/full"), Existing::Refuse);
        let mut output = Output::open(&place, &mut resume_lines).expect("opens");
        output.record(|record| record.text("a\n"));
        let error = output.flush(b"").expect_err("the device is full");
        assert_eq!((error.operation, error.object.as_str()), ("write to", "/dev/full"));
        assert_eq!(output.safe(), 0);
        output.flush(b"").expect("nothing is left to write");
    }

    #[test]
    fn names_of_files_are_shown_without_control_characters() {
        assert_eq!(shown(Path::new("a\u{1b}[2Jb\n/ü")), "a\\u{1b}[2Jb\\n/ü");
    }
}
