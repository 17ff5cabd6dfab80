//! masscan's grepable lines (`--compat masscan -oG`): fields between tabs.

use super::super::format::{Line, asctime};
use super::super::lines::{self, Encode};
use super::super::services::Services;
use super::super::untrusted::{masscan_text, print};
use super::super::{Place, SinkError, SinkKind, file};
use super::{port, protocol, seconds, service, span, status};
use crate::event::{Manifest, Record, Untrusted};
use crate::target::Protocol;

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "masscan-grepable",
    about: "masscan's grepable lines (--compat masscan -oG)",
    packs: true,
    open: lines::open::<Grepable>,
    carries_bytes: true,
    ..SinkKind::BASE
};

#[derive(Default)]
struct Grepable {
    services: Option<Services>,
}

impl Encode for Grepable {
    fn prepare(&mut self, _place: &Place) -> Result<(), SinkError> {
        self.services = Some(Services::read());
        Ok(())
    }

    fn begin(&mut self, manifest: &Manifest, text: &mut Vec<u8>) {
        let (started, _) = span(manifest);
        print(text, format_args!("# Masscan 1.3.9-integration scan initiated {}\n", asctime(started)));
        text.extend_from_slice(ports_scanned(&manifest.ports).as_bytes());
    }

    fn encode(&mut self, record: &Record, line: &mut Line<'_>) {
        line.text("Timestamp: ");
        line.decimal64(seconds(record));
        line.text("\tHost: ");
        line.address(record.address());
        line.text(" ()\tPorts: ");
        line.decimal(u32::from(port(record)));
        line.text("/");
        line.text(status(record));
        line.text("/");
        protocol(record.protocol, line);
        line.text("//");
        self.service(record, line);
        line.text("//\n");
    }

    fn attach(&mut self, record: &Record, key: &str, bytes: &Untrusted, text: &mut Vec<u8>) {
        let (address, port) = (record.address(), port(record));
        print(text, format_args!("Host: {address} ()\tPort: {port}\tService: {}\tBanner: ", service(key)));
        masscan_text(bytes, text);
        text.push(b'\n');
    }

    fn end(&mut self, manifest: &Manifest, text: &mut Vec<u8>) {
        print(text, format_args!("# Masscan done at {}\n", asctime(span(manifest).1)));
    }

    fn resume(&mut self, tail: &[u8], whole: bool) -> Option<usize> {
        let end = b"# Masscan done at ";
        let last = tail.strip_suffix(b"\n").and_then(|rest| rest.iter().rposition(|byte| *byte == b'\n'));
        match last {
            Some(at) if tail[at + 1..].starts_with(end) => Some(at + 1),
            _ => file::resume_lines(tail, whole),
        }
    }
}

impl Grepable {
    /// The name of a TCP or UDP port, or that of the protocol.
    fn service(&self, record: &Record, line: &mut Line<'_>) {
        match record.protocol {
            Protocol::TCP | Protocol::UDP => {
                let name = self.services.as_ref().and_then(|names| names.name(record.protocol, record.port));
                line.text(name.unwrap_or("unknown"));
            }
            other => protocol(other, line),
        }
    }
}

/// `# Ports scanned: TCP(1;80-80) UDP(0;) SCTP(0;) PROTOCOLS(0;)` from the normal form of a port list.
pub(in super::super) fn ports_scanned(ports: &str) -> String {
    let mut lists = [
        (b'T', 0, String::new()),
        (b'U', 0, String::new()),
        (b'S', 0, String::new()),
        (b'O', 0, String::new()),
    ];
    let mut letter = b'T';
    for item in ports.split(',').filter(|item| !item.is_empty()) {
        let range = match item.as_bytes() {
            [prefix, b':', ..] => {
                letter = *prefix;
                &item[2..]
            }
            _ => item,
        };
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else { continue };
        let Some((_, count, text)) = lists.iter_mut().find(|(of, _, _)| *of == letter) else { continue };
        *count += last.saturating_sub(first) + 1;
        text.push_str(&format!("{}{first}-{last}", if text.is_empty() { "" } else { "," }));
    }
    let [tcp, udp, sctp, protocols] = lists.map(|(_, count, text)| format!("({count};{text})"));
    format!("# Ports scanned: TCP{tcp} UDP{udp} SCTP{sctp} PROTOCOLS{protocols}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_are_told_by_protocol() {
        assert_eq!(ports_scanned("80"), "# Ports scanned: TCP(1;80-80) UDP(0;) SCTP(0;) PROTOCOLS(0;)\n");
        assert_eq!(
            ports_scanned("22,80-89,U:53,123,I:8"),
            "# Ports scanned: TCP(11;22-22,80-89) UDP(2;53-53,123-123) SCTP(0;) PROTOCOLS(0;)\n"
        );
        assert_eq!(ports_scanned(""), "# Ports scanned: TCP(0;) UDP(0;) SCTP(0;) PROTOCOLS(0;)\n");
    }
}
