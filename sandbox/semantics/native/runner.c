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
 * of its own (GOES_ON), the page comes back, and the CPU goes on with the instruction.  Others the kernel brings: FRESH
 * ones are anonymous and not touched yet, FILED ones a file's.  With IN_CHILD the process forks before the vector and
 * the child executes it, with IN_PARENT it executes it itself; what changed in the other one's memory is a record
 * behind the result (OTHER), which has IN_CHILD or IN_PARENT itself then.
 * The code pages are the descriptor of the second.  A byte on descriptor 0 starts a batch; a byte on descriptor 1 says that it is done.
 *
 * Without arguments it is alone with a kernel: their number and the vectors are on descriptor 0, and as many as were
 * done, and the results, go to descriptor 1.  It has no area LOW then.
 *
 * Vectors reach any address, and what they find there must not be ours: all that is ours lies from 0x50000000 to
 * 0x70040000, where neither an operand of the arena, of the ends of memory nor of the kernel comes with a bit's number
 * or an index, and the stack and the vDSO go.
 */
#include "host.h"
#include "arena.h"

static u8 *input, *output, *waited_at;                         /* where the output ended when a child began to wait */
static u32 running, ticked;
static u32 in_child, child, child_waits, code_writable;        /* the child's number, and the pipe that it waits at */
static struct registers idle;
static u8 altstack[64 * 1024] __attribute__((aligned(64)));
__attribute__((used)) u8 stack[16 * 1024] __attribute__((aligned(64)));

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
    if (*(u32 *)(extended + 464) == XSTATE) extended[512] |= 3;  /* XSTATE_BV: x87 and SSE are there */
}

/* A record without a state: what has changed in the memory of the process that did not execute the vector. */
static u8 *others(u8 *place)
{
    u32 *out = (u32 *)place;
    show(1);
    fill(out, 0, 18 * 4);
    out[17] = OTHER;
    *out = (u8 *)changes(out + 18, 0) - place;
    return place + *out;
}

static void restore_code(u32 address, u32 size)                 /* as far as there is code */
{
    u32 left = CODE + CODE_SIZE - address;
    fill(writable(address), 0xcc, size < left ? size : left);
}

/* The vector's place in the code, and the arena, are as they always are; on to the next. */
static void next(int restored)
{
    u32 *vector = (u32 *)input, *patch = vector + HEADER + (vector[11] & HAS_FPU ? FPU_SIZE / 4 : 0);
    if (!restored) changes((u32 *)output, 1);
    settle();
    fill(code + (patch[0] & ~63u) - CODE, 0xcc, 64);
    restore_code(patch[0], patch[1] + (vector[11] & WRITES_CODE ? BEHIND : 0));
    fill(absent, 0, sizeof absent);
    input += vector[0];
    shared[1]++;
}

static void end(u32 status) { call(252, status, 0, 0, 0, 0, 0); }

static void wait_for_child(void)
{
    u32 status;
    while (call(7, child, (u32)&status, 0, 0, 0, 0) == (u32)-4) ;
    if (status) end(3);
}

static void save(struct registers *at, int over)
{
    u32 *out = (u32 *)output, *vector = (u32 *)input, *end_, restored = over && !in_child && !child_waits;
    u32 words[] = {0, at->trap, at->error, at->cr2, at->eip, at->eflags,
                   at->eax, at->ecx, at->edx, at->ebx, at->esp, at->ebp, at->esi, at->edi,
                   (at->cs & 0xffff) | at->ss << 16, (at->ds & 0xffff) | at->es << 16,
                   (at->fs & 0xffff) | at->gs << 16, (vector[11] & HAS_FPU) | (over ? vector[11] & (IN_CHILD | IN_PARENT) : GOES_ON)};
    copy(out, words, sizeof words);
    end_ = out + sizeof words / 4;
    if (vector[11] & HAS_FPU) { save_fpu((u8 *)end_, at->fpu); end_ += FPU_SIZE / 4; }
    end_ = changes(end_, restored);
    *out = (u8 *)end_ - output;
    output = (u8 *)end_;
    if (!over) return;
    if (in_child) { shared[5] = output - (u8 *)shared; end(0); }
    if (child_waits) {
        u8 *side = waited_at + SIDE;
        call(6, child_waits, 0, 0, 0, 0, 0);
        child_waits = 0;
        wait_for_child();
        copy(output, side, *(u32 *)side);
        output += *(u32 *)side;
    }
    next(restored);
}

