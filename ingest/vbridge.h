/* SPDX-License-Identifier: Apache-2.0
 *
 * vbridge.h - a virtual Ethernet bridge of virtual NICs, in one process without privilege.
 *
 * A port is what a cable to one NIC would be; its queues are connections (vbridge_link.h), one or several.  A frame that
 * comes in on any queue of a port goes to the port behind which its receiver has been heard of, or to all others if that is
 * unknown, a group, or all; never back.  Ports with another net= are on another bridge: a feed's lines have nothing in common.
 * A port may be told its groups, as a switch is by IGMP, and is then spared others'.
 * On the way out the flow's hash chooses among the port's queues, as a card's does among its own.  VLAN tags are
 * carried, and not looked at.  Order is kept within a flow from one queue to one queue.
 *
 * A queue without a client is a cable pulled out: what goes there is dropped and counted; so is what a client is too slow
 * for.  Nobody waits for anybody.  One thread.
 */
#ifndef MDBUS_INGEST_VBRIDGE_H
#define MDBUS_INGEST_VBRIDGE_H

#include "../bus/user_veth.h"
#include "vbridge_flow.h"
#include "vbridge_link.h"
#include "vbridge_table.h"

#define MDBUS_VBRIDGE_PORTS  32u
#define MDBUS_VBRIDGE_GROUPS 64u

struct mdbus_vport_counters {
	uint64_t flooded;  /* frames from here that went to all others */
	uint64_t filtered; /* frames from here whose receiver is here, too */
	uint64_t malformed;
};

struct mdbus_vport {
	char name[32], net[32];
	uint32_t first; /* port of the same net */
	uint32_t nqueue, ngroup;
	uint32_t group[MDBUS_VBRIDGE_GROUPS]; /* host byte order; none: all */
	struct mdbus_vport_counters count;
	struct mdbus_link queue[MDBUS_USER_VETH_QUEUES];
};

struct mdbus_vbridge {
	char dir[MDBUS_USER_VETH_PATH_MAX];
	int dir_fd;
	uint32_t nport, nopen; /* nopen: queues that are open, in order */
	struct mdbus_vport port[MDBUS_VBRIDGE_PORTS];
	struct mdbus_vtable table;
};

/* Add a port: "NAME[,net=NAME][,queues=N][,group=ADDR]...".  0, or -errno with a reason in err. */
int mdbus_vbridge_add(struct mdbus_vbridge *b, const char *spec, char *err, size_t errlen);

/*
 * Open all sockets in dir, which is made if it is not there; one bridge at a time.  0, or -errno with a reason in err and
 * nothing left.  Killed: sockets are left, which the next one in that place replaces.
 */
int mdbus_vbridge_open(struct mdbus_vbridge *b, const char *dir, char *err, size_t errlen);

/* Close and remove what was opened, and dir if that is then empty. */
void mdbus_vbridge_close(struct mdbus_vbridge *b);

/* Forward what is there, up to some hundred frames; returns how many came in. */
uint32_t mdbus_vbridge_forward(struct mdbus_vbridge *b, uint64_t now_ns);

/* Look after the sockets: clients that come and go. */
void mdbus_vbridge_control(struct mdbus_vbridge *b, uint64_t now_ns);

/* Sleep until there may be something to do or timeout_ms has passed; returns whether something woke it. */
bool mdbus_vbridge_wait(struct mdbus_vbridge *b, int timeout_ms);

#endif
