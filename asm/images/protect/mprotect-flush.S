# mprotect must flush: taking a right away is not done before the TLB knows.
#
# A child stores to a page, makes it read-only and stores again.  The page table refuses, but the CPU looks there only
# when its TLB has nothing to say, and the translation of the first store was writable.  Another child does the same with
# so many pages at once that the kernel drops all translations instead of one after the other.
#
# Faults at page: user write not-present -> demand-zero; user write protection -> sigsegv.

        .include "linux.inc"

        .set    MANY, 48

        .globl  _start
_start:
        fork_to child
        expect_killed SIGSEGV, 1
        fork_to crowd
        expect_killed SIGSEGV, 2
        say     "mprotect-flush: the second store was refused\n"
        pass

child:  mov     dword ptr [page], 1
        sys     mprotect, "offset page", PAGE, PROT_READ
        expect  eax, 0, 100
        expect_at page, 1, 101              # reading is allowed
        mov     dword ptr [page], 2
        sys     exit, 102

crowd:  mov     edi, offset page
        mov     ecx, MANY
1:      mov     [edi], ecx
        add     edi, PAGE
        loop    1b
        sys     mprotect, "offset page", MANY*PAGE, PROT_READ
        expect  eax, 0, 103
        expect_at page+(MANY-1)*PAGE, 1, 104
        mov     dword ptr [page+(MANY-1)*PAGE], 2
        sys     exit, 105

        .bss
        .balign PAGE
page:   .skip   MANY*PAGE
