/* What /dev/share (compare/share-device.c) does for programs, by ioctl. */
#ifndef SHARE_H
#define SHARE_H

enum { SHARE_PAGES = 1024, BOXES = 32 };

enum share_request {
        SHARE_KVA,      /* how addresses are got from here on; the argument is the number of pages */
        SHARE_KMAP,
        SHARE_WINDOWS,
        SHARE_PUT,      /* box << 16 | page: a box that is full stays as it is, EBUSY */
        SHARE_TAKE,     /* box: EBUSY when it is empty, EIO when the page is another one */
};

#endif
