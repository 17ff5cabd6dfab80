//! What every sink promises: golden files, private files, valid without a record, errors at a full device.

use super::standing::*;
use super::*;

#[test]
fn every_sink_writes_what_its_golden_file_holds() {
    for kind in local() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("results");
        write_all(kind, &path, &samples_of(kind));
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sink/golden").join(kind.name);
        if std::env::var_os("SWATH_BLESS").is_some() {
            fs::write(&golden, rendered(&path)).expect("writes");
        }
        let expected =
            fs::read_to_string(&golden).expect("a golden file; SWATH_BLESS=1 writes it, then read it");
        assert_eq!(rendered(&path), expected, "{}", kind.name);
    }
}

#[test]
fn every_file_is_private() {
    for kind in filed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("results");
        let mut sink = open(kind, &file(&path)).expect("opens");
        sink.write(&samples()).expect("writes");
        sink.commit().expect("commits");
        let mut folders = vec![directory.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("lists") {
                let entry = entry.expect("an entry");
                let metadata = entry.metadata().expect("exists");
                let mode = metadata.permissions().mode() & 0o7777;
                assert_eq!(mode, if metadata.is_dir() { 0o700 } else { 0o600 }, "{:?}", entry.file_name());
                folders.extend(metadata.is_dir().then(|| entry.path()));
            }
        }
    }
}

#[test]
fn output_without_a_record_is_valid() {
    for kind in filed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("results");
        write_all(kind, &path, &[]);
        assert_eq!(count_valid(kind, &path, false), 0, "{}", kind.name);
    }
}

#[test]
fn a_sink_dropped_without_its_end_leaves_every_committed_record() {
    for kind in filed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("results");
        let mut sink = open(kind, &file(&path)).expect("opens");
        let records = samples_of(kind);
        sink.write(&records).expect("writes");
        assert_eq!(sink.commit().expect("commits"), records.len() as u64);
        sink.write(&records).expect("writes");
        drop(sink);
        assert_eq!(count_valid(kind, &path, false), records.len() as u64, "{}", kind.name);
    }
}

/// Writes the samples, and ends formats that write at the end only.
fn write_somehow(kind: &SinkKind, mut sink: Box<dyn Sink>) -> Result<(), SinkError> {
    let result = sink.write(&samples_of(kind)).and_then(|()| sink.commit());
    if kind.name.starts_with("nmap-") {
        return sink.finish(&manifest_of(UUID, Status::Complete));
    }
    assert_eq!(sink.safe(), 0, "{}", kind.name);
    result.map(|_| ())
}

#[test]
fn a_full_device_is_an_error_of_every_sink() {
    for kind in filed() {
        let result = open(kind, &file(Path::new("/dev/full"))).and_then(|sink| write_somehow(kind, sink));
        let error = result.expect_err(kind.name).to_string();
        assert!(error.starts_with("cannot write to /dev/full: "), "{error}");
    }
}

#[test]
fn a_reader_that_leaves_is_an_error_of_every_sink() {
    for kind in filed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo runs").success());
        // Opened for reading and writing so that neither side waits for the other; that end is the reader.
        let reader = fs::OpenOptions::new().read(true).write(true).open(&path).expect("opens");
        let opened = open(kind, &file(&path));
        drop(reader);
        let error = opened.and_then(|sink| write_somehow(kind, sink)).expect_err(kind.name);
        let expected = if ["sqlite", "parquet"].contains(&kind.name) {
            SinkErrorKind::Refused
        } else {
            SinkErrorKind::ReaderGone
        };
        assert_eq!(error.kind, expected, "{error}");
    }
}

#[test]
fn every_sink_fails_to_open_where_nothing_can_be_written() {
    for kind in filed() {
        let directory = tempfile::tempdir().expect("a directory");
        // Files of columns go to a directory as parts.
        let places = [directory.path().join("missing/results"), directory.path().to_owned()];
        for path in &places[..if is_columns(kind) { 1 } else { 2 }] {
            let error = open(kind, &file(path)).map(|_| kind.name).expect_err(kind.name).to_string();
            assert!(error.contains(directory.path().to_str().expect("text")), "{error}");
        }
    }
}

#[test]
fn every_sink_refuses_what_exists_unless_told_otherwise() {
    for kind in filed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("results");
        fs::write(&path, "precious\n").expect("writes");
        let error = open(kind, &file(&path)).map(|_| kind.name).expect_err(kind.name);
        assert_eq!(error.kind, SinkErrorKind::Refused);
        assert!(error.to_string().contains("--force"), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("reads"), "precious\n");
        let place = Place { existing: Existing::Replace, ..file(&path) };
        let mut sink = open(kind, &place).expect("opens");
        sink.write(&samples_of(kind)).expect("writes");
        sink.finish(&manifest_of(UUID, Status::Complete)).expect("finishes");
        assert_eq!(count_valid(kind, &path, false), finished(kind, &samples_of(kind)), "{}", kind.name);
    }
}

#[test]
fn appending_adds_to_every_sink_and_repeats_no_header() {
    for kind in filed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("results");
        let records = samples_of(kind);
        write_all(kind, &path, &records);
        let place = Place { existing: Existing::Append, ..file(&path) };
        let mut sink = (kind.open)(&place).expect("opens");
        sink.begin(&manifest_of(UUID_2, Status::Running)).expect("begins");
        sink.write(&records).expect("writes");
        let count = records.len() as u64;
        assert_eq!(sink.commit().expect("commits"), count, "records of this scan only");
        sink.finish(&manifest_of(UUID_2, Status::Complete)).expect("finishes");
        let both = [&records[..], &records].concat();
        assert_eq!(count_valid(kind, &path, false), finished(kind, &both), "{}", kind.name);
        let headers = rendered(&path).lines().filter(|line| line.starts_with("ts,")).count();
        assert_eq!(headers, usize::from(kind.name == "csv"));
    }
}
