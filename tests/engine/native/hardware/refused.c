/* What ring 3 may not do, and selectors, returns and gates that are refused: signal, vector, error code, EIP, flags. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define CASE(name, bytes) {name, bytes, sizeof(bytes) - 1}
static const struct { const char *name, *code; int size; } cases[] = {
    CASE("hlt", "\xf4"), CASE("cli", "\xfa"), CASE("sti", "\xfb"), CASE("in", "\xec"), CASE("out", "\xee"),
    CASE("insb", "\x6c"), CASE("lgdt", "\x0f\x01\x14\x24"), CASE("lidt", "\x0f\x01\x1c\x24"),
    CASE("lldt", "\x0f\x00\xd0"), CASE("ltr", "\x0f\x00\xd8"), CASE("clts", "\x0f\x06"), CASE("invd", "\x0f\x08"),
    CASE("wbinvd", "\x0f\x09"), CASE("invlpg", "\x0f\x01\x3c\x24"), CASE("lmsw", "\x0f\x01\xf0"),
    CASE("mov cr0,eax", "\x0f\x22\xc0"), CASE("mov eax,cr0", "\x0f\x20\xc0"), CASE("mov eax,cr3", "\x0f\x20\xd8"),
    CASE("mov eax,cr4", "\x0f\x20\xe0"), CASE("mov eax,dr0", "\x0f\x21\xc0"), CASE("mov dr7,eax", "\x0f\x23\xf8"),
    CASE("rdmsr", "\x0f\x32"), CASE("wrmsr", "\x0f\x30"), CASE("sysexit", "\x0f\x35"), CASE("rsm", "\x0f\xaa"),
    CASE("vmptrld", "\x0f\xc7\x34\x24"), CASE("int 8", "\xcd\x08"), CASE("int e", "\xcd\x0e"),
    CASE("int 3 cd", "\xcd\x03"), CASE("int 4", "\xcd\x04"), CASE("int1 f1?", "\xcd\x01"),
    CASE("into", "\x04\x7f\xce"), CASE("bound", "\x68\0\0\0\0\x68\1\0\0\0\x31\xc0\x62\x04\x24"),
    CASE("popf IOPL IF", "\x68\x02\x30\0\0\x9d\xfa"), CASE("popf VM", "\x68\x02\x02\x02\0\x9d\x9c\x58\xf4"),
    CASE("popf RF", "\x68\x02\x02\x01\0\x9d\x9c\x58\xf4"),
    CASE("popf VIF", "\x68\x02\x02\x18\0\x9d\x9c\x58\x0b\xc0\xf4"), CASE("jmpf tss", "\xea\0\0\0\0\x40\0"),
    CASE("jmpf tss43", "\xea\0\0\0\0\x43\0"), CASE("callf data", "\x9a\0\0\0\0\x2b\0"),
    CASE("callf kcs", "\x9a\0\0\0\0\x10\0"), CASE("callf 60", "\x9a\0\0\0\0\x63\0"),
    CASE("jmpf null", "\xea\0\0\0\0\x03\0"), CASE("callf ldt", "\x9a\0\0\0\0\x07\0"),
    CASE("mov ss,null", "\x31\xc0\x8e\xd0"), CASE("mov ss,cs", "\x8c\xc8\x8e\xd0"),
    CASE("mov ss,10", "\xb8\x18\0\0\0\x8e\xd0"), CASE("mov ds,cs", "\x8c\xc8\x8e\xd8\x8c\xd8\xf4"),
    CASE("mov ds,18", "\xb8\x18\0\0\0\x8e\xd8"), CASE("mov es,ffff", "\xb8\xff\xff\0\0\x8e\xc0"),
    CASE("mov fs,ldt", "\xb8\x07\0\0\0\x8e\xe0"), CASE("mov gs,tss", "\xb8\x40\0\0\0\x8e\xe8"),
    CASE("mov cs", "\x8e\xc8"), CASE("push cs retf rpl0", "\x6a\x20\x68\0\0\0\0\xcb"),
    CASE("retf kcs", "\x6a\x10\x68\0\0\0\0\xcb"), CASE("retf ds", "\x6a\x2b\x68\0\0\0\0\xcb"),
    CASE("iret kcs", "\x68\x02\x02\0\0\x6a\x10\x68\0\0\0\0\xcf"),
    CASE("iret ds", "\x68\x02\x02\0\0\x6a\x2b\x68\0\0\0\0\xcf"),
    CASE("iret null", "\x68\x02\x02\0\0\x6a\x03\x68\0\0\0\0\xcf"),
    CASE("iret ldt", "\x68\x02\x02\0\0\x6a\x0f\x68\0\0\0\0\xcf"), CASE("ud2", "\x0f\x0b"),
    CASE("ud0", "\x0f\xff\xc0"), CASE("ud1", "\x0f\xb9\xc0"), CASE("salc", "\x31\xc0\xf9\xd6\xf4"),
    CASE("aam0", "\xd4\x00"), CASE("div0", "\x31\xc9\xf7\xf1"), CASE("lock mov", "\xf0\x89\x04\x24"),
    CASE("jmp null", "\x31\xc0\xff\xe0"), CASE("ret bad", "\x68\x10\0\0\0\xc3"),
    CASE("cmpxchg8b reg", "\x0f\xc7\xc8"),
    CASE("16 prefixes", "\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x90"),
    CASE("movaps", "\x0f\x28\x44\x24\x01"), CASE("lar kcs", "\xb8\x10\0\0\0\x0f\x02\xc0\xf4"),
    CASE("lsl ds", "\xb8\x2b\0\0\0\x0f\x03\xc0\xf4"), CASE("verr kcs", "\xb8\x10\0\0\0\x0f\x00\xe0\xf4"),
    CASE("verw ds", "\xb8\x2b\0\0\0\x0f\x00\xe8\xf4"), CASE("arpl", "\xb8\x20\0\0\0\xb9\x03\0\0\0\x63\xc8\xf4"),
    CASE("lss null", "\x6a\0\x6a\0\x0f\xb2\x04\x24"), CASE("lds 10", "\x6a\x10\x6a\0\xc5\x04\x24"),
    CASE("pop ss null", "\x6a\0\x17"), CASE("pop ds cs", "\x0e\x1f\xf4"), CASE("enter big", "\xc8\xff\xff\x1f\xf4"),
    CASE("popa big", "\x89\xe5\x61\xf4"), CASE("pushf TF", "\x68\x02\x03\0\0\x9d\x90\x90"),
    CASE("movntdq mis", "\x66\x0f\xe7\x44\x24\x01"),
    CASE("prefetch nul", "\x0f\x18\x0d\0\0\0\0\xf4"), CASE("nop ea", "\x0f\x1f\x05\0\0\0\0\xf4"),
    CASE("lea reg", "\x8d\xc0"), CASE("les reg", "\xc4\xc0"), CASE("mov sreg6", "\x8e\xf0"),
    CASE("pop cs 0f", "\x0f\x0f"), CASE("loop", "\xb9\2\0\0\0\xe2\xfe\xf4"), CASE("xlat", "\xbb\0\0\0\0\xd7"),
};
static sigjmp_buf back;
static uint8_t *const code = (uint8_t *)0x20000000, *const stack = (uint8_t *)0x30000000;
static char handlers[65536];

static void on_signal(int signal, siginfo_t *info, void *context)
{
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    uint32_t address = signal == SIGSEGV && info->si_code < 3 ? (uint32_t)info->si_addr : 0;
    printf("%d %d trap %d %x eip %x flags %x address %x\n", signal, info->si_code, r[REG_TRAPNO], r[REG_ERR], r[REG_EIP],
           r[REG_EFL] & 0xeffff, address);
    siglongjmp(back, 1);
}

int main(void)
{
    static const int signals[] = {SIGSEGV, SIGILL, SIGBUS, SIGFPE, SIGTRAP};
    stack_t other = {.ss_sp = handlers, .ss_size = sizeof handlers};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    sigaltstack(&other, 0);
    for (int at = 0; at < 5; at++)
        sigaction(signals[at], &action, 0);
    mmap(code, 8192, 7, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    mmap(stack, 65536, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    for (int at = 0; at < sizeof cases / sizeof *cases; at++) {
        memset(code, 0xf4, 8192), memcpy(code, cases[at].code, cases[at].size), memset(stack, 0, 65536);
        printf("%s: ", cases[at].name);
        if (!sigsetjmp(back, 1))
            asm volatile("pushl $0x202; popfl; movl $0x30008000, %%esp; xorl %%edx, %%edx; movl $0x20001000, %%edi;"
                         "movl %%edi, %%esi; movl $1, %%ecx; cmpl %%edx, %%edx; movl $0, %%eax; jmp *%0" ::"b"(code) : "memory");
        asm volatile("movw $0x2b, %%ax; movw %%ax, %%ds; movw %%ax, %%es; cld" ::: "eax");
    }
    return 0;
}
