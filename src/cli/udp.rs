//! The options that say how UDP ports are asked, and the probe that comes of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::build::BuildError;
use crate::probe::UdpPayloads;
use crate::probe::payload::{FileMistake, FilePayload, MOST_PER_PORT, Payloads, read_nmap, read_toml};
use crate::target::{Endpoints, Port, PortSet, Protocol};

/// How UDP ports are asked.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "UDP")]
pub struct UdpArgs {
    /// Ask UDP ports what a file says; in TOML (docs/udp.md) when it ends in .toml, else as --nmap-payloads
    #[arg(long, value_name = "FILE")]
    pub udp_payloads: Vec<PathBuf>,

    /// Ask UDP ports what a file in nmap's old syntax says: udp 53,5353 "\x00\x01..." ('source' is read and ignored)
    #[arg(long, value_name = "FILE")]
    pub nmap_payloads: Vec<PathBuf>,

    /// Ask each UDP port at most N questions, where several are known [default: all of them]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=MOST_PER_PORT as i64))]
    pub udp_questions: Option<u8>,

    /// Send also requests whose answers are more than ten times as long (chargen, qotd and others)
    #[arg(long)]
    pub udp_amplifiers: bool,
}

/// The UDP probe with the payloads of the library and of the user's files.
///
/// # Errors
/// [`BuildError::Usage`] with file and line for what cannot be read.
pub(super) fn probe(args: &UdpArgs) -> Result<Arc<UdpPayloads>, BuildError> {
    let mut payloads = Payloads::library(args.udp_amplifiers);
    for path in &args.udp_payloads {
        let ours = path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("toml"));
        add(&mut payloads, path, if ours { read_toml } else { read_nmap })?;
    }
    for path in &args.nmap_payloads {
        add(&mut payloads, path, read_nmap)?;
    }
    if let Some(most) = args.udp_questions {
        payloads.keep_first(usize::from(most));
    }
    Ok(Arc::new(UdpPayloads::new(payloads)))
}

fn add(
    payloads: &mut Payloads,
    path: &Path,
    read: fn(&str) -> Result<Vec<FilePayload>, FileMistake>,
) -> Result<(), BuildError> {
    let name = path.display();
    let say = |text: String| BuildError::Usage(text);
    let text = std::fs::read_to_string(path).map_err(|error| say(format!("cannot read {name}: {error}")))?;
    let entries = read(&text).map_err(|FileMistake { line, what }| say(format!("{name}:{line}: {what}")))?;
    let entries = entries.into_iter().map(|entry| (entry.ports, entry.payload));
    payloads.replace(entries).map_err(|port| {
        say(format!("{name}: more than {MOST_PER_PORT} payloads for port {port}, which is the most"))
    })
}

/// The targets of every UDP port: one for each question.
pub(super) fn expand(probe: &UdpPayloads, ports: &PortSet) -> PortSet {
    PortSet::from_unsorted(ports.iter().flat_map(|port| questions(probe, port)).collect())
}

/// The same for ports that come with their addresses.
pub(super) fn expand_endpoints(probe: &UdpPayloads, endpoints: Endpoints) -> Endpoints {
    fn expanded<A: Copy>(probe: &UdpPayloads, pairs: Vec<(A, Port)>) -> Vec<(A, Port)> {
        if pairs.iter().all(|(_, port)| port.protocol != Protocol::UDP) {
            return pairs;
        }
        let all = pairs.into_iter();
        all.flat_map(|(address, port)| questions(probe, port).into_iter().map(move |port| (address, port)))
            .collect()
    }
    Endpoints { v4: expanded(probe, endpoints.v4), v6: expanded(probe, endpoints.v6) }
}

fn questions(probe: &UdpPayloads, port: Port) -> Vec<Port> {
    if port.protocol == Protocol::UDP { probe.targets(port.number).collect() } else { vec![port] }
}