static void start_timer(void)
{
    u32 timer[4] = {0, 250000, 0, 250000};
    call(104, 0, (u32)timer, 0, 0, 0, 0);
}

/* Whether this process is to execute the vector now; otherwise a child has. */
static int fork_for(u32 how)
{
    u32 pipe[2];
    if (how & IN_PARENT) call(42, (u32)pipe, 0, 0, 0, 0, 0);
    shared[5] = 0;
    child = call(2, 0, 0, 0, 0, 0, 0);
    if (how & IN_CHILD) {
        if (!child) {
            in_child = 1;
            start_timer();
            (void)*(volatile u32 *)READ_ONLY;                   /* fork does not copy entries of a file's pages */
            return 1;
        }
        wait_for_child();
        if (!shared[5]) end(3);
        output = others((u8 *)shared + shared[5]);
        next(0);
        return 0;
    }
    if (!child) {
        u8 byte;
        call(6, pipe[1], 0, 0, 0, 0, 0);
        call(3, pipe[0], (u32)&byte, 1, 0, 0, 0);
        others(output + SIDE);
        end(0);
    }
    call(6, pipe[0], 0, 0, 0, 0, 0);
    child_waits = pipe[1];
    waited_at = output;
    return 1;
}

static int load(struct registers *at)
{
    u32 *vector = (u32 *)input, *patch = vector + HEADER;
    at->eip = vector[1]; at->eflags = vector[2];
    at->eax = vector[3]; at->ecx = vector[4]; at->edx = vector[5]; at->ebx = vector[6];
    at->esp = vector[7]; at->ebp = vector[8]; at->esi = vector[9]; at->edi = vector[10];
    at->cs = vector[11] & CODE16 ? 0x07 : 0x23; at->ss = at->ds = at->es = 0x2b; at->fs = at->gs = 0;
    at->trap = at->error = at->cr2 = 0;
    if (vector[11] & HAS_FPU) { load_fpu(at->fpu, (u8 *)patch); patch += FPU_SIZE / 4; }
    for (u32 each = 0, missing = 0; each < vector[12]; each++) {
        u32 address = patch[0], size = patch[1];
        if (size >> 31) {
            absent[missing % MOST_ABSENT].page = address;
            absent[missing++ % MOST_ABSENT].left = size & 15;
            patch += 2;
            continue;
        }
        copy(writable(address), patch + 2, size);
        for (u32 area = 0; area < 3; area++)
            if (address - areas[area].address < areas[area].pages * PAGE)
                copy((u8 *)shared + 0x9000 + areas[area].base + (address - areas[area].address), patch + 2, size);
        patch += 2 + (size + 3) / 4;
    }
    if (code_writable != (vector[11] & WRITES_CODE)) {
        code_writable = vector[11] & WRITES_CODE;
        call(125, CODE, CODE_SIZE, PROT_R | PROT_X | (code_writable ? PROT_W : 0), 0, 0, 0);
    }
    renew();
    show(0);
    return vector[11] & (IN_CHILD | IN_PARENT) ? fork_for(vector[11]) : 1;
}

static void handler(int number, void *info, struct context *where)
{
    struct registers *at = &where->at;
    (void)info;
    asm volatile("pushfl; andl %0, (%%esp); popfl" : : "i"(~(AC | NT)) : "memory", "cc");
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
    while (shared[1] < shared[0] && output + ROOM < (u8 *)shared + SHARED)
        if (load(at)) return;
    shared[3] = output - ((u8 *)shared + OUTPUT);
    running = 0;
    { u8 *fpu = at->fpu; *at = idle; at->fpu = fpu; }
}

asm(".text\nrestorer: movl $173, %eax; int $0x80\n"
    ".globl _start\n_start: leal 4(%esp), %eax; movl $stack + 16384 - 64, %esp; pushl %eax; call main\n");
extern void restorer(void);

static u32 number_of(const char *text)
{
    u32 value = 0;
    while (*text) value = value * 10 + *text++ - '0';
    return value;
}

