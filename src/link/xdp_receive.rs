//! Receiving past the network stack: an XDP program takes the SYN-ACKs that answer us out of the driver's hands and into
//! AF_XDP sockets, one for each receive queue of the interface. What it passes, a packet socket hears as without it: RSTs,
//! ICMP errors, neighbours, fragments, tagged frames.
//!
//! The kernel never sees those SYN-ACKs, so it does not close the half-open connections behind them: whoever opens this
//! must ([`crate::link::Link::hides_answers`]). The program goes with the process, however that ends.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::link::{FrameSpan, LinkError, LinkInterface, LinkSpec, Received, RxQueue, af_packet, xdp_program};
use crate::sys::ebpf_kernel::{Attachment, LoadError, LoadedProgram, ProgramKind, SocketMap, XdpMode};
use crate::sys::ring::{self, Ring};
use crate::sys::xsk::{Xsk, XskMode, XskReceiver, XskSender};
use crate::sys::{clock, ethtool};

/// What was opened.
pub(super) struct Opened {
    /// The sending halves of the sockets of the first queues, for links that transmit through them.
    pub(super) senders: Vec<XskSender>,
    /// The receive queue: one for all queues of the interface.
    pub(super) rx: Vec<Box<dyn RxQueue>>,
    /// How the sockets got their frames.
    pub(super) mode: XskMode,
    /// What was obtained, in words.
    pub(super) about: String,
}

/// What the sockets of the first queues are to send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sending {
    /// How many of them send.
    pub(super) queues: usize,
    /// Frames each of these has for it: a power of two.
    pub(super) frames: u32,
}

/// Opens a socket on every receive queue of the interface, and attaches the program.
///
/// # Errors
/// When another program or socket is in the way, or this kernel or driver does not do it; with the way out.
pub(super) fn open(
    spec: &LinkSpec,
    interface: &LinkInterface,
    (sending, mode): (Sending, XskMode),
    name: &'static str,
) -> Result<Opened, LinkError> {
    let unusable = |reason: String| LinkError::Unusable { name, reason };
    if spec.queues.rx != 1 {
        return Err(unusable("one thread receives from all queues; leave --rx-threads out".into()));
    }
    let queues = ethtool::channels(&interface.name).map_or(1, |channels| channels.receive.max(1));
    if (queues as usize) < sending.queues {
        let name = &interface.name;
        return Err(unusable(format!(
            "{name} has {queues} queue{}; take fewer threads (--tx-threads), or give it more queues (ethtool -L {name} \
             combined N)",
            if queues == 1 { "" } else { "s" }
        )));
    }
    let share = FRAMES >> (u32::BITS - (queues - 1).leading_zeros());
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for queue in 0..queues {
        let transmit = if (queue as usize) < sending.queues { sending.frames } else { 0 };
        let socket = Xsk::open(transmit, share.max(LEAST_FRAMES));
        let socket = socket.map_err(|error| refused(name, "open an AF_XDP socket", &error))?;
        bind(&socket, interface, (queue, mode), name)?;
        senders.extend(socket.sender);
        receivers.extend(socket.receiver);
    }
    let references: Vec<&XskReceiver> = receivers.iter().collect();
    let map = SocketMap::new(&references).map_err(|error| refused(name, "make a map of sockets", &error))?;
    let (attachment, how) = attach(spec, interface, &map, name)?;
    let ring = af_packet::ring(spec, interface)?;
    let many = if queues == 1 { "an AF_XDP socket".to_owned() } else { format!("{queues} AF_XDP sockets") };
    let about = format!(
        "SYN-ACKs into {many} ({how}), swath closes the connections itself; the rest by a TPACKET_V3 ring"
    );
    let queue = Receive {
        _attachment: attachment,
        sockets: receivers,
        ring,
        bytes: Vec::with_capacity(MOST_AT_ONCE as usize * 64),
        spans: Vec::new(),
        interface: interface.name.clone(),
        sends_when_asked: 0 < sending.queues && mode == XskMode::Copy,
        turn: 0,
    };
    Ok(Opened { senders, rx: vec![Box::new(queue)], mode, about })
}

/// Attaches the program in the driver, or in the network stack where the driver cannot; says which.
fn attach(
    spec: &LinkSpec,
    interface: &LinkInterface,
    map: &SocketMap,
    name: &'static str,
) -> Result<(Attachment, &'static str), LinkError> {
    let unusable = |reason: String| LinkError::Unusable { name, reason };
    let program = xdp_program::steal(&spec.filter).map_err(LoadError::from);
    let program = program.and_then(|program| LoadedProgram::load(ProgramKind::Xdp, &program, &[map]));
    let program = program.map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => unusable(format!(
            "no permission to load an XDP program: it needs root, or the capabilities cap_net_raw, cap_net_admin and \
             cap_bpf ({error})"
        )),
        _ => unusable(format!("cannot load an XDP program: {error}")),
    })?;
    let native = match Attachment::xdp(&program, interface.index, XdpMode::Native) {
        Ok(attachment) => return Ok((attachment, "XDP in the driver")),
        Err(error) => error,
    };
    match Attachment::xdp(&program, interface.index, XdpMode::Generic) {
        Ok(attachment) => Ok((attachment, "XDP in the network stack: this driver has none")),
        Err(error) if [error.raw_os_error(), native.raw_os_error()].contains(&Some(libc::EBUSY)) => {
            Err(unusable(format!(
                "{} has an XDP program of somebody else (ip -d link show {0}); use --receive packet",
                interface.name
            )))
        }
        Err(error) => Err(refused(name, "attach an XDP program", &error)),
    }
}

