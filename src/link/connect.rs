//! The connect link: what other links put on the wire, this one asks of the operating system, one non-blocking socket for
//! each probe, thousands in flight. No privilege is needed, and no interface is known: the kernel's routes decide.
//!
//! Outcomes stand where other links have frames ([`outcome`]); an attempt that nobody answers ends silently after
//! [`TIMEOUT_NS`]. The number in flight is bounded by the limit on descriptors, which is raised as far as it may be;
//! at the bound, and when the kernel has no port or memory left, the queue is full and the probe is sent again.
//!
//! Invariant: a connection that was made is ended at once, with a RST: nothing is said to the service, and no port of
//! this host stays in TIME_WAIT.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{self, Resource, Rlimit};

use crate::batch::{Batch, Family, Template, destination};
use crate::link::stamper::Stamper;
use crate::link::{
    Accepted, Backend, FrameSpan, Link, LinkError, LinkSpec, Received, RxQueue, Stall, TxQueue,
};
use crate::sys::clock;
use crate::wire::outcome::{LENGTH, Outcome, Report};

/// The link. Not in the registry: a kind of scan asks for it (`--scan connect`), nobody else can use it.
pub const CONNECT: Backend = Backend {
    name: "connect",
    about: "connections of the operating system",
    transmits: true,
    argument: None,
    open,
};

fn open(spec: &LinkSpec) -> Result<Link, LinkError> {
    let failed = |operation, source: Errno| LinkError::System {
        operation,
        object: "the connect link".into(),
        source: source.into(),
    };
    let (most, limit) = most_in_flight();
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| failed("wait for", error))?;
    let shared = Arc::new(Shared { epoll, flights: Mutex::new(Flights::new(most)) });
    let sources: Vec<IpAddr> =
        spec.filter.addresses.iter().copied().filter(|address| !address.is_unspecified()).collect();
    for source in &sources {
        bound_socket(SocketAddr::new(*source, 0)).map_err(|error| LinkError::System {
            operation: "connect from",
            object: source.to_string(),
            source: error.into(),
        })?;
    }
    let queue = |_| -> Box<dyn TxQueue> {
        Box::new(Asker {
            shared: Arc::clone(&shared),
            stamper: Stamper::new(spec),
            families: spec.templates.iter().map(Template::family).collect(),
            sources: sources.clone(),
        })
    };
    let tx = (0..spec.queues.tx.max(1)).map(queue).collect();
    let listener = Listener { shared, reports: Vec::new(), bytes: Vec::new(), spans: Vec::new() };
    let about =
        format!("connections of the operating system, at most {most} at a time (descriptor limit {limit})");
    Ok(Link { tx, rx: vec![Box::new(listener)], about, hides_answers: false })
}

/// How many connections may be in flight, and the limit on descriptors, which is raised to the hard one first.
fn most_in_flight() -> (usize, u64) {
    let limits = process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limits.maximum.or(limits.current), maximum: limits.maximum };
    let soft = match process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(_) => limits.current,
    };
    let soft = soft.unwrap_or(u64::MAX);
    let usable = usize::try_from(soft.saturating_sub(RESERVED)).unwrap_or(usize::MAX);
    (usable.clamp(1, MOST), soft)
}

/// What both directions know.
struct Shared {
    epoll: OwnedFd,
    flights: Mutex<Flights>,
}

/// The attempts under way.
struct Flights {
    slots: Vec<Option<Flight>>,
    free: Vec<u32>,
    /// When each attempt ends, in the order in which they began: deadline, slot, serial number.
    ends: VecDeque<(u64, u32, u32)>,
    serial: u32,
    /// Attempts that ended when they began.
    settled: Vec<Report>,
}

struct Flight {
    socket: OwnedFd,
    serial: u32,
    began_ns: u64,
    to: SocketAddr,
    pass: u8,
}

impl Flights {
    fn new(most: usize) -> Flights {
        let free = (0..u32::try_from(most).unwrap_or(u32::MAX)).rev().collect();
        let slots = std::iter::repeat_with(|| None).take(most).collect();
        Flights { slots, free, ends: VecDeque::new(), serial: 0, settled: Vec::new() }
    }

    fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Takes an attempt out, if it is the one with that serial number.
    fn take(&mut self, slot: u32, serial: u32) -> Option<Flight> {
        let place = self.slots.get_mut(slot as usize)?;
        let flight = place.take_if(|flight| flight.serial == serial)?;
        self.free.push(slot);
        Some(flight)
    }
}

/// The transmit queue.
struct Asker {
    shared: Arc<Shared>,
    /// Finishes frames like those the kernel will make, for the last gate.
    stamper: Stamper,
    families: Vec<Family>,
    sources: Vec<IpAddr>,
}

impl TxQueue for Asker {
    fn submit(&mut self, batch: &Batch) -> Result<Accepted, LinkError> {
        self.stamper.stamp(batch)?;
        let mut flights = self.shared.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lanes = 0;
        for lane in 0..batch.len() {
            let family = self.families[usize::from(batch.template[lane])];
            let to = SocketAddr::new(destination(batch, lane, family), batch.destination_port[lane]);
            if !begin(&self.shared, &mut flights, &self.sources, (to, batch.pass[lane])) {
                return Ok(Accepted { lanes, stall: Some(Stall::Full) });
            }
            lanes |= 1 << lane;
        }
        Ok(Accepted { lanes, stall: None })
    }

    /// There is no frame that is no probe.
    fn send(&mut self, _frame: &[u8]) -> Result<bool, LinkError> {
        Ok(true)
    }
}

/// Begins an attempt; returns whether there was room for it.
fn begin(shared: &Shared, flights: &mut Flights, sources: &[IpAddr], (to, pass): (SocketAddr, u8)) -> bool {
    if flights.free.is_empty() {
        return planted!(46, true, false);
    }
    let began_ns = clock::monotonic_ns();
    let source = sources.iter().find(|source| source.is_ipv4() == to.is_ipv4());
    let begun = match source {
        Some(source) => bound_socket(SocketAddr::new(*source, 0)),
        None => plain_socket(to.is_ipv4()),
    };
    let begun = begun.and_then(|socket| match net::connect(&socket, &to) {
        Err(Errno::INPROGRESS) => watch(shared, flights, socket, (began_ns, to, pass)),
        outcome => outcome.map(|()| end(socket)).map(|()| settle(flights, to, pass, Outcome::Connected)),
    });
    match begun {
        Ok(()) => true,
        // Neither descriptor, nor memory, nor a port of our own: later. With nothing in flight it gets no better.
        Err(error) if is_shortage(error) && 0 < flights.in_flight() => false,
        Err(error) => {
            if let Some(outcome) = outcome(error) {
                settle(flights, to, pass, outcome);
            }
            true
        }
    }
}

/// Keeps a socket until its connection is made or refused.
fn watch(
    shared: &Shared,
    flights: &mut Flights,
    socket: OwnedFd,
    (began_ns, to, pass): (u64, SocketAddr, u8),
) -> Result<(), Errno> {
    let Some(slot) = flights.free.pop() else { return Err(Errno::MFILE) };
    flights.serial = flights.serial.wrapping_add(1);
    let serial = flights.serial;
    let data = epoll::EventData::new_u64(u64::from(serial) << 32 | u64::from(slot));
    if let Err(error) = epoll::add(&shared.epoll, &socket, data, epoll::EventFlags::OUT) {
        flights.free.push(slot);
        return Err(error);
    }
    flights.slots[slot as usize] = Some(Flight { socket, serial, began_ns, to, pass });
    flights.ends.push_back((began_ns + TIMEOUT_NS, slot, serial));
    Ok(())
}

fn settle(flights: &mut Flights, to: SocketAddr, pass: u8, outcome: Outcome) {
    flights.settled.push(Report { outcome, pass, address: to.ip(), port: to.port(), elapsed_us: 1 });
}

