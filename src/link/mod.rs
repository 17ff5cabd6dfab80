//! Links: pairs of transmit and receive queues on one interface, and the registry [`BACKENDS`].
//!
//! Contract of the family. `submit` takes a whole [`Batch`] and says exactly which lanes left this process: a
//! lane that is not in [`Accepted::lanes`] was not sent and may be submitted again; a lane that is, was handed to
//! the kernel and is never handed over twice. `poll` returns views into memory that stay valid until the next
//! `poll`. Every finished frame passes the last gate before it leaves.
//!
//! Invariant: links never see a probe, an order or a record; they read no clock but the kernel's timestamps.

mod af_packet;
mod af_xdp;
mod connect;
pub mod digest;
mod fastest;
pub mod filter;
mod frame;
mod live_program;
mod local;
mod null;
mod pcap;
mod pnet;
#[cfg(test)]
mod sample;
mod stamper;
mod steer;
mod trial;
pub mod world;
mod xdp_live;
mod xdp_program;
mod xdp_receive;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::{Batch, NextHops, Template};
use crate::gate::Gate;
use crate::wire::ethernet::Mac;

pub use connect::CONNECT;

/// Every kind of link.
pub const BACKENDS: &[Backend] = &[
    af_packet::BACKEND,
    af_xdp::BACKEND,
    xdp_live::BACKEND,
    pnet::BACKEND,
    fastest::BACKEND,
    null::BACKEND,
    pcap::BACKEND,
    world::BACKEND,
];

/// Transmits batches.
pub trait TxQueue: Send {
    /// Hands the probes of `batch` to the interface and says which of them left.
    ///
    /// # Errors
    /// Only for what ends the scan: the interface is gone, or the gate found an excluded address in a finished
    /// frame. A queue that is full or an interface that is down is no error but a [`Stall`].
    fn submit(&mut self, batch: &Batch) -> Result<Accepted, LinkError>;

    /// How many batches are best handed over together, in one call of [`TxQueue::submit_round`].
    fn round_length(&self) -> usize {
        1
    }

    /// Submits batches one after the other, until one does not leave as a whole. `accepted[i]` becomes what
    /// [`TxQueue::submit`] would say of batch `i`; of a batch that has no entry nothing left.
    ///
    /// # Errors
    /// As [`TxQueue::submit`]; `accepted` is right even then.
    fn submit_round(&mut self, batches: &[Batch], accepted: &mut Vec<Accepted>) -> Result<(), LinkError> {
        accepted.clear();
        for batch in batches {
            let outcome = self.submit(batch)?;
            accepted.push(outcome);
            if outcome.stall.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Sends one finished frame that is no probe (an ARP request). Returns whether it left.
    ///
    /// # Errors
    /// As [`TxQueue::submit`].
    fn send(&mut self, frame: &[u8]) -> Result<bool, LinkError>;

    /// Reads every finished frame through another last gate from now on: addresses were excluded. A queue that finishes
    /// no frames has no gate.
    fn replace_gate(&mut self, gate: &Arc<Gate>) {
        let _ = gate;
    }

    /// Ends the queue; returns what it has to say for the summary (the digest of all frames, for one).
    ///
    /// # Errors
    /// When what was promised to be written could not be (a capture file on a full disk).
    fn finish(&mut self) -> Result<Option<String>, LinkError> {
        Ok(None)
    }
}

/// Receives frames.
pub trait RxQueue: Send {
    /// Waits at most `timeout` for frames and returns those that are there, possibly none.
    ///
    /// # Errors
    /// Only for what ends the scan.
    fn poll(&mut self, timeout: Duration) -> Result<Received<'_>, LinkError>;

    /// Frames the kernel had for us and dropped, since the queue was opened; `None` where nobody tells.
    ///
    /// # Errors
    /// When the kernel's counter cannot be read.
    fn drops(&mut self) -> Result<Option<u64>, LinkError>;
}

/// What became of a submitted batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Bit `i` is set when lane `i` left.
    pub lanes: u64,
    /// Why not all of them did.
    pub stall: Option<Stall>,
}

/// Why a queue takes nothing more for the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stall {
    /// The interface's queue is full (ENOBUFS, EAGAIN): try again soon.
    Full,
    /// The interface is down (ENETDOWN): pause and try again later.
    Down,
}

/// Frames that were received together, in place.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    bytes: &'a [u8],
    frames: &'a [FrameSpan],
}

