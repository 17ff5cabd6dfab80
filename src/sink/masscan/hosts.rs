//! masscan's bare addresses (`-oH`), one for every result.

use super::super::SinkKind;
use super::super::format::Line;
use super::super::lines::{self, Encode};
use crate::event::Record;

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "hosts",
    about: "the address of every result, one a line (-oH)",
    tells_state: false,
    packs: true,
    open: lines::open::<Hosts>,
    ..SinkKind::BASE
};

#[derive(Default)]
struct Hosts;

impl Encode for Hosts {
    fn encode(&mut self, record: &Record, line: &mut Line<'_>) {
        line.address(record.address());
        line.text("\n");
    }
}
