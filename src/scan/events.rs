//! What happens to the network while a scan runs: the transmitter pauses at once, the host is looked at again, and the
//! scan goes on or ends with its checkpoint.
//!
//! `Guard` decides and is pure: it is given changes, views of the host and the time. What hears of changes is a
//! [`NetCtl`], so that tests tell what they like.
//!
//! Routes: the kernel takes a link's routes away when it goes down and does not bring all of them back. So after a link
//! event missing routes are no reason to stop: the scan goes on by the next hops it knows. Routes that were taken away
//! while the link stayed up, or that lead elsewhere now, are.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Control, Job, note, with};
use crate::event::NetworkEvent;
use crate::plan::{Plan, Setup};
use crate::sys::clock;
use crate::sys::netlink::Listener;
use crate::sys::rtnetlink::{self, Change};
use crate::target::AddressSet;
use crate::text::duration;
use crate::wire::ethernet::Mac;

/// Tells of changes.
pub trait NetCtl: Send {
    /// What changed, waiting for it a while at most; `None` when nothing will ever be told.
    fn changes(&mut self, timeout: Duration) -> Option<Vec<Change>>;
}

impl NetCtl for Listener {
    fn changes(&mut self, timeout: Duration) -> Option<Vec<Change>> {
        rtnetlink::changes(self, i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)).ok()
    }
}

/// Looks at the host again.
pub type Look = Box<dyn Fn(&Plan) -> View + Send + Sync>;

/// What a look at the host showed.
pub struct View {
    /// Whether the interface can send as it did: it is there, up, has a carrier, our addresses and room for our frames.
    pub usable: Result<(), String>,
    /// How the targets are reached now.
    pub routed: Result<Setup, String>,
}

/// What a scan relies on.
pub(super) struct Guard {
    index: u32,
    interface: String,
    mac: Mac,
    sources: Vec<IpAddr>,
    /// Longest packet that is sent, without its link-layer header.
    longest: u32,
    targets: AddressSet,
    /// Gateways, the slots of their link-layer addresses, and those addresses as they are used.
    gateways: Vec<(IpAddr, u16, Mac)>,
    /// Whether the link went down since sending was last known to be good.
    link_fell: bool,
    /// What the last look said of the gateways: a changed address counts when it is seen twice.
    seen: Option<Vec<(u16, Mac)>>,
}

/// What to do after a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on, with these gateways' new link-layer addresses.
    GoOn(Vec<(u16, Mac)>),
    /// Look again soon.
    Wait(String),
    /// End with the checkpoint: going on would send elsewhere than the scan began with.
    Stop(String),
}

impl Guard {
    pub(super) fn new(plan: &Plan, setup: &Setup, longest_frame: usize) -> Option<Guard> {
        let interface = setup.interface.as_ref()?;
        let gateways = setup.gateways.iter();
        let gateways = gateways.map(|gateway| (gateway.address, gateway.hop, setup.hops.mac(gateway.hop)));
        Some(Guard {
            index: interface.index,
            interface: interface.name.clone(),
            mac: interface.mac,
            sources: setup.sources.iter().map(|source| source.address).collect(),
            longest: u32::try_from(longest_frame.saturating_sub(14)).unwrap_or(u32::MAX),
            targets: plan.space.addresses(),
            gateways: gateways.collect(),
            link_fell: false,
            seen: None,
        })
    }

    /// Why a change is a reason to pause; `None` when it concerns nothing this scan relies on.
    pub(super) fn concerns(&mut self, change: &Change) -> Option<String> {
        let name = &self.interface;
        match change {
            Change::Link(link) if link.index == self.index => {
                let carrier = link.flags & UP_AND_RUNNING == UP_AND_RUNNING;
                self.link_fell |= !carrier;
                if !carrier {
                    Some(format!("{name} went down"))
                } else if link.mtu < self.longest {
                    Some(format!("the MTU of {name} is {}, our packets have {}", link.mtu, self.longest))
                } else if link.mac.is_some_and(|mac| Mac(mac) != self.mac) {
                    Some(format!("the address of {name} changed"))
                } else {
                    None
                }
            }
            Change::LinkGone(index) if *index == self.index => {
                self.link_fell = true;
                Some(format!("{name} is gone"))
            }
            Change::AddressGone(entry)
                if entry.index == self.index && self.sources.contains(&entry.address) =>
            {
                Some(format!("{} was removed from {name}", entry.address))
            }
            Change::Route(route) if self.leads_to_a_target(route.destination, route.prefix) => {
                Some(format!("a route to {}/{} changed", route.destination, route.prefix))
            }
            Change::Neighbour(entry) if entry.index == self.index => {
                let known = self.gateways.iter().find(|(address, _, _)| *address == entry.address);
                let mac = entry.mac.map(Mac).filter(|_| entry.state & VALID != 0)?;
                known.filter(|(_, _, used)| *used != mac).map(|(address, _, used)| {
                    format!("gateway {address} has {} now, not {}", shown(mac), shown(*used))
                })
            }
            Change::Lost => Some("more changed in the network than the kernel could tell".into()),
            _ => None,
        }
    }

    fn leads_to_a_target(&self, destination: IpAddr, prefix: u8) -> bool {
        let Ok(net) = ipnet::IpNet::new(destination, prefix) else { return true };
        let range = AddressSet::from_ip_ranges([(net.network(), net.broadcast())]);
        !range.intersect(&self.targets).is_empty()
    }

