//! masscan's XML (`--compat masscan -oX`): a `<host>` for every result, lines that end in CRLF, `addrtype` always
//! `ipv4` as masscan has it. Importers that want one host for each address take nmap's XML (`-oX`).
//!
//! Unlike masscan's own it is a whole document at every commit, without a result, and after it was appended to.

use super::super::SinkKind;
use super::super::format::{Line, date_and_time};
use super::super::lines::{self, Encode};
use super::super::untrusted::{masscan_text, print};
use super::{port, protocol, reason, seconds, service, span, status};
use crate::event::{Manifest, Record, State, Untrusted};
use crate::target::Protocol;

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "masscan-xml",
    about: "masscan's XML (--compat masscan -oX)",
    packs: true,
    open: lines::open::<Xml>,
    carries_bytes: true,
    ..SinkKind::BASE
};

#[derive(Default)]
struct Xml {
    /// TCP results that are open, that are closed, and all.
    up: u64,
    down: u64,
    /// Of the file that is appended to.
    before: (u64, u64),
}

impl Encode for Xml {
    const DOCUMENT: bool = true;

    fn begin(&mut self, manifest: &Manifest, text: &mut Vec<u8>) {
        let (started, _) = span(manifest);
        text.extend_from_slice(BEGIN);
        print(text, format_args!("<nmaprun scanner=\"masscan\" start=\"{started}\" version=\"1.0-BETA\"  "));
        text.extend_from_slice(
            b"xmloutputversion=\"1.03\">\r\n<scaninfo type=\"syn\" protocol=\"tcp\" />\r\n",
        );
    }

    fn encode(&mut self, record: &Record, line: &mut Line<'_>) {
        self.count(record);
        line.text("<host endtime=\"");
        line.decimal64(seconds(record));
        line.text("\"><address addr=\"");
        line.address(record.address());
        line.text("\" addrtype=\"ipv4\"/><ports><port protocol=\"");
        protocol(record.protocol, line);
        line.text("\" portid=\"");
        line.decimal(u32::from(port(record)));
        line.text("\"><state state=\"");
        line.text(status(record));
        line.text("\" reason=\"");
        reason(record, line);
        line.text("\" reason_ttl=\"");
        line.decimal(u32::from(record.ttl));
        line.text("\"/></port></ports></host>\r\n");
    }

    fn attach(&mut self, record: &Record, key: &str, bytes: &Untrusted, text: &mut Vec<u8>) {
        let (address, seconds, port) = (record.address(), seconds(record), port(record));
        print(
            text,
            format_args!("<host endtime=\"{seconds}\"><address addr=\"{address}\" addrtype=\"ipv4\"/>"),
        );
        print(text, format_args!("<ports><port protocol=\"{}\" portid=\"{port}\">", record.protocol));
        print(
            text,
            format_args!("<state state=\"open\" reason=\"response\" reason_ttl=\"{}\" />", record.ttl),
        );
        print(text, format_args!("<service name=\"{}\" banner=\"", service(key)));
        masscan_text(bytes, text);
        text.extend_from_slice(b"\"></service></port></ports></host>\r\n");
    }

    fn end(&mut self, manifest: &Manifest, text: &mut Vec<u8>) {
        let (started, finished) = span(manifest);
        let (up, down) = (self.up + self.before.0, self.down + self.before.1);
        text.extend_from_slice(END);
        print(text, format_args!("<finished time=\"{finished}\" timestr=\"{}\" ", date_and_time(finished)));
        print(text, format_args!("elapsed=\"{}\" />\r\n", finished.saturating_sub(started)));
        print(text, format_args!("<hosts up=\"{up}\" down=\"{down}\" total=\"{}\" />\r\n", up + down));
        text.extend_from_slice(b"</runstats>\r\n</nmaprun>\r\n");
    }

    fn resume(&mut self, tail: &[u8], whole: bool) -> Option<usize> {
        let text = String::from_utf8_lossy(tail);
        if let Some(at) = text.rfind("\r\n<runstats>\r\n") {
            let count = |name: &str| -> Option<u64> {
                let rest = text[at..].split_once(&format!(" {name}=\""))?.1;
                rest.split('"').next()?.parse().ok()
            };
            self.before = (count("up").unwrap_or(0), count("down").unwrap_or(0));
            return Some(at + 2);
        }
        let results = text.rfind("</host>\r\n").map(|at| at + "</host>\r\n".len());
        let header = text.find("<scaninfo type=\"syn\" protocol=\"tcp\" />\r\n").filter(|_| whole);
        let header = header.map(|at| at + "<scaninfo type=\"syn\" protocol=\"tcp\" />\r\n".len());
        results.or(header).or_else(|| (whole && tail.len() < 300 && text.starts_with("<?xml")).then_some(0))
    }
}

impl Xml {
    /// masscan's `hosts` are TCP results: open ones are up, closed ones down.
    fn count(&mut self, record: &Record) {
        if record.protocol == Protocol::TCP {
            self.up += u64::from(record.state == State::Open);
            self.down += u64::from(record.state == State::Closed);
        }
    }
}

const BEGIN: &[u8] = b"<?xml version=\"1.0\"?>\r\n<!-- masscan v1.0 scan -->\r\n";
const END: &[u8] = b"<runstats>\r\n";
