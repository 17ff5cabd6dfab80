//! Every way to lose: killed, the disk full, the reader gone. Tests that need another process run this very binary again:
//! `losing::child` does what `SWATH_CHILD` says.

use super::standing::*;
use super::*;

/// Not a test: what the tests below run in a process of its own.
#[test]
fn child() {
    let Ok(task) = std::env::var("SWATH_CHILD") else { return };
    let directory = PathBuf::from(std::env::var_os("SWATH_DIRECTORY").expect("set by the parent"));
    match task.as_str() {
        "write-forever" => write_forever(&directory),
        "fill-the-disk" => fill_the_disk(&directory),
        "write-to-stdout" => write_to_stdout(),
        task => panic!("unknown task {task}"),
    }
}

fn child_command(wrapper: &[&str], task: &str, directory: &Path) -> Command {
    let program = std::env::current_exe().expect("this binary");
    let mut words: Vec<&OsStr> = wrapper.iter().map(OsStr::new).collect();
    words.push(program.as_os_str());
    let mut command = Command::new(words[0]); // the wrapper, or the binary itself
    command.args(&words[1..]).args(["--exact", "losing::child", "--nocapture", "--test-threads=1"]);
    command.env("SWATH_CHILD", task).env("SWATH_DIRECTORY", directory);
    command
}

/// Ten samples that every kind can tell.
fn storable() -> Vec<Record> {
    let told = |record: &Record| local().all(|kind| kind.states.contains(&record.state));
    samples().into_iter().filter(told).cycle().take(10).collect()
}

/// Writes to every kind of file until killed, and says after each commit how much is safe.
fn write_forever(directory: &Path) {
    let mut sinks: Vec<_> =
        filed().map(|kind| open(kind, &file(&directory.join(kind.name))).expect("opens")).collect();
    let records = storable().repeat(200);
    for round in 1_u64.. {
        for sink in &mut sinks {
            sink.write(&records).expect("writes");
            let safe = sink.commit().expect("commits");
            assert_eq!(safe, round * 2000);
        }
        writeln!(io::stdout(), "\ncommitted {}", round * 2000).expect("the parent reads");
    }
}

#[test]
fn what_was_committed_survives_being_killed_at_any_instant() {
    let mut total = 0;
    for round in 0..20_u64 {
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = child_command(&[], "write-forever", directory.path());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let committed =
            |line: String| line.strip_prefix("committed ").and_then(|count| count.parse::<u64>().ok());
        let first = lines.find_map(committed).expect("commits before it is killed");
        std::thread::sleep(Duration::from_micros(round * 3571 % 40_000));
        child.kill().expect("kills");
        child.wait().expect("ends");
        let last = lines.filter_map(committed).last().unwrap_or(first);
        for kind in filed() {
            let path = directory.path().join(kind.name);
            let found = count_valid(kind, &path, true);
            assert!(last <= found, "{}: {last} committed, {found} found", kind.name);
            recover(kind, &path, found);
        }
        total += last;
    }
    assert!(50_000 < total, "too little was written ({total}) to show anything");
}

/// A scan that starts on what a killed one left goes on behind its last record.
fn recover(kind: &SinkKind, path: &Path, found: u64) {
    if kind.name == "sqlite" {
        let statuses = query(&read_only(path), "SELECT status FROM scan");
        assert_eq!(statuses, [["running"]]);
    }
    let mut sink = (kind.open)(&Place { existing: Existing::Append, ..file(path) }).expect("opens");
    sink.begin(&manifest_of(UUID_2, Status::Running)).expect("begins");
    sink.write(&storable()).expect("writes");
    sink.finish(&manifest_of(UUID_2, Status::Complete)).expect("finishes");
    let expected = if kind.name.starts_with("nmap-") { finished(kind, &storable()) } else { found + 10 };
    assert_eq!(count_valid(kind, path, false), expected, "{}", kind.name);
}

