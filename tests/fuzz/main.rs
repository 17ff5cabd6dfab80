//! Hostile bytes against everything that reads: the receive path from frame to sink, and the readers of targets, ports,
//! result files and scenarios. Runs on stable as a test: saved inputs (tests/corpus) first, then a slice of mutations that
//! is the same every time.
//!
//! `scripts/fuzz` goes on for as long as it is told: `SWATH_FUZZ_SECONDS`, `SWATH_FUZZ_SEED`, and `SWATH_FUZZ_SAVE=1` to
//! keep inputs that behaved in a new way. An input that breaks something is written into tests/corpus before the test
//! fails, and is a regression test from then on.

#![allow(
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "tests cast numbers they drew themselves, and say what they measured"
)]

mod mutate;
mod parsers;
mod receive;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mutate::Pool;
use parsers::READERS;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn corpus(name: &str) -> PathBuf {
    Path::new("tests/corpus").join(name)
}

/// The saved inputs of a folder, in the order of their names.
fn saved(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(corpus(name)).unwrap_or_else(|error| panic!("tests/corpus/{name}: {error}"));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("readable"))).collect()
}

fn save(name: &str, kind: &str, input: &[u8]) -> PathBuf {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let path = corpus(name).join(format!("{kind}-{:016x}", hasher.finish()));
    fs::write(&path, input).expect("saved");
    path
}

/// Changes inputs for as long as the settings say, or so many times; what breaks is saved before the test fails.
fn mutations(
    name: &str,
    seeds: Vec<Vec<u8>>,
    times: u64,
    most_bytes: usize,
    mut take: impl FnMut(&[u8]) -> u64,
) {
    let inputs: Vec<Vec<u8>> = saved(name).into_iter().map(|(_, input)| input).chain(seeds).collect();
    let seed = setting("SWATH_FUZZ_SEED").unwrap_or(1);
    let keep = setting("SWATH_FUZZ_SAVE").is_some_and(|save| save != 0);
    let until = setting("SWATH_FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut guarded = |input: &[u8]| {
        let caught = catch_unwind(AssertUnwindSafe(|| take(input)));
        caught.unwrap_or_else(|panic| {
            eprintln!("{name}: broken by {}", save(name, "crash", input).display());
            resume_unwind(panic)
        })
    };
    let mut pool = Pool::new(inputs.clone(), seed, most_bytes);
    for input in &inputs {
        pool.note(input, guarded(input));
    }
    let mut count = 0;
    while until.map_or(count < times, |until| count % 1024 != 0 || Instant::now() < until) {
        let input = pool.next();
        let behaviour = guarded(&input);
        if pool.note(&input, behaviour) && keep {
            save(name, "new", &input);
        }
        count += 1;
    }
    println!("{name}: {count} inputs from seed {seed}, {} behaviours", pool.behaviours());
    assert!(inputs.len().min(4) <= pool.behaviours(), "{name}: every input behaves alike; nothing is tested");
}

#[test]
fn no_frame_breaks_the_receive_path() {
    let mut path = receive::Path::new();
    mutations("receive", receive::golden(), 60_000, 2_048, |frame| path.take(frame));
    let written = path.finish();
    assert!(0 < written, "golden replies are written");
}

#[test]
fn no_text_or_file_breaks_its_reader() {
    for reader in READERS {
        let seeds = reader.seeds.iter().map(|text| text.as_bytes().to_vec()).collect();
        mutations(reader.name, seeds, 4_000, 16_384, reader.read);
    }
}

#[test]
fn every_saved_input_is_still_harmless() {
    let mut path = receive::Path::new();
    for (file, input) in saved("receive") {
        let caught = catch_unwind(AssertUnwindSafe(|| path.take(&input)));
        assert!(caught.is_ok(), "{}", file.display());
    }
    path.finish();
    for reader in READERS {
        for (file, input) in saved(reader.name) {
            assert!(catch_unwind(|| (reader.read)(&input)).is_ok(), "{}", file.display());
        }
    }
}
