//! The formats of other tools, against those tools: masscan, xmllint with nmap's DTD, ndiff, python-libnmap, python-nmap,
//! jsonschema, gzip and zstd; hostile bytes through every sink that carries bytes; and `swath convert` as people use it.
//!
//! Tools that are missing skip their check, unless `SWATH_REQUIRE_TOOLS` is set: then that is a failure. Python modules
//! are looked for by `SWATH_PYTHON`, or `python3`.

mod common;
mod samples;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use common::swath;
use samples::{manifest, samples};
use swath::event::{Record, State, Status, Untrusted};
use swath::sink::{Existing, SINKS, parse_place, sink_named};
use swath::source;

// --- masscan ---------------------------------------------------------------------------------------------------

/// A record of masscan's binary file.
fn binary(kind: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    [&[kind, u8::try_from(body.len()).expect("short")][..], &body].concat()
}

fn block(text: &str) -> Vec<u8> {
    let mut block = text.as_bytes().to_vec();
    block.resize(99, 0);
    block
}

/// A file as masscan writes it: each kind of record it has, both families, banners with every byte there is.
fn masscan_file() -> Vec<u8> {
    let time = |second: u32| (1_700_000_000 + second).to_be_bytes();
    let v6 = [&[6_u8, 0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1]].concat();
    let all: Vec<u8> = (0..=255).collect();
    let mut file = block("masscan/1.1\ns:1700000000\n");
    for (kind, address, protocol, port, flags, ttl) in [
        (6, [192, 0, 2, 10], 6, 80_u16, 0x12, 54),
        (7, [192, 0, 2, 11], 6, 81, 0x14, 63),
        (7, [192, 0, 2, 11], 6, 82, 0x04, 63),
        (6, [192, 0, 2, 11], 6, 83, 0x52, 63),
        (6, [198, 51, 100, 7], 17, 53, 0, 240),
        (6, [198, 51, 100, 8], 1, 0, 0, 50),
        (6, [198, 51, 100, 9], 132, 36_412, 0, 50),
    ] {
        file.extend(binary(kind, &[&time(1), &address, &[protocol], &port.to_be_bytes(), &[flags, ttl]]));
    }
    file.extend(binary(10, &[&time(4), &[6], &443_u16.to_be_bytes(), &[0x12, 58], &v6]));
    file.extend(binary(11, &[&time(4), &[6], &444_u16.to_be_bytes(), &[0x14, 58], &v6]));
    for part in all.chunks(64) {
        let head: [&[u8]; 6] =
            [&time(5), &[192, 0, 2, 10], &[6], &80_u16.to_be_bytes(), &4_u16.to_be_bytes(), &[54]];
        file.extend(binary(9, &[&head[..], &[part]].concat()));
    }
    file.extend(binary(
        13,
        &[&time(6), &[6], &22_u16.to_be_bytes(), &2_u16.to_be_bytes(), &[54], &v6, b"SSH-2.0"],
    ));
    file.extend(block("masscan/1.1"));
    file
}

