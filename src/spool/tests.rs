//! Spools that are whole, torn, damaged, full and on a broken disk.

use std::net::Ipv4Addr;
use std::sync::Mutex;

use super::*;
use crate::event::{Reason, State};
use crate::target::{Port, Protocol, Target};

fn record(number: u32) -> Record {
    let address = Ipv4Addr::from_bits(number).into();
    let port = Port { protocol: Protocol::TCP, number: 80 };
    Record::new(Target { address, port }, address, State::Open, Reason::SYN_ACK)
}

fn records(range: std::ops::Range<u32>) -> Vec<Record> {
    range.map(record).collect()
}

/// Everything a reader finds, and what it says about the rest.
fn read(directory: &Path) -> (Vec<Record>, Vec<String>, Damage) {
    let mut reader = SpoolReader::open(directory).expect("opens");
    let (mut records, mut keys) = (Vec::new(), Vec::new());
    loop {
        match reader.next(&mut records).expect("reads") {
            Item::End => break,
            Item::Attachment(attachment) => keys.push(attachment.1),
            Item::Records(_) => {}
        }
    }
    (records, keys, reader.finish().expect("reads").clone())
}

fn spool(directory: &Path) -> Spool {
    Spool::create(
        directory,
        &Manifest { scan_uuid: "abc".into(), ..Manifest::default() },
        "postgres:///scans",
    )
    .expect("creates")
}

#[test]
fn what_is_written_is_read_in_its_order_across_segments() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.spool");
    let mut spool = spool(&path);
    spool.segment_bytes = 300_000;
    let all = records(0..20_000);
    spool.append(&all[..9_000]).expect("room");
    assert_eq!(spool.safe(), 8192, "whole blocks are safe at once");
    spool.attach(&all[0], "banner", &Untrusted(vec![0, 255])).expect("room");
    spool.append(&all[9_000..]).expect("room");
    spool.close(&Manifest { scan_uuid: "def".into(), ..Manifest::default() }).expect("room");
    assert_eq!(spool.safe(), 20_000);
    drop(spool);
    let (found, keys, damage) = read(&path);
    assert!(found == all && keys == ["banner"]);
    assert_eq!(damage, Damage::default());
    assert!(segment_path(&path, 3).exists(), "several segments");
    assert_eq!(SpoolReader::manifest(&path).expect("reads").scan_uuid, "def");
    assert_eq!(SpoolReader::destination(&path).expect("reads"), "postgres:///scans");
    assert!(is_spool(&path) && !is_spool(directory.path()));
}

#[test]
fn a_tail_that_was_torn_at_any_byte_is_cut_and_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.spool");
    let mut spool = spool(&path);
    for part in 0..3 {
        spool.append(&records(part * 10..part * 10 + 10)).expect("room");
        spool.flush().expect("room");
    }
    drop(spool);
    let segment = segment_path(&path, 1);
    let whole = fs::read(&segment).expect("reads");
    let block = block::HEADER + 640;
    for length in block::SEGMENT_HEADER..whole.len() {
        fs::write(&segment, &whole[..length]).expect("writes");
        let (found, _, damage) = read(&path);
        let blocks = (length - block::SEGMENT_HEADER) / block;
        assert_eq!(found, records(0..blocks as u32 * 10), "{length}");
        let torn = (length - block::SEGMENT_HEADER) % block;
        assert_eq!((damage.torn_bytes, damage.findings.len()), (torn as u64, usize::from(0 < torn)));
    }
}

/// Any byte that changes is found; records of other blocks are kept, and what is lost is counted where a later block
/// tells how many there were.
#[test]
fn a_byte_that_went_bad_costs_its_block_and_is_counted() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.spool");
    let mut spool = spool(&path);
    for part in 0..3 {
        spool.append(&records(part * 4..part * 4 + 4)).expect("room");
        spool.flush().expect("room");
    }
    drop(spool);
    let segment = segment_path(&path, 1);
    let whole = fs::read(&segment).expect("reads");
    let block = block::HEADER + 256;
    for at in block::SEGMENT_HEADER..whole.len() {
        let mut bad = whole.clone();
        bad[at] ^= 0x10;
        fs::write(&segment, &bad).expect("writes");
        let (found, _, damage) = read(&path);
        assert!(!damage.findings.is_empty(), "byte {at} went unnoticed");
        assert!(found.iter().all(|found| records(0..12).contains(found)), "byte {at}: a record nobody wrote");
        let hit = (at - block::SEGMENT_HEADER) / block;
        let in_payload = block::HEADER <= (at - block::SEGMENT_HEADER) % block;
        if in_payload {
            assert_eq!(found.len(), 8, "byte {at}");
            assert_eq!(damage.lost, if hit < 2 { 4 } else { 0 }, "byte {at}: {damage:?}");
        }
    }
}

