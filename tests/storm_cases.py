# SPDX-License-Identifier: Apache-2.0
"""Seeded cases on real processes: what subscribers get, held against a naive reference arbiter.

    storm_cases.py [--cases N] [--seed N] [--backend kernel|dpdk|mixed]

A case is a channel: two to four lines with loss up to 50 %, reordering over up to 64 packets, doubles, a skew of up to
50 ms, each with its own packing; one to three sessions, or restarts within one.  Its feeder says in its log what went out on
which line.  The reference reads that log and says in plain terms what must come: each message that any line carried, once, in
order; a gap for each number that none carried; a reset between sessions.  A hundred cases share a bus of four ingest
processes, and one mdbus-tail prints what came.

Feeds: MoldUDP64 (heartbeats say the next number) and optiq (none) as the feeder makes them; and captures written here, of
MEMOIR (heartbeats say the last number), Cboe PITCH (zero, or the next) and MDP 3.0 (heartbeats are counted like messages).

With --backend kernel, the default, all is on the loopback interface.  With dpdk the lines are DPDK's on the veth pairs of a lab,
two on each; mixed is the same with line A on AF_XDP.  What is expected is the same.

If a socket dropped packets because this machine was too busy, the case says nothing and is repeated.
"""
import argparse
import os
import random
import re
import signal
import struct
import subprocess
import sys
import time

from storm_bed import BIN, Bed, Broken, Log, die_with_parent, free_port, line_place, now_ns, wait_until

FEED = os.environ.get("MDBUS_FEED") or BIN + "/mdbus-feed"
BATCH = 100
TOGETHER = 6       # feeders at a time
GAP_MS = 2000      # a machine that delays a process by less cannot change the verdict
REORDER = 600      # 64 packets of up to 8 messages, and some
LINES = "ABCD"


def fnv(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


# ---- the reference ----

def reference(records):
    """What a subscriber must see of a log: ("data", epoch, seq, hash), ("gap", epoch, seq), ("reset", epoch)."""
    carried, order = {}, []
    for epoch, seq, message, _, lines, flags, _ in records:
        if flags & 4:  # the source said it twice: its first one counts
            continue
        if (epoch, seq) not in carried:
            order.append((epoch, seq))
            carried[epoch, seq] = None
        if lines:
            carried[epoch, seq] = message
    out, last = [], 1
    for epoch, seq in order:
        if epoch != last:
            out.append(("reset", epoch))
        last = epoch
        message = carried[epoch, seq]
        out.append(("gap", epoch, seq) if message is None else ("data", epoch, seq, message))
    return out


LINE = re.compile(r'{"channel":"c(\d+)","epoch":(\d+),"seq":(\d+),"kind":"(\w+)"(?:.*"payload":"(\w*)"|,"\w+":(\d+))?')


def delivered(path):
    """What mdbus-tail printed, by channel, in the same form."""
    out = {}
    with open(path, encoding="ascii") as f:
        for text in f:
            m = LINE.match(text)
            if not m:
                raise Broken("mdbus-tail prints: " + text)
            channel, epoch, seq, kind = int(m[1]), int(m[2]), int(m[3]), m[4]
            rows = out.setdefault(channel, [])
            if kind == "data":
                rows.append(("data", epoch, seq, fnv(bytes.fromhex(m[5]))))
            elif kind == "gap":
                rows += [("gap", epoch, seq + i) for i in range(int(m[6]))]
            else:
                rows.append((kind, epoch))
    return out


# ---- captures, each family a few plain lines ----

def udp_frame(payload):
    udp = struct.pack(">HHHH", 9999, 9999, 8 + len(payload), 0) + payload
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes((10, 0, 0, 1)), bytes((239, 9, 9, 9)))
    return bytes(12) + b"\x08\x00" + ip + udp


def memoir(kind, session, seq, bodies):
    if kind == "heartbeat":
        return struct.pack(">BB8sQH", 0, 20, b"%08d" % session, seq - 1, 0)
    return (struct.pack(">BB8sQH", 2, 20, b"%08d" % session, seq, len(bodies)) +
            b"".join(struct.pack(">H", len(b)) + b for b in bodies))


