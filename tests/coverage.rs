//! Proves the order: walks every cursor of a plan and sets one bit for each target; counts targets missed, repeated and
//! excluded ones hit.
//!
//! The expected set is painted from its own list of prefixes (RFC 6890 and the IANA registry of 2026-07-18), not by the
//! code under test. What runs by itself is a slice; `scripts/coverage full` walks the whole of IPv4 with optimisation.

use std::time::Instant;

use swath::batch::LANES;
use swath::cli::{self, Request, build};
use swath::order::{Order, Shard};
use swath::plan::Plan;
use swath::target::{Cursor, Lanes};

#[test]
fn every_target_of_a_sweep_is_walked_once_in_any_number_of_shards() {
    walk("198.18.0.0/15", &[], "22,80,443", &[1, 7, 258]);
    if is_full() {
        walk("0.0.0.0/0", &SPECIAL, "443", &[1, 4, 7]);
        walk("0.0.0.0/0", &SPECIAL, "22,80,443", &[1, 4, 7]);
    } else {
        walk("198.0.0.0/8", &SLICE_SPECIAL, "443", &[1, 4]);
    }
}

#[test]
fn orders_too_large_for_a_bitmap_repeat_nothing_and_invert() {
    wide(if is_full() { 100_000_000 } else { 1_000_000 });
}

/// Whether all of it was asked for: see `scripts/coverage`.
fn is_full() -> bool {
    std::env::var_os("SWATH_COVERAGE").is_some_and(|value| value == "full")
}

/// Walks one plan in each number of shards.
fn walk(prefix: &str, special: &[&str], ports: &str, shard_counts: &[u32]) {
    let mut plan = plan(&["swath", "plan", prefix, "-p", ports, "--seed", "7"]);
    let port_numbers: Vec<u16> = ports.split(',').map(|port| port.parse().expect("a port")).collect();
    let expected = expected(prefix, special);
    let wanted = expected.count() * port_numbers.len() as u64;
    for &count in shard_counts {
        let (started, busy_before_s) = (Instant::now(), busy_s());
        let mut painters: Vec<Painter<'_>> = port_numbers.iter().map(|_| Painter::new(&expected)).collect();
        for index in 1..=count {
            plan.shard = Shard::new(index, count).expect("exists");
            shard(&plan, |addresses, ports| {
                for (&address, port) in addresses.iter().zip(ports) {
                    let place = port_numbers.iter().position(|number| number == port);
                    painters[place.expect("a port of the plan")].paint(address);
                }
            });
        }
        painters.iter_mut().for_each(Painter::settle);
        let repeated: u64 = painters.iter().map(|painter| painter.repeated).sum();
        let excluded: u64 = painters.iter().map(|painter| painter.excluded).sum();
        let distinct: u64 = painters.iter().map(|painter| painter.seen.count()).sum();
        let missed = wanted.saturating_sub(distinct - excluded.min(distinct));
        eprintln!(
            "{prefix} ports {ports} in {count} shards: {wanted} targets, missed {missed}, repeated {repeated}, excluded hit \
             {excluded}; {:.1} s, of them {:.1} s on a processor",
            started.elapsed().as_secs_f64(),
            busy_s() - busy_before_s,
        );
        assert_eq!((missed, repeated, excluded), (0, 0, 0), "{prefix} ports {ports} in {count} shards");
    }
}

/// Calls `visit` with addresses and ports of the targets of the plan's shard, in the order in which they are probed.
fn shard(plan: &Plan, mut visit: impl FnMut(&[u32], &[u16])) {
    let order = plan.order();
    let cursors = plan.shard.cursors(plan.space.len());
    let mut numbers = [0; LANES];
    let (mut v4, mut v6, mut port) = ([0; LANES], [0; LANES], [0; LANES]);
    let (mut protocol, mut is_v6, mut place) = ([0; LANES], [false; LANES], [0; LANES]);
    let mut first = cursors.start;
    while first < cursors.end {
        let count = usize::try_from(cursors.end - first).map_or(LANES, |left| left.min(LANES));
        order.fill(Cursor(first), count, &mut numbers);
        let mut lanes = Lanes {
            v4: &mut v4,
            v6: &mut v6,
            port: &mut port,
            protocol: &mut protocol,
            is_v6: &mut is_v6,
            place: &mut place,
        };
        plan.space.select_batch(&numbers[..count], &mut lanes);
        visit(&v4[..count], &port[..count]);
        first += count as u64;
    }
}

