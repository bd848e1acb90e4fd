/*
 * /dev/share: pages of highmem that go from one to another through boxes.  PUT gets a page's address, stores a word there and
 * leaves both in a box; TAKE reads every word of the page through the address that it finds there, whatever CPU it is on, and
 * gives the address back.  A window of kmap_atomic cannot be handed on: each side has one of its own.
 */
#include "module.h"
#include "share.h"

#define WORDS (PAGE_SIZE / 4)

static struct page *page[SHARE_PAGES];
static u32 pages, way, stamp[BOXES];
static struct {
        u32 *at, n;
        u32 volatile full;
} box[BOXES];

static u32 word(u32 n, u32 place) { return n * 0x9E3779B1u + place; }

static u32 *get(u32 n)
{
        return way == SHARE_KVA ? kva_get(page[n]) : way == SHARE_KMAP ? kmap(page[n]) : kmap_atomic(page[n], KM_USER0);
}

static void put(u32 n, u32 *at)
{
        if (way == SHARE_KVA)
                kva_put(page[n]);
        else if (way == SHARE_KMAP)
                kunmap(page[n]);
        else
                kunmap_atomic(at, KM_USER0);
}

/* The first words are those of the boxes. */
static int is_page(const u32 *at, u32 n)
{
        u32 differs = 0, place;

        for (place = BOXES; place < WORDS; place++)
                differs |= at[place] ^ word(n, place);
        return !differs;
}

static int fill(u32 count)
{
        u32 place, *at;

        if (count > SHARE_PAGES)
                return -EINVAL;
        for (; pages < count; pages++) {
                page[pages] = alloc_pages(GFP_USER | GFP_HIGHMEM, 0);
                if (!page[pages])
                        return -ENOMEM;
                at = kmap_atomic(page[pages], KM_USER0);
                for (place = 0; place < WORDS; place++)
                        at[place] = word(pages, place);
                kunmap_atomic(at, KM_USER0);
        }
        return 0;
}

static int give(u32 b, u32 n)
{
        u32 *at;

        if (box[b].full)
                return -EBUSY;
        at = get(n);
        if (!at)
                return -ENOMEM;
        at[b] = ++stamp[b];
        box[b].at = at, box[b].n = n;
        if (way == SHARE_WINDOWS)
                put(n, at);
        box[b].full = 1;
        return 0;
}

static int take(u32 b)
{
        u32 n = box[b].n, *at = box[b].at;
        int good;

        if (!box[b].full)
                return -EBUSY;
        if (way == SHARE_WINDOWS)
                at = get(n);
        good = at[b] == stamp[b] && is_page(at, n);
        put(n, at);
        box[b].full = 0;
        return good ? 0 : -EIO;
}

static int ioctl(int file, u32 request, u32 argument)
{
        u32 b = request == SHARE_PUT ? argument >> 16 : argument, n = argument & 0xFFFF;

        if (request < SHARE_PUT) {
                way = request;
                return fill(argument);
        }
        if (b >= BOXES || (request == SHARE_PUT && n >= pages))
                return -EINVAL;
        return request == SHARE_PUT ? give(b, n) : request == SHARE_TAKE ? take(b) : -EINVAL;
}

static const struct file_operations operations = { 0, 0, 0, 0, ioctl };

int init_module(void) { return register_chrdev("share", &operations) < 0; }

void cleanup_module(void)
{
        u32 n;

        unregister_chrdev("share");
        for (n = 0; n < pages; n++)
                __free_pages(page[n], 0);
}
