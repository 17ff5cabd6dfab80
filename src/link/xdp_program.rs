//! XDP programs that see received frames.

use std::net::IpAddr;

use crate::link::Filter;
use crate::sys::ebpf::Register::{R0, R1, R2, R3, R4, R6};
use crate::sys::ebpf::{
    AssembleError, Assembler, ContextField, Helper, Label, MapSlot, Operation, Program, Register, Size, Test,
};
use crate::wire::ethernet;

/// Passes every frame on to the network stack.
///
/// # Errors
/// Never in practice: its size is fixed.
pub(super) fn pass() -> Result<Program, AssembleError> {
    let mut program = Assembler::new();
    program.set(R0, XDP_PASS);
    program.exit();
    program.finish()
}

/// The sockets that [`steal`] redirects to, one for each receive queue.
pub(super) const SOCKETS: MapSlot = MapSlot(0);

/// Takes SYN-ACKs to our addresses and ports from the network stack and gives them to the socket of their queue; passes
/// everything else, also what is tagged, fragmented or has options.
///
/// Nothing but SYN-ACKs, because a service of this host may listen on a port of ours: its clients send no SYN-ACKs, and
/// this host's own connections do not begin at these ports.
///
/// # Errors
/// When there are so many addresses that jumps grow too long.
pub(super) fn steal(filter: &Filter) -> Result<Program, AssembleError> {
    let mut program = Assembler::new();
    // The verifier refuses code that no frame reaches, so a family without an address of ours has none.
    let (v4, v6) = (has(filter, IpAddr::is_ipv4), has(filter, IpAddr::is_ipv6));
    if !v4 && !v6 {
        return self::pass();
    }
    let (pass, other, segment) = (program.label(), program.label(), program.label());
    program.set(R6, R1);
    program.load_context(R2, R6, ContextField::Data);
    program.load_context(R3, R6, ContextField::DataEnd);
    reaches(&mut program, TRANSPORT_V4 + TCP_BYTES, pass);
    program.load(Size::Half, R0, R2, 12);
    program.swap_network_half(R0);
    if v4 {
        program.jump_if(Test::NotEqual, R0, i32::from(ethernet::IPV4), if v6 { other } else { pass });
        transport_v4(&mut program, filter, pass);
        if v6 {
            program.jump(segment);
            program.bind(other);
        }
    }
    if v6 {
        program.jump_if(Test::NotEqual, R0, i32::from(ethernet::IPV6), pass);
        transport_v6(&mut program, filter, pass);
    }
    program.bind(segment);
    syn_ack_to_our_ports(&mut program, filter, pass);
    program.load_map(R1, SOCKETS);
    program.load_context(R2, R6, ContextField::ReceiveQueue);
    // What to do when the queue has no socket.
    program.set(R3, XDP_PASS);
    program.call(Helper::RedirectMap);
    program.exit();
    program.bind(pass);
    program.set(R0, XDP_PASS);
    program.exit();
    program.finish()
}

fn has(filter: &Filter, family: fn(&IpAddr) -> bool) -> bool {
    filter.addresses.iter().any(family)
}

/// Goes to `other` unless the frame is a whole TCP segment to one of our IPv4 addresses; leaves its header in `R4`.
fn transport_v4(program: &mut Assembler, filter: &Filter, other: Label) {
    // Version 4, no options.
    program.load(Size::Byte, R0, R2, NETWORK);
    program.jump_if(Test::NotEqual, R0, 0x45, other);
    // No fragment (RFC 791 section 3.1: more fragments, or an offset).
    program.load(Size::Half, R0, R2, NETWORK + 6);
    program.swap_network_half(R0);
    program.jump_if(Test::AnyBit, R0, 0x3fff, other);
    program.load(Size::Byte, R0, R2, NETWORK + 9);
    program.jump_if(Test::NotEqual, R0, TCP, other);
    one_of_ours_v4(program, filter, other);
    program.set(R4, R2);
    program.compute(Operation::Add, R4, i32::from(TRANSPORT_V4));
}

/// As [`transport_v4`], for IPv6.
fn transport_v6(program: &mut Assembler, filter: &Filter, other: Label) {
    reaches(program, TRANSPORT_V6 + TCP_BYTES, other);
    program.load(Size::Byte, R0, R2, NETWORK + 6);
    program.jump_if(Test::NotEqual, R0, TCP, other);
    one_of_ours_v6(program, filter, other);
    program.set(R4, R2);
    program.compute(Operation::Add, R4, i32::from(TRANSPORT_V6));
}

/// Goes to `short` unless the frame, at `R2`, holds so many bytes before its end, at `R3`.
fn reaches(program: &mut Assembler, bytes: i16, short: Label) {
    program.set(R1, R2);
    program.compute(Operation::Add, R1, i32::from(bytes));
    program.jump_if(Test::Greater, R1, R3, short);
}

fn one_of_ours_v4(program: &mut Assembler, filter: &Filter, other: Label) {
    let found = program.label();
    program.load(Size::Word, R0, R2, NETWORK + 16);
    program.swap_network_word(R0);
    for address in &filter.addresses {
        if let IpAddr::V4(address) = address {
            word(program, R1, u32::from(*address));
            program.jump_if(Test::Equal, R0, R1, found);
        }
    }
    program.jump(other);
    program.bind(found);
}

fn one_of_ours_v6(program: &mut Assembler, filter: &Filter, other: Label) {
    let found = program.label();
    for address in &filter.addresses {
        let IpAddr::V6(address) = address else { continue };
        let next = program.label();
        for (offset, number) in (0i16..).step_by(4).zip(address.octets().as_chunks::<4>().0) {
            program.load(Size::Word, R0, R2, NETWORK + 24 + offset);
            program.swap_network_word(R0);
            word(program, R1, u32::from_be_bytes(*number));
            program.jump_if(Test::NotEqual, R0, R1, next);
        }
        program.jump(found);
        program.bind(next);
    }
    program.jump(other);
    program.bind(found);
}

