/* SPDX-License-Identifier: Apache-2.0
 *
 * mdbus/hook.h - named points around every store to shared memory, for tests that stop or kill a process there.
 *
 * Compiled in only with MDBUS_HOOKS (make HOOKS=1); otherwise nothing is left of them.  A test links its own
 * mdbus_hook(); the library never defines one.
 */
#ifndef MDBUS_HOOK_H
#define MDBUS_HOOK_H

#ifdef MDBUS_HOOKS
void mdbus_hook(const char *point);
#define MDBUS_HOOK(point) mdbus_hook(point)
#else
#define MDBUS_HOOK(point) ((void)0)
#endif

#endif
