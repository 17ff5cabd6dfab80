//! Which of several receive queues a frame comes by: all frames about one address, whoever sent them, by the same one,
//! so that each receive thread has a table of what was seen of its own.
//!
//! A hash of the whole connection, as network cards and the kernel compute it, would not do: each pass has a source port
//! of its own, and an ICMP error comes from a router.

use crate::sys::bpf::{Assembler, Label, Program, Test, To};

/// The program that a fanout group of packet sockets runs over each frame, from its network header on
/// (`fanout_demux_bpf`, `net/packet/af_packet.c`): the socket is what it computes modulo their number. What is no IP
/// packet goes to the first.
pub(super) fn program() -> Program {
    let mut program = Assembler::new();
    let (v4, v6) = (program.label(), program.label());
    program.load_byte(0);
    program.and(0xf0);
    equal(&mut program, 0x40, v4);
    equal(&mut program, 0x60, v6);
    program.accept(0);
    program.bind(v4);
    ipv4(&mut program);
    program.bind(v6);
    ipv6(&mut program);
    program.finish().expect("it is short, and every label is bound below its use")
}

fn ipv4(program: &mut Assembler) {
    let (icmp, quoted) = (program.label(), program.label());
    program.load_byte(9);
    equal(program, 1, icmp);
    program.load_word(SOURCE_V4);
    spread(program);

    program.bind(icmp);
    program.index_by_ipv4_header(0);
    program.load_byte_indexed(0);
    for kind in ERRORS {
        equal(program, kind, quoted);
    }
    program.load_word(SOURCE_V4);
    spread(program);
    // RFC 792: the header of what the error is about stands behind eight bytes.
    program.bind(quoted);
    program.load_word_indexed(8 + DESTINATION_V4);
    spread(program);
}

fn ipv6(program: &mut Assembler) {
    let (icmp, quoted) = (program.label(), program.label());
    program.load_byte(6);
    equal(program, 58, icmp);
    address_v6(program, SOURCE_V6);

    program.bind(icmp);
    program.load_byte(40);
    program.jump(Test::GreaterOrEqual, 128, To::Next, To::Label(quoted));
    address_v6(program, SOURCE_V6);
    program.bind(quoted);
    address_v6(program, 40 + 8 + DESTINATION_V6);
}

/// Ends with a number made of an address: of its last words of network and of host.
fn address_v6(program: &mut Assembler, offset: u32) {
    program.load_word(offset + 4);
    program.multiply(SPREAD_NETWORK);
    program.to_index();
    program.load_word(offset + 12);
    program.add_index();
    spread(program);
}

/// Ends with the upper half of a product: there all bits of the factor count.
fn spread(program: &mut Assembler) {
    program.multiply(SPREAD);
    program.shift_right(16);
    program.accept_computed();
}

fn equal(program: &mut Assembler, number: u32, to: Label) {
    program.jump(Test::Equal, number, To::Label(to), To::Next);
}

const SOURCE_V4: u32 = 12;
const DESTINATION_V4: u32 = 16;
const SOURCE_V6: u32 = 8;
const DESTINATION_V6: u32 = 24;
/// Unreachable, time exceeded, parameter problem (RFC 792).
const ERRORS: [u32; 3] = [3, 11, 12];
/// 2^32 divided by the golden ratio, odd.
const SPREAD: u32 = 0x9e37_79b1;
/// Another odd number with well-spread bits (a constant of MurmurHash3, public domain).
const SPREAD_NETWORK: u32 = 0x85eb_ca6b;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::bpf::interpret;

    fn v4(protocol: u8, source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
        packet.extend(source);
        packet.extend(destination);
        packet.extend(payload);
        packet
    }

    fn v6(next: u8, source: u128, destination: u128, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        packet.extend(source.to_be_bytes());
        packet.extend(destination.to_be_bytes());
        packet.extend(payload);
        packet
    }

    /// What a target answers itself in two passes, and what a router says about the probe.
    fn about_v4(target: [u8; 4]) -> [Vec<u8>; 3] {
        let (ours, router) = ([192, 0, 2, 1], [203, 0, 113, 9]);
        let probe = v4(6, ours, target, &[0x40, 0, 0, 80, 1, 2, 3, 4]);
        let error = [&[3, 1, 0, 0, 0, 0, 0, 0][..], &probe].concat();
        let segment = |port: u8| v4(6, target, ours, &[&[0, 80, 0x40, port][..], &[0; 16]].concat());
        [segment(0), segment(1), v4(1, router, ours, &error)]
    }

    fn about_v6(target: u128) -> [Vec<u8>; 3] {
        let (ours, router) = (0x2001_0db8 << 96 | 1, 0x2001_0db8 << 96 | 0xffff);
        let probe = v6(6, ours, target, &[0x40, 0, 0, 80, 1, 2, 3, 4]);
        let error = [&[1, 3, 0, 0, 0, 0, 0, 0][..], &probe].concat();
        let segment = |port: u8| v6(6, target, ours, &[&[0, 80, 0x40, port][..], &[0; 16]].concat());
        [segment(0), segment(1), v6(58, router, ours, &error)]
    }

    #[test]
    fn all_frames_about_one_address_go_one_way_and_addresses_spread_evenly() {
        let program = program();
        for queues in [2u32, 3, 8] {
            let mut loads = vec![[0u32; 2]; queues as usize];
            for number in 0..4096u32 {
                let v4 = about_v4((0xc612_0000 | number).to_be_bytes());
                let v6 = about_v6(
                    0x2001_0db8_0001 << 80 | u128::from(number % 64) << 64 | u128::from(number / 64),
                );
                for (family, frames) in [v4, v6].into_iter().enumerate() {
                    let ways = frames.map(|frame| interpret::run(&program, &frame) % queues);
                    assert!(ways.iter().all(|way| *way == ways[0]), "address {number}: {ways:?}");
                    loads[ways[0] as usize][family] += 1;
                }
            }
            let fair = 4096 / queues;
            assert!(loads.iter().flatten().all(|load| load.abs_diff(fair) < fair / 8), "{queues}: {loads:?}");
        }
        assert_eq!(interpret::run(&program, &[0, 1, 8, 0]), 0, "ARP");
    }
}
