//! What an interface lost before the kernel saw it: frames its card had no buffer for. Counted by the driver, for all
//! traffic of the interface, so they are told apart from what the kernel dropped of ours.

use crate::sys::netlink::Netlink;
use crate::sys::rtnetlink;

/// The losses of one interface since the scan began.
pub(super) struct Losses {
    /// None where nobody can be asked, or there is no interface.
    counted: Option<(Netlink, u32)>,
    before: u64,
    looked_ns: u64,
    frames: u64,
}

impl Losses {
    /// Of the interface with an index, from now on.
    pub(super) fn of(interface: Option<u32>) -> Losses {
        let counted = interface.and_then(|index| Some((Netlink::open().ok()?, index)));
        let mut losses = Losses { counted, before: 0, looked_ns: 0, frames: 0 };
        losses.before = losses.total().unwrap_or(0);
        losses
    }

    /// Frames lost since the scan began; looks again every 50 ms at most.
    pub(super) fn observe(&mut self, now_ns: u64) -> u64 {
        if LOOK_NS <= now_ns.saturating_sub(self.looked_ns) {
            self.looked_ns = now_ns;
            self.look();
        }
        self.frames
    }

    /// Frames lost since the scan began, by a look just now. A counter that went back was set to 0 by the driver: what it shows is new.
    pub(super) fn look(&mut self) -> u64 {
        if let Some(total) = self.total() {
            self.before = if total < self.before { 0 } else { self.before };
            self.frames += total - self.before;
            self.before = total;
        }
        self.frames
    }

    fn total(&mut self) -> Option<u64> {
        let (netlink, index) = self.counted.as_mut()?;
        rtnetlink::receive_losses(netlink, *index).ok()?
    }
}

/// How often the driver's counters are looked at while the rate depends on them.
const LOOK_NS: u64 = 50_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_loses_nothing_and_no_interface_can_lose_nothing() {
        let mut losses = Losses::of(Some(1));
        assert!(losses.counted.is_some());
        assert_eq!((losses.total(), losses.observe(1 << 40)), (Some(0), 0));
        assert_eq!(Losses::of(None).look(), 0);
        assert_eq!(Losses::of(Some(u32::MAX)).look(), 0);
    }
}
