# SPDX-License-Identifier: Apache-2.0
"""What tests on real processes share: a bus of their own, its processes, and its shared memory, read only.

The offsets read here are those that include/mdbus/abi.h asserts; counters are found by their order in counters.h.  Nothing
else is taken from the programs: what must be proven about them is computed from the bytes.
"""
import ctypes
import json
import mmap
import os
import re
import signal
import struct
import subprocess
import tempfile
import time

TOP = os.environ.get("MDBUS_TOP") or os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.environ.get("MDBUS_BIN") or os.path.join(TOP, "build/bin")
POS_MASK = (1 << 48) - 1
KIND_REF = 1


libc = ctypes.CDLL(None)


def die_with_parent():
    """In a child: even if this test is killed, nothing of it runs on."""
    libc.prctl(1, signal.SIGKILL)


class Broken(Exception):
    """A guarantee does not hold, or something that must come about does not."""


def now_ns():
    return time.monotonic_ns()


def wait_until(what, seconds, test):
    end = time.monotonic() + seconds
    while True:
        value = test()
        if value:
            return value
        if time.monotonic() > end:
            raise Broken("waited in vain for " + what)
        time.sleep(0.01)


def counter_names(which):
    """Names of one list of counters.h, in order."""
    with open(os.path.join(TOP, "include/mdbus/counters.h"), encoding="utf-8") as f:
        text = f.read()
    body = re.search(r"#define MDBUS_%s_COUNTERS\(X\)(.*?)\n\n" % which, text, re.S).group(1)
    return re.findall(r"X\((\w+),", body)


class Segment:
    def __init__(self, path):
        with open(path, "rb") as f:
            self.map = mmap.mmap(f.fileno(), os.fstat(f.fileno()).st_size, access=mmap.ACCESS_READ)
        self.words = memoryview(self.map).cast("Q")

    def u64(self, offset):
        return self.words[offset >> 3]

    def u32(self, offset):
        return struct.unpack_from("<I", self.map, offset)[0]

    def close(self):
        self.words.release()
        self.map.close()


class Arena(Segment):
    """A line's counters, and where it is in each channel."""
    LINE = {name: 192 + 8 * i for i, name in enumerate(counter_names("LINE"))}
    CHANNEL_SIZE = 64 + (8 * len(counter_names("LINE_CHANNEL")) + 128 + 63) // 64 * 64  # and 4 sessions of 32 bytes

    def count(self, name):
        return self.u64(self.LINE[name])

    def progress(self, channel):
        """(gen, pos) after the newest record this line has seen; gen 0: none yet."""
        word = self.u64(self.u64(144) + channel * self.CHANNEL_SIZE)
        return word >> 48, word & POS_MASK

    def head(self, channel):
        """Every position below this one has its record, as far as this line knows."""
        return self.u64(self.u64(144) + channel * self.CHANNEL_SIZE + 8)

    def frame_size(self):
        return self.u32(136)

    def frames_off(self):
        return self.u64(152)


class Ring(Segment):
    def generation(self, gen):
        """(base, first_seq, jumped) of a generation, or None."""
        at = 320 + 32 * (gen % 256)
        lo, hi = self.u64(at), self.u64(at + 8)
        if lo == 0 or lo >> 48 != gen & 0xffff:
            return None
        return lo & POS_MASK, hi >> 20, bool(hi >> 18 & 1)

    def place(self, gen, pos):
        """(epoch, sequence number) of a position.  Good for the first 255 generations of a bus."""
        epoch = 1
        for g in range(2, gen + 1):
            epoch += not self.generation(g)[2]
        base, first, _ = self.generation(gen)
        return epoch, first + pos - base

    def frames_of(self, line, arena):
        """The frames of a line that some slot still refers to."""
        depth, size = self.u64(128), self.u32(136)
        start, step = self.u64(152) >> 3, size >> 3
        stamps = self.words[start:start + depth * step:step].tolist()
        refs = self.words[start + 1:start + depth * step:step].tolist()
        off, frame = arena.frames_off(), arena.frame_size()
        return {((ref >> 20 & 0xfffffffff) - off) // frame for stamp, ref in zip(stamps, refs)
                if stamp >> 5 & 7 == KIND_REF and ref >> 1 & 7 == line}


class Log:
    """The feeder's log: records (epoch, seq, hash, time_ns, line_mask, flags, stream) in order of the source."""

    def __init__(self, path):
        with open(path, "rb") as f:
            data = f.read()
        if data[:8] != b"MDFEED1\0" or (len(data) - 16) % 48:
            raise Broken("%s: not a whole feeder's log" % path)
        self.records = [(epoch, seq, h, at, mask, flags, stream)
                        for seq, h, at, _, _, stream, mask, flags, epoch, _
                        in struct.iter_unpack("<QQQQIHBBII", data[16:])]


