//! What targets cost: reading a million lines, finding a batch of targets by their numbers, and, as the floor of that, what
//! the memory takes for lines in no order.
//!
//! `cargo bench --bench targets`. The figures per batch are for 64 targets or lines: divide by 64.

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::Ipv4Addr;

use criterion::{Criterion, criterion_group, criterion_main};
use swath::target::{
    AddressSet, Endpoints, Lanes, Space, TargetList, parse_list, parse_ports, read_targets, special,
};

fn lines(seed: u32, count: u32) -> String {
    let mut text = String::new();
    for index in 0..count {
        let address = Ipv4Addr::from((seed + index).wrapping_mul(0x9e37_79b1));
        writeln!(text, "{address}").expect("a string takes all");
    }
    text
}

fn listed(text: &str) -> TargetList {
    let mut list = TargetList::default();
    read_targets("bench", text.as_bytes(), &mut list).expect("well-formed lines");
    list
}

fn space(list: TargetList, ports: &str, excluded: &AddressSet) -> Space {
    let kept = special::apply(list.ranges).kept;
    let ports = parse_ports(ports).expect("ports");
    Space::new(&kept, &ports, list.endpoints, excluded).expect("space")
}

fn named(targets: &str) -> TargetList {
    let mut list = TargetList::default();
    parse_list(targets, &mut list).expect("targets");
    list
}

fn reading(criterion: &mut Criterion) {
    let (targets, excludes) = (lines(1, 1_000_000), lines(500_000, 500_000));
    criterion.bench_function("read a million targets less half a million", |bencher| {
        bencher.iter(|| {
            let excluded = listed(&excludes).ranges.into_set();
            space(listed(&targets), "80,443", &excluded).len()
        });
    });
}

fn selecting(criterion: &mut Criterion) {
    let mut endpoints = Endpoints::default();
    endpoints.push("192.0.2.9".parse().expect("address"), parse_ports("8080").expect("port").as_slice()[0]);
    let with_endpoint = TargetList { endpoints, ..named("0.0.0.0/0") };
    let none = AddressSet::default();
    for (name, space) in [
        ("one range, one port", space(named("198.18.0.0/15"), "80", &none)),
        ("whole IPv4, one port", space(named("0.0.0.0/0"), "443", &none)),
        ("whole IPv4, all ports", space(named("0.0.0.0/0"), "-", &none)),
        ("whole IPv4 and an endpoint", space(with_endpoint, "80,443", &none)),
        ("a million ranges", space(listed(&lines(1, 1_000_000)), "80,443", &none)),
        ("an IPv6 block", space(named("2001:db8::/72"), "80,443", &none)),
    ] {
        // A fixed pseudo-random walk, as the order makes it: every batch hits fresh places.
        let indexes: Vec<u64> =
            (1..=1u64 << 16).map(|step| step.wrapping_mul(0x9e37_79b9_7f4a_7c15) % space.len()).collect();
        let (mut v4, mut v6, mut is_v6) = ([0; 64], [0; 64], [false; 64]);
        let (mut port, mut protocol, mut place) = ([0; 64], [0; 64], [0; 64]);
        let mut batches = indexes.chunks_exact(64).cycle();
        criterion.bench_function(&format!("select 64: {name}"), |bencher| {
            bencher.iter(|| {
                let mut lanes = Lanes {
                    v4: &mut v4,
                    v6: &mut v6,
                    port: &mut port,
                    protocol: &mut protocol,
                    is_v6: &mut is_v6,
                    place: &mut place,
                };
                space.select_batch(batches.next().expect("a cycle has no end"), &mut lanes);
                black_box(&lanes);
            });
        });
    }
}

/// Of tables of several sizes, 64 lines at a time: none depends on another, so many are under way at once. No look-up that
/// has to read one such line can be quicker.
fn waiting(criterion: &mut Criterion) {
    for mebibytes in [1, 2, 4, 8, 16, 32] {
        let lines = vec![[1u64; 8]; mebibytes << 14];
        let mut state = 1u64;
        criterion.bench_function(&format!("read 64 lines of {mebibytes} MiB"), |bencher| {
            bencher.iter(|| {
                let mut sum = 0;
                for _ in 0..64 {
                    state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                    sum += lines[(state >> 33) as usize % lines.len()][0];
                }
                sum
            });
        });
    }
}

criterion_group!(targets, reading, selecting, waiting);
criterion_main!(targets);
