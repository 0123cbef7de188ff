/* SPDX-License-Identifier: Apache-2.0
 *
 * mdbus-recover BUS/LINE - the process of a recovery line: asks request servers for what all other lines have missed.
 *
 * It is an ordinary line with a backend that asks (backend_recover.c); see the configuration's backend = "recover".
 */
#include "line_program.h"

int main(int argc, const char **argv)
{
	return mdbus_line_program("mdbus-recover", true, argc, argv);
}
