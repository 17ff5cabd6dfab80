//! The status line on standard error: redrawn every second on a terminal, a plain line every ten seconds elsewhere,
//! nothing with `--quiet`.

use std::io::{IsTerminal, Write};

use super::Job;
use crate::link::Backend;
use crate::text::{counted, duration, grouped, harmless, scaled};

/// Says what is about to happen.
pub(super) fn banner(job: &Job<'_>, link: &str) {
    if job.setup.quiet {
        return;
    }
    let setup = job.setup;
    let Backend { name, .. } = setup.backend;
    let interface =
        setup.interface.as_ref().map_or_else(String::new, |interface| format!(" on {}", interface.name));
    let source = setup.sources.first().map_or_else(String::new, |source| format!(" from {}", source.address));
    let probes = job.walk.planned();
    let (rate, lasts) = match setup.rate.frames_per_second() {
        Some(rate) => {
            let seconds = probes as f64 / rate + job.plan.gaps(job.setup.pass_gap).as_secs_f64();
            (format!("{}pps", scaled(rate)), format!(", {}", duration(seconds)))
        }
        None => ("the highest rate".into(), String::new()),
    };
    let addresses = counted(job.plan.tally.scanned, "address");
    note(&format!(
        "swath {}: {} ({addresses}) at {rate}{lasts}; seed {}",
        env!("CARGO_PKG_VERSION"),
        counted(probes.into(), "probe"),
        job.plan.seed
    ));
    note(&format!("link {name}{interface}{source}: {link} ({})", setup.chosen));
}

/// Tells operators something at once, also those who asked for quiet: a server that went away, for one.
pub(super) fn tell(job: &Job<'_>, text: &str) {
    let fresh = if std::io::stderr().is_terminal() && !job.setup.quiet { "\r" } else { "" };
    let _ = write!(std::io::stderr(), "{fresh}");
    note(&format!("swath: {text}"));
}

/// The line's state.
pub(super) struct Status<'a> {
    job: &'a Job<'a>,
    terminal: bool,
    shown_ns: u64,
    sent: u64,
    received: u64,
    width: usize,
}

impl<'a> Status<'a> {
    pub(super) fn new(job: &'a Job<'a>) -> Status<'a> {
        let terminal = std::io::stderr().is_terminal();
        Status { job, terminal, shown_ns: 0, sent: 0, received: 0, width: 0 }
    }

    /// Shows the line when it is due. `ended_ns` is when the last probe was sent.
    pub(super) fn tick(&mut self, now_ns: u64, ended_ns: Option<u64>) {
        let every_ns = if self.terminal { 1_000_000_000 } else { 10_000_000_000 };
        if self.job.setup.quiet || now_ns < self.shown_ns + every_ns {
            return;
        }
        let line = self.line(now_ns, ended_ns);
        self.shown_ns = now_ns;
        if self.terminal {
            let blank = self.width.saturating_sub(line.len());
            self.width = line.len();
            let _ = write!(std::io::stderr(), "\r{line}{:blank$}", "");
        } else {
            note(&line);
        }
    }

    /// Leaves the line for good.
    pub(super) fn end(&self) {
        if self.terminal && self.width != 0 && !self.job.setup.quiet {
            note("");
        }
    }

    fn line(&mut self, now_ns: u64, ended_ns: Option<u64>) -> String {
        let stats = &self.job.stats;
        let sent = stats.tx_total(|tx| &tx.sent);
        let received = stats.rx_total(|rx| &rx.frames);
        let seconds = (now_ns - self.shown_ns).max(1) as f64 / 1e9;
        let (tx_rate, rx_rate) =
            ((sent - self.sent) as f64 / seconds, (received - self.received) as f64 / seconds);
        (self.sent, self.received) = (sent, received);
        let (done, planned) = self.job.progress();
        let left = match ended_ns {
            Some(ended_ns) => {
                let passed = now_ns.saturating_sub(ended_ns) as f64 / 1e9;
                format!("waiting {}", duration((self.job.setup.wait.as_secs_f64() - passed).max(0.0)))
            }
            None if done == 0 => "starting".into(),
            None => format!("{} left", duration(now_ns as f64 / 1e9 * (planned - done) as f64 / done as f64)),
        };
        let loss = match super::manifest::loss(stats) {
            Some(loss) => format!(
                " | lost {:.2}% ({:.2} to {:.2})",
                loss.estimate * 100.0,
                loss.low * 100.0,
                loss.high * 100.0
            ),
            None => String::new(),
        };
        format!(
            "{:.2}% {left} | tx {}pps (avg {}pps) | rx {}pps | open {} | drops {} | waiting for the writer {}{loss}",
            done as f64 * 100.0 / planned.max(1) as f64,
            scaled(tx_rate),
            scaled(sent as f64 * 1e9 / ended_ns.unwrap_or(now_ns).max(1) as f64),
            scaled(rx_rate),
            grouped(stats.rx_total(|rx| &rx.open).into()),
            grouped(stats.rx_total(|rx| &rx.kernel_drops).into()),
            grouped(self.job.records.len() as u128)
        )
    }
}

/// Writes a line to standard error; a closed one is no reason to stop a scan.
fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{}", harmless(line));
}