/// Where a received frame lies in [`Received`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameSpan {
    /// Offset of the first byte.
    pub offset: usize,
    /// Bytes captured.
    pub length: usize,
    /// When the kernel received it: nanoseconds since the Unix epoch.
    pub time_ns: u64,
}

impl<'a> Received<'a> {
    /// Frames `frames` of the memory `bytes`.
    pub fn new(bytes: &'a [u8], frames: &'a [FrameSpan]) -> Received<'a> {
        Received { bytes, frames }
    }

    /// Number of frames.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether nothing was received.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The frames with the time each was received. A span outside of the memory yields an empty frame.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &'a [u8])> + 'a {
        let bytes = self.bytes;
        self.frames.iter().map(move |span| {
            let end = span.offset.saturating_add(span.length);
            (span.time_ns, bytes.get(span.offset..end).unwrap_or_default())
        })
    }
}

/// A row of the registry: one kind of link.
pub struct Backend {
    /// The name after `--link`.
    pub name: &'static str,
    /// One line for `--help`, at most 60 characters.
    pub about: &'static str,
    /// Whether frames leave this process. A link that keeps them needs no privilege, no route and no secret.
    pub transmits: bool,
    /// What may stand behind a colon (`--link NAME:ARGUMENT`), for messages; `None` when nothing may.
    pub argument: Option<&'static str>,
    /// Opens the queues.
    pub open: fn(&LinkSpec) -> Result<Link, LinkError>,
}

/// An opened link.
pub struct Link {
    /// The transmit queues, as many as were asked for.
    pub tx: Vec<Box<dyn TxQueue>>,
    /// The receive queues, as many as were asked for; none for a link that receives nothing.
    pub rx: Vec<Box<dyn RxQueue>>,
    /// What was obtained, in words: mode, ring sizes.
    pub about: String,
    /// Whether SYN-ACKs are taken from the kernel: then it does not close the half-open connections behind them, and we
    /// must.
    pub hides_answers: bool,
}

/// Everything a link needs to know, from [`crate::plan`] and the host's facts.
#[derive(Clone)]
pub struct LinkSpec {
    /// What stands behind the colon of `--link NAME:ARGUMENT`.
    pub argument: Option<PathBuf>,
    /// The interface, for links that transmit.
    pub interface: Option<LinkInterface>,
    /// The templates of the scan; [`Batch::template`] indexes them.
    pub templates: Arc<[Template]>,
    /// The next hops; [`Batch::hop`] indexes them.
    pub hops: NextHops,
    /// The last gate: what may never be sent.
    pub gate: Arc<Gate>,
    /// Which frames the receive queue is interested in.
    pub filter: Filter,
    /// How many queues to open.
    pub queues: Queues,
    /// How answers are received.
    pub receive: Receive,
    /// Whether a program may be attached to the interface for transmitting, where its driver wants one.
    pub attach: bool,
}

/// How answers are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Receive {
    /// By packet sockets, which listen to the network stack and take nothing from it.
    #[default]
    Packet,
    /// By AF_XDP sockets: an XDP program takes the SYN-ACKs before the network stack sees them.
    Xdp,
}

/// How many queues a link opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queues {
    /// Transmit queues: one for each transmit thread.
    pub tx: usize,
    /// Receive queues: one for each receive thread. All frames about one target's address come by the same one.
    pub rx: usize,
}

impl Queues {
    /// One queue each way.
    pub const ONE: Queues = Queues { tx: 1, rx: 1 };
    /// Most queues each way.
    pub const MOST: usize = 64;
}

/// The interface a link runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInterface {
    /// Its name.
    pub name: String,
    /// Its index in the kernel.
    pub index: u32,
    /// Its own link-layer address.
    pub mac: Mac,
    /// What its frames look like.
    pub framing: Framing,
}

/// What the frames of an interface look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Ethernet header before the IP header.
    Ethernet,
    /// The loopback device: Ethernet headers of zeroes on receive, IP packets through a raw socket on transmit.
    Loopback,
    /// No link-layer header (tun, point-to-point): frames start with the IP header.
    Bare,
}

/// Which frames can be replies. A superset of what the probes accept: it spares the ring, it never judges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Our own addresses: replies are sent to one of them.
    pub addresses: Vec<std::net::IpAddr>,
    /// First source port of the probes.
    pub port_first: u16,
    /// Last source port of the probes.
    pub port_last: u16,
    /// Whether packets of protocols that have no ports can be replies, too (IP protocol scans).
    pub any_protocol: bool,
}

