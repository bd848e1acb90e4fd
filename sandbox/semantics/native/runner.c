/* Runs vectors on this host's CPU.  A 32-bit program without a library, so that no register belongs to one.
 *
 * Each vector costs one signal: the handler finds the state behind the last vector in the signal's frame, writes it
 * down, puts the next vector's state there, and returns into it (sigreturn loads everything: general registers,
 * flags, segments, x87, MMX, SSE).  A vector ends at INT3, which fills its surroundings, or at its fault.
 *
 * Shared memory, the descriptor of the first argument (sandbox/semantics/wire.py has the same numbers):
 *   0       words: count, current, done, bytes of output
 *   0x1000  what the seven pages of the arena hold; 0xa000 the same with what the present vector asks for
 *   0x20000 vectors, one behind the other;  0x1020000 results
 * A vector may have pages that are absent, or only read, until it faults on them: the state at that fault is a record
 * of its own (GOES_ON), the page comes back, and the CPU goes on with the instruction.
 * The code pages are the descriptor of the second.  A byte on descriptor 0 starts a batch; a byte on descriptor 1 says that it is done.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

enum { LOW = 0x8000, CODE = 0x20000000, DATA = 0x20100000, READ_ONLY = DATA + 0x2000, STACK = 0x20200000 };
enum { PAGE = 4096, CODE_SIZE = 64 * PAGE, SHARED = 0x5020000, INPUT = 0x20000, OUTPUT = 0x1020000 };
enum { HANG = 255, HEADER = 13, HAS_FPU = 1, GOES_ON = 2, MOST_ABSENT = 8, FPU_SIZE = 220, ROOM = 64 * 1024, DIRECTION = 0x400 };
enum { PROT_R = 1, PROT_W = 2, PROT_X = 4, SHARED_MAP = 1, PRIVATE_ANON = 0x22, FIXED = 0x100010 };
enum { SIGILL = 4, SIGTRAP = 5, SIGBUS = 7, SIGFPE = 8, SIGSEGV = 11, SIGALRM = 14 };

struct registers { u32 gs, fs, es, ds, edi, esi, ebp, esp, ebx, edx, ecx, eax, trap, error, eip, cs, eflags, sp, ss;
                   u8 *fpu; u32 mask, cr2; };                   /* struct sigcontext, asm/sigcontext.h */
struct context { u32 flags, link, stack[3]; struct registers at; };
struct action { void (*handler)(int, void *, struct context *); u32 flags; void (*restorer)(void); u32 mask[2]; };

static u32 *shared;
static u8 *code;                                                /* the code pages, to write to */
static u8 *input, *output;
static u32 running, ticked;
static struct { u32 page, left; } absent[MOST_ABSENT];         /* pages that a fault brings back; 0: none */
static struct registers idle;
static u8 altstack[64 * 1024] __attribute__((aligned(64)));

static const struct { u32 address, pages, base; } areas[] = {
    {DATA, 2, 0x1000}, {STACK, 2, 0x4000}, {LOW, 2, 0x6000} };  /* 0x3000: the read-only page */

static u32 call(u32 number, u32 a, u32 b, u32 c, u32 d, u32 e, u32 f)
{
    u32 words[7] = {number, a, b, c, d, e, f}, *at = words, result;
    asm volatile("pushl %%ebx; pushl %%ebp; movl %1, %%eax; movl 4(%%eax), %%ebx; movl 8(%%eax), %%ecx;"
                 "movl 12(%%eax), %%edx; movl 16(%%eax), %%esi; movl 20(%%eax), %%edi; movl 24(%%eax), %%ebp;"
                 "movl (%%eax), %%eax; int $0x80; popl %%ebp; popl %%ebx"
                 : "=&a"(result), "+c"(at) : : "edx", "esi", "edi", "memory");
    return result;
}

static void copy(void *to, const void *from, u32 size)
{
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}

static void fill(void *to, u8 value, u32 size)
{
    asm volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
}

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

/* All absent pages as they are otherwise, or as the vector wants them. */
static void show(int all)
{
    for (u32 each = 0; each < MOST_ABSENT; each++)
        if (absent[each].page) protect(absent[each].page, all ? usual(absent[each].page) : absent[each].left);
}

