//! Several transmit and receive threads over a veth pair: together they send every probe once, whatever the link, and
//! hear every answer once. Needs root; without it the tests say that they were skipped, or fail under
//! `SWATH_NETNS=required`.
#![allow(clippy::print_stderr, reason = "skips are for the person who runs the tests")]

#[allow(unreachable_pub, dead_code, reason = "a module that other tests and a bench use as well")]
mod link_lab;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::Command;

use link_lab::{Lab, Sink};

/// A lab whose far end answers for nobody, and drops in the driver what it counts.
fn lab_and_sink() -> Option<(Lab, Sink)> {
    let lab = Lab::with_queues(2)?;
    lab.ip(&lab.near, "route add 198.18.0.0/15 via 192.0.2.2");
    let sink = Sink::by_target(&lab);
    Some((lab, sink))
}

#[test]
fn netns_two_threads_send_every_probe_once_whatever_the_link() {
    for link in ["af_packet", "af_xdp", "xdp_live"] {
        let Some((lab, sink)) = lab_and_sink() else { return };
        let said = lab.swath(&format!(
            "198.18.0.0/20 -p 0-255 --rate max --wait 0 --control-share 0 -e v0 --link {link} --tx-threads 2 --pin"
        ));
        assert!(said.contains("1,048,576 planned = 1,048,576 sent"), "{link}: {said}");
        assert_eq!(sink.settled(), 1 << 20, "{link}: frames at the sink");
        let first = u32::from(Ipv4Addr::new(198, 18, 0, 0));
        let wrong = (0..4096u32)
            .flat_map(|host| (0..256u16).map(move |port| (first + host, port)))
            .find(|&(address, port)| sink.seen_target(address, port) != 1);
        assert_eq!(wrong, None, "{link}: a target that was not seen once");
    }
}

#[test]
fn netns_two_threads_keep_to_one_rate() {
    let Some((lab, sink)) = lab_and_sink() else { return };
    let started = std::time::Instant::now();
    lab.swath("198.18.0.0/20 -p 1-5 --rate 20k --wait 0 --control-share 0 -e v0 --tx-threads 2");
    let elapsed = started.elapsed().as_secs_f64();
    assert_eq!(sink.settled(), 20_480);
    // The law itself is proved elsewhere; two laws of 20k each would be done in half the time.
    assert!(20_480.0 / 20_000.0 - 0.05 < elapsed, "{elapsed} s");
}

#[test]
fn netns_threads_that_ask_for_neighbours_each_find_them() {
    let Some(lab) = Lab::new() else { return };
    lab.ip(&lab.near, "route add 203.0.113.0/24 dev v0");
    lab.ip(&lab.far, "route add local 203.0.113.0/24 dev lo");
    let said = lab
        .swath("203.0.113.0/24 -p 1-20 --rate 20k --wait 1 -e v0 --tx-threads 3 --rx-threads 2 --show all");
    assert!(said.contains("5,120 planned = 5,120 sent"), "{said}");
    assert!(said.contains("+ 5,120 accepted"), "every closed port answered: {said}");
    assert!(said.contains("the ledger balances"), "{said}");
}

#[test]
fn netns_what_is_heard_of_one_target_meets_in_one_receive_thread() {
    let Some(lab) = Lab::new() else { return };
    lab.ip(&lab.near, "route add 198.18.0.0/15 via 192.0.2.2");
    lab.ip(&lab.far, "route add local 198.18.0.0/15 dev lo");
    // Two passes draw two answers of each target, to two ports of ours.
    let said = lab.swath(
        "198.18.0.0/20 -p 7 --rate 20k --wait 1 -e v0 --rx-threads 4 --passes 2 --pass-gap 0.1 --show all",
    );
    assert!(said.contains("4 TPACKET_V3 rings, divided by target"), "{said}");
    assert!(said.contains("+ 4,096 duplicate + 4,096 accepted"), "{said}");
}

#[test]
fn null_threads_make_the_frames_of_one_thread() {
    let run = |arguments: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_swath"));
        command.args(arguments.split(' '));
        let output = command.output().expect("started");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let line = said.lines().find(|line| line.starts_with("frames ") && line.contains(" sum "));
        line.unwrap_or_else(|| panic!("{said}")).to_owned()
    };
    let plan = "198.18.0.0/18 -p 1-64 --rate max --wait 0 --seed 7 --layout bare --control-share 0";
    let reports: BTreeSet<String> = [
        run(&format!("{plan} --link null:sum")),
        run(&format!("{plan} --link null --tx-threads 2")),
        run(&format!("{plan} --link null --tx-threads 5 --pin")),
    ]
    .into();
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert!(reports.first().is_some_and(|line| line.starts_with("frames 1048576 ")), "{reports:?}");
}
