//! What stands in a file that a sink left, read without the code that wrote it.

use super::*;

/// What a sink left, as text: the file itself, or the rows of a database in words.
pub(super) fn rendered(path: &Path) -> String {
    let Ok(bytes) = fs::read(path) else { return String::new() };
    if let Some(columns) = columns(path) {
        return as_lines(&columns);
    }
    if bytes.starts_with(b"masscan/") {
        let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
        return bytes.chunks(32).map(line).collect();
    }
    if bytes.contains(&0) && !bytes.starts_with(b"SQLite") {
        let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
        return bytes.chunks(32).map(line).collect();
    }
    if !bytes.starts_with(b"SQLite format 3\0") {
        return String::from_utf8(bytes).expect("text");
    }
    let rows = query(&read_only(path), "SELECT * FROM observation_text");
    rows.iter().map(|row| row.join("|") + "\n").collect()
}

/// The records of a file of columns; `None` when it is none.
pub(super) fn columns(path: &Path) -> Option<Vec<Record>> {
    let head = fs::read(path).ok()?;
    let format = match &head[..head.len().min(6)] {
        [b'P', b'A', b'R', b'1', ..] => &swath::columnar::parquet::FORMAT,
        b"ARROW1" => &swath::columnar::arrow::FORMAT,
        _ => return None,
    };
    let mut reader = (format.open)(path).expect("opens");
    let mut records = Vec::new();
    while reader.read(&mut records).expect("reads") {}
    assert!(!reader.manifests().is_empty() && reader.is_sorted());
    Some(records)
}

/// Records as JSON lines.
pub(super) fn as_lines(records: &[Record]) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("lines");
    write_all(kind("ndjson"), &path, records);
    fs::read_to_string(path).expect("reads")
}

/// Records in the spools beside a file: those of scans that did not end.
pub(super) fn spooled(path: &Path) -> u64 {
    let name = path.file_name().expect("a name").to_str().expect("text");
    let entries = fs::read_dir(path.parent().expect("a directory")).expect("lists");
    let spools = entries.map(|entry| entry.expect("an entry").path()).filter(|entry| {
        let entry = entry.file_name().expect("a name").to_str().expect("text");
        entry.starts_with(&format!("{name}.")) && entry.ends_with(".spool")
    });
    let count = |spool: PathBuf| {
        let mut reader = SpoolReader::open(&spool).expect("opens");
        let mut records = Vec::new();
        while !matches!(reader.next(&mut records).expect("reads"), Item::End) {}
        reader.position()
    };
    spools.map(count).sum()
}

pub(super) fn read_only(path: &Path) -> Connection {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("opens")
}

pub(super) fn query(connection: &Connection, sql: &str) -> Vec<Vec<String>> {
    let mut statement = connection.prepare(sql).expect("prepares");
    let columns = statement.column_count();
    let cell = |row: &rusqlite::Row<'_>, column| match row.get_ref(column).expect("a column") {
        rusqlite::types::ValueRef::Null => String::new(),
        rusqlite::types::ValueRef::Integer(value) => value.to_string(),
        rusqlite::types::ValueRef::Real(value) => value.to_string(),
        rusqlite::types::ValueRef::Text(text) => String::from_utf8(text.to_vec()).expect("text"),
        rusqlite::types::ValueRef::Blob(_) => panic!("no column is a blob"),
    };
    let rows = statement.query_map((), |row| Ok((0..columns).map(|column| cell(row, column)).collect()));
    rows.expect("runs").collect::<Result<_, _>>().expect("every row reads")
}

/// Number of results that `swath convert` reads from a document whose end a kill may have left away: it falls between
/// the pages of one pwrite(2) now and then.
pub(super) fn readable(kind: &SinkKind, path: &Path) -> u64 {
    let source = source::source_named(kind.name).expect("a source");
    let mut source = Input::open(path).and_then(source.open).expect("opens");
    let (mut batch, mut count) = (Observations::default(), 0);
    while source.read(&mut batch).expect("reads up to the last whole result") {
        count += batch.records.len() as u64;
    }
    match kind.name {
        // One of the samples says of its host what nmap has no word for.
        "nmap-xml" => fs::read_to_string(path).expect("text").matches("</host>").count() as u64,
        _ => count,
    }
}

