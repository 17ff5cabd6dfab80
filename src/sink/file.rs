//! The one way sinks create files and write to them: exclusive, private, symbolic links never followed, flushed
//! only at the end of a record.
//!
//! Invariant: nothing here knows a format; a record is whatever ends in a newline.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::format::{LINE_BYTES, Line};
use super::{Existing, Place, SinkError};

/// Bytes collected before they are handed to the kernel: a thousand records or more a system call.
const BUFFER_BYTES: usize = 256 * 1024;

/// How long to wait before writing again to an output that somebody else set to non-blocking.
const RETRY: Duration = Duration::from_millis(1);

/// A buffered output of lines. Each line is one record, except those written by [`Output::preamble`].
pub(crate) struct Output {
    file: File,
    object: String,
    /// Where the file is; `None` for standard output, pipes and devices.
    path: Option<PathBuf>,
    buffer: Box<[u8]>,
    used: usize,
    /// Records in the buffer.
    waiting: u64,
    safe: u64,
}

impl Output {
    /// Opens a place for lines. Fails when it cannot be written to.
    pub(crate) fn open(place: &Place) -> Result<Output, SinkError> {
        if place.stdout {
            let object = "standard output".to_owned();
            let file = io::stdout().as_fd().try_clone_to_owned();
            let file = file.map_err(|error| SinkError::from_io("open", &object, &error))?;
            return Ok(Output::new(file.into(), None, object));
        }
        let object = shown(&place.path);
        let file = match create_exclusive(&place.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open_existing(place, &object)?,
            Err(error) => return Err(SinkError::from_io("create", &object, &error)),
        };
        let path = is_regular(&file).then(|| place.path.clone());
        Ok(Output::new(file, path, object))
    }

    fn new(file: File, path: Option<PathBuf>, object: String) -> Output {
        let buffer = vec![0; BUFFER_BYTES + LINE_BYTES].into_boxed_slice();
        Output { file, object, path, buffer, used: 0, waiting: 0, safe: 0 }
    }

    /// Whether nothing stands in the file yet. True for what is no regular file.
    pub(crate) fn is_fresh(&self) -> bool {
        !self.file.metadata().is_ok_and(|metadata| metadata.is_file() && 0 < metadata.len())
    }

    /// Writes text that is no record (a header line) straight through.
    pub(crate) fn preamble(&mut self, text: &str) -> Result<(), SinkError> {
        self.buffer[..text.len()].copy_from_slice(text.as_bytes());
        self.used = text.len();
        self.flush()
    }

    /// Appends one record, which `encode` writes and ends with a newline.
    #[inline]
    pub(crate) fn record(&mut self, encode: impl FnOnce(&mut Line<'_>)) -> Result<(), SinkError> {
        let room: &mut [u8] = &mut self.buffer[self.used..self.used + LINE_BYTES];
        let mut line = Line::new(room.try_into().expect("as long as a line"));
        encode(&mut line);
        self.used += line.len();
        self.waiting += 1;
        if BUFFER_BYTES <= self.used { self.flush() } else { Ok(()) }
    }

    /// Hands everything to the kernel. After an error the records that did not get through are discarded, a
    /// record that got through in part is cut off again where the output is a file, and [`Output::safe`] is exact.
    pub(crate) fn flush(&mut self) -> Result<(), SinkError> {
        let mut done = 0;
        let mut result = Ok(());
        while done < self.used {
            match self.file.write(&self.buffer[done..self.used]) {
                Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY),
                Err(error) => result = Err(error),
            }
            if result.is_err() {
                self.waiting = self.waiting.min(count_newlines(&self.buffer[..done]));
                self.cut_torn_record(done);
                break;
            }
        }
        self.safe += self.waiting;
        self.waiting = 0;
        self.used = 0;
        result.map_err(|error: io::Error| SinkError::from_io("write to", &self.object, &error))
    }

    /// Shortens the file by what stands behind the last newline of the first `done` bytes of the buffer.
    fn cut_torn_record(&mut self, done: usize) {
        let whole = self.buffer[..done].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let torn = (done - whole) as u64;
        if self.path.is_some() && 0 < torn {
            // Best effort: the caller already reports why the write failed.
            if let Ok(metadata) = self.file.metadata() {
                let _ = self.file.set_len(metadata.len().saturating_sub(torn));
            }
        }
    }

    /// Number of records the kernel has: what survives when this process is killed.
    pub(crate) fn safe(&self) -> u64 {
        self.safe
    }

    /// Flushes, and waits until the disk has everything, the directory entry included.
    pub(crate) fn finish(mut self) -> Result<(), SinkError> {
        self.flush()?;
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
fn open_existing(place: &Place, object: &str) -> Result<File, SinkError> {
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
        Existing::Append if kind.is_file() => append(path, object),
        _ if kind.is_file() => {
            let cause = "it exists; --append-output adds to it, --force replaces it";
            Err(SinkError::refused(object, cause))
        }
        _ => Err(SinkError::refused(object, "it is not a file")),
    }
}

fn append(path: &Path, object: &str) -> Result<File, SinkError> {
    let mut file = open_for_writing(path, fs::FileType::is_file, object)?;
    let failed = |error: io::Error| SinkError::from_io("append to", object, &error);
    match torn_tail(&mut file).map_err(failed)? {
        None => Err(SinkError::refused(object, "its last line is not one that swath wrote: it never ends")),
        Some(0) => Ok(file),
        Some(torn) => {
            let length = file.metadata().map_err(failed)?.len();
            file.set_len(length - torn).map_err(failed)?;
            Ok(file)
        }
    }
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

/// How many bytes stand behind the last newline: the part of a record that a crash left. `None` when that is
/// longer than any record, so the file cannot be ours.
fn torn_tail(file: &mut File) -> io::Result<Option<u64>> {
    let length = file.metadata()?.len();
    let start = length.saturating_sub(LINE_BYTES as u64);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::with_capacity(LINE_BYTES);
    file.take(LINE_BYTES as u64).read_to_end(&mut tail)?;
    let torn = match tail.iter().rposition(|byte| *byte == b'\n') {
        Some(at) => tail.len() - at - 1,
        None if start == 0 => tail.len(),
        None => return Ok(None),
    };
    Ok(Some(torn as u64))
}

fn count_newlines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn place(path: &Path, existing: Existing) -> Place {
        Place { path: path.to_owned(), stdout: false, existing }
    }

    fn refusal(path: &Path, existing: Existing) -> String {
        match Output::open(&place(path, existing)) {
            Ok(_) => panic!("{} was opened", path.display()),
            Err(error) => error.to_string(),
        }
    }

    /// Writes the lines and closes the file.
    fn write(path: &Path, existing: Existing, lines: &[&str]) {
        let mut output = Output::open(&place(path, existing)).expect("opens");
        for line in lines {
            output.record(|record| record.text(line)).expect("room");
        }
        output.finish().expect("finishes");
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
        assert!(refusal(&path, Existing::Append).contains("last line"));
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
        let mut output = Output::open(&place(Path::new("/dev/full"), Existing::Refuse)).expect("opens");
        output.record(|record| record.text("a\n")).expect("is buffered");
        let error = output.flush().expect_err("the device is full");
        assert_eq!((error.operation, error.object.as_str()), ("write to", "/dev/full"));
        assert_eq!(output.safe(), 0);
        output.flush().expect("nothing is left to write");
    }

    #[test]
    fn names_of_files_are_shown_without_control_characters() {
        assert_eq!(shown(Path::new("a\u{1b}[2Jb\n/ü")), "a\\u{1b}[2Jb\\n/ü");
    }
}
