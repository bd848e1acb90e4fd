/*
 * The code that only boot needed was given back: a call into it faults, for its page carries NX, or because it was
 * filled with INT3 where paging has no NX.
 */
#include "module.h"

int init_module(void)
{
        init_only();
        return 0;
}
