//! The world the transmitter sends into: a link with moods, neighbours that answer or not, virtual time.

use super::*;

/// What the link does with one call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mood {
    /// Takes all.
    Willing,
    /// Takes the first so many lanes and is full.
    Full(u8),
    /// Takes these lanes and is full: a link need not keep to the front.
    Picky(u64),
    /// The interface is down.
    Down,
}

pub(super) fn mood() -> impl Strategy<Value = Mood> {
    prop_oneof![
        4 => Just(Mood::Willing),
        3 => (0u8..64).prop_map(Mood::Full),
        2 => any::<u64>().prop_map(Mood::Picky),
        1 => Just(Mood::Down),
    ]
}

/// A checkpoint, and how often each probe had been sent by then.
pub(super) type Looked = (checkpoint::State, BTreeMap<(u64, u8), u32>);

#[derive(Default)]
pub(super) struct Net {
    pub(super) now_ns: u64,
    pub(super) moods: VecDeque<Mood>,
    /// Fail for good after so many calls.
    pub(super) fails_after: Option<usize>,
    pub(super) calls: usize,
    /// How often each probe left, with its destination and the link-layer address it went to.
    pub(super) probes: BTreeMap<(u64, u8), u32>,
    pub(super) sent_to: Vec<(Ipv4Addr, Mac)>,
    pub(super) questions: Vec<Ipv4Addr>,
    /// Address, port, and our port and number of each RST.
    pub(super) resets: Vec<(Ipv4Addr, u16, (u16, u32))>,
    /// When each frame left.
    pub(super) times_ns: Vec<u64>,
    /// Answers under way: when they arrive.
    pub(super) answers: VecDeque<(u64, Announcement)>,
    pub(super) answer_after_ns: u64,
    pub(super) silent: Option<fn(Ipv4Addr) -> bool>,
    /// The checkpoint, to be looked at while a batch is half handed over: after so many more calls.
    pub(super) progress: Option<Arc<Progress>>,
    /// How often the last gate was replaced.
    pub(super) gates: usize,
    pub(super) look_after: Option<usize>,
    /// What it said then, and what had left.
    pub(super) looked: Option<Looked>,
}

pub(super) fn mac_of(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    Mac([2, 0xaa, a, b, c, d])
}

pub(super) struct FakeTx {
    pub(super) net: Arc<Mutex<Net>>,
    pub(super) hops: NextHops,
    /// How many templates are of probes; those behind close connections.
    pub(super) probes: usize,
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

pub(super) struct Bench {
    pub(super) net: Arc<Mutex<Net>>,
    pub(super) tx: Tx,
    pub(super) closing: Arc<Closing>,
    pub(super) stats: Arc<Stats>,
    pub(super) walk: Arc<Walk>,
    pub(super) pace: Arc<Pace>,
    pub(super) records: Queue<Record>,
    pub(super) answers: Queue<Announcement>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) progress: Arc<Progress>,
    pub(super) excludes: Arc<Excludes>,
}

/// A transmitter for a plan, with one gateway in slot 0 and `neighbours` slots for others.
pub(super) fn bench(plan: &Plan, rate: Rate, paths: Paths, neighbours: u16, moods: Vec<Mood>) -> Bench {
    capped_bench(plan, rate, (paths, neighbours), moods, None)
}

/// The same with a cap for each prefix.
pub(super) fn capped_bench(
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
pub(super) fn progress(first_step: u64) -> Arc<Progress> {
    let shape = Shape { threads: 1, waiting: 1 << 14, window_ns: 0, first_step, reached: 0, run: 1 };
    Arc::new(Progress::in_memory(shape).expect("memory"))
}

impl Bench {
    /// One step, with the answers that have arrived by then; moves the time on.
    pub(super) fn step(&mut self) -> Result<Step, LinkError> {
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
    pub(super) fn run(&mut self) {
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
    pub(super) fn assert_balance(&self) {
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
    pub(super) fn assert_once(&self, count: u64) {
        let net = self.net.lock().expect("one thread");
        assert!(net.probes.values().all(|&times| times == 1), "a probe left twice");
        assert_eq!(net.probes.len() as u64, count);
    }

    /// In every window at most sigma + rho * t frames of all kinds.
    #[track_caller]
    pub(super) fn assert_law(&self, rate_pps: u64) {
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

pub(super) fn routed() -> Paths {
    Paths::single(Path::Hop(0))
}
