//! A lab of a test's own (`scripts/lab`: two namespaces, no way out), and swath in it.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Ran, SWATH};

/// A lab of this test's own, gone when dropped, and by its watch when this process is killed.
pub(crate) struct Lab {
    pub(crate) name: String,
    pub(crate) directory: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Lab {
    /// None, and a word about it, where namespaces cannot be made.
    pub(crate) fn up() -> Option<Lab> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let required = std::env::var_os("SWATH_NETNS").is_some_and(|value| value == "required");
        let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        if !root {
            assert!(!required, "SWATH_NETNS=required, but namespaces need root");
            eprintln!("skipped: network namespaces need root");
            return None;
        }
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("scan-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let lab = Lab { name, directory: tempfile::tempdir().expect("a directory"), _alone: alone };
        lab.script(&["up"]);
        Some(lab)
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/lab"));
        command.args(words).current_dir(self.directory.path()).stdin(Stdio::null());
        command.env("SWATH_LAB", &self.name).env("SWATH_LAB_OWNER", std::process::id().to_string());
        command
    }

    /// Runs `scripts/lab WORDS`; standard output.
    #[track_caller]
    pub(crate) fn script(&self, words: &[&str]) -> String {
        let ran = Ran::of(&self.command(words).output().expect("scripts/lab runs"));
        ran.exits(0).out
    }

    #[track_caller]
    pub(crate) fn far(&self, line: &str) -> String {
        self.script(&["far"].into_iter().chain(line.split(' ')).collect::<Vec<_>>())
    }

    #[track_caller]
    pub(crate) fn near(&self, line: &str) -> String {
        self.script(&["exec"].into_iter().chain(line.split(' ')).collect::<Vec<_>>())
    }

    /// Loads rules into far's nftables.
    #[track_caller]
    pub(crate) fn far_rules(&self, rules: &str) {
        self.script(&["far", "nft", rules]);
    }

    /// Packets that a counter of far's table `inet test` has seen.
    #[track_caller]
    pub(crate) fn counted(&self, counter: &str) -> u64 {
        let text = self.far(&format!("nft list counter inet test {counter}"));
        let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
        words.nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no counter in {text}"))
    }

    /// swath in the near namespace; nothing but the lab can be reached from there. A scan that does not say otherwise has no
    /// control sample, so that what is planned is targets times passes.
    pub(crate) fn swath(&self, line: &str) -> Command {
        let is_scan = !line.starts_with(|first: char| first.is_ascii_alphabetic());
        let sample: &[&str] =
            if is_scan && !line.contains("--control-share") { &["--control-share", "0"] } else { &[] };
        let words = ["exec", SWATH].into_iter().chain(line.split_whitespace());
        self.command(&words.chain(sample.iter().copied()).collect::<Vec<_>>())
    }

    #[track_caller]
    pub(crate) fn scan(&self, line: &str) -> Ran {
        Ran::of(&self.swath(line).output().expect("swath runs"))
    }

    pub(crate) fn start(&self, line: &str) -> Child {
        self.swath(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("swath runs")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a file")
    }

    pub(crate) fn namespace(&self, side: &str) -> String {
        format!("{}-{side}", self.name)
    }

    /// What a sweep must find: every address times every port that far listens on everywhere, as far says.
    pub(crate) fn truth(&self, addresses: impl IntoIterator<Item = Ipv4Addr>) -> Vec<String> {
        let ports: Vec<String> = self.script(&["truth"]).lines().map(str::to_owned).collect();
        assert_eq!(ports, ["22", "80", "443"], "the lab as it promises to be");
        let all = addresses
            .into_iter()
            .flat_map(|address| ports.iter().map(move |port| format!("{address}:{port}")));
        let mut all: Vec<String> = all.collect();
        all.sort_unstable();
        all
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.command(&["down"]).output();
    }
}
