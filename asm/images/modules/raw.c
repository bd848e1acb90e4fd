/*
 * /dev/raw: laid out as /dev/busy is, instruction for instruction.  Its exception table has the instruction behind the one
 * that faults, which is no way out for that one.
 */
#define NAME    "raw"
#define WHICH   2
#define FAULTS  "2b"
#include "busy.h"
