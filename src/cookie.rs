//! The cookie: a keyed hash of the target that the probe carries and the reply brings back. The only place that
//! knows the key.
//!
//! SipHash-1-3 (Aumasson, Bernstein 2012) under a 128-bit key that the operating system draws for each process.
//! The key is never the seed, never written down and has no `Debug`. An IPv4 target is hashed as exactly seven
//! bytes (address, port, protocol, big-endian), which with the length byte is one SipHash block; an IPv6 target as
//! nineteen. The lengths keep the two apart.

use std::fmt;
use std::net::IpAddr;

use siphasher::sip::SipHasher13;

use crate::batch::{LANES, low_32};
use crate::sys::simd::Simd;
use crate::target::{Port, Protocol, Target};

/// The key of one process.
#[derive(Clone, Copy)]
pub struct CookieKey {
    low: u64,
    high: u64,
    simd: Simd,
}

/// The cookies of a batch, in halves: that is how they are used.
#[derive(Debug, Clone)]
pub struct CookieLanes {
    /// The low half of each.
    pub low: [u32; LANES],
    /// The high half of each.
    pub high: [u32; LANES],
}

impl CookieLanes {
    /// The cookie of a lane.
    #[inline(always)]
    pub fn at(&self, lane: usize) -> Cookie {
        Cookie(u64::from(self.high[lane]) << 32 | u64::from(self.low[lane]))
    }

    /// Takes the cookies of some lanes from others.
    #[inline(always)]
    pub fn take(&mut self, others: &CookieLanes, from: &[bool; LANES]) {
        for lane in 0..LANES {
            self.low[lane] = if from[lane] { others.low[lane] } else { self.low[lane] };
            self.high[lane] = if from[lane] { others.high[lane] } else { self.high[lane] };
        }
    }
}

impl Default for CookieLanes {
    fn default() -> CookieLanes {
        CookieLanes { low: [0; LANES], high: [0; LANES] }
    }
}

/// The keyed hash of one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cookie(pub u64);

impl CookieKey {
    /// A key of 16 random bytes.
    pub fn new(bytes: [u8; 16]) -> CookieKey {
        let half = |part: &[u8]| u64::from_le_bytes(part.try_into().expect("eight bytes"));
        CookieKey { low: half(&bytes[..8]), high: half(&bytes[8..]), simd: Simd::best() }
    }

