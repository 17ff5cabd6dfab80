//! The receiver: every frame ends in one counter, and every proven reply in one record.

use super::*;

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
