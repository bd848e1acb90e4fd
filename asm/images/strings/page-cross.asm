; One store, two pages: a dword that lies across a page boundary.
;
;   ... | .. .. 44 33 | 22 11 .. .. | ...
;         page n        page n+1
;
; Neither page exists when the store comes, so it faults twice, first for its low half, then for the start of the next
; page, and runs from its beginning each time.  After a fork both pages are shared and it faults twice again; what else
; is in them comes along with the copies.  A load
; across two pages that were never written finds zeros in both.  Where only the second page refuses, the whole store is
; fatal.
;
; Faults: pair+0xffe, pair+0x1000: user write not-present -> demand-zero; the same two: user write protection ->
; cow-copy (the child); other+0xffe, other+0x1000: user read not-present -> zero-page; other+0x1000: user write
; protection -> sigsegv.

        %include "linux.mac"

        global  _start
_start:
        mov     dword [pair+PAGE-2], 0x11223344
        expect  word [pair+PAGE-2], 0x3344, 1
        expect  word [pair+PAGE], 0x1122, 2

        mov     dword [pair], 0xC1C2C3C4    ; at all four ends
        mov     word [pair+PAGE-4], 0xA1A2
        mov     word [pair+PAGE+2], 0xB1B2
        mov     dword [pair+2*PAGE-4], 0xD1D2D3D4

        fork_to child
        expect_exit 0, 3
        expect  dword [pair+PAGE-2], 0x11223344, 4

        expect  dword [other+PAGE-2], 0, 5

        sys     mprotect, other+PAGE, PAGE, PROT_READ
        fork_to refused
        expect_killed SIGSEGV, 6
        say     `page-cross: two faults for one store, twice\n`
        pass

child:  mov     dword [pair+PAGE-2], 0x55667788
        expect  dword [pair+PAGE-2], 0x55667788, 101
        expect  word [pair+PAGE-4], 0xA1A2, 102
        expect  word [pair+PAGE+2], 0xB1B2, 103
        expect  dword [pair], 0xC1C2C3C4, 104
        expect  dword [pair+2*PAGE-4], 0xD1D2D3D4, 105
        pass

refused:
        mov     dword [other+PAGE-2], 0xFFFFFFFF
        sys     exit, 100

        section .bss
        alignb  PAGE
pair:   resb    2*PAGE
other:  resb    2*PAGE
