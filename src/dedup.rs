//! The bounded "seen" table: says whether a verdict about a target is new, and in which passes the target answered.
//!
//! The key is the target's number in the plan; what is kept of it is one byte: the classes of its verdicts, so that a
//! RST never hides a later SYN-ACK, and the passes it answered. A plan that fits is an array, exact for ever; a larger
//! one is kept in two generations of a hash table, exact until both are full, after which the older half is forgotten
//! and what it held is counted.
//!
//! Invariant: knows numbers, not addresses; memory never grows beyond what it was given.

use crate::event::State;
use crate::sys::prefetch::prefetch;

/// Default memory of the table: 64 MiB.
pub const DEFAULT_BYTES: usize = 64 << 20;

/// Most passes a scan may have: their bits and those of the classes share a byte.
pub const MAX_PASSES: u8 = 5;

/// Verdicts that were seen.
#[derive(Debug)]
pub struct Dedup {
    table: Table,
    evicted: u64,
}

/// What was known of a target before a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Whether the verdict is of a class that was not seen of the target.
    pub new: bool,
    /// Whether nothing at all was seen of the target.
    pub first: bool,
    /// The passes in which the target had answered, one bit each, pass 0 lowest.
    pub passes_before: u8,
}

#[derive(Debug)]
enum Table {
    /// One byte for each target.
    Array(Vec<u8>),
    Generations(Generations),
}

impl Dedup {
    /// A table for a plan of `targets` targets that uses at most about `bytes` of memory.
    pub fn new(targets: u64, bytes: usize) -> Dedup {
        let table = match usize::try_from(targets) {
            Ok(targets) if targets <= bytes => Table::Array(vec![0; targets]),
            _ => Table::Generations(Generations::new(bytes)),
        };
        Dedup { table, evicted: 0 }
    }

    /// Notes a verdict about a target from a pass below [`MAX_PASSES`], and says what was known before.
    #[inline]
    pub fn insert(&mut self, target: u64, state: State, pass: u8) -> Seen {
        let mark = match &mut self.table {
            Table::Array(marks) => usize::try_from(target).ok().and_then(|target| marks.get_mut(target)),
            Table::Generations(generations) => {
                // A plan has at most 2^63 targets, so the key is never 0, which marks a free slot.
                let (mark, evicted) = generations.mark(target + 1);
                self.evicted += planted!(36, 0, evicted);
                Some(mark)
            }
        };
        let Some(mark) = mark else { return Seen { new: true, first: true, passes_before: 0 } };
        let seen =
            Seen { new: *mark & class(state) == 0, first: *mark == 0, passes_before: *mark >> CLASSES };
        *mark |= class(state) | (1 << (CLASSES + u32::from(pass.min(MAX_PASSES - 1))));
        seen
    }

    /// Asks for what is kept of a target before [`Dedup::insert`] needs it. The table is larger than a near cache, and targets
    /// come in random order: waiting for each would take most of the time of a reply, and these requests wait for nothing.
    #[inline]
    pub fn touch(&self, target: u64) {
        match &self.table {
            Table::Array(marks) => {
                if let Some(mark) = usize::try_from(target).ok().and_then(|target| marks.get(target)) {
                    prefetch(mark);
                }
            }
            Table::Generations(generations) => generations.touch(target + 1),
        }
    }

    /// How many targets were forgotten: a repetition of a verdict about one is reported again.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

/// Two open-addressing tables; the older is dropped when the younger is full.
#[derive(Debug)]
struct Generations {
    young: Slots,
    old: Slots,
    capacity: usize,
}

/// Keys, of which 0 marks a free slot, and what is kept of each.
#[derive(Debug)]
struct Slots {
    keys: Vec<u64>,
    marks: Vec<u8>,
    used: usize,
}

impl Generations {
    fn new(bytes: usize) -> Generations {
        let slots = (bytes / 2 / 9).max(16);
        let slots = if slots.is_power_of_two() { slots } else { slots.next_power_of_two() / 2 };
        Generations { young: Slots::new(slots), old: Slots::new(slots), capacity: slots / 4 * 3 }
    }

    /// Asks for the slots where a key may be.
    #[inline]
    fn touch(&self, key: u64) {
        let slot = self.young.first_slot(key);
        prefetch(&self.young.keys[slot]);
        prefetch(&self.young.marks[slot]);
        prefetch(&self.old.keys[slot]);
    }

    /// What is kept of a key, and how many keys had to be forgotten to make room for it.
    #[inline]
    fn mark(&mut self, key: u64) -> (&mut u8, u64) {
        let slot = match self.young.find(key) {
            Ok(slot) => return (&mut self.young.marks[slot], 0),
            Err(slot) => slot,
        };
        if let Ok(slot) = self.old.find(key) {
            return (&mut self.old.marks[slot], 0);
        }
        if self.young.used < self.capacity {
            return (self.young.occupy(slot, key), 0);
        }
        let evicted = self.old.used as u64;
        std::mem::swap(&mut self.young, &mut self.old);
        self.young.clear();
        let slot = self.young.find(key).unwrap_or_else(|free| free);
        (self.young.occupy(slot, key), evicted)
    }
}

impl Slots {
    fn new(count: usize) -> Slots {
        // Zeroed memory comes from the kernel page by page as it is touched, so a quiet scan uses little.
        Slots { keys: vec![0; count], marks: vec![0; count], used: 0 }
    }

