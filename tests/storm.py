# SPDX-License-Identifier: Apache-2.0
"""Kill and stop the processes of a running bus at random, and prove that nothing is lost but what died with its line.

    storm.py [--kills N] [--seed N] [--backend kernel|af_xdp|dpdk|user-veth|mixed] [--only ingest] [--restart session|seq|none]

A round is a new bus: a feeder sends sessions with loss on every line and another packing on B; two or three ingest
processes, mdbusd and two subscribers run.  Signals at random moments, also into a start or a stop: SIGKILL, or SIGSTOP and
later SIGCONT, to any line, to mdbusd and to one subscriber.  What was killed is started again.  The other subscriber,
mdbus-verify, is never touched and judges against the feeder's log in the end.

What a line may lose.  A packet that nobody had read dies with its line, and so do those sent while there is no process.
After a death the line's progress word in its arena is final, and says exactly up to which number it had read; so the
line counts as down from the sending of the first message it had not read (a line that reorders: of the earliest it may not
have read) until the next process was seen to come round its loop.  A stopped line loses nothing, but the others do not wait
for it beyond the gap timeout: what it reads within that time after it was sent must be there.  So it counts as down from
the first message unread at the stop until the time of its catching up less the gap timeout: mostly never.  It has
caught up when it found its queue empty after it went on.

All backends but kernel are on the veth pairs of a lab; mixed is line A on AF_XDP, line B on DPDK; user-veth is DPDK on virtual
NICs, without a lab and without privilege.
"""
import argparse
import bisect
import json
import os
import random
import signal
import sys
import time

from storm_bed import Arena, Bed, Broken, Log, Ring, feed_device, free_port, line_place, now_ns, wait_until

MS = 1000000
GAP_NS = 1000 * MS
REORDERED = 128  # messages that a reordering line may be behind its newest: packets held back x messages of a packet
GAVE_UP = ": no mdbusd at "  # what a process says that has waited for five seconds
ROUND = 250      # signals of one round
ROOT = os.geteuid() == 0


class Victim:
    """A process that is killed and comes back."""

    def __init__(self, storm, name, start):
        self.storm, self.name, self.start = storm, name, start
        self.process = None
        self.state = "dead"  # dead, up, stopped
        self.due = 0         # dead: when to start it; stopped: when to let it go on
        self.spawned = 0

    def spawn(self):
        self.spawned = now_ns()
        self.process = self.start()
        self.state = "up"

    def kill(self, delay):
        self.process.kill()
        self.process.wait()
        self.state, self.due = "dead", now_ns() + delay

    def halt(self, delay):
        os.kill(self.process.pid, signal.SIGSTOP)
        self.state, self.due = "stopped", now_ns() + delay

    def resume(self):
        os.kill(self.process.pid, signal.SIGCONT)
        self.state = "up"

    def step(self):
        """Do what is due."""
        if self.state != "dead" and self.process.poll() is not None:
            self.ended()
            return
        if self.state == "dead" and now_ns() >= self.due:
            self.spawn()
        elif self.state == "stopped" and now_ns() >= self.due:
            self.resume()

    def ended(self):
        """It has ended though nobody killed it: a fault, unless it had waited in vain for mdbusd."""
        if GAVE_UP not in self.storm.bed.said(self.name).splitlines()[-1]:
            raise Broken("%s ended by itself, status %d: %s" % (self.name, self.process.returncode,
                                                                self.storm.bed.said(self.name)))
        self.kill(0)

    def settled(self):
        return self.state == "up"


