//! Packet sockets: the link that works on every interface and changes nothing on it. Needs CAP_NET_RAW only.
//!
//! Transmit: one sendmmsg per batch, past the queueing discipline, so that a full driver queue is reported at once
//! and the probe can be sent again (`packet_xmit`, `net/packet/af_packet.c`). Receive: a TPACKET_V3 ring behind a
//! filter. The loopback device transmits through [`LocalSender`] instead.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::time::Duration;

use std::sync::Arc;

use crate::batch::{Batch, LANES, lane_mask};
use crate::gate::Gate;
use crate::link::local::LocalSender;
use crate::link::stamper::Stamper;
use crate::link::{
    Accepted, Backend, FrameSpan, Framing, Link, LinkError, LinkInterface, LinkSpec, Receive, Received,
    RxQueue, Stall, TxQueue, filter, frame, steer, xdp_receive,
};
use crate::sys::mmsg::{self, Destination};
use crate::sys::ring::{Ring, RingSize};
use crate::sys::socket::{self, PacketSocket};
use crate::sys::xsk::XskMode;
use crate::wire::ethernet;

/// The row of the registry.
pub(super) const BACKEND: Backend = Backend {
    name: "af_packet",
    about: "packet sockets, on any interface (default)",
    transmits: true,
    argument: None,
    open,
};

/// The receive ring, 64 MiB. Many small blocks rather than few large ones: a block is handed over when its time is
/// up however little it holds, so at low rates the number of blocks bounds how long the receiver may be away
/// (2 s), and at high ones their total size (about 460,000 small frames). A lone frame waits 4 ms, or 6.7 at most.
/// `SWATH_MEASURE=1 cargo test --test netns_links ring -- --nocapture` prints the figures of this and other sizes.
const RING: RingSize = RingSize { block_bytes: 128 << 10, blocks: 512, retire_ms: 4 };

fn open(spec: &LinkSpec) -> Result<Link, LinkError> {
    let interface = spec.interface.as_ref().ok_or_else(|| LinkError::Unusable {
        name: BACKEND.name,
        reason: "no interface to send on".to_owned(),
    })?;
    let (mut tx, mut how): (Vec<Box<dyn TxQueue>>, _) = (Vec::new(), "");
    for _ in 0..spec.queues.tx {
        let (sender, path) = FrameSender::open(interface)?;
        tx.push(Box::new(Transmit { stamper: Stamper::new(spec), sender }));
        how = path;
    }
    let (rx, ring, hides_answers) = receive(spec, interface, BACKEND.name)?;
    let sockets = if tx.len() == 1 { String::new() } else { format!("{} sockets, ", tx.len()) };
    let about = format!("af_packet on {}: {sockets}{how}; {ring}", interface.name);
    Ok(Link { tx, rx, about, hides_answers })
}

/// Opens receive rings, as many as were asked for; says what was obtained.
fn receive_queues(
    spec: &LinkSpec,
    interface: &LinkInterface,
) -> Result<(Vec<Box<dyn RxQueue>>, String), LinkError> {
    let filter = filter::program(&spec.filter, interface.framing);
    let count = spec.queues.rx.max(1);
    // All of them together hold as much as one alone would.
    let size =
        RingSize { blocks: RING.blocks / u32::try_from(count).map_or(64, u32::next_power_of_two), ..RING };
    let failed = |operation| move |error| opening(operation, interface.name.clone(), error);
    let open = || Ring::open(interface.index, &filter, size).map_err(failed("open a receive ring on"));
    let mut rings = vec![open()?];
    if 1 < count {
        let group = rings[0].lead_group(&steer::program()).map_err(failed("divide what is received on"))?;
        for _ in 1..count {
            let ring = open()?;
            ring.join_group(group).map_err(failed("divide what is received on"))?;
            rings.push(ring);
        }
    }
    let many = match count {
        1 => "TPACKET_V3 ring of".to_owned(),
        count => format!("{count} TPACKET_V3 rings, divided by target, of"),
    };
    let about = format!("{many} {} x {} KiB", size.blocks, size.block_bytes >> 10);
    let queue = |ring| -> Box<dyn RxQueue> {
        Box::new(RingQueue { ring, spans: Vec::new(), interface: interface.name.clone() })
    };
    Ok((rings.into_iter().map(queue).collect(), about))
}

