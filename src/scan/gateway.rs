//! Asks the gateways for their link-layer addresses before the first probe.

use std::time::Duration;

use super::{ScanError, signals::Signals};
use crate::link::{Link, RxQueue};
use crate::plan::{Gateway, Setup};
use crate::sys::clock;
use crate::wire::arp::Announcement;
use crate::wire::ethernet::Mac;
use crate::wire::{self, Frame};
use crate::{rx, tx};

/// Fills the slots of the gateways: from what is known, else by asking each up to three times, a second apart.
///
/// # Errors
/// [`ScanError::Gateway`] for one that does not answer, [`ScanError::Interrupted`] when the user waits no longer.
pub(super) fn resolve(setup: &Setup, link: &mut Link, signals: &Signals) -> Result<(), ScanError> {
    for gateway in &setup.gateways {
        let mac = match gateway.mac {
            Some(mac) => mac,
            None => ask(setup, link, gateway, signals)?,
        };
        setup.hops.assign(gateway.hop, mac);
    }
    Ok(())
}

fn ask(setup: &Setup, link: &mut Link, gateway: &Gateway, signals: &Signals) -> Result<Mac, ScanError> {
    let interface = setup.interface.as_ref().map_or_else(String::new, |interface| interface.name.clone());
    let silent = || ScanError::Gateway { address: gateway.address, interface: interface.clone() };
    let (Some(tx), Some(rx)) = (link.tx.first_mut(), link.rx.first_mut()) else { return Err(silent()) };
    let question = tx::question(&setup.sources, gateway.address).ok_or_else(silent)?;
    for _ in 0..3 {
        tx.send(&question)?;
        if let Some(mac) = answer(rx.as_mut(), gateway, signals)? {
            return Ok(mac);
        }
    }
    Err(silent())
}

/// Waits a second for an answer.
fn answer(rx: &mut dyn RxQueue, gateway: &Gateway, signals: &Signals) -> Result<Option<Mac>, ScanError> {
    let deadline_ns = clock::monotonic_ns() + 1_000_000_000;
    while clock::monotonic_ns() < deadline_ns {
        if 0 < signals.count() {
            return Err(ScanError::Interrupted);
        }
        for (_, frame) in rx.poll(Duration::from_millis(20))?.iter() {
            if let Ok(Frame::Segment(segment)) = wire::read(frame)
                && let Some(Announcement { address, mac }) = rx::announcement(&segment)
                && address == gateway.address
            {
                return Ok(Some(mac));
            }
        }
    }
    Ok(None)
}
