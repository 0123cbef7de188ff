/* SPDX-License-Identifier: Apache-2.0
 *
 * privilege.c - what root gives up before anybody may talk to it.
 *
 * Mounting, raising limits and making files are done by then.  What is still needed, and so kept:
 *
 *	CAP_KILL         to end a line of another user that is stuck, or that an admin wants ended
 *	CAP_SYS_ADMIN    only if mdbusd has mounted huge pages itself: to unmount them at the end, and in force only then
 *	CAP_NET_ADMIN    only if a line's card may be told which queue its flows go to (rules.c), and in force only then
 *	CAP_SYS_PTRACE   only if /proc hides other users' processes: to read their start times
 *
 * Sockets are given to the groups of the configuration, which a process may do that is in these groups: so mdbusd joins them
 * instead of keeping CAP_CHOWN.  XDP programs belong to the lines and need nothing here.
 *
 * Capabilities belong to a thread; mdbusd has one.  Without privileges there is nothing to give up, and nothing is.
 */
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "daemon.h"
#include "rules.h"

#define BIT(cap)   (UINT64_C(1) << (cap))
#define GROUPS_MAX 256

struct sets {
	uint64_t effective, permitted, inheritable;
};

static const struct {
	int cap;
	const char *name, *why;
} keepable[] = {
	{ CAP_KILL, "CAP_KILL", "to end stuck lines" },
	{ CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "to unmount its huge pages" },
	{ CAP_NET_ADMIN, "CAP_NET_ADMIN", "to make and delete steering rules" },
	{ CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "since /proc hides processes" },
};

#define NKEEPABLE (sizeof(keepable) / sizeof(keepable[0]))

static bool get_sets(struct sets *s)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { 0 };

	if (syscall(SYS_capget, &head, data) < 0)
		return false;
	s->effective = (uint64_t)data[1].effective << 32 | data[0].effective;
	s->permitted = (uint64_t)data[1].permitted << 32 | data[0].permitted;
	s->inheritable = (uint64_t)data[1].inheritable << 32 | data[0].inheritable;
	return true;
}

static bool set_sets(const struct sets *s)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = {
		{ (uint32_t)s->effective, (uint32_t)s->permitted, (uint32_t)s->inheritable },
		{ (uint32_t)(s->effective >> 32), (uint32_t)(s->permitted >> 32), (uint32_t)(s->inheritable >> 32) },
	};

	return syscall(SYS_capset, &head, data) == 0;
}

static void join_groups(const struct mdbus_config *c)
{
	const int wanted[] = { c->subscriber_gid, c->ingest_gid, c->admin_gid };
	gid_t list[GROUPS_MAX + 3];
	int n = getgroups(GROUPS_MAX, list);

	for (size_t i = 0; n >= 0 && i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		if (wanted[i] >= 0)
			list[n++] = (gid_t)wanted[i];
	}
	if (n > 0)
		(void)setgroups((size_t)n, list); /* without privileges it is in them or cannot give files to them */
}

/* Huge pages on a mount of our own, below the run directory. */
static bool mounted_huge(const struct mdbus_daemon *d)
{
	size_t n = strlen(d->run);

	return strncmp(d->huge[0], d->run, n) == 0 || strncmp(d->huge[1], d->run, n) == 0;
}

static bool proc_hides(void)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	struct mntent *m;
	bool hides = false;

	while (mounts && (m = getmntent(mounts))) {
		const char *option = strcmp(m->mnt_dir, "/proc") == 0 ? hasmntopt(m, "hidepid") : NULL;

		hides = hides || (option && strncmp(option, "hidepid=0", 9) != 0 && strncmp(option, "hidepid=off", 11) != 0);
	}
	if (mounts)
		endmntent(mounts);
	return hides;
}

static uint64_t wanted(const struct mdbus_daemon *d)
{
	return BIT(CAP_KILL) | (mounted_huge(d) ? BIT(CAP_SYS_ADMIN) : 0) | (proc_hides() ? BIT(CAP_SYS_PTRACE) : 0) |
	       (mdbus_rules_wanted(d) ? BIT(CAP_NET_ADMIN) : 0);
}

static void say_kept(uint64_t kept)
{
	char text[256] = "";

	for (size_t i = 0; i < NKEEPABLE; i++) {
		size_t used = strlen(text);

		if (kept & BIT(keepable[i].cap))
			snprintf(text + used, sizeof(text) - used, "%s%s %s", used ? ", " : "", keepable[i].name, keepable[i].why);
	}
	mdbus_say("of root's capabilities it keeps %s", text[0] ? text : "none");
}

void mdbus_privilege_drop(struct mdbus_daemon *d)
{
	struct sets s;

	if (!get_sets(&s)) {
		mdbus_say("capabilities cannot be read (%s): none are dropped", strerror(errno));
		return;
	}
#ifdef MDBUS_MUTANT_all_privileges_kept
	d->kept = s.permitted;
	return;
#endif
	join_groups(&d->config);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (s.permitted == 0)
		return;
	uint64_t kept = s.permitted & wanted(d);

	for (int cap = 0; cap <= CAP_LAST_CAP; cap++) { /* refused without CAP_SETPCAP; with no new privileges nothing is lost */
		if (!(kept & BIT(cap)))
			prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	}
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	s = (struct sets){ .permitted = kept, .effective = kept & ~(BIT(CAP_SYS_ADMIN) | BIT(CAP_NET_ADMIN)) };
	if (set_sets(&s))
		say_kept(kept);
	else
		mdbus_say("capabilities cannot be dropped: %s", strerror(errno));
	if (get_sets(&s))
		d->kept = s.permitted;
}

void mdbus_privilege_raise(void)
{
	struct sets s;

	if (!get_sets(&s))
		return;
	s.effective = s.permitted;
	(void)set_sets(&s);
}

bool mdbus_privilege_net(bool on)
{
	struct sets s;

	if (!get_sets(&s))
		return false;
	s.effective = on ? s.effective | (s.permitted & BIT(CAP_NET_ADMIN)) : s.effective & ~BIT(CAP_NET_ADMIN);
	return set_sets(&s) && (s.effective & BIT(CAP_NET_ADMIN)) != 0;
}

json_t *mdbus_privilege_json(const struct mdbus_daemon *d)
{
	json_t *list = json_array();

	for (size_t i = 0; i < NKEEPABLE; i++) {
		if (d->kept & BIT(keepable[i].cap))
			json_array_append_new(list, json_string(keepable[i].name));
	}
	return list;
}
