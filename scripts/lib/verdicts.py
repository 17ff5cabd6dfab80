#!/usr/bin/env python3
"""swath's verdicts beside nmap's, cell by cell, in a lab whose far side refuses in every way nftables knows.

A cell is (kind of scan, address, port). Each address gets another rotation of the same list of treatments, so that every
port is treated in every way. Both tools run in the near namespace, one after the other, against the same rules. Prints a
Markdown table; exits 3 when a cell differs without a reason that stands in EXPLAINED.

usage: verdicts.py LAB-SCRIPT SWATH (SWATH_LAB names the lab). HOSTS, PORTS: how many of each; KINDS: which, by the names below.
"""

import collections
import concurrent.futures
import ipaddress
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

LAB, SWATH = sys.argv[1:3]
HOSTS = int(os.environ.get("HOSTS", "8"))
PORTS = int(os.environ.get("PORTS", "14"))

# Kind: nmap's option, swath's options, the state of silence, whether ports are IP protocols.
KINDS = {
    "syn": ("-sS", "-sS", "filtered", "tcp"),
    "ack": ("-sA", "-sA", "filtered", "tcp"),
    "window": ("-sW", "-sW", "filtered", "tcp"),
    "fin": ("-sF", "-sF", "open|filtered", "tcp"),
    "null": ("-sN", "-sN", "open|filtered", "tcp"),
    "xmas": ("-sX", "-sX", "open|filtered", "tcp"),
    "maimon": ("-sM", "-sM", "open|filtered", "tcp"),
    "udp": ("-sU", "-sU", "open|filtered", "udp"),
    "init": ("-sY", "-sY", "filtered", "sctp"),
    "cookie-echo": ("-sZ", "-sZ", "open|filtered", "sctp"),
    "ip": ("-sO", "-sO", "open|filtered", "ip"),
    "hosts": ("-sn --disable-arp-ping -PE -PP -PS443 -PA80", "-sn -PE -PP -PS443 -PA80", "down", "host"),
}

# What far does with a packet; None passes it on to the kernel. Servers: sshd 22, nginx 80 and 443 (TCP), echo 7 (UDP, SCTP).
TREATMENTS = {
    4: [None, "drop", None]
    + [f"reject with icmp type {code}" for code in (
        "net-unreachable", "host-unreachable", "prot-unreachable", "port-unreachable",
        "net-prohibited", "host-prohibited", "admin-prohibited")]
    + ["reset"],
    6: [None, "drop", None]
    + [f"reject with icmpv6 type {code}" for code in (
        "no-route", "admin-prohibited", "addr-unreachable", "port-unreachable", "policy-fail", "reject-route")]
    + ["reset"],
}
OPEN_PORTS = [7, 22, 80, 443]
CLOSED_PORTS = [9, 53, 123, 1001, 1002, 1003, 2222, 5060, 8080, 36412]
UDP_LITE = 136
PROTOCOLS = [1, 2, 4, 6, 17, 33, 47, 50, 58, 89, 99, 103, 132, 136, 200, 253]
# A host as a whole, for host discovery.
HOST_TREATMENTS = [None, "drop", "meta l4proto {icmp, icmpv6} drop", "meta l4proto tcp drop", "tcp dport 443 drop"]

# Differences with a reason: a test of (kind, family, port, nmap, swath), and the reason. At most one cell in a hundred.
EXPLAINED = [
    (
        lambda kind, family, port, theirs, ours: kind == "ip" and port == (1 if family == 4 else 58)
        and (theirs, ours) == ("filtered", "open"),
        "ICMP as an IP protocol, rejected by the target itself with an ICMP error: any ICMP message of the target proves that it "
        "speaks ICMP (reference: nmap-and-friends, 1.1). So says nmap of every other protocol's error; of the echo's own it says "
        "what the error says.",
    ),
]


