//! AF_XDP sockets: frames are stamped into memory the kernel reads, and go to one queue of the driver
//! past the queueing discipline and the packet taps.
//!
//! Copy mode works on any interface and attaches nothing. Zero-copy (`--link af_xdp:zerocopy`) lets the driver read the
//! frames in place where it can; some drivers want an XDP program attached for it. The mode obtained is printed, and one
//! that was asked for and not obtained is an error. Receives through the same sockets ([`xdp_receive`]) or packet sockets.

use std::io;
use std::time::{Duration, Instant};

use std::sync::Arc;

use crate::batch::{Batch, LANES};
use crate::gate::Gate;
use crate::link::af_packet::{self, FrameSender};
use crate::link::stamper::Stamper;
use crate::link::{
    Accepted, Backend, Framing, Link, LinkError, LinkInterface, LinkSpec, Receive, RxQueue, Stall, TxQueue,
    xdp_receive,
};
use crate::sys::xsk::{FRAME_BYTES, Xsk, XskMode, XskSender};

/// The row of the registry.
pub(super) const BACKEND: Backend = Backend {
    name: "af_xdp",
    about: "AF_XDP sockets; :zerocopy where the driver can",
    transmits: true,
    argument: Some("copy or zerocopy"),
    open,
};

fn open(spec: &LinkSpec) -> Result<Link, LinkError> {
    let interface = spec.interface.as_ref().ok_or_else(|| unusable("no interface to send on"))?;
    if interface.framing != Framing::Ethernet {
        return Err(unusable(&format!("{} has no Ethernet header; use af_packet", interface.name)));
    }
    let wanted = match spec.argument.as_ref().map(|argument| argument.to_string_lossy()) {
        None => XskMode::Copy,
        Some(word) if word == "zerocopy" => XskMode::ZeroCopy,
        Some(word) if word == "copy" => XskMode::Copy,
        Some(word) => {
            return Err(unusable(&format!("no interface mode '{word}'; there are copy and zerocopy")));
        }
    };
    let stamper = Stamper::new(spec);
    if FRAME_BYTES < stamper.stride() {
        return Err(unusable("frames are too long"));
    }
    let both = spec.receive == Receive::Xdp;
    let (queues, rx, receives) =
        if both { with_receive(spec, interface, wanted)? } else { alone(spec, interface, wanted)? };
    let mode = queues.first().map_or(wanted, |queue| queue.mode);
    let how = match mode {
        XskMode::Copy => "copy mode",
        XskMode::ZeroCopy => "zero-copy",
    };
    let numbers: Vec<String> = queues.iter().map(|queue| queue.number.to_string()).collect();
    let word = if numbers.len() == 1 { "queue" } else { "queues" };
    let about = format!("af_xdp on {} {word} {}: {how}; {receives}", interface.name, numbers.join(", "));
    let tx = queues.into_iter().map(|queue| -> Box<dyn TxQueue> { Box::new(queue) }).collect();
    Ok(Link { tx, rx, about, hides_answers: both })
}

/// Transmit queues, receive queues, and what was obtained for receiving.
type Queues = (Vec<Transmit>, Vec<Box<dyn RxQueue>>, String);

/// Sockets that only transmit, on the first queues that no other socket has.
fn alone(spec: &LinkSpec, interface: &LinkInterface, wanted: XskMode) -> Result<Queues, LinkError> {
    let (rx, receives, _) = af_packet::receive(spec, interface, BACKEND.name)?;
    let mut queues = Vec::new();
    for _ in 0..spec.queues.tx {
        let socket = Xsk::open(FRAMES, 0).map_err(|error| opening("open an AF_XDP socket", &error))?;
        socket.raise_send_buffer(SEND_BUFFER_BYTES);
        let number = bind(&socket, interface, wanted)?;
        let mode = socket.mode().map_err(|error| opening("read the mode of an AF_XDP socket", &error))?;
        let sender = socket.sender.expect("it was opened with frames to send");
        queues.push(Transmit::new(spec, interface, (sender, mode, number))?);
    }
    Ok((queues, rx, receives))
}

/// Sockets on all queues, which receive; the first of them transmit as well, as a queue has room for one socket.
fn with_receive(spec: &LinkSpec, interface: &LinkInterface, wanted: XskMode) -> Result<Queues, LinkError> {
    let sending = xdp_receive::Sending { queues: spec.queues.tx, frames: FRAMES };
    let opened = xdp_receive::open(spec, interface, (sending, wanted), BACKEND.name)?;
    let queue = |(sender, number)| Transmit::new(spec, interface, (sender, opened.mode, number));
    let queues = opened.senders.into_iter().zip(0u32..).map(queue).collect::<Result<_, _>>()?;
    Ok((queues, opened.rx, opened.about))
}

