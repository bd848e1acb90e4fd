/* patch-edge: code that is changed under the CPU's feet.
 *
 * A function of one MOV EAX, n; RET lies across a page edge, three bytes of the number behind it.  The number is changed by
 * stores to the first page, to the second, by a copy of the whole, and in a child, which must not be seen in the parent.  The
 * child has run the shared pages before it stores: from then on its own are run, with all that was in them. */

#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned char *code;

static unsigned call(void)
{
    return ((unsigned (*)(void))code)();
}

int main(void)
{
    unsigned char *pages = mmap(0, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static const unsigned char source[6] = { 0xb8, 0x01, 0x02, 0x03, 0x04, 0xc3 };
    unsigned sum = 0;
    int status;

    code = pages + 4096 - 2;
    memcpy(code, source, sizeof source);
    printf("patch-edge: %#x", call());
    code[1] = 0x11;
    printf(" %#x", call());
    code[4] = 0x44;
    printf(" %#x", call());
    for (unsigned round = 0; round < 200; round++) {
        code[1] = round;
        code[2] = ~round;
        sum += call() == (0x44030000 | (~round & 0xff) << 8 | round);
    }
    printf(", %u of 200 right\n", sum);
    if (!fork()) {
        int right = call() == 0x440338c7;

        code[1] = 0x99;
        right += call() == 0x44033899;
        code[4] = 0x55;
        right += call() == 0x55033899;
        memcpy(code, source, sizeof source);
        _exit(right + (call() == 0x04030201));
    }
    wait(&status);
    printf("patch-edge: the child called its own: %d times of 4, the parent's is %#x\n", WEXITSTATUS(status), call());
    mprotect(pages + 4096, 4096, PROT_READ | PROT_EXEC);
    code[1] = 0x55;
    printf("patch-edge: half of it closed: %#x\n", call());
    return 0;
}
