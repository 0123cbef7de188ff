# SPDX-License-Identifier: Apache-2.0
"""Neighbours that mean harm, or are broken: hostile.py WHAT [ARGUMENT].  See t_hostile.sh.

Everything is bounded in number.  Each attack ends with status 0 if mdbusd has answered as it must, else it says what was
wrong.  The wire is written out here once more, so that a mistake in the C headers is seen.
"""
import array
import json
import os
import random
import resource
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time

RUN = os.environ["MDBUS_RUN_DIR"]
REQUEST = struct.Struct("<4I32s32s")
REPLY = struct.Struct("<2Ii5I256s256s")
MAGIC, VERSION = 0x4c53444d, 1
LINE, SEAT, RELEASE, END, KILL, SHUTDOWN = range(1, 7)
REQ, SUB = 0x30, 0x21
EACCES, EPROTO, ENOENT, ENOSPC = 13, 71, 2, 28
dice = random.Random(4)


def check(good, what):
    if not good:
        sys.exit("hostile: " + what)


def dial(name="mdbusd.sock", seconds=10):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET if name == "mdbusd.sock" else socket.SOCK_STREAM)
    s.settimeout(seconds)
    for _ in range(200):
        try:
            s.connect(os.path.join(RUN, name))
            return s
        except BlockingIOError:  # so many are waiting to be let in
            time.sleep(0.01)
    s.close()
    raise TimeoutError("not let in: " + name)


def request(op, name, number=0, bus="t"):
    return REQUEST.pack(MAGIC, VERSION, op, number, bus.encode(), name.encode())


class Reply:
    def __init__(self, data):
        check(len(data) == REPLY.size, "an answer of %d bytes" % len(data))
        magic, version, self.status, self.id, self.index, self.nfd, self.left, _, _, text = REPLY.unpack(data)
        check(magic == MAGIC and version == VERSION, "an answer without magic")
        self.text = text.split(b"\0")[0].decode()


def ask(s, data):
    """All answers to one request; their descriptors are dropped.  None: the connection was closed."""
    try:
        s.send(data)
        while True:
            got = s.recv(4096)
            if not got:
                return None
            r = Reply(got)
            if r.status != 0 or r.left == 0:
                return r
    except (ConnectionResetError, BrokenPipeError):
        return None


# ---- the lease socket ----

def garbage():
    for i in range(600):
        with dial() as s:
            size = dice.choice([0, 1, 2, 4, REQUEST.size - 1, REQUEST.size, REQUEST.size + 1, 4096, 60000])
            data = dice.randbytes(size)
            if i % 3 == 0 and size >= 12:  # a good beginning
                data = struct.pack("<3I", MAGIC, VERSION, dice.randrange(1, 7)) + data[12:]
            r = ask(s, data) if size else None
            check(r is None or r.status < 0, "garbage of %d bytes was taken for a request" % size)
    with dial() as s:  # byte by byte: a message of one byte is not a request
        r = ask(s, request(SEAT, "drip")[:1])
        check(r is not None and r.status == -EPROTO, "one byte was not refused")
    print("garbage: 601 messages")


