//! Lines for people, in masscan's words: `Discovered open port 80/tcp on 198.18.0.7`, with `--reason` why (`... on
//! 198.18.0.7 (syn-ack)`), and `Host 198.18.0.7 is up (echo-reply)`; with its link-layer address and who made it, where
//! an answer told it. The default on standard output.

use super::format::Line;
use super::lines::{self, Encode};
use super::{Place, SinkError, SinkKind, Vendors};
use crate::event::{Record, State};

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "text",
    about: "a line of text per result; the default on stdout",
    packs: true,
    open: lines::open::<Text>,
    ..SinkKind::BASE
};

#[derive(Default)]
struct Text {
    vendors: Vendors,
    reasons: bool,
}

impl Encode for Text {
    fn prepare(&mut self, place: &Place) -> Result<(), SinkError> {
        self.vendors = Vendors::of(place.makers.as_deref())?;
        self.reasons = place.reasons;
        Ok(())
    }

    fn encode(&mut self, record: &Record, line: &mut Line<'_>) {
        if record.state == State::Up {
            line.text("Host ");
            line.address(record.address());
            line.text(" is up (");
            line.text(record.reason.name());
            if let Some(mac) = record.mac() {
                line.text(", ");
                for (index, byte) in mac.into_iter().enumerate() {
                    line.text(if index == 0 { "" } else { ":" });
                    line.text(HEXADECIMAL[usize::from(byte >> 4)]);
                    line.text(HEXADECIMAL[usize::from(byte & 15)]);
                }
                if let Some(vendor) = self.vendors.name(mac) {
                    line.text(" ");
                    line.text(vendor);
                }
            }
            line.text(")\n");
            return;
        }
        line.text("Discovered ");
        line.text(record.state.name());
        line.text(" port ");
        line.decimal(u32::from(record.port));
        line.text("/");
        line.protocol(record.protocol);
        line.text(" on ");
        line.address(record.address());
        if self.reasons {
            line.text(" (");
            line.text(record.reason.name());
            if record.responder() != record.address() {
                line.text(" from ");
                line.address(record.responder());
            }
            line.text(")");
        }
        line.text("\n");
    }
}

const HEXADECIMAL: [&str; 16] =
    ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "b", "c", "d", "e", "f"];
