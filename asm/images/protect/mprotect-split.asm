; mprotect in the middle: one area becomes three, and only the middle one changes.
;
;   [ rw ][ rw ][ rw ]      mprotect(middle, PROT_READ)
;   [ rw ][ r- ][ rw ]      stores to the outer pages go on, one to the middle is fatal
;   [ rw ][ rw ][ rw ]      one area again
;
; Faults: middle: user write protection -> sigsegv (the child); after the second mprotect: user write protection ->
; cow-reuse (the area may be written, the entry is opened by the first store).

        %include "linux.mac"

        global  _start
_start:
        mov     dword [first], 1
        mov     dword [middle], 2
        mov     dword [last], 3

        sys     mprotect, middle, PAGE, PROT_READ
        expect  eax, 0, 1
        mov     dword [first], 11
        mov     dword [last], 13
        expect  dword [middle], 2, 2
        fork_to child
        expect_killed SIGSEGV, 3

        sys     mprotect, middle, PAGE, PROT_READ | PROT_WRITE
        expect  eax, 0, 4
        mov     dword [middle], 12
        expect  dword [first], 11, 5
        expect  dword [middle], 12, 6
        expect  dword [last], 13, 7
        say     `mprotect-split: 11 12 13, and the middle was closed for a while\n`
        pass

child:  mov     dword [middle], 99
        sys     exit, 100

        section .bss
        alignb  PAGE
first:  resb    PAGE
middle: resb    PAGE
last:   resb    PAGE