fn unusable(reason: &str) -> LinkError {
    LinkError::Unusable { name: BACKEND.name, reason: reason.to_owned() }
}

fn opening(operation: &'static str, error: &io::Error) -> LinkError {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => LinkError::Privilege { operation },
        Some(libc::ENOBUFS) => {
            unusable(&format!("cannot {operation}: too little memory may be locked (ulimit -l)"))
        }
        Some(libc::EAFNOSUPPORT) => unusable("this kernel has no AF_XDP (CONFIG_XDP_SOCKETS); use af_packet"),
        _ => unusable(&format!("cannot {operation}: {error}")),
    }
}

/// Binds to the first queue that no other socket has; returns its number.
///
/// A queue whose last socket was closed a moment ago is still busy, so it is tried again for a while.
fn bind(socket: &Xsk, interface: &LinkInterface, mode: XskMode) -> Result<u32, LinkError> {
    let deadline = Instant::now() + BUSY;
    loop {
        for queue in 0..MOST_QUEUES {
            match socket.bind(interface.index, queue, mode).map_err(|error| (error.raw_os_error(), error)) {
                Ok(()) => return Ok(queue),
                Err((Some(libc::EBUSY), _)) => {}
                // There is no such queue: all before it are busy.
                Err((Some(libc::EINVAL), _)) if 0 < queue => break,
                Err((Some(libc::EOPNOTSUPP | libc::EINVAL), _)) if mode == XskMode::ZeroCopy => {
                    return Err(unusable(&format!("the driver of {} does no zero-copy", interface.name)));
                }
                Err((_, error)) => return Err(opening("bind an AF_XDP socket", &error)),
            }
        }
        if deadline <= Instant::now() {
            return Err(unusable(&format!(
                "AF_XDP sockets have all queues of {name}; take fewer threads (--tx-threads), or give it more queues \
                 (ethtool -L {name} combined N)",
                name = interface.name
            )));
        }
        std::thread::sleep(BUSY / 50);
    }
}

struct Transmit {
    stamper: Stamper,
    socket: XskSender,
    mode: XskMode,
    /// The interface's queue.
    number: u32,
    housekeeping: FrameSender,
    interface: String,
    /// Frames the kernel dropped after they were accepted.
    lost_later: u64,
    /// Whether the kernel may have read the ring's index since the ring was last empty.
    looked: bool,
}

impl TxQueue for Transmit {
    fn submit(&mut self, batch: &Batch) -> Result<Accepted, LinkError> {
        // What an earlier batch left in the ring goes first; the ring has no other way than forward.
        let mut late = 0;
        let waiting = self.drive(self.socket.unread(), &mut late)?;
        self.lost_later += u64::from(late.count_ones());
        if let Some(stall) = waiting {
            return Ok(Accepted { lanes: 0, stall: Some(stall) });
        }
        if self.socket.free() < batch.len() {
            return Ok(Accepted { lanes: 0, stall: Some(Stall::Full) });
        }
        let mut lengths = [0; LANES];
        for (lane, length) in lengths.iter_mut().enumerate().take(batch.len()) {
            let frame = self.socket.free_frame(lane).expect("there are so many free frames");
            *length = self.stamper.stamp_lane(batch, lane, frame)?;
        }
        for &length in &lengths[..batch.len()] {
            let pushed = self.socket.push(length);
            assert!(pushed, "there are so many free frames");
        }
        self.socket.publish();
        match self.mode {
            XskMode::Copy => self.send_copies(batch),
            XskMode::ZeroCopy => self.leave_to_driver(batch),
        }
    }

    fn replace_gate(&mut self, gate: &Arc<Gate>) {
        self.stamper.replace_gate(gate);
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, LinkError> {
        self.stamper.check(frame)?;
        Ok(self.housekeeping.send(&[frame])?.lanes != 0)
    }

    fn finish(&mut self) -> Result<Option<String>, LinkError> {
        // Frames are sent from the ring after it was filled; closing the socket would take them along.
        let deadline = Instant::now() + LAST_FRAMES;
        while self.in_flight() && Instant::now() < deadline {
            let _ = self.socket.kick();
            self.socket.reclaim();
            std::thread::sleep(Duration::from_millis(1));
        }
        let left = u64::from(self.socket.unread());
        let lost = self.lost_later + left;
        Ok((0 < lost).then(|| format!("af_xdp: {lost} frames were dropped after they had been handed over")))
    }
}

impl Transmit {
    fn new(
        spec: &LinkSpec,
        interface: &LinkInterface,
        (socket, mode, number): (XskSender, XskMode, u32),
    ) -> Result<Transmit, LinkError> {
        let (housekeeping, _) = FrameSender::open(interface)?;
        let (stamper, interface) = (Stamper::new(spec), interface.name.clone());
        Ok(Transmit { stamper, socket, mode, number, housekeeping, interface, lost_later: 0, looked: false })
    }

