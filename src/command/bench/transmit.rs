//! `swath bench tx`: how fast each link gets frames onto an interface, towards targets that the user names.
//!
//! The rules are those of a scan: the same plan, exclusions and last gate, and nothing is sent to an address that was not
//! named. Each round opens the link anew, so that rounds of several links can take turns.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use serde::Serialize;

use super::{Spread, json};
use crate::batch::{Assigned, Batch, LANES};
use crate::cli::build;
use crate::cli::{self, BenchTx, Request};
use crate::command::{Exit, complain};
use crate::cookie::CookieKey;
use crate::generate::Generator;
use crate::host::Host;
use crate::link::{BACKENDS, Backend, Filter, Link, LinkSpec, Queues, Receive, TxQueue};
use crate::order::Chunk;
use crate::path::Path;
use crate::plan::{Plan, Setup, wire_bits};
use crate::probe;
use crate::sys::perf::Instructions;
use crate::sys::{clock, ethtool};
use crate::target::{Cursor, Protocol};

/// A row of the table.
#[derive(Debug, Serialize)]
struct Row {
    link: &'static str,
    /// What was obtained, or why not.
    about: String,
    /// Frames a second, all threads together; none when the link does not open.
    pps: Option<Spread>,
    /// Nanoseconds of wall clock for each frame of a thread.
    ns: f64,
    /// Nanoseconds of processor time for each frame, in user space and kernel.
    cpu_ns: f64,
    /// In user space; none where the processor's counters cannot be read.
    instructions: Option<f64>,
    frames: u64,
    /// Frames that the interface refused at first.
    refused: u64,
    /// Share of the interface's line rate, where it has one.
    of_line: Option<f64>,
    bottleneck: &'static str,
}

/// Everything there is to say.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    interface: String,
    frame_bytes: usize,
    threads: usize,
    rounds: u32,
    seconds: f64,
    /// Frames a second that the interface's speed allows; none where the driver tells no speed.
    line_pps: Option<f64>,
    rows: Vec<Row>,
}

/// Runs the command.
pub(super) fn run(args: &BenchTx) -> Exit {
    match prepare(args).and_then(|bench| measure(&bench, args)) {
        Ok(report) => {
            let text = if args.length.json { json(&report) } else { table(&report) };
            let _ = std::io::stdout().write_all(text.as_bytes());
            if report.rows.iter().any(|row| row.pps.is_some()) { Exit::Done } else { Exit::Failed }
        }
        Err((error, exit)) => {
            complain(&format!("swath: {error}\n"));
            exit
        }
    }
}

type Refused = (String, Exit);

/// What is the same for all links.
struct Bench {
    plan: Plan,
    setup: Setup,
    templates: Vec<Assigned>,
    backends: Vec<&'static Backend>,
    interface: String,
}

fn prepare(args: &BenchTx) -> Result<Bench, Refused> {
    let usage = |error: String| (error, Exit::Usage);
    let backends = backends(&args.link).map_err(usage)?;
    let mut words = vec!["swath".into(), "--rate".into(), "max".into(), "--seed".into(), "1".into()];
    words.extend(["--link", "af_packet", "-p", &args.ports, "-e", &args.interface].map(Into::into));
    words.extend(args.exclude.iter().flat_map(|target| ["--exclude".into(), target.into()]));
    if let Some(mac) = &args.router_mac {
        words.extend(["--router-mac".into(), mac.into()]);
    }
    words.extend(args.targets.iter().map(Into::into));
    let Request::Scan(scan) = cli::parse(words).map_err(usage)? else {
        return Err(usage("name targets, as for a scan".to_owned()));
    };
    let plan = build::plan(&scan).map_err(|error| usage(error.to_string()))?;
    let setup = build::setup(&scan, &plan, Host::read).map_err(|error| usage(error.to_string()))?;
    next_hop(&setup).map_err(usage)?;
    let mut templates = probe::templates(&plan.probes, &setup.sources, &plan.dress);
    if let Some(bytes) = args.size {
        let padded = setup.sources.iter().map(|source| probe::padded_syn(source, &plan.dress, bytes));
        let assigned = |template| Assigned { protocol: Protocol::TCP, ports: None, template };
        templates =
            padded.map(|template| template.map(assigned)).collect::<Option<_>>().ok_or_else(|| {
                usage(format!(
                    "a frame of {bytes} bytes cannot be made: 54 to 1514 for IPv4, 74 to 1514 for IPv6"
                ))
            })?;
    }
    Ok(Bench { plan, setup, templates, backends, interface: args.interface.clone() })
}

