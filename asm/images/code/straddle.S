# An instruction that begins in one page and ends in the next, which is not there.
#
#        ... inc [count] | mov eax, 0x12345678 ...
#   page n      ff 05 .. | b8 78
#   page n+1             | 56 34 12
#
# The fault is one of fetching, and its address is the first byte of the next page, two bytes past eip.  The `inc`
# before it is complete when it comes and may not happen again.  Later the second page loses its permissions: then the
# same fault is fatal, or told to a handler: with eip at the `mov` and not at the `inc` before it.
#
# An `add` lies across the end of the second page.  It will write what it reads, but the fault is one of fetching as well.
#
# Faults: straddler+2: user fetch not-present -> file-read; straddler+2: user fetch not-present -> sigsegv (the child).
# With two-level paging both are user read.

        .include "linux.inc"

        .set    SYS_signal, 48
        .set    OF_EIP, 56                  # in a sigcontext
        .set    OF_CR2, 84

        .globl  _start
_start:
        call    near_the_end
        expect  eax, 0x12345678, 1
        expect_at count, 1, 2

        sys     mprotect, "offset straddler+2", PAGE, PROT_NONE
        expect  eax, 0, 3
        fork_to child
        expect_killed SIGSEGV, 4
        fork_to observer
        expect_exit 0, 8

        sys     mprotect, "offset straddler+2", PAGE, PROT_READ|PROT_EXEC
        expect  eax, 0, 5
        call    near_the_end
        expect  eax, 0x12345678, 6
        expect_at count, 2, 7
        call    adder
        expect_at count, 0x12, 9
        say     "straddle: two bytes here, three bytes there\n"
        pass

child:  call    near_the_end
        sys     exit, 100

observer:
        sys     signal, SIGSEGV, "offset caught"
        call    near_the_end
        sys     exit, 101

caught: expect_at esp+8+OF_EIP, "offset straddler", 102     # behind the return address and the number
        expect_at esp+8+OF_CR2, "offset straddler+2", 103
        expect_at count, 2, 104
        pass

        .balign PAGE
        .skip   PAGE - 8
near_the_end:
        inc     dword ptr [count]           # 6 bytes
straddler:
        mov     eax, 0x12345678             # 5 bytes, 2 of them in this page
        ret
        .skip   PAGE - 3 - (. - straddler - 2)
adder:  add     dword ptr [count], 0x10     # 7 bytes, 3 of them in this page
        ret
        .balign PAGE                        # the checks' way out lies behind

        .bss
count:  .skip   4