class Line(Victim):
    """A line, with the account of what it may have lost."""

    def __init__(self, storm, index, name, start):
        super().__init__(storm, name, start)
        self.index = index
        self.arena = None
        self.unread = None     # (epoch, seq) of the first message that a death or stop may have kept from being read
        self.starting = True   # not seen to receive since its start
        self.went_on = None    # (time of SIGCONT, idle polls then): catching up
        self.downs = []        # ((epoch, seq) of the first one lost, end in ns)

    def note(self):
        """The process cannot run: what it has not read from here on is not certain to be read."""
        gen, pos = self.arena.progress(0)
        if self.unread is None:
            self.unread = self.storm.ring.place(gen, pos) if gen else (1, 0)

    def spawn(self):
        super().spawn()
        self.starting = True

    def kill(self, delay):
        super().kill(delay)
        self.note()
        self.went_on = None

    def halt(self, delay):
        super().halt(delay)
        wait_until("%s to stop" % self.name, 10, self.is_stopped)
        self.note()
        self.went_on = None

    def is_stopped(self):
        with open("/proc/%d/stat" % self.process.pid, encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "T"

    def resume(self):
        super().resume()
        self.went_on = now_ns(), self.arena.count("idle_polls")

    def step(self):
        super().step()
        if self.state != "up":
            return
        # The order matters: first the time, then the word that says it came after.
        now = now_ns()
        if self.starting:
            if self.arena.count("heartbeat_ns") > self.spawned:
                self.starting = False
                self.downs.append((self.unread or (1, 0), now_ns()))
                self.unread = self.went_on = None
        elif self.went_on and self.arena.count("idle_polls") >= self.went_on[1] + 2:
            if now - self.went_on[0] >= 0:
                self.downs.append((self.unread, now_ns() - GAP_NS))
            self.unread = self.went_on = None

    def settled(self):
        return self.state == "up" and not self.starting and not self.went_on


class Storm:
    def __init__(self, bed, seed, options):
        self.bed, self.options = bed, options
        self.rng = random.Random(seed)
        self.seed = seed
        self.nline = 2 if options.backend != "kernel" else self.rng.choice((2, 2, 3))
        self.inline = self.rng.random() < 0.5
        self.reorder = self.rng.random() < 0.5
        self.restart = options.restart or self.rng.choice(("session", "session", "seq", "none"))
        self.counts = {"KILL": {}, "STOP": {}}
        self.ring = None
        self.victims = []

    # ---- the bus ----

    def configure(self):
        port = free_port()
        veth = self.options.backend != "kernel"
        # What is by reference behind an open gap must outlast the gap timeout: half of the frames.
        frames = 4096 if self.inline and not veth else 32768
        names = "ABC"[:self.nline]
        to = ["233.54.12.%d:%d" % (i + 1, 26477 + i) if veth else "127.0.0.1:%d" % (port + i) for i in range(self.nline)]
        lines = ", ".join('{ name = "%s"; backend = "%s"; interface = "%s"; idle_spins = 20; '
                          'frames = %d; frame_size = 2048; %s }' % (
                              name, *line_place(self.options.backend, name, self.bed), frames,
                              "rx_ring = 4096; fill_ring = 8192;" if veth else "fill_ring = 1024;") for name in names)
        self.bed.write("mdbus.conf", """
            buses = ( { name = "%s"; seats = 8; lines = ( %s );
              channels = ( { name = "one"; layout = "moldudp64"; depth = 131072; slot_size = %d; gap_timeout_us = %d;
                reorder_window = 256; flows = { %s }; } ); } );
            """ % (self.bed.bus, lines, 128 if self.inline else 64, GAP_NS // 1000,
                   " ".join('%s = "%s";' % pair for pair in zip(names, to))))
        self.feed = ["mdbus-feed", "--generate", "moldudp64", "--count", "0", "--size", "72", "--pack", "3",
                     "--rate", "9000" if ROOT else "3000", "--seed", str(self.seed), "--log", self.bed.path("feed.log"),
                     "--json", "--linger-ms", "600"]
        if self.restart != "none":
            self.feed += ["--restart", self.restart, "--restart-every", str(self.rng.randrange(15000, 40000))]
        for i, name in enumerate(names):
            spec = "%s,to=%s,loss=%.3f" % (name, to[i], self.rng.choice((0, 0.005, 0.02)))
            spec += feed_device(self.options.backend, name, self.bed)
            if i:
                spec += ",repack=%d,skew-us=%d" % (self.rng.randrange(2, 8), self.rng.randrange(3000))
            if i == 1 and self.reorder:
                spec += ",reorder=1%:8,dup=1%"
            self.feed += ["--line", spec]
        if self.options.backend == "user-veth":
            self.feed += ["--transport", "dpdk"]
        self.names = names

    def launch(self):
        bed = self.bed
        self.daemon = Victim(self, "mdbusd", lambda: bed.start("mdbusd", "mdbusd", "-c", bed.path("mdbus.conf"),
                                                                   prefix=bed.on_ingest))
        self.daemon.process, self.daemon.state = bed.start_daemon(), "up"
        self.lines = [Line(self, i, name, lambda name=name: bed.start(name, "mdbus-ingest", "%s/%s" % (bed.bus, name),
                                                                    prefix=bed.on_ingest))
                      for i, name in enumerate(self.names)]
        self.start_lines()
        self.start_judge()
        self.reader = Victim(self, "reader", self.start_reader)
        self.reader.spawn()
        self.victims = [self.daemon, self.reader] + self.lines
        self.start_feeder()

    def start_lines(self):
        self.ring = self.bed.segment(Ring, "ring.0")
        for line in self.lines:
            line.arena = self.bed.segment(Arena, "arena.%d" % line.index)
            line.spawn()
        self.pump("the lines", lambda: all(line.settled() for line in self.lines))
        for line in self.lines:
            line.downs = []

    def start_judge(self, *options):
        bed = self.bed
        self.judge = bed.start("judge", "mdbus-verify", bed.bus, "--log", bed.path("feed.log"), "--downs",
                               bed.path("downs"), "--json", *options, out=open(bed.path("verdict"), "wb"))
        wait_until("the judge", 30, lambda: "attached" in bed.said("judge"))

    def start_feeder(self):
        self.feeder = self.bed.start("feeder", *self.feed, prefix=self.bed.on_feed)
        wait_until("the feed", 30, lambda: self.lines[0].arena.count("packets") > 100)

    def start_reader(self):
        command = self.rng.choice((("mdbus-tail", self.bed.bus, "--json"), ("mdbus-tail", self.bed.bus, "--from", "oldest"),
                                   ("mdbus-latency", self.bed.bus, "--sleep")))
        with open(os.devnull, "wb") as null:
            return self.bed.start("reader", *command, out=null)

    # ---- the storm ----

    def pump(self, what, test):
        end = time.monotonic() + 60
        while not test():
            for v in self.victims or self.lines:
                v.step()
            if time.monotonic() > end:
                raise Broken("waited in vain for %s" % what)
            time.sleep(0.001)

    def choose(self):
        weights = [2, 2] + [4] * self.nline
        v = self.rng.choice(self.lines) if self.options.only else self.rng.choices(self.victims, weights)[0]
        if self.options.only and not all(o.settled() for o in self.lines) and self.rng.random() < 0.9:
            return None  # or the one that is just starting would die over and over
        # Mostly let one line live; sometimes none.
        if v in self.lines and self.rng.random() < 0.98 and not any(o.settled() for o in self.lines if o is not v):
            return None
        return v if v.state == "up" else None

    def strike(self, v):
        rng = self.rng
        if self.options.only or rng.random() < 0.7:
            v.kill(rng.choice((0, 0, rng.randrange(30 * MS), rng.randrange(300 * MS))))
            self.tally("KILL", v)
        else:
            longest = 1600 if ROOT and self.options.backend == "kernel" else 60
            v.halt(longest * MS if rng.random() < 0.06 else rng.randrange(1, 60) * MS)
            self.tally("STOP", v)
            if rng.random() < 0.15:
                v.kill(rng.randrange(50 * MS))
                self.tally("KILL", v)

    def tally(self, what, v):
        self.counts[what][v.name] = self.counts[what].get(v.name, 0) + 1

    def signals(self):
        return sum(n for kind in self.counts.values() for n in kind.values())

    def rage(self, signals):
        at = now_ns()
        while self.signals() < signals:
            for v in self.victims:
                v.step()
            if self.feeder.poll() is not None or self.judge.poll() is not None:
                raise Broken("the feeder or the judge ended: %s%s" % (self.bed.said("feeder"), self.bed.said("judge")))
            if now_ns() >= at:
                v = self.choose()
                if v:
                    self.strike(v)
                at = now_ns() + int(self.rng.expovariate(1 / 40) * MS)
            time.sleep(0.001)
        self.pump("everything to be up again", lambda: all(v.settled() for v in self.victims))

    # ---- the judgement ----

    def conclude(self):
        bed = self.bed
        wait_until("mdbusd", 30, lambda: bed.ctl("status"))
        self.feeder.send_signal(signal.SIGTERM)
        if self.feeder.wait(60) != 0:
            raise Broken("the feeder failed: " + bed.said("feeder"))
        wait_until("the last hole to be declared a gap", 30, self.all_decided)
        self.end = self.where()
        self.write_downs()
        self.conserve()
        self.judge.send_signal(signal.SIGTERM)
        self.judge.wait(60)
        with open(bed.path("verdict"), encoding="utf-8") as f:
            text = f.read()
        if not text:
            raise Broken("no verdict: " + bed.said("judge"))
        self.verdict = json.loads(text)
        self.check_leases()
        self.reader.kill(0)
        for line in self.lines:
            line.kill(0)
        for s in [self.ring] + [line.arena for line in self.lines]:
            s.close()
        bed.nothing_left(self.daemon.process)
        if not self.verdict["pass"] or self.verdict["overruns"]:
            raise Broken("verdict: %s\nat the end: %s" % (text, self.end))

    def all_decided(self):
        """Nothing more comes, and every line has found a record at each position."""
        arenas = [line.arena for line in self.lines]
        end = max(arena.progress(0)[1] for arena in arenas)
        return (all(now_ns() - arena.count("last_arrival_ns") > 300 * MS for arena in arenas) and
                all(arena.head(0) >= end for arena in arenas))

    def where(self):
        """Generations, and how far each line is and sees the head, for messages."""
        out, gen = "", 1
        while self.ring.generation(gen):
            out += "gen %d: base %d first %d %s; " % ((gen,) + self.ring.generation(gen)[:2] +
                                                       ("jumped" if self.ring.generation(gen)[2] else "",))
            gen += 1
        return out + ", ".join("%s: gen %d pos %d head %d" % ((line.name,) + line.arena.progress(0) + (line.arena.head(0),))
                               for line in self.lines)

    def conserve(self):
        """Each line dies once more: its successor must find exactly the frames that the ring refers to in use."""
        for line in self.lines:
            line.kill(0)
        self.frames = [len(self.ring.frames_of(line.index, line.arena)) for line in self.lines]
        self.pump("the lines", lambda: all(line.settled() for line in self.lines))
        for line, held in zip(self.lines, self.frames):
            found = line.arena.count("frames_recovered")
            if found != held:
                raise Broken("line %s: %d frames in use by the ring, %d found" % (line.name, held, found))
        for row in self.bed.ctl("lines", "--all")["lines"]:
            counters = row["counters"]
            if counters["frames_free"] + counters["frames_held"] != row["frames"]:
                raise Broken("line %s: %d free + %d held are not %d frames" % (row["line"], counters["frames_free"],
                                                                               counters["frames_held"], row["frames"]))

    def check_leases(self):
        """Nobody holds anything but those who live."""
        living = {line.process.pid for line in self.lines} | {self.reader.process.pid}
        held = {lease["pid"] for lease in self.bed.ctl("leases")["leases"]}
        if held != living:
            raise Broken("leases of %s, living are %s" % (sorted(held), sorted(living)))

    def write_downs(self):
        """Down intervals by the time of sending: of the first message that was not read, and whatever came after it."""
        records = Log(self.bed.path("feed.log")).records
        places = [r[:2] for r in records]
        earliest, t = [0] * len(records), 1 << 63
        for i in range(len(records) - 1, -1, -1):
            t = min(t, records[i][3])
            earliest[i] = t
        self.down_ns = 0
        with open(self.bed.path("downs"), "w", encoding="utf-8") as f:
            for line in self.lines:
                slack = REORDERED if line.index == 1 and self.reorder else 0
                for (epoch, seq), end in line.downs:
                    i = max(bisect.bisect_left(places, (epoch, seq)) - slack, 0)
                    if i < len(records) and earliest[i] <= end:
                        f.write("%s:%d:%d\n" % (line.name, earliest[i], end))
                        self.down_ns += end - earliest[i]

    def report(self):
        v = self.verdict
        said = ["%s %s" % (what, " ".join("%s:%d" % pair for pair in sorted(by.items())))
                for what, by in self.counts.items()]
        return ("seed %d: %d lines, %s, restarts %s%s: %s; sent %d, delivered %d, lost on all lines %d, with a dead line %d, "
                "%d resets; lines down for %d ms; frames in use %s" % (
                    self.seed, self.nline, "inline" if self.inline else "by reference", self.restart,
                    ", reordering" if self.reorder else "", ", ".join(said), v["sent"], v["matched"],
                    v["gaps_lost_on_all_lines"] + v["edge_lost_on_all_lines"],
                    v["gaps_on_down_line"] + v["edge_on_down_line"], v["resets"], self.down_ns // MS,
                    "/".join(map(str, self.frames))))


def one_round(seed, signals, options):
    with Bed("storm") as bed:
        bed.wire_up(options.backend)
        storm = Storm(bed, seed, options)
        storm.configure()
        try:
            storm.launch()
            storm.rage(signals)
            storm.conclude()
        except Exception as e:
            said = "".join("\n---- %s\n%s" % (name, bed.said(name)) for name in ("mdbusd", "A", "B", "C", "judge", "reader"))
            keep = os.environ.get("STORM_KEEP")
            if keep:
                os.system("cp -r %s %s" % (bed.dir, keep))
            raise Broken("seed %d, %s: %s%s" % (seed, storm.counts, e, said)) from e
        print(storm.report(), flush=True)
        return storm


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=10000, help="signals to send, KILL and STOP")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--backend", choices=("kernel", "af_xdp", "dpdk", "user-veth", "mixed"), default="kernel")
    parser.add_argument("--only", choices=("ingest",), help="only SIGKILLs, of ingest processes")
    parser.add_argument("--restart", choices=("session", "seq", "none"), help="of the feed's numbers; chosen by the seed")
    options = parser.parse_args()
    done, total, seed = 0, {}, options.seed
    try:
        while done < options.kills:
            storm = one_round(seed, min(ROUND, options.kills - done), options)
            done += storm.signals()
            seed += 1
            for key in ("sent", "matched", "torn", "duplicates", "out_of_order", "lost_though_carried",
                        "gaps_lost_on_all_lines", "gaps_on_down_line"):
                total[key] = total.get(key, 0) + storm.verdict[key]
    except Broken as e:
        print("FAIL: %s" % e)
        return 1
    print("count: %d signals; %s; nothing leaked" % (done, ", ".join("%d %s" % (n, key.replace("_", " "))
                                                           for key, n in total.items())))
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(143))
    sys.exit(main())
