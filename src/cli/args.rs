//! The options, as clap reads them: names, help, values. No I/O, no host facts.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser};

use super::audit::AuditArgs;
use super::links::LinkArgs;
use super::outputs::Outputs;
use super::probes::{self, ProbeArgs};
use super::reliability::{Reliability, shard_of_job};
use super::sample::SampleArgs;
use super::udp::UdpArgs;
use crate::dedup::MAX_PASSES;
use crate::event::State;
use crate::link::BACKENDS;
use crate::order::Shard;
use crate::pace::Rate;
use crate::probe::Layout;
use crate::sink::SINKS;
use crate::wire::ethernet::Mac;

/// Everything a scan or a plan can be told.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "swath",
    version,
    about = "Sweep address ranges for open ports: stateless, exact, straight into a database",
    override_usage = "swath TARGETS... -p PORTS [options]\n       swath plan TARGETS... -p PORTS [options]   say what a scan would do; sends nothing, needs no privilege\n       swath resume FILE                          go on with a scan that was stopped or killed\n       swath merge SHARD... -o PATH               join shards, check that they are complete\n       swath convert IN... -o OUT...              read results in any format, write any other\n       swath compact DIR|FILES -o OUT             merge results into one sorted set\n       swath diff A B                             what changed between two scans\n       swath replay SPOOL                         deliver what a database could not take\n       swath doctor                               which links this host can use, and why not\n       swath bench --help                         measure what this machine can do",
    after_help = EXAMPLES,
    max_term_width = 110
)]
pub struct Args {
    /// Addresses to scan: 192.0.2.7, 192.0.2.0/24, 192.0.2.1-192.0.2.99, 192.0.2-3.1,5-9, 2001:db8::/120
    #[arg(value_name = "TARGETS", help_heading = TARGETS)]
    pub targets: Vec<String>,

    /// Ports: 80  22,80,443  8000-8100  - (1 to 65535)  T:22,U:53,S:36412,P:47
    #[arg(short = 'p', long = "ports", value_name = "PORTS", allow_hyphen_values = true, help_heading = TARGETS)]
    pub ports: Vec<String>,

