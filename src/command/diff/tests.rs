//! What is told of two sets, against what happened.

use std::net::Ipv4Addr;

use super::*;
use crate::event::{Manifest, Part, Reason, Status, Summary};
use crate::order::{Order, Shard};
use crate::sorted::{Sorted, Sorter};
use crate::target::{Cursor, Port, Protocol};

fn record(address: [u8; 4], state: State) -> Record {
    let address = Ipv4Addr::from(address).into();
    let port = Port { protocol: Protocol::TCP, number: 80 };
    Record::new(Target { address, port }, address, state, Reason::SYN_ACK)
}

fn with(mut record: Record, change: impl FnOnce(&mut Record)) -> Record {
    change(&mut record);
    record
}

/// 192.0.2.0/28, port 80.
fn manifest(change: impl FnOnce(&mut Manifest)) -> Manifest {
    let mut manifest = Manifest {
        coverage: Some(vec![Part { addresses: vec!["192.0.2.0-192.0.2.15".into()], ports: "80".into() }]),
        targets: 16,
        seed: 7,
        order: "v1".into(),
        shard: 1,
        shards: 1,
        passes: 1,
        status: Status::Complete,
        ..Manifest::default()
    };
    change(&mut manifest);
    manifest
}

fn set(records: &[Record], manifests: Vec<Manifest>) -> Set {
    let mut sorter = Sorter::default();
    sorter.push(records).expect("memory");
    let runs: Vec<Sorted<'static>> = sorter.into_runs().expect("memory");
    Set { runs, manifests, ..Set::default() }
}

fn told(a: Set, b: Set) -> (Tally, String) {
    let covers = (Cover::of(&a.manifests), Cover::of(&b.manifests));
    let mut sides = (Side::new(a).expect("reads"), Side::new(b).expect("reads"));
    let mut bytes = Vec::new();
    let mut output = Render::new(crate::cli::DiffFormat::Text, &mut bytes);
    let mut tally = Tally::default();
    walk(&mut sides, &covers, &mut tally, &mut output).expect("compares");
    (tally, String::from_utf8(bytes).expect("text"))
}

#[test]
fn each_kind_of_change_is_told_as_what_it_is() {
    let open = |last| record([192, 0, 2, last], State::Open);
    let moved = with(open(3), |record| record.ttl = 60);
    let near = with(open(4), |record| record.ttl = 3);
    let closed = record([192, 0, 2, 5], State::Closed);
    let filtered = record([192, 0, 2, 6], State::Filtered);
    let was_closed = record([192, 0, 2, 6], State::Closed);
    let a = [open(1), open(3), open(4), open(5), was_closed];
    let b = [open(2), moved, near, closed, filtered];
    let (tally, text) = told(set(&a, vec![manifest(|_| ())]), set(&b, vec![manifest(|_| ())]));
    let expected = Tally { opened: 1, closed: 2, changed: 2, unchanged: 1, not_comparable: 0 };
    assert_eq!(tally, expected, "{text}");
    assert_eq!(
        text,
        "- 192.0.2.1 80/tcp  open (syn-ack, ttl 0) -> nothing\n\
         + 192.0.2.2 80/tcp  nothing -> open (syn-ack, ttl 0)\n\
         ~ 192.0.2.3 80/tcp  open (syn-ack, ttl 0) -> open (syn-ack, ttl 60)\n\
         - 192.0.2.5 80/tcp  open (syn-ack, ttl 0) -> closed (syn-ack, ttl 0)\n\
         ~ 192.0.2.6 80/tcp  closed (syn-ack, ttl 0) -> filtered (syn-ack, ttl 0)\n"
    );
}

#[test]
fn what_the_other_side_did_not_ask_is_not_comparable() {
    let inside = record([192, 0, 2, 9], State::Open);
    let outside = record([198, 51, 100, 9], State::Open);
    let both = [inside, outside];
    let whole = || vec![manifest(|_| ())];
    let (tally, _) = told(set(&both, whole()), set(&[], whole()));
    assert_eq!((tally.closed, tally.not_comparable), (1, 1));
    let (tally, _) = told(set(&[], whole()), set(&both, whole()));
    assert_eq!((tally.opened, tally.not_comparable), (1, 1));
    for unknown in [Vec::new(), vec![manifest(|manifest| manifest.status = Status::Running)]] {
        let (tally, _) = told(set(&both, whole()), set(&[], unknown));
        assert_eq!((tally.closed, tally.not_comparable), (0, 2));
    }
}

/// For each target alone: a shard, and an interrupted scan, cover exactly what they asked.
#[test]
fn shards_and_interruptions_are_known_to_the_target() {
    let order = Order::new(16, 7);
    for cursor in 0..16 {
        let number = u8::try_from(order.target(Cursor(cursor))).expect("below 16");
        let open = [record([192, 0, 2, number], State::Open)];
        for shard in 1..=3 {
            let third = manifest(|manifest| (manifest.shard, manifest.shards) = (shard, 3));
            let (tally, _) = told(set(&open, vec![manifest(|_| ())]), set(&[], vec![third]));
            let asked = Shard::new(shard, 3).expect("exists").cursors(16).contains(&cursor);
            assert_eq!((tally.closed == 1, tally.not_comparable == 1), (asked, !asked));
        }
        for (first, resume, passes) in [(0, Some(5), 1), (5, None, 1), (0, Some(20), 2), (18, Some(20), 2)] {
            let stopped = manifest(|manifest| {
                (manifest.status, manifest.passes) = (Status::Interrupted, passes);
                manifest.first_step = first;
                manifest.summary = Some(Summary { resume_step: resume, ..Summary::default() });
            });
            let (tally, _) = told(set(&open, vec![manifest(|_| ())]), set(&[], vec![stopped]));
            let end = resume.unwrap_or(16 * u64::from(passes));
            let asked = (0..u64::from(passes)).any(|pass| (first..end).contains(&(pass * 16 + cursor)));
            assert_eq!(tally.closed == 1, asked, "cursor {cursor}, steps {first}..{end}");
        }
    }
}

#[test]
fn plans_too_large_to_list_are_known_by_their_hash() {
    let large =
        |hash: &str| manifest(|manifest| (manifest.coverage, manifest.targets_sha256) = (None, hash.into()));
    let open = [record([192, 0, 2, 9], State::Open)];
    let (tally, _) = told(set(&open, vec![large("aa")]), set(&[], vec![large("aa")]));
    assert_eq!((tally.closed, tally.not_comparable), (1, 0));
    let (tally, _) = told(set(&open, vec![large("aa")]), set(&[], vec![large("bb")]));
    assert_eq!((tally.closed, tally.not_comparable), (0, 1));
}

#[test]
fn of_several_records_of_a_target_the_open_one_counts() {
    let (open, closed) = (record([192, 0, 2, 1], State::Open), record([192, 0, 2, 1], State::Closed));
    let later = |record: Record| with(record, |record| record.time_ns = 9);
    let all = || vec![manifest(|_| ())];
    let (tally, text) = told(set(&[open, later(closed)], all()), set(&[closed, later(open)], all()));
    assert_eq!(tally, Tally { unchanged: 1, ..Tally::default() }, "{text}");
}
