//! The two loops against queues that refuse, stall and fail as told, in virtual time: what is planned leaves exactly
//! once whatever the link does, and every frame that arrives ends in one counter.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use swath::batch::{Batch, Family, LANES, NextHops, Source};
use swath::checkpoint::{self, Mode, Progress, Shape};
use swath::cli::build;
use swath::cli::{self, Request};
use swath::closing::{Closing, HalfOpen};
use swath::cookie::{CookieKey, SourcePorts};
use swath::dedup::Dedup;
use swath::event::{Invalid, Loss, Record, State};
use swath::gate::Gate;
use swath::generate::Generator;
use swath::link::{Accepted, FrameSpan, LinkError, Received, RxQueue, Stall, TxQueue};
use swath::neighbour::Neighbours;
use swath::order::{Order, Sample, Walk};
use swath::pace::{Pace, Rate};
use swath::path::{Path, Paths};
use swath::plan::Plan;
use swath::probe::{self, Judge, PROBES};
use swath::queue::Queue;
use swath::restraint::{Excludes, Gates, PrefixCap, Restraint, prefix};
use swath::rx::{Rx, RxParts};
use swath::stats::Stats;
use swath::target::{Port, Protocol, Target};
use swath::tx::{Step, Tx, TxParts};
use swath::wire;
use swath::wire::arp::Announcement;
use swath::wire::ethernet::Mac;

const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SOURCE_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const GATEWAY_MAC: Mac = Mac([2, 0xff, 0, 0, 0, 1]);

fn plan(words: &str) -> Plan {
    let words = ["swath", "plan"].into_iter().chain(words.split(' ')).map(Into::into);
    let Ok(Request::Plan(args)) = cli::parse(words) else { panic!("arguments") };
    build::plan(&args).expect("a plan")
}

fn key() -> CookieKey {
    CookieKey::new(*b"a key for tests!")
}

fn ports() -> SourcePorts {
    SourcePorts::new(16_384, 16_384).expect("a power of two")
}

// --- The world the transmitter sends into ----------------------------------------------------------------------------

/// What the link does with one call.
#[derive(Debug, Clone, Copy)]
enum Mood {
    /// Takes all.
    Willing,
    /// Takes the first so many lanes and is full.
    Full(u8),
    /// Takes these lanes and is full: a link need not keep to the front.
    Picky(u64),
    /// The interface is down.
    Down,
}

fn mood() -> impl Strategy<Value = Mood> {
    prop_oneof![
        4 => Just(Mood::Willing),
        3 => (0u8..64).prop_map(Mood::Full),
        2 => any::<u64>().prop_map(Mood::Picky),
        1 => Just(Mood::Down),
    ]
}

/// A checkpoint, and how often each probe had been sent by then.
type Looked = (checkpoint::State, BTreeMap<(u64, u8), u32>);

#[derive(Default)]
struct Net {
    now_ns: u64,
    moods: VecDeque<Mood>,
    /// Fail for good after so many calls.
    fails_after: Option<usize>,
    calls: usize,
    /// How often each probe left, with its destination and the link-layer address it went to.
    probes: BTreeMap<(u64, u8), u32>,
    sent_to: Vec<(Ipv4Addr, Mac)>,
    questions: Vec<Ipv4Addr>,
    /// Address, port, and our port and number of each RST.
    resets: Vec<(Ipv4Addr, u16, (u16, u32))>,
    /// When each frame left.
    times_ns: Vec<u64>,
    /// Answers under way: when they arrive.
    answers: VecDeque<(u64, Announcement)>,
    answer_after_ns: u64,
    silent: Option<fn(Ipv4Addr) -> bool>,
    /// The checkpoint, to be looked at while a batch is half handed over: after so many more calls.
    progress: Option<Arc<Progress>>,
    /// How often the last gate was replaced.
    gates: usize,
    look_after: Option<usize>,
    /// What it said then, and what had left.
    looked: Option<Looked>,
}

fn mac_of(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    Mac([2, 0xaa, a, b, c, d])
}

struct FakeTx {
    net: Arc<Mutex<Net>>,
    hops: NextHops,
    /// How many templates are of probes; those behind close connections.
    probes: usize,
}

impl FakeTx {
    fn mood(net: &mut Net) -> Result<Mood, LinkError> {
        net.calls += 1;
        if net.fails_after.is_some_and(|calls| calls < net.calls) {
            let source = std::io::Error::from_raw_os_error(6);
            return Err(LinkError::System { operation: "send on", object: "fake0".into(), source });
        }
        Ok(net.moods.pop_front().unwrap_or(Mood::Willing))
    }
}

impl TxQueue for FakeTx {
    fn submit(&mut self, batch: &Batch) -> Result<Accepted, LinkError> {
        let mut net = self.net.lock().expect("one thread");
        assert!(!batch.is_empty(), "an empty batch is no reason for a system call");
        let (lanes, stall) = match FakeTx::mood(&mut net)? {
            Mood::Willing => (batch.lanes(), None),
            Mood::Full(count) => (batch.lanes() & ((1 << count) - 1), Some(Stall::Full)),
            Mood::Picky(lanes) => (batch.lanes() & lanes, Some(Stall::Full)),
            Mood::Down => (0, Some(Stall::Down)),
        };
        let stall = stall.filter(|_| lanes != batch.lanes());
        let looks = net.look_after == Some(net.calls);
        for lane in (0..batch.len()).filter(|lane| lanes & 1 << lane != 0) {
            let now_ns = net.now_ns;
            if self.probes <= usize::from(batch.template[lane]) {
                let segment = (batch.source_port[lane], batch.sequence[lane]);
                net.resets.push((
                    Ipv4Addr::from(batch.destination_v4[lane]),
                    batch.destination_port[lane],
                    segment,
                ));
                net.times_ns.push(now_ns);
                continue;
            }
            *net.probes.entry((batch.cursor[lane].0, batch.pass[lane])).or_default() += 1;
            let to = (Ipv4Addr::from(batch.destination_v4[lane]), self.hops.mac(batch.hop[lane]));
            net.sent_to.push(to);
            net.times_ns.push(now_ns);
        }
        if looks {
            let state = net.progress.as_ref().expect("a checkpoint").state();
            net.looked = Some((state, net.probes.clone()));
        }
        Ok(Accepted { lanes, stall })
    }

