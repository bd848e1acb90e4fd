; What exec leaves on the stack: argc, argv, envp, and the auxiliary vector.
;
;   esp      argc                      3
;            argv[0] .. argv[2], 0     the program, "first", "two words"
;            envp[0] .., 0             strings with a '=' in them
;            (type, value) .., 0       what the kernel knows and the program does not: page size, entry point, where
;                                      the program headers are, 16 random bytes ...
;            strings
;
; At the first instruction esp is a multiple of 16.

        %include "linux.mac"

AT_PHDR   equ   3
AT_PHENT  equ   4
AT_PHNUM  equ   5
AT_PAGESZ equ   6
AT_ENTRY  equ   9
AT_PLATFORM equ 15
AT_RANDOM equ   25
AT_EXECFN equ   31
TYPES     equ   32

        global  _start
_start:
        test    esp, 15
        jnz     crooked
        cld
        mov     ebp, esp
        expect  dword [ebp], 3, 1
        expect  dword [ebp+16], 0, 2        ; argv[3]
        mov     eax, [ebp+4]
        mov     [program], eax
        mov     esi, [ebp+8]
        mov     edi, first
        mov     ecx, first_size
        repe    cmpsb
        jne     crooked
        mov     esi, [ebp+12]
        mov     edi, second
        mov     ecx, second_size
        repe    cmpsb
        jne     crooked

        lea     ebp, [ebp+20]               ; every string of the environment has a '='
environment:
        mov     edi, [ebp]
        add     ebp, 4
        test    edi, edi
        jz      auxiliary
.next:  mov     al, [edi]
        inc     edi
        test    al, al
        jz      crooked
        cmp     al, '='
        jne     .next
        jmp     environment

auxiliary:                                  ; types below 32 go to a table
        mov     eax, [ebp]
        mov     edx, [ebp+4]
        add     ebp, 8
        cmp     eax, TYPES
        jae     auxiliary
        mov     [values+4*eax], edx
        test    eax, eax
        jnz     auxiliary

        expect  dword [values+4*AT_PAGESZ], PAGE, 3
        expect  dword [values+4*AT_ENTRY], _start, 4
        expect  dword [values+4*AT_PHENT], 32, 5
        mov     esi, [values+4*AT_PHDR]     ; in memory, where the file's first page is
        expect  esi, 0x08048034, 6
        expect  dword [esi], 1, 7           ; PT_LOAD
        mov     eax, [0x08048000+44]        ; e_phnum
        movzx   eax, ax
        expect  eax, [values+4*AT_PHNUM], 8
        mov     esi, [values+4*AT_RANDOM]
        mov     ecx, 4                      ; 16 bytes, hardly all zero
        xor     edx, edx
.mix:   lodsd
        or      edx, eax
        loop    .mix
        test    edx, edx
        jz      crooked
        mov     esi, [values+4*AT_EXECFN]   ; how it was called: the same path
        mov     edi, [program]
.path:  lodsb
        cmp     al, [edi]
        jne     crooked
        inc     edi
        test    al, al
        jnz     .path
        mov     esi, [values+4*AT_PLATFORM]
        expect  dword [esi], 'i686', 10
        say     `arguments: argc, argv, envp and auxv are in order\n`
        pass

crooked:
        sys     exit, 9

        section .rodata
first:  db      `first\0`
first_size equ  $ - first
second: db      `two words\0`
second_size equ $ - second

        section .bss
        alignb  4
values: resd    TYPES
program: resd   1