    /// Judges a look at the host.
    pub(super) fn judge(&mut self, view: &View, used: &Setup) -> Verdict {
        if let Err(why) = &view.usable {
            self.seen = None;
            return Verdict::Wait(why.clone());
        }
        let now = match &view.routed {
            Ok(now) => now,
            Err(_) if self.link_fell => {
                // By the next hops it knows.
                self.link_fell = false;
                return Verdict::GoOn(Vec::new());
            }
            Err(why) => return Verdict::Wait(why.clone()),
        };
        let gateways = |setup: &Setup| {
            setup.gateways.iter().map(|gateway| (gateway.hop, gateway.address)).collect::<Vec<_>>()
        };
        let sources = |setup: &Setup| setup.sources.iter().map(|source| source.address).collect::<Vec<_>>();
        if gateways(now) != gateways(used) || now.paths != used.paths || sources(now) != sources(used) {
            if self.link_fell && now.gateways.len() < used.gateways.len() {
                self.link_fell = false;
                return Verdict::GoOn(Vec::new());
            }
            return Verdict::Stop("the targets are reached another way now".into());
        }
        let changed = now.gateways.iter().filter_map(|gateway| {
            let mac = gateway.mac?;
            let used = self.gateways.iter().find(|(_, hop, _)| *hop == gateway.hop)?;
            (used.2 != mac).then_some((gateway.hop, mac))
        });
        let changed: Vec<(u16, Mac)> = changed.collect();
        if !changed.is_empty() && self.seen.as_ref() != Some(&changed) {
            self.seen = Some(changed);
            return Verdict::Wait("a gateway's address changed; asking again".into());
        }
        for (hop, mac) in &changed {
            if let Some(gateway) = self.gateways.iter_mut().find(|(_, known, _)| known == hop) {
                gateway.2 = *mac;
            }
        }
        (self.seen, self.link_fell) = (None, false);
        Verdict::GoOn(changed)
    }
}

/// The thread that hears of changes. `None` of a look means that there is nothing to watch.
pub(super) fn watch(job: &Job<'_>, control: &Control, ctl: Option<Box<dyn NetCtl>>) {
    let longest = job.templates.0.iter().map(|assigned| assigned.template.frame_length()).max().unwrap_or(0);
    let (Some(mut ctl), Some(look)) = (ctl, &job.persist.look) else { return };
    let Some(mut guard) = Guard::new(job.plan, job.setup, longest) else { return };
    while !control.ended.load(Ordering::Acquire) {
        let Some(changes) = ctl.changes(HEAR) else { return };
        let Some(why) = changes.iter().filter_map(|change| guard.concerns(change)).last() else { continue };
        // First of all: everything else may take its time.
        control.pause.store(true, Ordering::Release);
        let since_ns = job.now_ns();
        happened(control, format!("{why}: sending pauses"));
        if !go_on(job, control, (&mut guard, ctl.as_mut(), look), since_ns) {
            return;
        }
    }
}

/// Looks at the host until the scan can go on; false when it cannot.
fn go_on(
    job: &Job<'_>,
    control: &Control,
    (guard, ctl, look): (&mut Guard, &mut dyn NetCtl, &Look),
    since_ns: u64,
) -> bool {
    let timeout_ns = super::nanoseconds(job.persist.net_timeout);
    loop {
        if control.ended.load(Ordering::Acquire) || control.stop_tx.load(Ordering::Relaxed) {
            return false;
        }
        let paused_ns = job.now_ns() - since_ns;
        let reason = match guard.judge(&look(job.plan), job.setup) {
            Verdict::GoOn(gateways) => {
                for (hop, mac) in gateways {
                    job.setup.hops.assign(hop, mac);
                }
                control.pause.store(false, Ordering::Release);
                happened(control, format!("sending goes on after {}", duration(paused_ns as f64 / 1e9)));
                return true;
            }
            Verdict::Stop(why) => {
                control.fail(&format!("{why}; nothing was sent since it was noticed"));
                return false;
            }
            Verdict::Wait(why) => why,
        };
        if timeout_ns <= paused_ns {
            let waited = duration(timeout_ns as f64 / 1e9);
            control.fail(&format!("{reason}; waited {waited} (--net-timeout)"));
            return false;
        }
        for change in ctl.changes(LOOK_AGAIN).unwrap_or_default() {
            let _ = guard.concerns(&change);
        }
    }
}

/// Notes an event and says it.
fn happened(control: &Control, what: String) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "swath: {}", crate::text::harmless(&what));
    let event = NetworkEvent { time_us: clock::realtime_ns() / 1000, what };
    let full = with(&control.events, |events| {
        let room = events.len() < EVENTS_MAX;
        if room {
            events.push(event);
        }
        events.len() == EVENTS_MAX && room
    });
    if full {
        note(
            &control.remarks,
            format!("more than {EVENTS_MAX} network events: the manifest holds the first"),
        );
    }
}

fn shown(Mac(octets): Mac) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

/// `IFF_UP` and `IFF_LOWER_UP`: a carrier, not only the wish for one.
const UP_AND_RUNNING: u32 = 0x1_0001;
/// `NUD_REACHABLE`, `NUD_STALE`, `NUD_DELAY`, `NUD_PROBE`, `NUD_NOARP`, `NUD_PERMANENT`: states with an address.
const VALID: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80;
const HEAR: Duration = Duration::from_millis(20);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const EVENTS_MAX: usize = 1_000;