/// The receive ring of this link alone, for a link that receives some frames in another way.
pub(super) fn ring(spec: &LinkSpec, interface: &LinkInterface) -> Result<Ring, LinkError> {
    let filter = filter::program(&spec.filter, interface.framing);
    Ring::open(interface.index, &filter, RING)
        .map_err(|error| opening("open a receive ring on", interface.name.clone(), error))
}

/// Receive queues, what was obtained, and whether the kernel misses the answers.
pub(super) type Hearing = (Vec<Box<dyn RxQueue>>, String, bool);

/// The receive queues in the way that was asked for: through the network stack's taps, or past it. Says what was
/// obtained, and whether the kernel misses the answers.
pub(super) fn receive(
    spec: &LinkSpec,
    interface: &LinkInterface,
    name: &'static str,
) -> Result<Hearing, LinkError> {
    if spec.receive == Receive::Xdp {
        let sending = xdp_receive::Sending { queues: 0, frames: 0 };
        let opened = xdp_receive::open(spec, interface, (sending, XskMode::Copy), name)?;
        return Ok((opened.rx, opened.about, true));
    }
    let (rx, about) = receive_queues(spec, interface)?;
    Ok((rx, about, false))
}

/// Sends finished frames one by one or in batches, without looking at them.
pub(super) struct FrameSender {
    path: Path,
    interface: String,
}

impl FrameSender {
    /// A sender on `interface`, and what was obtained, in words.
    pub(super) fn open(interface: &LinkInterface) -> Result<(FrameSender, &'static str), LinkError> {
        let (path, how) = open_path(interface)
            .map_err(|error| opening("open a packet socket on", interface.name.clone(), error))?;
        Ok((FrameSender { path, interface: interface.name.clone() }, how))
    }

    /// Hands over at most [`LANES`] frames.
    pub(super) fn send(&self, frames: &[&[u8]]) -> Result<Accepted, LinkError> {
        self.path.send(frames, &self.interface)
    }
}

fn opening(operation: &'static str, object: String, source: io::Error) -> LinkError {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => LinkError::Privilege { operation: "open packet sockets" },
        _ => LinkError::System { operation, object, source },
    }
}

/// The way frames take, and what was obtained, in words.
fn open_path(interface: &LinkInterface) -> io::Result<(Path, &'static str)> {
    if interface.framing == Framing::Loopback {
        return Ok((Path::Loopback(LocalSender::open(SEND_BUFFER_BYTES)?), "raw IP sockets"));
    }
    let socket = PacketSocket::open()?;
    let how = match socket.bypass_qdisc() {
        Ok(()) => "sendmmsg past the queueing discipline",
        Err(_) => "sendmmsg through the queueing discipline",
    };
    socket::raise_send_buffer(socket.as_fd(), SEND_BUFFER_BYTES);
    socket.bind(interface.index, 0)?;
    let path = match interface.framing {
        Framing::Bare => Path::Bare { socket, index: interface.index },
        Framing::Ethernet | Framing::Loopback => Path::Ethernet(socket),
    };
    Ok((path, how))
}

struct Transmit {
    stamper: Stamper,
    sender: FrameSender,
}

impl TxQueue for Transmit {
    fn submit(&mut self, batch: &Batch) -> Result<Accepted, LinkError> {
        self.stamper.stamp(batch)?;
        let mut frames: [&[u8]; LANES] = [&[]; LANES];
        for (place, frame) in frames.iter_mut().zip(self.stamper.frames()) {
            *place = frame;
        }
        self.sender.send(&frames[..batch.len()])
    }

