/* SPDX-License-Identifier: Apache-2.0
 *
 * rundir.c - the run directory: one mdbusd, and a place for every file.
 *
 *	RUN/mdbusd.lock                      flock held by the living mdbusd
 *	RUN/mdbusd.sock ctl.ipc events.ipc   sockets
 *	RUN/bus.NAME/                        segments of a bus; a link into STORE where RUN is not on tmpfs
 *	RUN/huge, RUN/huge1g                 hugetlbfs, mounted by mdbusd when it is root
 *	RUN/hugepages                        what was added to nr_hugepages
 *	STORE = RUN, or /dev/shm/mdbus-HASH  HASH of RUN's path
 *
 * Only the owner's files are ever trusted: a directory of another user, or one that others may write, is refused.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <mdbus/hook.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "../bus/dpdk_files.h"
#include "../bus/segment.h"
#include "daemon.h"
#include "rundir.h"
#include "text.h"

#define RUN_LENGTH_MAX 88u /* what sockaddr_un leaves for the directory */

static const char *const socket_names[] = { "mdbusd.sock", "ctl.ipc", "events.ipc" };

static int make_parents(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		int rc = mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;

		*slash = '/';
		if (rc < 0)
			return rc;
	}
	return mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

/* A directory that is ours and that nobody else may change. */
static int own_directory(const char *path, mode_t add)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode)) {
		mdbus_say("%s: is not a directory", path);
		return -ENOTDIR;
	}
	if (st.st_uid != geteuid()) {
		mdbus_say("%s: belongs to user %u, not to the one who runs mdbusd (%u): remove it or set MDBUS_RUN_DIR", path,
		          (unsigned)st.st_uid, (unsigned)geteuid());
		return -EACCES;
	}
	mode_t mode = ((st.st_mode & 0777u) | add) & ~(mode_t)022;

	return mode != (st.st_mode & 0777u) && chmod(path, mode) < 0 ? -errno : 0;
}

static int take_lock(struct mdbus_daemon *d)
{
	char path[MDBUS_RUN_PATH_MAX + 16], text[32] = "";
	struct stat held, named;

	snprintf(path, sizeof(path), "%s/mdbusd.lock", d->run);
	for (;;) {
		d->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
		if (d->lock_fd < 0)
			return -errno;
		if (flock(d->lock_fd, LOCK_EX | LOCK_NB) < 0) {
			int rc = errno == EWOULDBLOCK ? -EBUSY : -errno;

			if (rc == -EBUSY && read(d->lock_fd, text, sizeof(text) - 1u) >= 0)
				mdbus_say("another mdbusd (pid %.*s) runs in %s: there is one a host; stop it, or set "
				          "MDBUS_RUN_DIR", (int)strspn(text, "0123456789"), text, d->run);
			close(d->lock_fd);
			d->lock_fd = -1;
			return rc;
		}
		/* its last owner may have removed the name since we opened it */
		if (fstat(d->lock_fd, &held) == 0 && stat(path, &named) == 0 && held.st_ino == named.st_ino)
			break;
		close(d->lock_fd);
	}
	int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());

	MDBUS_HOOK("run.locked");
	if (ftruncate(d->lock_fd, 0) < 0 || pwrite(d->lock_fd, text, (size_t)n, 0) != n)
		return -errno;
	return 0;
}

static void drop_lock(struct mdbus_daemon *d)
{
	char path[MDBUS_RUN_PATH_MAX + 16];

	if (d->lock_fd < 0)
		return;
	snprintf(path, sizeof(path), "%s/mdbusd.lock", d->run);
	unlink(path);
	close(d->lock_fd);
	d->lock_fd = -1;
}

uint64_t mdbus_rundir_hash(const char *run)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (const char *c = run; *c; c++)
		h = (h ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
	return h;
}

static int find_store(struct mdbus_daemon *d)
{
	struct statfs fs;

	if (statfs(d->run, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC)) {
		memcpy(d->store, d->run, sizeof(d->store));
		return 0;
	}
	snprintf(d->store, sizeof(d->store), "/dev/shm/mdbus-%016llx", (unsigned long long)mdbus_rundir_hash(d->run));
	if (mkdir(d->store, 0700) < 0 && errno != EEXIST) {
		int rc = -errno;

		mdbus_say("%s: %s: shared memory needs a tmpfs; mount one at /dev/shm or at %s", d->store, strerror(-rc), d->run);
		return rc;
	}
	return own_directory(d->store, 0700);
}

