//! nmap's XML (`-oX`): valid by nmap's DTD, one `<host>` for each address, so that ndiff, python-libnmap, python-nmap,
//! Metasploit and the others read it as they read nmap's.
//!
//! Bytes that targets sent stand in `<script id="swath-KEY" output="..."/>`. A service is named by its port
//! (`method="table"`), or by what it said (`method="probed"`).

use super::super::format::asctime;
use super::super::grouped::{self, Hosts};
use super::super::services::Services;
use super::super::untrusted::{print, word, xml_attribute};
use super::super::{Place, SinkError, SinkKind, Vendors};
use super::{best, by_port, port, service_of, span, verdict};
use crate::event::{Manifest, Reason, Record, State, Status};
use crate::runs::Item;

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "nmap-xml",
    suffixes: &["xml"],
    about: "nmap's XML, one host for each address (-oX)",
    open: grouped::open::<Xml>,
    carries_bytes: true,
    ..SinkKind::BASE
};

struct Xml {
    services: Services,
    vendors: Vendors,
}

impl Default for Xml {
    fn default() -> Xml {
        Xml { services: Services::read(), vendors: Vendors::default() }
    }
}

impl Hosts for Xml {
    const DOCUMENT: bool = true;
    const SOURCE: &'static str = "nmap-xml";

    fn prepare(&mut self, place: &Place) -> Result<(), SinkError> {
        self.vendors = Vendors::of(place.makers.as_deref())?;
        Ok(())
    }

