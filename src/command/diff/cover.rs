//! What a set of scans asked: rebuilt from their manifests, to the target.
//!
//! A manifest lists the targets of its plan, and says by seed, shard and steps which of them the run reached; the order
//! is a bijection with an inverse, so for each target the step at which it was asked is known. Where a plan has too
//! many ranges to list, its hash says whether the other side had the same one.
//!
//! Invariant: doubt is never coverage: a scan that crashed, or whose manifest contradicts itself, asked nothing.

use std::net::IpAddr;

use crate::event::{Manifest, Part, Status};
use crate::order::{self, Order, Shard};
use crate::target::{AddressSet, Space, Target, parse_ports};

/// What was asked.
pub(super) struct Cover {
    all: bool,
    scans: Vec<Scan>,
    /// Hashes of plans that were asked whole and are too large to list.
    whole: Vec<String>,
}

/// One run of a plan.
struct Scan {
    space: Space,
    order: Order,
    /// The cursors of its shard.
    cursors: std::ops::Range<u64>,
    /// The steps it took, of all passes.
    steps: std::ops::Range<u64>,
}

impl Cover {
    /// Every target there is.
    pub(super) fn everything() -> Cover {
        Cover { all: true, scans: Vec::new(), whole: Vec::new() }
    }

    /// What these scans asked.
    pub(super) fn of(manifests: &[Manifest]) -> Cover {
        let mut cover = Cover { all: false, scans: Vec::new(), whole: Vec::new() };
        for manifest in manifests {
            let whole =
                manifest.status == Status::Complete && manifest.shards == 1 && manifest.first_step == 0;
            if whole && !manifest.targets_sha256.is_empty() {
                cover.whole.push(manifest.targets_sha256.clone());
            }
            cover.scans.extend(Scan::of(manifest));
        }
        cover
    }

    /// Whether nothing is known.
    pub(super) fn is_unknown(&self) -> bool {
        !self.all && self.scans.is_empty() && self.whole.is_empty()
    }

    /// Whether a target, which `other` heard of, was asked.
    pub(super) fn asked(&self, target: &Target, other: &Cover) -> bool {
        self.all
            || self.scans.iter().any(|scan| scan.asked(target))
            // The same plan, asked whole here: what the other heard of is in it.
            || (other.scans.is_empty() && self.whole.iter().any(|hash| other.whole.contains(hash)))
    }
}

impl Scan {
    /// `None` when the manifest does not say what was asked.
    fn of(manifest: &Manifest) -> Option<Scan> {
        if manifest.order != order::VERSION {
            return None;
        }
        let parts: Option<Vec<_>> = manifest.coverage.as_ref()?.iter().map(part).collect();
        let space = Space::from_parts(parts?).ok().filter(|space| space.len() == manifest.targets)?;
        let cursors = Shard::new(manifest.shard, manifest.shards).ok()?.cursors(space.len());
        let size = cursors.end - cursors.start;
        let last = size.checked_mul(u64::from(manifest.passes))?;
        let end = match (manifest.status, manifest.summary.as_ref()) {
            (Status::Complete, _) => last,
            (Status::Interrupted | Status::Failed, Some(summary)) => {
                summary.resume_step.unwrap_or(last).min(last)
            }
            _ => return None,
        };
        let order = Order::new(space.len(), manifest.seed);
        Some(Scan { space, order, cursors, steps: manifest.first_step..end })
    }

    fn asked(&self, target: &Target) -> bool {
        let Some(number) = self.space.rank(target) else { return false };
        let cursor = self.order.cursor(number).0;
        let size = self.cursors.end - self.cursors.start;
        if !self.cursors.contains(&cursor) {
            return false;
        }
        // Its steps are offset, offset + size, ... one a pass; is one of them among those taken?
        let offset = cursor - self.cursors.start;
        let passes = self.steps.start.saturating_sub(offset).div_ceil(size);
        let step = offset + passes * size;
        self.steps.contains(&step)
    }
}

fn part(part: &Part) -> Option<(AddressSet, Vec<crate::target::Port>)> {
    let range = |text: &String| -> Option<(IpAddr, IpAddr)> {
        let (first, last) = text.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    let ranges: Option<Vec<_>> = part.addresses.iter().map(range).collect();
    let ports = parse_ports(&part.ports).ok()?;
    Some((AddressSet::from_ip_ranges(ranges?), ports.iter().collect()))
}