    fn clear(&mut self) {
        self.keys.fill(0);
        self.marks.fill(0);
        self.used = 0;
    }

    fn occupy(&mut self, slot: usize, key: u64) -> &mut u8 {
        self.keys[slot] = key;
        self.used += 1;
        &mut self.marks[slot]
    }

    /// Where the search for a key begins.
    #[inline]
    fn first_slot(&self, key: u64) -> usize {
        // Fibonacci hashing: targets come in random order, but a plan's numbers may share their low bits.
        usize::try_from(key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20).unwrap_or(0) & (self.keys.len() - 1)
    }

    /// The slot that holds a key, or the free slot where it belongs. The table is never full.
    #[inline]
    fn find(&self, key: u64) -> Result<usize, usize> {
        let mask = self.keys.len() - 1;
        let mut slot = self.first_slot(key);
        loop {
            match self.keys[slot] {
                0 => return Err(slot),
                found if found == key => return Ok(slot),
                _ => slot = (slot + 1) & mask,
            }
        }
    }
}

/// The bit of a verdict's class: verdicts of one class repeat each other, verdicts of two are two facts.
fn class(state: State) -> u8 {
    match planted!(9, State::Open, state) {
        State::Open | State::Up => 1,
        State::Closed | State::Unfiltered => 2,
        State::Filtered | State::OpenFiltered => 4,
    }
}

const CLASSES: u32 = 3;
const _: () = assert!(CLASSES + MAX_PASSES as u32 == 8, "classes and passes fill one byte");

#[cfg(test)]
mod tests {
    use super::*;

    fn is_new(dedup: &mut Dedup, target: u64, state: State) -> bool {
        dedup.insert(target, state, 0).new
    }

    #[test]
    fn a_repetition_is_known_and_another_class_is_new() {
        for targets in [1000, u64::MAX / 2] {
            let mut dedup = Dedup::new(targets, 1 << 16);
            [7, targets - 1, u64::MAX >> 1].into_iter().for_each(|target| dedup.touch(target));
            assert!(is_new(&mut dedup, 7, State::Closed), "a look is no note");
            assert!(is_new(&mut dedup, 7, State::Open), "a RST never hides a later SYN-ACK");
            assert!(!is_new(&mut dedup, 7, State::Open));
            assert!(!is_new(&mut dedup, 7, State::Closed));
            assert!(is_new(&mut dedup, 8, State::Open));
            assert_eq!(dedup.evicted(), 0);
        }
    }

    #[test]
    fn the_passes_a_target_answered_are_remembered() {
        for targets in [1000, u64::MAX / 2] {
            let mut dedup = Dedup::new(targets, 1 << 16);
            assert_eq!(dedup.insert(7, State::Open, 1), Seen { new: true, first: true, passes_before: 0 });
            assert_eq!(
                dedup.insert(7, State::Open, 0),
                Seen { new: false, first: false, passes_before: 0b10 }
            );
            assert_eq!(
                dedup.insert(7, State::Closed, 4),
                Seen { new: true, first: false, passes_before: 0b11 }
            );
            assert_eq!(
                dedup.insert(7, State::Closed, 4),
                Seen { new: false, first: false, passes_before: 0b1_0011 }
            );
        }
    }

    #[test]
    fn a_plan_that_fits_is_exact_whatever_the_order() {
        let mut dedup = Dedup::new(10_000, 1 << 16);
        assert!(matches!(dedup.table, Table::Array(_)));
        let mut new = 0;
        for round in 0..3u64 {
            for target in 0..10_000u64 {
                new += u64::from(is_new(&mut dedup, (target * 7919 + round) % 10_000, State::Open));
            }
        }
        assert_eq!(new, 10_000);
    }

    #[test]
    fn a_large_plan_is_exact_until_both_generations_are_full_and_counts_what_it_forgets() {
        let mut dedup = Dedup::new(u64::MAX / 2, 1 << 16);
        let room = 2 * (1 << 11) / 4 * 3;
        for target in 0..room {
            assert!(is_new(&mut dedup, target * 64, State::Open));
        }
        assert_eq!(dedup.evicted(), 0);
        for target in 0..room {
            assert!(!is_new(&mut dedup, target * 64, State::Open), "{target}");
        }
        assert!(is_new(&mut dedup, u64::MAX / 16, State::Open));
        assert_eq!(dedup.evicted(), room / 2);
        assert!(is_new(&mut dedup, 0, State::Open), "the oldest half is forgotten");
        assert!(!is_new(&mut dedup, (room - 1) * 64, State::Open), "the younger half is not");
    }
}
