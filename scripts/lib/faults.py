#!/usr/bin/env python3
"""Fails the k-th write, sync, truncation, allocation or renaming of a whole scan, for every k, and judges what is left.

The scan goes into the simulated Internet (no lab, no privilege), strace makes the kernel say EIO or ENOSPC, and
readers that are not swath's count what the outputs hold. After each fault:

* exit status 0: every output holds every result;
* exit status 4: the ledger balances, and each output can be read to its end and holds exactly what the ledger says of it;
* exit status 1 or 2: the scan says why, and had sent nothing or everything it found is in an output.

    faults.py BINARY [--every N] [--limit K] KIND...      'checkpoint' stands for ndjson with a checkpoint
"""
import csv, glob, json, os, re, shutil, sqlite3, struct, subprocess, sys, tempfile, time
import xml.etree.ElementTree as xml

TARGETS = 1024
# What changes a file. Opening one is left out: the first forty are the loader's and the C library's.
CALLS = {
    "write": ("EIO", "ENOSPC"), "pwrite64": ("EIO", "ENOSPC"), "fsync": ("EIO",), "fdatasync": ("EIO",),
    "ftruncate": ("EIO",), "fallocate": ("ENOSPC",), "rename": ("EIO", "ENOSPC"), "msync": ("EIO",),
}


