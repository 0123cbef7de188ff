/* SPDX-License-Identifier: Apache-2.0
 *
 * clients.h - the connections of one listening socket: bounded in number, fair between users.
 *
 * Kept in order of activity.  When there are too many, the one that was silent for longest goes; but a user who holds more
 * than a share displaces its own connections first, and so nobody else's.
 */
#ifndef MDBUS_MGMT_CLIENTS_H
#define MDBUS_MGMT_CLIENTS_H

#include "daemon.h"

#define MDBUS_CLIENTS_MAX   256u
#define MDBUS_CLIENTS_SHARE 128u

/* First member of whatever a server knows of a connection. */
struct mdbus_client {
	struct mdbus_source source;
	struct mdbus_client *next, *prev;
	uint64_t active_ns;
	uid_t uid;
};

/*
 * Listen at RUN_DIR/name (type: SOCK_SEQPACKET or SOCK_STREAM), for the groups of the configuration, if the file's mode can say
 * so; with several groups anybody may connect, and has to be asked who it is.  0, or -errno after saying why.
 */
int mdbus_clients_listen(struct mdbus_daemon *d, struct mdbus_source *s, int type, const char *name,
                         void (*ready)(struct mdbus_daemon *d, struct mdbus_source *s, uint32_t events));

/*
 * Accept one connection of `listener`; *uid gets its user's.  -1: none is there, or no descriptor, and then the listener waits for
 * mdbus_clients_listen_again, at the next tick.
 */
int mdbus_clients_accept(struct mdbus_daemon *d, struct mdbus_source *listener, uid_t *uid);
void mdbus_clients_listen_again(struct mdbus_daemon *d, struct mdbus_source *listener);

/* Who has to be closed before one more of this user comes in; NULL: nobody. */
struct mdbus_client *mdbus_clients_displaced(const struct mdbus_clients *l, uid_t uid);

void mdbus_clients_add(struct mdbus_clients *l, struct mdbus_client *c);
void mdbus_clients_remove(struct mdbus_clients *l, struct mdbus_client *c);
/* c has said or taken something. */
void mdbus_clients_active(struct mdbus_clients *l, struct mdbus_client *c);

#endif
