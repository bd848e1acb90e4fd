# Code is read-only: a store to it is fatal in ring 3, and EFAULT when the kernel is asked to do it.
#
# Every process that runs this file shares the frames of its text.  The entry says read-only, the area says that it will
# stay so, and there is nothing to copy on write.
#
# A second child stores to a page of code that nobody touched before it: there the entry is as it was made.
#
# Faults at constant: user write protection -> sigsegv (the child); kernel write protection -> fixup (read(2)).

        .include "linux.inc"

        .globl  _start
_start:
        expect_at constant, 0x12345678, 1   # the page is mapped: only its protection stops a store
        fork_to child
        expect_killed SIGSEGV, 2
        fork_to fresh
        expect_killed SIGSEGV, 6

        sys     pipe, "offset ends"
        sys     write, [ends+4], "offset text", 4
        expect  eax, 4, 3
        sys     read, [ends], "offset constant", 4
        expect  eax, -EFAULT, 4
        expect_at constant, 0x12345678, 5
        say     "text-write: SIGSEGV for the program, EFAULT for the kernel\n"
        pass

child:  mov     dword ptr [constant], 0
        sys     exit, 100

fresh:  expect_at untouched, 0x87654321, 101
        mov     dword ptr [untouched], 0
        sys     exit, 102

constant:
        .long   0x12345678

        .balign PAGE
untouched:
        .long   0x87654321
        .balign PAGE                        # the checks' way out lies behind

        .section .rodata
text:   .ascii  "evil"

        .bss
ends:   .skip   8
