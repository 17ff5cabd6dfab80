//! Readers that are not ours: jq, Python's json and csv, the sqlite3 tool.

use super::standing::*;
use super::*;

/// The facts of a record in words, a line of them, as the standard library writes them.
fn facts(record: &Record) -> String {
    let or = |value: u64, present: bool| if present { value.to_string() } else { String::new() };
    let mac = record.mac();
    let octets = mac.unwrap_or_default().map(|octet| format!("{octet:02x}")).join(":");
    let day = SystemTime::UNIX_EPOCH + Duration::from_nanos(record.time_ns);
    let seconds = day.duration_since(SystemTime::UNIX_EPOCH).expect("past").as_secs();
    let time = match seconds {
        0 => "1970-01-01T00:00:00.000000Z",
        1_795_219_200 => "2026-11-21T00:00:00.123456Z",
        18_446_744_073 => "2554-07-21T23:34:33.709551Z",
        second => panic!("say how {second} reads"),
    };
    let columns = [
        time.to_owned(),
        record.address().to_string(),
        record.port.to_string(),
        record.protocol.to_string(),
        record.state.name().to_owned(),
        record.reason.name().to_owned(),
        record.ttl.to_string(),
        if mac.is_some() { "0".to_owned() } else { record.window.to_string() },
        or(record.mss.into(), record.mss != 0),
        or(record.window_scale.into(), record.window_scale != Record::NO_SCALE),
        if record.options_hash == 0 || mac.is_some() {
            String::new()
        } else {
            format!("{:08x}", record.options_hash)
        },
        or(record.ip_id.into(), record.address().is_ipv4()),
        or(record.rtt_us.into(), record.rtt_us != 0),
        if record.responder() == record.address() { String::new() } else { record.responder().to_string() },
        record.proof.name().to_owned(),
        record.pass.to_string(),
        if mac.is_some() { octets } else { String::new() },
    ];
    columns.join("|") + "\n"
}

#[test]
fn jq_and_python_read_the_json_lines() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("results.ndjson");
    write_all(kind("ndjson"), &path, &samples());
    let path = path.to_str().expect("text");
    let program = r#"[.ts,.ip,.port,.proto,.state,.reason,.ttl,.win,.mss,.wscale,.opts,.ipid,.rtt_us,.responder,.proof,.pass,.mac]
        | .[7] //= 0 | map(. // "" | tostring) | join("|")"#;
    let script = "import json,sys
keys='ts ip port proto state reason ttl win mss wscale opts ipid rtt_us responder proof pass mac'.split()
for line in open(sys.argv[1]):
    row=json.loads(line); assert set(row)<=set(keys)
    print('|'.join(str(row.get(k,0 if k=='win' else '')) for k in keys))";
    let expected: String = samples().iter().map(facts).collect();
    if let Some(output) = tool("jq", &["-r", program, path]) {
        assert_eq!(output, expected);
    }
    if let Some(output) = tool("python3", &["-c", script, path]) {
        assert_eq!(output, expected);
    }
}

#[test]
fn python_reads_the_comma_separated_values() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("results.csv");
    write_all(kind("csv"), &path, &samples());
    let script = "import csv,sys
rows=list(csv.reader(open(sys.argv[1],newline=''),strict=True)); assert rows[0][0]=='ts' and len(rows)==19
for row in rows[1:]:
    assert len(row)==19
    assert not any(cell[:1] in tuple('=+-@\\t\\r') and cell for cell in row), row
    for column in (2,6,7,8,9,11,12,15): assert row[column]=='' or row[column].isdigit()
    print('|'.join(row[:17]))";
    let expected: String = samples().iter().map(facts).collect();
    if let Some(output) = tool("python3", &["-c", script, path.to_str().expect("text")]) {
        assert_eq!(output, expected);
    }
}

#[test]
fn the_sqlite3_tool_reads_the_database_and_its_views() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("results.db");
    write_all(kind("sqlite"), &path, &samples());
    let path = path.to_str().expect("text");
    let services =
        "SELECT ip,port,proto,replies,first_us,last_us FROM open_service ORDER BY ip4 IS NULL, ip4, port";
    if let Some(output) = tool("sqlite3", &[path, "SELECT * FROM observation_text"]) {
        assert_eq!(output, include_str!("../../src/sink/golden/sqlite"));
        let output =
            tool("sqlite3", &["-readonly", path, "PRAGMA integrity_check", services]).expect("installed");
        assert_eq!(
            output,
            "ok\n198.18.0.7|80|6|3|0|1795219200123456\n198.18.0.9|8|1|1|1795219200123456|1795219200123456\n\
             198.18.0.12|36412|132|1|1795219200123456|1795219200123456\n\
             2001:db8::1:0:0:7|443|6|1|1795219200123456|1795219200123456\n"
        );
    }
}
