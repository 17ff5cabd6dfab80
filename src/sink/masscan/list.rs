//! masscan's list (`-oL`): `open tcp 80 192.0.2.10 1700000001`.

use super::super::format::Line;
use super::super::lines::{self, Encode};
use super::super::untrusted::{masscan_text, print};
use super::super::{SinkKind, file};
use super::{port, protocol, seconds, service, status};
use crate::event::{Manifest, Record, Untrusted};

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "masscan-list",
    about: "masscan's list of states and banners (-oL)",
    packs: true,
    open: lines::open::<List>,
    carries_bytes: true,
    ..SinkKind::BASE
};

#[derive(Default)]
struct List;

impl Encode for List {
    fn begin(&mut self, _manifest: &Manifest, text: &mut Vec<u8>) {
        text.extend_from_slice(b"#masscan\n");
    }

    fn encode(&mut self, record: &Record, line: &mut Line<'_>) {
        line.text(status(record));
        line.text(" ");
        protocol(record.protocol, line);
        line.text(" ");
        line.decimal(u32::from(port(record)));
        line.text(" ");
        line.address(record.address());
        line.text(" ");
        line.decimal64(seconds(record));
        line.text("\n");
    }

    fn attach(&mut self, record: &Record, key: &str, bytes: &Untrusted, text: &mut Vec<u8>) {
        let protocol = record.protocol;
        print(text, format_args!("banner {protocol} {} {} ", port(record), record.address()));
        print(text, format_args!("{} {} ", seconds(record), service(key)));
        masscan_text(bytes, text);
        text.push(b'\n');
    }

    fn end(&mut self, _manifest: &Manifest, text: &mut Vec<u8>) {
        text.extend_from_slice(END);
    }

    fn resume(&mut self, tail: &[u8], whole: bool) -> Option<usize> {
        file::resume_lines(tail.strip_suffix(END).unwrap_or(tail), whole)
    }
}

pub(super) const END: &[u8] = b"# end\n";
