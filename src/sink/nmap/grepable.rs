//! nmap's grepable lines (`-oG`): for each address a line with its status and one with its ports.

use super::super::SinkKind;
use super::super::file;
use super::super::format::asctime;
use super::super::grouped::{self, Hosts};
use super::super::masscan::grepable::ports_scanned;
use super::super::services::Services;
use super::super::untrusted::{masscan_text, print};
use super::{by_port, port, service_of, span, verdict};
use crate::event::Manifest;
use crate::runs::Item;

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "nmap-grepable",
    suffixes: &["gnmap"],
    about: "nmap's grepable lines, one host for each address (-oG)",
    open: grouped::open::<Grepable>,
    carries_bytes: true,
    ..SinkKind::BASE
};

struct Grepable {
    services: Services,
}

impl Default for Grepable {
    fn default() -> Grepable {
        Grepable { services: Services::read() }
    }
}

impl Hosts for Grepable {
    const DOCUMENT: bool = false;
    const SOURCE: &'static str = "nmap-grepable";

    fn begin(&mut self, manifest: &Manifest, text: &mut Vec<u8>) {
        let (started, _) = span(manifest);
        let line = manifest.argv.join(" ");
        let line: String =
            line.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        print(
            text,
            format_args!("# Nmap (swath {}) scan initiated {} as: ", manifest.version, asctime(started)),
        );
        print(text, format_args!("{line}\n"));
        text.extend_from_slice(ports_scanned(&manifest.ports).as_bytes());
    }

    fn host(&mut self, items: &[Item], text: &mut Vec<u8>) {
        let address = items[0].record.address();
        print(text, format_args!("Host: {address} ()\tStatus: Up\n"));
        let mut separator = "\tPorts: ";
        for items in by_port(items) {
            let record = verdict(items);
            let Some((protocol, number)) = port(&record) else { continue };
            if separator.starts_with('\t') {
                print(text, format_args!("Host: {address} ()"));
            }
            let said = items.iter().filter_map(|item| item.bytes.as_deref());
            let probed = said.clone().find_map(|(key, _)| service_of(key));
            let name =
                probed.or_else(|| self.services.name(record.protocol, record.port)).unwrap_or_default();
            let state = record.state.name();
            print(text, format_args!("{separator}{number}/{state}/{protocol}//{name}//"));
            if let Some((_, bytes)) = said.clone().next() {
                // A slash would end the field.
                let mut version = Vec::new();
                masscan_text(bytes, &mut version);
                version.iter_mut().filter(|byte| matches!(byte, b'/' | b',')).for_each(|byte| *byte = b'|');
                text.extend_from_slice(&version);
            }
            text.push(b'/');
            separator = ", ";
        }
        if !separator.starts_with('\t') {
            text.push(b'\n');
        }
    }

    fn end(&mut self, manifest: &Manifest, hosts: u64, text: &mut Vec<u8>) {
        let (started, finished) = span(manifest);
        let plural = if hosts == 1 { "" } else { "s" };
        print(text, format_args!("# Nmap done at {} -- {hosts} IP addresses ", asctime(finished)));
        print(
            text,
            format_args!(
                "({hosts} host{plural} up) scanned in {}.00 seconds\n",
                finished.saturating_sub(started)
            ),
        );
    }

    fn resume(&mut self, tail: &[u8], whole: bool) -> Option<usize> {
        let last = tail.strip_suffix(b"\n").and_then(|rest| rest.iter().rposition(|byte| *byte == b'\n'));
        match last {
            Some(at) if tail[at + 1..].starts_with(b"# Nmap done at ") => Some(at + 1),
            _ => file::resume_lines(tail, whole),
        }
    }
}