    fn replace_gate(&mut self, _gate: &Arc<Gate>) {
        self.net.lock().expect("one thread").gates += 1;
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, LinkError> {
        let mut net = self.net.lock().expect("one thread");
        if !matches!(FakeTx::mood(&mut net)?, Mood::Willing | Mood::Picky(_)) {
            return Ok(false);
        }
        let wanted = Ipv4Addr::from(<[u8; 4]>::try_from(&frame[38..42]).expect("an ARP request"));
        net.questions.push(wanted);
        let now_ns = net.now_ns;
        net.times_ns.push(now_ns);
        if !net.silent.is_some_and(|silent| silent(wanted)) {
            let due_ns = now_ns + net.answer_after_ns;
            net.answers.push_back((due_ns, Announcement { address: wanted.into(), mac: mac_of(wanted) }));
        }
        Ok(true)
    }
}

struct Bench {
    net: Arc<Mutex<Net>>,
    tx: Tx,
    closing: Arc<Closing>,
    stats: Arc<Stats>,
    walk: Arc<Walk>,
    pace: Arc<Pace>,
    records: Queue<Record>,
    answers: Queue<Announcement>,
    stop: Arc<AtomicBool>,
    progress: Arc<Progress>,
    excludes: Arc<Excludes>,
}

/// A transmitter for a plan, with one gateway in slot 0 and `neighbours` slots for others.
fn bench(plan: &Plan, rate: Rate, paths: Paths, neighbours: u16, moods: Vec<Mood>) -> Bench {
    capped_bench(plan, rate, (paths, neighbours), moods, None)
}

/// The same with a cap for each prefix.
fn capped_bench(
    plan: &Plan,
    rate: Rate,
    (paths, neighbours): (Paths, u16),
    moods: Vec<Mood>,
    cap: Option<Arc<PrefixCap>>,
) -> Bench {
    let excludes = Arc::new(Excludes::default());
    let hops = NextHops::new(1 + neighbours);
    hops.assign(0, GATEWAY_MAC);
    let net = Arc::new(Mutex::new(Net { moods: moods.into(), answer_after_ns: 300_000, ..Net::default() }));
    let stats = Arc::new(Stats::new(1, 1, 1));
    let walk = Walk::new(plan.shard.cursors(plan.space.len()), plan.passes, 0).from_step(plan.first_step);
    let walk = Arc::new(walk.controlled(plan.sample()));
    let pace = Arc::new(Pace::new(rate));
    let source = Source { address: SOURCE.into(), mac: SOURCE_MAC, vlan: None };
    let templates = probe::templates(&plan.probes, &[source], &plan.dress);
    let (records, answers, stop) = (Queue::new(8), Queue::new(1 << 12), Arc::new(AtomicBool::new(false)));
    let closing = Arc::new(Closing::new(1 << 10));
    let progress = progress(plan.first_step);
    net.lock().expect("one thread").progress = Some(Arc::clone(&progress));
    let tx = Tx::new(TxParts {
        queue: Box::new(FakeTx { net: Arc::clone(&net), hops: hops.clone(), probes: templates.len() }),
        generator: Generator::new(plan.order(), Arc::clone(&plan.space), (key(), ports()), &templates)
            .with_resets(&[Family::V4]),
        walk: Arc::clone(&walk),
        pace: Arc::clone(&pace),
        paths,
        neighbours: Neighbours::new(hops, 1),
        closing: Arc::clone(&closing),
        answers: answers.clone(),
        questions: Queue::new(4),
        records: records.clone(),
        sources: vec![source],
        stop: Arc::clone(&stop),
        pause: Arc::default(),
        stats: (Arc::clone(&stats), 0),
        restraint: Restraint::new(Arc::clone(&excludes), cap),
        log: progress.log(0),
        epoch_offset_ns: 0,
    });
    Bench { net, tx, closing, stats, walk, pace, records, answers, stop, progress, excludes }
}

/// Progress with room for everything a test lets wait, whose marks are never older than a step.
fn progress(first_step: u64) -> Arc<Progress> {
    let shape = Shape { threads: 1, waiting: 1 << 14, window_ns: 0, first_step, reached: 0, run: 1 };
    Arc::new(Progress::in_memory(shape).expect("memory"))
}

impl Bench {
    /// One step, with the answers that have arrived by then; moves the time on.
    fn step(&mut self) -> Result<Step, LinkError> {
        let now_ns = {
            let mut net = self.net.lock().expect("one thread");
            let now_ns = net.now_ns;
            while net.answers.front().is_some_and(|(due_ns, _)| *due_ns <= now_ns) {
                let (_, answer) = net.answers.pop_front().expect("looked at");
                let _ = self.answers.push(answer);
            }
            now_ns
        };
        let step = self.tx.step(now_ns);
        let mut net = self.net.lock().expect("one thread");
        match &step {
            // Short sleeps as the thread makes them, so that answers are heard.
            Ok(Step::Wait(until_ns)) => {
                assert!(now_ns < *until_ns, "a wait moves the time");
                net.now_ns = (*until_ns).min(now_ns + 20_000_000);
            }
            _ => net.now_ns += 1_000,
        }
        step
    }

