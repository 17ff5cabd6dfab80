//! The bounded "seen" table: says whether a verdict about a target is new.
//!
//! The key is the target's number in the plan and the class of the verdict, so that a RST never hides a later
//! SYN-ACK. A plan that fits is kept as a bitmap, exact for ever; a larger one in two generations of a hash table,
//! exact until both are full, after which the older half is forgotten and what it held is counted.
//!
//! Invariant: knows numbers, not addresses; memory never grows beyond what it was given.

use crate::event::State;

/// Default memory of the table: 64 MiB.
pub const DEFAULT_BYTES: usize = 64 << 20;

/// Verdicts that were seen.
#[derive(Debug)]
pub struct Dedup {
    table: Table,
    evicted: u64,
}

#[derive(Debug)]
enum Table {
    /// One bit for each target and class.
    Bitmap(Vec<u64>),
    Generations(Generations),
}

impl Dedup {
    /// A table for a plan of `targets` targets that uses at most about `bytes` of memory.
    pub fn new(targets: u64, bytes: usize) -> Dedup {
        let words = (u128::from(targets) * u128::from(CLASSES)).div_ceil(64);
        let table = match usize::try_from(words) {
            Ok(words) if words <= bytes / 8 => Table::Bitmap(vec![0; words]),
            _ => Table::Generations(Generations::new(bytes)),
        };
        Dedup { table, evicted: 0 }
    }

    /// Notes a verdict and says whether it is new.
    #[inline]
    pub fn insert(&mut self, target: u64, state: State) -> bool {
        let class = class(state);
        match &mut self.table {
            Table::Bitmap(words) => {
                let bit = target * CLASSES + class;
                let Some(word) = words.get_mut((bit / 64) as usize) else { return true };
                let mask = 1 << (bit % 64);
                let new = *word & mask == 0;
                *word |= mask;
                new
            }
            // A plan has at most 2^63 targets; the class takes the upper half of the key space by addition, so that
            // no key is 0 and none collides below 2^62 targets. Above, two classes may share a key: then the plan
            // could not be walked in a lifetime.
            Table::Generations(generations) => {
                let key = target.wrapping_mul(CLASSES).wrapping_add(class).wrapping_add(1);
                let (new, evicted) = generations.insert(key.max(1));
                self.evicted += evicted;
                new
            }
        }
    }

    /// How many verdicts were forgotten: a repetition of one would be reported again.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

/// Two open-addressing tables of 64-bit keys; 0 marks a free slot. The older is dropped when the younger is full.
#[derive(Debug)]
struct Generations {
    young: Vec<u64>,
    old: Vec<u64>,
    used: usize,
    old_used: usize,
    capacity: usize,
}

impl Generations {
    fn new(bytes: usize) -> Generations {
        let slots = (bytes / 2 / 8).max(16);
        let slots = if slots.is_power_of_two() { slots } else { slots.next_power_of_two() / 2 };
        // Zeroed memory comes from the kernel page by page as it is touched, so a quiet scan uses little.
        Generations {
            young: vec![0; slots],
            old: vec![0; slots],
            used: 0,
            old_used: 0,
            capacity: slots / 4 * 3,
        }
    }

    #[inline]
    fn insert(&mut self, key: u64) -> (bool, u64) {
        let slot = match find(&self.young, key) {
            Ok(_) => return (false, 0),
            Err(slot) => slot,
        };
        if find(&self.old, key).is_ok() {
            return (false, 0);
        }
        if self.used < self.capacity {
            self.young[slot] = key;
            self.used += 1;
            return (true, 0);
        }
        let evicted = self.old_used as u64;
        std::mem::swap(&mut self.young, &mut self.old);
        self.old_used = self.used;
        self.young.fill(0);
        let slot = find(&self.young, key).unwrap_or_else(|free| free);
        self.young[slot] = key;
        self.used = 1;
        (true, evicted)
    }
}

/// The slot that holds a key, or the free slot where it belongs. The table is never full.
#[inline]
fn find(slots: &[u64], key: u64) -> Result<usize, usize> {
    let mask = slots.len() - 1;
    // Fibonacci hashing: targets come in random order, but a plan's numbers may share their low bits.
    let mut slot = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) as usize & mask;
    loop {
        match slots[slot] {
            0 => return Err(slot),
            found if found == key => return Ok(slot),
            _ => slot = (slot + 1) & mask,
        }
    }
}

/// Verdicts of one class repeat each other; verdicts of two are two facts.
fn class(state: State) -> u64 {
    match state {
        State::Open => 0,
        State::Closed | State::Unfiltered => 1,
        State::Filtered => 2,
    }
}

const CLASSES: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repetition_is_known_and_another_class_is_new() {
        for targets in [1000, u64::MAX / 8] {
            let mut dedup = Dedup::new(targets, 1 << 16);
            assert!(dedup.insert(7, State::Closed));
            assert!(dedup.insert(7, State::Open), "a RST never hides a later SYN-ACK");
            assert!(!dedup.insert(7, State::Open));
            assert!(!dedup.insert(7, State::Closed));
            assert!(dedup.insert(8, State::Open));
            assert_eq!(dedup.evicted(), 0);
        }
    }

    #[test]
    fn a_plan_that_fits_is_exact_whatever_the_order() {
        let mut dedup = Dedup::new(10_000, 1 << 16);
        assert!(matches!(dedup.table, Table::Bitmap(_)));
        let mut new = 0;
        for round in 0..3u64 {
            for target in 0..10_000u64 {
                new += u64::from(dedup.insert((target * 7919 + round) % 10_000, State::Open));
            }
        }
        assert_eq!(new, 10_000);
    }

    #[test]
    fn a_large_plan_is_exact_until_both_generations_are_full_and_counts_what_it_forgets() {
        let mut dedup = Dedup::new(u64::MAX / 8, 1 << 16);
        let room = 2 * (1 << 12) / 4 * 3;
        for target in 0..room {
            assert!(dedup.insert(target * 64, State::Open));
        }
        assert_eq!(dedup.evicted(), 0);
        for target in 0..room {
            assert!(!dedup.insert(target * 64, State::Open), "{target}");
        }
        assert!(dedup.insert(u64::MAX / 16, State::Open));
        assert_eq!(dedup.evicted(), room / 2);
        assert!(dedup.insert(0, State::Open), "the oldest half is forgotten");
        assert!(!dedup.insert((room - 1) * 64, State::Open), "the younger half is not");
    }
}
