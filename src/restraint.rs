//! What holds a probe back although the plan has it and the rate allows it: an address that was excluded while the scan
//! runs, and a prefix that has had its share ([`PrefixCap`]).
//!
//! Invariant: reads no clock and sends nothing. Memory is bounded: a prefix stands in the table only as long as it owes
//! time, and what is put off waits in a list of [`DEFERRED_MAX`] steps; when that is full no new target is taken.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::gate::Gate;

/// Steps of one thread that may be put off at a time.
pub const DEFERRED_MAX: usize = 1 << 16;

/// Addresses excluded while the scan runs. Whoever reads the lists again replaces them whole; the transmitters look at
/// one word a round.
#[derive(Default)]
pub struct Excludes {
    version: AtomicU64,
    gates: Mutex<Option<Gates>>,
}

/// What the transmitter filters by, and what its link stops frames by.
#[derive(Clone)]
pub struct Gates {
    /// What was excluded after the plan was made.
    pub later: Arc<Gate>,
    /// That, and all that was excluded before.
    pub last: Arc<Gate>,
}

impl Excludes {
    /// Excludes by these from the next round of each thread on.
    pub fn replace(&self, gates: Gates) {
        *locked(&self.gates) = Some(gates);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// How often they were replaced.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What holds the probes of one transmit thread back.
pub struct Restraint {
    excludes: Arc<Excludes>,
    version: u64,
    later: Option<Arc<Gate>>,
    cap: Option<Arc<PrefixCap>>,
    deferred: BinaryHeap<Reverse<(u64, u64)>>,
}

impl Restraint {
    /// Restraint by lists and by a cap that all threads share.
    pub fn new(excludes: Arc<Excludes>, cap: Option<Arc<PrefixCap>>) -> Restraint {
        Restraint { excludes, version: 0, later: None, cap, deferred: BinaryHeap::new() }
    }

    /// Takes over lists that were replaced since; returns the link's new gate then.
    #[inline]
    pub fn renew(&mut self) -> Option<Arc<Gate>> {
        let version = self.excludes.version();
        if version == self.version {
            return None;
        }
        let gates = locked(&self.excludes.gates).clone()?;
        self.version = version;
        self.later = Some(gates.later);
        Some(gates.last)
    }

    /// Whether addresses were excluded while the scan ran.
    #[inline]
    pub fn excludes_any(&self) -> bool {
        self.later.is_some()
    }

    /// Whether an address was.
    pub fn excludes(&self, address: IpAddr) -> bool {
        self.later.as_ref().is_some_and(|gate| gate.holds(address))
    }

    /// The cap, where there is one.
    #[inline]
    pub fn cap(&self) -> Option<Arc<PrefixCap>> {
        self.cap.clone()
    }

    /// Puts a step off.
    pub fn defer(&mut self, due_ns: u64, step: u64) {
        self.deferred.push(Reverse((due_ns, step)));
    }

    /// The next step that is due.
    pub fn take_due(&mut self, now_ns: u64) -> Option<u64> {
        let &Reverse((due_ns, step)) = self.deferred.peek()?;
        (due_ns <= now_ns).then(|| {
            self.deferred.pop();
            step
        })
    }

    /// When the next step is due.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.deferred.peek().map(|Reverse((due_ns, _))| *due_ns)
    }

    /// The steps that were put off.
    pub fn deferred(&self) -> impl Iterator<Item = u64> + '_ {
        self.deferred.iter().map(|Reverse((_, step))| *step)
    }

    /// How many were put off.
    pub fn waiting(&self) -> usize {
        self.deferred.len()
    }

    /// Whether no more may be put off.
    pub fn is_full(&self) -> bool {
        DEFERRED_MAX <= self.deferred.len()
    }
}

