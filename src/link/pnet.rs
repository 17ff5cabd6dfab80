//! The portable link: one call for each frame, through `pnet_datalink`. Slower than every other; it is there for systems
//! that have none of the others, and as an independent second opinion on those that have.
//!
//! It hears every frame of the interface, without a filter and without the kernel's time, and nobody tells it what the
//! kernel dropped: [`RxQueue::drops`] says so.

use std::io;
use std::time::{Duration, Instant};

use pnet_datalink::{Channel, Config, DataLinkReceiver, DataLinkSender};

use crate::batch::Batch;
use crate::link::stamper::Stamper;
use crate::link::{
    Accepted, Backend, FrameSpan, Framing, Link, LinkError, LinkInterface, LinkSpec, Receive, Received,
    RxQueue, Stall, TxQueue,
};
use crate::sys::clock;

/// The row of the registry.
pub(super) const BACKEND: Backend = Backend {
    name: "pnet",
    about: "the portable link: one call for each frame, on Ethernet",
    transmits: true,
    argument: None,
    open,
};

fn open(spec: &LinkSpec) -> Result<Link, LinkError> {
    let interface = spec.interface.as_ref().ok_or_else(|| unusable("no interface to send on"))?;
    if interface.framing != Framing::Ethernet {
        return Err(unusable(&format!("{} has no Ethernet header; use af_packet", interface.name)));
    }
    if spec.receive == Receive::Xdp {
        return Err(unusable("it receives in its own way only; leave --receive out"));
    }
    if spec.queues.rx != 1 {
        return Err(unusable("it has one receive queue; leave --rx-threads out"));
    }
    let mut tx: Vec<Box<dyn TxQueue>> = Vec::new();
    let mut rx: Vec<Box<dyn RxQueue>> = Vec::new();
    for _ in 0..spec.queues.tx {
        let (sender, receiver) = channel(interface)?;
        let (stamper, name) = (Stamper::new(spec), interface.name.clone());
        tx.push(Box::new(Transmit { stamper, sender, interface: name.clone() }));
        if rx.is_empty() {
            rx.push(Box::new(Listen { receiver, bytes: Vec::new(), spans: Vec::new(), interface: name }));
        }
    }
    let about = format!(
        "pnet on {}: one call for each frame, no filter; what the kernel drops is not known",
        interface.name
    );
    Ok(Link { tx, rx, about, hides_answers: false })
}

fn unusable(reason: &str) -> LinkError {
    LinkError::Unusable { name: BACKEND.name, reason: reason.to_owned() }
}

/// Both ends of a channel.
type Ends = (Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>);

fn channel(interface: &LinkInterface) -> Result<Ends, LinkError> {
    let found = pnet_datalink::interfaces().into_iter().find(|found| found.name == interface.name);
    let found = found.ok_or_else(|| unusable(&format!("it finds no interface {}", interface.name)))?;
    let config = Config {
        // A wait that is over looks like an error; it is short, so that the receive thread sees to other things.
        read_timeout: Some(LONGEST_WAIT),
        read_buffer_size: BUFFER_BYTES,
        write_buffer_size: BUFFER_BYTES,
        promiscuous: false,
        ..Config::default()
    };
    match pnet_datalink::channel(&found, config) {
        Ok(Channel::Ethernet(sender, receiver)) => Ok((sender, receiver)),
        Ok(_) => Err(unusable("it has no Ethernet channel here")),
        Err(error) => match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                Err(LinkError::Privilege { operation: "open packet sockets" })
            }
            _ => Err(LinkError::System {
                operation: "open a channel on",
                object: interface.name.clone(),
                source: error,
            }),
        },
    }
}

struct Transmit {
    stamper: Stamper,
    sender: Box<dyn DataLinkSender>,
    interface: String,
}

impl TxQueue for Transmit {
    fn submit(&mut self, batch: &Batch) -> Result<Accepted, LinkError> {
        self.stamper.stamp(batch)?;
        let mut lanes = 0;
        for (lane, frame) in self.stamper.frames().enumerate() {
            match hand_over(self.sender.as_mut(), frame) {
                Ok(()) => lanes |= 1 << lane,
                Err(error) => {
                    let stall = stall(error, &self.interface);
                    // What left must be told before a scan may end: an error that lasts comes again.
                    return match stall {
                        Err(fatal) if lanes == 0 => Err(fatal),
                        Err(_) => Ok(Accepted { lanes, stall: Some(Stall::Down) }),
                        Ok(stall) => Ok(Accepted { lanes, stall: Some(stall) }),
                    };
                }
            }
        }
        Ok(Accepted { lanes, stall: None })
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, LinkError> {
        self.stamper.check(frame)?;
        match hand_over(self.sender.as_mut(), frame) {
            Ok(()) => Ok(true),
            Err(error) => stall(error, &self.interface).map(|_| false),
        }
    }
}

fn hand_over(sender: &mut dyn DataLinkSender, frame: &[u8]) -> io::Result<()> {
    sender.send_to(frame, None).unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
}

/// What an error says about the frame it was given for, which was not sent: wait, or give up.
fn stall(error: io::Error, interface: &str) -> Result<Stall, LinkError> {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted, _)
        | (_, Some(libc::ENOBUFS | libc::EAGAIN | libc::ENOMEM)) => Ok(Stall::Full),
        (_, Some(libc::ENETDOWN)) => Ok(Stall::Down),
        _ => Err(LinkError::System { operation: "send on", object: interface.to_owned(), source: error }),
    }
}

struct Listen {
    receiver: Box<dyn DataLinkReceiver>,
    bytes: Vec<u8>,
    spans: Vec<FrameSpan>,
    interface: String,
}

impl RxQueue for Listen {
    fn poll(&mut self, timeout: Duration) -> Result<Received<'_>, LinkError> {
        self.bytes.clear();
        self.spans.clear();
        let deadline = Instant::now() + timeout;
        while self.spans.len() < MOST_AT_ONCE {
            match self.receiver.next() {
                Ok(frame) => {
                    let (offset, length) = (self.bytes.len(), frame.len());
                    self.bytes.extend_from_slice(frame);
                    self.spans.push(FrameSpan { offset, length, time_ns: clock::realtime_ns() });
                }
                Err(error) if waits(&error) => {
                    if !self.spans.is_empty() || deadline <= Instant::now() {
                        break;
                    }
                }
                Err(source) => {
                    let object = self.interface.clone();
                    return Err(LinkError::System { operation: "receive on", object, source });
                }
            }
        }
        Ok(Received::new(&self.bytes, &self.spans))
    }

    fn drops(&mut self) -> Result<Option<u64>, LinkError> {
        Ok(None)
    }
}

/// Whether an error means no more than that nothing came: the time is over, a signal, or the interface is down for now.
fn waits(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
        || error.raw_os_error() == Some(libc::ENETDOWN)
}

/// Frames handed over in one poll.
const MOST_AT_ONCE: usize = 256;
const LONGEST_WAIT: Duration = Duration::from_millis(5);
/// Room for one frame of any size.
const BUFFER_BYTES: usize = 65_536;
