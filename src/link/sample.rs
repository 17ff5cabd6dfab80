//! Templates, batches and specifications for the tests of links.

use std::sync::Arc;

use crate::batch::{Batch, NextHops, Template};
use crate::gate::Gate;
use crate::link::{Filter, LinkSpec, Queues, Receive};
use crate::wire::ethernet::{self, Mac};

/// A SYN from 192.0.2.1 with one option (MSS): 58 bytes of Ethernet.
pub(crate) fn syn_v4() -> Template {
    let mut bytes = ethernet::header(Mac([0; 6]), Mac([2, 0, 0, 0, 0, 1]), ethernet::IPV4).to_vec();
    bytes.extend([0x45, 0, 0, 44, 0, 0, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 0, 0, 0, 0]);
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x60, 2, 4, 0, 0, 0, 0, 0, 2, 4, 5, 0xb4]);
    Template::tcp(bytes, None)
}

/// The same for IPv6, from 2001:db8::1: 78 bytes.
pub(crate) fn syn_v6() -> Template {
    let mut bytes = ethernet::header(Mac([0; 6]), Mac([2, 0, 0, 0, 0, 1]), ethernet::IPV6).to_vec();
    bytes.extend([0x60, 0, 0, 0, 0, 24, 6, 64]);
    bytes.extend("2001:db8::1".parse::<std::net::Ipv6Addr>().expect("address").octets());
    bytes.extend([0; 16]);
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x60, 2, 4, 0, 0, 0, 0, 0, 2, 4, 5, 0xb4]);
    Template::tcp(bytes, None)
}

/// A link that goes nowhere with both templates and an open gate.
pub(crate) fn spec() -> LinkSpec {
    LinkSpec {
        argument: None,
        interface: None,
        templates: Arc::from([syn_v4(), syn_v6()]),
        hops: NextHops::new(1),
        gate: Arc::new(Gate::open()),
        filter: Filter { addresses: Vec::new(), port_first: 40_000, port_last: 40_255, any_protocol: false },
        queues: Queues::ONE,
        receive: Receive::Packet,
        attach: true,
    }
}

/// What to put behind the colon of a link that keeps its frames: a file that is new, or the name of a scenario.
pub(crate) fn argument(backend: &super::Backend, directory: &std::path::Path) -> Option<std::path::PathBuf> {
    match backend.name {
        "world" => Some("quiet".into()),
        "pcap" => Some(directory.join(backend.name)),
        _ => None,
    }
}

/// `length` IPv4 probes to 198.51.100.0 and up, numbered from `first`.
pub(crate) fn batch(first: u32, length: usize) -> Batch {
    let mut batch = Batch::empty();
    batch.resize(length);
    for (lane, number) in (first..).enumerate().take(length) {
        batch.destination_v4[lane] = 0xc633_6400 + number;
        batch.destination_port[lane] = 443;
        batch.source_port[lane] = 40_000;
        batch.sequence[lane] = number;
        batch.identification[lane] = 7;
    }
    batch
}
