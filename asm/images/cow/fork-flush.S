# fork must flush: the TLB may still hold the writable entry of before.
#
# The parent stores to a page (now a writable translation is in the TLB), forks, and stores again before anything else
# happens.  fork made the entry in the page table read-only, which means nothing while the TLB answers: without an
# invalidation the second store goes through unseen, into the frame that the child shares.  The child waits in a pipe
# until that has happened, and must still find the value of the moment of fork.
#
# Faults at page: user write not-present -> demand-zero; user write protection -> cow-copy (the parent's second store).

        .include "linux.inc"

        .globl  _start
_start:
        sys     pipe, "offset ends"
        expect  eax, 0, 1
        mov     dword ptr [page], 1
        fork_to child
        mov     dword ptr [page], 2         # through the TLB, or through the new entry?
        sys     write, [ends+4], "offset dot", 1
        expect_exit 1, 2
        expect_at page, 2, 3
        say     "fork-flush: the child found what was there when it was born\n"
        pass

child:  sys     read, [ends], "offset got", 1
        expect  eax, 1, 100
        sys     exit, [page]

        .section .rodata
dot:    .ascii  "."

        .bss
ends:   .skip   8
got:    .skip   1
        .balign PAGE
page:   .skip   PAGE
