//! masscan's imitation of unicornscan (`-oU`): TCP in unicornscan's columns, the rest as it writes it there.

use super::super::format::Line;
use super::super::lines::{self, Encode};
use super::super::services::Services;
use super::super::{Place, SinkError, SinkKind, file};
use super::list::END;
use super::{port, protocol, status};
use crate::event::{Manifest, Record};
use crate::target::Protocol;

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "unicornscan",
    about: "unicornscan's columns, as masscan writes them (-oU)",
    packs: true,
    open: lines::open::<Unicornscan>,
    ..SinkKind::BASE
};

#[derive(Default)]
struct Unicornscan {
    services: Option<Services>,
}

impl Encode for Unicornscan {
    fn prepare(&mut self, _place: &Place) -> Result<(), SinkError> {
        self.services = Some(Services::read());
        Ok(())
    }

    fn begin(&mut self, _manifest: &Manifest, text: &mut Vec<u8>) {
        text.extend_from_slice(b"#masscan\n");
    }

    fn encode(&mut self, record: &Record, line: &mut Line<'_>) {
        if record.protocol != Protocol::TCP {
            line.text("Host: ");
            line.address(record.address());
            line.text(" ()\tPorts: ");
            line.decimal(u32::from(port(record)));
            line.text("/");
            line.text(status(record));
            line.text("/");
            protocol(record.protocol, line);
            return line.text("////\n");
        }
        let name = self.services.as_ref().and_then(|names| names.name(Protocol::TCP, record.port));
        let name = name.unwrap_or("unknown");
        line.text("TCP ");
        line.text(status(record));
        line.text("\t");
        (name.len()..16).for_each(|_| line.text(" "));
        line.text(name);
        line.text("[");
        line.right(u32::from(record.port), 5);
        line.text("]\t\tfrom ");
        line.address(record.address());
        line.text("  ttl ");
        let before = line.len();
        line.decimal(u32::from(record.ttl));
        (line.len() - before..3).for_each(|_| line.text(" "));
        line.text("\n");
    }

    fn end(&mut self, _manifest: &Manifest, text: &mut Vec<u8>) {
        text.extend_from_slice(END);
    }

    fn resume(&mut self, tail: &[u8], whole: bool) -> Option<usize> {
        file::resume_lines(tail.strip_suffix(END).unwrap_or(tail), whole)
    }
}
