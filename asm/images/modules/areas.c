/*
 * /dev/areas, for the images of vmalloc.  Requests: 0 an area of so many pages, each with its number from 1 on in its last
 * word (the area's page number), 1 load a word, 2 free the area, 3 whether there is a word at an address (0 or -EFAULT).
 */
#include "module.h"

static int ioctl(int file, u32 request, u32 argument)
{
        u32 word, at;
        int there;

        switch (request) {
        case 0: {
                u32 *area = vmalloc(argument * PAGE_SIZE);
                for (at = 1; area && at <= argument; at++)
                        area[at * 1024 - 1] = at;
                return area ? (int)((u32)area >> 12) : -ENOMEM;
        }
        case 1:
                return *(volatile u32 *)argument;
        case 2:
                vfree((void *)argument);
                return 0;
        case 3:
                set_fs(KERNEL_DS);
                there = __get_user(&word, (void *)argument, 4);
                set_fs(USER_DS);
                return there;
        }
        return -EINVAL;
}

static const struct file_operations operations = { 0, 0, 0, 0, ioctl };

int init_module(void) { return register_chrdev("areas", &operations) < 0; }
void cleanup_module(void) { unregister_chrdev("areas"); }
