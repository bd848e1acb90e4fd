/*
 * /dev/busy: in use while somebody has it open.  Request 0 loads from an address that may fault, with a way out in the
 * module's exception table: -14 there.  Request 1 sets the module's own use word, which counts too; 2 tells where the module
 * lies (in pages), 3 which one it is.
 */
#define NAME    "busy"
#define WHICH   1
#define FAULTS  "1b"
#include "busy.h"
