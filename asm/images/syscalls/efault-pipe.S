# A buffer that runs off the map, and a pipe: all of a page's share, or EFAULT and nothing.
#
#   buffer   [ mapped 2 pages ... 8 bytes | edge: nothing ]
#
# The kernel copies with ordinary instructions that may fault.  Where no area covers the address, the exception table
# sends the copy to its way out, with the number of bytes that are missing; the pipe then decides:
#
#   write 16 at edge-8      EFAULT, and the 8 good bytes are not in the pipe either
#   read  16 to edge-8      EFAULT, and the 16 bytes stay in the pipe
#   write 4096+16, the edge in the last 16    4096: what was complete counts
#
# Faults at 0x20002000 (edge): kernel read not-present, kernel write not-present, kernel read not-present -> fixup.

        .include "linux.inc"

        .set    HERE, 0x20000000
        .set    EDGE, HERE + 2*PAGE

        .globl  _start
_start:
        map_pages 2, HERE, flags=MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED
        expect  eax, HERE, 1
        sys     pipe, "offset ends"
        expect  eax, 0, 2
        mov     dword ptr [EDGE-8], 0x64636261
        mov     dword ptr [EDGE-4], 0x68676665

        sys     write, [ends+4], EDGE-8, 16
        expect  eax, -EFAULT, 3
        sys     write, [ends+4], "offset text", 16
        expect  eax, 16, 4                  # these are now the first in the pipe
        sys     read, [ends], EDGE-8, 16
        expect  eax, -EFAULT, 5
        sys     read, [ends], "offset good", 64
        expect  eax, 16, 6
        expect_at good, 0x33323130, 7
        expect_at good+12, 0x46454443, 8

        mov     dword ptr [EDGE-8], 0x64636261
        sys     write, [ends+4], EDGE-PAGE-8, PAGE+16
        expect  eax, PAGE, 9
        sys     read, [ends], HERE, 2*PAGE
        expect  eax, PAGE, 10
        sys     write, [ends+4], EDGE, 1    # nothing of it exists
        expect  eax, -EFAULT, 11
        say     "efault-pipe: whole pages or nothing\n"
        pass

        .section .rodata
text:   .ascii  "0123456789ABCDEF"

        .bss
ends:   .skip   8
good:   .skip   64