/// The links by name, or all that transmit.
fn backends(name: &str) -> Result<Vec<&'static Backend>, String> {
    let transmits = |backend: &&Backend| backend.transmits && backend.name != "fastest";
    if name == "all" {
        return Ok(BACKENDS.iter().filter(transmits).collect());
    }
    let found: Vec<_> = BACKENDS.iter().filter(|backend| backend.transmits && backend.name == name).collect();
    if found.is_empty() {
        let names: Vec<&str> = BACKENDS.iter().filter(transmits).map(|backend| backend.name).collect();
        return Err(format!("there is no link '{name}' that transmits; there are all, {}", names.join(", ")));
    }
    Ok(found)
}

/// All targets must be reached by one station whose link-layer address is known: nothing is asked here.
fn next_hop(setup: &Setup) -> Result<(), String> {
    let known = setup.gateways.iter().find_map(|gateway| Some((gateway.hop, gateway.mac?)));
    match (setup.paths.only(), known) {
        (Some(Path::Hop(hop)), Some((of, mac))) if hop == of => {
            setup.hops.assign(hop, mac);
            Ok(())
        }
        (Some(Path::Hop(_)), _) if setup.gateways.is_empty() => Ok(()),
        _ => Err(
            "the next hop is not known, or there are several; name its link-layer address with --router-mac"
                .into(),
        ),
    }
}

/// What a round came to.
struct Round {
    frames: u64,
    refused: u64,
    wall_ns: u64,
    cpu_ns: u64,
    instructions: Option<u64>,
}

fn measure(bench: &Bench, args: &BenchTx) -> Result<Report, Refused> {
    let failed = |error: String| (error, Exit::Failed);
    let length = args.length;
    let mut results: Vec<Result<(String, Vec<Round>), String>> =
        bench.backends.iter().map(|_| Ok((String::new(), Vec::new()))).collect();
    for _ in 0..length.rounds {
        for (backend, result) in bench.backends.iter().zip(&mut results) {
            let Ok((about, rounds)) = result else { continue };
            match open(bench, backend, args.threads) {
                Ok(link) => {
                    about.clone_from(&link.about);
                    rounds.push(round(bench, link, length.seconds).map_err(failed)?);
                }
                Err(error) => *result = Err(error),
            }
        }
    }
    let frame_bytes = bench.templates.iter().map(|one| one.template.frame_length()).max().unwrap_or(0);
    let speed = ethtool::speed_mbps(&bench.interface).ok().flatten();
    let line_pps = speed.map(|speed| f64::from(speed) * 1e6 / wire_bits(frame_bytes) as f64);
    let rows = bench.backends.iter().zip(results);
    let rows = rows.map(|(backend, result)| row(backend.name, result, args.threads, line_pps)).collect();
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        interface: bench.interface.clone(),
        frame_bytes,
        threads: args.threads,
        rounds: length.rounds,
        seconds: length.seconds,
        line_pps,
        rows,
    })
}

fn open(bench: &Bench, backend: &Backend, threads: usize) -> Result<Link, String> {
    let link = (backend.open)(&LinkSpec {
        argument: None,
        interface: bench.setup.interface.clone(),
        templates: bench.templates.iter().map(|assigned| assigned.template.clone()).collect(),
        hops: bench.setup.hops.clone(),
        gate: Arc::new(bench.plan.gate()),
        filter: Filter {
            addresses: bench.setup.sources.iter().map(|source| source.address).collect(),
            port_first: bench.setup.ports.first(),
            port_last: bench.setup.ports.last(),
            any_protocol: false,
        },
        queues: Queues { tx: threads, rx: 1 },
        receive: Receive::Packet,
        attach: true,
    });
    link.map_err(|error| error.to_string())
}