/// Number of records in a file, each of which must be whole and valid; `torn` allows a part of one at the end.
pub(super) fn count_valid(kind: &SinkKind, path: &Path, torn: bool) -> u64 {
    if torn && ["masscan-json", "masscan-xml", "nmap-xml"].contains(&kind.name) {
        return readable(kind, path);
    }
    if kind.name == "sqlite" {
        let connection = read_only(path);
        assert_eq!(query(&connection, "PRAGMA integrity_check"), [["ok"]]);
        return query(&connection, "SELECT count(*) FROM observation")[0][0].parse().expect("a number");
    }
    if is_columns(kind) {
        return columns(path).map_or(0, |records| records.len() as u64) + spooled(path);
    }
    let bytes = fs::read(path).expect("reads");
    match kind.name {
        "masscan-binary" => return binary_records(&bytes, torn),
        "pgcopy" => return pgcopy_rows(&bytes, torn),
        "rowbinary" => return rowbinary_rows(&bytes, torn),
        _ => {}
    }
    let text = String::from_utf8(bytes).expect("text");
    if let Some(count) = document_records(kind.name, &text) {
        return count;
    }
    let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
    assert!(torn || whole.len() == text.len(), "{} ends in a part of a record", path.display());
    let header = u64::from(kind.name.ends_with("csv") && !whole.is_empty());
    let lines = whole.lines().filter(|line| !line.starts_with('#'));
    let lines = lines.inspect(|line| assert!(is_valid(kind.name, line), "{}: {line:?}", kind.name));
    let count = lines.count() as u64 - header;
    // An action and its document.
    if kind.name == "esbulk" { count / 2 } else { count }
}

pub(super) fn is_valid(kind: &str, line: &str) -> bool {
    let words = line.split(' ').count();
    match kind {
        "esbulk" | "ndjson" | "masscan-ndjson" | "zmap-json" | "naabu" => {
            serde_json::from_str::<BTreeMap<String, serde_json::Value>>(line).is_ok()
        }
        "csv" => line.split(',').count() == 19,
        "zmap-csv" => line.split(',').count() == 2,
        // A host that answered a ping has no port.
        "list" => line.parse::<SocketAddr>().is_ok() || line.parse::<IpAddr>().is_ok(),
        "hosts" => line.parse::<IpAddr>().is_ok(),
        "masscan-list" => words == 5,
        "masscan-grepable" => line.starts_with("Timestamp: ") && line.ends_with("//"),
        "unicornscan" => line.starts_with("TCP ") || line.ends_with("////"),
        "text" => {
            line.starts_with("Host ") && line.contains(" is up (")
                || line.starts_with("Discovered ") && line.contains(" port ") && line.contains(" on ")
        }
        kind => panic!("say what a valid line of {kind} is"),
    }
}

/// Whether it writes a file of columns.
pub(super) fn is_columns(kind: &SinkKind) -> bool {
    ["parquet", "arrow"].contains(&kind.name)
}

/// Number of results in a document, which must be valid as a whole; `None` for formats that are none, and where a killed
/// writer left a part of one.
pub(super) fn document_records(kind: &str, text: &str) -> Option<u64> {
    match kind {
        "masscan-json" => {
            let array: Vec<serde_json::Value> = serde_json::from_str(text).expect("valid JSON");
            Some(array.len() as u64)
        }
        "masscan-xml" => Some(elements(text, b"port")),
        "nmap-xml" => Some(elements(text, b"host")),
        "nmap-grepable" => {
            let hosts = text.lines().filter(|line| line.ends_with("\tStatus: Up"));
            Some(hosts.count() as u64)
        }
        _ => None,
    }
}

/// Number of elements of that name in an XML document, all of whose elements must be closed.
pub(super) fn elements(text: &str, name: &[u8]) -> u64 {
    use quick_xml::events::Event;
    let mut reader = quick_xml::Reader::from_str(text);
    let (mut depth, mut count, mut roots) = (0, 0, 0);
    loop {
        match reader.read_event().expect("well-formed XML") {
            Event::Start(element) => {
                roots += u64::from(depth == 0);
                depth += 1;
                count += u64::from(element.name().as_ref() == name);
            }
            Event::Empty(element) => count += u64::from(element.name().as_ref() == name),
            Event::End(_) => depth -= 1,
            Event::Eof => break,
            _ => {}
        }
    }
    assert!(depth == 0 && roots == 1, "one root, closed");
    count
}