    fn begin(&mut self, manifest: &Manifest, text: &mut Vec<u8>) {
        let (started, _) = span(manifest);
        text.extend_from_slice(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE nmaprun>\n");
        // The DTD knows one scanner; what wrote it says `version` and `args`.
        text.extend_from_slice(b"<nmaprun scanner=\"nmap\" args=\"");
        xml_attribute(manifest.argv.join(" ").as_bytes(), text);
        print(text, format_args!("\" start=\"{started}\" startstr=\"{}\" ", asctime(started)));
        print(text, format_args!("version=\"swath {}\" xmloutputversion=\"1.05\">\n", manifest.version));
        scan_info(&manifest.ports, text);
        text.extend_from_slice(b"<verbose level=\"0\"/>\n<debugging level=\"0\"/>\n");
    }

    fn host(&mut self, items: &[Item], text: &mut Vec<u8>) {
        let times = || items.iter().map(|item| item.record.time_ns / 1_000_000_000);
        let (first, last) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
        print(text, format_args!("<host starttime=\"{first}\" endtime=\"{last}\">"));
        let (reason, ttl) = alive(items);
        print(text, format_args!("<status state=\"up\" reason=\"{reason}\" reason_ttl=\"{ttl}\"/>\n"));
        let address = items[0].record.address();
        let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
        print(text, format_args!("<address addr=\"{address}\" addrtype=\"{family}\"/>\n"));
        if let Some(mac) = items.iter().find_map(|item| item.record.mac()) {
            let [a, b, c, d, e, f] = mac;
            print(
                text,
                format_args!(
                    "<address addr=\"{a:02X}:{b:02X}:{c:02X}:{d:02X}:{e:02X}:{f:02X}\" addrtype=\"mac\""
                ),
            );
            if let Some(vendor) = self.vendors.name(mac) {
                text.extend_from_slice(b" vendor=\"");
                xml_attribute(vendor.as_bytes(), text);
                text.extend_from_slice(b"\"");
            }
            text.extend_from_slice(b"/>\n");
        }
        text.extend_from_slice(b"<hostnames>\n</hostnames>\n<ports>");
        by_port(items).for_each(|items| self.port(items, text));
        text.extend_from_slice(b"</ports>\n</host>\n");
    }

    fn end(&mut self, manifest: &Manifest, hosts: u64, text: &mut Vec<u8>) {
        let (started, finished) = span(manifest);
        let elapsed = finished.saturating_sub(started);
        let (exit, message) = match manifest.status {
            Status::Complete => ("success", ""),
            Status::Interrupted => ("error", " errormsg=\"interrupted\""),
            Status::Failed => ("error", " errormsg=\"failed\""),
            Status::Running => ("error", " errormsg=\"not finished\""),
        };
        print(
            text,
            format_args!("<runstats><finished time=\"{finished}\" timestr=\"{}\" ", asctime(finished)),
        );
        print(text, format_args!("summary=\"swath done at {}; {hosts} hosts up\" ", asctime(finished)));
        print(text, format_args!("elapsed=\"{elapsed}.00\" exit=\"{exit}\"{message}/>"));
        print(
            text,
            format_args!("<hosts up=\"{hosts}\" down=\"0\" total=\"{hosts}\"/>\n</runstats>\n</nmaprun>\n"),
        );
    }

    fn resume(&mut self, tail: &[u8], whole: bool) -> Option<usize> {
        let text = String::from_utf8_lossy(tail);
        let behind = |end: &str| text.rfind(end).map(|at| at + end.len());
        let end = text.rfind("\n<runstats>").map(|at| at + 1);
        let header = behind("<debugging level=\"0\"/>\n").filter(|_| whole);
        end.or_else(|| behind("</host>\n"))
            .or(header)
            .or_else(|| (whole && !text.contains("<host")).then_some(0))
    }
}

impl Xml {
    fn port(&self, items: &[Item], text: &mut Vec<u8>) {
        let record = verdict(items);
        let Some((protocol, number)) = port(&record) else { return };
        print(text, format_args!("<port protocol=\"{protocol}\" portid=\"{number}\">"));
        let (state, reason) = (record.state.name(), record.reason.name());
        print(
            text,
            format_args!("<state state=\"{state}\" reason=\"{reason}\" reason_ttl=\"{}\"", record.ttl),
        );
        if record.responder() != record.address() {
            print(text, format_args!(" reason_ip=\"{}\"", record.responder()));
        }
        text.extend_from_slice(b"/>");
        let said = items.iter().filter_map(|item| item.bytes.as_deref());
        let probed = said.clone().find_map(|(key, _)| service_of(key));
        match (probed, self.services.name(record.protocol, record.port)) {
            (Some(name), _) => {
                print(text, format_args!("<service name=\"{name}\" method=\"probed\" conf=\"10\"/>"))
            }
            (None, Some(name)) => {
                print(text, format_args!("<service name=\"{name}\" method=\"table\" conf=\"3\"/>"))
            }
            (None, None) => {}
        }
        for (key, bytes) in said {
            print(text, format_args!("<script id=\"swath-{}\" output=\"", word(key)));
            xml_attribute(&bytes.0, text);
            text.extend_from_slice(b"\"/>");
        }
        text.extend_from_slice(b"</port>\n");
    }
}

/// Why a host is up, and the time to live that came with it. A router that answers for it does not make it up, but
/// neither does it make it down: then nmap's word for a host that was not asked.
fn alive(items: &[Item]) -> (&'static str, u8) {
    let itself = |record: &&Record| !matches!(record.state, State::Filtered | State::OpenFiltered);
    match best(items.iter()).filter(itself) {
        Some(record) => (record.reason.name(), record.ttl),
        None if items.iter().any(|item| item.bytes.is_some()) => {
            (Reason::SYN_ACK.name(), items[0].record.ttl)
        }
        None => ("user-set", 0),
    }
}

/// A `<scaninfo>` for each protocol in the normal form of a port list.
fn scan_info(ports: &str, text: &mut Vec<u8>) {
    let kinds = [('T', "syn", "tcp"), ('U', "udp", "udp"), ('S', "sctpinit", "sctp"), ('O', "ipproto", "ip")];
    for (letter, kind, protocol) in kinds {
        let mut current = 'T';
        let (mut count, mut list) = (0, Vec::new());
        for item in ports.split(',').filter(|item| !item.is_empty()) {
            let (prefix, range) = item.split_once(':').unwrap_or(("", item));
            current = prefix.chars().next().unwrap_or(current);
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            if let (true, Ok(first), Ok(last)) =
                (current == letter, first.parse::<u32>(), last.parse::<u32>())
            {
                count += last.saturating_sub(first) + 1;
                list.push(range);
            }
        }
        if 0 < count {
            print(text, format_args!("<scaninfo type=\"{kind}\" protocol=\"{protocol}\" "));
            print(text, format_args!("numservices=\"{count}\" services=\"{}\"/>\n", list.join(",")));
        }
    }
}
