# The stack's limit: growing ends at RLIMIT_STACK, 8 MB, and then the same store is a fatal one.
#
# A child goes down page by page without end, and sends a byte through a pipe for every megabyte.  The last byte that
# arrives is the seventh: somewhere in the eighth megabyte (the first lines of the stack hold the program's arguments)
# the area may not grow any more.  The parent reads until all writers are gone, then asks what the child died of.
#
# Another child has a page of its own mapped three and a half megabytes further down.  A stack keeps a gap of a megabyte to
# what lies below it (since Linux 4.12): two are given.
#
# Faults: user write not-present -> stack-growth, many times, at last user write not-present -> sigsegv.

        .include "linux.inc"

        .globl  _start
_start:
        sys     pipe, "offset ends"
        expect  eax, 0, 1
        fork_to child
        call    megabytes
        expect_killed SIGSEGV, 2
        expect  esi, 7, 3

        sys     pipe, "offset ends"
        expect  eax, 0, 4
        fork_to neighbour
        call    megabytes
        expect_killed SIGSEGV, 5
        expect  esi, 2, 6
        say     "stack-limit: 7 whole megabytes, then SIGSEGV\n"
        pass

# esi: the bytes that come before all writers are gone
megabytes:
        sys     close, [ends+4]             # the child is the only writer now
        xor     esi, esi
1:      sys     read, [ends], "offset got", 1
        add     esi, eax
        test    eax, eax
        jnz     1b
        sys     close, [ends]
        ret

neighbour:
        lea     eax, [esp-(7<<19)]
        and     eax, -PAGE
        map_pages 1, eax, flags=MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED
        expect  eax, ebx, 100
child:  mov     esi, 1<<20>>12
1:      sub     esp, PAGE
        mov     [esp], esi
        dec     esi
        jnz     1b
        sys     write, [ends+4], "offset dot", 1
        jmp     child

        .section .rodata
dot:    .ascii  "."

        .bss
ends:   .skip   8
got:    .skip   1