/// Runs a tool that is not ours in a directory; `None` when it is not installed.
fn tool(directory: &Path, program: &str, arguments: &[&str]) -> Option<String> {
    match Command::new(program).args(arguments).current_dir(directory).output() {
        Ok(output) => {
            let (out, err) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{program} {arguments:?}: {out}{err}");
            Some(out.into_owned())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            assert!(std::env::var_os("SWATH_REQUIRE_TOOLS").is_none(), "{program} is not installed");
            let _ = writeln!(io::stderr(), "skipped: {program} is not installed");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

/// Runs a Python program that needs modules; `None` when they are not installed.
fn python(directory: &Path, modules: &str, program: &str, arguments: &[&str]) -> Option<String> {
    let python = std::env::var("SWATH_PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python).args(["-c", &format!("import {modules}")]).output();
    if !found.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("SWATH_REQUIRE_TOOLS").is_none(), "Python has no {modules}");
        let _ = writeln!(io::stderr(), "skipped: Python has no {modules}");
        return None;
    }
    tool(directory, &python, &[&["-c", program][..], arguments].concat())
}

fn read(directory: &Path, name: &str) -> Vec<u8> {
    fs::read(directory.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn masscan_s_files_come_out_of_swath_byte_for_byte() {
    let directory = tempfile::tempdir().expect("a directory");
    let here = directory.path();
    fs::write(here.join("in.bin"), masscan_file()).expect("writes");
    swath(here, &["convert", "in.bin", "-oB", "out.bin"]).exits(0);
    assert_eq!(read(here, "out.bin"), masscan_file());
    let seven = [
        ("L", "list"),
        ("J", "json"),
        ("D", "ndjson"),
        ("X", "xml"),
        ("G", "grepable"),
        ("U", "unicornscan"),
        ("B", "binary"),
    ];
    for (letter, name) in seven.into_iter().chain([("H", "hosts")]) {
        let (theirs, ours) = (format!("theirs.{name}"), format!("ours.{name}"));
        let option = format!("-o{letter}");
        let arguments = ["--readscan", "in.bin", &option, &theirs, "--show", "all"];
        if tool(here, "masscan", &arguments).is_none() {
            return;
        }
        let arguments = ["--compat", "masscan", "--readscan", "in.bin", &option, &ours, "--show", "all"];
        swath(here, &arguments).exits(0);
        let (theirs, ours) = (read(here, &theirs), read(here, &ours));
        // masscan's bare addresses have a line for a banner, too; ours are those of results.
        if letter != "H" {
            assert_eq!(timeless(name, &ours), timeless(name, &theirs), "{name}");
        }
    }
    // What masscan wrote, through swath into the same format. The other two no tool reads back.
    for (letter, name) in seven {
        if ["grepable", "unicornscan"].contains(&name) {
            continue;
        }
        let (theirs, again, option) =
            (format!("theirs.{name}"), format!("again.{name}"), format!("-o{letter}"));
        swath(here, &["convert", &theirs, "--compat", "masscan", &option, &again]).exits(0);
        let (theirs, again) = (read(here, &theirs), read(here, &again));
        assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&theirs), "{name}");
    }
}

/// Bytes of the head of masscan's binary file, which says when it was written.
const MASSCAN_HEAD: usize = 99;

/// A file of masscan's without the moments at which it says it was written, which the binary file it came from does not
/// hold: reading one, masscan writes the time of reading.
fn timeless(name: &str, bytes: &[u8]) -> String {
    let bytes = if name == "binary" { &bytes[MASSCAN_HEAD..] } else { bytes };
    let text = String::from_utf8_lossy(bytes);
    let dated = |line: &&str| match name {
        "grepable" => line.starts_with("# Masscan "),
        "xml" => {
            line.starts_with("<nmaprun ") || line.starts_with("<runstats>") || line.starts_with("<finished ")
        }
        _ => false,
    };
    text.split('\n').map(|line| if dated(&line) { "" } else { line }).collect::<Vec<_>>().join("\n")
}

#[test]
fn masscan_reads_our_binary_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let here = directory.path();
    let kind = sink_named("masscan-binary").expect("a kind");
    let records: Vec<Record> =
        samples().into_iter().filter(|record| kind.states.contains(&record.state)).collect();
    // Debian's version ends at a record of ARP, which it writes and cannot read.
    let records: Vec<Record> = records.into_iter().filter(|record| record.mac().is_none()).collect();
    write(here, "out.bin", "masscan-binary", &records, &[]);
    let arguments = ["--readscan", "out.bin", "-oL", "theirs.list", "--show", "all"];
    if tool(here, "masscan", &arguments).is_some() {
        let theirs = String::from_utf8(read(here, "theirs.list")).expect("text");
        let lines = theirs.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(lines, records.len(), "{theirs}");
        assert!(theirs.contains("open tcp 443 2001:db8::1:0:0:7 1795219200"), "{theirs}");
    }
}

// --- nmap ------------------------------------------------------------------------------------------------------

/// Writes records, then bytes about each of `attached`, in a format.
fn write(directory: &Path, name: &str, kind: &str, records: &[Record], attached: &[(Record, &str, &[u8])]) {
    let argument = format!("{kind}:{}", directory.join(name).display());
    let (kind, place) = parse_place(&argument, Existing::Refuse).expect("a place");
    let mut sink = (kind.open)(&place).expect("opens");
    sink.begin(&manifest(Status::Running)).expect("begins");
    sink.write(records).expect("writes");
    for (record, key, bytes) in attached {
        sink.attach(record, key, &Untrusted(bytes.to_vec())).expect("attaches");
    }
    sink.commit().expect("commits");
    sink.finish(&manifest(Status::Complete)).expect("finishes");
}

#[test]
fn importers_read_our_nmap_xml() {
    let directory = tempfile::tempdir().expect("a directory");
    let here = directory.path();
    let open = samples()[0];
    let banner: Vec<u8> = (0..=255).collect();
    write(
        here,
        "out.xml",
        "nmap-xml",
        &samples(),
        &[(open, "http", &banner), (open, "title", b"<b>]]></b>")],
    );
    write(here, "empty.xml", "nmap-xml", &[], &[]);
    let dtd = "/usr/share/nmap/nmap.dtd";
    for file in ["out.xml", "empty.xml"] {
        if Path::new(dtd).exists() {
            tool(here, "xmllint", &["--noout", "--nonet", "--dtdvalid", dtd, file]);
        }
    }
    // Debian's ndiff cannot order two scripts of one port, whoever wrote them: it is given one.
    write(here, "one.xml", "nmap-xml", &samples(), &[(open, "http", &banner)]);
    tool(here, "ndiff", &["one.xml", "one.xml"]);
    let program = "import sys
from libnmap.parser import NmapParser
report = NmapParser.parse_fromfile(sys.argv[1])
hosts = {host.address: host for host in report.hosts}
assert len(hosts) == len(report.hosts), 'one host for each address'
services = [(s.port, s.protocol, s.state, s.service) for s in hosts['198.18.0.7'].services]
assert services == [(80, 'tcp', 'open', 'http')], services
assert all(host.is_up() for host in report.hosts)
print(len(hosts))";
    if let Some(count) = python(here, "libnmap", program, &["out.xml"]) {
        let mut addresses: Vec<_> = samples().iter().map(Record::address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(count.trim(), addresses.len().to_string());
    }
    let program = "import sys, nmap
scan = nmap.PortScanner().analyse_nmap_xml_scan(open(sys.argv[1]).read())
assert scan['scan']['198.18.0.7']['tcp'][80]['state'] == 'open'
assert scan['scan']['198.18.0.10']['addresses']['mac'] == '02:00:29:AA:BB:CC'";
    python(here, "nmap", program, &["out.xml"]);
}

// --- our own ---------------------------------------------------------------------------------------------------

#[test]
fn our_json_lines_follow_the_schema() {
    let directory = tempfile::tempdir().expect("a directory");
    let open = samples()[0];
    write(
        directory.path(),
        "out.ndjson",
        "ndjson",
        &samples(),
        &[(open, "ssh", b"SSH-2.0\r\n"), (open, "x", b"\xff")],
    );
    let program = "import sys, json, jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
count = 0
for line in open(sys.argv[2]):
    validator.validate(json.loads(line)); count += 1
try:
    validator.validate({'ts': 'now'})
except jsonschema.ValidationError:
    print(count)";
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ndjson.schema.json");
    if let Some(count) = python(directory.path(), "jsonschema", program, &[schema, "out.ndjson"]) {
        assert_eq!(count.trim(), (samples().len() + 2).to_string());
    }
}

// --- hostile bytes ---------------------------------------------------------------------------------------------

/// What targets may send: terminal escapes, the ends of every format's strings, formulas, broken UTF-8, and noise.
fn hostile() -> Vec<Vec<u8>> {
    let known: [&[u8]; 16] = [
        b"\x1b[2J\x1b]0;owned\x07",
        b"]]><script>alert(1)</script><!--",
        b"\"},{\"ip\":\"192.0.2.1\"",
        b"=cmd|' /C calc'!A0",
        b"+1+1",
        b"-2+3",
        b"@SUM(1,2)",
        b"'already",
        b"\t=1",
        b"\r\n# end\r\n",
        b"a,b;c\td|e/f",
        b"\xff\xfe\xc0\x80\xed\xa0\x80",
        "\u{202e}txt.exe\u{2066}\u{feff}\u{200f}".as_bytes(),
        b"\0\0\0",
        b"\\x41\\u0041\\",
        b"&lt;&#x1b;&amp;",
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut strings: Vec<Vec<u8>> = known.iter().map(|bytes| bytes.to_vec()).collect();
    while strings.len() < 5000 {
        let mut bytes = known[usize::try_from(random() % 16).expect("small")].to_vec();
        for _ in 0..random() % 40 {
            bytes.push(random().to_le_bytes()[0]);
        }
        let at = usize::try_from(random()).unwrap_or(0) % (bytes.len() + 1);
        let turn = at.min(bytes.len());
        bytes.rotate_left(turn);
        strings.push(bytes);
    }
    strings
}

#[test]
fn hostile_bytes_leave_no_sink_raw_and_come_back_as_they_were() {
    let strings = hostile();
    let open = samples()[1];
    let attached: Vec<(Record, &str, &[u8])> =
        strings.iter().map(|bytes| (open, "http", &bytes[..])).collect();
    // PostgreSQL has a test of its own with a server (tests/servers.rs); ClickHouse has no table for them.
    let carrying = || SINKS.iter().filter(|kind| kind.carries_bytes && kind.name != "postgres");
    for kind in carrying() {
        let directory = tempfile::tempdir().expect("a directory");
        write(directory.path(), "out", kind.name, &[open], &attached);
        if !NO_TEXT.contains(&kind.name) {
            let bytes = read(directory.path(), "out");
            let text = std::str::from_utf8(&bytes).expect("UTF-8");
            let raw = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\r' | '\t');
            assert!(!text.chars().any(raw), "{}: a raw control character", kind.name);
            let turns = |letter: char| matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
            assert!(!text.chars().any(turns), "{}: a character that turns text", kind.name);
        }
        // nmap's grepable lines hold one version for a port; masscan's and _bulk bodies no source reads back.
        if !kind.name.ends_with("grepable") && kind.name != "esbulk" {
            let found = attachments(&directory.path().join("out"));
            let mut found: Vec<_> = found.iter().map(Vec::as_slice).collect();
            let mut sent: Vec<_> = strings.iter().map(Vec::as_slice).collect();
            if ["nmap-xml", "parquet", "arrow"].contains(&kind.name) {
                // They stand with their port, in no order of their own; columns hold each once.
                found.sort_unstable();
                sent.sort_unstable();
            }
            if ["parquet", "arrow"].contains(&kind.name) {
                sent.dedup();
            }
            assert_eq!(found.len(), sent.len(), "{}", kind.name);
            for (found, sent) in found.iter().zip(&sent) {
                assert_eq!(String::from_utf8_lossy(found), String::from_utf8_lossy(sent), "{}", kind.name);
                assert_eq!(found, sent, "{}", kind.name);
            }
        }
        independent(directory.path(), kind.name, &strings);
    }
    assert_eq!(carrying().count(), 14);
}

/// Kinds whose files are no text.
const NO_TEXT: [&str; 4] = ["masscan-binary", "sqlite", "parquet", "arrow"];

#[test]
fn a_sink_without_a_place_for_hostile_bytes_writes_none_of_them() {
    let strings = hostile();
    let open = samples()[0];
    let attached: Vec<(Record, &str, &[u8])> =
        strings.iter().map(|bytes| (open, "http", &bytes[..])).collect();
    let kinds =
        SINKS.iter().filter(|kind| !kind.carries_bytes && !["none", "clickhouse"].contains(&kind.name));
    for kind in kinds {
        let directory = tempfile::tempdir().expect("a directory");
        write(directory.path(), "without", kind.name, &[open], &[]);
        write(directory.path(), "with", kind.name, &[open], &attached);
        assert_eq!(read(directory.path(), "with"), read(directory.path(), "without"), "{}", kind.name);
    }
}

/// The bytes that stand in a file.
fn attachments(path: &Path) -> Vec<Vec<u8>> {
    let mut source = source::open(path.to_str().expect("text")).expect("opens");
    let (mut batch, mut bytes) = (Default::default(), Vec::new());
    while source.read(&mut batch).expect("reads") {
        bytes.extend(batch.attachments.drain(..).map(|(_, attachment)| attachment.bytes.0));
    }
    bytes
}

/// Readers that are not ours read the 5,000 strings: as many records as there are, and where a format keeps the bytes
/// exactly, the same bytes.
fn independent(directory: &Path, kind: &str, strings: &[Vec<u8>]) {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let sent: String = strings.iter().map(|bytes| hex(bytes) + "\n").collect();
    fs::write(directory.join("sent"), sent).expect("writes");
    let program = match kind {
        "csv" => {
            "import csv
rows=list(csv.reader(open(out,newline=''),strict=True))
assert len(rows)==5002 and all(len(row)==19 for row in rows)
assert not [cell for row in rows for cell in row if cell[:1] in set('=+-@\\t\\r')]"
        }
        "ndjson" => {
            "import json
rows=[json.loads(line) for line in open(out)][1:]
same([(row['banner'].encode() if 'banner' in row else bytes.fromhex(row['banner_hex'])) for row in rows])"
        }
        "esbulk" => {
            "import json
lines=[json.loads(line) for line in open(out)]
assert len(lines)==10002 and all(set(action)=={'index'} for action in lines[::2])
assert len({action['index']['_id'] for action in lines[::2]})==1+len(set(sent)), 'names are those of contents'
same([(row['banner'].encode() if 'banner' in row else bytes.fromhex(row['banner_hex'])) for row in lines[3::2]])"
        }
        "masscan-ndjson" => {
            "import json; assert sum(1 for line in open(out) if json.loads(line))==5001"
        }
        "masscan-json" => "import json; assert len(json.load(open(out)))==5001",
        "masscan-list" => {
            "import re
lines=open(out,newline='').read().split('\\n')
assert sum(bool(re.fullmatch(r'banner tcp 80 198.18.0.7 \\d+ http [ -~]*',line)) for line in lines)==5000"
        }
        "masscan-grepable" => {
            "import re
lines=open(out,newline='').read().split('\\n')
assert sum(bool(re.fullmatch(r'(Timestamp: \\d+\\t)?Host: 198.18.0.7 \\(\\)\\tPort: 80\\tService: http\\tBanner: [ -~]*',line)) for line in lines)==5000"
        }
        "nmap-grepable" => {
            "lines=[line for line in open(out,newline='').read().split('\\n') if line and line[0]!='#']
assert all(line.startswith('Host: ') and line.isprintable() for line in (line.replace('\\t',' ') for line in lines)), lines
assert [len(line.split('Ports: ')[1].split('/')) for line in lines if 'Ports: ' in line]==[8]"
        }
        "masscan-xml" | "nmap-xml" => "import xml.dom.minidom as m; m.parse(out)",
        "sqlite" => {
            "import sqlite3
same([row[0] for row in sqlite3.connect(out).execute('SELECT bytes FROM attachment ORDER BY rowid')])"
        }
        "parquet" | "arrow" => {
            let program = "import pyarrow.parquet as pq
table=pq.read_table(out+'.attachments.parquet')
assert set(table['ip'].to_pylist())=={'198.18.0.7'} and set(table['key'].to_pylist())=={'http'}
assert sorted(table['bytes'].to_pylist())==sorted(set(sent))";
            python(directory, "pyarrow", &[PRELUDE, program].concat(), &["out", "sent"]);
            return;
        }
        "masscan-binary" => {
            let arguments = ["--readscan", "out", "-oL", "theirs", "--show", "all"];
            if tool(directory, "masscan", &arguments).is_some() {
                let theirs = read(directory, "theirs");
                let banners = theirs.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"banner "));
                assert_eq!(banners.count(), 5000, "masscan reads every record");
            }
            return;
        }
        other => panic!("no reader for {other}"),
    };
    tool(directory, "python3", &["-c", &[PRELUDE, program].concat(), "out", "sent"]);
}

/// What the programs of [`independent`] share.
const PRELUDE: &str = "import sys
out=sys.argv[1]
sent=[bytes.fromhex(line.strip()) for line in open(sys.argv[2])]
def same(found):
    assert len(found)==len(sent)==5000, len(found)
    for one,other in zip(found,sent): assert one==other, (one,other)
";

// --- compressed ------------------------------------------------------------------------------------------------

#[test]
fn what_was_committed_can_be_decompressed_without_the_end() {
    for kind in SINKS.iter().filter(|kind| kind.packs) {
        for (suffix, program) in [("gz", "gzip"), ("zst", "zstd")] {
            let directory = tempfile::tempdir().expect("a directory");
            let name = format!("out.{suffix}");
            let argument = format!("{}:{}", kind.name, directory.path().join(&name).display());
            let (kind, place) = parse_place(&argument, Existing::Refuse).expect("a place");
            let records: Vec<Record> =
                samples().into_iter().filter(|record| kind.states.contains(&record.state)).collect();
            let mut sink = (kind.open)(&place).expect("opens");
            sink.begin(&manifest(Status::Running)).expect("begins");
            for _ in 0..3 {
                sink.write(&records).expect("writes");
                sink.commit().expect("commits");
            }
            sink.write(&records).expect("writes");
            drop(sink);
            let Some(text) = tool(directory.path(), program, &["-dc", &name]) else { continue };
            if kind.name == "masscan-json" {
                let array: Vec<serde_json::Value> = serde_json::from_str(&text).expect("a whole document");
                assert_eq!(array.len(), 3 * records.len());
            } else if kind.name == "ndjson" {
                assert_eq!(text.lines().count(), 3 * records.len());
            }
            assert!(!text.is_empty(), "{}", kind.name);
        }
    }
}

// --- convert ---------------------------------------------------------------------------------------------------

#[test]
fn a_conversion_filters_sorts_and_drops_repetitions() {
    let directory = tempfile::tempdir().expect("a directory");
    let here = directory.path();
    write(here, "in.ndjson", "ndjson", &samples().repeat(3), &[]);
    let lines = |arguments: &[&str]| {
        swath(here, &[&["convert", "in.ndjson", "-o", "ndjson:-"], arguments].concat()).exits(0).out
    };
    let count = |arguments: &[&str]| lines(arguments).lines().count();
    let repeated = |keep: fn(&Record) -> bool| samples().iter().filter(|record| keep(record)).count() * 3;
    assert_eq!(count(&[]), samples().len() * 3);
    assert_eq!(count(&["--open"]), repeated(|record| record.state == State::Open));
    assert_eq!(count(&["-p", "80,U:53"]), repeated(|record| matches!(record.port, 80 | 53)));
    assert_eq!(count(&["--targets", "2001:db8::/32"]), repeated(|record| record.address().is_ipv6()));
    assert_eq!(count(&["--exclude", "2001:db8::/32"]), repeated(|record| record.address().is_ipv4()));
    assert_eq!(count(&["--where", "ttl > 50 and state = open"]), 3);
    let targets: std::collections::BTreeSet<_> =
        samples().iter().map(|record| (record.target(), record.state.number())).collect();
    assert_eq!(count(&["--dedup"]), targets.len());
    assert_eq!(
        count(&["--join"]),
        targets.iter().map(|(target, _)| target).collect::<std::collections::BTreeSet<_>>().len()
    );
    let times: Vec<String> =
        lines(&["--sort=time"]).lines().map(|line| line.split('"').nth(3).expect("ts").to_owned()).collect();
    assert!(times.is_sorted() && times.len() == samples().len() * 3);
    swath(here, &["convert", "in.ndjson", "-o", "in.ndjson", "--force"]).exits(2);
    swath(here, &["convert", "missing", "-o", "new.db"]).exits(1);
    assert!(!here.join("new.db").exists(), "what cannot be read creates nothing");
    swath(here, &["convert", "in.ndjson", "-o", "x.csv", "--where", "port = http"]).exits(2);
}

#[test]
fn every_sink_s_file_that_a_source_reads_converts_into_every_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let here = directory.path();
    let open: Vec<Record> = samples().into_iter().filter(|record| record.state == State::Open).collect();
    for source in source::SOURCES {
        let Some(kind) = sink_named(source.name) else { continue };
        let name = format!("in.{}", kind.name);
        write(here, &name, kind.name, &open, &[]);
        let from = format!("{}:{name}", kind.name);
        let ran = swath(here, &["convert", &from, "-o", "list:-", "--dedup"]).exits(0);
        let mut lines: Vec<&str> = ran.out.lines().collect();
        lines.sort_unstable();
        lines.dedup();
        assert!(
            lines.contains(&"198.18.0.7:80") && lines.contains(&"[2001:db8::1:0:0:7]:443"),
            "{}: {lines:?}",
            kind.name
        );
    }
}

