/*
 * /dev/hole, for the image isa-hole-clear.  Requests: 0 the physical frame behind a user address (through the tables that
 * CR3 holds), 1 move what lies from 14 to 16 MB and give the range to the card (pages moved, or an errno), 2 the first word
 * at 14 MB as the kernel sees it, 3 how many frames of the range are not reserved.
 */
#include "module.h"

static u32 frame(u32 address)
{
        u32 cr3, cr4, entry;

        asm("mov %%cr3, %0\n\tmov %%cr4, %1" : "=r"(cr3), "=r"(cr4));
        if (cr4 & 0x20) {
                unsigned long long *table = phys_to_virt(cr3 & ~31u);
                entry = table[address >> 30];
                table = phys_to_virt(entry & -PAGE_SIZE);
                entry = table[address >> 21 & 511];
                table = phys_to_virt(entry & -PAGE_SIZE);
                return (u32)(table[address >> 12 & 511] >> 12) & 0xFFFFFF;
        }
        entry = ((u32 *)phys_to_virt(cr3 & -PAGE_SIZE))[address >> 22];
        return ((u32 *)phys_to_virt(entry & -PAGE_SIZE))[address >> 12 & 1023] >> 12;
}

static int ioctl(int file, u32 request, u32 argument)
{
        u32 pfn, open = 0;

        switch (request) {
        case 0: return frame(argument);
        case 1: return isa_hole_clear();
        case 2: return *(volatile u32 *)phys_to_virt(14u << 20);
        case 3:
                for (pfn = 14u << 8; pfn < 16u << 8; pfn++)
                        open += (pfn_to_page(pfn)->flags & PG_OPEN) != 0;
                return open;
        }
        return -EINVAL;
}

static const struct file_operations operations = { 0, 0, 0, 0, ioctl };

int init_module(void) { return register_chrdev("hole", &operations) < 0; }
void cleanup_module(void) { unregister_chrdev("hole"); }
