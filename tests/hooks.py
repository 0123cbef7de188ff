# SPDX-License-Identifier: Apache-2.0
"""Kill each process of a bus at each of its hooks, start it again, and prove that nothing is lost but what died with its line.

    hooks.py [--seed N] [--only BED]

A hook is a named point beside a store to shared memory or a step that takes or gives back a resource: MDBUS_HOOK in the
source.  The programs in BUILD/hooks/bin kill themselves at the one that MDBUS_HOOK_AT names (hook_kill.c), and write down
all that they pass.  A bed is a bus of a certain kind that lives on while one process after the other is told the next hook
that a process like it has passed, dies there, and is started again with another one; at the end the feeder's log, the
rings and mdbusd are held against each other as in storm.py, which says what a line may lose.  In the bed `life` mdbusd dies
at each step of making and removing a bus; each time the next one must find its way and leave nothing.

Two beds run at a time.  The last line counts the hooks of the source that somebody was killed at.  Any that nobody passes
is a failure, or named with the reason why it cannot be passed on this machine.
"""
import argparse
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import storm
from hooks_life import MANY_PAGES, PATIENCE, Plan, bed_of_life, huge_pages_free, own_address
from storm import MS, Line, Storm, Victim
from storm_bed import BIN, TOP, Arena, Bed, Broken, line_place, now_ns, wait_until

TAKING_BACK = ("hand.floor.", "line.taken.back")
ENDING = ("line.closed", "detach.", "sub.close", "kernel.stopped", "xdp.close.")  # passed at an end in good order


def hooks_of_source():
    names = set()
    for folder in ("include/mdbus", "bus", "ingest", "mgmt", "subscribers"):
        for path in glob.glob(os.path.join(TOP, folder, "*.[ch]")):
            with open(path, encoding="utf-8") as f:
                text = re.sub(r"#if(def| defined\()\s*MDBUS_MUTANT_.*?\n#(el|endif)", "", f.read(), flags=re.S)
            names.update(re.findall(r'MDBUS_HOOK\("([a-z.]+)"\)', text))
    return names