#[test]
fn files_rotate_by_rows_and_nothing_is_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    let here = directory.path();
    write(here, "in.ndjson", "ndjson", &samples().repeat(10), &[]);
    swath(here, &["convert", "in.ndjson", "-oJ", "out.json", "--rotate", "50-rows"]).exits(0);
    let mut total = 0;
    let parts = (samples().len() * 10).div_ceil(50);
    for part in 0..parts {
        let array: Vec<serde_json::Value> =
            serde_json::from_slice(&read(here, &format!("out-{part:05}.json"))).expect("a whole document");
        assert!(array.len() <= 50);
        total += array.len();
    }
    assert_eq!(total, samples().len() * 10);
    assert!(!here.join("out.json").exists());
    swath(here, &["convert", "in.ndjson", "-o", "hour.csv", "--rotate", "1h"]).exits(0);
    let names: Vec<String> = fs::read_dir(here)
        .expect("lists")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert!(names.iter().any(|name| name == "261121-000000-hour.csv"), "{names:?}");
}

#[test]
fn a_configuration_file_is_read_and_echoed() {
    let directory = tempfile::tempdir().expect("a directory");
    let here = directory.path();
    fs::write(
        here.join("paused.conf"),
        "# masscan\nseed = 7\nrate = 100       \nshard = 1/1\nnocapture = servername\n\n# TARGETS\nports = 80,U:53\nrange = 192.0.2.0/30\nrange = 192.0.2.8\n",
    )
    .expect("writes");
    let echoed = swath(here, &["-c", "paused.conf", "--echo"]).exits(0).out;
    for line in [
        "seed = 7",
        "rate = 100",
        "shard = 1/1",
        "ports = 80,U:53",
        "range = 192.0.2.0/30",
        "range = 192.0.2.8",
    ] {
        assert!(echoed.lines().any(|known| known == line), "{line} in {echoed}");
    }
    fs::write(here.join("echo.conf"), &echoed).expect("writes");
    assert_eq!(swath(here, &["--conf=echo.conf", "--echo"]).exits(0).out, echoed);
    fs::write(here.join("masscan.conf"), "resume-index = 5\nrange = 192.0.2.1\n").expect("writes");
    assert!(swath(here, &["--resume", "masscan.conf", "-p80"]).exits(2).err.contains("masscan.conf:1"));
    fs::write(here.join("wrong.conf"), "rate = 1\nrat = 2\n").expect("writes");
    assert!(swath(here, &["-c", "wrong.conf", "-p80", "192.0.2.1"]).exits(2).err.contains("wrong.conf:2"));
    swath(here, &["-c", "missing.conf", "-p80", "192.0.2.1"]).exits(2);
}
