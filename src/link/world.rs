//! A link into the simulated Internet: a whole scan without privilege, in real time.
//!
//! What comes back is a function of the scenario and of the probes, and the cookie key of a link that does not transmit
//! is made of the plan's seed: the same scan finds the same, except where a scenario limits rates.
//!
//! The link knows the world only as [`Air`]: the tests of the loops put a world in virtual time behind the same queues.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::batch::Batch;
use crate::gate::Gate;
use crate::link::digest::Digest;
use crate::link::stamper::Stamper;
use crate::link::{
    Accepted, Backend, FrameSpan, Link, LinkError, LinkSpec, Queues, Received, RxQueue, TxQueue,
};
use crate::sys::clock;
use crate::world::{SCENARIOS, Scenario, World};

/// The row of the registry.
pub(super) const BACKEND: Backend = Backend {
    name: "world",
    about: "a simulated Internet (world:internet, world:FILE.toml)",
    transmits: false,
    argument: Some("a scenario: its name or its file"),
    open,
};

/// What frames are given to and come from.
pub trait Air: Send + Sync {
    /// Takes a frame that left.
    fn send(&self, frame: &[u8]);

    /// Waits at most `timeout` for frames, and hands those that are there to `take`, each with the time it was received in
    /// nanoseconds since the Unix epoch.
    fn receive(&self, timeout: Duration, take: &mut dyn FnMut(u64, &[u8]));

    /// Frames that were there and that nobody took in time.
    fn drops(&self) -> u64;
}

fn open(spec: &LinkSpec) -> Result<Link, LinkError> {
    let (name, scenario) = scenario(spec.argument.as_deref())?;
    if spec.queues != Queues::ONE {
        let reason = "it has one queue each way; leave --tx-threads and --rx-threads out".to_owned();
        return Err(LinkError::Unusable { name: "world", reason });
    }
    let about =
        format!("world {name}: {}; simulated, nothing is sent, the same scan finds the same", scenario.about);
    let world = Mutex::new(World::new(Arc::new(scenario)));
    Ok(link(spec, Arc::new(RealTime { world, start_ns: clock::monotonic_ns() }), about))
}

/// A link on some air: one queue each way.
pub fn link(spec: &LinkSpec, air: Arc<dyn Air>, about: String) -> Link {
    let tx = Transmit { stamper: Stamper::new(spec), digest: Digest::new(), air: Arc::clone(&air) };
    let rx = Receive { air, bytes: Vec::new(), spans: Vec::new() };
    Link { tx: vec![Box::new(tx)], rx: vec![Box::new(rx)], about, hides_answers: false }
}

/// The scenario of that name, or in that file.
fn scenario(argument: Option<&Path>) -> Result<(String, Scenario), LinkError> {
    let unusable = |reason: String| LinkError::Unusable { name: "world", reason };
    let names = || SCENARIOS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let Some(path) = argument else {
        return Err(unusable(format!("name a scenario, --link world:NAME ({}), or a file", names())));
    };
    let shown = path.display().to_string();
    if let Some(scenario) = path.to_str().and_then(Scenario::named) {
        return Ok((shown, scenario));
    }
    let text = std::fs::read_to_string(path).map_err(|error| {
        unusable(format!("cannot read the scenario {shown}: {error}; built in are {}", names()))
    })?;
    let scenario = text.parse().map_err(|error| unusable(format!("the scenario {shown}: {error}")))?;
    Ok((shown, scenario))
}

struct Transmit {
    stamper: Stamper,
    digest: Digest,
    air: Arc<dyn Air>,
}

impl TxQueue for Transmit {
    fn submit(&mut self, batch: &Batch) -> Result<Accepted, LinkError> {
        self.stamper.stamp(batch)?;
        self.stamper.feed(&mut self.digest);
        self.stamper.frames().for_each(|frame| self.air.send(frame));
        Ok(Accepted { lanes: batch.lanes(), stall: None })
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, LinkError> {
        self.stamper.check(frame)?;
        self.digest.add(frame);
        self.air.send(frame);
        Ok(true)
    }

    fn replace_gate(&mut self, gate: &Arc<Gate>) {
        self.stamper.replace_gate(gate);
    }

    fn finish(&mut self) -> Result<Option<String>, LinkError> {
        Ok(Some(self.digest.to_string()))
    }
}

struct Receive {
    air: Arc<dyn Air>,
    bytes: Vec<u8>,
    spans: Vec<FrameSpan>,
}

impl RxQueue for Receive {
    fn poll(&mut self, timeout: Duration) -> Result<Received<'_>, LinkError> {
        let Receive { air, bytes, spans } = self;
        bytes.clear();
        spans.clear();
        air.receive(timeout, &mut |time_ns, frame| {
            spans.push(FrameSpan { offset: bytes.len(), length: frame.len(), time_ns });
            bytes.extend_from_slice(frame);
        });
        Ok(Received::new(&self.bytes, &self.spans))
    }

    fn drops(&mut self) -> Result<Option<u64>, LinkError> {
        Ok(Some(self.air.drops()))
    }
}

/// A world whose time is ours.
struct RealTime {
    world: Mutex<World>,
    start_ns: u64,
}

impl RealTime {
    fn with<T>(&self, look: impl FnOnce(&mut World, u64) -> T) -> T {
        // Nothing inside panics halfway.
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        look(&mut world, clock::monotonic_ns() - self.start_ns)
    }
}

impl Air for RealTime {
    fn send(&self, frame: &[u8]) {
        self.with(|world, now_ns| world.send(now_ns, frame));
    }

    fn receive(&self, timeout: Duration, take: &mut dyn FnMut(u64, &[u8])) {
        let deadline_ns = clock::monotonic_ns() + u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX / 2);
        let epoch_ns = clock::realtime_ns() - (clock::monotonic_ns() - self.start_ns);
        for _ in 0..POLLS {
            let mut taken = 0;
            self.with(|world, now_ns| {
                while taken < MOST_AT_ONCE
                    && world.arrive(now_ns, |arrival| take(epoch_ns + arrival.time_ns, arrival.frame))
                {
                    taken += 1;
                }
            });
            let left_ns = deadline_ns.saturating_sub(clock::monotonic_ns());
            if 0 < taken || left_ns == 0 {
                return;
            }
            std::thread::sleep(Duration::from_nanos(left_ns.min(NAP_NS)));
        }
    }

    fn drops(&self) -> u64 {
        0
    }
}

/// Frames handed out in one poll.
const MOST_AT_ONCE: usize = 4096;
/// How long a receiver sleeps before it looks again: probes that leave meanwhile may be answered at once.
const NAP_NS: u64 = 1_000_000;
/// More looks than any timeout allows.
const POLLS: usize = 1 << 16;
