//! Columns and back.

use std::net::Ipv6Addr;

use super::*;
use crate::target::{Port, Target};

/// Records of every shape: which facts are missing depends on the number.
fn records(count: u32) -> Vec<Record> {
    let record = |index: u32| {
        let bit = |at: u32| index >> at & 1 == 1;
        let address: IpAddr = match bit(0) {
            true => Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(index)).into(),
            false => std::net::Ipv4Addr::from_bits(index.wrapping_mul(2_654_435_761)).into(),
        };
        let number = (index % 65_536) as u16;
        let target = Target { address, port: Port { protocol: Protocol((index % 256) as u8), number } };
        let responder = if bit(1) { std::net::Ipv4Addr::from_bits(!index).into() } else { address };
        let state = State::ALL[index as usize % State::ALL.len()];
        let reason = Reason::ALL[index as usize % Reason::ALL.len()].0;
        let mut record = Record::new(target, responder, state, reason);
        record.time_ns = u64::from(index) * 1_000_000_007 / 1000 * 1000;
        record.proof = Proof::ALL[index as usize % 3];
        (record.ttl, record.pass) = ((index % 251) as u8, (index % 7) as u8);
        record.window = number.wrapping_mul(31);
        record.mss = if bit(2) { number | 1 } else { 0 };
        record.window_scale = if bit(3) { (index % 15) as u8 } else { Record::NO_SCALE };
        record.options_hash = if bit(4) { index | 1 } else { 0 };
        record.ip_id = if address.is_ipv4() { number } else { 0 };
        record.rtt_us = if bit(5) { index + 1 } else { 0 };
        record
    };
    (0..count).map(record).collect()
}

const FORMATS: [&Format; 2] = [&parquet::FORMAT, &arrow::FORMAT];

#[test]
fn every_fact_of_every_record_survives_both_formats() {
    for format in FORMATS {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("set");
        let mut all = records(200_000);
        all.sort_unstable_by_key(Record::sort_key);
        let mut parts = all.chunks(70_001);
        let manifest = Manifest { scan_uuid: "abc".into(), seed: u64::MAX, ..Manifest::default() };
        let file = std::fs::File::create(&path).expect("creates");
        let written = (format.write)(&file, std::slice::from_ref(&manifest), &mut |batch| {
            batch.extend_from_slice(parts.next().unwrap_or_default());
            Ok(())
        });
        assert_eq!(written.expect("room"), 200_000);
        let mut reader = (format.open)(&path).expect("opens");
        assert_eq!(reader.manifests(), [manifest]);
        assert!(reader.is_sorted());
        let mut found = Vec::new();
        while reader.read(&mut found).expect("reads") {}
        assert!(found == all, "{}", format.suffix);
    }
}

/// A file that is cut anywhere, or has any byte changed, is an error or other records; never a panic.
#[test]
fn hostile_files_are_errors() {
    for format in FORMATS {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("set");
        let file = std::fs::File::create(&path).expect("creates");
        let mut rest = Some(records(300));
        let batches: &mut Batches<'_> = &mut |batch: &mut Vec<Record>| {
            *batch = rest.take().unwrap_or_default();
            Ok(())
        };
        (format.write)(&file, &[], batches).expect("room");
        let whole = std::fs::read(&path).expect("reads");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("writes");
            let mut reader = (format.open)(&path)?;
            let mut found = Vec::new();
            while reader.read(&mut found)? {}
            io::Result::Ok(found.len())
        };
        for length in (0..whole.len()).step_by(7) {
            assert!(read(&whole[..length]).is_err(), "{} cut at {length}", format.suffix);
        }
    }
}

#[test]
fn addresses_are_written_as_the_standard_library_does() {
    for text in ["0.0.0.0", "1.20.100.255", "255.255.255.255", "10.0.0.9", "2001:db8::1", "::"] {
        let mut written = String::new();
        push_address(&mut written, text.parse().expect("an address"));
        assert_eq!(written, text);
    }
}
