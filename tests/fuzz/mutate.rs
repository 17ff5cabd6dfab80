//! How inputs are changed: small damage to something good, because what is quite random is refused at the door. Whatever
//! behaved in a new way is kept and changed further.

use std::collections::BTreeMap;

/// A sequence of numbers that a seed means (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Lots(u64);

impl Lots {
    pub(crate) fn new(seed: u64) -> Lots {
        Lots(seed)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    pub(crate) fn below(&mut self, count: usize) -> usize {
        (self.bits() % count.max(1) as u64) as usize
    }
}

/// Inputs that each behaved in a way of their own.
pub(crate) struct Pool {
    inputs: Vec<Vec<u8>>,
    /// How an input behaved, and how often that was seen.
    seen: BTreeMap<u64, u64>,
    lots: Lots,
    most_bytes: usize,
}

impl Pool {
    pub(crate) fn new(seeds: Vec<Vec<u8>>, seed: u64, most_bytes: usize) -> Pool {
        assert!(!seeds.is_empty(), "mutation begins with something good");
        Pool { inputs: seeds, seen: BTreeMap::new(), lots: Lots::new(seed), most_bytes }
    }

    /// A changed copy of some input.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let Pool { inputs, lots, most_bytes, .. } = self;
        let mut input = inputs[lots.below(inputs.len())].clone();
        for _ in 0..=lots.below(4) {
            change(&mut input, inputs, lots);
        }
        input.truncate(*most_bytes);
        input
    }

    /// Notes how an input behaved; one that did so for the first time is kept. Returns whether it was.
    pub(crate) fn note(&mut self, input: &[u8], behaviour: u64) -> bool {
        let times = self.seen.entry(behaviour).or_default();
        *times += 1;
        let new = *times == 1;
        if new && self.inputs.len() < MOST_INPUTS {
            self.inputs.push(input.to_vec());
        }
        new
    }

    /// How many behaviours were seen.
    pub(crate) fn behaviours(&self) -> usize {
        self.seen.len()
    }
}

fn change(input: &mut Vec<u8>, others: &[Vec<u8>], lots: &mut Lots) {
    let at = lots.below(input.len());
    match lots.below(9) {
        0 if !input.is_empty() => input[at] ^= 1 << lots.below(8),
        1 if !input.is_empty() => input[at] = [0, 1, 0x7f, 0x80, 0xff, b'/', b'-', b','][lots.below(8)],
        2 if at + 2 <= input.len() => {
            let value = [0u16, 1, 7, 8, 20, 0x7fff, 0x8000, 0xffff, input.len() as u16][lots.below(9)];
            input[at..at + 2].copy_from_slice(&value.to_be_bytes());
        }
        3 => input.truncate(at),
        4 => input.insert(at, lots.bits() as u8),
        5 if !input.is_empty() => drop(input.remove(at)),
        6 => {
            // A piece of it again.
            let piece: Vec<u8> = input[at..].iter().take(1 + lots.below(16)).copied().collect();
            let place = lots.below(input.len() + 1);
            input.splice(place..place, piece);
        }
        7 => {
            // The end of another.
            let other = &others[lots.below(others.len())];
            let from = lots.below(other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => {
            // The same place of another: a field changes over.
            let other = &others[lots.below(others.len())];
            let length = 1 + lots.below(20);
            let end = (at + length).min(input.len()).min(other.len());
            if at < end {
                input[at..end].copy_from_slice(&other[at..end]);
            }
        }
    }
}

const MOST_INPUTS: usize = 20_000;
