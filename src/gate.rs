//! The last gate: reads the destination out of a finished frame and says whether it may leave.
//!
//! Built apart from the target space on purpose: the plan subtracts what is excluded, and this structure, made
//! from the same lists by other code, catches a mistake in the subtraction, in the order or in the stamping.
//!
//! Invariant: knows frames and addresses, nothing of how they were chosen.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::{ethernet, ipv6, nd};

/// Addresses no frame may be sent to.
///
/// IPv4 is a table of the /16 prefixes that hold an excluded address (64 KiB, so that it stays in a near cache), before
/// a bitmap of such /24 blocks (2 MiB), before a sorted list of ranges: nearly every frame costs one load.
pub struct Gate {
    blocks: Box<[u64]>,
    /// For each /16, 1 when it holds an excluded address; indexed by the two bytes as a frame holds them.
    prefixes: Box<[u8; 1 << 16]>,
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Gate {
    /// A gate that stops the given inclusive ranges, in any order, overlapping or not.
    pub fn new(v4: impl IntoIterator<Item = (u32, u32)>, v6: impl IntoIterator<Item = (u128, u128)>) -> Gate {
        let v4 = merged(v4.into_iter().collect());
        let mut blocks = vec![0u64; 1 << 18].into_boxed_slice();
        let mut prefixes = Box::new([0; 1 << 16]);
        for &(first, last) in &v4 {
            for block in (first >> 8)..=(last >> 8) {
                blocks[(block >> 6) as usize] |= 1 << (block & 63);
            }
            for prefix in (first >> 16)..=(last >> 16) {
                let [_, _, high, low] = prefix.to_be_bytes();
                prefixes[usize::from(u16::from_ne_bytes([high, low]))] = 1;
            }
        }
        Gate { blocks, prefixes, v4, v6: merged(v6.into_iter().collect()) }
    }

    /// A gate that lets everything pass, for links that send nothing.
    pub fn open() -> Gate {
        Gate::new([], [])
    }

    /// The destination of a finished Ethernet frame, if it may not leave. A question to the link (ARP, neighbour
    /// discovery) probes nothing and passes, for a router may be excluded and still be the way; where it is the probe,
    /// ask [`Gate::blocked_question`] as well.
    #[inline]
    pub fn blocked(&self, frame: &[u8]) -> Option<IpAddr> {
        let (ethertype, network) = ethernet::announced(frame)?;
        match ethertype {
            ethernet::IPV4 => self.stops_v4(frame, network + 16),
            ethernet::IPV6 if is_neighbour_discovery(frame, network) => None,
            ethernet::IPV6 => self.stops_v6(frame, network + 24),
            _ => None,
        }
    }

    /// The address that a finished question to the link asks for, if nobody may ask.
    pub fn blocked_question(&self, frame: &[u8]) -> Option<IpAddr> {
        let (ethertype, network) = ethernet::announced(frame)?;
        match ethertype {
            ethernet::ARP => self.stops_v4(frame, network + 24),
            ethernet::IPV6 => self.stops_v6(frame, network + ipv6::HEADER + nd::TARGET),
            _ => None,
        }
    }

    /// The IPv4 address at an offset, if it is stopped.
    #[inline]
    fn stops_v4(&self, frame: &[u8], at: usize) -> Option<IpAddr> {
        let octets: [u8; 4] = frame.get(at..at + 4)?.try_into().ok()?;
        let address = u32::from_be_bytes(octets);
        self.holds_v4(address).then(|| IpAddr::V4(Ipv4Addr::from(address)))
    }

    /// The IPv6 address at an offset, if it is stopped.
    #[inline]
    fn stops_v6(&self, frame: &[u8], at: usize) -> Option<IpAddr> {
        let octets: [u8; 16] = frame.get(at..at + 16)?.try_into().ok()?;
        let address = u128::from_be_bytes(octets);
        self.holds_v6(address).then(|| IpAddr::V6(Ipv6Addr::from(address)))
    }

    /// The destination of the first of many finished frames that may not leave. Each frame is read again: its type, and the
    /// first half of its destination; only when one of them is suspect, all of them as [`Gate::blocked`] does.
    #[inline(always)]
    pub fn first_blocked<const BLOCKS: usize>(&self, frames: &[[[u8; 64]; BLOCKS]]) -> Option<IpAddr> {
        let looked_at = planted!(26, &frames[..frames.len().min(1)], frames);
        // Several in a row, so that what a loop costs is shared.
        let (rows, rest) = looked_at.as_chunks::<4>();
        let passes = |frames: &[[[u8; 64]; BLOCKS]; 4]| {
            let [a, b, c, d] = frames;
            [a, b, c, d].into_iter().all(|frame| self.passes(&frame[0]))
        };
        if rows.iter().all(passes) && rest.iter().all(|frame| self.passes(&frame[0])) {
            return None;
        }
        if self.pass_by_prefix(looked_at) {
            return None;
        }
        looked_at
            .iter()
            .find_map(|frame| if self.passes(&frame[0]) { None } else { self.blocked(frame.as_flattened()) })
    }

    /// Whether all frames are untagged IPv6 to a prefix, the longest that they have in common, that holds nothing excluded.
    #[inline(always)]
    fn pass_by_prefix<const BLOCKS: usize>(&self, frames: &[[[u8; 64]; BLOCKS]]) -> bool {
        let upper = |frame: &[u8; 64]| u64::from_ne_bytes(frame[38..46].try_into().expect("eight bytes"));
        let Some(first) = frames.first().map(|blocks| upper(&blocks[0])) else { return true };
        let (mut differ, mut other_type) = (0, 0);
        for blocks in frames {
            let frame = &blocks[0];
            differ |= upper(frame) ^ first;
            other_type |= u16::from_ne_bytes([frame[12], frame[13]]) ^ ethernet::IPV6.to_be();
        }
        let (first, differ) = (u64::from_be(first), u64::from_be(differ));
        // Ones from the first bit that differs on.
        let below = u64::MAX.checked_shr(differ.leading_zeros()).unwrap_or(0);
        other_type == 0 && self.holds_nothing_between(first & !below, first | below)
    }

    /// Whether no address is stopped whose upper half is between two.
    fn holds_nothing_between(&self, lowest: u64, highest: u64) -> bool {
        let (first, last) = (u128::from(lowest) << 64, u128::from(highest) << 64 | u128::from(u64::MAX));
        let after = self.v6.partition_point(|&(_, end)| end < first);
        // The upper half of IPv4-mapped addresses is zero.
        lowest != 0 && self.v6.get(after).is_none_or(|&(start, _)| last < start)
    }

    /// Whether the start of a finished frame says that it may leave: untagged IPv4 to a /16 that holds nothing excluded. Of
    /// any other frame only [`Gate::blocked`] can tell.
    #[inline(always)]
    pub fn passes(&self, frame: &[u8; 64]) -> bool {
        let half = |at: usize| u16::from_ne_bytes(frame[at..at + 2].try_into().expect("two bytes"));
        half(12) == ethernet::IPV4.to_be() && self.prefixes[usize::from(half(30))] == 0
    }

    /// Whether an address may not be sent to.
    pub fn holds(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.holds_v4(address.into()),
            IpAddr::V6(address) => self.holds_v6(address.into()),
        }
    }

