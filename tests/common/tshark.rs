//! Capture files, and what tshark says of the frames in them.

use std::process::Command;

/// The frames of a capture file in the byte order of this machine.
pub(crate) fn records(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = &file[HEADER..];
    std::iter::from_fn(move || {
        let (head, behind) = rest.split_at_checked(16)?;
        let length = u32::from_ne_bytes(head[8..12].try_into().expect("four bytes")) as usize;
        let (frame, next) = behind.split_at_checked(length)?;
        rest = next;
        Some(frame)
    })
}

/// How many frames a capture file has.
pub(crate) fn frames(file: &[u8]) -> u64 {
    records(file).count() as u64
}

/// Capture files as one: the first whole, the others behind their header.
pub(crate) fn joined(files: Vec<Vec<u8>>) -> Vec<u8> {
    let bodies = files.iter().skip(1).flat_map(|file| &file[HEADER..]);
    files[0].iter().chain(bodies).copied().collect()
}

/// A capture file of some of the frames of another.
pub(crate) fn chosen<'a>(file: &[u8], frames: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut chosen = file[..HEADER].to_vec();
    for frame in frames {
        let length = u32::try_from(frame.len()).expect("frames are short").to_ne_bytes();
        chosen.extend([[0; 4], [0; 4], length, length].as_flattened());
        chosen.extend(frame);
    }
    chosen
}

/// The first frames that tshark finds fault with.
pub(crate) fn faults(capture: &[u8]) -> String {
    all_faults(capture).lines().take(3).map(|line| format!("{line}\n")).collect()
}

/// What tshark finds fault with: malformed, a bad checksum, an expert's error.
pub(crate) fn all_faults(capture: &[u8]) -> String {
    let bad = CHECKSUMS.map(|name| format!("{name}.checksum.status == 0")).join(" || ");
    tshark(capture, &["-Y", &format!("_ws.malformed || {bad} || _ws.expert.severity == {ERROR}")])
}

/// What tshark makes of one frame.
pub(crate) struct Reading {
    /// The protocols, lowest first: `eth:ethertype:ip:udp:dns`.
    pub(crate) layers: String,
    /// What is wrong, by tshark's names; empty when nothing is.
    pub(crate) fault: String,
}

/// What tshark makes of every frame, with some ports read as it is told ("udp.port==80,quic").
pub(crate) fn readings(capture: &[u8], decode_as: &[String]) -> Vec<Reading> {
    let mut arguments = vec!["-T", "fields", "-E", "occurrence=a", "-e", "frame.protocols"];
    arguments.extend(["-e", "_ws.malformed", "-e", "_ws.expert.severity", "-e", "_ws.expert.message"]);
    let statuses = CHECKSUMS.map(|name| format!("{name}.checksum.status"));
    arguments.extend(statuses.iter().flat_map(|status| ["-e", status]));
    arguments.extend(decode_as.iter().flat_map(|rule| ["-d", rule]));
    let told = tshark(capture, &arguments);
    let readings: Vec<Reading> = told.lines().map(reading).collect();
    assert_eq!(readings.len() as u64, frames(capture), "a line for each frame");
    readings
}

fn reading(line: &str) -> Reading {
    let fields: Vec<&str> = line.split('\t').collect();
    let [layers, malformed, severities, messages, statuses @ ..] = &fields[..] else {
        panic!("four fields in '{line}'")
    };
    let bad = statuses.iter().zip(CHECKSUMS).find(|(status, _)| status.split(',').any(|one| one == "0"));
    let fault = match bad {
        Some((_, name)) => format!("bad checksum of {name}"),
        // Of some protocols a warning says it.
        None if messages.to_lowercase().contains("bad checksum") => format!("bad checksum of {layers}"),
        None if !malformed.is_empty() || severities.split(',').any(|one| one == ERROR) => {
            format!("{malformed} {messages}")
        }
        None => String::new(),
    };
    Reading { layers: (*layers).to_owned(), fault }
}

/// What tshark prints about a capture file.
fn tshark(capture: &[u8], arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("frames.pcap");
    std::fs::write(&file, capture).expect("written");
    let mut command = Command::new("tshark");
    command.args(["-n", "-r"]).arg(&file);
    // Thousands of probes look like the retransmissions of one conversation; that is no fault of a frame.
    for option in [
        "ip.check_checksum:TRUE",
        "tcp.check_checksum:TRUE",
        "udp.check_checksum:TRUE",
        // With "TRUE" it checks none.
        "sctp.checksum:CRC 32c",
        "tcp.analyze_sequence_numbers:FALSE",
    ] {
        command.args(["-o", option]);
    }
    let output = command.args(arguments).output().expect("tshark runs (Debian: tshark)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Bytes of a capture file before its first frame.
const HEADER: usize = 24;
/// The severity of an expert's error.
const ERROR: &str = "8388608";
/// The protocols whose checksums tshark judges.
const CHECKSUMS: [&str; 6] = ["ip", "tcp", "udp", "icmp", "icmpv6", "sctp"];
