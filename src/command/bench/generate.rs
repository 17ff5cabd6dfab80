//! `swath bench generate`: how fast probes are made, for plans of many sizes and shapes.
//!
//! The loop is that of a scan without its waiting: cursor, order, target, cookie, batch, finished and gated frame,
//! digest of the null link. One thread.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use serde::Serialize;

use super::{Spread, json};
use crate::batch::{Batch, LANES};
use crate::cli::build;
use crate::cli::{self, Length, Request};
use crate::command::Exit;
use crate::cookie::CookieKey;
use crate::generate::{self, Generator};
use crate::host::Host;
use crate::link::{Filter, LinkSpec, Queues, Receive, TxQueue};
use crate::order::Chunk;
use crate::probe;
use crate::sys::clock;
use crate::sys::perf::Instructions;
use crate::sys::simd::Simd;
use crate::target::Cursor;

/// A plan to be measured.
struct Case {
    name: String,
    /// Options as a scan would have them.
    options: Vec<String>,
}

/// A row of the table.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    targets: u64,
    /// Probes a second of wall clock.
    pps: Spread,
    /// Nanoseconds of processor time, so that a busy machine blurs it less.
    cpu_ns_per_probe: Spread,
    /// In user space; none where the processor's counters cannot be read.
    instructions_per_probe: Option<f64>,
}

/// Everything there is to say.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    instructions_of: &'static str,
    rounds: u32,
    seconds: f64,
    rows: Vec<Row>,
}

/// Runs the command.
pub(super) fn run(length: Length) -> Exit {
    let rows = measure(&cases(), length);
    match rows {
        Ok(rows) => {
            let report = Report {
                version: env!("CARGO_PKG_VERSION"),
                instructions_of: Simd::best().name(),
                rounds: length.rounds,
                seconds: length.seconds,
                rows,
            };
            let text = if length.json { json(&report) } else { table(&report) };
            // A reader that left has read enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            Exit::Done
        }
        Err(error) => {
            eprintln!("swath: {error}");
            Exit::Failed
        }
    }
}

/// One dimension grows at a time: targets, ports, ranges; then layouts and families.
fn cases() -> Vec<Case> {
    let case = |name: &str, targets: &str, options: &[&str]| Case {
        name: name.to_owned(),
        options: [targets].iter().chain(options).map(|&option| option.to_owned()).collect(),
    };
    let mut cases = vec![
        case("2^16 targets", "198.18.0.0/16", &["-p", "80"]),
        case("2^24 targets", "44.0.0.0/8", &["-p", "80"]),
        case("whole IPv4, one port", "0.0.0.0/0", &["-p", "443"]),
        case("2^40 targets", "44.0.0.0/8", &["-p", "0-65535"]),
        case("whole IPv4, all ports", "0.0.0.0/0", &["-p", "0-65535"]),
    ];
    for ports in ["1", "1-16", "1-256", "1-4096", "0-65535", "22,80,443,8080,8443"] {
        cases.push(case(&format!("2^17 addresses, ports {ports}"), "198.18.0.0/15", &["-p", ports]));
    }
    for count in [1, 16, 1_024, 65_536, 1_000_000] {
        cases.push(case(&format!("{count} single addresses"), &singles(count).join(","), &["-p", "0-65535"]));
    }
    for count in [16, 1_024, 65_536, 1_000_000] {
        cases.push(case(
            &format!("{count} ranges of 200 addresses"),
            &wide(count).join(","),
            &["-p", "1-64"],
        ));
    }
    for layout in ["windows", "linux", "bare"] {
        cases.push(case(&format!("layout {layout}"), "198.18.0.0/15", &["-p", "1-256", "--layout", layout]));
    }
    for (name, option) in
        [("FIN", "-sF"), ("ACK", "-sA"), ("UDP", "-sU"), ("SCTP INIT", "-sY"), ("SCTP COOKIE-ECHO", "-sZ")]
    {
        cases.push(case(name, "198.18.0.0/15", &["-p", "1-256", option]));
    }
    cases.push(case("IP protocols", "198.18.0.0/15", &["-sO", "-p", "1,2,6,17,47,99,132"]));
    cases.push(case("ICMP echo", "198.18.0.0/15", &["-sn", "-PE"]));
    cases.push(case("several kinds", "198.18.0.0/15", &["-p", "T:80,U:53,S:36412", "-PE"]));
    cases.push(case("IPv6", "2001:db8::/80", &["-p", "80"]));
    cases.push(case("IPv6, UDP", "2001:db8::/80", &["-p", "U:80"]));
    cases
}