    /// Copy mode: the kernel reads the ring within the call, so what became of each frame is known.
    fn send_copies(&mut self, batch: &Batch) -> Result<Accepted, LinkError> {
        let count = u32::try_from(batch.len()).expect("at most 64");
        let mut lost = 0;
        let stall = self.drive(count, &mut lost)?;
        let unread = self.socket.unread();
        if stall == Some(Stall::Down) && !self.looked && unread == count {
            self.socket.take_back(count);
            return Ok(Accepted { lanes: 0, stall });
        }
        // What is still in the ring leaves with the next batch, or is counted when the queue ends.
        let stall = stall.or((lost != 0).then_some(Stall::Full));
        let lanes = batch.lanes() & !lost;
        Ok(Accepted { lanes, stall: stall.filter(|_| lanes != batch.lanes()) })
    }

    /// Zero-copy: what is in the ring is the driver's.
    fn leave_to_driver(&mut self, batch: &Batch) -> Result<Accepted, LinkError> {
        if self.socket.needs_wakeup() {
            let result = self.socket.kick();
            result.or_else(|error| self.stall(error).map(drop))?;
        }
        self.socket.reclaim();
        Ok(Accepted { lanes: batch.lanes(), stall: None })
    }

    /// Makes the kernel read the ring, whose last `count` frames are of one batch, until it is empty. Sets bit `i` of
    /// `lost` when the kernel dropped frame `i` of these; returns why the ring is not empty.
    fn drive(&mut self, count: u32, lost: &mut u64) -> Result<Option<Stall>, LinkError> {
        let mut idle = 0;
        if self.mode == XskMode::ZeroCopy {
            self.socket.reclaim();
            return Ok(None);
        }
        loop {
            let before = self.socket.unread();
            if before == 0 {
                self.socket.reclaim();
                self.looked = false;
                return Ok(None);
            }
            let result = self.socket.kick();
            // An interface that is down is found out before the ring is looked at (`xsk_check_common`).
            self.looked |= !result.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ENETDOWN));
            let after = self.socket.unread();
            self.socket.reclaim();
            let Err(error) = result else {
                idle = if after < before { 0 } else { idle + 1 };
                if MOST_IDLE_KICKS < idle {
                    return Ok(Some(Stall::Full));
                }
                continue;
            };
            // The kernel dropped the frame it read last, and stopped there.
            if error.raw_os_error() == Some(libc::EBUSY) && after < before {
                *lost |= count.checked_sub(after + 1).map_or(0, |lane| 1u64.checked_shl(lane).unwrap_or(0));
                continue;
            }
            idle = if after < before { 0 } else { idle + 1 };
            let stall = self.stall(error)?;
            if stall == Stall::Down || MOST_IDLE_KICKS < idle {
                return Ok(Some(stall));
            }
        }
    }

    /// What an error says about the ring: wait, or give up.
    fn stall(&self, error: io::Error) -> Result<Stall, LinkError> {
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::ENOMEM | libc::EINTR) => Ok(Stall::Full),
            Some(libc::ENETDOWN) => Ok(Stall::Down),
            _ => {
                Err(LinkError::System { operation: "send on", object: self.interface.clone(), source: error })
            }
        }
    }

    fn in_flight(&self) -> bool {
        self.socket.unread() != 0 || (self.mode == XskMode::ZeroCopy && self.socket.free() < FRAMES as usize)
    }
}

/// Frames in memory, 4 MiB: half of what an unprivileged process may lock.
const FRAMES: u32 = 2048;
const _: () = assert!(LANES <= FRAMES as usize, "a batch fits");
const SEND_BUFFER_BYTES: u32 = 8 << 20;
const MOST_QUEUES: u32 = 64;
/// How long a queue that was just given up stays busy, generously.
const BUSY: Duration = Duration::from_millis(500);
/// Calls without progress before a batch is left in the ring: some milliseconds.
const MOST_IDLE_KICKS: u32 = 2_000;
/// How long the last frames may take.
const LAST_FRAMES: Duration = Duration::from_secs(1);
