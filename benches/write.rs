//! Records a second for each kind of sink, from a batch of 4096 records to a committed file.
//!
//! `cargo bench --bench write`, one kind: `cargo bench --bench write -- ndjson`. `write/KIND` is what the writer
//! thread pays while the scan runs; `end/KIND` also opens, finishes, syncs to disk and, for a database, builds the indexes. Files go to
//! the directory for temporary files (`TMPDIR`): use one in memory to measure the code, one on disk for the rest.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use swath::event::{Manifest, Proof, Reason, Record, State, Status};
use swath::sink::{Place, SINKS, Sink, SinkKind};
use swath::target::{Port, Protocol, Target};
use swath::writer::BATCH;

/// Records a measurement writes: enough for several transactions.
const RECORDS: usize = 1 << 20;

fn benches(criterion: &mut Criterion) {
    let records = sample(RECORDS);
    let mut group = criterion.benchmark_group("write");
    group
        .throughput(Throughput::Elements(RECORDS as u64))
        .sample_size(10)
        .measurement_time(Duration::from_secs(8));
    for kind in SINKS {
        group.bench_function(kind.name, |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| measure(kind, &records, false)).sum());
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("end");
    group
        .throughput(Throughput::Elements(RECORDS as u64))
        .sample_size(10)
        .measurement_time(Duration::from_secs(8));
    for kind in SINKS {
        group.bench_function(kind.name, |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| measure(kind, &records, true)).sum());
        });
    }
    group.finish();
}

/// Writes all records to a new file, and ends it if asked to; returns the time that took.
fn measure(kind: &SinkKind, records: &[Record], whole: bool) -> Duration {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let place = Place { path: directory.path().join("records"), ..Place::default() };
    let opened = Instant::now();
    let mut sink = (kind.open)(&place).expect("opens");
    sink.begin(&manifest()).expect("begins");
    let began = Instant::now();
    for batch in records.chunks(BATCH) {
        sink.write(batch).expect("writes");
    }
    assert_eq!(sink.commit().expect("commits"), records.len() as u64);
    let writing = began.elapsed();
    finish(sink);
    if whole { opened.elapsed() } else { writing }
}

fn finish(sink: Box<dyn Sink>) {
    sink.finish(&manifest()).expect("finishes");
}

/// SYN-ACKs as a sweep of the Internet sees them: addresses in random order, a handful of stacks.
fn sample(count: usize) -> Vec<Record> {
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    };
    let record = |index: usize| {
        let address = std::net::Ipv4Addr::from_bits(random()).into();
        let port = Port { protocol: Protocol::TCP, number: [80, 443, 22, 8080][random() as usize % 4] };
        let mut record = Record::new(Target { address, port }, address, State::Open, Reason::SYN_ACK);
        record.time_ns = 1_795_219_200_000_000_000 + index as u64 * 6_250; // 160,000 a second
        record.rtt_us = 0;
        record.options_hash = [0x9f86_d081, 0x1234_abcd, 0x0042_0042][random() as usize % 3];
        record.window = [65_535, 64_240, 29_200, 14_600][random() as usize % 4];
        record.mss = [1460, 1440, 1400][random() as usize % 3];
        record.window_scale = [7, 8, 9][random() as usize % 3];
        record.ip_id = (random() & 0xffff) as u16;
        record.ttl = 40 + (random() % 24) as u8;
        record.proof = Proof::Strong;
        record
    };
    (0..count).map(record).collect()
}

fn manifest() -> Manifest {
    Manifest {
        scan_uuid: "3f1c9a52-0d5b-4c3e-9a77-5d1f8f6f0b11".to_owned(),
        tool: "swath".into(),
        version: "0.0.0".into(),
        argv: vec![],
        plan_digest: "0".repeat(64),
        targets: 1 << 32,
        shard_targets: 1 << 32,
        excluded_addresses: "0".to_owned(),
        ports: "80".to_owned(),
        probes: vec!["syn".to_owned()],
        seed: 1,
        order: "v1".into(),
        shard: 1,
        shards: 1,
        passes: 1,
        first_step: 0,
        course: swath::event::Course::default(),
        rate_pps: None,
        wait_s: 10.0,
        interface: "veth0".to_owned(),
        link: "null".to_owned(),
        source_addresses: vec![],
        status: Status::Running,
        started_us: 0,
        finished_us: None,
        summary: None,
        ..Manifest::default()
    }
}

criterion_group!(write, benches);
criterion_main!(write);
