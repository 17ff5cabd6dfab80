//! The receive filter: which frames the kernel copies into the ring at all.
//!
//! A superset of what any probe accepts: frames to our addresses whose destination port is one of ours, ICMP
//! errors whatever they quote, echo and timestamp replies, ARP and neighbour discovery meant for us. It spares the
//! ring; judging is the receiver's business.

use std::net::IpAddr;

use crate::link::{Filter, Framing};
use crate::sys::bpf::{Assembler, Label, Program, Test, To};
use crate::wire::ethernet;

/// The program for `filter` on frames of that framing.
pub fn program(filter: &Filter, framing: Framing) -> Program {
    let mut filter = Assembly { assembler: Assembler::new(), base: 0, filter };
    match framing {
        Framing::Ethernet | Framing::Loopback => filter.ethernet(),
        Framing::Bare => filter.bare(),
    }
    filter
        .assembler
        .finish()
        .expect("the limits on addresses keep every jump within reach; a test has the largest")
}

struct Assembly<'a> {
    assembler: Assembler,
    /// Offset of the network header.
    base: u32,
    filter: &'a Filter,
}

impl Assembly<'_> {
    fn ethernet(&mut self) {
        self.base = ETHERNET_HEADER;
        let (v4, v6, arp) = (self.assembler.label(), self.assembler.label(), self.assembler.label());
        self.assembler.load_half(12);
        self.equal(ethernet::IPV4.into(), v4);
        self.equal(ethernet::ARP.into(), arp);
        self.equal(ethernet::IPV6.into(), v6);
        self.assembler.accept(DROP);
        self.assembler.bind(arp);
        self.arp();
        self.assembler.bind(v4);
        self.ipv4();
        self.assembler.bind(v6);
        self.ipv6();
    }

    /// The version stands in the first half byte.
    fn bare(&mut self) {
        let (v4, v6) = (self.assembler.label(), self.assembler.label());
        self.assembler.load_byte(0);
        self.assembler.and(0xf0);
        self.equal(0x40, v4);
        self.equal(0x60, v6);
        self.assembler.accept(DROP);
        self.assembler.bind(v4);
        self.ipv4();
        self.assembler.bind(v6);
        self.ipv6();
    }

    /// RFC 826: requests for one of our addresses and answers to us both name it as target.
    fn arp(&mut self) {
        self.one_of_ours_v4(24);
        self.assembler.accept(KEEP);
    }

    fn ipv4(&mut self) {
        self.one_of_ours_v4(16);
        let (drop, ports, icmp) = (self.assembler.label(), self.assembler.label(), self.assembler.label());
        // RFC 791 section 3.1: a fragment that is not the first has no transport header.
        self.assembler.load_half(self.base + 6);
        self.assembler.jump(Test::AnyBit, 0x1fff, To::Label(drop), To::Next);
        self.assembler.load_byte(self.base + 9);
        for protocol in WITH_PORTS {
            self.equal(protocol, ports);
        }
        self.equal(ICMP, icmp);
        if self.filter.any_protocol {
            self.assembler.accept(KEEP);
        }
        self.assembler.bind(drop);
        self.assembler.accept(DROP);

        self.assembler.bind(ports);
        self.assembler.index_by_ipv4_header(self.base);
        self.assembler.load_half_indexed(self.base + 2);
        self.one_of_our_ports();

        self.assembler.bind(icmp);
        self.assembler.index_by_ipv4_header(self.base);
        self.assembler.load_byte_indexed(self.base);
        self.keep_if_any(&ICMP_TYPES);
    }

    fn ipv6(&mut self) {
        self.one_of_ours_v6(24);
        let (ports, icmp, keep) = (self.assembler.label(), self.assembler.label(), self.assembler.label());
        self.assembler.load_byte(self.base + 6);
        for protocol in WITH_PORTS {
            self.equal(protocol, ports);
        }
        self.equal(ICMPV6, icmp);
        for extension in EXTENSIONS {
            self.equal(extension, keep);
        }
        self.assembler.accept(if self.filter.any_protocol { KEEP } else { DROP });

        self.assembler.bind(keep);
        self.assembler.accept(KEEP);

        self.assembler.bind(ports);
        self.assembler.load_half(self.base + 40 + 2);
        self.one_of_our_ports();

        self.assembler.bind(icmp);
        self.assembler.load_byte(self.base + 40);
        self.keep_if_any(&ICMPV6_TYPES);
    }

    /// Goes on if the IPv4 address at `offset` of the network header is ours, drops otherwise.
    fn one_of_ours_v4(&mut self, offset: u32) {
        let ours: Vec<u32> = self.filter.addresses.iter().filter_map(|&address| v4(address)).collect();
        if MAX_V4 < ours.len() {
            return;
        }
        let found = self.assembler.label();
        self.assembler.load_word(self.base + offset);
        for address in ours {
            self.equal(address, found);
        }
        self.assembler.accept(DROP);
        self.assembler.bind(found);
    }

    /// As [`Assembly::one_of_ours_v4`], four words at a time.
    fn one_of_ours_v6(&mut self, offset: u32) {
        let ours: Vec<[u32; 4]> = self.filter.addresses.iter().filter_map(|&address| v6(address)).collect();
        if MAX_V6 < ours.len() {
            return;
        }
        let found = self.assembler.label();
        for words in ours {
            let other = self.assembler.label();
            for (position, word) in (0u32..).zip(words) {
                self.assembler.load_word(self.base + offset + 4 * position);
                let holds = if position == 3 { To::Label(found) } else { To::Next };
                self.assembler.jump(Test::Equal, word, holds, To::Label(other));
            }
            self.assembler.bind(other);
        }
        self.assembler.accept(DROP);
        self.assembler.bind(found);
    }

    /// Ends with "keep" if the loaded number is one of our ports, with "drop" otherwise.
    fn one_of_our_ports(&mut self) {
        let drop = self.assembler.label();
        let (first, last) = (self.filter.port_first.into(), self.filter.port_last.into());
        self.assembler.jump(Test::GreaterOrEqual, first, To::Next, To::Label(drop));
        self.assembler.jump(Test::Greater, last, To::Label(drop), To::Next);
        self.assembler.accept(KEEP);
        self.assembler.bind(drop);
        self.assembler.accept(DROP);
    }

    /// Ends with "keep" if the loaded number is one of `numbers`, with "drop" otherwise.
    fn keep_if_any(&mut self, numbers: &[u32]) {
        let keep = self.assembler.label();
        for &number in numbers {
            self.equal(number, keep);
        }
        self.assembler.accept(DROP);
        self.assembler.bind(keep);
        self.assembler.accept(KEEP);
    }

    fn equal(&mut self, number: u32, to: Label) {
        self.assembler.jump(Test::Equal, number, To::Label(to), To::Next);
    }
}