    /// The cookie of a target.
    pub fn cookie(&self, target: &Target) -> Cookie {
        let hasher = SipHasher13::new_with_keys(self.low, self.high);
        let Port { protocol: Protocol(protocol), number } = target.port;
        let [port_high, port_low] = number.to_be_bytes();
        match target.address {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                Cookie(hasher.hash(&[a, b, c, d, port_high, port_low, protocol]))
            }
            IpAddr::V6(address) => {
                let mut bytes = [0; 19];
                bytes[..16].copy_from_slice(&address.octets());
                bytes[16..].copy_from_slice(&[port_high, port_low, protocol]);
                Cookie(hasher.hash(&bytes))
            }
        }
    }

    /// As [`CookieKey::cookies_v4`], for code that is not compiled for the best instructions of this processor.
    pub fn cookies(
        &self,
        addresses: &[u32; LANES],
        ports: &[u16; LANES],
        protocols: &[u8; LANES],
        cookies: &mut CookieLanes,
    ) {
        self.simd.run(
            #[inline(always)]
            || self.cookies_v4(addresses, ports, protocols, cookies),
        );
    }

    /// The cookies of [`LANES`] IPv4 targets at once, equal to [`CookieKey::cookie`] lane by lane.
    #[inline(always)]
    pub fn cookies_v4(
        &self,
        addresses: &[u32; LANES],
        ports: &[u16; LANES],
        protocols: &[u8; LANES],
        cookies: &mut CookieLanes,
    ) {
        let State { v0, v1, v2, v3 } = self.state();
        // Seven bytes in network order, read as a little-endian word, and the length in the top byte. Bytes change places
        // among 16 bits, and these among 32, in loops of their own: every vector unit has instructions for that.
        let (mut upper, mut lower) = ([0u16; LANES], [0u16; LANES]);
        for lane in 0..LANES {
            upper[lane] = ((addresses[lane] >> 16) as u16).swap_bytes();
        }
        for lane in 0..LANES {
            lower[lane] = ((addresses[lane] & 0xffff) as u16).swap_bytes();
        }
        let mut swapped = [0u16; LANES];
        for lane in 0..LANES {
            swapped[lane] = ports[lane].swap_bytes();
        }
        let (mut first, mut second) = ([0u32; LANES], [0u32; LANES]);
        for lane in 0..LANES {
            first[lane] = u32::from(upper[lane]) | u32::from(lower[lane]) << 16;
        }
        for lane in 0..LANES {
            second[lane] = u32::from(swapped[lane]) | u32::from(protocols[lane]) << 16 | 7 << 24;
        }
        for lane in 0..LANES {
            let block = u64::from(second[lane]) << 32 | u64::from(first[lane]);
            let mut state = State { v0, v1, v2, v3: v3 ^ block };
            state.round();
            state.v0 ^= block;
            let hash = state.finish();
            (cookies.low[lane], cookies.high[lane]) = (low_32(hash), low_32(hash >> 32));
        }
    }

    /// The cookies of [`LANES`] IPv6 targets at once, equal to [`CookieKey::cookie`] lane by lane.
    #[inline(always)]
    pub fn cookies_v6(
        &self,
        addresses: &[u128; LANES],
        ports: &[u16; LANES],
        protocols: &[u8; LANES],
        cookies: &mut CookieLanes,
    ) {
        // Nineteen bytes in network order, read as little-endian words, and the length in the top byte of the last. A loop for
        // each, or the compiler goes from lane to lane.
        let (mut upper, mut lower, mut last) = ([0; LANES], [0; LANES], [0; LANES]);
        for lane in 0..LANES {
            upper[lane] = (addresses[lane] >> 64) as u64;
        }
        for lane in 0..LANES {
            lower[lane] = (addresses[lane] & 0xffff_ffff_ffff_ffff) as u64;
        }
        for lane in 0..LANES {
            last[lane] = u32::from(protocols[lane]) << 16 | u32::from(ports[lane].swap_bytes());
        }
        let State { v0, v1, v2, v3 } = self.state();
        for lane in 0..LANES {
            let mut state = State { v0, v1, v2, v3 };
            let last = 19 << 56 | u64::from(last[lane]);
            for block in [upper[lane].swap_bytes(), lower[lane].swap_bytes(), last] {
                state.v3 ^= block;
                state.round();
                state.v0 ^= block;
            }
            let hash = state.finish();
            (cookies.low[lane], cookies.high[lane]) = (low_32(hash), low_32(hash >> 32));
        }
    }

    /// The state before anything is hashed.
    #[inline(always)]
    fn state(&self) -> State {
        State {
            v0: self.low ^ 0x736f_6d65_7073_6575,
            v1: self.high ^ 0x646f_7261_6e64_6f6d,
            v2: self.low ^ 0x6c79_6765_6e65_7261,
            v3: self.high ^ 0x7465_6462_7974_6573,
        }
    }
}

impl fmt::Debug for CookieKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CookieKey(secret)")
    }
}

#[derive(Clone, Copy)]
struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl State {
    /// The hash, after the last block.
    #[inline(always)]
    fn finish(mut self) -> u64 {
        self.v2 ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }

    #[inline(always)]
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v2 = self.v2.rotate_left(32);
    }
}

impl Cookie {
    /// The 32 bits a sequence number carries.
    #[inline(always)]
    pub fn sequence(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    /// The 16 bits that, with the pass, choose the source port.
    #[inline(always)]
    pub fn port_bits(self) -> u16 {
        ((self.0 >> 32) & 0xffff) as u16
    }

    /// The 16 bits the IPv4 identification carries: random to everybody else, checkable in an ICMP quote.
    #[inline(always)]
    pub fn identification(self) -> u16 {
        (self.0 >> 48) as u16
    }
}

/// The source ports of a scan: a range whose size is a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourcePorts {
    first: u16,
    mask: u16,
}

impl SourcePorts {
    /// The ports `first..first + size`.
    ///
    /// # Errors
    /// A sentence when `size` is no power of two or the range leaves the port space.
    pub fn new(first: u16, size: u32) -> Result<SourcePorts, String> {
        if !size.is_power_of_two() || 0x1_0000 < u32::from(first) + size {
            return Err(format!(
                "source ports {first}-{} cannot be used: their number must be a power of two (1, 2, 4, ... 16384) and end at 65535 or before",
                u32::from(first) + size.max(1) - 1
            ));
        }
        let mask = u16::try_from(size - 1).expect("a size of at most 65536");
        Ok(SourcePorts { first, mask })
    }

    /// The first port.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The last port.
    pub fn last(self) -> u16 {
        self.first + self.mask
    }

    /// Secret bits the source port carries when `passes` passes share it.
    pub fn bits(self, passes: u8) -> u32 {
        (u32::from(self.mask) + 1).ilog2().saturating_sub(u32::from(passes).next_power_of_two().ilog2())
    }

    /// Whether a port is one of them.
    #[inline]
    pub fn contains(self, port: u16) -> bool {
        port.wrapping_sub(self.first) <= self.mask
    }