def lines(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if text and not text.endswith("\n"):
        raise ValueError("the last line is cut off")
    return text.splitlines()


def objects(path):
    return [json.loads(line) for line in lines(path)]


def table(path):
    rows = list(csv.reader(open(path, newline="")))
    if any(len(row) != len(rows[0]) for row in rows):
        raise ValueError("a row of another length")
    return max(0, len(rows) - 1)


def database(path):
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as base:
        (sound,), = base.execute("PRAGMA integrity_check")
        if sound != "ok":
            raise ValueError(sound)
        (made,), = base.execute("SELECT count(*) FROM sqlite_master WHERE name = 'scan'")
        if not made:
            return 0  # it failed before there was anything to hold
        (count,), = base.execute("SELECT count(*) FROM observation")
        return count


def parquet(path):
    import pyarrow.parquet
    return pyarrow.parquet.read_table(path).num_rows


def arrow(path):
    import pyarrow.ipc
    return pyarrow.ipc.open_file(path).read_all().num_rows


def pgcopy(path):
    data = open(path, "rb").read()
    if not data:
        return 0
    if not data.startswith(b"PGCOPY\n\xff\r\n\0"):
        raise ValueError("no signature")
    at, rows = 19 + struct.unpack_from(">i", data, 15)[0], 0
    while at < len(data):
        (fields,) = struct.unpack_from(">h", data, at)
        at += 2
        if fields == -1:
            break
        for _ in range(fields):
            (length,) = struct.unpack_from(">i", data, at)
            at += 4 + max(length, 0)
        rows += 1
    if at != len(data):
        raise ValueError("it does not end where it should")
    return rows


def elements(path):
    return sum(1 for _ in xml.parse(path).getroot().iter("port"))


def starting(pattern):
    return lambda path: sum(1 for line in lines(path) if re.match(pattern, line))


READERS = {
    "text": starting("Discovered open port"), "ndjson": lambda path: len(objects(path)), "csv": table,
    "list": starting(r"\d+\.\d+"), "sqlite": database, "parquet": parquet, "arrow": arrow, "pgcopy": pgcopy,
    "esbulk": lambda path: len(objects(path)) // 2, "nmap-xml": elements, "masscan-xml": elements,
    "nmap-grepable": starting(r"Host: .*Ports: "), "masscan-grepable": starting(r"Timestamp: .*Ports: "),
    "masscan-list": starting("open tcp"), "masscan-json": lambda path: len(json.load(open(path))),
    "masscan-ndjson": lambda path: len(objects(path)), "unicornscan": starting("TCP open"),
    "hosts": starting(r"\d+\.\d+"), "zmap-csv": starting(r"\d+\.\d+"),
    "zmap-json": lambda path: len(objects(path)), "naabu": lambda path: len(objects(path)),
}


class Kind:
    def __init__(self, binary, name, work):
        self.binary, self.name, self.work = binary, name, work
        self.kind = "ndjson" if name == "checkpoint" else name
        self.tried = self.wrong = 0

    def points(self, every, limit):
        for call, errors in CALLS.items():
            for error in errors:
                for k in range(1, limit + 1, every):
                    if not self.point(call, error, k):
                        break

    def point(self, call, error, k):
        """One scan with one fault. Whether there was a k-th call at all."""
        for path in glob.glob(f"{self.work}/*"):
            shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
        with open(f"{self.work}/open.toml", "w") as world:
            world.write("about = 'everything is open'\n[[rule]]\nanswer = 'open'\n")
        keeps = "c.swath" if self.name == "checkpoint" else "none"
        command = ["strace", "-f", "-qq", "-o", "trace", "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={k}",
                   self.binary, "198.18.0.0/22", "-p80", "--link", "world:open.toml", "--rate", "4k", "--wait", "0.1",
                   "--control-share", "0", "--checkpoint", keeps, "-o", f"{self.kind}:out", "-o", "list:whole"]
        ran = subprocess.run(command, cwd=self.work, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, timeout=60)
        trace = open(f"{self.work}/trace", errors="replace").read()
        if "INJECTED" not in trace:
            return False
        self.tried += 1
        # What strace hid from standard error cannot be asked for.
        muted = any(re.search(r"write\(2, .*INJECTED", line) for line in trace.splitlines())
        try:
            self.judge(ran.returncode, ran.stderr.decode(errors="replace"), muted)
        except Exception as problem:
            self.wrong += 1
            print(f"WRONG: {self.name}: {call} number {k} fails with {error}: exit {ran.returncode}: {problem}", flush=True)
        return True

    def judge(self, status, said, muted):
        found = {}
        for name, kind in (("out", self.kind), ("whole", "list")):
            path = f"{self.work}/{name}"
            # One that was made and not begun is empty, whatever its kind.
            begun = os.path.exists(path) and os.path.getsize(path)
            found[name] = READERS[kind](path) if begun else None
        if status == 0:
            wanted = {"out": TARGETS, "whole": TARGETS}
            if found != wanted:
                raise ValueError(f"status 0, and the outputs hold {found}")
        elif status == 4:
            if "the ledger balances" not in said and not muted:
                raise ValueError("the ledger does not balance")
            for name in found:
                told = re.search(rf"= ([\d,]+) written to (?:[\w-]+:)?{name} ", said)
                if told is None and muted:
                    continue
                told = int(told.group(1).replace(",", "")) if told else -1
                if told != (found[name] or 0):
                    raise ValueError(f"{name} holds {found[name]}, the ledger says {told}")
            if max(count or 0 for count in found.values()) != TARGETS:
                raise ValueError(f"no output has everything: {found}")
        elif status in (1, 2):
            if not muted and "swath: " not in said:
                raise ValueError("no word about it")
            if any(count for count in found.values()) and max(count or 0 for count in found.values()) != TARGETS:
                raise ValueError(f"it failed, and the outputs hold {found}")
        else:
            raise ValueError("neither done nor refused")


def main():
    arguments, every, limit = sys.argv[1:], 1, 10_000
    binary = os.path.abspath(arguments.pop(0))
    while arguments and arguments[0].startswith("--"):
        option, value = arguments.pop(0), int(arguments.pop(0))
        every, limit = (value, limit) if option == "--every" else (every, value)
    tried = wrong = 0
    for name in arguments or ["checkpoint", *READERS]:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as work:
            kind = Kind(binary, name, work)
            kind.points(every, limit)
        tried, wrong = tried + kind.tried, wrong + kind.wrong
        print(f"{name}: {kind.tried} faults, {kind.wrong} wrong, {time.monotonic() - started:.0f} s", flush=True)
    print(f"{tried} fault points, {wrong} wrong")
    sys.exit(0 if tried and not wrong else 1)


main()
