//! What people type who come from masscan: each of its options is an option of swath's under another name, is accepted
//! because its meaning is what happens anyway, or is refused by name with the reason.
//!
//! Invariant: rewrites words only; what an option means is in `args`.

use std::ffi::OsString;

/// What an option of another tool means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// Other words, in its place; its value, if there is one, is dropped.
    Means(&'static [&'static str]),
    /// Its value is a target.
    Target,
    /// Accepted; nothing follows it.
    Flag,
    /// Accepted with a value, which changes nothing.
    Value,
    /// Not done; the reason and the way out.
    Refused(&'static str),
}

/// What one long option becomes.
pub(super) struct Rewritten {
    /// The words in its place.
    pub(super) words: Vec<OsString>,
    /// Whether the word behind it was its value.
    pub(super) took_next: bool,
}

/// What becomes of a long option by its plain name (no `-_.`, lower case); `None` for a name that is in no table.
/// `value` stands behind `=`, `next` is the word that follows.
///
/// # Errors
/// For an option that is refused.
pub(super) fn rewrite(
    name: &str,
    value: Option<&str>,
    next: Option<&str>,
) -> Option<Result<Rewritten, String>> {
    let (name, indexed) = name.split_once('[').map_or((name, false), |(name, _)| (name, true));
    let (_, habit) = HABITS.iter().find(|(known, _)| *known == name)?;
    let behind = value.or(next.filter(|next| !next.starts_with('-') || *next == "-"));
    let took_next = value.is_none() && behind.is_some();
    let words = |words: Vec<OsString>, took_next| Some(Ok(Rewritten { words, took_next }));
    match habit {
        Habit::Means(instead) => words(instead.iter().map(OsString::from).collect(), false),
        Habit::Flag => words(Vec::new(), false),
        Habit::Value => words(Vec::new(), took_next),
        Habit::Target => match behind {
            Some(target) => words(vec![OsString::from(target)], took_next),
            None => Some(Err(format!("swath: --{name} names no target\n"))),
        },
        Habit::Refused(_) if indexed && name.is_empty() => None,
        Habit::Refused(reason) => Some(Err(format!("swath: there is no --{name}: {reason}\n"))),
    }
}

/// The long option of swath's that has another name elsewhere.
pub(super) fn alias(name: &str) -> Option<&'static str> {
    ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, long)| *long)
}

/// Whether a plain name is in a table.
pub(super) fn knows(name: &str) -> bool {
    alias(name).is_some() || HABITS.iter().any(|(known, _)| *known == name)
}

/// Whether an option of the tables is a flag.
pub(super) fn takes_none(name: &str) -> bool {
    HABITS.iter().any(|(known, habit)| *known == name && matches!(habit, Habit::Flag | Habit::Means(_)))
}

const BANNERS: &str = "this version asks services nothing; scan first, then give the ip:port list (-o FILE.txt) to a banner grabber";
const NO_LUA: &str = "scripts are not run; convert the results and use the tool you like";