fn v4(address: IpAddr) -> Option<u32> {
    match address {
        IpAddr::V4(address) => Some(address.into()),
        IpAddr::V6(_) => None,
    }
}

fn v6(address: IpAddr) -> Option<[u32; 4]> {
    let IpAddr::V6(address) = address else { return None };
    let [a, b, c, d, e, f, g, h] = address.segments().map(u32::from);
    Some([a << 16 | b, c << 16 | d, e << 16 | f, g << 16 | h])
}

/// [`ethernet::HEADER`] as the filter's offsets are counted.
const ETHERNET_HEADER: u32 = 14;
const _: () = assert!(ETHERNET_HEADER as usize == ethernet::HEADER);

/// What a filter returns: how many bytes of the frame are kept.
const DROP: u32 = 0;
const KEEP: u32 = 0xffff;

/// Above so many addresses of ours the destination is not filtered: a jump reaches 255 instructions.
const MAX_V4: usize = 64;
const MAX_V6: usize = 12;

/// TCP, UDP, SCTP: the destination port is the second half word of the header.
const WITH_PORTS: [u32; 3] = [6, 17, 132];
const ICMP: u32 = 1;
const ICMPV6: u32 = 58;
/// Echo reply, unreachable, time exceeded, parameter problem, timestamp reply, address mask reply (RFC 792, 950).
const ICMP_TYPES: [u32; 6] = [0, 3, 11, 12, 14, 18];
/// Unreachable, too big, time exceeded, parameter problem, echo reply (RFC 4443); neighbour solicitation and
/// advertisement (RFC 4861).
const ICMPV6_TYPES: [u32; 7] = [1, 2, 3, 4, 129, 135, 136];
/// Headers that may stand before the transport header: hop-by-hop, routing, fragment, ESP, AH, destination
/// options, mobility, HIP, shim6 (RFC 8200, IANA registry). The receiver walks them; the filter cannot.
const EXTENSIONS: [u32; 9] = [0, 43, 44, 50, 51, 60, 135, 139, 140];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::bpf::interpret;
    use proptest::prelude::*;

    const OURS_V4: &str = "192.0.2.1";
    const OURS_V6: &str = "2001:db8::1";

    fn ours() -> Filter {
        let addresses =
            ["203.0.113.9", OURS_V4, "2001:db8::9", OURS_V6].map(|text| text.parse().expect("address"));
        Filter { addresses: addresses.to_vec(), port_first: 40_000, port_last: 40_255, any_protocol: false }
    }

    /// What a receiver could make use of, written without regard to the filter.
    fn useful(packet: &[u8], filter: &Filter) -> Option<()> {
        let wanted = |bytes: &[u8]| {
            let address = match bytes.len() {
                4 => IpAddr::from(<[u8; 4]>::try_from(bytes).expect("4 bytes")),
                _ => IpAddr::from(<[u8; 16]>::try_from(bytes).expect("16 bytes")),
            };
            filter.addresses.contains(&address).then_some(())
        };
        let ports = |transport: &[u8]| {
            let port = u16::from_be_bytes(transport.get(2..4)?.try_into().ok()?);
            (filter.port_first..=filter.port_last).contains(&port).then_some(())
        };
        match packet.first()? >> 4 {
            4 => {
                wanted(packet.get(16..20)?)?;
                let transport = packet.get(usize::from(packet[0] & 0xf) * 4..)?;
                let offset = u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff;
                match packet[9] {
                    _ if offset != 0 => None,
                    6 | 17 => ports(transport),
                    1 => matches!(transport.first()?, 0 | 3 | 11 | 14 | 18).then_some(()),
                    _ => None,
                }
            }
            6 => {
                wanted(packet.get(24..40)?)?;
                match packet[6] {
                    6 | 17 => ports(packet.get(40..)?),
                    58 => matches!(packet.get(40)?, 1..=4 | 129 | 136).then_some(()),
                    0 | 43 | 44 | 51 | 60 => Some(()),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn on_ethernet(ethertype: u16, packet: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(ethertype.to_be_bytes());
        frame.extend(packet);
        frame
    }

    fn keeps(framing: Framing, frame: &[u8]) -> bool {
        interpret::run(&program(&ours(), framing), frame) != 0
    }

    fn tcp_v4(source_port: u16, destination_port: u16) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x45;
        packet[9] = 6;
        packet[16..20].copy_from_slice(&[192, 0, 2, 1]);
        packet[20..22].copy_from_slice(&source_port.to_be_bytes());
        packet[22..24].copy_from_slice(&destination_port.to_be_bytes());
        packet
    }

    #[test]
    fn a_reply_to_one_of_our_ports_is_kept_and_others_are_not() {
        for (port, kept) in [(39_999, false), (40_000, true), (40_255, true), (40_256, false)] {
            let packet = tcp_v4(80, port);
            assert_eq!(keeps(Framing::Bare, &packet), kept, "{port}");
            assert_eq!(keeps(Framing::Ethernet, &on_ethernet(ethernet::IPV4, &packet)), kept, "{port}");
            assert!(!keeps(Framing::Ethernet, &on_ethernet(ethernet::VLAN, &packet)));
        }
    }

    #[test]
    fn traffic_of_other_hosts_and_later_fragments_are_dropped() {
        let mut packet = tcp_v4(80, 40_000);
        packet[19] = 2;
        assert!(!keeps(Framing::Bare, &packet));
        let mut packet = tcp_v4(80, 40_000);
        packet[7] = 1;
        assert!(!keeps(Framing::Bare, &packet));
        packet[6..8].copy_from_slice(&0x2000u16.to_be_bytes());
        assert!(keeps(Framing::Bare, &packet), "the first fragment holds the ports");
    }

    #[test]
    fn other_protocols_are_kept_only_where_they_can_answer() {
        for (any_protocol, kept) in [(false, false), (true, true)] {
            let filter = Filter { any_protocol, ..ours() };
            let mut v4 = tcp_v4(80, 40_000);
            v4[9] = 47;
            let mut v6 = vec![0; 48];
            (v6[0], v6[6]) = (0x60, 99);
            v6[24..40].copy_from_slice(&OURS_V6.parse::<std::net::Ipv6Addr>().expect("address").octets());
            for packet in [v4, v6] {
                assert_eq!(interpret::run(&program(&filter, Framing::Bare), &packet) != 0, kept);
            }
        }
    }

    #[test]
    fn an_arp_answer_to_us_is_kept_and_one_to_another_is_not() {
        let mut packet = vec![0; 28];
        packet[24..28].copy_from_slice(&[192, 0, 2, 1]);
        assert!(keeps(Framing::Ethernet, &on_ethernet(ethernet::ARP, &packet)));
        packet[27] = 77;
        assert!(!keeps(Framing::Ethernet, &on_ethernet(ethernet::ARP, &packet)));
    }

    #[test]
    fn the_largest_filter_assembles_and_one_address_more_accepts_every_destination() {
        for (count_v4, count_v6) in [(MAX_V4, MAX_V6), (MAX_V4 + 1, MAX_V6 + 1), (0, 0)] {
            let v4 = (0u8..).take(count_v4).map(|number| IpAddr::from([10, 0, 0, number]));
            let v6 = (0u16..).take(count_v6).map(|number| IpAddr::from([0, 0, 0, 0, 0, 0, 1, number]));
            let filter = Filter {
                addresses: v4.chain(v6).collect(),
                port_first: 0,
                port_last: u16::MAX,
                any_protocol: false,
            };
            for framing in [Framing::Ethernet, Framing::Bare] {
                let program = program(&filter, framing);
                let packet = tcp_v4(80, 1);
                let frame =
                    if framing == Framing::Bare { packet } else { on_ethernet(ethernet::IPV4, &packet) };
                assert_eq!(interpret::run(&program, &frame) != 0, MAX_V4 < count_v4);
            }
        }
    }

    /// Right more often than not, so that most packets are useful and the others nearly.
    fn mostly() -> impl Strategy<Value = bool> {
        prop_oneof![4 => Just(true), 1 => Just(false)]
    }

    /// The first bytes of a transport header that decide: type, or destination port.
    fn transport() -> impl Strategy<Value = (u8, u16)> {
        (0u8..20, prop_oneof![4 => 40_000u16..40_256, 1 => 39_990u16..40_270])
    }

    fn packet_v4() -> impl Strategy<Value = Vec<u8>> {
        let bytes = proptest::collection::vec(any::<u8>(), 20..80);
        let protocol = prop_oneof![Just(6u8), Just(17), Just(1), any::<u8>()];
        (bytes, 4u8..10, protocol, mostly(), mostly(), transport()).prop_map(
            |(mut bytes, words, protocol, first, ours, (kind, port))| {
                bytes[0] = 0x40 | words;
                bytes[9] = protocol;
                if first {
                    bytes[6..8].copy_from_slice(&[0x40, 0]);
                }
                if ours {
                    bytes[16..20].copy_from_slice(&[192, 0, 2, 1]);
                }
                write_transport(&mut bytes, usize::from(words) * 4, kind, port);
                bytes
            },
        )
    }

    fn packet_v6() -> impl Strategy<Value = Vec<u8>> {
        let bytes = proptest::collection::vec(any::<u8>(), 40..90);
        let next = prop_oneof![Just(6u8), Just(17), Just(58), Just(44), any::<u8>()];
        (bytes, next, mostly(), transport()).prop_map(|(mut bytes, next, ours, (kind, port))| {
            bytes[0] = 0x60;
            bytes[6] = next;
            if ours {
                let address: std::net::Ipv6Addr = OURS_V6.parse().expect("address");
                bytes[24..40].copy_from_slice(&address.octets());
            }
            // Types of ICMPv6 answers stand above 127.
            let kind = if 10 <= kind { kind + 119 } else { kind };
            write_transport(&mut bytes, 40, kind, port);
            bytes
        })
    }

    fn write_transport(bytes: &mut [u8], at: usize, kind: u8, port: u16) {
        if let Some(header) = bytes.get_mut(at..at + 4) {
            header[0] = kind;
            header[2..4].copy_from_slice(&port.to_be_bytes());
        }
    }

    #[test]
    fn the_packets_the_filter_is_judged_by_are_mostly_useful() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let strategy = prop_oneof![packet_v4(), packet_v6()];
        let useful = (0..1000).filter(|_| {
            let tree = strategy.new_tree(&mut runner).expect("a packet");
            useful(&proptest::strategy::ValueTree::current(&tree), &ours()).is_some()
        });
        assert!(200 < useful.count());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn the_filter_keeps_whatever_a_receiver_could_use(packet in prop_oneof![packet_v4(), packet_v6()]) {
            if useful(&packet, &ours()).is_some() {
                let ethertype = if packet[0] >> 4 == 4 { ethernet::IPV4 } else { ethernet::IPV6 };
                prop_assert!(keeps(Framing::Bare, &packet));
                prop_assert!(keeps(Framing::Ethernet, &on_ethernet(ethertype, &packet)));
                prop_assert!(keeps(Framing::Loopback, &on_ethernet(ethertype, &packet)));
            }
        }
    }
}