static void map_arena(int alone)
{
    u32 base = SHARED_AT + 0x1000;
    shared = (u32 *)map(SHARED_AT, SHARED, PROT_R | PROT_W, SHARED_MAP | FIXED, memory_file, 0);
    for (u32 at = 0; alone && at < 7 * PAGE / 4; at++) ((u32 *)base)[at] = at * 0x9e3779b1 ^ 0x5a5a5a5a;
    map(CODE, CODE_SIZE, PROT_R | PROT_X, SHARED_MAP | FIXED, code_file, 0);
    code = (u8 *)map(CODE_ALIAS, CODE_SIZE, PROT_R | PROT_W, SHARED_MAP | FIXED, code_file, 0);
    fill(code, 0xcc, CODE_SIZE);
    map(READ_ONLY, PAGE, PROT_R, SHARED_MAP | FIXED, memory_file, 0x3000);
    (void)*(volatile u32 *)READ_ONLY;                           /* present from now on */
    if (alone) there = 2;
    for (u32 each = 0; each < there; each++) {
        u32 size = areas[each].pages * PAGE, address = areas[each].address;
        if (map(address, size, PROT_R | PROT_W, PRIVATE_ANON | FIXED, ~0u, 0) != address) { there = each; break; }
        copy((void *)address, (u8 *)shared + areas[each].base, size);
    }
    copy((u8 *)shared + 0xa000, (u8 *)shared + 0x1000, 7 * PAGE);
}

static void prepare(int alone)
{
    static const u8 numbers[] = {SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGALRM};
    u32 alternate[3] = {(u32)altstack, 0, sizeof altstack};
    u32 segment[4] = {0, CODE, 0xffff, 0x44};                   /* struct user_desc: 16 bits, code that is read */
    struct action action = {handler, 0x0c000004, restorer, {~0u, ~0u}};     /* SA_ONSTACK, RESTORER, SIGINFO */
    call(91, 0x80000000, 0x3fffe000, 0, 0, 0, 0);               /* munmap: the stack, the vDSO; or that of 64 bits' kernel */
    call(91, 0x80000000, 0x7fffe000, 0, 0, 0, 0);
    map_arena(alone);
    call(123, 0x11, (u32)segment, sizeof segment, 0, 0, 0);     /* modify_ldt */
    call(186, (u32)alternate, 0, 0, 0, 0, 0);
    for (u32 each = 0; each < sizeof numbers; each++) call(174, numbers[each], (u32)&action, 0, 8, 0, 0);
    start_timer();
}

static void run(void)
{
    input = (u8 *)shared + INPUT;
    output = (u8 *)shared + OUTPUT;
    shared[1] = 0;
    asm volatile("int3" : : : "memory");
}

/* All of it, or to its end. */
static void transfer(u32 number, u32 descriptor, u8 *data, u32 size)
{
    while (size) {
        u32 got = call(number, descriptor, (u32)data, size, 0, 0, 0);
        if (got == (u32)-4) continue;
        if (!got || got > size) return;
        data += got; size -= got;
    }
}

static void alone(void)
{
    memory_file = call(356, (u32)"m", 0, 0, 0, 0, 0);           /* memfd_create, ftruncate */
    code_file = call(356, (u32)"c", 0, 0, 0, 0, 0);
    call(93, memory_file, SHARED, 0, 0, 0, 0);
    call(93, code_file, CODE_SIZE, 0, 0, 0, 0);
    prepare(1);
    transfer(3, 0, (u8 *)shared, 4);
    transfer(3, 0, (u8 *)shared + INPUT, OUTPUT - INPUT);
    run();
    transfer(4, 1, (u8 *)(shared + 1), 4);
    transfer(4, 1, (u8 *)shared + OUTPUT, shared[3]);
    end(0);
}

__attribute__((used)) void main(char **arguments)
{
    u8 byte = 'd', low;
    u32 got;
    if (!arguments[1]) alone();
    memory_file = number_of(arguments[1]);
    code_file = number_of(arguments[2]);
    prepare(0);
    low = there == 3;
    call(4, 1, (u32)&low, 1, 0, 0, 0);
    for (;;) {
        got = call(3, 0, (u32)&byte, 1, 0, 0, 0);
        if (got == (u32)-4) continue;                            /* EINTR: the timer */
        if (got != 1) end(0);
        run();
        call(4, 1, (u32)&byte, 1, 0, 0, 0);
    }
}
