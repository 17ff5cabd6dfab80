//! The far end of a measurement, for `scripts/compare reflect`: answers in the driver for a keyed share of all targets, and
//! judges what a scanner found. Runs in the namespaces of a lab only; sends nothing by itself.
//!
//! ```text
//! reflector serve INTERFACE KEY SHIFT   one target in 2^SHIFT answers; until standard input ends, then prints what it saw
//! reflector pass INTERFACE              attaches a program that passes everything, until standard input ends
//! reflector check KEY SHIFT PORTS       reads ip:port lines for 198.18.0.0/15, ports 1 to PORTS, from standard input
//! ```
#![allow(missing_docs, reason = "an example; its words stand above")]
#![allow(clippy::print_stdout, reason = "a tool of the measurements")]

#[path = "../tests/link_lab/reflector.rs"]
#[allow(dead_code, unreachable_pub, reason = "a module that tests use as well")]
mod reflector;

use std::io::{BufRead, Read};
use std::net::{Ipv4Addr, SocketAddrV4};

use reflector::{Reflector, Share};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", interface, key, shift] => serve(interface, share(key, shift)),
        ["pass", interface] => {
            let _attachment = reflector::attach_pass(interface);
            until_the_end();
        }
        ["check", key, shift, ports] => check(share(key, shift), ports.parse().expect("a number of ports")),
        _ => panic!("usage: reflector serve INTERFACE KEY SHIFT | pass INTERFACE | check KEY SHIFT PORTS"),
    }
}

fn share(key: &str, shift: &str) -> Share {
    Share { key: key.parse().expect("a key"), shift: shift.parse().expect("a shift") }
}

fn until_the_end() {
    println!("ready");
    std::io::copy(&mut std::io::stdin().lock().take(1 << 20), &mut std::io::sink()).expect("standard input");
}

fn serve(interface: &str, share: Share) {
    let reflector = Reflector::attach(interface, share);
    until_the_end();
    let seen = reflector.seen();
    println!("syns {} answered {} resets {}", seen.syns, seen.answered, seen.resets);
}

/// Prints "expected N found N missing N false N duplicate N".
fn check(share: Share, ports: u16) {
    let place = |address: Ipv4Addr, port: u16| {
        let host = u32::from(address).checked_sub(FIRST).filter(|host| *host < HOSTS)?;
        (1..=ports).contains(&port).then(|| host as usize * usize::from(ports) + usize::from(port - 1))
    };
    let mut found = vec![false; HOSTS as usize * usize::from(ports)];
    let (mut right, mut wrong, mut twice) = (0u64, 0u64, 0u64);
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line");
        let parsed = line.parse::<SocketAddrV4>().ok().and_then(|socket| {
            let known = share.answers(*socket.ip(), socket.port());
            place(*socket.ip(), socket.port()).filter(|_| known)
        });
        match parsed {
            None => wrong += 1,
            Some(place) if found[place] => twice += 1,
            Some(place) => {
                found[place] = true;
                right += 1;
            }
        }
    }
    let hosts = (0..HOSTS).map(|host| Ipv4Addr::from(FIRST + host));
    let all = hosts.flat_map(|address| (1..=ports).map(move |port| (address, port)));
    let expected = all.filter(|&(address, port)| share.answers(address, port)).count() as u64;
    println!(
        "expected {expected} found {right} missing {} false {wrong} duplicate {twice}",
        expected - right
    );
}

/// 198.18.0.0/15.
const FIRST: u32 = 0xc612_0000;
const HOSTS: u32 = 1 << 17;
