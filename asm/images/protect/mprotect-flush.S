# mprotect must flush: taking a right away is not done before the TLB knows.
#
# A child stores to a page, makes it read-only and stores again.  The page table refuses, but the CPU looks there only
# when its TLB has nothing to say, and the translation of the first store was writable.
#
# Faults at page: user write not-present -> demand-zero; user write protection -> sigsegv.

        .include "linux.inc"

        .globl  _start
_start:
        fork_to child
        expect_killed SIGSEGV, 1
        say     "mprotect-flush: the second store was refused\n"
        pass

child:  mov     dword ptr [page], 1
        sys     mprotect, "offset page", PAGE, PROT_READ
        expect  eax, 0, 100
        expect_at page, 1, 101              # reading is allowed
        mov     dword ptr [page], 2
        sys     exit, 102

        .bss
        .balign PAGE
page:   .skip   PAGE
