# Where the file ends inside a page: the rest of that page belongs to .bss and has to be zero.
#
#   .data in the file    [ "the last bytes of the file's share" | EE EE EE EE EE EE ... ][ symbol table, strings, ... ]
#   in memory            [ "the last bytes of the file's share" | 0 0 0 0 0 0 ... ][ 0 0 ... ]
#
# The page is mapped from the file as a whole, so what follows .data in the file shows in memory too, until exec clears
# it.  Exec's store is the first to that page: it gets a private copy of the page before the program has run at all.
#
# Faults: the first page that is .bss alone: user read not-present -> zero-page.

        .include "linux.inc"

        .globl  _start
_start:
        cld
        expect_at bytes, 0x20656874, 1      # "the "
        mov     edi, offset bytes_end
        mov     ecx, offset _end            # ... of .bss, by the linker
        sub     ecx, edi
        expect  ecx, 2*PAGE, 2
        xor     eax, eax
        repe    scasb
        jne     dirty
        mov     byte ptr [bytes_end], 1     # and it is ordinary memory
        say     "bss-tail: two pages of zeros, whatever the file has there\n"
        pass

dirty:  sys     exit, 3

        .data
bytes:  .ascii  "the last bytes of the file's share"
bytes_end:

        .section .behind, "", @progbits     # in the file only, right behind .data
        .fill   PAGE, 1, 0xEE

        .bss
tail:   .skip   2*PAGE
