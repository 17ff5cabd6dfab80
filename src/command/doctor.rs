//! `swath doctor`: what this host can do, link by link: usable or why not, and what to change. Sends nothing, needs no
//! privilege; with less of it, it says so and goes on.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use serde::Serialize;

use super::{Exit, complain};
use crate::batch::NextHops;
use crate::cli::DoctorArgs;
use crate::gate::Gate;
use crate::host::{Host, Interface, InterfaceKind};
use crate::link::{BACKENDS, Backend, Filter, Framing, LinkInterface, LinkSpec, Queues, Receive};
use crate::sys::{ethtool, facts};
use crate::text::grouped;
use crate::wire::ethernet::Mac;

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mark {
    Good,
    Note,
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    mark: Mark,
    what: String,
    /// What to do; empty when nothing.
    advice: String,
}

/// What is said of an interface.
#[derive(Debug, Serialize)]
struct Examined {
    interface: String,
    findings: Vec<Finding>,
    links: Vec<Finding>,
}

/// Everything there is to say.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    host: Vec<Finding>,
    interfaces: Vec<Examined>,
}

/// Runs the command. Failed when no link is usable on an interface that was named.
pub fn run(args: &DoctorArgs) -> Exit {
    let host = match Host::read() {
        Ok(host) => host,
        Err(error) => {
            complain(&format!("swath: {error}\n"));
            return Exit::Failed;
        }
    };
    let named = args.interface.as_deref().map(|name| host.interface(name));
    let interfaces: Vec<&Interface> = match named {
        Some(Err(error)) => {
            complain(&format!("swath: {error}\n"));
            return Exit::Usage;
        }
        Some(Ok(interface)) => vec![interface],
        None => host.interfaces.iter().filter(|interface| interface.up).collect(),
    };
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        host: host_findings(&host),
        interfaces: interfaces.into_iter().map(examine).collect(),
    };
    let text = if args.json { json(&report) } else { shown(&report) };
    let _ = std::io::stdout().write_all(text.as_bytes());
    let usable = |examined: &Examined| examined.links.iter().any(|link| link.mark == Mark::Good);
    if args.interface.is_some() && !report.interfaces.iter().all(usable) { Exit::Failed } else { Exit::Done }
}

fn good(what: String) -> Finding {
    Finding { mark: Mark::Good, what, advice: String::new() }
}

fn note(what: String, advice: &str) -> Finding {
    Finding { mark: Mark::Note, what, advice: advice.to_owned() }
}

fn bad(what: String, advice: &str) -> Finding {
    Finding { mark: Mark::Bad, what, advice: advice.to_owned() }
}

/// What is the same for every interface.
fn host_findings(host: &Host) -> Vec<Finding> {
    let mut findings = vec![privileges(host)];
    findings.extend(facts::kernel_release().map(|release| kernel(&release)));
    findings.push(match facts::locked_memory_limit() {
        None => good("any amount of memory may be locked".into()),
        Some(bytes) if 64 << 20 <= bytes => good(format!("{} MiB may be locked", bytes >> 20)),
        Some(bytes) => note(
            format!("{} KiB may be locked", bytes >> 10),
            "AF_XDP sockets of unprivileged processes need more: ulimit -l unlimited",
        ),
    });
    if facts::exists("/dev/net/tun") {
        findings.push(good("/dev/net/tun is there, which xdp_live needs".into()));
    } else {
        findings.push(bad("/dev/net/tun is missing, which xdp_live needs".into(), "modprobe tun"));
    }
    if let Some(most) = facts::number("/proc/sys/net/netfilter/nf_conntrack_max") {
        let used = facts::number("/proc/sys/net/netfilter/nf_conntrack_count").unwrap_or(0);
        findings.push(note(
            format!("connections are tracked: {} of {} entries used", grouped(used.into()), grouped(most.into())),
            "probes pass it by, but routers like this one on the way do not: a scan through one fills its table",
        ));
    }
    let (first, last) = host.local_port_range;
    findings.push(good(format!("own connections use ports {first} to {last}; probes keep out of them")));
    findings
}

fn privileges(host: &Host) -> Finding {
    let missing: Vec<&str> = facts::CAPABILITIES
        .iter()
        .filter(|(bit, _)| facts::effective_capabilities() & (1 << bit) == 0)
        .map(|(_, name)| *name)
        .collect();
    match missing.is_empty() {
        true => good("all privileges that links need".into()),
        false if host.can_send_raw => note(
            format!("missing: {}", missing.join(", ")),
            "packet sockets work; for XDP run as root, or setcap cap_net_raw,cap_net_admin,cap_bpf,cap_perfmon+ep swath",
        ),
        false => bad(
            format!("missing: {}", missing.join(", ")),
            "run as root, or once: setcap cap_net_raw,cap_net_admin+ep swath; plan, bench generate and --link null need none",
        ),
    }
}

fn kernel(release: &str) -> Finding {
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let what = format!("Linux {release}");
    match version {
        (6, 17..) | (7.., _) => good(what),
        (5, 18..) | (6, _) => note(what, "from 6.17 on, AF_XDP sends more than 32 frames a call"),
        _ => note(what, "xdp_live needs 5.18; an owner table of the packet filter 5.12"),
    }
}

