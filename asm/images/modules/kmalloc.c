/*
 * kmalloc as post 002 has it: 13 buckets, 8 bytes of header in front of each piece, 128 KB less the header at most, in one
 * piece, below 16 MB for DMA; and what comes back leaves nothing behind.
 */
#include "module.h"

#define USED 0xFFAA0055u
#define DMA 0xFF00AA55u
#define LARGEST 131048u
#define MANY 200

static const u32 bucket[] = { 32, 64, 128, 252, 508, 1020, 2040, 4080, 8176, 16368, 32752, 65520, 131056 };
static u8 *piece[MANY];

int init_module(void)
{
        u32 free = nr_free_pages(), at, other, size;

        for (at = 0; at < sizeof bucket / sizeof *bucket; at++) {
                u32 *p = kmalloc(bucket[at] - 8, GFP_KERNEL);
                CHECK(1, p != NULL && p[-2] == USED && p[-1] == bucket[at] - 8);
                memset(p, at, bucket[at] - 8);
                kfree(p);
                p = kmalloc(bucket[at] - 7, GFP_KERNEL | GFP_DMA);
                CHECK(2, (p != NULL) == (bucket[at] - 7 <= LARGEST));
                CHECK(3, p == NULL || (p[-2] == DMA && virt_to_phys(p) + bucket[at] - 7 <= 16u << 20));
                kfree(p);
        }
        CHECK(4, kmalloc(LARGEST + 1, GFP_KERNEL) == NULL);
        CHECK(5, nr_free_pages() == free);

        for (at = 0; at < MANY; at++) {
                size = 1 + at * 37 % 700;
                piece[at] = kmalloc(size, GFP_KERNEL);
                CHECK(6, piece[at] != NULL && ((u32)piece[at] & 3) == 0);
                memset(piece[at], at, size);
        }
        for (at = 0; at < MANY; at++)
                for (other = 0, size = 1 + at * 37 % 700; other < size; other++)
                        CHECK(7, piece[at][other] == (u8)at);
        for (at = 0; at < MANY; at += 2)
                kfree(piece[at]);
        for (at = 1; at < MANY; at += 2)
                kfree(piece[at]);
        CHECK(8, nr_free_pages() == free);

        for (at = 0; at < 3; at++)                      /* 2040 bytes: two pieces an area */
                piece[at] = kmalloc(2000, GFP_KERNEL | GFP_DMA);
        CHECK(12, (u32)piece[0] / PAGE_SIZE == (u32)piece[1] / PAGE_SIZE);
        kfree(piece[0]);                                /* its area was full, and is DMA's still */
        piece[3] = kmalloc(2000, GFP_KERNEL);
        CHECK(9, virt_to_phys(piece[3]) >= 16u << 20);
        piece[4] = kmalloc(2000, GFP_KERNEL | GFP_DMA);
        CHECK(10, piece[4] == piece[0]);
        for (at = 1; at < 5; at++)
                kfree(piece[at]);
        CHECK(11, nr_free_pages() == free);
        printk("kmalloc: 13 buckets up to %u bytes\n", LARGEST);
        return 0;
}
