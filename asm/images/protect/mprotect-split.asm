; mprotect in the middle: one area becomes three, and only the middle one changes.
;
;   [ rw ][ rw ][ rw ]      mprotect(middle, PROT_READ)
;   [ rw ][ r- ][ rw ]      stores to the outer pages go on, one to the middle is fatal
;   [ rw ][ rw ][ rw ]      one area again, as /proc/self/maps says
;
; Faults: middle: user write protection -> sigsegv (the child); after the second mprotect: user write protection ->
; cow-reuse (the area may be written, the entry is opened by the first store).
;
; Another child has the page open before it closes it: of its own store the entry is writable, and that has to end.

        %include "linux.mac"

SYS_open        equ 5
SYS_close       equ 6

        global  _start
_start:
        mov     dword [first], 1
        mov     dword [middle], 2
        mov     dword [last], 3
        call    areas
        mov     edi, eax

        sys     mprotect, middle, PAGE, PROT_READ
        expect  eax, 0, 1
        call    areas
        sub     eax, edi
        expect  eax, 2, 8
        mov     dword [first], 11
        mov     dword [last], 13
        expect  dword [middle], 2, 2
        fork_to child
        expect_killed SIGSEGV, 3
        fork_to opener
        expect_killed SIGSEGV, 9

        sys     mprotect, middle, PAGE, PROT_READ | PROT_WRITE
        expect  eax, 0, 4
        call    areas
        expect  eax, edi, 10
        mov     dword [middle], 12
        expect  dword [first], 11, 5
        expect  dword [middle], 12, 6
        expect  dword [last], 13, 7
        say     `mprotect-split: 11 12 13, and the middle was closed for a while\n`
        pass

child:  mov     dword [middle], 99
        sys     exit, 100

opener: sys     mprotect, middle, PAGE, PROT_READ | PROT_WRITE
        expect  eax, 0, 101
        mov     dword [middle], 97
        sys     mprotect, middle, PAGE, PROT_READ
        expect  eax, 0, 102
        expect  dword [middle], 97, 103
        mov     dword [middle], 98
        sys     exit, 104

; eax: how many areas there are, a line each; esi and edi are kept
areas:  push    esi
        sys     open, maps, 0
        push    eax
        sys     read, eax, text, PAGE
        pop     ebx
        push    eax
        sys     close, ebx
        pop     ecx
        xor     eax, eax
        mov     esi, text
.line:  cmp     byte [esi], 10
        jne     .byte
        inc     eax
.byte:  inc     esi
        loop    .line
        pop     esi
        ret

        section .rodata
maps:   db      "/proc/self/maps", 0

        section .bss
        alignb  PAGE
text:   resb    PAGE
first:  resb    PAGE
middle: resb    PAGE
last:   resb    PAGE
