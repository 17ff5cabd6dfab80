//! Lines for people, in masscan's words: `Discovered open port 80/tcp on 198.18.0.7`, and `Host
//! 198.18.0.7 is up (echo-reply)`; with its link-layer address and who made it, where an answer told it. The default on standard output.

use super::SinkKind;
use super::format::Line;
use super::lines::{self, Encode};
use super::vendor::vendor;
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
struct Text;

impl Encode for Text {
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
                if let Some(vendor) = vendor(mac) {
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
        line.text("\n");
    }
}

const HEXADECIMAL: [&str; 16] =
    ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "b", "c", "d", "e", "f"];
