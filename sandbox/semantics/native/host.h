/* What the runner has of its kernel and of C: numbers, a signal's frame, system calls, copies. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

enum { LOW = 0x8000, CODE = 0x20000000, DATA = 0x20100000, READ_ONLY = DATA + 0x2000, STACK = 0x20200000 };
enum { PAGE = 4096, CODE_SIZE = 64 * PAGE, INPUT = 0x20000, OUTPUT = 0x820000, SHARED = 0xc20000 };
enum { SHARED_AT = 0x60000000, CODE_ALIAS = 0x70000000, SIDE = 64 * 1024 };
enum { HANG = 255, HEADER = 13, HAS_FPU = 1, GOES_ON = 2, CODE16 = 4, OTHER = 8, IN_CHILD = 16, IN_PARENT = 32, WRITES_CODE = 64, BEHIND = 32 };
enum { MOST_ABSENT = 8, FPU_SIZE = 220, ROOM = 2 * SIDE, FRESH = 8, FILED = 9, XSTATE = 0x46505853, NT = 0x4000, AC = 0x40000 };
enum { PROT_R = 1, PROT_W = 2, PROT_X = 4, SHARED_MAP = 1, PRIVATE_FILE = 2, PRIVATE_ANON = 0x22, FIXED = 0x100010, REPLACE = 0x10 };
enum { SIGILL = 4, SIGTRAP = 5, SIGBUS = 7, SIGFPE = 8, SIGSEGV = 11, SIGALRM = 14 };

struct registers { u32 gs, fs, es, ds, edi, esi, ebp, esp, ebx, edx, ecx, eax, trap, error, eip, cs, eflags, sp, ss;
                   u8 *fpu; u32 mask, cr2; };                   /* struct sigcontext, asm/sigcontext.h */
struct context { u32 flags, link, stack[3]; struct registers at; };
struct action { void (*handler)(int, void *, struct context *); u32 flags; void (*restorer)(void); u32 mask[2]; };

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

static u32 map(u32 address, u32 size, u32 protection, u32 flags, u32 descriptor, u32 offset)
{
    return call(192, address, size, protection, flags, descriptor, offset / PAGE);
}
