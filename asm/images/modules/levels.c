/*
 * /dev/levels, for the image gfp-levels.  Requests: 0 take frames at a level until it fails and keep them (the number is
 * the answer), 1 give them all back, 2 one frame at a level, given back at once (1 or 0), 3 free frames.
 */
#include "module.h"

static u32 *kept;

static int ioctl(int file, u32 request, u32 level)
{
        u32 *page, count = 0;

        switch (request) {
        case 0:
                while ((page = (u32 *)__get_free_page(level)) != NULL) {
                        page[0] = (u32)kept;
                        kept = page;
                        count++;
                }
                return count;
        case 1:
                while ((page = kept) != NULL) {
                        kept = (u32 *)page[0];
                        free_page((u32)page);
                        count++;
                }
                return count;
        case 2:
                page = (u32 *)__get_free_page(level);
                free_page((u32)page);
                return page != NULL;
        case 3:
                return nr_free_pages();
        }
        return -EINVAL;
}

static const struct file_operations operations = { 0, 0, 0, 0, ioctl };

int init_module(void) { return register_chrdev("levels", &operations) < 0; }
void cleanup_module(void)
{
        unregister_chrdev("levels");
        ioctl(0, 1, 0);
}