#[test]
fn segments_that_were_delivered_are_removed_and_a_reader_begins_behind_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.spool");
    let mut spool = spool(&path);
    spool.segment_bytes = 300_000;
    spool.append(&records(0..20_000)).expect("room");
    spool.flush().expect("room");
    let mut reader = SpoolReader::open(&path).expect("opens");
    let mut found = Vec::new();
    while !matches!(reader.next(&mut found).expect("reads"), Item::End) {}
    reader.remove_before(10_000).expect("removes");
    assert!(!segment_path(&path, 1).exists() && segment_path(&path, 3).exists());
    let (rest, _, damage) = read(&path);
    assert!(damage.findings.is_empty(), "{damage:?}");
    assert_eq!(rest.last(), found.last());
    assert!(rest.len() < 20_000 && 10_000 <= rest.len(), "what was not delivered is all there");
    reader.remove_before(u64::MAX).expect("removes");
    assert!(segment_path(&path, 3).exists(), "the segment that is written stays");
}

#[test]
fn only_one_process_has_a_spool() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.spool");
    let spool = spool(&path);
    assert_eq!(lock(&path).expect_err("held").kind(), io::ErrorKind::WouldBlock);
    drop(spool);
    lock(&path).expect("free");
    assert!(Spool::create(&path, &Manifest::default(), "").is_err(), "nothing is overwritten");
}

/// A disk that takes so many more bytes and then fails in the way that is set: bytes left, error number, whether it
/// can still be cut.
static DISK: Mutex<(usize, i32, bool)> = Mutex::new((0, 0, true));

struct Failing(File);

impl Medium for Failing {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = DISK.lock().expect("one test");
        let room = disk.0.min(bytes.len());
        self.0.append(&bytes[..room])?;
        disk.0 -= room;
        if room < bytes.len() { Err(io::Error::from_raw_os_error(disk.1)) } else { Ok(()) }
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        let disk = DISK.lock().expect("one test");
        if disk.2 { self.0.cut(length) } else { Err(io::Error::from_raw_os_error(disk.1)) }
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Full or broken, cut off again or not: what the spool says is safe is what a reader finds, to the record.
#[test]
fn a_full_or_broken_disk_costs_exactly_what_is_said() {
    for (errno, cuts) in [(libc::ENOSPC, true), (libc::EIO, true), (libc::EIO, false)] {
        for room in [32, 33, 60, 700, 4_000, 9_999, 70_000] {
            *DISK.lock().expect("one test") = (room, errno, cuts);
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("x.spool");
            let open: Open = |directory, number| {
                Ok(Box::new(Failing(create_exclusive(&segment_path(directory, number))?)))
            };
            let mut spool =
                Spool::create_on(&path, &Manifest::default(), "", open).expect("room for a header");
            let mut error = None;
            for part in 0..400 {
                let written = spool.append(&records(part * 7..part * 7 + 7)).and_then(|()| spool.flush());
                if let Err(failed) = written {
                    error = Some(failed);
                    break;
                }
            }
            assert_eq!(error.expect("it fails").raw_os_error(), Some(errno));
            let (found, _, damage) = read(&path);
            assert_eq!(found.len() as u64, spool.safe());
            assert_eq!(found, records(0..found.len() as u32));
            assert!(cuts || damage.torn_bytes < 476);
            assert!(!cuts || damage.findings.is_empty(), "{damage:?}");
        }
    }
}

#[test]
fn an_overflow_gives_back_what_it_took() {
    let mut overflow = Overflow::new().expect("a file");
    let mut found = Vec::new();
    for round in 0..3 {
        assert!(overflow.push(&records(0..100)).expect("room"));
        assert!(overflow.push(&records(100..150)).expect("room"));
        overflow.pop(120, &mut found).expect("reads");
        overflow.pop(120, &mut found).expect("reads");
        assert!(overflow.is_empty());
        assert_eq!(found, records(0..150), "round {round}");
        found.clear();
    }
}
