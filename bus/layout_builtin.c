/* SPDX-License-Identifier: Apache-2.0
 *
 * layout_builtin.c - the feeds that mdbus knows without being told.
 *
 * They are written in the text form that users write their own in, and read by the same parser, once: there is no
 * second way to describe a feed, and each row is an example.  Offsets are from the exchanges' public specifications.
 */
#include <pthread.h>
#include <string.h>

#include <mdbus/layout.h>

/* Single quotes stand for double ones, so that the rows can be read. */
static const struct {
	const char *name;
	const char *text;
} rows[] = {
	/* Nasdaq MoldUDP64: session[10], sequence u64, count u16; then length u16 + message, count times. */
	{ "moldudp64",
	  "{'e': 'be', 'hdr': 20, 'unit': 'msg', 'seq': ['h',10,8], 'count': ['h',18,2], 'end': 'count',"
	  " 'key': [['h',0,10]], 'session': [['h',0,10]], 'msglen': [0,2,2],"
	  " 'rules': [{'if': [['h',18,2,'==',0]], 'act': 'heartbeat', 'seq': 'next'},"
	  "           {'if': [['h',18,2,'==',65535]], 'act': 'eos', 'seq': 'next', 'nomsg': true}]}" },
	/* MEMX MEMOIR over UDP: type u8 (0 heartbeat, 1 session shutdown, 2 messages), header length, then as Mold. */
	{ "memoir_udp",
	  "{'e': 'be', 'hdr': 20, 'unit': 'msg', 'seq': ['h',10,8], 'count': ['h',18,2], 'end': 'count',"
	  " 'key': [['h',2,8]], 'session': [['h',2,8]], 'msglen': [0,2,2],"
	  " 'rules': [{'if': [['h',0,1,'==',0]], 'act': 'heartbeat', 'seq': 'last', 'nomsg': true},"
	  "           {'if': [['h',0,1,'==',1]], 'act': 'eos', 'seq': 'last', 'nomsg': true}]}" },
	/* IEX-TP: version, protocol u16, channel u32, session u32, payload length u16, count, offset, sequence, time. */
	{ "iex_tp",
	  "{'e': 'le', 'hdr': 40, 'unit': 'msg', 'seq': ['h',24,8], 'count': ['h',14,2], 'end': 'count',"
	  " 'pktlen': ['h',12,2,40], 'time': ['h',32,8], 'key': [['h',2,2],['h',4,4]], 'session': [['h',8,4]],"
	  " 'msglen': [0,2,2], 'rules': [{'if': [['h',14,2,'==',0]], 'act': 'heartbeat', 'seq': 'next'}]}" },
	/* Cboe PITCH sequenced unit header: length u16, count u8, unit u8, sequence u32; sequence 0 is unsequenced. */
	{ "cboe_pitch",
	  "{'e': 'le', 'hdr': 8, 'unit': 'msg', 'seq': ['h',4,4], 'count': ['h',2,1], 'end': 'count',"
	  " 'pktlen': ['h',0,2,0], 'key': [['h',3,1]], 'msglen': [0,1,0], 'wrap': 'max->1',"
	  " 'rules': [{'if': [['h',2,1,'==',0],['h',4,4,'==',0]], 'act': 'heartbeat', 'seq': 'zero'},"
	  "           {'if': [['h',2,1,'==',0]], 'act': 'heartbeat', 'seq': 'next'},"
	  "           {'if': [['h',4,4,'==',0]], 'act': 'unseq'}]}" },
	/* NYSE XDP/Pillar: packet size u16, delivery flag u8, count u8, sequence u32, seconds u32, nanoseconds u32. */
	{ "nyse_xdp",
	  "{'e': 'le', 'hdr': 16, 'unit': 'msg', 'seq': ['h',4,4], 'count': ['h',3,1], 'end': 'count',"
	  " 'pktlen': ['h',0,2,0], 'time': ['h',8,4], 'msglen': [0,2,0], 'wrap': 'reset',"
	  " 'rules': [{'if': [['h',2,1,'in',[13,15,17,18,19,20,21]]], 'act': 'retrans'},"
	  "           {'if': [['h',2,1,'==',1]], 'act': 'heartbeat', 'seq': 'next'},"
	  "           {'if': [['h',2,1,'==',12]], 'act': 'reset', 'seq': 'counts'}]}" },
	/*
	 * SIAC CTA (CTS, CQS): version u8, length u16, network u8, delivery flag u8 ('V' retransmission), sequence
	 * u32, count u8, time.  Categories and types of the first message: 'CT' line integrity, 'CL' reset, 'CA'
	 * start, 'CZ' end.
	 */
	{ "siac_cta",
	  "{'e': 'be', 'hdr': 20, 'unit': 'msg', 'seq': ['h',5,4], 'count': ['h',9,1], 'end': 'count', 'align': 2,"
	  " 'pktlen': ['h',1,2,0], 'time': ['h',10,8], 'key': [['h',3,1]], 'msglen': [0,2,0], 'wrap': 'reset',"
	  " 'rules': [{'if': [['h',4,1,'==',86]], 'act': 'retrans'},"
	  "           {'if': [['m',2,2,'==',17236]], 'act': 'heartbeat', 'seq': 'last'},"
	  "           {'if': [['m',2,2,'==',17228]], 'act': 'reset', 'seq': 'counts'},"
	  "           {'if': [['m',2,2,'==',17217]], 'act': 'sos', 'seq': 'zero'},"
	  "           {'if': [['m',2,2,'==',17242]], 'act': 'eos', 'seq': 'counts'}]}" },
	/* OTC Link ATS: length u16, packet number u32, flags u8, count u8, time u32; a message has its own number. */
	{ "otc_link",
	  "{'e': 'be', 'hdr': 12, 'unit': 'msg', 'seq': ['m',3,4], 'pktseq': ['h',2,4], 'count': ['h',7,1],"
	  " 'end': 'payload',"
	  " 'pktlen': ['h',0,2,0], 'time': ['h',8,4], 'msglen': [0,2,0],"
	  " 'rules': [{'if': [['h',6,1,'&',1]], 'act': 'heartbeat', 'seq': 'pktnext', 'nomsg': true},"
	  "           {'if': [['h',6,1,'&',2]], 'act': 'reset', 'seq': 'pktnext', 'nomsg': true},"
	  "           {'if': [['h',6,1,'&',64]], 'act': 'retrans'}]}" },
	/* ICE iMpact: session u16, sequence u32, count u16, time; a message is type u8, length u16 of what follows. */
	{ "ice_impact",
	  "{'e': 'be', 'hdr': 16, 'unit': 'msg', 'seq': ['h',2,4], 'count': ['h',6,2], 'end': 'count',"
	  " 'time': ['h',8,8],"
	  " 'key': [['h',0,2]], 'session': [['h',0,2]], 'msglen': [1,2,3],"
	  " 'rules': [{'if': [['h',6,2,'==',0]], 'act': 'heartbeat', 'seq': 'next'}]}" },
	/* CME MDP 3.0: packet number u32, time; messages are size u16 (of all), SBE header with the template at 4. */
	{ "cme_mdp3",
	  "{'e': 'le', 'hdr': 12, 'unit': 'pkt', 'seq': ['h',0,4], 'time': ['h',4,8],"
	  " 'msglen': [0,2,0], 'end': 'payload',"
	  " 'rules': [{'if': [['m',4,2,'==',12]], 'act': 'heartbeat', 'seq': 'counts'},"
	  "           {'if': [['m',4,2,'==',4]], 'act': 'reset', 'seq': 'counts'}]}" },
	/* A generator's idea of MDP 3.0: the size leaves out its own two bytes. */
	{ "cme_mdp3_xilinx",
	  "{'e': 'le', 'hdr': 12, 'unit': 'pkt', 'seq': ['h',0,4], 'time': ['h',4,8],"
	  " 'msglen': [0,2,2], 'end': 'payload'}" },
	/* Eurex EOBI: the packet header is a message itself; sequence at 8, partition at 16, reset indicator at 18. */
	{ "eurex_eobi",
	  "{'e': 'le', 'hdr': 32, 'unit': 'pkt', 'seq': ['h',8,4], 'time': ['h',24,8], 'key': [['h',16,1]],"
	  " 'msglen': [0,2,0], 'end': 'payload',"
	  " 'rules': [{'if': [['h',18,1,'==',1]], 'act': 'reset', 'seq': 'counts'},"
	  "           {'if': [['m',2,2,'==',13001]], 'act': 'heartbeat', 'seq': 'counts'}]}" },
	/* B3 binary UMDF: channel u8, sequence version u16, sequence u32, time; Sequence (template 2) has the next. */
	{ "b3_umdf",
	  "{'e': 'le', 'hdr': 16, 'unit': 'pkt', 'seq': ['h',4,4], 'time': ['h',8,8], 'key': [['h',0,1]],"
	  " 'session': [['h',2,2]], 'msglen': [0,2,0], 'end': 'payload',"
	  " 'rules': [{'if': [['m',6,2,'==',2],['h',4,4,'==',0]], 'act': 'heartbeat', 'seq': 'field',"
	  "            'field': ['m',12,4]},"
	  "           {'if': [['m',6,2,'==',1],['h',4,4,'==',0]], 'act': 'reset', 'seq': 'zero'}]}" },
	/*
	 * Euronext Optiq MDG: time u64, packet number u32, flags u16, channel u16. Bit 0 of the flags says compressed;
	 * bits 1 to 3 count restarts, after each of which the numbers begin anew.
	 */
	{ "euronext_mdg",
	  "{'e': 'le', 'hdr': 16, 'unit': 'pkt', 'seq': ['h',8,4], 'time': ['h',0,8], 'key': [['h',14,2]],"
	  " 'session': [['h',12,2,14]], 'msglen': [0,2,0], 'end': 'payload',"
	  " 'rules': [{'if': [['h',12,2,'&',1]], 'act': 'opaque'}]}" },
	/*
	 * HKEX OMD: packet size u16, count u8, filler u8, sequence u32, time u64; a message is size u16, type u16. The
	 * number of a sequence reset (100) says nothing, the next one stands in it.
	 */
	{ "hkex_omd",
	  "{'e': 'le', 'hdr': 16, 'unit': 'msg', 'seq': ['h',4,4], 'count': ['h',2,1], 'end': 'count',"
	  " 'pktlen': ['h',0,2,0], 'time': ['h',8,8], 'msglen': [0,2,0],"
	  " 'rules': [{'if': [['h',2,1,'==',0]], 'act': 'heartbeat', 'seq': 'last'},"
	  "           {'if': [['m',2,2,'==',100]], 'act': 'reset', 'seq': 'field', 'field': ['m',4,4]}]}" },
	/* LSE MITCH unit header: length u16, count u8, market data group u8, sequence u32. */
	{ "lse_mitch",
	  "{'e': 'le', 'hdr': 8, 'unit': 'msg', 'seq': ['h',4,4], 'count': ['h',2,1], 'end': 'count',"
	  " 'pktlen': ['h',0,2,0], 'key': [['h',3,1]], 'msglen': [0,1,0],"
	  " 'rules': [{'if': [['h',2,1,'==',0]], 'act': 'heartbeat', 'seq': 'next'}]}" },
	/* optiq: version u8, length u8, service u16, session u32, sequence u32, time u64, ...: 36 bytes. */
	{ "optiq",
	  "{'e': 'le', 'hdr': 36, 'unit': 'pkt', 'seq': ['h',8,4], 'time': ['h',12,8]}" },
	/* The same where no order exists: session_id tells a copy from a new one. */
	{ "optiq_key",
	  "{'e': 'le', 'hdr': 36, 'unit': 'arrival', 'time': ['h',12,8], 'key': [['h',4,4]]}" },
};

#define NROWS (sizeof(rows) / sizeof(rows[0]))

static struct mdbus_layout layouts[NROWS];
static size_t nlayouts;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* A row that does not parse ends the list: the tests compare its length. */
static void parse_rows(void)
{
	char text[1024], err[256];

	for (size_t i = 0; i < NROWS; i++) {
		size_t n = strlen(rows[i].text);

		if (n >= sizeof(text))
			return;
		for (size_t k = 0; k <= n; k++)
			text[k] = rows[i].text[k] == '\'' ? '"' : rows[i].text[k];
		if (mdbus_layout_parse(text, rows[i].name, &layouts[i], err, sizeof(err)))
			return;
		nlayouts = i + 1;
	}
}

const struct mdbus_layout *mdbus_layout_builtin_at(size_t index)
{
	pthread_once(&once, parse_rows);
	return index < nlayouts ? &layouts[index] : NULL;
}

const struct mdbus_layout *mdbus_layout_builtin(const char *name)
{
	const struct mdbus_layout *l;

	for (size_t i = 0; (l = mdbus_layout_builtin_at(i)); i++)
		if (!strcmp(l->name, name))
			return l;
	return NULL;
}