    /// Whether an IPv4 address may not be sent to.
    #[inline]
    pub fn holds_v4(&self, address: u32) -> bool {
        let block = address >> 8;
        let suspect = self.blocks[(block >> 6) as usize] & (1 << (block & 63)) != 0;
        suspect && within(&self.v4, address)
    }

    /// Whether an IPv6 address may not be sent to. An IPv4-mapped one is judged by the IPv4 address inside.
    pub fn holds_v6(&self, address: u128) -> bool {
        within(&self.v6, address)
            || (address >> 32 == 0xffff && self.holds_v4((address & 0xffff_ffff) as u32))
    }
}

/// Whether an IPv6 frame is a neighbour solicitation or advertisement that no router forwards.
#[inline]
fn is_neighbour_discovery(frame: &[u8], network: usize) -> bool {
    let message = frame.get(network + ipv6::HEADER).copied();
    frame.get(network + 6) == Some(&ICMPV6)
        && frame.get(network + 7) == Some(&nd::HOP_LIMIT)
        && matches!(message, Some(nd::SOLICITATION | nd::ADVERTISEMENT))
}

const ICMPV6: u8 = 58;

fn within<T: Copy + Ord>(ranges: &[(T, T)], value: T) -> bool {
    let after = ranges.partition_point(|&(first, _)| first <= value);
    after.checked_sub(1).is_some_and(|index| value <= ranges[index].1)
}

