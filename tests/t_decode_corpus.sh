#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mdbus-decode against the captured packets: every member of every expected packet, with the built-in layout and with the
# one of the corpus's own layouts.json.  Each file is then compared again with expectations changed on purpose, one member
# at a time: a comparison that does not notice is itself a failure.
# timeout: 300
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_corpus
need_command python3
decode=$MDBUS_BIN/mdbus-decode

python3 - "$decode" "$MDBUS_CORPUS" <<'EOF' || fail "mdbus-decode disagrees with the corpus"
import copy, glob, json, os, subprocess, sys

decode, corpus = sys.argv[1:]


def decoded(layout, pcap):
    run = subprocess.run([decode, "--layout", layout, "--json", pcap], capture_output=True, text=True)
    if run.returncode or run.stderr:
        sys.exit(f"{pcap}: exit status {run.returncode}: {run.stderr}")
    return [json.loads(line) for line in run.stdout.splitlines()]


def from_row(table, row):
    """A row of the column form, as far as it goes, in the form of one object per packet."""
    ts, stream, session, seq, count, event, next_seq, msgs = row
    return {"ts_ns": ts, "stream": table["streams"][stream], "session": table["sessions"][session], "seq": seq,
            "count": count, "event": {"": None, "h": "heartbeat", "r": "reset"}[event], "next_seq": next_seq, "msgs": msgs}


def compare(expected, got, whole):
    """The first disagreement, or None.  In the object form there must be no member more, either."""
    if len(expected) != len(got):
        return f"{len(got)} packets for {len(expected)}"
    for i, (e, g) in enumerate(zip(expected, got)):
        for member in (e.keys() | g.keys()) if whole else e:
            if member not in e or member not in g or e[member] != g[member]:
                return f"packet {i}: {member}: expected {e.get(member)}, got {g.get(member)}"
    return None


def changed(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value + "0"
    if isinstance(value, list):
        return value[:-1] if value else [0]
    return 1


files = packets = noticed = 0
errors = []
for path in sorted(glob.glob(os.path.join(corpus, "*", "*.json"))):
    with open(path) as f:
        table = json.load(f)
    pcap = os.path.join(os.path.dirname(path), table["file"])
    whole = "columns" not in table
    expected = table["packets"] if whole else [from_row(table, row) for row in table["packets"]]
    for layout in table["layout"], os.path.join(corpus, "layouts.json") + ":" + table["layout"]:
        got = decoded(layout, pcap)
        error = compare(expected, got, whole)
        if error:
            errors.append(f"{path} ({layout}): {error}")
    for member in expected[-1]:
        wrong = expected[:-1] + [copy.deepcopy(expected[-1])]
        wrong[-1][member] = changed(wrong[-1][member])
        if not compare(wrong, got, whole):
            errors.append(f"{path}: a changed {member} is not noticed")
        noticed += 1
    if not compare(expected, got[:-1], whole) or not compare(expected, got + got[-1:], whole):
        errors.append(f"{path}: a packet more or less is not noticed")
    files += 1
    packets += len(expected)

print("".join(error + "\n" for error in errors[:20]), end="")
print(f"{files} files, {packets} packets, {noticed} changed expectations, {len(errors)} disagreements")
sys.exit(1 if errors or not files else 0)
EOF

# What is not a packet of the feed is said to be so, and the rest still comes out.
need_corpus iex_tp/IEX_DEEP10_dev.pcap
pcap=$MDBUS_CORPUS/iex_tp/IEX_DEEP10_dev.pcap
head -c 100007 "$pcap" >"$T/cut.pcap"
refused "a file cut short" "cut.pcap: after packet [0-9]+: truncated" "$decode" --layout iex_tp --json "$T/cut.pcap"
"$decode" --layout moldudp64 --json "$pcap" >"$T/out" 2>"$T/err"
same "lines for another feed's packets" 19000 "$(wc -l <"$T/out")"
same "malformed packets" "$(grep -c '"error":"bad' "$T/out")" "$(sed -n 's/.*: \([0-9]*\) malformed.*/\1/p' "$T/err")"
