/*
 * /dev/flip, for the image bug-flush: request 0 exchanges the pages at the two user addresses that `argument` points to, so
 * that a picture that is drawn behind the scene is shown without a copy.  Their entries change places.
 */
#include "module.h"

/* The entry of a user address, through the tables that CR3 holds: its low word, which is all there is below 4 GB. */
static u32 *entry_of(u32 address)
{
        u32 cr3, cr4, entry;

        asm("mov %%cr3, %0\n\tmov %%cr4, %1" : "=r"(cr3), "=r"(cr4));
        if (cr4 & 0x20) {
                unsigned long long *table = phys_to_virt(cr3 & ~31u);
                table = phys_to_virt((u32)table[address >> 30] & -PAGE_SIZE);
                table = phys_to_virt((u32)table[address >> 21 & 511] & -PAGE_SIZE);
                return (u32 *)(table + (address >> 12 & 511));
        }
        entry = ((u32 *)phys_to_virt(cr3 & -PAGE_SIZE))[address >> 22];
        return (u32 *)phys_to_virt(entry & -PAGE_SIZE) + (address >> 12 & 1023);
}

static void forget(u32 address)
{
        asm volatile("invlpg (%0)" : : "r"(address) : "memory");
}

static __attribute__((noinline)) void exchange(u32 front, u32 back)
{
        u32 *one = entry_of(front), *other = entry_of(back), entry = *one;

        *one = *other;
        *other = entry;
        forget(front);
        forget(back);
}

static int ioctl(int file, u32 request, u32 argument)
{
        u32 pages[2];

        if (request != 0 || copy_from_user(pages, (void *)argument, sizeof pages))
                return -EINVAL;
        exchange(pages[0], pages[1]);
        return 0;
}

static const struct file_operations operations = { 0, 0, 0, 0, ioctl };

int init_module(void) { return register_chrdev("flip", &operations) < 0; }
void cleanup_module(void) { unregister_chrdev("flip"); }