/// So many addresses, none beside another, in 16.0.0.0 to 95.255.255.255, unevenly spread.
fn singles(count: u32) -> Vec<String> {
    let step = 0x5000_0000 / count;
    let address =
        |index: u32| 0x1000_0000 + index * step + index.wrapping_mul(0x9e37_79b9) % (step - 1).clamp(1, 997);
    (0..count).map(|index| std::net::Ipv4Addr::from(address(index)).to_string()).collect()
}

/// So many ranges of 200 addresses each, evenly spread.
fn wide(count: u32) -> Vec<String> {
    let step = 0x5000_0000 / count;
    let range = |index: u32| {
        let first = std::net::Ipv4Addr::from(0x1000_0000 + index * step);
        let last = std::net::Ipv4Addr::from(0x1000_0000 + index * step + 199);
        format!("{first}-{last}")
    };
    (0..count).map(range).collect()
}

/// The loop of one plan.
struct Loop {
    generator: Generator,
    queue: Box<dyn TxQueue>,
    targets: u64,
}

fn prepare(case: &Case) -> Result<Loop, String> {
    let fixed = ["--link", "null", "--rate", "max", "--seed", "1"].map(OsString::from);
    let words =
        std::iter::once(OsString::from("swath")).chain(case.options.iter().map(OsString::from)).chain(fixed);
    let Request::Scan(args) = cli::parse(words)? else { return Err("a case that is no scan".into()) };
    let plan = build::plan(&args).map_err(|error| error.to_string())?;
    let setup = build::setup(&args, &plan, Host::read).map_err(|error| error.to_string())?;
    let templates = generate::used(probe::templates(&plan.probes, &setup.sources, &plan.dress), &plan.space);
    let link = (setup.backend.open)(&LinkSpec {
        argument: None,
        interface: None,
        templates: templates.iter().map(|assigned| assigned.template.clone()).collect(),
        hops: setup.hops.clone(),
        gate: Arc::new(plan.gate()),
        filter: Filter {
            addresses: Vec::new(),
            port_first: setup.ports.first(),
            port_last: setup.ports.last(),
            any_protocol: false,
        },
        queues: Queues::ONE,
        receive: Receive::Packet,
        attach: true,
    });
    let queue = link.map_err(|error| error.to_string())?.tx.pop().ok_or("the null link has no queue")?;
    let secrets = (CookieKey::new([0; 16]), setup.ports);
    let generator = Generator::new(plan.order(), Arc::clone(&plan.space), secrets, &templates);
    Ok(Loop { generator, queue, targets: plan.space.len() })
}

/// What a round came to.
struct Round {
    probes: u64,
    wall_ns: u64,
    cpu_ns: u64,
    instructions: Option<u64>,
}

/// Measures all cases in turn, again and again: a slow minute of the machine hits all of them.
fn measure(cases: &[Case], length: Length) -> Result<Vec<Row>, String> {
    let mut loops = cases.iter().map(prepare).collect::<Result<Vec<Loop>, String>>()?;
    let mut rounds: Vec<Vec<Round>> = loops.iter().map(|_| Vec::new()).collect();
    let mut counter = Instructions::counter();
    for _ in 0..length.rounds {
        for (prepared, rounds) in loops.iter_mut().zip(&mut rounds) {
            rounds.push(round(prepared, &mut counter, length.seconds)?);
        }
    }
    let of = |rounds: &[Round], value: &dyn Fn(&Round) -> f64| Spread::of(rounds.iter().map(value).collect());
    let rows = cases.iter().zip(&loops).zip(&rounds).map(|((case, prepared), rounds)| {
        let counted = rounds.iter().all(|round| round.instructions.is_some());
        let instructions = |round: &Round| round.instructions.unwrap_or(0) as f64 / round.probes as f64;
        Row {
            name: case.name.clone(),
            targets: prepared.targets,
            pps: of(rounds, &|round| round.probes as f64 * 1e9 / round.wall_ns as f64),
            cpu_ns_per_probe: of(rounds, &|round| round.cpu_ns as f64 / round.probes as f64),
            instructions_per_probe: counted.then(|| of(rounds, &instructions).median),
        }
    });
    Ok(rows.collect())
}

