#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Every captured file whose numbers are true, through a real mdbusd and mdbus-ingest, as mdbus-tail sees it: each message
# once, in order, with its very bytes; gaps where numbers are missing and nowhere else; a reset where the numbers begin
# anew.  One file is one line; the file that has both lines A and B in it is two, arbitrated.
# timeout: 180
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_corpus
need_command python3

cat >"$T/corpus.py" <<'PY'
"""plan: write the configuration and the list of lines to start.  compare: what came against what must."""
import glob, json, os, struct, sys

corpus, work = sys.argv[2:4]
REORDER = 16  # a first number up to one more than this is taken for a late start, so the ones before it are missing
LINES = 8
UNITS = {name: l.get("unit") for name, l in json.load(open(f"{corpus}/layouts.json")).items()}


def tables():
    """Each file's expectations, in an order that stays; those with true numbers only."""
    for path in sorted(glob.glob(f"{corpus}/*/*.json")):
        table = json.load(open(path))
        if table.get("seq_valid"):
            table["pcap"] = os.path.join(os.path.dirname(path), table["file"])
            yield table


def packets(table):
    """One dict a packet, from either form."""
    for i, p in enumerate(table["packets"]):
        if "columns" in table:
            event = {"": None, "h": "heartbeat", "r": "reset"}[p[5]]
            p = {"i": i, "stream": table["streams"][p[1]], "session": table["sessions"][p[2]], "seq": p[3], "event": event,
                 "event_seq": "next" if event else None, "next_seq": p[6], "msgs": p[7]}
        yield p


def payloads(path):
    """The UDP payloads of a capture file, pcap or pcapng."""
    data = open(path, "rb").read()
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1", b"\x0a\x0d\x0d\x0a") else ">"
    frames, at = [], 24
    if data[:4] == b"\x0a\x0d\x0d\x0a":
        order, at = "<" if data[8:12] == b"\x4d\x3c\x2b\x1a" else ">", 0
        while at < len(data):
            kind, size = struct.unpack_from(order + "II", data, at)
            if kind == 6:
                n = struct.unpack_from(order + "I", data, at + 20)[0]
                frames.append(data[at + 28:at + 28 + n])
            at += size
    else:
        while at < len(data):
            n = struct.unpack_from(order + "I", data, at + 8)[0]
            frames.append(data[at + 16:at + 16 + n])
            at += 16 + n
    for f in frames:
        ip = 14
        while f[ip - 2:ip] in (b"\x81\x00", b"\x88\xa8", b"\x91\x00"):
            ip += 4
        udp = ip + (f[ip] & 15) * 4
        yield f[udp + 8:udp + struct.unpack_from(">H", f, udp + 4)[0]]


def expected(table):
    """What a subscriber must see: (channel suffix) -> records.  The first copy counts, whichever stream it comes on."""
    out, unseq, data = [], [], list(payloads(table["pcap"]))
    session, after, epoch, have = None, None, 1, set()
    for p in packets(table):
        whole = data[p["i"]]
        if UNITS[table["layout"]] == "pkt":
            msgs = [(p["seq"], whole)]
        else:
            numbers = p.get("msg_seqs") or range(p["seq"], p["seq"] + len(p["msgs"]))
            msgs = [(n, whole[off:off + size]) for n, (off, size) in zip(numbers, p["msgs"])]
        if p["event"] == "unseq":
            unseq += [("data", 1, len(unseq) + i + 1, m.hex()) for i, (_, m) in enumerate(msgs)]
            continue
        published = p["event"] is None or p["event_seq"] == "counts"
        first = msgs[0][0] if published else p["next_seq"]
        if first is None:
            continue
        if after is None:
            after = 1 if 1 < first <= REORDER + 1 else first
        elif session != p["session"] or (first < after and (first, whole) not in have):
            out.append(("reset", epoch + 1, after, first))
            epoch, after, have = epoch + 1, first, set()
        session = p["session"]
        if first > after:
            out.append(("gap", epoch, after, first - after))
            after = first
        if published and first == after:
            out += [("data", epoch, n, m.hex()) for n, m in msgs]
            after = msgs[-1][0] + 1
            have.add((first, whole))
    return {"": out, ".unseq": unseq}