/// All threads send until the time is over, each through its own part of the order, again and again.
fn round(bench: &Bench, link: Link, seconds: f64) -> Result<Round, String> {
    let threads = link.tx.len() as u64;
    let started_ns = clock::monotonic_ns();
    let rounds = std::thread::scope(|scope| {
        let senders = link
            .tx
            .into_iter()
            .zip(0u64..)
            .map(|(queue, index)| scope.spawn(move || send(bench, queue, (index, threads), seconds)));
        let senders: Vec<_> = senders.collect();
        let joined =
            senders.into_iter().map(|sender| sender.join().map_err(|_| "a thread panicked".to_owned())?);
        joined.collect::<Result<Vec<Round>, String>>()
    })?;
    let sum = |value: fn(&Round) -> u64| rounds.iter().map(value).sum::<u64>();
    let counted = rounds.iter().map(|round| round.instructions).sum::<Option<u64>>();
    Ok(Round {
        frames: sum(|round| round.frames),
        refused: sum(|round| round.refused),
        wall_ns: clock::monotonic_ns() - started_ns,
        cpu_ns: sum(|round| round.cpu_ns),
        instructions: counted,
    })
}

fn send(
    bench: &Bench,
    mut queue: Box<dyn TxQueue>,
    (index, threads): (u64, u64),
    seconds: f64,
) -> Result<Round, String> {
    let secrets = (CookieKey::new([0; 16]), bench.setup.ports);
    let (order, space) = (bench.plan.order(), Arc::clone(&bench.plan.space));
    let mut generator = Generator::new(order, space, secrets, &bench.templates);
    let targets = bench.plan.space.len();
    let (low, high) = (targets * index / threads, (targets * (index + 1) / threads).max(1));
    let mut counter = Instructions::counter();
    let mut count = || counter.as_mut().and_then(Instructions::value);
    let mut round = vec![Batch::empty(); queue.round_length()];
    let (mut accepted, mut first) = (Vec::new(), low.min(high - 1));
    let (mut frames, mut refused) = (0, 0);
    let (before, cpu_ns, started_ns) = (count(), clock::thread_cpu_ns(), clock::monotonic_ns());
    while ((clock::monotonic_ns() - started_ns) as f64) < seconds * 1e9 {
        for batch in &mut round {
            let count = (high - first).min(LANES as u64);
            generator.fill(Chunk { first: Cursor(first), count, pass: 0 }, batch);
            batch.hop = [0; LANES];
            first = if first + count == high { low.min(high - 1) } else { first + count };
        }
        queue.submit_round(&round, &mut accepted).map_err(|error| error.to_string())?;
        let left: u64 = accepted.iter().map(|one| u64::from(one.lanes.count_ones())).sum();
        frames += left;
        refused += round.iter().map(|batch| batch.len() as u64).sum::<u64>() - left;
    }
    let wall_ns = clock::monotonic_ns() - started_ns;
    let cpu_ns = clock::thread_cpu_ns() - cpu_ns;
    let instructions = before.zip(count()).map(|(before, after)| after - before);
    queue.finish().map_err(|error| error.to_string())?;
    Ok(Round { frames, refused, wall_ns, cpu_ns, instructions })
}