fn plain_socket(is_v4: bool) -> Result<OwnedFd, Errno> {
    let family = if is_v4 { AddressFamily::INET } else { AddressFamily::INET6 };
    net::socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)
}

fn bound_socket(source: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = plain_socket(source.is_ipv4())?;
    net::bind(&socket, &source)?;
    Ok(socket)
}

/// Ends a connection with a RST.
fn end(socket: OwnedFd) {
    // Without it the connection ends in the usual way: only our own table suffers.
    let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
    drop(socket);
}

fn is_shortage(error: Errno) -> bool {
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::AGAIN, Errno::ADDRNOTAVAIL, Errno::NOSPC]
        .contains(&error)
}

/// What an error means; `None` for silence.
fn outcome(error: Errno) -> Option<Outcome> {
    match error {
        Errno::CONNREFUSED => Some(Outcome::Refused),
        Errno::CONNRESET => Some(Outcome::Reset),
        Errno::HOSTUNREACH => Some(Outcome::HostUnreachable),
        Errno::NETUNREACH => Some(Outcome::NetUnreachable),
        Errno::ACCESS | Errno::PERM => Some(Outcome::Prohibited),
        Errno::NOPROTOOPT => Some(Outcome::ProtocolUnreachable),
        Errno::TIMEDOUT | Errno::HOSTDOWN => None,
        _ => Some(Outcome::Unreachable),
    }
}

/// The receive queue.
struct Listener {
    shared: Arc<Shared>,
    reports: Vec<Report>,
    bytes: Vec<u8>,
    spans: Vec<FrameSpan>,
}

impl RxQueue for Listener {
    fn poll(&mut self, timeout: Duration) -> Result<Received<'_>, LinkError> {
        self.reports.clear();
        self.take_settled();
        let timeout = if self.reports.is_empty() { timeout } else { Duration::ZERO };
        // Not kept: the kernel's events cannot go from thread to thread.
        let mut events = Vec::with_capacity(EVENTS);
        let wait = rustix::fs::Timespec {
            tv_sec: timeout.as_secs().cast_signed(),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let buffer = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.shared.epoll, buffer, Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                return Err(LinkError::System {
                    operation: "wait for",
                    object: "connections".into(),
                    source: io::Error::from(error),
                });
            }
        }
        self.take_answers(&events);
        self.write();
        Ok(Received::new(&self.bytes, &self.spans))
    }

    /// The kernel drops no outcome: what it has no room for was never begun.
    fn drops(&mut self) -> Result<Option<u64>, LinkError> {
        Ok(Some(0))
    }
}

impl Listener {
    fn take_settled(&mut self) {
        let mut flights = self.shared.flights.lock().unwrap_or_else(PoisonError::into_inner);
        self.reports.append(&mut flights.settled);
    }

    /// Takes the attempts that were answered, and ends those that nobody will answer any more.
    fn take_answers(&mut self, events: &[epoll::Event]) {
        let now_ns = clock::monotonic_ns();
        let mut flights = self.shared.flights.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            let data = event.data.u64();
            let (serial, slot) = (crate::batch::low_32(data >> 32), crate::batch::low_32(data));
            let Some(Flight { socket, began_ns, to, pass, .. }) = flights.take(slot, serial) else {
                continue;
            };
            let outcome = match sockopt::socket_error(&socket) {
                Ok(Ok(())) => Some(Outcome::Connected),
                Ok(Err(error)) | Err(error) => outcome(error),
            };
            end(socket);
            if let Some(outcome) = outcome {
                let elapsed_us = u32::try_from((now_ns - began_ns) / 1000).unwrap_or(u32::MAX);
                self.reports.push(Report { outcome, pass, address: to.ip(), port: to.port(), elapsed_us });
            }
        }
        while let Some(&(end_ns, slot, serial)) = flights.ends.front() {
            let is_over = flights.slots[slot as usize].as_ref().is_none_or(|flight| flight.serial != serial);
            if !is_over && now_ns < end_ns {
                break;
            }
            flights.ends.pop_front();
            if let Some(flight) = flights.take(slot, serial) {
                end(flight.socket);
            }
        }
    }

    fn write(&mut self) {
        self.bytes.clear();
        self.spans.clear();
        let time_ns = clock::realtime_ns();
        for report in &self.reports {
            self.spans.push(FrameSpan { offset: self.bytes.len(), length: LENGTH, time_ns });
            self.bytes.extend_from_slice(&report.to_bytes());
        }
    }
}

