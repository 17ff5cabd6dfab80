//! What the tests of the binary share: running it, and reading what it says.
#![allow(dead_code, reason = "each test binary uses a part of this")]

pub(crate) mod lab;
pub(crate) mod tshark;

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A finished run of swath.
pub(crate) struct Ran {
    /// Exit code; none when a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Ran {
    /// What came out, as text.
    pub(crate) fn of(output: &Output) -> Ran {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Itself, when it exited with this code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// The rest of the first line of standard output that starts with a word.
    #[track_caller]
    pub(crate) fn line(&self, word: &str) -> &str {
        let line = self.out.lines().find_map(|line| line.strip_prefix(word));
        line.unwrap_or_else(|| panic!("no line '{word}' in:\n{}", self.out)).trim()
    }

    /// The numbers of the closing equation that starts with a word, by name: `planned`, `sent` and so on.
    #[track_caller]
    pub(crate) fn ledger(&self, word: &str, name: &str) -> u64 {
        let line = self.err.lines().find(|line| line.starts_with(word) && line.contains(" = "));
        let line = line.unwrap_or_else(|| panic!("no ledger line '{word}' in:\n{}", self.err));
        let mut words = line.split([' ', ';', '(', ')']);
        let mut before = "";
        let wanted = name.split(' ').next().expect("a name");
        let number = words.find_map(|word| {
            let found = word == wanted;
            let number = std::mem::replace(&mut before, word);
            found.then_some(number)
        });
        let number = number.unwrap_or_else(|| panic!("no '{name}' in: {line}")).replace(',', "");
        number.parse().unwrap_or_else(|_| panic!("'{number}' before '{name}' in: {line}"))
    }

    /// What became of the accepted verdicts in the sink of that name: written, filtered, suppressed.
    #[track_caller]
    pub(crate) fn sink(&self, name: &str) -> [u64; 3] {
        let wanted = format!(" written to {name} + ");
        let line = self.err.lines().find(|line| line.starts_with("results ") && line.contains(&wanted));
        let line = line
            .unwrap_or_else(|| panic!("no sink '{name}' in:\n{}", self.err))
            .replace(&wanted, " written ");
        let numbers = line.split_whitespace().filter_map(|word| word.replace(',', "").parse().ok());
        let numbers: Vec<u64> = numbers.collect();
        let [accepted, written, filtered, suppressed] = numbers[..] else {
            panic!("four numbers in: {line}")
        };
        assert_eq!(written + filtered + suppressed, accepted, "{line}");
        assert_eq!(accepted, self.ledger("frames ", "accepted"), "{line}");
        [written, filtered, suppressed]
    }

    /// Fails unless the ledger balanced, by what swath says and by adding up its lines again.
    #[track_caller]
    pub(crate) fn balances(self) -> Ran {
        assert!(self.err.contains("the ledger balances"), "{}", self.err);
        let parts = ["sent", "excluded", "pending", "failed", "unsent"];
        let sum: u64 = parts.iter().map(|name| self.ledger("probes ", name)).sum();
        assert_eq!(sum, self.ledger("probes ", "planned"), "{}", self.err);
        let frames: u64 =
            ["not", "invalid", "duplicate", "accepted"].iter().map(|name| self.ledger("frames ", name)).sum();
        assert_eq!(frames, self.ledger("frames ", "seen"), "{}", self.err);
        self
    }
}

/// The program under test.
pub(crate) const SWATH: &str = env!("CARGO_BIN_EXE_swath");

/// Runs swath in a directory, with nothing on standard input.
#[track_caller]
pub(crate) fn swath(directory: &Path, arguments: &[&str]) -> Ran {
    let mut command = Command::new(SWATH);
    command.args(arguments).current_dir(directory).stdin(Stdio::null());
    Ran::of(&command.output().expect("swath runs"))
}