/// Why a link cannot work. Names the operation, the object and the way out.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The kernel refused for lack of privilege.
    #[error(
        "no permission to {operation}: run as root, or once: setcap cap_net_raw,cap_net_admin+ep {}",
        std::env::current_exe().map_or_else(|_| "swath".into(), |path| path.display().to_string())
    )]
    Privilege {
        /// What was attempted.
        operation: &'static str,
    },
    /// A system call failed.
    #[error("cannot {operation} {object}: {source}")]
    System {
        /// What was attempted, up to the object: "send on".
        operation: &'static str,
        /// The interface or file.
        object: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The last gate stopped a finished frame: an excluded address would have been probed.
    #[error(
        "the last gate stopped a frame to {address}, which is excluded; this is a defect of swath, nothing was sent"
    )]
    Excluded {
        /// The destination found in the finished frame.
        address: std::net::IpAddr,
    },
    /// The link cannot do what was asked for.
    #[error("link {name}: {reason}")]
    Unusable {
        /// The link.
        name: &'static str,
        /// Why, and what to do.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    #[test]
    fn every_backend_has_a_name_and_a_line_of_its_own() {
        let names: std::collections::BTreeSet<&str> = BACKENDS.iter().map(|backend| backend.name).collect();
        assert_eq!(names.len(), BACKENDS.len());
        for Backend { name, about, .. } in BACKENDS {
            assert!(
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            );
            assert!((1..=60).contains(&about.chars().count()), "{name}: {about}");
        }
    }

    #[test]
    fn a_backend_that_transmits_asks_for_an_interface_and_the_others_open_without() {
        let directory = tempfile::tempdir().expect("a directory");
        for backend in BACKENDS {
            let argument = sample::argument(backend, directory.path());
            let result = (backend.open)(&LinkSpec { argument, ..sample::spec() });
            match result {
                Ok(link) => {
                    assert!(!backend.transmits, "{} has nothing to transmit on", backend.name);
                    assert_eq!(link.tx.len(), 1);
                    assert_eq!(link.rx.is_empty(), backend.name != "world", "only the world answers");
                    assert!(!link.about.is_empty());
                }
                Err(error) => {
                    assert!(backend.transmits, "{}: {error}", backend.name);
                    assert!(error.to_string().contains("interface"), "{error}");
                }
            }
        }
    }

    #[test]
    fn no_backend_that_opens_without_an_interface_lets_an_excluded_address_pass() {
        let excluded = 0xc633_6403;
        let directory = tempfile::tempdir().expect("a directory");
        for backend in BACKENDS.iter().filter(|backend| !backend.transmits) {
            let gate = Arc::new(Gate::new([(excluded, excluded)], []));
            let argument = sample::argument(backend, directory.path());
            let mut link = (backend.open)(&LinkSpec { argument, gate, ..sample::spec() }).expect("opened");
            let queue = &mut link.tx[0];
            assert_eq!(queue.submit(&sample::batch(0, 3)).expect("allowed").lanes, 0b111);
            let error = queue.submit(&sample::batch(0, 4)).expect_err("the fourth is excluded");
            let LinkError::Excluded { address } = error else { panic!("{}: {error}", backend.name) };
            assert_eq!(address, IpAddr::V4(Ipv4Addr::from(excluded)));
            let open = Arc::new(Gate::open());
            queue.replace_gate(&open);
            assert_eq!(queue.submit(&sample::batch(3, 1)).expect("allowed now").lanes, 1);
            let closed = Arc::new(Gate::new([(excluded, excluded)], []));
            queue.replace_gate(&closed);
            queue.submit(&sample::batch(3, 1)).expect_err("excluded again");
            let report = queue.finish().expect("finished").expect("a digest");
            assert!(
                report.starts_with("frames 4 "),
                "{}: nothing of that batch left: {report}",
                backend.name
            );
        }
    }

    #[test]
    fn a_span_outside_of_the_memory_is_an_empty_frame() {
        let spans = [
            FrameSpan { offset: 1, length: 2, time_ns: 7 },
            FrameSpan { offset: 3, length: 2, time_ns: 8 },
            FrameSpan { offset: usize::MAX, length: 2, time_ns: 9 },
        ];
        let received = Received::new(&[1, 2, 3, 4], &spans);
        let frames: Vec<(u64, &[u8])> = received.iter().collect();
        assert_eq!(frames, [(7, &[2u8, 3][..]), (8, &[]), (9, &[])]);
    }
}