    fn replace_gate(&mut self, gate: &Arc<Gate>) {
        self.stamper.replace_gate(gate);
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, LinkError> {
        self.stamper.check(frame)?;
        Ok(self.sender.send(&[frame])?.lanes != 0)
    }
}

enum Path {
    Ethernet(PacketSocket),
    /// No Ethernet header, so the kernel is told the type of each packet.
    Bare {
        socket: PacketSocket,
        index: u32,
    },
    Loopback(LocalSender),
}

impl Path {
    /// Hands over at most [`LANES`] frames.
    fn send(&self, frames: &[&[u8]], interface: &str) -> Result<Accepted, LinkError> {
        let (lanes, error) = match self {
            Path::Ethernet(socket) => {
                let mut messages = [IoSlice::new(&[]); LANES];
                for (message, frame) in messages.iter_mut().zip(frames) {
                    *message = IoSlice::new(frame);
                }
                let sent = mmsg::send(socket.as_fd(), &messages[..frames.len()], &[]);
                (lane_mask(sent.count), sent.error)
            }
            Path::Bare { socket, index } => send_bare(socket, *index, frames)?,
            Path::Loopback(sender) => sender.send(frames)?,
        };
        let stall = error.map(|error| stall(error, interface)).transpose()?;
        Ok(Accepted { lanes, stall })
    }
}

fn send_bare(
    socket: &PacketSocket,
    index: u32,
    frames: &[&[u8]],
) -> Result<(u64, Option<io::Error>), LinkError> {
    let mut messages = [IoSlice::new(&[]); LANES];
    let mut destinations = [Destination::Interface { index, protocol: ethernet::IPV4 }; LANES];
    for ((message, destination), frame) in messages.iter_mut().zip(&mut destinations).zip(frames) {
        let protocol = frame::ethertype(frame).filter(|kind| [ethernet::IPV4, ethernet::IPV6].contains(kind));
        let protocol = protocol.ok_or_else(|| LinkError::Unusable {
            name: BACKEND.name,
            reason: "only IP packets can be sent where there is no Ethernet header".to_owned(),
        })?;
        *destination = Destination::Interface { index, protocol };
        *message = IoSlice::new(frame::packet(frame));
    }
    let sent = mmsg::send(socket.as_fd(), &messages[..frames.len()], &destinations[..frames.len()]);
    Ok((lane_mask(sent.count), sent.error))
}

/// What an error says about the frame it was given for, which was not sent: wait, or give up.
fn stall(error: io::Error, interface: &str) -> Result<Stall, LinkError> {
    match error.raw_os_error() {
        // ENOBUFS: the driver's queue is full, or a netfilter egress hook dropped the frame. EAGAIN: the socket's
        // buffer is full.
        Some(libc::ENOBUFS | libc::EAGAIN | libc::ENOMEM) => Ok(Stall::Full),
        Some(libc::ENETDOWN) => Ok(Stall::Down),
        _ => Err(LinkError::System { operation: "send on", object: interface.to_owned(), source: error }),
    }
}

struct RingQueue {
    ring: Ring,
    spans: Vec<FrameSpan>,
    interface: String,
}

impl RxQueue for RingQueue {
    fn poll(&mut self, timeout: Duration) -> Result<Received<'_>, LinkError> {
        let RingQueue { ring, spans, interface } = self;
        spans.clear();
        let visit = |packet: crate::sys::ring::Packet| {
            spans.push(FrameSpan { offset: packet.offset, length: packet.length, time_ns: packet.time_ns });
        };
        let bytes = ring.next(timeout, visit).map_err(|source| LinkError::System {
            operation: "receive on",
            object: interface.clone(),
            source,
        })?;
        Ok(Received::new(bytes, spans))
    }

    fn drops(&mut self) -> Result<Option<u64>, LinkError> {
        self.ring.drops().map(Some).map_err(|source| LinkError::System {
            operation: "read the drop counter of",
            object: self.interface.clone(),
            source,
        })
    }
}

/// Room for about 10,000 frames in flight; the kernel charges some 768 bytes for each.
const SEND_BUFFER_BYTES: u32 = 8 << 20;
