//! The table of steps that wait (for the link, a neighbour, a prefix): an open-addressing set in shared words that
//! holds exactly the set at any instant, one of its elements twice at most.
//!
//! Invariant: one writer. An element is never moved by taking it out first.

use std::collections::HashSet;

/// Set in the word of a step that the link is being given right now.
pub(super) const FLIGHT: u64 = 1 << 63;

/// The step that a word holds; `None` for a free place.
pub(super) fn step_in(word: u64) -> Option<u64> {
    (word & !FLIGHT).checked_sub(1)
}

/// A set of words somewhere: the table of a thread, or of a test. 0 is a free place.
pub(super) trait Words {
    fn load(&self, slot: usize) -> u64;
    fn store(&self, slot: usize, value: u64);
}

/// How many places a table for `waiting` steps needs: at most two thirds are ever taken.
pub(super) fn slots(waiting: usize) -> usize {
    (waiting + waiting / 2 + 16).next_power_of_two()
}

/// The place where a step belongs in a table of so many.
fn home(step: u64, slots: usize) -> usize {
    usize::try_from(step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).unwrap_or(0) & (slots - 1)
}

/// Adds a step; returns whether there was room for it. One that is inside stays.
pub(super) fn insert(words: &impl Words, slots: usize, step: u64) -> bool {
    let mut slot = home(step, slots);
    for _ in 0..slots {
        match step_in(words.load(slot)) {
            None => {
                words.store(slot, step + 1);
                return true;
            }
            Some(found) if found == step => return true,
            Some(_) => slot = (slot + 1) & (slots - 1),
        }
    }
    false
}

/// The place of a step.
fn find(words: &impl Words, slots: usize, step: u64) -> Option<usize> {
    let first = home(step, slots);
    let mut places = (0..slots).map(|offset| (first + offset) & (slots - 1));
    places
        .find(|&slot| step_in(words.load(slot)).is_none_or(|found| found == step))
        .filter(|&slot| words.load(slot) != 0)
}

/// Says of a step inside whether the link is being given it right now.
pub(super) fn flag(words: &impl Words, slots: usize, (step, in_flight): (u64, bool)) {
    if let Some(slot) = find(words, slots, step) {
        words.store(slot, (step + 1) | if in_flight { FLIGHT } else { 0 });
    }
}

/// Takes a step out; one that is not inside does nothing.
pub(super) fn remove(words: &impl Words, slots: usize, step: u64) {
    let Some(mut hole) = find(words, slots, step) else { return };
    // Knuth 6.4, algorithm R: elements behind the hole that could stand in it move there; copied first, so that each is
    // found at any instant, for a moment twice.
    let mut slot = hole;
    loop {
        slot = (slot + 1) & (slots - 1);
        let value = words.load(slot);
        let Some(moved) = step_in(value) else {
            words.store(hole, 0);
            return;
        };
        let distance = |from: usize, to: usize| to.wrapping_sub(from) & (slots - 1);
        if distance(hole, slot) <= distance(home(moved, slots), slot) {
            words.store(hole, value);
            hole = slot;
        }
    }
}

/// Where given steps stand in an empty table: pairs of place and step.
pub(super) fn placed(slots: usize, steps: &[u64]) -> Vec<(usize, u64)> {
    let mut taken = HashSet::with_capacity(steps.len());
    let place = |&step: &u64| {
        let mut slot = home(step, slots);
        while !taken.insert(slot) {
            slot = (slot + 1) & (slots - 1);
        }
        (slot, step)
    };
    steps.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// A table whose every state is looked at.
    struct Watched {
        words: RefCell<Vec<u64>>,
        seen: RefCell<Vec<BTreeSet<u64>>>,
    }

    impl Words for Watched {
        fn load(&self, slot: usize) -> u64 {
            self.words.borrow()[slot]
        }

        fn store(&self, slot: usize, value: u64) {
            self.words.borrow_mut()[slot] = value;
            let held =
                self.words.borrow().iter().filter(|value| **value != 0).map(|value| value - 1).collect();
            self.seen.borrow_mut().push(held);
        }
    }

    proptest! {
        /// After every single store the table holds the set before the operation or the set after it.
        #[test]
        fn at_any_instant_the_table_holds_the_set_before_or_after(
            steps in prop::collection::vec((any::<bool>(), 0u64..60), 1..200),
        ) {
            let slots = slots(42);
            let watched = Watched { words: RefCell::new(vec![0; slots]), seen: RefCell::default() };
            let mut model = BTreeSet::new();
            for (add, step) in steps {
                let before = model.clone();
                if add && model.len() < 42 {
                    model.insert(step);
                    prop_assert!(insert(&watched, slots, step));
                } else {
                    model.remove(&step);
                    remove(&watched, slots, step);
                }
                for held in watched.seen.borrow_mut().drain(..) {
                    prop_assert!(held == before || held == model, "{held:?} between {before:?} and {model:?}");
                }
            }
            let held: BTreeSet<u64> =
                watched.words.borrow().iter().filter(|value| **value != 0).map(|value| value - 1).collect();
            prop_assert_eq!(&held, &model);
            // What is placed at once can be taken out one by one.
            let all: Vec<u64> = model.into_iter().collect();
            let placed = placed(slots, &all);
            watched.words.replace(vec![0; slots]);
            placed.iter().for_each(|&(slot, step)| watched.store(slot, step + 1));
            all.iter().for_each(|&step| remove(&watched, slots, step));
            prop_assert!(watched.words.borrow().iter().all(|value| *value == 0));
        }
    }

    #[test]
    fn a_table_that_is_full_says_so() {
        let words = Watched { words: RefCell::new(vec![0; 16]), seen: RefCell::default() };
        assert!((0..16).all(|step| insert(&words, 16, step)));
        assert!(!insert(&words, 16, 16));
        assert!(insert(&words, 16, 3), "what is inside needs no room");
    }
}
