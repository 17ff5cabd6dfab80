//! Probes: what is sent to a target and what an answer means. The trait [`Probe`] and the registry [`PROBES`].
//!
//! Contract of the family. `template` runs once per scan; `classify` is a pure function of the reply's bytes and of
//! the [`Judge`]. A reply is believed only when it brings back the target's cookie; everything it proves is in
//! the record's proof grade. `samples` are golden replies: the tests below judge each of them, and every prefix
//! of each.
//!
//! Invariant: probes never see a link, a clock or the key itself.

mod tcp_syn;

use std::net::IpAddr;

use crate::batch::{Source, Template};
use crate::cookie::{Cookie, CookieKey, SourcePorts};
use crate::event::{Invalid, Proof, Record};
use crate::target::{Protocol, Target};
use crate::wire::Segment;

pub use tcp_syn::Layout;

/// Every probe, in the order of `--help`.
pub const PROBES: &[&dyn Probe] = &[&tcp_syn::TcpSyn];

/// One kind of probe.
pub trait Probe: Sync {
    /// The name on the command line and in the manifest.
    fn name(&self) -> &'static str;

    /// One line for `--help`, at most 60 characters.
    fn about(&self) -> &'static str;

    /// The protocol of the targets it probes.
    fn protocol(&self) -> Protocol;

    /// The frame it sends, from one source.
    fn template(&self, source: &Source, dress: &Dress) -> Template;

    /// What a segment says that was received at `time_ns` (nanoseconds since the Unix epoch).
    fn classify(&self, time_ns: u64, segment: &Segment<'_>, judge: &Judge) -> Judgement;

    /// What each of many segments says: the dynamic call is made once for all of them.
    fn classify_all(&self, segments: &[(u64, Segment<'_>)], judge: &Judge, judgements: &mut Vec<Judgement>) {
        judgements.clear();
        judgements.extend(segments.iter().map(|(time_ns, segment)| self.classify(*time_ns, segment, judge)));
    }

    /// Golden replies to a probe of `target` as `judge` would have sent it, each with what it means.
    fn samples(&self, target: &Target, judge: &Judge) -> Vec<Sample>;
}

/// How a probe looks, where the user has a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dress {
    /// The TCP options of a SYN.
    pub layout: Layout,
    /// Time to live (hop limit).
    pub ttl: u8,
}

impl Default for Dress {
    fn default() -> Dress {
        Dress { layout: Layout::Mss, ttl: 64 }
    }
}

/// What a segment turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing that claims to answer this probe.
    NotOurs,
    /// Claims to answer and does not.
    Invalid(Invalid),
    /// A reply.
    Reply(Record),
}

/// A golden reply.
pub struct Sample {
    /// What it is.
    pub name: &'static str,
    /// The whole Ethernet frame.
    pub frame: Vec<u8>,
    /// What it means.
    pub expected: Expected,
}

/// What a golden reply means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// As [`Judgement::NotOurs`].
    NotOurs,
    /// As [`Judgement::Invalid`].
    Invalid(Invalid),
    /// A reply with this state and reason.
    Reply(crate::event::State, crate::event::Reason),
}

/// What is needed to believe a reply.
#[derive(Debug, Clone)]
pub struct Judge {
    key: CookieKey,
    ports: SourcePorts,
    passes: u8,
    sources: Vec<IpAddr>,
}

impl Judge {
    /// A judge of replies to probes from `sources` and `ports`, in `passes` passes.
    pub fn new(key: CookieKey, ports: SourcePorts, passes: u8, sources: Vec<IpAddr>) -> Judge {
        Judge { key, ports, passes, sources }
    }

    /// Whether a segment to this address is for us.
    #[inline]
    pub fn is_ours(&self, address: IpAddr) -> bool {
        self.sources.contains(&address)
    }

    /// Whether a port is one that probes come from.
    #[inline]
    pub fn is_source_port(&self, port: u16) -> bool {
        self.ports.contains(port)
    }

    /// The cookie of a target and the pass of a probe that came from `port`; `None` when no probe to this target
    /// comes from there.
    #[inline]
    pub fn verify(&self, target: &Target, port: u16) -> Option<(Cookie, u8)> {
        let cookie = self.key.cookie(target);
        self.ports.pass(cookie, port, self.passes).map(|pass| (cookie, pass))
    }

    /// The grade of a reply that brought back the source port and `bits` more secret bits.
    pub fn proof(&self, bits: u32) -> Proof {
        match bits + self.ports.bits(self.passes) {
            0..24 => Proof::Weak,
            24..40 => Proof::Medium,
            40.. => Proof::Strong,
        }
    }

    /// The source port of a probe.
    pub fn source_port(&self, target: &Target, pass: u8) -> u16 {
        self.ports.port(self.key.cookie(target), pass)
    }

    /// The cookie of a target, to write a probe or a golden reply.
    pub fn cookie(&self, target: &Target) -> Cookie {
        self.key.cookie(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Port;
    use crate::wire::{Frame, read};

    const SOURCE: &str = "192.0.2.1";

    fn judge() -> Judge {
        let ports = SourcePorts::new(16384, 16384).expect("valid");
        Judge::new(CookieKey::new(*b"a key for tests!"), ports, 2, vec![SOURCE.parse().expect("address")])
    }

    fn judged(probe: &dyn Probe, frame: &[u8], judge: &Judge) -> Judgement {
        match read(frame) {
            Ok(Frame::Segment(segment)) => probe.classify(0, &segment, judge),
            _ => Judgement::NotOurs,
        }
    }

    #[test]
    fn names_are_unique_and_descriptions_are_short() {
        for (index, probe) in PROBES.iter().enumerate() {
            assert!(PROBES[..index].iter().all(|other| other.name() != probe.name()));
            assert!(!probe.about().is_empty() && probe.about().len() <= 60, "{}", probe.name());
        }
    }

    #[test]
    fn every_golden_reply_means_what_it_says() {
        for probe in PROBES {
            let port = Port { protocol: probe.protocol(), number: 443 };
            let target = Target { address: "198.18.0.7".parse().expect("address"), port };
            let samples = probe.samples(&target, &judge());
            assert!(!samples.is_empty(), "{} has no samples", probe.name());
            for sample in samples {
                let expected = match judged(*probe, &sample.frame, &judge()) {
                    Judgement::NotOurs => Expected::NotOurs,
                    Judgement::Invalid(invalid) => Expected::Invalid(invalid),
                    Judgement::Reply(record) => {
                        assert_eq!(record.target(), target, "{}", sample.name);
                        assert_eq!(record.proof, Proof::Strong, "{}", sample.name);
                        Expected::Reply(record.state, record.reason)
                    }
                };
                assert_eq!(expected, sample.expected, "{}: {}", probe.name(), sample.name);
            }
        }
    }

    #[test]
    fn no_prefix_of_a_reply_panics_and_no_reply_convinces_another_key() {
        let stranger = Judge { key: CookieKey::new(*b"another key here"), ..judge() };
        for probe in PROBES {
            let port = Port { protocol: probe.protocol(), number: 443 };
            let target = Target { address: "198.18.0.7".parse().expect("address"), port };
            for sample in probe.samples(&target, &judge()) {
                for length in 0..sample.frame.len() {
                    let _ = judged(*probe, &sample.frame[..length], &judge());
                }
                let verdict = judged(*probe, &sample.frame, &stranger);
                assert!(!matches!(verdict, Judgement::Reply(_)), "{}", sample.name);
            }
        }
    }
}
