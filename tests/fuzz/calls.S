# Makes the system calls of a table, one after the other, whatever they do.
#
# A row is seven words: the number in EAX, then EBX, ECX, EDX, ESI, EDI, EBP.  The table is read from standard input into
# a page that is then made read-only, and the program finds its place again by a counter that the calls can hardly reach.
# A call may end, stop or misplace who makes it: a child makes them for a while, and then the next.

        .include "linux.inc"

        .set    ROW, 28
        .set    LIMIT, 0x3006FFFC           # in the table: how many rows it has
        .set    TABLE, 0x30000000
        .set    COUNT, 0x30100000           # the counter's page: shared, so that children go on behind their parents

        .set    SYS_kill, 37

        .globl  _start
_start:
        xor     ebp, ebp
        sys     mmap2, TABLE, 0x80000, 3, 0x32, -1
        sys     mmap2, COUNT, 4096, 3, 0x31, -1
        mov     edi, TABLE
1:      sys     read, 0, edi, 65536
        add     edi, eax
        test    eax, eax
        jg      1b
        sys     mprotect, TABLE, 0x80000, 1

again:  mov     eax, [LIMIT]                # one child after the other, until the table is done
        cmp     [COUNT], eax
        jae     next
        fork_to next
        mov     edi, eax
        push    300000                      # struct timespec: 300 µs
        push    0
        sys     nanosleep, esp, 0
        pop     eax
        pop     eax
        sys     kill, edi, SIGKILL
        sys     waitpid, edi, 0, 0
        jmp     again

next:   mov     eax, 1
        lock xadd [COUNT], eax
        imul    eax, eax, ROW
        add     eax, TABLE
        mov     ebx, [eax+4]
        mov     ecx, [eax+8]
        mov     edx, [eax+12]
        mov     esi, [eax+16]
        mov     edi, [eax+20]
        mov     ebp, [eax+24]
        mov     eax, [eax]
        int     0x80
        jmp     next