fn refused(name: &'static str, operation: &'static str, error: &std::io::Error) -> LinkError {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => LinkError::Privilege { operation },
        Some(libc::ENOBUFS) => {
            let reason = format!("cannot {operation}: too little memory may be locked (ulimit -l)");
            LinkError::Unusable { name, reason }
        }
        Some(libc::EAFNOSUPPORT) => {
            let reason = "this kernel has no AF_XDP (CONFIG_XDP_SOCKETS); use af_packet".to_owned();
            LinkError::Unusable { name, reason }
        }
        _ => LinkError::Unusable { name, reason: format!("cannot {operation}: {error}") },
    }
}

/// Binds to a queue; one whose last socket was closed a moment ago is still busy, so it is tried again for a while.
fn bind(
    socket: &Xsk,
    interface: &LinkInterface,
    (queue, mode): (u32, XskMode),
    name: &'static str,
) -> Result<(), LinkError> {
    let deadline = Instant::now() + BUSY;
    loop {
        let Err(error) = socket.bind(interface.index, queue, mode) else { return Ok(()) };
        match error.raw_os_error() {
            Some(libc::EBUSY) if Instant::now() < deadline => std::thread::sleep(BUSY / 50),
            Some(libc::EBUSY) => {
                let reason = format!("another AF_XDP socket has queue {queue} of {}", interface.name);
                return Err(LinkError::Unusable { name, reason });
            }
            Some(libc::EOPNOTSUPP | libc::EINVAL) if mode == XskMode::ZeroCopy => {
                let reason = format!("the driver of {} does no zero-copy", interface.name);
                return Err(LinkError::Unusable { name, reason });
            }
            _ => return Err(refused(name, "bind an AF_XDP socket", &error)),
        }
    }
}

/// Fields are dropped in this order: no frame is redirected to a socket that is gone.
struct Receive {
    _attachment: Attachment,
    sockets: Vec<XskReceiver>,
    ring: Ring,
    /// The frames of the last poll, copied out, so that theirs are free for the kernel at once.
    bytes: Vec<u8>,
    spans: Vec<FrameSpan>,
    interface: String,
    /// Whether a wait for these sockets would send, too. In copy mode poll(2) reads the transmit ring (`xsk_poll`,
    /// `net/xdp/xsk.c`) and keeps to itself which frame the interface refused: the transmitter would take it for sent.
    sends_when_asked: bool,
    turn: u32,
}

impl Receive {
    /// Waits until there is a frame, or `timeout` is over.
    fn wait(&self, timeout: Duration) -> std::io::Result<()> {
        let Receive { sockets, ring, sends_when_asked, .. } = self;
        if !sends_when_asked {
            let all: Vec<_> = sockets.iter().map(AsFd::as_fd).chain([ring.as_fd()]).collect();
            return ring::wait_for_any(&all, timeout);
        }
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            ring::wait_for_any(&[ring.as_fd()], left.min(NAP))?;
            if left.is_zero() || self.has_frames() {
                return Ok(());
            }
        }
    }

    fn has_frames(&self) -> bool {
        self.sockets.iter().any(XskReceiver::has_frames) || self.ring.has_frames()
    }
}

impl RxQueue for Receive {
    fn poll(&mut self, timeout: Duration) -> Result<Received<'_>, LinkError> {
        let waited = if self.has_frames() { Ok(()) } else { self.wait(timeout) };
        let Receive { sockets, ring, bytes, spans, interface, turn, .. } = self;
        let failed =
            |source| LinkError::System { operation: "receive on", object: interface.clone(), source };
        let waiting = |sockets: &[XskReceiver]| sockets.iter().any(XskReceiver::has_frames);
        bytes.clear();
        spans.clear();
        waited.map_err(failed)?;
        *turn = turn.wrapping_add(1);
        // Neither starves the other.
        if !waiting(sockets) || (turn.is_multiple_of(RING_EVERY) && ring.has_frames()) {
            let visit = |packet: ring::Packet| {
                spans.push(FrameSpan {
                    offset: packet.offset,
                    length: packet.length,
                    time_ns: packet.time_ns,
                });
            };
            // Without waiting: it also takes an error that would make every later wait return at once.
            let block = ring.next(Duration::ZERO, visit).map_err(failed)?;
            return Ok(Received::new(block, spans));
        }
        // These sockets tell no time; all frames of a poll have that of the poll.
        let time_ns = clock::realtime_ns();
        for socket in sockets {
            socket.receive(MOST_AT_ONCE, bytes, |offset, length| {
                spans.push(FrameSpan { offset, length, time_ns });
            });
        }
        Ok(Received::new(bytes, spans))
    }

    fn drops(&mut self) -> Result<Option<u64>, LinkError> {
        let Receive { sockets, ring, interface, .. } = self;
        let failed = |source| LinkError::System {
            operation: "read the drop counter of",
            object: interface.clone(),
            source,
        };
        let mut drops = ring.drops().map_err(failed)?;
        for socket in sockets {
            drops += socket.drops().map_err(failed)?;
        }
        Ok(Some(drops))
    }
}

/// Frames for receiving, 64 MiB, divided among the queues.
const FRAMES: u32 = 1 << 15;
const LEAST_FRAMES: u32 = 1 << 10;
/// Frames taken from a socket in one poll.
const MOST_AT_ONCE: u32 = 256;
/// How often the ring is looked at while the sockets have frames.
const RING_EVERY: u32 = 16;
/// How long sockets that must not be waited for are left alone: their rings hold many times what comes in that time.
const NAP: Duration = Duration::from_micros(500);
/// How long a queue that was just given up stays busy, generously.
const BUSY: Duration = Duration::from_millis(500);
