//! The options of `swath bench`. No I/O.

use std::ffi::OsString;

use clap::{Parser, Subcommand};

/// What is measured, and how long.
#[derive(Debug, Parser)]
#[command(
    name = "swath bench",
    about = "Measure what this machine can do; bounded always",
    max_term_width = 110
)]
pub struct BenchArgs {
    /// What is measured.
    #[command(subcommand)]
    pub subject: Subject,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum Subject {
    /// How fast probes are made: no interface, no privilege, nothing leaves the process
    Generate(Length),
    /// How fast each link gets frames onto an interface; sends to the TARGETS you name, by the rules of a scan
    Tx(BenchTx),
    /// How fast replies are judged, in memory: no interface, no privilege
    Rx(BenchRx),
    /// How fast results are written: no packet, no privilege; files go to a directory of their own and vanish
    Write(WriteArgs),
}

/// What `swath bench write` writes, and how often.
#[derive(Debug, Clone, clap::Args)]
pub struct WriteArgs {
    /// Kinds of output (ndjson, parquet, ...) or addresses (postgres://...); every kind of file when left out
    #[arg(value_name = "SINK")]
    pub sinks: Vec<String>,

    /// Rounds; the table shows the median, the lowest and the highest
    #[arg(long, value_name = "K", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,

    /// Results a round writes
    #[arg(long, value_name = "N", default_value = "2000000", value_parser = clap::value_parser!(u32).range(1000..=100_000_000))]
    pub records: u32,

    /// Where files go; the directory for temporary files when left out
    #[arg(long, value_name = "DIR")]
    pub directory: Option<std::path::PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What is sent, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct BenchTx {
    /// Addresses to send to: a sink you own
    #[arg(value_name = "TARGETS", required = true)]
    pub targets: Vec<String>,

    /// Interface to send on
    #[arg(short = 'e', long, value_name = "NAME")]
    pub interface: String,

    /// Which link, or all that transmit
    #[arg(long, value_name = "NAME", default_value = "all")]
    pub link: String,

    /// Threads that send, each on a queue of its own
    #[arg(long, value_name = "N", default_value = "1", value_parser = super::links::threads)]
    pub threads: usize,

    /// Bytes of a frame, without frame check sequence [default: those of a SYN, 58]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(54..=1514))]
    pub size: Option<u16>,

    /// Ports
    #[arg(short = 'p', long, value_name = "PORTS", default_value = "1-256")]
    pub ports: String,

    /// Addresses never to send to
    #[arg(long, value_name = "TARGETS")]
    pub exclude: Vec<String>,

    /// Link-layer address of the next hop
    #[arg(long, value_name = "MAC")]
    pub router_mac: Option<String>,

    /// How long.
    #[command(flatten)]
    pub length: Length,
}

/// How many replies are judged.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct BenchRx {
    /// Distinct targets that answer in a round; a quarter more replies are repeated or forged
    #[arg(long, value_name = "N", default_value = "10000000", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub replies: u64,

    /// Rounds
    #[arg(long, value_name = "K", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// How long a measurement takes: rounds x seconds for each row of the table.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Length {
    /// Rounds; the table shows the median, the lowest and the highest
    #[arg(long, value_name = "K", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,

    /// Seconds of a round
    #[arg(long, value_name = "S", default_value = "0.5", value_parser = seconds)]
    pub seconds: f64,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Reads the words after `swath`.
pub(super) fn read(words: Vec<OsString>) -> Result<BenchArgs, clap::Error> {
    BenchArgs::try_parse_from(words)
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("'{text}' is no number of seconds"))?;
    if (0.01..=60.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(format!("{text} seconds is outside of 0.01 to 60"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<BenchArgs, clap::Error> {
        read(words.iter().map(OsString::from).collect())
    }

    #[test]
    fn a_measurement_is_bounded() {
        let Subject::Generate(length) = parsed(&["bench", "generate"]).expect("defaults").subject else {
            panic!("generate");
        };
        assert_eq!((length.rounds, length.seconds, length.json), (5, 0.5, false));
        for bad in [
            &["bench"][..],
            &["bench", "generate", "--rounds", "0"],
            &["bench", "generate", "--seconds", "61"],
            &["bench", "tx", "-e", "v0"],
            &["bench", "tx", "192.0.2.2"],
            &["bench", "tx", "192.0.2.2", "-e", "v0", "--size", "53"],
            &["bench", "tx", "192.0.2.2", "-e", "v0", "--threads", "0"],
            &["bench", "rx", "--replies", "0"],
        ] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }
}