def descriptors():
    """Nobody asked for these, and mdbusd must not keep them."""
    with open("/dev/null", "rb") as null:
        for _ in range(100):
            with dial() as s:
                fds = array.array("i", [null.fileno()] * 100)
                s.sendmsg([request(SEAT, "fds")[:20]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
                s.recv(4096)
    print("descriptors: 10000")


def replay():
    with dial() as s:
        seats = [r.id for r in (ask(s, request(SEAT, "replay")) for _ in range(50)) if r and r.status == 0]
        check(0 < len(seats) <= 3, "%d seats for one who asked 50 times, of 4" % len(seats))
        r = ask(s, request(SEAT, "replay"))
        check(r.status == -ENOSPC, "no seat is left, but: " + r.text)
        for number in seats:
            check(ask(s, request(RELEASE, "", number)).status == 0, "a seat cannot be given back")
            for _ in range(20):
                check(ask(s, request(RELEASE, "", number)).status == -ENOENT, "a seat was given back twice")
    print("replay: %d messages" % (51 + 21 * len(seats)))


def flood():
    """Requests whose answers nobody reads, from many connections at once."""
    conns = [dial() for _ in range(100)]
    sent = 0
    for s in conns:
        s.setblocking(False)
    for _ in range(50):
        for s in conns:
            try:
                s.send(request(dice.choice([SEAT, RELEASE, LINE]), "A", dice.randrange(1 << 31)))
                sent += 1
            except OSError:
                pass
    print("flood: %d messages" % sent)


def identity(victim):
    """A pid in a message must not count."""
    with dial() as s:
        r = ask(s, request(SEAT, "liar", int(victim)))
        check(r is not None, "no answer to a request with a pid in it")
        leases = [e for e in events("seat_up") if e["name"] == "liar"]
        if r.status == 0:
            check(leases and leases[-1]["pid"] == os.getpid(),
                  "pid %s was believed: %s" % (victim, leases and leases[-1]["pid"]))
            ask(s, request(RELEASE, "", r.id))
    print("identity: not believed")


def roles(expected):
    """Which of line, seat, end, shutdown this user may; in that order, y or n each."""
    got = ""
    for op, name in ((LINE, "A"), (SEAT, "x"), (END, "seat.3"), (SHUTDOWN, "")):
        if op == SHUTDOWN and expected[3] == "y":
            got += "y"  # not now
            continue
        with dial() as s:
            r = ask(s, request(op, name))
            check(r is not None, "closed without an answer")
            got += "n" if r.status == -EACCES else "y"
            if r.status == 0 and op in (LINE, SEAT):
                ask(s, request(RELEASE, "", r.id))
    check(got == expected, "may line, seat, end, shutdown: expected %s, got %s" % (expected, got))
    print("roles: " + got)


# ---- nanomsg's sockets: an 8-byte greeting, then messages with a type and a length ----

def greet(s, protocol):
    s.sendall(b"\0SP\0" + struct.pack(">HH", protocol, 0))
    s.recv(8)


def message(body):
    return b"\x01" + struct.pack(">Q", len(body)) + body


def question(number, text):
    return message(struct.pack(">I", 0x80000000 | number) + text.encode())


def attempt(name, *pieces, greeted=True, pause=0.0):
    """Say it, whether it is listened to or not; what came back."""
    got = b""
    try:
        with dial(name, 0.2) as s:
            if greeted:
                greet(s, REQ if name == "ctl.ipc" else SUB)
            for p in pieces:
                s.sendall(p)
                time.sleep(pause)
            got = s.recv(1 << 20)
    except OSError:
        pass
    return got


def ctl():
    status = question(1, '{"op": "status"}')
    for name in ("ctl.ipc", "events.ipc"):
        for _ in range(20):
            attempt(name, dice.randbytes(dice.randrange(1, 4000)), greeted=False)
            attempt(name, dice.randbytes(dice.randrange(1, 4000)))
        for size in (1 << 63, (1 << 64) - 1, 1 << 40, 1 << 20, 5000):
            attempt(name, b"\x01" + struct.pack(">Q", size) + b"x" * 10000)
        for length in (0, 1, 3, 4, 5):
            attempt(name, message(b"\xff" * length))
    check(b'"ok"' in attempt("ctl.ipc", *[bytes([b]) for b in status], pause=0.002), "a question byte by byte")
    check(b'"ok"' in attempt("ctl.ipc", status * 200), "a question 200 times")
    check(b"not JSON" in attempt("ctl.ipc", question(2, "{" * 3000)), "braces")
    with dial("ctl.ipc", 0.2) as s:  # asks and never listens
        greet(s, REQ)
        try:
            for i in range(20000):
                s.sendall(question(i, '{"op": "status", "detail": true}'))
        except OSError:
            pass
    print("ctl: survived")


def hold(name, n, protocol):
    kept = []
    for _ in range(n):
        try:
            s = dial(name, 2)
            if protocol:
                s.sendall(b"\0SP\0" + struct.pack(">HH", protocol, 0))
            kept.append(s)
        except OSError:
            pass
    return kept


def hang(n):
    """n connections to each socket that say nothing more; held until standard input ends."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 4 * int(n) + 100),) * 2)
    kept = hold("mdbusd.sock", int(n), None) + hold("ctl.ipc", int(n), REQ) + hold("events.ipc", int(n), SUB)
    print("hung: %d connections" % len(kept), flush=True)
    sys.stdin.read()


# ---- does mdbusd still do its work? ----

def events(kind):
    out = subprocess.run([os.environ["MDBUS_BIN"] + "/mdbusctl", "events", "--json"], stdout=subprocess.PIPE, check=True,
                         timeout=60).stdout
    return [e for e in map(json.loads, out.splitlines()) if e["type"] == kind]


def holder(line):
    """A process that holds a line and sleeps."""
    into, said = os.pipe()
    pid = os.fork()
    if pid == 0:
        s = dial(seconds=60)
        r = ask(s, request(LINE, line))
        os.write(said, b"y" if r and r.status == 0 else b"n")
        time.sleep(100)
    os.close(said)
    answer = os.read(into, 1)
    os.close(into)
    check(answer == b"y", "line %s cannot be had" % line)
    return pid


def reclaim_times(pids):
    """From SIGKILL to the event that the line is free, in seconds, for each holder in turn."""
    killed = {}
    for pid in pids:
        killed[pid] = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    end = time.monotonic() + 30
    while True:
        down = {e["pid"]: e["mono_ns"] for e in events("line_down") if e["pid"] in killed}
        if len(down) == len(killed) or time.monotonic() > end:
            break
        time.sleep(0.05)
    check(len(down) == len(killed), "%d of %d deaths were seen" % (len(down), len(killed)))
    return [(down[p] - killed[p]) / 1e9 for p in killed]


def holders(n):
    for _ in range(n):
        yield holder("A")


def reclaim_beside(clients, victims):
    """Reclaim times right after a process with so many hung clients has come, and beside them."""
    victim = holder("A")
    with subprocess.Popen([sys.executable, "-B", __file__, "hang", str(clients)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        said = process.stdout.readline().decode().strip()
        upon = reclaim_times([victim])
        beside = reclaim_times(holders(victims))
        process.stdin.close()
    return said, upon, beside


def reclaim(n):
    """
    Deaths beside n hung clients of each socket, and right after these have come, are not held up by any of them: they take
    as long as beside none, but for noise and for what it takes to look at so many.
    """
    times = {"beside none": [], "when they come": [], "beside them": [], "when none come": []}
    for _ in range(4):
        _, upon, beside = reclaim_beside(0, 8)
        times["when none come"] += upon
        times["beside none"] += beside
        said, upon, beside = reclaim_beside(n, 8)
        times["when they come"] += upon
        times["beside them"] += beside
    median = {name: statistics.median(v) for name, v in times.items()}
    told = ", ".join("%.3f ms %s" % (v * 1e3, name) for name, v in median.items())
    least = max(median["beside none"], median["when none come"])
    check(max(median["when they come"], median["beside them"]) <= (20 + int(n) / 10) * least, told)
    print("%s; death to reclaim, median: %s" % (said, told))


if __name__ == "__main__":
    {f.__name__: f for f in (garbage, descriptors, replay, flood, identity, roles, ctl, hang, reclaim)}[sys.argv[1]](*sys.argv[2:])
