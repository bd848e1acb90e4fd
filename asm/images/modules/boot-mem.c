/*
 * mem=24m on a machine of 32 MB, and a reservation made at boot.  What mem= cuts off is mapped nowhere and faults;
 * vremap, which refuses RAM, takes it for a device's.  The reservation is in one piece at a known physical address, and
 * nothing that is done to it gives it back.
 */
#include "module.h"

#define END (24u << 20)
#define RAM (32u << 20)
#define RESERVED (256u << 10)

int init_module(void)
{
        u32 value, size = 0, free, at, *beyond;
        void *area;

        CHECK(1, high_memory == PAGE_OFFSET + END);
        set_fs(KERNEL_DS);
        CHECK(2, __get_user(&value, (void *)(high_memory - 4), 4) == 0);
        for (at = high_memory; at < PAGE_OFFSET + RAM; at += PAGE_SIZE)
                CHECK(3, __get_user(&value, (void *)at, 4) == -EFAULT);
        set_fs(USER_DS);

        CHECK(4, vremap(END - PAGE_SIZE, PAGE_SIZE) == NULL);
        beyond = vremap(END, PAGE_SIZE);
        CHECK(5, beyond != NULL && (u32)beyond != PAGE_OFFSET + END);
        beyond[0] = 0x12345678;
        CHECK(6, beyond[0] == 0x12345678 && vmalloc_to_pfn(beyond) == END / PAGE_SIZE);
        vfree(beyond);

        area = boot_reservation("frames", &size);
        CHECK(7, area != NULL && size == RESERVED);
        free = nr_free_pages();
        for (at = (u32)area; at < (u32)area + size; at += PAGE_SIZE) {
                CHECK(8, !(pfn_to_page(virt_to_phys(at) / PAGE_SIZE)->flags & PG_OPEN));
                free_page(at);
                writel(at, (void *)at);
        }
        CHECK(9, nr_free_pages() == free);
        for (at = (u32)area; at < (u32)area + size; at += PAGE_SIZE)
                CHECK(10, readl((void *)at) == at);
        CHECK(11, boot_reservation("nobody", NULL) == NULL);
        printk("boot-mem: %u MB of lowmem; 24 MB and up are reached by vremap alone\n", (high_memory - PAGE_OFFSET) >> 20);
        printk("boot-mem: %u KB in one piece below 16 MB, and for good\n", size >> 10);
        CHECK(12, virt_to_phys(area) + size < 16 << 20);
        return 0;
}
