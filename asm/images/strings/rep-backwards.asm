; REP MOVSB downward across shared pages: memmove to a higher, overlapping address.
;
;   buffer   [0 1 2 3 4 ... ]           8,000 bytes, shared with the child since fork
;                [0 1 2 3 4 ... ]       the same bytes, 1,000 higher: copied with DF set, from the end
;
; In the child the copy walks down through three pages, each of which it has to copy before it can store there, while it
; still reads from the shared frame of the page below.  The parent's pages must not move.
;
; Faults in the child, downward: buffer+0x2327, buffer+0x1fff, buffer+0xfff: user write protection -> cow-copy.

        %include "linux.mac"

SIZE    equ     8000
SHIFT   equ     1000

        global  _start
_start:
        cld
        mov     edi, buffer                 ; byte i is i * 7, whatever page it is in
        mov     ecx, SIZE + SHIFT
        xor     eax, eax
.fill:  stosb
        add     al, 7
        loop    .fill

        fork_to child
        expect_exit 0, 1

        mov     esi, buffer                 ; nothing has moved here
        mov     ecx, SIZE + SHIFT
        xor     edx, edx
.same:  lodsb
        cmp     al, dl
        jne     moved
        add     dl, 7
        loop    .same
        say     `rep-backwards: the child moved 8000 bytes, the parent none\n`
        pass

child:  std
        mov     esi, buffer + SIZE - 1
        mov     edi, buffer + SIZE - 1 + SHIFT
        mov     ecx, SIZE
        rep     movsb
        cld
        expect  esi, buffer - 1, 101
        expect  edi, buffer - 1 + SHIFT, 102

        mov     esi, buffer                 ; the first SHIFT bytes stay, the rest begins anew behind them
        xor     edx, edx
        mov     ecx, SHIFT
.head:  lodsb
        cmp     al, dl
        jne     moved
        add     dl, 7
        loop    .head
        xor     edx, edx
        mov     ecx, SIZE
.tail:  lodsb
        cmp     al, dl
        jne     moved
        add     dl, 7
        loop    .tail
        pass

moved:  sys     exit, 2

        section .bss
        alignb  PAGE
buffer: resb    3 * PAGE
