//! What a scan promises when it is killed, told to exclude more, or the network changes under it: real processes in a
//! lab (`scripts/lab`), whose truth is enumerated by the far kernel. Needs root; without it the tests say that they were
//! skipped, or fail under `SWATH_NETNS=required`. `SWATH_KILLS` says how many instants the kill loop tries.
#![allow(clippy::print_stderr, reason = "skips are for the person who runs the tests")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{Ran, SWATH};

/// A lab of this test's own, gone when dropped, and by its watch when this process is killed.
struct Lab {
    name: String,
    directory: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Lab {
    /// None, and a word about it, where namespaces cannot be made.
    fn up() -> Option<Lab> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let required = std::env::var_os("SWATH_NETNS").is_some_and(|value| value == "required");
        if !fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
            assert!(!required, "SWATH_NETNS=required, but namespaces need root");
            eprintln!("skipped: network namespaces need root");
            return None;
        }
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("resume-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let lab = Lab { name, directory: tempfile::tempdir().expect("a directory"), _alone: alone };
        lab.script(&["up"]);
        Some(lab)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/lab"));
        command.args(words).current_dir(self.directory.path()).stdin(Stdio::null());
        command.env("SWATH_LAB", &self.name).env("SWATH_LAB_OWNER", std::process::id().to_string());
        command
    }

    /// Runs `scripts/lab WORDS`; standard output.
    #[track_caller]
    fn script(&self, words: &[&str]) -> String {
        Ran::of(&self.command(words).output().expect("scripts/lab runs")).exits(0).out
    }

    #[track_caller]
    fn far(&self, line: &str) -> String {
        self.script(&["far"].into_iter().chain(line.split(' ')).collect::<Vec<_>>())
    }

    #[track_caller]
    fn near(&self, line: &str) -> String {
        self.script(&["exec"].into_iter().chain(line.split(' ')).collect::<Vec<_>>())
    }

    /// Counts SYNs to addresses at far.
    fn count_syns(&self, name: &str, addresses: &str) {
        self.script(&[
            "far",
            "nft",
            &format!(
                "add table inet test; add counter inet test {name}; \
             add chain inet test in {{ type filter hook prerouting priority -300; }}; \
             add rule inet test in ip daddr {addresses} tcp flags & (syn|ack) == syn counter name {name}"
            ),
        ]);
    }

    #[track_caller]
    fn counted(&self, counter: &str) -> u64 {
        let text = self.far(&format!("nft list counter inet test {counter}"));
        let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
        words.nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no counter in {text}"))
    }

    fn swath(&self, line: &str) -> Command {
        self.command(&["exec", SWATH].into_iter().chain(line.split_whitespace()).collect::<Vec<_>>())
    }

    #[track_caller]
    fn scan(&self, line: &str) -> Ran {
        Ran::of(&self.swath(line).output().expect("swath runs"))
    }

    fn start(&self, line: &str) -> Child {
        self.swath(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("swath runs")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a file")
    }

    /// How often each address stands in NDJSON.
    fn addresses(&self, name: &str) -> BTreeMap<String, u32> {
        let mut found = BTreeMap::new();
        for line in self.read(name).lines() {
            let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
            *found.entry(record["ip"].as_str().expect("text").to_owned()).or_default() += 1;
        }
        found
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.command(&["down"]).output();
    }
}

/// Sends a signal to a process this test started.
fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
    assert!(status.expect("kill runs").success());
}

#[track_caller]
fn ended(mut child: Child, within: Duration) -> Ran {
    let started = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if within < started.elapsed() {
            let _ = child.kill();
            panic!("swath did not end within {within:?}");
        }
        sleep(Duration::from_millis(10));
    }
    Ran::of(&child.wait_with_output().expect("output"))
}

/// Random instants, the same in every run.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

// --- Killed -----------------------------------------------------------------------------------------------------------

