/* The vectors' memory: the arena, its pages that are absent or that the kernel brings, and what has changed in it. */
static u32 *shared;
static u8 *code;                                                /* the code pages, to write to */
static u32 memory_file, code_file;
static struct { u32 page, left; } absent[MOST_ABSENT];         /* pages that a fault brings back; 0: none */

static const struct { u32 address, pages, base; } areas[] = {
    {DATA, 2, 0x1000}, {STACK, 2, 0x4000}, {LOW, 2, 0x6000} };  /* 0x3000: the read-only page */
static u32 there = 3;                                           /* areas that could be mapped */

static u8 *writable(u32 address)
{
    return address - CODE < CODE_SIZE ? code + (address - CODE) : (u8 *)address;
}

static int same(const u32 *a, const u32 *b, const u32 *c)       /* eight words, three times */
{
    u32 differ = 0;
    for (u32 at = 0; at < 8; at++) differ |= (a[at] ^ c[at]) | (b[at] ^ c[at]);
    return !differ;
}

static void protect(u32 page, u32 protection)
{
    call(125, page, PAGE, protection, 0, 0, 0);                 /* mprotect */
}

static u32 usual(u32 page)
{
    return page - CODE < CODE_SIZE ? PROT_R | PROT_X : PROT_R | PROT_W;
}

static u32 place_of(u32 page)                                   /* in shared memory: what it holds by this vector */
{
    for (u32 area = 0; area < 3; area++)
        if (page - areas[area].address < areas[area].pages * PAGE) return 0x9000 + areas[area].base + page - areas[area].address;
    return 0;
}

/* All absent pages as they are otherwise, or as the vector wants them. */
static void show(int all)
{
    for (u32 each = 0; each < MOST_ABSENT; each++) {
        u32 page = absent[each].page;
        if (page && absent[each].left < FRESH) protect(page, all ? usual(page) : absent[each].left);
    }
}

/* Pages that the kernel is to bring. */
static void renew(void)
{
    for (u32 each = 0; each < MOST_ABSENT; each++) {
        u32 page = absent[each].page, at = place_of(page);
        if (!page || absent[each].left < FRESH) continue;
        if (!at) map(page, PAGE, PROT_R | PROT_X, SHARED_MAP | REPLACE, code_file, page - CODE);
        else if (absent[each].left == FILED) map(page, PAGE, PROT_R | PROT_W, PRIVATE_FILE | REPLACE, memory_file, at);
        else {
            map(page, PAGE, PROT_R | PROT_W, PRIVATE_ANON | REPLACE, ~0u, 0);
            fill((u8 *)shared + at, 0, PAGE);
        }
    }
}

/* Their contents, the vector being over, are the arena's; a file's pages give way to others. */
static void settle(void)
{
    for (u32 each = 0; each < MOST_ABSENT; each++) {
        u32 page = absent[each].page, at = place_of(page);
        if (!page || absent[each].left != FILED || !at) continue;
        map(page, PAGE, PROT_R | PROT_W, PRIVATE_ANON | REPLACE, ~0u, 0);
        copy((u8 *)page, (u8 *)shared + at - 0x9000, PAGE);
    }
}

static int bring_back(u32 address)
{
    for (u32 each = 0; each < MOST_ABSENT; each++)
        if (absent[each].page && absent[each].left < FRESH && absent[each].page == (address & ~(PAGE - 1u))) {
            protect(absent[each].page, usual(address));
            absent[each].page = 0;
            return 1;
        }
    return 0;
}

/* The words of the arena that differ from what they were, restored if the vector is over.  Returns the list's end. */
static u32 *changes(u32 *out, int over)
{
    for (u32 area = 0; area < there; area++) {
        u32 *now = (u32 *)areas[area].address, *was = (u32 *)((u8 *)shared + 0x9000 + areas[area].base);
        u32 *base = (u32 *)((u8 *)shared + areas[area].base);
        for (u32 at = 0; at < areas[area].pages * PAGE / 4; at++) {
            if (!(at & 7))
                while (at < areas[area].pages * PAGE / 4 && same(now + at, was + at, base + at)) at += 8;
            if (at >= areas[area].pages * PAGE / 4) break;
            if (now[at] != was[at]) { *out++ = (u32)(now + at); *out++ = now[at]; }
            if (over && now[at] != base[at]) now[at] = base[at];
            if (over && was[at] != base[at]) was[at] = base[at];
        }
    }
    return out;
}
