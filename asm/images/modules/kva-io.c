/*
 * A page that is locked for IO keeps its kva (post 001).  As with the buffers of 2.2, the driver has the pages' kernel
 * addresses and nothing else, and asks for the physical one when the card is free: long after the buffers were queued.
 * Meanwhile four other pages go through the one slot that is left.
 */
#include "module.h"

#define CARD 0x80000000u
#define MEMORY 0x100000u
#define VECTOR 0x46
#define STATUS (card + 0x0C)
#define BURST 512u
#define STORE 2u
#define LOAD 3u
#define INTERRUPT 0x100u
#define REQUESTS 3
#define OTHERS 4

static struct request {
        struct page *page;
        u32 *data;                      /* b_data */
        u32 command, offset;
} queue[REQUESTS];
static u32 volatile head;
static u8 *card;

static void start(struct request *next)
{
        writel(__pa(next->data), card + 0x20);
        writel(PAGE_SIZE, card + 0x28);
        writel(next->offset, card + 0x30);
        writel(next->command | INTERRUPT, card + 0x34);
}

static void on_done(u32 vector)
{
        writel(3, STATUS);
        unlock_page(queue[head].page);
        if (++head < REQUESTS)
                start(&queue[head]);
}

static void submit(u32 n, u32 command)
{
        struct request *mine = &queue[n];
        u32 at;

        mine->page = alloc_pages(GFP_USER | GFP_HIGHMEM, 0);
        mine->data = kva_get(mine->page);
        mine->command = command, mine->offset = n * PAGE_SIZE;
        for (at = 0; at < PAGE_SIZE / 4; at++)
                mine->data[at] = 0x1000000 * (n + 1) + at;
        lock_page(mine->page);
        kva_put(mine->page);
}

static u32 whole(const u32 *words, u32 first)
{
        u32 at;
        for (at = 0; at < PAGE_SIZE / 4; at++)
                if (readl(words + at) != first + at)
                        return 0;
        return 1;
}

int init_module(void)
{
        struct page *other[OTHERS];
        u32 *at, n;

        card = vremap(CARD, 2 << 20);
        CHECK(1, card != NULL && request_irq(VECTOR, on_done) == 0);
        writel(VECTOR, card + 0x10);
        writel(BURST, card + 0x38);
        for (n = 0; n < 2 * PAGE_SIZE / 4; n++)
                writel(0xD0000000u + n, card + MEMORY + 4 * n);
        submit(0, STORE), submit(1, STORE), submit(2, LOAD);
        start(&queue[0]);
        for (n = 0; n < OTHERS; n++) {
                other[n] = alloc_pages(GFP_USER | GFP_HIGHMEM, 0);
                at = kva_get(other[n]);
                memset(at, 0x40 + n, PAGE_SIZE);
                kva_put(other[n]);
                CHECK(2, head == 0 && readl(STATUS) == 4);              /* one burst; the first is under way */
        }
        for (n = 0; n < 64 && head < REQUESTS; n++)
                readl(STATUS);
        CHECK(3, head == REQUESTS);

        for (n = 0; n < OTHERS; n++) {
                at = kva_get(other[n]);
                CHECK(4, at[0] == 0x40404040 + 0x01010101 * n && at[PAGE_SIZE / 4 - 1] == at[0]);
                kva_put(other[n]);
        }
        for (n = 0; n < 2; n++) {
                CHECK(5, whole(kva_get(queue[n].page), 0xD0000000u + n * PAGE_SIZE / 4));
                kva_put(queue[n].page);
        }
        CHECK(6, whole((u32 *)(card + MEMORY + 2 * PAGE_SIZE), 0x3000000));
        CHECK(7, !(queue[0].page->flags & PG_LOCKED));
        for (n = 0; n < OTHERS; n++) {
                CHECK(8, kva_get(other[n]) && (n < 3 || page_kva(queue[0].page) == NULL)); /* unlocked, it was taken */
                kva_put(other[n]);
        }
        for (n = 0; n < OTHERS; n++)
                __free_pages(other[n], 0);
        for (n = 0; n < REQUESTS; n++)
                __free_pages(queue[n].page, 0);
        free_irq(VECTOR);
        vfree(card);
        printk("kva-io: %u pages under IO kept their addresses, %u others shared the slot that was left\n", REQUESTS, OTHERS);
        return 0;
}
