//! Bare `address:port` lines, IPv6 addresses in brackets, and of hosts that are up bare addresses: what other tools take as their list of targets.

use super::SinkKind;
use super::format::Line;
use super::lines::{self, Encode};
use crate::event::{Record, State};

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "list",
    suffixes: &["txt"],
    about: "ip:port lines of open ports, ip lines of hosts",
    tells_state: false,
    packs: true,
    open: lines::open::<List>,
    ..SinkKind::BASE
};

#[derive(Default)]
struct List;

impl Encode for List {
    fn encode(&mut self, record: &Record, line: &mut Line<'_>) {
        // What says that a host is up says nothing about a port of it.
        if record.state == State::Up {
            line.address(record.address());
        } else {
            line.endpoint(record.address(), record.port);
        }
        line.text("\n");
    }
}
