# SPDX-License-Identifier: Apache-2.0
"""Listen on lines while a feeder runs, then hold what came against its log and its summary.

    feed_hear.py LAYOUT LOG [dup] [ordered] [term=N] HEAR... -- FEEDER...

HEAR is ADDR:PORT or GROUP:PORT@INTERFACE, one a line, in the feeder's order.  `dup`: messages may come twice.  `ordered`:
numbers only grow within an epoch.  `term=N`: send SIGTERM when line A has heard N packets.  The decoders here are a few plain
lines each and share nothing with the programs.  If the kernel dropped packets that this reader was too slow for, the run
proves nothing and is repeated.  Prints "messages lost_all packets..." when everything agrees.
"""
import json
import select
import socket
import struct
import subprocess
import sys
import time


def fnv(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def prefixed(p, off, count, order):
    """Messages behind a 2-byte length of what follows."""
    out = []
    for _ in range(count):
        n = 2 + struct.unpack_from(order + "H", p, off)[0]
        assert off + n <= len(p), "a message runs out of its packet"
        out.append(p[off:off + n])
        off += n
    assert off == len(p), "bytes behind the last message"
    return out


def mold(p):
    session, seq, count = struct.unpack_from(">10sQH", p)
    return session, seq, [] if count in (0, 0xFFFF) else prefixed(p, 20, count, ">")


def iex(p):
    length, count = struct.unpack_from("<HH", p, 12)
    assert length + 40 == len(p), "IEX payload length"
    return p[8:12], struct.unpack_from("<Q", p, 24)[0], prefixed(p, 40, count, "<")


def cme(p):
    return b"", struct.unpack_from("<I", p)[0], [p]


def optiq(p):
    return b"", struct.unpack_from("<I", p, 8)[0], [p]


DECODE = {"moldudp64": mold, "iex_tp": iex, "cme_mdp3_xilinx": cme, "optiq": optiq}


def open_socket(where):
    addr, _, dev = where.partition("@")
    addr, port = addr.split(":")
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for option in 33, socket.SO_RCVBUF:  # SO_RCVBUFFORCE, for root
        try:
            s.setsockopt(socket.SOL_SOCKET, option, 256 << 20)
            break
        except PermissionError:
            pass
    s.bind((addr, int(port)))
    if dev:
        group = socket.inet_aton(addr) + bytes(4) + struct.pack("@i", socket.if_nametoindex(dev))
        s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    s.setblocking(False)
    return s


def dropped(s):
    return struct.unpack_from("9I", s.getsockopt(socket.SOL_SOCKET, 55, 36))[8]  # SO_MEMINFO


def hear(wheres, feeder, term):
    sockets = [open_socket(w) for w in wheres]
    packets = [[] for _ in wheres]
    process = subprocess.Popen(feeder, stdout=subprocess.PIPE, text=True)
    quiet = None
    while True:
        for s in select.select(sockets, [], [], 0.05)[0]:
            i = sockets.index(s)
            quiet = None
            try:
                while True:
                    packets[i].append(s.recv(65536))
            except BlockingIOError:
                pass
        if term and len(packets[0]) >= term:
            process.terminate()
            term = 0
        if process.poll() is not None:
            quiet = quiet or time.monotonic()
            if time.monotonic() - quiet > 0.3:
                break
    drops = sum(dropped(s) for s in sockets)
    for s in sockets:
        s.close()
    if process.returncode:
        sys.exit(f"the feeder ended with status {process.returncode}")
    return packets, json.loads(process.stdout.read()), drops


def read_log(path):
    with open(path, "rb") as f:
        data = f.read()
    magic, nlines, nstreams = struct.unpack_from("<8sII", data)
    assert magic == b"MDFEED1\0" and (len(data) - 16) % 48 == 0, "the log's form"
    return nlines, nstreams, [struct.unpack_from("<QQQQIHBBII", data, at) for at in range(16, len(data), 48)]


def unpack(decode, packets, ordered):
    """{(epoch, seq): [hash, ...]}, and for each epoch the highest number that was said to come next."""
    heard, ends, seen = {}, {}, {}
    session, high, epoch = None, 0, 0
    for p in packets:
        s, seq, messages = decode(p)
        if s != session or seq + 1000 < high:
            session, high, epoch = s, 0, epoch + 1
        assert not (ordered and seq < high), f"out of order: {seq} after {high}"
        for m in messages:
            if m not in seen:
                seen[m] = fnv(m)
            heard.setdefault((epoch, seq), []).append(seen[m])
            seq += 1
        high = max(high, seq)
        ends[epoch] = max(ends.get(epoch, 0), seq)
    return heard, ends


def compare(decode, packets, summary, log, flags):
    nlines, nstreams, records = log
    same = {"lines": (nlines, len(packets)), "lines of the summary": (len(summary["lines"]), nlines),
            "streams": (nstreams, len(summary["streams"])), "messages": (len(records), summary["messages"]),
            "lost on all lines": (sum(r[6] == 0 for r in records), summary["lost_all"])}
    for i, line in enumerate(summary["lines"]):
        mine = {r[5] for r in records if r[6] >> i & 1}
        sent = [r for r in records if r[6] >> i & 1]
        heard, ends = unpack(decode, packets[i], "ordered" in flags)
        same[f"{i}: packets"] = len(packets[i]), line["packets"] + line["duplicated"]
        same[f"{i}: messages"] = len(sent), line["messages"]
        same[f"{i}: different messages"] = len(heard), line["messages"]
        same[f"{i}: bytes"] = sum(map(len, packets[i])), line["bytes"]
        for seq, h, t, _, n, _, _, _, epoch, pad in sent:
            copies = heard.get((epoch, seq), [])
            if not copies or set(copies) != {h} or len(copies) > 1 + ("dup" in flags) or pad or not t:
                sys.exit(f"line {i}: message {seq} of epoch {epoch}: hash {h:x}, heard {copies}")
        for epoch in {r[8] for r in records if r[5] in mine}:
            last = max(r[0] for r in records if r[5] in mine and r[8] == epoch)
            same[f"{i}: end of epoch {epoch}"] = ends.get(epoch), last + 1
    for what, (got, want) in same.items():
        if got != want:
            sys.exit(f"{what}: {got}, not {want}")
    print(summary["messages"], summary["lost_all"], *(len(p) for p in packets))


def main():
    split = sys.argv.index("--")
    layout, log, *words = sys.argv[1:split]
    flags = [w for w in words if ":" not in w]
    term = sum(int(w[5:]) for w in flags if w.startswith("term="))
    for _ in range(5):
        packets, summary, drops = hear([w for w in words if ":" in w], sys.argv[split + 1:], term)
        if not drops:
            return compare(DECODE[layout], packets, summary, read_log(log), flags)
    sys.exit("this machine drops packets on its own; five tries")


main()