int mdbus_rundir_open(struct mdbus_daemon *d)
{
	bool shared = d->config.subscriber_gid >= 0 || d->config.ingest_gid >= 0 || d->config.admin_gid >= 0;
	char wanted[MDBUS_RUN_PATH_MAX], full[PATH_MAX];

	snprintf(wanted, sizeof(wanted), "%s", mdbus_run_dir());
	int rc = wanted[0] == '/' ? make_parents(wanted) : -EINVAL;

	if (rc == 0 && !realpath(wanted, full))
		rc = -errno;
	if (rc == 0 && strlen(full) > RUN_LENGTH_MAX)
		rc = -ENAMETOOLONG;
	if (rc < 0) {
		mdbus_say("run directory %s: %s: set MDBUS_RUN_DIR to an absolute path of at most %u characters", wanted,
		          strerror(-rc), RUN_LENGTH_MAX);
		return rc;
	}
	snprintf(d->run, sizeof(d->run), "%.*s", (int)RUN_LENGTH_MAX, full);
	rc = own_directory(d->run, shared ? 0711 : 0700);
	if (rc == 0)
		rc = take_lock(d);
	if (rc == -EBUSY)
		return rc; /* what is there is the other one's */
	if (rc == 0)
		rc = find_store(d);
	if (rc < 0) {
		mdbus_say("run directory %s: %s%s", d->run, strerror(-rc), mdbus_text_mend(rc));
		drop_lock(d);
		rmdir(d->run); /* fails if there is anything in it */
	}
	return rc;
}

static bool is_bus_entry(const struct dirent *e)
{
	return strncmp(e->d_name, "bus.", 4) == 0 && strlen(e->d_name) < MDBUS_NAME_MAX + 4u && e->d_name[4] != '\0';
}

static uint32_t list_buses(const char *dir, char names[][MDBUS_NAME_MAX], uint32_t n, uint32_t max)
{
	DIR *at = opendir(dir);
	struct dirent *e;

	while (at && n < max && (e = readdir(at))) {
		uint32_t known = 0;

		while (is_bus_entry(e) && known < n && strcmp(names[known], e->d_name + 4) != 0)
			known++;
		if (is_bus_entry(e) && known == n)
			snprintf(names[n++], MDBUS_NAME_MAX, "%s", e->d_name + 4);
	}
	if (at)
		closedir(at);
	return n;
}

uint32_t mdbus_rundir_buses(const struct mdbus_daemon *d, char names[][MDBUS_NAME_MAX], uint32_t max)
{
	uint32_t n = list_buses(d->run, names, 0, max);

	return strcmp(d->run, d->store) == 0 ? n : list_buses(d->store, names, n, max);
}

void mdbus_rundir_bus_paths(const struct mdbus_daemon *d, const char *name, struct mdbus_served *b)
{
	snprintf(b->dir, sizeof(b->dir), "%.190s/bus.%s", d->store, name);
	for (int i = 0; i < 2; i++) {
		b->huge[i][0] = '\0';
		if (d->huge[i][0])
			snprintf(b->huge[i], sizeof(b->huge[i]), "%.190s/bus.%s", d->huge[i], name);
	}
}

static int make_directory(const char *path)
{
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

int mdbus_rundir_bus_make(const struct mdbus_daemon *d, const char *name, const struct mdbus_served *b)
{
	char link[2 * MDBUS_RUN_PATH_MAX];
	int rc = make_directory(b->dir);

	MDBUS_HOOK("bus.directory");
	for (int i = 0; i < 2 && rc == 0; i++)
		rc = b->huge[i][0] ? make_directory(b->huge[i]) : 0;
	if (rc < 0 || strcmp(d->run, d->store) == 0)
		return rc;
	snprintf(link, sizeof(link), "%s/bus.%s", d->run, name);
	unlink(link);
	return symlink(b->dir, link) < 0 ? -errno : 0;
}

static void empty_directory(const char *path)
{
	DIR *at = opendir(path);
	struct dirent *e;

	mdbus_segment_remove(path, "bus");
	MDBUS_HOOK("bus.remove.begun");
	while (at && (e = readdir(at))) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			mdbus_segment_remove(path, e->d_name);
		MDBUS_HOOK("bus.remove.segment");
	}
	if (at)
		closedir(at);
	MDBUS_HOOK("bus.remove.empty");
	rmdir(path);
}

void mdbus_rundir_bus_remove(const struct mdbus_daemon *d, const char *name, const struct mdbus_served *b)
{
	char link[2 * MDBUS_RUN_PATH_MAX];

	empty_directory(b->dir);
	for (int i = 0; i < 2; i++) {
		if (b->huge[i][0])
			empty_directory(b->huge[i]);
	}
	snprintf(link, sizeof(link), "%s/bus.%s", d->run, name);
	unlink(link);
}

void mdbus_rundir_close(struct mdbus_daemon *d, bool everything)
{
	char path[MDBUS_RUN_PATH_MAX + 32];

	for (size_t i = 0; i < sizeof(socket_names) / sizeof(socket_names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", d->run, socket_names[i]);
		unlink(path);
	}
	if (everything) {
		MDBUS_HOOK("run.close.sockets");
		(void)mdbus_dpdk_files_remove(d->run, NULL);
		snprintf(path, sizeof(path), "%s/mdbusd.lock", d->run);
		unlink(path);
		MDBUS_HOOK("run.close.lock");
		if (strcmp(d->run, d->store) != 0)
			rmdir(d->store);
		rmdir(d->run);
	}
	if (d->lock_fd >= 0)
		close(d->lock_fd);
	d->lock_fd = -1;
}