fn row(
    link: &'static str,
    result: Result<(String, Vec<Round>), String>,
    threads: usize,
    line_pps: Option<f64>,
) -> Row {
    let (about, rounds) = match result {
        Ok(both) => both,
        Err(about) => (about, Vec::new()),
    };
    let sum = |value: fn(&Round) -> u64| rounds.iter().map(value).sum::<u64>();
    let (frames, refused) = (sum(|round| round.frames), sum(|round| round.refused));
    let (wall_ns, cpu_ns) = (sum(|round| round.wall_ns) as f64, sum(|round| round.cpu_ns) as f64);
    let each = |total: f64| if frames == 0 { 0.0 } else { total / frames as f64 };
    let pps = rounds.iter().map(|round| round.frames as f64 * 1e9 / round.wall_ns as f64).collect::<Vec<_>>();
    let pps = (!pps.is_empty()).then(|| Spread::of(pps));
    let of_line = pps.zip(line_pps).map(|(pps, line)| pps.median / line);
    let busy = cpu_ns / (wall_ns * threads as f64).max(1.0);
    let counted = rounds.iter().map(|round| round.instructions).sum::<Option<u64>>().filter(|_| frames != 0);
    Row {
        link,
        about,
        pps,
        ns: each(wall_ns * threads as f64),
        cpu_ns: each(cpu_ns),
        instructions: counted.map(|instructions| each(instructions as f64)),
        frames,
        refused,
        of_line,
        bottleneck: bottleneck((of_line, busy), refused, frames),
    }
}

/// What holds the rate, in words.
fn bottleneck((of_line, busy): (Option<f64>, f64), refused: u64, frames: u64) -> &'static str {
    if frames == 0 {
        return "the link does not open";
    }
    match of_line {
        Some(share) if 0.95 <= share => "the line",
        _ if frames / 20 < refused => "the interface's queue: it refuses frames",
        _ if 0.9 <= busy => "the processor of the transmit threads",
        _ => "other work on the processors of the transmit threads",
    }
}

fn table(report: &Report) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<10} {:>8} {:>15} {:>7} {:>7} {:>6} {:>8} {:>7}  bottleneck",
        "link", "Mpps", "(min-max)", "ns", "CPU ns", "instr", "refused", "of line"
    );
    for row in &report.rows {
        let Some(pps) = row.pps else {
            let _ = writeln!(text, "{:<10} {:>8}  {}", row.link, "-", row.about);
            continue;
        };
        let mega = |pps: f64| format!("{:.2}", pps / 1e6);
        let of_line = row.of_line.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0));
        let instructions = row.instructions.map_or_else(|| "-".to_owned(), |number| format!("{number:.0}"));
        let spread = format!("({}-{})", mega(pps.min), mega(pps.max));
        let _ = writeln!(
            text,
            "{:<10} {:>8} {spread:>15} {:>7.0} {:>7.0} {instructions:>6} {:>8} {of_line:>7}  {}",
            row.link,
            mega(pps.median),
            row.ns,
            row.cpu_ns,
            row.refused,
            row.bottleneck
        );
    }
    let _ = writeln!(
        text,
        "\nswath {}, {} on {}, frames of {} bytes; median of {} rounds of {} s, links in turn.",
        report.version,
        if report.threads == 1 { "one thread".to_owned() } else { format!("{} threads", report.threads) },
        report.interface,
        report.frame_bytes,
        report.rounds,
        report.seconds
    );
    match report.line_pps {
        Some(line) => {
            let _ = writeln!(text, "The line carries {:.2} Mpps of such frames.", line / 1e6);
        }
        None => text.push_str("The driver tells no speed, so there is no line rate.\n"),
    }
    for row in report.rows.iter().filter(|row| row.pps.is_some()) {
        let _ = writeln!(text, "{}", row.about);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_named_or_all_that_transmit() {
        assert_eq!(backends("af_packet").expect("a link").len(), 1);
        let all: Vec<&str> = backends("all").expect("links").iter().map(|backend| backend.name).collect();
        assert!(all.contains(&"xdp_live") && !all.contains(&"null") && !all.contains(&"fastest"), "{all:?}");
        assert!(backends("null").is_err_and(|error| error.contains("af_packet")));
    }

    #[test]
    fn the_bottleneck_is_told_in_words() {
        assert_eq!(bottleneck((Some(0.97), 1.0), 0, 100), "the line");
        assert_eq!(bottleneck((Some(0.1), 1.0), 0, 100), "the processor of the transmit threads");
        assert_eq!(bottleneck((None, 0.2), 50, 100), "the interface's queue: it refuses frames");
        assert_eq!(bottleneck((None, 0.2), 0, 0), "the link does not open");
    }
}