#[test]
fn netns_a_scan_that_is_killed_again_and_again_loses_nothing_and_repeats_what_it_says() {
    let Some(lab) = Lab::up() else { return };
    let kills: u64 = std::env::var("SWATH_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let (rate, wait_s) = (20_000.0, 0.2);
    lab.count_syns("syns", "198.18.0.0/15");
    let (mut state, mut killed, mut scans, mut rounds) = (0x2545_f491_4f6c_dd1d, 0, 0u32, 0u32);
    let mut most_repeated = 0;
    while killed < kills {
        let (before, name) = (lab.counted("syns"), format!("{scans}.ndjson"));
        scans += 1;
        let mut line = format!(
            "198.18.0.0/18 -p80 --rate {rate} --wait {wait_s} --control-share 0 -q -o {name} -o {name}.db"
        );
        let mut runs = 0u64;
        loop {
            runs += 1;
            let mut child = lab.start(&line);
            // Some runs are longer than the window that the next one goes back, so that there is an end.
            sleep(Duration::from_millis(30 + random(&mut state) % 1_500));
            if child.try_wait().expect("a child").is_some() {
                ended(child, Duration::from_secs(1)).exits(0);
                break;
            }
            child.kill().expect("killed");
            child.wait().expect("ended");
            killed += 1;
            // Killed before it had begun: nothing was sent, and the outputs may be half made.
            let checkpoint = lab.path(&format!("{name}.swath"));
            let records = fs::read_to_string(lab.path(&name)).map_or(0, |text| text.lines().count());
            if checkpoint.exists() {
                line = format!("resume {name}.swath");
            } else if 1 < runs || records == 16_384 {
                // Killed when it was complete, between the removal of its checkpoint and its end.
                break;
            } else {
                for file in [name.clone(), format!("{name}.db")] {
                    let _ = fs::remove_file(lab.path(&file));
                }
            }
            assert!(runs < 40, "no end of {line}");
            if kills <= killed {
                // The last one runs to its end.
                lab.scan(&line).exits(0);
                runs += 1;
                break;
            }
        }
        let found = lab.addresses(&name);
        assert_eq!(found.len(), 16_384, "lost targets after {runs} runs");
        let twice = found.values().filter(|&&times| 1 < times).count();
        assert_eq!(twice, 0, "{twice} verdicts stand twice after {runs} runs");
        let repeated = lab.counted("syns") - before - 16_384;
        // The wait time, the quarter of a second until a commit, and the naps of the threads; and a round.
        let bound = (runs - 1) as f64 * (rate * (wait_s + 0.6) + 64.0);
        assert!(repeated as f64 <= bound, "{repeated} probes repeated in {runs} runs, the bound is {bound}");
        most_repeated = most_repeated.max(repeated / runs);
        rounds += u32::try_from(runs).expect("few");
        assert!(!lab.path(&format!("{name}.swath")).exists(), "a complete scan leaves no checkpoint");
    }
    eprintln!(
        "{killed} kills, {rounds} runs, {scans} scans: 0 lost, at most {most_repeated} probes repeated a kill"
    );
}

#[test]
fn netns_an_interrupted_scan_goes_on_and_repeats_nothing() {
    let Some(lab) = Lab::up() else { return };
    lab.count_syns("syns", "198.18.0.0/15");
    let child = lab.start("198.18.0.0/18 -p80 --rate 10k --wait 0.5 --control-share 0 -o a.ndjson");
    sleep(Duration::from_millis(700));
    signal(&child, "INT");
    let ran = ended(child, Duration::from_secs(5)).exits(130).balances();
    assert!(ran.err.contains("to go on: swath resume"), "{}", ran.err);
    let before = lab.counted("syns");
    assert!(0 < before && before < 16_384, "{before}");
    let ran = lab.scan("resume .").exits(0).balances();
    assert!(ran.err.contains("run 2 goes on") && ran.err.contains("nothing is probed twice"), "{}", ran.err);
    assert_eq!(lab.counted("syns"), 16_384);
    assert!(lab.addresses("a.ndjson").values().all(|&times| times == 1));
    assert_eq!(lab.addresses("a.ndjson").len(), 16_384);
}

#[test]
fn netns_exact_repeats_nothing_and_says_what_is_at_risk() {
    let Some(lab) = Lab::up() else { return };
    lab.count_syns("syns", "198.18.0.0/15");
    let mut child = lab.start("198.18.0.0/18 -p80 --rate 10k --wait 1 --control-share 0 -o a.ndjson");
    sleep(Duration::from_millis(900));
    child.kill().expect("killed");
    child.wait().expect("ended");
    let ran = lab.scan("resume a.ndjson.swath --resume=exact --rate 20k").exits(0).balances();
    assert!(ran.err.contains("AT RISK: replies to"), "{}", ran.err);
    let sent = lab.counted("syns");
    assert!((16_384 - 64..=16_384).contains(&sent), "{sent} of 16,384: at most the round is not known");
}

// --- Another plan -----------------------------------------------------------------------------------------------------

#[test]
fn netns_a_resumed_scan_is_the_same_scan_or_is_refused() {
    let Some(lab) = Lab::up() else { return };
    lab.count_syns("spared", "198.18.16.0/20");
    fs::write(lab.path("targets"), "198.18.0.0/18\n").expect("written");
    fs::write(lab.path("never"), "198.18.1.0/24\n").expect("written");
    let child = lab.start(
        "-iL targets --excludefile never -p80 --shard 1/1 --rate 8k --wait 0.2 --control-share 0 -o a.ndjson",
    );
    sleep(Duration::from_millis(600));
    signal(&child, "INT");
    ended(child, Duration::from_secs(5)).exits(130);
    let refused = |line: &str, why: &str| {
        let ran = lab.scan(line).exits(2);
        assert!(ran.err.contains(why), "{}", ran.err);
    };
    refused("resume . --shard 1/2", "it is shard 1/1, not 1/2");
    refused("resume . -p 81", "its ports are");
    refused("resume . --passes 2", "the digest of the plan differs");
    refused("resume nowhere", "nowhere");
    fs::write(lab.path("targets"), "198.18.0.0/17\n").expect("written");
    refused("resume .", "the digest of the plan differs");
    fs::write(lab.path("targets"), "198.18.0.0/18\n").expect("written");
    fs::write(lab.path("never"), "198.18.1.0/25\n").expect("written");
    refused("resume .", "128 addresses that were excluded are not any more, 198.18.1.128/25 first");
    // The same words once more: the checkpoint of a scan that is not complete is not gone over.
    refused("198.18.0.0/18 -p80 -o b.ndjson --checkpoint a.ndjson.swath", "swath resume a.ndjson.swath");
    // A list that has grown is followed.
    let before = lab.counted("spared");
    fs::write(lab.path("never"), "198.18.1.0/24\n198.18.16.0/20\n").expect("written");
    let ran = lab.scan("resume .").exits(0).balances();
    assert_eq!(lab.counted("spared"), before, "nothing more was sent there");
    assert_eq!(ran.ledger("probes ", "excluded"), 4_096 - before);
    let found = lab.addresses("a.ndjson");
    assert_eq!(found.len() as u64, 16_384 - 256 - 4_096 + before);
}

#[test]
fn netns_a_hangup_excludes_more_within_a_tenth_of_a_second() {
    let Some(lab) = Lab::up() else { return };
    lab.count_syns("spared", "198.18.128.0/17");
    fs::write(lab.path("never"), "203.0.113.0/24\n").expect("written");
    let child = lab.start("198.18.0.0/16 -p80 --rate 20k --wait 0.5 --excludefile never -o a.ndjson");
    sleep(Duration::from_millis(800));
    fs::write(lab.path("never"), "203.0.113.0/24\n198.18.128.0/17\n").expect("written");
    assert!(0 < lab.counted("spared"));
    signal(&child, "HUP");
    sleep(Duration::from_millis(100));
    let before = lab.counted("spared");
    let ran = ended(child, Duration::from_secs(10)).exits(0).balances();
    assert_eq!(lab.counted("spared"), before, "nothing more was sent there");
    assert!(ran.err.contains("32,768 addresses more are excluded from now on"), "{}", ran.err);
    assert!(10_000 < ran.ledger("probes ", "excluded"), "{}", ran.err);
    // Control probes of the excluded half are not sent either, so what was planned is what is accounted for.
    let child = lab.start("198.18.0.0/16 -p80 --rate 20k --wait 0.5 -o b.ndjson");
    sleep(Duration::from_millis(500));
    signal(&child, "HUP");
    ended(child, Duration::from_secs(10)).exits(130).balances();
}

// --- Loss, caps, shards -----------------------------------------------------------------------------------------------

#[test]
fn netns_a_control_sample_tells_what_one_pass_misses() {
    let Some(lab) = Lab::up() else { return };
    lab.script(&["far", "nft", "add table netdev test; add chain netdev test in { type filter hook ingress device far0 priority 0; }; add rule netdev test in ip protocol tcp numgen random mod 100 < 10 drop"]);
    let ran = lab
        .scan("198.18.0.0/16 -p80 --rate 30k --wait 0.5 --pass-gap 0.5 --control-share 1/16 -o a.ndjson")
        .exits(0)
        .balances();
    assert_eq!(ran.ledger("probes ", "planned"), 65_536 + 4_096);
    let line = ran.err.lines().find(|line| line.starts_with("loss ")).expect("an estimate");
    let percent: f64 = line
        .split("misses ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .and_then(|text| text.parse().ok())
        .expect("a number");
    // Ten per cent of the SYNs are lost; four standard deviations of 3,700 samples are two per cent.
    assert!((8.0..12.0).contains(&percent), "{line}");
    let plan = lab.scan("plan 198.18.0.0/16 -p80").exits(0);
    assert!(plan.line("control").contains("1,024 frames"), "{}", plan.out);
}

#[test]
fn netns_a_host_that_answers_for_everything_is_capped_and_told() {
    let Some(lab) = Lab::up() else { return };
    lab.script(&["far", "nft", "add table ip tarpit; add chain ip tarpit pre { type nat hook prerouting priority -100; }; add rule ip tarpit pre ip daddr 198.18.0.7 tcp dport 1-65535 redirect to :80"]);
    let ran = lab
        .scan("198.18.0.6/31 -p 1-5000 --rate 20k --wait 0.5 --max-results-per-host 100 -o a.ndjson -o b.txt")
        .balances();
    assert_eq!(ran.code, Some(4), "{}", ran.err);
    assert!(ran.err.contains("198.18.0.7 answers for everything: 4,900 open ports held back"), "{}", ran.err);
    for sink in ["a.ndjson", "b.txt"] {
        assert_eq!(ran.sink(sink), [103, 4_997, 4_900]);
    }
}

#[test]
fn netns_shards_are_joined_and_checked() {
    let Some(lab) = Lab::up() else { return };
    for index in 1..=3 {
        let output = if index == 2 { "2.db".to_owned() } else { format!("{index}.ndjson") };
        lab.scan(&format!(
            "198.18.0.0/20 -p80,22 --seed 9 --shard {index}/3 --rate {index}0k --wait 0.3 -o {output}"
        ))
        .exits(0);
    }
    let ran = lab.scan("merge 1.ndjson 2.db 3.ndjson -o whole.ndjson -o whole.db").exits(0);
    assert!(ran.err.contains("3 shards of 3, the whole plan; 8,192 results joined"), "{}", ran.err);
    assert_eq!(lab.read("whole.ndjson").lines().count(), 8_192);
    let ran = lab.scan("merge 1.ndjson 3.ndjson").exits(3);
    assert!(ran.err.contains("shard 2/3 is not there"), "{}", ran.err);
    lab.scan("198.18.0.0/20 -p80 --seed 9 --shard 2/3 --rate 20k --wait 0.3 -o other.ndjson").exits(0);
    let ran = lab.scan("merge 1.ndjson other.ndjson 3.ndjson").exits(3);
    assert!(ran.err.contains("of another scan"), "{}", ran.err);
}

// --- Pace, by the receiver's clock ------------------------------------------------------------------------------------

/// When each SYN arrived at far, and for which address: nanoseconds by the receiver's clock.
#[track_caller]
fn arrivals(lab: &Lab, during: impl FnOnce()) -> Vec<(u64, [u8; 4])> {
    let pcap = lab.path("far.pcap");
    let words = format!(
        "far tcpdump -i far0 -w {} -s 64 -B 16384 --time-stamp-precision=nano -U --immediate-mode -Z root",
        pcap.display()
    );
    let syns = "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn and dst net 198.18.0.0/15";
    let words: Vec<&str> = words.split(' ').chain([syns]).collect();
    let mut tcpdump = lab.command(&words).stderr(Stdio::null()).spawn().expect("tcpdump runs");
    while !fs::metadata(&pcap).is_ok_and(|file| 24 <= file.len()) {
        sleep(Duration::from_millis(10));
    }
    during();
    signal(&tcpdump, "INT");
    tcpdump.wait().expect("tcpdump ends");
    let bytes = fs::read(&pcap).expect("a capture");
    let (_, capture) = pcap_parser::parse_pcap(&bytes).expect("a capture");
    let frame = |block: &pcap_parser::LegacyPcapBlock<'_>| {
        let time_ns = u64::from(block.ts_sec) * 1_000_000_000 + u64::from(block.ts_usec);
        (time_ns, block.data[30..34].try_into().expect("an IPv4 frame"))
    };
    capture.blocks.iter().map(frame).collect()
}

/// The most frames in any window of that length.
fn most_within(times: &[u64], window_ns: u64) -> usize {
    let mut first = 0;
    let count = |index: usize| {
        while window_ns <= times[index].saturating_sub(times[first]) {
            first += 1;
        }
        index + 1 - first
    };
    (0..times.len()).map(count).max().unwrap_or(0)
}

#[test]
fn netns_no_burst_follows_a_stopped_process_or_a_link_that_fell() {
    let Some(lab) = Lab::up() else { return };
    let frames = arrivals(&lab, || {
        let child = lab.start("198.18.0.0/18 -p80 --rate 8k --wait 0.3 --control-share 0 -o none:");
        // `scripts/lab exec` replaces itself by swath, so this is swath's own number.
        for _ in 0..2 {
            sleep(Duration::from_millis(400));
            signal(&child, "STOP");
            sleep(Duration::from_millis(400));
            signal(&child, "CONT");
        }
        lab.near("ip link set near0 down");
        sleep(Duration::from_millis(400));
        lab.near("ip link set near0 up");
        let ran = ended(child, Duration::from_secs(20)).exits(0).balances();
        assert_eq!(ran.ledger("probes ", "sent"), 16_384);
    });
    let times: Vec<u64> = frames.iter().map(|(time_ns, _)| *time_ns).collect();
    assert!(16_000 <= times.len(), "{} frames were captured", times.len());
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
    assert!(300_000_000 < longest, "it was never stopped: {longest} ns is the longest gap");
    // sigma is 10 ms of the rate; what was granted when the process was stopped leaves when it goes on: a round of 64.
    let (sigma, late) = (80, 64);
    for (window_ns, earned) in [(1_000_000, 8), (10_000_000, 80), (100_000_000, 800), (1_000_000_000, 8_000)]
    {
        let most = most_within(&times, window_ns);
        assert!(most <= sigma + earned + late, "{most} frames in {window_ns} ns");
    }
}

#[test]
fn netns_every_24_keeps_its_cap_on_the_wire() {
    let Some(lab) = Lab::up() else { return };
    let frames = arrivals(&lab, || {
        let ran = lab
            .scan("198.18.0.0/22 -p80,22 --rate 20k --max-per-24 300 --wait 0.3 --control-share 0 -o none:")
            .exits(0)
            .balances();
        assert_eq!(ran.ledger("probes ", "sent"), 2_048);
    });
    assert_eq!(frames.len(), 2_048);
    for prefix in 0..4 {
        let of = frames.iter().filter(|(_, address)| address[2] == prefix);
        let times: Vec<u64> = of.map(|(time_ns, _)| *time_ns).collect();
        assert_eq!(times.len(), 512);
        // sigma of 300 a second is 3; one batch may be late.
        for (window_ns, earned) in [(10_000_000, 3), (100_000_000, 30), (1_000_000_000, 300)] {
            let most = most_within(&times, window_ns);
            assert!(most <= 3 + earned + 64, "{most} frames to 198.18.{prefix}.0/24 in {window_ns} ns");
        }
        let lasted = times[511] - times[0];
        assert!(1_500_000_000 < lasted, "512 at 300 a second took {lasted} ns");
    }
}

// --- A slow disk ------------------------------------------------------------------------------------------------------

/// The output is a pipe whose reader first takes nothing, then a megabyte a second, then all; and there is no disk to put
/// aside what waits. What is left is memory, and then sending must pause.
#[test]
fn netns_a_reader_slower_than_the_answers_pauses_sending_and_costs_no_record() {
    let Some(lab) = Lab::up() else { return };
    lab.count_syns("syns", "198.18.0.0/15");
    let pipe = lab.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let (rate, targets) = (100_000, 393_216);
    // The third port is closed, and told: every target is a record.
    let line = format!(
        "198.18.0.0/15 -p80,22,23 --show open,closed --rate {rate} --wait 1 --control-share 0 -o ndjson:pipe"
    );
    let program = ["exec", "env", "TMPDIR=/nowhere", SWATH].into_iter().chain(line.split(' '));
    let mut swath = lab.command(&program.collect::<Vec<_>>());
    let child = swath.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("swath runs");
    let mut reader = fs::File::open(&pipe).expect("opens when swath does");
    let mut sent = 0;
    let standstill = loop {
        sleep(Duration::from_millis(300));
        let now = lab.counted("syns");
        if now != 0 && now == sent {
            break now;
        }
        sent = now;
    };
    // The lane, the queue up to its mark, what pipe, sink and batches hold, and 50 ms of the rate.
    let most = 262_144 + 32_768 + 4 * 4_096 + rate / 20;
    assert!(262_144 < standstill && standstill <= most, "{standstill} probes left; {most} are allowed");
    let (started, mut bytes, mut chunk) = (Instant::now(), Vec::new(), vec![0; 16 << 10]);
    loop {
        let count = reader.read(&mut chunk).expect("reads");
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(&chunk[..count]);
        let due = Duration::from_micros(bytes.len() as u64);
        if started.elapsed() < Duration::from_secs(3) {
            sleep(due.saturating_sub(started.elapsed()));
        }
        if bytes.len() < 2 << 20 && (2 << 20) - chunk.len() <= bytes.len() {
            // Two megabytes in two seconds: sending follows what is taken.
            let more = lab.counted("syns") - standstill;
            assert!(more <= (2 << 20) / 100, "{more} probes left while two megabytes were taken");
        }
    }
    let ran = ended(child, Duration::from_secs(30)).exits(0).balances();
    assert_eq!(ran.ledger("probes ", "sent"), targets);
    let records = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let places: std::collections::BTreeSet<(String, u64)> = records
        .map(|line| serde_json::from_slice::<serde_json::Value>(line).expect("JSON"))
        .map(|value| {
            (value["ip"].as_str().expect("text").to_owned(), value["port"].as_u64().expect("a port"))
        })
        .collect();
    assert_eq!(places.len() as u64, ran.ledger("frames ", "accepted"));
    assert_eq!(places.len() as u64, targets, "answered by a kernel whose queue did not overflow");
}

// --- The network changes ----------------------------------------------------------------------------------------------

#[test]
fn netns_an_address_that_is_removed_ends_the_scan_with_its_checkpoint_unless_it_comes_back() {
    let Some(lab) = Lab::up() else { return };
    lab.count_syns("syns", "198.18.0.0/15");
    let line = "198.18.0.0/17 -p80 --rate 10k --wait 0.3 --control-share 0 --net-timeout 1 -o a.ndjson";
    let child = lab.start(line);
    sleep(Duration::from_millis(700));
    lab.near("ip addr del 192.0.2.1/24 dev near0");
    sleep(Duration::from_millis(50));
    let before = lab.counted("syns");
    let ran = ended(child, Duration::from_secs(6)).exits(1).balances();
    assert_eq!(lab.counted("syns"), before, "sent while paused");
    assert!(ran.err.contains("192.0.2.1 was removed from near0: sending pauses"), "{}", ran.err);
    assert!(ran.err.contains("--net-timeout") && ran.err.contains("swath resume"), "{}", ran.err);
    lab.near("ip addr add 192.0.2.1/24 dev near0");
    lab.near("ip route replace 198.18.0.0/15 via 192.0.2.2");
    lab.scan("resume .").exits(0).balances();
    assert_eq!(lab.addresses("a.ndjson").len(), 32_768);
}

#[test]
fn netns_a_gateway_with_a_new_address_and_a_link_that_falls_are_followed_and_told() {
    let Some(lab) = Lab::up() else { return };
    let child = lab.start("198.18.0.0/17 -p80 --rate 10k --wait 1 --control-share 0 -o a.db");
    sleep(Duration::from_millis(500));
    lab.far("ip link set far0 address 02:00:00:00:00:99");
    lab.near("ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:99 dev near0");
    sleep(Duration::from_millis(900));
    lab.near("ip link set near0 down");
    sleep(Duration::from_millis(500));
    lab.near("ip link set near0 up");
    let ran = ended(child, Duration::from_secs(20)).exits(0).balances();
    assert!(ran.err.contains("gateway 192.0.2.2 has 02:00:00:00:00:99 now"), "{}", ran.err);
    assert!(ran.err.contains("near0 went down: sending pauses"), "{}", ran.err);
    assert!(2 <= ran.err.matches("sending goes on after").count(), "{}", ran.err);
    assert_eq!(ran.ledger("probes ", "sent"), 32_768);
    let found = ran.ledger("frames ", "accepted");
    // Probes on the way when the gateway's address changed under them are lost on the wire: at most 0.2 s of them.
    assert!(32_768 - 2_500 <= found, "{found} of 32,768");
    let database = rusqlite::Connection::open(lab.path("a.db")).expect("a database");
    let manifest: String =
        database.query_row("SELECT manifest FROM scan", [], |row| row.get(0)).expect("a manifest");
    let manifest: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
    assert!(4 <= manifest["events"].as_array().expect("events").len(), "{}", manifest["events"]);
}
