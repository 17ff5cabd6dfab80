//! What a reply costs, stage by stage: reading the frame, judging it, finding its target in the plan, and the table of
//! what was seen. `swath bench rx` measures all of it together.
//!
//! `cargo bench --bench receive`. The figures of the last two are for 64 targets in random order: divide by 64.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use swath::cookie::{CookieKey, SourcePorts};
use swath::dedup::{DEFAULT_BYTES, Dedup};
use swath::event::State;
use swath::probe::{Expected, Judge, PROBES, Probe, Sample};
use swath::target::{AddressSet, Space, Target, TargetList, parse_list, parse_ports};
use swath::wire::{self, Frame};

const BATCH: usize = 64;

fn judge() -> Judge {
    let sources = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().expect("address"));
    Judge::new(CookieKey::new([7; 16]), SourcePorts::new(16_384, 16_384).expect("ports"), 1, sources.to_vec())
}

/// The first reply that a probe believes.
fn believed(probe: &dyn Probe, judge: &Judge) -> Option<Sample> {
    let address = if probe.example().exists_in(false) { "198.18.0.7" } else { "2001:db8:1::7" };
    let target = Target { address: address.parse().expect("address"), port: probe.example() };
    let samples = probe.samples(&target, judge);
    samples.into_iter().find(|sample| matches!(sample.expected, Expected::Reply(..)))
}

fn judging(criterion: &mut Criterion) {
    let judge = judge();
    for probe in PROBES {
        let Some(sample) = believed(*probe, &judge) else { continue };
        let name = format!("{}: {}", probe.name(), sample.name);
        criterion.bench_function(&format!("read, {name}"), |bencher| {
            bencher.iter(|| wire::read(black_box(&sample.frame)).is_ok());
        });
        let Ok(Frame::Segment(segment)) = wire::read(&sample.frame) else { continue };
        criterion.bench_function(&format!("judge, {name}"), |bencher| {
            bencher.iter(|| black_box(probe.classify(1, black_box(&segment), &judge)));
        });
    }
}

fn space(targets: &str, ports: &str) -> Space {
    let mut list = TargetList::default();
    parse_list(targets, &mut list).expect("targets");
    let ports = parse_ports(ports).expect("ports");
    Space::new(&list.ranges.into_set(), &ports, list.endpoints, &AddressSet::default()).expect("space")
}

/// Batch after batch of numbers below `total`, as replies come: in no order.
fn numbers(total: u64) -> impl FnMut() -> [u64; BATCH] {
    let mut state = 1_u64;
    move || {
        std::array::from_fn(|_| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 20) % total
        })
    }
}

fn finding(criterion: &mut Criterion) {
    for (name, space) in [
        ("one range, 100 ports", space("198.18.0.0/15", "1-100")),
        ("whole IPv4, one port", space("0.0.0.0/0", "443")),
    ] {
        let mut next = numbers(space.len());
        criterion.bench_function(&format!("find the target, {name}"), |bencher| {
            bencher.iter_batched_ref(
                || next().map(|number| space.select(number)),
                |targets| targets.iter().filter_map(|target| space.rank(target)).sum::<u64>(),
                criterion::BatchSize::SmallInput,
            );
        });
    }
}

fn remembering(criterion: &mut Criterion) {
    for (name, targets) in [("exact", 13_107_200), ("windowed", 1 << 40)] {
        let mut seen = Dedup::new(targets, DEFAULT_BYTES);
        let mut next = numbers(targets);
        criterion.bench_function(&format!("what was seen, {name}"), |bencher| {
            bencher.iter_batched_ref(
                &mut next,
                |numbers| {
                    numbers.iter().for_each(|&number| seen.touch(number));
                    numbers.iter().filter(|&&number| seen.insert(number, State::Open, 0).new).count()
                },
                criterion::BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(all, judging, finding, remembering);
criterion_main!(all);
