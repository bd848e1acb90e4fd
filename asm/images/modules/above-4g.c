/*
 * Pages above 4 GB: a window, kva, kmap's cousins and vmalloc show one page under several addresses, and nobody reaches
 * the frame 4 GB lower instead, which an address of 32 bits would name.  A card with 32 address lines cannot be told of
 * such a page: it fills one of lowmem, and the CPU copies (2.4's create_bounce).
 */
#include "module.h"

#define LINE 0x100000u                  /* the first frame above 4 GB */
#define CARD 0xA0000000u
#define PATTERN 0x5EA51DE5u
#define DONE 1
#define REFUSED 2

static u8 *card;

/* What the card says to a transfer of a page from its memory. */
static u32 fill(u32 frame)
{
        u32 status;

        writel(frame << 12, card + 0x20);
        writel(frame >> 20, card + 0x24);
        writel(PAGE_SIZE, card + 0x28);
        writel(PATTERN, card + 0x2C);
        writel(1, card + 0x34);
        status = readl(card + 0x0C);
        writel(status, card + 0x0C);
        return status;
}

static u32 word(struct page *page, u32 index)
{
        u32 *window = kmap_atomic(page, KM_USER0), found = window[index];

        kunmap_atomic(window, KM_USER0);
        return found;
}

int init_module(void)
{
        struct page *page = alloc_pages(GFP_USER | GFP_HIGHMEM, 0), *copy = alloc_pages(GFP_USER | GFP_HIGHMEM, 0);
        u32 *window, *kva, *area, before, bounce;

        CHECK(1, page && copy && page_to_pfn(page) >= LINE && page_to_pfn(copy) >= LINE);
        CHECK(2, page->flags & PG_HIGHMEM && pfn_valid(page_to_pfn(page)));
        before = *(u32 *)phys_to_virt((page_to_pfn(page) - LINE) * PAGE_SIZE);
        CHECK(3, before != ~PATTERN && page_to_pfn(page) - LINE < virt_to_phys(high_memory) / PAGE_SIZE);

        window = kmap_atomic(page, KM_USER0);
        window[0] = ~PATTERN;
        CHECK(4, *(u32 *)phys_to_virt((page_to_pfn(page) - LINE) * PAGE_SIZE) == before);
        CHECK(5, vmalloc_to_pfn(window) == page_to_pfn(page) && kmap_atomic_to_page(window) == page);
        kunmap_atomic(window, KM_USER0);
        kva = kva_get(page);
        CHECK(6, kva[0] == ~PATTERN && virt_to_page(kva) == page && vmalloc_to_pfn(kva) == page_to_pfn(page));
        CHECK(7, __pa(kva) == -1u);                     /* no word holds it */
        kva[1023] = 7;
        kva_put(page);
        copy_highpage(copy, page);
        CHECK(8, word(copy, 0) == ~PATTERN && word(copy, 1023) == 7);
        clear_highpage(copy);
        CHECK(9, word(copy, 0) == 0 && word(copy, 1023) == 0 && word(page, 0) == ~PATTERN);
        area = vmalloc(2 * PAGE_SIZE);
        CHECK(10, area && vmalloc_to_pfn(area) >= LINE && vmalloc_to_pfn(area + 1024) >= LINE);
        area[1023] = 1;
        area[1024] = 2;
        CHECK(11, area[1023] == 1 && word(virt_to_page(area + 1024), 0) == 2);
        vfree(area);

        card = vremap(CARD, PAGE_SIZE);
        bounce = __get_free_page(GFP_KERNEL);
        CHECK(12, card && bounce && fill(page_to_pfn(page)) == (DONE | REFUSED) && word(page, 0) == ~PATTERN);
        CHECK(13, fill(virt_to_phys(bounce) / PAGE_SIZE) == DONE);
        window = kmap_atomic(page, KM_BOUNCE_READ);
        memcpy(window, (void *)bounce, PAGE_SIZE);
        kunmap_atomic(window, KM_BOUNCE_READ);
        CHECK(14, word(page, 0) == PATTERN && word(page, 1023) == PATTERN);
        vfree(card);
        free_page(bounce);
        __free_pages(copy, 0);
        __free_pages(page, 0);
        printk("above-4g: one page under every address; the card fills another one, which is copied\n");
        return 0;
}
