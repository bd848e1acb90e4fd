; Three generations share one page, and leave it from the youngest up.
;
;   generation 1 writes 1, forks 2; 2 forks 3; each waits for its child before it writes.
;
;                               users of the first frame
;   3 writes 3     copies       1 and 2 are left
;   2 writes 2     copies       1 is left
;   1 writes 10    reuses       it is alone
;
; Every generation must find 1 in the page until it writes for itself.
;
; Faults at page: user write not-present -> demand-zero; user write protection -> cow-copy, cow-copy, cow-reuse.

        %include "linux.mac"

        global  _start
_start:
        mov     dword [page], 1
        fork_to second
        expect_exit 2, 1
        expect  dword [page], 1, 2
        mov     dword [page], 10
        say     `cow-chain: 3, 2 and 1 each wrote a page of their own\n`
        pass

second: fork_to third
        expect_exit 3, 101
        expect  dword [page], 1, 102
        mov     dword [page], 2
        sys     exit, [page]

third:  expect  dword [page], 1, 111
        mov     dword [page], 3
        sys     exit, [page]

        section .bss
        alignb  PAGE
page:   resb    PAGE
