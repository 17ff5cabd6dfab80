//! Everything that reads text or files of the user or of strangers, each as one function of bytes. Whatever the bytes,
//! they are read or refused; what is read can be written and read again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Cursor;

use swath::event::Observations;
use swath::source::{Input, SOURCES};
use swath::target::{
    PortSet, TargetList, parse_excluded_ports, parse_line, parse_list, parse_ports, read_targets,
};
use swath::world::Scenario;

/// A reader: its name, which is its folder of saved inputs, what it does with bytes, and something good to begin with.
pub(crate) struct Reader {
    pub(crate) name: &'static str,
    pub(crate) read: fn(&[u8]) -> u64,
    pub(crate) seeds: &'static [&'static str],
}

pub(crate) const READERS: &[Reader] = &[
    Reader {
        name: "targets",
        read: targets,
        seeds: &[
            "198.18.0.0/15",
            "198.18.0.1-198.18.0.9,2001:db8::/120",
            "192.0.2.1-9\n198.18.0-3.*\n# a comment\n203.0.113.7:443",
            "[2001:db8::1]:80,198.18.0.1/32",
            "host.example/24,::ffff:198.18.0.1",
            "0.0.0.0/0",
        ],
    },
    Reader {
        name: "ports",
        read: ports,
        seeds: &["80,443", "T:1-1024,U:53,161", "-", "1-,S:9,I:8,0-65535", "http*,80-,-22", "U:-"],
    },
    Reader {
        name: "sources",
        read: sources,
        seeds: &[
            "{\"type\":\"record\",\"ip\":\"198.18.0.1\",\"port\":80,\"proto\":\"tcp\",\"state\":\"open\",\"reason\":\"syn-ack\"}\n",
            "timestamp,ip,port,proto,state,reason\n1,198.18.0.1,80,tcp,open,syn-ack\n",
            "SQLite format 3\0",
        ],
    },
    Reader {
        name: "scenarios",
        read: scenarios,
        seeds: &[
            include_str!("../../src/world/scenarios/hostile.toml"),
            include_str!("../../src/world/scenarios/quiet.toml"),
        ],
    },
];

fn number(parts: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

/// The words of a message without the user's own, so that equal mistakes are equal.
fn shape(message: &str) -> String {
    message.chars().filter(|letter| letter.is_ascii_alphabetic() || *letter == ' ').take(60).collect()
}

fn targets(bytes: &[u8]) -> u64 {
    let mut from_file = TargetList::default();
    let file = read_targets("fuzz", Cursor::new(bytes.to_vec()), &mut from_file);
    let file = file.err().map(|error| shape(&error.to_string()));
    let Ok(text) = std::str::from_utf8(bytes) else { return number(file) };
    let (mut line, mut list) = (TargetList::default(), TargetList::default());
    let one = parse_line(text, &mut line).is_ok();
    let outcome = parse_list(text, &mut list);
    if outcome.is_err() {
        return number((file, one, outcome.err().map(|error| shape(&error.to_string()))));
    }
    // What was read can be written as blocks, and they are the same addresses.
    let set = list.ranges.into_set();
    let blocks: Vec<String> = set.blocks().take(2_000).map(|block| block.to_string()).collect();
    let mut again = TargetList::default();
    if blocks.len() < 2_000 && !blocks.is_empty() {
        parse_list(&blocks.join(","), &mut again).expect("blocks are targets");
        assert_eq!(again.ranges.into_set(), set, "{text:?}");
    }
    number((file, one, blocks.len().min(8), list.names.len().min(3), set.len().checked_ilog2()))
}

fn ports(bytes: &[u8]) -> u64 {
    let Ok(text) = std::str::from_utf8(bytes) else { return 0 };
    let excluded = parse_excluded_ports(text).is_ok();
    match parse_ports(text) {
        Ok(ports) => {
            let again: PortSet = match parse_ports(&ports.to_string()) {
                Ok(again) => again,
                Err(error) => panic!("{text:?} reads, and what it is written as does not: {ports}: {error}"),
            };
            assert_eq!(again, ports, "{text:?}");
            number((excluded, ports.len().checked_ilog2()))
        }
        Err(error) => number((excluded, shape(&error.to_string()))),
    }
}

fn sources(bytes: &[u8]) -> u64 {
    let mut ways = Vec::new();
    for kind in SOURCES {
        let Ok(input) = Input::from_reader("fuzz", None, Box::new(Cursor::new(bytes.to_vec()))) else {
            continue;
        };
        let sniffed = (kind.sniff)(input.head());
        let mut outcome = (sniffed, 0, 0, String::new());
        match (kind.open)(input) {
            Ok(mut source) => {
                let mut batch = Observations::default();
                for _ in 0..64 {
                    match source.read(&mut batch) {
                        Ok(true) => (outcome.1, outcome.2) = (outcome.1 + batch.len(), outcome.2 + 1),
                        Ok(false) => break,
                        Err(error) => {
                            outcome.3 = shape(&error.to_string());
                            break;
                        }
                    }
                }
            }
            Err(error) => outcome.3 = shape(&error.to_string()),
        }
        let printable = |letter: char| !letter.is_control();
        assert!(outcome.3.chars().all(printable), "{}: {:?}", kind.name, outcome.3);
        ways.push(outcome);
    }
    number(ways)
}

fn scenarios(bytes: &[u8]) -> u64 {
    let Ok(text) = std::str::from_utf8(bytes) else { return 0 };
    match text.parse::<Scenario>() {
        Ok(_) => 1,
        Err(error) => number(shape(&error.to_string())),
    }
}
