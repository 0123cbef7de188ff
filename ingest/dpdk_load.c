/* SPDX-License-Identifier: Apache-2.0 */
#include "dpdk_load.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Where the module is, from where this program is.  False: /proc does not say. */
static bool module_path(char *path, size_t len)
{
	char self[PATH_MAX - 32];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n < 0)
		return false;
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (slash == NULL)
		return false;
	*slash = '\0';
	snprintf(path, len, "%s/../lib/mdbus/dpdk.so", self);
	return true;
}

/* Its symbol `name`; who: what asks, for messages. */
static void *load(const char *who, const char *name, char *err, size_t errlen)
{
	const uint64_t *layout;
	void *symbol;
	char path[PATH_MAX];
	void *module;

	if (!module_path(path, sizeof(path)) || access(path, R_OK) != 0) {
		snprintf(err, errlen, "%s: built without libdpdk; install libdpdk-dev (scripts/deps) and rebuild, or choose another", who);
		return NULL;
	}
	module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (module == NULL) {
		snprintf(err, errlen, "%s: %s: install the DPDK libraries that it was built with, or rebuild", who, dlerror());
		return NULL;
	}
	symbol = dlsym(module, name);
	layout = dlsym(module, "mdbus_backend_dpdk_layout");
	if (symbol == NULL || layout == NULL || *layout != MDBUS_ABI_LAYOUT) {
		snprintf(err, errlen, "%s: is of another build of mdbus than this program: install both together", path);
		dlclose(module);
		return NULL;
	}
	return symbol;
}

const struct mdbus_backend_ops *mdbus_dpdk_load(char *err, size_t errlen)
{
	return load("backend = \"dpdk\"", "mdbus_backend_dpdk", err, errlen);
}

const struct mdbus_feed_tx_ops *mdbus_dpdk_load_feed(char *err, size_t errlen)
{
	return load("--transport dpdk", "mdbus_feed_tx_dpdk", err, errlen);
}