def pitch(kind, session, seq, bodies):
    if kind == "heartbeat":
        return struct.pack("<HBBI", 8, 0, 1, seq if seq & 1 else 0)
    data = b"".join(bytes((len(b) + 1,)) + b for b in bodies)
    return struct.pack("<HBBI", 8 + len(data), len(bodies), 1, seq) + data


def mdp3(kind, session, seq, bodies):
    bodies = [b""] if kind == "heartbeat" else bodies
    return struct.pack("<IQ", seq, 1) + b"".join(
        struct.pack("<HHHHH", 10 + len(b), len(b), 12 if kind == "heartbeat" else 32, 1, 9) + b for b in bodies)


FAMILIES = {"memoir_udp": memoir, "cboe_pitch": pitch, "cme_mdp3": mdp3}


def write_capture(path, rng, layout, sessions, pack):
    """Sessions of so many messages, a heartbeat now and then and at each end."""
    build, packets = FAMILIES[layout], []
    by_packet = layout == "cme_mdp3"
    for session, count in enumerate(sessions, 1):
        seq = 1
        while seq <= count:
            kind = "heartbeat" if seq > 1 and rng.random() < 0.03 else "messages"
            n = 0 if kind == "heartbeat" else min(rng.randrange(1, pack + 1), count + 1 - seq)
            bodies = [rng.randbytes(rng.randrange(8, 28)) for _ in range(n)]
            packets.append(build(kind, session, seq, bodies))
            seq += 1 if by_packet else n
        packets += [] if by_packet else [build("heartbeat", session, seq, [])]
    with open(path, "wb") as f:
        f.write(struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for i, payload in enumerate(packets):
            frame = udp_frame(payload)
            f.write(struct.pack("<IIII", 1, i, len(frame), len(frame)) + frame)


# ---- cases ----

class Case:
    def __init__(self, seed):
        self.seed, self.channel, self.tries = seed, 0, 0
        rng = random.Random(seed)
        self.nline = rng.choice((2, 2, 3, 4))
        self.layout = rng.choice(("moldudp64", "moldudp64", "moldudp64", "optiq", "memoir_udp", "cboe_pitch", "cme_mdp3"))
        self.same_name = self.layout in ("optiq", "cboe_pitch", "cme_mdp3") or rng.random() < 0.3
        nsession = rng.choice((1, 1, 2, 2, 3))
        # A restart under the same name can be told from reordering only beyond the reorder window.
        least = 1000 if self.same_name and nsession > 1 else 250
        self.sessions = [least + rng.randrange(600) for _ in range(nsession)]
        self.pack = 1 if self.layout == "optiq" else rng.randrange(1, 9)
        self.repacks = self.layout not in ("optiq", "cme_mdp3")
        if self.layout == "memoir_udp" and self.same_name:
            self.same_name = False
        self.size = rng.randrange(22, 41)
        self.lines = [self.faults(rng) for _ in range(self.nline)]

    def faults(self, rng):
        out = ""
        loss = rng.choice((0, 0.01, 0.05, 0.2, 0.5, 0.5))
        if loss:
            out += ",loss=%g" % loss
        if rng.random() < 0.4:
            out += ",reorder=%g:%d" % (rng.random() * 0.1, rng.randrange(1, 65))
        if rng.random() < 0.3:
            out += ",dup=%g" % (rng.random() * 0.2)
        if rng.random() < 0.6:
            out += ",skew-us=%d" % rng.choice((rng.randrange(1000), rng.randrange(50000)))
        if self.repacks and rng.random() < 0.5:
            out += ",repack=%d" % rng.randrange(1, 9)
        return out

    def text(self):
        return "seed %d: %s, sessions of %s%s, packets of up to %d, lines%s" % (
            self.seed, self.layout, "+".join(map(str, self.sessions)), " under one name" if self.same_name else "",
            self.pack, "".join(" [%s]" % s.lstrip(",") for s in self.lines))

    def command(self, bed, port, backend):
        log = bed.path("log.%d" % self.channel)
        out = [FEED, "--rate", "4000", "--seed", str(self.seed), "--log", log, "--linger-ms", "100"]
        if self.layout in FAMILIES:
            capture = bed.path("pcap.%d" % self.channel)
            write_capture(capture, random.Random(self.seed), self.layout, self.sessions, self.pack)
            out += ["--pcap", capture, "--layout", self.layout]
        else:
            # The feeder makes sessions of equal length, the last one shorter.
            out += ["--generate", self.layout, "--count", str(sum(self.sessions)), "--pack", str(self.pack)]
            if self.layout == "moldudp64":
                out += ["--size", str(self.size)]
            if len(self.sessions) > 1:
                out += ["--restart", "seq" if self.same_name else "session",
                        "--restart-every", str(-(-sum(self.sessions) // len(self.sessions)))]
        for i, faults in enumerate(self.lines):
            out += ["--line", "%s,to=%s:%d%s%s" % (LINES[i], address(backend, i), port + i, device(backend, i), faults)]
        return out


def address(backend, line):
    return "127.0.0.1" if backend == "kernel" else "239.9.9.%d" % (line + 1)


def device(backend, line):
    return "" if backend == "kernel" else ",dev=md%s0" % "abab"[line]


class Batch:
    """A bus with one channel a case."""

    def __init__(self, bed, cases, backend):
        self.bed, self.cases, self.backend = bed, cases, backend
        self.ports = []

    def take_ports(self):
        """Four ports a case, in one block that nobody uses."""
        base = free_port()
        with open("/proc/net/udp", encoding="utf-8") as f:
            taken = {int(p, 16) for p in re.findall(r": [0-9A-F]{8}:([0-9A-F]{4}) ", f.read())}
        need = 4 * len(self.cases)
        base = 10000 + base % (22000 - need)
        while taken & set(range(base, base + need)):
            base = 10000 + (base - 10000 + 97) % (22000 - need)
        self.ports = [base + 4 * i for i in range(len(self.cases))]

    def configure(self):
        channels = []
        for i, (case, port) in enumerate(zip(self.cases, self.ports)):
            case.channel = i
            flows = " ".join('%s = "%s:%d";' % (LINES[k], address(self.backend, k), port + k) for k in range(case.nline))
            channels.append('{ name = "c%d"; layout = "%s"; depth = 16384; slot_size = 64; gap_timeout_us = %d; '
                            'reorder_window = %d; flows = { %s }; }' % (i, case.layout, GAP_MS * 1000, REORDER, flows))
        lines = ", ".join('{ name = "%s"; backend = "%s"; interface = "%s"; frames = 65536; frame_size = 2048; '
                          'idle_spins = 20; }' % (name, *line_place(self.backend, name))
                          for name in LINES[:max(case.nline for case in self.cases)])
        self.bed.write("mdbus.conf", 'hugepages = "never"; buses = ( { name = "%s"; seats = 4; lines = ( %s ); '
                                     'channels = ( %s ); } );' % (self.bed.bus, lines, ",\n".join(channels)))

    def launch(self):
        bed = self.bed
        self.daemon = bed.start_daemon()
        names = LINES[:max(case.nline for case in self.cases)]
        since = now_ns()
        lines = [bed.start(name, "mdbus-ingest", "%s/%s" % (bed.bus, name), prefix=bed.on_ingest)
                 for name in names]
        wait_until("the lines to receive", 60, lambda: all(
            row["counters"]["heartbeat_ns"] > since for row in bed.ctl("lines")["lines"]))
        with open(bed.path("tail"), "wb") as out:
            self.tail = bed.start("tail.err", "mdbus-tail", bed.bus, "--json", "--from", "oldest", out=out)
        wait_until("mdbus-tail", 30, lambda: bed.ctl("subscribers")["subscribers"])
        self.others = lines

    def feed(self):
        """All feeders, some at a time."""
        waiting, running = list(self.cases), []
        while waiting or running:
            while waiting and len(running) < TOGETHER:
                case = waiting.pop(0)
                command = [*self.bed.on_feed, *case.command(self.bed, self.ports[case.channel], self.backend)]
                p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                     preexec_fn=die_with_parent)
                self.bed.procs.append(p)
                running.append((case, p))
            for case, p in list(running):
                if p.poll() is not None:
                    running.remove((case, p))
                    if p.returncode:
                        raise Broken("the feeder fails: " + case.text())
            time.sleep(0.005)

    def dropped(self):
        """Ports on which something was dropped: the kernel tells for each; a line of a lab tells for all of them."""
        if self.backend != "kernel":
            lost = any(row["counters"][name] for row in self.bed.ctl("lines")["lines"]
                       for name in ("nic_dropped", "ring_full", "fill_empty"))
            return set(range(65536)) if lost else set()
        with open("/proc/net/udp", encoding="utf-8") as f:
            rows = [line.split() for line in f][1:]
        return {int(row[1].split(":")[1], 16) for row in rows if int(row[-1])}

    def run(self):
        """Returns the cases that say nothing."""
        self.take_ports()
        self.configure()
        self.launch()
        self.feed()
        path, quiet, size = self.bed.path("tail"), time.monotonic(), -1
        while time.monotonic() - quiet < GAP_MS / 1000 + 0.7:
            time.sleep(0.05)
            if os.path.getsize(path) != size:
                quiet, size = time.monotonic(), os.path.getsize(path)
        void = self.dropped()
        for p in [self.tail] + self.others:
            p.send_signal(signal.SIGTERM)
        for p in [self.tail] + self.others:
            if p.wait(30):
                raise Broken("a process ends with status %d" % p.returncode)
        got = delivered(path)
        again = []
        self.messages = self.gaps = 0
        for case in self.cases:
            if void & set(range(self.ports[case.channel], self.ports[case.channel] + 4)):
                again.append(case)
                continue
            self.compare(case, got.get(case.channel, []))
        self.bed.nothing_left(self.daemon)
        return again

    def compare(self, case, got):
        want = reference(Log(self.bed.path("log.%d" % case.channel)).records)
        self.messages += sum(row[0] == "data" for row in want)
        self.gaps += sum(row[0] == "gap" for row in want)
        if got == want:
            return
        at = next((i for i, pair in enumerate(zip(got, want)) if pair[0] != pair[1]), min(len(got), len(want)))
        keep = os.environ.get("STORM_KEEP")
        if keep:
            subprocess.run(["cp", "-r", self.bed.dir, keep], check=False)
        raise Broken("%s\n  record %d of %d, expected %s\n  got      %s" % (case.text(), at, len(want), want[at:at + 3],
                                                                            got[at:at + 3]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backend", choices=("kernel", "dpdk", "mixed"), default="kernel")
    options = parser.parse_args()
    waiting = [Case(options.seed + i) for i in range(options.cases)]
    done = messages = gaps = repeated = 0
    try:
        while waiting:
            cases, waiting = waiting[:BATCH], waiting[BATCH:]
            with Bed("cases") as bed:
                if options.backend != "kernel":
                    bed.lab_up()
                batch = Batch(bed, cases, options.backend)
                again = batch.run()
            for case in again:
                case.tries += 1
                if case.tries == 4:
                    raise Broken("packets are dropped each time: " + case.text())
            done += len(cases) - len(again)
            repeated += len(again)
            messages += batch.messages
            gaps += batch.gaps
            waiting = again + waiting
    except Broken as e:
        print("FAIL: %s" % e)
        return 1
    print("count: %d cases from seed %d: %d messages and %d gaps, each as the reference says; %d repeated for dropped packets" % (
        done, options.seed, messages, gaps, repeated))
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(143))
    sys.exit(main())