    /// Steps until the end; the ledger must balance after each.
    fn run(&mut self) {
        for _ in 0..1_000_000 {
            let step = self.step().expect("no fatal error");
            self.assert_balance();
            if step == Step::Done {
                return;
            }
        }
        panic!("no end: {:?}", self.stats.tx);
    }

    #[track_caller]
    fn assert_balance(&self) {
        let tx = &self.stats.tx[0];
        let settled = tx.sent.value()
            + tx.excluded_later.value()
            + tx.pending.value()
            + tx.unresolved.value()
            + tx.own_address.value();
        let unsent = self.walk.planned() - self.walk.taken();
        assert_eq!(settled + unsent, self.walk.planned(), "{:?}", self.stats.tx);
        let net = self.net.lock().expect("one thread");
        assert_eq!(tx.sent.value(), net.sent_to.len() as u64, "sent is what left");
        assert_eq!(tx.housekeeping.value(), net.questions.len() as u64, "questions are counted");
    }

    /// No probe left twice, and so many left.
    #[track_caller]
    fn assert_once(&self, count: u64) {
        let net = self.net.lock().expect("one thread");
        assert!(net.probes.values().all(|&times| times == 1), "a probe left twice");
        assert_eq!(net.probes.len() as u64, count);
    }

    /// In every window at most sigma + rho * t frames of all kinds.
    #[track_caller]
    fn assert_law(&self, rate_pps: u64) {
        let net = self.net.lock().expect("one thread");
        let (sigma, mut lowest) = (i128::from(self.pace.sigma()), i128::MAX);
        for (index, &time_ns) in net.times_ns.iter().enumerate() {
            let earned = i128::from(time_ns) * i128::from(rate_pps);
            let level = |frames: usize| frames as i128 * 1_000_000_000 - earned;
            lowest = lowest.min(level(index));
            let excess = level(index + 1) - lowest;
            assert!(excess <= (sigma) * 1_000_000_000, "frame {index} at {time_ns} ns is {excess} too early");
        }
    }
}

fn routed() -> Paths {
    Paths::single(Path::Hop(0))
}

// --- Tx ---------------------------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is refused leaves later, and nothing leaves twice; at any rate.
    #[test]
    fn every_cursor_leaves_exactly_once_whatever_is_refused(
        moods in proptest::collection::vec(mood(), 0..300),
        seed in any::<u64>(),
        rate in prop_oneof![Just(None), Just(Some(1_000u64)), Just(Some(20_000)), Just(Some(3_000_000))],
    ) {
        let plan = plan(&format!("198.18.0.0/24 -p 1-7 --seed {seed}"));
        let law = rate.map_or(Rate::Max, |rate| Rate::MilliFrames(rate * 1000));
        let mut bench = bench(&plan, law, routed(), 1, moods);
        bench.run();
        bench.assert_once(256 * 7);
        prop_assert_eq!(bench.stats.tx[0].sent.value(), 256 * 7);
        if let Some(rate) = rate {
            bench.assert_law(rate);
        }
    }

    /// Connections are closed, each once, by the RST the kernel would send; inside the law, before and after the last probe.
    #[test]
    fn every_half_open_connection_is_closed_once_inside_the_law(
        moods in proptest::collection::vec(mood(), 0..300),
        seed in any::<u64>(),
        rate in prop_oneof![Just(None), Just(Some(20_000u64)), Just(Some(3_000_000))],
    ) {
        let plan = plan(&format!("198.18.0.0/24 -p 1-7 --passes 2 --seed {seed}"));
        let law = rate.map_or(Rate::Max, |rate| Rate::MilliFrames(rate * 1000));
        let mut bench = bench(&plan, law, routed(), 1, moods);
        bench.closing.take_over();
        let mut expected = BTreeSet::new();
        let (mut number, mut done) = (0, false);
        for _ in 0..1_000_000 {
            // A few answers for each step, some only after the last probe.
            for _ in 0..3 {
                if number < 500 {
                    let half_open = HalfOpen { number: number * 3, pass: (number % 2) as u8 };
                    assert!(bench.closing.push(half_open));
                    let target = plan.space.select(half_open.number);
                    let IpAddr::V4(address) = target.address else { panic!("IPv4") };
                    let cookie = key().cookie(&target);
                    let segment = (ports().port(cookie, half_open.pass), cookie.sequence().wrapping_add(1));
                    expected.insert((address, target.port.number, segment));
                    number += 1;
                }
            }
            done |= !done && bench.step().expect("no fatal error") == Step::Done;
            if done {
                let now_ns = bench.net.lock().expect("one thread").now_ns;
                let step = bench.tx.linger(now_ns).expect("no fatal error");
                if step == Step::Done && number == 500 {
                    break;
                }
                bench.net.lock().expect("one thread").now_ns = match step {
                    Step::Wait(until_ns) => until_ns,
                    _ => now_ns + 1_000,
                };
            }
            bench.assert_balance();
        }
        let net = bench.net.lock().expect("one thread");
        prop_assert_eq!(net.resets.len(), 500);
        prop_assert_eq!(net.resets.iter().copied().collect::<BTreeSet<_>>(), expected);
        prop_assert_eq!(bench.stats.tx[0].resets.value(), 500);
        drop(net);
        bench.assert_once(256 * 7 * 2);
        if let Some(rate) = rate {
            bench.assert_law(rate);
        }
    }

