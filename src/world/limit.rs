//! Routers that send so many errors a second and no more. A bounded memory: /24 blocks that share a slot share a limit.

use std::net::IpAddr;

use super::draws::Draws;
use super::probe::address_keys;

/// For each slot, when the next error may leave, in nanoseconds, up to a second ahead (RFC 1812 section 4.3.2.8).
#[derive(Debug)]
pub(super) struct Limits(Vec<u64>);

impl Default for Limits {
    fn default() -> Limits {
        Limits(vec![0; SLOTS])
    }
}

impl Limits {
    /// Whether the router before an address may send one more error at `now_ns`.
    pub(super) fn allow(&mut self, now_ns: u64, address: IpAddr, per_second: Option<u32>) -> bool {
        let Some(per_second) = per_second else { return true };
        let [high, low] = address_keys(address);
        let block = if address.is_ipv4() { low >> 8 } else { high };
        let slot = usize::try_from(Draws::new(block, &[]).bits()).unwrap_or(0) % SLOTS;
        let due = self.0[slot].max(now_ns);
        let allowed = 0 < per_second && due < now_ns + SECOND_NS;
        if allowed {
            self.0[slot] = due + SECOND_NS / u64::from(per_second);
        }
        allowed
    }
}

const SLOTS: usize = 1 << 12;
const SECOND_NS: u64 = 1_000_000_000;
