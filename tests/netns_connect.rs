//! The connect scan against a real kernel: what each answer means, how many fit, and that nothing is needed for it.
//! Needs root for the lab; without it the tests say that they were skipped, or fail under `SWATH_NETNS=required`.
#![allow(clippy::print_stderr, reason = "skips are for the person who runs the tests")]

mod common;

use common::lab::Lab;

#[test]
fn netns_each_answer_of_the_kernel_is_the_verdict_that_nmap_gives() {
    let Some(lab) = Lab::up() else { return };
    lab.far("sysctl -q -w net.ipv4.icmp_ratemask=0 net.ipv6.icmp.ratelimit=0 net.ipv6.icmp.ratemask=");
    lab.far_rules(
        "table inet test { chain input { type filter hook input priority 0; \
         tcp dport 1001 drop; \
         tcp dport 1002 reject with icmpx host-unreachable; \
         tcp dport 1003 reject with icmpx admin-prohibited; \
         tcp dport 1004 reject with tcp reset; }\n }",
    );
    for (target, source) in [("198.18.0.7", "192.0.2.1"), ("2001:db8:1::7", "2001:db8::1")] {
        let ran = lab.scan(&format!(
            "{target} -sT -p 22,80,443,1000-1004 -S {source} --show all --rate 1000 --wait 6 -o csv:-"
        ));
        let ran = ran.exits(0).balances();
        assert_eq!(ran.ledger("probes ", "sent"), 8);
        let wanted = [
            ("22", "open", "syn-ack"),
            ("80", "open", "syn-ack"),
            ("443", "open", "syn-ack"),
            ("1000", "closed", "conn-refused"),
            ("1002", "filtered", "host-unreach"),
            ("1003", "filtered", "host-unreach"),
            ("1004", "closed", "conn-refused"),
        ];
        for (port, state, reason) in wanted {
            // The kernel tells a socket of every "prohibited" that the host is unreachable (IPv4) or access is denied.
            let reasons = if port == "1003" { vec![reason, "admin-prohibited"] } else { vec![reason] };
            let found = ran.out.lines().any(|line| {
                let cells: Vec<&str> = line.split(',').collect();
                cells.contains(&port)
                    && cells.contains(&state)
                    && reasons.iter().any(|one| cells.contains(one))
            });
            assert!(found, "{target}: port {port} is not {state} by {reasons:?}:\n{}", ran.out);
        }
        assert!(!ran.out.lines().any(|line| line.contains(",1001,")), "silence is no verdict:\n{}", ran.out);
    }
}