class Bed:
    """One run directory with the processes of one bus.  Use as a context: everything is gone at the end."""

    def __init__(self, name):
        shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.dir = tempfile.mkdtemp(prefix="mdbus-%s." % name, dir=shm)
        self.run = os.path.join(self.dir, "run")
        self.bus = name
        self.procs = []
        self.environment = dict(os.environ, MDBUS_RUN_DIR=self.run)
        self.on_ingest = self.on_feed = ()
        self.lab = None

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        for p in self.procs:
            if p.poll() is None:
                p.kill()
        for p in self.procs:
            p.wait()
        with open("/proc/mounts", encoding="utf-8") as f:
            mounts = [line.split()[1] for line in f]
        if os.path.isdir(self.run):
            subprocess.run([BIN + "/mdbusd", "--purge"], env=self.environment, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, check=False, timeout=30)
        for at in mounts:
            if at.startswith(self.dir + "/"):
                subprocess.run(["umount", "-l", at], stderr=subprocess.DEVNULL, check=False)
        if self.lab:
            subprocess.run([TOP + "/scripts/lab", "down", self.lab], check=False)
        subprocess.run(["rm", "-rf", self.dir], check=False)

    def lab_up(self):
        self.lab = "s%d" % os.getpid()
        subprocess.run([TOP + "/scripts/lab", "up", self.lab], check=True)
        self.on_feed = ("nsenter", "--net=/run/netns/mdlab-%s-feed" % self.lab)
        self.on_ingest = ("nsenter", "--net=/run/netns/mdlab-%s-ingest" % self.lab)

    def wire_up(self, backend):
        """What lines and feeder are joined by: the loopback interface, a lab, or nets of a virtual bridge."""
        if backend == "user-veth":
            self.start("bridge", "mdbus-vbridge", "--json", "--dir", self.path("veth"),
                       *("%s-%s,net=%s" % (end, net, net) for net in "ab" for end in ("feed", "nic")))
            wait_until("the bridge", 30, lambda: "ready" in self.said("bridge"))
        elif backend != "kernel":
            self.lab_up()

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)
        return self.path(name)

    def said(self, name):
        """The last words of a process, for messages."""
        try:
            with open(self.path(name + ".log"), encoding="utf-8", errors="replace") as f:
                return "".join(f.readlines()[-8:])
        except OSError:
            return ""

    def start(self, name, *command, prefix=(), out=None):
        command = list(prefix) + [BIN + "/" + command[0]] + list(command[1:])
        with open(self.path(name + ".log"), "ab") as log:
            p = subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL, stderr=log,
                                 stdout=log if out is None else out, start_new_session=True,
                                 preexec_fn=die_with_parent)
        self.procs = [q for q in self.procs if q.returncode is None]
        self.procs.append(p)
        return p

    def ctl(self, *words):
        """mdbusctl's answer, or None if there is none."""
        r = subprocess.run([BIN + "/mdbusctl", *words, "--json"], env=self.environment, stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, check=False, timeout=30)
        return json.loads(r.stdout) if r.returncode == 0 else None

    def segment(self, kind, name):
        return kind(os.path.join(os.path.realpath(os.path.join(self.run, "bus." + self.bus)), name))

    def start_daemon(self):
        daemon = self.start("mdbusd", "mdbusd", "-c", self.path("mdbus.conf"), prefix=self.on_ingest)
        wait_until("mdbusd: " + self.said("mdbusd"), 60, lambda: self.ctl("status") or daemon.poll() is not None)
        if daemon.poll() is not None:
            raise Broken("mdbusd does not start: " + self.said("mdbusd"))
        return daemon

    def nothing_left(self, daemon):
        """End mdbusd properly, once nobody holds anything; then nothing may be left anywhere."""
        wait_until("all leases to come back", 30, lambda: not self.ctl("leases")["leases"])
        taken = [q for q in self.ctl("queues")["queues"] if q["state"] != "free"] + self.ctl("rules")["rules"]
        if taken:
            raise Broken("queues and rules that nobody holds: %s" % taken)
        huge = self.ctl("status")["huge_dir"]
        daemon.send_signal(signal.SIGTERM)
        if daemon.wait(60) != 0:
            raise Broken("mdbusd ends with status %d: %s" % (daemon.returncode, self.said("mdbusd")))
        left = [self.run] if os.path.exists(self.run) else []
        if huge and os.path.exists(huge):
            left.append(huge)
        with open("/proc/mounts", encoding="utf-8") as f:
            left += [line.strip() for line in f if self.dir in line]
        if self.lab:
            text = subprocess.run([*self.on_ingest, "ip", "-d", "link"], stdout=subprocess.PIPE, check=True).stdout.decode()
            left += [line.strip() for line in text.splitlines() if re.search("xdp|PROMISC|promiscuity [1-9]", line)]
            with subprocess.Popen([*self.on_ingest, "cat", "/proc/net/igmp"], stdout=subprocess.PIPE) as igmp:
                left += [line.decode().strip() for line in igmp.stdout if re.search(rb"[0-9A-F]{4}01EF ", line)]
        if left:
            raise Broken("left behind: %s" % "; ".join(left))


def line_place(backend, name, bed=None):
    """Backend and interface of a line: loopback, a virtual NIC, or in a lab its veth (C and D share those of A and B)."""
    if backend == "kernel":
        return "kernel", "lo"
    if backend == "user-veth":
        return "dpdk", "user-veth:%s/nic-%s" % (bed.path("veth"), name.lower())
    veth = "md%s1" % "abab"["ABCD".index(name)]
    if backend == "dpdk" or (backend == "mixed" and name != "A"):
        return "dpdk", "net_af_packet0,iface=" + veth
    return "af_xdp", veth


def feed_device(backend, name, bed):
    """What the feeder's --line says of the interface to send on."""
    if backend == "kernel":
        return ""
    if backend == "user-veth":
        return ",dev=user-veth:%s/feed-%s,from=10.77.0.1" % (bed.path("veth"), name.lower())
    return ",dev=md%s0" % "abab"["ABCD".index(name)]


def free_port():
    """The first of ten UDP ports that nobody has."""
    with open("/proc/net/udp", encoding="utf-8") as f:
        taken = set(re.findall(r": [0-9A-F]{8}:([0-9A-F]{4}) ", f.read()))
    port = 10000 + (os.getpid() * 10 + time.monotonic_ns()) % 2000 * 10
    while any("%04X" % (port + i) in taken for i in range(10)):
        port = 10000 + (port + 10) % 20000
    return port
