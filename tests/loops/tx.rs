//! The transmitter: each cursor once, whatever the link does, and never faster than the law.

use super::bench::*;
use super::*;

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
