//! What a checkpoint says after a run, after a kill, after a power failure, and of files that are none.

use super::*;

fn shape() -> Shape {
    Shape { threads: 1, waiting: 100, window_ns: 10_000_000_000, first_step: 0, reached: 0, run: 1 }
}

fn birth() -> Birth {
    Birth { seed: "7".into(), argv: vec!["swath".into(), "192.0.2.0/24".into()], ..Birth::default() }
}

fn found(path: &Path) -> (Birth, State) {
    match read(path).expect("a checkpoint") {
        Found::Open(found) => *found,
        Found::Complete(_) => panic!("it is not complete"),
    }
}

/// A run at 1,000 steps a second whose replies are durable a second late, up to `until_ns`.
fn ran(progress: &Arc<Progress>, until_ns: u64) {
    let mut log = progress.log(0);
    for now_ns in (0..=until_ns).step_by(1_000_000) {
        log.begin(now_ns / 1_000_000);
        if log.is_due(now_ns) {
            log.mark(now_ns, now_ns / 1_000_000);
        }
        log.taken(now_ns / 1_000_000 + 1);
        progress.alive(now_ns, now_ns.saturating_sub(1_000_000_000));
    }
}

#[test]
fn a_checkpoint_is_found_as_it_was_left_and_refused_while_it_is_in_use() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("scan.swath");
    let progress = Arc::new(Progress::create(&path, shape(), &birth(), &[]).expect("created"));
    let busy = read(&path).expect_err("in use").to_string();
    assert!(busy.contains("scan.swath") && busy.contains("running"), "{busy}");
    progress.exclude("192.0.2.7/32 192.0.2.9/32").expect("appended");
    progress.exclude("192.0.2.64/26").expect("appended");
    let log = progress.log(0);
    [5, 6, 7].into_iter().for_each(|step| log.wait(step));
    log.settle(6);
    drop((log, progress));
    let (read_birth, state) = found(&path);
    assert_eq!(read_birth, birth());
    assert_eq!(state.threads[0].waiting, [5, 7]);
    assert_eq!((state.epoch, state.run, state.same_boot), (2, 1, true));
    assert_eq!(state.excluded_later, "192.0.2.7/32 192.0.2.9/32\n192.0.2.64/26\n");
}

#[test]
fn a_complete_restart_rewinds_to_what_was_awaited_in_full_and_an_exact_one_repeats_nothing() {
    let progress = Arc::new(Progress::in_memory(shape()).expect("memory"));
    ran(&progress, 30_000_000_000);
    let state = progress.state();
    let complete = state.restart(Mode::Complete);
    // 30 s, less the second the results are late, less the window of ten: at 19 s, or a mark earlier.
    assert!(complete.step <= 19_000 && 19_000 - 100 < complete.step, "{complete:?}");
    assert_eq!(complete.window, 30_001 - complete.step);
    let exact = state.restart(Mode::Exact);
    assert_eq!((exact.step, exact.window), (30_001, complete.window));
}

#[test]
fn a_run_that_went_back_and_was_killed_early_knows_how_far_the_one_before_had_come() {
    let shape = Shape { first_step: 2_000, reached: 9_000, run: 2, ..shape() };
    let progress = Arc::new(Progress::in_memory(shape).expect("memory"));
    let mut log = progress.log(0);
    log.begin(3_000);
    log.mark(1, 3_000);
    log.taken(3_064);
    let state = progress.state();
    let complete = state.restart(Mode::Complete);
    assert_eq!((complete.step, complete.window, complete.reached), (2_000, 7_000, 9_000));
    assert_eq!(state.restart(Mode::Exact).step, 9_000, "what lies between was sent once");
}

#[test]
fn within_the_first_window_a_restart_begins_where_the_run_began() {
    let shape = Shape { first_step: 5, ..shape() };
    let progress = Arc::new(Progress::in_memory(shape).expect("memory"));
    assert_eq!(progress.state().restart(Mode::Complete).step, 5);
    ran(&progress, 9_000_000_000);
    assert_eq!(progress.state().restart(Mode::Complete).step, 5);
}

/// A probe that the run before left behind was sent by this one, a moment before it was killed.
#[test]
fn what_was_carried_over_and_sent_is_awaited_from_when_it_was_sent() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("scan.swath");
    let next = Shape { first_step: 4_000, run: 2, ..shape() };
    let progress = Arc::new(Progress::create(&path, next, &birth(), &[3]).expect("created"));
    let mut log = progress.log(0);
    log.begin(4_000);
    log.mark(0, 3);
    log.settle(3);
    log.begin(4_064);
    log.mark(100_000_000, 4_064);
    log.taken(4_128);
    progress.alive(200_000_000, 200_000_000);
    assert_eq!(progress.state().restart(Mode::Complete).step, 3, "nothing was awaited in full");
    progress.alive(10_100_000_000, 10_100_000_000);
    assert_eq!(progress.state().restart(Mode::Complete).step, 4_064);
}

