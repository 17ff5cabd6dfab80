//! The commands about results that exist, from outside: `convert`, `diff`, `compact`, `replay`; what they refuse, leave
//! behind and print. No packet, no privilege.

mod common;
mod samples;

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Ran, SWATH, swath};
use samples::samples;
use swath::event::{Manifest, Record, Status, Untrusted};
use swath::sink::{Existing, parse_place};
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// A file of the samples, with a banner, by its kind.
fn file(directory: &Path, name: &str, kind: &str) -> PathBuf {
    write(directory, name, kind, &samples(), &samples::manifest(Status::Complete))
}

fn write(directory: &Path, name: &str, kind: &str, records: &[Record], manifest: &Manifest) -> PathBuf {
    let path = directory.join(name);
    let argument = format!("{kind}:{}", path.display());
    let (kind, place) = parse_place(&argument, Existing::Refuse).expect("a place");
    let mut sink = swath::sink::open(kind, &place).expect("opens");
    sink.begin(manifest).expect("begins");
    sink.write(records).expect("writes");
    if let Some(record) = records.first() {
        sink.attach(record, "ssh", &Untrusted(b"SSH-2.0-x\r\n\xff".to_vec())).expect("attaches");
    }
    sink.commit().expect("commits");
    sink.finish(manifest).expect("finishes");
    path
}

/// Everything below a directory, by name.
fn listed(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("lists");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

// --- convert: what is refused ------------------------------------------------------------------------------------

#[test]
fn a_file_is_never_converted_onto_itself_whatever_name_it_goes_by() {
    let directory = directory();
    let here = directory.path();
    file(here, "a.ndjson", "ndjson");
    fs::hard_link(here.join("a.ndjson"), here.join("hard.ndjson")).expect("links");
    let before = fs::read(here.join("a.ndjson")).expect("reads");
    let whole = here.join("a.ndjson").display().to_string();
    for output in ["a.ndjson", "./a.ndjson", "ndjson:a.ndjson", &whole, "hard.ndjson"] {
        for how in ["--force", "--append-output"] {
            let ran = swath(here, &["convert", "ndjson:a.ndjson", "-o", output, how]).exits(2);
            assert!(ran.err.contains("it is read, too"), "{output} {how}: {}", ran.err);
        }
    }
    assert_eq!(fs::read(here.join("a.ndjson")).expect("reads"), before);
}

#[test]
fn two_outputs_to_one_place_are_refused_and_leave_nothing() {
    let directory = directory();
    let here = directory.path();
    file(here, "in.ndjson", "ndjson");
    let before = listed(here);
    for (one, other) in [("x.csv", "x.csv"), ("x.csv", "./x.csv"), ("csv:x", "ndjson:x")] {
        let ran = swath(here, &["convert", "in.ndjson", "-o", one, "-o", other]).exits(2);
        assert!(ran.err.contains("two outputs go there"), "{one} {other}: {}", ran.err);
        assert_eq!(listed(here), before);
    }
    // A device takes both.
    swath(here, &["convert", "in.ndjson", "-o", "csv:/dev/null", "-o", "ndjson:/dev/null"]).exits(0);
}

#[test]
fn an_output_that_is_refused_takes_the_others_with_it_and_the_mended_line_runs() {
    let directory = directory();
    let here = directory.path();
    file(here, "in.ndjson", "ndjson");
    fs::write(here.join("old.csv"), "precious\n").expect("writes");
    let before = listed(here);
    for refused in ["old.csv", "x.xyz", "nosuffix", "csv:missing/x", "new.xml.gz", "postgres://u@h/d?wat=1"] {
        let ran = swath(here, &["convert", "in.ndjson", "-o", "new.ndjson", "-o", "new.db", "-o", refused]);
        assert!(matches!(ran.code, Some(1 | 2)) && !ran.err.is_empty(), "{refused}: {:?}", ran.code);
        assert_eq!(listed(here), before, "{refused}");
    }
    assert_eq!(fs::read(here.join("old.csv")).expect("reads"), b"precious\n");
    swath(here, &["convert", "in.ndjson", "-o", "new.ndjson", "-o", "new.db"]).exits(0);
}

#[test]
fn a_password_in_an_address_reaches_no_message_no_file_and_no_other_command() {
    let directory = directory();
    let here = directory.path();
    file(here, "in.ndjson", "ndjson");
    for scheme in ["postgres", "clickhouse"] {
        for address in [
            format!("{scheme}://user:geheim@127.0.0.1:1/d"),
            format!("{scheme}://user@127.0.0.1:1/d?password=geheim"),
        ] {
            for words in [
                &["convert", "in.ndjson", "-o", "out.ndjson", "-oX", "out.xml", "-o", &address][..],
                &["bench", "write", &address, "--rounds", "1", "--records", "1000"],
                &["replay", "no.spool", "--to", &address],
                &["198.18.0.1", "-p", "80", "--link", "null", "-o", "scan.ndjson", "-o", &address],
            ] {
                let ran = swath(here, words);
                assert_ne!(ran.code, Some(0), "{words:?}");
                assert!(!format!("{}{}", ran.out, ran.err).contains("geheim"), "{words:?}: {}", ran.err);
            }
        }
    }
    for name in listed(here) {
        let bytes = fs::read(here.join(&name)).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains("geheim"), "{name}");
    }
}