    /// The N TCP ports where services are found most often
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "20", help_heading = TARGETS)]
    pub top_ports: Option<usize>,

    /// Ports to leave out
    #[arg(long, value_name = "PORTS", allow_hyphen_values = true, help_heading = TARGETS)]
    pub exclude_ports: Vec<String>,

    /// Read targets from a file, - for standard input; lines may also say ip:port [-iL]
    #[arg(long, value_name = "FILE", help_heading = TARGETS)]
    pub include_file: Vec<PathBuf>,

    /// Addresses never to probe, in the syntax of TARGETS
    #[arg(long, value_name = "TARGETS", help_heading = TARGETS)]
    pub exclude: Vec<String>,

    /// Read addresses never to probe from a file
    #[arg(long = "exclude-file", value_name = "FILE", help_heading = TARGETS)]
    pub exclude_file: Vec<PathBuf>,

    /// Look up host names among the targets (all their addresses are scanned)
    #[arg(long, help_heading = TARGETS)]
    pub resolve: bool,

    /// Seed of the order; the same seed and plan give the same order on every machine [default: random]
    #[arg(long, value_name = "N", value_parser = seed, help_heading = TARGETS)]
    pub seed: Option<u64>,

    /// Go on where a scan with this --seed was stopped; it says where at its end
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true, help_heading = TARGETS)]
    pub resume_index: u64,

    /// Scan part I of N; the parts are disjoint and together complete. auto/N: as the Kubernetes or Slurm job says
    #[arg(long, value_name = "I/N", value_parser = shard, default_value = "1/1", help_heading = TARGETS)]
    pub shard: Shard,

    /// Frames a second: 100, 10k, 1.5m, or max
    #[arg(short = 'r', long, value_name = "PPS", default_value = "100", help_heading = SENDING)]
    pub rate: Rate,

    /// Probe each target N times, each pass after the one before; the summary then says what one pass misses
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_PASSES)), help_heading = SENDING)]
    pub passes: u8,

    /// As --passes N+1
    #[arg(long, value_name = "N", conflicts_with = "passes", value_parser = clap::value_parser!(u8).range(0..i64::from(MAX_PASSES)), help_heading = SENDING)]
    pub retries: Option<u8>,

    /// How long a pass follows the one before, in seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "5", help_heading = SENDING)]
    pub pass_gap: Duration,

    /// How long to wait for late replies after the last probe, in seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "10", help_heading = SENDING)]
    pub wait: Duration,

    /// TCP options of the SYN: mss (58 bytes), windows (66), linux (74, tells round-trip times), bare (54)
    #[arg(long, value_name = "NAME", value_parser = layout, default_value = "mss", help_heading = SENDING)]
    pub layout: Layout,

    /// Time to live of the probes
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u8).range(1..), help_heading = SENDING)]
    pub ttl: u8,

    /// What is asked, and in which frames.
    #[command(flatten)]
    pub probes: ProbeArgs,

    /// How UDP ports are asked.
    #[command(flatten)]
    pub udp: UdpArgs,

    /// Interface to send from [default: where the route to the targets leads]
    #[arg(short = 'e', long, value_name = "NAME", help_heading = SENDING)]
    pub interface: Option<String>,

    /// Address to send from: one of the interface's own, or an unused one of its link, for which swath then answers
    #[arg(short = 'S', long, value_name = "ADDRESS", help_heading = SENDING)]
    pub source_ip: Option<IpAddr>,

    /// Source port or range A-B whose size is a power of two
    #[arg(short = 'g', long, value_name = "PORTS", help_heading = SENDING)]
    pub source_port: Option<String>,

    /// Link-layer address of the router; nobody is asked then
    #[arg(long, value_name = "MAC", help_heading = SENDING)]
    pub router_mac: Option<Mac>,

    /// How frames leave: see the list below
    #[arg(long, value_name = "NAME", default_value = "auto", help_heading = SENDING)]
    pub link: String,

    /// Samples of large IPv6 blocks.
    #[command(flatten)]
    pub sample: SampleArgs,

    /// Audits of services.
    #[command(flatten)]
    pub audit: AuditArgs,

    /// How many threads send and receive.
    #[command(flatten)]
    pub links: LinkArgs,

    /// Where results go; repeat for several. Kinds: see the list below [default: lines on standard output]
    #[arg(short = 'o', long = "output", value_name = "PATH", help_heading = RESULTS)]
    pub output: Vec<String>,

    /// States to report, from open, closed, filtered, unfiltered, up, open|filtered; or all [default: open,unfiltered,up]
    #[arg(long, value_name = "STATES", conflicts_with = "open", help_heading = RESULTS)]
    pub show: Option<Show>,

    /// Report open ports only
    #[arg(long, help_heading = RESULTS)]
    pub open: bool,

    /// Append to result files that exist
    #[arg(long, conflicts_with = "force", help_heading = RESULTS)]
    pub append_output: bool,

    /// Replace result files that exist
    #[arg(long, help_heading = RESULTS)]
    pub force: bool,

    /// In whose format, and in how many parts.
    #[command(flatten)]
    pub outputs: Outputs,

    /// Print what would be scanned as a configuration file for -c, and end
    #[arg(long, help_heading = RESULTS)]
    pub echo: bool,

    /// How it survives.
    #[command(flatten)]
    pub reliability: Reliability,

    /// No status on standard error, only errors
    #[arg(short = 'q', long, action = ArgAction::SetTrue, help_heading = RESULTS)]
    pub quiet: bool,

    /// Accepted for the habits of other tools; no host is pinged first
    #[arg(long = "no-ping", hide = true)]
    pub no_ping: bool,

    /// Accepted for the habits of other tools; no name is looked up
    #[arg(short = 'n', long = "no-dns", hide = true)]
    pub no_dns: bool,
}

impl Args {
    /// How often each target is probed.
    pub fn passes(&self) -> u8 {
        self.retries.map_or(self.passes, |retries| retries + 1)
    }

    /// The states that are reported: by default those that somebody looks for.
    pub fn shown(&self) -> Vec<State> {
        match &self.show {
            Some(Show(states)) => states.clone(),
            None if self.open => vec![State::Open],
            None if self.probes.hosts_only => vec![State::Up],
            None => vec![State::Open, State::Unfiltered, State::Up],
        }
    }
}

/// Which states are reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Show(pub Vec<State>);

impl FromStr for Show {
    type Err = String;

    fn from_str(text: &str) -> Result<Show, String> {
        if text.eq_ignore_ascii_case("all") {
            return Ok(Show(State::ALL.to_vec()));
        }
        let states: Result<Vec<State>, String> = text
            .split(',')
            .map(|word| {
                let known =
                    State::ALL.into_iter().find(|state| word.trim().eq_ignore_ascii_case(state.name()));
                known.ok_or_else(|| {
                    let names: Vec<&str> = State::ALL.iter().map(|state| state.name()).collect();
                    format!("'{word}' is no state; there are {}, or all", names.join(", "))
                })
            })
            .collect();
        states.map(Show)
    }
}

