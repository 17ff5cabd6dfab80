//! UDP against real servers of Debian's, in a lab of the test's own: every one is found open by an answer in its own
//! protocol, with the grade that its protocol allows. Needs root; without it the tests say that they were skipped, or
//! fail under `SWATH_NETNS=required`.
#![allow(clippy::print_stderr, reason = "skips are for the person who runs the tests")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::lab::Lab;
use common::{Ran, swath, tshark};
use swath::probe::payload::{Request, Service, services};

/// A server in the far namespace, killed when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server at the far end, and waits until it has its UDP port.
#[track_caller]
fn start(lab: &Lab, port: u16, line: &str) -> Server {
    let words: Vec<&str> = ["far", "sh", "-c", line].to_vec();
    let mut command = lab.command(&words);
    let log = fs::File::create(lab.path(&format!("server-{port}.log"))).expect("a log");
    command.stdout(Stdio::null()).stderr(log);
    let server = Server(command.spawn().expect("sh runs"));
    let until = Instant::now() + Duration::from_secs(20);
    while !lab.far("ss -Hlun").lines().any(|line| line.contains(&format!(":{port} "))) {
        let log = lab.read(&format!("server-{port}.log"));
        assert!(Instant::now() < until, "nothing listens on port {port}: {line}\n{log}");
        sleep(Duration::from_millis(100));
    }
    server
}

/// The records of a scan, by port: state, reason, grade.
fn records(ran: &Ran) -> Vec<(u64, String)> {
    let records = ran.out.lines().map(|line| {
        let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let word = |name: &str| record[name].as_str().expect(name).to_owned();
        let verdict = [word("state"), word("reason"), word("proof")].join(" ");
        (record["port"].as_u64().expect("port"), verdict)
    });
    let mut records: Vec<_> = records.collect();
    records.sort_unstable();
    records
}

