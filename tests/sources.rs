//! Every source: what a sink wrote is read back equal, whole or cut off at any byte, packed or not; and hostile files
//! are an error that names file and place, never a panic and never much memory.

mod samples;

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use samples::{manifest, samples};
use swath::event::{Observations, Record, Status};
use swath::sink::{Place, SinkKind, sink_named};
use swath::source::{self, Input, SOURCES, SourceError, SourceKind};

/// The sink that writes what a source reads.
fn writer_of(kind: &SourceKind) -> Option<&'static SinkKind> {
    sink_named(kind.name)
}

fn write_all(kind: &SinkKind, path: &Path, records: &[Record]) {
    let place = Place { path: path.to_owned(), ..Place::default() };
    let mut sink = (kind.open)(&place).expect("opens");
    sink.begin(&manifest(Status::Running)).expect("begins");
    sink.write(records).expect("writes");
    sink.commit().expect("commits");
    sink.finish(&manifest(Status::Complete)).expect("finishes");
}

/// Everything a source reads, and its remarks.
fn read(argument: &str) -> Result<(Observations, Vec<String>), SourceError> {
    let mut source = source::open(argument)?;
    let (mut all, mut batch) = (Observations::default(), Observations::default());
    while source.read(&mut batch)? {
        assert!(!batch.is_empty() && batch.len() <= source::BATCH);
        let before = all.records.len();
        all.attachments.extend(batch.attachments.drain(..).map(|(at, bytes)| (before + at, bytes)));
        all.records.append(&mut batch.records);
    }
    assert!(batch.is_empty());
    Ok((all, source.remarks()))
}

fn read_bytes(kind: &SourceKind, bytes: &[u8]) -> Result<Observations, SourceError> {
    let input = Input::from_reader("test", None, Box::new(Cursor::new(bytes.to_vec())))?;
    let mut source = (kind.open)(input)?;
    let (mut all, mut batch) = (Observations::default(), Observations::default());
    while source.read(&mut batch)? {
        all.records.append(&mut batch.records);
    }
    Ok(all)
}

/// What is left of a record in a format: times are stored in microseconds by swath's own formats.
fn stored(kind: &SourceKind, record: &Record) -> Record {
    let _ = kind;
    let mut stored = *record;
    stored.time_ns -= stored.time_ns % 1000;
    // Numbers above every reason this version knows have no name; only a database keeps them.
    if kind.name != "sqlite" && stored.reason.name() == "unknown-response" {
        stored.reason = swath::event::Reason(0);
    }
    if record.address().is_ipv6() {
        stored.ip_id = 0;
    }
    stored
}

/// swath's own formats, which keep every fact.
fn exact() -> impl Iterator<Item = (&'static SourceKind, &'static SinkKind)> {
    let own = ["ndjson", "csv", "sqlite"];
    SOURCES
        .iter()
        .filter(move |kind| own.contains(&kind.name))
        .filter_map(|kind| Some((kind, writer_of(kind)?)))
}

#[test]
fn what_our_own_formats_hold_is_read_back_equal() {
    assert_eq!(exact().count(), 3);
    for (kind, sink) in exact() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("results");
        let records: Vec<Record> = samples().repeat(1000);
        write_all(sink, &path, &records);
        let (read, remarks) = read(path.to_str().expect("text")).expect("reads");
        let expected: Vec<Record> = records.iter().map(|record| stored(kind, record)).collect();
        assert_eq!(read.records.len(), expected.len(), "{}", kind.name);
        for (read, expected) in read.records.iter().zip(&expected) {
            assert_eq!(read, expected, "{}", kind.name);
        }
        assert!(remarks.is_empty() && read.attachments.is_empty());
    }
}

#[test]
fn a_file_cut_off_at_any_byte_is_read_up_to_the_last_whole_record() {
    for (kind, sink) in exact().filter(|(kind, _)| kind.name != "sqlite") {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("results");
        write_all(sink, &path, &samples());
        let whole = fs::read(&path).expect("reads");
        let header = usize::from(kind.name == "csv");
        for length in 1..whole.len() {
            fs::write(&path, &whole[..length]).expect("writes");
            let argument = format!("{}:{}", kind.name, path.display());
            let lines = whole[..length].iter().filter(|byte| **byte == b'\n').count();
            match read(&argument) {
                Ok((read, remarks)) => {
                    let records = read.records.len();
                    let torn = whole[length - 1] != b'\n';
                    // The last line may be whole but for its end.
                    let expected = lines.saturating_sub(header);
                    assert!(
                        records == expected || (torn && records == expected + 1),
                        "{} {length}",
                        kind.name
                    );
                    if header <= lines {
                        assert_eq!(remarks.len(), usize::from(torn && records == expected), "{length}");
                    }
                }
                Err(error) => assert!(lines < header, "{length}: {error}"),
            }
        }
    }
}

#[test]
fn packed_files_are_read_whatever_their_name() {
    for (kind, sink) in exact().filter(|(kind, _)| kind.name != "sqlite") {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("results");
        write_all(sink, &path, &samples());
        let plain = fs::read(&path).expect("reads");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).expect("memory");
        for packed in [gzip.finish().expect("memory"), zstd::encode_all(&plain[..], 1).expect("memory")] {
            fs::write(&path, &packed).expect("writes");
            let (read_back, _) = read(path.to_str().expect("text")).expect("reads");
            assert_eq!(read_back.records.len(), samples().len(), "{}", kind.name);
            fs::write(&path, &packed[..packed.len() - 3]).expect("writes");
            let argument = format!("{}:{}", kind.name, path.display());
            let (read_back, remarks) = read(&argument).expect("reads");
            assert!(read_back.records.len() <= samples().len() && remarks.len() == 1, "{remarks:?}");
        }
    }
}

#[test]
fn a_broken_line_is_named_by_file_and_number() {
    for (kind, sink) in exact().filter(|(kind, _)| kind.name != "sqlite") {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("results");
        write_all(sink, &path, &samples());
        let mut text = fs::read_to_string(&path).expect("reads");
        text.push_str("\u{1b}[2Jgarbage\n");
        fs::write(&path, &text).expect("writes");
        let error = read(path.to_str().expect("text")).map(|_| ()).expect_err(kind.name).to_string();
        let line = text.lines().count();
        assert!(error.contains("results") && error.contains(&format!("line {line}: ")), "{error}");
        assert!(!error.chars().any(char::is_control), "{error:?}");
    }
}

#[test]
fn noise_is_an_error_or_empty_and_never_a_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for kind in SOURCES.iter().filter(|kind| kind.name != "sqlite") {
        for _ in 0..500 {
            let length = usize::try_from(random() % 600).expect("small");
            let noise: Vec<u8> = (0..length).map(|_| random().to_le_bytes()[0]).collect();
            if let Err(error) = read_bytes(kind, &noise) {
                assert!(!error.to_string().chars().any(char::is_control), "{error}");
            }
        }
    }
}

#[test]
fn a_file_of_no_kind_is_refused_with_the_kinds() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x");
    for text in ["", "hello\n", "%PDF-1.7\n"] {
        fs::write(&path, text).expect("writes");
        let error = source::open(path.to_str().expect("text")).map(|_| ()).expect_err("refused").to_string();
        assert!(error.contains("KIND:PATH"), "{error}");
    }
    let missing = directory.path().join("missing");
    assert!(source::open(missing.to_str().expect("text")).is_err());
    assert!(source::open(directory.path().to_str().expect("text")).is_err());
}