/// Carries 60,000 records to every sink on a file system that has room for a part of them, and checks the account
/// against the files.
fn fill_the_disk(directory: &Path) {
    const RECORDS: usize = 60_000;
    let mut manifest = manifest_of(UUID, Status::Running);
    let queue = Queue::new(2 * RECORDS);
    let stats = Arc::new(Stats::new(0, 0, local().count()));
    let outlet = |kind: &SinkKind| Outlet {
        name: kind.name.to_owned(),
        sink: (kind.open)(&file(&directory.join(kind.name))).expect("opens"),
        show: Show::ALL,
        select: None,
        stdout: false,
    };
    let mut writer = Writer::new(queue.clone(), Arc::clone(&stats), local().map(outlet).collect());
    writer.begin(&manifest).expect("begins");
    let records = storable();
    (0..RECORDS).for_each(|index| queue.push(records[index % records.len()]).expect("room"));
    queue.close();
    let mut now_ns = 0;
    while !writer.step(now_ns).done {
        now_ns += 100_000_000;
    }
    let summary = Summary { frames_seen: RECORDS as u64, accepted: RECORDS as u64, ..Summary::default() };
    manifest.summary = Some(summary);
    let errors = writer.finish(&mut manifest);
    let summary = manifest.summary.expect("stays");
    assert_eq!(summary.imbalance(), None);
    let mut failed = 0;
    // Reading a database that could not be closed takes room, so the others are counted and removed first.
    let (last, first): (Vec<_>, Vec<_>) =
        local().zip(&summary.sinks).partition(|(kind, _)| kind.name == "sqlite");
    for (kind, sink) in first.into_iter().chain(last) {
        failed += usize::from(0 < sink.suppressed);
        if kind.name != "none" {
            let path = directory.join(kind.name);
            let found = count_valid(kind, &path, false);
            let whole = sink.suppressed == 0 && !errors.iter().any(|error| error.object.ends_with(kind.name));
            let expected =
                if whole { finished(kind, &storable()).max(sink.written.min(found)) } else { sink.written };
            let grouped = kind.name.starts_with("nmap-");
            assert_eq!(found, if grouped { expected } else { sink.written }, "{}: {errors:?}", kind.name);
            // A file of columns that could not be finished is a spool.
            if kind.name != "sqlite" && (whole || !is_columns(kind)) {
                fs::remove_file(path).expect("removes");
            }
        }
    }
    assert!(0 < failed && failed < local().count(), "some fail, some go on: {:?}", summary.sinks);
    assert!(failed <= errors.len(), "every failure is reported: {errors:?}");
}

#[test]
fn the_account_equals_the_files_when_files_may_grow_no_more() {
    for limit in [100, 1_000, 4_000, 20_000] {
        let directory = tempfile::tempdir().expect("a directory");
        // Without the signal a write beyond the limit fails, as it does on a full disk. Units of 512 bytes.
        let script = format!("trap '' XFSZ; ulimit -f {limit}; exec \"$@\"");
        let output = child_command(&["sh", "-c", &script, "sh"], "fill-the-disk", directory.path()).output();
        let output = output.expect("runs");
        assert!(output.status.success(), "limit {limit}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_account_equals_the_files_when_the_disk_is_full() {
    // A small file system of our own, in a mount namespace of our own.
    let script = |rest: &str| format!("mount -t tmpfs -o size=$SIZE tmpfs \"$SWATH_DIRECTORY\" && {rest}");
    let probe = ["unshare", "-rm", "sh", "-c"];
    let directory = tempfile::tempdir().expect("a directory");
    let mut check = Command::new(probe[0]);
    check.args(&probe[1..]).arg(script("true")).env("SWATH_DIRECTORY", directory.path()).env("SIZE", "4m");
    if !check.output().is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("SWATH_REQUIRE_TOOLS").is_none(), "no user namespaces here");
        let _ = writeln!(io::stderr(), "skipped: no user namespaces here");
        return;
    }
    for size in ["4m", "12m", "40m"] {
        let script = script("exec \"$@\"");
        let wrapper = [probe[0], probe[1], probe[2], probe[3], &script, "sh"];
        let output = child_command(&wrapper, "fill-the-disk", directory.path()).env("SIZE", size).output();
        let output = output.expect("runs");
        assert!(output.status.success(), "size {size}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Writes text to standard output until told that nobody reads it, and says so on standard error.
fn write_to_stdout() {
    let (kind, place) = parse_place("-", Existing::Refuse).expect("parses");
    let queue = Queue::new(10_000);
    let stats = Arc::new(Stats::new(0, 0, 1));
    let sink = (kind.open)(&place).expect("opens");
    let outlet = Outlet { name: "-".to_owned(), sink, show: Show::OPEN, select: None, stdout: true };
    let mut writer = Writer::new(queue.clone(), stats, vec![outlet]);
    writer.begin(&manifest_of(UUID, Status::Running)).expect("begins");
    for second in 0..1000 {
        samples().into_iter().for_each(|record| queue.push(record).expect("room"));
        if writer.step(second * 1_000_000_000).event == Some(WriterEvent::StdoutClosed) {
            assert!(writer.take_error().is_none());
            writeln!(io::stderr(), "told to stop").expect("the parent reads");
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_reader_of_standard_output_that_leaves_stops_the_writer_without_an_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = child_command(&[], "write-to-stdout", directory.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let discovered = lines.skip_while(|line| !line.contains("Discovered")).nth(1).expect("a second line");
    assert!(discovered.starts_with("Discovered open port "), "{discovered}");
    // The reader is gone with the iterator.
    let output = child.wait_with_output().expect("ends");
    assert!(String::from_utf8_lossy(&output.stderr).contains("told to stop"));
}
