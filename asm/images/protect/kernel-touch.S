# The fourth gigabyte belongs to the kernel: it is mapped all the time, and ring 3 may not touch it.
#
# 0xC0100000 is the kernel's own first page.  Its entry is present, because traps arrive there without a change of CR3;
# what keeps a program out is the U/S bit alone.  Three children load, store and jump; a fourth loads from 0xC1000000,
# which a large page maps.  (Natively, a 64-bit kernel has nothing at these addresses; the program dies there just the
# same.)
#
# Faults at 0xC0100000: user read protection, user write protection, user fetch protection -> sigsegv; at 0xC1000000:
# user read protection -> sigsegv.

        .include "linux.inc"

        .set    KERNEL, 0xC0100000
        .set    LARGE, 0xC1000000

        .globl  _start
_start:
        fork_to load
        expect_killed SIGSEGV, 1
        fork_to store
        expect_killed SIGSEGV, 2
        fork_to fetch
        expect_killed SIGSEGV, 3
        fork_to large
        expect_killed SIGSEGV, 4
        say     "kernel-touch: no load, no store, no jump\n"
        pass

load:   mov     eax, [KERNEL]
        sys     exit, 100

store:  mov     dword ptr [KERNEL], 0
        sys     exit, 100

fetch:  mov     eax, KERNEL
        jmp     eax

large:  mov     eax, [LARGE]
        sys     exit, 100