#[test]
#[allow(clippy::too_many_lines, reason = "one server after the other, each in a few lines")]
fn netns_real_servers_are_found_open_by_answers_in_their_own_protocol() {
    let Some(lab) = Lab::up() else { return };
    let directory = lab.path("");
    let write = |name: &str, text: &str| fs::write(lab.path(name), text).expect("written");
    let directory = directory.display();
    fs::create_dir(lab.path("tftp")).expect("a directory");
    write(
        "chrony.conf",
        &format!(
            "allow all\nlocal stratum 8\nbindaddress 192.0.2.2\ncmdport 0\npidfile {directory}/chrony.pid\n"
        ),
    );
    write("snmpd.conf", "rocommunity public\n");
    write(
        "avahi.conf",
        "[server]\nenable-dbus=no\nallow-interfaces=far0\n[publish]\npublish-workstation=yes\n",
    );
    write(
        "radiusd.conf",
        &format!(
            "name = radiusd\nprefix = /usr\nlibdir = /usr/lib/freeradius\nrun_dir = {directory}\nlogdir = {directory}\n\
             pidfile = {directory}/radiusd.pid\nmax_request_time = 5\ncleanup_delay = 1\n\
             thread pool {{\n start_servers = 1\n max_servers = 2\n min_spare_servers = 1\n max_spare_servers = 1\n}}\n\
             security {{\n reject_delay = 0\n status_server = no\n}}\n\
             modules {{\n always reject {{\n rcode = reject\n }}\n}}\n\
             client lab {{\n ipaddr = 192.0.2.0/24\n secret = testing123\n}}\n\
             server default {{\n listen {{\n type = auth\n ipaddr = 192.0.2.2\n port = 1812\n }}\n authorize {{\n reject\n }}\n}}\n"
        ),
    );
    let private_run = "mount -t tmpfs tmpfs /run && mkdir /run/rpcbind /run/avahi-daemon";
    let _servers = [
        start(
            &lab,
            53,
            "exec dnsmasq --no-daemon --conf-file=/dev/null --no-resolv --no-hosts --user=root --pid-file= --bind-interfaces --listen-address=192.0.2.2",
        ),
        start(
            &lab,
            69,
            &format!("exec in.tftpd --foreground --address 192.0.2.2:69 --secure {directory}/tftp"),
        ),
        start(
            &lab,
            111,
            &format!("exec unshare --mount sh -c '{private_run} && exec rpcbind -f -h 192.0.2.2'"),
        ),
        // -x: a server that leaves this machine's clock alone.
        start(&lab, 123, &format!("exec chronyd -d -x -u root -f {directory}/chrony.conf")),
        start(
            &lab,
            161,
            &format!(
                "SNMP_PERSISTENT_DIR={directory} exec snmpd -f -Lo -C -c {directory}/snmpd.conf -p {directory}/snmpd.pid udp:192.0.2.2:161"
            ),
        ),
        start(&lab, 1812, &format!("exec freeradius -f -l stdout -d {directory} -n radiusd")),
        start(
            &lab,
            3478,
            &format!(
                "exec turnserver -n --listening-ip 192.0.2.2 --no-tls --no-dtls --no-tcp --no-cli --lt-cred-mech --realm lab --user a:b --log-file stdout --pidfile {directory}/turn.pid --userdb {directory}/turn.db"
            ),
        ),
        start(
            &lab,
            5353,
            &format!(
                "exec unshare --mount sh -c '{private_run} && exec avahi-daemon --no-drop-root --no-chroot --file {directory}/avahi.conf'"
            ),
        ),
        start(&lab, 11211, "exec memcached -u root -l 192.0.2.2 -p 0 -U 11211"),
    ];
    // Names are announced before they are answered for.
    sleep(Duration::from_secs(3));
    lab.far("sysctl -q -w net.ipv4.icmp_ratemask=0");
    let ran = lab.scan("192.0.2.2 -p U:53,69,111,123,161,1812,3478,5353,9999,11211 --show all --rate 200 --wait 3 -o ndjson:-");
    let ran = ran.exits(0).balances();
    let open = |grade: &str| format!("open udp-response {grade}");
    let expected = [
        // 14 secret bits of the source port, and 16 of the transaction.
        (53, open("medium")),
        // Its errors repeat nothing.
        (69, open("weak")),
        (111, open("strong")),
        (123, open("strong")),
        (161, open("strong")),
        // 14 and 8 of the identifier.
        (1812, open("weak")),
        (3478, open("strong")),
        (5353, open("medium")),
        (9999, "closed port-unreach medium".to_owned()),
        (11211, open("medium")),
    ];
    assert_eq!(records(&ran), expected, "{}", ran.err);

    // Each question by itself is answered, too: of the second and third of a port, nobody asked for the first.
    for (ports, most) in [("U:53", 1), ("U:161", 1), ("U:3478", 1)] {
        let line = format!("192.0.2.2 -p {ports} --udp-questions {most} --rate 100 --wait 2 -o ndjson:-");
        let ran = lab.scan(&line).exits(0).balances();
        assert_eq!(records(&ran).len(), 1, "{line}: {}", ran.err);
        assert_eq!(ran.ledger("probes ", "planned"), 1);
    }
}

#[test]
fn netns_a_dhcp_server_answers_who_asks_from_its_clients_port() {
    let Some(lab) = Lab::up() else { return };
    let _server = start(
        &lab,
        67,
        "exec dnsmasq --no-daemon --conf-file=/dev/null --port=0 --user=root --pid-file= --interface=far0 --bind-interfaces --dhcp-range=192.0.2.100,192.0.2.110 --dhcp-authoritative",
    );
    let ran =
        lab.scan("192.0.2.2 -p U:67 --source-port 68 --rate 100 --wait 2 -o ndjson:-").exits(0).balances();
    // The source port is known to everybody; what proves is the transaction.
    assert_eq!(records(&ran), [(67, "open udp-response medium".to_owned())], "{}", ran.err);
}

