# An instruction that begins in one page and ends in the next, which is not there.
#
#        ... inc [count] | mov eax, 0x12345678 ...
#   page n      ff 05 .. | b8 78
#   page n+1             | 56 34 12
#
# The fault is one of fetching, and its address is the first byte of the next page, three bytes past eip.  The `inc`
# before it is complete when it comes and may not happen again.  Later the second page loses its permissions: then the
# same fault is fatal.
#
# Faults: straddler+2: user fetch not-present -> file-read; straddler+2: user fetch not-present -> sigsegv (the child).
# With two-level paging both are user read.

        .include "linux.inc"

        .globl  _start
_start:
        call    near_the_end
        expect  eax, 0x12345678, 1
        expect_at count, 1, 2

        sys     mprotect, "offset straddler+2", PAGE, PROT_NONE
        expect  eax, 0, 3
        fork_to child
        expect_killed SIGSEGV, 4

        sys     mprotect, "offset straddler+2", PAGE, PROT_READ|PROT_EXEC
        expect  eax, 0, 5
        call    near_the_end
        expect  eax, 0x12345678, 6
        expect_at count, 2, 7
        say     "straddle: two bytes here, three bytes there\n"
        pass

child:  call    near_the_end
        sys     exit, 100

        .balign PAGE
        .skip   PAGE - 8
near_the_end:
        inc     dword ptr [count]           # 6 bytes
straddler:
        mov     eax, 0x12345678             # 5 bytes, 2 of them in this page
        ret
        .balign PAGE                        # the checks' way out lies behind

        .bss
count:  .skip   4