    /// Gateway, neighbours that answer, neighbours that do not, own and broadcast addresses in one plan.
    #[test]
    fn every_kind_of_destination_is_sent_to_the_right_station_or_accounted_for(
        moods in proptest::collection::vec(mood(), 0..200),
        seed in any::<u64>(),
        rate in prop_oneof![Just(None), Just(Some(500u64)), Just(Some(50_000))],
        answer_after_ns in prop_oneof![Just(1_000u64), Just(5_000_000), Just(900_000_000), Just(2_500_000_000)],
    ) {
        let plan = plan(&format!("198.18.0.0/24 -p 1-3 --seed {seed}"));
        let at = |host: u8| u32::from(Ipv4Addr::new(198, 18, 0, host));
        let paths = Paths::new(vec![
            (0, Path::Hop(0)), (at(64), Path::OnLink), (at(192), Path::Own), (at(193), Path::OnLink),
            (at(255), Path::ManyStations),
        ]);
        let law = rate.map_or(Rate::Max, |rate| Rate::MilliFrames(rate * 1000));
        let mut bench = bench(&plan, law, paths, 190, moods);
        let silent: fn(Ipv4Addr) -> bool = |address| address.octets()[3] % 16 == 3;
        {
            let mut net = bench.net.lock().expect("one thread");
            net.silent = Some(silent);
            net.answer_after_ns = answer_after_ns;
        }
        bench.run();
        let on_link = (64..=191u8).chain(193..=254);
        let lost = on_link.filter(|&host| silent(Ipv4Addr::new(198, 18, 0, host))).count() as u64;
        let tx = &bench.stats.tx[0];
        prop_assert_eq!(tx.unresolved.value(), lost * 3);
        prop_assert_eq!(tx.own_address.value(), 3);
        prop_assert_eq!(tx.excluded_later.value(), 3);
        bench.assert_once(256 * 3 - lost * 3 - 6);
        if let Some(rate) = rate {
            bench.assert_law(rate);
        }
        let net = bench.net.lock().expect("one thread");
        for &(address, mac) in &net.sent_to {
            let host = address.octets()[3];
            let wanted = if host < 64 { GATEWAY_MAC } else { mac_of(address) };
            prop_assert_eq!(mac, wanted, "{}", address);
        }
        let most = if answer_after_ns < 1_000_000_000 { 1 } else { 3 };
        let mut asked: BTreeMap<Ipv4Addr, u32> = BTreeMap::new();
        net.questions.iter().for_each(|address| *asked.entry(*address).or_default() += 1);
        for (address, times) in asked {
            let host = address.octets()[3];
            prop_assert!((64..=191).contains(&host) || (193..=254).contains(&host), "{} was asked for", address);
            prop_assert!(times <= if silent(address) { 3 } else { most }, "{} was asked for {} times", address, times);
        }
    }

    /// Stopped at any step, also in the middle of stalls and questions: what was not sent is pending or unsent.
    #[test]
    fn the_ledger_balances_wherever_the_user_stops(
        moods in proptest::collection::vec(mood(), 0..100),
        steps in 0usize..200,
        fails in any::<bool>(),
    ) {
        let plan = plan("198.18.0.0/23 -p 1-4 --seed 1");
        let at = u32::from(Ipv4Addr::new(198, 18, 1, 0));
        let paths = Paths::new(vec![(0, Path::Hop(0)), (at, Path::OnLink)]);
        let mut bench = bench(&plan, Rate::Max, paths, 256, moods);
        if fails {
            bench.net.lock().expect("one thread").fails_after = Some(steps);
        }
        for _ in 0..steps {
            if bench.step().is_err() {
                break;
            }
            bench.assert_balance();
        }
        bench.assert_balance();
        bench.stop.store(true, Ordering::Relaxed);
        let left = bench.net.lock().expect("one thread").sent_to.len();
        for _ in 0..3 {
            prop_assert_eq!(bench.step().expect("nothing is sent"), Step::Done);
        }
        prop_assert_eq!(bench.net.lock().expect("one thread").sent_to.len(), left);
        bench.assert_balance();
        let net = bench.net.lock().expect("one thread");
        prop_assert!(net.probes.values().all(|&times| times == 1));
    }
}

/// More neighbours than the table has places: each is asked for again when it was forgotten, none is given up.
#[test]
fn a_table_that_is_too_small_forgets_but_fails_nobody() {
    let plan = plan("198.18.0.0/22 -p 1-2 --seed 4");
    for answer_after_ns in [1_000, 10_000_000] {
        let mut bench = bench(&plan, Rate::Max, Paths::single(Path::OnLink), 300, Vec::new());
        bench.net.lock().expect("one thread").answer_after_ns = answer_after_ns;
        bench.run();
        bench.assert_once(2048);
        assert_eq!(bench.stats.tx[0].unresolved.value(), 0);
        let net = bench.net.lock().expect("one thread");
        assert!(net.sent_to.iter().all(|(address, mac)| *mac == mac_of(*address)), "to the right station");
    }
}

