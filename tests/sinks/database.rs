//! The database: many scans in one file, read while it is written, and what is refused.

use super::standing::*;
use super::*;

const SCANS: &str =
    "SELECT scan_id, scan_uuid, status, seed, invalid, kernel_drops, finished_us, rows_out FROM scan";

#[test]
fn a_database_holds_many_scans_and_closes_as_one_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("results.db");
    write_all(kind("sqlite"), &path, &samples());
    let mut sink = (kind("sqlite").open)(&file(&path)).expect("opens: it is a swath database");
    sink.begin(&manifest_of(UUID_2, Status::Running)).expect("begins");
    sink.write(&samples()[..3]).expect("writes");
    sink.finish(&manifest_of(UUID_2, Status::Interrupted)).expect("finishes");
    let names: Vec<_> =
        fs::read_dir(directory.path()).expect("lists").map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["results.db"]);
    let connection = read_only(&path);
    let seed = u64::MAX.to_string();
    let all = samples().len().to_string();
    assert_eq!(
        query(&connection, SCANS),
        [
            ["1", UUID, "complete", &seed, "4", "2", "1795219260000000", &all],
            ["2", UUID_2, "interrupted", &seed, "4", "2", "1795219260000000", "3"],
        ]
    );
    let counts = query(&connection, "SELECT scan_id, count(*) FROM observation GROUP BY 1");
    assert_eq!(counts, [["1", &all], ["2", "3"]]);
    let indexes =
        query(&connection, "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql NOT NULL ORDER BY 1");
    assert_eq!(indexes, [["observation_by_ip"], ["observation_by_ip4"]]);
    let stored = &query(&connection, "SELECT manifest FROM scan WHERE scan_id = 2")[0][0];
    assert_eq!(
        *stored,
        serde_json::to_string(&manifest_of(UUID_2, Status::Interrupted)).expect("serializes")
    );
}

#[test]
fn a_database_can_be_read_while_the_scan_writes_and_says_that_it_runs() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("results.db");
    let mut sink = open(kind("sqlite"), &file(&path)).expect("opens");
    sink.write(&samples()).expect("writes");
    sink.commit().expect("commits");
    sink.write(&samples()).expect("writes");
    let reader = read_only(&path);
    assert_eq!(query(&reader, "SELECT count(*) FROM observation"), [[samples().len().to_string()]]);
    assert_eq!(query(&reader, "SELECT status, finished_us, rows_out FROM scan"), [["running", "", ""]]);
    sink.finish(&manifest_of(UUID, Status::Complete)).expect("finishes beside a reader");
    assert_eq!(
        query(&reader, "SELECT status, rows_out FROM scan"),
        [["complete", &(2 * samples().len()).to_string()]]
    );
}

#[test]
fn large_batches_are_committed_in_transactions_of_bounded_size() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("results.db");
    let mut sink = open(kind("sqlite"), &file(&path)).expect("opens");
    // Nine: no divisor of the rows of a statement, so that every row is bound over another's facts.
    let records = samples()[..9].repeat(25_000);
    sink.write(&records).expect("writes");
    assert_eq!(sink.safe(), 200_000, "two transactions of 100,000 rows");
    assert_eq!(sink.commit().expect("commits"), 225_000);
    let shares =
        "SELECT count(*) FROM observation GROUP BY ts_us, ip, ip4, port, proto, state, reason, proof, pass,
                  ttl, win, mss, wscale, opts_hash, ipid, rtt_us, responder";
    let shares = query(&read_only(&path), shares);
    assert_eq!(shares.len(), 9);
    assert!(shares.iter().all(|share| share == &["25000"]), "no row has another's facts: {shares:?}");
}

#[test]
fn a_database_of_somebody_else_is_refused_and_not_touched() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("foreign.db");
    Connection::open(&path).expect("opens").execute_batch("CREATE TABLE precious (x)").expect("creates");
    let before = fs::read(&path).expect("reads");
    for existing in [Existing::Refuse, Existing::Append] {
        let error =
            (kind("sqlite").open)(&Place { existing, ..file(&path) }).map(|_| ()).expect_err("refuses");
        assert!(error.to_string().contains("no swath database"), "{error}");
    }
    assert_eq!(fs::read(&path).expect("reads"), before);
}

#[test]
fn a_database_of_a_newer_version_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("results.db");
    write_all(kind("sqlite"), &path, &samples());
    Connection::open(&path).expect("opens").execute_batch("PRAGMA user_version = 2").expect("sets");
    let error = (kind("sqlite").open)(&file(&path)).map(|_| ()).expect_err("refuses");
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[test]
fn a_database_behind_a_symbolic_link_is_refused_and_a_linked_directory_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let (real, link) = (directory.path().join("real"), directory.path().join("link"));
    fs::create_dir(&real).expect("creates");
    std::os::unix::fs::symlink(&real, &link).expect("links");
    write_all(kind("sqlite"), &link.join("results.db"), &samples());
    std::os::unix::fs::symlink(real.join("results.db"), real.join("alias.db")).expect("links");
    let error = (kind("sqlite").open)(&file(&real.join("alias.db"))).map(|_| ()).expect_err("refuses");
    assert!(error.to_string().contains("symbolic link"), "{error}");
}

#[test]
fn a_database_does_not_go_to_standard_output() {
    let (kind, place) = parse_place("sqlite:-", Existing::Refuse).expect("parses");
    assert!((kind.open)(&place).map(|_| ()).expect_err("refuses").to_string().contains("needs a file"));
}