/// The clap command, with the lists of links and sinks in its help.
pub(super) fn command() -> clap::Command {
    let width = |names: &[&str]| names.iter().map(|name| name.len()).max().unwrap_or(0);
    let rows = |title: &str, rows: Vec<(&str, String)>| {
        let column = width(&rows.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        let lines: Vec<String> =
            rows.iter().map(|(name, about)| format!("  {name:column$}  {about}")).collect();
        format!("{title}:\n{}\n", lines.join("\n"))
    };
    let scans = probes::scans().map(|(name, about)| (name, about.to_owned())).collect();
    let mut links = vec![("auto", "the best that changes nothing on the interface".to_owned())];
    links.extend(BACKENDS.iter().map(|backend| (backend.name, backend.about.to_owned())));
    let sinks = SINKS.iter().map(|sink| (sink.name, sink_line(sink.about, sink.suffixes))).collect();
    let lists = format!(
        "{}\n{}\n{}\n{EXAMPLES}",
        rows("Kinds of probe (--scan NAME)", scans),
        rows("Links (--link NAME)", links),
        rows("Results (-o PATH, or -o NAME:PATH; NAME:- is standard output)", sinks)
    );
    Args::command().after_help(lists)
}

fn sink_line(about: &str, suffixes: &[&str]) -> String {
    if suffixes.is_empty() { about.to_owned() } else { format!("{about} [.{}]", suffixes.join(" .")) }
}

/// Reads canonical words; of an option that stands twice the later one counts.
pub(super) fn read_again(words: Vec<OsString>) -> Result<Args, clap::Error> {
    read_by(command().args_override_self(true), words, false)
}

/// Reads canonical words.
pub(super) fn read(words: Vec<OsString>, plan: bool) -> Result<Args, clap::Error> {
    read_by(command(), words, plan)
}

fn read_by(mut command: clap::Command, words: Vec<OsString>, plan: bool) -> Result<Args, clap::Error> {
    let matches = command.try_get_matches_from_mut(words)?;
    let args = Args::from_arg_matches(&matches)?;
    if args.targets.is_empty() && args.include_file.is_empty() {
        let word = if plan { "plan" } else { "scan" };
        return Err(command.error(
            clap::error::ErrorKind::MissingRequiredArgument,
            format!(
                "nothing to {word}: name TARGETS, or a file of them with -iL; swath --help shows examples"
            ),
        ));
    }
    Ok(args)
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("'{text}' is no seed; write a number from 0 to {}", u64::MAX))
}

fn shard(text: &str) -> Result<Shard, String> {
    if let Some(count) = text.strip_prefix("auto/") {
        let count = count.parse().map_err(|_| format!("'{text}' is no shard; write auto/4 for 4 parts"))?;
        return shard_of_job(count, |name| std::env::var(name).ok());
    }
    let parts =
        text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
    let (index, count) = parts.ok_or_else(|| format!("'{text}' is no shard; write 2/4 for part 2 of 4"))?;
    Shard::new(index, count)
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("'{text}' is no number of seconds"))?;
    if (0.0..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("{text} seconds is outside of 0 to 86400"))
    }
}

fn layout(text: &str) -> Result<Layout, String> {
    let known = Layout::ALL.into_iter().find(|(_, name)| text.eq_ignore_ascii_case(name));
    known.map(|(layout, _)| layout).ok_or_else(|| {
        let names = Layout::ALL.map(|(_, name)| name).join(", ");
        format!("'{text}' is no layout; there are {names}")
    })
}

const TARGETS: &str = "What to scan";
pub(super) const SENDING: &str = "How to send";
const RESULTS: &str = "Results";
const EXAMPLES: &str = "\
Examples:
  swath plan 198.18.0.0/15 -p 22,80,443 --rate 100k      how many, how long, how much; sends nothing
  swath 198.18.0.0/15 -p 22,80,443 --rate 100k -o lab.db  into SQLite
  swath 192.0.2.0/24 --top-ports 100 -o hosts.txt         ip:port lines for the next tool
  swath -sn 192.0.2.0/24 -o up.txt                        which hosts are there
  swath 192.0.2.0/24 -p T:80,U:53,S:36412 -PE             several kinds in one order, under one rate
  swath 127.0.0.1 -p 1-65535 --rate 10k                   what listens on this host
  swath -iL targets.txt --exclude-file never.txt -p 443 --show open,closed -o ndjson:- | jq .

Scan only networks you own or may scan. The default rate is 100 frames a second.
Exit codes: 0 done, 1 failed, 2 usage, 3 policy or difference, 4 finished with known loss, 130 interrupted.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn shards_seconds_and_states_are_read_or_refused_by_name() {
        assert_eq!(shard("2/4").map(|shard| (shard.index(), shard.count())), Ok((2, 4)));
        for bad in ["", "4", "0/4", "5/4", "1/0", "a/b", "1/2/3"] {
            assert!(shard(bad).is_err(), "{bad}");
        }
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["-1", "nan", "inf", "1e9", "x"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
        assert_eq!("open,Closed".parse(), Ok(Show(vec![State::Open, State::Closed])));
        assert_eq!("all".parse(), Ok(Show(State::ALL.to_vec())));
        assert!("opened".parse::<Show>().is_err());
    }
}