def lab(*words, check=True):
    result = subprocess.run([LAB, *words], capture_output=True, text=True, timeout=600)
    if check and result.returncode != 0:
        sys.exit(f"{' '.join(words)}: exit {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


def addresses(family):
    """The far side's own address, and others it is given. Its own comes first: usrsctp's server answers over IPv6 from
    the address that its kernel prefers, whichever was asked. All of IPv6 have the same sum of 16-bit words (see fitting)."""
    if family == 4:
        return ["192.0.2.2"] + [f"192.0.2.{101 + host}" for host in range(HOSTS - 1)]
    return ["2001:db8::2"] + [f"2001:db8::{2 + host:x}:{0xffff - host:x}" for host in range(1, HOSTS)]


def ports_of(transport):
    if transport == "ip":
        return PROTOCOLS[:PORTS]
    half = (PORTS + 1) // 2
    return sorted(OPEN_PORTS[:half] + CLOSED_PORTS[: PORTS - min(half, len(OPEN_PORTS))])


def rules(transports):
    """nftables rules for some transports: every (address, port) has its treatment."""
    lines = ["flush ruleset", "table inet verdicts {", "chain input { type filter hook input priority 0;",
             "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"]
    for family in (4, 6):
        for host, address in enumerate(addresses(family)):
            match = f"{'ip' if family == 4 else 'ip6'} daddr {address}"
            for transport in transports:
                lines += [f"{match} {rule}" for rule in rules_of(transport, family, host)]
    return "\n".join(lines + ["}", "}"])


def rules_of(transport, family, host):
    if transport == "host":
        treatment = HOST_TREATMENTS[host % len(HOST_TREATMENTS)]
        return [treatment] if treatment else []
    found = []
    for index, port in enumerate(ports_of(transport)):
        treatment = TREATMENTS[family][(host * 3 + index) % len(TREATMENTS[family])]
        if treatment == "reset":
            treatment = "reject with tcp reset" if transport == "tcp" else None
        if treatment:
            match = f"meta l4proto {port}" if transport == "ip" else f"{transport} dport {port}"
            found.append(f"{match} {treatment}")
    return found


def nmap(kind, family):
    option, _, _, transport = KINDS[kind]
    # Timestamps are IPv4's; swath leaves them out by itself.
    options = [word for word in option.split() if not (family == 6 and word == "-PP")]
    words = ["exec", "nmap", "-n", *options, "-oX", "-", "-T4", "--max-retries", "2", "--min-rate", "200", "--min-hostgroup", "64",
             # Answers take less than a millisecond here.
             "--initial-rtt-timeout", "150ms", "--max-rtt-timeout", "300ms"]
    words += ["-6"] if family == 6 else []
    if transport == "host":
        return cells_of(lab(*words, *addresses(family)), family, [0])
    words += ["-Pn", "-p"]
    if transport != "ip":
        return cells_of(lab(*words, ",".join(map(str, ports_of(transport))), *addresses(family)), family, ports_of(transport))
    # One run for each protocol: in one run for all, an ICMP error that one protocol draws also opens ICMP, or does not, as it
    # comes before or after ICMP's own answer.
    cells = {}
    for protocol in ports_of(transport):
        # The checksum of UDP-Lite is of the address, and there is no datagram without.
        for hosts in [[host] for host in addresses(family)] if protocol == UDP_LITE else [addresses(family)]:
            run = lab(*words, str(protocol), *fitting(protocol, family, hosts[0]), *hosts)
            cells.update(cells_of(run, family, [protocol]))
    return cells


def fitting(protocol, family, address):
    """nmap's options for a packet that a Linux filter may reject, or a kernel answer. For a protocol whose header it does not know,
    nmap sends nothing behind the IP header. Over IPv6 the kernel rejects no such packet, nor one whose last 16 bits, where a
    checksum may stand, do not make the sum of pseudo header and payload 0xffff (net/ipv6/netfilter/nf_reject_ipv6.c,
    reject6_csum_ok). UDP-Lite answers a datagram that is one (RFC 3828): two ports, what the checksum covers, checksum. The
    addresses of IPv6 that are asked have one sum."""
    if protocol == UDP_LITE:
        payload = b"".join(number.to_bytes(2, "big") for number in (40000, 40125, 8))
    # 50 is an extension header, which swath leaves empty as well.
    elif family == 4 or protocol in (6, 17, 50, 58, 132):
        return []
    else:
        payload = b"swath!"
    source = {4: "192.0.2.1", 6: "2001:db8::1"}[family]
    packed = b"".join(ipaddress.ip_address(end).packed for end in (source, address)) + bytes([0, 8, 0, protocol]) + payload
    total = sum(int.from_bytes(packed[at:at + 2], "big") for at in range(0, len(packed), 2))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ["--data", (payload + (0xffff - total).to_bytes(2, "big")).hex()]


def cells_of(run, family, ports):
    """The verdicts of a run of nmap's."""
    cells = {}
    for host in ElementTree.fromstring(run).iter("host"):
        address = host.find("address").get("addr")
        if ports == [0]:
            cells[address, 0] = host.find("status").get("state")
            continue
        extra = [ports.get("state") for ports in host.iter("extraports")]
        for port in ports:
            cells[address, port] = extra[0] if extra else None
        for port in host.iter("port"):
            cells[address, int(port.get("portid"))] = port.find("state").get("state")
    if ports == [0]:
        for address in addresses(family):
            cells.setdefault((address, 0), "down")
    return cells


def swath(kind, family):
    _, options, silence, transport = KINDS[kind]
    words = ["exec", SWATH, *addresses(family), *options.split(), "--rate", "2000", "--wait", "1.5", "--quiet",
             # nmap asks again twice, too: a server may be too busy once.
             "--retries", "2", "--pass-gap", "0.5"]
    words += ["--show", "all", "-o", "ndjson:-"]
    if transport != "host":
        words += ["-p", ",".join(map(str, ports_of(transport)))]
    found = collections.defaultdict(set)
    for line in lab(*words).splitlines():
        record = json.loads(line)
        found[record["ip"], 0 if transport == "host" else record["port"]].add(record["state"])
    cells = {}
    for address in addresses(family):
        for port in [0] if transport == "host" else ports_of(transport):
            states = found.get((address, port), {silence})
            if transport == "host":
                states = {"up"} if "up" in states else {"down"}
            cells[address, port] = "/".join(sorted(states))
    return cells


SERVER = """
import select, socket
sockets = []
for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    server = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    option = (socket.IPPROTO_IP, 8) if family == socket.AF_INET else (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO)
    server.setsockopt(*option, 1)
    server.bind((any_address, 7))
    sockets.append(server)
while True:
    for server in select.select(sockets, [], [])[0]:
        data, extra, _, peer = server.recvmsg(2048, 256)
        # From the address that was asked, or the scanner would not know the answer.
        control = []
        for level, kind, info in extra:
            if level == socket.IPPROTO_IP:
                info = bytes(4) + info[8:12] + bytes(4)
            control.append((level, kind, info if level == socket.IPPROTO_IP else info[:16] + bytes(4)))
        server.sendmsg([data or b"here"], control, 0, peer)
"""


def main():
    for family in (4, 6):
        for address in addresses(family)[1:]:
            lab("far", "ip", "address", "replace", f"{address}/{32 if family == 4 else 128}", "dev", "far0",
                *("nodad valid_lft forever preferred_lft 0".split() if family == 6 else []))
    time.sleep(1)
    servers = [subprocess.Popen([LAB, "far", "python3", "-c", SERVER])]
    sctp = "/usr/lib/usrsctp/echo_server"
    if os.path.exists(sctp):
        servers.append(subprocess.Popen([LAB, "far", sctp], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    time.sleep(1)
    if any(server.poll() is not None for server in servers):
        sys.exit("a server of the lab did not start")
    try:
        return compare()
    finally:
        for server in servers:
            server.terminate()


def compare():
    kinds = os.environ.get("KINDS", " ".join(KINDS)).split()
    total = agreed = explained = 0
    unexplained = []
    results = {}
    # Kinds of one transport share their rules and are told apart by their ports: they run side by side. Each kind asks with
    # nmap first, then with swath.
    for transports in (("tcp", "udp", "sctp"), ("ip",), ("host",)):
        together = [kind for kind in kinds if KINDS[kind][3] in transports]
        if not together:
            continue
        lab("far", "nft", rules(transports))
        with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("TOGETHER", "6"))) as pool:
            cells = [(kind, family) for kind in together for family in (4, 6)]
            results.update(zip(cells, pool.map(lambda cell: (nmap(*cell), swath(*cell)), cells)))
    print("| kind | family | cells | agree | explained | differ |\n|---|---|---|---|---|---|")
    for (kind, family), (theirs, ours) in results.items():
        counts = collections.Counter()
        for cell in sorted(ours, key=str):
            if theirs.get(cell) == ours[cell]:
                counts["agree"] += 1
                continue
            reason = any(test(kind, family, cell[1], theirs.get(cell), ours[cell]) for test, _ in EXPLAINED)
            counts["explained" if reason else "differ"] += 1
            if not reason:
                unexplained.append((kind, *cell, theirs.get(cell), ours[cell]))
        total += len(ours)
        agreed += counts["agree"]
        explained += counts["explained"]
        print(f"| {kind} | IPv{family} | {len(ours)} | {counts['agree']} | {counts['explained']} | {counts['differ']} |", flush=True)
    print(f"\n{agreed} of {total} cells agree; {explained} differ with a reason, {len(unexplained)} without.")
    for _, why in EXPLAINED:
        print(f"- {why}")
    for kind, address, port, theirs, ours in unexplained:
        print(f"DIFFERS: {kind} {address} {port}: nmap {theirs}, swath {ours}")
    return 3 if unexplained or explained * 100 > total else 0


if __name__ == "__main__":
    sys.exit(main())