/// Sets a register to a number of 32 bits, which as a constant would be extended with its sign.
fn word(program: &mut Assembler, register: Register, number: u32) {
    program.set(register, number.cast_signed());
    program.compute(Operation::ShiftLeft, register, 32);
    program.compute(Operation::ShiftRight, register, 32);
}

/// Goes to `other` unless the TCP header at `R4` is that of a SYN-ACK to one of our ports.
fn syn_ack_to_our_ports(program: &mut Assembler, filter: &Filter, other: Label) {
    program.load(Size::Byte, R0, R4, 13);
    program.compute(Operation::And, R0, SYN_ACK | RST);
    program.jump_if(Test::NotEqual, R0, SYN_ACK, other);
    program.load(Size::Half, R0, R4, 2);
    program.swap_network_half(R0);
    program.jump_if(Test::Less, R0, i32::from(filter.port_first), other);
    program.jump_if(Test::Greater, R0, i32::from(filter.port_last), other);
}

/// Offset of the network header.
const NETWORK: i16 = 14;
const TRANSPORT_V4: i16 = NETWORK + 20;
const TRANSPORT_V6: i16 = NETWORK + 40;
const TCP_BYTES: i16 = 20;
const TCP: i32 = 6;
const RST: i32 = 0x04;
const SYN_ACK: i32 = 0x12;
// linux/bpf.h, enum xdp_action
const XDP_PASS: i32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::ebpf::interpret;

    const REDIRECTED: u64 = 4;

    fn redirected(_: u64, queue: u64, flags: u64, _: u64, _: u64) -> u64 {
        assert_eq!((queue, flags), (3, 2), "the queue of the frame, pass where it has no socket");
        REDIRECTED
    }

    fn filter() -> Filter {
        let addresses = ["203.0.113.9", "192.0.2.1", "2001:db8::9", "2001:db8::1"];
        Filter {
            addresses: addresses.map(|text| text.parse().expect("address")).to_vec(),
            port_first: 40_000,
            port_last: 40_255,
            any_protocol: false,
        }
    }

    fn is_stolen(frame: &[u8]) -> bool {
        stolen_by(&filter(), frame)
    }

    fn stolen_by(filter: &Filter, frame: &[u8]) -> bool {
        let program = steal(filter).expect("assembles");
        let helpers: [(Helper, interpret::Function); 1] = [(Helper::RedirectMap, redirected)];
        let mut copy = frame.to_vec();
        let verdict = interpret::run(&program, &mut copy, &mut [vec![0; 4]], &helpers);
        assert_eq!(copy, frame, "frames are not touched");
        assert!(verdict == REDIRECTED || verdict == 2, "{verdict}");
        verdict == REDIRECTED
    }

    fn segment(v6: bool, flags: u8, port: u16) -> Vec<u8> {
        use etherparse::PacketBuilder as Builder;
        let link = Builder::ethernet2([2; 6], [4; 6]);
        let ours: IpAddr = if v6 { "2001:db8::1" } else { "192.0.2.1" }.parse().expect("address");
        let theirs: IpAddr = if v6 { "2001:db8:1::7" } else { "198.18.0.7" }.parse().expect("address");
        let network = match (theirs, ours) {
            (IpAddr::V4(theirs), IpAddr::V4(ours)) => link.ipv4(theirs.octets(), ours.octets(), 57),
            (IpAddr::V6(theirs), IpAddr::V6(ours)) => link.ipv6(theirs.octets(), ours.octets(), 57),
            _ => panic!("one family"),
        };
        let mut frame = Vec::new();
        network.tcp(80, port, 1000, 64_240).write(&mut frame, &[]).expect("writes to memory");
        let at = frame.len() - 7;
        frame[at] = flags;
        frame
    }

    #[test]
    fn syn_acks_to_our_ports_are_stolen_and_nothing_else() {
        for v6 in [false, true] {
            for flags in [0x12, 0x12 | 0x08 | 0x40, 0x92] {
                assert!(is_stolen(&segment(v6, flags, 40_000)) && is_stolen(&segment(v6, flags, 40_255)));
            }
            for flags in [0x02, 0x10, 0x14, 0x04, 0x16, 0x18, 0x11, 0x00] {
                assert!(!is_stolen(&segment(v6, flags, 40_000)), "flags {flags:#x}");
            }
            for port in [39_999, 40_256, 80, 0, u16::MAX] {
                assert!(!is_stolen(&segment(v6, 0x12, port)), "port {port}");
            }
            let whole = segment(v6, 0x12, 40_000);
            for length in 0..whole.len() {
                assert!(!is_stolen(&whole[..length]), "cut off after {length}");
            }
            // Every byte that decides, changed.
            let network = if v6 { vec![20, 38, 45, 53] } else { vec![14, 20, 21, 23, 30, 33] };
            for at in network.into_iter().chain([12, 13]) {
                let mut other = whole.clone();
                other[at] ^= 0x10;
                assert!(!is_stolen(&other), "byte {at}");
            }
        }
        for v6 in [false, true] {
            let mut one = filter();
            one.addresses.retain(|address| address.is_ipv6() == v6);
            assert!(
                stolen_by(&one, &segment(v6, 0x12, 40_000)) && !stolen_by(&one, &segment(!v6, 0x12, 40_000))
            );
        }
        let mut dont_fragment = segment(false, 0x12, 40_000);
        dont_fragment[20] = 0x40;
        assert!(is_stolen(&dont_fragment));
    }
}
