//! Recognises hosts that ration their ICMP errors: "port unreachable" then comes at a constant pace, whatever the pace of
//! the probes, and most closed UDP ports look silent.
//!
//! Linux gives each receiver one error a second after a burst of six (`net.ipv4.icmp_ratelimit`, net/ipv4/icmp.c); other
//! systems have limits of the same kind. Probes leave in a random order, so errors that are not rationed come at
//! irregular times, or, where all probes go to one host, one for each probe; `EVEN` equal gaps in a row, each with
//! several probes in it, do not happen by chance.
//!
//! Invariant: bounded: the hosts heard last, a slot each. Reads no clock.

use std::net::IpAddr;

/// What one receive thread has heard of late.
#[derive(Debug, Default)]
pub struct Pulse {
    hosts: Vec<Host>,
    /// Errors of all hosts together: one kernel may have many addresses.
    all: Beat,
}

#[derive(Debug, Clone, Copy)]
struct Host {
    address: IpAddr,
    beat: Beat,
}

/// The rhythm of one source.
#[derive(Debug, Clone, Copy, Default)]
struct Beat {
    last_ns: u64,
    gap_ns: u64,
    /// Probes sent before the last error.
    sent: u64,
    even: u8,
    told: bool,
}

impl Pulse {
    /// Notes an error of `host` at `time_ns`, when `sent` probes had left; returns its pace in milliseconds when it turns out now that the host
    /// rations them.
    pub fn note(&mut self, host: IpAddr, time_ns: u64, sent: u64) -> Option<u64> {
        let together = self.all.note(time_ns, sent);
        let place = self.hosts.iter().position(|known| known.address == host);
        let of_host = match place {
            Some(place) => self.hosts[place].beat.note(time_ns, sent),
            None => {
                let beat = Beat { last_ns: time_ns, sent, ..Beat::default() };
                if self.hosts.len() < HOSTS {
                    self.hosts.push(Host { address: host, beat });
                } else if let Some(oldest) = self.hosts.iter_mut().min_by_key(|known| known.beat.last_ns) {
                    *oldest = Host { address: host, beat };
                }
                None
            }
        };
        of_host.or(together)
    }
}

impl Beat {
    fn note(&mut self, time_ns: u64, sent: u64) -> Option<u64> {
        let gap_ns = time_ns.saturating_sub(self.last_ns);
        let difference = gap_ns.abs_diff(self.gap_ns);
        let several = planted!(45, true, self.sent + 1 < sent);
        let is_even = several && SHORTEST_NS <= gap_ns && difference <= gap_ns / TOLERANCE;
        self.even = if is_even { self.even.saturating_add(1) } else { 0 };
        (self.last_ns, self.gap_ns, self.sent) = (time_ns, gap_ns, sent);
        if self.even < EVEN || self.told {
            return None;
        }
        self.told = true;
        Some(gap_ns / 1_000_000)
    }
}

/// Hosts remembered.
const HOSTS: usize = 64;
/// Equal gaps in a row, each compared with the one before.
const EVEN: u8 = 5;
/// A gap is equal when it differs by at most a twelfth: probes come between two errors, and the first one after the
/// ration is due gets it.
const TOLERANCE: u64 = 12;
/// Shorter gaps are the pace of our own probes.
const SHORTEST_NS: u64 = 50_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 0, 7));

    fn told(times_ms: &[u64]) -> Vec<u64> {
        let mut pulse = Pulse::default();
        times_ms.iter().filter_map(|ms| pulse.note(HOST, ms * 1_000_000, ms / 10)).collect()
    }

    #[test]
    fn the_burst_and_then_one_a_second_is_a_ration_and_told_once() {
        let times = [1, 9, 14, 30, 31, 44, 1050, 2060, 3062, 4071, 5080, 6082, 7090, 8100, 9103];
        assert_eq!(told(&times), [1002]);
    }

    #[test]
    fn errors_at_the_random_times_of_the_probes_are_none() {
        let mut state = 7u64;
        let mut now = 0;
        let times: Vec<u64> = (0..20_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Exponential gaps of 100 ms on average, as a random order gives.
                now += (-((state >> 11) as f64 / (1u64 << 53) as f64).max(1e-9).ln() * 100.0) as u64;
                now
            })
            .collect();
        assert!(told(&times).is_empty());
    }

    #[test]
    fn one_error_for_each_probe_is_the_pace_of_the_probes() {
        let mut pulse = Pulse::default();
        assert!((0..50u64).all(|probe| pulse.note(HOST, probe * 100_000_000, probe).is_none()));
    }

    #[test]
    fn many_addresses_of_one_kernel_are_recognised_together() {
        let mut pulse = Pulse::default();
        let told: Vec<u64> = (0..12u8)
            .filter_map(|index| {
                pulse.note(
                    IpAddr::from([198, 18, 0, index]),
                    u64::from(index) * 1_000_000_000,
                    u64::from(index) * 9,
                )
            })
            .collect();
        assert_eq!(told, [1000]);
    }
}