#[test]
fn what_waits_before_the_restart_is_kept_and_what_comes_after_it_is_part_of_it() {
    let progress = Arc::new(Progress::in_memory(shape()).expect("memory"));
    let log = progress.log(0);
    [3, 29_000, 30_000].into_iter().for_each(|step| log.wait(step));
    ran(&progress, 30_000_000_000);
    let state = progress.state();
    assert_eq!(state.restart(Mode::Complete).waiting, [3]);
    assert_eq!(state.restart(Mode::Exact).waiting, [3, 29_000, 30_000]);
    log.in_flight(29_000, true);
    let state = progress.state();
    assert_eq!(state.restart(Mode::Exact).waiting, [3, 30_000], "it may have been sent");
    log.in_flight(29_000, false);
    log.settle(30_000);
    assert_eq!(progress.state().restart(Mode::Exact).waiting, [3, 29_000]);
    assert_eq!(progress.safe_step(), 3);
}

#[test]
fn a_scan_that_awaited_everything_repeats_nothing() {
    let progress = Arc::new(Progress::in_memory(shape()).expect("memory"));
    let mut log = progress.log(0);
    ran(&progress, 1_000_000_000);
    log.begin(777);
    log.taken(777);
    log.mark(1_000_000_000, 777);
    progress.settled();
    let restart = progress.state().restart(Mode::Complete);
    assert_eq!((restart.step, restart.window), (777, 0));
}

#[test]
fn after_another_start_of_the_machine_only_the_synced_slot_is_believed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("scan.swath");
    let progress = Arc::new(Progress::create(&path, shape(), &birth(), &[]).expect("created"));
    ran(&progress, 60_000_000_000);
    progress.store(word::BOOT, 1);
    assert_eq!(progress.state().restart(Mode::Complete).step, 0, "never synced");
    for step in [100, 200, 300] {
        progress.sync(step).expect("synced");
        assert_eq!(progress.state().restart(Mode::Complete).step, step);
    }
    // The newer slot is torn: the older one holds.
    for slot in [word::SYNCED, word::SYNCED + word::SYNCED_WORDS] {
        if progress.load(slot) == 3 {
            progress.store(slot + 1, 301);
        }
    }
    assert_eq!(progress.state().restart(Mode::Complete).step, 200);
}

#[test]
fn the_next_run_takes_the_place_of_the_file_at_once_with_what_waited() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("scan.swath");
    drop(Progress::create(&path, shape(), &birth(), &[]).expect("created"));
    // What a kill in the middle of the change leaves is cleared away.
    std::fs::write(sibling(&path, "new"), "half").expect("written");
    let waiting: Vec<u64> = (0..500).map(|step| step * 3).collect();
    let next = Shape { first_step: 4_000, run: 2, ..shape() };
    drop(Progress::create(&path, next, &birth(), &waiting).expect("created"));
    let (_, state) = found(&path);
    assert_eq!((state.run, state.first_step), (2, 4_000));
    assert_eq!(state.threads[0].waiting, waiting);
    assert_eq!(state.restart(Mode::Complete).step, 4_000);
    assert_eq!(state.floor, 0);
    assert!(!sibling(&path, "new").exists());
}

#[test]
fn a_complete_scan_leaves_a_note_or_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("scan.swath");
    let progress = Progress::create(&path, shape(), &birth(), &[]).expect("created");
    let closing =
        Closing { outputs: vec!["a.csv".into()], manifest: serde_json::json!({"status": "complete"}) };
    progress.close(&closing).expect("closed");
    drop(progress);
    match read(&path).expect("a note") {
        Found::Complete(note) => assert_eq!(*note, closing),
        Found::Open(_) => panic!("it is complete"),
    }
    let progress = Progress::create(&path, shape(), &birth(), &[]).expect("created again");
    progress.remove();
    assert!(read(&path).is_err());
}

#[test]
fn files_that_are_no_checkpoint_are_refused_by_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("scan.swath");
    for (content, why) in [
        (&b""[..], "no checkpoint"),
        (b"short", "no checkpoint"),
        (&[7; 4096], "no checkpoint"),
        (b"{\"a\":1}", "no closing note"),
    ] {
        std::fs::write(&path, content).expect("written");
        let error = read(&path).expect_err("refused").to_string();
        assert!(error.contains("scan.swath") && error.contains(why), "{error}");
    }
    std::fs::remove_file(&path).expect("removed");
    drop(Progress::create(&path, shape(), &birth(), &[]).expect("created"));
    let whole = std::fs::read(&path).expect("read");
    for (word, value, why) in [
        (word::VERSION, 2, "version 2"),
        (word::WORDS, 9, "no"),
        (word::SLOTS, 3, "parts"),
        (word::THREADS, u64::MAX, "parts"),
        (word::TEXT_HASH, 0, "damaged"),
        (word::TAIL_BYTES, u64::MAX, "damaged"),
    ] {
        let mut bytes = whole.clone();
        bytes[word * 8..word * 8 + 8].copy_from_slice(&u64::to_le_bytes(value));
        std::fs::write(&path, bytes).expect("written");
        let error = read(&path).expect_err("refused").to_string();
        assert!(error.contains(why), "{error}");
    }
    for length in [64, 512, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).expect("written");
        read(&path).expect_err("cut off");
    }
}