#[test]
fn encrypted_connections_are_refused_with_the_way_out() {
    let directory = directory();
    file(directory.path(), "in.ndjson", "ndjson");
    for address in [
        "postgres://u@h/d?sslmode=require",
        "postgres://u@h/d?sslmode=verify-full",
        "clickhouse://h:8443/d?secure=1",
        "clickhouses://h/d",
        "https://h/d",
    ] {
        let ran = swath(directory.path(), &["convert", "in.ndjson", "-o", address]).exits(2);
        assert!(ran.err.contains("tunnel") || ran.err.contains("Kinds:"), "{address}: {}", ran.err);
    }
}

// --- convert: what is read ---------------------------------------------------------------------------------------

#[test]
fn what_is_empty_cut_off_or_no_file_is_told_and_creates_nothing() {
    let directory = directory();
    let here = directory.path();
    file(here, "in.ndjson", "ndjson");
    fs::write(here.join("empty"), b"").expect("writes");
    fs::write(here.join("empty.zst"), b"").expect("writes");
    fs::create_dir(here.join("directory")).expect("makes");
    fs::write(here.join("noise"), [7_u8; 900]).expect("writes");
    let before = listed(here);
    for (input, why) in [
        ("empty", "it is empty"),
        ("empty.zst", "it is empty"),
        ("directory", "it is a directory"),
        ("noise", "of no kind swath reads"),
        ("missing", "No such file"),
        ("sqlite:in.ndjson", "cannot read in.ndjson"),
        ("parquet:noise", "cannot read noise"),
    ] {
        let ran = swath(here, &["convert", input, "-o", "out.csv"]).exits(1);
        assert!(ran.err.contains(why), "{input}: {}", ran.err);
        assert_eq!(listed(here), before, "{input}");
    }
    // No line is a file of JSON lines all the same.
    assert!(swath(here, &["convert", "ndjson:empty", "-o", "csv:-"]).exits(0).out.starts_with("ts,ip,port"));
}