#[test]
fn nothing_is_sent_while_the_writer_is_behind() {
    let plan = plan("198.18.0.0/24 -p 1 --seed 1");
    let mut bench = bench(&plan, Rate::Max, routed(), 1, Vec::new());
    let target = Target { address: SOURCE.into(), port: Port { protocol: Protocol::TCP, number: 1 } };
    let record = Record::new(target, SOURCE.into(), State::Open, swath::event::Reason::SYN_ACK);
    assert_eq!(bench.step().expect("sent"), Step::Again);
    while !bench.records.above_high_water() {
        bench.records.push(record).expect("room");
    }
    for _ in 0..100 {
        assert!(matches!(bench.step().expect("no error"), Step::Wait(_)));
    }
    assert_eq!(bench.net.lock().expect("one thread").calls, 1);
    assert_eq!(bench.stats.tx[0].pauses.value(), 100);
    bench.assert_balance();
    bench.records.pop();
    bench.run();
    bench.assert_once(256);
}

#[test]
fn a_stop_is_obeyed_while_the_writer_is_behind_and_while_the_link_is_down() {
    let plan = plan("198.18.0.0/24 -p 1 --seed 1");
    let mut bench = bench(&plan, Rate::Max, routed(), 1, vec![Mood::Down; 1000]);
    assert!(matches!(bench.step().expect("no error"), Step::Wait(_)));
    bench.stop.store(true, Ordering::Relaxed);
    assert_eq!(bench.step().expect("no error"), Step::Done);
    assert_eq!(bench.stats.tx[0].pending.value(), LANES as u64);
    bench.assert_balance();
}

#[test]
fn a_link_that_is_down_for_an_hour_is_followed_by_no_burst() {
    let plan = plan("198.18.0.0/22 -p 1 --seed 1");
    let mut bench = bench(&plan, Rate::MilliFrames(10_000_000), routed(), 1, vec![Mood::Down; 20]);
    for _ in 0..20 {
        let _ = bench.step().expect("no error");
        bench.net.lock().expect("one thread").now_ns += 180_000_000_000;
    }
    bench.run();
    bench.assert_once(1024);
    bench.assert_law(10_000);
}

#[test]
fn two_transmitters_share_a_walk_and_a_law() {
    let plan = plan("198.18.0.0/22 -p 1-3 --seed 9");
    let rate = Rate::MilliFrames(100_000_000);
    let mut one = bench(&plan, rate, routed(), 1, vec![Mood::Picky(0x5555_5555_5555_5555); 30]);
    let other = bench(&plan, rate, routed(), 1, vec![Mood::Full(7); 30]);
    // The second takes the first's walk and pace by being made of the same parts: its own are dropped.
    let (walk, pace) = (Arc::clone(&one.walk), Arc::clone(&one.pace));
    let mut other = with_shared(&plan, other, walk, pace);
    for _ in 0..1_000_000 {
        let steps = [one.step().expect("no error"), other.step().expect("no error")];
        // Both see the same time.
        let now =
            one.net.lock().expect("one thread").now_ns.min(other.net.lock().expect("one thread").now_ns);
        one.net.lock().expect("one thread").now_ns = now;
        other.net.lock().expect("one thread").now_ns = now;
        if steps == [Step::Done, Step::Done] {
            break;
        }
    }
    let (one, other) = (one.net.lock().expect("one thread"), other.net.lock().expect("one thread"));
    let mut all = one.probes.clone();
    for (probe, times) in &other.probes {
        *all.entry(*probe).or_default() += times;
    }
    assert_eq!(all.len(), 3072);
    assert!(all.values().all(|&times| times == 1));
    let mut times: Vec<u64> = one.times_ns.iter().chain(&other.times_ns).copied().collect();
    times.sort_unstable();
    let most = (0..times.len())
        .map(|at| times[at..].iter().take_while(|time| **time - times[at] < 10_000_000).count())
        .max();
    assert!(most <= Some(1000 + 1000), "at most sigma + rho * 10 ms in 10 ms: {most:?}");
}

