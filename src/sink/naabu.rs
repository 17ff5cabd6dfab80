//! naabu's JSON lines (`--compat naabu -o FILE`). ARP and neighbour discovery replies stand at port 0, as naabu writes
//! hosts without a port.

use super::SinkKind;
use super::format::{Line, SecondCache};
use super::lines::{self, Encode};
use crate::event::{Record, State};

/// The row of the registry.
pub(crate) const KIND: SinkKind = SinkKind {
    name: "naabu",
    about: "naabu's JSON lines (--compat naabu)",
    states: &[State::Open, State::Up],
    packs: true,
    open: lines::open::<Naabu>,
    ..SinkKind::BASE
};

struct Naabu {
    seconds: SecondCache,
}

impl Default for Naabu {
    fn default() -> Naabu {
        Naabu { seconds: SecondCache::new() }
    }
}

impl Encode for Naabu {
    fn encode(&mut self, record: &Record, line: &mut Line<'_>) {
        line.text("{\"host\":\"");
        line.address(record.address());
        line.text("\",\"ip\":\"");
        line.address(record.address());
        line.text("\",\"timestamp\":\"");
        line.time(record.time_ns, &mut self.seconds);
        line.text("\",\"port\":");
        line.decimal(u32::from(record.port));
        line.text(",\"protocol\":\"");
        line.protocol(record.protocol);
        line.text("\",\"tls\":false");
        if let Some(mac) = record.mac() {
            line.text(",\"mac_address\":\"");
            line.mac(mac);
            line.text("\"");
        }
        line.text("}\n");
    }
}
