/*
 * A module whose symbols another one uses: see module-user.
 */
#include "module.h"

int library_value = 5;
int library_add(int one, int other) { return one + other + library_value; }

int init_module(void) { return 0; }
