/* What /dev/kmaps (modules/kmaps.c) does for programs, by ioctl. */
#ifndef KMAPS_H
#define KMAPS_H

enum { KMAP_PAGES = 8 };

enum kmaps_request {
        KMAP,           /* may sleep; the slot */
        KUNMAP,
        LOOK,           /* the page's first word */
        STORE,          /* the upper half of the argument into it */
        MAPPED,         /* whether the page has an address */
        ASKING,         /* how many are in kmap */
};

#endif
