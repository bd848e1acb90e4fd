; brk: the heap grows and shrinks at its end, and what comes back comes back empty.
;
;   brk(base + 3 pages)      fill all three
;   brk(base + 1 page)       the upper two are gone: a touch is fatal (a child tries)
;   brk(base + 3 pages)      the first still has its contents, the others are zero
;
; Pages that a shrinking break left in the tables would survive in both cases.
;
; Faults: user write not-present -> demand-zero, three times; user read not-present -> sigsegv (the child); user read
; not-present -> zero-page.  (Where the heap begins is the kernel's choice.)

        %include "linux.mac"

        global  _start
_start:
        cld
        sys     brk, 0
        mov     ebp, eax                    ; where the heap begins
        lea     ebx, [ebp+3*PAGE]
        call    set_break
        mov     edi, ebp
        mov     ecx, 3*PAGE/4
        mov     eax, 0xABCDABCD
        rep     stosd

        lea     ebx, [ebp+PAGE]
        call    set_break
        fork_to child
        expect_killed SIGSEGV, 2

        lea     ebx, [ebp+3*PAGE]
        call    set_break
        expect  dword [ebp], 0xABCDABCD, 3
        expect  dword [ebp+PAGE-4], 0xABCDABCD, 4
        lea     edi, [ebp+PAGE]
        mov     ecx, 2*PAGE/4
        xor     eax, eax
        repe    scasd
        jne     dirty

        lea     edi, [ebp+PAGE]             ; once more, with nothing between that would drop translations
        mov     ecx, 2*PAGE/4
        mov     eax, 0xABCDABCD
        rep     stosd
        lea     ebx, [ebp+PAGE]
        call    set_break
        lea     ebx, [ebp+3*PAGE]
        call    set_break
        lea     edi, [ebp+PAGE]
        mov     ecx, 2*PAGE/4
        xor     eax, eax
        repe    scasd
        jne     dirty

        lea     ebx, [ebp+3*PAGE-5]         ; to the byte
        call    set_break
        lea     ebx, [ebp+3*PAGE]
        call    set_break
        sys     brk, 0x1000                 ; below the heap: refused, the break stays
        lea     ebx, [ebp+3*PAGE]
        expect  eax, ebx, 5
        say     `brk: three pages, one page, three pages\n`
        pass

; ebx: the new break, which is also the answer when it can be had
set_break:
        mov     eax, SYS_brk
        int     0x80
        expect  eax, ebx, 1
        ret

child:  mov     eax, [ebp+PAGE]
        sys     exit, 100

dirty:  sys     exit, 6

        section .bss
        resb    16