#[test]
fn netns_a_sweep_by_connections_finds_what_a_syn_scan_finds_and_says_nothing_to_the_services() {
    let Some(lab) = Lab::up() else { return };
    let open = |line: &str| {
        let ran = lab.scan(line).exits(0).balances();
        let mut lines: Vec<String> = ran.out.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let syn = open("198.18.0.0/22 -p 22,80,443,444 --rate 20k --wait 2 -o list:-");
    let connected = open("198.18.0.0/22 -sT -p 22,80,443,444 --rate 20k --wait 6 -o list:-");
    assert_eq!(connected.len(), 3 * 1024);
    assert_eq!(connected, syn);
}

#[test]
fn netns_no_privilege_and_few_descriptors_are_enough() {
    let Some(lab) = Lab::up() else { return };
    let program = common::SWATH;
    let limited = format!(
        "ulimit -n 160 && exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all {program} \
         198.18.0.0/24 -p 80,81 -sT --rate 20k --wait 6 -o csv:-"
    );
    let output = lab.command(&["exec", "sh", "-c", &limited]).output().expect("sh runs");
    let ran = common::Ran::of(&output).exits(0).balances();
    assert_eq!(ran.out.lines().filter(|line| line.contains(",open,")).count(), 256, "{}", ran.err);
    assert!(ran.err.contains("at most 32 at a time (descriptor limit 160)"), "{}", ran.err);

    let without = limited.replace(" -sT", "");
    let output = lab.command(&["exec", "sh", "-c", &without]).output().expect("sh runs");
    let ran = common::Ran::of(&output).exits(1);
    assert!(ran.err.contains("or give -sT"), "{}", ran.err);
}

#[test]
fn netns_what_does_not_go_with_connections_is_refused() {
    let Some(lab) = Lab::up() else { return };
    for (option, part) in [
        ("-e near0", "--interface does not go"),
        ("--source-port 40000", "--source-port does not go"),
        ("-p U:53", "asks TCP ports only"),
    ] {
        let ran = lab.scan(&format!("198.18.0.1 -p 80 -sT {option}")).exits(2);
        assert!(ran.err.contains(part), "{option}: {}", ran.err);
    }
}

/// A server of Debian's in the far namespace, killed when dropped.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// vsftpd as it comes, and as somebody made it who wanted transfers between servers.
#[test]
fn netns_the_audit_tells_which_ftp_server_would_connect_elsewhere() {
    let Some(lab) = Lab::up() else { return };
    let directory = lab.path("");
    let directory = directory.display();
    std::fs::create_dir(lab.path("empty")).expect("a directory");
    let configure = |name: &str, port: u16, more: &str| {
        let text = format!(
            "listen=YES\nlisten_address=198.18.0.21\nlisten_port={port}\nanonymous_enable=YES\nanon_root={directory}/empty\n\
             secure_chroot_dir={directory}/empty\nbackground=NO\nseccomp_sandbox=NO\nconnect_from_port_20=NO\n{more}"
        );
        std::fs::write(lab.path(name), text).expect("written");
        let program = format!("exec vsftpd {directory}/{name}");
        Server(lab.command(&["far", "sh", "-c", &program]).spawn().expect("vsftpd runs"))
    };
    let _servers = [
        configure("usual.conf", 21, ""),
        configure("open.conf", 2121, "port_promiscuous=YES\n"),
        configure("closed.conf", 2122, "anonymous_enable=NO\n"),
    ];
    std::thread::sleep(std::time::Duration::from_secs(2));
    let ran =
        lab.scan("198.18.0.21 -p 21,22,2121,2122,2123 --audit ftp-bounce --bounce-to 192.0.2.77 --rate 100");
    let ran = ran.exits(3);
    let verdict = |port: u16| {
        let start = format!("Audited ftp-bounce 198.18.0.21:{port} ");
        let line = ran.out.lines().find_map(|line| line.strip_prefix(&start));
        line.map(|line| line.split(':').next().unwrap_or_default().to_owned())
    };
    assert_eq!(verdict(21).as_deref(), Some("refused"), "{}", ran.out);
    assert_eq!(verdict(2121).as_deref(), Some("allowed"), "{}", ran.out);
    assert_eq!(verdict(2122).as_deref(), Some("no-anonymous-login"), "{}", ran.out);
    assert_eq!(verdict(22).as_deref(), Some("no-ftp"), "{}", ran.out);
    assert_eq!(verdict(2123), None, "nobody is there");
    assert!(ran.err.contains("1 would connect elsewhere, 1 refuse to, 1 let nobody in anonymously, 1 speak no FTP, 1 did not answer"), "{}", ran.err);
    let ran = lab.scan("198.18.0.21 --audit ftp-bounce --bounce-to 192.0.2.77 --rate 100").exits(0);
    assert!(ran.out.contains("198.18.0.21:21 refused: 500 "), "{}", ran.out);
    lab.scan("198.18.0.21 --audit ftp-bounce").exits(2);

    // The same as results, with what was found attached; a format without room for that is refused.
    let audit = "198.18.0.21 -p 21,22,2121,2122,2123 --audit ftp-bounce --bounce-to 192.0.2.77 --rate 100";
    let ran = lab
        .scan(&format!("{audit} -o ndjson:bounce.ndjson -o bounce.xml -o bounce.db -oJ bounce.json"))
        .exits(3);
    assert_eq!(ran.out, "", "results went to the files");
    let lines = lab.read("bounce.ndjson");
    let found: std::collections::BTreeMap<u64, String> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .filter(|line| line["service"] == "ftp-bounce")
        .map(|line| {
            (line["port"].as_u64().expect("a port"), line["banner"].as_str().expect("text").to_owned())
        })
        .collect();
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [21, 22, 2121, 2122], "{lines}");
    assert!(
        found[&21].starts_with("refused: 500 ") && found[&2121].starts_with("allowed: 200 "),
        "{found:?}"
    );
    assert!(found[&2122].starts_with("no-anonymous-login: 500 OOPS"), "{found:?}");
    let xml = lab.read("bounce.xml");
    assert!(xml.contains("<script id=\"swath-ftp-bounce\" output=\"allowed: 200 "), "{xml}");
    assert!(xml.contains("exit=\"success\"") && xml.contains("</nmaprun>"), "{xml}");
    assert!(lab.read("bounce.json").contains("ftp-bounce"));
    let ran = lab.scan(&format!("{audit} -o bounce.txt")).exits(2);
    assert!(ran.err.contains("has no room for what an audit found"), "{}", ran.err);
}