/// masscan's options that are none of swath's under another name. Plain names.
const HABITS: &[(&str, Habit)] = &[
    // What happens anyway.
    ("randomizehosts", Habit::Flag),
    ("sendeth", Habit::Flag),
    ("nobanners", Habit::Flag),
    ("nobanner", Habit::Flag),
    ("notest", Habit::Value),
    ("nocapture", Habit::Value),
    ("nointeractive", Habit::Flag),
    ("interactive", Habit::Flag),
    ("status", Habit::Flag),
    ("nobacktrace", Habit::Flag),
    ("backtrace", Habit::Flag),
    ("nostylesheet", Habit::Flag),
    ("stylesheet", Habit::Value),
    ("sendq", Habit::Flag),
    ("sendqueue", Habit::Flag),
    ("badsum", Habit::Refused("frames with a wrong checksum tell nothing that a right one does not")),
    ("minpacket", Habit::Value),
    ("minpkt", Habit::Value),
    ("blackrockrounds", Habit::Value),
    ("datadir", Habit::Value),
    ("debug", Habit::Value),
    ("connectiontimeout", Habit::Value),
    ("tcptimeout", Habit::Value),
    ("hellotimeout", Habit::Value),
    ("minrate", Habit::Value),
    // Other words.
    ("nostatus", Habit::Means(&["--quiet"])),
    ("nmap", Habit::Means(&["--help"])),
    ("offline", Habit::Means(&["--link=null"])),
    ("notransmit", Habit::Means(&["--link=null"])),
    ("nosend", Habit::Means(&["--link=null"])),
    ("dryrun", Habit::Means(&["--link=null"])),
    ("arpscan", Habit::Means(&["--scan=arp"])),
    ("pingsweep", Habit::Means(&["--hosts-only", "--ping"])),
    ("range", Habit::Target),
    ("ranges", Habit::Target),
    ("ip", Habit::Target),
    ("ipv4", Habit::Target),
    ("dstip", Habit::Target),
    ("destip", Habit::Target),
    ("destinationip", Habit::Target),
    ("targetip", Habit::Target),
    // Not done.
    ("banners", Habit::Refused(BANNERS)),
    ("banner", Habit::Refused(BANNERS)),
    ("bannertypes", Habit::Refused(BANNERS)),
    ("bannertype", Habit::Refused(BANNERS)),
    ("bannerapps", Habit::Refused(BANNERS)),
    ("bannerapp", Habit::Refused(BANNERS)),
    ("banner1", Habit::Refused(BANNERS)),
    ("capture", Habit::Refused(BANNERS)),
    ("rawudp", Habit::Refused(BANNERS)),
    ("hello", Habit::Refused(BANNERS)),
    ("hellofile", Habit::Refused(BANNERS)),
    ("hellostring", Habit::Refused(BANNERS)),
    ("httpcookie", Habit::Refused(BANNERS)),
    ("httpheader", Habit::Refused(BANNERS)),
    ("httpfield", Habit::Refused(BANNERS)),
    ("httpmethod", Habit::Refused(BANNERS)),
    ("httpversion", Habit::Refused(BANNERS)),
    ("httpurl", Habit::Refused(BANNERS)),
    ("httpuri", Habit::Refused(BANNERS)),
    ("httpuseragent", Habit::Refused(BANNERS)),
    ("httphost", Habit::Refused(BANNERS)),
    ("httppayload", Habit::Refused(BANNERS)),
    ("heartbleed", Habit::Refused(BANNERS)),
    ("ticketbleed", Habit::Refused(BANNERS)),
    ("vuln", Habit::Refused(BANNERS)),
    ("nmapserviceprobes", Habit::Refused(BANNERS)),
    ("nmapserviceprobe", Habit::Refused(BANNERS)),
    ("noreset", Habit::Refused("the kernel closes half-open connections; swath does not hold them open")),
    ("script", Habit::Refused(NO_LUA)),
    (
        "infinite",
        Habit::Refused("a scan ends; repeat it from a shell loop or a timer, each with a seed of its own"),
    ),
    ("resumecount", Habit::Refused("--shard 1/N takes a part of a scan that can be told from the others")),
    (
        "routerip",
        Habit::Refused("routes say who the router is; --router-mac names it by its link-layer address"),
    ),
    ("routermacipv6", Habit::Refused("routes say who the router is, for each family")),
    ("routeripv6", Habit::Refused("routes say who the router is, for each family")),
    ("test", Habit::Refused("cargo test, or scripts/test in the source")),
    (
        "routeripv4",
        Habit::Refused("routes say who the router is; --router-mac names it by its link-layer address"),
    ),
    ("ndjsonstatus", Habit::Refused("the status line is for people; results as JSON go to -o ndjson:-")),
    ("statusndjson", Habit::Refused("the status line is for people; results as JSON go to -o ndjson:-")),
    ("jsonstatus", Habit::Refused("the status line is for people; results as JSON go to -o ndjson:-")),
    (
        "packettrace",
        Habit::Refused("--link pcap:FILE writes every frame; tcpdump shows those of a real scan"),
    ),
    (
        "tracepacket",
        Habit::Refused("--link pcap:FILE writes every frame; tcpdump shows those of a real scan"),
    ),
    ("pcap", Habit::Refused("tcpdump -w FILE records what arrives")),
    ("pcapfilename", Habit::Refused("tcpdump -w FILE records what arrives")),
    ("iflist", Habit::Refused("ip address lists interfaces; swath plan says which one is used")),
    ("noshow", Habit::Refused("--show names the states to report")),
    ("outputnoshow", Habit::Refused("--show names the states to report")),
    (
        "redis",
        Habit::Refused(
            "write -o esbulk:-, -o ndjson:- or another stream and pipe it to the database's own loader",
        ),
    ),
    ("redispwd", Habit::Refused("write -o ndjson:- and pipe it to the database's own loader")),
    ("pfring", Habit::Refused("--link fastest takes the quickest way this kernel has")),
    ("bpf", Habit::Refused("swath filters what it receives itself")),
    ("datalength", Habit::Refused("probes carry what their protocol needs")),
    ("oprotos", Habit::Refused("write --scan ip -p 1,2,47 (nmap's -sO)")),
    ("oproto", Habit::Refused("write --scan ip -p 1,2,47 (nmap's -sO)")),
    ("tcpports", Habit::Refused("write -p T:22,80")),
    ("udpports", Habit::Refused("write -p U:53,161")),
    ("tcpmss", Habit::Refused("--layout names the TCP options of the SYN")),
    ("tcpwscale", Habit::Refused("--layout names the TCP options of the SYN")),
    ("tcptsecho", Habit::Refused("--layout names the TCP options of the SYN")),
    ("tcpsackok", Habit::Refused("--layout names the TCP options of the SYN")),
    (
        "pcappayloads",
        Habit::Refused("--udp-payloads FILE and --nmap-payloads FILE read payloads; a capture is not read"),
    ),
    ("webxml", Habit::Refused("-oX writes nmap's XML, which every importer reads")),
    ("echoall", Habit::Refused("--echo prints what a scan would do")),
    ("echocidr", Habit::Refused("--echo prints the ranges as prefixes")),
    ("selftest", Habit::Refused("cargo test, or scripts/test in the source")),
    ("regress", Habit::Refused("cargo test, or scripts/test in the source")),
    ("benchmark", Habit::Refused("swath bench measures")),
    ("readrange", Habit::Refused("-iL FILE reads targets")),
    ("readranges", Habit::Refused("-iL FILE reads targets")),
    ("debugtcp", Habit::Refused("swath holds no connections")),
    ("tcpdebug", Habit::Refused("swath holds no connections")),
];

