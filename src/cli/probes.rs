//! The options that say what is asked: kinds of scan, host discovery, and how frames are dressed for the link.

use clap::Args;

use crate::probe::{Connect, PROBES};
use crate::wire::ethernet::Mac;
use crate::wire::tcp::flag;

/// What is asked of each target.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "What to ask")]
pub struct ProbeArgs {
    /// Kinds of probe, see the list below; nmap's spellings are known: -sS -sF -sN -sX -sA -sW -sM -sU -sY -sZ -sO [default: syn, and what the letters in PORTS say]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = scan_name)]
    pub scan: Vec<&'static str>,

    /// Flags of the TCP probe, as SYNFIN or a number; its answers are read as those of --scan
    #[arg(long, value_name = "FLAGS", value_parser = tcp_flags)]
    pub scanflags: Option<u8>,

    /// Find hosts, no ports: by the -P probes named, or an echo, a timestamp, SYN to 443 and ACK to 80 [-sn]
    #[arg(long)]
    pub hosts_only: bool,

    /// Find hosts first, then scan the ports of those that answered
    #[arg(long, conflicts_with = "hosts_only")]
    pub discover_first: bool,

    /// Host discovery by ICMP echo, ICMPv6 echo [-PE]
    #[arg(long)]
    pub ping: bool,

    /// Host discovery by ICMP timestamp (IPv4) [-PP]
    #[arg(long)]
    pub ping_timestamp: bool,

    /// Host discovery by ICMP address mask (IPv4) [-PM]
    #[arg(long)]
    pub ping_mask: bool,

    /// Host discovery by TCP SYN [-PS22,80]
    #[arg(long, value_name = "PORTS", num_args = 0..=1, require_equals = true, default_missing_value = "80")]
    pub ping_syn: Option<String>,

    /// Host discovery by TCP ACK [-PA80]
    #[arg(long, value_name = "PORTS", num_args = 0..=1, require_equals = true, default_missing_value = "80")]
    pub ping_ack: Option<String>,

    /// Host discovery by UDP to ports that should be closed [-PU40125]
    #[arg(long, value_name = "PORTS", num_args = 0..=1, require_equals = true, default_missing_value = "40125")]
    pub ping_udp: Option<String>,

    /// Host discovery by SCTP INIT [-PY80]
    #[arg(long, value_name = "PORTS", num_args = 0..=1, require_equals = true, default_missing_value = "80")]
    pub ping_init: Option<String>,

    /// Host discovery by IP protocols [-PO1,2,4]
    #[arg(long, value_name = "PROTOCOLS", num_args = 0..=1, require_equals = true, default_missing_value = "1,2,4")]
    pub ping_ip: Option<String>,

    /// Find hosts on the link by ARP (IPv4), neighbour discovery (IPv6), with MAC addresses and vendors [-PR]
    #[arg(long)]
    pub arp: bool,

    /// Send frames with this 802.1Q tag
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u16).range(1..=4094))]
    pub vlan: Option<u16>,

    /// Link-layer address to send from [default: the interface's own]
    #[arg(long, value_name = "MAC")]
    pub adapter_mac: Option<Mac>,
}

/// The probes that `--scan` names: those that ports are scanned with, and ICMP and neighbour discovery, which have none.
pub(super) fn scans() -> impl Iterator<Item = (&'static str, &'static str)> {
    let named = PROBES.iter().filter(|probe| !probe.name().starts_with("ping-"));
    // Not in the registry: it speaks through the operating system, not in frames.
    named.map(|probe| (probe.name(), probe.about())).chain([(Connect::NAME, Connect::ABOUT)])
}

fn scan_name(text: &str) -> Result<&'static str, String> {
    let known = scans().find(|(name, _)| text.eq_ignore_ascii_case(name));
    known.map(|(name, _)| name).ok_or_else(|| {
        let names: Vec<&str> = scans().map(|(name, _)| name).collect();
        format!("'{text}' is no kind of probe; there are {}", names.join(", "))
    })
}

/// Reads `SYNFIN`, `syn,fin`, `0x03` or `3`.
fn tcp_flags(text: &str) -> Result<u8, String> {
    let number = text
        .strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))
        .map_or_else(|| text.parse().ok(), |digits| u8::from_str_radix(digits, 16).ok());
    if let Some(number) = number {
        return Ok(number);
    }
    let bad = || {
        let names: Vec<String> = flag::ALL.iter().map(|(_, name)| name.to_uppercase()).collect();
        format!("'{text}' are no TCP flags; write a number of 0 to 255, or {} in one word", names.join(", "))
    };
    let plain: String = text.chars().filter(|letter| !matches!(letter, ',' | '+' | '-')).collect();
    let plain = plain.to_ascii_lowercase();
    let (mut rest, mut flags) = (plain.as_str(), 0);
    while !rest.is_empty() {
        let named = flag::ALL.iter().find_map(|(bit, name)| rest.strip_prefix(name).map(|rest| (bit, rest)));
        let (bit, after) = named.ok_or_else(bad)?;
        (flags, rest) = (flags | bit, after);
    }
    if plain.is_empty() { Err(bad()) } else { Ok(flags) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_by_name_and_by_number() {
        for (text, flags) in [
            ("SYNFIN", 3),
            ("syn,fin", 3),
            ("URGACKPSHRSTSYNFIN", 0x3f),
            ("0x29", 0x29),
            ("0", 0),
            ("255", 255),
        ] {
            assert_eq!(tcp_flags(text), Ok(flags), "{text}");
        }
        for text in ["", "SYNX", "256", "0x100", "-1", ","] {
            assert!(tcp_flags(text).is_err(), "{text}");
        }
        assert_eq!(scan_name("XMAS"), Ok("xmas"));
        assert!(scan_name("ping-syn").is_err_and(|error| error.contains("syn, fin, null")));
    }
}
