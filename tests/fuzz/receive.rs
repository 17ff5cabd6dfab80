//! The receive path as one function of bytes: frame, `wire::read`, every probe's judgement, dedup, record, every text
//! sink. What must hold for any bytes is asserted here, by readers that are not ours.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use swath::closing::Closing;
use swath::cookie::{CookieKey, SourcePorts};
use swath::dedup::Dedup;
use swath::event::{Record, Untrusted};
use swath::link::{FrameSpan, LinkError, Received, RxQueue};
use swath::probe::{Judge, PROBES, by_name};
use swath::queue::Queue;
use swath::rx::{Rx, RxParts};
use swath::sink::{Place, Sink, sink_named};
use swath::stats::{Counter, Stats};
use swath::target::{AddressSet, Endpoints, Port, PortSet, RangeList, Space, Target};
use swath::wire;

const SOURCES: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const TARGETS: [&str; 2] = ["198.18.0.7", "2001:db8:1::7"];
/// Sinks whose files are text; what they hold is checked line by line.
const TEXT_SINKS: [&str; 4] = ["text", "ndjson", "csv", "list"];

/// EtherTypes that some part of the path reads.
const KINDS: [[u8; 2]; 4] = [[0x08, 0x00], [0x08, 0x06], [0x86, 0xdd], [0x81, 0x00]];

fn judge() -> Judge {
    let ports = SourcePorts::new(16_384, 16_384).expect("a power of two");
    let sources = SOURCES.map(|text| text.parse().expect("address")).to_vec();
    Judge::new(CookieKey::new(*b"a key for tests!"), ports, 2, sources)
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("address")
}

/// Every port that some probe's golden replies are about.
fn ports() -> Vec<Port> {
    let examples = PROBES.iter().flat_map(|probe| {
        let number = probe.example().number;
        probe.protocols().iter().map(move |&protocol| Port { protocol, number })
    });
    examples.collect()
}

/// The golden replies of every probe, in both families.
pub(crate) fn golden() -> Vec<Vec<u8>> {
    let judge = judge();
    let mut frames = Vec::new();
    for probe in PROBES {
        for text in TARGETS {
            let target = Target { address: address(text), port: probe.example() };
            if probe.example().exists_in(target.address.is_ipv6()) {
                frames.extend(probe.samples(&target, &judge).into_iter().map(|sample| sample.frame));
            }
        }
    }
    frames
}

struct OneFrame {
    frame: Arc<Mutex<Vec<u8>>>,
    bytes: Vec<u8>,
    span: [FrameSpan; 1],
}

impl RxQueue for OneFrame {
    fn poll(&mut self, _timeout: Duration) -> Result<Received<'_>, LinkError> {
        self.bytes.clone_from(&self.frame.lock().expect("one thread"));
        self.span = [FrameSpan { offset: 0, length: self.bytes.len(), time_ns: 1 }];
        Ok(Received::new(&self.bytes, &self.span))
    }

    fn drops(&mut self) -> Result<Option<u64>, LinkError> {
        Ok(Some(0))
    }
}