/// Sorts ranges and joins those that overlap.
fn merged<T: Copy + Ord>(mut ranges: Vec<(T, T)>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let overlap = next.0 <= kept.1;
        if overlap {
            kept.1 = kept.1.max(next.1);
        }
        overlap
    });
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame_to(address: Ipv4Addr) -> Vec<u8> {
        let mut frame = vec![0; 58];
        frame[12..14].copy_from_slice(&ethernet::IPV4.to_be_bytes());
        frame[30..34].copy_from_slice(&address.octets());
        frame
    }

    fn v4(text: &str) -> u32 {
        u32::from(text.parse::<Ipv4Addr>().expect("address"))
    }

    #[test]
    fn a_frame_to_an_excluded_address_is_stopped_and_its_neighbours_pass() {
        let gate = Gate::new([(v4("192.0.2.7"), v4("192.0.2.9")), (v4("192.0.2.9"), v4("192.0.2.9"))], []);
        for (text, stopped) in
            [("192.0.2.6", false), ("192.0.2.7", true), ("192.0.2.9", true), ("192.0.2.10", false)]
        {
            let address: Ipv4Addr = text.parse().expect("address");
            assert_eq!(gate.blocked(&frame_to(address)), stopped.then_some(IpAddr::V4(address)), "{text}");
        }
    }

    #[test]
    fn the_ends_of_the_address_space_are_stopped() {
        let gate = Gate::new([(0, 5), (u32::MAX - 1, u32::MAX)], [(0, 1)]);
        assert!(gate.holds_v4(0) && gate.holds_v4(5) && !gate.holds_v4(6));
        assert!(gate.holds_v4(u32::MAX) && !gate.holds_v4(u32::MAX - 2));
        assert!(gate.holds_v6(1) && !gate.holds_v6(2));
    }

    #[test]
    fn a_tag_hides_no_destination_and_a_question_is_judged_by_who_is_asked_for() {
        let address = Ipv4Addr::new(192, 0, 2, 7);
        let gate = Gate::new([(v4("192.0.2.7"), v4("192.0.2.7"))], [(0xff << 120, u128::MAX), (7, 7)]);
        let mut frame = frame_to(address);
        ethernet::tag(&mut frame, 5);
        assert_eq!(gate.blocked(&frame), Some(IpAddr::V4(address)));
        let mac = ethernet::Mac([2; 6]);
        let mut question = crate::wire::arp::request(mac, Ipv4Addr::new(192, 0, 2, 1), address);
        assert_eq!(gate.blocked_question(&question), Some(IpAddr::V4(address)));
        assert_eq!(gate.blocked(&question), None);
        ethernet::tag(&mut question, 5);
        assert_eq!(gate.blocked_question(&question), Some(IpAddr::V4(address)));
        let (us, them) = (Ipv6Addr::from(1), Ipv6Addr::from(7));
        let question = nd::solicitation(mac, us, them);
        assert_eq!(
            (gate.blocked(&question), gate.blocked_question(&question)),
            (None, Some(IpAddr::V6(them)))
        );
    }

    #[test]
    fn an_ipv4_address_hidden_in_ipv6_is_stopped() {
        let gate = Gate::new([(v4("192.0.2.7"), v4("192.0.2.7"))], []);
        assert!(gate.holds_v6(0xffff_c000_0207));
        assert!(!gate.holds_v6(0xffff_c000_0208));
    }
}
