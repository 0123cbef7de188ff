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

const struct mdbus_backend_ops *mdbus_dpdk_load(char *err, size_t errlen)
{
	const struct mdbus_backend_ops *ops;
	const uint64_t *layout;
	char path[PATH_MAX];
	void *module;

	if (!module_path(path, sizeof(path)) || access(path, R_OK) != 0) {
		snprintf(err, errlen, "backend = \"dpdk\": built without libdpdk; install libdpdk-dev (scripts/deps) and "
		         "rebuild, or choose another backend");
		return NULL;
	}
	module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (module == NULL) {
		snprintf(err, errlen, "backend = \"dpdk\": %s: install the DPDK libraries that it was built with, or rebuild",
		         dlerror());
		return NULL;
	}
	ops = dlsym(module, "mdbus_backend_dpdk");
	layout = dlsym(module, "mdbus_backend_dpdk_layout");
	if (ops == NULL || layout == NULL || *layout != MDBUS_ABI_LAYOUT) {
		snprintf(err, errlen, "%s: is of another build of mdbus than this program: install both together", path);
		dlclose(module);
		return NULL;
	}
	return ops;
}