/// The receive path, from a frame to lines of text.
pub(crate) struct Path {
    frame: Arc<Mutex<Vec<u8>>>,
    rx: Rx,
    stats: Arc<Stats>,
    records: Queue<Record>,
    sinks: Vec<(&'static str, PathBuf, Box<dyn Sink>)>,
    written: u64,
    directory: tempfile::TempDir,
}

impl Path {
    pub(crate) fn new() -> Path {
        let mut ranges = RangeList::default();
        TARGETS.iter().for_each(|text| ranges.push(address(text)));
        let ports = PortSet::from_unsorted(ports());
        let space = Space::new(&ranges.into_set(), &ports, Endpoints::default(), &AddressSet::default());
        let space = Arc::new(space.expect("a space"));
        let (frame, stats) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Stats::new(0, 1, 0)));
        let records = Queue::new(16);
        let span = [FrameSpan { offset: 0, length: 0, time_ns: 0 }];
        let rx = Rx::new(RxParts {
            queue: Box::new(OneFrame { frame: Arc::clone(&frame), bytes: Vec::new(), span }),
            reader: wire::Reader::Ethernet,
            probes: PROBES.iter().map(|probe| by_name(probe.name()).expect("in the registry")).collect(),
            judge: judge(),
            space: Arc::clone(&space),
            dedup: Dedup::new(space.len(), 1 << 16),
            records: records.clone(),
            answers: Vec::new(),
            answers_for: Vec::new(),
            questions: Queue::new(2),
            answered: Arc::default(),
            closing: Arc::new(Closing::new(1)),
            stats: (Arc::clone(&stats), 0),
            epoch_offset_ns: 0,
        });
        let directory = tempfile::tempdir().expect("a directory");
        let sinks = TEXT_SINKS.map(|name| {
            let path = directory.path().join(name);
            let place = Place { path: path.clone(), ..Place::default() };
            (name, path, (sink_named(name).expect("a sink").open)(&place).expect("opened"))
        });
        Path { frame, rx, stats, records, sinks: sinks.into(), written: 0, directory }
    }

    /// Takes one frame. Returns how it behaved, as a number: equal for frames that took the same way.
    pub(crate) fn take(&mut self, frame: &[u8]) -> u64 {
        let before = self.counters();
        self.frame.lock().expect("one thread").clone_from(&frame.to_vec());
        assert!(self.rx.step(0, Duration::ZERO).expect("no link fails"), "the queue has room");
        let after = self.counters();
        let mut behaviour = DefaultHasher::new();
        let deltas: Vec<u64> = before.iter().zip(&after).map(|(before, after)| after - before).collect();
        deltas.hash(&mut behaviour);
        // The first counter is frames seen, the others what became of them: one each.
        assert_eq!((deltas[0], deltas[1..].iter().sum::<u64>()), (1, 1), "{deltas:?}");
        while let Some(record) = self.records.pop() {
            self.check(frame, &record);
            (record.state, record.reason, record.proof, record.pass, record.protocol).hash(&mut behaviour);
            let untrusted = Untrusted(frame.to_vec());
            for (name, _, sink) in &mut self.sinks {
                sink.write(&[record]).unwrap_or_else(|error| panic!("{name}: {error}"));
                sink.attach(&record, "banner", &untrusted).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            self.written += 1;
        }
        // Frames of different kind and length that end in the same counter are worth keeping, too.
        let kind = frame.get(12..14).and_then(|kind| KINDS.iter().position(|known| known == kind));
        (frame.len().min(128) / 8, kind).hash(&mut behaviour);
        behaviour.finish()
    }

    /// Frames, then everything a frame can come to; accepted and duplicate verdicts apart.
    fn counters(&self) -> Vec<u64> {
        let rx = &self.stats.rx[0];
        let mut values = vec![rx.frames.value(), rx.not_ours.value()];
        values.extend(rx.invalid.iter().map(Counter::value));
        values.extend([rx.duplicate.value(), rx.accepted.value()]);
        values
    }

    /// A record against another reader of its frame: it came from where it says, to one of our addresses.
    fn check(&self, frame: &[u8], record: &Record) {
        assert!(TARGETS.map(address).contains(&record.address()), "{record:?} is about nobody we asked");
        let Ok(packet) = etherparse::SlicedPacket::from_ethernet(frame) else { return };
        let (source, destination): (IpAddr, IpAddr) = match &packet.net {
            Some(etherparse::NetSlice::Ipv4(ip)) => {
                (ip.header().source().into(), ip.header().destination().into())
            }
            Some(etherparse::NetSlice::Ipv6(ip)) => {
                (ip.header().source().into(), ip.header().destination().into())
            }
            _ => return,
        };
        assert_eq!(record.responder(), source, "{record:?}");
        assert!(SOURCES.map(address).contains(&destination), "{record:?} was sent to {destination}");
    }

    /// Reads everything that was written, with other readers.
    pub(crate) fn finish(mut self) -> u64 {
        for (name, path, sink) in &mut self.sinks {
            let safe = sink.commit().unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(safe, self.written, "{name}");
            let bytes = fs::read(&*path).expect("written");
            let text = std::str::from_utf8(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            let harmless = |letter: char| letter == '\n' || letter == '\r' || (' '..='~').contains(&letter);
            assert!(text.chars().all(harmless), "{name}: a control character or worse in {path:?}");
            for line in text.lines().filter(|line| !line.is_empty()) {
                match *name {
                    "ndjson" => {
                        let value: serde_json::Value = serde_json::from_str(line).expect(line);
                        assert!(value.is_object(), "{line}");
                    }
                    "list" if !line.starts_with('#') => drop(listed(line)),
                    _ => {}
                }
            }
            if *name == "csv" {
                let widths: std::collections::BTreeSet<usize> = text.lines().map(columns).collect();
                let samples: Vec<&str> = widths
                    .iter()
                    .filter_map(|&width| text.lines().find(|line| columns(line) == width))
                    .collect();
                let same = usize::from(!text.is_empty());
                assert_eq!(widths.len(), same, "csv: every line has as many fields: {samples:#?}");
            }
        }
        drop(self.directory);
        self.written
    }
}

/// Fields of a line of comma-separated values (RFC 4180): a comma in quotes separates nothing.
fn columns(line: &str) -> usize {
    let mut quoted = false;
    let separators = line.chars().filter(|letter| {
        quoted ^= *letter == '"';
        *letter == ',' && !quoted
    });
    separators.count() + 1
}

/// A line of a list: an address, with or without a port.
fn listed(line: &str) -> IpAddr {
    line.parse::<std::net::SocketAddr>()
        .map(|socket| socket.ip())
        .or_else(|_| line.parse::<IpAddr>())
        .unwrap_or_else(|error| panic!("{line}: {error}"))
}
