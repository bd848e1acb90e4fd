# MAP_FIXED over something: the old pages go, whatever they held, and the new ones start from nothing.
#
# Four anonymous pages are written.  Over the two in the middle comes a mapping of this program's file: there the file
# shows.  Over that come anonymous pages again, and they are zero.  The pages at both ends never change.
#
# Faults: 0x20001000: user write not-present -> demand-zero; user read not-present -> file-read; user read not-present
# -> zero-page.

        .include "linux.inc"

        .set    HERE, 0x20000000

        .globl  _start
_start:
        mov     ebp, [esp+4]                # argv[0]
        sys     open, ebp, O_RDONLY
        mov     [file], eax

        map_pages 4, HERE, flags=MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED
        mov     edi, HERE
        mov     ecx, 4*PAGE/4
        mov     eax, 0x77777777
        cld
        rep     stosd

        sys     mmap2, HERE+PAGE, 2*PAGE, PROT_READ, MAP_PRIVATE|MAP_FIXED, [file], 0
        expect  eax, HERE+PAGE, 1
        expect_at HERE+PAGE, 0x464C457F, 2  # an ELF file begins so
        expect_at HERE+PAGE-4, 0x77777777, 3
        expect_at HERE+3*PAGE, 0x77777777, 4

        map_pages 2, HERE+PAGE, flags=MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED
        mov     edi, HERE+PAGE
        mov     ecx, 2*PAGE/4
        xor     eax, eax
        repe    scasd
        jne     dirty
        expect_at HERE+PAGE-4, 0x77777777, 5
        expect_at HERE+3*PAGE, 0x77777777, 6
        say     "map-over: sevens, a file, zeros\n"
        pass

dirty:  sys     exit, 7

        .bss
file:   .skip   4
