//! What a scan is: the [`Plan`], the same on every machine, and the [`Setup`], how this machine does it.
//!
//! A plan cannot hold a bad scan: whoever builds one has refused it before. Its digest names the scan.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::batch::{Assigned, NextHops, Source};
use crate::closing::Who;
use crate::cookie::SourcePorts;
use crate::gate::Gate;
use crate::heavy::Limits;
use crate::link::{Backend, LinkInterface, Queues, Receive};
use crate::order::{self, Order, Sample, Shard};
use crate::pace::Rate;
use crate::path::Paths;
use crate::probe::{self, Dress, Probe};
use crate::target::{AddressSet, Space};
use crate::wire::ethernet::Mac;

/// What is scanned and how: targets, ports, probes, order, passes.
pub struct Plan {
    /// The targets.
    pub space: Arc<Space>,
    /// Seed of the order.
    pub seed: u64,
    /// Which part of the order this run does. Not in the digest: all shards are the same scan.
    pub shard: Shard,
    /// How often each target is probed.
    pub passes: u8,
    /// One of how many targets is probed a second time, to measure loss; none with more passes than one. Not in the
    /// digest: it measures the scan, which is the same without it.
    pub control: Option<u32>,
    /// The step of the order to begin with: not 0 when a scan that was stopped goes on. Not in the digest.
    pub first_step: u64,
    /// The probes: no two serve the same protocol number.
    pub probes: Vec<Arc<dyn Probe>>,
    /// How they look.
    pub dress: Dress,
    /// What may never be probed: what the user excluded, what is never probed, and the special-purpose prefixes
    /// that were swept over.
    pub excluded: AddressSet,
    /// How the targets came about, for people.
    pub tally: Tally,
}

/// How many addresses were given and what became of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Distinct addresses that were given.
    pub given: u128,
    /// Of those, special-purpose addresses that were swept over and not named.
    pub special: u128,
    /// Of those, addresses that are never probed.
    pub never: u128,
    /// Of the rest, addresses that the user excluded.
    pub excluded: u128,
    /// What is left.
    pub scanned: u128,
    /// The ports, normalised.
    pub ports: String,
}

impl Plan {
    /// The order of the targets.
    pub fn order(&self) -> Order {
        Order::new(self.space.len(), self.seed)
    }

    /// Number of targets of this run's shard.
    pub fn shard_targets(&self) -> u64 {
        let cursors = self.shard.cursors(self.space.len());
        cursors.end - cursors.start
    }

    /// The targets of this run's shard that are probed a second time.
    pub fn sample(&self) -> Option<Sample> {
        let cursors = self.shard.cursors(self.space.len());
        self.control.map(|one_in| Sample::new(cursors, one_in, self.seed))
    }

    /// Probes of this run's shard from its first step on.
    pub fn probes_planned(&self) -> u64 {
        let steps = self.shard_targets().saturating_mul(u64::from(self.passes));
        let controls = self.sample().map_or(0, |sample| sample.len() - sample.block_from(self.first_step));
        steps.saturating_sub(self.first_step) + controls
    }

    /// What the passes wait for each other altogether; a control sample is a pass of its own.
    pub fn gaps(&self, pass_gap: Duration) -> Duration {
        pass_gap * (u32::from(self.passes) - 1 + u32::from(self.control.is_some()))
    }

    /// How many passes a reply may tell: those of the plan, and that of the control sample.
    pub fn passes_told(&self) -> u8 {
        self.passes + u8::from(self.control.is_some())
    }

    /// Ports of one address at most: no host has more.
    pub fn ports_of_a_host(&self) -> u64 {
        self.space.blocks().map(|block| block.ports.len() as u64).sum()
    }

    /// SHA-256 of everything that makes this scan what it is, as 64 hexadecimal digits.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(b"swath plan 1\n");
        hasher.update(order::VERSION);
        hasher.update(self.seed.to_be_bytes());
        hasher.update([self.passes, self.dress.ttl, self.dress.layout as u8]);
        for probe in &self.probes {
            hasher.update(probe.name());
            hasher.update([0]);
        }
        for assigned in self.example_templates() {
            hasher.update([assigned.protocol.0]);
            for port in assigned.ports.iter().flatten() {
                hasher.update(port.to_be_bytes());
            }
            hasher.update((assigned.template.frame_length() as u64).to_be_bytes());
            hasher.update(assigned.template.bytes());
        }
        self.space.feed(&mut |bytes| hasher.update(bytes));
        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The frames of this scan as from documentation addresses: the same on every machine.
    pub fn example_templates(&self) -> Vec<Assigned> {
        let source = |address| Source { address, mac: Mac::default(), vlan: None };
        let sources =
            [source(IpAddr::from([192, 0, 2, 1])), source(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]))];
        probe::templates(&self.probes, &sources, &self.dress)
    }

    /// The last gate: built from what is excluded, not from what is scanned. Special-purpose addresses that one spec
    /// swept over and another named are in the plan, so they pass.
    pub fn gate(&self) -> Gate {
        Gate::new(self.excluded.v4.iter(), self.excluded.v6.iter())
    }
}

/// How this machine does a scan. Never part of the digest.
pub struct Setup {
    /// The link.
    pub backend: &'static Backend,
    /// What stands behind the colon of `--link NAME:ARGUMENT`.
    pub argument: Option<PathBuf>,
    /// Why this link, in words.
    pub chosen: &'static str,
    /// The interface; none for links that keep their frames.
    pub interface: Option<LinkInterface>,
    /// Where probes come from, one for each family.
    pub sources: Vec<Source>,
    /// Those of their addresses that no interface of this host has: swath answers who has them.
    pub answers_for: Vec<IpAddr>,
    /// Which ports they come from.
    pub ports: SourcePorts,
    /// How destinations are reached.
    pub paths: Paths,
    /// The next hops; gateways have the first slots.
    pub hops: NextHops,
    /// The gateways and the slots of their link-layer addresses.
    pub gateways: Vec<Gateway>,
    /// On-link neighbours that the kernel knows.
    pub neighbours: Vec<(IpAddr, Mac)>,
    /// How many threads send and receive: one for each queue.
    pub queues: Queues,
    /// How answers are received.
    pub receive: Receive,
    /// Who closes half-open connections.
    pub closes: Who,
    /// Whether each of them keeps to a processor of its own.
    pub pin: bool,
    /// The rate law.
    pub rate: Rate,
    /// Probes for each prefix in 1000 seconds, at most.
    pub prefix_cap: Option<u64>,
    /// Results of one host and of one prefix, at most.
    pub limits: Limits,
    /// How long a pass follows the end of the one before.
    pub pass_gap: Duration,
    /// How long to wait for replies after the last probe.
    pub wait: Duration,
    /// Whether to say how it goes.
    pub quiet: bool,
}

/// A router on the way to some targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gateway {
    /// Its slot in the next-hop table.
    pub hop: u16,
    /// Its address.
    pub address: IpAddr,
    /// Its link-layer address, when the kernel or the user knows it.
    pub mac: Option<Mac>,
}

/// Length of a frame on an Ethernet wire in bits: at least 60 bytes, and preamble, frame check sequence and gap.
pub fn wire_bits(frame_length: usize) -> u64 {
    (frame_length.max(60) as u64 + 24) * 8
}