/// The rate law of each prefix: an IPv4 /24 or an IPv6 /48, in every window of t seconds at most sigma + rho * t
/// probes, sigma being 10 ms of the rate but at least one.
#[derive(Debug)]
pub struct PrefixCap {
    period_ns: u64,
    tolerance_ns: u64,
    room: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    prefixes: HashMap<u64, Debt>,
    cleared_ns: u64,
}

/// What a prefix owes.
#[derive(Debug, Clone, Copy, Default)]
struct Debt {
    /// The theoretical arrival time of its next probe (ITU-T I.371).
    arrival_ns: u64,
    /// When the last of those that were put off is due, and one more period.
    tail_ns: u64,
}

impl PrefixCap {
    /// A cap of so many probes in 1000 seconds for each prefix.
    pub fn new(milli: u64) -> PrefixCap {
        let period_ns = 1_000_000_000_000u64.div_ceil(milli.max(1)).max(1);
        let sigma = (BURST_NS / period_ns).max(1);
        let tolerance_ns = (sigma - 1) * period_ns;
        PrefixCap { period_ns, tolerance_ns, room: PREFIXES_MAX, table: Mutex::default() }
    }

    /// Probes that may leave for a prefix at one instant.
    pub fn sigma(&self) -> u64 {
        self.tolerance_ns / self.period_ns + 1
    }

    /// Asks for several addresses under one lock: see [`Asking::ask`].
    pub fn asking(&self, now_ns: u64) -> Asking<'_> {
        Asking { cap: self, table: locked(&self.table), now_ns }
    }
}

/// Questions to a [`PrefixCap`] at one moment.
pub struct Asking<'a> {
    cap: &'a PrefixCap,
    table: MutexGuard<'a, Table>,
    now_ns: u64,
}

impl Asking<'_> {
    /// Whether a probe to an address may leave now; if not, when to ask again. One that waited before goes ahead of those
    /// that did not.
    pub fn ask(&mut self, address: IpAddr, waited: bool) -> Result<(), u64> {
        let (now_ns, period_ns) = (self.now_ns, self.cap.period_ns);
        let key = prefix(address);
        if !self.table.prefixes.contains_key(&key) && !self.make_room() {
            // Every prefix of the table owes time: this one waits until one is clear. Never above the cap.
            return Err(now_ns + period_ns);
        }
        let debt = self.table.prefixes.entry(key).or_default();
        let limit = now_ns.saturating_add(self.cap.tolerance_ns);
        let first = if waited { debt.arrival_ns } else { debt.arrival_ns.max(debt.tail_ns) };
        if first <= limit {
            debt.arrival_ns = debt.arrival_ns.max(now_ns) + period_ns;
            return Ok(());
        }
        let due_ns = debt.arrival_ns.max(debt.tail_ns).max(now_ns + 1);
        debt.tail_ns = due_ns.saturating_add(period_ns);
        Err(due_ns)
    }

    /// Forgets the prefixes that owe nothing, at most every 10 ms; returns whether there is room.
    fn make_room(&mut self) -> bool {
        let now_ns = self.now_ns;
        let table = &mut *self.table;
        if table.prefixes.len() < self.cap.room {
            return true;
        }
        if table.cleared_ns + CLEAR_EVERY_NS <= now_ns {
            table.cleared_ns = now_ns;
            table.prefixes.retain(|_, debt| now_ns < debt.arrival_ns.max(debt.tail_ns));
        }
        table.prefixes.len() < self.cap.room
    }
}

/// The /24 of an IPv4 address, the /48 of an IPv6 one: what is usually one site. They share no key.
pub fn prefix(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => u64::from(u32::from(address) >> 8),
        IpAddr::V6(address) => (1 << 63) | ((u128::from(address) >> 80) as u64),
    }
}

