/* Jcc whose sum with EIP leaves 32 bits, to where something is mapped and to where nothing is, taken ten times each. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

static sigjmp_buf back;

static void on_signal(int signal, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    printf("%d at %x, address %x, trap %d\n", signal, registers[REG_EIP], (uint32_t)info->si_addr, registers[REG_TRAPNO]);
    siglongjmp(back, 1);
}

static void jump(uint32_t from, uint32_t to, uint32_t count)
{
    uint32_t displacement = to - from - 6, sum = 0;
    memcpy((void *)from, "\x0f\x84", 2), memcpy((void *)(from + 2), &displacement, 4);      /* je to; ret */
    memcpy((void *)(from + 6), "\xc3", 1);
    if (!sigsetjmp(back, 1))
        while (count--)
            asm volatile("cmp %%eax, %%eax; call *%1" : "+a"(sum) : "r"(from), "c"(count) : "cc", "memory");
    printf("%x to %x: %u\n", from, to, sum);
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER};
    static const uint32_t pages[] = {0x20000000, 0xb0000000, 0x60000000};
    sigaction(SIGSEGV, &action, 0);
    for (int at = 0; at < 3; at++)
        mmap((void *)pages[at], 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memcpy((void *)0xb0000800, "\x05\x64\0\0\0\x39\xc0\xc3", 8);       /* add eax, 100; cmp eax, eax; ret */
    memcpy((void *)0x20000800, "\x01\xc8\x39\xc0\xc3", 5);             /* add eax, ecx; cmp eax, eax; ret */
    for (int round = 0; round < 2; round++) {
        jump(0x20000000, 0xb0000800, 10);
        jump(0xb0000000, 0x20000800, 10);
        jump(0xb0000100, 0x10000000, 1);
        jump(0x20000200, 0xaf000000, 1);
    }
    return 0;
}
