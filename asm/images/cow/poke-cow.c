/*
 * A debugger stores a breakpoint into the text of one of two processes that run the same file.  That one stops, the
 * other passes; the debugger takes the breakpoint out again, steps, and changes a read-only page and a shared one.
 */
#include "user.h"

#define SYS_ptrace 26
#define SYS_getppid 64
#define PEEKTEXT 1
#define PEEKUSER 3
#define POKETEXT 4
#define POKEUSER 6
#define CONT 7
#define SINGLESTEP 9
#define DETACH 17
#define EIP (12 * 4)
#define SIGTRAP 5
#define SIGSTOP 19
#define STOPPED(signal) ((signal) << 8 | 0x7f)
#define ASKED 0x5a5a5a5a

static const u32 constant[2] = { 0x11111111, 0x22222222 };
static u32 *common;                                     /* a shared page that may only be read */
static int gate[2];                                     /* where the process that nobody traces waits */

int passed(int value);
asm("passed: mov 4(%esp), %eax\n\tnop\n\tadd $1, %eax\n\tret\n");

static int ptrace(int request, int pid, const void *address, u32 data)
{
        return call6(SYS_ptrace, (u32)request, (u32)pid, (u32)address, data, 0, 0);
}

static u32 peek(int request, int pid, const void *address)
{
        u32 found = ASKED;
        return ptrace(request, pid, address, (u32)&found) ? ASKED : found;
}

static int child(int traced)
{
        char byte;
        if (traced) {
                CHECK(40, ptrace(0, 0, 0, 0) == 0);
                kill(getpid(), SIGSTOP);
        } else {
                close(gate[1]);
                read(gate[0], &byte, 1);
        }
        CHECK(41, passed(6) == 7);
        const volatile u32 *seen = constant;
        CHECK(42, seen[0] == 0x11111111);
        CHECK(43, seen[1] == (traced ? 0x33333333 : 0x22222222));
        return traced ? 4 : 5;
}

static int start(int traced)
{
        int status, pid = fork();
        if (!pid)
                exit(child(traced));
        CHECK(1, !traced || (waitpid(pid, &status, 0) == pid && status == STOPPED(SIGSTOP)));
        return pid;
}

int main(void)
{
        const u8 *at = (const u8 *)passed + 4;
        int status, debugged, other;
        common = mmap(0, PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(30, pipe(gate) == 0);
        debugged = start(1);
        other = start(0);
        u32 word = peek(PEEKTEXT, debugged, at), mine = *(const u32 *)at;
        CHECK(2, word == mine);
        CHECK(3, ptrace(POKETEXT, debugged, at, (word & ~0xffu) | 0xcc) == 0);
        CHECK(4, peek(PEEKTEXT, debugged, at) == ((word & ~0xffu) | 0xcc));
        CHECK(5, *(const u32 *)at == mine);             /* nobody else has the breakpoint */
        CHECK(6, ptrace(POKETEXT, debugged, &constant[1], 0x33333333) == 0);
        CHECK(7, ptrace(POKETEXT, debugged, common, 1) == -EIO && *common == 0);
        CHECK(8, write(gate[1], "x", 1) == 1);
        CHECK(9, waitpid(other, &status, 0) == other && status == 5 << 8);
        CHECK(10, ptrace(CONT, debugged, 0, 0) == 0);
        CHECK(11, waitpid(debugged, &status, 0) == debugged && status == STOPPED(SIGTRAP));
        CHECK(12, peek(PEEKUSER, debugged, (void *)EIP) == (u32)at + 1);
        CHECK(13, ptrace(POKETEXT, debugged, at, word) == 0);
        CHECK(14, ptrace(POKEUSER, debugged, (void *)EIP, (u32)at) == 0);
        CHECK(15, ptrace(SINGLESTEP, debugged, 0, 0) == 0);
        CHECK(16, waitpid(debugged, &status, 0) == debugged && status == STOPPED(SIGTRAP));
        CHECK(17, peek(PEEKUSER, debugged, (void *)EIP) == (u32)at + 1);
        CHECK(18, ptrace(DETACH, debugged, 0, 0) == 0);
        CHECK(19, waitpid(debugged, &status, 0) == debugged);
        CHECK(20, status == 4 << 8);
        CHECK(21, ptrace(PEEKTEXT, debugged, at, (u32)&word) == -3);
        CHECK(22, passed(1) == 2 && constant[1] == 0x22222222);
        say("poke-cow: the breakpoint stopped one of two processes that run the same text\n");
        return 0;
}