fn examine(interface: &Interface) -> Examined {
    let mut findings = Vec::new();
    findings.push(match (interface.up, interface.carrier) {
        (true, true) => good(format!("up, {} addresses, MTU {}", interface.addresses.len(), interface.mtu)),
        (true, false) => bad("up, without carrier".into(), "check the cable"),
        (false, _) => bad("down".into(), &format!("ip link set {} up", interface.name)),
    });
    if let Ok(driver) = ethtool::driver(&interface.name) {
        let speed = ethtool::speed_mbps(&interface.name).ok().flatten();
        let speed = speed.map_or_else(String::new, |speed| format!(", {speed} Mbit/s"));
        findings.push(good(format!("driver {driver}{speed}")));
    }
    findings.extend(queues(interface));
    findings.extend(rings(interface));
    if ethtool::generic_receive_offload(&interface.name).is_ok_and(|on| on) {
        findings.push(good("GRO is on: the other end of a veth can send to it by XDP".into()));
    }
    let reverse =
        facts::number(&format!("/proc/sys/net/ipv4/conf/{}/rp_filter", interface.name)).unwrap_or(0);
    if reverse == 1 {
        findings.push(note(
            "rp_filter is strict".into(),
            "replies that come back another way are heard by swath, but the kernel does not close their connections; \
             --resets swath does",
        ));
    }
    let links = BACKENDS.iter().filter(|backend| backend.transmits && backend.name != "fastest");
    Examined {
        interface: interface.name.clone(),
        findings,
        links: links.map(|backend| link(backend, interface)).collect(),
    }
}

fn queues(interface: &Interface) -> Option<Finding> {
    let channels = ethtool::channels(&interface.name).ok()?;
    let what = format!("{} transmit and {} receive queues", channels.transmit, channels.receive);
    let more = channels.transmit < channels.transmit_most && channels.transmit < facts::processors();
    Some(match more {
        true => note(
            what,
            &format!("for --tx-threads: ethtool -L {} combined {}", interface.name, channels.transmit_most),
        ),
        false => good(what),
    })
}

fn rings(interface: &Interface) -> Option<Finding> {
    let rings = ethtool::rings(&interface.name).ok().filter(|rings| 0 < rings.receive_most)?;
    let what = format!("rings of {} received and {} sent frames", rings.receive, rings.transmit);
    Some(match rings.receive < rings.receive_most {
        true => note(
            what,
            &format!(
                "larger ones lose fewer replies: ethtool -G {} rx {}",
                interface.name, rings.receive_most
            ),
        ),
        false => good(what),
    })
}

/// Opens a link, without a template and behind a closed filter, and closes it.
fn link(backend: &Backend, interface: &Interface) -> Finding {
    let framing = match interface.kind {
        InterfaceKind::Ethernet => Framing::Ethernet,
        InterfaceKind::Loopback => Framing::Loopback,
        InterfaceKind::Bare => Framing::Bare,
        InterfaceKind::Other(kind) => {
            return bad(format!("{}: frames of kind {kind} cannot be written", backend.name), "");
        }
    };
    let spec = LinkSpec {
        argument: None,
        interface: Some(LinkInterface {
            name: interface.name.clone(),
            index: interface.index,
            mac: Mac(interface.mac),
            framing,
        }),
        templates: Arc::from([]),
        hops: NextHops::new(1),
        gate: Arc::new(Gate::open()),
        filter: Filter { addresses: Vec::new(), port_first: 1, port_last: 1, any_protocol: false },
        queues: Queues::ONE,
        receive: Receive::Packet,
        attach: false,
    };
    match (backend.open)(&spec) {
        Ok(link) => good(format!("{}: usable; {}", backend.name, link.about)),
        Err(error) => {
            let text = error.to_string();
            let prefix = format!("link {}: ", backend.name);
            bad(format!("{}: {}", backend.name, text.strip_prefix(&prefix).unwrap_or(&text)), "")
        }
    }
}

fn json(report: &Report) -> String {
    serde_json::to_string_pretty(report).map_or_else(|error| error.to_string(), |text| text + "\n")
}

fn shown(report: &Report) -> String {
    let mut text = format!("swath {} on this host\n", report.version);
    write_all(&mut text, &report.host);
    for examined in &report.interfaces {
        let _ = writeln!(text, "\n{}", examined.interface);
        write_all(&mut text, &examined.findings);
        text.push_str("  links\n");
        write_all(&mut text, &examined.links);
    }
    text.push_str(
        "\n--link auto is af_packet: the best that changes nothing on the interface. --link fastest takes the first of\n\
         xdp_live, af_xdp, af_packet that opens and whose first frames the interface counts, and receives past the kernel\n\
         where it can.\n",
    );
    text
}

fn write_all(text: &mut String, findings: &[Finding]) {
    for finding in findings {
        let mark = match finding.mark {
            Mark::Good => "+",
            Mark::Note => "~",
            Mark::Bad => "-",
        };
        let _ = writeln!(text, "  {mark} {}", finding.what);
        if !finding.advice.is_empty() {
            let _ = writeln!(text, "      {}", finding.advice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_judged_by_what_links_need() {
        assert_eq!(kernel("6.18.44-fc").mark, Mark::Good);
        assert_eq!(kernel("5.15.0-91-generic").mark, Mark::Note);
        assert!(kernel("5.15.0-91-generic").advice.contains("5.18"));
        assert_eq!(kernel("strange").mark, Mark::Note);
    }

    #[test]
    fn the_loopback_device_is_examined_without_privilege_and_without_panic() {
        let host = Host::read().expect("facts");
        let examined = examine(host.loopback().expect("lo"));
        let names: Vec<&str> = examined.links.iter().filter_map(|link| link.what.split(':').next()).collect();
        assert_eq!(names, ["af_packet", "af_xdp", "xdp_live", "pnet"]);
        let refused = examined.links.iter().find(|link| link.what.starts_with("xdp_live"));
        assert!(refused.is_some_and(|link| link.mark == Mark::Bad && link.what.contains("use af_packet")));
    }
}