def plan():
    buses, starts, lines, channels = [], [], [], []

    def bus():
        name = f"b{len(buses)}"
        buses.append(f'{{ name = "{name}"; seats = 2; lines = ( {", ".join(lines)} ); channels = ( {", ".join(channels)} ); }}')
        lines.clear(), channels.clear()

    for n, table in enumerate(tables()):
        streams = sorted({p["stream"] for p in packets(table)})
        assert len(streams) <= 2
        if len(lines) + len(streams) > LINES:
            bus()
        # deep enough that the oldest record is still there when all have been played; a restart takes an eighth of it
        depth = next(d for below, d in ((100, 1 << 8), (10000, 1 << 17), (1 << 32, 1 << 21)) if len(table["packets"]) < below)
        flows = ""
        for k, stream in enumerate(streams):
            line, (to, *key) = f"L{n}{'AB'[k]}", stream.split("|")
            lines.append(f'{{ name = "{line}"; backend = "pcap"; file = "{table["pcap"]}"; speed = 0.0; frames = 256; }}')
            starts.append(f"b{len(buses)} {line}")
            flows += f' {line} = {{ to = "{to}"; key = "{"".join(key)}"; }};' if key else f' {line} = "{to}";'
        unsequenced = "unsequenced = true; " if table["layout"] == "cboe_pitch" else ""
        channels.append(f'{{ name = "c{n}"; layout = "{table["layout"]}"; depth = {depth}; slot_size = 128; '
                        f'window = {min(depth // 2, 32768)}; reorder_window = {REORDER}; {unsequenced}'
                        f'gap_timeout_us = 100000; flows = {{{flows} }}; }}')
    bus()
    open(f"{work}/mdbus.conf", "w").write('hugepages = "never";\nbuses = (\n' + ",\n".join(buses) + "\n);\n")
    open(f"{work}/lines", "w").write("\n".join(starts) + "\n")


def seen():
    """channel -> records, gaps that touch made one."""
    out = {}
    for path in glob.glob(f"{work}/tail-*.log"):
        for line in open(path):
            r = json.loads(line)
            records = out.setdefault(r["channel"], [])
            record = (r["kind"], r["epoch"], r["seq"], r.get("payload", r.get("count", r.get("next"))))
            last = records[-1] if records else None
            if last and record[0] == last[0] == "gap" and record[1] == last[1] and record[2] == last[2] + last[3]:
                records[-1] = last[:3] + (last[3] + record[3],)
            else:
                records.append(record)
    return out


def compare():
    got, bad, total, kinds = seen(), 0, 0, {}
    for n, table in enumerate(tables()):
        for suffix, want in expected(table).items():
            have = got.pop(f"c{n}{suffix}", [])
            for r in want:
                kinds[r[0]] = kinds.get(r[0], 0) + 1
            if have == want:
                continue
            bad += 1
            i = next((i for i, (a, b) in enumerate(zip(have, want)) if a != b), min(len(have), len(want)))
            print(f"{table['pcap']}{suffix}: {len(have)} records for {len(want)}; record {i}: "
                  f"got {have[i] if i < len(have) else None}, want {want[i] if i < len(want) else None}")
        total += 1
    bad += len(got)
    print(f"{total} files, {kinds}, {bad} wrong")
    sys.exit(1 if bad or got or not total or kinds.keys() != {"data", "gap", "reset"} else 0)


{"plan": plan, "compare": compare}[sys.argv[1]]()
PY

finished() { # NAME: it ends by itself, and well
	local status=0
	wait "$(pid_of "$1")" || status=$?
	[ "$status" = 0 ] || fail "$1 ended with status $status: $(tail -n 3 "$T/$1.log")"
	unset "started[$1]"
}

python3 "$T/corpus.py" plan "$MDBUS_CORPUS" "$T"
"$MDBUS_BIN/mdbusd" --check -c "$T/mdbus.conf" >"$T/check.log" 2>&1 || fail "the configuration: $(head -n 5 "$T/check.log")"
start mdbusd "$MDBUS_BIN/mdbusd" -c "$T/mdbus.conf"
wait_for 60 "mdbusd" grep -q "^mdbusd: ready" "$T/mdbusd.log"

play() { # LINE...: of one bus, each to its end
	local line
	for line; do
		start "$line" "$MDBUS_BIN/mdbus-ingest" "$bus/$line"
	done
	for line; do
		finished "$line"
	done
}
mapfile -t buses < <(cut -d ' ' -f 1 "$T/lines" | uniq)
for bus in "${buses[@]}"; do
	mapfile -t lines < <(sed -n "s/^$bus //p" "$T/lines")
	play "${lines[@]}"
done
for bus in "${buses[@]}"; do
	start "tail-$bus" "$MDBUS_BIN/mdbus-tail" "$bus" --json --from oldest --until-idle-ms 1000
done
for bus in "${buses[@]}"; do
	finished "tail-$bus"
done
python3 "$T/corpus.py" compare "$MDBUS_CORPUS" "$T" || fail "not what the captures hold"
