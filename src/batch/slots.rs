//! [`Slots`]: where the frames of a batch are written, a slot of whole blocks for each lane.
//!
//! Invariant: a slot never moves and is as long as every other; lanes are taken modulo [`LANES`], so that no index needs a
//! check.

use super::{Block, LANES};
use crate::wire::ethernet::Mac;

/// The slots of a batch.
pub trait Slots {
    /// Blocks of a slot.
    fn blocks(&self) -> usize;

    /// `WIDTH` bytes of a slot, from an offset on.
    ///
    /// # Panics
    /// When they leave the slot.
    fn bytes<const WIDTH: usize>(&mut self, lane: usize, at: usize) -> &mut [u8; WIDTH];

    /// Writes a slot: one of many constant slots.
    ///
    /// # Panics
    /// When there are not so many.
    fn put(&mut self, lane: usize, constants: &[Block], index: usize);

    /// The same for every slot, with the next hop's address in it.
    ///
    /// # Panics
    /// When there are more blocks than a slot has.
    fn put_all(&mut self, constant: &[Block], mac: Mac);

    /// Writes every slot: the first block as `write` does, and behind it what is the same in all.
    ///
    /// # Panics
    /// When there are more blocks than a slot has.
    fn put_each(&mut self, rest: &[Block], write: impl Fn(usize, &mut Block));

    /// The whole slot of a lane.
    fn slot(&mut self, lane: usize) -> &mut [u8];
}

/// Slots of a size that the compiler knows.
impl<const BLOCKS: usize> Slots for [[Block; BLOCKS]; LANES] {
    #[inline(always)]
    fn blocks(&self) -> usize {
        BLOCKS
    }

    #[inline(always)]
    fn bytes<const WIDTH: usize>(&mut self, lane: usize, at: usize) -> &mut [u8; WIDTH] {
        let slot = self[lane % LANES].as_flattened_mut();
        (&mut slot[at..at + WIDTH]).try_into().expect("so many bytes")
    }

    #[inline(always)]
    fn put(&mut self, lane: usize, constants: &[Block], index: usize) {
        self[lane % LANES] = constants.as_chunks().0[index];
    }

    #[inline(always)]
    fn put_all(&mut self, constant: &[Block], mac: Mac) {
        let mut whole: [Block; BLOCKS] = padded(constant);
        whole[0][..6].copy_from_slice(&mac.0);
        // In words, which stay in registers from slot to slot.
        let words = whole.map(|block| {
            let (words, _) = block.as_chunks::<8>();
            [0, 1, 2, 3, 4, 5, 6, 7].map(|index: usize| u64::from_ne_bytes(words[index]))
        });
        for slot in self {
            for (block, words) in slot.iter_mut().zip(&words) {
                let (bytes, _) = block.as_chunks_mut::<8>();
                for index in 0..8 {
                    bytes[index] = words[index].to_ne_bytes();
                }
            }
        }
    }

    #[inline(always)]
    fn put_each(&mut self, rest: &[Block], write: impl Fn(usize, &mut Block)) {
        let whole: [Block; BLOCKS] = padded(rest);
        for (lane, slot) in self.iter_mut().enumerate() {
            write(lane, &mut slot[0]);
            slot[1..].copy_from_slice(&whole[..BLOCKS - 1]);
        }
    }

    #[inline(always)]
    fn slot(&mut self, lane: usize) -> &mut [u8] {
        self[lane % LANES].as_flattened_mut()
    }
}

#[inline(always)]
fn padded<const BLOCKS: usize>(constant: &[Block]) -> [Block; BLOCKS] {
    let mut whole = [[0; super::BLOCK]; BLOCKS];
    whole[..constant.len()].copy_from_slice(constant);
    whole
}

/// Slots of any size.
#[derive(Debug)]
pub struct Strided<'a> {
    slots: &'a mut [Block],
    blocks: usize,
}

impl<'a> Strided<'a> {
    /// Slots of so many blocks each.
    ///
    /// # Panics
    /// When there is none for every lane.
    pub fn new(slots: &'a mut [Block], blocks: usize) -> Strided<'a> {
        assert_eq!(slots.len(), blocks * LANES, "a slot for every lane");
        Strided { slots, blocks }
    }
}

impl Slots for Strided<'_> {
    #[inline(always)]
    fn blocks(&self) -> usize {
        self.blocks
    }

    #[inline(always)]
    fn bytes<const WIDTH: usize>(&mut self, lane: usize, at: usize) -> &mut [u8; WIDTH] {
        let first = lane % LANES * self.blocks;
        let slot = self.slots[first..first + self.blocks].as_flattened_mut();
        (&mut slot[at..at + WIDTH]).try_into().expect("so many bytes")
    }

    #[inline(always)]
    fn put(&mut self, lane: usize, constants: &[Block], index: usize) {
        let (to, from) = (lane % LANES * self.blocks, index * self.blocks);
        self.slots[to..to + self.blocks].copy_from_slice(&constants[from..from + self.blocks]);
    }

    #[inline(always)]
    fn put_all(&mut self, constant: &[Block], mac: Mac) {
        for slot in self.slots.chunks_exact_mut(self.blocks) {
            slot[..constant.len()].copy_from_slice(constant);
            slot[constant.len()..].fill([0; super::BLOCK]);
            slot[0][..6].copy_from_slice(&mac.0);
        }
    }

    #[inline(always)]
    fn put_each(&mut self, rest: &[Block], write: impl Fn(usize, &mut Block)) {
        for (lane, slot) in self.slots.chunks_exact_mut(self.blocks).enumerate() {
            write(lane, &mut slot[0]);
            slot[1..=rest.len()].copy_from_slice(rest);
            slot[1 + rest.len()..].fill([0; super::BLOCK]);
        }
    }

    #[inline(always)]
    fn slot(&mut self, lane: usize) -> &mut [u8] {
        let first = lane % LANES * self.blocks;
        self.slots[first..first + self.blocks].as_flattened_mut()
    }
}