/// Number of records of masscan's binary file.
pub(super) fn binary_records(bytes: &[u8], torn: bool) -> u64 {
    let header = bytes.get(..99).expect("a header");
    assert!(header.starts_with(b"masscan/1.1\ns:"));
    let (mut at, mut count) = (99, 0);
    while let Some(&[kind, length]) = bytes.get(at..at + 2) {
        let expected = match kind {
            6..=8 => 13,
            10..=12 => 26,
            b'm' => 97,
            kind => panic!("type {kind} at {at}"),
        };
        assert_eq!(usize::from(length), expected);
        if bytes.len() < at + 2 + expected {
            break;
        }
        count += u64::from(kind != b'm');
        at += 2 + expected;
    }
    assert!(torn || at == bytes.len());
    count
}

/// Number of rows of PostgreSQL's binary COPY format, each of 17 fields of at most 20 bytes.
pub(super) fn pgcopy_rows(bytes: &[u8], torn: bool) -> u64 {
    assert!(bytes.starts_with(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"));
    let (mut at, mut rows) = (19, 0);
    'rows: while let Some(count) = bytes.get(at..at + 2) {
        if count == [0xff, 0xff] {
            assert_eq!(at + 2, bytes.len(), "nothing stands behind the trailer");
            return rows;
        }
        assert_eq!(count, [0, 17], "row {rows}");
        let mut end = at + 2;
        for _ in 0..17 {
            let Some(length) = bytes.get(end..end + 4) else { break 'rows };
            let length = i32::from_be_bytes(length.try_into().expect("four bytes"));
            assert!((-1..=20).contains(&length), "row {rows}");
            end += 4 + length.max(0) as usize;
        }
        if bytes.len() < end {
            break;
        }
        (at, rows) = (end, rows + 1);
    }
    assert!(torn, "no trailer");
    rows
}

/// Number of rows of ClickHouse's RowBinary format.
pub(super) fn rowbinary_rows(bytes: &[u8], torn: bool) -> u64 {
    let (mut at, mut rows) = (0, 0);
    'rows: while at < bytes.len() {
        let mut end = at + 52;
        for size in [2, 1, 4, 2, 4, 16] {
            let Some(null) = bytes.get(end) else { break 'rows };
            assert!(*null < 2, "row {rows}");
            end += if *null == 0 { 1 + size } else { 1 };
        }
        if bytes.len() < end {
            break;
        }
        (at, rows) = (end, rows + 1);
    }
    assert!(torn || at == bytes.len(), "a part of a row");
    rows
}

/// The samples a kind is given: those of states it can tell.
pub(super) fn samples_of(kind: &SinkKind) -> Vec<Record> {
    samples().into_iter().filter(|record| kind.states.contains(&record.state)).collect()
}

/// What a finished file holds of records: formats that group hold addresses.
pub(super) fn finished(kind: &SinkKind, records: &[Record]) -> u64 {
    let addresses: BTreeSet<IpAddr> = records.iter().map(Record::address).collect();
    if kind.name.starts_with("nmap-") { addresses.len() as u64 } else { records.len() as u64 }
}

/// Every kind but those that need a server (tests/servers.rs).
pub(super) fn local() -> impl Iterator<Item = &'static SinkKind> {
    SINKS.iter().filter(|kind| !["postgres", "clickhouse"].contains(&kind.name))
}

/// Every kind that leaves a file.
pub(super) fn filed() -> impl Iterator<Item = &'static SinkKind> {
    local().filter(|kind| kind.name != "none")
}

pub(super) fn kind(name: &str) -> &'static SinkKind {
    sink_named(name).expect("a kind")
}

/// Runs a reader that is not ours; `None` when it is not installed.
pub(super) fn tool<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Option<String> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => {
            assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8(output.stdout).expect("text"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            assert!(std::env::var_os("SWATH_REQUIRE_TOOLS").is_none(), "{program} is not installed");
            let _ = writeln!(io::stderr(), "skipped: {program} is not installed");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}
