//! Forged replies by the million, for every probe: whoever cannot see the probes is believed as often as the grade in the
//! record says, and never with the strong one.
//!
//! A forger knows everything but the key: the target, our address, the range of ports, the shape of a reply. What is
//! secret in a reply is what differs between the replies to two strangers' keys; all of it is guessed.

use std::collections::BTreeMap;

use swath::cookie::{CookieKey, SourcePorts};
use swath::event::Proof;
use swath::probe::{Judge, Judgement, PROBES, Probe};
use swath::target::Target;
use swath::wire::{self, Frame};

use super::case::Lots;
use super::number;

/// A golden reply as strangers would get it, and the bits in which theirs differ.
struct Forgery {
    name: &'static str,
    frame: Vec<u8>,
    secret: Vec<u8>,
}

fn judge(key: [u8; 16], ports: SourcePorts) -> Judge {
    let sources = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().expect("address"));
    Judge::new(CookieKey::new(key), ports, 1, sources.to_vec())
}

/// The believable replies to a probe of a target.
fn forgeries(probe: &dyn Probe, target: &Target, ports: SourcePorts) -> Vec<Forgery> {
    let mut lots = Lots::new(3);
    let mut key = || {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&lots.bits().to_le_bytes());
        key[8..].copy_from_slice(&lots.bits().to_le_bytes());
        key
    };
    let first = probe.samples(target, &judge(key(), ports));
    let forgery = |sample: swath::probe::Sample| Forgery {
        name: sample.name,
        secret: vec![0; sample.frame.len()],
        frame: sample.frame,
    };
    let mut all: Vec<Forgery> = first.into_iter().map(forgery).collect();
    for _ in 0..STRANGERS {
        for sample in probe.samples(target, &judge(key(), ports)) {
            for forgery in all.iter_mut().filter(|forgery| forgery.name == sample.name) {
                let bytes = sample.frame.iter().zip(&forgery.frame);
                forgery
                    .secret
                    .iter_mut()
                    .zip(bytes)
                    .for_each(|(secret, (one, other))| *secret |= one ^ other);
            }
        }
    }
    all
}

/// Sends `count` forgeries of one kind; returns how many were believed, by grade.
fn flood(probe: &dyn Probe, forgery: &Forgery, judge: &Judge, count: u64, lots: &mut Lots) -> [u64; 3] {
    let mut believed = [0; 3];
    let mut frame = forgery.frame.clone();
    for _ in 0..count {
        for (at, secret) in forgery.secret.chunks(8).enumerate().filter(|(_, secret)| **secret != [0; 8]) {
            let random = lots.bits().to_le_bytes();
            for (byte, (mask, random)) in secret.iter().zip(random).enumerate() {
                frame[at * 8 + byte] = forgery.frame[at * 8 + byte] ^ (mask & random);
            }
        }
        if let Ok(Frame::Segment(segment)) = wire::read(&frame)
            && let Judgement::Reply(record) = probe.classify(1, &segment, judge)
        {
            believed[record.proof as usize - Proof::Weak as usize] += 1;
        }
    }
    believed
}

/// `SWATH_FLOOD=1000000000` sends so many for each probe, `SWATH_FLOOD_ONLY=syn,udp,icmp` to these; what is measured is
/// printed.
#[test]
fn forged_replies_are_believed_no_more_often_than_their_grade_says() {
    let each = number("SWATH_FLOOD").unwrap_or(FLOOD);
    let only = std::env::var("SWATH_FLOOD_ONLY").ok();
    let is_asked = |name: &str| only.as_ref().is_none_or(|only| only.split(',').any(|asked| asked == name));
    for (size, what) in [(16_384, "all ports"), (16, "four bits of ports")] {
        let ports = SourcePorts::new(16_384, size).expect("a power of two");
        let judge = judge(*b"a key for tests!", ports);
        let mut lots = Lots::new(17);
        for probe in PROBES.iter().filter(|probe| is_asked(probe.name())) {
            let address = if probe.example().exists_in(false) { "198.18.0.7" } else { "2001:db8:1::7" };
            let target = Target { address: address.parse().expect("address"), port: probe.example() };
            let forgeries = forgeries(*probe, &target, ports);
            assert!(!forgeries.is_empty(), "{} believes nothing", probe.name());
            let (started, mut sent) = (std::time::Instant::now(), 0);
            let mut believed: BTreeMap<&str, u64> =
                Proof::ALL.iter().map(|proof| (proof.name(), 0)).collect();
            for forgery in &forgeries {
                let count = each.div_ceil(forgeries.len() as u64);
                let by_grade = flood(*probe, forgery, &judge, count, &mut lots);
                sent += count;
                // The least that any grade stands for. A reply that brings nothing back (an IP protocol that answers at all)
                // is believed always, and never called more than weak.
                let echoes = forgery.secret.iter().any(|bits| *bits != 0);
                let bits = [if echoes { ports.bits(1).min(14) } else { 0 }, 24, 40];
                if !echoes {
                    println!("{:<14} {}: echoes nothing, always weak", probe.name(), forgery.name);
                }
                for ((proof, found), bits) in Proof::ALL.iter().zip(by_grade).zip(bits) {
                    // An answer that fits several questions of a scan is held against the cookie of each.
                    let chances = probe.protocols().len() as f64;
                    let bound = chances * count as f64 / 2f64.powi(bits as i32);
                    let margin = 1.1 * bound + 4.0 * bound.sqrt() + if bits == 40 { 0.0 } else { 2.0 };
                    *believed.entry(proof.name()).or_default() += found;
                    assert!(
                        found as f64 <= margin && (*proof != Proof::Strong || found == 0),
                        "{}, {}: {found} of {count} believed as {}; at most {bound:.3} is predicted",
                        probe.name(),
                        forgery.name,
                        proof.name()
                    );
                }
            }
            let seconds = started.elapsed().as_secs_f64();
            println!("{:<14} {what}: {sent} forged in {seconds:.1} s, believed {believed:?}", probe.name());
        }
    }
}

const STRANGERS: usize = 64;
/// What every run of the tests sends for each probe.
const FLOOD: u64 = 100_000;