/// Prefixes that may owe time at once: about 50 MiB.
const PREFIXES_MAX: usize = 1 << 20;
const BURST_NS: u64 = 10_000_000;
const CLEAR_EVERY_NS: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    proptest! {
        /// In every window, for every prefix, whatever is asked when and whoever comes late.
        #[test]
        fn no_prefix_ever_gets_more_than_sigma_plus_rho_t(
            milli in prop_oneof![1u64..2_000_000, Just(1_000u64), Just(200_000)],
            asked in prop::collection::vec((0u64..20_000_000, 0u32..4, any::<bool>()), 1..600),
        ) {
            let cap = PrefixCap::new(milli);
            let (mut now_ns, mut sent, mut lowest) = (0u64, [0i128; 4], [i128::MAX; 4]);
            for (pause, block, waited) in asked {
                now_ns += pause;
                let earned = i128::from(now_ns) * i128::from(milli);
                let index = block as usize;
                lowest[index] = lowest[index].min(sent[index] * 1_000_000_000_000 - earned);
                match cap.asking(now_ns).ask(address(block << 8 | 7), waited) {
                    Ok(()) => sent[index] += 1,
                    Err(due_ns) => prop_assert!(now_ns < due_ns),
                }
                let excess = sent[index] * 1_000_000_000_000 - earned - lowest[index];
                prop_assert!(excess <= i128::from(cap.sigma()) * 1_000_000_000_000);
            }
        }
    }

    #[test]
    fn what_is_put_off_is_due_one_after_the_other_and_then_passes() {
        let cap = PrefixCap::new(10_000);
        assert_eq!(cap.asking(0).ask(address(1), false), Ok(()));
        let due: Vec<u64> =
            (0..3).map(|_| cap.asking(0).ask(address(2), false).expect_err("over the cap")).collect();
        assert_eq!(due, [100_000_000, 200_000_000, 300_000_000]);
        assert!(
            cap.asking(99_000_000).ask(address(3), false).is_err(),
            "nobody goes ahead of those who wait"
        );
        for due_ns in due {
            assert_eq!(cap.asking(due_ns).ask(address(2), true), Ok(()));
        }
        assert!(cap.asking(300_000_000).ask(address(2), true).is_err());
        assert_eq!(cap.asking(300_000_000).ask(address(256), false), Ok(()), "another prefix");
    }

    #[test]
    fn a_table_that_is_full_of_debts_never_lets_more_through() {
        let cap = PrefixCap { room: 4, ..PrefixCap::new(1_000) };
        for block in 0..4 {
            assert_eq!(cap.asking(0).ask(address(block << 8), false), Ok(()));
        }
        assert!(cap.asking(0).ask(address(9 << 8), false).is_err());
        assert_eq!(cap.asking(1_000_000_000).ask(address(9 << 8), false), Ok(()), "the debts are paid");
        assert_eq!(cap.table.lock().expect("one thread").prefixes.len(), 1);
    }

    #[test]
    fn prefixes_are_sites() {
        assert_eq!(prefix(address(0x0102_0304)), prefix(address(0x0102_03ff)));
        assert_ne!(prefix(address(0x0102_0304)), prefix(address(0x0102_0404)));
        let site = |text: &str| prefix(text.parse().expect("address"));
        assert_eq!(site("2001:db8:1::1"), site("2001:db8:1:ffff::2"));
        assert_ne!(site("2001:db8:1::1"), site("2001:db8:2::1"));
        assert_ne!(site("::"), site("0.0.0.0"));
    }

    #[test]
    fn lists_are_taken_over_once() {
        let excludes = Arc::new(Excludes::default());
        let mut restraint = Restraint::new(Arc::clone(&excludes), None);
        assert!(restraint.renew().is_none() && !restraint.excludes_any());
        let gate = |last| Arc::new(Gate::new([(7, last)], []));
        excludes.replace(Gates { later: gate(8), last: gate(9) });
        let last = restraint.renew().expect("replaced");
        assert!(last.holds_v4(9) && restraint.excludes(address(8)) && !restraint.excludes(address(9)));
        assert!(restraint.renew().is_none());
    }
}