fn with_shared(plan: &Plan, bench: Bench, walk: Arc<Walk>, pace: Arc<Pace>) -> Bench {
    let source = Source { address: SOURCE.into(), mac: SOURCE_MAC, vlan: None };
    let templates = probe::templates(&plan.probes, &[source], &plan.dress);
    let hops = NextHops::new(2);
    let tx = Tx::new(TxParts {
        queue: Box::new(FakeTx { net: Arc::clone(&bench.net), hops: hops.clone(), probes: usize::MAX }),
        generator: Generator::new(plan.order(), Arc::clone(&plan.space), (key(), ports()), &templates),
        walk: Arc::clone(&walk),
        pace: Arc::clone(&pace),
        paths: routed(),
        neighbours: Neighbours::new(hops, 1),
        closing: Arc::new(Closing::new(64)),
        answers: bench.answers.clone(),
        questions: Queue::new(4),
        records: bench.records.clone(),
        sources: vec![source],
        stop: Arc::clone(&bench.stop),
        pause: Arc::default(),
        stats: (Arc::clone(&bench.stats), 0),
        restraint: Restraint::new(Arc::default(), None),
        log: bench.progress.log(0),
        epoch_offset_ns: 0,
    });
    Bench { tx, walk, pace, ..bench }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// The process is killed while the link holds a batch that nobody has noted yet. A complete restart then sends what
    /// is left, and of what left it repeats no more than that round; an exact one repeats nothing and misses no more.
    #[test]
    fn a_kill_in_the_middle_of_a_batch_loses_nothing_and_repeats_at_most_the_round(
        moods in proptest::collection::vec(mood(), 0..60),
        seed in any::<u64>(),
        calls in 1usize..120,
        on_link in any::<bool>(),
    ) {
        let first = plan(&format!("198.18.0.0/25 -p 1-7 --passes 2 --seed {seed}"));
        let all = 128 * 7 * 2;
        let paths = || if on_link { Paths::single(Path::OnLink) } else { routed() };
        let mut killed = bench(&first, Rate::Max, paths(), 200, moods);
        killed.net.lock().expect("one thread").look_after = Some(calls);
        while killed.net.lock().expect("one thread").looked.is_none() {
            if killed.step().expect("no fatal error") == Step::Done {
                break;
            }
        }
        let looked = killed.net.lock().expect("one thread").looked.take();
        let Some((mut state, left)) = looked else { return Ok(()) };
        // Every reply until now was heard and written: what is rewound is the round alone.
        (state.alive_ns, state.durable_ns) = (u64::MAX, u64::MAX);
        let low = state.threads[0].low;
        state.threads[0].marks.push((u64::MAX, low));
        for mode in [Mode::Complete, Mode::Exact] {
            let restart = state.restart(mode);
            let second = Plan { first_step: restart.step, ..plan(&format!("198.18.0.0/25 -p 1-7 --passes 2 --seed {seed}")) };
            let mut resumed = bench(&second, Rate::Max, paths(), 200, Vec::new());
            resumed.tx.carry(&restart.waiting);
            while resumed.step().expect("no fatal error") != Step::Done {}
            let again = &resumed.net.lock().expect("one thread").probes;
            let (mut repeated, mut missed) = (0, 0);
            for cursor in 0..128 * 7 {
                for pass in 0..2 {
                    let of = |probes: &BTreeMap<(u64, u8), u32>| probes.get(&(cursor, pass)).copied().unwrap_or(0);
                    prop_assert!(of(again) <= 1 && of(&left) <= 1);
                    repeated += u64::from(of(again) + of(&left) == 2);
                    missed += u64::from(of(again) + of(&left) == 0);
                }
            }
            prop_assert!(restart.step <= all && restart.window <= 64 * 2, "{restart:?}");
            match mode {
                // The probes in the batch, new or waiting, were sent and not noted.
                Mode::Complete => prop_assert!(missed == 0 && repeated <= 64, "{missed} {repeated} {restart:?}"),
                Mode::Exact => prop_assert!(missed <= 64 && repeated == 0, "{missed} {repeated} {restart:?}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever the link refuses and however late it is: each prefix keeps its own law, everything leaves once, and
    /// what waits is bounded.
    #[test]
    fn every_prefix_keeps_its_cap_and_everything_still_leaves_once(
        moods in proptest::collection::vec(mood(), 0..200),
        seed in any::<u64>(),
        cap_pps in prop_oneof![Just(50u64), Just(1_000), Just(20_000)],
        ports in prop_oneof![Just("1"), Just("1-5")],
    ) {
        let plan = plan(&format!("198.18.0.0/22 203.0.113.0/28 -p {ports} --seed {seed}"));
        let cap = Arc::new(PrefixCap::new(cap_pps * 1000));
        let sigma = i128::from(cap.sigma());
        let mut bench = capped_bench(&plan, Rate::Max, (routed(), 1), moods, Some(cap));
        bench.run();
        bench.assert_once(plan.space.len());
        let net = bench.net.lock().expect("one thread");
        let mut prefixes: BTreeMap<u64, (i128, i128)> = BTreeMap::new();
        for (&(address, _), &time_ns) in net.sent_to.iter().zip(&net.times_ns) {
            let earned = i128::from(time_ns) * i128::from(cap_pps);
            let (sent, lowest) = prefixes.entry(prefix(address.into())).or_insert((0, i128::MAX));
            *lowest = (*lowest).min(*sent * 1_000_000_000 - earned);
            *sent += 1;
            prop_assert!(*sent * 1_000_000_000 - earned - *lowest <= sigma * 1_000_000_000, "{address} at {time_ns}");
        }
        prop_assert_eq!(prefixes.len(), 5);
    }

    /// Addresses that are excluded while the scan runs are not sent to from the next step on, wherever they wait, and
    /// are counted; everything else leaves once.
    #[test]
    fn what_is_excluded_while_the_scan_runs_is_never_sent_from_then_on(
        moods in proptest::collection::vec(mood(), 0..200),
        seed in any::<u64>(),
        steps in 0usize..60,
        on_link in any::<bool>(),
    ) {
        let plan = plan(&format!("198.18.0.0/24 -p 1-7 --seed {seed}"));
        let paths = if on_link { Paths::single(Path::OnLink) } else { routed() };
        let mut bench = bench(&plan, Rate::MilliFrames(100_000_000), paths, 256, moods);
        for _ in 0..steps {
            let _ = bench.step().expect("no fatal error");
        }
        let gate = || Arc::new(Gate::new([(0xc612_0010, 0xc612_004f)], []));
        bench.excludes.replace(Gates { later: gate(), last: gate() });
        let before = bench.net.lock().expect("one thread").sent_to.len();
        let done = bench.step().expect("no fatal error") == Step::Done;
        bench.run();
        let net = bench.net.lock().expect("one thread");
        let excluded = |address: &Ipv4Addr| (16..80).contains(&address.octets()[3]);
        prop_assert!(net.sent_to[before..].iter().all(|(address, _)| !excluded(address)));
        let sent_before = net.sent_to[..before].iter().filter(|(address, _)| excluded(address)).count() as u64;
        prop_assert_eq!(bench.stats.tx[0].excluded_later.value(), 64 * 7 - sent_before);
        prop_assert_eq!(net.probes.len() as u64, 192 * 7 + sent_before);
        prop_assert!(net.probes.values().all(|&times| times == 1));
        prop_assert!(done || net.gates == 1, "the link's own gate was replaced, once");
    }

    /// A second probe of each target of the control sample, and of no other.
    #[test]
    fn a_control_sample_is_probed_twice_and_nothing_else_is(
        moods in proptest::collection::vec(mood(), 0..300),
        seed in any::<u64>(),
    ) {
        let plan = plan(&format!("198.18.0.0/22 -p 1-3 --control-share 1/8 --seed {seed}"));
        let mut bench = bench(&plan, Rate::Max, routed(), 1, moods);
        bench.run();
        bench.assert_once(1024 * 3 + 384);
        let net = bench.net.lock().expect("one thread");
        let sample = plan.sample().expect("a sample");
        let twice: Vec<u64> = net.probes.keys().filter(|(_, pass)| *pass == 1).map(|(cursor, _)| *cursor).collect();
        let wanted: Vec<u64> = (0..384).map(|block| sample.cursor(block).expect("within").0).collect();
        prop_assert_eq!(twice, wanted);
    }
}

/// A thousand seeds of the order, each with its own sample and its own losses: the interval of the control sample holds
/// the truth as often as it says, and is no wider than theory has it for samples of that size.
#[test]
fn the_interval_of_a_control_sample_covers_the_true_loss_in_at_least_930_of_1000_seeds() {
    for (targets, loss) in [(64_000u64, 0.01), (64_000, 0.05), (64_000, 0.2), (320_000, 0.002)] {
        let (mut covered, mut widths, mut recaptured_in_all) = (0, Vec::new(), 0u64);
        for seed in 0..1000u64 {
            let sample = Sample::new(0..targets, 64, seed);
            let mut dedup = Dedup::new(targets, 1 << 22);
            let order = Order::new(targets, seed);
            let lost = |target: u64, pass: u64| {
                let mut bits = (target << 1 | pass) ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                for _ in 0..3 {
                    bits = (bits ^ bits >> 31).wrapping_mul(0xd6e8_feb8_6659_fd93);
                }
                ((bits >> 11) as f64) < loss * (1u64 << 53) as f64
            };
            let (mut recaptured, mut missed) = (0, 0);
            for block in 0..sample.len() {
                let target = order.target(sample.cursor(block).expect("within"));
                if !lost(target, 0) {
                    dedup.insert(target, State::Open, 0);
                }
                if !lost(target, 1) {
                    recaptured += 1;
                    missed += u64::from(dedup.insert(target, State::Open, 1).passes_before & 1 == 0);
                }
            }
            let estimate = Loss::from_counts(recaptured, missed).expect("many answer");
            covered += u32::from(estimate.low <= loss && loss <= estimate.high);
            widths.push(estimate.high - estimate.low);
            recaptured_in_all += recaptured;
        }
        widths.sort_by(f64::total_cmp);
        let each = recaptured_in_all as f64 / 1000.0;
        let theory = 2.0 * 1.96 * (loss * (1.0 - loss) / each).sqrt();
        assert!(930 <= covered, "{targets} targets, loss {loss}: {covered} of 1000");
        assert!(
            widths[500] <= 1.5 * theory,
            "{targets} targets, loss {loss}: {} against {theory}",
            widths[500]
        );
    }
}

// --- Rx ---------------------------------------------------------------------------------------------------------------

/// Hands out frames in polls of given sizes.
struct FakeRx {
    polls: Arc<Mutex<VecDeque<Vec<Vec<u8>>>>>,
    bytes: Vec<u8>,
    spans: Vec<FrameSpan>,
    polled: Arc<Mutex<usize>>,
}

impl RxQueue for FakeRx {
    fn poll(&mut self, _timeout: Duration) -> Result<Received<'_>, LinkError> {
        *self.polled.lock().expect("one thread") += 1;
        (self.bytes, self.spans) = (Vec::new(), Vec::new());
        for frame in self.polls.lock().expect("one thread").pop_front().unwrap_or_default() {
            let (offset, length) = (self.bytes.len(), frame.len());
            self.spans.push(FrameSpan { offset, length, time_ns: 1 });
            self.bytes.extend(frame);
        }
        Ok(Received::new(&self.bytes, &self.spans))
    }

    fn drops(&mut self) -> Result<Option<u64>, LinkError> {
        Ok(Some(3))
    }
}

struct Listening {
    rx: Rx,
    stats: Arc<Stats>,
    records: Queue<Record>,
    answers: Queue<Announcement>,
    polled: Arc<Mutex<usize>>,
    left: Arc<Mutex<VecDeque<Vec<Vec<u8>>>>>,
}

fn judge() -> Judge {
    Judge::new(key(), ports(), 2, vec![SOURCE.into()])
}

fn listening(plan: &Plan, polls: Vec<Vec<Vec<u8>>>, room: usize) -> Listening {
    let (polled, left) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(VecDeque::from(polls))));
    let stats = Arc::new(Stats::new(1, 1, 1));
    let (records, answers) = (Queue::new(room), Queue::new(4));
    let queue = FakeRx {
        polls: Arc::clone(&left),
        bytes: Vec::new(),
        spans: Vec::new(),
        polled: Arc::clone(&polled),
    };
    let rx = Rx::new(RxParts {
        queue: Box::new(queue),
        reader: wire::Reader::Ethernet,
        probes: plan.probes.clone(),
        judge: judge(),
        space: Arc::clone(&plan.space),
        dedup: Dedup::new(plan.space.len(), 1 << 16),
        records: records.clone(),
        answers: vec![answers.clone()],
        answers_for: Vec::new(),
        questions: Queue::new(4),
        answered: Arc::default(),
        closing: Arc::new(Closing::new(64)),
        stats: (Arc::clone(&stats), 0),
        epoch_offset_ns: 0,
    });
    Listening { rx, stats, records, answers, polled, left }
}

impl Listening {
    #[track_caller]
    fn assert_balance(&self) {
        let rx = &self.stats.rx[0];
        let invalid: u64 = rx.invalid.iter().map(swath::stats::Counter::value).sum();
        let settled = rx.not_ours.value() + invalid + rx.duplicate.value() + rx.accepted.value();
        assert_eq!(settled, rx.frames.value(), "{rx:?}");
    }
}

/// A target inside of the plan (index below 512) or outside of it.
fn target(index: u16) -> Target {
    let address = IpAddr::from([198, 18, (index >> 8) as u8, (index & 0xff) as u8]);
    Target { address, port: Port { protocol: Protocol::TCP, number: 80 } }
}

/// What arrives: golden replies and errors, damaged or not, from inside and outside of the plan, ARP, and noise.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let golden = (0u16..600, any::<proptest::sample::Index>()).prop_map(|(index, which)| {
        let samples = PROBES[0].samples(&target(index), &judge());
        samples[which.index(samples.len())].frame.clone()
    });
    let damaged = (golden.clone(), any::<proptest::sample::Index>(), any::<u8>(), any::<bool>()).prop_map(
        |(mut frame, at, value, cut)| {
            let at = at.index(frame.len());
            if cut {
                frame.truncate(at)
            } else {
                frame[at] ^= value
            }
            frame
        },
    );
    let answer = any::<[u8; 28]>().prop_map(|mut body| {
        body[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 2]);
        let mut frame = vec![0; 12];
        frame.extend([8, 6]);
        frame.extend(body);
        frame
    });
    let noise = proptest::collection::vec(any::<u8>(), 0..120);
    prop_oneof![5 => golden, 4 => damaged, 1 => answer, 1 => noise]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Every frame ends in one counter, every accepted verdict in the queue, once; however slow the writer is.
    #[test]
    fn every_frame_is_accounted_for_and_no_verdict_is_lost(
        polls in proptest::collection::vec(proptest::collection::vec(frame(), 0..150), 1..6),
        room in 2usize..80,
        pops in proptest::collection::vec(0usize..40, 1..20),
    ) {
        let plan = plan("198.18.0.0/23 -p 80 --seed 1");
        let count: usize = polls.iter().map(Vec::len).sum();
        let mut listening = listening(&plan, polls, room);
        let mut found = Vec::new();
        let mut pops = pops.into_iter().cycle();
        for turn in 0..10_000u64 {
            let before = *listening.polled.lock().expect("one thread");
            let waited = !listening.rx.is_flushed();
            let full = listening.records.len() == room;
            let go_on = listening.rx.step(turn, Duration::ZERO).expect("no error");
            prop_assert_eq!(go_on, listening.rx.is_flushed());
            if waited && full {
                let after = *listening.polled.lock().expect("one thread");
                prop_assert_eq!(after, before, "a full queue stops the draining");
            }
            listening.assert_balance();
            let most = pops.next().unwrap_or(1).max(usize::from(turn % 20 == 19));
            found.extend(std::iter::from_fn(|| listening.records.pop()).take(most));
            if listening.rx.is_flushed() && listening.records.is_empty() && listening.left.lock().expect("one thread").is_empty() {
                break;
            }
        }
        let rx = &listening.stats.rx[0];
        prop_assert_eq!(rx.frames.value(), count as u64);
        prop_assert_eq!(rx.accepted.value(), found.len() as u64);
        prop_assert_eq!(rx.open.value(), found.iter().filter(|record| record.state == State::Open).count() as u64);
        let distinct: BTreeSet<_> = found.iter().map(|record| (record.address(), record.port, record.state)).collect();
        prop_assert_eq!(distinct.len(), found.len(), "no verdict twice");
        prop_assert!(found.iter().all(|record| plan.space.rank(&record.target()).is_some()), "none outside of the plan");
        listening.rx.finish().expect("counted");
        prop_assert_eq!(rx.kernel_drops.value(), 3);
    }
}

