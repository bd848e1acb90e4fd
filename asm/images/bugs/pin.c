/*
 * /dev/pin, for the image bug-cow: request 0 pins the page at a user address, as a driver does before a device writes
 * to it, so that the frame stays; request 1 gives it back, and request 2 gives up a transfer that never began.
 */
#include "module.h"

static struct page *pinned;

/* The structure of the page behind a user address, through the tables that CR3 holds. */
static struct page *user_page(u32 address)
{
        u32 cr3, cr4, entry;

        asm("mov %%cr3, %0\n\tmov %%cr4, %1" : "=r"(cr3), "=r"(cr4));
        if (cr4 & 0x20) {
                unsigned long long *table = phys_to_virt(cr3 & ~31u);
                table = phys_to_virt((u32)table[address >> 30] & -PAGE_SIZE);
                table = phys_to_virt((u32)table[address >> 21 & 511] & -PAGE_SIZE);
                return pfn_to_page((u32)(table[address >> 12 & 511] >> 12) & 0xFFFFFF);
        }
        entry = ((u32 *)phys_to_virt(cr3 & -PAGE_SIZE))[address >> 22];
        entry = ((u32 *)phys_to_virt(entry & -PAGE_SIZE))[address >> 12 & 1023];
        return pfn_to_page(entry >> 12);
}

static __attribute__((noinline)) int unpin(void)
{
        if (!pinned)
                return -EINVAL;
        pinned->count--;
        pinned = NULL;
        return 0;
}

/* The device was busy: nothing was transferred. */
static __attribute__((noinline)) int cancel(void)
{
        pinned->count--;
        return unpin();
}

static int ioctl(int file, u32 request, u32 address)
{
        switch (request) {
        case 0:
                pinned = user_page(address);
                pinned->count++;
                return 0;
        case 1:
                return unpin();
        case 2:
                return cancel();
        }
        return -EINVAL;
}

static const struct file_operations operations = { 0, 0, 0, 0, ioctl };

int init_module(void) { return register_chrdev("pin", &operations) < 0; }
void cleanup_module(void) { unregister_chrdev("pin"); }
