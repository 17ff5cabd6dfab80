//! What a seed means: a scan in a user's words, a world, and what goes wrong. A random subset of everything is switched
//! on, each with a random strength, because faults that are always on hide each other.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// A sequence of numbers that a seed means (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Lots(u64);

impl Lots {
    pub(crate) fn new(seed: u64) -> Lots {
        Lots(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x5151_5151_0303_0707)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `count`.
    pub(crate) fn below(&mut self, count: u64) -> u64 {
        self.bits() % count
    }

    /// A number from `first` to `last`.
    pub(crate) fn within(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// Everything a seed decides.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    /// Targets, ports, excludes and order, as a user writes them; without shard.
    pub(crate) words: Vec<String>,
    /// What these words mean, worked out without swath.
    pub(crate) targets: BTreeSet<(u32, u16)>,
    pub(crate) excluded: Vec<(u32, u32)>,
    pub(crate) passes: u8,
    pub(crate) shards: u64,
    pub(crate) scenario: String,
    pub(crate) faults: Faults,
}

/// What goes wrong on this machine, and how it is set up.
#[derive(Debug, Clone)]
pub(crate) struct Faults {
    /// Frames in 1000 seconds; none without a limit.
    pub(crate) rate_milli: Option<u64>,
    pub(crate) gap_ns: u64,
    pub(crate) wait_ns: u64,
    pub(crate) tx_threads: usize,
    /// One submission in so many is refused in part; 0 never.
    pub(crate) refuse_one_in: u64,
    /// Whether the targets are on-link, so that neighbours must be asked for.
    pub(crate) on_link: bool,
    /// Frames the receive ring has room for.
    pub(crate) ring: usize,
    /// Records the queue to the writer has room for.
    pub(crate) queue: usize,
    /// Whether each sink has a writer of its own, as scans have.
    pub(crate) lanes: bool,
    /// Time the writer takes for a record.
    pub(crate) write_ns: u64,
    /// One step in so many is followed by a stall of everybody (SIGSTOP) or of the writer (a slow disk); 0 never.
    pub(crate) stall_one_in: u64,
    /// Records after which the second sink's disk is full; none when it never is.
    pub(crate) disk: Option<u64>,
    /// Steps after which the user stops the scan, to go on with it later.
    pub(crate) stop_after: Option<u64>,
    /// Frames after which the process is killed, to go on with its checkpoint; for each run of a shard one number.
    pub(crate) kills: Vec<u64>,
    /// Whether a killed scan goes on exactly (nothing twice) instead of completely (nothing lost).
    pub(crate) exact: bool,
}

impl Case {
    pub(crate) fn of(seed: u64) -> Case {
        let mut lots = Lots::new(seed);
        let (mut words, mut addresses) = (Vec::new(), BTreeSet::new());
        for _ in 0..lots.within(1, 3) {
            let (first, length) = block(&mut lots);
            words.push(format!("{}/{length}", dotted(first)));
            addresses.extend(first..=first + ((1u32 << (32 - length)) - 1));
        }
        let mut ports = BTreeSet::new();
        for _ in 0..lots.within(1, 4) {
            let first = lots.of(&[0, 1, 22, 80, 443, 8000, 65_534]) as u16;
            ports.extend(first..=first.saturating_add(lots.below(2) as u16));
        }
        let excluded = excludes(&mut lots, &addresses, &mut words);
        let hit = |address: u32| excluded.iter().any(|&(first, last)| first <= address && address <= last);
        addresses.retain(|&address| !hit(address));
        if addresses.is_empty() {
            // Everything was excluded, which is refused (tests/cli.rs): another scan instead.
            return Case { seed, ..Case::of(seed.wrapping_add(0x9e37_79b9_7f4a_7c15)) };
        }
        let list = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        words.extend(["-p".into(), list, "--seed".into(), lots.bits().to_string()]);
        let passes = lots.of(&[1, 1, 1, 2, 2, 3, 5]);
        words.extend(["--passes".into(), passes.to_string()]);
        if lots.once_in(3) {
            words.extend(["--layout".into(), lots.of(&["linux", "windows", "bare"]).into()]);
        }
        let shards = lots.of(&[1, 1, 1, 2, 3, 4, 7]);
        let targets = addresses.iter().flat_map(|&address| ports.iter().map(move |&port| (address, port)));
        let targets: BTreeSet<(u32, u16)> = targets.collect();
        let faults = faults(&mut lots);
        let scenario = scenario(&mut lots, faults.on_link);
        Case { seed, words, targets, excluded, passes, shards, scenario, faults }
    }
}

fn block(lots: &mut Lots) -> (u32, u32) {
    let length = lots.within(23, 32) as u32;
    let address = 0xc612_0000 | (lots.bits() as u32 & 0x0000_0fff);
    (address >> (32 - length) << (32 - length), length)
}

pub(crate) fn dotted(address: u32) -> String {
    std::net::Ipv4Addr::from(address).to_string()
}

/// Excludes that lie inside, at the ends, across and outside of the targets.
fn excludes(lots: &mut Lots, addresses: &BTreeSet<u32>, words: &mut Vec<String>) -> Vec<(u32, u32)> {
    let mut excluded = Vec::new();
    for _ in 0..lots.of(&[0, 0, 1, 2, 4]) {
        let ends = [*addresses.first().expect("a block"), *addresses.last().expect("a block")];
        let inside = *addresses.iter().nth(lots.below(addresses.len() as u64) as usize).expect("inside");
        let first = lots.of(&[ends[0], ends[1], inside, ends[0] - 1, 0xc612_ff00]);
        let last = first + lots.of(&[0, 0, 1, 7, 40]);
        words.extend(["--exclude".into(), format!("{}-{}", dotted(first), dotted(last))]);
        excluded.push((first, last));
    }
    excluded
}

fn faults(lots: &mut Lots) -> Faults {
    let rate_milli = lots.of(&[None, Some(200_000), Some(5_000_000), Some(100_000_000), Some(3_000_000_000)]);
    // A stop is meant to fall into the scan, which has up to a few hundred steps.
    let stop_after = lots.once_in(4).then(|| lots.within(1, 400));
    // A scan is stopped or killed: what may be repeated is told apart that way.
    let kills = if stop_after.is_none() && lots.once_in(3) { lots.within(1, 5) } else { 0 };
    let kills = (0..kills)
        .map(|_| {
            let most = lots.of(&[3, 100, 3000]);
            lots.below(most)
        })
        .collect();
    Faults {
        rate_milli,
        gap_ns: lots.of(&[0, 1_000_000, 5_000_000_000]),
        wait_ns: lots.of(&[0, 1_000_000_000, 10_000_000_000, 40_000_000_000]),
        tx_threads: lots.of(&[1, 1, 2, 3]),
        refuse_one_in: lots.of(&[0, 0, 2, 20]),
        on_link: lots.once_in(4),
        ring: lots.of(&[64, 4096, 1 << 16, 1 << 16]),
        queue: lots.of(&[16, 256, 4096, 1 << 16]),
        lanes: lots.once_in(2),
        write_ns: lots.of(&[100, 100, 64_000, 1_000_000]),
        stall_one_in: lots.of(&[0, 0, 500, 50]),
        disk: lots.of(&[None, None, Some(0), Some(7), Some(100)]),
        stop_after,
        kills,
        exact: lots.once_in(3),
    }
}

/// A world of random rules. Every rule draws its share of what the rules before it left.
fn scenario(lots: &mut Lots, on_link: bool) -> String {
    let mut text = "about = \"drawn by a seed\"\n".to_owned();
    let _ = writeln!(text, "seed = {}\n[path]", lots.bits() >> 1);
    for key in ["loss", "reply_loss", "duplicate", "reorder", "flip", "truncate"] {
        if lots.once_in(3) {
            let _ = writeln!(text, "{key} = {}", lots.of(&["0.001", "0.05", "0.3", "0.9"]));
        }
    }
    for key in ["delay_ms", "far_ms", "jitter_ms"] {
        let _ = writeln!(text, "{key} = {}", lots.of(&[0, 1, 30, 400]));
    }
    if on_link {
        let (silent, loss) = (lots.of(&["0.0", "0.1", "0.9"]), lots.of(&["0.0", "0.3"]));
        let delay = lots.of(&[1, 300, 500_000, 1_500_000]);
        let _ = writeln!(text, "[neighbours]\nsilent = {silent}\nloss = {loss}\ndelay_us = {delay}");
    }
    let _ = writeln!(text, "[adversaries]");
    let strangers = [
        "syn_ack",
        "reset",
        "icmp",
        "right_number",
        "right_port",
        "right_quoted_port",
        "arp",
        "replay",
        "moved",
    ];
    for key in strangers {
        if lots.once_in(4) {
            let _ = writeln!(text, "{key} = {}", lots.of(&["0.01", "0.5", "3.0"]));
        }
    }
    for _ in 0..lots.within(1, 8) {
        let rule = lots.of(&RULES);
        let _ = writeln!(text, "[[rule]]\n{rule}\nshare = {}", lots.of(&["0.1", "0.5", "1.0"]));
    }
    text
}

const RULES: [&str; 20] = [
    "answer = 'open'",
    "answer = 'open'\nretransmits = 5",
    "answer = 'open'\nper_host = true",
    "answer = 'closed'",
    "answer = 'closed'\nfirst_number = true",
    "answer = 'silent'\nper_host = true",
    "answer = 'reject'",
    "answer = 'reject'\nkind = 11\ncode = 0\nquote = 28",
    "answer = 'reject'\nfrom = '192.0.2.254'\nquote = 128\nper_second = 10",
    "answer = 'reject'\ncode = 1\nquote = 1000\nid_change = 4711",
    "answer = 'reject'\ncode = 3\nquote = 7",
    "answer = 'reject'\ncode = 0\nfrom = '203.0.113.9'",
    "answer = 'wavering'",
    "answer = 'wavering'\nerror = true",
    "answer = 'wavering'\nopen_first = true\nafter_ms = 0",
    "answer = 'tarpit'",
    "answer = 'storm'",
    "answer = 'storm'\nbare = true",
    "answer = 'stale'",
    "answer = 'mirror'",
];
