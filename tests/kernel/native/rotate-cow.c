/* RCL and RCR whose store meets a page that fork has made copy-on-write: CF is rotated in once. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
static unsigned *page;
static void run(int kind, unsigned start) {
    unsigned flags;
    *page = start;
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        switch (kind) {
        case 0: asm volatile("stc; jmp 1f; 1: rcll $1, %0; pushf; pop %1" : "+m"(*page), "=r"(flags)); break;
        case 1: asm volatile("stc; jmp 1f; 1: rcrl $1, %0; pushf; pop %1" : "+m"(*page), "=r"(flags)); break;
        case 2: asm volatile("stc; jmp 1f; 1: rclb $3, %0; pushf; pop %1" : "+m"(*(char *)page), "=r"(flags)); break;
        case 3: asm volatile("stc; jmp 1f; 1: rcrw %%cl, %0; pushf; pop %1" : "+m"(*(short *)page), "=r"(flags) : "c"(5)); break;
        case 4: asm volatile("mov $0x80000001, %%eax; stc; rcll $1, %%eax; movl %%eax, %0; pushf; pop %1" : "+m"(*page), "=r"(flags) :: "eax"); break;
        case 5: asm volatile("stc; jmp 1f; 1: rcll %%cl, %0; pushf; pop %1" : "+m"(*page), "=r"(flags) : "c"(0)); break;
        }
        printf("%d %08x %x\n", kind, *page, flags & 0x801);
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, 0, 0);
}
int main(void) {
    page = mmap(0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int kind = 0; kind < 6; kind++)
        for (unsigned start = 1; start < 4; start++)
            run(kind, start * 0x40000001u);
    return 0;
}