/// Looks for a repetition among the first outputs of huge orders, and inverts a sample.
fn wide(outputs: u64) {
    for (name, length) in
        [("2^48", 1u64 << 48), ("2^62", 1 << 62), ("3,702,257,664 x 65,536", 3_702_257_664 << 16)]
    {
        let started = Instant::now();
        let order = Order::new(length, 7);
        let mut targets = vec![0u64; usize::try_from(outputs).expect("fits")];
        let mut numbers = [0; LANES];
        for (batch, lanes) in targets.chunks_mut(LANES).enumerate() {
            order.fill(Cursor((batch * LANES) as u64), lanes.len(), &mut numbers);
            lanes.copy_from_slice(&numbers[..lanes.len()]);
        }
        let wrong =
            targets.iter().zip(0..).step_by(97).filter(|&(&target, cursor)| order.cursor(target).0 != cursor);
        let wrong = wrong.count();
        let outside = targets.iter().filter(|&&target| length <= target).count();
        targets.sort_unstable();
        let repeated = targets.windows(2).filter(|pair| pair[0] == pair[1]).count();
        eprintln!(
            "order of {name}: first {outputs} outputs, repeated {repeated}, outside {outside}, wrongly inverted {wrong}; \
             {:.1} s",
            started.elapsed().as_secs_f64()
        );
        assert_eq!((repeated, outside, wrong), (0, 0, 0), "order of {name}");
    }
}

fn plan(words: &[&str]) -> Plan {
    match cli::parse(words.iter().map(Into::into)) {
        Ok(Request::Plan(args)) => build::plan(&args).expect("a plan"),
        other => panic!("{other:?}"),
    }
}

/// The addresses a plan over `prefix` must hold, painted prefix by prefix.
fn expected(prefix: &str, special: &[&str]) -> Bitmap {
    let mut bitmap = Bitmap::new();
    for address in range(prefix) {
        bitmap.insert(address);
    }
    for prefix in special {
        for address in range(prefix) {
            bitmap.remove(address);
        }
    }
    bitmap
}

fn range(prefix: &str) -> std::ops::RangeInclusive<u32> {
    let (address, length) = prefix.split_once('/').expect("a prefix");
    let first = address.parse::<std::net::Ipv4Addr>().map(u32::from).expect("an address");
    let host_bits = 32 - length.parse::<u32>().expect("a length");
    let size = 1u64 << host_bits;
    first..=u32::try_from(u64::from(first) + size - 1).expect("within IPv4")
}

/// Processor time of this process in seconds (proc_pid_stat(5): fields 14 and 15, in hundredths): other work on the
/// machine does not count.
fn busy_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("readable");
    let after_name = stat.rsplit_once(')').expect("a name in parentheses").1;
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks.map(|field| field.parse::<f64>().expect("a number")).sum::<f64>() / 100.0
}

/// One bit for every IPv4 address: 512 MiB, touched as it is used.
struct Bitmap(Vec<u64>);

impl Bitmap {
    fn new() -> Bitmap {
        Bitmap(vec![0; 1 << 26])
    }

    /// Sets a bit; returns whether it was clear.
    fn insert(&mut self, address: u32) -> bool {
        let (word, bit) = ((address >> 6) as usize, 1u64 << (address & 63));
        let clear = self.0[word] & bit == 0;
        self.0[word] |= bit;
        clear
    }

    fn remove(&mut self, address: u32) {
        self.0[(address >> 6) as usize] &= !(1u64 << (address & 63));
    }

    fn contains(&self, address: u32) -> bool {
        self.0[(address >> 6) as usize] & 1u64 << (address & 63) != 0
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

/// A bitmap of what was seen. Addresses come in random order and would each miss every cache, so they are collected by
/// their upper bits first; each bucket is then painted onto 128 KiB of the bitmap at once.
struct Painter<'a> {
    expected: &'a Bitmap,
    seen: Bitmap,
    waiting: Vec<u32>,
    filled: Vec<usize>,
    repeated: u64,
    excluded: u64,
}

/// Addresses share a bucket that share their upper 12 bits.
const BUCKET_SHIFT: u32 = 20;
/// Addresses in a bucket.
const BUCKET_ROOM: usize = 1024;

impl Painter<'_> {
    fn new(expected: &Bitmap) -> Painter<'_> {
        let buckets = 1usize << (32 - BUCKET_SHIFT);
        Painter {
            expected,
            seen: Bitmap::new(),
            waiting: vec![0; buckets * BUCKET_ROOM],
            filled: vec![0; buckets],
            repeated: 0,
            excluded: 0,
        }
    }

    fn paint(&mut self, address: u32) {
        let bucket = (address >> BUCKET_SHIFT) as usize;
        let filled = self.filled[bucket];
        self.waiting[bucket * BUCKET_ROOM + filled] = address;
        self.filled[bucket] = filled + 1;
        if filled + 1 == BUCKET_ROOM {
            self.empty(bucket);
        }
    }

    fn empty(&mut self, bucket: usize) {
        let first = bucket * BUCKET_ROOM;
        for &address in &self.waiting[first..first + self.filled[bucket]] {
            self.repeated += u64::from(!self.seen.insert(address));
            self.excluded += u64::from(!self.expected.contains(address));
        }
        self.filled[bucket] = 0;
    }

    /// Paints what still waits.
    fn settle(&mut self) {
        (0..self.filled.len()).for_each(|bucket| self.empty(bucket));
    }
}

/// What a sweep of 198.0.0.0/8 must leave out.
const SLICE_SPECIAL: [&str; 2] = ["198.18.0.0/15", "198.51.100.0/24"];

/// What a sweep of all of IPv4 must leave out.
const SPECIAL: [&str; 18] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
];
