# SPDX-License-Identifier: Apache-2.0
"""Deaths at hooks: the plan of which are to come, and those of an mdbusd that makes and removes a bus.  See hooks.py."""
import os
import random
import re
import signal

from storm_bed import Bed, Broken, wait_until

MS = 1000000
PATIENCE = (500 * MS, 2000 * MS, 4000 * MS, 9000 * MS)  # for a process to pass a hook that one like it has passed, at each try
# Of mdbusd: passed when a bus is made or removed.
LIFE = ("segment.", "bus.", "run.close.", "huge.noted", "huge.raised", "huge.unmounted", "huge.lowered", "daemon.ends")
MANY_PAGES = 512  # huge pages that a test may ask for


def own_address():
    """A loopback address of this process alone, so that nobody else sends to its ports."""
    return "127.%d.%d.%d" % (77 + (os.getpid() >> 16), os.getpid() >> 8 & 255, os.getpid() & 255)


class Plan:
    """Which hooks the processes of one role have passed, and at which they were killed."""

    def __init__(self, bed, role, rng, only=""):
        self.file = bed.path("hooks." + role)
        self.role, self.rng, self.only = role, rng, only
        self.tries, self.armed, self.killed = {}, set(), set()

    def known(self):
        try:
            with open(self.file, encoding="ascii") as f:
                return set(f.read().split())
        except OSError:
            return set()

    def missing(self):
        return {h for h in self.known() - self.killed if self.tries.get(h, 0) < self.tries_for(h) and
                h.startswith(self.only)}

    def tries_for(self, hook):
        """mdbusd makes a bus in the bed of its life; and generations end while no line lives only by chance."""
        if self.role == "mdbusd" and hook.startswith(LIFE + ("gen.",)):
            return 0 if hook.startswith(LIFE) else 2
        return len(PATIENCE)

    def choose(self):
        """The next hook to die at, and at its how many-th passing."""
        free = sorted(self.missing() - self.armed)
        if not free:
            return None, 0
        hook = self.rng.choice(free)
        self.armed.add(hook)
        self.tries[hook] = self.tries.get(hook, 0) + 1
        return hook, self.rng.choice((1, 2, 9)) if self.tries[hook] == 1 else 1

    def settle(self, hook, dead):
        self.armed.discard(hook)
        if dead:
            self.killed.add(hook)


def huge_pages_free():
    with open("/proc/meminfo", encoding="ascii") as f:
        numbers = re.findall(r"HugePages_(?:Free|Rsvd): *([0-9]+)", f.read())
    return int(numbers[0]) - int(numbers[1]) if len(numbers) == 2 else 0


