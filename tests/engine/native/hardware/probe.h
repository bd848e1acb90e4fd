/* Runs a few bytes of code from known registers, and prints where and how they ended: a line of each is the same here and
   in the sandbox.  Its own memory: code, two pages of data with nothing behind, four of stack with nothing below or behind. */
#define _GNU_SOURCE
#include <signal.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#define CODE ((unsigned char *)0x30000000)
#define DATA ((unsigned char *)0x31000000)   
#define STK  ((unsigned char *)0x32000000)   
struct regs { uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi, flags; };
struct regs in, out;
uint32_t host_esp, host_ebp, host_gs, host_fs;
static int sig, code, trapno, err; static uint32_t addr, cr2, eip, sgs, sfs, sds, ses;
static sigjmp_buf back;
void real(int s, siginfo_t *i, void *u) {
  ucontext_t *c = u; greg_t *g = c->uc_mcontext.gregs;
  sig = s; code = i->si_code; addr = (uint32_t)i->si_addr; trapno = g[REG_TRAPNO]; err = g[REG_ERR]; cr2 = c->uc_mcontext.cr2;
  eip = g[REG_EIP] - (uint32_t)CODE;
  out.eax = g[REG_EAX]; out.ecx = g[REG_ECX]; out.edx = g[REG_EDX]; out.ebx = g[REG_EBX]; out.esp = g[REG_ESP];
  out.ebp = g[REG_EBP]; out.esi = g[REG_ESI]; out.edi = g[REG_EDI]; out.flags = g[REG_EFL];
  sgs = (uint16_t)g[REG_GS]; sfs = (uint16_t)g[REG_FS]; sds = (uint16_t)g[REG_DS]; ses = (uint16_t)g[REG_ES];
  siglongjmp(back, 1);
}
void handler(int, siginfo_t *, void *);
__asm__(".text\nhandler: cld; mov host_gs, %eax; mov %eax, %gs; mov host_fs, %eax; mov %eax, %fs; mov %ss, %eax; mov %eax, %ds; mov %eax, %es; jmp real\n");
static void setup(void) {
  static char alt[65536]; stack_t st = { alt, 0, sizeof alt }; sigaltstack(&st, 0);
  struct sigaction sa; memset(&sa, 0, sizeof sa); sa.sa_sigaction = handler; sa.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  for (int s = 1; s < 32; s++) if (s == SIGILL || s == SIGSEGV || s == SIGBUS || s == SIGFPE || s == SIGTRAP) sigaction(s, &sa, 0);
  mmap(CODE, 0x3000, 7, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mmap(DATA, 0x2000, 3, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mmap(STK, 0x4000, 3, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  __asm__("mov %%gs, %0; mov %%fs, %1" : "=r"(host_gs), "=r"(host_fs));
}
uint32_t target;
extern void go(void);
__asm__(".text\ngo: pusha; mov %gs,%eax; push %eax; mov %esp, host_esp\n"
 "mov in+32, %eax; push %eax; popf\n"
 "mov in, %eax; mov in+4, %ecx; mov in+8, %edx; mov in+12, %ebx; mov in+20, %ebp; mov in+24, %esi; mov in+28, %edi; mov in+16, %esp; jmp *target\n");
static void reset(void) {
  memset(CODE, 0x90, 0x3000);
  memset(DATA, 0x55, 0x2000); memset(STK, 0x66, 0x4000);
  struct regs r = { 0x11111111, 0x22222222, 0x33333333, 0x44444444, (uint32_t)STK + 0x3000, 0x55555555, (uint32_t)DATA + 0x100, (uint32_t)DATA + 0x200, 0x202 };
  in = r;
}
static void run(const void *c, int n) {
  memcpy(CODE, c, n); CODE[n] = 0xcc; target = (uint32_t)CODE;
  if (!sigsetjmp(back, 1)) go();
}
static uint32_t sum(const unsigned char *p, int n) { uint32_t h = 2166136261u; while (n--) h = (h ^ *p++) * 16777619u; return h; }
static void show(const char *name, uint32_t mask) {
  printf("%s: sig %d trap %d err %x eip %d cr2 %x | %x %x %x %x sp %x %x %x %x fl %x | gs %d fs %d ds %d | %08x %08x\n", name, sig, trapno, trapno == 14 || trapno == 13 ? err : 0, eip, trapno == 14 ? cr2 : 0,
    out.eax, out.ecx, out.edx, out.ebx, out.esp, out.ebp, out.esi, out.edi, out.flags & mask, sgs != 0, sfs != 0, sds != 0, sum(DATA, 0x2000), sum(STK, 0x4000));
}
#define BYTES(...) (unsigned char[]){__VA_ARGS__}
#define RUN(name, mask, ...) do { unsigned char b[] = {__VA_ARGS__}; run(b, sizeof b); show(name, mask); } while (0)
#define T(name, mask, ...) do { reset(); RUN(name, mask, __VA_ARGS__); } while (0)