/// Makes probes until the time is over, beginning anew at the end of the order.
fn round(prepared: &mut Loop, counter: &mut Option<Instructions>, seconds: f64) -> Result<Round, String> {
    let mut count = || counter.as_mut().and_then(Instructions::value);
    let before = count();
    let (wall_ns, cpu_ns) = (clock::monotonic_ns(), clock::thread_cpu_ns());
    let (mut batch, mut probes) = (Batch::empty(), 0);
    let mut first = 0;
    // The clock for each batch, as in a scan.
    while ((clock::monotonic_ns() - wall_ns) as f64) < seconds * 1e9 {
        let count = (prepared.targets - first).min(LANES as u64);
        prepared.generator.fill(Chunk { first: Cursor(first), count, pass: 0 }, &mut batch);
        prepared.queue.submit(&batch).map_err(|error| error.to_string())?;
        probes += count;
        first = if first + count == prepared.targets { 0 } else { first + count };
    }
    let (wall_ns, cpu_ns) = (clock::monotonic_ns() - wall_ns, clock::thread_cpu_ns() - cpu_ns);
    let instructions = before.zip(count()).map(|(before, after)| after - before);
    Ok(Round { probes, wall_ns, cpu_ns, instructions })
}

fn table(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |cells: [&str; 6]| {
        let [name, targets, median, spread, ns, instructions] = cells;
        let _ =
            writeln!(text, "{name:<36} {targets:>16} {median:>8} {spread:>15} {ns:>8} {instructions:>12}");
    };
    line(["plan", "targets", "Mpps", "(min-max)", "CPU ns", "instructions"]);
    for row in &report.rows {
        let mega = |pps: f64| format!("{:.1}", pps / 1e6);
        let instructions =
            row.instructions_per_probe.map_or_else(|| "-".to_owned(), |number| format!("{number:.0}"));
        line([
            &row.name,
            &row.targets.to_string(),
            &mega(row.pps.median),
            &format!("({}-{})", mega(row.pps.min), mega(row.pps.max)),
            &format!("{:.1}", row.cpu_ns_per_probe.median),
            &instructions,
        ]);
    }
    let _ = write!(
        text,
        "\nswath {}, one thread, {} instructions; median of {} rounds of {} s, null link.\n",
        report.version, report.instructions_of, report.rounds, report.seconds
    );
    if report.rows.iter().any(|row| row.instructions_per_probe.is_none()) {
        text.push_str(
            "Instructions: this processor, virtual machine or kernel lets nobody read its counters.\n",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_case_is_a_plan_of_its_own_name_and_makes_probes() {
        let mut cases = cases();
        cases.retain(|case| case.options[0].len() < 1 << 20);
        let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), cases.len());
        let length = Length { rounds: 1, seconds: 0.01, json: false };
        for row in measure(&cases, length).expect("rows") {
            assert!(0.0 < row.pps.median && 0.0 < row.cpu_ns_per_probe.min, "{row:?}");
        }
    }

    #[test]
    fn the_lists_of_ranges_hold_as_many_ranges_as_they_say() {
        for count in [1, 16, 1_024, 65_536] {
            assert_eq!(singles(count).iter().collect::<BTreeSet<_>>().len(), count as usize);
            assert_eq!(wide(count).len(), count as usize);
        }
    }
}
