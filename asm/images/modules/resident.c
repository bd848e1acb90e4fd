/*
 * /dev/resident, for the image kernel-resident: 200 KB of kernel data by kmalloc and vmalloc with a pattern.  Request 0: are
 * they what they were, in the frames where they were?  Request 1: free frames.
 */
#include "module.h"

#define BYTES (100u << 10)
#define PAGES (BYTES / PAGE_SIZE)

static u32 *near, *far, frame[PAGES];

static int ioctl(int file, u32 request, u32 argument)
{
        u32 at;

        if (request == 1)
                return nr_free_pages();
        for (at = 0; at < BYTES / 4; at++)
                if (near[at] != at * 5 || far[at] != at * 9)
                        return 1;
        for (at = 0; at < PAGES; at++)
                if (vmalloc_to_pfn(far + at * 1024) != frame[at])
                        return 2;
        return 0;
}

static const struct file_operations operations = { 0, 0, 0, 0, ioctl };

int init_module(void)
{
        u32 at;

        near = kmalloc(BYTES, GFP_KERNEL);
        far = vmalloc(BYTES);
        CHECK(1, near && far);
        for (at = 0; at < BYTES / 4; at++)
                near[at] = at * 5, far[at] = at * 9;
        for (at = 0; at < PAGES; at++)
                frame[at] = vmalloc_to_pfn(far + at * 1024);
        return register_chrdev("resident", &operations) < 0;
}

void cleanup_module(void)
{
        unregister_chrdev("resident");
        kfree(near);
        vfree(far);
}
