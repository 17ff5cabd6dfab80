//! `--link fastest`: the first of the links, fastest first, that opens on this interface and whose first frames the interface
//! counts ([`trial`]); says which, and why not those before it. It may attach XDP programs, which on a real card can reset
//! the link for a moment.

use crate::link::{
    Backend, Link, LinkError, LinkInterface, LinkSpec, Receive, af_packet, af_xdp, trial, xdp_live,
};
use crate::sys::netlink::Netlink;
use crate::sys::rtnetlink;

/// The row of the registry.
pub(super) const BACKEND: Backend = Backend {
    name: "fastest",
    about: "the fastest that opens here; it may attach XDP programs",
    transmits: true,
    argument: None,
    open,
};

/// Measured over veth: 5.4, 1.0 and 0.7 Mpps on one thread (docs/links.md).
static BY_RATE: [Backend; 3] = [xdp_live::BACKEND, af_xdp::BACKEND, af_packet::BACKEND];

fn open(spec: &LinkSpec) -> Result<Link, LinkError> {
    let mut refused = Vec::new();
    for (rung, backend) in BY_RATE.iter().enumerate() {
        for receive in ways(spec) {
            match (backend.open)(&LinkSpec { receive, ..spec.clone() }) {
                Ok(link) => {
                    let about = chosen(backend, &link.about, &refused);
                    let tx = trial::on_trial(link.tx, spec, &BY_RATE[rung..], sent_frames);
                    return Ok(Link { about, tx, ..link });
                }
                Err(error @ LinkError::Privilege { .. }) if backend.name == af_packet::BACKEND.name => {
                    return Err(error);
                }
                Err(error) => refused.push(error.to_string()),
            }
        }
    }
    refused.dedup();
    Err(LinkError::Unusable { name: BACKEND.name, reason: format!("none opens: {}", refused.join("; ")) })
}

/// Frames the interface has sent, by its own counter.
fn sent_frames(interface: &LinkInterface) -> Option<u64> {
    rtnetlink::sent_frames(&mut Netlink::open().ok()?, interface.index).ok()?
}

/// How to receive: past the kernel if that works and one thread does it, else by listening.
fn ways(spec: &LinkSpec) -> impl Iterator<Item = Receive> {
    let past = spec.queues.rx == 1;
    [Receive::Xdp, Receive::Packet].into_iter().filter(move |way| past || *way == Receive::Packet)
}

fn chosen(backend: &Backend, about: &str, refused: &[String]) -> String {
    let mut refused = refused.to_vec();
    refused.dedup();
    match refused.is_empty() {
        true => format!("{about} ({} is the fastest there is)", backend.name),
        false => format!("{about} (chosen because: {})", refused.join("; ")),
    }
}
