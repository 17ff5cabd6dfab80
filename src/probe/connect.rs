//! The connect probe: the operating system is asked for a connection, and what it says is the verdict. Needs no
//! privilege; costs a whole handshake each.
//!
//! The proof is the kernel's: it believes an answer only when it acknowledges its own number at its own port, and an
//! ICMP error only when it quotes both.

use super::{Dress, Judge, Judgement, Probe, Sample, tcp};
use crate::batch::{Assigned, Source};
use crate::event::{Proof, Reason, Record, State};
use crate::target::{Port, Protocol, Target};
use crate::wire::outcome::{self, Outcome, Report};
use crate::wire::{Segment, Transport};

/// TCP by the operating system's own connections.
pub struct Connect;

impl Connect {
    /// The name on the command line.
    pub const NAME: &'static str = "connect";
    /// The line for `--help`.
    pub const ABOUT: &'static str = "TCP by whole connections; needs no privilege (-sT)";
}

impl Probe for Connect {
    fn name(&self) -> &'static str {
        Connect::NAME
    }

    fn about(&self) -> &'static str {
        Connect::ABOUT
    }

    fn protocols(&self) -> &[Protocol] {
        &[Protocol::TCP]
    }

    /// The kernel makes the frames; these are like them, for the plan and for the last gate.
    fn templates(&self, source: &Source, dress: &Dress) -> Vec<Assigned> {
        tcp::SYN.templates(source, dress)
    }

    fn classify(&self, time_ns: u64, segment: &Segment<'_>, _judge: &Judge) -> Judgement {
        let Transport::Other { protocol: outcome::PROTOCOL, payload } = &segment.transport else {
            return Judgement::NotOurs;
        };
        let Ok(report) = Report::new(payload) else { return Judgement::NotOurs };
        let port = Port { protocol: Protocol::TCP, number: report.port };
        let (state, reason, proof) = verdict(report.outcome);
        let mut record = Record::new(Target { address: report.address, port }, report.address, state, reason);
        record.time_ns = time_ns;
        record.proof = proof;
        record.rtt_us = report.elapsed_us.max(1);
        record.pass = report.pass;
        Judgement::Reply(record)
    }

    fn silence(&self) -> State {
        State::Filtered
    }

    /// No frame of the network is about it.
    fn samples(&self, _target: &Target, _judge: &Judge) -> Vec<Sample> {
        Vec::new()
    }
}

/// What an outcome means (as nmap's -sT: nmap(1), port scanning techniques).
fn verdict(outcome: Outcome) -> (State, Reason, Proof) {
    match outcome {
        Outcome::Connected => (State::Open, Reason::SYN_ACK, Proof::Strong),
        Outcome::Refused => (State::Closed, Reason::CONN_REFUSED, Proof::Strong),
        Outcome::Reset => (State::Closed, Reason::RESET, Proof::Strong),
        Outcome::HostUnreachable => (State::Filtered, Reason::HOST_UNREACH, Proof::Medium),
        Outcome::NetUnreachable => (State::Filtered, Reason::NET_UNREACH, Proof::Medium),
        Outcome::Prohibited => (State::Filtered, Reason::ADMIN_PROHIBITED, Proof::Medium),
        Outcome::ProtocolUnreachable => (State::Filtered, Reason::PROTO_UNREACH, Proof::Medium),
        Outcome::Unreachable => (State::Filtered, Reason::DEST_UNREACH, Proof::Medium),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::{CookieKey, SourcePorts};
    use crate::wire::Frame;

    #[test]
    fn every_outcome_is_a_verdict_about_its_target_and_pass() {
        let ports = SourcePorts::new(16384, 16384).expect("valid");
        let judge = Judge::new(CookieKey::new([3; 16]), ports, 2, Vec::new());
        for (outcome, state, reason) in [
            (Outcome::Connected, State::Open, "syn-ack"),
            (Outcome::Refused, State::Closed, "conn-refused"),
            (Outcome::HostUnreachable, State::Filtered, "host-unreach"),
            (Outcome::Prohibited, State::Filtered, "admin-prohibited"),
        ] {
            let address = [198, 18, 0, 7].into();
            let bytes = Report { outcome, pass: 1, address, port: 22, elapsed_us: 0 }.to_bytes();
            let Ok(Frame::Segment(segment)) = outcome::read(&bytes) else { panic!("a report") };
            let Judgement::Reply(record) = Connect.classify(7, &segment, &judge) else { panic!("a reply") };
            assert_eq!((record.address(), record.port, record.pass, record.time_ns), (address, 22, 1, 7));
            assert_eq!((record.state, record.reason.name(), record.rtt_us), (state, reason, 1));
        }
    }
}
