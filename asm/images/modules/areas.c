/*
 * /dev/areas, for the images of vmalloc.  Requests: 0 an area of so many pages (its address), 1 load a word, 2 free the
 * area, 3 the first address behind all areas of this size's first fit.
 */
#include "module.h"

static int ioctl(int file, u32 request, u32 argument)
{
        switch (request) {
        case 0: {
                u32 *area = vmalloc(argument * PAGE_SIZE);
                if (area)
                        area[argument * 1024 - 1] = argument;
                return area ? (int)((u32)area >> 12) : -ENOMEM;
        }
        case 1:
                return *(volatile u32 *)argument;
        case 2:
                vfree((void *)argument);
                return 0;
        }
        return -EINVAL;
}

static const struct file_operations operations = { 0, 0, 0, 0, ioctl };

int init_module(void) { return register_chrdev("areas", &operations) < 0; }
void cleanup_module(void) { unregister_chrdev("areas"); }