#[test]
fn netns_payloads_of_a_file_are_sent_and_judged_as_it_says() {
    let Some(lab) = Lab::up() else { return };
    let echo = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind((\"192.0.2.2\", 9000))\n\
                while True:\n    data, peer = s.recvfrom(2000)\n    s.sendto(b\"told \" + data, peer) if data[:3] == b\"ask\" else None\n";
    fs::write(lab.path("echo.py"), echo).expect("written");
    let _server = start(&lab, 9000, &format!("exec python3 {}", lab.path("echo.py").display()));
    let toml =
        "[[payload]]\nname = 'ours'\nports = '9000'\nrequest = 'ask {text}'\nanswer = 'told '\necho = 9\n";
    fs::write(lab.path("ours.toml"), toml).expect("written");
    fs::write(lab.path("theirs"), "udp 9000 \"ask\\x20me\"\n").expect("written");
    for (option, grade) in [("--udp-payloads ours.toml", "strong"), ("--nmap-payloads theirs", "weak")] {
        let ran = lab.scan(&format!("192.0.2.2 -p U:9000 {option} --rate 100 --wait 1 -o ndjson:-"));
        assert_eq!(
            records(&ran.exits(0).balances()),
            [(9000, format!("open udp-response {grade}"))],
            "{option}"
        );
    }
    let ran = lab.scan("192.0.2.2 -p U:9000 --rate 100 --wait 1 -o ndjson:-").exits(0).balances();
    assert_eq!(records(&ran), [], "an empty datagram is not answered");
    fs::write(lab.path("broken.toml"), "[[payload]]\nname = 'x'\nports = '9000'\nrequest = '{nobody}'\n")
        .expect("written");
    let ran = lab.scan("192.0.2.2 -p U:9000 --udp-payloads broken.toml").exits(2);
    assert!(ran.err.contains("broken.toml:4: there is no field {nobody}"), "{}", ran.err);
}

/// What reads the requests of each service: the name, what tshark is told to read its ports as (nothing where it knows the
/// protocol by the port; `data` where it has no reader for it), the layers it then finds, and which reading it is of: one for
/// nearly all, a second where two services have one port, and one alone for each whose reader takes every later frame from
/// the same port for the protocol as well (the server of a Kerberos, L2TP or TFTP client answers from another port).
const READERS: &[(&str, &str, &str, u8)] = &[
    ("afs", "", "rx", 0),
    ("bacnet", "", "bvlc:bacnet:bacapp", 0),
    ("bittorrent-dht", "bt-dht", "bt-dht", 0),
    ("chargen", "", "chargen", 0),
    ("cldap", "", "cldap", 0),
    ("coap", "", "coap", 0),
    ("daytime", "", "daytime", 0),
    ("dhcp-inform", "", "dhcp", 0),
    ("dns", "", "dns", 0),
    ("dns-chaos", "", "dns", 0),
    ("dtls", "dtls", "dtls", 1),
    ("echo", "", "echo", 0),
    ("ethernet-ip", "", "enip", 0),
    ("gtp", "gtp", "gtp", 0),
    ("gtp2", "gtp", "gtp:gtpv2", 0),
    ("iax2", "", "iax2", 0),
    ("ike-nat", "", "udpencap:isakmp", 0),
    ("ike1", "", "isakmp", 0),
    ("ike2", "", "isakmp", 0),
    // Port 664 is of the protocol that secures it.
    ("ipmi", "rmcp", "rmcp:asf", 0),
    ("kademlia", "", "edonkey", 0),
    ("kerberos", "", "kerberos", 2),
    ("knx", "", "kip", 0),
    ("l2tp", "", "l2tp", 3),
    ("mdns", "", "mdns", 0),
    ("memcached", "", "memcache", 0),
    ("mgcp", "", "mgcp", 0),
    ("minecraft-bedrock", "raknet", "raknet:raknet", 0),
    ("minecraft-query", "data", "data", 0),
    ("modbus", "", "mbudp:modbus", 0),
    ("mssql-all", "data", "data", 0),
    ("mssql-instance", "data", "data", 0),
    ("mumble", "data", "data", 0),
    ("nat-pmp", "", "portcontrol", 0),
    ("netbios-ns", "", "nbns", 0),
    ("nfs", "rpc", "rpc", 0),
    ("ntp", "", "ntp", 0),
    ("openvpn", "", "openvpn", 0),
    ("pcp", "", "portcontrol", 0),
    ("pfcp", "", "pfcp", 0),
    ("portmap", "", "rpc", 0),
    ("qotd", "data", "data", 0),
    ("quake3", "quake3", "quake3", 0),
    ("quic", "quic", "quic", 0),
    ("radius", "", "radius", 0),
    ("rip", "", "rip", 0),
    // Over TCP alone.
    ("rtsp", "data", "data", 0),
    ("sip", "sip", "sip", 0),
    ("slp", "", "srvloc", 0),
    ("snmp1", "snmp", "snmp", 0),
    ("snmp2c", "snmp", "snmp", 0),
    ("snmp3", "snmp", "snmp", 0),
    ("source-engine", "data", "data", 0),
    ("ssdp", "", "ssdp", 0),
    ("stamp", "twamp.test", "twamp.test", 0),
    ("stun", "stun", "stun", 0),
    ("teamspeak3", "data", "data", 0),
    ("tftp", "", "tftp", 4),
    ("time", "", "time", 0),
    ("turn", "stun", "stun", 0),
    ("ubiquiti", "ubdp", "ubdp", 0),
    // XML over HTTP alone.
    ("ws-discovery", "data", "data", 0),
    ("xdmcp", "", "xdmcp", 0),
];

/// Readings of [`READERS`], and one more.
const READINGS: u8 = 6;

/// The memcached protocol begins with two bytes of the asker's choice; tshark takes them for the magic number of a binary
/// request when they begin so, as over TCP, where there is no such header.
const MISTAKEN: (&str, &str, &str, u8) = ("memcached", "data", "data", READINGS - 1);

/// Who reads a request, by its port and its bytes.
fn reader(port: u16, own: IpAddr, payload: &[u8]) -> (&'static str, &'static str, &'static str, u8) {
    let is = |service: &&Service| {
        let request = Request::of(service.request);
        let mut known = payload.to_vec();
        for field in request.fields() {
            known.get_mut(field.at..field.at + field.carry.length()).unwrap_or_default().fill(0);
        }
        service.ports.contains(&port) && request.bytes(own) == known
    };
    let service = services().find(is).unwrap_or_else(|| panic!("whose is {payload:02x?} to {port}?"));
    if service.name == MISTAKEN.0 && matches!(payload[0], 0x80 | 0x81) {
        return MISTAKEN;
    }
    let row = READERS.iter().find(|row| row.0 == service.name);
    *row.unwrap_or_else(|| panic!("who reads {}?", service.name))
}

/// What tshark, which has read every one of these protocols' documents, says of the requests: each is of its own protocol, and
/// nothing is wrong with it.
#[test]
fn netns_tshark_finds_no_request_malformed() {
    let directory = tempfile::tempdir().expect("a directory");
    let ports: Vec<String> =
        services().flat_map(|service| service.ports.iter().map(ToString::to_string)).collect();
    let (ports, hosts) = (format!("U:{}", ports.join(",")), "198.18.0.0/24,2001:db8:1::/120");
    let options = [hosts, "-p", &ports, "--udp-amplifiers", "--link", "pcap:requests.pcap", "--rate", "max"];
    // Source ports above all that tshark knows: the lower port of a frame decides first who reads it.
    let fixed =
        ["--source-port", "65000-65511", "--wait", "0", "--quiet", "--seed", "7", "--control-share", "0"];
    swath(directory.path(), &[&options[..], &fixed[..]].concat()).exits(0);
    let file = fs::read(directory.path().join("requests.pcap")).expect("a capture");
    let asked: Vec<_> = tshark::records(&file)
        .map(|frame| {
            let (own, datagram) = match frame[12] {
                8 => (IpAddr::from(*frame[26..].first_chunk::<4>().expect("an address")), &frame[34..]),
                _ => (IpAddr::from(*frame[22..].first_chunk::<16>().expect("an address")), &frame[54..]),
            };
            let port = u16::from_be_bytes([datagram[2], datagram[3]]);
            (frame, own, port, reader(port, own, &datagram[8..]))
        })
        .collect();
    for is_v6 in [false, true] {
        assert!(10_000 <= asked.iter().filter(|(_, own, ..)| own.is_ipv6() == is_v6).count());
    }
    assert!(READERS.iter().all(|row| asked.iter().any(|(.., known)| known == row)), "every service is asked");
    for reading in 0..READINGS {
        let these: Vec<_> = asked.iter().filter(|(.., row)| row.3 == reading).collect();
        let told = these.iter().filter(|(.., row)| !row.1.is_empty());
        let rules: BTreeSet<String> =
            told.map(|(.., port, row)| format!("udp.port=={port},{}", row.1)).collect();
        let capture = tshark::chosen(&file, these.iter().map(|(frame, ..)| *frame));
        let readings = tshark::readings(&capture, &rules.into_iter().collect::<Vec<_>>());
        for ((frame, own, port, row), said) in these.into_iter().zip(readings) {
            let family = if own.is_ipv4() { "ip" } else { "ipv6" };
            let whole = format!("eth:ethertype:{family}:udp:{}", row.2);
            assert_eq!((said.layers, said.fault), (whole, String::new()), "{} {port} {frame:02x?}", row.0);
        }
    }
}

/// Linux gives each receiver a burst of six errors and then one a second; the summary says so, and the ledger stands.
#[test]
fn netns_a_host_that_rations_its_errors_is_named_in_the_summary() {
    let Some(lab) = Lab::up() else { return };
    // As kernels come; the lab lifts the limit.
    lab.far("sysctl -q -w net.ipv4.icmp_ratelimit=1000 net.ipv4.icmp_ratemask=6168");
    let line = "192.0.2.2 -p U:20000-20199 --show all --rate 15 --wait 2 -o ndjson:-";
    let ran = lab.scan(line).exits(0).balances();
    let closed = records(&ran).len();
    assert!((8..60).contains(&closed), "{closed} of 200 were told:\n{}", ran.err);
    assert!(ran.err.contains("1 host sent ICMP errors at a constant pace, one in 1,0"), "{}", ran.err);
    assert!(ran.err.contains("icmp_ratelimit=0"), "{}", ran.err);
    lab.far("sysctl -q -w net.ipv4.icmp_ratemask=0");
    for (line, all) in [(line.replace("--rate 15", "--rate 200"), 200), (line.replace("20199", "20044"), 45)]
    {
        let ran = lab.scan(&line).exits(0).balances();
        assert_eq!(records(&ran).len(), all);
        assert!(!ran.err.contains("constant pace"), "{}", ran.err);
    }
}

/// Every address of the on-link block answers with far's interface; what lies behind far is refused.
#[test]
fn netns_an_arp_sweep_finds_the_link_and_nothing_behind_it() {
    let Some(lab) = Lab::up() else { return };
    let ran = lab.scan("203.0.113.0/26 -PR --rate 2000 --wait 1").exits(0).balances();
    let mac = lab.far("cat /sys/class/net/far0/address");
    assert_eq!(ran.out.lines().count(), 64, "{}\n{}", ran.out, ran.err);
    assert!(
        ran.out.lines().all(|line| line.contains(&format!("is up (arp-response, {}", mac.trim()))),
        "{}",
        ran.out
    );
    let ran = lab.scan("2001:db8::2-2001:db8::5 --arp --rate 2000 --wait 2 -o ndjson:-").exits(0).balances();
    assert!(
        ran.out.contains("\"2001:db8::2\"") && ran.out.contains("nd-response"),
        "{}\n{}",
        ran.out,
        ran.err
    );
    assert_eq!(ran.out.lines().count(), 1, "{}", ran.out);
    let ran = lab.scan("198.18.0.0/28 --arp").exits(2);
    assert!(ran.err.contains("behind a router of near0"), "{}", ran.err);
}