/// Other names of long options.
const ALIASES: &[(&str, &str)] = &[
    ("adapter", "interface"),
    ("if", "interface"),
    ("adapterip", "source-ip"),
    ("spoofip", "source-ip"),
    ("spoofaddress", "source-ip"),
    ("sourceaddress", "source-ip"),
    ("srcip", "source-ip"),
    ("pingscan", "hosts-only"),
    ("adapterport", "source-port"),
    ("srcport", "source-port"),
    ("spoofmac", "adapter-mac"),
    ("sourcemac", "adapter-mac"),
    ("srcmac", "adapter-mac"),
    ("adaptervlan", "vlan"),
    ("destmac", "router-mac"),
    ("destinationmac", "router-mac"),
    ("dstmac", "router-mac"),
    ("targetmac", "router-mac"),
    ("router", "router-mac"),
    ("routermacipv4", "router-mac"),
    ("excludeip", "exclude"),
    ("excludeipv4", "exclude"),
    ("excluderange", "exclude"),
    ("excluderanges", "exclude"),
    ("excludeport", "exclude-ports"),
    ("includefile", "include-file"),
    ("maxrate", "rate"),
    ("maxretries", "retries"),
    ("maxretry", "retries"),
    ("retry", "retries"),
    ("nmappayload", "nmap-payloads"),
    ("openonly", "open"),
    ("outputshowopen", "open"),
    ("outputshow", "show"),
    ("outputstatus", "show"),
    ("outputappend", "append-output"),
    ("outputfile", "output-filename"),
    ("outputrotate", "rotate"),
    ("rotateoutput", "rotate"),
    ("rotatetime", "rotate"),
    ("rotatefilesize", "rotate-size"),
    ("port", "ports"),
    ("dstport", "ports"),
    ("destport", "ports"),
    ("destinationport", "ports"),
    ("targetport", "ports"),
    ("randomseed", "seed"),
    ("shards", "shard"),
    ("topport", "top-ports"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::command;
    use crate::cli::spelling::plain;

    #[test]
    fn every_name_leads_to_an_option_that_exists_and_hides_none() {
        let command = command();
        let longs: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        for (alias, long) in ALIASES {
            assert!(longs.contains(long), "{alias} -> {long}");
            assert!(
                !longs.iter().any(|other| plain(other) == *alias && other != long),
                "{alias} hides an option"
            );
        }
        for (name, habit) in HABITS {
            assert!(!longs.iter().any(|long| plain(long) == *name), "{name} is an option of swath's");
            assert!(!ALIASES.iter().any(|(alias, _)| alias == name), "{name} stands in both tables");
            if let Habit::Means(words) = habit {
                for word in *words {
                    let long = word[2..].split('=').next().expect("a name");
                    assert!(longs.contains(&long) || long == "help", "{name} -> {word}");
                }
            }
        }
    }

    /// Every long option of masscan's, as `masscan_options.txt` lists them: none is unknown.
    #[test]
    fn every_option_of_masscan_is_accepted_or_refused_by_name() {
        let command = command();
        let longs: Vec<String> = command.get_arguments().filter_map(clap::Arg::get_long).map(plain).collect();
        let elsewhere = ["conf", "config", "resume", "readscan", "help", "version"];
        let mut unknown = Vec::new();
        for name in include_str!("masscan_options.txt").split_whitespace() {
            let plain = plain(name);
            let plain = plain.split('[').next().expect("a name");
            if !longs.iter().any(|long| long == plain) && !knows(plain) && !elsewhere.contains(&plain) {
                unknown.push(name);
            }
        }
        assert!(unknown.is_empty(), "neither accepted nor refused: {unknown:?}");
    }
}
