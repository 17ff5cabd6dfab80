//! What generation costs: each stage over one batch, and the whole loop.
//!
//! `cargo bench --bench generate`; `SWATH_SIMD=baseline` or `sse4.2` for the whole loop on less. The figures are for
//! a batch of 64 probes: divide by 64. A stage by itself runs on the best instructions of the processor, as in the
//! loop.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use swath::batch::{Assigned, Batch, Block, LANES, NextHops, Source, Words};
use swath::cookie::{CookieKey, CookieLanes, SourcePorts};
use swath::gate::Gate;
use swath::generate::Generator;
use swath::link::digest::Digest;
use swath::link::{BACKENDS, Filter, LinkSpec, Queues, Receive, TxQueue};
use swath::order::{Chunk, Order};
use swath::probe::{Dress, PROBES};
use swath::sys::simd::Simd;
use swath::target::{AddressSet, Cursor, Endpoints, Lanes, Space, TargetList, parse_list, parse_ports};
use swath::wire::ethernet::Mac;

fn space(targets: &str, ports: &str) -> Arc<Space> {
    let mut list = TargetList::default();
    parse_list(targets, &mut list).expect("targets");
    let ports = parse_ports(ports).expect("ports");
    let excluded = AddressSet::default();
    Arc::new(Space::new(&list.ranges.into_set(), &ports, Endpoints::default(), &excluded).expect("space"))
}

fn template() -> Assigned {
    let source =
        Source { address: Ipv4Addr::new(192, 0, 2, 1).into(), mac: Mac([2, 0, 0, 0, 0, 1]), vlan: None };
    PROBES[0].templates(&source, &Dress::default()).swap_remove(0)
}

fn generator(space: &Arc<Space>) -> Generator {
    let secrets = (CookieKey::new([7; 16]), SourcePorts::new(16384, 16384).expect("ports"));
    Generator::new(Order::new(space.len(), 1), Arc::clone(space), secrets, &[template()])
}

fn null(gate: Gate) -> Box<dyn TxQueue> {
    let backend = BACKENDS.iter().find(|backend| backend.name == "null").expect("a row");
    let spec = LinkSpec {
        argument: None,
        interface: None,
        templates: Arc::from([template().template]),
        hops: NextHops::new(1),
        gate: Arc::new(gate),
        filter: Filter { addresses: Vec::new(), port_first: 0, port_last: 0, any_protocol: false },
        queues: Queues::ONE,
        receive: Receive::Packet,
        attach: true,
    };
    (backend.open)(&spec).expect("the null link opens").tx.remove(0)
}

/// A gate over the ranges that a sweep of everything leaves out.
fn gate() -> Gate {
    Gate::new([(0x0a00_0000, 0x0aff_ffff), (0x7f00_0000, 0x7fff_ffff), (0xe000_0000, 0xffff_ffff)], [])
}

/// A batch in the middle of a walk over everything.
fn batch(generator: &mut Generator) -> Batch {
    let mut batch = Batch::empty();
    let chunk = Chunk { first: Cursor(1 << 20), count: LANES as u64, pass: 0 };
    generator.fill(chunk, &mut batch);
    batch
}

fn target_stages(criterion: &mut Criterion) {
    let simd = Simd::best();
    let mut group = criterion.benchmark_group("stage");
    group.throughput(Throughput::Elements(LANES as u64));
    let whole = space("1.0.0.0-9.255.255.255,11.0.0.0-126.255.255.255,128.0.0.0-223.255.255.255", "443");

    let order = Order::new(whole.len(), 1);
    let (mut numbers, mut cursor) = ([0; LANES], 0);
    group.bench_function("order", |bencher| {
        bencher.iter(|| {
            cursor = (cursor + LANES as u64) & 0x3fff_ffff;
            simd.run(
                #[inline(always)]
                || order.fill(Cursor(cursor), LANES, black_box(&mut numbers)),
            );
        });
    });
    for (name, space) in [("one port", whole.clone()), ("65,535 ports", space("198.18.0.0/15", "1-65535"))] {
        let numbers = numbers.map(|number| number % space.len());
        let mut batch = Batch::empty();
        let (mut protocol, mut is_v6, mut place) = ([0; LANES], [false; LANES], [0; LANES]);
        group.bench_function(format!("number to address, {name}"), |bencher| {
            bencher.iter(|| {
                let mut lanes = Lanes {
                    v4: &mut batch.destination_v4,
                    v6: &mut batch.destination_v6,
                    port: &mut batch.destination_port,
                    protocol: &mut protocol,
                    is_v6: &mut is_v6,
                    place: &mut place,
                };
                simd.run(
                    #[inline(always)]
                    || space.select_batch(black_box(&numbers), &mut lanes),
                );
            });
        });
    }
    group.finish();
}

fn frame_stages(criterion: &mut Criterion) {
    let simd = Simd::best();
    let mut group = criterion.benchmark_group("stage");
    group.throughput(Throughput::Elements(LANES as u64));
    let batch = batch(&mut generator(&space("1.0.0.0-9.255.255.255,128.0.0.0-223.255.255.255", "443")));
    let (key, mut cookies) = (CookieKey::new([7; 16]), CookieLanes::default());
    group.bench_function("cookie", |bencher| {
        bencher.iter(|| {
            simd.run(
                #[inline(always)]
                || {
                    let batch = black_box(&batch);
                    key.cookies_v4(&batch.destination_v4, &batch.destination_port, &[6; LANES], &mut cookies);
                },
            );
        });
    });
    let template = template().template;
    let (mut words, mut slots) = (Words::default(), Box::new([[[0; 64]; 1]; LANES]));
    group.bench_function("stamp", |bencher| {
        bencher.iter(|| {
            simd.run(
                #[inline(always)]
                || template.stamp_all(black_box(&batch), Mac([2; 6]), (&mut words, &mut *slots)),
            )
        });
    });
    let gate = gate();
    group.bench_function("gate", |bencher| {
        bencher.iter(|| {
            simd.run(
                #[inline(always)]
                || gate.first_blocked(black_box(&slots[..])),
            )
        });
    });
    let mut digest = Digest::new();
    let blocks: &[Block] = slots.as_flattened();
    group.bench_function("digest (null link)", |bencher| {
        bencher.iter(|| {
            simd.run(
                #[inline(always)]
                || digest.add_padded(black_box(blocks), 1, 58),
            );
        });
    });
    group.finish();
}

fn whole_loop(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("whole loop");
    group.throughput(Throughput::Elements(LANES as u64));
    for (name, targets, ports) in [
        ("2^16 targets", "198.18.0.0/16", "80"),
        ("2^33 targets", "198.18.0.0/15", "0-65535"),
        ("2^48 targets", "0.0.0.0/0", "0-65535"),
        ("IPv6, 2^56 targets", "2001:db8::/72", "80"),
    ] {
        let space = space(targets, ports);
        let mut generator = generator(&space);
        let mut batch = Batch::empty();
        let mut queue = null(Gate::open());
        let mut first = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let chunk = Chunk { first: Cursor(first), count: LANES as u64, pass: 0 };
                // Every size here is a whole number of batches.
                first = (first + LANES as u64) % space.len();
                generator.fill(chunk, &mut batch);
                queue.submit(&batch).expect("nothing is excluded").lanes
            });
        });
    }
    group.finish();
}

criterion_group!(generate, target_stages, frame_stages, whole_loop);
criterion_main!(generate);