    /// The source port of a probe: each pass is its own four-tuple.
    #[inline(always)]
    pub fn port(self, cookie: Cookie, pass: u8) -> u16 {
        let pass = planted!(27, 0, u16::from(pass));
        self.first + (cookie.port_bits().wrapping_add(pass) & self.mask)
    }

    /// Which of `passes` passes a probe with this source port belonged to; `None` when it is none of them.
    #[inline]
    pub fn pass(self, cookie: Cookie, port: u16, passes: u8) -> Option<u8> {
        if !self.contains(port) {
            return None;
        }
        let pass = (port - self.first).wrapping_sub(cookie.port_bits()) & self.mask;
        let pass = planted!(24, 0, pass);
        u8::try_from(pass).ok().filter(|pass| *pass < passes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(address: &str, number: u16) -> Target {
        Target { address: address.parse().expect("address"), port: Port { protocol: Protocol::TCP, number } }
    }

    #[test]
    fn the_batch_equals_the_library_lane_by_lane() {
        let key = CookieKey::new(*b"0123456789abcdef");
        let mut addresses = [0; LANES];
        let mut ports = [0; LANES];
        let mut protocols = [6; LANES];
        for lane in 0..LANES {
            addresses[lane] = (lane as u32).wrapping_mul(0x9e37_79b9);
            ports[lane] = (lane as u16).wrapping_mul(0x1357);
            protocols[lane] = [6, 17, 1, 255][lane % 4];
        }
        let mut cookies = CookieLanes::default();
        key.cookies_v4(&addresses, &ports, &protocols, &mut cookies);
        for lane in 0..LANES {
            let port = Port { protocol: Protocol(protocols[lane]), number: ports[lane] };
            let target = Target { address: IpAddr::from(addresses[lane].to_be_bytes()), port };
            assert_eq!(cookies.at(lane), key.cookie(&target), "lane {lane}");
        }
        let mut wide = [0; LANES];
        for lane in 0..LANES {
            wide[lane] = u128::from(addresses[lane]) << 96 | u128::from(ports[lane]) << 40 | lane as u128;
        }
        let mut others = CookieLanes::default();
        key.cookies_v6(&wide, &ports, &protocols, &mut others);
        let mut either = cookies.clone();
        either.take(&others, &std::array::from_fn(|lane| lane % 3 == 0));
        for lane in 0..LANES {
            let port = Port { protocol: Protocol(protocols[lane]), number: ports[lane] };
            let target = Target { address: IpAddr::from(wide[lane].to_be_bytes()), port };
            assert_eq!(others.at(lane), key.cookie(&target), "lane {lane}");
            let source = if lane % 3 == 0 { &others } else { &cookies };
            assert_eq!(either.at(lane), source.at(lane), "lane {lane}");
        }
    }

    #[test]
    fn the_cookie_depends_on_every_part_of_the_target_and_on_the_key() {
        let key = CookieKey::new([7; 16]);
        let base = key.cookie(&target("192.0.2.1", 80));
        let mut udp = target("192.0.2.1", 80);
        udp.port.protocol = Protocol::UDP;
        for other in [target("192.0.2.2", 80), target("192.0.2.1", 81), target("2001:db8::1", 80), udp] {
            assert_ne!(key.cookie(&other), base);
        }
        assert_ne!(CookieKey::new([8; 16]).cookie(&target("192.0.2.1", 80)), base);
    }

    #[test]
    fn the_source_port_tells_the_pass() {
        let ports = SourcePorts::new(16384, 16384).expect("valid");
        let key = CookieKey::new([1; 16]);
        for number in 0..2000 {
            let cookie = key.cookie(&target("192.0.2.1", number));
            for pass in 0..4 {
                let port = ports.port(cookie, pass);
                assert!(ports.contains(port));
                assert_eq!(ports.pass(cookie, port, 4), Some(pass));
            }
            assert_eq!(ports.pass(cookie, ports.port(cookie, 4), 4), None);
            assert_eq!(ports.pass(cookie, 80, 4), None);
        }
        assert_eq!((ports.bits(1), ports.bits(2), ports.bits(3)), (14, 13, 12));
    }

    #[test]
    fn a_key_is_never_printed() {
        assert_eq!(format!("{:?}", CookieKey::new([7; 16])), "CookieKey(secret)");
    }

    #[test]
    fn a_port_range_that_is_no_power_of_two_is_refused() {
        assert!(SourcePorts::new(40_000, 3).is_err());
        assert!(SourcePorts::new(65_535, 2).is_err());
        assert_eq!(SourcePorts::new(65_535, 1).map(SourcePorts::last), Ok(65_535));
        assert_eq!(SourcePorts::new(0, 65_536).map(SourcePorts::last), Ok(65_535));
    }
}