static int bring_back(u32 address)
{
    for (u32 each = 0; each < MOST_ABSENT; each++)
        if (absent[each].page && absent[each].page == (address & ~(PAGE - 1u))) {
            protect(absent[each].page, usual(address));
            absent[each].page = 0;
            return 1;
        }
    return 0;
}

/* The words of the arena that differ from what they were, restored if the vector is over.  Returns the list's end. */
static u32 *changes(u32 *out, int over)
{
    for (u32 area = 0; area < 3; area++) {
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

static void save_fpu(u8 *out, const u8 *frame)                  /* struct _fpstate_32: FSAVE, 4 bytes, FXSAVE */
{
    const u8 *extended = frame + 112;
    copy(out, frame, 2);
    copy(out + 2, frame + 4, 2);
    *(u16 *)(out + 4) = extended[4];
    *(u16 *)(out + 6) = 0;
    copy(out + 8, extended + 24, 4);
    copy(out + 12, frame + 28, 80);
    copy(out + 92, extended + 160, 128);
}

static void load_fpu(u8 *frame, const u8 *in)
{
    u8 *extended = frame + 112;
    u16 tags = *(const u16 *)(in + 4), full = 0;
    for (u32 each = 0; each < 8; each++) full |= tags >> each & 1 ? 0 : 3 << 2 * each;
    fill(frame, 0, 28);
    copy(frame, in, 2);
    copy(frame + 4, in + 2, 2);
    *(u16 *)(frame + 8) = full;
    copy(frame + 28, in + 12, 80);
    copy(extended + 24, in + 8, 4);
    copy(extended + 160, in + 92, 128);
    extended[512] |= 3;                                         /* XSTATE_BV: x87 and SSE are there */
}

static void save(struct registers *at, int over)
{
    u32 *out = (u32 *)output, *vector = (u32 *)input, *end;
    u32 words[] = {0, at->trap, at->error, at->cr2, at->eip, at->eflags,
                   at->eax, at->ecx, at->edx, at->ebx, at->esp, at->ebp, at->esi, at->edi,
                   (at->cs & 0xffff) | at->ss << 16, (at->ds & 0xffff) | at->es << 16,
                   (at->fs & 0xffff) | at->gs << 16, vector[11] | (over ? 0 : GOES_ON)};
    copy(out, words, sizeof words);
    end = out + sizeof words / 4;
    if (vector[11] & HAS_FPU) { save_fpu((u8 *)end, at->fpu); end += FPU_SIZE / 4; }
    end = changes(end, over);
    *out = (u8 *)end - output;
    output = (u8 *)end;
    if (!over) return;
    fill(code + (vector[1] & ~63u) - CODE, 0xcc, 64);
    fill(writable(vector[1]), 0xcc, (vector + HEADER + (vector[11] & HAS_FPU ? FPU_SIZE / 4 : 0))[1]);
    fill(absent, 0, sizeof absent);
    input += vector[0];
    shared[1]++;
}

static void load(struct registers *at)
{
    u32 *vector = (u32 *)input, *patch = vector + HEADER;
    at->eip = vector[1]; at->eflags = vector[2];
    at->eax = vector[3]; at->ecx = vector[4]; at->edx = vector[5]; at->ebx = vector[6];
    at->esp = vector[7]; at->ebp = vector[8]; at->esi = vector[9]; at->edi = vector[10];
    at->cs = 0x23; at->ss = at->ds = at->es = 0x2b; at->fs = at->gs = 0;
    at->trap = at->error = at->cr2 = 0;
    if (vector[11] & HAS_FPU) { load_fpu(at->fpu, (u8 *)patch); patch += FPU_SIZE / 4; }
    for (u32 each = 0, missing = 0; each < vector[12]; each++) {
        u32 address = patch[0], size = patch[1];
        if (size >> 31) {
            absent[missing % MOST_ABSENT].page = address;
            absent[missing++ % MOST_ABSENT].left = size & 7;
            patch += 2;
            continue;
        }
        copy(writable(address), patch + 2, size);
        for (u32 area = 0; area < 3; area++)
            if (address - areas[area].address < areas[area].pages * PAGE)
                copy((u8 *)shared + 0x9000 + areas[area].base + (address - areas[area].address), patch + 2, size);
        patch += 2 + (size + 3) / 4;
    }
    show(0);
}

static void handler(int number, void *info, struct context *where)
{
    struct registers *at = &where->at;
    (void)info;
    if (number == SIGALRM) {
        if (!running || ticked != shared[1] + 1) { ticked = shared[1] + 1; return; }
        at->trap = HANG;
    }
    if (running) {
        int over = number != SIGSEGV || at->trap != 14 || !bring_back(at->cr2);
        show(1);
        save(at, over);
        if (!over) { show(0); return; }
    }
    else { u8 *fpu = at->fpu; running = 1; idle = *at; at->fpu = fpu; }
    if (shared[1] < shared[0] && output + ROOM < (u8 *)shared + SHARED) { load(at); return; }
    shared[3] = output - ((u8 *)shared + OUTPUT);
    running = 0;
    { u8 *fpu = at->fpu; *at = idle; at->fpu = fpu; }
}

asm(".text\nrestorer: movl $173, %eax; int $0x80\n"
    ".globl _start\n_start: leal 4(%esp), %eax; andl $-64, %esp; subl $60, %esp; pushl %eax; call main\n");
extern void restorer(void);

static u32 map(u32 address, u32 size, u32 protection, u32 flags, u32 descriptor, u32 offset)
{
    return call(192, address, size, protection, flags, descriptor, offset / PAGE);
}

static u32 number_of(const char *text)
{
    u32 value = 0;
    while (*text) value = value * 10 + *text++ - '0';
    return value;
}

static void prepare(u32 memory, u32 pages)
{
    static const u8 numbers[] = {SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGALRM};
    u32 stack[3] = {(u32)altstack, 0, sizeof altstack}, timer[4] = {0, 250000, 0, 250000};
    struct action action = {handler, 0x0c000004, restorer, {~0u, ~0u}};     /* SA_ONSTACK, RESTORER, SIGINFO */
    u8 low = 1;
    shared = (u32 *)map(0, SHARED, PROT_R | PROT_W, SHARED_MAP, memory, 0);
    map(CODE, CODE_SIZE, PROT_R | PROT_X, SHARED_MAP | FIXED, pages, 0);
    code = (u8 *)map(0, CODE_SIZE, PROT_R | PROT_W, SHARED_MAP, pages, 0);
    fill(code, 0xcc, CODE_SIZE);
    map(READ_ONLY, PAGE, PROT_R, SHARED_MAP | FIXED, memory, 0x3000);
    (void)*(volatile u32 *)READ_ONLY;                           /* present from now on */
    for (u32 each = 0; each < 3; each++) {
        u32 size = areas[each].pages * PAGE, address = areas[each].address;
        if (map(address, size, PROT_R | PROT_W, PRIVATE_ANON | FIXED, ~0u, 0) != address) { low = 0; break; }
        copy((void *)address, (u8 *)shared + areas[each].base, size);
    }
    copy((u8 *)shared + 0xa000, (u8 *)shared + 0x1000, 7 * PAGE);
    call(186, (u32)stack, 0, 0, 0, 0, 0);
    for (u32 each = 0; each < sizeof numbers; each++) call(174, numbers[each], (u32)&action, 0, 8, 0, 0);
    call(104, 0, (u32)timer, 0, 0, 0, 0);
    call(4, 1, (u32)&low, 1, 0, 0, 0);
}

__attribute__((used)) void main(char **arguments)
{
    u8 byte = 'd';
    u32 got;
    prepare(number_of(arguments[1]), number_of(arguments[2]));
    for (;;) {
        got = call(3, 0, (u32)&byte, 1, 0, 0, 0);
        if (got == (u32)-4) continue;                            /* EINTR: the timer */
        if (got != 1) call(1, 0, 0, 0, 0, 0, 0);
        input = (u8 *)shared + INPUT;
        output = (u8 *)shared + OUTPUT;
        shared[1] = 0;
        asm volatile("int3" : : : "memory");
        call(4, 1, (u32)&byte, 1, 0, 0, 0);
    }
}