class Hooked:
    """What is added to a victim of the storm: it dies at the hook it is told."""
    plan = hook = None
    order = None      # what the next life is to do, whatever the plan
    free_run = True   # the next life is one to list hooks in
    ending = 0        # when it was told to end in good order

    def spawn(self):
        self.hook, self.ending, order = None, 0, self.order
        self.order = None
        if order:
            self.hook = order.rsplit("@", 1)[1].split(":")[0]
            self.plan.tries[self.hook] = len(PATIENCE)
        elif not self.free_run:
            self.hook, at = self.plan.choose()
            order = self.hook and "kill@%s:%d" % (self.hook, at)
        environment = self.storm.bed.environment
        environment["MDBUS_HOOK_LIST"] = self.plan.file
        if order:
            environment["MDBUS_HOOK_AT"] = order
        super().spawn()
        for name in ("MDBUS_HOOK_LIST", "MDBUS_HOOK_AT"):
            environment.pop(name, None)

    def end(self):
        self.ending = now_ns()
        self.process.send_signal(signal.SIGTERM)

    def ended(self):
        if self.process.returncode == -signal.SIGKILL and self.hook:
            if os.environ.get("HOOKS_SHOW"):
                print("%.3f %s %s after %d ms" % (time.monotonic(), self.name, self.hook, (now_ns() - self.spawned) // MS))
            self.plan.settle(self.hook, True)
            self.hook = None
            self.storm.kills += 1
            self.kill(self.storm.rng.choice((0, 0, self.storm.rng.randrange(50 * MS))))
        elif self.ending and self.process.returncode in (0, -signal.SIGTERM):  # told so before it could take it
            self.give_up()
        else:
            super().ended()

    def step(self):
        super().step()
        if self.state != "up" or not self.hook:
            return
        lived, tries = now_ns() - self.spawned, self.plan.tries[self.hook]
        if not self.ending and self.hook.startswith(ENDING) and self.settled() and lived > 200 * tries * tries * MS:
            self.end()
        elif lived > PATIENCE[tries - 1]:
            self.give_up()

    def give_up(self):
        if self.hook:
            self.plan.settle(self.hook, False)
        self.hook = None
        self.kill(0)

    def finished(self):
        return not self.hook and not self.plan.missing()


class HookVictim(Hooked, Victim):
    pass


class HookLine(Hooked, Line):
    pass


class Elsewhere(Exception):
    """The flow that is to be handed over belongs to the share of the line that receives it: its socket's port decides."""


class HookStorm(Storm):
    """A bus on which processes die at hooks.  shape: what is special about it."""

    def __init__(self, bed, seed, shape):
        options = argparse.Namespace(backend=shape.get("backend", "kernel"), restart=shape.get("restart", "session"))
        super().__init__(bed, seed, options)
        self.shape, self.kills = shape, 0
        self.nline = len(shape["lines"])
        self.reorder = False
        self.plans = {}

    def plan(self, role):
        if role not in self.plans:
            self.plans[role] = Plan(self.bed, role, self.rng, self.shape.get("only", ""))
        return self.plans[role]

    def configure(self):
        shape, bed, at = self.shape, self.bed, own_address()
        self.names = shape["lines"]
        to = ["%s:%d" % ("233.54.12.%d" % (i + 1) if bed.lab else at, 20001 + i) for i in range(self.nline)]
        flows = " ".join('%s = "%s";' % pair for pair in zip(self.names, to))
        lines = ['{ name = "%s"; backend = "%s"; interface = "%s"; idle_spins = 20; frames = %d; frame_size = 2048; '
                 'fill_ring = 1024; %s }' % (name, *line_place(self.options.backend, name), shape["frames"],
                                             shape.get("line", "")) for name in self.names]
        if shape.get("recover"):
            lines.append('{ name = "R"; backend = "recover"; servers = ("%s:20009"); request_rate = 2000; '
                         'request_max = 64; retry_ms = 10; frames = 1024; }' % at)
            flows += " R = true;"
        if shape.get("handed"):
            lines.append('{ name = "H"; backend = "handed"; from = "A"; idle_spins = 20; frames = 1024; }')
        bed.write("mdbus.conf", """
            buses = ( { name = "%s"; seats = 8; lines = ( %s );
              channels = ( { name = "one"; %s gap_timeout_us = %d; flows = { %s }; } ); } );
            """ % (bed.bus, ", ".join(lines), shape["channel"], storm.GAP_NS // 1000, flows))
        self.feed = ["mdbus-feed", *shape["feed"], "--count", "0", "--seed", str(self.seed), "--json", "--linger-ms", "600",
                     "--log", bed.path("feed.log")]
        for i, name in enumerate(self.names):
            self.feed += ["--line", "%s,to=%s%s%s" % (name, to[i], shape["lines"][name],
                                                      ",dev=md%s0" % name.lower() if bed.lab else "")]
        if shape.get("recover"):
            self.feed += ["--serve", at + ":20009,truncate=2,loss=30%,delay-us=300"]

    def make(self, kind, role, *rest):
        """A victim; of a role that is not to die: one that is only watched."""
        v = kind(self, *rest)
        v.plan = self.plan(role)
        v.dies = role in self.shape["roles"]
        v.free_run = True
        return v

    def start_line(self, name, program):
        return self.bed.start(name, program, "%s/%s" % (self.bed.bus, name), prefix=self.bed.on_ingest)

    def launch(self):
        bed = self.bed
        self.daemon = self.make(HookVictim, "mdbusd", "mdbusd",
                                lambda: bed.start("mdbusd", "mdbusd", "-c", bed.path("mdbus.conf"), prefix=bed.on_ingest))
        self.daemon.spawn()
        wait_until("mdbusd: " + bed.said("mdbusd"), 60, lambda: bed.ctl("status"))
        self.lines = [self.make(HookLine, "safe" if name in self.shape.get("safe", "") else "line", i, name,
                                lambda name=name: self.start_line(name, "mdbus-ingest"))
                      for i, name in enumerate(self.names)]
        self.others = []
        if self.shape.get("recover"):
            self.others.append(self.make(HookVictim, "recover", "R", lambda: self.start_line("R", "mdbus-recover")))
        if self.shape.get("handed"):
            self.others.append(self.make(HookVictim, "taker", "H", lambda: self.start_line("H", "mdbus-ingest")))
        self.start_lines()
        if self.shape.get("handed"):
            self.count_as_one(self.lines[0], bed.segment(Arena, "arena.%d" % self.nline))
        self.start_judge(*self.shape.get("judge", ()))
        self.reader = self.make(HookVictim, "subscriber", "reader", self.start_reader)
        for v in [self.reader] + self.others:
            v.spawn()
        self.victims = [self.daemon, self.reader] + self.others + self.lines
        self.start_feeder()
        if self.shape.get("handed") and self.lines[0].arena.count("handed") + \
                self.lines[0].arena.count("handed_down") == 0:
            raise Elsewhere()

    @staticmethod
    def count_as_one(line, taker):
        """What another process has read of the packets that a line has received was read on that line."""
        own = line.arena.progress
        line.arena.progress = lambda channel: max(own(channel), taker.progress(channel))

    # ---- dying ----

    def alive(self):
        for p, what in ((self.feeder, "feeder"), (self.judge, "judge")):
            if p.poll() is not None:
                raise Broken("the %s ended: %s" % (what, self.bed.said(what)))

    def turn(self):
        for v in self.victims:
            v.step()
        self.alive()
        time.sleep(0.001)

    def look_on(self, ms):
        end = now_ns() + ms * MS
        while now_ns() < end:
            self.turn()

    def provoke(self):
        """What makes an armed mdbusd pass its hook: leases end and begin; or no line is left, and an open hole."""
        hook = self.daemon.hook
        if hook.startswith(("mark.", "gen.")):
            for v in self.others + self.lines[::-1]:
                v.give_up()
                v.due = now_ns() + 1800 * MS
                self.look_on(100)
            self.look_on(1500)
        elif hook.startswith("reclaim.unmark"):
            line = self.lines[0]
            if line.settled() and not line.order:
                line.order = "kill@inline.half:5"
                line.give_up()
            self.look_on(50)
        else:
            for v in self.others + [self.reader] + self.lines[-1:]:
                if v.state == "up" and not v.hook:
                    v.give_up()
            self.look_on(50)

    def provoke_giver(self):
        """What makes a line take back packets that it has handed over: whoever has them is stopped for longer than it waits."""
        taker = self.others[-1]
        if taker.state == "up" and not taker.hook:
            taker.halt(600 * MS)

    def rage(self):
        dying = [v for v in self.victims if v.dies]
        self.look_on(self.shape.get("look_ms", 500))
        for v in self.victims:  # once each in good order, for what is passed at an end
            if v is not self.daemon and v.plan.role != "safe":
                v.end()
                self.pump(v.name, v.settled)
        self.look_on(500)
        if self.shape.get("handed"):
            self.provoke_giver()
            self.look_on(1000)
        for n in range(self.shape.get("lap", 0) and 3):
            self.lap()
        if self.shape.get("come_and_go"):
            self.come_and_go()
        for v in dying:
            v.free_run = False
            v.give_up()
        while not all(v.finished() for v in dying):
            self.turn()
            if self.daemon.dies and self.daemon.state == "up" and self.daemon.hook and \
                    now_ns() - self.daemon.spawned > 400 * MS:
                self.provoke()
            if (self.lines[0].hook or "").startswith(TAKING_BACK) and self.lines[0].settled():
                self.provoke_giver()
            for v in dying:
                if v.state == "up" and not v.hook and v.plan.missing() - v.plan.armed:
                    v.give_up()
        for v in dying:
            v.free_run = True
            v.give_up()
        self.pump("everything to be up again", lambda: all(v.settled() for v in self.victims))
        wait_until("mdbusd", 30, lambda: self.bed.ctl("status"))

    def come_and_go(self):
        """A process enters a session in its midst and dies before it publishes any of it; the next one finds another session."""
        line, kills = self.lines[0], self.kills
        line.order = "kill@move.after:1"
        line.kill(700 * MS)
        self.pump("the line to come and go", lambda: self.kills > kills and line.state == "dead")
        line.due = now_ns() + 700 * MS
        self.pump("the line", line.settled)

    def lap(self):
        a, b = self.lines
        a.order = "stop@inline.before:99,kill@untaint:1"
        a.give_up()
        self.pump("A to stop", lambda: a.state == "up" and not a.order and a.is_stopped())
        a.state, a.due = "stopped", 1 << 63
        a.note()
        start = b.arena.progress(0)[1]
        self.pump("B to lap it", lambda: b.arena.progress(0)[1] > start + 2 * self.shape["lap"])
        a.resume()
        self.pump("A to see it", lambda: not a.hook)

    def check_leases(self):
        living = {v.process.pid for v in self.lines + self.others + [self.reader]}
        held = {lease["pid"] for lease in self.bed.ctl("leases")["leases"]}
        if held != living:
            raise Broken("leases of %s, living are %s" % (sorted(held), sorted(living)))
        for v in self.others:
            v.kill(0)

    def conserve(self):
        super().conserve()
        if self.shape["channel"].find("arrival") < 0 and not all(line.arena.count("packets") for line in self.lines):
            raise Broken("a line has received nothing")


BEDS = {
    # two lines and a recovery line, short messages, sessions that change; everybody dies
    "inline": {
        "lines": {"A": ",loss=0.03", "B": ",loss=0.03,repack=4,skew-us=1500"}, "frames": 4096, "recover": True,
        "channel": 'layout = "moldudp64"; depth = 131072; slot_size = 128; reorder_window = 256;',
        "feed": ["--generate", "moldudp64", "--size", "72", "--pack", "3", "--rate", "6000", "--restart", "session",
                 "--restart-every", "3000"],
        "roles": ("line", "recover", "subscriber", "mdbusd"),
    },
    # messages stay in their frames, which are few.  Sessions change, not numbers alone: where both lines die around a restart
    # under one name, a message of before it may still get a number of after it (see the README's limits)
    "reference": {
        "lines": {"A": ",loss=0.02", "B": ",loss=0.02,repack=4,skew-us=1500"}, "frames": 8192,
        "channel": 'layout = "moldudp64"; depth = 131072; slot_size = 64; reorder_window = 256;',
        "feed": ["--generate", "moldudp64", "--size", "300", "--pack", "1", "--rate", "6000", "--restart", "session",
                 "--restart-every", "3000"],
        "roles": ("line",),
    },
    # the ring of one line alone
    "single": {
        "lines": {"A": ",loss=0.01"}, "frames": 4096,
        "channel": 'layout = "moldudp64"; depth = 131072; slot_size = 128;',
        "feed": ["--generate", "moldudp64", "--size", "72", "--pack", "3", "--rate", "6000", "--restart", "session",
                 "--restart-every", "3000"],
        "roles": ("line",), "come_and_go": True,
    },
    # no order; line B lives, so that whatever A has left half done must come from there
    "keyed": {
        "lines": {"A": "", "B": ",skew-us=1500"}, "frames": 4096, "safe": "B", "restart": "none",
        "channel": 'layout = "optiq_key"; ordered = false; depth = 131072; slot_size = 128; key_window = 32768; '
                   'key_age_ms = 3000;',
        "feed": ["--generate", "optiq", "--size", "36", "--rate", "4000"],
        "judge": ["--unordered", "one"],
        "roles": ("line",),
    },
    # what a process of AF_XDP takes, and what it tells its program in the kernel
    "xdp": {
        "lines": {"A": ",loss=0.02", "B": ",loss=0.02,repack=4,skew-us=1500"}, "frames": 16384, "backend": "af_xdp",
        "line": "rx_ring = 1024;",
        "channel": 'layout = "moldudp64"; depth = 131072; slot_size = 128; reorder_window = 256; early_drop = true;',
        "feed": ["--generate", "moldudp64", "--size", "72", "--pack", "3", "--rate", "9000", "--restart", "session",
                 "--restart-every", "12000"],
        "roles": ("line",), "only": ("xdp.", "early."), "look_ms": 2500,
    },
    # A's packets are handed over to H.  What H has of them when it dies is not lost; nor what A has handed over when A does
    "handed": {
        "lines": {"A": ",loss=0.02", "B": ",loss=0.02,repack=4,skew-us=1500"}, "frames": 4096, "safe": "B", "handed": True,
        "channel": 'layout = "moldudp64"; depth = 131072; slot_size = 128; reorder_window = 256;',
        "feed": ["--generate", "moldudp64", "--size", "72", "--pack", "3", "--rate", "6000", "--restart", "session",
                 "--restart-every", "12000"],
        "roles": ("line", "taker"), "only": ("hand.", "line.taken.back"),
    },
    # A is stopped while it writes into a slot, and lapped: it must take back the mark that its successor has put there
    "lapped": {
        "lines": {"A": "", "B": ",skew-us=1500"}, "frames": 4096, "restart": "none", "lap": 8192,
        "channel": 'layout = "moldudp64"; depth = 8192; slot_size = 128;',
        "feed": ["--generate", "moldudp64", "--size", "72", "--pack", "3", "--rate", "9000"],
        "judge": ["--allow-overruns"],
        "roles": (),
    },
}

def bed_of_shape(name, seed):
    """The same, until its flow is one that is handed over where there is another process for it."""
    for _ in range(20):
        try:
            return try_bed(name, seed)
        except Elsewhere:
            continue
    raise Broken("bed %s: no flow is handed over" % name)


def try_bed(name, seed):
    """One bed: {role: hooks killed at}, number of kills, what is to be said."""
    with Bed("h" + name[:2]) as bed:
        if "backend" in BEDS[name]:
            bed.lab_up()
        s = HookStorm(bed, seed, BEDS[name])
        s.configure()
        try:
            s.launch()
            s.rage()
            s.conclude()
        except Elsewhere:
            raise
        except Exception as e:
            said = "".join("\n---- %s\n%s" % (n, bed.said(n)) for n in ("mdbusd", "A", "B", "R", "H", "judge", "reader"))
            raise Broken("bed %s, seed %d: %s; armed %s; killed at %s%s" % (
                name, seed, e, {v.name: v.hook for v in s.victims}, {r: sorted(p.killed) for r, p in s.plans.items()},
                said)) from e
        v = s.verdict
        killed = {role: p.killed for role, p in s.plans.items()}
        left = {role: sorted(p.tries.keys() - p.killed) for role, p in s.plans.items()}
        return killed, s.kills, "%s; %d messages sent, %d delivered, %d lost with a dead line%s" % (
            ", ".join("%s at %d" % (role, len(k)) for role, k in killed.items() if k), v["sent"], v["matched"],
            v["gaps_on_down_line"] + v["edge_on_down_line"],
            "".join("; %s not again at %s" % (role, ", ".join(h)) for role, h in left.items() if h))


# ---- all of it ----------------------------------------------------------------------------------------------------

def no_xdp():
    """Why there can be no bed with AF_XDP, or None."""
    if not storm.ROOT:
        return "needs root"
    if not os.path.exists(os.path.join(os.path.dirname(BIN), "ingest/backend_xdp.o")):
        return "built without AF_XDP"
    missing = [c for c in ("ip", "ethtool", "nsenter") if not shutil.which(c)]
    return "needs " + missing[0] if missing else None


def out_of_reach():
    """{hook: why nobody passes it here}."""
    reasons = dict.fromkeys(("rule.making", "rule.made", "rule.deleted"), "no card here takes rules (unit_rules plays one)")
    if not storm.ROOT:
        reasons.update(dict.fromkeys(("huge.mounted", "huge.noted", "huge.raised", "segment.publish.link",
                                      "segment.remove.file"), "needs root"))
    elif huge_pages_free() + 16 > MANY_PAGES:
        reasons.update(dict.fromkeys(("huge.noted", "huge.raised"), "more huge pages are free than a test may use up"))
    if no_xdp():
        reasons.update((hook, no_xdp()) for hook in hooks_of_source() if hook.startswith(("xdp.", "early.")))
    return reasons


def one_bed(name, seed):
    killed, kills, said = bed_of_life(seed) if name == "life" else bed_of_shape(name, seed)
    print("%s: %d kills: %s" % (name, kills, said))
    print(json.dumps({"kills": kills, "hooks": sorted(set().union(*killed.values()))}), flush=True)


def all_beds(seed):
    without = no_xdp()
    waiting = ["keyed", "inline", "handed", "reference", "life", "single", "lapped"] + (["xdp"] if not without else [])
    running, hooks, kills = [], set(), 0
    try:
        while waiting or running:
            while waiting and len(running) < 2:
                running.append(subprocess.Popen([sys.executable, "-B", __file__, "--seed", str(seed), "--only", waiting.pop(0)],
                                                stdout=subprocess.PIPE, text=True))
            for p in [p for p in running if p.poll() is not None]:
                running.remove(p)
                *said, last = p.stdout.read().rstrip().split("\n")
                print("\n".join(said + ([] if p.returncode == 0 else [last])), flush=True)
                if p.returncode != 0:
                    return 1
                result = json.loads(last)
                hooks |= set(result["hooks"])
                kills += result["kills"]
            time.sleep(0.05)
    finally:
        for p in running:
            p.terminate()
        for p in running:
            p.wait()
    named = hooks_of_source()
    reasons = {h: why for h, why in out_of_reach().items() if h in named - hooks}
    missed = sorted(named - hooks - reasons.keys())
    for hook, why in sorted(reasons.items()):
        print("not passed here: %s: %s" % (hook, why))
    print("count: %d hooks of %d, %d kills" % (len(hooks & named), len(named), kills))
    if missed:
        print("FAIL: nobody was killed at %s" % ", ".join(missed))
    return 1 if missed else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", choices=sorted(BEDS) + ["life"])
    options = parser.parse_args()
    if not options.only:
        return all_beds(options.seed)
    try:
        one_bed(options.only, options.seed)
    except Broken as e:
        print("FAIL: %s" % e)
        return 1
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(143))
    sys.exit(main())