/// How long an answer is awaited: three SYNs of the kernel's, which repeats after 1 and 3 seconds.
const TIMEOUT_NS: u64 = 4_000_000_000;
/// Descriptors that are left for results, standard streams and the like.
const RESERVED: u64 = 128;
/// Most attempts at a time, whatever the limit: 28,000 ports are free on a usual host.
const MOST: usize = 16_384;
/// Most outcomes taken at once.
const EVENTS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_kernel_are_what_the_table_says() {
        for (error, expected) in [
            (Errno::CONNREFUSED, Some(Outcome::Refused)),
            (Errno::HOSTUNREACH, Some(Outcome::HostUnreachable)),
            (Errno::NETUNREACH, Some(Outcome::NetUnreachable)),
            (Errno::ACCESS, Some(Outcome::Prohibited)),
            (Errno::NOPROTOOPT, Some(Outcome::ProtocolUnreachable)),
            (Errno::NONET, Some(Outcome::Unreachable)),
            (Errno::TIMEDOUT, None),
            (Errno::HOSTDOWN, None),
        ] {
            assert_eq!(outcome(error), expected, "{error:?}");
        }
    }

    #[test]
    fn a_slot_is_given_back_only_by_the_attempt_that_has_it() {
        let mut flights = Flights::new(2);
        let slot = flights.free.pop().expect("free");
        let to = "127.0.0.1:9".parse().expect("address");
        let socket = plain_socket(true).expect("a socket");
        flights.slots[slot as usize] = Some(Flight { socket, serial: 7, began_ns: 0, to, pass: 0 });
        assert!(flights.take(slot, 6).is_none(), "an event of the one before");
        assert_eq!(flights.in_flight(), 1);
        assert!(flights.take(slot, 7).is_some() && flights.take(slot, 7).is_none());
        assert_eq!(flights.in_flight(), 0);
    }

    /// Somebody on this host who lets connections wait: the queue of a listener that accepts none is soon full.
    fn silent_listener() -> (OwnedFd, Vec<OwnedFd>, SocketAddr) {
        let listener = bound_socket("127.0.0.1:0".parse().expect("address")).expect("bound");
        net::listen(&listener, 0).expect("listens");
        let address = SocketAddr::try_from(net::getsockname(&listener).expect("bound")).expect("IPv4");
        let waiting = (0..4).map(|_| {
            let socket = plain_socket(true).expect("a socket");
            let _ = net::connect(&socket, &address);
            socket
        });
        let waiting = waiting.collect();
        (listener, waiting, address)
    }

    #[test]
    fn what_there_is_no_room_for_did_not_leave_and_room_comes_back_when_nobody_answers() {
        let (_listener, _waiting, to) = silent_listener();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
        let shared = Arc::new(Shared { epoll, flights: Mutex::new(Flights::new(2)) });
        let begin = || {
            let mut flights = shared.flights.lock().expect("no panic");
            begin(&shared, &mut flights, &[], (to, 0))
        };
        assert_eq!([begin(), begin(), begin()], [true, true, false], "the third finds no room");
        let mut listener = Listener {
            shared: Arc::clone(&shared),
            reports: Vec::new(),
            bytes: Vec::new(),
            spans: Vec::new(),
        };
        listener.take_answers(&[]);
        assert!(!begin(), "nobody has waited long enough");
        for end in &mut shared.flights.lock().expect("no panic").ends {
            end.0 = 0;
        }
        listener.take_answers(&[]);
        assert!(listener.reports.is_empty(), "silence is no report");
        assert_eq!([begin(), begin(), begin()], [true, true, false]);
    }
}