#[test]
fn a_packed_file_without_its_end_is_read_up_to_it_and_says_so() {
    let directory = directory();
    let here = directory.path();
    let mut input = fs::read(file(here, "in.ndjson", "ndjson")).expect("reads");
    // Two parts each, of which the first is whole.
    let (member, frame) = (gzip(&input), zstd::encode_all(&input[..], 1).expect("packs"));
    input = input.repeat(2);
    for (name, packed) in
        [("cut.gz", [&member[..], &member].concat()), ("cut.zst", [&frame[..], &frame].concat())]
    {
        fs::write(here.join(name), &packed[..packed.len() - 40]).expect("writes");
        let ran = swath(here, &["convert", name, "-o", "ndjson:-", "-q"]);
        assert_eq!(ran.code, Some(0), "{name}: {}", ran.err);
        assert!(ran.err.contains("cut off"), "{name}: {}", ran.err);
        let whole = String::from_utf8_lossy(&input);
        assert!(whole.starts_with(ran.out.trim_end()) && whole.len() / 2 <= ran.out.len(), "{name}");
        fs::write(here.join(name), &packed[..15]).expect("writes");
        assert!(
            swath(here, &["convert", name, "-o", "-"]).exits(1).err.contains("cut off before anything"),
            "{name}"
        );
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new("gzip")
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip runs");
    child.stdin.take().expect("piped").write_all(bytes).expect("takes");
    child.wait_with_output().expect("ends").stdout
}

#[test]
fn a_line_without_end_is_refused_in_little_memory() {
    let directory = directory();
    let mut long = b"{\"ip\":\"192.0.2.1\",\"port\":".to_vec();
    long.resize(30_000_000, b'9');
    fs::write(directory.path().join("long"), long).expect("writes");
    let ran = swath(directory.path(), &["convert", "ndjson:long", "-o", "-"]).exits(1);
    assert!(ran.err.contains("long, line 1: it is longer than"), "{}", ran.err);
}

#[test]
fn standard_input_is_read_and_standard_output_written() {
    let directory = directory();
    let here = directory.path();
    let input = fs::File::open(file(here, "in.ndjson", "ndjson")).expect("opens");
    let mut command = Command::new(SWATH);
    command.args(["convert", "-", "-o", "ndjson:-"]).current_dir(here).stdin(input);
    let ran = Ran::of(&command.output().expect("runs")).exits(0);
    assert_eq!(ran.out, fs::read_to_string(here.join("in.ndjson")).expect("reads"));
}

// --- convert: what is written ------------------------------------------------------------------------------------

#[test]
fn a_reader_that_leaves_ends_a_conversion_without_a_word() {
    let directory = directory();
    let here = directory.path();
    let text = fs::read_to_string(file(here, "in.ndjson", "ndjson")).expect("reads");
    let verdicts: String =
        text.lines().filter(|line| !line.contains("service")).map(|line| format!("{line}\n")).collect();
    fs::write(here.join("large.ndjson"), verdicts.repeat(5000)).expect("writes");
    for output in ["ndjson:-", "csv:-", "list:-", "-", "arrow:-", "pgcopy:-", "esbulk:-"] {
        let mut command = Command::new(SWATH);
        command.args(["convert", "large.ndjson", "--quiet", "--open", "-o", output]).current_dir(here);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let mut first = [0; 10];
        child.stdout.take().expect("piped").read_exact(&mut first).expect("some of it");
        let ran = Ran::of(&child.wait_with_output().expect("ends")).exits(0);
        assert_eq!(ran.err, "", "{output}");
    }
}

#[test]
fn a_device_without_room_is_an_error_of_every_stream() {
    let directory = directory();
    file(directory.path(), "in.ndjson", "ndjson");
    for kind in ["ndjson", "csv", "masscan-json", "nmap-xml", "nmap-grepable", "arrow", "pgcopy"] {
        let full = format!("{kind}:/dev/full");
        let ran = swath(directory.path(), &["convert", "in.ndjson", "-o", &full]).exits(1);
        assert!(ran.err.contains("/dev/full"), "{kind}: {}", ran.err);
    }
}

#[test]
fn compressed_outputs_are_streams_and_others_are_refused_with_the_reason() {
    let directory = directory();
    let here = directory.path();
    let plain = fs::read(file(here, "in.ndjson", "ndjson")).expect("reads");
    swath(here, &["convert", "in.ndjson", "-o", "out.ndjson.zst"]).exits(0);
    assert_eq!(
        zstd::decode_all(&fs::read(here.join("out.ndjson.zst")).expect("reads")[..]).expect("unpacks"),
        plain
    );
    for refused in ["x.xml.gz", "x.gnmap.zst", "x.db.gz", "x.parquet.zst"] {
        let ran = swath(here, &["convert", "in.ndjson", "-o", refused]).exits(2);
        assert!(ran.err.contains("cannot be compressed by suffix"), "{refused}: {}", ran.err);
    }
    let ran = swath(here, &["convert", "in.ndjson", "-o", "out.ndjson.zst", "--append-output"]).exits(2);
    assert!(ran.err.contains("nothing is appended to a compressed file"), "{}", ran.err);
}

#[test]
fn every_file_has_its_manifest_beside_it_and_parts_have_theirs() {
    let directory = directory();
    let here = directory.path();
    file(here, "in.ndjson", "ndjson");
    swath(here, &["convert", "in.ndjson", "-oA", "all", "-o", "x.csv"]).exits(0);
    swath(here, &["convert", "in.ndjson", "-o", "r.csv", "--rotate", "10-rows"]).exits(0);
    for name in listed(here).iter().filter(|name| !name.ends_with(".manifest.json")) {
        if name == "in.ndjson" {
            continue;
        }
        let text = fs::read(here.join(format!("{name}.manifest.json")))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let manifest: Manifest = serde_json::from_slice(&text).expect("a manifest");
        assert_eq!(manifest.status, Status::Complete, "{name}");
        // The scan's, as there is one.
        assert_eq!(manifest.seed, u64::MAX, "{name}");
    }
    let parts = listed(here).into_iter().filter(|name| name.starts_with("r-") && name.ends_with(".csv"));
    assert_eq!(parts.count(), samples().len().div_ceil(10));
}

#[test]
fn banners_go_through_columns_and_databases_and_are_told_where_there_is_no_place() {
    let directory = directory();
    let here = directory.path();
    file(here, "in.ndjson", "ndjson");
    let expected = lines(&fs::read_to_string(here.join("in.ndjson")).expect("reads"));
    for middle in ["m.parquet", "m.arrow", "m.csv"] {
        swath(here, &["convert", "in.ndjson", "-o", middle]).exits(0);
        let back = swath(here, &["convert", middle, "-o", "ndjson:-"]).exits(0);
        let banners = |lines: &[String]| lines.iter().filter(|line| line.contains("banner")).count();
        assert_eq!(banners(&lines(&back.out)), banners(&expected), "{middle}");
    }
    assert!(here.join("m.attachments.parquet").exists());
    swath(here, &["convert", "in.ndjson", "-o", "m.db"]).exits(0);
    let back = swath(here, &["convert", "m.db", "-o", "ndjson:-", "--where", "service = ssh"]).exits(0);
    assert!(
        back.out.contains("\"service\":\"ssh\",\"banner_hex\":\"5353482d322e302d780d0aff\""),
        "{}",
        back.out
    );
    // The file of bytes by itself is read, too.
    let alone = swath(here, &["convert", "m.attachments.parquet", "-o", "ndjson:-"]).exits(0).out;
    assert!(alone.lines().count() == 1 && alone.contains("banner_hex"), "{alone}");
    for (kind, says) in [("list:-", true), ("arrow:-", true), ("ndjson:-", false)] {
        let ran = swath(here, &["convert", "in.ndjson", "-q", "--open", "-o", kind]);
        assert_eq!(ran.err.contains("no place for 1 banner"), says, "{kind}: {}", ran.err);
    }
}

#[test]
fn a_directory_of_parts_keeps_the_bytes_of_each_scan_once() {
    let directory = directory();
    let here = directory.path();
    file(here, "in.ndjson", "ndjson");
    for _ in 0..2 {
        swath(here, &["convert", "in.ndjson", "-o", "parquet:parts/"]).exits(0);
    }
    let bytes = listed(&here.join("parts/attachments"));
    assert!(bytes.len() == 2 && bytes.iter().all(|name| name.ends_with(".parquet")), "{bytes:?}");
    let parts: Vec<String> =
        listed(&here.join("parts")).into_iter().filter(|name| name.ends_with(".parquet")).collect();
    assert_eq!(parts.len(), 2, "the bytes do not stand among the parts");
    swath(here, &["compact", "parts", "-o", "all.parquet"]).exits(0);
    let alone = swath(here, &["convert", "all.attachments.parquet", "-o", "ndjson:-"]).exits(0).out;
    assert_eq!(alone.lines().count(), 1, "{alone}");
}

#[test]
fn a_file_that_is_replaced_loses_the_bytes_of_the_old_one() {
    let directory = directory();
    let here = directory.path();
    file(here, "in.ndjson", "ndjson");
    swath(here, &["convert", "in.ndjson", "-o", "x.parquet"]).exits(0);
    swath(here, &["convert", "in.ndjson", "-o", "x.parquet", "--append-output"]).exits(0);
    let read = |name: &str| swath(here, &["convert", name, "-o", "ndjson:-"]).exits(0).out;
    assert_eq!(read("x.parquet").matches("banner_hex").count(), 1, "each once");
    let without = ["convert", "in.ndjson", "-o", "x.parquet", "--force", "--where", "port = 22"];
    swath(here, &without).exits(0);
    assert!(!here.join("x.attachments.parquet").exists());
}

// --- diff ----------------------------------------------------------------------------------------------------------

#[test]
fn a_difference_is_told_in_three_forms_and_by_the_exit_code() {
    let directory = directory();
    let here = directory.path();
    let all = samples();
    let manifest = samples::manifest(Status::Complete);
    write(here, "a.parquet", "parquet", &all, &manifest);
    let fewer: Vec<Record> = all.iter().filter(|record| record.port != 80).copied().collect();
    write(here, "b.parquet", "parquet", &fewer, &manifest);
    let same = swath(here, &["diff", "a.parquet", "a.parquet"]).exits(0);
    assert!(same.out.contains("0 opened, 0 closed, 0 changed"), "{}", same.out);
    let covered = ["diff", "a.parquet", "b.parquet", "--assume-covered"];
    let text = swath(here, &covered).exits(3).out;
    assert!(text.contains("- 198.18.0.7 80/tcp") && text.contains("1 closed"), "{text}");
    let back = swath(here, &["diff", "b.parquet", "a.parquet", "--assume-covered"]).exits(3).out;
    assert!(back.contains("+ 198.18.0.7 80/tcp") && back.contains("1 opened"), "{back}");
    let json = swath(here, &[&covered[..], &["--format", "ndjson"]].concat()).exits(3).out;
    let rows: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(rows.iter().any(|row| row["change"] == "closed" && row["ip"] == "198.18.0.7"), "{json}");
    let table = swath(here, &[&covered[..], &["--format", "markdown"]].concat()).exits(3).out;
    assert!(
        table.starts_with("| change | address | port |")
            && table.contains("| closed | 198.18.0.7 | 80/tcp |")
    );
    // Whether the scans covered it is known by their manifests only.
    fs::copy(here.join("b.parquet"), here.join("c.parquet")).expect("copies");
    swath(here, &["convert", "b.parquet", "-o", "list:plain.txt", "--open"]).exits(0);
    swath(here, &["convert", "a.parquet", "-o", "x.csv"]).exits(0);
    swath(here, &["convert", "b.parquet", "-o", "y.csv"]).exits(0);
    fs::remove_file(here.join("y.csv.manifest.json")).expect("removes");
    let ran = swath(here, &["diff", "x.csv", "y.csv"]);
    assert!(
        ran.err.contains("y.csv has no manifest") && ran.out.contains("not comparable"),
        "{}{}",
        ran.out,
        ran.err
    );
    assert!(!ran.out.contains("- 198.18.0.7"), "silence of an unknown scan is no answer: {}", ran.out);
    for wrong in [&["diff", "a.parquet"][..], &["diff", "a.parquet", "b.parquet", "--format", "html"]] {
        swath(here, wrong).exits(2);
    }
    swath(here, &["diff", "a.parquet", "missing"]).exits(1);
}

// --- compact, replay -------------------------------------------------------------------------------------------------

#[test]
fn compacting_refuses_what_exists_and_what_it_cannot_write() {
    let directory = directory();
    let here = directory.path();
    file(here, "a.parquet", "parquet");
    file(here, "b.ndjson", "ndjson");
    let ran = swath(here, &["compact", "a.parquet", "b.ndjson", "-o", "all.arrow"]).exits(0);
    assert!(ran.err.contains("distinct verdicts in all.arrow"), "{}", ran.err);
    assert!(swath(here, &["compact", "a.parquet", "-o", "all.arrow"]).exits(2).err.contains("--force"));
    swath(here, &["compact", "a.parquet", "-o", "all.arrow", "--force"]).exits(0);
    assert!(
        swath(here, &["compact", "a.parquet", "-o", "all.csv"]).exits(2).err.contains("swath convert --sort")
    );
    fs::create_dir(here.join("none")).expect("makes");
    assert!(swath(here, &["compact", "none", "-o", "x.parquet"]).exits(1).err.contains("no part is in it"));
    assert!(!here.join("x.parquet").exists());
    let same = swath(here, &["compact", "a.parquet", "-o", "a.parquet", "--force"]).exits(0);
    assert!(same.err.contains("results read"), "{}", same.err);
}

#[test]
fn a_replay_of_what_is_no_spool_names_it() {
    let directory = directory();
    for words in [&["replay", "nothing"][..], &["replay", "nothing", "--to", "x.parquet"], &["replay"]] {
        assert!(!swath(directory.path(), words).exits(2).err.is_empty());
    }
}

// --- as other tools ------------------------------------------------------------------------------------------------

#[test]
fn fields_and_filters_of_zmap_mean_what_they_mean_there() {
    let directory = directory();
    let here = directory.path();
    file(here, "in.ndjson", "ndjson");
    let zmap = |words: &[&str]| {
        let all = [&["convert", "in.ndjson", "--compat", "zmap", "-q"], words].concat();
        swath(here, &all)
    };
    let out = zmap(&["-o", "-", "-f", "saddr,sport,success", "--output-filter", "success = 1 && sport = 80"])
        .exits(0)
        .out;
    assert!(
        out.starts_with("saddr,sport,success\n") && out.lines().skip(1).all(|line| line == "198.18.0.7,80,1"),
        "{out}"
    );
    let bare =
        zmap(&["-o", "-", "-f", "saddr", "--no-header-row", "--output-filter", "sport = 80"]).exits(0).out;
    assert!(bare.lines().all(|line| line == "198.18.0.7"), "{bare}");
    let json = zmap(&["-O", "json", "-o", "-", "-f", "saddr,ttl"]).exits(0).out;
    assert!(json.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{json}");
    for (words, why) in [
        (&["-o", "-", "-f", "saddr,seqnum"][..], "'seqnum' is a field swath does not keep"),
        (&["-o", "-", "-f", "saddr,wat"], "wat"),
        (&["-o", "-", "--output-filter", "wat = 1"], "wat"),
        (&["-o", "-", "-O", "xml"], "there are csv and json"),
    ] {
        assert!(zmap(words).exits(2).err.contains(why), "{words:?}");
    }
}