#[test]
fn replies_from_outside_of_the_plan_are_an_alarm_and_no_result() {
    let plan = plan("198.18.0.0/23 -p 80 --seed 1");
    let sample = PROBES[0].samples(&target(512), &judge()).swap_remove(0).frame;
    let mut listening = listening(&plan, vec![vec![sample; 65]], 8);
    assert!(listening.rx.step(0, Duration::ZERO).expect("no error"));
    let rx = &listening.stats.rx[0];
    assert_eq!((rx.accepted.value(), rx.invalid[Invalid::OutOfPlan as usize].value()), (0, 65));
    listening.assert_balance();
}

#[test]
fn answers_of_neighbours_reach_the_transmitters_and_a_flood_of_them_does_no_harm() {
    let plan = plan("198.18.0.0/23 -p 80 --seed 1");
    let mut answer = vec![0; 12];
    answer.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 9, 198, 18, 0, 9]);
    answer.extend([0; 10]);
    let mut listening = listening(&plan, vec![vec![answer; 100]], 8);
    assert!(listening.rx.step(0, Duration::ZERO).expect("no error"));
    let heard = listening.answers.pop().expect("an answer");
    assert_eq!((heard.address, heard.mac), (IpAddr::from([198, 18, 0, 9]), Mac([2, 0, 0, 0, 0, 9])));
    assert_eq!(listening.stats.rx[0].not_ours.value(), 100);
    listening.assert_balance();
}