class Life:
    """A bus is made, serves a line, and is removed; mdbusd dies at one step of that."""

    def __init__(self, bed, rng):
        self.bed, self.rng, self.kills = bed, rng, 0
        self.plans = {role: Plan(bed, role, rng) for role in ("life", "purge")}
        bed.write("mdbus.conf", """
            buses = ( { name = "%s"; seats = 2; lines = ( { name = "A"; backend = "kernel"; interface = "lo"; frames = %d;
              frame_size = 2048; fill_ring = 512; } ); channels = (
              { name = "one"; layout = "moldudp64"; depth = 32768; slot_size = 128; flows = { A = "%s:20001"; }; },
              { name = "two"; layout = "optiq_key"; ordered = false; flows = { A = "%s:20002"; }; } ); } );
            """ % (bed.bus, self.many_frames(), own_address(), own_address()))

    @staticmethod
    def many_frames():
        """So many that more huge pages are needed than are free now; within reason."""
        pages = huge_pages_free()
        frames = 1024
        while frames < min(pages + 16, MANY_PAGES) * 1024:
            frames *= 2
        return frames

    def start(self, role=None, hook=None, at=1):
        """An mdbusd that is ready or dead; or mdbusd --purge, ended."""
        bed = self.bed
        try:
            os.unlink(bed.path("mdbusd.log"))
        except OSError:
            pass
        if role:
            bed.environment["MDBUS_HOOK_LIST"] = self.plans[role].file
        if hook:
            bed.environment["MDBUS_HOOK_AT"] = "kill@%s:%d" % (hook, at)
        command = ("--purge",) if role == "purge" else ("-c", bed.path("mdbus.conf"))
        daemon = bed.start("mdbusd", "mdbusd", *command)
        for name in ("MDBUS_HOOK_LIST", "MDBUS_HOOK_AT"):
            bed.environment.pop(name, None)
        wait_until("mdbusd", 60, lambda: daemon.poll() is not None or "mdbusd: ready" in bed.said("mdbusd"))
        return daemon

    def serve(self, daemon):
        """A line comes and goes; then mdbusd is told to end.  Its status."""
        line = self.bed.start("A", "mdbus-ingest", self.bed.bus + "/A")
        wait_until("the line: " + self.bed.said("A"), 30, lambda: "recovered, core" in self.bed.said("A") or
                   daemon.poll() is not None)
        if daemon.poll() is None:
            line.terminate()
        else:
            line.kill()
        line.wait(30)
        os.unlink(self.bed.path("A.log"))
        if daemon.poll() is None:
            daemon.terminate()
        return daemon.wait(60)

    def die(self, daemon):
        daemon.kill()
        daemon.wait()

    def leave_litter(self):
        """A bus without an mdbusd, and in it a file that a killed one had not finished."""
        self.die(self.start())
        path = os.path.realpath(os.path.join(self.bed.run, "bus." + self.bed.bus))
        with open(os.path.join(path, ".tmp.seat.9.1"), "w", encoding="ascii"):
            pass

    def live(self, hook=None, at=1):
        if hook in (None, "segment.swept"):
            self.leave_litter()
        daemon = self.start("life", hook, at)
        return daemon.returncode if daemon.returncode is not None else self.serve(daemon)

    def purge(self, hook=None, at=1):
        self.leave_litter()
        return self.start("purge", hook, at).wait(60)

    def nothing_left(self, what):
        left = [self.bed.run] if os.path.exists(self.bed.run) else []
        with open("/proc/mounts", encoding="utf-8") as f:
            left += [line.strip() for line in f if self.bed.dir in line]
        if left:
            raise Broken("%s: left behind: %s" % (what, "; ".join(left)))

    def good(self, what, status):
        if status != 0:
            raise Broken("%s: mdbusd ended with status %d: %s" % (what, status, self.bed.said("mdbusd")))
        self.nothing_left(what)

    def each(self, role, once):
        """Die at each hook that was passed; then whoever comes next must go through all of it."""
        plan = self.plans[role]
        self.good("a " + role, once())
        while plan.missing():
            hook, at = plan.choose()
            if role == "life" and not hook.startswith(LIFE):
                plan.tries[hook] = len(PATIENCE)
                continue
            status = once(hook, at)
            if status not in (0, -signal.SIGKILL):
                raise Broken("%s, to die at %s: status %d: %s" % (role, hook, status, self.bed.said("mdbusd")))
            plan.settle(hook, status != 0)
            self.kills += status != 0
            if role == "purge":
                status = self.start("purge").wait(60)
            else:
                status = self.serve(self.start())
            self.good("after a death at %s of %s" % (hook, role), status)


def bed_of_life(seed):
    with Bed("hlife") as bed:
        life = Life(bed, random.Random(seed))
        try:
            life.each("life", life.live)
            life.each("purge", life.purge)
        except Exception as e:
            raise Broken("bed life, seed %d: %s; killed at %s\n---- mdbusd\n%s\n---- A\n%s" % (
                seed, e, {r: sorted(p.killed) for r, p in life.plans.items()}, bed.said("mdbusd"), bed.said("A"))) from e
        killed = {role: p.killed for role, p in life.plans.items()}
        return killed, life.kills, ", ".join("%s at %d" % (role, len(k)) for role, k in killed.items())
